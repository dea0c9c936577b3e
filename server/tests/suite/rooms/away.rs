//! Sessions without a connection in rooms where much is said: what they keep of it, and what they have when they come back.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use whimbrel_server::config::Config;
use whimbrel_server::xml::Element;

use super::{PRIVATE, admin, codes, enter, make, make_it, message, room, until};
use crate::support::answers::outcome;
use crate::support::managed::chat;
use crate::support::program::{Program, Start};
use crate::support::{Client, PATIENCE, TestServer, on_each_driver_with};

/// Bytes of a body.
const BODY: usize = 1000;

/// A room without an archive.
const NO_ARCHIVE: &[(&str, &str)] = &[("enablearchiving", "0")];

fn quickly(config: &mut Config) {
    config.rooms.occupant_messages_per_second = 10_000;
    config.rooms.room_messages_per_second = 10_000;
}

fn say_long(client: &mut Client, name: &str, id: &str) {
    let (to, body) = (room(name), "x".repeat(BODY));
    client.send(&format!("<message type='groupchat' to='{to}' id='{id}'><body>{id} {body}</body></message>"));
}

/// Says so many things in a room, and waits until they are said; their ids.
fn talk(client: &mut Client, name: &str, prefix: &str, count: usize) -> Vec<String> {
    let ids: Vec<String> = (0..count).map(|n| format!("{prefix}{n}")).collect();
    ids.iter().for_each(|id| say_long(client, name, id));
    message(client, ids.last().unwrap());
    ids
}

/// A session of romeo that has lost its connection in the hall.
struct Away {
    jid: String,
    stream: String,
    /// Stanzas that it has handled.
    handled: u32,
}

impl Away {
    fn from_hall(server: &TestServer, mut romeo: Client) -> Away {
        let stream = romeo.enable_sm();
        let handled = u32::try_from(enter(&mut romeo, "hall", "romeo").len()).unwrap();
        Away::of(server, romeo, stream, handled)
    }

    fn of(server: &TestServer, romeo: Client, stream: String, handled: u32) -> Away {
        let away = Away { jid: romeo.jid.clone(), stream, handled };
        romeo.cut();
        server.await_metric("sm.detached", 1);
        away
    }

    fn resume(&self, address: std::net::SocketAddr) -> (Client, Element) {
        Client::resume(address, "romeo", &self.jid, &self.stream, self.handled)
    }

    fn comes_back(&self, server: &TestServer) -> Client {
        let (romeo, answer) = self.resume(server.address());
        assert_eq!(answer.name(), "resumed", "{answer:?}");
        romeo
    }
}

/// The next so many messages with a body.
fn next_said(client: &mut Client, count: usize) -> Vec<Element> {
    let is_said = |stanza: &Element| stanza.find("body", "jabber:client").is_some();
    (0..count).map(|_| until(client, is_said)).collect()
}

fn ids(messages: &[Element]) -> Vec<&str> {
    messages.iter().map(|message| message.attribute("id").unwrap()).collect()
}

/// As it reached the other one.
fn as_for(message: &Element, other: &str) -> String {
    let text = String::from_utf8(message.to_bytes()).unwrap();
    let to = message.attribute("to").unwrap();
    text.replace(to, other)
}

#[test]
fn a_session_that_was_away_while_much_was_said_hears_all_of_it() {
    on_each_driver_with(quickly, |server| {
        let names = ["hall", "den", "shed"];
        let [mut juliet, mut romeo, mut nurse] = super::three(server);
        for name in names {
            make(&mut juliet, name, "jule", &[]);
            enter(&mut nurse, name, "nurse");
        }
        let stream = romeo.enable_sm();
        let handled: usize = names.iter().map(|name| enter(&mut romeo, name, "romeo").len()).sum();
        let away = Away::of(server, romeo, stream, u32::try_from(handled).unwrap());
        let mut said = Vec::new();
        for n in 0..300 {
            say_long(&mut juliet, names[n % 3], &format!("m{n}"));
            said.push(format!("m{n}"));
            // Rooms may live on other workers than he: what juliet says has an order in each of them.
            message(&mut juliet, &format!("m{n}"));
            if n % 50 == 49 {
                juliet.send(&chat(&away.jid, format!("c{n}")));
                juliet.settle();
                said.push(format!("c{n}"));
            }
        }
        server.await_at_least("sm.references", 280);
        assert!(server.metric("memory.detached") < 32 * 1024, "{}", server.metric("memory.detached"));
        let mut romeo = away.comes_back(server);
        let heard = next_said(&mut romeo, said.len());
        let of = |name: &str, all: &[Element]| -> Vec<String> {
            let prefix = format!("{}/", room(name));
            let of_room = all.iter().filter(|one| one.attribute("from").unwrap().starts_with(&prefix));
            of_room.map(|one| as_for(one, "nurse@localhost/r")).collect()
        };
        let live = next_said(&mut nurse, 300);
        for name in names {
            assert_eq!(of(name, &heard), of(name, &live), "as everybody has heard it");
        }
        let mut once: HashMap<&str, usize> = HashMap::new();
        ids(&heard).into_iter().for_each(|id| *once.entry(id).or_default() += 1);
        assert!(said.iter().all(|id| once.get(id.as_str()) == Some(&1)), "exactly once");
        assert!(server.metric("sm.recalled") >= 280);
        // It goes on, and what it acknowledges does not come again.
        romeo.acknowledge(away.handled + u32::try_from(heard.len()).unwrap());
        talk(&mut juliet, "hall", "later", 1);
        assert_eq!(ids(&next_said(&mut romeo, 1)), ["later0"]);
        assert_eq!((server.metric("rooms.seats_lost"), server.metric("refused.sm_unacked")), (0, 0));
    });
}

#[test]
fn a_session_that_loses_its_connection_again_loses_nothing() {
    on_each_driver_with(quickly, |server| {
        let [mut juliet, romeo, _] = super::three(server);
        make(&mut juliet, "hall", "jule", &[]);
        let mut away = Away::from_hall(server, romeo);
        let said = talk(&mut juliet, "hall", "m", 100);
        let mut romeo = away.comes_back(server);
        assert_eq!(ids(&next_said(&mut romeo, 100)), said);
        // Of the hundred it has acknowledged forty; all others are out of the archive once more.
        romeo.acknowledge(away.handled + 40);
        romeo.settle();
        away.handled += 40;
        romeo.cut();
        server.await_metric("sm.detached", 1);
        let later = talk(&mut juliet, "hall", "n", 50);
        let mut romeo = away.comes_back(server);
        let heard = next_said(&mut romeo, 110);
        assert_eq!(ids(&heard[..60]), said[40..]);
        assert_eq!(ids(&heard[60..]), later);
        assert_eq!(server.metric("refused.sm_unacked"), 0);
    });
}

#[test]
fn what_was_taken_back_meanwhile_is_not_read_again() {
    on_each_driver_with(quickly, |server| {
        let [mut juliet, romeo, _] = super::three(server);
        make(&mut juliet, "hall", "jule", &[]);
        let away = Away::from_hall(server, romeo);
        let mut said = talk(&mut juliet, "hall", "m", 60);
        let given = |message: &Element| {
            let id = message.find("stanza-id", "urn:xmpp:sid:0").unwrap();
            id.attribute("id").unwrap().to_owned()
        };
        say_long(&mut juliet, "hall", "regretted");
        let regretted = given(&message(&mut juliet, "regretted"));
        said.extend(talk(&mut juliet, "hall", "n", 60));
        juliet.send(&format!(
            "<message type='groupchat' to='{}' id='r'><retract xmlns='urn:xmpp:message-retract:1' id='{regretted}'/>\
             <store xmlns='urn:xmpp:hints'/></message>",
            room("hall")
        ));
        message(&mut juliet, "r");
        let mut romeo = away.comes_back(server);
        let heard = next_said(&mut romeo, 120);
        assert_eq!(ids(&heard), said);
        let retraction = until(&mut romeo, |stanza| stanza.name() == "message");
        let retract = retraction.find("retract", "urn:xmpp:message-retract:1").unwrap();
        assert_eq!(retract.attribute("id"), Some(&*regretted));
    });
}

#[test]
fn who_is_turned_out_meanwhile_reads_nothing_of_it() {
    on_each_driver_with(quickly, |server| {
        let [mut juliet, romeo, _] = super::three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
        let away = Away::from_hall(server, romeo);
        talk(&mut juliet, "hall", "m", 60);
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "none"), "result");
        let mut romeo = away.comes_back(server);
        let out = until(&mut romeo, |stanza| codes(stanza).contains(&321));
        assert_eq!(out.attribute("type"), Some("unavailable"));
        romeo.settle();
        let messages = romeo.take_aside(|stanza| stanza.find("body", "jabber:client").is_some());
        assert_eq!(messages, []);
        assert_eq!(server.metric("sm.recalled"), 0);
    });
}

#[test]
fn more_than_may_wait_for_a_session_ends_its_seat() {
    for fields in [&[][..], NO_ARCHIVE] {
        on_each_driver_with(quickly, |server| {
            let [mut juliet, romeo, _] = super::three(server);
            make(&mut juliet, "hall", "jule", fields);
            let away = Away::from_hall(server, romeo);
            // Half of limits.sm_unacked_bytes.
            talk(&mut juliet, "hall", "m", 600);
            server.await_metric("rooms.seats_lost", 1);
            let mut romeo = away.comes_back(server);
            let out = until(&mut romeo, |stanza| codes(stanza).contains(&333));
            assert_eq!(out.attribute("type"), Some("unavailable"));
            let role = admin(&mut juliet, "get", "hall", "<item role='participant'/>");
            assert_eq!(outcome(&role), "result");
        });
    }
}

#[test]
fn what_a_session_refers_to_goes_along_with_an_upgrade() {
    let fast = "[rooms]\noccupant_messages_per_second = 10000\nroom_messages_per_second = 10000\n";
    let start = Start::new(&["juliet", "romeo"]).with_config(fast);
    let program = start.run();
    let mut juliet = program.login("juliet", "r");
    make(&mut juliet, "hall", "jule", PRIVATE);
    assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
    let mut romeo = program.login("romeo", "r");
    let stream = romeo.enable_sm();
    let handled = u32::try_from(enter(&mut romeo, "hall", "romeo").len()).unwrap();
    let away = Away { jid: romeo.jid.clone(), stream, handled };
    romeo.cut();
    let mut said = talk(&mut juliet, "hall", "m", 60);
    for round in 0..2 {
        let upgraded = program.control(&serde_json::json!({ "request": "upgrade" }));
        assert_eq!(upgraded["ok"], true, "{upgraded}");
        said.extend(talk(&mut juliet, "hall", &format!("n{round}-"), 20));
    }
    let (mut romeo, answer) = away.resume(program.address());
    assert_eq!(answer.name(), "resumed", "{answer:?}");
    assert_eq!(ids(&next_said(&mut romeo, 100)), said);
    assert!(program.figures()["sm.recalled"] > 80);
    program.stop();
}

/// What the program is configured with beside: quickly, and nobody but moderators is shown to others.
const FAST: &str =
    "[rooms]\noccupant_messages_per_second = 10000\nroom_messages_per_second = 10000\npresence_max = 1\n";

/// Clients of the program that have lost their connections in the hall.
fn away_from(program: &Program, names: &[&str]) -> Vec<(String, Away)> {
    let mut away = Vec::new();
    for name in names {
        let mut client = program.login(name, "r");
        let stream = client.enable_sm();
        let handled = u32::try_from(enter(&mut client, "hall", name).len()).unwrap();
        away.push(((*name).to_owned(), Away { jid: client.jid.clone(), stream, handled }));
        client.cut();
    }
    await_figure(program, "sm.detached", |detached| detached == names.len() as u64);
    away
}

fn resume(program: &Program, name: &str, away: &Away) -> Client {
    let (client, answer) = Client::resume(program.address(), name, &away.jid, &away.stream, away.handled);
    assert_eq!(answer.name(), "resumed", "{name}: {answer:?}");
    client
}

fn await_figure(program: &Program, name: &str, is_wanted: impl Fn(u64) -> bool) {
    let since = Instant::now();
    while !is_wanted(program.figures()[name]) {
        assert!(since.elapsed() < PATIENCE, "{name} stays {}", program.figures()[name]);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_room_without_an_archive_has_its_texts_once_in_the_log() {
    let few_are_shown = |config: &mut Config| {
        quickly(config);
        config.rooms.presence_max = 1;
    };
    on_each_driver_with(few_are_shown, |server| {
        let [mut juliet, romeo, mut nurse] = super::three(server);
        make(&mut juliet, "hall", "jule", NO_ARCHIVE);
        let away = Away::from_hall(server, romeo);
        let stream = nurse.enable_sm();
        let handled = u32::try_from(enter(&mut nurse, "hall", "nurse").len()).unwrap();
        let other = Away { jid: nurse.jid.clone(), stream, handled };
        nurse.cut();
        server.await_metric("sm.detached", 2);
        let before = server.metric("log.bytes");
        let mut said = talk(&mut juliet, "hall", "m", 200);
        let text = format!("<message type='groupchat' to='{}' id='hidden'><body>hidden</body>", room("hall"));
        juliet.send(&format!("{text}<no-store xmlns='urn:xmpp:hints'/></message>"));
        message(&mut juliet, "hidden");
        said.push("hidden".into());
        said.extend(talk(&mut juliet, "hall", "n", 50));
        server.await_at_least("sm.references", 2 * 230);
        assert!(server.metric("memory.detached") < 48 * 1024, "{}", server.metric("memory.detached"));
        // Romeo and the nurse may have one home or two.
        let (texts, bytes) = (server.metric("sm.spooled"), server.metric("log.bytes") - before);
        let homes = if texts < 250 { 1 } else { 2 };
        assert!((230 * homes..=250 * homes).contains(&texts), "{texts} texts on {homes} homes");
        let expected = 250 * homes * (BODY as u64 + 400);
        assert!(bytes < expected, "{bytes} bytes in the log, not {expected} at most");
        let mut romeo = away.comes_back(server);
        let heard = next_said(&mut romeo, said.len());
        assert_eq!(ids(&heard), said);
        let delays = heard.iter().filter_map(|message| message.find("delay", "urn:xmpp:delay"));
        let is_of_hall = |delay: &&Element| delay.attribute("from") == Some(&*room("hall"));
        assert!(delays.filter(is_of_hall).count() >= 230, "it says when it was said");
        // It loses its connection again before it has acknowledged all.
        romeo.acknowledge(away.handled + 100);
        romeo.settle();
        romeo.cut();
        server.await_metric("sm.detached", 2);
        let again = Away { handled: away.handled + 100, ..away };
        let mut romeo = again.comes_back(server);
        assert_eq!(ids(&next_said(&mut romeo, said.len() - 100)), said[100..]);
        romeo.acknowledge(again.handled + u32::try_from(said.len()).unwrap() - 100);
        romeo.settle();
        let mut nurse = Client::resume(server.address(), "nurse", &other.jid, &other.stream, other.handled).0;
        assert_eq!(ids(&next_said(&mut nurse, said.len())), said);
        assert!(server.metric("log.pending") >= 230, "the nurse has acknowledged nothing");
        nurse.acknowledge(other.handled + u32::try_from(said.len()).unwrap());
        nurse.settle();
        server.await_metric("log.pending", 0);
        assert_eq!((server.metric("rooms.seats_lost"), server.metric("refused.sm_unacked")), (0, 0));
    });
}

/// Sessions of romeo in rooms of their own, without a connection; what was said in each, one room after the other.
fn sessions_in_rooms(
    server: &TestServer,
    juliet: &mut Client,
    names: &[&str],
    count: usize,
) -> Vec<(Away, Vec<String>)> {
    let mut sessions = Vec::new();
    for name in names {
        make(juliet, name, "jule", NO_ARCHIVE);
        // Without presence, of which its others would hear.
        let mut romeo = server.login("romeo", name);
        let stream = romeo.enable_sm();
        let handled = u32::try_from(enter(&mut romeo, name, "romeo").len()).unwrap();
        sessions.push(Away { jid: romeo.jid.clone(), stream, handled });
        romeo.cut();
        server.await_metric("sm.detached", sessions.len() as u64);
    }
    let said = names.iter().map(|name| talk(juliet, name, &format!("{name}-"), count));
    sessions.into_iter().zip(said.collect::<Vec<_>>()).collect()
}

#[test]
fn a_session_that_sleeps_holds_no_more_than_its_own() {
    on_each_driver_with(quickly, |server| {
        let [mut juliet, _, _] = super::three(server);
        let sessions = sessions_in_rooms(server, &mut juliet, &["east", "west"], 60);
        let [(older, of_east), (newer, of_west)] = &sessions[..] else { unreachable!("two rooms") };
        let mut romeo = newer.comes_back(server);
        assert_eq!(ids(&next_said(&mut romeo, 60)), *of_west);
        let pending = server.metric("log.pending");
        assert!(pending > 90, "{pending} wait");
        romeo.acknowledge(newer.handled + 60);
        // What the other refers to is older.
        server.await_metric("log.pending", pending / 2);
        let mut romeo = older.comes_back(server);
        assert_eq!(ids(&next_said(&mut romeo, 60)), *of_east);
        romeo.acknowledge(older.handled + 60);
        romeo.settle();
        server.await_metric("log.pending", 0);
    });
}

#[test]
fn a_spool_has_a_quarter_of_what_a_mailbox_may_have() {
    let small = |config: &mut Config| {
        quickly(config);
        config.limits.offline_messages = 100;
    };
    on_each_driver_with(small, |server| {
        let [mut juliet, _, _] = super::three(server);
        let sessions = sessions_in_rooms(server, &mut juliet, &["hall"], 60);
        server.await_metric("log.pending", 25);
        // What is beyond is kept as copies.
        let (away, said) = &sessions[0];
        assert_eq!(ids(&next_said(&mut away.comes_back(server), 60)), *said);
        assert_eq!(server.metric("rooms.seats_lost"), 0);
    });
}

#[test]
fn a_session_that_nobody_resumes_leaves_nothing_in_the_log() {
    let soon = |config: &mut Config| {
        quickly(config);
        config.limits.sm_resume_seconds = 2;
    };
    on_each_driver_with(soon, |server| {
        let [mut juliet, romeo, _] = super::three(server);
        make(&mut juliet, "hall", "jule", NO_ARCHIVE);
        Away::from_hall(server, romeo);
        talk(&mut juliet, "hall", "m", 100);
        server.await_metric("sm.expired", 1);
        server.await_metric("log.pending", 0);
        assert!(server.metric("sm.spooled") > 0);
        let mut romeo = server.online("romeo", "r");
        let heard = romeo.quiet();
        let is_said = |stanza: &&Element| stanza.find("body", "jabber:client").is_some();
        assert_eq!(heard.iter().filter(is_said).count(), 0, "it is not in the room any more");
    });
}

#[test]
fn what_a_crash_leaves_of_sessions_goes_from_the_log() {
    let start = Start::new(&["juliet", "romeo"]).with_config(FAST);
    let program = start.run();
    let mut juliet = program.login("juliet", "r");
    make(&mut juliet, "hall", "jule", NO_ARCHIVE);
    away_from(&program, &["romeo"]);
    talk(&mut juliet, "hall", "m", 100);
    await_figure(&program, "log.pending", |pending| pending > 80);
    program.kill();
    let program = start.run();
    await_figure(&program, "log.pending", |pending| pending == 0);
    let mut romeo = program.login("romeo", "r");
    romeo.send("<presence/>");
    let heard = romeo.quiet();
    assert!(heard.iter().all(|stanza| stanza.name() != "message"), "{heard:?}");
    program.stop();
}

#[test]
fn references_go_along_to_other_numbers_of_workers() {
    const NAMES: [&str; 4] = ["romeo", "nurse", "mercutio", "tybalt"];
    for (fields, marked) in [(&[][..], "sm.recalled"), (NO_ARCHIVE, "sm.spooled")] {
        let start = Start::new(&["juliet", "romeo", "nurse", "mercutio", "tybalt"]).with_config(FAST);
        let program = start.run();
        let mut juliet = program.login("juliet", "r");
        make(&mut juliet, "hall", "jule", fields);
        let mut away = away_from(&program, &NAMES);
        let mut said = talk(&mut juliet, "hall", "m", 60);
        let mut workers = 2;
        for next in [3, 1, 2] {
            let config = std::fs::read_to_string(start.config()).unwrap();
            let changed =
                config.replace(&format!("\nworkers = {workers}\n"), &format!("\nworkers = {next}\n"));
            assert_ne!(config, changed);
            std::fs::write(start.config(), changed).unwrap();
            let upgraded = program.control(&serde_json::json!({ "request": "upgrade" }));
            assert_eq!(upgraded["ok"], true, "{upgraded}");
            workers = next;
            said.extend(talk(&mut juliet, "hall", &format!("w{workers}-"), 20));
            if workers == 1 {
                // One comes back in between, acknowledges a part, and goes again.
                let (name, one) = &mut away[0];
                let mut client = resume(&program, name, one);
                assert_eq!(ids(&next_said(&mut client, said.len())), said, "{name}");
                one.handled += 30;
                client.acknowledge(one.handled);
                client.settle();
                client.cut();
            }
        }
        for (at, (name, one)) in away.iter().enumerate() {
            let mut client = resume(&program, name, one);
            let expected = if at == 0 { &said[30..] } else { &said[..] };
            assert_eq!(ids(&next_said(&mut client, expected.len())), expected, "{name}, each once, in order");
            talk(&mut juliet, "hall", &format!("to-{name}-"), 1);
            let next = next_said(&mut client, 1);
            assert_eq!(ids(&next), [format!("to-{name}-0")], "nothing comes again");
            client.cut();
            said.push(format!("to-{name}-0"));
        }
        assert!(program.figures()[marked] > 0, "{marked}");
        program.stop();
    }
}
