//! Registration by phone number: a device gives its number, is sent a PIN by text message, tells it, and gets a key
//! that is its password from then on. docs/registration.md is for operators and for who writes clients.
//!
//! ```text
//!  HTTP ───────────▶ http ──────────┐            ┌─▶ rules ── transactions of the directory ──▶ writer
//!  stream ─────────▶ request ─▶ dispatch ─▶ service ─▶ gateway ── queue ──▶ sms-0 … sms-n ──▶ provider
//!  control socket ──▶ request ──┘                 └─▶ home worker of the account: old sessions end
//!                    thread "registration"
//! ```
//! All of it is beside the path of messages: workers submit requests and never wait. Without an address and without
//! `in_band` there is no thread.
//!
//! | module | what |
//! | --- | --- |
//! | [`settings`], [`network`], [`prefix`] | the configuration; networks of proxies; beginnings of numbers |
//! | [`number`], [`pasted`] | phone numbers; what comes along when one is pasted |
//! | [`pin`] | PINs and keyed hashes |
//! | [`rules`] | when a PIN is sent and taken, and what slows who guesses: no sockets, clock or chance of its own |
//! | [`counted`] | quotas, and what is read of the directory |
//! | [`service`] | sees a request through |
//! | [`refusal`] | why somebody gets nothing, in words and numbers |
//! | [`gateway`] | text messages |
//! | [`http`] | the way in over HTTP |
//! | [`form`], [`request`] | forms on streams; requests of other threads, as data |
//! | [`dispatch`], [`in_band`] | takes those requests; answers those of streams |
//! | [`metrics`] | what is counted |

pub mod counted;
pub mod dispatch;
pub mod form;
pub mod gateway;
pub mod http;
pub mod in_band;
pub mod metrics;
pub mod network;
pub mod number;
mod pasted;
pub mod pin;
mod prefix;
pub mod refusal;
pub mod request;
pub mod rules;
pub mod service;
pub mod settings;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use whimbrel_storage::directory::Writer;

use crate::runtime::gauge::Gauge;
use crate::runtime::jobs::{Completions, Then};
use crate::shared::Shared;

use gateway::{Gateway, Outbound};
use request::{Request, Requests};
use service::RegistrationService;

/// How often what no longer matters is forgotten.
const TIDY_PERIOD: Duration = Duration::from_secs(600);

/// Threads that derive keys.
const DERIVING_THREADS: usize = 2;

/// What the stop waits for answers that are under way once the gateway has settled.
const ANSWERS_WAIT: Duration = Duration::from_millis(300);

/// What registration needs of the server.
pub struct Surroundings {
    /// Configuration, directory, certificate.
    pub shared: Arc<Shared>,
    /// The directory's writer.
    pub writer: Arc<Writer<Then>>,
    /// Completed jobs of each worker.
    pub completions: Vec<Arc<Completions>>,
    /// Listening sockets of the HTTP API.
    pub listeners: Vec<TcpListener>,
    /// When the server started.
    pub started: Instant,
    /// Whether requests are taken at once. If not, [`Registration::open`] lets them in.
    pub open: bool,
}

/// Registration while it runs.
pub struct Registration {
    /// Addresses of the HTTP API.
    pub listening: Vec<SocketAddr>,
    /// Name of the gateway.
    pub gateway: &'static str,
    requests: Requests,
    service: Arc<RegistrationService>,
    outbound: Arc<Outbound>,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Registration {
    /// Starts thread and gateway.
    ///
    /// # Errors
    /// A file of the gateway cannot be used, a socket or a thread.
    pub fn start(at: Surroundings, gateway: &Arc<dyn Gateway>) -> io::Result<Registration> {
        let config = at.shared.config.read().expect("nothing panics while it holds this lock").clone();
        let outbound = Arc::new(Outbound::start(gateway, &config.registration, &config.data)?);
        let service =
            Arc::new(RegistrationService::new(at.shared.clone(), at.writer, outbound.clone(), at.started));
        if !at.open {
            service.gate().shut();
        }
        let mut listening = Vec::new();
        for listener in &at.listeners {
            listener.set_nonblocking(true)?;
            listening.push(listener.local_addr()?);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(DERIVING_THREADS)
            .thread_name("registration-keys")
            .build()?;
        let (requests, waiting) = Requests::new();
        // A second start in one process has another `Shared`, so it is empty.
        let _ = at.shared.registration.set(requests.clone());
        let (stop, stopped) = oneshot::channel();
        let (listeners, completions) = (at.listeners, at.completions);
        let work = service.clone();
        let thread = std::thread::Builder::new().name("registration".into()).spawn(move || {
            runtime.block_on(async move {
                let front = http::Front::new(work.clone());
                for listener in listeners {
                    match tokio::net::TcpListener::from_std(listener) {
                        Ok(listener) => drop(tokio::spawn(http::serve(front.clone(), listener))),
                        Err(error) => tracing::error!(%error, "a listener of the registration API is lost"),
                    }
                }
                tokio::spawn(dispatch::serve(work.clone(), waiting, completions));
                tokio::spawn(async move {
                    loop {
                        work.tidy().await;
                        tokio::time::sleep(TIDY_PERIOD).await;
                    }
                });
                // However it comes: a sender that is dropped says the same.
                let _ = stopped.await;
            });
            // A key that is being derived is nobody's any more.
            runtime.shutdown_background();
        })?;
        Ok(Registration {
            listening,
            gateway: gateway.name(),
            requests,
            service,
            outbound,
            stop: Mutex::new(Some(stop)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Takes requests from now on.
    pub fn open(&self) {
        self.service.gate().open();
    }

    /// Submits a request to the service; `false` when too many wait.
    #[must_use]
    pub fn submit(&self, request: Request) -> bool {
        self.requests.submit(request)
    }

    /// Messages that wait, most that ever waited, limit.
    pub fn gauge(&self) -> Gauge {
        self.outbound.gauge()
    }

    /// Comes to rest for an upgrade: takes no requests (they are told to try again), answers messages that wait with
    /// "try again", and waits until attempts under way are over. `false`: one is not by the deadline.
    /// [`Registration::go_on`] ends this in any case.
    #[must_use]
    pub fn pause(&self, deadline: Instant) -> bool {
        let gate = self.service.gate();
        gate.shut();
        let was_empty = gate.wait_until_empty(Instant::now());
        let settled = self.outbound.stop(deadline.saturating_duration_since(Instant::now()));
        let settled = settled && gate.wait_until_empty(deadline);
        if settled && !was_empty {
            // The answers are being written.
            std::thread::sleep(ANSWERS_WAIT);
        }
        settled
    }

    /// Takes requests again after [`Registration::pause`].
    pub fn go_on(&self) {
        // Threads that are still at an attempt end after it.
        if let Err(error) = self.outbound.restart() {
            tracing::error!(%error, "no thread for text messages can be started; registration stays closed");
            return;
        }
        self.service.gate().open();
    }

    /// Ends it within about `wait`: no more requests are taken; messages that wait are answered with "try again" and
    /// their PINs are void; attempts under way may end. What is promised to devices lies in the directory. Does nothing
    /// the second time. `false`: an attempt of the gateway is still under way, and goes on by itself.
    pub fn stop(&self, wait: Duration) -> bool {
        let settled = self.outbound.stop(wait);
        let stop = self.stop.lock().expect("nothing panics while it holds this lock").take();
        let Some(stop) = stop else { return settled };
        // The answers are being written.
        std::thread::sleep(ANSWERS_WAIT);
        self.service.close();
        drop(stop);
        if let Some(thread) = self.thread.lock().expect("nothing panics while it holds this lock").take() {
            // A panic has been reported by the panic hook.
            let _ = thread.join();
        }
        settled
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(1));
    }
}
