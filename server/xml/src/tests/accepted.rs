//! What must be accepted.

use super::{element_of, in_stream, oracle, outcome};
use crate::{CLIENT, Element};

/// A message with this body.
fn message(body: &str) -> Element {
    Element::new("message", CLIENT).child(Element::new("body", CLIENT).text(body))
}

#[test]
fn text_means_what_xml_says() {
    let cases: &[(&str, &str)] = &[
        ("", ""),
        (" \t\n", " \t\n"),
        ("a &amp; b &lt;&gt;&quot;&apos;", "a & b <>\"'"),
        ("&#65;&#x42;&#x00043;&#10;&#13;&#x10FFFF;", "ABC\n\r\u{10FFFF}"),
        ("a\r\nb\rc\nd", "a\nb\nc\nd"),
        ("]] > ]]&gt; ]>", "]] > ]]> ]>"),
        ("<![CDATA[<b>&amp;]]>", "<b>&amp;"),
        ("<![CDATA[]]>", ""),
        ("<![CDATA[]]]]><![CDATA[>]]>", "]]>"),
        ("<![CDATA[a]]>>", "a>"),
        ("]]<![CDATA[>]]>", "]]>"),
        ("x<![CDATA[\r\n\r]]>y", "x\n\ny"),
        ("<![CDATA[ž\u{10000}]]>", "ž\u{10000}"),
        (
            "\u{7F}\u{80}\u{9F}\u{A0}\u{D7FF}\u{E000}\u{FFFD}\u{10000}",
            "\u{7F}\u{80}\u{9F}\u{A0}\u{D7FF}\u{E000}\u{FFFD}\u{10000}",
        ),
        ("\u{FEFF}\u{FFEF}\u{FFB0}", "\u{FEFF}\u{FFEF}\u{FFB0}"),
        ("žluťoučký 日本語 🦢", "žluťoučký 日本語 🦢"),
    ];
    for (raw, meant) in cases {
        let expected = if meant.is_empty() {
            Element::new("message", CLIENT).child(Element::new("body", CLIENT))
        } else {
            message(meant)
        };
        assert_eq!(element_of(format!("<message><body>{raw}</body></message>")), expected, "{raw}");
    }
}

#[test]
fn attribute_values_mean_what_xml_says() {
    let cases: &[(&str, &str)] = &[
        ("''", ""),
        ("\"a'b\"", "a'b"),
        ("'a\"b'", "a\"b"),
        ("'a>b]]>c'", "a>b]]>c"),
        ("'a\tb\nc\rd\r\ne'", "a b c d e"),
        ("'&#9;&#10;&#13;'", "\t\n\r"),
        ("'  a  '", "  a  "),
        ("'&lt;&amp;&gt;&quot;&apos;&#x1F9A2;'", "<&>\"'🦢"),
        ("'ž\u{FFFD}'", "ž\u{FFFD}"),
    ];
    for (raw, meant) in cases {
        let expected = Element::new("iq", CLIENT).attr("id", *meant);
        assert_eq!(element_of(format!("<iq id={raw}/>")), expected, "{raw}");
    }
}

#[test]
fn tags_may_have_white_space_where_xml_allows_it() {
    let expected = Element::new("iq", CLIENT).attr("a", "1").attr("b", "2");
    for raw in [
        "<iq a='1' b='2'/>",
        "<iq\na\t=\r'1'  b = \"2\" />",
        "<iq a='1' b='2'></iq>",
        "<iq a='1'\n\n b='2' ></iq \t\r\n>",
    ] {
        assert_eq!(element_of(raw), expected, "{raw}");
    }
}

#[test]
fn names_may_be_what_xml_allows() {
    for name in
        ["a", "_", "A-b.c_9", "ž", "é\u{B7}", "a\u{300}", "日本語", "\u{10000}x", "a\u{203F}", "xmlfoo"]
    {
        assert_eq!(element_of(format!("<{name}></{name}>")), Element::new(name.to_owned(), CLIENT));
        let expected = Element::new("x", CLIENT).attr(name.to_owned(), "");
        assert_eq!(element_of(format!("<x {name}=''/>")), expected);
        let expected = Element::new(name.to_owned(), "u");
        assert_eq!(element_of(format!("<{name}:{name} xmlns:{name}='u'/>")), expected);
    }
}

#[test]
fn namespaces_are_resolved() {
    let child = |name: &'static str, namespace: &'static str| {
        Element::new("m", CLIENT).child(Element::new(name, namespace))
    };
    let cases: &[(&str, Element)] = &[
        ("<m><c/></m>", child("c", CLIENT)),
        ("<m><c xmlns='u'/></m>", child("c", "u")),
        ("<m><c xmlns=''/></m>", child("c", "")),
        ("<m xmlns:p='u'><p:c/></m>", child("c", "u")),
        ("<m xmlns:p='u'><p:c xmlns:p='v'/></m>", child("c", "v")),
        ("<m xmlns:p='u'><p:c xmlns='w'/></m>", child("c", "u")),
        ("<m><c xmlns='a&amp;b'/></m>", child("c", "a&b")),
        ("<m><c xmlns='a\n b'/></m>", child("c", "a  b")),
        ("<m><c xmlns=' jabber:client'/></m>", child("c", " jabber:client")),
        ("<m><stream:c/></m>", child("c", super::STREAMS)),
        ("<m><xml:c/></m>", child("c", super::XML)),
        ("<m xmlns:stream='u'><stream:c/></m>", child("c", "u")),
        ("<m xmlns:xml='http://www.w3.org/XML/1998/namespace'><xml:c/></m>", child("c", super::XML)),
        (
            "<m xmlns='u' xmlns:p='jabber:client'><p:c/></m>",
            Element::new("m", "u").child(Element::new("c", CLIENT)),
        ),
        ("<p:m xmlns:p='u' xmlns='v'><c/></p:m>", Element::new("m", "u").child(Element::new("c", "v"))),
        ("<p:m xmlns:p='u'><c/></p:m>", Element::new("m", "u").child(Element::new("c", CLIENT))),
        ("<m xml:lang='cs'/>", Element::new("m", CLIENT).with_lang("cs")),
        ("<stream:error/>", Element::new("error", super::STREAMS)),
        // A declaration ends with its element.
        ("<m><c xmlns='u' xmlns:p='v'/><c/></m>", child("c", "u").child(Element::new("c", CLIENT))),
        // The namespace of an attribute is not the one of its element.
        (
            "<p:m xmlns:p='u' a='1' p:a='2'/>",
            Element::parse(b"<q:m p:a='2' xmlns:q='u' a='1' xmlns:p='u'/>").unwrap(),
        ),
    ];
    for (raw, expected) in cases {
        let sorted = |e: &Element| oracle::Tree::from(e);
        assert_eq!(sorted(&element_of(raw)), sorted(expected), "{raw}");
    }
}

#[test]
fn prefixed_attributes_with_one_local_name_may_differ_in_namespace() {
    let found = element_of("<m xmlns:p='u' xmlns:q='v' a='1' p:a='2' q:a='3' xml:a='4'/>");
    let values = ["", "u", "v", super::XML].map(|namespace| found.attribute_ns("a", namespace));
    assert_eq!(values, [Some("1"), Some("2"), Some("3"), Some("4")]);
}

#[test]
fn prefixes_of_the_stream_header_hold_in_every_stanza() {
    let stanza = "<message d:a='1'><e:x/><d:y xmlns:d='other'/></message><iq xmlns:e='z'><e:x/></iq>";
    let stream = [super::HEADER_WITH_PREFIXES, stanza].concat();
    let outcome = outcome(stream.as_bytes());
    oracle::check(stream.as_bytes(), &outcome);
    assert_eq!(outcome.error, None);
    let [message, iq] = &outcome.stanzas[..] else { panic!("{outcome:?}") };
    assert_eq!(message.attribute_ns("a", "urn:d"), Some("1"));
    assert!(message.find("x", "urn:<e>").is_some() && message.find("y", "other").is_some());
    assert!(iq.find("x", "z").is_some());
}

#[test]
fn white_space_between_stanzas_is_skipped() {
    let stream = in_stream(b" \t\r\n<a/>\n \n<b/>  <c/></stream:stream>");
    let outcome = outcome(&stream);
    let names: Vec<_> = outcome.stanzas.iter().map(Element::name).collect();
    assert_eq!((names, outcome.closed, outcome.error), (vec!["a", "b", "c"], true, None));
    let keepalive = in_stream(b" ");
    assert_eq!(super::outcome(&keepalive).error, None);
}

#[test]
fn the_end_of_the_stream_is_seen() {
    for end in ["</stream:stream>", "</stream:stream \r\n\t>", " </stream:stream>"] {
        let stream = in_stream(end.as_bytes());
        let outcome = outcome(&stream);
        assert!(outcome.closed && outcome.error.is_none(), "{end}");
        assert_eq!(outcome.accepted, stream.len());
    }
}

#[test]
fn bytes_after_a_frame_are_left() {
    use crate::{Frame, Framer, Limits, Phase};
    let mut framer = Framer::new();
    let mut partial = None;
    let limits = Limits::default();
    let (used, frame) = framer.next(Phase::InStream, None, &mut partial, b" <a/> <b/>", &limits).unwrap();
    assert!(matches!(frame, Some(Frame::Stanza(stanza)) if stanza.is("a", CLIENT)));
    assert_eq!(used, 5);
    assert!(partial.is_none());
}

#[test]
fn a_partial_frame_holds_no_more_memory_than_it_needs() {
    use crate::{Framer, Limits, Phase};
    let mut framer = Framer::new();
    let limits = Limits::default();
    let long = format!("<a>{}", "<b xmlns:x='y' c='d'><e/>".repeat(100) + &"x".repeat(100_000));
    let rest = "</b>".repeat(100) + "</a>";
    let mut partial = None;
    framer.next(Phase::InStream, None, &mut partial, long.as_bytes(), &limits).unwrap();
    assert!(partial.as_ref().is_some_and(|p| p.len() == long.len()));
    framer.next(Phase::InStream, None, &mut partial, rest.as_bytes(), &limits).unwrap();
    assert!(partial.is_none());
    // The scratch memory of the long stanza does not go to sessions with short ones.
    for _ in 0..3 {
        framer.next(Phase::InStream, None, &mut partial, b"<a><b", &limits).unwrap();
        let memory = partial.take().unwrap().memory_bytes();
        assert!(memory < 2048, "{memory}");
    }
}
