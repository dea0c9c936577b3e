//! The simulated network: links between clients and workers, with delay, small buffers, ends and resets.
//!
//! ```text
//!             ┌──────────── up: in flight ─► arrived ───────────┐
//!   client ───┤                                                 ├─── driver of one worker
//!             └────────── arrived ◄─ in flight :down ───────────┘
//! ```
//! What is in flight arrives when the virtual time has come; the order within one direction is kept. Flight and
//! arrived bytes together never exceed the window of the link, as with a kernel's buffers.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use super::link::{Holder, Link, Piece, Pipe, Way};
use super::random::Random;
use crate::driver::backlog::Backlog;
use crate::driver::{ConnId, Detached, Handle, ListenerId};
use crate::timer::Millis;

/// How bad the network is.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Bytes that one direction of a link holds at most; each link draws a window up to this.
    pub window_bytes_max: usize,
    /// The longest delay of a piece, in milliseconds.
    pub delay_ms_max: usize,
    /// Connections that wait in each worker's accept queue at most; further ones are reset.
    pub accept_queue_max: usize,
    /// Descriptors of the server for connections.
    pub descriptors_max: usize,
    /// Of a thousand polls, how many find nothing although there is something.
    pub idle_polls_permille: u32,
    /// Of a thousand reads or writes, how many move a few bytes only.
    pub short_permille: u32,
}

impl Default for Weather {
    fn default() -> Weather {
        Weather {
            window_bytes_max: 16 << 10,
            delay_ms_max: 30,
            accept_queue_max: 512,
            descriptors_max: 1 << 20,
            idle_polls_permille: 50,
            short_permille: 150,
        }
    }
}

/// One connection of the network. Never used twice in one network.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct LinkId(pub(super) u32);

/// What a client finds when it reads.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Read {
    /// So many bytes were appended.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The server has ended its side, and everything before that was read.
    Ended,
    /// The connection was reset.
    Reset,
}

/// A simulated socket on its way between two drivers. Dropping it resets the connection.
#[derive(Debug)]
pub(in crate::driver) struct Socket {
    link: LinkId,
    lost: Arc<Mutex<Vec<LinkId>>>,
    taken: bool,
}

impl Socket {
    /// Its number in the network.
    pub(in crate::driver) fn number(&self) -> u32 {
        self.link.0
    }

    /// Takes the link out; it is then the caller's to close.
    pub(super) fn take(mut self) -> LinkId {
        self.taken = true;
        self.link
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !self.taken
            && let Ok(mut lost) = self.lost.lock()
        {
            lost.push(self.link);
        }
    }
}

pub(super) struct State {
    pub(super) now: Millis,
    pub(super) weather: Weather,
    pub(super) random: Random,
    links: Vec<Option<Box<Link>>>,
    news: BinaryHeap<Reverse<(Millis, u64, LinkId, Way)>>,
    news_count: u64,
    /// Per worker: links that wait to be accepted.
    queues: Vec<VecDeque<LinkId>>,
    /// Per worker: links on which something may be possible.
    ready: Vec<BTreeSet<LinkId>>,
    clients_ready: BTreeSet<(u32, LinkId)>,
    listening: Vec<bool>,
    descriptors: usize,
    lost: Arc<Mutex<Vec<LinkId>>>,
}

impl State {
    fn link(&mut self, link: LinkId) -> Option<&mut Link> {
        self.links.get_mut(link.0 as usize)?.as_deref_mut()
    }

    /// A new link, which nobody holds.
    fn begin(&mut self, client: u32, peer: IpAddr, listener: ListenerId) -> Option<LinkId> {
        let id = LinkId(u32::try_from(self.links.len()).ok()?);
        let window_max = self.weather.window_bytes_max.max(256);
        let (up, down) = (self.random.between(256, window_max), self.random.between(256, window_max));
        let (up, down) = (Pipe::new(up), Pipe::new(down));
        let link = Link { client, peer, listener, up, down, holder: Holder::Nobody, client_gone: false };
        self.links.push(Some(Box::new(link)));
        Some(id)
    }

    /// Puts a piece in flight.
    fn push(&mut self, id: LinkId, way: Way, piece: Piece) {
        let delay_ms = self.random.below(self.weather.delay_ms_max + 1) as u64;
        let due = self.now.after(delay_ms);
        let (seq, due) = {
            let Some(link) = self.link(id) else { return };
            let pipe = link.pipe(way);
            let due = due.max(pipe.due_last);
            pipe.due_last = due;
            if let Piece::Bytes(bytes) = &piece {
                pipe.flight_bytes += bytes.len();
            }
            pipe.flight.push_back(piece);
            self.news_count += 1;
            (self.news_count, due)
        };
        self.news.push(Reverse((due, seq, id, way)));
    }

    fn advance(&mut self, now: Millis) {
        self.now = self.now.max(now);
        let lost = std::mem::take(&mut *self.lost.lock().expect("nothing panics while it holds this lock"));
        for link in lost {
            self.server_reset(link);
        }
        while let Some(Reverse((due, _, id, way))) = self.news.peek().copied() {
            if due > self.now {
                break;
            }
            self.news.pop();
            let Some(link) = self.link(id) else { continue };
            link.pipe(way).arrive();
            match way {
                Way::Up => self.stir(id),
                Way::Down => {
                    let client = link.client;
                    if !link.client_gone {
                        self.clients_ready.insert((client, id));
                    }
                }
            }
        }
    }

    /// Something may have become possible for the driver that holds the link.
    pub(super) fn stir(&mut self, id: LinkId) {
        if let Some(Link { holder: Holder::Driver(worker, _), .. }) = self.link(id) {
            let worker = *worker;
            self.ready[worker].insert(id);
        }
    }

    fn bury(&mut self, id: LinkId) {
        let done = self.link(id).is_some_and(|link| link.client_gone && link.holder == Holder::Closed);
        if done {
            self.links[id.0 as usize] = None;
        }
    }

    // What drivers do.

    pub(super) fn take_ready(&mut self, worker: usize) -> Vec<(LinkId, ConnId)> {
        let ids = std::mem::take(&mut self.ready[worker]);
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(Link { holder: Holder::Driver(owner, conn), .. }) = self.link(id)
                && *owner == worker
            {
                found.push((id, *conn));
            }
        }
        found
    }

    pub(super) fn has_ready(&self, worker: usize) -> bool {
        !self.ready[worker].is_empty()
    }

    pub(super) fn waiting(&self, worker: usize) -> usize {
        self.queues[worker].len()
    }

    /// The next connection that waits for the worker; `Err` with it when there is no descriptor left.
    pub(super) fn accept(&mut self, worker: usize) -> Option<Result<(LinkId, IpAddr, ListenerId), LinkId>> {
        let id = self.queues[worker].pop_front()?;
        if self.descriptors >= self.weather.descriptors_max {
            return Some(Err(id));
        }
        self.descriptors += 1;
        let link = self.link(id)?;
        let (peer, listener) = (link.peer, link.listener);
        Some(Ok((id, peer, listener)))
    }

    pub(super) fn hold(&mut self, id: LinkId, worker: usize, conn: ConnId) {
        if let Some(link) = self.link(id) {
            assert_eq!(link.holder, Holder::Nobody, "two drivers hold one connection");
            link.holder = Holder::Driver(worker, conn);
            self.stir(id);
        }
    }

    /// The driver lets go; the socket travels.
    pub(super) fn let_go(&mut self, id: LinkId) -> Socket {
        if let Some(link) = self.link(id) {
            link.holder = Holder::Nobody;
        }
        Socket { link: id, lost: self.lost.clone(), taken: false }
    }

    /// Whether the peer has reset the connection.
    pub(super) fn is_reset(&mut self, id: LinkId) -> bool {
        self.link(id).is_none_or(|link| link.up.reset)
    }

    /// Whether the peer has ended its side and everything before that was read.
    pub(super) fn is_ended(&mut self, id: LinkId) -> bool {
        self.link(id).is_some_and(|link| link.up.ended && link.up.arrived.is_empty())
    }

    pub(super) fn readable(&mut self, id: LinkId) -> usize {
        self.link(id).map_or(0, |link| link.up.arrived.len())
    }

    pub(super) fn writable(&mut self, id: LinkId) -> usize {
        self.link(id).map_or(0, |link| link.down.room())
    }

    /// Reads up to `max` bytes.
    pub(super) fn server_read(&mut self, id: LinkId, max: usize) -> Vec<u8> {
        let Some(link) = self.link(id) else { return Vec::new() };
        let count = link.up.arrived.len().min(max);
        link.up.arrived.drain(..count).collect()
    }

    /// Sends what fits in the window, often less; returns how much.
    pub(super) fn server_write(&mut self, id: LinkId, bytes: &[u8]) -> usize {
        let short = self.random.permille(self.weather.short_permille);
        let room = self.writable(id);
        let mut count = bytes.len().min(room);
        if short {
            count = self.random.below(count.min(40) + 1);
        }
        if count > 0 {
            self.push(id, Way::Down, Piece::Bytes(bytes[..count].to_vec()));
        }
        count
    }

    pub(super) fn server_end(&mut self, id: LinkId) {
        self.push(id, Way::Down, Piece::End);
    }

    /// The server closes in order: everything sent before arrives.
    pub(super) fn server_close(&mut self, id: LinkId) {
        if let Some(link) = self.link(id)
            && link.holder != Holder::Closed
        {
            link.holder = Holder::Closed;
            self.descriptors -= 1;
            self.bury(id);
        }
    }

    /// The server resets the connection.
    pub(super) fn server_reset(&mut self, id: LinkId) {
        self.push(id, Way::Down, Piece::Reset);
        self.server_close(id);
    }

    /// Turns a connection away that was never accepted.
    pub(super) fn turn_away(&mut self, id: LinkId) {
        self.push(id, Way::Down, Piece::Reset);
        if let Some(link) = self.link(id) {
            link.holder = Holder::Closed;
            self.bury(id);
        }
    }

    pub(super) fn listen(&mut self, worker: usize, on: bool) {
        self.listening[worker] = on;
        if !on {
            for id in std::mem::take(&mut self.queues[worker]) {
                self.turn_away(id);
            }
        }
    }
}

/// The network, shared by the drivers and the clients of one simulation. All of them live on one thread.
#[derive(Clone)]
pub struct Network(pub(super) Rc<RefCell<State>>);

impl Network {
    /// A network for so many workers. Everything that happens in it follows from the seed.
    #[must_use]
    pub fn new(workers: usize, seed: u64, weather: Weather) -> Network {
        Network(Rc::new(RefCell::new(State {
            now: Millis(0),
            weather,
            random: Random::new(seed),
            links: Vec::new(),
            news: BinaryHeap::new(),
            news_count: 0,
            queues: (0..workers).map(|_| VecDeque::new()).collect(),
            ready: (0..workers).map(|_| BTreeSet::new()).collect(),
            clients_ready: BTreeSet::new(),
            listening: vec![false; workers],
            descriptors: 0,
            lost: Arc::default(),
        })))
    }

    /// Changes the weather from here on; windows of links stay as they are.
    pub fn set_weather(&self, weather: Weather) {
        self.0.borrow_mut().weather = weather;
    }

    /// The server becomes another program: connections that its drivers have not let go of are closed in order.
    pub fn exec(&self) {
        let mut state = self.0.borrow_mut();
        for index in 0..state.links.len() {
            let is_held =
                matches!(&state.links[index], Some(link) if matches!(link.holder, Holder::Driver(..)));
            if is_held && let Ok(number) = u32::try_from(index) {
                state.server_end(LinkId(number));
                state.server_close(LinkId(number));
            }
        }
    }

    /// Lets what is due by `now` arrive. Time never goes back.
    pub fn advance(&self, now: Millis) {
        self.0.borrow_mut().advance(now);
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.0.borrow().now
    }

    /// When the next piece arrives.
    #[must_use]
    pub fn next_arrival(&self) -> Option<Millis> {
        self.0.borrow().news.peek().map(|Reverse((due, ..))| *due)
    }

    /// Open descriptors of the server.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        self.0.borrow().descriptors
    }

    /// Links that are not yet forgotten by both sides.
    #[must_use]
    pub fn links(&self) -> usize {
        self.0.borrow().links.iter().flatten().count()
    }

    /// A client connects to listener 0; some worker's accept queue takes it. `None` when the queue is full or nobody
    /// listens.
    pub fn connect(&self, client: u32, peer: IpAddr) -> Option<LinkId> {
        self.connect_to(client, peer, ListenerId(0))
    }

    /// As [`Network::connect`], to any listener: what they differ in is up to the server.
    pub fn connect_to(&self, client: u32, peer: IpAddr, listener: ListenerId) -> Option<LinkId> {
        let mut state = self.0.borrow_mut();
        let workers = state.queues.len();
        let worker = state.random.below(workers);
        let full = state.queues[worker].len() >= state.weather.accept_queue_max;
        if full || !state.listening[worker] {
            return None;
        }
        let id = state.begin(client, peer, listener)?;
        state.queues[worker].push_back(id);
        Some(id)
    }

    /// A client is connected already, as behind a server of HTTP that hands its connection over: the connection on its way to a
    /// driver. `None` when there is no descriptor left, or nobody listens.
    pub fn connect_past(&self, client: u32, peer: IpAddr) -> Option<(LinkId, Detached)> {
        let mut state = self.0.borrow_mut();
        if state.descriptors >= state.weather.descriptors_max || !state.listening.contains(&true) {
            return None;
        }
        let id = state.begin(client, peer, ListenerId(0))?;
        state.descriptors += 1;
        let handle = Handle::Simulated(state.let_go(id));
        let socket = Detached { handle, unread: Vec::new(), unsent: Backlog::default(), ended: false };
        Some((id, socket))
    }

    /// Sends what fits in the window; returns how much. Later pieces never arrive before earlier ones.
    pub fn client_write(&self, id: LinkId, bytes: &[u8]) -> usize {
        let mut state = self.0.borrow_mut();
        let room = state.link(id).filter(|link| !link.client_gone).map_or(0, |link| link.up.room());
        let count = bytes.len().min(room);
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            let short = state.random.permille(300);
            let piece = if short { state.random.between(1, rest.len().min(50)) } else { rest.len() };
            state.push(id, Way::Up, Piece::Bytes(rest[..piece].to_vec()));
            rest = &rest[piece..];
        }
        count
    }

    /// Whether the client could send something.
    #[must_use]
    pub fn client_room(&self, id: LinkId) -> usize {
        self.0.borrow_mut().link(id).map_or(0, |link| link.up.room())
    }

    /// Reads up to `max` bytes and appends them.
    pub fn client_read(&self, id: LinkId, max: usize, into: &mut Vec<u8>) -> Read {
        let mut state = self.0.borrow_mut();
        let Some(link) = state.link(id) else { return Read::Reset };
        let pipe = &mut link.down;
        if pipe.reset {
            return Read::Reset;
        }
        let count = pipe.arrived.len().min(max);
        if count == 0 {
            return if pipe.ended { Read::Ended } else { Read::Nothing };
        }
        into.extend(pipe.arrived.drain(..count));
        let more = !pipe.arrived.is_empty() || pipe.ended;
        let client = link.client;
        if more {
            state.clients_ready.insert((client, id));
        }
        state.stir(id);
        Read::Bytes(count)
    }

    /// The client will send nothing more.
    pub fn client_end(&self, id: LinkId) {
        self.0.borrow_mut().push(id, Way::Up, Piece::End);
    }

    /// The client resets the connection, or closes it after both ends have been seen.
    pub fn client_close(&self, id: LinkId, reset: bool) {
        let mut state = self.0.borrow_mut();
        if reset {
            state.push(id, Way::Up, Piece::Reset);
        }
        let Some(link) = state.link(id) else { return };
        link.client_gone = true;
        let client = link.client;
        state.clients_ready.remove(&(client, id));
        state.bury(id);
    }

    /// Whether the server has closed its end.
    #[must_use]
    pub fn is_closed_by_server(&self, id: LinkId) -> bool {
        self.0.borrow_mut().link(id).is_none_or(|link| link.holder == Holder::Closed)
    }

    /// Takes the clients for which something has arrived, in order.
    #[must_use]
    pub fn take_clients(&self) -> Vec<(u32, LinkId)> {
        std::mem::take(&mut self.0.borrow_mut().clients_ready).into_iter().collect()
    }

    /// A client did not look at what has arrived, and wants to be told again.
    pub fn remind(&self, client: u32, id: LinkId) {
        self.0.borrow_mut().clients_ready.insert((client, id));
    }

    /// Whether nothing is under way and nobody has anything to look at.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let state = self.0.borrow();
        state.news.is_empty()
            && state.clients_ready.is_empty()
            && state.ready.iter().all(BTreeSet::is_empty)
            && state.queues.iter().all(VecDeque::is_empty)
    }
}
