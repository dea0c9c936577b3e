//! The records of a segment, one after another, without having all of it in memory.

use super::segments::Source;
use crate::journal::format::record::{Raw, Seed};
use crate::journal::format::segment::HEADER_BYTES;
use crate::journal::open::scan::Walk;
use crate::log::{LogError, Position};

/// Bytes that are in memory at once, but for a record that is longer, and for what cannot be read.
const WINDOW_BYTES: u64 = if cfg!(test) { 2 << 10 } else { 1 << 20 };

/// Tells the valid records of a segment, in order, whatever lies between them. Returns how long the segment is; 0: it is gone.
pub(super) fn each(
    source: &mut dyn Source,
    journal: u64,
    segment: Position,
    tell: &mut dyn FnMut(&Raw<'_>),
) -> Result<u64, LogError> {
    let length = source.length(journal, segment)?;
    let mut from = Some(0);
    while let Some(offset) = from.filter(|offset| *offset < length) {
        from = some(source, (journal, segment), (offset, length), tell)?;
    }
    Ok(from.map_or(0, |_| length))
}

/// Tells the valid records of a piece of a segment of that length, which begins so many bytes behind its beginning: all of a MiB, or a
/// longer one. Returns where the next piece begins; `None`: the segment is gone.
pub(super) fn some(
    source: &mut dyn Source,
    (journal, segment): (u64, Position),
    (offset, length): (u64, u64),
    tell: &mut dyn FnMut(&Raw<'_>),
) -> Result<Option<u64>, LogError> {
    let from = offset.max(HEADER_BYTES as u64);
    if from >= length {
        return Ok(Some(from));
    }
    let mut window = WINDOW_BYTES;
    // A walk begins behind a header.
    let mut bytes = vec![0; HEADER_BYTES];
    loop {
        let part = window.min(length - from);
        bytes.resize(HEADER_BYTES + part as usize, 0);
        if !source.read(journal, segment, Position(segment.0 + from), &mut bytes[HEADER_BYTES..])? {
            return Ok(None);
        }
        let base = segment.0 + from - HEADER_BYTES as u64;
        let mut end = from;
        for raw in Walk::new(&bytes, Seed::new(journal), base, 0) {
            tell(&raw);
            end = raw.position - segment.0 + raw.stored_bytes();
        }
        let is_empty = bytes[HEADER_BYTES..].iter().all(|byte| *byte == 0);
        match () {
            () if end > from => return Ok(Some(end)),
            () if is_empty || part == length - from => return Ok(Some(from + part)),
            // The record that begins here is longer, or damaged.
            () => window *= 2,
        }
    }
}
