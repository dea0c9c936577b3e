//! Connections: how many there may be, and how long one may take. Places and door are those of `whimbrel_http`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::{Extension, Router, middleware};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use whimbrel_http::places::{Limits, Place};
use whimbrel_http::{Bad, Block, Deadlines, Door, Full, Places, Turn, turn};

/// Connections at a time. For one more, the one goes that has waited longest for its client, of the address that has
/// most; where each is being answered, it waits.
pub const CONNECTIONS_MAX: usize = 256;

/// Of one address (IPv6: one /64), beside as many as there may be live pages.
pub const CONNECTIONS_OF_ADDRESS: usize = 32;

/// How long a client may take.
const DEADLINES: Deadlines = Deadlines {
    idle: Duration::from_secs(60),
    head: Duration::from_secs(10),
    body: Some(Duration::from_secs(10)),
    write: Duration::from_secs(30),
};

/// How often it is looked whether to stop.
const NAP: Duration = Duration::from_millis(200);

/// After an error that is nobody's fault (no descriptors left).
const PAUSE: Duration = Duration::from_millis(100);

/// Answers requests until `stop` is set; `pages` live pages may be open.
///
/// # Errors
/// None that lasts: what cannot be accepted is tried again.
pub async fn run(listener: TcpListener, router: Router, pages: usize, stop: &AtomicBool) -> io::Result<()> {
    let places = Places::default();
    let limits = Limits { all: CONNECTIONS_MAX, of_block: pages + CONNECTIONS_OF_ADDRESS };
    let router = router.layer(middleware::from_fn(turn::answered));
    while !stop.load(Ordering::Relaxed) {
        let Ok(accepted) = tokio::time::timeout(NAP, listener.accept()).await else { continue };
        let Ok((stream, address)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        if let Some(place) = find_place(&places, address, limits, stop).await {
            let router = router.clone();
            places.serve(place, |turn| converse(stream, turn, router));
            // What has come of its request is read before anybody else may need its place.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// A place; those behind the connection wait in the kernel meanwhile. `None`: the address has its share.
async fn find_place(
    places: &Places,
    address: SocketAddr,
    limits: Limits,
    stop: &AtomicBool,
) -> Option<Place> {
    while !stop.load(Ordering::Relaxed) {
        match places.enter(Block::of(address.ip()), false, limits) {
            Ok(place) => return Some(place),
            Err(Full::Share) => return None,
            Err(Full::All) => drop(tokio::time::timeout(NAP, places.room()).await),
        }
    }
    None
}

async fn converse(stream: TcpStream, turn: Turn, router: Router) {
    // A delayed last packet is all that it would cost.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router.layer(Extension(turn.clone())));
    let door = Door::new(stream, turn, DEADLINES, Arc::new(refused));
    // What goes wrong with one connection concerns nobody else; it is closed.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(door), service).await;
}

/// The whole answer to a request that is not even looked at.
fn refused(bad: Bad) -> Vec<u8> {
    let status =
        axum::http::StatusCode::from_u16(bad.status()).unwrap_or(axum::http::StatusCode::BAD_REQUEST);
    let body = serde_json::json!({"error": bad.text()}).to_string();
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}
