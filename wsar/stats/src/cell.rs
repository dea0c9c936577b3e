//! What a block is made of.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// One counter or gauge. Only its owner writes it.
#[derive(Default, Debug)]
#[repr(transparent)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds `n`. Not atomic as a whole: a cell has a single writer.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Subtracts `n` from a gauge.
    #[inline]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// Sets a gauge.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Raises a high-water mark.
    #[inline]
    pub fn raise(&self, n: u64) {
        if n > self.get() {
            self.set(n);
        }
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Values below `2^SUB_BITS` have a bucket each; above, every power of two is cut into half as many.
pub const SUB_BITS: u32 = 5;

const HALF: usize = 1 << (SUB_BITS - 1);

/// Values from `2^VALUE_BITS` on are counted in the last bucket: in microseconds, two minutes and more.
pub const VALUE_BITS: u32 = 27;

/// Buckets of a histogram.
pub const BUCKETS: usize = (VALUE_BITS - SUB_BITS + 2) as usize * HALF;

/// Words of a histogram: the sum of all values, then the buckets.
pub const HISTOGRAM_WORDS: usize = BUCKETS + 1;

/// How often each value occurred, to within 6 %. Only its owner writes it.
///
/// The buckets are those of an hdrhistogram from 1 to `2^27 - 1` with one significant digit.
#[repr(C)]
pub struct Histogram {
    sum: Cell,
    buckets: [Cell; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { sum: Cell::default(), buckets: std::array::from_fn(|_| Cell::default()) }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram({} values, sum {})", self.get(), self.sum.get())
    }
}

impl Histogram {
    /// Counts a value.
    #[inline]
    pub fn record(&self, value: u64) {
        self.sum.add(value);
        self.buckets[bucket_of(value)].add(1);
    }

    /// Counts a value that occurred so many times.
    #[inline]
    pub fn record_many(&self, value: u64, times: u64) {
        self.sum.add(value.wrapping_mul(times));
        self.buckets[bucket_of(value)].add(times);
    }

    /// Values counted so far.
    pub fn get(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, bucket| sum.wrapping_add(bucket.get()))
    }
}

/// The bucket that counts a value.
#[inline]
pub fn bucket_of(value: u64) -> usize {
    let value = value.min((1 << VALUE_BITS) - 1);
    let power = u64::BITS - (value | ((1 << SUB_BITS) - 1)).leading_zeros() - SUB_BITS;
    (power as usize) * HALF + (value >> power) as usize
}

/// The largest value that a bucket counts, not regarding that the last one has no end.
pub fn bucket_end(bucket: usize) -> u64 {
    if bucket < 2 * HALF {
        return bucket as u64;
    }
    let power = bucket / HALF - 1;
    let start = ((bucket % HALF + HALF) as u64) << power;
    start + (1 << power) - 1
}

/// The value that `quantile` (0 to 1) of the counted values do not exceed, to within a bucket. `None` when nothing
/// was counted.
pub fn quantile(buckets: &[u64], quantile: f64) -> Option<u64> {
    let total: u64 = buckets.iter().fold(0, |sum, &n| sum.wrapping_add(n));
    if total == 0 {
        return None;
    }
    let wanted = ((total as f64 * quantile).ceil() as u64).clamp(1, total);
    let mut seen = 0u64;
    for (bucket, &n) in buckets.iter().enumerate() {
        seen = seen.wrapping_add(n);
        if seen >= wanted {
            return Some(bucket_end(bucket));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_one_another_without_gap_or_overlap() {
        let mut next = 0;
        for bucket in 0..BUCKETS {
            let end = bucket_end(bucket);
            assert_eq!((bucket_of(next), bucket_of(end)), (bucket, bucket), "from {next} to {end}");
            next = end + 1;
        }
        assert_eq!(next, 1 << VALUE_BITS);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_hdrhistogram() {
        let ours = Histogram::default();
        let mut theirs =
            hdrhistogram::Histogram::<u64>::new_with_bounds(1, (1 << VALUE_BITS) - 1, 1).unwrap();
        let mut value = 1u64;
        for n in 0..20_000u64 {
            value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(n);
            let value = (value >> 37) >> (n % 20);
            ours.record(value);
            theirs.record(value).unwrap();
        }
        let buckets: Vec<u64> = ours.buckets.iter().map(Cell::get).collect();
        for q in [0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let theirs = theirs.value_at_quantile(q);
            assert_eq!(quantile(&buckets, q), Some(theirs), "quantile {q}");
        }
        assert_eq!((ours.get(), quantile(&[0; BUCKETS], 0.5)), (20_000, None));
    }
}
