//! Whether rules watch anything: one whose figure does not exist would be silent for ever.
//!
//! What there is, is what the sources say now, and what docs/metrics.md lists, which is made from the server's own tables:
//! so rules can be checked where no server runs.

use std::collections::BTreeMap;

use thiserror::Error;

use super::Rule;
use super::rules::{CERTIFICATE_DAYS, REFUSED, UP, made_of};
use crate::delta::percentile;
use crate::sample::{Kind, Schema};

/// The metrics of the server that this program was built with.
const SERVER: &str = include_str!("../../../docs/metrics.md");

/// What the sources say of a server's process and data directory, on Linux.
const OF_A_SERVER: [(&str, Kind); 9] = [
    ("process.memory.resident", Kind::Gauge),
    ("process.memory.anonymous", Kind::Gauge),
    ("process.memory.files", Kind::Gauge),
    ("process.memory.swapped", Kind::Gauge),
    ("process.threads", Kind::Gauge),
    ("process.files", Kind::Gauge),
    ("process.files.limit", Kind::HighWater),
    ("data.free", Kind::Gauge),
    ("data.size", Kind::Gauge),
];

/// Metrics by name: their kinds, and the instances that there are now. None of those: nothing is known of them.
pub struct Known(BTreeMap<String, (Kind, Vec<String>)>);

/// Why a rule would be silent for ever.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum Silent {
    /// No such metric.
    #[error("there is no metric `{0}`{near}", near = meant(.1.as_deref()))]
    Metric(String, Option<String>),
    /// No such queue.
    #[error("there is no queue `{0}`{near}", near = meant(.1.as_deref()))]
    Queue(String, Option<String>),
    /// The metric is not there for this worker, core, disk or interface.
    #[error("`{0}` has no instance `{1}`; there are {2}")]
    Instance(String, String, String),
    /// A quantile of what has none.
    #[error("`{0}` is no histogram, so it has no `:p{1}`; leave that out")]
    NoQuantiles(String, String),
    /// A quantile that is none.
    #[error("`:p{0}` is no quantile; write :p50, :p99 or :p999")]
    Quantile(String),
    /// Growth of what does not grow.
    #[error("`{0}` is no counter; `mean:SUM/COUNT` divides the growth of two counters")]
    NoCounter(String),
    /// Half of a mean.
    #[error("`mean:{0}` needs two counters; write mean:SUM/COUNT")]
    Mean(String),
}

fn meant(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

impl Known {
    /// What is in a sample, and what is listed.
    pub fn new(schema: &Schema) -> Known {
        let mut known: BTreeMap<String, (Kind, Vec<String>)> = listed().collect();
        // Those of the server's process and of its disk are there only while it is.
        known.extend(OF_A_SERVER.iter().map(|(name, kind)| ((*name).to_owned(), (*kind, Vec::new()))));
        for series in schema.series() {
            let (kind, instances) =
                known.entry(series.name.to_string()).or_insert_with(|| (series.kind, Vec::new()));
            *kind = series.kind;
            if !series.key.is_empty() {
                instances.push(series.instance.to_string());
            }
        }
        Known(known)
    }

    /// Whether a rule's figures exist.
    ///
    /// # Errors
    /// Which one does not.
    pub fn check(&self, rule: &Rule) -> Result<(), Silent> {
        match rule.metric.split_once(':') {
            Some(("full", queue)) => self.queue(queue)?,
            Some(("mean", pair)) => {
                let (sum, count) = pair.split_once('/').ok_or_else(|| Silent::Mean(pair.to_owned()))?;
                for name in [sum, count] {
                    if self.metric(name)? != Kind::Counter {
                        return Err(Silent::NoCounter(name.to_owned()));
                    }
                }
            }
            _ => match made_of(&rule.metric) {
                Some(begin) if self.0.keys().any(|name| name.starts_with(begin)) => {}
                Some(begin) => return Err(Silent::Metric(begin.to_owned(), None)),
                None => self.figure(&rule.metric)?,
            },
        }
        rule.of.as_deref().map_or(Ok(()), |of| self.figure(of))
    }

    fn queue(&self, queue: &str) -> Result<(), Silent> {
        let length = |queue: &str| format!("queue.{queue}.length");
        if self.0.contains_key(&length(queue)) {
            return Ok(());
        }
        let queues = self.0.keys().filter_map(|name| name.strip_prefix("queue.")?.strip_suffix(".length"));
        Err(Silent::Queue(queue.to_owned(), nearest(queue, queues)))
    }

    /// As [`crate::delta::Delta::figure`] reads it.
    fn figure(&self, what: &str) -> Result<(), Silent> {
        let (what, instance) = match what.split_once('@') {
            Some((what, instance)) => (what, Some(instance)),
            None => (what, None),
        };
        let (name, part) = match what.split_once(":p") {
            Some((name, part)) => (name, Some(part)),
            None => (what, None),
        };
        let kind = self.metric(name)?;
        if let Some(part) = part {
            percentile(part).ok_or_else(|| Silent::Quantile(part.to_owned()))?;
            if kind != Kind::Histogram {
                return Err(Silent::NoQuantiles(name.to_owned(), part.to_owned()));
            }
        }
        let instances = &self.0[name].1;
        match instance.filter(|wanted| !instances.is_empty() && !instances.iter().any(|one| one == wanted)) {
            Some(wanted) => Err(Silent::Instance(name.to_owned(), wanted.to_owned(), instances.join(", "))),
            None => Ok(()),
        }
    }

    fn metric(&self, name: &str) -> Result<Kind, Silent> {
        let near = || nearest(name, self.0.keys().map(String::as_str).chain([UP, REFUSED, CERTIFICATE_DAYS]));
        let found = self.0.get(name).map(|(kind, _)| *kind);
        found.ok_or_else(|| Silent::Metric(name.to_owned(), near()))
    }
}

/// The name that is nearest, if one is near.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let distances = known.map(|known| (strsim::damerau_levenshtein(known, name), known));
    let (distance, near) = distances.min()?;
    (distance <= near.len().max(name.len()) / 2).then(|| near.to_owned())
}

/// The rows of the tables in docs/metrics.md.
fn listed() -> impl Iterator<Item = (String, (Kind, Vec<String>))> {
    SERVER.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let kind = match rest.split(" |").next()? {
            "counter" => Kind::Counter,
            "gauge" => Kind::Gauge,
            "high-water mark" => Kind::HighWater,
            "histogram" => Kind::Histogram,
            _ => return None,
        };
        Some((name.to_owned(), (kind, Vec::new())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Description, Sink};

    fn known() -> Known {
        let mut sink = Sink::default();
        let user = Description { name: "cpu.user", kind: Kind::Counter, unit: "x", help: "." };
        for core in ["0", "1"] {
            sink.put_at(&user, "cpu", core, 0);
        }
        Known::new(&sink.finish(0).schema)
    }

    fn check(metric: &str, of: Option<&str>) -> Result<(), String> {
        let rule = Rule {
            name: "r".into(),
            cure: None,
            metric: metric.into(),
            of: of.map(str::to_owned),
            above: Some(1.0),
            below: None,
            clear: None,
            for_ms: 0,
        };
        known().check(&rule).map_err(|silent| silent.to_string())
    }

    #[test]
    fn a_rule_whose_figure_does_not_exist_is_named_with_what_is_near() {
        for metric in [
            "loop.latency:p99",
            "loop.latency:p999@0",
            "loop.latency",
            "messages.in",
            "connections@1",
            "full:held",
            "full:output",
            "mean:log.commit_time/log.commits",
            "cpu.user",
            "cpu.user@1",
        ] {
            assert_eq!(check(metric, None), Ok(()), "{metric}");
        }
        for (metric, said) in [
            ("loop.latencyy:p99", "no metric `loop.latencyy`; did you mean `loop.latency`?"),
            ("loop.latency:99", "no metric `loop.latency:99`"),
            ("loop.latency:px", "`:px` is no quantile"),
            ("messages.in:p99", "`messages.in` is no histogram"),
            ("full:nosuchqueue", "no queue `nosuchqueue`"),
            ("full:hold", "no queue `hold`; did you mean `held`?"),
            ("mean:log.commit_time", "needs two counters"),
            ("mean:log.commit_time/connections", "`connections` is no counter"),
            ("mean:log.commit_tim/log.commits", "did you mean `log.commit_time`?"),
            ("nosuch.figure", "no metric `nosuch.figure`"),
            ("cpu.user@7", "no instance `7`; there are 0, 1"),
            ("", "no metric ``"),
        ] {
            let error = check(metric, None).expect_err(metric);
            assert!(error.contains(said), "{metric}: {error}");
        }
        assert!(check("messages.in", Some("messages.out")).is_ok());
        assert!(check("messages.in", Some("messages.outt")).unwrap_err().contains("`messages.out`"));
    }
}
