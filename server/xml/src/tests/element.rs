//! Owned trees, and escaping.

use super::oracle;
use crate::{CLIENT, Element, Problem as P, STREAMS, writer};

#[test]
fn elements_are_parsed_alone() {
    let parsed = Element::parse(b" \n<a b='1'>x<c xmlns='u'/></a>\t").unwrap();
    let built = Element::new("a", CLIENT).attr("b", "1").text("x").child(Element::new("c", "u"));
    assert_eq!(parsed, built);
    let cases: &[(&[u8], P, usize)] = &[
        (b"", P::Truncated, 0),
        (b"  ", P::Truncated, 2),
        (b"x<a/>", P::UnexpectedByte(b'x'), 0),
        (b"  <a>", P::Truncated, 5),
        (b" <a/> x", P::UnexpectedByte(b'x'), 6),
        (b"<a/><b/>", P::UnexpectedByte(b'<'), 4),
        (b" <a>\x00</a>", P::ForbiddenCharacter, 4),
        (b"</a>", P::UnexpectedEndTag, 0),
        (b"<?xml version='1.0'?><a/>", P::Restricted, 0),
        (b"<p:a/>", P::UndeclaredPrefix, 1),
    ];
    for &(bytes, problem, offset) in cases {
        let error = Element::parse(bytes).unwrap_err();
        assert_eq!((error.problem, error.offset), (problem, offset), "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn what_is_built_can_be_read() {
    let awkward = "<&>\"' \t\r\n]]> ž🦢";
    let built = Element::new("iq", CLIENT)
        .attr("id", awkward)
        .attr_opt("to", Some("a"))
        .attr_opt("from", None::<String>)
        .with_lang("cs")
        .text(awkward)
        .child(Element::new("q", "urn:x").child(Element::new("r", "urn:x")).child(Element::new("s", CLIENT)))
        .text("")
        .children([Element::new("t", ""), Element::new("u", STREAMS).child(Element::new("v", CLIENT))])
        .text("a")
        .text("b");
    oracle::round_trip(&built);
    assert_eq!(built.content(), format!("{awkward}ab"));
    assert_eq!(
        (built.lang(), built.attribute("id"), built.attribute("from")),
        (Some("cs"), Some(awkward), None)
    );
    assert_eq!(built.elements().count(), 3);
    assert!(built.find("q", "urn:x").is_some_and(|q| q.find("r", "urn:x").is_some()));
}

#[test]
fn what_was_parsed_can_be_written_again() {
    for bytes in [
        "<a xmlns:p='u' p:b='1' b='2' xml:b='3' stream:b='4'/>",
        "<xml:a><b/></xml:a>",
        "<a><xml:b xmlns=''><c/></xml:b></a>",
        "<stream:a><b xmlns='u'><stream:c/></b></stream:a>",
        "<a xmlns=''><b xmlns='jabber:client'/></a>",
        "<a xmlns:p='u' xmlns:q='v' p:b='' q:b=''/>",
        "<p:a xmlns:p='u' xmlns='v'><b/><p:c/></p:a>",
    ] {
        oracle::round_trip(&Element::parse(bytes.as_bytes()).unwrap());
    }
}

#[test]
fn attributes_can_be_changed() {
    let mut element = Element::new("a", CLIENT).attr("b", "1").attr("b", "2");
    element.set_attribute("c", "3");
    assert_eq!(element.attributes().len(), 2);
    assert_eq!(element.remove_attribute("b").as_deref(), Some("2"));
    assert_eq!(element.remove_attribute("b"), None);
    assert_eq!(element.to_bytes(), b"<a c=\"3\"/>");
    element.push(Element::new("d", CLIENT));
    element.push_text("x");
    element.retain(|node| matches!(node, crate::Node::Text(_)));
    assert_eq!(element.into_nodes().len(), 1);
}

#[test]
fn prefixes_declared_outside_are_known_when_they_are_given() {
    let outcome = super::outcome(super::HEADER_WITH_PREFIXES.as_bytes());
    let namespaces = outcome.header.unwrap().namespaces;
    let parsed = Element::parse_within(b"<d:a e:b='1'/>", namespaces.as_deref()).unwrap();
    assert!(parsed.is("a", "urn:d"));
    assert_eq!(parsed.attribute_ns("b", "urn:<e>"), Some("1"));
    assert_eq!(Element::parse(b"<d:a/>").unwrap_err().problem, P::UndeclaredPrefix);
}

#[test]
fn escaping() {
    // What is written, as text and as a value.
    let cases: &[(&str, &str, &str)] = &[
        ("", "", ""),
        ("plain ž🦢", "plain ž🦢", "plain ž🦢"),
        ("<&>", "&lt;&amp;&gt;", "&lt;&amp;&gt;"),
        ("]]>", "]]&gt;", "]]&gt;"),
        ("\"'", "\"'", "&quot;&apos;"),
        ("\t\n\r", "\t\n&#xD;", "&#x9;&#xA;&#xD;"),
        ("a\0b\u{1}\u{1F}", "a\u{FFFD}b\u{FFFD}\u{FFFD}", "a\u{FFFD}b\u{FFFD}\u{FFFD}"),
        ("\u{FFFE}\u{FFFF}x", "\u{FFFD}\u{FFFD}x", "\u{FFFD}\u{FFFD}x"),
        (
            "\u{FFFD}\u{FFEF}\u{FEFF}\u{7F}",
            "\u{FFFD}\u{FFEF}\u{FEFF}\u{7F}",
            "\u{FFFD}\u{FFEF}\u{FEFF}\u{7F}",
        ),
    ];
    for (raw, text, value) in cases {
        let mut out = b">".to_vec();
        writer::escape_text(raw, &mut out);
        assert_eq!(out, format!(">{text}").as_bytes(), "{raw:?} as text");
        let mut out = b">".to_vec();
        writer::escape_attribute(raw, &mut out);
        assert_eq!(out, format!(">{value}").as_bytes(), "{raw:?} as a value");
    }
}

#[test]
fn no_character_breaks_what_is_written() {
    for c in (0..=0xFFFF).chain(0x1_FFF0..0x2_0010).filter_map(char::from_u32) {
        let allowed = matches!(c, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..);
        let meant = if allowed { c } else { '\u{FFFD}' };
        let written = Element::new("a", CLIENT).attr("b", c.to_string()).text(c.to_string()).to_bytes();
        let expected = Element::new("a", CLIENT).attr("b", meant.to_string()).text(meant.to_string());
        assert_eq!(Element::parse(&written), Ok(expected), "{c:?}");
    }
}
