//! The steps of the walk that push causes, against doubles of push services.

use std::sync::mpsc::channel;
use std::thread::spawn;
use std::time::Duration;

use whimbrel_push::doubles::Answer;
use whimbrel_storage::directory::run_inline;

use super::stage::{Step, run};
use crate::push::providers::UNREGISTERED;
use crate::rooms::{PRIVATE, make, make_it};
use crate::support::answers::befriend;
use crate::support::doubles::Providers;
use crate::support::managed::chat;
use crate::support::{Client, PATIENCE};

/// Runs every step; nothing here depends on the driver.
#[test]
fn every_step_of_push_moves_what_it_says() {
    run(STEPS, |step, act| {
        let providers = Providers::start(step.configure);
        providers.server.accounts(&["juliet", "romeo"]);
        providers.asleep_with_fcm("juliet");
        act(&providers.server, &providers);
    });
}

const PLAIN: Step<Providers> = Step { what: "", configure: |_| {}, act: |_, _| {}, moves: &[] };

fn say(providers: &Providers) {
    providers.romeo().send(&chat("juliet@localhost", "one"));
}

/// A session whose device is told and that has lost its connection: its JID, and the name of its stream.
fn sleeps(providers: &Providers) -> (String, String) {
    let mut juliet = providers.server.online("juliet", "phone");
    let stream = juliet.enable_sm();
    let jid = juliet.jid.clone();
    juliet.cut();
    (jid, stream)
}

const CALL: &str = "<message to='juliet@localhost' type='chat'><propose xmlns='urn:xmpp:jingle-message:0' id='c'/></message>";

/// The steps.
pub(super) const STEPS: &[Step<Providers>] = &[
    Step {
        what: "a device is told of a message, and of the next one a moment later",
        act: |_, providers| {
            say(providers);
            providers.fcm.journal().wait_for(1);
            say(providers);
        },
        moves: &[
            "push.told",
            "push.sent",
            "push.attempts",
            "push.latency",
            "push.coalesced",
            "push.remembered",
            "push.waiting",
        ],
        ..PLAIN
    },
    Step {
        what: "a member of a room who is away has a device",
        act: |_, providers| {
            befriend(&providers.server, "juliet", "romeo");
            let mut romeo = providers.romeo();
            make(&mut romeo, "hall", "ro", PRIVATE);
            assert_eq!(make_it(&mut romeo, "hall", "juliet", "member"), "result");
            crate::rooms::say(&mut romeo, "hall", "said");
            romeo.settle();
        },
        moves: &["push.members"],
        ..PLAIN
    },
    Step {
        what: "a session sleeps and wakes",
        configure: |config| config.limits.sm_resume_seconds = 1,
        act: |stage, providers| {
            let (jid, stream) = sleeps(providers);
            stage.until("sm.asleep");
            stage.until("sm.counts");
            let server = providers.server.address();
            let (_, answer) = Client::resume(server, "juliet", &jid, &stream, 0);
            assert_eq!(answer.name(), "resumed");
        },
        moves: &["sm.asleep", "sm.counts", "sm.fallen_asleep", "sm.woken"],
        ..PLAIN
    },
    Step {
        what: "a session falls asleep while the directory takes nothing",
        configure: |config| (config.limits.sm_resume_seconds, config.limits.directory_queue) = (1, 1),
        act: |stage, providers| {
            sleeps(providers);
            let mut romeo = providers.romeo();
            let directory = providers.server.server.shared.directory.clone();
            let (go, wait) = channel::<()>();
            let writer = spawn(move || {
                // There is one transaction that writes at a time.
                run_inline(&directory, Box::new(move |_| Ok(wait.recv_timeout(PATIENCE).is_ok())))
            });
            let set =
                "<iq type='set' id='s'><query xmlns='jabber:iq:private'><a xmlns='urn:a'/></query></iq>";
            stage.until_with("sm.counts_unwritten", || romeo.send(set));
            drop(go);
            writer.join().expect("it does not panic").expect("nothing is written");
        },
        moves: &["sm.counts_unwritten"],
        ..PLAIN
    },
    Step {
        what: "more waits for a session that sleeps than may",
        configure: |config| {
            config.limits.sm_resume_seconds = 1;
            config.push.resume_stanzas = 1;
        },
        act: |stage, providers| {
            sleeps(providers);
            stage.until("sm.asleep");
            (0..2).for_each(|_| say(providers));
            stage.until("refused.sm_asleep");
        },
        moves: &["refused.sm_asleep"],
        ..PLAIN
    },
    Step {
        what: "the queue of a push service has room",
        act: |stage, _| stage.count_from_zero(),
        moves: &["queue.push.limit"],
        ..PLAIN
    },
    Step {
        what: "a device is gone",
        act: |_, providers| {
            providers.fcm.script().next(Answer::status(404, UNREGISTERED));
            say(providers);
        },
        moves: &["push.failed.gone"],
        ..PLAIN
    },
    Step {
        what: "a push service does not accept a notification",
        act: |_, providers| {
            let said = UNREGISTERED
                .replace("NOT_FOUND", "INVALID_ARGUMENT")
                .replace("UNREGISTERED", "INVALID_ARGUMENT");
            providers.fcm.script().next(Answer::status(400, &said));
            say(providers);
        },
        moves: &["push.failed.refused"],
        ..PLAIN
    },
    Step {
        what: "a push service refuses the key",
        act: |stage, providers| {
            let denied = r#"{"error":{"status":"PERMISSION_DENIED","message":"no"}}"#;
            providers.fcm.script().always(Answer::status(403, denied));
            say(providers);
            stage.until("push.paused");
        },
        moves: &["push.failed.credentials", "push.paused"],
        ..PLAIN
    },
    Step {
        what: "a push service is out of reach for as long as a call is of use",
        configure: |config| config.push.call_seconds = 1,
        act: |_, providers| {
            providers.fcm.journal().go_down();
            providers.romeo().send(CALL);
        },
        moves: &["push.failed.overdue"],
        ..PLAIN
    },
    Step {
        what: "the server stops while a push service is silent",
        act: |stage, providers| {
            providers.fcm.script().always(Answer::Stall);
            say(providers);
            stage.until("queue.push.length");
            stage.until("queue.push.high_water");
            providers.server.server.notifier.as_ref().expect("there is push").stop(Duration::ZERO);
        },
        moves: &["push.failed.stopping", "queue.push.length", "queue.push.high_water"],
        ..PLAIN
    },
    Step {
        what: "the queue of a push service is full",
        configure: |config| config.push.queue = 1,
        act: |stage, providers| {
            providers.fcm.script().always(Answer::Stall);
            let mut romeo = providers.romeo();
            stage.until_with("refused.push_queue", || romeo.send(CALL));
        },
        moves: &["refused.push_queue"],
        ..PLAIN
    },
    Step {
        what: "a device is called too often",
        configure: |config| config.push.per_device_per_hour = 1,
        act: |stage, providers| {
            let mut romeo = providers.romeo();
            stage.until_with("refused.push_rate", || romeo.send(CALL));
        },
        moves: &["refused.push_rate"],
        ..PLAIN
    },
];
