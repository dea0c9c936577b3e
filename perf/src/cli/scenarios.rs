//! The command lines of those commands that load a server that runs.

use std::path::PathBuf;

use clap::Args;

use crate::cli::{ArchiveSwitch, TargetArgs, positive};

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
    /// Sessions that have each other in their rosters, and are in a room
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub(crate) group: u32,
    /// Every n-th pair is on the move: it loses its connections and comes back; 0: none
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) mobile: u32,
    /// Of a hundred events: messages, presences, rosters fetched, connections lost, messages to groups (0: there are no rooms)
    #[arg(long, value_name = "N,N,N,N,N", value_delimiter = ',', default_value = "50,20,15,5,10")]
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

fn above_one(text: &str) -> Result<f64, String> {
    positive(text)
        .and_then(|value| if value > 1.0 { Ok(value) } else { Err("must be a number above 1".into()) })
}
