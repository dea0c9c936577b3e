//! Following the journal: blocks in memory, rows, crashes.

use super::*;
use crate::log::{AppendError, Message};

#[test]
fn a_message_of_two_is_one_text_and_is_in_both_archives() {
    let mut house = House::new();
    let before = house.logs[0].appended().0;
    let id = house.say(ANNA, BEN, "hello");
    // A message with the text, and a reference of 48 bytes to it.
    assert_eq!(house.logs[0].appended().0 - before, 64 + 8 + 48);
    for (actor, with) in [(ANNA, BEN), (BEN, ANNA)] {
        let page = house.page(&house.query(actor));
        assert_eq!((ids(&page), page.end), (vec![id], End::Complete));
        let found = &page.messages[0];
        assert_eq!((page.text(found), found.peer, found.time_ms), (&b"hello"[..], peer(with), house.now_ms));
    }
    let waiting: Vec<_> = [ANNA, BEN].map(|actor| house.logs[0].waiting(actor).count()).to_vec();
    assert_eq!(waiting, [0, 1], "a sender's own copy waits for nobody");
    house.logs[0].trim(BEN, id);
    assert_eq!(house.texts(house.query(BEN)), ["hello"], "acknowledged, and kept all the same");
}

#[test]
fn only_what_is_for_an_archive_is_in_one() {
    let mut house = House::new();
    house.now_ms += 1;
    let body = Body { time_ms: house.now_ms, origin: Origin::default(), payload: b"text" };
    let copy = |actor, flags| ActorCopy { actor, flags, peer: PeerHash(1) };
    let mut results = Vec::new();
    let log = &mut house.logs[0];
    log.append_for(
        &[copy(ANNA, Flags::NONE), copy(BEN, Flags::NOT_QUEUED.and(Flags::ARCHIVED))],
        &body,
        &mut results,
    );
    let before = log.appended();
    log.append_for(&[copy(ANNA, Flags::NOT_QUEUED), copy(BEN, Flags::NOT_QUEUED)], &body, &mut results);
    assert_eq!(
        (log.appended(), results[0].unwrap().sequence),
        (before, Sequence::ZERO),
        "nothing is written"
    );
    assert_eq!((house.texts(house.query(ANNA)).len(), house.texts(house.query(BEN)).len()), (0, 1));
    assert_eq!((house.logs[0].waiting(ANNA).count(), house.logs[0].waiting(BEN).count()), (1, 0));
}

#[test]
fn a_text_that_several_wait_for_and_keep_is_written_once() {
    let mut house = House::new();
    let body = Body { time_ms: house.now_ms, origin: Origin::default(), payload: &[b'x'; 400] };
    let actors: Vec<ActorId> = (1..=20).map(ActorId::user).collect();
    let copies: Vec<ActorCopy> = actors
        .iter()
        .map(|actor| ActorCopy { actor: *actor, flags: Flags::ARCHIVED, peer: PeerHash(9) })
        .collect();
    let before = house.logs[0].appended().0;
    let mut results = Vec::new();
    house.logs[0].append_for(&copies, &body, &mut results);
    assert_eq!(house.logs[0].appended().0 - before, 64 + 400 + 20 * 48);
    for actor in &actors {
        house.logs[0].purge(ActorId::user(99));
        house.logs[0].trim(*actor, results[0].unwrap().sequence);
    }
    house.flush();
    house.open(1);
    for actor in actors {
        assert_eq!(house.texts(house.query(actor)), ["x".repeat(400)], "{actor}");
    }
}

#[test]
fn full_blocks_become_rows_and_open_ones_stay_in_memory() {
    let mut house = House::new();
    for number in 0..150 {
        house.say(ANNA, BEN, &format!("message {number}"));
    }
    assert_eq!(house.logs[0].second().load().sealed_blocks, 4);
    assert_eq!(house.logs[0].second_mut().take_changes(9), None, "nothing is committed yet");
    house.commit();
    let applied = house.write_rows();
    assert_eq!(applied.messages, 2 * 128);
    let load = house.logs[0].second().load();
    assert_eq!((load.sealed_blocks, load.open_blocks, load.messages), (0, 2, 2 * 22));
    assert_eq!(house.directory.archive_index().unwrap().0, 4);
    let expected: Vec<String> = (0..150).map(|number| format!("message {number}")).collect();
    for actor in [ANNA, BEN] {
        assert_eq!(house.texts(house.query(actor)), expected);
    }
}

#[test]
fn what_is_in_memory_survives_a_crash_and_a_checkpoint() {
    for checkpoints in [false, true] {
        let mut house = House::new();
        let mut expected = Vec::new();
        for round in 0..5 {
            for number in 0..50 {
                expected.push(format!("{round} {number}"));
                house.say(ANNA, BEN, &expected[expected.len() - 1]);
            }
            house.commit();
            if round % 2 == 0 {
                house.write_rows();
            }
            if checkpoints {
                house.logs[0].checkpoint().unwrap();
                expected.push(format!("behind {round}"));
                house.say(BEN, ANNA, &expected[expected.len() - 1]);
                house.commit();
            }
            house.open(1);
            for actor in [ANNA, BEN] {
                assert_eq!(house.texts(house.query(actor)), expected);
            }
        }
        house.flush();
        let state = house.directory.archive_state(ANNA).unwrap();
        assert_eq!(state.messages, expected.len() as u64, "each is counted once");
    }
}

#[test]
fn rows_that_are_written_twice_are_there_once() {
    let mut house = House::new();
    let settings = Settings { heads_bytes_max: 1 };
    house.settings = settings;
    house.open(1);
    for number in 0..30 {
        house.say(ANNA, BEN, &number.to_string());
        // The oldest blocks are evicted in every round: rows of other blocks than after a crash.
        if number % 7 == 0 {
            house.commit();
            house.write_rows();
        }
    }
    house.commit();
    house.settings = Settings::default();
    house.open(1);
    let expected: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    assert_eq!(house.texts(house.query(BEN)), expected);
    house.flush();
    assert_eq!(house.texts(house.query(BEN)), expected);
    let state = house.directory.archive_state(BEN).unwrap();
    assert_eq!(state.messages, 30);
    let held = house.tallies.total();
    assert_eq!(held.records, 60, "what is held is counted once");
}

#[test]
fn few_messages_at_a_time_make_few_rows() {
    let mut house = House::with(Settings { heads_bytes_max: 1 }, 1);
    for number in 0..64 {
        house.say(ANNA, BEN, &number.to_string());
        house.commit();
        house.write_rows();
    }
    house.flush();
    assert_eq!(house.directory.archive_index().unwrap().0, 2, "one row of each of the two");
}

#[test]
fn a_directory_that_stands_still_bounds_the_memory() {
    let mut house = House::with(Settings { heads_bytes_max: 20_000 }, 1);
    let body = Body { time_ms: 5, origin: Origin::default(), payload: b"text" };
    let (mut taken, mut results) = (0, Vec::new());
    for number in 0..20_000 {
        let actor = ActorId::user(number % 500);
        let flags = Flags::ARCHIVED.and(Flags::NOT_QUEUED);
        house.logs[0].append_for(&[ActorCopy { actor, flags, peer: PeerHash(1) }], &body, &mut results);
        match results[0] {
            Ok(_) => taken += 1,
            Err(error) => {
                assert_eq!(error, AppendError::Full);
                break;
            }
        }
    }
    assert!((450..2_000).contains(&taken), "{taken}");
    assert!(house.logs[0].second().load().memory_bytes < 250_000, "{:?}", house.logs[0].second().load());
    let actor = ActorId::user(1);
    let message = Message {
        actor,
        time_ms: 6,
        flags: Flags::NONE,
        origin: Origin::default(),
        peer: PeerHash::NONE,
        payload: b"x",
    };
    assert!(house.logs[0].append(&message).is_ok(), "what is for no archive goes on");
    house.commit();
    let written = house.write_rows().messages;
    assert_eq!(house.tallies.total().records, written);
    house.logs[0].append_for(
        &[ActorCopy { actor, flags: Flags::ARCHIVED, peer: PeerHash(1) }],
        &body,
        &mut results,
    );
    assert!(results[0].is_ok(), "there is room again");
}

#[test]
fn changes_that_fail_are_given_again() {
    let mut house = House::new();
    for number in 0..64 {
        house.say(ANNA, BEN, &number.to_string());
    }
    house.commit();
    let archive = house.logs[0].second_mut();
    let first = archive.take_changes(9).unwrap();
    assert_eq!(archive.take_changes(9), None, "one at a time");
    archive.changes_done(&first, false);
    let again = archive.take_changes(9).unwrap();
    assert_eq!(Changes { number: first.number, ..again.clone() }, first);
    // An answer to others is none to these.
    archive.changes_done(&first, true);
    assert!(archive.is_away());
    archive.changes_done(&again, false);
    assert!(!archive.is_away());
    assert_eq!(house.texts(house.query(ANNA)).len(), 64);
    house.write_rows();
    assert_eq!(house.texts(house.query(ANNA)).len(), 64);
}

#[test]
fn changes_that_are_gathered_in_pieces_are_those_that_are_taken_at_once() {
    let mut house = House::new();
    for number in 0..64 * 9 + 7 {
        house.say(ANNA, BEN, &number.to_string());
    }
    house.commit();
    let archive = house.logs[0].second_mut();
    let at_once = archive.take_changes(usize::MAX).unwrap();
    archive.changes_done(&at_once, false);
    let mut pieces = Vec::new();
    while let piece @ 1.. = archive.gather(4) {
        pieces.push(piece);
    }
    assert_eq!((pieces, archive.gathered()), (vec![4, 4, 4, 4, 2], 18));
    // What is said meanwhile is of the next ones, and a purge leaves alone what is on its way.
    house.say(ANNA, BEN, "later");
    let archive = house.logs[0].second_mut();
    let gathered = archive.take_changes(0).unwrap();
    assert_eq!(Changes { number: at_once.number, ..gathered.clone() }, at_once);
    assert_eq!((archive.gather(1), archive.gathered()), (0, 0), "nothing while it is away");
    archive.changes_done(&gathered, false);
    // Nothing of the segments is let go before it is committed, and all of it after that.
    house.flush();
    assert_eq!(house.texts(house.query(BEN)).len(), 64 * 9 + 8);
    assert_eq!(house.logs[0].second().load().messages, 0);
    assert!(house.logs[0].second().memory_held().is_empty());
}

#[test]
fn an_actor_that_is_gone_has_no_archive_and_gets_none() {
    let mut house = House::new();
    for number in 0..100 {
        house.say(ANNA, BEN, &number.to_string());
    }
    house.commit();
    let on_its_way = house.logs[0].second_mut().take_changes(9).unwrap();
    run_inline(&house.directory, Box::new(|t| t.purge_archive(ANNA))).unwrap();
    house.logs[0].purge(ANNA);
    let given = on_its_way.clone();
    let applied =
        run_inline(&house.directory, Box::new(move |t| t.apply_archive(&given, Shares::default()))).unwrap();
    house.tallies.apply(&applied.segments);
    house.logs[0].second_mut().changes_done(&on_its_way, true);
    assert_eq!(house.texts(house.query(ANNA)), [""; 0]);
    assert_eq!(house.texts(house.query(BEN)).len(), 100);
    house.commit();
    house.open(1);
    house.flush();
    assert_eq!((house.texts(house.query(ANNA)).len(), house.texts(house.query(BEN)).len()), (0, 100));
    assert_eq!(house.directory.archive_state(ANNA).unwrap().messages, 0);
}

#[test]
fn segments_live_as_long_as_an_archive_holds_them() {
    let mut house = House::new();
    let text = "x".repeat(1000);
    for _ in 0..300 {
        let id = house.say(ANNA, BEN, &text);
        house.logs[0].trim(BEN, id);
    }
    house.flush();
    for _ in 0..20 {
        house.upkeep();
    }
    assert_eq!(house.texts(house.query(ANNA)).len(), 300, "nothing is deleted");
    // All but the last hundred seconds is too old.
    house.logs[0].second_mut().expire(Sequence::at(house.now_ms - 100_000));
    for _ in 0..20 {
        house.upkeep();
    }
    let left = house.texts(house.query(ANNA)).len();
    assert!((85..200).contains(&left), "{left} messages");
    assert!(house.logs[0].journal().segments().count() < 5);
    let rows: u64 =
        house.directory.archive_segments().unwrap().iter().map(|segment| segment.held.records).sum();
    assert!(rows < 2 * 200, "{rows} in the directory's counts");
    house.open(1);
    assert_eq!(house.texts(house.query(BEN)).len(), left);
}

#[test]
fn without_a_checkpoint_only_what_rows_do_not_have_is_taken_into_memory() {
    let mut house = House::new();
    house.say(ANNA, BEN, "early");
    let text = "x".repeat(1000);
    for number in 0..2400 {
        let (from, to) = (ActorId::user(10 + number % 2), ActorId::user(12));
        let id = house.say(from, to, &text);
        house.logs[0].trim(to, id);
        if number % 20 == 0 {
            house.commit();
            house.write_rows();
        }
    }
    house.upkeep();
    assert_eq!(
        house.directory.archive_state(ANNA).unwrap().messages,
        1,
        "it says nothing more, and has a row all the same"
    );
    let folder = journal_folders(&house.folder.path().join("log")).unwrap().remove(0).1;
    house.logs.clear();
    let _ = std::fs::remove_file(folder.join("checkpoint"));
    house.open(1);
    let load = house.logs[0].second().load();
    assert!(load.messages < 2 * 1300, "what the last megabyte has: {load:?}");
    assert_eq!(house.texts(house.query(ANNA)), ["early"]);
    assert_eq!(house.texts(house.query(ActorId::user(12))).len(), 2400);
}
