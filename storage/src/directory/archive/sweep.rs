//! What goes: rows of actors that are gone, messages that are too old, rows of segments that are gone. In small steps.

use std::ops::Bound;

use super::super::error::DirectoryError;
use super::super::tables::{Table, damaged};
use super::super::{Directory, WriteTransaction};
use super::counters::Counters;
use super::{ArchiveState, KEY_REBUILDING, key, numbers_of};
use crate::actor::ActorId;
use crate::archive::{Row, SegmentHeld};
use crate::log::Sequence;

/// A step of the walk over all archives.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// Goes on behind this actor; [`ActorId::NOBODY`]: at the beginning.
    pub after: ActorId,
    /// Messages before this id are too old.
    pub not_before: Sequence,
    /// Most actors to look at.
    pub actors_max: usize,
    /// Most rows to remove.
    pub rows_max: usize,
}

/// What a step came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Swept {
    /// What rows hold now of the segments that it concerned: for [`Tallies::apply`](crate::archive::Tallies::apply).
    pub segments: Vec<SegmentHeld>,
    /// Rows that were removed.
    pub rows: u64,
    /// Messages that they had.
    pub messages: u64,
    /// Where to go on; `None`: that was all.
    pub next: Option<ActorId>,
    /// Archives that have messages, of those that were looked at.
    pub archives: u64,
    /// Those of them that take most, with their bytes, the largest first: at most [`TAKERS_MAX`].
    pub takers: Vec<(ActorId, u64)>,
}

/// The largest archives that are remembered of a walk.
pub const TAKERS_MAX: usize = 64;

/// What [`WriteTransaction::shrink_archives`] came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Shrunk {
    /// What rows hold now of the segments that it concerned: for [`Tallies::apply`](crate::archive::Tallies::apply).
    pub segments: Vec<SegmentHeld>,
    /// Messages that were cut.
    pub messages: u64,
    /// Archives of those that were given of which more can be cut, with their bytes, the largest first.
    pub takers: Vec<(ActorId, u64)>,
}

/// The largest of these, the largest first.
pub fn largest_takers(takers: &mut Vec<(ActorId, u64)>) {
    takers.sort_unstable_by_key(|(actor, bytes)| (std::cmp::Reverse(*bytes), *actor));
    takers.truncate(TAKERS_MAX);
}

impl Directory {
    /// The actors whose archives take most, at most `max` of them, the largest first. Looks at all.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn archive_largest(&self, max: usize) -> Result<Vec<(ActorId, ArchiveState)>, DirectoryError> {
        self.read(|view| {
            let mut largest: Vec<(ActorId, ArchiveState)> = Vec::new();
            for row in view.all(Table::ArchiveStates)? {
                let (key, value) = row?;
                let state = ArchiveState::decode(key, value).map_err(damaged(Table::ArchiveStates, key))?;
                largest.push((actor_of(key)?, state));
                if largest.len() >= 2 * max.max(512) {
                    keep_largest(&mut largest, max);
                }
            }
            keep_largest(&mut largest, max);
            Ok(largest)
        })
    }
}

fn keep_largest(all: &mut Vec<(ActorId, ArchiveState)>, max: usize) {
    all.sort_unstable_by_key(|(actor, state)| (std::cmp::Reverse(state.bytes), *actor));
    all.truncate(max);
}

/// What is held now, where a later change of a segment counts.
fn merge_held(all: &mut Vec<SegmentHeld>, later: Vec<SegmentHeld>) {
    for held in later {
        all.retain(|known| (known.journal, known.segment) != (held.journal, held.segment));
        all.push(held);
    }
}

pub(super) fn actor_of(key: &[u8]) -> Result<ActorId, DirectoryError> {
    let raw = key.try_into().map_err(|_| damaged(Table::ArchiveStates, key)("a key that cannot be"))?;
    Ok(ActorId::from_raw(u64::from_be_bytes(raw)))
}

impl WriteTransaction<'_> {
    /// The actor has no archive from now on, and never gets one again. Its rows are removed by
    /// [`WriteTransaction::sweep_archive`].
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn purge_archive(&mut self, actor: ActorId) -> Result<(), DirectoryError> {
        let state = self.view().archive_state(actor)?;
        self.put_archive_state(actor, &ArchiveState { is_purged: true, ..state })?;
        self.delete(Table::ArchivePreferences, &actor.key())?;
        self.note_erasure(actor, Sequence::MAX)
    }

    /// The index that was made anew has everything.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn end_archive_index(&mut self) -> Result<(), DirectoryError> {
        self.put_counter(KEY_REBUILDING, 0)
    }

    /// Removes all that says where messages of archives lie, but neither what actors prefer, nor what was erased, nor that
    /// they are gone: to be made anew. Until [`WriteTransaction::end_archive_index`], [`Directory::archive_segments`] ends in
    /// [`DirectoryError::HalfIndex`].
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn clear_archive_index(&mut self) -> Result<(), DirectoryError> {
        self.put_counter(KEY_REBUILDING, 1)?;
        for table in [Table::Archive, Table::ArchiveSegments, Table::ArchiveJournals, Table::ArchiveGathering]
        {
            let cleared = self.inner.tables.of(table).clear(&mut self.txn);
            cleared.map_err(|error| self.inner.failed("delete", error))?;
        }
        let mut states = Vec::new();
        for row in self.view().all(Table::ArchiveStates)? {
            let (key, value) = row?;
            let state = ArchiveState::decode(key, value).unwrap_or_default();
            states.push((actor_of(key)?, state));
        }
        for (actor, ArchiveState { first_kept, is_purged, .. }) in states {
            self.put_archive_state(
                actor,
                &ArchiveState { first_kept, is_purged, ..ArchiveState::default() },
            )?;
        }
        Ok(())
    }

    /// An actor's messages before an id are no longer in its archive. Their rows are removed by
    /// [`WriteTransaction::sweep_archive`].
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn cut_archive(&mut self, actor: ActorId, before: Sequence) -> Result<(), DirectoryError> {
        let mut state = self.view().archive_state(actor)?;
        state.first_kept = state.first_kept.max(before);
        self.forget_erased(actor, state.first_kept, false)?;
        self.put_archive_state(actor, &state)?;
        self.note_erasure(actor, state.first_kept)
    }

    /// Cuts the oldest messages of an actor until what it has takes no more than so many bytes, `rows_max` rows at most and never
    /// the newest row: for an archive that takes more than there is room for in all
    /// ([`Directory::archive_largest`] says whose).
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn shrink_archive(
        &mut self,
        actor: ActorId,
        bytes_max: u64,
        rows_max: usize,
    ) -> Result<Swept, DirectoryError> {
        let (mut swept, mut counters) = (Swept::default(), Counters::default());
        let mut state = self.view().archive_state(actor)?;
        while state.bytes > bytes_max && swept.rows < rows_max as u64 {
            let row = self.view().archive_first_row(actor)?;
            let Some(row) = row.filter(|row| row.last() != state.last) else { break };
            swept.messages += self.cut_archive_row(&row, &mut state, &mut counters)?;
            swept.rows += 1;
            state.first_kept = state.first_kept.max(Sequence(row.last().0 + 1));
        }
        if swept.rows > 0 {
            self.put_archive_state(actor, &state)?;
            self.forget_erased(actor, state.first_kept, false)?;
        }
        swept.segments = counters.write(self)?;
        Ok(swept)
    }

    /// All archives together take more than there is room for: cuts the oldest messages of the largest ones until so many bytes
    /// are gone, `rows_max` rows at most. The largest is cut to the size of the next one, then both, and so on; none to less than
    /// `share_bytes`, which each may have, and none loses its newest row.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn shrink_archives(
        &mut self,
        takers: &[(ActorId, u64)],
        share_bytes: u64,
        excess_bytes: u64,
        rows_max: usize,
    ) -> Result<Shrunk, DirectoryError> {
        let mut shrunk = Shrunk::default();
        let mut left: Vec<(ActorId, u64)> = Vec::new();
        for (actor, _) in takers {
            let state = self.view().archive_state(*actor)?;
            if state.bytes > share_bytes && !state.is_purged {
                left.push((*actor, state.bytes));
            }
        }
        let (mut rows_left, mut excess) = (rows_max, excess_bytes);
        while rows_left > 0 && excess > 0 {
            largest_takers(&mut left);
            let Some((actor, bytes)) = left.first().copied() else { break };
            let next = left.get(1).map_or(0, |(_, bytes)| *bytes).max(share_bytes);
            // Of several that are as large, each loses a row in turn.
            let rows = if next < bytes { rows_left } else { 1 };
            let floor = next.max(bytes.saturating_sub(excess)).min(bytes - 1);
            let swept = self.shrink_archive(actor, floor, rows)?;
            let now = self.view().archive_state(actor)?.bytes;
            merge_held(&mut shrunk.segments, swept.segments);
            shrunk.messages += swept.messages;
            rows_left = rows_left.saturating_sub((swept.rows as usize).max(1));
            excess = excess.saturating_sub(bytes.saturating_sub(now));
            match swept.rows == 0 || now <= share_bytes {
                true => drop(left.remove(0)),
                false => left[0].1 = now,
            }
        }
        largest_takers(&mut left);
        shrunk.takers = left;
        Ok(shrunk)
    }

    /// Removes rows that are of no use any more, a step at a time.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn sweep_archive(&mut self, sweep: &Sweep) -> Result<Swept, DirectoryError> {
        let mut swept = Swept::default();
        let mut counters = Counters::default();
        let mut actors = self.archive_actors_after(sweep.after, sweep.actors_max + 1)?;
        if actors.len() > sweep.actors_max {
            actors.truncate(sweep.actors_max);
            swept.next = actors.last().copied();
        }
        let mut before = sweep.after;
        for actor in actors {
            let state = self.view().archive_state(actor)?;
            if state.bytes > 0 && !state.is_purged {
                swept.archives += 1;
                swept.takers.push((actor, state.bytes));
            }
            if !self.sweep_actor(actor, sweep, &mut counters, &mut swept)? {
                swept.next = Some(before);
                break;
            }
            before = actor;
        }
        largest_takers(&mut swept.takers);
        swept.segments = counters.write(self)?;
        Ok(swept)
    }

    fn archive_actors_after(&self, after: ActorId, max: usize) -> Result<Vec<ActorId>, DirectoryError> {
        let view = self.view();
        let key = after.key();
        let from = (Bound::Excluded(&key[..]), Bound::Unbounded);
        let rows = view.inner.tables.of(Table::ArchiveStates).range(view.txn, &from);
        let rows = rows.map_err(|error| view.inner.failed("read", error))?;
        rows.take(max).map(|row| actor_of(row.map_err(|error| view.inner.failed("read", error))?.0)).collect()
    }

    /// Removes rows of an actor from the oldest on. `false`: as many as may be were removed, and there are more.
    fn sweep_actor(
        &mut self,
        actor: ActorId,
        sweep: &Sweep,
        counters: &mut Counters,
        swept: &mut Swept,
    ) -> Result<bool, DirectoryError> {
        let before = self.view().archive_state(actor)?;
        let mut state = before;
        let mut is_through = true;
        while let Some(row) = self.view().archive_first_row(actor)? {
            let is_old = row.last() < state.first_kept || row.last() < sweep.not_before;
            if !state.is_purged && !is_old && self.is_held(&row)? {
                break;
            }
            if swept.rows >= sweep.rows_max as u64 {
                is_through = false;
                break;
            }
            swept.messages += self.cut_archive_row(&row, &mut state, counters)?;
            swept.rows += 1;
            state.first_kept = state.first_kept.max(Sequence(row.last().0 + 1));
        }
        // One that is gone may have had nothing but messages that no row has got.
        if state.first_kept != before.first_kept || state.is_purged {
            self.forget_erased(actor, state.first_kept, state.is_purged)?;
        }
        if state != before {
            self.put_archive_state(actor, &state)?;
        }
        Ok(is_through)
    }

    /// Whether one of the messages of a row lies in a segment that is there.
    fn is_held(&self, row: &Row) -> Result<bool, DirectoryError> {
        for slot in &row.slots {
            if self.view().archive_segment_at(row.journal, slot.position)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes a row. Returns how many messages it had.
    pub(super) fn cut_archive_row(
        &mut self,
        row: &Row,
        state: &mut ArchiveState,
        counters: &mut Counters,
    ) -> Result<u64, DirectoryError> {
        for slot in &row.slots {
            counters.take(self.view(), row.journal, slot)?;
        }
        let messages = row.slots.len() as u64;
        state.bytes = state.bytes.saturating_sub(row.held_bytes());
        state.messages = state.messages.saturating_sub(messages);
        self.delete(Table::Archive, &key(row.actor.raw(), row.first().0))?;
        self.forget_to_gather(row.actor, row.first())?;
        Ok(messages)
    }

    /// Marks of erased texts that are before an id go with them.
    fn forget_erased(&mut self, actor: ActorId, before: Sequence, all: bool) -> Result<(), DirectoryError> {
        let mut gone = Vec::new();
        for row in self.view().prefixed(Table::ArchiveErased, &actor.key())? {
            let key = row?.0;
            let (_, id) = numbers_of(key).map_err(damaged(Table::ArchiveErased, key))?;
            if !all && id >= before.0 {
                break;
            }
            gone.push(key.to_vec());
        }
        gone.iter().try_for_each(|key| self.delete(Table::ArchiveErased, key).map(|_| ()))
    }
}
