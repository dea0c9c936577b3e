//! Invitations through the room.

use super::{PRIVATE, configure, enter, make, next_presence, room, three};
use crate::support::answers::outcome;
use crate::support::{on_each_driver, on_each_driver_with};

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
