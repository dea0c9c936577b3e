//! What happened between two samples.

use std::sync::Arc;

use whimbrel_stats::cell;

use crate::sample::{Kind, Sample};

/// Two samples, the earlier first.
#[derive(Clone, Copy)]
pub struct Delta<'a> {
    old: &'a Sample,
    new: &'a Sample,
    same: bool,
    seconds: f64,
}

impl<'a> Delta<'a> {
    /// Between two samples; `None` when no time has passed (the clock was set back).
    pub fn between(old: &'a Sample, new: &'a Sample) -> Option<Delta<'a>> {
        let passed = new.time_ms.checked_sub(old.time_ms).filter(|&ms| ms > 0)?;
        let same = Arc::ptr_eq(&old.schema, &new.schema) || old.schema == new.schema;
        Some(Delta { old, new, same, seconds: passed as f64 / 1000.0 })
    }

    /// The later sample.
    pub fn latest(&self) -> &'a Sample {
        self.new
    }

    /// Seconds between the two.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// The instances that a metric has, in their order.
    pub fn instances(&self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let schema = &self.new.schema;
        schema.named(name).iter().map(|&at| &*schema.series()[at].instance)
    }

    fn wanted(&self, name: &str, instance: Option<&str>) -> impl Iterator<Item = usize> {
        let schema = &self.new.schema;
        let all = schema.named(name).iter().copied();
        all.filter(move |&at| instance.is_none_or(|wanted| *schema.series()[at].instance == *wanted))
    }

    /// The same series in the earlier sample.
    fn before(&self, at: usize) -> Option<usize> {
        if self.same {
            return Some(at);
        }
        let series = &self.new.schema.series()[at];
        self.old
            .schema
            .find(&series.name, &series.instance)
            .filter(|&old| self.old.schema.series()[old].kind == series.kind)
    }

    /// How much a counter has grown, over all instances or that of one. Anything that is new counts from zero, and so does
    /// one that has started again; CPU time that falls has not grown.
    pub fn grown(&self, name: &str, instance: Option<&str>) -> Option<f64> {
        let mut sum = None;
        for at in self.wanted(name, instance) {
            let now = self.new.value(at);
            // A new disk or a server that just started: nothing is known of the time before.
            let Some(old) = self.before(at).map(|old| self.old.value(old)) else { continue };
            let grown = if falls(name) { now.saturating_sub(old) } else { growth(old, now) };
            *sum.get_or_insert(0.0) += grown as f64;
        }
        sum
    }

    /// Growth of a counter in a second.
    pub fn rate(&self, name: &str, instance: Option<&str>) -> Option<f64> {
        Some(self.grown(name, instance)? / self.seconds)
    }

    /// The sum of a gauge over instances.
    pub fn sum(&self, name: &str, instance: Option<&str>) -> Option<f64> {
        // One worker counts up and another down what moves between them: only the sum is never negative.
        let sum = |sum: Option<u64>, at| Some(sum.unwrap_or(0).wrapping_add(self.new.value(at)));
        self.wanted(name, instance).fold(None, sum).map(|sum| sum as i64 as f64)
    }

    /// The largest value over instances.
    pub fn max(&self, name: &str, instance: Option<&str>) -> Option<f64> {
        self.wanted(name, instance).map(|at| self.new.value(at)).max().map(|max| max as f64)
    }

    /// The value that a part `q` of what a histogram has counted between the samples does not exceed. `None` when
    /// it has counted nothing.
    pub fn quantile(&self, name: &str, q: f64, instance: Option<&str>) -> Option<f64> {
        let mut buckets = vec![0u64; cell::BUCKETS];
        for at in self.wanted(name, instance) {
            if self.new.schema.series()[at].kind != Kind::Histogram {
                continue;
            }
            let Some(old) = self.before(at) else { continue };
            let (old, new) = (self.old.words(old), self.new.words(at));
            for (sum, (&old, &new)) in buckets.iter_mut().zip(old[1..].iter().zip(&new[1..])) {
                *sum = sum.wrapping_add(growth(old, new));
            }
        }
        cell::quantile(&buckets, q).map(|value| value as f64)
    }

    /// One number for a metric by what it is: the rate of a counter, the sum of a gauge, the maximum of a
    /// high-water mark. `NAME:p99` is a quantile of a histogram, `NAME@INSTANCE` the metric of one instance.
    pub fn figure(&self, what: &str) -> Option<f64> {
        let (what, instance) = match what.split_once('@') {
            Some((what, instance)) => (what, Some(instance)),
            None => (what, None),
        };
        if let Some((name, part)) = what.split_once(":p") {
            return self.quantile(name, percentile(part)?, instance);
        }
        let &at = self.new.schema.named(what).first()?;
        match self.new.schema.series()[at].kind {
            Kind::Counter => self.rate(what, instance),
            Kind::Gauge => self.sum(what, instance),
            Kind::HighWater => self.max(what, instance),
            Kind::Histogram => self.quantile(what, 0.99, instance),
        }
    }
}

/// `99` is 0.99, `999` is 0.999.
pub fn percentile(digits: &str) -> Option<f64> {
    let ok = !digits.is_empty() && digits.len() <= 6 && digits.bytes().all(|b| b.is_ascii_digit());
    if !ok {
        return None;
    }
    format!("0.{digits}").parse().ok()
}

/// Whether a counter may fall without having started again: Linux corrects the times of a core now and then, that of
/// waiting for disks above all (proc(5)).
fn falls(name: &str) -> bool {
    name.starts_with("cpu.")
}

fn growth(old: u64, new: u64) -> u64 {
    new.checked_sub(old).unwrap_or(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Description, Sink};

    const JOBS: Description = Description { name: "jobs", kind: Kind::Counter, unit: "jobs", help: "." };
    const LEN: Description = Description { name: "len", kind: Kind::Gauge, unit: "jobs", help: "." };
    const TOP: Description = Description { name: "top", kind: Kind::HighWater, unit: "jobs", help: "." };

    fn sample(time_ms: u64, jobs: &[(&str, u64)], len: [u64; 2], latencies: &[(u64, u64)]) -> Sample {
        let mut sink = Sink::default();
        for (worker, value) in jobs {
            sink.put_at(&JOBS, "worker", worker, *value);
        }
        for (worker, value) in len.into_iter().enumerate() {
            sink.put_at(&LEN, "worker", &worker.to_string(), value);
            sink.put_at(&TOP, "worker", &worker.to_string(), value);
        }
        let mut words = vec![0; cell::HISTOGRAM_WORDS];
        for &(value, count) in latencies {
            words[1 + cell::bucket_of(value)] += count;
        }
        sink.words(("lat", Kind::Histogram, "us", "."), "", "", &words);
        sink.finish(time_ms)
    }

    #[test]
    fn figures_follow_the_kind() {
        let old = sample(1_000, &[("0", 100), ("1", 50)], [7, 3], &[(10, 1_000_000)]);
        let new = sample(3_000, &[("0", 140), ("1", 60)], [u64::MAX, 6], &[(10, 1_000_099), (5_000, 1)]);
        let delta = Delta::between(&old, &new).unwrap();
        assert_eq!(delta.figure("jobs"), Some(25.0));
        assert_eq!(delta.figure("jobs@1"), Some(5.0));
        assert_eq!(delta.figure("len"), Some(5.0), "minus one and six");
        assert_eq!(delta.figure("top@1"), Some(6.0));
        assert_eq!(delta.figure("lat:p50"), Some(10.0));
        assert!(delta.figure("lat:p999").unwrap() >= 5_000.0);
        assert_eq!((delta.figure("nothing"), delta.figure("lat:px")), (None, None));
        assert!(Delta::between(&new, &old).is_none());
    }

    #[test]
    fn a_counter_that_started_again_counts_from_zero_and_a_new_instance_not_at_all() {
        let old = sample(0, &[("0", 100)], [0, 0], &[]);
        let new = sample(1_000, &[("0", 30), ("1", 1_000)], [0, 0], &[]);
        assert_eq!(Delta::between(&old, &new).unwrap().figure("jobs"), Some(30.0));
    }

    #[test]
    fn time_of_a_core_that_falls_counts_as_none() {
        const WAIT: Description =
            Description { name: "cpu.iowait", kind: Kind::Counter, unit: "ms", help: "." };
        let mut sink = Sink::default();
        let mut take = |time_ms, value| {
            sink.put_at(&WAIT, "cpu", "0", value);
            sink.finish(time_ms)
        };
        let (old, new) = (take(0, 500), take(1_000, 450));
        assert_eq!(Delta::between(&old, &new).unwrap().figure("cpu.iowait"), Some(0.0));
    }
}
