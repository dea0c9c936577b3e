//! Turns: how much of what a client has sent is handled before others are, and what holds the rest.
//!
//! ```text
//! received ─► frames ─► gate ─┬─► handled
//!                             └─► held, reading paused ─┬─► run queue ──► its turn: frames ─► gate …
//!                                                       └─► drained, log, write, timer ─► run queue
//! ```
//! As in fq_codel (RFC 8290 §4), a connection that has been quiet is served at once, with a small quantum of work; one
//! that has sent more stands in a queue with the others that have, and each gets a quantum in its turn. What a stanza
//! costs beyond the quantum is a debt that keeps its connection waiting. A connection leaves the queue when its turn
//! comes and it has nothing: so nobody is new again by pausing for a moment.
//!
//! What is held lies beside the sessions, because only few have any. It is at most what one poll of the driver brings,
//! since reading pauses before the next.

use crate::proto::errors::StreamCondition;
use crate::runtime::deliveries::Reception;
use crate::runtime::driver::ConnId;
use crate::runtime::outbox::Action;
use crate::session::{Holds, SessionPhase};
use crate::user::inputs::Unhandled;
use crate::user::tables::ResourceKey;
use crate::user::{room, share};
use crate::worker::bucket::Cost;
use crate::worker::core::Core;
use crate::worker::run_queue::{InputEnd, Waiting};

/// Work units of one connection in one turn.
pub(super) const QUANTUM: u64 = 64;

/// Work units of all turns of the run queue in one iteration; a stanza that is begun is finished.
const QUEUE_UNITS: u64 = 64;

/// Most of what turns have taken beyond that and still owe: sixteen iterations go without.
const OWED_UNITS: u64 = 1024;

/// Work units for what one poll of the driver brings; input beyond it waits in the run queue. A poll of a message from
/// each of as many connections as one poll reads from stays below it.
const POLL_UNITS: u64 = 4096;

/// Flights of TLS handshakes that are answered in one iteration, which is as long as all the input of those that are there takes
/// (`Tuning::poll_time`). The others wait in the run queue.
const HANDSHAKES: u64 = 1;

impl Core {
    /// Bytes of a client's stream, after TLS: handled now if it has been quiet, as far as its share of the turn goes.
    pub(super) fn input(&mut self, conn: ConnId, bytes: &[u8]) {
        if self.admit_unauthenticated_bytes(conn, bytes.len()) {
            self.serve(conn, bytes);
            self.note_input(conn);
        }
    }

    fn serve(&mut self, conn: ConnId, bytes: &[u8]) {
        if self.turns.keep(conn, bytes) {
            self.turns.note_received(conn, self.fx.out.times.received().at);
            return self.wait_for_turn(conn);
        }
        let has_demanded = self.turns.has_demanded(conn, self.env.now);
        if has_demanded && self.turns.crowded {
            let received = self.fx.out.times.received().at;
            self.turns.put(conn, Waiting { input: bytes.to_vec(), received, ..Waiting::default() });
            return self.wait_for_turn(conn);
        }
        let begun = self.begin_turn();
        self.fx.out.times.set_waited(has_demanded);
        let (rest, reason) = self.frames_of(conn, bytes, begun.work + QUANTUM);
        self.fx.out.times.set_waited(false);
        let Some(spent) = self.charge(conn, begun) else { return };
        if reason.is_none() && spent <= QUANTUM {
            return;
        }
        if spent >= QUANTUM {
            self.turns.note_demand(conn, self.env.now);
        }
        let credit = (QUANTUM as i64 - spent as i64).min(0);
        self.turns.put(
            conn,
            Waiting {
                input: rest.to_vec(),
                credit,
                received: self.fx.out.times.received().at,
                ..Waiting::default()
            },
        );
        self.wait(conn, reason);
    }

    /// Notes how much of a connection's input is in memory.
    pub(super) fn measure_input(&mut self, conn: ConnId) {
        let unfinished = self.sessions.get(conn).and_then(|session| session.partial.as_ref());
        let unfinished = unfinished.map_or(0, |partial| partial.memory_bytes());
        self.actors.inputs.set(conn, Unhandled { waiting: self.turns.memory_of(conn), unfinished });
    }

    /// As [`Core::measure_input`], after a turn. A long stanza that has not come to its end is not read on when the account
    /// may hold no more: nothing else would give its memory back. The session can be resumed.
    fn note_input(&mut self, conn: ConnId) {
        self.measure_input(conn);
        if self.actors.inputs.of(conn).unfinished > share::UNFINISHED_ALWAYS_BYTES
            && let Some(SessionPhase::Bound(key)) = self.sessions.get(conn).map(|session| &session.phase)
            && !share::has(&mut self.actors, &self.env, &mut self.fx, *key, 0)
        {
            self.env.metrics().refused_account_memory.add(1);
            let text = "too much waits for this account; try again later";
            self.end_stream_with(conn, true, |out| {
                out.error(StreamCondition::ResourceConstraint, Some(text));
            });
        }
    }

    /// Drops what is held of a connection.
    pub(super) fn forget_input(&mut self, conn: ConnId) {
        self.turns.forget(conn);
        self.actors.inputs.forget(conn);
    }

    /// What a turn's cost is measured from.
    fn begin_turn(&self) -> Cost {
        Cost { stanzas: self.fx.work.stanzas(), work: self.fx.work.spent() }
    }

    /// Charges a turn to a connection and its account, and returns its work; `None`: it is not bound (any more). One that
    /// has asked for more than its rate is held until its time comes.
    fn charge(&mut self, conn: ConnId, begun: Cost) -> Option<u64> {
        let SessionPhase::Bound(key) = self.sessions.get(conn)?.phase else { return None };
        let now = self.begin_turn();
        let cost = Cost { stanzas: now.stanzas - begun.stanzas, work: now.work - begun.work };
        self.charge_to(conn, key, cost);
        Some(cost.work)
    }

    fn charge_to(&mut self, conn: ConnId, key: ResourceKey, cost: Cost) {
        let user = self.actors.users.resource(key).user;
        let until = self.turns.buckets.charge(conn, user, cost, self.env.now);
        // One that is slowed already will be again after its next turn, if that is still so.
        let is_slowed = self.sessions.get(conn).is_some_and(|session| session.marks.holds.has(Holds::TOKENS));
        if let Some(until) = until.filter(|_| !is_slowed) {
            self.hold(conn, Holds::TOKENS);
            self.turns.slowed.insert((until, conn));
        }
    }

    /// Charges a connection, and its account, with work that its earlier requests have made outside its turns. It pays with
    /// its next ones.
    pub(super) fn owe(&mut self, conn: ConnId, work: u64) {
        let Some(session) = self.sessions.get(conn) else { return };
        let SessionPhase::Bound(key) = session.phase else { return };
        self.charge_to(conn, key, Cost { stanzas: 0, work });
        let waiting = self.turns.waiting.entry(conn).or_default();
        waiting.credit = waiting.credit.saturating_sub_unsigned(work);
        // One that is held comes back when it is lifted.
        if self.sessions.get(conn).is_some_and(|session| session.marks.holds.is_empty()) {
            self.turns.enqueue(conn);
        }
    }

    /// Shows how much waits.
    pub(super) fn count_turns(&self) {
        let metrics = self.env.metrics();
        metrics.turns_length.set(self.turns.len() as u64);
        metrics.turns_high.raise(self.turns.len() as u64);
        metrics.input_held.set(self.turns.bytes() as u64);
        metrics.input_held_high.raise(self.turns.bytes() as u64);
        metrics.buckets.set(self.turns.buckets.len() as u64);
    }

    /// Whether bytes of a TLS handshake are to be handled now. If not, they wait for their turn: each answer to them is a
    /// key exchange and a signature, and thousands of clients may come at once.
    pub(super) fn admit_handshake(&mut self, conn: ConnId, bytes: &[u8]) -> bool {
        if self.turns.keep(conn, bytes) {
            self.wait_for_turn(conn);
            return false;
        }
        if self.fx.work.handshakes() < self.turns.handshakes_until {
            return true;
        }
        self.turns.put(conn, Waiting { input: bytes.to_vec(), handshake: true, ..Waiting::default() });
        self.wait_for_turn(conn);
        false
    }

    /// The turn of a connection whose TLS handshake waits.
    fn shake_hands(&mut self, conn: ConnId, waiting: Waiting) {
        self.lift(conn, Holds::TURN);
        self.open(conn, &waiting.input);
        match waiting.end {
            Some(InputEnd::Fin) => self.ended(conn),
            Some(InputEnd::Tls) => self.tls_ended(conn),
            None => {}
        }
    }

    /// Begins an iteration's share of input and of TLS handshakes.
    pub fn begin_iteration(&mut self) {
        self.fx.look_after_spill(&self.env);
        self.turns.handshakes_until = self.fx.work.handshakes() + HANDSHAKES;
    }

    /// Begins the share of input that the driver brings. `crowded`: a mailbox of another worker is full, so who has asked for much
    /// waits for a turn.
    pub fn begin_poll(&mut self, crowded: bool) {
        self.turns.until = self.fx.work.spent() + POLL_UNITS;
        self.turns.crowded = crowded;
    }

    /// Goes on with connections that have waited long enough.
    fn lift_slowed(&mut self) {
        while let Some(&(at, conn)) = self.turns.slowed.first().filter(|(at, _)| *at <= self.env.now) {
            self.turns.slowed.remove(&(at, conn));
            self.lift(conn, Holds::TOKENS);
        }
    }

    /// Whether the next frame of a resource's connection may be handled, or why not. `until`: the work at which its share of
    /// the turn is used up.
    pub(super) fn gate(&self, conn: ConnId, key: ResourceKey, until: u64) -> Option<Holds> {
        if self.fx.work.spent() >= until.min(self.turns.until) {
            return Some(Holds::TURN);
        }
        let has_room = room::for_next_stanza(&self.actors, &self.env, &self.fx, conn, Some(key));
        (!has_room).then_some(Holds::OUTPUT)
    }

    /// Whether so much waits for a client, or its account, that nothing more is to be handled of what it asks.
    pub(super) fn is_choked(&self, conn: ConnId) -> bool {
        let session = self.sessions.get(conn);
        let resource = session.and_then(|session| match session.phase {
            SessionPhase::Bound(key) => Some(key),
            _ => None,
        });
        !room::for_next_stanza(&self.actors, &self.env, &self.fx, conn, resource)
    }

    /// Deals out turns, round robin, as long as the iteration has work to give. A stanza that costs much more is finished, and paid for
    /// by the turns of the next iterations: while there are as many of them as input that comes, each would keep all of that waiting for
    /// as long as it takes.
    pub fn run_turns(&mut self) {
        self.lift_slowed();
        while self.fx.work.handshakes() < self.turns.handshakes_until {
            let Some((conn, waiting)) = self.turns.next(true) else { break };
            self.shake_hands(conn, waiting);
            self.carry_out();
        }
        // Handshakes have a bound of their own; they take no turns from those who are past theirs.
        let share = QUEUE_UNITS.saturating_sub(self.turns.owed);
        self.turns.owed = self.turns.owed.saturating_sub(QUEUE_UNITS);
        if share == 0 {
            return;
        }
        let until = self.fx.work.spent() + share;
        self.turns.until = until;
        for _ in 0..self.turns.queue.len() {
            if self.fx.work.spent() >= until {
                self.env.metrics().turns_cut.add(1);
                break;
            }
            let Some((conn, waiting)) = self.turns.next(false) else { break };
            self.take_turn(conn, waiting);
            self.note_input(conn);
            self.carry_out();
        }
        self.turns.owed = (self.turns.owed + self.fx.work.spent().saturating_sub(until)).min(OWED_UNITS);
    }

    /// Nothing has come that turns would keep waiting: what they have taken beyond their share is forgiven.
    pub fn forgive_turns(&mut self) {
        self.turns.owed = 0;
    }

    fn take_turn(&mut self, conn: ConnId, mut waiting: Waiting) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let holds = &mut session.marks.holds;
        let mut others = *holds;
        others.take(Holds::TURN);
        if !others.is_empty() {
            // It comes back when nothing else holds it.
            *holds = others;
            return self.turns.put(conn, waiting);
        }
        if !waiting.has_input() && waiting.credit >= 0 {
            // It has been quiet for a round.
            return;
        }
        waiting.credit += QUANTUM as i64;
        if waiting.credit <= 0 || !waiting.has_input() {
            waiting.credit = waiting.credit.min(0);
            self.turns.put(conn, waiting);
            return self.turns.enqueue(conn);
        }
        let begun = self.begin_turn();
        let input = std::mem::take(&mut waiting.input);
        let now = self.fx.out.times.received();
        let waited = Reception { at: waiting.received.or(now.at), has_waited: true };
        let _ = self.fx.out.times.set_received(waited);
        let (rest, reason) = self.frames_of(conn, &input[waiting.at..], begun.work + waiting.credit as u64);
        let _ = self.fx.out.times.set_received(now);
        let left = rest.len();
        let Some(spent) = self.charge(conn, begun) else { return };
        if spent >= QUANTUM {
            self.turns.note_demand(conn, self.env.now);
        }
        waiting.credit = (waiting.credit - spent as i64).min(0);
        if reason.is_some() {
            waiting.at = input.len() - left;
            waiting.input = input;
            self.turns.put(conn, waiting);
            return self.wait(conn, reason);
        }
        if let Some(end) = waiting.end {
            return match end {
                InputEnd::Fin => self.ended(conn),
                InputEnd::Tls => self.tls_ended(conn),
            };
        }
        waiting.at = 0;
        waiting.received = None;
        self.turns.put(conn, waiting);
        self.turns.enqueue(conn);
        self.lift(conn, Holds::TURN);
    }

    /// Notes why the input of a connection waits; without a reason it only stays in the queue for a round.
    fn wait(&mut self, conn: ConnId, reason: Option<Holds>) {
        match reason {
            None => self.turns.enqueue(conn),
            Some(Holds::TURN) => self.wait_for_turn(conn),
            Some(other) => {
                self.hold(conn, other);
                if let Some(session) = self.sessions.get_mut(conn) {
                    session.marks.holds.take(Holds::TURN);
                }
            }
        }
    }

    fn wait_for_turn(&mut self, conn: ConnId) {
        let Some(session) = self.sessions.get(conn) else { return };
        if session.marks.holds.is_empty() {
            self.hold(conn, Holds::TURN);
        }
        if self.sessions.get(conn).is_some_and(|session| session.marks.holds.has(Holds::TURN)) {
            self.turns.enqueue(conn);
        }
    }

    /// Stops reading from a connection, and handling what has been read of it.
    pub(super) fn hold(&mut self, conn: ConnId, reason: Holds) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let holds = &mut session.marks.holds;
        if holds.has(reason) {
            return;
        }
        if holds.is_empty() {
            self.fx.out.act(conn, Action::Pause);
        }
        holds.put(reason);
        match reason {
            Holds::OUTPUT => {
                self.choked.push(conn);
                self.env.metrics().reading_pauses.add(1);
            }
            Holds::TOKENS => self.env.metrics().slowed.add(1),
            _ => {}
        }
    }

    /// A reason is gone. When it was the last, what is held is handled in its turn, and then reading goes on.
    pub(super) fn lift(&mut self, conn: ConnId, reason: Holds) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let holds = &mut session.marks.holds;
        if !holds.has(reason) {
            return;
        }
        holds.take(reason);
        if !holds.is_empty() {
            return;
        }
        match self.turns.has_input(conn) {
            true => holds.put(Holds::TURN),
            false => self.fx.out.act(conn, Action::Resume),
        }
        self.turns.enqueue(conn);
    }

    /// After output was handed to the driver: goes on with connections that were held for it within the iteration and
    /// of whose output little or nothing waits now.
    pub fn lift_choked(&mut self) {
        let choked = self.choked.len();
        for at in 0..choked {
            let conn = self.choked[at];
            if !self.is_choked(conn) {
                self.lift(conn, Holds::OUTPUT);
            }
        }
        // Lifting a hold can have choked others.
        self.choked.drain(..choked);
    }
}
