//! One stream's stanzas take effect in the order in which they came (RFC 6120 §10.1), and what is acknowledged
//! (XEP-0198) is on the disk: for everything that is written to the directory.

use std::net::Shutdown;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use whimbrel_server::config::Config;
use whimbrel_server::xml::Element;
use whimbrel_storage::directory::{Subscription, WriteTransaction, run_inline};

use crate::support::answers::{befriend, outcome, payload, text_of};
use crate::support::managed::chat;
use crate::support::{Client, TestServer, on_each_driver, on_each_driver_with, server_password};

const ROSTER: &str = "jabber:iq:roster";
const PRIVATE: &str = "jabber:iq:private";
const BLOCKING: &str = "urn:xmpp:blocking";

/// Makes the child of a set from a value.
type Set = fn(&str) -> String;

/// Waits for the answer with this id. Others that have come before it stay to be looked at.
fn answer(client: &mut Client, id: &str) -> Element {
    client.set_aside_until(|stanza| stanza.name() == "iq" && stanza.attribute("id") == Some(id))
}

fn iq(typ: &str, id: &str, child: &str) -> String {
    format!("<iq type='{typ}' id='{id}'>{child}</iq>")
}

fn item(name: &str) -> String {
    format!("<query xmlns='{ROSTER}'><item jid='nurse@example.net' name='{name}'/></query>")
}

fn block(verb: &str, id: &str, jid: &str) -> String {
    iq("set", id, &format!("<{verb} xmlns='{BLOCKING}'><item jid='{jid}'/></{verb}>"))
}

/// Holds up all writes to the directory until the returned channel is told to let them go, or dropped.
fn stall(server: &TestServer) -> (Sender<()>, JoinHandle<()>) {
    let (release, released) = channel::<()>();
    let (begun, has_begun) = channel();
    let directory = server.server.shared.directory.clone();
    let thread = std::thread::spawn(move || {
        let job = move |_: &mut WriteTransaction<'_>| {
            begun.send(()).unwrap();
            // An error says that nobody is going to tell.
            let _ = released.recv();
            Ok(())
        };
        run_inline(&directory, Box::new(job)).unwrap();
    });
    has_begun.recv().unwrap();
    (release, thread)
}

#[test]
fn a_get_right_behind_a_set_sees_what_was_set() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        let cases: [(Set, &str); 4] = [
            (
                |v| format!("<query xmlns='{PRIVATE}'><s xmlns='urn:x'>{v}</s></query>"),
                "<query xmlns='jabber:iq:private'><s xmlns='urn:x'/></query>",
            ),
            (
                |v| format!("<vCard xmlns='vcard-temp'><NOTE>{v}</NOTE></vCard>"),
                "<vCard xmlns='vcard-temp'/>",
            ),
            (item, "<query xmlns='jabber:iq:roster'/>"),
            (
                |v| format!("<block xmlns='{BLOCKING}'><item jid='{v}.example'/></block>"),
                "<blocklist xmlns='urn:xmpp:blocking'/>",
            ),
        ];
        for (set, get) in cases {
            for round in 0..5 {
                let value = format!("value{round}");
                let (writer, held) = stall(server);
                juliet.send(&(iq("set", "set", &set(&value)) + &iq("get", "get", get)));
                drop(writer);
                let seen = format!("{:?}", payload(&answer(&mut juliet, "get")));
                assert!(seen.contains(&value), "{seen}");
                let before = juliet.quiet();
                assert!(before.iter().any(|stanza| stanza.attribute("id") == Some("set")), "{before:?}");
                held.join().unwrap();
            }
        }
    });
}

#[test]
fn a_message_right_behind_a_block_does_not_arrive_and_one_behind_its_end_does() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let mut romeo = server.online("romeo", "orchard");
        let to = romeo.jid.clone();
        juliet.send(&(block("block", "1", "romeo@localhost") + &chat(&to, "blocked")));
        let error = juliet.set_aside_until(|stanza| stanza.name() == "message");
        assert_eq!(outcome(&error), "not-acceptable");
        juliet.send(&(block("unblock", "2", "romeo@localhost") + &chat(&to, "free")));
        let message = romeo.set_aside_until(|stanza| stanza.name() == "message");
        assert_eq!(message.attribute("id"), Some("free"));
    });
}

#[test]
fn a_message_from_one_who_is_being_unblocked_is_not_refused_after_the_result() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.online("juliet", "balcony");
        let mut romeo = server.login("romeo", "orchard");
        juliet.send(&(block("block", "1", "romeo@localhost") + &block("unblock", "2", "romeo@localhost")));
        assert_eq!(outcome(&answer(&mut juliet, "2")), "result");
        romeo.send(&chat("juliet@localhost", "hello"));
        let message = juliet.set_aside_until(|stanza| stanza.name() == "message");
        assert_eq!(message.attribute("id"), Some("hello"));
    });
}

#[test]
fn a_subscription_request_right_behind_a_block_is_refused() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let subscribe = "<presence type='subscribe' to='romeo@localhost' id='s'/>";
        juliet.send(&(block("block", "1", "romeo@localhost") + subscribe));
        let error = juliet.set_aside_until(|stanza| stanza.name() == "presence");
        assert_eq!(outcome(&error), "not-acceptable");
    });
}

#[test]
fn a_roster_that_is_asked_for_behind_a_subscription_request_has_it() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let get = iq("get", "get", "<query xmlns='jabber:iq:roster'/>");
        juliet.send(&format!("<presence type='subscribe' to='romeo@localhost'/>{get}"));
        let roster = answer(&mut juliet, "get");
        let item = payload(&roster).elements().next().expect("an item");
        assert_eq!(
            (item.attribute("jid"), item.attribute("ask")),
            (Some("romeo@localhost"), Some("subscribe"))
        );
    });
}

#[test]
fn last_activity_that_is_asked_for_behind_unavailable_presence_is_that_of_this_moment() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.online("juliet", "balcony");
        let gone = "<presence type='unavailable'><status>asleep</status></presence>";
        juliet.send(&(gone.to_owned() + &iq("get", "last", "<query xmlns='jabber:iq:last'/>")));
        assert_eq!(payload(&answer(&mut juliet, "last")).content(), "asleep");
    });
}

#[test]
fn what_follows_a_new_password_waits_until_it_is_in_force() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        let form = |password: &str| {
            let query = "<query xmlns='jabber:iq:register'><username>juliet</username>";
            iq("set", password, &format!("{query}<password>{password}</password></query>"))
        };
        let ping = iq("get", "ping", "<ping xmlns='urn:xmpp:ping'/>");
        // Two at once are changed one after the other, not refused.
        juliet.send(&(form("second") + &form("third") + &ping));
        answer(&mut juliet, "ping");
        let answers: Vec<_> = juliet.quiet().iter().map(|stanza| (outcome(stanza), id_of(stanza))).collect();
        assert_eq!(answers, [("result".into(), "second".into()), ("result".into(), "third".into())]);
        let mut another = Client::connect(server.address());
        another.log_in("juliet", "third", "garden");
        assert_ne!("third", server_password("juliet"));
    });
}

fn id_of(stanza: &Element) -> String {
    stanza.attribute("id").unwrap_or_default().to_owned()
}

#[test]
fn the_last_of_many_sets_stays_and_they_are_answered_in_order() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        let sets: String = (0..300).map(|n| iq("set", &n.to_string(), &item(&n.to_string()))).collect();
        juliet.send(&(sets + &iq("get", "get", "<query xmlns='jabber:iq:roster'/>")));
        let roster = answer(&mut juliet, "get");
        let item = payload(&roster).elements().next().expect("an item");
        assert_eq!(item.attribute("name"), Some("299"));
        let answers = juliet.quiet().into_iter().filter(|stanza| stanza.attribute("type") == Some("result"));
        let ids: Vec<String> = answers.map(|stanza| id_of(&stanza)).collect();
        assert_eq!(ids, (0..300).map(|n| n.to_string()).collect::<Vec<_>>());
    });
}

#[test]
fn a_stream_that_is_closed_behind_a_set_gets_the_answer_first() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        juliet.send(&(iq("set", "set", &item("Angelica")) + "</stream:stream>"));
        assert_eq!(outcome(&juliet.expect("iq")), "result");
        juliet.expect_close();
    });
}

#[test]
fn what_a_client_sends_behind_a_set_and_before_it_ends_the_connection_is_handled() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut romeo = server.online("romeo", "orchard");
        let mut juliet = server.login("juliet", "balcony");
        let (writer, held) = stall(server);
        juliet.send(&(iq("set", "set", &item("Angelica")) + &chat("romeo@localhost", "last words")));
        juliet.socket().shutdown(Shutdown::Write).unwrap();
        drop(writer);
        let message = romeo.set_aside_until(|stanza| stanza.name() == "message");
        assert_eq!(message.attribute("id"), Some("last words"));
        held.join().unwrap();
    });
}

/// Sends stanzas on a managed stream while nothing can be written; returns when they are acknowledged.
fn acknowledged(server: &TestServer, client: &mut Client, stanzas: &str, handled: u32) {
    let (writer, held) = stall(server);
    client.send(stanzas);
    std::thread::scope(|scope| {
        // A server that acknowledges too early does it now.
        let mut another = server.login("nurse", "room");
        another.settle();
        scope.spawn(move || drop(writer));
        client.await_handled(handled);
    });
    held.join().unwrap();
}

#[test]
fn sets_are_acknowledged_when_they_are_in_the_directory() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "nurse"]);
        let mut juliet = server.login("juliet", "balcony");
        juliet.enable_sm();
        let private = format!("<query xmlns='{PRIVATE}'><s xmlns='urn:x'>text</s></query>");
        let cases = [
            iq("set", "1", &item("Angelica")),
            iq("set", "2", &private),
            iq("set", "3", "<vCard xmlns='vcard-temp'><NOTE>x</NOTE></vCard>"),
            block("block", "4", "tybalt@localhost"),
        ];
        let there = |server: &TestServer| {
            let directory = &server.server.shared.directory;
            [
                directory.roster_items("juliet").unwrap().len() == 1,
                directory.private("juliet", "s", "urn:x").unwrap().is_some(),
                directory.vcard("juliet").unwrap().is_some(),
                directory.blocked("juliet").unwrap() == ["tybalt@localhost"],
            ]
        };
        for (n, stanza) in cases.iter().enumerate() {
            assert!(!there(server)[n]);
            acknowledged(server, &mut juliet, stanza, n as u32 + 1);
            assert!(there(server)[n], "{stanza} was acknowledged");
        }
    });
}

#[test]
fn a_subscription_request_is_acknowledged_when_it_waits_for_the_contact() {
    on_each_driver(|server| {
        // The contact lives on the other worker.
        let juliet = server.name_at_home_on(0, "juliet");
        let romeo = server.name_at_home_on(1, "romeo");
        server.accounts(&[&juliet, &romeo, "nurse"]);
        let mut client = server.login(&juliet, "balcony");
        client.enable_sm();
        let asks = format!("<presence type='subscribe' to='{romeo}@localhost'/>");
        acknowledged(server, &mut client, &asks, 1);
        let asker = format!("{juliet}@localhost");
        let item = server.server.shared.directory.roster_item(&romeo, &asker).unwrap();
        assert!(item.expect("the request is there").pending_in.is_some());
    });
}

#[test]
fn the_removal_of_a_contact_is_acknowledged_when_the_contact_has_lost_the_subscriptions_too() {
    on_each_driver(|server| {
        let juliet = server.name_at_home_on(0, "juliet");
        let romeo = server.name_at_home_on(1, "romeo");
        server.accounts(&[&juliet, &romeo, "nurse"]);
        befriend(server, &juliet, &romeo);
        let mut client = server.login(&juliet, "balcony");
        client.enable_sm();
        let item = format!("<item jid='{romeo}@localhost' subscription='remove'/>");
        let stanza = iq("set", "1", &format!("<query xmlns='{ROSTER}'>{item}</query>"));
        acknowledged(server, &mut client, &stanza, 1);
        let item =
            server.server.shared.directory.roster_item(&romeo, &format!("{juliet}@localhost")).unwrap();
        assert_eq!(item.expect("an item").subscription, Subscription::None);
    });
}

#[test]
fn a_resumed_stream_hears_of_what_was_written_while_it_was_away() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        let stream = juliet.enable_sm();
        let jid = juliet.jid.clone();
        let (writer, held) = stall(server);
        juliet.send(&iq("set", "1", &item("Angelica")));
        juliet.send(&iq("set", "2", &item("Nurse")));
        // The server has read all of it when it answers another connection that takes the stream over.
        juliet.socket().shutdown(Shutdown::Write).unwrap();
        server.await_metric("sm.detached", 1);
        drop(writer);
        let (_juliet, resumed) = Client::resume(server.address(), "juliet", &jid, &stream, 0);
        assert_eq!((resumed.name(), resumed.attribute("h")), ("resumed", Some("2")));
        let items = server.server.shared.directory.roster_items("juliet").unwrap();
        assert_eq!(items[0].name, "Nurse");
        held.join().unwrap();
    });
}

#[test]
fn nothing_overtakes_what_is_too_much_for_one_event() {
    let config = |config: &mut Config| {
        config.workers = 1;
        config.limits.directed_presence = 1_000;
    };
    on_each_driver_with(config, |server| {
        server.accounts(&["juliet", "romeo"]);
        let mut romeo = server.login("romeo", "orchard");
        let mut juliet = server.login("juliet", "balcony");
        let addressees = (0..600).map(|number| format!("nobody{number}@localhost"));
        for to in addressees.chain([romeo.jid.clone()]) {
            juliet.send(&format!("<presence to='{to}'/>"));
        }
        juliet.settle();
        assert_eq!(romeo.expect("presence").attribute("type"), None);
        // The end of all this presence is one event with 601 envelopes, of which Romeo's is the last.
        juliet.send(&format!(
            "<presence type='unavailable'/><message to='{}' type='chat'><body>after</body></message>",
            romeo.jid
        ));
        assert_eq!(romeo.expect("presence").attribute("type"), Some("unavailable"));
        assert_eq!(text_of(&romeo.expect("message"), "body"), "after");
        let spilled: u64 = server.server.shared.metrics.iter().map(|block| block.effects_spilled.get()).sum();
        assert_eq!(spilled, 1);
    });
}
