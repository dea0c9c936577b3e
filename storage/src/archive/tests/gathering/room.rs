//! Whether a file may be made, and when the oldest goes.

use super::*;

#[test]
fn while_all_logs_take_too_much_the_oldest_file_goes() {
    let mut house = House::new();
    house.interleave(10, 256);
    house.flush();
    let small = GatherSettings { file_bytes_max: 200 << 10, ..AT_ONCE };
    let mut gather = Gather::of(&house, small);
    gather.run(&house);
    let files = house.gathered_files().len();
    assert!(files > 3, "{files} files");
    let tight = Space { logs_bytes: 1 << 20, bytes_max: 1 << 20, ..Space::ENDLESS };
    let mut step = |house: &mut House, space: Space| {
        house.now_ms += 6_000;
        gather.gatherer.step(&mut gather.source, house.now_ms, space).unwrap()
    };
    assert_eq!(step(&mut house, tight), Stepped::NoRoom, "workers may be about to let go of something");
    step(&mut house, tight);
    assert_eq!(step(&mut house, tight), Stepped::Working);
    assert_eq!(house.gathered_files().len(), files - 1);
    let texts = house.texts(house.query(ActorId::user(4)));
    assert!(texts.len() < 256 && texts.len() >= 128, "{}", texts.len());
    assert!(texts.last().unwrap().starts_with("<255 "), "the oldest go");
    let sweep = Sweep { after: ActorId::NOBODY, not_before: Sequence::ZERO, actors_max: 99, rows_max: 999 };
    let swept = run_inline(&house.directory, Box::new(move |t| t.sweep_archive(&sweep))).unwrap();
    assert!(swept.rows > 0);
    house.tallies.apply(&swept.segments);
    assert_eq!(house.texts(house.query(ActorId::user(4))), texts);
    // A full disk is as good a reason, as long as it helps.
    let full = Space { free_bytes: 0, is_full: true, ..Space::ENDLESS };
    let outcomes = [(); 9].map(|()| step(&mut house, full));
    assert!(outcomes.contains(&Stepped::Working), "{outcomes:?}");
    assert_eq!(house.gathered_files().len(), files - 2);
}

#[test]
fn a_file_that_would_take_too_much_is_not_begun_and_takes_none_away() {
    let mut house = House::new();
    house.interleave(10, 128);
    house.flush();
    let small = GatherSettings { file_bytes_max: 64 << 10, ..AT_ONCE };
    let mut gather = Gather::of(&house, small);
    let tight = Space { logs_bytes: 1 << 20, bytes_max: (1 << 20) + (80 << 10), ..Space::ENDLESS };
    for _ in 0..1000 {
        house.now_ms += 100;
        gather.gatherer.step(&mut gather.source, house.now_ms, tight).unwrap();
    }
    let bytes: u64 = house.gathered_files().iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!((100 << 10..=150 << 10).contains(&bytes), "{bytes} bytes");
    let pressed = gather.gatherer.metrics().pressed.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(pressed, 0);
    house.assert_interleaved(10, 128);
}

#[test]
fn while_what_was_gathered_has_the_larger_part_the_oldest_goes_for_the_newest() {
    let mut house = House::new();
    house.interleave(10, 128);
    house.flush();
    let small = GatherSettings { file_bytes_max: 64 << 10, ..AT_ONCE };
    let mut gather = Gather::of(&house, small);
    gather.run(&house);
    let files = house.gathered_files();
    let bytes: u64 = files.iter().map(|path| path.metadata().unwrap().len()).sum();
    house.interleave_more(10, 128, 64);
    house.flush();
    let tight = Space { bytes_max: bytes + 8192, ..Space::ENDLESS };
    for _ in 0..100 {
        gather.gatherer.step(&mut gather.source, house.now_ms, tight).unwrap();
    }
    let left = house.gathered_files();
    assert!(!left.contains(&files[0]) && left.contains(&files[files.len() - 1]), "the oldest go");
    assert!(left.last() > files.last(), "for newer ones");
    assert_eq!(house.directory.archive_rows_to_gather().unwrap(), 0);
    let texts = house.texts(house.query(ActorId::user(4)));
    assert!(texts.last().unwrap().starts_with("<191 "), "{:?}", texts.last());
}

#[test]
fn what_was_gathered_gives_room_also_when_nothing_more_is_to_be() {
    let mut house = House::new();
    house.interleave(10, 128);
    house.flush();
    let small = GatherSettings { file_bytes_max: 64 << 10, ..AT_ONCE };
    assert!(Gather::of(&house, small).run(&house) > 0);
    let files = house.gathered_files().len();
    let mut off = Gather::of(&house, GatherSettings { is_on: false, ..small });
    house.interleave_more(10, 128, 128);
    house.flush();
    assert_eq!(off.run(&house), 0);
    let tight = Space { logs_bytes: 1 << 20, bytes_max: 1 << 20, ..Space::ENDLESS };
    for _ in 0..3 {
        house.now_ms += 6_000;
        off.gatherer.step(&mut off.source, house.now_ms, tight).unwrap();
    }
    assert_eq!(house.gathered_files().len(), files - 1);
}

#[test]
fn nothing_is_gathered_while_the_disk_has_no_room() {
    let mut house = House::new();
    house.interleave(10, 64);
    house.flush();
    let mut gather = Gather::of(&house, AT_ONCE);
    let full = Space { free_bytes: 1000, ..Space::ENDLESS };
    let no_room =
        |gather: &Gather| gather.gatherer.metrics().no_room.load(std::sync::atomic::Ordering::Relaxed);
    let mut step = |space: Space| {
        let stepped = gather.gatherer.step(&mut gather.source, house.now_ms, space).unwrap();
        (stepped, no_room(&gather))
    };
    assert_eq!(step(full), (Stepped::Working, 0), "rows from before are listed");
    assert_eq!(step(full), (Stepped::NoRoom, 1));
    assert_eq!(house.gathered_files().len(), 0);
    assert_eq!(step(Space::ENDLESS), (Stepped::Working, 0));
    gather.run(&house);
    house.assert_interleaved(10, 64);
}

/// Files that have their names.
fn named(house: &House) -> Vec<std::path::PathBuf> {
    let mut files = house.gathered_files();
    files.retain(|path| path.extension().is_some_and(|end| end == "seg"));
    files
}

/// What is left of the texts of [`House::interleave`]: the newest, without a hole.
fn assert_newest(house: &House, rounds: usize, least: usize) {
    for actor in 1..=10 {
        let texts = house.texts(house.query(ActorId::user(actor)));
        assert!((least..=rounds).contains(&texts.len()), "{actor}: {} texts", texts.len());
        for (text, round) in texts.iter().rev().zip((0..rounds).rev()) {
            assert!(text.starts_with(&format!("<{round} of {}>", actor - 1)), "{actor}: {text}");
        }
    }
}

#[test]
fn a_full_disk_gets_room_also_while_nobody_knows_whether_rows_have_switched() {
    let mut house = House::new();
    house.interleave(10, 256);
    house.flush();
    let mut gather = Gather::of(&house, GatherSettings { file_bytes_max: 200 << 10, ..AT_ONCE });
    while named(&house).len() < 3 {
        gather.step(&house);
    }
    let files = named(&house);
    // The disk is full from now on: neither do rows switch nor does the directory say that a file is gone.
    house.directory.fail_commits(true);
    let full = Space { free_bytes: 0, is_full: true, ..Space::ENDLESS };
    gather.gatherer.step(&mut gather.source, house.now_ms, full).expect_err("its rows cannot switch");
    for _ in 0..6 {
        house.now_ms += 6_000;
        gather.gatherer.step(&mut gather.source, house.now_ms, full).unwrap();
    }
    assert_eq!(named(&house), files[1..], "the oldest goes; the newest may have rows");
    house.directory.fail_commits(false);
    gather.run(&house);
    assert_newest(&house, 256, 192);
    assert_eq!(
        house.texts(house.query(ActorId::user(1))).len(),
        192,
        "rows say nothing of a file that is gone"
    );
    assert_eq!(house.directory.archive_rows_to_gather().unwrap(), 0);
}

#[test]
fn a_file_that_nobody_knows_the_rows_of_does_not_go_for_room() {
    let mut house = House::new();
    house.interleave(10, 70);
    house.flush();
    let mut gather = Gather::of(&house, AT_ONCE);
    let path = until_named(&house, &mut gather);
    house.directory.lose_outcomes(true);
    let full = Space { free_bytes: 0, is_full: true, ..Space::ENDLESS };
    for _ in 0..6 {
        house.now_ms += 6_000;
        gather.gatherer.step(&mut gather.source, house.now_ms, full).unwrap_err();
    }
    assert!(path.exists());
    house.directory.lose_outcomes(false);
    gather.run(&house);
    house.assert_interleaved(10, 70);
}

#[test]
fn a_full_disk_gets_room_file_by_file_while_the_directory_takes_nothing() {
    let mut house = House::new();
    house.interleave(10, 256);
    house.flush();
    let mut gather = Gather::of(&house, GatherSettings { file_bytes_max: 200 << 10, ..AT_ONCE });
    gather.run(&house);
    let files = named(&house);
    assert!(files.len() > 3, "{} files", files.len());
    house.directory.fail_commits(true);
    // Others take what a file leaves, and more goes: each time there has been some room.
    for round in 0..4 {
        house.now_ms += 6_000;
        let full = Space { free_bytes: round << 20, is_full: true, ..Space::ENDLESS };
        gather.gatherer.step(&mut gather.source, house.now_ms, full).unwrap();
    }
    assert_eq!(named(&house), files[2..]);
    house.directory.fail_commits(false);
    gather.run(&house);
    assert_newest(&house, 256, 64);
    let left = house.tallies.segments(house.gathered()).len();
    assert_eq!(left, files.len() - 2, "rows say nothing of files that are gone");
}

#[test]
fn a_file_that_went_although_that_seemed_to_fail_counts_for_nothing() {
    let mut house = House::new();
    house.interleave(10, 256);
    house.flush();
    let mut gather = Gather::of(&house, GatherSettings { file_bytes_max: 200 << 10, ..AT_ONCE });
    gather.run(&house);
    let files = named(&house);
    house.directory.lose_outcomes(true);
    let tight = Space { logs_bytes: 1 << 20, bytes_max: 1 << 20, ..Space::ENDLESS };
    let mut step = |house: &mut House| {
        house.now_ms += 6_000;
        gather.gatherer.step(&mut gather.source, house.now_ms, tight)
    };
    while step(&mut house).is_ok() {}
    assert_eq!(named(&house), files);
    house.directory.lose_outcomes(false);
    assert_eq!(step(&mut house).unwrap(), Stepped::Working);
    assert_eq!(named(&house), files[1..]);
    assert_eq!(house.tallies.segments(house.gathered()).len(), files.len() - 1);
}

/// Everything of some is gathered in small files, and they have said more since.
fn more_to_gather(house: &mut House) -> (Gather, Vec<std::path::PathBuf>) {
    house.interleave(10, 128);
    house.flush();
    let mut gather = Gather::of(house, GatherSettings { file_bytes_max: 64 << 10, ..AT_ONCE });
    gather.run(house);
    house.interleave_more(10, 128, 64);
    house.flush();
    (gather, named(house))
}

#[test]
fn where_the_disk_has_no_more_room_the_oldest_file_goes_for_the_newest() {
    let mut house = House::new();
    let (mut gather, files) = more_to_gather(&mut house);
    let taken = |house: &House| named(house).iter().map(|path| path.metadata().unwrap().len()).sum::<u64>();
    let capacity = taken(&house) + (1 << 20);
    for _ in 0..200 {
        house.now_ms += 100;
        let free_bytes = capacity - taken(&house);
        let space = Space { free_bytes, keep_bytes: 1 << 20, ..Space::ENDLESS };
        gather.gatherer.step(&mut gather.source, house.now_ms, space).unwrap();
    }
    let left = named(&house);
    assert!(!left.contains(&files[0]) && left.contains(&files[files.len() - 1]), "the oldest go");
    assert!(left.last() > files.last(), "for newer ones");
    assert!(taken(&house) <= capacity - (1 << 20), "others have what is left to them");
    assert_eq!(house.directory.archive_rows_to_gather().unwrap(), 0);
    assert_newest(&house, 192, 64);
}

#[test]
fn where_logs_have_the_larger_part_of_a_disk_or_files_are_held_none_goes_for_another() {
    let mut house = House::new();
    let (mut gather, files) = more_to_gather(&mut house);
    let mut step = |house: &mut House, space: Space| {
        house.now_ms += 1_000;
        gather.gatherer.step(&mut gather.source, house.now_ms, space).unwrap()
    };
    let tight = Space { free_bytes: 1 << 20, keep_bytes: 1 << 20, ..Space::ENDLESS };
    for _ in 0..20 {
        assert_eq!(step(&mut house, Space { logs_bytes: 1 << 30, ..tight }), Stepped::NoRoom);
    }
    assert_eq!(named(&house), files);
    let outcomes = [(); 20].map(|()| step(&mut house, tight));
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Stepped::Working).count(), 1, "{outcomes:?}");
    assert_eq!(named(&house), files[1..], "a snapshot holds it");
}
