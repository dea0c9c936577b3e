//! Opening one journal: from its files to what its readers know.
//!
//! | module | what |
//! |---|---|
//! | here | the course of it |
//! | `load` | the segments there are |
//! | `finish` | what a crash left cut off, the first mark of a new run |
//! | `scan` | record by record, telling damage from an end |
//! | `replay` | ids, streams, and which segments should be there |
//! | `continued` | the same when this process had the journal open a moment ago |

pub(crate) mod continued;
mod finish;
pub(crate) mod load;
pub(crate) mod replay;
pub(crate) mod scan;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Damage, LogError};
use super::format::checkpoint::{self, Checkpoint};
use super::format::layout::{Lock, damaged_name};
use super::live::files::Files;
use super::live::ids::Ids;
use super::live::maintain::Upkeep;
use super::live::segment::{Segment, find};
use super::live::shared::Shared;
use super::live::{Identity, Journal};
use super::options::Options;
use super::reader::Reader;
use finish::{begin, finish};
use load::{Access, Loaded, load, make_parent};
use replay::{Replay, Streams};
use scan::{End, FIRST_MISSING, Found, LAST_MISSING, View, Walk, scan};

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
        if self.shared.take_continued()
            && let Some(recovered) = continued::open(&self, readers.fresh())?
        {
            return Ok(recovered);
        }
        let Self { shared, identity, options, lock, now_ms, ids_below } = self;
        let mut damage = Vec::new();
        let files = shared.files().clone();
        let mut found = load(&*files, shared.folder(), &identity, Access::Own, &mut damage)?;
        let since_ms = match options.resume_window_ms {
            0 => u64::MAX,
            window => now_ms.saturating_sub(window),
        };
        let mut told = Told { replay: Replay::new(since_ms), readers, from: 0, committed: 0 };
        told.take_checkpoint(&shared, &identity, &found, &mut damage)?;
        let end = told.scan(&shared, &identity, &found, &mut damage, tell)?;
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
        shared: &Shared,
        identity: &Identity,
        found: &Loaded,
        damage: &mut Vec<Damage>,
    ) -> Result<(), LogError> {
        let files = &**shared.files();
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
        shared: &Shared,
        identity: &Identity,
        found: &Loaded,
        damage: &mut Vec<Damage>,
        tell: Tell<'_, R>,
    ) -> Result<End, LogError> {
        let files = &**shared.files();
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
