//! A sample: what all sources said at one time.
//!
//! The values are one flat list of words, and the [`Schema`] says what each of them is. Samples that have the same
//! series share their schema, so that a second sample costs its values only.

use std::collections::HashMap;
use std::sync::Arc;

pub use whimbrel_stats::{Description, Kind};

/// One metric of one instance: of one core, one disk, one worker, or of the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// Dotted name.
    pub name: Box<str>,
    /// What tells instances apart (`cpu`, `disk`, `interface`, `worker`); empty when there is one only.
    pub key: Box<str>,
    /// The instance.
    pub instance: Box<str>,
    /// Kind.
    pub kind: Kind,
    /// Unit.
    pub unit: Box<str>,
    /// One sentence.
    pub help: Box<str>,
}

/// What the values of a sample are.
#[derive(Debug, Default)]
pub struct Schema {
    series: Vec<Series>,
    starts: Vec<usize>,
    words: usize,
    by_name: HashMap<Box<str>, Vec<usize>>,
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.series == other.series
    }
}

impl Schema {
    /// The schema of a list of series.
    pub fn new(series: Vec<Series>) -> Schema {
        let mut schema = Schema::default();
        for (at, one) in series.iter().enumerate() {
            schema.starts.push(schema.words);
            schema.words += one.kind.words();
            schema.by_name.entry(one.name.clone()).or_default().push(at);
        }
        schema.series = series;
        schema
    }

    /// All series, in their order.
    pub fn series(&self) -> &[Series] {
        &self.series
    }

    /// Words of a sample.
    pub fn words(&self) -> usize {
        self.words
    }

    /// The numbers of the series with a name, one for each instance.
    pub fn named(&self, name: &str) -> &[usize] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The number of a series.
    pub fn find(&self, name: &str, instance: &str) -> Option<usize> {
        self.named(name).iter().copied().find(|&at| &*self.series[at].instance == instance)
    }
}

/// What all sources said at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When: Unix time in milliseconds.
    pub time_ms: u64,
    /// What the values are.
    pub schema: Arc<Schema>,
    /// The values.
    pub values: Vec<u64>,
}

impl Sample {
    /// The words of a series: one, or those of a histogram.
    pub fn words(&self, series: usize) -> &[u64] {
        let start = self.schema.starts[series];
        &self.values[start..start + self.schema.series[series].kind.words()]
    }

    /// The value of a series; of a histogram, the sum of what it counts.
    pub fn value(&self, series: usize) -> u64 {
        self.values[self.schema.starts[series]]
    }
}

/// Puts a sample together. Sources give it the same series in the same order each time, as a rule.
#[derive(Debug, Default)]
pub struct Sink {
    last: Arc<Schema>,
    /// Series of this sample so far, when they are not those of the last.
    changed: Option<Vec<Series>>,
    at: usize,
    values: Vec<u64>,
}

impl Sink {
    /// Adds a value of which there is one only.
    pub fn put(&mut self, what: &Description, value: u64) {
        self.put_at(what, "", "", value);
    }

    /// Adds the value of an instance; `key` says what tells instances apart.
    pub fn put_at(&mut self, what: &Description, key: &str, instance: &str, value: u64) {
        self.words((what.name, what.kind, what.unit, what.help), key, instance, &[value]);
    }

    /// Adds the words of a series: name, kind, unit and help; instance; values.
    pub fn words(
        &mut self,
        (name, kind, unit, help): (&str, Kind, &str, &str),
        key: &str,
        instance: &str,
        words: &[u64],
    ) {
        debug_assert_eq!(kind.words(), words.len(), "{name}");
        let same = |one: &Series| &*one.name == name && &*one.instance == instance && one.kind == kind;
        if self.changed.is_none() && !self.last.series.get(self.at).is_some_and(same) {
            self.changed = Some(self.last.series[..self.at].to_vec());
        }
        if let Some(series) = &mut self.changed {
            series.push(Series {
                name: name.into(),
                key: key.into(),
                instance: instance.into(),
                kind,
                unit: unit.into(),
                help: help.into(),
            });
        }
        self.at += 1;
        self.values.extend_from_slice(words);
    }

    /// How much has been added.
    pub fn mark(&self) -> (usize, usize) {
        (self.at, self.values.len())
    }

    /// Forgets what was added since a mark.
    pub fn rewind(&mut self, (at, values): (usize, usize)) {
        if let Some(series) = &mut self.changed {
            series.truncate(at);
        }
        self.at = at;
        self.values.truncate(values);
    }

    /// The finished sample; the sink is ready for the next one.
    pub fn finish(&mut self, time_ms: u64) -> Sample {
        if let Some(series) = self.changed.take() {
            self.last = Arc::new(Schema::new(series));
        } else if self.at < self.last.series.len() {
            self.last = Arc::new(Schema::new(self.last.series[..self.at].to_vec()));
        }
        self.at = 0;
        let values = std::mem::replace(&mut self.values, Vec::with_capacity(self.last.words));
        Sample { time_ms, schema: self.last.clone(), values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Description = Description { name: "a", kind: Kind::Counter, unit: "x", help: "A." };
    const B: Description = Description { name: "b", kind: Kind::Gauge, unit: "x", help: "B." };

    #[test]
    fn samples_of_the_same_series_share_a_schema_and_others_do_not() {
        let mut sink = Sink::default();
        let mut take = |instances: &[&str], b: bool| {
            for (n, instance) in instances.iter().enumerate() {
                sink.put_at(&A, "cpu", instance, n as u64);
            }
            if b {
                sink.put(&B, 9);
            }
            sink.finish(1)
        };
        let first = take(&["0", "1"], true);
        let second = take(&["0", "1"], true);
        assert!(Arc::ptr_eq(&first.schema, &second.schema));
        let third = take(&["0", "2"], true);
        assert_eq!(third.schema.find("a", "2"), Some(1));
        assert_eq!(third.value(third.schema.find("b", "").unwrap()), 9);
        let fourth = take(&["0", "2"], false);
        assert_eq!((fourth.schema.series().len(), fourth.values.len(), fourth.schema.words()), (2, 2, 2));
        assert_eq!(take(&[], false).schema.words(), 0);
    }

    #[test]
    fn what_a_failed_source_has_added_can_be_taken_back() {
        let mut sink = Sink::default();
        for failing in [false, true, true, false] {
            sink.put(&A, 1);
            let mark = sink.mark();
            sink.put(&B, 2);
            if failing {
                sink.rewind(mark);
            }
            sink.put_at(&A, "cpu", "7", 3);
            let sample = sink.finish(0);
            assert_eq!(sample.values, if failing { vec![1, 3] } else { vec![1, 2, 3] });
            assert_eq!(sample.schema.words(), sample.values.len());
            assert_eq!(sample.value(sample.schema.find("a", "7").unwrap()), 3);
        }
    }
}
