//! Who belongs to a room, and since which version (XEP-0045 §5.2, XEP-0463).
//!
//! A row belongs to an account and not to its name: it remembers the number of the account that its JID named when it was written.
//! When that account is gone, or there was none, whoever has the name later has nothing of it. A row that was written for nobody stays
//! in the list all the same, so that the list does not tell who has an account.

use super::record::Room;
use super::{RoomsView, decode_named};
use crate::actor::ActorId;
use crate::directory::codec::{Decoder, Encoder};
use crate::directory::error::DirectoryError;
use crate::directory::key::{CONTACT_BYTES_MAX, Key, text_of};
use crate::directory::tables::{Table, damaged};
use crate::directory::version::RosterVersion;

/// Names one state of a room's affiliations, also after a backup is served: a count of changes, and in which opening of the
/// directory the last one was made.
pub type AffiliationVersion = RosterVersion;

/// What somebody is to a room. In the order of what they may do.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
#[repr(u8)]
pub enum Affiliation {
    /// Banned.
    Outcast = 0,
    /// Nothing.
    #[default]
    None = 1,
    /// May enter a room for members, and has voice in a moderated one.
    Member = 2,
    /// Says who is a member and who is banned.
    Admin = 3,
    /// Says who is an admin, configures and destroys.
    Owner = 4,
}

impl Affiliation {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Outcast, Self::None, Self::Member, Self::Admin, Self::Owner];

    pub(super) fn from_byte(byte: u8) -> Result<Self, &'static str> {
        Self::ALL.get(usize::from(byte)).copied().ok_or("an unknown affiliation")
    }
}

/// Hats that one may have in a room.
pub const HATS_MAX: usize = 8;

/// Most bytes of each text of a hat.
pub const HAT_TEXT_BYTES_MAX: usize = 255;

/// What an operator says of somebody who belongs to a room (XEP-0317).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hat {
    /// What it is, for programs.
    pub uri: String,
    /// What it is, for people.
    pub title: String,
}

/// Somebody who belongs to a room, or is banned from it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Affiliate {
    /// Bare JID.
    pub jid: String,
    /// What it is to the room.
    pub affiliation: Affiliation,
    /// The nick that is reserved for it (§7.10); empty for none.
    pub nick: String,
    /// What was said when it became what it is; empty for nothing.
    pub reason: String,
    /// The account that the JID named when this was written; [`ActorId::NOBODY`] when there was none.
    pub account: ActorId,
    /// When somebody made it what it is, milliseconds since 1970; an heir keeps the time of what it was before.
    pub since_ms: u64,
    /// Number of the version at which this last changed.
    pub version: u64,
    /// What an operator says of it, in the order in which it was said; at most [`HATS_MAX`].
    pub hats: Vec<Hat>,
}

/// Somebody who has lost an affiliation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RemovedAffiliate {
    /// Bare JID.
    pub jid: String,
    /// Number of the version at which that was.
    pub version: u64,
}

/// What has changed in the affiliations of a room since a version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AffiliationChanges {
    /// The version is unknown or too old: send everything.
    Everything,
    /// What has become of whom, and who has lost the affiliation.
    Since(Vec<Affiliate>, Vec<RemovedAffiliate>),
}

/// The version of the first who belonged to a room: whoever has made it.
pub(super) const FIRST_VERSION: u64 = 1;

/// No flag is in use.
const NO_FLAGS: u8 = 0;

impl Affiliate {
    pub(super) fn encode(&self, key: &Key) -> Vec<u8> {
        let mut fields = Encoder::new(48 + self.jid.len() + self.nick.len() + self.reason.len());
        if key.is_hashed() {
            fields.text(self.jid.as_bytes());
        }
        fields.byte(self.affiliation as u8);
        fields.byte(NO_FLAGS);
        fields.number(self.account.raw());
        fields.number(self.since_ms);
        fields.number(self.version);
        fields.text(self.nick.as_bytes());
        fields.text(self.reason.as_bytes());
        fields.count(self.hats.len());
        for hat in &self.hats {
            fields.text(hat.uri.as_bytes());
            fields.text(hat.title.as_bytes());
        }
        fields.seal(key.bytes())
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let mut fields = Decoder::open(key, value)?;
        let jid = match text_of(key, 8)? {
            Some(jid) => jid,
            None => fields.text()?,
        };
        let affiliation = Affiliation::from_byte(fields.byte()?)?;
        if fields.byte()? != NO_FLAGS {
            return Err("unknown flags");
        }
        let account = ActorId::from_raw(fields.number()?);
        let (since_ms, version) = (fields.number()?, fields.number()?);
        let (nick, reason) = (fields.text()?.to_owned(), fields.text()?.to_owned());
        let mut hats = Vec::new();
        let count = fields.count()?;
        if count > HATS_MAX {
            return Err("more hats than one may have");
        }
        for _ in 0..count {
            hats.push(Hat { uri: fields.text()?.to_owned(), title: fields.text()?.to_owned() });
        }
        fields.close()?;
        let jid = jid.to_owned();
        Ok(Self { jid, affiliation, nick, reason, account, since_ms, version, hats })
    }
}

/// The version and the JID of a removal.
pub(super) fn decode_removal(key: &[u8], value: &[u8]) -> Result<RemovedAffiliate, &'static str> {
    let version = key.last_chunk::<8>().ok_or("the key is cut short")?;
    let mut fields = Decoder::open(key, value)?;
    let jid = fields.text()?.to_owned();
    fields.close()?;
    Ok(RemovedAffiliate { jid, version: u64::from_be_bytes(*version) })
}

pub(super) fn affiliate_key(room: ActorId, jid: &str) -> Option<Key> {
    Key::owned(room, jid, CONTACT_BYTES_MAX)
}

impl RoomsView<'_> {
    /// The row of a bare JID, whosever account it is by now.
    pub(super) fn row(&self, room: ActorId, jid: &str) -> Result<Option<Affiliate>, DirectoryError> {
        let Some(key) = affiliate_key(room, jid) else { return Ok(None) };
        let Some(value) = self.view.get(Table::RoomAffiliations, key.bytes())? else { return Ok(None) };
        let row = Affiliate::decode(key.bytes(), value);
        let row = row.map_err(damaged(Table::RoomAffiliations, key.bytes()))?;
        super::same_name(jid, &row.jid, Table::RoomAffiliations, &key)?;
        Ok(Some(row))
    }

    /// What a bare JID is to a room; `None`: nothing. `localpart` is that of the account it names, if it is one of this
    /// domain: a row that was written for another account of the name, or for none, counts for nothing.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn affiliate(
        &self,
        room: ActorId,
        jid: &str,
        localpart: Option<&str>,
    ) -> Result<Option<Affiliate>, DirectoryError> {
        let Some(row) = self.row(room, jid)? else { return Ok(None) };
        let named = match localpart {
            Some(local) => self.number_of(local)?,
            None => ActorId::NOBODY,
        };
        Ok(Some(row).filter(|row| row.account == named))
    }

    /// Whether an account owns the room.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn has_owner(&self, room: ActorId) -> Result<bool, DirectoryError> {
        self.has_account(room, Affiliation::Owner)
    }

    /// Whether no account belongs to the room.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn is_deserted(&self, room: ActorId) -> Result<bool, DirectoryError> {
        Ok(!self.has_account(room, Affiliation::Member)?)
    }

    /// Whether an account is at least this to the room.
    fn has_account(&self, room: ActorId, least: Affiliation) -> Result<bool, DirectoryError> {
        let mut is_found = false;
        self.each_affiliate(room, |affiliate| {
            is_found = affiliate.affiliation >= least && affiliate.account != ActorId::NOBODY;
            !is_found
        })?;
        Ok(is_found)
    }

    /// Goes through all who belong to a room or are banned from it, in the order of their addresses' bytes, as long as `f`
    /// wants more.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn each_affiliate(
        &self,
        room: ActorId,
        mut f: impl FnMut(Affiliate) -> bool,
    ) -> Result<(), DirectoryError> {
        for row in self.view.prefixed(Table::RoomAffiliations, &room.key())? {
            let (key, value) = row?;
            if !f(Affiliate::decode(key, value).map_err(damaged(Table::RoomAffiliations, key))?) {
                break;
            }
        }
        Ok(())
    }

    /// All who have this affiliation, in the order of their addresses' bytes.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn affiliates(
        &self,
        room: ActorId,
        affiliation: Affiliation,
    ) -> Result<Vec<Affiliate>, DirectoryError> {
        let mut found = Vec::new();
        self.each_affiliate(room, |affiliate| {
            if affiliate.affiliation == affiliation {
                found.push(affiliate);
            }
            true
        })?;
        Ok(found)
    }

    /// The bare JID for which a nick is reserved.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn nick_owner(&self, room: ActorId, nick: &str) -> Result<Option<String>, DirectoryError> {
        let Some(key) = super::change::nick_key(room, nick) else { return Ok(None) };
        let Some(value) = self.view.get(Table::RoomNicks, key.bytes())? else { return Ok(None) };
        let decoded = decode_named(key.bytes(), value, 8);
        let (found, jid) = decoded.map_err(damaged(Table::RoomNicks, key.bytes()))?;
        super::same_name(nick, found, Table::RoomNicks, &key)?;
        Ok(Some(jid.to_owned()))
    }

    /// What has changed in the affiliations of a room since a version (XEP-0463). Of a JID only the last change is told.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn changes_since(
        &self,
        room: &Room,
        version: AffiliationVersion,
    ) -> Result<AffiliationChanges, DirectoryError> {
        let is_own = version == AffiliationVersion::NEVER_CHANGED
            || room.history.version(version.number) == Some(version);
        if !is_own || !(room.floor..=room.version).contains(&version.number) {
            return Ok(AffiliationChanges::Everything);
        }
        let (mut changed, mut removed) = (Vec::new(), Vec::new());
        if version.number == room.version {
            return Ok(AffiliationChanges::Since(changed, removed));
        }
        self.each_affiliate(room.actor, |affiliate| {
            if affiliate.version > version.number {
                changed.push(affiliate);
            }
            true
        })?;
        for row in self.view.prefixed(Table::RoomRemovals, &room.actor.key())? {
            let (key, value) = row?;
            let removal = decode_removal(key, value).map_err(damaged(Table::RoomRemovals, key))?;
            if removal.version > version.number {
                removed.push(removal);
            }
        }
        Ok(AffiliationChanges::Since(changed, removed))
    }
}
