//! The log of one worker: its segments, its index, and appending.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::directory::UserId;

use super::error::{AppendError, LogError};
use super::index::{Index, Slot};
use super::layout::Lock;
use super::maintain::Upkeep;
use super::message::{Appended, Backlog, Flags, Message, Position, Sequence};
use super::metrics::Metrics;
use super::options::{Durability, Options};
use super::record::{
    HEAD_BYTES, Kind, MESSAGE_HEAD_BYTES, Place, Seed, encode, encode_message, first_to_user, message_bytes,
};
use super::segment::{HEADER_BYTES, Header, Segment, find};
use super::shared::Shared;

/// A part of each segment in which messages are not put while there is no next segment: so that what is trimmed on a
/// full disk is remembered.
const RESERVE_PART: u64 = 512;

/// Segments beyond the limit of the log that trimming and compaction may use.
const SEGMENTS_BEYOND: u64 = 2;

/// Which log it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    /// Random.
    pub(super) log_id: u64,
    /// Which of the logs.
    pub(super) shard: u32,
    /// How many there are.
    pub(super) shards: u32,
}

impl Identity {
    pub(super) fn seed(&self) -> Seed {
        Seed::new(self.log_id)
    }
}

/// For what room is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    /// A new message: bound by the log's limit.
    Message,
    /// What makes the log smaller in the end.
    Upkeep,
}

/// The log of one worker. Belongs to that worker's thread.
pub struct Log {
    pub(super) identity: Identity,
    pub(super) seed: Seed,
    pub(super) options: Options,
    /// By base, the one that is written to last. Never empty.
    pub(super) segments: VecDeque<Segment>,
    /// Where the next record goes, in the last segment.
    pub(super) offset: u64,
    /// Number of the next message.
    pub(super) next_sequence: u64,
    pub(super) index: Index,
    pub(super) messages_appended: u64,
    pub(super) upkeep: Upkeep,
    pub(super) shared: Arc<Shared>,
    pub(super) lock: Arc<Lock>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("identity", &self.identity)
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Which of the logs it is.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.identity.shard as usize
    }

    /// Its identity: another number of logs makes other logs, in which messages have other numbers.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.identity.log_id
    }

    /// The numbers of the messages that wait for a user, in order. Does not touch the disk.
    pub fn waiting(&self, user: UserId) -> impl Iterator<Item = Sequence> + '_ {
        self.index.slots_from(user, 0).map(|slot| Sequence(slot.sequence))
    }

    /// The lock of the folder, for a process that is about to become another program: it is held as long as a
    /// descriptor of it is open.
    #[must_use]
    pub fn lock_descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.lock.descriptor()
    }

    /// Its counters, which other threads may read.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Appends a message. It can be delivered at once; it is settled (the sender may be told) once
    /// [`Log::committed`] has reached [`Appended::position`]. Call [`Log::request_commit`] after the last append of a
    /// round of the event loop.
    ///
    /// Costs a look into the index, a copy and a checksum. Only when a segment is full is there a lock and a file.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing was appended then.
    pub fn append(&mut self, message: &Message<'_>) -> Result<Appended, AppendError> {
        if self.shared.has_failed() {
            return Err(AppendError::Failed);
        }
        if message.payload.len() > self.options.payload_bytes_max {
            return Err(AppendError::TooLarge);
        }
        let bytes = message_bytes(message.payload.len());
        let (waiting, waiting_bytes, previous) = self.index.load(message.user);
        if waiting >= self.options.user_messages_max || waiting_bytes + bytes > self.options.user_bytes_max {
            return Err(AppendError::UserQuota);
        }
        self.make_room(bytes, Purpose::Message)?;
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.write_message(message, sequence, previous);
        self.messages_appended += 1;
        Ok(Appended { sequence: Sequence(sequence), position: Position(self.end()) })
    }

    /// Asks the [`super::Syncer`] for a commit of all that was appended. At most one system call, none when the syncer
    /// is at work already.
    pub fn request_commit(&self) {
        self.shared.request(self.end(), self.messages_appended);
    }

    /// What was appended before this position is settled: it is as durable as [`Options::durability`] says. A record
    /// on the boundary ([`Appended::position`] equal to it) is.
    #[must_use]
    pub fn committed(&self) -> Position {
        Position(self.shared.committed())
    }

    /// End of the last record.
    #[must_use]
    pub fn appended(&self) -> Position {
        Position(self.end())
    }

    /// Why the log takes nothing any more: a commit has failed. What was not committed by then is not settled and
    /// will never be; [`Log::reopen`] is the way out.
    #[must_use]
    pub fn failed(&self) -> Option<LogError> {
        self.shared.failure()
    }

    /// Why there is no next segment: while this lasts, appends end in [`AppendError::Full`] as soon as the present
    /// one is full. Tried again each second.
    #[must_use]
    pub fn no_room(&self) -> Option<LogError> {
        self.shared.spare_failure()
    }

    /// Commits on this thread, without the [`super::Syncer`]: for simulations and tools.
    ///
    /// # Errors
    /// The disk refused; the log has failed then.
    pub fn commit_now(&self) -> Result<(), LogError> {
        self.request_commit();
        self.shared.commit();
        self.failed().map_or(Ok(()), Err)
    }

    /// Does on this thread what the [`super::Syncer`] does with files: the spare segment, deletions, checkpoints.
    pub fn keep_files_now(&self) {
        self.shared.keep_files();
    }

    /// How much waits for a user; `None` for nothing. Does not touch the disk.
    #[must_use]
    pub fn backlog(&self, user: UserId) -> Option<Backlog> {
        self.index.backlog(user)
    }

    /// Bytes of memory that the index of what waits for a user takes. Does not touch the disk.
    #[must_use]
    pub fn index_bytes_of(&self, user: UserId) -> usize {
        self.index.memory_bytes_of(user)
    }

    /// Users for whom something waits, in no order.
    pub fn users(&self) -> impl ExactSizeIterator<Item = UserId> + '_ {
        self.index.users()
    }

    /// The segment that is written to.
    fn head(&self) -> &Segment {
        &self.segments[self.segments.len() - 1]
    }

    pub(super) fn end(&self) -> u64 {
        self.head().base + self.offset
    }

    fn place(&self) -> Place {
        Place { position: self.end(), committed: self.shared.committed() }
    }

    fn write(&mut self, parts: [&[u8]; 2], bytes: u64) {
        let mut offset = self.offset as usize;
        if let Some(head) = self.segments.back_mut() {
            for part in parts {
                head.map.write(offset, part);
                offset += part.len();
            }
        }
        self.offset += bytes;
        if self.options.durability == Durability::Process {
            self.shared.publish(self.end());
        }
    }

    /// Writes a record without a body. There is room.
    pub(super) fn write_note(&mut self, kind: Kind, user: UserId, sequence: u64) {
        let record = encode(self.seed, self.place(), kind, user, sequence);
        self.write([&record, &[]], HEAD_BYTES as u64);
    }

    /// Writes a mark. There is room. `kept`: the base of the first segment that is to be kept.
    pub(super) fn write_mark(&mut self, kept: u64) {
        self.write_note(Kind::Mark, first_to_user(kept), self.next_sequence);
    }

    /// Base of the first segment.
    pub(super) fn first(&self) -> u64 {
        self.segments[0].base
    }

    /// Writes a message, new or moved, and notes where it lies. There is room.
    pub(super) fn write_message(&mut self, message: &Message<'_>, sequence: u64, previous: u64) {
        let place = self.place();
        let head = encode_message(self.seed, place, message, sequence, previous);
        let bytes = message_bytes(message.payload.len());
        self.write([&head, message.payload], bytes);
        self.note_message(message.user, message.time_ms, message.flags, sequence, place.position, bytes);
    }

    /// Notes in the index and in its segment that a message lies somewhere.
    pub(super) fn note_message(
        &mut self,
        user: UserId,
        time_ms: u64,
        flags: Flags,
        sequence: u64,
        position: u64,
        bytes: u64,
    ) {
        let slot = Slot { sequence, position, words: (bytes / 8) as u32 };
        let old = self.index.put(user, slot);
        if let Some(old) = old {
            self.forget(old);
        }
        let at = find(&self.segments, position);
        if let Some(segment) = at.and_then(|at| self.segments.get_mut(at)) {
            segment.add(bytes);
            if !flags.has(Flags::NO_EXPIRY) {
                segment.time_ms_min = segment.time_ms_min.min(time_ms);
            }
        }
    }

    /// Notes in its segment that a message no longer waits there.
    pub(super) fn forget(&mut self, slot: Slot) {
        let at = find(&self.segments, slot.position);
        if let Some(segment) = at.and_then(|at| self.segments.get_mut(at)) {
            segment.take(slot.bytes());
        }
    }

    /// Bytes of all segments in use.
    pub(super) fn total_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Sees to it that a record fits into the last segment.
    pub(super) fn make_room(&mut self, bytes: u64, purpose: Purpose) -> Result<(), AppendError> {
        let reserve = if purpose == Purpose::Message { self.head().bytes / RESERVE_PART } else { 0 };
        if self.fits(bytes + reserve) { Ok(()) } else { self.roll(purpose) }
    }

    /// Whether so much fits into the last segment, and after it the mark that comes before a deletion, and a seal: what
    /// is deleted on a full disk is what makes room again.
    pub(super) fn fits(&self, bytes: u64) -> bool {
        self.fits_last(bytes + HEAD_BYTES as u64)
    }

    /// Whether so much fits into the last segment, and a seal after it.
    pub(super) fn fits_last(&self, bytes: u64) -> bool {
        self.offset + bytes + HEAD_BYTES as u64 <= self.head().bytes
    }

    /// What the next segment is to be.
    pub(super) fn next_header(&self) -> Header {
        Header {
            shard: self.identity.shard,
            shards: self.identity.shards,
            log_id: self.identity.log_id,
            base: self.head().end(),
            bytes: self.options.segment_bytes,
            sequence: self.next_sequence,
        }
    }

    /// Goes on to the next segment.
    fn roll(&mut self, purpose: Purpose) -> Result<(), AppendError> {
        let header = self.next_header();
        let beyond = if purpose == Purpose::Message { 0 } else { SEGMENTS_BEYOND * header.bytes };
        if self.total_bytes() + header.bytes > self.options.log_bytes_max + beyond {
            return Err(AppendError::LogQuota);
        }
        let spare = self.shared.take_spare(header).ok_or(AppendError::Full)?;
        debug_assert_eq!(spare.header.base, header.base);
        // There is always room left for a seal.
        self.write_note(Kind::Seal, UserId::new(0), self.next_sequence);
        let segment = Segment::new(spare.header.base, spare.header.bytes, &spare.path, spare.map);
        self.shared.will_write(segment.base, segment.end(), &segment.path, segment.map.flusher());
        self.segments.push_back(segment);
        self.offset = HEADER_BYTES as u64;
        self.write_mark(self.first());
        self.shared.want_spare(self.next_header());
        Ok(())
    }
}

// What a segment begins and ends with leaves room for the largest message, a quarter of the smallest segment.
const _: () = assert!(
    (HEADER_BYTES + 2 * HEAD_BYTES + MESSAGE_HEAD_BYTES) as u64 * RESERVE_PART
        < super::options::SEGMENT_BYTES_MIN * 256
);
