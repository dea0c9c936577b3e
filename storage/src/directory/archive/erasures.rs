//! What has been erased and is still on the disk: until the logs have been gone through once since, and the texts are out of
//! their files.

use super::super::codec::{Decoder, Encoder};
use super::super::error::DirectoryError;
use super::super::tables::{Table, View, damaged};
use super::super::{Directory, WriteTransaction};
use crate::actor::ActorId;
use crate::log::{Position, Sequence};

/// Erasures that one transaction dates, or forgets.
const STEP_MAX: usize = 10_000;

/// What of erasures is still to be done on the disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ErasuresDue {
    /// Erasures: of a message, of the older part of an archive, of an account.
    pub count: u64,
    /// When the oldest of them was, in milliseconds since 1970; 0: it has no date yet.
    pub oldest_ms: u64,
    /// Numbers of the oldest and the newest; they rise.
    pub oldest: u64,
    /// See `oldest`.
    pub newest: u64,
    /// Some have no date yet.
    pub has_undated: bool,
}

/// How far the files of a journal have been gone through.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ErasurePass {
    /// Erasures up to this number are looked for.
    pub up_to: u64,
    /// Segments before this position have been gone through for them.
    pub done_to: Position,
    /// All segments have been gone through for erasures up to this number.
    pub done: u64,
}

impl ErasurePass {
    fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let mut fields = Decoder::open(key, value)?;
        let (up_to, done_to, done) = (fields.number()?, Position(fields.number()?), fields.number()?);
        fields.close()?;
        Ok(Self { up_to, done_to, done })
    }
}

/// An erasure: when it was, whose, and which message.
struct Erasure {
    at_ms: u64,
    actor: u64,
    id: u64,
}

impl Erasure {
    fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let mut fields = Decoder::open(key, value)?;
        let erasure = Self { at_ms: fields.number()?, actor: fields.number()?, id: fields.number()? };
        fields.close()?;
        Ok(erasure)
    }

    fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut fields = Encoder::new(24);
        [self.at_ms, self.actor, self.id].into_iter().for_each(|number| fields.number(number));
        fields.seal(key)
    }
}

fn number(key: &[u8]) -> Result<u64, DirectoryError> {
    let key8 = key.try_into().map_err(|_| damaged(Table::ArchiveErasures, key)("a key that cannot be"));
    key8.map(u64::from_be_bytes)
}

impl View<'_> {
    fn erasure(&self, found: Option<(&[u8], &[u8])>) -> Result<Option<(u64, Erasure)>, DirectoryError> {
        let Some((key, value)) = found else { return Ok(None) };
        let erasure = Erasure::decode(key, value).map_err(damaged(Table::ArchiveErasures, key))?;
        Ok(Some((number(key)?, erasure)))
    }

    fn oldest_erasure(&self) -> Result<Option<(u64, Erasure)>, DirectoryError> {
        let found = self.inner.tables.of(Table::ArchiveErasures).first(self.txn);
        self.erasure(found.map_err(|error| self.inner.failed("read", error))?)
    }

    fn newest_erasure(&self) -> Result<Option<(u64, Erasure)>, DirectoryError> {
        let found = self.inner.tables.of(Table::ArchiveErasures).last(self.txn);
        self.erasure(found.map_err(|error| self.inner.failed("read", error))?)
    }

    fn erasure_pass(&self, journal: u64) -> Result<ErasurePass, DirectoryError> {
        let key = journal.to_be_bytes();
        let Some(value) = self.get(Table::ArchivePasses, &key)? else { return Ok(ErasurePass::default()) };
        ErasurePass::decode(&key, value).map_err(damaged(Table::ArchivePasses, &key))
    }
}

impl Directory {
    /// What of erasures is still to be done on the disk.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn archive_erasures(&self) -> Result<ErasuresDue, DirectoryError> {
        self.read(|view| {
            let Some((first, oldest)) = view.oldest_erasure()? else { return Ok(ErasuresDue::default()) };
            let (newest, last) = view.newest_erasure()?.unwrap_or((0, Erasure { at_ms: 0, actor: 0, id: 0 }));
            let count = view.inner.tables.of(Table::ArchiveErasures).len(view.txn);
            let count = count.map_err(|error| view.inner.failed("read", error))?;
            let (oldest_ms, has_undated) = (oldest.at_ms, last.at_ms == 0);
            Ok(ErasuresDue { count, oldest_ms, oldest: first, newest, has_undated })
        })
    }

    /// How far the files of a journal have been gone through.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn archive_erasure_pass(&self, journal: u64) -> Result<ErasurePass, DirectoryError> {
        self.read(|view| view.erasure_pass(journal))
    }
}

impl WriteTransaction<'_> {
    /// Something has been erased, and is on the disk still.
    pub(super) fn note_erasure(&mut self, actor: ActorId, id: Sequence) -> Result<(), DirectoryError> {
        let mut newest = self.view().newest_erasure()?.map_or(0, |(number, _)| number);
        if newest == 0 {
            // Numbers go on behind those that files have been gone through for.
            for row in self.view().all(Table::ArchivePasses)? {
                let (key, value) = row?;
                let pass = ErasurePass::decode(key, value).map_err(damaged(Table::ArchivePasses, key))?;
                newest = newest.max(pass.up_to).max(pass.done);
            }
        }
        let key = (newest + 1).to_be_bytes();
        let erasure = Erasure { at_ms: 0, actor: actor.raw(), id: id.0 };
        self.put(Table::ArchiveErasures, &key, &erasure.encode(&key))
    }

    /// What was erased is on the disk still after the files have been gone through, because it waits for its recipient: an erasure
    /// more is due, for the next time.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn erase_later(&mut self, actor: ActorId, id: Sequence) -> Result<(), DirectoryError> {
        self.note_erasure(actor, id)
    }

    /// Erasures that have no date yet were before now: a server says so that has just found them. The oldest 10,000 of them get
    /// their date; [`ErasuresDue::has_undated`] tells whether there are others.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn date_erasures(&mut self, now_ms: u64) -> Result<(), DirectoryError> {
        let Some(mut number) = self.first_undated()? else { return Ok(()) };
        for _ in 0..STEP_MAX {
            let key = number.to_be_bytes();
            let Some(erasure) = self.erasure_of(number)? else { break };
            let dated = Erasure { at_ms: now_ms.max(1), ..erasure };
            self.put(Table::ArchiveErasures, &key, &dated.encode(&key))?;
            number += 1;
        }
        Ok(())
    }

    fn erasure_of(&self, number: u64) -> Result<Option<Erasure>, DirectoryError> {
        let (key, view) = (number.to_be_bytes(), self.view());
        let Some(value) = view.get(Table::ArchiveErasures, &key)? else { return Ok(None) };
        Erasure::decode(&key, value).map(Some).map_err(damaged(Table::ArchiveErasures, &key))
    }

    /// The number of the oldest erasure without a date: numbers have no gaps, and those that have one are older.
    fn first_undated(&self) -> Result<Option<u64>, DirectoryError> {
        let (oldest, newest) = (self.view().oldest_erasure()?, self.view().newest_erasure()?);
        let Some(((mut from, _), (mut to, last))) = oldest.zip(newest) else { return Ok(None) };
        if last.at_ms != 0 {
            return Ok(None);
        }
        while from < to {
            let middle = from + (to - from) / 2;
            match self.erasure_of(middle)? {
                Some(erasure) if erasure.at_ms == 0 => to = middle,
                _ => from = middle + 1,
            }
        }
        Ok(Some(to))
    }

    /// How far the files of a journal have been gone through. What all of `journals` have been gone through for is done: it is
    /// forgotten as [`WriteTransaction::forget_erasures`] does it, and so are journals that are not among them. Returns whether
    /// there is more to forget.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn put_erasure_pass(
        &mut self,
        journal: u64,
        pass: &ErasurePass,
        journals: &[u64],
    ) -> Result<bool, DirectoryError> {
        let key = journal.to_be_bytes();
        let mut fields = Encoder::new(24);
        [pass.up_to, pass.done_to.0, pass.done].into_iter().for_each(|number| fields.number(number));
        self.put(Table::ArchivePasses, &key, &fields.seal(&key))?;
        let mut gone = Vec::new();
        for row in self.view().all(Table::ArchivePasses)? {
            let key = row?.0;
            if !journals.contains(&number(key)?) {
                gone.push(key.to_vec());
            }
        }
        for key in gone {
            self.delete(Table::ArchivePasses, &key)?;
        }
        self.forget_erasures(journals)
    }

    /// Forgets erasures for which all of `journals` have been gone through, 10,000 at most. Returns whether there are more.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn forget_erasures(&mut self, journals: &[u64]) -> Result<bool, DirectoryError> {
        let mut done = u64::MAX;
        for journal in journals {
            done = done.min(self.view().erasure_pass(*journal)?.done);
        }
        for _ in 0..STEP_MAX {
            match self.view().oldest_erasure()? {
                Some((number, _)) if number <= done => {
                    self.delete(Table::ArchiveErasures, &number.to_be_bytes())?;
                }
                _ => return Ok(false),
            }
        }
        Ok(self.view().oldest_erasure()?.is_some_and(|(number, _)| number <= done))
    }
}
