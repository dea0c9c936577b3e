//! `archive`: accounts talk, and read again what they have said (XEP-0313): all of it page by page, the conversation with
//! one contact, the last page of that. Whimbrel, ejabberd and Prosody alike, each with its own storage or a database.
//!
//! ```text
//!   fill ─► server ends ─► each round: server starts ─► log in ─► catch-up ─► one contact ─► last page ─► server ends
//! ```
//! Everything that comes back is checked: each message once, in order, with its text. A server is filled once; servers
//! take turns in the rounds. CPU and memory are those of the server and of its database together.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`plan`] | who talks to whom, and what is said |
//! | [`fill`] | says it |
//! | [`query`] | XEP-0313 on the wire |
//! | [`read`] | the readings |
//! | [`ledger`] | what came back against what was said |
//! | [`stage`] | one server: its start, its phases, their figures |
//! | [`beside`] | a chat beside many who read, in a memory cgroup |

mod beside;
mod fill;
mod ledger;
mod plan;
mod query;
mod read;
mod stage;

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::{ArchiveArgs, ArchiveSwitch};
use crate::fleet::coordinator::interruption;
use crate::fleet::worker::raise_descriptor_limit;
use crate::peers::lineup::Lineup;
use crate::peers::{Eventing, Rooms};
use crate::report::table::{self, Comparison, Figure};
use crate::report::{Latency, Phase, Report};
use crate::scenario::run_number;
use plan::Plan;
use read::Reading;
use stage::{FILL, Stage};

/// The figures, in the order of the table.
const FIGURES: [Figure; 18] = [
    Figure::more("fill: messages a second of server CPU", |report| figure(report, FILL, stage::PER_CPU)),
    Figure::less("fill: bytes on disk, each copy", |report| figure(report, FILL, stage::DISK)),
    Figure::less("fill: MiB of the index, each million copies", |report| figure(report, FILL, stage::INDEX)),
    Figure::less("memory before the fill, MiB", |report| figure(report, FILL, stage::MEMORY_BEFORE)),
    Figure::less("memory after the fill, MiB", |report| figure(report, FILL, stage::MEMORY_AFTER)),
    Figure::more("catch-up: messages a second of server CPU", |report| {
        figure(report, Reading::CatchUp.name(), stage::PER_CPU)
    }),
    Figure::more("catch-up: messages a second", |report| {
        figure(report, Reading::CatchUp.name(), stage::RATE)
    }),
    Figure::less("catch-up: page p50, ms", |report| page(report, Reading::CatchUp, |page| page.p50_ns)),
    Figure::less("catch-up: page p99, ms", |report| page(report, Reading::CatchUp, |page| page.p99_ns)),
    Figure::less("memory before the readings, MiB", |report| {
        figure(report, Reading::CatchUp.name(), stage::MEMORY_BEFORE)
    }),
    Figure::less("memory after the readings, MiB", |report| {
        figure(report, Reading::LastPage.name(), stage::MEMORY_AFTER)
    }),
    // Anonymous memory leaves out what a database shares between its processes; PSS counts mapped files too.
    Figure::less("memory after the readings with what is shared or mapped, MiB", |report| {
        figure(report, Reading::LastPage.name(), stage::PSS_AFTER)
    }),
    Figure::more("one contact: messages a second of server CPU", |report| {
        figure(report, Reading::Contact.name(), stage::PER_CPU)
    }),
    Figure::less("one contact: page p50, ms", |report| page(report, Reading::Contact, |page| page.p50_ns)),
    Figure::less("one contact: page p99, ms", |report| page(report, Reading::Contact, |page| page.p99_ns)),
    Figure::more("last page: messages a second of server CPU", |report| {
        figure(report, Reading::LastPage.name(), stage::PER_CPU)
    }),
    Figure::less("last page: page p50, ms", |report| page(report, Reading::LastPage, |page| page.p50_ns)),
    Figure::less("last page: page p99, ms", |report| page(report, Reading::LastPage, |page| page.p99_ns)),
];

fn phase<'a>(report: &'a Report, name: &str) -> Option<&'a Phase> {
    report.phases.iter().find(|phase| phase.name == name)
}

fn figure(report: &Report, of: &str, name: &str) -> Option<f64> {
    phase(report, of)?.figures.get(name).copied()
}

/// In milliseconds.
fn page(report: &Report, reading: Reading, quantile: fn(&Latency) -> u64) -> Option<f64> {
    Some(quantile(phase(report, reading.name())?.latencies.get(stage::PAGE)?) as f64 / 1e6)
}

/// Runs it and prints the table.
///
/// # Errors
/// The arguments ask for what is not possible, a server is not installed or does not start, or a report cannot be
/// written.
pub(crate) fn main(args: &ArchiveArgs) -> Result<ExitCode, String> {
    if args.accounts <= 2 * args.contacts {
        return Err(format!(
            "{} accounts are too few for {} contacts each: everybody also is the contact of as many others, so more than \
             twice as many are needed",
            args.accounts, args.contacts
        ));
    }
    raise_descriptor_limit();
    let interrupted = interruption()?;
    let plan = Plan {
        accounts: args.accounts,
        contacts: args.contacts,
        each: args.each,
        body_bytes: args.body,
        run: run_number(),
    };
    let mut comparison = Comparison { rounds: args.rounds, ..Comparison::default() };
    let outcome = match (args.running, args.cgroup_mib) {
        (Some(port), _) => running(args, &plan, port, &interrupted, &mut comparison),
        (None, None) => servers(args, &plan, &interrupted, &mut comparison),
        (None, Some(limit_mib)) => {
            let folder = folder()?;
            beside::run(args, (&plan, limit_mib), folder.path(), &interrupted, &mut comparison)
        }
    };
    comparison.table = match args.cgroup_mib {
        None => table::rows(&FIGURES, &comparison.runs),
        Some(_) => table::rows(&beside::FIGURES, &comparison.runs),
    };
    comparison.deliver(&args.output)?;
    outcome?;
    comparison.verdict()
}

/// Where servers of our own have what they store.
fn folder() -> Result<tempfile::TempDir, String> {
    let folder = tempfile::Builder::new().prefix("whimbrel-archive-").tempdir();
    folder.map_err(|error| format!("cannot make a temporary folder: {error}"))
}

fn note(args: &ArchiveArgs, text: &str) {
    if !args.output.quiet {
        // A closed standard error ends no run.
        let _ = writeln!(std::io::stderr(), "whimbrel-perf archive: {text}");
    }
}

/// A server that is there already.
fn running(
    args: &ArchiveArgs,
    plan: &Plan,
    port: u16,
    interrupted: &AtomicBool,
    comparison: &mut Comparison,
) -> Result<(), String> {
    let label = args.output.label.clone().unwrap_or_else(|| format!("port {port}"));
    let mut stage = Stage::at(args, plan, label, port);
    note(args, &format!("{}: fill", stage.label));
    comparison.runs.push(stage.fill(interrupted));
    for round in 1..=args.rounds {
        if !stage.is_filled() || interrupted.load(Ordering::Relaxed) {
            break;
        }
        note(args, &format!("round {round} of {}: {}", args.rounds, stage.label));
        comparison.runs.push(stage.read(interrupted));
    }
    Ok(())
}

/// Servers of our own.
fn servers(
    args: &ArchiveArgs,
    plan: &Plan,
    interrupted: &AtomicBool,
    comparison: &mut Comparison,
) -> Result<(), String> {
    let folder = folder()?;
    let lineup = Lineup {
        programs: &args.programs,
        servers: &args.servers,
        variants: &args.whimbrel,
        accounts: args.accounts,
        archive: Some(ArchiveSwitch::On),
        rooms: Rooms::Off,
        eventing: Eventing::Off,
        what: "archives",
    };
    let peers = lineup.prepare(folder.path())?;
    let mut stages = Vec::new();
    for peer in &peers {
        if interrupted.load(Ordering::Relaxed) {
            break;
        }
        note(args, &format!("{}: fill", peer.name));
        let mut stage = Stage::of(args, plan, peer);
        comparison.runs.push(stage.fill(interrupted));
        stages.push(stage);
    }
    for round in 1..=args.rounds {
        for stage in stages.iter_mut().filter(|stage| stage.is_filled()) {
            if interrupted.load(Ordering::Relaxed) {
                return Err("interrupted; the table is of the runs so far".into());
            }
            note(args, &format!("round {round} of {}: {}", args.rounds, stage.label));
            comparison.runs.push(stage.read(interrupted));
        }
    }
    Ok(())
}
