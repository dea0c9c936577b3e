//! A server on loopback: TLS, and HTTP/2 by h2 itself, which a test may have say GOAWAY, or HTTP/1.1 by hyper.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::authority::Authority;
use super::inject::{Injected, Injector};
use super::journal::Journal;
use super::script::Answer;

/// How a double is served.
#[derive(Copy, Clone, Debug)]
pub struct Options {
    /// Streams of one connection at a time.
    pub streams: u32,
    /// HTTP/1.1 in place of HTTP/2.
    pub http1: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { streams: 1_000, http1: false }
    }
}

/// A request as it came.
pub(super) struct Asked {
    pub(super) connection: u64,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What a provider makes of a request.
pub(super) trait Provider: Send + Sync + 'static {
    fn journal(&self) -> &Journal;

    /// Never [`Answer::Take`].
    fn answer(&self, asked: Asked) -> Answer;
}

/// A server with its thread. Dropped, it ends with all its connections.
pub(super) struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(
        authority: &Authority,
        options: Options,
        listener: std::net::TcpListener,
        provider: Arc<dyn Provider>,
    ) -> io::Result<Server> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let tls = TlsAcceptor::from(authority.config(if options.http1 { b"http/1.1" } else { b"h2" }));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("double".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, tls, options, provider) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Server { address, stop: Some(stop), thread: Some(thread) })
    }

    /// A listener whose address is known before the server is there.
    pub(super) fn listener() -> io::Result<std::net::TcpListener> {
        std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
    }

    pub(super) fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Its panic was a failure of a test already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn accept(
    listener: std::net::TcpListener,
    tls: TlsAcceptor,
    options: Options,
    provider: Arc<dyn Provider>,
) {
    let listener = TcpListener::from_std(listener).expect("a listener that does not block");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        if provider.journal().is_down() {
            continue;
        }
        let (tls, provider) = (tls.clone(), provider.clone());
        tokio::spawn(async move {
            let mut downs = provider.journal().downs();
            let served = async {
                let Ok(stream) = tls.accept(stream).await else { return };
                let open = Open(provider.journal(), provider.journal().connected());
                let connection = Connection { number: open.1, provider: &*provider };
                let served = async {
                    match options.http1 {
                        true => connection.http1(stream).await,
                        false => drop(connection.http2(stream, options.streams).await),
                    }
                };
                tokio::pin!(served);
                tokio::select! {
                    biased;
                    () = provider.journal().frozen(open.1) => {}
                    () = &mut served => return,
                }
                // The socket stays, and nobody looks at it.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                _ = downs.changed() => {}
                () = served => {}
            }
        });
    }
}

/// A connection that is open, and its number.
struct Open<'a>(&'a Journal, u64);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.disconnected();
    }
}

/// What follows from a request for its connection.
enum End {
    Answered,
    Close,
    GoAway(u32),
}

/// One connection.
struct Connection<'a> {
    number: u64,
    provider: &'a dyn Provider,
}

impl Connection<'_> {
    async fn http2(&self, stream: TlsStream<TcpStream>, streams: u32) -> Result<(), h2::Error> {
        let injector = Injector::default();
        let io = Injected::new(stream, injector.clone());
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(streams);
        let mut connection = builder.handshake::<_, Bytes>(io).await?;
        let mut under_way = FuturesUnordered::new();
        // After GOAWAY: the last stream that is answered, and those that are not, which must not be reset.
        let (mut last, mut ignored) = (None, Vec::new());
        loop {
            tokio::select! {
                accepted = connection.accept() => {
                    let Some(accepted) = accepted else { return Ok(()) };
                    let (request, respond) = accepted?;
                    match last {
                        Some(last) if u32::from(respond.stream_id()) > last => ignored.push((request, respond)),
                        _ => under_way.push(self.stream(request, respond)),
                    }
                }
                Some(end) = under_way.next() => match end {
                    End::Answered => {}
                    End::Close => return Ok(()),
                    End::GoAway(stream) => {
                        let before = stream - 2;
                        injector.go_away(before);
                        last = Some(last.map_or(before, |last: u32| last.min(before)));
                    }
                },
            }
            if last.is_some() && under_way.is_empty() {
                connection.graceful_shutdown();
            }
        }
    }

    async fn stream(&self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> End {
        // Before anybody can know of the request, so that no release is missed.
        let releases = self.provider.journal().releases();
        let _count = Count::new(self.provider.journal());
        let (head, mut stream) = request.into_parts();
        let mut body = Vec::new();
        while let Some(Ok(data)) = stream.data().await {
            body.extend_from_slice(&data);
            // An error is one of the connection, which says so itself.
            let _ = stream.flow_control().release_capacity(data.len());
        }
        match self.ask(head, body.into(), releases).await {
            Answer::Status { status, headers, body } => {
                let response = response(status, &headers, ());
                if let Ok(mut sent) = respond.send_response(response, body.is_empty())
                    && !body.is_empty()
                {
                    let _ = sent.send_data(body.into(), true);
                }
                End::Answered
            }
            Answer::Refuse => {
                respond.send_reset(Reason::REFUSED_STREAM);
                End::Answered
            }
            Answer::GoAway => {
                let id = u32::from(respond.stream_id());
                // Not even a reset is sent for it.
                std::mem::forget(respond);
                End::GoAway(id)
            }
            Answer::Drop => End::Close,
            Answer::Stall | Answer::Take | Answer::Hold(_) => std::future::pending().await,
        }
    }

    async fn http1(&self, stream: TlsStream<TcpStream>) {
        let service = service_fn(async |request: Request<Incoming>| {
            let releases = self.provider.journal().releases();
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            match self.ask(head, body, releases).await {
                Answer::Status { status, headers, body } => {
                    Ok(response(status, &headers, Full::<Bytes>::from(body)))
                }
                Answer::Stall => std::future::pending().await,
                _ => Err(io::Error::other("the script wants no answer")),
            }
        });
        // Its errors are the script's.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    /// What the provider and the script say, as soon as the test lets them.
    async fn ask(&self, head: Parts, body: Bytes, mut releases: watch::Receiver<u64>) -> Answer {
        let asked = Asked {
            connection: self.number,
            method: head.method.to_string(),
            path: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
            headers: head.headers,
            body,
        };
        let mut answer = self.provider.answer(asked);
        while let Answer::Hold(then) = answer {
            // The double ends with its journal.
            let _ = releases.changed().await;
            answer = *then;
        }
        answer
    }
}

/// A request that is under way.
struct Count<'a>(&'a Journal);

impl<'a> Count<'a> {
    fn new(journal: &'a Journal) -> Count<'a> {
        journal.begun();
        Count(journal)
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

fn response<B>(status: u16, headers: &[(String, String)], body: B) -> Response<B> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(body).expect("the script's headers are headers")
}
