//! Opening one log: from its files to what waits.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::directory::UserId;

use super::checkpoint::{self, Checkpoint};
use super::error::{Damage, LogError};
use super::files::{Files, PARTIAL};
use super::handed_over;
use super::index::Index;
use super::layout::{Lock, damaged_name};
use super::maintain::Upkeep;
use super::options::Options;
use super::record::{HEAD_BYTES, Kind};
use super::replay::{Replay, Streams};
use super::scan::{End, FIRST_MISSING, Found, LAST_MISSING, View, Walk, last_used, scan};
use super::segment::{HEADER_BYTES, Header, HeaderFault, Segment, base_of, file_name, find, likely_bytes};
use super::shard::{Identity, Log};
use super::shared::Shared;

/// Who is told how far it has come, after so many records.
const PROGRESS_RECORDS: u64 = 1 << 16;

/// A log that was opened.
pub(super) struct Recovered {
    pub(super) log: Log,
    pub(super) damage: Vec<Damage>,
    pub(super) tail_bytes_cut: u64,
    pub(super) streams: Streams,
}

/// Told of bytes that were looked at, bytes that are to be, and messages that wait.
pub(super) type Tell<'a> = &'a dyn Fn(u64, u64, u64);

/// Opens the log in the folder of `shared`. `now_ms` decides which streams can still be resumed.
pub(super) fn open(
    shared: Arc<Shared>,
    identity: Identity,
    options: &Options,
    lock: Arc<Lock>,
    now_ms: u64,
    tell: Tell<'_>,
) -> Result<Recovered, LogError> {
    if shared.take_handed_over()
        && let Some(recovered) = handed_over::open(&shared, identity, options, &lock)?
    {
        return Ok(recovered);
    }
    let mut damage = Vec::new();
    let files = shared.files().clone();
    let mut found = load(&*files, shared.folder(), &identity, &mut damage)?;
    let checkpoint = match read_checkpoint(&*files, shared.folder(), &identity)? {
        Some(checkpoint) if reaches_beyond(&checkpoint, &found) => {
            damage.push(remove_checkpoint(&*files, shared.folder(), &checkpoint)?);
            None
        }
        checkpoint => checkpoint.filter(|checkpoint| find(&found.segments, checkpoint.position).is_some()),
    };
    let since_ms = if options.resume_window_ms == 0 {
        u64::MAX
    } else {
        now_ms.saturating_sub(options.resume_window_ms)
    };
    let (replay, end, times) =
        replay(&*files, &shared, &identity, &found, checkpoint, since_ms, &mut damage, tell)?;
    let head = finish(&*files, &mut found, end, shared.folder())?;
    if let Some(segment) = found.segments.front()
        && let bytes @ 1.. = replay.missing_before(segment.base)
    {
        damage.push(Damage { path: segment.path.clone(), offset: 0, bytes, what: FIRST_MISSING });
    }
    let Replay { mut index, next_sequence, streams, first, .. } = replay;
    let segments = account(found.segments, &times, &mut index, first, shared.folder(), &mut damage);
    let mut log = Log {
        seed: identity.seed(),
        identity,
        options: options.clone(),
        segments,
        offset: 0,
        // A new run has numbers of its own, so that those which a crash took away are not given again.
        next_sequence: ((next_sequence >> 32) + 1) << 32,
        index,
        messages_appended: 0,
        upkeep: Upkeep::default(),
        shared,
        lock,
    };
    begin(&mut log, end, head)?;
    Ok(Recovered { log, damage, tail_bytes_cut: end.tail_bytes, streams })
}

/// The segments there are.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) segments: VecDeque<Segment>,
    /// Bases of those whose header cannot be read.
    pub(super) headless: Vec<u64>,
}

pub(super) fn load(
    files: &dyn Files,
    folder: &Path,
    identity: &Identity,
    damage: &mut Vec<Damage>,
) -> Result<Loaded, LogError> {
    let mut found: Vec<Segment> = Vec::new();
    let mut headless = Vec::new();
    for name in files.list(folder).map_err(|error| LogError::io("read", folder, error))? {
        let path = folder.join(&name);
        if name.ends_with(PARTIAL) {
            files.remove(&path).map_err(|error| LogError::io("remove", &path, error))?;
            continue;
        }
        let Some(named) = base_of(&name) else { continue };
        let report = |offset, bytes, what| Damage { path: path.clone(), offset, bytes, what };
        let map = match files.open(&path) {
            Ok(map) => map,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                damage.push(report(0, 0, "the file is empty"));
                set_aside(files, &path, folder, named)?;
                continue;
            }
            Err(error) => return Err(LogError::io("open", &path, error)),
        };
        match Header::decode(map.bytes()) {
            Ok(header) if header.log_id != identity.log_id => {
                damage.push(report(0, map.len() as u64, "it is a segment of another log"));
                drop(map);
                set_aside(files, &path, folder, named)?;
            }
            Ok(header) => {
                if header.base != named {
                    damage.push(report(
                        0,
                        0,
                        "it holds another segment than its name tells; it is read as what it is",
                    ));
                }
                found.push(Segment::new(header.base, header.bytes, &path, map));
            }
            Err(HeaderFault::Format(number)) => {
                return Err(LogError::UnknownFormat { path, found: number, known: super::segment::FORMAT });
            }
            Err(HeaderFault::Bad(what)) => {
                damage.push(report(0, HEADER_BYTES as u64, what));
                headless.push(named);
                found.push(Segment::new(named, likely_bytes(map.len()), &path, map));
            }
        }
    }
    found.sort_by_key(|segment| segment.base);
    let mut segments: VecDeque<Segment> = VecDeque::new();
    for segment in found {
        if let Some(before) = segments.back_mut() {
            if headless.contains(&before.base) {
                // Its length is not known, but where the next begins is.
                before.bytes = segment.base - before.base;
            }
            if segment.base < before.end() {
                let (offset, bytes) = (0, segment.map.len() as u64);
                damage.push(Damage {
                    path: segment.path.clone(),
                    offset,
                    bytes,
                    what: "another file is this segment, too",
                });
                let (path, base) = (segment.path.clone(), segment.base);
                drop(segment);
                set_aside(files, &path, folder, base)?;
                continue;
            }
        }
        segments.push_back(segment);
    }
    Ok(Loaded { segments, headless })
}

/// Moves a file that is no part of the log out of the way.
fn set_aside(files: &dyn Files, path: &Path, folder: &Path, base: u64) -> Result<(), LogError> {
    let to = damaged_name(folder, base, 0);
    make_parent(files, &to)?;
    files.rename(path, &to).map_err(|error| LogError::io("move", path, error))
}

fn make_parent(files: &dyn Files, path: &Path) -> Result<(), LogError> {
    let folder = path.parent().unwrap_or(path);
    files.make_folder(folder).map_err(|error| LogError::io("make", folder, error))
}

/// The checkpoint of a log, if it is whole.
pub(super) fn read_checkpoint(
    files: &dyn Files,
    folder: &Path,
    identity: &Identity,
) -> Result<Option<Checkpoint>, LogError> {
    let path = folder.join(checkpoint::FILE);
    let content = files.read(&path).map_err(|error| LogError::io("read", &path, error))?;
    Ok(content.and_then(|content| checkpoint::decode(&content, identity)))
}

/// Whether a checkpoint tells of what was behind all segments there are. It was written when that was committed.
fn reaches_beyond(checkpoint: &Checkpoint, found: &Loaded) -> bool {
    found.segments.back().is_none_or(|last| checkpoint.position > last.end())
}

/// The log will reach the position of the checkpoint again, with other messages.
fn remove_checkpoint(files: &dyn Files, folder: &Path, checkpoint: &Checkpoint) -> Result<Damage, LogError> {
    let path = folder.join(checkpoint::FILE);
    files.remove(&path).map_err(|error| LogError::io("remove", &path, error))?;
    Ok(Damage { path: folder.to_owned(), offset: checkpoint.position, bytes: 0, what: LAST_MISSING })
}

fn views(segments: &VecDeque<Segment>) -> Vec<View<'_>> {
    segments
        .iter()
        .map(|segment| {
            let present = segment.map.len().min(segment.bytes as usize);
            View { base: segment.base, nominal: segment.bytes, bytes: &segment.map.bytes()[..present] }
        })
        .collect()
}

/// Scans what the checkpoint does not tell. Returns what the records come to, where they end, and the time of the
/// oldest message of each segment.
#[allow(clippy::too_many_arguments)]
fn replay(
    files: &dyn Files,
    shared: &Shared,
    identity: &Identity,
    found: &Loaded,
    checkpoint: Option<Checkpoint>,
    streams_since_ms: u64,
    damage: &mut Vec<Damage>,
    tell: Tell<'_>,
) -> Result<(Replay, End, Vec<u64>), LogError> {
    let views = views(&found.segments);
    let mut times = vec![u64::MAX; views.len()];
    let mut replay = Replay { streams_since_ms, ..Replay::default() };
    let mut from = views.first().map_or(0, |view| view.base);
    let mut committed = 0;
    if let Some(checkpoint) = checkpoint {
        replay.first = checkpoint.first();
        (from, committed) = (checkpoint.position, checkpoint.position);
        replay.index = checkpoint.index;
        replay.next_sequence = checkpoint.next_sequence;
        for (base, time_ms) in checkpoint.times {
            if let Ok(at) = views.binary_search_by_key(&base, |view| view.base) {
                times[at] = time_ms;
            }
        }
        young_streams(&views, identity, from, &mut replay);
    }
    let total = views.last().map_or(0, |view| view.base + view.nominal).saturating_sub(from);
    tell(0, total, 0);
    let mut told = from;
    let mut failure = None;
    let end = scan(&views, identity.seed(), from, committed, &mut |what| match what {
        Found::Record(raw) => {
            let time_ms = replay.apply(&raw);
            let at = views.partition_point(|view| view.base <= raw.position).saturating_sub(1);
            times[at] = times[at].min(time_ms.unwrap_or(u64::MAX));
            if replay.records.is_multiple_of(PROGRESS_RECORDS) {
                tell(raw.position - told, 0, replay.index.messages());
                told = raw.position;
            }
        }
        Found::Damage { segment, offset, bytes, what } => {
            let path = found.segments[segment].path.clone();
            let present = views[segment].bytes;
            let until = ((offset + bytes) as usize).min(present.len());
            let piece = present.get(offset as usize..until).unwrap_or_default();
            let to = damaged_name(shared.folder(), views[segment].base, offset);
            let kept = make_parent(files, &to)
                .and_then(|()| files.replace(&to, piece).map_err(|error| LogError::io("write", &to, error)));
            failure = failure.take().or(kept.err());
            damage.push(Damage { path, offset, bytes, what });
        }
        Found::Gap { segment, bytes } => {
            let path: PathBuf = found.segments[segment].path.clone();
            damage.push(Damage { path, offset: 0, bytes, what: "the segment before this one is missing" });
        }
    });
    if let Some(error) = failure {
        return Err(error);
    }
    tell(end.position.saturating_sub(told), 0, replay.index.messages());
    Ok((replay, end, times))
}

/// The checkpoint does not tell which streams can be resumed: looks at the segments before it, from the newest back, as
/// far as there is anything young.
fn young_streams(views: &[View<'_>], identity: &Identity, before: u64, replay: &mut Replay) {
    if replay.streams_since_ms == u64::MAX {
        return;
    }
    for view in views.iter().rev().filter(|view| view.base < before) {
        let records =
            Walk::new(view.bytes, identity.seed(), view.base, 0).take_while(|raw| raw.position < before);
        if records.filter(|raw| replay.stream(raw)).count() == 0 {
            return;
        }
    }
}

/// What the first record after opening finds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Head {
    /// The last segment can be written to.
    Ready,
    /// Another has to be made.
    Spent,
}

/// Cuts off what a crash left after the end, and has everything before it on the disk.
fn finish(files: &dyn Files, found: &mut Loaded, end: End, folder: &Path) -> Result<Head, LogError> {
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

/// Accounts for every waiting message in its segment. `kept`: what lies before this base may have been deleted.
pub(super) fn account(
    mut segments: VecDeque<Segment>,
    times: &[u64],
    index: &mut Index,
    kept: Option<u64>,
    folder: &Path,
    damage: &mut Vec<Damage>,
) -> VecDeque<Segment> {
    for (segment, time_ms) in segments.iter_mut().zip(times) {
        segment.time_ms_min = *time_ms;
    }
    let mut lost = Vec::new();
    // Often the segment of the message before.
    let mut at = 0;
    for user in index.users() {
        for slot in index.slots_from(user, 0) {
            let holds = |segment: &Segment| (segment.base..segment.end()).contains(&slot.position);
            if !segments.get(at).is_some_and(holds) {
                let Some(found) = find(&segments, slot.position) else {
                    lost.push((user, slot));
                    continue;
                };
                at = found;
            }
            segments[at].add(slot.bytes());
        }
    }
    let kept = kept.unwrap_or_else(|| segments.front().map_or(0, |segment| segment.base));
    let mut gone: Option<(u64, u64)> = None;
    for (user, slot) in lost {
        index.remove(user, slot.sequence);
        if slot.position < kept {
            // The checkpoint knew it; since then it was trimmed while there was no room to write that down, and its
            // segment was deleted because nothing in it waited.
            continue;
        }
        let (offset, bytes) = gone.unwrap_or((slot.position, 0));
        gone = Some((offset.min(slot.position), bytes + slot.bytes()));
    }
    if let Some((offset, bytes)) = gone {
        let what = "waiting messages lie in segments that are gone (the offset is their position in the log)";
        damage.push(Damage { path: folder.to_owned(), offset, bytes, what });
    }
    segments
}

/// Makes the log ready for its first record, and has it know that from here on it is another run.
fn begin(log: &mut Log, end: End, head: Head) -> Result<(), LogError> {
    let mut position = end.position;
    let mut is_ready = head == Head::Ready;
    if let Some(last) = log.segments.back() {
        log.offset = position.saturating_sub(last.base).min(last.bytes);
        let room = last.bytes.saturating_sub(log.offset);
        // Room for the mark, for one before a deletion, and for the seal.
        is_ready = is_ready && room >= 3 * HEAD_BYTES as u64;
        log.shared.start_at(position);
        if !is_ready && !end.is_sealed && room >= HEAD_BYTES as u64 && last.map.len() as u64 == last.bytes {
            log.write_note(Kind::Seal, UserId::new(0), log.next_sequence);
        }
    }
    if !is_ready {
        let base = log.segments.back().map_or(position, Segment::end);
        let Identity { log_id, shard, shards } = log.identity;
        let bytes = log.options.segment_bytes;
        let header = Header { shard, shards, log_id, base, bytes, sequence: log.next_sequence };
        let path = log.shared.folder().join(file_name(base));
        let made = log.shared.files().create(&path, &header.encode(), bytes);
        let map = made.map_err(|error| LogError::io("make", &path, error))?;
        log.segments.push_back(Segment::new(base, bytes, &path, map));
        log.offset = HEADER_BYTES as u64;
        position = base + log.offset;
    }
    log.shared.start_at(position);
    log.write_mark(log.first());
    for segment in log.segments.iter().rev().take(2) {
        let synced = segment.map.flusher().sync(0..segment.map.len());
        synced.map_err(|error| LogError::io("sync", &segment.path, error))?;
    }
    let end = log.end();
    log.shared.start_at(end);
    if let Some(head) = log.segments.back() {
        log.shared.will_write(head.base, head.end(), &head.path, head.map.flusher());
    }
    log.upkeep.checkpoint_at = end;
    Ok(())
}
