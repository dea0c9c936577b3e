//! Registration by phone number: a device gives its number, is sent a PIN by text message, tells it, and gets a key
//! that is its password from then on. docs/registration.md is for operators and for those who write clients.
//!
//! ```text
//!  HTTP ────────────▶ api ──────────────▶ ┌─────────┐ ─▶ rules ── transactions of the directory ──▶ writer
//!  stream ─────────▶ request ─▶ dispatch ▶ │ service │ ─▶ outbound ── queue ──▶ sms-0 … sms-n ── gateway ──▶ provider
//!  control socket ─▶ request ─▶ dispatch ▶ └─────────┘ ─▶ home worker of the account: old sessions end
//!                                     thread "registration"
//! ```
//! All of it is beside the path of messages: workers submit requests and never wait. Without an address and without
//! `in_band` there is no thread. The HTTP server is [`crate::http`], the queue of messages [`crate::outbound`].
//!
//! | module | what |
//! | --- | --- |
//! | [`settings`], [`prefix`] | the configuration; beginnings of numbers |
//! | [`number`], [`pasted`] | phone numbers; what comes along when one is pasted |
//! | [`pin`] | PINs and keyed hashes |
//! | [`rules`] | when a PIN is sent and taken, and what slows down guessing: no sockets, clock or chance of its own |
//! | [`counted`] | quotas, and what is read of the directory |
//! | [`service`] | sees a request through |
//! | [`refusal`] | why a request is refused, in words and numbers |
//! | [`gateway`] | text messages, and the ways to send them |
//! | [`api`] | the way in over HTTP |
//! | [`form`], [`request`] | forms on streams; requests of other threads, as data |
//! | [`dispatch`], [`in_band`] | takes those requests; answers those of streams |
//! | [`metrics`] | what is counted |

pub mod api;
pub mod dispatch;
pub mod gateway;
pub mod in_band;
pub mod service;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use whimbrel_storage::directory::Writer;

use crate::http::routes::Routes;
use crate::outbound::Outbound;
use crate::runtime::gauge::Gauge;
use crate::shared::Shared;
use crate::user::jobs::{Completions, Then};

use crate::phone::request::{Request, Requests};
use gateway::{Gateway, Message};
use service::RegistrationService;

/// How often what no longer matters is forgotten.
const TIDY_PERIOD: Duration = Duration::from_secs(600);

/// Threads that derive keys.
const DERIVING_THREADS: usize = 2;

/// What the end waits for requests whose messages are answered: a transaction that makes the PIN void.
const REQUESTS_WAIT: Duration = Duration::from_secs(1);

/// What registration needs of the server.
pub struct RegistrationParts {
    /// Configuration, directory, certificate.
    pub shared: Arc<Shared>,
    /// The directory's writer.
    pub writer: Arc<Writer<Then>>,
    /// Completed jobs of each worker.
    pub completions: Vec<Arc<Completions>>,
    /// When the server started.
    pub started: Instant,
    /// Whether requests are taken at once. If not, [`Registration::open`] lets them in.
    pub open: bool,
}

/// Registration while it runs.
pub struct Registration {
    /// Name of the gateway.
    pub gateway: &'static str,
    requests: Requests,
    service: Arc<RegistrationService>,
    outbound: Arc<Outbound<Message>>,
    runtime: Handle,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Registration {
    /// Starts thread and gateway.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(at: RegistrationParts, gateway: Gateway) -> io::Result<Registration> {
        let config = at.shared.config.read().expect("nothing panics while it holds this lock").clone();
        let settings = gateway::settings(&config.registration, &config.data);
        let outbound = Arc::new(Outbound::start(settings, gateway)?);
        let service = RegistrationService::new(at.shared.clone(), at.writer, outbound.clone(), at.started);
        let service = Arc::new(service);
        if !at.open {
            service.gate().shut();
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(DERIVING_THREADS)
            .thread_name("registration-keys")
            .build()?;
        let handle = runtime.handle().clone();
        let (requests, waiting) = Requests::new();
        // A second start in one process has another `Shared`, so it is empty.
        let _ = at.shared.registration.set(requests.clone());
        let (stop, stopped) = oneshot::channel();
        let (work, completions) = (service.clone(), at.completions);
        let thread = std::thread::Builder::new().name("registration".into()).spawn(move || {
            runtime.block_on(async move {
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
            gateway: outbound.sender(),
            requests,
            service,
            outbound,
            runtime: handle,
            stop: Mutex::new(Some(stop)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// What it answers over HTTP.
    pub fn routes(&self) -> Routes {
        api::routes(self.service.clone(), self.runtime.clone())
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
    /// "try again", and waits until attempts and requests under way are over. `false`: one is not by the deadline.
    /// [`Registration::go_on`] ends this in any case.
    #[must_use]
    pub fn pause(&self, deadline: Instant) -> bool {
        self.service.gate().shut();
        let settled = self.outbound.stop(deadline.saturating_duration_since(Instant::now()));
        settled && self.service.gate().wait_until_empty(deadline)
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
    /// their PINs are void; attempts under way may end. Anything that is promised to devices lies in the directory. Does nothing
    /// the second time. `false`: an attempt of the gateway is still under way, and goes on by itself; its request is
    /// told to try again.
    pub fn stop(&self, wait: Duration) -> bool {
        self.service.gate().shut();
        let settled = self.outbound.stop(wait);
        let stop = self.stop.lock().expect("nothing panics while it holds this lock").take();
        let Some(stop) = stop else { return settled };
        self.outbound.abandon();
        if !self.service.gate().wait_until_empty(Instant::now() + REQUESTS_WAIT) {
            tracing::debug!("a request of registration is cut off");
        }
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
