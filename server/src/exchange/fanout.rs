//! One thing for many users of one worker: a list of recipients, and what is told them all.
//!
//! The lists lie in the batch's buffer as the texts do. A worker that reads one takes it in parts, so that an envelope
//! makes it do little at a time.

use crate::stanza::{Kind, Type};
use crate::xml::writer;

/// One presence for many users of one worker.
#[derive(Copy, Clone, Debug)]
pub struct Broadcast<'a> {
    /// `Available`, `Unavailable` or `Probe`.
    pub typ: Type,
    /// The full JID it comes from.
    pub from: &'a str,
    /// What stands inside the `<presence/>`.
    pub payload: &'a [u8],
    pub(super) targets: &'a [u8],
    /// As [`Traits::CHOOSES_RESOURCES`].
    pub chooses_resources: bool,
}

impl<'a> Broadcast<'a> {
    /// A broadcast to nobody yet.
    pub fn new(typ: Type, from: &'a str, payload: &'a [u8]) -> Broadcast<'a> {
        Broadcast { typ, from, payload, targets: &[], chooses_resources: false }
    }

    /// The same to the given list.
    pub fn to(&self, targets: &'a Targets) -> Broadcast<'a> {
        Broadcast { targets: &targets.bytes, ..*self }
    }

    /// The same in broadcasts of at most `count` recipients, in their order: what one envelope makes a worker do is
    /// little.
    pub fn parts(&self, count: usize) -> impl Iterator<Item = Broadcast<'a>> + use<'a> {
        let whole = *self;
        parts(self.targets, count).map(move |targets| Broadcast { targets, ..whole })
    }

    /// The localparts of the recipients.
    pub fn targets(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        texts(self.targets)
    }
}

/// A list of texts in pieces of at most `count`.
fn parts(list: &[u8], count: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let end = memchr::memchr_iter(0, rest).take(count).last()? + 1;
        let (part, behind) = rest.split_at(end);
        rest = behind;
        Some(part)
    })
}

/// The texts of a list, each with a NUL behind it: neither a JID (RFC 7622 forbids control characters) nor XML has one.
fn texts(list: &[u8]) -> impl Iterator<Item = &str> {
    let texts = list.split(|&b| b == 0).filter(|text| !text.is_empty());
    texts.filter_map(|text| std::str::from_utf8(text).ok())
}

/// Why somebody hears of an event.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// As a contact whose clients say themselves of which nodes they want to hear.
    Filtered,
    /// As a subscriber.
    Subscribed,
    /// It is the last item, which was asked for.
    Last,
}

/// What has happened to a node, for many users of one worker.
#[derive(Copy, Clone, Debug)]
pub struct NodeEvent<'a> {
    /// Why they hear of it.
    pub kind: EventKind,
    /// The localpart of the node's owner; empty for the publish-subscribe service.
    pub owner: &'a str,
    /// The node.
    pub node: &'a str,
    /// What stands behind the addresses of the message.
    pub tail: &'a [u8],
    pub(super) targets: &'a [u8],
}

impl<'a> NodeEvent<'a> {
    /// An event for nobody yet.
    pub fn new(kind: EventKind, owner: &'a str, node: &'a str, tail: &'a [u8]) -> NodeEvent<'a> {
        NodeEvent { kind, owner, node, tail, targets: &[] }
    }

    /// The same for the given list, of localparts, or of localparts and resources with a slash between them.
    pub fn to(&self, targets: &'a Targets) -> NodeEvent<'a> {
        NodeEvent { targets: &targets.bytes, ..*self }
    }

    /// As [`Broadcast::parts`].
    pub fn parts(&self, count: usize) -> impl Iterator<Item = NodeEvent<'a>> + use<'a> {
        let whole = *self;
        parts(self.targets, count).map(move |targets| NodeEvent { targets, ..whole })
    }

    /// The recipients.
    pub fn targets(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        texts(self.targets)
    }
}

/// A resource wants the last items of some nodes of many users of one worker.
#[derive(Copy, Clone, Debug)]
pub struct Wanted<'a> {
    /// Its full JID.
    pub from: &'a str,
    pub(super) nodes: &'a [u8],
    pub(super) targets: &'a [u8],
}

impl<'a> Wanted<'a> {
    /// It is asked of nobody yet. `nodes`: their names, a NUL behind each.
    pub fn new(from: &'a str, nodes: &'a [u8]) -> Wanted<'a> {
        Wanted { from, nodes, targets: &[] }
    }

    /// The same asked of the given list.
    pub fn to(&self, targets: &'a Targets) -> Wanted<'a> {
        Wanted { targets: &targets.bytes, ..*self }
    }

    /// As [`Broadcast::parts`].
    pub fn parts(&self, count: usize) -> impl Iterator<Item = Wanted<'a>> + use<'a> {
        let whole = *self;
        parts(self.targets, count).map(move |targets| Wanted { targets, ..whole })
    }

    /// The nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        texts(self.nodes)
    }

    /// The localparts of those who are asked.
    pub fn targets(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        texts(self.targets)
    }
}

/// What a stanza of a room is to those who get it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Weight {
    /// What has been said in the room: a seat that does not take it is no seat any more.
    Message,
    /// The same, and it takes something back: what a seat would still get of that is forgotten.
    Retraction,
    /// What nobody misses who does not get it: a chat state.
    Passing,
    /// Somebody else's presence, which a later one replaces.
    Presence,
    /// What the recipient has to know of itself.
    Own,
    /// What the recipient has asked for, whether it is in the room or not.
    Answer,
    /// The recipient's seat has ended.
    End,
    /// What was said in the room before, for a session that goes on; without a head, the id of a message that was taken back.
    Recalled,
    /// There is no more of that.
    RecallEnd,
    /// What has been said in the room, for the devices of those who belong to it. These are no seats: what stands behind the slash is
    /// the number of the account.
    Absent,
    /// The same, in a private group.
    AbsentOfGroup,
}

/// One stanza of a room for seats on one worker. It is written once; each seat gets it with its own address in it.
#[derive(Copy, Clone, Debug)]
pub struct Cast<'a> {
    /// Kind.
    pub kind: Kind,
    /// What it is to those who get it.
    pub weight: Weight,
    /// The address it comes from, of the room or of an occupant.
    pub from: &'a str,
    /// What stands before the attribute with the recipient's address.
    pub head: &'a [u8],
    /// What stands behind it.
    pub tail: &'a [u8],
    pub(super) targets: &'a [u8],
}

impl<'a> Cast<'a> {
    /// A stanza for nobody yet.
    pub fn new(kind: Kind, weight: Weight, from: &'a str, (head, tail): (&'a [u8], &'a [u8])) -> Cast<'a> {
        Cast { kind, weight, from, head, tail, targets: &[] }
    }

    /// The same for the given list, of localparts and resources with a slash between them.
    pub fn to(&self, targets: &'a Targets) -> Cast<'a> {
        Cast { targets: &targets.bytes, ..*self }
    }

    /// As [`Broadcast::parts`].
    pub fn parts(&self, count: usize) -> impl Iterator<Item = Cast<'a>> + use<'a> {
        let whole = *self;
        parts(self.targets, count).map(move |targets| Cast { targets, ..whole })
    }

    /// Appends the stanza as one seat gets it, of a client of `domain`.
    pub fn write(&self, domain: &str, (local, resource): (&str, &str), out: &mut Vec<u8>) {
        out.extend_from_slice(self.head);
        out.extend_from_slice(b" to=\"");
        writer::escape_attribute(local, out);
        out.push(b'@');
        writer::escape_attribute(domain, out);
        out.push(b'/');
        writer::escape_attribute(resource, out);
        out.push(b'"');
        out.extend_from_slice(self.tail);
    }

    /// How many seats there are.
    pub fn recipients(&self) -> usize {
        memchr::memchr_iter(0, self.targets).count()
    }

    /// The seats.
    pub fn targets(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        texts(self.targets)
    }
}

/// A list of localparts.
#[derive(Default, Debug)]
pub struct Targets {
    bytes: Vec<u8>,
}

impl Targets {
    /// Adds a localpart.
    pub fn push(&mut self, local: &str) {
        self.bytes.extend_from_slice(local.as_bytes());
        self.bytes.push(0);
    }

    /// Adds a localpart with a resource.
    pub fn push_seat(&mut self, local: &str, resource: &str) {
        for part in [local, "/", resource] {
            self.bytes.extend_from_slice(part.as_bytes());
        }
        self.bytes.push(0);
    }

    /// Whether nobody is on the list.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many are on the list.
    pub fn count(&self) -> usize {
        memchr::memchr_iter(0, &self.bytes).count()
    }

    /// Gives back the memory that it does not need: nobody is added to it any more.
    pub fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Empties the list and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}
