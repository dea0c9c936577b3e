//! What archives need beside the logs: how much of each segment they hold, and the threads that read them.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use whimbrel_storage::archive::Tallies;
use whimbrel_storage::archive::gather::{
    GatherSettings, GatherWorld, Gatherer, Gathering, Space, free_bytes,
};
use whimbrel_storage::archive::readers::{Folders, Readers};
use whimbrel_storage::data;
use whimbrel_storage::directory::Directory;
use whimbrel_storage::log::{LogSize, gathered_journal, journal_folders, sealed_journals};

use crate::config::Config;
use crate::running::error::BootError;
use crate::user::commits::Log;
use crate::watch::archives::Archives;

/// Time after which it is looked for the first time whether something is to be gathered: a server that has just started has other
/// things to do.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// Files of each log that gathering leaves free on the disk: what logs need to go on is not taken by what can wait.
const FILES_FREE: u64 = 4;

/// Milliseconds between two lines in the server's log that say that gathering has failed.
const COMPLAIN_MS: u64 = 600_000;

/// How much of each segment the index of the archives holds.
pub(super) fn tallies(directory: &Directory) -> Result<Arc<Tallies>, BootError> {
    Ok(Arc::new(Tallies::of(directory)?))
}

/// Starts the threads that read archives, and the one that gathers, once the logs are open. `None`: there are no archives.
pub(super) fn start(
    config: &Config,
    directory: &Directory,
    tallies: &Arc<Tallies>,
    logs: &[Log],
) -> Result<Option<Archives>, BootError> {
    if !config.archive.enabled {
        return Ok(None);
    }
    let log = config.data.join(data::LOG);
    // What was gathered is to give room where it is needed, also when nothing more is to be.
    let gathers = config.archive.gather || gathered_journal(&log)?.is_some();
    let gathers = gathers && can_gather(Gatherer::prepare(&log)).is_some();
    let folders = Arc::new(Folders::new(journal_folders(&log)?).with_sealed(sealed_journals(&log)?));
    let (threads, queue) = (config.archive.readers as usize, config.archive.queries as usize);
    let readers = Arc::new(Readers::start(directory, &folders, threads, queue)?);
    let mut gathering = None;
    if gathers {
        let wait_ms = u64::from(config.archive.gather_seconds) * 1000;
        let settings = GatherSettings { wait_ms, is_on: config.archive.gather, ..GatherSettings::default() };
        if let Some(gatherer) = can_gather(Gatherer::new(directory, tallies, &folders, &log, settings)) {
            let world = Box::new(Beside::new(config, logs, log.clone()));
            gathering = Some(Arc::new(Gathering::start(gatherer, folders.clone(), FIRST_LOOK, world)?));
        }
    }
    Ok(Some(Archives { readers, tallies: tallies.clone(), folders, log, gathering }))
}

/// A server goes on without what only makes it faster.
fn can_gather<T, E: Display>(tried: Result<T, E>) -> Option<T> {
    tried
        .inspect_err(|error| {
            tracing::error!(%error, "messages of archives are not gathered until the next start");
        })
        .ok()
}

/// What the thread that gathers asks and tells.
struct Beside {
    sizes: Vec<LogSize>,
    /// Most bytes of all logs together.
    bytes_max: u64,
    /// Bytes of a file of each log.
    files_bytes: u64,
    log: PathBuf,
    begun: Instant,
    /// When a failure was last told.
    complained_ms: AtomicU64,
}

impl Beside {
    fn new(config: &Config, logs: &[Log], log: PathBuf) -> Beside {
        let options = config.log_options();
        let count = logs.len() as u64;
        Beside {
            sizes: logs.iter().map(Log::size).collect(),
            bytes_max: options.log_bytes_max.saturating_mul(count),
            files_bytes: options.segment_bytes * count,
            log,
            begun: Instant::now(),
            complained_ms: AtomicU64::new(u64::MAX),
        }
    }
}

impl GatherWorld for Beside {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn space(&self) -> Space {
        Space {
            logs_bytes: self.sizes.iter().map(LogSize::bytes).sum(),
            bytes_max: self.bytes_max,
            free_bytes: free_bytes(&self.log),
            keep_bytes: FILES_FREE * self.files_bytes,
            is_full: self.sizes.iter().any(LogSize::is_disk_full),
        }
    }

    fn failed(&self, error: &dyn Display) {
        let (now_ms, complained_ms) = (self.now_ms(), self.complained_ms.load(Ordering::Relaxed));
        if complained_ms == u64::MAX || now_ms >= complained_ms + COMPLAIN_MS {
            self.complained_ms.store(now_ms, Ordering::Relaxed);
            tracing::warn!(%error, "messages of archives cannot be gathered; it is tried again");
        }
    }
}
