//! The high-water mark of a queue that several threads fill.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Length, most that ever waited, limit.
pub type Gauge = (u64, u64, u64);

/// The most that ever waited in a queue.
#[derive(Default, Debug)]
pub struct HighWater(AtomicUsize);

impl HighWater {
    /// Notes a length that was seen.
    pub fn raise(&self, length: usize) {
        // A locked instruction only when there is something to note.
        if length > self.0.load(Ordering::Relaxed) {
            self.0.fetch_max(length, Ordering::Relaxed);
        }
    }

    /// The most that was seen.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// The mark with the length now and the limit.
    pub fn gauge(&self, length: usize, limit: usize) -> Gauge {
        (length as u64, self.get() as u64, limit as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_only_rises() {
        let mark = HighWater::default();
        for length in [3, 1, 7, 2] {
            mark.raise(length);
        }
        assert_eq!(mark.gauge(2, 10), (2, 7, 10));
    }
}
