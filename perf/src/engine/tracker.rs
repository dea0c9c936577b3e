//! Accounts for every message: each flow numbers its messages, and the receiving side knows which have come.

use std::collections::BTreeSet;

/// Numbers that are remembered as missing, over all flows of a worker. Past it a gap counts as lost at once.
const MISSING_MAX: usize = 1_000_000;

/// The numbers of one session: of what it sends to its partner, and of what it gets from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Messages sent.
    pub(crate) sent: u32,
    /// The number that comes next.
    pub(crate) next: u32,
}

/// How a message has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The one that was due, or a later one.
    New,
    /// One that had been overtaken.
    OutOfOrder,
    /// It has been here before.
    Duplicate,
}

/// The gaps of all flows of a worker.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    missing: BTreeSet<(u32, u32)>,
}

impl Tracker {
    /// Enters message `number` of the flow that `receiver` gets.
    pub(crate) fn arrived(&mut self, receiver: u32, flow: &mut Flow, number: u32) -> Arrival {
        if number >= flow.next {
            for skipped in flow.next..number {
                if self.missing.len() >= MISSING_MAX {
                    break;
                }
                self.missing.insert((receiver, skipped));
            }
            flow.next = number + 1;
            Arrival::New
        } else if self.missing.remove(&(receiver, number)) {
            Arrival::OutOfOrder
        } else {
            Arrival::Duplicate
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.missing.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_of_arriving_is_told_apart() {
        use Arrival::{Duplicate, New, OutOfOrder};
        let (mut tracker, mut flow) = (Tracker::default(), Flow::default());
        for (number, expected) in [
            (0, New),
            (3, New),
            (1, OutOfOrder),
            (1, Duplicate),
            (3, Duplicate),
            (4, New),
            (2, OutOfOrder),
            (0, Duplicate),
        ] {
            assert_eq!(tracker.arrived(9, &mut flow, number), expected, "message {number}");
        }
        assert!(tracker.missing.is_empty());
    }
}
