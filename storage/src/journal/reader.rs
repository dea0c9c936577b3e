//! What follows a journal: the queue, and whatever else wants to find again what was written.
//!
//! ```text
//!  append ───────────┐
//!  compaction ───────┼──▶ record(entry) ──▶ reader ──▶ wants(entry)? held(segment)? ──▶ compaction, deletion
//!  opening (replay) ─┘                        │ ▲
//!                                        save │ │ restore        a block of its own in each checkpoint
//!                                             ▼ │
//!                                          checkpoint
//! ```
//!
//! A reader learns of each record once, in the order of positions, whether it has just been appended, was moved by
//! compaction, or was found when the journal was opened: what it knows after a crash is what the same records told it
//! before. Records that were told of may be taken away by a crash until [`Reader::committed`] has passed them. The journal
//! keeps a segment as long as a reader holds something in it, and while most of the journal is held by nobody, it moves
//! what is wanted out of the oldest segment; so a reader decides alone for how long a record lives, and readers do not
//! know of each other.
//!
//! Readers are composed as pairs; the unit reads nothing.

use super::error::Damage;
use super::format::message::{Flags, PeerHash, Position, Record, Sequence};
use super::live::Journal;
use crate::actor::ActorId;

/// A record, as readers are told of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry<'a> {
    /// Where it begins.
    pub position: Position,
    /// Where its segment begins.
    pub segment: Position,
    /// Bytes that it takes there.
    pub bytes: u64,
    /// Whose it is; of a body, the first of the actors that it was written for.
    pub actor: ActorId,
    /// Its id, or that of what it is about.
    pub sequence: Sequence,
    /// It was written before: compaction has moved it here, because these readers wanted it.
    pub moved_for: ReaderSet,
    /// What it says.
    pub what: What<'a>,
}

impl Entry<'_> {
    /// Whether it was written before.
    #[must_use]
    pub fn is_moved(&self) -> bool {
        self.moved_for != ReaderSet::NONE
    }

    /// Whether a reader is to take note of it. A copy that another reader wanted is no news: to the queue, a message that
    /// was acknowledged long ago would seem to wait again.
    #[must_use]
    pub fn concerns(&self, reader: ReaderSet) -> bool {
        !self.is_moved() || self.moved_for.only(reader) != ReaderSet::NONE
    }
}

/// Which readers something is for: it is written with each record that compaction moves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReaderSet(pub(crate) u8);

impl ReaderSet {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// The queue.
    pub const QUEUE: Self = Self(1);
    /// Whatever reads the journal beside it.
    pub const SECOND: Self = Self(2);

    /// These, if that is so.
    #[must_use]
    pub const fn when(self, is_so: bool) -> Self {
        if is_so { self } else { Self::NONE }
    }

    /// Those of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of `other` that are among these.
    #[must_use]
    pub const fn only(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of `other` are among these.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a record says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What<'a> {
    /// A message with its text.
    Message(Record<'a>),
    /// A text that references with the same id share. Waits for nobody.
    Body(Record<'a>),
    /// A message whose text is the body, or the message of another actor, with the same id.
    Reference {
        /// When it was received, in milliseconds since 1970.
        time_ms: u64,
        /// See [`Flags`].
        flags: Flags,
        /// Whom the actor exchanged it with.
        peer: PeerHash,
    },
    /// The message with this id is done with.
    Trim,
    /// All messages of the actor up to this id are.
    TrimUpTo,
    /// The actor is gone, and all of its messages.
    Purge,
}

/// How much of a segment a reader holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Holding {
    /// Records that must not be deleted.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What readers have kept in a checkpoint, each under a number of its own.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Blocks(pub(super) Vec<(u64, Vec<u8>)>);

impl Blocks {
    /// Keeps what a reader knows.
    pub fn put(&mut self, kind: u64, content: Vec<u8>) {
        self.0.push((kind, content));
    }

    /// What a reader has kept.
    #[must_use]
    pub fn get(&self, kind: u64) -> Option<&[u8]> {
        self.0.iter().find(|(of, _)| *of == kind).map(|(_, content)| content.as_slice())
    }
}

/// Something that follows a journal: see the module.
pub trait Reader {
    /// The next record. A copy by compaction that concerns the reader ([`Entry::concerns`]) takes the place
    /// of the record before it.
    fn record(&mut self, entry: &Entry<'_>);

    /// Everything before this position is durable. Told in each call of [`Log::maintain`](crate::log::Log::maintain) and
    /// when the journal is opened, not for each commit.
    fn committed(&mut self, position: Position);

    /// Its own set, if compaction is to move this record, which lies in the oldest segment;
    /// [`ReaderSet::NONE`] for one that it knows elsewhere or no longer needs. A reader that holds something in the segment
    /// and does not want it moved keeps the segment where it is.
    fn wants(&self, entry: &Entry<'_>) -> ReaderSet;

    /// What it holds in the segment that begins here: while that is something, the segment is not deleted.
    fn held(&self, segment: Position) -> Holding;

    /// It was asked about all records of this segment that can be read, and holds something there still. If those were to
    /// be moved, they cannot be read back: it is to hold nothing there any more, and names the messages whose loss is to be
    /// written down as if they had been trimmed. A reader that keeps the segment where it is does nothing.
    fn unreadable(&mut self, segment: Position, lost: &mut Vec<(ActorId, Sequence)>);

    /// The segments before this position are about to be deleted; it holds nothing in them.
    fn dropped(&mut self, before: Position);

    /// What is wanted is about to be moved out of the oldest segment, which begins here. `false`: not yet, because it is
    /// not known yet what that is; asked again in each call of [`Log::maintain`](crate::log::Log::maintain).
    fn prepare(&mut self, segment: Position) -> bool {
        let _ = segment;
        true
    }

    /// Whether it can take note of another message with [`Flags::ARCHIVED`]; without, it is not appended.
    fn has_room(&self) -> bool {
        true
    }

    /// Whether it has to know that an actor is gone for which nothing waits.
    fn wants_purges(&self) -> bool {
        false
    }

    /// Whether it needs the journal also when nothing is written to it any more: another number of logs is made, and what
    /// waits is written anew.
    fn keeps_journal(&self) -> bool {
        false
    }

    /// Whether it knows something that stands in its last checkpoint and in no record of this journal.
    fn needs_checkpoint(&self) -> bool {
        false
    }

    /// Takes over from the reader of a journal that is not written to any more what it has in memory of the actors that are
    /// here now.
    fn adopt(&mut self, old: &Self, is_here: &dyn Fn(ActorId) -> bool)
    where
        Self: Sized,
    {
        let _ = (old, is_here);
    }

    /// Keeps what it knows for the next opening, as blocks whose numbers are its own. Anything that it has been told up to now is
    /// what the next opening does not tell again.
    fn save(&self, blocks: &mut Blocks);

    /// Takes up what it has kept, before any record is told. `false`: it cannot, and all records are told.
    fn restore(&mut self, blocks: &Blocks) -> bool;

    /// The journal is open and every record was told. Anything that it holds that is not in the journal any more, it gives up and
    /// reports.
    fn recovered(&mut self, journal: &Journal, damage: &mut Vec<Damage>);

    /// A reader of this kind that has been told nothing: for opening the journal anew.
    fn fresh(&self) -> Self
    where
        Self: Sized;
}

impl Reader for () {
    fn record(&mut self, _: &Entry<'_>) {}
    fn committed(&mut self, _: Position) {}
    fn wants(&self, _: &Entry<'_>) -> ReaderSet {
        ReaderSet::NONE
    }
    fn held(&self, _: Position) -> Holding {
        Holding::default()
    }
    fn unreadable(&mut self, _: Position, _: &mut Vec<(ActorId, Sequence)>) {}
    fn dropped(&mut self, _: Position) {}
    fn save(&self, _: &mut Blocks) {}
    fn restore(&mut self, _: &Blocks) -> bool {
        true
    }
    fn recovered(&mut self, _: &Journal, _: &mut Vec<Damage>) {}
    fn fresh(&self) -> Self {}
}

/// Two readers of one journal. Anything that both hold is counted as the larger of the two: they may hold the same records.
#[derive(Debug, Default)]
pub struct Pair<A, B>(pub A, pub B);

impl<A: Reader, B: Reader> Reader for Pair<A, B> {
    #[inline]
    fn record(&mut self, entry: &Entry<'_>) {
        self.0.record(entry);
        self.1.record(entry);
    }

    fn committed(&mut self, position: Position) {
        self.0.committed(position);
        self.1.committed(position);
    }

    fn wants(&self, entry: &Entry<'_>) -> ReaderSet {
        self.0.wants(entry).and(self.1.wants(entry))
    }

    fn held(&self, segment: Position) -> Holding {
        let (one, other) = (self.0.held(segment), self.1.held(segment));
        Holding { records: one.records.max(other.records), bytes: one.bytes.max(other.bytes) }
    }

    fn unreadable(&mut self, segment: Position, lost: &mut Vec<(ActorId, Sequence)>) {
        self.0.unreadable(segment, lost);
        self.1.unreadable(segment, lost);
    }

    fn dropped(&mut self, before: Position) {
        self.0.dropped(before);
        self.1.dropped(before);
    }

    fn prepare(&mut self, segment: Position) -> bool {
        let first = self.0.prepare(segment);
        self.1.prepare(segment) && first
    }

    #[inline]
    fn has_room(&self) -> bool {
        self.0.has_room() && self.1.has_room()
    }

    fn wants_purges(&self) -> bool {
        self.0.wants_purges() || self.1.wants_purges()
    }

    fn keeps_journal(&self) -> bool {
        self.0.keeps_journal() || self.1.keeps_journal()
    }

    fn needs_checkpoint(&self) -> bool {
        self.0.needs_checkpoint() || self.1.needs_checkpoint()
    }

    fn adopt(&mut self, old: &Self, is_here: &dyn Fn(ActorId) -> bool) {
        self.0.adopt(&old.0, is_here);
        self.1.adopt(&old.1, is_here);
    }

    fn save(&self, blocks: &mut Blocks) {
        self.0.save(blocks);
        self.1.save(blocks);
    }

    fn restore(&mut self, blocks: &Blocks) -> bool {
        self.0.restore(blocks) && self.1.restore(blocks)
    }

    fn recovered(&mut self, journal: &Journal, damage: &mut Vec<Damage>) {
        self.0.recovered(journal, damage);
        self.1.recovered(journal, damage);
    }

    fn fresh(&self) -> Self {
        Self(self.0.fresh(), self.1.fresh())
    }
}
