//! What waits for an actor's acknowledgement: a reader of the journal that keeps an index in memory.
//!
//! | module | what |
//! |---|---|
//! | here | following the journal |
//! | `index` | whose messages wait, and where they lie |
//! | `bodies` | texts that several messages share |
//! | `tally` | how much waits in each segment |
//! | `read`, `expire` | reading what waits; dropping what is too old |
//! | `saved` | its block in a checkpoint |

mod bodies;
mod expire;
pub(crate) mod index;
mod read;
mod saved;
mod tally;

use std::sync::atomic::Ordering::Relaxed;

use crate::actor::ActorId;
use crate::journal::metrics::Metrics;
use crate::journal::{Blocks, Damage, Entry, Holding, Journal, Reader, ReaderSet, What};
use crate::log::{Backlog, Flags, Position, Record, Sequence};

use bodies::Bodies;
use expire::Expiry;
use index::{Index, Slot};
use tally::Tally;

pub use index::MESSAGE_BYTES_MAX as INDEX_MESSAGE_BYTES_MAX;
pub use read::Pending;

/// What waits, of one worker. See the module.
#[derive(Debug, Default)]
pub struct Queue {
    index: Index,
    bodies: Bodies,
    tally: Tally,
    expiry: Expiry,
}

impl Queue {
    /// Messages that wait, of all actors.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.index.messages()
    }

    /// Actors for whom something waits, in no order.
    pub fn actors(&self) -> impl ExactSizeIterator<Item = ActorId> + '_ {
        self.index.actors()
    }

    /// How much waits for an actor; `None` for nothing.
    #[must_use]
    pub fn backlog(&self, actor: ActorId) -> Option<Backlog> {
        self.index.backlog(actor)
    }

    /// The ids of the messages that wait for an actor, in order.
    pub fn waiting(&self, actor: ActorId) -> impl Iterator<Item = Sequence> + '_ {
        self.index.slots_from(actor, 0).map(|slot| Sequence(slot.sequence))
    }

    /// Messages, bytes of their records, and where the newest lies; zeros for none.
    pub(crate) fn load(&self, actor: ActorId) -> (u64, u64, u64) {
        self.index.load(actor)
    }

    /// Whether this message waits.
    pub(crate) fn has(&self, actor: ActorId, sequence: Sequence) -> bool {
        self.index.get(actor, sequence.0).is_some()
    }

    /// Whether the record at this position is that of a message that waits.
    pub(crate) fn waits_at(&self, actor: ActorId, sequence: Sequence, position: Position) -> bool {
        self.index.get(actor, sequence.0).is_some_and(|slot| slot.position == position.0)
    }

    /// Bytes of memory that what waits for an actor takes.
    pub(crate) fn memory_bytes_of(&self, actor: ActorId) -> usize {
        self.index.memory_bytes_of(actor)
    }

    /// Bytes of memory it takes, the allocator's own aside. Looks at every actor.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.index.memory_bytes() + self.bodies.memory_bytes()
    }

    /// Texts that waiting messages share.
    #[must_use]
    pub fn shared_bodies(&self) -> usize {
        self.bodies.len()
    }

    /// Whether there is a body of this id.
    pub(crate) fn has_body(&self, sequence: Sequence) -> bool {
        self.bodies.place(sequence.0).is_some()
    }

    /// Bytes of the records that are needed, texts that several messages share once.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.tally.held_bytes()
    }

    /// Records that are needed, bodies included.
    #[cfg(test)]
    pub(crate) fn held_records(&self) -> u64 {
        self.tally.0.iter().map(|segment| segment.records).sum()
    }

    /// Writes down what waits.
    pub(crate) fn count(&self, metrics: &Metrics) {
        metrics.messages_pending.store(self.index.messages(), Relaxed);
        metrics.bytes_pending.store(self.tally.held_bytes(), Relaxed);
        metrics.users_pending.store(self.index.actors().len() as u64, Relaxed);
    }

    /// A message no longer waits. Returns whether it did.
    pub(crate) fn remove(&mut self, actor: ActorId, sequence: Sequence) -> bool {
        let Some(slot) = self.index.remove(actor, sequence.0) else { return false };
        self.forget(slot);
        true
    }

    /// All messages of an actor up to an id no longer wait. Returns how many did.
    pub(crate) fn remove_up_to(&mut self, actor: ActorId, sequence: Sequence) -> u64 {
        let Self { index, bodies, tally, .. } = self;
        index.remove_up_to(actor, sequence.0, |slot| forget(tally, bodies, slot))
    }

    /// A body was appended and nobody could be given a reference to it.
    pub(crate) fn drop_unreferenced(&mut self, body: Sequence) {
        if let Some(place) = self.bodies.take_unreferenced(body.0) {
            self.tally.take(place.position, place.bytes());
        }
    }

    fn forget(&mut self, slot: Slot) {
        forget(&mut self.tally, &mut self.bodies, slot);
    }

    /// Notes where a message lies, and that it does not lie any more where it did.
    #[inline]
    fn put(&mut self, entry: &Entry<'_>, time_ms: u64, flags: Flags) {
        let words = (entry.bytes / 8) as u32;
        let slot = Slot { sequence: entry.sequence.0, position: entry.position.0, words };
        let old = self.index.put(entry.actor, slot);
        let time_ms = if flags.has(Flags::NO_EXPIRY) { u64::MAX } else { time_ms };
        self.tally.add(entry.segment.0, entry.bytes, time_ms);
        match old {
            // A copy refers to the same body as the record before it.
            Some(old) => self.tally.take(old.position, old.bytes()),
            None if slot.is_reference() => self.bodies.refer(slot.sequence),
            None => {}
        }
    }

    fn put_body(&mut self, entry: &Entry<'_>) {
        let old = self.bodies.put(entry.sequence.0, entry.position.0, (entry.bytes / 8) as u32);
        self.tally.add(entry.segment.0, entry.bytes, u64::MAX);
        if let Some(old) = old {
            self.tally.take(old.position, old.bytes());
        }
    }

    /// Takes out messages that refer to a body that is nowhere, and bodies that no message refers to: all that there is
    /// was told. Returns where the records of the messages begin, and their bytes.
    pub(crate) fn take_dangling(&mut self) -> Vec<(u64, u64)> {
        let mut gone = Vec::new();
        for actor in self.index.actors().filter(|_| self.bodies.has_unknown()) {
            let slots = self.index.slots_from(actor, 0).filter(Slot::is_reference);
            let dangling = slots.filter(|slot| self.bodies.place(slot.sequence).is_none());
            gone.extend(dangling.map(|slot| (actor, slot)));
        }
        for (actor, slot) in &gone {
            self.remove(*actor, Sequence(slot.sequence));
        }
        for place in self.bodies.take_all_unreferenced() {
            self.tally.take(place.position, place.bytes());
        }
        let mut gone: Vec<_> = gone.into_iter().map(|(_, slot)| (slot.position, slot.bytes())).collect();
        gone.sort_unstable();
        gone
    }

    /// Takes out what lies where the journal has no segment. Returns where that began, and bytes of what was not trimmed.
    fn take_missing(&mut self, journal: &Journal) -> Option<(u64, u64)> {
        self.bodies.forget_places(|position| !journal.holds(Position(position)));
        let mut gone = Vec::new();
        for actor in self.index.actors() {
            let slots =
                self.index.slots_from(actor, 0).filter(|slot| !journal.holds(Position(slot.position)));
            gone.extend(slots.map(|slot| (actor, slot)));
        }
        let kept = journal.kept.unwrap_or_else(|| journal.first());
        let mut lost: Option<(u64, u64)> = None;
        for (actor, slot) in gone {
            self.remove(actor, Sequence(slot.sequence));
            // What lies before the first segment that was kept was known to a checkpoint; since then it was trimmed while
            // there was no room to write that down, and its segment was deleted because nothing in it waited.
            if slot.position >= kept {
                let (offset, bytes) = lost.unwrap_or((slot.position, 0));
                lost = Some((offset.min(slot.position), bytes + slot.bytes()));
            }
        }
        lost
    }
}

/// What is said of a message whose text is nowhere.
pub(crate) const TEXT_GONE: &str = "the text of a waiting message is gone";

/// A message no longer waits where it lay, and the body that it refers to may be needed by nobody.
fn forget(tally: &mut Tally, bodies: &mut Bodies, slot: Slot) {
    tally.take(slot.position, slot.bytes());
    if slot.is_reference()
        && let Some(place) = bodies.release(slot.sequence)
    {
        tally.take(place.position, place.bytes());
    }
}

impl Reader for Queue {
    #[inline]
    fn record(&mut self, entry: &Entry<'_>) {
        if !entry.concerns(ReaderSet::QUEUE) {
            return;
        }
        match entry.what {
            What::Message(Record { time_ms, flags, .. }) | What::Reference { time_ms, flags, .. } => {
                // What was erased waited for nobody any more, whether that could be written down or not.
                if flags.is_queued() && !flags.has(Flags::ERASED) {
                    self.put(entry, time_ms, flags);
                }
            }
            What::Body(_) => self.put_body(entry),
            What::Trim => _ = self.remove(entry.actor, entry.sequence),
            What::TrimUpTo | What::Purge => _ = self.remove_up_to(entry.actor, entry.sequence),
        }
    }

    /// What waits for an acknowledgement waits whether it is committed or not: it was delivered.
    fn committed(&mut self, _: Position) {}

    fn wants(&self, entry: &Entry<'_>) -> ReaderSet {
        ReaderSet::QUEUE.when(match entry.what {
            What::Message(_) | What::Reference { .. } => {
                self.waits_at(entry.actor, entry.sequence, entry.position)
            }
            What::Body(_) => self.bodies.is_needed_at(entry.sequence.0, entry.position.0),
            What::Trim | What::TrimUpTo | What::Purge => false,
        })
    }

    fn held(&self, segment: Position) -> Holding {
        self.tally.held(segment.0)
    }

    fn unreadable(&mut self, segment: Position, lost: &mut Vec<(ActorId, Sequence)>) {
        let is_there = |position| self.tally.segment_of(position) == Some(segment.0);
        let first = lost.len();
        for actor in self.index.actors() {
            let slots = self.index.slots_from(actor, 0).filter(|slot| {
                let body = self.bodies.place(slot.sequence).filter(|_| slot.is_reference());
                is_there(slot.position) || body.is_some_and(|place| is_there(place.position))
            });
            lost.extend(slots.map(|slot| (actor, Sequence(slot.sequence))));
        }
        for (actor, sequence) in &lost[first..] {
            self.remove(*actor, *sequence);
        }
    }

    fn dropped(&mut self, before: Position) {
        self.tally.drop_before(before.0);
    }

    fn save(&self, blocks: &mut Blocks) {
        blocks.put(saved::KIND, saved::encode(self));
    }

    fn restore(&mut self, blocks: &Blocks) -> bool {
        match blocks.get(saved::KIND).and_then(saved::decode) {
            Some(queue) => {
                *self = queue;
                true
            }
            None => false,
        }
    }

    fn recovered(&mut self, journal: &Journal, damage: &mut Vec<Damage>) {
        if let Some((offset, bytes)) = self.take_missing(journal) {
            let what =
                "waiting messages lie in segments that are gone (the offset is their position in the log)";
            damage.push(Damage { path: journal.shared.folder().to_owned(), offset, bytes, what });
        }
        for (position, bytes) in self.take_dangling() {
            damage.push(journal.lost(Position(position), bytes, TEXT_GONE));
        }
        self.tally.drop_before(journal.first());
    }

    fn fresh(&self) -> Self {
        Self::default()
    }
}
