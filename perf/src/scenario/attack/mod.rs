//! `attack`: two users chat at a steady rate beside floods of every kind, and what becomes of their messages is timed.
//!
//! ```text
//!   CPU 0: the server, occupant      CPU 1: victims (one process), flooders (one process)
//! ```
//! Each kind of flood is a row of [`kinds`]. Calm and flood take turns in one run; in the calm the flooders are connected
//! and keep their CPU as busy as in the flood, and an occupant keeps the server's as busy as the server will. The servers are started by the machinery of `peers`, Whimbrel, ejabberd
//! and Prosody alike.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`kinds`], [`rooms`] | the floods; those of rooms |
//! | [`arena`] | one server, its victims, one kind after another |
//! | [`victim`], [`flooder`], [`occupant`] | the processes |
//! | [`chat`] | the victims for other scenarios |
//! | [`wire`], [`process`] | what coordinator and processes tell each other |
//! | [`inside`] | latencies inside Whimbrel, from its stats file |
//! | [`table`] | the figures, and the budget |
//! | [`soak`] | the server's memory over a long run |

#[expect(unsafe_code, reason = "system calls")]
mod arena;
mod chat;
mod flooder;
mod inside;
mod kinds;
mod occupant;
mod process;
mod rare;
mod rooms;
mod soak;
mod table;
mod victim;
mod wire;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cli::{AttackArgs, PeerName};
use crate::engine::target::Transport;
use crate::fleet::coordinator::interruption;
use crate::fleet::worker::raise_descriptor_limit;
use crate::peers::{self, Eventing, Peer, Rooms, Setup};
use crate::report::{Report, html, write};
use crate::scenario::poll;
use arena::Arena;
pub(in crate::scenario) use chat::{Chat, Heard};
pub(in crate::scenario) use inside::Inside;
use kinds::Kind;
use soak::Soak;
use table::Row;
use wire::{News, Role, tell};

/// Everything that a run has found out. `report` reads the runs of it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Findings {
    rows: Vec<Row>,
    soaks: Vec<Soak>,
    runs: Vec<Report>,
}

/// Runs it and prints the table.
///
/// # Errors
/// A server is not installed or does not start, a process is gone, or `--budget` is broken.
pub(crate) fn main(args: &AttackArgs) -> Result<ExitCode, String> {
    let kinds = chosen(args)?;
    if args.list {
        let text: String = kinds.iter().map(|kind| format!("{:<18}{}\n", kind.name, kind.about)).collect();
        return std::io::stdout()
            .write_all(text.as_bytes())
            .map(|()| ExitCode::SUCCESS)
            .map_err(|error| format!("cannot write to standard output: {error}"));
    }
    let interrupted = interruption()?;
    let folder = tempfile::Builder::new()
        .prefix("whimbrel-attack-")
        .tempdir()
        .map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let mut findings = Findings::default();
    let mut outcome = Ok(());
    for (number, (server, variant)) in peers::wanted(&args.servers, &args.whimbrel).into_iter().enumerate() {
        let own = folder.path().join(number.to_string());
        std::fs::create_dir(&own).map_err(|error| format!("cannot make {}: {error}", own.display()))?;
        if matches!(server, PeerName::Mosquitto | PeerName::Nats) {
            return Err("the floods are XMPP: leave brokers out with --servers".into());
        }
        let variant = variant.or(args.whimbrel.first()).ok_or("there is no way to run whimbreld")?;
        let accounts = arena::accounts(&kinds, args.clients);
        let setup = Setup {
            programs: &args.programs,
            variant,
            folder: &own,
            accounts,
            archive: None,
            transport: Transport::Tcp,
            eventing: Eventing::On,
            rooms: if kinds.iter().any(|kind| kind.is_in_room) { Rooms::Usual } else { Rooms::Off },
        };
        let peer = peers::prepare(server, &setup)?;
        note(args, &format!("{}: starting", peer.name));
        outcome = attack(args, &kinds, &peer, &interrupted, &mut findings);
        if outcome.is_err() {
            break;
        }
    }
    deliver(args, &findings)?;
    outcome?;
    let over = broken(args, &findings);
    if over.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(over.join("\nwhimbrel-perf: ")) }
}

/// A process of a run.
pub(crate) fn worker() -> ExitCode {
    raise_descriptor_limit();
    let outcome = wire::job().map_err(|error| format!("no job: {error}")).and_then(|(job, orders)| {
        if let Some(core) = job.core {
            poll::pin(core).map_err(|error| format!("cannot stay on CPU {core}: {error}"))?;
        }
        match &job.role {
            Role::Victim { rate } => victim::run(&job.door, *rate, &orders),
            Role::Flooder(flood) => flooder::run(flood, &job.door, &orders),
            Role::Occupant => occupant::run(&orders),
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            tell(&News::Failed(reason));
            ExitCode::FAILURE
        }
    }
}

fn chosen(args: &AttackArgs) -> Result<Vec<&'static Kind>, String> {
    if args.kinds.is_empty() {
        return Ok(const { &kinds::KINDS }.iter().collect());
    }
    let known = || const { &kinds::KINDS }.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
    args.kinds
        .iter()
        .map(|name| {
            kinds::find(name).ok_or_else(|| format!("there is no kind `{name}`; there are {}", known()))
        })
        .collect()
}

fn note(args: &AttackArgs, text: &str) {
    if !args.output.quiet {
        let _ = writeln!(std::io::stderr(), "whimbrel-perf attack: {text}");
    }
}

/// Everything against one server.
fn attack(
    args: &AttackArgs,
    kinds: &[&'static Kind],
    peer: &Peer,
    interrupted: &Arc<AtomicBool>,
    findings: &mut Findings,
) -> Result<(), String> {
    let mut arena = Arena::open(args, peer, interrupted.clone())?;
    if let Some(seconds) = args.soak {
        let time = Duration::from_secs(seconds);
        findings.soaks.push(Soak::run(&mut arena, &peer.name, kinds, time, args.soak_rate));
        return Ok(());
    }
    let first = findings.rows.len();
    let mut outcome = Ok(());
    for kind in kinds {
        if interrupted.load(Ordering::Relaxed) {
            outcome = Err("interrupted; the table is of the floods so far".into());
            break;
        }
        note(args, &format!("{}: {} ({})", peer.name, kind.name, kind.about));
        let (mut row, fate) = arena.fight(kind);
        let alive = fate.is_ok();
        if let Err(reason) = fate {
            // A server that is beyond answering is a finding, not the end of the run.
            note(args, &format!("{}: {}: {reason}", peer.name, kind.name));
            row.survived = Err(reason);
        }
        findings.rows.push(row);
        if !alive {
            drop(arena);
            arena = Arena::open(args, peer, interrupted.clone())?;
        }
    }
    findings.runs.push(report(args, peer, &findings.rows[first..]));
    outcome
}

fn report(args: &AttackArgs, peer: &Peer, rows: &[Row]) -> Report {
    Report {
        facts: peer.facts.clone(),
        phases: rows.iter().flat_map(Row::phases).collect(),
        ..Report::begin("attack", args.output.label.clone().unwrap_or_else(|| peer.name.clone()))
    }
}

fn broken(args: &AttackArgs, findings: &Findings) -> Vec<String> {
    let Some(p99_ms_max) = args.budget else { return Vec::new() };
    let rows = findings.rows.iter().flat_map(|row| row.over(p99_ms_max));
    rows.chain(findings.soaks.iter().flat_map(|soak| soak.problems.clone())).collect()
}

fn deliver(args: &AttackArgs, findings: &Findings) -> Result<(), String> {
    let soaks: String = findings.soaks.iter().map(Soak::render).collect();
    let mut text = table::render(&findings.rows) + &soaks;
    for problem in findings.soaks.iter().flat_map(|soak| &soak.problems) {
        text += &format!("  {problem}\n");
    }
    if args.output.json.as_deref() != Some(Path::new("-")) {
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }
    if let Some(path) = &args.output.json {
        let json =
            serde_json::to_vec_pretty(findings).map_err(|error| format!("cannot make JSON: {error}"))?;
        if path == Path::new("-") {
            let _ = std::io::stdout().lock().write_all(&json);
        } else {
            write(path, &json)?;
        }
    }
    if let Some(path) = &args.output.html {
        write(path, html::page(&[], &text, &findings.runs).as_bytes())?;
    }
    Ok(())
}
