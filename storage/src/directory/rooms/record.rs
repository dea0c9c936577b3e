//! A room: its number, its configuration, its subject, and how many belong to it.

use super::affiliations::AffiliationVersion;
use super::config::{RoomConfig, RoomFlags};
use super::{RoomsView, encode_named, same_name};
use crate::actor::{ActorId, ActorKind, COUNT_SHIFT};
use crate::directory::WriteTransaction;
use crate::directory::codec::{Decoder, Encoder};
use crate::directory::error::DirectoryError;
use crate::directory::key::{Key, size_error, text_of};
use crate::directory::tables::{Table, damaged};
use crate::directory::transaction::check_size;
use crate::directory::version::History;
use crate::jid::PART_BYTES_MAX;

/// The counter of all rooms ever made.
const KEY_LAST_ROOM: &[u8] = b"last_room";

/// Rooms that can ever be made.
const COUNT_MAX: u64 = (1 << COUNT_SHIFT) - 1;

/// Removals of affiliations that are remembered for each room. With more of them since a client's version it gets the whole
/// list.
pub const REMOVALS_MAX: u64 = 128;

/// What a room is about, at the moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subject {
    /// The text; empty for a subject that was taken away.
    pub text: String,
    /// The nick of the occupant who has set it, at that time.
    pub nick: String,
    /// That occupant's bare JID.
    pub jid: String,
    /// When, milliseconds since 1970.
    pub set_ms: u64,
}

/// How many belong to a room, by what they are to it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RoomCounts {
    /// Owners.
    pub owners: u32,
    /// Admins.
    pub admins: u32,
    /// Members.
    pub members: u32,
    /// Those who are banned.
    pub outcasts: u32,
}

impl RoomCounts {
    /// All who may enter a room for members.
    #[must_use]
    pub const fn belonging(&self) -> u64 {
        self.owners as u64 + self.admins as u64 + self.members as u64
    }
}

/// A room that is to be made.
#[derive(Clone, Debug)]
pub struct NewRoom<'a> {
    /// Localpart of its address, normalised.
    pub name: &'a str,
    /// What it is configured to.
    pub config: RoomConfig,
    /// Random bytes: the key of its occupants' ids, and what its number is told from those of other copies of the directory by.
    pub secret: [u8; 32],
    /// When, milliseconds since 1970.
    pub now_ms: u64,
}

/// A room. The server has one in memory for each room that somebody is in, so what few rooms have takes no room in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Room {
    /// Localpart of its address.
    pub name: Box<str>,
    /// Its number, which no other room ever had.
    pub actor: ActorId,
    /// When it was made, milliseconds since 1970.
    pub created_ms: u64,
    /// The key of its occupants' ids (XEP-0421).
    pub secret: [u8; 32],
    /// What it is configured to.
    pub config: RoomConfig,
    /// `None`: none was ever set.
    pub subject: Option<Box<Subject>>,
    /// How many belong to it.
    pub counts: RoomCounts,
    /// Counts the changes of affiliations.
    pub(super) version: u64,
    /// Of older versions the removals since are not known.
    pub(super) floor: u64,
    /// Removals that are remembered.
    pub(super) removals: u64,
    pub(super) history: History,
}

const _: () = assert!(size_of::<Room>() <= 176);

impl Room {
    /// The version of its affiliations.
    #[must_use]
    pub fn version(&self) -> AffiliationVersion {
        self.version_of(self.version)
    }

    /// The version with a number that is not older than this knows; else the one before every change.
    #[must_use]
    pub fn version_of(&self, number: u64) -> AffiliationVersion {
        self.history.version(number).unwrap_or_default()
    }

    fn encode(&self, key: &Key) -> Vec<u8> {
        let subject = self
            .subject
            .as_ref()
            .map_or(0, |subject| subject.text.len() + subject.nick.len() + subject.jid.len() + 24);
        let mut fields = Encoder::new(512 + self.name.len() + self.config.text_bytes() + subject);
        if key.is_hashed() {
            fields.text(self.name.as_bytes());
        }
        fields.number(self.actor.raw());
        fields.number(self.created_ms);
        fields.text(&self.secret);
        let counts = &self.counts;
        for number in [counts.owners, counts.admins, counts.members, counts.outcasts] {
            fields.number(number.into());
        }
        for number in [self.version, self.floor, self.removals] {
            fields.number(number);
        }
        fields.count(self.history.0.len());
        for (incarnation, first) in &*self.history.0 {
            fields.number(*incarnation);
            fields.number(*first);
        }
        self.config.encode(&mut fields);
        fields.byte(self.subject.is_some().into());
        if let Some(subject) = &self.subject {
            for text in [&subject.text, &subject.nick, &subject.jid] {
                fields.text(text.as_bytes());
            }
            fields.number(subject.set_ms);
        }
        fields.seal(key.bytes())
    }

    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let mut fields = Decoder::open(key, value)?;
        let name = match text_of(key, 0)? {
            Some(name) => name.into(),
            None => fields.text()?.into(),
        };
        let (actor, created_ms) = (ActorId::from_raw(fields.number()?), fields.number()?);
        let secret = fields.bytes()?.try_into().map_err(|_| "a secret of the wrong length")?;
        let mut counts = [0; 4];
        for count in &mut counts {
            *count = fields.number()?.try_into().map_err(|_| "more people than there can be")?;
        }
        let [owners, admins, members, outcasts] = counts;
        let (version, floor, removals) = (fields.number()?, fields.number()?, fields.number()?);
        let incarnations = fields.count()?;
        if incarnations > fields.remaining() / 16 {
            return Err("more incarnations than there is room for");
        }
        let mut history = Vec::with_capacity(incarnations);
        for _ in 0..incarnations {
            history.push((fields.number()?, fields.number()?));
        }
        let history = History(history.into_boxed_slice());
        let config = RoomConfig::decode(&mut fields)?;
        let subject = match fields.byte()? {
            0 => None,
            1 => Some(Box::new(Subject {
                text: fields.text()?.to_owned(),
                nick: fields.text()?.to_owned(),
                jid: fields.text()?.to_owned(),
                set_ms: fields.number()?,
            })),
            _ => return Err("neither a subject nor none"),
        };
        fields.close()?;
        let counts = RoomCounts { owners, admins, members, outcasts };
        Ok(Self {
            name,
            actor,
            created_ms,
            secret,
            config,
            subject,
            counts,
            version,
            floor,
            removals,
            history,
        })
    }
}

/// The number of the room that is made as the `count`th: see [`ActorId`].
fn made(count: u64, name: &str, secret: &[u8; 32]) -> Result<ActorId, DirectoryError> {
    if count > COUNT_MAX {
        return Err(DirectoryError::Size {
            what: "the count of all rooms ever made",
            bytes: usize::try_from(count).unwrap_or(usize::MAX),
            max: COUNT_MAX as usize,
        });
    }
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(&count.to_le_bytes());
    context.update(name.as_bytes());
    context.update(secret);
    let digest = context.finish();
    let tag = u32::from_le_bytes(*digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes"));
    Ok(ActorId::new(ActorKind::Room, count << COUNT_SHIFT | u64::from(tag) & COUNT_MAX))
}

fn room_key(name: &str) -> Result<Key, DirectoryError> {
    Key::account(name).ok_or_else(|| size_error("the room's name", name, PART_BYTES_MAX))
}

impl RoomsView<'_> {
    /// A room by its name.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn room(&self, name: &str) -> Result<Option<Room>, DirectoryError> {
        let Some(key) = Key::account(name) else { return Ok(None) };
        let Some(value) = self.view.get(Table::Rooms, key.bytes())? else { return Ok(None) };
        let room = Room::decode(key.bytes(), value).map_err(damaged(Table::Rooms, key.bytes()))?;
        same_name(name, &room.name, Table::Rooms, &key)?;
        Ok(Some(room))
    }

    /// A room by its number; `None`: there is no such room (any more).
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn by_number(&self, room: ActorId) -> Result<Option<Room>, DirectoryError> {
        match self.name(room)? {
            Some(name) => self.room(&name),
            None => Ok(None),
        }
    }
}

impl WriteTransaction<'_> {
    /// Makes a room. `None`: there is one of this name already; nothing was written.
    ///
    /// # Errors
    /// [`DirectoryError::Size`] for what can be no localpart; the directory is damaged or cannot be written.
    pub fn create_room(&mut self, new: NewRoom<'_>) -> Result<Option<Room>, DirectoryError> {
        room_key(new.name)?;
        if self.rooms().room(new.name)?.is_some() {
            return Ok(None);
        }
        let count = self.view().counter(KEY_LAST_ROOM)? + 1;
        let room = Room {
            name: new.name.into(),
            actor: made(count, new.name, &new.secret)?,
            created_ms: new.now_ms,
            secret: new.secret,
            config: new.config,
            subject: None,
            counts: RoomCounts::default(),
            version: 0,
            floor: 0,
            removals: 0,
            history: History::default(),
        };
        self.put_counter(KEY_LAST_ROOM, count)?;
        let key = room.actor.key();
        let mut fields = Encoder::new(4 + room.name.len());
        fields.text(room.name.as_bytes());
        self.put(Table::RoomNames, &key, &fields.seal(&key))?;
        self.write_room(&room)?;
        self.list_room(&room)?;
        Ok(Some(room))
    }

    /// Gives a room another configuration.
    ///
    /// # Errors
    /// [`DirectoryError::Size`] for texts longer than a value may be; the directory is damaged or cannot be written.
    pub fn configure_room(&mut self, room: &mut Room, config: RoomConfig) -> Result<(), DirectoryError> {
        room.config = config;
        self.write_room(room)?;
        self.list_room(room)
    }

    /// Gives a room another subject.
    ///
    /// # Errors
    /// [`DirectoryError::Size`] for a text longer than a value may be; the directory is damaged or cannot be written.
    pub fn set_room_subject(&mut self, room: &mut Room, subject: Subject) -> Result<(), DirectoryError> {
        check_size("the subject", subject.text.len())?;
        room.subject = Some(Box::new(subject));
        self.write_room(room)
    }

    /// Destroys a room with all that it has: its messages are gone from the archive at once, and from the disk in their time.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn destroy_room(&mut self, room: &Room) -> Result<(), DirectoryError> {
        let mut accounts = Vec::new();
        let mut makers = Vec::new();
        self.rooms().each_affiliate(room.actor, |affiliate| {
            accounts.push(affiliate.account);
            makers.extend(Some(affiliate).filter(|affiliate| affiliate.maker().is_some()));
            true
        })?;
        for account in accounts.into_iter().filter(|account| *account != ActorId::NOBODY) {
            self.delete(Table::RoomsOfAccounts, &super::account_key(account, room.actor))?;
        }
        makers.iter().try_for_each(|maker| self.discount_maker(maker))?;
        self.purge_archive(room.actor)?;
        for table in Table::OF_A_ROOM {
            self.delete_all(table, room.actor)?;
        }
        let key = room_key(&room.name)?;
        self.delete(Table::RoomsPublic, key.bytes())?;
        self.delete(Table::Rooms, key.bytes()).map(|_| ())
    }

    pub(super) fn write_room(&mut self, room: &Room) -> Result<(), DirectoryError> {
        check_size("the room's configuration", room.config.text_bytes())?;
        let key = room_key(&room.name)?;
        self.put(Table::Rooms, key.bytes(), &room.encode(&key))
    }

    /// Puts the room into the list of public ones, or takes it out.
    fn list_room(&mut self, room: &Room) -> Result<(), DirectoryError> {
        let key = room_key(&room.name)?;
        if room.config.flags.has(RoomFlags::PUBLIC) {
            let value = encode_named(&key, &room.name, &room.config.title);
            self.put(Table::RoomsPublic, key.bytes(), &value)
        } else {
            self.delete(Table::RoomsPublic, key.bytes()).map(|_| ())
        }
    }
}
