//! A bound resource as it goes to another program.

mod waiting;

use std::borrow::Cow;

pub use waiting::Waiting;

use whimbrel_storage::log::Sequence;

use crate::proto::caps::HASH_BYTES;
use crate::proto::sm::StreamManagement;
use crate::proto::sm::saved::{LogPlace, SmRecord};
use crate::saved::codec::{Decoder, Encoder, bits};
use crate::saved::error::StateError;
use crate::stanza::Kind;
use crate::user::entities::Entity;
use crate::user::flow::Flow;
use crate::user::inactive::HeldStanzas;
use crate::user::tables::{Flags, Resource, User};

/// A bound resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceRecord<'a> {
    /// Number of the account.
    pub account: u64,
    /// Localpart.
    pub local: &'a str,
    /// The user has a block list.
    pub blocks: bool,
    /// The resourcepart.
    pub name: &'a str,
    /// Priority of the last available presence.
    pub priority: i8,
    /// [`Flags`](crate::user::tables::Flags).
    pub flags: u16,
    /// What stood inside the last available presence.
    pub presence: &'a [u8],
    /// Entities that have its directed presence.
    pub directed: Vec<Cow<'a, str>>,
    /// Stanzas held back while it is inactive: kind, whose next presence replaces it, the stanza.
    pub held: Vec<(Kind, Option<&'a str>, &'a [u8])>,
    /// Messages of the log that wait in the output of a client without stream management.
    pub unsent: Vec<LogPlace>,
    /// It gets messages from the log, after this one.
    pub after: Option<LogPlace>,
    /// Milliseconds of the server's clock until which it waits to be resumed.
    pub expiry_ms: Option<u64>,
    /// Stream management.
    pub sm: Option<SmRecord<'a>>,
    /// The hash of capabilities that it announces; empty for none.
    pub caps: &'a [u8],
}

const BLOCKS: u8 = 1;
const HAS_DIRECTED: u8 = 1 << 1;
const HAS_HELD: u8 = 1 << 2;
const HAS_UNSENT_MESSAGES: u8 = 1 << 3;
const IS_BEHIND: u8 = 1 << 4;
const EXPIRES: u8 = 1 << 5;
const HAS_SM: u8 = 1 << 6;
const HAS_CAPS: u8 = 1 << 7;

impl<'a> ResourceRecord<'a> {
    /// Writes it.
    pub fn write(&self, to: &mut Encoder) {
        to.byte(bits([
            (self.blocks, BLOCKS),
            (!self.directed.is_empty(), HAS_DIRECTED),
            (!self.held.is_empty(), HAS_HELD),
            (!self.unsent.is_empty(), HAS_UNSENT_MESSAGES),
            (self.after.is_some(), IS_BEHIND),
            (self.expiry_ms.is_some(), EXPIRES),
            (self.sm.is_some(), HAS_SM),
            (!self.caps.is_empty(), HAS_CAPS),
        ]));
        to.number(self.account);
        to.text(self.local);
        to.shared(self.name.as_bytes());
        to.byte(self.priority as u8);
        to.number(self.flags);
        to.shared(self.presence);
        if !self.directed.is_empty() {
            to.count(self.directed.len());
            for name in &self.directed {
                to.text(name);
            }
        }
        if !self.held.is_empty() {
            to.count(self.held.len());
            for (kind, sender, stanza) in &self.held {
                to.byte(kind.code() | u8::from(sender.is_some()) << 7);
                if let Some(sender) = sender {
                    to.text(sender);
                }
                to.bytes_of(stanza);
            }
        }
        if !self.unsent.is_empty() {
            to.count(self.unsent.len());
            for place in &self.unsent {
                place.write(to);
            }
        }
        if let Some(after) = &self.after {
            after.write(to);
        }
        if let Some(expiry_ms) = self.expiry_ms {
            to.number(expiry_ms);
        }
        if let Some(sm) = &self.sm {
            sm.write(to);
        }
        if !self.caps.is_empty() {
            to.shared(self.caps);
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is damaged.
    pub fn read(from: &mut Decoder<'a>) -> Result<ResourceRecord<'a>, StateError> {
        let parts = from.byte()?;
        let mut resource = ResourceRecord {
            account: from.number()?,
            local: from.text()?,
            blocks: parts & BLOCKS != 0,
            name: from.shared_text()?,
            priority: from.byte()? as i8,
            flags: from.number()?,
            presence: from.shared()?,
            ..ResourceRecord::default()
        };
        if parts & HAS_DIRECTED != 0 {
            for _ in 0..from.count()? {
                resource.directed.push(Cow::Borrowed(from.text()?));
            }
        }
        if parts & HAS_HELD != 0 {
            for _ in 0..from.count()? {
                let byte = from.byte()?;
                let sender = (byte & 0x80 != 0).then(|| from.text()).transpose()?;
                resource.held.push((
                    Kind::from_code(byte & 0x7f).ok_or(StateError::Damaged("a stanza of an unknown kind"))?,
                    sender,
                    from.bytes()?,
                ));
            }
        }
        if parts & HAS_UNSENT_MESSAGES != 0 {
            for _ in 0..from.count()? {
                resource.unsent.push(LogPlace::read(from)?);
            }
        }
        resource.after = (parts & IS_BEHIND != 0).then(|| LogPlace::read(from)).transpose()?;
        resource.expiry_ms = (parts & EXPIRES != 0).then(|| from.number()).transpose()?;
        resource.sm = (parts & HAS_SM != 0).then(|| SmRecord::read(from)).transpose()?;
        if parts & HAS_CAPS != 0 {
            resource.caps = from.shared()?;
            if resource.caps.len() != HASH_BYTES {
                return Err(StateError::Damaged("a hash of another length"));
            }
        }
        Ok(resource)
    }
}

impl<'a> ResourceRecord<'a> {
    /// A resource of this server. `waiting` is what waits in the log for its user; `None` when a stanza of its client is
    /// not durable yet. `rooms` is the domain of the server's rooms, if it has any. When the session expires is for its worker to say.
    pub fn of(
        user: &'a User,
        resource: &'a Resource,
        waiting: &Waiting,
        rooms: Option<&str>,
    ) -> Option<ResourceRecord<'a>> {
        let directed = resource.directed.iter().flat_map(|known| known.iter());
        let mut record = ResourceRecord {
            account: user.id.raw(),
            local: &user.local,
            blocks: user.blocked.is_some(),
            name: &resource.name,
            priority: resource.priority,
            flags: resource.flags.bits(),
            presence: &resource.presence,
            directed: directed.filter_map(|entity| entity.jid(rooms)).collect(),
            held: resource.held.iter().flat_map(|held| held.save()).collect(),
            ..ResourceRecord::default()
        };
        if let Some(flow) = &resource.flow {
            let place = |sequence: Sequence| waiting.place_of(sequence);
            record.unsent = flow.unsent.iter().flat_map(|unsent| unsent.iter().copied()).map(place).collect();
            record.after = flow.after.map(|after| waiting.place_after(after));
            if let Some(sm) = &flow.sm {
                record.sm = Some(sm.save(place)?);
            }
        }
        Some(record)
    }

    /// Makes a new resource what this one was, but for its flow. `rooms` is the domain of the server's rooms, if it has any.
    pub fn restore(&self, resource: &mut Resource, rooms: Option<&str>) {
        resource.priority = self.priority;
        resource.flags = Flags::of_bits(self.flags);
        resource.presence = self.presence.into();
        if !self.directed.is_empty() {
            let entities = self.directed.iter().map(|jid| Entity::of(jid, rooms));
            resource.directed = Some(Box::new(entities.collect()));
        }
        if !self.held.is_empty() {
            resource.held = Some(Box::new(HeldStanzas::restored(&self.held)));
        }
    }

    /// Whether it has anything to do with the log or with stream management.
    pub fn has_flow(&self) -> bool {
        self.sm.is_some() || self.after.is_some() || !self.unsent.is_empty()
    }

    /// What it has of that. `waiting` is what waits in this server's log for the user.
    pub fn flow(&self, waiting: &Waiting) -> Flow {
        let message = |place: LogPlace| waiting.message_at(place);
        Flow {
            sm: self.sm.as_ref().map(|sm| StreamManagement::restored(sm, message)),
            unsent: (!self.unsent.is_empty())
                .then(|| Box::new(self.unsent.iter().copied().map(message).collect())),
            expiry: None,
            after: self.after.map(|place| waiting.cursor_at(place)),
        }
    }
}

impl ResourceRecord<'static> {
    /// Examples: plain, with everything that can wait in one, with stream management, and without a connection.
    #[must_use]
    pub fn samples() -> Vec<ResourceRecord<'static>> {
        let plain = ResourceRecord {
            account: 42,
            local: "juliet",
            name: "balcony",
            flags: 1,
            presence: b"<show>away</show>",
            caps: &[7; HASH_BYTES],
            ..ResourceRecord::default()
        };
        let full = ResourceRecord {
            blocks: true,
            priority: -5,
            flags: 0b0001_1111,
            directed: vec!["paris@example.org".into(), "room@example.org/x".into()],
            held: vec![
                (Kind::Presence, Some("romeo@example.org/1"), b"<presence/>"),
                (Kind::Message, None, b"<message/>"),
            ],
            caps: &[],
            unsent: vec![LogPlace { sequence: 7, rank: 0 }],
            after: Some(LogPlace { sequence: 9, rank: 2 }),
            ..plain.clone()
        };
        let [busy, rests] = SmRecord::samples();
        let resumable = ResourceRecord { sm: Some(rests), ..plain.clone() };
        let detached = ResourceRecord { sm: Some(busy), expiry_ms: Some(86_500_000), ..plain.clone() };
        vec![plain, full, resumable, detached]
    }
}
