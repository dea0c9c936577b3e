//! Upkeep of a log in small steps, between the rounds of its worker: dead segments are handed over to be deleted,
//! sparse ones are compacted, checkpoints are made.
//!
//! Segments are deleted from the oldest on, never from the middle: a record that trims a message lies after it, and
//! must not go before it, or the message would wait again after a restart. A message that waits long therefore holds up
//! the segments after it. So once most of the log is dead, what is alive in the oldest segment is copied to the end: the
//! same number, the same user, another position. The old segment goes when the copies are committed. With
//! [`SPARSE_PART`], a message that waits for ever is copied once for each time that three times as much as waits has been
//! written.

use crate::directory::UserId;

use super::error::LogError;
use super::message::{Message, Record};
use super::record::{HEAD_BYTES, message_bytes};
use super::scan::Walk;
use super::segment::{HEADER_BYTES, Segment};
use super::shard::{Log, Purpose};
use super::shared::Dead;
use super::{checkpoint, layout};

/// The log is compacted while less than this part of it waits.
const SPARSE_PART: u64 = 4;
/// A log of so many segments is not compacted.
const SEGMENTS_LEFT_ALONE: usize = 4;
/// Most bytes that one call of [`Log::maintain`] looks through.
const STEP_BYTES_MAX: u64 = 256 << 10;

/// What [`Log::maintain`] did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Maintained {
    /// Bytes copied by compaction.
    pub bytes_copied: u64,
    /// Segments handed over to be deleted.
    pub segments_deleted: u64,
}

/// Where upkeep stands.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// When it was last called.
    now_ms: u64,
    /// Bytes that compaction may look through.
    allowance: u64,
    /// End of the last mark that told what was committed.
    proven: u64,
    /// The log says that segments before this base may be deleted.
    kept_from: u64,
    /// How far compaction has come in the segment with this base.
    compacted: (u64, u64),
    /// Where the last checkpoint was made.
    pub(super) checkpoint_at: u64,
    /// How far [`Log::expire`] has come in the segment with this base.
    pub(super) expired: (u64, u64),
    /// The oldest message that it has seen there and left.
    pub(super) expiry_min: u64,
}

impl Log {
    /// Does a bounded piece of what is due: fetches a spare segment, hands over dead ones, compacts, makes a
    /// checkpoint. Call it about ten times a second.
    pub fn maintain(&mut self, now_ms: u64) -> Maintained {
        let mut done = Maintained::default();
        if self.shared.has_failed() {
            return done;
        }
        self.shared.want_spare(self.next_header());
        self.allow(now_ms);
        if self.is_sparse() && self.segments[0].live_messages > 0 {
            done.bytes_copied = self.compact();
        }
        done.segments_deleted = self.discard_dead();
        let bytes = self.options.checkpoint_bytes;
        if bytes > 0 && self.end() - self.upkeep.checkpoint_at >= bytes {
            self.make_checkpoint();
        }
        if done != Maintained::default() {
            // What was handed over waits for a commit.
            self.request_commit();
        }
        self.prove();
        self.count();
        done
    }

    /// Every record says what was committed when it was written. After the last one nobody does; so once all is
    /// committed, a mark says so: damage in what was committed last can then be told from a crash.
    fn prove(&mut self) {
        let end = self.end();
        let is_committed = self.shared.committed() >= end && self.upkeep.proven < end;
        if is_committed && self.fits(2 * HEAD_BYTES as u64) {
            self.write_mark(self.first());
            self.upkeep.proven = self.end();
        }
    }

    /// Gives the segments at the beginning in which nothing waits to the keeper. A mark that says so comes first and is
    /// committed before they are deleted: without it, a first segment that is missing later on was not deleted here.
    fn discard_dead(&mut self) -> u64 {
        let all = self.segments.len() - 1;
        let dead = self.segments.iter().take(all).take_while(|segment| segment.live_messages == 0).count();
        if dead == 0 || !self.will_keep_from(dead) {
            return 0;
        }
        (0..dead).take_while(|_| self.discard_first(None)).count() as u64
    }

    /// Says in the log that the first segments, so many, are to be deleted. `false`: there is no room to say it.
    fn will_keep_from(&mut self, segments: usize) -> bool {
        let kept = self.segments[segments].base;
        if kept <= self.upkeep.kept_from {
            return true;
        }
        let has_room =
            self.fits_last(HEAD_BYTES as u64) || self.make_room(HEAD_BYTES as u64, Purpose::Upkeep).is_ok();
        if has_room {
            self.write_mark(kept);
            self.upkeep.kept_from = kept;
        }
        has_room
    }

    fn allow(&mut self, now_ms: u64) {
        let rate = self.options.compaction_bytes_per_second;
        let elapsed_ms = now_ms.saturating_sub(self.upkeep.now_ms).min(1000);
        self.upkeep.now_ms = now_ms;
        self.upkeep.allowance = (self.upkeep.allowance + rate.saturating_mul(elapsed_ms) / 1000).min(rate);
    }

    fn is_sparse(&self) -> bool {
        let live: u64 = self.segments.iter().map(|segment| segment.live_bytes).sum();
        self.segments.len() > SEGMENTS_LEFT_ALONE && live < self.total_bytes() / SPARSE_PART
    }

    /// Gives the first segment to the keeper.
    fn discard_first(&mut self, keep_at: Option<std::path::PathBuf>) -> bool {
        let after = self.end();
        let Some(segment) = self.segments.pop_front() else { return false };
        let Segment { base, bytes, path, map, live_messages, live_bytes, time_ms_min } = segment;
        match self.shared.discard(Dead { path: path.clone(), after, keep_at, map: Some(map) }) {
            Ok(()) => true,
            Err(Dead { map: Some(map), .. }) => {
                self.segments.push_front(Segment {
                    base,
                    bytes,
                    path,
                    map,
                    live_messages,
                    live_bytes,
                    time_ms_min,
                });
                false
            }
            Err(_) => false,
        }
    }

    /// Copies a piece of what waits in the oldest segment to the end. Returns the bytes copied.
    fn compact(&mut self) -> u64 {
        let first = &self.segments[0];
        let base = first.base;
        let mut offset =
            if self.upkeep.compacted.0 == base { self.upkeep.compacted.1 } else { HEADER_BYTES as u64 };
        let budget = self.upkeep.allowance.min(STEP_BYTES_MAX);
        if budget == 0 {
            return 0;
        }
        let until = offset + budget;
        let mut copied = 0;
        let mut is_through = false;
        while offset < until {
            let bytes = self.segments[0].map.bytes();
            let Some(raw) = Walk::new(bytes, self.seed, base, offset as usize).next() else {
                is_through = true;
                break;
            };
            let next = raw.position - base + raw.stored_bytes();
            let waits = |sequence| {
                self.index.get(raw.user, sequence).is_some_and(|slot| slot.position == raw.position)
            };
            if let Some(record) = raw.message().filter(|record| waits(record.sequence.0)) {
                // It lies in another segment than the one that is written to, but that is not for the compiler to know.
                let payload = record.payload.to_vec();
                let Record { user, time_ms, flags, origin, .. } = record;
                let message = Message { user, time_ms, flags, origin, payload: &payload };
                let (sequence, previous) = (record.sequence.0, raw.previous());
                let bytes = message_bytes(message.payload.len());
                if self.make_room(bytes, Purpose::Upkeep).is_err() {
                    break;
                }
                self.write_message(&message, sequence, previous);
                copied += bytes;
            }
            offset = next;
        }
        self.upkeep.allowance = self.upkeep.allowance.saturating_sub(budget);
        self.upkeep.compacted = (base, offset);
        self.shared.metrics.bytes_compacted.fetch_add(copied, std::sync::atomic::Ordering::Relaxed);
        if is_through && self.segments[0].live_messages > 0 {
            self.give_up_first();
        }
        copied
    }

    /// Some of what waits in the oldest segment cannot be read back: the file is kept aside.
    fn give_up_first(&mut self) {
        let (base, end) = (self.segments[0].base, self.segments[0].end());
        let mut lost = Vec::new();
        for user in self.index.users() {
            let slots = self.index.slots_from(user, 0);
            lost.extend(
                slots.filter(|slot| (base..end).contains(&slot.position)).map(|slot| (user, slot.sequence)),
            );
        }
        self.shared.metrics.messages_lost.fetch_add(lost.len() as u64, std::sync::atomic::Ordering::Relaxed);
        for (user, sequence) in lost {
            self.trim(user, super::message::Sequence(sequence));
        }
        let keep_at = layout::damaged_name(self.shared.folder(), base, 0);
        if self.segments.len() > 1 && self.will_keep_from(1) {
            self.discard_first(Some(keep_at));
        }
    }

    /// Takes a picture of the index for the next opening.
    fn make_checkpoint(&mut self) {
        let position = self.end();
        if self.shared.put_checkpoint(position, checkpoint::encode(self)) {
            self.upkeep.checkpoint_at = position;
            self.request_commit();
        }
    }

    /// Commits, and writes a checkpoint so that the next opening is fast. The [`super::Syncer`] may have ended already.
    ///
    /// # Errors
    /// The disk refused.
    pub fn close(mut self) -> Result<(), LogError> {
        self.commit_now()?;
        self.prove();
        self.checkpoint()
    }

    /// As [`Log::close`], but the log goes on: for a process that is about to become another program.
    ///
    /// # Errors
    /// The disk refused.
    pub fn checkpoint(&self) -> Result<(), LogError> {
        self.commit_now()?;
        let path = self.shared.folder().join(checkpoint::FILE);
        let content = checkpoint::encode(self);
        self.shared.files().replace(&path, &content).map_err(|error| LogError::io("write", &path, error))
    }

    fn count(&self) {
        use std::sync::atomic::Ordering::Relaxed;
        let metrics = &self.shared.metrics;
        metrics.segment_bytes.store(self.total_bytes(), Relaxed);
        metrics.messages_pending.store(self.index.messages(), Relaxed);
        metrics.bytes_pending.store(self.segments.iter().map(|segment| segment.live_bytes).sum(), Relaxed);
        metrics.users_pending.store(self.index.users().len() as u64, Relaxed);
        metrics.messages_appended.store(self.messages_appended, Relaxed);
    }

    /// Bytes of memory that the index takes, the allocator's own aside. Looks at every user.
    #[must_use]
    pub fn index_bytes(&self) -> usize {
        self.index.memory_bytes()
    }

    /// Whether this user's message with this number lies at this position and waits.
    pub(super) fn waits_at(&self, user: UserId, sequence: u64, position: u64) -> bool {
        self.index.get(user, sequence).is_some_and(|slot| slot.position == position)
    }
}
