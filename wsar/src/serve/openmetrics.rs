//! The metrics of a sample as OpenMetrics 1.0, or in Prometheus's older text format (0.0.4) for who asks for that.
//!
//! Names follow the rules of both: the server's begin with `whimbrel_`, the machine's with `system_`; dots become
//! underscores; times are in seconds and sizes in bytes, and their names end with the unit; counters end with
//! `_total`. `queue.NAME.length` becomes `whimbrel_queue_length{queue="NAME"}`, so that one rule can watch all queues,
//! and `refused.REASON` becomes `whimbrel_refused_total{reason="REASON"}`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;

use whimbrel_stats::cell;

use super::watch::Now;
use crate::collect::State;
use crate::sample::{Kind, Sample, Series};

/// How the metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's text format 0.0.4.
    Prometheus,
}

impl Format {
    /// Each of them.
    pub const ALL: [Format; 2] = [Format::OpenMetrics, Format::Prometheus];

    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// A metric family: all series of one name.
struct Family<'a> {
    name: String,
    kind: Kind,
    unit: &'static str,
    scale: f64,
    help: Cow<'a, str>,
    /// Numbers of series, and labels beside the instance.
    series: Vec<(usize, Option<(&'static str, &'a str)>)>,
}

/// What is to be written.
pub fn write(now: &Now, format: Format) -> String {
    let mut out = String::with_capacity(64 << 10);
    let up = matches!(now.server, State::Running { .. });
    head(&mut out, "whimbrel_up", "gauge", "", "1 while the server runs.");
    let _ = writeln!(out, "whimbrel_up {}", u8::from(up));
    build(&mut out, format, "wsar", env!("CARGO_PKG_VERSION"));
    if let Some(version) = version_of(&now.sample) {
        build(&mut out, format, "whimbrel", &version);
    }
    if let State::Running { started_unix_ns, .. } = now.server {
        let help = "When the server started, Unix time.";
        head(&mut out, "whimbrel_start_time_seconds", "gauge", unit(format, "seconds"), help);
        let _ = writeln!(out, "whimbrel_start_time_seconds {}", started_unix_ns as f64 / 1e9);
    }
    for family in families(now) {
        family.write(now, format, &mut out);
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

/// Build information, as OpenMetrics wants it (§5.5); Prometheus's older format has no such type.
fn build(out: &mut String, format: Format, program: &str, version: &str) {
    let (name, kind) = match format {
        Format::OpenMetrics => (format!("{program}_build"), "info"),
        Format::Prometheus => (format!("{program}_build_info"), "gauge"),
    };
    head(out, &name, kind, "", "The version that runs.");
    let _ = writeln!(out, "{program}_build_info{{version=\"{version}\"}} 1");
}

/// The version of the server that a sample tells.
pub(super) fn version_of(sample: &Sample) -> Option<String> {
    let &at = sample.schema.named("server.version").first()?;
    let version = sample.value(at);
    Some(format!("{}.{}.{}", version / 1_000_000, version / 1_000 % 1_000, version % 1_000))
}

fn unit(format: Format, unit: &'static str) -> &'static str {
    if format == Format::OpenMetrics { unit } else { "" }
}

fn head(out: &mut String, name: &str, kind: &str, unit: &str, help: &str) {
    let _ = writeln!(out, "# TYPE {name} {kind}");
    if !unit.is_empty() {
        let _ = writeln!(out, "# UNIT {name} {unit}");
    }
    let _ = writeln!(out, "# HELP {name} {}", escaped(help));
}

fn families(now: &Now) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for (number, series) in now.sample.schema.series().iter().enumerate() {
        let prefix = if number < now.server_series { "whimbrel" } else { "system" };
        let (name, label, help) = named(series);
        let (unit, scale) = base_unit(&series.unit, label.is_some());
        let mut full = format!("{prefix}_{name}");
        full = full.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        if !unit.is_empty() && !full.ends_with(unit) {
            full = format!("{full}_{unit}");
        }
        let at = *known.entry(full.clone()).or_insert_with(|| {
            families.push(Family { name: full, kind: series.kind, unit, scale, help, series: Vec::new() });
            families.len() - 1
        });
        // Two sources that give different things one name: the first keeps it.
        if families[at].kind == series.kind && families[at].unit == unit {
            families[at].series.push((number, label));
        }
    }
    families
}

/// The name without prefix and unit, a label that was in the name, and the help.
fn named(series: &Series) -> (&str, Option<(&'static str, &str)>, Cow<'_, str>) {
    if let Some(reason) = series.name.strip_prefix("refused.") {
        let help = "Refused or ended, by the limit that bit.";
        return ("refused", Some(("reason", reason)), Cow::Borrowed(help));
    }
    let queue = series.name.strip_prefix("queue.").and_then(|rest| rest.rsplit_once('.'));
    let (queue, name, help) = match queue {
        Some((queue, "length")) => (queue, "queue_length", "What waits in a queue."),
        Some((queue, "high_water")) => (queue, "queue_high_water", "The most that ever waited in a queue."),
        Some((queue, "limit")) => (queue, "queue_limit", "What may wait in a queue."),
        Some((queue, "fullest")) => {
            (queue, "queue_fullest", "What waits in the fullest of several queues of one name.")
        }
        _ => return (&series.name, None, Cow::Borrowed(&series.help)),
    };
    (name, Some(("queue", queue)), Cow::Borrowed(help))
}

/// The base unit in which a value is given, and by what it is multiplied. Anything that only counts things has none, and
/// neither have queues, of which each counts something else.
fn base_unit(unit: &str, labelled: bool) -> (&'static str, f64) {
    match unit {
        _ if labelled => ("", 1.0),
        "microseconds" => ("seconds", 1e-6),
        "milliseconds" => ("seconds", 1e-3),
        "seconds" => ("seconds", 1.0),
        "bytes" => ("bytes", 1.0),
        "hundredths" => ("", 0.01),
        _ => ("", 1.0),
    }
}

impl Family<'_> {
    fn write(&self, now: &Now, format: Format, out: &mut String) {
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge | Kind::HighWater => "gauge",
            Kind::Histogram => "histogram",
        };
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        // The older format has no families: there a counter's name is that of its only sample.
        let sample = format!("{}{total}", self.name);
        let family = if format == Format::OpenMetrics { &self.name } else { &sample };
        head(out, family, kind, unit(format, self.unit), &self.help);
        for &(number, label) in &self.series {
            let series = &now.sample.schema.series()[number];
            let instance = (!series.instance.is_empty()).then_some((&*series.key, &*series.instance));
            let labels: Vec<(&str, &str)> = label.into_iter().chain(instance).collect();
            if self.kind == Kind::Histogram {
                self.histogram(now.sample.words(number), &labels, out);
                continue;
            }
            let value = now.sample.value(number);
            let value = match self.kind {
                // A worker's part of a gauge may be below zero; only the sum is not.
                Kind::Gauge => value as i64 as f64,
                _ => value as f64,
            };
            let _ = writeln!(out, "{sample}{} {}", braces(&labels, None), scaled(value, self.scale));
        }
    }

    /// Buckets at powers of two, less one: all values are whole, and those of a bucket are up to its end.
    fn histogram(&self, words: &[u64], labels: &[(&str, &str)], out: &mut String) {
        let (sum, buckets) = (words[0], &words[1..]);
        let (mut count, mut power) = (0u64, 0u32);
        for (bucket, &n) in buckets.iter().enumerate() {
            count = count.wrapping_add(n);
            let end = cell::bucket_end(bucket);
            // The last bucket has no end.
            if end + 1 >= 1 << power && bucket + 1 < buckets.len() {
                let le = scaled(end as f64, self.scale);
                let _ = writeln!(out, "{}_bucket{} {count}", self.name, braces(labels, Some(&le)));
                power = (end + 1).ilog2() + 1;
            }
        }
        let _ = writeln!(out, "{}_bucket{} {count}", self.name, braces(labels, Some("+Inf")));
        let _ = writeln!(out, "{}_count{} {count}", self.name, braces(labels, None));
        let sum = scaled(sum as f64, self.scale);
        let _ = writeln!(out, "{}_sum{} {sum}", self.name, braces(labels, None));
    }
}

/// A value in its base unit, without the noise that binary fractions bring.
fn scaled(value: f64, scale: f64) -> String {
    match scale {
        1.0 => format!("{value}"),
        _ => format!("{}", value / (1.0 / scale).round()),
    }
}

fn braces(labels: &[(&str, &str)], le: Option<&str>) -> String {
    let pairs = labels.iter().copied().chain(le.map(|le| ("le", le)));
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

fn escaped(text: &str) -> Cow<'_, str> {
    match text.contains(['\\', '"', '\n']) {
        true => text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::delta::Delta;
    use crate::sample::{Description, Sample, Sink};
    use crate::serve::frame::Frame;

    const fn d(name: &'static str, kind: Kind, unit: &'static str) -> Description {
        Description { name, kind, unit, help: "A \"quoted\" help." }
    }

    fn sample(time_ms: u64) -> Sample {
        let mut sink = Sink::default();
        for worker in ["0", "1"] {
            sink.put_at(&d("bytes.in", Kind::Counter, "bytes"), "worker", worker, 7);
            sink.put_at(&d("loop.busy", Kind::Counter, "microseconds"), "worker", worker, 1_500_000);
            sink.put_at(&d("queue.output.length", Kind::Gauge, "bytes"), "worker", worker, u64::MAX);
            sink.put_at(&d("refused.idle", Kind::Counter, "connections"), "worker", worker, 3);
        }
        let mut words = vec![0; cell::HISTOGRAM_WORDS];
        for value in [0u64, 1, 2, 3, 1000, 1 << 40] {
            words[0] += value;
            words[1 + cell::bucket_of(value)] += 1;
        }
        let help = "How long.";
        sink.words(("loop.latency", Kind::Histogram, "microseconds", help), "worker", "0", &words);
        sink.put(&d("queue.crypto.length", Kind::Gauge, "jobs"), 4);
        sink.put_at(&d("cpu.user", Kind::Counter, "milliseconds"), "cpu", "a\"b", 250);
        sink.put(&d("load.1m", Kind::Gauge, "hundredths"), 125);
        sink.finish(time_ms)
    }

    fn text(format: Format) -> String {
        let (old, new) = (sample(1_000), sample(2_000));
        let frame = Frame::new(&Delta::between(&old, &new).unwrap(), &Arc::default());
        let server = State::Running { pid: 1, started_unix_ns: 1_500_000_000 };
        let series = new.schema.named("cpu.user")[0];
        let now = Now {
            frame,
            sample: new,
            server_series: series,
            server,
            busiest: serde_json::Value::Null,
            alerts: ().into(),
            json: axum::body::Bytes::new(),
            metrics: Default::default(),
        };
        write(&now, format)
    }

    #[test]
    fn names_units_and_values_follow_openmetrics() {
        let text = text(Format::OpenMetrics);
        for line in [
            "# TYPE whimbrel_up gauge",
            "whimbrel_up 1",
            "whimbrel_start_time_seconds 1.5",
            "# TYPE whimbrel_bytes_in_bytes counter",
            "# UNIT whimbrel_bytes_in_bytes bytes",
            "# HELP whimbrel_bytes_in_bytes A \\\"quoted\\\" help.",
            "whimbrel_bytes_in_bytes_total{worker=\"1\"} 7",
            "whimbrel_loop_busy_seconds_total{worker=\"0\"} 1.5",
            "whimbrel_queue_length{queue=\"output\",worker=\"0\"} -1",
            "whimbrel_queue_length{queue=\"crypto\"} 4",
            "whimbrel_refused_total{reason=\"idle\",worker=\"0\"} 3",
            "system_cpu_user_seconds_total{cpu=\"a\\\"b\"} 0.25",
            "system_load_1m 1.25",
            "whimbrel_loop_latency_seconds_bucket{worker=\"0\",le=\"0\"} 1",
            "whimbrel_loop_latency_seconds_bucket{worker=\"0\",le=\"0.000001\"} 2",
            "whimbrel_loop_latency_seconds_bucket{worker=\"0\",le=\"0.000003\"} 4",
            "whimbrel_loop_latency_seconds_bucket{worker=\"0\",le=\"0.001023\"} 5",
            "whimbrel_loop_latency_seconds_bucket{worker=\"0\",le=\"67.108863\"} 5",
            "whimbrel_loop_latency_seconds_bucket{worker=\"0\",le=\"+Inf\"} 6",
            "whimbrel_loop_latency_seconds_count{worker=\"0\"} 6",
        ] {
            assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let heads: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let mut unique = heads.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), heads.len(), "a family is written in one piece");
        let le: Vec<_> = text.lines().filter(|line| line.contains("_bucket")).collect();
        assert!(le.len() < 40, "{le:?}");
    }

    #[test]
    fn the_older_format_has_neither_units_nor_an_end() {
        let text = text(Format::Prometheus);
        assert!(text.contains("# TYPE whimbrel_bytes_in_bytes_total counter"), "{text}");
        assert!(!text.contains("# UNIT") && !text.contains("# EOF"), "{text}");
    }
}
