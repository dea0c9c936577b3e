//! The command lines of those commands that start servers by themselves.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::{OutputArgs, Tls, positive};
use crate::engine::target::Transport;
use crate::variant::Variant;

/// Where our programs are.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ProgramArgs {
    /// whimbreld [default: beside this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) whimbreld: Option<PathBuf>,
    /// whimbrelctl [default: beside this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) whimbrelctl: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PeersArgs {
    /// Which servers
    #[arg(long, value_enum, value_delimiter = ',', default_value = "whimbrel,ejabberd,prosody")]
    pub(crate) servers: Vec<PeerName>,
    #[command(flatten)]
    pub(crate) programs: ProgramArgs,
    /// How whimbreld runs, for example `uring:2` or `mio:1:process:tls`; each takes a turn [default: as it chooses]
    #[arg(
        long,
        value_name = "DRIVER[:WORKERS][:DURABILITY][:tls],...",
        value_delimiter = ',',
        default_value = "auto"
    )]
    pub(crate) whimbrel: Vec<Variant>,
    /// What carries the streams; with both, each server takes a turn with each
    #[arg(long, value_enum, value_delimiter = ',', default_value = "tcp")]
    pub(crate) transport: Vec<Transport>,
    /// Rounds; servers take turns in each
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Counts for the memory of a session
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "500,2000")]
    pub(crate) hold: Vec<u64>,
    /// Seconds of quiet before memory is read
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub(crate) settle: u64,
    /// Sessions that chat
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(2..))]
    pub(crate) sessions: u64,
    /// Messages under way for each pair
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) window: u32,
    /// Seconds of each kind of chat that count: saturation, one message under way for each pair, half the rate of that
    #[arg(long, value_name = "SECONDS", default_value_t = 8)]
    pub(crate) duration: u64,
    /// Every server keeps an archive of all messages (XEP-0313), or none does
    #[arg(long, value_enum, default_value_t = ArchiveSwitch::Off)]
    pub(crate) archive: ArchiveSwitch,
    /// Keep the servers' folders
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Whether messages are archived (XEP-0313).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArchiveSwitch {
    /// They are
    On,
    /// They are not
    Off,
}

/// A server that `peers` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PeerName {
    /// Ours
    Whimbrel,
    /// Ours; messages are not kept
    NoLog,
    /// Ours; messages are kept, durability = "process"
    LogProcess,
    /// Ours; messages are kept, durability = "disk"
    LogDisk,
    /// ejabberd
    Ejabberd,
    /// Prosody
    Prosody,
    /// ejabberd, with the limits of traffic that its package comes with
    EjabberdShaped,
    /// ejabberd, its tables in PostgreSQL
    EjabberdPostgresql,
    /// Prosody, with SQLite
    ProsodySqlite,
    /// Prosody, with the limits of traffic that its package comes with
    ProsodyShaped,
    /// mosquitto, a broker (MQTT, QoS 1): memory of a connection, messages in a closed loop
    Mosquitto,
    /// nats-server, a broker: the same
    Nats,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct AttackArgs {
    /// Which servers
    #[arg(long, value_enum, value_delimiter = ',', default_value = "whimbrel")]
    pub(crate) servers: Vec<PeerName>,
    #[command(flatten)]
    pub(crate) programs: ProgramArgs,
    /// How whimbreld runs, for example `uring:1` or `mio:2`; each takes a turn
    #[arg(
        long,
        value_name = "DRIVER[:WORKERS][:DURABILITY],...",
        value_delimiter = ',',
        default_value = "auto:1"
    )]
    pub(crate) whimbrel: Vec<Variant>,
    /// Which floods [default: all; --list names them]
    #[arg(long, value_name = "KIND,...", value_delimiter = ',')]
    pub(crate) kinds: Vec<String>,
    /// Print the kinds of floods
    #[arg(long)]
    pub(crate) list: bool,
    /// Clients that flood, where a kind has no number of its own
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=80))]
    pub(crate) clients: u32,
    /// Calm and flood take turns so many times
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Seconds of each calm, and of each flood
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
    /// Messages a second between the two victims
    #[arg(long, value_name = "N", default_value_t = 200.0, value_parser = positive)]
    pub(crate) messages: f64,
    /// MiB that the flooders may send in one flood
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    pub(crate) bytes: u64,
    /// A flood ends when the server has more MiB than this resident
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    pub(crate) memory_max: u64,
    /// CPU of the server
    #[arg(long, value_name = "CPU", default_value_t = 0)]
    pub(crate) server_core: usize,
    /// CPU of victims and flooders
    #[arg(long, value_name = "CPU", default_value_t = 1)]
    pub(crate) client_core: usize,
    /// Let all kinds take turns for so many seconds instead, and watch the server's memory
    #[arg(long, value_name = "SECONDS")]
    pub(crate) soak: Option<u64>,
    /// Stanzas a second of all flooders together while soaking
    #[arg(long, value_name = "N", default_value_t = 20_000.0, value_parser = positive)]
    pub(crate) soak_rate: f64,
    /// Fail where a flood takes the victim's p99 past so many milliseconds, its latency inside the server past 5 times
    /// the calm one, or its session; without it figures decide nothing
    #[arg(long, value_name = "MILLISECONDS", value_parser = positive)]
    pub(crate) budget: Option<f64>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ArchiveArgs {
    /// Which servers; they take turns
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "whimbrel,ejabberd,ejabberd-postgresql,prosody,prosody-sqlite"
    )]
    pub(crate) servers: Vec<PeerName>,
    /// Measure the server that listens on this port of this machine instead; its accounts are those that `whimbrel-perf
    /// accounts` prints
    #[arg(long, value_name = "PORT", conflicts_with_all = ["servers", "whimbrel", "whimbreld", "whimbrelctl"])]
    pub(crate) running: Option<u16>,
    #[command(flatten)]
    pub(crate) programs: ProgramArgs,
    /// How whimbreld runs, for example `uring:2` or `mio:1:process`; each takes a turn [default: as it chooses]
    #[arg(
        long,
        value_name = "DRIVER[:WORKERS][:DURABILITY],...",
        value_delimiter = ',',
        default_value = "auto"
    )]
    pub(crate) whimbrel: Vec<Variant>,
    /// Accounts with an archive
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(3..=5000))]
    pub(crate) accounts: u64,
    /// Conversations that each account begins; it takes part in as many that others begin
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) contacts: u64,
    /// Messages of a conversation, in turns from both sides
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) each: u32,
    /// Bytes of a message's text
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(16..=10_000))]
    pub(crate) body: u32,
    /// Messages of a page
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=250))]
    pub(crate) page: u32,
    /// Accounts that read at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) readers: u32,
    /// Conversations under way at once while archives are filled [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) at_once: Option<u64>,
    /// Measure a chat instead, calm and beside the readers: whimbreld alone, in a memory cgroup of so many MiB, with archives
    /// of four times as much, so that --each is not asked; on Linux, as root
    #[arg(
        long,
        value_name = "MIB",
        conflicts_with_all = ["running", "each", "servers"],
        value_parser = clap::value_parser!(u64).range(32..=1_000_000)
    )]
    pub(crate) cgroup_mib: Option<u64>,
    /// Seconds that are waited at most, before the readers of the chat beside them begin, until the server has gathered what lies
    /// far apart: until its counter has stood still for some seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0, requires = "cgroup_mib")]
    pub(crate) settle: u64,
    /// Each kind of reading is repeated, whole, until it has taken so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub(crate) seconds: u64,
    /// Seconds that the fill, and that each kind of reading, may take
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub(crate) limit: u64,
    /// Rounds of reading; servers take turns in each, and are started anew
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct GroupArgs {
    /// Which servers; they take turns, and the bare fan-out with them
    #[arg(long, value_enum, value_delimiter = ',', default_value = "whimbrel,ejabberd,prosody")]
    pub(crate) servers: Vec<PeerName>,
    #[command(flatten)]
    pub(crate) programs: ProgramArgs,
    /// How whimbreld runs, for example `uring:2` or `mio:1:process`; each takes a turn [default: as it chooses]
    #[arg(
        long,
        value_name = "DRIVER[:WORKERS][:DURABILITY],...",
        value_delimiter = ',',
        default_value = "auto"
    )]
    pub(crate) whimbrel: Vec<Variant>,
    /// Occupants of the room; each size is a run of its own
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "10,100,1000", value_parser = clap::value_parser!(u64).range(2..=1000))]
    pub(crate) sizes: Vec<u64>,
    /// Closed loop: messages under way in the room
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) window: u32,
    /// Open loop: deliveries a second, at least one message a second
    #[arg(long, value_name = "N", default_value_t = 2_000.0, value_parser = positive)]
    pub(crate) deliveries: f64,
    /// Bytes of a message's text
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) body: u32,
    /// Seconds of each loop that count
    #[arg(long, value_name = "SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) duration: u64,
    /// Occupants that leave the full room and enter it again
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rejoins: u32,
    /// Rooms to which one client comes back at once; 0: leave that out
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=1000))]
    pub(crate) rooms: u64,
    /// Occupants of each of them
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..=1000))]
    pub(crate) of: u64,
    /// How often it comes back
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) returns: u32,
    /// Counts of rooms for the memory of a room and an occupant, rising; 0: leave that out
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "25000,50000,100000", value_parser = clap::value_parser!(u64).range(0..=500_000))]
    pub(crate) hold: Vec<u64>,
    /// Others that enter each of these rooms then; the memory of one is the mean over them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..HOLDERS))]
    pub(crate) guests: u64,
    /// Every server keeps an archive of the rooms (XEP-0313), or none does
    #[arg(long, value_enum, default_value_t = ArchiveSwitch::On)]
    pub(crate) archive: ArchiveSwitch,
    /// Rounds; servers take turns in each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Clients that hold rooms.
pub(crate) const HOLDERS: u64 = 100;

impl GroupArgs {
    /// Accounts that the largest run needs in its rooms.
    pub(crate) fn accounts(&self) -> u64 {
        let holders = if self.held().is_empty() { 0 } else { HOLDERS };
        self.sizes.iter().copied().chain([self.of, holders]).max().unwrap_or(0)
    }

    /// The counts of rooms that are held.
    pub(crate) fn held(&self) -> Vec<u64> {
        self.hold.iter().copied().filter(|count| *count > 0).collect()
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct PepArgs {
    /// Which servers; they take turns
    #[arg(long, value_enum, value_delimiter = ',', default_value = "whimbrel,ejabberd,prosody")]
    pub(crate) servers: Vec<PeerName>,
    #[command(flatten)]
    pub(crate) programs: ProgramArgs,
    /// How whimbreld runs, for example `uring:2` or `mio:1:process`; each takes a turn [default: as it chooses]
    #[arg(
        long,
        value_name = "DRIVER[:WORKERS][:DURABILITY],...",
        value_delimiter = ',',
        default_value = "auto"
    )]
    pub(crate) whimbrel: Vec<Variant>,
    /// Contacts of the account that publishes; all of them want to hear of its node
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub(crate) contacts: u64,
    /// Publications, each when all contacts have heard of the one before it
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) publications: u64,
    /// Nodes of the account that logs in; it gets the last item of each
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(crate) nodes: u64,
    /// Logins of that account
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(crate) logins: u64,
    /// Bytes of text in an item
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) bytes: u32,
    /// Rounds; servers take turns in each, and are started anew
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct UploadArgs {
    #[command(flatten)]
    pub(crate) programs: ProgramArgs,
    /// nginx, with its module for WebDAV [default: that of the system]
    #[arg(long, value_name = "FILE")]
    pub(crate) nginx: Option<PathBuf>,
    /// KiB of one file
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=4_194_303))]
    pub(crate) kib: u32,
    /// Files that are uploaded in a round
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) files: u32,
    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) connections: u32,
    /// Seconds of downloads in a round
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
    /// Rounds; both servers take turns in each, and medians are told
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Without TLS, or `direct`: both servers with it
    #[arg(long, value_enum, default_value = "none")]
    pub(crate) tls: Tls,
    /// The figures as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// No progress line
    #[arg(long)]
    pub(crate) quiet: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FloorArgs {
    /// Counts for the memory of a connection
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "1000,3000")]
    pub(crate) hold: Vec<u64>,
    /// Sessions that chat
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(2..))]
    pub(crate) sessions: u64,
    /// Messages under way for each pair
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) window: u32,
    /// Bytes of a message's text
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub(crate) body: u32,
    /// Seconds that count
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) duration: u64,
    /// Worker processes of the generator [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) workers: Option<u32>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FloorServeArgs {
    /// Users that may connect
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(crate) users: u64,
}
