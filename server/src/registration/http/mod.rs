//! The HTTP API: a thin layer over the desk (`docs/registration.md`, `openapi.json`).
//!
//! ```text
//! listener ─▶ room? ─▶ TLS ─▶ head, body: bounded in bytes and time ─▶ routes ─▶ desk
//! ```
//! HTTP/1.1 only. One task a connection, on the thread of registration.
//!
//! | module | what |
//! | --- | --- |
//! | [`routes`] | what is asked and answered |
//! | [`problem`] | errors as problem details (RFC 9457) |
//! | [`forwarded`] | whom a trusted proxy speaks for |
//! | [`pace`] | connections and requests of an address |

pub mod forwarded;
pub mod pace;
pub mod problem;
pub mod routes;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::admission::AddressKey;

use super::desk::Desk;
use pace::{Connections, Minute};

/// How long one connection may live, however many requests it makes.
const CONNECTION_SECONDS_MAX: u64 = 300;

/// The wait after the system has refused to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What all connections share.
pub struct Front {
    desk: Arc<Desk>,
    connections: Connections,
    minute: Mutex<Minute>,
    room: Arc<Semaphore>,
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
    pub fn new(desk: Arc<Desk>) -> Arc<Front> {
        let room = desk.config().registration.http_connections as usize;
        Arc::new(Front {
            desk,
            connections: Connections::default(),
            minute: Mutex::default(),
            room: Arc::new(Semaphore::new(room)),
        })
    }

    /// Counts a request; `false`: its address has had its share of this minute.
    pub(super) fn takes(&self, address: IpAddr, now_ms: u64) -> bool {
        let limit = self.desk.config().registration.http_requests_per_minute;
        let mut minute = self.minute.lock().expect("nothing panics while it holds this lock");
        minute.take(AddressKey::new(address), limit, now_ms)
    }
}

/// Accepts connections until the task is dropped.
pub async fn serve(front: Arc<Front>, listener: TcpListener) {
    let router = routes::router(front.clone());
    loop {
        // What finds no room waits in the kernel.
        let Ok(room) = front.room.clone().acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the registration API cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let config = front.desk.config();
        let trusted = config.registration.proxies().iter().any(|network| network.contains(peer.ip()));
        let most = if trusted { u32::MAX } else { config.registration.http_connections_per_address };
        let metrics = front.desk.metrics();
        let Some(place) = front.connections.enter(AddressKey::new(peer.ip()), most) else {
            metrics.http_refused.add(1);
            continue;
        };
        metrics.http_connections.add(1);
        // Small answers, and nothing follows them.
        let _ = stream.set_nodelay(true);
        let (front, router) = (front.clone(), router.clone());
        tokio::spawn(async move {
            let life = Duration::from_secs(CONNECTION_SECONDS_MAX);
            let _ = tokio::time::timeout(life, converse(&front, stream, peer, trusted, router)).await;
            front.desk.metrics().http_connections.sub(1);
            drop((place, room));
        });
    }
}

async fn converse(
    front: &Arc<Front>,
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
    trusted: bool,
    router: Router,
) {
    let config = front.desk.config();
    let wait = Duration::from_secs(config.registration.http_seconds.into());
    if !config.registration.tls {
        return answer(stream, peer, trusted, router, wait).await;
    }
    let tls = TlsAcceptor::from(front.desk.shared().acceptor.https());
    match tokio::time::timeout(wait, tls.accept(stream)).await {
        Ok(Ok(stream)) => answer(stream, peer, trusted, router, wait).await,
        Ok(Err(error)) => tracing::debug!(%error, %peer, "no TLS with a client of the registration API"),
        Err(_) => tracing::debug!(%peer, "a client of the registration API is too slow for TLS"),
    }
}

async fn answer<S>(stream: S, peer: SocketAddr, trusted: bool, router: Router, wait: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router.layer(Extension(Peer { address: peer.ip(), trusted })));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(wait)
        .max_buf_size(16 * 1024)
        .keep_alive(true)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, %peer, "a connection to the registration API ended");
    }
}
