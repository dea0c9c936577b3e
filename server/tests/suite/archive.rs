//! Message archives (XEP-0313): what is kept, how it is found again, and by which ids it is known.

use whimbrel_server::xml::Element;
use whimbrel_storage::archive::continuation::GOES_ON;
use whimbrel_storage::archive::{Changes, Row, Slot};
use whimbrel_storage::directory::{Shares, WriteTransaction, run_inline};
use whimbrel_storage::log::{PeerHash, Position, Sequence};

use crate::support::answers::{befriend, outcome, payload};
use crate::support::program::Start;
use crate::support::{Client, TestServer, on_each_driver, on_each_driver_with};

const ARCHIVE: &str = "urn:xmpp:mam:2";
const RSM: &str = "http://jabber.org/protocol/rsm";

/// A page as it came: the ids and bodies of its messages, and `<fin/>`.
pub(crate) struct Page {
    pub(crate) ids: Vec<String>,
    pub(crate) bodies: Vec<String>,
    /// The messages themselves.
    pub(crate) messages: Vec<Element>,
    fin: Element,
}

impl Page {
    fn is_complete(&self) -> bool {
        self.fin.attribute("complete") == Some("true")
    }

    fn bound(&self, name: &str) -> Option<String> {
        Some(self.fin.find("set", RSM)?.find(name, RSM)?.content().into_owned())
    }
}

/// Asks for a page; `fields` go into the form, `inside` beside it.
pub(crate) fn query(client: &mut Client, fields: &[(&str, &str)], inside: &str) -> Result<Page, String> {
    let fields: String = fields
        .iter()
        .map(|(name, value)| format!("<field var='{name}'><value>{value}</value></field>"))
        .collect();
    client.send(&format!(
        "<iq type='set' id='page'><query xmlns='{ARCHIVE}' queryid='q7'><x xmlns='jabber:x:data' type='submit'>\
         <field var='FORM_TYPE' type='hidden'><value>{ARCHIVE}</value></field>{fields}</x>{inside}</query></iq>"
    ));
    let (mut ids, mut bodies, mut messages) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let stanza = client.stanza();
        if stanza.name() == "iq" {
            return match stanza.find("fin", ARCHIVE) {
                Some(fin) => Ok(Page { ids, bodies, messages, fin: fin.clone() }),
                None => Err(outcome(&stanza).to_owned()),
            };
        }
        // A request for an acknowledgement, or presence.
        if stanza.name() != "message" {
            continue;
        }
        let result = stanza.find("result", ARCHIVE).expect("nothing but the page comes");
        assert_eq!(result.attribute("queryid"), Some("q7"));
        let forwarded = result.find("forwarded", "urn:xmpp:forward:0").expect("a forwarded message");
        assert!(forwarded.find("delay", "urn:xmpp:delay").is_some());
        let message = forwarded.find("message", "jabber:client").expect("a message");
        ids.push(result.attribute("id").expect("an id").to_owned());
        let body = message.find("body", "jabber:client").map(|body| body.content().into_owned());
        bodies.push(body.unwrap_or_default());
        messages.push(message.clone());
    }
}

pub(crate) fn page(max: usize, rest: &str) -> String {
    format!("<set xmlns='{RSM}'><max>{max}</max>{rest}</set>")
}

fn say(client: &mut Client, to: &str, body: &str) {
    client.send(&format!("<message to='{to}' type='chat' id='{body}'><body>{body}</body></message>"));
}

/// The next message; presence may come before it.
fn message(client: &mut Client) -> Element {
    loop {
        let stanza = client.stanza();
        if stanza.name() == "message" {
            return stanza;
        }
    }
}

/// Everything that the client has sent so far has been handled.
fn settle(client: &mut Client) {
    // Her home answers, which may be another worker's: behind all that went there before.
    let answer =
        client.ask("get", Some("juliet@localhost"), "<query xmlns='http://jabber.org/protocol/disco#info'/>");
    assert!(["result", "service-unavailable"].contains(&&*outcome(&answer)), "{answer:?}");
}

fn stanza_id(message: &Element) -> Option<(String, String)> {
    let id = message.find("stanza-id", "urn:xmpp:sid:0")?;
    Some((id.attribute("by")?.to_owned(), id.attribute("id")?.to_owned()))
}

/// Gives an account rows of messages whose file is gone, as there are some for a while after a log had no room: more than a step
/// looks at, and more messages than are looked at for a page.
fn give_rows_of_what_is_gone(start: &Start, name: &str) {
    const ROWS: u64 = 4_200;
    let directory = start.directory();
    let actor = directory.account_id(name).unwrap().expect("an account");
    let now_ms =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let begun_ms = now_ms - 20 * 86_400_000;
    let slot = |number: u64| Slot {
        id: Sequence::at(begun_ms + number),
        position: Position(4096 + 160 * number),
        words: 20,
        peer: PeerHash(1),
        is_reference: false,
    };
    let slots = |row| (64 * row..64 * (row + 1)).map(slot).collect();
    let row = |row| Row { actor, journal: 77, slots: slots(row) }.pack();
    let changes = Changes { journal: 77, rows: (0..ROWS).map(row).collect(), ..Changes::default() };
    let give = move |transaction: &mut WriteTransaction<'_>| {
        transaction.apply_archive(&changes, Shares::default()).map(drop)
    };
    run_inline(&directory, Box::new(give)).unwrap();
    assert_eq!(directory.archive_state(actor).unwrap().messages, 64 * ROWS);
}

#[test]
fn what_is_gone_hides_nothing_of_an_archive() {
    let start = Start::new(&["juliet", "romeo"]);
    give_rows_of_what_is_gone(&start, "juliet");
    let program = start.run();
    let mut juliet = program.login("juliet", "balcony");
    juliet.send("<presence/>");
    let mut romeo = program.login("romeo", "orchard");
    say(&mut romeo, "juliet@localhost", "there");
    let given = stanza_id(&message(&mut juliet)).expect("it is archived").1;
    let metadata = juliet.ask("get", None, &format!("<metadata xmlns='{ARCHIVE}'/>"));
    let bounds: Vec<_> = payload(&metadata).elements().map(|bound| bound.attribute("id").unwrap()).collect();
    assert_eq!(bounds, [&*given, &*given], "the oldest and the newest");
    for inside in [page(50, ""), page(50, "<before/>")] {
        let all = query(&mut juliet, &[], &inside).unwrap();
        assert_eq!((all.bodies.clone(), all.is_complete()), (vec!["there".to_owned()], true));
    }
    program.stop();
}

/// The page of three behind an id.
fn three_behind(client: &mut Client, id: &str) -> Page {
    query(client, &[], &page(3, &format!("<after>{id}</after>"))).unwrap()
}

#[test]
fn both_sides_of_a_conversation_are_read_again_page_by_page() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.online("juliet", "balcony");
        let mut romeo = server.login("romeo", "orchard");
        for n in 0..7 {
            say(&mut romeo, "juliet@localhost", &format!("m{n}"));
            assert_eq!(juliet.expect("message").attribute("id"), Some(&*format!("m{n}")));
        }
        for client in [&mut juliet, &mut romeo] {
            let all = query(client, &[], "").unwrap();
            assert_eq!(all.bodies, ["m0", "m1", "m2", "m3", "m4", "m5", "m6"]);
            assert!(all.is_complete());
            assert_eq!(all.bound("first").as_deref(), Some(&*all.ids[0]));
            let mut after = String::new();
            let mut read = Vec::new();
            loop {
                let next = three_behind(client, &after);
                read.extend(next.ids.clone());
                if next.is_complete() {
                    break;
                }
                assert_eq!(next.ids.len(), 3);
                after = next.bound("last").unwrap();
            }
            assert_eq!(read, all.ids);
            let last = query(client, &[], &page(2, "<before/>")).unwrap();
            assert_eq!((&*last.bodies, last.is_complete()), (&["m5".to_owned(), "m6".to_owned()][..], false));
            let before = query(client, &[], &page(9, &format!("<before>{}</before>", last.ids[0]))).unwrap();
            assert_eq!((&*before.bodies[4], before.is_complete()), ("m4", true));
            let flipped = query(client, &[], &(page(2, "") + "<flip-page/>")).unwrap();
            assert_eq!(flipped.bodies, ["m1", "m0"]);
            let none = query(client, &[], &page(0, "")).unwrap();
            assert!(none.ids.is_empty() && none.bound("first").is_none() && !none.is_complete());
        }
    });
}

#[test]
fn a_page_goes_on_where_the_one_before_ended_whatever_happens_meanwhile() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut romeo = server.online("romeo", "orchard");
        let mut juliet = server.login("juliet", "balcony");
        for n in 0..20 {
            say(&mut juliet, "romeo@localhost", &format!("m{n}"));
            message(&mut romeo);
        }
        let first = three_behind(&mut romeo, "");
        assert_eq!(first.bodies, ["m0", "m1", "m2"]);
        let second = three_behind(&mut romeo, &first.ids[2]);
        assert_eq!(second.bodies, ["m3", "m4", "m5"]);
        server.await_metric("archive.continued", u64::from(GOES_ON));
        say(&mut juliet, "romeo@localhost", "later");
        message(&mut romeo);
        // It asks for the same again, as a client does that has lost its connection.
        for _ in 0..2 {
            let third = three_behind(&mut romeo, &second.ids[2]);
            assert_eq!(
                (&third.bodies[..], third.is_complete()),
                (&["m6", "m7", "m8"].map(String::from)[..], false)
            );
        }
        juliet.send(
            "<message to='romeo@localhost' type='chat' id='r'>\
             <retract xmlns='urn:xmpp:message-retract:1' id='m10'/><store xmlns='urn:xmpp:hints'/></message>",
        );
        message(&mut romeo);
        let third = three_behind(&mut romeo, &second.ids[2]);
        let fourth = three_behind(&mut romeo, &third.ids[2]);
        assert_eq!(fourth.bodies, ["m9", "", "m11"], "what was retracted is not given");
        let mut read = fourth;
        let mut bodies = Vec::new();
        while !read.is_complete() {
            read = three_behind(&mut romeo, &read.ids[2]);
            bodies.extend(read.bodies.clone());
        }
        let all: Vec<String> =
            (12..20).map(|n| format!("m{n}")).chain(["later".into(), String::new()]).collect();
        assert_eq!(bodies, all);
    });
}

#[test]
fn messages_are_found_by_peer_time_and_id() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo", "nurse"]);
        let mut juliet = server.online("juliet", "balcony");
        let mut romeo = server.login("romeo", "orchard");
        let mut nurse = server.login("nurse", "house");
        for n in 0..3 {
            say(&mut romeo, "juliet@localhost", &format!("r{n}"));
            juliet.expect("message");
            say(&mut nurse, "juliet@localhost", &format!("n{n}"));
            juliet.expect("message");
        }
        let with = |client: &mut Client, jid: &str| query(client, &[("with", jid)], "").unwrap().bodies;
        assert_eq!(with(&mut juliet, "romeo@localhost"), ["r0", "r1", "r2"]);
        assert_eq!(with(&mut juliet, "nurse@localhost/house"), ["n0", "n1", "n2"]);
        assert_eq!(with(&mut juliet, "nurse@localhost/garden"), [""; 0]);
        assert_eq!(with(&mut juliet, "romeo@elsewhere.example"), [""; 0]);
        let all = query(&mut juliet, &[], "").unwrap();
        let two = format!("{}</value><value>{}", all.ids[4], all.ids[1]);
        assert_eq!(query(&mut juliet, &[("ids", &two)], "").unwrap().bodies, ["n0", "r2"]);
        let between = [("after-id", &*all.ids[1]), ("before-id", &*all.ids[4])];
        assert_eq!(query(&mut juliet, &between, "").unwrap().bodies, ["r1", "n1"]);
        assert_eq!(query(&mut juliet, &[("start", "2001-01-01T00:00:00Z")], "").unwrap().ids, all.ids);
        assert!(query(&mut juliet, &[("end", "2001-01-01T00:00:00Z")], "").unwrap().is_complete());
        for (fields, expected) in [
            (("after-id", "aaaaaaaaaaaaa"), "item-not-found"),
            (("ids", "never-given"), "item-not-found"),
            (("fulltext", "love"), "feature-not-implemented"),
            (("start", "tomorrow"), "not-acceptable"),
        ] {
            assert_eq!(query(&mut juliet, &[fields], "").err().as_deref(), Some(expected), "{fields:?}");
        }
        assert_eq!(
            query(&mut juliet, &[], &page(3, "<after>nothing</after>")).err().as_deref(),
            Some("item-not-found")
        );
    });
}

#[test]
fn every_way_of_a_message_tells_the_id_of_the_archive() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut away = server.login("romeo", "orchard");
        let mut other = server.login("romeo", "phone");
        other.send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
        other.expect("iq");
        let forged = "<stanza-id xmlns='urn:xmpp:sid:0' by='juliet@localhost' id='forged'/>\
                      <stanza-id xmlns='urn:xmpp:sid:0' by='elsewhere.example' id='kept'/>";
        let text = |id: &str| {
            format!(
                "<message to='juliet@localhost' type='chat' id='{id}'><body>{id}</body>{forged}</message>"
            )
        };
        // Offline.
        away.send(&text("late"));
        settle(&mut away);
        let sent = other.expect("message");
        let sent =
            sent.find("sent", "urn:xmpp:carbons:2").unwrap().find("forwarded", "urn:xmpp:forward:0").unwrap();
        let sent = sent.find("message", "jabber:client").unwrap();
        let ids: Vec<_> = sent.elements().filter(|child| child.name() == "stanza-id").collect();
        let of_romeo = ids.iter().find(|id| id.attribute("by") == Some("romeo@localhost")).expect("ours");
        let in_archive = query(&mut away, &[], "").unwrap();
        assert_eq!(of_romeo.attribute("id"), Some(&*in_archive.ids[0]));
        let mut juliet = server.login("juliet", "balcony");
        juliet.send("<presence/>");
        let late = message(&mut juliet);
        assert!(late.find("delay", "urn:xmpp:delay").is_some());
        let ours: Vec<_> = late.elements().filter(|child| child.name() == "stanza-id").collect();
        assert_eq!(ours.len(), 2, "the forged one is gone, and ours is there");
        // Live.
        away.send(&text("live"));
        let live = juliet.expect("message");
        let ids: Vec<_> = live.elements().filter(|child| child.name() == "stanza-id").cloned().collect();
        assert_eq!(ids[0].attribute("id"), Some("kept"));
        let archived = query(&mut juliet, &[], "").unwrap();
        assert_eq!(ids[1].attribute("id"), Some(&*archived.ids[1]));
        assert_eq!(ours[1].attribute("id"), Some(&*archived.ids[0]));
        assert!(stanza_id(&live).is_some());
    });
}

#[test]
fn what_the_sender_or_its_rules_do_not_want_is_not_archived() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        befriend(server, "juliet", "romeo");
        let mut juliet = server.online("juliet", "balcony");
        let mut romeo = server.login("romeo", "orchard");
        for (kind, inside) in [
            ("chat", "<body>x</body><no-store xmlns='urn:xmpp:hints'/>"),
            ("chat", "<body>x</body><no-permanent-store xmlns='urn:xmpp:hints'/>"),
            ("chat", "<composing xmlns='http://jabber.org/protocol/chatstates'/>"),
            ("headline", "<body>x</body>"),
        ] {
            romeo.send(&format!("<message to='juliet@localhost' type='{kind}'>{inside}</message>"));
            let message = message(&mut juliet);
            assert!(stanza_id(&message).is_none(), "{inside}");
        }
        let prefs = |default: &str, never: &str| {
            format!("<prefs xmlns='{ARCHIVE}' default='{default}'><always/><never>{never}</never></prefs>")
        };
        let told = juliet.ask("get", None, &format!("<prefs xmlns='{ARCHIVE}'/>"));
        assert_eq!(payload(&told).attribute("default"), Some("always"));
        let told = juliet.ask("set", None, &prefs("always", "<jid>romeo@localhost</jid>"));
        assert_eq!(payload(&told).find("never", ARCHIVE).unwrap().elements().count(), 1);
        say(&mut romeo, "juliet@localhost", "unwanted");
        assert!(stanza_id(&message(&mut juliet)).is_none());
        juliet.ask("set", None, &prefs("roster", ""));
        say(&mut romeo, "juliet@localhost", "wanted");
        assert!(stanza_id(&message(&mut juliet)).is_some());
        assert_eq!(query(&mut juliet, &[], "").unwrap().bodies, ["wanted"]);
        assert_eq!(query(&mut romeo, &[], "").unwrap().bodies, ["unwanted", "wanted"]);
        let bad = juliet.ask("set", None, &prefs("perhaps", ""));
        assert_eq!(outcome(&bad), "bad-request");
    });
}

/// A client without presence, with messages of m0 to m4 in its mailbox.
fn for_whom_five_wait(server: &TestServer) -> Client {
    server.accounts(&["juliet", "romeo"]);
    let mut romeo = server.login("romeo", "orchard");
    for n in 0..5 {
        say(&mut romeo, "juliet@localhost", &format!("m{n}"));
    }
    settle(&mut romeo);
    server.login("juliet", "balcony")
}

#[test]
fn what_came_with_a_page_does_not_come_from_the_mailbox_again() {
    on_each_driver(|server| {
        let mut juliet = for_whom_five_wait(server);
        let read = query(&mut juliet, &[], &page(3, "")).unwrap();
        assert_eq!(read.bodies, ["m0", "m1", "m2"]);
        juliet.send("<presence/>");
        for n in 3..5 {
            assert_eq!(message(&mut juliet).attribute("id"), Some(&*format!("m{n}")));
        }
        settle(&mut juliet);
        assert_eq!(query(&mut juliet, &[], "").unwrap().bodies.len(), 5);
    });
}

/// The page brings the newest ones before the older ones are offered; a stream that goes on has all of them as they were said.
#[test]
fn a_resumed_stream_has_messages_in_their_order_whatever_a_page_brought_first() {
    on_each_driver(|server| {
        let mut juliet = for_whom_five_wait(server);
        let stream = juliet.enable_sm();
        assert_eq!(query(&mut juliet, &[], &page(2, "<before/>")).unwrap().bodies, ["m3", "m4"]);
        juliet.send("<presence/>");
        for n in 0..3 {
            assert_eq!(message(&mut juliet).attribute("id"), Some(&*format!("m{n}")));
        }
        let jid = juliet.jid.clone();
        drop(juliet);
        let (mut juliet, resumed) = Client::resume(server.address(), "juliet", &jid, &stream, 0);
        assert_eq!(resumed.name(), "resumed", "{resumed:?}");
        let mut again = Vec::new();
        while again.len() < 5 {
            let stanza = juliet.stanza();
            if stanza.name() == "message" {
                again.push(stanza.attribute("id").map(str::to_owned).unwrap_or_default());
            }
        }
        assert_eq!(again, ["m0", "m1", "m2", "m3", "m4"]);
    });
}

#[test]
fn an_archive_tells_its_bounds_and_its_form() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut romeo = server.login("romeo", "orchard");
        let metadata = format!("<metadata xmlns='{ARCHIVE}'/>");
        assert_eq!(payload(&romeo.ask("get", None, &metadata)).elements().count(), 0);
        for n in 0..3 {
            say(&mut romeo, "juliet@localhost", &format!("m{n}"));
        }
        let ids = query(&mut romeo, &[], "").unwrap().ids;
        let bounds = romeo.ask("get", None, &metadata);
        let id =
            |name: &str| payload(&bounds).find(name, ARCHIVE).unwrap().attribute("id").map(str::to_owned);
        assert_eq!((id("start"), id("end")), (Some(ids[0].clone()), Some(ids[2].clone())));
        let form = romeo.ask("get", None, &format!("<query xmlns='{ARCHIVE}'/>"));
        let form = payload(&form).find("x", "jabber:x:data").unwrap();
        assert_eq!(form.elements().filter(|child| child.name() == "field").count(), 7);
        let of_another = romeo.ask("set", Some("juliet@localhost"), &format!("<query xmlns='{ARCHIVE}'/>"));
        assert_eq!(outcome(&of_another), "service-unavailable");
    });
}

#[test]
fn without_archives_there_is_nothing_of_them() {
    on_each_driver_with(
        |config| config.archive.enabled = false,
        |server| {
            server.accounts(&["juliet", "romeo"]);
            let mut juliet = server.online("juliet", "balcony");
            let mut romeo = server.login("romeo", "orchard");
            say(&mut romeo, "juliet@localhost", "m");
            assert!(stanza_id(&juliet.expect("message")).is_none());
            let refused = juliet.ask("set", None, &format!("<query xmlns='{ARCHIVE}'/>"));
            assert_eq!(outcome(&refused), "service-unavailable");
            let info = juliet.ask(
                "get",
                Some("juliet@localhost"),
                "<query xmlns='http://jabber.org/protocol/disco#info'/>",
            );
            let features = payload(&info).elements().filter_map(|child| child.attribute("var"));
            assert!(!features.into_iter().any(|feature| feature.starts_with(ARCHIVE)));
        },
    );
}

#[test]
fn a_page_longer_than_a_step_has_every_message_from_either_end() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut romeo = server.login("romeo", "orchard");
        let filler = "x".repeat(20_000);
        for n in 0..20 {
            say(&mut romeo, "juliet@localhost", &format!("{n:02}{filler}"));
        }
        settle(&mut romeo);
        let numbers = |page: &Page| page.bodies.iter().map(|body| body[..2].to_owned()).collect::<Vec<_>>();
        let expected = |range: std::ops::Range<usize>| range.map(|n| format!("{n:02}")).collect::<Vec<_>>();
        let last = query(&mut romeo, &[], &page(9, "<before/>")).unwrap();
        assert_eq!(numbers(&last), expected(11..20));
        let first = last.bound("first").unwrap();
        let before = query(&mut romeo, &[], &page(9, &format!("<before>{first}</before>"))).unwrap();
        assert_eq!((numbers(&before), before.is_complete()), (expected(2..11), false));
        let mut flipped = expected(0..9);
        flipped.reverse();
        let page = query(&mut romeo, &[], &(page(9, "") + "<flip-page/>")).unwrap();
        assert_eq!(numbers(&page), flipped);
    });
}

/// A resource is not in the index: all that was exchanged with its user has to be read.
#[test]
fn a_page_that_is_hard_to_find_ends_with_what_was_found() {
    on_each_driver_with(
        |config| config.archive.messages_per_page = 2_500,
        |server| {
            server.accounts(&["juliet", "romeo"]);
            let mut juliet = server.online("juliet", "balcony");
            let mut romeo = server.login("romeo", "orchard");
            let with = [("with", "juliet@localhost/garden")];
            say(&mut romeo, "juliet@localhost/garden", "first");
            juliet.expect("message");
            for from in (0..2_600).step_by(100) {
                for n in from..from + 100 {
                    say(&mut romeo, "juliet@localhost", &format!("m{n}"));
                }
                for _ in 0..100 {
                    juliet.expect("message");
                }
            }
            let found = query(&mut romeo, &with, "").unwrap();
            assert_eq!((&*found.bodies, found.is_complete()), (&["first".to_owned()][..], false));
            let inside = page(5, &format!("<after>{}</after>", found.ids[0]));
            assert_eq!(query(&mut romeo, &with, &inside).err().as_deref(), Some("resource-constraint"));
            assert_eq!(
                query(&mut romeo, &with, &page(5, "<before/>")).err().as_deref(),
                Some("resource-constraint")
            );
            let found = query(&mut romeo, &with, &page(1, "<flip-page/>"));
            assert_eq!(found.unwrap().bodies, ["first"]);
        },
    );
}

/// What it has sent behind its query is not read before the page has ended, and so are its acknowledgements.
#[test]
fn a_page_does_not_wait_for_acknowledgements() {
    on_each_driver_with(
        |config| config.limits.sm_unacked_bytes = 600_000,
        |server| {
            server.accounts(&["juliet", "romeo"]);
            // So many messages may wait of a contact.
            befriend(server, "juliet", "romeo");
            let mut romeo = server.login("romeo", "orchard");
            let filler = "x".repeat(10_000);
            for n in 0..150 {
                say(&mut romeo, "juliet@localhost", &format!("{n:03}{filler}"));
            }
            settle(&mut romeo);
            let mut juliet = server.login("juliet", "balcony");
            juliet.enable_sm();
            let all = query(&mut juliet, &[], &page(200, "")).unwrap();
            let numbers: Vec<&str> = all.bodies.iter().map(|body| &body[..3]).collect();
            let expected: Vec<String> = (0..150).map(|n| format!("{n:03}")).collect();
            assert_eq!((numbers, all.is_complete()), (expected.iter().map(String::as_str).collect(), true));
        },
    );
}
