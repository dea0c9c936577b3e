//! Stanzas that few clients send, and that cost a server more than their bytes say.

use std::fmt::Write as _;

use super::kinds::{LARGE_BYTES, Place, add, filler};
use crate::scenario::group::wire;

/// Lets a session be resumed (XEP-0198).
pub(super) const MANAGED: &str = "<enable xmlns='urn:xmpp:sm:3' resume='true'/>";

/// Copies of what an account's other sessions send and get (XEP-0280).
pub(super) const CARBONS: &str = "<iq type='set' id='carbons'><enable xmlns='urn:xmpp:carbons:2'/></iq>";

/// Elements of a stanza of many.
const ELEMENTS: usize = 50_000;

/// Messages that wait in the log of an account.
const LETTERS: u64 = 10_000;

/// A request with many elements in it, in a namespace of a long name.
pub(super) fn elements(place: &Place, n: u64, out: &mut String) {
    let (domain, long) = (&place.domain, filler(448));
    add(
        out,
        format_args!(
            "<iq type='get' id='f{n}' to='{domain}'><ping xmlns='urn:xmpp:ping'><x xmlns='urn:x:{long}'>"
        ),
    );
    out.push_str(&"<a/>".repeat(ELEMENTS));
    out.push_str("</x></ping></iq>");
}

/// A message with as many children.
pub(super) fn children(place: &Place, n: u64, out: &mut String) {
    let mate = place.mate(n);
    add(out, format_args!("<message type='chat' id='f{n}' to='{mate}'><body>x</body>"));
    out.push_str(&"<a/>".repeat(ELEMENTS));
    out.push_str("</message>");
}

/// A room of its own with many bans, and its list asked for in each item of a request.
pub(super) fn lists(place: &Place, n: u64, out: &mut String) {
    let room = wire::room(&place.domain, &format!("lists{}", place.account));
    match n {
        0 => out.push_str(&wire::join(&room, place.account)),
        1 => out.push_str(&wire::open(&room)),
        _ => {
            let typ = if n < 6 { "set" } else { "get" };
            add(
                out,
                format_args!(
                    "<iq type='{typ}' id='f{n}' to='{room}'><query xmlns='http://jabber.org/protocol/muc#admin'>"
                ),
            );
            for item in 0..256 {
                match typ {
                    "set" => add(
                        out,
                        format_args!("<item affiliation='outcast' jid='b{n}-{item}@{}'/>", place.domain),
                    ),
                    _ => out.push_str("<item affiliation='outcast'/>"),
                }
            }
            out.push_str("</query></iq>");
        }
    }
}

/// Long addresses that have to be brought into their normal form.
pub(super) fn addresses(place: &Place, n: u64, out: &mut String) {
    let long = "e\u{301}\u{323}".repeat(200);
    add(out, format_args!("<iq type='set' id='f{n}'><block xmlns='urn:xmpp:blocking'>"));
    for other in 0..100 {
        add(out, format_args!("<item jid='{long}{other}@{}/{long}'/>", place.domain));
    }
    out.push_str("</block></iq>");
}

/// A message to nobody, at such an address.
pub(super) fn unicode(place: &Place, n: u64, out: &mut String) {
    let long = "e\u{301}\u{323}".repeat(200);
    add(out, format_args!("<message id='f{n}' to='{long}@{}/{long}'><body>x</body></message>", place.domain));
}

/// Messages to itself, more than sessions that do not acknowledge are given.
pub(super) fn letters(place: &Place) -> String {
    let (own, mut text) = (place.jid(place.account), String::new());
    for n in 0..LETTERS {
        add(
            &mut text,
            format_args!("<message type='chat' id='l{n}' to='{own}'><body>Letter {n}</body></message>"),
        );
    }
    text
}

/// One more has been read.
pub(super) fn ack(_: &Place, n: u64, out: &mut String) {
    add(out, format_args!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", (n + 1).min(500)));
}

/// A subscription, and much that may not overtake it.
pub(super) fn held(place: &Place, n: u64, out: &mut String) {
    let mate = place.mate(n / 4);
    match n % 4 {
        0 => add(out, format_args!("<presence type='unsubscribe' to='{mate}'/>")),
        1 => add(out, format_args!("<presence type='subscribe' to='{mate}'/>")),
        _ => {
            let text = filler(LARGE_BYTES);
            add(
                out,
                format_args!("<message type='chat' id='f{n}' to='{mate}'><body>{text}</body></message>"),
            );
        }
    }
}

/// Software that nobody knows, and a long answer to what it is (XEP-0115).
pub(super) fn caps(place: &Place, n: u64, out: &mut String) {
    if n.is_multiple_of(2) {
        let ver = format!("{:019}{:07}A=", place.account, n);
        add(
            out,
            format_args!(
                "<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='x' ver='{ver}'/></presence>"
            ),
        );
        return;
    }
    add(
        out,
        format_args!(
            "<iq type='result' id='caps' to='{}'><query xmlns='http://jabber.org/protocol/disco#info'>",
            place.domain
        ),
    );
    for feature in 0..8_000 {
        let _ = write!(out, "<feature var='{}'/>", (feature * 7919) % 100_000);
    }
    out.push_str("</query></iq>");
}
