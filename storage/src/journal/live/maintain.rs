//! Upkeep of a journal in small steps, between the rounds of its worker: segments that nobody holds go to the keeper to be
//! deleted, sparse ones are compacted, checkpoints are made.
//!
//! Segments are deleted from the oldest on, never from the middle: a record that trims a message lies after it, and
//! must not go before it, or the message would wait again after a restart. A message that waits long therefore holds up
//! the segments after it. So once most of the journal is held by nobody, what readers want of the oldest segment is copied
//! to the end: the same id, the same actor, another position. The old segment goes when the copies are committed. With
//! [`SPARSE_PART`], a message that waits for ever is copied once for each time that three times as much as is held has
//! been written.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use super::super::error::LogError;
use super::super::format::message::{Flags, Message, Origin, PeerHash, Position, Record};
use super::super::format::record::{HEAD_BYTES, Head, Kind, Raw};
use super::super::format::segment::HEADER_BYTES;
use super::super::format::{checkpoint, layout};
use super::super::open::scan::Walk;
use super::super::reader::{Entry, Reader, ReaderSet, What};
use super::segment::Segment;
use super::shared::Dead;
use super::{Journal, Purpose};
use crate::actor::ActorId;

/// A journal is compacted while less than this part of it is held.
const SPARSE_PART: u64 = 4;
/// A journal of so many segments is not compacted.
const SEGMENTS_LEFT_ALONE: usize = 4;
/// Most bytes that one call of [`Journal::maintain`] looks through.
const STEP_BYTES_MAX: u64 = 256 << 10;

/// What [`Log::maintain`](crate::log::Log::maintain) did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Maintained {
    /// Bytes copied by compaction.
    pub bytes_copied: u64,
    /// Segments given to the keeper to be deleted.
    pub segments_deleted: u64,
}

/// Where upkeep stands.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    /// When it was last called.
    now_ms: u64,
    /// Bytes that compaction may look through.
    allowance: u64,
    /// End of the last mark that told what was committed.
    proven: u64,
    /// The journal says that segments before this base may be deleted.
    kept_from: u64,
    /// How far compaction has come in the segment with this base.
    compacted: (u64, u64),
    /// Where in that segment the text begins that references after it may refer to.
    text_at: u64,
    /// The segment with this base has been looked through, and its readers were told what they have lost.
    given_up: Option<u64>,
    /// Where the last checkpoint was made, or the journal was opened.
    pub(crate) checkpoint_at: u64,
    /// Where the last checkpoint was made since then; 0: there was none.
    checkpointed: u64,
}

impl Journal {
    /// Does a bounded piece of what is due: fetches a spare segment, hands over those that nobody holds, compacts, makes a
    /// checkpoint, tells readers what is durable. To be called about ten times a second.
    pub(crate) fn maintain(&mut self, readers: &mut impl Reader, now_ms: u64) -> Maintained {
        let mut done = Maintained::default();
        if self.shared.has_failed() {
            return done;
        }
        self.ids.set_now(now_ms);
        readers.committed(self.committed());
        self.shared.want_spare(self.next_header());
        self.allow(now_ms);
        let first = Position(self.first());
        if self.is_sparse(readers) && readers.held(first).records > 0 && readers.prepare(first) {
            done.bytes_copied = self.compact(readers);
        }
        done.segments_deleted = self.discard_unheld(readers);
        let bytes = self.options.checkpoint_bytes;
        if bytes > 0 && self.end() - self.upkeep.checkpoint_at >= bytes {
            self.make_checkpoint(readers);
        }
        let extends_ids = self.extend_ids();
        if done != Maintained::default() || extends_ids {
            // What went to the keeper waits for a commit.
            self.request_commit();
        }
        self.prove();
        self.shared.metrics.segment_bytes.store(self.total_bytes(), Relaxed);
        self.shared.metrics.messages_appended.store(self.messages_appended, Relaxed);
        done
    }

    /// Writes a mark in time, so that ids can keep to the clock. Returns whether it was time.
    fn extend_ids(&mut self) -> bool {
        self.ids.allow(self.shared.committed());
        let is_due = self.ids.is_due() && self.fits(HEAD_BYTES as u64);
        if is_due {
            self.write_mark(self.first());
        }
        is_due
    }

    /// Every record says what was committed when it was written. After the last one nobody does; so once all is
    /// committed, a mark says so: damage in what was committed last can then be told from a crash.
    fn prove(&mut self) {
        if self.has_to_prove() {
            self.write_mark(self.first());
            self.upkeep.proven = self.end();
        }
    }

    fn has_to_prove(&self) -> bool {
        let end = self.end();
        let is_committed = self.shared.committed() >= end && self.upkeep.proven < end;
        is_committed && self.fits(2 * HEAD_BYTES as u64)
    }

    /// Gives the segments at the beginning that nobody holds to the keeper. A mark that says so comes first and is
    /// committed before they are deleted: without it, a first segment that is missing later on was not deleted here.
    fn discard_unheld(&mut self, readers: &mut impl Reader) -> u64 {
        let all = self.segments.len() - 1;
        let is_free = |segment: &&Segment| readers.held(Position(segment.base)).records == 0;
        let free = self.segments.iter().take(all).take_while(is_free).count();
        if free == 0 || !self.has_checkpoint_behind(free, readers) || !self.will_keep_from(free) {
            return 0;
        }
        let gone = (0..free).take_while(|_| self.discard_first(None)).count() as u64;
        readers.dropped(Position(self.first()));
        gone
    }

    /// A checkpoint whose segment is gone counts for nothing at the next opening. Where readers depend on it, another one is on
    /// its way to the keeper before the first segments, so many, follow it there. `false`: the keeper is busy.
    fn has_checkpoint_behind(&mut self, segments: usize, readers: &impl Reader) -> bool {
        let is_behind = self.upkeep.checkpointed >= self.segments[segments].base;
        is_behind || !readers.needs_checkpoint() || self.make_checkpoint(readers)
    }

    /// Says in the journal that the first segments, so many, are to be deleted. `false`: there is no room to say it.
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

    fn is_sparse(&self, readers: &impl Reader) -> bool {
        if self.segments.len() <= SEGMENTS_LEFT_ALONE {
            return false;
        }
        // Readers count a text once for each of theirs that refers to it.
        let held = |segment: &Segment| readers.held(Position(segment.base)).bytes.min(segment.bytes);
        self.segments.iter().map(held).sum::<u64>() < self.total_bytes() / SPARSE_PART
    }

    /// Gives the first segment to the keeper.
    fn discard_first(&mut self, keep_at: Option<PathBuf>) -> bool {
        let after = self.end();
        let Some(Segment { base, bytes, path, map }) = self.segments.pop_front() else { return false };
        match self.shared.discard(Dead { path: path.clone(), after, keep_at, map: Some(map) }) {
            Ok(()) => true,
            Err(Dead { map: Some(map), .. }) => {
                self.segments.push_front(Segment { base, bytes, path, map });
                false
            }
            Err(_) => false,
        }
    }

    /// Copies a piece of what readers want of the oldest segment to the end. Returns the bytes copied.
    fn compact(&mut self, readers: &mut impl Reader) -> u64 {
        let base = self.first();
        let mut offset =
            if self.upkeep.compacted.0 == base { self.upkeep.compacted.1 } else { HEADER_BYTES as u64 };
        let budget = self.upkeep.allowance.min(STEP_BYTES_MAX);
        if budget == 0 {
            return 0;
        }
        let until = offset + budget;
        let mut copied = 0;
        let mut is_through = false;
        'records: while offset < until {
            let bytes = self.segments[0].map.bytes();
            let Some(raw) = Walk::new(bytes, self.seed, base, offset as usize).next() else {
                is_through = true;
                break;
            };
            let next = raw.position - base + raw.stored_bytes();
            if raw.text().is_some() {
                self.upkeep.text_at = raw.position - base;
            }
            let copies = match raw.entry(base) {
                Some(entry) => self.copies(&raw, &entry, readers.wants(&entry)),
                None => [None, None],
            };
            // They lie in another segment than the one that is written to, but that is not for the compiler to know.
            for copy in copies.into_iter().flatten() {
                if self.make_room(copy.bytes, Purpose::Upkeep).is_err() {
                    break 'records;
                }
                copied += copy.bytes;
                readers.record(&copy.write(self));
            }
            offset = next;
        }
        self.upkeep.allowance = self.upkeep.allowance.saturating_sub(budget);
        self.upkeep.compacted = (base, offset);
        self.shared.metrics.bytes_compacted.fetch_add(copied, Relaxed);
        if is_through && readers.held(Position(base)).records > 0 {
            self.give_up_first(readers);
        }
        copied
    }

    /// What is to be written of a record that is moved. A second reader's reference becomes a message of its own: its text
    /// need not be moved for anybody else, and then lies nowhere apart from it.
    fn copies(&self, raw: &Raw<'_>, entry: &Entry<'_>, for_whom: ReaderSet) -> [Option<Copied>; 2] {
        if for_whom == ReaderSet::NONE {
            return [None, None];
        }
        let What::Reference { flags, peer, .. } = entry.what else {
            return [Copied::of(raw, entry, for_whom), None];
        };
        let reference = Copied::of(raw, entry, for_whom.only(ReaderSet::QUEUE));
        let text = for_whom.has(ReaderSet::SECOND).then(|| self.compacted_text()).flatten();
        let text = text.filter(|text| text.sequence == raw.sequence);
        let own = text.and_then(|text| {
            let entry = Entry { actor: entry.actor, ..text.entry(entry.segment.0)? };
            let copy = Copied::of(&text, &entry, ReaderSet::SECOND)?;
            Some(copy.owned_by(entry.actor, flags, peer))
        });
        [reference.filter(|_| for_whom.has(ReaderSet::QUEUE)), own]
    }

    /// The text that the compaction of the oldest segment has come by last.
    fn compacted_text(&self) -> Option<Raw<'_>> {
        let Segment { base, map, .. } = self.segments.front()?;
        let bytes = map.bytes().get(self.upkeep.text_at as usize..)?;
        Raw::parse(bytes, self.seed, base + self.upkeep.text_at).ok()
    }

    /// Some of what is wanted of the oldest segment cannot be read back: the file is kept aside.
    fn give_up_first(&mut self, readers: &mut impl Reader) {
        let base = self.first();
        if self.upkeep.given_up.replace(base) == Some(base) {
            return;
        }
        let mut lost = Vec::new();
        readers.unreadable(Position(base), &mut lost);
        self.shared.metrics.messages_lost.fetch_add(lost.len() as u64, Relaxed);
        for (actor, sequence) in lost {
            if let Some(entry) = self.note(Kind::Trim, actor, sequence) {
                readers.record(&entry);
            }
        }
        if readers.held(Position(base)).records > 0 {
            // Somebody holds it as it is.
            return;
        }
        let keep_at = layout::damaged_name(self.shared.folder(), base, 0);
        if self.segments.len() > 1 && self.has_checkpoint_behind(1, readers) && self.will_keep_from(1) {
            self.discard_first(Some(keep_at));
            readers.dropped(Position(self.first()));
        }
    }

    /// Takes a picture of what readers know for the next opening. `false`: the keeper is busy.
    fn make_checkpoint(&mut self, readers: &impl Reader) -> bool {
        let position = self.end();
        let is_put = self.shared.put_checkpoint(position, checkpoint::encode(self, readers));
        if is_put {
            self.upkeep.checkpoint_at = position;
            self.upkeep.checkpointed = position;
            self.request_commit();
        }
        is_put
    }

    /// Commits, and writes a checkpoint so that the next opening is fast. The syncer may have ended already.
    ///
    /// # Errors
    /// The disk refused.
    pub(crate) fn close(&mut self, readers: &mut impl Reader) -> Result<(), LogError> {
        self.commit_now()?;
        if self.fits(2 * HEAD_BYTES as u64) {
            self.write_last_mark();
        }
        self.commit_now()?;
        readers.committed(self.committed());
        self.checkpoint(readers)
    }

    /// As [`Journal::close`], but it goes on: for a process that is about to become another program.
    ///
    /// # Errors
    /// The disk refused.
    pub(crate) fn checkpoint(&self, readers: &impl Reader) -> Result<(), LogError> {
        self.commit_now()?;
        let path = self.shared.folder().join(checkpoint::FILE);
        let content = checkpoint::encode(self, readers);
        self.shared.files().replace(&path, &content).map_err(|error| LogError::io("write", &path, error))
    }
}

/// A record that compaction is about to write again.
struct Copied {
    head: Head,
    /// Bytes that it takes.
    bytes: u64,
    previous: u64,
    content: CopiedContent,
}

enum CopiedContent {
    Text { time_ms: u64, origin: Origin, peer: PeerHash, payload: Vec<u8> },
    Reference { time_ms: u64, peer: PeerHash },
}

impl Copied {
    /// `None` for records that are not moved.
    fn of(raw: &Raw<'_>, entry: &Entry<'_>, moved_for: ReaderSet) -> Option<Self> {
        let content = match entry.what {
            What::Message(Record { time_ms, origin, peer, payload, .. })
            | What::Body(Record { time_ms, origin, peer, payload, .. }) => {
                CopiedContent::Text { time_ms, origin, peer, payload: payload.to_vec() }
            }
            What::Reference { time_ms, peer, .. } => CopiedContent::Reference { time_ms, peer },
            What::Trim | What::TrimUpTo | What::Purge => return None,
        };
        let (kind, actor, sequence) = (raw.kind, raw.actor, raw.sequence);
        let head = Head { kind, flags: raw.flags(), moved_for, actor, sequence };
        Some(Self { head, bytes: entry.bytes, previous: raw.previous(), content })
    }

    /// A message of this actor with the text, which waits for nobody.
    fn owned_by(mut self, actor: ActorId, flags: Flags, of: PeerHash) -> Self {
        let flags = flags.and(Flags::NOT_QUEUED);
        self.head = Head { kind: Kind::Message, actor, flags, ..self.head };
        self.previous = 0;
        if let CopiedContent::Text { peer, .. } = &mut self.content {
            *peer = of;
        }
        self
    }

    /// Writes it at the end of the journal, where there is room.
    fn write(&self, journal: &mut Journal) -> Entry<'_> {
        match &self.content {
            CopiedContent::Text { time_ms, origin, peer, payload } => {
                let Head { actor, flags, .. } = self.head;
                let (time_ms, origin, peer) = (*time_ms, *origin, *peer);
                let message = Message { actor, time_ms, flags, origin, peer, payload };
                journal.write_text(self.head, &message, self.previous)
            }
            CopiedContent::Reference { time_ms, peer } => journal.write_reference(self.head, *time_ms, *peer),
        }
    }
}
