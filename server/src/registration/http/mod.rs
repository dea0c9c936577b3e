//! The HTTP API: a thin layer over the service (`docs/registration.md`, `openapi.json`).
//!
//! ```text
//! listener ─▶ place ─▶ TLS ─▶ door: head, body: bounded in bytes and time ─▶ routes ─▶ service
//! ```
//! HTTP/1.1 only. One task a connection, on the thread of registration. Places and door are those of `whimbrel_http`.
//!
//! | module | what |
//! | --- | --- |
//! | [`routes`] | what is asked and answered |
//! | [`problem`] | errors as problem details (RFC 9457) |
//! | [`forwarded`] | whom a trusted proxy speaks for |
//! | [`pace`] | requests of an address |

pub mod forwarded;
pub mod pace;
pub mod problem;
pub mod routes;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::response::IntoResponse;
use axum::{Extension, Router, middleware};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use whimbrel_http::places::Limits;
use whimbrel_http::{Bad, Block, Deadlines, Door, Full, Places, Turn, turn};

use super::service::RegistrationService;
use super::settings::RegistrationConfig;
use crate::quota::{Crowd, Quota};
use pace::Concurrent;
use problem::Problem;

/// How long one connection may live, however many requests it makes.
const CONNECTION_SECONDS_MAX: u64 = 300;

/// The wait after the system has refused to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What all connections share.
pub struct Front {
    service: Arc<RegistrationService>,
    places: Places,
    /// Requests under way of those whom a trusted proxy speaks for.
    concurrent: Concurrent,
    minute: Mutex<Quota>,
}

/// The other end of a connection.
#[derive(Copy, Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// It is a proxy that is believed whom it speaks for.
    pub trusted: bool,
}

impl Peer {
    /// Where a request comes from, as the limits see it.
    pub fn client(&self, headers: &axum::http::HeaderMap) -> IpAddr {
        if self.trusted { forwarded::client(headers, self.address) } else { self.address }
    }
}

impl Front {
    /// Nobody is connected yet.
    pub fn new(service: Arc<RegistrationService>) -> Arc<Front> {
        Arc::new(Front {
            service,
            places: Places::default(),
            concurrent: Concurrent::default(),
            minute: Mutex::new(Quota::new(60_000, Crowd::Shares)),
        })
    }

    /// Counts a request; `false`: its address has had its share of this minute.
    pub(super) fn takes(&self, address: IpAddr, now_ms: u64) -> bool {
        let limit = self.service.config().registration.http_requests_per_minute;
        let mut minute = self.minute.lock().expect("nothing panics while it holds this lock");
        minute.take(&[(Block::of(address), limit)], now_ms)
    }
}

/// Accepts connections until the task is dropped.
pub async fn serve(front: Arc<Front>, listener: TcpListener) {
    let router = routes::router(front.clone());
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => admit(&front, &router, stream, peer).await,
            Err(error) => {
                tracing::warn!(%error, "the registration API cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Finds a place for a connection, for which another may have to go. Where everybody is being answered, it waits for one,
/// and those behind it wait in the kernel.
async fn admit(front: &Arc<Front>, router: &Router, stream: TcpStream, address: SocketAddr) {
    let config = front.service.config();
    let settings = &config.registration;
    let trusted = settings.proxies().iter().any(|network| network.contains(address.ip()));
    let limits = Limits {
        all: settings.http_connections as usize,
        of_block: settings.http_connections_per_address as usize,
    };
    let metrics = front.service.metrics();
    let place = loop {
        match front.places.enter(Block::of(address.ip()), trusted, limits) {
            Ok(place) => break place,
            Err(Full::All) => front.places.room().await,
            Err(Full::Share) => {
                metrics.http_refused.add(1);
                return;
            }
        }
    };
    metrics.http_displaced.add(front.places.take_displaced());
    let peer = Peer { address: address.ip(), trusted };
    let open = Open::new(front);
    let router = router.clone();
    front.places.serve(place, |turn| async move {
        let life = Duration::from_secs(CONNECTION_SECONDS_MAX);
        let _ = tokio::time::timeout(life, converse(&open.0, stream, peer, turn, router)).await;
    });
    // What has come of its request is read before anybody else may need its place.
    tokio::task::yield_now().await;
}

/// A connection that is counted, however it ends.
struct Open(Arc<Front>);

impl Open {
    fn new(front: &Arc<Front>) -> Open {
        front.service.metrics().http_connections.add(1);
        Open(front.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.service.metrics().http_connections.sub(1);
    }
}

async fn converse(front: &Arc<Front>, stream: TcpStream, peer: Peer, turn: Turn, router: Router) {
    // Small answers, and nothing follows them.
    let _ = stream.set_nodelay(true);
    let config = front.service.config();
    if !config.registration.tls {
        return answer(front, stream, peer, turn, router).await;
    }
    let tls = TlsAcceptor::from(front.service.shared().acceptor.https());
    let wait = Duration::from_secs(config.registration.http_seconds.into());
    match tokio::time::timeout(turn.patience(wait), tls.accept(stream)).await {
        Ok(Ok(stream)) => answer(front, stream, peer, turn, router).await,
        Ok(Err(error)) => tracing::debug!(%error, ?peer, "no TLS with a client of the registration API"),
        Err(_) => tracing::debug!(?peer, "a client of the registration API is too slow for TLS"),
    }
}

async fn answer<S>(front: &Arc<Front>, stream: S, peer: Peer, turn: Turn, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let deadlines = deadlines(&front.service.config().registration);
    let refuser = front.clone();
    let refuse = Arc::new(move |bad| {
        refuser.service.metrics().http_refused.add(1);
        refused(bad)
    });
    let router = router.layer(middleware::from_fn(turn::answered));
    let router = router.layer(Extension(peer)).layer(Extension(turn.clone()));
    let door = Door::new(stream, turn, deadlines, refuse);
    let connection =
        http1::Builder::new().serve_connection(TokioIo::new(door), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        tracing::debug!(%error, ?peer, "a connection to the registration API ended");
    }
}

fn deadlines(settings: &RegistrationConfig) -> Deadlines {
    let each = Duration::from_secs(settings.http_seconds.into());
    // The routes see to bodies themselves, and answer.
    Deadlines {
        idle: Duration::from_secs(settings.http_idle_seconds.into()),
        head: each,
        body: None,
        write: each,
    }
}

/// The whole answer to a request that is not even looked at.
fn refused(bad: Bad) -> Vec<u8> {
    let kind = match bad {
        Bad::Malformed(_) | Bad::Coding | Bad::Version => "malformed",
        Bad::TooSlow => "too-slow",
        Bad::TooLarge => "too-large",
    };
    let status =
        axum::http::StatusCode::from_u16(bad.status()).unwrap_or(axum::http::StatusCode::BAD_REQUEST);
    let problem = Problem::new(status, kind, bad.text());
    let body = problem.body();
    let head = problem.into_response();
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in head.headers() {
        text += &format!("{name}: {}\r\n", value.to_str().unwrap_or_default());
    }
    text += "\r\n";
    text += &body;
    text.into_bytes()
}
