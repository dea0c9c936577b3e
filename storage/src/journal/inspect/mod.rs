//! Looking at journals without opening them: a copy, or those of a running server. Nothing is locked, nothing is written.
//!
//! The end of a live journal moves while one looks; what was being written then counts as its tail.

pub(crate) mod backup;
pub(crate) mod cut;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::error::{Damage, LogError};
use super::format::checkpoint;
use super::format::layout::Layout;
use super::format::message::Position;
use super::format::record::Raw;
use super::live::Identity;
use super::live::files::{Files, System};
use super::live::segment::Segment;
use super::open::load::{Access, load};
use super::open::replay::Replay;
use super::open::scan::{End, FIRST_MISSING, Found, LAST_MISSING, scan};
use super::open::views;
use super::reader::Reader;

/// Bytes after the last record that counts. They cannot be told apart: what a crash left unfinished, what a running server
/// is about to commit, or damage in what was committed last, within the tenth of a second before nothing more came.
/// Opening cuts them off.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the log file {} ends at byte {offset}; {bytes} bytes after it, {records} whole records among them, are an unfinished \
     end, or damage in the very last commit: opening cuts them off",
    path.display()
)]
pub struct Tail {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// How many there are, up to the last that is not zero.
    pub bytes: u64,
    /// Whole records among them.
    pub records: u64,
}

/// One journal, read, with what its readers know.
pub(crate) struct Look<R> {
    pub(crate) identity: Identity,
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) damage: Vec<Damage>,
    pub(crate) readers: R,
    pub(crate) records: u64,
    pub(crate) end: End,
    committed: u64,
}

/// Reads all journals in a folder, each with readers of its own.
pub(crate) fn look_at_all<R: Reader>(
    folder: &Path,
    mut readers: impl FnMut() -> R,
    each: &mut dyn FnMut(&mut Look<R>) -> Result<(), LogError>,
) -> Result<(), LogError> {
    let files = System;
    let layout = Layout::read(&files, folder)?;
    let layout = layout
        .ok_or_else(|| LogError::io("read the logs in", folder, std::io::ErrorKind::NotFound.into()))?;
    for (shard, log_id) in layout.log_ids.iter().enumerate() {
        let identity = Identity { log_id: *log_id, shard: shard as u32, shards: layout.log_ids.len() as u32 };
        each(&mut Look::new(&files, &layout.folder(folder, shard), identity, readers())?)?;
    }
    Ok(())
}

impl<R: Reader> Look<R> {
    /// Reads the journal in a folder, for readers that have been told nothing.
    pub(crate) fn new(
        files: &dyn Files,
        folder: &Path,
        identity: Identity,
        mut readers: R,
    ) -> Result<Self, LogError> {
        let mut damage = Vec::new();
        let segments = load(files, folder, &identity, Access::Look, &mut damage)?.segments;
        let mut replay = Replay::new(u64::MAX);
        let views = views(&segments);
        let from = views.first().map_or(0, |view| view.base);
        // A checkpoint is written when all before it is committed; whatever the records themselves say.
        let path = folder.join(checkpoint::FILE);
        let content = files.read(&path).map_err(|error| LogError::io("read", &path, error))?;
        let known = content.and_then(|content| checkpoint::decode(&content, &identity));
        let committed = known.as_ref().map_or(0, |checkpoint| checkpoint.position);
        replay.first = known.map(|checkpoint| checkpoint.first);
        if committed > views.last().map_or(0, |view| view.base + view.nominal) {
            let path = folder.to_owned();
            damage.push(Damage { path, offset: committed, bytes: 0, what: LAST_MISSING });
        }
        let end = scan(&views, identity.seed(), from, committed, &mut |found| match found {
            Found::Record(segment, raw) => {
                replay.apply(&raw);
                if let Some(entry) = raw.entry(views[segment].base) {
                    readers.record(&entry);
                }
            }
            Found::Damage { segment, offset, bytes, what } => {
                damage.push(Damage { path: segments[segment].path.clone(), offset, bytes, what });
            }
            Found::Gap { segment, bytes } => {
                let what = "the segment before this one is missing";
                damage.push(Damage { path: segments[segment].path.clone(), offset: 0, bytes, what });
            }
        });
        if let Some(segment) = segments.front()
            && let bytes @ 1.. = replay.missing_before(segment.base)
        {
            damage.push(Damage { path: segment.path.clone(), offset: 0, bytes, what: FIRST_MISSING });
        }
        drop(views);
        Ok(Self { identity, segments, damage, readers, records: replay.records, end, committed })
    }

    /// What lies after its end.
    pub(crate) fn tail(&self) -> Option<Tail> {
        let End { position, tail_bytes: bytes, tail_records: records, .. } = self.end;
        let segment = self.segments.iter().find(|segment| position < segment.end())?;
        let offset = position.saturating_sub(segment.base);
        (bytes > 0).then(|| Tail { path: segment.path.clone(), offset, bytes, records })
    }

    /// Tells each record, with the base of its segment.
    pub(crate) fn tell_records(&self, tell: &mut dyn FnMut(Position, Raw<'_>)) {
        let views = views(&self.segments);
        let from = views.first().map_or(0, |view| view.base);
        scan(&views, self.identity.seed(), from, self.committed, &mut |found| {
            if let Found::Record(segment, raw) = found {
                tell(Position(views[segment].base), raw);
            }
        });
    }
}
