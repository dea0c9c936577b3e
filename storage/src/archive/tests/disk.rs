//! What it costs: reads of a page, bytes of the index, time. `cargo test --release … -- --ignored --nocapture figures`
//! prints them for a larger archive.

use std::time::Instant;

use super::*;

/// Actors who all talk at once: the messages of one lie far apart.
fn interleaved(actors: u64, rounds: u64) -> House {
    let mut house = House::new();
    house.options.segment_bytes = 4 << 20;
    house.open(1);
    let text = "x".repeat(200);
    for round in 0..rounds {
        for actor in 0..actors / 2 {
            let (one, other) = (ActorId::user(10 + 2 * actor), ActorId::user(11 + 2 * actor));
            let (from, to) = if round % 2 == 0 { (one, other) } else { (other, one) };
            let id = house.say(from, to, &text);
            house.logs[0].trim(to, id);
        }
        if round % 16 == 0 {
            house.commit();
            house.write_rows();
        }
    }
    house.flush();
    house
}

#[test]
fn a_page_of_a_quiet_server_is_few_reads_and_of_a_busy_one_no_more_than_messages() {
    for (actors, most) in [(2, 1), (40, 2), (80, 4), (1000, 50)] {
        let house = interleaved(actors, 60);
        let query = Query { messages_max: 50, order: Order::Backwards, ..house.query(ActorId::user(10)) };
        let page = house.page(&query);
        assert_eq!(page.messages.len(), 50);
        assert!(page.cost.reads <= most, "{actors} actors: {:?}", page.cost);
        assert!(page.cost.rows <= 2, "{:?}", page.cost);
    }
}

#[test]
#[ignore = "prints figures"]
fn figures() {
    let (actors, rounds) = (200, 2500);
    let begun = Instant::now();
    let house = interleaved(actors, rounds);
    let messages = actors / 2 * rounds;
    println!("filled {messages} messages of {actors} actors in {:?}", begun.elapsed());
    let (rows, bytes) = house.directory.archive_index().unwrap();
    println!("{rows} rows, {} bytes of pages a million entries", bytes * 1_000_000 / (2 * messages));
    println!("log: {} bytes a message", house.logs[0].appended().0 / messages);
    let (begun, mut read, mut reads, mut pages) = (Instant::now(), 0, 0, 0);
    let mut reader = house.reader();
    for actor in 0..actors {
        let mut query = Query { messages_max: 50, ..house.query(ActorId::user(10 + actor)) };
        loop {
            let page = reader.page(&query).unwrap();
            (read, reads, pages) = (read + page.messages.len(), reads + page.cost.reads, pages + 1);
            let Some(last) = page.messages.last() else { break };
            query.after = last.id;
            if page.end == End::Complete {
                break;
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "paged {read} messages in {pages} pages of 50: {:.0} a second, {:.2} reads a page",
        read as f64 / seconds,
        reads as f64 / pages as f64
    );
}
