//! The figures of `peers`, and where they are in the reports of its runs.

use crate::report::table::Figure;
use crate::report::{Latency, Report};

/// The name of the bare router in the table.
pub(super) const FLOOR: &str = "floor (bare router)";

/// The name of the phase in which each pair has one message under way.
pub(super) const ONE_BY_ONE: &str = "one by one";

/// The name of the phase in which half as many messages come as in that one.
pub(super) const HALF_LOAD: &str = "half load";

/// The figures, in the order of the table.
pub(super) const FIGURES: [Figure; 12] = [
    Figure::less("memory: bytes a session, anonymous", |report| memory(report, "process: anonymous")),
    Figure::less("memory: bytes a session, PSS", |report| memory(report, "process: PSS")),
    Figure::more("logins a second of server CPU", |report| match report.scenario.as_str() {
        "hold" => report.phases.last()?.figures.get("logins a second of server CPU").copied(),
        _ => None,
    }),
    Figure::more("messages a second", |report| chat(report, "chat", "delivered a second")),
    Figure::more("messages a second of server CPU", |report| {
        chat(report, "chat", "delivered a second of server CPU")
    }),
    Figure::less("latency p50, ms", |report| latency(report, "chat", |latency| latency.p50_ns)),
    Figure::less("latency p99.9, ms", |report| latency(report, "chat", |latency| latency.p999_ns)),
    Figure::more("one by one: messages a second", |report| chat(report, ONE_BY_ONE, "delivered a second")),
    Figure::more("at half load: messages a second", |report| chat(report, HALF_LOAD, "delivered a second")),
    Figure::less("at half load: latency p50, ms", |report| {
        latency(report, HALF_LOAD, |latency| latency.p50_ns)
    }),
    Figure::less("at half load: latency p99, ms", |report| {
        latency(report, HALF_LOAD, |latency| latency.p99_ns)
    }),
    Figure::less("at half load: latency p99.9, ms", |report| {
        latency(report, HALF_LOAD, |latency| latency.p999_ns)
    }),
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
