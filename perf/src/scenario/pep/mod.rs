//! `pep`: an account publishes to a node (XEP-0163) of which all its contacts want to hear, then to a node of the publish-subscribe
//! service (XEP-0060) to which all have subscribed; then a client of an account with many nodes comes online and gets their last
//! items. Whimbrel, ejabberd and Prosody alike.
//!
//! ```text
//!   each round, each server: start ─► contacts subscribe, announce what they want ─► publish, twice ─► log in ─► end
//! ```
//! Each contact must hear of every publication once and in order. The next is sent when all have heard of the last.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`wire`] | what is said and heard |
//! | [`crowd`] | the publisher and its contacts |
//! | [`stage`] | one server: its start, its phases, their figures |

mod crowd;
mod stage;
mod wire;

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::PepArgs;
use crate::fleet::coordinator::interruption;
use crate::fleet::worker::raise_descriptor_limit;
use crate::peers::lineup::Lineup;
use crate::peers::{Eventing, Peer, Rooms};
use crate::report::table::{self, Comparison, Figure};
use crate::report::{Latency, Phase, Report};
use stage::{LOGIN, NODE, PUBLISH, Stage};

/// The figures, in the order of the table.
const FIGURES: [Figure; 10] = [
    Figure::more("publish: deliveries a second of server CPU", |report| {
        figure(report, PUBLISH, stage::PER_CPU)
    }),
    Figure::more("publish: deliveries a second", |report| figure(report, PUBLISH, stage::RATE)),
    Figure::less("publish: until the last contact has it p50, ms", |report| {
        latency(report, PUBLISH, |latency| latency.p50_ns)
    }),
    Figure::less("publish: until the last contact has it p99, ms", |report| {
        latency(report, PUBLISH, |latency| latency.p99_ns)
    }),
    Figure::more("node: deliveries a second of server CPU", |report| figure(report, NODE, stage::PER_CPU)),
    Figure::more("node: deliveries a second", |report| figure(report, NODE, stage::RATE)),
    Figure::less("node: until the last subscriber has it p99, ms", |report| {
        latency(report, NODE, |latency| latency.p99_ns)
    }),
    Figure::less("login with last items: ms of server CPU", |report| figure(report, LOGIN, stage::CPU_EACH)),
    Figure::less("login with last items p50, ms", |report| latency(report, LOGIN, |latency| latency.p50_ns)),
    Figure::less("login with last items p99, ms", |report| latency(report, LOGIN, |latency| latency.p99_ns)),
];

fn phase<'a>(report: &'a Report, name: &str) -> Option<&'a Phase> {
    report.phases.iter().find(|phase| phase.name == name)
}

fn figure(report: &Report, of: &str, name: &str) -> Option<f64> {
    phase(report, of)?.figures.get(name).copied()
}

/// In milliseconds.
fn latency(report: &Report, of: &str, quantile: fn(&Latency) -> u64) -> Option<f64> {
    Some(quantile(phase(report, of)?.latencies.get(of)?) as f64 / 1e6)
}

/// Runs it and prints the table.
///
/// # Errors
/// A server is not installed or does not start, or a report cannot be written.
pub(crate) fn main(args: &PepArgs) -> Result<ExitCode, String> {
    raise_descriptor_limit();
    let interrupted = interruption()?;
    let folder = tempfile::Builder::new()
        .prefix("whimbrel-pep-")
        .tempdir()
        .map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let lineup = Lineup {
        programs: &args.programs,
        servers: &args.servers,
        variants: &args.whimbrel,
        // One publishes, one has the many nodes.
        accounts: args.contacts + 2,
        archive: None,
        rooms: Rooms::Off,
        eventing: Eventing::WithContacts,
        what: "publications",
    };
    let peers = lineup.prepare(folder.path())?;
    let mut comparison = Comparison { rounds: args.rounds, ..Comparison::default() };
    let outcome = rounds(args, &peers, &interrupted, &mut comparison);
    comparison.table = table::rows(&FIGURES, &comparison.runs);
    comparison.deliver(&args.output)?;
    outcome?;
    comparison.verdict()
}

fn rounds(
    args: &PepArgs,
    peers: &[Peer],
    interrupted: &AtomicBool,
    comparison: &mut Comparison,
) -> Result<(), String> {
    let mut stages: Vec<Stage<'_>> = peers.iter().map(|peer| Stage::of(args, peer)).collect();
    for round in 1..=args.rounds {
        for stage in &mut stages {
            if interrupted.load(Ordering::Relaxed) {
                return Err("interrupted; the table is of the runs so far".into());
            }
            if !args.output.quiet {
                let text = format!("round {round} of {}: {}", args.rounds, stage.label());
                // A closed standard error ends no run.
                let _ = writeln!(std::io::stderr(), "whimbrel-perf pep: {text}");
            }
            comparison.runs.push(stage.run(interrupted));
        }
    }
    Ok(())
}
