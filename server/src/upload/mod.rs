//! HTTP upload (XEP-0363), the part that is HTTP: files come and go on the addresses of `http.listen`. Slots are given by
//! [`crate::service::upload`].
//!
//! ```text
//! PUT ─▶ URL, slot, head ─▶ transfers: room? ─▶ pieces ─▶ threads: file in incoming/ ─▶ fsync, name ─▶ directory ─▶ 201
//!                                                      └▶ or: parts ─▶ object store, completed ──────────▲
//! GET ─▶ URL, file, conditions, range ────────▶ pieces ◀─ threads, or object store: one ahead
//!                                         sweep: what is over ends; what has ended is removed from the disk
//! ```
//! The thread of the HTTP server does nothing with files: each piece goes through a queue to threads that wait for the disk. A
//! transfer has three pieces at most in memory: one that is read, and two that the connection has.
//!
//! With an object store (`[upload.s3]`) files are objects there, whose client is [`whimbrel_objects`] with a thread of its own. What
//! the directory knows of them is the same, and so is what clients see. An upload holds a part of 5 MiB beside its pieces. Files of
//! before that are on the disk are given from there until they end.
//!
//! | module | what |
//! | --- | --- |
//! | `put` | uploads |
//! | `incoming` | a file that comes, to the disk or to the object store |
//! | `get` | downloads |
//! | `outgoing` | the bytes of one |
//! | `s3` | the object store of the configuration |
//! | `threads` | the threads that wait for the disk |
//! | `transfers` | which uploads and downloads are under way |
//! | `sweep` | the end of slots and files |

mod get;
mod incoming;
mod outgoing;
mod put;
pub mod s3;
mod sweep;
mod threads;
mod transfers;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::routing::get;
use whimbrel_objects::{Settings, Store};
use whimbrel_storage::directory::{UploadId, Writer};
use whimbrel_storage::uploads::{ObjectPlace, UploadFiles};
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
    /// Where new files are kept, when that is not the data directory.
    store: Option<Store>,
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

/// The key of a file in the object store, behind its prefix: as its path in the folder of uploads.
fn key_of(id: &UploadId) -> String {
    format!("{:02x}/{id}", id.spread())
}

/// Uploads while they are taken.
pub struct Uploads {
    core: Arc<Core>,
    sweep: Sweep,
}

impl Uploads {
    /// Makes the folder of the files, removes those that were interrupted, and starts the threads that wait for the disk, and the
    /// one of the object store where files are kept in one. That is not asked for anything yet.
    ///
    /// # Errors
    /// The system's reason.
    pub fn start(
        shared: Arc<Shared>,
        writer: Arc<Writer<Then>>,
        store: Option<Settings>,
    ) -> io::Result<Uploads> {
        let (data, threads, transfers) = {
            let config = shared.config.read().expect("nothing panics while it holds this lock");
            (config.data.clone(), config.upload.threads as usize, config.upload.transfers_max as usize)
        };
        let files = UploadFiles::of(&data);
        let interrupted = files.prepare()?;
        if interrupted > 0 {
            tracing::info!(files = interrupted, "uploads were interrupted by the end of the server before");
        }
        let place = store.as_ref().map(|store| ObjectPlace {
            endpoint: store.endpoint.clone(),
            bucket: store.bucket.clone(),
            prefix: store.prefix.clone(),
        });
        files.note_place(place.as_ref())?;
        let core = Arc::new(Core {
            store: store.map(Store::start).transpose()?,
            key: SlotKey::new(&shared.directory.server_secret()),
            // What a client has left behind waits for the disk, too, and keeps nobody else from it.
            threads: Threads::start(threads, 2 * transfers)?,
            transfers: Transfers::new(2 * transfers),
            ends: AtomicBool::new(false),
            shared,
            writer,
            files,
        });
        Ok(Uploads { core, sweep: Sweep::default() })
    }

    /// The HTTP server is there, on this port: slots are given from now on.
    pub fn open(&self, port: u16) {
        let store = self.core.store.clone();
        // A second start in one process has another `Shared`, so it is empty.
        let _ = self.core.shared.uploads.set(UploadSlots { key: self.core.key.clone(), port, store });
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
        if let Some(store) = &self.core.store {
            store.close();
        }
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
