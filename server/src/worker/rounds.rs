//! What the worker's loop needs of the core beside events: encryption, letters, completed jobs, counting.

use crate::runtime::driver::ConnId;
use crate::session::Holds;
use crate::worker::core::Core;

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
                self.home.out.recycle(plain);
                wire
            }
            None if wire.is_empty() => plain,
            None => {
                wire.extend_from_slice(&plain);
                wire
            }
        };
        self.home.metrics().bytes_out.add(bytes.len() as u64);
        bytes
    }

    /// Reads the letters of other workers.
    pub fn read_mail(&mut self) {
        if self.holds_too_much() {
            return;
        }
        for (from, mut parcel) in self.home.post.collect() {
            parcel.open(|letter| self.read_letter(letter));
            self.home.post.give_back(from, parcel);
        }
    }

    /// Goes on with jobs that have come back.
    pub fn take_completions(&mut self, max: usize) {
        for _ in 0..max {
            let Some(done) = self.home.jobs.take() else { break };
            self.completed(done);
        }
        self.lift_written();
    }

    /// Goes on with connections whose stanzas waited for writes that have come back.
    fn lift_written(&mut self) {
        for conn in self.home.writes.take_free() {
            self.lift(conn, Holds::WRITE);
        }
    }

    /// Whether input waits for its turn.
    pub fn has_turns(&self) -> bool {
        self.turns.has_work()
    }

    /// Whether jobs have come back.
    pub fn has_completions(&self) -> bool {
        self.home.jobs.has_completions()
    }

    /// Posts the parcels of this iteration; `true` when a mailbox was full or too much waits for the directory.
    pub fn dispatch(&mut self) -> bool {
        let shared = self.home.shared.clone();
        let metrics = &shared.metrics[self.home.worker];
        let held = self.holds_too_much();
        if held {
            metrics.held_stalls.add(1);
        }
        self.home.post.dispatch(metrics) || held
    }

    /// Times the messages that an iteration has handed to the kernel: it began at `begun`, with `before` messages out.
    pub fn time_messages(&self, begun: std::time::Instant, before: u64) {
        let metrics = self.home.metrics();
        let messages = metrics.messages_out.get().wrapping_sub(before);
        if messages > 0 {
            let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            metrics.message_latency.record_many(micros, messages);
        }
    }

    /// Counts an iteration that found so many events.
    pub fn count_iteration(&self, busy: std::time::Duration, events: u64) {
        let metrics = self.home.metrics();
        let micros = u64::try_from(busy.as_micros()).unwrap_or(u64::MAX);
        metrics.loop_iterations.add(1);
        metrics.loop_busy.add(micros);
        metrics.loop_longest.raise(micros);
        metrics.loop_latency.record(micros);
        metrics.loop_wakeup.record(events);
    }
}
