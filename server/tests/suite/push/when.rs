//! When a device is told.

use whimbrel_push::Kind;
use whimbrel_server::push::settings::Show;

use crate::support::answers::outcome;
use crate::support::managed::chat;
use crate::support::pushes::with_push;
use crate::support::{Client, TestServer};

/// An account with a device, whose client is gone.
fn asleep(server: &TestServer, name: &str, node: &str) {
    let mut client = server.online(name, "phone");
    client.enable_push(node);
    client.send("</stream:stream>");
    client.expect_close();
}

fn say(romeo: &mut Client, to: &str, id: &str) {
    romeo.send(&chat(&format!("{to}@localhost"), id));
}

fn text(id: &str) -> Option<String> {
    Some(format!("text of {id}"))
}

#[test]
fn a_device_without_a_session_is_told_of_a_message() {
    with_push(
        |_| {},
        |server, told| {
            server.accounts(&["juliet", "romeo"]);
            asleep(server, "juliet", "phone");
            let mut romeo = server.online("romeo", "orchard");
            say(&mut romeo, "juliet", "one");
            let heard = told.next();
            assert_eq!((heard.kind, heard.count, heard.high_priority), (Kind::Message, Some(1), true));
            assert_eq!((heard.sender.as_deref(), heard.text.clone()), (Some("romeo@localhost"), text("one")));
            assert_eq!(heard.collapse.len(), 22);
            // What comes within the pause is told together behind it.
            for id in ["two", "three"] {
                say(&mut romeo, "juliet", id);
            }
            let mut last = told.next();
            while last.count != Some(3) {
                last = told.next();
            }
            assert_eq!((last.text, last.collapse), (text("three"), heard.collapse));
        },
    );
}

#[test]
fn a_device_that_was_here_is_told_again_at_once() {
    with_push(
        |config| config.push.pause_seconds = 86_400,
        |server, told| {
            server.accounts(&["juliet", "romeo"]);
            asleep(server, "juliet", "phone");
            let mut romeo = server.online("romeo", "orchard");
            say(&mut romeo, "juliet", "one");
            assert_eq!(told.next().count, Some(1));
            say(&mut romeo, "juliet", "two");
            server.await_metric("push.coalesced", 1);
            let mut juliet = server.login("juliet", "phone");
            juliet.send("<presence/>");
            assert_eq!([juliet.next_message(), juliet.next_message()], ["one", "two"]);
            juliet.send("</stream:stream>");
            juliet.expect_close();
            server.await_metric("log.trims", 2);
            say(&mut romeo, "juliet", "three");
            let heard = told.next();
            assert_eq!((heard.count, heard.text), (Some(1), text("three")));
        },
    );
}

#[test]
fn what_wakes_nobody_is_told_to_nobody() {
    with_push(
        |_| {},
        |server, told| {
            server.accounts(&["juliet", "romeo", "paris", "nurse", "tybalt"]);
            for name in ["juliet", "paris"] {
                asleep(server, name, name);
            }
            let mut paris = server.online("paris", "phone");
            let disable = "<disable xmlns='urn:xmpp:push:0' jid='push.localhost' node='paris'/>";
            assert_eq!(outcome(&paris.ask("set", None, disable)), "result");
            paris.send("</stream:stream>");
            paris.expect_close();
            let mut juliet = server.online("juliet", "phone");
            let block = "<block xmlns='urn:xmpp:blocking'><item jid='tybalt@localhost'/></block>";
            assert_eq!(outcome(&juliet.ask("set", None, block)), "result");
            juliet.send("</stream:stream>");
            juliet.expect_close();
            let (mut romeo, mut tybalt) =
                (server.online("romeo", "orchard"), server.online("tybalt", "street"));
            say(&mut tybalt, "juliet", "blocked");
            // Answered where the message went, and behind it.
            tybalt.ask("get", Some("juliet@localhost"), "<vCard xmlns='vcard-temp'/>");
            say(&mut romeo, "nurse", "no-device");
            say(&mut romeo, "paris", "disabled");
            for inside in [
                "<received xmlns='urn:xmpp:receipts' id='x'/>",
                "<displayed xmlns='urn:xmpp:chat-markers:0' id='x'/>",
                "<composing xmlns='http://jabber.org/protocol/chatstates'/>",
                "<body>x</body><no-store xmlns='urn:xmpp:hints'/>",
                "<finish xmlns='urn:xmpp:jingle-message:0' id='c'/>",
            ] {
                romeo.send(&format!("<message to='juliet@localhost' type='chat'>{inside}</message>"));
            }
            say(&mut romeo, "juliet", "first");
            let heard = told.next();
            assert_eq!((heard.count, heard.text), (Some(1), text("first")), "nothing before it");
            server.await_metric("push.told", 1);
            assert_eq!(told.left(), 0);
        },
    );
}

#[test]
fn a_secret_is_told_without_its_text_and_a_call_at_once() {
    with_push(
        |config| config.push.pause_seconds = 86_400,
        |server, told| {
            server.accounts(&["juliet", "romeo"]);
            asleep(server, "juliet", "phone");
            let mut romeo = server.online("romeo", "orchard");
            romeo.send(
                "<message to='juliet@localhost' type='chat'><encrypted xmlns='urn:xmpp:omemo:2'/>\
                 <body>a secret</body></message>",
            );
            let heard = told.next();
            assert_eq!((heard.kind, heard.text), (Kind::Message, None));
            for call in 0..2 {
                romeo.send(&format!(
                    "<message to='juliet@localhost' type='chat'>\
                     <propose xmlns='urn:xmpp:jingle-message:0' id='{call}'/></message>"
                ));
                let heard = told.next();
                assert_eq!((heard.kind, heard.high_priority), (Kind::Call, true));
                assert!(heard.time_to_live.as_secs() <= 60);
            }
        },
    );
}

#[test]
fn a_session_without_a_connection_is_told_and_resumed_with_the_message() {
    with_push(
        |_| {},
        |server, told| {
            server.accounts(&["juliet", "romeo"]);
            let mut juliet = server.online("juliet", "phone");
            juliet.enable_push("phone");
            let name = juliet.enable_sm();
            let jid = juliet.jid.clone();
            juliet.cut();
            server.await_metric("sm.detached", 1);
            let mut romeo = server.online("romeo", "orchard");
            say(&mut romeo, "juliet", "one");
            assert_eq!(told.next().text, text("one"));
            let (mut juliet, answer) = Client::resume(server.address(), "juliet", &jid, &name, 0);
            assert_eq!(answer.name(), "resumed");
            assert_eq!(juliet.next_message(), "one");
        },
    );
}

#[test]
fn what_a_lost_connection_has_not_acknowledged_is_told() {
    with_push(
        |config| config.push.ack_seconds = 60,
        |server, told| {
            server.accounts(&["juliet", "romeo"]);
            let mut juliet = server.online("juliet", "phone");
            juliet.enable_push("phone");
            juliet.enable_sm();
            let mut romeo = server.online("romeo", "orchard");
            for id in ["one", "two"] {
                say(&mut romeo, "juliet", id);
                assert_eq!(juliet.next_message(), id);
            }
            juliet.cut();
            let heard = told.next();
            assert_eq!((heard.count, heard.text), (Some(2), text("two")));
        },
    );
}

#[test]
fn an_inactive_client_is_told_of_what_it_does_not_acknowledge() {
    with_push(
        |_| {},
        |server, told| {
            server.accounts(&["juliet", "romeo"]);
            let mut juliet = server.online("juliet", "phone");
            juliet.enable_push("phone");
            juliet.enable_sm();
            juliet.send("<inactive xmlns='urn:xmpp:csi:0'/>");
            juliet.settle();
            let mut romeo = server.online("romeo", "orchard");
            say(&mut romeo, "juliet", "read");
            assert_eq!(juliet.next_message(), "read");
            juliet.acknowledge(2);
            juliet.settle();
            server.await_metric("log.trims", 1);
            say(&mut romeo, "juliet", "unread");
            assert_eq!(told.next().text, text("unread"), "and not of the other");
        },
    );
}

#[test]
fn a_device_is_not_told_of_what_another_says_it_has_read() {
    with_push(
        |config| config.push.ack_seconds = 2,
        |server, told| {
            server.accounts(&["juliet", "romeo"]);
            asleep(server, "juliet", "phone");
            // It acknowledges nothing.
            let mut desk = server.online("juliet", "desk");
            desk.enable_sm();
            let mut romeo = server.online("romeo", "orchard");
            say(&mut romeo, "juliet", "read");
            desk.set_aside_until(|stanza| stanza.attribute("id") == Some("read"));
            let position = "<item id='romeo@localhost'><displayed xmlns='urn:xmpp:mds:displayed:0'>\
                            <stanza-id xmlns='urn:xmpp:sid:0' by='juliet@localhost' id='x'/></displayed></item>";
            let publish = format!(
                "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:mds:displayed:0'>\
                 {position}</publish></pubsub>"
            );
            assert_eq!(outcome(&desk.ask("set", None, &publish)), "result");
            server.await_metric("push.waiting", 0);
            say(&mut romeo, "juliet", "unread");
            let heard = told.next();
            assert_eq!((heard.count, heard.text), (Some(1), text("unread")), "and not of the other");
        },
    );
}

#[test]
fn a_device_is_not_told_of_what_another_has_read() {
    with_push(
        |_| {},
        |server, told| {
            server.accounts(&["juliet", "romeo"]);
            asleep(server, "juliet", "phone");
            let mut desk = server.online("juliet", "desk");
            desk.enable_sm();
            let mut romeo = server.online("romeo", "orchard");
            say(&mut romeo, "juliet", "read");
            assert_eq!(desk.next_message(), "read");
            desk.acknowledge(1);
            desk.settle();
            server.await_metric("log.trims", 1);
            say(&mut romeo, "juliet", "unread");
            assert_eq!(told.next().text, text("unread"), "and not of the other");
            assert_eq!(told.left(), 0);
        },
    );
}

#[test]
fn providers_are_told_no_more_than_is_configured() {
    for (show, count, sender, has_text) in [
        (Show::Nothing, None, None, false),
        (Show::Count, Some(1), None, false),
        (Show::Sender, Some(1), Some("romeo@localhost"), false),
        (Show::Text, Some(1), Some("romeo@localhost"), true),
    ] {
        with_push(
            |config| config.push.show = show,
            |server, told| {
                server.accounts(&["juliet", "romeo"]);
                asleep(server, "juliet", "phone");
                say(&mut server.online("romeo", "orchard"), "juliet", "one");
                let heard = told.next();
                assert_eq!((heard.count, heard.sender.as_deref()), (count, sender), "{show:?}");
                assert_eq!(heard.text.is_some(), has_text, "{show:?}");
            },
        );
    }
}

#[test]
fn a_device_is_told_only_so_often_in_an_hour() {
    with_push(
        |config| (config.push.per_device_per_hour, config.push.pause_seconds) = (2, 86_400),
        |server, told| {
            server.accounts(&["juliet", "romeo"]);
            asleep(server, "juliet", "phone");
            let mut romeo = server.online("romeo", "orchard");
            for call in 0..3 {
                romeo.send(&format!(
                    "<message to='juliet@localhost' type='chat'>\
                     <propose xmlns='urn:xmpp:jingle-message:0' id='{call}'/></message>"
                ));
            }
            server.await_metric("refused.push_rate", 1);
            for _ in 0..2 {
                told.next();
            }
            assert_eq!(told.left(), 0);
        },
    );
}
