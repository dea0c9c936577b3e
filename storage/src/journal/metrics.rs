//! What the log counts. Written by one thread each, read by anybody.

use std::sync::atomic::{AtomicU64, Ordering};

/// Classes of a [`Histogram`].
pub const CLASSES: usize = 32;

/// How often values of each size were seen: class `n` counts those from 2^(n-1) to below 2^n, class 0 zeros, the last
/// also all greater ones.
#[derive(Debug, Default)]
pub struct Histogram {
    classes: [AtomicU64; CLASSES],
    sum: AtomicU64,
}

impl Histogram {
    /// Counts a value.
    pub(crate) fn record(&self, value: u64) {
        let class = (64 - value.leading_zeros() as usize).min(CLASSES - 1);
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// The classes' counts.
    #[must_use]
    pub fn counts(&self) -> [u64; CLASSES] {
        std::array::from_fn(|class| self.classes[class].load(Ordering::Relaxed))
    }

    /// Sum of all values.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// A value that at least this part (0 to 1) of the values do not exceed: the end of its class. 0 without values.
    #[must_use]
    pub fn at_most(&self, part: f64) -> u64 {
        let counts = self.counts();
        let wanted = (counts.iter().sum::<u64>() as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (class, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return (1 << class) - 1;
            }
        }
        0
    }
}

/// Counters of one log.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Commits that have reached the disk.
    pub commits: AtomicU64,
    /// Commits that failed.
    pub commit_failures: AtomicU64,
    /// Microseconds from the request for a commit to its end.
    pub commit_us: Histogram,
    /// Messages in a commit.
    pub commit_messages: Histogram,
    /// Messages appended (as of the last request for a commit).
    pub messages_appended: AtomicU64,
    /// Bytes of the log's files.
    pub segment_bytes: AtomicU64,
    /// Messages that wait (as of the last call of `maintain`).
    pub messages_pending: AtomicU64,
    /// Bytes of their records.
    pub bytes_pending: AtomicU64,
    /// Users for whom something waits.
    pub users_pending: AtomicU64,
    /// Bytes copied by compaction.
    pub bytes_compacted: AtomicU64,
    /// Segments deleted.
    pub segments_deleted: AtomicU64,
    /// Times the worker had to wait for a new segment, because the spare one was not ready.
    pub segment_waits: AtomicU64,
    /// Waiting messages that could not be read back from the disk, and are lost.
    pub messages_lost: AtomicU64,
    /// Attempts to make a segment that failed.
    pub segment_failures: AtomicU64,
    /// Checkpoints written.
    pub checkpoints: AtomicU64,
    /// Checkpoints that could not be written.
    pub checkpoint_failures: AtomicU64,
}
