//! The rules notice what they are for.

use super::*;

const HALL: &str = "hall@x";

/// Session 0 of user 0 is in the room, and so is session 1 of user 1.
fn two() -> RoomsOracle {
    let mut oracle = RoomsOracle::default();
    for session in [0, 1] {
        oracle.asks(session, HALL, (1, false));
        oracle.enters((session, session), HALL, "a").unwrap();
    }
    oracle
}

#[test]
fn a_hole_another_order_and_a_second_time_are_noticed() {
    let mut oracle = two();
    let all: Vec<u32> = (0..3).map(|_| oracle.says(0, HALL, 1)).collect();
    for (n, id) in [(all[0], 10), (all[1], 20), (all[2], 30)] {
        oracle.hears((0, 0), HALL, (n, id)).unwrap();
    }
    oracle.judge().unwrap();
    oracle.hears((1, 1), HALL, (all[0], 10)).unwrap();
    assert!(oracle.judge().unwrap_err().contains("1 of 3"));
    oracle.hears((1, 1), HALL, (all[2], 30)).unwrap();
    assert!(oracle.judge().unwrap_err().contains("2 of 3"));
    assert!(oracle.hears((1, 1), HALL, (all[1], 20)).unwrap_err().contains("out of order"));
    assert!(oracle.hears((1, 1), HALL, (all[2], 30)).unwrap_err().contains("or twice"));
    assert!(oracle.hears((1, 1), HALL, (all[2], 40)).unwrap_err().contains("heard twice"));
    assert!(oracle.hears((1, 1), HALL, (7, 50)).unwrap_err().contains("not said"));
    assert!(oracle.hears((2, 2), HALL, (all[0], 10)).unwrap_err().contains("never wanted"));
}

#[test]
fn what_a_user_may_not_hear_any_more_is_noticed() {
    let mut oracle = two();
    let (before, after) = (oracle.says(0, HALL, 5), oracle.says(0, HALL, 9));
    oracle.bars(1, HALL, (Bar::Banned, 7));
    oracle.bars(1, HALL, (Bar::Banned, 8));
    oracle.hears((1, 1), HALL, (before, 10)).unwrap();
    assert!(oracle.hears((1, 1), HALL, (after, 20)).unwrap_err().contains("may not"));
    oracle.lets_in(1, HALL, Bar::Closed);
    assert!(oracle.reads(1, HALL, (after, 20), Some(8)).unwrap_err().contains("may not"));
    oracle.lets_in(1, HALL, Bar::Banned);
    oracle.hears((1, 1), HALL, (after, 20)).unwrap();
    oracle.reads(1, HALL, (after, 20), Some(8)).unwrap();
    assert!(oracle.reads(1, HALL, (after, 30), Some(8)).unwrap_err().contains("is read as"));
}

#[test]
fn a_session_that_enters_where_it_may_not_is_noticed() {
    for (asked, has_key, is_barred, fine) in
        [(9, false, true, false), (4, false, true, true), (9, true, false, true), (9, false, false, false)]
    {
        let mut oracle = RoomsOracle::default();
        if is_barred {
            oracle.bars(1, HALL, (Bar::Closed, 5));
        } else {
            oracle.locks(HALL, Some((5, 0)));
        }
        oracle.asks(7, HALL, (1, true));
        oracle.is_refused(7, HALL);
        oracle.asks(7, HALL, (asked, has_key));
        let entered = oracle.enters((7, 1), HALL, "n");
        assert_eq!(entered.is_ok(), fine, "{asked} {has_key} {is_barred}: {entered:?}");
        assert_eq!(oracle.nick_of(7, HALL).as_deref(), Some("n"));
    }
}

#[test]
fn what_was_said_in_a_room_that_is_gone_is_not_in_another_one_of_its_name() {
    let mut oracle = two();
    let said: Vec<u32> = (0..2).map(|_| oracle.says(0, HALL, 1)).collect();
    for (n, step) in [(said[0], 3), (said[1], 9)] {
        oracle.told(n, Told::Surely).unwrap();
        oracle.acknowledged(n, step);
    }
    assert!(oracle.check_archive(HALL, &[]).unwrap_err().contains("not in the archive"));
    oracle.is_destroyed(HALL, (5, 8));
    oracle.check_archive(HALL, &[]).unwrap();
    oracle.check_archive(HALL, &[(1, said[1])]).unwrap();
    assert!(oracle.check_archive(HALL, &[(1, said[0])]).unwrap_err().contains("not its own"));
}

#[test]
fn an_archive_that_lacks_repeats_or_swaps_something_is_noticed() {
    let mut oracle = two();
    let said: Vec<u32> = (0..3).map(|_| oracle.says(0, HALL, 1)).collect();
    oracle.told(said[0], Told::Surely).unwrap();
    oracle.told(said[1], Told::Perhaps).unwrap();
    oracle.told(said[2], Told::Refused).unwrap();
    let mut look = |found: &[(u64, u32)]| oracle.check_archive(HALL, found);
    look(&[(1, 0)]).unwrap();
    look(&[(1, 0), (2, 1)]).unwrap();
    for (found, what) in [
        (&[][..], "not in the archive"),
        (&[(2, 1), (1, 0)], "do not rise"),
        (&[(1, 0), (2, 0)], "twice"),
        (&[(1, 0), (2, 2)], "not its own"),
        (&[(1, 0), (2, 9)], "not its own"),
    ] {
        let error = look(found).unwrap_err();
        assert!(error.contains(what), "{error}");
    }
    oracle.hears((0, 0), HALL, (1, 20)).unwrap();
    assert!(oracle.check_archive(HALL, &[(1, 0)]).unwrap_err().contains("acknowledged"));
    assert!(oracle.check_archive(HALL, &[(1, 0), (2, 1)]).unwrap_err().contains("another id"));
    assert!(oracle.told(1, Told::Refused).unwrap_err().contains("heard and refused"));
    assert!(oracle.hears((0, 0), HALL, (2, 30)).unwrap_err().contains("refused"));
}
