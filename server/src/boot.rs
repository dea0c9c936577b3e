//! From a configuration to a running server: directory, certificate, sockets, threads.
//!
//! ```text
//! main ── signals, control socket (threads of their own)
//!  ├─ worker-0 … worker-N   one per core, pinned; driver + core
//!  ├─ directory             the one writer of accounts and rosters
//!  ├─ crypto-0 …            password hashing
//!  └─ registration, sms-0 … registration by phone number, where it is on
//! ```

mod again;

use std::collections::HashMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Instant;

use foldhash::fast::SeedableRandomState;
use thiserror::Error;
use whimbrel_storage::directory::{Directory, DirectoryError, Options, UserId, Writer};
use whimbrel_storage::log::{Log, LogError, Opened, Progress, Syncer};

use crate::config::{Config, ConfigError, DriverChoice};
use crate::control::{ControlError, ControlSocket};
use crate::registration::{self, Registration, gateway};
use crate::runtime::crypto::CryptoPool;
use crate::runtime::driver::mio::Mio;
use crate::runtime::driver::{Driver, Tuning, Wake};
use crate::runtime::jobs::{Backend, Completions, Done, Jobs, Then};
use crate::runtime::letter::Parcel;
use crate::runtime::mailbox::{self, LaneGauge, Post};
use crate::runtime::outbox::Outbox;
use crate::runtime::platform;
use crate::runtime::postroom::PostRoom;
use crate::runtime::timer::Millis;
use crate::shared::{self, Inherited, Shared};
use crate::stats::{Watch, Watched};
use crate::stream::sasl::throttle::{self, Throttle};
use crate::tls::{Acceptor, TlsError};
use crate::upgrade::guard::Guard;
use crate::upgrade::launch::Launch;
use crate::upgrade::state::{ListenerState, Serves};
use crate::upgrade::takeover::{Outcome, Takeover};
use crate::user::home::Home;
use crate::user::ledger::{Commit, Ledger};
use crate::user::subscription::under_way::UnderWay;
use crate::user::tables::Users;
use crate::worker::Worker;
use crate::worker::command::{Command, CommandQueue};
use crate::worker::core::Core;
use crate::worker::upgrade::Restoring;

/// Why the server cannot start.
#[derive(Debug, Error)]
pub enum BootError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The log of messages.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Registration by phone number.
    #[error("{0}")]
    Registration(String),
    /// A socket cannot be bound.
    #[error("cannot listen on {address}: {source}{}", remedy_for_bind(.source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The data directory cannot be made.
    #[error(
        "cannot make the data directory {path}: {source}; it must belong to the user who runs the server"
    )]
    Data {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// What the program before has left cannot be taken over.
    #[error("{0}")]
    Takeover(String),
    /// Something else of the system.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}

fn remedy_for_bind(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "; another program uses this port: stop it, or set `listen` to another port"
        }
        std::io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root: start as root and set `user` to drop privileges"
        }
        std::io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    }
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> BootError {
    move |source| BootError::System { what, source }
}

/// Completed jobs that wait for one worker at most; the threads that deliver them then wait.
const COMPLETIONS: usize = 4096;

/// What the end of the server waits for a text message that is being sent.
const REGISTRATION_WAIT: std::time::Duration = std::time::Duration::from_secs(3);

/// How often reading the log at the start is reported.
const PROGRESS_INTERVAL: std::time::Duration = std::time::Duration::from_secs(2);

/// Accounts read at once to learn their homes.
const ACCOUNTS_PAGE: usize = 10_000;

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
    pub lanes: Vec<Vec<LaneGauge>>,
    /// Addresses that are listened on: STARTTLS.
    pub listening: Vec<SocketAddr>,
    /// Addresses that are listened on: direct TLS.
    pub listening_tls: Vec<SocketAddr>,
    /// Registration by phone number, where it is on.
    pub registration: Option<Arc<Registration>>,
    /// Name of the driver in use.
    pub driver: &'static str,
    /// When it started; an upgrade does not change it.
    pub started: Instant,
    /// Listening sockets.
    pub listeners: Vec<ListenerState>,
    /// How the process came to be; `None` when the server is a part of another program.
    pub launch: Option<Launch>,
    /// An upgrade is under way.
    pub upgrading: AtomicBool,
    /// What came of the upgrade by which this program came to be, until somebody asks.
    outcome: Mutex<Option<(Outcome, Option<UnixStream>)>>,
    /// Commits the logs.
    syncer: Mutex<Syncer>,
    _watch: Watch,
    control: Mutex<Option<ControlSocket>>,
    workers: Mutex<Workers>,
}

/// The threads of the workers, and how their ends become known.
struct Workers {
    handles: Vec<Option<JoinHandle<std::io::Result<()>>>>,
    ended: Receiver<usize>,
}

/// Tells when a worker's thread ends, in whatever way.
struct Ending {
    worker: usize,
    ended: std::sync::mpsc::Sender<usize>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        // Nobody listens any more when the boot has failed.
        let _ = self.ended.send(self.worker);
    }
}

/// A worker has ended that should not have: the users it is the home of cannot be served any more.
#[derive(Debug, Error)]
#[error("worker {worker} has failed: {reason}")]
pub struct WorkerFailed {
    /// The worker.
    pub worker: usize,
    /// The system's reason, or that it panicked.
    pub reason: String,
}

/// What a worker's thread needs beyond its driver.
struct Fittings {
    post: Post<Parcel>,
    log: Log,
    wakers: Vec<Arc<dyn Wake>>,
    completions: Arc<Completions>,
    commands: Arc<CommandQueue>,
    writer: Arc<Writer<Then>>,
    crypto: Arc<CryptoPool>,
    restoring: Option<Restoring>,
}

/// What a worker's thread reports once its driver is there.
type Ready = Result<(Arc<dyn Wake>, &'static str), BootError>;

impl Server {
    /// Starts everything. Returns when all workers accept connections.
    ///
    /// # Errors
    /// What is missing and what to do about it.
    pub fn start(config: Config) -> Result<Server, BootError> {
        Server::launch(config, None, None)
    }

    /// As [`Server::start`], in a program that can be upgraded, and that may itself take over from the one before.
    ///
    /// # Errors
    /// What is missing and what to do about it. Of a takeover: before anything of it is closed, the guard of
    /// [`Takeover::open`] is to be asked for the way back, which this does itself once workers have taken sockets over.
    pub fn launch(
        config: Config,
        launch: Option<Launch>,
        taken: Option<(&mut Takeover, Option<Guard>)>,
    ) -> Result<Server, BootError> {
        config.check()?;
        let (mut takeover, guard) = taken.unzip();
        let begun = Instant::now();
        let started = takeover.as_ref().map_or(begun, |takeover| takeover.clock_start());
        if let Some(takeover) = &takeover {
            takeover.check(&config).map_err(BootError::Takeover)?;
        }
        let count = match config.workers {
            0 => platform::available_cores().len().max(1),
            n => n as usize,
        };
        if let Err(error) = platform::raise_descriptor_limit() {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
        // Whoever becomes another user does so before there are files, or he could not use them. Ports come first
        // then, because they may need root. Otherwise they come last: when one answers, everything else is there.
        let bound = match (config.user.is_empty(), &mut takeover) {
            (_, Some(takeover)) => Some(again::bind_again(takeover, &config, count)?),
            (true, None) => None,
            (false, None) => Some(bind_as_root(&config, count)?),
        };
        make_data(&config.data).map_err(|source| BootError::Data { path: config.data.clone(), source })?;
        let (directory, control, log_lock) = match &mut takeover {
            None => {
                let path = config.data.join("directory");
                let directory = Directory::open(&path, &directory_options(&config))?;
                (directory, ControlSocket::bind(&config.data)?, None)
            }
            Some(takeover) => again::open_again(takeover, &config)?,
        };
        let acceptor = Acceptor::from_config(&config)?;
        let opened = open_logs(&config, &directory, count, log_lock)?;
        let hasher = SeedableRandomState::random();
        let throttle =
            Throttle::new(throttle::Limits::default(), std::hash::BuildHasher::hash_one(&hasher, "throttle"));
        // After privileges are dropped: the server must be able to read its files again.
        let gateway = match config.registration.is_on() {
            true => {
                let made = gateway::from_config(&config.registration, &config.domain);
                Some(made.map_err(BootError::Registration)?)
            }
            false => None,
        };
        let Bound { plain: (plain, listening), direct: (direct, listening_tls), http } = match bound {
            Some(bound) => bound,
            None => bind(&config, count)?,
        };
        let listeners = [
            (&plain, &config.listen, Serves::Streams),
            (&direct, &config.listen_tls, Serves::StreamsOverTls),
            (&http, &config.registration.listen, Serves::Registration),
        ]
        .into_iter()
        .flat_map(|(groups, addresses, serves)| again::listener_states(groups, addresses, serves))
        .collect();
        let config = Arc::new(config);
        let homes = shared::home_seed(&directory);
        let seen = opened.report.streams.iter().map(|seen| (seen.stream, seen.number));
        let streams = takeover
            .iter()
            .flat_map(|takeover| takeover.server.streams.iter().copied())
            .chain(seen)
            .collect();
        let inherited = Inherited { homes, streams };
        let mut shared =
            Shared::new(config.clone(), directory.clone(), acceptor, throttle, hasher, count, inherited);
        if let Err(error) = shared.publish_stats(&config.data) {
            let path = config.data.join(whimbrel_stats::FILE_NAME);
            tracing::warn!(%error, "cannot make {}; wsar will show the system only", path.display());
        }
        let shared = Arc::new(shared);

        let (ends, ended) = std::sync::mpsc::channel();
        let uring = uses_uring(config.driver);
        let (ready, is_ready) = sync_channel::<(usize, Ready)>(count);
        let mut fit = Vec::new();
        let mut handles = Vec::new();
        let sockets = split(plain, direct, count);
        for (worker, (plain, direct)) in sockets.into_iter().enumerate() {
            let (fittings, wanted) = sync_channel(1);
            fit.push(fittings);
            let thread = WorkerThread {
                worker,
                shared: shared.clone(),
                config: config.clone(),
                plain,
                direct,
                started,
                uring,
            };
            let ready = ready.clone();
            let ending = Ending { worker, ended: ends.clone() };
            let handle = std::thread::Builder::new()
                .name(format!("worker-{worker}"))
                .spawn(move || {
                    let _ending = ending;
                    thread.run(&ready, &wanted)
                })
                .map_err(system("cannot start a worker thread"))?;
            handles.push(Some(handle));
        }
        drop(ready);
        let mut wakers: Vec<Option<Arc<dyn Wake>>> = vec![None; count];
        let mut driver = "";
        for _ in 0..count {
            let (worker, result) = is_ready.recv().map_err(|_| BootError::System {
                what: "a worker thread",
                source: std::io::Error::other("ended before it was ready"),
            })?;
            let (waker, name) = result?;
            wakers[worker] = Some(waker);
            driver = name;
        }
        let wakers: Vec<Arc<dyn Wake>> = wakers.into_iter().flatten().collect();
        let completions: Vec<Arc<Completions>> =
            wakers.iter().map(|wake| Arc::new(Completions::new(COMPLETIONS, wake.clone()))).collect();
        let commands: Vec<Arc<CommandQueue>> =
            wakers.iter().map(|wake| Arc::new(CommandQueue::new(wake.clone()))).collect();
        let deliver_to = completions.clone();
        let writer = Arc::new(Writer::start(
            directory,
            config.limits.directory_queue as usize,
            move |ticket, result| deliver_to[Jobs::worker_of(ticket)].deliver(Done::Write(ticket, result)),
        )?);
        let (crypto, _) = CryptoPool::start(
            config.auth.crypto_threads as usize,
            config.limits.crypto_queue as usize,
            &completions,
        )
        .map_err(system("cannot start the crypto pool"))?;
        let crypto = Arc::new(crypto);
        let wake_for_log = wakers.clone();
        let syncer = Syncer::start(&opened.logs, move |shard| wake_for_log[shard].wake())?;
        let posts = mailbox::grid(count, config.limits.mailbox_parcels as usize);
        let lanes: Vec<Vec<LaneGauge>> =
            posts.iter().map(|post| (0..count).map(|to| post.gauge(to)).collect()).collect();
        let registration = match gateway {
            Some(gateway) => {
                let surroundings = registration::Surroundings {
                    shared: shared.clone(),
                    writer: writer.clone(),
                    completions: completions.clone(),
                    listeners: http.into_iter().flatten().collect(),
                    started,
                    // Not before it is sure that this program goes on.
                    open: takeover.is_none(),
                };
                let running = Registration::start(surroundings, &gateway);
                Some(Arc::new(running.map_err(system("cannot start registration"))?))
            }
            None => None,
        };
        let (restored, mut has_restored) = sync_channel(count);
        let mut goes = Vec::new();
        let watched = Watched {
            shared: shared.clone(),
            writer: writer.clone(),
            crypto: crypto.clone(),
            completions: completions.clone(),
            commands: commands.clone(),
            lanes: lanes.clone(),
            registration: registration.clone(),
            started,
        };
        let watch = Watch::start(watched).map_err(system("cannot start the thread for statistics"))?;
        for (worker, ((fittings, post), log)) in fit.into_iter().zip(posts).zip(opened.logs).enumerate() {
            let restoring = takeover.as_ref().map(|takeover| {
                let (go, is_go) = sync_channel(1);
                goes.push(go);
                Restoring {
                    state: takeover.state.clone(),
                    inherited: takeover.inherited.clone(),
                    logs: takeover.server.logs.clone(),
                    reply: restored.clone(),
                    go: is_go,
                }
            });
            let sent = fittings.send(Fittings {
                restoring,
                post,
                log,
                wakers: wakers.clone(),
                completions: completions[worker].clone(),
                commands: commands[worker].clone(),
                writer: writer.clone(),
                crypto: crypto.clone(),
            });
            sent.map_err(|_| BootError::System {
                what: "a worker thread",
                source: std::io::Error::other("ended before it was fitted out"),
            })?;
        }
        drop(restored);
        let outcome = match takeover {
            None => None,
            Some(takeover) => {
                Some(again::take_over(takeover, guard.flatten(), &mut has_restored, goes, begun, driver)?)
            }
        };
        if let Some(registration) = &registration {
            registration.open();
        }
        if let (Some((outcome, _)), Some(launch)) = (&outcome, &launch) {
            shared.stats.server[0].upgraded(outcome, &launch.tally);
        }
        Ok(Server {
            listeners,
            launch,
            upgrading: AtomicBool::new(false),
            outcome: Mutex::new(outcome),
            shared,
            writer,
            crypto,
            commands,
            completions,
            lanes,
            listening,
            listening_tls,
            registration,
            driver,
            started,
            syncer: Mutex::new(syncer),
            _watch: watch,
            control: Mutex::new(Some(control)),
            workers: Mutex::new(Workers { handles, ended }),
        })
    }

    /// The control socket, which already listens. `None` when it was taken before.
    pub fn take_control(&self) -> Option<ControlSocket> {
        self.control.lock().expect("nothing panics while it holds this lock").take()
    }

    /// What came of the upgrade by which this program came to be, with the client who waits to hear of it. Once.
    pub fn take_outcome(&self) -> Option<(Outcome, Option<UnixStream>)> {
        self.outcome.lock().expect("nothing panics while it holds this lock").take()
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.commands.len()
    }

    /// Takes no new logins; with `close`, ends every stream with `system-shutdown`. The workers end when their
    /// last session is gone, at the latest after `limits.drain_seconds`.
    pub fn drain(&self, close: bool) {
        // At once, so that an upgrade does not go on.
        self.shared.draining.store(true, std::sync::atomic::Ordering::Relaxed);
        for queue in &self.commands {
            queue.give(Command::Drain { close });
        }
    }

    /// Whether the server drains.
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Waits until all workers have ended, then until everything given to the directory is written.
    ///
    /// # Errors
    /// A worker has failed. Returned at once, while the others still run.
    pub fn join(&self) -> Result<(), WorkerFailed> {
        let mut workers = self.workers.lock().expect("nothing panics while it holds this lock");
        while workers.handles.iter().any(Option::is_some) {
            let Ok(worker) = workers.ended.recv() else { break };
            let Some(handle) = workers.handles[worker].take() else { continue };
            let reason = match handle.join() {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it panicked".to_owned(),
            };
            return Err(WorkerFailed { worker, reason });
        }
        if let Some(registration) = &self.registration {
            registration.stop(REGISTRATION_WAIT);
        }
        self.writer.finish();
        self.syncer.lock().expect("nothing panics while it holds this lock").finish();
        Ok(())
    }

    /// Reads the certificate and, when one is given, a new configuration. What cannot change while the server
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
        self.shared.acceptor.reload(&new)?;
        let new = Arc::new(new);
        *self.shared.config.write().expect("nothing panics while it holds this lock") = new.clone();
        for queue in &self.commands {
            queue.give(Command::Reconfigure(new.clone()));
        }
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
    changed.extend(new.registration.keep_fixed(&old.registration));
    changed
}

fn directory_options(config: &Config) -> Options {
    Options {
        domain: config.domain.clone(),
        map_bytes_max: u64::from(config.directory_gib_max) << 30,
        ..Options::default()
    }
}

/// Opens the logs of messages, one for each worker, and tells what was found.
fn open_logs(
    config: &Config,
    directory: &Directory,
    workers: usize,
    lock: Option<File>,
) -> Result<Opened, BootError> {
    let seed = shared::home_seed(directory);
    // Asked for only when the number of workers has changed since the last run.
    let homes = OnceLock::new();
    let home =
        |user: UserId| homes.get_or_init(|| homes_of_all(directory, seed, workers)).get(&user).copied();
    let told = Mutex::new(Instant::now());
    let progress = |progress: Progress| {
        let mut told = told.lock().expect("nothing panics while it holds this lock");
        if told.elapsed() >= PROGRESS_INTERVAL {
            *told = Instant::now();
            let (done, total) = (progress.bytes_done >> 20, progress.bytes_total >> 20);
            tracing::info!("reading the message log: {done} of {total} MiB, {} messages", progress.messages);
        }
    };
    let path = config.data.join("log");
    let opened = Log::open_all_locked(&path, &config.log_options(), workers, &home, &progress, lock)?;
    let report = &opened.report;
    for damage in &report.damage {
        tracing::error!(%damage, "a part of the message log cannot be read; it was copied to log/damaged");
    }
    if report.tail_bytes_cut > 0 {
        tracing::info!(bytes = report.tail_bytes_cut, "an unfinished end of the message log was cut off");
    }
    if report.orphans > 0 {
        tracing::info!(messages = report.orphans, "messages of removed accounts were dropped");
    }
    Ok(opened)
}

/// The home worker of every account.
fn homes_of_all(directory: &Directory, seed: u64, workers: usize) -> HashMap<UserId, usize> {
    let mut homes = HashMap::new();
    let mut after: Option<String> = None;
    loop {
        let page = match directory.accounts(after.as_deref(), ACCOUNTS_PAGE) {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "cannot read the accounts");
                return homes;
            }
        };
        let Some(last) = page.last() else { return homes };
        after = Some(last.clone());
        for local in &page {
            if let Ok(Some(id)) = directory.account_id(local) {
                homes.insert(id, shared::home_of(seed, local, workers));
            }
        }
    }
}

type Sockets = Vec<Vec<TcpListener>>;

/// Sockets and addresses.
struct Bound {
    /// STARTTLS.
    plain: (Sockets, Vec<SocketAddr>),
    /// Direct TLS.
    direct: (Sockets, Vec<SocketAddr>),
    /// The HTTP API of registration.
    http: Sockets,
}

fn bind(config: &Config, workers: usize) -> Result<Bound, BootError> {
    let plain = listeners(&config.listen, workers, config.backlog)?;
    let direct = listeners(&config.listen_tls, workers, config.backlog)?;
    let http =
        config.registration.listen.iter().map(|&address| Ok::<_, BootError>(vec![http_listener(address)?]));
    Ok(Bound { plain, direct, http: http.collect::<Result<_, _>>()? })
}

/// Binds an address of the HTTP API.
fn http_listener(address: SocketAddr) -> Result<TcpListener, BootError> {
    TcpListener::bind(address).map_err(|source| BootError::Listen { address, source })
}

fn bind_as_root(config: &Config, workers: usize) -> Result<Bound, BootError> {
    let bound = bind(config, workers)?;
    platform::drop_privileges(&config.user, Some(&*config.group).filter(|group| !group.is_empty()))
        .map_err(system("cannot drop privileges"))?;
    Ok(bound)
}

/// Makes the data directory, for the server's user only: it holds keys.
fn make_data(path: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Binds each address once for every worker. Port 0 is chosen once and then shared.
fn listeners(
    addresses: &[SocketAddr],
    workers: usize,
    backlog: u32,
) -> Result<(Sockets, Vec<SocketAddr>), BootError> {
    let mut sockets = Vec::new();
    let mut bound = Vec::new();
    for &address in addresses {
        let failed = |source| BootError::Listen { address, source };
        // Without SO_REUSEPORT first: another server's shared port must not be joined in silence.
        drop(TcpListener::bind(address).map_err(failed)?);
        let (group, actual) = more_listeners(address, workers, backlog)?;
        sockets.extend(group);
        bound.push(actual);
    }
    Ok((sockets, bound))
}

/// Binds an address so often, whoever of this server has it already.
fn more_listeners(
    address: SocketAddr,
    count: usize,
    backlog: u32,
) -> Result<(Sockets, SocketAddr), BootError> {
    let failed = |source| BootError::Listen { address, source };
    let first = platform::reuseport_listener(address, backlog).map_err(failed)?;
    let actual = first.local_addr().map_err(failed)?;
    let mut group = vec![first];
    for _ in 1..count {
        group.push(platform::reuseport_listener(actual, backlog).map_err(failed)?);
    }
    Ok((vec![group], actual))
}

/// From sockets by address to sockets by worker. Sockets of which there are more than workers, after an upgrade to
/// fewer workers, are shared out as well: connections may wait in each.
fn split(plain: Sockets, direct: Sockets, workers: usize) -> Vec<(Vec<TcpListener>, Vec<TcpListener>)> {
    let mut out: Vec<(Vec<TcpListener>, Vec<TcpListener>)> =
        (0..workers).map(|_| Default::default()).collect();
    for group in plain {
        for (at, socket) in group.into_iter().enumerate() {
            out[at % workers].0.push(socket);
        }
    }
    for group in direct {
        for (at, socket) in group.into_iter().enumerate() {
            out[at % workers].1.push(socket);
        }
    }
    out
}

/// Whether the workers are to use io_uring: decided once, by trying, so that all of them use the same driver.
#[cfg(target_os = "linux")]
fn uses_uring(choice: DriverChoice) -> bool {
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
fn uses_uring(choice: DriverChoice) -> bool {
    if choice == DriverChoice::Uring {
        tracing::warn!("io_uring exists on Linux only; using mio (kqueue)");
    }
    false
}

struct WorkerThread {
    worker: usize,
    shared: Arc<Shared>,
    config: Arc<Config>,
    plain: Vec<TcpListener>,
    direct: Vec<TcpListener>,
    started: Instant,
    /// Over io_uring, which has been tried.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code))]
    uring: bool,
}

impl WorkerThread {
    /// The whole life of a worker's thread. The driver is made here, because it belongs to this thread.
    fn run(self, ready: &SyncSender<(usize, Ready)>, wanted: &Receiver<Fittings>) -> std::io::Result<()> {
        if self.config.pin_workers {
            let cores = platform::available_cores();
            if let Some(core) = cores.get(self.worker % cores.len().max(1))
                && let Err(error) = platform::pin_to_core(*core)
            {
                tracing::warn!(worker = self.worker, %error, "cannot pin a worker to its core");
            }
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
        wanted: &Receiver<Fittings>,
    ) -> std::io::Result<()> {
        let _ = ready.send((self.worker, Ok((driver.waker(), driver.name()))));
        // The sender is dropped when the boot has failed elsewhere.
        let Ok(fittings) = wanted.recv() else { return Ok(()) };
        let mut tls_listeners = vec![false; self.plain.len()];
        tls_listeners.resize(self.plain.len() + self.direct.len(), true);
        for listener in self.plain.into_iter().chain(self.direct) {
            driver.listen(listener)?;
        }
        let backend = Backend::Threads { writer: fittings.writer, crypto: fittings.crypto };
        let home = Home {
            users: Users::new(self.shared.hasher.clone()),
            config: self.config,
            worker: self.worker,
            now: Millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)),
            out: Outbox::default(),
            post: PostRoom::new(fittings.post, fittings.wakers),
            jobs: Jobs::new(self.worker, backend, fittings.completions),
            under_way: UnderWay::default(),
            ends: Vec::new(),
            scratch: Vec::new(),
            sender: String::new(),
            payload: Vec::new(),
            ledger: Ledger::new(fittings.log, Commit::ByThread),
            time_at_start: None,
            touched: Vec::new(),
            pumps: Vec::new(),
            over: Vec::new(),
            shared: self.shared,
        };
        let mut worker = Worker::new(driver, Core::new(home, tls_listeners), fittings.commands);
        if let Some(restoring) = fittings.restoring
            && !worker.restore(restoring)
        {
            return Ok(());
        }
        worker.run(self.started)
    }
}
