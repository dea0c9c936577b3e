//! Generators of streams: one that knows the rules (and bends them now and then), one that damages bytes.

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Pieces of XML and of XMPP that mutations insert.
pub(super) const TOKENS: &[&str] = &[
    "<",
    ">",
    "/>",
    "</",
    "'",
    "\"",
    "=",
    "&",
    ";",
    ":",
    " ",
    "\r\n",
    "\t",
    "\0",
    "]]>",
    "<![CDATA[",
    "<!--",
    "-->",
    "<?",
    "?>",
    "<!DOCTYPE",
    "&amp;",
    "&lt;",
    "&#65;",
    "&#x0;",
    "&#xD;",
    "&lol;",
    "xmlns",
    "xmlns=''",
    " xmlns='u'",
    " xmlns:p='u'",
    " xmlns:q='u'",
    " xmlns:xml='http://www.w3.org/XML/1998/namespace'",
    " xmlns:stream='v'",
    "xml:",
    " xml:lang='cs'",
    "p:",
    "q:",
    "d:",
    "e:",
    "stream:",
    " a='1'",
    " p:a='1'",
    " q:a='1'",
    "<a>",
    "</a>",
    "<b/>",
    "<p:b/>",
    "</stream:stream>",
    "<message>",
    "</message>",
    "ž",
    "日",
    "🦢",
    "\u{B7}",
    "\u{300}",
    "\u{FFFE}",
    "\u{FEFF}",
    "]]",
];

/// Whole stanzas to start from.
const SEEDS: &[&str] = &[
    "<message to='juliet@example.com/balcony' type='chat' id='m1'><body>Art thou not Romeo &amp; a Montague?</body></message>",
    "<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://c.example' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/></presence>",
    "<iq type=\"result\" id=\"r1\"><query xmlns=\"jabber:iq:roster\"><item jid='a@b' name='ž'><group>x</group></item></query></iq>",
    "<m xmlns:p='u' xmlns:q='v' p:a='1' q:a='2'><p:b xmlns:p='w'><q:c/></p:b><![CDATA[ ]] > <x> ]]></m>",
    "<d:x><e:y d:a='&#x26;' e:a=\"'\"/></d:x>",
    "<stream:error/>",
    " \n",
    "</stream:stream>",
];

/// A header and stanzas that obey the rules, nearly always.
pub(super) fn stream() -> impl Strategy<Value = Vec<u8>> {
    let header = select(&[super::HEADER, super::HEADER_WITH_PREFIXES][..]);
    let stanza = prop_oneof![3 => element(), 1 => select(SEEDS).prop_map(str::to_owned)];
    let stanzas = prop::collection::vec((stanza, select(&["", "", " ", "\r\n"][..])), 0..5);
    (header, stanzas, select(&["", "</stream:stream>"][..])).prop_map(|(header, stanzas, end)| {
        let mut stream = header.to_owned();
        for (stanza, between) in stanzas {
            stream.push_str(&stanza);
            stream.push_str(between);
        }
        stream.push_str(end);
        stream.into_bytes()
    })
}

/// A stream with some bytes removed, repeated, replaced, or inserted.
pub(super) fn damaged_stream() -> impl Strategy<Value = Vec<u8>> {
    let mutation = (0..5_u8, any::<Index>(), any::<Index>(), any::<u8>(), select(TOKENS));
    (stream(), prop::collection::vec(mutation, 0..4)).prop_map(|(mut bytes, mutations)| {
        // Most of the time past the header, which otherwise would be hit too often.
        let header = bytes.iter().position(|&b| b == b'>').unwrap_or(0);
        for (kind, at, length, byte, token) in mutations {
            if bytes.is_empty() {
                break;
            }
            let first = if byte < 16 { 0 } else { header.min(bytes.len() - 1) };
            let at = first + at.index(bytes.len() - first);
            let end = at + length.index((bytes.len() - at).min(30)) + 1;
            match kind {
                0 => drop(bytes.drain(at..end.min(bytes.len()))),
                1 => {
                    let again = bytes[at..end.min(bytes.len())].to_vec();
                    bytes.splice(at..at, again);
                }
                2 => bytes[at] = byte,
                3 => drop(bytes.splice(at..end.min(bytes.len()), token.bytes())),
                _ => drop(bytes.splice(at..at, token.bytes())),
            }
        }
        bytes
    })
}

fn name() -> impl Strategy<Value = &'static str> {
    select(&["a", "b", "message", "body", "x-1", "ž", "xmlnsx"][..])
}

fn prefix() -> impl Strategy<Value = &'static str> {
    select(&["", "", "", "", "p:", "q:", "d:", "e:", "f:", "stream:", "xml:"][..])
}

fn space() -> impl Strategy<Value = &'static str> {
    select(&[" ", " ", " ", "\n\t", "  "][..])
}

fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        select(
            &[
                "a",
                "hello",
                " ",
                "&amp;",
                "&#10;",
                "&#x1F9A2;",
                "]]",
                "&gt;",
                ">",
                "\r\n",
                "ž",
                "日本語",
                "\u{FFFD}"
            ][..]
        )
        .prop_map(str::to_owned),
        select(&["<![CDATA[]]>", "<![CDATA[<a>&b;]]>", "<![CDATA[]]]>", "<![CDATA[\r]]>"][..])
            .prop_map(str::to_owned),
        "[ -;=?-~]{0,40}".prop_map(|plain| plain.replace('&', "&amp;").replace("]]>", "")),
    ];
    prop::collection::vec(part, 0..3).prop_map(|parts| parts.concat())
}

fn attribute() -> impl Strategy<Value = String> {
    let value = select(&["", "1", "a@b/c", "&lt;\t\n", "ž&#13;", "]]>", "u"][..]);
    let declared = select(&["u", "v", "urn:d", "jabber:client", "a&amp;b", " u"][..]);
    let kind = prop_oneof![
        4 => (prefix(), name(), value).prop_map(|(prefix, name, value)| (format!("{prefix}{name}"), value)),
        2 => (select(&["xmlns:p", "xmlns:q", "xmlns:d", "xmlns"][..]), declared)
            .prop_map(|(name, uri)| (name.to_owned(), uri)),
        1 => Just(("xml:lang".to_owned(), "cs")),
    ];
    (space(), kind, select(&["=", "=", "=", " = "][..]), select(&["'", "\""][..])).prop_map(
        |(space, (name, value), equals, quote)| format!("{space}{name}{equals}{quote}{value}{quote}"),
    )
}

/// Attributes without two of one name.
fn attributes() -> impl Strategy<Value = String> {
    prop::collection::vec(attribute(), 0..4).prop_map(|all| {
        let mut names = std::collections::BTreeSet::new();
        all.into_iter()
            .filter(|one| names.insert(one.trim().split(['=', ' ']).next().unwrap_or_default().to_owned()))
            .collect()
    })
}

/// An element whose prefixes are nearly always declared.
fn element() -> impl Strategy<Value = String> {
    let empty = (prefix(), name(), attributes())
        .prop_map(|(prefix, name, attributes)| format!("<{prefix}{name}{attributes}/>"));
    let inside = empty.prop_recursive(5, 24, 4, |inner| {
        let nodes = prop::collection::vec(prop_oneof![inner, text()], 0..4);
        (prefix(), name(), attributes(), nodes, select(&["", "", " "][..])).prop_map(
            |(prefix, name, attributes, nodes, space)| {
                format!("<{prefix}{name}{attributes}{space}>{}</{prefix}{name}{space}>", nodes.concat())
            },
        )
    });
    (inside, 0..8_u8).prop_map(|(inside, bare)| {
        if bare == 0 {
            inside
        } else {
            format!("<m xmlns:p='u' xmlns:q='v' xmlns:d='w' xmlns:e='x' xmlns:f='y'>{inside}</m>")
        }
    })
}
