//! The Linux driver over io_uring.
//!
//! ```text
//!   send, close, … ──▶ submission queue ──▶ kernel ──▶ completion queue ──▶ events
//!                       (one system call a poll)            │
//!                                        shared receive buffers: taken by the kernel, given back after the event
//! ```
//!
//! Every connection has one multishot receive that takes a buffer only when bytes arrive, so an idle connection is one
//! 24-byte slot here. A multishot receive takes one buffer after another as long as there are bytes, and their completions
//! lie in front of everybody else's; so a connection that fills its buffers gets a receive at a time instead, and a few such
//! connections take their turn in each poll. At most one send of each connection is under way; it owns the front of the
//! backlog until it completes. What is sent in one poll has a limit too. A connection that ends is first taken out of the kernel's hands: its socket and its index live until
//! every operation on it has completed, so no completion can meet another connection.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::accept::{Reserve, prepare_listener, reset_on_close};
use super::backlog::Spent;
use super::closing::{Closing, wait_until};
use super::slots::Slots;
use super::{
    CloseCause, CloseHow, ConnId, Detached, Driver, Event, Handle, ListenerId, RECEIPT_BYTES, SendShare,
    Slice, Tuning, Wake,
};

mod buffers;
mod complete;
mod connection;
mod listeners;
mod ring;
mod token;
mod waker;

use buffers::Buffers;
use connection::{
    CANCELS_READ, CANCELS_SEND, CLOSING, Connection, DETACHING, END_HELD, ENDED, GONE, OWES_DRAINED, PAUSED,
    Pool, QUEUED, READS, READS_LATER, SENDS, SENDS_LATER, SETTLED, SHUT,
};
use listeners::Listeners;
use ring::Ring;
use token::{Kind, Token};
use waker::UringWaker;

use socket2::SockRef;

/// How often and how long a dying driver waits for the kernel to let go of its memory.
const QUIET_TRIES: usize = 200;
const QUIET_WAIT: Duration = Duration::from_millis(5);

/// Connections that send much and get a receive in one poll: with the default buffers, half of what is received in one.
const MUCH_READS: usize = 16;

/// The driver over io_uring.
pub struct Uring {
    /// Before what its operations point to: closed first.
    ring: Ring,
    /// `None` only when the kernel did not let go of them before the end.
    buffers: Option<Buffers>,
    waker: Arc<UringWaker>,
    connections: Slots<Connection>,
    listeners: Listeners,
    /// Connections that have something held to report, or are to be read again.
    turns: VecDeque<ConnId>,
    /// Connections that send much, and have no receive.
    reads: VecDeque<ConnId>,
    /// Connections that have much to send, and nothing of it under way.
    sends: VecDeque<ConnId>,
    /// What may still be sent before the next poll.
    share: SendShare,
    /// Connections that the kernel has let go of.
    last_words: VecDeque<ConnId>,
    closing: Closing,
    spent: Spent,
    pool: Pool,
    /// Nothing is read or accepted.
    held: bool,
    /// Receives, watches and sends that the kernel has.
    in_flight: usize,
    tuning: Tuning,
    /// The ring takes calls from the thread that made it only.
    not_send: PhantomData<*const ()>,
}

impl Uring {
    /// A driver without connections, for the calling thread.
    ///
    /// # Errors
    /// `Unsupported` when the kernel lacks what the driver needs (Linux 6.0); otherwise what the kernel says: io_uring
    /// may be switched off (`kernel.io_uring_disabled`), or descriptors or memory are short.
    pub fn new(tuning: Tuning) -> io::Result<Uring> {
        Uring::over(Ring::new(tuning.ring_entries)?, tuning)
    }

    /// A driver as on a kernel that cannot defer completions.
    #[cfg(test)]
    pub(super) fn undeferred(tuning: Tuning) -> io::Result<Uring> {
        Uring::over(Ring::undeferred(tuning.ring_entries)?, tuning)
    }

    fn over(mut ring: Ring, tuning: Tuning) -> io::Result<Uring> {
        let mut buffers = ring.buffers(tuning.ring_buffers, tuning.ring_buffer_bytes)?;
        ring.probe(&mut buffers)?;
        let waker = Arc::new(UringWaker::new()?);
        ring.watch_readable(waker.fd(), Token::numbered(Kind::Wake, 0));
        Ok(Uring {
            ring,
            buffers: Some(buffers),
            waker,
            connections: Slots::new(),
            listeners: Listeners::new(Reserve::new(tuning.accept_backoff)?),
            turns: VecDeque::new(),
            reads: VecDeque::new(),
            sends: VecDeque::new(),
            share: SendShare::of(&tuning),
            last_words: VecDeque::new(),
            closing: Closing::new(tuning.flush_deadline),
            spent: Spent::default(),
            pool: Pool::default(),
            held: false,
            in_flight: 0,
            tuning,
            not_send: PhantomData,
        })
    }

    /// Has the kernel read, now or in its turn, if the connection is to be read and has no such operation.
    fn arm_read(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if !connection.sends_much() {
            self.give_read(conn);
        } else if !connection.has(READS | READS_LATER) {
            connection.flags |= READS_LATER;
            self.reads.push_back(conn);
        }
    }

    /// Gives the kernel the operation that reads.
    fn give_read(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if self.held || connection.has(READS | PAUSED | END_HELD | DETACHING | GONE) {
            return;
        }
        connection.flags |= READS;
        self.in_flight += 1;
        let token = connection.read_token(conn);
        match token.kind {
            Kind::HangUp => self.ring.watch_errors(connection.fd(), token),
            _ if connection.sends_much() => self.ring.receive_once(connection.fd(), token),
            _ => self.ring.receive(connection.fd(), token),
        }
    }

    /// Gives some of those who send much their receive.
    fn run_reads(&mut self) {
        if self.held {
            return;
        }
        for _ in 0..MUCH_READS {
            let Some(conn) = self.reads.pop_front() else { return };
            if let Some(connection) = self.connections.get_mut(conn) {
                connection.flags &= !READS_LATER;
                self.give_read(conn);
            }
        }
    }

    fn cancel_read(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.has(READS) && !connection.has(CANCELS_READ) {
            connection.flags |= CANCELS_READ;
            self.ring.cancel(connection.read_token(conn), Token::new(Kind::CancelRead, conn));
        }
    }

    fn cancel_send(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.has(SENDS) && !connection.has(CANCELS_SEND) {
            connection.flags |= CANCELS_SEND;
            self.ring.cancel(Token::new(Kind::Send, conn), Token::new(Kind::CancelSend, conn));
        }
    }

    /// Gives the kernel the front of the backlog, now or in its turn, if it has nothing of it.
    fn arm_send(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.has(SENDS | SENDS_LATER | DETACHING | GONE) {
            return;
        }
        let bytes = connection.next_send();
        if self.share.has_room(bytes) {
            self.give_send(conn);
        } else {
            connection.flags |= SENDS_LATER;
            self.sends.push_back(conn);
        }
    }

    fn give_send(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.has(SENDS | DETACHING | GONE) {
            return;
        }
        self.share.take(connection.next_send());
        let fd = connection.fd();
        let Some(held) = connection.held.as_ref().filter(|held| !held.unsent.is_empty()) else { return };
        // SAFETY: the front buffer is neither moved, changed nor freed while SENDS is set: `Backlog::push` leaves it
        // alone, `Backlog::advance` is called only at the completion, and the connection stays in its slot until
        // nothing is in flight. If the driver ends earlier, its `Drop` waits, or else forgets the memory.
        unsafe { self.ring.send(fd, held.unsent.front(), Token::new(Kind::Send, conn)) };
        connection.flags |= SENDS;
        self.in_flight += 1;
    }

    /// Begins a new share, of which those who had to wait get theirs first.
    fn run_sends(&mut self) {
        self.share = SendShare::of(&self.tuning);
        while self.share.has_room(usize::MAX)
            && let Some(conn) = self.sends.pop_front()
        {
            if let Some(connection) = self.connections.get_mut(conn) {
                connection.flags &= !SENDS_LATER;
                self.give_send(conn);
            }
        }
    }

    /// Queues the connection for the next poll.
    fn take_turn(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if !connection.has(QUEUED | PAUSED | DETACHING | GONE) {
            connection.flags |= QUEUED;
            self.turns.push_back(conn);
        }
    }

    /// Reports what was held back and reads on.
    fn run_turns(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if self.held {
            return;
        }
        let (mut received, mut slice) = (0, Slice::of(&self.tuning));
        for _ in 0..self.turns.len().min(self.tuning.reads_per_poll_max.max(1)) {
            if received >= self.tuning.poll_bytes_max {
                break;
            }
            let Some(conn) = self.turns.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(conn) else { continue };
            connection.flags &= !QUEUED;
            if connection.has(PAUSED | DETACHING | GONE) {
                continue;
            }
            if let Some(held) = &mut connection.held
                && !held.unread.is_empty()
            {
                let unread = std::mem::take(&mut held.unread);
                self.pool.tidy(connection);
                received += unread.len().max(RECEIPT_BYTES);
                sink(Event::Received { conn, bytes: &unread });
                self.spent.put(unread);
            }
            if connection.has(END_HELD) {
                connection.flags = (connection.flags & !END_HELD) | ENDED;
                sink(Event::Ended { conn });
            }
            self.arm_read(conn);
            if slice.is_over() {
                break;
            }
        }
    }

    /// Ends the connection: `Closed` follows when the kernel has let go of it.
    fn end(&mut self, conn: ConnId, cause: CloseCause) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.has(GONE) {
            return;
        }
        connection.flags |= GONE;
        self.pool.held(connection).cause = Some(cause);
        self.release(conn);
    }

    /// Takes the connection out of the kernel's hands.
    fn release(&mut self, conn: ConnId) {
        self.cancel_read(conn);
        self.cancel_send(conn);
        self.settle(conn);
    }

    fn settle(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.has(GONE | DETACHING) && !connection.has(READS | SENDS | SETTLED) {
            connection.flags |= SETTLED;
            self.last_words.push_back(conn);
        }
    }

    fn say_last_words(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        while let Some(conn) = self.last_words.pop_front() {
            let Some(connection) = self.connections.remove(conn) else { continue };
            let ended = connection.has(ENDED);
            let held = connection.held.map(|held| *held).unwrap_or_default();
            if let Some(cause) = held.cause {
                drop(connection.socket);
                sink(Event::Closed { conn, cause });
            } else {
                let handle = Handle::Socket(connection.socket);
                let socket = Detached { handle, unread: held.unread, unsent: held.unsent, ended };
                sink(Event::Detached { conn, socket });
            }
        }
    }

    /// Everything is sent: ends our side and waits for the peer's end.
    fn shut(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        connection.flags |= SHUT;
        let shut = SockRef::from(&connection.socket).shutdown(std::net::Shutdown::Write);
        if shut.is_err() || connection.has(ENDED) {
            self.end(conn, CloseCause::Local);
        }
    }

    fn expire_closing(&mut self) {
        if self.closing.next().is_none() {
            return;
        }
        let now = Instant::now();
        while let Some(conn) = self.closing.expired(now) {
            let Some(connection) = self.connections.get_mut(conn) else { continue };
            // Once everything was handed over and acknowledged by a shutdown, a missing end of the peer is no loss.
            let cause = if connection.has(SHUT) { CloseCause::Local } else { CloseCause::FlushTimedOut };
            reset_on_close(&connection.socket);
            self.end(conn, cause);
        }
    }
}

impl Driver for Uring {
    fn poll(&mut self, timeout: Option<Duration>, sink: &mut dyn FnMut(Event<'_>)) -> io::Result<()> {
        let mut reported = false;
        self.expire_closing();
        let early = &mut |event: Event<'_>| {
            reported = true;
            sink(event);
        };
        self.say_last_words(early);
        self.run_sends();
        self.run_turns(early);
        self.run_reads();
        self.listeners.arm(&mut self.ring);
        let waiting = self.turns.len() + self.reads.len();
        let more = waiting > 0 && !self.held || !self.sends.is_empty() || self.listeners.have_waiting();
        let timeout = if reported || more || !self.last_words.is_empty() {
            Some(Duration::ZERO)
        } else {
            wait_until(timeout, [self.closing.next(), self.listeners.reserve.resume_at()])
        };
        self.ring.enter(timeout)?;
        self.complete(sink);
        self.report_accepted(sink);
        self.say_last_words(sink);
        Ok(())
    }

    fn send(&mut self, conn: ConnId, data: Vec<u8>) -> usize {
        let Some(connection) = self.connections.get_mut(conn) else { return 0 };
        if connection.has(CLOSING | DETACHING | GONE) || data.is_empty() {
            return connection.waiting();
        }
        self.pool.held(connection).unsent.push(data, &mut self.spent);
        let waiting = connection.waiting();
        if waiting > 0 {
            connection.flags |= OWES_DRAINED;
        }
        self.arm_send(conn);
        waiting
    }

    fn submit(&mut self) {
        self.ring.submit();
    }

    fn close(&mut self, conn: ConnId, how: CloseHow) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.has(DETACHING | GONE) {
            return;
        }
        match how {
            CloseHow::Reset => {
                reset_on_close(&connection.socket);
                self.end(conn, CloseCause::Local);
            }
            CloseHow::Flush if connection.has(CLOSING) => {}
            CloseHow::Flush => {
                if connection.has(END_HELD) {
                    connection.flags |= ENDED;
                }
                connection.flags = (connection.flags | CLOSING) & !(PAUSED | END_HELD);
                if let Some(held) = &mut connection.held {
                    self.spent.put(std::mem::take(&mut held.unread));
                }
                self.pool.tidy(connection);
                let flushed = !connection.has_unsent();
                self.closing.push(conn);
                self.arm_read(conn);
                if flushed {
                    self.shut(conn);
                }
            }
        }
    }

    fn pause_reading(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn)
            && !connection.has(CLOSING | DETACHING | GONE)
        {
            connection.flags |= PAUSED;
            self.cancel_read(conn);
        }
    }

    fn resume_reading(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.flags &= !PAUSED;
            self.take_turn(conn);
        }
    }

    fn detach(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if !connection.has(CLOSING | DETACHING | GONE) {
            connection.flags |= DETACHING;
            self.release(conn);
        }
    }

    fn hold(&mut self, hold: bool) {
        self.held = hold;
        self.listeners.hold(hold, &mut self.ring);
        if !hold {
            for conn in self.connections.ids() {
                self.take_turn(conn);
            }
        }
    }

    fn is_held(&self) -> bool {
        self.held && self.listeners.are_quiet()
    }

    fn attach(&mut self, socket: Detached) -> ConnId {
        let Detached { handle, unread, unsent, ended } = socket;
        let Handle::Socket(socket) = handle else {
            panic!("a simulated connection belongs to simulated drivers");
        };
        // An operation that meets O_NONBLOCK completes at once instead of waiting.
        let prepared = SockRef::from(&socket).set_nonblocking(false);
        let mut connection = Connection::new(socket, if ended { ENDED } else { 0 });
        if !unsent.is_empty() {
            connection.flags |= OWES_DRAINED;
        }
        if !unsent.is_empty() || !unread.is_empty() {
            let held = self.pool.held(&mut connection);
            held.unsent = unsent;
            held.unread = unread;
        }
        let Ok(conn) = self.connections.insert(connection) else {
            panic!("the table has room for more connections than there can be descriptors");
        };
        match prepared {
            Ok(()) => {
                self.arm_send(conn);
                self.take_turn(conn);
            }
            Err(error) => self.end(conn, CloseCause::of(&error)),
        }
        conn
    }

    fn listen(&mut self, listener: TcpListener) -> io::Result<ListenerId> {
        // Blocking: an accept that meets O_NONBLOCK completes at once instead of waiting.
        prepare_listener(&listener, false)?;
        let id = u16::try_from(self.listeners.count()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.listeners.add(listener);
        Ok(ListenerId(id))
    }

    fn pause_accepting(&mut self) {
        self.listeners.pause(&mut self.ring);
    }

    fn resume_accepting(&mut self) {
        self.listeners.resume();
    }

    fn stop_accepting(&mut self) {
        self.listeners.stop(&mut self.ring);
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.waker.clone()
    }

    fn spent(&mut self) -> &mut Vec<Vec<u8>> {
        self.spent.buffers()
    }

    fn connections(&self) -> usize {
        self.connections.len()
    }

    fn name(&self) -> &'static str {
        "uring"
    }
}

impl Drop for Uring {
    /// Waits until the kernel has no address of ours any more, and no listener: the ring's end does not wait for its
    /// operations, and an accept that outlives us would take connections for nobody. Should the kernel not let go, the
    /// memory is leaked.
    fn drop(&mut self) {
        self.listeners.stop(&mut self.ring);
        for _ in 0..QUIET_TRIES {
            if self.in_flight == 0 && self.listeners.are_gone() {
                return;
            }
            self.ring.cancel_all();
            if self.ring.enter(Some(QUIET_WAIT)).is_err() {
                break;
            }
            while let Some(completion) = self.ring.next() {
                self.discard(&completion);
            }
        }
        if self.in_flight > 0 {
            std::mem::forget(std::mem::replace(&mut self.connections, Slots::new()));
            std::mem::forget(self.buffers.take());
        }
    }
}
