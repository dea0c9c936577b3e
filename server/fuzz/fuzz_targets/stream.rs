//! A connection before login: whatever arrives, in whatever pieces, the worker answers with well-formed XML or ends it.
//!
//! The worker is the real one without its driver, over a real, empty directory. The first byte chooses whether logins
//! without TLS are allowed, whether a header precedes the rest, and how long the pieces are.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use libfuzzer_sys::fuzz_target;
use whimbrel_server::clock::{Clock, VirtualClock};
use whimbrel_server::config::Config;
use whimbrel_server::env::{BROADCAST_MAX, Env};
use whimbrel_server::exchange::links::Links;
use whimbrel_server::proto::sasl::throttle::{self, Throttle};
use whimbrel_server::runtime::driver::{CloseCause, ConnId, Event, ListenerId, Wake};
use whimbrel_server::runtime::mailbox::grid;
use whimbrel_server::runtime::outbox::Action;
use whimbrel_server::runtime::timer::Millis;
use whimbrel_server::shared::{InheritedTables, Shared, SharedParts};
use whimbrel_server::tls::Acceptor;
use whimbrel_server::user::actors::{Actors, Effects};
use whimbrel_server::user::jobs::{Backend, Completions, Jobs};
use whimbrel_server::user::commits::{Commit, CommitTracker};
use whimbrel_server::worker::core::Core;
use whimbrel_storage::directory::{Directory, Options};
use whimbrel_storage::archive::readers::{Folders, PageReader};
use whimbrel_storage::archive::{Archive, Tallies};
use whimbrel_storage::log::{LogsAt, journal_folders};

const HEADER: &[u8] = b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>";

struct Asleep;

impl Wake for Asleep {
    fn wake(&self) {}
}

/// The worker, and the directory it keeps open.
struct Bench {
    core: Core,
    clock: Arc<VirtualClock>,
    generation: u32,
    _data: tempfile::TempDir,
}

fn bench(allow_plaintext: bool) -> Bench {
    let data = tempfile::tempdir().expect("a directory for the test");
    let mut config = Config { allow_plaintext, data: data.path().to_owned(), ..Config::default() };
    config.auth.scram_iterations = 4096;
    config.log_segment_mib = 2;
    let directory = Directory::open(
        &data.path().join("directory"),
        &Options { domain: config.domain.clone(), map_bytes_max: 1 << 24, ..Options::default() },
    )
    .expect("an empty directory opens");
    let acceptor = Acceptor::new(&config.tls_settings()).expect("a certificate can be made");
    let config = Arc::new(config);
    let (folder, options, tallies) = (data.path().join("log"), config.log_options(), Arc::new(Tallies::default()));
    let logs = LogsAt { path: &folder, options: &options, shards: 1, home: &|_| None, progress: &|_| {} };
    let kept = config.archive_settings();
    let log = logs
        .open(None, &|journal| Archive::new(journal, kept, tallies.clone()))
        .expect("an empty log opens")
        .logs
        .pop()
        .expect("one worker");
    let folders = Folders::new(journal_folders(&folder).expect("its layout can be read"));
    let reader = PageReader::new(directory.clone(), Arc::new(folders));
    let hasher = SeedableRandomState::with_seed(1, SharedSeed::global_fixed());
    let inherited = InheritedTables { homes: 1, streams: Default::default() };
    let throttle = Throttle::new(throttle::Limits::of(&config.limits), 1);
    let shared = Arc::new(Shared::new(SharedParts {
        config: config.clone(),
        directory: directory.clone(),
        acceptor,
        throttle,
        hasher: hasher.clone(),
        workers: 1,
        inherited,
    }));
    let post = grid(1, config.limits.mailbox_room()).pop().expect("one worker");
    let clock = VirtualClock::new(1_700_000_000_000, 1000);
    let env = Env {
        shared,
        config,
        worker: 0,
        now: Millis(1000),
        clock: Clock::Virtual(clock.clone()),
        broadcast_max: BROADCAST_MAX,
    };
    let actors = Actors::new(hasher, CommitTracker::new(log, tallies, Commit::AtOnce));
    let completions = Arc::new(Completions::new(1024, Arc::new(Asleep)));
    let jobs = Jobs::new(0, Backend::Inline(directory, Box::new(Mutex::new(reader))), completions);
    let fx = Effects::new(Links::new(post, vec![Arc::new(Asleep)]), jobs);
    Bench { core: Core::new(actors, env, fx, vec![false]), clock, generation: 0, _data: data }
}

thread_local! {
    static BENCHES: std::cell::RefCell<[Bench; 2]> = std::cell::RefCell::new([bench(false), bench(true)]);
}

fuzz_target!(|data: &[u8]| {
    let Some((&choice, rest)) = data.split_first() else { return };
    BENCHES.with_borrow_mut(|benches| connection(&mut benches[usize::from(choice & 1)], choice, rest));
});

fn connection(bench: &mut Bench, choice: u8, rest: &[u8]) {
    let (core, clock) = (&mut bench.core, &bench.clock);
    bench.generation += 1;
    let conn = ConnId { index: 0, generation: bench.generation };
    core.handle(Event::Accepted { conn, listener: ListenerId(0), peer: IpAddr::V4(Ipv4Addr::LOCALHOST) });
    let stream = if choice & 2 == 0 { [HEADER, rest].concat() } else { rest.to_vec() };
    let piece = 1 << (choice >> 2 & 7);
    let mut answers = Vec::new();
    let mut gone = false;
    for bytes in stream.chunks(piece) {
        gone = iterate((core, clock), conn, Some(bytes), &mut answers);
        if gone {
            break;
        }
    }
    // What waits for its turn, or for the directory.
    while !gone && (core.has_turns() || core.has_completions()) {
        gone = iterate((core, clock), conn, None, &mut answers);
    }
    core.handle(Event::Closed { conn, cause: CloseCause::Local });
    let now = core.env().now;
    let entries = core.effects_mut().out.take(now, false);
    core.effects_mut().out.put_back(entries);
    assert!(core.sessions().is_empty(), "the session outlives its connection");
    check(&answers);
}

/// One iteration, in the order of the worker's own; `true` when the server has let go of the connection.
fn iterate(
    (core, clock): (&mut Core, &VirtualClock),
    conn: ConnId,
    bytes: Option<&[u8]>,
    answers: &mut Vec<u8>,
) -> bool {
    clock.set(core.env().now.0 + 10);
    core.set_now();
    core.run_turns();
    core.begin_poll(false);
    if let Some(bytes) = bytes {
        core.handle(Event::Received { conn, bytes });
    }
    core.run_timers();
    core.take_completions();
    core.retry_writes();
    core.keep_messages();
    let mut gone = false;
    let now = core.env().now;
    let entries = core.effects_mut().out.take(now, false);
    for entry in &entries {
        assert_eq!(entry.conn, conn);
        answers.extend_from_slice(&entry.plain);
        gone |= matches!(entry.action, Action::Close(_) | Action::Detach);
    }
    core.effects_mut().out.put_back(entries);
    core.lift_choked();
    core.confirm_flushed();
    core.dispatch();
    gone
}

/// What the server said is a stream, whole or cut between two elements; restarts begin another one.
fn check(answers: &[u8]) {
    let text = std::str::from_utf8(answers).expect("the server writes UTF-8");
    for stream in text.split("<?xml").skip(1) {
        let stream = format!("<?xml{stream}");
        let whole =
            if stream.contains("</stream:stream>") { stream } else { format!("{stream}</stream:stream>") };
        if let Err(error) = roxmltree::Document::parse(&whole) {
            panic!("the server wrote what is not XML: {error}\n{whole}");
        }
    }
}
