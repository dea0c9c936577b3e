//! Block lists (XEP-0191).

use super::codec::{Decoder, Encoder};
use super::error::DirectoryError;
use super::tables::{Table, View, damaged};
use super::transaction::check_size;
use super::{Directory, WriteTransaction};

fn decode(key: &[u8], value: &[u8]) -> Result<Vec<String>, &'static str> {
    let mut fields = Decoder::open(key, value)?;
    let count = fields.count()?;
    // Each takes four bytes at least, so a damaged count cannot make this reserve much.
    if count > fields.remaining() / 4 {
        return Err("more JIDs than there is room for");
    }
    let mut jids = Vec::with_capacity(count);
    for _ in 0..count {
        jids.push(fields.text()?.to_owned());
    }
    fields.close()?;
    Ok(jids)
}

impl View<'_> {
    fn blocked(&self, local: &str) -> Result<Vec<String>, DirectoryError> {
        let Some(account) = self.account(local)? else { return Ok(Vec::new()) };
        let key = account.key();
        match self.get(Table::Blocked, &key)? {
            Some(value) => decode(&key, value).map_err(damaged(Table::Blocked, &key)),
            None => Ok(Vec::new()),
        }
    }
}

impl Directory {
    /// The JIDs a user blocks, as they were set. Empty for an account that does not exist.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn blocked(&self, local: &str) -> Result<Vec<String>, DirectoryError> {
        self.read(|view| view.blocked(local))
    }
}

impl WriteTransaction<'_> {
    /// The JIDs a user blocks.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn blocked(&self, local: &str) -> Result<Vec<String>, DirectoryError> {
        self.view().blocked(local)
    }

    /// Puts a list in the place of the one there is.
    ///
    /// # Errors
    /// [`DirectoryError::NoAccount`]; [`DirectoryError::Size`] for a list of more than
    /// [`VALUE_BYTES_MAX`](super::VALUE_BYTES_MAX); the directory is damaged or cannot be written.
    pub fn set_blocked(&mut self, local: &str, jids: &[String]) -> Result<(), DirectoryError> {
        let key = self.account(local)?.key();
        if jids.is_empty() {
            return self.delete(Table::Blocked, &key).map(|_| ());
        }
        let size = 4 + jids.iter().map(|jid| 4 + jid.len()).sum::<usize>();
        check_size("the block list", size)?;
        let mut fields = Encoder::new(size);
        fields.count(jids.len());
        for jid in jids {
            fields.text(jid.as_bytes());
        }
        self.put(Table::Blocked, &key, &fields.seal(&key))
    }
}
