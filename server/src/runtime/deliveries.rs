//! How long messages take through the server: from the event that brought the last of their bytes to the hand-over of
//! their own last byte to the kernel, and to the client's acknowledgement.
//!
//! ```text
//! event ──▶ (run queue) ──▶ routing ──▶ (another worker) ──▶ outbox ──▶ (driver's backlog) ──▶ kernel ──▶ client's <a/>
//! reception ────────────────────── messages.latency ──────────────────────────────────────────▶│           │
//! reception ────────────────────── messages.ack_latency ───────────────────────────────────────────────────▶│
//! ```
//! `messages.prompt_latency` is the first of the two for messages from one to one of clients that have asked for no more than their
//! share of a turn for a second, and that did not wait for their recipient: behind output that it had not taken yet, or because
//! the kernel did not take all of theirs at once (with io_uring: 4 KiB or more at once). Beside somebody who floods it tells what
//! becomes of everybody else's.
//!
//! The clock is read when the driver begins to hand over what has come, and when the output of the iteration is with it.
//! Messages carry no time: what waits does (input in the run queue, a parcel, a connection's output), and it has that of the
//! oldest message in it.
//! So a time is never too short, and too long at most by what the oldest has waited longer.

use std::time::Instant;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::clock::Clock;
use crate::runtime::driver::ConnId;

/// Streams that can be waited for at once; the others are not measured meanwhile.
const PROBES: usize = 256;

/// An acknowledgement that has not come for so many seconds makes room for another stream.
const PROBE_SECONDS: u64 = 60;

/// When something was received, and how it came to be handled.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Reception {
    /// `None`: long ago, as what comes out of the log; it is not timed.
    pub at: Option<Instant>,
    /// It has waited for its turn: in the run queue, or its client has had to lately, behind what its recipient has not taken, or, said in a room, with the others
    /// that its room has said.
    pub has_waited: bool,
}

/// When the oldest of some stanzas were received: of those that have waited, and of the others, which are not to be timed as if they
/// had come with the former.
#[derive(Copy, Clone, Debug, Default)]
pub struct Receptions {
    waited: Option<Instant>,
    prompt: Option<Instant>,
}

impl Receptions {
    /// One of them was received so.
    pub fn note(&mut self, received: Reception) {
        let at = if received.has_waited { &mut self.waited } else { &mut self.prompt };
        *at = oldest(*at, received.at);
    }

    /// When the oldest was received of those that have waited, or have not.
    pub fn of(&self, has_waited: bool) -> Reception {
        Reception { at: if has_waited { self.waited } else { self.prompt }, has_waited }
    }
}

/// Some messages, and when the oldest of them was received.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Since {
    at: Option<Instant>,
    count: u32,
}

impl Since {
    fn merge(&mut self, other: Since) {
        self.at = oldest(self.at, other.at);
        self.count = self.count.saturating_add(other.count);
    }
}

/// Messages that go the same way together.
#[derive(Copy, Clone, Debug, Default)]
pub struct Lot {
    all: Since,
    /// Those of them that have not waited for their turn.
    prompt: Since,
}

impl Lot {
    /// Adds a message; one of long ago is none.
    pub fn add(&mut self, received: Reception) {
        if self.all.count > 0 && self.all.at == received.at && self.prompt == self.all && !received.has_waited
        {
            // As a rule all messages to a client are of this iteration.
            (self.all.count, self.prompt.count) = (self.all.count + 1, self.prompt.count + 1);
            return;
        }
        let one = Since { at: received.at, count: received.at.is_some().into() };
        let prompt = if received.has_waited { Since::default() } else { one };
        self.merge(Lot { all: one, prompt });
    }

    /// Messages that have not waited.
    pub fn prompt(&self) -> u32 {
        self.prompt.count
    }

    fn merge(&mut self, other: Lot) {
        self.all.merge(other.all);
        self.prompt.merge(other.prompt);
    }
}

/// Which histogram a time is of.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Measured {
    /// `messages.latency`
    All,
    /// `messages.prompt_latency`
    Prompt,
}

/// The earlier of two times, where there is one.
pub fn oldest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// A message whose acknowledgement is waited for.
#[derive(Copy, Clone, Debug)]
struct Probe {
    stream: u64,
    number: u32,
    since: Instant,
}

/// The messages of one worker that are on their way out.
#[derive(Debug)]
pub struct Deliveries {
    /// When the iteration began; `None` before the first.
    begun: Option<Instant>,
    received: Reception,
    /// With the kernel since the iteration began.
    flushed: Vec<Lot>,
    /// Not all of their bytes are.
    with_driver: HashMap<ConnId, Lot, FixedState>,
    probes: Vec<Option<Probe>>,
}

impl Default for Deliveries {
    fn default() -> Self {
        Deliveries {
            begun: None,
            received: Reception::default(),
            flushed: Vec::new(),
            with_driver: HashMap::default(),
            probes: vec![None; PROBES],
        }
    }
}

impl Deliveries {
    /// The driver begins to hand over what has come, or turns are dealt out.
    pub fn begin(&mut self, now: Instant) {
        self.begun = Some(now);
        self.received = Reception { at: Some(now), has_waited: false };
    }

    /// When that was received which is being handled.
    pub fn received(&self) -> Reception {
        self.received
    }

    /// Handles what was received at another time; returns what [`Deliveries::set_received`] is to be told afterwards.
    #[must_use]
    pub fn set_received(&mut self, received: Reception) -> Reception {
        std::mem::replace(&mut self.received, received)
    }

    /// Handles a stanza of those of which the oldest was received at the time that is set: this one has waited in the run
    /// queue, or has not.
    pub fn set_waited(&mut self, has_waited: bool) {
        self.received.has_waited = has_waited;
    }

    /// A message was written to a managed stream, as its stanza `number`. One of a stream is waited for at a time.
    pub fn sent(&mut self, stream: u64, number: u32) {
        let Some(since) = self.received.at else { return };
        let slot = &mut self.probes[stream as usize % PROBES];
        let is_free =
            slot.is_none_or(|probe| since.saturating_duration_since(probe.since).as_secs() >= PROBE_SECONDS);
        if is_free {
            *slot = Some(Probe { stream, number, since });
        }
    }

    /// The client of a managed stream has handled so many stanzas, as this iteration has learnt. Returns how long the
    /// message took that was waited for, in microseconds.
    pub fn acknowledged(&mut self, stream: u64, handled: u32) -> Option<u64> {
        let slot = &mut self.probes[stream as usize % PROBES];
        // Counts run modulo 2^32 (XEP-0198 §4).
        let arrived = |p: &Probe| p.stream == stream && handled.wrapping_sub(p.number) <= u32::MAX / 2;
        let probe = slot.take_if(|probe| arrived(probe))?;
        Some(micros(probe.since, self.begun?))
    }

    /// The driver has taken what was written to a connection; it keeps `backlog` bytes of it. What is among them goes as its
    /// recipient reads.
    pub fn flushed(&mut self, conn: ConnId, lot: Lot, backlog: usize) {
        if backlog == 0 {
            self.drained(conn);
            self.push(lot);
        } else if lot.all.count > 0 {
            let lot = Lot { prompt: Since::default(), ..lot };
            self.with_driver.entry(conn).or_default().merge(lot);
        }
    }

    /// Everything that was written to a connection is with the kernel.
    pub fn drained(&mut self, conn: ConnId) {
        if !self.with_driver.is_empty()
            && let Some(lot) = self.with_driver.remove(&conn)
        {
            self.push(lot);
        }
    }

    /// A connection is gone, with what was not sent.
    pub fn forget(&mut self, conn: ConnId) {
        if !self.with_driver.is_empty() {
            self.with_driver.remove(&conn);
        }
    }

    fn push(&mut self, lot: Lot) {
        match self.flushed.last_mut() {
            _ if lot.all.count == 0 => {}
            // As a rule all messages of an iteration were received when it began.
            Some(last) if last.all.at == lot.all.at && last.prompt.at == lot.prompt.at => last.merge(lot),
            _ => self.flushed.push(lot),
        }
    }

    /// At the end of an iteration: gives `record` the microseconds that messages took which are with the kernel now, and
    /// how many took as long.
    pub fn count(&mut self, clock: &Clock, mut record: impl FnMut(Measured, u64, u64)) {
        if self.flushed.is_empty() {
            return;
        }
        let now = clock.instant();
        for lot in self.flushed.drain(..) {
            for (measured, since) in [(Measured::All, lot.all), (Measured::Prompt, lot.prompt)] {
                if let Some(at) = since.at {
                    record(measured, micros(at, now), since.count.into());
                }
            }
        }
        if self.with_driver.is_empty() && self.with_driver.capacity() > PROBES {
            self.with_driver = HashMap::default();
        }
    }
}

fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const A: ConnId = ConnId { index: 3, generation: 1 };

    fn lot(received: Instant, count: u32) -> Lot {
        let since = Since { at: Some(received), count };
        Lot { all: since, prompt: since }
    }

    /// How many are counted, and how many of them as ten minutes or more.
    fn counted(deliveries: &mut Deliveries) -> (u64, u64) {
        counted_as(deliveries, Measured::All)
    }

    fn counted_as(deliveries: &mut Deliveries, wanted: Measured) -> (u64, u64) {
        let mut counted = (0, 0);
        let clock = Clock::System { started: Instant::now() };
        deliveries.count(&clock, |measured, micros, count| {
            if measured != wanted {
                return;
            }
            counted.0 += count;
            counted.1 += if micros >= 600_000_000 { count } else { 0 };
        });
        counted
    }

    #[test]
    fn a_slow_readers_messages_are_timed_to_their_last_byte() {
        let mut deliveries = Deliveries::default();
        let now = Instant::now();
        let long_ago = now.checked_sub(Duration::from_secs(600)).unwrap();
        deliveries.flushed(A, lot(long_ago, 2), 100);
        deliveries.flushed(A, lot(now, 1), 150);
        assert_eq!(counted(&mut deliveries), (0, 0), "bytes of them wait in the driver");
        deliveries.drained(A);
        assert_eq!(counted(&mut deliveries), (3, 3), "as old as the oldest");
        deliveries.flushed(A, lot(now, 5), 0);
        assert_eq!(counted(&mut deliveries), (5, 0));
        deliveries.flushed(A, lot(now, 5), 7);
        deliveries.forget(A);
        deliveries.drained(A);
        assert_eq!(counted(&mut deliveries), (0, 0), "never sent");
    }

    #[test]
    fn a_message_that_had_no_turn_to_wait_for_is_timed_by_itself() {
        let mut deliveries = Deliveries::default();
        let now = Instant::now();
        let long_ago = now.checked_sub(Duration::from_secs(600)).unwrap();
        let mut lot = Lot::default();
        lot.add(Reception { at: Some(long_ago), has_waited: true });
        lot.add(Reception { at: Some(now), has_waited: false });
        lot.add(Reception::default());
        deliveries.flushed(A, lot, 0);
        assert_eq!(
            counted_as(&mut deliveries, Measured::Prompt),
            (1, 0),
            "not as old as the one that waited"
        );
        deliveries.flushed(A, lot, 0);
        assert_eq!(counted_as(&mut deliveries, Measured::All), (2, 2));
        let mut late = Lot::default();
        late.add(Reception { at: Some(now), has_waited: true });
        deliveries.flushed(A, late, 0);
        assert_eq!(counted_as(&mut deliveries, Measured::Prompt), (0, 0));
    }

    #[test]
    fn a_message_that_goes_as_its_recipient_reads_is_not_a_prompt_one() {
        let mut deliveries = Deliveries::default();
        let now = Instant::now();
        deliveries.flushed(A, lot(now, 2), 100);
        deliveries.drained(A);
        deliveries.flushed(A, lot(now, 1), 0);
        assert_eq!(counted_as(&mut deliveries, Measured::Prompt), (1, 0));
    }

    #[test]
    fn an_acknowledgement_of_the_message_is_timed_and_no_earlier_one() {
        let mut deliveries = Deliveries::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(2);
        let (first, second) = (7, 7 + PROBES as u64);
        deliveries.begin(now);
        deliveries.sent(first, u32::MAX);
        // Another stream in the same place is not measured meanwhile, nor is a later message of the same.
        deliveries.sent(second, 1);
        deliveries.sent(first, 0);
        deliveries.begin(later);
        assert_eq!(deliveries.acknowledged(second, 1), None);
        assert_eq!(deliveries.acknowledged(first, u32::MAX - 1), None);
        assert_eq!(deliveries.acknowledged(first, 3), Some(2_000_000));
        assert_eq!(deliveries.acknowledged(first, 3), None, "once");
        // What comes out of the log is not timed.
        let before = deliveries.set_received(Reception::default());
        assert_eq!(before, Reception { at: Some(later), has_waited: false });
        deliveries.sent(first, 4);
        assert_eq!(deliveries.acknowledged(first, 4), None);
    }

    #[test]
    fn who_waited_makes_nobody_elses_message_look_late() {
        let [early, late, later] =
            [0, 50, 60].map(|ms| Some(Instant::now() + std::time::Duration::from_millis(ms)));
        let mut both = Receptions::default();
        for (at, has_waited) in [(late, false), (early, true), (later, true), (later, false)] {
            both.note(Reception { at, has_waited });
        }
        assert_eq!(both.of(false), Reception { at: late, has_waited: false });
        assert_eq!(both.of(true), Reception { at: early, has_waited: true });
    }
}
