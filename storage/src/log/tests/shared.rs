//! One text for several actors.

use std::fs;

use tempfile::TempDir;

use super::files::{SEGMENT, flip, long, open, open_many, options, put, segment, texts};
use crate::actor::ActorId;
use crate::log::*;

fn actors(numbers: &[u64]) -> Vec<ActorCopy> {
    numbers.iter().map(|number| ActorCopy::queued(ActorId::user(*number))).collect()
}

fn body(text: &str) -> Body<'_> {
    Body { time_ms: 1_000, origin: Origin { stream: 3, number: 4 }, payload: text.as_bytes() }
}

/// Appends a text for users, all of whom get it. Returns its id.
fn put_for(log: &mut Log, users: &[u64], text: &str) -> Sequence {
    let mut results = Vec::new();
    log.append_for(&actors(users), &body(text), &mut results);
    let sequences: Vec<Sequence> =
        results.into_iter().map(|result| result.expect("there is room").sequence).collect();
    assert_eq!(sequences.len(), users.len());
    assert!(sequences.iter().all(|sequence| *sequence == sequences[0]), "they share one id");
    sequences[0]
}

fn opened() -> (TempDir, Log) {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(folder.path());
    (folder, log)
}

#[test]
fn a_text_for_many_is_written_once_and_each_has_it() {
    let (folder, mut log) = opened();
    let text = long(7);
    let users: Vec<u64> = (1..=50).collect();
    let before = log.appended();
    let sequence = put_for(&mut log, &users, &text);
    // A body like a message, and 48 bytes for each of them.
    assert_eq!(log.appended().0 - before.0, 64 + 1000 + 50 * 48);
    put(&mut log, 3, "own");
    log.close().unwrap();
    let (log, report) = open(folder.path());
    assert_eq!((report.messages, report.users, report.damage), (51, 50, vec![]));
    for user in users {
        let record = log.pending(ActorId::user(user)).next().unwrap().unwrap();
        assert_eq!(record.payload, text.as_bytes());
        let expected = (ActorId::user(user), sequence, 1_000, Origin { stream: 3, number: 4 });
        assert_eq!((record.actor, record.sequence, record.time_ms, record.origin), expected);
    }
    assert_eq!(texts(&log, 3), [text, "own".to_owned()]);
}

#[test]
fn for_one_actor_it_is_a_message_and_for_none_nothing() {
    let (_folder, mut log) = opened();
    put_for(&mut log, &[5], "alone");
    assert_eq!((texts(&log, 5), log.queue().shared_bodies()), (vec!["alone".to_owned()], 0));
    let (end, mut results) = (log.appended(), vec![Err(AppendError::Full)]);
    log.append_for(&[], &body("nobody"), &mut results);
    assert_eq!((log.appended(), results.len()), (end, 0));
}

#[test]
fn a_body_goes_with_the_last_that_refers_to_it() {
    let (folder, mut log) = opened();
    let sequence = put_for(&mut log, &[1, 2, 3], "text");
    log.trim(ActorId::user(2), sequence);
    log.purge(ActorId::user(1));
    assert_eq!((log.queue().shared_bodies(), log.queue().held_records()), (1, 2));
    assert_eq!(texts(&log, 3), ["text"]);
    log.commit_now().unwrap();
    drop(log);
    for closes in [false, true] {
        let (log, report) = open(folder.path());
        assert_eq!((report.messages, log.queue().held_records()), (1, 2));
        assert_eq!((texts(&log, 3), texts(&log, 1).len()), (vec!["text".to_owned()], 0));
        if closes {
            log.close().unwrap();
        }
    }
    let (mut log, _) = open(folder.path());
    log.trim_up_to(ActorId::user(3), sequence);
    assert_eq!((log.queue().shared_bodies(), log.queue().held_records()), (0, 0));
}

#[test]
fn an_actor_without_room_is_refused_alone() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Options { user_messages_max: 1, ..options() };
    let mut log = open_many(folder.path(), &limits, 1).logs.remove(0);
    put(&mut log, 2, "full");
    let mut results = Vec::new();
    log.append_for(&actors(&[1, 2, 3]), &body("text"), &mut results);
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(results[1], Err(AppendError::UserQuota));
    assert_eq!((texts(&log, 1), texts(&log, 2)), (vec!["text".to_owned()], vec!["full".to_owned()]));
    // All are full: no body is left that nobody waits for.
    log.append_for(&actors(&[1, 2, 3]), &body("text"), &mut results);
    assert!(results.iter().all(|result| *result == Err(AppendError::UserQuota)));
    assert_eq!((log.queue().shared_bodies(), log.queue().held_records()), (1, 4));
    log.append_for(&actors(&[1, 2]), &Body { payload: &[0; 9000], ..body("") }, &mut results);
    assert_eq!(results, [Err(AppendError::TooLarge); 2]);
}

#[test]
fn compaction_moves_a_body_and_its_references() {
    let (folder, mut log) = opened();
    let sequence = put_for(&mut log, &[1, 2, 3], "kept");
    // A reference that stays behind its body's copy lies in a later segment.
    for number in 0..400 {
        put(&mut log, 9, &long(number));
        if number == 100 {
            log.trim(ActorId::user(2), sequence);
        }
    }
    log.purge(ActorId::user(9));
    let first = segment(folder.path(), 0);
    for now in 0..200 {
        log.maintain(now * 100);
        log.commit_now().unwrap();
        log.keep_files_now();
    }
    assert!(!first.exists(), "its segment is gone");
    assert_eq!(
        (texts(&log, 1), texts(&log, 2).len(), texts(&log, 3)),
        (vec!["kept".into()], 0, vec!["kept".into()])
    );
    assert_eq!(log.waiting(ActorId::user(1)).collect::<Vec<_>>(), [sequence], "under the id that it had");
    drop(log);
    let verified = verify(folder.path()).unwrap();
    assert_eq!((verified.damage, verified.logs[0].messages), (vec![], 2));
    let (log, report) = open(folder.path());
    assert_eq!((report.damage, report.messages), (vec![], 2));
    assert_eq!((texts(&log, 1), texts(&log, 3)), (vec!["kept".to_owned()], vec!["kept".to_owned()]));
}

#[test]
fn expiry_tells_each_actors_message() {
    let (_folder, mut log) = opened();
    put_for(&mut log, &[1, 2], "old");
    let mut expired = Vec::new();
    let count = log.expire(2_000, 100, &mut |record| expired.push((record.actor, record.payload.to_vec())));
    expired.sort();
    assert_eq!(count, 2);
    assert_eq!(expired, [(ActorId::user(1), b"old".to_vec()), (ActorId::user(2), b"old".to_vec())]);
    assert_eq!((log.queue().messages(), log.queue().shared_bodies()), (0, 0));
}

#[test]
fn a_damaged_body_costs_the_messages_that_refer_to_it() {
    for closes in [false, true] {
        let (folder, mut log) = opened();
        put_for(&mut log, &[1, 2], &long(1));
        put_for(&mut log, &[1, 3], &long(2));
        log.commit_now().unwrap();
        put(&mut log, 1, "knows that it was committed");
        log.commit_now().unwrap();
        if closes {
            log.close().unwrap();
        } else {
            drop(log);
        }
        // Behind the header and the mark.
        flip(&segment(folder.path(), 0), 128 + 32 + 500);
        let verified = verify(folder.path()).unwrap();
        assert!(
            verified.damage.iter().any(|damage| damage.offset == 160 && damage.bytes == 1064),
            "{verified:?}"
        );
        let lost = |damage: &&Damage| damage.what == "the text of a waiting message is gone";
        assert_eq!(
            verified.damage.iter().filter(lost).map(|damage| damage.bytes).collect::<Vec<_>>(),
            [48, 48]
        );
        let (log, report) = open(folder.path());
        if closes {
            // The checkpoint spares the scan: it shows when the message is read.
            let found: Vec<bool> = log.pending(ActorId::user(1)).map(|record| record.is_ok()).collect();
            assert_eq!(found, [false, true, true]);
            continue;
        }
        assert_eq!(report.damage, verified.damage);
        assert_eq!((report.messages, verified.logs[0].messages), (3, 3));
        assert_eq!((texts(&log, 1).len(), texts(&log, 2).len(), texts(&log, 3)), (2, 0, vec![long(2)]));
        drop(log);
        let (log, report) = open(folder.path());
        assert_eq!((report.messages, log.queue().held_records()), (3, 4), "the same, opened once more");
    }
}

#[test]
fn an_unreadable_body_is_given_up_by_compaction() {
    let (folder, mut log) = opened();
    put_for(&mut log, &[1, 2], &long(1));
    for number in 0..400 {
        put(&mut log, 9, &long(number));
    }
    log.purge(ActorId::user(9));
    log.commit_now().unwrap();
    // While it is open: the disk gives back something else than was written.
    flip(&segment(folder.path(), 0), 128 + 32 + 500);
    for now in 0..200 {
        log.maintain(now * 100);
        log.commit_now().unwrap();
        log.keep_files_now();
    }
    assert_eq!((log.queue().messages(), log.queue().held_records()), (0, 0));
    assert_eq!(log.metrics().messages_lost.load(std::sync::atomic::Ordering::Relaxed), 2);
    assert_eq!(fs::read_dir(folder.path().join("damaged")).unwrap().count(), 1, "the segment is kept aside");
    log.close().unwrap();
    assert_eq!(open(folder.path()).1.messages, 0);
}

#[test]
fn another_number_of_logs_shares_a_body_on_each_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut logs = open_many(folder.path(), &options(), 2).logs;
    // Both logs give the same id, as two workers do in one millisecond.
    let even = put_for(&mut logs[0], &[2, 4, 6, 8], "even");
    let odd = put_for(&mut logs[1], &[1, 3, 5, 7], "odd");
    assert_eq!(even, odd);
    drop(logs);
    for shards in [1, 3, 2] {
        let opened = open_many(folder.path(), &options(), shards);
        assert_eq!((opened.report.messages, opened.report.damage.len()), (8, 0));
        for user in 1..=8_u64 {
            let log = &opened.logs[user as usize % shards];
            assert_eq!(
                texts(log, user),
                [if user % 2 == 0 { "even" } else { "odd" }],
                "user {user} of {shards}"
            );
            assert_eq!(log.waiting(ActorId::user(user)).collect::<Vec<_>>(), [even], "the id is what it was");
        }
        let bodies: usize = opened.logs.iter().map(|log| log.queue().shared_bodies()).sum();
        assert!(bodies >= shards.min(2) - 1, "texts are still shared where ids allow it: {bodies}");
        assert!(opened.logs.iter().all(|log| log.journal().appended().0 < SEGMENT));
    }
}

#[test]
fn others_refer_to_a_text_that_is_there() {
    let (_folder, mut log) = opened();
    let mut results = Vec::new();
    let text = put_for(&mut log, &[1, 2], "text");
    let before = log.appended();
    assert!(log.append_references(&actors(&[3, 4]), text, &body("text"), &mut results));
    assert!(results.iter().all(|result| result.as_ref().unwrap().sequence == text));
    assert_eq!(log.appended().0 - before.0, 2 * 48, "no text, and two references");
    let waits = |log: &Log, user| {
        let record = log.pending(ActorId::user(user)).next().unwrap().unwrap();
        (record.sequence, record.payload.to_vec())
    };
    for user in 1..=4 {
        assert_eq!(waits(&log, user), (text, b"text".to_vec()));
    }
    assert!(!log.append_references(&actors(&[5, 4]), text, &body("text"), &mut results), "one has it");
    assert!(log.backlog(ActorId::user(5)).is_none() && results.is_empty());
    (1..=3).for_each(|user| assert_eq!(log.trim(ActorId::user(user), text).messages, 1));
    assert_eq!(waits(&log, 4), (text, b"text".to_vec()), "it stays as long as one refers to it");
    log.trim(ActorId::user(4), text);
    assert!(!log.append_references(&actors(&[5]), text, &body("text"), &mut results), "it is gone");
    assert_eq!(log.queue().shared_bodies(), 0);
}

#[test]
fn others_refer_to_what_one_alone_was_given_for_that() {
    let (_folder, mut log) = opened();
    let mut results = Vec::new();
    log.append_for(&actors(&[1]), &body("text"), &mut results);
    let alone = results[0].as_ref().unwrap().sequence;
    assert!(!log.append_references(&actors(&[2]), alone, &body("text"), &mut results), "it is no body");
    log.append_for_others(&actors(&[1]), &body("text"), &mut results);
    let text = results[0].as_ref().unwrap().sequence;
    assert!(text > alone && results.len() == 1);
    assert_eq!(log.newest_id(), text);
    assert!(log.append_references(&actors(&[2]), text, &body("text"), &mut results));
    assert_eq!(log.newest_id(), text);
    for user in [1, 2] {
        let last = log.pending(ActorId::user(user)).last().unwrap().unwrap();
        assert_eq!((last.sequence, last.payload), (text, &b"text"[..]), "user {user}");
        log.trim(ActorId::user(user), text);
    }
    assert_eq!(log.queue().shared_bodies(), 0);
}
