//! The command line of `whimbrel-perf`.

mod servers;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::engine::sasl::Sasl;
pub(crate) use servers::{
    ArchiveArgs, ArchiveSwitch, AttackArgs, FloorArgs, FloorServeArgs, PeerName, PeersArgs, ProgramArgs,
};

/// Load generator and comparison of XMPP servers.
///
/// It logs in many sessions to a server on this machine and measures: memory of a session, messages a second, latency,
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
    /// Two users chat beside floods of every kind: what becomes of their messages, and of the server's memory
    Attack(AttackArgs),
    /// Fill archives and read them again: catch-up, one contact, the last page; every message is checked
    Archive(ArchiveArgs),
    /// Print accounts for `whimbrelctl user import`: address, tab, password
    Accounts(AccountsArgs),
    /// The same load against a router that only reads, looks up and writes: the physical limit
    Floor(FloorArgs),
    /// Whimbrel, ejabberd and Prosody side by side under the same load
    Peers(PeersArgs),
    /// One HTML report of several JSON reports
    Report(ReportArgs),
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
    /// Port of the server; may be given several times [default: 5222, or 5223 with --tls direct]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Vec<u16>,
    /// XMPP domain of the server
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    pub(crate) domain: String,
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
pub(crate) struct HoldArgs {
    /// Sessions; several counts, rising, give the memory of a session by the slope between them
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "1000")]
    pub(crate) sessions: Vec<u64>,
    /// Seconds to hold the last count
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) duration: u64,
    /// Seconds of quiet before memory is read
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    pub(crate) settle: u64,
    /// Seconds between two pings of a session while holding; 0: none
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub(crate) ping: u64,
    /// Messages a second between pairs while holding, from each session in turn; 0: none
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) messages: u64,
    /// Seconds to wait for messages that are still on their way; what has not come by then is lost
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) drain: u64,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ChatArgs {
    /// Sessions; every two are a pair
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(2..))]
    pub(crate) sessions: u64,
    /// Closed loop: messages under way for each pair
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) window: u32,
    /// Open loop: messages a second, instead of a window
    #[arg(long, value_name = "N", value_parser = positive, conflicts_with = "window")]
    pub(crate) messages: Option<f64>,
    /// Bytes of a message's text
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(crate) body: u32,
    /// Messages ask to be archived, or not to be (XEP-0334); both kinds have the same length [default: they say nothing]
    #[arg(long, value_name = "on|off", value_enum)]
    pub(crate) archive: Option<ArchiveSwitch>,
    /// Seconds that do not count, first
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    pub(crate) warmup: u64,
    /// Seconds that count
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) duration: u64,
    /// Seconds to wait for messages that are still on their way; what has not come by then is lost
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub(crate) drain: u64,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct StormArgs {
    /// Sessions
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(2..))]
    pub(crate) sessions: u64,
    /// Every n-th pair stays and chats, so that its latency shows what the storm does to others; 0: none stays
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) keep: u32,
    /// Messages a second of the pairs that stay
    #[arg(long, value_name = "N", default_value_t = 200.0, value_parser = positive)]
    pub(crate) messages: f64,
    /// Connects a second when they come back
    #[arg(long, value_name = "N", default_value_t = 100_000.0, value_parser = positive)]
    pub(crate) return_rate: f64,
    /// Seconds of chat before the cut, for comparison
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub(crate) before: u64,
    /// Seconds that all logins may take
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(crate) limit: u64,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct OfflineArgs {
    /// Sessions; half of them send to the other half while that is away
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(2..))]
    pub(crate) sessions: u64,
    /// Messages to each absent user
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) each: u32,
    /// Messages a second
    #[arg(long, value_name = "N", default_value_t = 10_000.0, value_parser = positive)]
    pub(crate) messages: f64,
    /// Bytes of a message's text
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(crate) body: u32,
    /// Seconds that storing, and that collecting, may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) limit: u64,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PresenceArgs {
    /// Sessions
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(2..))]
    pub(crate) sessions: u64,
    /// Sessions that have each other in their rosters
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub(crate) group: u32,
    /// Presences a second; each reaches all others of its group
    #[arg(long, value_name = "N", default_value_t = 1000.0, value_parser = positive)]
    pub(crate) presences: f64,
    /// Seconds that do not count, first
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    pub(crate) warmup: u64,
    /// Seconds that count
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) duration: u64,
    /// The sessions are subscribed already, from an earlier run
    #[arg(long)]
    pub(crate) subscribed: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct LifeArgs {
    /// Sessions
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(4..))]
    pub(crate) sessions: u64,
    /// Sessions that have each other in their rosters
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub(crate) group: u32,
    /// Every n-th pair is on the move: it loses its connections and comes back; 0: none
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) mobile: u32,
    /// Of a hundred events: messages, presences, rosters fetched, connections lost
    #[arg(long, value_name = "N,N,N,N", value_delimiter = ',', default_value = "60,20,15,5")]
    pub(crate) mix: Vec<u32>,
    /// Events a second; with --knee, of the first step
    #[arg(long, value_name = "N", default_value_t = 500.0, value_parser = positive)]
    pub(crate) events: f64,
    /// Raise the rate step by step until a step is not borne, and report the last that was
    #[arg(long)]
    pub(crate) knee: bool,
    /// A step of --knee has so many times as many events as the one before
    #[arg(long, value_name = "FACTOR", default_value_t = 1.5, value_parser = above_one)]
    pub(crate) factor: f64,
    /// A step of --knee is not borne when the p99 of its messages is above so many milliseconds, or less than 95 % of
    /// its events take place
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 50.0, value_parser = positive)]
    pub(crate) p99: f64,
    /// Seconds that do not count, first in each step
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    pub(crate) warmup: u64,
    /// Seconds that count
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) duration: u64,
    /// Seconds to wait for messages that are still on their way; what has not come by then is lost
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) drain: u64,
    /// The sessions are subscribed already, from an earlier run
    #[arg(long)]
    pub(crate) subscribed: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct UpgradeArgs {
    /// Data directory of the running server; it must allow logins without TLS
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The program to upgrade to [default: what now lies where the running one was started from]
    #[arg(long, value_name = "PATH")]
    pub(crate) binary: Option<PathBuf>,
    /// Sessions; every two are a pair
    #[arg(long, value_name = "N", default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(4..))]
    pub(crate) sessions: u64,
    /// One of so many sessions uses TLS; 0: none
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) tls_part: u32,
    /// Messages a second of all pairs together
    #[arg(long, value_name = "N", default_value_t = 3000.0, value_parser = positive)]
    pub(crate) messages: f64,
    /// Upgrades
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) upgrades: u32,
    /// Seconds between two upgrades
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = positive)]
    pub(crate) every: f64,
    /// Seconds that all logins may take
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) login_seconds: u64,
    /// What the passwords are derived from
    #[arg(long, value_name = "TEXT", default_value = "whimbrel")]
    pub(crate) seed: String,
    /// Keep SCRAM keys in files of this name, so that later runs log in cheaply
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// No progress
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

#[derive(Clone, Debug, Args)]
pub(crate) struct TuneArgs {
    /// Connections, both ends on this machine
    #[arg(value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) connections: u64,
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

fn above_one(text: &str) -> Result<f64, String> {
    positive(text)
        .and_then(|value| if value > 1.0 { Ok(value) } else { Err("must be a number above 1".into()) })
}

impl TargetArgs {
    /// The addresses of the server.
    ///
    /// # Errors
    /// It is not on this machine and that has not been allowed.
    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        if !self.host.is_loopback() && !self.allow_remote {
            return Err(format!(
                "{} is not a loopback address: a load generator harms servers that others use; give --allow-remote \
                 if the server is yours",
                self.host
            ));
        }
        let default = [if self.tls == Tls::Direct { 5223 } else { 5222 }];
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
    fn a_rate_that_is_no_rate_is_a_usage_error() {
        for rate in ["0", "-1", "NaN", "inf", "x"] {
            assert!(Cli::try_parse_from(["whimbrel-perf", "hold", "--rate", rate]).is_err(), "{rate}");
        }
    }
}
