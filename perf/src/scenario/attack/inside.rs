//! Figures from inside Whimbrel: two histograms and two counters of its stats file.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::sample::stats::{self, BUCKETS, HALF};

/// How long a message was in the server that did not wait for its client's turn, as the two users' are and most of a flood's
/// are not, in microseconds.
const MESSAGES: &str = "messages.prompt_latency";
/// How long an iteration of a worker took, in microseconds.
const LOOP: &str = "loop.latency";

/// Work of the event loops, in the units by which the server deals out turns.
const WORK: &str = "loop.work";
/// Microseconds that the event loops spent outside waiting.
const BUSY: &str = "loop.busy";

/// The buckets of both histograms, and two counters, summed over the workers.
#[derive(Clone, Debug, Default)]
pub(in crate::scenario) struct Inside {
    messages: Vec<u64>,
    iterations: Vec<u64>,
    work: Vec<u64>,
    busy: Vec<u64>,
}

/// A quantile of what happened between two looks, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::scenario) struct Figures {
    /// Half of the values are below.
    pub(in crate::scenario) p50: f64,
    /// 99 % are.
    pub(in crate::scenario) p99: f64,
    /// All are.
    pub(in crate::scenario) max: f64,
}

impl Inside {
    /// Reads them; what is not there stays empty.
    pub(in crate::scenario) fn read(path: &Path) -> Inside {
        std::fs::read(path).ok().and_then(|bytes| Inside::of(&bytes)).unwrap_or_default()
    }

    fn of(file: &[u8]) -> Option<Inside> {
        let mut inside = Inside::default();
        stats::each(file, |metric| {
            // In front of a histogram's buckets stands the sum of its values.
            let (sum, words) = match metric.name {
                MESSAGES => (&mut inside.messages, 1..BUCKETS + 1),
                LOOP => (&mut inside.iterations, 1..BUCKETS + 1),
                WORK => (&mut inside.work, 0..1),
                BUSY => (&mut inside.busy, 0..1),
                _ => return,
            };
            *sum = words.map_while(|word| metric.sum(word)).collect();
        })?;
        Some(inside)
    }

    /// How long messages were in the server since `before`.
    pub(in crate::scenario) fn messages_since(&self, before: &Inside) -> Option<Figures> {
        since(&self.messages, &before.messages)
    }

    /// How long iterations took since `before`.
    pub(in crate::scenario) fn iterations_since(&self, before: &Inside) -> Option<Figures> {
        since(&self.iterations, &before.iterations)
    }

    /// Units of work that the server counts for a microsecond that it works: 1 where they are well chosen.
    pub(super) fn units_a_microsecond(&self) -> Option<f64> {
        let (work, busy) = (*self.work.first()?, *self.busy.first()?);
        (busy > 0).then(|| work as f64 / busy as f64)
    }

    /// Adds what happened between two looks.
    pub(super) fn add(&mut self, before: &Inside, after: &Inside) {
        for (sum, before, after) in [
            (&mut self.messages, &before.messages, &after.messages),
            (&mut self.iterations, &before.iterations, &after.iterations),
            (&mut self.work, &before.work, &after.work),
            (&mut self.busy, &before.busy, &after.busy),
        ] {
            sum.resize(after.len(), 0);
            for (index, (sum, after)) in sum.iter_mut().zip(after).enumerate() {
                *sum += after.saturating_sub(before.get(index).copied().unwrap_or(0));
            }
        }
    }
}

fn since(after: &[u64], before: &[u64]) -> Option<Figures> {
    let counts: Vec<u64> = after
        .iter()
        .enumerate()
        .map(|(index, after)| after.saturating_sub(before.get(index).copied().unwrap_or(0)))
        .collect();
    let total: u64 = counts.iter().sum();
    let at = |quantile: f64| {
        let wanted = ((total as f64 * quantile).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        counts
            .iter()
            .position(|&count| {
                seen += count;
                seen >= wanted
            })
            .map_or(0.0, bucket_end)
    };
    (total > 0).then(|| Figures { p50: at(0.5), p99: at(0.99), max: at(1.0) })
}

/// The largest value that a bucket counts.
fn bucket_end(bucket: usize) -> f64 {
    if bucket < 2 * HALF {
        return bucket as f64;
    }
    let power = bucket / HALF - 1;
    let start = ((bucket % HALF + HALF) as u64) << power;
    (start + (1 << power) - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_happened_between_two_looks() {
        let mut before = vec![0; BUCKETS];
        before[3] = 1000;
        let mut after = before.clone();
        after[7] = 98;
        after[40] = 2;
        let figures = since(&after, &before).unwrap();
        assert_eq!((figures.p50, figures.p99, figures.max), (7.0, bucket_end(40), bucket_end(40)));
        assert_eq!(since(&before, &before), None);
    }

    #[test]
    fn another_file_gives_no_figures() {
        for bytes in [&b""[..], b"WHIMSTAT", &[b"WHIMSTAT".as_slice(), &[0xff; 100]].concat()] {
            assert!(Inside::of(bytes).is_none_or(|inside| inside.messages.is_empty()));
        }
    }
}
