//! Messages of an archive in a few bytes each, in the order of their ids.
//!
//! A message is five numbers, each in as many bytes as it needs (seven bits a byte, the lowest first):
//!
//! ```text
//! milliseconds since the message before, times 2, plus 1 if a count follows
//! [the count of its id within the millisecond, if not 0]
//! distance of its text from that of the message before, in units of 8 bytes; the sign in the lowest bit
//! bytes of the text's record, divided by 8, times 2, plus 1 for a reference
//! its peer: an index into the peers of the block; in memory the hash itself, in four bytes
//! ```

use super::slot::{Slot, WORDS_MIN};
use crate::journal::format::message::COUNTER_BITS;
use crate::log::{PeerHash, Position, Sequence};

const COUNTER_MASK: u64 = (1 << COUNTER_BITS) - 1;

/// Most bytes of a message in memory: 7 + 3 + 10 + 5 + 4, and some to spare.
pub(super) const PACKED_BYTES_MAX: usize = 32;

/// A few bytes that are written one after the other, on the stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    bytes: [u8; PACKED_BYTES_MAX],
    length: usize,
}

impl Packed {
    fn new() -> Self {
        Self { bytes: [0; PACKED_BYTES_MAX], length: 0 }
    }

    fn byte(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte(number as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Appends a number.
pub(super) fn put_number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Takes the next number; `None` when there is none, or one that no writer makes: longer than it need be, or than 64 bits.
pub(super) fn take_number(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if byte < 0x80 {
            return (byte != 0 || shift == 0).then_some(number);
        }
    }
    None
}

/// A signed distance as a number that is small when the distance is.
fn fold(distance: i64) -> u64 {
    ((distance << 1) ^ (distance >> 63)) as u64
}

fn unfold(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// What the next message is told apart from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Base {
    time_ms: u64,
    words: u64,
}

impl Base {
    /// Before the first message of a block, which has this id.
    pub(super) fn before(first: Sequence) -> Self {
        Self { time_ms: first.time_ms(), words: 0 }
    }

    /// After a message.
    pub(super) fn after(slot: &Slot) -> Self {
        Self { time_ms: slot.id.time_ms(), words: slot.position.0 / 8 }
    }

    /// A message and its peer's hash, as they lie in memory.
    pub(super) fn pack(self, slot: &Slot) -> Packed {
        let mut packed = self.pack_without_peer(slot);
        slot.peer.0.to_le_bytes().into_iter().for_each(|byte| packed.byte(byte));
        packed
    }

    /// All but its peer.
    pub(super) fn pack_without_peer(self, slot: &Slot) -> Packed {
        let mut packed = Packed::new();
        let counter = slot.id.0 & COUNTER_MASK;
        packed.number(slot.id.time_ms().wrapping_sub(self.time_ms) << 1 | u64::from(counter != 0));
        if counter != 0 {
            packed.number(counter);
        }
        packed.number(fold((slot.position.0 / 8).wrapping_sub(self.words) as i64));
        packed.number(u64::from(slot.words) << 1 | u64::from(slot.is_reference));
        packed
    }

    /// The next message, with no peer yet; `None` for bytes that are none.
    pub(super) fn take(self, from: &mut &[u8]) -> Option<Slot> {
        let later = take_number(from)?;
        let time_ms = self.time_ms.checked_add(later >> 1)?;
        let counter = if later & 1 == 1 { take_number(from)? } else { 0 };
        if time_ms > Sequence::TIME_MS_MAX || counter > COUNTER_MASK || (later & 1 == 1) != (counter != 0) {
            return None;
        }
        let position = (self.words as i64).checked_add(unfold(take_number(from)?))?;
        let position = u64::try_from(position).ok()?.checked_mul(8)?;
        let size = take_number(from)?;
        let words = u32::try_from(size >> 1).ok().filter(|words| *words >= WORDS_MIN)?;
        Some(Slot {
            id: Sequence(time_ms << COUNTER_BITS | counter),
            position: Position(position),
            words,
            peer: PeerHash::NONE,
            is_reference: size & 1 == 1,
        })
    }

    /// The next message, as it lies in memory.
    pub(super) fn unpack(self, from: &mut &[u8]) -> Option<Slot> {
        let slot = self.take(from)?;
        let (peer, rest) = from.split_first_chunk::<4>()?;
        *from = rest;
        Some(Slot { peer: PeerHash(u32::from_le_bytes(*peer)), ..slot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(id: u64, position: u64, words: u32) -> Slot {
        Slot {
            id: Sequence(id),
            position: Position(position),
            words,
            peer: PeerHash(7),
            is_reference: id.is_multiple_of(3),
        }
    }

    #[test]
    fn messages_read_back_whatever_their_numbers() {
        let time = 1_700_000_000_000_u64 << COUNTER_BITS;
        let slots = [
            slot(time, 1 << 61, 8),
            slot(time | 1, 0, u32::MAX),
            slot(time | COUNTER_MASK, 1 << 40, 30),
            slot(u64::MAX, (1 << 62) - 8, 9),
        ];
        let mut bytes = Vec::new();
        let mut base = Base::before(slots[0].id);
        for slot in &slots {
            let packed = base.pack(slot);
            assert!(packed.bytes().len() <= PACKED_BYTES_MAX);
            bytes.extend_from_slice(packed.bytes());
            base = Base::after(slot);
        }
        let mut rest = &bytes[..];
        let mut base = Base::before(slots[0].id);
        for slot in &slots {
            let found = base.unpack(&mut rest).expect("it is there");
            assert_eq!(found, *slot);
            base = Base::after(&found);
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn a_chat_takes_few_bytes_a_message() {
        let mut base = Base::before(Sequence::at(0));
        let mut bytes = 0;
        for n in 0..64 {
            // A minute and a megabyte from one to the next.
            let next = slot(Sequence::at(60_000 * n).0, n << 20, 30);
            bytes += base.pack_without_peer(&next).bytes().len();
            base = Base::after(&next);
        }
        assert!(bytes <= 64 * 8, "{bytes} bytes for 64 messages");
    }

    #[test]
    fn a_number_has_one_form() {
        for bytes in [&[0x80, 0][..], &[0xff; 10], &[0x80; 11], &[0x80], &[]] {
            assert_eq!(take_number(&mut &bytes[..]), None, "{bytes:?}");
        }
        for number in [0, 1, 127, 128, u64::MAX] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, number);
            assert_eq!(take_number(&mut &bytes[..]), Some(number));
        }
    }
}
