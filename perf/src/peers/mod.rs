//! `peers`: several servers under the same load, one after another, in rounds that take turns, so that a machine that
//! gets slower does so for all of them.
//!
//! It installs nothing: it looks for the programs of Debian's packages `ejabberd` and `prosody`, and for `whimbreld`
//! beside itself. Every server gets a folder of its own below the temporary directory, loopback ports, its embedded
//! storage, and no rate limits. The router of `floor` takes part in each round, as the limit of the machine.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`whimbrel`], [`ejabberd`], [`prosody`] | configure, make accounts, start |
//! | [`table`] | medians, spreads, ratios |

mod ejabberd;
mod prosody;
mod table;
mod whimbrel;

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cli::{FloorArgs, OutputArgs, PeerName, PeersArgs, ProgramArgs};
use crate::engine::sasl::Sasl;
use crate::engine::target::{Hint, Protocol, Target, TlsStart, loopback_sources};
use crate::engine::traffic::Load;
use crate::fleet::Run;
use crate::fleet::coordinator::{Ended, interruption};
use crate::floor;
use crate::report::{Report, html, write};
use crate::scenario::{Session, chat, hold, layout, timed_run};
use crate::variant::Variant;
use whimbrel::Kept;

/// How long a server may take to listen, accounts included.
const START_MAX: Duration = Duration::from_secs(180);

/// How long it may take to end.
const STOP_MAX: Duration = Duration::from_secs(20);

/// A server that runs. It is ended when this is dropped.
pub(crate) struct Running {
    child: Child,
    port: u16,
}

/// A server that is ready to be started, again and again.
pub(crate) struct Peer {
    /// Its name and version, for the table.
    pub(crate) name: String,
    /// The program and its arguments; a port and a ready check follow from the folder.
    pub(crate) command: Box<dyn Fn() -> Command>,
    /// Where it listens.
    pub(crate) port: u16,
    /// Whether that port speaks TLS from the first byte.
    pub(super) tls: bool,
    /// A file that appears when it is ready, where an open port says too little.
    pub(super) ready_file: Option<PathBuf>,
    /// Its folder.
    pub(crate) folder: PathBuf,
    /// Anything but none: a comparison of Whimbrel with itself, with stream management.
    pub(super) hint: Hint,
}

/// One report of the command: the runs of all servers.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Comparison {
    rounds: u32,
    table: Vec<table::Row>,
    runs: Vec<Report>,
}

/// Whether a peer limits what a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shapers {
    /// It takes what it can.
    Off,
    /// As its Debian package does.
    AsPackaged,
}

/// The peers that are asked for: whimbreld once for each way to run it.
pub(crate) fn wanted<'a>(
    servers: &[PeerName],
    variants: &'a [Variant],
) -> Vec<(PeerName, Option<&'a Variant>)> {
    let of = |server: &PeerName| match server {
        PeerName::Whimbrel => variants.iter().map(|variant| (PeerName::Whimbrel, Some(variant))).collect(),
        other => vec![(*other, None)],
    };
    servers.iter().flat_map(of).collect()
}

/// Makes a peer ready: configuration and so many accounts, in its own folder.
///
/// # Errors
/// It is not installed, or its files cannot be written.
pub(crate) fn prepare(
    programs: &ProgramArgs,
    server: PeerName,
    variant: &Variant,
    folder: &Path,
    accounts: u64,
) -> Result<Peer, String> {
    let kept = |kept| whimbrel::prepare_kept(programs, variant, kept, folder, accounts);
    match server {
        PeerName::Whimbrel => whimbrel::prepare(programs, variant, folder, accounts),
        PeerName::NoLog => kept(Kept::Not),
        PeerName::LogProcess => kept(Kept::InProcess),
        PeerName::LogDisk => kept(Kept::OnDisk),
        PeerName::Ejabberd => ejabberd::prepare(folder, accounts, Shapers::Off),
        PeerName::EjabberdShaped => ejabberd::prepare(folder, accounts, Shapers::AsPackaged),
        PeerName::Prosody => prosody::prepare(folder, accounts, Shapers::Off),
        PeerName::ProsodyShaped => prosody::prepare(folder, accounts, Shapers::AsPackaged),
    }
}

/// Runs it and prints the table.
///
/// # Errors
/// A server is not installed or does not start, or a report cannot be written.
pub(crate) fn main(args: &PeersArgs) -> Result<ExitCode, String> {
    let folder = tempfile::Builder::new()
        .prefix("whimbrel-peers-")
        .tempdir()
        .map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let most = args.hold.iter().copied().chain([args.sessions]).max().unwrap_or(0);
    let mut peers = Vec::new();
    for (number, (server, variant)) in wanted(&args.servers, &args.whimbrel).into_iter().enumerate() {
        let own = folder.path().join(number.to_string());
        std::fs::create_dir(&own).map_err(|error| format!("cannot make {}: {error}", own.display()))?;
        let name = variant.map_or_else(|| format!("{server:?}"), Variant::to_string);
        note(args, &format!("{name}: making {most} accounts"));
        let variant = variant.or(args.whimbrel.first()).ok_or("there is no way to run whimbreld")?;
        peers.push(prepare(&args.programs, server, variant, &own, most)?);
    }
    let mut comparison = Comparison { rounds: args.rounds, ..Comparison::default() };
    let outcome = rounds(args, &peers, &mut comparison);
    if args.keep {
        note(args, &format!("the folders are in {}", folder.keep().display()));
    }
    comparison.table = table::rows(&comparison.runs);
    deliver(args, peers.len(), &comparison)?;
    outcome?;
    let problems: Vec<String> = comparison
        .runs
        .iter()
        .flat_map(|run| run.problems.iter().map(|problem| format!("{}: {problem}", run.label)))
        .collect();
    if problems.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(problems.join("; ")) }
}

fn note(args: &PeersArgs, text: &str) {
    if !args.output.quiet {
        let _ = writeln!(std::io::stderr(), "whimbrel-perf peers: {text}");
    }
}

fn rounds(args: &PeersArgs, peers: &[Peer], comparison: &mut Comparison) -> Result<(), String> {
    let interrupted = interruption()?;
    for round in 1..=args.rounds {
        for peer in peers {
            if interrupted.load(Ordering::Relaxed) {
                return Err("interrupted; the table is of the runs so far".into());
            }
            note(args, &format!("round {round} of {}: {}", args.rounds, peer.name));
            let running = Running::start(peer)?;
            comparison.runs.push(held(args, peer, &running)?);
            drop(running);
            let running = Running::start(peer)?;
            comparison.runs.push(talked(args, peer, &running)?);
        }
        note(args, &format!("round {round} of {}: floor", args.rounds));
        let floor_args = FloorArgs {
            hold: Vec::new(),
            sessions: args.sessions,
            window: args.window,
            body: 40,
            duration: args.duration,
            workers: None,
            output: OutputArgs { quiet: true, ..OutputArgs::default() },
        };
        comparison.runs.push(floor::traffic(&floor_args, table::FLOOR)?);
    }
    Ok(())
}

/// How to speak to a peer.
fn target(peer: &Peer, port: u16, sessions: u64) -> Target {
    Target {
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], port))],
        sources: loopback_sources(sessions, 1),
        domain: "localhost".into(),
        tls: peer.tls.then_some(TlsStart::Direct),
        sasl: Sasl::ScramSha1,
        seed: "whimbrel".into(),
        one_password: false,
        pipeline: false,
        keys: Some(peer.folder.join("keys")),
        sessions_per_account: 1,
        first_account: 0,
        // Not every one of them has it.
        stream_management: peer.hint != Hint::None,
        hint: peer.hint,
        protocol: Protocol::Xmpp,
    }
}

fn session(scenario: &str, peer: &Peer, running: &Running, sessions: u64) -> Result<Session, String> {
    let layout = layout(None, sessions, 2_000.0, 100, 0);
    let target = target(peer, running.port, sessions);
    Session::with(scenario, peer.name.clone(), &target, layout, Some(running.child.id()), true)
}

fn held(args: &PeersArgs, peer: &Peer, running: &Running) -> Result<Report, String> {
    let most = args.hold.last().copied().unwrap_or(0);
    let mut session = session("hold", peer, running, most)?;
    let outcome = hold::steps(&mut session, &args.hold, Duration::from_secs(5));
    if let Some(memory) = &mut session.report.memory {
        memory.compute();
    }
    Ok(session.finish(outcome))
}

fn talked(args: &PeersArgs, peer: &Peer, running: &Running) -> Result<Report, String> {
    let mut session = session("chat", peer, running, args.sessions)?;
    let outcome = talk(args, &mut session);
    Ok(session.finish(outcome))
}

fn talk(args: &PeersArgs, session: &mut Session) -> Result<(), Ended> {
    session.reach(args.sessions, None)?;
    let run = Run {
        load: Some(Load::Closed { window: args.window }),
        body_bytes: 40,
        ..timed_run(2, args.duration, 20)
    };
    talk_once(session, "chat", &run)?;
    // Messages that come by themselves share no write. So the half is of what is possible without sharing.
    let single = Run { load: Some(Load::Closed { window: 1 }), ..run.clone() };
    let rate = talk_once(session, table::ONE_BY_ONE, &single)? / 2.0;
    let rate = rate.max(1.0) / f64::from(session.fleet.layout().workers);
    // Sent when it is due, whatever came of those before it.
    let half = Run { load: Some(Load::Open { rate, every: 1 }), ..run };
    talk_once(session, table::HALF_LOAD, &half).map(drop)
}

/// One phase of chat; returns what was delivered a second.
fn talk_once(session: &mut Session, name: &str, run: &Run) -> Result<f64, Ended> {
    let outcome = session.run(name, run);
    let mut rate = 0.0;
    if let Some(phase) = session.last_phase() {
        chat::add_figures(phase);
        rate = phase.counted.delivered as f64 / phase.seconds.max(f64::MIN_POSITIVE);
    }
    outcome.map(|()| rate)
}

fn deliver(args: &PeersArgs, peers: usize, comparison: &Comparison) -> Result<(), String> {
    let text = table::render(&comparison.table, comparison.rounds);
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    if let Some(path) = &args.output.json {
        let json =
            serde_json::to_vec_pretty(comparison).map_err(|error| format!("cannot make JSON: {error}"))?;
        write(path, &json)?;
    }
    if let Some(path) = &args.output.html {
        // The first round's curves; the table has all of them.
        let runs = peers * 2 + 1;
        let first = &comparison.runs[..runs.min(comparison.runs.len())];
        write(path, html::page_with(&text, first).as_bytes())?;
    }
    Ok(())
}

impl Running {
    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn start(peer: &Peer) -> Result<Running, String> {
        Running::start_as(peer, (peer.command)())
    }

    /// Starts it by another command than its own.
    ///
    /// # Errors
    /// It does not start; its last words.
    pub(crate) fn start_as(peer: &Peer, mut command: Command) -> Result<Running, String> {
        let log_path = peer.folder.join("output.log");
        let log = std::fs::File::create(&log_path)
            .map_err(|error| format!("cannot write {}: {error}", log_path.display()))?;
        let err = log.try_clone().map_err(|error| format!("cannot write {}: {error}", log_path.display()))?;
        if let Some(file) = &peer.ready_file {
            let _ = std::fs::remove_file(file);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(err)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", peer.name))?;
        let end = Instant::now() + START_MAX;
        loop {
            let listens = TcpStream::connect(("127.0.0.1", peer.port)).is_ok();
            if listens && peer.ready_file.as_ref().is_none_or(|file| file.exists()) {
                return Ok(Running { child, port: peer.port });
            }
            let ended = child.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(8).collect();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join(" | ");
                return Err(format!("{} did not start: {tail}", peer.name));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Running {
    #[expect(unsafe_code, reason = "a system call")]
    fn drop(&mut self) {
        // SAFETY: the call takes no pointers, and the process is our child that has not been waited for.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let end = Instant::now() + STOP_MAX;
        while Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on now.
fn free_port() -> Result<u16, String> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| format!("no free port: {error}"))
}

/// A program by its usual places.
fn find_program(name: &str, package: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| {
            format!(
                "{name} is not installed: install Debian's package {package}, or leave it out with --servers"
            )
        })
}
