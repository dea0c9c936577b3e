//! A world of clients with stream management (XEP-0198) who do nothing but write to each other and in rooms, are cut off and come
//! back, and a server that crashes or becomes another program.
//!
//! ```text
//!   peers ◄──► network ◄──► workers ──► logs ──► commits, some steps later
//!     │                        ▲
//!     ▼                        └── a crash: nothing is left but the logs; of a power cut, what was committed and, of the
//!   oracle                          rest, some pieces
//! ```
//!
//! The rules: what the server has acknowledged (by `<a/>`, `<resumed/>`, or the `h` of a refusal) arrives, or waits, or
//! is in the directory;
//! nothing is invented; what one writes to another first arrives in the order in which it was written; a message comes twice
//! only if its sender had to send it twice, or its recipient could not be sure that the server knew of its arrival. They are
//! checked as things arrive, after every crash, and at the end, when everybody is there and has everything. Those of rooms are
//! told in [`rooms`].

mod archive;
mod archived;
mod backup;
mod counts;
mod crash;
mod hear;
mod host;
mod oracle;
mod peer;
mod reading;
mod resume;
mod rolls;
mod rooms;
mod upgrade;
mod wishes;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use whimbrel_storage::directory::{WriteTransaction, run_inline};

use super::archive::Archived;
use super::client::Stage;
use super::machine::Words;
use super::push;
use super::world::{World, config, local};
use super::{Failure, Settings};
use crate::config::{Config, Durability, RoomsConfig};
use crate::limits::Limits;
use crate::metrics;
use crate::push::settings::{PushConfig, Show};
use crate::runtime::driver::sim::Weather;
use crate::user::commits::Commit;
use host::Rolls;
use oracle::Oracle;
use peer::Peer;
use wishes::Wishes;

/// Accounts of a world that are made while it goes on, at most.
const MADE_LATER_MAX: usize = 3;

/// Whether the device of a peer is told by push.
fn has_device(index: usize) -> bool {
    index.is_multiple_of(2)
}

/// Those who have a device have enabled it.
fn enable_push(world: &mut World, clients: Range<usize>) -> Result<(), String> {
    let devices: Vec<usize> = clients.filter(|index| has_device(*index)).collect();
    for &index in &devices {
        world.has_device((index, number_of(index)));
    }
    let job = Box::new(move |transaction: &mut WriteTransaction<'_>| {
        for index in devices {
            transaction.enable_push(&local(index), &push::device(index, number_of(index), RESOURCE), 1)?;
        }
        Ok(())
    });
    run_inline(&world.shared.directory, job).map_err(|error| error.to_string())
}

fn number_of(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// The resource of every peer.
const RESOURCE: &str = "r";

/// Of a thousand steps, those in which nothing special happens.
const USUAL: usize = 995;

/// Rounds in which everything must have arrived.
const REST_ROUNDS_MAX: usize = 20_000;

/// What happened, so that a test can see that something did.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Crashes of the server in which everything written to the logs was left.
    pub kills: u64,
    /// Crashes that took what was not committed, or pieces of it.
    pub power_cuts: u64,
    /// Messages written.
    pub messages: u64,
    /// Of these, sent a second time because the client could not know.
    pub again: u64,
    /// Arrivals of messages that had arrived before.
    pub doubled: u64,
    /// Streams resumed.
    pub resumed: u64,
    /// Of these, streams that had not been closed, and that the server had not given up for a limit: all of them.
    pub kept_promises: u64,
    /// And of these, those whose client had ended TLS, in order or not.
    pub resumed_after_tls: u64,
    /// Connections with TLS.
    pub handshakes: u64,
    /// Connections by WebSocket.
    pub websockets: u64,
    /// Streams that were resumed by another transport than the one that they were last on.
    pub changed_transport: u64,
    /// Streams that could not be resumed, and whose refusal told what was durable.
    pub refused_with_h: u64,
    /// Of these, those whose sessions slept when the server crashed.
    pub told_after_sleep: u64,
    /// Streams that could not be resumed, without that.
    pub refused: u64,
    /// Directory writes acknowledged or answered, and found.
    pub kept: u64,
    /// Messages read from the log after their recipient had been away, or had not acknowledged them.
    pub from_log: u64,
    /// Upgrades of the server, and those that did not come about because something did not come to rest.
    pub upgrades: u64,
    /// See [`Tally::upgrades`].
    pub upgrades_put_off: u64,
    /// Stops of the server, after which the next one has gone on with its sessions.
    pub stops: u64,
    /// Sessions that slept and were resumed: their devices were told by push.
    pub woken: u64,
    /// Messages of rooms that sessions without a connection have referred to, and had again out of archives.
    pub recalled: u64,
    /// Messages of rooms that no archive has, written to the log for sessions without a connection; heard, over all seats.
    pub spooled: u64,
    /// See [`Tally::spooled`].
    pub fleeting: u64,
    /// Sessions that upgrades have carried with their connections.
    pub carried: u64,
    /// Messages of rooms heard, over all seats.
    pub heard_in_rooms: u64,
    /// Messages to rooms that were acknowledged.
    pub acknowledged_in_rooms: u64,
    /// Messages to rooms that were refused.
    pub refused_in_rooms: u64,
    /// Times that an acknowledged message was found in a room's archive.
    pub kept_in_rooms: u64,
    /// Changes of memberships that were answered.
    pub memberships: u64,
    /// Bans, changes of configurations, and ends of rooms that were answered.
    pub orders: u64,
    /// Changes of what archives are to have that were answered.
    pub preferences: u64,
    /// Pages of archives that have come to their ends, and those that have not.
    pub pages: u64,
    /// See [`Tally::pages`].
    pub interrupted: u64,
    /// Messages of archives that have come with pages.
    pub read: u64,
    /// Archives, or parts of them, that were read from one end to the other.
    pub readings: u64,
    /// Messages of users found in archives at the end.
    pub archived: u64,
    /// Messages that were gathered where those of their accounts lie together.
    pub gathered: u64,
    /// Accounts that were made while the world went on.
    pub accounts: u64,
    /// Backups that were made while the world went on, and served afterwards.
    pub backups: u64,
    /// Messages that waited in these, and have come to their recipients.
    pub restored: u64,
    /// A hash of every byte that every client received.
    pub trace: u64,
}

/// See the module.
pub struct Managed {
    world: World,
    peers: Vec<Peer>,
    oracle: Oracle,
    /// What has been asked of rooms.
    rolls: Rolls,
    /// What archives are to have.
    wishes: Wishes,
    /// What some archives had after the last crash in which they were looked at.
    seen: BTreeMap<usize, Vec<Archived>>,
    /// Accounts that there are; those after them are made later.
    accounts: usize,
    /// The folder of everything.
    folder: PathBuf,
    /// The copy that was made of the server's data.
    taken: Option<backup::Taken>,
    /// Sessions so far.
    sessions: usize,
    words: Words,
    /// The step in which each log was committed last.
    committed: Vec<u64>,
    /// Crashes are rare and limits are wide: streams go on and on.
    is_quiet: bool,
    /// Nobody starts anything new.
    calm: bool,
    tally: Tally,
}

impl Managed {
    /// A world of this seed, in the empty folder `data`.
    ///
    /// # Errors
    /// The folder cannot be written, in words.
    pub fn new(seed: u64, data: &Path) -> Result<Managed, String> {
        let usual = Settings::small(seed);
        let clients = usual.clients.clamp(3, 12);
        let weather = Weather { descriptors_max: 1 << 20, accept_queue_max: 100, ..usual.weather.clone() };
        // One client for each user: between several, order is not promised to what returns from one of them.
        let made_later = if seed % 2 == 1 { MADE_LATER_MAX.min(clients - 2) } else { 0 };
        let settings = Settings {
            clients,
            users: clients,
            made_later,
            sessions_unauthenticated: 1000,
            jobs: 1024,
            weather,
            steps: 12_000,
            ..usual
        };
        let home = data.join("data");
        fs::create_dir(&home).map_err(|error| error.to_string())?;
        let plain = config(&settings, &home);
        let mut limits = Limits { sm_resume_seconds: 4, ..plain.limits.clone() };
        let is_quiet = seed % 3 == 2;
        if !is_quiet {
            // So small that peers which acknowledge late get past them.
            limits.sm_unacked_stanzas = 64;
            limits.sm_unacked_bytes = 2 * limits.stanza_bytes;
            limits.detached_bytes = 4_000;
        }
        // Those who are in rooms, and flood each other with presence beside.
        limits.directed_presence = 64;
        let rooms = RoomsConfig {
            occupant_messages_per_second: 1_000_000,
            room_messages_per_second: 1_000_000,
            ..plain.rooms.clone()
        };
        // What it says is judged in other worlds; here it is what lets sessions sleep.
        let push = PushConfig { show: Show::Nothing, ..plain.push.clone() };
        let config = Config { limits, rooms, push, durability: Durability::Disk, ..plain };
        let peers = (0..clients).map(|_| Peer::default()).collect();
        let committed = vec![0; settings.workers];
        let (mut world, words) = World::with(settings, config, Commit::ByHand)?;
        let accounts = clients - made_later;
        rooms::prepare(&world.shared.directory, accounts)?;
        enable_push(&mut world, 0..accounts)?;
        world.clients.iter_mut().for_each(|client| client.resource = RESOURCE.into());
        Ok(Managed {
            world,
            peers,
            oracle: Oracle::default(),
            rolls: Rolls::default(),
            wishes: Wishes::default(),
            seen: BTreeMap::new(),
            accounts,
            folder: data.to_owned(),
            taken: None,
            sessions: 0,
            words,
            committed,
            is_quiet,
            calm: false,
            tally: Tally::default(),
        })
    }

    /// Writes down what a user says and hears, for [`Failure::log`].
    pub fn watch(&mut self, users: Vec<usize>) {
        self.world.settings.watch = users;
    }

    /// Lives through times of trouble, then lets everything arrive.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn run(mut self) -> Result<Tally, Failure> {
        for _ in 0..self.world.settings.steps {
            self.step();
            self.world.stop_at_failure()?;
        }
        self.come_to_rest()?;
        let outcome = self.check_rooms_at_rest();
        self.note(outcome);
        let outcome = self.check_counts();
        self.note(outcome);
        self.world.stop_at_failure()?;
        self.count_server();
        self.serve_copy()?;
        let (messages, again, doubled) = self.oracle.counts();
        let (trace, handshakes) = (self.world.report.trace, self.world.doors.opened);
        let (heard_in_rooms, kept_in_rooms) = (self.world.rooms.count, self.world.rooms.kept);
        let fleeting = self.world.rooms.fleeting.count;
        Ok(Tally {
            fleeting,
            messages,
            again,
            doubled,
            trace,
            handshakes,
            heard_in_rooms,
            kept_in_rooms,
            ..self.tally
        })
    }

    /// Nobody starts anything new until everything has arrived; what waits, what has arrived and what archives have is what it must
    /// be.
    fn come_to_rest(&mut self) -> Result<(), Failure> {
        self.calm = true;
        for _ in 0..REST_ROUNDS_MAX {
            self.round();
            self.world.stop_at_failure()?;
            if self.is_done() && self.world.is_at_rest() {
                break;
            }
        }
        if !self.is_done() || !self.world.is_at_rest() {
            let left: Vec<_> = self.peers.iter().take(self.accounts).map(Peer::left).collect();
            self.world.fail(format!("not everything arrives; of each peer is left {left:?}"));
        }
        let waiting = self.waiting();
        let outcome = self.oracle.nothing_is_lost(&waiting);
        self.note(outcome);
        let outcome = self.check_archives_at_rest();
        self.note(outcome);
        self.world.stop_at_failure()
    }

    /// Adds what the server that is about to go has counted.
    fn count_server(&mut self) {
        for (description, value) in metrics::totals(&self.world.shared.metrics) {
            match description.name {
                "sm.resumed" => self.tally.resumed += value,
                "sm.woken" => self.tally.woken += value,
                "sm.recalled" => self.tally.recalled += value,
                "sm.spooled" => self.tally.spooled += value,
                "log.delivered_later" => self.tally.from_log += value,
                _ => {}
            }
        }
    }

    fn note(&mut self, outcome: Result<(), String>) {
        if let Err(what) = outcome {
            self.world.fail(what);
        }
    }

    fn waiting(&mut self) -> std::collections::BTreeSet<u32> {
        self.world.waiting().unwrap_or_else(|what| {
            self.world.fail(what);
            Default::default()
        })
    }

    fn step(&mut self) {
        let world = &mut self.world;
        world.step += 1;
        world.gather();
        match world.random.below(1000) {
            usual @ 0..USUAL => self.go_on(usual),
            995 if world.random.permille(150) => self.upgrade(),
            997 if world.random.permille(150) => self.stop_and_start(),
            998 if world.random.permille(150) => self.make_account(),
            999 if world.random.permille(150) => self.back_up(),
            996 if world.random.permille(250) => self.crash_while_one_sleeps(),
            996 if world.random.permille(200) => {
                // Long enough for a session without a connection to end, now and then.
                for _ in 0..world.random.between(1, 40) {
                    self.world.pass(900);
                    self.round();
                }
            }
            _ if world.random.permille(if self.is_quiet { 20 } else { 200 }) => self.crash(),
            _ => {}
        }
    }

    /// One thing moves: which, says a number below [`USUAL`].
    fn go_on(&mut self, which: usize) {
        let world = &mut self.world;
        match which {
            0..400 => {
                let worker = world.random.below(world.workers.len());
                world.turn(worker);
            }
            400..450 => {
                world.job();
            }
            450..520 => {
                let worker = world.random.below(world.workers.len());
                self.commit(worker);
            }
            520..750 => {
                for (number, link) in world.network.take_clients() {
                    if self.world.random.permille(600) {
                        self.hear(number as usize, link);
                    } else {
                        self.world.network.remind(number, link);
                    }
                }
            }
            750..950 => {
                for _ in 0..=self.peers.len() / 4 {
                    let index = self.world.random.below(self.accounts);
                    self.act(index);
                }
            }
            _ => {
                let ms = world.random.below(20) as u64;
                world.pass(ms);
            }
        }
    }

    /// Lets everything move once.
    fn round(&mut self) {
        self.world.step += 1;
        self.world.gather();
        for worker in 0..self.world.workers.len() {
            self.world.turn(worker);
            self.commit(worker);
        }
        while self.world.job() {}
        for index in 0..self.accounts {
            if self.calm {
                self.act_calmly(index);
            }
            self.world.flush(index);
        }
        for (number, link) in self.world.network.take_clients() {
            self.hear(number as usize, link);
        }
        if self.calm {
            self.world.pass(20);
        }
    }

    fn commit(&mut self, worker: usize) {
        let log = self.world.workers[worker].core().actors().commits.log();
        match log.commit_now() {
            Ok(()) => self.committed[worker] = self.world.step,
            Err(error) => self.world.fail(error.to_string()),
        }
    }

    /// Everybody is there, knows that all they have written is durable, and has acknowledged all that was for them.
    fn is_done(&self) -> bool {
        let clients = self.world.clients.iter().zip(&self.peers).take(self.accounts);
        let is_done = |peer: &Peer| peer.is_quiescent() && peer.reader.has_read;
        let rest = clients.filter(|(client, peer)| client.stage != Stage::Online || !is_done(peer)).count();
        let logs =
            self.world.workers.iter().map(|worker| worker.core().actors().commits.log().actors().len());
        let archives = self.world.workers.iter().map(|worker| worker.core().actors().commits.archive());
        rest == 0
            && logs.sum::<usize>() == 0
            && archives.map(|archive| archive.load().retractions).sum::<u64>() == 0
    }
}
