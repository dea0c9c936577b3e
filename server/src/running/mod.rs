//! A server that runs: what it consists of, draining, reloading, and its end.
//!
//! [`boot`](crate::boot) makes it, [`control`](crate::control) and the program act on it.

pub mod error;
pub mod listeners;
pub mod socket;

pub use error::{BootError, WorkerFailed};

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use whimbrel_storage::archive::gather::Gathering;
use whimbrel_storage::directory::Writer;
use whimbrel_storage::log::Syncer;

use crate::config::Config;
use crate::http::front::HttpServer;
use crate::notifier::Notifier;
use crate::notify;
use crate::registration::Registration;
use crate::running::listeners::ListenerRecord;
use crate::running::socket::ControlSocket;
use crate::runtime::mailbox::LaneGauge;
use crate::shared::Shared;
use crate::shared::turn::ExternalServices;
use crate::takeover::TakeoverOutcome;
use crate::takeover::kept::Unfinished;
use crate::takeover::launch::Launch;
use crate::upload::Uploads;
use crate::user::jobs::{Completions, CryptoPool, Then};
use crate::watch::Watch;
use crate::web::bosh::Bosh;
use crate::worker::command::{Command, CommandQueue};

/// A running server.
pub struct Server {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// The directory's writer.
    pub writer: Arc<Writer<Then>>,
    /// The crypto pool.
    pub crypto: Arc<CryptoPool>,
    /// Commands to each worker.
    pub commands: Vec<Arc<CommandQueue>>,
    /// Completed jobs of each worker.
    pub completions: Vec<Arc<Completions>>,
    /// Gauges of the mailboxes, by sending and receiving worker.
    pub lanes: Vec<Vec<[LaneGauge; 2]>>,
    /// Addresses that are listened on: STARTTLS.
    pub listening: Vec<SocketAddr>,
    /// Addresses that are listened on: direct TLS.
    pub listening_tls: Vec<SocketAddr>,
    /// Registration by phone number, where it is on.
    pub registration: Option<Arc<Registration>>,
    /// The providers of push services, where there is push.
    pub notifier: Option<Arc<Notifier>>,
    /// The HTTP server of registration, where something listens.
    pub http: Option<Arc<HttpServer>>,
    /// The HTTP server of clients in browsers, where something listens.
    pub web: Option<Arc<HttpServer>>,
    /// Sessions of BOSH.
    pub bosh: Arc<Bosh>,
    /// Uploads, where they are taken.
    pub uploads: Option<Arc<Uploads>>,
    /// What gathers messages of archives, where that is on.
    pub gathering: Option<Arc<Gathering>>,
    /// Name of the driver in use.
    pub driver: &'static str,
    /// When it started; an upgrade does not change it.
    pub started: Instant,
    /// Listening sockets.
    pub listeners: Vec<ListenerRecord>,
    /// How the process came to be; `None` when the server is a part of another program.
    pub launch: Option<Launch>,
    /// An upgrade is under way.
    pub upgrading: AtomicBool,
    /// What came of the upgrade by which this program came to be, until somebody asks.
    pub(crate) outcome: Mutex<Option<(TakeoverOutcome, Option<UnixStream>)>>,
    /// What the workers have written for the next server, until they have ended.
    pub(crate) kept: Mutex<Option<Unfinished>>,
    /// Commits the logs.
    pub(crate) syncer: Mutex<Syncer>,
    pub(crate) _watch: Watch,
    pub(crate) control: Mutex<Option<ControlSocket>>,
    pub(crate) workers: Mutex<Workers>,
}

/// What the end of the server waits for a text message that is being sent.
const REGISTRATION_WAIT: Duration = Duration::from_secs(3);

/// What the end of the server waits for notifications that are being sent.
const PUSH_WAIT: Duration = Duration::from_secs(3);

/// What the end of the server waits for answers of the HTTP server that are being written.
const ANSWERS_WAIT: Duration = Duration::from_secs(3);

/// The threads of the workers, and how their ends become known.
pub(crate) struct Workers {
    pub(crate) handles: Vec<Option<JoinHandle<std::io::Result<()>>>>,
    pub(crate) ended: Receiver<usize>,
}

impl Workers {
    /// Waits until each of them has said that it serves.
    pub(crate) fn all_serve(&mut self, serving: &Receiver<()>) -> Result<(), BootError> {
        for _ in 0..self.handles.len() {
            // One that ends takes its sender with it.
            if serving.recv().is_err() {
                self.wait_for_end().transpose()?;
                let source = std::io::Error::other("ended before it served");
                return Err(BootError::System { what: "a worker thread", source });
            }
        }
        Ok(())
    }

    /// Ends those that serve when others do not, and waits for them, so that no port is open when the process ends.
    pub(crate) fn call_off(&mut self, commands: &[Arc<CommandQueue>]) {
        for queue in commands {
            queue.give(Command::Drain { close: true, is_kept: false });
        }
        while self.wait_for_end().is_some() {}
    }

    /// Waits for the end of one more worker. `None` when all have ended.
    pub(crate) fn wait_for_end(&mut self) -> Option<Result<(), WorkerFailed>> {
        while self.handles.iter().any(Option::is_some) {
            let worker = self.ended.recv().ok()?;
            let Some(handle) = self.handles[worker].take() else { continue };
            let reason = match handle.join() {
                Ok(Ok(())) => return Some(Ok(())),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it panicked".to_owned(),
            };
            return Some(Err(WorkerFailed { worker, reason }));
        }
        None
    }
}

/// Tells when a worker's thread ends, in whatever way.
pub(crate) struct Ending {
    pub(crate) worker: usize,
    pub(crate) ended: Sender<usize>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        // Nobody listens any more when the boot has failed.
        let _ = self.ended.send(self.worker);
    }
}

impl Server {
    /// The control socket, which already listens. `None` when it was taken before.
    pub fn take_control(&self) -> Option<ControlSocket> {
        self.control.lock().expect("nothing panics while it holds this lock").take()
    }

    /// What came of the upgrade by which this program came to be, with the client who waits to hear of it. Once.
    pub fn take_outcome(&self) -> Option<(TakeoverOutcome, Option<UnixStream>)> {
        self.outcome.lock().expect("nothing panics while it holds this lock").take()
    }

    /// The HTTP servers that there are.
    pub fn http_servers(&self) -> impl Iterator<Item = &HttpServer> {
        [&self.http, &self.web].into_iter().flatten().map(|server| &**server)
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.commands.len()
    }

    /// Takes no new logins; with `close`, ends every stream with `system-shutdown`. The workers end when their
    /// last session is gone, at the latest after `limits.drain_seconds`.
    pub fn drain(&self, close: bool) {
        self.end_workers(close, false);
    }

    /// As [`Server::drain`]. `is_kept`: what the workers have just written is there for the next server.
    pub(crate) fn end_workers(&self, close: bool, is_kept: bool) {
        // At once, so that an upgrade does not go on.
        self.shared.draining.store(true, Ordering::Relaxed);
        notify::stopping(Duration::from_secs(self.config().limits.drain_seconds.into()));
        self.http_servers().for_each(|server| server.shut());
        for queue in &self.commands {
            queue.give(Command::Drain { close, is_kept });
        }
    }

    /// Whether the server drains.
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    /// Waits until all workers have ended, then until everything given to the directory is written.
    ///
    /// # Errors
    /// A worker has failed. Returned at once, while the others still run.
    pub fn join(&self) -> Result<(), WorkerFailed> {
        let mut workers = self.workers.lock().expect("nothing panics while it holds this lock");
        while let Some(end) = workers.wait_for_end() {
            end?;
        }
        self.http_servers().for_each(|server| server.shut());
        if let Some(registration) = &self.registration {
            registration.stop(REGISTRATION_WAIT);
        }
        if let Some(notifier) = &self.notifier {
            notifier.stop(PUSH_WAIT);
        }
        // Its clients are told that their streams are over.
        self.bosh.finish(ANSWERS_WAIT);
        for server in self.http_servers() {
            server.stop(ANSWERS_WAIT);
        }
        if let Some(uploads) = &self.uploads {
            uploads.stop();
        }
        if let Some(gathering) = &self.gathering {
            gathering.stop();
        }
        self.writer.finish();
        self.syncer.lock().expect("nothing panics while it holds this lock").finish();
        if let Some(unfinished) = self.kept.lock().expect("nothing panics while it holds this lock").take() {
            unfinished.finish(self.started);
        }
        Ok(())
    }

    /// Reads the certificate, the secret of TURN servers and, when one is given, a new configuration. Anything that cannot change while the server
    /// runs keeps its value, and is named in the log.
    ///
    /// # Errors
    /// What is wrong; then nothing has changed.
    pub fn reload(&self, config: Option<Config>) -> Result<(), BootError> {
        let old = self.config();
        let mut new = config.unwrap_or_else(|| (*old).clone());
        new.check()?;
        for name in keep_fixed(&old, &mut new) {
            tracing::warn!("{name} has changed in the configuration; it takes effect at the next start");
        }
        let external = ExternalServices::load(&new.turn).map_err(BootError::Turn)?;
        self.shared.acceptor.reload(&new.tls_settings())?;
        self.shared.set_external(external);
        self.shared.reconfigured(&new);
        let new = Arc::new(new);
        *self.shared.config.write().expect("nothing panics while it holds this lock") = new.clone();
        for queue in &self.commands {
            queue.give(Command::Reconfigure(new.clone()));
        }
        self.shared.stats.server[0].reloads.add(1);
        Ok(())
    }

    /// The configuration of the last start or reload.
    pub fn config(&self) -> Arc<Config> {
        self.shared.config.read().expect("nothing panics while it holds this lock").clone()
    }
}

/// Puts back what a reload cannot change, and names it.
fn keep_fixed(old: &Config, new: &mut Config) -> Vec<&'static str> {
    let mut changed = Vec::new();
    macro_rules! fixed {
        ($($field:ident),*) => {
            $(if new.$field != old.$field {
                changed.push(stringify!($field));
                new.$field = old.$field.clone();
            })*
        };
    }
    fixed!(
        domain,
        data,
        listen,
        listen_tls,
        workers,
        driver,
        pin_workers,
        backlog,
        user,
        group,
        directory_gib_max,
        durability,
        log_mib_max,
        log_segment_mib
    );
    changed.extend(new.http.keep_fixed(&old.http));
    changed.extend(new.registration.keep_fixed(&old.registration));
    changed.extend(new.push.keep_fixed(&old.push));
    changed.extend(new.upload.keep_fixed(&old.upload));
    changed
}
