//! The world: a server put together for the simulation, and how it is moved.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use whimbrel_storage::credentials::{Credentials, SALT_BYTES};
use whimbrel_storage::directory::{self, Directory, Options};

use super::client::{Client, Stage};
use super::gathering::{self, Gathering};
use super::machine::{Machine, Start, Words};
use super::nodes::{self, NodesOracle};
use super::oracle::Oracle;
use super::push::{self, PushOracle, Recorder};
use super::rooms::RoomsOracle;
use super::tls::Doors;
use super::{Failure, Report, Settings};
use crate::clock::VirtualClock;
use crate::config::{AuthConfig, Config, Durability};
use crate::limits::Limits;
use crate::metrics;
use crate::runtime::driver::sim::{Network, Random, Sim};
use crate::runtime::driver::{ConnId, Driver};
use crate::runtime::mailbox;
use crate::runtime::timer::Millis;
use crate::shared::Shared;
use crate::user::commits;
use crate::user::jobs::{Completions, Stepped};
use crate::user::tables::{Flags, Resource};
use crate::worker::Worker;
use crate::worker::command::CommandQueue;
use crate::xml::{self, Framer};

/// The domain of every world.
pub(super) const DOMAIN: &str = "sim.example";

/// The password of every account.
pub(super) const PASSWORD: &str = "right";

/// Silence after which the server pings a client, and how long it then waits, in seconds.
const IDLE_SECONDS: u32 = 40;
const IDLE_ANSWER_SECONDS: u32 = 20;

/// Rounds in which a world must come to rest.
pub(super) const REST_ROUNDS_MAX: usize = 200_000;

/// A simulated world.
pub struct World {
    pub(super) settings: Settings,
    pub(super) random: Random,
    pub(super) network: Network,
    pub(super) clock: Arc<VirtualClock>,
    pub(super) workers: Vec<Worker<Sim>>,
    pub(super) shared: Arc<Shared>,
    pub(super) stepped: Arc<Stepped>,
    pub(super) completions: Vec<Arc<Completions>>,
    pub(super) commands: Vec<Arc<CommandQueue>>,
    /// As of the last reload.
    pub(super) config: Arc<Config>,
    pub(super) lanes: Vec<mailbox::LaneGauge>,
    pub(super) clients: Vec<Client>,
    pub(super) doors: Doors,
    pub(super) framer: Framer,
    pub(super) xml_limits: xml::Limits,
    pub(super) oracle: Oracle,
    pub(super) rooms: RoomsOracle,
    pub(super) nodes: NodesOracle,
    pub(super) pushes: PushOracle,
    pub(super) recorder: Recorder,
    pub(super) gathering: Gathering,
    pub(super) step: u64,
    pub(super) now: Millis,
    /// Numbers for presences and ids of requests.
    pub(super) counter: u32,
    /// Clients do nothing of their own accord.
    pub(super) calm: bool,
    /// The server is going down.
    pub(super) stopping: bool,
    /// Workers may leave; those that have.
    pub(super) leaving: Option<Vec<bool>>,
    /// The step in which each numbered presence was sent.
    pub(super) presence_steps: BTreeMap<u32, u64>,
    /// Healthy clients that were reset: each must have been one whose backlog was too long.
    pub(super) unexplained_resets: u64,
    pub(super) failure: Option<String>,
    pub(super) log: Vec<String>,
    pub(super) report: Report,
}

/// What a world is put on.
pub(super) struct Ground {
    pub(super) directory: Directory,
    pub(super) doors: Doors,
    pub(super) random: Random,
    pub(super) words: Words,
    pub(super) now: Millis,
}

impl World {
    /// Puts a world together, with its directory and certificate in the empty folder `data`.
    ///
    /// # Errors
    /// The folder cannot be written, in words.
    pub fn new(settings: Settings, data: &Path) -> Result<World, String> {
        let config = config(&settings, data);
        World::with(settings, config, commits::Commit::AtOnce).map(|(world, _)| world)
    }

    /// As [`World::new`], with a configuration. Also returns the chance with which its server was started.
    pub(super) fn with(
        settings: Settings,
        mut config: Config,
        commit: commits::Commit,
    ) -> Result<(World, Words), String> {
        let mut random = Random::new(settings.seed);
        let doors = Doors::fit(&mut config, settings.handshakes)?;
        let directory = open_directory(&config.data, settings.seed | 1)?;
        create_accounts(&directory, settings.users - settings.made_later)?;
        nodes::create(&directory)?;
        let words = Words::draw(&mut random);
        let ground = Ground { directory, doors, random, words, now: Millis(0) };
        World::on(settings, config, commit, ground)
    }

    /// A world on a directory that is there, with the log beside it.
    pub(super) fn on(
        settings: Settings,
        config: Config,
        commit: commits::Commit,
        ground: Ground,
    ) -> Result<(World, Words), String> {
        let Ground { directory, doors, random, words, now } = ground;
        let config = Arc::new(config);
        let machine = Machine::start(Start {
            settings: &settings,
            config: &config,
            directory: &directory,
            words,
            now,
            commit,
            left: None,
        })?;
        let Machine { network, clock, workers, shared, stepped, completions, commands, lanes, .. } = machine;
        let (recorder, gathering) = (machine.recorder, machine.gathering);
        let clients = (0..settings.clients)
            .map(|number| {
                let user = number % settings.users;
                // Every fourth client of an account shares a resource with another one.
                let resource = format!("r{}", number / settings.users % 3);
                let peer = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + (number / 3) as u32));
                Client::new(number as u32, user, resource, peer)
            })
            .collect();
        let world = World {
            random,
            network,
            clock,
            workers,
            shared,
            stepped,
            completions,
            commands,
            config,
            lanes,
            clients,
            doors,
            framer: Framer::new(),
            // A client takes what a server may send, a little more than the server takes.
            xml_limits: xml::Limits { stanza_bytes_max: 1 << 20, depth_max: 200, ..xml::Limits::default() },
            oracle: Oracle::new(settings.users),
            rooms: RoomsOracle::default(),
            nodes: NodesOracle::default(),
            pushes: PushOracle::default(),
            recorder,
            gathering,
            step: 0,
            now,
            counter: 0,
            calm: false,
            stopping: false,
            leaving: None,
            presence_steps: BTreeMap::new(),
            unexplained_resets: 0,
            failure: None,
            log: Vec::new(),
            report: Report { seed: settings.seed, trace: 0xcbf2_9ce4_8422_2325, ..Report::default() },
            settings,
        };
        Ok((world, words))
    }

    /// The server is another one now.
    pub(super) fn run_on(&mut self, machine: Machine) {
        let Machine { network, clock, workers, shared, stepped, completions, commands, lanes, .. } = machine;
        self.recorder = machine.recorder;
        self.gathering = machine.gathering.after(&self.gathering);
        (self.network, self.clock, self.workers) = (network, clock, workers);
        (self.shared, self.stepped) = (shared, stepped);
        (self.completions, self.commands, self.lanes) = (completions, commands, lanes);
    }

    /// What a worker decides with, for tests.
    #[cfg(test)]
    pub(crate) fn parts_mut(
        &mut self,
        worker: usize,
    ) -> (&mut crate::user::actors::Actors, &mut crate::env::Env, &mut crate::user::actors::Effects) {
        self.workers[worker].core_mut().parts_mut()
    }

    /// Lives through the times of trouble and the rests between them, then lets everybody leave.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn run(mut self) -> Result<Report, Failure> {
        let stops = self.random.permille(400);
        for phase in 1..=self.settings.phases {
            self.calm = false;
            for _ in 0..self.settings.steps {
                self.one_step();
                self.stop_at_failure()?;
            }
            if stops && phase == self.settings.phases {
                self.server_stops()?;
                break;
            }
            self.come_to_rest()?;
            self.settle_pushes()?;
            self.come_to_rest()?;
            self.check_at_rest();
            self.stop_at_failure()?;
        }
        self.everybody_leaves()?;
        if !self.stopping {
            self.settle_pushes()?;
            // Upkeep that the time for pushes has begun comes back.
            self.come_to_rest()?;
        }
        self.check_empty();
        self.stop_at_failure()?;
        self.report.steps = self.step;
        self.report.virtual_ms = self.now.0;
        self.report.handshakes = self.doors.opened;
        self.report.gathered = self.gathering.messages();
        self.report.room_messages = self.rooms.count;
        self.report.node_items = self.nodes.count;
        self.report.notifications = self.pushes.counts;
        let (delivered, copied, refused) = self.oracle.counts;
        self.report.messages = (self.oracle.messages_len() as u64, delivered, copied, refused);
        self.report.metrics = metrics::totals(&self.shared.metrics)
            .into_iter()
            .filter(|(description, value)| *value != 0 && !description.name.starts_with("loop."))
            .map(|(description, value)| (description.name, value))
            .collect();
        Ok(self.report)
    }

    pub(super) fn stop_at_failure(&mut self) -> Result<(), Failure> {
        match self.failure.take() {
            None => Ok(()),
            Some(what) => Err(Failure {
                seed: self.settings.seed,
                step: self.step,
                what,
                log: std::mem::take(&mut self.log),
            }),
        }
    }

    /// Remembers the first broken rule.
    pub(super) fn fail(&mut self, what: impl Into<String>) {
        self.failure.get_or_insert_with(|| what.into());
    }

    pub(super) fn trace(&mut self, client: u32, bytes: &[u8]) {
        let hash = &mut self.report.trace;
        for &byte in client.to_le_bytes().iter().chain(bytes) {
            *hash = (*hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Writes down what a watched user's client says or hears.
    pub(super) fn watch(&mut self, index: usize, arrow: &str, bytes: &[u8]) {
        let client = &self.clients[index];
        if !bytes.is_empty() && self.settings.watch.contains(&client.user) {
            let text = String::from_utf8_lossy(bytes);
            let (step, user, resource) = (self.step, client.user, &client.resource);
            self.log.push(format!("{step:>7} u{user}/{resource} #{index} {arrow} {text}"));
        }
    }

    /// Sends what a client has to say.
    pub(super) fn flush(&mut self, index: usize) {
        if !self.settings.watch.is_empty() {
            let out = self.clients[index].out.clone();
            self.clients[index].flush(&self.network);
            let sent = out.len() - self.clients[index].out.len();
            self.watch(index, "->", &out[..sent]);
            return;
        }
        self.clients[index].flush(&self.network);
    }

    pub(super) fn one_step(&mut self) {
        self.step += 1;
        match self.random.below(100) {
            0..40 => {
                let worker = self.random.below(self.workers.len());
                self.turn(worker);
            }
            40..50 => {
                self.job();
            }
            50..75 => self.hear_some(),
            75..95 => {
                let count = 1 + self.clients.len() / 20;
                for _ in 0..count {
                    let client = self.random.below(self.clients.len());
                    self.act(client);
                }
            }
            _ => {
                let ms = self.random.below(8) as u64;
                self.pass(ms);
            }
        }
        match self.random.below(6000) {
            0 | 1 if !self.stopping => self.lull(),
            2 | 3 if !self.stopping => self.reload(),
            _ => {}
        }
        self.gather();
        if self.step.is_multiple_of(128) {
            self.note_closed();
            self.check_bounds();
        }
    }

    /// Messages of archives come to lie together.
    pub(super) fn gather(&mut self) {
        let (now_ms, log) = (self.now.0, self.config.data.join("log"));
        if gathering::writes_rows_at(self.step) {
            // What there is becomes rows early: otherwise there would be few to gather.
            for worker in &mut self.workers {
                worker.core_mut().actors_mut().commits.archive_mut().seal_all();
            }
        }
        if let Err(what) = self.gathering.tick(self.step, now_ms, &log) {
            self.fail(format!("gathering: {what}"));
        }
    }

    /// Some seconds in which nobody does anything but answer.
    fn lull(&mut self) {
        for _ in 0..self.random.between(1, 10) {
            self.pass(900);
            for _ in 0..3 {
                self.round();
            }
        }
    }

    pub(super) fn turn(&mut self, worker: usize) {
        let may_leave = self.leaving.is_some();
        if may_leave && (self.has_left(worker) || self.workers[worker].rise()) {
            return self.leave(worker);
        }
        if may_leave && self.workers[worker].core().is_drained() {
            let wait = self.workers[worker].timeout(self.now);
            if wait.is_none_or(|wait| wait > Duration::from_millis(1)) {
                self.fail(format!("worker {worker} may leave and waits for events: {wait:?}"));
            }
        }
        if let Err(error) = self.workers[worker].turn(Some(Duration::ZERO)) {
            self.fail(format!("worker {worker} has ended: {error}"));
        }
        if may_leave && self.workers[worker].rest() {
            self.leave(worker);
        }
        self.hear_pushes();
    }

    /// Runs one job; whether there was one.
    pub(super) fn job(&mut self) -> bool {
        let hash_first = self.random.permille(500);
        (hash_first && self.stepped.run_hash(&self.completions))
            || self.stepped.run_write(&self.shared.directory, &self.completions)
            || self.stepped.run_hash(&self.completions)
            || self.stepped.run_look(&self.completions)
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.now = self.now.after(ms);
        self.network.advance(self.now);
        self.clock.set(self.now.0);
    }

    pub(super) fn note_closed(&mut self) -> usize {
        let network = &self.network;
        self.oracle.note_closed(self.step, |link| network.is_closed_by_server(link))
    }

    /// Lets everything move once.
    pub(super) fn round(&mut self) {
        self.step += 1;
        self.gather();
        let mut order: Vec<usize> = (0..self.workers.len()).collect();
        self.random.shuffle(&mut order);
        for worker in order {
            self.turn(worker);
        }
        while self.job() {}
        self.hear_all();
    }

    pub(super) fn is_at_rest(&mut self) -> bool {
        let now = self.now;
        self.network.is_quiet()
            && self.stepped.waiting() == (0, 0)
            && self.completions.iter().all(|completions| completions.is_empty())
            && self.workers.iter().all(|worker| !worker.core().actors().under_way.has_waiting())
            && self
                .workers
                .iter()
                .all(|worker| worker.core().actors().commits.archive().load().retractions == 0)
            && self.clients.iter().all(|client| !client.is_writing())
            && self.workers.iter_mut().all(|worker| {
                let timeout = worker.timeout(now);
                // A stalled worker wants to try again at once; the timers of an idle one are seconds away. One that may leave
                // only looks whether the others may.
                !worker.driver_mut().has_work()
                    && !worker.is_stalled()
                    && (worker.core().is_drained() || timeout.is_none_or(|wait| wait > Duration::ZERO))
            })
    }

    /// Whether a connected client has missed presence that it will be shown again at the next sweep.
    fn awaits_presence(&self) -> bool {
        let lost = |resource: &Resource| {
            resource.conn != ConnId::NONE
                && (resource.flags.has(Flags::PRESENCE_LOST) || resource.flags.has(Flags::SHOWN_AGAIN))
                && resource.flags.has(Flags::AVAILABLE)
        };
        self.workers
            .iter()
            .any(|worker| worker.core().actors().users.iter().any(|(_, resource)| lost(resource)))
    }

    /// Everybody listens again and nobody starts anything new, until nothing is under way. Those who vanished
    /// without a word are found out in the meantime.
    fn come_to_rest(&mut self) -> Result<(), Failure> {
        self.calm = true;
        self.calm_clients();
        for round in 0..REST_ROUNDS_MAX {
            self.round();
            self.stop_at_failure()?;
            if self.is_at_rest() {
                self.calm_clients();
                let dying = self.note_closed();
                let busy = self.clients.iter().any(|client| client.is_between()) || self.awaits_presence();
                if dying == 0 && !busy && self.is_at_rest() {
                    return Ok(());
                }
                // Only time helps now: delayed answers, flush deadlines, pings nobody answers.
                self.pass(1000);
            } else {
                let next = self.network.next_arrival();
                let soon = next.map_or(1, |at| at.since(self.now)).clamp(1, 50);
                self.pass(soon);
            }
            if round % 64 == 0 {
                self.check_bounds();
            }
        }
        self.fail("the world does not come to rest");
        self.stop_at_failure()
    }

    fn everybody_leaves(&mut self) -> Result<(), Failure> {
        self.calm = true;
        for index in 0..self.clients.len() {
            self.leave_somehow(index);
        }
        for _ in 0..REST_ROUNDS_MAX {
            self.round();
            self.stop_at_failure()?;
            let connections: usize = self.workers.iter_mut().map(|w| w.driver_mut().connections()).sum();
            if connections == 0 && self.network.links() == 0 && self.is_at_rest() {
                return Ok(());
            }
            let at_rest = self.is_at_rest();
            self.pass(if at_rest { 1000 } else { 5 });
        }
        let stages: Vec<(Stage, u32)> = self
            .clients
            .iter()
            .filter(|client| client.stage != Stage::Away)
            .map(|client| (client.stage, client.number))
            .collect();
        let links = self.network.links();
        self.fail(format!("connections do not end: {links} links, clients {stages:?}"));
        self.stop_at_failure()
    }
}

pub(super) fn config(settings: &Settings, data: &Path) -> Config {
    Config {
        domain: DOMAIN.into(),
        data: data.into(),
        allow_plaintext: true,
        // Hashing is not what is simulated; a real configuration could not say 1.
        auth: AuthConfig { scram_iterations: 1, ..AuthConfig::default() },
        limits: Limits {
            mailbox_parcels: settings.mailbox_parcels,
            mailbox_kib: settings.mailbox_kib,
            mailbox_recipients: settings.mailbox_recipients,
            sessions_unauthenticated: settings.sessions_unauthenticated,
            output_backlog_bytes: settings.output_backlog_bytes,
            stanza_bytes: 10_000,
            idle_seconds: IDLE_SECONDS,
            idle_answer_seconds: IDLE_ANSWER_SECONDS,
            held_bytes: settings.held_bytes,
            inactive_bytes: 4_000,
            directed_presence: 3,
            ..Limits::default()
        },
        durability: Durability::Process,
        push: push::config(settings.seed),
        log_segment_mib: 1,
        log_mib_max: 256,
        ..Config::default()
    }
}

/// The directory of a data folder; a new one, if there is none.
pub(super) fn open_directory(data: &Path, incarnation: u64) -> Result<Directory, String> {
    let options = Options {
        domain: DOMAIN.into(),
        map_bytes_max: 1 << 30,
        durable: false,
        incarnation: Some(incarnation),
    };
    Directory::open(&data.join("directory"), &options).map_err(|error| error.to_string())
}

/// What every account logs in with.
pub(super) fn credentials(salt: u8) -> Result<Credentials, String> {
    let made = Credentials::derive_with_salt(PASSWORD, NonZeroU32::MIN, &[salt; SALT_BYTES]);
    made.map_err(|error| error.to_string())
}

pub(super) fn create_accounts(directory: &Directory, users: usize) -> Result<(), String> {
    let credentials = credentials(7)?;
    let job = Box::new(move |transaction: &mut directory::WriteTransaction<'_>| {
        for user in 0..users {
            transaction.create_account(&local(user), &credentials)?;
        }
        Ok(())
    });
    directory::run_inline(directory, job).map_err(|error| error.to_string())
}

/// The localpart of a user.
pub(super) fn local(user: usize) -> String {
    format!("u{user}")
}

/// The user of a localpart.
pub(super) fn user_of(jid: &str) -> Option<usize> {
    jid.strip_suffix(&format!("@{DOMAIN}"))?.strip_prefix('u')?.parse().ok()
}

/// A bare JID.
pub(super) fn bare(user: usize) -> String {
    format!("{}@{DOMAIN}", local(user))
}

/// A full JID.
pub(super) fn full(user: usize, resource: &str) -> String {
    format!("{}@{DOMAIN}/{resource}", local(user))
}
