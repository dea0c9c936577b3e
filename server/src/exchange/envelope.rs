//! What workers say to each other: envelopes, packed into batches.
//!
//! A worker fills one batch per other worker during an iteration and posts it at the end: one mailbox entry
//! and at most one wake-up for everything that happened. The texts of all envelopes of a batch lie in one
//! buffer, and emptied batches go back to their sender, so the steady path allocates nothing.

use std::collections::VecDeque;

use crate::exchange::fanout::{Broadcast, Cast, EventKind, NodeEvent, Wanted, Weight};
use crate::exchange::membership::Membership;
use crate::runtime::deliveries::{Reception, Receptions};
use crate::runtime::driver::ConnId;
use crate::runtime::mailbox::Size;
use crate::session::Migration;
use crate::stanza::{Delivery, Kind, PendingAck, Traits, Type};
use whimbrel_address::Block;

/// A piece of a batch's buffer.
#[derive(Copy, Clone, Debug)]
struct Span {
    start: u32,
    length: u32,
}

/// What kind of actor a stanza is for.
#[derive(Copy, Clone)]
enum Recipient {
    User,
    Room,
    Node,
}

/// A stanza for one actor.
struct PackedStanza {
    kind: Kind,
    typ: Type,
    traits: Traits,
    from: Span,
    to_local: Span,
    to_resource: Option<Span>,
    id: Option<Span>,
    bytes: Span,
    pending_ack: Option<PendingAck>,
    recipient: Recipient,
}

enum Packed {
    Stanza(PackedStanza),
    Cast {
        kind: Kind,
        weight: Weight,
        from: Span,
        head: Span,
        tail: Span,
        targets: Span,
    },
    Broadcast {
        typ: Type,
        from: Span,
        payload: Span,
        targets: Span,
        chooses_resources: bool,
    },
    Event {
        kind: EventKind,
        owner: Span,
        node: Span,
        tail: Span,
        targets: Span,
    },
    Wanted {
        from: Span,
        nodes: Span,
        targets: Span,
    },
    Membership {
        account: Span,
        room: Span,
        name: Span,
        by: Span,
        is_granted: bool,
        is_invited: bool,
        is_written: bool,
        pending_ack: Option<PendingAck>,
    },
    Spread {
        from: Span,
        conn: ConnId,
    },
    Owed {
        by: Span,
        work: u64,
    },
    Migration(Box<Migration>),
    Durable {
        pending_ack: PendingAck,
        is_durable: bool,
    },
    MakeRoom {
        address: Block,
        workers: usize,
    },
}

/// An envelope as the recipient reads it.
pub enum Envelope<'a> {
    /// A stanza for one user.
    Stanza(Delivery<'a>),
    /// A stanza for a room.
    Visit(Delivery<'a>),
    /// A stanza for a node of the publish-subscribe service.
    ToNode(Delivery<'a>),
    /// One stanza of a room for many seats.
    Cast(Cast<'a>),
    /// One presence for many users.
    Broadcast(Broadcast<'a>),
    /// What has happened to a node, for many users.
    Event(NodeEvent<'a>),
    /// Somebody wants last items of many users.
    Wanted(Wanted<'a>),
    /// An account belongs to a private group, or no longer.
    Membership(Membership<'a>),
    /// All parts of a presence that this worker has sent to itself have been read.
    Spread {
        /// Whose it was.
        from: &'a str,
        /// The connection that sent it.
        conn: ConnId,
    },
    /// What a request has made of work at the home of somebody else.
    Owed {
        /// The full JID of who has sent it.
        by: &'a str,
        /// Units of it.
        work: u64,
    },
    /// A connection that moves to its user's home.
    Migration(Box<Migration>),
    /// A message of a client is durable, or will never be.
    Durable {
        /// Whose, and which.
        pending_ack: PendingAck,
        /// Whether it is durable.
        is_durable: bool,
    },
    /// The oldest connection from an address that has no resource is to be ended.
    MakeRoom {
        /// The address.
        address: Block,
        /// How many workers, this one included, may have such a connection.
        workers: usize,
    },
}

/// The envelopes of one iteration to one worker.
#[derive(Default)]
pub struct Batch {
    /// Those that are not read yet.
    envelopes: VecDeque<Packed>,
    bytes: Vec<u8>,
    /// Recipients of those for many; one of a long stanza counts as several.
    recipients: usize,
    /// When the oldest of the stanzas were received.
    received: Receptions,
}

impl Span {
    /// What it spans of a batch's bytes.
    fn bytes(self, all: &[u8]) -> &[u8] {
        &all[self.start as usize..][..self.length as usize]
    }

    fn text(self, all: &[u8]) -> &str {
        std::str::from_utf8(self.bytes(all)).expect("put there from a str")
    }
}

impl PackedStanza {
    /// The stanza as its recipient reads it.
    fn open<'a>(&self, bytes: &'a [u8]) -> Envelope<'a> {
        let delivery = Delivery {
            kind: self.kind,
            typ: self.typ,
            traits: self.traits,
            from: self.from.text(bytes),
            to_local: self.to_local.text(bytes),
            to_resource: self.to_resource.map(|span| span.text(bytes)),
            id: self.id.map(|span| span.text(bytes)),
            bytes: self.bytes.bytes(bytes),
            pending_ack: self.pending_ack,
        };
        match self.recipient {
            Recipient::User => Envelope::Stanza(delivery),
            Recipient::Room => Envelope::Visit(delivery),
            Recipient::Node => Envelope::ToNode(delivery),
        }
    }
}

impl Packed {
    /// The envelope as its reader sees it. `bytes`: those of its batch.
    fn open(self, bytes: &[u8]) -> Envelope<'_> {
        match self {
            Packed::Stanza(stanza) => stanza.open(bytes),
            Packed::Cast { kind, weight, from, head, tail, targets } => Envelope::Cast(Cast {
                kind,
                weight,
                from: from.text(bytes),
                head: head.bytes(bytes),
                tail: tail.bytes(bytes),
                targets: targets.bytes(bytes),
            }),
            Packed::Broadcast { typ, from, payload, targets, chooses_resources } => {
                Envelope::Broadcast(Broadcast {
                    typ,
                    from: from.text(bytes),
                    payload: payload.bytes(bytes),
                    targets: targets.bytes(bytes),
                    chooses_resources,
                })
            }
            Packed::Event { kind, owner, node, tail, targets } => Envelope::Event(NodeEvent {
                kind,
                owner: owner.text(bytes),
                node: node.text(bytes),
                tail: tail.bytes(bytes),
                targets: targets.bytes(bytes),
            }),
            Packed::Wanted { from, nodes, targets } => Envelope::Wanted(Wanted {
                from: from.text(bytes),
                nodes: nodes.bytes(bytes),
                targets: targets.bytes(bytes),
            }),
            Packed::Membership {
                account,
                room,
                name,
                by,
                is_granted,
                is_invited,
                is_written,
                pending_ack,
            } => Envelope::Membership(Membership {
                account: account.text(bytes),
                room: room.text(bytes),
                name: name.text(bytes),
                by: by.text(bytes),
                is_granted,
                is_invited,
                is_written,
                pending_ack,
            }),
            Packed::Spread { from, conn } => Envelope::Spread { from: from.text(bytes), conn },
            Packed::Owed { by, work } => Envelope::Owed { by: by.text(bytes), work },
            Packed::Migration(migration) => Envelope::Migration(migration),
            Packed::Durable { pending_ack, is_durable } => Envelope::Durable { pending_ack, is_durable },
            Packed::MakeRoom { address, workers } => Envelope::MakeRoom { address, workers },
        }
    }
}

impl Batch {
    /// A batch that holds more bytes than this is not kept for reuse.
    const KEEP_BYTES_MAX: usize = 256 * 1024;

    /// A batch of so many bytes takes no further envelope, so it has at most one envelope more than this.
    pub const BYTES_MAX: usize = 64 * 1024;

    /// Letters and recipients of broadcasts in a batch of which it takes no more: what one worker hands another is
    /// read in small pieces.
    pub const RECIPIENTS_MAX: usize = 256;

    /// A recipient of a room's stanza counts once more for each so many bytes of it.
    const RECIPIENT_BYTES: usize = 8 * 1024;

    /// The same of a stanza for one user, who may have many clients.
    const STANZA_BYTES: usize = 2 * 1024;

    /// A stanza in it was received then.
    pub fn note_received(&mut self, received: Reception) {
        self.received.note(received);
    }

    /// When the oldest of its stanzas were received; the batch forgets it.
    pub fn take_received(&mut self) -> Receptions {
        std::mem::take(&mut self.received)
    }

    /// Whether it takes no further envelope.
    pub fn is_full(&self) -> bool {
        self.envelopes.len() + self.recipients >= Self::RECIPIENTS_MAX || self.bytes.len() >= Self::BYTES_MAX
    }

    fn put(&mut self, bytes: &[u8]) -> Span {
        let start = u32::try_from(self.bytes.len()).expect("a full batch is closed at BYTES_MAX");
        let length = u32::try_from(bytes.len()).expect("a stanza is bounded by limits.stanza_bytes");
        self.bytes.extend_from_slice(bytes);
        Span { start, length }
    }

    /// Adds a stanza for a user.
    pub fn stanza(&mut self, d: &Delivery<'_>) {
        self.delivery(d, Recipient::User);
    }

    /// Adds a stanza for a room.
    pub fn visit(&mut self, d: &Delivery<'_>) {
        self.delivery(d, Recipient::Room);
    }

    /// Adds a stanza for a node of the publish-subscribe service.
    pub fn ask_node(&mut self, d: &Delivery<'_>) {
        self.delivery(d, Recipient::Node);
    }

    fn delivery(&mut self, d: &Delivery<'_>, recipient: Recipient) {
        self.recipients += d.bytes.len() / Self::STANZA_BYTES;
        let packed = PackedStanza {
            kind: d.kind,
            typ: d.typ,
            traits: d.traits,
            from: self.put(d.from.as_bytes()),
            to_local: self.put(d.to_local.as_bytes()),
            to_resource: d.to_resource.map(|r| self.put(r.as_bytes())),
            id: d.id.map(|id| self.put(id.as_bytes())),
            bytes: self.put(d.bytes),
            pending_ack: d.pending_ack,
            recipient,
        };
        self.envelopes.push_back(Packed::Stanza(packed));
    }

    /// Adds a stanza of a room.
    pub fn cast(&mut self, cast: &Cast<'_>) {
        self.recipients += cast.recipients() * (1 + cast.tail.len() / Self::RECIPIENT_BYTES);
        let packed = Packed::Cast {
            kind: cast.kind,
            weight: cast.weight,
            from: self.put(cast.from.as_bytes()),
            head: self.put(cast.head),
            tail: self.put(cast.tail),
            targets: self.put(cast.targets),
        };
        self.envelopes.push_back(packed);
    }

    /// Adds a broadcast.
    pub fn broadcast(&mut self, b: &Broadcast<'_>) {
        self.recipients += memchr::memchr_iter(0, b.targets).count();
        let packed = Packed::Broadcast {
            typ: b.typ,
            from: self.put(b.from.as_bytes()),
            payload: self.put(b.payload),
            targets: self.put(b.targets),
            chooses_resources: b.chooses_resources,
        };
        self.envelopes.push_back(packed);
    }

    /// Adds what has happened to a node.
    pub fn event(&mut self, event: &NodeEvent<'_>) {
        self.recipients += memchr::memchr_iter(0, event.targets).count();
        let packed = Packed::Event {
            kind: event.kind,
            owner: self.put(event.owner.as_bytes()),
            node: self.put(event.node.as_bytes()),
            tail: self.put(event.tail),
            targets: self.put(event.targets),
        };
        self.envelopes.push_back(packed);
    }

    /// Adds the wish for last items.
    pub fn wanted(&mut self, wanted: &Wanted<'_>) {
        self.recipients += memchr::memchr_iter(0, wanted.targets).count();
        let packed = Packed::Wanted {
            from: self.put(wanted.from.as_bytes()),
            nodes: self.put(wanted.nodes),
            targets: self.put(wanted.targets),
        };
        self.envelopes.push_back(packed);
    }

    /// Adds that an account belongs to a private group, or no longer.
    pub fn membership(&mut self, membership: &Membership<'_>) {
        let packed = Packed::Membership {
            account: self.put(membership.account.as_bytes()),
            room: self.put(membership.room.as_bytes()),
            name: self.put(membership.name.as_bytes()),
            by: self.put(membership.by.as_bytes()),
            is_granted: membership.is_granted,
            is_invited: membership.is_invited,
            is_written: membership.is_written,
            pending_ack: membership.pending_ack,
        };
        self.envelopes.push_back(packed);
    }

    /// Adds the word that the broadcasts before it were the last parts of a presence.
    pub fn spread(&mut self, from: &str, conn: ConnId) {
        let packed = Packed::Spread { from: self.put(from.as_bytes()), conn };
        self.envelopes.push_back(packed);
    }

    /// Adds the bill for a request, for who has sent it.
    pub fn owed(&mut self, by: &str, work: u64) {
        let packed = Packed::Owed { by: self.put(by.as_bytes()), work };
        self.envelopes.push_back(packed);
    }

    /// Adds a connection.
    pub fn migration(&mut self, migration: Box<Migration>) {
        self.envelopes.push_back(Packed::Migration(migration));
    }

    /// Adds the word that a message is durable, or will never be.
    pub fn durable(&mut self, pending_ack: PendingAck, is_durable: bool) {
        self.envelopes.push_back(Packed::Durable { pending_ack, is_durable });
    }

    /// Adds the order to end the oldest connection from an address.
    pub fn make_room(&mut self, address: Block, workers: usize) {
        self.envelopes.push_back(Packed::MakeRoom { address, workers });
    }

    /// Number of envelopes that are not read yet.
    pub fn len(&self) -> usize {
        self.envelopes.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.envelopes.is_empty()
    }

    /// Bytes of all texts.
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of memory of all envelopes, and how many there are: each recipient of one for many counts as one.
    pub fn size(&self) -> Size {
        let bytes = self.bytes.len() + self.envelopes.len() * size_of::<Packed>();
        Size { bytes, weight: self.envelopes.len() + self.recipients }
    }

    /// Reads the envelopes in the order in which they were added, and leaves the batch empty.
    pub fn open(&mut self, mut read: impl FnMut(Envelope<'_>)) {
        while let Some(envelope) = self.take_next() {
            read(envelope);
        }
        self.clear();
    }

    /// The next envelope, in the order in which they were added.
    pub fn take_next(&mut self) -> Option<Envelope<'_>> {
        let packed = self.envelopes.pop_front()?;
        Some(packed.open(&self.bytes))
    }

    /// Drops what is in it and keeps its memory for reuse.
    pub fn clear(&mut self) {
        self.envelopes.clear();
        self.recipients = 0;
        self.bytes.clear();
        if self.bytes.capacity() > Self::KEEP_BYTES_MAX {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests;
