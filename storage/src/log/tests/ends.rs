//! Where logs end, seen without opening them.

use super::files::{open, open_many, options, put, texts};
use crate::log::ends;

#[test]
fn logs_end_where_they_were_closed_until_somebody_opens_them() {
    let folder = tempfile::tempdir().unwrap();
    assert!(ends(folder.path()).is_err(), "there are none");
    let (mut log, _) = open(folder.path());
    // Over the end of segments.
    for number in 0..200 {
        put(&mut log, 1, &format!("{number:01000}"));
    }
    log.maintain(1_000);
    log.close().unwrap();
    let closed = ends(folder.path()).unwrap();
    assert_eq!(closed, ends(folder.path()).unwrap());
    let (log, _) = open(folder.path());
    assert_eq!((log.id(), log.appended().0 > closed[0].1), (closed[0].0, true), "a run begins with a mark");
    assert_eq!(texts(&log, 1).len(), 200);
    // As if killed: not even closed.
    drop(log);
    let killed = ends(folder.path()).unwrap();
    assert_ne!(killed, closed);
    let (log, _) = open(folder.path());
    log.close().unwrap();
    assert_ne!(ends(folder.path()).unwrap(), killed);
}

#[test]
fn each_log_that_is_written_to_has_an_end() {
    let folder = tempfile::tempdir().unwrap();
    for shards in [3, 2] {
        let opened = open_many(folder.path(), &options(), shards);
        let ids: Vec<u64> = opened.logs.iter().map(|log| log.id()).collect();
        opened.logs.into_iter().for_each(|log| log.close().unwrap());
        let found: Vec<u64> = ends(folder.path()).unwrap().into_iter().map(|(id, _)| id).collect();
        assert_eq!(found, ids);
    }
}
