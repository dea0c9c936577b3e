//! What all workers and the control thread share.

pub mod push_accounts;
mod saved;
pub mod secret;
pub mod turn;
pub mod upload;

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock};

use foldhash::fast::SeedableRandomState;
use whimbrel_stats::Blocks;
use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::{Directory, DirectoryError};

use crate::admission::Admission;
use crate::busiest::Board;
use crate::chance::Chance;
use crate::config::Config;
use crate::leaving::Leaving;
use crate::memory::Memory;
use crate::metrics::WorkerMetrics;
use crate::phone::request::Requests;
use crate::proto::archive::ids::ArchiveIds;
use crate::proto::sasl::UnknownUsers;
use crate::proto::sasl::audit::{Audit, FailedLogin};
use crate::proto::sasl::looks::{FIRST_PAGE, Looks, LooksSurvey, PAGE};
use crate::proto::sasl::throttle::{self, Throttle};
use crate::proto::sm::StreamId;
use crate::push::outlet::Outlet;
use crate::quota::{AccountQuota, RegistrationQuota};
use crate::stats::Stats;
use crate::tls::Acceptor;
use push_accounts::PushAccounts;

pub use saved::{DirectoryLock, EarlierStreams};
use turn::ExternalServices;
use upload::UploadSlots;

/// What a run has from the runs before.
#[derive(Debug)]
pub struct InheritedTables {
    /// Decides home workers. The same in each run, because the logs belong to workers; secret, so that nobody can
    /// choose account names that meet on one worker.
    pub homes: u64,
    /// What was safe of the last run's managed streams, by their names.
    pub streams: HashMap<u64, u32>,
}

/// What [`Shared`] is put together from.
pub struct SharedParts {
    /// The configuration.
    pub config: Arc<Config>,
    /// Accounts and rosters.
    pub directory: Directory,
    /// TLS certificates.
    pub acceptor: Acceptor,
    /// Failed logins.
    pub throttle: Throttle,
    /// Indexes users.
    pub hasher: SeedableRandomState,
    /// How many workers there are.
    pub workers: usize,
    /// From the runs before.
    pub inherited: InheritedTables,
}

/// Shared by all threads of the server.
pub struct Shared {
    /// The one domain.
    pub domain: Box<str>,
    /// The domain of its rooms.
    pub rooms_domain: Box<str>,
    /// The domain of its publish-subscribe service.
    pub nodes_domain: Box<str>,
    /// The domain of its push service.
    pub push_domain: Box<str>,
    /// The domain of HTTP upload.
    pub upload_domain: Box<str>,
    /// The configuration of the last start or reload. Workers keep their own reference and are told of a new one.
    pub config: RwLock<Arc<Config>>,
    /// STUN and TURN servers, and the key of their credentials.
    external: RwLock<Arc<ExternalServices>>,
    /// Accounts and rosters.
    pub directory: Directory,
    /// TLS certificates.
    pub acceptor: Acceptor,
    /// Counts of connections.
    pub admission: Admission,
    /// Failed logins.
    throttle: Mutex<Throttle>,
    /// Accounts that addresses have tried to register of late.
    pub registrations: RegistrationQuota,
    /// Rooms that accounts have made of late.
    pub rooms_made: AccountQuota,
    /// People whom accounts have invited to rooms of late, who do not know them.
    pub strangers_invited: AccountQuota,
    /// Wrong passwords, and tokens of links, that accounts have given to rooms of late.
    pub wrong_passwords: AccountQuota,
    /// Where streams take registrations by phone number (`registration.in_band`); empty while there are none.
    pub registration: OnceLock<Requests>,
    /// Where notifications for devices go; empty while there is no push.
    pub push: OnceLock<Arc<Outlet>>,
    /// Which accounts may have a device; empty while there is no push, or as long as it is not known.
    pub push_accounts: OnceLock<PushAccounts>,
    /// What slots for uploads are made from; empty while nothing is taken.
    pub uploads: OnceLock<UploadSlots>,
    /// What is answered for accounts that do not exist.
    pub unknown_users: UnknownUsers,
    /// How accounts look, and with them those that do not exist.
    survey: Mutex<LooksSurvey>,
    /// Lines about failed logins.
    audit: Mutex<Audit>,
    /// Indexes users. Its seed differs from run to run, so that nobody can choose
    /// account names that collide.
    pub hasher: SeedableRandomState,
    /// One block per worker.
    pub metrics: Blocks<WorkerMetrics>,
    /// All metrics, those of the workers included.
    pub stats: Stats,
    /// The accounts and addresses that cause most.
    pub busiest: Board,
    /// How much of the memory budget is used.
    pub memory: Memory,
    /// Set while the server drains: no new logins.
    pub draining: AtomicBool,
    /// Which workers have nothing to do any more.
    pub leaving: Leaving,
    /// From the runs before.
    inherited: InheritedTables,
    /// Ids of archived messages.
    pub archive_ids: ArchiveIds,
    /// Random bytes.
    pub chance: Chance,
    /// Numbers for stream ids and made-up resources.
    unique: AtomicU64,
}

impl Shared {
    /// Puts the shared state together.
    pub fn new(parts: SharedParts) -> Shared {
        let SharedParts { config, directory, acceptor, throttle, hasher, workers, inherited } = parts;
        let iterations = new_iterations(&config);
        let stats = Stats::in_memory(workers);
        let mut survey = LooksSurvey::default();
        let looks = survey.step(&directory, FIRST_PAGE, iterations, 0);
        let looks = looks.unwrap_or_else(|| Looks::usual(iterations));
        let unknown_users = UnknownUsers::new(directory.server_secret(), looks);
        let archive_ids = ArchiveIds::of_server(&directory.server_secret());
        Shared {
            domain: config.domain.as_str().into(),
            rooms_domain: config.rooms.domain_of(&config.domain).into(),
            nodes_domain: config.pubsub.domain_of(&config.domain).into(),
            push_domain: config.push.domain_of(&config.domain).into(),
            upload_domain: config.upload.domain_of(&config.domain).into(),
            config: RwLock::new(config),
            external: RwLock::default(),
            directory,
            acceptor,
            admission: Admission::default(),
            throttle: Mutex::new(throttle),
            registrations: RegistrationQuota::default(),
            rooms_made: AccountQuota::default(),
            strangers_invited: AccountQuota::default(),
            wrong_passwords: AccountQuota::default(),
            registration: OnceLock::new(),
            push: OnceLock::new(),
            push_accounts: OnceLock::new(),
            uploads: OnceLock::new(),
            unknown_users,
            survey: Mutex::new(survey),
            audit: Mutex::new(Audit::default()),
            hasher,
            metrics: stats.workers.clone(),
            stats,
            busiest: Board::new(workers),
            memory: Memory::default(),
            draining: AtomicBool::new(false),
            leaving: Leaving::new(workers),
            inherited,
            archive_ids,
            chance: Chance::system(),
            unique: AtomicU64::new(0),
        }
    }

    /// Puts the metrics into the stats file of a data directory, before anything has been counted.
    ///
    /// # Errors
    /// The system's reason; then they stay in memory.
    pub fn publish_stats(&mut self, data: &Path) -> std::io::Result<()> {
        self.stats = Stats::in_file(data, self.metrics.len())?;
        self.metrics = self.stats.workers.clone();
        Ok(())
    }

    /// The table of failed logins. Locked for the moment of one look-up, during logins only.
    pub fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().expect("no code panics while it holds this lock")
    }

    /// Counts a page of how accounts look to clients that log in; called now and then, off the workers. `now_ms` is any
    /// clock.
    pub fn survey(&self, now_ms: u64) {
        let iterations =
            new_iterations(&self.config.read().expect("nothing panics while it holds this lock"));
        let mut survey = self.survey.lock().expect("nothing panics while it holds this lock");
        if let Some(looks) = survey.step(&self.directory, PAGE, iterations, now_ms) {
            self.unknown_users.resemble(looks);
        }
    }

    /// What clients are told of STUN and TURN servers. Locked for the moment of one look-up, when a client asks.
    pub fn external(&self) -> Arc<ExternalServices> {
        self.external.read().expect("nothing panics while it holds this lock").clone()
    }

    /// From now on clients are told of these.
    pub fn set_external(&self, services: ExternalServices) {
        *self.external.write().expect("nothing panics while it holds this lock") = Arc::new(services);
    }

    /// The configuration has changed: what depends on it here.
    pub fn reconfigured(&self, config: &Config) {
        self.throttle().configure(throttle::Limits::of(&config.limits));
        self.survey.lock().expect("nothing panics while it holds this lock").hurry();
    }

    /// Counts a failed login and leaves a line about it. `worker` is the one that counts.
    pub fn note_failed_login(&self, worker: usize, login: &FailedLogin<'_>, now_ms: u64) {
        let metrics = &self.metrics[worker];
        login.why.count(metrics);
        let key = login.account.map_or(0, |account| self.hasher.hash_one(account));
        self.busiest.failed(key, login.account, login.address);
        if !self.tell_failed_login(login, now_ms) {
            metrics.login_unlogged.add(1);
        }
    }

    /// Tells of a login that failed: a line in the log, unless there are too many. Returns whether there was one.
    pub fn tell_failed_login(&self, login: &FailedLogin<'_>, now_ms: u64) -> bool {
        self.audit.lock().expect("nothing panics while it holds this lock").tell(login, now_ms)
    }

    /// A second has passed: tells how many failed logins had no line of their own.
    pub fn tell_left_out(&self, now_ms: u64) {
        self.audit.lock().expect("nothing panics while it holds this lock").turn(now_ms);
    }

    /// The stored keys of an account; `None` when there is no such account.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn credentials(&self, local: &str) -> Result<Option<Credentials>, DirectoryError> {
        self.directory.credentials(local)
    }

    /// The worker that is the home of a user.
    pub fn home_of(&self, local: &str) -> usize {
        home_of(self.inherited.homes, local, self.metrics.len())
    }

    /// The worker that is the home of a room.
    pub fn home_of_room(&self, name: &str) -> usize {
        home_of_room(self.inherited.homes, name, self.metrics.len())
    }

    /// The worker that is the home of a node of the publish-subscribe service.
    pub fn home_of_node(&self, name: &str) -> usize {
        home_of(self.inherited.homes ^ NODES, name, self.metrics.len())
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.metrics.len()
    }

    /// Up to which number a stream of the run before was safe (XEP-0198 §5), when that is known.
    pub fn safe_before(&self, stream: StreamId) -> Option<u32> {
        self.inherited.streams.get(&stream.0).copied()
    }

    /// What was safe of the streams of the run before, for as long as any of them might have been resumed; `now_ms` is the
    /// server's clock.
    pub fn streams_before(&self, now_ms: u64) -> Vec<(u64, u32)> {
        let config = self.config.read().expect("nothing panics while it holds this lock");
        let seconds = config.limits.sm_resume_seconds.max(config.push.resume_seconds());
        let until_ms = u64::from(seconds) * 1000;
        match now_ms < until_ms {
            true => self.inherited.streams.iter().map(|(stream, safe)| (*stream, *safe)).collect(),
            false => Vec::new(),
        }
    }

    /// A name for a managed stream (XEP-0198 §5), that no other call returns and that cannot be guessed.
    pub fn stream_id(&self) -> StreamId {
        let n = self.unique.fetch_add(1, Ordering::Relaxed);
        StreamId(self.hasher.hash_one((n, "stream management")).max(1))
    }

    /// An identifier that no other call returns and that cannot be guessed (RFC 6120 §4.7.3 for stream ids).
    pub fn unique_id(&self) -> String {
        let n = self.unique.fetch_add(1, Ordering::Relaxed);
        // Two words from the seeded hasher: unique by the counter, unpredictable by the seed.
        format!("{:016x}{:08x}", self.hasher.hash_one((n, "stream")), n as u32)
    }
}

/// Rooms are spread over the workers otherwise than users of the same names.
const ROOMS: u64 = 0x726f_6f6d_7320_6174;

/// And nodes otherwise than both.
const NODES: u64 = 0x6e6f_6465_7320_6174;

/// PBKDF2 rounds of accounts that are made now.
fn new_iterations(config: &Config) -> NonZeroU32 {
    NonZeroU32::new(config.auth.scram_iterations).unwrap_or(NonZeroU32::MIN)
}

/// The seed of [`home_of`] for this data directory.
pub fn home_seed(directory: &Directory) -> u64 {
    let secret = directory.server_secret();
    let (first, _) = secret.split_first_chunk().expect("the secret has 32 bytes");
    // Not the secret itself: nobody may learn of it from where users live.
    mix(u64::from_le_bytes(*first) ^ 0x686f_6d65_2073_6565)
}

/// The worker that is the home of a room, out of so many. As [`home_of`].
pub fn home_of_room(seed: u64, name: &str, workers: usize) -> usize {
    home_of(seed ^ ROOMS, name, workers)
}

/// The worker that is the home of a user, out of so many. Never to be changed: messages that wait are where it says.
pub fn home_of(seed: u64, local: &str, workers: usize) -> usize {
    if workers == 1 {
        return 0;
    }
    let mut hash = seed;
    for chunk in local.as_bytes().chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash ^ u64::from_le_bytes(word));
    }
    hash = mix(hash ^ local.len() as u64);
    ((u128::from(hash) * workers as u128) >> 64) as usize
}

/// Spreads every bit over all others (the finalizer of MurmurHash3).
fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_stay_where_they_were_in_every_release() {
        let names = ["juliet", "romeo", "a-localpart-of-more-than-eight-bytes", ""];
        assert_eq!(names.map(|name| home_of(7, name, 16)), [8, 12, 11, 7]);
    }

    #[test]
    fn users_are_spread_evenly() {
        let mut counts = [0; 8];
        for n in 0..8000 {
            counts[home_of(1, &format!("user{n}"), 8)] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
