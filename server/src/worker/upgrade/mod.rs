//! A worker lets go of everything for another program, and a worker of that program takes it over.
//!
//! ```text
//! Hold ─► Quiescence, Quiescence, … until nothing moves ─► Suspend: close what cannot go, let go of sockets, write the state
//!                                                    │
//!        reads again, as if nothing had happened ◄───┴──► the process becomes another program
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`save`](self) | a worker's sessions into the state file |
//! | [`restore`](self) | and out of it |
//! | [`sessions`](self) | one session, made of the records of connection, stream and resource |

mod restore;
mod save;
mod sessions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

pub use restore::{Restored, Restoring};
pub use sessions::{SessionRecord, Sessions, Standing};

use crate::proto::errors::StreamCondition;
use crate::runtime::driver::{CloseCause, ConnId, Detached, Driver, Event};
use crate::runtime::platform;
use crate::saved::frame::StateWriter;
use crate::session::{Holds, SessionPhase};
use crate::worker::Worker;
use crate::worker::core::{Core, Timer};
use crate::worker::ends::Ending;

/// How often a parked worker looks at its driver while sockets come loose.
const LOOK: Duration = Duration::from_millis(5);

/// Whether a worker is quiescent, and what it has sent and received: when all are quiescent twice in a row, and
/// everything sent was received both times, nothing moves any more.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Quiescence {
    /// Nothing is under way here.
    pub quiescent: bool,
    /// Batches sent to other workers so far.
    pub sent: u64,
    /// Batches received from other workers so far.
    pub received: u64,
}

/// The order to let go of everything.
pub struct Suspend {
    /// Where the state goes.
    pub state: Arc<StateWriter>,
    /// When letting go of sockets has taken too long.
    pub deadline: Instant,
    /// Gets what came of it.
    pub reply: SyncSender<Result<Parked, NotParked>>,
    /// What is to happen then. When its other end is gone, everything goes on.
    pub verdict: Receiver<Verdict>,
}

/// The order to write what can be resumed by the server that follows this one, which ends.
pub struct Keep {
    /// Where it goes.
    pub state: Arc<StateWriter>,
    /// Gets what came of it: batches sent and received so far, as of [`Parked`].
    pub reply: SyncSender<Result<(u64, u64), NotParked>>,
}

/// A worker has let go of everything and its part of the state is written.
#[derive(Clone, Debug)]
pub struct Parked {
    /// The worker.
    pub worker: usize,
    /// Batches sent and received so far: with those of all others they tell whether something was on its way after all.
    pub traffic: (u64, u64),
    /// Connections that are not carried, by reason.
    pub closed: BTreeMap<&'static str, u64>,
}

/// Why a worker has not let go of everything.
#[derive(Clone, Debug)]
pub enum NotParked {
    /// Something has begun since it last said that it is quiescent: a timer, a connection that broke.
    NotSettled,
    /// It could not.
    Failed(String),
}

/// What happens to a parked worker.
pub enum Verdict {
    /// It goes on.
    Resume,
    /// Its sockets are to stay open when the process becomes another program; says so when it is done.
    Keep(SyncSender<Result<(), String>>),
    /// The process has become another program, in a simulation: gives its sockets away, and does nothing more.
    Replaced(SyncSender<Vec<Detached>>),
}

/// Why a connection is not carried.
mod reason {
    /// Its TLS handshake is under way: nothing that could be handed on.
    pub(super) const HANDSHAKE: &str = "in a TLS handshake";
    /// Its login is under way.
    pub(super) const LOGIN: &str = "in the middle of a login";
    /// It was being closed anyway.
    pub(super) const CLOSING: &str = "closing already";
    /// It broke meanwhile.
    pub(super) const BROKEN: &str = "broken by the client";
}

/// Sockets that the driver has let go of.
#[derive(Default)]
struct Loose {
    /// By the index of their connection.
    sockets: Vec<Option<(ConnId, Detached)>>,
    /// Connections that broke instead.
    broken: Vec<(ConnId, CloseCause)>,
    count: usize,
}

impl Loose {
    fn put(&mut self, conn: ConnId, socket: Detached) {
        let index = conn.index as usize;
        if index >= self.sockets.len() {
            self.sockets.resize_with(index + 1, || None);
        }
        self.sockets[index] = Some((conn, socket));
        self.count += 1;
    }

    fn get(&self, conn: ConnId) -> Option<&Detached> {
        let (own, socket) = self.sockets.get(conn.index as usize)?.as_ref()?;
        (*own == conn).then_some(socket)
    }
}

impl<D: Driver> Worker<D> {
    pub(super) fn take_census(&self) -> Quiescence {
        let (sent, received) = self.core.effects().links.traffic();
        let quiescent = !self.is_stalled()
            && self.core.is_quiescent()
            && self.driver.is_held()
            && !self.commands.has_newcomers();
        Quiescence { quiescent, sent, received }
    }

    /// Ends what cannot be resumed, and, when all has settled after that, writes down what can be without its connections. From
    /// then on nothing happens to it, until somebody asks for quiescence again, or the worker ends.
    pub(super) fn keep(&mut self, order: &Keep) {
        let is_quiet = !self.is_stalled() && self.core.is_quiescent() && !self.commands.has_newcomers();
        let kept = match is_quiet && self.core.end_others() == 0 {
            true => self.core.save_resumable(&order.state).map_err(NotParked::Failed),
            false => Err(NotParked::NotSettled),
        };
        if kept.is_ok() {
            self.core.ending = Ending::Kept;
        }
        // The thread that gave the order may be gone.
        let _ = order.reply.try_send(kept.map(|()| self.core.effects().links.traffic()));
    }

    /// Lets go of everything, writes it down, and waits for the verdict.
    pub(super) fn suspend(&mut self, order: Suspend) -> std::io::Result<()> {
        let Suspend { state, deadline, reply, verdict } = order;
        if self.is_stalled() || !self.core.is_quiescent() || self.commands.has_newcomers() {
            let _ = reply.try_send(Err(NotParked::NotSettled));
            return Ok(());
        }
        let closed = self.core.retire();
        self.apply(false);
        let mut loose = Loose::default();
        let let_go = self.let_go(&mut loose, deadline)?;
        let parked = match let_go {
            true => self.core.save(&loose, &state, closed),
            false => Err("its sockets did not come loose in time".into()),
        };
        // The thread that gave the order may be gone: then there will be no verdict either, and everything goes on.
        let worker = self.core.env().worker;
        let parked = parked.map_err(|text| NotParked::Failed(format!("worker {worker}: {text}")));
        let is_parked = parked.is_ok();
        let _ = reply.try_send(parked);
        loop {
            match verdict.recv() {
                Ok(Verdict::Keep(done)) => {
                    let _ = done.try_send(loose.keep_open(true));
                }
                Ok(Verdict::Replaced(left)) if is_parked => {
                    let _ = left.try_send(loose.into_sockets());
                    return Ok(());
                }
                Ok(Verdict::Replaced(_) | Verdict::Resume) | Err(_) => break,
            }
        }
        // A socket that stays open over an exec that does not come must not reach a child.
        if let Err(text) = loose.keep_open(false) {
            tracing::warn!("{text}");
        }
        self.take_back(loose);
        Ok(())
    }

    /// Makes the driver let go of every connection. `false`: not in time.
    fn let_go(&mut self, loose: &mut Loose, deadline: Instant) -> std::io::Result<bool> {
        let leaving = self.core.leaving();
        for conn in &leaving {
            self.driver.detach(*conn);
        }
        let core = &mut self.core;
        while loose.count + loose.broken.len() < leaving.len() {
            if core.env().clock.instant() >= deadline {
                return Ok(false);
            }
            self.driver.poll(Some(LOOK), &mut |event| match event {
                Event::Detached { conn, socket } => loose.put(conn, socket),
                // Its contacts must not hear of it now: everything is quiescent.
                Event::Closed { conn, cause } if core.is_carried(conn) => loose.broken.push((conn, cause)),
                other => core.handle(other),
            })?;
        }
        Ok(true)
    }

    /// Everything goes on with the connections that were let go of.
    fn take_back(&mut self, loose: Loose) {
        let Loose { sockets, broken, .. } = loose;
        let mut sessions = Vec::new();
        // All leave the table before any comes back: the driver gives out the same indexes again.
        for (conn, socket) in sockets.into_iter().flatten() {
            if let Some(session) = self.core.sessions.remove(conn) {
                sessions.push((session, socket));
            }
        }
        let mut empty = Vec::new();
        for (session, socket) in sessions {
            let sent = socket.unsent_bytes() == 0;
            let pauses = !session.marks.holds.is_empty();
            let conn = self.driver.attach(socket);
            if pauses {
                self.driver.pause_reading(conn);
            }
            if self.core.rekey(session, conn) && sent {
                empty.push(conn);
            }
        }
        for conn in empty {
            self.core.handle(Event::Drained { conn });
        }
        for (conn, cause) in broken {
            self.core.handle(Event::Closed { conn, cause });
        }
    }
}

impl Loose {
    fn into_sockets(self) -> Vec<Detached> {
        self.sockets.into_iter().flatten().map(|(_, socket)| socket).collect()
    }

    /// Marks all sockets to stay open over an exec, or not to.
    fn keep_open(&self, keep: bool) -> Result<(), String> {
        for (_, socket) in self.sockets.iter().flatten() {
            let descriptor = socket.descriptor().ok_or("a simulated connection has no descriptor")?;
            platform::keep_open(descriptor, keep)
                .map_err(|error| format!("cannot mark a socket for the exec: {error}"))?;
        }
        Ok(())
    }
}

impl Core {
    /// Everything has to come to rest, or may go on. Pages of archives that wait for their readers end, and the clients ask
    /// again.
    pub(super) fn hold_waiting(&mut self, hold: bool) {
        self.actors.waiting_for_room.close(hold);
        if !hold {
            return;
        }
        let waiting: Vec<_> = self.actors.waiting_for_room.keys().collect();
        for key in waiting {
            if let Some(then) = self.actors.waiting_for_room.take(key) {
                then(&mut self.actors, &self.env, &mut self.fx);
            }
        }
        self.carry_out();
    }

    /// Whether nothing is under way: neither here, nor in other threads on behalf of this worker.
    fn is_quiescent(&self) -> bool {
        let (actors, _, fx) = (&self.actors, &self.env, &self.fx);
        fx.out.is_empty()
            && fx.jobs.is_idle()
            && actors.waiting_for_room.is_empty()
            && actors.under_way.is_empty()
            && !actors.under_way.has_waiting()
            && fx.links.is_idle()
            && !actors.commits.has_waiting()
            && actors.users.joins.is_empty()
            && actors.commits.awaiting_flush.is_empty()
            && fx.due_sm.is_empty()
            && fx.due_held.is_empty()
            && !fx.is_pending()
            && !self.turns.has_work(self.env.now)
            && self.arrivals.is_empty()
            && self.parked.is_empty()
            && self.resumptions.is_empty()
            && !self.sessions.iter().any(|session| matches!(session.phase, SessionPhase::Leaving(_)))
    }

    /// Closes what cannot be carried, with an error after which a client comes again (RFC 6120 §4.9.3.16). Nothing of
    /// this concerns anybody else: no such connection has a resource.
    fn retire(&mut self) -> BTreeMap<&'static str, u64> {
        let mut closed = BTreeMap::new();
        let mut condemned = Vec::new();
        for session in self.sessions.iter() {
            let handshake = session.tls.as_ref().is_some_and(|tls| tls.save().is_none());
            let reason = match &session.phase {
                SessionPhase::Negotiating(_) if handshake => reason::HANDSHAKE,
                SessionPhase::Negotiating(negotiation) if negotiation.save().is_none() => reason::LOGIN,
                // Counted here, before the others are closed and look the same.
                SessionPhase::Closing => reason::CLOSING,
                _ => continue,
            };
            *closed.entry(reason).or_default() += 1;
            if reason != reason::CLOSING {
                condemned.push(session.conn);
            }
        }
        for conn in condemned {
            let text = "the server takes new code; come again";
            self.end_stream(conn, StreamCondition::Reset, Some(text));
        }
        closed
    }

    /// The connections that go along.
    fn leaving(&self) -> Vec<ConnId> {
        let goes = |session: &&crate::session::Session| !matches!(session.phase, SessionPhase::Closing);
        self.sessions.iter().filter(goes).map(|session| session.conn).collect()
    }

    /// Whether a connection goes along.
    fn is_carried(&self, conn: ConnId) -> bool {
        self.sessions.get(conn).is_some_and(|session| !matches!(session.phase, SessionPhase::Closing))
    }

    /// A connection that was let go of has come back under another id. Returns whether something was said to wait in
    /// its driver.
    fn rekey(&mut self, mut session: crate::session::Session, conn: ConnId) -> bool {
        let unsent = self.fx.out.set_with_driver(session.conn, 0);
        self.fx.out.set_with_driver(conn, unsent);
        self.turns.rekey(session.conn, conn);
        if let Some(frames) = self.frames.remove(&session.conn) {
            self.frames.insert(conn, frames);
        }
        let input = self.actors.inputs.of(session.conn);
        self.actors.inputs.forget(session.conn);
        self.actors.inputs.set(conn, input);
        session.conn = conn;
        match &mut session.phase {
            SessionPhase::Bound(key) => self.actors.users.resource_mut(*key).conn = conn,
            SessionPhase::Negotiating(negotiation) | SessionPhase::Leaving(negotiation) => {
                let left_ms = negotiation.deadline.and_then(|timer| {
                    let left_ms = self.timers.deadline(timer)?.since(self.env.now);
                    self.timers.cancel(timer);
                    Some(left_ms)
                });
                negotiation.deadline =
                    left_ms.and_then(|left_ms| self.set_timer(left_ms, Timer::Preauth(conn)));
            }
            SessionPhase::Closing => {}
        }
        let waits = unsent > 0 || session.marks.holds.has(Holds::OUTPUT);
        self.enter(session);
        waits
    }
}
