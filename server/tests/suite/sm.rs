//! Stream management (XEP-0198): acknowledgements in both directions, and resumption.

use whimbrel_server::xml::Element;

use crate::support::managed::{SM, chat, delayed};
use crate::support::{Client, Said, TestServer, on_each_driver, on_each_driver_with, server_password};

fn failed_with(element: &Element, condition: &str) {
    assert!(element.is("failed", SM), "{element:?}");
    assert!(element.elements().any(|child| child.name() == condition), "{element:?}");
}

/// Waits until the server has noticed that `name`'s connection is gone.
fn cut(server: &TestServer, client: Client) {
    let before = server.metric("sm.detached");
    client.cut();
    server.await_metric("sm.detached", before + 1);
}

#[test]
fn before_the_login_it_is_refused_and_the_stream_goes_on() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut client = Client::connect(server.address());
        client.open_stream("localhost");
        for element in ["<enable", "<resume previd='x' h='0'", "<r"] {
            client.send(&format!("{element} xmlns='{SM}'/>"));
            failed_with(&client.stanza(), "unexpected-request");
        }
        assert_eq!(client.authenticate_plain("juliet", &server_password("juliet")).name(), "success");
    });
}

#[test]
fn it_is_offered_after_the_login_and_enabled_once_a_resource_is_bound() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = Client::connect(server.address());
        let features = juliet.open_stream("localhost");
        assert!(features.find("sm", SM).is_none());
        juliet.authenticate_plain("juliet", &crate::support::server_password("juliet"));
        let features = juliet.open_stream("localhost");
        assert!(features.find("sm", SM).is_some());
        juliet.send(&format!("<enable xmlns='{SM}'/>"));
        failed_with(&juliet.stanza(), "unexpected-request");
        juliet.bind("balcony");
        juliet.send(&format!("<r xmlns='{SM}'/>"));
        failed_with(&juliet.stanza(), "unexpected-request");
        juliet.enable_sm();
        juliet.send(&format!("<enable xmlns='{SM}'/>"));
        failed_with(&juliet.stanza(), "unexpected-request");
        juliet.send(&format!("<resume xmlns='{SM}' previd='x' h='0'/>"));
        failed_with(&juliet.stanza(), "unexpected-request");
        // The stream is still good.
        juliet.await_handled(0);
    });
}

#[test]
fn without_the_wish_to_resume_there_is_no_name_and_a_short_wish_is_granted() {
    on_each_driver_with(
        |config| config.limits.sm_resume_seconds = 300,
        |server| {
            server.accounts(&["juliet"]);
            for (wish, max) in
                [("", None), (" resume='true'", Some("300")), (" resume='1' max='20'", Some("20"))]
            {
                let mut juliet = server.login("juliet", "balcony");
                juliet.send(&format!("<enable xmlns='{SM}'{wish}/>"));
                let enabled = juliet.expect("enabled");
                assert_eq!(enabled.attribute("max"), max, "{wish}");
                assert_eq!(enabled.attribute("id").is_some(), max.is_some(), "{wish}");
            }
        },
    );
}

#[test]
fn the_server_counts_what_it_has_handled() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        juliet.enable_sm();
        juliet.await_handled(0);
        juliet.send("<presence/>");
        juliet.await_handled(1);
        juliet.settle();
        juliet.await_handled(2);
        // To somebody who is not there, to nobody, to oneself, and nonsense: all are handled.
        for to in ["romeo@localhost", "nobody@localhost", "juliet@localhost", "", "@"] {
            juliet.send(&chat(to, "m"));
        }
        juliet.send("<message to='romeo@localhost'/><iq/>");
        juliet.await_handled(9);
    });
}

#[test]
fn each_message_is_acknowledged_once_it_is_safe_wherever_its_recipient_lives() {
    on_each_driver(|server| {
        let names: Vec<String> =
            (0..4).map(|n| server.name_at_home_on(n % 2, &format!("user{n}x"))).collect();
        server.accounts(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let mut sender = server.login(&names[0], "balcony");
        sender.enable_sm();
        for round in 1..=50 {
            for name in &names {
                sender.send(&chat(&format!("{name}@localhost"), round));
            }
            if round % 10 == 0 {
                sender.await_handled(round * 4);
            }
        }
        // One copy of those to the own account; of the others one for the recipient and one for the sender's archive.
        assert_eq!(server.metric("log.settled"), 50 + 2 * 150);
        assert_eq!(server.metric("queue.commit.length"), 0);
    });
}

#[test]
fn a_client_that_acknowledges_more_than_it_got_is_told_how_much_that_was() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        juliet.enable_sm();
        juliet.settle();
        juliet.acknowledge(1);
        juliet.acknowledge(3);
        let error = juliet.set_aside_until(|element| element.name() == "error");
        assert!(error.elements().any(|child| child.name() == "undefined-condition"), "{error:?}");
        let count = error.find("handled-count-too-high", SM).expect("the reason");
        assert_eq!((count.attribute("h"), count.attribute("send-count")), (Some("3"), Some("1")));
        juliet.quiet();
        juliet.expect_close();
        assert_eq!(server.metric("sm.detached"), 0);
    });
}

#[test]
fn a_client_is_asked_to_acknowledge_what_it_gets() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.online("juliet", "balcony");
        juliet.enable_sm();
        let mut romeo = server.login("romeo", "orchard");
        romeo.send(&chat(&juliet.jid, "m"));
        assert_eq!(juliet.expect("message").attribute("id"), Some("m"));
        assert!(juliet.stanza().is("r", SM));
        server.await_metric("log.pending", 1);
        juliet.acknowledge(1);
        server.await_metric("log.pending", 0);
    });
}

#[test]
fn a_resumed_session_receives_what_it_missed_in_order_and_contacts_notice_nothing() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut romeo = server.online("romeo", "orchard");
        let mut juliet = server.login("juliet", "balcony");
        let id = juliet.enable_sm();
        juliet.send("<presence><status>here</status></presence>");
        juliet.expect("presence");
        let jid = juliet.jid.clone();
        // One that arrives and is acknowledged, one that arrives and is not, and some that do not arrive.
        romeo.send(&chat(&jid, 1));
        assert_eq!(juliet.next_message(), "1");
        juliet.acknowledge(2);
        romeo.send(&chat(&jid, 2));
        assert_eq!(juliet.next_message(), "2");
        cut(server, juliet);
        for n in 3..6 {
            romeo.send(&chat(&jid, n));
        }
        romeo.send(&format!("<iq type='get' id='ask' to='{jid}'><query xmlns='jabber:iq:version'/></iq>"));
        romeo.send(&format!("<message to='{jid}' type='headline' id='6'/>"));
        romeo.settle();
        assert_eq!(romeo.quiet(), [], "she is there, as far as he can tell");
        let (mut juliet, answer) = Client::resume(server.address(), "juliet", &jid, &id, 2);
        assert!(answer.is("resumed", SM), "{answer:?}");
        assert_eq!((answer.attribute("previd"), answer.attribute("h")), (Some(&*id), Some("1")));
        for n in 2..6 {
            let message = juliet.expect("message");
            assert_eq!(message.attribute("id"), Some(&*n.to_string()));
            assert!(delayed(&message).is_some(), "it comes late");
        }
        assert_eq!(juliet.expect("iq").attribute("id"), Some("ask"));
        assert_eq!(juliet.expect("message").attribute("id"), Some("6"));
        assert!(juliet.stanza().is("r", SM));
        juliet.acknowledge(8);
        server.await_metric("log.pending", 0);
        // It goes on both ways.
        juliet.send(&chat(&romeo.jid, "back"));
        juliet.await_handled(2);
        assert_eq!(romeo.next_message(), "back");
        romeo.send(&chat(&jid, 7));
        assert_eq!(juliet.next_message(), "7");
        assert_eq!(server.metric("sm.resumed"), 1);
        assert_eq!(server.metric("sm.detached"), 0);
    });
}

#[test]
fn a_session_is_resumed_from_whichever_worker_accepts_the_connection() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut romeo = server.online("romeo", "orchard");
        let mut juliet = server.online("juliet", "balcony");
        let (jid, mut id) = (juliet.jid.clone(), juliet.enable_sm());
        for round in 0..20 {
            cut(server, juliet);
            romeo.send(&chat(&jid, round));
            romeo.settle();
            let answer;
            (juliet, answer) = Client::resume(server.address(), "juliet", &jid, &id, round);
            id = answer.attribute("previd").expect("the same name").to_owned();
            assert_eq!(juliet.next_message(), round.to_string());
        }
        // With two workers and twenty connections both have had some, unless a coin falls the same way each time.
        assert_eq!(server.metric("sm.resumed"), 20);
    });
}

#[test]
fn a_resumption_replaces_a_connection_that_is_still_there() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut older = server.online("juliet", "balcony");
        let (jid, id) = (older.jid.clone(), older.enable_sm());
        let mut romeo = server.online("romeo", "orchard");
        romeo.send(&chat(&jid, 1));
        assert_eq!(older.next_message(), "1");
        let (mut newer, answer) = Client::resume(server.address(), "juliet", &jid, &id, 0);
        assert!(answer.is("resumed", SM), "{answer:?}");
        older.expect_stream_error("conflict");
        assert_eq!(newer.next_message(), "1");
        romeo.send(&chat(&jid, 2));
        assert_eq!(newer.next_message(), "2");
        assert_eq!(romeo.quiet(), []);
    });
}

#[test]
fn what_cannot_be_resumed_is_refused_and_the_client_can_bind() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut romeo = server.online("romeo", "orchard");
        let hers = romeo.enable_sm();
        // A name that was never given, no name, and the name of somebody else's session.
        for id in ["0123456789abcdef", "nonsense", hers.as_str()] {
            let (mut juliet, answer) = Client::resume(server.address(), "juliet", "", id, 0);
            failed_with(&answer, "item-not-found");
            assert_eq!(answer.attribute("h"), None);
            juliet.bind("balcony");
            juliet.settle();
        }
        // One that was closed.
        let mut juliet = server.online("juliet", "garden");
        let id = juliet.enable_sm();
        juliet.send("</stream:stream>");
        while !matches!(juliet.next(), Said::Ended) {}
        let (_, answer) = Client::resume(server.address(), "juliet", "", &id, 0);
        failed_with(&answer, "item-not-found");
    });
}

#[test]
fn a_resumption_that_acknowledges_too_much_ends_only_the_new_stream() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.online("juliet", "balcony");
        let (jid, id) = (juliet.jid.clone(), juliet.enable_sm());
        cut(server, juliet);
        let (_, answer) = Client::resume(server.address(), "juliet", &jid, &id, 5);
        assert!(answer.find("handled-count-too-high", SM).is_some(), "{answer:?}");
        let (_, answer) = Client::resume(server.address(), "juliet", &jid, &id, 0);
        assert!(answer.is("resumed", SM), "{answer:?}");
    });
}

#[test]
fn a_session_that_nobody_resumes_ends_and_what_it_missed_goes_to_the_next() {
    on_each_driver_with(
        |config| config.limits.sm_resume_seconds = 1,
        |server| {
            server.accounts(&["juliet", "romeo"]);
            crate::support::answers::befriend(server, "juliet", "romeo");
            let mut romeo = server.online("romeo", "orchard");
            let mut juliet = server.online("juliet", "balcony");
            juliet.enable_sm();
            assert_eq!(romeo.next_stanza().name(), "presence");
            let jid = juliet.jid.clone();
            cut(server, juliet);
            romeo.send(&chat(&jid, 1));
            romeo.send(&chat("juliet@localhost", 2));
            romeo
                .send(&format!("<iq type='get' id='ask' to='{jid}'><query xmlns='jabber:iq:version'/></iq>"));
            let (mut gone, mut refused) = (false, false);
            while !(gone && refused) {
                let stanza = romeo.next_stanza();
                match stanza.name() {
                    "presence" => gone |= stanza.attribute("type") == Some("unavailable"),
                    "iq" => refused |= crate::support::answers::outcome(&stanza) == "service-unavailable",
                    other => panic!("{other}"),
                }
            }
            assert_eq!(server.metric("sm.expired"), 1);
            let mut juliet = server.login("juliet", "garden");
            juliet.send("<presence/>");
            assert_eq!([juliet.next_message(), juliet.next_message()], ["1", "2"]);
            server.await_metric("log.pending", 0);
        },
    );
}

#[test]
fn what_a_session_leaves_unacknowledged_goes_to_another_resource_at_once() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut romeo = server.online("romeo", "orchard");
        let mut high = server.login("juliet", "high");
        high.enable_sm();
        high.send("<presence><priority>5</priority></presence>");
        let mut low = server.online("juliet", "low");
        for n in 1..=3 {
            romeo.send(&chat("juliet@localhost", n));
        }
        for n in 1..=3 {
            assert_eq!(high.next_message(), n.to_string());
        }
        // Two presences and two messages.
        high.acknowledge(4);
        high.send("</stream:stream>");
        let message = low.set_aside_until(|stanza| stanza.name() == "message");
        assert_eq!(message.attribute("id"), Some("3"));
        assert!(delayed(&message).is_some());
        romeo.fence(&mut low);
        assert_eq!(low.messages_set_aside(), Vec::<String>::new());
        server.await_metric("log.pending", 0);
    });
}

#[test]
fn a_client_that_never_acknowledges_gets_what_the_limit_allows_and_the_rest_when_it_does() {
    on_each_driver_with(
        |config| config.limits.sm_unacked_stanzas = 20,
        |server| {
            server.accounts(&["juliet", "romeo"]);
            let mut juliet = server.online("juliet", "balcony");
            juliet.enable_sm();
            let mut romeo = server.login("romeo", "orchard");
            for n in 0..50 {
                romeo.send(&chat("juliet@localhost", n));
            }
            // Shows that all of it has been handled on her worker; a message that is not kept would not be taken.
            romeo.ask("get", Some("juliet@localhost"), "<vCard xmlns='vcard-temp'/>");
            juliet.settle();
            let mut got = juliet.messages_set_aside();
            assert_eq!(got.len(), 10, "half of the limit");
            // The answer counts as well.
            let mut h = 11;
            while got.len() < 50 {
                juliet.acknowledge(h);
                got.push(juliet.next_message());
                h += 1;
            }
            let expected: Vec<String> = (0..50).map(|n| n.to_string()).collect();
            assert_eq!(got, expected);
            // All of that has been handled: what answers a request for an acknowledgement is no stanza.
            juliet.send("<r xmlns='urn:xmpp:sm:3'/>");
            juliet.set_aside_until(|element| element.name() == "a");
            // Stanzas that are not kept are not left to the log: past the half they are not taken.
            for n in 0..40 {
                romeo.send(&format!("<message to='{}' type='headline' id='{n}'/>", juliet.jid));
            }
            let request = "<query xmlns='jabber:iq:version'/>";
            romeo.send(&format!("<iq type='get' id='ask' to='{}'>{request}</iq>", juliet.jid));
            let refused = romeo.set_aside_until(|stanza| stanza.attribute("id") == Some("ask"));
            assert_eq!(crate::support::answers::outcome(&refused), "resource-constraint");
            // One is unacknowledged; with nine more there are ten.
            assert_eq!(server.metric("output.dropped"), 40 - 9 + 1);
            juliet.settle();
            assert_eq!(server.metric("refused.sm_unacked"), 0);
        },
    );
}

#[test]
fn a_session_of_before_a_restart_cannot_be_resumed_and_its_messages_come_after_binding() {
    for driver in crate::support::drivers() {
        let server = TestServer::start(driver, |_| {});
        server.accounts(&["juliet", "romeo"]);
        let mut romeo = server.online("romeo", "orchard");
        let his = romeo.enable_sm();
        let mut juliet = server.online("juliet", "balcony");
        let (jid, hers) = (juliet.jid.clone(), juliet.enable_sm());
        romeo.send(&chat(&jid, 1));
        assert_eq!(juliet.next_message(), "1");
        juliet.acknowledge(1);
        romeo.await_handled(1);
        romeo.send(&chat(&jid, 2));
        romeo.send(&chat("juliet@localhost", 3));
        romeo.await_handled(3);
        romeo.send(&chat("juliet@localhost", 4));
        romeo.await_handled(4);
        let server = server.restart(|_| {});
        server.await_metric("log.pending", 3);
        let (_, answer) = Client::resume(server.address(), "romeo", "", &his, 0);
        failed_with(&answer, "item-not-found");
        assert_eq!(answer.attribute("h"), Some("3"), "what was safe when the last message was sent");
        let (mut juliet, answer) = Client::resume(server.address(), "juliet", "", &hers, 1);
        failed_with(&answer, "item-not-found");
        juliet.bind("balcony");
        juliet.send("<presence/>");
        let got: Vec<String> = (0..3).map(|_| juliet.next_message()).collect();
        assert_eq!(got, ["2", "3", "4"]);
        server.await_metric("log.pending", 0);
    }
}

#[test]
fn a_new_session_takes_the_place_of_one_that_waits_to_be_resumed() {
    on_each_driver_with(
        |config| config.limits.resources_per_user = 2,
        |server| {
            server.accounts(&["juliet"]);
            for resource in ["same", "same", "other", "third"] {
                let mut juliet = server.online("juliet", resource);
                juliet.enable_sm();
                juliet.cut();
                let waiting = match resource {
                    "same" => 1,
                    _ => 2,
                };
                server.await_metric("sm.detached", waiting);
                server.await_metric("sessions", waiting);
            }
        },
    );
}
