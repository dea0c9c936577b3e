//! Going through segments record by record, and telling damage from an end.
//!
//! Where no record is, three things can have happened. Nothing was ever written there: the log ends. Or a crash kept a
//! record from getting to the disk whole, while later ones may have got there: then nothing from there on was
//! committed, and it is cut off. Or something that was committed has been damaged: then it is reported and what is
//! after it counts. Every record says what was committed when it was written, so the records after the place tell which
//! it is: it is damage if one of them knew the place as committed.

use super::super::format::record::{ALIGNMENT, Fault, HEAD_BYTES, Kind, Raw, Seed};
use super::super::format::segment::HEADER_BYTES;

/// Looking for a record among damage costs at most so many times the segment's bytes of checksums, whatever is there.
const SEARCH_PART: usize = 64;

/// Zeros are looked at in pieces of this size: comparing memory is faster than a loop.
const PIECE: usize = 512;

/// Where the first byte is that is not zero.
fn first_used(bytes: &[u8]) -> Option<usize> {
    let zeros = bytes.chunks(PIECE).take_while(|piece| **piece == [0; PIECE][..piece.len()]).count() * PIECE;
    let rest = bytes.get(zeros..)?;
    Some(zeros + rest.iter().position(|&byte| byte != 0)?)
}

/// Where the last byte is that is not zero.
pub(crate) fn last_used(bytes: &[u8]) -> Option<usize> {
    let zeros = bytes.rchunks(PIECE).take_while(|piece| **piece == [0; PIECE][..piece.len()]).count() * PIECE;
    bytes[..bytes.len().saturating_sub(zeros)].iter().rposition(|&byte| byte != 0)
}

/// The first record at or after an offset, whatever lies before it.
fn search(bytes: &[u8], seed: Seed, base: u64, from: usize) -> Option<(usize, Raw<'_>)> {
    let mut effort = bytes.len().saturating_mul(SEARCH_PART);
    let mut offset = from.next_multiple_of(ALIGNMENT);
    while offset + HEAD_BYTES <= bytes.len() {
        let word = &bytes[offset..offset + ALIGNMENT];
        if word == [0; ALIGNMENT] {
            let zeros = first_used(&bytes[offset..])?;
            offset += (zeros / ALIGNMENT * ALIGNMENT).max(ALIGNMENT);
            continue;
        }
        let here = &bytes[offset..];
        // The length alone says what a checksum would cost.
        let length = u32::from_le_bytes([word[4], word[5], word[6], word[7]]) as usize;
        if length <= here.len() && effort >= length {
            match Raw::parse(here, seed, base + offset as u64) {
                Ok(raw) => return Some((offset, raw)),
                Err(Fault::Bad("the checksum does not fit")) => effort -= length,
                Err(_) => {}
            }
        }
        offset += ALIGNMENT;
    }
    None
}

/// The valid records of one segment, whatever lies between them.
pub(crate) struct Walk<'a> {
    bytes: &'a [u8],
    seed: Seed,
    base: u64,
    offset: usize,
}

impl<'a> Walk<'a> {
    /// From an offset on.
    pub(crate) fn new(bytes: &'a [u8], seed: Seed, base: u64, offset: usize) -> Self {
        Self { bytes, seed, base, offset: offset.max(HEADER_BYTES) }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Raw<'a>> {
        let (offset, raw) = search(self.bytes, self.seed, self.base, self.offset)?;
        self.offset = offset + raw.stored_bytes() as usize;
        Some(raw)
    }
}

/// A segment to scan.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    /// Position of its first byte.
    pub(crate) base: u64,
    /// Bytes it should have.
    pub(crate) nominal: u64,
    /// Those it has.
    pub(crate) bytes: &'a [u8],
}

/// What is said of a first segment before which others should be.
pub(crate) const FIRST_MISSING: &str = "the segments before this one are missing, with all messages in them";

/// What is said when a checkpoint tells of more than there is.
pub(crate) const LAST_MISSING: &str = "segments at the end of the log are missing, with all messages in them";

/// What a scan comes across.
pub(crate) enum Found<'a> {
    /// A record, of any kind, in which of the segments.
    Record(usize, Raw<'a>),
    /// Bytes of a segment that were committed and cannot be read.
    Damage {
        /// Which of the segments.
        segment: usize,
        /// Where in it.
        offset: u64,
        /// How many.
        bytes: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// Segments that should be before this one are not there.
    Gap {
        /// Which of the segments.
        segment: usize,
        /// Bytes that are missing.
        bytes: u64,
    },
}

/// Where the log ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct End {
    /// Position after the last record that counts.
    pub(crate) position: u64,
    /// Bytes after it that a crash left.
    pub(crate) tail_bytes: u64,
    /// Valid records among them.
    pub(crate) tail_records: u64,
    /// What the records say was committed when they were written. Anything that is after it may be in the system's memory alone.
    pub(crate) proven: u64,
    /// The last record is a seal: nothing can be written after it in its segment.
    pub(crate) is_sealed: bool,
}

/// What all records from a place on say was committed.
fn proven(views: &[View<'_>], seed: Seed, from: u64) -> u64 {
    let mut proven = 0;
    for view in views {
        let offset = from.saturating_sub(view.base) as usize;
        if offset as u64 >= view.nominal {
            continue;
        }
        for raw in Walk::new(view.bytes, seed, view.base, offset) {
            proven = proven.max(raw.committed().unwrap_or(0));
        }
    }
    proven
}

/// What is after the end.
fn tail(views: &[View<'_>], seed: Seed, position: u64) -> (u64, u64) {
    let (mut bytes, mut records) = (0, 0);
    for view in views {
        let from = (position.saturating_sub(view.base) as usize).max(HEADER_BYTES).min(view.bytes.len());
        let last = last_used(&view.bytes[from..]);
        bytes += last.map_or(0, |last| last as u64 + 1);
        records += Walk::new(view.bytes, seed, view.base, from).count() as u64;
    }
    (bytes, records)
}

/// Goes through segments, sorted by base, from a position on. Anything that is before `committed` is known to have been.
///
/// Returns where the log ends; without segments, that is `from`.
pub(crate) fn scan(
    views: &[View<'_>],
    seed: Seed,
    from: u64,
    committed: u64,
    visit: &mut dyn FnMut(Found<'_>),
) -> End {
    let mut known = None;
    let mut end = End { position: from, tail_bytes: 0, tail_records: 0, proven: committed, is_sealed: false };
    let mut expected = None;
    for (at, view) in views.iter().enumerate() {
        let segment_end = view.base + view.nominal;
        if segment_end <= from {
            expected = Some(segment_end);
            continue;
        }
        let mut is_committed = |position: u64| {
            position < *known.get_or_insert_with(|| committed.max(proven(&views[at..], seed, position)))
        };
        if let Some(expected) = expected.filter(|expected| *expected < view.base) {
            if !is_committed(expected) {
                break;
            }
            visit(Found::Gap { segment: at, bytes: view.base - expected });
        }
        expected = Some(segment_end);
        let mut offset = (from.saturating_sub(view.base) as usize).max(HEADER_BYTES);
        let is_whole = loop {
            let position = view.base + offset as u64;
            let here = view.bytes.get(offset..).unwrap_or_default();
            let what = match Raw::parse(here, seed, position) {
                Ok(raw) => {
                    offset += raw.stored_bytes() as usize;
                    end.position = view.base + offset as u64;
                    end.is_sealed = raw.kind == Kind::Seal;
                    end.proven = end.proven.max(raw.committed().unwrap_or(0));
                    visit(Found::Record(at, raw));
                    if end.is_sealed {
                        break true;
                    }
                    continue;
                }
                Err(Fault::Empty) => "nothing is where a record was",
                Err(Fault::Bad(what)) => what,
            };
            if offset as u64 + HEAD_BYTES as u64 > view.nominal {
                end.is_sealed = true;
                break true;
            }
            if !is_committed(position) {
                break false;
            }
            let next = search(view.bytes, seed, view.base, offset + ALIGNMENT).map(|(next, _)| next as u64);
            let until = next.unwrap_or(view.nominal);
            visit(Found::Damage { segment: at, offset: offset as u64, bytes: until - offset as u64, what });
            match next {
                Some(next) => offset = next as usize,
                None => {
                    // The rest of the segment is lost, and may not be written to again.
                    end.position = segment_end;
                    end.is_sealed = true;
                    break true;
                }
            }
        };
        if !is_whole {
            end.position = view.base + offset as u64;
            end.is_sealed = false;
            break;
        }
    }
    let after = views.partition_point(|view| view.base + view.nominal <= end.position);
    (end.tail_bytes, end.tail_records) = tail(&views[after.min(views.len())..], seed, end.position);
    end
}
