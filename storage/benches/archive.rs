//! What the archives of a one-to-one message cost: CPU time, for both copies together. `cargo bench -p whimbrel-storage --bench
//! archive`, with `-- ACTORS` for so many only; the folder is `$WHIMBREL_BENCH_DIR` or the system's temporary one.
//!
//! All runs on one thread, in turns, each measured by itself: what a worker does to append, to make rows and to let go of
//! them; and what the directory's thread does to write them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::archive::{Archive, Settings, Tallies};
use whimbrel_storage::directory::{self, Directory, Shares, run_inline};
use whimbrel_storage::log::{ActorCopy, Body, Flags, Log, LogsAt, Options, Origin, PeerHash, Sequence};

/// Messages of a run.
const MESSAGES: u64 = 1_000_000;
/// Messages between two commits of the log.
const ROUND: u64 = 1000;
/// Rows of a transaction, as the server has them.
const ROWS: usize = 512;
/// With how many others each actor talks.
const PEERS: u64 = 4;

/// Nanoseconds that this thread has been on a processor.
#[expect(unsafe_code, reason = "a system call")]
fn cpu_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to what it is given, which lives on this stack.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    assert_eq!(result, 0, "Linux counts it");
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// What the parts of a run have cost, in nanoseconds.
#[derive(Default)]
struct Cost {
    append: u64,
    gather: u64,
    directory: u64,
    done: u64,
}

struct Bench {
    _folder: TempDir,
    directory: Directory,
    tallies: Arc<Tallies>,
    log: Log<Archive>,
    cost: Cost,
}

fn open_log(path: &Path, tallies: &Arc<Tallies>) -> Log<Archive> {
    let options = Options {
        checkpoint_bytes: 0,
        log_bytes_max: 4 << 30,
        segment_bytes: 64 << 20,
        ..Options::default()
    };
    let at = LogsAt { path, options: &options, shards: 1, home: &|_| Some(0), progress: &|_| {} };
    let opened = at.open(None, &|journal| Archive::new(journal, Settings::default(), tallies.clone()));
    opened.expect("the log opens").logs.pop().expect("one log")
}

impl Bench {
    fn new() -> Self {
        let base = std::env::var_os("WHIMBREL_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let folder = tempfile::tempdir_in(base).expect("a temporary folder");
        let options = directory::Options {
            domain: "example.org".into(),
            durable: false,
            ..directory::Options::default()
        };
        let directory =
            Directory::open(&folder.path().join("directory"), &options).expect("the directory opens");
        let tallies = Arc::new(Tallies::default());
        let log = open_log(&folder.path().join("log"), &tallies);
        Self { _folder: folder, directory, tallies, log, cost: Cost::default() }
    }

    /// Appends a round of messages and has them acknowledged.
    fn append(&mut self, from_message: u64, (actors, is_archived): (u64, bool)) {
        let begun = cpu_ns();
        let mut results = Vec::with_capacity(2);
        for n in from_message..from_message + ROUND {
            let from = n * 7 % actors;
            let to = (from + 1 + n / actors % PEERS) % actors;
            let body = Body {
                time_ms: 1_700_000_000_000 + n / 200,
                origin: Origin { stream: 1, number: n as u32 },
                payload: &[b'x'; 220],
            };
            let peer = |actor: u64| PeerHash(actor as u32 + 1);
            let flags = if is_archived { Flags::ARCHIVED } else { Flags::NONE };
            let copies = [
                ActorCopy { actor: ActorId::user(to), flags, peer: peer(from) },
                ActorCopy { actor: ActorId::user(from), flags: flags.and(Flags::NOT_QUEUED), peer: peer(to) },
            ];
            self.log.append_for(&copies, &body, &mut results);
            results.iter().for_each(|result| assert!(result.is_ok(), "{result:?}"));
            self.log.trim_up_to(ActorId::user(to), Sequence::MAX);
        }
        self.cost.append += cpu_ns() - begun;
    }

    /// Has the rows written that are due, when they are enough.
    fn write(&mut self, rows_min: usize) {
        if self.log.second().sealed_blocks() < rows_min {
            return;
        }
        let begun = cpu_ns();
        let Some(changes) = self.log.second_mut().take_changes(ROWS) else { return };
        let changes = Arc::new(changes);
        let gathered = cpu_ns();
        let given = changes.clone();
        let write: directory::Job<_> =
            Box::new(move |transaction| transaction.apply_archive(&given, Shares::default()));
        let applied = run_inline(&self.directory, write).expect("the directory takes it");
        let written = cpu_ns();
        self.tallies.apply(&applied.segments);
        self.log.second_mut().changes_done(&changes, true);
        drop(changes);
        self.cost.gather += gathered - begun;
        self.cost.directory += written - gathered;
        self.cost.done += cpu_ns() - written;
    }

    fn run(mut self, actors: u64, is_archived: bool) {
        // As many as it takes until memory is in use again that was in use before.
        let warm = MESSAGES / 5;
        let mut at = 0;
        while at < MESSAGES + warm {
            if at == warm {
                self.cost = Cost::default();
            }
            self.append(at, (actors, is_archived));
            at += ROUND;
            self.log.commit_now().expect("the disk takes it");
            self.log.maintain(at / 200);
            self.log.keep_files_now();
            self.write(ROWS);
        }
        let Cost { append, gather, directory, done } = self.cost;
        let ns = |total: u64| total / MESSAGES;
        println!(
            "{actors} actors, {}: append {} ns, gather {} ns, directory {} ns, done {} ns a message",
            if is_archived { "archived" } else { "not archived" },
            ns(append),
            ns(gather),
            ns(directory),
            ns(done)
        );
    }
}

fn main() {
    let given: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let actors = if given.is_empty() { vec![200, 20_000] } else { given };
    for _ in 0..3 {
        for &actors in &actors {
            for is_archived in [false, true] {
                Bench::new().run(actors, is_archived);
            }
        }
    }
}
