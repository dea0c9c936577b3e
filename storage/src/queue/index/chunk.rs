//! Up to [`CHUNK_MESSAGES_MAX`] waiting messages of a user in a few bytes each.
//!
//! A message is four numbers, each in as many bytes as it needs (seven bits a byte): the time of its id, as the distance
//! from that of the chunk, and its counter if that is not 0; its position, as the distance from that of the chunk; and the length
//! of its record in words of eight bytes. Distances are
//! from the chunk's own numbers, not from one message to the next, so that the oldest, which goes first, is cut off
//! without touching the others.

use super::Slot;
use super::spare::ENTRIES_BYTES_MAX;
use crate::journal::format::message::COUNTER_BITS;

const COUNTER_MASK: u64 = (1 << COUNTER_BITS) - 1;

/// Most messages of a chunk.
pub(super) const CHUNK_MESSAGES_MAX: usize = 64;

/// See the module.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Chunk {
    sequence: u64,
    position: u64,
    last_sequence: u64,
    last_position: u64,
    messages: u16,
    entries: Vec<u8>,
}

const _: () = assert!(size_of::<Chunk>() <= 64);

fn put(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn get(from: &mut &[u8]) -> u64 {
    let mut number = 0;
    let mut shift = 0;
    while let Some((&byte, rest)) = from.split_first() {
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 || shift > 63 {
            break;
        }
    }
    number
}

/// A signed distance as a number that is small when the distance is.
fn fold(distance: i64) -> u64 {
    ((distance << 1) ^ (distance >> 63)) as u64
}

fn unfold(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

impl Chunk {
    /// Of one message, in the emptied bytes of an earlier chunk or in new ones.
    pub(super) fn new(slot: Slot, entries: Vec<u8>) -> Self {
        debug_assert!(entries.is_empty(), "the bytes of another chunk");
        let mut chunk = Self {
            sequence: slot.sequence,
            position: slot.position,
            last_sequence: slot.sequence,
            last_position: slot.position,
            messages: 0,
            entries,
        };
        chunk.push(slot);
        chunk
    }

    pub(super) fn is_full(&self) -> bool {
        usize::from(self.messages) >= CHUNK_MESSAGES_MAX
    }

    pub(super) fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    pub(super) fn last_position(&self) -> u64 {
        self.last_position
    }

    pub(super) fn messages(&self) -> usize {
        usize::from(self.messages)
    }

    /// Bytes of memory beside the struct.
    pub(super) fn memory_bytes(&self) -> usize {
        self.entries.capacity()
    }

    /// Adds a message with a greater number than all in it.
    pub(super) fn push(&mut self, slot: Slot) {
        let (counter, time_ms) = (slot.sequence & COUNTER_MASK, slot.sequence >> COUNTER_BITS);
        put(&mut self.entries, (time_ms - (self.sequence >> COUNTER_BITS)) << 1 | u64::from(counter != 0));
        if counter != 0 {
            put(&mut self.entries, counter);
        }
        put(&mut self.entries, fold(slot.position.wrapping_sub(self.position) as i64 / 8));
        put(&mut self.entries, u64::from(slot.words));
        self.last_sequence = slot.sequence;
        self.last_position = slot.position;
        self.messages += 1;
        if self.is_full() {
            self.tidy();
        }
    }

    /// Gives back memory that no message needs.
    pub(super) fn trim_memory(&mut self) {
        self.entries.shrink_to_fit();
    }

    /// Gives back memory for many more messages than are left. A small chunk's goes to the next one.
    fn tidy(&mut self) {
        if self.entries.capacity() > ENTRIES_BYTES_MAX.max(2 * self.entries.len()) {
            self.entries.shrink_to_fit();
        }
    }

    /// Its bytes, for another chunk.
    pub(super) fn into_entries(self) -> Vec<u8> {
        self.entries
    }

    /// Its messages in order.
    pub(super) fn slots(&self) -> Slots<'_> {
        Slots { sequence: self.sequence, position: self.position, rest: &self.entries }
    }

    /// Takes the oldest message, when it is this one.
    pub(super) fn take_first(&mut self, sequence: u64) -> Option<Slot> {
        let mut slots = self.slots();
        let slot = slots.next().filter(|slot| slot.sequence == sequence)?;
        let used = self.entries.len() - slots.rest.len();
        self.entries.drain(..used);
        self.messages -= 1;
        self.tidy();
        Some(slot)
    }
}

/// The messages of a chunk in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots<'a> {
    sequence: u64,
    position: u64,
    rest: &'a [u8],
}

impl Iterator for Slots<'_> {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        if self.rest.is_empty() {
            return None;
        }
        let distance = get(&mut self.rest);
        let time_ms = (self.sequence >> COUNTER_BITS).wrapping_add(distance >> 1);
        let counter = if distance & 1 == 1 { get(&mut self.rest) & COUNTER_MASK } else { 0 };
        let sequence = time_ms << COUNTER_BITS | counter;
        let distance = unfold(get(&mut self.rest)).wrapping_mul(8);
        let position = self.position.wrapping_add(distance as u64);
        Some(Slot { sequence, position, words: get(&mut self.rest) as u32 })
    }
}
