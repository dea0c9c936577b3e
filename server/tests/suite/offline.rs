//! Messages for those who are not there, or do not read (XEP-0160).

use whimbrel_server::config::Config;
use whimbrel_server::xml::Element;
use whimbrel_storage::directory::Subscription;

use crate::support::answers::{befriend, contact, outcome};
use crate::support::managed::{chat, delayed};
use crate::support::{Client, TestServer, drivers, on_each_driver, on_each_driver_with};

/// The next message; presence is passed over.
fn message(client: &mut Client) -> Element {
    loop {
        let stanza = client.next_stanza();
        if stanza.name() == "message" {
            return stanza;
        }
    }
}

/// The errors among what was set aside.
fn errors(client: &mut Client) -> Vec<String> {
    client.quiet().iter().filter(|stanza| stanza.name() == "message").map(outcome).collect()
}

fn ids(client: &mut Client, count: usize) -> Vec<String> {
    (0..count).map(|_| client.next_message()).collect()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// One sender may take the whole mailbox, for tests of what holds for all of it.
fn one_sender_may_fill(config: &mut Config) {
    config.limits.offline_percent_per_contact = 100;
    config.limits.offline_percent_per_stranger = 100;
    config.limits.offline_percent_strangers = 100;
}

/// Sends a message and says what came back.
fn answer_to(client: &mut Client, message: &str) -> Vec<String> {
    client.send(message);
    client.await_quiet();
    errors(client)
}

impl Client {
    /// Waits until whatever this client has caused at the homes of these tests' users has come back.
    fn await_quiet(&mut self) {
        for name in ["juliet", "romeo"] {
            self.ask("get", Some(&format!("{name}@localhost")), "<vCard xmlns='vcard-temp'/>");
        }
    }
}

#[test]
fn who_becomes_available_gets_what_he_missed_in_order_and_with_its_time_and_then_what_comes() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo", "tybalt"]);
        let mut romeo = server.online("romeo", "orchard");
        let mut tybalt = server.online("tybalt", "street");
        for n in 0..10 {
            let sender = if n % 3 == 0 { &mut tybalt } else { &mut romeo };
            sender.send(&chat("juliet@localhost", n));
            sender.ask("get", Some("juliet@localhost"), "<vCard xmlns='vcard-temp'/>");
        }
        assert_eq!(server.metric("log.pending"), 10);
        let mut juliet = server.login("juliet", "balcony");
        juliet.settle();
        assert_eq!(juliet.quiet(), [], "nothing before she is available");
        juliet.send("<presence/>");
        let mut last = String::new();
        for n in 0..10 {
            let message = message(&mut juliet);
            assert_eq!(message.attribute("id"), Some(&*n.to_string()));
            let stamp = delayed(&message).expect("it comes late");
            assert!(stamp >= last && stamp.ends_with('Z'), "{stamp} after {last}");
            last = stamp;
        }
        romeo.send(&chat("juliet@localhost", "live"));
        let live = message(&mut juliet);
        assert_eq!((live.attribute("id"), delayed(&live)), (Some("live"), None));
        server.await_metric("log.pending", 0);
        // It is not delivered again.
        let mut juliet = server.online("juliet", "balcony");
        romeo.fence(&mut juliet);
        assert_eq!(juliet.messages_set_aside(), Vec::<String>::new());
    });
}

#[test]
fn what_waits_survives_a_restart() {
    for driver in drivers() {
        let server = TestServer::start(driver, |_| {});
        let names: Vec<String> =
            (0..4).map(|n| server.name_at_home_on(n % 2, &format!("user{n}x"))).collect();
        server.accounts(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let mut sender = server.login(&names[0], "x");
        sender.enable_sm();
        for n in 0..30 {
            for name in &names[1..] {
                sender.send(&chat(&format!("{name}@localhost"), n));
            }
        }
        sender.await_handled(90);
        let server = server.restart(|_| {});
        assert_eq!(server.metric("log.pending"), 90, "counted as soon as it serves");
        for name in &names[1..] {
            let mut client = server.login(name, "y");
            client.send("<presence/>");
            assert_eq!(ids(&mut client, 30), numbers(0..30));
        }
        server.await_metric("log.pending", 0);
    }
}

#[test]
fn messages_find_their_users_when_the_number_of_workers_changes() {
    for driver in drivers() {
        let mut server = TestServer::start(driver, |_| {});
        let names: Vec<String> = (0..6).map(|n| format!("user{n}")).collect();
        server.accounts(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for (round, workers) in [(0, 3), (1, 1), (2, 2)] {
            let mut sender = server.login("user0", "x");
            sender.enable_sm();
            for name in &names[1..] {
                sender.send(&chat(&format!("{name}@localhost"), round));
            }
            sender.await_handled(5);
            server = server.restart(|config| config.workers = workers);
        }
        for name in &names[1..] {
            let mut client = server.login(name, "y");
            client.send("<presence/>");
            assert_eq!(ids(&mut client, 3), numbers(0..3), "{name}");
        }
    }
}

/// XEP-0160 §3, XEP-0334 and RFC 6121 §8.5.2.2: what waits, what gets an error, what is dropped.
#[test]
fn what_is_kept_for_later_follows_type_content_and_hints() {
    const KEPT: &str = "kept";
    const ERROR: &str = "service-unavailable";
    const STATE: &str = "<composing xmlns='http://jabber.org/protocol/chatstates'/>";
    let table = [
        ("chat", "<body>x</body>".to_owned(), KEPT),
        ("normal", "<body>x</body>".to_owned(), KEPT),
        ("nonsense", "<body>x</body>".to_owned(), KEPT),
        ("groupchat", "<body>x</body>".to_owned(), ERROR),
        ("headline", "<body>x</body>".to_owned(), ""),
        ("error", "<body>x</body>".to_owned(), ""),
        ("chat", String::new(), ERROR),
        ("chat", STATE.to_owned(), ERROR),
        ("chat", format!("{STATE}<body>x</body>"), KEPT),
        ("chat", format!("{STATE}<store xmlns='urn:xmpp:hints'/>"), KEPT),
        ("chat", "<received xmlns='urn:xmpp:receipts' id='m'/>".to_owned(), KEPT),
        ("normal", "<x xmlns='jabber:x:conference' jid='a@b'/>".to_owned(), KEPT),
        ("chat", "<body>x</body><no-store xmlns='urn:xmpp:hints'/>".to_owned(), ERROR),
        ("chat", "<body>x</body><no-permanent-store xmlns='urn:xmpp:hints'/>".to_owned(), KEPT),
    ];
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        befriend(server, "juliet", "romeo");
        let mut romeo = server.login("romeo", "orchard");
        let mut kept = 0;
        for (n, (typ, inside, expected)) in table.iter().enumerate() {
            let sent = format!("<message to='juliet@localhost' type='{typ}' id='{n}'>{inside}</message>");
            let answers = answer_to(&mut romeo, &sent);
            kept += u64::from(*expected == KEPT);
            let expected: &[&str] = if [KEPT, ""].contains(expected) { &[] } else { &[expected] };
            assert_eq!(answers, expected, "{sent}");
            assert_eq!(server.metric("log.pending"), kept, "{sent}");
        }
        let mut juliet = server.login("juliet", "balcony");
        juliet.send("<presence/>");
        for (n, _) in table.iter().enumerate().filter(|(_, row)| row.2 == KEPT) {
            assert_eq!(juliet.next_message(), n.to_string());
        }
    });
}

#[test]
fn nothing_is_kept_for_nobody_or_from_somebody_who_is_blocked() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut romeo = server.login("romeo", "orchard");
        romeo.enable_sm();
        romeo.send(&chat("nobody@localhost", 1));
        romeo.await_handled(1);
        let mut juliet = server.login("juliet", "balcony");
        juliet.ask("set", None, "<block xmlns='urn:xmpp:blocking'><item jid='romeo@localhost'/></block>");
        juliet.send("</stream:stream>");
        server.await_metric("sessions", 1);
        romeo.send(&chat("juliet@localhost", 2));
        romeo.await_handled(2);
        let errors = errors(&mut romeo);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!((server.metric("messages.ignored"), server.metric("log.pending")), (2, 0));
    });
}

/// RFC 6121 §8.5.2: which of several resources gets what waits.
#[test]
fn what_waits_goes_to_who_gets_messages_to_the_account() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut romeo = server.login("romeo", "orchard");
        let mut cellar = server.login("juliet", "cellar");
        cellar.send("<presence><priority>-1</priority></presence>");
        cellar.settle();
        romeo.send(&chat("juliet@localhost", 0));
        romeo.send(&chat("juliet@localhost/gone", 1));
        assert_eq!(answer_to(&mut romeo, &chat("juliet@localhost/cellar", 2)), Vec::<String>::new());
        assert_eq!(cellar.next_message(), "2");
        cellar.settle();
        assert_eq!(cellar.messages_set_aside(), Vec::<String>::new(), "its priority is negative");
        let mut balcony = server.login("juliet", "balcony");
        balcony.send("<presence/>");
        assert_eq!(ids(&mut balcony, 2), numbers(0..2));
        // The most available one goes, and another one changes its mind.
        balcony.send("<presence type='unavailable'/>");
        balcony.settle();
        romeo.send(&chat("juliet@localhost", 3));
        romeo.await_quiet();
        cellar.send("<presence><priority>0</priority></presence>");
        assert_eq!(cellar.next_message(), "3");
        romeo.fence(&mut balcony);
        assert_eq!(balcony.messages_set_aside(), Vec::<String>::new());
        server.await_metric("log.pending", 0);
    });
}

#[test]
fn with_several_recipients_the_first_acknowledgement_is_enough() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut romeo = server.login("romeo", "orchard");
        let mut managed = server.online("juliet", "managed");
        managed.enable_sm();
        let mut copied = server.online("juliet", "copied");
        copied.send("<presence><priority>-1</priority></presence>");
        copied.ask("set", None, "<enable xmlns='urn:xmpp:carbons:2'/>");
        romeo.send(&chat("juliet@localhost", 1));
        assert_eq!(managed.next_message(), "1");
        romeo.fence(&mut copied);
        assert_eq!(copied.messages_set_aside().len(), 2 - 1, "a copy");
        assert_eq!(server.metric("log.pending"), 1, "a copy acknowledges nothing");
        let mut equal = server.online("juliet", "equal");
        romeo.send(&chat("juliet@localhost", 2));
        assert_eq!((managed.next_message(), equal.next_message()), ("2".into(), "2".into()));
        // The one without stream management has it.
        server.await_metric("log.pending", 1);
    });
}

#[test]
fn what_was_sent_to_a_client_that_is_cut_off_is_offered_to_the_next() {
    on_each_driver_with(
        |config| config.limits.sm_resume_seconds = 0,
        |server| {
            server.accounts(&["juliet", "romeo"]);
            let mut romeo = server.login("romeo", "orchard");
            let mut juliet = server.online("juliet", "balcony");
            juliet.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
            assert_eq!(juliet.expect("enabled").attribute("id"), None);
            romeo.send(&chat("juliet@localhost", 0));
            romeo.send(&chat("juliet@localhost", 1));
            assert_eq!(ids(&mut juliet, 2), numbers(0..2));
            juliet.acknowledge(1);
            juliet.settle();
            juliet.cut();
            server.await_metric("sessions", 1);
            let mut juliet = server.login("juliet", "garden");
            juliet.send("<presence/>");
            let message = message(&mut juliet);
            assert_eq!(message.attribute("id"), Some("1"));
            assert!(delayed(&message).is_some());
            romeo.fence(&mut juliet);
            assert_eq!(juliet.messages_set_aside(), Vec::<String>::new());
        },
    );
}

/// `WHIMBREL_PENDING` is how many messages wait, 10,000 if it is not set.
#[test]
fn many_messages_come_in_order_at_the_pace_of_their_reader() {
    let count: usize = std::env::var("WHIMBREL_PENDING").map_or(10_000, |text| text.parse().unwrap());
    on_each_driver_with(
        |config| {
            config.limits.offline_messages = count as u64 + 1;
            config.limits.account_memory_kib = (count as u32 / 6).max(4096);
            one_sender_may_fill(config);
            config.log_mib_max = 1024;
            config.limits.output_backlog_bytes = 1 << 20;
            config.limits.sm_unacked_bytes = 1 << 20;
            config.log_segment_mib = 8;
        },
        |server| {
            server.accounts(&["juliet", "romeo"]);
            let mut romeo = server.login("romeo", "orchard");
            romeo.enable_sm();
            for start in (0..count).step_by(500) {
                let batch: String = (start..start + 500).map(|n| chat("juliet@localhost", n)).collect();
                romeo.send(&batch);
                romeo.await_handled((start + 500) as u32);
            }
            assert_eq!(server.metric("log.pending"), count as u64);
            let mut juliet = server.login("juliet", "balcony");
            juliet.send("<presence/>");
            // What comes in between takes its place behind the others.
            romeo.send(&chat("juliet@localhost", count));
            romeo.await_handled(count as u32 + 1);
            for n in 0..=count {
                assert_eq!(juliet.next_message(), n.to_string());
            }
            server.await_metric("log.pending", 0);
            let most = server.metric("queue.output.high_water");
            assert!(most < 1 << 20, "{most} bytes waited in memory");
        },
    );
}

#[test]
fn a_reader_who_stops_costs_disk_and_not_memory_and_gets_everything_in_order() {
    const COUNT: usize = 4_000;
    const LIMIT: u32 = 512 << 10;
    on_each_driver_with(
        |config| {
            one_sender_may_fill(config);
            config.limits.stanza_bytes = 64 << 10;
            config.limits.output_backlog_bytes = LIMIT;
            config.limits.sm_unacked_bytes = LIMIT;
            config.log_segment_mib = 8;
        },
        |server| {
            server.accounts(&["juliet", "romeo"]);
            for managed in [false, true] {
                let mut romeo = server.login("romeo", "orchard");
                romeo.enable_sm();
                let mut juliet = server.online("juliet", "balcony");
                if managed {
                    juliet.enable_sm();
                }
                let filler = "x".repeat(4000);
                for n in 0..COUNT {
                    romeo.send(&format!(
                        "<message to='juliet@localhost' type='chat' id='{n}'><body>{filler}</body></message>"
                    ));
                    if n % 100 == 99 {
                        romeo.await_handled(n as u32 + 1);
                    }
                }
                assert!(server.metric("log.behind") > u64::from(managed), "she is left to the log");
                // What is not kept still comes at once.
                for n in 0..COUNT {
                    assert_eq!(juliet.next_message(), n.to_string(), "managed: {managed}");
                    if managed && n % 10 == 9 {
                        juliet.acknowledge(n as u32 + 1);
                    }
                }
                server.await_metric("log.pending", 0);
                let most = server.metric("queue.output.high_water");
                assert!(most <= u64::from(LIMIT), "{most} bytes waited in memory");
                assert_eq!(server.metric("refused.output_backlog_bytes"), 0);
                juliet.send("</stream:stream>");
                romeo.send("</stream:stream>");
                server.await_metric("sessions", 0);
            }
        },
    );
}

#[test]
fn an_account_whose_messages_are_too_many_gets_no_more_until_it_reads_them() {
    on_each_driver_with(
        |config| {
            config.limits.offline_messages = 3;
            one_sender_may_fill(config);
        },
        |server| {
            server.accounts(&["juliet", "romeo"]);
            befriend(server, "juliet", "romeo");
            let mut romeo = server.login("romeo", "orchard");
            romeo.enable_sm();
            for n in 0..5 {
                romeo.send(&chat("juliet@localhost", n));
            }
            romeo.await_handled(5);
            let errors = errors(&mut romeo);
            assert_eq!(errors, ["resource-constraint"; 2]);
            assert_eq!(server.metric("refused.offline"), 2);
            let mut juliet = server.login("juliet", "balcony");
            juliet.send("<presence/>");
            assert_eq!(ids(&mut juliet, 3), numbers(0..3));
            server.await_metric("log.pending", 0);
            romeo.send(&chat("juliet@localhost", 5));
            assert_eq!(juliet.next_message(), "5");
        },
    );
}

#[test]
fn a_log_that_is_full_refuses_messages_and_takes_them_again_when_it_has_room() {
    on_each_driver_with(
        |config| {
            config.workers = 1;
            config.log_segment_mib = 2;
            config.log_mib_max = 16;
            one_sender_may_fill(config);
        },
        |server| {
            server.accounts(&["juliet", "romeo"]);
            let mut romeo = server.login("romeo", "orchard");
            romeo.enable_sm();
            let filler = "x".repeat(200_000);
            let (mut sent, mut refused) = (0, false);
            while !refused {
                for _ in 0..50 {
                    sent += 1;
                    romeo.send(&format!(
                        "<message to='juliet@localhost' type='chat' id='{sent}'><body>{filler}</body></message>"
                    ));
                }
                romeo.await_handled(sent);
                let errors = errors(&mut romeo);
                assert!(errors.iter().all(|error| error == "resource-constraint"), "{errors:?}");
                refused = !errors.is_empty();
                assert!(sent < 1_000, "a log of 16 MiB has taken everything");
            }
            assert!(server.metric("refused.log_full") > 0);
            let waiting = server.metric("log.pending");
            let mut juliet = server.login("juliet", "balcony");
            juliet.send("<presence/>");
            for _ in 0..waiting {
                juliet.next_message();
            }
            server.await_metric("log.pending", 0);
            // Files are deleted in the background.
            let mut last = sent;
            loop {
                last += 1;
                romeo.send(&chat("juliet@localhost", last));
                romeo.await_handled(last);
                if errors(&mut romeo).is_empty() {
                    break;
                }
                assert!(last < sent + 4_000, "there is no room again");
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            assert_eq!(juliet.next_message(), last.to_string());
        },
    );
}

/// A mailbox of 200 messages, in which a stranger has room for 10, all of them for 30 and a contact for 100.
fn small_mailbox(config: &mut Config) {
    config.limits.offline_messages = 200;
    config.limits.offline_percent_per_stranger = 5;
    config.limits.offline_percent_strangers = 15;
    config.limits.offline_percent_per_contact = 50;
    // How long a test takes is not to matter.
    config.limits.offline_strangers_per_minute = 1_000_000;
}

/// How many of so many messages were refused. Each is told and counted.
fn refused_of(server: &TestServer, client: &mut Client, count: usize) -> usize {
    let refused = || {
        let counters =
            ["refused.offline_sender", "refused.offline_strangers", "refused.offline_strangers_per_minute"];
        counters.into_iter().map(|name| server.metric(name)).sum::<u64>() as usize
    };
    let before = refused();
    let batch: String = (0..count).map(|n| chat("juliet@localhost", n)).collect();
    let errors = answer_to(client, &batch);
    let refused = refused() - before;
    assert!(errors.iter().all(|error| error == "resource-constraint"), "{errors:?}");
    assert_eq!(errors.len(), refused);
    refused
}

#[test]
fn what_is_on_its_way_between_workers_when_the_server_stops_is_not_lost() {
    const MESSAGES: usize = 240;
    let names = ["benvolio", "juliet", "mercutio", "nurse", "paris", "rosaline", "sampson", "tybalt"];
    for driver in drivers() {
        let mut server = TestServer::start(driver, one_sender_may_fill);
        server.accounts(&names);
        server.accounts(&["romeo"]);
        let mut romeo = server.login("romeo", "orchard");
        // Both workers have some of them, and only one has a client. What the other one has not read when the client hears that
        // everything has been handled is on its way when the server stops.
        for n in 0..MESSAGES {
            romeo.send(&chat(&format!("{}@localhost", names[n % names.len()]), n));
        }
        romeo.settle();
        server = server.restart(one_sender_may_fill);
        for (first, name) in names.iter().enumerate() {
            let mut client = server.login(name, "balcony");
            client.send("<presence/>");
            let expected: Vec<String> =
                (first..MESSAGES).step_by(names.len()).map(|n| n.to_string()).collect();
            assert_eq!(ids(&mut client, expected.len()), expected, "{name}");
        }
    }
}

#[test]
fn strangers_leave_room_for_contacts_over_a_restart_too() {
    for driver in drivers() {
        let server = TestServer::start(driver, small_mailbox);
        let strangers: Vec<String> = (0..40).map(|n| format!("stranger{n}")).collect();
        server.accounts(&strangers.iter().map(String::as_str).collect::<Vec<_>>());
        server.accounts(&["juliet", "romeo", "nurse"]);
        // He is in her roster; that she is in the nurse's does not count.
        contact(&server, "juliet", "romeo", Subscription::None);
        contact(&server, "nurse", "juliet", Subscription::To);
        let mut nurse = server.login("nurse", "house");
        assert_eq!(refused_of(&server, &mut nurse, 100), 90);
        assert_eq!(server.metric("refused.offline_sender"), 90);
        let mut romeo = server.login("romeo", "orchard");
        assert_eq!(refused_of(&server, &mut romeo, 60), 0);
        let one_each = |server: &TestServer, names: &[String]| -> usize {
            names.iter().map(|name| refused_of(server, &mut server.login(name, "x"), 1)).sum()
        };
        assert_eq!(one_each(&server, &strangers[..18]), 0);
        drop((nurse, romeo));

        let server = server.restart(small_mailbox);
        // Ten and eighteen wait, and thirty may.
        assert_eq!(one_each(&server, &strangers[18..]), 20);
        assert_eq!(server.metric("refused.offline_strangers"), 20);
        assert_eq!(refused_of(&server, &mut server.login("nurse", "house"), 1), 1);
        let mut romeo = server.login("romeo", "orchard");
        assert_eq!(refused_of(&server, &mut romeo, 50), 10, "his own share has an end, too");
        assert_eq!(server.metric("offline.counted"), 1);

        // When she has read them, there is room for everybody.
        let mut juliet = server.login("juliet", "balcony");
        juliet.send("<presence/>");
        ids(&mut juliet, 130);
        server.await_metric("log.pending", 0);
        assert_eq!(server.metric("offline.counted"), 0);
        assert_eq!(refused_of(&server, &mut server.login("nurse", "house"), 10), 0);
    }
}

#[test]
fn a_stranger_fills_the_mailbox_of_a_slow_reader_no_more_than_that_of_one_who_is_away() {
    on_each_driver_with(
        |config| {
            small_mailbox(config);
            config.limits.sm_unacked_stanzas = 16;
        },
        |server| {
            server.accounts(&["juliet", "romeo", "nurse"]);
            contact(server, "juliet", "romeo", Subscription::Both);
            let mut juliet = server.online("juliet", "balcony");
            juliet.enable_sm();
            let mut nurse = server.login("nurse", "house");
            assert_eq!(refused_of(server, &mut nurse, 100), 90, "she acknowledges nothing");
            assert_eq!(refused_of(server, &mut server.login("romeo", "orchard"), 50), 0);
            for n in 1..=60 {
                juliet.next_message();
                juliet.acknowledge(n);
            }
            server.await_metric("log.pending", 0);
            assert_eq!(refused_of(server, &mut nurse, 10), 0);
        },
    );
}
