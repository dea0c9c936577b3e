use std::borrow::Cow;

use proptest::prelude::*;

use super::*;

/// RFC 7622 §3.5, table 1, with what each address normalises to.
#[test]
fn the_examples_of_the_rfc_are_addresses() {
    for (text, local, domain, resource) in [
        ("juliet@example.com", Some("juliet"), "example.com", None),
        ("juliet@example.com/foo", Some("juliet"), "example.com", Some("foo")),
        ("juliet@example.com/foo bar", Some("juliet"), "example.com", Some("foo bar")),
        ("juliet@example.com/foo@bar", Some("juliet"), "example.com", Some("foo@bar")),
        ("foo\\20bar@example.com", Some("foo\\20bar"), "example.com", None),
        ("fussball@example.com", Some("fussball"), "example.com", None),
        ("fu\u{df}ball@example.com", Some("fu\u{df}ball"), "example.com", None),
        ("\u{3c0}@example.com", Some("\u{3c0}"), "example.com", None),
        ("\u{3a3}@example.com/foo", Some("\u{3c3}"), "example.com", Some("foo")),
        ("\u{3c3}@example.com/foo", Some("\u{3c3}"), "example.com", Some("foo")),
        ("\u{3c2}@example.com/foo", Some("\u{3c2}"), "example.com", Some("foo")),
        ("king@example.com/\u{265a}", Some("king"), "example.com", Some("\u{265a}")),
        ("example.com", None, "example.com", None),
        ("example.com/foobar", None, "example.com", Some("foobar")),
        ("a.example.com/b@example.net", None, "a.example.com", Some("b@example.net")),
        // In table 2 of the RFC, although OpaqueString allows the space.
        ("juliet@example.com/ foo", Some("juliet"), "example.com", Some(" foo")),
    ] {
        let jid = Jid::parse(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
        assert_eq!((jid.local(), jid.domain(), jid.resource()), (local, domain, resource), "{text:?}");
        assert_eq!(jid.is_bare(), resource.is_none(), "{text:?}");
        assert_eq!(JidRef::parse(text).unwrap().to_string(), jid.as_str());
        assert_eq!(jid.borrowed(), jid);
    }
}

/// RFC 7622 §3.5, table 2, and our own.
#[test]
fn what_is_no_address_is_refused_with_the_reason() {
    use JidPart::{Domain, Local, Resource};
    let forbidden = |part, character| JidError::Forbidden { part, character };
    for (text, error) in [
        ("\"juliet\"@example.com", forbidden(Local, '"')),
        ("foo bar@example.com", forbidden(Local, ' ')),
        ("@example.com/", JidError::Empty(Local)),
        ("henry\u{2163}@example.com", forbidden(Local, '\u{2163}')),
        ("\u{265a}@example.com", forbidden(Local, '\u{265a}')),
        ("juliet@", JidError::Empty(Domain)),
        ("/foobar", JidError::Empty(Domain)),
        ("", JidError::Empty(Domain)),
        (".", JidError::Empty(Domain)),
        ("juliet@example.com/", JidError::Empty(Resource)),
        ("a&b@example.com", forbidden(Local, '&')),
        ("a'b@example.com", forbidden(Local, '\'')),
        ("a:b@example.com", forbidden(Local, ':')),
        ("a<b@example.com", forbidden(Local, '<')),
        ("a>b@example.com", forbidden(Local, '>')),
        ("a@b@example.com", forbidden(Domain, '@')),
        ("\u{ff20}@example.com", forbidden(Local, '@')),
        ("a\u{7f}@example.com", forbidden(Local, '\u{7f}')),
        ("a@example.com/\u{0}", forbidden(Resource, '\0')),
        ("a@example.com/\u{85}", forbidden(Resource, '\u{85}')),
        ("a@exa mple.com", forbidden(Domain, ' ')),
        ("a@example..com", JidError::HostName),
        ("a@.example.com", JidError::HostName),
        ("a@-example.com", JidError::HostName),
        ("a@example-.com", JidError::HostName),
        ("a@xn--\u{e4}.com", JidError::HostName),
        ("a@xn--abc.com", JidError::HostName),
        ("a@[::1", JidError::Ipv6),
        ("a@[127.0.0.1]", JidError::Ipv6),
        ("a@::1", forbidden(Domain, ':')),
        ("\u{5d0}a@example.com", JidError::Combination(Local)),
    ] {
        assert_eq!(Jid::parse(text), Err(error), "{text:?}");
        assert!(JidRef::parse(text).is_err());
    }
}

#[test]
fn domains_have_one_spelling() {
    for (text, normal) in [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("xn--bcher-kva.example", "b\u{fc}cher.example"),
        ("XN--Bcher-KVA.example", "b\u{fc}cher.example"),
        ("B\u{dc}CHER.example", "b\u{fc}cher.example"),
        ("bu\u{308}cher.example", "b\u{fc}cher.example"),
        ("b\u{fc}cher\u{3002}example\u{3002}", "b\u{fc}cher.example"),
        ("\u{ff45}xample.com", "example.com"),
        ("under_score.example", "under_score.example"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("[2001:DB8:0:0::1]", "[2001:db8::1]"),
    ] {
        assert_eq!(normalise_domain(text).as_deref(), Ok(normal), "{text:?}");
    }
}

#[test]
fn the_localpart_is_case_mapped_and_the_resource_is_not() {
    let jid = Jid::parse("RoMeo@Example.com/BalCony").expect("an address");
    assert_eq!(jid.as_str(), "romeo@example.com/BalCony");
    assert_eq!(jid.bare_str(), "romeo@example.com");
    assert_eq!(jid.to_bare(), Jid::parse("romeo@example.com").expect("an address"));
    assert_eq!(jid.with_resource("x").expect("a resource").as_str(), "romeo@example.com/x");
    assert!(jid.borrowed().same_bare(&JidRef::parse("ROMEO@example.com/y").expect("an address")));
    assert_eq!(normalise_local("\u{ff32}omeo").as_deref(), Ok("romeo"));
    assert_eq!(normalise_resource("a\u{a0}b").as_deref(), Ok("a b"));
}

#[test]
fn each_part_may_have_1023_bytes_and_no_more() {
    let longest = "a".repeat(PART_BYTES_MAX);
    let domain = format!("{}{}", "a.".repeat(511), "a");
    let jid = Jid::from_parts(Some(&longest), &domain, Some(&longest)).expect("at the limits");
    assert_eq!((jid.local(), jid.resource()), (Some(&longest[..]), Some(&longest[..])));
    assert_eq!(jid.domain(), domain);
    let over = "a".repeat(PART_BYTES_MAX + 1);
    for (part, result) in [
        (JidPart::Local, Jid::from_parts(Some(&over), "a", None)),
        (JidPart::Domain, Jid::from_parts(None, &over, None)),
        (JidPart::Resource, Jid::from_parts(None, "a", Some(&over))),
    ] {
        assert_eq!(result, Err(JidError::TooLong { part, bytes: 1024 }));
    }
    assert_eq!(normalise_domain(&"a".repeat(64)), Err(JidError::HostName));
}

#[test]
fn a_resource_is_printable_or_normalised_whatever_its_length() {
    for length in 1..=24 {
        for at in 0..length {
            for byte in 0..0x80 {
                let mut resource = vec![if byte == b' ' { b'~' } else { b' ' + 1 }; length];
                resource[at] = byte;
                let resource = String::from_utf8(resource).expect("ASCII");
                let text = format!("a@b/{resource}");
                let expected = JidRef::from_parts(Some("a"), "b", Some(&resource));
                assert_eq!(JidRef::parse(&text), expected, "{resource:?}");
            }
        }
    }
}

#[test]
fn normalised_ascii_is_borrowed() {
    let jid = JidRef::parse("romeo@example.com/Balcony 1").expect("an address");
    assert!(matches!(jid.local, Some(Cow::Borrowed("romeo"))));
    assert!(matches!(jid.domain, Cow::Borrowed("example.com")));
    assert!(matches!(jid.resource, Some(Cow::Borrowed("Balcony 1"))));
}

proptest! {
    #[test]
    fn any_text_is_refused_or_has_a_stable_normal_form(text in any::<String>()) {
        is_stable(&text)?;
    }

    #[test]
    fn any_text_with_separators_is_refused_or_has_a_stable_normal_form(
        text in "\\PC{0,4}@[a-zA-Z\\PC.\\-\\[\\]:]{0,6}(/.{0,4})?",
    ) {
        is_stable(&text)?;
    }

    #[test]
    fn letters_of_any_script_have_a_stable_normal_form(text in "[\\p{L}\\p{M}]{1,6}@[\\p{L}\\p{M}.]{1,6}/[\\p{L}\\p{M}\\p{Z}]{1,6}") {
        is_stable(&text)?;
    }

    #[test]
    fn every_normal_form_is_idempotent(text in any::<String>()) {
        for normalise in [normalise_local, normalise_domain, normalise_resource] {
            if let Ok(once) = normalise(&text) {
                let again = normalise(&once);
                prop_assert_eq!(again.as_ref(), Ok(&once));
            }
        }
    }
}

proptest! {
    /// The one pass over the usual address and the long way over its parts agree.
    #[test]
    fn the_usual_address_is_read_as_its_parts_are(text in "([a-z0-9._-]{0,5}@)?[a-zA.@-]{0,6}(xn--a)?[a-z.]{0,3}(/[a-z /@]{0,3})?") {
        let (bare, resource) = text.split_once('/').map_or((&*text, None), |(bare, rest)| (bare, Some(rest)));
        let (local, domain) = bare.split_once('@').map_or((None, bare), |(local, rest)| (Some(local), rest));
        prop_assert_eq!(JidRef::parse(&text), JidRef::from_parts(local, domain, resource));
    }
}

fn is_stable(text: &str) -> Result<(), TestCaseError> {
    if let Ok(jid) = Jid::parse(text) {
        let again = Jid::parse(jid.as_str());
        prop_assert_eq!(again.as_ref(), Ok(&jid), "{:?}", text);
        let parts = Jid::from_parts(jid.local(), jid.domain(), jid.resource());
        prop_assert_eq!(parts.as_ref(), Ok(&jid));
    }
    Ok(())
}
