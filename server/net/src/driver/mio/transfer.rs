//! Reading and writing: one turn each, in bounded pieces.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use socket2::SockRef;

use super::{
    CLOSING, ENDED, GONE, HUNG_UP, LastWord, Mio, PAUSED, QUEUED, READABLE, SHUT, WATCHES_WRITE, interest,
    token,
};
use crate::driver::{CloseCause, ConnId, Event, RECEIPT_BYTES, SEND_BYTES_MAX, Slice};

/// Attempts to write of one connection in one turn, which together have [`SEND_BYTES_MAX`] bytes.
const WRITES_PER_TURN: usize = 16;

impl Mio {
    /// Reads each connection whose turn it is once.
    pub(super) fn read_turns(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let (mut received, mut slice) = (0, Slice::of(&self.tuning));
        for _ in 0..self.turns.len().min(self.tuning.reads_per_poll_max) {
            if received >= self.tuning.poll_bytes_max {
                break;
            }
            let Some(conn) = self.turns.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(conn) else { continue };
            connection.flags &= !QUEUED;
            if connection.has(PAUSED | GONE) {
                continue;
            }
            received += RECEIPT_BYTES;
            let count_bytes = &mut |event: Event<'_>| {
                if let Event::Received { bytes, .. } = &event {
                    received += bytes.len().saturating_sub(RECEIPT_BYTES);
                }
                sink(event);
            };
            self.read(conn, count_bytes);
            self.take_turn(conn);
            if slice.is_over() {
                break;
            }
        }
    }

    fn read(&mut self, conn: ConnId, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if let Some(held) = &mut connection.held
            && !held.unread.is_empty()
        {
            let unread = std::mem::take(&mut held.unread);
            if held.unsent.is_empty() {
                connection.held = None;
            }
            if !connection.has(CLOSING) {
                sink(Event::Received { conn, bytes: &unread });
            }
            self.spent.put(unread);
            return;
        }
        if !connection.has(READABLE) {
            return;
        }
        if connection.has(ENDED) {
            // Nothing more can come but an error.
            connection.flags &= !READABLE;
            if let Ok(Some(error)) = SockRef::from(&connection.socket).take_error() {
                self.end(conn, LastWord::Closed(CloseCause::of(&error)));
            }
            return;
        }
        let closing = connection.has(CLOSING);
        match (&*SockRef::from(&connection.socket)).read(&mut self.buffer) {
            Ok(0) => {
                connection.flags |= ENDED;
                // An error event that came along is looked at in the next turn.
                if !connection.has(HUNG_UP) {
                    connection.flags &= !READABLE;
                }
                if !closing {
                    sink(Event::Ended { conn });
                } else if connection.has(SHUT) {
                    self.end(conn, LastWord::Closed(CloseCause::Local));
                }
            }
            Ok(count) => {
                // A short read has emptied the socket; later bytes are a new edge. This saves a call per event.
                if count < self.buffer.len() && !connection.has(HUNG_UP) {
                    connection.flags &= !READABLE;
                }
                if !closing {
                    sink(Event::Received { conn, bytes: &self.buffer[..count] });
                }
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => connection.flags &= !READABLE,
                io::ErrorKind::Interrupted => {}
                _ => self.end(conn, LastWord::Closed(CloseCause::of(&error))),
            },
        }
    }

    /// Writes as much as the kernel takes. `Drained` goes to the sink if there is one.
    pub(super) fn write(&mut self, conn: ConnId, sink: Option<&mut dyn FnMut(Event<'_>)>) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.has(GONE) {
            return;
        }
        let Some(held) = &mut connection.held else { return };
        let mut left = SEND_BYTES_MAX;
        for _ in 0..WRITES_PER_TURN {
            if held.unsent.is_empty() || left == 0 {
                break;
            }
            let front = held.unsent.front();
            let piece = &front[..front.len().min(left)];
            if !self.sends.has_room(piece.len()) {
                break;
            }
            match write_once(&connection.socket, piece) {
                Ok(count) => {
                    left -= count;
                    self.sends.take(count);
                    held.unsent.advance(count, &mut self.spent);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.end(conn, LastWord::Closed(CloseCause::of(&error)));
                    return;
                }
            }
        }
        if !held.unsent.is_empty() {
            // Also when the attempts or the bytes are used up, its own or all: registering again gives a fresh edge.
            self.watch_write(conn, true);
            return;
        }
        if held.unread.is_empty() {
            connection.held = None;
        }
        let closing = connection.has(CLOSING);
        if connection.has(WATCHES_WRITE) {
            self.watch_write(conn, false);
        }
        if closing {
            self.shut(conn);
        } else if let Some(sink) = sink {
            sink(Event::Drained { conn });
        }
    }

    pub(super) fn watch_write(&mut self, conn: ConnId, watch: bool) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        connection.flags =
            if watch { connection.flags | WATCHES_WRITE } else { connection.flags & !WATCHES_WRITE };
        let fd = connection.socket.as_raw_fd();
        if let Err(error) = self.poll.registry().reregister(&mut SourceFd(&fd), token(conn), interest(watch))
        {
            self.end(conn, LastWord::Closed(CloseCause::of(&error)));
        }
    }

    /// Everything is sent: ends our side and waits for the peer's end.
    pub(super) fn shut(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        connection.flags |= SHUT;
        let shut = SockRef::from(&connection.socket).shutdown(Shutdown::Write);
        if shut.is_err() || connection.has(ENDED) {
            self.end(conn, LastWord::Closed(CloseCause::Local));
        }
    }
}

pub(super) fn write_once(socket: &OwnedFd, data: &[u8]) -> io::Result<usize> {
    loop {
        match SockRef::from(socket).send_with_flags(data, libc::MSG_NOSIGNAL) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
