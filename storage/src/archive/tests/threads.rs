//! The threads that answer queries.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;

use super::*;
use crate::archive::readers::Readers;

fn readers(house: &House, threads: usize, queue: usize) -> Readers {
    let folders = journal_folders(&house.folder.path().join("log")).unwrap();
    Readers::start(&house.directory, &Arc::new(Folders::new(folders)), threads, queue).unwrap()
}

#[test]
fn queries_are_answered_while_the_log_is_written_to() {
    let mut house = House::new();
    let readers = readers(&house, 2, 64);
    let (send, receive) = mpsc::channel();
    for number in 0..600_u64 {
        house.say(ANNA, BEN, &format!("{number} {}", "x".repeat(500)));
        if number % 20 == 0 {
            let send = send.clone();
            let query = Query { order: Order::Backwards, messages_max: 50, ..house.query(BEN) };
            let done = move |page: Result<Page, _>| send.send((number, page.unwrap())).unwrap();
            readers.try_submit(query, Box::new(done)).unwrap();
        }
        if number % 50 == 0 {
            house.commit();
            house.write_rows();
        }
    }
    readers.finish();
    drop(send);
    let answers: Vec<(u64, Page)> = receive.iter().collect();
    assert_eq!(answers.len(), 30);
    for (number, page) in answers {
        // Messages that came after the snapshot are there if rows had them by then; none before is missing.
        let expected = (number + 1).min(50) as usize;
        assert!((expected..=50).contains(&page.messages.len()), "as of message {number}");
        assert!(ids(&page).is_sorted_by(|a, b| a > b));
        assert_eq!((page.cost.gone, page.cost.damaged), (0, 0));
        let newest: u64 =
            String::from_utf8_lossy(page.text(&page.messages[0])).split(' ').next().unwrap().parse().unwrap();
        assert!(newest >= number);
        let numbers = page.messages.iter().map(|found| {
            let text = String::from_utf8_lossy(page.text(found)).into_owned();
            text.split(' ').next().unwrap().parse::<u64>().unwrap()
        });
        let contiguous = (0..=newest).rev().take(page.messages.len());
        assert!(numbers.eq(contiguous), "without a hole");
    }
    let metrics = readers.metrics();
    assert_eq!((metrics.queries.load(Relaxed), metrics.failures.load(Relaxed)), (30, 0));
    assert_eq!(metrics.latency_us.counts().iter().sum::<u64>(), 30);
}

#[test]
fn a_full_queue_refuses_and_gives_the_query_back() {
    let mut house = House::new();
    house.say(ANNA, BEN, "text");
    let readers = readers(&house, 1, 1);
    let (held, hold) = (Arc::new(std::sync::Barrier::new(2)), Arc::new(std::sync::Barrier::new(2)));
    let (inside, outside) = (held.clone(), hold.clone());
    let wait = move |_| {
        inside.wait();
        outside.wait();
    };
    readers.try_submit(house.query(BEN), Box::new(wait)).unwrap();
    // The thread is busy, and one more may wait.
    held.wait();
    readers.try_submit(house.query(BEN), Box::new(|_| ())).unwrap();
    let refused = readers.try_submit(house.query(ANNA), Box::new(|_| panic!("it is not answered")));
    assert_eq!(refused.unwrap_err().0.unwrap().actor, ANNA);
    assert_eq!((readers.gauge(), readers.metrics().refused.load(Relaxed)), ((1, 1), 1));
    assert_eq!(readers.metrics().busy.load(Relaxed), 0, "what is done with the answer is not its work");
    hold.wait();
    readers.finish();
    assert_eq!(readers.metrics().queries.load(Relaxed), 2);
    assert!(readers.try_submit(house.query(BEN), Box::new(|_| ())).is_err(), "the threads have ended");
}

#[test]
fn a_query_that_panics_ends_alone() {
    let mut house = House::new();
    house.say(ANNA, BEN, "text");
    let readers = readers(&house, 1, 4);
    let (send, receive) = mpsc::channel();
    let panics: query::Predicate = Arc::new(|_| panic!("this one does"));
    let ask = |query: Query| {
        let send = send.clone();
        readers.try_submit(query, Box::new(move |page| send.send(page).unwrap())).unwrap();
        receive.recv().unwrap()
    };
    let answer = ask(Query { matches: Some(panics), ..house.query(BEN) });
    assert!(matches!(answer, Err(query::QueryError::Panicked)), "{answer:?}");
    assert_eq!(ask(house.query(BEN)).unwrap().messages.len(), 1);
}

#[test]
fn a_query_does_not_wait_for_upkeep() {
    let mut house = House::new();
    house.say(ANNA, BEN, "text");
    let readers = readers(&house, 1, 4);
    let (hold, held) = mpsc::channel::<()>();
    let (send, receive) = mpsc::channel();
    readers.try_task(Box::new(move |_| _ = held.recv())).unwrap();
    for _ in 0..100 {
        // More than queries may wait: it is not their queue.
        readers.try_task(Box::new(|_| ())).unwrap();
    }
    let journal = house.logs[0].id();
    let prepared = send.clone();
    readers.try_prepare(journal, Position(0), Box::new(move |_| prepared.send("upkeep").unwrap())).unwrap();
    assert_eq!((readers.gauge(), readers.upkeep_gauge()), ((0, 4), (102, 102, 256)));
    readers.try_submit(house.query(BEN), Box::new(move |_| send.send("query").unwrap())).unwrap();
    let first = receive.recv_timeout(std::time::Duration::from_secs(30));
    drop(hold);
    assert_eq!((first, receive.recv()), (Ok("query"), Ok("upkeep")));
    readers.finish();
    assert_eq!(readers.upkeep_gauge(), (0, 102, 256));
}

#[test]
fn no_more_upkeep_waits_than_may() {
    let house = House::new();
    let readers = readers(&house, 1, 4);
    let (hold, held) = mpsc::channel::<()>();
    readers.try_task(Box::new(move |_| _ = held.recv())).unwrap();
    let taken = (0..400).take_while(|_| readers.try_task(Box::new(|_| ())).is_ok()).count();
    assert!((255..=256).contains(&taken), "{taken}");
    assert_eq!((readers.metrics().refused.load(Relaxed), readers.upkeep_gauge().0), (0, taken as u64 + 1));
    drop(hold);
    readers.finish();
    assert!(readers.try_task(Box::new(|_| ())).is_err(), "the threads have ended");
}
