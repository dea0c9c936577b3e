//! What ties the directory to the log of messages beside it: the id of the data set, whether there is a log, and which
//! numbers of accounts were given. See `crate::data`.

use crate::actor::ActorId;

use super::accounts::{KEY_LAST_ACCOUNT, actor_of};
use super::error::DirectoryError;
use super::tables::{Table, damaged};
use super::{Directory, WriteTransaction};

/// In `meta`: random, made with the directory.
pub(super) const KEY_DATA_SET: &[u8] = b"data_set";

/// In `meta`: 1 once there is a log of messages for these accounts.
const KEY_HAS_LOG: &[u8] = b"has_log";

impl Directory {
    /// The id of the data set; 0 for a directory that was made before there were any.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn data_set(&self) -> Result<u64, DirectoryError> {
        self.read(|view| view.counter(KEY_DATA_SET))
    }

    /// Whether there is a log of messages for these accounts.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn has_log(&self) -> Result<bool, DirectoryError> {
        self.read(|view| Ok(view.counter(KEY_HAS_LOG)? != 0))
    }

    /// How many numbers of accounts were ever given: the next account's [`ActorId::count`] is one more.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn accounts_ever(&self) -> Result<u64, DirectoryError> {
        self.read(|view| view.counter(KEY_LAST_ACCOUNT))
    }

    /// Tells the number of every account, in the order of their names. One pass over the table of accounts.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged; `tell` may have been told of some accounts then.
    pub fn for_each_account(&self, mut tell: impl FnMut(ActorId)) -> Result<(), DirectoryError> {
        self.read(|view| {
            for row in view.all(Table::Accounts)? {
                let (key, value) = row?;
                tell(actor_of(key, value).map_err(damaged(Table::Accounts, key))?);
            }
            Ok(())
        })
    }
}

impl WriteTransaction<'_> {
    /// Notes the data set that the directory belongs to, and whether there is a log.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn set_data_set(&mut self, id: u64, has_log: bool) -> Result<(), DirectoryError> {
        self.put_counter(KEY_DATA_SET, id)?;
        self.put_counter(KEY_HAS_LOG, u64::from(has_log))
    }

    /// Accounts made from now on have higher numbers than this one; never lower ones than they would have had.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn raise_accounts_ever(&mut self, count: u64) -> Result<(), DirectoryError> {
        if count > self.view().counter(KEY_LAST_ACCOUNT)? {
            self.put_counter(KEY_LAST_ACCOUNT, count)?;
        }
        Ok(())
    }
}
