//! From the moment in which a file gets its name to its last row: what keeps it, and what leaves it again.

use std::sync::atomic::Ordering;

use super::batch::Batch;
use super::{GatherMetrics, Gatherer, SWITCH_ROWS};
use crate::archive::erase;
use crate::archive::query::QueryError;
use crate::directory::{DirectoryError, SwitchRow, Switched, Switches, WriteTransaction};
use crate::journal::format::segment::file_name;
use crate::log::{LogError, Position};

/// A file that has its name, or is about to get it. Nobody may remove a file meanwhile, because rows are about to refer to this one.
pub(super) struct Named {
    base: u64,
    held: Held,
}

/// What is known of the rows that refer to a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Held {
    /// There are none.
    Nothing,
    /// [`Tallies`] know of all.
    Known,
    /// A transaction is under way or has failed, maybe after it was written: there may be some that nobody knows of.
    InDoubt,
}

impl Gatherer {
    /// Lets go of what is under way: it is begun anew.
    pub fn give_up(&mut self) {
        self.batch = None;
        if let Some(Named { base, held: Held::Nothing }) = self.named {
            self.remove_unheld(&|of| of == base);
        }
        self.answer();
        // Also after a panic, which has left no batch. What cannot be removed goes with the next one, or at the start.
        let _ = self.place.files.remove(&self.log.unfinished());
    }

    /// Removes files to which no row refers, at once: nobody can say of a text in them whether it was erased. One that cannot be
    /// removed goes later, as any that nobody needs.
    pub(super) fn remove_unheld(&mut self, is_unheld: &dyn Fn(u64) -> bool) {
        let _guard = self.place.folders.exclusive();
        let (files, folder) = (&*self.place.files, &self.log.folder);
        let remove = |base: u64| is_unheld(base) && files.remove(&folder.join(file_name(base))).is_ok();
        self.files.retain(|(base, _)| !remove(*base));
        self.count_files();
    }

    /// What is held of files is said by rows alone again, unless it is in doubt what they say.
    pub(super) fn answer(&mut self) {
        if self.named.take_if(|named| named.held != Held::InDoubt).is_some() {
            self.place.tallies.answer(self.log.journal);
        }
    }

    /// After a transaction that has failed: finds out whether rows refer to the file, and to what they referred before.
    pub(super) fn clear_doubt(&mut self) -> Result<(), DirectoryError> {
        let Some(Named { base, held: Held::InDoubt }) = self.named else { return Ok(()) };
        let tallies = &self.place.tallies;
        let of = |journal: u64| tallies.segments(journal).into_iter().map(move |(base, _)| (journal, base));
        let mut segments: Vec<(u64, Position)> = tallies.journal_ids().into_iter().flat_map(of).collect();
        segments.push((self.log.journal, Position(base)));
        let held = self.write(move |t| t.held_of_segments(&segments))?;
        self.place.tallies.apply(&held);
        self.set_held(Held::Known);
        self.answer();
        Ok(())
    }

    /// Whether rows may refer to the file that begins here and nobody knows of them.
    pub(super) fn is_in_doubt(&self, file: u64) -> bool {
        matches!(self.named, Some(Named { base, held: Held::InDoubt }) if base == file)
    }

    fn set_held(&mut self, held: Held) {
        if let Some(named) = &mut self.named {
            named.held = held;
        }
    }

    /// The file has its name from now on. Nobody removes it before its rows have switched.
    pub(super) fn publish(&mut self, batch: &mut Batch) -> Result<(), QueryError> {
        let lost = batch.lost(&self.place.directory)?;
        let wiped = batch.wipe(&lost, self.log.journal);
        self.metrics.erased.fetch_add(wiped, Ordering::Relaxed);
        let path = self.log.folder.join(file_name(batch.base()));
        batch.close().map_err(|error| LogError::io("write", &path, error))?;
        // First: where it lies is never given again, also when it is gone after a crash.
        let end = batch.base() + batch.bytes();
        self.write(move |t| t.gathered_up_to(Position(end)))?;
        self.next = end;
        self.place.tallies.expect(self.log.journal);
        self.named = Some(Named { base: batch.base(), held: Held::Nothing });
        batch.published();
        self.files.push((batch.base(), batch.bytes()));
        {
            let _guard = self.place.folders.exclusive();
            let renamed = self.place.files.rename(&self.log.unfinished(), &path);
            renamed.map_err(|error| LogError::io("name", &path, error))?;
        }
        self.count_files();
        self.lose_last(batch)
    }

    /// Whoever has gone through all files for an erasure did so before this one had its name, or finds it: what was erased until now
    /// leaves it here.
    fn lose_last(&self, batch: &mut Batch) -> Result<(), QueryError> {
        let lost = batch.lost(&self.place.directory)?;
        let positions: Vec<Position> = lost.iter().map(|text| text.position).collect();
        self.metrics.erased.fetch_add(positions.len() as u64, Ordering::Relaxed);
        self.wipe(batch.base(), &positions)
    }

    pub(super) fn switch(&mut self, batch: &mut Batch, rows: Vec<SwitchRow>) -> Result<(), QueryError> {
        self.set_held(Held::InDoubt);
        let switched = self.apply(Switches {
            journal: self.log.journal,
            segment: Position(batch.base()),
            rows,
            gone: Vec::new(),
        })?;
        self.set_held(Held::Known);
        batch.advance_switched(SWITCH_ROWS);
        self.wipe(batch.base(), &switched.erased)
    }

    pub(super) fn apply(&self, switches: Switches) -> Result<Switched, QueryError> {
        let job = move |t: &mut WriteTransaction<'_>| t.switch_rows(&switches);
        let switched = self.write(job)?;
        self.place.tallies.apply(&switched.segments);
        let GatherMetrics { messages, rows, left, erased, .. } = &*self.metrics;
        messages.fetch_add(switched.messages, Ordering::Relaxed);
        rows.fetch_add(switched.rows, Ordering::Relaxed);
        left.fetch_add(switched.left, Ordering::Relaxed);
        erased.fetch_add(switched.erased.len() as u64, Ordering::Relaxed);
        Ok(switched)
    }

    /// Takes texts out of a file that has its name.
    fn wipe(&self, base: u64, positions: &[Position]) -> Result<(), QueryError> {
        if positions.is_empty() {
            return Ok(());
        }
        let path = self.log.folder.join(file_name(base));
        let failed = |error| LogError::io("write anew", &path, error);
        let _guard = self.place.folders.exclusive();
        let Some(mut content) = self.place.files.read(&path).map_err(failed)? else { return Ok(()) };
        erase::wipe(&mut content, self.log.journal, Position(base), positions);
        self.place.files.replace(&path, &content).map_err(failed)?;
        Ok(())
    }
}
