//! A session with its end of the way to a worker.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream as Pair;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot};

use super::link::{Reader, Said};
use super::session::{Reply, Session};

/// Bytes that are read at once.
const READ_BYTES: usize = 16 * 1024;

/// What a request is answered through.
pub(super) type Ticket = oneshot::Sender<Reply>;

/// A session with its socket.
pub(super) struct Seat {
    /// Where it was begun.
    pub(super) peer: IpAddr,
    pub(super) inner: Mutex<Inner>,
    /// Told when a request has come, or everything pauses or goes on.
    pub(super) changes: Notify,
}

pub(super) struct Inner {
    pub(super) session: Session<Ticket>,
    /// The way to the worker while there is one. A session that comes from another program has `Here::Waits`.
    pub(super) socket: Socket,
    pub(super) reader: Reader,
    /// The client's way is protected.
    pub(super) secured: bool,
    /// Of its bytes so many are counted.
    pub(super) counted: usize,
}

/// This end of a socket pair.
pub(super) enum Socket {
    /// Not known to the server's thread yet.
    Waits(Pair),
    Open(Arc<UnixStream>),
    Closed,
}

impl Seat {
    pub(super) fn new(
        peer: IpAddr,
        session: Session<Ticket>,
        socket: Socket,
        (reader, secured): (Reader, bool),
    ) -> Arc<Seat> {
        let inner = Inner { session, socket, reader, secured, counted: 0 };
        Arc::new(Seat { peer, inner: Mutex::new(inner), changes: Notify::new() })
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Socket {
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Socket::Open(_))
    }

    pub(super) fn get(&self) -> Option<Arc<UnixStream>> {
        match self {
            Socket::Open(socket) => Some(socket.clone()),
            Socket::Waits(_) | Socket::Closed => None,
        }
    }

    pub(super) fn descriptor(&self) -> Option<u32> {
        let number = match self {
            Socket::Open(socket) => socket.as_raw_fd(),
            Socket::Waits(socket) => socket.as_raw_fd(),
            Socket::Closed => return None,
        };
        u32::try_from(number).ok()
    }
}

impl Inner {
    /// Reads once. `true`: something has come.
    pub(super) fn read(&mut self, elsewhere: &str, now_ms: u64) -> bool {
        let Socket::Open(socket) = &self.socket else { return false };
        let mut buffer = [0; READ_BYTES];
        match socket.try_read(&mut buffer) {
            Ok(0) => self.lose(now_ms),
            Ok(count) => {
                let session = &mut self.session;
                self.reader.read(&buffer[..count], |said: Said| session.said(said, elsewhere, now_ms));
                return true;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.lose(now_ms),
        }
        false
    }

    /// Writes what the worker takes, and goes on with requests that have waited for that. `true`: something went.
    pub(super) fn write(&mut self, now_ms: u64) -> bool {
        if self.session.is_gone() {
            return false;
        }
        let Socket::Open(socket) = &self.socket else {
            if !self.session.to_worker().is_empty() {
                self.session.lost(now_ms);
            }
            return false;
        };
        let frames = self.session.to_worker();
        if frames.is_empty() {
            return false;
        }
        match socket.try_write(frames) {
            Ok(count) => {
                frames.drain(..count);
                if frames.is_empty() {
                    *frames = Vec::new();
                }
                self.session.advance(now_ms);
                return true;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.lose(now_ms),
        }
        false
    }

    fn lose(&mut self, now_ms: u64) {
        self.socket = Socket::Closed;
        self.session.lost(now_ms);
    }
}

/// Both ends of the way to a worker.
pub(super) fn pair() -> std::io::Result<(Pair, Pair)> {
    let (here, there) = Pair::pair()?;
    here.set_nonblocking(true)?;
    there.set_nonblocking(true)?;
    Ok((here, there))
}
