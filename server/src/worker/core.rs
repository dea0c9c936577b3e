//! One worker without its driver: what happens to each event, and what is to be sent because of it.
//!
//! ```text
//! event ─► session ─► TLS open ─► framing ─┬► negotiation (no resource yet)
//!                                          └► user: routing, presence, services
//!                                                  │
//! driver ◄─ TLS seal ◄─ outbox ◄───────────────────┴─► batches for other workers
//! ```
//!
//! The driver is not here, so the same code runs over sockets and in the simulation.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::busiest::Traffic;
use crate::effects::End;
use crate::env::Env;
use crate::exchange::envelope::Envelope;
use crate::memory::Pressure;
use crate::proto::errors::{StreamCondition, StreamEnd};
use crate::router::dispatch;
use crate::runtime::driver::{CloseCause, CloseHow, ConnId, Event, ListenerId};
use crate::runtime::outbox::Action;
use crate::runtime::timer::{Millis, TimerId, TimerWheel};
use crate::service::{SERVICES, caps, table};
use crate::session::{Holds, Marks, Migration, Session, SessionPhase, Sessions};
use crate::stream::features::STREAM_CLOSE;
use crate::stream::machine::Negotiation;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::tables::{Flags, ResourceKey};
use crate::user::{flow, presence};
use crate::worker::login::negotiation_env;
use crate::worker::places::{Accepts, Places, Taken};
use crate::worker::pressure::Sample;
use crate::worker::run_queue::{InputEnd, RunQueue};
use crate::worker::sm::Resumption;
use crate::xml::{self, Framer};

/// What a timer is for.
#[derive(Clone, Debug)]
pub enum Timer {
    /// `limits.preauth_seconds` of a connection.
    Preauth(ConnId),
    /// The answer to a password or proof that is held back.
    Answer(ConnId),
    /// Once a second: idle clients, accept budget.
    Second,
    /// `limits.drain_seconds` after a drain began.
    DrainEnd,
    /// A session that lost its connection was not resumed in time.
    Detached(ResourceKey),
}

/// Work units for sessions that nobody has resumed in one iteration: thousands of them may be over at the same moment.
const TIMER_UNITS: u64 = 256;

/// Timers that one worker can hold beyond two for each unauthenticated session.
const TIMERS_BESIDE: usize = 1024;

/// One worker's state.
pub struct Core {
    pub(super) sessions: Sessions,
    pub(super) actors: Actors,
    pub(super) env: Env,
    pub(super) fx: Effects,
    pub(super) framer: Framer,
    pub(super) xml_limits: xml::Limits,
    pub(super) timers: TimerWheel<Timer>,
    /// Decrypted bytes of the current event.
    pub(super) plain: Vec<u8>,
    /// Connections that wait for a driver to take them.
    pub(super) arrivals: Vec<Migration>,
    /// Which listeners speak TLS from the first byte.
    pub(super) tls_listeners: Vec<bool>,
    /// Accepts in this second.
    pub(super) accepts: Accepts,
    /// Whether accepting is paused by them.
    pub(super) accept_paused: bool,
    /// Connections that have no resource, by address.
    pub(super) places: Places,
    pub(super) sweep_position: usize,
    pub(super) draining: bool,
    /// Sessions that wait to be resumed.
    pub(super) detached: usize,
    /// Clients that want to resume a stream whose last messages are not durable yet.
    pub(super) resumptions: Vec<Resumption>,
    /// Resources with stream management that were busy lately; each is looked at once a second until it rests.
    pub(super) watched: Vec<crate::user::tables::ResourceKey>,
    /// What sessions hold, as far as it was sampled in this round.
    pub(super) sample: Sample,
    /// When the log was last looked after.
    pub(super) log_seen_to: Millis,
    /// The first resource that is behind and had to wait for the next iteration.
    pub(super) pumped_to: Option<ResourceKey>,
    /// Input that has been read and waits to be handled.
    pub(super) turns: RunQueue,
    /// Connections that were held for their output since it was last handed to the driver.
    pub(super) choked: Vec<ConnId>,
    /// Who causes most.
    pub(super) traffic: Traffic,
    /// When its window began, in seconds.
    pub(super) window_begun: u32,
    /// The server's capabilities as stream features have them.
    pub(super) capabilities: String,
}

impl Core {
    /// A worker that has no connections yet.
    pub fn new(actors: Actors, env: Env, fx: Effects, tls_listeners: Vec<bool>) -> Core {
        let limits = &env.config.limits;
        let connecting = 2 * limits.sessions_unauthenticated as usize;
        let capacity = connecting + limits.sm_detached_sessions as usize + TIMERS_BESIDE;
        let mut core = Core {
            sessions: Sessions::default(),
            framer: Framer::new(),
            xml_limits: xml_limits(limits),
            timers: TimerWheel::new(env.now, capacity),
            plain: Vec::new(),
            arrivals: Vec::new(),
            tls_listeners,
            accepts: Accepts::new(limits, workers_of(&env)),
            accept_paused: false,
            places: Places::default(),
            sweep_position: 0,
            draining: false,
            detached: 0,
            resumptions: Vec::new(),
            watched: Vec::new(),
            sample: Sample::NEW,
            log_seen_to: Millis(0),
            pumped_to: None,
            turns: RunQueue::default(),
            choked: Vec::new(),
            traffic: Traffic::default(),
            window_begun: 0,
            capabilities: String::new(),
            actors,
            env,
            fx,
        };
        core.switch_services();
        core.set_timer(1000, Timer::Second);
        core.env.metrics().log_pending.set(core.actors.commits.count_pending());
        core
    }

    /// The actors of this worker.
    pub fn actors(&self) -> &Actors {
        &self.actors
    }

    /// The negotiation_env of this iteration.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// The actors of this worker.
    pub fn actors_mut(&mut self) -> &mut Actors {
        &mut self.actors
    }

    /// What is still to be carried out.
    pub fn effects(&self) -> &Effects {
        &self.fx
    }

    /// What is still to be carried out.
    pub fn effects_mut(&mut self) -> &mut Effects {
        &mut self.fx
    }

    /// All three, for tests of what they decide.
    #[cfg(test)]
    pub(crate) fn parts_mut(&mut self) -> (&mut Actors, &mut Env, &mut Effects) {
        (&mut self.actors, &mut self.env, &mut self.fx)
    }

    /// The sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Reads the clock: this is the time of the iteration.
    pub fn set_now(&mut self) {
        self.env.now = Millis(self.env.clock.ms());
    }

    /// When the next timer is due.
    pub fn next_deadline(&self) -> Option<Millis> {
        [self.timers.next_deadline(), self.turns.next_deadline()].into_iter().flatten().min()
    }

    /// Whether the worker wants new connections to stay in the kernel's backlog for now.
    pub fn wants_accept_pause(&self) -> bool {
        self.accept_paused
    }

    /// Whether this worker takes nobody any more.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether this worker drains, its last session is gone, and so is what it asked of other threads: they could
    /// not deliver to a worker that has left.
    pub fn is_drained(&self) -> bool {
        self.draining
            && self.sessions.is_empty()
            && self.fx.jobs.pending() == 0
            && self.actors.under_way.is_empty()
    }

    pub(super) fn seconds(&self) -> u32 {
        u32::try_from(self.env.now.0 / 1000).unwrap_or(u32::MAX)
    }

    pub(super) fn set_timer(&mut self, after_ms: u64, timer: Timer) -> Option<TimerId> {
        // The wheel holds what the limits allow; without room the timer's purpose is served by the sweep.
        self.timers.insert(Millis(self.env.now.0 + after_ms), timer).ok()
    }

    /// Handles one event of the driver.
    pub fn handle(&mut self, event: Event<'_>) {
        self.env.metrics().loop_events.add(1);
        match event {
            Event::Accepted { conn, listener, peer } => self.accepted(conn, listener, peer),
            Event::AcceptPaused { errno } => {
                self.env.metrics().accept_descriptor_pauses.add(1);
                let reason = std::io::Error::from_raw_os_error(errno);
                tracing::warn!(%reason, "cannot accept connections; pausing. Raise the descriptor limit: see `whimbrelctl doctor`");
            }
            Event::Received { conn, bytes } => self.received(conn, bytes),
            Event::Ended { conn } => self.ended(conn),
            Event::Drained { conn } => self.drained(conn),
            Event::Closed { conn, cause } => self.closed(conn, cause),
            Event::Detached { conn, socket } => {
                if let Some(session) = self.sessions.remove(conn) {
                    self.actors.inputs.forget(conn);
                    self.depart(Migration { session, socket });
                }
            }
            Event::Woken => {}
        }
        self.carry_out();
    }

    fn accepted(&mut self, conn: ConnId, listener: ListenerId, peer: IpAddr) {
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
        metrics_connection_opened(&self.env);
        let preauth_ms = u64::from(self.env.config.limits.preauth_seconds) * 1000;
        let deadline = self.set_timer(preauth_ms, Timer::Preauth(conn));
        let tls = direct_tls.then(|| Box::new(self.env.shared.acceptor.begin()));
        let now = self.seconds();
        self.sessions.insert(Session {
            conn,
            connected: now,
            heard: now,
            phase: SessionPhase::Negotiating(Box::new(Negotiation::new(deadline))),
            tls,
            partial: None,
            context: None,
            marks: Marks { direct_tls, ..Marks::default() },
            peer,
        });
        self.places.enter(peer, conn);
    }

    /// A connection over a limit: told so where it can be without a handshake, then closed.
    fn refuse_connection(&mut self, conn: ConnId, direct_tls: bool) {
        if !direct_tls {
            let id = self.env.shared.unique_id();
            let domain = self.env.shared.domain.clone();
            let out = self.fx.out.plain(conn);
            crate::stream::features::write_header(&domain, &id, None, out);
            StreamCondition::ResourceConstraint.write(Some("too many connections; try again later"), out);
            out.extend_from_slice(STREAM_CLOSE);
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

    fn drained(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let before = self.fx.out.set_with_driver(conn, 0);
        self.fx.out.times.drained(conn);
        self.env.shared.metrics[self.env.worker].backlog_bytes.sub(before as u64);
        if let SessionPhase::Bound(key) = session.phase {
            flow::drained(&mut self.actors, &self.env, &mut self.fx, key);
        }
        self.lift(conn, Holds::OUTPUT);
    }

    fn closed(&mut self, conn: ConnId, cause: CloseCause) {
        if let CloseCause::Failed { errno } = cause {
            let reason = std::io::Error::from_raw_os_error(errno);
            tracing::debug!(%reason, "a connection failed");
        }
        self.lost(conn);
        self.actors.inputs.forget(conn);
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

    /// A bound session is over: its contacts hear of it. The connection may live on to say goodbye.
    pub(super) fn forget_resource(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if let SessionPhase::Bound(key) = session.phase {
            session.phase = SessionPhase::Closing;
            session.context = None;
            self.forget_input(conn);
            presence::session_ended(&mut self.actors, &self.env, &mut self.fx, key);
            self.count_users();
        }
    }

    pub(super) fn count_users(&self) {
        let (users, sessions) = self.actors.users.counts();
        self.env.metrics().users.set(users as u64);
        self.env.metrics().sessions.set(sessions as u64);
    }

    /// Carries out what the last event has led to: envelopes for this worker's own users, and ends of streams, until
    /// nothing is left.
    pub(super) fn carry_out(&mut self) {
        loop {
            if let Some(mut batch) = self.fx.take_local(&self.env) {
                let received = batch.take_received();
                let begun = self.fx.out.times.set_received(received);
                let (actors, env, fx) = (&mut self.actors, &self.env, &mut self.fx);
                batch.open(|envelope| match envelope {
                    Envelope::Stanza(delivery) => dispatch::deliver(actors, env, fx, &delivery),
                    Envelope::Broadcast(broadcast) => {
                        presence::receive_broadcast(actors, env, fx, &broadcast);
                    }
                    _ => debug_assert!(false, "other envelopes are for other workers"),
                });
                let _ = self.fx.out.times.set_received(begun);
                self.fx.put_local(batch);
            } else if let Some(End { conn, condition, text }) = self.fx.stream_ends.pop() {
                self.end_stream(conn, condition, text);
            } else if let Some(key) = self.fx.ended.pop() {
                self.forget_detached(key);
            } else if let Some(conn) = self.fx.cut.pop() {
                self.lost(conn);
                self.fx.out.act(conn, Action::Close(CloseHow::Reset));
            } else {
                return;
            }
        }
    }

    /// Sends a stream error and closes (RFC 6120 §4.9.1).
    pub(super) fn end_stream(&mut self, conn: ConnId, condition: StreamCondition, text: Option<&str>) {
        // A client that does not answer cannot hear it, but may come back.
        let may_return = condition == StreamCondition::ConnectionTimeout;
        self.end_stream_with(conn, may_return, |out| condition.write(text, out));
    }

    /// As [`Core::end_stream`], with an error that `write` writes. `may_return`: a session that can be resumed waits
    /// for that.
    pub(super) fn end_stream_with(
        &mut self,
        conn: ConnId,
        may_return: bool,
        write: impl FnOnce(&mut Vec<u8>),
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
        let at = negotiation_env(&self.env, &self.capabilities, session.peer, session.tls.is_some());
        let handshake_over = session.tls.as_ref().is_none_or(|tls| tls.is_established());
        if handshake_over {
            let out = self.fx.out.plain(conn);
            if let SessionPhase::Negotiating(negotiation) | SessionPhase::Leaving(negotiation) =
                &mut session.phase
            {
                negotiation.send_header(&at, None, out);
            }
            write(out);
            out.extend_from_slice(STREAM_CLOSE);
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

    /// Reads an envelope from another worker.
    pub fn read_envelope(&mut self, envelope: Envelope<'_>) {
        match envelope {
            Envelope::Stanza(delivery) => {
                dispatch::deliver(&mut self.actors, &self.env, &mut self.fx, &delivery);
            }
            Envelope::Broadcast(broadcast) => {
                presence::receive_broadcast(&mut self.actors, &self.env, &mut self.fx, &broadcast);
            }
            Envelope::Spread { from, conn } => self.actors.has_spread(&mut self.fx, from, conn),
            Envelope::Migration(migration) => self.arrivals.push(*migration),
            Envelope::Durable { pending_ack, is_durable } => {
                self.actors.users.on_report(&mut self.fx, pending_ack, is_durable);
            }
            Envelope::MakeRoom { address, workers } => {
                if !self.make_room(address) {
                    self.ask_others_for_room(address, workers - 1);
                }
            }
        }
        self.carry_out();
    }

    /// Runs what is due.
    pub fn run_timers(&mut self) {
        let mut due = Vec::new();
        self.timers.advance(self.env.now, |timer| due.push(timer));
        let until = self.fx.work.spent() + TIMER_UNITS;
        for timer in due {
            match timer {
                Timer::Detached(key) if self.fx.work.spent() >= until && self.expire_later(key) => {}
                Timer::Preauth(conn) => self.preauth_expired(conn),
                Timer::Answer(conn) => self.answer_due(conn),
                Timer::Second => {
                    self.set_timer(1000, Timer::Second);
                    self.refill_accept_budget();
                    self.env.shared.tell_left_out(self.env.now.0);
                    self.sweep();
                    self.sample_memory();
                    self.rest_streams();
                    self.rest_tables();
                    self.tell_busiest();
                    self.look_after_log();
                }
                Timer::DrainEnd => self.close_all(),
                Timer::Detached(key) => self.detached_expired(key),
            }
            self.carry_out();
        }
        self.env.metrics().timers.set(self.timers.len() as u64);
    }

    fn preauth_expired(&mut self, conn: ConnId) {
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

    fn refill_accept_budget(&mut self) {
        let workers = workers_of(&self.env);
        self.accepts.refill(&self.env.config.limits, workers);
        self.accept_paused = self.draining;
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

    /// A new configuration.
    pub fn reconfigure(&mut self, config: Arc<crate::config::Config>) {
        self.xml_limits = xml_limits(&config.limits);
        self.env.config = config;
        self.switch_services();
    }

    /// Switches services on and off as the configuration says.
    fn switch_services(&mut self) {
        self.capabilities = caps::stream_feature(&self.env.config);
        self.actors.lifecycle = table::lifecycle(SERVICES, &self.env.config);
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

fn workers_of(env: &Env) -> u32 {
    u32::try_from(env.shared.metrics.len()).unwrap_or(u32::MAX)
}

fn xml_limits(limits: &crate::limits::Limits) -> xml::Limits {
    xml::Limits {
        stanza_bytes_max: limits.stanza_bytes as usize,
        depth_max: limits.depth,
        attributes_max: limits.attributes,
        header_bytes_max: limits.header_bytes as usize,
    }
}

pub(super) fn metrics_connection_opened(env: &Env) {
    env.metrics().connections.add(1);
}

pub(super) fn metrics_connection_closed(env: &Env, fx: &mut Effects, session: &Session) {
    let unsent = fx.out.set_with_driver(session.conn, 0);
    fx.out.times.forget(session.conn);
    let metrics = env.metrics();
    metrics.connections.sub(1);
    metrics.backlog_bytes.sub(unsent as u64);
    if session.tls.as_ref().is_some_and(|tls| tls.is_established()) {
        metrics.tls_sessions.sub(1);
    }
}
