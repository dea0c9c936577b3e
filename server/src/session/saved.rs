//! A connection as it goes to another program.

mod tls;

use std::borrow::Cow;
use std::net::IpAddr;

pub use tls::TlsRecord;

use super::{Holds, Marks, Session, SessionPhase, StreamContext};
use crate::runtime::driver::{ConnId, Detached};
use crate::saved::codec::{Decoder, Encoder, bits};
use crate::saved::error::StateError;
use crate::tls::{Acceptor, Tls};
use crate::transport::Transport;
use crate::xml::StreamNamespaces;

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRecord<'a> {
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
    /// WebSocket: what of a frame or message is under way.
    pub frames: Cow<'a, [u8]>,
}

/// Bits of [`ConnectionRecord::marks`].
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
    /// It speaks WebSocket.
    pub const WEBSOCKET: u8 = 1 << 5;
    /// TLS protects the way to a trusted proxy.
    pub const SECURED: u8 = 1 << 6;
    /// The element of the message under way is here.
    pub const ELEMENT_SEEN: u8 = 1 << 7;
}

/// Bits that say which rare parts a connection has.
const HAS_PARTIAL: u8 = 1;
const HAS_UNREAD: u8 = 1 << 1;
const HAS_UNSENT: u8 = 1 << 2;
const HAS_NAMESPACES: u8 = 1 << 3;
const HAS_LANGUAGE: u8 = 1 << 4;
const IS_BROKEN: u8 = 1 << 5;
const HAS_INPUT: u8 = 1 << 6;
const HAS_FRAMES: u8 = 1 << 7;

impl<'a> ConnectionRecord<'a> {
    /// Writes it.
    pub fn write(&self, to: &mut Encoder) {
        let parts = [
            (!self.partial.is_empty(), HAS_PARTIAL),
            (!self.unread.is_empty(), HAS_UNREAD),
            (!self.unsent.is_empty(), HAS_UNSENT),
            (!self.namespaces.is_empty(), HAS_NAMESPACES),
            (self.language.is_some(), HAS_LANGUAGE),
            (self.descriptor.is_none(), IS_BROKEN),
            (!self.input.is_empty(), HAS_INPUT),
            (!self.frames.is_empty(), HAS_FRAMES),
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
        if !self.frames.is_empty() {
            to.bytes_of(&self.frames);
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is damaged.
    pub fn read(from: &mut Decoder<'a>) -> Result<ConnectionRecord<'a>, StateError> {
        let parts = from.byte()?;
        let descriptor = (parts & IS_BROKEN == 0).then(|| from.number::<u32>()).transpose()?;
        let connected: u32 = from.number()?;
        let heard = connected.saturating_add(from.number()?);
        let (peer, marks) = (from.address()?, from.byte()?);
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
        let frames = if parts & HAS_FRAMES != 0 { from.bytes()? } else { &[] };
        if whimbrel_websocket::Decoder::restored(frames).is_none() {
            return Err(StateError::Damaged("a frame of WebSocket that cannot be"));
        }
        Ok(ConnectionRecord {
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
            frames: Cow::Borrowed(frames),
        })
    }
}

impl<'a> ConnectionRecord<'a> {
    /// A connection of this server; without its socket it broke while the driver let go of it.
    ///
    /// # Errors
    /// Its socket has no number.
    pub fn of(
        session: &'a Session,
        socket: Option<&'a Detached>,
    ) -> Result<ConnectionRecord<'a>, &'static str> {
        let tls = match &session.tls {
            None => TlsRecord::Plain,
            // Cannot fail where there is a resource; the others were closed before. A connection that has ended by
            // itself is as good as broken.
            Some(tls) => match tls.save() {
                Some(saved) => saved.into(),
                None => return Ok(ConnectionRecord::broken(session)),
            },
        };
        let Some(socket) = socket else { return Ok(ConnectionRecord::broken(session)) };
        let descriptor = socket.number().ok_or("a socket without a descriptor")?;
        let context = session.context.as_deref();
        let namespaces = context.and_then(|context| context.namespaces.as_deref());
        let [front, back] = socket.unsent();
        Ok(ConnectionRecord {
            descriptor: Some(descriptor),
            marks: marks_of(session) | if socket.has_ended() { marks::ENDED } else { 0 },
            tls,
            partial: session.partial.as_ref().map_or(&[], |partial| partial.bytes()),
            unread: socket.unread(),
            unsent: if back.is_empty() { Cow::Borrowed(front) } else { Cow::Owned([front, back].concat()) },
            namespaces: namespaces.map(|declared| declared.iter().collect()).unwrap_or_default(),
            language: context.and_then(|context| context.language.as_deref()),
            ..ConnectionRecord::broken(session)
        })
    }

    fn broken(session: &Session) -> ConnectionRecord<'a> {
        ConnectionRecord {
            descriptor: None,
            connected: session.connected,
            heard: session.heard,
            peer: session.peer,
            marks: marks_of(session),
            tls: TlsRecord::Plain,
            partial: &[],
            input: &[],
            unread: &[],
            unsent: Cow::Borrowed(&[]),
            namespaces: Vec::new(),
            language: None,
            frames: Cow::Borrowed(&[]),
        }
    }

    /// The session of this connection, without the part of a frame that has come.
    pub fn session(&self, conn: ConnId, phase: SessionPhase, acceptor: &Acceptor) -> Session {
        let has = |mark: u8| self.marks & mark != 0;
        let tls = match &self.tls {
            TlsRecord::Plain => None,
            TlsRecord::Fresh => Some(Box::new(acceptor.begin())),
            TlsRecord::Established(record) => Some(Box::new(Tls::restored(record))),
        };
        let mut declared = StreamNamespaces::default();
        for (prefix, uri) in &self.namespaces {
            declared.push(prefix, uri);
        }
        let namespaces = (!self.namespaces.is_empty()).then(|| Box::new(declared));
        let language: Option<Box<str>> = self.language.map(Into::into);
        let context = (namespaces.is_some() || language.is_some())
            .then(|| Box::new(StreamContext { namespaces, language }));
        let mut holds = Holds::default();
        if has(marks::PAUSED) {
            holds.put(Holds::OUTPUT);
        }
        Session {
            conn,
            connected: self.connected,
            heard: self.heard,
            phase,
            tls,
            transport: if has(marks::WEBSOCKET) { Transport::WebSocket } else { Transport::Tcp },
            partial: None,
            context,
            marks: Marks {
                pinged: has(marks::PINGED),
                holds,
                established: has(marks::ESTABLISHED),
                direct_tls: has(marks::DIRECT_TLS),
                secured: has(marks::SECURED),
                element_seen: has(marks::ELEMENT_SEEN),
            },
            peer: self.peer,
        }
    }

    /// The peer has said that nothing more comes.
    pub fn has_ended(&self) -> bool {
        self.marks & marks::ENDED != 0
    }
}

fn marks_of(session: &Session) -> u8 {
    bits([
        (session.marks.pinged, marks::PINGED),
        (session.marks.holds.has(Holds::OUTPUT), marks::PAUSED),
        (session.marks.established, marks::ESTABLISHED),
        (session.marks.direct_tls, marks::DIRECT_TLS),
        (session.transport == Transport::WebSocket, marks::WEBSOCKET),
        (session.marks.secured, marks::SECURED),
        (session.marks.element_seen, marks::ELEMENT_SEEN),
    ])
}

impl ConnectionRecord<'static> {
    /// Examples: without TLS, with each of its kinds, with everything that can wait in a connection, and one that broke.
    #[must_use]
    pub fn samples() -> Vec<ConnectionRecord<'static>> {
        let (v4, v6) = ([192, 0, 2, 7].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into());
        let tls = TlsRecord::samples().into_iter();
        let mut samples: Vec<_> = tls.map(|tls| ConnectionRecord::sample(v4, tls)).collect();
        samples.push(ConnectionRecord {
            partial: b"<message to='romeo@example.org'><bo",
            input: b"dy>Art thou not Romeo?</body></message><message",
            unread: b"\x17\x03\x03",
            unsent: Cow::Borrowed(b"<message/>"),
            namespaces: vec![("x", "urn:example:x")],
            language: Some("it"),
            marks: marks::ESTABLISHED | marks::PINGED | marks::PAUSED | marks::DIRECT_TLS | marks::ENDED,
            ..ConnectionRecord::sample(v6, TlsRecord::Plain)
        });
        samples.push(ConnectionRecord {
            marks: marks::ESTABLISHED
                | marks::DIRECT_TLS
                | marks::WEBSOCKET
                | marks::SECURED
                | marks::ELEMENT_SEEN,
            // Six bytes of a message, and half the head of a frame.
            frames: Cow::Borrowed(&[7, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0xFE, 0]),
            ..ConnectionRecord::sample(v6, TlsRecord::Plain)
        });
        samples.push(ConnectionRecord { descriptor: None, ..ConnectionRecord::sample(v4, TlsRecord::Plain) });
        samples
    }

    fn sample(peer: IpAddr, tls: TlsRecord<'static>) -> ConnectionRecord<'static> {
        ConnectionRecord {
            descriptor: Some(20),
            connected: 3600,
            heard: 86_000,
            peer,
            marks: marks::ESTABLISHED,
            tls,
            partial: b"",
            input: b"",
            unread: b"",
            unsent: Cow::Borrowed(b""),
            namespaces: Vec::new(),
            language: None,
            frames: Cow::Borrowed(b""),
        }
    }
}
