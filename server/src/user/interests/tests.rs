//! Tests of [`super`].

use super::*;

const MAX: usize = 4;

fn announced(byte: u8) -> Announced {
    Announced { node: format!("n#{byte}"), hash: [byte; HASH_BYTES] }
}

fn key(number: u32) -> ResourceKey {
    ResourceKey(number)
}

fn nodes(names: &[&str]) -> Vec<Box<str>> {
    names.iter().map(|name| (*name).into()).collect()
}

#[test]
fn a_hash_is_asked_for_once_and_known_to_all_who_announce_it() {
    let mut interests = Interests::default();
    assert_eq!(interests.note((key(7), "a"), Some(&announced(1)), MAX, 0), Noted::Ask);
    assert_eq!(interests.note((key(7), "a"), Some(&announced(1)), MAX, 0), Noted::Same);
    assert_eq!(interests.note((key(2), "a"), Some(&announced(1)), MAX, 0), Noted::Ask);
    assert_eq!(interests.note((key(3), "a"), Some(&announced(1)), MAX, 0), Noted::Ask);
    assert_eq!(interests.note((key(4), "a"), Some(&announced(1)), MAX, 0), Noted::Wait);
    assert!(!interests.wants(key(7), "a"));
    assert_eq!(interests.learn(key(2), nodes(&["a", "b"])), [key(7), key(2), key(3), key(4)]);
    assert!([2, 3, 4, 7].into_iter().all(|number| interests.wants(key(number), "b")));
    assert!(!interests.wants(key(7), "c") && !interests.wants(key(1), "a"));
    assert_eq!(interests.note((key(9), "a"), Some(&announced(1)), MAX, 0), Noted::Changed);
    assert_eq!(interests.note((key(9), "a"), None, MAX, 0), Noted::Same);
    assert!(!interests.wants(key(9), "a"));
    assert_eq!(interests.learn(key(2), nodes(&["z"])), [], "what is known stays");
    assert!(interests.wants(key(2), "a"));
}

#[test]
fn another_is_asked_when_one_lies_or_goes_or_is_silent() {
    let mut interests = Interests::default();
    for number in 0..5 {
        interests.note((key(number), "a"), Some(&announced(1)), MAX, 0);
    }
    interests.forget(key(0));
    interests.forget(key(1));
    assert_eq!(interests.take_due(), [key(3), key(4)]);
    interests.forget(key(2));
    assert_eq!(interests.take_due(), [], "all others have been asked");
    assert_eq!(interests.note((key(6), "a"), Some(&announced(1)), MAX, ANSWER_MS), Noted::Ask);
    assert_eq!(interests.learn(key(6), nodes(&["a"])), [key(3), key(4), key(6)]);
    assert!(!interests.wants(key(0), "a"), "one that has lied gets nothing");
}

#[test]
fn there_are_no_more_hashes_than_there_is_room_for() {
    let mut interests = Interests::default();
    for number in 0..4 {
        interests.note((key(number), "a"), Some(&announced(number as u8)), MAX, 0);
        interests.learn(key(number), nodes(&["a"]));
    }
    assert_eq!(interests.note((key(9), "a"), Some(&announced(9)), MAX, 0), Noted::Full);
    interests.forget(key(2));
    assert_eq!(interests.len(), MAX, "what is known stays");
    assert_eq!(interests.note((key(9), "a"), Some(&announced(9)), MAX, 0), Noted::Ask);
    assert_eq!(interests.len(), MAX);
    interests.forget(key(9));
    assert_eq!(interests.len(), MAX - 1, "what nobody knows does not");
    assert!(interests.wants(key(3), "a"));
}

#[test]
fn what_is_known_goes_to_another_program() {
    let mut interests = Interests::default();
    interests.note((key(0), "a"), Some(&announced(1)), MAX, 0);
    interests.note((key(1), "a"), Some(&announced(2)), MAX, 0);
    interests.learn(key(0), nodes(&["a"]));
    let mut other = Interests::default();
    for (hash, nodes) in interests.known() {
        other.restore(*hash, nodes.to_vec(), MAX);
    }
    for number in 0..2 {
        other.restore_of((key(5 + number), "a"), *interests.hash_of(key(number)).unwrap(), MAX);
    }
    assert!(other.wants(key(5), "a"));
    assert_eq!(other.note((key(5), "a"), Some(&announced(1)), MAX, 0), Noted::Same);
    other.ask_anew();
    assert_eq!(other.take_due(), [key(6)], "what is not known is asked for again");
    assert_eq!(other.learn(key(6), nodes(&["b"])), [key(6)]);
    assert_eq!((interests.hash_of(key(9)), other.hash_of(key(6))), (None, Some(&announced(2).hash)));
}

/// One account whose clients announce a new hash each must not keep others' out.
#[test]
fn an_account_with_many_hashes_makes_room_for_others() {
    let mut interests = Interests::default();
    for number in 0..4 {
        interests.note((key(number), "mallory"), Some(&announced(number as u8)), MAX, 0);
        interests.learn(key(number), nodes(&["a"]));
    }
    // More than one client of a hash make it dearer.
    interests.note((key(4), "mallory"), Some(&announced(0)), MAX, 0);
    assert_eq!(interests.note((key(5), "mallory"), Some(&announced(5)), MAX, 0), Noted::Full);
    assert_eq!(interests.take_lost(), 0);
    assert_eq!(interests.note((key(6), "juliet"), Some(&announced(6)), MAX, 0), Noted::Ask);
    assert_eq!(interests.take_lost(), 1);
    assert!(
        !interests.wants(key(1), "a"),
        "of those with one client the one that was used least lately has gone"
    );
    assert!([0, 2, 3, 4].into_iter().all(|number| interests.wants(key(number), "a")));
    assert_eq!(interests.note((key(7), "romeo"), Some(&announced(7)), MAX, 0), Noted::Ask);
    assert!(!interests.wants(key(2), "a"));
    assert_eq!(interests.len(), MAX);
    // Now each has one, and mallory two: nobody takes from somebody who has no more than itself.
    assert_eq!(interests.note((key(8), "juliet"), Some(&announced(8)), MAX, 0), Noted::Full);
    assert_eq!(interests.note((key(1), "mallory"), Some(&announced(1)), MAX, 0), Noted::Full);
    interests.learn(key(6), nodes(&["b"]));
    assert!(interests.wants(key(6), "b"));
}

/// What clients of several accounts announce is the share of none of them.
#[test]
fn a_hash_of_several_accounts_stays_longest() {
    let mut interests = Interests::default();
    for (number, hash) in [(0, 0), (1, 1), (2, 2), (3, 3)] {
        interests.note((key(number), "mallory"), Some(&announced(hash)), MAX, 0);
        interests.learn(key(number), nodes(&["a"]));
    }
    interests.note((key(4), "juliet"), Some(&announced(0)), MAX, 0);
    for (number, account) in [(5, "romeo"), (6, "benvolio")] {
        assert_eq!(
            interests.note((key(number), account), Some(&announced(number as u8)), MAX, 0),
            Noted::Ask
        );
    }
    assert!(interests.wants(key(0), "a") && interests.wants(key(4), "a"));
    assert!(interests.wants(key(3), "a") && !interests.wants(key(1), "a") && !interests.wants(key(2), "a"));
    assert_eq!(
        interests.note((key(7), "paris"), Some(&announced(7)), MAX, 0),
        Noted::Full,
        "all have one each"
    );
}

/// An account that changes its hash with each presence loses its own, not those that others will come back with.
#[test]
fn what_one_account_has_left_behind_goes_first() {
    let mut interests = Interests::default();
    interests.note((key(0), "juliet"), Some(&announced(0)), MAX, 0);
    interests.learn(key(0), nodes(&["a"]));
    interests.forget(key(0));
    for hash in 10..30 {
        assert_eq!(interests.note((key(1), "mallory"), Some(&announced(hash)), MAX, 0), Noted::Ask);
        interests.learn(key(1), nodes(&["a"]));
    }
    assert_eq!(
        interests.note((key(0), "juliet"), Some(&announced(0)), MAX, 0),
        Noted::Changed,
        "it is still known"
    );
    assert_eq!(interests.take_lost(), 0);
}
