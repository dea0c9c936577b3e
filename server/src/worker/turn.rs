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

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::runtime::driver::ConnId;
use crate::runtime::outbox::Action;
use crate::runtime::timer::Millis;
use crate::session::{Holds, Phase};
use crate::user::flow;
use crate::worker::core::Core;

/// Work units of one connection in one turn.
pub(super) const QUANTUM: u64 = 128;

/// Work units of all turns of the run queue in one iteration; a stanza that is begun is finished.
const QUEUE_UNITS: u64 = 512;

/// What comes behind the input that is held.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum InputEnd {
    /// The peer has ended its side of the connection.
    Fin,
    /// The peer has ended TLS.
    Tls,
}

/// A connection that is not new: it has input that is held, or had a turn lately.
#[derive(Debug, Default)]
struct Waiting {
    /// Decrypted input; up to `at` it has been handled.
    input: Vec<u8>,
    at: usize,
    end: Option<InputEnd>,
    /// It stands in the queue.
    queued: bool,
    /// Work units that it may do in its next turn beyond the quantum: 0, or less by what it has done too much.
    credit: i64,
}

impl Waiting {
    fn has_input(&self) -> bool {
        self.at < self.input.len() || self.end.is_some()
    }
}

/// The run queue and the input that waits.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: HashMap<ConnId, Waiting, FixedState>,
    /// May name connections that are gone, or stand in it no more.
    queue: VecDeque<ConnId>,
    /// Bytes of input held.
    bytes: usize,
}

impl Turns {
    /// Whether somebody's turn can be dealt out at once.
    pub(super) fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    /// A connection has another id.
    pub(super) fn rekey(&mut self, old: ConnId, new: ConnId) {
        if let Some(mut waiting) = self.take(old) {
            let queued = std::mem::take(&mut waiting.queued);
            self.put(new, waiting);
            if queued {
                self.enqueue(new);
            }
        }
    }

    /// When something is due here.
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        None
    }

    /// Bytes of input held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Connections in the run queue.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Input of a connection that has not been handled.
    pub(super) fn input_of(&self, conn: ConnId) -> &[u8] {
        self.waiting.get(&conn).map_or(&[], |waiting| &waiting.input[waiting.at..])
    }

    /// Keeps input behind what is held of the same connection, or because it has had a turn lately. `false`: it is new.
    fn keep(&mut self, conn: ConnId, bytes: &[u8]) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let Some(waiting) = self.waiting.get_mut(&conn) else { return false };
        waiting.input.extend_from_slice(bytes);
        self.bytes += bytes.len();
        true
    }

    /// Holds input that another program has held.
    pub(super) fn restore(&mut self, conn: ConnId, bytes: &[u8], ended: bool) {
        let end = ended.then_some(InputEnd::Fin);
        self.put(conn, Waiting { input: bytes.to_vec(), end, ..Waiting::default() });
    }

    /// Notes the end of a connection's input if there is some before it that has not been handled.
    pub(super) fn end_later(&mut self, conn: ConnId, end: InputEnd) -> bool {
        let Some(waiting) = self.waiting.get_mut(&conn).filter(|waiting| waiting.has_input()) else {
            return false;
        };
        waiting.end.get_or_insert(end);
        true
    }

    /// Drops what is held of a connection.
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.take(conn);
    }

    fn has_input(&self, conn: ConnId) -> bool {
        self.waiting.get(&conn).is_some_and(Waiting::has_input)
    }

    fn take(&mut self, conn: ConnId) -> Option<Waiting> {
        if self.waiting.is_empty() {
            return None;
        }
        let waiting = self.waiting.remove(&conn)?;
        self.bytes -= waiting.input.len() - waiting.at;
        Some(waiting)
    }

    fn put(&mut self, conn: ConnId, waiting: Waiting) {
        self.bytes += waiting.input.len() - waiting.at;
        self.waiting.insert(conn, waiting);
    }

    /// Puts a connection at the end of the queue.
    pub(super) fn enqueue(&mut self, conn: ConnId) {
        if let Some(waiting) = self.waiting.get_mut(&conn)
            && !std::mem::replace(&mut waiting.queued, true)
        {
            self.queue.push_back(conn);
        }
    }

    /// The connection whose turn it is, which leaves the queue.
    fn next(&mut self) -> Option<(ConnId, Waiting)> {
        while let Some(conn) = self.queue.pop_front() {
            if let Some(mut waiting) = self.take(conn) {
                waiting.queued = false;
                return Some((conn, waiting));
            }
        }
        // What a crowd has needed is given back.
        self.queue.shrink_to(64);
        None
    }
}

impl Core {
    /// Bytes of a client's stream, after TLS: handled now if it has been quiet, as far as its share of the turn goes.
    pub(super) fn input(&mut self, conn: ConnId, bytes: &[u8]) {
        if !self.admit_unauthenticated_bytes(conn, bytes.len()) {
            return;
        }
        if self.turns.keep(conn, bytes) {
            return self.wait_for_turn(conn);
        }
        let begun = self.home.work.spent();
        let (rest, reason) = self.frames(conn, bytes, begun + QUANTUM);
        let spent = self.home.work.spent() - begun;
        if reason.is_none() && spent <= QUANTUM {
            return;
        }
        let bound = |session: &crate::session::Session| matches!(session.phase, Phase::Bound(_));
        if self.sessions.get(conn).is_some_and(bound) {
            let credit = (QUANTUM as i64 - spent as i64).min(0);
            self.turns.put(conn, Waiting { input: rest.to_vec(), credit, ..Waiting::default() });
            self.wait(conn, reason);
        }
    }

    /// Whether the next frame of a connection may be handled, or why not. `until`: the work at which its share of the
    /// turn is used up.
    pub(super) fn gate(&self, conn: ConnId, backlog: u32, until: u64) -> Option<Holds> {
        if self.home.work.spent() >= until {
            return Some(Holds::TURN);
        }
        if flow::is_choked(&self.home, conn, backlog) {
            return Some(Holds::OUTPUT);
        }
        None
    }

    /// Deals out turns, round robin, as long as the iteration has work to give.
    pub fn run_turns(&mut self) {
        let until = self.home.work.spent() + QUEUE_UNITS;
        for _ in 0..self.turns.len() {
            if self.home.work.spent() >= until {
                self.home.metrics().turns_cut.add(1);
                break;
            }
            let Some((conn, waiting)) = self.turns.next() else { break };
            self.take_turn(conn, waiting);
            self.end_streams();
        }
        let metrics = self.home.metrics();
        metrics.turns_length.set(self.turns.len() as u64);
        metrics.turns_high.raise(self.turns.len() as u64);
        metrics.input_held.set(self.turns.bytes() as u64);
        metrics.input_held_high.raise(self.turns.bytes() as u64);
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
        let begun = self.home.work.spent();
        let input = std::mem::take(&mut waiting.input);
        let (rest, reason) = self.frames(conn, &input[waiting.at..], begun + waiting.credit as u64);
        let left = rest.len();
        let spent = (self.home.work.spent() - begun) as i64;
        let Some(session) = self.sessions.get(conn) else { return };
        if !matches!(session.phase, Phase::Bound(_)) {
            return;
        }
        waiting.credit = (waiting.credit - spent).min(0);
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
            self.home.out.act(conn, Action::Pause);
        }
        holds.put(reason);
        if reason == Holds::OUTPUT {
            self.choked.push(conn);
            self.home.metrics().reading_pauses.add(1);
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
            false => self.home.out.act(conn, Action::Resume),
        }
        self.turns.enqueue(conn);
    }

    /// After output was handed to the driver: goes on with connections that were held for it within the iteration and
    /// of whose output little or nothing waits now.
    pub fn lift_choked(&mut self) {
        let mut choked = std::mem::take(&mut self.choked);
        for conn in choked.drain(..) {
            let Some(session) = self.sessions.get(conn) else { continue };
            if !flow::is_choked(&self.home, conn, session.backlog) {
                self.lift(conn, Holds::OUTPUT);
            }
        }
        self.choked = choked;
    }
}
