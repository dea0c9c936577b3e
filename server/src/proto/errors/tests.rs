use std::collections::HashSet;

use super::*;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn the_tables_hold_every_condition_of_the_rfc_once() {
    let names: HashSet<_> = StreamCondition::ALL.iter().map(|c| c.name()).collect();
    assert_eq!((StreamCondition::ALL.len(), names.len()), (25, 25));
    let names: HashSet<_> = StanzaCondition::ALL.iter().map(|c| c.name()).collect();
    assert_eq!((StanzaCondition::ALL.len(), names.len()), (22, 22));
}

#[test]
fn a_stream_error_is_written_with_and_without_text() {
    assert_eq!(
        written(|out| StreamCondition::HostUnknown.write(None, out)),
        "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
    );
    assert_eq!(
        written(|out| StreamCondition::PolicyViolation.write(Some("a < b & c"), out)),
        "<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>a &lt; b &amp; c</text></stream:error>"
    );
    assert_eq!(
        written(|out| StreamCondition::write_see_other_host("[2001:db8::1]:5222", out)),
        "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>[2001:db8::1]:5222\
         </see-other-host></stream:error>"
    );
}

#[test]
fn a_stanza_error_is_written_with_all_its_parts() {
    assert_eq!(
        written(|out| StanzaError::new(StanzaCondition::ServiceUnavailable).write(out)),
        "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    );
    let error = StanzaError::new(StanzaCondition::NotAcceptable)
        .with_kind(ErrorKind::Cancel)
        .with_text("you blocked him")
        .with_application("blocked", "urn:xmpp:blocking:errors");
    assert_eq!(
        written(|out| error.write(out)),
        "<error type='cancel'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>you blocked him</text>\
         <blocked xmlns='urn:xmpp:blocking:errors'/></error>"
    );
}

#[test]
fn no_text_can_break_the_stream() {
    let text =
        written(|out| StreamCondition::BadFormat.write(Some("]]></text>\u{0}\u{1b}\u{ffff}\r\n\t"), out));
    assert!(text.contains(">]]&gt;&lt;/text&gt;\u{fffd}\u{fffd}\u{fffd}&#13;\n\t</text>"), "{text}");
}

/// RFC 6120 §8.3.3: the type each condition is given there.
#[test]
fn conditions_have_the_types_of_the_rfc() {
    use ErrorKind::{Auth, Cancel, Modify, Wait};
    for (name, kind) in [
        ("bad-request", Modify),
        ("conflict", Cancel),
        ("feature-not-implemented", Cancel),
        ("forbidden", Auth),
        ("gone", Cancel),
        ("internal-server-error", Cancel),
        ("item-not-found", Cancel),
        ("jid-malformed", Modify),
        ("not-acceptable", Modify),
        ("not-allowed", Cancel),
        ("not-authorized", Auth),
        ("policy-violation", Modify),
        ("recipient-unavailable", Wait),
        ("redirect", Modify),
        ("registration-required", Auth),
        ("remote-server-not-found", Cancel),
        ("remote-server-timeout", Wait),
        ("resource-constraint", Wait),
        ("service-unavailable", Cancel),
        ("subscription-required", Auth),
        ("undefined-condition", Cancel),
        ("unexpected-request", Wait),
    ] {
        let condition = StanzaCondition::ALL.iter().find(|c| c.name() == name);
        assert_eq!(condition.map(|c| c.default_kind()), Some(kind), "{name}");
    }
}
