//! The HTTP server: its thread, its listeners, its drain and its end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::middleware;
use tokio::sync::oneshot;
use whimbrel_http::{Places, turn};

use crate::drain::DrainGate;
use crate::tls::Tls;

use super::connection;
use super::network::Network;
use super::pace::Pace;
use super::routes::{self, Routes, ShareSize};

/// The owner of the listeners: the configuration keys and the metrics are its own.
pub trait Host: Send + Sync {
    /// The settings as the configuration has them now.
    fn settings(&self) -> Settings;

    /// Counts something. Always called on the server's one thread.
    fn count(&self, event: Event);
}

/// The settings of the listeners.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Proxies that are believed when they name the client.
    pub trusted_proxies: Vec<Network>,
    /// Connections of one address (IPv6: one /64); by a trusted proxy, requests under way that it speaks for.
    pub connections_per_address: usize,
    /// Requests of one address (IPv6: one /64) in a minute.
    pub requests_per_minute: u32,
    /// For TLS, for the head of a request, and for taking something of the answer, each.
    pub wait: Duration,
    /// Between two requests.
    pub idle: Duration,
}

/// Something that is counted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A connection has a place.
    Opened,
    /// It has ended.
    Closed,
    /// A request has come.
    Request,
    /// A connection or a request is refused by a limit.
    Refused,
    /// So many connections were ended for others.
    Displaced(u64),
}

/// Begins TLS on a connection, always with the certificate read last.
pub type BeginTls = Arc<dyn Fn() -> Tls + Send + Sync>;

/// What a server is made of.
pub struct Setup {
    /// The name of its thread.
    pub name: &'static str,
    /// Listening sockets.
    pub listeners: Vec<TcpListener>,
    /// TLS; none behind a proxy that speaks it.
    pub tls: Option<BeginTls>,
    /// The owner of the listeners.
    pub host: Arc<dyn Host>,
    /// The features. There are as many places for connections as their shares have together.
    pub routes: Vec<Routes>,
    /// Whether requests are taken at once. If not, [`HttpServer::open`] lets them in.
    pub open: bool,
}

/// The server while it runs.
pub struct HttpServer {
    /// Addresses that are listened on.
    pub listening: Vec<SocketAddr>,
    gate: DrainGate,
    places: Places,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What all connections share.
pub(super) struct Core {
    pub(super) host: Arc<dyn Host>,
    pub(super) tls: Option<BeginTls>,
    pub(super) places: Places,
    pub(super) pace: Pace,
    /// Requests whose answers a drain waits for.
    pub(super) gate: DrainGate,
    shares: Vec<ShareSize>,
    /// Paths whose feature sees to a drain itself.
    own_ends: Vec<&'static str>,
}

impl Core {
    /// Whether requests for this path get through when the gate is shut.
    pub(super) fn ends_itself(&self, path: &str) -> bool {
        self.own_ends.contains(&path)
    }

    /// Places for connections.
    pub(super) fn connections_max(&self) -> usize {
        self.shares.iter().map(|size| size()).sum()
    }
}

impl HttpServer {
    /// Starts it.
    ///
    /// # Errors
    /// A socket or the thread cannot be used; or two features have the same path.
    pub fn start(setup: Setup) -> io::Result<HttpServer> {
        let Setup { name, listeners, tls, host, mut routes, open } = setup;
        let shares = routes.iter().map(|feature| feature.size().clone()).collect();
        let own_ends = routes.iter().flat_map(Routes::own_ends).copied().collect();
        let beside: Vec<_> = routes.iter_mut().flat_map(Routes::take_beside).collect();
        let router = routes::join(routes).map_err(io::Error::other)?;
        let gate = DrainGate::default();
        if !open {
            gate.shut();
        }
        let places = Places::default();
        let core = Arc::new(Core {
            host,
            tls,
            places: places.clone(),
            pace: Pace::default(),
            gate: gate.clone(),
            shares,
            own_ends,
        });
        let mut listening = Vec::new();
        for listener in &listeners {
            listener.set_nonblocking(true)?;
            listening.push(listener.local_addr()?);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            runtime.block_on(async move {
                beside.into_iter().for_each(|begin| begin());
                let router = router.layer(middleware::from_fn_with_state(core.clone(), connection::admit));
                let router = router.layer(middleware::from_fn(turn::answered));
                for listener in listeners {
                    match tokio::net::TcpListener::from_std(listener) {
                        Ok(listener) => {
                            tokio::spawn(connection::accept(core.clone(), router.clone(), listener));
                        }
                        Err(error) => tracing::error!(%error, "a listener of the HTTP server is lost"),
                    }
                }
                // However it comes: a sender that is dropped says the same.
                let _ = stopped.await;
            });
            runtime.shutdown_background();
        })?;
        Ok(HttpServer {
            listening,
            gate,
            places,
            stop: Mutex::new(Some(stop)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Takes requests from now on.
    pub fn open(&self) {
        self.gate.open();
    }

    /// Takes no more requests: they are told to come back (503). Connections are accepted all the same.
    pub fn shut(&self) {
        self.gate.shut();
    }

    /// After [`HttpServer::shut`]: waits until each answer that was begun before it is written to its connection, or the
    /// connection has ended. `false`: one is not by the deadline. Half requests are not waited for.
    #[must_use]
    pub fn wait_until_written(&self, deadline: Instant) -> bool {
        self.gate.wait_until_empty(deadline)
    }

    /// After [`HttpServer::shut`]: ends all connections, whatever is under way on them.
    pub fn cut(&self) {
        self.places.end_all();
    }

    /// Takes no more requests, waits until answers are written, for `wait` at most, and ends. `false`: an answer was cut
    /// off. Does nothing the second time.
    pub fn stop(&self, wait: Duration) -> bool {
        self.shut();
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(stop) = stop else { return true };
        let written = self.wait_until_written(Instant::now() + wait);
        drop(stop);
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic has been reported by the panic hook.
            let _ = thread.join();
        }
        written
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}
