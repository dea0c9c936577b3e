//! New connections.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::time::Instant;

use socket2::SockRef;

use super::{Connection, Mio};
use crate::driver::accept::{AcceptTrouble, canonical};
use crate::driver::{ConnId, Event, ListenerId};

impl Mio {
    pub(super) fn accept(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if self.reserve.resume_at().is_some() && !self.reserve.resume(Instant::now()) {
            return;
        }
        if !self.accepting {
            return;
        }
        for number in 0..self.listeners.len() {
            for _ in 0..self.tuning.accepts_per_poll_max {
                let listener = &mut self.listeners[number];
                if !listener.ready {
                    break;
                }
                let errno = match accept_one(&listener.socket) {
                    Ok((socket, peer)) => match self.register_new(socket) {
                        Ok(conn) => {
                            let listener = ListenerId(number as u16);
                            sink(Event::Accepted { conn, listener, peer: canonical(peer.ip()) });
                            continue;
                        }
                        Err(error) => error.raw_os_error().unwrap_or(libc::ENOMEM),
                    },
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        listener.ready = false;
                        break;
                    }
                    Err(error) => {
                        let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
                        if AcceptTrouble::of(errno) == AcceptTrouble::Connection {
                            continue;
                        }
                        // accept says EMFILE even when nobody waits.
                        if !self.reserve.turn_away(&listener.socket) {
                            listener.ready = false;
                            break;
                        }
                        errno
                    }
                };
                if self.reserve.rest(Instant::now(), true) {
                    sink(Event::AcceptPaused { errno });
                }
                return;
            }
        }
    }

    fn register_new(&mut self, socket: OwnedFd) -> io::Result<ConnId> {
        let connection = Connection { socket, flags: 0, held: None };
        let conn = self.connections.insert(connection).map_err(|_| io::ErrorKind::OutOfMemory)?;
        match self.register(conn) {
            Ok(()) => Ok(conn),
            Err(error) => {
                self.connections.remove(conn);
                Err(error)
            }
        }
    }
}

/// Accepts with the new descriptor non-blocking and close-on-exec in the same call.
fn accept_one(listener: &TcpListener) -> io::Result<(OwnedFd, std::net::SocketAddr)> {
    let (socket, peer) = SockRef::from(listener).accept4(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC)?;
    let peer = peer.as_socket().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((socket.into(), peer))
}
