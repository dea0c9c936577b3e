//! `group`: rooms (XEP-0045) of several sizes under the same load at Whimbrel, ejabberd and Prosody, and the bare fan-out of
//! `floor`, which appends each message to every connection and does nothing else.
//!
//! ```text
//!   each size: server starts ─► log in ─► join ─► leave and join again ─► closed loop ─► open loop ─► server ends
//!   many small rooms: log in ─► join all ─► one client cuts its connection, comes back and joins all at once
//!   held rooms: log in ─► make more and more ─► a second occupant enters each ─► all go, and the server is started anew
//! ```
//! Every message is checked: each occupant gets each once, and all get them in one order. Two users who are in no room talk
//! beside it, so that what a busy room does to others shows.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`wire`] | the stanzas |
//! | [`crowd`] | the clients, and what has reached them |
//! | [`talk`] | messages to a room, in a closed and in an open loop |
//! | [`rejoin`] | leaving and coming back |
//! | [`hold`] | many rooms at once, and the memory that they take |
//! | [`stage`] | one server: its start, its phases, their figures |

mod crowd;
mod hold;
mod rejoin;
mod stage;
mod talk;
pub(in crate::scenario) mod wire;

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::GroupArgs;
use crate::fleet::coordinator::interruption;
use crate::fleet::worker::raise_descriptor_limit;
use crate::floor::Router;
use crate::peers::lineup::Lineup;
use crate::peers::{Eventing, Rooms};
use crate::report::table::{self, Comparison, Figure, Row};
use crate::report::{Latency, Report};
use stage::Stage;

/// The label of the bare fan-out.
const FLOOR: &str = "floor";

/// Users beside those in the room.
const PAIR: u64 = 2;

const FIGURES: [Figure; 14] = [
    Figure::more("closed loop: deliveries a second of server CPU", |report| {
        figure(report, stage::CLOSED, stage::PER_CPU)
    }),
    Figure::more("closed loop: deliveries a second", |report| figure(report, stage::CLOSED, stage::RATE)),
    Figure::less("closed loop: one to one beside it, p99, ms", |report| {
        latency(report, stage::CLOSED, stage::BESIDE, |it| it.p99_ns)
    }),
    Figure::less("open loop: last occupant served, p50, ms", |report| {
        latency(report, stage::OPEN, stage::LAST, |it| it.p50_ns)
    }),
    Figure::less("open loop: last occupant served, p99, ms", |report| {
        latency(report, stage::OPEN, stage::LAST, |it| it.p99_ns)
    }),
    Figure::less("open loop: one to one beside it, p99, ms", |report| {
        latency(report, stage::OPEN, stage::BESIDE, |it| it.p99_ns)
    }),
    Figure::less("server CPU of leaving and joining the full room, ms", |report| {
        figure(report, stage::REJOIN, stage::CPU_EACH)
    }),
    Figure::less("joining the full room, p50, ms", |report| {
        latency(report, stage::REJOIN, stage::JOIN, |it| it.p50_ns)
    }),
    Figure::less("coming back to many rooms, p50, ms", |report| {
        latency(report, stage::RETURN, stage::JOIN, |it| it.p50_ns)
    }),
    Figure::less("server CPU of coming back to many rooms, ms", |report| {
        figure(report, stage::RETURN, stage::CPU_EACH)
    }),
    Figure::less("memory of a room with one occupant, bytes", |report| {
        figure(report, hold::HELD, hold::OF_ROOM)
    }),
    Figure::less("memory of another occupant, bytes", |report| figure(report, hold::HELD, hold::OF_OCCUPANT)),
    Figure::less("memory of a room in which nobody is, bytes", |report| {
        figure(report, hold::HELD, hold::OF_EMPTY)
    }),
    Figure::more("rooms made a second", |report| figure(report, hold::HELD, hold::MADE)),
];

fn figure(report: &Report, of: &str, name: &str) -> Option<f64> {
    report.phases.iter().find(|phase| phase.name == of)?.figures.get(name).copied()
}

/// In milliseconds.
fn latency(report: &Report, of: &str, name: &str, quantile: fn(&Latency) -> u64) -> Option<f64> {
    let phase = report.phases.iter().find(|phase| phase.name == of)?;
    Some(quantile(phase.latencies.get(name)?) as f64 / 1e6)
}

/// Runs it and prints the table.
///
/// # Errors
/// The arguments ask for what is not possible, a server is not installed or does not start, or a report cannot be written.
pub(crate) fn main(args: &GroupArgs) -> Result<ExitCode, String> {
    raise_descriptor_limit();
    let interrupted = interruption()?;
    let mut comparison = Comparison { rounds: args.rounds, ..Comparison::default() };
    let outcome = run(args, &interrupted, &mut comparison);
    comparison.table = rows(&comparison.runs);
    comparison.deliver(&args.output)?;
    outcome?;
    comparison.verdict()
}

/// A table for each kind of run, in the order in which they came.
fn rows(runs: &[Report]) -> Vec<Row> {
    let mut kinds: Vec<&str> = Vec::new();
    for run in runs {
        if !kinds.contains(&run.scenario.as_str()) {
            kinds.push(&run.scenario);
        }
    }
    let mut all = Vec::new();
    for kind in kinds {
        let of: Vec<Report> = runs.iter().filter(|run| run.scenario == kind).cloned().collect();
        all.extend(table::rows(&FIGURES, &of).into_iter().map(|mut row| {
            row.figure = format!("{kind}: {}", row.figure);
            row
        }));
    }
    all
}

fn note(args: &GroupArgs, text: &str) {
    if !args.output.quiet {
        // A closed standard error ends no run.
        let _ = writeln!(std::io::stderr(), "whimbrel-perf group: {text}");
    }
}

fn run(args: &GroupArgs, interrupted: &AtomicBool, comparison: &mut Comparison) -> Result<(), String> {
    let folder = tempfile::Builder::new()
        .prefix("whimbrel-group-")
        .tempdir()
        .map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let lineup = Lineup {
        programs: &args.programs,
        servers: &args.servers,
        variants: &args.whimbrel,
        accounts: args.accounts() + PAIR,
        archive: Some(args.archive),
        rooms: Rooms::Unlimited,
        eventing: Eventing::Off,
        what: "rooms",
    };
    let peers = lineup.prepare(folder.path())?;
    for round in 1..=args.rounds {
        for &size in &args.sizes {
            for peer in &peers {
                note(args, &format!("round {round} of {}: room of {size}: {}", args.rounds, peer.name));
                comparison.runs.push(Stage::new(args, Some(peer), interrupted).room(size));
                stop_when_asked(interrupted)?;
            }
            note(args, &format!("round {round} of {}: room of {size}: {FLOOR}", args.rounds));
            let router = Router::start(size + PAIR)?;
            comparison.runs.push(Stage::fan_out(args, &router, interrupted).room(size));
            stop_when_asked(interrupted)?;
        }
        for peer in peers.iter().filter(|_| args.rooms > 0) {
            note(
                args,
                &format!(
                    "round {round} of {}: {} rooms of {}: {}",
                    args.rounds, args.rooms, args.of, peer.name
                ),
            );
            comparison.runs.push(Stage::new(args, Some(peer), interrupted).many());
            stop_when_asked(interrupted)?;
        }
        let most = args.held().into_iter().max();
        for (peer, most) in peers.iter().filter_map(|peer| Some((peer, most?))) {
            note(args, &format!("round {round} of {}: {most} rooms are held: {}", args.rounds, peer.name));
            comparison.runs.push(Stage::new(args, Some(peer), interrupted).held());
            stop_when_asked(interrupted)?;
        }
    }
    Ok(())
}

fn stop_when_asked(interrupted: &AtomicBool) -> Result<(), String> {
    if interrupted.load(Ordering::Relaxed) {
        return Err("interrupted; the table is of the runs so far".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Phase;

    #[test]
    fn each_size_has_a_table_of_its_own() {
        let run = |scenario: &str, label: &str, rate: f64| {
            let mut phase = Phase { name: stage::CLOSED.into(), ..Phase::default() };
            phase.figures.insert(stage::RATE.into(), rate);
            Report {
                label: label.into(),
                scenario: scenario.into(),
                phases: vec![phase],
                ..Report::default()
            }
        };
        let rows =
            rows(&[run("room of 10", "a", 8.0), run("room of 100", "a", 2.0), run("room of 10", "b", 4.0)]);
        let found: Vec<_> = rows
            .iter()
            .map(|row| (row.figure.as_str(), row.server.as_str(), row.first_is_better_by))
            .collect();
        assert_eq!(
            found,
            [
                ("room of 10: closed loop: deliveries a second", "a", 1.0),
                ("room of 10: closed loop: deliveries a second", "b", 2.0),
                ("room of 100: closed loop: deliveries a second", "a", 1.0),
            ]
        );
    }
}
