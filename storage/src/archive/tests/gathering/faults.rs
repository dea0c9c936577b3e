//! What goes wrong while a file is written, gets its name and is given up: no text stays on the disk that was erased, and none goes
//! that a row refers to.

use std::io;
use std::path::PathBuf;

use super::*;
use crate::archive::gather::Place;
use crate::directory::Erased;
use crate::journal::live::files::{Files, System};
use crate::journal::live::map::Map;
use crate::log::random_id;

#[test]
fn a_position_is_not_given_again_after_a_crash_before_rows_switch() {
    let mut house = House::new();
    house.interleave(5, 64);
    house.flush();
    let mut gather = Gather::of(&house, AT_ONCE);
    let first = until_named(&house, &mut gather);
    // The process dies here.
    std::mem::forget(gather.gatherer);
    house.open(1);
    let mut gather = Gather::of(&house, AT_ONCE);
    assert!(!first.exists(), "nobody needs it");
    gather.run(&house);
    let next = house.gathered_files().pop().unwrap();
    assert!(next > first, "{} after {}", next.display(), first.display());
    house.assert_interleaved(5, 64);
}

#[test]
fn a_file_stays_while_nobody_knows_whether_rows_have_switched() {
    let mut house = House::new();
    house.interleave(5, 64);
    house.flush();
    let mut gather = Gather::of(&house, AT_ONCE);
    let path = until_named(&house, &mut gather);
    house.directory.lose_outcomes(true);
    for _ in 0..3 {
        gather.gatherer.step(&mut gather.source, house.now_ms, Space::ENDLESS).unwrap_err();
        house.retire();
        assert!(path.exists(), "rows refer to it");
    }
    house.directory.lose_outcomes(false);
    house.retire();
    assert!(path.exists() && house.gathered_rows(ActorId::user(3)) == (1, 1));
    gather.run(&house);
    house.retire();
    house.assert_interleaved(5, 64);
    let bytes = (1..=5).map(|actor| house.directory.archive_state(ActorId::user(actor)).unwrap().bytes);
    assert_eq!(house.tallies.total().bytes, bytes.sum::<u64>(), "nothing is held where rows were before");
    // All is known again: what nobody needs goes.
    for actor in 1..=5 {
        run_inline(&house.directory, Box::new(move |t| t.purge_archive(ActorId::user(actor)))).unwrap();
    }
    let sweep = Sweep { after: ActorId::NOBODY, not_before: Sequence::ZERO, actors_max: 99, rows_max: 999 };
    let swept = run_inline(&house.directory, Box::new(move |t| t.sweep_archive(&sweep))).unwrap();
    house.tallies.apply(&swept.segments);
    house.retire();
    assert!(house.gathered_files().is_empty());
}

impl House {
    /// Whether the gathered log has a text.
    fn has_gathered(&self, text: &str) -> bool {
        self.gathered_files().iter().any(|path| {
            let content = std::fs::read(path).unwrap();
            content.windows(text.len()).any(|window| window == text.as_bytes())
        })
    }
}

/// Ben has seventy messages of Anna, which are about to be gathered.
fn seventy() -> (House, Vec<Sequence>, Gather) {
    let mut house = House::new();
    let ids: Vec<Sequence> =
        (0..70).map(|number| house.say(ANNA, BEN, &format!("<{number} to Ben>"))).collect();
    house.logs[0].trim_up_to(BEN, Sequence::MAX);
    house.flush();
    let gather = Gather::of(&house, AT_ONCE);
    (house, ids, gather)
}

#[test]
fn a_row_that_an_erasure_has_hit_is_looked_at_for_others() {
    let (house, ids, mut gather) = seventy();
    while !house.has_gathered("<7 to Ben>") {
        gather.step(&house);
    }
    [ANNA, BEN].iter().for_each(|actor| house.erase(*actor, ids[7]));
    until_named(&house, &mut gather);
    assert!(house.has_gathered("<8 to Ben>") && !house.has_gathered("<7 to Ben>"));
    // Another one of the same rows, and the logs are gone through for it before they would switch.
    [ANNA, BEN].iter().for_each(|actor| house.erase(*actor, ids[8]));
    let before = house.directory.archive_erasures().unwrap().count;
    gather.step(&house);
    assert!(house.has_gathered("<9 to Ben>") && !house.has_gathered("<8 to Ben>"));
    assert_eq!(house.directory.archive_erasures().unwrap().count, before + 2, "they are due once more");
    assert_eq!(house.gathered_rows(BEN).0, 0);
    gather.run(&house);
    let texts = house.texts(house.query(BEN));
    assert_eq!((&*texts[7], &*texts[8], &*texts[9]), ("tombstone", "tombstone", "<9 to Ben>"));
    assert_eq!(house.gathered_rows(BEN).0, 1);
}

/// The system's files, and what is to be done at the moment at which a file gets its name: before it has it, and after.
struct AtNaming {
    before: Box<dyn Fn() + Send + Sync>,
    after: Box<dyn Fn() -> io::Result<()> + Send + Sync>,
}

impl Files for AtNaming {
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.before)();
        System.rename(from, to)?;
        (self.after)()
    }

    fn create(&self, path: &Path, head: &[u8], bytes: u64) -> io::Result<Map> {
        System.create(path, head, bytes)
    }

    fn open(&self, path: &Path) -> io::Result<Map> {
        System.open(path)
    }

    fn is_writable(&self, path: &Path) -> io::Result<()> {
        System.is_writable(path)
    }

    fn view(&self, path: &Path) -> io::Result<Map> {
        System.view(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        System.list(folder)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        System.remove(path)
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        System.read(path)
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        System.replace(path, content)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        System.make_folder(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        System.remove_folder(path)
    }

    fn readers(&self) -> usize {
        System.readers()
    }
}

impl Gather {
    /// With other files.
    fn on(house: &House, files: AtNaming) -> Self {
        let Self { gatherer, source } = Self::of(house, AT_ONCE);
        drop(gatherer);
        let place = Place {
            directory: house.directory.clone(),
            tallies: house.tallies.clone(),
            folders: Arc::default(),
            files: Arc::new(files),
            root: house.folder.path().join("log"),
        };
        Self { gatherer: Gatherer::with(place, AT_ONCE, &random_id).unwrap(), source }
    }
}

#[test]
fn what_is_erased_while_a_file_gets_its_name_leaves_it() {
    let (house, ids, _) = seventy();
    let (directory, id) = (house.directory.clone(), ids[7]);
    let before = move || {
        for actor in [ANNA, BEN] {
            let erased = Erased { at_ms: 1, received_ms: 1, tombstone: b"tombstone".to_vec() };
            run_inline(&directory, Box::new(move |t| t.erase_from_archive(actor, id, &erased))).unwrap();
        }
    };
    let mut gather = Gather::on(&house, AtNaming { before: Box::new(before), after: Box::new(|| Ok(())) });
    until_named(&house, &mut gather);
    assert!(
        house.has_gathered("<8 to Ben>") && !house.has_gathered("<7 to Ben>"),
        "it is gone with that step"
    );
    gather.step(&house);
    assert_eq!(house.gathered_rows(BEN).0, 0, "its row is looked at anew");
    gather.run(&house);
    assert_eq!(house.gathered_rows(BEN).0, 1);
    assert_eq!(house.texts(house.query(BEN))[7], "tombstone");
}

#[test]
fn a_file_that_is_given_up_before_rows_switch_is_removed_at_once() {
    let (house, _, mut gather) = seventy();
    let path = until_named(&house, &mut gather);
    gather.gatherer.give_up();
    assert!(!path.exists() && house.gathered_files().is_empty());
    gather.run(&house);
    let path = house.gathered_files().pop().unwrap();
    assert_eq!(house.gathered_rows(BEN).0, 1);
    // One that rows refer to stays.
    gather.gatherer.give_up();
    house.retire();
    assert!(path.exists());
    assert_eq!(house.texts(house.query(BEN)).len(), 70);
}

#[test]
fn a_file_whose_naming_fails_is_nowhere_under_either_name() {
    let (house, ..) = seventy();
    let after = || Err(io::Error::other("the folder cannot be synced"));
    let mut gather = Gather::on(&house, AtNaming { before: Box::new(|| ()), after: Box::new(after) });
    let mut step = || gather.gatherer.step(&mut gather.source, house.now_ms, Space::ENDLESS);
    while step().is_ok() {}
    assert_eq!(house.gathered_files(), Vec::<PathBuf>::new());
    drop(gather);
    house.gather();
    assert_eq!(house.gathered_rows(BEN).0, 1);
}

#[test]
fn an_unfinished_file_goes_at_the_next_start_although_nothing_is_gathered() {
    let (mut house, _, mut gather) = seventy();
    while !house.has_gathered("<7 to Ben>") {
        gather.step(&house);
    }
    // The process dies here.
    std::mem::forget(gather.gatherer);
    assert_eq!(house.gathered_files().len(), 1);
    house.open(1);
    assert_eq!(house.gathered_files(), Vec::<PathBuf>::new());
}

/// A disk that cannot read the bytes at a place, and the number of the system's error.
pub(super) struct Broken<'a>(pub(super) &'a mut dyn Source, pub(super) Position, pub(super) i32);

impl Source for Broken<'_> {
    fn segment(
        &mut self,
        journal: u64,
        position: Position,
    ) -> Result<Option<std::ops::Range<Position>>, LogError> {
        self.0.segment(journal, position)
    }

    fn read(
        &mut self,
        journal: u64,
        segment: Position,
        from: Position,
        to: &mut [u8],
    ) -> Result<bool, LogError> {
        if (from.0..from.0 + to.len() as u64).contains(&self.1.0) {
            let error = std::io::Error::from_raw_os_error(self.2);
            return Err(LogError::io("read", std::path::Path::new("a file"), error));
        }
        self.0.read(journal, segment, from, to)
    }

    fn look_again(&mut self) {
        self.0.look_again();
    }

    fn whole(&mut self, journal: u64, segment: Position) -> Result<Vec<u8>, LogError> {
        self.0.whole(journal, segment)
    }
}

#[test]
fn a_disk_that_cannot_read_one_text_holds_up_one_row() {
    let mut house = House::new();
    house.interleave(3, 64);
    house.flush();
    let actor = ActorId::user(2);
    let (_, first, _) = house.rows(actor)[0];
    let slot = house.directory.read_archive(|view| view.row(actor, first)?.unwrap().slots()).unwrap()[5];
    let mut gather = Gather::of(&house, AT_ONCE);
    let mut steps = 0;
    loop {
        let mut broken = Broken(gather.source.inner(), slot.position, 5);
        match gather.gatherer.step_from(&mut broken, house.now_ms, Space::ENDLESS).unwrap() {
            Stepped::Idle => break,
            _ => steps += 1,
        }
        assert!(steps < 1000, "it does not come to an end");
    }
    let messages = gather.gatherer.metrics().messages.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((messages, house.directory.archive_rows_to_gather().unwrap()), (128, 0));
    house.assert_interleaved(3, 64);
}

#[test]
fn what_cannot_be_read_for_want_of_descriptors_is_gathered_later() {
    let (house, _, mut gather) = seventy();
    let (_, first, _) = house.rows(BEN)[0];
    let slot = house.directory.read_archive(|view| view.row(BEN, first)?.unwrap().slots()).unwrap()[5];
    // Too many files are open, of the process and of the machine; and there is no memory.
    for number in [24, 23, 12] {
        let failed = (0..10).any(|_| {
            let mut broken = Broken(gather.source.inner(), slot.position, number);
            gather.gatherer.step_from(&mut broken, house.now_ms, Space::ENDLESS).is_err()
        });
        assert!(failed, "{number}: it is told");
    }
    gather.run(&house);
    assert_eq!((house.gathered_rows(ANNA).0, house.gathered_rows(BEN).0), (1, 1));
    assert_eq!(house.texts(house.query(BEN)).len(), 70);
}

#[test]
fn a_row_that_has_more_messages_than_when_it_was_looked_at_stays_listed() {
    let mut house = House::new();
    let say = |house: &mut House, count: usize| {
        (0..count).for_each(|_| _ = house.say(ANNA, BEN, "text"));
        house.logs[0].trim_up_to(BEN, Sequence::MAX);
        house.flush();
        house.directory.archive_to_gather(9, u64::MAX).unwrap().0
    };
    let before = say(&mut house, 40);
    let now = say(&mut house, 10);
    assert_eq!((before.len(), now.len()), (2, 2));
    let forget = |gone: Vec<directory::ToGather>| {
        let switches = directory::Switches { gone, ..Default::default() };
        run_inline(&house.directory, Box::new(move |t| t.switch_rows(&switches))).unwrap();
        house.directory.archive_rows_to_gather().unwrap()
    };
    assert_eq!((forget(before), forget(now)), (2, 0));
}
