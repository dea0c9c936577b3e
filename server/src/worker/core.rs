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

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use whimbrel_websocket::Decoder;

use crate::busiest::Traffic;
use crate::effects::End;
use crate::env::Env;
use crate::exchange::envelope::Envelope;
use crate::rooms;
use crate::router::dispatch;
use crate::runtime::deliveries::Receptions;
use crate::runtime::driver::{CloseHow, ConnId, Event};
use crate::runtime::outbox::Action;
use crate::runtime::timer::{Millis, TimerId, TimerWheel};
use crate::service::pubsub::{groups, hosted};
use crate::service::{SERVICES, caps, table};
use crate::session::{Migration, Sessions};
use crate::stanza::Traits;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::counts::CountSweep;
use crate::user::events;
use crate::user::presence;
use crate::user::push;
use crate::user::seats;
use crate::user::spool;
use crate::user::tables::ResourceKey;
use crate::worker::deferred::Parked;
use crate::worker::ends::Ending;
use crate::worker::places::{Accepts, Places};
use crate::worker::pressure::Sample;
use crate::worker::resume::Resumption;
use crate::worker::run_queue::RunQueue;
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
const TIMER_UNITS: u64 = 128;

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
    /// WebSocket: what is under way, of connections of which anything is.
    pub(super) frames: HashMap<ConnId, Box<Decoder>, FixedState>,
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
    /// How far the end has come before which sessions are kept for the next server.
    pub(super) ending: Ending,
    /// Sessions that wait to be resumed.
    pub(super) detached: usize,
    /// Of them, those that sleep.
    pub(super) asleep: usize,
    /// Clients that want to resume a stream and have to wait for the disk.
    pub(super) resumptions: Vec<Resumption>,
    /// Rows of streams of before a crash, whose time is over.
    pub(super) count_sweep: CountSweep,
    /// Resources with stream management that were busy lately; each is looked at once a second until it rests.
    pub(super) watched: Vec<crate::user::tables::ResourceKey>,
    /// What sessions hold, as far as it was sampled in this round.
    pub(super) sample: Sample,
    /// What the program before has left in spools.
    pub(super) untidy: spool::Untidy,
    /// When the log was last looked after.
    pub(super) log_seen_to: Millis,
    /// Input that has been read and waits to be handled.
    pub(super) turns: RunQueue,
    /// Connections that were held for their output since it was last handed to the driver.
    pub(super) choked: Vec<ConnId>,
    /// Connections whose next stanza waits because of what their accounts have held.
    pub(super) parked: Vec<Parked>,
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
            frames: HashMap::default(),
            arrivals: Vec::new(),
            tls_listeners,
            accepts: Accepts::new(limits, workers_of(&env)),
            accept_paused: false,
            places: Places::default(),
            sweep_position: 0,
            draining: false,
            ending: Ending::No,
            detached: 0,
            asleep: 0,
            resumptions: Vec::new(),
            count_sweep: CountSweep::default(),
            watched: Vec::new(),
            sample: Sample::NEW,
            untidy: None,
            log_seen_to: Millis(0),
            turns: RunQueue::new(&env.config.limits),
            choked: Vec::new(),
            parked: Vec::new(),
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

    /// Whether this worker drains, its last session is gone, and so is what it asked of other threads and what workers have told
    /// each other: none of them could deliver to a worker that has left.
    pub fn is_drained(&self) -> bool {
        self.draining
            && self.sessions.is_empty()
            && self.fx.jobs.pending() == 0
            && self.actors.under_way.is_empty()
            && self.fx.links.is_idle()
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
                    let frames = self.frames.remove(&conn);
                    self.depart(Migration { session, socket, frames });
                }
            }
            Event::Woken => {}
        }
        self.carry_out();
    }

    /// Carries out what the last event has led to: envelopes for this worker's own users, and ends of streams, until
    /// nothing is left.
    pub(super) fn carry_out(&mut self) {
        loop {
            if let Some(mut batch) = self.fx.take_local(&self.env) {
                let received = batch.take_received();
                let begun = self.fx.out.times.received();
                let (actors, env, fx) = (&mut self.actors, &self.env, &mut self.fx);
                batch.open(|envelope| match envelope {
                    Envelope::Stanza(delivery) => {
                        let _ = fx.out.times.set_received(received.of(delivery.traits.has(Traits::WAITED)));
                        dispatch::deliver(actors, env, fx, &delivery, None);
                    }
                    Envelope::Visit(delivery) => {
                        let _ = fx.out.times.set_received(received.of(delivery.traits.has(Traits::WAITED)));
                        rooms::receive(actors, env, fx, &delivery);
                    }
                    Envelope::ToNode(delivery) => {
                        let _ = fx.out.times.set_received(received.of(delivery.traits.has(Traits::WAITED)));
                        hosted::receive(actors, env, fx, &delivery);
                    }
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

    /// Reads an envelope from another worker.
    pub fn read_envelope(&mut self, envelope: Envelope<'_>, received: &Receptions) {
        // What a room hears and says takes turns with everything else that is in the mailboxes.
        let has_waited = match &envelope {
            Envelope::Stanza(delivery) => delivery.traits.has(Traits::WAITED),
            _ => true,
        };
        let _ = self.fx.out.times.set_received(received.of(has_waited));
        match envelope {
            Envelope::Stanza(delivery) => {
                dispatch::deliver(&mut self.actors, &self.env, &mut self.fx, &delivery, None);
            }
            Envelope::Visit(delivery) => {
                rooms::receive(&mut self.actors, &self.env, &mut self.fx, &delivery);
            }
            Envelope::ToNode(delivery) => {
                hosted::receive(&mut self.actors, &self.env, &mut self.fx, &delivery);
            }
            Envelope::Cast(cast) => {
                seats::receive(&mut self.actors, &self.env, &mut self.fx, &cast);
            }
            Envelope::Broadcast(broadcast) => {
                presence::receive_broadcast(&mut self.actors, &self.env, &mut self.fx, &broadcast);
            }
            Envelope::Event(event) => events::receive(&mut self.actors, &self.env, &mut self.fx, &event),
            Envelope::Wanted(wanted) => {
                events::receive_wanted(&mut self.actors, &self.env, &mut self.fx, &wanted);
            }
            Envelope::Membership(membership) => {
                groups::changed(&mut self.actors, &self.env, &mut self.fx, &membership);
            }
            Envelope::Spread { from, conn } => self.actors.has_spread(&mut self.fx, from, conn),
            Envelope::Owed { by, work } => {
                let conn = presence::conn_of(&self.actors.users, by);
                self.actors.writes.owe(conn, work);
            }
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

    /// Runs what is due. While sessions are kept for the next server, nothing of them changes any more.
    pub fn run_timers(&mut self) {
        if self.is_frozen() {
            return;
        }
        let mut due = Vec::new();
        self.timers.advance(self.env.now, |timer| due.push(timer));
        if self.ending == Ending::Kept {
            due.retain(|timer| matches!(timer, Timer::DrainEnd));
        }
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
                    push::look(&mut self.actors, &self.env, &mut self.fx);
                    self.sweep_counts();
                    self.rest_tables();
                    self.tell_busiest();
                    spool::tidy(&mut self.actors, &self.env, &mut self.untidy);
                    self.look_after_log();
                }
                Timer::DrainEnd => self.close_all(),
                Timer::Detached(key) => self.detached_expired(key),
            }
            self.carry_out();
        }
        self.env.metrics().timers.set(self.timers.len() as u64);
    }

    /// A new configuration.
    pub fn reconfigure(&mut self, config: Arc<crate::config::Config>) {
        self.xml_limits = xml_limits(&config.limits);
        self.turns.buckets.set_limits(&config.limits);
        self.env.config = config;
        self.switch_services();
    }

    /// Switches services on and off as the configuration says.
    fn switch_services(&mut self) {
        self.capabilities = caps::stream_feature(&self.env.config);
        self.actors.lifecycle = table::lifecycle(SERVICES, &self.env.config);
    }
}

pub(super) fn workers_of(env: &Env) -> u32 {
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
