//! The command line of `whimbrel-perf`.

mod scenarios;
mod servers;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::engine::sasl::Sasl;
use crate::engine::target::{Transport, WEBSOCKET_PATH};
use crate::sample::remote::Metrics;
pub(crate) use scenarios::{ChatArgs, HoldArgs, LifeArgs, OfflineArgs, PresenceArgs, StormArgs, UpgradeArgs};
pub(crate) use servers::{
    ArchiveArgs, ArchiveSwitch, AttackArgs, FloorArgs, FloorServeArgs, GroupArgs, HOLDERS, PeerName,
    PeersArgs, PepArgs, ProgramArgs, UploadArgs,
};

/// Load generator and comparison of XMPP servers.
///
/// It logs in many sessions to a server on this machine, or with --allow-remote on another, and measures: memory of a session, messages a second, latency,
/// behaviour in storms. The accounts user0, user1, ... must exist; `whimbrel-perf accounts` prints them for
/// `whimbrelctl user import`.
#[derive(Debug, Parser)]
#[command(
    name = "whimbrel-perf",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 success, 1 failure (losses, refused logins, a server that is gone, interruption), 2 usage."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Log in sessions and hold them idle: login rate, memory of a session, survival
    Hold(HoldArgs),
    /// Messages between pairs: saturation (closed loop) or latency at a rate (open loop)
    Chat(ChatArgs),
    /// Cut all sessions at once and let them come back
    Storm(StormArgs),
    /// Send to absent users, then let them collect
    Offline(OfflineArgs),
    /// Presence to groups of contacts
    Presence(PresenceArgs),
    /// Messages, presence, rosters and telephones that come and go, all at once; at one rate or up to the knee
    Life(LifeArgs),
    /// Upgrade the running server again and again while sessions chat: nobody may notice
    Upgrade(UpgradeArgs),
    /// Files to the server and back (XEP-0363), beside nginx with the same files
    Upload(UploadArgs),
    /// Two users chat beside floods of every kind: what becomes of their messages, and of the server's memory
    Attack(AttackArgs),
    /// Fill archives and read them again: catch-up, one contact, the last page; every message is checked
    Archive(ArchiveArgs),
    /// Rooms of several sizes: deliveries, the last occupant's latency, joins, and what a busy room does to others
    Group(GroupArgs),
    /// Publish to a node of which many contacts want to hear, and log in to an account with many nodes (XEP-0163)
    Pep(PepArgs),
    /// Print accounts for `whimbrelctl user import`: address, tab, password
    Accounts(AccountsArgs),
    /// The same load against a router that only reads, looks up and writes: the physical limit
    Floor(FloorArgs),
    /// Whimbrel, ejabberd and Prosody side by side under the same load
    Peers(PeersArgs),
    /// One HTML report of several JSON reports
    Report(ReportArgs),
    /// The JSON reports of generators that ran together, as one
    Merge(MergeArgs),
    /// A JSON report against a stored one; fails where something has become worse
    Compare(CompareArgs),
    /// Print, or set, what so many connections need of the system
    Tune(TuneArgs),
    /// A worker process of a run
    #[command(hide = true)]
    Worker,
    /// A victim or flooder of `attack`
    #[command(hide = true)]
    AttackWorker,
    /// The router of `floor`
    #[command(hide = true)]
    FloorServe(FloorServeArgs),
}

/// When TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tls {
    /// Never
    None,
    /// After STARTTLS
    Starttls,
    /// With the connection (XEP-0368)
    Direct,
}

/// The server and how to log in.
#[derive(Clone, Debug, Args)]
pub(crate) struct TargetArgs {
    /// Address of the server
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// Port of the server; may be given several times [default: 5222, or 5223 with --tls direct; over WebSocket 5280, or
    /// 5443 with --tls direct]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Vec<u16>,
    /// XMPP domain of the server
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    pub(crate) domain: String,
    /// What carries the stream
    #[arg(long, value_enum, default_value_t = Transport::Tcp)]
    pub(crate) transport: Transport,
    /// Path of the WebSocket
    #[arg(long, value_name = "PATH", default_value = WEBSOCKET_PATH, value_parser = request_path)]
    pub(crate) path: String,
    /// When TLS begins; certificates are not verified
    #[arg(long, value_enum, default_value_t = Tls::None)]
    pub(crate) tls: Tls,
    /// SASL mechanism
    #[arg(long, value_enum, default_value_t = Sasl::Auto)]
    pub(crate) sasl: Sasl,
    /// What the passwords are derived from
    #[arg(long, value_name = "TEXT", default_value = "whimbrel")]
    pub(crate) seed: String,
    /// All accounts have one password, as `whimbrel-perf accounts --one-password` makes them
    #[arg(long)]
    pub(crate) one_password: bool,
    /// Number of the first account
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) first: u64,
    /// Sessions that log in with one account, each with its own resource
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) sessions_per_account: u64,
    /// Keep SCRAM keys in this file, so that later runs log in cheaply
    /// [default: whimbrel-perf-keys-SEED in the temporary directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Option<PathBuf>,
    /// Source addresses; may be given several times [default: as many of 127.1.0.0/16 as needed]
    #[arg(long, value_name = "ADDR")]
    pub(crate) source: Vec<IpAddr>,
    /// Worker processes [default: one a core, more where descriptors need it]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) workers: Option<u32>,
    /// Connects a second
    #[arg(long, value_name = "N", default_value_t = 2000.0, value_parser = positive)]
    pub(crate) rate: f64,
    /// Logins under way at most
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) in_flight: u32,
    /// Seconds that the logins of one step may take together
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub(crate) login_limit: u64,
    /// Do not use stream management (XEP-0198) where it is offered
    #[arg(long)]
    pub(crate) no_sm: bool,
    /// Log in with three messages instead of seven: after the first session of a worker has learnt what the server
    /// offers, the others do not wait for its features (as XEP-0305 describes)
    #[arg(long)]
    pub(crate) pipeline: bool,
    /// Allow a server on another machine; only ever test what is yours
    #[arg(long)]
    pub(crate) allow_remote: bool,
    /// Process of the server [default: the one that listens on the port]
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Option<u32>,
    /// CPU and memory of a server on another machine: the /metrics of its `wsar serve`. A token is taken from WSAR_TOKEN
    #[arg(long, value_name = "http://HOST:PORT/metrics", conflicts_with = "pid")]
    pub(crate) metrics: Option<Metrics>,
    /// Begin at this moment, in seconds since 1970, so that several generators begin together
    #[arg(long, value_name = "SECONDS")]
    pub(crate) start_at: Option<u64>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Where the figures go.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct OutputArgs {
    /// Write the report as JSON; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report as one self-contained HTML file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Name of the run in reports [default: the scenario]
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    /// No progress line
    #[arg(long)]
    pub(crate) quiet: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct AccountsArgs {
    /// How many
    #[arg(value_name = "N")]
    pub(crate) count: u64,
    /// What the passwords are derived from
    #[arg(long, value_name = "TEXT", default_value = "whimbrel")]
    pub(crate) seed: String,
    /// XMPP domain
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    pub(crate) domain: String,
    /// Give all of them one password: keys are then derived once, however many there are
    #[arg(long)]
    pub(crate) one_password: bool,
    /// Print SCRAM keys (RFC 5803) instead of passwords, so that the import derives nothing
    #[arg(long)]
    pub(crate) scram_keys: bool,
    /// PBKDF2 rounds of those keys
    #[arg(long, value_name = "N", default_value = "4096")]
    pub(crate) iterations: NonZeroU32,
    /// Number of the first
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) first: u64,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ReportArgs {
    /// JSON reports of earlier runs, those of `peers` included
    #[arg(required = true, value_name = "FILE")]
    pub(crate) reports: Vec<PathBuf>,
    /// The HTML file to write
    #[arg(long, value_name = "FILE")]
    pub(crate) html: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct MergeArgs {
    /// JSON reports, one of each generator
    #[arg(required = true, value_name = "FILE")]
    pub(crate) reports: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CompareArgs {
    /// JSON report of the run to compare with
    #[arg(value_name = "BASELINE")]
    pub(crate) baseline: PathBuf,
    /// JSON report of the run to judge
    #[arg(value_name = "REPORT")]
    pub(crate) report: PathBuf,
    /// Per cent by which a rate, a cost or memory may be worse; medians where there were several rounds
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0, value_parser = positive)]
    pub(crate) tolerance: f64,
    /// Per cent by which a latency may be worse
    #[arg(long, value_name = "PERCENT", default_value_t = 50.0, value_parser = positive)]
    pub(crate) latency_tolerance: f64,
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum End {
    /// Both
    Both,
    /// The server
    Server,
    /// The generator
    Generator,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct TuneArgs {
    /// Connections
    #[arg(value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) connections: u64,
    /// Which end of them is on this machine
    #[arg(long, value_enum, default_value_t = End::Both)]
    pub(crate) end: End,
    /// Set them; needs root
    #[arg(long)]
    pub(crate) apply: bool,
}

/// A number above 0.
fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("must be a number above 0".into()),
    }
}

/// What a request line may name (RFC 9112 §3.2.1).
fn request_path(text: &str) -> Result<String, String> {
    match text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        true => Ok(text.to_owned()),
        false => Err("must begin with / and have neither spaces nor other than ASCII characters".into()),
    }
}

impl TargetArgs {
    /// The addresses of the server.
    ///
    /// # Errors
    /// It is not on this machine and that has not been allowed; STARTTLS is asked for where there is none.
    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        if !self.host.is_loopback() && !self.allow_remote {
            return Err(format!(
                "{} is not a loopback address: a load generator harms servers that others use; give --allow-remote \
                 if the server is yours",
                self.host
            ));
        }
        if self.transport == Transport::WebSocket && self.tls == Tls::Starttls {
            return Err("a WebSocket has no STARTTLS (RFC 7395 §3.9): use --tls direct or none".into());
        }
        let default = [match (self.transport, self.tls == Tls::Direct) {
            (Transport::Tcp, false) => 5222,
            (Transport::Tcp, true) => 5223,
            (Transport::WebSocket, false) => 5280,
            (Transport::WebSocket, true) => 5443,
        }];
        let ports = if self.port.is_empty() { &default[..] } else { &self.port };
        Ok(ports.iter().map(|&port| SocketAddr::new(self.host, port)).collect())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_server_elsewhere_is_refused_unless_allowed() {
        let parse = |extra: &[&str]| {
            let args = ["whimbrel-perf", "hold", "--host", "192.0.2.1"].iter().chain(extra);
            match Cli::try_parse_from(args).unwrap().command {
                Command::Hold(args) => args.target.addresses(),
                _ => panic!("another command"),
            }
        };
        assert!(parse(&[]).unwrap_err().contains("--allow-remote"));
        assert_eq!(parse(&["--allow-remote"]).unwrap(), ["192.0.2.1:5222".parse().unwrap()]);
    }

    #[test]
    fn a_websocket_has_ports_of_its_own_and_no_starttls() {
        let parse = |extra: &[&str]| {
            let args = ["whimbrel-perf", "hold", "--transport", "websocket"].iter().chain(extra);
            Cli::try_parse_from(args).map(|cli| match cli.command {
                Command::Hold(args) => args.target.addresses(),
                _ => panic!("another command"),
            })
        };
        assert_eq!(parse(&[]).unwrap().unwrap(), ["127.0.0.1:5280".parse().unwrap()]);
        assert_eq!(parse(&["--tls", "direct"]).unwrap().unwrap(), ["127.0.0.1:5443".parse().unwrap()]);
        assert!(parse(&["--tls", "starttls"]).unwrap().unwrap_err().contains("no STARTTLS"));
        for path in ["ws", "/a b", "/a\r\nHost: b", "/é", "/a#b"] {
            assert!(parse(&["--path", path]).is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_rate_that_is_no_rate_is_a_usage_error() {
        for rate in ["0", "-1", "NaN", "inf", "x"] {
            assert!(Cli::try_parse_from(["whimbrel-perf", "hold", "--rate", rate]).is_err(), "{rate}");
        }
    }
}
