//! One connection: its place, TLS, its requests one after another, its end.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{self, timeout_at};
use whimbrel_http::places::Limits;
use whimbrel_http::{Bad, Block, Deadlines, Door, Full, Turn};

use crate::clock::unix_milliseconds;

use super::forwarded;
use super::front::{Core, Event, Host};
use super::problem::Problem;
use super::request::{Caller, Channel};
use super::stream::HttpStream;
use super::switch::Switch;

/// How long one connection may live, however many requests it makes. Only a transfer that has begun may go on.
const CONNECTION_SECONDS_MAX: u64 = 300;

/// The wait after the system has refused to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The other end of a connection.
#[derive(Copy, Clone, Debug)]
pub(super) struct Peer {
    address: IpAddr,
    /// It is a trusted proxy, which is believed when it names the client.
    trusted: bool,
    /// TLS protects the connection.
    secured: bool,
    /// When it was accepted.
    accepted: Instant,
}

impl Peer {
    /// Where a request comes from, as the limits see it.
    fn client(&self, headers: &HeaderMap) -> IpAddr {
        if self.trusted { forwarded::client(headers, self.address) } else { self.address }
    }

    /// Whether TLS protects a request all the way from the client, as far as is known here.
    fn is_secured(&self, headers: &HeaderMap) -> bool {
        match self.trusted {
            // Nobody could read along between the proxy and us; what the client speaks, the proxy says.
            true => forwarded::is_https(headers).unwrap_or(self.secured),
            false => self.secured,
        }
    }
}

/// Accepts connections until the task is dropped.
pub(super) async fn accept(core: Arc<Core>, router: Router, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => place(&core, &router, stream, peer).await,
            Err(error) => {
                tracing::warn!(%error, "the HTTP server cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Finds a place for a connection, for which another may have to go. Where everybody is being answered, it waits for one,
/// and those behind it wait in the kernel.
async fn place(core: &Arc<Core>, router: &Router, stream: TcpStream, address: SocketAddr) {
    let settings = core.host.settings();
    let trusted = settings.trusted_proxies.iter().any(|network| network.contains(address.ip()));
    let limits = Limits { all: core.connections_max(), of_block: settings.connections_per_address };
    let place = loop {
        match core.places.enter(Block::of(address.ip()), trusted, limits) {
            Ok(place) => break place,
            Err(Full::All) => core.places.room().await,
            Err(Full::Share) => {
                core.host.count(Event::Refused);
                return;
            }
        }
    };
    core.host.count(Event::Displaced(core.places.take_displaced()));
    let peer = Peer { address: address.ip(), trusted, secured: core.tls.is_some(), accepted: Instant::now() };
    let open = Open::new(&core.host);
    let (core, router) = (core.clone(), router.clone());
    core.clone().places.serve(place, |turn| async move {
        let _open = open;
        let mut end = time::Instant::now() + Duration::from_secs(CONNECTION_SECONDS_MAX);
        let mut work = pin!(converse(&core, stream, peer, turn.clone(), router));
        while timeout_at(end, &mut work).await.is_err() {
            match turn.long_until().filter(|until| *until > end) {
                Some(until) => end = until,
                None => break,
            }
        }
    });
    // What has come of its request is read before anybody else may need its place.
    tokio::task::yield_now().await;
}

/// A connection that is counted, however it ends.
struct Open(Arc<dyn Host>);

impl Open {
    fn new(host: &Arc<dyn Host>) -> Open {
        host.count(Event::Opened);
        Open(host.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.count(Event::Closed);
    }
}

async fn converse(core: &Arc<Core>, stream: TcpStream, peer: Peer, turn: Turn, router: Router) {
    // Small answers, and nothing follows them.
    let _ = stream.set_nodelay(true);
    let Some(begin) = &core.tls else {
        return answer(core, HttpStream::plain(stream), peer, turn, router).await;
    };
    let wait = turn.patience(core.host.settings().wait);
    match tokio::time::timeout(wait, HttpStream::accept(stream, begin())).await {
        Ok(Ok(stream)) => answer(core, stream, peer, turn, router).await,
        Ok(Err(error)) => tracing::debug!(%error, ?peer, "no TLS with a client of the HTTP server"),
        Err(_) => tracing::debug!(?peer, "a client of the HTTP server is too slow for TLS"),
    }
}

async fn answer(core: &Arc<Core>, stream: HttpStream, peer: Peer, turn: Turn, router: Router) {
    let settings = core.host.settings();
    // The readers of bodies see to their time themselves, and answer.
    let deadlines = Deadlines { idle: settings.idle, head: settings.wait, body: None, write: settings.wait };
    let host = core.host.clone();
    let refuse = Arc::new(move |bad| {
        host.count(Event::Refused);
        refused(bad)
    });
    let switch = Switch::default();
    let router =
        router.layer(Extension(peer)).layer(Extension(turn.clone())).layer(Extension(switch.clone()));
    let door = Door::new(stream, turn, deadlines, refuse);
    let connection =
        http1::Builder::new().serve_connection(TokioIo::new(door), TowerToHyperService::new(router));
    match connection.with_upgrades().await {
        Ok(()) => switch.carry_out().await,
        Err(error) => tracing::debug!(%error, ?peer, "a connection to the HTTP server ended"),
    }
}

/// The layer that every request goes through: counts it, and refuses one of an address that asks too often.
pub(super) async fn admit(
    State(core): State<Arc<Core>>,
    Extension(peer): Extension<Peer>,
    Extension(turn): Extension<Turn>,
    Extension(switch): Extension<Switch>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    core.host.count(Event::Request);
    let settings = core.host.settings();
    let address = peer.client(request.headers());
    let block = Block::of(address);
    let too_many = |seconds| {
        core.host.count(Event::Refused);
        let text = "too many requests from this address; try again later";
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", text);
        problem.after(seconds).into_response()
    };
    if let Err(seconds) = core.pace.take(block, settings.requests_per_minute, unix_milliseconds()) {
        return too_many(seconds);
    }
    // Other addresses have a share of the connections; behind a proxy each has one of its requests.
    let most = if peer.trusted { settings.connections_per_address } else { usize::MAX };
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    let Some(_under_way) = core.pace.enter(block, most) else { return too_many(1) };
    let ends_itself = core.ends_itself(request.uri().path());
    if core.gate.is_shut() && !ends_itself {
        return Problem::busy().into_response();
    }
    let secured = peer.is_secured(request.headers());
    let is_old = peer.accepted.elapsed().as_secs() > CONNECTION_SECONDS_MAX / 2;
    let channel = Channel { address, secured, is_old, switch };
    let caller = Caller::new(channel, turn.clone(), core.gate.clone(), core.host.clone());
    if turn.is_served()
        && !ends_itself
        && let Err(problem) = caller.begin()
    {
        return problem.into_response();
    }
    request.extensions_mut().insert(caller.clone());
    let response = next.run(request).await;
    // Also an answer to a request whose body was not looked at. When a drain has begun in between, it does not wait.
    let _ = caller.begin();
    response
}

/// The whole answer to a request that is not even looked at.
fn refused(bad: Bad) -> Vec<u8> {
    let kind = match bad {
        Bad::Malformed(_) | Bad::Coding | Bad::Version => "malformed",
        Bad::TooSlow => "too-slow",
        Bad::TooLarge => "too-large",
    };
    let status = StatusCode::from_u16(bad.status()).unwrap_or(StatusCode::BAD_REQUEST);
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
