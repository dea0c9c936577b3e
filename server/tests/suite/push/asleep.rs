//! Sessions whose device is told by push: they sleep where others end, and wake.

use std::cell::Cell;

use whimbrel_server::config::{Config, ResourceConflict};
use whimbrel_server::xml::Element;

use crate::rooms::{PRIVATE, enter, make, make_it, say as say_in};
use crate::support::answers::befriend;
use crate::support::managed::chat;
use crate::support::pushes::{Keys, enable, record, with_push};
use crate::support::{Client, TestServer, drivers};

/// A client whose device is told, with its JID and the name of its stream.
fn phone(server: &TestServer, name: &str) -> (Client, String, String) {
    let mut client = server.online(name, "phone");
    client.enable_push(name);
    let stream = client.enable_sm();
    let jid = client.jid.clone();
    (client, jid, stream)
}

/// The client has lost its connection, and for so long that the session sleeps.
fn fall_asleep(server: &TestServer, client: Client, count: u64) {
    client.cut();
    server.await_metric("sm.asleep", count);
}

fn resume(server: &TestServer, name: &str, jid: &str, stream: &str, h: u32) -> Client {
    let (client, answer) = Client::resume(server.address(), name, jid, stream, h);
    assert_eq!(answer.name(), "resumed", "{answer:?}");
    client
}

fn quickly(config: &mut Config) {
    config.limits.sm_resume_seconds = 1;
}

/// Waits for the presence of juliet's phone.
fn presence_of_juliet(client: &mut Client, typ: Option<&str>) {
    client.set_aside_until(|stanza| {
        stanza.name() == "presence"
            && stanza.attribute("from") == Some("juliet@localhost/phone")
            && stanza.attribute("type") == typ
    });
}

#[test]
fn a_session_whose_device_is_told_sleeps_and_wakes_with_all_that_came() {
    with_push(quickly, |server, told| {
        server.accounts(&["juliet", "romeo", "nurse"]);
        befriend(server, "juliet", "romeo");
        let mut romeo = server.online("romeo", "orchard");
        let (mut juliet, jid, stream) = phone(server, "juliet");
        juliet.send("<presence><show>dnd</show></presence>");
        presence_of_juliet(&mut romeo, None);
        fall_asleep(server, juliet, 1);
        presence_of_juliet(&mut romeo, Some("unavailable"));
        // Nobody waits for days for an answer.
        let ping = romeo.ask("get", Some(&jid), "<ping xmlns='urn:xmpp:ping'/>");
        assert_eq!(ping.attribute("type"), Some("error"), "{ping:?}");
        romeo.send(&chat("juliet@localhost", "one"));
        romeo.send(&chat(&jid, "two"));
        assert_eq!(told.next().text.as_deref(), Some("text of one"));
        romeo.send("<presence><status>waiting</status></presence>");
        romeo.settle();
        romeo.quiet();
        let mut juliet = resume(server, "juliet", &jid, &stream, 0);
        presence_of_juliet(&mut romeo, None);
        juliet.set_aside_until(|stanza| {
            stanza.name() == "presence" && stanza.content_of("status").as_deref() == Some("waiting")
        });
        juliet.settle();
        let mut got = juliet.messages_set_aside();
        got.sort();
        assert_eq!(got, ["one", "two"]);
        server.await_metric("sm.asleep", 0);
        server.await_metric("sm.woken", 1);
    });
}

trait ContentOf {
    fn content_of(&self, child: &str) -> Option<String>;
}

impl ContentOf for Element {
    fn content_of(&self, child: &str) -> Option<String> {
        self.find(child, "jabber:client").map(|child| child.content().to_string())
    }
}

#[test]
fn a_session_without_a_device_or_that_asked_for_less_ends() {
    with_push(quickly, |server, _| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.online("juliet", "desk");
        juliet.enable_push("phone");
        juliet.ask("set", None, "<disable xmlns='urn:xmpp:push:0' jid='push.localhost' node='phone'/>");
        juliet.enable_sm();
        juliet.cut();
        server.await_metric("sm.expired", 1);
        let mut romeo = server.online("romeo", "phone");
        romeo.enable_push("romeo");
        romeo.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        let enabled = romeo.set_aside_until(|element| element.name() == "enabled");
        assert_eq!(enabled.attribute("max"), Some("259200"), "as long as it may");
        server.await_metric("sm.fallen_asleep", 0);
    });
}

#[test]
fn what_another_device_has_acknowledged_does_not_come_again() {
    with_push(quickly, |server, _| {
        server.accounts(&["juliet", "romeo"]);
        let (juliet, jid, stream) = phone(server, "juliet");
        fall_asleep(server, juliet, 1);
        let mut desk = server.online("juliet", "desk");
        desk.enable_sm();
        let mut romeo = server.online("romeo", "orchard");
        romeo.send(&chat("juliet@localhost", "read"));
        assert_eq!(desk.next_message(), "read");
        desk.acknowledge(1);
        desk.settle();
        server.await_metric("log.trims", 1);
        desk.cut();
        server.await_metric("sm.expired", 1);
        romeo.send(&chat("juliet@localhost", "unread"));
        romeo.settle();
        let mut juliet = resume(server, "juliet", &jid, &stream, 0);
        assert_eq!(juliet.next_message(), "unread");
    });
}

#[test]
fn a_session_for_which_too_much_waits_ends() {
    let configure = |config: &mut Config| {
        quickly(config);
        config.push.resume_stanzas = 2;
    };
    with_push(configure, |server, _| {
        server.accounts(&["juliet", "romeo"]);
        let (juliet, jid, stream) = phone(server, "juliet");
        fall_asleep(server, juliet, 1);
        let mut romeo = server.online("romeo", "orchard");
        for n in 0..3 {
            romeo.send(&chat("juliet@localhost", n));
        }
        server.await_metric("refused.sm_asleep", 1);
        let (mut juliet, answer) = Client::resume(server.address(), "juliet", &jid, &stream, 0);
        assert_eq!(answer.name(), "failed");
        juliet.bind("phone");
        juliet.send("<presence/>");
        assert_eq!([juliet.next_message(), juliet.next_message()], ["0", "1"]);
    });
}

#[test]
fn a_session_that_waits_stands_in_nobodys_way() {
    let conflict = Cell::new(ResourceConflict::RefuseNewer);
    let configure = |config: &mut Config| {
        config.auth.resource_conflict = conflict.get();
        config.limits.resources_per_user = 2;
    };
    for how in [ResourceConflict::RefuseNewer, ResourceConflict::Rename] {
        conflict.set(how);
        with_push(configure, |server, _| {
            server.accounts(&["juliet"]);
            let (juliet, jid, _) = phone(server, "juliet");
            juliet.cut();
            server.await_metric("sm.detached", 1);
            let (juliet, again, _) = phone(server, "juliet");
            assert_eq!(jid, again, "the same device");
            juliet.cut();
            server.await_metric("sessions", 1);
            // The same registration under another resource.
            let mut other = server.online("juliet", "phone-anew");
            other.ask("set", None, &enable("juliet", &[]));
            server.await_metric("sm.detached", 0);
            server.await_metric("sessions", 1);
        });
    }
}

#[test]
fn a_stop_and_a_start_keep_sessions_with_their_seats() {
    let keys = Keys::new();
    let configure = |config: &mut Config| {
        keys.configure(config);
        quickly(config);
    };
    for driver in drivers() {
        for workers in [2, 3] {
            let server = TestServer::start(driver, |config| {
                configure(config);
                config.workers = 2;
            });
            let told = record(&server);
            server.accounts(&["juliet", "romeo", "nurse"]);
            befriend(&server, "juliet", "romeo");
            befriend(&server, "juliet", "nurse");
            let mut romeo = server.online("romeo", "orchard");
            make(&mut romeo, "hall", "ro", PRIVATE);
            assert_eq!(make_it(&mut romeo, "hall", "juliet", "member"), "result");
            let (mut juliet, jid, stream) = phone(&server, "juliet");
            enter(&mut juliet, "hall", "jule");
            fall_asleep(&server, juliet, 1);
            // One that is connected when the server stops.
            let (nurse, nurse_jid, nurse_stream) = phone(&server, "nurse");
            romeo.send(&chat("juliet@localhost", "before"));
            assert_eq!(told.next().text.as_deref(), Some("text of before"));
            romeo.settle();
            let server = server.restart(|config| {
                configure(config);
                config.workers = workers;
                config.limits.sm_resume_seconds = 600;
            });
            drop((romeo, nurse));
            server.await_metric("sm.asleep", 1);
            server.await_metric("sm.detached", 2);
            let mut romeo = server.online("romeo", "orchard");
            enter(&mut romeo, "hall", "ro");
            say_in(&mut romeo, "hall", "said");
            romeo.send(&chat("juliet@localhost", "after"));
            romeo.settle();
            let mut juliet = resume(&server, "juliet", &jid, &stream, 0);
            juliet.set_aside_until(|stanza| stanza.attribute("id") == Some("after"));
            let mut got = juliet.messages_set_aside();
            got.retain(|id| !id.is_empty());
            assert!(got.contains(&"before".to_owned()) && got.contains(&"said".to_owned()), "{got:?}");
            let mut nurse = resume(&server, "nurse", &nurse_jid, &nurse_stream, 0);
            nurse.settle();
            // It has been taken: once more there is nothing.
            let data = server.server.config().data.join("sessions.state");
            assert!(!data.exists());
        }
    }
}

#[test]
fn a_crash_ends_sessions_and_loses_nothing() {
    let keys = Keys::new();
    for driver in drivers() {
        let server = TestServer::start(driver, |config| keys.configure(config));
        let told = record(&server);
        server.accounts(&["juliet", "romeo"]);
        let (juliet, jid, stream) = phone(&server, "juliet");
        juliet.cut();
        server.await_metric("sm.detached", 1);
        let mut romeo = server.online("romeo", "orchard");
        romeo.send(&chat("juliet@localhost", "before"));
        assert_eq!(told.next().text.as_deref(), Some("text of before"));
        romeo.settle();
        let server = server.restart_without_keeping(|config| keys.configure(config));
        let (mut juliet, answer) = Client::resume(server.address(), "juliet", &jid, &stream, 0);
        assert_eq!(answer.name(), "failed");
        juliet.bind("phone");
        juliet.send("<presence/>");
        assert_eq!(juliet.next_message(), "before");
    }
}

#[test]
fn what_a_sleeper_has_not_acknowledged_goes_to_another_client() {
    with_push(quickly, |server, _| {
        server.accounts(&["juliet", "romeo"]);
        let (mut juliet, jid, stream) = phone(server, "juliet");
        let mut romeo = server.online("romeo", "orchard");
        for (to, id) in [("juliet@localhost", "bare"), (jid.as_str(), "full"), ("juliet@localhost", "last")] {
            romeo.send(&chat(to, id));
            assert_eq!(juliet.next_message(), id);
        }
        // One that is there when the phone falls asleep, and acknowledges all but the last.
        let mut desk = server.login("juliet", "desk");
        desk.enable_sm();
        desk.send("<presence/>");
        desk.settle();
        let before = desk.quiet();
        assert!(
            !before.iter().any(|stanza| stanza.name() == "message"),
            "they are on their way to the phone"
        );
        let is_stanza = |element: &&Element| ["iq", "message", "presence"].contains(&element.name());
        // With the answer that it waited for.
        let mut handled = u32::try_from(before.iter().filter(is_stanza).count()).unwrap() + 1;
        fall_asleep(server, juliet, 1);
        let mut numbers = Vec::new();
        while numbers.len() < 3 {
            let stanza = desk.next_stanza();
            handled += 1;
            if stanza.name() == "message" {
                numbers.push((stanza.attribute("id").unwrap().to_owned(), handled));
            }
        }
        let ids: Vec<&str> = numbers.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["bare", "full", "last"]);
        // Contacts see the phone as gone, so what they still send it is for whoever is there.
        romeo.send(&chat(&jid, "later"));
        assert_eq!(desk.next_message(), "later");
        desk.acknowledge(numbers[1].1);
        desk.settle();
        server.await_metric("log.trims", 2);
        let mut juliet = resume(server, "juliet", &jid, &stream, 0);
        juliet.settle();
        let mut again = juliet.messages_set_aside();
        again.retain(|id| !id.is_empty());
        assert_eq!(again, [""; 0], "it was acknowledged, or is on its way to the desk");
        desk.send("</stream:stream>");
        assert_eq!([juliet.next_message(), juliet.next_message()], ["last", "later"], "not acknowledged");
    });
}

#[test]
fn copies_of_what_is_said_in_rooms_count_against_what_may_wait() {
    let configure = |config: &mut Config| {
        quickly(config);
        config.limits.detached_bytes = 1 << 20;
        config.push.resume_kib = 64;
    };
    with_push(configure, |server, _| {
        server.accounts(&["juliet", "romeo"]);
        let mut romeo = server.online("romeo", "orchard");
        make(&mut romeo, "hall", "ro", &[]);
        let (mut juliet, jid, stream) = phone(server, "juliet");
        enter(&mut juliet, "hall", "jule");
        fall_asleep(server, juliet, 1);
        let text = "x".repeat(4096);
        let to = crate::rooms::room("hall");
        let mut say = |count: usize| {
            for _ in 0..count {
                romeo.send(&format!("<message type='groupchat' to='{to}'><body>{text}</body></message>"));
            }
            romeo.settle();
        };
        say(8);
        // The sessions that sleep are looked at again within seconds.
        std::thread::sleep(std::time::Duration::from_secs(3));
        assert_eq!((server.metric("refused.sm_asleep"), server.metric("sm.asleep")), (0, 1), "half of it");
        say(10);
        server.await_metric("refused.sm_asleep", 1);
        assert_eq!(server.metric("rooms.seats_lost"), 0, "it has not lost its seat before");
        let (_, answer) = Client::resume(server.address(), "juliet", &jid, &stream, 0);
        assert_eq!(answer.name(), "failed");
    });
}

#[test]
fn a_message_that_waits_and_was_sent_before_counts_once() {
    let configure = |config: &mut Config| {
        quickly(config);
        config.push.resume_stanzas = 20;
    };
    with_push(configure, |server, _| {
        server.accounts(&["juliet", "romeo"]);
        let (mut juliet, jid, stream) = phone(server, "juliet");
        let mut romeo = server.online("romeo", "orchard");
        for n in 0..12 {
            romeo.send(&chat("juliet@localhost", n));
            assert_eq!(juliet.next_message(), n.to_string());
        }
        fall_asleep(server, juliet, 1);
        std::thread::sleep(std::time::Duration::from_secs(3));
        assert_eq!(server.metric("refused.sm_asleep"), 0);
        let mut juliet = resume(server, "juliet", &jid, &stream, 0);
        assert_eq!(juliet.next_message(), "0");
    });
}
