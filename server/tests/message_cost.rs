//! What routing a chat message costs a worker in allocations, and what an idle session with stream management and a room hold,
//! so that none of it grows unseen.
//!
//! The worker is the real one, with a directory and a log in a folder; only the sockets are replaced, by a driver
//! that hands over what the clients say and drops what they hear. Everything that the worker's thread allocates while
//! messages flow is counted, and so is each write, which is a system call with a real driver. Times are not measured, so the figures are the same on every machine; `tools/instructions`
//! counts instructions on the same path.
#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "message_cost/rooms.rs"]
mod rooms;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use whimbrel_server::clock::{Clock, VirtualClock};
use whimbrel_server::config::{ArchiveConfig, AuthConfig, Config, Durability};
use whimbrel_server::env::{BROADCAST_MAX, Env};
use whimbrel_server::exchange::links::Links;
use whimbrel_server::proto::sasl::throttle::{self, Throttle};
use whimbrel_server::runtime::driver::{CloseHow, ConnId, Detached, Driver, Event, ListenerId, Wake};
use whimbrel_server::runtime::mailbox;
use whimbrel_server::runtime::timer::Millis;
use whimbrel_server::shared::{InheritedTables, Shared, SharedParts};
use whimbrel_server::tls::Acceptor;
use whimbrel_server::user::actors::Actors;
use whimbrel_server::user::actors::Effects;
use whimbrel_server::user::commits::{Commit, CommitTracker};
use whimbrel_server::user::jobs::{Backend, Completions, Jobs};
use whimbrel_server::worker::Worker;
use whimbrel_server::worker::command::CommandQueue;
use whimbrel_server::worker::core::Core;
use whimbrel_server::worker::newcomers::WebSocketStart;
use whimbrel_storage::archive::readers::{Folders, PageReader};
use whimbrel_storage::archive::{Archive, Tallies};
use whimbrel_storage::credentials::{Credentials, SALT_BYTES};
use whimbrel_storage::directory::{self, Directory, Options};
use whimbrel_storage::log::{LogsAt, journal_folders};

/// Clients; each even one writes to the one after it.
const CLIENTS: usize = 200;

/// Messages that each sender has in one iteration.
const WINDOW: usize = 4;

/// Iterations before anything is counted: buffers reach their size, the log makes its first records.
const WARM_UP: usize = 50;

/// Iterations that are counted.
const COUNTED: usize = 100;

/// Bytes that stream management may hold for an idle session.
const IDLE_BYTES_MAX: i64 = 112;

/// Bytes by which a worker's spare buffers may be longer after output in frames. There is one for each client here, because all
/// have been answered in one iteration.
const BUFFER_BYTES_MAX: i64 = 128;

/// Counts what this thread allocates.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
    /// Bytes allocated and not freed.
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    CALLS.set(CALLS.get() + 1);
    BYTES.set(BYTES.get() + bytes as u64);
    LIVE.set(LIVE.get() + bytes as i64);
}

// SAFETY: everything is left to the system's allocator; counting allocates nothing, as the cells are constant.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get() - layout.size() as i64);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        LIVE.set(LIVE.get() - layout.size() as i64);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Asleep;

impl Wake for Asleep {
    fn wake(&self) {}
}

/// Stands in for the sockets: each connection's next input, and a count of the messages written to it.
#[derive(Default)]
struct Wires {
    accepted: usize,
    input: Vec<Vec<u8>>,
    messages: u64,
    requests: u64,
    writes: u64,
    /// What was written in this iteration.
    heard: Vec<u8>,
    /// The same of the last iteration in which something was.
    last: Vec<u8>,
    spent: Vec<Vec<u8>>,
}

impl Wires {
    fn conn(index: usize) -> ConnId {
        ConnId { index: index as u32, generation: 1 }
    }

    /// Counts what was heard, when the iteration is over: what that costs is not the server's.
    fn listen(&mut self) {
        if self.heard.is_empty() {
            return;
        }
        self.messages += memchr::memmem::find_iter(&self.heard, b"<message ").count() as u64;
        self.requests += memchr::memmem::find_iter(&self.heard, b"<r ").count() as u64;
        std::mem::swap(&mut self.heard, &mut self.last);
        self.heard.clear();
    }
}

impl Driver for Wires {
    fn poll(&mut self, _: Option<Duration>, sink: &mut dyn FnMut(Event<'_>)) -> io::Result<()> {
        for index in self.accepted..self.input.len() {
            let peer = IpAddr::V4(Ipv4Addr::from(0x7f00_0001 + index as u32));
            sink(Event::Accepted { conn: Self::conn(index), listener: ListenerId(0), peer });
        }
        self.accepted = self.input.len();
        for (index, bytes) in self.input.iter_mut().enumerate() {
            if !bytes.is_empty() {
                sink(Event::Received { conn: Self::conn(index), bytes });
                bytes.clear();
            }
        }
        Ok(())
    }

    fn send(&mut self, _: ConnId, data: Vec<u8>) -> usize {
        self.writes += 1;
        self.heard.extend_from_slice(&data);
        // As many as the drivers for sockets give back.
        if self.spent.len() < 64 {
            self.spent.push(data);
        }
        0
    }

    fn close(&mut self, conn: ConnId, how: CloseHow) {
        panic!("{conn:?} is closed ({how:?}) after {}", String::from_utf8_lossy(&self.heard));
    }

    fn pause_reading(&mut self, _: ConnId) {}

    fn resume_reading(&mut self, _: ConnId) {}

    fn detach(&mut self, _: ConnId) {
        unreachable!("there is one worker");
    }

    fn hold(&mut self, _: bool) {
        unreachable!("nobody upgrades it");
    }

    fn is_held(&self) -> bool {
        unreachable!("nobody upgrades it");
    }

    fn attach(&mut self, _: Detached) -> ConnId {
        unreachable!("there is one worker");
    }

    fn listen(&mut self, _: TcpListener) -> io::Result<ListenerId> {
        unreachable!("there are no sockets");
    }

    fn pause_accepting(&mut self) {}

    fn resume_accepting(&mut self) {}

    fn stop_accepting(&mut self) {}

    fn waker(&self) -> Arc<dyn Wake> {
        Arc::new(Asleep)
    }

    fn spent(&mut self) -> &mut Vec<Vec<u8>> {
        &mut self.spent
    }

    fn connections(&self) -> usize {
        self.accepted
    }

    fn name(&self) -> &'static str {
        "wires"
    }
}

/// What the clients speak over.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Over {
    Tcp,
    WebSocket,
}

impl Over {
    /// Bytes of one element, or of a header.
    fn wire(self, text: &str) -> Vec<u8> {
        let length = text.len();
        let head: &[u8] = match (self, length) {
            (Over::Tcp, _) => &[],
            // With a mask that changes nothing.
            (Over::WebSocket, 0..=125) => &[0x81, 0x80 | length as u8, 0, 0, 0, 0],
            (Over::WebSocket, _) => &[0x81, 0xFE, (length >> 8) as u8, length as u8, 0, 0, 0, 0],
        };
        [head, text.as_bytes()].concat()
    }

    fn header(self) -> &'static str {
        match self {
            Over::Tcp => {
                "<?xml version='1.0'?><stream:stream xmlns='jabber:client' to='bench.example' \
                 xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
            }
            Over::WebSocket => {
                "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='bench.example' version='1.0'/>"
            }
        }
    }
}

/// The worker with its clients logged in.
struct Bench {
    over: Over,
    clients: usize,
    worker: Worker<Wires>,
    /// Milliseconds.
    now: u64,
    clock: Arc<VirtualClock>,
    /// Stanzas that each recipient has received.
    received: usize,
    _data: tempfile::TempDir,
}

/// How the server is configured.
fn config(data: &std::path::Path, archived: bool) -> Config {
    Config {
        domain: "bench.example".into(),
        data: data.into(),
        allow_plaintext: true,
        auth: AuthConfig { scram_iterations: 1, ..AuthConfig::default() },
        durability: Durability::Process,
        log_segment_mib: 4,
        log_mib_max: 1024,
        archive: ArchiveConfig { enabled: archived, ..ArchiveConfig::default() },
        ..Config::default()
    }
}

impl Bench {
    fn new(over: Over, managed: bool, archived: bool) -> Bench {
        Bench::configured((over, CLIENTS), managed, archived, |_| {})
    }

    /// With so many clients, on a server that is configured otherwise.
    fn configured(
        (over, clients): (Over, usize),
        managed: bool,
        archived: bool,
        configure: impl FnOnce(&mut Config),
    ) -> Bench {
        let data = tempfile::tempdir().unwrap();
        let mut config = config(data.path(), archived);
        configure(&mut config);
        let config = Arc::new(config);
        let options = Options { domain: config.domain.clone(), map_bytes_max: 1 << 28, ..Options::default() };
        let directory = Directory::open(&data.path().join("directory"), &options).unwrap();
        let credentials = Credentials::derive_with_salt("secret", NonZeroU32::MIN, &[7; SALT_BYTES]).unwrap();
        let job = Box::new(move |transaction: &mut directory::WriteTransaction<'_>| {
            for client in 0..clients {
                transaction.create_account(&format!("user{client}"), &credentials)?;
            }
            Ok(())
        });
        directory::run_inline(&directory, job).unwrap();
        let folder = data.path().join("log");
        let tallies = Arc::new(Tallies::default());
        let options = config.log_options();
        let logs = LogsAt { path: &folder, options: &options, shards: 1, home: &|_| None, progress: &|_| {} };
        let kept = config.archive_settings();
        let opened = logs.open(None, &|journal| Archive::new(journal, kept, tallies.clone())).unwrap();
        let folders = Folders::new(journal_folders(&folder).unwrap());
        let reader = PageReader::new(directory.clone(), Arc::new(folders));
        let acceptor = Acceptor::new(&config.tls_settings()).unwrap();
        let hasher = SeedableRandomState::with_seed(1, const { &SharedSeed::from_u64(0x77_68_69_6d) });
        let throttle = Throttle::new(throttle::Limits::of(&config.limits), 1);
        let shared = Arc::new(Shared::new(SharedParts {
            config: config.clone(),
            directory: directory.clone(),
            acceptor,
            throttle,
            hasher: hasher.clone(),
            workers: 1,
            inherited: InheritedTables { homes: 1, streams: std::collections::HashMap::new() },
        }));
        let post = mailbox::grid(1, config.limits.mailbox_room()).pop().unwrap();
        let clock = VirtualClock::new(1_000_000_000_000, 1000);
        let env = Env {
            shared,
            config,
            worker: 0,
            now: Millis(1000),
            clock: Clock::Virtual(clock.clone()),
            broadcast_max: BROADCAST_MAX,
        };
        let log = opened.logs.into_iter().next().unwrap();
        let actors = Actors::new(hasher, CommitTracker::new(log, tallies, Commit::AtOnce));
        let completions = Arc::new(Completions::new(1024, Arc::new(Asleep)));
        let jobs = Jobs::new(0, Backend::Inline(directory, Box::new(Mutex::new(reader))), completions);
        let fx = Effects::new(Links::new(post, vec![Arc::new(Asleep)]), jobs);
        let wires = Wires { input: vec![Vec::new(); clients], ..Wires::default() };
        let commands = Arc::new(CommandQueue::new(Arc::new(Asleep)));
        let mut bench = Bench {
            over,
            clients,
            worker: Worker::new(wires, Core::new(actors, env, fx, vec![false]), commands),
            now: 1000,
            clock,
            received: 0,
            _data: data,
        };
        bench.log_in(managed);
        bench
    }

    /// The clients come from the HTTP server, their handshakes behind them.
    fn hand_over(&mut self) {
        self.worker.driver_mut().accepted = self.clients;
        for client in 0..self.clients {
            let peer = IpAddr::V4(Ipv4Addr::from(0x7f00_0001 + client as u32));
            let start = WebSocketStart { tls: None, came: Vec::new(), unsent: 0, peer, secured: false };
            self.worker.core_mut().welcome(Wires::conn(client), start);
        }
    }

    fn turn(&mut self) {
        self.begin_turn();
        self.worker.turn(Some(Duration::ZERO)).unwrap();
        self.worker.driver_mut().listen();
    }

    fn begin_turn(&mut self) {
        self.now += 1;
        self.clock.set(self.now);
    }

    /// The iteration that is counted; `tools/instructions` finds it by its name.
    #[inline(never)]
    fn counted_turn(&mut self) {
        self.worker.turn(Some(Duration::ZERO)).unwrap();
    }

    /// Every client says the same, `{n}` being its number; the last answer must contain `expected`.
    fn say(&mut self, what: impl Fn(usize) -> String, expected: &str) {
        for client in 0..self.clients {
            let bytes = self.over.wire(&what(client));
            self.worker.driver_mut().input[client].extend_from_slice(&bytes);
            self.turn();
            // What the directory was asked for comes back an iteration later.
            self.turn();
            let answer = String::from_utf8_lossy(&self.worker.driver_mut().last).into_owned();
            assert!(answer.contains(expected), "{expected:?} is not in {answer:?}");
        }
    }

    /// Every client says this, in one iteration.
    fn everybody_says(&mut self, what: &str) {
        let bytes = self.over.wire(what);
        for input in &mut self.worker.driver_mut().input {
            input.extend_from_slice(&bytes);
        }
        self.turn();
    }

    fn log_in(&mut self, managed: bool) {
        if self.over == Over::WebSocket {
            self.hand_over();
        }
        let header = self.over.header();
        self.say(|_| header.into(), "</stream:features>");
        let plain = |client| base64(&format!("\0user{client}\0secret"));
        self.say(
            |client| {
                let plain = plain(client);
                format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>")
            },
            "<success",
        );
        self.say(|_| header.into(), "</stream:features>");
        let bind = |client| {
            format!(
                "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                <resource>p{client}</resource></bind></iq>"
            )
        };
        self.say(bind, "</jid>");
        if managed {
            self.say(|_| "<enable xmlns='urn:xmpp:sm:3'/>".into(), "<enabled");
        }
        self.say(|_| "<presence/>".into(), "<presence");
    }

    /// One iteration in which every sender's window of messages is routed, and acknowledged where streams are managed.
    fn round(&mut self, to_resource: bool, managed: bool) {
        for sender in (0..CLIENTS).step_by(2) {
            let recipient = sender + 1;
            let resource = if to_resource { format!("/p{recipient}") } else { String::new() };
            for number in 0..WINDOW {
                let message = format!(
                    "<message type='chat' to='user{recipient}@bench.example{resource}' id='w{number:x}-1f-2a'>\
                    <body>forty bytes of text, as people write them.</body></message>"
                );
                let bytes = self.over.wire(&message);
                self.worker.driver_mut().input[sender].extend_from_slice(&bytes);
            }
        }
        if managed {
            // One more than the messages: its own presence comes back to every client.
            let h = 1 + self.received;
            let acknowledgement = format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>");
            for recipient in (1..CLIENTS).step_by(2) {
                let bytes = self.over.wire(&acknowledgement);
                self.worker.driver_mut().input[recipient].extend_from_slice(&bytes);
            }
        }
        self.received += WINDOW;
        self.begin_turn();
        let before = (CALLS.get(), BYTES.get());
        self.counted_turn();
        TURNS.set((TURNS.get().0 + CALLS.get() - before.0, TURNS.get().1 + BYTES.get() - before.1));
        self.worker.driver_mut().listen();
    }
}

/// Iterations in which a page of an archive is given: its request, what a reader has found, and some to spare.
const PAGE_TURNS: usize = 6;

impl Bench {
    /// Allocations while a client is given the first page of its archive, the reader's among them, which runs in the worker's
    /// thread here.
    fn page(&mut self, client: usize, messages: usize) -> u64 {
        let query = format!(
            "<iq type='set' id='q'><query xmlns='urn:xmpp:mam:2' queryid='q'><set xmlns='http://jabber.org/protocol/rsm'>\
            <max>{messages}</max></set></query></iq>"
        );
        let bytes = self.over.wire(&query);
        self.worker.driver_mut().input[client].extend_from_slice(&bytes);
        let (mut calls, before) = (0, self.worker.driver_mut().messages);
        for _ in 0..PAGE_TURNS {
            self.begin_turn();
            let before = CALLS.get();
            self.counted_turn();
            calls += CALLS.get() - before;
            self.worker.driver_mut().listen();
        }
        let given = self.worker.driver_mut().messages - before;
        assert_eq!(given, 2 * messages as u64, "each comes in a message of its own");
        calls
    }
}

thread_local! {
    /// Allocations and their bytes within iterations of the worker.
    static TURNS: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

fn base64(text: &str) -> String {
    use ::base64::Engine;
    ::base64::engine::general_purpose::STANDARD.encode(text)
}

/// Routes messages one way. They allocate nothing; what upkeep of the log allocates now and then is no more than one
/// in a hundred. With archives a block of 64 messages becomes a row of the directory, once for the sender and once for the
/// recipient, and that is up to eight allocations: six of the worker at most, the others of the directory's writer, which has a
/// thread of its own in the server and runs in the worker's here. A transaction is up to sixteen more, and has 32 rows or more.
fn check(to_resource: bool, managed: bool, archived: bool) {
    check_over(Over::Tcp, to_resource, managed, archived);
}

/// As [`check`], over any transport.
fn check_over(over: Over, to_resource: bool, managed: bool, archived: bool) {
    let mut bench = Bench::new(over, managed, archived);
    let calls_max = |messages: u64| match archived {
        true => {
            let rows = 2 * messages / 64;
            8 * rows + 16 * (rows / 32)
        }
        false => messages / 100,
    };
    for _ in 0..WARM_UP {
        bench.round(to_resource, managed);
    }
    TURNS.set((0, 0));
    bench.worker.driver_mut().messages = 0;
    bench.worker.driver_mut().writes = 0;
    for _ in 0..COUNTED {
        bench.round(to_resource, managed);
    }
    let (calls, bytes) = TURNS.get();
    let messages = (COUNTED * WINDOW * CLIENTS / 2) as u64;
    assert_eq!(bench.worker.driver_mut().messages, messages, "every message arrives");
    let writes = bench.worker.driver_mut().writes;
    assert_eq!(writes, messages / WINDOW as u64, "one write takes all that an iteration has for a client");
    println!(
        "{:.3} allocations of {:.1} bytes in all for each of {messages} messages",
        calls as f64 / messages as f64,
        bytes as f64 / messages as f64
    );
    assert!(
        calls <= calls_max(messages),
        "{calls} allocations for {messages} messages; a debugger's breakpoint on `count` shows who makes them"
    );
}

#[test]
fn a_message_to_a_full_jid_allocates_nothing() {
    check(true, false, false);
}

#[test]
fn a_message_to_a_bare_jid_allocates_nothing() {
    check(false, false, false);
}

#[test]
fn a_message_between_managed_streams_allocates_nothing() {
    check(true, true, false);
}

#[test]
fn an_archived_message_allocates_a_little_for_each_block_of_the_index() {
    check(true, false, true);
    check(true, true, true);
}

/// Longer pages, in allocations for each message that they have more: those are of the index, which has 64 messages in a row, and of
/// reads, which are of as many.
const PAGE_CALLS_MAX: f64 = 0.5;

#[test]
fn a_message_of_an_archive_is_given_without_an_allocation() {
    let mut bench = Bench::new(Over::Tcp, false, true);
    for _ in 0..WARM_UP + COUNTED / 2 {
        bench.round(true, false);
    }
    // Rows that are due go to the directory, every now and then.
    (0..200).for_each(|_| bench.turn());
    // Buffers reach their size with the first ones.
    let [short, long] = [50, 250].map(|messages| (0..3).map(|_| bench.page(1, messages)).last().unwrap());
    let each = long.saturating_sub(short) as f64 / 200.0;
    println!(
        "{short} allocations for a page of 50 messages, {long} for one of 250: {each:.3} for each message"
    );
    assert!(each <= PAGE_CALLS_MAX, "a debugger's breakpoint on `count` shows who makes them");
}

#[test]
fn a_message_over_websocket_allocates_nothing() {
    check_over(Over::WebSocket, true, false, false);
    check_over(Over::WebSocket, true, true, false);
}

/// Bytes of the worker's thread for each client, once all have been quiet for some seconds.
fn idle_bytes(over: Over, managed: bool) -> i64 {
    let before = LIVE.get();
    let mut bench = Bench::new(over, managed, true);
    // All speak and are answered in one iteration, so that what the sessions share has its size in either case.
    let ping = "<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>";
    bench.everybody_says(ping);
    bench.worker.driver_mut().requests = 0;
    // The stream is looked at once a second; one look may come before it is quiet.
    for _ in 0..3 {
        bench.now += 1000;
        bench.turn();
    }
    if managed {
        assert_eq!(bench.worker.driver_mut().requests, CLIENTS as u64, "each client is asked once");
        // Its own presence and the answer to the ping.
        bench.everybody_says("<a xmlns='urn:xmpp:sm:3' h='2'/>");
        // What it may ask for at once is whole again.
        for _ in 0..2 {
            bench.now += 1000;
            bench.turn();
        }
    }
    // Buffers of the driver belong to no session.
    let driver = bench.worker.driver_mut();
    (driver.spent, driver.heard, driver.last) = (Vec::new(), Vec::new(), Vec::new());
    (LIVE.get() - before) / CLIENTS as i64
}

#[test]
fn an_idle_session_is_asked_to_acknowledge_and_then_holds_nothing_that_it_was_sent() {
    idle_bytes(Over::Tcp, false); // what is made once is there after this
    let (plain, managed) = (idle_bytes(Over::Tcp, false), idle_bytes(Over::Tcp, true));
    let more = managed - plain;
    println!("an idle session holds {more} bytes more with stream management");
    assert!(more > 0, "the count misses something: {more} bytes");
    assert!(more <= IDLE_BYTES_MAX, "an idle session with stream management holds {more} bytes more");
}

#[test]
fn an_idle_session_over_websocket_holds_no_more_than_one_over_tcp() {
    idle_bytes(Over::WebSocket, true);
    let (tcp, websocket) = (idle_bytes(Over::Tcp, true), idle_bytes(Over::WebSocket, true));
    println!("an idle session holds {tcp} bytes over TCP, {websocket} over WebSocket");
    // Nothing of it is the session's: the worker keeps some emptied buffers for its next output, and an answer in a frame has
    // made them longer by the declaration of a namespace, which a buffer's capacity doubles at the most.
    assert!(websocket - tcp <= BUFFER_BYTES_MAX, "{websocket} bytes over WebSocket, {tcp} over TCP");
}
