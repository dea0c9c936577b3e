//! From a configuration to a running server: directory, certificate, sockets, threads.
//!
//! ```text
//! main ── signals, control socket (threads of their own)
//!  ├─ worker-0 … worker-N   one per core, pinned; driver + core
//!  ├─ directory             the one writer of accounts and rosters
//!  ├─ crypto-0 …            password hashing
//!  ├─ registration, sms-0 … registration by phone number, where it is on
//!  └─ http                the HTTP server, where something listens
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`sockets`], [`files`] | what is bound and opened |
//! | [`footprint`] | what is asked before, and taken away again when a start fails |
//! | [`thread`] | a worker's thread |
//! | [`web`] | the HTTP server and the features that it serves |
//! | [`again`] | the same in the place of another program (live upgrade) |

mod again;
mod files;
mod footprint;
mod sockets;
mod thread;
mod web;

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use foldhash::fast::SeedableRandomState;
use whimbrel_storage::data;
use whimbrel_storage::directory::{Directory, Writer};
use whimbrel_storage::log::Syncer;

use crate::config::Config;
use crate::proto::sasl::throttle::{self, Throttle};
use crate::registration::{self, Registration, gateway};
use crate::running::socket::ControlSocket;
use crate::runtime::driver::Wake;
use crate::runtime::mailbox::{self, LaneGauge};
use crate::runtime::platform;
use crate::saved::codec::Decoder;
use crate::saved::state::Serves;
use crate::shared::{self, InheritedTables, Shared};
use crate::takeover::Takeover;
use crate::takeover::guard::Guard;
use crate::takeover::launch::Launch;
use crate::tls::Acceptor;
use crate::user::jobs::CryptoPool;
use crate::user::jobs::{Completions, Done, Jobs};
use crate::watch::{self, Watch, Watched};
use crate::worker::command::CommandQueue;
use crate::worker::upgrade::Restoring;

pub use crate::running::{BootError, Server, WorkerFailed};
pub use footprint::{check_address, check_user, refuse_foreign_files};

use crate::running::error::system;
use crate::running::{Ending, Workers};
use files::{directory_options, make_data, open_logs};
use footprint::{Footprint, preflight};
use sockets::{Bound, bind, bind_as_root, split};
use thread::{Begin, Ready, WorkerParts, WorkerThread, uses_uring};

/// Completed jobs that wait for one worker at most; the threads that deliver them then wait.
const COMPLETIONS: usize = 4096;

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
        if taken.is_some() {
            return Server::build(config, launch, taken, None);
        }
        preflight(&config)?;
        let mut footprint = Footprint::before(&config.data);
        let built = Server::build(config, launch, None, Some(&mut footprint));
        if built.is_err() {
            footprint.remove();
        }
        built
    }

    /// `footprint` is told when the directory is open.
    fn build(
        config: Config,
        launch: Option<Launch>,
        taken: Option<(&mut Takeover, Option<Guard>)>,
        footprint: Option<&mut Footprint>,
    ) -> Result<Server, BootError> {
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
        // The process becomes another user before there are files, or it could not use them. Ports come first
        // then, because they may need root. Otherwise they come last: when one answers, everything else is there.
        let bound = match (config.user.is_empty(), &mut takeover) {
            (_, Some(takeover)) => Some(again::bind_again(takeover, &config, count)?),
            (true, None) => None,
            (false, None) => Some(bind_as_root(&config, count)?),
        };
        make_data(&config.data).map_err(|source| BootError::Data { path: config.data.clone(), source })?;
        let (directory, control, log_lock) = match &mut takeover {
            None => {
                data::examine(&config.data)?;
                let path = config.data.join(data::DIRECTORY);
                let directory = Directory::open(&path, &directory_options(&config))?;
                (directory, ControlSocket::bind(&config.data)?, None)
            }
            Some(takeover) => again::open_again(takeover, &config)?,
        };
        if let Some(footprint) = footprint {
            footprint.holds(&directory);
        }
        let acceptor = Acceptor::new(&config.tls_settings())?;
        let (opened, reconciled) = open_logs(&config, &directory, count, log_lock)?;
        let hasher = SeedableRandomState::random();
        let limits = throttle::Limits::of(&config.limits);
        let throttle = match takeover.as_ref().map(|takeover| &takeover.server.guesses[..]) {
            Some(guesses) if !guesses.is_empty() => Throttle::restored(limits, &mut Decoder::new(guesses))
                .map_err(|error| BootError::Takeover(error.to_string()))?,
            _ => Throttle::new(limits, std::hash::BuildHasher::hash_one(&hasher, "throttle")),
        };
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
        let inherited = InheritedTables { homes, streams };
        let mut shared =
            Shared::new(config.clone(), directory.clone(), acceptor, throttle, hasher, count, inherited);
        if let Err(error) = shared.publish_stats(&config.data) {
            let path = config.data.join(whimbrel_stats::FILE_NAME);
            tracing::warn!(%error, "cannot make {}; wsar will show the system only", path.display());
        }
        shared.metrics[0].log_orphans.add(reconciled.messages);
        let shared = Arc::new(shared);

        let (ends, ended) = std::sync::mpsc::channel();
        let uring = uses_uring(config.driver);
        let (ready, is_ready) = sync_channel::<(usize, Ready)>(count);
        let mut fit = Vec::new();
        let mut handles = Vec::new();
        let sockets = split(plain, direct, count);
        for (worker, (plain, direct)) in sockets.into_iter().enumerate() {
            let (parts, wanted) = sync_channel(1);
            fit.push(parts);
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
            move |job_id, result| {
                deliver_to[Jobs::worker_of(job_id)].deliver(Done::Write(job_id, result));
            },
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
        let posts = mailbox::grid(
            count,
            config.limits.mailbox_parcels as usize,
            config.limits.mailbox_kib as usize * 1024,
        );
        let lanes: Vec<Vec<LaneGauge>> =
            posts.iter().map(|post| (0..count).map(|to| post.gauge(to)).collect()).collect();
        let registration = match gateway {
            Some(gateway) => {
                let parts = registration::RegistrationParts {
                    shared: shared.clone(),
                    writer: writer.clone(),
                    completions: completions.clone(),
                    started,
                    // Not before it is sure that this program goes on.
                    open: takeover.is_none(),
                };
                let running = Registration::start(parts, gateway);
                Some(Arc::new(running.map_err(system("cannot start registration"))?))
            }
            None => None,
        };
        let http = web::start(http, &shared, registration.as_deref(), takeover.is_none())?;
        let mut workers = Workers { handles, ended };
        let (serves, is_serving) = sync_channel(count);
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
        for (worker, ((parts, post), log)) in fit.into_iter().zip(posts).zip(opened.logs).enumerate() {
            let begin = match &takeover {
                None => Begin::Fresh(serves.clone()),
                Some(takeover) => {
                    let (go, is_go) = sync_channel(1);
                    goes.push(go);
                    Begin::Again(Restoring {
                        state: takeover.state.clone(),
                        inherited: takeover.inherited.clone(),
                        logs: takeover.server.logs.clone(),
                        reply: restored.clone(),
                        go: is_go,
                    })
                }
            };
            let sent = parts.send(WorkerParts {
                begin,
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
        drop((serves, restored));
        let outcome = match takeover {
            None => {
                if let Err(error) = workers.all_serve(&is_serving) {
                    workers.call_off(&commands);
                    return Err(error);
                }
                None
            }
            Some(takeover) => {
                Some(again::take_over(takeover, guard.flatten(), &mut has_restored, goes, begun, driver)?)
            }
        };
        if let Some(registration) = &registration {
            registration.open();
        }
        if let Some(http) = &http {
            http.open();
        }
        if let (Some((outcome, _)), Some(launch)) = (&outcome, &launch) {
            watch::upgraded(&shared.stats.server[0], outcome, &launch.tally);
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
            http,
            driver,
            started,
            syncer: Mutex::new(syncer),
            _watch: watch,
            control: Mutex::new(Some(control)),
            workers: Mutex::new(workers),
        })
    }
}
