//! What push costs: measurements, for a quiet machine and a release build (docs/performance.md).
//!
//! ```sh
//! cargo test --release -p whimbrel-server --test suite push::load -- --ignored --nocapture --test-threads 1
//! ```
//!
//! The server is the real program in a process of its own, whose memory is that of its allocator; this one has the clients and the
//! doubles of the push services. `WHIMBREL_SLEEPERS` (accounts: 100,000 that are written to, 20,000 whose sessions sleep)
//! and `WHIMBREL_SECONDS` make a run smaller or longer.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use whimbrel_push::doubles::{Apns, Authority, Fcm, Options};
use whimbrel_push::{Clock, VapidKey};
use whimbrel_server::proto::push::PushService;
use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::{PushDevice, WriteTransaction, run_inline};

use crate::support::Client;
use crate::support::managed::chat;
use crate::support::program::{Program, Start};

/// The password of every account.
const PASSWORD: &str = "right";

/// Accounts that are made in one transaction.
const BATCH: usize = 5000;

/// Messages a second to accounts that sleep, and the clients that write them.
const RATE: u32 = 1000;
const WRITERS: u32 = 20;

/// Pairs of clients that talk meanwhile, and the pause between two messages of one.
const PAIRS: usize = 10;
const PACE: Duration = Duration::from_millis(50);

/// What a run waits for notifications that are on their way, at most.
const REST: Duration = Duration::from_secs(30);

/// Bytes that a session which sleeps may take, with its account, its devices and its part of the tables.
const SLEEPER_BYTES_MAX: u64 = 2048;

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

fn phone(n: usize) -> String {
    format!("phone{n}")
}

/// Makes accounts: phones with devices, by turns of FCM and APNs, and others without.
fn make_accounts(start: &Start, phones: usize, others: &[String]) {
    let directory = start.directory();
    let credentials = Credentials::derive(PASSWORD, NonZeroU32::MIN).unwrap();
    let names: Vec<String> = (0..phones).map(phone).chain(others.iter().cloned()).collect();
    for (batch, names) in names.chunks(BATCH).enumerate() {
        let (names, credentials) = (names.to_vec(), credentials.clone());
        let job = move |transaction: &mut WriteTransaction<'_>| {
            for (at, name) in names.iter().enumerate() {
                transaction.create_account(name, &credentials)?;
                let n = batch * BATCH + at;
                if n < phones {
                    transaction.enable_push(name, &device(n), 1)?;
                }
            }
            Ok(())
        };
        run_inline(&directory, Box::new(job)).unwrap();
    }
}

fn device(n: usize) -> PushDevice {
    let (service, token) = match n.is_multiple_of(2) {
        true => (PushService::Fcm, format!("token-of-{n}")),
        false => (PushService::Apns, format!("{n:064x}")),
    };
    PushDevice {
        node: "phone".into(),
        service: service.code(),
        token,
        resource: "phone".into(),
        ..PushDevice::default()
    }
}

fn log_in(server: &Program, name: &str, resource: &str) -> Client {
    let mut client = Client::connect(server.address());
    client.log_in(name, PASSWORD, resource);
    client
}

/// The doubles, and the configuration that names them.
struct Doubles {
    fcm: Fcm,
    apns: Apns,
    config: String,
    _files: TempDir,
}

impl Doubles {
    fn start() -> Doubles {
        let authority = Authority::new();
        let fcm = Fcm::start(&authority, Options::default(), Clock::system()).unwrap();
        let apns = Apns::start(&authority, Options::default(), Clock::system()).unwrap();
        let files = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = files.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (roots, account) = (write("roots.pem", authority.pem()), write("fcm.json", &fcm.account_json()));
        let key = write("key.p8", apns.key_pem());
        let config = format!(
            "[push]\nroots = '{roots}'\n[push.fcm]\naccount = '{account}'\nendpoint = '{}'\n\
             [push.apns]\nkey = '{key}'\nkey_id = '{}'\nteam = '{}'\ntopic = '{}'\nendpoint = '{}'\n",
            fcm.url(),
            apns.key_id(),
            apns.team_id(),
            apns.topic(),
            apns.url()
        );
        Doubles { fcm, apns, config, _files: files }
    }
}

/// Clients that talk to each other, and what their messages take.
struct Talk {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Duration>>>,
}

impl Talk {
    fn begin(server: &Program) -> Talk {
        let is_over = Arc::new(AtomicBool::new(false));
        let threads = (0..PAIRS).map(|pair| {
            let (mut one, mut other) =
                (log_in(server, &format!("one{pair}"), "r"), log_in(server, &format!("other{pair}"), "r"));
            one.send("<presence/>");
            other.send("<presence/>");
            one.settle();
            other.settle();
            let is_over = is_over.clone();
            std::thread::spawn(move || {
                let mut took = Vec::new();
                for n in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let begun = Instant::now();
                    one.send(&chat(&other.jid, n));
                    other.next_message();
                    took.push(begun.elapsed());
                    std::thread::sleep(PACE);
                }
                took
            })
        });
        Talk { threads: threads.collect(), is_over }
    }

    /// Median, 99 of 100, the longest.
    fn end(self) -> [Duration; 3] {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all: Vec<Duration> =
            self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        all.sort_unstable();
        [all.len() / 2, all.len() * 99 / 100, all.len() - 1].map(|at| all[at])
    }
}

/// Writes to phones, each in its turn, for so many seconds; messages written.
fn write_to_phones(server: &Program, phones: usize, seconds: usize) -> usize {
    let next = Arc::new(Mutex::new(0usize));
    let threads: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let mut client = log_in(server, &format!("writer{writer}"), "r");
            let (next, end) = (next.clone(), Instant::now() + Duration::from_secs(seconds as u64));
            let pause = Duration::from_secs(1) * WRITERS / RATE;
            std::thread::spawn(move || {
                let mut due = Instant::now();
                while due < end {
                    let n = {
                        let mut next = next.lock().unwrap();
                        *next += 1;
                        *next
                    };
                    client.send(&chat(&format!("{}@localhost", phone(n % phones)), n));
                    due += pause;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                client.settle();
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    *next.lock().unwrap()
}

/// One server under this load; `config` is the rest of its configuration. What was seen, by name.
fn measure(config: &str, phones: usize, seconds: usize) -> HashMap<&'static str, u64> {
    let start = Start::new(&[]).with_config(config);
    let others: Vec<String> = (0..PAIRS)
        .flat_map(|pair| [format!("one{pair}"), format!("other{pair}")])
        .chain((0..WRITERS).map(|writer| format!("writer{writer}")))
        .collect();
    make_accounts(&start, phones, &others);
    let server = start.run();
    let talk = Talk::begin(&server);
    let before = server.figures();
    let written = write_to_phones(&server, phones, seconds);
    let [half, most, longest] = talk.end();
    let rest = Instant::now();
    let figures = || {
        let figures = server.figures();
        let sent = figures.get("push.sent").copied().unwrap_or(0);
        (figures, sent)
    };
    let (mut after, mut sent) = figures();
    // What the push service that works has not been told yet.
    while rest.elapsed() < REST {
        std::thread::sleep(Duration::from_secs(1));
        let before = sent;
        (after, sent) = figures();
        if sent == before {
            break;
        }
    }
    let of = |name: &str| after.get(name).copied().unwrap_or(0);
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap();
    let seen = HashMap::from([
        ("messages written", written as u64),
        ("microseconds of a message between others, half", micros(half)),
        ("microseconds of a message between others, 99 of 100", micros(most)),
        ("microseconds of a message between others, the longest", micros(longest)),
        ("allocated before", before.get("server.allocator.in_use").copied().unwrap_or(0)),
        ("allocated after", of("server.allocator.in_use")),
        ("told", of("push.told")),
        ("sent", of("push.sent")),
        ("wait", of("queue.push.length")),
        ("refused for want of room", of("refused.push_queue")),
        ("commits", of("log.commits")),
    ]);
    server.stop();
    seen
}

#[test]
#[ignore = "a measurement"]
fn messages_to_sleepers_while_one_push_service_fails() {
    let (phones, seconds) = (number("WHIMBREL_SLEEPERS", 100_000), number("WHIMBREL_SECONDS", 60));
    let doubles = Doubles::start();
    doubles.fcm.journal().go_down();
    let without = measure("", phones, seconds);
    let with = measure(&doubles.config, phones, seconds);
    println!("{phones} accounts with devices, {seconds} seconds; FCM is out of reach, APNs is there");
    let mut names: Vec<_> = with.keys().copied().collect();
    names.sort_unstable();
    for name in names {
        println!("{name:>55} {:>12} without push {:>12} with", without[name], with[name]);
    }
    assert_eq!(doubles.apns.journal().violations(), [""; 0]);
    assert!(with["sent"] > 0 && without["told"] == 0, "half of the devices are told");
    // Half of those who were written to have a device of the push service that works.
    let devices = with["messages written"].min(phones as u64) / 2;
    assert!(with["sent"] >= devices - devices / 10, "{with:?}");
}

/// Threads that log in phones.
const LOGINS: usize = 4;

/// What the phones of `range` do: they enable stream management, become available, and lose their connections.
fn fall_asleep(server: &Program, range: std::ops::Range<usize>) {
    let end = range.end;
    std::thread::scope(|scope| {
        for thread in 0..LOGINS {
            let own = range.clone().skip(thread).step_by(LOGINS);
            scope.spawn(move || {
                for n in own {
                    let mut client = log_in(server, &phone(n), "phone");
                    client.enable_sm();
                    client.send("<presence/>");
                    client.settle();
                    client.cut();
                }
            });
        }
    });
    await_asleep(server, end);
    // Buffers of those who have gone are given back.
    std::thread::sleep(Duration::from_secs(5));
}

fn await_asleep(server: &Program, count: usize) {
    let since = Instant::now();
    loop {
        let asleep = server.figures()["sm.asleep"];
        if asleep == count as u64 {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(120), "{asleep} of {count} sleep");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "a measurement"]
fn what_a_session_that_sleeps_takes() {
    let phones = number("WHIMBREL_SLEEPERS", 20_000);
    let files = tempfile::tempdir().unwrap();
    let key = files.path().join("vapid.pem");
    std::fs::write(&key, VapidKey::generate_pem().unwrap()).unwrap();
    // Half of the places of each worker are for those that sleep.
    let start = Start::new(&[]).with_accounts(phones).with_config(&format!(
        "[limits]\nsm_resume_seconds = 1\nsessions_per_address = 1000000\nsm_detached_sessions = {}\n\
         upgrade_seconds = 60\ndrain_seconds = 60\n[push.webpush]\nkey = '{}'\ncontact = 'mailto:a@localhost'\n",
        2 * phones + 1000,
        key.display()
    ));
    make_accounts(&start, phones, &[]);
    let server = start.run();
    let allocated = |server: &Program| server.figures()["server.allocator.in_use"];
    let empty = allocated(&server);
    fall_asleep(&server, 0..phones / 2);
    let half = allocated(&server);
    fall_asleep(&server, phones / 2..phones);
    let all = allocated(&server);
    let each = all.saturating_sub(half) / (phones - phones / 2) as u64;
    println!(
        "{phones} sessions that sleep: {empty}, {half}, {all} bytes allocated with none, half, all: {each} bytes each"
    );
    let stopping = Instant::now();
    server.stop();
    let stopped = stopping.elapsed();
    let bytes = std::fs::metadata(start.data().join("sessions.state")).unwrap().len();
    let starting = Instant::now();
    let server = start.run();
    let started = starting.elapsed();
    await_asleep(&server, phones);
    println!(
        "a stop takes {} ms and {bytes} bytes ({} each), a start with them {} ms; then {} bytes are allocated",
        stopped.as_millis(),
        bytes / phones as u64,
        started.as_millis(),
        allocated(&server)
    );
    assert!(each < SLEEPER_BYTES_MAX, "{each} bytes each");
    let mut client = Client::connect(server.address());
    client.log_in(&phone(0), PASSWORD, "phone");
    // It has replaced the one that slept.
    await_asleep(&server, phones - 1);
    server.stop();
}
