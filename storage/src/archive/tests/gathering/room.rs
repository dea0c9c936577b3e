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
