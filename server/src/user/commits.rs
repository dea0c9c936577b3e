//! A worker's log, and everything that waits for it.
//!
//! ```text
//! message ─► append ─► delivered at once ─► client has it ─► trim
//!               │
//!               └─► committed ─► its sender may be told that it is durable
//! ```

mod saved;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::archive::{Archive, Tallies};
use whimbrel_storage::log::{
    ActorCopy, AppendError, Appended, Backlog, Body, Flags, LogError, Origin, Position, Sequence,
};

use crate::clock::Clock;
use crate::env::Env;
use crate::limits::Limits;
use crate::metrics::WorkerMetrics;
use crate::stanza::PendingAck;
use crate::user::actors::{Actors, Effects};
use crate::user::quota::{Request, Sender, ShareRefusal, Shares};
use crate::user::tables::ResourceKey;
pub use saved::{LogRecord, Logs};

/// Opening a failed log anew reads all of it and holds up its worker. Between two attempts the worker works so many
/// times as long.
const REOPEN_PAUSE: u32 = 20;

/// A message that was written, in this iteration, to a client without stream management. It is delivered once its
/// bytes are with the kernel.
#[derive(Copy, Clone, Debug)]
pub struct AwaitingFlush {
    /// The resource that got it.
    pub resource: ResourceKey,
    /// Its account.
    pub user: ActorId,
    /// The message.
    pub sequence: Sequence,
}

/// A round of appends that is on its way to the disk.
struct Round {
    end: Position,
    asked: Instant,
}

/// Who commits the log.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Commit {
    /// The threads of [`Syncer`](whimbrel_storage::log::Syncer).
    ByThread,
    /// The worker, when it asks for it: for the deterministic simulation.
    AtOnce,
    /// The driver of the simulation, at some time later.
    ByHand,
}

/// A spooled text of so many bytes is remembered, so that what comes next for others may refer to it.
const SPOOLED_KEPT_MAX: usize = 16 * 1024;

/// The log of a worker, with the archive that reads it.
pub type Log = whimbrel_storage::log::Log<Archive>;

/// What came of appending a message.
#[derive(Copy, Clone, Debug)]
pub struct Outcome {
    /// The recipient's copy.
    pub recipient: Result<Appended, AppendError>,
    /// The sender's, if there was to be one.
    pub sender: Option<Result<Appended, AppendError>>,
}

/// What goes on when a record is committed; with `false`, when it will never be.
pub type OnCommit = Box<dyn FnOnce(&mut Actors, &Env, &mut Effects, bool) + Send>;

/// The log and who waits for it.
pub struct CommitTracker {
    log: Log,
    /// What rows of all archives hold of the segments.
    tallies: Arc<Tallies>,
    /// What came of the last append for several, kept for its memory.
    results: Vec<Result<Appended, AppendError>>,
    /// The last text that was spooled, if it is not long.
    spooled: (Sequence, Vec<u8>),
    shares: Shares,
    commit: Commit,
    /// Senders whose messages are not committed yet, in the order of their records.
    waiting: VecDeque<(Position, PendingAck)>,
    /// What else waits for commits, in the same order.
    on_commit: VecDeque<(Position, OnCommit)>,
    rounds: VecDeque<Round>,
    /// Messages written in this iteration to clients without stream management.
    pub awaiting_flush: Vec<AwaitingFlush>,
    /// End of what a commit was asked for.
    asked: Position,
    /// When a failed log may be opened again.
    not_before: Option<Instant>,
    /// Why the log has refused a message since the operator was last told.
    pub refused: Option<AppendError>,
}

impl CommitTracker {
    /// A commits over a log that has just been opened.
    pub fn new(log: Log, tallies: Arc<Tallies>, commit: Commit) -> CommitTracker {
        let asked = log.appended();
        CommitTracker {
            log,
            tallies,
            results: Vec::new(),
            spooled: (Sequence::ZERO, Vec::new()),
            shares: Shares::default(),
            commit,
            waiting: VecDeque::new(),
            on_commit: VecDeque::new(),
            rounds: VecDeque::new(),
            awaiting_flush: Vec::new(),
            asked,
            not_before: None,
            refused: None,
        }
    }

    /// The log, for reading.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The log, for what only it has to do with.
    pub fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// What is archived of this worker's log.
    pub fn archive(&self) -> &Archive {
        self.log.second()
    }

    /// The same, to change it.
    pub fn archive_mut(&mut self) -> &mut Archive {
        self.log.second_mut()
    }

    /// What rows of all archives hold of the segments.
    pub fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    /// The log, at the end.
    pub fn into_log(self) -> Log {
        self.log
    }

    /// Messages that wait for anybody of this worker.
    pub fn count_pending(&self) -> u64 {
        self.log.actors().filter_map(|user| self.log.backlog(user)).map(|backlog| backlog.messages).sum()
    }

    /// Bytes of memory that what waits for an account takes: its index, that of its spool, and the counts of its senders.
    pub fn index_bytes(&self, user: ActorId) -> usize {
        let spool = ActorId::spool_of(user);
        self.log.index_bytes_of(user) + self.log.index_bytes_of(spool) + self.shares.bytes_of(user)
    }

    /// Appends a message for one or two users of this worker: its text is written once. For each copy that was appended, the
    /// holder of `pending_ack` will hear when it is committed.
    pub fn append(
        &mut self,
        (recipient, sender): (ActorCopy, Option<ActorCopy>),
        time_ms: u64,
        payload: &[u8],
        pending_ack: Option<PendingAck>,
        metrics: &WorkerMetrics,
    ) -> Outcome {
        let origin = pending_ack
            .map_or_else(Origin::default, |t| Origin { stream: t.stream.0, number: t.durable_up_to });
        let body = Body { time_ms, origin, payload };
        metrics.log_bytes.add(payload.len() as u64);
        let outcome = match sender {
            Some(sender) => {
                self.log.append_for(&[recipient, sender], &body, &mut self.results);
                Outcome { recipient: self.results[0], sender: Some(self.results[1]) }
            }
            None => Outcome { recipient: self.log.append(&body.of(recipient)), sender: None },
        };
        self.note_appended(recipient, outcome.recipient, pending_ack, metrics);
        if let Some((sender, appended)) = sender.zip(outcome.sender) {
            self.note_appended(sender, appended, pending_ack, metrics);
        }
        outcome
    }

    /// Appends a text once for several spools of this worker, none of them twice. Nobody waits for it to be committed. One result for each,
    /// in their order. If the text is that of the last call, as with the next of the envelopes for a large room, nothing but references
    /// is written: that was the newest of all, so ids rise in each spool. One that was for a single spool is written once more for that:
    /// as a rule there is no next envelope, and then a text of its own costs less.
    pub fn spool(
        &mut self,
        copies: &[ActorCopy],
        time_ms: u64,
        payload: &[u8],
        metrics: &WorkerMetrics,
    ) -> &[Result<Appended, AppendError>] {
        let body = Body { time_ms, origin: Origin::default(), payload };
        let is_again = self.spooled.1 == payload;
        if !is_again || !self.log.append_references(copies, self.spooled.0, &body, &mut self.results) {
            match is_again {
                true => self.log.append_for_others(copies, &body, &mut self.results),
                false => self.log.append_for(copies, &body, &mut self.results),
            }
            let is_taken = self.results.iter().any(Result::is_ok);
            metrics.log_bytes.add(if is_taken { payload.len() as u64 } else { 0 });
            metrics.spooled.add(u64::from(is_taken));
            let newest = self.results.iter().filter_map(|result| result.as_ref().ok());
            self.spooled.0 = newest.map(|appended| appended.sequence).max().unwrap_or(Sequence::ZERO);
            self.spooled.1.clear();
            if payload.len() <= SPOOLED_KEPT_MAX {
                self.spooled.1.extend_from_slice(payload);
            }
        }
        let appended = self.results.iter().filter(|result| result.is_ok()).count() as u64;
        metrics.log_appends.add(appended);
        metrics.log_pending.add(appended);
        &self.results
    }

    /// What is spooled for an actor up to this message is not needed any more. Returns how many there were.
    pub fn unspool(&mut self, env: &Env, spool: ActorId, up_to: Sequence) -> u64 {
        let messages = self.log.trim_up_to(spool, up_to).messages;
        env.metrics().log_pending.sub(messages);
        env.metrics().log_trims.add(messages);
        messages
    }

    /// The same of one message.
    pub fn unspool_one(&mut self, env: &Env, spool: ActorId, sequence: Sequence) {
        let messages = self.log.trim(spool, sequence).messages;
        env.metrics().log_pending.sub(messages);
        env.metrics().log_trims.add(messages);
    }

    /// Counts a copy that was appended, and has the holder of `pending_ack` wait for it.
    fn note_appended(
        &mut self,
        copy: ActorCopy,
        appended: Result<Appended, AppendError>,
        pending_ack: Option<PendingAck>,
        metrics: &WorkerMetrics,
    ) {
        let Ok(appended) = appended else { return };
        metrics.log_appends.add(1);
        if copy.flags.is_queued() {
            metrics.log_pending.add(1);
        }
        if copy.flags.has(Flags::ARCHIVED) {
            metrics.archive_messages.add(1);
        }
        if let Some(pending_ack) = pending_ack {
            self.waiting.push_back((appended.position, pending_ack));
        }
    }

    /// Whether a message fits its sender's share of the recipient's mailbox; see [`Shares::admit`].
    ///
    /// # Errors
    /// It does not.
    pub fn admit(
        &mut self,
        limits: &Limits,
        of: (ActorId, &Backlog),
        request: &Request<'_>,
        sender_of: impl Fn(&str) -> Sender,
    ) -> Result<(), ShareRefusal> {
        self.shares.admit(&self.log, limits, of, request, sender_of)
    }

    /// Counts a message that was admitted and appended.
    pub fn admitted(&mut self, user: ActorId, request: &Request<'_>, metrics: &WorkerMetrics) {
        self.shares.added(user, request.from, request.sender, request.payload);
        metrics.offline_counted.set(self.shares.len() as u64);
    }

    /// An account is gone, with all that waits for it.
    pub fn purge(&mut self, env: &Env, user: ActorId) {
        let metrics = env.metrics();
        self.shares.forget(user);
        metrics.offline_counted.set(self.shares.len() as u64);
        let purged = self.log.purge(user);
        metrics.log_pending.sub(purged.messages);
    }

    /// A client has a message for good.
    pub fn trim(&mut self, env: &Env, user: ActorId, sequence: Sequence) {
        let (limits, metrics) = (&env.config.limits, env.metrics());
        let counted = !self.shares.is_empty();
        if counted {
            self.shares.removing(&self.log, user, sequence);
        }
        let trimmed = self.log.trim(user, sequence);
        if counted {
            self.shares.removed(limits, user, self.log.backlog(user));
            metrics.offline_counted.set(self.shares.len() as u64);
        }
        metrics.log_pending.sub(trimmed.messages);
        metrics.log_trims.add(trimmed.messages);
    }

    /// Asks for a commit of what this iteration has appended.
    pub fn request_commit(&mut self, clock: &Clock) {
        let end = self.log.appended();
        if end > self.asked {
            self.asked = end;
            self.rounds.push_back(Round { end, asked: clock.instant() });
            match self.commit {
                Commit::ByThread | Commit::ByHand => self.log.request_commit(),
                // A failure shows in [`Log::failed`].
                Commit::AtOnce => drop(self.log.commit_now()),
            }
        }
    }

    /// Counts what has been committed by now.
    pub fn count_committed(&mut self, env: &Env) {
        let metrics = env.metrics();
        let committed = self.log.committed();
        metrics.log_waiting_high.raise(self.waiting.len() as u64);
        while let Some(round) = pop_if(&mut self.rounds, |round| round.end <= committed) {
            let took = env.clock.instant().saturating_duration_since(round.asked);
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            metrics.log_commits.add(1);
            metrics.log_commit_time.add(micros);
            metrics.log_commit_longest.raise(micros);
        }
    }

    /// The next sender whose message is committed.
    pub fn next_safe(&mut self, metrics: &WorkerMetrics) -> Option<PendingAck> {
        let committed = self.log.committed();
        let safe =
            pop_if(&mut self.waiting, |(end, _)| *end <= committed).map(|(_, pending_ack)| pending_ack);
        metrics.log_waiting.set(self.waiting.len() as u64);
        safe
    }

    /// Has something go on when all that has been appended so far is committed.
    pub fn when_committed(&mut self, go_on: OnCommit) {
        self.on_commit.push_back((self.log.appended(), go_on));
    }

    /// What goes on next, because what it waited for is committed.
    pub fn next_committed(&mut self) -> Option<OnCommit> {
        let committed = self.log.committed();
        pop_if(&mut self.on_commit, |(end, _)| *end <= committed).map(|(_, go_on)| go_on)
    }

    /// Whether somebody waits for a commit.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.on_commit.is_empty()
    }

    /// The log has failed: gives the pending acks of what will never be committed to `lost`, and returns what else waited.
    pub fn abandon(&mut self, mut lost: impl FnMut(PendingAck)) -> VecDeque<(Position, OnCommit)> {
        self.rounds.clear();
        for (_, pending_ack) in self.waiting.drain(..) {
            lost(pending_ack);
        }
        std::mem::take(&mut self.on_commit)
    }

    /// Opens the failed log anew. Returns how many messages wait.
    ///
    /// # Errors
    /// The disk does not work yet. The next attempt is to come after a time that grows with what this one took.
    pub fn reopen(&mut self, clock: &Clock) -> Result<u64, LogError> {
        let begun = clock.instant();
        match self.log.reopen() {
            Ok(report) => {
                // It may have come back shorter than it was: what is appended now is to be asked for.
                self.asked = self.log.appended();
                self.not_before = None;
                self.shares.clear();
                Ok(report.messages)
            }
            Err(error) => {
                let now = clock.instant();
                self.not_before = Some(now + now.saturating_duration_since(begun) * REOPEN_PAUSE);
                Err(error)
            }
        }
    }

    /// Whether [`CommitTracker::reopen`] has failed a moment ago.
    pub fn is_pausing(&self, clock: &Clock) -> bool {
        self.not_before.is_some_and(|time| clock.instant() < time)
    }

    /// What was awaiting_flush to a resource has not arrived, as far as anybody knows.
    pub fn forget_handed(&mut self, resource: ResourceKey) {
        self.awaiting_flush.retain(|awaiting_flush| awaiting_flush.resource != resource);
    }
}

fn pop_if<T>(queue: &mut VecDeque<T>, fits: impl Fn(&T) -> bool) -> Option<T> {
    queue.front().is_some_and(fits).then(|| queue.pop_front()).flatten()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use whimbrel_storage::archive::Settings;
    use whimbrel_storage::log::{LogsAt, Options, PeerHash};

    use super::*;

    /// A log of small segments with an archive.
    pub(crate) fn small_log(folder: &Path) -> Log {
        let options = Options { segment_bytes: 4 << 20, payload_bytes_max: 1 << 16, ..Options::default() };
        let logs = LogsAt { path: folder, options: &options, shards: 1, home: &|_| None, progress: &|_| {} };
        let archive = |journal| Archive::new(journal, Settings::default(), Arc::default());
        logs.open(None, &archive).unwrap().logs.pop().unwrap()
    }

    fn texts(metrics: &WorkerMetrics) -> u64 {
        let all = crate::metrics::totals(std::slice::from_ref(metrics));
        all.into_iter().find(|(described, _)| described.name == "sm.spooled").unwrap().1
    }

    #[test]
    fn a_text_for_many_envelopes_is_written_twice_at_most() {
        let folder = tempfile::tempdir().unwrap();
        let log = small_log(folder.path());
        let (mut commits, metrics) =
            (CommitTracker::new(log, Arc::default(), Commit::AtOnce), WorkerMetrics::default());
        let spool = |n: u64| ActorId::spool_of(ActorId::user(n));
        for (text, count) in [(&b"one"[..], 1), (b"two", 20)] {
            let before = texts(&metrics);
            for n in 1..=count {
                let copy = ActorCopy { actor: spool(n), flags: Flags::NO_EXPIRY, peer: PeerHash::NONE };
                let results = commits.spool(&[copy], 7, text, &metrics);
                assert!(matches!(results, [Ok(_)]), "{results:?}");
            }
            assert_eq!(texts(&metrics) - before, count.min(2));
        }
        for n in 1..=20 {
            let last = commits.log().pending(spool(n)).last().unwrap().unwrap();
            assert_eq!((last.payload, last.time_ms), (&b"two"[..], 7), "account {n}");
        }
    }
}
