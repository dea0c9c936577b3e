//! Figures of a range of time in as many points as a chart has room for: from the frames in memory, and before those
//! from the recording.
//!
//! ```text
//! range   ├── point ──┼── point ──┼── point ──┤        at most POINTS_MAX
//! point   │ part part part part ...           │        at most PARTS of each; a recorded sample where each ends
//! ```
//! A part is what happened between two samples. A point has the mean of its parts, and the largest of them, so that a
//! short peak stays visible from any distance. Blocks of the recording between two parts are not read.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::frame::{Figure, Frame, number};
use crate::delta::Delta;
use crate::record::Archive;
use crate::record::write::files;
use crate::sample::Sample;

/// Points of an answer at most.
pub const POINTS_MAX: u64 = 2_000;

/// Figures of an answer at most.
pub const FIGURES_MAX: usize = 400;

/// Points times figures of an answer at most.
pub const VALUES_MAX: usize = 200_000;

/// Parts of a point at most.
const PARTS: u64 = 6;

/// Samples further apart than this, and than three parts, have a hole between them.
const HOLE_MS: u64 = 15_000;

/// How long an answer may take to make.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked for.
pub struct Range {
    /// Begin, Unix time in milliseconds.
    pub from_ms: u64,
    /// End.
    pub to_ms: u64,
    /// Points at most.
    pub points: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A file.
    #[error("the recording cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Too slow a disk, or too much asked of it.
    #[error("it takes more than {} seconds; ask for a shorter time or fewer figures", PATIENCE.as_secs())]
    TooSlow,
}

#[derive(Clone, Copy)]
struct Sum {
    weighted: f64,
    seconds: f64,
    max: f64,
}

const EMPTY: Sum = Sum { weighted: 0.0, seconds: 0.0, max: f64::NEG_INFINITY };

struct Points<'a> {
    range: &'a Range,
    step_ms: u64,
    /// Of each point, the time of its last part; 0 when it has none.
    times: Vec<u64>,
    /// Point by point, figure by figure.
    sums: Vec<Sum>,
    figures: usize,
}

impl Points<'_> {
    fn add(&mut self, time_ms: u64, seconds: f64, values: impl Iterator<Item = Option<f64>>) {
        if time_ms < self.range.from_ms || time_ms > self.range.to_ms {
            return;
        }
        let point = (((time_ms - self.range.from_ms) / self.step_ms) as usize).min(self.times.len() - 1);
        self.times[point] = self.times[point].max(time_ms);
        let sums = &mut self.sums[point * self.figures..][..self.figures];
        for (sum, value) in sums.iter_mut().zip(values) {
            if let Some(value) = value {
                sum.weighted += value * seconds;
                sum.seconds += seconds;
                sum.max = sum.max.max(value);
            }
        }
    }

    fn json(&self, ids: &[String]) -> Value {
        let hole_ms = HOLE_MS.max(3 * self.step_ms);
        let mut times = Vec::new();
        // Points of the answer: one of ours, or none where a line must be broken.
        let mut points: Vec<Option<usize>> = Vec::new();
        for (point, &time_ms) in self.times.iter().enumerate().filter(|(_, time_ms)| **time_ms > 0) {
            if let Some(&last) = times.last()
                && time_ms - last > hole_ms
            {
                times.push(last + 1);
                points.push(None);
            }
            times.push(time_ms);
            points.push(Some(point));
        }
        let mut series = serde_json::Map::new();
        for (figure, id) in ids.iter().enumerate() {
            let sum = |point: &Option<usize>| point.map(|point| self.sums[point * self.figures + figure]);
            let known = |point| sum(point).filter(|sum| sum.seconds > 0.0);
            let mean =
                points.iter().map(|p| known(p).map_or(Value::Null, |s| number(s.weighted / s.seconds)));
            let max = points.iter().map(|p| known(p).map_or(Value::Null, |s| number(s.max)));
            let (mean, max): (Vec<_>, Vec<_>) = (mean.collect(), max.collect());
            series.insert(id.clone(), json!({"mean": mean, "max": max}));
        }
        json!({
            "from": self.range.from_ms, "to": self.range.to_ms, "step": self.step_ms,
            "times": times, "series": series,
        })
    }
}

/// Answers from frames, and from the recording in a folder for the time before `frames_since`. Ids that name nothing
/// are answered with nothing known.
///
/// # Errors
/// See [`HistoryError`]. A folder that is not there holds nothing.
pub fn answer(
    folder: &Path,
    range: &Range,
    ids: &[String],
    (frames, frames_since): (&[Frame], Option<u64>),
) -> Result<Value, HistoryError> {
    let figures: Vec<Option<Figure<'_>>> = ids.iter().map(|id| Figure::parse(id)).collect();
    let points = range.points.clamp(1, POINTS_MAX);
    let step_ms = (range.to_ms.saturating_sub(range.from_ms) / points).max(1_000);
    let count = (range.to_ms.saturating_sub(range.from_ms) / step_ms + 1).min(POINTS_MAX + 1) as usize;
    let mut points = Points {
        range,
        step_ms,
        times: vec![0; count],
        sums: vec![EMPTY; count * figures.len()],
        figures: figures.len(),
    };
    let recorded_to = frames_since.map_or(range.to_ms, |since| since.min(range.to_ms));
    let mut troubles = Vec::new();
    if range.from_ms < recorded_to {
        match Archive::open(folder, range.from_ms, recorded_to) {
            Ok(archive) => {
                let trouble =
                    |(path, trouble): &(std::path::PathBuf, _)| format!("{}: {trouble}", path.display());
                troubles = archive.troubles().iter().take(10).map(trouble).collect();
                recorded(&archive, recorded_to, &figures, &mut points)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    for frame in frames {
        let values = figures.iter().map(|figure| frame.value(figure.as_ref()?));
        points.add(frame.time_ms, frame.seconds, values);
    }
    let mut json = points.json(ids);
    json["troubles"] = json!(troubles);
    json["since"] = json!(since(folder, frames_since));
    Ok(json)
}

/// Since when anything is known, Unix time in milliseconds: by the recording, or by what is in memory.
fn since(folder: &Path, frames_since: Option<u64>) -> Option<u64> {
    let recorded = files(folder).ok().and_then(|files| files.first().map(|(start, _)| *start));
    recorded.into_iter().chain(frames_since).min()
}

/// Adds what was recorded from the begin of the range to `to_ms`.
fn recorded(
    archive: &Archive,
    to_ms: u64,
    figures: &[Option<Figure<'_>>],
    points: &mut Points<'_>,
) -> Result<(), HistoryError> {
    let begun = Instant::now();
    let part_ms = (points.step_ms / PARTS).max(1_000);
    let hole_ms = HOLE_MS.max(3 * part_ms);
    let mut reader = Reader { archive, block: usize::MAX, samples: Vec::new() };
    let mut last: Option<Sample> = None;
    let mut next_ms = points.range.from_ms;
    while let Some(sample) = reader.at_or_after(next_ms)? {
        if sample.time_ms > to_ms {
            break;
        }
        if begun.elapsed() > PATIENCE {
            return Err(HistoryError::TooSlow);
        }
        let old = last.as_ref().filter(|old| sample.time_ms.saturating_sub(old.time_ms) <= hole_ms);
        if let Some(delta) = old.and_then(|old| Delta::between(old, &sample)) {
            let values = figures.iter().map(|figure| figure.as_ref()?.value(&delta));
            points.add(sample.time_ms, delta.seconds(), values);
        }
        // Samples come a few milliseconds early or late.
        next_ms = sample.time_ms + part_ms - part_ms.min(1_000) / 10;
        last = Some(sample);
    }
    Ok(())
}

/// Reads samples by time; keeps the block that it read last.
struct Reader<'a> {
    archive: &'a Archive,
    block: usize,
    samples: Vec<Sample>,
}

impl Reader<'_> {
    /// The first sample at or after a time.
    fn at_or_after(&mut self, time_ms: u64) -> io::Result<Option<Sample>> {
        for block in self.archive.block_at(time_ms)..self.archive.blocks() {
            if self.block != block {
                self.samples = self.archive.samples(block)?;
                self.block = block;
            }
            if let Some(sample) = self.samples.iter().find(|sample| sample.time_ms >= time_ms) {
                return Ok(Some(sample.clone()));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Bounds, Recorder};
    use crate::sample::{Description, Kind, Sink};

    const IN: Description = Description { name: "interrupts", kind: Kind::Counter, unit: "x", help: "." };
    const OPEN: Description =
        Description { name: "threads.running", kind: Kind::Gauge, unit: "x", help: "." };
    const START: u64 = 1_000_000_000;

    /// A sample each second: the counter grows by 5; the gauge is 1, and 90 at second 130. None from 200 to 300.
    fn record(folder: &Path, seconds: u64) {
        let mut recorder = Recorder::open(folder, Bounds { bytes: 1 << 20, age_ms: 1 << 40 }).unwrap();
        let mut sink = Sink::default();
        for second in (0..seconds).filter(|second| !(200..300).contains(second)) {
            sink.put(&IN, second * 5);
            sink.put(&OPEN, if second == 130 { 90 } else { 1 });
            recorder.push(&sink.finish(START + second * 1_000)).unwrap();
        }
    }

    fn ask(folder: &Path, from: u64, to: u64, points: u64) -> Value {
        let range = Range { from_ms: START + from * 1_000, to_ms: START + to * 1_000, points };
        let ids = ["interrupts.interrupts", "interrupts.running", "what.is.this"].map(str::to_owned);
        answer(folder, &range, &ids, (&[], None)).unwrap()
    }

    #[test]
    fn points_are_bounded_and_rates_and_peaks_are_right_at_any_distance() {
        let folder = tempfile::tempdir().unwrap();
        record(folder.path(), 500);
        for points in [1, 7, 100, 400, 100_000] {
            let found = ask(folder.path(), 0, 180, points);
            let of = |id: &str, what: &str| -> Vec<f64> {
                let list = found["series"][id][what].as_array().unwrap();
                list.iter().filter_map(Value::as_f64).collect()
            };
            let times = found["times"].as_array().unwrap().len() as u64;
            assert!((1..=points.min(181) + 1).contains(&times), "{times} of {points}");
            let rates = of("interrupts.interrupts", "mean");
            assert!(!rates.is_empty() && rates.iter().all(|rate| (rate - 5.0).abs() < 1e-6), "{rates:?}");
            if points >= 100 {
                let peak = of("interrupts.running", "max").into_iter().fold(0.0, f64::max);
                assert!((peak - 90.0).abs() < 1e-9, "{points}: {peak}");
            }
            assert!(of("what.is.this", "mean").is_empty());
        }
    }

    #[test]
    fn a_hole_breaks_the_line_and_nothing_is_known_outside() {
        let folder = tempfile::tempdir().unwrap();
        record(folder.path(), 500);
        let found = ask(folder.path(), 150, 350, 200);
        let rates = found["series"]["interrupts.interrupts"]["mean"].as_array().unwrap();
        assert_eq!(rates.iter().filter(|rate| rate.is_null()).count(), 1, "{rates:?}");
        assert!(rates.iter().filter_map(Value::as_f64).all(|rate| (rate - 5.0).abs() < 1e-6), "{rates:?}");
        let nothing = ask(folder.path(), 10_000, 20_000, 10);
        assert_eq!((&nothing["times"], &nothing["since"]), (&json!([]), &json!(START)));
        let nowhere = ask(&folder.path().join("none"), 0, 10, 10);
        assert_eq!((&nowhere["times"], &nowhere["since"]), (&json!([]), &Value::Null));
    }
}
