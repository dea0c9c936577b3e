//! Those who read: many at once, and some who never end.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

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
    let (folder, directory) = new_directory();
    add_account(&directory, "juliet");
    let renew = |number: u64| {
        let vcard = long(100 << 10, &number.to_string());
        run_inline(&directory, Box::new(move |t| t.set_vcard("juliet", vcard.as_bytes())))
    };
    renew(0).expect("it is written");
    let mut other = Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "--nocapture"])
        .arg("directory::tests::readers::a_process_that_reads_and_never_ends")
        .env(BESIDE, folder.path().join("directory"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let output = BufReader::new(other.stdout.take().expect("it was asked for"));
    let is_reading = output.lines().map_while(Result::ok).any(|line| line.contains("reading"));
    other.kill().expect("it is ours");
    other.wait().expect("it ends");
    assert!(is_reading);
    // The map has room for 640 of them.
    for number in 1..1000 {
        renew(number).unwrap_or_else(|error| panic!("{number}: {error}"));
    }
}

/// Reads on so many threads for a second, and how many nanoseconds each took its thread.
fn ns_a_read(threads: usize, read: &(dyn Fn() + Sync)) -> f64 {
    let (is_over, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut own = 0;
                while !is_over.load(Ordering::Relaxed) {
                    (0..100).for_each(|_| read());
                    own += 100;
                }
                reads.fetch_add(own, Ordering::Relaxed);
            });
        }
        thread::sleep(Duration::from_secs(1));
        is_over.store(true, Ordering::Relaxed);
    });
    begun.elapsed().as_nanos() as f64 * threads as f64 / reads.into_inner() as f64
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
        println!(
            "{threads} threads: hold {hold:.0} ns, LMDB's transaction {lmdb:.0} ns, a look {whole:.0} ns"
        );
    }
}
