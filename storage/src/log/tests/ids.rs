//! Ids over files: the clock, crashes, closing, another number of logs.

use super::files::{open_many, options, put};
use crate::actor::ActorId;
use crate::log::*;

const HOUR: u64 = 3_600_000;
const NOON: u64 = 1_700_000_000_000;

fn append(log: &mut Log, time_ms: u64) -> Sequence {
    let (actor, origin) = (ActorId::user(1), Origin::default());
    log.append(&Message { actor, time_ms, flags: Flags::NONE, origin, peer: PeerHash::NONE, payload: b"m" })
        .unwrap()
        .sequence
}

fn open_at(path: &std::path::Path, now_ms: u64) -> Log {
    open_many(path, &Options { now_ms, ..options() }, 1).logs.remove(0)
}

#[test]
fn an_id_tells_the_time_of_its_append() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open_at(folder.path(), NOON);
    let given: Vec<Sequence> = [0, 0, 5].iter().map(|later| append(&mut log, NOON + later)).collect();
    assert_eq!(given, [Sequence::at(NOON), Sequence(Sequence::at(NOON).0 + 1), Sequence::at(NOON + 5)]);
    log.close().unwrap();
    let mut log = open_at(folder.path(), NOON + 6);
    assert_eq!(
        append(&mut log, NOON + 6),
        Sequence::at(NOON + 6),
        "a log that was closed leaves nothing ahead"
    );
}

#[test]
fn ids_rise_over_a_crash_although_the_clock_is_an_hour_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut newest = Sequence::ZERO;
    for life in 0..5 {
        // Each life begins an hour before the last one ended.
        let mut log = open_at(folder.path(), NOON - life * HOUR);
        for step in 0..100 {
            let sequence = append(&mut log, NOON - life * HOUR + step);
            assert!(sequence > newest, "{sequence:?} after {newest:?} in life {life}");
            newest = sequence;
        }
        assert!(log.committed() < log.appended(), "the crash takes what was not committed");
        let end = log.committed().0;
        drop(log);
        let path = folder.path().join("generation-1/0/0000000000000000.seg");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[end as usize..].fill(0);
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(newest.time_ms() < NOON + HOUR, "and do not run away: {}", newest.time_ms() - NOON);
}

#[test]
fn a_quiet_servers_ids_keep_to_the_clock() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open_at(folder.path(), NOON);
    let mut marks = 0;
    for second in 0..7_200 {
        let before = log.appended();
        log.maintain(NOON + 1000 * second);
        log.commit_now().unwrap();
        marks += u64::from(log.appended() > before);
    }
    assert!((12..=60).contains(&marks), "a mark now and then, not each second: {marks}");
    let now = NOON + 2 * HOUR;
    assert_eq!(append(&mut log, now), Sequence::at(now));
}

#[test]
fn a_home_that_moves_gives_no_id_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut newest = Sequence::ZERO;
    for shards in [2, 1, 3, 2] {
        let mut opened = open_many(folder.path(), &Options { now_ms: NOON, ..options() }, shards);
        let waiting: Vec<Sequence> = opened.logs[1 % shards].waiting(ActorId::user(1)).collect();
        assert!(waiting.is_sorted() && waiting.last().copied().unwrap_or_default() == newest);
        for log in &mut opened.logs {
            put(log, 2, "another");
        }
        let sequence = append(&mut opened.logs[1 % shards], NOON);
        assert!(sequence > newest, "{sequence:?} after {newest:?}");
        newest = sequence;
        opened.logs.iter().for_each(|log| log.commit_now().unwrap());
    }
}
