//! Fourth phase: the threads. Those of the workers make their drivers and wait for the rest of what they need; those beside
//! them begin to work.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

use whimbrel_storage::archive::Tallies;
use whimbrel_storage::directory::{Directory, Writer};
use whimbrel_storage::log::Syncer;

use super::archives;
use super::plan::Plan;
use super::thread::{Ready, WorkerParts, WorkerThread, uses_uring};
use super::web::{self, HttpSockets};
use crate::exchange::envelope::Batch;
use crate::http::front::HttpServer;
use crate::notifier::Notifier;
use crate::push::keys::Keys;
use crate::registration::gateway::Gateway;
use crate::registration::{Registration, RegistrationParts};
use crate::running::error::{BootError, system};
use crate::running::{Ending, Workers};
use crate::runtime::driver::Wake;
use crate::runtime::mailbox::{self, LaneGauge, Post};
use crate::shared::Shared;
use crate::takeover::Takeover;
use crate::upload::{Uploads, s3};
use crate::user::commits::Log;
use crate::user::jobs::{Completions, CryptoPool, Done, Jobs, Then};
use crate::watch::archives::Archives;
use crate::watch::{Watch, Watched};
use crate::web::bosh::Bosh;
use crate::worker::command::CommandQueue;

/// Completed jobs that wait for one worker at most; the threads that deliver them then wait.
const COMPLETIONS: usize = 4096;

/// What wakes each worker.
type Wakers = Vec<Arc<dyn Wake>>;

/// The threads of the workers, each with its driver.
pub(super) struct WorkerThreads {
    pub(super) workers: Workers,
    /// Gives each what it needs beyond its driver.
    pub(super) fit: Vec<SyncSender<WorkerParts>>,
    pub(super) wakers: Wakers,
    /// Name of the driver.
    pub(super) driver: &'static str,
}

impl WorkerThreads {
    /// Starts them, each with its listening sockets, and waits until all have a driver.
    pub(super) fn start(
        plan: &Plan,
        shared: &Arc<Shared>,
        sockets: Vec<(Vec<TcpListener>, Vec<TcpListener>)>,
    ) -> Result<WorkerThreads, BootError> {
        let (ends, ended) = channel();
        let uring = uses_uring(plan.config.driver);
        let (ready, is_ready) = sync_channel::<(usize, Ready)>(plan.workers);
        let (mut fit, mut handles) = (Vec::new(), Vec::new());
        for (worker, (plain, direct)) in sockets.into_iter().enumerate() {
            let (parts, wanted) = sync_channel(1);
            fit.push(parts);
            let thread = WorkerThread {
                worker,
                shared: shared.clone(),
                config: plan.config.clone(),
                plain,
                direct,
                started: plan.started,
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
        let (wakers, driver) = all_ready(&is_ready, plan.workers)?;
        Ok(WorkerThreads { workers: Workers { handles, ended }, fit, wakers, driver })
    }
}

/// Waits until all workers have a driver. Returns what wakes each of them, and the driver's name.
fn all_ready(ready: &Receiver<(usize, Ready)>, workers: usize) -> Result<(Wakers, &'static str), BootError> {
    let mut wakers: Vec<Option<Arc<dyn Wake>>> = vec![None; workers];
    let mut driver = "";
    for _ in 0..workers {
        let (worker, result) = ready.recv().map_err(|_| BootError::System {
            what: "a worker thread",
            source: std::io::Error::other("ended before it was ready"),
        })?;
        let (waker, name) = result?;
        wakers[worker] = Some(waker);
        driver = name;
    }
    Ok((wakers.into_iter().flatten().collect(), driver))
}

/// The threads that work for the workers, and what lies between them.
pub(super) struct Beside {
    pub(super) completions: Vec<Arc<Completions>>,
    pub(super) commands: Vec<Arc<CommandQueue>>,
    pub(super) writer: Arc<Writer<Then>>,
    pub(super) crypto: Arc<CryptoPool>,
    pub(super) tallies: Arc<Tallies>,
    pub(super) archives: Option<Archives>,
    pub(super) syncer: Syncer,
    pub(super) lanes: Vec<Vec<[LaneGauge; 2]>>,
}

impl Beside {
    /// Starts them. Also returns each worker's end of the mailboxes.
    pub(super) fn start(
        plan: &Plan,
        directory: Directory,
        logs: &[Log],
        tallies: Arc<Tallies>,
        wakers: &[Arc<dyn Wake>],
    ) -> Result<(Beside, Vec<Post<Batch>>), BootError> {
        let limits = &plan.config.limits;
        let completions: Vec<Arc<Completions>> =
            wakers.iter().map(|wake| Arc::new(Completions::new(COMPLETIONS, wake.clone()))).collect();
        let commands = wakers.iter().map(|wake| Arc::new(CommandQueue::new(wake.clone()))).collect();
        let archives = archives::start(&plan.config, &directory, &tallies, logs)?;
        let deliver_to = completions.clone();
        let writer = Writer::start(directory, limits.directory_queue as usize, move |job_id, result| {
            deliver_to[Jobs::worker_of(job_id)].deliver(Done::Write(job_id, result));
        })?;
        let crypto_threads = plan.config.auth.crypto_threads as usize;
        let (crypto, _) = CryptoPool::start(crypto_threads, limits.crypto_queue as usize, &completions)
            .map_err(system("cannot start the crypto pool"))?;
        let wake_for_log = wakers.to_vec();
        let syncer = Syncer::start(logs, move |shard| wake_for_log[shard].wake())?;
        let posts = mailbox::grid(plan.workers, limits.mailbox_room());
        let lanes = posts.iter().map(|post| (0..plan.workers).map(|to| post.gauges(to)).collect()).collect();
        let (writer, crypto) = (Arc::new(writer), Arc::new(crypto));
        Ok((Beside { completions, commands, writer, crypto, tallies, archives, syncer, lanes }, posts))
    }
}

/// What serves others than clients.
pub(super) struct Services {
    pub(super) registration: Option<Arc<Registration>>,
    pub(super) notifier: Option<Arc<Notifier>>,
    pub(super) http: Option<Arc<HttpServer>>,
    pub(super) web: Option<Arc<HttpServer>>,
    pub(super) bosh: Arc<Bosh>,
    pub(super) uploads: Option<Arc<Uploads>>,
    pub(super) watch: Watch,
}

impl Services {
    /// Starts registration, where there is a gateway for text messages, push, where there are keys for it, the HTTP servers, where something listens, and the
    /// thread for statistics. In a takeover, all but the last send everybody away until they are told
    /// that it is sure that this program goes on.
    pub(super) fn start(
        plan: &Plan,
        shared: &Arc<Shared>,
        beside: &Beside,
        (gateway, push): (Option<Gateway>, Option<Keys>),
        sockets: HttpSockets,
        takeover: Option<&mut Takeover>,
    ) -> Result<Services, BootError> {
        let opens = takeover.is_none();
        let bosh = Bosh::new(shared, &beside.commands, opens);
        takeover.map_or(Ok(()), |takeover| bosh.take_over(takeover)).map_err(BootError::Takeover)?;
        let registration = match gateway {
            Some(gateway) => {
                let parts = RegistrationParts {
                    shared: shared.clone(),
                    writer: beside.writer.clone(),
                    completions: beside.completions.clone(),
                    started: plan.started,
                    open: opens,
                };
                let running = Registration::start(parts, gateway);
                Some(Arc::new(running.map_err(system("cannot start registration"))?))
            }
            None => None,
        };
        let notifier = match push {
            Some(keys) => {
                let running = Notifier::start(shared.clone(), beside.writer.clone(), keys);
                Some(Arc::new(running.map_err(system("cannot start push"))?))
            }
            None => None,
        };
        let http = web::start_registration(sockets.registration, shared, registration.as_deref(), opens)?;
        let is_listened = sockets.web.iter().any(|sockets| !sockets.is_empty());
        let uploads = match plan.config.upload.enabled && is_listened {
            true => {
                let store = s3::settings(&plan.config.upload, |name| std::env::var_os(name));
                let store = store.map_err(BootError::ObjectStore)?;
                let running = Uploads::start(shared.clone(), beside.writer.clone(), store);
                Some(Arc::new(running.map_err(system("cannot prepare the folder of uploads"))?))
            }
            false => None,
        };
        let web = web::start(sockets.web, shared, &beside.commands, (&bosh, uploads.as_deref()), opens)?;
        let watch = Watch::start(Watched {
            shared: shared.clone(),
            writer: beside.writer.clone(),
            crypto: beside.crypto.clone(),
            completions: beside.completions.clone(),
            commands: beside.commands.clone(),
            lanes: beside.lanes.clone(),
            registration: registration.clone(),
            archives: beside.archives.clone(),
            started: plan.started,
        });
        let watch = watch.map_err(system("cannot start the thread for statistics"))?;
        Ok(Services { registration, notifier, http, web, bosh, uploads, watch })
    }

    /// The server is there: everybody is let in.
    pub(super) fn open(&self) {
        if let Some(registration) = &self.registration {
            registration.open();
        }
        for http in [&self.http, &self.web].into_iter().flatten() {
            http.open();
        }
        self.bosh.go_on();
        if let Some(uploads) = &self.uploads {
            uploads.sweep();
        }
    }
}
