//! HTTP upload (XEP-0363), the part that is HTTP: files come and go on the addresses of `http.listen`. Slots are given by
//! [`crate::service::upload`].
//!
//! ```text
//! PUT ─▶ URL, slot, head ─▶ transfers: room? ─▶ pieces ─▶ threads: file in incoming/ ─▶ fsync, name ─▶ directory ─▶ 201
//! GET ─▶ URL, file, conditions, range ────────▶ pieces ◀─ threads: one ahead
//!                                         sweep: what is over ends; what has ended is removed from the disk
//! ```
//! The thread of the HTTP server does nothing with files: each piece goes through a queue to threads that wait for the disk. A
//! transfer has three pieces at most in memory: one that is read, and two that the connection has.
//!
//! | module | what |
//! | --- | --- |
//! | `put` | uploads |
//! | `get` | downloads |
//! | `threads` | the threads that wait for the disk |
//! | `transfers` | which uploads and downloads are under way |
//! | `sweep` | the end of slots and files |

mod get;
mod put;
mod sweep;
mod threads;
mod transfers;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::routing::get;
use whimbrel_storage::directory::Writer;
use whimbrel_storage::uploads::UploadFiles;
use whimbrel_upload::url::SlotKey;

use crate::config::Config;
use crate::http::metrics::UploadMetrics;
use crate::http::routes::Routes;
use crate::shared::Shared;
use crate::shared::upload::UploadSlots;
use crate::user::jobs::Then;
use sweep::Sweep;
use threads::Threads;
use transfers::Transfers;

/// Bytes that are read or written at a time.
const PIECE: usize = 256 << 10;

/// A job's ticket that no worker's table of pending jobs has.
const NO_KEY: u64 = u32::MAX as u64;

/// Methods of a file's path.
const METHODS: &str = "GET, HEAD, PUT";

/// What handlers know.
struct Core {
    shared: Arc<Shared>,
    writer: Arc<Writer<Then>>,
    files: UploadFiles,
    key: SlotKey,
    threads: Threads,
    transfers: Transfers,
    /// The server ends: nobody waits for the directory any more.
    ends: AtomicBool,
}

impl Core {
    fn config(&self) -> Arc<Config> {
        self.shared.config.read().expect("nothing panics while it holds this lock").clone()
    }

    fn metrics(&self) -> &UploadMetrics {
        &self.shared.stats.upload[0]
    }
}

/// Uploads while they are taken.
pub struct Uploads {
    core: Arc<Core>,
    sweep: Sweep,
}

impl Uploads {
    /// Makes the folder of the files, removes those that were interrupted, and starts the threads that wait for the disk.
    ///
    /// # Errors
    /// The system's reason.
    pub fn start(shared: Arc<Shared>, writer: Arc<Writer<Then>>) -> io::Result<Uploads> {
        let (data, threads, transfers) = {
            let config = shared.config.read().expect("nothing panics while it holds this lock");
            (config.data.clone(), config.upload.threads as usize, config.upload.transfers_max as usize)
        };
        let files = UploadFiles::of(&data);
        let interrupted = files.prepare()?;
        if interrupted > 0 {
            tracing::info!(files = interrupted, "uploads were interrupted by the end of the server before");
        }
        let core = Arc::new(Core {
            key: SlotKey::new(&shared.directory.server_secret()),
            // What a client has left behind waits for the disk, too, and keeps nobody else from it.
            threads: Threads::start(threads, 2 * transfers)?,
            transfers: Transfers::default(),
            ends: AtomicBool::new(false),
            shared,
            writer,
            files,
        });
        Ok(Uploads { core, sweep: Sweep::default() })
    }

    /// The HTTP server is there, on this port: slots are given from now on.
    pub fn open(&self, port: u16) {
        // A second start in one process has another `Shared`, so it is empty.
        let _ = self.core.shared.uploads.set(UploadSlots { key: self.core.key.clone(), port });
    }

    /// Has what is over end from now on, in the background.
    pub fn sweep(&self) {
        if let Err(error) = self.sweep.start(self.core.clone()) {
            tracing::error!(%error, "no thread for uploads that are over: they stay until the next start");
        }
    }

    /// Nothing is done in the background while this lives; `None`: something still is at the deadline.
    pub fn pause(&self, deadline: Instant) -> Option<MutexGuard<'_, ()>> {
        self.sweep.pause(deadline)
    }

    /// Ends what is done in the background.
    pub fn stop(&self) {
        self.core.ends.store(true, Ordering::Relaxed);
        self.sweep.stop();
    }

    /// The routes.
    pub fn routes(&self) -> Routes {
        let core = self.core.clone();
        let policy = {
            let core = self.core.clone();
            Arc::new(move || core.config().http.origins())
        };
        let download = |state: State<Arc<Core>>, request: Request| get::answer(state.0, request);
        let upload = |state: State<Arc<Core>>, request: Request| put::answer(state.0, request);
        let handlers = get(download).head(download).put(upload).with_state(self.core.clone());
        let share = move || core.config().upload.transfers_max as usize;
        Routes::new("upload", share).at_for_pages("/upload/{id}/{name}", METHODS, handlers, policy)
    }
}
