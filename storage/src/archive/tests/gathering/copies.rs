//! What is gathered in backups, and what is verified of it.

use super::*;

#[test]
fn a_backup_has_what_was_gathered_and_the_next_one_shares_its_files() {
    let mut house = House::new();
    house.interleave(10, 150);
    house.flush();
    let small = GatherSettings { file_bytes_max: 128 << 10, ..AT_ONCE };
    Gather::of(&house, small).run(&house);
    (0..30).for_each(|_| house.upkeep());
    let place = tempfile::tempdir().unwrap();
    let back_up = |house: &House, now_ms: u64| {
        let place = data::Place { folder: place.path(), now_ms, keep: None };
        let pace = &mut Pace::new(None);
        data::backup_into(house.folder.path(), &house.directory, &place, pace).unwrap()
    };
    back_up(&house, 1_800_000_000_000);
    house.interleave_more(10, 150, 70);
    house.flush();
    let mut gather = Gather::of(&house, small);
    // One is taken in the middle: a file has its name, and some of its rows have not switched.
    while gather.step(&house) == Stepped::Working && house.gathered_rows(ActorId::user(1)).0 < 3 {}
    let second = back_up(&house, 1_800_000_100_000);
    assert!(second.done.linked >= 3, "{:?}", second.done);
    house.logs.clear();
    let copy = open_directory(&second.folder.join("directory"));
    data::verify_backup(&second.folder, &copy).unwrap();
    let restored = tempfile::tempdir().unwrap();
    copy_folder(&second.folder, restored.path());
    (house.directory, house.folder) = (open_directory(&restored.path().join("directory")), restored);
    house.open(2);
    house.flush();
    house.assert_interleaved(10, 220);
    house.gather();
    house.assert_interleaved(10, 220);
}

#[test]
fn a_gathered_file_is_verified_with_the_logs() {
    use std::os::unix::fs::FileExt;
    let mut house = House::new();
    let ids: Vec<Sequence> =
        (0..70).map(|number| house.say(ANNA, BEN, &format!("<{number} to Ben>"))).collect();
    house.logs[0].trim_up_to(BEN, Sequence::MAX);
    house.flush();
    house.erase(BEN, ids[7]);
    house.gather();
    let log = house.folder.path().join("log");
    let verified = verify(&log).unwrap();
    assert_eq!((verified.gathered.files, verified.damage), (1, vec![]));
    let records = verified.gathered.records;
    assert!(records >= 128, "{records}");
    let path = house.gathered_files().pop().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"damaged", 128 + 70).unwrap();
    let verified = verify(&log).unwrap();
    assert_eq!(
        (verified.damage.len(), verified.damage[0].offset, verified.gathered.records),
        (1, 128, records - 1)
    );
}

#[test]
fn a_backup_of_a_damaged_gathered_file_has_all_of_it() {
    use std::os::unix::fs::FileExt;
    let mut house = House::with(Settings::default(), 2);
    house.interleave(10, 70);
    house.flush();
    house.open(1);
    house.gather();
    // A file of the gathered log, and one of a log of an earlier number of workers.
    let log = house.folder.path().join("log");
    let mut damaged = house.gathered_files();
    let folders = journal_folders(&log).unwrap();
    let sealed = sealed_journals(&log).unwrap();
    for (id, folder) in folders {
        if sealed.contains(&id) && id != house.gathered() {
            let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
            paths.retain(|path| path.extension().is_some_and(|end| end == "seg"));
            paths.sort();
            damaged.extend(paths);
        }
    }
    assert!(damaged.len() >= 3, "{damaged:?}");
    for path in &damaged {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(b"damaged", 128 + 70).unwrap();
    }
    let to = tempfile::tempdir().unwrap();
    backup(&log, to.path()).unwrap();
    for path in &damaged {
        let copy = to.path().join(path.strip_prefix(&log).unwrap());
        assert!(std::fs::read(path).unwrap() == std::fs::read(&copy).unwrap(), "{}", copy.display());
    }
}

#[test]
fn what_no_row_has_yet_is_not_looked_for_in_what_was_gathered() {
    let mut house = House::new();
    house.interleave(5, 70);
    house.flush();
    house.gather();
    // Whoever read one would fail.
    for path in house.gathered_files() {
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
    }
    let actor = ActorId::user(2);
    let newest = house.say(actor, ANNA, "newest");
    house.commit();
    let log = house.folder.path().join("log");
    let tail = crate::archive::tail::read(&house.directory, &log, Some(actor)).unwrap();
    assert_eq!(tail[&actor].slots().map(|slot| slot.id).collect::<Vec<_>>(), [newest]);
}

#[test]
fn a_directory_that_knows_of_no_erasure_does_not_give_zeros_for_a_text() {
    let mut house = House::new();
    let ids: Vec<Sequence> =
        (0..70).map(|number| house.say(ANNA, BEN, &format!("<{number} to Ben>"))).collect();
    house.logs[0].trim_up_to(BEN, Sequence::MAX);
    house.flush();
    // One was erased before it would have been copied, one after that, and one was not copied.
    let erase = |house: &mut House, at: usize| {
        [ANNA, BEN].iter().for_each(|actor| house.erase(*actor, ids[at]));
        house.go_through(0);
    };
    erase(&mut house, 7);
    house.gather();
    erase(&mut house, 8);
    house.reader().erase_sealed(house.gathered(), Position(0)..Position(u64::MAX)).unwrap();
    erase(&mut house, 69);
    assert!([7, 8, 69].iter().all(|number| !house.has_on_disk(&format!("<{number} to Ben>"))));
    // The directory is lost, and a backup of before is put in its place.
    house.logs.clear();
    let folder = house.folder.path().join("another directory");
    house.directory = open_directory(&folder);
    rebuild(&house.directory, &house.folder.path().join("log"), &|_| true, &mut |_| {}).unwrap();
    house.open(1);
    let expected = (0..69).filter(|number| ![7, 8].contains(number));
    let expected: Vec<String> = expected.map(|number| format!("<{number} to Ben>")).collect();
    for actor in [ANNA, BEN] {
        assert_eq!(house.texts(house.query(actor)), expected, "{actor}");
    }
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_folder(&path, &to),
            false => _ = std::fs::copy(&path, &to).unwrap(),
        }
    }
}
