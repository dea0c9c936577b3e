//! Rooms: what is said in them, and what they refuse.

use super::{PLAIN, Verona};
use crate::counters::stage::{Stage, Step};
use crate::rooms::links::{enter_by, link};
use crate::rooms::{PRIVATE, ask_to_enter, enter, enter_with, make, make_it, message, room, say, until};
use crate::support::Client;
use crate::support::answers::outcome;
use whimbrel_storage::directory::MayAdd;

/// The steps.
pub(super) const STEPS: &[Step<Verona>] = &[
    Step {
        what: "juliet makes a room, romeo enters, both speak, and leave",
        act: stay,
        moves: &[
            "rooms.active",
            "rooms.occupants",
            "rooms.presences",
            "rooms.clients",
            "rooms.made",
            "rooms.destroyed",
            "rooms.joins",
            "rooms.messages",
            "rooms.deliveries",
            "rooms.moderated",
            "rooms.requests",
        ],
        ..PLAIN
    },
    Step {
        what: "a room writes, and more waits for it than it serves at once",
        configure: |config| {
            config.rooms.occupant_messages_per_second = 10_000;
            config.rooms.room_messages_per_second = 10_000;
        },
        act: |stage, server| {
            let mut juliet = server.online("juliet", "balcony");
            make(&mut juliet, "hall", "juliet", &[]);
            let to = room("hall");
            let said = format!("<message type='groupchat' to='{to}'><body>b</body></message>").repeat(40);
            let subject = format!("<message type='groupchat' to='{to}'><subject>s</subject></message>");
            for n in 0.. {
                juliet.send(&format!("{subject}{said}"));
                say(&mut juliet, "hall", &format!("m{n}"));
                message(&mut juliet, &format!("m{n}"));
                juliet.quiet();
                if stage.has_moved("rooms.gave_way") {
                    break;
                }
                assert!(n < 1_000, "the room serves all at once");
            }
        },
        moves: &["rooms.gave_way"],
        ..PLAIN
    },
    Step {
        what: "romeo comes by a link, and guesses another one",
        configure: |config| {
            config.rooms.links_max = 1;
            config.rooms.wrong_passwords_per_hour = 1;
        },
        act: |_, server| {
            let mut juliet = server.online("juliet", "balcony");
            let mut romeo = server.online("romeo", "orchard");
            make(&mut juliet, "hall", "juliet", PRIVATE);
            make(&mut juliet, "garden", "juliet", PRIVATE);
            assert!(link(server, "token", 2, 0) && !link(server, "more", 1, 0));
            enter_by(&mut romeo, "romeo", "token");
            for _ in 0..2 {
                enter_with(&mut romeo, "garden", "romeo", "<password>token</password>");
            }
        },
        moves: &["rooms.links_used", "refused.room_links", "refused.room_passwords"],
        ..PLAIN
    },
    Step {
        what: "juliet makes romeo a member, who lets nobody add it",
        configure: |config| config.rooms.add = MayAdd::Nobody,
        act: |_, server| {
            let mut juliet = server.online("juliet", "balcony");
            let mut romeo = server.online("romeo", "orchard");
            make(&mut juliet, "hall", "juliet", PRIVATE);
            assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
            until(&mut romeo, |stanza| stanza.name() == "message");
        },
        moves: &["rooms.additions_asked", "rooms.changes_waiting"],
        ..PLAIN
    },
    Step {
        what: "romeo is away while juliet says much, and comes back",
        configure: |config| {
            config.rooms.occupant_messages_per_second = 1000;
            config.rooms.room_messages_per_second = 1000;
        },
        act: away,
        moves: &["sm.references", "sm.recalled", "sm.recalls", "sm.spooled"],
        ..PLAIN
    },
    Step {
        what: "everything that a room may have is too much",
        configure: |config| {
            config.rooms.per_account = 1;
            config.rooms.members_max = 1;
            config.rooms.occupants_max = 1;
            config.rooms.nick_bytes = 6;
            config.rooms.strangers_per_hour = 0;
            config.rooms.occupant_messages_per_second = 1;
        },
        act: too_much,
        moves: &[
            "refused.rooms",
            "refused.room_members",
            "refused.room_occupants",
            "refused.room_text",
            "refused.room_strangers",
            "refused.room_messages",
        ],
        ..PLAIN
    },
    Step {
        what: "a room writes, and more comes for it than may wait",
        configure: |config| config.rooms.waiting_kib = 1,
        act: |stage, server| {
            let mut juliet = server.online("juliet", "balcony");
            make(&mut juliet, "hall", "juliet", &[]);
            let subject =
                format!("<message type='groupchat' to='{}'><subject>s</subject></message>", room("hall"));
            juliet.send(&subject.repeat(20));
            stage.until("refused.room_waiting");
        },
        moves: &["refused.room_waiting", "rooms.waiting"],
        ..PLAIN
    },
    Step {
        what: "romeo reads nothing of what juliet says",
        configure: |config| {
            config.limits.output_backlog_bytes = 64 * 1024;
            config.limits.stanza_bytes = 32 * 1024;
            config.rooms.occupant_messages_per_second = 1000;
            config.rooms.room_messages_per_second = 1000;
        },
        act: |stage, server| {
            let mut juliet = server.online("juliet", "balcony");
            let mut romeo = server.online("romeo", "orchard");
            make(&mut juliet, "hall", "juliet", &[]);
            enter(&mut romeo, "hall", "romeo");
            let body = "x".repeat(10_000);
            for n in 0.. {
                juliet.send(&format!(
                    "<message type='groupchat' to='{}' id='m{n}'><body>{body}</body></message>",
                    room("hall")
                ));
                message(&mut juliet, &format!("m{n}"));
                juliet.quiet();
                if stage.has_moved("rooms.seats_lost") {
                    break;
                }
                assert!(n < 5_000, "the seat is never lost");
            }
        },
        moves: &["rooms.seats_lost"],
        ..PLAIN
    },
];

fn away(stage: &mut Stage<'_>, server: &Verona) {
    let mut juliet = server.online("juliet", "balcony");
    let mut romeo = server.online("romeo", "orchard");
    make(&mut juliet, "hall", "juliet", &[]);
    let (jid, stream) = (romeo.jid.clone(), romeo.enable_sm());
    let handled = u32::try_from(enter(&mut romeo, "hall", "romeo").len()).unwrap();
    romeo.cut();
    stage.until("sm.detached");
    let body = "x".repeat(1_000);
    for n in 0..20 {
        let to = room("hall");
        // Every second one is for no archive.
        let hint = if n % 2 == 1 { "<no-permanent-store xmlns='urn:xmpp:hints'/>" } else { "" };
        juliet.send(&format!(
            "<message type='groupchat' to='{to}' id='m{n}'><body>{body}</body>{hint}</message>"
        ));
    }
    message(&mut juliet, "m19");
    stage.until("sm.references");
    let (_romeo, answer) = Client::resume(server.address(), "romeo", &jid, &stream, handled);
    assert_eq!(answer.name(), "resumed");
}

fn stay(stage: &mut Stage<'_>, server: &Verona) {
    let mut juliet = server.online("juliet", "balcony");
    let mut romeo = server.online("romeo", "orchard");
    make(&mut juliet, "hall", "juliet", &[]);
    enter(&mut romeo, "hall", "romeo");
    say(&mut romeo, "hall", "m1");
    let heard = message(&mut juliet, "m1");
    let id = heard.find("stanza-id", "urn:xmpp:sid:0").and_then(|id| id.attribute("id")).expect("an id");
    let inside = "<retract xmlns='urn:xmpp:message-retract:1'/>";
    let moderate = format!("<moderate xmlns='urn:xmpp:message-moderate:1' id='{id}'>{inside}</moderate>");
    assert_eq!(outcome(&juliet.ask("set", Some(&room("hall")), &moderate)), "result");
    let to = format!("{}/romeo", room("hall"));
    juliet.send(&format!("<iq type='get' id='v' to='{to}'><query xmlns='jabber:iq:version'/></iq>"));
    until(&mut romeo, |stanza| stanza.name() == "iq" && stanza.attribute("type") == Some("get"));
    stage.look();
    juliet.cut();
    romeo.cut();
    stage.until("rooms.destroyed");
}

fn too_much(_: &mut Stage<'_>, server: &Verona) {
    let mut juliet = server.online("juliet", "balcony");
    let mut romeo = server.online("romeo", "orchard");
    let refused = |stanza: &whimbrel_server::xml::Element| stanza.attribute("type") == Some("error");
    make(&mut juliet, "hall", "juliet", &[]);
    ask_to_enter(&mut juliet, "garden", "juliet", "");
    until(&mut juliet, refused);
    assert_ne!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
    ask_to_enter(&mut romeo, "hall", "romeo", "");
    until(&mut romeo, refused);
    ask_to_enter(&mut romeo, "hall", "montague", "");
    until(&mut romeo, refused);
    server.accounts(&["nurse"]);
    juliet.send(&format!(
        "<message to='{}'><x xmlns='http://jabber.org/protocol/muc#user'><invite to='nurse@localhost'/></x></message>",
        room("hall")
    ));
    until(&mut juliet, refused);
    for n in 0..30 {
        say(&mut juliet, "hall", &format!("m{n}"));
    }
    until(&mut juliet, refused);
}
