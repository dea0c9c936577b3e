//! Administration while the server runs, over the control socket `DATA/control.sock`.
//!
//! ```text
//! control ── accepts ──▶ control-client (at most CLIENTS) ── commands ──▶ workers
//!                              │                       └──── jobs ─────▶ directory writer
//!                              └── one JSON object a line each way (docs/control.md)
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`handlers`](self) | what each request does |
//! | [`accounts`](self) | requests that read and write accounts |
//! | [`registration`](self) | requests about registration by phone number |
//! | [`rooms`](self) | requests about rooms |
//! | [`links`](self) | requests about links that make members of rooms |
//! | [`push`](self) | requests about devices that push services tell |
//! | [`uploads`](self) | requests about files that accounts have uploaded |
//! | [`nodes`](self) | requests about nodes of the publish-subscribe service |

mod accounts;
mod handlers;
mod links;
mod nodes;
mod push;
mod registration;
mod rooms;
#[cfg(test)]
mod tests;
mod uploads;

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::control::{self, Answer, ControlRefusal, Problem, REQUEST_BYTES_MAX, Request};
use crate::running::Server;
use crate::running::socket::ControlSocket;

/// Clients at a time at most; one more is told to come back.
const CLIENTS_MAX: usize = 8;

/// How long a client may be silent between requests. An import derives keys between two of them.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// How long a client may take to read an answer.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(10);

/// What a reload does; the program knows where the configuration came from. The text says why it failed.
pub type Reload = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Serves requests on threads of its own until the process ends. `waiting` is a client of the program before and
/// the answer to its request.
///
/// # Errors
/// A thread cannot be started.
pub fn serve(
    socket: &ControlSocket,
    server: Arc<Server>,
    reload: Reload,
    waiting: Option<(UnixStream, Answer)>,
) -> io::Result<()> {
    let listener = socket.listener.try_clone()?;
    let descriptor = socket.listener.as_raw_fd();
    let control = Arc::new(Control { server, reload, descriptor, clients: AtomicUsize::new(0) });
    if let Some((stream, reply)) = waiting {
        control.begin(stream, Some(reply));
    }
    std::thread::Builder::new().name("control".into()).spawn(move || control.accept(&listener))?;
    Ok(())
}

/// What the requests act on.
struct Control {
    server: Arc<Server>,
    reload: Reload,
    /// Of the listening socket.
    descriptor: RawFd,
    clients: AtomicUsize,
}

impl Control {
    fn accept(self: &Arc<Self>, listener: &UnixListener) {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: there will be some again.
                    tracing::warn!(%error, "the control socket cannot accept");
                    std::thread::sleep(Duration::from_secs(1));
                    continue;
                }
            };
            self.begin(stream, None);
        }
    }

    /// Begins a conversation, on a thread of its own; with an answer that is due already.
    fn begin(self: &Arc<Self>, stream: UnixStream, due: Option<Answer>) {
        if self.clients.fetch_add(1, Ordering::Relaxed) >= CLIENTS_MAX {
            self.clients.fetch_sub(1, Ordering::Relaxed);
            let text = format!("{CLIENTS_MAX} tools are connected already; try again when one has ended");
            let _ = answer(&stream, &Err(Problem::new(ControlRefusal::Busy, text)));
            return;
        }
        let guard = ClientGuard(self.clone());
        let started = std::thread::Builder::new().name("control-client".into()).spawn(move || {
            if due.is_none_or(|due| answer(&stream, &due).is_ok()) {
                guard.0.converse(&stream);
            }
        });
        if let Err(error) = started {
            tracing::warn!(%error, "cannot start a thread for a control client");
        }
    }

    /// Answers one client until it goes or is silent for too long.
    fn converse(&self, stream: &UnixStream) {
        if stream.set_read_timeout(Some(SILENCE_MAX)).is_err() {
            return;
        }
        let mut lines = Lines::new(stream);
        loop {
            let mut end = None;
            let reply = match lines.next() {
                Ok(Some(line)) => control::parse(line).and_then(|request| {
                    end = End::of(&request);
                    self.handle(request, stream)
                }),
                Ok(None) => return,
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                    let text = format!("a request has at most {REQUEST_BYTES_MAX} bytes");
                    let _ = answer(stream, &Err(Problem::new(ControlRefusal::TooLarge, text)));
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "a control client is gone");
                    return;
                }
            };
            let taken = answer(stream, &reply);
            if let Some(end) = end {
                end.begin(&self.server);
            }
            if let Err(error) = taken {
                tracing::debug!(%error, "a control client does not take its answer");
                return;
            }
        }
    }
}

/// How the server is asked to end.
#[derive(Copy, Clone)]
enum End {
    /// When its last client has gone.
    Drain,
    /// Soon.
    Stop,
}

impl End {
    fn of(request: &Request) -> Option<End> {
        match request {
            Request::Drain => Some(End::Drain),
            Request::Stop => Some(End::Stop),
            _ => None,
        }
    }

    fn begin(self, server: &Server) {
        match self {
            End::Drain => server.drain(false),
            End::Stop => {
                tracing::info!("asked to stop over the control socket");
                server.stop();
            }
        }
    }
}

/// Counts its client off, whatever way the thread ends.
struct ClientGuard(Arc<Control>);

impl Drop for ClientGuard {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

fn answer(mut stream: &UnixStream, answer: &Answer) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE_WAIT_MAX))?;
    stream.write_all(&control::encode(answer))
}

/// Tells a client how far its request has come.
fn progress(mut stream: &UnixStream, text: &str) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE_WAIT_MAX))?;
    stream.write_all(&control::encode_progress(text))
}

/// Lines of bounded length.
struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    /// Bytes of the buffer that belong to the line handed out last.
    used: usize,
}

impl<R: Read> Lines<R> {
    fn new(source: R) -> Lines<R> {
        Lines { source, buffer: Vec::new(), used: 0 }
    }

    /// The next line without its line feed; `None` at the end. `FileTooLarge` when a line has no end within
    /// [`REQUEST_BYTES_MAX`].
    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let mut searched = 0;
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer[searched..]) {
                let end = searched + end;
                self.used = end + 1;
                return Ok(Some(&self.buffer[..end]));
            }
            searched = self.buffer.len();
            if searched >= REQUEST_BYTES_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let mut chunk = [0; 4096];
            let room = chunk.len().min(REQUEST_BYTES_MAX - searched);
            match self.source.read(&mut chunk[..room]) {
                Ok(0) => return Ok(None),
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
