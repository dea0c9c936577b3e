//! Retractions (XEP-0424): what an author takes back is in no archive and no mailbox any more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use whimbrel_server::xml::Element;
use whimbrel_storage::directory::{WriteTransaction, run_inline};
use whimbrel_storage::log::Sequence;

use crate::archive::{page, query};
use crate::support::answers::{befriend, outcome, payload};
use crate::support::program::{Program, Start};
use crate::support::{Client, PATIENCE, TestServer, on_each_driver, on_each_driver_with};

const RETRACT: &str = "urn:xmpp:message-retract:1";

fn say(client: &mut Client, to: &str, id: &str) {
    client.send(&format!("<message to='{to}' type='chat' id='{id}'><body>text of {id}</body></message>"));
}

/// The retraction of `target`, as clients write it, with the id `r-TARGET`.
fn retract(client: &mut Client, to: &str, target: &str) {
    client.send(&format!(
        "<message to='{to}' type='chat' id='r-{target}'><retract xmlns='{RETRACT}' id='{target}'/>\
         <fallback xmlns='urn:xmpp:fallback:0' for='{RETRACT}'/><body>took back</body>\
         <store xmlns='urn:xmpp:hints'/></message>"
    ));
}

fn ids(messages: &[Element]) -> Vec<&str> {
    messages.iter().map(|message| message.attribute("id").unwrap_or_default()).collect()
}

/// Whether a message of an archive is what stands for a retracted one, and nothing else of it is there.
#[track_caller]
fn assert_tombstone(message: &Element, (archive, id): (&str, &str), by: &str) {
    assert_eq!(message.attribute("type"), Some("chat"));
    assert!(message.attribute("from").is_some() && message.attribute("to").is_some());
    let retracted = message.find("retracted", RETRACT).unwrap_or_else(|| panic!("{message:?}"));
    assert_eq!(retracted.attribute("id"), Some(by));
    assert!(retracted.attribute("stamp").is_some_and(|stamp| stamp.ends_with('Z')));
    let stanza_id = message.find("stanza-id", "urn:xmpp:sid:0").expect("its id");
    assert_eq!((stanza_id.attribute("by"), stanza_id.attribute("id")), (Some(archive), Some(id)));
    assert!(message.find("body", "jabber:client").is_none());
}

/// Names of three users, the first two on different workers, the first and the last on one.
fn three(server: &TestServer) -> [String; 3] {
    let names = [(0, "juliet"), (1, "romeo"), (0, "nurse")]
        .map(|(worker, name)| server.name_at_home_on(worker, name));
    server.accounts(&names.each_ref().map(|name| &**name));
    names
}

#[test]
fn a_retracted_message_keeps_its_place_in_both_archives_without_its_text() {
    on_each_driver(|server| {
        let [juliet_name, romeo_name, nurse_name] = three(server);
        let mut juliet = server.online(&juliet_name, "balcony");
        let to_juliet = format!("{juliet_name}@localhost");
        for author in [&romeo_name, &nurse_name] {
            let mut author_client = server.login(author, "orchard");
            for id in ["a", "b", "c"] {
                say(&mut author_client, &to_juliet, id);
                juliet.next_message();
            }
            let of_both = |clients: [&mut Client; 2]| {
                clients.map(|client| {
                    let with = if client.jid.starts_with(author) { &to_juliet } else { author };
                    let with = if with.contains('@') { with.clone() } else { format!("{with}@localhost") };
                    query(client, &[("with", &with)], "").unwrap()
                })
            };
            let before = of_both([&mut author_client, &mut juliet]);
            retract(&mut author_client, &to_juliet, "b");
            assert_eq!(juliet.next_message(), "r-b", "it goes on to the recipient");
            let after = of_both([&mut author_client, &mut juliet]);
            let owners = [format!("{author}@localhost"), to_juliet.clone()];
            for ((before, after), owner) in before.iter().zip(&after).zip(&owners) {
                assert_eq!(ids(&after.messages), ["a", "b", "c", "r-b"]);
                assert_eq!(after.ids[..3], before.ids[..], "ids stay");
                assert_eq!(after.bodies, ["text of a", "", "text of c", "took back"]);
                assert_tombstone(&after.messages[1], (owner, &after.ids[1]), "r-b");
            }
            // By its id, and from the other end, it is the same.
            let id = after[0].ids[1].clone();
            let one = query(&mut author_client, &[("ids", &id)], "").unwrap();
            assert_tombstone(&one.messages[0], (&owners[0], &id), "r-b");
            let last = query(&mut author_client, &[], &page(3, "<before/>")).unwrap();
            assert_eq!(ids(&last.messages), ["b", "c", "r-b"]);
        }
        server.await_metric("archive.retracted", 4);
        assert_eq!(server.metric("archive.retractions"), 4);
    });
}

#[test]
fn only_the_author_retracts_and_every_name_of_a_message_counts() {
    on_each_driver(|server| {
        let [juliet_name, romeo_name, _] = three(server);
        let (to_juliet, to_romeo) = (format!("{juliet_name}@localhost"), format!("{romeo_name}@localhost"));
        let mut juliet = server.online(&juliet_name, "balcony");
        let mut romeo = server.online(&romeo_name, "orchard");
        say(&mut romeo, &to_juliet, "a");
        romeo.send(&format!(
            "<message to='{to_juliet}' type='chat' id='x'><body>y</body>\
             <origin-id xmlns='urn:xmpp:sid:0' id='named'/></message>"
        ));
        romeo.send(&format!(
            "<message to='{to_juliet}' type='chat' id='z'><body>corrected</body>\
             <replace xmlns='urn:xmpp:message-correct:0' id='a'/></message>"
        ));
        for _ in 0..3 {
            juliet.next_message();
        }
        // The recipient may not.
        retract(&mut juliet, &to_romeo, "a");
        assert_eq!(romeo.next_message(), "r-a");
        for client in [&mut juliet, &mut romeo] {
            let all = query(client, &[], "").unwrap();
            assert_eq!(all.bodies, ["text of a", "y", "corrected", "took back"]);
        }
        // Another device of the author may.
        let mut phone = server.login(&romeo_name, "phone");
        retract(&mut phone, &to_juliet, "a");
        retract(&mut phone, &to_juliet, "named");
        // What retracts stays, or those who were away would not hear of it.
        retract(&mut phone, &to_juliet, "r-named");
        for _ in 0..3 {
            juliet.next_message();
        }
        for client in [&mut juliet, &mut phone] {
            let all = query(client, &[], "").unwrap();
            assert_eq!(all.bodies, ["", "", "", "took back", "took back", "took back", "took back"]);
            let origin =
                all.messages[1].find("origin-id", "urn:xmpp:sid:0").expect("clients match it by this");
            assert_eq!(origin.attribute("id"), Some("named"));
        }
    });
}

#[test]
fn what_waits_for_its_recipient_is_never_delivered_once_it_is_retracted() {
    on_each_driver(|server| {
        let [juliet_name, romeo_name, nurse_name] = three(server);
        let to_juliet = format!("{juliet_name}@localhost");
        for (round, author) in [&romeo_name, &nurse_name].into_iter().enumerate() {
            let mut author = server.login(author, "orchard");
            say(&mut author, &to_juliet, "keep");
            say(&mut author, &to_juliet, "take");
            // In no archive, and in the mailbox all the same.
            author.send(&format!(
                "<message to='{to_juliet}' type='chat' id='plain'><body>text of plain</body>\
                 <no-permanent-store xmlns='urn:xmpp:hints'/></message>"
            ));
            retract(&mut author, &to_juliet, "take");
            retract(&mut author, &to_juliet, "plain");
            author.settle();
            // What waits comes with the answer to its presence, or before it.
            let mut juliet = server.login(&juliet_name, "balcony");
            juliet.send("<presence/>");
            assert_eq!(juliet.next_message(), "keep");
            assert_eq!(juliet.next_message(), "r-take");
            assert_eq!(juliet.next_message(), "r-plain");
            juliet.settle();
            assert_eq!(juliet.messages_set_aside(), [""; 0]);
            server.await_metric("archive.retracted_waiting", 2 * (round as u64 + 1));
            juliet.send("</stream:stream>");
            juliet.expect_close();
        }
    });
}

#[test]
fn a_resumed_session_does_not_get_what_was_retracted_meanwhile() {
    on_each_driver(|server| {
        let [juliet_name, romeo_name, _] = three(server);
        befriend(server, &juliet_name, &romeo_name);
        let to_juliet = format!("{juliet_name}@localhost");
        let mut juliet = server.online(&juliet_name, "balcony");
        let (stream, jid) = (juliet.enable_sm(), juliet.jid.clone());
        juliet.settle();
        juliet.cut();
        server.await_metric("sm.detached", 1);
        let mut romeo = server.login(&romeo_name, "orchard");
        say(&mut romeo, &to_juliet, "keep");
        say(&mut romeo, &to_juliet, "take");
        retract(&mut romeo, &to_juliet, "take");
        server.await_metric("archive.retracted_waiting", 1);
        let (mut juliet, answer) = Client::resume(server.address(), &juliet_name, &jid, &stream, 1);
        assert_eq!(answer.name(), "resumed", "{answer:?}");
        let mut heard = Vec::new();
        while heard.last().is_none_or(|id| id != "r-take") {
            let stanza = juliet.next_stanza();
            if stanza.name() == "message" {
                heard.push(stanza.attribute("id").unwrap_or_default().to_owned());
            }
        }
        assert_eq!(heard, ["keep", "r-take"]);
    });
}

#[test]
fn a_resumed_session_gets_no_copy_of_what_was_retracted_meanwhile() {
    // The author is at home on juliet's worker, or on another.
    for author in [1, 2] {
        on_each_driver(|server| {
            let names = three(server);
            let (juliet_name, author_name) = (&names[0], &names[author]);
            let to_juliet = format!("{juliet_name}@localhost");
            let mut juliet = server.online(juliet_name, "balcony");
            let mut author = server.online(author_name, "orchard");
            // What one device sends, and what one device gets, goes to the others as well.
            let others = [(juliet_name, "garden"), (author_name, "phone")].map(|(name, resource)| {
                let mut client = server.login(name, resource);
                assert_eq!(
                    outcome(&client.ask("set", None, "<enable xmlns='urn:xmpp:carbons:2'/>")),
                    "result"
                );
                let (stream, jid) = (client.enable_sm(), client.jid.clone());
                client.settle();
                client.cut();
                (name, jid, stream)
            });
            server.await_metric("sm.detached", 2);
            say(&mut author, &to_juliet, "take");
            say(&mut author, &to_juliet, "keep");
            // Kept nowhere but with the sessions.
            author.send(&format!(
                "<message to='{to_juliet}' type='chat' id='plain'><body>text of plain</body>\
                 <no-store xmlns='urn:xmpp:hints'/></message>"
            ));
            retract(&mut author, &to_juliet, "take");
            retract(&mut author, &to_juliet, "plain");
            for id in ["take", "keep", "plain", "r-take", "r-plain"] {
                assert_eq!(juliet.next_message(), id);
            }
            author.settle();
            server.await_metric("archive.retracted_copies", 4);
            for (name, jid, stream) in others {
                let (mut client, answer) = Client::resume(server.address(), name, &jid, &stream, 1);
                assert_eq!(answer.name(), "resumed", "{answer:?}");
                let mut heard = Vec::new();
                while heard.last().is_none_or(|id| id != "r-plain") {
                    let copy = client.next_stanza();
                    let wrapped = copy.elements().next().filter(|_| copy.name() == "message");
                    let forwarded =
                        wrapped.and_then(|wrapped| wrapped.find("forwarded", "urn:xmpp:forward:0"));
                    let message = forwarded.and_then(|forwarded| forwarded.find("message", "jabber:client"));
                    heard.extend(message.and_then(|message| message.attribute("id")).map(str::to_owned));
                }
                assert_eq!(heard, ["keep", "r-take", "r-plain"], "{name}");
            }
        });
    }
}

#[test]
fn a_resumed_session_gets_no_page_with_what_was_retracted_meanwhile() {
    // The author is at home on juliet's worker, or on another; both sides have read their archives.
    for author in [1, 2] {
        on_each_driver(|server| {
            let names = three(server);
            let (juliet_name, author_name) = (&names[0], &names[author]);
            let to_juliet = format!("{juliet_name}@localhost");
            let mut juliet = server.online(juliet_name, "balcony");
            let mut author = server.login(author_name, "orchard");
            for id in ["keep", "take"] {
                say(&mut author, &to_juliet, id);
                assert_eq!(juliet.next_message(), id);
            }
            juliet.settle();
            author.settle();
            let readers = [juliet_name, author_name].map(|name| {
                let mut client = server.login(name, "reader");
                let (stream, jid) = (client.enable_sm(), client.jid.clone());
                client.settle();
                assert_eq!(query(&mut client, &[], "").unwrap().bodies, ["text of keep", "text of take"]);
                client.cut();
                (name, jid, stream)
            });
            server.await_metric("sm.detached", 2);
            retract(&mut author, &to_juliet, "take");
            assert_eq!(juliet.next_message(), "r-take");
            author.settle();
            server.await_metric("archive.retracted_copies", 2);
            for (name, jid, stream) in readers {
                // It has acknowledged nothing of the page.
                let (mut client, answer) = Client::resume(server.address(), name, &jid, &stream, 1);
                assert_eq!(answer.name(), "resumed", "{answer:?}");
                let mut heard = Vec::new();
                let is_end = |stanza: &Element| stanza.find("fin", "urn:xmpp:mam:2").is_some();
                loop {
                    let stanza = client.next_stanza();
                    if is_end(&stanza) {
                        break;
                    }
                    let result = stanza.find("result", "urn:xmpp:mam:2");
                    let forwarded = result.and_then(|result| result.find("forwarded", "urn:xmpp:forward:0"));
                    let message = forwarded.and_then(|forwarded| forwarded.find("message", "jabber:client"));
                    heard.extend(message.and_then(|message| message.attribute("id")).map(str::to_owned));
                }
                assert_eq!(heard, ["keep"], "{name}");
            }
        });
    }
}

#[test]
fn a_retraction_reaches_as_far_back_as_the_configuration_says() {
    on_each_driver_with(
        |config| config.archive.retract_messages = 3,
        |server| {
            let [juliet_name, romeo_name, nurse_name] = three(server);
            let (to_juliet, to_nurse) =
                (format!("{juliet_name}@localhost"), format!("{nurse_name}@localhost"));
            let mut juliet = server.online(&juliet_name, "balcony");
            let mut romeo = server.login(&romeo_name, "orchard");
            for id in ["1", "2", "3", "4"] {
                say(&mut romeo, &to_juliet, id);
                // With somebody else: does not count.
                say(&mut romeo, &to_nurse, "other");
                juliet.next_message();
            }
            retract(&mut romeo, &to_juliet, "1");
            retract(&mut romeo, &to_juliet, "3");
            assert_eq!([juliet.next_message(), juliet.next_message()], ["r-1", "r-3"]);
            let all = query(&mut romeo, &[("with", &to_juliet)], "").unwrap();
            assert_eq!(all.bodies, ["text of 1", "text of 2", "", "text of 4", "took back", "took back"]);
            assert_eq!(query(&mut juliet, &[], "").unwrap().bodies, all.bodies);
        },
    );
}

/// Preferences say what is archived from now on; what is in an archive can be taken back all the same.
#[test]
fn a_message_is_retracted_although_nothing_is_archived_any_more() {
    on_each_driver(|server| {
        let [juliet_name, romeo_name, nurse_name] = three(server);
        let to_juliet = format!("{juliet_name}@localhost");
        for author in [&romeo_name, &nurse_name] {
            let mut juliet = server.online(&juliet_name, "balcony");
            let mut author = server.login(author, "orchard");
            say(&mut author, &to_juliet, "a");
            juliet.next_message();
            for client in [&mut juliet, &mut author] {
                let never = "<prefs xmlns='urn:xmpp:mam:2' default='never'><always/><never/></prefs>";
                assert_eq!(outcome(&client.ask("set", None, never)), "result");
            }
            retract(&mut author, &to_juliet, "a");
            let retraction = juliet.expect("message");
            assert!(retraction.find("stanza-id", "urn:xmpp:sid:0").is_none(), "it is in no archive");
            assert_eq!(query(&mut author, &[], "").unwrap().bodies, [""]);
            assert_eq!(query(&mut juliet, &[], "").unwrap().bodies.last().unwrap(), "");
            let always = "<prefs xmlns='urn:xmpp:mam:2' default='always'><always/><never/></prefs>";
            juliet.ask("set", None, always);
        }
    });
}

#[test]
fn retractions_are_announced_where_archives_are() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        for to in ["localhost", "juliet@localhost"] {
            let info = juliet.ask("get", Some(to), "<query xmlns='http://jabber.org/protocol/disco#info'/>");
            let features: Vec<_> =
                payload(&info).elements().filter_map(|child| child.attribute("var")).collect();
            for feature in [RETRACT, "urn:xmpp:message-retract:1#tombstone"] {
                assert!(features.contains(&feature), "{to} does not announce {feature}");
            }
        }
    });
}

/// The retraction is in the log before it is acknowledged, and its effect is made of it again: killed at once after the
/// acknowledgement, a server shows the text to nobody.
#[test]
fn an_acknowledged_retraction_holds_over_sigkill() {
    let start = Start::new(&["juliet", "romeo", "nurse"]).with_config("[limits]\nsm_resume_seconds = 60\n");
    let names = ["juliet", "nurse"];
    let mut expected: Vec<String> = Vec::new();
    for round in 0..6 {
        let program = start.run();
        // All of the rounds before, as the first thing that is asked for.
        for name in names {
            let mut client = program.login(name, "balcony");
            let all = query(&mut client, &[], &page(200, "")).unwrap();
            assert_eq!(all.bodies, expected, "{name} in round {round}");
        }
        let mut romeo = program.login("romeo", "orchard");
        romeo.enable_sm();
        // Handled stanzas are counted from here on.
        for (n, name) in names.iter().enumerate() {
            let (to, secret) = (format!("{name}@localhost"), format!("secret{round}"));
            say(&mut romeo, &to, &secret);
            say(&mut romeo, &to, &format!("keep{round}"));
            retract(&mut romeo, &to, &secret);
            romeo.await_handled(3 * (n as u32 + 1));
        }
        program.kill();
        expected.extend([String::new(), format!("text of keep{round}"), "took back".to_owned()]);
    }
    // The mailboxes, which nobody has read, have no secret either.
    let program = start.run();
    for name in names {
        let mut client = program.login(name, "balcony");
        client.send("<presence/>");
        for round in 0..6 {
            assert_eq!(client.next_message(), format!("keep{round}"), "{name}");
            assert_eq!(client.next_message(), format!("r-secret{round}"), "{name}");
        }
    }
    program.stop();
}

/// Whether a file below a folder has a text.
fn is_on_disk(folder: &std::path::Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        // A file may go while the folder is read.
        let has = |bytes: Vec<u8>| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        if path.is_dir() { is_on_disk(&path, text) } else { std::fs::read(&path).is_ok_and(has) }
    })
}

#[test]
fn the_text_of_a_retracted_message_leaves_the_disk() {
    let start = Start::new(&["juliet", "romeo"]);
    let log = start.data().join("log");
    let program = start.run();
    let mut juliet = program.login("juliet", "balcony");
    juliet.send("<presence/>");
    let mut romeo = program.login("romeo", "orchard");
    say(&mut romeo, "juliet@localhost", "kept");
    say(&mut romeo, "juliet@localhost", "secret");
    retract(&mut romeo, "juliet@localhost", "secret");
    for id in ["kept", "secret", "r-secret"] {
        assert_eq!(juliet.next_message(), id);
    }
    for client in [&mut juliet, &mut romeo] {
        assert_eq!(query(client, &[], "").unwrap().bodies, ["text of kept", "", "took back"]);
    }
    assert!(is_on_disk(&log, "text of secret"), "for archive.erase_days");
    program.kill();
    let start = start.with_config("[archive]\nerase_days = 0\n");
    let program = start.run();
    let since = Instant::now();
    let is_done = || program.figures()["archive.to_erase"] == 0 && program.figures()["archive.erased"] > 0;
    while !is_done() {
        assert!(since.elapsed() < PATIENCE, "{:?}", program.figures());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!is_on_disk(&log, "text of secret") && is_on_disk(&log, "text of kept"));
    for name in ["juliet", "romeo"] {
        let mut client = program.login(name, "again");
        assert_eq!(query(&mut client, &[], "").unwrap().bodies, ["text of kept", "", "took back"]);
    }
    program.stop();
}

fn cut(start: &Start, name: &'static str, times: u64) {
    let directory = start.directory();
    let actor = directory.account_id(name).unwrap().expect("an account");
    let cut = move |transaction: &mut WriteTransaction<'_>| {
        (0..times).try_for_each(|_| transaction.cut_archive(actor, Sequence::MAX))
    };
    run_inline(&directory, Box::new(cut)).unwrap();
}

fn await_figures(program: &Program, is_so: impl Fn(&BTreeMap<String, u64>) -> bool) {
    let since = Instant::now();
    while !is_so(&program.figures()) {
        assert!(since.elapsed() < PATIENCE, "{:?}", program.figures());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_text_that_was_erased_while_it_waited_leaves_the_disk_in_the_end() {
    let start = Start::new(&["juliet", "romeo", "nurse"]);
    let log = start.data().join("log");
    let program = start.run();
    let mut romeo = program.login("romeo", "orchard");
    say(&mut romeo, "juliet@localhost", "secret");
    romeo.settle();
    program.stop();
    // Neither of them has it in an archive any more, and it waits.
    cut(&start, "juliet", 1);
    cut(&start, "romeo", 1);
    let start = start.with_config("[archive]\nerase_days = 0\n");
    let program = start.run();
    await_figures(&program, |figures| figures["archive.to_erase"] > 0);
    await_figures(&program, |figures| figures["archive.to_erase"] < 2);
    assert!(is_on_disk(&log, "text of secret"), "it is to be delivered");
    let mut juliet = program.login("juliet", "balcony");
    juliet.send("<presence/>");
    assert_eq!(juliet.next_message(), "secret");
    juliet.send("</stream:stream>");
    juliet.expect_close();
    program.stop();
    // A pass follows another one in a minute at least, or at once after a start.
    let program = start.run();
    let since = Instant::now();
    while is_on_disk(&log, "text of secret") {
        assert!(since.elapsed() < PATIENCE, "{:?}", program.figures());
        std::thread::sleep(Duration::from_millis(20));
    }
    await_figures(&program, |figures| figures["archive.to_erase"] == 0);
    program.stop();
}

#[test]
fn no_erasure_is_left_however_many_there_were() {
    let start = Start::new(&["juliet"]).with_config("[archive]\nerase_days = 0\n");
    cut(&start, "juliet", 25_000);
    let program = start.run();
    await_figures(&program, |figures| figures["archive.to_erase"] > 10_000);
    await_figures(&program, |figures| figures["archive.to_erase"] == 0);
    program.stop();
}
