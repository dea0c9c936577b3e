//! One session in the state file: everything that a connection and a bound resource are, and nothing of a worker.
//!
//! A record borrows what it holds: from the running worker when it is written, from the state file when it is read.
//! So it can be read by anybody (the new program, a rehearsal, a fuzzer) before anything is made of it.

use std::borrow::Cow;
use std::net::IpAddr;

use super::codec::{Decoder, Encoder};
use super::error::StateError;
use super::tls::TlsRecord;
use crate::stanza::Kind;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord<'a> {
    /// Its connection; `None` while it waits to be resumed (XEP-0198).
    pub link: Option<LinkRecord<'a>>,
    /// Where it is on its way.
    pub standing: Standing<'a>,
}

/// Where a session is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// No resource yet, and no SASL exchange under way.
    Negotiating(NegotiationRecord<'a>),
    /// Bound.
    Bound(Box<ResourceRecord<'a>>),
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRecord<'a> {
    /// Its socket; `None` when it broke while the old program let go of it.
    pub descriptor: Option<u32>,
    /// Seconds of the server's clock when it was accepted.
    pub connected: u32,
    /// Seconds of the server's clock when something was last received.
    pub heard: u32,
    /// Where the client connects from.
    pub peer: IpAddr,
    /// Facts, see [`marks`].
    pub marks: u8,
    /// TLS.
    pub tls: TlsRecord<'a>,
    /// The part of an unfinished frame that has come.
    pub partial: &'a [u8],
    /// What has come behind that, decrypted, and waits to be handled.
    pub input: &'a [u8],
    /// Bytes from the wire that nobody has looked at.
    pub unread: &'a [u8],
    /// Bytes for the wire that the kernel has not taken.
    pub unsent: Cow<'a, [u8]>,
    /// Prefixes that the stream header declared beyond the usual.
    pub namespaces: Vec<(&'a str, &'a str)>,
    /// Language of the stream header, when it is another than the server's.
    pub language: Option<&'a str>,
}

/// Bits of [`LinkRecord::marks`].
pub mod marks {
    /// The server has pinged and heard nothing since.
    pub const PINGED: u8 = 1;
    /// Reading is paused because the client does not read.
    pub const PAUSED: u8 = 1 << 1;
    /// It was counted as established in the admission counts.
    pub const ESTABLISHED: u8 = 1 << 2;
    /// It came in on a direct TLS listener.
    pub const DIRECT_TLS: u8 = 1 << 3;
    /// The end of what the peer sends was reported.
    pub const ENDED: u8 = 1 << 4;
}

/// A stream without a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NegotiationRecord<'a> {
    /// The client's header has come on the current stream.
    pub header_seen: bool,
    /// The server's header has been sent on the current stream.
    pub header_sent: bool,
    /// Bytes received so far.
    pub bytes_in: u32,
    /// The account, once SASL has succeeded.
    pub user: Option<&'a str>,
    /// The stamp of the credentials it was shown to have.
    pub stamp: Option<u64>,
    /// Channel binding `tls-exporter`.
    pub exporter: Option<[u8; 32]>,
    /// Channel binding `tls-server-end-point`.
    pub end_point: Option<&'a [u8]>,
    /// Failed SASL attempts.
    pub failures: u8,
}

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
    pub directed: Vec<&'a str>,
    /// Stanzas held back while it is inactive: kind, whose next presence replaces it, the stanza.
    pub held: Vec<(Kind, Option<&'a str>, &'a [u8])>,
    /// Messages of the log that wait in the output of a client without stream management.
    pub unsent: Vec<Place>,
    /// It gets messages from the log, after this one.
    pub after: Option<Place>,
    /// Milliseconds of the server's clock until which it waits to be resumed.
    pub expiry_ms: Option<u64>,
    /// Stream management.
    pub sm: Option<SmRecord<'a>>,
}

/// A message of the log, or the place after one.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its number in the log.
    pub sequence: u64,
    /// How many messages of its account that wait come before it: what stays when another number of workers gives
    /// messages new numbers. Of the place after a message: how many that wait are not behind it.
    pub rank: u64,
}

/// Stream management (XEP-0198).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SmRecord<'a> {
    /// Names the stream.
    pub id: u64,
    /// Seconds for which it can be resumed.
    pub resume_seconds: u32,
    /// The client waits for an answer that covers everything up to here.
    pub answer_up_to: Option<u32>,
    /// An `<r/>` of the server is not answered yet.
    pub asked: bool,
    /// Stanzas handled of the client.
    pub received: u32,
    /// What the client was last told of that.
    pub told: u32,
    /// The last `h` of the client.
    pub acked: u32,
    /// Stanzas since the last `<r/>`, weighed.
    pub weight: u32,
    /// What the client has not acknowledged, oldest first.
    pub unacked: Vec<UnackedRecord<'a>>,
}

/// A stanza that the client has not acknowledged.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum UnackedRecord<'a> {
    /// One that is kept in memory; of a presence that a later one replaces, also what its sender hashes to (else 0).
    Stanza(Kind, u32, &'a [u8]),
    /// A message of the log, and its bytes when it is sent again.
    Logged(Place, u32),
    /// An answer that is not kept: the address that the request was sent to, and its id.
    Answer(Option<&'a str>, &'a str),
    /// So many stanzas that are not kept.
    Forgotten(u32),
}

/// Bits of a record's first byte.
const LINKED: u8 = 1;
const BOUND: u8 = 1 << 1;

impl<'a> SessionRecord<'a> {
    /// Writes it.
    pub fn write(&self, to: &mut Encoder) {
        let bound = matches!(self.standing, Standing::Bound(_));
        to.byte(bits([(self.link.is_some(), LINKED), (bound, BOUND)]));
        if let Some(link) = &self.link {
            link.write(to);
        }
        match &self.standing {
            Standing::Negotiating(negotiation) => negotiation.write(to),
            Standing::Bound(resource) => resource.write(to),
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is damaged.
    pub fn read(from: &mut Decoder<'a>) -> Result<SessionRecord<'a>, StateError> {
        let parts = from.byte()?;
        if parts & !(LINKED | BOUND) != 0 || parts == 0 {
            return Err(StateError::Damaged("a session of an unknown kind"));
        }
        let link = (parts & LINKED != 0).then(|| LinkRecord::read(from)).transpose()?;
        let standing = match parts & BOUND != 0 {
            true => Standing::Bound(Box::new(ResourceRecord::read(from)?)),
            false => Standing::Negotiating(NegotiationRecord::read(from)?),
        };
        Ok(SessionRecord { link, standing })
    }
}

/// Bits that say which rare parts a connection has.
const HAS_PARTIAL: u8 = 1;
const HAS_UNREAD: u8 = 1 << 1;
const HAS_UNSENT: u8 = 1 << 2;
const HAS_NAMESPACES: u8 = 1 << 3;
const HAS_LANGUAGE: u8 = 1 << 4;
const IS_BROKEN: u8 = 1 << 5;
const HAS_INPUT: u8 = 1 << 6;

impl<'a> LinkRecord<'a> {
    fn write(&self, to: &mut Encoder) {
        let parts = [
            (!self.partial.is_empty(), HAS_PARTIAL),
            (!self.unread.is_empty(), HAS_UNREAD),
            (!self.unsent.is_empty(), HAS_UNSENT),
            (!self.namespaces.is_empty(), HAS_NAMESPACES),
            (self.language.is_some(), HAS_LANGUAGE),
            (self.descriptor.is_none(), IS_BROKEN),
            (!self.input.is_empty(), HAS_INPUT),
        ];
        to.byte(bits(parts));
        if let Some(descriptor) = self.descriptor {
            to.number(descriptor);
        }
        to.number(self.connected);
        // What was heard is never before the connection: the difference is shorter.
        to.number(self.heard.saturating_sub(self.connected));
        to.address(self.peer);
        to.byte(self.marks);
        self.tls.write(to);
        if !self.partial.is_empty() {
            to.bytes_of(self.partial);
        }
        if !self.input.is_empty() {
            to.bytes_of(self.input);
        }
        if !self.unread.is_empty() {
            to.bytes_of(self.unread);
        }
        if !self.unsent.is_empty() {
            to.bytes_of(&self.unsent);
        }
        if !self.namespaces.is_empty() {
            to.count(self.namespaces.len());
            for (prefix, uri) in &self.namespaces {
                to.shared(prefix.as_bytes());
                to.shared(uri.as_bytes());
            }
        }
        if let Some(language) = self.language {
            to.shared(language.as_bytes());
        }
    }

    fn read(from: &mut Decoder<'a>) -> Result<LinkRecord<'a>, StateError> {
        let parts = from.byte()?;
        if parts >= HAS_INPUT << 1 {
            return Err(StateError::Damaged("a connection with unknown parts"));
        }
        let descriptor = (parts & IS_BROKEN == 0).then(|| from.number::<u32>()).transpose()?;
        let connected: u32 = from.number()?;
        let heard = connected.saturating_add(from.number()?);
        let (peer, marks) = (from.address()?, from.byte()?);
        if marks >= marks::ENDED << 1 {
            return Err(StateError::Damaged("a connection with unknown marks"));
        }
        let tls = TlsRecord::read(from)?;
        let mut part = |bit| if parts & bit != 0 { from.bytes() } else { Ok(&[][..]) };
        let (partial, input) = (part(HAS_PARTIAL)?, part(HAS_INPUT)?);
        let (unread, unsent) = (part(HAS_UNREAD)?, part(HAS_UNSENT)?);
        let mut namespaces = Vec::new();
        if parts & HAS_NAMESPACES != 0 {
            for _ in 0..from.count()? {
                namespaces.push((from.shared_text()?, from.shared_text()?));
            }
        }
        let language = (parts & HAS_LANGUAGE != 0).then(|| from.shared_text()).transpose()?;
        Ok(LinkRecord {
            descriptor,
            connected,
            heard,
            peer,
            marks,
            tls,
            partial,
            input,
            unread,
            unsent: Cow::Borrowed(unsent),
            namespaces,
            language,
        })
    }
}

const HEADER_SEEN: u8 = 1;
const HEADER_SENT: u8 = 1 << 1;
const HAS_USER: u8 = 1 << 2;
const HAS_EXPORTER: u8 = 1 << 3;
const HAS_END_POINT: u8 = 1 << 4;
const HAS_STAMP: u8 = 1 << 5;

impl<'a> NegotiationRecord<'a> {
    fn write(&self, to: &mut Encoder) {
        to.byte(bits([
            (self.header_seen, HEADER_SEEN),
            (self.header_sent, HEADER_SENT),
            (self.user.is_some(), HAS_USER),
            (self.exporter.is_some(), HAS_EXPORTER),
            (self.end_point.is_some(), HAS_END_POINT),
            (self.stamp.is_some(), HAS_STAMP),
        ]));
        to.number(self.bytes_in);
        to.byte(self.failures);
        if let Some(user) = self.user {
            to.bytes_of(user.as_bytes());
        }
        if let Some(stamp) = self.stamp {
            to.raw(&stamp.to_le_bytes());
        }
        if let Some(exporter) = &self.exporter {
            to.raw(exporter);
        }
        if let Some(end_point) = self.end_point {
            to.shared(end_point);
        }
    }

    fn read(from: &mut Decoder<'a>) -> Result<NegotiationRecord<'a>, StateError> {
        let parts = from.byte()?;
        if parts >= HAS_STAMP << 1 {
            return Err(StateError::Damaged("a negotiation with unknown parts"));
        }
        Ok(NegotiationRecord {
            header_seen: parts & HEADER_SEEN != 0,
            header_sent: parts & HEADER_SENT != 0,
            bytes_in: from.number()?,
            failures: from.byte()?,
            user: (parts & HAS_USER != 0).then(|| from.text()).transpose()?,
            stamp: (parts & HAS_STAMP != 0)
                .then(|| from.array().copied().map(u64::from_le_bytes))
                .transpose()?,
            exporter: (parts & HAS_EXPORTER != 0).then(|| from.array::<32>().copied()).transpose()?,
            end_point: (parts & HAS_END_POINT != 0).then(|| from.shared()).transpose()?,
        })
    }
}

const BLOCKS: u8 = 1;
const HAS_DIRECTED: u8 = 1 << 1;
const HAS_HELD: u8 = 1 << 2;
const HAS_UNSENT_MESSAGES: u8 = 1 << 3;
const IS_BEHIND: u8 = 1 << 4;
const EXPIRES: u8 = 1 << 5;
const IS_MANAGED: u8 = 1 << 6;

impl<'a> ResourceRecord<'a> {
    fn write(&self, to: &mut Encoder) {
        to.byte(bits([
            (self.blocks, BLOCKS),
            (!self.directed.is_empty(), HAS_DIRECTED),
            (!self.held.is_empty(), HAS_HELD),
            (!self.unsent.is_empty(), HAS_UNSENT_MESSAGES),
            (self.after.is_some(), IS_BEHIND),
            (self.expiry_ms.is_some(), EXPIRES),
            (self.sm.is_some(), IS_MANAGED),
        ]));
        to.number(self.account);
        to.bytes_of(self.local.as_bytes());
        to.shared(self.name.as_bytes());
        to.byte(self.priority as u8);
        to.number(self.flags);
        to.shared(self.presence);
        if !self.directed.is_empty() {
            to.count(self.directed.len());
            for name in &self.directed {
                to.bytes_of(name.as_bytes());
            }
        }
        if !self.held.is_empty() {
            to.count(self.held.len());
            for (kind, sender, stanza) in &self.held {
                to.byte(kind_byte(*kind) | u8::from(sender.is_some()) << 7);
                if let Some(sender) = sender {
                    to.bytes_of(sender.as_bytes());
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
    }

    fn read(from: &mut Decoder<'a>) -> Result<ResourceRecord<'a>, StateError> {
        let parts = from.byte()?;
        if parts >= IS_MANAGED << 1 {
            return Err(StateError::Damaged("a resource with unknown parts"));
        }
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
                resource.directed.push(from.text()?);
            }
        }
        if parts & HAS_HELD != 0 {
            for _ in 0..from.count()? {
                let byte = from.byte()?;
                let sender = (byte & 0x80 != 0).then(|| from.text()).transpose()?;
                resource.held.push((kind_of(byte & 0x7f)?, sender, from.bytes()?));
            }
        }
        if parts & HAS_UNSENT_MESSAGES != 0 {
            for _ in 0..from.count()? {
                resource.unsent.push(Place::read(from)?);
            }
        }
        resource.after = (parts & IS_BEHIND != 0).then(|| Place::read(from)).transpose()?;
        resource.expiry_ms = (parts & EXPIRES != 0).then(|| from.number()).transpose()?;
        resource.sm = (parts & IS_MANAGED != 0).then(|| SmRecord::read(from)).transpose()?;
        Ok(resource)
    }
}

impl Place {
    fn write(self, to: &mut Encoder) {
        to.number(self.sequence);
        to.number(self.rank);
    }

    fn read(from: &mut Decoder<'_>) -> Result<Place, StateError> {
        Ok(Place { sequence: from.number()?, rank: from.number()? })
    }
}

const WAITS_FOR_ANSWER: u8 = 1;
const ASKED: u8 = 1 << 1;
const HAS_UNACKED: u8 = 1 << 2;

impl<'a> SmRecord<'a> {
    fn write(&self, to: &mut Encoder) {
        to.byte(bits([
            (self.answer_up_to.is_some(), WAITS_FOR_ANSWER),
            (self.asked, ASKED),
            (!self.unacked.is_empty(), HAS_UNACKED),
        ]));
        to.raw(&self.id.to_le_bytes());
        to.number(self.resume_seconds);
        to.number(self.received);
        to.number(self.told);
        to.number(self.acked);
        to.number(self.weight);
        if let Some(answer_up_to) = self.answer_up_to {
            to.number(answer_up_to);
        }
        if !self.unacked.is_empty() {
            to.count(self.unacked.len());
            for stanza in &self.unacked {
                stanza.write(to);
            }
        }
    }

    fn read(from: &mut Decoder<'a>) -> Result<SmRecord<'a>, StateError> {
        let parts = from.byte()?;
        if parts >= HAS_UNACKED << 1 {
            return Err(StateError::Damaged("a sm stream with unknown parts"));
        }
        let mut sm = SmRecord {
            id: u64::from_le_bytes(*from.array()?),
            resume_seconds: from.number()?,
            received: from.number()?,
            told: from.number()?,
            acked: from.number()?,
            weight: from.number()?,
            asked: parts & ASKED != 0,
            ..SmRecord::default()
        };
        sm.answer_up_to = (parts & WAITS_FOR_ANSWER != 0).then(|| from.number()).transpose()?;
        if parts & HAS_UNACKED != 0 {
            for _ in 0..from.count()? {
                sm.unacked.push(UnackedRecord::read(from)?);
            }
        }
        Ok(sm)
    }
}

/// Marks an unacknowledged message that is in the log.
const LOGGED: u8 = 3;
/// Marks a presence that a later one replaces.
const REPLACEABLE: u8 = 4;
/// Marks an answer that is not kept, to a request without an address and to one with.
const ANSWER: u8 = 5;
const ANSWER_FROM: u8 = 6;
/// Marks stanzas that are not kept.
const FORGOTTEN: u8 = 7;

impl<'a> UnackedRecord<'a> {
    fn write(&self, to: &mut Encoder) {
        match *self {
            UnackedRecord::Stanza(kind, 0, bytes) => {
                to.byte(kind_byte(kind));
                to.bytes_of(bytes);
            }
            UnackedRecord::Stanza(_, sender, bytes) => {
                to.byte(REPLACEABLE);
                to.number(sender);
                to.bytes_of(bytes);
            }
            UnackedRecord::Logged(place, length) => {
                to.byte(LOGGED);
                place.write(to);
                to.number(length);
            }
            UnackedRecord::Answer(from, id) => {
                to.byte(if from.is_some() { ANSWER_FROM } else { ANSWER });
                if let Some(from) = from {
                    to.bytes_of(from.as_bytes());
                }
                to.bytes_of(id.as_bytes());
            }
            UnackedRecord::Forgotten(count) => {
                to.byte(FORGOTTEN);
                to.number(count);
            }
        }
    }

    fn read(from: &mut Decoder<'a>) -> Result<UnackedRecord<'a>, StateError> {
        Ok(match from.byte()? {
            LOGGED => UnackedRecord::Logged(Place::read(from)?, from.number()?),
            REPLACEABLE => UnackedRecord::Stanza(Kind::Presence, from.number()?, from.bytes()?),
            ANSWER => UnackedRecord::Answer(None, from.text()?),
            ANSWER_FROM => UnackedRecord::Answer(Some(from.text()?), from.text()?),
            FORGOTTEN => UnackedRecord::Forgotten(from.number()?),
            kind => UnackedRecord::Stanza(kind_of(kind)?, 0, from.bytes()?),
        })
    }
}

fn kind_byte(kind: Kind) -> u8 {
    match kind {
        Kind::Message => 0,
        Kind::Presence => 1,
        Kind::Iq => 2,
    }
}

fn kind_of(byte: u8) -> Result<Kind, StateError> {
    match byte {
        0 => Ok(Kind::Message),
        1 => Ok(Kind::Presence),
        2 => Ok(Kind::Iq),
        _ => Err(StateError::Damaged("a stanza of an unknown kind")),
    }
}

fn bits<const N: usize>(parts: [(bool, u8); N]) -> u8 {
    parts.iter().filter(|(set, _)| *set).fold(0, |bits, (_, bit)| bits | bit)
}
