//! The state file as it is read: framed, with all checksums right.

use super::attempt::ATTEMPT_AT;
use super::codec::Decoder;
use super::error::{STATE_VERSION_NEWEST, STATE_VERSION_OLDEST, StateError};
use super::frame::{BLOCK_HEAD_BYTES, BLOCK_MAGIC, BLOCKS_AT, DROPPABLE, MAGIC};
use super::kind::Kind;
use super::owner::{Owner, Row};

/// A block.
#[derive(Copy, Clone, Debug)]
pub struct Block<'a> {
    /// The name of its kind.
    pub kind: &'static str,
    /// The version of the content.
    pub version: u16,
    /// The worker that wrote it.
    pub worker: u16,
    /// Records in it.
    pub records: u32,
    /// The records.
    pub content: &'a [u8],
}

impl<'a> Block<'a> {
    /// Gives every record to `each`.
    ///
    /// # Errors
    /// It is damaged, or `each` says so.
    pub fn each<O: Owner>(
        &self,
        mut each: impl FnMut(O::Record<'a>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let mut decoder = Decoder::new(self.content, self.version);
        for _ in 0..self.records {
            each(O::read(&mut decoder)?)?;
        }
        match decoder.is_empty() {
            true => Ok(()),
            false => Err(StateError::Damaged("a block is longer than its content")),
        }
    }
}

/// Where a block lies.
#[derive(Copy, Clone, Debug)]
struct Place {
    kind: &'static str,
    version: u16,
    worker: u16,
    records: u32,
    start: usize,
    end: usize,
}

/// A state, in bytes that are a vector, a slice, or a map of memory.
#[derive(Debug)]
pub struct State<B> {
    bytes: B,
    places: Vec<Place>,
    left_out: Vec<String>,
}

impl<B: AsRef<[u8]>> State<B> {
    /// Reads the frame and checks everything that can be checked without an owner.
    ///
    /// # Errors
    /// It is no state, is damaged, or has a block of a kind or version that is not among the `known`.
    pub fn read(bytes: B, known: &[Row]) -> Result<State<B>, StateError> {
        let whole = bytes.as_ref();
        let (count, records) = read_head(whole)?;
        let (mut places, mut left_out) = (Vec::new(), Vec::new());
        let (mut found, mut at) = ((0, 0), BLOCKS_AT as usize);
        while at < whole.len() {
            let head = Head::read(&whole[at..])?;
            found = (found.0 + 1, found.1 + u64::from(head.records));
            let start = at + BLOCK_HEAD_BYTES;
            let end = start + head.length;
            match head.known_as(known)? {
                Some(kind) => places.push(Place {
                    kind: kind.name,
                    version: head.version,
                    worker: head.worker,
                    records: head.records,
                    start,
                    end,
                }),
                None if left_out.iter().any(|name| name == head.kind) => {}
                None => left_out.push(head.kind.to_owned()),
            }
            at = end.next_multiple_of(8);
        }
        if found != (count, records) {
            return Err(StateError::Damaged("it does not hold as much as it says"));
        }
        Ok(State { bytes, places, left_out })
    }

    /// All blocks of kinds that are known.
    pub fn blocks(&self) -> impl Iterator<Item = Block<'_>> {
        let bytes = self.bytes.as_ref();
        self.places.iter().map(|place| Block {
            kind: place.kind,
            version: place.version,
            worker: place.worker,
            records: place.records,
            content: &bytes[place.start..place.end],
        })
    }

    /// The names of blocks that were left out, because nobody here knows them.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// Gives every record of an owner to `each`, with the worker that wrote it.
    ///
    /// # Errors
    /// It is damaged, or `each` says so.
    pub fn each<'a, O: Owner>(
        &'a self,
        mut each: impl FnMut(u16, O::Record<'a>) -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let mut own = self.blocks().filter(|block| block.kind == O::KIND.name);
        own.try_for_each(|block| block.each::<O>(|record| each(block.worker, record)))
    }

    /// The one record of an owner; `None` when it left nothing.
    ///
    /// # Errors
    /// It is damaged, or there are several.
    pub fn find<O: Owner>(&self) -> Result<Option<O::Record<'_>>, StateError> {
        let mut only = None;
        self.each::<O>(|_, record| match only.replace(record) {
            None => Ok(()),
            Some(_) => Err(StateError::NotOnce { kind: O::KIND.name }),
        })?;
        Ok(only)
    }

    /// The one record of an owner.
    ///
    /// # Errors
    /// It is damaged, or not there once.
    pub fn one<O: Owner>(&self) -> Result<O::Record<'_>, StateError> {
        self.find::<O>()?.ok_or(StateError::NotOnce { kind: O::KIND.name })
    }

    /// How many records of a kind there are.
    pub fn records(&self, kind: &Kind) -> u64 {
        let own = self.places.iter().filter(|place| place.kind == kind.name);
        own.map(|place| u64::from(place.records)).sum()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Checks the head of the file. Returns how many blocks and records it says there are.
fn read_head(bytes: &[u8]) -> Result<(u64, u64), StateError> {
    if !bytes.starts_with(MAGIC) {
        return Err(StateError::NotAState);
    }
    let version = u32_at(bytes, 8).ok_or(StateError::NotAState)?;
    if !(STATE_VERSION_OLDEST..=STATE_VERSION_NEWEST).contains(&version) {
        return Err(StateError::UnknownVersion { found: version });
    }
    const CUT: StateError = StateError::Damaged("it ends too early");
    let head = bytes.get(16..ATTEMPT_AT as usize).ok_or(CUT)?;
    if u32_at(bytes, 12) != Some(crc32c::crc32c(head)) {
        return Err(StateError::Damaged("the checksum of its head does not fit"));
    }
    let read = |at| u64_at(bytes, at).ok_or(CUT);
    if read(16)? != bytes.len() as u64 {
        return Err(StateError::Damaged("it is not as long as it says"));
    }
    if bytes.len() < BLOCKS_AT as usize {
        return Err(CUT);
    }
    Ok((read(24)?, read(32)?))
}

/// The head of a block.
struct Head<'a> {
    kind: &'a str,
    version: u16,
    worker: u16,
    records: u32,
    length: usize,
    is_droppable: bool,
}

impl<'a> Head<'a> {
    /// Reads the head of the first block, and checks that the block is whole.
    fn read(bytes: &'a [u8]) -> Result<Head<'a>, StateError> {
        const CUT: StateError = StateError::Damaged("a block is cut");
        let (head, rest) = bytes.split_first_chunk::<BLOCK_HEAD_BYTES>().ok_or(CUT)?;
        if !head.starts_with(BLOCK_MAGIC) {
            return Err(StateError::Damaged("a block is missing"));
        }
        let length = u32_at(head, 32).ok_or(CUT)? as usize;
        let content = rest.get(..length).ok_or(CUT)?;
        if u32_at(head, 4) != Some(crc32c::crc32c_append(crc32c::crc32c(&head[8..]), content)) {
            return Err(StateError::Damaged("the checksum of a block does not fit"));
        }
        let name = head[8..24].split(|byte| *byte == 0).next().unwrap_or_default();
        let kind = std::str::from_utf8(name).map_err(|_| StateError::Damaged("a kind has no name"))?;
        Ok(Head {
            kind,
            version: u16::from_le_bytes([head[24], head[25]]),
            worker: u16::from_le_bytes([head[26], head[27]]),
            records: u32_at(head, 28).ok_or(CUT)?,
            length,
            is_droppable: head[36] & DROPPABLE != 0,
        })
    }

    /// The kind of the block; `None` when it may be left out and is not known.
    fn known_as(&self, known: &[Row]) -> Result<Option<Kind>, StateError> {
        let Some(kind) = known.iter().map(|row| row.kind).find(|kind| kind.name == self.kind) else {
            return match self.is_droppable {
                true => Ok(None),
                false => Err(StateError::UnknownKind { kind: self.kind.to_owned() }),
            };
        };
        if (kind.oldest..=kind.newest).contains(&self.version) {
            return Ok(Some(kind));
        }
        match self.is_droppable {
            true => Ok(None),
            false => Err(StateError::UnknownKindVersion {
                kind: kind.name,
                found: self.version,
                oldest: kind.oldest,
                newest: kind.newest,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
