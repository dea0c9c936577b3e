//! What must be refused, and why.

use super::{HEADER, in_stream, outcome, problem_of};
use crate::{Condition, FramingError, Problem as P};

#[test]
fn every_problem_has_the_stream_error_of_rfc_6120() {
    use Condition as C;
    let cases: &[(P, C)] = &[
        (P::UnexpectedByte(0), C::NotWellFormed),
        (P::ForbiddenCharacter, C::NotWellFormed),
        (P::InvalidUtf8, C::NotWellFormed),
        (P::BadName, C::NotWellFormed),
        (P::MismatchedEndTag, C::NotWellFormed),
        (P::DuplicateAttribute, C::NotWellFormed),
        (P::CdataEndInText, C::NotWellFormed),
        (P::BadReference, C::NotWellFormed),
        (P::UndeclaredPrefix, C::NotWellFormed),
        (P::BadDeclaration, C::NotWellFormed),
        (P::BadXmlDeclaration, C::NotWellFormed),
        (P::UnexpectedEndTag, C::NotWellFormed),
        (P::Truncated, C::NotWellFormed),
        (P::Entity, C::RestrictedXml),
        (P::Restricted, C::RestrictedXml),
        (P::TextBetweenStanzas, C::BadFormat),
        (P::NotAStream, C::BadFormat),
        (P::StreamNamespace, C::InvalidNamespace),
        (P::ContentNamespace, C::InvalidNamespace),
        (P::StreamPrefix, C::BadNamespacePrefix),
        (P::StanzaPrefix, C::BadNamespacePrefix),
        (P::Encoding, C::UnsupportedEncoding),
        (P::TooLong, C::PolicyViolation),
        (P::TooDeep, C::PolicyViolation),
        (P::TooManyAttributes, C::PolicyViolation),
        (P::TooManyNodes, C::PolicyViolation),
        (P::NamespaceTooLong, C::PolicyViolation),
        (P::TooManyDeclarations, C::PolicyViolation),
    ];
    for &(problem, condition) in cases {
        let error = FramingError { problem, offset: 7 };
        assert_eq!(error.condition(), condition, "{problem:?}");
        assert_eq!(error.to_string(), format!("{problem} at byte 7 ({})", condition.name()));
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of data")]
fn malformed_xml() {
    use P::UnexpectedByte as Byte;
    let cases: &[(&[u8], P)] = &[
        // Tags.
        (b"<>", Byte(b'>')),
        (b"< a/>", Byte(b' ')),
        (b"<1/>", Byte(b'1')),
        (b"<-/>", Byte(b'-')),
        (b"<.a/>", Byte(b'.')),
        (b"<a", P::Truncated),
        (b"<a<", Byte(b'<')),
        (b"<a/ >", Byte(b' ')),
        (b"<a//>", Byte(b'/')),
        (b"<a&b/>", Byte(b'&')),
        (b"<a\x00/>", Byte(0)),
        (b"<a></b>", P::MismatchedEndTag),
        (b"<a></A>", P::MismatchedEndTag),
        (b"<a></ab>", P::MismatchedEndTag),
        (b"<ab></a>", P::MismatchedEndTag),
        (b"<a></a/>", Byte(b'/')),
        (b"<a></a b=''>", Byte(b'b')),
        (b"<a></ a>", Byte(b' ')),
        (b"<a></>", Byte(b'>')),
        (b"<a><b></a></b>", P::MismatchedEndTag),
        (b"<p:a xmlns:p='u' xmlns:q='u'></q:a>", P::MismatchedEndTag),
        (b"</a>", P::UnexpectedEndTag),
        (b"</stream>", P::UnexpectedEndTag),
        (b"</stream:streams>", P::UnexpectedEndTag),
        (b"</stream:stream x>", Byte(b'x')),
        (b"</ stream:stream>", Byte(b' ')),
        // Attributes.
        (b"<a b/>", Byte(b'/')),
        (b"<a b>", Byte(b'>')),
        (b"<a b c=''/>", Byte(b'c')),
        (b"<a b=c/>", Byte(b'c')),
        (b"<a b=/>", Byte(b'/')),
        (b"<a =''/>", Byte(b'=')),
        (b"<a b=''c=''/>", Byte(b'c')),
        (b"<a'b'/>", Byte(b'\'')),
        (b"<a b='<'/>", Byte(b'<')),
        (b"<a b=\"<\"/>", Byte(b'<')),
        (b"<a b='&lt'/>", P::BadReference),
        (b"<a b='' b=''/>", P::DuplicateAttribute),
        (b"<a b='' c='' b=\"x\"/>", P::DuplicateAttribute),
        (b"<a xmlns='u' xmlns='u'/>", P::DuplicateAttribute),
        (b"<a xmlns:p='u' xmlns:p='u'/>", P::DuplicateAttribute),
        (b"<a xml:lang='a' xml:lang='b'/>", P::DuplicateAttribute),
        (b"<a xmlns:p='u' xmlns:q='u' p:b='' q:b=''/>", P::DuplicateAttribute),
        (b"<a xmlns:p='a&amp;b' xmlns:q='a&#38;b' p:b='' q:b=''/>", P::DuplicateAttribute),
        (b"<x xmlns:p='u'><a xmlns:q='u' p:b='' c='' q:b=''/></x>", P::DuplicateAttribute),
        // Text and references.
        (b"<a>]]></a>", P::CdataEndInText),
        (b"<a>]]]></a>", P::CdataEndInText),
        (b"<a>x]]>y</a>", P::CdataEndInText),
        (b"<a><![CDATA[x]]>]]></a>", P::CdataEndInText),
        (b"<a>&</a>", Byte(b'<')),
        (b"<a>& b</a>", Byte(b' ')),
        (b"<a>&;</a>", Byte(b';')),
        (b"<a>&lt</a>", Byte(b'<')),
        (b"<a>&#;</a>", P::BadReference),
        (b"<a>&#x;</a>", P::BadReference),
        (b"<a>&#X41;</a>", P::BadReference),
        (b"<a>&#4a;</a>", P::BadReference),
        (b"<a>&#-1;</a>", P::BadReference),
        (b"<a>&#+65;</a>", P::BadReference),
        (b"<a>&# 65;</a>", P::BadReference),
        (b"<a>&#0;</a>", P::BadReference),
        (b"<a>&#8;</a>", P::BadReference),
        (b"<a>&#x1F;</a>", P::BadReference),
        (b"<a>&#xD800;</a>", P::BadReference),
        (b"<a>&#xFFFE;</a>", P::BadReference),
        (b"<a>&#xFFFF;</a>", P::BadReference),
        (b"<a>&#x110000;</a>", P::BadReference),
        (b"<a>&#4294967361;</a>", P::BadReference),
        (b"<a>&#18446744073709551681;</a>", P::BadReference),
        (b"<a>&#00000000000000000000000000000000000000065;</a>", P::BadReference),
        (b"<a b='&#0;'/>", P::BadReference),
        (b"<a b='&'/>", P::BadReference),
        (b"<a b='&#38'/>", P::BadReference),
    ];
    refuse(cases, Condition::NotWellFormed);
}

#[test]
fn forbidden_characters_and_broken_utf_8() {
    let mut cases: Vec<(Vec<u8>, P)> = Vec::new();
    let places: [(&str, &str); 4] =
        [("<a>x", "y</a>"), ("<a b='x", "y'/>"), ("<a b=\"x", "y\"/>"), ("<a><![CDATA[x", "y]]></a>")];
    for (before, after) in places {
        let mut add = |bytes: &[u8], problem| {
            cases.push(([before.as_bytes(), bytes, after.as_bytes()].concat(), problem));
        };
        for control in (0..0x20_u8).filter(|b| !matches!(b, b'\t' | b'\n' | b'\r')) {
            add(&[control], P::ForbiddenCharacter);
        }
        for noncharacter in ["\u{FFFE}", "\u{FFFF}"] {
            add(noncharacter.as_bytes(), P::ForbiddenCharacter);
        }
        let broken: &[&[u8]] = &[
            b"\x80",
            b"\xBF",
            b"\xC0\x80",
            b"\xC1\xBF",
            b"\xC3",
            b"\xC3(",
            b"\xE0\x80\x80",
            b"\xE2\x82",
            b"\xED\xA0\x80",
            b"\xED\xBF\xBF",
            b"\xF0\x80\x80\x80",
            b"\xF0\x9F\xA6",
            b"\xF4\x90\x80\x80",
            b"\xF5\x80\x80\x80",
            b"\xFE",
            b"\xFF",
        ];
        for bytes in broken {
            add(bytes, P::InvalidUtf8);
        }
    }
    let borrowed: Vec<(&[u8], P)> = cases.iter().map(|(bytes, problem)| (&bytes[..], *problem)).collect();
    refuse(&borrowed, Condition::NotWellFormed);
    let names: &[(&[u8], P)] = &[
        (b"<\xC3(/>", P::InvalidUtf8),
        (b"<a\xFF/>", P::InvalidUtf8),
        ("<\u{B7}/>".as_bytes(), P::BadName),
        ("<\u{300}a/>".as_bytes(), P::BadName),
        ("<a\u{D7}/>".as_bytes(), P::BadName),
        ("<a\u{2028}/>".as_bytes(), P::BadName),
        ("<a\u{FFFE}/>".as_bytes(), P::BadName),
        ("<a \u{F7}=''/>".as_bytes(), P::BadName),
        ("<a p:\u{F7}=''/>".as_bytes(), P::BadName),
        ("<a></a\u{F7}>".as_bytes(), P::BadName),
        ("<a>&\u{E9};</a>".as_bytes(), P::Entity),
    ];
    for &(bytes, problem) in names {
        assert_eq!(problem_of(bytes), Some(problem), "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn restricted_xml() {
    let cases: &[(&[u8], P)] = &[
        (b"<!-- x -->", P::Restricted),
        (b"<a><!-- x --></a>", P::Restricted),
        (b"<a><!", P::Truncated),
        (b"<a><!-", P::Restricted),
        (b"<?pi?>", P::Restricted),
        (b"<?xml version='1.0'?>", P::Restricted),
        (b"<a><?pi?></a>", P::Restricted),
        (b"<!DOCTYPE a>", P::Restricted),
        (b"<a><!ENTITY b 'c'></a>", P::Restricted),
        (b"<![CDATA[x]]>", P::Restricted),
        (b"<a><![cdata[x]]></a>", P::Restricted),
        (b"<a><![CDATA [x]]></a>", P::Restricted),
        (b"<a>&foo;</a>", P::Entity),
        (b"<a>&LT;</a>", P::Entity),
        (b"<a>&lol9;</a>", P::Entity),
        (b"<a>&nbsp;</a>", P::Entity),
        (b"<a>&aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", P::Entity),
        (b"<a b='&foo;'/>", P::Entity),
        (b"<a b='&amp;&foo;'/>", P::Entity),
    ];
    refuse(cases, Condition::RestrictedXml);
    let laughs = "<?xml version='1.0'?><!DOCTYPE lolz [<!ENTITY lol 'lol'><!ENTITY lol2 '&lol;&lol;&lol;'>]>\
        <stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>&lol2;";
    assert_eq!(outcome(laughs.as_bytes()).error.map(|e| (e.problem, e.offset)), Some((P::Restricted, 21)));
}

#[test]
fn namespace_rules() {
    let cases: &[(&[u8], P)] = &[
        (b"<p:a/>", P::UndeclaredPrefix),
        (b"<a p:b=''/>", P::UndeclaredPrefix),
        (b"<a><b xmlns:p='u'/><p:c/></a>", P::UndeclaredPrefix),
        (b"<xmlns:a/>", P::UndeclaredPrefix),
        (b"<a xmlns:p=''/>", P::BadDeclaration),
        (b"<a xmlns:xmlns='u'/>", P::BadDeclaration),
        (b"<a xmlns:xmlns='http://www.w3.org/2000/xmlns/'/>", P::BadDeclaration),
        (b"<a xmlns:p='http://www.w3.org/2000/xmlns/'/>", P::BadDeclaration),
        (b"<a xmlns='http://www.w3.org/2000/xmlns/'/>", P::BadDeclaration),
        (b"<a xmlns:xml='u'/>", P::BadDeclaration),
        (b"<a xmlns:xml=''/>", P::BadDeclaration),
        (b"<a xmlns:p='http://www.w3.org/XML/1998/namespace'/>", P::BadDeclaration),
        (b"<a xmlns:p='http://www.w3.org/XML/1998/&#110;amespace'/>", P::BadDeclaration),
        (b"<a xmlns='http://www.w3.org/XML/1998/namespace'/>", P::BadDeclaration),
        (b"<:a/>", P::UnexpectedByte(b':')),
        (b"<p:/>", P::UnexpectedByte(b'/')),
        (b"<p:q:a/>", P::UnexpectedByte(b':')),
        (b"<p:1/>", P::UnexpectedByte(b'1')),
        (b"<a :b=''/>", P::UnexpectedByte(b':')),
        (b"<a xmlns:='u'/>", P::UnexpectedByte(b'=')),
        (b"<a p:q:b=''/>", P::UnexpectedByte(b':')),
    ];
    refuse(cases, Condition::NotWellFormed);
}

#[test]
fn what_xmpp_does_not_allow_between_stanzas() {
    let cases: &[(&[u8], P)] = &[
        (b"x", P::TextBetweenStanzas),
        (b" x<a/>", P::TextBetweenStanzas),
        (b"<a/>x", P::TextBetweenStanzas),
        (b"&amp;", P::TextBetweenStanzas),
        (b">", P::TextBetweenStanzas),
        (b"\xEF\xBB\xBF<a/>", P::TextBetweenStanzas),
        (b"\xFF", P::TextBetweenStanzas),
    ];
    refuse(cases, Condition::BadFormat);
    refuse(
        &[(b"\x00", P::ForbiddenCharacter), (b"<a/>\x0B", P::ForbiddenCharacter)],
        Condition::NotWellFormed,
    );
    refuse(
        &[
            (b"<p:message xmlns:p='jabber:client'/>", P::StanzaPrefix),
            (b"<s:error xmlns:s='http://etherx.jabber.org/streams'/>", P::StreamPrefix),
            (b"<error xmlns='http://etherx.jabber.org/streams'/>", P::StreamPrefix),
        ],
        Condition::BadNamespacePrefix,
    );
}

#[test]
fn the_position_of_the_problem_is_told() {
    let cases: &[(&[u8], usize)] = &[
        (b"<a b='1' b='2'/>", 9),
        (b"<a>x\x01</a>", 4),
        (b"<a>xy\xFF</a>", 5),
        (b"<a b='\xC3\xA9\xFF'/>", 8),
        (b"<a>\n<b></c></a>", 7),
        (b"<a>]]></a>", 3),
        (b"  <a>&bad;</a>", 3),
    ];
    for &(bytes, offset) in cases {
        let found = outcome(&in_stream(bytes)).error.map(|error| error.offset);
        assert_eq!(found, Some(offset), "{}", String::from_utf8_lossy(bytes));
    }
}

/// Each is refused for the reason and the stream error; `Truncated` stands for "incomplete, not refused yet".
fn refuse(cases: &[(&[u8], P)], condition: Condition) {
    for &(bytes, problem) in cases {
        let shown = String::from_utf8_lossy(bytes);
        let nested = [b"<m><n>", bytes].concat();
        let top_only = matches!(
            problem,
            P::UnexpectedEndTag | P::TextBetweenStanzas | P::StanzaPrefix | P::StreamPrefix
        ) || bytes.starts_with(b"</")
            || bytes.starts_with(b"<![CDATA[")
            || bytes[0] < 0x20;
        for (bytes, check) in [(bytes, true), (&nested, !top_only)] {
            if !check {
                continue;
            }
            let found = outcome(&in_stream(bytes));
            if problem == P::Truncated {
                assert_eq!((found.error, found.accepted), (None, HEADER.len()), "{shown}");
                continue;
            }
            let error = found.error.unwrap_or_else(|| panic!("accepted: {shown}"));
            assert_eq!((error.problem, error.condition()), (problem, condition), "{shown}");
        }
    }
}
