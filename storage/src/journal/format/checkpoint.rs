//! A picture of what readers know at some position, so that opening need not scan what lies before it.
//!
//! It is a shortcut and nothing else: without it, or when it is damaged or does not fit the segments, everything is
//! scanned, with the same result. It is written only when all that it tells of is committed. Each reader keeps a block of
//! its own in it (`Blocks`); the journal knows their numbers and lengths alone.

use super::super::live::{Identity, Journal};
use super::super::reader::{Blocks, Reader};

/// Name of its file in a journal's folder.
pub(crate) const FILE: &str = "checkpoint";

const MAGIC: &[u8; 8] = b"WHIMCKP2";

/// What it says.
pub(crate) struct Checkpoint {
    /// All records before it are accounted for.
    pub(crate) position: u64,
    /// Ids given were less than this.
    pub(crate) next_id: u64,
    /// Ids given before the next mark are less than this.
    pub(crate) ceiling: u64,
    /// Base of the first segment there was.
    pub(crate) first: u64,
    /// What readers know.
    pub(crate) blocks: Blocks,
}

/// The file's content for a journal and its readers as they are.
pub(crate) fn encode(journal: &Journal, readers: &impl Reader) -> Vec<u8> {
    let mut blocks = Blocks::default();
    readers.save(&mut blocks);
    let length: usize = blocks.0.iter().map(|(_, content)| 16 + content.len()).sum();
    let mut to = Vec::with_capacity(64 + length);
    to.extend_from_slice(MAGIC);
    let numbers = [
        journal.identity.log_id,
        journal.end(),
        journal.ids.next(),
        journal.ids.ceiling(),
        journal.first(),
        blocks.0.len() as u64,
    ];
    for number in numbers {
        to.extend_from_slice(&number.to_le_bytes());
    }
    for (kind, content) in blocks.0 {
        to.extend_from_slice(&kind.to_le_bytes());
        to.extend_from_slice(&(content.len() as u64).to_le_bytes());
        to.extend_from_slice(&content);
    }
    let checksum = crc32c::crc32c(&to);
    to.extend_from_slice(&checksum.to_le_bytes());
    to
}

/// Numbers of eight bytes, one after the other.
pub(crate) struct Numbers<'a>(pub(crate) &'a [u8]);

impl<'a> Numbers<'a> {
    /// The next one.
    pub(crate) fn take(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    pub(crate) fn bytes(&mut self, length: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }
}

/// Reads the file's content. `None` when it is damaged or another journal's.
pub(crate) fn decode(content: &[u8], identity: &Identity) -> Option<Checkpoint> {
    let (body, checksum) = content.split_last_chunk::<4>()?;
    if u32::from_le_bytes(*checksum) != crc32c::crc32c(body) {
        return None;
    }
    let mut numbers = Numbers(body);
    if numbers.take()? != u64::from_le_bytes(*MAGIC) || numbers.take()? != identity.log_id {
        return None;
    }
    let (position, next_id) = (numbers.take()?, numbers.take()?);
    let (ceiling, first) = (numbers.take()?, numbers.take()?);
    let mut blocks = Blocks::default();
    for _ in 0..numbers.take()? {
        let (kind, length) = (numbers.take()?, numbers.take()?);
        blocks.put(kind, numbers.bytes(length)?.to_vec());
    }
    numbers.0.is_empty().then_some(Checkpoint { position, next_id, ceiling, first, blocks })
}
