//! Medians, spreads and ratios of several rounds.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::report::{Latency, Report};

/// The name of the bare router in the table.
pub(super) const FLOOR: &str = "floor (bare router)";

/// The name of the phase in which each pair has one message under way.
pub(super) const ONE_BY_ONE: &str = "one by one";

/// The name of the phase in which half as many messages come as in that one.
pub(super) const HALF_LOAD: &str = "half load";

/// Where a figure is in a report.
type Find = fn(&Report) -> Option<f64>;

/// The figures, in the order of the table.
const FIGURES: [(&str, Find); 13] = [
    ("memory: bytes a session, anonymous", |report| memory(report, "process: anonymous")),
    ("memory: bytes a session, PSS", |report| memory(report, "process: PSS")),
    ("logins a second of server CPU", |report| match report.scenario.as_str() {
        "hold" => report.phases.last()?.figures.get("logins a second of server CPU").copied(),
        _ => None,
    }),
    ("messages a second", |report| chat(report, "chat", "delivered a second")),
    ("messages a second of server CPU", |report| chat(report, "chat", "delivered a second of server CPU")),
    ("server cores busy", |report| chat(report, "chat", "server CPU, cores busy")),
    ("latency p50, ms", |report| latency(report, "chat", |latency| latency.p50_ns)),
    ("latency p99.9, ms", |report| latency(report, "chat", |latency| latency.p999_ns)),
    ("one by one: messages a second", |report| chat(report, ONE_BY_ONE, "delivered a second")),
    ("at half load: messages a second", |report| chat(report, HALF_LOAD, "delivered a second")),
    ("at half load: latency p50, ms", |report| latency(report, HALF_LOAD, |latency| latency.p50_ns)),
    ("at half load: latency p99, ms", |report| latency(report, HALF_LOAD, |latency| latency.p99_ns)),
    ("at half load: latency p99.9, ms", |report| latency(report, HALF_LOAD, |latency| latency.p999_ns)),
];

fn memory(report: &Report, name: &str) -> Option<f64> {
    report.memory.as_ref()?.bytes_per_session.get(name).copied()
}

fn chat(report: &Report, phase: &str, name: &str) -> Option<f64> {
    report.phases.iter().find(|found| found.name == phase)?.figures.get(name).copied()
}

fn latency(report: &Report, phase: &str, quantile: fn(&Latency) -> u64) -> Option<f64> {
    let phase = report.phases.iter().find(|found| found.name == phase)?;
    Some(quantile(phase.latencies.get("message")?) as f64 / 1e6)
}

/// One figure of one server over all rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    /// The figure, with its unit.
    pub(super) figure: String,
    /// The server.
    pub(super) server: String,
    /// Half of the rounds are below.
    pub(super) median: f64,
    /// The lowest round.
    pub(super) lowest: f64,
    /// The highest round.
    pub(super) highest: f64,
    /// The median of the first server of the table, as a multiple of this one's.
    pub(super) first_over_this: f64,
}

/// The table of all runs, by figure, servers in their order of appearance.
pub(super) fn rows(runs: &[Report]) -> Vec<Row> {
    let mut servers: Vec<&str> = Vec::new();
    for run in runs {
        if !servers.contains(&run.label.as_str()) {
            servers.push(&run.label);
        }
    }
    let mut rows = Vec::new();
    for (figure, find) in FIGURES {
        let mut first = None;
        for server in &servers {
            let mut values: Vec<f64> =
                runs.iter().filter(|run| run.label == *server).filter_map(find).collect();
            values.sort_by(f64::total_cmp);
            let (Some(&lowest), Some(&highest)) = (values.first(), values.last()) else { continue };
            let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
            let of_first = *first.get_or_insert(median);
            rows.push(Row {
                figure: figure.to_owned(),
                server: (*server).to_owned(),
                median,
                lowest,
                highest,
                first_over_this: of_first / median,
            });
        }
    }
    rows
}

/// The table as text.
pub(super) fn render(rows: &[Row], rounds: u32) -> String {
    let mut out = String::new();
    let mut figure = "";
    for row in rows {
        if row.figure != figure {
            figure = &row.figure;
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{figure} (median of {rounds}, lowest to highest, first / this)");
        }
        let _ = writeln!(
            out,
            "  {:<36} {:>14.2} {:>14.2} to {:<14.2} {:>8.3}",
            row.server, row.median, row.lowest, row.highest, row.first_over_this
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Phase;

    fn run(label: &str, rate: f64) -> Report {
        let mut phase = Phase { name: "chat".into(), ..Phase::default() };
        phase.figures.insert("delivered a second".into(), rate);
        Report { label: label.into(), scenario: "chat".into(), phases: vec![phase], ..Report::default() }
    }

    #[test]
    fn medians_spreads_and_ratios_come_from_all_rounds() {
        let runs =
            [run("a", 10.0), run("b", 4.0), run("a", 30.0), run("b", 5.0), run("a", 20.0), run("b", 9.0)];
        let rows = rows(&runs);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].median, rows[0].lowest, rows[0].highest), (20.0, 10.0, 30.0));
        assert_eq!(rows[1].server, "b");
        assert!((rows[1].first_over_this - 4.0).abs() < 1e-9);
        assert!(render(&rows, 3).contains("messages a second (median of 3"));
    }
}
