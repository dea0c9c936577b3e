//! Where messages go (RFC 6121 §8.5), and that what clients put in them arrives as it was.

use whimbrel_server::xml::Element;

use crate::support::answers::{befriend, outcome, without_ids};
use crate::support::{Client, on_each_driver};

const TYPES: [&str; 5] = ["normal", "chat", "groupchat", "headline", "error"];

/// Sends a message and says who got it: resources, or the error that came back, or nothing.
fn fate(juliet: &mut Client, there: &mut [Client], to: &str, typ: &str) -> String {
    let account = to.split('/').next().expect("a first piece").to_owned();
    let ask = "<vCard xmlns='vcard-temp'/>";
    juliet.send(&format!("<message to='{to}' type='{typ}' id='m'><body>hi</body></message>"));
    // The answer comes from the recipient's home after everything that the message has caused there.
    juliet.ask("get", Some(&account), ask);
    let ours = |stanza: &Element| stanza.name() == "message" && stanza.attribute("id") == Some("m");
    let mut got = Vec::new();
    for client in there.iter_mut() {
        juliet.fence(client);
        let copies = client.quiet().iter().filter(|stanza| ours(stanza)).count();
        assert!(copies <= 1, "{} got {copies} copies", client.jid);
        if copies == 1 {
            got.push(client.jid.split_once('/').expect("a full JID").1.to_owned());
        }
    }
    got.sort();
    got.extend(juliet.quiet().iter().filter(|stanza| ours(stanza)).map(outcome));
    got.join(" ")
}

#[test]
fn a_stanza_is_from_the_resource_that_sent_it_whatever_it_says() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.online("juliet", "balcony");
        let _garden = server.online("juliet", "garden");
        let mut romeo = server.online("romeo", "orchard");
        for claimed in
            ["juliet@localhost/garden", "juliet@localhost/gone", "JULIET@localhost", "juliet@localhost"]
        {
            juliet.send(&format!("<message to='{}' from='{claimed}'><body>hi</body></message>", romeo.jid));
            assert_eq!(romeo.expect("message").attribute("from"), Some(juliet.jid.as_str()), "{claimed}");
        }
    });
}

/// Table 1 of RFC 6121 §8.5.4. Anything that comes later is in the tests of offline delivery; where the RFC leaves the choice between silence and an error, contacts
/// get the error, so that they know.
#[test]
fn a_message_goes_where_its_type_and_address_say() {
    const E: &str = "service-unavailable";
    const LATER: &str = "later";
    // Resources with priorities; address; fate of normal, chat, groupchat, headline, error.
    type Row = (&'static [(&'static str, i8)], &'static str, [&'static str; 5]);
    const NEGATIVE: &[(&str, i8)] = &[("cellar", -1)];
    const ONE: &[(&str, i8)] = &[("orchard", 0)];
    const SEVERAL: &[(&str, i8)] = &[("a", 5), ("b", 5), ("c", 1), ("d", -1)];
    let table: &[Row] = &[
        (&[], "nobody@localhost", ["", "", E, "", ""]),
        (&[], "nobody@localhost/x", [""; 5]),
        (&[], "romeo@localhost", [LATER, LATER, E, "", ""]),
        (&[], "romeo@localhost/x", [E, LATER, E, "", ""]),
        (NEGATIVE, "romeo@localhost", [LATER, LATER, E, "", ""]),
        (NEGATIVE, "romeo@localhost/cellar", ["cellar"; 5]),
        (NEGATIVE, "romeo@localhost/x", [E, LATER, E, "", ""]),
        (ONE, "romeo@localhost", ["orchard", "orchard", E, "orchard", ""]),
        (ONE, "romeo@localhost/orchard", ["orchard"; 5]),
        (ONE, "romeo@localhost/x", [E, "orchard", E, "", ""]),
        (SEVERAL, "romeo@localhost", ["a b", "a b", E, "a b c", ""]),
        (SEVERAL, "romeo@localhost/c", ["c"; 5]),
        (SEVERAL, "romeo@localhost/d", ["d"; 5]),
        (SEVERAL, "romeo@localhost/x", [E, "a b", E, "", ""]),
    ];
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        // Strangers hear nothing, as from nobody: see strangers.rs.
        befriend(server, "juliet", "romeo");
        let mut juliet = server.login("juliet", "balcony");
        let mut before: &[(&str, i8)] = &[];
        let mut there: Vec<Client> = Vec::new();
        for &(resources, to, expected) in table {
            if resources != before {
                for mut client in there.drain(..) {
                    client.send("</stream:stream>");
                    while !matches!(client.next(), crate::support::Said::Ended) {}
                }
                for &(name, priority) in resources {
                    let mut client = server.login("romeo", name);
                    client.send(&format!("<presence><priority>{priority}</priority></presence>"));
                    // What was kept comes at the end of the iteration in which the presence came.
                    client.settle();
                    client.settle();
                    client.quiet();
                    there.push(client);
                }
                before = resources;
            }
            for (typ, expected) in TYPES.into_iter().zip(expected) {
                let kept = server.metric("log.pending");
                let mut found = fate(&mut juliet, &mut there, to, typ);
                if server.metric("log.pending") > kept {
                    found += LATER;
                }
                assert_eq!(found, expected, "{typ} to {to} with {resources:?}");
            }
        }
    });
}

#[test]
fn a_message_to_the_server_or_to_another_one_gets_an_error() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        for (to, expected) in [
            ("localhost", "service-unavailable"),
            ("localhost/x", "service-unavailable"),
            ("other.example", "remote-server-not-found"),
            ("romeo@other.example", "remote-server-not-found"),
        ] {
            juliet.send(&format!("<message to='{to}' type='chat' id='m'><body>hi</body></message>"));
            assert_eq!(outcome(&juliet.expect("message")), expected, "{to}");
            juliet.send(&format!("<message to='{to}' type='error' id='m'/>"));
            juliet.settle();
            assert_eq!(juliet.quiet(), [], "an error to {to} gets no answer");
        }
    });
}

#[test]
fn a_message_without_an_address_goes_to_the_own_account() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut balcony = server.online("juliet", "balcony");
        let mut garden = server.login("juliet", "garden");
        garden.send("<message type='chat' id='note'><body>to me</body></message>");
        assert_eq!(balcony.expect("message").attribute("id"), Some("note"));
    });
}

#[test]
fn what_clients_say_to_each_other_arrives_as_it_was_sent() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let mut romeo = server.login("romeo", "orchard");
        for payload in [
            "<composing xmlns='http://jabber.org/protocol/chatstates'/>",
            "<received xmlns='urn:xmpp:receipts' id='m'/>",
            "<request xmlns='urn:xmpp:receipts'/><body>confirm</body>",
            "<markable xmlns='urn:xmpp:chat-markers:0'/>",
            "<displayed xmlns='urn:xmpp:chat-markers:0' id='m'/>",
            "<no-store xmlns='urn:xmpp:hints'/><no-copy xmlns='urn:xmpp:hints'/><body>hush</body>",
            "<private xmlns='urn:xmpp:carbons:2'/><body>hush</body>",
        ] {
            romeo.send(&format!("<message to='{}' type='chat'>{payload}</message>", juliet.jid));
            let got = juliet.expect("message");
            let sent = Element::parse(format!("<message>{payload}</message>").as_bytes()).unwrap();
            assert_eq!(without_ids(&got, "juliet@localhost").nodes(), sent.nodes(), "{payload}");
        }
    });
}

/// XEP-0359 §3: an id is worth something because only the one whom it names gives it.
#[test]
fn forged_stanza_ids_are_taken_out_and_all_others_arrive() {
    let id = |by: &str| format!("<stanza-id xmlns='urn:xmpp:sid:0' by='{by}' id='1'/>");
    let inside = |by: &str| format!("<forwarded xmlns='urn:xmpp:forward:0'>{}</forwarded>", id(by));
    let table = [
        (id("localhost"), false),
        (id("juliet@localhost"), false),
        (id("Juliet@LOCALHOST"), false),
        (id("romeo@localhost"), false),
        (id("room@rooms.example"), true),
        (id("juliet@localhost/balcony"), true),
        (id("tybalt@localhost"), true),
        (inside("juliet@localhost"), true),
        ("<origin-id xmlns='urn:xmpp:sid:0' id='1'/>".to_owned(), true),
        ("<stanza-id xmlns='urn:xmpp:sid:0' id='1'/>".to_owned(), true),
    ];
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let mut garden = server.login("juliet", "garden");
        garden.ask("set", None, "<enable xmlns='urn:xmpp:carbons:2'/>");
        let mut romeo = server.login("romeo", "orchard");
        for (payload, stays) in &table {
            let message = format!("{payload}<body>hi</body>{payload}");
            romeo.send(&format!("<message to='{}' type='chat'>{message}</message>", juliet.jid));
            let expected = if *stays { message } else { "<body>hi</body>".to_owned() };
            let expected = Element::parse(format!("<message>{expected}</message>").as_bytes()).unwrap();
            let got = juliet.expect("message");
            assert!(got.elements().any(|child| child.attribute("id").is_some_and(|id| id.len() == 13)));
            assert_eq!(without_ids(&got, "juliet@localhost").nodes(), expected.nodes(), "{payload}");
            let copy = garden.expect("message");
            let copy = copy
                .find("received", "urn:xmpp:carbons:2")
                .and_then(|c| c.find("forwarded", "urn:xmpp:forward:0"));
            let copy = copy.and_then(|c| c.find("message", "jabber:client")).expect("a carbon");
            let copy = without_ids(copy, "juliet@localhost");
            assert_eq!(copy.nodes(), expected.nodes(), "{payload} in a carbon");
        }
    });
}
