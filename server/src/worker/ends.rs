//! How streams end: with an error or without, one or all of them.

use std::sync::atomic::Ordering;

use crate::proto::errors::{StreamCondition, StreamEnd};
use crate::runtime::driver::{CloseHow, ConnId};
use crate::runtime::outbox::Action;
use crate::session::{Session, SessionPhase};
use crate::transport::Output;
use crate::user::presence;
use crate::worker::core::{Core, Timer};
use crate::worker::login::negotiation_env;

/// How far the end of a server has come that keeps sessions for the next one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// There is none, or it keeps nothing.
    No,
    /// Sessions that cannot be kept have been ended.
    Begun,
    /// The others are written down. From here on nothing happens to them: whatever a client or its contacts heard now would not be
    /// known to the next server.
    Kept,
}

impl Core {
    /// Whether sessions are kept, and it is not yet said what is to become of this worker.
    pub(super) fn is_frozen(&self) -> bool {
        self.ending == Ending::Kept && !self.draining
    }

    /// Everything goes on after all: it has to come to rest once more.
    pub(super) fn thaw(&mut self) {
        if self.is_frozen() {
            self.ending = Ending::Begun;
        }
    }

    /// Says whether what was kept is there for the next server; if not, sessions end as always.
    pub(super) fn confirm_kept(&mut self, is_kept: bool) {
        if !is_kept {
            self.thaw();
        }
    }

    /// Ends the sessions that the next server cannot have, because they cannot be resumed: while the others are there to hear of
    /// it. Returns how many there were.
    pub(super) fn end_others(&mut self) -> usize {
        self.ending = Ending::Begun;
        let mut others: Vec<ConnId> = Vec::new();
        let is_bound = |session: &&Session| matches!(session.phase, SessionPhase::Bound(_));
        for session in self.sessions.iter().filter(is_bound) {
            if let SessionPhase::Bound(key) = session.phase
                && !self.actors.users.resource(key).is_resumable()
            {
                others.push(session.conn);
            }
        }
        for &conn in &others {
            self.end_stream(conn, StreamCondition::SystemShutdown, None);
        }
        self.carry_out();
        others.len()
    }

    /// A bound session is over: its contacts hear of it, unless it is kept. The connection may live on to say goodbye.
    pub(super) fn forget_resource(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if let SessionPhase::Bound(key) = session.phase {
            session.phase = SessionPhase::Closing;
            session.context = None;
            self.forget_input(conn);
            if self.ending == Ending::Kept {
                return;
            }
            presence::session_ended(&mut self.actors, &self.env, &mut self.fx, key);
            self.count_users();
        }
    }

    /// Sends a stream error and closes (RFC 6120 §4.9.1).
    pub(super) fn end_stream(&mut self, conn: ConnId, condition: StreamCondition, text: Option<&str>) {
        // A client that does not answer cannot hear it, but may come back.
        let may_return = condition == StreamCondition::ConnectionTimeout;
        self.end_stream_with(conn, may_return, |out| out.error(condition, text));
    }

    /// As [`Core::end_stream`], with an error that `write` writes. `may_return`: a session that can be resumed waits
    /// for that.
    pub(super) fn end_stream_with(
        &mut self,
        conn: ConnId,
        may_return: bool,
        write: impl FnOnce(&mut Output<'_>),
    ) {
        if self.sessions.get(conn).is_none_or(|session| matches!(session.phase, SessionPhase::Closing)) {
            return;
        }
        // First, because a session can be among those who hear of its end, and nothing may follow the close.
        match may_return {
            true => self.lost(conn),
            false => self.forget_resource(conn),
        }
        let Some(session) = self.sessions.get_mut(conn) else { return };
        self.env.metrics().stream_errors.add(1);
        let at = negotiation_env(&self.env, &self.capabilities, session.channel());
        let handshake_over = session.tls.as_ref().is_none_or(|tls| tls.is_established());
        if handshake_over {
            let mut out = self.fx.out.stream(conn);
            if let SessionPhase::Negotiating(negotiation) | SessionPhase::Leaving(negotiation) =
                &mut session.phase
            {
                negotiation.send_header(&at, None, &mut out);
            }
            write(&mut out);
            out.end_elsewhere(if self.draining || self.ending != Ending::No {
                &self.env.config.http.see_other_uri
            } else {
                ""
            });
        }
        self.close(conn);
    }

    /// Closes after what is queued has been sent. The session is no longer bound.
    pub(super) fn close(&mut self, conn: ConnId) {
        self.forget_resource(conn);
        if let Some(session) = self.sessions.get_mut(conn) {
            if let SessionPhase::Negotiating(negotiation) | SessionPhase::Leaving(negotiation) =
                &session.phase
                && let Some(deadline) = negotiation.deadline
            {
                self.timers.cancel(deadline);
            }
            session.phase = SessionPhase::Closing;
            session.partial = None;
        }
        self.fx.out.act(conn, Action::Close(CloseHow::Flush));
    }

    pub(super) fn fail(&mut self, conn: ConnId, (condition, text): StreamEnd) {
        self.end_stream(conn, condition, text);
    }

    /// Stops taking logins; with `close`, also ends every stream with `system-shutdown` (RFC 6120 §4.9.3.20).
    pub fn drain(&mut self, close: bool) {
        self.env.shared.draining.store(true, Ordering::Relaxed);
        self.accept_paused = true;
        if !self.draining {
            self.draining = true;
            let wait_ms = u64::from(self.env.config.limits.drain_seconds) * 1000;
            self.set_timer(wait_ms, Timer::DrainEnd);
        }
        if close {
            self.close_all();
        }
    }

    /// Ends every stream with `system-shutdown`.
    pub(super) fn close_all(&mut self) {
        let all: Vec<ConnId> = self.sessions.iter().map(|session| session.conn).collect();
        for conn in all {
            self.end_stream(conn, StreamCondition::SystemShutdown, None);
        }
    }
}
