//! Clients that do not read.

use whimbrel_server::config::Config;

use super::{PLAIN, Verona};
use crate::counters::stage::{Stage, Step};
use crate::support::Client;
use crate::support::answers::outcome;

/// The steps.
pub(super) const STEPS: &[Step<Verona>] = &[
    Step {
        what: "a client does not read its messages",
        configure: |config| {
            config.limits.stanza_bytes = 64 * 1024;
            config.limits.output_backlog_bytes = 256 * 1024;
            config.limits.sm_unacked_bytes = 256 * 1024;
            config.limits.roster_bytes = 64 * 1024;
        },
        act: |stage, server| {
            let _deaf = server.online("juliet", "balcony");
            let mut romeo = server.login("romeo", "orchard");
            let filler = "x".repeat(30_000);
            stage.until_with("log.behind", || {
                romeo.send(&format!(
                    "<message to='juliet@localhost' type='chat'><body>{filler}</body></message>"
                ));
                romeo.settle();
            });
        },
        moves: &["log.behind"],
        ..PLAIN
    },
    Step {
        what: "a client asks for much and does not read",
        configure: |config| config.limits.output_backlog_bytes = 600_000,
        act: |stage, server| {
            let mut juliet = server.login("juliet", "balcony");
            let card = format!("<vCard xmlns='vcard-temp'><NOTE>{}</NOTE></vCard>", "n".repeat(200_000));
            assert_eq!(outcome(&juliet.ask("set", None, &card)), "result");
            juliet.send(&"<iq type='get' id='c'><vCard xmlns='vcard-temp'/></iq>".repeat(80));
            stage.until("queue.output.length");
            stage.until("reading.pauses");
        },
        moves: &["queue.output.length", "queue.output.high_water", "reading.pauses"],
        ..PLAIN
    },
    Step {
        what: "a client does not read what is kept nowhere, and reads in the end",
        configure: |config| config.limits.output_backlog_bytes = 600_000,
        act: lose_presence,
        moves: &["output.dropped", "presence.refreshed"],
        ..PLAIN
    },
    Step {
        what: "an account blocks and unblocks before another of its clients that does not read",
        configure: |config| {
            config.limits.stanza_bytes = 64 * 1024;
            config.limits.output_backlog_bytes = 128 * 1024;
            config.limits.sm_unacked_bytes = 128 * 1024;
            config.limits.roster_bytes = 64 * 1024;
        },
        act: |stage, server| {
            let mut deaf = server.login("juliet", "balcony");
            assert_eq!(outcome(&deaf.ask("get", None, "<blocklist xmlns='urn:xmpp:blocking'/>")), "result");
            let mut other = server.login("juliet", "chamber");
            let name = "n".repeat(900);
            let items: String = (0..50).map(|n| format!("<item jid='{n}{name}@localhost'/>")).collect();
            let mut verbs = ["block", "unblock"].iter().cycle();
            stage.until_with("refused.output_backlog_bytes", || {
                let verb = verbs.next().unwrap();
                let set = format!("<{verb} xmlns='urn:xmpp:blocking'>{items}</{verb}>");
                assert_eq!(outcome(&other.ask("set", None, &set)), "result");
            });
        },
        moves: &["refused.output_backlog_bytes"],
        ..PLAIN
    },
    Step {
        what: "a message has too many elements",
        act: |stage, server| {
            let mut juliet = server.login("juliet", "balcony");
            juliet.send(&format!("<message to='romeo@localhost'>{}</message>", "<a/>".repeat(1025)));
            stage.until("refused.elements");
        },
        moves: &["refused.elements"],
        ..PLAIN
    },
    Step {
        what: "a presence to all contacts is too long",
        configure: |config| config.limits.presence_bytes = 1024,
        act: |stage, server| {
            let mut juliet = server.login("juliet", "balcony");
            juliet.send(&format!("<presence><status>{}</status></presence>", "x".repeat(1024)));
            stage.until("refused.presence_bytes");
        },
        moves: &["refused.presence_bytes"],
        ..PLAIN
    },
    Step {
        what: "an account shows more presence than it may hold",
        configure: little_output,
        act: |stage, server| {
            let text = "x".repeat(9_000);
            let mut absent = server.login("juliet", "absent");
            absent.enable_sm();
            absent.cut();
            server.await_metric("sm.detached", 1);
            let mut resources: Vec<Client> =
                (0..8).map(|n| server.login("juliet", &format!("r{n}"))).collect();
            for client in &mut resources {
                client.send(&format!("<presence><status>{text}</status></presence>"));
            }
            stage.until("refused.account_memory");
        },
        moves: &["refused.account_memory", "memory.account.high_water", "memory.account.stripped"],
        ..PLAIN
    },
    Step {
        what: "an account whose clients acknowledge nothing asks for more and more",
        configure: |config| {
            let limits = &mut config.limits;
            limits.stanza_bytes = 64 * 1024;
            limits.output_backlog_bytes = 256 * 1024;
            limits.sm_unacked_bytes = 256 * 1024;
            limits.account_memory_kib = 512;
            limits.offline_messages = 200;
        },
        act: |stage, server| {
            let mut clients: Vec<Client> = (0..4).map(|n| server.login("juliet", &format!("r{n}"))).collect();
            let card = format!("<vCard xmlns='vcard-temp'><NOTE>{}</NOTE></vCard>", "n".repeat(60_000));
            assert_eq!(outcome(&clients[0].ask("set", None, &card)), "result");
            clients.iter_mut().for_each(|client| drop(client.enable_sm()));
            stage.until_with("refused.answers", || {
                for client in &mut clients {
                    client.ask("get", None, "<vCard xmlns='vcard-temp'/>");
                }
            });
        },
        moves: &["refused.answers"],
        ..PLAIN
    },
];

/// The least that may wait for a client, and for an account.
fn little_output(config: &mut Config) {
    let limits = &mut config.limits;
    limits.stanza_bytes = 10_000;
    limits.output_backlog_bytes = 20_000;
    limits.sm_unacked_bytes = 20_000;
    limits.roster_bytes = 10_000;
    limits.account_memory_kib = 40;
    limits.offline_messages = 200;
}

fn lose_presence(stage: &mut Stage<'_>, server: &Verona) {
    let mut juliet = server.online("juliet", "balcony");
    let mut romeos: Vec<Client> = (0..8).map(|n| server.login("romeo", &format!("r{n}"))).collect();
    let filler = "x".repeat(60_000);
    stage.until_with("output.dropped", || {
        let body = format!("<body>{filler}</body>");
        romeos[0].send(&format!("<message to='{}' type='headline'>{body}</message>", juliet.jid));
        romeos[0].settle();
    });
    // Of each sender the newest is held, but not of so many.
    for romeo in &mut romeos {
        romeo.send(&format!("<presence to='{}'><status>{filler}{filler}</status></presence>", juliet.jid));
        romeo.settle();
    }
    stage.until_with("presence.refreshed", || juliet.settle());
}
