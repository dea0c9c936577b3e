//! Requests to the store: HTTP/1.1, on connections that are kept for the next.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http_body_util::BodyExt;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::{Uri, Version};
use hyper_util::rt::TokioIo;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use rustls::ClientConfig;
use tokio::time::timeout;

use crate::connect::connect;
use crate::failure::Refused;
use crate::store::Counts;

/// Connections that are kept while nothing is asked on them, and for how long.
const IDLE_MAX: usize = 32;
const IDLE: Duration = Duration::from_secs(15);

/// Bytes of an answer that a connection holds before they are taken.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// What is read of the reasons that a store gives, and how long for each piece.
const SAID_BYTES_MAX: usize = 2 << 10;
const SAID: Duration = Duration::from_secs(2);

/// The client of one store; clones are the same.
#[derive(Clone)]
pub(crate) struct Client(Arc<Shared>);

struct Shared {
    tls: Arc<ClientConfig>,
    /// What an answer may take until it begins.
    within: Duration,
    counts: Arc<Counts>,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    link: SendRequest<HttpRequestBody>,
    since: Instant,
    authority: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl HttpConnector for Client {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let late = |_| {
            let text = "no answer of the object store in time";
            HttpError::new(HttpErrorKind::Timeout, io::Error::new(io::ErrorKind::TimedOut, text))
        };
        let counts = &self.0.counts;
        counts.requests.fetch_add(1, Ordering::Relaxed);
        let answer = timeout(self.0.within, self.ask(request)).await.map_err(late).flatten();
        let answer = match answer {
            Ok(answer) => told(answer).await,
            failed => failed,
        };
        let is_refused = |status: u16| status >= 400 && status != 404;
        if answer.as_ref().map_or(true, |answer| is_refused(answer.status().as_u16())) {
            counts.failed.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }
}

impl Client {
    pub(crate) fn new(tls: Arc<ClientConfig>, within: Duration, counts: Arc<Counts>) -> Client {
        Client(Arc::new(Shared { tls, within, counts, idle: Mutex::default() }))
    }

    async fn ask(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let uri = request.uri().clone();
        let bad = |text: &'static str| HttpError::new(HttpErrorKind::Unknown, io::Error::other(text));
        let authority = uri.authority().ok_or_else(|| bad("a request without a host"))?.as_str().to_owned();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().map_err(|_| bad("a path that cannot be asked for"))?;
        *request.version_mut() = Version::HTTP_11;
        let host = HeaderValue::from_str(&authority).map_err(|_| bad("a host that cannot be asked"))?;
        request.headers_mut().insert(HOST, host);
        let mut link = match self.take(&authority) {
            Some(link) => link,
            None => self.make(&uri).await?,
        };
        let response = link.send_request(request).await.map_err(failed)?;
        let kept = self.clone();
        tokio::spawn(async move {
            // When the answer has been read to its end.
            if link.ready().await.is_ok() {
                kept.keep(link, authority);
            }
        });
        let (head, body) = response.into_parts();
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body.map_err(failed))))
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, authority: &str) -> Option<SendRequest<HttpRequestBody>> {
        let mut idle = self.idle();
        idle.retain(|idle| idle.since.elapsed() < IDLE && !idle.link.is_closed());
        let found = idle.iter().rposition(|idle| idle.link.is_ready() && idle.authority == authority)?;
        Some(idle.swap_remove(found).link)
    }

    fn keep(&self, link: SendRequest<HttpRequestBody>, authority: String) {
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX {
            idle.push(Idle { link, since: Instant::now(), authority });
        }
    }

    async fn make(&self, uri: &Uri) -> Result<SendRequest<HttpRequestBody>, HttpError> {
        let is_tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let tls = is_tls.then(|| self.0.tls.clone());
        let stream = connect(uri.host().unwrap_or_default(), port, tls).await;
        let stream = stream.map_err(|error| HttpError::new(HttpErrorKind::Connect, error))?;
        let made = http1::Builder::new().max_buf_size(BUFFER_BYTES_MAX).handshake(TokioIo::new(stream)).await;
        let (link, connection) = made.map_err(failed)?;
        // Its errors are those of its requests.
        tokio::spawn(async move { connection.await.unwrap_or_default() });
        Ok(link)
    }
}

/// Makes an error of a status that the library has none for, with the beginning of what the store says about it.
async fn told(answer: HttpResponse) -> Result<HttpResponse, HttpError> {
    let status = answer.status().as_u16();
    if status < 400 || matches!(status, 401 | 403 | 404 | 409 | 412) {
        return Ok(answer);
    }
    let (mut body, mut said) = (answer.into_body(), Vec::new());
    while said.len() < SAID_BYTES_MAX
        && let Ok(Some(Ok(frame))) = timeout(SAID, body.frame()).await
    {
        said.extend_from_slice(
            frame.data_ref().map_or(&[][..], |data| &data[..data.len().min(SAID_BYTES_MAX)]),
        );
    }
    let refused = Refused { status, body: String::from_utf8_lossy(&said).into_owned() };
    Err(HttpError::new(refused.kind(), refused))
}

/// Everything that is asked for may be asked for twice; a new upload that nobody knows of is aborted later.
fn failed(error: hyper::Error) -> HttpError {
    let kind = match () {
        () if error.is_canceled() || error.is_closed() => HttpErrorKind::Request,
        () if error.is_parse() => HttpErrorKind::Decode,
        () if error.is_timeout() => HttpErrorKind::Timeout,
        () => HttpErrorKind::Interrupted,
    };
    HttpError::new(kind, error)
}
