//! How fast a copy is written, so that a backup leaves the disk to others.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

/// How often a wait is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// The pace of one copy, from its beginning on.
pub struct Pace {
    /// Bytes a second; `None`: as fast as it goes.
    limit: Option<u64>,
    begun: Instant,
    bytes: u64,
    /// What is called after so many bytes, and how many have been written since.
    between: Option<(usize, Box<dyn FnMut() + Send>)>,
    since: usize,
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, begun, bytes, .. } = self;
        f.debug_struct("Pace")
            .field("limit", limit)
            .field("begun", begun)
            .field("bytes", bytes)
            .finish_non_exhaustive()
    }
}

impl Pace {
    /// At most so many bytes a second (at least 1), on the average since now; `None` for no limit.
    #[must_use]
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        let limit = bytes_per_second.map(|limit| limit.max(1));
        Self { limit, begun: Instant::now(), bytes: 0, between: None, since: 0 }
    }

    /// As fast as it goes, with `between` called each time that so many bytes (at least 1) have been written: a simulation lets its
    /// world go on there.
    #[must_use]
    pub fn in_pieces(bytes: usize, between: impl FnMut() + Send + 'static) -> Self {
        Self { between: Some((bytes.max(1), Box::new(between))), ..Self::new(None) }
    }

    /// Waits after so many bytes have been written, for as long as they were too fast; no longer once `is_over`.
    pub(crate) fn wrote(&mut self, bytes: usize, is_over: &dyn Fn() -> bool) {
        if let Some((piece, between)) = &mut self.between {
            self.since += bytes;
            while self.since >= *piece {
                self.since -= *piece;
                between();
            }
        }
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
    fn what_is_called_between_pieces_is_called_as_often_whatever_was_written_at_once() {
        for writes in [&[10][..], &[3, 3, 4], &[1; 10]] {
            let (called, calls) = std::sync::mpsc::channel();
            let mut pace = Pace::in_pieces(3, move || called.send(()).unwrap());
            writes.iter().for_each(|bytes| pace.wrote(*bytes, &|| false));
            drop(pace);
            assert_eq!(calls.iter().count(), 3, "{writes:?}");
        }
    }

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
