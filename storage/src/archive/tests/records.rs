//! The records of a segment are told as if all of it were in memory.

use super::*;
use crate::archive::records;
use crate::archive::segments::{Segments, Source};
use crate::journal::format::record::Seed;
use crate::journal::open::scan::Walk;

#[test]
fn records_are_told_whatever_their_length_and_whatever_is_damaged() {
    let mut house = House::new();
    for number in 0..300_usize {
        house.say(ANNA, BEN, &"x".repeat(number * 37 % 7000));
    }
    house.commit();
    let (journal, folder) = journal_folders(&house.folder.path().join("log")).unwrap().remove(0);
    let mut segments = Segments::new(Arc::new(Folders::new([(journal, folder.clone())])));
    let mut told = 0;
    for (number, base) in segments.all(journal).unwrap().into_iter().enumerate() {
        if number % 2 == 1 {
            use std::os::unix::fs::FileExt;
            let path = folder.join(crate::journal::format::segment::file_name(base.0));
            let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
            [5_000, 20_000, 21_000].iter().for_each(|at| file.write_all_at(b"damaged", *at).unwrap());
        }
        let whole = segments.whole(journal, base).unwrap();
        let expected: Vec<(u64, u64)> = Walk::new(&whole, Seed::new(journal), base.0, 0)
            .map(|raw| (raw.position, raw.sequence))
            .collect();
        let mut found = Vec::new();
        let length = records::each(&mut segments, journal, base, &mut |raw| {
            found.push((raw.position, raw.sequence));
        });
        assert_eq!((found, length.unwrap()), (expected, whole.len() as u64), "{base:?}");
        told += 1;
    }
    assert!(told > 5, "{told} segments");
    let nothing =
        records::each(&mut segments, journal, Position(1 << 40), &mut |_| panic!("it is not there"));
    assert_eq!(nothing.unwrap(), 0);
}
