//! What somebody who is logged in learns of accounts whose owners do not know them: nothing, not even whether there is one.
//!
//! Each row is a stanza. It is sent to a name that is no account and to accounts of every kind, and what comes back must be
//! the same to the byte.

use std::fs::{self, File};

use whimbrel_server::service::SERVICES;

use crate::support::managed::chat;
use crate::support::program::log_folder;
use crate::support::roster::error_of;
use crate::support::{Client, TestServer, drivers, on_each_driver_with};

/// No account, and then: one that is away; one that is online; one that has a session and no presence; one that blocks the
/// stranger. All names have one length.
const TARGETS: [&str; 5] = ["nobody", "absent", "online", "hidden", "blocks"];

/// Addresses of each: the account, a resource that none of them has, and one that those who are online have.
const PLACES: [&str; 3] = ["", "/nowhere", "/balcony"];

/// Every stanza that a stranger may send to an account, with `TO` for the address.
fn rows() -> Vec<String> {
    let inside = [
        "<body>x</body>",
        "",
        "<body>x</body><no-store xmlns='urn:xmpp:hints'/>",
        "<composing xmlns='http://jabber.org/protocol/chatstates'/>",
        "<received xmlns='urn:xmpp:receipts' id='m'/>",
        "<x xmlns='jabber:x:conference' jid='a@b'/>",
    ];
    let messages =
        ["chat", "normal", "headline", "groupchat", "error", "nonsense"].into_iter().flat_map(|typ| {
            inside
                .into_iter()
                .map(move |inside| format!("<message to='TO' type='{typ}' id='m'>{inside}</message>"))
        });
    let presences =
        ["", "unavailable", "probe", "subscribe", "subscribe", "subscribed", "unsubscribe", "unsubscribed"]
            .into_iter()
            .map(|typ| match typ {
                "" => "<presence to='TO' id='p'/>".to_owned(),
                _ => format!("<presence to='TO' type='{typ}' id='p'/>"),
            });
    let answers = SERVICES.iter().flat_map(|service| service.answers);
    let services = answers.map(|answers| (answers.element, answers.namespace));
    let others =
        [("query", "urn:none"), ("query", "jabber:iq:auth"), ("pubsub", "http://jabber.org/protocol/pubsub")];
    let iqs = services.chain(others).flat_map(|(element, namespace)| {
        ["get", "set"]
            .map(|typ| format!("<iq to='TO' type='{typ}' id='i'><{element} xmlns='{namespace}'/></iq>"))
    });
    let answers = ["<iq to='TO' type='result' id='i'/>".to_owned()];
    messages.chain(presences).chain(iqs).chain(answers).collect()
}

/// What a stanza brings back, with the target's name left out.
fn answer(stranger: &mut Client, target: &str, stanza: &str, handled: &mut u32) -> Vec<String> {
    stranger.send(stanza);
    // A request to the account takes the same way, and a commit that the stanza waits for is waited for.
    stranger.ask("get", Some(&format!("{target}@localhost")), "<fence xmlns='urn:fence'/>");
    *handled += 2;
    stranger.await_handled(*handled);
    stranger.quiet().iter().map(|stanza| format!("{stanza:?}").replace(target, "TARGET")).collect()
}

#[test]
fn nothing_that_is_sent_tells_whether_there_is_an_account() {
    let configure = |config: &mut whimbrel_server::config::Config| {
        config.limits.offline_strangers_per_minute = 1_000_000;
    };
    on_each_driver_with(configure, |server| {
        server.accounts(&TARGETS[1..]);
        server.accounts(&["stranger"]);
        let mut online = server.online("online", "balcony");
        let mut hidden = server.login("hidden", "balcony");
        let mut blocks = server.online("blocks", "balcony");
        blocks.ask("set", None, "<block xmlns='urn:xmpp:blocking'><item jid='stranger@localhost'/></block>");
        let mut stranger = server.login("stranger", "here");
        stranger.enable_sm();
        let mut handled = 0;
        for row in rows() {
            // What the client of a resource answers is its own affair, and the resource a secret of those who know it.
            let places =
                if row.starts_with("<iq") && !row.contains("type='result'") { &PLACES[..2] } else { &PLACES };
            for place in places {
                let mut nobodys = None;
                for target in TARGETS {
                    let stanza = row.replace("TO", &format!("{target}@localhost{place}"));
                    let got = answer(&mut stranger, target, &stanza, &mut handled);
                    let nobodys = nobodys.get_or_insert_with(|| got.clone());
                    assert_eq!(got, *nobodys, "{stanza}");
                }
            }
        }
        for client in [&mut online, &mut hidden, &mut blocks] {
            client.settle();
        }
        assert_eq!(blocks.quiet(), []);
        assert!(online.quiet().iter().any(|stanza| stanza.name() == "message"), "what is taken arrives");
    });
}

/// What was acknowledged and then dropped in silence would be lost.
#[test]
fn a_stranger_is_told_that_a_mailbox_has_no_room() {
    let configure = |config: &mut whimbrel_server::config::Config| {
        config.limits.offline_messages = 200;
        config.limits.offline_percent_per_stranger = 5;
        config.limits.offline_strangers_per_minute = 1_000_000;
    };
    on_each_driver_with(configure, |server| {
        server.accounts(&["juliet", "romeo"]);
        let mut romeo = server.login("romeo", "orchard");
        for _ in 0..10 {
            romeo.send(&chat("juliet@localhost", "fill"));
        }
        romeo.settle();
        assert_eq!(romeo.quiet(), []);
        romeo.send(&chat("juliet@localhost", "more"));
        assert_eq!(error_of(&romeo.stanza()), "resource-constraint");
        assert_eq!(server.metric("refused.offline_sender"), 1);
    });
}

/// An acknowledgement that came before the disk had written would tell of an account that has nothing to be written.
#[test]
fn a_message_to_nobody_waits_for_the_disk_like_any_other() {
    for driver in drivers() {
        for target in ["nobody", "juliet"] {
            let server = TestServer::start(driver, |config| config.workers = 1);
            server.accounts(&["juliet", "romeo"]);
            let mut romeo = server.login("romeo", "orchard");
            romeo.enable_sm();
            romeo.send(&chat(&format!("{target}@localhost"), 1));
            romeo.await_handled(1);
            assert_eq!(server.metric("log.appends"), 2, "{target}, and the sender's archive");
            let folder = log_folder(server.data.as_ref().unwrap().path(), 0);
            let away = folder.with_extension("away");
            fs::rename(&folder, &away).unwrap();
            File::create(&folder).unwrap();
            romeo.send(&chat(&format!("{target}@localhost"), 2));
            romeo.expect_stream_error("internal-server-error");
            fs::remove_file(&folder).unwrap();
            fs::rename(&away, &folder).unwrap();
        }
    }
}

/// What a contact is told, a stranger is not; and nothing is left of what was ignored.
#[test]
fn contacts_hear_what_became_of_their_messages() {
    on_each_driver_with(
        |_| {},
        |server| {
            server.accounts(&["juliet", "romeo", "tybalt"]);
            crate::support::answers::befriend(server, "juliet", "romeo");
            let unkept = "<message to='juliet@localhost' type='chat' id='m'/>";
            let mut heard = Vec::new();
            for name in ["romeo", "tybalt"] {
                let mut client = server.login(name, "x");
                client.send(unkept);
                client.ask("get", Some("juliet@localhost"), "<fence xmlns='urn:fence'/>");
                heard.push(client.quiet().iter().map(crate::support::answers::outcome).collect::<Vec<_>>());
            }
            assert_eq!(heard, [vec!["service-unavailable".to_owned()], vec![]]);
            assert_eq!((server.metric("messages.ignored"), server.metric("log.pending")), (1, 0));
        },
    );
}
