//! The portable driver: epoll on Linux, kqueue on FreeBSD, through mio.
//!
//! Readiness is edge-triggered. A connection that may still have bytes waits in the `turns` queue and is read once a
//! poll, so that a firehose cannot starve the others; an idle connection is one 24-byte slot.

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::SockRef;

use super::accept::{Reserve, prepare_listener, reset_on_close};
use super::backlog::{Backlog, Spent};
use super::closing::{Closing, wait_until};
use super::slots::{INDEX_LIMIT, Slots, slot_bytes};
use super::{
    CloseCause, CloseHow, ConnId, Detached, Driver, Event, Handle, ListenerId, SEND_BYTES_MAX, SendShare,
    Tuning, Wake,
};

mod accepting;
mod transfer;

use transfer::write_once;

const WAKER: Token = Token(usize::MAX);
/// Tokens of listeners: an index no connection can have.
const LISTENERS: usize = INDEX_LIMIT as usize;
const EVENTS_PER_POLL: usize = 1024;

const _: () = assert!(usize::BITS == 64, "a token holds an index and a generation");
const _: () = assert!(slot_bytes::<Connection>() <= 24);

/// The kernel may have bytes (or an end) for us.
const READABLE: u16 = 1;
/// Has a place in `turns`.
const QUEUED: u16 = 1 << 1;
const PAUSED: u16 = 1 << 2;
/// The peer's end was reported.
const ENDED: u16 = 1 << 3;
/// The peer's end was announced: a short read does not mean that there is nothing more.
const HUNG_UP: u16 = 1 << 4;
/// A flushing close is under way: output still leaves, input is discarded.
const CLOSING: u16 = 1 << 5;
/// Our side is shut down; only the peer's end is missing.
const SHUT: u16 = 1 << 6;
/// Registered for writability.
const WATCHES_WRITE: u16 = 1 << 7;
/// The last event is in `last_words`; nothing else happens any more.
const GONE: u16 = 1 << 8;

struct Connection {
    socket: OwnedFd,
    flags: u16,
    held: Option<Box<HeldBytes>>,
}

/// What a connection holds only while it must.
#[derive(Default)]
struct HeldBytes {
    unsent: Backlog,
    unread: Vec<u8>,
}

impl Connection {
    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    fn backlog(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.unsent.len())
    }
}

struct Listener {
    socket: TcpListener,
    ready: bool,
}

/// The last event of a connection, given out at the next poll.
enum LastWord {
    Closed(CloseCause),
    Detached,
}

struct MioWaker {
    waker: Waker,
    pending: AtomicBool,
}

impl Wake for MioWaker {
    fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) && self.waker.wake().is_err() {
            // Nothing is under way then; the next call tries again.
            self.pending.store(false, Ordering::Release);
        }
    }
}

/// The driver over epoll or kqueue.
pub struct Mio {
    poll: Poll,
    events: Events,
    waker: Arc<MioWaker>,
    connections: Slots<Connection>,
    listeners: Vec<Listener>,
    accepting: bool,
    /// Nothing is read or accepted.
    held: bool,
    reserve: Reserve,
    turns: VecDeque<ConnId>,
    last_words: VecDeque<(ConnId, LastWord)>,
    /// What may still be sent before the next poll.
    sends: SendShare,
    closing: Closing,
    spent: Spent,
    buffer: Box<[u8]>,
    tuning: Tuning,
}

impl Mio {
    /// A driver without connections.
    ///
    /// # Errors
    /// When the kernel refuses the descriptors it takes: poll, waker, and one in reserve.
    pub fn new(tuning: Tuning) -> io::Result<Mio> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        Ok(Mio {
            poll,
            events: Events::with_capacity(EVENTS_PER_POLL),
            waker: Arc::new(MioWaker { waker, pending: AtomicBool::new(false) }),
            connections: Slots::new(),
            listeners: Vec::new(),
            accepting: true,
            held: false,
            reserve: Reserve::new(tuning.accept_backoff)?,
            turns: VecDeque::new(),
            last_words: VecDeque::new(),
            sends: SendShare::of(&tuning),
            closing: Closing::new(tuning.flush_deadline),
            spent: Spent::default(),
            buffer: vec![0; tuning.receive_bytes.max(1)].into_boxed_slice(),
            tuning,
        })
    }

    fn wait(&self, timeout: Option<Duration>) -> Option<Duration> {
        let rests = self.reserve.resume_at().is_some();
        let accepts =
            self.accepting && !self.held && !rests && self.listeners.iter().any(|listener| listener.ready);
        let reads = !self.held && !self.turns.is_empty();
        if accepts || reads || !self.last_words.is_empty() {
            return Some(Duration::ZERO);
        }
        wait_until(timeout, [self.closing.next(), self.reserve.resume_at()])
    }

    /// Applies the kernel's news to the states; nothing but `Woken` and `Drained` is reported here.
    fn take_events(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let token = event.token();
            if token == WAKER {
                // Cleared before the core looks at its mailboxes: what is posted later wakes again.
                self.waker.pending.store(false, Ordering::Release);
                sink(Event::Woken);
                continue;
            }
            let index = token.0 & u32::MAX as usize;
            if index >= LISTENERS {
                if let Some(listener) = self.listeners.get_mut(index - LISTENERS) {
                    listener.ready = true;
                }
                continue;
            }
            let conn = ConnId { index: index as u32, generation: (token.0 >> 32) as u32 };
            let Some(connection) = self.connections.get_mut(conn) else { continue };
            if event.is_read_closed() || event.is_error() {
                connection.flags |= HUNG_UP;
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                connection.flags |= READABLE;
            }
            let writable = event.is_writable() && connection.has(WATCHES_WRITE);
            self.take_turn(conn);
            if writable {
                self.write(conn, Some(sink));
            }
        }
        self.events = events;
    }

    /// Queues the connection if there is something to read and it wants to read.
    fn take_turn(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        let unread = connection.held.as_ref().is_some_and(|held| !held.unread.is_empty());
        if (connection.has(READABLE) || unread) && !connection.has(PAUSED | QUEUED | GONE) {
            connection.flags |= QUEUED;
            self.turns.push_back(conn);
        }
    }

    fn say_last_words(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        while let Some((conn, word)) = self.last_words.pop_front() {
            let Some(connection) = self.connections.remove(conn) else { continue };
            match word {
                LastWord::Closed(cause) => {
                    drop(connection);
                    sink(Event::Closed { conn, cause });
                }
                LastWord::Detached => {
                    let ended = connection.has(ENDED);
                    let held = connection.held.map(|held| *held).unwrap_or_default();
                    let handle = Handle::Socket(connection.socket);
                    let socket = Detached { handle, unread: held.unread, unsent: held.unsent, ended };
                    sink(Event::Detached { conn, socket });
                }
            }
        }
    }

    fn end(&mut self, conn: ConnId, word: LastWord) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if !connection.has(GONE) {
            connection.flags |= GONE;
            self.last_words.push_back((conn, word));
        }
    }

    fn register(&mut self, conn: ConnId) -> io::Result<()> {
        let connection = self.connections.get_mut(conn).expect("just inserted");
        let interest = interest(connection.has(WATCHES_WRITE));
        self.poll.registry().register(&mut SourceFd(&connection.socket.as_raw_fd()), token(conn), interest)
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
            self.end(conn, LastWord::Closed(cause));
        }
    }
}

impl Driver for Mio {
    fn poll(&mut self, timeout: Option<Duration>, sink: &mut dyn FnMut(Event<'_>)) -> io::Result<()> {
        let timeout = self.wait(timeout);
        self.sends = SendShare::of(&self.tuning);
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => self.take_events(sink),
            // The events of the last poll would still be there.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            Err(error) => return Err(error),
        }
        self.expire_closing();
        self.say_last_words(sink);
        if !self.held {
            self.accept(sink);
            self.read_turns(sink);
        }
        Ok(())
    }

    fn send(&mut self, conn: ConnId, data: Vec<u8>) -> usize {
        let Some(connection) = self.connections.get_mut(conn) else { return 0 };
        if connection.has(CLOSING | GONE) || data.is_empty() {
            return connection.backlog();
        }
        if connection.backlog() == 0 {
            let piece = &data[..data.len().min(SEND_BYTES_MAX)];
            let written = if self.sends.has_room(piece.len()) {
                write_once(&connection.socket, piece)
            } else {
                // As if the kernel had no room: it says that it has in the next poll.
                Err(io::ErrorKind::WouldBlock.into())
            };
            self.sends.take(*written.as_ref().unwrap_or(&0));
            match written {
                Ok(count) if count == data.len() => {
                    self.spent.put(data);
                    return 0;
                }
                Ok(count) => {
                    let held = connection.held.get_or_insert_default();
                    held.unsent.push(data, &mut self.spent);
                    held.unsent.advance(count, &mut self.spent);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    connection.held.get_or_insert_default().unsent.push(data, &mut self.spent);
                }
                Err(error) => {
                    self.end(conn, LastWord::Closed(CloseCause::of(&error)));
                    return 0;
                }
            }
            let backlog = connection.backlog();
            self.watch_write(conn, true);
            return backlog;
        }
        let held = connection.held.get_or_insert_default();
        held.unsent.push(data, &mut self.spent);
        held.unsent.len()
    }

    fn close(&mut self, conn: ConnId, how: CloseHow) {
        let Some(connection) = self.connections.get_mut(conn) else { return };
        if connection.has(GONE) {
            return;
        }
        match how {
            CloseHow::Reset => {
                reset_on_close(&connection.socket);
                self.end(conn, LastWord::Closed(CloseCause::Local));
            }
            CloseHow::Flush if connection.has(CLOSING) => {}
            CloseHow::Flush => {
                connection.flags = (connection.flags | CLOSING) & !PAUSED;
                let flushed = connection.backlog() == 0;
                self.closing.push(conn);
                self.take_turn(conn);
                if flushed {
                    self.shut(conn);
                }
            }
        }
    }

    fn pause_reading(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn)
            && !connection.has(CLOSING)
        {
            connection.flags |= PAUSED;
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
        if connection.has(CLOSING | GONE) {
            return;
        }
        let fd = connection.socket.as_raw_fd();
        let word = match self.poll.registry().deregister(&mut SourceFd(&fd)) {
            Ok(()) => LastWord::Detached,
            Err(error) => LastWord::Closed(CloseCause::of(&error)),
        };
        self.end(conn, word);
    }

    fn hold(&mut self, hold: bool) {
        self.held = hold;
    }

    fn is_held(&self) -> bool {
        self.held
    }

    fn attach(&mut self, socket: Detached) -> ConnId {
        let Detached { handle, unread, unsent, ended } = socket;
        let Handle::Socket(socket) = handle else {
            panic!("a simulated connection belongs to simulated drivers");
        };
        let mut flags = if ended { ENDED } else { 0 };
        if !unsent.is_empty() {
            flags |= WATCHES_WRITE;
        }
        let idle = unsent.is_empty() && unread.is_empty();
        let held = (!idle).then(|| Box::new(HeldBytes { unsent, unread }));
        let prepared = SockRef::from(&socket).set_nonblocking(true);
        let Ok(conn) = self.connections.insert(Connection { socket, flags, held }) else {
            panic!("the table has room for more connections than there can be descriptors");
        };
        match prepared.and_then(|()| self.register(conn)) {
            Ok(()) => self.take_turn(conn),
            Err(error) => self.end(conn, LastWord::Closed(CloseCause::of(&error))),
        }
        conn
    }

    fn listen(&mut self, listener: TcpListener) -> io::Result<ListenerId> {
        prepare_listener(&listener, true)?;
        let number = self.listeners.len();
        let id = u16::try_from(number).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let fd = listener.as_raw_fd();
        self.poll.registry().register(&mut SourceFd(&fd), Token(LISTENERS + number), Interest::READABLE)?;
        self.listeners.push(Listener { socket: listener, ready: false });
        Ok(ListenerId(id))
    }

    fn pause_accepting(&mut self) {
        self.accepting = false;
    }

    fn resume_accepting(&mut self) {
        self.accepting = true;
    }

    fn stop_accepting(&mut self) {
        // Closing a descriptor takes it out of the poll.
        self.listeners.clear();
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
        "mio"
    }
}

fn token(conn: ConnId) -> Token {
    Token(conn.index as usize | (conn.generation as usize) << 32)
}

fn interest(write: bool) -> Interest {
    if write { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
}
