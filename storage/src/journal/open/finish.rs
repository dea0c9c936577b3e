//! The end of a journal that is opened: what a crash left is cut off, and the first mark of a new run is written.

use std::collections::VecDeque;
use std::path::Path;

use super::super::error::LogError;
use super::super::format::layout::damaged_name;
use super::super::format::record::{HEAD_BYTES, Kind};
use super::super::format::segment::{HEADER_BYTES, Header, file_name};
use super::super::live::files::Files;
use super::super::live::segment::Segment;
use super::super::live::{Identity, Journal};
use super::load::{Loaded, make_parent};
use super::scan::{End, last_used};
use crate::actor::ActorId;

/// What the first record after opening finds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Head {
    /// The last segment can be written to.
    Ready,
    /// Another has to be made.
    Spent,
}

/// Cuts off what a crash left after the end, and has everything before it on the disk.
pub(super) fn finish(
    files: &dyn Files,
    found: &mut Loaded,
    end: End,
    folder: &Path,
) -> Result<Head, LogError> {
    if end.tail_records > 0 {
        keep_tail(files, &found.segments, end, folder);
    }
    let segments = &mut found.segments;
    while let Some(last) = segments.back() {
        let is_used = if end.is_sealed { last.base < end.position } else { last.base <= end.position };
        if is_used {
            break;
        }
        let path = last.path.clone();
        segments.pop_back();
        files.remove(&path).map_err(|error| LogError::io("remove", &path, error))?;
    }
    if let Some(head) = segments.back_mut().filter(|head| end.position < head.end()) {
        let from = ((end.position - head.base) as usize).min(head.map.len());
        if let Some(last) = last_used(&head.map.bytes()[from..]) {
            let zeros = vec![0; last + 1];
            head.map.write(from, &zeros);
        }
    }
    for segment in segments.iter_mut() {
        // A failed write to the disk leaves the system's memory as it is and no longer to be written: what nobody has
        // seen committed is therefore written to memory once more.
        let (from, to) = (end.proven.max(segment.base), end.position.min(segment.end()));
        let range = from.saturating_sub(segment.base) as usize..to.saturating_sub(segment.base) as usize;
        if let Some(again) = segment.map.bytes().get(range.clone()).map(<[u8]>::to_vec) {
            segment.map.write(range.start, &again);
        }
        let synced = segment.map.flusher().sync(0..segment.map.len());
        synced.map_err(|error| LogError::io("sync", &segment.path, error))?;
    }
    let is_ready = segments.back().is_some_and(|head| {
        !end.is_sealed && !found.headless.contains(&head.base) && head.map.len() as u64 >= head.bytes
    });
    Ok(if is_ready { Head::Ready } else { Head::Spent })
}

/// Whole records after the end were never committed. They are kept aside all the same: should the disk have damaged what
/// was committed last of all, they are what is left of it. If that cannot be done, they are as lost as they were.
fn keep_tail(files: &dyn Files, segments: &VecDeque<Segment>, end: End, folder: &Path) {
    for segment in segments {
        let from = (end.position.saturating_sub(segment.base) as usize).max(HEADER_BYTES);
        let bytes = segment.map.bytes().get(from..).unwrap_or_default();
        if let Some(last) = last_used(bytes).filter(|_| end.position < segment.end()) {
            let to = damaged_name(folder, segment.base, from as u64);
            let _ = make_parent(files, &to).map(|()| files.replace(&to, &bytes[..=last]));
        }
    }
}

/// Makes the journal ready for its first record, and has it know that from here on it is another run.
pub(super) fn begin(journal: &mut Journal, end: End, head: Head) -> Result<(), LogError> {
    let mut position = end.position;
    let mut is_ready = head == Head::Ready;
    if let Some(last) = journal.segments.back() {
        journal.offset = position.saturating_sub(last.base).min(last.bytes);
        let room = last.bytes.saturating_sub(journal.offset);
        // Room for the mark, for one before a deletion, and for the seal.
        is_ready = is_ready && room >= 3 * HEAD_BYTES as u64;
        journal.shared.start_at(position);
        if !is_ready && !end.is_sealed && room >= HEAD_BYTES as u64 && last.map.len() as u64 == last.bytes {
            journal.write_note(Kind::Seal, ActorId::NOBODY, journal.ids.next());
        }
    }
    if !is_ready {
        let base = journal.segments.back().map_or(position, Segment::end);
        let Identity { log_id, shard, shards } = journal.identity;
        let bytes = journal.options.segment_bytes;
        let header = Header { shard, shards, log_id, base, bytes, sequence: journal.ids.next() };
        let path = journal.shared.folder().join(file_name(base));
        let made = journal.shared.files().create(&path, &header.encode(), bytes);
        let map = made.map_err(|error| LogError::io("make", &path, error))?;
        journal.segments.push_back(Segment::new(base, bytes, &path, map));
        journal.offset = HEADER_BYTES as u64;
        position = base + journal.offset;
    }
    journal.shared.start_at(position);
    journal.write_mark(journal.first());
    // The mark says that all before it is committed: the seal of the segment before comes first.
    for segment in journal.segments.iter().skip(journal.segments.len().saturating_sub(2)) {
        let synced = segment.map.flusher().sync(0..segment.map.len());
        synced.map_err(|error| LogError::io("sync", &segment.path, error))?;
    }
    let end = journal.end();
    journal.shared.start_at(end);
    journal.ids.allow(end);
    journal.will_write_head();
    journal.upkeep.checkpoint_at = end;
    Ok(())
}
