//! What the worker's loop needs of the core beside events: encryption, envelopes, completed jobs, counting.

use std::time::Instant;

use crate::effects::work;
use crate::exchange::links::Dispatch;
use crate::runtime::deliveries::Measured;
use crate::runtime::driver::ConnId;
use crate::runtime::mailbox::Road;
use crate::session::Holds;
use crate::worker::core::Core;

/// Work units for envelopes of other workers, and for what rooms say, in one iteration; one that is begun is finished, and what is left
/// of its batch is read in the next.
pub const ENVELOPE_UNITS: u64 = 512;

/// The same for what is asked of rooms and nodes, which has a share of its own: so a flood of deliveries does not keep it waiting.
const REQUEST_UNITS: u64 = 64;

/// Contacts of a user who has sent no presence for as long, or twice as long, are read again.
const CONTACTS_SECONDS: u32 = 32;

/// Work units for completed jobs in one iteration.
const COMPLETION_UNITS: u64 = 128;

impl Core {
    /// Encrypts what goes to a TLS session; `closing` adds the goodbye.
    pub fn seal(&mut self, conn: ConnId, plain: Vec<u8>, mut wire: Vec<u8>, closing: bool) -> Vec<u8> {
        let session = self.sessions.get_mut(conn);
        let bytes = match session.and_then(|session| session.tls.as_mut()) {
            Some(tls) => {
                if !plain.is_empty()
                    && let Err(error) = tls.seal(&plain, &mut wire)
                {
                    tracing::debug!(%error, "TLS cannot send");
                }
                if closing {
                    tls.close_notify(&mut wire);
                }
                self.fx.out.recycle(plain);
                wire
            }
            None if wire.is_empty() => plain,
            None => {
                wire.extend_from_slice(&plain);
                wire
            }
        };
        self.env.metrics().bytes_out.add(bytes.len() as u64);
        bytes
    }

    /// Reads the envelopes of other workers. Returns whether there were more of them than are read in one iteration.
    pub fn read_envelopes(&mut self) -> bool {
        if self.holds_too_much() {
            return false;
        }
        self.read_road(Road::Deliveries, ENVELOPE_UNITS);
        if self.fx.links.may_read(Road::Requests) {
            self.read_road(Road::Requests, REQUEST_UNITS);
        }
        self.fx.links.has_readable()
    }

    fn read_road(&mut self, road: Road, units: u64) {
        let until = self.fx.work.spent() + units;
        while self.fx.work.spent() < until {
            let Some(mut opened) = self.fx.links.open(road) else { return };
            let received = opened.received();
            let begun = self.fx.out.times.received();
            while self.fx.work.spent() < until && !self.holds_too_much() {
                let Some(envelope) = opened.take_next() else { break };
                self.fx.work.add(work::LETTER);
                self.read_envelope(envelope, &received);
            }
            let _ = self.fx.out.times.set_received(begun);
            if self.fx.links.put_back(road, opened) {
                self.env.metrics().mailbox_cuts.add(1);
                return;
            }
        }
    }

    /// Goes on with jobs that have come back.
    pub fn take_completions(&mut self) {
        let until = self.fx.work.spent() + COMPLETION_UNITS;
        while self.fx.work.spent() < until {
            let Some(done) = self.fx.jobs.take() else { break };
            self.fx.work.begin_completion();
            self.fx.work.add(work::JOB);
            self.completed(done);
            self.fx.work.end_completion();
        }
        self.lift_written();
    }

    /// Goes on with connections whose stanzas waited for writes that have come back.
    fn lift_written(&mut self) {
        for (conn, cost) in self.actors.writes.take_costs() {
            self.owe(conn, cost);
        }
        for conn in self.actors.writes.take_free() {
            self.lift(conn, Holds::WRITE);
        }
        self.lift_parked();
    }

    /// Once a second: gives back what connections, accounts and users who are quiet again have in side tables.
    pub(super) fn rest_tables(&mut self) {
        self.turns.rest(self.env.now);
        if self.seconds().is_multiple_of(CONTACTS_SECONDS) {
            self.actors.contacts.rest();
        }
        self.env.metrics().contacts_bytes.set(self.actors.contacts.bytes() as u64);
        self.env.metrics().archive_memory.set(self.actors.commits.archive().load().memory_bytes);
    }

    /// Bytes of a connection that were read and wait to be handled.
    pub fn input_held(&self, conn: ConnId) -> usize {
        self.turns.input_of(conn).len()
    }

    /// Whether input waits for its turn.
    pub fn has_turns(&self) -> bool {
        self.turns.has_work(self.env.now)
    }

    /// Whether jobs have come back.
    pub fn has_completions(&self) -> bool {
        self.fx.jobs.has_completions()
    }

    /// Posts the batches of this iteration. When too much waits for the directory, everybody is to wait as well.
    pub fn dispatch(&mut self) -> Dispatch {
        let shared = self.env.shared.clone();
        let metrics = &shared.metrics[self.env.worker];
        let held = self.holds_too_much();
        if held {
            metrics.held_stalls.add(1);
        }
        let posted = self.fx.links.dispatch(metrics);
        if held { Dispatch::Choked } else { posted }
    }

    /// Times the messages that are with the kernel since the iteration began.
    pub fn time_messages(&mut self) {
        let metrics = &self.env.shared.metrics[self.env.worker];
        self.fx.out.times.count(&self.env.clock, |measured, micros, count| {
            let histogram = match measured {
                Measured::All => &metrics.message_latency,
                Measured::Prompt => &metrics.prompt_latency,
            };
            histogram.record_many(micros, count);
        });
    }

    /// Counts an iteration that began then and found so many events. `before`: the work done before it.
    pub fn count_iteration(&self, begun: Instant, events: u64, before: u64) {
        self.count_turns();
        let metrics = self.env.metrics();
        let work = self.fx.work.spent() - before;
        metrics.work.add(work);
        metrics.work_longest.raise(work);
        let busy = self.env.clock.instant().saturating_duration_since(begun);
        let micros = u64::try_from(busy.as_micros()).unwrap_or(u64::MAX);
        metrics.loop_iterations.add(1);
        metrics.loop_busy.add(micros);
        metrics.loop_longest.raise(micros);
        metrics.loop_latency.record(micros);
        metrics.loop_wakeup.record(events);
    }
}
