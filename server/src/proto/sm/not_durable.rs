//! Which stanzas of a client are handled but not yet durable.
//!
//! A message is durable once every log that is to have a copy of it has it for good: the recipient's home, and the
//! sender's own where it keeps one. Each copy that is committed takes one off the message's count, and so does each that is
//! refused or turns out not to be needed; at zero the message is durable. Homes report in any order; what the client may
//! be told is handled ends before the first message that still waits for a copy.

use std::collections::VecDeque;

/// Room for so many numbers, 8 bytes each, stays with a stream that has sent something, so that a message in a quiet
/// stream allocates nothing.
const KEPT_NUMBERS_MAX: usize = 4;

/// A stanza that waits for copies of it.
#[derive(Debug, Copy, Clone)]
struct Waiting {
    number: u32,
    /// Copies that are not durable yet.
    copies: u32,
}

const _: () = assert!(size_of::<Waiting>() == 8);

/// Numbers that are not durable, in the order in which they were counted.
#[derive(Debug, Default)]
pub struct NotDurable {
    /// The first one waits for a copy at least.
    numbers: VecDeque<Waiting>,
}

impl NotDurable {
    /// Adds a number, which is later than those before it and waits for so many copies, one at least.
    pub fn push(&mut self, number: u32, copies: u32) {
        self.numbers.push_back(Waiting { number, copies: copies.max(1) });
    }

    /// A copy is durable, refused or not needed. Returns whether the number was the first and waits for no other; one that
    /// is not here, or waits for nothing any more, changes nothing.
    pub fn on_durable(&mut self, number: u32) -> bool {
        let Some(&Waiting { number: first, .. }) = self.numbers.front() else { return false };
        // Numbers wrap; their distances from the first do not.
        let distance = number.wrapping_sub(first);
        let found =
            self.numbers.binary_search_by_key(&distance, |waiting| waiting.number.wrapping_sub(first));
        let Ok(at) = found else { return false };
        let waiting = &mut self.numbers[at];
        waiting.copies = waiting.copies.saturating_sub(1);
        if at > 0 || waiting.copies > 0 {
            return false;
        }
        while self.numbers.front().is_some_and(|waiting| waiting.copies == 0) {
            self.numbers.pop_front();
        }
        if self.numbers.is_empty() && self.numbers.capacity() > KEPT_NUMBERS_MAX {
            // What a burst has needed is given back; what a message now and then needs is kept.
            self.numbers = VecDeque::new();
        }
        true
    }

    /// The first that is not durable.
    pub fn first(&self) -> Option<u32> {
        self.numbers.front().map(|waiting| waiting.number)
    }

    /// How many there are, durable ones behind the first included.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether everything is durable.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_waits_for_each_of_its_copies() {
        let mut not_durable = NotDurable::default();
        for (number, copies) in [(1, 2), (2, 1), (3, 3)] {
            not_durable.push(number, copies);
        }
        // (a report, whether the first becomes durable, the first then)
        let steps = [
            (2, false, Some(1)),
            (1, false, Some(1)),
            (3, false, Some(1)),
            (9, false, Some(1)),
            (1, true, Some(3)),
            (1, false, Some(3)),
            (2, false, Some(3)),
            (3, false, Some(3)),
            (3, true, None),
            (3, false, None),
        ];
        for (at, (number, becomes, first)) in steps.into_iter().enumerate() {
            assert_eq!((not_durable.on_durable(number), not_durable.first()), (becomes, first), "step {at}");
        }
        assert!(not_durable.is_empty());
    }

    #[test]
    fn a_report_too_many_settles_nothing_behind_it() {
        let mut not_durable = NotDurable::default();
        not_durable.push(u32::MAX, 1);
        not_durable.push(0, 2);
        // The second stanza's copies, and one report more than it waits for.
        assert!(![0, 0, 0].into_iter().any(|number| not_durable.on_durable(number)));
        assert_eq!((not_durable.first(), not_durable.len()), (Some(u32::MAX), 2));
        assert!(not_durable.on_durable(u32::MAX), "both are durable now");
        assert!(not_durable.is_empty());
    }
}
