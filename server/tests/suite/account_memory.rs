//! What all connections of one account make the server hold is bounded, whatever each of them does.

use std::time::{Duration, Instant};

use whimbrel_server::config::Config;
use whimbrel_server::xml::Element;

use crate::support::answers::outcome;
use crate::support::managed::chat;
use crate::support::{Client, PATIENCE, TestServer, on_each_driver_with};

/// Bytes of a stored vCard, which is what the account asks for.
const CARD_BYTES: usize = 200_000;

/// Bytes of a stanza that does not come to its end.
const UNFINISHED_BYTES: usize = 250_000;

/// Requests of a client that reads nothing: the answers to the first few are more than may wait for it.
const REQUESTS: usize = 40;

/// KiB that an account may hold: no more than two of its connections could hold alone.
const SHARE_KIB: u32 = 1172;

/// What the sum may be past the share, in bytes: one stanza, in a buffer that has just been doubled for it.
const SLACK_BYTES: u64 = 512 * 1024;

fn small_share(config: &mut Config) {
    let limits = &mut config.limits;
    limits.output_backlog_bytes = 600_000;
    limits.account_memory_kib = SHARE_KIB;
    limits.detached_bytes = 300_000;
    limits.offline_messages = 7_000;
}

/// Sessions that are gone, of which much is remembered: they have acknowledged nothing.
fn leave_sessions_behind(server: &TestServer, count: u64) {
    for n in 0..count {
        let mut client = server.login("juliet", &format!("absent{n}"));
        client.enable_sm();
        client.send("<iq type='get' id='c'><vCard xmlns='vcard-temp'/></iq>");
        assert_eq!(outcome(&client.next_stanza()), "result");
        client.cut();
        server.await_metric("sm.detached", n + 1);
    }
}

/// Waits until something is so.
#[track_caller]
fn until(is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "it does not come to that");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A client that asks for much and reads nothing of it.
fn deaf(server: &TestServer, name: &str) -> Client {
    let mut client = server.login("juliet", name);
    let before = (server.metric("reading.pauses"), server.metric("refused.answers"));
    let requests: String =
        (0..REQUESTS).map(|n| format!("<iq type='get' id='c{n}'><vCard xmlns='vcard-temp'/></iq>")).collect();
    client.send(&requests);
    // When the account has no room for a long answer, there are short ones.
    until(|| (server.metric("reading.pauses"), server.metric("refused.answers")) != before);
    client
}

/// A client that begins a long stanza. The server has read it, or has ended the stream.
fn begin_a_stanza(server: &TestServer, name: &str) -> Client {
    let mut client = server.login("juliet", name);
    let (ends, read) = (server.metric("stream_errors"), server.metric("bytes.in"));
    client.send(&format!("<message><body>{}", "x".repeat(UNFINISHED_BYTES)));
    until(|| {
        server.metric("stream_errors") != ends || server.metric("bytes.in") >= read + UNFINISHED_BYTES as u64
    });
    client
}

#[test]
fn the_connections_of_an_account_together_hold_no_more_than_its_share() {
    on_each_driver_with(small_share, |server| {
        server.accounts(&["juliet", "romeo", "benvolio"]);
        let mut juliet = server.login("juliet", "first");
        let card = format!("<vCard xmlns='vcard-temp'><NOTE>{}</NOTE></vCard>", "n".repeat(CARD_BYTES));
        assert_eq!(outcome(&juliet.ask("set", None, &card)), "result");
        juliet.send("</stream:stream>");
        server.await_metric("sessions", 0);

        let mut romeo = server.login("romeo", "orchard");
        romeo.enable_sm();
        for n in 0..40 {
            romeo.send(&chat("juliet@localhost", n));
        }
        romeo.await_handled(40);
        leave_sessions_behind(server, 2);
        let crowd: Vec<Client> = ["deaf1", "deaf2"].map(|name| deaf(server, name)).into();
        let begun: Vec<Client> = ["long1", "long2", "long3"].map(|name| begin_a_stanza(server, name)).into();

        // Each of them alone is within its limits; together they are not.
        assert!(server.metric("memory.account.stripped") > 0, "nobody who is absent has given up anything");
        assert!(server.metric("refused.account_memory") > 0, "all stanzas were read on");
        let most = server.metric("memory.account.high_water");
        let share = u64::from(SHARE_KIB) * 1024;
        assert!((share / 2..=share + SLACK_BYTES).contains(&most), "{most} bytes of an account of {share}");
        // A connection of the same account that holds nothing is served, and others do not notice.
        server.login("juliet", "small").settle();
        let mut benvolio = server.login("benvolio", "street");
        romeo.send(&chat(&benvolio.jid, 100));
        assert_eq!(benvolio.next_message(), "100");

        // What was acknowledged is there.
        drop((crowd, begun));
        let mut juliet = server.login("juliet", "last");
        juliet.enable_sm();
        juliet.send("<presence/>");
        for n in 0..40 {
            assert_eq!(juliet.next_message(), n.to_string());
        }
    });
}

/// The answer to the request `id`; everything before it is passed over.
fn answer(client: &mut Client, id: &str) -> Element {
    client.set_aside_until(|stanza| stanza.name() == "iq" && stanza.attribute("id") == Some(id))
}

#[test]
fn what_an_account_asks_for_beyond_its_share_is_produced_as_it_reads() {
    on_each_driver_with(small_share, |server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "first");
        let card = format!("<vCard xmlns='vcard-temp'><NOTE>{}</NOTE></vCard>", "n".repeat(CARD_BYTES));
        assert_eq!(outcome(&juliet.ask("set", None, &card)), "result");
        let mut crowd: Vec<Client> = (0..3).map(|n| deaf(server, &format!("deaf{n}"))).collect();
        let share = u64::from(SHARE_KIB) * 1024;
        let most = server.metric("memory.account.high_water");
        assert!(most <= share, "{most} bytes of an account of {share}");
        for client in &mut crowd {
            for n in 0..REQUESTS {
                let said = outcome(&answer(client, &format!("c{n}")));
                assert!(["result", "resource-constraint"].contains(&said.as_str()), "{said}");
            }
        }
        server.await_metric("queue.output.length", 0);
    });
}
