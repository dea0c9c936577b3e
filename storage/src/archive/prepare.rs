//! What compaction is to move out of a segment for an archive: what rows still have there. Found out on a reader's thread,
//! because it reads the segment and a row for each of its actors.

use std::collections::HashSet;

use super::query::QueryError;
use super::records;
use super::segments::Source;
use super::slot::Slot;
use crate::actor::ActorId;
use crate::directory::{ArchiveView, Directory, DirectoryError};
use crate::journal::{ReaderSet, What};
use crate::log::{Flags, Position, Record, Sequence};

/// Messages of a segment, by actor and id.
pub type Wanted = HashSet<(ActorId, Sequence)>;

/// What is wanted of a segment.
pub(crate) fn wanted(
    directory: &Directory,
    source: &mut dyn Source,
    journal: u64,
    segment: Position,
) -> Result<Wanted, QueryError> {
    let mut archived: Vec<(ActorId, Sequence)> = Vec::new();
    let length = records::each(source, journal, segment, &mut |raw| {
        let Some(entry) = raw.entry(segment.0).filter(|entry| entry.concerns(ReaderSet::SECOND)) else {
            return;
        };
        let flags = match entry.what {
            What::Message(Record { flags, .. }) | What::Reference { flags, .. } => flags,
            _ => Flags::NONE,
        };
        if flags.has(Flags::ARCHIVED) {
            archived.push((entry.actor, entry.sequence));
        }
    })?;
    archived.sort_unstable();
    let end = segment.0 + length;
    // The file has been read: no state of the directory is held while a disk is waited for.
    let wanted = directory.read_archive(|view| {
        let mut wanted = Wanted::new();
        for of_actor in archived.chunk_by(|one, other| one.0 == other.0) {
            of_one(view, journal, (segment, Position(end)), of_actor, &mut wanted)?;
        }
        Ok(wanted)
    });
    Ok(wanted?)
}

/// What is wanted of one actor's messages.
fn of_one(
    view: ArchiveView<'_>,
    journal: u64,
    range: (Position, Position),
    messages: &[(ActorId, Sequence)],
    wanted: &mut Wanted,
) -> Result<(), DirectoryError> {
    let (Some((actor, first)), Some((_, last))) = (messages.first(), messages.last()) else { return Ok(()) };
    let state = view.state(*actor)?;
    if state.is_purged || state.first_kept > *last {
        return Ok(());
    }
    let erased: HashSet<Sequence> =
        view.erased(*actor, *first, *last)?.into_iter().map(|(id, _)| id).collect();
    let is_meant = |slot: &Slot| {
        slot.position >= range.0
            && slot.position < range.1
            && slot.id >= state.first_kept
            && !erased.contains(&slot.id)
            && messages.binary_search(&(*actor, slot.id)).is_ok()
    };
    for row in view.rows_from(*actor, *first)? {
        let row = row?;
        if row.first > *last {
            break;
        }
        if row.journal == journal {
            wanted.extend(row.slots()?.iter().filter(|slot| is_meant(slot)).map(|slot| (*actor, slot.id)));
        }
    }
    Ok(())
}
