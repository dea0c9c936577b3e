//! What all workers and the control thread share.

use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use foldhash::fast::SeedableRandomState;
use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::{Directory, DirectoryError};

use crate::admission::Admission;
use crate::config::Config;
use crate::metrics::WorkerMetrics;
use crate::stream::registration::Quota;
use crate::stream::sasl::UnknownUsers;
use crate::stream::sasl::throttle::Throttle;
use crate::tls::Acceptor;

/// Shared by all threads of the server.
pub struct Shared {
    /// The one domain.
    pub domain: Box<str>,
    /// The configuration of the last start or reload. Workers keep their own reference and are told of a new one.
    pub config: RwLock<Arc<Config>>,
    /// Accounts and rosters.
    pub directory: Directory,
    /// TLS certificates.
    pub acceptor: Acceptor,
    /// Counts of connections.
    pub admission: Admission,
    /// Failed logins.
    throttle: Mutex<Throttle>,
    /// Accounts that addresses have tried to register of late.
    pub registrations: Quota,
    /// What is answered for accounts that do not exist.
    pub unknown_users: UnknownUsers,
    /// Decides home workers and indexes users. Its seed differs from run to run, so that nobody can choose
    /// account names that collide.
    pub hasher: SeedableRandomState,
    /// One block per worker.
    pub metrics: Box<[WorkerMetrics]>,
    /// Set while the server drains: no new logins.
    pub draining: AtomicBool,
    /// Numbers for stream ids and made-up resources.
    unique: AtomicU64,
}

impl Shared {
    /// Puts the shared state together.
    pub fn new(
        config: Arc<Config>,
        directory: Directory,
        acceptor: Acceptor,
        throttle: Throttle,
        hasher: SeedableRandomState,
        workers: usize,
    ) -> Shared {
        let iterations = NonZeroU32::new(config.auth.scram_iterations).unwrap_or(NonZeroU32::MIN);
        let unknown_users = UnknownUsers::new(directory.server_secret(), iterations);
        Shared {
            domain: config.domain.as_str().into(),
            config: RwLock::new(config),
            directory,
            acceptor,
            admission: Admission::default(),
            throttle: Mutex::new(throttle),
            registrations: Quota::default(),
            unknown_users,
            hasher,
            metrics: (0..workers).map(|_| WorkerMetrics::default()).collect(),
            draining: AtomicBool::new(false),
            unique: AtomicU64::new(0),
        }
    }

    /// The table of failed logins. Locked for the moment of one look-up, during logins only.
    pub fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().expect("no code panics while it holds this lock")
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
        // The table of users uses the low bits of the same hash, so the choice of the worker takes the high ones.
        ((u128::from(self.hasher.hash_one(local)) * self.metrics.len() as u128) >> 64) as usize
    }

    /// An identifier that no other call returns and that cannot be guessed (RFC 6120 §4.7.3 for stream ids).
    pub fn unique_id(&self) -> String {
        let n = self.unique.fetch_add(1, Ordering::Relaxed);
        // Two words from the seeded hasher: unique by the counter, unpredictable by the seed.
        format!("{:016x}{:08x}", self.hasher.hash_one((n, "stream")), n as u32)
    }
}
