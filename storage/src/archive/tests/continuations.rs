//! The next pages, without a look into the directory.

use std::fs;
use std::sync::mpsc;

use super::*;
use crate::archive::continuation::{Continuation, GOES_ON};
use crate::archive::query::Cost;
use crate::archive::readers::Readers;
use crate::directory::Erased;

/// Messages that Anna has exchanged with Ben; those of the last rows are in memory.
fn house(messages: u64) -> (House, Vec<Sequence>) {
    let mut house = House::new();
    let mut given = Vec::new();
    for number in 0..messages {
        given.push(house.say(ANNA, BEN, &format!("text {number}")));
        if number == messages - 70 {
            house.commit();
            house.write_rows();
        }
    }
    house.commit();
    (house, given)
}

/// A page of ten, one message more, and what follows it.
fn first(house: &House, order: Order, following: usize) -> (Query, Page) {
    let query = Query { order, messages_max: 11, following, ..house.query(ANNA) };
    let page = house.page(&query);
    (query, page)
}

/// As a client asks: behind the last message but one, which it has not been given.
fn behind(query: &Query, page: &Page) -> Query {
    let last = page.messages[page.messages.len() - 2].id;
    let must_exist = vec![last];
    match query.order {
        Order::Forwards => Query { after: last, must_exist, ..query.clone() },
        Order::Backwards => Query { before: last, must_exist, ..query.clone() },
    }
}

fn go_on(continuation: &Continuation, query: &Query) -> Option<Page> {
    continuation.page(query, &mut vec![7; 100], &mut Cost::default())
}

/// What a client gets of a page.
fn given(page: &Page) -> (Vec<(Sequence, u64, Vec<u8>)>, End) {
    let messages = page.messages.iter().map(|found| (found.id, found.time_ms, page.text(found).to_vec()));
    (messages.collect(), page.end)
}

#[test]
fn pages_go_on_as_a_reader_gives_them_whatever_is_said_meanwhile() {
    for order in [Order::Forwards, Order::Backwards] {
        let (mut house, _) = house(300);
        let (query, mut page) = first(&house, order, 200);
        let continuation = page.continuation.take().expect("there is more");
        house.say(ANNA, BEN, "later");
        house.flush();
        let mut pages = 0;
        let mut next = behind(&query, &page);
        while let Some(found) = go_on(&continuation, &next) {
            assert_eq!(
                given(&found),
                given(&house.page(&Query { following: 0, ..next.clone() })),
                "{order:?}"
            );
            pages += 1;
            next = behind(&query, &found);
        }
        assert_eq!(
            pages, 20,
            "{order:?}: of 200 messages behind the page, the last is in no page of its own"
        );
    }
}

#[test]
fn only_full_pages_of_everything_go_on() {
    let (house, given) = house(300);
    let (query, mut page) = first(&house, Order::Forwards, 200);
    assert_eq!(first(&house, Order::Forwards, 0).1.continuation, None, "nobody has asked for it");
    let messages_max = crate::archive::texts::BATCH_MESSAGES_MAX + 1;
    let long = Query { messages_max, following: 100, ..house.query(ANNA) };
    assert_eq!(house.page(&long).continuation, None, "the one before the last was read before");
    let all = Query { messages_max: 300, following: 200, bytes_max: 1 << 20, ..house.query(ANNA) };
    assert_eq!(house.page(&all).continuation, None, "there is nothing behind it");
    let continuation = page.continuation.take().unwrap();
    let next = behind(&query, &page);
    assert!(go_on(&continuation, &next).is_some());
    let anna = next.clone();
    for (why, other) in [
        ("another archive", Query { actor: BEN, ..anna.clone() }),
        ("one peer", Query { peer: Some(peer(BEN)), ..anna.clone() }),
        ("some messages", Query { ids: vec![given[20]], ..anna.clone() }),
        ("a window of time", Query { from_ms: 1, ..anna.clone() }),
        ("the other direction", Query { order: Order::Backwards, before: anna.after, ..anna.clone() }),
        ("an end", Query { before: given[100], ..anna.clone() }),
        ("another message must be there", Query { must_exist: vec![given[0]], ..anna.clone() }),
        ("what is behind it is too old", Query { not_before: given[12], ..anna.clone() }),
        ("more than it knows", Query { messages_max: 290, ..anna.clone() }),
        ("more bytes than a step has", Query { bytes_max: 200, ..anna.clone() }),
        ("from where it does not go on", Query { after: given[250], must_exist: vec![], ..anna }),
    ] {
        assert_eq!((go_on(&continuation, &other), continuation.has(&other)), (None, false), "{why}");
    }
}

#[test]
fn what_was_erased_is_not_passed_over() {
    let erase = |house: &House, id: Sequence| {
        let erased = Erased { at_ms: 1, received_ms: 1, tombstone: b"tombstone".to_vec() };
        run_inline(&house.directory, Box::new(move |t| t.erase_from_archive(ANNA, id, &erased))).unwrap();
    };
    // Behind the page; the one more that was asked for; within it, which is given already.
    for (number, pages) in [(45, 3), (10, 0), (5, 20)] {
        let (mut house, given) = house(300);
        house.flush();
        erase(&house, given[number]);
        let (query, mut page) = first(&house, Order::Forwards, 200);
        let continuation = page.continuation.take().unwrap();
        let mut next = behind(&query, &page);
        let mut count = 0;
        while let Some(found) = go_on(&continuation, &next) {
            assert!(found.messages.iter().all(|found| found.id != given[number]), "{number}");
            count += 1;
            next = behind(&query, &found);
        }
        assert_eq!(count, pages, "message {number} was erased");
    }
}

#[test]
fn what_is_damaged_or_gone_is_left_to_a_reader() {
    let (mut house, ids) = house(300);
    house.flush();
    let (query, mut page) = first(&house, Order::Forwards, 200);
    let continuation = page.continuation.take().unwrap();
    let next = behind(&query, &page);
    let files = segments(&house);
    for file in &files {
        let mut bytes = fs::read(file).unwrap();
        let Some(at) = bytes.windows(7).position(|window| window == b"text 15") else { continue };
        bytes[at] ^= 1;
        fs::write(file, bytes).unwrap();
    }
    let mut cost = Cost::default();
    assert_eq!(continuation.page(&next, &mut Vec::new(), &mut cost), None, "one of its messages is damaged");
    assert!(cost.reads > 0 && cost.bytes > 0, "{cost:?}");
    assert!(continuation.has(&next), "it knew where they are");
    let later = Query { after: ids[30], must_exist: vec![ids[30]], ..next.clone() };
    assert_eq!(given(&go_on(&continuation, &later).unwrap()).0[0].0, ids[31]);
    files.iter().for_each(|file| fs::OpenOptions::new().write(true).open(file).unwrap().set_len(64).unwrap());
    assert_eq!(go_on(&continuation, &later), None, "the file has been cut");
}

fn segments(house: &House) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![house.folder.path().join("log")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

#[test]
fn of_many_files_a_few_are_held_open() {
    let mut house = House::new();
    for _ in 0..600 {
        house.say(ANNA, BEN, &"long".repeat(1_000));
    }
    house.flush();
    assert!(segments(&house).len() > 12, "{} files", segments(&house).len());
    let (query, mut page) = first(&house, Order::Forwards, 500);
    let continuation = page.continuation.take().expect("there is more");
    assert_eq!(continuation.files(), 8);
    let next = behind(&query, &page);
    assert_eq!(given(&go_on(&continuation, &next).unwrap()), given(&house.page(&next)));
}

#[test]
fn beside_workers_pages_go_on_from_memory_alone() {
    let (mut house, _) = house(300);
    house.flush();
    let folders = journal_folders(&house.folder.path().join("log")).unwrap();
    let readers = Readers::start(&house.directory, &Arc::new(Folders::new(folders)), 1, 8).unwrap();
    let (send, receive) = mpsc::channel();
    let query = Query { messages_max: 11, following: 200, ..house.query(ANNA) };
    let done = move |page: Result<Page, _>| send.send(page.unwrap()).unwrap();
    readers.try_submit(query.clone(), Box::new(done)).unwrap();
    let mut page = receive.recv().unwrap();
    let continuation = page.continuation.take();
    assert_eq!(continuation.is_some(), GOES_ON);
    let Some(continuation) = continuation else { return };
    let next = behind(&query, &page);
    // What has just been written is in memory.
    assert_eq!(given(&go_on(&continuation, &next).unwrap()), given(&house.page(&next)));
    assert!(continuation.memory_bytes() < 16 << 10, "{}", continuation.memory_bytes());
}
