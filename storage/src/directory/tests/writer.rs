//! The thread that writes.

use std::sync::mpsc;

use super::*;

type Delivered = (u64, Result<u64, DirectoryError>);

fn start(directory: &Directory, queue: usize) -> (Writer<u64>, mpsc::Receiver<Delivered>) {
    let (sender, receiver) = mpsc::channel();
    let deliver = move |job_id, result| sender.send((job_id, result)).expect("the test listens");
    (Writer::start(directory.clone(), queue, deliver).expect("a thread"), receiver)
}

fn creating(local: &'static str) -> Job<u64> {
    Box::new(move |t| t.create_account(local, &keys("secret")).map(u64::from))
}

/// A job that waits until it is let go, and tells when it has begun.
fn blocking() -> (Job<u64>, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (begun, has_begun) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let job: Job<u64> = Box::new(move |_| {
        begun.send(()).expect("the test listens");
        wait.recv().expect("the test lets go");
        Ok(0)
    });
    (job, has_begun, go)
}

#[test]
fn results_come_in_order_and_after_their_commit() {
    let (_folder, directory) = new_directory();
    add_account(&directory, "juliet");
    let seen = directory.clone();
    let (sender, receiver) = mpsc::channel();
    let writer = Writer::start(directory, 2000, move |job_id, result: Result<u64, DirectoryError>| {
        let version = result.expect("the change is written");
        // Another reader sees it by now.
        assert!(seen.roster_version("juliet").expect("it reads").number >= version);
        sender.send((job_id, version)).expect("the test listens");
    })
    .unwrap();
    for job_id in 0..1000 {
        let item = Item { contact: format!("c{}@x", job_id % 7), ..Item::default() };
        writer.try_submit(job_id, Box::new(move |t| t.put_roster_item("juliet", &item))).unwrap();
    }
    writer.finish();
    let results: Vec<_> = receiver.try_iter().collect();
    assert_eq!(results, (0..1000).map(|n| (n, n + 1)).collect::<Vec<_>>());
}

#[test]
fn what_waits_is_written_in_one_transaction() {
    let (_folder, directory) = new_directory();
    let (writer, results) = start(&directory, 10);
    let (job, has_begun, go) = blocking();
    writer.try_submit(0, job).unwrap();
    has_begun.recv().unwrap();
    let before = directory.0.handle.hold().unwrap().env.info().last_txn_id;
    for job_id in 1..=5 {
        let item: Job<u64> =
            Box::new(move |t| t.create_account(&format!("u{job_id}"), &keys("x")).map(u64::from));
        writer.try_submit(job_id, item).unwrap();
    }
    go.send(()).unwrap();
    writer.finish();
    assert_eq!(results.try_iter().count(), 6);
    assert_eq!(directory.account_count().unwrap(), 5);
    // Two, if the blocking job took longer than a batch may.
    let transactions = directory.0.handle.hold().unwrap().env.info().last_txn_id - before;
    assert!((1..=2).contains(&transactions), "{transactions} transactions for six jobs");
}

#[test]
fn a_failed_or_panicking_job_leaves_nothing_and_the_others_of_its_batch_are_written() {
    let (_folder, directory) = new_directory();
    let (writer, results) = start(&directory, 10);
    let (job, has_begun, go) = blocking();
    writer.try_submit(0, job).unwrap();
    has_begun.recv().unwrap();
    writer.try_submit(1, creating("romeo")).unwrap();
    let fails: Job<u64> = Box::new(|t| {
        t.create_account("tybalt", &keys("x"))?;
        t.delete_account("romeo")?;
        t.put_roster_item("nobody", &Item { contact: "a@b".into(), ..Item::default() })
    });
    writer.try_submit(2, fails).unwrap();
    let panics: Job<u64> = Box::new(|t| {
        t.create_account("paris", &keys("x"))?;
        t.set_credentials("romeo", &keys("x"))?;
        panic!("a job of this test panics, and that is right")
    });
    writer.try_submit(3, panics).unwrap();
    writer.try_submit(4, creating("juliet")).unwrap();
    writer.try_submit(5, Box::new(|t| Ok(u64::from(t.account_exists("tybalt")?)))).unwrap();
    go.send(()).unwrap();
    writer.finish();
    let results: Vec<Delivered> = results.try_iter().collect();
    assert!(matches!(results[1], (1, Ok(1))), "{:?}", results[1]);
    assert!(matches!(results[2], (2, Err(DirectoryError::NoAccount { .. }))), "{:?}", results[2]);
    assert!(matches!(results[3], (3, Err(DirectoryError::JobPanicked))), "{:?}", results[3]);
    assert!(matches!(results[4], (4, Ok(1))), "{:?}", results[4]);
    assert!(matches!(results[5], (5, Ok(0))), "later jobs do not see it: {:?}", results[5]);
    assert_eq!(directory.accounts(None, 9).unwrap(), ["juliet", "romeo"]);
    assert_eq!(directory.credentials("romeo").unwrap(), Some(keys("secret")));
}

#[test]
fn nothing_of_a_batch_that_is_not_committed_is_acknowledged() {
    let (_folder, directory) = new_directory();
    let (writer, results) = start(&directory, 10);
    directory.0.fail_commits.store(true, std::sync::atomic::Ordering::Relaxed);
    let (job, has_begun, go) = blocking();
    writer.try_submit(0, job).unwrap();
    has_begun.recv().unwrap();
    writer.try_submit(1, creating("romeo")).unwrap();
    writer.try_submit(2, Box::new(|t| t.put_roster_item("nobody", &Item::default()))).unwrap();
    go.send(()).unwrap();
    writer.finish();
    let results: Vec<Delivered> = results.try_iter().collect();
    assert!(matches!(results[0], (0, Err(DirectoryError::NotCommitted(_)))), "{:?}", results[0]);
    assert!(matches!(results[1], (1, Err(DirectoryError::NotCommitted(_)))), "{:?}", results[1]);
    assert!(matches!(results[2], (2, Err(DirectoryError::NoAccount { .. }))), "{:?}", results[2]);
    assert!(!directory.account_exists("romeo").unwrap());
    directory.0.fail_commits.store(false, std::sync::atomic::Ordering::Relaxed);
    add_account(&directory, "romeo");
}

#[test]
fn a_full_queue_refuses_and_the_gauge_tells() {
    let (_folder, directory) = new_directory();
    let (writer, results) = start(&directory, 3);
    assert_eq!(writer.gauge(), (0, 0, 3));
    let (job, has_begun, go) = blocking();
    writer.try_submit(0, job).unwrap();
    has_begun.recv().unwrap();
    for (job_id, local) in [(1, "a"), (2, "b"), (3, "c")] {
        writer.try_submit(job_id, creating(local)).unwrap();
    }
    assert_eq!(writer.gauge(), (3, 3, 3));
    assert_eq!(writer.try_submit(4, creating("d")), Err(QueueFull));
    go.send(()).unwrap();
    writer.finish();
    assert_eq!(writer.gauge(), (0, 3, 3));
    let job_ids: Vec<u64> = results.try_iter().map(|(job_id, _)| job_id).collect();
    assert_eq!(job_ids, [0, 1, 2, 3]);
    assert_eq!(directory.accounts(None, 9).unwrap(), ["a", "b", "c"]);
}

#[test]
fn a_finished_writer_has_written_everything_and_takes_nothing_more() {
    let (_folder, directory) = new_directory();
    let (writer, results) = start(&directory, 100);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let writer = &writer;
            scope.spawn(move || {
                for n in 0..25 {
                    let local = format!("u{thread}-{n}");
                    let job: Job<u64> =
                        Box::new(move |t| t.create_account(&local, &keys("x")).map(u64::from));
                    writer.try_submit(n, job).expect("there is room for all");
                }
            });
        }
    });
    writer.finish();
    writer.finish();
    assert_eq!(results.try_iter().filter(|(_, result)| result.is_ok()).count(), 100);
    assert_eq!(directory.account_count().unwrap(), 100);
    assert_eq!(writer.try_submit(0, creating("late")), Err(QueueFull));
    assert!(!directory.account_exists("late").unwrap());
}

#[test]
fn an_inline_job_that_fails_leaves_nothing() {
    let (_folder, directory) = new_directory();
    let job: Job<()> = Box::new(|t| {
        t.create_account("tybalt", &keys("x"))?;
        t.set_vcard("nobody", b"x")
    });
    assert!(matches!(run_inline(&directory, job), Err(DirectoryError::NoAccount { .. })));
    let job: Job<()> = Box::new(|t| {
        t.create_account("paris", &keys("x"))?;
        panic!("a job of this test panics, and that is right")
    });
    assert!(matches!(run_inline(&directory, job), Err(DirectoryError::JobPanicked)));
    assert_eq!(directory.account_count().unwrap(), 0);
    add_account(&directory, "paris");
}
