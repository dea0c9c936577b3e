//! What another client receives.

use super::{HEADER, HEADER_WITH_PREFIXES, oracle, outcome};
use crate::{Element, Frame, Framer, Limits, Phase, Stamp, Stanza};

/// What `look` finds in the first stanza after this header.
fn with_stanza<T>(header: &str, stanza: &str, look: impl FnOnce(Stanza<'_>) -> T) -> T {
    let stream = [header, stanza].concat();
    // Whole and in pieces it is forwarded alike, and others agree about its meaning.
    oracle::check(stream.as_bytes(), &outcome(stream.as_bytes()));
    let (mut framer, mut partial, limits) = (Framer::new(), None, Limits::default());
    let (used, frame) =
        framer.next(Phase::BeforeHeader, None, &mut partial, header.as_bytes(), &limits).unwrap();
    assert_eq!(used, header.len());
    let Some(Frame::StreamOpen(opened)) = frame else { panic!("{frame:?}") };
    let namespaces = opened.namespaces.as_deref();
    let (_, frame) =
        framer.next(Phase::InStream, namespaces, &mut partial, stanza.as_bytes(), &limits).unwrap();
    match frame {
        Some(Frame::Stanza(stanza)) => look(stanza),
        other => panic!("{other:?}"),
    }
}

fn forwarded(header: &str, stanza: &str, stamp: &Stamp<'_>) -> String {
    with_stanza(header, stanza, |stanza| {
        let mut out = b"before".to_vec();
        stanza.write_stamped(stamp, &mut out);
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    })
}

#[test]
fn the_sender_is_stamped() {
    let stamp = Stamp { from: "me@x/r", ..Stamp::default() };
    let cases: &[(&str, &str)] = &[
        ("<message/>", "<message from=\"me@x/r\"/>"),
        ("<message></message >", "<message from=\"me@x/r\"></message >"),
        (
            "<message from='forged@x'  to = 'a@b'>hi</message >",
            "<message from=\"me@x/r\"  to = 'a@b'>hi</message >",
        ),
        ("<message xmlns='jabber:client' a=\"'\"/>", "<message from=\"me@x/r\" a=\"'\"/>"),
        ("<a xmlns='urn:x'><b/></a>", "<a xmlns=\"urn:x\" from=\"me@x/r\"><b/></a>"),
        ("<a xmlns=''><b/></a>", "<a xmlns=\"\" from=\"me@x/r\"><b/></a>"),
        ("<a xmlns='a&amp;b'/>", "<a xmlns=\"a&amp;b\" from=\"me@x/r\"/>"),
        ("<m xmlns:p='u' p:from='kept'/>", "<m from=\"me@x/r\" xmlns:p='u' p:from='kept'/>"),
        // The default namespace of a prefixed element is the one of its children.
        ("<p:a xmlns:p='u' xmlns='v'><b/></p:a>", "<p:a xmlns=\"v\" from=\"me@x/r\" xmlns:p='u'><b/></p:a>"),
        ("<p:a xmlns:p='u'><b/></p:a>", "<p:a from=\"me@x/r\" xmlns:p='u'><b/></p:a>"),
        ("<m><![CDATA[<x>]]> &#65;\r\n</m>", "<m from=\"me@x/r\"><![CDATA[<x>]]> &#65;\r\n</m>"),
        ("<stream:a/>", "<stream:a xmlns:stream=\"http://etherx.jabber.org/streams\" from=\"me@x/r\"/>"),
        (
            "<m><stream:a/></m>",
            "<m xmlns:stream=\"http://etherx.jabber.org/streams\" from=\"me@x/r\"><stream:a/></m>",
        ),
        ("<m xmlns:stream='u'><stream:a/></m>", "<m from=\"me@x/r\" xmlns:stream='u'><stream:a/></m>"),
    ];
    for (received, expected) in cases {
        assert_eq!(forwarded(HEADER, received, &stamp), *expected, "{received}");
    }
}

#[test]
fn recipient_and_language_are_stamped_where_they_are_given() {
    let stamp = Stamp { from: "a", to: Some("b&<\"'"), language: Some("cs"), ..Stamp::default() };
    let cases: &[(&str, &str)] = &[
        ("<m to='x' id='1'/>", "<m from=\"a\" to=\"b&amp;&lt;&quot;&apos;\" xml:lang=\"cs\" id='1'/>"),
        ("<m xml:lang='de'/>", "<m from=\"a\" to=\"b&amp;&lt;&quot;&apos;\" xml:lang='de'/>"),
        // An empty one says that there is no language (XML 1.0 §2.12); it stays.
        ("<m xml:lang=''/>", "<m from=\"a\" to=\"b&amp;&lt;&quot;&apos;\" xml:lang=''/>"),
    ];
    for (received, expected) in cases {
        assert_eq!(forwarded(HEADER, received, &stamp), *expected, "{received}");
    }
}

#[test]
fn children_can_be_left_out() {
    let received = "<m a='1'> <x b='2'/>t<y><x/></y><x/></m>";
    let without = |at: &[usize]| {
        with_stanza(HEADER, received, |stanza| {
            let ranges: Vec<_> = stanza.children().map(|child| child.range()).collect();
            let without: Vec<_> = at.iter().map(|&at| ranges[at].clone()).collect();
            let mut out = Vec::new();
            let stamp = Stamp { from: "a", without: &without, ..Stamp::default() };
            stanza.write_stamped(&stamp, &mut out);
            String::from_utf8(out).unwrap()
        })
    };
    for (at, expected) in [
        (&[][..], "<m from=\"a\" a='1'> <x b='2'/>t<y><x/></y><x/></m>"),
        (&[0], "<m from=\"a\" a='1'> t<y><x/></y><x/></m>"),
        (&[1, 2], "<m from=\"a\" a='1'> <x b='2'/>t</m>"),
        (&[0, 1, 2], "<m from=\"a\" a='1'> t</m>"),
    ] {
        assert_eq!(without(at), expected, "{at:?}");
    }
}

#[test]
fn texts_around_what_is_left_out_are_well_formed_as_one() {
    for (inside, expected) in [
        ("]]<x/>>", "]]&gt;"),
        ("]<x/>]>", "]]&gt;"),
        ("]<x/>]<x/>>", "]]&gt;"),
        ("]]<x/><x/>><x/>>", "]]&gt;&gt;"),
        ("<x/>]>", "]&gt;"),
        ("]<x/>]&gt;", "]]&gt;"),
        ("]<x/><y>]></y>", "]<y>]></y>"),
        ("<![CDATA[]]]]><x/>>", "<![CDATA[]]]]>&gt;"),
        ("]<x/><![CDATA[]>]]>", "]<![CDATA[]>]]>"),
        ("\r<x/>\n", "\r&#xA;"),
        ("\r<x/><x/>\n", "\r&#xA;"),
        ("a<x/>\n", "a\n"),
    ] {
        let left = with_stanza(HEADER, &format!("<m>{inside}</m>"), |stanza| {
            let without: Vec<_> = stanza.children().filter(|c| c.name() == "x").map(|c| c.range()).collect();
            let mut out = Vec::new();
            stanza.write_stamped(&Stamp { from: "a", without: &without, ..Stamp::default() }, &mut out);
            Element::parse(&out).unwrap_or_else(|error| panic!("{inside:?}: {error:?}"));
            String::from_utf8(out).unwrap()
        });
        assert_eq!(left, format!("<m from=\"a\">{expected}</m>"), "{inside:?}");
    }
}

#[test]
fn an_attribute_of_a_child_is_found_however_it_is_written() {
    let received = "<m><x a='1'/><x b=\"a='2'\"\n a = '&lt;3'>a='4'</x><p:x xmlns:p='u' p:a='5'/><x/><x ></x><x a='/>'/></m>";
    with_stanza(HEADER, received, |stanza| {
        let found: Vec<_> =
            stanza.children().map(|child| child.attribute("a").map(|a| a.into_owned())).collect();
        let expected = [Some("1"), Some("<3"), None, None, None, Some("/>")];
        assert_eq!(found, expected.map(|value| value.map(str::to_owned)));
    });
}

#[test]
fn prefixes_of_the_senders_header_are_declared_where_they_are_used() {
    let stamp = Stamp { from: "a", ..Stamp::default() };
    let cases: &[(&str, &str)] = &[
        ("<m/>", "<m from=\"a\"/>"),
        ("<m><d:x/></m>", "<m xmlns:d=\"urn:d\" from=\"a\"><d:x/></m>"),
        ("<m e:b='1'/>", "<m xmlns:e=\"urn:&lt;e&gt;\" from=\"a\" e:b='1'/>"),
        ("<d:m><f:x/></d:m>", "<d:m xmlns:d=\"urn:d\" xmlns:f=\"urn:d\" from=\"a\"><f:x/></d:m>"),
        ("<m xmlns:d='u'><d:x/></m>", "<m from=\"a\" xmlns:d='u'><d:x/></m>"),
        (
            "<m><x xmlns:d='u'><d:y/></x><d:z/></m>",
            "<m xmlns:d=\"urn:d\" from=\"a\"><x xmlns:d='u'><d:y/></x><d:z/></m>",
        ),
        ("<m><x xmlns:d='u'><d:y/></x></m>", "<m from=\"a\"><x xmlns:d='u'><d:y/></x></m>"),
    ];
    for (received, expected) in cases {
        assert_eq!(forwarded(HEADER_WITH_PREFIXES, received, &stamp), *expected, "{received}");
    }
}

#[test]
fn a_stanza_can_be_looked_at_without_a_tree() {
    let received = "<message to='a&amp;b' xml:lang='cs' xmlns:p='u' p:to='x'> <body>a</body><x:y xmlns:x='v'><z/></x:y><body/></message>";
    with_stanza(HEADER, received, |stanza| {
        assert!(
            stanza.is("message", "jabber:client")
                && !stanza.is("message", "")
                && !stanza.is("iq", "jabber:client")
        );
        assert_eq!((stanza.name(), stanza.namespace()), ("message", "jabber:client"));
        assert_eq!(stanza.attribute("to").as_deref(), Some("a&b"));
        assert_eq!(stanza.attribute("from"), None);
        assert_eq!(stanza.lang().as_deref(), Some("cs"));
        assert_eq!(stanza.bytes(), received.as_bytes());
        assert_eq!(stanza.payload(), b" <body>a</body><x:y xmlns:x='v'><z/></x:y><body/>");
        let children: Vec<_> = stanza.children().map(|c| (c.name(), c.namespace(), c.bytes())).collect();
        assert_eq!(
            children,
            [
                ("body", "jabber:client", &b"<body>a</body>"[..]),
                ("y", "v", b"<x:y xmlns:x='v'><z/></x:y>"),
                ("body", "jabber:client", b"<body/>"),
            ]
        );
        let child = stanza.child("y", "v").unwrap();
        assert_eq!(&stanza.bytes()[child.range()], child.bytes());
        assert!(stanza.child("z", "jabber:client").is_none());
        let raw: Vec<_> = stanza.raw_attributes().collect();
        assert_eq!(
            raw,
            [("to", "a&amp;b", '\''), ("xml:lang", "cs", '\''), ("xmlns:p", "u", '\''), ("p:to", "x", '\'')]
        );
    });
}
