//! Reports of several generators that ran at the same time against one server, as one.
//!
//! Counts and rates add up, and so do messages for a second of the server's CPU, since each generator saw the CPU that all
//! of them together cost. What such a second costs each is the other way round. Latencies are put together from
//! their histograms, not from their percentiles.

use std::collections::BTreeMap;
use std::process::ExitCode;

use crate::cli::MergeArgs;
use crate::engine::counters::Latencies;
use crate::report::{Latency, Memory, Phase, Report, Tick, read};

/// Merges the reports and delivers the one that comes of it.
///
/// # Errors
/// A file is no report of one run, or the runs are not of one kind.
pub(crate) fn main(args: &MergeArgs) -> Result<ExitCode, String> {
    let mut reports = Vec::new();
    for path in &args.reports {
        let mut runs = read(path)?;
        match (runs.pop(), runs.is_empty()) {
            (Some(run), true) => reports.push(run),
            _ => return Err(format!("{} is a comparison, not the report of one run", path.display())),
        }
    }
    let mut merged = merge(&reports)?;
    if let Some(label) = &args.output.label {
        merged.label.clone_from(label);
    }
    merged.deliver(&args.output)
}

/// One report of all.
fn merge(reports: &[Report]) -> Result<Report, String> {
    let [first, others @ ..] = reports else { return Err("there is nothing to merge".into()) };
    let names = |report: &Report| report.phases.iter().map(|phase| phase.name.clone()).collect::<Vec<_>>();
    for (number, other) in others.iter().enumerate() {
        // Logins are to different numbers of sessions; the phases are the same all the same.
        if other.scenario != first.scenario || other.phases.len() != first.phases.len() {
            return Err(format!(
                "report {} is of another run: {} {:?} instead of {} {:?}",
                number + 2,
                other.scenario,
                names(other),
                first.scenario,
                names(first)
            ));
        }
    }
    let mut merged = first.clone();
    merged.facts.insert("generators".into(), reports.len().to_string());
    merged.problems = problems(reports);
    merged.phases = (0..first.phases.len())
        .map(|index| phase(&reports.iter().map(|report| &report.phases[index]).collect::<Vec<_>>()))
        .collect();
    merged.memory = memory(reports);
    merged.timeline = timeline(reports);
    for other in others {
        merged.totals.add(&other.totals);
    }
    let starts = || reports.iter().map(|report| report.started_unix);
    let spread = starts().max().unwrap_or(0) - starts().min().unwrap_or(0);
    if spread > 1 {
        merged.problems.push(format!(
            "the generators began {spread} s apart, so their loads did not add up: start them with --start-at"
        ));
    }
    Ok(merged)
}

fn problems(reports: &[Report]) -> Vec<String> {
    let of = |(number, report): (usize, &Report)| -> Vec<String> {
        report.problems.iter().map(|problem| format!("generator {}: {problem}", number + 1)).collect()
    };
    reports.iter().enumerate().flat_map(of).collect()
}

fn phase(parts: &[&Phase]) -> Phase {
    let mut merged = parts[0].clone();
    for part in &parts[1..] {
        merged.seconds = merged.seconds.max(part.seconds);
        merged.counted.add(&part.counted);
        merged.whole.add(&part.whole);
        // One server: whoever could read its figures has them for all.
        merged.server_cpu = merged.server_cpu.or(part.server_cpu);
        merged.server_switches = merged.server_switches.or(part.server_switches);
    }
    merged.latencies = latencies(parts);
    let names = parts.iter().flat_map(|part| part.figures.keys());
    merged.figures = names
        .map(|name| {
            let values: Vec<f64> = parts.iter().filter_map(|part| part.figures.get(name)).copied().collect();
            (name.clone(), figure(name, &values))
        })
        .collect();
    merged
}

/// What a figure of all generators is, given those of each.
fn figure(name: &str, values: &[f64]) -> f64 {
    if name.contains("a second") || name.starts_with("sessions that") {
        values.iter().sum()
    } else if name.ends_with("each") {
        let inverse: f64 = values.iter().filter(|value| **value > 0.0).map(|value| value.recip()).sum();
        if inverse > 0.0 { inverse.recip() } else { 0.0 }
    } else if name.starts_with("seconds") {
        values.iter().copied().fold(0.0, f64::max)
    } else {
        values.iter().sum::<f64>() / values.len().max(1) as f64
    }
}

fn latencies(parts: &[&Phase]) -> BTreeMap<String, Latency> {
    let mut sums: BTreeMap<&String, Latencies> = BTreeMap::new();
    for (name, latency) in parts.iter().flat_map(|part| &part.latencies) {
        sums.entry(name).or_default().add_pairs(&latency.histogram);
    }
    sums.into_iter().filter_map(|(name, sum)| Some((name.clone(), Latency::of(&sum)?))).collect()
}

/// Sessions of all, with what one generator has seen of the server.
fn memory(reports: &[Report]) -> Option<Memory> {
    let parts: Vec<&Memory> = reports.iter().filter_map(|report| report.memory.as_ref()).collect();
    let points = parts.iter().map(|part| part.points.len()).min()?;
    let mut merged = Memory::default();
    for index in 0..points {
        let sessions = parts.iter().map(|part| part.points[index].0).sum();
        let seen = parts.iter().find(|part| part.points[index].1.process.is_some()).unwrap_or(&parts[0]);
        merged.points.push((sessions, seen.points[index].1.clone()));
    }
    merged.compute();
    Some(merged)
}

fn timeline(reports: &[Report]) -> Vec<Tick> {
    let ticks = reports.iter().map(|report| report.timeline.len()).min().unwrap_or(0);
    (0..ticks)
        .map(|index| {
            let parts: Vec<&Tick> = reports.iter().map(|report| &report.timeline[index]).collect();
            Tick {
                at_seconds: parts[0].at_seconds,
                ready: parts.iter().map(|tick| tick.ready).sum(),
                logins: parts.iter().map(|tick| tick.logins).sum(),
                delivered: parts.iter().map(|tick| tick.delivered).sum(),
                anon_bytes: parts.iter().find_map(|tick| tick.anon_bytes),
                cpu_seconds: parts.iter().find_map(|tick| tick.cpu_seconds),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::counters::Counters;

    fn generator(latencies_ms: std::ops::Range<u64>, delivered: u64, cpu: f64) -> Report {
        let mut times = Latencies::default();
        latencies_ms.for_each(|ms| times.record(ms * 1_000_000));
        let counted = Counters { delivered, ..Counters::default() };
        let mut phase =
            Phase { name: "chat".into(), seconds: 10.0, counted: counted.clone(), ..Phase::default() };
        phase.latencies.extend(Latency::of(&times).map(|latency| ("message".to_owned(), latency)));
        phase.figures.insert("delivered a second".into(), delivered as f64 / 10.0);
        phase.figures.insert("delivered a second of server CPU".into(), delivered as f64 / cpu);
        phase.figures.insert("server CPU microseconds each".into(), cpu * 1e6 / delivered as f64);
        phase.figures.insert("server CPU, cores busy".into(), cpu / 10.0);
        Report { scenario: "chat".into(), phases: vec![phase], totals: counted, ..Report::default() }
    }

    #[test]
    fn two_generators_are_one_load_on_one_server() {
        // Both saw the same four seconds of the server's CPU.
        let merged = merge(&[generator(1..101, 3000, 4.0), generator(101..201, 1000, 4.0)]).unwrap();
        let phase = &merged.phases[0];
        assert_eq!((phase.counted.delivered, merged.totals.delivered), (4000, 4000));
        let near = |name: &str, expected: f64| {
            let value = phase.figures[name];
            assert!((value - expected).abs() < expected * 1e-9, "{name}: {value}");
        };
        near("delivered a second", 400.0);
        near("delivered a second of server CPU", 1000.0);
        near("server CPU microseconds each", 1000.0);
        near("server CPU, cores busy", 0.4);
        let latency = &phase.latencies["message"];
        assert_eq!(latency.count, 200);
        assert!((latency.p50_ns as f64 / 1e8 - 1.0).abs() < 0.01, "the median of both: {}", latency.p50_ns);
        assert!(latency.max_ns >= 200_000_000);
        assert_eq!(merged.facts["generators"], "2");
        assert!(merged.problems.is_empty());
    }

    #[test]
    fn what_does_not_belong_together_is_not_put_together() {
        let mut late = generator(1..3, 10, 1.0);
        late.started_unix = 5;
        late.problems.push("3 messages were lost".into());
        let merged = merge(&[generator(1..3, 10, 1.0), late.clone()]).unwrap();
        assert_eq!(merged.problems[0], "generator 2: 3 messages were lost");
        assert!(merged.problems[1].contains("5 s apart"));
        late.scenario = "hold".into();
        assert!(merge(&[generator(1..3, 10, 1.0), late]).unwrap_err().contains("another run"));
        assert!(merge(&[]).is_err());
    }
}
