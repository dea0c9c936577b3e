//! A disk that fails a commit in the middle: LMDB gives the file up, and it is opened anew.

use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::pace::Pace;

const PATIENCE: Duration = Duration::from_secs(60);

/// As a server has it: LMDB writes roots by a descriptor of their own only where it syncs.
fn durable(path: &Path) -> Directory {
    Directory::open(path, &Options { durable: true, ..options() }).expect("it opens")
}

fn new_durable() -> (TempDir, Directory) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let directory = durable(&folder.path().join("directory"));
    (folder, directory)
}

/// The next commit fails when everything but the root has been written: the descriptor that LMDB has for roots alone takes no
/// writes any more.
fn fail_the_next_root(directory: &Directory) {
    let data = std::fs::File::open(directory.0.path.join(env::DATA_FILE)).expect("it is there");
    let own = data.metadata().expect("it is open");
    let mut found = 0;
    for descriptor in 3..1024 {
        if descriptor != data.as_raw_fd() && is_for_roots(descriptor, (own.dev(), own.ino())) {
            lock::refuse_writes(descriptor).expect("it is replaced");
            found += 1;
        }
    }
    assert_eq!(found, 1, "LMDB has one descriptor for roots");
}

fn is_for_roots(descriptor: RawFd, file: (u64, u64)) -> bool {
    // SAFETY: takes a number and a structure to fill; a number that is no descriptor is an error.
    let (flags, found) = unsafe {
        let mut found = std::mem::zeroed::<libc::stat>();
        if libc::fstat(descriptor, &raw mut found) == -1 {
            return false;
        }
        (libc::fcntl(descriptor, libc::F_GETFL), found)
    };
    #[allow(clippy::unnecessary_cast, reason = "its types differ between systems")]
    let is_it = (found.st_dev as u64, found.st_ino as u64) == file;
    is_it && flags != -1 && flags & (libc::O_DSYNC | libc::O_SYNC) != 0
}

fn creating(local: &'static str) -> Job<bool> {
    Box::new(move |t| t.create_account(local, &keys("secret")))
}

#[test]
fn a_commit_that_fails_at_its_end_leaves_nothing_and_the_next_one_succeeds() {
    let (folder, directory) = new_durable();
    add_account(&directory, "juliet");
    for (round, lost, kept) in [(1, "tybalt", "romeo"), (2, "paris", "nurse")] {
        fail_the_next_root(&directory);
        let error = run_inline(&directory, creating(lost)).expect_err("the disk fails");
        assert!(!matches!(error, DirectoryError::Reopening { .. }), "the disk's own word: {error}");
        assert_eq!(directory.reopened(), round, "opened anew before anybody has asked");
        assert!(directory.account_exists("juliet").unwrap() && !directory.account_exists(lost).unwrap());
        assert!(run_inline(&directory, creating(kept)).expect("it takes writes again"));
    }
    drop(directory);
    // With the check of the whole file, which a start makes.
    let directory = durable(&folder.path().join("directory"));
    assert_eq!(directory.accounts(None, 9).unwrap(), ["juliet", "nurse", "romeo"]);
    assert_eq!(directory.credentials("nurse").unwrap(), Some(keys("secret")));
    assert_eq!(directory.reopened(), 0);
}

#[test]
fn the_writers_batch_fails_as_one_and_its_queue_goes_on() {
    let (_folder, directory) = new_durable();
    let (sender, results) = mpsc::channel();
    let deliver = move |job_id, result| sender.send((job_id, result)).expect("the test listens");
    let writer = Writer::start(directory.clone(), 10, deliver).unwrap();
    let (begun, has_begun) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let blocking: Job<bool> = Box::new(move |_| {
        begun.send(()).expect("the test listens");
        wait.recv().expect("the test lets go");
        Ok(false)
    });
    writer.try_submit(0, blocking).unwrap();
    has_begun.recv().unwrap();
    fail_the_next_root(&directory);
    go.send(()).unwrap();
    let first: (u64, Result<bool, DirectoryError>) = results.recv().unwrap();
    assert!(matches!(first, (0, Ok(false))), "it wrote nothing, so there was nothing to commit: {first:?}");
    writer.try_submit(1, creating("romeo")).unwrap();
    let second = results.recv().unwrap();
    assert!(matches!(second, (1, Err(DirectoryError::NotCommitted(_)))), "{second:?}");
    assert_eq!(directory.reopened(), 1);
    writer.try_submit(2, creating("romeo")).unwrap();
    assert!(matches!(results.recv().unwrap(), (2, Ok(true))), "as if it had never been tried");
    assert_eq!(directory.account_count().unwrap(), 1);
}

#[test]
fn readers_go_on_while_it_is_opened_anew_again_and_again() {
    let (_folder, directory) = new_durable();
    add_account(&directory, "juliet");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut reads = 0_u64;
                    while !is_over.load(Ordering::Relaxed) {
                        assert!(directory.account_exists("juliet").expect("it can be read"));
                        assert!(!directory.account_exists("tybalt").expect("it can be read"));
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        for round in 1..=30 {
            fail_the_next_root(&directory);
            run_inline(&directory, creating("tybalt")).expect_err("the disk fails");
            assert_eq!(directory.reopened(), round);
        }
        is_over.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().expect("it has not panicked") > 0);
        }
    });
}

#[test]
fn a_reader_that_reads_within_its_reading_is_refused_instead_of_waiting_for_itself() {
    let (_folder, directory) = new_durable();
    add_account(&directory, "juliet");
    write(&directory, |t| t.put_roster_item("juliet", &Item { contact: "a@b".into(), ..Item::default() }));
    let (reading, is_reading) = mpsc::channel();
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut refused = None;
            let read = directory.roster("juliet", |_| {
                reading.send(()).expect("the test listens");
                let until = Instant::now() + PATIENCE;
                while refused.is_none() && Instant::now() < until {
                    refused = directory.account_exists("juliet").err();
                }
            });
            read.expect("it has begun before the disk failed");
            refused.expect("its directory is being closed")
        });
        is_reading.recv().unwrap();
        fail_the_next_root(&directory);
        run_inline(&directory, creating("tybalt")).expect_err("the disk fails");
        let refused = reader.join().unwrap();
        assert!(matches!(refused, DirectoryError::Reopening { .. }), "{refused}");
    });
    assert_eq!(directory.reopened(), 1);
    assert!(directory.account_exists("juliet").unwrap());
}

#[test]
fn a_file_that_cannot_be_opened_is_tried_again_by_whoever_wants_it() {
    let (folder, directory) = new_durable();
    add_account(&directory, "juliet");
    let (readers, aside) = (folder.path().join("directory/lock.mdb"), folder.path().join("aside"));
    std::fs::rename(&readers, &aside).unwrap();
    std::fs::create_dir(&readers).unwrap();
    fail_the_next_root(&directory);
    run_inline(&directory, creating("tybalt")).expect_err("the disk fails");
    assert_eq!(directory.reopened(), 0);
    let error = directory.account_exists("juliet").expect_err("there is a folder in the way");
    assert!(!matches!(error, DirectoryError::Reopening { .. }), "the system's own word: {error}");
    run_inline(&directory, creating("romeo")).expect_err("there is a folder in the way");
    std::fs::remove_dir(&readers).unwrap();
    std::fs::rename(&aside, &readers).unwrap();
    assert!(directory.account_exists("juliet").unwrap());
    assert_eq!(directory.reopened(), 1);
    assert!(run_inline(&directory, creating("romeo")).unwrap());
}

#[test]
fn another_file_in_its_place_is_not_taken_for_the_directory() {
    let (folder, directory) = new_durable();
    add_account(&directory, "juliet");
    let data = folder.path().join("directory/data.mdb");
    fail_the_next_root(&directory);
    std::fs::rename(&data, folder.path().join("aside")).unwrap();
    run_inline(&directory, creating("tybalt")).expect_err("the disk fails");
    assert!(directory.account_exists("juliet").is_err());
    std::fs::copy(folder.path().join("aside"), &data).unwrap();
    let error = directory.account_exists("juliet").expect_err("it is a copy");
    assert!(matches!(error, DirectoryError::DamagedFile { .. }), "{error}");
    std::fs::rename(folder.path().join("aside"), &data).unwrap();
    assert!(directory.account_exists("juliet").unwrap());
}

#[test]
fn a_copy_gives_way_and_can_be_begun_anew() {
    let (folder, directory) = new_durable();
    write(&directory, |t| {
        for number in 0..2000 {
            let local = format!("u{number}");
            t.create_account(&local, &keys("secret"))?;
            t.set_vcard(&local, &[b'x'; 2000])?;
        }
        Ok(())
    });
    let to = folder.path().join("copy");
    let (begun, has_begun) = mpsc::channel();
    thread::scope(|scope| {
        // At this pace it would take an hour.
        let copying = scope.spawn(|| {
            directory.copy_at(&to, &mut Pace::new(Some(1 << 10)), || {
                begun.send(()).expect("the test listens");
                Ok::<(), DirectoryError>(())
            })
        });
        has_begun.recv().unwrap();
        fail_the_next_root(&directory);
        // Waits until the copy has given way.
        run_inline(&directory, creating("tybalt")).expect_err("the disk fails");
        let error = copying.join().unwrap().expect_err("it is cut off");
        assert!(matches!(error, DirectoryError::Reopening { .. }), "{error}");
    });
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 0, "no half copy is left");
    directory.copy_to(&to).unwrap();
    assert_eq!(open(&to).account_count().unwrap(), 2000);
}

#[test]
fn what_a_cut_finds_is_of_the_state_that_is_copied() {
    let (folder, directory) = new_durable();
    let made = AtomicBool::new(false);
    thread::scope(|scope| {
        let to = folder.path().join("copy");
        directory
            .copy_at(&to, &mut Pace::new(None), || {
                // It comes as soon as it may, which is after the copy has begun.
                let (submitted, is_submitted) = mpsc::channel();
                let (directory, made) = (&directory, &made);
                scope.spawn(move || {
                    submitted.send(()).expect("the test listens");
                    add_account(directory, "late");
                    made.store(true, Ordering::SeqCst);
                });
                is_submitted.recv().unwrap();
                thread::sleep(Duration::from_millis(50));
                assert!(!made.load(Ordering::SeqCst), "nothing is committed meanwhile");
                Ok::<(), DirectoryError>(())
            })
            .unwrap();
    });
    assert!(directory.account_exists("late").unwrap());
    assert!(!open(&folder.path().join("copy")).account_exists("late").unwrap());
}

#[test]
fn the_disk_that_is_proven_is_the_directorys() {
    let (folder, directory) = new_durable();
    // The folder's own name may be a link, and what is beside it on another disk: that one takes nothing here.
    for name in ["directory.probe", "probe"] {
        std::fs::create_dir(folder.path().join(name)).expect("a folder");
    }
    directory.prove_disk().expect("it takes writes");
    let own = folder.path().join("directory");
    let names =
        || std::fs::read_dir(&own).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    assert!(names().all(|name| name != "probe"), "nothing is left");
    std::fs::create_dir(own.join("probe")).expect("a folder");
    directory.prove_disk().expect_err("it takes none");
}

#[test]
fn threads_that_ask_at_once_are_not_in_each_others_way() {
    let (_folder, directory) = new_durable();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| directory.prove_disk().expect("it takes writes")));
        }
    });
}
