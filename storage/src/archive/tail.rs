//! What archives have in the journals and no row has yet: seen without opening a log, beside a running server too.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use super::Snapshot;
use super::query::QueryError;
use super::rebuild::slot_of;
use super::segments::{Folders, Segments, Source};
use super::slot::Slot;
use crate::actor::ActorId;
use crate::directory::{ArchiveState, Directory};
use crate::journal::ReaderSet;
use crate::journal::format::record::Seed;
use crate::journal::open::scan::Walk;
use crate::log::{Position, Sequence, gathered_journal, journals_by_age};

/// The messages of archives that rows do not have, of all actors or of one, from the logs in a folder. With such a snapshot a
/// [`Query`](super::query::Query) finds all that had been written when this was called. It reads what lies behind the rows,
/// some hundreds of MiB of each journal at most, and a segment at a time.
///
/// What a crash has left unfinished at the end of a journal is among it; an opened log would not have it.
///
/// # Errors
/// There are no logs; they, or the directory, cannot be read.
pub fn read(
    directory: &Directory,
    log: &Path,
    of: Option<ActorId>,
) -> Result<BTreeMap<ActorId, Snapshot>, QueryError> {
    let mut journals = journals_by_age(log)?;
    // What was gathered is in rows, all of it.
    let gathered = gathered_journal(log)?;
    journals.retain(|(journal, _)| Some(*journal) != gathered);
    // Before the segments: rows that are written meanwhile are passed over by the query.
    let indexed: HashMap<u64, Position> = directory.archive_journals()?.into_iter().collect();
    let mut tail = Tail { directory, of, states: HashMap::new(), found: BTreeMap::new() };
    let mut segments = Segments::new(Arc::new(Folders::new(journals.clone())));
    for (journal, _) in journals {
        tail.journal(&mut segments, journal, indexed.get(&journal).copied().unwrap_or_default())?;
    }
    Ok(tail.found)
}

struct Tail<'a> {
    directory: &'a Directory,
    of: Option<ActorId>,
    states: HashMap<ActorId, ArchiveState>,
    found: BTreeMap<ActorId, Snapshot>,
}

impl Tail<'_> {
    fn journal(&mut self, segments: &mut Segments, journal: u64, from: Position) -> Result<(), QueryError> {
        let bases = segments.all(journal)?;
        let first = bases.partition_point(|base| *base <= from).saturating_sub(1);
        let mut text = None;
        for base in &bases[first..] {
            let bytes = segments.whole(journal, *base)?;
            self.segment(&bytes, (journal, *base, from), &mut text)?;
        }
        Ok(())
    }

    fn segment(
        &mut self,
        bytes: &[u8],
        (journal, base, from): (u64, Position, Position),
        text: &mut Option<Slot>,
    ) -> Result<(), QueryError> {
        for raw in Walk::new(bytes, Seed::new(journal), base.0, 0) {
            let Some(entry) = raw.entry(base.0) else { continue };
            let Some((slot, is_archived)) = slot_of(&entry, text) else { continue };
            // What compaction has written again is in rows.
            let is_new = is_archived && entry.position >= from && !entry.is_moved();
            if is_new && entry.concerns(ReaderSet::SECOND) && self.of.is_none_or(|actor| actor == entry.actor)
            {
                self.take(journal, entry.actor, slot)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, journal: u64, actor: ActorId, slot: Slot) -> Result<(), QueryError> {
        let state = match self.states.get(&actor) {
            Some(state) => *state,
            None => {
                let state = self.directory.archive_state(actor)?;
                self.states.insert(actor, state);
                state
            }
        };
        if state.is_purged || slot.id <= state.last || slot.id < state.first_kept {
            return Ok(());
        }
        let parts = &mut self.found.entry(actor).or_default().parts;
        // Ids rise: what does not is there already.
        let newest = parts.last().and_then(|(_, slots)| slots.last()).map_or(Sequence::ZERO, |slot| slot.id);
        if slot.id <= newest {
            return Ok(());
        }
        match parts.last_mut() {
            Some((of, slots)) if *of == journal => slots.push(slot),
            _ => parts.push((journal, vec![slot])),
        }
        Ok(())
    }
}
