//! Texts of an actor come to lie together.

mod copies;
mod faults;
mod room;
mod sparse;

use super::*;
use crate::archive::gather::{GatherSettings, GatherSource, Gatherer, Space, Stepped};
use crate::archive::rebuild::rebuild;
use crate::archive::segments::Source;
use crate::data;
use crate::directory::Sweep;
use crate::log::{LogError, backup, gathered_journal, retire_sealed, sealed_journals, verify};
use crate::pace::Pace;

/// Everything that is due is gathered, in one file.
const AT_ONCE: GatherSettings =
    GatherSettings { file_bytes_max: 64 << 20, file_bytes_min: 0, wait_ms: 0, is_on: true };

/// One that is under way.
pub(super) struct Gather {
    gatherer: Gatherer,
    source: GatherSource,
}

impl Gather {
    pub(super) fn of(house: &House, settings: GatherSettings) -> Self {
        let log = house.folder.path().join("log");
        Gatherer::prepare(&log).unwrap();
        let folders =
            Folders::new(journal_folders(&log).unwrap()).with_sealed(sealed_journals(&log).unwrap());
        let folders = Arc::new(folders);
        let gatherer = Gatherer::new(&house.directory, &house.tallies, &folders, &log, settings).unwrap();
        Self { gatherer, source: GatherSource::new(folders) }
    }

    fn step(&mut self, house: &House) -> Stepped {
        self.gatherer.step(&mut self.source, house.now_ms, Space::ENDLESS).unwrap()
    }

    /// Goes on until nothing is due. Returns how many messages were gathered.
    pub(super) fn run(&mut self, house: &House) -> u64 {
        let count =
            |gatherer: &Gatherer| gatherer.metrics().messages.load(std::sync::atomic::Ordering::Relaxed);
        let before = count(&self.gatherer);
        for _ in 0..10_000 {
            if self.step(house) == Stepped::Idle {
                return count(&self.gatherer) - before;
            }
        }
        panic!("it does not come to an end");
    }
}

/// Goes on until a file has its name; no row has switched.
fn until_named(house: &House, gather: &mut Gather) -> std::path::PathBuf {
    loop {
        let named = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "seg");
        if let Some(path) = house.gathered_files().into_iter().rfind(named) {
            return path;
        }
        gather.step(house);
    }
}

impl House {
    pub(super) fn gather(&self) -> u64 {
        Gather::of(self, AT_ONCE).run(self)
    }

    /// The rows of an actor: the journal, the first id, how many messages.
    fn rows(&self, actor: ActorId) -> Vec<(u64, Sequence, usize)> {
        self.directory
            .read_archive(|view| {
                view.rows_from(actor, Sequence::ZERO)?
                    .map(|row| row.map(|row| (row.journal, row.first, row.packed.messages())))
                    .collect()
            })
            .unwrap()
    }

    fn gathered(&self) -> u64 {
        gathered_journal(&self.folder.path().join("log")).unwrap().expect("there is one")
    }

    /// Rows of an actor that lie in the gathered log, and all.
    fn gathered_rows(&self, actor: ActorId) -> (usize, usize) {
        let (rows, gathered) = (self.rows(actor), self.gathered());
        (rows.iter().filter(|(journal, ..)| *journal == gathered).count(), rows.len())
    }

    fn retire(&self) {
        let tallies = &self.tallies;
        let log = self.folder.path().join("log");
        retire_sealed(&log, &|journal, segment| tallies.needs(journal, segment)).unwrap();
    }

    /// Goes once through the gathered log, as a server does.
    fn go_through_gathered(&self) {
        let mut reader = self.reader();
        let (journal, mut from) = (self.gathered(), Position(0));
        while let Some((next, _)) = reader.erase_sealed(journal, from..Position(u64::MAX)).unwrap() {
            from = next;
        }
    }

    fn gathered_files(&self) -> Vec<std::path::PathBuf> {
        let log = self.folder.path().join("log");
        let gathered = self.gathered();
        let all = journal_folders(&log).unwrap();
        let (_, folder) = all.into_iter().find(|(id, _)| *id == gathered).unwrap();
        let mut paths: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    /// Many say something in turn, each to the one behind: what one has lies far apart.
    fn interleave(&mut self, actors: u64, rounds: u64) {
        self.interleave_more(actors, 0, rounds);
    }

    /// Every text of [`House::interleave`], once and in order.
    fn assert_interleaved(&self, actors: u64, rounds: u64) {
        for actor in 0..actors {
            let texts = self.texts(self.query(ActorId::user(actor + 1)));
            let expected = (0..rounds).map(|round| format!("<{round} of {actor}> {}", "x".repeat(300)));
            assert!(texts.iter().eq(&expected.collect::<Vec<_>>()), "{actor}: {} texts", texts.len());
        }
    }
}

#[test]
fn a_page_among_a_thousand_costs_two_or_three_reads() {
    let mut house = House::new();
    house.interleave(1000, 130);
    house.flush();
    let page = |house: &House, skip: usize| {
        let all = house.query(ActorId::user(500));
        let first = house.page(&Query { messages_max: skip, ..all.clone() });
        house.page(&Query { messages_max: 50, after: *ids(&first).last().unwrap(), ..all })
    };
    let before = [1, 30, 60].map(|skip| page(&house, skip));
    assert!(before.iter().all(|page| page.cost.reads >= 40), "{:?}", before.map(|page| page.cost));
    assert!(house.gather() > 126 * 1000, "but for a few of the newest");
    let after = [1, 30, 60].map(|skip| page(&house, skip));
    for (before, after) in before.iter().zip(&after) {
        assert!(after.cost.reads <= 3 && after.cost.bytes < 50 * 1000, "{:?}", after.cost);
        assert_eq!((ids(before), &before.texts), (ids(after), &after.texts));
    }
    assert_eq!(house.gather(), 0, "nothing is gathered twice");
}

/// Anna and Ben talk so much, with a text for both where they have one home; Carl has what one sends oneself.
fn talk(house: &mut House, messages: u64) {
    for number in 0..messages {
        let id = house.say(ANNA, BEN, &format!("<{number} to Ben>"));
        let shard = house.shard(BEN);
        house.logs[shard].trim(BEN, id);
        if number % 10 == 0 {
            house.upkeep();
        }
    }
    house.flush();
}

fn assert_talk(house: &House, messages: u64) {
    for actor in [ANNA, BEN] {
        let expected: Vec<String> = (0..messages).map(|number| format!("<{number} to Ben>")).collect();
        assert_eq!(house.texts(house.query(actor)), expected, "{actor}");
    }
    assert_eq!(house.page(&Query { bytes_max: 1 << 20, ..house.query(BEN) }).cost.damaged, 0);
}

#[test]
fn what_two_share_becomes_a_text_of_each() {
    let mut house = House::new();
    talk(&mut house, 200);
    let before = house.directory.archive_state(ANNA).unwrap();
    assert_eq!(house.gather(), 2 * 192, "the newest rows have eight messages each");
    let after = house.directory.archive_state(ANNA).unwrap();
    let references = house.rows(ANNA).len();
    assert!(references >= 4 && after.bytes < before.bytes && after.messages == before.messages);
    assert_talk(&house, 200);
    assert_eq!(house.tallies.total().records, 400);
    let bytes = [ANNA, BEN].map(|actor| house.directory.archive_state(actor).unwrap().bytes);
    assert_eq!(house.tallies.total().bytes, bytes.iter().sum::<u64>());
}

#[test]
fn old_segments_go_by_themselves_and_the_log_goes_on() {
    let mut house = House::new();
    house.interleave(20, 300);
    let segments = |house: &House| house.logs[0].journal().segments().count();
    let before = segments(&house);
    assert!(before > 25, "{before} segments");
    house.gather();
    (0..30).for_each(|_| house.upkeep());
    assert!(segments(&house) < before / 3, "{} of {before} segments", segments(&house));
    house.assert_interleaved(20, 300);
    for shards in [1, 3, 2] {
        house.open(shards);
        house.flush();
        house.assert_interleaved(20, 300);
    }
    // What lies in sealed logs is gathered, too.
    house.gather();
    house.retire();
    house.assert_interleaved(20, 300);
}

#[test]
fn rows_are_gathered_in_files_of_the_size_that_was_asked_for() {
    let mut house = House::new();
    house.interleave(20, 200);
    house.flush();
    let settings =
        GatherSettings { file_bytes_max: 256 << 10, file_bytes_min: 240 << 10, wait_ms: 1000, is_on: true };
    let mut gather = Gather::of(&house, settings);
    gather.run(&house);
    let sizes: Vec<u64> =
        house.gathered_files().iter().map(|path| std::fs::metadata(path).unwrap().len()).collect();
    assert!(sizes.len() > 3 && sizes.iter().all(|size| (200 << 10..=260 << 10).contains(size)), "{sizes:?}");
    let left = house.directory.archive_rows_to_gather().unwrap();
    assert!(left > 0, "too few are left for a file");
    house.now_ms += 2000;
    gather.run(&house);
    assert_eq!(house.directory.archive_rows_to_gather().unwrap(), 0, "after a while they are enough");
    house.assert_interleaved(20, 200);
}

#[test]
fn a_crash_between_any_two_steps_loses_and_doubles_nothing() {
    let small = GatherSettings { file_bytes_max: 64 << 10, ..AT_ONCE };
    let mut house = House::new();
    house.interleave(12, 150);
    house.flush();
    for steps in 0..60 {
        {
            let mut gather = Gather::of(&house, small);
            for _ in 0..steps % 13 {
                gather.step(&house);
            }
            // The process dies here: nothing is given up.
            std::mem::forget(gather.gatherer);
        }
        house.open(1);
        if steps % 3 == 0 {
            house.retire();
        }
        house.assert_interleaved(12, 150);
    }
    Gather::of(&house, small).run(&house);
    assert_eq!(house.directory.archive_rows_to_gather().unwrap(), 0);
    house.assert_interleaved(12, 150);
    house.retire();
    let held = house.tallies.segments(house.gathered()).len();
    assert_eq!(house.gathered_files().len(), held, "what a crash has left is removed, and only that");
    house.assert_interleaved(12, 150);
}

#[test]
fn a_file_stays_until_its_rows_have_switched() {
    let mut house = House::new();
    house.interleave(10, 70);
    house.flush();
    let mut gather = Gather::of(&house, AT_ONCE);
    until_named(&house, &mut gather);
    house.retire();
    assert_eq!(house.gathered_files().len(), 1);
    gather.run(&house);
    house.retire();
    house.assert_interleaved(10, 70);
    assert_eq!(house.gathered_rows(ActorId::user(3)).0, 1);
}

/// Does something when so many steps have been done, for each number of steps; then goes on.
fn in_between(doing: impl Fn(&mut House, &[Sequence])) {
    for steps in 0..8 {
        let mut house = House::new();
        let mut ids = Vec::new();
        for number in 0..130 {
            ids.push(house.say(ANNA, BEN, &format!("<{number} to Ben>")));
        }
        house.logs[0].trim_up_to(BEN, Sequence::MAX);
        house.flush();
        let mut gather = Gather::of(&house, AT_ONCE);
        (0..steps).for_each(|_| _ = gather.step(&house));
        doing(&mut house, &ids);
        gather.run(&house);
        doing_is_seen(&mut house);
    }
}

/// What was erased is nowhere once the files have been gone through, and what is left is whole.
fn doing_is_seen(house: &mut House) {
    house.go_through(0);
    house.go_through_gathered();
    assert!(!house.has_on_disk("<70 to Ben>"), "it was erased");
    assert!(house.has_on_disk("<129 to Ben>"));
    let page = house.page(&Query { bytes_max: 1 << 20, ..house.query(BEN) });
    assert_eq!((page.cost.damaged, page.cost.gone), (0, 0));
    let bytes = [ANNA, BEN].map(|actor| house.directory.archive_state(actor).unwrap().bytes);
    assert_eq!(house.tallies.total().bytes, bytes.iter().sum::<u64>());
}

#[test]
fn what_is_erased_meanwhile_leaves_the_new_file_at_once_and_is_due_again() {
    in_between(|house, ids| {
        let before = house.directory.archive_erasures().unwrap().count;
        [ANNA, BEN].iter().for_each(|actor| house.erase(*actor, ids[70]));
        assert_eq!(house.directory.archive_erasures().unwrap().count, before + 2);
    });
    // After the file has its name, and before its rows have switched.
    let mut house = House::new();
    let ids: Vec<Sequence> =
        (0..70).map(|number| house.say(ANNA, BEN, &format!("<{number} to Ben>"))).collect();
    house.logs[0].trim_up_to(BEN, Sequence::MAX);
    house.flush();
    let mut gather = Gather::of(&house, AT_ONCE);
    while house.gathered_files().iter().all(|path| path.extension().is_none_or(|end| end != "seg")) {
        gather.step(&house);
    }
    [ANNA, BEN].iter().for_each(|actor| house.erase(*actor, ids[7]));
    gather.step(&house);
    let in_file = |house: &House, text: &str| {
        house.gathered_files().iter().any(|path| {
            let content = std::fs::read(path).unwrap();
            content.windows(text.len()).any(|window| window == text.as_bytes())
        })
    };
    assert!(in_file(&house, "<6 to Ben>") && !in_file(&house, "<7 to Ben>"));
    assert_eq!(house.directory.archive_erasures().unwrap().count, 4, "they are due once more");
    assert_eq!(house.gathered_rows(BEN).0, 0, "its row is looked at anew");
    gather.run(&house);
    assert_eq!(house.gathered_rows(BEN).0, 1);
    let texts = house.texts(house.query(BEN));
    assert_eq!((texts.len(), &*texts[7], &*texts[8]), (70, "tombstone", "<8 to Ben>"));
    assert!(!in_file(&house, "<7 to Ben>"));
}

#[test]
fn what_was_erased_before_is_not_copied_and_keeps_its_place() {
    let mut house = House::new();
    let ids: Vec<Sequence> =
        (0..70).map(|number| house.say(ANNA, BEN, &format!("<{number} to Ben>"))).collect();
    house.logs[0].trim_up_to(BEN, Sequence::MAX);
    house.flush();
    [ANNA, BEN].iter().for_each(|actor| house.erase(*actor, ids[7]));
    house.go_through(0);
    house.gather();
    assert!(!house.has_on_disk("<7 to Ben>") && house.gathered_rows(BEN).0 == 1);
    let texts = house.texts(house.query(BEN));
    assert_eq!((texts.len(), &*texts[7]), (70, "tombstone"));
    // And what is erased later leaves the gathered log as it leaves any other.
    [ANNA, BEN].iter().for_each(|actor| house.erase(*actor, ids[8]));
    house.go_through(0);
    let erased = house.reader().erase_sealed(house.gathered(), Position(0)..Position(u64::MAX)).unwrap();
    assert_eq!(erased.map(|(_, texts)| texts), Some(2));
    assert!(!house.has_on_disk("<8 to Ben>"));
}

#[test]
fn an_account_that_is_removed_meanwhile_leaves_nothing() {
    in_between(|house, ids| {
        let (first, _) = (ids[100], ids[70]);
        run_inline(&house.directory, Box::new(move |t| t.purge_archive(ANNA))).unwrap();
        run_inline(&house.directory, Box::new(move |t| t.cut_archive(BEN, first))).unwrap();
        let sweep = Sweep { after: ActorId::NOBODY, not_before: Sequence::ZERO, actors_max: 9, rows_max: 99 };
        let swept = run_inline(&house.directory, Box::new(move |t| t.sweep_archive(&sweep))).unwrap();
        house.tallies.apply(&swept.segments);
    });
}

#[test]
fn a_row_that_compaction_has_changed_is_left_alone_until_the_next_time() {
    let mut house = House::new();
    house.interleave(3, 64);
    house.flush();
    let actor = ActorId::user(2);
    for steps in 2..5 {
        let before = house.rows(actor);
        let mut gather = Gather::of(&house, AT_ONCE);
        (0..steps).for_each(|_| _ = gather.step(&house));
        if before.iter().any(|(journal, ..)| *journal == house.gathered()) {
            break;
        }
        // As when compaction has written the first message again.
        let slot =
            house.directory.read_archive(|view| view.row(actor, before[0].1)?.unwrap().slots()).unwrap()[0];
        let last =
            house.directory.read_archive(|view| view.row(actor, before[0].1)?.unwrap().slots()).unwrap()[1];
        let moved = Move {
            journal: before[0].0,
            actor,
            id: slot.id,
            position: Position(last.position.0 + 1000 * 8),
            words: slot.words,
        };
        let (changes, back) = (
            Changes { journal: moved.journal, moves: vec![moved], ..Changes::default() },
            Changes {
                journal: moved.journal,
                moves: vec![Move { position: slot.position, ..moved }],
                ..Changes::default()
            },
        );
        let apply = |changes: Changes| {
            let job =
                move |t: &mut directory::WriteTransaction<'_>| t.apply_archive(&changes, Shares::default());
            let applied = run_inline(&house.directory, Box::new(job)).unwrap();
            house.tallies.apply(&applied.segments);
        };
        apply(changes);
        let left =
            |gather: &Gather| gather.gatherer.metrics().left.load(std::sync::atomic::Ordering::Relaxed);
        while left(&gather) == 0 {
            gather.step(&house);
        }
        assert_eq!(house.gathered_rows(actor).0, 0, "after {steps} steps");
        apply(back);
        drop(gather);
    }
    house.gather();
    assert_eq!(house.gathered_rows(actor).0, 1);
    house.assert_interleaved(3, 64);
}

#[test]
fn a_text_that_cannot_be_read_leaves_its_row_where_it_is() {
    let mut house = House::new();
    house.interleave(3, 64);
    house.flush();
    let actor = ActorId::user(2);
    let (journal, first, _) = house.rows(actor)[0];
    let slot = house.directory.read_archive(|view| view.row(actor, first)?.unwrap().slots()).unwrap()[5];
    let (_, folder) = journal_folders(&house.folder.path().join("log"))
        .unwrap()
        .into_iter()
        .find(|(id, _)| *id == journal)
        .unwrap();
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "seg"));
    paths.sort();
    let base = |path: &std::path::Path| {
        u64::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16).unwrap()
    };
    let path = paths.iter().rfind(|path| base(path) <= slot.position.0).unwrap();
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"damaged", slot.position.0 - base(path) + 100).unwrap();
    assert_eq!(house.gather(), 128);
    assert_eq!((house.gathered_rows(actor).0, house.directory.archive_rows_to_gather().unwrap()), (0, 0));
    let page = house.page(&Query { bytes_max: 1 << 20, ..house.query(actor) });
    assert_eq!((page.messages.len(), page.cost.damaged), (63, 1), "as before");
}

#[test]
fn a_lost_index_is_made_anew_from_the_gathered_log_too() {
    let mut house = House::with(Settings::default(), 2);
    house.interleave(20, 200);
    house.flush();
    let small = GatherSettings {
        file_bytes_max: 300 << 10,
        file_bytes_min: 200 << 10,
        wait_ms: u64::MAX,
        is_on: true,
    };
    Gather::of(&house, small).run(&house);
    (0..30).for_each(|_| house.upkeep());
    // Some lie in the gathered log alone, some in a worker's, some in both.
    house.interleave_more(20, 200, 30);
    house.flush();
    house.logs.clear();
    let log = house.folder.path().join("log");
    // Interrupted: what the index does not have is not taken for what nobody needs.
    let interrupted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        rebuild(&house.directory, &log, &|_| true, &mut |_| panic!("it is stopped"))
    }));
    assert!(interrupted.is_err());
    let told = crate::archive::Tallies::of(&house.directory).unwrap_err();
    assert!(told.to_string().contains("archive rebuild"), "{told}");
    let rebuilt = rebuild(&house.directory, &log, &|_| true, &mut |_| {}).unwrap();
    assert_eq!((rebuilt.messages, rebuilt.journals), (20 * 230, 3));
    house.open(2);
    house.assert_interleaved(20, 230);
    house.gather();
    house.assert_interleaved(20, 230);
    house.open(1);
    house.flush();
    house.assert_interleaved(20, 230);
}

#[test]
fn archives_from_before_are_listed_once() {
    let mut house = House::new();
    house.interleave(30, 100);
    house.flush();
    house.forget_list();
    assert_eq!(house.directory.archive_rows_to_gather().unwrap(), 0);
    assert_eq!(house.gather(), 30 * 100, "rows of 64, and of 36");
    house.assert_interleaved(30, 100);
    assert!(house.directory.archive_gathered_to().unwrap().1);
}

#[test]
fn a_pass_for_erased_texts_ends_although_more_is_gathered_meanwhile() {
    let mut house = House::new();
    house.interleave(10, 70);
    house.flush();
    let small = GatherSettings { file_bytes_max: 64 << 10, ..AT_ONCE };
    let mut gather = Gather::of(&house, small);
    gather.run(&house);
    let journal = house.gathered();
    let mut reader = house.reader();
    let (files, until) = reader.files(journal).unwrap();
    assert!(files >= 3, "{files} files");
    let (mut from, mut looked_at) = (Position(0), 0);
    while let Some((next, _)) = reader.erase_sealed(journal, from..until).unwrap() {
        (from, looked_at) = (next, looked_at + 1);
        house.interleave_more(10, looked_at * 70, 70);
        house.flush();
        gather.run(&house);
        assert!(looked_at <= 100, "it does not end");
    }
    assert_eq!((looked_at, reader.files(journal).unwrap().0 > 2 * files), (files as u64, true));
}

#[test]
fn a_position_is_never_given_twice() {
    let mut house = House::new();
    house.interleave(5, 64);
    house.flush();
    house.gather();
    let last = house.gathered_files().pop().unwrap();
    for actor in 1..=5 {
        run_inline(&house.directory, Box::new(move |t| t.purge_archive(ActorId::user(actor)))).unwrap();
    }
    let sweep = Sweep { after: ActorId::NOBODY, not_before: Sequence::ZERO, actors_max: 99, rows_max: 999 };
    let swept = run_inline(&house.directory, Box::new(move |t| t.sweep_archive(&sweep))).unwrap();
    house.tallies.apply(&swept.segments);
    house.retire();
    assert!(house.gathered_files().is_empty());
    house.open(1);
    for _ in 0..64 {
        house.say(ActorId::user(8), ActorId::user(9), "later");
    }
    house.flush();
    house.gather();
    let next = house.gathered_files().pop().unwrap();
    assert!(next > last, "{} after {}", next.display(), last.display());
}

impl House {
    /// Some say more.
    fn interleave_more(&mut self, actors: u64, from: u64, rounds: u64) {
        for round in from..from + rounds {
            for actor in 0..actors {
                let own = ActorId::user(actor + 1);
                let text = format!("<{round} of {actor}> {}", "x".repeat(300));
                self.now_ms += 1;
                let body = Body { time_ms: self.now_ms, origin: Origin::default(), payload: text.as_bytes() };
                let flags = Flags::ARCHIVED.and(Flags::NOT_QUEUED);
                let copies = [ActorCopy { actor: own, flags, peer: peer(own) }];
                let mut results = Vec::new();
                let shard = self.shard(own);
                self.logs[shard].append_for(&copies, &body, &mut results);
                results[0].as_ref().unwrap();
            }
            self.upkeep();
        }
    }

    /// As a directory is that an earlier release has written.
    fn forget_list(&self) {
        run_inline(&self.directory, Box::new(|t| t.forget_gathering())).unwrap();
    }
}
