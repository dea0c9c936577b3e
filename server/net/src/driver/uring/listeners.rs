//! Accepting: one multishot accept for each listener.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Instant;

use io_uring::cqueue;
use socket2::SockRef;

use super::super::accept::{AcceptTrouble, Reserve, canonical};
use super::super::{ConnId, Event, ListenerId};
use super::Uring;
use super::connection::Connection;
use super::ring::Ring;
use super::token::{Kind, Token};

pub(super) struct Listener {
    socket: TcpListener,
    /// The kernel has an accept.
    armed: bool,
    /// It is being cancelled.
    cancelled: bool,
    /// Accepted by the kernel and not yet reported. Bounded by the listener's backlog and the completion queue: the
    /// accept is cancelled as soon as more wait than one poll reports.
    waiting: VecDeque<OwnedFd>,
}

pub(super) struct Listeners {
    list: Vec<Listener>,
    accepting: bool,
    /// The kernel is to accept none; what it has accepted is reported.
    held: bool,
    /// Counts calls of `stop`: what the kernel accepted for the listeners of an earlier epoch is closed and forgotten.
    epoch: u32,
    /// Accepts of earlier epochs that the kernel still has. As long as it has one, the port is open.
    leaving: usize,
    pub(super) reserve: Reserve,
}

impl Listeners {
    pub(super) fn new(reserve: Reserve) -> Listeners {
        Listeners { list: Vec::new(), accepting: true, held: false, epoch: 0, leaving: 0, reserve }
    }

    pub(super) fn count(&self) -> usize {
        self.list.len()
    }

    pub(super) fn add(&mut self, socket: TcpListener) {
        self.list.push(Listener { socket, armed: false, cancelled: false, waiting: VecDeque::new() });
    }

    pub(super) fn pause(&mut self, ring: &mut Ring) {
        self.accepting = false;
        self.cancel_all(ring);
    }

    /// Accepts none from the kernel for now.
    pub(super) fn hold(&mut self, hold: bool, ring: &mut Ring) {
        self.held = hold;
        if hold {
            self.cancel_all(ring);
        }
    }

    /// Whether the kernel accepts none and everything that it has accepted was reported.
    pub(super) fn are_quiet(&self) -> bool {
        self.list.iter().all(|listener| !listener.armed && listener.waiting.is_empty())
    }

    fn reports(&self) -> bool {
        self.accepting || self.held
    }

    fn cancel_all(&mut self, ring: &mut Ring) {
        for (number, listener) in self.list.iter_mut().enumerate() {
            listener.cancel(accept_token(number, self.epoch), ring);
        }
    }

    pub(super) fn resume(&mut self) {
        self.accepting = true;
    }

    pub(super) fn stop(&mut self, ring: &mut Ring) {
        let accepting = self.accepting;
        self.pause(ring);
        self.accepting = accepting;
        self.leaving += self.list.iter().filter(|listener| listener.armed).count();
        self.list.clear();
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Whether the kernel has let go of every listener that was stopped, so that their ports are closed.
    pub(super) fn are_gone(&self) -> bool {
        self.leaving == 0
    }

    /// Takes note of a completion that nobody wants to know of any more. Anything accepted is closed.
    pub(super) fn discard(&mut self, token: Token, completion: &cqueue::Entry) {
        if completion.result() >= 0 {
            // SAFETY: a successful accept gives a new descriptor that nobody else owns.
            drop(unsafe { OwnedFd::from_raw_fd(completion.result()) });
        }
        if token.conn.generation != self.epoch && !cqueue::more(completion.flags()) {
            self.leaving = self.leaving.saturating_sub(1);
        }
    }

    /// Whether connections can be reported without waiting.
    pub(super) fn have_waiting(&self) -> bool {
        self.reports() && self.list.iter().any(|listener| !listener.waiting.is_empty())
    }

    /// Accepts where nothing stands against it. (The kernel holds an accept to the limit of descriptors that was in
    /// force when it was made.)
    pub(super) fn arm(&mut self, ring: &mut Ring) {
        if self.reserve.resume_at().is_some() && !self.reserve.resume(Instant::now()) {
            return;
        }
        if !self.accepting || self.held {
            return;
        }
        for (number, listener) in self.list.iter_mut().enumerate() {
            if !listener.armed && listener.waiting.is_empty() {
                listener.armed = true;
                listener.cancelled = false;
                ring.accept(listener.socket.as_raw_fd(), accept_token(number, self.epoch));
            }
        }
    }

    /// Takes note of an accept's completion. Returns the error number to report, if there is one.
    pub(super) fn complete(
        &mut self,
        token: Token,
        completion: &cqueue::Entry,
        most: usize,
        ring: &mut Ring,
    ) -> Option<i32> {
        if token.conn.generation != self.epoch {
            self.discard(token, completion);
            return None;
        }
        let result = completion.result();
        // SAFETY: a successful accept gives a new descriptor that nobody else owns.
        let socket = (result >= 0).then(|| unsafe { OwnedFd::from_raw_fd(result) });
        let listener = self.list.get_mut(token.conn.index as usize)?;
        if !cqueue::more(completion.flags()) {
            listener.armed = false;
        }
        if let Some(socket) = socket {
            listener.waiting.push_back(socket);
            if listener.waiting.len() > most {
                listener.cancel(token, ring);
            }
            return None;
        }
        match -result {
            libc::ECANCELED | libc::EAGAIN => None,
            errno if AcceptTrouble::of(errno) == AcceptTrouble::Connection => None,
            errno => {
                // The kernel says EMFILE even when nobody waits.
                let turned_away =
                    listener.socket.set_nonblocking(true).is_ok() && self.reserve.turn_away(&listener.socket);
                // An io_uring accept that meets O_NONBLOCK completes at once instead of waiting.
                let _ = listener.socket.set_nonblocking(false);
                self.reserve.rest(Instant::now(), turned_away).then_some(errno)
            }
        }
    }

    /// A cancellation has failed. Mostly its accept had completed just before; if it is still there and must not be,
    /// again.
    pub(super) fn not_cancelled(&mut self, token: Token, ring: &mut Ring) {
        if token.conn.generation != self.epoch {
            return;
        }
        let Some(listener) = self.list.get_mut(token.conn.index as usize) else { return };
        if listener.armed && self.held {
            listener.cancelled = false;
            listener.cancel(Token::new(Kind::Accept, token.conn), ring);
        }
    }

    fn next(&mut self, number: usize) -> Option<OwnedFd> {
        self.list.get_mut(number)?.waiting.pop_front()
    }
}

impl Listener {
    fn cancel(&mut self, accept: Token, ring: &mut Ring) {
        if self.armed && !self.cancelled {
            self.cancelled = true;
            ring.cancel(accept, Token::new(Kind::CancelAccept, accept.conn));
        }
    }
}

fn accept_token(number: usize, epoch: u32) -> Token {
    Token::new(Kind::Accept, ConnId { index: number as u32, generation: epoch })
}

impl Uring {
    /// Reports the connections that the kernel has accepted.
    pub(super) fn report_accepted(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if !self.listeners.reports() {
            return;
        }
        for number in 0..self.listeners.count() {
            for _ in 0..self.tuning.accepts_per_poll_max.max(1) {
                let Some(socket) = self.listeners.next(number) else { break };
                // A connection that was reset meanwhile has no peer any more; nobody learns of it.
                let peer = SockRef::from(&socket).peer_addr().ok().and_then(|peer| peer.as_socket());
                let Some(peer) = peer else { continue };
                let Ok(conn) = self.connections.insert(Connection::new(socket, 0)) else {
                    // The table is full: the client sees the connection close.
                    if self.listeners.reserve.rest(Instant::now(), true) {
                        sink(Event::AcceptPaused { errno: libc::ENOMEM });
                    }
                    return;
                };
                self.arm_read(conn);
                let listener = ListenerId(number as u16);
                sink(Event::Accepted { conn, listener, peer: canonical(peer.ip()) });
            }
        }
    }
}
