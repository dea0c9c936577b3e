//! Rooms (XEP-0045): what is kept of them, and who belongs to them.
//!
//! ```text
//! rooms               name                  the room: its number, configuration, subject, counts
//! room_names          room                  its name
//! room_affiliations   room, bare JID        what somebody is to the room
//! room_nicks          room, nick            whose it is
//! room_removals       room, version         who has lost an affiliation then
//! room_links          room, hash of a token link that makes members
//! rooms_of_accounts   account, room         what the account is to the room
//! rooms_made          account               how many rooms it has made and owned ever since
//! rooms_public        name                  the title, for the list of public rooms
//! ```
//! A room is an actor with a number that no other room ever had: what lies under it, its archive included, goes with it, and
//! a new room of its name begins empty. The list of affiliations is the truth about who belongs to a room; who is in it at
//! the moment is not written down. A change of affiliation keeps all tables in step, in one transaction: an account that is
//! affiliated has a row in `rooms_of_accounts`, so that its removal finds its rooms and a limit on them costs one look.
//!
//! | module | what |
//! |---|---|
//! | here | looking: [`RoomsView`] |
//! | [`config`] | what a room can be configured to |
//! | [`record`] | a room: making, configuring, destroying it |
//! | [`affiliations`] | who belongs to it, and since which version (XEP-0463) |
//! | [`change`] | changing that; reserved nicks; the end of an account |
//! | [`links`] | links that make members |
//! | [`made`] | how many rooms an account has made |
//! | [`rare_text`] | a text that most rooms do not have |

mod affiliations;
mod change;
mod config;
mod links;
mod made;
mod rare_text;
mod record;

pub use affiliations::{
    Affiliate, Affiliation, AffiliationChanges, AffiliationVersion, HAT_TEXT_BYTES_MAX, HATS_MAX, Hat,
    RemovedAffiliate,
};
pub use change::{AffiliationChange, Changed, LeftRoom, NICK_BYTES_MAX};
pub use config::{PrivateMessages, RoleSet, RoomConfig, RoomFlags};
pub use links::{LinkHash, RoomLink};
pub use rare_text::RareText;
pub use record::{NewRoom, REMOVALS_MAX, Room, RoomCounts, Subject};

use super::accounts::other_text;
use super::codec::{Decoder, Encoder};
use super::error::DirectoryError;
use super::key::{Key, text_of};
use super::tables::{Table, View, damaged};
use super::{Directory, WriteTransaction};
use crate::actor::ActorId;

/// The rooms in one state of the directory.
#[derive(Clone, Copy)]
pub struct RoomsView<'t> {
    view: View<'t>,
}

impl std::fmt::Debug for RoomsView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoomsView").finish_non_exhaustive()
    }
}

/// A room in the list of public rooms.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicRoom {
    /// Localpart of its address.
    pub name: String,
    /// Title, for people; empty for none.
    pub title: String,
}

/// A room to which an account is affiliated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoomOfAccount {
    /// The room.
    pub room: ActorId,
    /// Localpart of its address.
    pub name: String,
    /// What the account is to it.
    pub affiliation: Affiliation,
    /// The bare JID under which it is that.
    pub jid: String,
}

/// The key of what an account is to a room.
fn account_key(account: ActorId, room: ActorId) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&account.key());
    key[8..].copy_from_slice(&room.key());
    key
}

/// A text under a key that may have only its hash, and then another one.
fn encode_named(key: &Key, name: &str, text: &str) -> Vec<u8> {
    let mut fields = Encoder::new(8 + name.len() + text.len());
    if key.is_hashed() {
        fields.text(name.as_bytes());
    }
    fields.text(text.as_bytes());
    fields.seal(key.bytes())
}

/// What [`encode_named`] has written under a key whose text begins after `prefix` bytes.
fn decode_named<'v>(
    key: &'v [u8],
    value: &'v [u8],
    prefix: usize,
) -> Result<(&'v str, &'v str), &'static str> {
    let mut fields = Decoder::open(key, value)?;
    let name = match text_of(key, prefix)? {
        Some(name) => name,
        None => fields.text()?,
    };
    let text = fields.text()?;
    fields.close()?;
    Ok((name, text))
}

impl RoomsView<'_> {
    /// The name of a room by its number; `None`: there is no such room (any more).
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn name(&self, room: ActorId) -> Result<Option<String>, DirectoryError> {
        let key = room.key();
        let Some(value) = self.view.get(Table::RoomNames, &key)? else { return Ok(None) };
        let decoded = Decoder::open(&key, value).and_then(|mut fields| {
            let name = fields.text()?.to_owned();
            fields.close().map(|()| name)
        });
        decoded.map(Some).map_err(damaged(Table::RoomNames, &key))
    }

    /// Rooms after `after` in the order of their names' bytes, at most `max`: all there are, for the operator.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn page(&self, after: Option<&str>, max: usize) -> Result<Vec<Room>, DirectoryError> {
        let mut rooms = Vec::new();
        for row in self.view.after(Table::Rooms, after.and_then(Key::account).as_ref())?.take(max) {
            let (key, value) = row?;
            rooms.push(Room::decode(key, value).map_err(damaged(Table::Rooms, key))?);
        }
        Ok(rooms)
    }

    /// Public rooms after `after` in the order of their names' bytes, at most `max`. Hidden rooms cost nothing.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn public(&self, after: Option<&str>, max: usize) -> Result<Vec<PublicRoom>, DirectoryError> {
        let mut rooms = Vec::new();
        for row in self.view.after(Table::RoomsPublic, after.and_then(Key::account).as_ref())?.take(max) {
            let (key, value) = row?;
            let (name, title) = decode_named(key, value, 0).map_err(damaged(Table::RoomsPublic, key))?;
            rooms.push(PublicRoom { name: name.to_owned(), title: title.to_owned() });
        }
        Ok(rooms)
    }

    /// How many rooms there are, and how many of them are public.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn counts(&self) -> Result<(u64, u64), DirectoryError> {
        Ok((self.view.len(Table::Rooms)?, self.view.len(Table::RoomsPublic)?))
    }

    /// The rooms to which an account is affiliated, bans included, at most `max`, those made first before others.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn of_account(&self, account: ActorId, max: usize) -> Result<Vec<RoomOfAccount>, DirectoryError> {
        let mut rooms = Vec::new();
        for row in self.view.prefixed(Table::RoomsOfAccounts, &account.key())?.take(max) {
            let (key, value) = row?;
            let decoded = decode_of_account(key, value);
            let (room, affiliation, jid) = decoded.map_err(damaged(Table::RoomsOfAccounts, key))?;
            let name = self.name(room)?;
            let name =
                name.ok_or("a room that is not there").map_err(damaged(Table::RoomsOfAccounts, key))?;
            rooms.push(RoomOfAccount { room, name, affiliation, jid: jid.to_owned() });
        }
        Ok(rooms)
    }

    /// The number of an account; [`ActorId::NOBODY`] for none.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn number_of(&self, localpart: &str) -> Result<ActorId, DirectoryError> {
        Ok(self.view.account(localpart)?.unwrap_or(ActorId::NOBODY))
    }
}

/// What an account is to a room, for a row of [`Table::RoomsOfAccounts`].
fn encode_of_account(key: &[u8], affiliation: Affiliation, jid: &str) -> Vec<u8> {
    let mut fields = Encoder::new(5 + jid.len());
    fields.byte(affiliation as u8);
    fields.text(jid.as_bytes());
    fields.seal(key)
}

fn decode_of_account<'v>(
    key: &[u8],
    value: &'v [u8],
) -> Result<(ActorId, Affiliation, &'v str), &'static str> {
    let room = key.get(8..).and_then(|room| <[u8; 8]>::try_from(room).ok());
    let room = ActorId::from_raw(u64::from_be_bytes(room.ok_or("the key is no room's of an account")?));
    let mut fields = Decoder::open(key, value)?;
    let (affiliation, jid) = (Affiliation::from_byte(fields.byte()?)?, fields.text()?);
    fields.close()?;
    Ok((room, affiliation, jid))
}

impl Directory {
    /// Looks at the rooms.
    ///
    /// # Errors
    /// Those of `look`; the directory cannot be read or is damaged.
    pub fn rooms<T>(
        &self,
        look: impl FnOnce(RoomsView<'_>) -> Result<T, DirectoryError>,
    ) -> Result<T, DirectoryError> {
        self.read(|view| look(RoomsView { view }))
    }

    /// A room by its name.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn room(&self, name: &str) -> Result<Option<Room>, DirectoryError> {
        self.rooms(|rooms| rooms.room(name))
    }
}

impl WriteTransaction<'_> {
    /// The rooms, with what has been written so far.
    #[must_use]
    pub fn rooms(&self) -> RoomsView<'_> {
        RoomsView { view: self.view() }
    }
}

/// The value under a name that was found must be that name's.
fn same_name(name: &str, found: &str, table: Table, key: &Key) -> Result<(), DirectoryError> {
    if name == found { Ok(()) } else { Err(other_text(table, key)) }
}
