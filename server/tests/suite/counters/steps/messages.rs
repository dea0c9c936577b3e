//! Messages, from one worker to another and to somebody who is away.

use whimbrel_server::config::Config;

use super::{PLAIN, Verona};
use crate::counters::stage::{Stage, Step};
use crate::support::answers::outcome;
use crate::support::managed::chat;

/// The steps.
pub(super) const STEPS: &[Step<Verona>] = &[
    Step {
        what: "users of two workers log in, change a roster and chat",
        act: chat_across_workers,
        moves: &[
            "connections",
            "sessions",
            "users",
            "accepts",
            "logins",
            "login.known_addresses",
            "binds",
            "migrations",
            "loop.work",
            "loop.work_longest",
            "contacts.bytes",
            "contacts.rosters_read",
            "buckets",
            "bytes.in",
            "bytes.out",
            "messages.in",
            "presences.in",
            "iqs.in",
            "messages.out",
            "presences.out",
            "iqs.out",
            "messages.latency",
            "messages.prompt_latency",
            "stanza_errors.out",
            "mailbox.letters",
            "timers",
            "log.appends",
            "log.bytes",
            "log.trims",
            "log.commits",
            "log.commit_time",
            "log.commit_longest",
            "log.settled",
            "queue.commit.high_water",
            "queue.completions.high_water",
            "queue.mailbox.high_water",
            "queue.mailbox_bytes.high_water",
            "queue.mailbox_recipients.high_water",
            "queue.directory.high_water",
            "queue.crypto.high_water",
        ],
        ..PLAIN
    },
    Step {
        what: "a message waits for a subscription on its way to the directory, and no more may",
        configure: |config| config.limits.held_bytes = 1,
        act: |stage, server| {
            let mut romeo = server.login("romeo", "orchard");
            // Each of them is written, and the message behind it waits until it is.
            let changes = ["subscribe", "unsubscribe"].map(|verb| {
                format!("<presence type='{verb}' to='juliet@localhost'/>{}", chat("juliet@localhost", 1))
            });
            romeo.send(&changes.concat().repeat(20));
            stage.until("held.stalls");
        },
        moves: &["held.stalls"],
        ..PLAIN
    },
    Step {
        what: "accounts have much waiting for their subscriptions, here and on another worker",
        configure: |config| config.limits.held_bytes = 64 * 1024,
        act: |stage, server| {
            let elsewhere = 1 - server.server.shared.home_of("juliet");
            let stranger = server.name_at_home_on(elsewhere, "stranger");
            server.accounts(&[&stranger]);
            let mut asks = server.login(&stranger, "one");
            let mut writes = server.login(&stranger, "two");
            let changes = ["subscribe", "unsubscribe"]
                .map(|verb| format!("<presence type='{verb}' to='juliet@localhost'/>"));
            let long = "x".repeat(12_000);
            let long =
                format!("<iq type='get' id='q' to='juliet@localhost'><q xmlns='urn:q'>{long}</q></iq>");
            for name in ["held.waits", "refused.held_bytes"] {
                stage.until_with(name, || {
                    asks.send(&changes.concat().repeat(8));
                    writes.send(&long.repeat(4));
                });
            }
        },
        moves: &["held.waits", "refused.held_bytes"],
        ..PLAIN
    },
    Step {
        what: "messages wait for an absent user, until there is no place",
        configure: |config| {
            config.limits.offline_messages = 3;
            one_sender_may_fill(config);
        },
        act: |stage, server| {
            let mut romeo = server.login("romeo", "orchard");
            (0..5).for_each(|n| romeo.send(&chat("juliet@localhost", n)));
            stage.until("refused.offline");
            stage.until("log.pending");
            let mut juliet = server.login("juliet", "balcony");
            juliet.send("<presence/>");
            assert_eq!(juliet.next_message(), "0");
        },
        moves: &["log.pending", "log.delivered_later", "refused.offline"],
        ..PLAIN
    },
    Step {
        what: "a stranger writes to nobody",
        act: |_, server| server.login("romeo", "orchard").send(&chat("nobody@localhost", 0)),
        moves: &["messages.ignored"],
        ..PLAIN
    },
    Step {
        what: "senders use up their shares of a mailbox",
        configure: |config| {
            config.limits.offline_messages = 200;
            config.limits.offline_percent_per_stranger = 5;
            config.limits.offline_percent_strangers = 10;
            config.limits.offline_percent_per_contact = 10;
            config.limits.offline_strangers_per_minute = 1_000_000;
        },
        act: fill_mailbox,
        moves: &["refused.offline_sender", "refused.offline_strangers", "offline.counted"],
        ..PLAIN
    },
    Step {
        what: "strangers write to somebody absent faster than they may",
        configure: |config| {
            config.limits.offline_messages = 200;
            config.limits.offline_percent_per_stranger = 5;
            config.limits.offline_strangers_per_minute = 1;
        },
        act: |stage, server| {
            server.accounts(&["tybalt", "paris"]);
            let mut strangers = ["tybalt", "paris"].map(|name| server.login(name, "x"));
            stage.until_with("refused.offline_strangers_per_minute", || {
                for stranger in &mut strangers {
                    stranger.send(&chat("juliet@localhost", 1));
                    stranger.settle();
                }
            });
        },
        moves: &["refused.offline_strangers_per_minute"],
        ..PLAIN
    },
];

/// One sender may take the whole mailbox.
pub(super) fn one_sender_may_fill(config: &mut Config) {
    config.limits.offline_percent_per_contact = 100;
    config.limits.offline_percent_per_stranger = 100;
    config.limits.offline_percent_strangers = 100;
}

fn fill_mailbox(stage: &mut Stage<'_>, server: &Verona) {
    let send_many = |from: &str| {
        let mut client = server.login(from, "x");
        (0..30).for_each(|n| client.send(&chat("juliet@localhost", n)));
        client.settle();
    };
    send_many("romeo");
    stage.until("refused.offline_sender");
    for stranger in ["tybalt", "paris", "rosaline"] {
        server.accounts(&[stranger]);
        send_many(stranger);
    }
    stage.until("refused.offline_strangers");
}

fn chat_across_workers(stage: &mut Stage<'_>, server: &Verona) {
    let (one, other) = (server.name_at_home_on(0, "benvolio"), server.name_at_home_on(1, "mercutio"));
    server.accounts(&[&one, &other]);
    let mut sender = server.online(&one, "street");
    sender.enable_sm();
    let mut recipient = server.online(&other, "square");
    // Which worker takes a connection is the kernel's choice.
    stage.until_with("migrations", || drop(server.login("juliet", "balcony")));
    let mut number = 0;
    let mut talk = || {
        sender.send(&chat(&recipient.jid, number));
        sender.fence(&mut recipient);
        number += 1;
    };
    // What waits for a commit, or in a mailbox, does so for a moment.
    for name in ["queue.commit.high_water", "queue.mailbox.high_water", "log.commit_longest"] {
        stage.until_with(name, &mut talk);
    }
    let item = "<query xmlns='jabber:iq:roster'><item jid='tybalt@localhost'/></query>";
    stage.until_with("queue.directory.high_water", || {
        assert_eq!(outcome(&sender.ask("set", None, item)), "result");
    });
    assert_eq!(
        outcome(&sender.ask("get", Some("localhost"), "<x xmlns='urn:nothing'/>")),
        "service-unavailable"
    );
    stage.until_with("queue.crypto.high_water", || drop(server.login("romeo", "orchard")));
}
