//! How fast somebody may speak: kept as the time at which all of it may be had again, so it needs no refilling.
//!
//! Time is counted in what may be said: a unit is the time in which one may be said in the long run. Three bytes of it go round in 19
//! days at ten a second; a time that is farther ahead than a burst is one that is over. So it is only for somebody who said something
//! exactly so long ago, or at another rate, that a part of a burst may look used, for the seconds in which it comes back.

/// So many times what may be said in a second may be said at once.
pub const BURST_SECONDS: u64 = 10;

/// Nothing is said faster; a burst of it is a small part of what goes round.
const PER_SECOND_MAX: u32 = 100_000;

/// Units that go round.
const ROUND: u64 = 1 << 24;

const _: () = assert!(BURST_SECONDS * PER_SECOND_MAX as u64 <= ROUND / 16);

/// One speaker's, or one room's.
#[derive(Copy, Clone, Debug, Default)]
pub struct Pace([u8; 3]);

impl Pace {
    /// Whether one more may be said at `now_ms` of any clock, where `per_second` may be in the long run and
    /// [`BURST_SECONDS`] times as many at once. Counts it then.
    pub fn take(&mut self, now_ms: u64, per_second: u32) -> bool {
        self.take_of(now_ms, per_second, 1)
    }

    /// As [`Pace::take`], where half of the burst is left to what matters more.
    pub fn take_spare(&mut self, now_ms: u64, per_second: u32) -> bool {
        self.take_of(now_ms, per_second, 2)
    }

    /// As [`Pace::take`], of the first of so many parts of a burst.
    fn take_of(&mut self, now_ms: u64, per_second: u32, parts: u64) -> bool {
        let rate = u64::from(per_second.clamp(1, PER_SECOND_MAX));
        let burst = rate * BURST_SECONDS;
        let now = now_ms.wrapping_mul(rate) / 1000;
        let [low, middle, high] = self.0;
        let full_at = u64::from(u32::from_le_bytes([low, middle, high, 0]));
        let ahead = full_at.wrapping_sub(now) % ROUND;
        let used = if ahead > burst { 0 } else { ahead };
        let may = used < burst / parts;
        if may {
            let [low, middle, high, ..] = now.wrapping_add(used + 1).to_le_bytes();
            self.0 = [low, middle, high];
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_may_be_said_at_once_and_then_the_rate() {
        let mut pace = Pace::default();
        assert_eq!((0..50).filter(|_| pace.take(0, 2)).count(), 20);
        assert!(!pace.take(499, 2) && pace.take(500, 2) && !pace.take(500, 2));
        assert_eq!((0..50).filter(|_| pace.take(3_600_000, 2)).count(), 20);
    }

    #[test]
    fn what_is_spare_leaves_half_of_a_burst() {
        let mut pace = Pace::default();
        assert_eq!((0..50).filter(|_| pace.take_spare(0, 2)).count(), 10);
        assert_eq!((0..50).filter(|_| pace.take(0, 2)).count(), 10);
        assert!(!pace.take_spare(1_000, 2) && pace.take(1_000, 2));
    }

    /// Whenever it begins, and whatever it was before, the rate is kept, and a burst comes back within its seconds.
    #[test]
    fn the_rate_is_kept_while_time_goes_round() {
        for rate in [1, 7, 10, 1000, PER_SECOND_MAX, u32::MAX] {
            let known = u64::from(rate.min(PER_SECOND_MAX));
            let round_ms = ROUND * 1000 / known;
            for start in [0, round_ms - 5_000, round_ms, 7 * round_ms - 1, 1 << 45] {
                let mut pace = Pace::default();
                // Another rate's.
                pace.take(start, 3);
                let first = start + BURST_SECONDS * 1000;
                let burst = (0..=2 * BURST_SECONDS * known).filter(|_| pace.take(first, rate)).count() as u64;
                assert!(burst >= BURST_SECONDS * known - 1, "{rate} at {start}: {burst} at once");
                let said = (0..BURST_SECONDS * 1000)
                    .map(|ms| (0..=known / 500).filter(|_| pace.take(first + ms, rate)).count() as u64)
                    .sum::<u64>();
                let expected = BURST_SECONDS * known;
                assert!(
                    said.abs_diff(expected) <= 1 + known / 500,
                    "{rate} at {start}: {said} of {expected}"
                );
            }
        }
    }
}
