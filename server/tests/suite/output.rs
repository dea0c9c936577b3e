//! What waits for a client, and what is remembered of it, is bounded; and that is paid for by who causes it.

use whimbrel_server::memory::Pressure;
use whimbrel_server::xml::Element;

use crate::support::answers::{befriend, outcome};
use crate::support::managed::{SM, chat};
use crate::support::{Client, TestServer, on_each_driver, on_each_driver_with};

/// The smallest that goes with the usual `limits.stanza_bytes`.
const BACKLOG: u32 = 600_000;

/// A vCard of so many bytes is stored for a client's account.
fn store_card(client: &mut Client, bytes: usize) {
    let card = format!("<vCard xmlns='vcard-temp'><NOTE>{}</NOTE></vCard>", "n".repeat(bytes));
    assert_eq!(outcome(&client.ask("set", None, &card)), "result");
}

fn card_requests(count: usize) -> String {
    (0..count).map(|n| format!("<iq type='get' id='c{n}'><vCard xmlns='vcard-temp'/></iq>")).collect()
}

fn small_backlog(server: impl Fn(&TestServer)) {
    on_each_driver_with(|config| config.limits.output_backlog_bytes = BACKLOG, server);
}

/// The answer to the request `id`; everything before it is passed over.
fn answer(client: &mut Client, id: &str) -> Element {
    client.set_aside_until(|stanza| stanza.name() == "iq" && stanza.attribute("id") == Some(id))
}

#[test]
fn a_burst_of_requests_is_answered_as_its_client_reads() {
    small_backlog(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        store_card(&mut juliet, 200_000);
        juliet.send(&card_requests(80));
        // The kernel takes much less than all answers.
        while server.metric("reading.pauses") == 0 {
            std::thread::yield_now();
        }
        server.login("romeo", "orchard").settle();
        for n in 0..80 {
            assert_eq!(outcome(&answer(&mut juliet, &format!("c{n}"))), "result");
        }
        assert_eq!(juliet.quiet(), []);
        let most = server.metric("queue.output.high_water");
        assert!(most <= u64::from(BACKLOG), "{most} bytes have waited for one client");
        assert_eq!(server.metric("refused.output_backlog_bytes"), 0);
        server.await_metric("queue.output.length", 0);
    });
}

#[test]
fn presence_of_others_ends_no_client_that_reads_late() {
    small_backlog(|server| {
        server.accounts(&["juliet", "romeo"]);
        befriend(server, "juliet", "romeo");
        let mut juliet = server.online("juliet", "balcony");
        let mut romeo = server.online("romeo", "orchard");
        romeo.fence(&mut juliet);
        juliet.quiet();
        // More than the kernel takes for a client that does not read.
        let status = "s".repeat(100_000);
        for n in 0..300 {
            let away = format!("<show>away</show><status>{n} {status}</status>");
            romeo.send(&format!("<presence to='juliet@localhost'>{away}</presence>"));
        }
        romeo.send("<presence><show>dnd</show></presence>");
        romeo.settle();
        // She reads, and sees in the end how it is now.
        juliet.set_aside_until(|stanza| {
            stanza.find("show", "jabber:client").is_some_and(|show| show.content() == "dnd")
        });
        juliet.settle();
        let most = server.metric("queue.output.high_water");
        assert!(most <= u64::from(BACKLOG), "{most} bytes have waited for one client");
        assert_eq!(server.metric("refused.output_backlog_bytes"), 0);
    });
}

#[test]
fn strangers_end_no_managed_session_that_acknowledges_nothing() {
    on_each_driver_with(
        |config| config.limits.sm_unacked_stanzas = 64,
        |server| {
            server.accounts(&["juliet", "romeo"]);
            let mut juliet = server.login("juliet", "balcony");
            let id = juliet.enable_sm();
            let mut romeo = server.login("romeo", "orchard");
            for n in 0..500 {
                romeo.send(&format!("<presence to='{}'><status>{n}</status></presence>", juliet.jid));
            }
            romeo.fence(&mut juliet);
            let got = juliet.quiet();
            let seen = got.iter().filter(|stanza| stanza.name() == "presence").count();
            assert_eq!(seen, 500, "a client that reads gets everything");
            // Numbers are right to the end, and the session can be resumed.
            juliet.acknowledge(501);
            juliet.settle();
            let jid = juliet.jid.clone();
            juliet.cut();
            server.await_metric("sm.detached", 1);
            let (mut juliet, answer) = Client::resume(server.address(), "juliet", &jid, &id, 502);
            assert!(answer.is("resumed", SM), "{answer:?}");
            juliet.settle();
            assert_eq!(server.metric("refused.sm_unacked"), 0);
        },
    );
}

#[test]
fn a_resumed_client_is_told_to_ask_again_for_what_was_too_much_to_remember() {
    on_each_driver_with(
        |config| {
            config.limits.sm_unacked_bytes = 2 * config.limits.stanza_bytes;
            config.limits.detached_bytes = 250_000;
        },
        |server| {
            server.accounts(&["juliet"]);
            let mut juliet = server.login("juliet", "balcony");
            store_card(&mut juliet, 200_000);
            let id = juliet.enable_sm();
            juliet.send(&card_requests(5));
            for n in 0..5 {
                assert_eq!(outcome(&answer(&mut juliet, &format!("c{n}"))), "result");
            }
            assert_eq!(server.metric("sm.unremembered"), 3);
            let jid = juliet.jid.clone();
            juliet.cut();
            server.await_metric("sm.detached", 1);
            let (mut juliet, resumed) = Client::resume(server.address(), "juliet", &jid, &id, 0);
            assert!(resumed.is("resumed", SM), "{resumed:?}");
            let outcomes: Vec<String> =
                (0..5).map(|n| outcome(&answer(&mut juliet, &format!("c{n}")))).collect();
            let wait = "resource-constraint";
            assert_eq!(outcomes, ["result", wait, wait, wait, wait]);
            juliet.acknowledge(5);
            juliet.settle();
        },
    );
}

#[test]
fn a_client_that_reads_is_asked_for_acknowledgements_by_bytes() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        store_card(&mut juliet, 100_000);
        juliet.enable_sm();
        juliet.send(&card_requests(3));
        for n in 0..3 {
            assert_eq!(outcome(&juliet.stanza()), "result", "{n}");
            assert!(juliet.stanza().is("r", SM), "each is more than is sent without asking");
        }
    });
}

#[test]
fn an_older_count_is_ignored() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        juliet.enable_sm();
        for _ in 0..3 {
            juliet.settle();
        }
        for h in [3, 1, u32::MAX, 3] {
            juliet.acknowledge(h);
        }
        juliet.settle();
        juliet.acknowledge(4);
        juliet.settle();
    });
}

#[test]
fn what_waits_for_a_resource_outlives_a_connection_that_breaks_before_it_is_managed() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut romeo = server.login("romeo", "orchard");
        let mut juliet = server.login("juliet", "balcony");
        juliet.enable_sm();
        let jid = juliet.jid.clone();
        romeo.send(&chat(&jid, 1));
        assert_eq!(juliet.next_message(), "1");
        juliet.cut();
        server.await_metric("sm.detached", 1);
        // A connection that gets as far as binding, and to which a message is sent before it breaks.
        let mut juliet = server.login("juliet", "balcony");
        romeo.send(&chat(&jid, 2));
        romeo.settle();
        juliet.settle();
        assert_eq!(
            juliet.messages_set_aside(),
            Vec::<String>::new(),
            "it is not known whether she is managed"
        );
        juliet.cut();
        server.await_metric("sessions", 1);
        // What waits comes first, once it can be acknowledged, with and without stream management.
        let mut juliet = server.login("juliet", "balcony");
        juliet.enable_sm();
        romeo.send(&chat(&jid, 3));
        assert_eq!([juliet.next_message(), juliet.next_message(), juliet.next_message()], ["1", "2", "3"]);
        server.await_metric("log.pending", 3);
        juliet.send("</stream:stream>");
        server.await_metric("sessions", 1);
        let mut juliet = server.login("juliet", "balcony");
        juliet.send("<presence/>");
        assert_eq!([juliet.next_message(), juliet.next_message(), juliet.next_message()], ["1", "2", "3"]);
        server.await_metric("log.pending", 0);
    });
}

#[test]
fn a_message_that_came_live_before_management_stays_until_it_is_acknowledged() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut romeo = server.login("romeo", "orchard");
        let mut juliet = server.login("juliet", "balcony");
        let jid = juliet.jid.clone();
        romeo.send(&chat(&jid, 1));
        assert_eq!(juliet.next_message(), "1");
        juliet.cut();
        server.await_metric("sessions", 1);
        let mut juliet = server.login("juliet", "balcony");
        juliet.enable_sm();
        assert_eq!(juliet.next_message(), "1");
        juliet.acknowledge(1);
        server.await_metric("log.pending", 0);
    });
}

#[test]
fn a_roster_is_bounded_in_bytes() {
    on_each_driver_with(
        |config| config.limits.roster_bytes = 3_000,
        |server| {
            server.accounts(&["juliet"]);
            let mut juliet = server.login("juliet", "balcony");
            let mut put = |n: usize, name: usize| {
                let item = format!("<item jid='c{n}@example.org' name='{}'/>", "&lt;".repeat(name));
                outcome(&juliet.ask("set", None, &format!("<query xmlns='jabber:iq:roster'>{item}</query>")))
            };
            // As they are written, four bytes for one.
            assert_eq!(
                [put(0, 200), put(1, 200), put(2, 200), put(3, 200)],
                ["result", "result", "result", "resource-constraint"]
            );
            assert_eq!(put(3, 10), "result");
            assert_eq!(put(1, 400), "resource-constraint", "nor may one grow");
            assert_eq!(put(1, 100), "result", "it may shrink");
        },
    );
}

#[test]
fn connections_and_detached_sessions_are_given_up_when_memory_is_short() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.online("juliet", "balcony");
        let mut romeo = server.login("romeo", "orchard");
        romeo.enable_sm();
        romeo.cut();
        server.await_metric("sm.detached", 1);
        let budget = |mib: u32, wanted: Pressure| {
            let shared = &server.server.shared;
            let mut config = (**shared.config.read().unwrap()).clone();
            config.limits.memory_mib = mib;
            *shared.config.write().unwrap() = config.into();
            while shared.memory.pressure() != wanted {
                std::thread::yield_now();
            }
        };
        // Less than any program uses.
        budget(1, Pressure::Out);
        server.await_metric("sm.detached", 0);
        let mut late = Client::connect(server.address());
        late.expect_stream_error("resource-constraint");
        assert!(server.metric("refused.memory") >= 2);
        juliet.settle();
        budget(1 << 20, Pressure::None);
        server.login("romeo", "orchard").settle();
    });
}
