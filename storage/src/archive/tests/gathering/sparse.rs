//! Files of which less than half is needed.

use std::sync::atomic::Ordering;

use super::faults::Broken;
use super::*;

/// Files of a few hundred texts each.
const SMALL: GatherSettings = GatherSettings { file_bytes_max: 128 << 10, ..AT_ONCE };

/// There is room for all, and all logs take half of what they may.
const FILLED: Space = Space { logs_bytes: 1 << 39, bytes_max: 1 << 40, ..Space::ENDLESS };

impl Gather {
    fn run_in(&mut self, house: &House, space: Space) -> u64 {
        let before = self.gatherer.metrics().messages.load(Ordering::Relaxed);
        while self.gatherer.step(&mut self.source, house.now_ms, space).unwrap() != Stepped::Idle {}
        self.gatherer.metrics().messages.load(Ordering::Relaxed) - before
    }
}

impl House {
    /// An actor has what it was told before an id cut, and its rows are removed.
    fn cut(&self, actor: ActorId, before: Sequence) {
        run_inline(&self.directory, Box::new(move |t| t.cut_archive(actor, before))).unwrap();
        let sweep =
            Sweep { after: ActorId::NOBODY, not_before: Sequence::ZERO, actors_max: 999, rows_max: 9_999 };
        let swept = run_inline(&self.directory, Box::new(move |t| t.sweep_archive(&sweep))).unwrap();
        self.tallies.apply(&swept.segments);
    }

    /// Bytes of the gathered log's files.
    fn gathered_bytes(&self) -> u64 {
        self.gathered_files().iter().map(|path| path.metadata().unwrap().len()).sum()
    }

    /// The last id that an actor has in a row.
    fn newest(&self, actor: ActorId) -> Sequence {
        let rows = self.rows(actor);
        rows.last().map_or(Sequence::ZERO, |(_, first, _)| *first)
    }
}

fn sparse(gather: &Gather) -> u64 {
    gather.gatherer.metrics().sparse.load(Ordering::Relaxed)
}

#[test]
fn what_is_needed_of_a_sparse_file_is_gathered_once_more_and_the_file_goes() {
    let mut house = House::new();
    house.interleave(10, 192);
    house.flush();
    let mut gather = Gather::of(&house, SMALL);
    assert!(gather.run(&house) > 10 * 128);
    let before = (house.gathered_files(), house.gathered_bytes());
    assert_eq!((gather.run_in(&house, FILLED), sparse(&gather)), (0, 0), "all of it is needed");
    for actor in [1, 2, 3, 5, 6, 7, 9, 10] {
        house.cut(ActorId::user(actor), house.newest(ActorId::user(actor)));
    }
    assert_eq!((gather.run(&house), sparse(&gather)), (0, 0), "there is room enough");
    assert!(gather.run_in(&house, FILLED) > 0 && sparse(&gather) >= 3, "{} files", sparse(&gather));
    house.retire();
    let after = (house.gathered_files(), house.gathered_bytes());
    assert!(after.1 * 2 < before.1, "{} and {} bytes", before.1, after.1);
    let is_needed = |path: &std::path::PathBuf| after.0.contains(path);
    assert!(!is_needed(&before.0[0]) && !is_needed(&before.0[1]));
    for actor in [4, 8] {
        let texts = house.texts(house.query(ActorId::user(actor)));
        assert_eq!(texts.len(), 192);
        assert!(texts.iter().enumerate().all(|(round, text)| text.starts_with(&format!("<{round} of "))));
    }
    assert_eq!(gather.run_in(&house, FILLED), 0, "once is enough");
    let page = house.page(&Query { messages_max: 50, ..house.query(ActorId::user(4)) });
    assert!(page.cost.reads <= 3, "{:?}", page.cost);
    // With a row of more than one file, too.
    let log = house.folder.path().join("log");
    house.logs.clear();
    rebuild(&house.directory, &log, &|_| true, &mut |_| {}).unwrap();
    house.open(1);
    house.flush();
    house.cut(ActorId::user(8), Sequence(house.newest(ActorId::user(8)).0 + 1));
    let mut gather = Gather::of(&house, SMALL);
    assert!(gather.run_in(&house, FILLED) > 0 && sparse(&gather) > 0);
    house.retire();
    assert_eq!(house.texts(house.query(ActorId::user(4))).len(), 192);
}

#[test]
fn a_sparse_file_that_cannot_be_read_holds_up_no_other_one() {
    let mut house = House::new();
    house.interleave(10, 192);
    house.flush();
    Gather::of(&house, SMALL).run(&house);
    for actor in [1, 2, 3, 5, 6, 7, 9, 10] {
        house.cut(ActorId::user(actor), house.newest(ActorId::user(actor)));
    }
    house.interleave_more(10, 192, 64);
    house.flush();
    let first = house.tallies.segments(house.gathered())[0].0;
    let mut gather = Gather::of(&house, SMALL);
    let mut failures = 0;
    for _ in 0..1_000 {
        let mut broken = Broken(gather.source.inner(), Position(first.0 + 300), 5);
        match gather.gatherer.step_from(&mut broken, house.now_ms, FILLED) {
            Ok(Stepped::Idle) => break,
            Ok(_) => {}
            Err(_) => failures += 1,
        }
    }
    assert_eq!(failures, 1, "it is told once");
    assert!(sparse(&gather) >= 2, "{} files", sparse(&gather));
    assert_eq!(house.directory.archive_rows_to_gather().unwrap(), 0, "and all that is due is gathered");
    assert_eq!(house.texts(house.query(ActorId::user(4))).len(), 256);
}

#[test]
fn who_writes_and_cuts_takes_nothing_from_others() {
    let mut house = House::new();
    house.interleave(8, 128);
    house.flush();
    let mut gather = Gather::of(&house, SMALL);
    // Room for a little more than twice of what all have.
    let tight = Space { bytes_max: 800 << 10, ..Space::ENDLESS };
    for round in 1..8 {
        for _ in 0..500 {
            gather.gatherer.step(&mut gather.source, house.now_ms, tight).unwrap();
        }
        house.retire();
        // The first four go on and have what is older cut; the others are quiet.
        house.interleave_more(4, 128 * round, 128);
        house.flush();
        (1..5).for_each(|actor| house.cut(ActorId::user(actor), house.newest(ActorId::user(actor))));
    }
    let pressed = gather.gatherer.metrics().pressed.load(Ordering::Relaxed);
    assert_eq!(pressed, 0, "no file had to go");
    assert!(sparse(&gather) > 0);
    for actor in 5..9 {
        assert_eq!(house.texts(house.query(ActorId::user(actor))).len(), 128, "{actor}");
    }
}

#[test]
fn a_restart_in_the_middle_loses_nothing() {
    for steps in 1..40 {
        let mut house = House::new();
        house.interleave(6, 128);
        house.flush();
        Gather::of(&house, SMALL).run(&house);
        for actor in [1, 2, 3, 5] {
            house.cut(ActorId::user(actor), house.newest(ActorId::user(actor)));
        }
        let mut gather = Gather::of(&house, SMALL);
        let mut step = || gather.gatherer.step(&mut gather.source, house.now_ms, FILLED).unwrap();
        let is_over = (0..steps).any(|_| step() == Stepped::Idle);
        drop(gather);
        house.open(1);
        house.retire();
        let count = |house: &House, actor: u64| house.texts(house.query(ActorId::user(actor))).len();
        assert_eq!((count(&house, 4), count(&house, 6)), (128, 128), "after {steps} steps");
        Gather::of(&house, SMALL).run_in(&house, FILLED);
        house.retire();
        assert_eq!((count(&house, 4), count(&house, 6)), (128, 128), "after {steps} steps, and to the end");
        if is_over {
            return;
        }
    }
    panic!("it does not come to an end");
}

#[test]
fn an_erased_text_of_a_sparse_file_does_not_come_back() {
    for steps in [1, 2, 3, 4, 6, 8, 11] {
        let mut house = House::new();
        house.interleave(4, 128);
        house.flush();
        Gather::of(&house, SMALL).run(&house);
        let ids = ids(&house.page(&Query { messages_max: 100, ..house.query(ActorId::user(4)) }));
        for actor in [1, 2, 3] {
            house.cut(ActorId::user(actor), house.newest(ActorId::user(actor)));
        }
        house.erase(ActorId::user(4), ids[5]);
        let mut gather = Gather::of(&house, SMALL);
        for _ in 0..steps {
            gather.gatherer.step(&mut gather.source, house.now_ms, FILLED).unwrap();
        }
        house.erase(ActorId::user(4), ids[70]);
        gather.run_in(&house, FILLED);
        assert!(sparse(&gather) > 0);
        house.retire();
        house.go_through(0);
        house.go_through_gathered();
        let on_disk = |number: u32| house.has_on_disk(&format!("<{number} of 3>"));
        assert_eq!([5, 70, 6, 71].map(on_disk), [false, false, true, true], "after {steps} steps");
    }
}
