//! The command line of `whimbrelctl`.

mod node;
mod room;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use node::{NodeCommand, NodeCreateArgs};
pub(crate) use room::{HatCommand, InviteCommand, MemberCommand, RoomCommand, RoomCreateArgs};

/// Administration of a Whimbrel server.
///
/// Commands go to the server that runs in the data directory. When none runs, the `user` commands change the data
/// directory themselves.
///
/// Without --data, the data directory is that of the environment variable WHIMBREL_DATA, else that of the server which
/// runs on this machine, else that of its unit (systemd, or rc.conf on FreeBSD), else ./whimbrel-data. Which one it is, is
/// told on standard error, unless JSON is wanted.
#[derive(Debug, Parser)]
#[command(name = "whimbrelctl", version, after_help = "Exit codes: 0 success, 1 failure, 2 usage.")]
pub(crate) struct Cli {
    /// Data directory of the server [default: WHIMBREL_DATA, else of the server that runs, or of its unit]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) data: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Accounts
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
    /// What the server is and how it does
    Status,
    /// Every queue of the server with its length, high-water mark and limit
    Queues,
    /// The accounts and addresses with most messages, bytes, waiting output and failed logins
    Busiest,
    /// Who is logged in
    Sessions {
        /// Only this account
        #[arg(long, value_name = "JID")]
        user: Option<String>,
        /// List at most so many
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        max: u32,
    },
    /// End the sessions of an account (bare JID) or one session (full JID)
    Kick {
        /// The address
        jid: String,
    },
    /// Take no new logins; the server ends when the last session is gone or after limits.drain_seconds
    Drain,
    /// End all streams and stop the server; returns when it has ended
    Stop,
    /// Read the certificate and the configuration file again, like SIGHUP
    Reload,
    /// Rooms: group conversations
    Room {
        #[command(subcommand)]
        command: RoomCommand,
    },
    /// Nodes of the publish-subscribe service
    Node {
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// Registration by phone number
    Registration {
        #[command(subcommand)]
        command: RegistrationCommand,
    },
    /// Devices that push services tell of messages
    Push {
        #[command(subcommand)]
        command: PushCommand,
    },
    /// Files that accounts have uploaded
    Upload {
        #[command(subcommand)]
        command: UploadCommand,
    },
    /// Replace the running server's program with another one; every connection stays
    ///
    /// The new program is asked before anything stops: whether it can read the state of the running one, and whether
    /// it can run with the configuration, which is read anew. If it cannot, or fails later, the server goes on as it
    /// was and the reason is told.
    Upgrade {
        /// The program [default: what now lies where the running program was started from]
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
    },
    /// The log of messages that wait for their recipients; reads the files, also while the server runs
    Log {
        #[command(subcommand)]
        command: LogCommand,
    },
    /// The archives of messages that accounts have exchanged (XEP-0313)
    Archive {
        #[command(subcommand)]
        command: ArchiveCommand,
    },
    /// Copy directory and message log, as they are now, into a new folder; also while the server runs
    Backup(BackupArgs),
    /// Check limits, sysctls, memory, clock, certificate and data directory
    Doctor {
        /// Connections that the machine shall hold
        #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
        connections: u64,
        /// The server's configuration file, for certificate and addresses when no server runs
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// The DNS records by which clients find the server, for the zone; with --check, what is there
    ///
    /// Domain and ports are those of the running server, else of --config, else the defaults.
    Dns(DnsArgs),
    /// Print shell completions
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write man pages into a directory
    Man {
        /// The directory
        dir: PathBuf,
    },
}

/// `backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The folder; it must not exist or be empty. To restore, start the server with it as data directory
    #[arg(required_unless_present = "into", conflicts_with = "into")]
    pub(crate) dir: Option<PathBuf>,
    /// Make a backup beside earlier ones in this folder, and share with them what has not changed since
    ///
    /// Each is whole by itself. To restore one, copy it to a folder of its own (`cp -a`): served where it is, it would change
    /// the others. One that was interrupted is gone on with by the next.
    #[arg(long, value_name = "PLACE")]
    pub(crate) into: Option<PathBuf>,
    /// With --into: keep so many of the newest backups in PLACE, and remove the others
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep: Option<u32>,
    /// With --into: make one after another, each so many seconds after the last began, until it is ended
    ///
    /// What was acknowledged before the newest backup began is in it. A backup that fails is told, and the next is tried in time;
    /// while no server runs, none is made.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) every: Option<u32>,
    /// Write no more than so much in a second, on the average
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) mib_per_second: Option<u32>,
    /// Read the copy back whole, and fail when anything in it is damaged
    #[arg(long)]
    pub(crate) verify: bool,
}

/// `dns`.
#[derive(Debug, Args)]
pub(crate) struct DnsArgs {
    /// Compare with what the DNS says; exit code 1 when something must be mended
    #[arg(long)]
    pub(crate) check: bool,
    /// The machine's name, which the records lead to [default: the domain]
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// The domain [default: as configured]
    #[arg(long, value_name = "NAME")]
    pub(crate) domain: Option<String>,
    /// The server's configuration file, when no server runs
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The DNS server to ask [default: the first one of /etc/resolv.conf]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) resolver: Option<SocketAddr>,
    /// Address of XMPP over WebSocket, for host-meta
    #[arg(long, value_name = "URL")]
    pub(crate) websocket: Option<String>,
    /// Address of BOSH, for host-meta
    #[arg(long, value_name = "URL")]
    pub(crate) bosh: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RegistrationCommand {
    /// Where it listens, its gateway, what it has counted
    Status,
    /// Numbers with a PIN under way or a lock after wrong ones
    Pending,
    /// Make void a number's PIN and the key of its account, and end its sessions; the account stays
    Revoke {
        /// In international form, like +4915112345678
        number: String,
    },
    /// Send a text message without a PIN through the gateway
    TestSms {
        /// In international form, like +4915112345678
        number: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PushCommand {
    /// The devices of an account
    List {
        /// The account
        jid: String,
    },
    /// Send a notification that says nothing, and tell what the push service says
    Test {
        /// The account
        jid: String,
        /// One device, by its node [default: all]
        device: Option<String>,
    },
    /// Tell a device nothing any more, until its client enables it again
    Remove {
        /// The account
        jid: String,
        /// One device, by its node [default: all]
        device: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum UploadCommand {
    /// The files of an account
    List {
        /// The account
        jid: String,
    },
    /// What all accounts have uploaded
    Stats,
    /// Remove a file, or all files of an account; whoever has a URL finds nothing there any more
    Remove {
        /// The file, by its id or URL
        #[arg(required_unless_present = "account")]
        upload: Option<String>,
        /// All files of this account, and its slots
        #[arg(long, value_name = "JID", conflicts_with = "upload")]
        account: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Read and check every record; exit code 1 when something is damaged
    Verify,
    /// What the log holds
    Stats,
    /// Give up what waits: put the log aside, so that the next start begins with an empty one
    ///
    /// For a directory or a log that is lost, or one that does not belong to the other, and no backup of both. Moves the
    /// folder to DATA/log.discarded-N and deletes nothing. No server may run.
    Discard,
    /// Print every record, or what waits for one account
    Dump {
        /// Only messages that wait
        #[arg(long)]
        waiting: bool,
        /// Print at most so many records
        #[arg(long, value_name = "N", default_value_t = 1000)]
        max: u64,
        /// Print the stanzas as well; they are private
        #[arg(long)]
        stanzas: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ArchiveCommand {
    /// How much is archived, since when, and the ten accounts and rooms that take most; also while the server runs
    ///
    /// Bytes are those of the log that the messages need; a message that two accounts share counts for both. Rows are those
    /// of the index in the directory, one for up to 64 messages of an account.
    Stats {
        /// Only this account or room
        jid: Option<String>,
    },
    /// Print every archived message of an account or a room, the oldest first; they are private. Also while the server runs
    ///
    /// The export has what had been written when the command began; what comes later is not in it. Ids are the numbers of the
    /// log, not what clients see of them: those are encrypted under a key of the server. Exit code 1 when something cannot be
    /// read.
    Export(ExportArgs),
    /// Remove the messages of an account or a room from its archive for good; no server may run
    ///
    /// The account goes on, and what it exchanges from now on is archived as before. The other side's archive keeps its
    /// own. What still waits for the account is delivered all the same. The bytes leave the disk with the files of the log.
    Erase {
        /// The account or room
        jid: String,
        /// Only messages from before this time, like 2026-01-31 (its beginning in UTC) or 2026-01-31T12:05:59Z
        #[arg(long, value_name = "TIME", value_parser = crate::archive::parse_time)]
        before: Option<u64>,
        /// Do it; without this, only what would be erased is told
        #[arg(long)]
        yes: bool,
    },
    /// Make the index of all archives anew from the log; no server may run
    ///
    /// For an index that is lost or damaged. What was erased stays erased.
    Rebuild,
}

/// `archive export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The account or room
    pub(crate) jid: String,
    /// How the messages are written
    #[arg(long, value_enum, default_value_t = ExportFormat::Jsonl)]
    pub(crate) format: ExportFormat,
    /// A new file that only its owner can read [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// How exported messages are written.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// A JSON object a line: id, time, stanza
    Jsonl,
    /// The XML of XEP-0227, for other servers
    Xep0227,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Create an account
    Add {
        /// Bare JID, like alice@example.org
        jid: String,
        #[command(flatten)]
        password: PasswordArgs,
        #[command(flatten)]
        iterations: Iterations,
        #[command(flatten)]
        create: Create,
    },
    /// Delete an account with all that belongs to it, and end its sessions
    Del {
        /// Bare JID
        jid: String,
    },
    /// List all accounts
    List,
    /// Give an account another password; its sessions go on
    Passwd {
        /// Bare JID
        jid: String,
        #[command(flatten)]
        password: PasswordArgs,
        #[command(flatten)]
        iterations: Iterations,
    },
    /// What an account says of itself; with NAME=VALUE, set it otherwise
    ///
    /// groups.add: who may put the account into private groups without asking it: everyone, contacts, nobody, or default, as
    /// the server is configured (rooms.add).
    Config {
        /// Bare JID
        jid: String,
        /// Settings, like groups.add=nobody
        #[arg(value_name = "NAME=VALUE", value_parser = room::parse_setting)]
        set: Vec<(String, String)>,
    },
    /// Take over accounts of another server from XEP-0227 exports: keys, rosters, block lists, vCards, private XML
    ///
    /// ejabberd writes them with `ejabberdctl export_piefxis DIR`, Prosody with prosody-migrator (docs/migration.md). No
    /// server may run here meanwhile. Accounts that exist are left alone, so an interrupted run is gone on with by running it
    /// again. The exit code is 1 when something was left out; each such thing is told.
    Migrate(MigrateArgs),
    /// Write accounts as XEP-0227 has them: keys, rosters, block lists, vCards, private XML, nodes with their items
    ///
    /// For another server, or for `user migrate` here; also while the server runs: each account is as it is when it is read.
    /// Archived messages are written by `archive export`; messages that wait stay. The keys are in it, so it is as secret as the
    /// data directory.
    Export(UserExportArgs),
    /// Create accounts from a file: JID, tab, password or SCRAM keys a line
    ///
    /// SCRAM keys are what another server keeps in place of the password (RFC 5803): `SCRAM-SHA-256$4096:SALT$STOREDKEY:
    /// SERVERKEY`, salt and keys in base64, and after another tab those of SCRAM-SHA-1, where they are known.
    ///
    /// Accounts that exist are skipped, so an interrupted import is resumed by running it again. Bad lines are
    /// reported with their numbers and left out; then the exit code is 1.
    Import {
        /// The file; `-` is standard input
        file: PathBuf,
        #[command(flatten)]
        iterations: Iterations,
        #[command(flatten)]
        create: Create,
    },
}

/// Where another server's users are.
#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Files, or folders with files that end with .xml
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// A new file for the new passwords of accounts whose old ones cannot be used; without it such accounts are left out
    #[arg(long, value_name = "FILE")]
    pub(crate) passwords: Option<PathBuf>,
    /// Prosody's data directory, as /var/lib/prosody: block lists and messages that wait, which its exports lack
    #[arg(long, value_name = "DIR")]
    pub(crate) prosody_data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) iterations: Iterations,
    #[command(flatten)]
    pub(crate) create: Create,
}

/// `user export`.
#[derive(Debug, Args)]
pub(crate) struct UserExportArgs {
    /// Bare JIDs, like alice@example.org [default: all accounts]
    pub(crate) jids: Vec<String>,
    /// A new file that only its owner can read [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// Whether accounts may be made where there are none.
#[derive(Copy, Clone, Debug, Args)]
pub(crate) struct Create {
    /// Make a data directory for the domain of the address when there is none and no server runs
    #[arg(long)]
    pub(crate) create: bool,
}

/// Where the password comes from: without one of these it is asked for on the terminal.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct PasswordArgs {
    /// The password; other users of the machine can see it in the list of processes
    #[arg(long, value_name = "P")]
    pub(crate) password: Option<String>,
    /// Read the password from the first line of standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Make a strong password and print it once
    #[arg(long)]
    pub(crate) generate: bool,
}

impl PasswordArgs {
    /// Whether the password is to be asked for on the terminal.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.password.is_none() && !self.password_stdin && !self.generate
    }
}

/// What one guess of a password shall cost.
#[derive(Copy, Clone, Debug, Args)]
pub(crate) struct Iterations {
    /// PBKDF2 rounds of the stored keys [default: as the running server is configured, else 4096]
    #[arg(long, value_name = "N", value_parser = parse_rounds)]
    pub(crate) scram_iterations: Option<NonZeroU32>,
}

fn parse_rounds(text: &str) -> Result<NonZeroU32, String> {
    let most = whimbrel_storage::credentials::ITERATIONS_MAX;
    let rounds: u32 = text.parse().map_err(|error| format!("{error}"))?;
    NonZeroU32::new(rounds)
        .filter(|rounds| (1024..=most).contains(&rounds.get()))
        .ok_or_else(|| format!("1024 to {most} are allowed"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_description_of_the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn at_most_one_source_of_the_password_is_taken() {
        let table: [(&[&str], bool); 5] = [
            (&["--password", "x"], true),
            (&["--generate"], true),
            (&["--password-stdin", "--json"], true),
            (&[], true),
            (&["--password", "x", "--generate"], false),
        ];
        for (args, good) in table {
            let line = ["whimbrelctl", "user", "add", "a@b"].iter().chain(args);
            assert_eq!(Cli::try_parse_from(line).is_ok(), good, "{args:?}");
        }
    }
}
