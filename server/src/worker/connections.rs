//! What happens to connections: they are accepted or refused, their output drains or does not, and they end.

use std::net::IpAddr;

use crate::env::Env;
use crate::memory::Pressure;
use crate::proto::errors::StreamCondition;
use crate::runtime::driver::{CloseCause, CloseHow, ConnId, ListenerId};
use crate::runtime::outbox::Action;
use crate::session::{Holds, Marks, Session, SessionPhase};
use crate::stream::machine::Negotiation;
use crate::transport::{Header, Transport};
use crate::user::actors::Effects;
use crate::user::flow;
use crate::user::tables::Flags;
use crate::worker::core::{Core, Timer, workers_of};
use crate::worker::places::Taken;
use crate::worker::run_queue::InputEnd;

impl Core {
    pub(super) fn accepted(&mut self, conn: ConnId, listener: ListenerId, peer: IpAddr) {
        // Whatever the index carried before.
        self.fx.out.set_transport(conn, Transport::Tcp);
        let metrics = self.env.metrics();
        metrics.accepts.add(1);
        let taken = self.accepts.take(peer);
        if self.accepts.is_used_up() && !self.accept_paused {
            self.accept_paused = true;
            metrics.accept_rate_pauses.add(1);
        }
        if taken == Taken::TurnedAway {
            metrics.refused_accepts.add(1);
            return self.fx.out.act(conn, Action::Close(CloseHow::Reset));
        }
        let direct_tls = self.tls_listeners.get(usize::from(listener.0)).copied().unwrap_or(false);
        if self.env.shared.memory.pressure() >= Pressure::Short {
            self.env.metrics().refused_memory.add(1);
            return self.refuse_connection(conn, direct_tls);
        }
        if !self.find_place(peer) {
            return self.refuse_connection(conn, direct_tls);
        }
        metrics_connection_opened(&self.env, Transport::Tcp);
        let preauth_ms = u64::from(self.env.config.limits.preauth_seconds) * 1000;
        let deadline = self.set_timer(preauth_ms, Timer::Preauth(conn));
        let tls = direct_tls.then(|| Box::new(self.env.shared.acceptor.begin()));
        let now = self.seconds();
        self.enter(Session {
            conn,
            connected: now,
            heard: now,
            phase: SessionPhase::Negotiating(Box::new(Negotiation::new(deadline))),
            tls,
            partial: None,
            context: None,
            marks: Marks { direct_tls, ..Marks::default() },
            transport: Transport::Tcp,
            peer,
        });
        self.places.enter(peer, conn);
    }

    /// Adds a session of this worker's driver.
    pub(super) fn enter(&mut self, session: Session) {
        self.fx.out.set_transport(session.conn, session.transport);
        self.sessions.insert(session);
    }

    /// A connection over a limit: told so where it can be without a handshake, then closed.
    pub(super) fn refuse_connection(&mut self, conn: ConnId, direct_tls: bool) {
        if !direct_tls {
            let id = self.env.shared.unique_id();
            let domain = self.env.shared.domain.clone();
            let mut out = self.fx.out.stream(conn);
            out.header(&Header { from: &domain, id: &id, to: None });
            out.error(StreamCondition::ResourceConstraint, Some("too many connections; try again later"));
            out.end();
        }
        self.fx.out.act(conn, Action::Close(CloseHow::Flush));
    }

    /// The peer will send nothing more: without a closed stream this is an end like a cut.
    pub(super) fn ended(&mut self, conn: ConnId) {
        if self.turns.end_later(conn, InputEnd::Fin) {
            return;
        }
        self.lost(conn);
        self.close(conn);
    }

    pub(super) fn drained(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let before = self.fx.out.set_with_driver(conn, 0);
        self.fx.out.times.drained(conn);
        self.env.shared.metrics[self.env.worker].backlog_bytes.sub(before as u64);
        if let SessionPhase::Bound(key) = session.phase {
            flow::drained(&mut self.actors, &self.env, &mut self.fx, key);
        }
        self.lift(conn, Holds::OUTPUT);
    }

    pub(super) fn closed(&mut self, conn: ConnId, cause: CloseCause) {
        if let CloseCause::Failed { errno } = cause {
            let reason = std::io::Error::from_raw_os_error(errno);
            tracing::debug!(%reason, "a connection failed");
        }
        self.lost(conn);
        self.actors.inputs.forget(conn);
        self.frames.remove(&conn);
        if let Some(session) = self.sessions.remove(conn) {
            if let SessionPhase::Negotiating(negotiation) | SessionPhase::Leaving(negotiation) =
                &session.phase
                && let Some(deadline) = negotiation.deadline
            {
                self.timers.cancel(deadline);
            }
            metrics_connection_closed(&self.env, &mut self.fx, &session);
            self.env.shared.admission.release(session.peer, session.marks.established);
            self.places.tidy(session.peer, &self.sessions);
        }
    }

    /// The driver says how much waits for a client after a send.
    pub fn backlog(&mut self, conn: ConnId, bytes: usize) {
        let limit = self.env.config.limits.output_backlog_bytes as usize;
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let metrics = &self.env.shared.metrics[self.env.worker];
        let before = self.fx.out.set_with_driver(conn, bytes);
        metrics.backlog_bytes.sub(before as u64);
        metrics.backlog_bytes.add(bytes as u64);
        metrics.backlog_high.raise(bytes as u64);
        metrics.backlog_fullest.raise(bytes as u64);
        if bytes > limit {
            metrics.refused_backlog.add(1);
            // A client that does not read cannot be told; a reset frees the memory at once.
            self.lost(conn);
            self.fx.out.act(conn, Action::Close(CloseHow::Reset));
            return;
        }
        if let SessionPhase::Bound(key) = session.phase
            && bytes > limit / 4
        {
            self.actors.users.resource_mut(key).flags.put(Flags::BACKED_UP, true);
        }
        if self.is_choked(conn) {
            self.hold(conn, Holds::OUTPUT);
        }
    }

    pub(super) fn preauth_expired(&mut self, conn: ConnId) {
        let expired = self.sessions.get(conn).is_some_and(|session| match &session.phase {
            SessionPhase::Negotiating(_) => true,
            SessionPhase::Leaving(_) | SessionPhase::Bound(_) | SessionPhase::Closing => false,
        });
        if expired {
            self.env.metrics().refused_preauth_time.add(1);
            let text = "no resource was bound in time";
            self.end_stream(conn, StreamCondition::ConnectionTimeout, Some(text));
        }
    }

    pub(super) fn refill_accept_budget(&mut self) {
        let workers = workers_of(&self.env);
        self.accepts.refill(&self.env.config.limits, workers);
        self.accept_paused = self.draining;
    }

    pub(super) fn count_users(&self) {
        let (users, sessions) = self.actors.users.counts();
        self.env.metrics().users.set(users as u64);
        self.env.metrics().sessions.set(sessions as u64);
    }
}

pub(super) fn metrics_connection_opened(env: &Env, transport: Transport) {
    env.metrics().connections.add(1);
    if transport == Transport::WebSocket {
        env.metrics().websocket_connections.add(1);
    }
}

pub(super) fn metrics_connection_closed(env: &Env, fx: &mut Effects, session: &Session) {
    let unsent = fx.out.set_with_driver(session.conn, 0);
    fx.out.times.forget(session.conn);
    let metrics = env.metrics();
    metrics.connections.sub(1);
    if session.transport == Transport::WebSocket {
        metrics.websocket_connections.sub(1);
    }
    metrics.backlog_bytes.sub(unsent as u64);
    if session.tls.as_ref().is_some_and(|tls| tls.is_established()) {
        metrics.tls_sessions.sub(1);
    }
}
