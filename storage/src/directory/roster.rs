//! Rosters and their versions (RFC 6121 §2.6).
//!
//! A roster's version counts its changes; outside this module a number goes with the incarnation in which it was given
//! (see `version`). An item knows the version at which it last changed; of the items removed
//! the last [`REMOVALS_MAX`] are remembered with theirs. So "what has changed since version v" can be told unless a
//! removal after v has been forgotten; `floor` in the roster's state is the version before which that may be so.
//!
//! An account that is deleted and made again must not reuse versions, or a client would take the new roster for one
//! it has kept. `meta` therefore has the highest version that any deleted account's roster has reached, and a
//! roster's first change goes on from there.

use crate::actor::ActorId;

use super::accounts::other_text;
use super::codec::{Decoder, Encoder};
use super::error::DirectoryError;
use super::item::{Item, ItemRef, ItemRow, Subscription, decode_version};
use super::key::{CONTACT_BYTES_MAX, Key, size_error};
use super::tables::{Table, View, damaged};
use super::transaction::check_size;
use super::version::{History, RosterVersion};
use super::{Directory, WriteTransaction};

/// Removals that are remembered for each roster.
pub const REMOVALS_MAX: usize = 128;

/// In `meta`: the highest version of a deleted account's roster.
const KEY_RETIRED_VERSION: &[u8] = b"retired_roster_version";

/// What has changed in a roster since a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RosterChanges {
    /// The version is unknown or too old: send everything.
    Everything,
    /// Items changed since, in the order of their versions; a removed one is `(contact, version, None)`.
    Since(Vec<(String, RosterVersion, Option<Item>)>),
}

/// What is kept once for each roster.
#[derive(Clone, Default)]
struct State {
    version: u64,
    /// Of older versions the removals since are not known.
    floor: u64,
    items: u64,
    removals: u64,
    history: History,
}

impl State {
    fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let mut fields = Decoder::open(key, value)?;
        let mut state = Self {
            version: fields.number()?,
            floor: fields.number()?,
            items: fields.number()?,
            removals: fields.number()?,
            history: History::default(),
        };
        let mut history = Vec::with_capacity((fields.remaining() / 16).max(1));
        if fields.remaining() == 0 {
            // Written before there were incarnations.
            history.push((0, 0));
        }
        while fields.remaining() > 0 {
            history.push((fields.number()?, fields.number()?));
        }
        state.history = History(history.into_boxed_slice());
        fields.close()?;
        Ok(state)
    }

    fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut fields = Encoder::new(32 + 16 * self.history.0.len());
        for number in [self.version, self.floor, self.items, self.removals] {
            fields.number(number);
        }
        for (incarnation, first) in &self.history.0 {
            fields.number(*incarnation);
            fields.number(*first);
        }
        fields.seal(key)
    }

    /// The version with a number that is not older than this knows.
    fn version(&self, number: u64) -> RosterVersion {
        self.history.version(number).unwrap_or_default()
    }

    /// Whether a version names a state of this roster since which all changes are known.
    fn knows(&self, version: RosterVersion) -> bool {
        let is_own =
            version == RosterVersion::NEVER_CHANGED || self.history.version(version.number) == Some(version);
        is_own && (self.floor..=self.version).contains(&version.number)
    }
}

/// The version and the contact of a removal.
fn decode_removal<'v>(key: &[u8], value: &'v [u8]) -> Result<(u64, &'v str), &'static str> {
    let version = key.last_chunk::<8>().ok_or("the key is cut short")?;
    let mut fields = Decoder::open(key, value)?;
    let contact = fields.text()?;
    fields.close()?;
    Ok((u64::from_be_bytes(*version), contact))
}

impl<'t> View<'t> {
    /// `None` for a roster that was never changed.
    fn roster_state(&self, account: ActorId) -> Result<Option<State>, DirectoryError> {
        let key = account.key();
        match self.get(Table::RosterStates, &key)? {
            Some(value) => State::decode(&key, value).map(Some).map_err(damaged(Table::RosterStates, &key)),
            None => Ok(None),
        }
    }

    fn roster_version(&self, local: &str) -> Result<RosterVersion, DirectoryError> {
        let Some(account) = self.account(local)? else { return Ok(RosterVersion::NEVER_CHANGED) };
        let state = self.roster_state(account)?;
        Ok(state.map_or(RosterVersion::NEVER_CHANGED, |state| state.version(state.version)))
    }

    fn roster(&self, local: &str, mut f: impl FnMut(ItemRef<'_>)) -> Result<(), DirectoryError> {
        let Some(account) = self.account(local)? else { return Ok(()) };
        for row in self.prefixed(Table::Rosters, &account.key())? {
            let (key, value) = row?;
            f(ItemRef::decode(key, value).map_err(damaged(Table::Rosters, key))?);
        }
        Ok(())
    }

    fn roster_rows(&self, local: &str, mut f: impl FnMut(ItemRow<'_>)) -> Result<(), DirectoryError> {
        let Some(account) = self.account(local)? else { return Ok(()) };
        for row in self.prefixed(Table::Rosters, &account.key())? {
            let (key, value) = row?;
            f(ItemRow::decode(key, value).map_err(damaged(Table::Rosters, key))?);
        }
        Ok(())
    }

    fn roster_items(&self, local: &str) -> Result<Vec<Item>, DirectoryError> {
        let Some(account) = self.account(local)? else { return Ok(Vec::new()) };
        self.prefixed(Table::Rosters, &account.key())?
            .map(|row| {
                let (key, value) = row?;
                Item::decode(key, value).map_err(damaged(Table::Rosters, key))
            })
            .collect()
    }

    fn roster_item(&self, local: &str, contact: &str) -> Result<Option<Item>, DirectoryError> {
        match self.account(local)? {
            Some(account) => self.item_of(account, contact),
            None => Ok(None),
        }
    }

    fn item_of(&self, account: ActorId, contact: &str) -> Result<Option<Item>, DirectoryError> {
        let Some(key) = Key::owned(account, contact, CONTACT_BYTES_MAX) else { return Ok(None) };
        let Some(value) = self.get(Table::Rosters, key.bytes())? else { return Ok(None) };
        let item = Item::decode(key.bytes(), value).map_err(damaged(Table::Rosters, key.bytes()))?;
        if item.contact == contact { Ok(Some(item)) } else { Err(other_text(Table::Rosters, &key)) }
    }

    fn removals(
        &self,
        account: ActorId,
    ) -> Result<impl Iterator<Item = Result<(u64, &'t str), DirectoryError>> + use<'t>, DirectoryError> {
        Ok(self.prefixed(Table::Removals, &account.key())?.map(|row| {
            let (key, value) = row?;
            decode_removal(key, value).map_err(damaged(Table::Removals, key))
        }))
    }

    fn roster_since(&self, local: &str, version: RosterVersion) -> Result<RosterChanges, DirectoryError> {
        let state = match self.account(local)? {
            Some(account) => self.roster_state(account)?.map(|state| (account, state)),
            None => None,
        };
        let Some((account, state)) = state else {
            let unchanged = RosterChanges::Since(Vec::new());
            let is_known = version == RosterVersion::NEVER_CHANGED;
            return Ok(if is_known { unchanged } else { RosterChanges::Everything });
        };
        if !state.knows(version) {
            return Ok(RosterChanges::Everything);
        }
        let version = version.number;
        if version == state.version {
            return Ok(RosterChanges::Since(Vec::new()));
        }
        let mut changes = Vec::new();
        for row in self.prefixed(Table::Rosters, &account.key())? {
            let (key, value) = row?;
            if decode_version(key, value).map_err(damaged(Table::Rosters, key))? > version {
                let item = Item::decode(key, value).map_err(damaged(Table::Rosters, key))?;
                changes.push((item.contact.clone(), state.version(item.version), Some(item)));
            }
        }
        for removal in self.removals(account)? {
            let (at, contact) = removal?;
            if at > version {
                changes.push((contact.to_owned(), state.version(at), None));
            }
        }
        changes.sort_unstable_by_key(|(_, at, _)| at.number);
        Ok(RosterChanges::Since(changes))
    }
}

impl Directory {
    /// Calls `f` with every item of a roster, in place. An account that does not exist has an empty roster.
    ///
    /// `f` must be short: while it runs, the pages it reads cannot be used again by the writer.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged; `f` may have seen some of the items then.
    pub fn roster(&self, local: &str, f: impl FnMut(ItemRef<'_>)) -> Result<(), DirectoryError> {
        self.read(|view| view.roster(local, f))
    }

    /// As [`Directory::roster`], with all that the user sees of an item.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn roster_rows(&self, local: &str, f: impl FnMut(ItemRow<'_>)) -> Result<(), DirectoryError> {
        self.read(|view| view.roster_rows(local, f))
    }

    /// All items of a roster, in order of their contacts' bytes.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn roster_items(&self, local: &str) -> Result<Vec<Item>, DirectoryError> {
        self.read(|view| view.roster_items(local))
    }

    /// One item of a roster.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn roster_item(&self, local: &str, contact: &str) -> Result<Option<Item>, DirectoryError> {
        self.read(|view| view.roster_item(local, contact))
    }

    /// The version of a roster: [`RosterVersion::NEVER_CHANGED`] for one that was never changed.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn roster_version(&self, local: &str) -> Result<RosterVersion, DirectoryError> {
        self.read(|view| view.roster_version(local))
    }

    /// What has changed in a roster since a version (RFC 6121 §2.6.3). Of a contact only the last change is told.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn roster_since(&self, local: &str, version: RosterVersion) -> Result<RosterChanges, DirectoryError> {
        self.read(|view| view.roster_since(local, version))
    }
}

impl WriteTransaction<'_> {
    /// All items of a roster, in order of their contacts' bytes.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn roster_items(&self, local: &str) -> Result<Vec<Item>, DirectoryError> {
        self.view().roster_items(local)
    }

    /// Number of items in a roster, those that are not listed included. Costs the same for any number.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn roster_len(&self, local: &str) -> Result<usize, DirectoryError> {
        let Some(account) = self.view().account(local)? else { return Ok(0) };
        let items = self.view().roster_state(account)?.map_or(0, |state| state.items);
        usize::try_from(items)
            .map_err(|_| damaged(Table::RosterStates, &account.key())("an impossible number of items"))
    }

    /// One item of a roster.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn roster_item(&self, local: &str, contact: &str) -> Result<Option<Item>, DirectoryError> {
        self.view().roster_item(local, contact)
    }

    /// The version of a roster: [`RosterVersion::NEVER_CHANGED`] for one that was never changed.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn roster_version(&self, local: &str) -> Result<RosterVersion, DirectoryError> {
        self.view().roster_version(local)
    }

    /// Writes the item under the roster's next version, which is returned (and is the item's version from then on).
    ///
    /// # Errors
    /// [`DirectoryError::NoAccount`]; [`DirectoryError::Size`] for a contact that can be no JID or an item of more
    /// than [`VALUE_BYTES_MAX`](super::VALUE_BYTES_MAX); the directory is damaged or cannot be written.
    pub fn put_roster_item(&mut self, local: &str, item: &Item) -> Result<u64, DirectoryError> {
        let account = self.account(local)?;
        let key = Key::owned(account, &item.contact, CONTACT_BYTES_MAX)
            .ok_or_else(|| size_error("the contact", &item.contact, CONTACT_BYTES_MAX))?;
        check_size("the roster item", item.size())?;
        let is_new = self.view().item_of(account, &item.contact)?.is_none();
        let mut state = self.next_state(account)?;
        if is_new {
            state.items += 1;
            self.forget_removal(account, &item.contact, &mut state)?;
        }
        self.put(Table::Rosters, key.bytes(), &item.encode(&key, state.version))?;
        self.put_state(account, &state)?;
        Ok(state.version)
    }

    /// Removes the item, remembering the removal for [`Directory::roster_since`]; the roster's new version, or
    /// `None` when there was no such item.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn remove_roster_item(&mut self, local: &str, contact: &str) -> Result<Option<u64>, DirectoryError> {
        let Some(account) = self.view().account(local)? else { return Ok(None) };
        let Some(key) = Key::owned(account, contact, CONTACT_BYTES_MAX) else { return Ok(None) };
        if self.view().item_of(account, contact)?.is_none() {
            return Ok(None);
        }
        let mut state = self.next_state(account)?;
        self.delete(Table::Rosters, key.bytes())?;
        state.items = state.items.saturating_sub(1);
        if state.removals >= REMOVALS_MAX as u64 {
            self.forget_oldest_removal(account, &mut state)?;
        }
        let key = Key::removal(account, state.version);
        let mut fields = Encoder::new(4 + contact.len());
        fields.text(contact.as_bytes());
        self.put(Table::Removals, &key, &fields.seal(&key))?;
        state.removals += 1;
        self.put_state(account, &state)?;
        Ok(Some(state.version))
    }

    /// Ends in the rosters of an account's contacts (`contact@domain`) what is between them and it, as if it had removed
    /// each of them (RFC 6121 §2.5.2): nobody sees anybody, and no request waits. For an account that is to be deleted
    /// while no server runs that could tell them. Returns how many items have changed.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn end_subscriptions(&mut self, local: &str, domain: &str) -> Result<usize, DirectoryError> {
        let own = format!("{local}@{domain}");
        let mut count = 0;
        for entry in self.roster_items(local)? {
            let Some((contact, _)) = entry.contact.split_once('@').filter(|(_, at)| *at == domain) else {
                continue;
            };
            let Some(mut item) = self.roster_item(contact, &own)? else { continue };
            let before = (item.subscription, item.ask, item.pending_in.is_some());
            if before == (Subscription::None, false, false) {
                continue;
            }
            item.subscription = Subscription::None;
            item.ask = false;
            item.pending_in = None;
            if item.listed || item.approved {
                self.put_roster_item(contact, &item)?;
            } else {
                self.remove_roster_item(contact, &own)?;
            }
            count += 1;
        }
        Ok(count)
    }

    /// The state with the next version.
    fn next_state(&self, account: ActorId) -> Result<State, DirectoryError> {
        let mut state = match self.view().roster_state(account)? {
            Some(state) => state,
            None => {
                let retired = self.view().counter(KEY_RETIRED_VERSION)?;
                State { version: retired, floor: retired, ..State::default() }
            }
        };
        state.version += 1;
        state.history.note(RosterVersion { number: state.version, incarnation: self.inner.incarnation });
        Ok(state)
    }

    fn put_state(&mut self, account: ActorId, state: &State) -> Result<(), DirectoryError> {
        let key = account.key();
        self.put(Table::RosterStates, &key, &state.encode(&key))
    }

    /// A contact that is back in the roster is no longer removed.
    fn forget_removal(
        &mut self,
        account: ActorId,
        contact: &str,
        state: &mut State,
    ) -> Result<(), DirectoryError> {
        let mut at = None;
        for removal in self.view().removals(account)? {
            let (version, removed) = removal?;
            if removed == contact {
                at = Some(version);
            }
        }
        if let Some(version) = at {
            self.delete(Table::Removals, &Key::removal(account, version))?;
            state.removals = state.removals.saturating_sub(1);
        }
        Ok(())
    }

    fn forget_oldest_removal(&mut self, account: ActorId, state: &mut State) -> Result<(), DirectoryError> {
        let oldest = self.view().removals(account)?.next().transpose()?.map(|(version, _)| version);
        if let Some(version) = oldest {
            self.delete(Table::Removals, &Key::removal(account, version))?;
            state.removals = state.removals.saturating_sub(1);
            // A client with this version knows of the removal; one with an older version may not.
            state.floor = state.floor.max(version);
        }
        Ok(())
    }

    /// Keeps the versions of a roster that is about to be deleted from being used again.
    pub(super) fn retire_roster(&mut self, account: ActorId) -> Result<(), DirectoryError> {
        let Some(state) = self.view().roster_state(account)? else { return Ok(()) };
        if state.version > self.view().counter(KEY_RETIRED_VERSION)? {
            self.put_counter(KEY_RETIRED_VERSION, state.version)?;
        }
        Ok(())
    }
}
