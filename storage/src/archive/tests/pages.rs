//! What queries give.

use std::ops::Range;

use super::*;
use crate::directory::Erased;

/// Anna talks with Ben, and every fifth time with Carl; a part is in rows, a part in memory.
fn house() -> (House, Vec<Sequence>) {
    let mut house = House::new();
    let mut given = Vec::new();
    for number in 0..200 {
        let with = if number % 5 == 0 { CARL } else { BEN };
        let text = format!("{number}");
        given.push(if number % 2 == 0 { house.say(ANNA, with, &text) } else { house.say(with, ANNA, &text) });
        if number == 140 {
            house.commit();
            house.write_rows();
        }
    }
    house.commit();
    (house, given)
}

fn numbers(page: &Page) -> Vec<u64> {
    page.messages.iter().map(|found| String::from_utf8_lossy(page.text(found)).parse().unwrap()).collect()
}

#[test]
fn pages_go_forwards_and_backwards_and_say_whether_there_is_more() {
    let (house, given) = house();
    let all = house.query(ANNA);
    let first = house.page(&Query { messages_max: 50, ..all.clone() });
    assert_eq!((numbers(&first), first.end), ((0..50).collect(), End::Full));
    let mut after = Sequence::ZERO;
    let mut seen = Vec::new();
    loop {
        let page = house.page(&Query { messages_max: 50, after, ..all.clone() });
        seen.extend(numbers(&page));
        if page.end == End::Complete {
            break;
        }
        after = *ids(&page).last().unwrap();
    }
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
    let last = Query { messages_max: 50, order: Order::Backwards, ..all.clone() };
    let page = house.page(&last);
    assert_eq!((numbers(&page), page.end), ((150..200).rev().collect(), End::Full));
    let page = house.page(&Query { before: given[20], ..last.clone() });
    assert_eq!((numbers(&page), page.end), ((0..20).rev().collect(), End::Complete));
    let page = house.page(&Query { after: given[190], messages_max: 9, ..all.clone() });
    assert_eq!(
        (numbers(&page), page.end),
        ((191..200).collect(), End::Complete),
        "exactly as many as there are"
    );
    for (max, end) in [(0, End::Full), (200, End::Complete), (199, End::Full)] {
        assert_eq!(
            house.page(&Query { messages_max: max, bytes_max: 1 << 20, ..all.clone() }).end,
            end,
            "{max}"
        );
    }
    assert_eq!(house.page(&Query { messages_max: 0, after: given[199], ..all }).end, End::Complete);
}

#[test]
fn ranges_of_ids_and_times_are_what_they_say() {
    let (house, given) = house();
    let all = house.query(ANNA);
    let between = Query { after: given[10], before: given[20], ..all.clone() };
    assert_eq!(numbers(&house.page(&between)), (11..20).collect::<Vec<_>>());
    let times = Query { from_ms: given[100].time_ms(), until_ms: given[110].time_ms(), ..all.clone() };
    assert_eq!(numbers(&house.page(&times)), (100..=110).collect::<Vec<_>>());
    assert_eq!(
        numbers(&house.page(&Query { order: Order::Backwards, ..times })),
        (100..=110).rev().collect::<Vec<_>>()
    );
    assert_eq!(
        numbers(&house.page(&Query { not_before: given[195], ..all.clone() })),
        (195..200).collect::<Vec<_>>()
    );
    let nothing = Query { after: given[20], before: given[20], ..all };
    assert_eq!(house.page(&nothing).messages.len(), 0);
}

#[test]
fn a_peer_is_found_without_reading_the_others() {
    let (house, _) = house();
    let page = house.page(&Query { peer: Some(peer(CARL)), messages_max: 50, ..house.query(ANNA) });
    assert_eq!(numbers(&page), (0..40).map(|n| 5 * n).collect::<Vec<_>>());
    assert_eq!(page.cost.looks, 40);
    let page = house.page(&Query { peer: Some(PeerHash(77)), ..house.query(ANNA) });
    assert_eq!((page.messages.len(), page.cost.looks, page.cost.reads, page.end), (0, 0, 0, End::Complete));
}

#[test]
fn a_step_looks_at_so_many_rows_and_the_next_goes_on_behind_them() {
    let (mut house, _) = house();
    house.flush();
    for order in [Order::Forwards, Order::Backwards] {
        let all = Query { order, ..house.query(ANNA) };
        let rows = house.page(&Query { peer: Some(PeerHash(77)), ..all.clone() }).cost.rows;
        assert!(rows >= 3, "{rows}");
        for rows_max in 2..=rows + 1 {
            for (peer, messages) in [(None, 200), (Some(peer(CARL)), 40), (Some(PeerHash(77)), 0)] {
                let query = Query { peer, rows_max, ..all.clone() };
                let pages = house.pages(query.clone());
                assert!(pages.iter().all(|page| page.cost.rows <= rows_max), "{rows_max}");
                assert!(pages.len() >= rows / rows_max, "{} for {rows_max} of {rows}", pages.len());
                let found: Vec<Sequence> = pages.iter().flat_map(ids).collect();
                let whole: Vec<Sequence> =
                    house.pages(Query { rows_max: usize::MAX, ..query }).iter().flat_map(ids).collect();
                assert_eq!((found.len(), found == whole), (messages, true), "{rows_max} {peer:?}");
            }
        }
    }
}

#[test]
fn a_predicate_decides_and_its_effort_is_bounded() {
    let (house, _) = house();
    let matches: query::Predicate = Arc::new(|text| text.ends_with(b"7"));
    let query = Query { matches: Some(matches), order: Order::Backwards, ..house.query(ANNA) };
    let page = house.page(&Query { messages_max: 3, ..query.clone() });
    assert_eq!(numbers(&page), [197, 187, 177]);
    let page = house.page(&Query { looks_max: 5, ..query.clone() });
    assert_eq!((numbers(&page), page.end, page.cost.looks), (vec![197], End::Step, 5));
    let rest = query.rest(&page);
    assert_eq!(numbers(&house.page(&Query { messages_max: 1, ..rest })), [187]);
}

#[test]
fn a_large_page_comes_in_steps_of_bounded_bytes() {
    let mut house = House::new();
    let mut expected = Vec::new();
    for number in 0..100 {
        expected.push(format!("{number} {}", "x".repeat(3000)));
        house.say(ANNA, BEN, &expected[number]);
    }
    house.flush();
    for order in [Order::Forwards, Order::Backwards] {
        let query = Query { order, bytes_max: 10_000, messages_max: 80, ..house.query(BEN) };
        let pages = house.pages(query.clone());
        assert!(pages.len() >= 25 && pages.iter().all(|page| page.texts.len() <= 10_000), "{}", pages.len());
        assert_eq!(pages.last().unwrap().end, End::Full);
        let mut texts = house.texts(query);
        if order == Order::Backwards {
            texts.reverse();
            assert_eq!(texts, expected[20..]);
        } else {
            assert_eq!(texts, expected[..80]);
        }
    }
    // One that is longer than a step comes all the same.
    let page = house.page(&Query { bytes_max: 10, ..house.query(BEN) });
    assert_eq!((page.messages.len(), page.end), (1, End::Step));
}

#[test]
fn ids_are_looked_up_and_missing_ones_are_told() {
    let (house, given) = house();
    let all = house.query(ANNA);
    let some = vec![given[150], given[3], given[70]];
    let page = house.page(&Query { ids: some.clone(), ..all.clone() });
    assert_eq!(numbers(&page), [3, 70, 150]);
    let strange = Sequence(given[70].0 + 1);
    for id in [strange, Sequence(1), Sequence::MAX] {
        let page = house.page(&Query { ids: [some.clone(), vec![id]].concat(), ..all.clone() });
        assert_eq!((page.messages.len(), page.end), (0, End::NotFound(id)));
        let page = house.page(&Query { after: id, must_exist: vec![id], ..all.clone() });
        assert_eq!(page.end, End::NotFound(id));
    }
    let page = house.page(&Query { after: given[197], must_exist: vec![given[197]], ..all.clone() });
    assert_eq!(numbers(&page), [198, 199]);
    let gone = Query { not_before: given[100], must_exist: vec![given[99]], ..all };
    assert_eq!(house.page(&gone).end, End::NotFound(given[99]), "too old");
    let stranger = Query { must_exist: vec![given[0]], ..house.query(ActorId::user(50)) };
    assert_eq!(house.page(&stranger).end, End::NotFound(given[0]));
}

#[test]
fn ids_are_looked_up_however_much_lies_between_them() {
    let mut house = House::new();
    let given: Vec<Sequence> = (0..2000).map(|number| house.say(ANNA, BEN, &number.to_string())).collect();
    house.commit();
    house.write_rows();
    let in_rows = house.directory.archive_state(ANNA).unwrap().messages as usize;
    assert!((1900..2000).contains(&in_rows), "some are in memory");
    // The first and the last row have two each.
    let some = [1999, 5, 1000, 6, 1800, in_rows - 1, 5];
    let mut expected: Vec<u64> = some.iter().map(|number| *number as u64).collect();
    expected.sort_unstable();
    expected.dedup();
    for order in [Order::Forwards, Order::Backwards] {
        let wanted = some.iter().map(|number| given[*number]).collect();
        let query = Query { ids: wanted, order, ..house.query(ANNA) };
        let page = house.page(&query);
        assert_eq!((numbers(&page), page.end), (expected.clone(), End::Complete), "{order:?}");
        assert!(page.cost.rows <= 4 && page.cost.looks == expected.len(), "{:?}", page.cost);
        // In steps, and between bounds.
        let pages = house.pages(Query { rows_max: 2, bytes_max: 1, ..query.clone() });
        let found: Vec<u64> = pages.iter().flat_map(numbers).collect();
        assert_eq!(found, expected, "{order:?} in {} steps", pages.len());
        let between = Query { after: given[5], before: given[1800], messages_max: 2, ..query };
        let all = [6, 1000];
        let page = house.page(&between);
        assert_eq!(
            (numbers(&page).iter().all(|number| all.contains(number)), page.messages.len()),
            (true, 2)
        );
        expected.reverse();
    }
}

#[test]
fn what_is_gone_costs_no_look() {
    let (mut house, _) = house();
    let text = "x".repeat(900);
    let mut last = Sequence::ZERO;
    for number in 0..600 {
        last = house.say(ANNA, BEN, &text);
        house.logs[0].trim_up_to(BEN, last);
        house.logs[0].trim_up_to(ANNA, last);
        house.logs[0].trim_up_to(CARL, last);
        if number % 20 == 0 {
            house.commit();
            house.write_rows();
        }
    }
    house.flush();
    let there = |house: &House, order| {
        let query = Query { order, looks_max: 5, messages_max: 2, ..house.query(ANNA) };
        let page = house.page(&query);
        (ids(&page), page.cost)
    };
    let first = there(&house, Order::Forwards).0[0];
    let erased = Erased { at_ms: 5, received_ms: 7, tombstone: b"<retracted/>".to_vec() };
    run_inline(&house.directory, Box::new(move |t| t.erase_from_archive(ANNA, first, &erased))).unwrap();
    // The oldest files go, rows of them do not yet.
    let segments = house.segments();
    let newest = house.logs[0].second().oldest_held().unwrap();
    house.logs[0].second_mut().expire(Sequence(newest.0 + 1));
    for _ in 0..3 {
        house.upkeep();
    }
    assert!(house.segments() < segments);
    let (found, cost) = there(&house, Order::Forwards);
    assert_eq!((found.len(), found[0], cost.looks, cost.gone), (2, first, 2, 0), "{cost:?}");
    assert!(found[1] > newest, "what was erased keeps its place, and the next is there");
    assert_eq!(there(&house, Order::Backwards).0[0], last);
    let all = house.pages(house.query(ANNA));
    let gone: usize = all.iter().map(|page| page.cost.gone).sum();
    let sum: usize = all.iter().map(|page| page.messages.len()).sum();
    assert!((gone, sum < 700 && sum > 300) == (0, true), "{gone} gone, {sum} given");
}

/// Segments of a house, in which something happens when a place in them is first looked for.
struct Raced<'a> {
    segments: super::segments::Segments,
    happens: Option<Box<dyn FnOnce() + 'a>>,
    looked_again: u32,
}

impl super::segments::Source for Raced<'_> {
    fn segment(
        &mut self,
        journal: u64,
        position: Position,
    ) -> Result<Option<Range<Position>>, crate::log::LogError> {
        if let Some(happens) = self.happens.take() {
            happens();
        }
        self.segments.segment(journal, position)
    }

    fn read(
        &mut self,
        journal: u64,
        segment: Position,
        from: Position,
        to: &mut [u8],
    ) -> Result<bool, crate::log::LogError> {
        self.segments.read(journal, segment, from, to)
    }

    fn look_again(&mut self) {
        self.looked_again += 1;
        self.segments.look_again();
    }

    fn whole(&mut self, journal: u64, segment: Position) -> Result<Vec<u8>, crate::log::LogError> {
        self.segments.whole(journal, segment)
    }
}

#[test]
fn what_compaction_moves_while_a_page_is_read_is_in_the_page() {
    let (mut house, kept) = compaction::crowded();
    for number in 10..30 {
        let actor = ActorId::user(number);
        run_inline(&house.directory, Box::new(move |t| t.cut_archive(actor, Sequence::MAX))).unwrap();
    }
    house.sweep();
    let before = house.segments();
    let query = Query { bytes_max: 1 << 20, ..house.query(ANNA) };
    let directory = house.directory.clone();
    let folders = Arc::new(Folders::new(journal_folders(&house.folder.path().join("log")).unwrap()));
    let happens: Box<dyn FnOnce()> = Box::new(|| house.settle());
    let segments = super::segments::Segments::new(folders);
    let mut source = Raced { segments, happens: Some(happens), looked_again: 0 };
    let page = super::page::answer(&directory, &mut source, &query).unwrap();
    let texts: Vec<_> = page.messages.iter().map(|found| String::from_utf8_lossy(page.text(found))).collect();
    assert_eq!((texts.len(), page.end, page.cost.gone), (kept.len(), End::Complete, 0));
    assert_eq!((texts == kept, source.looked_again), (true, 1));
    drop(source);
    assert!(house.segments() < before / 2, "files went meanwhile");
    // What is really gone is told once.
    house.logs.clear();
    for (_, folder) in journal_folders(&house.folder.path().join("log")).unwrap() {
        std::fs::remove_dir_all(folder).unwrap();
    }
    let page = house.page(&query);
    assert_eq!((page.messages.len(), page.cost.gone, page.end), (0, kept.len(), End::Complete));
}

/// Segments of a house, and in which order bytes of them were announced and read.
struct Watched {
    segments: super::segments::Segments,
    announced: Vec<Range<Position>>,
    read: Vec<Range<Position>>,
}

impl super::segments::Source for Watched {
    fn segment(
        &mut self,
        journal: u64,
        position: Position,
    ) -> Result<Option<Range<Position>>, crate::log::LogError> {
        self.segments.segment(journal, position)
    }

    fn read(
        &mut self,
        journal: u64,
        segment: Position,
        from: Position,
        to: &mut [u8],
    ) -> Result<bool, crate::log::LogError> {
        self.read.push(from..Position(from.0 + to.len() as u64));
        self.segments.read(journal, segment, from, to)
    }

    fn will_need(&mut self, journal: u64, segment: Position, bytes: Range<Position>) {
        assert!(self.read.is_empty(), "what is to be read is known before any of it is");
        self.segments.will_need(journal, segment, bytes.clone());
        self.announced.push(bytes);
    }

    fn look_again(&mut self) {
        self.segments.look_again();
    }

    fn whole(&mut self, journal: u64, segment: Position) -> Result<Vec<u8>, crate::log::LogError> {
        self.segments.whole(journal, segment)
    }
}

#[test]
fn the_disk_is_asked_for_texts_that_lie_apart_at_once() {
    let mut house = House::new();
    for number in 0..6 {
        house.say(BEN, ANNA, &number.to_string());
        (0..4).for_each(|_| _ = house.say(BEN, CARL, &"x".repeat(8 << 10)));
    }
    house.commit();
    let (near, _) = self::house();
    for (house, messages, is_apart) in [(&house, 6, true), (&near, 200, false)] {
        let folders = Arc::new(Folders::new(journal_folders(&house.folder.path().join("log")).unwrap()));
        let segments = super::segments::Segments::new(folders);
        let mut source = Watched { segments, announced: Vec::new(), read: Vec::new() };
        // One batch of it.
        let query = Query { messages_max: 60, bytes_max: 1 << 20, ..house.query(ANNA) };
        let page = super::page::answer(&house.directory, &mut source, &query).unwrap();
        assert_eq!(numbers(&page), (0..messages.min(60)).collect::<Vec<_>>());
        match is_apart {
            true => assert_eq!((source.announced.len(), &source.announced[..]), (5, &source.read[1..])),
            false => assert_eq!(source.announced, []),
        }
    }
}

#[test]
fn an_erased_text_is_never_shown_and_a_tombstone_stands_for_it() {
    let (mut house, given) = house();
    for id in [given[10], given[199]] {
        let erased = Erased { at_ms: 5, received_ms: 7, tombstone: b"<retracted/>".to_vec() };
        run_inline(&house.directory, Box::new(move |t| t.erase_from_archive(ANNA, id, &erased))).unwrap();
    }
    for round in 0..2 {
        let page = house.page(&Query { bytes_max: 1 << 20, ..house.query(ANNA) });
        assert_eq!((ids(&page), page.messages.len()), (given.clone(), 200), "each has kept its place");
        for (at, found) in page.messages.iter().enumerate() {
            assert_eq!(found.erased_ms.is_some(), at == 10 || at == 199);
            assert_eq!(page.text(found) == b"<retracted/>", found.erased_ms.is_some());
        }
        assert_eq!((page.messages[10].erased_ms, page.messages[10].time_ms), (Some(5), 7));
        let other = house.page(&Query { ids: vec![given[10]], ..house.query(CARL) });
        assert_eq!(numbers(&other), [10], "the other's archive is another matter");
        if round == 0 {
            house.flush();
        }
    }
}

#[test]
fn what_goes_to_the_directory_meanwhile_is_there_once() {
    let (mut house, given) = house();
    let query = Query { bytes_max: 1 << 20, ..house.query(ANNA) };
    house.flush();
    let page = house.page(&query);
    assert_eq!(ids(&page), given, "the snapshot is older than the rows");
    let query = Query { order: Order::Backwards, ..query };
    assert_eq!(house.page(&query).messages.len(), 200);
}

#[test]
fn the_first_and_the_last_are_found_by_pages_of_one() {
    let (house, given) = house();
    for (order, id) in [(Order::Forwards, given[0]), (Order::Backwards, given[199])] {
        let page = house.page(&Query { order, messages_max: 1, ..house.query(ANNA) });
        assert_eq!(ids(&page), [id]);
    }
}

#[test]
fn a_damaged_record_is_passed_over() {
    let (mut house, given) = house();
    house.flush();
    let folders = journal_folders(&house.folder.path().join("log")).unwrap();
    let path = folders[0].1.join("0000000000000000.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    // The text of the fourth message, and that of the fifth.
    for text in [b"3", b"4"] {
        let head = 64;
        let at = (128..bytes.len() - head)
            .step_by(8)
            .find(|at| bytes[*at + 8] == 1 && bytes[*at + head] == text[0] && bytes[*at + head + 1] == 0)
            .unwrap();
        bytes[at + head] ^= 0xff;
    }
    house.logs.clear();
    std::fs::write(&path, &bytes).unwrap();
    let query = Query::all(ANNA, Snapshot::default());
    let page = house.page(&query);
    assert_eq!((page.messages.len(), page.cost.damaged), (198, 2));
    assert!(!ids(&page).contains(&given[3]));
    std::fs::remove_file(&path).unwrap();
    let page = house.page(&query);
    assert_eq!((page.messages.len(), page.cost.gone, page.end), (0, 200, End::Complete), "no error");
}
