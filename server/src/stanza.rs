//! What the server knows about a stanza besides its bytes: kind, type, and how it may be treated.

use crate::keys::ResourceKey;
use crate::keys::StreamId;

/// The three stanzas (RFC 6120 §8).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `<message/>`
    Message,
    /// `<presence/>`
    Presence,
    /// `<iq/>`
    Iq,
}

impl Kind {
    /// As it is written in the state of an upgrade.
    pub fn code(self) -> u8 {
        match self {
            Kind::Message => 0,
            Kind::Presence => 1,
            Kind::Iq => 2,
        }
    }

    /// The one with this [`Kind::code`].
    pub fn from_code(code: u8) -> Option<Kind> {
        [Kind::Message, Kind::Presence, Kind::Iq].into_iter().find(|kind| kind.code() == code)
    }

    /// By element name.
    pub fn from_name(name: &str) -> Option<Kind> {
        match name {
            "message" => Some(Kind::Message),
            "presence" => Some(Kind::Presence),
            "iq" => Some(Kind::Iq),
            _ => None,
        }
    }

    /// The element name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Message => "message",
            Kind::Presence => "presence",
            Kind::Iq => "iq",
        }
    }
}

/// The `type` attribute of the three stanzas, in one enumeration.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// message (RFC 6121 §5.2.2); the default of a message.
    Normal,
    /// message
    Chat,
    /// message
    Groupchat,
    /// message
    Headline,
    /// presence without a type.
    Available,
    /// presence
    Unavailable,
    /// presence
    Subscribe,
    /// presence
    Subscribed,
    /// presence
    Unsubscribe,
    /// presence
    Unsubscribed,
    /// presence
    Probe,
    /// iq
    Get,
    /// iq
    Set,
    /// iq
    Result,
    /// any of the three
    Error,
}

impl Type {
    /// Reads the attribute. `None` for a value that does not exist for this kind, except that a message of
    /// an unknown type is `normal` (RFC 6121 §5.2.2).
    pub fn parse(kind: Kind, value: Option<&str>) -> Option<Type> {
        Some(match (kind, value) {
            (Kind::Message, Some("chat")) => Type::Chat,
            (Kind::Message, Some("groupchat")) => Type::Groupchat,
            (Kind::Message, Some("headline")) => Type::Headline,
            (Kind::Presence, None) => Type::Available,
            (Kind::Presence, Some("unavailable")) => Type::Unavailable,
            (Kind::Presence, Some("subscribe")) => Type::Subscribe,
            (Kind::Presence, Some("subscribed")) => Type::Subscribed,
            (Kind::Presence, Some("unsubscribe")) => Type::Unsubscribe,
            (Kind::Presence, Some("unsubscribed")) => Type::Unsubscribed,
            (Kind::Presence, Some("probe")) => Type::Probe,
            (Kind::Iq, Some("get")) => Type::Get,
            (Kind::Iq, Some("set")) => Type::Set,
            (Kind::Iq, Some("result")) => Type::Result,
            (_, Some("error")) => Type::Error,
            (Kind::Message, _) => Type::Normal,
            (Kind::Presence | Kind::Iq, _) => return None,
        })
    }

    /// The value of the attribute; `None` where it is left out.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Type::Normal | Type::Available => return None,
            Type::Chat => "chat",
            Type::Groupchat => "groupchat",
            Type::Headline => "headline",
            Type::Unavailable => "unavailable",
            Type::Subscribe => "subscribe",
            Type::Subscribed => "subscribed",
            Type::Unsubscribe => "unsubscribe",
            Type::Unsubscribed => "unsubscribed",
            Type::Probe => "probe",
            Type::Get => "get",
            Type::Set => "set",
            Type::Result => "result",
            Type::Error => "error",
        })
    }
}

/// How a stanza may be treated on its way, read once from its direct children ([`crate::proto::traits`]).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Traits(u32);

impl Traits {
    /// Has a `<body/>`.
    pub const BODY: Traits = Traits(1);
    /// Is not to be copied to other resources: XEP-0280 `<private/>` or XEP-0334 `<no-copy/>`.
    pub const NO_COPY: Traits = Traits(2);
    /// Has a chat state or marker and nothing else that a person waits for (XEP-0085, XEP-0333, XEP-0184).
    pub const STATE_ONLY: Traits = Traits(4);
    /// Is itself a carbon, or carries something that looks like one: never copied.
    pub const CARBON: Traits = Traits(8);
    /// Carries something of a conversation besides a body: a chat state (XEP-0085), a receipt (XEP-0184), a
    /// marker (XEP-0333) or a correction (XEP-0308).
    pub const CONVERSATION: Traits = Traits(16);
    /// Was made by this server and not by the one it comes from: no block list stops it (a client that writes
    /// to somebody whom it blocks is told so "by" the one it blocks).
    pub const FROM_SERVER: Traits = Traits(32);
    /// Is this server's error in answer to a message of which the sender's other resources got copies.
    pub const ANSWERS_COPIED: Traits = Traits(64);
    /// Is not to be kept for later: XEP-0334 `<no-store/>`.
    pub const NO_STORE: Traits = Traits(128);
    /// Has something worth keeping for later: a body, or anything but chat states and markers (XEP-0160 §3), or
    /// XEP-0334 `<store/>`.
    pub const CONTENT: Traits = Traits(256);
    /// A presence whose sender blocks single resources: the recipient's are to be looked up in the sender's list.
    pub const CHOOSES_RESOURCES: Traits = Traits(512);
    /// Has waited for a subscription under way between the two, and waits no more.
    pub const RELEASED: Traits = Traits(1024);
    /// Belongs to the archives of its sender and its recipient, if they want it (`proto::traits` has the table).
    pub const ARCHIVED: Traits = Traits(2048);
    /// Retracts a message (XEP-0424).
    pub const RETRACTS: Traits = Traits(4096);
    /// Has a `<subject/>`.
    pub const SUBJECT: Traits = Traits(8192);
    /// Its client had more to say than its share of a turn, so it has waited for another one: for the timing alone.
    pub const WAITED: Traits = Traits(16384);

    /// A device that is asleep is told of it (XEP-0357).
    pub const WAKES: Traits = Traits(32768);
    /// Has waited at its sender's home for a subscription under way: it is held at the other's whatever room there is.
    pub const HELD: Traits = Traits(65536);

    /// Whether all of `other` are set.
    pub fn has(self, other: Traits) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both together.
    pub const fn and(self, other: Traits) -> Traits {
        Traits(self.0 | other.0)
    }

    /// These without those of `other`.
    pub const fn without(self, other: Traits) -> Traits {
        Traits(self.0 & !other.0)
    }

    /// Sets those of `other`.
    pub fn set(&mut self, other: Traits) {
        self.0 |= other.0;
    }
}

/// A stanza on its way to a user of this server.
#[derive(Copy, Clone, Debug)]
pub struct Delivery<'a> {
    /// Kind.
    pub kind: Kind,
    /// Type.
    pub typ: Type,
    /// Treatment.
    pub traits: Traits,
    /// The sender's JID as stamped: full for what a client sent, bare for subscriptions and probes.
    pub from: &'a str,
    /// The recipient's localpart, normalised; of a stanza for a room, the room's name.
    pub to_local: &'a str,
    /// The recipient's resource, normalised; `None` for the bare JID. Of a stanza for a room, a nick.
    pub to_resource: Option<&'a str>,
    /// The `id` attribute, entities decoded; an answer has the same one, empty or not there (RFC 6120 §8.1.3).
    pub id: Option<&'a str>,
    /// The whole stanza as it will be written to the recipient's stream.
    pub bytes: &'a [u8],
    /// Who waits to hear that the stanza is durable.
    pub pending_ack: Option<PendingAck>,
}

impl Delivery<'_> {
    /// XEP-0280 §6: what belongs to a conversation between people, unless the sender asked for no copy.
    ///
    /// An error is copied only when this server gives it in answer to a message of which copies went out: then the
    /// other resources would else believe that it arrived. Anything that a client answers with an error cannot be matched
    /// without keeping track of messages, and is not copied.
    pub fn is_copied(&self) -> bool {
        let kind = match self.typ {
            Type::Chat => true,
            Type::Normal => self.traits.has(Traits::BODY) || self.traits.has(Traits::CONVERSATION),
            Type::Error => self.traits.has(Traits::ANSWERS_COPIED),
            _ => false,
        };
        kind && !self.traits.has(Traits::NO_COPY) && !self.traits.has(Traits::CARBON)
    }

    /// Whether it is a message that is kept until its recipient has it (XEP-0160 §3, XEP-0334).
    pub fn is_kept(&self) -> bool {
        self.kind == Kind::Message && is_kept(self.typ, self.traits)
    }

    /// Whether it is a message that retracts another one of its author in archives and mailboxes (XEP-0424).
    pub fn retracts(&self) -> bool {
        self.traits.has(Traits::RETRACTS) && self.is_archived()
    }

    /// Whether it is a message for the archives of users (XEP-0313 §3). One that is archived is also kept.
    pub fn is_archived(&self) -> bool {
        self.is_kept() && self.traits.has(Traits::ARCHIVED)
    }
}

/// Whether a message of this type with these traits is kept until its recipient has it.
pub fn is_kept(typ: Type, traits: Traits) -> bool {
    matches!(typ, Type::Chat | Type::Normal) && traits.has(Traits::CONTENT) && !traits.has(Traits::NO_STORE)
}

/// Which stanza of which client of which worker something was, for the word that it is durable.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PendingAck {
    /// The sender's managed stream.
    pub stream: StreamId,
    /// The sender's resource.
    pub resource: ResourceKey,
    /// The stanza's number in the sender's stream (XEP-0198 §4).
    pub number: u32,
    /// Up to which number everything of the sender's stream was durable when the stanza was sent.
    pub durable_up_to: u32,
    /// The sender's worker.
    pub worker: u16,
}

impl PendingAck {
    /// One of the things for which a request waits on this worker under this number, so that whoever has made it hears of all of them
    /// together. `of`: the request's own.
    pub fn of_join(join: u32, worker: u16, of: Option<PendingAck>) -> PendingAck {
        let (stream, durable_up_to) = of.map_or((StreamId(0), 0), |of| (of.stream, of.durable_up_to));
        PendingAck { stream, resource: ResourceKey::NONE, number: join, durable_up_to, worker }
    }

    /// The number under which a request waits for it, if it is [`PendingAck::of_join`].
    pub fn join(&self) -> Option<u32> {
        (self.resource == ResourceKey::NONE).then_some(self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_follow_the_kind() {
        assert_eq!(Type::parse(Kind::Message, Some("nonsense")), Some(Type::Normal));
        assert_eq!(Type::parse(Kind::Presence, Some("chat")), None);
        assert_eq!(Type::parse(Kind::Iq, None), None);
        for typ in [Type::Chat, Type::Groupchat, Type::Headline, Type::Error, Type::Normal] {
            assert_eq!(Type::parse(Kind::Message, typ.name()), Some(typ));
        }
    }
}
