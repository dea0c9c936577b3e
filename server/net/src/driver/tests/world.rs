//! A driver with a listener, and a record of everything it has said.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::driver::mio::Mio;
use crate::driver::{CloseCause, CloseHow, ConnId, Detached, Driver, Event, ListenerId, Tuning};

/// Makes one kind of driver.
pub(super) type Make = fn(Tuning) -> Box<dyn Driver>;

pub(super) fn mio(tuning: Tuning) -> Box<dyn Driver> {
    Box::new(Mio::new(tuning).unwrap())
}

#[cfg(target_os = "linux")]
pub(super) fn uring(tuning: Tuning) -> Box<dyn Driver> {
    Box::new(crate::driver::uring::Uring::new(tuning).unwrap())
}

/// As on a kernel that cannot defer completions (before Linux 6.1).
#[cfg(target_os = "linux")]
pub(super) fn uring_undeferred(tuning: Tuning) -> Box<dyn Driver> {
    Box::new(crate::driver::uring::Uring::undeferred(tuning).unwrap())
}

/// Only a system that forbids io_uring altogether excuses the driver; whatever else it lacks fails the tests.
#[cfg(target_os = "linux")]
pub(super) fn uring_may_run() -> bool {
    let forbidden = match crate::driver::uring::Uring::new(Tuning::default()) {
        Ok(_) => return true,
        Err(error) => matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSYS)),
    };
    if forbidden {
        eprintln!("io_uring is forbidden here: not tested");
    }
    !forbidden
}

/// A test that has not come to its end by then has failed; none is decided by it.
const PATIENCE: Duration = Duration::from_secs(60);

/// More than the kernel's buffers can still take once they have been full.
const STAYING_BACKLOG: usize = 2 << 20;

/// What was said about one connection.
#[derive(Default)]
pub(super) struct Story {
    pub(super) received: Vec<u8>,
    pub(super) ended: bool,
    pub(super) drained: usize,
    pub(super) closed: Option<CloseCause>,
    pub(super) detached: Option<Detached>,
    pub(super) peer: Option<IpAddr>,
    pub(super) listener: Option<ListenerId>,
    paused: bool,
    closing: bool,
    leaving: bool,
}

impl Story {
    fn is_over(&self) -> bool {
        self.closed.is_some() || self.leaving && self.detached.is_some()
    }
}

pub(super) struct World {
    pub(super) driver: Box<dyn Driver>,
    pub(super) address: SocketAddr,
    pub(super) stories: HashMap<ConnId, Story>,
    pub(super) accepted: VecDeque<ConnId>,
    pub(super) woken: usize,
    pub(super) exhausted: Vec<i32>,
}

impl World {
    pub(super) fn new(make: Make) -> World {
        World::tuned(make, Tuning::default())
    }

    pub(super) fn tuned(make: Make, tuning: Tuning) -> World {
        let mut driver = make(tuning);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Connections inherit it: a backlog is reached soon.
        socket2::SockRef::from(&listener).set_send_buffer_size(128 << 10).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(driver.listen(listener).unwrap(), ListenerId(0));
        World {
            driver,
            address,
            stories: HashMap::new(),
            accepted: VecDeque::new(),
            woken: 0,
            exhausted: Vec::new(),
        }
    }

    /// One poll; checks each event against the contract.
    pub(super) fn poll(&mut self, timeout: Duration) {
        let World { driver, stories, accepted, woken, exhausted, .. } = self;
        let mut sink = |event: Event<'_>| match event {
            Event::Accepted { conn, listener, peer } => {
                let story = Story { peer: Some(peer), listener: Some(listener), ..Story::default() };
                if let Some(old) = stories.insert(conn, story) {
                    assert!(old.is_over(), "{conn:?} was accepted while it lived");
                }
                assert!(stories.keys().all(|other| {
                    other.index != conn.index || *other == conn || stories[other].is_over()
                }));
                accepted.push_back(conn);
            }
            Event::AcceptPaused { errno } => exhausted.push(errno),
            Event::Received { conn, bytes } => {
                let story = living(stories, conn);
                assert!(!bytes.is_empty(), "an empty Received");
                assert!(!story.paused, "received in a pause");
                assert!(!story.closing && !story.leaving && !story.ended, "received after the last word");
                story.received.extend_from_slice(bytes);
            }
            Event::Ended { conn } => {
                let story = living(stories, conn);
                assert!(!story.ended, "ended twice");
                assert!(!story.closing && !story.leaving && !story.paused, "ended after the last word");
                story.ended = true;
            }
            Event::Drained { conn } => {
                let story = living(stories, conn);
                assert!(!story.closing && !story.leaving, "drained after the last word");
                story.drained += 1;
            }
            Event::Closed { conn, cause } => living(stories, conn).closed = Some(cause),
            Event::Detached { conn, socket } => {
                let story = living(stories, conn);
                assert!(story.leaving, "detached without being asked");
                story.detached = Some(socket);
            }
            Event::Woken => *woken += 1,
        };
        driver.poll(Some(timeout), &mut sink).unwrap();
    }

    /// Polls until `done`; `what` is said when it never comes.
    #[track_caller]
    pub(super) fn until(&mut self, what: &str, mut done: impl FnMut(&mut World) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "in vain: {what}");
            self.poll(Duration::from_millis(5));
        }
    }

    /// A new connection and its client, which does not block.
    #[track_caller]
    pub(super) fn connect(&mut self) -> (ConnId, TcpStream) {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_nonblocking(true).unwrap();
        client.set_nodelay(true).unwrap();
        self.until("accepted", |world| !world.accepted.is_empty());
        (self.accepted.pop_front().unwrap(), client)
    }

    #[track_caller]
    pub(super) fn story(&self, conn: ConnId) -> &Story {
        &self.stories[&conn]
    }

    /// Reads `count` bytes at the client.
    #[track_caller]
    pub(super) fn client_reads(&mut self, client: &mut TcpStream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let mut filled = 0;
        self.until("the client reads", |_| {
            while filled < count {
                match client.read(&mut bytes[filled..]) {
                    Ok(0) => panic!("the stream ended after {filled} of {count} bytes"),
                    Ok(more) => filled += more,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                    Err(error) => panic!("{error} after {filled} of {count} bytes"),
                }
            }
            true
        });
        bytes
    }

    /// Reads at the client up to the end: the bytes, and whether it was an orderly end.
    #[track_caller]
    pub(super) fn client_reads_to_the_end(&mut self, client: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
        let mut bytes = Vec::new();
        let mut result = Ok(());
        let mut buffer = vec![0; 64 << 10];
        self.until("the client sees the end", |_| {
            loop {
                match client.read(&mut buffer) {
                    Ok(0) => return true,
                    Ok(more) => bytes.extend_from_slice(&buffer[..more]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                    Err(error) => {
                        result = Err(error);
                        return true;
                    }
                }
            }
        });
        (bytes, result)
    }

    /// Lets time pass by what happens: a connection of its own sends a byte to and fro, `rounds` times.
    #[track_caller]
    pub(super) fn let_pass(&mut self, rounds: usize) {
        let (conn, mut client) = self.connect();
        for round in 1..=rounds {
            io::Write::write_all(&mut client, b".").unwrap();
            self.until("a ping", |world| world.story(conn).received.len() == round);
            self.driver.send(conn, b"!".to_vec());
            self.client_reads(&mut client, 1);
        }
        self.close(conn, CloseHow::Reset);
        self.until("the pinger closed", |world| world.story(conn).closed.is_some());
    }

    /// Polls a few times; for what the driver does by itself.
    pub(super) fn let_others_pass(&mut self) {
        for _ in 0..5 {
            self.poll(Duration::ZERO);
        }
    }

    /// Sends to a client that does not read until there is a backlog that the kernel cannot swallow unless it reads.
    /// Returns what was sent.
    pub(super) fn fill(&mut self, conn: ConnId) -> Vec<u8> {
        let mut sent = Vec::new();
        loop {
            let data = pattern(sent.len(), 64 << 10);
            sent.extend_from_slice(&data);
            let drained = self.story(conn).drained;
            let queued = self.driver.send(conn, data);
            self.let_others_pass();
            if queued > STAYING_BACKLOG && self.story(conn).drained == drained {
                return sent;
            }
            assert!(sent.len() < 256 << 20, "the kernel takes everything");
        }
    }

    pub(super) fn pause(&mut self, conn: ConnId) {
        self.stories.get_mut(&conn).unwrap().paused = true;
        self.driver.pause_reading(conn);
    }

    pub(super) fn resume(&mut self, conn: ConnId) {
        self.stories.get_mut(&conn).unwrap().paused = false;
        self.driver.resume_reading(conn);
    }

    pub(super) fn close(&mut self, conn: ConnId, how: CloseHow) {
        self.stories.get_mut(&conn).unwrap().closing = true;
        self.driver.close(conn, how);
    }

    /// Takes a connection out of the driver.
    #[track_caller]
    pub(super) fn detach(&mut self, conn: ConnId) -> Detached {
        self.stories.get_mut(&conn).unwrap().leaving = true;
        self.driver.detach(conn);
        self.until("detached", |world| world.story(conn).detached.is_some());
        self.stories.remove(&conn).unwrap().detached.unwrap()
    }

    /// Puts a connection into the driver.
    pub(super) fn attach(&mut self, socket: Detached) -> ConnId {
        let ended = socket.has_ended();
        let conn = self.driver.attach(socket);
        let old = self.stories.insert(conn, Story { ended, ..Story::default() });
        assert!(old.is_none_or(|old| old.is_over()));
        conn
    }

    #[track_caller]
    pub(super) fn expect_closed(&mut self, conn: ConnId, cause: CloseCause) {
        self.until("closed", |world| world.story(conn).closed.is_some());
        assert_eq!(self.story(conn).closed, Some(cause));
    }
}

fn living(stories: &mut HashMap<ConnId, Story>, conn: ConnId) -> &mut Story {
    let story = stories.get_mut(&conn).expect("an event of a connection that was never announced");
    assert!(!story.is_over(), "an event of a connection that is gone");
    story
}

/// Bytes that tell where in a stream they belong.
pub(super) fn pattern(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|n| (n ^ n >> 8 ^ n >> 16) as u8).collect()
}

#[track_caller]
pub(super) fn assert_pattern(bytes: &[u8]) {
    let wrong = bytes.iter().enumerate().find(|(n, byte)| (n ^ n >> 8 ^ n >> 16) as u8 != **byte);
    assert!(wrong.is_none(), "the stream goes wrong at {wrong:?} of {}", bytes.len());
}

/// xorshift64*: the same numbers for the same seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as usize) % limit
    }
}
