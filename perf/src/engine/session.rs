//! One client session. A million of them are a few hundred megabytes: what only a login needs is in a box of its
//! own, and buffers exist only while they hold something.

use crate::engine::link::Link;
use crate::engine::sasl::Exchange;
use crate::engine::tracker::Flow;

/// How far a session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// No connection.
    #[default]
    Off,
    /// The connect is under way, or the TLS handshake.
    Connecting,
    /// Waiting for the answer to the WebSocket handshake.
    Upgrade,
    /// Waiting for the first features.
    Features,
    /// Waiting for `<proceed/>`.
    Proceed,
    /// SASL is under way.
    Sasl,
    /// Waiting for the features after SASL.
    FeaturesAfterSasl,
    /// Waiting for the resource.
    Bind,
    /// Waiting for the session of RFC 3921, which old servers want.
    Session,
    /// Waiting for `<enabled/>` (XEP-0198).
    StreamManagement,
    /// Presence is sent; waiting for the answer to the ping behind it.
    Presence,
    /// Up.
    Ready,
}

/// A session; see the module.
#[derive(Default)]
pub(crate) struct Session {
    /// The connection.
    pub(crate) link: Option<Box<Link>>,
    /// What the login needs.
    pub(crate) login: Option<Box<Exchange>>,
    /// The beginning of an item that is not whole yet.
    pub(crate) input: Vec<u8>,
    /// What the kernel has not taken yet.
    pub(crate) output: Vec<u8>,
    /// When the connect began, then when the last ping was sent; nanoseconds.
    pub(crate) started_ns: u64,
    /// Its full JID, where the server has chosen another than the expected one.
    pub(crate) jid: Option<Box<str>>,
    /// The messages to and from the partner.
    pub(crate) flow: Flow,
    /// The number that comes next in its room.
    pub(crate) room_next: u32,
    /// Counts connects, so that an old deadline is not taken for a new one.
    pub(crate) attempt: u32,
    /// Stanzas received since stream management is on.
    pub(crate) handled: u32,
    /// Stanzas sent since stream management is on.
    pub(crate) stanzas_sent: u32,
    /// What the server has acknowledged of them.
    pub(crate) stanzas_acknowledged: u32,
    /// How far it is.
    pub(crate) state: State,
    /// Stream management is on.
    pub(crate) managed: bool,
    /// The server offers stream management.
    pub(crate) sm_offered: bool,
    /// Everything up to presence has been sent with `<response/>`.
    pub(crate) pipelined: bool,
    /// A ping has not been answered.
    pub(crate) ping_waits: bool,
    /// It is in the room of its group.
    pub(crate) in_room: bool,
}

const _: () = assert!(size_of::<Session>() <= 192);

impl Session {
    /// Whether it has sent messages under stream management and not everything it sent is acknowledged.
    pub(crate) fn awaits_acknowledgement(&self) -> bool {
        self.managed
            && self.state == State::Ready
            && self.flow.sent > 0
            && self.stanzas_acknowledged != self.stanzas_sent
    }

    /// Forgets everything that belongs to a connection.
    pub(crate) fn forget(&mut self) {
        self.link = None;
        self.jid = None;
        self.started_ns = 0;
        self.login = None;
        self.input = Vec::new();
        self.output = Vec::new();
        self.handled = 0;
        self.stanzas_sent = 0;
        self.stanzas_acknowledged = 0;
        self.state = State::Off;
        self.managed = false;
        self.pipelined = false;
        self.ping_waits = false;
        self.in_room = false;
    }
}
