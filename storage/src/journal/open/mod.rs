//! Opening one journal: from its files to what its readers know.
//!
//! | module | what |
//! |---|---|
//! | here | segments found, what a crash left cut off, the first mark of a new run |
//! | `scan` | record by record, telling damage from an end |
//! | `replay` | ids, streams, and which segments should be there |
//! | `continued` | the same when this process had the journal open a moment ago |

pub(crate) mod continued;
pub(crate) mod replay;
pub(crate) mod scan;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::actor::ActorId;

use super::error::{Damage, LogError};
use super::format::checkpoint::{self, Checkpoint};
use super::format::layout::{Lock, damaged_name};
use super::format::record::{HEAD_BYTES, Kind};
use super::format::segment::{FORMAT, HEADER_BYTES, Header, HeaderFault, base_of, file_name, likely_bytes};
use super::live::files::{Files, PARTIAL};
use super::live::ids::Ids;
use super::live::maintain::Upkeep;
use super::live::segment::{Segment, find};
use super::live::shared::Shared;
use super::live::{Identity, Journal};
use super::options::Options;
use super::reader::Reader;
use replay::{Replay, Streams};
use scan::{End, FIRST_MISSING, Found, LAST_MISSING, View, Walk, last_used, scan};

/// Progress is told after so many records.
const PROGRESS_RECORDS: u64 = 1 << 16;

/// A journal that was opened, with what reads it.
pub(crate) struct Recovered<R> {
    pub(crate) journal: Journal,
    pub(crate) readers: R,
    pub(crate) damage: Vec<Damage>,
    pub(crate) tail_bytes_cut: u64,
    pub(crate) streams: Streams,
}

/// Told of bytes that were looked at, bytes that are to be, and what readers know by now.
pub(crate) type Tell<'a, R> = &'a dyn Fn(u64, u64, &R);

/// What is to be opened.
pub(crate) struct Opening<'a> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) identity: Identity,
    pub(crate) options: &'a Options,
    pub(crate) lock: Arc<Lock>,
    /// Milliseconds since 1970, by the caller's clock: which streams can still be resumed, and where ids go on.
    pub(crate) now_ms: u64,
    /// Ids below this were given elsewhere: by the journals from which this one is made.
    pub(crate) ids_below: u64,
}

impl Opening<'_> {
    /// Opens the journal in the folder of `shared`, with readers that have been told nothing.
    pub(crate) fn run<R: Reader>(self, readers: R, tell: Tell<'_, R>) -> Result<Recovered<R>, LogError> {
        if self.shared.take_handed_over()
            && let Some(recovered) = continued::open(&self, readers.fresh())?
        {
            return Ok(recovered);
        }
        let Self { shared, identity, options, lock, now_ms, ids_below } = self;
        let mut damage = Vec::new();
        let files = shared.files().clone();
        let mut found = load(&*files, shared.folder(), &identity, &mut damage)?;
        let since_ms = match options.resume_window_ms {
            0 => u64::MAX,
            window => now_ms.saturating_sub(window),
        };
        let mut told = Told { replay: Replay::new(since_ms), readers, from: 0, committed: 0 };
        told.take_checkpoint(&*files, &shared, &identity, &found, &mut damage)?;
        let end = told.scan(&*files, &shared, &identity, &found, &mut damage, tell)?;
        let head = finish(&*files, &mut found, end, shared.folder())?;
        let Told { replay, mut readers, .. } = told;
        if let Some(segment) = found.segments.front()
            && let bytes @ 1.. = replay.missing_before(segment.base)
        {
            damage.push(Damage { path: segment.path.clone(), offset: 0, bytes, what: FIRST_MISSING });
        }
        let mut journal = Journal {
            seed: identity.seed(),
            identity,
            options: options.clone(),
            segments: found.segments,
            offset: 0,
            ids: Ids::starting_at(replay.ids_below().max(ids_below), now_ms),
            messages_appended: 0,
            upkeep: Upkeep::default(),
            shared,
            lock,
            kept: replay.first,
        };
        readers.recovered(&journal, &mut damage);
        begin(&mut journal, end, head)?;
        readers.committed(journal.committed());
        let (tail_bytes_cut, streams) = (end.tail_bytes, replay.streams);
        Ok(Recovered { journal, readers, damage, tail_bytes_cut, streams })
    }
}

/// The segments there are.
#[derive(Default)]
pub(crate) struct Loaded {
    pub(crate) segments: VecDeque<Segment>,
    /// Bases of those whose header cannot be read.
    pub(crate) headless: Vec<u64>,
}

pub(crate) fn load(
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
                return Err(LogError::UnknownFormat { path, found: number, known: FORMAT });
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
pub(crate) fn read_checkpoint(
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

/// Segments as a scan sees them.
pub(crate) fn views(segments: &VecDeque<Segment>) -> Vec<View<'_>> {
    segments
        .iter()
        .map(|segment| {
            let present = segment.map.len().min(segment.bytes as usize);
            View { base: segment.base, nominal: segment.bytes, bytes: &segment.map.bytes()[..present] }
        })
        .collect()
}

/// What has been told of a journal so far.
struct Told<R> {
    replay: Replay,
    readers: R,
    /// Where to go on.
    from: u64,
    /// What is before this is known to have been committed.
    committed: u64,
}

impl<R: Reader> Told<R> {
    /// Takes up what a checkpoint knows, if there is one that fits.
    fn take_checkpoint(
        &mut self,
        files: &dyn Files,
        shared: &Shared,
        identity: &Identity,
        found: &Loaded,
        damage: &mut Vec<Damage>,
    ) -> Result<(), LogError> {
        self.from = found.segments.front().map_or(0, |segment| segment.base);
        let Some(checkpoint) = read_checkpoint(files, shared.folder(), identity)? else { return Ok(()) };
        if reaches_beyond(&checkpoint, found) {
            self.replay.ids_of(&checkpoint);
            damage.push(remove_checkpoint(files, shared.folder(), &checkpoint)?);
            return Ok(());
        }
        if find(&found.segments, checkpoint.position).is_none() {
            return Ok(());
        }
        let fresh = self.readers.fresh();
        if !self.readers.restore(&checkpoint.blocks) {
            self.readers = fresh;
            return Ok(());
        }
        self.replay.restore(&checkpoint);
        (self.from, self.committed) = (checkpoint.position, checkpoint.position);
        young_streams(&views(&found.segments), identity, self.from, &mut self.replay);
        Ok(())
    }

    /// Scans what the checkpoint does not tell. Returns where the records end.
    fn scan(
        &mut self,
        files: &dyn Files,
        shared: &Shared,
        identity: &Identity,
        found: &Loaded,
        damage: &mut Vec<Damage>,
        tell: Tell<'_, R>,
    ) -> Result<End, LogError> {
        let Self { replay, readers, from, committed } = self;
        let views = views(&found.segments);
        let total = views.last().map_or(0, |view| view.base + view.nominal).saturating_sub(*from);
        tell(0, total, readers);
        let mut told = *from;
        let mut failure = None;
        let end = scan(&views, identity.seed(), *from, *committed, &mut |what| match what {
            Found::Record(segment, raw) => {
                replay.apply(&raw);
                if let Some(entry) = raw.entry(views[segment].base) {
                    readers.record(&entry);
                }
                if replay.records.is_multiple_of(PROGRESS_RECORDS) {
                    tell(raw.position - told, 0, readers);
                    told = raw.position;
                }
            }
            Found::Damage { segment, offset, bytes, what } => {
                let path = found.segments[segment].path.clone();
                let present = views[segment].bytes;
                let until = ((offset + bytes) as usize).min(present.len());
                let piece = present.get(offset as usize..until).unwrap_or_default();
                let to = damaged_name(shared.folder(), views[segment].base, offset);
                let kept = make_parent(files, &to).and_then(|()| {
                    files.replace(&to, piece).map_err(|error| LogError::io("write", &to, error))
                });
                failure = failure.take().or(kept.err());
                damage.push(Damage { path, offset, bytes, what });
            }
            Found::Gap { segment, bytes } => {
                let path: PathBuf = found.segments[segment].path.clone();
                damage.push(Damage {
                    path,
                    offset: 0,
                    bytes,
                    what: "the segment before this one is missing",
                });
            }
        });
        if let Some(error) = failure {
            return Err(error);
        }
        tell(end.position.saturating_sub(told), 0, readers);
        Ok(end)
    }
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

/// Makes the journal ready for its first record, and has it know that from here on it is another run.
fn begin(journal: &mut Journal, end: End, head: Head) -> Result<(), LogError> {
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
    for segment in journal.segments.iter().rev().take(2) {
        let synced = segment.map.flusher().sync(0..segment.map.len());
        synced.map_err(|error| LogError::io("sync", &segment.path, error))?;
    }
    let end = journal.end();
    journal.shared.start_at(end);
    journal.ids.allow(end);
    if let Some(head) = journal.segments.back() {
        journal.shared.will_write(head.base, head.end(), &head.path, head.map.flusher());
    }
    journal.upkeep.checkpoint_at = end;
    Ok(())
}
