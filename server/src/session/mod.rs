//! A connection as the server sees it: TLS, an unfinished stanza, and either a negotiation or a bound resource.
//!
//! The budget of an idle session rules the layout: what only some sessions have is boxed, what only a moment
//! needs (buffers, negotiation, handshake) exists only in that moment.

pub mod saved;

use std::net::IpAddr;

use whimbrel_websocket::Decoder;

use crate::keys::ResourceKey;
use crate::runtime::driver::{ConnId, Detached};
use crate::stream::machine::Negotiation;
use crate::tls::Tls;
use crate::transport::Transport;
use crate::xml::{Partial, StreamNamespaces};

/// Where a session is on its way.
pub enum SessionPhase {
    /// No resource yet.
    Negotiating(Box<Negotiation>),
    /// On its way to its user's home worker: the driver has been asked to let go of the socket.
    Leaving(Box<Negotiation>),
    /// Bound.
    Bound(ResourceKey),
    /// The stream has been closed by us; input means nothing any more.
    Closing,
}

/// What a stream header said that is not as usual.
#[derive(Debug)]
pub struct StreamContext {
    /// Prefixes declared there.
    pub namespaces: Option<Box<StreamNamespaces>>,
    /// Its `xml:lang`, when it is another one than that of the server's header.
    pub language: Option<Box<str>>,
}

/// Why nothing more is read from a connection, and nothing of what has been read is handled. Reading goes on when no
/// reason is left.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Holds(u8);

impl Holds {
    /// It has had its share of this turn; its input stands in the run queue.
    pub const TURN: Holds = Holds(1);
    /// Too much waits for a client that does not read.
    pub const OUTPUT: Holds = Holds(1 << 1);
    /// Too many of its messages are on their way to a log.
    pub const LOG: Holds = Holds(1 << 2);
    /// A write to the directory is under way, and the next stanza must not overtake it.
    pub const WRITE: Holds = Holds(1 << 3);
    /// It, or its account, has asked for more than its rate.
    pub const TOKENS: Holds = Holds(1 << 4);

    /// Whether all of `reason` is in the set.
    pub fn has(self, reason: Holds) -> bool {
        self.0 & reason.0 == reason.0
    }

    /// Whether nothing holds it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds reasons.
    pub fn put(&mut self, reason: Holds) {
        self.0 |= reason.0;
    }

    /// Takes reasons out.
    pub fn take(&mut self, reason: Holds) {
        self.0 &= !reason.0;
    }
}

/// Facts about a session that are either true or not.
#[derive(Copy, Clone, Debug, Default)]
pub struct Marks {
    /// The server has pinged and heard nothing since.
    pub pinged: bool,
    /// Why nothing is read from it.
    pub holds: Holds,
    /// It was counted as established in the admission counts.
    pub established: bool,
    /// TLS begins with its first byte: it came in on a direct TLS listener, or by HTTPS.
    pub direct_tls: bool,
    /// TLS protects the way to a trusted proxy, which says so.
    pub secured: bool,
    /// WebSocket: the element of the message under way is here, and only the end of the message may follow.
    pub element_seen: bool,
}

/// The way between a client and the server, as a negotiation looks at it.
#[derive(Copy, Clone, Debug)]
pub struct Channel {
    /// Where the client connects from.
    pub peer: IpAddr,
    /// TLS protects it.
    pub secured: bool,
    /// TLS can begin on it (STARTTLS).
    pub may_start_tls: bool,
}

/// One session.
pub struct Session {
    /// Its connection.
    pub conn: ConnId,
    /// Seconds of the server's clock when the connection was accepted.
    pub connected: u32,
    /// Seconds of the server's clock when something was last received.
    pub heard: u32,
    /// Where it is on its way.
    pub phase: SessionPhase,
    /// TLS, once begun.
    pub tls: Option<Box<Tls>>,
    /// The stanza of which not all bytes have come.
    pub partial: Option<Box<Partial>>,
    /// The unusual in its stream header.
    pub context: Option<Box<StreamContext>>,
    /// Facts.
    pub marks: Marks,
    /// What carries its stream.
    pub transport: Transport,
    /// Where the client connects from.
    pub peer: IpAddr,
}

impl Session {
    /// The way between the client and the server.
    pub fn channel(&self) -> Channel {
        let secured = self.tls.is_some() || self.marks.secured;
        let may_start_tls = self.tls.is_none() && self.transport == Transport::Tcp;
        Channel { peer: self.peer, secured, may_start_tls }
    }
}

// The memory budget of an idle session rests on this size (docs/performance.md).
const _: () = assert!(size_of::<Session>() <= 88);

/// A session that moves to another worker, with its socket.
pub struct Migration {
    /// The session; its connection id means nothing on the way.
    pub session: Session,
    /// The socket, with what was read and not yet looked at.
    pub socket: Detached,
    /// WebSocket: what of a frame or message is under way.
    pub frames: Option<Box<Decoder>>,
}

/// The sessions of one worker, at the index of their connection.
#[derive(Default)]
pub struct Sessions {
    slots: Vec<Option<Session>>,
    count: usize,
}

impl Sessions {
    /// The session of a live connection.
    pub fn get(&self, conn: ConnId) -> Option<&Session> {
        self.slots.get(conn.index as usize)?.as_ref().filter(|session| session.conn == conn)
    }

    /// The session of a live connection.
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut Session> {
        self.slots.get_mut(conn.index as usize)?.as_mut().filter(|session| session.conn == conn)
    }

    /// Adds a session under its connection.
    pub fn insert(&mut self, session: Session) {
        let index = session.conn.index as usize;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        if self.slots[index].replace(session).is_none() {
            self.count += 1;
        }
    }

    /// Takes a session out.
    pub fn remove(&mut self, conn: ConnId) -> Option<Session> {
        self.get(conn)?;
        self.count -= 1;
        self.slots[conn.index as usize].take()
    }

    /// Number of sessions.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Indexes in use or once used: what [`Sessions::range`] walks through.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All sessions.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.slots.iter().flatten()
    }

    /// The connections at a range of indexes, for sweeps that do a part at a time, and whether the range
    /// reached the end.
    pub fn range(&self, start: usize, length: usize) -> (impl Iterator<Item = &Session>, bool) {
        let end = (start + length).min(self.slots.len());
        (self.slots[start.min(end)..end].iter().flatten(), end == self.slots.len())
    }
}
