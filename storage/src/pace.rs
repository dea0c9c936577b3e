//! How fast a copy is written, so that a backup leaves the disk to others.

use std::thread;
use std::time::{Duration, Instant};

/// How often a wait is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The pace of one copy, from its beginning on.
#[derive(Debug)]
pub struct Pace {
    /// Bytes a second; `None`: as fast as it goes.
    limit: Option<u64>,
    begun: Instant,
    bytes: u64,
}

impl Pace {
    /// At most so many bytes a second (at least 1), on the average since now; `None` for no limit.
    #[must_use]
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self { limit: bytes_per_second.map(|limit| limit.max(1)), begun: Instant::now(), bytes: 0 }
    }

    /// Waits after so many bytes have been written, for as long as they were too fast; no longer once `is_over`.
    pub(crate) fn wrote(&mut self, bytes: usize, is_over: &dyn Fn() -> bool) {
        let Some(limit) = self.limit else { return };
        self.bytes += bytes as u64;
        loop {
            let left = wait(self.bytes, limit, self.begun.elapsed());
            if left.is_zero() || is_over() {
                return;
            }
            thread::sleep(left.min(LOOK));
        }
    }
}

/// How long it takes until so many bytes are due.
fn wait(bytes: u64, limit: u64, elapsed: Duration) -> Duration {
    let due = Duration::from_secs(bytes / limit)
        + Duration::from_nanos(((bytes % limit) as u128 * 1_000_000_000 / u128::from(limit)) as u64);
    due.saturating_sub(elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_early_waits_until_it_is_due() {
        let second = Duration::from_secs(1);
        for (bytes, limit, elapsed, waits) in [
            (0, 100, Duration::ZERO, Duration::ZERO),
            (100, 100, Duration::ZERO, second),
            (150, 100, second, second / 2),
            (150, 100, 2 * second, Duration::ZERO),
            (3 << 40, 1 << 40, second, 2 * second),
        ] {
            assert_eq!(wait(bytes, limit, elapsed), waits, "{bytes} {limit}");
        }
    }
}
