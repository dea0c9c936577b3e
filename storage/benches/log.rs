//! What the log costs. `cargo bench -p whimbrel-storage --bench log`; the folder is `$WHIMBREL_BENCH_DIR` or the
//! system's temporary one, which must be on the disk that is to be measured.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::log::{
    Durability, Flags, Log, Message, Options, Origin, PeerHash, Sequence, Syncer, verify,
};

const USERS: u64 = 1000;
/// Messages between two requests for a commit, as a busy round of an event loop has.
const ROUND: u64 = 64;

fn folder() -> TempDir {
    let base = std::env::var_os("WHIMBREL_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::tempdir_in(base).expect("a temporary folder")
}

fn open(folder: &TempDir, durability: Durability) -> Log {
    let options = Options { durability, checkpoint_bytes: 0, log_bytes_max: 4 << 30, ..Options::default() };
    let opened = Log::open_all(folder.path(), &options, 1, &|_| Some(0), &|_| {}).expect("the log opens");
    opened.logs.into_iter().next().expect("one log")
}

fn append(log: &mut Log, user: u64, payload: &[u8]) -> Sequence {
    let origin = Origin { stream: 1, number: user as u32 };
    let message = Message {
        actor: ActorId::user(user),
        time_ms: 1,
        flags: Flags::NONE,
        origin,
        peer: PeerHash::NONE,
        payload,
    };
    log.append(&message).expect("there is room").sequence
}

/// As a server does it: append, deliver, ask for a commit; a round later the recipients have acknowledged. Ends when all
/// is committed.
fn serve(log: &mut Log, messages: u64, payload: &[u8]) -> Duration {
    let begun = Instant::now();
    for round in 0..messages.div_ceil(ROUND) {
        for n in 0..ROUND {
            append(log, (round * ROUND + n) % USERS, payload);
        }
        log.request_commit();
        for n in 0..ROUND {
            log.trim_up_to(ActorId::user((round * ROUND + n) % USERS), Sequence::MAX);
        }
        if round % 256 == 0 {
            log.maintain(begun.elapsed().as_millis() as u64);
        }
    }
    log.request_commit();
    while log.committed() < log.appended() {
        std::thread::yield_now();
    }
    begun.elapsed()
}

fn commits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append, trim, commit");
    group.sample_size(10).measurement_time(Duration::from_secs(4)).throughput(Throughput::Elements(1));
    for (name, durability) in [("process", Durability::Process), ("disk", Durability::Disk)] {
        for bytes in [150, 1024] {
            let folder = folder();
            let mut log = open(&folder, durability);
            let mut syncer = Syncer::start(std::slice::from_ref(&log), |_| {}).expect("it starts");
            let payload = vec![b'x'; bytes];
            group.bench_function(BenchmarkId::new(name, bytes), |bencher| {
                bencher.iter_custom(|messages| serve(&mut log, messages.max(ROUND), &payload));
            });
            let metrics = log.metrics();
            println!(
                "  commit latency in us: half under {}, 99% under {}; messages a commit: half under {}; waits for segments: {}",
                metrics.commit_us.at_most(0.5),
                metrics.commit_us.at_most(0.99),
                metrics.commit_messages.at_most(0.5),
                metrics.segment_waits.load(std::sync::atomic::Ordering::Relaxed)
            );
            syncer.finish();
        }
    }
    group.finish();
    let mut group = criterion.benchmark_group("append alone");
    group.sample_size(10).throughput(Throughput::Elements(1));
    for bytes in [150, 1024] {
        let folder = folder();
        let mut log = open(&folder, Durability::Process);
        let mut syncer = Syncer::start(std::slice::from_ref(&log), |_| {}).expect("it starts");
        let payload = vec![b'x'; bytes];
        let mut user = 0;
        group.bench_function(bytes.to_string(), |bencher| {
            bencher.iter(|| {
                user += 1;
                if user % 100_000 == 0 {
                    (0..USERS).for_each(|user| _ = log.purge(ActorId::user(user)));
                    log.maintain(user);
                }
                append(&mut log, user % USERS, &payload)
            });
        });
        syncer.finish();
    }
    group.finish();
}

/// A log with so many messages waiting, and its bytes on disk.
fn filled(messages: u64, payload: &[u8]) -> (TempDir, Log) {
    let folder = folder();
    let mut log = open(&folder, Durability::Process);
    for n in 0..messages {
        append(&mut log, n % USERS, payload);
    }
    (folder, log)
}

fn recovery(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recovery scan");
    group.sample_size(10).measurement_time(Duration::from_secs(4));
    for bytes in [150, 1024] {
        let (folder, log) = filled(if bytes == 150 { 1_000_000 } else { 250_000 }, &vec![b'x'; bytes]);
        let used = log.appended().0;
        drop(log);
        group.throughput(Throughput::Bytes(used));
        group.bench_function(bytes.to_string(), |bencher| {
            bencher.iter(|| black_box(open(&folder, Durability::Process)));
        });
        assert_eq!(verify(folder.path()).expect("it can be read").damage, []);
    }
    group.finish();
    let (folder, log) = filled(1_000_000, &[b'x'; 150]);
    log.close().expect("it closes");
    let begun = Instant::now();
    let log = open(&folder, Durability::Process);
    println!("opening 1,000,000 waiting messages with a checkpoint: {:?}", begun.elapsed());
    drop(log);
}

fn reading(criterion: &mut Criterion) {
    let (_folder, mut log) = filled(0, &[]);
    for _ in 0..100_000 {
        append(&mut log, 1, &[b'x'; 150]);
    }
    let mut group = criterion.benchmark_group("reading 100,000 waiting messages");
    group.sample_size(10).throughput(Throughput::Elements(100_000));
    group.bench_function("one user", |bencher| {
        bencher.iter(|| log.pending(ActorId::user(1)).filter(Result::is_ok).count());
    });
    group.finish();
}

fn sizes(_: &mut Criterion) {
    for bytes in [150_usize, 1024] {
        for (users, messages) in [(1_000_000_u64, 1_000_000_u64), (1000, 1_000_000), (1, 100_000)] {
            let folder = folder();
            let mut log = open(&folder, Durability::Process);
            for n in 0..messages {
                append(&mut log, n % users, &vec![b'x'; bytes]);
            }
            println!(
                "payload {bytes}, {messages} messages for {users} users: index {:.1} bytes a message, disk {:.0} bytes a message",
                log.index_bytes() as f64 / messages as f64,
                log.appended().0 as f64 / messages as f64
            );
        }
    }
}

criterion_group!(benches, commits, recovery, reading, sizes);
criterion_main!(benches);
