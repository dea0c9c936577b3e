//! What rows hold of each segment, as it changes within a transaction.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::{Bound, Range};
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::WriteTransaction;
use super::super::error::DirectoryError;
use super::super::tables::{Table, View, damaged};
use super::{Segment, decode_tally, encode_tally, key, numbers_of};
use crate::archive::{PackedRow, SegmentHeld, SegmentTally, Slot};
use crate::log::Position;

/// Numbers what transactions tell of segments. One is under way at a time, so the numbers rise in the order of the commits, in all
/// directories of the process.
static SERIAL: AtomicU64 = AtomicU64::new(0);

/// Segments that a transaction has looked at, and what is held of each by now.
#[derive(Default)]
pub(super) struct Counters {
    held: BTreeMap<Segment, SegmentTally>,
    /// What the directory said last: messages lie beside each other, so it is asked once for many.
    stored: Option<Stored>,
}

/// Positions of a journal for which the directory gives one segment, or none. It is not written to before all is counted.
struct Stored {
    journal: u64,
    positions: Range<u64>,
    base: Option<Position>,
}

impl View<'_> {
    /// The segment of which something is held that begins last at or before a position.
    pub(super) fn archive_segment_at(
        &self,
        journal: u64,
        position: Position,
    ) -> Result<Option<(Position, SegmentTally)>, DirectoryError> {
        let wanted = key(journal, position.0);
        let table = self.inner.tables.of(Table::ArchiveSegments);
        let found = table.get_lower_than_or_equal_to(self.txn, &wanted);
        let Some((key, value)) = found.map_err(|error| self.inner.failed("read", error))? else {
            return Ok(None);
        };
        let (of, base) = numbers_of(key).map_err(damaged(Table::ArchiveSegments, key))?;
        if of != journal {
            return Ok(None);
        }
        let tally = decode_tally(key, value).map_err(damaged(Table::ArchiveSegments, key))?;
        Ok(Some((Position(base), tally)))
    }

    /// Where the first segment behind a position begins of which something is held.
    fn archive_segment_behind(
        &self,
        journal: u64,
        position: Position,
    ) -> Result<Option<Position>, DirectoryError> {
        let table = self.inner.tables.of(Table::ArchiveSegments);
        let found = table.get_greater_than(self.txn, &key(journal, position.0));
        let Some((key, _)) = found.map_err(|error| self.inner.failed("read", error))? else {
            return Ok(None);
        };
        let (of, base) = numbers_of(key).map_err(damaged(Table::ArchiveSegments, key))?;
        Ok((of == journal).then_some(Position(base)))
    }
}

impl Stored {
    /// As the directory says of a position.
    fn at(view: View<'_>, journal: u64, position: Position) -> Result<Stored, DirectoryError> {
        let base = view.archive_segment_at(journal, position)?.map(|(base, _)| base);
        let next = view.archive_segment_behind(journal, position)?;
        let from = base.map_or(0, |base| base.0);
        Ok(Stored { journal, positions: from..next.map_or(u64::MAX, |next| next.0), base })
    }

    fn is_for(&self, journal: u64, position: Position) -> bool {
        self.journal == journal && self.positions.contains(&position.0)
    }
}

impl Counters {
    /// A segment of which something may be held from now on.
    pub(super) fn know(&mut self, view: View<'_>, segment: Segment) -> Result<(), DirectoryError> {
        if let Entry::Vacant(unknown) = self.held.entry(segment) {
            let found = view.archive_segment_at(segment.0, segment.1)?.filter(|(base, _)| *base == segment.1);
            unknown.insert(found.map_or_else(SegmentTally::default, |(_, tally)| tally));
        }
        Ok(())
    }

    /// The segment that a message lies in, if something may be held there, and the positions of which the same is true.
    fn find(
        &mut self,
        view: View<'_>,
        journal: u64,
        position: Position,
    ) -> Result<(Range<u64>, Option<&mut SegmentTally>), DirectoryError> {
        let stored = match self.stored.take() {
            Some(stored) if stored.is_for(journal, position) => stored,
            _ => Stored::at(view, journal, position)?,
        };
        let known = self.held.range(..=(journal, position)).next_back().map(|(segment, _)| *segment);
        if let Some(base) = stored.base.filter(|base| known.is_none_or(|known| known < (journal, *base))) {
            self.know(view, (journal, base))?;
        }
        let mut positions = stored.positions.clone();
        self.stored = Some(stored);
        let behind = (Bound::Excluded((journal, position)), Bound::Included((journal, Position(u64::MAX))));
        if let Some(((_, next), _)) = self.held.range(behind).next() {
            positions.end = positions.end.min(next.0);
        }
        let before = self.held.range_mut((journal, Position(0))..=(journal, position)).next_back();
        let found = before.map(|((_, base), held)| {
            positions.start = positions.start.max(base.0);
            held
        });
        Ok((positions, found))
    }

    /// Adds messages of a journal. Those that are neighbours lie in one segment as a rule, which is looked up once for them.
    pub(super) fn add(
        &mut self,
        view: View<'_>,
        journal: u64,
        mut slots: &[Slot],
    ) -> Result<(), DirectoryError> {
        while let Some(first) = slots.first() {
            let (positions, tally) = self.find(view, journal, first.position)?;
            let is_there = |slot: &&Slot| positions.contains(&slot.position.0);
            let (run, rest) = slots.split_at(slots.iter().take_while(is_there).count().max(1));
            if let Some(tally) = tally {
                run.iter().for_each(|slot| tally.add(slot.held_bytes(), slot.id.0));
            }
            slots = rest;
        }
        Ok(())
    }

    /// Adds the messages of a row: at once when they lie in one segment.
    pub(super) fn add_row(&mut self, view: View<'_>, row: &PackedRow) -> Result<(), DirectoryError> {
        let (positions, tally) = self.find(view, row.journal, row.lowest)?;
        if !positions.contains(&row.highest.0) {
            return self.add(view, row.journal, &row.slots());
        }
        if let Some(tally) = tally {
            *tally = tally.and(row.tally());
        }
        Ok(())
    }

    /// Whether the segment that a message lies in is there.
    pub(super) fn is_there(
        &mut self,
        view: View<'_>,
        journal: u64,
        position: Position,
    ) -> Result<bool, DirectoryError> {
        Ok(self.find(view, journal, position)?.1.is_some_and(|tally| tally.records > 0))
    }

    /// Takes a message out. `false`: its segment is gone.
    pub(super) fn take(&mut self, view: View<'_>, journal: u64, slot: &Slot) -> Result<bool, DirectoryError> {
        let (_, found) = self.find(view, journal, slot.position)?;
        let found = found.filter(|tally| tally.records > 0);
        let is_there = found.is_some();
        if let Some(tally) = found {
            tally.take(1, slot.held_bytes());
        }
        Ok(is_there)
    }

    /// The segments of a journal before a position are gone.
    pub(super) fn drop_before(
        &mut self,
        view: View<'_>,
        journal: u64,
        before: Position,
    ) -> Result<(), DirectoryError> {
        for row in view.prefixed(Table::ArchiveSegments, &journal.to_be_bytes())? {
            let (_, base) = numbers_of(row?.0).map_err(damaged(Table::ArchiveSegments, &[]))?;
            if base >= before.0 {
                break;
            }
            self.held.insert((journal, Position(base)), SegmentTally::default());
        }
        Ok(())
    }

    /// Writes what has changed. Returns it.
    pub(super) fn write(self, to: &mut WriteTransaction<'_>) -> Result<Vec<SegmentHeld>, DirectoryError> {
        let mut changed = Vec::new();
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed) + 1;
        for ((journal, segment), held) in self.held {
            let key = key(journal, segment.0);
            if held.records == 0 {
                to.delete(Table::ArchiveSegments, &key)?;
            } else {
                to.put(Table::ArchiveSegments, &key, &encode_tally(&key, &held))?;
            }
            changed.push(SegmentHeld { journal, segment, held, serial });
        }
        Ok(changed)
    }
}
