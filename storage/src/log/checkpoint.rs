//! A picture of the index at some position, so that opening need not scan what lies before it.
//!
//! It is a shortcut and nothing else: without it, or when it is damaged or does not fit the segments, everything is
//! scanned, with the same result. It is written only when all that it tells of is committed.

use crate::directory::UserId;

use super::index::{Index, Slot};
use super::segment::HEADER_BYTES;
use super::shard::{Identity, Log};

/// Name of its file in a log's folder.
pub(super) const FILE: &str = "checkpoint";

const MAGIC: &[u8; 8] = b"WHIMCKP1";

/// What it says.
pub(super) struct Checkpoint {
    /// All records before it are accounted for.
    pub(super) position: u64,
    /// Numbers given were less than this.
    pub(super) next_sequence: u64,
    /// For each segment, by base: [`super::segment::Segment::time_ms_min`].
    pub(super) times: Vec<(u64, u64)>,
    /// What waits.
    pub(super) index: Index,
}

/// The file's content for a log as it is.
pub(super) fn encode(log: &Log) -> Vec<u8> {
    let mut to =
        Vec::with_capacity(HEADER_BYTES + log.segments.len() * 16 + log.index.messages() as usize * 24);
    let mut put = |number: u64| to.extend_from_slice(&number.to_le_bytes());
    put(u64::from_le_bytes(*MAGIC));
    put(log.identity.log_id);
    put(log.end());
    put(log.next_sequence);
    put(log.segments.len() as u64);
    for segment in &log.segments {
        put(segment.base);
        put(segment.time_ms_min);
    }
    put(log.index.users().len() as u64);
    for user in log.index.users() {
        put(user.get());
        put(log.index.load(user).0);
        for slot in log.index.slots_from(user, 0) {
            put(slot.sequence);
            put(slot.position);
            put(u64::from(slot.words));
        }
    }
    let checksum = crc32c::crc32c(&to);
    to.extend_from_slice(&checksum.to_le_bytes());
    to
}

impl Checkpoint {
    /// The base of the first segment there was.
    pub(super) fn first(&self) -> Option<u64> {
        self.times.first().map(|(base, _)| *base)
    }
}

struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn take(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }
}

/// Reads the file's content. `None` when it is damaged or another log's.
pub(super) fn decode(content: &[u8], identity: &Identity) -> Option<Checkpoint> {
    let (body, checksum) = content.split_last_chunk::<4>()?;
    if u32::from_le_bytes(*checksum) != crc32c::crc32c(body) {
        return None;
    }
    let mut numbers = Numbers(body);
    if numbers.take()? != u64::from_le_bytes(*MAGIC) || numbers.take()? != identity.log_id {
        return None;
    }
    let position = numbers.take()?;
    let next_sequence = numbers.take()?;
    let mut times = Vec::new();
    for _ in 0..numbers.take()? {
        times.push((numbers.take()?, numbers.take()?));
    }
    let mut index = Index::default();
    let users = numbers.take()?;
    // No more than there are bytes for.
    index.reserve(usize::try_from(users).ok()?.min(numbers.0.len() / 40));
    let mut slots = Vec::new();
    for _ in 0..users {
        let user = UserId::new(numbers.take()?);
        slots.clear();
        for _ in 0..numbers.take()? {
            let (sequence, position) = (numbers.take()?, numbers.take()?);
            slots.push(Slot { sequence, position, words: u32::try_from(numbers.take()?).ok()? });
        }
        if !index.put_all(user, &slots) {
            return None;
        }
    }
    numbers.0.is_empty().then_some(Checkpoint { position, next_sequence, times, index })
}
