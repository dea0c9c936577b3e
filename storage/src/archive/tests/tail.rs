//! What no row has yet, seen from the files.

use super::*;
use crate::archive::tail;
use crate::directory::Erased;

/// All of an archive as one finds it who has not opened the logs.
fn seen(house: &House, actor: ActorId) -> Vec<String> {
    let tail = tail::read(&house.directory, &house.folder.path().join("log"), None).unwrap();
    house.texts(Query::all(actor, tail.get(&actor).cloned().unwrap_or_default()))
}

#[test]
fn what_no_row_has_yet_is_found_without_opening_a_log() {
    let mut house = House::new();
    let mut expected = Vec::new();
    let mut say = |house: &mut House, count: usize| {
        for _ in 0..count {
            expected.push(format!("text {}", expected.len()));
            house.say(ANNA, BEN, &expected[expected.len() - 1]);
        }
        house.commit();
        expected.clone()
    };
    say(&mut house, 100);
    house.write_rows();
    let in_rows = |house: &House| house.directory.archive_state(BEN).unwrap().messages;
    assert!((1..100).contains(&in_rows(&house)), "some are in rows and some are not");
    for shards in [1, 2] {
        house.open(shards);
        let all = say(&mut house, 30);
        for actor in [ANNA, BEN] {
            assert_eq!(seen(&house, actor), all);
            assert_eq!(house.texts(house.query(actor)), all);
        }
    }
    let log = house.folder.path().join("log");
    let of_ben = tail::read(&house.directory, &log, Some(BEN)).unwrap();
    assert_eq!(of_ben.keys().collect::<Vec<_>>(), [&BEN]);
    // What was cut is not there, wherever it lies.
    let newest = of_ben[&BEN].slots().last().unwrap().id;
    run_inline(&house.directory, Box::new(move |t| t.cut_archive(BEN, newest))).unwrap();
    assert_eq!(seen(&house, BEN), ["text 159"]);
    house.flush();
    assert_eq!(tail::read(&house.directory, &log, None).unwrap().len(), 0);
    assert_eq!(seen(&house, BEN), ["text 159"]);
}

#[test]
fn totals_are_those_of_all_rows_and_a_cut_takes_marks_of_erased_texts_with_it() {
    let mut house = House::new();
    assert_eq!(house.directory.archive_totals().unwrap(), Default::default());
    let ids: Vec<Sequence> = (0..10).map(|_| house.say(ANNA, BEN, "text")).collect();
    house.flush();
    let totals = house.directory.archive_totals().unwrap();
    let bytes = [ANNA, BEN].map(|actor| house.directory.archive_state(actor).unwrap().bytes);
    assert_eq!((totals.actors, totals.messages, totals.bytes), (2, 20, bytes.iter().sum()));
    assert_eq!(totals.span, Some((ids[0], ids[9])));

    let erased = Erased { at_ms: 1, received_ms: 1, tombstone: b"gone".to_vec() };
    let marks = |house: &House| {
        let all =
            house.directory.read_archive(|view| view.erased(BEN, Sequence::ZERO, Sequence::MAX)).unwrap();
        all.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    for id in [ids[2], ids[7]] {
        let erased = erased.clone();
        run_inline(&house.directory, Box::new(move |t| t.erase_from_archive(BEN, id, &erased))).unwrap();
    }
    assert_eq!(marks(&house), [ids[2], ids[7]]);
    let cut = ids[5];
    run_inline(&house.directory, Box::new(move |t| t.cut_archive(BEN, cut))).unwrap();
    assert_eq!(marks(&house), [ids[7]]);
}
