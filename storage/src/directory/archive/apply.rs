//! What a worker's archive has for the directory, in one transaction: rows, messages that compaction has moved, segments
//! that are gone.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::super::WriteTransaction;
use super::super::codec::Encoder;
use super::super::error::DirectoryError;
use super::super::tables::{Table, View, damaged};
use super::counters::Counters;
use super::gathering::GATHER_MESSAGES_MIN;
use super::{ArchiveState, RowView, encode_row, key};
use crate::actor::ActorId;
use crate::archive::{Changes, Move, PackedRow, ROW_MESSAGES_MAX, Row, SegmentHeld};
use crate::log::{Position, Sequence};

/// Rows of one actor that a transaction cuts at most for its share; more go with its next row.
const CUT_ROWS_MAX: usize = 64;

/// How much actors may keep.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Shares {
    /// Most bytes of an actor; past it its oldest messages go. 0: no limit.
    pub actor_bytes_max: u64,
}

/// What a transaction came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Applied {
    /// What rows hold now of the segments that it concerned: for [`Tallies::apply`](crate::archive::Tallies::apply).
    pub segments: Vec<SegmentHeld>,
    /// Messages that rows have now and did not have before.
    pub messages: u64,
    /// Messages that were cut because their actors had more than their share.
    pub cut: u64,
}

/// What is being changed.
struct Applying<'a, 't> {
    to: &'a mut WriteTransaction<'t>,
    counters: Counters,
    states: BTreeMap<ActorId, ArchiveState>,
    applied: Applied,
}

impl<'t> View<'t> {
    /// How an actor's archive stands; as one that has nothing when there is none.
    pub(super) fn archive_state(&self, actor: ActorId) -> Result<ArchiveState, DirectoryError> {
        let key = actor.key();
        let Some(value) = self.get(Table::ArchiveStates, &key)? else { return Ok(ArchiveState::default()) };
        ArchiveState::decode(&key, value).map_err(damaged(Table::ArchiveStates, &key))
    }

    /// The row of an actor that begins last at or before an id.
    pub(super) fn archive_row_at(
        &self,
        actor: ActorId,
        id: Sequence,
    ) -> Result<Option<RowView<'t>>, DirectoryError> {
        let wanted = key(actor.raw(), id.0);
        let table = self.inner.tables.of(Table::Archive);
        let found = table.get_lower_than_or_equal_to(self.txn, &wanted);
        let Some((key, value)) = found.map_err(|error| self.inner.failed("read", error))? else {
            return Ok(None);
        };
        if !key.starts_with(&actor.key()) {
            return Ok(None);
        }
        RowView::decode(key, value).map(Some).map_err(damaged(Table::Archive, key))
    }

    /// The first row of an actor.
    pub(super) fn archive_first_row(&self, actor: ActorId) -> Result<Option<Row>, DirectoryError> {
        let Some(row) = self.prefixed(Table::Archive, &actor.key())?.next() else { return Ok(None) };
        let (key, value) = row?;
        let row = RowView::decode(key, value).and_then(RowView::to_row);
        row.map(Some).map_err(damaged(Table::Archive, key))
    }
}

impl WriteTransaction<'_> {
    /// Writes what a worker's archive has. Messages that rows have already are passed over, and so is everything of actors
    /// that are gone; an actor's oldest go when it has more than its share.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn apply_archive(&mut self, changes: &Changes, shares: Shares) -> Result<Applied, DirectoryError> {
        let mut applying = Applying {
            to: self,
            counters: Counters::default(),
            states: BTreeMap::new(),
            applied: Applied::default(),
        };
        for segment in &changes.segments {
            applying.counters.know(applying.to.view(), *segment)?;
        }
        for row in &changes.rows {
            applying.row(row)?;
        }
        applying.moves(&changes.moves)?;
        if let Some(before) = changes.gone_before {
            applying.counters.drop_before(applying.to.view(), changes.journal, before)?;
        }
        if changes.indexed_to > Position(0) {
            let key = changes.journal.to_be_bytes();
            let mut fields = Encoder::new(8);
            fields.number(changes.indexed_to.0);
            applying.to.put(Table::ArchiveJournals, &key, &fields.seal(&key))?;
        }
        let actors: Vec<ActorId> = applying.states.keys().copied().collect();
        for actor in actors {
            applying.share(actor, shares)?;
        }
        applying.finish()
    }

    pub(super) fn put_archive_state(
        &mut self,
        actor: ActorId,
        state: &ArchiveState,
    ) -> Result<(), DirectoryError> {
        self.put(Table::ArchiveStates, &actor.key(), &state.encode(&actor.key()))
    }

    pub(super) fn put_archive_row(&mut self, row: &PackedRow) -> Result<(), DirectoryError> {
        let key = key(row.actor.raw(), row.first.0);
        self.put(Table::Archive, &key, &encode_row(&key, row))
    }
}

impl Applying<'_, '_> {
    fn state(&mut self, actor: ActorId) -> Result<&mut ArchiveState, DirectoryError> {
        Ok(match self.states.entry(actor) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(self.to.view().archive_state(actor)?),
        })
    }

    /// Writes a row, or the part of it that is new.
    fn row(&mut self, row: &PackedRow) -> Result<(), DirectoryError> {
        let state = *self.state(row.actor)?;
        let is_new = |id: Sequence| id > state.last && id >= state.first_kept;
        if state.is_purged || !is_new(row.last) {
            return Ok(());
        }
        if is_new(row.first) {
            return self.new_row(row);
        }
        let mut part = row.to_row();
        part.slots.retain(|slot| is_new(slot.id));
        self.new_row(&part.pack())
    }

    /// Writes a row of which every message is new.
    fn new_row(&mut self, row: &PackedRow) -> Result<(), DirectoryError> {
        self.counters.add_row(self.to.view(), row)?;
        let state = self.state(row.actor)?;
        let messages = row.messages() as u64;
        state.last = row.last;
        state.bytes += row.held_bytes;
        state.messages += messages;
        self.applied.messages += messages;
        let before = self.to.view().archive_row_at(row.actor, Sequence::MAX)?;
        let joined = match before {
            Some(before) => joined(row, &before)?,
            None => None,
        };
        // What was the newest row until now, and stays what it is.
        let full = before.filter(|before| joined.is_none() && before.packed.messages() < GATHER_MESSAGES_MIN);
        let full = full.map(|before| before.to_row().map_err(damaged(Table::Archive, &row.actor.key())));
        if let Some(full) = full.transpose()? {
            self.to.note_to_gather(&full.pack())?;
        }
        let row = joined.as_ref().unwrap_or(row);
        if row.messages() >= GATHER_MESSAGES_MIN {
            self.to.note_to_gather(row)?;
        }
        self.to.put_archive_row(row)
    }

    /// Notes where messages lie now.
    fn moves(&mut self, moves: &[Move]) -> Result<(), DirectoryError> {
        let mut rows: BTreeMap<(ActorId, Sequence), Row> = BTreeMap::new();
        for moved in moves {
            let Some(found) = self.to.view().archive_row_at(moved.actor, moved.id)? else { continue };
            let row = match rows.entry((moved.actor, found.first)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    new.insert(found.to_row().map_err(damaged(Table::Archive, &moved.actor.key()))?)
                }
            };
            let slot = row.slots.iter_mut().find(|slot| slot.id == moved.id && row.journal == moved.journal);
            let Some(slot) = slot.filter(|slot| slot.position != moved.position) else { continue };
            let before = *slot;
            (slot.position, slot.words, slot.is_reference) = (moved.position, moved.words, false);
            let after = *slot;
            self.counters.take(self.to.view(), moved.journal, &before)?;
            self.counters.add(self.to.view(), moved.journal, &[after])?;
            let state = self.state(moved.actor)?;
            state.bytes = (state.bytes + after.held_bytes()).saturating_sub(before.held_bytes());
        }
        for row in rows.values() {
            self.to.put_archive_row(&row.pack())?;
        }
        Ok(())
    }

    /// Cuts the oldest rows of an actor that has more than its share.
    fn share(&mut self, actor: ActorId, shares: Shares) -> Result<(), DirectoryError> {
        let mut state = *self.state(actor)?;
        for _ in 0..CUT_ROWS_MAX {
            if shares.actor_bytes_max == 0 || state.bytes <= shares.actor_bytes_max {
                break;
            }
            let Some(row) = self.to.view().archive_first_row(actor)? else { break };
            if row.last() == state.last {
                // The newest block stays, whatever its size.
                break;
            }
            self.applied.cut += self.to.cut_archive_row(&row, &mut state, &mut self.counters)?;
            state.first_kept = state.first_kept.max(Sequence(row.last().0 + 1));
        }
        *self.state(actor)? = state;
        Ok(())
    }

    fn finish(self) -> Result<Applied, DirectoryError> {
        let Self { to, counters, states, mut applied } = self;
        for (actor, state) in &states {
            to.put_archive_state(*actor, state)?;
        }
        applied.segments = counters.write(to)?;
        Ok(applied)
    }
}

/// The messages with those of the row before them, if both together are no more than a row may have: an actor who says
/// little has few rows all the same.
fn joined(row: &PackedRow, before: &RowView<'_>) -> Result<Option<PackedRow>, DirectoryError> {
    if before.journal != row.journal || before.packed.messages() + row.messages() > ROW_MESSAGES_MAX {
        return Ok(None);
    }
    let mut joined = before.to_row().map_err(damaged(Table::Archive, &row.actor.key()))?;
    joined.slots.extend(row.slots());
    Ok(Some(joined.pack()))
}
