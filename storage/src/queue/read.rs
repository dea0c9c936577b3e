//! Reading what waits for an actor, straight from the memory maps.

use std::collections::VecDeque;

use super::index::{Slot, SlotsFrom};
use super::{Queue, TEXT_GONE};
use crate::actor::ActorId;
use crate::archive;
use crate::journal::{Damage, Entry, Journal, What};
use crate::log::{PeerHash, Position, Record, Sequence};

/// An actor's waiting messages, oldest first. A record that the disk gives back damaged comes as an error; what is
/// after it follows.
#[derive(Debug)]
pub struct Pending<'a> {
    journal: &'a Journal,
    queue: &'a Queue,
    actor: ActorId,
    slots: SlotsFrom<'a>,
    bytes_left: u64,
}

impl<'a> Iterator for Pending<'a> {
    type Item = Result<Record<'a>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes_left == 0 {
            return None;
        }
        let slot = self.slots.next()?;
        let record = self.queue.record_at(self.journal, self.actor, slot);
        let bytes = record.as_ref().map_or(0, |record| record.payload.len() as u64);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        Some(record)
    }
}

impl Queue {
    /// What waits for an actor after `after`: as many messages as begin within so many bytes of payload.
    pub(crate) fn read<'a>(
        &'a self,
        journal: &'a Journal,
        actor: ActorId,
        after: Sequence,
        payload_bytes_max: u64,
    ) -> Pending<'a> {
        let slots = match after.0.checked_add(1) {
            Some(from) => self.index.slots_from(actor, from),
            None => SlotsFrom::default(),
        };
        Pending { journal, queue: self, actor, slots, bytes_left: payload_bytes_max }
    }

    /// Where the texts of an actor's newest waiting messages lie, so many at most, the oldest of them first.
    pub(crate) fn newest(&self, actor: ActorId, max: usize) -> Vec<archive::Slot> {
        let mut newest = VecDeque::with_capacity(max.min(64));
        for slot in self.index.slots_from(actor, 0) {
            if newest.len() == max {
                newest.pop_front();
            }
            newest.push_back(slot);
        }
        let text = |slot: Slot| {
            let is_reference = slot.is_reference();
            let (position, words) = match is_reference {
                true => self.bodies.place(slot.sequence).map(|place| (place.position, place.words))?,
                false => (slot.position, slot.words),
            };
            let (id, position) = (Sequence(slot.sequence), Position(position));
            Some(archive::Slot { id, position, words, peer: PeerHash::NONE, is_reference })
        };
        newest.into_iter().filter_map(text).collect()
    }

    /// Whether a waiting message's text is a body that others may share.
    pub(crate) fn is_shared(&self, actor: ActorId, sequence: Sequence) -> bool {
        self.index.get(actor, sequence.0).is_some_and(|slot| slot.is_reference())
    }

    /// A waiting message.
    pub(crate) fn record_at<'a>(
        &self,
        journal: &'a Journal,
        actor: ActorId,
        slot: Slot,
    ) -> Result<Record<'a>, Damage> {
        let position = Position(slot.position);
        let entry = journal.entry_at(position, slot.bytes())?;
        if entry.actor == actor && entry.sequence.0 == slot.sequence {
            match entry.what {
                What::Message(record) => return Ok(record),
                What::Reference { .. } => return self.with_text(journal, &entry),
                _ => {}
            }
        }
        Err(journal.lost(position, slot.bytes(), "a waiting message cannot be read back"))
    }

    /// The message that a reference is.
    pub(super) fn with_text<'a>(
        &self,
        journal: &'a Journal,
        entry: &Entry<'_>,
    ) -> Result<Record<'a>, Damage> {
        let Entry {
            actor, sequence, position, bytes, what: What::Reference { time_ms, flags, peer }, ..
        } = *entry
        else {
            return Err(journal.lost(entry.position, entry.bytes, "no reference"));
        };
        let Some(place) = self.bodies.place(sequence.0) else {
            return Err(journal.lost(position, bytes, TEXT_GONE));
        };
        let body = journal.entry_at(Position(place.position), place.bytes())?;
        match body.what {
            What::Body(text) if body.sequence == sequence => {
                Ok(Record { actor, sequence, time_ms, flags, peer, position, ..text })
            }
            _ => {
                let what = "the text of a waiting message cannot be read back";
                Err(journal.lost(Position(place.position), place.bytes(), what))
            }
        }
    }
}
