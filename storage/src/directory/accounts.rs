//! Accounts: a localpart, its number, its credentials.

use std::ops::Bound;

use zeroize::Zeroizing;

use crate::actor::{ActorId, COUNT_SHIFT};
use crate::credentials::{Credentials, Look};
use crate::jid::PART_BYTES_MAX;

use super::codec::{Decoder, Encoder};
use super::error::DirectoryError;
use super::key::{Key, size_error, text_of};
use super::tables::{Table, View, damaged};
use super::{Directory, WriteTransaction};

/// In `meta`: how many accounts were ever made.
pub(super) const KEY_LAST_ACCOUNT: &[u8] = b"last_account";

/// Accounts that can ever be made.
const COUNT_MAX: u64 = (1 << COUNT_SHIFT) - 1;

/// Tells the credentials of an account from those it had before or gets later. Says nothing about them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CredentialsStamp(u64);

impl CredentialsStamp {
    /// The stamp of credentials as they are stored.
    #[must_use]
    pub fn of(credentials: &Credentials) -> Self {
        Self::of_bytes(&credentials.encode())
    }

    /// One that [`CredentialsStamp::number`] gave.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// To keep it outside this program.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        let first = digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
        Self(u64::from_le_bytes(*first))
    }
}

/// An account as it lies in the map.
struct Record<'v> {
    id: ActorId,
    local: &'v str,
    credentials: &'v [u8],
}

impl<'v> Record<'v> {
    fn decode(key: &'v [u8], value: &'v [u8]) -> Result<Self, &'static str> {
        let mut fields = Decoder::open(key, value)?;
        let id = ActorId::from_raw(fields.number()?);
        let local = match text_of(key, 0)? {
            Some(local) => local,
            None => fields.text()?,
        };
        let credentials = fields.bytes()?;
        fields.close()?;
        Ok(Self { id, local, credentials })
    }

    fn encode(key: &Key, id: ActorId, local: &str, credentials: &Credentials) -> Zeroizing<Vec<u8>> {
        let credentials = credentials.encode();
        let long = if key.is_hashed() { 4 + local.len() } else { 0 };
        let mut fields = Encoder::new(8 + long + 4 + credentials.len());
        fields.number(id.raw());
        if key.is_hashed() {
            fields.text(local.as_bytes());
        }
        fields.text(&credentials);
        Zeroizing::new(fields.seal(key.bytes()))
    }
}

/// How some accounts look in a SCRAM challenge: see [`Directory::looks`].
#[derive(Clone, Debug)]
pub struct Looks {
    /// One for each account.
    pub seen: Vec<Look>,
    /// Where to go on; `None`: there was no account.
    pub last: Option<Vec<u8>>,
}

/// The account's actor in a row of the table.
pub(super) fn actor_of(key: &[u8], value: &[u8]) -> Result<ActorId, &'static str> {
    Record::decode(key, value).map(|record| record.id)
}

/// The actor of the account that is made as the `count`th: see [`ActorId`].
fn made(count: u64, local: &str, credentials: &Credentials) -> Result<ActorId, DirectoryError> {
    if count > COUNT_MAX {
        return Err(DirectoryError::Size {
            what: "the count of all accounts ever made",
            bytes: usize::try_from(count).unwrap_or(usize::MAX),
            max: COUNT_MAX as usize,
        });
    }
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(&count.to_le_bytes());
    context.update(&(local.len() as u64).to_le_bytes());
    context.update(local.as_bytes());
    context.update(&credentials.encode());
    let digest = context.finish();
    let tag = u32::from_le_bytes(*digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes"));
    Ok(ActorId::user(count << COUNT_SHIFT | u64::from(tag) & COUNT_MAX))
}

impl View<'_> {
    fn account_record<'k>(&'k self, key: &'k Key, local: &str) -> Result<Option<Record<'k>>, DirectoryError> {
        let Some(value) = self.get(Table::Accounts, key.bytes())? else { return Ok(None) };
        let record = Record::decode(key.bytes(), value).map_err(damaged(Table::Accounts, key.bytes()))?;
        if record.local == local { Ok(Some(record)) } else { Err(other_text(Table::Accounts, key)) }
    }

    pub(super) fn account(&self, local: &str) -> Result<Option<ActorId>, DirectoryError> {
        let Some(key) = Key::account(local) else { return Ok(None) };
        Ok(self.account_record(&key, local)?.map(|record| record.id))
    }

    pub(super) fn credentials(&self, local: &str) -> Result<Option<Credentials>, DirectoryError> {
        let Some(key) = Key::account(local) else { return Ok(None) };
        let Some(record) = self.account_record(&key, local)? else { return Ok(None) };
        match Credentials::decode(record.credentials) {
            Ok(credentials) => Ok(Some(credentials)),
            Err(_) => Err(damaged(Table::Accounts, key.bytes())("credentials that do not read back")),
        }
    }

    fn account_login(&self, local: &str) -> Result<Option<(ActorId, CredentialsStamp)>, DirectoryError> {
        let Some(key) = Key::account(local) else { return Ok(None) };
        let record = self.account_record(&key, local)?;
        Ok(record.map(|record| (record.id, CredentialsStamp::of_bytes(record.credentials))))
    }

    fn accounts(&self, after: Option<&str>, max: usize) -> Result<Vec<String>, DirectoryError> {
        let after = after.and_then(Key::account);
        let from = after.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(key.bytes()));
        let rows = self
            .inner
            .tables
            .of(Table::Accounts)
            .range(self.txn, &(from, Bound::Unbounded))
            .map_err(|error| self.inner.failed("read", error))?;
        let mut found = Vec::new();
        for row in rows.take(max) {
            let (key, value) = row.map_err(|error| self.inner.failed("read", error))?;
            let record = Record::decode(key, value).map_err(damaged(Table::Accounts, key))?;
            found.push(record.local.to_owned());
        }
        Ok(found)
    }

    fn looks(&self, after: &[u8], max: usize) -> Result<Looks, DirectoryError> {
        let from = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
        let table = self.inner.tables.of(Table::Accounts);
        let rows = table.range(self.txn, &(from, Bound::Unbounded));
        let rows = rows.map_err(|error| self.inner.failed("read", error))?;
        let mut page = Looks { seen: Vec::new(), last: None };
        for row in rows.take(max) {
            let (key, value) = row.map_err(|error| self.inner.failed("read", error))?;
            page.last = Some(key.to_owned());
            // What is damaged is reported where somebody needs it.
            let credentials =
                Record::decode(key, value).map(|record| Credentials::decode(record.credentials));
            page.seen.extend(credentials.into_iter().flatten().map(|credentials| credentials.look()));
        }
        Ok(page)
    }

    fn account_count(&self) -> Result<u64, DirectoryError> {
        let table = self.inner.tables.of(Table::Accounts);
        table.len(self.txn).map_err(|error| self.inner.failed("read", error))
    }

    /// A number in `meta`; 0 when it was never set.
    pub(super) fn counter(&self, key: &'static [u8]) -> Result<u64, DirectoryError> {
        let Some(value) = self.get(Table::Meta, key)? else { return Ok(0) };
        let decoded = Decoder::open(key, value).and_then(|mut fields| {
            let number = fields.number()?;
            fields.close().map(|()| number)
        });
        decoded.map_err(damaged(Table::Meta, key))
    }
}

/// Two texts with one SHA-256 are not to be expected: one of the two has been damaged.
pub(super) fn other_text(table: Table, key: &Key) -> DirectoryError {
    damaged(table, key.bytes())("the text in the value is not the one the key was made of")
}

impl Directory {
    /// The SCRAM keys of an account.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn credentials(&self, local: &str) -> Result<Option<Credentials>, DirectoryError> {
        self.read(|view| view.credentials(local))
    }

    /// Whether there is such an account.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn account_exists(&self, local: &str) -> Result<bool, DirectoryError> {
        self.read(|view| Ok(view.account(local)?.is_some()))
    }

    /// The account's number; `None`: there is no such account.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn account_id(&self, local: &str) -> Result<Option<ActorId>, DirectoryError> {
        self.read(|view| view.account(local))
    }

    /// The account's number, and the stamp of its credentials; `None`: there is no such account.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn account_login(&self, local: &str) -> Result<Option<(ActorId, CredentialsStamp)>, DirectoryError> {
        self.read(|view| view.account_login(local))
    }

    /// Accounts after `after` in order of their localparts' bytes, at most `max`. Localparts that agree in their
    /// first 479 bytes are in an order of their own, the same each time.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn accounts(&self, after: Option<&str>, max: usize) -> Result<Vec<String>, DirectoryError> {
        self.read(|view| view.accounts(after, max))
    }

    /// How accounts look in a SCRAM challenge, at most `max` of them, behind `after`: empty at first, then what the last
    /// page ended with.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn looks(&self, after: &[u8], max: usize) -> Result<Looks, DirectoryError> {
        self.read(|view| view.looks(after, max))
    }

    /// Number of accounts. Costs the same for any number.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn account_count(&self) -> Result<u64, DirectoryError> {
        self.read(|view| view.account_count())
    }
}

impl WriteTransaction<'_> {
    /// The SCRAM keys of an account.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn credentials(&self, local: &str) -> Result<Option<Credentials>, DirectoryError> {
        self.view().credentials(local)
    }

    /// Whether there is such an account.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn account_exists(&self, local: &str) -> Result<bool, DirectoryError> {
        Ok(self.view().account(local)?.is_some())
    }

    /// The account's number; `None`: there is no such account. Asked before [`WriteTransaction::delete_account`],
    /// it says whose messages are to be purged from the log.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn account_id(&self, local: &str) -> Result<Option<ActorId>, DirectoryError> {
        self.view().account(local)
    }

    /// The account's number, and the stamp of its credentials; `None`: there is no such account.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn account_login(&self, local: &str) -> Result<Option<(ActorId, CredentialsStamp)>, DirectoryError> {
        self.view().account_login(local)
    }

    /// Makes an account. `local` must be normalised (RFC 7622 §3.3). `false`: there is such an account already;
    /// nothing was written.
    ///
    /// # Errors
    /// [`DirectoryError::Size`] for what can be no localpart; the directory is damaged or cannot be written.
    pub fn create_account(&mut self, local: &str, credentials: &Credentials) -> Result<bool, DirectoryError> {
        let key = Key::account(local).ok_or_else(|| size_error("the localpart", local, PART_BYTES_MAX))?;
        if self.view().account(local)?.is_some() {
            return Ok(false);
        }
        let count = self.view().counter(KEY_LAST_ACCOUNT)? + 1;
        let id = made(count, local, credentials)?;
        self.put_counter(KEY_LAST_ACCOUNT, count)?;
        self.put(Table::Accounts, key.bytes(), &Record::encode(&key, id, local, credentials))?;
        Ok(true)
    }

    /// Gives an account other credentials. `false`: there is no such account; nothing was written.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn set_credentials(
        &mut self,
        local: &str,
        credentials: &Credentials,
    ) -> Result<bool, DirectoryError> {
        let Some(key) = Key::account(local) else { return Ok(false) };
        let Some(id) = self.view().account(local)? else { return Ok(false) };
        self.put(Table::Accounts, key.bytes(), &Record::encode(&key, id, local, credentials))?;
        Ok(true)
    }

    /// Deletes the account and everything of it (not the items in the rosters of others: see
    /// [`end_subscriptions`](WriteTransaction::end_subscriptions)). `false`: none such. Its rooms lose it, as
    /// [`leave_rooms`](WriteTransaction::leave_rooms) says, which is to be called before by those who have to tell of it. Nodes
    /// of the service lose it, too.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn delete_account(&mut self, local: &str) -> Result<bool, DirectoryError> {
        let Some(key) = Key::account(local) else { return Ok(false) };
        let Some(id) = self.view().account(local)? else { return Ok(false) };
        self.retire_roster(id)?;
        self.purge_archive(id)?;
        self.leave_rooms(id)?;
        self.leave_nodes(id)?;
        self.remove_all_push(id)?;
        self.remove_uploads_of(id)?;
        for table in Table::OF_AN_ACCOUNT {
            self.delete_all(table, id)?;
        }
        self.delete(Table::Accounts, key.bytes())?;
        Ok(true)
    }

    /// The account to write for.
    pub(super) fn account(&self, local: &str) -> Result<ActorId, DirectoryError> {
        self.view().account(local)?.ok_or_else(|| DirectoryError::NoAccount { local: local.to_owned() })
    }

    pub(super) fn put_counter(&mut self, key: &'static [u8], value: u64) -> Result<(), DirectoryError> {
        let mut fields = Encoder::new(8);
        fields.number(value);
        self.put(Table::Meta, key, &fields.seal(key))
    }
}
