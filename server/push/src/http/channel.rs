//! The connections to one origin, and a request on them.
//!
//! There is one connection of HTTP/2, which all requests share: hyper and h2 open no more streams on it than the peer
//! allows, and hold the others back. To a peer of HTTP/1.1 there are as many as requests are under way. Whoever finds no
//! connection makes one while the others wait for it; when that fails, they fail with it.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{HOST, HeaderMap, RETRY_AFTER};
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::dial::{Dialer, Origin, Protocol};
use super::failure::{Failure, describe, is_farewell};
use super::{BODY_BYTES_MAX, HEAD_BYTES_MAX};

/// Idle connections of HTTP/1.1 that are kept.
const IDLE_MAX: usize = 8;

/// Bytes that a peer may send of one answer, and of all together, before they are read: it could make us hold them.
const STREAM_BYTES_MAX: u32 = 64 << 10;
const CONNECTION_BYTES_MAX: u32 = 1 << 20;

/// Connections on which one request is tried when the peer processes it on none.
const TRIES_MAX: u32 = 3;

/// An answer: as much of it as anybody looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `Retry-After`, as it stands there.
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Bytes,
}

type Body = Full<Bytes>;

/// The connections to one origin.
pub(crate) struct Channel {
    origin: Origin,
    dialer: Dialer,
    ping: Duration,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    shared: Option<http2::SendRequest<Body>>,
    /// Counts the shared connections.
    number: u64,
    /// When the shared connection was made.
    since: Option<Instant>,
    idle: Vec<http1::SendRequest<Body>>,
    /// When making a connection failed, and why.
    failed: Option<(Instant, Failure)>,
}

/// A connection for one request.
enum Link {
    Http2(http2::SendRequest<Body>, u64),
    Http1(http1::SendRequest<Body>),
}

impl Channel {
    /// Without connections yet. An idle one is asked for a sign of life every `ping`.
    pub(crate) fn new(origin: Origin, dialer: Dialer, ping: Duration) -> Channel {
        Channel { origin, dialer, ping, kept: Mutex::default() }
    }

    /// Sends a POST and reads the answer. Takes as long as it takes: the caller sets the time.
    pub(crate) async fn post(&self, path: &str, headers: &HeaderMap, body: Bytes) -> Result<Answer, Failure> {
        let mut last = None;
        for _ in 0..TRIES_MAX {
            match self.try_post(path, headers, body.clone()).await {
                Err(Failure::NotProcessed(text)) => last = Some(text),
                other => return other,
            }
        }
        Err(Failure::Broken(last.unwrap_or_default()))
    }

    async fn try_post(&self, path: &str, headers: &HeaderMap, body: Bytes) -> Result<Answer, Failure> {
        match self.link().await? {
            Link::Http2(mut link, number) => {
                let uri = format!("https://{}{path}", self.origin.authority());
                let sent = link.send_request(self.request(&uri, Version::HTTP_2, headers, body)?).await;
                match sent {
                    Ok(response) => read(response).await.map(|(answer, _)| answer),
                    Err(error) => {
                        if link.is_closed() || is_farewell(&error) {
                            self.forget(number).await;
                        }
                        Err(Failure::of(&error))
                    }
                }
            }
            Link::Http1(mut link) => {
                let request = self.request(path, Version::HTTP_11, headers, body)?;
                let response = link.send_request(request).await.map_err(|error| Failure::of(&error))?;
                let (answer, whole) = read(response).await?;
                if whole {
                    self.keep(link).await;
                }
                Ok(answer)
            }
        }
    }

    fn request(
        &self,
        uri: &str,
        version: Version,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Request<Body>, Failure> {
        let request = Request::post(uri).version(version).body(Full::new(body));
        let mut request = request.map_err(|error| Failure::Broken(error.to_string()))?;
        request.headers_mut().clone_from(headers);
        if version == Version::HTTP_11 {
            let host = self.origin.authority().parse();
            let host = host.map_err(|_| Failure::Broken("the name is none of a host".to_owned()))?;
            request.headers_mut().insert(HOST, host);
        }
        Ok(request)
    }

    /// A connection that is there, or a new one.
    async fn link(&self) -> Result<Link, Failure> {
        let since = Instant::now();
        let mut kept = self.kept.lock().await;
        if let Some(shared) = kept.shared.as_ref().filter(|shared| !shared.is_closed()) {
            return Ok(Link::Http2(shared.clone(), kept.number));
        }
        while let Some(idle) = kept.idle.pop() {
            if idle.is_ready() {
                return Ok(Link::Http1(idle));
            }
        }
        if let Some((_, failure)) = kept.failed.as_ref().filter(|(when, _)| *when >= since) {
            return Err(failure.clone());
        }
        kept.number += 1;
        let made = self.make(kept.number).await;
        match &made {
            Ok(Link::Http2(link, _)) => {
                kept.shared = Some(link.clone());
                kept.since = Some(Instant::now());
            }
            Ok(Link::Http1(_)) => {}
            Err(failure) => kept.failed = Some((Instant::now(), failure.clone())),
        }
        made
    }

    async fn make(&self, number: u64) -> Result<Link, Failure> {
        let dialed = self.dialer.dial(&self.origin).await;
        let (stream, protocol) =
            dialed.map_err(|error| Failure::Broken(format!("{}: {}", self.origin.host, describe(&error))))?;
        let io = TokioIo::new(stream);
        match protocol {
            Protocol::Http2 => {
                let made = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .max_header_list_size(HEAD_BYTES_MAX)
                    .initial_stream_window_size(STREAM_BYTES_MAX)
                    .initial_connection_window_size(CONNECTION_BYTES_MAX)
                    // Until the peer has said how many it takes; Apple takes one before it has seen a token.
                    .initial_max_send_streams(1)
                    .keep_alive_interval(self.ping)
                    .keep_alive_timeout(self.ping / 2)
                    .keep_alive_while_idle(true)
                    .handshake(io)
                    .await;
                let (link, connection) = made.map_err(|error| Failure::of(&error))?;
                // Its errors are those of its requests.
                tokio::spawn(async move { connection.await.unwrap_or_default() });
                Ok(Link::Http2(link, number))
            }
            Protocol::Http1 => {
                let made = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX as usize).handshake(io).await;
                let (link, connection) = made.map_err(|error| Failure::of(&error))?;
                tokio::spawn(async move { connection.await.unwrap_or_default() });
                Ok(Link::Http1(link))
            }
        }
    }

    /// Lets go of a connection that takes no more requests, if it is still the shared one. Those that still have an answer
    /// to come get it.
    async fn forget(&self, number: u64) {
        let mut kept = self.kept.lock().await;
        if kept.number == number {
            kept.shared = None;
        }
    }

    /// Lets go of the shared connection, because it has given no answer to a request that began then; what is under way on
    /// it may still be answered.
    pub(crate) async fn renew(&self, began: Instant) {
        let mut kept = self.kept.lock().await;
        if kept.since.is_some_and(|since| since <= began) {
            kept.shared = None;
        }
    }

    async fn keep(&self, link: http1::SendRequest<Body>) {
        let mut kept = self.kept.lock().await;
        if kept.idle.len() < IDLE_MAX {
            kept.idle.push(link);
        }
    }
}

/// The answer, and whether its body was read to its end.
async fn read(response: Response<Incoming>) -> Result<(Answer, bool), Failure> {
    let (head, mut body) = response.into_parts();
    let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (mut bytes, mut whole) = (Vec::new(), true);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Broken(describe(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        let room = BODY_BYTES_MAX - bytes.len();
        bytes.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            whole = false;
            break;
        }
    }
    Ok((Answer { status: head.status.as_u16(), retry_after, body: bytes.into() }, whole))
}
