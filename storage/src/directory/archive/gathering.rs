//! Rows that are to be gathered: their texts are copied into a file of the gathered log, beside those of their actors' other
//! rows, and the rows say so from one transaction on (`crate::archive::gather`).
//!
//! A row is due when nothing is joined to it any more, or when it has as much as half of what a row may have. The list of
//! those that are due is written together with the rows, so it is exact over any crash, and no longer than the index.

use super::super::codec::{Decoder, Encoder};
use super::super::error::DirectoryError;
use super::super::tables::{Table, damaged};
use super::super::{Directory, WriteTransaction};
use super::counters::Counters;
use super::{ArchiveState, ArchiveView, RowView, encode_row, key, numbers_of};
use crate::actor::ActorId;
use crate::archive::{PackedRow, ROW_MESSAGES_MAX, SegmentHeld};
use crate::log::{Position, Sequence};

/// A row with so many messages is gathered although it is its actor's newest.
pub const GATHER_MESSAGES_MIN: usize = ROW_MESSAGES_MAX / 2;

/// In `meta`: where the last file of the gathered log ended.
const KEY_GATHERED_TO: &[u8] = b"gathered_to";

/// In `meta`: 1 once the rows are listed that were there before there was a list.
const KEY_LISTED: &[u8] = b"gather_listed";

/// A row that is to be gathered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ToGather {
    /// Whose it is.
    pub actor: ActorId,
    /// Id of its first message.
    pub first: Sequence,
    /// Bytes of its journal that it needs, about.
    pub bytes: u64,
}

/// A row whose texts have been copied.
#[derive(Clone, Debug)]
pub struct SwitchRow {
    /// As it was when they were read.
    pub old: PackedRow,
    /// As it is to be.
    pub new: PackedRow,
    /// All of its texts could be read.
    pub is_whole: bool,
    /// Which of its messages have their texts in the new file: a bit for each, the first one the lowest.
    pub copied: u64,
    /// It is not to switch, because some texts have left the new file again. It is looked at whether more have to.
    pub is_hit: bool,
}

/// Rows that are to say where their texts lie now.
#[derive(Clone, Debug, Default)]
pub struct Switches {
    /// The gathered log.
    pub journal: u64,
    /// Where the file begins.
    pub segment: Position,
    /// Rows, with the messages of the file.
    pub rows: Vec<SwitchRow>,
    /// Rows that are not to be gathered any more: they are gone, or have been gathered.
    pub gone: Vec<ToGather>,
}

/// What a transaction came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Switched {
    /// What rows hold now of the segments that it concerned: for [`Tallies::apply`](crate::archive::Tallies::apply).
    pub segments: Vec<SegmentHeld>,
    /// Rows that lie in the gathered log now.
    pub rows: u64,
    /// Their messages.
    pub messages: u64,
    /// Rows that were left alone, because they have changed meanwhile or could not be read.
    pub left: u64,
    /// Where texts lie in the new file that were erased while they were copied: they must go.
    pub erased: Vec<Position>,
}

impl Directory {
    /// The rows that are to be gathered, those with the oldest messages first: so many at most, and so many bytes but for the
    /// first one. Also returns whether there are more.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn archive_to_gather(
        &self,
        rows_max: usize,
        bytes_max: u64,
    ) -> Result<(Vec<ToGather>, bool), DirectoryError> {
        self.read(|view| {
            let (mut found, mut bytes) = (Vec::new(), 0_u64);
            for row in view.all(Table::ArchiveGathering)? {
                let (key, value) = row?;
                let item = decode(key, value).map_err(damaged(Table::ArchiveGathering, key))?;
                bytes += item.bytes;
                if found.len() >= rows_max || bytes > bytes_max && !found.is_empty() {
                    return Ok((found, true));
                }
                found.push(item);
            }
            Ok((found, false))
        })
    }

    /// How many rows are to be gathered. Costs the same for any number.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn archive_rows_to_gather(&self) -> Result<u64, DirectoryError> {
        self.read(|view| view.len(Table::ArchiveGathering))
    }

    /// Where the next file of the gathered log may begin, and whether all rows are listed that were there before there was a
    /// list ([`WriteTransaction::list_to_gather`]).
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn archive_gathered_to(&self) -> Result<(Position, bool), DirectoryError> {
        self.read(|view| Ok((Position(view.counter(KEY_GATHERED_TO)?), view.counter(KEY_LISTED)? != 0)))
    }

    /// Has commits fail, as a full disk would.
    #[cfg(test)]
    pub(crate) fn fail_commits(&self, do_fail: bool) {
        self.0.fail_commits.store(do_fail, std::sync::atomic::Ordering::Relaxed);
    }

    /// Has commits reported as failed that are not.
    #[cfg(test)]
    pub(crate) fn lose_outcomes(&self, is_lost: bool) {
        self.0.lose_outcomes.store(is_lost, std::sync::atomic::Ordering::Relaxed);
    }
}

fn decode(key: &[u8], value: &[u8]) -> Result<ToGather, &'static str> {
    let (first, actor) = numbers_of(key)?;
    let mut fields = Decoder::open(key, value)?;
    let bytes = fields.number()?;
    fields.close()?;
    Ok(ToGather { actor: ActorId::from_raw(actor), first: Sequence(first), bytes })
}

impl WriteTransaction<'_> {
    /// A row is to be gathered.
    pub(super) fn note_to_gather(&mut self, row: &PackedRow) -> Result<(), DirectoryError> {
        let key = key(row.first.0, row.actor.raw());
        let mut fields = Encoder::new(8);
        fields.number(row.held_bytes);
        self.put(Table::ArchiveGathering, &key, &fields.seal(&key))
    }

    /// A row is not to be gathered any more.
    pub(super) fn forget_to_gather(&mut self, actor: ActorId, first: Sequence) -> Result<(), DirectoryError> {
        self.delete(Table::ArchiveGathering, &key(first.0, actor.raw())).map(|_| ())
    }

    /// Lists rows that were there before there was a list, but for those of the gathered log, and for their actors' newest with
    /// fewer messages: so many at most, behind one that was looked at last. Returns which one that is now; `None`: that was all.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn list_to_gather(
        &mut self,
        gathered: u64,
        behind: Option<(ActorId, Sequence)>,
        (messages_min, rows_max): (usize, usize),
    ) -> Result<Option<(ActorId, Sequence)>, DirectoryError> {
        let mut due: Vec<PackedRow> = Vec::new();
        let mut last: Option<RowView<'_>> = None;
        let mut next = None;
        let behind = behind.map(|(actor, first)| key(actor.raw(), first.0));
        let behind = behind.as_ref().map(|key| &key[..]);
        for (count, row) in self.view().behind_key(Table::Archive, behind)?.enumerate() {
            let (key, value) = row?;
            // What cannot be read stays as it is, and holds nobody else up.
            let Ok(row) = RowView::decode(key, value) else { continue };
            if let Some(last) = last.replace(row) {
                let is_due = last.packed.messages() >= messages_min || last.actor == row.actor;
                if is_due && last.journal != gathered {
                    due.extend(last.to_row().ok().map(|row| row.pack()));
                }
                next = Some((last.actor, last.first));
            }
            if count >= rows_max.max(1) {
                // This one is looked at again, with the one behind it.
                last = None;
                break;
            }
        }
        if let Some(last) = last {
            if last.packed.messages() >= messages_min && last.journal != gathered {
                due.extend(last.to_row().ok().map(|row| row.pack()));
            }
            next = None;
        }
        due.iter().try_for_each(|row| self.note_to_gather(row))?;
        if next.is_none() {
            self.put_counter(KEY_LISTED, 1)?;
        }
        Ok(next)
    }

    /// Lists rows that lie in a file of the gathered log, from where it begins up to where it ends, to be gathered once more: those
    /// that have some of the messages from one id to another of these actors.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn list_gathered(
        &mut self,
        gathered: u64,
        (base, end): (Position, Position),
        actors: &[(ActorId, Sequence, Sequence)],
    ) -> Result<(), DirectoryError> {
        let mut due = Vec::new();
        for (actor, first, last) in actors {
            for row in ArchiveView::of(self.view()).rows_from(*actor, *first)? {
                let row = match row {
                    Ok(row) => row,
                    // It stays as it is, and holds nobody else up.
                    Err(DirectoryError::Damaged { .. }) => continue,
                    Err(error) => return Err(error),
                };
                if row.first > *last {
                    break;
                }
                if row.journal != gathered {
                    continue;
                }
                // One that was made anew may have messages of more than one file.
                let Ok(row) = row.to_row() else { continue };
                if row.slots.iter().any(|slot| (base..end).contains(&slot.position)) {
                    due.push(row.pack());
                }
            }
        }
        due.iter().try_for_each(|row| self.note_to_gather(row))
    }

    /// A file of the gathered log is about to have its name, and ends here: no other one ever begins before that, whatever becomes
    /// of it.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn gathered_up_to(&mut self, end: Position) -> Result<(), DirectoryError> {
        let before = self.view().counter(KEY_GATHERED_TO)?;
        self.put_counter(KEY_GATHERED_TO, before.max(end.0))
    }

    /// Rows say where their texts lie now: those that are as they were when their texts were read, and of which nothing was
    /// erased or cut since. All others are left alone.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn switch_rows(&mut self, switches: &Switches) -> Result<Switched, DirectoryError> {
        let (mut switched, mut counters) = (Switched::default(), Counters::default());
        if !switches.rows.is_empty() {
            counters.know(self.view(), (switches.journal, switches.segment))?;
        }
        for gone in &switches.gone {
            self.forget_listed(gone)?;
        }
        for row in &switches.rows {
            let is_switched = self.switch_row(switches.journal, row, &mut counters, &mut switched)?;
            switched.left += u64::from(!is_switched);
        }
        switched.segments = counters.write(self)?;
        Ok(switched)
    }

    /// A row is not to be gathered any more, unless it was listed anew since: it has more messages now.
    fn forget_listed(&mut self, item: &ToGather) -> Result<(), DirectoryError> {
        let ToGather { actor, first, .. } = *item;
        let key = key(first.0, actor.raw());
        let listed = self.view().get(Table::ArchiveGathering, &key)?.map(|value| decode(&key, value));
        match listed {
            Some(Ok(listed)) if listed != *item => Ok(()),
            _ => self.forget_to_gather(actor, first),
        }
    }

    fn switch_row(
        &mut self,
        gathered: u64,
        row: &SwitchRow,
        counters: &mut Counters,
        switched: &mut Switched,
    ) -> Result<bool, DirectoryError> {
        let SwitchRow { old, new, is_whole, copied, .. } = row;
        let key = key(old.actor.raw(), old.first.0);
        let mut state = self.view().archive_state(old.actor)?;
        let is_hit = self.erased_meanwhile(row, &state, switched)? || row.is_hit;
        let found = self.view().get(Table::Archive, &key)?;
        let is_same = found.is_some_and(|found| found == encode_row(&key, old));
        let is_gathered = match found {
            Some(found) => !is_same && RowView::decode(&key, found).is_ok_and(|row| row.journal == gathered),
            None => true,
        };
        if is_gathered || is_same && !is_whole {
            // Somebody else has done it, it is gone, or it cannot be read, now or later.
            self.forget_to_gather(old.actor, old.first)?;
            return Ok(false);
        }
        if !is_same || is_hit {
            return Ok(false);
        }
        let slots = old.slots();
        for slot in &slots {
            if !counters.is_there(self.view(), old.journal, slot.position)? {
                // What has gone for want of room, or because it was too old, does not come back.
                self.forget_to_gather(old.actor, old.first)?;
                return Ok(false);
            }
        }
        for slot in &slots {
            counters.take(self.view(), old.journal, slot)?;
        }
        counters.add_row(self.view(), new)?;
        state.bytes = (state.bytes + new.held_bytes).saturating_sub(old.held_bytes);
        self.put_archive_state(old.actor, &state)?;
        self.put_archive_row(new)?;
        self.forget_to_gather(old.actor, old.first)?;
        switched.rows += 1;
        switched.messages += u64::from(copied.count_ones());
        Ok(true)
    }

    /// Whether a text that was copied may not be there any more. Then it is due to be erased once more, also after a crash: files
    /// may have been gone through for it before this one was there.
    fn erased_meanwhile(
        &mut self,
        row: &SwitchRow,
        state: &ArchiveState,
        switched: &mut Switched,
    ) -> Result<bool, DirectoryError> {
        let SwitchRow { old, new, copied, .. } = row;
        let (first, last) = (old.first, old.last);
        let erased = self.view().archive_erased(old.actor, first, last)?;
        if !state.is_purged && erased.is_empty() && first >= state.first_kept {
            return Ok(false);
        }
        let places = new.slots();
        let is_lost = |id: Sequence| {
            state.is_purged || id < state.first_kept || erased.iter().any(|(erased, _)| *erased == id)
        };
        let lost = places.iter().enumerate().filter(|(at, slot)| copied >> at & 1 == 1 && is_lost(slot.id));
        let before = switched.erased.len();
        switched.erased.extend(lost.map(|(_, slot)| slot.position));
        let is_hit = switched.erased.len() > before;
        if is_hit {
            self.note_erasure(old.actor, last)?;
        }
        Ok(is_hit)
    }

    /// There is no room for what lies before a position of the gathered log: rows that have their texts there are of no use any
    /// more, and are removed by [`WriteTransaction::sweep_archive`]. Returns what changes, for
    /// [`Tallies::apply`](crate::archive::Tallies::apply): with all that these know of there, since an earlier transaction may have been
    /// written that seemed to fail.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn drop_gathered(
        &mut self,
        journal: u64,
        before: Position,
        known: &[Position],
    ) -> Result<Vec<SegmentHeld>, DirectoryError> {
        let mut counters = Counters::default();
        known.iter().try_for_each(|segment| counters.know(self.view(), (journal, *segment)))?;
        counters.drop_before(self.view(), journal, before)?;
        counters.write(self)
    }

    /// What rows hold of some segments, by their journals, for [`Tallies::apply`](crate::archive::Tallies::apply): when a transaction
    /// has failed, and nobody knows whether it was written all the same.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn held_of_segments(
        &mut self,
        segments: &[(u64, Position)],
    ) -> Result<Vec<SegmentHeld>, DirectoryError> {
        let mut counters = Counters::default();
        segments.iter().try_for_each(|segment| counters.know(self.view(), *segment))?;
        counters.write(self)
    }

    /// As an earlier release leaves it.
    #[cfg(test)]
    pub(crate) fn forget_gathering(&mut self) -> Result<(), DirectoryError> {
        self.put_counter(KEY_LISTED, 0)?;
        let cleared = self.inner.tables.of(Table::ArchiveGathering).clear(&mut self.txn);
        cleared.map_err(|error| self.inner.failed("delete", error))
    }
}
