//! A worker's thread: its driver, which belongs to it, and what it is fitted out with.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Instant;

use whimbrel_storage::archive::Tallies;
use whimbrel_storage::archive::readers::Readers;
use whimbrel_storage::directory::Writer;

use crate::clock::Clock;
use crate::config::{Config, DriverChoice};
use crate::env::{self, Env};
use crate::exchange::envelope::Batch;
use crate::exchange::links::Links;
use crate::running::error::BootError;
use crate::runtime::driver::mio::Mio;
use crate::runtime::driver::{Driver, Tuning, Wake};
use crate::runtime::mailbox::Post;
use crate::runtime::platform;
use crate::runtime::timer::Millis;
use crate::shared::Shared;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::commits::{Commit, CommitTracker, Log};
use crate::user::jobs::CryptoPool;
use crate::user::jobs::{Backend, Completions, Jobs, Then};
use crate::worker::Worker;
use crate::worker::command::CommandQueue;
use crate::worker::core::Core;
use crate::worker::upgrade::Restoring;

/// What a worker's thread needs beyond its driver.
pub(super) struct WorkerParts {
    pub(super) post: Post<Batch>,
    pub(super) log: Log,
    pub(super) tallies: Arc<Tallies>,
    pub(super) readers: Option<Arc<Readers>>,
    pub(super) wakers: Vec<Arc<dyn Wake>>,
    pub(super) completions: Arc<Completions>,
    pub(super) commands: Arc<CommandQueue>,
    pub(super) writer: Arc<Writer<Then>>,
    pub(super) crypto: Arc<CryptoPool>,
    pub(super) begin: Begin,
}

/// How a worker begins.
pub(super) enum Begin {
    /// With nobody; it says when it listens and its metrics are right.
    Fresh(SyncSender<()>),
    /// With the sessions of the program before.
    Again(Restoring),
}

/// What a worker's thread reports once its driver is there.
pub(super) type Ready = Result<(Arc<dyn Wake>, &'static str), BootError>;

/// Whether the workers are to use io_uring: decided once, by trying, so that all of them use the same driver.
#[cfg(target_os = "linux")]
pub(super) fn uses_uring(choice: DriverChoice) -> bool {
    if choice == DriverChoice::Mio {
        return false;
    }
    match crate::runtime::driver::uring::Uring::new(Tuning::default()) {
        Ok(_) => true,
        Err(error) if choice == DriverChoice::Uring => {
            tracing::warn!(%error, "io_uring cannot be used here; using mio (epoll)");
            false
        }
        Err(error) => {
            tracing::info!(%error, "io_uring cannot be used here; using mio (epoll)");
            false
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn uses_uring(choice: DriverChoice) -> bool {
    if choice == DriverChoice::Uring {
        tracing::warn!("io_uring exists on Linux only; using mio (kqueue)");
    }
    false
}

/// What a worker's thread begins with.
pub(super) struct WorkerThread {
    pub(super) worker: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) config: Arc<Config>,
    pub(super) plain: Vec<TcpListener>,
    pub(super) direct: Vec<TcpListener>,
    pub(super) started: Instant,
    /// Over io_uring, which has been tried.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code))]
    pub(super) uring: bool,
}

impl WorkerThread {
    /// The whole life of a worker's thread. The driver is made here, because it belongs to this thread.
    pub(super) fn run(
        self,
        ready: &SyncSender<(usize, Ready)>,
        wanted: &Receiver<WorkerParts>,
    ) -> std::io::Result<()> {
        if self.config.pin_workers {
            let cores = platform::available_cores();
            if let Some(core) = cores.get(self.worker % cores.len().max(1))
                && let Err(error) = platform::pin_to_core(*core)
            {
                tracing::warn!(worker = self.worker, %error, "cannot pin a worker to its core");
            }
        }
        if let Err(error) = platform::shorten_slices() {
            tracing::debug!(worker = self.worker, %error, "cannot have a core soon after waking");
        }
        #[cfg(target_os = "linux")]
        if self.uring {
            return match crate::runtime::driver::uring::Uring::new(Tuning::default()) {
                Ok(driver) => self.drive(driver, ready, wanted),
                Err(source) => self.cannot_drive(source, ready),
            };
        }
        match Mio::new(Tuning::default()) {
            Ok(driver) => self.drive(driver, ready, wanted),
            Err(source) => self.cannot_drive(source, ready),
        }
    }

    fn cannot_drive(self, source: std::io::Error, ready: &SyncSender<(usize, Ready)>) -> std::io::Result<()> {
        let error = BootError::System { what: "cannot make an event loop", source };
        let _ = ready.send((self.worker, Err(error)));
        Ok(())
    }

    fn drive<D: Driver>(
        self,
        mut driver: D,
        ready: &SyncSender<(usize, Ready)>,
        wanted: &Receiver<WorkerParts>,
    ) -> std::io::Result<()> {
        let _ = ready.send((self.worker, Ok((driver.waker(), driver.name()))));
        // The sender is dropped when the boot has failed elsewhere.
        let Ok(parts) = wanted.recv() else { return Ok(()) };
        let mut tls_listeners = vec![false; self.plain.len()];
        tls_listeners.resize(self.plain.len() + self.direct.len(), true);
        for listener in self.plain.into_iter().chain(self.direct) {
            driver.listen(listener)?;
        }
        let backend = Backend::Threads { writer: parts.writer, crypto: parts.crypto, readers: parts.readers };
        let clock = Clock::System { started: self.started };
        let env = Env {
            shared: self.shared,
            config: self.config,
            worker: self.worker,
            now: Millis(clock.ms()),
            clock,
            broadcast_max: env::BROADCAST_MAX,
        };
        let actors = Actors::new(
            env.shared.hasher.clone(),
            CommitTracker::new(parts.log, parts.tallies, Commit::ByThread),
        );
        let jobs = Jobs::new(env.worker, backend, parts.completions);
        let fx = Effects::new(Links::new(parts.post, parts.wakers), jobs);
        let mut worker = Worker::new(driver, Core::new(actors, env, fx, tls_listeners), parts.commands);
        match parts.begin {
            Begin::Fresh(serves) => {
                let _ = serves.send(());
            }
            Begin::Again(restoring) => {
                if !worker.restore(restoring) {
                    return Ok(());
                }
            }
        }
        worker.run()
    }
}
