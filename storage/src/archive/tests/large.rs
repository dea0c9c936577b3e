//! One account with millions of messages: `cargo test … --lib an_account_of_millions -- --ignored --nocapture` prints what its pages
//! cost. `WHIMBREL_LARGE_MESSAGES` says how many (10,000,000; 300 bytes of disk each), `WHIMBREL_LARGE_DIR` where.

use std::process::Command;
use std::time::Instant;

use super::*;

/// Others write in between, one message for so many of the account.
const BETWEEN: u64 = 4;
/// Those others.
const OTHERS: u64 = 50;
const PAGE: usize = 50;

fn append(house: &mut House, actor: ActorId, with: ActorId, text: &[u8]) -> Sequence {
    house.now_ms += 100;
    let body = Body { time_ms: house.now_ms, origin: Origin::default(), payload: text };
    let copy = ActorCopy { actor, flags: Flags::ARCHIVED.and(Flags::NOT_QUEUED), peer: peer(with) };
    let mut results = Vec::new();
    house.logs[0].append_for(&[copy], &body, &mut results);
    results[0].expect("there is room").sequence
}

/// Has the system forget what it has of the files in memory.
fn forget_files(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            forget_files(&path);
        } else {
            let dd = Command::new("dd")
                .arg(format!("of={}", path.display()))
                .args(["oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"])
                .status();
            assert!(dd.expect("dd is there").success());
        }
    }
}

fn measure(house: &House, what: &str, query: &Query) {
    let segments = house.folder.path().join("log");
    for state in ["cold", "warm"] {
        let mut reader = house.reader();
        if state == "cold" {
            forget_files(&segments);
        }
        let begun = Instant::now();
        let page = reader.page(query).expect("it can be read");
        let took = begun.elapsed();
        assert_eq!(page.messages.len(), PAGE, "{what}: {:?}", page.end);
        let query::Cost { reads, bytes, rows, .. } = page.cost;
        println!("{what}, {state}: {reads} reads, {bytes} bytes, {rows} rows, {took:?}");
        assert!(reads <= 4, "a page of {PAGE} is four reads at most");
    }
}

#[test]
#[ignore = "writes gigabytes and prints figures"]
fn an_account_of_millions() {
    let messages =
        std::env::var("WHIMBREL_LARGE_MESSAGES").map_or(10_000_000, |n| n.parse().expect("a number"));
    let mut house = House::new();
    if let Some(place) = std::env::var_os("WHIMBREL_LARGE_DIR") {
        house.logs.clear();
        house.folder = tempfile::tempdir_in(place).expect("a folder");
        let path = house.folder.path().join("directory");
        let options = directory::Options {
            domain: "example.org".into(),
            map_bytes_max: 16 << 30,
            durable: false,
            incarnation: Some(1),
        };
        house.directory = Directory::open(&path, &options).expect("it opens");
    }
    house.options.segment_bytes = 64 << 20;
    house.options.log_bytes_max = 64 << 30;
    house.open(1);
    let text = [b'x'; 150];
    let begun = Instant::now();
    let (mut middle, mut memory) = (Sequence::ZERO, 0);
    for number in 0..messages {
        let with = ActorId::user(100 + number % 7);
        let id = append(&mut house, ANNA, with, &text);
        if number == messages / 2 {
            middle = id;
        }
        if number % BETWEEN == 0 {
            append(&mut house, ActorId::user(200 + number / BETWEEN % OTHERS), ANNA, &text);
        }
        if number % 10_000 == 0 {
            memory = memory.max(house.logs[0].second().load().memory_bytes);
            house.commit();
            house.write_rows();
        }
    }
    house.flush();
    println!("{messages} messages of one account in {:?}", begun.elapsed());
    let (rows, bytes) = house.directory.archive_index().expect("it reads");
    let all = messages + messages / BETWEEN;
    println!("log: {} bytes a message", house.logs[0].appended().0 / all);
    println!("index: {rows} rows, {} bytes of the directory for a million messages", bytes * 1_000_000 / all);
    println!("memory of the index while it grew: {memory} bytes at most");
    house.logs[0].checkpoint().expect("it is written");
    let begun = Instant::now();
    house.open(1);
    println!("opened in {:?}, with {:?}", begun.elapsed(), house.logs[0].second().load());
    let all = Query { messages_max: PAGE, ..house.query(ANNA) };
    measure(&house, "the first page", &all);
    measure(&house, "a page in the middle", &Query { after: middle, ..all.clone() });
    measure(
        &house,
        "the page before the middle",
        &Query { before: middle, order: Order::Backwards, ..all.clone() },
    );
    measure(&house, "the last page", &Query { order: Order::Backwards, ..all.clone() });
    let begun = Instant::now();
    let none = house.pages(Query { peer: Some(PeerHash(7)), order: Order::Backwards, ..all });
    println!("nothing with a peer, in {} steps: {:?}", none.len(), begun.elapsed());
}
