//! When a user was last online (XEP-0012).

use super::codec::{Decoder, Encoder};
use super::error::DirectoryError;
use super::tables::{Table, View, damaged};
use super::transaction::check_size;
use super::{Directory, WriteTransaction};

/// What a user was doing when going offline (XEP-0012).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastActivity {
    /// Unix time in seconds.
    pub at_seconds: u64,
    /// Text of the last unavailable presence's `<status/>`.
    pub status: String,
}

impl View<'_> {
    fn last_activity(&self, local: &str) -> Result<Option<LastActivity>, DirectoryError> {
        let Some(account) = self.account(local)? else { return Ok(None) };
        let key = account.key();
        let Some(value) = self.get(Table::Activity, &key)? else { return Ok(None) };
        let decoded = Decoder::open(&key, value).and_then(|mut fields| {
            let last = LastActivity { at_seconds: fields.number()?, status: fields.text()?.to_owned() };
            fields.close().map(|()| last)
        });
        decoded.map(Some).map_err(damaged(Table::Activity, &key))
    }
}

impl Directory {
    /// When and with what words a user was last online; `None` for never.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn last_activity(&self, local: &str) -> Result<Option<LastActivity>, DirectoryError> {
        self.read(|view| view.last_activity(local))
    }
}

impl WriteTransaction<'_> {
    /// Keeps when and with what words a user was last online.
    ///
    /// # Errors
    /// [`DirectoryError::NoAccount`]; [`DirectoryError::Size`] for a status of more than
    /// [`VALUE_BYTES_MAX`](super::VALUE_BYTES_MAX); the directory is damaged or cannot be written.
    pub fn set_last_activity(&mut self, local: &str, last: &LastActivity) -> Result<(), DirectoryError> {
        let key = self.account(local)?.key();
        check_size("the status", last.status.len())?;
        let mut fields = Encoder::new(12 + last.status.len());
        fields.number(last.at_seconds);
        fields.text(last.status.as_bytes());
        self.put(Table::Activity, &key, &fields.seal(&key))
    }
}
