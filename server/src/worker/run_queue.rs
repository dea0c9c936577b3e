//! The run queue, and the input that waits in it. Whose turn it is when, and what holds a connection, is
//! [`turn`](super)'s.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::limits::Limits;
use crate::runtime::driver::ConnId;
use crate::runtime::timer::Millis;
use crate::worker::bucket::{Buckets, give_back};

/// For so long, in milliseconds, a client that has used up a turn is one of those that ask for much. They are told apart for the times
/// of the others' messages (`messages.prompt_latency`), and wait while a mailbox of another worker is full.
const LATELY_MS: u64 = 1000;

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
pub(super) struct Waiting {
    /// Decrypted input; up to `at` it has been handled.
    pub(super) input: Vec<u8>,
    pub(super) at: usize,
    pub(super) end: Option<InputEnd>,
    /// The input is that of a TLS handshake, as it came.
    pub(super) handshake: bool,
    /// It stands in the queue.
    pub(super) queued: bool,
    /// Work units that it may do in its next turn beyond the quantum: 0, or less by what it has done too much.
    pub(super) credit: i64,
    /// When the oldest of the input was received.
    pub(super) received: Option<Instant>,
}

impl Waiting {
    pub(super) fn has_input(&self) -> bool {
        self.at < self.input.len() || self.end.is_some()
    }
}

/// The run queue and the input that waits.
#[derive(Debug)]
pub(super) struct RunQueue {
    pub(super) waiting: HashMap<ConnId, Waiting, FixedState>,
    /// May name connections that are gone, or stand in it no more.
    pub(super) queue: VecDeque<ConnId>,
    /// The same of those whose TLS handshake waits.
    handshakes: VecDeque<ConnId>,
    /// Bytes of input held.
    bytes: usize,
    /// Who has used up a whole turn, and when last. Those for whom it is longer ago than [`LATELY_MS`] are dropped by
    /// [`RunQueue::rest`].
    demanding: HashMap<ConnId, Millis, FixedState>,
    /// Connections that have asked for too much, and when they may go on.
    pub(super) slowed: BTreeSet<(Millis, ConnId)>,
    pub(super) buckets: Buckets,
    /// Work units that turns have taken beyond the share of their iterations, and not paid for yet.
    pub(super) owed: u64,
    /// A mailbox of another worker is full: who has asked for much waits for a turn.
    pub(super) crowded: bool,
    /// The work at which this iteration handles no more input.
    pub(super) until: u64,
    /// The count of TLS handshakes at which it handles no more of them.
    pub(super) handshakes_until: u64,
}

impl RunQueue {
    /// With nobody.
    pub(super) fn new(limits: &Limits) -> RunQueue {
        RunQueue {
            waiting: HashMap::default(),
            queue: VecDeque::new(),
            handshakes: VecDeque::new(),
            bytes: 0,
            demanding: HashMap::default(),
            slowed: BTreeSet::new(),
            buckets: Buckets::new(limits),
            owed: 0,
            crowded: false,
            until: 0,
            handshakes_until: 0,
        }
    }

    /// Whether something is to be done here now.
    pub(super) fn has_work(&self, now: Millis) -> bool {
        self.len() > 0 || self.next_deadline().is_some_and(|at| at <= now)
    }

    /// A connection has another id.
    pub(super) fn rekey(&mut self, old: ConnId, new: ConnId) {
        // One that is slowed down has nothing else that would let it go on.
        if let Some(&(at, _)) = self.slowed.iter().find(|(_, conn)| *conn == old) {
            self.slowed.remove(&(at, old));
            self.slowed.insert((at, new));
        }
        if let Some(at) = self.demanding.remove(&old) {
            self.demanding.insert(new, at);
        }
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
        self.slowed.first().map(|(at, _)| *at)
    }

    /// Bytes of input held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back what is needed no more.
    pub(super) fn rest(&mut self, now: Millis) {
        self.buckets.rest(now);
        self.demanding.retain(|_, at| now.since(*at) < LATELY_MS);
        give_back(&mut self.demanding);
        give_back(&mut self.waiting);
        if self.queue.is_empty() {
            self.queue.shrink_to(64);
        }
        if self.handshakes.is_empty() {
            self.handshakes.shrink_to(64);
        }
    }

    /// Connections in the run queue.
    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.handshakes.len()
    }

    /// Bytes of memory of a connection's input.
    pub(super) fn memory_of(&self, conn: ConnId) -> usize {
        match self.waiting.is_empty() {
            true => 0,
            false => self.waiting.get(&conn).map_or(0, |waiting| waiting.input.capacity()),
        }
    }

    /// Input of a connection that has not been handled.
    pub(super) fn input_of(&self, conn: ConnId) -> &[u8] {
        self.waiting.get(&conn).map_or(&[], |waiting| &waiting.input[waiting.at..])
    }

    /// Keeps input behind what is held of the same connection, or because it has had a turn lately. `false`: it is new.
    pub(super) fn keep(&mut self, conn: ConnId, bytes: &[u8]) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let Some(waiting) = self.waiting.get_mut(&conn) else { return false };
        waiting.input.extend_from_slice(bytes);
        self.bytes += bytes.len();
        true
    }

    /// Notes when input was received that is kept behind none.
    pub(super) fn note_received(&mut self, conn: ConnId, at: Option<Instant>) {
        if let Some(waiting) = self.waiting.get_mut(&conn) {
            waiting.received = waiting.received.or(at);
        }
    }

    /// Notes that a connection has used up its share of a turn.
    pub(super) fn note_demand(&mut self, conn: ConnId, now: Millis) {
        self.demanding.insert(conn, now);
    }

    /// Whether a connection has used up its share of a turn within the last second.
    pub(super) fn has_demanded(&self, conn: ConnId, now: Millis) -> bool {
        !self.demanding.is_empty() && self.demanding.get(&conn).is_some_and(|at| now.since(*at) < LATELY_MS)
    }

    /// Holds input that another program has held.
    pub(super) fn restore(&mut self, conn: ConnId, bytes: &[u8], end: Option<InputEnd>) {
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
        if !self.demanding.is_empty() {
            self.demanding.remove(&conn);
        }
    }

    pub(super) fn has_input(&self, conn: ConnId) -> bool {
        self.waiting.get(&conn).is_some_and(Waiting::has_input)
    }

    pub(super) fn take(&mut self, conn: ConnId) -> Option<Waiting> {
        if self.waiting.is_empty() {
            return None;
        }
        let waiting = self.waiting.remove(&conn)?;
        self.bytes -= waiting.input.len() - waiting.at;
        Some(waiting)
    }

    pub(super) fn put(&mut self, conn: ConnId, waiting: Waiting) {
        self.bytes += waiting.input.len() - waiting.at;
        self.waiting.insert(conn, waiting);
    }

    /// Puts a connection at the end of the queue.
    pub(super) fn enqueue(&mut self, conn: ConnId) {
        if let Some(waiting) = self.waiting.get_mut(&conn)
            && !std::mem::replace(&mut waiting.queued, true)
        {
            match waiting.handshake {
                true => self.handshakes.push_back(conn),
                false => self.queue.push_back(conn),
            }
        }
    }

    /// The connection whose turn it is, which leaves the queue.
    pub(super) fn next(&mut self, handshakes: bool) -> Option<(ConnId, Waiting)> {
        while let Some(conn) = if handshakes { &mut self.handshakes } else { &mut self.queue }.pop_front() {
            if let Some(mut waiting) = self.take(conn) {
                waiting.queued = false;
                return Some((conn, waiting));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_used_up_a_turn_is_known_for_a_second() {
        let [first, second] = [1, 2].map(|index| ConnId { index, generation: 1 });
        let mut turns = RunQueue::new(&Limits::default());
        turns.note_demand(first, Millis(5));
        turns.rekey(first, second);
        assert!(!turns.has_demanded(first, Millis(5)));
        assert!(turns.has_demanded(second, Millis(1004)) && !turns.has_demanded(second, Millis(1005)));
        turns.rest(Millis(1004));
        assert_eq!(turns.demanding.len(), 1);
        turns.rest(Millis(1005));
        assert_eq!(turns.demanding.len(), 0, "nothing is kept of it");
        turns.note_demand(second, Millis(1005));
        turns.forget(second);
        assert!(!turns.has_demanded(second, Millis(1005)));
    }

    #[test]
    fn handshakes_wait_in_a_queue_of_their_own() {
        let [first, second, bound] = [1, 2, 3].map(|index| ConnId { index, generation: 1 });
        let mut turns = RunQueue::new(&Limits::default());
        for (conn, handshake) in [(first, true), (bound, false), (second, true)] {
            turns.put(conn, Waiting { input: b"hello".to_vec(), handshake, ..Waiting::default() });
            turns.enqueue(conn);
            turns.enqueue(conn);
        }
        assert!(turns.keep(second, b", and more"));
        assert_eq!((turns.len(), turns.bytes()), (3, 25));
        assert_eq!(turns.next(false).map(|(conn, _)| conn), Some(bound));
        assert!(turns.next(false).is_none());
        assert_eq!(turns.next(true).map(|(conn, _)| conn), Some(first));
        let (conn, waiting) = turns.next(true).expect("the second waits");
        assert_eq!((conn, waiting.input.as_slice()), (second, &b"hello, and more"[..]));
        assert!(turns.next(true).is_none() && !turns.has_work(Millis(0)));
        assert_eq!(turns.bytes(), 0);
    }

    #[test]
    fn a_slowed_connection_goes_on_under_its_new_id() {
        let (old, new) = (ConnId { index: 1, generation: 1 }, ConnId { index: 2, generation: 7 });
        let mut turns = RunQueue::new(&Limits::default());
        turns.put(old, Waiting { input: b"<r/>".to_vec(), ..Waiting::default() });
        turns.slowed.insert((Millis(5), old));
        turns.rekey(old, new);
        assert_eq!(turns.slowed.first(), Some(&(Millis(5), new)));
        assert_eq!((turns.input_of(old), turns.input_of(new)), (&b""[..], &b"<r/>"[..]));
    }
}
