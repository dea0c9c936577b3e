//! Prefixes: what they stand for among many declarations, and that finding it costs the same among few and many.

use super::{element_of, problem_of};
use crate::tokenizer::COMPARED;
use crate::{Element, Framer, Limits, NAMESPACE_BYTES_MAX, PREFIXES_MAX, Phase, Problem};

/// Elements around `inside` with so many declarations each, of prefixes `p0`, `p1`, …
fn declaring(count: usize, each: usize, inside: &str) -> String {
    let numbers: Vec<usize> = (0..count).collect();
    let declared = |part: &[usize]| part.iter().map(|i| format!(" xmlns:p{i}='u{i}'")).collect::<String>();
    let opened: String = numbers.chunks(each).map(|part| format!("<e{}>", declared(part))).collect();
    opened + inside + &"</e>".repeat(count.div_ceil(each))
}

/// How many prefixes are compared for each of `names` in a stanza.
fn comparisons(stanza: &str, names: usize) -> f64 {
    let (mut framer, mut partial) = (Framer::new(), None);
    COMPARED.with(|count| count.set(0));
    let limits = Limits::default();
    let read = framer.next(Phase::InStream, None, &mut partial, stanza.as_bytes(), &limits);
    assert!(read.is_ok_and(|(_, frame)| frame.is_some()), "{}", &stanza[..200]);
    COMPARED.with(std::cell::Cell::get) as f64 / names as f64
}

#[test]
fn finding_a_prefix_costs_the_same_among_few_and_many() {
    const NAMES: usize = 10_000;
    for (count, each) in [(4, 4), (8, 8), (9, 3), (64, 1), (200, 40), (PREFIXES_MAX, 50)] {
        for wanted in [0, count / 2, count - 1] {
            for name in [format!("<p{wanted}:b/>"), format!("<b p{wanted}:c=''/>")] {
                let cost = comparisons(&declaring(count, each, &name.repeat(NAMES)), NAMES);
                assert!(cost <= 10.0, "{cost} comparisons for {name} among {count} declarations");
            }
        }
    }
}

#[test]
fn declaring_and_forgetting_costs_the_same_among_few_and_many() {
    const TIMES: usize = 2_000;
    for count in [4, 8, 9, 100, PREFIXES_MAX - 1] {
        let again = "<a xmlns:p0='v' xmlns:q='w'/>".repeat(TIMES);
        let cost = comparisons(&declaring(count, 50, &again), 2 * TIMES);
        assert!(cost <= 40.0, "{cost} comparisons for a declaration among {count}");
    }
}

#[test]
fn a_prefix_means_what_the_innermost_element_says() {
    // The independent parsers agree, which `element_of` checks, in pieces of any size.
    for count in [7, 8, 9, 10, 30] {
        let again: String = (0..count).step_by(2).map(|i| format!(" xmlns:p{i}='v{i}'")).collect();
        let used: String = (0..count).map(|i| format!("<p{i}:b p{i}:c='{i}'/>")).collect();
        let inside = format!("{used}<f{again}>{used}<g xmlns:p0='w'>{used}</g>{used}</f>{used}");
        let element = element_of(declaring(count, 3, &inside));
        assert_eq!(Element::parse(&element.to_bytes()), Ok(element));
    }
}

#[test]
fn as_many_prefixes_hold_in_one_place_as_the_limit() {
    let exact = declaring(PREFIXES_MAX, 50, "<p0:a/>");
    assert_eq!(problem_of(&exact), None);
    assert_eq!(problem_of(declaring(PREFIXES_MAX + 1, 50, "")), Some(Problem::TooManyPrefixes));
    // One prefix declared again is one, and those of elements beside each other do not add up.
    assert_eq!(problem_of(declaring(PREFIXES_MAX, 50, "<a xmlns:p0='v'/>")), None);
    let beside = declaring(40, 40, "<a xmlns:q='v'/>").repeat(20);
    assert_eq!(problem_of(format!("<m>{beside}</m>")), None);
}

#[test]
fn a_tree_with_a_namespace_for_each_attribute_can_be_read_again() {
    let uri = "u".repeat(NAMESPACE_BYTES_MAX - 3);
    let declared: String = (0..30).map(|i| format!(" xmlns:p{i}='{uri}{i}'")).collect();
    let used: String = (0..30).map(|i| format!(" p{i}:a='{i}' p{i}:b='{i}'")).collect();
    let bytes = format!("<m{declared}><b{used}><c{used}/></b></m>");
    let element = Element::parse(bytes.as_bytes()).unwrap();
    let written = element.to_bytes();
    assert_eq!(Element::parse(&written), Ok(element));
    // Each namespace is written once for an element, however many attributes are in it.
    assert!(written.len() < 2 * bytes.len() + 2000, "{} bytes of {}", written.len(), bytes.len());
}
