//! Messages of an archive in a few bytes each, in the order of their ids.
//!
//! A message is five numbers, each in as many bytes as it needs (seven bits a byte, the lowest first):
//!
//! ```text
//! milliseconds since the message before, times 2, plus 1 if a count follows
//! [the count of its id within the millisecond, if not 0]
//! distance of its text from that of the message before, in units of 8 bytes; the sign in the lowest bit
//! bytes of the text's record, divided by 8, times 2, plus 1 for a reference
//! its peer: an index into the peers of the block
//! ```

use super::slot::{Slot, WORDS_MIN};
use crate::journal::format::message::COUNTER_BITS;
use crate::log::{PeerHash, Position, Sequence};

const COUNTER_MASK: u64 = (1 << COUNTER_BITS) - 1;

/// Most bytes of a message: 7 + 3 + 10 + 5 + 1, and some to spare.
pub(super) const PACKED_BYTES_MAX: usize = 32;

/// A message in few bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Packed {
    /// So many bytes, the lowest first: in registers, so that the processor need not wait for one-byte writes when they are
    /// read in words a moment later. Almost every message is one of these.
    Short(u128, usize),
    /// On the stack.
    Long([u8; PACKED_BYTES_MAX], usize),
}

/// Bytes of a message that lies in registers.
const SHORT_BYTES_MAX: usize = size_of::<u128>();

/// A number below 2^28 in its form of one to four bytes, and how many.
#[inline]
fn spread(number: u32) -> (u32, usize) {
    let n = number;
    let bits = n & 0x7f | (n & 0x3f80) << 1 | (n & 0x1f_c000) << 2 | (n & 0xfe0_0000) << 3;
    let more = usize::from(n >= 1 << 7) + usize::from(n >= 1 << 14) + usize::from(n >= 1 << 21);
    (bits | 0x0080_8080 & ((1 << (8 * more)) - 1), more + 1)
}

impl Packed {
    /// Of the numbers one after the other; the second is left out when it is 0. `None`: it has too many bytes.
    #[inline]
    fn short(numbers: [u64; 4], peer: u8) -> Option<Self> {
        if numbers.iter().fold(0, |all, number| all | number) >= 1 << 28 {
            return None;
        }
        let (mut bytes, mut length) = (0_u128, 0);
        for (at, number) in numbers.into_iter().enumerate() {
            if at == 1 && number == 0 {
                continue;
            }
            let (bits, count) = spread(number as u32);
            bytes |= u128::from(bits) << (8 * length);
            length += count;
        }
        if length >= SHORT_BYTES_MAX {
            return None;
        }
        Some(Self::Short(bytes | u128::from(peer) << (8 * length), length + 1))
    }

    #[cold]
    fn long(numbers: [u64; 4], peer: u8) -> Self {
        let (mut bytes, mut length) = ([0; PACKED_BYTES_MAX], 0);
        let mut put = |byte| {
            bytes[length] = byte;
            length += 1;
        };
        for (at, mut number) in numbers.into_iter().enumerate() {
            if at == 1 && number == 0 {
                continue;
            }
            while number >= 0x80 {
                put(number as u8 | 0x80);
                number >>= 7;
            }
            put(number as u8);
        }
        put(peer);
        Self::Long(bytes, length)
    }

    /// Appends them.
    pub(super) fn put(&self, to: &mut Vec<u8>) {
        match self {
            Self::Short(bytes, length) => to.extend_from_slice(&bytes.to_le_bytes()[..*length]),
            Self::Long(bytes, length) => to.extend_from_slice(&bytes[..*length]),
        }
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

/// Copies the message with which `from` begins, without a look at its numbers; in both slices there is room for the longest. Returns
/// its bytes, the last of which is its peer, and that.
#[inline]
pub(super) fn copy_message(from: &[u8], to: &mut [u8]) -> (usize, u8) {
    let word: [u8; 16] = from.first_chunk().copied().unwrap_or_default();
    // Where its numbers end, and its peer: none of these bytes has the top bit.
    let mut ends = !u128::from_le_bytes(word) & u128::from_le_bytes([0x80; 16]);
    for _ in 0..3 + (word[0] & 1) {
        ends &= ends.wrapping_sub(1);
    }
    if ends == 0 {
        return copy_long(from, to);
    }
    let length = ends.trailing_zeros() as usize / 8 + 1;
    to[..word.len()].copy_from_slice(&word);
    (length, word[length - 1])
}

/// One that has more bytes than a register.
#[cold]
fn copy_long(from: &[u8], to: &mut [u8]) -> (usize, u8) {
    let numbers = 3 + usize::from(from[0] & 1);
    let mut ends = from.iter().enumerate().filter(|(_, byte)| **byte < 0x80);
    let length = ends.nth(numbers).map_or(from.len(), |(last, _)| last + 1);
    to[..length].copy_from_slice(&from[..length]);
    (length, to[length - 1])
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
        Self::of(slot.id, slot.position)
    }

    /// After a message with this id whose text lies here; before the first one of a block, of its id and a position of 0.
    pub(super) fn of(id: Sequence, position: Position) -> Self {
        Self { time_ms: id.time_ms(), words: position.0 / 8 }
    }

    /// A message, whose peer is this one of those of the block: less than 128.
    #[inline]
    pub(super) fn pack(self, slot: &Slot, peer: u8) -> Packed {
        let counter = slot.id.0 & COUNTER_MASK;
        let numbers = [
            slot.id.time_ms().wrapping_sub(self.time_ms) << 1 | u64::from(counter != 0),
            counter,
            fold((slot.position.0 / 8).wrapping_sub(self.words) as i64),
            u64::from(slot.words) << 1 | u64::from(slot.is_reference),
        ];
        Packed::short(numbers, peer).unwrap_or_else(|| Packed::long(numbers, peer))
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
            base.pack(slot, 63).put(&mut bytes);
            base = Base::after(slot);
        }
        let mut rest = &bytes[..];
        let mut base = Base::before(slots[0].id);
        for slot in &slots {
            let found = base.take(&mut rest).expect("it is there");
            assert_eq!((found, take_number(&mut rest)), (Slot { peer: PeerHash::NONE, ..*slot }, Some(63)));
            base = Base::after(&found);
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn a_chat_takes_few_bytes_a_message() {
        let mut base = Base::before(Sequence::at(0));
        let mut bytes = Vec::new();
        for n in 0..64 {
            // A minute and a megabyte from one to the next.
            let next = slot(Sequence::at(60_000 * n).0, n << 20, 30);
            base.pack(&next, 0).put(&mut bytes);
            base = Base::after(&next);
        }
        assert!(bytes.len() <= 64 * 9, "{} bytes for 64 messages", bytes.len());
    }

    proptest::proptest! {
        #[test]
        fn messages_are_the_same_in_registers_and_on_the_stack(
            bits in proptest::array::uniform4(0..34_u32),
            noise in proptest::array::uniform4(0..u64::MAX),
            peer in 0..64_u8,
        ) {
            let numbers = std::array::from_fn(|at| noise[at] & ((1 << bits[at]) - 1));
            let written = |packed: Packed| {
                let mut bytes = Vec::new();
                packed.put(&mut bytes);
                bytes
            };
            let long = written(Packed::long(numbers, peer));
            match Packed::short(numbers, peer) {
                Some(short) => proptest::prop_assert_eq!(written(short), long),
                None => proptest::prop_assert!(long.len() > SHORT_BYTES_MAX || bits.iter().any(|bits| *bits > 28)),
            }
        }
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
