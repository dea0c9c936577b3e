//! The XML declaration and the stream header.

use super::{oracle, outcome};
use crate::{Condition, Problem as P, STREAM_DECLARATIONS_MAX, StreamHeader};

const OPEN: &str = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='a.b' version='1.0'>";

fn header_of(stream: &str) -> StreamHeader {
    let outcome = outcome(stream.as_bytes());
    oracle::check(stream.as_bytes(), &outcome);
    assert_eq!(outcome.error, None, "{stream}");
    assert_eq!(outcome.accepted, stream.len(), "{stream}");
    outcome.header.unwrap_or_else(|| panic!("incomplete: {stream}"))
}

#[test]
fn the_declaration_may_be_written_in_every_way_xml_has() {
    let plain = header_of(OPEN);
    for declaration in [
        "<?xml version='1.0'?>",
        "<?xml version=\"1.0\"?>",
        "<?xml version='1.0' ?>\r\n",
        "<?xml  version = '1.0'\tencoding=\"UTF-8\"?>\n\n",
        "<?xml version='1.0' encoding='utf-8'?>",
        "<?xml version='1.0' standalone='yes'?>",
        "<?xml version='1.0' encoding='UTF-8' standalone='no' ?> ",
        // White space may be left over from before a restart of the stream.
        "\n<?xml version='1.0'?>",
        " \t",
    ] {
        assert_eq!(header_of(&format!("{declaration}{OPEN}")), plain, "{declaration}");
    }
}

#[test]
fn the_header_is_read() {
    let header = header_of(
        "<stream:stream\n from=\"me&amp;@x\" to='a.b' version='1.0' xml:lang='cs' id='ignored'
         xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:client' stream:other='x'\t>",
    );
    assert_eq!(header.from.as_deref(), Some("me&@x"));
    assert_eq!(header.to.as_deref(), Some("a.b"));
    assert_eq!(header.version.as_deref(), Some("1.0"));
    assert_eq!(header.language.as_deref(), Some("cs"));
    assert_eq!(header.namespaces, None);
    let escaped = header_of(&OPEN.replace("etherx.jabber", "etherx&#46;jabber"));
    assert_eq!(escaped, header_of(OPEN));
}

#[test]
fn prefixes_of_the_header_are_kept() {
    let header = header_of(&OPEN.replace(
        " to=",
        " xmlns:p='a&amp;b' xmlns:xml='http://www.w3.org/XML/1998/namespace' xmlns:q='c' to=",
    ));
    let declared = header.namespaces.expect("two prefixes");
    assert_eq!(declared.iter().collect::<Vec<_>>(), [("p", "a&b"), ("q", "c")]);
    let many = |count: usize| {
        let declarations: String = (0..count).map(|i| format!(" xmlns:p{i}='u'")).collect();
        OPEN.replace(" to=", &format!("{declarations} to="))
    };
    let full = header_of(&many(STREAM_DECLARATIONS_MAX));
    assert_eq!(full.namespaces.map(|n| n.iter().count()), Some(STREAM_DECLARATIONS_MAX));
    let error = outcome(many(STREAM_DECLARATIONS_MAX + 1).as_bytes()).error.map(|error| error.problem);
    assert_eq!(error, Some(P::TooManyDeclarations));
}

#[test]
fn versions() {
    for (version, numbers) in [
        ("1.0", Some((1, 0))),
        ("1.10", Some((1, 10))),
        ("01.00", Some((1, 0))),
        ("2.0", Some((2, 0))),
        ("0.9", Some((0, 9))),
        ("65536.0", None),
        ("1", None),
        ("1.", None),
        (".0", None),
        ("1.0.0", None),
        ("+1.0", None),
        (" 1.0", None),
        ("a.b", None),
    ] {
        let header = header_of(&OPEN.replace("version='1.0'", &format!("version='{version}'")));
        assert_eq!(header.version_numbers(), numbers, "{version}");
    }
    assert_eq!(header_of(&OPEN.replace(" version='1.0'", "")).version_numbers(), Some((0, 9)));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of data")]
fn what_is_no_stream_header_is_refused() {
    use Condition as C;
    let open = |from: &str, to: &str| OPEN.replace(from, to).into_bytes();
    let with = |declaration: &str| [declaration, OPEN].concat().into_bytes();
    let utf16: Vec<u8> = OPEN.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: Vec<(Vec<u8>, P, C)> = vec![
        // The declaration.
        (with("<?xml version='1.1'?>"), P::BadXmlDeclaration, C::NotWellFormed),
        (with("<?xml?>"), P::Restricted, C::RestrictedXml),
        (with("<?xml ?>"), P::BadXmlDeclaration, C::NotWellFormed),
        (with("<?xml encoding='UTF-8'?>"), P::BadXmlDeclaration, C::NotWellFormed),
        (with("<?xml version='1.0'encoding='UTF-8'?>"), P::BadXmlDeclaration, C::NotWellFormed),
        (with("<?xml version='1.0' standalone='maybe'?>"), P::BadXmlDeclaration, C::NotWellFormed),
        (
            with("<?xml version='1.0' standalone='yes' encoding='UTF-8'?>"),
            P::BadXmlDeclaration,
            C::NotWellFormed,
        ),
        (with("<?xml version='1.0' version='1.0'?>"), P::BadXmlDeclaration, C::NotWellFormed),
        (with("<?xml version='1.0\"?>"), P::BadXmlDeclaration, C::NotWellFormed),
        (with("<?xml version='1.0' encoding='8-UTF'?>"), P::BadXmlDeclaration, C::NotWellFormed),
        (with("<?xml version='1.0' x?>"), P::BadXmlDeclaration, C::NotWellFormed),
        (with(&format!("<?xml version='1.0'{}?>", " ".repeat(200))), P::BadXmlDeclaration, C::NotWellFormed),
        (with("<?xml version='1.0' encoding='UTF-16'?>"), P::Encoding, C::UnsupportedEncoding),
        (with("<?xml version='1.0' encoding='ISO-8859-1'?>"), P::Encoding, C::UnsupportedEncoding),
        (with("<?xml version='1.0' encoding='UTF8'?>"), P::Encoding, C::UnsupportedEncoding),
        (with("<?xml version='1.0'?><?xml version='1.0'?>"), P::Restricted, C::RestrictedXml),
        (with("<?XML version='1.0'?>"), P::Restricted, C::RestrictedXml),
        (with("<?pi?>"), P::Restricted, C::RestrictedXml),
        (with("<!-- x -->"), P::Restricted, C::RestrictedXml),
        (with("<?xml version='1.0'?><!DOCTYPE x>"), P::Restricted, C::RestrictedXml),
        (with("<?xml version='1.0'?>x"), P::UnexpectedByte(b'x'), C::NotWellFormed),
        (with("<?xml version='1.0'?>\u{FEFF}"), P::UnexpectedByte(0xEF), C::NotWellFormed),
        // Encodings and the like.
        (with("\u{FEFF}"), P::UnexpectedByte(0xEF), C::NotWellFormed),
        ([&[0xFF, 0xFE], &utf16[..]].concat(), P::Encoding, C::UnsupportedEncoding),
        (vec![0xFE, 0xFF], P::Encoding, C::UnsupportedEncoding),
        (utf16, P::UnexpectedByte(0), C::NotWellFormed),
        (with("x"), P::UnexpectedByte(b'x'), C::NotWellFormed),
        (b"GET / HTTP/1.1\r\n".to_vec(), P::UnexpectedByte(b'G'), C::NotWellFormed),
        (vec![0x16, 3, 1], P::UnexpectedByte(0x16), C::NotWellFormed),
        (b"</stream:stream>".to_vec(), P::UnexpectedEndTag, C::NotWellFormed),
        // The root element.
        (b"<stream:stream xmlns='jabber:client'>".to_vec(), P::UndeclaredPrefix, C::NotWellFormed),
        (open("etherx", "example"), P::StreamNamespace, C::InvalidNamespace),
        (b"<stream xmlns='jabber:client'>".to_vec(), P::StreamNamespace, C::InvalidNamespace),
        (b"<message/>".to_vec(), P::StreamNamespace, C::InvalidNamespace),
        (open("xmlns='jabber:client' ", ""), P::ContentNamespace, C::InvalidNamespace),
        (open("jabber:client", "jabber:server"), P::ContentNamespace, C::InvalidNamespace),
        (open("jabber:client", ""), P::ContentNamespace, C::InvalidNamespace),
        (open("jabber:client", "jabber:client "), P::ContentNamespace, C::InvalidNamespace),
        (open("stream:stream ", "stream:streams "), P::NotAStream, C::BadFormat),
        (open("1.0'>", "1.0'/>"), P::NotAStream, C::BadFormat),
        (
            b"<stream xmlns='http://etherx.jabber.org/streams' xmlns:c='jabber:client'>".to_vec(),
            P::StreamPrefix,
            C::BadNamespacePrefix,
        ),
        (
            b"<s:stream xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams'>".to_vec(),
            P::StreamPrefix,
            C::BadNamespacePrefix,
        ),
        (
            open(" to=", " xmlns:s='http://etherx.jabber.org/streams' to="),
            P::StreamPrefix,
            C::BadNamespacePrefix,
        ),
        (open(" to=", " to='x' to="), P::DuplicateAttribute, C::NotWellFormed),
        (open(" to=", " xmlns='jabber:client' to="), P::DuplicateAttribute, C::NotWellFormed),
        (open(" to=", " xmlns:xmlns='u' to="), P::BadDeclaration, C::NotWellFormed),
        (open("to='a.b'", "to='&foo;'"), P::Entity, C::RestrictedXml),
        (open("to='a.b'", "to='\u{1}'"), P::ForbiddenCharacter, C::NotWellFormed),
        (open("to='a.b'", "to='\u{FFFF}'"), P::ForbiddenCharacter, C::NotWellFormed),
    ];
    for (stream, problem, condition) in &cases {
        let shown = String::from_utf8_lossy(stream);
        let error = outcome(stream).error.unwrap_or_else(|| panic!("accepted: {shown}"));
        assert_eq!((error.problem, error.condition()), (*problem, *condition), "{shown}");
    }
}
