//! Erased texts leave the disk.

use super::*;
use crate::archive::erase::Erasable;
use crate::directory::{Erased, ErasurePass, ErasuresDue};
use crate::log::{sealed_journals, verify};

impl House {
    pub(super) fn erase(&self, actor: ActorId, id: Sequence) {
        let erased = Erased { at_ms: 1, received_ms: 1, tombstone: b"tombstone".to_vec() };
        run_inline(&self.directory, Box::new(move |t| t.erase_from_archive(actor, id, &erased))).unwrap();
    }

    /// Whether the files of the logs have a text.
    pub(super) fn has_on_disk(&self, text: &str) -> bool {
        let mut folders = vec![self.folder.path().join("log")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if std::fs::read(path)
                    .unwrap()
                    .windows(text.len())
                    .any(|window| window == text.as_bytes())
                {
                    return true;
                }
            }
        }
        false
    }

    /// Goes once through the files of a log, as a server does. Returns how many texts were taken out.
    pub(super) fn go_through(&mut self, shard: usize) -> usize {
        let until = self.logs[shard].seal_segment().expect("there is room");
        self.commit();
        let segments: Vec<Position> =
            self.logs[shard].journal().segments().filter(|segment| *segment < until).collect();
        let mut erased = 0;
        for segment in segments {
            let found = self.reader().erasable(self.logs[shard].id(), segment).unwrap();
            let is_free = |text: &&Erasable| {
                text.queued.is_none_or(|actor| !self.logs[shard].is_waiting(actor, text.id))
            };
            let positions: Vec<Position> = found.iter().filter(is_free).map(|text| text.position).collect();
            if !positions.is_empty() {
                assert!(self.logs[shard].erase_texts(segment, positions));
                assert!(self.logs[shard].texts_erased().is_none(), "the keeper has not done it yet");
                self.logs[shard].keep_files_now();
                erased += self.logs[shard].texts_erased().expect("it is done").unwrap();
            }
        }
        erased
    }
}

#[test]
fn an_erased_text_leaves_the_disk_and_all_others_stay() {
    let mut house = House::new();
    let mut ids = Vec::new();
    for number in 0..3000 {
        let id = house.say(ANNA, BEN, &format!("<text {number} of many>"));
        if number != 1500 {
            house.logs[0].trim(BEN, id);
        }
        ids.push(id);
        if number % 100 == 0 {
            house.commit();
            house.write_rows();
        }
    }
    house.flush();
    // Of both, of one alone, and of both while it waits for one.
    for (number, actors) in [(7, &[ANNA, BEN][..]), (8, &[ANNA]), (1500, &[ANNA, BEN])] {
        actors.iter().for_each(|actor| house.erase(*actor, ids[number]));
    }
    assert!(house.has_on_disk("<text 7 of many>"));
    assert_eq!(house.go_through(0), 1);
    let on_disk = |house: &House, number: u32| house.has_on_disk(&format!("<text {number} of many>"));
    assert_eq!([6, 7, 8, 9, 1500].map(|number| on_disk(&house, number)), [true, false, true, true, true]);
    assert_eq!(house.logs[0].pending(BEN).next().unwrap().unwrap().payload, b"<text 1500 of many>");
    house.logs[0].trim(BEN, ids[1500]);
    assert_eq!((house.go_through(0), house.go_through(0)), (1, 0), "what is gone is not looked for again");
    assert!(!on_disk(&house, 1500));
    for again in 0..3 {
        let texts = house.texts(house.query(BEN));
        assert_eq!((texts.len(), &*texts[7], &*texts[8]), (3000, "tombstone", "<text 8 of many>"));
        assert_eq!(house.page(&Query { bytes_max: 1 << 20, ..house.query(ANNA) }).cost.damaged, 0);
        assert_eq!(verify(&house.folder.path().join("log")).unwrap().damage, []);
        // Also without a checkpoint everything is where it was, and nothing waits that has no text any more.
        house.open(if again == 1 { 2 } else { 1 });
        assert_eq!(house.logs.iter().map(|log| log.queue().messages()).sum::<u64>(), 0);
    }
    // The log goes on.
    house.say(BEN, ANNA, "later");
    house.flush();
    assert_eq!(house.texts(house.query(ANNA)).last().unwrap(), "later");
}

#[test]
fn what_was_cut_and_what_a_removed_account_had_leaves_the_disk() {
    let mut house = House::with(Settings::default(), 2);
    let first = house.say(ANNA, BEN, "<before>");
    let second = house.say(ANNA, BEN, "<after>");
    house.say(CARL, ANNA, "<of Carl and Anna>");
    let dora = ActorId::user(4);
    house.say(CARL, dora, "<of Carl and Dora>");
    for actor in [ANNA, BEN, CARL, dora] {
        let shard = house.shard(actor);
        house.logs[shard].trim_up_to(actor, Sequence::MAX);
    }
    house.flush();
    run_inline(&house.directory, Box::new(move |t| t.cut_archive(ANNA, Sequence(first.0 + 1)))).unwrap();
    for gone in [CARL, dora] {
        run_inline(&house.directory, Box::new(move |t| t.purge_archive(gone))).unwrap();
    }
    for shard in 0..2 {
        house.go_through(shard);
    }
    assert!(house.has_on_disk("<before>"), "Ben has it");
    run_inline(&house.directory, Box::new(move |t| t.cut_archive(BEN, second))).unwrap();
    for shard in 0..2 {
        house.go_through(shard);
    }
    let left = ["<before>", "<after>", "<of Carl and Anna>", "<of Carl and Dora>"];
    assert_eq!(left.map(|text| house.has_on_disk(text)), [false, true, true, false]);
}

#[test]
fn logs_of_earlier_numbers_of_workers_lose_erased_texts_too() {
    let mut house = House::with(Settings::default(), 2);
    let id = house.say(ANNA, CARL, "<secret>");
    house.say(ANNA, CARL, "<kept>");
    house.logs[1].trim_up_to(CARL, Sequence::MAX);
    house.flush();
    house.open(1);
    house.flush();
    let log = house.folder.path().join("log");
    let sealed = sealed_journals(&log).unwrap();
    assert_eq!(sealed.len(), 1, "the other one had nothing");
    [ANNA, CARL].iter().for_each(|actor| house.erase(*actor, id));
    let folders = Folders::new(journal_folders(&log).unwrap()).with_sealed(sealed);
    let mut reader = PageReader::new(house.directory.clone(), Arc::new(folders));
    let (journal, mut from, mut erased) = (reader.sealed_journals()[0], Position(0), 0);
    while let Some((next, texts)) = reader.erase_sealed(journal, from..Position(u64::MAX)).unwrap() {
        (from, erased) = (next, erased + texts);
    }
    assert_eq!((erased, house.has_on_disk("<secret>"), house.has_on_disk("<kept>")), (1, false, true));
    assert_eq!(house.texts(house.query(ANNA)), ["tombstone", "<kept>"]);
    assert_eq!(verify(&log).unwrap().damage, []);
}

#[test]
fn an_erasure_is_due_until_all_logs_have_been_gone_through_since() {
    let house = House::new();
    let due = || house.directory.archive_erasures().unwrap();
    let put = |journal: u64, pass: ErasurePass| {
        run_inline(&house.directory, Box::new(move |t| t.put_erasure_pass(journal, &pass, &[7, 8]))).unwrap();
        house.directory.archive_erasure_pass(journal).unwrap()
    };
    assert_eq!(due(), ErasuresDue::default());
    (1..=3).for_each(|id| house.erase(ANNA, Sequence(id)));
    assert_eq!(due(), ErasuresDue { count: 3, oldest_ms: 0, oldest: 1, newest: 3, has_undated: true });
    run_inline(&house.directory, Box::new(|t| t.date_erasures(1000))).unwrap();
    house.erase(BEN, Sequence(9));
    run_inline(&house.directory, Box::new(|t| t.date_erasures(2000))).unwrap();
    assert_eq!(due(), ErasuresDue { count: 4, oldest_ms: 1000, oldest: 1, newest: 4, has_undated: false });
    let half = ErasurePass { up_to: 3, done_to: Position(4096), done: 0 };
    assert_eq!(put(7, half), half);
    put(7, ErasurePass { up_to: 3, done_to: Position(0), done: 3 });
    assert_eq!(due().count, 4, "the other one may have it still");
    put(8, ErasurePass { up_to: 4, done_to: Position(0), done: 4 });
    assert_eq!(due(), ErasuresDue { count: 1, oldest_ms: 2000, oldest: 4, newest: 4, has_undated: false });
    put(7, ErasurePass { up_to: 4, done_to: Position(0), done: 4 });
    assert_eq!(due().count, 0);
    house.erase(ANNA, Sequence(10));
    assert_eq!((due().count, due().newest), (1, 5), "no number comes twice");
}

#[test]
fn however_many_erasures_there_are_all_are_dated_and_forgotten() {
    let house = House::new();
    run_inline(
        &house.directory,
        Box::new(|t| (1..=20_001).try_for_each(|id| t.cut_archive(ANNA, Sequence(id)))),
    )
    .unwrap();
    for (now_ms, has_undated) in [(1000, true), (2000, true), (3000, false), (4000, false)] {
        run_inline(&house.directory, Box::new(move |t| t.date_erasures(now_ms))).unwrap();
        let due = house.directory.archive_erasures().unwrap();
        assert_eq!((due.oldest_ms, due.has_undated), (1000, has_undated), "at {now_ms}");
    }
    let pass = ErasurePass { up_to: 20_000, done_to: Position(0), done: 20_000 };
    let mut is_more =
        run_inline(&house.directory, Box::new(move |t| t.put_erasure_pass(7, &pass, &[7]))).unwrap();
    let mut steps = 1;
    while is_more {
        is_more = run_inline(&house.directory, Box::new(|t| t.forget_erasures(&[7]))).unwrap();
        steps += 1;
    }
    let due = house.directory.archive_erasures().unwrap();
    assert_eq!((steps, due.count, due.oldest, due.oldest_ms), (2, 1, 20_001, 3000), "the last is due");
    let of_two = run_inline(&house.directory, Box::new(|t| t.forget_erasures(&[7, 8]))).unwrap();
    assert_eq!((of_two, house.directory.archive_erasures().unwrap().count), (false, 1));
}
