//! The simulated driver: the contract of [`Driver`] over an in-process network with virtual time and seeded faults.
//!
//! No thread, no clock, no descriptor: what happens follows from the seed of the [`Network`] and from the order in
//! which its drivers are polled. Within the contract it behaves as badly as it can: it reads and writes in pieces
//! of any size, finds nothing although there is something, serves connections in any order, and takes what has
//! arrived along when a connection moves.

mod link;
mod network;
mod random;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use network::{LinkId, Network, Read, Weather};
pub use random::Random;

pub(super) use network::Socket;

use super::backlog::{Backlog, Spent};
use super::slots::Slots;
use super::{CloseCause, CloseHow, ConnId, Detached, Driver, Event, Handle, ListenerId, Tuning, Wake};
use crate::timer::Millis;

/// `AcceptPaused` is reported at most once in this time, in milliseconds.
const REPORT_INTERVAL_MS: u64 = 1000;

#[derive(Debug)]
struct Connection {
    link: LinkId,
    unread: Vec<u8>,
    unsent: Backlog,
    paused: bool,
    /// The peer's end was reported.
    ended: bool,
    /// A flushing close is under way.
    closing: bool,
    /// Our side is ended; only the peer's end is missing.
    shut: bool,
    /// The last event waits; nothing else happens any more.
    gone: bool,
}

enum LastWord {
    Closed(CloseCause),
    Detached,
}

#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The driver of one simulated worker.
pub struct Sim {
    network: Network,
    worker: usize,
    tuning: Tuning,
    connections: Slots<Connection>,
    last_words: VecDeque<(ConnId, LastWord)>,
    /// Flushing closes in order of their deadlines; may name connections that are gone.
    closing: VecDeque<(Millis, ConnId)>,
    bell: Arc<Bell>,
    accepting: bool,
    /// Nothing is read or accepted.
    held: bool,
    stopped: bool,
    accept_rests_until: Option<Millis>,
    accept_reported: Option<Millis>,
    spent: Spent,
}

impl Sim {
    /// The driver of a worker, listening on its share of the network as listener 0.
    #[must_use]
    pub fn new(network: &Network, worker: usize, tuning: Tuning) -> Sim {
        network.0.borrow_mut().listen(worker, true);
        Sim {
            network: network.clone(),
            worker,
            tuning,
            connections: Slots::new(),
            last_words: VecDeque::new(),
            closing: VecDeque::new(),
            bell: Arc::default(),
            accepting: true,
            held: false,
            stopped: false,
            accept_rests_until: None,
            accept_reported: None,
            spent: Spent::default(),
        }
    }

    /// When something becomes due that nobody else causes: a flush deadline, the end of a rest from accepting.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        let closing = self.closing.front().map(|(at, _)| *at);
        [closing, self.accept_rests_until].into_iter().flatten().min()
    }

    /// Whether a poll would find something now.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let state = self.network.0.borrow();
        let accepts = self.accepting && self.accept_rests_until.is_none() && state.waiting(self.worker) > 0;
        let due = self.next_deadline().is_some_and(|at| at <= state.now);
        accepts
            || due
            || state.has_ready(self.worker)
            || !self.last_words.is_empty()
            || self.bell.0.load(Ordering::Relaxed)
    }

    /// The most bytes that wait for one connection.
    #[must_use]
    pub fn backlog_longest(&self) -> usize {
        self.connections.iter().map(|connection| connection.unsent.len()).max().unwrap_or(0)
    }

    /// The links whose connections have bytes to send for which there is no room yet.
    pub fn behind(&self) -> impl Iterator<Item = LinkId> + '_ {
        let behind = self.connections.iter().filter(|connection| !connection.unsent.is_empty());
        behind.map(|connection| connection.link)
    }

    /// Whether a connection has been told to close and waits for its client to do so, too: what it had to send has been sent
    /// then, and its worker is told of its end alone.
    #[must_use]
    pub fn has_closing(&self) -> bool {
        self.connections.iter().any(|connection| connection.closing && !connection.gone)
    }

    /// Whether a link belongs to a connection of this driver that is not being closed.
    #[must_use]
    pub fn serves(&self, link: LinkId) -> bool {
        let is_open = |connection: &Connection| !connection.closing && !connection.gone;
        self.connections.iter().any(|connection| connection.link == link && is_open(connection))
    }

    fn now(&self) -> Millis {
        self.network.now()
    }

    fn end(&mut self, conn: ConnId, word: LastWord) {
        if let Some(connection) = self.connections.get_mut(conn)
            && !connection.gone
        {
            connection.gone = true;
            self.last_words.push_back((conn, word));
        }
    }

    fn say_last_words(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        while let Some((conn, word)) = self.last_words.pop_front() {
            let Some(connection) = self.connections.remove(conn) else { continue };
            match word {
                LastWord::Closed(cause) => {
                    self.network.0.borrow_mut().server_close(connection.link);
                    sink(Event::Closed { conn, cause });
                }
                LastWord::Detached => {
                    let Connection { link, mut unread, unsent, ended, .. } = connection;
                    let handle = {
                        let mut state = self.network.0.borrow_mut();
                        if state.random.permille(500) {
                            let some = state.readable(link);
                            let some = state.random.below(some + 1);
                            unread.extend(state.server_read(link, some));
                        }
                        Handle::Simulated(state.let_go(link))
                    };
                    sink(Event::Detached { conn, socket: Detached { handle, unread, unsent, ended } });
                }
            }
        }
    }

    fn expire_closing(&mut self) {
        let now = self.now();
        while self.closing.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, conn)) = self.closing.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(conn) else { continue };
            let cause = if connection.shut { CloseCause::Local } else { CloseCause::FlushTimedOut };
            let link = connection.link;
            if !connection.gone {
                self.network.0.borrow_mut().server_reset(link);
                self.end(conn, LastWord::Closed(cause));
            }
        }
    }

    fn accept(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let now = self.now();
        if self.accept_rests_until.is_some_and(|until| until > now) {
            return;
        }
        self.accept_rests_until = None;
        if !self.accepting || self.stopped || self.held {
            return;
        }
        let most = self.tuning.accepts_per_poll_max;
        let count = self.network.0.borrow_mut().random.between(1, most.max(1));
        for _ in 0..count {
            let Some(accepted) = self.network.0.borrow_mut().accept(self.worker) else { return };
            match accepted {
                Ok((link, peer, listener)) => {
                    let conn = self.insert(link, Vec::new(), Backlog::default(), false);
                    sink(Event::Accepted { conn, listener, peer });
                }
                Err(link) => {
                    self.network.0.borrow_mut().turn_away(link);
                    let backoff = self.tuning.accept_backoff.as_millis() as u64;
                    self.accept_rests_until = Some(now.after(backoff));
                    let report = self.accept_reported.is_none_or(|at| now.since(at) >= REPORT_INTERVAL_MS);
                    if report {
                        self.accept_reported = Some(now);
                        sink(Event::AcceptPaused { errno: libc::EMFILE });
                    }
                    return;
                }
            }
        }
    }

    fn insert(&mut self, link: LinkId, unread: Vec<u8>, unsent: Backlog, ended: bool) -> ConnId {
        let connection = Connection {
            link,
            unread,
            unsent,
            paused: false,
            ended,
            closing: false,
            shut: false,
            gone: false,
        };
        let Ok(conn) = self.connections.insert(connection) else {
            panic!("a simulation has fewer connections than the table has room for");
        };
        self.network.0.borrow_mut().hold(link, self.worker, conn);
        conn
    }

    /// Gives each connection on which something may be possible a turn, in any order, some of them only.
    fn take_turns(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let mut ready = self.network.0.borrow_mut().take_ready(self.worker);
        {
            let mut state = self.network.0.borrow_mut();
            state.random.shuffle(&mut ready);
            let most = ready.len().min(self.tuning.reads_per_poll_max);
            let served = if state.random.permille(300) { state.random.below(most + 1) } else { most };
            for (link, _) in ready.drain(served..) {
                state.stir(link);
            }
        }
        for (link, conn) in ready {
            self.write(conn, sink);
            self.read(conn, sink);
            if self.has_turn(conn) {
                self.network.0.borrow_mut().stir(link);
            }
        }
    }

    /// Whether something could be done with the connection at once.
    fn has_turn(&mut self, conn: ConnId) -> bool {
        let Some(connection) = self.connections.get_mut(conn) else { return false };
        if connection.gone {
            return false;
        }
        let mut state = self.network.0.borrow_mut();
        let link = connection.link;
        let writes = !connection.unsent.is_empty() && (state.writable(link) > 0 || state.is_reset(link));
        let end_unseen = state.is_ended(link) && !connection.ended;
        let reads =
            !connection.unread.is_empty() || state.readable(link) > 0 || end_unseen || state.is_reset(link);
        writes || reads && !connection.paused && !self.held
    }

    fn write(&mut self, conn: ConnId, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.gone || connection.unsent.is_empty() {
            return;
        }
        let link = connection.link;
        let mut state = self.network.0.borrow_mut();
        if state.is_reset(link) {
            drop(state);
            return self.end(conn, LastWord::Closed(CloseCause::Reset));
        }
        let count = state.server_write(link, connection.unsent.front());
        drop(state);
        connection.unsent.advance(count, &mut self.spent);
        if !connection.unsent.is_empty() {
            return;
        }
        if connection.closing {
            self.shut(conn);
        } else {
            sink(Event::Drained { conn });
        }
    }

    fn read(&mut self, conn: ConnId, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.gone || connection.paused || self.held {
            return;
        }
        let discard = connection.closing;
        if !connection.unread.is_empty() {
            let unread = std::mem::take(&mut connection.unread);
            if !discard {
                sink(Event::Received { conn, bytes: &unread });
            }
            return;
        }
        let link = connection.link;
        let mut state = self.network.0.borrow_mut();
        if state.is_reset(link) {
            drop(state);
            return self.end(conn, LastWord::Closed(CloseCause::Reset));
        }
        let most = state.readable(link).min(self.tuning.receive_bytes);
        let short = state.weather.short_permille;
        let max = if state.random.permille(short) { state.random.between(1, 20) } else { most };
        let bytes = state.server_read(link, max);
        if !bytes.is_empty() {
            drop(state);
            if !discard {
                sink(Event::Received { conn, bytes: &bytes });
            }
            return;
        }
        let ended = state.is_ended(link);
        drop(state);
        if !ended {
            return;
        }
        let reported = std::mem::replace(&mut connection.ended, true);
        if discard {
            if connection.shut {
                self.end(conn, LastWord::Closed(CloseCause::Local));
            }
        } else if !reported {
            sink(Event::Ended { conn });
        }
    }

    /// Everything is sent: ends our side and waits for the peer's end.
    fn shut(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        connection.shut = true;
        let (link, ended) = (connection.link, connection.ended);
        self.network.0.borrow_mut().server_end(link);
        if ended {
            self.end(conn, LastWord::Closed(CloseCause::Local));
        }
    }
}

impl Driver for Sim {
    /// Never waits: virtual time is moved by whoever runs the simulation.
    fn poll(&mut self, _: Option<Duration>, sink: &mut dyn FnMut(Event<'_>)) -> io::Result<()> {
        if self.bell.0.swap(false, Ordering::Relaxed) {
            sink(Event::Woken);
        }
        let idle = {
            let mut state = self.network.0.borrow_mut();
            let chance = state.weather.idle_polls_permille;
            state.random.permille(chance)
        };
        if idle {
            return Ok(());
        }
        self.expire_closing();
        self.say_last_words(sink);
        self.accept(sink);
        self.take_turns(sink);
        Ok(())
    }

    fn rest(&mut self, _: Duration) {}

    fn send(&mut self, conn: ConnId, data: Vec<u8>) -> usize {
        let Some(connection) = self.connections.get_mut(conn) else { return 0 };
        if connection.closing || connection.gone || data.is_empty() {
            return connection.unsent.len();
        }
        let mut sent = 0;
        let link = connection.link;
        if connection.unsent.is_empty() {
            let mut state = self.network.0.borrow_mut();
            if state.is_reset(link) {
                drop(state);
                self.end(conn, LastWord::Closed(CloseCause::Reset));
                return 0;
            }
            sent = state.server_write(link, &data);
        }
        if sent == data.len() {
            self.spent.put(data);
            return 0;
        }
        connection.unsent.push(data, &mut self.spent);
        connection.unsent.advance(sent, &mut self.spent);
        self.network.0.borrow_mut().stir(link);
        connection.unsent.len()
    }

    fn close(&mut self, conn: ConnId, how: CloseHow) {
        let now = self.now();
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.gone {
            return;
        }
        let link = connection.link;
        match how {
            CloseHow::Reset => {
                self.network.0.borrow_mut().server_reset(link);
                self.end(conn, LastWord::Closed(CloseCause::Local));
            }
            CloseHow::Flush if connection.closing => {}
            CloseHow::Flush => {
                connection.closing = true;
                connection.paused = false;
                let flushed = connection.unsent.is_empty();
                let deadline = now.after(self.tuning.flush_deadline.as_millis() as u64);
                self.closing.push_back((deadline, conn));
                self.network.0.borrow_mut().stir(link);
                if flushed {
                    self.shut(conn);
                }
            }
        }
    }

    fn pause_reading(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn)
            && !connection.closing
        {
            connection.paused = true;
        }
    }

    fn resume_reading(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.paused = false;
            self.network.0.borrow_mut().stir(connection.link);
        }
    }

    fn detach(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.closing || connection.gone {
            return;
        }
        self.end(conn, LastWord::Detached);
    }

    fn hold(&mut self, hold: bool) {
        self.held = hold;
        for connection in self.connections.iter() {
            self.network.0.borrow_mut().stir(connection.link);
        }
    }

    fn is_held(&self) -> bool {
        self.held
    }

    fn attach(&mut self, socket: Detached) -> ConnId {
        let Detached { handle, unread, unsent, ended } = socket;
        let Handle::Simulated(socket) = handle else {
            panic!("a socket of the system belongs to other drivers");
        };
        self.insert(socket.take(), unread, unsent, ended)
    }

    /// # Errors
    /// Always: this driver listens on the simulated network only.
    fn listen(&mut self, _: TcpListener) -> io::Result<ListenerId> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn pause_accepting(&mut self) {
        self.accepting = false;
    }

    fn resume_accepting(&mut self) {
        self.accepting = true;
    }

    fn stop_accepting(&mut self) {
        self.stopped = true;
        self.network.0.borrow_mut().listen(self.worker, false);
    }

    fn waker(&self) -> Arc<dyn Wake> {
        self.bell.clone()
    }

    fn spent(&mut self) -> &mut Vec<Vec<u8>> {
        self.spent.buffers()
    }

    fn connections(&self) -> usize {
        self.connections.len()
    }

    fn name(&self) -> &'static str {
        "sim"
    }
}
