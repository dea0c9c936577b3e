//! Sessions: what they hold, and stream management.

use super::{PLAIN, Verona};
use crate::counters::stage::{Stage, Step};
use crate::support::Client;
use crate::support::managed::chat;

/// The steps.
pub(super) const STEPS: &[Step<Verona>] = &[
    Step {
        what: "what sessions hold is sampled",
        act: sample_memory,
        moves: &["memory.unacked", "memory.held", "memory.presence", "memory.unfinished", "memory.detached"],
        ..PLAIN
    },
    Step {
        what: "presence for an inactive client",
        act: |stage, server| {
            let mut juliet = server.online("juliet", "balcony");
            juliet.send("<inactive xmlns='urn:xmpp:csi:0'/>");
            juliet.settle();
            let mut romeo = server.online("romeo", "orchard");
            romeo.send("<presence><show>away</show></presence>");
            romeo.settle();
            stage.until("inactive.held");
        },
        moves: &["inactive.held"],
        ..PLAIN
    },
    Step {
        what: "a session is cut and resumed, and another cannot be",
        act: resume,
        moves: &[
            "sm.enabled",
            "sm.detached",
            "sm.resumed",
            "sm.sent_again",
            "sm.resume_failed",
            "messages.ack_latency",
        ],
        ..PLAIN
    },
    Step {
        what: "nobody resumes a session",
        configure: |config| config.limits.sm_resume_seconds = 1,
        act: |stage, server| {
            let mut juliet = server.online("juliet", "balcony");
            juliet.enable_sm();
            juliet.cut();
            stage.until("sm.expired");
        },
        moves: &["sm.expired"],
        ..PLAIN
    },
    Step {
        what: "no session may wait to be resumed",
        configure: |config| config.limits.sm_detached_sessions = 0,
        act: |stage, server| {
            let mut juliet = server.online("juliet", "balcony");
            juliet.enable_sm();
            juliet.cut();
            stage.until("refused.sm_detached_sessions");
        },
        moves: &["refused.sm_detached_sessions"],
        ..PLAIN
    },
    Step {
        what: "a client acknowledges nothing",
        configure: |config| config.limits.sm_unacked_stanzas = 16,
        act: |stage, server| {
            let mut juliet = server.online("juliet", "balcony");
            juliet.enable_sm();
            let mut romeo = server.login("romeo", "orchard");
            let mut server_info = String::from("<iq type='get' id='d' to='localhost'>");
            server_info += "<query xmlns='http://jabber.org/protocol/disco#info'/></iq>";
            for name in ["sm.unremembered", "refused.sm_unacked"] {
                stage.until_with(name, || {
                    juliet.send(&server_info);
                    romeo.send(&format!("<iq type='get' id='v' to='{}'><x xmlns='urn:x'/></iq>", juliet.jid));
                    romeo.settle();
                });
            }
        },
        moves: &["sm.unremembered", "refused.sm_unacked"],
        ..PLAIN
    },
    Step {
        what: "clients send more than their shares of a turn",
        act: |stage, server| {
            let mut clients: Vec<Client> = (0..8).map(|n| server.login("romeo", &format!("r{n}"))).collect();
            let ping = "<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>";
            let burst = ping.repeat(100);
            for name in ["turns.cut", "turns.length", "input.held"] {
                stage.until_with(name, || clients.iter_mut().for_each(|client| client.send(&burst)));
            }
        },
        moves: &["turns.length", "turns.high_water", "turns.cut", "input.held", "input.held_high_water"],
        ..PLAIN
    },
    Step {
        what: "the end of a presence leads to more envelopes than a worker holds for itself",
        configure: |config| config.limits.directed_presence = 1_000,
        act: |stage, server| {
            let mut romeo = server.online("romeo", "orchard");
            for number in 0..1_000 {
                romeo.send(&format!("<presence to='nobody{number}@localhost'/>"));
            }
            romeo.settle();
            romeo.send("<presence type='unavailable'/>");
            stage.until("effects.spilled");
        },
        moves: &["effects", "effects.high_water", "effects.spilled", "mailbox.cuts"],
        ..PLAIN
    },
    Step {
        what: "a client sends more than its burst",
        // So little that also a slow machine serves faster than the rate.
        configure: |config| {
            config.limits.connection_stanzas_burst = 50;
            config.limits.connection_stanzas_per_second = 1;
        },
        act: |stage, server| {
            let mut romeo = server.login("romeo", "orchard");
            romeo
                .send(&"<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>".repeat(100));
            stage.until("reading.slowed");
        },
        moves: &["reading.slowed"],
        ..PLAIN
    },
];

fn sample_memory(stage: &mut Stage<'_>, server: &Verona) {
    let mut juliet = server.online("juliet", "balcony");
    juliet.enable_sm();
    let mut romeo = server.online("romeo", "orchard");
    romeo.send("<inactive xmlns='urn:xmpp:csi:0'/>");
    romeo.settle();
    juliet.send("<presence><status>upon the balcony</status></presence>");
    let disco = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    juliet.send(&format!("<iq type='get' id='d' to='localhost'>{disco}</iq>"));
    let mut half = server.login("juliet", "chamber");
    half.send(&format!("<message to='romeo@localhost'><body>{}", "x".repeat(5_000)));
    for name in ["memory.unacked", "memory.held", "memory.presence", "memory.unfinished"] {
        stage.until(name);
    }
    juliet.cut();
    stage.until("memory.detached");
}

fn resume(stage: &mut Stage<'_>, server: &Verona) {
    // Without presence, so that nothing but messages is counted.
    let mut juliet = server.login("juliet", "balcony");
    let (jid, id) = (juliet.jid.clone(), juliet.enable_sm());
    let mut romeo = server.login("romeo", "orchard");
    romeo.send(&chat(&jid, 1));
    assert_eq!(juliet.next_message(), "1");
    juliet.acknowledge(1);
    stage.until("messages.ack_latency");
    romeo.send(&chat(&jid, 2));
    assert_eq!(juliet.next_message(), "2");
    juliet.cut();
    stage.until("sm.detached");
    let (_there, answer) = Client::resume(server.address(), "juliet", &jid, &id, 1);
    assert_eq!(answer.name(), "resumed");
    let (_none, answer) = Client::resume(server.address(), "romeo", "", "nothing", 0);
    assert_eq!(answer.name(), "failed");
}
