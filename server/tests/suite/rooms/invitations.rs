//! Invitations through the room.

use super::{PRIVATE, configure, enter, make, next_presence, room, three};
use crate::support::answers::outcome;
use crate::support::{TestServer, on_each_driver, on_each_driver_with};

fn invite(to: &str) -> String {
    format!(
        "<message to='{}' id='i'><x xmlns='http://jabber.org/protocol/muc#user'>\
         <invite to='{to}@localhost'><reason>come</reason></invite></x></message>",
        room("hall")
    )
}

#[test]
fn an_invitation_into_a_private_group_makes_a_member() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        juliet.send(&invite("romeo"));
        let invited = romeo.set_aside_until(|stanza| stanza.name() == "message");
        assert_eq!(invited.attribute("from"), Some("hall@conference.localhost"));
        let x = invited.find("x", super::USER).unwrap().find("invite", super::USER).unwrap();
        assert_eq!(x.attribute("from"), Some("juliet@localhost"));
        assert_eq!(x.find("reason", super::USER).unwrap().content(), "come");
        let direct = invited.find("x", "jabber:x:conference").expect("also for clients that know only this");
        assert_eq!(direct.attribute("jid"), Some("hall@conference.localhost"));
        enter(&mut romeo, "hall", "romeo");
        romeo.send(&invite("nurse"));
        let refused = romeo.set_aside_until(|stanza| stanza.attribute("id") == Some("i"));
        assert_eq!(outcome(&refused), "forbidden", "members invite where the room says so");
        assert_eq!(outcome(&configure(&mut juliet, "hall", &[("allowinvites", "1")])), "result");
        romeo.send(&invite("nurse"));
        nurse.set_aside_until(|stanza| stanza.find("x", super::USER).is_some());
        nurse.quiet();
        assert_eq!(enter(&mut nurse, "hall", "nurse").len(), 4);
        nurse.send(&invite("mercutio"));
    });
}

#[test]
fn an_invitation_waits_for_who_is_away_and_can_be_declined() {
    on_each_driver(|server| {
        let [mut juliet, romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        romeo.cut();
        server.await_metric("sessions", 2);
        juliet.send(&invite("romeo"));
        // The room has passed it on when it answers.
        juliet.ask("get", Some(&room("hall")), "<ping xmlns='urn:xmpp:ping'/>");
        // Without a presence: what waits comes with the one that is sent below.
        let mut romeo = server.login("romeo", "later");
        romeo.send("<presence/>");
        let invited = romeo.set_aside_until(|stanza| stanza.name() == "message");
        assert!(invited.find("delay", "urn:xmpp:delay").is_some());
        let decline = |to: &str| {
            format!(
                "<message to='{}' id='d'><x xmlns='http://jabber.org/protocol/muc#user'>\
                 <decline to='{to}@localhost'><reason>no</reason></decline></x></message>",
                room("hall")
            )
        };
        romeo.send(&decline("juliet"));
        let declined = juliet.set_aside_until(|stanza| stanza.name() == "message");
        let x = declined.find("x", super::USER).unwrap().find("decline", super::USER).unwrap();
        assert_eq!(x.attribute("from"), Some("romeo@localhost"));
        romeo.send(&decline("nurse"));
        romeo.ask("get", Some(&room("hall")), "<ping xmlns='urn:xmpp:ping'/>");
        nurse.settle();
        assert!(nurse.quiet().is_empty(), "nobody writes to strangers through a room");
    });
}

#[test]
fn who_blocks_the_inviter_hears_nothing_and_strangers_are_counted() {
    let few = |config: &mut whimbrel_server::config::Config| config.rooms.strangers_per_hour = 2;
    on_each_driver_with(few, |server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        let block = "<block xmlns='urn:xmpp:blocking'><item jid='juliet@localhost'/></block>";
        assert_eq!(outcome(&romeo.ask("set", None, block)), "result");
        romeo.quiet();
        juliet.send(&invite("romeo"));
        juliet.send(&invite("nurse"));
        nurse.set_aside_until(|stanza| stanza.name() == "message");
        juliet.send(&invite("nurse"));
        let refused = juliet.set_aside_until(|stanza| stanza.attribute("id") == Some("i"));
        assert_eq!(outcome(&refused), "policy-violation");
        romeo.settle();
        assert!(romeo.quiet().is_empty());
        enter(&mut nurse, "hall", "nurse");
        next_presence(&mut juliet);
    });
}

#[test]
fn every_invitation_is_acknowledged_whatever_becomes_of_it() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        make(&mut juliet, "square", "jule", &[]);
        let block = "<block xmlns='urn:xmpp:blocking'><item jid='juliet@localhost'/></block>";
        assert_eq!(outcome(&romeo.ask("set", None, block)), "result");
        server.accounts(&["tybalt"]);
        juliet.enable_sm();
        let mut sent = 0;
        for name in ["hall", "square"] {
            // There, away, blocking, no account; and several at once.
            for who in [&["nurse"][..], &["tybalt"], &["romeo"], &["nobody"], &["romeo", "tybalt", "nurse"]] {
                let invites: String =
                    who.iter().map(|who| format!("<invite to='{who}@localhost'/>")).collect();
                let to = room(name);
                juliet
                    .send(&format!("<message to='{to}'><x xmlns='{}'>{invites}</x></message>", super::USER));
                sent += 1;
                juliet.await_handled(sent);
            }
        }
        nurse.set_aside_until(|stanza| stanza.name() == "message");
        let mut tybalt = server.login("tybalt", "later");
        tybalt.send("<presence/>");
        for _ in 0..4 {
            tybalt.set_aside_until(|stanza| stanza.find("x", super::USER).is_some());
        }
    });
}

/// Copies in logs that have been waited for, while `act` lasts.
fn waited_for(server: &TestServer, act: impl FnOnce()) -> u64 {
    let before = server.metric("log.settled");
    act();
    server.metric("log.settled") - before
}

#[test]
fn an_acknowledgement_waits_for_each_of_several_invitations() {
    on_each_driver(|server| {
        // Their homes are both workers.
        let names: Vec<String> =
            (0..6).map(|n| server.name_at_home_on(n % 2, &format!("guest{n}x"))).collect();
        server.accounts(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let [mut juliet, ..] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        make(&mut juliet, "square", "jule", &[]);
        juliet.enable_sm();
        let invites: String = names.iter().map(|name| format!("<invite to='{name}@localhost'/>")).collect();
        // Each invitation, what it is to be a member there, and then the message itself.
        for (sent, name, copies) in [(1, "hall", 6 + 6 + 1), (2, "square", 6 + 1)] {
            let count = waited_for(server, || {
                let x = format!("<x xmlns='{}'>{invites}</x>", super::USER);
                juliet.send(&format!("<message to='{}'>{x}</message>", room(name)));
                juliet.await_handled(sent);
            });
            assert_eq!(count, copies, "into {name}");
        }
    });
}

#[test]
fn an_answer_waits_for_those_who_are_asked_whether_they_come() {
    on_each_driver(|server| {
        let names: Vec<String> =
            (0..4).map(|n| server.name_at_home_on(n % 2, &format!("guest{n}x"))).collect();
        server.accounts(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let [mut juliet, ..] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        // She is no contact of theirs, so each is invited, whether she makes it a member or an owner.
        let items: String = names[..3]
            .iter()
            .map(|name| format!("<item jid='{name}@localhost' affiliation='member'/>"))
            .collect();
        let count = waited_for(server, || {
            assert_eq!(outcome(&super::admin(&mut juliet, "set", "hall", &items)), "result");
        });
        assert_eq!((count, server.metric("rooms.additions_asked")), (3, 3));
        let owner = format!("{}@localhost", names[3]);
        let fields = [PRIVATE, &[("roomowners", owner.as_str())]].concat();
        let count = waited_for(server, || {
            assert_eq!(outcome(&super::configure(&mut juliet, "hall", &fields)), "result");
        });
        assert_eq!((count, server.metric("rooms.additions_asked")), (1, 4));
    });
}
