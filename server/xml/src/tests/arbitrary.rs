//! Generated streams: any split is like the whole, and two independent parsers agree with what was accepted.

use proptest::prelude::*;

use super::{generate, oracle, run};
use crate::{CLIENT, Element, Limits};

fn split_is_like_whole(stream: &[u8], pieces: &[usize], limits: &Limits) -> oracle::Outcome {
    let whole = run(stream, limits, |left| left);
    let mut next = pieces.iter().copied().cycle();
    let split = run(stream, limits, |_| next.next().unwrap_or(1));
    assert_eq!(split, whole, "split otherwise than whole: {}", String::from_utf8_lossy(stream));
    let bytes = run(stream, limits, |_| 1);
    assert_eq!(bytes, whole, "byte by byte otherwise than whole: {}", String::from_utf8_lossy(stream));
    whole
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn good_streams(stream in generate::stream(), pieces in prop::collection::vec(1..40_usize, 1..10)) {
        oracle::check(&stream, &split_is_like_whole(&stream, &pieces, &Limits::default()));
    }

    #[test]
    fn damaged_streams(stream in generate::damaged_stream(), pieces in prop::collection::vec(1..40_usize, 1..10)) {
        oracle::check(&stream, &split_is_like_whole(&stream, &pieces, &Limits::default()));
    }

    #[test]
    fn tight_limits(stream in generate::stream(), pieces in prop::collection::vec(1..40_usize, 1..10), bytes in 1..200_usize) {
        let limits = Limits { stanza_bytes_max: bytes, depth_max: 3, attributes_max: 6, ..Limits::default() };
        let outcome = split_is_like_whole(&stream, &pieces, &limits);
        prop_assert!(outcome.bytes.iter().all(|(stanza, _)| stanza.len() <= bytes));
        oracle::check(&stream, &outcome);
    }

    #[test]
    fn arbitrary_bytes(stream in prop::collection::vec(any::<u8>(), 0..200), pieces in prop::collection::vec(1..9_usize, 1..5)) {
        oracle::check(&stream, &split_is_like_whole(&stream, &pieces, &Limits::default()));
        let inside = super::in_stream(&stream);
        oracle::check(&inside, &split_is_like_whole(&inside, &pieces, &Limits::default()));
    }

    #[test]
    fn any_string_survives_being_written(text in ".{0,40}", value in ".{0,40}") {
        let allowed = |s: &str| s.chars().all(|c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..));
        let element = Element::new("a", CLIENT).attr("b", value.clone()).text(&text);
        let read = Element::parse(&element.to_bytes()).expect("what is written is well-formed");
        if allowed(&text) && allowed(&value) {
            prop_assert_eq!(&read, &element);
        }
        oracle::round_trip(&read);
    }
}

/// The generator is only worth something if most of what it makes is accepted, and the damage is not all fatal.
#[test]
fn the_generators_make_what_they_should() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut count = |damaged: bool| {
        (0..300)
            .filter(|_| {
                let stream = if damaged {
                    generate::damaged_stream().new_tree(&mut runner).map(|tree| tree.current())
                } else {
                    generate::stream().new_tree(&mut runner).map(|tree| tree.current())
                };
                run(&stream.expect("a stream"), &Limits::default(), |left| left).error.is_none()
            })
            .count()
    };
    let (good, damaged) = (count(false), count(true));
    assert!(good > 150, "{good} of 300 accepted");
    assert!((30..270).contains(&damaged), "{damaged} of 300 accepted");
}
