//! What the kernel has done, and what follows from it.

use io_uring::cqueue;
use socket2::SockRef;

use super::super::{CloseCause, ConnId, Event, RECEIPT_BYTES, Slice};
use super::Uring;
use super::connection::{
    CANCELS_READ, CANCELS_SEND, CLOSING, DETACHING, END_HELD, ENDED, GONE, OWES_DRAINED, PAUSED, READS,
    SENDS, SHUT,
};
use super::token::{Kind, Token};

/// How much more than [`poll_bytes_max`](super::super::Tuning::poll_bytes_max) is taken out of the queue in one poll.
const QUEUE_SHARE: usize = 4;

impl Uring {
    /// Works through what has completed, at most as much as there is now: what comes meanwhile waits for its turn.
    pub(super) fn complete(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let (mut received, mut slice) = (0, Slice::of(&self.tuning));
        for _ in 0..self.ring.completions().min(self.tuning.reads_per_poll_max.max(1)) {
            // What has completed lies in one queue, the bytes of quiet connections behind those of busy ones.
            if received >= QUEUE_SHARE * self.tuning.poll_bytes_max {
                break;
            }
            let Some(completion) = self.ring.next() else { break };
            let Some(token) = Token::unpack(completion.user_data()) else { continue };
            match token.kind {
                Kind::Receive => {
                    received += usize::try_from(completion.result()).unwrap_or_default().max(RECEIPT_BYTES);
                    self.received(token.conn, &completion, sink);
                    if slice.is_over() {
                        break;
                    }
                }
                Kind::HangUp => self.hung_up(token.conn, &completion),
                Kind::Send => self.sent(token.conn, &completion, sink),
                Kind::CancelRead | Kind::CancelSend => self.not_cancelled(token),
                Kind::Accept => {
                    let most = self.tuning.accepts_per_poll_max;
                    let errno = self.listeners.complete(token, &completion, most, &mut self.ring);
                    if let Some(errno) = errno {
                        sink(Event::AcceptPaused { errno });
                    }
                }
                Kind::Wake => {
                    self.waker.woken();
                    if !cqueue::more(completion.flags()) {
                        self.ring.watch_readable(self.waker.fd(), token);
                    }
                    sink(Event::Woken);
                }
                Kind::CancelAccept => self.listeners.not_cancelled(token, &mut self.ring),
                Kind::CancelAll => {}
            }
        }
    }

    fn received(&mut self, conn: ConnId, completion: &cqueue::Entry, sink: &mut dyn FnMut(Event<'_>)) {
        let last = !cqueue::more(completion.flags());
        if last {
            self.in_flight -= 1;
        }
        let buffer = cqueue::buffer_select(completion.flags());
        let Some(connection) = self.connections.get_mut(conn) else {
            self.give_back(buffer);
            return;
        };
        if last {
            connection.flags &= !(READS | CANCELS_READ);
        }
        let holds = self.held || connection.has(PAUSED | DETACHING) || connection.has_unread();
        let discards = connection.has(CLOSING | GONE);
        let mut much = false;
        match completion.result() {
            0 if connection.has(GONE | DETACHING) => {}
            0 if connection.has(CLOSING) => {
                connection.flags |= ENDED;
                if connection.has(SHUT) {
                    self.end(conn, CloseCause::Local);
                }
            }
            0 if holds => connection.flags |= END_HELD,
            0 => {
                connection.flags |= ENDED;
                sink(Event::Ended { conn });
            }
            count @ 1.. => {
                if let (Some(buffer), Some(buffers)) = (buffer, &self.buffers) {
                    let bytes = buffers.filled(buffer, count as usize);
                    connection.count_received(bytes.len() == buffers.bytes());
                    much = connection.sends_much();
                    if holds && !discards {
                        self.pool.held(connection).unread.extend_from_slice(bytes);
                    } else if !discards {
                        sink(Event::Received { conn, bytes });
                    }
                }
            }
            error => match -error {
                // Cancelled; out of receive buffers, which come back in this poll; or to be tried again.
                libc::ECANCELED | libc::ENOBUFS | libc::EINTR | libc::EAGAIN => {}
                errno => self.end(conn, CloseCause::of_errno(errno)),
            },
        }
        self.give_back(buffer);
        if last {
            self.settle(conn);
            self.arm_read(conn);
        } else if self.held || much {
            // A receive goes on by itself; whoever sends now, or sends much, waits in the kernel.
            self.cancel_read(conn);
        }
    }

    fn give_back(&mut self, buffer: Option<u16>) {
        if let (Some(buffer), Some(buffers)) = (buffer, &mut self.buffers) {
            buffers.give_back(buffer);
        }
    }

    /// The watch over a connection whose peer has ended.
    fn hung_up(&mut self, conn: ConnId, completion: &cqueue::Entry) {
        let last = !cqueue::more(completion.flags());
        if last {
            self.in_flight -= 1;
        }
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if last {
            connection.flags &= !(READS | CANCELS_READ);
        }
        let broken = i32::from(libc::POLLERR | libc::POLLHUP);
        if completion.result() > 0 && completion.result() & broken != 0 {
            // Without an error the connection is gone all the same: both sides are shut, and we did not do it.
            let cause = match SockRef::from(&connection.socket).take_error() {
                Ok(Some(error)) | Err(error) => CloseCause::of(&error),
                Ok(None) => CloseCause::Reset,
            };
            self.end(conn, cause);
        }
        if last {
            self.settle(conn);
            self.arm_read(conn);
        }
    }

    fn sent(&mut self, conn: ConnId, completion: &cqueue::Entry, sink: &mut dyn FnMut(Event<'_>)) {
        self.in_flight -= 1;
        let Some(connection) = self.connections.get_mut(conn) else { return };
        connection.flags &= !(SENDS | CANCELS_SEND);
        match completion.result() {
            count @ 0.. => self.pool.held(connection).unsent.advance(count as usize, &mut self.spent),
            error => match -error {
                libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                errno => self.end(conn, CloseCause::of_errno(errno)),
            },
        }
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.has(GONE | DETACHING) {
            self.settle(conn);
        } else if connection.has_unsent() {
            self.arm_send(conn);
        } else {
            self.pool.tidy(connection);
            let owes = connection.has(OWES_DRAINED);
            connection.flags &= !OWES_DRAINED;
            if connection.has(CLOSING) {
                self.shut(conn);
            } else if owes {
                sink(Event::Drained { conn });
            }
        }
    }

    /// A cancellation has failed. Mostly its target had completed just before; if it is still there, again.
    fn not_cancelled(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(token.conn) else { return };
        if token.kind == Kind::CancelSend {
            if connection.has(CANCELS_SEND) && connection.has(GONE | DETACHING) {
                connection.flags &= !CANCELS_SEND;
                self.cancel_send(token.conn);
            }
        } else if connection.has(CANCELS_READ) {
            connection.flags &= !CANCELS_READ;
            if self.held || connection.has(PAUSED | GONE | DETACHING) {
                self.cancel_read(token.conn);
            }
        }
    }

    /// A completion that nobody wants to know of any more.
    pub(super) fn discard(&mut self, completion: &cqueue::Entry) {
        let Some(token) = Token::unpack(completion.user_data()) else { return };
        match token.kind {
            Kind::Receive | Kind::HangUp | Kind::Send if !cqueue::more(completion.flags()) => {
                self.in_flight -= 1;
            }
            Kind::Accept => self.listeners.discard(token, completion),
            _ => {}
        }
    }
}
