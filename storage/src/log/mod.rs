//! A worker's log: its journal, and what reads it.
//!
//! ```text
//!  worker ── append, trim ──▶ Log ──▶ journal ──▶ segments ◀── msync ── Syncer ── committed ──▶ worker
//!     ▲                        │         │ each record
//!     └── records, in place ◀──┴── queue ◀──▶ second reader: actor → where its messages lie
//! ```
//!
//! Each worker has one log. Before a message is delivered it is appended to the log of its recipient's home; its sender is
//! told that it was taken once it is committed; the recipient's acknowledgement trims it. Anything that is neither trimmed nor
//! expired waits, over any crash, and is read from the map when the recipient is there.
//!
//! The journal ([`crate::journal`]) writes and keeps records; the queue ([`crate::queue`]) knows which of them wait; a
//! second reader can follow the same records for a purpose of its own. This module puts them together, and is what the
//! rest of the program uses.
//!
//! | module | what |
//! |---|---|
//! | here | what a worker does with its log |
//! | `opening`, `reshard` | opening the logs of all workers; another number of them |
//! | `gathered` | the log in which texts of archives lie together |
//! | `orphans` | whose messages they are; those of nobody |
//! | `inspect` | verify, stats, dump |
//!
//! A log's states: it takes messages; it has no room ([`AppendError::Full`], [`AppendError::LogQuota`]: reading,
//! trimming and compaction go on, and appending does once there is room); it has failed ([`AppendError::Failed`]: a
//! commit did not reach the disk, and what the system then keeps in memory cannot be trusted to reach it later. Nothing is
//! taken or committed until [`Log::reopen`]; reading goes on).

mod gathered;
mod inspect;
mod opening;
mod orphans;
mod reshard;
#[cfg(test)]
mod tests;

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::actor::ActorId;
use crate::archive;
use crate::journal::format::record::{Kind, REFERENCE_BYTES, message_bytes};
use crate::journal::live::shared::Shared;
use crate::journal::{Entry, Pair, Reader};
use crate::queue::Queue;

pub use crate::journal::Journal;
pub use crate::journal::error::{AppendError, Damage, LogError};
pub use crate::journal::format::layout::Owner;
pub use crate::journal::format::message::{
    ActorCopy, Appended, Backlog, Body, Flags, Message, Origin, PeerHash, Position, Record, Sequence, Trimmed,
};
pub use crate::journal::inspect::Tail;
pub use crate::journal::inspect::backup::{BackedUp, backup};
pub(crate) use crate::journal::inspect::backup::{CopiedSegment, write as write_backup};
pub(crate) use crate::journal::inspect::cut::{Cut, Earlier, Ends, Stamp};
pub use crate::journal::live::maintain::Maintained;
pub use crate::journal::live::syncer::Syncer;
pub use crate::journal::metrics::{CLASSES, Histogram, Metrics};
pub use crate::journal::options::{Durability, Options, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
pub use crate::queue::{INDEX_MESSAGE_BYTES_MAX, Pending};
pub(crate) use gathered::{GatheredLog, make_gathered};
pub use gathered::{GatheredStats, gathered_journal};
pub use inspect::{Dumped, LogStats, Verified, dump, ends, stats, verify};
pub(crate) use opening::random_id;
pub use opening::{Home, LogsAt, Opened, Progress, Report, StreamSeen};
pub(crate) use orphans::retire_sealed_in;
pub use orphans::{
    Orphans, belong_to, discard, journal_folders, journals_by_age, owner, retire_sealed, sealed_journals,
    shards,
};

/// How much the files of a log take, for other threads than its own.
#[derive(Clone)]
pub struct LogSize(Arc<Shared>);

impl std::fmt::Debug for LogSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogSize").field(&self.bytes()).finish()
    }
}

impl LogSize {
    /// Bytes, as of the last [`Log::maintain`].
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.metrics.segment_bytes.load(Ordering::Relaxed)
    }

    /// Whether there is no next segment because the disk is full. It may have failed for another reason ([`Log::no_room`]), which
    /// room on the disk would not take away: a want of file descriptors, say.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.0.spare_failure().is_some_and(|error| error.is_full())
    }
}

/// The log of one worker. Belongs to that worker's thread. `S` reads the journal beside the queue.
#[derive(Debug)]
pub struct Log<S = ()> {
    pub(crate) journal: Journal,
    pub(crate) readers: Pair<Queue, S>,
}

impl<S: Reader> Log<S> {
    /// Which of the logs it is.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.journal.shard()
    }

    /// Its identity: another number of logs makes other ones.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.journal.id()
    }

    /// The lock of the folder, for a process that is about to become another program: it is held as long as a
    /// descriptor of it is open.
    #[must_use]
    pub fn lock_descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.journal.lock_descriptor()
    }

    /// Its counters, which other threads may read.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        self.journal.metrics()
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What waits.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.readers.0
    }

    /// What reads the journal beside the queue.
    #[must_use]
    pub fn second(&self) -> &S {
        &self.readers.1
    }

    /// What reads the journal beside the queue, to change what it holds.
    pub fn second_mut(&mut self) -> &mut S {
        &mut self.readers.1
    }

    // --- Appending.

    /// Appends a message. It can be delivered at once; it is durable (the sender may be told) once
    /// [`Log::committed`] has reached [`Appended::position`]. Call [`Log::request_commit`] after the last append of a
    /// round of the event loop.
    ///
    /// Costs a look into the index, a copy and a checksum. Only when a segment is full is there a lock and a file.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing was appended then.
    pub fn append(&mut self, message: &Message<'_>) -> Result<Appended, AppendError> {
        debug_assert!(message.flags.is_kept(), "it waits for somebody, or belongs to an archive");
        let bytes = message_bytes(message.payload.len());
        let previous = self.admit(message.actor, message.flags, bytes)?;
        let entry = self.journal.append(message, previous)?;
        self.readers.record(&entry);
        Ok(Appended { sequence: entry.sequence, position: self.journal.appended() })
    }

    /// Appends a text once for several actors of this worker, none of them twice. `results` gets one for each, in their
    /// order; a copy that was refused to one may have been appended for others. All share one id. A copy that neither waits
    /// nor belongs to an archive ([`Flags::is_kept`]) is not written: its id is [`Sequence::ZERO`].
    ///
    /// Where at most one copy waits, it is a message with the text, and each of the others has a reference of 48 bytes to
    /// it. That is a one-to-one message with its sender's archived copy: it costs the queue what it costs without.
    /// Where several wait, the text is a body, and each has a reference, which waits, is read and is trimmed like a
    /// message of its own; the text counts against the limit of no actor.
    ///
    /// Copies that belong to archives lie in one segment with their text: more than fit into a quarter of a segment are
    /// written as messages of their own, each with an id of its own.
    ///
    /// For one actor this is [`Log::append`].
    pub fn append_for(
        &mut self,
        copies: &[ActorCopy],
        body: &Body<'_>,
        results: &mut Vec<Result<Appended, AppendError>>,
    ) {
        results.clear();
        let nothing = Appended { sequence: Sequence::ZERO, position: self.journal.appended() };
        results.resize(copies.len(), Ok(nothing));
        let is_archived = copies.iter().any(|copy| copy.flags.has(Flags::ARCHIVED));
        if copies.len() == 1 || is_archived && !self.journal.keeps_together(copies.len()) {
            for (copy, result) in copies.iter().zip(results).filter(|(copy, _)| copy.flags.is_kept()) {
                *result = self.append(&body.of(*copy));
            }
        } else if copies.iter().filter(|copy| copy.flags.is_queued()).count() > 1 {
            self.append_body(copies, body, results);
        } else {
            self.append_shared(copies, body, results);
        }
    }

    /// As [`Log::append_for`], with the text in a body of its own though only one copy waits, so that others may refer to it later
    /// ([`Log::append_references`]).
    pub fn append_for_others(
        &mut self,
        copies: &[ActorCopy],
        body: &Body<'_>,
        results: &mut Vec<Result<Appended, AppendError>>,
    ) {
        results.clear();
        let nothing = Appended { sequence: Sequence::ZERO, position: self.journal.appended() };
        results.resize(copies.len(), Ok(nothing));
        self.append_body(copies, body, results);
    }

    /// A body, and a reference for each copy.
    fn append_body(
        &mut self,
        copies: &[ActorCopy],
        body: &Body<'_>,
        results: &mut [Result<Appended, AppendError>],
    ) {
        let Some(first) = copies.iter().find(|copy| copy.flags.is_queued()) else { return };
        let flags = first.flags.without(Flags::ARCHIVED);
        let text = body.of(ActorCopy { flags, ..*first });
        let entry = self.journal.append_text(Kind::Body, &text, 0, copies.len());
        let sequence = match entry {
            Ok(entry) => {
                self.readers.record(&entry);
                entry.sequence
            }
            Err(error) => return results.fill(Err(error)),
        };
        for (copy, result) in copies.iter().zip(results).filter(|(copy, _)| copy.flags.is_kept()) {
            *result = self.append_reference(*copy, sequence, body);
        }
        self.readers.0.drop_unreferenced(sequence);
    }

    /// Has more actors of this worker refer to a text that was appended before for several that wait ([`Log::append_for`]), or for
    /// others ([`Log::append_for_others`]), under its id.
    /// One result for each, in their order. `false`: there is no such text, or one of them has it.
    pub fn append_references(
        &mut self,
        copies: &[ActorCopy],
        text: Sequence,
        body: &Body<'_>,
        results: &mut Vec<Result<Appended, AppendError>>,
    ) -> bool {
        results.clear();
        let queue = &self.readers.0;
        if !queue.has_body(text) || copies.iter().any(|copy| queue.has(copy.actor, text)) {
            return false;
        }
        for copy in copies {
            let result = self.append_reference(*copy, text, body);
            results.push(result);
        }
        true
    }

    /// A message for the copy that waits, if one does, otherwise for the first one; references for the others.
    fn append_shared(
        &mut self,
        copies: &[ActorCopy],
        body: &Body<'_>,
        results: &mut [Result<Appended, AppendError>],
    ) {
        let waits = copies.iter().position(|copy| copy.flags.is_queued());
        let others = (0..copies.len()).filter(|at| Some(*at) != waits);
        let mut text = None;
        for at in waits.into_iter().chain(others) {
            let copy = copies[at];
            if !copy.flags.is_kept() {
                continue;
            }
            results[at] = match text {
                Some(sequence) => self.append_reference(copy, sequence, body),
                None => self.append_text(&body.of(copy), copies.len()),
            };
            text = text.or(results[at].ok().map(|appended| appended.sequence));
        }
    }

    /// A message to whose text so many references can refer.
    fn append_text(&mut self, message: &Message<'_>, references: usize) -> Result<Appended, AppendError> {
        let bytes = message_bytes(message.payload.len());
        let previous = self.admit(message.actor, message.flags, bytes)?;
        let entry = self.journal.append_text(Kind::Message, message, previous, references)?;
        self.readers.record(&entry);
        Ok(Appended { sequence: entry.sequence, position: self.journal.appended() })
    }

    fn append_reference(
        &mut self,
        copy: ActorCopy,
        sequence: Sequence,
        body: &Body<'_>,
    ) -> Result<Appended, AppendError> {
        debug_assert!(!self.readers.0.has(copy.actor, sequence), "no actor twice");
        self.admit(copy.actor, copy.flags, REFERENCE_BYTES as u64)?;
        let entry = self.journal.append_reference(copy, sequence, body.time_ms)?;
        self.readers.record(&entry);
        Ok(Appended { sequence, position: self.journal.appended() })
    }

    /// Whether so many bytes may wait for an actor besides what does; if so, where its newest message lies. What waits for
    /// nobody counts against nobody.
    fn admit(&self, actor: ActorId, flags: Flags, bytes: u64) -> Result<u64, AppendError> {
        if flags.has(Flags::ARCHIVED) && !self.readers.has_room() {
            return Err(AppendError::Full);
        }
        if !flags.is_queued() {
            return Ok(0);
        }
        let options = &self.journal.options;
        let (waiting, waiting_bytes, previous) = self.readers.0.load(actor);
        if waiting >= options.user_messages_max || waiting_bytes + bytes > options.user_bytes_max {
            return Err(AppendError::UserQuota);
        }
        Ok(previous)
    }

    /// Asks the [`Syncer`] for a commit of all that was appended. At most one system call, none when the syncer
    /// is at work already.
    pub fn request_commit(&self) {
        self.journal.request_commit();
    }

    /// What was appended before this position is as durable as [`Options::durability`] says. A record on the boundary
    /// ([`Appended::position`] equal to it) is.
    #[must_use]
    pub fn committed(&self) -> Position {
        self.journal.committed()
    }

    /// End of the last record.
    #[must_use]
    pub fn appended(&self) -> Position {
        self.journal.appended()
    }

    /// Why the log takes nothing any more: a commit has failed. Anything that was not committed by then is not durable and
    /// will never be; [`Log::reopen`] is the way out.
    #[must_use]
    pub fn failed(&self) -> Option<LogError> {
        self.journal.failed()
    }

    /// Why there is no next segment: while this lasts, appends end in [`AppendError::Full`] as soon as the present
    /// one is full. Tried again each second.
    #[must_use]
    pub fn no_room(&self) -> Option<LogError> {
        self.journal.no_room()
    }

    /// Commits on this thread, without the [`Syncer`]: for simulations and tools.
    ///
    /// # Errors
    /// The disk refused; the log has failed then.
    pub fn commit_now(&self) -> Result<(), LogError> {
        self.journal.commit_now()
    }

    // --- What waits.

    /// No id that was given is above this one, and each that will be is.
    #[must_use]
    pub fn newest_id(&self) -> Sequence {
        Sequence(self.journal.ids.next().saturating_sub(1))
    }

    /// How much waits for an actor; `None` for nothing. Does not touch the disk.
    #[must_use]
    pub fn backlog(&self, actor: ActorId) -> Option<Backlog> {
        self.readers.0.backlog(actor)
    }

    /// Messages that wait for an actor, and bytes of their records; zeros for none. As [`Log::backlog`] tells, and cheaper.
    #[must_use]
    pub fn waiting_load(&self, actor: ActorId) -> (u64, u64) {
        let (messages, bytes, _) = self.readers.0.load(actor);
        (messages, bytes)
    }

    /// The ids of the messages that wait for an actor, in order. Does not touch the disk.
    pub fn waiting(&self, actor: ActorId) -> impl Iterator<Item = Sequence> + '_ {
        self.readers.0.waiting(actor)
    }

    /// Where the newest messages lie that wait for an actor, so many at most, the oldest of them first, for threads that read
    /// them. Walks over all that wait; does not touch the disk.
    #[must_use]
    pub fn newest_waiting(&self, actor: ActorId, max: usize) -> Vec<archive::Slot> {
        self.readers.0.newest(actor, max)
    }

    /// Whether this message waits for an actor. Does not touch the disk.
    #[must_use]
    pub fn is_waiting(&self, actor: ActorId, sequence: Sequence) -> bool {
        self.readers.0.has(actor, sequence)
    }

    /// Actors for whom something waits, in no order.
    pub fn actors(&self) -> impl ExactSizeIterator<Item = ActorId> + '_ {
        self.readers.0.actors()
    }

    /// All that waits for an actor, oldest first, straight from the memory map.
    #[must_use]
    pub fn pending(&self, actor: ActorId) -> Pending<'_> {
        self.read(actor, Sequence::ZERO, u64::MAX)
    }

    /// What waits for an actor after `after`, oldest first: as many messages as begin within `payload_bytes_max` bytes
    /// of payload, so at least one if there is one. To go on, call it again with the last id it gave.
    #[must_use]
    pub fn read(&self, actor: ActorId, after: Sequence, payload_bytes_max: u64) -> Pending<'_> {
        self.readers.0.read(&self.journal, actor, after, payload_bytes_max)
    }

    /// Bytes of memory that the index of what waits for an actor takes. Does not touch the disk.
    #[must_use]
    pub fn index_bytes_of(&self, actor: ActorId) -> usize {
        self.readers.0.memory_bytes_of(actor)
    }

    /// Bytes of memory that the index takes, the allocator's own aside. Looks at every actor.
    #[must_use]
    pub fn index_bytes(&self) -> usize {
        self.readers.0.memory_bytes()
    }

    /// The recipient has acknowledged one message. Nothing happens when it does not wait (any more).
    pub fn trim(&mut self, actor: ActorId, sequence: Sequence) -> Trimmed {
        if !self.readers.0.remove(actor, sequence) {
            return Trimmed { messages: 0, is_recorded: true };
        }
        Trimmed { messages: 1, is_recorded: self.note(Kind::Trim, actor, sequence) }
    }

    /// The recipient has acknowledged all messages up to and with `sequence`.
    pub fn trim_up_to(&mut self, actor: ActorId, sequence: Sequence) -> Trimmed {
        self.drop_up_to(Kind::TrimUpTo, actor, sequence)
    }

    /// The actor is gone: drops all that waits for it.
    pub fn purge(&mut self, actor: ActorId) -> Trimmed {
        self.drop_up_to(Kind::Purge, actor, Sequence::MAX)
    }

    fn drop_up_to(&mut self, kind: Kind, actor: ActorId, sequence: Sequence) -> Trimmed {
        let messages = self.readers.0.remove_up_to(actor, sequence);
        let needs_no_record = messages == 0 && !(kind == Kind::Purge && self.readers.1.wants_purges());
        Trimmed { messages, is_recorded: needs_no_record || self.note(kind, actor, sequence) }
    }

    /// Writes down what the queue has done. It need not be told; the second reader is.
    fn note(&mut self, kind: Kind, actor: ActorId, sequence: Sequence) -> bool {
        match self.journal.note(kind, actor, sequence) {
            Some(entry) => {
                self.readers.1.record(&entry);
                true
            }
            None => false,
        }
    }

    /// Drops messages that were received before `before_ms` (save those with [`Flags::NO_EXPIRY`]) and gives each to
    /// `expired` first. Looks at `records_max` records at most, and goes on from there the next time. Returns the
    /// number dropped.
    pub fn expire(&mut self, before_ms: u64, records_max: usize, expired: &mut dyn FnMut(Record<'_>)) -> u64 {
        let (mut dropped, mut left) = (0, records_max);
        while let Some((actor, sequence)) =
            self.readers.0.next_expired(&self.journal, before_ms, &mut left, expired)
        {
            self.trim(actor, sequence);
            dropped += 1;
        }
        dropped
    }

    /// Bytes of the segments in use, and how many may be ([`Options::log_bytes_max`]).
    #[must_use]
    pub fn room(&self) -> (u64, u64) {
        (self.journal.total_bytes(), self.journal.options.log_bytes_max)
    }

    /// What tells other threads how much its files take.
    #[must_use]
    pub fn size(&self) -> LogSize {
        LogSize(self.journal.shared.clone())
    }

    // --- Upkeep.

    /// Does a bounded piece of what is due: fetches a spare segment, hands over dead ones, compacts, makes a checkpoint,
    /// lets ids keep to the clock, tells readers what is durable. Call it about ten times a second, with the same clock
    /// as [`Message::time_ms`].
    pub fn maintain(&mut self, now_ms: u64) -> Maintained {
        let done = self.journal.maintain(&mut self.readers, now_ms);
        self.readers.0.count(self.journal.metrics());
        done
    }

    /// Goes on to the next segment, so that everything that was written up to now lies in segments that are written to no more.
    /// Returns where it begins; `None`: there is no room for one.
    pub fn seal_segment(&mut self) -> Option<Position> {
        self.journal.seal_segment()
    }

    /// Has the texts of some records of a segment, which is written to no more, replaced by zeros on the disk: on the thread
    /// that keeps files. Nothing may wait of them. `false`: not now, or not of this segment.
    pub fn erase_texts(&mut self, segment: Position, positions: Vec<Position>) -> bool {
        self.journal.erase_texts(segment, positions)
    }

    /// What came of [`Log::erase_texts`], once: how many texts are gone from the disk.
    ///
    /// # Errors
    /// The segment could not be written anew; it is as it was.
    pub fn texts_erased(&mut self) -> Option<Result<usize, LogError>> {
        self.journal.texts_erased()
    }

    /// Does on this thread what the [`Syncer`] does with files: the spare segment, deletions, checkpoints.
    pub fn keep_files_now(&self) {
        self.journal.shared.keep_files();
    }

    /// Commits, and writes a checkpoint so that the next opening is fast. The [`Syncer`] may have ended already.
    ///
    /// # Errors
    /// The disk refused.
    pub fn close(mut self) -> Result<(), LogError> {
        self.journal.close(&mut self.readers)
    }

    /// As [`Log::close`], but the log goes on: for a process that is about to become another program.
    ///
    /// # Errors
    /// The disk refused.
    pub fn checkpoint(&self) -> Result<(), LogError> {
        self.journal.checkpoint(&self.readers)
    }

    /// A record at a position, as readers were told of it.
    ///
    /// # Errors
    /// Its segment is gone, or the disk gives back something else.
    pub fn entry_at(&self, position: Position, bytes: u64) -> Result<Entry<'_>, Damage> {
        self.journal.entry_at(position, bytes)
    }
}

impl Syncer {
    /// Starts the threads for all logs. `wake` is called, on a thread of the syncer, with the shard whose
    /// [`Log::committed`] has moved or which has failed; it must not block. With [`Durability::Process`] it is never
    /// called: [`Log::committed`] moves with each append.
    ///
    /// # Errors
    /// A thread cannot be started, or a log has a syncer already.
    pub fn start<S>(logs: &[Log<S>], wake: impl Fn(usize) + Send + 'static) -> Result<Self, LogError> {
        Self::start_for(logs.iter().map(|log| &log.journal), wake)
    }
}
