//! Which stanzas of a client are handled but not yet safe.
//!
//! A message is safe once the log of its recipient's home has it for good, or nothing had to be logged. Homes say
//! so in any order; what the client may be told is handled ends before the first that is missing.

use std::collections::VecDeque;

/// Room for so many numbers, 8 bytes each, stays with a stream that has sent something, so that a message in a quiet
/// stream allocates nothing.
const KEPT_NUMBERS_MAX: usize = 4;

/// Numbers that are not settled, in the order in which they were counted.
#[derive(Debug, Default)]
pub struct Unsettled {
    /// The first one is never settled.
    numbers: VecDeque<(u32, bool)>,
}

impl Unsettled {
    /// Adds a number, which is later than those before it.
    pub fn push(&mut self, number: u32) {
        self.numbers.push_back((number, false));
    }

    /// Settles a number. Returns whether it was the first; one that is not here changes nothing.
    pub fn settle(&mut self, number: u32) -> bool {
        let Some(&(first, _)) = self.numbers.front() else { return false };
        if number == first {
            self.numbers.pop_front();
            while self.numbers.front().is_some_and(|(_, settled)| *settled) {
                self.numbers.pop_front();
            }
            if self.numbers.is_empty() && self.numbers.capacity() > KEPT_NUMBERS_MAX {
                // What a burst has needed is given back; what a message now and then needs is kept.
                self.numbers = VecDeque::new();
            }
            return true;
        }
        // Numbers wrap; their distances from the first do not.
        let distance = number.wrapping_sub(first);
        if let Ok(at) = self.numbers.binary_search_by_key(&distance, |(n, _)| n.wrapping_sub(first)) {
            self.numbers[at].1 = true;
        }
        false
    }

    /// The first that is not settled.
    pub fn first(&self) -> Option<u32> {
        self.numbers.front().map(|(number, _)| *number)
    }

    /// How many there are, settled ones behind the first included.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether everything is settled.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }
}
