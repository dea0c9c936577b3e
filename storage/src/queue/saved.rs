//! What the queue keeps in a checkpoint: docs/log-format.md, "Checkpoint".

use super::Queue;
use super::index::Slot;
use super::tally::Segment;
use crate::actor::ActorId;
use crate::journal::format::checkpoint::Numbers;

/// Number of the block: "queue".
pub(super) const KIND: u64 = u64::from_le_bytes(*b"queue\0\0\0");

/// The block of a queue.
pub(super) fn encode(queue: &Queue) -> Vec<u8> {
    let (segments, bodies, actors) = (&queue.tally.0, queue.bodies.all(), queue.index.actors());
    let numbers = 3 + 4 * segments.len() + 3 * bodies.len() + 2 * actors.len();
    let mut to = Vec::with_capacity(8 * (numbers + 3 * queue.index.messages() as usize));
    let mut put = |number: u64| to.extend_from_slice(&number.to_le_bytes());
    put(segments.len() as u64);
    for segment in segments {
        [segment.base, segment.records, segment.bytes, segment.time_ms_min].into_iter().for_each(&mut put);
    }
    put(bodies.len() as u64);
    for (id, place) in bodies {
        [id, place.position, u64::from(place.words)].into_iter().for_each(&mut put);
    }
    put(actors.len() as u64);
    for actor in actors {
        put(actor.raw());
        put(queue.index.load(actor).0);
        for slot in queue.index.slots_from(actor, 0) {
            [slot.sequence, slot.position, u64::from(slot.words)].into_iter().for_each(&mut put);
        }
    }
    to
}

/// Reads a block. `None`: it is none.
pub(super) fn decode(content: &[u8]) -> Option<Queue> {
    let mut numbers = Numbers(content);
    let mut queue = Queue::default();
    for _ in 0..numbers.take()? {
        let (base, records) = (numbers.take()?, numbers.take()?);
        let (bytes, time_ms_min) = (numbers.take()?, numbers.take()?);
        queue.tally.0.push_back(Segment { base, records, bytes, time_ms_min });
    }
    if !queue.tally.0.iter().is_sorted_by(|a, b| a.base < b.base) {
        return None;
    }
    for _ in 0..numbers.take()? {
        let (id, position) = (numbers.take()?, numbers.take()?);
        queue.bodies.put(id, position, u32::try_from(numbers.take()?).ok()?);
    }
    let actors = numbers.take()?;
    // No more than there are bytes for.
    queue.index.reserve(usize::try_from(actors).ok()?.min(numbers.0.len() / 40));
    let mut slots = Vec::new();
    for _ in 0..actors {
        let actor = ActorId::from_raw(numbers.take()?);
        slots.clear();
        for _ in 0..numbers.take()? {
            let (sequence, position) = (numbers.take()?, numbers.take()?);
            let slot = Slot { sequence, position, words: u32::try_from(numbers.take()?).ok()? };
            if slot.is_reference() {
                queue.bodies.refer(sequence);
            }
            slots.push(slot);
        }
        if !queue.index.put_all(actor, &slots) {
            return None;
        }
    }
    numbers.0.is_empty().then_some(queue)
}
