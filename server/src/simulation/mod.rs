//! The whole server minus sockets, in one thread, with virtual time and chance from one seed.
//!
//! ```text
//!   clients ◄──► simulated network ◄──► Worker<Sim> × N ◄──► mailboxes
//!      │                                      │
//!      ▼                                      ▼
//!    oracle (what must be true)        jobs, run step by step ──► directory in a folder
//! ```
//! A [`World`] holds real workers, a real directory, and clients that speak XMPP. Each step lets one worker, one job,
//! some clients or the time move, as chance decides. The clients log in, talk, subscribe to each other, block, fall
//! silent, send rubbish, vanish and come back, over a network that cuts everything into pieces. Everything that must be true
//! whatever happens is checked while it happens and whenever the world has come to rest. The same [`Settings`] give
//! the same run, byte for byte, on every machine: [`Report::trace`] proves it, and a failure names the seed with
//! which it happens again.
//!
//! | module | what it does |
//! | --- | --- |
//! | `machine` | puts the server together |
//! | `world` | moves it, brings it to rest |
//! | `client` | a client's connection and what it believes |
//! | `frames` | WebSocket of a client |
//! | `tls` | TLS of a client, and how it ends |
//! | `come`, `act`, `leave` | what clients do of their own accord; `act` has a table with a file for each feature |
//! | `actions` | tables of weights and functions |
//! | `hear` | what clients do about what they hear |
//! | `operator` | other limits, and the end of the server |
//! | `oracle` | the rules for messages |
//! | `rooms` | the rules for rooms, and what clients make of what they hear from there |
//! | `push` | the same for devices, and what stands for a push service |
//! | `nodes` | the same for nodes of the publish-subscribe service |
//! | `sm` | another kind of world: stream management, cuts, and crashes of the server |
//! | `siege` | a third kind: attackers who do nothing but the dearest requests, beside calm talkers |
//! | `check` | the rules for presence, rosters, bounds and leaks |

mod act;
mod actions;
mod archive;
#[cfg(test)]
mod behind;
mod check;
mod client;
mod come;
mod frames;
mod gathering;
mod hear;
mod leave;
#[cfg(test)]
mod logins;
mod machine;
mod nodes;
mod operator;
mod oracle;
#[cfg(test)]
mod order;
#[cfg(test)]
mod orders;
mod push;
#[cfg(test)]
mod retracting;
mod rooms;
mod siege;
mod sm;
mod tls;
#[cfg(test)]
mod turns;
mod world;

use std::fmt;

use crate::runtime::driver::sim::{Random, Weather};

pub use siege::{Besieged, Siege};
pub use sm::{Managed, Tally};
pub use world::World;

/// Connections with TLS in a small world.
const HANDSHAKES_MAX: u32 = 200;

/// What kind of world.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Everything follows from it.
    pub seed: u64,
    /// Workers.
    pub workers: usize,
    /// Accounts.
    pub users: usize,
    /// Of these, the last ones, which are made while the world goes on.
    pub made_later: usize,
    /// Clients; several share an account, and some even a resource.
    pub clients: usize,
    /// Times of trouble; after each the world comes to rest and is examined.
    pub phases: usize,
    /// Steps of one time of trouble.
    pub steps: usize,
    /// `limits.mailbox_parcels`.
    pub mailbox_parcels: u32,
    /// `limits.mailbox_kib`.
    pub mailbox_kib: u32,
    /// `limits.mailbox_recipients`.
    pub mailbox_recipients: u32,
    /// `limits.sessions_unauthenticated`.
    pub sessions_unauthenticated: u32,
    /// `limits.output_backlog_bytes`.
    pub output_backlog_bytes: u32,
    /// Jobs that may wait (`limits.directory_queue` and `limits.crypto_queue`).
    pub jobs: usize,
    /// `limits.held_bytes`.
    pub held_bytes: u32,
    /// Connections with TLS at most; each takes some milliseconds of real time.
    pub handshakes: u32,
    /// The network.
    pub weather: Weather,
    /// Users whose conversations with the server are written down, for [`Failure::log`].
    pub watch: Vec<usize>,
}

impl Settings {
    /// A small world that differs from seed to seed in every number.
    #[must_use]
    pub fn small(seed: u64) -> Settings {
        let mut random = Random::new(seed ^ 0x5e77_1265);
        let clients = random.between(6, 60);
        Settings {
            seed,
            workers: random.between(1, 4),
            users: (clients / random.between(1, 3)).max(3),
            made_later: 0,
            clients,
            phases: 3,
            steps: 6_000,
            mailbox_parcels: random.between(1, 8) as u32,
            mailbox_kib: 1 + (seed % 5 * 20) as u32,
            mailbox_recipients: 8 + (seed % 7 * 30) as u32,
            sessions_unauthenticated: if random.permille(300) { random.between(2, 10) as u32 } else { 1000 },
            output_backlog_bytes: random.between(20_000, 80_000) as u32,
            jobs: if random.permille(300) { random.between(1, 8) } else { 1024 },
            held_bytes: if seed.is_multiple_of(3) { 2_000 } else { 1 << 20 },
            handshakes: HANDSHAKES_MAX,
            weather: Weather {
                window_bytes_max: random.between(300, 20_000),
                delay_ms_max: random.between(0, 80),
                accept_queue_max: random.between(2, 100),
                descriptors_max: if random.permille(200) { clients / 2 + 2 } else { 1 << 20 },
                idle_polls_permille: random.between(0, 400) as u32,
                short_permille: random.between(0, 500) as u32,
            },
            watch: Vec::new(),
        }
    }

    /// A world with so many clients, few of each account.
    #[must_use]
    pub fn crowd(seed: u64, clients: usize) -> Settings {
        Settings {
            users: (clients * 2 / 3).max(3),
            clients,
            workers: 4,
            phases: 1,
            steps: 4_000,
            mailbox_parcels: 4,
            sessions_unauthenticated: 20_000,
            jobs: 4096,
            weather: Weather::default(),
            ..Settings::small(seed)
        }
    }
}

/// What a run was like.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// A hash of every byte that every client received, and of the order in which they did.
    pub trace: u64,
    /// Steps taken.
    pub steps: u64,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// Sessions bound.
    pub sessions: u64,
    /// The most sessions bound at the same time.
    pub sessions_at_once: u64,
    /// Chat messages sent, delivered, copied (carbons), and answered with an error.
    pub messages: (u64, u64, u64, u64),
    /// Messages of rooms heard by those who were in them.
    pub room_messages: u64,
    /// Items of nodes of the publish-subscribe service of which subscribers have heard.
    pub node_items: u64,
    /// Notifications of devices, and messages of which it was sure that a device had to be told.
    pub notifications: (u64, u64),
    /// Presence pairs found right when the world was at rest.
    pub presences_checked: u64,
    /// Pairs of roster items found consistent when the world was at rest.
    pub rosters_checked: u64,
    /// Reloads of the configuration, with other limits.
    pub reloads: u64,
    /// Presences that were heard by somebody who had once blocked the sender, or the other way round.
    pub blocks_checked: u64,
    /// Items of nodes of which clients have heard.
    pub events: u64,
    /// Archives that clients have read from the beginning to the end.
    pub archives_read: u64,
    /// Messages that were gathered where those of their accounts lie together.
    pub gathered: u64,
    /// Connections with TLS that clients have begun.
    pub handshakes: u64,
    /// Ends of TLS without a closed stream, by kind: close_notify, the same in a stanza, truncated, flipped, too long, of
    /// a wrong type.
    pub tls_ends: [u64; 6],
    /// Whether the server was stopped in the middle: 1 or 0.
    pub stops: u64,
    /// Counters and gauges of the server at the end that are not 0, summed over its workers.
    pub metrics: Vec<(&'static str, u64)>,
}

/// A rule that does not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed that shows it.
    pub seed: u64,
    /// The step.
    pub step: u64,
    /// What is wrong.
    pub what: String,
    /// What the watched users said and heard, with the steps.
    pub log: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, step {}: {}", self.seed, self.step, self.what)
    }
}

impl std::error::Error for Failure {}
