//! A worker: one thread, one driver, one core, pinned to one CPU.
//!
//! ```text
//!            ┌────────────────────── one iteration ──────────────────────┐
//! driver ─► events ─► core ─► timers ─► envelopes ─► completions ─► apply ─┘─► driver
//!                                                     │
//!                                                     └─► batches to other workers
//! ```
//!
//! | module | what it does |
//! | --- | --- |
//! | [`core`] | the worker without its driver: sessions, timers, limits |
//! | [`connections`](self), [`ends`](self) | connections that come and go; how streams end |
//! | [`input`](self) | received bytes to stanzas |
//! | [`login`](self) | TLS, passwords, the move to the home worker, binding |
//! | [`sm`](self) | stream management: acknowledgements, sessions without a connection |
//! | [`resume`](self) | resumption |
//! | [`log`](self) | the log: commits, deliveries that are due, repairs |
//! | [`deferred`](self) | what waits for subscriptions to be written |
//! | [`pressure`](self) | what sessions hold, and what is given up for want of memory |
//! | [`event_loop`](self) | what the loop needs beside events |
//! | [`places`](self) | room for connections that have not logged in |
//! | [`sweep`](self) | idle clients |
//! | [`busiest`](self) | which clients cause most |
//! | [`bucket`](self) | what a connection and an account may ask for in the long run |
//! | [`run_queue`](self) | connections whose input waits for its turn |
//! | [`turn`](self) | whose input is handled when, and what holds it |
//! | [`newcomers`] | connections that come from the HTTP server |
//! | [`message`](self) | messages of WebSocket: one element each |
//! | [`websocket`](self) | frames of WebSocket: what of them is under way, pings, closes, violations |
//! | [`command`] | what the control thread asks of a worker |
//! | [`upgrade`] | letting go of everything for another program, and taking it over |

mod bucket;
mod busiest;
pub mod command;
mod connections;
pub mod core;
mod deferred;
mod ends;
mod event_loop;
mod input;
mod log;
mod login;
mod message;
pub mod newcomers;
mod places;
mod pressure;
mod resume;
mod run_queue;
mod sm;
mod sweep;
mod turn;
pub mod upgrade;
mod websocket;

pub use event_loop::ENVELOPE_UNITS;

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use crate::exchange::links::Dispatch;
use crate::runtime::driver::{CloseHow, Driver};
use crate::runtime::outbox::{Action, Entry, prompt_first};
use crate::runtime::timer::Millis;
use crate::session::Migration;
use crate::worker::command::{Command, CommandQueue};
use crate::worker::core::Core;
use crate::worker::upgrade::{Keep, Quiescence, Suspend};

/// How long a worker waits between attempts to post batches to a full mailbox.
const STALL_WAIT: Duration = Duration::from_millis(1);

/// A worker.
pub struct Worker<D: Driver> {
    driver: D,
    core: Core,
    commands: Arc<CommandQueue>,
    posted: Dispatch,
    accepting_paused: bool,
    /// The listeners are closed, for good: the server ends.
    listeners_closed: bool,
    /// It has told the others that it has nothing to do any more.
    is_resting: bool,
    /// Who waits to hear, at the end of the iteration, whether the worker has settled.
    quiescence: Option<SyncSender<Quiescence>>,
}

impl<D: Driver> Worker<D> {
    /// Puts a worker together.
    pub fn new(driver: D, core: Core, commands: Arc<CommandQueue>) -> Worker<D> {
        Worker {
            driver,
            core,
            commands,
            posted: Dispatch::All,
            accepting_paused: false,
            listeners_closed: false,
            is_resting: false,
            quiescence: None,
        }
    }

    /// The core.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// The core.
    pub fn core_mut(&mut self) -> &mut Core {
        &mut self.core
    }

    /// The driver.
    pub fn driver_mut(&mut self) -> &mut D {
        &mut self.driver
    }

    /// Whether a mailbox was full, or too much waited for the directory, at the end of the last iteration.
    pub fn is_stalled(&self) -> bool {
        self.posted != Dispatch::All
    }

    /// Runs until it is told to stop and its last session is gone.
    ///
    /// # Errors
    /// The driver itself is broken.
    pub fn run(mut self) -> std::io::Result<()> {
        loop {
            let now = Millis(self.core.env().clock.ms());
            let timeout = self.timeout(now);
            if let Err(error) = self.turn(timeout) {
                self.core.env().shared.leaving.give_up();
                return Err(error);
            }
            if self.rest() || self.is_resting && self.doze() {
                self.core.close_log();
                return Ok(());
            }
        }
    }

    /// Comes to rest if there is nothing to do any more. Returns whether the worker may leave: all others rest as well.
    pub fn rest(&mut self) -> bool {
        self.is_resting = self.core.is_drained();
        let env = self.core.env();
        self.is_resting && env.shared.leaving.rest(env.worker, self.core.effects().links.traffic())
    }

    /// Ends a rest. Returns whether the worker may leave.
    pub fn rise(&mut self) -> bool {
        let env = self.core.env();
        std::mem::take(&mut self.is_resting) && env.shared.leaving.rise(env.worker)
    }

    fn doze(&mut self) -> bool {
        self.driver.rest(STALL_WAIT);
        self.rise()
    }

    /// How long the driver may wait for events.
    pub fn timeout(&self, now: Millis) -> Option<Duration> {
        if self.core.is_frozen() {
            return Some(STALL_WAIT);
        }
        let fx = self.core.effects();
        if self.has_mail()
            || !self.is_stalled() && self.core.has_turns()
            || self.core.has_completions()
            || self.commands.has_newcomers()
            || !fx.due_cursors.is_empty()
            || !fx.due_room.is_empty()
            || !fx.due_held.is_empty()
            || !fx.out.is_empty()
        {
            return Some(Duration::ZERO);
        }
        // That the others have come to rest is not announced: this worker comes to rest again at once, and waits there.
        if self.core.is_drained() {
            return Some(Duration::ZERO);
        }
        let timer = self.core.next_deadline().map(|at| Duration::from_millis(at.since(now)));
        // Room in the directory's queue is not announced.
        if self.is_stalled() || self.core.actors().under_way.has_waiting() {
            return Some(timer.map_or(STALL_WAIT, |timer| timer.min(STALL_WAIT)));
        }
        timer
    }

    /// Whether envelopes have come that are read in the next iteration.
    fn has_mail(&self) -> bool {
        !self.core.holds_too_much() && self.core.effects().links.has_readable()
    }

    /// One iteration.
    ///
    /// # Errors
    /// The driver itself is broken.
    pub fn turn(&mut self, timeout: Option<Duration>) -> std::io::Result<()> {
        let is_stalled = self.is_stalled();
        let core = &mut self.core;
        let (mut begun, mut events) = (None, 0);
        let before = core.effects().work.spent();
        core.begin_iteration();
        if !is_stalled && !core.is_frozen() && core.has_turns() {
            // Before the poll: what a quiet client sends is answered with this iteration's output, behind nobody's turn.
            begun = Some(begin(core));
            // What the last iteration has said is behind none of it either.
            self.driver.submit();
            core.run_turns();
        }
        core.begin_poll(is_stalled);
        if self.posted == Dispatch::Choked || core.is_frozen() {
            // Mailboxes are full, or the directory is behind, or sessions are kept: clients wait in the kernel.
            self.driver.submit();
            self.driver.rest(timeout.unwrap_or(STALL_WAIT).min(STALL_WAIT));
        } else {
            self.driver.poll(timeout, &mut |event| {
                if events == 0 {
                    // After the turns: what has come meanwhile is received now.
                    let now = begin(core);
                    begun.get_or_insert(now);
                }
                events += 1;
                core.handle(event);
            })?;
            if events == 0 {
                core.forgive_turns();
            }
        }
        let begun = begun.unwrap_or_else(|| begin(core));
        core.set_now();
        core.run_timers();
        let has_left_mail = core.read_envelopes();
        core.take_completions();
        core.retry_writes();
        let (park, keep) = self.take_commands();
        self.attach_arrivals();
        self.take_newcomers();
        self.core.carry_out();
        self.core.keep_messages();
        self.core.carry_out();
        self.apply(has_left_mail);
        self.core.time_messages();
        self.core.lift_choked();
        self.core.confirm_flushed();
        self.control_accepting();
        let core = &mut self.core;
        self.posted = core.dispatch();
        core.count_iteration(begun, events, before);
        if let Some(reply) = self.quiescence.take() {
            // The one that asked may have given up.
            let _ = reply.try_send(self.take_census());
        }
        if let Some(order) = keep {
            self.keep(&order);
        }
        match park {
            Some(order) => self.suspend(order),
            None => Ok(()),
        }
    }

    /// Carries out what others of the process have asked for. Returns what is left for the end of the iteration.
    fn take_commands(&mut self) -> (Option<Suspend>, Option<Keep>) {
        let core = &mut self.core;
        let (mut park, mut keep) = (None, None);
        while let Some(command) = self.commands.take() {
            match command {
                Command::Hold(hold) => {
                    self.driver.hold(hold);
                    core.hold_waiting(hold);
                }
                Command::Quiescence(reply) => {
                    core.thaw();
                    self.quiescence = Some(reply);
                }
                Command::Suspend(order) => park = Some(order),
                Command::Keep(order) => keep = Some(order),
                Command::Drain { .. } => core.execute(command),
                // Who asks hears that the server ends.
                other if core.is_frozen() => drop(other),
                other => core.execute(other),
            }
        }
        (park, keep)
    }

    fn attach_arrivals(&mut self) {
        for Migration { session, socket, frames } in self.core.take_arrivals() {
            let unsent = socket.unsent_bytes();
            let conn = self.driver.attach(socket);
            self.core.adopt(conn, session, unsent, frames);
        }
    }

    /// Hands what the iteration produced to the driver, but for what waits for more of its kind while `more_comes`. What applying
    /// causes (a backlog past its limit) is applied as well; each round ends connections, so the rounds end.
    fn apply(&mut self, more_comes: bool) {
        let now = self.core.env().now;
        while !self.core.effects().out.is_empty() {
            let mut entries = self.core.effects_mut().out.take(now, more_comes);
            // Messages from one to one are with the kernel before a room's, of which each recipient costs a write.
            let first = prompt_first(&mut entries);
            for (at, entry) in entries.drain(..).enumerate() {
                if Some(at) == first {
                    self.driver.submit();
                    self.core.time_messages();
                }
                self.apply_one(entry);
                // After each, because a driver keeps but a few for us.
                while let Some(buffer) = self.driver.spent().pop() {
                    self.core.effects_mut().out.recycle(buffer);
                }
            }
            self.core.effects_mut().out.put_back(entries);
            self.core.carry_out();
            if !self.core.effects().out.has_news() {
                return;
            }
        }
    }

    fn apply_one(&mut self, entry: Entry) {
        let Entry { conn, plain, wire, messages, action, .. } = entry;
        let closing = matches!(action, Action::Close(CloseHow::Flush));
        let bytes = self.core.seal(conn, plain, wire, closing);
        if !bytes.is_empty() {
            let backlog = self.driver.send(conn, bytes);
            self.core.effects_mut().out.times.flushed(conn, messages, backlog);
            if backlog > 0 {
                self.core.backlog(conn, backlog);
            }
        }
        match action {
            Action::None => {}
            Action::Pause => self.driver.pause_reading(conn),
            Action::Resume => self.driver.resume_reading(conn),
            Action::Detach => self.driver.detach(conn),
            Action::Close(how) => self.driver.close(conn, how),
        }
    }

    fn control_accepting(&mut self) {
        if self.core.is_draining() && !self.listeners_closed {
            // Nobody who comes now would be served: refused at once, they can go elsewhere.
            self.listeners_closed = true;
            self.driver.stop_accepting();
        }
        let wanted = self.core.wants_accept_pause();
        if wanted != self.accepting_paused {
            self.accepting_paused = wanted;
            if wanted {
                self.driver.pause_accepting();
            } else {
                self.driver.resume_accepting();
            }
        }
    }
}

/// An iteration begins to handle what has come.
fn begin(core: &mut Core) -> Instant {
    let now = core.env().clock.instant();
    core.set_now();
    core.effects_mut().out.times.begin(now);
    now
}
