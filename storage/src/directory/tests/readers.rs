//! Those who read: many at once, and some who never end.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::*;

/// Where the child finds the directory.
const BESIDE: &str = "WHIMBREL_TEST_BESIDE";

/// The other process of the next test.
#[test]
#[ignore = "waits to be killed"]
fn a_process_that_reads_and_never_ends() {
    let path = std::env::var_os(BESIDE).expect("the test says where");
    let directory = Directory::open_beside(Path::new(&path), &options()).expect("it opens beside");
    let read = directory.read(|_| -> Result<(), DirectoryError> {
        println!("reading");
        loop {
            thread::park();
        }
    });
    read.expect("it is killed before");
}

#[test]
fn a_reader_that_was_killed_costs_no_room_for_ever() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("directory");
    let directory =
        Directory::open(&path, &Options { map_bytes_max: 16 << 20, ..options() }).expect("it opens");
    add_account(&directory, "juliet");
    let renew = |number: u64| {
        let vcard = long(10 << 10, &number.to_string());
        run_inline(&directory, Box::new(move |t| t.set_vcard("juliet", vcard.as_bytes())))
    };
    renew(0).expect("it is written");
    let mut other = Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "--nocapture"])
        .arg("directory::tests::readers::a_process_that_reads_and_never_ends")
        .env(BESIDE, &path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let output = BufReader::new(other.stdout.take().expect("it was asked for"));
    let is_reading = output.lines().map_while(Result::ok).any(|line| line.contains("reading"));
    other.kill().expect("it is ours");
    other.wait().expect("it ends");
    assert!(is_reading);
    // More than the map has room for.
    for number in 1..1600 {
        renew(number).unwrap_or_else(|error| panic!("{number}: {error}"));
    }
}

/// Nanoseconds that this thread has run: others may use the machine as well.
fn ran_ns() -> u64 {
    let all = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells it");
    all.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number")
}

/// Reads on so many threads for two seconds, and how many nanoseconds each read ran.
fn ns_a_read(threads: usize, read: &(dyn Fn() + Sync)) -> u64 {
    let (is_over, reads, ran) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let (begun, mut own) = (ran_ns(), 0);
                while !is_over.load(Ordering::Relaxed) {
                    (0..100).for_each(|_| read());
                    own += 100;
                }
                ran.fetch_add(ran_ns() - begun, Ordering::Relaxed);
                reads.fetch_add(own, Ordering::Relaxed);
            });
        }
        thread::sleep(Duration::from_secs(2));
        is_over.store(true, Ordering::Relaxed);
    });
    ran.into_inner() / reads.into_inner()
}

/// `cargo test … --lib reads_of_all_cores -- --ignored --nocapture`
#[test]
#[ignore = "prints figures"]
fn reads_of_all_cores() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    let held = directory.0.handle.hold().expect("it is open");
    let opened = held.share();
    drop(held);
    for threads in [1, 2, 4] {
        let hold = ns_a_read(threads, &|| drop(directory.0.handle.hold().expect("it is open")));
        let lmdb = ns_a_read(threads, &|| drop(opened.env.read_txn().expect("it reads")));
        let whole = ns_a_read(threads, &|| assert!(directory.account_exists("juliet").expect("it reads")));
        println!("{threads} threads: hold {hold} ns, LMDB's transaction {lmdb} ns, a look {whole} ns");
    }
}
