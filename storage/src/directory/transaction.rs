//! A write transaction.

use crate::actor::ActorId;

use heed::RwTxn;

use super::Inner;
use super::error::{COMMIT, DirectoryError};
use super::handle::Opened;
use super::tables::{Table, View};

/// Most bytes of one value: a vCard, private XML, a roster item, a block list.
pub const VALUE_BYTES_MAX: usize = 16 << 20;

/// So many transactions write between two looks for readers that are gone.
const STALE_READERS_EVERY: u64 = 256;

/// What a job writes with. Everything can also be read in it, with what it has written so far.
///
/// Nothing is seen by others before the commit, and nothing remains when the job returns an error.
pub struct WriteTransaction<'a> {
    pub(super) inner: &'a Opened,
    pub(super) txn: RwTxn<'a>,
}

impl Inner {
    /// Runs `write` in a transaction and commits it; an error of `write` undoes what it has done. When the disk fails the commit
    /// so that LMDB gives up, the file is opened anew before this returns.
    pub(super) fn write<T>(
        &self,
        write: impl FnOnce(&mut WriteTransaction<'_>) -> Result<T, DirectoryError>,
    ) -> Result<T, DirectoryError> {
        let mut held = self.handle.hold_to_write()?;
        if held.is_dead() {
            self.handle.revive(held)?;
            held = self.handle.hold_to_write()?;
        }
        if self.handle.next_write().is_multiple_of(STALE_READERS_EVERY) {
            // A process beside us that was killed while it read would keep all pages from being used again.
            held.env.clear_stale_readers().map_err(|error| held.failed("look at the readers", error))?;
        }
        let mut transaction = WriteTransaction::begin(&held)?;
        let value = write(&mut transaction)?;
        #[cfg(test)]
        if self.fail_commits.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(DirectoryError::Full { map_bytes: 0 });
        }
        let committed = transaction.commit();
        #[cfg(test)]
        let committed = match self.lose_outcomes.load(std::sync::atomic::Ordering::Relaxed) {
            true => committed.and(Err(DirectoryError::Full { map_bytes: 0 })),
            false => committed,
        };
        if committed.is_err() && held.is_dead() {
            // If that does not succeed, the next transaction tries again and says why. The failure to tell is this one.
            let _ = self.handle.revive(held);
        }
        committed.map(|()| value)
    }
}

impl<'a> WriteTransaction<'a> {
    pub(super) fn begin(inner: &'a Opened) -> Result<Self, DirectoryError> {
        let txn = inner.env.write_txn().map_err(|error| inner.failed("begin a transaction", error))?;
        Ok(Self { inner, txn })
    }

    /// A transaction inside this one: what it writes joins this one's with its commit, and is gone without.
    pub(super) fn nested(&mut self) -> Result<WriteTransaction<'_>, DirectoryError> {
        let txn = self
            .inner
            .env
            .nested_write_txn(&mut self.txn)
            .map_err(|error| self.inner.failed("begin a transaction", error))?;
        Ok(WriteTransaction { inner: self.inner, txn })
    }

    pub(super) fn commit(self) -> Result<(), DirectoryError> {
        self.txn.commit().map_err(|error| self.inner.failed(COMMIT, error))
    }

    pub(super) fn view(&self) -> View<'_> {
        View { inner: self.inner, txn: &self.txn }
    }

    pub(super) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), DirectoryError> {
        let put = self.inner.tables.of(table).put(&mut self.txn, key, value);
        put.map_err(|error| self.inner.failed("write", error))
    }

    pub(super) fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, DirectoryError> {
        let deleted = self.inner.tables.of(table).delete(&mut self.txn, key);
        deleted.map_err(|error| self.inner.failed("delete", error))
    }

    /// Deletes all that belongs to an account.
    pub(super) fn delete_all(&mut self, table: Table, account: ActorId) -> Result<(), DirectoryError> {
        // In pieces: a key read from the map is gone with the first change.
        const PIECE: usize = 1024;
        loop {
            let mut keys = Vec::new();
            for row in self.view().prefixed(table, &account.key())?.take(PIECE) {
                keys.push(row?.0.to_vec());
            }
            for key in &keys {
                self.delete(table, key)?;
            }
            if keys.len() < PIECE {
                return Ok(());
            }
        }
    }
}

/// The limit on values, for what the caller has.
pub(super) fn check_size(what: &'static str, bytes: usize) -> Result<(), DirectoryError> {
    if bytes <= VALUE_BYTES_MAX {
        Ok(())
    } else {
        Err(DirectoryError::Size { what, bytes, max: VALUE_BYTES_MAX })
    }
}
