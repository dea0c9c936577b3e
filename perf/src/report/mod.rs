//! What a run ends with: text for the terminal, JSON for machines, HTML for people.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`text`] | the terminal |
//! | [`html`], [`head`] | one self-contained file, several runs compared; its top |
//! | [`chart`] | its charts, as SVG |
//! | [`baseline`] | a run against a stored one |
//! | [`merge`] | several generators as one |
//! | [`table`] | several servers and rounds: medians, spreads, ratios |

pub(crate) mod baseline;
pub(crate) mod chart;
mod head;
pub(crate) mod html;
pub(crate) mod merge;
pub(crate) mod table;
pub(crate) mod text;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::cli::{OutputArgs, ReportArgs};
use crate::engine::counters::{Counters, Latencies, Pairs};
use crate::sample::Sample;
use crate::sample::machine::Machine;

/// The fact that says what carries the streams.
pub(crate) const TRANSPORT: &str = "transport";

/// The quantiles of a latency curve.
const CURVE: [f64; 16] =
    [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999, 0.99999, 1.0];

/// The name of the phase that says what a search for the knee has come to.
pub(crate) const KNEE: &str = "knee";

/// The fact that says at which rate it ended, and why.
pub(crate) const BEYOND_THE_KNEE: &str = "beyond the knee";

/// A run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Name of the run.
    pub(crate) label: String,
    /// The scenario.
    pub(crate) scenario: String,
    /// The command line.
    pub(crate) command: Vec<String>,
    /// The version of this tool.
    pub(crate) version: String,
    /// When it began, in seconds since 1970.
    pub(crate) started_unix: u64,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// What was measured: version, commit, driver, durability, TLS and the like, as far as the run knows.
    #[serde(default)]
    pub(crate) facts: BTreeMap<String, String>,
    /// The server process, where it was found.
    pub(crate) server_pid: Option<u32>,
    /// Why the run counts as failed.
    pub(crate) problems: Vec<String>,
    /// Its parts.
    pub(crate) phases: Vec<Phase>,
    /// Memory at several counts.
    pub(crate) memory: Option<Memory>,
    /// Figures over time.
    pub(crate) timeline: Vec<Tick>,
    /// All counts of the run.
    pub(crate) totals: Counters,
}

/// A part of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Phase {
    /// Its name.
    pub(crate) name: String,
    /// The time that counted.
    pub(crate) seconds: f64,
    /// What was counted in that time.
    pub(crate) counted: Counters,
    /// What was counted from the phase's beginning until everything had arrived or was lost.
    pub(crate) whole: Counters,
    /// Latencies by name.
    pub(crate) latencies: BTreeMap<String, Latency>,
    /// CPU seconds of the server in that time: user, system.
    pub(crate) server_cpu: Option<(f64, f64)>,
    /// Context switches of the server in that time.
    pub(crate) server_switches: Option<u64>,
    /// Figures of this phase's own, by name with unit.
    pub(crate) figures: BTreeMap<String, f64>,
}

/// A latency distribution.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// Values.
    pub(crate) count: u64,
    /// Mean in nanoseconds.
    pub(crate) mean_ns: f64,
    /// Median in nanoseconds.
    pub(crate) p50_ns: u64,
    /// 90 % in nanoseconds.
    pub(crate) p90_ns: u64,
    /// 99 % in nanoseconds.
    pub(crate) p99_ns: u64,
    /// 99.9 % in nanoseconds.
    pub(crate) p999_ns: u64,
    /// The largest in nanoseconds.
    pub(crate) max_ns: u64,
    /// (quantile, nanoseconds).
    pub(crate) curve: Vec<(f64, u64)>,
    /// (nanoseconds, values), so that several can be put together.
    #[serde(default)]
    pub(crate) histogram: Pairs,
}

impl Latency {
    /// What a histogram says; `None` when it is empty.
    pub(crate) fn of(latencies: &Latencies) -> Option<Latency> {
        (latencies.len() > 0).then(|| Latency {
            count: latencies.len(),
            mean_ns: latencies.mean(),
            p50_ns: latencies.at(0.5),
            p90_ns: latencies.at(0.9),
            p99_ns: latencies.at(0.99),
            p999_ns: latencies.at(0.999),
            max_ns: latencies.max(),
            curve: CURVE.iter().map(|&quantile| (quantile, latencies.at(quantile))).collect(),
            histogram: latencies.to_pairs(),
        })
    }
}

/// Memory at several counts of sessions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// (sessions, sample), rising.
    pub(crate) points: Vec<(u64, Sample)>,
    /// Bytes for each further session, by what is counted: the least-squares slope over the points.
    pub(crate) bytes_per_session: BTreeMap<String, f64>,
}

impl Memory {
    /// Computes the slopes.
    pub(crate) fn compute(&mut self) {
        type Figure = fn(&Sample) -> Option<f64>;
        let figures: [(&str, Figure); 8] = [
            ("process: anonymous", |sample| sample.process.as_ref().map(|p| p.anon_bytes as f64)),
            ("process: PSS", |sample| sample.process.as_ref().map(|p| p.pss_bytes as f64)),
            ("process: RSS", |sample| sample.process.as_ref().map(|p| p.rss_bytes as f64)),
            ("process: page tables", |sample| sample.process.as_ref().map(|p| p.page_tables_bytes as f64)),
            ("kernel, both ends: socket slabs", |sample| {
                (!sample.kernel.caches_bytes.is_empty()).then(|| sample.kernel.sockets_bytes() as f64)
            }),
            ("kernel, machine: unreclaimable slab", |sample| {
                Some(sample.kernel.slab_unreclaimable_bytes as f64)
            }),
            ("kernel, both ends: TCP buffers", |sample| Some(sample.kernel.tcp_buffers_bytes as f64)),
            ("kernel: TCP sockets (count)", |sample| Some(sample.kernel.tcp_sockets as f64)),
        ];
        for (name, figure) in figures {
            let points: Vec<(f64, f64)> = self
                .points
                .iter()
                .filter_map(|(sessions, sample)| Some((*sessions as f64, figure(sample)?)))
                .collect();
            if let Some(slope) = slope(&points) {
                self.bytes_per_session.insert(name.to_owned(), slope);
            }
        }
    }
}

/// The least-squares slope; `None` with fewer than two different x.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let n = points.len() as f64;
    let mean_x = points.iter().map(|point| point.0).sum::<f64>() / n;
    let mean_y = points.iter().map(|point| point.1).sum::<f64>() / n;
    let square: f64 = points.iter().map(|point| (point.0 - mean_x).powi(2)).sum();
    let product: f64 = points.iter().map(|point| (point.0 - mean_x) * (point.1 - mean_y)).sum();
    (points.len() > 1 && square > 0.0).then(|| product / square)
}

/// One look at a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tick {
    /// Seconds since the run began.
    pub(crate) at_seconds: f64,
    /// Sessions up.
    pub(crate) ready: u64,
    /// Logins so far.
    pub(crate) logins: u64,
    /// Messages or presences delivered so far.
    pub(crate) delivered: u64,
    /// Anonymous memory of the server.
    pub(crate) anon_bytes: Option<u64>,
    /// CPU seconds of the server so far.
    pub(crate) cpu_seconds: Option<f64>,
}

impl Report {
    /// An empty report of a run that begins now.
    pub(crate) fn begin(scenario: &str, label: String) -> Report {
        Report {
            label,
            scenario: scenario.to_owned(),
            command: std::env::args().collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            machine: Machine::look(),
            ..Report::default()
        }
    }

    /// Prints and writes it; the exit code says whether the run succeeded.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(crate) fn deliver(&self, output: &OutputArgs) -> Result<ExitCode, String> {
        if let Some(path) = &output.json {
            let json =
                serde_json::to_vec_pretty(self).map_err(|error| format!("cannot make JSON: {error}"))?;
            if path == Path::new("-") {
                let mut out = std::io::stdout().lock();
                out.write_all(&json)
                    .and_then(|()| out.write_all(b"\n"))
                    .map_err(|error| format!("cannot write to standard output: {error}"))?;
            } else {
                write(path, &json)?;
            }
        }
        if let Some(path) = &output.html {
            write(path, html::page(&[], "", std::slice::from_ref(self)).as_bytes())?;
        }
        if output.json.as_deref() != Some(Path::new("-")) {
            // A closed standard output ends nothing: the exit code still tells.
            let _ = std::io::stdout().lock().write_all(text::render(self).as_bytes());
        }
        for problem in &self.problems {
            let _ = writeln!(std::io::stderr(), "whimbrel-perf: {problem}");
        }
        Ok(if self.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Writes one HTML file that compares earlier runs.
///
/// # Errors
/// A file cannot be read or written.
pub(crate) fn compare(args: &ReportArgs) -> Result<ExitCode, String> {
    let (mut reports, mut rows) = (Vec::new(), Vec::new());
    for path in &args.reports {
        reports.extend(read(path)?);
        rows.extend(table(path)?);
    }
    write(&args.html, html::page(&rows, "", &reports).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The runs of a report file.
///
/// # Errors
/// It cannot be read, or is something else.
pub(crate) fn read(path: &Path) -> Result<Vec<Report>, String> {
    let json = fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    runs(&json).map_err(|error| format!("{} is not a report of whimbrel-perf: {error}", path.display()))
}

/// The table of a comparison's report file; empty where it is another report.
fn table(path: &Path) -> Result<Vec<table::Row>, String> {
    let json = fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let report: serde_json::Value = serde_json::from_slice(&json).unwrap_or_default();
    // What `attack` calls its table has other columns.
    Ok(report.get("table").and_then(|rows| serde_json::from_value(rows.clone()).ok()).unwrap_or_default())
}

/// The runs of a report: its own, or those that `peers` has compared.
fn runs(json: &[u8]) -> serde_json::Result<Vec<Report>> {
    let mut report: serde_json::Value = serde_json::from_slice(json)?;
    match report.get_mut("runs") {
        Some(runs) => serde_json::from_value(runs.take()),
        None => serde_json::from_value(report).map(|report| vec![report]),
    }
}

/// Writes a file, whole or not at all as far as the reader is concerned.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_run_or_those_of_a_comparison() {
        let one = Report { label: "one".into(), ..Report::default() };
        let labels = |json: &serde_json::Value| -> Vec<String> {
            let runs = runs(json.to_string().as_bytes()).expect("it is a report");
            runs.into_iter().map(|run| run.label).collect()
        };
        assert_eq!(labels(&serde_json::json!(one)), ["one"]);
        assert_eq!(
            labels(&serde_json::json!({"rounds": 1, "table": [], "runs": [one, one]})),
            ["one", "one"]
        );
        assert!(runs(b"{\"sessions\": 1}").is_err());
    }

    #[test]
    fn the_slope_ignores_what_is_there_without_sessions() {
        let points: Vec<_> = [1.0, 2.0, 5.0].iter().map(|&x| (x, 1_000.0 + 512.0 * x)).collect();
        assert!((slope(&points).unwrap() - 512.0).abs() < 1e-9);
        assert_eq!(slope(&points[..1]), None);
        assert_eq!(slope(&[(1.0, 2.0), (1.0, 3.0)]), None);
    }
}
