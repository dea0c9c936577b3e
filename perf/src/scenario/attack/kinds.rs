//! The floods, one row each: what a flooder writes, how it reads, and how it comes in.
//!
//! A row writes one stanza at a time; how fast, how many and how much is the flooder's business, so every kind is
//! bounded alike. What a stanza needs (a large roster, contacts, a vCard) is made once by [`prepare`].

use std::fmt::Write as _;

use super::{rare, rooms};
use crate::account::Accounts;
use crate::scenario::client::RESOURCE;

/// Accounts of the victims: the one that sends, and the one that receives.
pub(super) const TALKER: u64 = 0;
/// See [`TALKER`].
pub(super) const LISTENER: u64 = 1;
/// An account that never logs in.
pub(super) const ABSENT: u64 = 2;
/// The first account of the flooders.
pub(super) const FIRST_FLOODER: u64 = 8;

/// Flooders of the kind with many accounts.
pub(super) const MANY: u32 = 1000;
/// Items in the roster of each flooder.
pub(super) const ROSTER_ITEMS: u64 = 800;
/// Bytes of a flooder's vCard and of its private data.
const STORED_BYTES: usize = 8 * 1024;
/// Bytes of a large stanza; below the limit of every server that is compared.
pub(super) const LARGE_BYTES: usize = 200 * 1024;

/// How a flooder comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    /// It logs in.
    Session,
    /// It guesses the recipient's password, from changing addresses.
    Guess,
    /// It begins to log in and stops, from changing addresses.
    Half,
}

/// Who reads what the server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Everybody.
    All,
    /// Everybody but the first, which sends nothing either.
    NotTheFirst,
    /// Nobody.
    Nobody,
}

/// A kind of flood.
#[derive(Debug)]
pub(super) struct Kind {
    /// Its name on the command line and in the table.
    pub(super) name: &'static str,
    /// What it is.
    pub(super) about: &'static str,
    /// Clients; `None`: as many as the command line says.
    pub(super) clients: Option<u32>,
    /// Stanzas a second of each client; `None`: as fast as the server takes them.
    pub(super) pace: Option<f64>,
    /// Whether all of them send at the same moments; otherwise each has moments of its own.
    pub(super) at_once: bool,
    /// How it comes in.
    pub(super) entrance: Entrance,
    /// Who reads.
    pub(super) reading: Reading,
    /// Whether all are in one room.
    pub(super) is_in_room: bool,
    /// Sessions of each client's account.
    pub(super) sessions: u32,
    /// What a session sends first, before it becomes available.
    pub(super) greeting: &'static str,
    /// What the last session of an account sends when all of them are there.
    pub(super) fill: Option<fn(&Place) -> String>,
    /// Stanzas after which a client cuts its connection and comes anew, when their answers have come.
    pub(super) cut_after: Option<u64>,
    /// Writes stanza `n` of a client.
    pub(super) write: fn(&Place, u64, &mut String),
}

/// Who a flooder is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The server's domain.
    pub(super) domain: String,
    /// Its account.
    pub(super) account: u64,
    /// Flooders of this kind.
    pub(super) clients: u64,
    /// Which session of its account it is.
    pub(super) session: u64,
}

impl Place {
    pub(super) fn jid(&self, account: u64) -> String {
        format!("{}@{}", Accounts::name(account), self.domain)
    }

    fn victim(&self) -> String {
        format!("{}/{RESOURCE}", self.jid(LISTENER))
    }

    /// Another flooder, each in turn.
    pub(super) fn mate(&self, n: u64) -> String {
        let own = self.account - FIRST_FLOODER;
        let others = self.clients.max(2) - 1;
        self.jid(FIRST_FLOODER + (own + 1 + n % others) % self.clients.max(2))
    }
}

const BASE: Kind = Kind {
    name: "",
    about: "",
    clients: None,
    pace: None,
    at_once: false,
    entrance: Entrance::Session,
    reading: Reading::All,
    is_in_room: false,
    sessions: 1,
    greeting: "",
    fill: None,
    cut_after: None,
    write: ping,
};

/// All kinds.
pub(super) const KINDS: [Kind; 39] = [
    Kind { name: "pings", about: "pings to the server", write: ping, ..BASE },
    Kind { name: "roster", about: "reads a roster of 800 contacts", write: roster_get, ..BASE },
    Kind { name: "roster-set", about: "changes the names of contacts", write: roster_set, ..BASE },
    Kind { name: "presence", about: "comes and goes, with 800 contacts", write: presence, ..BASE },
    Kind { name: "subscribe", about: "subscribes to and from the others", write: subscribe, ..BASE },
    Kind { name: "self", about: "messages to itself", write: to_self, ..BASE },
    Kind { name: "mates", about: "messages to each other", write: to_mate, ..BASE },
    Kind { name: "victim", about: "messages to the recipient", write: to_victim, ..BASE },
    Kind { name: "victim-presence", about: "presence to the recipient", write: directed, ..BASE },
    Kind { name: "victim-iq", about: "requests to the recipient", write: victim_iq, ..BASE },
    Kind { name: "absent", about: "messages to a user who is away", write: to_absent, ..BASE },
    Kind {
        name: "slow",
        about: "messages to a client that does not read",
        reading: Reading::NotTheFirst,
        write: to_first,
        ..BASE
    },
    Kind { name: "disco", about: "service discovery, features and items", write: disco, ..BASE },
    Kind { name: "vcard", about: "reads a vCard of 8 KiB", write: vcard, ..BASE },
    Kind { name: "private", about: "writes and reads 8 KiB of private data", write: private, ..BASE },
    Kind { name: "pep", about: "publishes 8 KiB to a node of its own, and reads all", write: pep, ..BASE },
    Kind {
        name: "node",
        about: "publishes to a node of the service to which all subscribe",
        write: node,
        ..BASE
    },
    Kind { name: "block", about: "blocks 50 users, and unblocks all", write: block, ..BASE },
    Kind { name: "tiny", about: "the smallest stanza there is", write: tiny, ..BASE },
    Kind { name: "large", about: "messages of 200 KiB to each other", write: large, ..BASE },
    Kind { name: "namespaces", about: "200 KiB of declarations and prefixes", write: namespaces, ..BASE },
    Kind {
        name: "unread",
        about: "reads a roster, and never the answer",
        reading: Reading::Nobody,
        write: roster_get,
        ..BASE
    },
    Kind {
        name: "unread-pings",
        about: "pings, and never reads the answer",
        reading: Reading::Nobody,
        write: ping,
        ..BASE
    },
    Kind { name: "guesses", about: "wrong passwords", entrance: Entrance::Guess, ..BASE },
    Kind { name: "half-logins", about: "logins that stop half-way", entrance: Entrance::Half, ..BASE },
    Kind {
        name: "room",
        about: "messages to a room of 100, by all in it",
        clients: Some(rooms::OCCUPANTS),
        is_in_room: true,
        write: rooms::say,
        ..BASE
    },
    Kind {
        name: "room-stays",
        about: "leaves and enters a room of 100",
        clients: Some(rooms::OCCUPANTS),
        is_in_room: true,
        write: rooms::come_and_go,
        ..BASE
    },
    Kind { name: "elements", about: "requests with 50,000 elements in them", write: rare::elements, ..BASE },
    Kind {
        name: "children",
        about: "messages of 50,000 elements to each other",
        write: rare::children,
        ..BASE
    },
    Kind {
        name: "lists",
        about: "asks for a room's list of 1,000 bans, 256 times at once",
        write: rare::lists,
        ..BASE
    },
    Kind {
        name: "addresses",
        about: "blocks 100 long addresses in letters beyond ASCII",
        write: rare::addresses,
        ..BASE
    },
    Kind {
        name: "unicode",
        about: "messages to a long address in letters beyond ASCII",
        write: rare::unicode,
        ..BASE
    },
    Kind {
        name: "copies",
        about: "messages of 200 KiB to accounts of ten sessions",
        sessions: 10,
        greeting: rare::CARBONS,
        write: large,
        ..BASE
    },
    Kind {
        name: "acks",
        about: "acknowledges one by one what ten sessions have not read",
        sessions: 10,
        greeting: rare::MANAGED,
        fill: Some(rare::letters),
        write: rare::ack,
        ..BASE
    },
    Kind {
        name: "cuts",
        about: "cuts connections with 4,000 answers unacknowledged",
        greeting: rare::MANAGED,
        cut_after: Some(4000),
        write: ping,
        ..BASE
    },
    Kind {
        name: "held",
        about: "subscribes to others, and sends them 200 KiB behind it",
        write: rare::held,
        ..BASE
    },
    Kind {
        name: "caps",
        about: "announces software, and answers with 200 KiB what it is",
        write: rare::caps,
        ..BASE
    },
    Kind {
        name: "many",
        about: "1,000 accounts, each a little of everything",
        clients: Some(MANY),
        pace: Some(5.0),
        write: mixed,
        ..BASE
    },
    Kind {
        name: "many-at-once",
        about: "the same, all at the same moments",
        clients: Some(MANY),
        pace: Some(5.0),
        at_once: true,
        write: mixed,
        ..BASE
    },
];

/// The kind of a name.
pub(super) fn find(name: &str) -> Option<&'static Kind> {
    const { &KINDS }.iter().find(|kind| kind.name == name)
}

/// Writes what fills an account so that its requests are dear; returns how many answers come.
pub(super) fn prepare(place: &Place, out: &mut String) -> u64 {
    for n in 0..ROSTER_ITEMS {
        roster_set(place, n, out);
    }
    for n in 0..place.clients.saturating_sub(1) {
        let mate = place.mate(n);
        add(
            out,
            format_args!("<presence type='subscribe' to='{mate}'/><presence type='subscribed' to='{mate}'/>"),
        );
    }
    let filler = filler(STORED_BYTES);
    add(
        out,
        format_args!("<iq type='set' id='vc'><vCard xmlns='vcard-temp'><DESC>{filler}</DESC></vCard></iq>"),
    );
    ROSTER_ITEMS + 1
}

pub(super) fn add(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}

pub(super) fn filler(bytes: usize) -> String {
    "The whimbrel calls seven times. ".repeat(bytes / 32)
}

fn ping(place: &Place, n: u64, out: &mut String) {
    let domain = &place.domain;
    add(out, format_args!("<iq type='get' id='f{n}' to='{domain}'><ping xmlns='urn:xmpp:ping'/></iq>"));
}

fn roster_get(_: &Place, n: u64, out: &mut String) {
    add(out, format_args!("<iq type='get' id='f{n}'><query xmlns='jabber:iq:roster'/></iq>"));
}

fn roster_set(place: &Place, n: u64, out: &mut String) {
    let contact = place.jid(FIRST_FLOODER + 100 + n % ROSTER_ITEMS);
    add(
        out,
        format_args!(
            "<iq type='set' id='f{n}'><query xmlns='jabber:iq:roster'><item jid='{contact}' name='Contact number \
             {n} with a name of the usual length'><group>Birds of the shore</group></item></query></iq>"
        ),
    );
}

fn presence(_: &Place, n: u64, out: &mut String) {
    match n % 2 {
        0 => out.push_str("<presence type='unavailable'/>"),
        _ => add(out, format_args!("<presence><show>away</show><status>{n}</status></presence>")),
    }
}

fn subscribe(place: &Place, n: u64, out: &mut String) {
    let contact = place.mate(n / 4);
    let kind = ["subscribe", "subscribed", "unsubscribe", "unsubscribed"][(n % 4) as usize];
    add(out, format_args!("<presence type='{kind}' to='{contact}'/>"));
}

fn message(to: &str, n: u64, out: &mut String) {
    add(
        out,
        format_args!(
            "<message type='chat' id='f{n}' to='{to}'><body>Nobody asked for message number {n}.</body></message>"
        ),
    );
}

fn to_self(place: &Place, n: u64, out: &mut String) {
    message(&place.jid(place.account), n, out);
}

fn to_mate(place: &Place, n: u64, out: &mut String) {
    message(&place.mate(n), n, out);
}

fn to_victim(place: &Place, n: u64, out: &mut String) {
    message(&place.jid(LISTENER), n, out);
}

fn to_absent(place: &Place, n: u64, out: &mut String) {
    message(&place.jid(ABSENT), n, out);
}

fn to_first(place: &Place, n: u64, out: &mut String) {
    message(&place.jid(FIRST_FLOODER), n, out);
}

fn directed(place: &Place, n: u64, out: &mut String) {
    let victim = place.victim();
    add(out, format_args!("<presence to='{victim}'><status>{n}</status></presence>"));
}

fn victim_iq(place: &Place, n: u64, out: &mut String) {
    let victim = place.victim();
    add(out, format_args!("<iq type='get' id='f{n}' to='{victim}'><query xmlns='jabber:iq:version'/></iq>"));
}

fn disco(place: &Place, n: u64, out: &mut String) {
    let (what, domain) = (if n.is_multiple_of(2) { "info" } else { "items" }, &place.domain);
    add(
        out,
        format_args!(
            "<iq type='get' id='f{n}' to='{domain}'><query xmlns='http://jabber.org/protocol/disco#{what}'/></iq>"
        ),
    );
}

fn vcard(_: &Place, n: u64, out: &mut String) {
    add(out, format_args!("<iq type='get' id='f{n}'><vCard xmlns='vcard-temp'/></iq>"));
}

fn private(_: &Place, n: u64, out: &mut String) {
    let (kind, text) =
        if n.is_multiple_of(2) { ("set", filler(STORED_BYTES)) } else { ("get", String::new()) };
    add(
        out,
        format_args!(
            "<iq type='{kind}' id='f{n}'><query xmlns='jabber:iq:private'><flood \
             xmlns='urn:whimbrel:flood'>{text}</flood></query></iq>"
        ),
    );
}

fn pep(_: &Place, n: u64, out: &mut String) {
    let (kind, inside) = match n % 2 {
        0 => {
            let text = filler(STORED_BYTES);
            let item = format!("<item id='i{n}'><flood xmlns='urn:whimbrel:flood'>{text}</flood></item>");
            ("set", format!("<publish node='urn:whimbrel:flood'>{item}</publish>"))
        }
        _ => ("get", "<items node='urn:whimbrel:flood'/>".to_owned()),
    };
    add(
        out,
        format_args!(
            "<iq type='{kind}' id='f{n}'><pubsub xmlns='http://jabber.org/protocol/pubsub'>{inside}</pubsub></iq>"
        ),
    );
}

fn node(place: &Place, n: u64, out: &mut String) {
    let (own, domain) = (place.jid(place.account), &place.domain);
    let inside = match n {
        0 => "<create node='flood'/>".to_owned(),
        1 => format!("<subscribe node='flood' jid='{own}'/>"),
        _ => format!(
            "<publish node='flood'><item id='i{}'><flood xmlns='urn:whimbrel:flood'>{n}</flood></item></publish>",
            n % 16
        ),
    };
    add(
        out,
        format_args!(
            "<iq type='set' id='f{n}' to='pubsub.{domain}'><pubsub xmlns='http://jabber.org/protocol/pubsub'>{inside}\
             </pubsub></iq>"
        ),
    );
}

fn block(place: &Place, n: u64, out: &mut String) {
    if !n.is_multiple_of(2) {
        add(out, format_args!("<iq type='set' id='f{n}'><unblock xmlns='urn:xmpp:blocking'/></iq>"));
        return;
    }
    add(out, format_args!("<iq type='set' id='f{n}'><block xmlns='urn:xmpp:blocking'>"));
    for other in 0..50 {
        let jid = place.jid(FIRST_FLOODER + 200 + other);
        add(out, format_args!("<item jid='{jid}'/>"));
    }
    out.push_str("</block></iq>");
}

fn tiny(_: &Place, _: u64, out: &mut String) {
    out.push_str("<message/>");
}

fn large(place: &Place, n: u64, out: &mut String) {
    let (mate, text) = (place.mate(n), filler(LARGE_BYTES));
    add(out, format_args!("<message type='chat' id='f{n}' to='{mate}'><body>{text}</body></message>"));
}

fn namespaces(place: &Place, n: u64, out: &mut String) {
    const DEPTH: usize = 40;
    const EACH: usize = 40;
    let (mate, begin) = (place.mate(n), out.len());
    add(out, format_args!("<message type='chat' id='f{n}' to='{mate}'>"));
    for level in 0..DEPTH {
        out.push_str("<a");
        for number in 0..EACH {
            add(out, format_args!(" xmlns:p{level}-{number}='u:{level}:{number}'"));
        }
        out.push('>');
    }
    while out.len() - begin < LARGE_BYTES {
        out.push_str("<p0-0:b/>");
    }
    out.push_str(&"</a>".repeat(DEPTH));
    out.push_str("</message>");
}

/// A little of everything that costs, as each of many accounts may ask for it.
fn mixed(place: &Place, n: u64, out: &mut String) {
    const MIX: [fn(&Place, u64, &mut String); 8] =
        [ping, presence, to_mate, roster_get, disco, private, to_self, vcard];
    let own = place.account + n;
    MIX[(own % MIX.len() as u64) as usize](place, n, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::scan::{self, Item};

    #[test]
    fn every_kind_has_a_name_of_its_own_and_writes_one_whole_element() {
        for (number, kind) in KINDS.iter().enumerate() {
            assert!(find(kind.name).is_some_and(|found| std::ptr::fn_addr_eq(found.write, kind.write)));
            assert!(KINDS[..number].iter().all(|other| other.name != kind.name), "{}", kind.name);
            for n in 0..8 {
                let clients = kind.clients.unwrap_or(8).into();
                let place =
                    Place { domain: "localhost".into(), account: FIRST_FLOODER + 3, clients, session: 0 };
                let mut out = String::new();
                (kind.write)(&place, n, &mut out);
                let Ok(Some((Item::Element(_), used))) = scan::next(out.as_bytes()) else {
                    panic!("{} writes no element: {out}", kind.name)
                };
                assert_eq!(used, out.len(), "{}", kind.name);
                assert!(used < 256 * 1024, "{} is larger than servers take: {used}", kind.name);
            }
        }
    }

    #[test]
    fn a_flooder_is_not_its_own_mate() {
        for clients in 2..5 {
            for own in 0..clients {
                let account = FIRST_FLOODER + own;
                let place = Place { domain: "localhost".into(), account, clients, session: 0 };
                let mates: std::collections::BTreeSet<_> = (0..clients - 1).map(|n| place.mate(n)).collect();
                assert_eq!(mates.len() as u64, clients - 1);
                assert!(!mates.contains(&place.jid(place.account)));
            }
        }
    }
}
