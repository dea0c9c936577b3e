//! What one kind of flood did to the victims of one server, and the table of all of them.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::report::{Latency, Phase};
use crate::scenario::attack::inside::Figures;
use crate::scenario::attack::wire::{Poured, Talk};

/// How often the latency inside the server may be that of the calm.
const INSIDE_RATIO_MAX: f64 = 5.0;

/// A calm latency inside the server below which the ratio says nothing, in microseconds: the histogram's step there is
/// as large as the value.
const INSIDE_FLOOR_US: f64 = 32.0;

/// One kind and one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    /// The server.
    pub(super) server: String,
    /// The kind.
    pub(super) kind: String,
    /// The victim's latency beside flooders that send nothing.
    pub(super) calm: Option<Latency>,
    /// The same beside the flood.
    pub(super) flooded: Option<Latency>,
    /// Inside the server, without the flood, in microseconds.
    pub(super) calm_inside: Option<Figures>,
    /// The same with it.
    pub(super) flooded_inside: Option<Figures>,
    /// The iterations of the server's workers beside the flood, in microseconds.
    pub(super) flooded_loop: Option<Figures>,
    /// Units of work that the server counted beside the flood for each microsecond that it worked.
    pub(super) units: Option<f64>,
    /// The flooders' share of the CPU that the victims are on.
    pub(super) busy: f64,
    /// The server's share of its CPU.
    #[serde(default)]
    pub(super) server_busy: f64,
    /// Stanzas of the flood that were taken.
    pub(super) stanzas: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// In so many seconds.
    pub(super) seconds: f64,
    /// Resident and anonymous memory of the server before.
    pub(super) memory_before: (u64, u64),
    /// The most of each while it lasted.
    pub(super) memory_peak: (u64, u64),
    /// Messages of the victim that did not arrive, without the flood.
    pub(super) calm_lost: u64,
    /// The same beside it.
    pub(super) lost: u64,
    /// Whether the victims' sessions are still the same.
    pub(super) survived: Result<(), String>,
    /// How long the victim's login took after the flood, in seconds, or why it was refused.
    pub(super) login: Option<Result<f64, String>>,
    /// Flooders that the server ended, by reason.
    pub(super) ended: BTreeMap<String, u64>,
    /// Why a flood was stopped.
    pub(super) stopped: Option<String>,
    /// How long the server worked on after the last flood, in seconds.
    pub(super) rest_seconds: f64,
}

impl Row {
    /// With nothing in it.
    pub(super) fn new(server: &str, kind: &str) -> Row {
        Row {
            server: server.into(),
            kind: kind.into(),
            calm: None,
            flooded: None,
            calm_inside: None,
            flooded_inside: None,
            flooded_loop: None,
            units: None,
            busy: 0.0,
            server_busy: 0.0,
            stanzas: 0,
            bytes: 0,
            seconds: 0.0,
            memory_before: (0, 0),
            memory_peak: (0, 0),
            calm_lost: 0,
            lost: 0,
            survived: Ok(()),
            login: None,
            ended: BTreeMap::new(),
            stopped: None,
            rest_seconds: 0.0,
        }
    }

    /// Adds a look at memory.
    pub(super) fn add_memory(&mut self, resident: u64, anonymous: u64) {
        let (most, most_anonymous) = self.memory_peak;
        self.memory_peak = (most.max(resident), most_anonymous.max(anonymous));
    }

    /// Adds a flood.
    pub(super) fn add_flood(&mut self, talk: &Talk, poured: &Poured, stopped: Option<String>) {
        self.stanzas += poured.stanzas;
        self.bytes += poured.bytes;
        self.seconds += poured.seconds;
        self.lost += talk.sent - talk.arrived;
        if let Some(reason) = &talk.ended {
            self.survived = Err(reason.clone());
        }
        if !matches!(self.login, Some(Err(_))) {
            self.login.clone_from(&talk.login);
        }
        for (reason, count) in &poured.ended {
            *self.ended.entry(reason.clone()).or_default() += count;
        }
        self.stopped = stopped.or(self.stopped.take());
    }

    fn grown(&self) -> u64 {
        self.memory_peak.0.saturating_sub(self.memory_before.0)
    }

    /// How many times the calm p99 the flooded one is.
    fn ratio(&self) -> Option<f64> {
        let (calm, flooded) = (self.calm.as_ref()?, self.flooded.as_ref()?);
        Some(flooded.p99_ns as f64 / calm.p99_ns.max(1) as f64)
    }

    /// The same inside the server.
    fn inside_ratio(&self) -> Option<f64> {
        let (calm, flooded) = (self.calm_inside?, self.flooded_inside?);
        Some(flooded.p99 / calm.p99.max(INSIDE_FLOOR_US))
    }

    /// What it breaks of the budget.
    pub(super) fn over(&self, p99_ms_max: f64) -> Vec<String> {
        let mut over = Vec::new();
        let name = format!("{}, {}", self.server, self.kind);
        match &self.flooded {
            Some(latency) if latency.p99_ns as f64 / 1e6 <= p99_ms_max => {}
            Some(latency) => over.push(format!(
                "{name}: p99 {} is more than {p99_ms_max} ms",
                milliseconds(latency.p99_ns as f64 / 1e6)
            )),
            None => over.push(format!("{name}: no message arrived")),
        }
        if let Some(ratio) = self.inside_ratio().filter(|ratio| *ratio > INSIDE_RATIO_MAX) {
            over.push(format!("{name}: {ratio:.1} times the calm latency inside the server"));
        }
        if self.lost > 0 {
            over.push(format!("{name}: {} messages of the victim did not arrive", self.lost));
        }
        if let Err(reason) = &self.survived {
            over.push(format!("{name}: the victim's session ended: {reason}"));
        }
        if let Some(Err(reason)) = &self.login {
            over.push(format!("{name}: the victim could not log in: {reason}"));
        }
        over
    }

    /// As two phases of a report.
    pub(super) fn phases(&self) -> Vec<Phase> {
        let phase = |name: &str, latency: &Option<Latency>, inside: Option<Figures>| {
            let mut phase =
                Phase { name: format!("{}, {name}", self.kind), seconds: self.seconds, ..Phase::default() };
            phase.latencies.extend(latency.clone().map(|latency| ("message".to_owned(), latency)));
            if let Some(inside) = inside {
                phase.figures.insert("inside the server: p50, microseconds".into(), inside.p50);
                phase.figures.insert("inside the server: p99, microseconds".into(), inside.p99);
                phase.figures.insert("inside the server: most, microseconds".into(), inside.max);
            }
            phase
        };
        let calm = phase("calm", &self.calm, self.calm_inside);
        let mut flooded = phase("flooded", &self.flooded, self.flooded_inside);
        let seconds = self.seconds.max(0.001);
        let figures = &mut flooded.figures;
        figures.insert("flood: stanzas a second".into(), self.stanzas as f64 / seconds);
        figures.insert("flood: MiB a second".into(), self.bytes as f64 / f64::from(1 << 20) / seconds);
        figures.insert("server: MiB grown".into(), self.grown() as f64 / f64::from(1 << 20));
        if let Some(units) = self.units {
            figures.insert("server: units of work a microsecond".into(), units);
        }
        if let Some(iterations) = self.flooded_loop {
            figures.insert("server: iterations, p99, microseconds".into(), iterations.p99);
            figures.insert("server: iterations, most, microseconds".into(), iterations.max);
        }
        figures.insert("victim: messages lost".into(), self.lost as f64);
        vec![calm, flooded]
    }

    fn cells(&self) -> Vec<String> {
        let three = |latency: &Option<Latency>| match latency {
            None => "-".to_owned(),
            Some(latency) => [latency.p50_ns, latency.p99_ns, latency.max_ns]
                .map(|ns| milliseconds(ns as f64 / 1e6))
                .join(" / "),
        };
        let inside = |of: fn(&Figures) -> f64| match (&self.calm_inside, &self.flooded_inside) {
            (Some(calm), Some(flooded)) => {
                format!("{} → {}", milliseconds(of(calm) / 1e3), milliseconds(of(flooded) / 1e3))
            }
            _ => "-".to_owned(),
        };
        vec![
            self.kind.clone(),
            three(&self.calm),
            three(&self.flooded),
            self.ratio().map_or("-".into(), |ratio| format!("{ratio:.1}")),
            inside(|figures| figures.p50),
            inside(|figures| figures.p99),
            self.units.map_or("-".into(), |units| format!("{units:.2}")),
            format!("{:.0}", self.stanzas as f64 / self.seconds.max(0.001)),
            format!("{:.1}", self.bytes as f64 / f64::from(1 << 20) / self.seconds.max(0.001)),
            format!("{}", self.grown() >> 20),
            self.fate(),
        ]
    }

    fn fate(&self) -> String {
        let mut parts = Vec::new();
        match &self.survived {
            Ok(()) => parts.push("lives".to_owned()),
            Err(reason) => parts.push(format!("ENDED ({reason})")),
        }
        if self.lost > 0 {
            parts.push(format!("{} lost", self.lost));
        }
        match &self.login {
            Some(Err(reason)) => parts.push(format!("no login ({reason})")),
            Some(Ok(seconds)) if *seconds > 1.0 => parts.push(format!("login {seconds:.1} s")),
            _ => {}
        }
        for (reason, count) in &self.ended {
            parts.push(format!("{count} flooders ended: {reason}"));
        }
        if self.rest_seconds >= 1.0 {
            parts.push(format!("server busy {:.0} s more", self.rest_seconds));
        }
        parts.extend(self.stopped.clone());
        parts.join("; ")
    }
}

fn milliseconds(value: f64) -> String {
    match value {
        value if value < 1.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// The table, in Markdown, a part for each server.
pub(super) fn render(rows: &[Row]) -> String {
    const HEAD: [&str; 11] = [
        "flood",
        "calm p50 / p99 / max, ms",
        "flooded p50 / p99 / max, ms",
        "p99 ratio",
        "p50 inside, ms",
        "p99 inside, ms",
        "units/us",
        "taken/s",
        "MiB/s",
        "MiB grown",
        "victim",
    ];
    let mut out = String::new();
    let mut server = "";
    for row in rows {
        if row.server != server {
            server = &row.server;
            let rule = HEAD.map(|_| "---").join(" | ");
            let _ = writeln!(out, "\n{server}\n\n| {} |\n| {rule} |", HEAD.join(" | "));
        }
        let _ = writeln!(out, "| {} |", row.cells().join(" | "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latency(p99_ms: u64) -> Option<Latency> {
        Some(Latency { count: 1, p99_ns: p99_ms * 1_000_000, ..Latency::default() })
    }

    #[test]
    fn a_budget_is_broken_by_latency_losses_and_ended_sessions() {
        let mut row = Row::new("S", "pings");
        (row.calm, row.flooded) = (latency(1), latency(9));
        assert_eq!(row.over(10.0), [""; 0]);
        row.flooded = latency(11);
        row.lost = 3;
        row.survived = Err("stream error policy-violation".into());
        row.login = Some(Err("failure not-authorized".into()));
        row.calm_inside = Some(Figures { p50: 1.0, p99: 100.0, max: 100.0 });
        row.flooded_inside = Some(Figures { p50: 1.0, p99: 501.0, max: 900.0 });
        let over = row.over(10.0);
        assert_eq!(over.len(), 5, "{over:?}");
        let table = render(&[row]);
        assert!(table.contains("ENDED (stream error policy-violation); 3 lost"), "{table}");
        assert!(table.contains("| 0.00 → 0.00 | 0.10 → 0.50 |"), "{table}");
    }
}
