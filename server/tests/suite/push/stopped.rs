//! Sessions that can be resumed, over a stop and a start: nobody hears that they are gone, and nothing is both refused and delivered.

use std::path::PathBuf;

use whimbrel_server::config::{Config, DriverChoice};
use whimbrel_server::xml::Element;

use crate::rooms::{PRIVATE, enter, make, make_it, message, presences, room, until};
use crate::support::answers::befriend;
use crate::support::managed::chat;
use crate::support::pushes::Keys;
use crate::support::{Client, Said, TestServer, drivers};

/// A client that is online and whose session can be resumed, with the name of its stream.
fn resumable(server: &TestServer, name: &str, resource: &str) -> (Client, String) {
    let mut client = server.login(name, resource);
    let stream = client.enable_sm();
    client.send("<presence/>");
    client.settle();
    client.quiet();
    (client, stream)
}

/// Goes on with a stream of before the stop, having handled so much.
fn resume(server: &TestServer, name: &str, jid: &str, stream: &str, h: u32) -> Client {
    let (client, answer) = Client::resume(server.address(), name, jid, stream, h);
    assert_eq!(answer.name(), "resumed", "{answer:?}");
    client
}

/// All that comes until the stream ends.
fn last_words(client: &mut Client) -> Vec<Element> {
    let mut all = client.quiet();
    loop {
        match client.next() {
            Said::Element(element) => all.push(element),
            _ => return all,
        }
    }
}

fn is_room(server: &TestServer, name: &str) -> bool {
    server.server.shared.directory.room(name).unwrap().is_some()
}

/// Runs a test on each driver, with what starts a server anew.
fn on_each(test: impl Fn(DriverChoice, &dyn Fn(&mut Config))) {
    let keys = Keys::new();
    for driver in drivers() {
        eprintln!("on driver {driver:?}");
        test(driver, &|config| keys.configure(config));
    }
}

#[test]
fn a_temporary_room_outlives_a_stop_with_whoever_comes_back() {
    on_each(|driver, configure| {
        let server = TestServer::start(driver, configure);
        server.accounts(&["juliet", "romeo"]);
        let (mut juliet, stream) = resumable(&server, "juliet", "balcony");
        let jid = juliet.jid.clone();
        let mut romeo = server.online("romeo", "orchard");
        make(&mut juliet, "shared", "jule", &[]);
        enter(&mut romeo, "shared", "ro");
        make(&mut romeo, "lonely", "ro", &[]);
        romeo.settle();
        juliet.settle();
        let server = server.restart(configure);
        // Its stream has ended before those that can be resumed.
        let left = last_words(&mut juliet);
        assert!(presences(&left).iter().any(|seen| seen.starts_with("ro unavailable")), "{left:?}");
        assert!(!presences(&left).iter().any(|seen| seen.starts_with("jule unavailable")), "{left:?}");
        assert_eq!((is_room(&server, "shared"), is_room(&server, "lonely")), (true, false));
        let mut romeo = server.online("romeo", "orchard");
        let seen = presences(&enter(&mut romeo, "shared", "ro"));
        assert!(seen[0].starts_with("jule available owner/moderator"), "{seen:?}");
        let mut juliet = resume(&server, "juliet", &jid, &stream, 0);
        juliet.send(&format!("<presence to='{}/jule' type='unavailable'/>", room("shared")));
        romeo.send(&format!("<presence to='{}/ro' type='unavailable'/>", room("shared")));
        server.await_metric("rooms.destroyed", 1);
        assert!(!is_room(&server, "shared"), "it ends with its last occupant");
    });
}

#[test]
fn sessions_and_rooms_of_accounts_that_are_gone_do_not_come_back() {
    on_each(|driver, configure| {
        let server = TestServer::start(driver, configure);
        server.accounts(&["juliet", "romeo"]);
        let (mut juliet, _) = resumable(&server, "juliet", "balcony");
        make(&mut juliet, "hers", "jule", &[]);
        let (romeo, stream) = resumable(&server, "romeo", "orchard");
        let jid = romeo.jid.clone();
        let server = server.restart_after(
            |data| {
                use whimbrel_storage::directory::{Directory, Options, run_inline};
                let directory = Directory::open(
                    &data.join("directory"),
                    &Options { domain: "localhost".into(), ..Options::default() },
                );
                let removed = run_inline(
                    &directory.unwrap(),
                    Box::new(|transaction| transaction.delete_account("juliet")),
                );
                assert!(removed.unwrap());
            },
            configure,
        );
        server.await_metric("sm.detached", 1);
        assert!(!is_room(&server, "hers"));
        let mut romeo = resume(&server, "romeo", &jid, &stream, 0);
        romeo.settle();
    });
}

#[test]
fn a_request_to_a_kept_session_is_answered_once_and_by_its_client() {
    on_each(|driver, configure| {
        let server = TestServer::start(driver, configure);
        server.accounts(&["juliet", "romeo"]);
        let (mut juliet, juliets) = resumable(&server, "juliet", "balcony");
        let (mut romeo, romeos) = resumable(&server, "romeo", "orchard");
        let (juliet_jid, romeo_jid) = (juliet.jid.clone(), romeo.jid.clone());
        romeo.send(&format!(
            "<iq type='get' id='asked' to='{juliet_jid}'><query xmlns='jabber:iq:version'/></iq>"
        ));
        juliet.set_aside_until(|stanza| stanza.attribute("id") == Some("asked"));
        let server = server.restart(configure);
        let words = last_words(&mut romeo);
        assert!(!words.iter().any(|stanza| stanza.attribute("id") == Some("asked")), "{words:?}");
        // It was not acknowledged, so it comes again.
        let mut juliet = resume(&server, "juliet", &juliet_jid, &juliets, 0);
        juliet.set_aside_until(|stanza| stanza.attribute("id") == Some("asked"));
        juliet.send(&format!("<iq type='result' id='asked' to='{romeo_jid}'/>"));
        juliet.settle();
        let mut romeo = resume(&server, "romeo", &romeo_jid, &romeos, 0);
        let answer = romeo.set_aside_until(|stanza| stanza.attribute("id") == Some("asked"));
        assert_eq!(answer.attribute("type"), Some("result"), "{answer:?}");
        romeo.settle();
        let more = romeo.quiet();
        assert!(!more.iter().any(|stanza| stanza.attribute("id") == Some("asked")), "{more:?}");
    });
}

#[test]
fn contacts_see_after_a_stop_who_is_there() {
    on_each(|driver, configure| {
        let server = TestServer::start(driver, configure);
        server.accounts(&["juliet", "romeo", "nurse"]);
        for (one, other) in [("juliet", "romeo"), ("juliet", "nurse"), ("romeo", "nurse")] {
            befriend(&server, one, other);
        }
        let (mut nurse, nurses) = resumable(&server, "nurse", "hall");
        let (juliet, _) = resumable(&server, "juliet", "balcony");
        let romeo = server.online("romeo", "orchard");
        nurse.settle();
        nurse.quiet();
        let nurse_jid = nurse.jid.clone();
        let server = server.restart(configure);
        drop((juliet, romeo));
        let of = |stanzas: &[Element], name: &str| -> Vec<String> {
            let all = stanzas.iter().filter(|stanza| stanza.name() == "presence");
            let own =
                all.filter(|stanza| stanza.attribute("from").is_some_and(|from| from.starts_with(name)));
            own.map(|stanza| stanza.attribute("type").unwrap_or("available").to_owned()).collect()
        };
        let words = last_words(&mut nurse);
        assert_eq!(of(&words, "juliet"), [""; 0], "she comes back");
        assert_eq!(of(&words, "romeo").last().map(String::as_str), Some("unavailable"));
        // One that comes anew sees her, and one that comes back sees who is there now.
        let mut romeo = server.online("romeo", "orchard");
        romeo.send("<presence/>");
        romeo.settle();
        let mut nurse = resume(&server, "nurse", &nurse_jid, &nurses, 0);
        nurse.set_aside_until(|stanza| stanza.attribute("from") == Some("juliet@localhost/balcony"));
        nurse.settle();
        let mut other = server.login("romeo", "lane");
        other.send("<presence/>");
        other.set_aside_until(|stanza| stanza.attribute("from") == Some("juliet@localhost/balcony"));
    });
}

#[test]
fn what_a_client_has_counted_is_what_the_next_server_knows() {
    on_each(|driver, configure| {
        let server = TestServer::start(driver, configure);
        server.accounts(&["juliet", "romeo"]);
        befriend(&server, "juliet", "romeo");
        let mut juliet = server.login("juliet", "balcony");
        let stream = juliet.enable_sm();
        juliet.send("<presence/>");
        // Contacts whose sessions cannot be kept: they end while she is there.
        let others: Vec<Client> = (0..8).map(|n| server.online("romeo", &format!("r{n}"))).collect();
        let jid = juliet.jid.clone();
        let server = server.restart(configure);
        drop(others);
        let is_stanza = |element: &&Element| ["iq", "message", "presence"].contains(&element.name());
        let handled = last_words(&mut juliet).iter().filter(is_stanza).count();
        assert!(handled > 8, "{handled}");
        let mut juliet = resume(&server, "juliet", &jid, &stream, u32::try_from(handled).unwrap());
        let mut romeo = server.online("romeo", "orchard");
        romeo.send(&chat("juliet@localhost", "on"));
        juliet.set_aside_until(|stanza| stanza.attribute("id") == Some("on"));
    });
}

fn state(data: &std::path::Path) -> PathBuf {
    data.join("sessions.state")
}

#[test]
fn what_was_left_is_of_no_use_once_another_server_has_run() {
    on_each(|driver, configure| {
        let server = TestServer::start(driver, configure);
        server.accounts(&["juliet"]);
        let (juliet, stream) = resumable(&server, "juliet", "balcony");
        let (jid, mut left) = (juliet.jid.clone(), Vec::new());
        let server = server.restart_after(|data| left = std::fs::read(state(data)).unwrap(), configure);
        server.await_metric("sm.detached", 1);
        let server = server.restart_after(|data| std::fs::write(state(data), &left).unwrap(), configure);
        let (_, answer) = Client::resume(server.address(), "juliet", &jid, &stream, 0);
        assert_eq!(answer.name(), "failed");
        assert!(!state(&server.server.config().data).exists());
    });
}

/// Bytes of a block's head, and where in it the checksum lies (docs/upgrade.md).
const HEAD: usize = 40;

#[test]
fn a_record_that_cannot_be_read_costs_the_sessions_and_not_the_start() {
    on_each(|driver, configure| {
        let server = TestServer::start(driver, configure);
        server.accounts(&["juliet"]);
        let (juliet, stream) = resumable(&server, "juliet", "balcony");
        let jid = juliet.jid.clone();
        let spoil = |data: &std::path::Path| {
            let mut bytes = std::fs::read(state(data)).unwrap();
            let at = memchr::memmem::find(&bytes, b"sessions\0").expect("a block of sessions") - 8;
            let length = u32::from_le_bytes(bytes[at + 32..at + 36].try_into().unwrap()) as usize;
            bytes[at + HEAD] = 0xff;
            let crc = crc32c::crc32c(&bytes[at + 8..at + HEAD]);
            let crc = crc32c::crc32c_append(crc, &bytes[at + HEAD..at + HEAD + length]);
            bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
            std::fs::write(state(data), bytes).unwrap();
        };
        let server = server.restart_after(spoil, configure);
        let (mut juliet, answer) = Client::resume(server.address(), "juliet", &jid, &stream, 0);
        assert_eq!(answer.name(), "failed");
        juliet.bind("balcony");
        juliet.settle();
    });
}

#[test]
fn what_was_said_to_a_kept_session_is_read_after_the_start() {
    on_each(|driver, configure| {
        let configure = |config: &mut Config| {
            configure(config);
            config.rooms.occupant_messages_per_second = 10_000;
            config.rooms.room_messages_per_second = 10_000;
        };
        let server = TestServer::start(driver, configure);
        server.accounts(&["juliet", "romeo"]);
        let (mut romeo, _) = resumable(&server, "romeo", "orchard");
        make(&mut romeo, "hall", "ro", PRIVATE);
        assert_eq!(make_it(&mut romeo, "hall", "juliet", "member"), "result");
        let (mut juliet, stream) = resumable(&server, "juliet", "balcony");
        let jid = juliet.jid.clone();
        enter(&mut juliet, "hall", "jule");
        juliet.cut();
        server.await_metric("sm.detached", 1);
        let body = "x".repeat(1000);
        for n in 0..60 {
            let to = room("hall");
            romeo.send(&format!(
                "<message type='groupchat' to='{to}' id='m{n}'><body>{body}</body></message>"
            ));
        }
        message(&mut romeo, "m59");
        server.await_at_least("sm.references", 50);
        let server = server.restart(configure);
        let mut juliet = resume(&server, "juliet", &jid, &stream, 0);
        for n in 0..60 {
            let said = until(&mut juliet, |stanza| stanza.find("body", "jabber:client").is_some());
            assert_eq!(said.attribute("id"), Some(format!("m{n}").as_str()));
        }
        assert!(server.metric("sm.recalled") >= 50);
    });
}
