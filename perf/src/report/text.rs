//! A report for the terminal.

use std::fmt::Write;

use crate::engine::counters::Counters;
use crate::report::{BEYOND_THE_KNEE, KNEE, Phase, Report, TRANSPORT};

/// The whole report.
pub(crate) fn render(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "{}{} on {}, {} cores, {:.0} GiB, {}",
        report.label,
        report.facts.get(TRANSPORT).map(|transport| format!(" over {transport}")).unwrap_or_default(),
        report.machine.cpu,
        report.machine.cores,
        report.machine.memory_bytes as f64 / (1_u64 << 30) as f64,
        report.machine.system
    );
    for phase in &report.phases {
        render_phase(phase, &mut out);
        if let Some(beyond) = report.facts.get(BEYOND_THE_KNEE).filter(|_| phase.name == KNEE) {
            let _ = writeln!(out, "    beyond it, {beyond}");
        }
    }
    if let Some(memory) = &report.memory {
        for (sessions, sample) in &memory.points {
            let _ = write!(out, "  {sessions:>8} sessions:");
            if let Some(process) = &sample.process {
                let _ = write!(
                    out,
                    " anonymous {}, PSS {}, RSS {};",
                    mib(process.anon_bytes),
                    mib(process.pss_bytes),
                    mib(process.rss_bytes)
                );
            }
            let _ = writeln!(
                out,
                " kernel: sockets {}, TCP buffers {}",
                mib(sample.kernel.sockets_bytes()),
                mib(sample.kernel.tcp_buffers_bytes)
            );
        }
        if !memory.bytes_per_session.is_empty() {
            let _ = writeln!(out, "  bytes for each session:");
        }
        for (name, bytes) in &memory.bytes_per_session {
            let _ = writeln!(out, "    {name:<38} {bytes:>10.1}");
        }
    }
    render_totals(&report.totals, &mut out);
    out
}

fn render_phase(phase: &Phase, out: &mut String) {
    let _ = writeln!(out, "{} ({:.2} s)", phase.name, phase.seconds);
    for (name, value) in &phase.figures {
        let _ = writeln!(out, "    {name:<38} {value:>12.2}");
    }
    if let Some((user, system)) = phase.server_cpu {
        let _ = writeln!(out, "    {:<38} {user:>12.2} user, {system:.2} system", "server CPU seconds");
    }
    for (name, latency) in &phase.latencies {
        let _ = writeln!(
            out,
            "    {name:<16} p50 {} p90 {} p99 {} p99.9 {} max {} (n={})",
            ms(latency.p50_ns),
            ms(latency.p90_ns),
            ms(latency.p99_ns),
            ms(latency.p999_ns),
            ms(latency.max_ns),
            latency.count
        );
    }
}

fn render_totals(totals: &Counters, out: &mut String) {
    let _ = writeln!(
        out,
        "all: {} up, {} logins, {} failed logins, {} dropped; messages: {} sent, {} acknowledged stanzas, {} \
         delivered, {} lost, {} duplicated, {} out of order, {} bounced; groups: {} sent, {} copies \
         delivered, {} lost; pings: {} sent, {} answered, {} unanswered",
        totals.ready,
        totals.logins,
        totals.login_failures_total(),
        totals.dropped,
        totals.sent,
        totals.acknowledged,
        totals.delivered,
        totals.lost,
        totals.duplicated,
        totals.out_of_order,
        totals.bounced,
        totals.group_sent,
        totals.group_delivered,
        totals.group_lost,
        totals.pings_sent,
        totals.pings_answered,
        totals.pings_unanswered,
    );
    for (what, reasons) in [("failed login", &totals.login_failures), ("dropped", &totals.dropped_by)] {
        for (reason, count) in reasons {
            let _ = writeln!(out, "  {what}: {count} x {reason}");
        }
    }
    if totals.keys_computed > 0 {
        let _ = writeln!(
            out,
            "  {} SCRAM keys had to be computed, so the login rate is the generator's; run again for the server's",
            totals.keys_computed
        );
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Milliseconds.
pub(crate) fn ms(ns: u64) -> String {
    format!("{:.3} ms", ns as f64 / 1e6)
}
