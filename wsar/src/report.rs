//! Reading a recording back, at the interval one wants.

use std::io;

use crate::delta::Delta;
use crate::record::Archive;
use crate::sample::Sample;

/// A hole in a recording: nothing was recorded between these times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Unix time of the last sample before it, milliseconds.
    pub from_ms: u64,
    /// Of the first after it.
    pub to_ms: u64,
}

/// Samples further apart than this, and than three intervals, have a hole between them.
const HOLE_MS: u64 = 15_000;

/// What [`each`] finds.
pub enum Found<'a> {
    /// What happened in an interval.
    Interval(Delta<'a>),
    /// Nothing is known of a time.
    Hole(Hole),
}

/// Calls `show` for each interval of `every_ms` between two times. An interval ends with the first sample at or
/// after its end; no interval reaches over a hole.
///
/// # Errors
/// A file cannot be read, or what `show` returns.
pub fn each(
    archive: &Archive,
    (from_ms, to_ms): (u64, u64),
    every_ms: u64,
    mut show: impl FnMut(Found<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut begin: Option<Sample> = None;
    let mut last_ms = 0;
    for sample in archive.iter() {
        let sample = sample?;
        if sample.time_ms < from_ms || sample.time_ms > to_ms {
            continue;
        }
        let apart = sample.time_ms.abs_diff(last_ms);
        let Some(old) = &begin else {
            last_ms = sample.time_ms;
            begin = Some(sample);
            continue;
        };
        if apart > HOLE_MS.max(every_ms.saturating_mul(3)) || sample.time_ms < last_ms {
            show(Found::Hole(Hole { from_ms: last_ms, to_ms: sample.time_ms }))?;
            last_ms = sample.time_ms;
            begin = Some(sample);
            continue;
        }
        last_ms = sample.time_ms;
        // Samples come a few milliseconds early or late.
        if sample.time_ms + every_ms.min(1_000) / 10 >= old.time_ms + every_ms {
            if let Some(delta) = Delta::between(old, &sample) {
                show(Found::Interval(delta))?;
            }
            begin = Some(sample);
        }
    }
    Ok(())
}
