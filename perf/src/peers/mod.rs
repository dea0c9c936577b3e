//! `peers`: several servers under the same load, one after another, in rounds that take turns, so that a machine that
//! gets slower does so for all of them.
//!
//! It installs nothing: it looks for the programs of Debian's packages `ejabberd` and `prosody`, and for `whimbreld`
//! beside itself. Every server gets a folder of its own below the temporary directory, loopback ports, its embedded
//! storage, and no rate limits. The router of `floor` takes part in each round, as the limit of the machine.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`whimbrel`], [`ejabberd`], [`prosody`] | configure, make accounts |
//! | [`brokers`] | mosquitto and nats-server, for comparison |
//! | [`cgroup`] | a limit of memory for one of them |
//! | [`postgres`] | a database for one of them |
//! | [`running`] | start, end |
//! | [`rounds`] | memory and chat of each in turns |
//! | [`lineup`] | the servers of other scenarios |
//! | [`figures`] | what the table compares |

mod brokers;
pub(crate) mod cgroup;
mod ejabberd;
mod figures;
pub(crate) mod lineup;
mod postgres;
mod prosody;
mod rounds;
pub(crate) mod running;
pub(crate) mod whimbrel;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::cli::{ArchiveSwitch, PeerName, PeersArgs, ProgramArgs};
use crate::engine::target::{Hint, Transport};
use crate::report::TRANSPORT;
use crate::report::table::{self, Comparison};
use crate::scenario::broker::Speech;
use crate::variant::Variant;
use postgres::Cluster;
pub(crate) use running::Running;
use whimbrel::Kept;

/// Servers that `peers` measures over WebSocket: brokers speak no XMPP, and the limits of packages are those of their
/// listeners for TCP.
const SPEAK_WEBSOCKET: [PeerName; 8] = [
    PeerName::Whimbrel,
    PeerName::NoLog,
    PeerName::LogProcess,
    PeerName::LogDisk,
    PeerName::Ejabberd,
    PeerName::EjabberdPostgresql,
    PeerName::Prosody,
    PeerName::ProsodySqlite,
];

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
    /// What carries streams to that port.
    pub(super) transport: Transport,
    /// A file that appears when it is ready, where an open port says too little.
    pub(super) ready_file: Option<PathBuf>,
    /// Its folder.
    pub(crate) folder: PathBuf,
    /// The database that it uses.
    pub(crate) database: Option<Cluster>,
    /// Anything but none: a comparison of Whimbrel with itself, with stream management.
    pub(super) hint: Hint,
    /// What reports say of it.
    pub(crate) facts: Facts,
    /// It is no XMPP server.
    pub(super) broker: Option<Speech>,
}

/// What is known of a server, by name.
pub(crate) type Facts = BTreeMap<String, String>;

/// Rooms of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rooms {
    /// None, or as they come.
    Off,
    /// With the server's own limits.
    Usual,
    /// For at least 1,000 occupants, as many of them as are asked for, without limits of messages.
    Unlimited,
}

/// What a server is made ready for.
pub(crate) struct Setup<'a> {
    /// Where our programs are.
    pub(crate) programs: &'a ProgramArgs,
    /// How whimbreld runs.
    pub(crate) variant: &'a Variant,
    /// The server's folder; it exists and is empty.
    pub(crate) folder: &'a Path,
    /// How many accounts it gets.
    pub(crate) accounts: u64,
    /// Whether it keeps an archive (XEP-0313). `None`: as it comes; that of the others is off unless asked for.
    pub(crate) archive: Option<ArchiveSwitch>,
    /// What carries the streams.
    pub(crate) transport: Transport,
    /// Whether it has rooms (XEP-0045) at `conference.localhost`.
    pub(crate) rooms: Rooms,
    /// Whether it has nodes.
    pub(crate) eventing: Eventing,
}

/// Whether a peer has nodes of accounts (XEP-0163) and those of a service at `pubsub.localhost` (XEP-0060), which the first account
/// may make, where that is to be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eventing {
    /// As it comes; the others have none.
    Off,
    /// It has.
    On,
    /// It has, and the first account and those from the third on are to see each other's presence; a server whose facts have
    /// [`ROSTERS`] begins with that.
    WithContacts,
}

/// The fact of a server that begins with contacts: it would take too long to make each of them by its requests.
pub(crate) const ROSTERS: &str = "rosters";

impl Setup<'_> {
    fn archives(&self) -> bool {
        self.archive == Some(ArchiveSwitch::On)
    }

    fn is_web(&self) -> bool {
        self.transport == Transport::WebSocket
    }
}

/// Whether a peer limits what a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shapers {
    /// It takes what it can.
    Off,
    /// As its Debian package does.
    AsPackaged,
}

/// Where ejabberd keeps its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tables {
    /// In its own database.
    Mnesia,
    /// In a PostgreSQL cluster; the accounts stay in Mnesia.
    Postgresql,
}

/// Where Prosody keeps what it stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storage {
    /// In files of its own.
    Internal,
    /// In SQLite, the accounts excepted.
    Sqlite,
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

/// Makes a peer ready: configuration and so many accounts, in its own folder. Over WebSocket its name says so.
///
/// # Errors
/// It is not installed, or its files cannot be written.
pub(crate) fn prepare(server: PeerName, setup: &Setup<'_>) -> Result<Peer, String> {
    let mut peer = prepare_server(server, setup)?;
    if peer.broker.is_none() {
        peer.facts.insert(TRANSPORT.into(), setup.transport.name().into());
    }
    if setup.is_web() {
        peer.name = format!("{}, {}", peer.name, setup.transport.name());
    }
    Ok(peer)
}

fn prepare_server(server: PeerName, setup: &Setup<'_>) -> Result<Peer, String> {
    let kept = |kept| whimbrel::prepare_kept(setup, kept);
    match server {
        PeerName::Whimbrel => whimbrel::prepare(setup),
        PeerName::NoLog => kept(Kept::Not),
        PeerName::LogProcess => kept(Kept::InProcess),
        PeerName::LogDisk => kept(Kept::OnDisk),
        PeerName::Ejabberd => ejabberd::prepare(setup, Shapers::Off, Tables::Mnesia),
        PeerName::EjabberdPostgresql => ejabberd::prepare(setup, Shapers::Off, Tables::Postgresql),
        PeerName::EjabberdShaped => ejabberd::prepare(setup, Shapers::AsPackaged, Tables::Mnesia),
        PeerName::Prosody => prosody::prepare(setup, Shapers::Off, Storage::Internal),
        PeerName::ProsodySqlite => prosody::prepare(setup, Shapers::Off, Storage::Sqlite),
        PeerName::Mosquitto => brokers::mosquitto(setup),
        PeerName::Nats => brokers::nats(setup),
        PeerName::ProsodyShaped => prosody::prepare(setup, Shapers::AsPackaged, Storage::Internal),
    }
}

/// The version of an installed package of Debian.
fn packaged_version(package: &str) -> Option<String> {
    let output = Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]).output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !version.is_empty()).then_some(version)
}

/// What is known of a server from a package, without TLS.
fn packaged(package: &str) -> Facts {
    let version =
        packaged_version(package).map(|version| ("version".to_owned(), format!("{package} {version}")));
    version.into_iter().chain([("TLS".to_owned(), "none".to_owned())]).collect()
}

fn archive_fact(on: bool) -> String {
    if on { "on" } else { "off" }.into()
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
    let peers = lined_up(args, folder.path())?;
    let mut comparison = Comparison { rounds: args.rounds, ..Comparison::default() };
    let outcome = rounds::rounds(args, &peers, &mut comparison);
    if args.keep {
        note(args, &format!("the folders are in {}", folder.keep().display()));
    }
    comparison.table = table::rows(&figures::FIGURES, &comparison.runs);
    comparison.deliver(&args.output)?;
    outcome?;
    comparison.verdict()
}

/// Makes the servers ready, one for each transport, in folders below `folder`.
fn lined_up(args: &PeersArgs, folder: &Path) -> Result<Vec<Peer>, String> {
    let most = args.hold.iter().copied().chain([args.sessions]).max().unwrap_or(0);
    let servers = wanted(&args.servers, &args.whimbrel);
    let turns = servers.into_iter().flat_map(|server| args.transport.iter().map(move |by| (server, *by)));
    let mut peers = Vec::new();
    for (number, ((server, variant), transport)) in turns.enumerate() {
        let own = folder.join(number.to_string());
        std::fs::create_dir(&own).map_err(|error| format!("cannot make {}: {error}", own.display()))?;
        let name = variant.map_or_else(|| format!("{server:?}"), Variant::to_string);
        if transport == Transport::WebSocket && !SPEAK_WEBSOCKET.contains(&server) {
            return Err(format!("{name} is not measured over WebSocket: leave it out with --servers"));
        }
        note(args, &format!("{name}, {}: making {most} accounts", transport.name()));
        let variant = variant.or(args.whimbrel.first()).ok_or("there is no way to run whimbreld")?;
        let setup = Setup {
            programs: &args.programs,
            variant,
            folder: &own,
            accounts: most,
            archive: Some(args.archive),
            transport,
            rooms: Rooms::Off,
            eventing: Eventing::Off,
        };
        let peer = prepare(server, &setup)?;
        let archives = peer.facts.get("archive").is_none_or(|archive| *archive == archive_fact(true));
        if setup.archives() && !archives {
            return Err(format!("{} has no archive to switch on: leave it out with --servers", peer.name));
        }
        peers.push(peer);
    }
    Ok(peers)
}

fn note(args: &PeersArgs, text: &str) {
    if !args.output.quiet {
        let _ = writeln!(std::io::stderr(), "whimbrel-perf peers: {text}");
    }
}
