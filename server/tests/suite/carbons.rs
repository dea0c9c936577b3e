//! Message carbons (XEP-0280).

use whimbrel_server::xml::Element;

use crate::support::answers::{befriend, outcome, without_any_id};
use crate::support::{Client, TestServer, on_each_driver};

const CARBONS: &str = "urn:xmpp:carbons:2";

fn with_carbons(server: &TestServer, name: &str, resource: &str) -> Client {
    let mut client = server.online(name, resource);
    enable(&mut client);
    client
}

fn enable(client: &mut Client) {
    assert_eq!(outcome(&client.ask("set", None, "<enable xmlns='urn:xmpp:carbons:2'/>")), "result");
}

/// The direction of a carbon and the message in it.
fn unwrap(carbon: &Element) -> Option<(String, Element)> {
    let wrapper = carbon.elements().find(|child| child.namespace() == CARBONS)?;
    let forwarded = wrapper.find("forwarded", "urn:xmpp:forward:0")?;
    let message = forwarded.find("message", "jabber:client")?;
    Some((wrapper.name().to_owned(), message.clone()))
}

#[test]
fn the_other_resources_get_both_sides_of_a_conversation() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut balcony = server.online("juliet", "balcony");
        let mut garden = with_carbons(server, "juliet", "garden");
        let mut silent = server.online("juliet", "silent");
        let mut romeo = with_carbons(server, "romeo", "orchard");
        romeo.send(&format!("<message to='{}' type='chat' id='1'><body>a</body></message>", balcony.jid));
        let original = balcony.set_aside_until(|stanza| stanza.name() == "message");
        assert_eq!(original.attribute("id"), Some("1"));
        let carbon = garden.set_aside_until(|stanza| stanza.name() == "message");
        assert_eq!(carbon.attribute("from"), Some("juliet@localhost"));
        assert_eq!(carbon.attribute("to"), Some(garden.jid.as_str()));
        assert_eq!(carbon.attribute("type"), Some("chat"));
        let (direction, message) = unwrap(&carbon).expect("a carbon");
        assert_eq!(direction, "received");
        assert_eq!(message, original);
        balcony.send(&format!("<message to='{}' type='chat' id='2'><body>b</body></message>", romeo.jid));
        let carbon = garden.set_aside_until(|stanza| stanza.name() == "message");
        assert_eq!(carbon.attribute("from"), Some("juliet@localhost"));
        let (direction, message) = unwrap(&carbon).expect("a carbon");
        assert_eq!(direction, "sent");
        // Each archive has an id of its own for it.
        let got = romeo.set_aside_until(|stanza| stanza.name() == "message");
        assert_eq!(without_any_id(&message).nodes(), without_any_id(&got).nodes());
        assert_ne!(message, got);
        // Nobody who did not ask, and not the sender himself, gets a copy.
        for client in [&mut silent, &mut balcony] {
            romeo.fence(client);
            assert!(client.quiet().iter().all(|stanza| stanza.name() != "message"), "{}", client.jid);
        }
    });
}

#[test]
fn what_is_copied_depends_on_type_and_content() {
    let body = "<body>x</body>";
    let table = [
        ("chat", body.to_owned(), true),
        ("chat", "<active xmlns='http://jabber.org/protocol/chatstates'/>".into(), true),
        ("chat", String::new(), true),
        ("normal", body.into(), true),
        ("normal", "<received xmlns='urn:xmpp:receipts' id='1'/>".into(), true),
        ("normal", "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>".into(), true),
        ("normal", "<subject>x</subject>".into(), false),
        ("headline", body.into(), false),
        ("groupchat", body.into(), false),
        ("error", body.into(), false),
        ("chat", format!("{body}<private xmlns='urn:xmpp:carbons:2'/>"), false),
        ("chat", format!("{body}<no-copy xmlns='urn:xmpp:hints'/>"), false),
        ("chat", format!("{body}<no-store xmlns='urn:xmpp:hints'/>"), true),
        // What looks like a carbon is not copied again.
        ("chat", "<received xmlns='urn:xmpp:carbons:2'/>".into(), false),
    ];
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let balcony = server.online("juliet", "balcony");
        let mut garden = with_carbons(server, "juliet", "garden");
        let mut orchard = server.online("romeo", "orchard");
        let mut home = with_carbons(server, "romeo", "home");
        orchard.settle();
        for (typ, payload, expected) in &table {
            orchard.send(&format!("<message to='{}' type='{typ}' id='m'>{payload}</message>", balcony.jid));
            orchard.fence(&mut garden);
            orchard.fence(&mut home);
            for (client, direction) in [(&mut garden, "received"), (&mut home, "sent")] {
                let copies: Vec<_> =
                    client.quiet().iter().filter_map(unwrap).map(|(direction, _)| direction).collect();
                let wanted: &[&str] = if *expected { &[direction] } else { &[] };
                assert_eq!(copies, wanted, "{typ} {payload} {}", client.jid);
            }
        }
    });
}

#[test]
fn a_message_to_the_bare_jid_reaches_each_resource_once() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut there = Vec::new();
        for (name, priority) in [("a", 5), ("b", 5), ("c", 1), ("d", -1)] {
            let mut client = server.login("juliet", name);
            enable(&mut client);
            client.send(&format!("<presence><priority>{priority}</priority></presence>"));
            client.settle();
            there.push(client);
        }
        let mut romeo = server.login("romeo", "orchard");
        romeo.send("<message to='juliet@localhost' type='chat' id='m'><body>x</body></message>");
        for (client, copied) in there.iter_mut().zip([false, false, true, true]) {
            romeo.fence(client);
            let messages: Vec<_> =
                client.quiet().into_iter().filter(|stanza| stanza.name() == "message").collect();
            assert_eq!(messages.len(), 1, "{}: {messages:?}", client.jid);
            assert_eq!(unwrap(&messages[0]).is_some(), copied, "{}", client.jid);
        }
    });
}

#[test]
fn a_message_to_the_own_account_reaches_each_resource_once() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut sender = with_carbons(server, "juliet", "sender");
        let mut there = Vec::new();
        for (name, priority) in [("a", 5), ("b", 1)] {
            let mut client = server.login("juliet", name);
            enable(&mut client);
            client.send(&format!("<presence><priority>{priority}</priority></presence>"));
            client.settle();
            there.push(client);
        }
        sender.send("<message to='juliet@localhost' type='chat' id='m'><body>x</body></message>");
        for (client, copied) in there.iter_mut().zip([false, true]) {
            sender.fence(client);
            let messages: Vec<_> = client
                .quiet()
                .into_iter()
                .filter(|stanza| stanza.name() == "message")
                .map(|stanza| unwrap(&stanza).map(|(direction, _)| direction))
                .collect();
            assert_eq!(messages, [copied.then(|| "sent".to_owned())], "{}", client.jid);
        }
        sender.settle();
        assert!(sender.quiet().iter().all(|stanza| stanza.name() != "message"));
    });
}

#[test]
fn the_error_for_a_copied_message_is_copied_too() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        befriend(server, "juliet", "romeo");
        let mut balcony = server.online("juliet", "balcony");
        let mut garden = with_carbons(server, "juliet", "garden");
        balcony.send(
            "<message to='romeo@localhost' type='chat' id='m'>\
             <body>x</body><no-store xmlns='urn:xmpp:hints'/></message>",
        );
        let error = balcony.set_aside_until(|stanza| stanza.name() == "message");
        assert_eq!(outcome(&error), "service-unavailable");
        let copies: Vec<_> = (0..2)
            .map(|_| garden.set_aside_until(|stanza| stanza.name() == "message"))
            .map(|carbon| unwrap(&carbon).expect("a carbon"))
            .map(|(direction, message)| (direction, message.attribute("type").unwrap().to_owned()))
            .collect();
        assert_eq!(copies, [("sent".into(), "chat".into()), ("received".into(), "error".into())]);
        // An error that the server gives for what was not copied stays with its sender.
        let private = "<body>x</body><no-copy xmlns='urn:xmpp:hints'/><no-store xmlns='urn:xmpp:hints'/>";
        balcony.send(&format!("<message to='romeo@localhost' type='chat' id='p'>{private}</message>"));
        balcony.set_aside_until(|stanza| stanza.attribute("id") == Some("p"));
        balcony.fence(&mut garden);
        assert_eq!(garden.quiet().iter().filter_map(unwrap).count(), 0);
    });
}

#[test]
fn copies_stop_when_they_are_switched_off_and_a_bounced_copy_goes_nowhere() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let balcony = server.online("juliet", "balcony");
        let mut garden = with_carbons(server, "juliet", "garden");
        let mut romeo = server.login("romeo", "orchard");
        enable(&mut garden);
        let send = format!("<message to='{}' type='chat' id='m'><body>x</body></message>", balcony.jid);
        romeo.send(&send);
        garden.set_aside_until(|stanza| unwrap(stanza).is_some());
        garden.send("<message to='juliet@localhost' type='error'><error type='cancel'/></message>");
        garden.fence(&mut romeo);
        assert_eq!(romeo.quiet(), []);
        for _ in 0..2 {
            let answer = garden.ask("set", None, "<disable xmlns='urn:xmpp:carbons:2'/>");
            assert_eq!(outcome(&answer), "result");
        }
        romeo.send(&send);
        romeo.fence(&mut garden);
        assert_eq!(garden.quiet().iter().filter_map(unwrap).count(), 0);
        assert_eq!(outcome(&garden.ask("get", None, "<enable xmlns='urn:xmpp:carbons:2'/>")), "bad-request");
    });
}
