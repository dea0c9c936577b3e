//! Connections that come from the HTTP server: WebSocket, after its handshake (RFC 7395 §3.1).
//!
//! From here on they are like those that a listener has accepted, and the same limits hold; the client's address is the one
//! that a trusted proxy names.

use std::net::IpAddr;

use whimbrel_websocket::{Code, encode};

use crate::memory::Pressure;
use crate::runtime::driver::{CloseHow, ConnId, Detached, Driver};
use crate::runtime::outbox::Action;
use crate::session::{Marks, Session, SessionPhase};
use crate::stream::machine::Negotiation;
use crate::tls::Tls;
use crate::transport::Transport;
use crate::worker::Worker;
use crate::worker::connections::metrics_connection_opened;
use crate::worker::core::{Core, Timer};
use crate::worker::places::Taken;

/// Connections that are taken in one iteration.
const TAKEN_MAX: usize = 64;

/// A connection whose WebSocket handshake is over.
pub struct Newcomer {
    /// Its socket, as a driver takes it over.
    pub socket: Detached,
    /// TLS after its handshake.
    pub tls: Option<Box<Tls>>,
    /// What has come behind the handshake, decrypted.
    pub came: Vec<u8>,
    /// What is still to be sent, as it goes to the wire.
    pub unsent: Vec<u8>,
    /// Where the client connects from.
    pub peer: IpAddr,
    /// A trusted proxy says that TLS protects the way to it.
    pub secured: bool,
}

impl<D: Driver> Worker<D> {
    /// Takes connections that the HTTP server has handed over.
    pub(super) fn take_newcomers(&mut self) {
        for _ in 0..TAKEN_MAX {
            let Some(newcomer) = self.commands.take_newcomer() else { return };
            self.take_in(*newcomer);
        }
    }

    fn take_in(&mut self, newcomer: Newcomer) {
        let Newcomer { socket, tls, came, unsent, peer, secured } = newcomer;
        let conn = self.driver.attach(socket.restored(&[], &unsent, false));
        self.core.welcome(conn, WebSocketStart { tls, came, unsent: unsent.len(), peer, secured });
        self.core.carry_out();
    }
}

/// What a worker is told of a WebSocket that begins.
pub struct WebSocketStart {
    /// TLS after its handshake.
    pub tls: Option<Box<Tls>>,
    /// What has come already, decrypted.
    pub came: Vec<u8>,
    /// Bytes that still wait in the driver.
    pub unsent: usize,
    /// Where the client connects from.
    pub peer: IpAddr,
    /// A trusted proxy says that TLS protects the way to it.
    pub secured: bool,
}

impl Core {
    /// A connection of the driver on which WebSocket is spoken from now on, or that is over a limit.
    pub fn welcome(&mut self, conn: ConnId, start: WebSocketStart) {
        self.env.metrics().accepts.add(1);
        self.env.metrics().websocket_accepts.add(1);
        if self.accepts.take(start.peer) == Taken::TurnedAway {
            self.env.metrics().refused_accepts.add(1);
            return self.fx.out.act(conn, Action::Close(CloseHow::Reset));
        }
        if self.env.shared.memory.pressure() >= Pressure::Short {
            self.env.metrics().refused_memory.add(1);
            return self.send_away(conn, start.tls);
        }
        // A limit is counted where a place is looked for.
        if self.draining || !self.find_place(start.peer) {
            return self.send_away(conn, start.tls);
        }
        self.begin_websocket(conn, start);
    }

    /// Says in a frame that the client may come again: there is no stream yet on which it could be said.
    fn send_away(&mut self, conn: ConnId, tls: Option<Box<Tls>>) {
        let (mut close, mut sealed) = (Vec::new(), Vec::new());
        encode::close(Code::TRY_LATER, &mut close);
        if let Some(mut tls) = tls {
            let _ = tls.seal(&close, &mut sealed);
            tls.close_notify(&mut sealed);
            close = sealed;
        }
        // Nobody encrypts it any more: there is no session.
        self.fx.out.wire(conn).extend_from_slice(&close);
        self.fx.out.act(conn, Action::Close(CloseHow::Flush));
    }

    fn begin_websocket(&mut self, conn: ConnId, start: WebSocketStart) {
        let WebSocketStart { mut tls, mut came, unsent, peer, secured } = start;
        let preauth_ms = u64::from(self.env.config.limits.preauth_seconds) * 1000;
        let mut negotiation = Negotiation::new(self.set_timer(preauth_ms, Timer::Preauth(conn)));
        let metrics = self.env.metrics();
        if let Some(tls) = &mut tls {
            metrics.tls_handshakes.add(1);
            metrics.tls_sessions.add(1);
            negotiation.bindings = tls.channel_bindings();
        }
        self.fx.out.set_with_driver(conn, unsent);
        self.env.metrics().backlog_bytes.add(unsent as u64);
        metrics_connection_opened(&self.env, Transport::WebSocket);
        let now = self.seconds();
        self.enter(Session {
            conn,
            connected: now,
            heard: now,
            phase: SessionPhase::Negotiating(Box::new(negotiation)),
            tls,
            partial: None,
            context: None,
            marks: Marks { direct_tls: true, secured, ..Marks::default() },
            transport: Transport::WebSocket,
            peer,
        });
        self.places.enter(peer, conn);
        if !came.is_empty() {
            self.unframe(conn, &mut came);
        }
    }
}
