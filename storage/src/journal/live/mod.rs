//! A journal that is written to: appending, and what the worker shares with the threads that commit and keep files.
//!
//! | module | what |
//! |---|---|
//! | here | the journal of one worker, and appending to it |
//! | `write`, `read` | records into the segment that is written to; records where they lie |
//! | `ids` | ids of messages |
//! | `maintain` | deletion, compaction, checkpoints |
//! | `erase` | segments that are written anew without some texts |
//! | `segment`, `map`, `files` | mapped segments; all that is asked of the file system |
//! | `shared`, `syncer`, `bell` | group commit; spare segments and deletions |

mod bell;
mod erase;
pub(crate) mod files;
pub(crate) mod ids;
pub(crate) mod maintain;
#[expect(unsafe_code, reason = "memory maps of segments")]
pub(crate) mod map;
mod read;
pub(crate) mod segment;
pub(crate) mod shared;
pub(crate) mod syncer;
mod write;

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::actor::ActorId;

use super::error::{AppendError, LogError};
use super::format::layout::Lock;
use super::format::message::{ActorCopy, Message, Position, Sequence};
use super::format::record::{
    HEAD_BYTES, Head, Kind, MESSAGE_HEAD_BYTES, REFERENCE_BYTES, Seed, message_bytes,
};
use super::format::segment::{HEADER_BYTES, Header};
use super::metrics::Metrics;
use super::options::Options;
use super::reader::{Entry, What};
use ids::Ids;
use maintain::Upkeep;
use segment::Segment;
use shared::Shared;

/// A part of each segment in which messages are not put while there is no next segment: so that what is trimmed on a
/// full disk is remembered.
const RESERVE_PART: u64 = 512;

/// Segments beyond the limit of the log that trimming and compaction may use.
const SEGMENTS_BEYOND: u64 = 2;

/// Which journal it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    /// Random.
    pub(crate) log_id: u64,
    /// Which of the journals.
    pub(crate) shard: u32,
    /// How many there are.
    pub(crate) shards: u32,
}

impl Identity {
    pub(crate) fn seed(&self) -> Seed {
        Seed::new(self.log_id)
    }
}

/// For what room is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// A new message: bound by the log's limit.
    Message,
    /// What makes the log smaller in the end.
    Upkeep,
}

/// The journal of one worker: segments that are written to at the end, and nothing of whom the messages wait for. Belongs
/// to that worker's thread.
pub struct Journal {
    pub(crate) identity: Identity,
    pub(crate) seed: Seed,
    pub(crate) options: Options,
    /// By base, the one that is written to last. Never empty.
    pub(crate) segments: VecDeque<Segment>,
    /// Where the next record goes, in the last segment.
    pub(crate) offset: u64,
    pub(crate) ids: Ids,
    pub(crate) messages_appended: u64,
    pub(crate) upkeep: Upkeep,
    pub(crate) shared: Arc<Shared>,
    pub(crate) lock: Arc<Lock>,
    /// What lies before this base may have been deleted before it was opened; `None` for not known.
    pub(crate) kept: Option<u64>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("identity", &self.identity)
            .field("end", &self.end())
            .finish_non_exhaustive()
    }
}

impl Journal {
    /// Its identity: another number of journals makes other ones.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.identity.log_id
    }

    /// Which of the journals it is.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.identity.shard as usize
    }

    pub(crate) fn lock_descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.lock.descriptor()
    }

    /// Its counters, which other threads may read.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    // --- Appending.

    /// Appends a message. `previous`: where the actor's message before it lies, 0 for none. The message is durable once
    /// [`Journal::committed`] has reached the end of its record.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing was appended then.
    #[inline]
    pub(crate) fn append<'m>(
        &mut self,
        message: &Message<'m>,
        previous: u64,
    ) -> Result<Entry<'m>, AppendError> {
        let bytes = self.admit(message.payload.len())?;
        self.make_room(bytes, Purpose::Message)?;
        let sequence = self.next_id(message.time_ms)?;
        self.messages_appended += 1;
        let head = Head { flags: message.flags, ..Head::note(Kind::Message, message.actor, sequence) };
        Ok(self.write_text(head, message, previous))
    }

    /// Appends a text for references to it: a body, or a message whose text others share. Its id is theirs. There is room
    /// for so many references behind it in its segment, unless they take more than a quarter of one.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub(crate) fn append_text<'m>(
        &mut self,
        kind: Kind,
        text: &Message<'m>,
        previous: u64,
        references: usize,
    ) -> Result<Entry<'m>, AppendError> {
        let bytes = self.admit(text.payload.len())?;
        let behind = references as u64 * REFERENCE_BYTES as u64;
        let behind = if self.keeps_together(references) { behind } else { REFERENCE_BYTES as u64 };
        self.make_room(bytes + behind, Purpose::Message)?;
        let sequence = self.next_id(text.time_ms)?;
        self.messages_appended += u64::from(kind == Kind::Message);
        let head = Head { flags: text.flags, ..Head::note(kind, text.actor, sequence) };
        Ok(self.write_text(head, text, previous))
    }

    /// Whether a text with so many references lies in one segment with them.
    pub(crate) fn keeps_together(&self, references: usize) -> bool {
        references as u64 * REFERENCE_BYTES as u64 <= self.options.segment_bytes / 4
    }

    /// Appends a reference to a text that this journal has.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub(crate) fn append_reference(
        &mut self,
        copy: ActorCopy,
        text: Sequence,
        time_ms: u64,
    ) -> Result<Entry<'static>, AppendError> {
        if self.shared.has_failed() {
            return Err(AppendError::Failed);
        }
        self.make_room(REFERENCE_BYTES as u64, Purpose::Message)?;
        self.messages_appended += 1;
        let ActorCopy { actor, flags, peer } = copy;
        let head = Head { flags, ..Head::note(Kind::Reference, actor, text.0) };
        Ok(self.write_reference(head, time_ms, peer))
    }

    /// Whether a payload can be appended, and how many bytes its record takes.
    fn admit(&self, payload: usize) -> Result<u64, AppendError> {
        if self.shared.has_failed() {
            return Err(AppendError::Failed);
        }
        if payload > self.options.payload_bytes_max {
            return Err(AppendError::TooLarge);
        }
        Ok(message_bytes(payload))
    }

    fn next_id(&mut self, time_ms: u64) -> Result<u64, AppendError> {
        let shared = &self.shared;
        self.ids.give(time_ms, || shared.committed()).ok_or(AppendError::Full)
    }

    /// Writes that something is done with. `None`: there is no room, or the journal has failed.
    #[inline]
    pub(crate) fn note(&mut self, kind: Kind, actor: ActorId, sequence: Sequence) -> Option<Entry<'static>> {
        let what = match kind {
            Kind::Trim => What::Trim,
            Kind::TrimUpTo => What::TrimUpTo,
            Kind::Purge => What::Purge,
            _ => return None,
        };
        if self.shared.has_failed() || self.make_room(HEAD_BYTES as u64, Purpose::Upkeep).is_err() {
            return None;
        }
        let position = self.end();
        self.write_note(kind, actor, sequence.0);
        Some(self.entry(Head::note(kind, actor, sequence.0), position, HEAD_BYTES as u64, what))
    }

    /// Asks the [`Syncer`](crate::log::Syncer) for a commit of all that was appended. At most one system call, none when
    /// the syncer is at work already.
    pub(crate) fn request_commit(&self) {
        self.shared.request(self.end(), self.messages_appended);
    }

    /// What was appended before this position is as durable as [`Options::durability`] says.
    #[must_use]
    pub fn committed(&self) -> Position {
        Position(self.shared.committed())
    }

    /// End of the last record.
    #[must_use]
    pub fn appended(&self) -> Position {
        Position(self.end())
    }

    /// Why it takes nothing any more: a commit has failed.
    #[must_use]
    pub fn failed(&self) -> Option<LogError> {
        self.shared.failure()
    }

    /// Why there is no next segment.
    #[must_use]
    pub fn no_room(&self) -> Option<LogError> {
        self.shared.spare_failure()
    }

    /// Commits on this thread.
    ///
    /// # Errors
    /// The disk refused; the journal has failed then.
    pub(crate) fn commit_now(&self) -> Result<(), LogError> {
        self.request_commit();
        self.shared.commit();
        self.failed().map_or(Ok(()), Err)
    }

    /// The segment that is written to.
    fn head(&self) -> &Segment {
        &self.segments[self.segments.len() - 1]
    }

    pub(crate) fn end(&self) -> u64 {
        self.head().base + self.offset
    }

    /// Base of the first segment; 0 before there is one.
    pub(crate) fn first(&self) -> u64 {
        self.segments.front().map_or(0, |segment| segment.base)
    }

    /// Bytes of all segments in use.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    // --- Room.

    /// Sees to it that a record fits into the last segment.
    #[inline]
    pub(crate) fn make_room(&mut self, bytes: u64, purpose: Purpose) -> Result<(), AppendError> {
        let reserve = if purpose == Purpose::Message { self.head().bytes / RESERVE_PART } else { 0 };
        if self.fits(bytes + reserve) { Ok(()) } else { self.roll(purpose) }
    }

    /// Whether so much fits into the last segment, and after it the mark that comes before a deletion, and a seal: what
    /// is deleted on a full disk is what makes room again.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        self.fits_last(bytes + HEAD_BYTES as u64)
    }

    /// Whether so much fits into the last segment, and a seal after it.
    pub(crate) fn fits_last(&self, bytes: u64) -> bool {
        self.offset + bytes + HEAD_BYTES as u64 <= self.head().bytes
    }

    /// What the next segment is to be.
    pub(crate) fn next_header(&self) -> Header {
        Header {
            shard: self.identity.shard,
            shards: self.identity.shards,
            log_id: self.identity.log_id,
            base: self.head().end(),
            bytes: self.options.segment_bytes,
            sequence: self.ids.next(),
        }
    }

    /// Tells all whom it concerns that records go into the last segment from here on.
    pub(crate) fn will_write_head(&self) {
        let Some(head) = self.segments.back() else { return };
        head.map.expect_touches();
        self.shared.will_write(head.base, head.end(), &head.path, head.map.flusher());
    }

    /// Goes on to the next segment.
    pub(super) fn roll(&mut self, purpose: Purpose) -> Result<(), AppendError> {
        let header = self.next_header();
        let beyond = if purpose == Purpose::Message { 0 } else { SEGMENTS_BEYOND * header.bytes };
        if self.total_bytes() + header.bytes > self.options.log_bytes_max + beyond {
            return Err(AppendError::LogQuota);
        }
        let spare = self.shared.take_spare(header).ok_or(AppendError::Full)?;
        debug_assert_eq!(spare.header.base, header.base);
        // There is always room left for a seal.
        self.write_note(Kind::Seal, ActorId::NOBODY, self.ids.next());
        self.head().map.expect_reads();
        self.segments.push_back(Segment::new(spare.header.base, spare.header.bytes, &spare.path, spare.map));
        self.will_write_head();
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
