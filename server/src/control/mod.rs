//! The control socket `DATA/control.sock`: administration while the server runs.
//!
//! ```text
//! control ── accepts ──▶ control-client (at most CLIENTS) ── commands ──▶ workers
//!                              │                       └──── jobs ─────▶ directory writer
//!                              └── one JSON object a line each way (docs/control.md)
//! ```
//!
//! | module | what it is |
//! | --- | --- |
//! | [`protocol`] | requests and answers |
//! | [`handlers`](self) | what each request does |
//! | [`accounts`](self) | requests that read and write accounts |
//! | [`registration`](self) | requests about registration by phone number |

mod accounts;
mod handlers;
pub mod protocol;
mod registration;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::boot::Server;
use crate::control::protocol::{Answer, Problem, REQUEST_BYTES_MAX, Refusal};
use crate::upgrade::guard;

/// Name of the socket in the data directory.
pub const SOCKET_NAME: &str = "control.sock";

/// Clients at a time at most; one more is told to come back.
const CLIENTS_MAX: usize = 8;

/// How long a client may be silent between requests. An import derives keys between two of them.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// How long a client may take to read an answer.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(10);

/// What a reload does; the program knows where the configuration came from. The text says why it failed.
pub type Reload = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Somebody answers on it.
    #[error(
        "another server answers on {0}: it runs in this data directory; stop it (whimbrelctl --data DIR stop) or \
         use another data directory"
    )]
    InUse(PathBuf),
    /// The path does not fit into a socket address.
    #[error(
        "{path} is too long for a Unix socket ({bytes} bytes); use a shorter or a relative data directory"
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// The system refuses.
    #[error("cannot make the control socket {path}: {source}; the server must own its data directory")]
    System {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// The listening control socket. Its file goes when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ControlSocket {
    /// Makes the socket, mode 0600. What a dead server left behind is removed.
    ///
    /// # Errors
    /// A live server answers there, or the system refuses.
    pub fn bind(data: &Path) -> Result<ControlSocket, ControlError> {
        let path = data.join(SOCKET_NAME);
        let failed = |source| ControlError::System { path: path.clone(), source };
        let address = SockAddr::unix(&path)
            .map_err(|_| ControlError::PathTooLong { path: path.clone(), bytes: path.as_os_str().len() })?;
        match UnixStream::connect(&path) {
            Ok(_) => return Err(ControlError::InUse(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Something that is no socket refuses as well; it is not ours to remove.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && is_socket(&path) => {
                std::fs::remove_file(&path).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
        socket.bind(&address).map_err(failed)?;
        // Before it listens nobody can connect, so there is no moment at which others could.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        socket.listen(16).map_err(failed)?;
        Ok(ControlSocket { listener: UnixListener::from(std::os::fd::OwnedFd::from(socket)), path })
    }

    /// The socket of the program before, which listens.
    pub fn held(listener: UnixListener, data: &Path) -> ControlSocket {
        ControlSocket { listener, path: data.join(SOCKET_NAME) }
    }

    /// Serves requests on threads of its own until the process ends. `waiting` is a client of the program before and
    /// the answer to his request.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn serve(
        &self,
        server: Arc<Server>,
        reload: Reload,
        waiting: Option<(UnixStream, Answer)>,
    ) -> io::Result<()> {
        let listener = self.listener.try_clone()?;
        let descriptor = self.listener.as_raw_fd();
        let control = Arc::new(Control { server, reload, descriptor, clients: AtomicUsize::new(0) });
        if let Some((stream, reply)) = waiting {
            control.begin(stream, Some(reply));
        }
        std::thread::Builder::new().name("control".into()).spawn(move || control.accept(&listener))?;
        Ok(())
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if guard::is_armed() {
            // The program before goes on with it.
            return;
        }
        // Nothing can be done about a failure, and the next start copes with a socket that is left.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
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
            let _ = answer(&stream, &Err(Problem::new(Refusal::Busy, text)));
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
            let reply = match lines.next() {
                Ok(Some(line)) => protocol::parse(line).and_then(|request| self.handle(request, stream)),
                Ok(None) => return,
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                    let text = format!("a request has at most {REQUEST_BYTES_MAX} bytes");
                    let _ = answer(stream, &Err(Problem::new(Refusal::TooLarge, text)));
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, "a control client is gone");
                    return;
                }
            };
            if let Err(error) = answer(stream, &reply) {
                tracing::debug!(%error, "a control client does not take its answer");
                return;
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
    stream.write_all(&protocol::encode(answer))
}

/// Tells a client how far his request has come.
fn progress(mut stream: &UnixStream, text: &str) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE_WAIT_MAX))?;
    stream.write_all(&protocol::encode_progress(text))
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
