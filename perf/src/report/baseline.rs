//! A run against a stored one: what has become worse by more than chance allows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use crate::cli::CompareArgs;
use crate::report::{KNEE, Report, read};

/// Where a figure was measured: the server or run, the phase, the figure.
type Place = (String, String, String);

/// What is compared of one figure.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    place: Place,
    before: f64,
    now: Option<f64>,
    /// How much worse it is, in percent of what it was; below zero it is better.
    worse_percent: f64,
    /// It is worse by more than is allowed, or gone.
    regressed: bool,
}

/// Whether more of a figure is better; `None` for those that say how much was done, not how well.
fn larger_is_better(figure: &str) -> Option<bool> {
    let has = |parts: &[&str]| parts.iter().any(|part| figure.contains(part));
    if has(&["latency", "microseconds", "MiB", "bytes", "context switches", "seconds to"]) {
        Some(false)
    } else if has(&["a second"]) {
        // What is sent at a given rate is no achievement.
        (!has(&["sent a second"])).then_some(true)
    } else {
        None
    }
}

/// Every figure of some runs, the rounds of one place together.
fn figures(reports: &[Report]) -> BTreeMap<Place, Vec<f64>> {
    let mut found: BTreeMap<Place, Vec<f64>> = BTreeMap::new();
    let mut add = |label: &str, phase: &str, figure: &str, value: f64| {
        found.entry((label.to_owned(), phase.to_owned(), figure.to_owned())).or_default().push(value);
    };
    for report in reports {
        // The steps of a search for the knee are as many as it needs; what it came to is the figure.
        let is_search = report.phases.iter().any(|phase| phase.name == KNEE);
        for phase in report.phases.iter().filter(|phase| !is_search || phase.name == KNEE) {
            for (figure, &value) in &phase.figures {
                add(&report.label, &phase.name, figure, value);
            }
            for (name, latency) in &phase.latencies {
                for (quantile, ns) in [("p50", latency.p50_ns), ("p99", latency.p99_ns)] {
                    let figure = format!("latency of a {name}, {quantile}, ms");
                    add(&report.label, &phase.name, &figure, ns as f64 / 1e6);
                }
            }
        }
        for (name, &bytes) in report.memory.iter().flat_map(|memory| &memory.bytes_per_session) {
            if name.starts_with("process: anonymous") {
                add(&report.label, "memory", "bytes a session, anonymous", bytes);
            }
        }
    }
    found
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}

fn compare(before: &[Report], now: &[Report], args: &CompareArgs) -> Vec<Line> {
    let mut now = figures(now);
    let judged = figures(before).into_iter().filter_map(|(place, values)| {
        let larger = larger_is_better(&place.2)?;
        let before = median(values);
        let now = now.remove(&place).map(median);
        let allowed = if place.2.contains("latency") { args.latency_tolerance } else { args.tolerance };
        let worse_percent = match now {
            Some(now) if larger => (before - now) / before.abs().max(f64::MIN_POSITIVE) * 100.0,
            Some(now) => (now - before) / before.abs().max(f64::MIN_POSITIVE) * 100.0,
            None => 100.0,
        };
        Some(Line { place, before, now, worse_percent, regressed: now.is_none() || worse_percent > allowed })
    });
    judged.collect()
}

fn render(lines: &[Line]) -> String {
    let mut out = String::new();
    for line in lines {
        let (label, phase, figure) = &line.place;
        let now = line.now.map_or_else(|| "gone".to_owned(), |now| format!("{now:.2}"));
        let change = match line.worse_percent {
            worse if worse > 0.0 => format!("{worse:.1}% worse"),
            better => format!("{:.1}% better", -better),
        };
        let mark = if line.regressed { "REGRESSED" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{:<78} {:>14.2} {now:>14} {change:>16} {mark}",
            format!("{label}, {phase}: {figure}"),
            line.before
        );
    }
    out
}

/// Compares and prints; a regression, or a run with problems, fails.
///
/// # Errors
/// A report cannot be read, or something is worse than allowed.
pub(crate) fn main(args: &CompareArgs) -> Result<ExitCode, String> {
    let (before, now) = (read(&args.baseline)?, read(&args.report)?);
    let lines = compare(&before, &now, args);
    if lines.is_empty() {
        return Err(format!("{} has no figure to compare with", args.baseline.display()));
    }
    // A closed standard output ends nothing: the exit code still tells.
    let _ = std::io::stdout().lock().write_all(render(&lines).as_bytes());
    if before.first().map(|report| &report.machine) != now.first().map(|report| &report.machine) {
        let _ = writeln!(
            std::io::stderr(),
            "whimbrel-perf: the two were not made on the same machine and settings"
        );
    }
    let mut problems: Vec<String> = now.iter().flat_map(|report| report.problems.clone()).collect();
    let regressed = lines.iter().filter(|line| line.regressed).count();
    if regressed > 0 {
        problems.push(format!("{regressed} of {} figures are worse than the baseline allows", lines.len()));
    }
    if problems.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(problems.join("\nwhimbrel-perf: ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Phase;

    fn run(figures: &[(&str, f64)]) -> Report {
        let figures = figures.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        let phase = Phase { name: "chat".into(), figures, ..Phase::default() };
        Report { label: "one".into(), phases: vec![phase], ..Report::default() }
    }

    fn regressed(before: &[Report], now: &[Report]) -> Vec<String> {
        let args = CompareArgs {
            baseline: "a".into(),
            report: "b".into(),
            tolerance: 10.0,
            latency_tolerance: 50.0,
        };
        let lines = compare(before, now, &args);
        lines.into_iter().filter(|line| line.regressed).map(|line| line.place.2).collect()
    }

    #[test]
    fn what_is_worse_by_more_than_allowed_is_found_whichever_way_is_worse() {
        let before =
            [run(&[("delivered a second", 100.0), ("server CPU microseconds each", 10.0), ("passes", 9.0)])];
        let slower =
            [run(&[("delivered a second", 89.0), ("server CPU microseconds each", 10.9), ("passes", 1.0)])];
        assert_eq!(regressed(&before, &slower), ["delivered a second"]);
        let dearer = [run(&[("delivered a second", 500.0), ("server CPU microseconds each", 11.1)])];
        assert_eq!(regressed(&before, &dearer), ["server CPU microseconds each"]);
        assert!(regressed(&before, &before).is_empty());
        assert_eq!(regressed(&before, &[run(&[("delivered a second", 100.0)])]).len(), 1, "a figure is gone");
    }

    #[test]
    fn rounds_are_compared_by_their_medians() {
        let rounds = |values: [f64; 3]| values.map(|value| run(&[("delivered a second", value)]));
        assert!(regressed(&rounds([90.0, 100.0, 110.0]), &rounds([20.0, 95.0, 99.0])).is_empty());
        assert_eq!(regressed(&rounds([90.0, 100.0, 110.0]), &rounds([20.0, 30.0, 99.0])).len(), 1);
    }

    #[test]
    fn of_a_search_for_the_knee_what_it_came_to_counts() {
        let search = |knee: f64, steps: &[&str]| {
            let phase = |name: &str, figure: &str, value| {
                let figures = [(figure.to_owned(), value)].into();
                Phase { name: name.into(), figures, ..Phase::default() }
            };
            let mut phases: Vec<Phase> =
                steps.iter().map(|name| phase(name, "delivered a second", 100.0)).collect();
            phases.push(phase(KNEE, "knee, events a second", knee));
            [Report { label: "one".into(), phases, ..Report::default() }]
        };
        let before = search(1500.0, &["at 1000", "at 1500", "at 2250"]);
        assert!(regressed(&before, &search(2250.0, &["at 1000"])).is_empty());
        assert_eq!(regressed(&before, &search(1000.0, &["at 1000"])), ["knee, events a second"]);
    }

    #[test]
    fn the_directions_are_those_that_the_names_say() {
        assert_eq!(larger_is_better("messages a second of server CPU"), Some(true));
        assert_eq!(larger_is_better("latency of a page, p99, ms"), Some(false));
        assert_eq!(larger_is_better("server memory after, anonymous MiB"), Some(false));
        assert_eq!(larger_is_better("presences sent a second"), None);
        assert_eq!(larger_is_better("sessions that survived"), None);
    }
}
