//! What a handler is told of a request beside its head, and how it reads a small body.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde::de::DeserializeOwned;
use whimbrel_http::Turn;
use whimbrel_http::places::Share;

use crate::drain::DrainGate;

use super::front::{Event, Host};
use super::problem::Problem;
use super::stream::Released;
use super::switch::Switch;

/// The way that a request has come.
#[derive(Clone)]
pub(super) struct Channel {
    pub(super) address: IpAddr,
    pub(super) secured: bool,
    /// Half of the connection's time is over.
    pub(super) is_old: bool,
    pub(super) switch: Switch,
}

/// The client that has sent a request: an extension of each request.
#[derive(Clone)]
pub struct Caller {
    channel: Channel,
    turn: Turn,
    gate: DrainGate,
    host: Arc<dyn Host>,
}

impl Caller {
    pub(super) fn new(channel: Channel, turn: Turn, gate: DrainGate, host: Arc<dyn Host>) -> Caller {
        Caller { channel, turn, gate, host }
    }

    /// Its address, as limits see it: that which a trusted proxy speaks for.
    pub fn address(&self) -> IpAddr {
        self.channel.address
    }

    /// Whether TLS protects the request, all the way from the client: also where a trusted proxy says so.
    pub fn is_secured(&self) -> bool {
        self.channel.secured
    }

    /// Whether the connection is to be closed before it ends by itself, lest a request that is held is cut off.
    pub fn is_on_old_connection(&self) -> bool {
        self.channel.is_old
    }

    /// The whole request is here. Keeps something until its answer is written, or the connection has ended: for a feature that
    /// waits for its answers itself ([`Routes::ends_itself`](super::routes::Routes::ends_itself)).
    pub fn begin_with(&self, kept: Box<dyn std::any::Any + Send>) {
        self.turn.served();
        self.turn.keep_until_written(kept);
    }

    /// The answer to this request will be 101 (RFC 9110 §7.8). When it is written, `takes` gets the connection with all
    /// that belongs to it, and its place is free. A drain waits until then.
    pub fn switch(&self, request: &mut Request, takes: impl FnOnce(Released) + Send + 'static) {
        self.turn.leaves();
        self.channel.switch.prepare(request, Box::new(takes));
    }

    /// From here on a drain waits until the answer to this request is written. Done by itself for a request without a body,
    /// by [`json`] when the body is here, and for every answer that a handler makes before a drain begins.
    ///
    /// # Errors
    /// The server drains already: the problem that tells the client to come back.
    pub fn begin(&self) -> Result<(), Problem> {
        if self.turn.keeps_until_written() {
            return Ok(());
        }
        let under_way = self.gate.enter().ok_or_else(Problem::busy)?;
        self.turn.keep_until_written(Box::new(under_way));
        Ok(())
    }

    /// A body follows that the handler reads piece by piece, or an answer that it sends so, for so long at most. The handler sees to
    /// the time of each piece; a drain waits for the end.
    ///
    /// # Errors
    /// As [`Caller::begin`].
    pub fn transfer(&self, at_most: Duration) -> Result<(), Problem> {
        self.turn.served();
        self.turn.may_take_until(tokio::time::Instant::now() + at_most);
        self.begin()
    }

    /// The body is here, also of one that says itself where it ends: from now on the client waits for us.
    fn body_is_here(&self) -> Result<(), Problem> {
        self.turn.served();
        self.begin()
    }

    /// Takes a place of a feature's share; `false` when all of it is taken.
    pub(super) fn takes_place(&self, share: Share) -> bool {
        let takes = self.turn.join(share).is_ok();
        if !takes {
            self.host.count(Event::Refused);
        }
        takes
    }
}

/// Reads a JSON body of at most so many bytes, which has to come within `wait`.
///
/// # Errors
/// It is none (400, 415), too large (413) or too slow (408), or the server drains (503).
pub async fn json<T: DeserializeOwned>(
    request: Request,
    bytes_max: usize,
    wait: Duration,
) -> Result<T, Problem> {
    check_head(&request, bytes_max)?;
    let caller = request.extensions().get::<Caller>().cloned();
    let body = match tokio::time::timeout(wait, to_bytes(request.into_body(), bytes_max)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return Err(too_large(bytes_max)),
        Err(_) => {
            let text = "the body did not come in time";
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", text));
        }
    };
    if let Some(caller) = caller {
        caller.body_is_here()?;
    }
    serde_json::from_slice(&body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "malformed", format!("the body: {error}")))
}

/// Refuses a body that need not be read.
fn check_head(request: &Request, bytes_max: usize) -> Result<(), Problem> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let media = header(CONTENT_TYPE).unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/json") {
        let text = "the body must be application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", text));
    }
    match header(CONTENT_LENGTH).and_then(|text| text.parse::<usize>().ok()) {
        Some(length) if length > bytes_max => Err(too_large(bytes_max)),
        _ => Ok(()),
    }
}

fn too_large(bytes_max: usize) -> Problem {
    let text = format!("the body has more than {bytes_max} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", text)
}
