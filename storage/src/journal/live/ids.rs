//! Giving ids: `time_ms << 20 | counter`, rising over the whole journal, never twice.
//!
//! A crash may take away what was appended last, after clients have seen its ids, and the clock may stand an hour earlier
//! when the journal is opened again. So an id is given only if a record that is already durable says that ids may go so
//! far: each mark tells the *ceiling* of the ids between it and the next, which lies [`LEASE_MS`] ahead of the clock.
//! Opening goes on at the last ceiling it finds. The next mark is written when half of the time is over, also while nothing
//! is appended, so that the ids of a quiet server keep to the clock; a journal that was closed ends with a mark that leaves
//! nothing ahead, and the next run begins where it ended.

use super::super::format::message::{COUNTER_BITS, Sequence};

/// How far ahead of the clock ids may be given, and how far ahead of it a crash can put them.
const LEASE_MS: u64 = 600_000;

/// While ids are ahead of the clock: how many are allowed at once, in milliseconds' worth of them (a billion).
const ROOM_MS: u64 = 1_000;

/// See the module.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Ids {
    /// The next one, unless the clock is further.
    next: u64,
    /// Ids below this may be given.
    allowed: u64,
    /// What the newest mark allows, once it is durable up to the position.
    asked: (u64, u64),
    /// The clock, as of the last append or upkeep.
    now_ms: u64,
}

impl Ids {
    /// Of a journal in which ids below `next` were given, or may have been; nothing is allowed yet.
    pub(crate) fn starting_at(next: u64, now_ms: u64) -> Self {
        let next = next.max(1);
        Self { next, allowed: next, asked: (0, next), now_ms }
    }

    /// As they were when a checkpoint was made.
    pub(crate) fn resumed(next: u64, allowed: u64, now_ms: u64) -> Self {
        Self { next, allowed, asked: (0, allowed), now_ms }
    }

    /// Ids given were less than this.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Ids given until the next mark are less than this.
    pub(crate) fn ceiling(&self) -> u64 {
        self.asked.1
    }

    /// The clock, as far as it is known.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// What the clock says now; it may go backwards.
    pub(crate) fn set_now(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// The id of a message that is appended now. `None`: more were given than the marks on the disk allow, a billion since
    /// the last commit. `durable` tells what is durable now.
    #[inline]
    pub(crate) fn give(&mut self, time_ms: u64, durable: impl FnOnce() -> u64) -> Option<u64> {
        self.now_ms = time_ms;
        let mut id = Sequence::at(time_ms).0.max(self.next);
        if id >= self.allowed {
            self.allow(durable());
            if id >= self.allowed {
                // The mark that allows more is not durable yet.
                id = self.next;
            }
            if id >= self.allowed {
                return None;
            }
        }
        self.next = id + 1;
        Some(id)
    }

    /// Takes note of what has become durable.
    pub(crate) fn allow(&mut self, durable: u64) {
        let (position, ceiling) = self.asked;
        if position <= durable {
            self.allowed = self.allowed.max(ceiling);
        }
    }

    /// The ceiling that a mark written now is to tell. It is never lower than what is allowed already.
    pub(crate) fn ceiling_to_ask(&self) -> u64 {
        let by_clock = Sequence::at(self.now_ms.saturating_add(LEASE_MS)).0;
        by_clock.max(self.next.saturating_add(ROOM_MS << COUNTER_BITS)).max(self.asked.1)
    }

    /// A mark with this ceiling was written, and ends at this position.
    pub(crate) fn asked(&mut self, end: u64, ceiling: u64) {
        self.asked = (end, ceiling);
    }

    /// Whether it is time for another mark.
    pub(crate) fn is_due(&self) -> bool {
        let half = Sequence::at(self.now_ms.saturating_add(LEASE_MS / 2)).0;
        half.max(self.next.saturating_add((ROOM_MS / 2) << COUNTER_BITS)) >= self.asked.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ids over a journal in which every mark is durable at once.
    fn allowed(next: u64, now_ms: u64) -> Ids {
        let mut ids = Ids::starting_at(next, now_ms);
        let ceiling = ids.ceiling_to_ask();
        ids.asked(10, ceiling);
        ids.allow(10);
        ids
    }

    #[test]
    fn an_id_is_the_time_and_a_count() {
        let mut ids = allowed(0, 5_000);
        let given: Vec<u64> =
            [5_000, 5_000, 5_001].iter().map(|time| ids.give(*time, || 10).unwrap()).collect();
        assert_eq!(given, [5_000 << 20, 5_000 << 20 | 1, 5_001 << 20]);
        assert_eq!(Sequence(given[1]).time_ms(), 5_000);
    }

    #[test]
    fn ids_rise_while_the_clock_is_an_hour_back() {
        const HOUR: u64 = 3_600_000;
        let mut ids = allowed(0, 2 * HOUR);
        let before = ids.give(2 * HOUR, || 10).unwrap();
        let mut last = before;
        for step in 0..1000 {
            let id = ids.give(HOUR + step, || 10).unwrap();
            assert_eq!(id, last + 1);
            last = id;
        }
        assert_eq!(ids.give(2 * HOUR + 1, || 10), Some((2 * HOUR + 1) << 20), "the clock has caught up");
    }

    #[test]
    fn no_id_is_beyond_what_a_durable_mark_allows() {
        let mut ids = allowed(0, 1_000);
        let ceiling = ids.ceiling();
        // The disk stands still for an hour: ids fall behind the clock and do not pass the ceiling.
        for time in [1_000, 400_000, 3_600_000, 3_600_001] {
            if ids.is_due() {
                let ask = ids.ceiling_to_ask();
                ids.asked(20, ask);
            }
            assert!(ids.give(time, || 10).unwrap() < ceiling);
        }
        assert_eq!(ids.give(3_600_002, || 20), Some(3_600_002 << 20), "the mark is durable");
    }

    #[test]
    fn after_a_crash_ids_go_on_at_the_ceiling_and_a_loop_of_crashes_does_not_add_up() {
        let mut ids = allowed(0, 1_000_000);
        let given = ids.give(1_000_000, || 10).unwrap();
        for _ in 0..1000 {
            let ceiling = ids.ceiling();
            ids = allowed(ceiling, 1_000_000);
            let next = ids.give(1_000_000, || 10).unwrap();
            assert!(next > given && next >= ceiling, "above whatever was lost");
        }
        let ahead = Sequence(ids.next()).time_ms() - 1_000_000;
        assert!(ahead <= LEASE_MS + 1000 * ROOM_MS, "{ahead} ms");
    }

    #[test]
    fn a_billion_ids_without_a_commit_are_refused_not_given_twice() {
        let mut ids = allowed(0, 0);
        ids.next = ids.allowed - 1;
        assert!(ids.give(0, || 10).is_some());
        assert_eq!(ids.give(0, || 10), None);
        assert_eq!(ids.give(700_000, || 10), None);
    }
}
