//! What a second reader of the journal is told, and what it can hold.

use std::path::Path;
use std::sync::Arc;

use super::files::{SEGMENT, long, options, segment};
use crate::actor::ActorId;
use crate::journal::format::layout::Lock;
use crate::journal::live::files::System;
use crate::journal::{Blocks, Damage, Entry, Holding, Journal, Reader, ReaderSet, What};
use crate::log::opening::{Place, open_with};
use crate::log::*;

/// Notes what it is told, and holds on to whole segments.
#[derive(Debug, Default)]
struct Follower {
    told: Vec<(Position, &'static str, u64)>,
    committed: Position,
    /// Segments from here on are held as they are.
    holds_from: Option<Position>,
    recovered: u32,
}

impl Reader for Follower {
    fn record(&mut self, entry: &Entry<'_>) {
        let what = match entry.what {
            What::Message(_) => "message",
            What::Body(_) => "body",
            What::Reference { .. } => "reference",
            What::Trim => "trim",
            What::TrimUpTo => "trim-up-to",
            What::Purge => "purge",
        };
        self.told.push((entry.position, what, entry.actor.number()));
    }
    fn committed(&mut self, position: Position) {
        self.committed = position;
    }
    fn wants(&self, _: &Entry<'_>) -> ReaderSet {
        ReaderSet::NONE
    }
    fn held(&self, segment: Position) -> Holding {
        let holds = self.holds_from.is_some_and(|from| segment >= from);
        Holding { records: u64::from(holds), bytes: 0 }
    }
    fn unreadable(&mut self, _: Position, _: &mut Vec<(ActorId, Sequence)>) {}
    fn dropped(&mut self, before: Position) {
        assert!(self.holds_from.is_none_or(|from| before <= from));
    }
    fn save(&self, blocks: &mut Blocks) {
        blocks.put(9, self.told.len().to_le_bytes().to_vec());
    }
    fn restore(&mut self, blocks: &Blocks) -> bool {
        blocks.get(9).is_some()
    }
    fn recovered(&mut self, _: &Journal, _: &mut Vec<Damage>) {
        self.recovered += 1;
    }
    fn fresh(&self) -> Self {
        Self::default()
    }
}

fn open(path: &Path) -> Log<Follower> {
    let place =
        Place { files: Arc::new(System), lock: Arc::new(Lock::none()), root: path, random_id: &|| Ok(77) };
    let opened = open_with(&place, &options(), 1, &|_| Some(0), &|_| {}, &|_| Follower::default()).unwrap();
    assert_eq!(opened.report.damage, []);
    opened.logs.into_iter().next().unwrap()
}

fn put<S: Reader>(log: &mut Log<S>, user: u64, payload: &str) -> Sequence {
    let (actor, origin) = (ActorId::user(user), Origin::default());
    let message = Message {
        actor,
        time_ms: 1_000,
        flags: Flags::NONE,
        origin,
        peer: PeerHash::NONE,
        payload: payload.as_bytes(),
    };
    log.append(&message).expect("there is room").sequence
}

/// Appends and trims a little of everything.
fn some_of_each<S: Reader>(log: &mut Log<S>) {
    let first = put(log, 1, "a");
    put(log, 2, "b");
    let body = Body { time_ms: 1, origin: Origin::default(), payload: b"c" };
    log.append_for(&[1, 3].map(|user| ActorCopy::queued(ActorId::user(user))), &body, &mut Vec::new());
    log.trim(ActorId::user(1), first);
    log.trim_up_to(ActorId::user(1), Sequence::MAX);
    log.purge(ActorId::user(2));
    log.commit_now().unwrap();
}

const TOLD: [(&str, u64); 8] = [
    ("message", 1),
    ("message", 2),
    ("body", 1),
    ("reference", 1),
    ("reference", 3),
    ("trim", 1),
    ("trim-up-to", 1),
    ("purge", 2),
];

fn kinds(log: &Log<Follower>) -> Vec<(&'static str, u64)> {
    log.second().told.iter().map(|(_, what, user)| (*what, *user)).collect()
}

#[test]
fn a_reader_is_told_of_each_record_and_of_the_same_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path());
    some_of_each(&mut log);
    assert_eq!(kinds(&log), TOLD);
    assert!(log.second().told.is_sorted());
    assert!(log.second().committed < log.committed(), "told in upkeep, not for each commit");
    log.maintain(1);
    assert!(log.second().committed >= log.second().told.last().unwrap().0);
    log.commit_now().unwrap();
    let told = log.second().told.clone();
    drop(log);
    let log = open(folder.path());
    assert_eq!((log.second().told.clone(), log.second().recovered), (told, 1));
    assert_eq!(log.second().committed, log.committed());
    log.close().unwrap();
    let log = open(folder.path());
    assert_eq!(kinds(&log), [], "what it has kept in a checkpoint is not told again");
}

#[test]
fn a_reader_that_a_checkpoint_does_not_know_is_told_everything() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = super::files::open(folder.path()).0;
    some_of_each(&mut log);
    log.close().unwrap();
    assert_eq!(kinds(&open(folder.path())), TOLD);
}

#[test]
fn what_a_reader_holds_stays_where_it_is_until_it_lets_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = open(folder.path());
    log.second_mut().holds_from = Some(Position(0));
    for number in 0..400 {
        put(&mut log, 1, &long(number));
    }
    log.purge(ActorId::user(1));
    // Something that waits is moved out of the segment, which stays all the same.
    put(&mut log, 2, "waits");
    let upkeep = |log: &mut Log<Follower>| {
        for now in 0..100 {
            log.maintain(now * 100);
            log.commit_now().unwrap();
            log.keep_files_now();
        }
    };
    upkeep(&mut log);
    assert!(segment(folder.path(), 0).exists() && segment(folder.path(), 1).exists());
    log.second_mut().holds_from = Some(Position(SEGMENT));
    upkeep(&mut log);
    assert!(!segment(folder.path(), 0).exists() && segment(folder.path(), 1).exists());
    log.second_mut().holds_from = None;
    upkeep(&mut log);
    assert!(!segment(folder.path(), 1).exists());
    assert_eq!(log.metrics().messages_lost.load(std::sync::atomic::Ordering::Relaxed), 0);
}
