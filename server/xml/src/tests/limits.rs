//! Every limit, at the exact byte.

use super::{HEADER, in_stream, outcome_within};
use crate::{
    Element, Frame, Framer, Limits, NAMESPACE_BYTES_MAX, Phase, Problem as P, STANZA_NODES_MAX,
    TREE_NODES_MAX,
};

fn problem(stream: &[u8], limits: &Limits) -> Option<P> {
    outcome_within(stream, limits).error.map(|error| error.problem)
}

#[test]
fn a_stanza_may_be_as_long_as_the_limit() {
    let limits = Limits { stanza_bytes_max: 20, ..Limits::default() };
    assert_eq!("<a>0123456789012</a>".len(), 20);
    let cases: &[(&str, Option<P>)] = &[
        ("<a>0123456789012</a>", None),
        ("  \n<a>0123456789012</a>\n\n\n<a>0123456789012</a>", None),
        ("<a>01234567890123</a>", Some(P::TooLong)),
        ("<a>0123456789012345", None),
        ("<a>01234567890123456", None),
        ("<a>012345678901234567", Some(P::TooLong)),
        ("<a b='0123456789'/>", None),
        ("<a b='012345678901'/>", Some(P::TooLong)),
        // A problem before the limit comes first, one behind it is never seen.
        ("<a>0123456789\u{1}23456</a>", Some(P::ForbiddenCharacter)),
        ("<a>01234567890123456\u{1}</a>", Some(P::TooLong)),
        ("</stream:stream     >", Some(P::TooLong)),
        ("</stream:stream    >", None),
    ];
    for &(bytes, expected) in cases {
        assert_eq!(problem(&in_stream(bytes.as_bytes()), &limits), expected, "{bytes}");
    }
}

#[test]
fn white_space_between_stanzas_does_not_count() {
    let limits = Limits { stanza_bytes_max: 8, ..Limits::default() };
    let stream = in_stream([" ".repeat(1000).as_bytes(), b"<a/>"].concat().as_slice());
    assert_eq!(problem(&stream, &limits), None);
}

#[test]
fn a_header_may_be_as_long_as_the_limit() {
    let exact = Limits { header_bytes_max: HEADER.len(), ..Limits::default() };
    assert_eq!(problem(&in_stream(b"<a/>"), &exact), None);
    let short = Limits { header_bytes_max: HEADER.len() - 1, ..Limits::default() };
    assert_eq!(problem(HEADER.as_bytes(), &short), Some(P::TooLong));
    let padded = HEADER.replacen("?>", &format!("?>{}", " ".repeat(9000)), 1);
    assert_eq!(problem(padded.as_bytes(), &Limits::default()), Some(P::TooLong));
}

#[test]
fn elements_nest_as_deep_as_the_limit() {
    let limits = Limits { depth_max: 5, ..Limits::default() };
    let nested =
        |depth: usize| in_stream(("<a>".repeat(depth - 1) + "<a/>" + &"</a>".repeat(depth - 1)).as_bytes());
    assert_eq!(problem(&nested(5), &limits), None);
    assert_eq!(problem(&nested(6), &limits), Some(P::TooDeep));
    let siblings = in_stream(("<a>".to_owned() + &"<b><c/></b>".repeat(100) + "</a>").as_bytes());
    assert_eq!(problem(&siblings, &limits), None);
}

#[test]
fn no_configuration_allows_nesting_beyond_a_thousand() {
    let limits = Limits { depth_max: u16::MAX, ..Limits::default() };
    let nested = |depth: usize| "<a>".repeat(depth) + &"</a>".repeat(depth);
    assert_eq!(super::run(&in_stream(nested(1000).as_bytes()), &limits, |left| left).error, None);
    let deep = super::run(&in_stream(nested(1001).as_bytes()), &limits, |left| left);
    assert_eq!(deep.error.map(|error| error.problem), Some(P::TooDeep));
    assert!(Element::parse(nested(1000).as_bytes()).is_ok());
    assert_eq!(Element::parse(nested(1001).as_bytes()).map_err(|error| error.problem), Err(P::TooDeep));
}

#[test]
fn an_element_has_as_many_attributes_as_the_limit() {
    for most in [1, 5, 40] {
        let limits = Limits { attributes_max: most, ..Limits::default() };
        let element = |count: u16| {
            let attributes: String = (0..count).map(|i| format!(" a{i}='{i}'")).collect();
            format!("<a{attributes}><b{attributes}/></a>")
        };
        // The header has four.
        let run = |count| {
            let limits = Limits { attributes_max: limits.attributes_max.max(4), ..limits };
            problem(&in_stream(element(count).as_bytes()), &limits)
        };
        let most = most.max(4);
        assert_eq!(run(most), None, "{most}");
        assert_eq!(run(most + 1), Some(P::TooManyAttributes), "{most}");
    }
    let limits = Limits { attributes_max: 4, ..Limits::default() };
    let declared = in_stream(b"<a xmlns='u' xmlns:p='v' xmlns:q='w' b='' p:c=''/>");
    assert_eq!(problem(&declared, &limits), Some(P::TooManyAttributes));
}

#[test]
fn a_tree_has_as_many_elements_and_attributes_as_the_limit() {
    let element = |elements: usize, attributes: usize| {
        let inside = "<b/>".repeat(elements - 1) + &"<c d='' e=''/>".repeat(attributes / 2);
        format!("<a>{inside}</a>")
    };
    let fits = |text: &str| {
        let mut framer = Framer::new();
        let read = framer.next(Phase::InStream, None, &mut None, text.as_bytes(), &Limits::default());
        let Ok((_, Some(Frame::Stanza(stanza)))) = read else { panic!("{read:?}") };
        stanza.fits_tree()
    };
    for attributes in [0, 2000] {
        // Each <c/> is one, too.
        let least = |most: usize| most - attributes - attributes / 2;
        let [most, more] = [0, 1].map(|more| element(least(STANZA_NODES_MAX) + more, attributes));
        assert!(fits(&most) && !fits(&more), "a stream goes on with it all the same");
        let [most, more] = [0, 1].map(|more| element(least(TREE_NODES_MAX) + more, attributes));
        assert!(Element::parse(most.as_bytes()).is_ok());
        assert_eq!(Element::parse(more.as_bytes()).map_err(|error| error.problem), Err(P::TooManyNodes));
    }
}

#[test]
fn a_stanza_of_as_many_as_it_may_have_can_be_read_again_when_it_was_written_anew() {
    let inside = "<p:b/>".repeat(STANZA_NODES_MAX - 3);
    let text = format!("<iq><q xmlns:p='urn:p'>{inside}</q></iq>");
    let mut framer = Framer::new();
    let read = framer.next(Phase::InStream, None, &mut None, text.as_bytes(), &Limits::default());
    let Ok((_, Some(Frame::Stanza(stanza)))) = read else { panic!("{read:?}") };
    assert!(stanza.fits_tree());
    let tree = stanza.to_element();
    let again = tree.to_bytes();
    assert!(again.len() > text.len(), "each declares its namespace");
    assert_eq!(Element::parse(&again), Ok(tree));
}

#[test]
fn a_name_twice_among_many_attributes_is_found() {
    let limits = Limits { attributes_max: u16::MAX, ..Limits::default() };
    for count in [2, 15, 16, 17, 18, 100, 5000] {
        let names =
            |last: usize| -> String { (0..count - 1).chain([last]).map(|i| format!(" a{i}=''")).collect() };
        for twice in [0, (count - 1) / 2, count - 2] {
            let stream = in_stream(format!("<a{}/>", names(twice)).as_bytes());
            let found = super::run(&stream, &limits, |left| left).error.map(|error| error.problem);
            assert_eq!(found, Some(P::DuplicateAttribute), "{twice} of {count}");
        }
        let stream = in_stream(format!("<a{}/>", names(count - 1)).as_bytes());
        assert_eq!(super::run(&stream, &limits, |left| left).error, None, "{count}");
    }
}

#[test]
fn the_name_of_a_namespace_may_be_as_long_as_the_limit() {
    for declaration in ["xmlns", "xmlns:p"] {
        let stream = |length: usize| {
            let name = "u".repeat(length);
            in_stream(format!("<a><b {declaration}='{name}'/></a>").as_bytes())
        };
        assert_eq!(problem(&stream(NAMESPACE_BYTES_MAX), &Limits::default()), None);
        let long = problem(&stream(NAMESPACE_BYTES_MAX + 1), &Limits::default());
        assert_eq!(long, Some(P::NamespaceTooLong));
        // What it takes to write the name does not count: it may have to be written otherwise than it came.
        for written in ["\"", "&quot;", "&#x00000022;"] {
            let name = written.repeat(NAMESPACE_BYTES_MAX);
            let element = super::element_of(format!("<a><b {declaration}='{name}'/></a>"));
            assert_eq!(Element::parse(&element.to_bytes()), Ok(element));
            let stream = in_stream(format!("<a><b {declaration}='{name}{written}'/></a>").as_bytes());
            assert_eq!(problem(&stream, &Limits::default()), Some(P::NamespaceTooLong));
        }
    }
}
