//! `wsar serve`: the dashboard in a browser, a JSON API, and `/metrics`.
//!
//! ```text
//!            samples thread                            one thread with tokio
//!   collect ─▶ frame ─▶ frames of the last minutes ─┬─▶ /api/events   (server-sent events: each frame)
//!              alerts    (bounded ring)             ├─▶ /api/now, queues, workers, alerts, series
//!                                                   ├─▶ /metrics
//!   recording (files) ──────────────────────────────┴─▶ /api/history  (blocking threads, a few at a time)
//! ```
//! Nothing here is on the path of a message: the server does not know that it is watched.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`watch`] | the thread that samples |
//! | [`frame`] | the figures of one time, and their ids |
//! | [`events`] | what happened, with its time |
//! | [`history`] | a range of time in a bounded number of points |
//! | [`openmetrics`], [`accept`] | `/metrics`, and which format is wanted |
//! | [`access`] | who may see the page |
//! | [`routes`] | what is answered to which request |
//! | [`listen`] | connections and their limits |
//! | [`assets`] | the page's files |

pub mod accept;
pub mod access;
pub mod assets;
pub mod events;
pub mod frame;
pub mod history;
pub mod listen;
pub mod openmetrics;
pub mod routes;
pub mod watch;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use access::{Access, Token};

use crate::alert::Rules;
use crate::live::Ticks;

/// What `wsar serve` was told.
pub struct Options {
    /// Data directory of the server.
    pub data: PathBuf,
    /// Folder of the recording.
    pub recording: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The token, if there is one.
    pub token: Option<String>,
    /// Rules of alerts, whose actions are not taken here.
    pub rules: Rules,
    /// Time between samples.
    pub every: Duration,
    /// Live pages at most.
    pub pages: usize,
}

/// Why it cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Everybody could read everything.
    #[error(
        "{0} can be reached from other machines, and there is no token; give one by --token-file FILE or in the environment as WSAR_TOKEN, or listen on 127.0.0.1"
    )]
    Open(SocketAddr),
    /// The token.
    #[error(transparent)]
    Token(#[from] access::NotAToken),
    /// The address.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// Anything else of the system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Serves until `stop` is set. `ready` is told the address when requests are answered.
///
/// # Errors
/// See [`ServeError`].
pub fn run(
    options: Options,
    stop: &Arc<AtomicBool>,
    ready: impl FnOnce(SocketAddr) -> io::Result<()>,
) -> Result<(), ServeError> {
    let access = match options.token {
        Some(token) => Access::Token(Token::new(&token)?),
        None if options.listen.ip().is_loopback() => Access::Loopback,
        None => return Err(ServeError::Open(options.listen)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(routes::HISTORIES_MAX)
        .build()?;
    let listening = |error| ServeError::Listen(options.listen, error);
    let listener = runtime.block_on(tokio::net::TcpListener::bind(options.listen)).map_err(listening)?;
    let address = listener.local_addr()?;
    let ticks = Ticks::new(options.every, stop.clone());
    let (shared, thread) = watch::start(&options.data, options.rules, ticks)?;
    let router = routes::router(routes::Site::new(shared, access, options.recording, options.pages));
    ready(address)?;
    runtime.block_on(listen::run(listener, router, options.pages, stop))?;
    // Pages that are open do not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(100));
    // A panic has been printed by then.
    let _ = thread.join();
    Ok(())
}
