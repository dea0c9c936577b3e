//! What goes and what stays: shares, compaction, erasure, another number of workers, copies.

use super::*;
use crate::directory::{Erased, Sweep};
use crate::log::{backup, retire_sealed, verify};

impl House {
    /// Upkeep until nothing changes any more, with what a server does for compaction.
    pub(super) fn settle(&mut self) {
        for _ in 0..200 {
            self.upkeep();
            let mut reader = self.reader();
            for log in &mut self.logs {
                let journal = log.id();
                if let Some(segment) = log.second().to_prepare() {
                    let wanted = reader.wanted(journal, segment).unwrap();
                    log.second_mut().prepared(segment, wanted);
                }
            }
        }
    }

    pub(super) fn segments(&self) -> usize {
        self.logs.iter().map(|log| log.journal().segments().count()).sum()
    }

    pub(super) fn sweep(&mut self) -> u64 {
        let (mut after, mut rows) = (ActorId::NOBODY, 0);
        loop {
            let sweep = Sweep { after, not_before: Sequence::ZERO, actors_max: 3, rows_max: 5 };
            let swept = run_inline(&self.directory, Box::new(move |t| t.sweep_archive(&sweep))).unwrap();
            self.tallies.apply(&swept.segments);
            rows += swept.rows;
            match swept.next {
                Some(next) => after = next,
                None => return rows,
            }
        }
    }
}

/// Anna and Ben, and others who say much.
pub(super) fn crowded() -> (House, Vec<String>) {
    let mut house = House::new();
    let mut kept = Vec::new();
    let long = "x".repeat(900);
    for number in 0..1500 {
        if number % 30 == 0 {
            kept.push(format!("{number} of Anna"));
            let id = house.say(ANNA, BEN, &kept[kept.len() - 1]);
            if number % 60 == 0 {
                house.logs[0].trim(BEN, id);
            }
        }
        let (from, to) = (ActorId::user(10 + number % 4), ActorId::user(20 + number % 4));
        let id = house.say(from, to, &long);
        house.logs[0].trim(to, id);
        if number % 50 == 0 {
            house.commit();
            house.write_rows();
        }
    }
    house.flush();
    (house, kept)
}

#[test]
fn an_actors_oldest_go_past_its_share_and_nobody_elses() {
    let mut house = House::new();
    house.shares = Shares { actor_bytes_max: 300_000 };
    let text = "x".repeat(900);
    for number in 0..1000 {
        house.say(ActorId::user(10), ActorId::user(11), &text);
        if number % 100 == 0 {
            house.say(ANNA, BEN, &number.to_string());
        }
        if number % 20 == 0 {
            house.commit();
            house.write_rows();
        }
    }
    house.flush();
    let state = house.directory.archive_state(ActorId::user(10)).unwrap();
    assert!(state.bytes <= 300_000 && state.bytes > 200_000, "{state:?}");
    let texts = house.texts(house.query(ActorId::user(10))).len() as u64;
    assert_eq!(texts, state.messages, "the newest, without a hole");
    assert_eq!(house.texts(house.query(ANNA)).len(), 10);
    let largest = house.directory.archive_largest(2).unwrap();
    assert!(largest.is_sorted_by(|one, other| one.1.bytes >= other.1.bytes));
    let whose: std::collections::BTreeSet<u64> = largest.iter().map(|(actor, _)| actor.number()).collect();
    assert_eq!(whose, [10, 11].into());
    // There is not enough room for all: the oldest of the largest go.
    let shrink = |t: &mut directory::WriteTransaction<'_>| t.shrink_archive(ActorId::user(10), 1, 9);
    let swept = run_inline(&house.directory, Box::new(shrink)).unwrap();
    house.tallies.apply(&swept.segments);
    let left = house.directory.archive_state(ActorId::user(10)).unwrap();
    assert!(swept.rows >= 3 && left.messages <= 64, "all but the newest row: {swept:?}");
    assert_eq!(left.messages, state.messages - swept.messages);
    let texts = house.texts(house.query(ActorId::user(10))).len() as u64;
    assert_eq!((texts, house.texts(house.query(ANNA)).len()), (left.messages, 10));
}

#[test]
fn the_largest_lose_their_oldest_messages_and_nobody_falls_below_a_share() {
    let mut house = House::new();
    let text = "x".repeat(900);
    // Each pair says as much as its number tells.
    for number in 0..2000_u64 {
        for pair in 1..=4 {
            if number % (5 - pair) == 0 {
                house.say(ActorId::user(10 * pair), ActorId::user(10 * pair + 1), &text);
            }
        }
        if number % 20 == 0 {
            house.commit();
            house.write_rows();
        }
    }
    house.flush();
    let bytes =
        |house: &House, pair: u64| house.directory.archive_state(ActorId::user(10 * pair)).unwrap().bytes;
    let before: Vec<u64> = (1..=4).map(|pair| bytes(&house, pair)).collect();
    assert!(before.is_sorted(), "{before:?}");
    let sweep = Sweep { after: ActorId::NOBODY, not_before: Sequence::ZERO, actors_max: 100, rows_max: 5 };
    let swept = run_inline(&house.directory, Box::new(move |t| t.sweep_archive(&sweep))).unwrap();
    assert_eq!((swept.archives, swept.takers.len(), swept.rows), (8, 8, 0));
    assert!(swept.takers.is_sorted_by(|one, other| one.1 >= other.1));
    // Room for so much that the two smallest pairs are within an equal share.
    let most = house.tallies.total().bytes * 2 / 3;
    let (share, mut takers) = (most / 8, swept.takers);
    let mut steps = 0;
    while house.tallies.total().bytes > most && !takers.is_empty() {
        let (total, largest) = (house.tallies.total().bytes, takers.clone());
        let shrink = move |t: &mut directory::WriteTransaction<'_>| {
            t.shrink_archives(&largest, share, total - most, 3)
        };
        let shrunk = run_inline(&house.directory, Box::new(shrink)).unwrap();
        assert!(shrunk.messages > 0 && shrunk.messages <= 3 * 64, "a step is bounded: {shrunk:?}");
        house.tallies.apply(&shrunk.segments);
        takers = shrunk.takers;
        steps += 1;
    }
    assert!(house.tallies.total().bytes <= most && steps > 5, "{steps} steps");
    let after: Vec<u64> = (1..=4).map(|pair| bytes(&house, pair)).collect();
    assert_eq!(after[0], before[0], "within its share");
    assert!(after[1..].iter().all(|bytes| *bytes + 64 * 1024 >= share), "but for a row: {share} {after:?}");
    assert!(after[3] < before[3] && after[3].abs_diff(after[2]) < 200_000, "the largest first: {after:?}");
    for pair in 1..=4 {
        let actor = ActorId::user(10 * pair);
        let state = house.directory.archive_state(actor).unwrap();
        assert_eq!(
            house.texts(house.query(actor)).len() as u64,
            state.messages,
            "the newest, without a hole"
        );
    }
    assert_eq!(house.tallies.total().bytes, house.directory.archive_totals().unwrap().bytes);
}

#[test]
fn compaction_moves_what_is_kept_and_rows_follow() {
    let (mut house, kept) = crowded();
    let before = house.segments();
    assert!(before > 15, "{before}");
    for number in 10..30 {
        let actor = ActorId::user(number);
        run_inline(&house.directory, Box::new(move |t| t.cut_archive(actor, Sequence::MAX))).unwrap();
    }
    assert!(house.sweep() > 40);
    house.settle();
    assert!(house.segments() <= 6, "{} segments are left of {before}", house.segments());
    for _ in 0..2 {
        for actor in [ANNA, BEN] {
            let page = house.page(&Query { bytes_max: 1 << 20, ..house.query(actor) });
            assert_eq!((page.cost.gone, page.cost.damaged), (0, 0));
            assert_eq!(house.texts(house.query(actor)), kept);
        }
        assert_eq!(house.logs[0].waiting(BEN).count(), 25, "what waits was moved as well");
        house.open(1);
        house.flush();
    }
    let states: u64 =
        [ANNA, BEN].map(|actor| house.directory.archive_state(actor).unwrap().messages).iter().sum();
    assert_eq!((states, house.tallies.total().records), (100, 100), "the counts are exact");
}

#[test]
fn a_crash_between_a_move_and_its_row_loses_nothing() {
    let (mut house, kept) = crowded();
    for number in 10..30 {
        let actor = ActorId::user(number);
        run_inline(&house.directory, Box::new(move |t| t.cut_archive(actor, Sequence::MAX))).unwrap();
    }
    house.sweep();
    let before = house.segments();
    for round in 0..60 {
        let mut reader = house.reader();
        for _ in 0..3 {
            house.commit();
        }
        if let Some(segment) = house.logs[0].second().to_prepare() {
            let wanted = reader.wanted(house.logs[0].id(), segment).unwrap();
            house.logs[0].second_mut().prepared(segment, wanted);
            house.commit();
        }
        if round % 3 == 0 {
            house.logs[0].checkpoint().unwrap();
        }
        if round % 2 == 0 {
            house.write_rows();
        } else {
            // What was moved is not in a row yet.
            house.open(1);
        }
        assert_eq!(house.texts(house.query(ANNA)), kept, "round {round}");
    }
    assert!(house.segments() < before);
    house.settle();
    assert_eq!(house.texts(house.query(BEN)), kept);
}

#[test]
fn what_was_moved_is_held_over_another_number_of_workers() {
    let (mut house, kept) = crowded();
    for number in 10..30 {
        let actor = ActorId::user(number);
        run_inline(&house.directory, Box::new(move |t| t.cut_archive(actor, Sequence::MAX))).unwrap();
    }
    house.sweep();
    for _ in 0..20 {
        house.commit();
        let journal = house.logs[0].id();
        if let Some(segment) = house.logs[0].second().to_prepare() {
            let wanted = house.reader().wanted(journal, segment).unwrap();
            house.logs[0].second_mut().prepared(segment, wanted);
        }
    }
    assert!(house.logs[0].second().load().moves > 0, "no row says yet where it is");
    let folder = house.folder.path().join("log");
    // The second time with what checkpoints have.
    for _ in 0..2 {
        house.open(2);
        let tallies = house.tallies.clone();
        retire_sealed(&folder, &|journal, segment| tallies.needs(journal, segment)).unwrap();
        assert_eq!(house.texts(house.query(ANNA)), kept, "before the rows are written");
    }
    house.flush();
    let moves: u64 = house.logs.iter().map(|log| log.second().load().moves).sum();
    assert_eq!(moves, 0, "the rows say so");
    let tallies = house.tallies.clone();
    retire_sealed(&folder, &|journal, segment| tallies.needs(journal, segment)).unwrap();
    for actor in [ANNA, BEN] {
        assert_eq!(house.texts(house.query(actor)), kept, "{actor}");
    }
    assert!(house.logs.iter().all(|log| log.second().memory_held().is_empty()));
}

#[test]
fn an_erased_text_is_not_moved_and_its_tombstone_stays() {
    let (mut house, kept) = crowded();
    let ids = ids(&house.page(&Query { bytes_max: 1 << 20, ..house.query(ANNA) }));
    let id = ids[3];
    let erased = Erased { at_ms: 1, received_ms: 1, tombstone: b"gone".to_vec() };
    run_inline(&house.directory, Box::new(move |t| t.erase_from_archive(ANNA, id, &erased))).unwrap();
    for number in 10..30 {
        let actor = ActorId::user(number);
        run_inline(&house.directory, Box::new(move |t| t.cut_archive(actor, Sequence::MAX))).unwrap();
    }
    house.sweep();
    house.settle();
    let page = house.page(&Query { bytes_max: 1 << 20, ..house.query(ANNA) });
    assert_eq!(page.messages.len(), kept.len());
    assert_eq!((page.messages[3].erased_ms, page.text(&page.messages[3])), (Some(1), &b"gone"[..]));
    assert!(house.page(&Query { ids: vec![id], ..house.query(ANNA) }).end != End::NotFound(id));
    assert_eq!(house.texts(house.query(BEN)), kept, "another archive keeps it");
}

#[test]
fn another_number_of_workers_leaves_archives_where_they_are() {
    let mut house = House::with(Settings::default(), 2);
    let mut expected: Vec<Vec<String>> = vec![Vec::new(); 8];
    let mut next = 0;
    let mut talk = |house: &mut House, expected: &mut Vec<Vec<String>>, count: u64| {
        for _ in 0..count {
            let (from, to) = (next % 8, (next * 3 + 1) % 8);
            if from != to {
                let text = format!("message {next}");
                house.say(ActorId::user(from + 1), ActorId::user(to + 1), &text);
                expected[from as usize].push(text.clone());
                expected[to as usize].push(text);
            }
            next += 1;
        }
        house.commit();
    };
    for (round, shards) in [3, 1, 2, 2, 4].into_iter().enumerate() {
        talk(&mut house, &mut expected, 700);
        if round % 2 == 0 {
            house.write_rows();
        }
        let waiting: Vec<usize> = (1..=8)
            .map(|n| house.logs[house.shard(ActorId::user(n))].waiting(ActorId::user(n)).count())
            .collect();
        house.open(shards);
        if round % 2 == 1 {
            // Once more, with what was in memory in checkpoints alone.
            house.open(shards);
        }
        let again: Vec<usize> = (1..=8)
            .map(|n| house.logs[house.shard(ActorId::user(n))].waiting(ActorId::user(n)).count())
            .collect();
        assert_eq!(waiting, again);
        for (number, expected) in expected.iter().enumerate() {
            let actor = ActorId::user(number as u64 + 1);
            assert_eq!(&house.texts(house.query(actor)), expected, "{actor} after round {round}");
            let query = Query { order: Order::Backwards, ..house.query(actor) };
            assert!(house.texts(query).iter().rev().eq(expected), "{actor} backwards");
        }
    }
    talk(&mut house, &mut expected, 300);
    house.flush();
    let folder = house.folder.path().join("log");
    assert!(journal_folders(&folder).unwrap().len() > 4, "sealed logs are kept");
    assert_eq!(verify(&folder).unwrap().damage, []);
    let messages: u64 = expected.iter().map(|texts| texts.len() as u64).sum();
    assert_eq!(house.tallies.total().records, messages, "each is counted once");
    // All that the sealed logs have is cut: they go.
    let tallies = house.tallies.clone();
    let needs = |journal, segment| tallies.needs(journal, segment);
    assert_eq!(retire_sealed(&folder, &needs).unwrap(), [0; 0]);
    let newest = Sequence::at(house.now_ms - 300_000);
    for number in 1..=8 {
        run_inline(&house.directory, Box::new(move |t| t.cut_archive(ActorId::user(number), newest)))
            .unwrap();
    }
    house.sweep();
    let left = house.texts(house.query(ANNA)).len();
    let gone = retire_sealed(&folder, &needs).unwrap();
    assert!(!gone.is_empty());
    assert!(journal_folders(&folder).unwrap().len() >= 4);
    assert_eq!(house.texts(house.query(ANNA)).len(), left);
    house.open(4);
    assert_eq!(house.texts(house.query(ANNA)).len(), left);
}

#[test]
fn a_copy_answers_the_same_queries() {
    let mut house = House::with(Settings::default(), 2);
    let mut expected = Vec::new();
    for number in 0..300 {
        expected.push(number.to_string());
        house.say(ANNA, CARL, &expected[number]);
        if number == 100 {
            house.flush();
            house.open(1);
        }
        if number == 200 {
            house.commit();
            house.write_rows();
        }
    }
    house.commit();
    let to = tempfile::tempdir().unwrap();
    backup(&house.folder.path().join("log"), &to.path().join("log")).unwrap();
    // The directory after the log, with rows that the copy of the log may not reach.
    house.say(ANNA, CARL, "later");
    house.flush();
    house.directory.copy_to(&to.path().join("directory")).unwrap();
    drop((house.logs, house.directory));
    house.directory = open_directory(&to.path().join("directory"));
    (house.folder, house.logs) = (to, Vec::new());
    house.now_ms += 3_600_000;
    house.open(1);
    for actor in [ANNA, CARL] {
        assert_eq!(house.texts(house.query(actor)), expected);
    }
    house.say(CARL, ANNA, "goes on");
    expected.push("goes on".into());
    house.flush();
    for actor in [ANNA, CARL] {
        assert_eq!(house.texts(house.query(actor)), expected);
    }
}

#[test]
fn a_lost_index_is_made_anew_from_the_journals() {
    let (mut house, kept) = crowded();
    for number in 10..30 {
        let actor = ActorId::user(number);
        run_inline(&house.directory, Box::new(move |t| t.cut_archive(actor, Sequence::MAX))).unwrap();
    }
    house.sweep();
    // Anna's messages lie in copies by compaction, behind newer ones; and in two generations.
    house.settle();
    house.open(2);
    let mut expected = kept;
    for number in 0..100 {
        expected.push(format!("later {number}"));
        house.say(BEN, ANNA, &expected[expected.len() - 1]);
    }
    house.commit();
    house.logs.clear();
    let records = |house: &House| house.directory.archive_state(ANNA).unwrap().messages;
    let is_there = |actor: ActorId| actor != BEN;
    let mut told = Vec::new();
    let log = house.folder.path().join("log");
    for round in 0..2 {
        let done = rebuild::rebuild(&house.directory, &log, &is_there, &mut |done| told.push(done)).unwrap();
        assert_eq!(
            (done.journals, done.journals_total, records(&house)),
            (3, 3, expected.len() as u64),
            "{round}"
        );
        assert!(told.len() > 5 && told.is_sorted_by_key(|done| done.bytes));
        told.clear();
    }
    let indexed = house.directory.archive_journals().unwrap();
    house.open(2);
    for log in &house.logs {
        let to = indexed.iter().find(|(journal, _)| *journal == log.id()).map(|(_, to)| *to);
        assert!(to.unwrap_or_default() <= log.committed(), "what comes next would be taken for indexed");
    }
    assert_eq!(house.texts(house.query(ANNA)), expected);
    let held: u64 = house.tallies.total().records;
    assert_eq!(held, expected.len() as u64, "Ben is not there, and what was cut is not there again");
    house.flush();
    assert_eq!(house.texts(house.query(ANNA)), expected);
    assert_eq!(records(&house), expected.len() as u64);
}
