//! How fast somebody may speak: kept as the time at which all of it may be had again, so it needs no refilling.

/// Microseconds of a second.
const SECOND_US: u64 = 1_000_000;

/// So many times what may be said in a second may be said at once.
pub const BURST_SECONDS: u64 = 10;

/// One speaker's, or one room's.
#[derive(Copy, Clone, Debug, Default)]
pub struct Pace(u64);

impl Pace {
    /// Whether one more may be said at `now_ms` of any clock, where `per_second` may be in the long run and
    /// [`BURST_SECONDS`] times as many at once. Counts it then.
    pub fn take(&mut self, now_ms: u64, per_second: u32) -> bool {
        self.take_of(now_ms, per_second, BURST_SECONDS * SECOND_US)
    }

    /// As [`Pace::take`], where half of the burst is left to what matters more.
    pub fn take_spare(&mut self, now_ms: u64, per_second: u32) -> bool {
        self.take_of(now_ms, per_second, BURST_SECONDS * SECOND_US / 2)
    }

    fn take_of(&mut self, now_ms: u64, per_second: u32, burst_us: u64) -> bool {
        let now_us = now_ms * 1000;
        let after = self.0.max(now_us) + SECOND_US / u64::from(per_second.max(1));
        let may = after <= now_us + burst_us;
        if may {
            self.0 = after;
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
}
