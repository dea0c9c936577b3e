//! Entering, being seen, changing one's nick, leaving.

use super::{
    PRIVATE, ask_to_enter, codes, configure, enter, enter_with, make, message, next_presence, presences,
    room, said, say, three,
};
use crate::support::answers::outcome;
use crate::support::{TestServer, on_each_driver, on_each_driver_with};

#[test]
fn those_who_are_in_a_room_see_who_enters_and_leaves() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        let seen = enter(&mut romeo, "hall", "romeo");
        assert_eq!(
            presences(&seen),
            ["jule available owner/moderator - []", "romeo available none/participant romeo [110 170]"]
        );
        assert_eq!(seen.last().unwrap().attribute("type"), Some("groupchat"), "the subject ends it");
        assert_eq!(next_presence(&mut juliet), "romeo available none/participant romeo []");
        romeo.send(&format!("<presence to='{}/romeo'><show>away</show></presence>", room("hall")));
        assert_eq!(next_presence(&mut juliet), "romeo available none/participant romeo []");
        assert_eq!(next_presence(&mut romeo), "romeo available none/participant romeo [110]");
        romeo.send(&format!(
            "<presence to='{}/romeo' type='unavailable'><status>bye</status></presence>",
            room("hall")
        ));
        let gone = juliet.set_aside_until(|stanza| stanza.name() == "presence");
        assert_eq!(super::seen(&gone), "romeo unavailable none/none romeo []");
        assert_eq!(gone.find("status", "jabber:client").unwrap().content(), "bye");
        assert_eq!(next_presence(&mut romeo), "romeo unavailable none/none romeo [110]");
    });
}

#[test]
fn a_room_is_locked_until_its_owner_has_configured_it() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        let seen = enter(&mut juliet, "hall", "jule");
        assert_eq!(presences(&seen), ["jule available owner/moderator juliet [110 170 201]"]);
        let refused = enter(&mut romeo, "hall", "romeo");
        assert_eq!(outcome(refused.last().unwrap()), "item-not-found");
        assert_eq!(outcome(&configure(&mut juliet, "hall", &[])), "result");
        assert_eq!(enter(&mut romeo, "hall", "romeo").len(), 3);
    });
}

#[test]
fn a_temporary_room_is_gone_with_its_last_occupant() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        juliet.send(&format!("<presence to='{}/jule' type='unavailable'/>", room("hall")));
        assert_eq!(next_presence(&mut juliet), "jule unavailable owner/none juliet [110]");
        server.await_metric("rooms.destroyed", 1);
        let seen = enter(&mut romeo, "hall", "romeo");
        assert_eq!(presences(&seen), ["romeo available owner/moderator romeo [110 170 201]"], "a new room");
        server.await_metric("rooms.active", 1);
        romeo.cut();
        server.await_metric("rooms.destroyed", 2);
        server.await_metric("rooms.active", 0);
        assert_eq!(server.metric("rooms.occupants"), 0);
    });
}

#[test]
fn a_session_that_ends_leaves_its_rooms() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        next_presence(&mut juliet);
        romeo.cut();
        assert_eq!(next_presence(&mut juliet), "romeo unavailable none/none romeo []");
        enter(&mut nurse, "hall", "nurse");
        next_presence(&mut juliet);
        nurse.send("<presence type='unavailable'/>");
        assert_eq!(next_presence(&mut juliet), "nurse unavailable none/none nurse []");
    });
}

#[test]
fn a_nick_is_one_occupants_and_may_be_changed() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        assert_eq!(outcome(enter(&mut romeo, "hall", "jule").last().unwrap()), "conflict");
        enter(&mut romeo, "hall", "romeo");
        next_presence(&mut juliet);
        ask_to_enter(&mut romeo, "hall", "jule", "");
        let refused = romeo.set_aside_until(|stanza| stanza.name() == "presence");
        assert_eq!(outcome(&refused), "conflict");
        romeo.send(&format!("<presence to='{}/montague'/>", room("hall")));
        assert_eq!(next_presence(&mut juliet), "romeo unavailable none/participant romeo [303]");
        assert_eq!(next_presence(&mut juliet), "montague available none/participant romeo []");
        assert_eq!(next_presence(&mut romeo), "romeo unavailable none/participant romeo [110 303]");
        assert_eq!(next_presence(&mut romeo), "montague available none/participant romeo [110]");
        say(&mut romeo, "hall", "m1");
        assert_eq!(message(&mut juliet, "m1").attribute("from"), Some("hall@conference.localhost/montague"));
    });
}

#[test]
fn several_clients_of_one_account_share_a_nick() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        let mut second = server.online("romeo", "second");
        romeo.quiet();
        enter(&mut romeo, "hall", "romeo");
        next_presence(&mut juliet);
        let seen = enter(&mut second, "hall", "romeo");
        assert_eq!(presences(&seen).last().unwrap(), "romeo available none/participant romeo [110 170]");
        say(&mut juliet, "hall", "m1");
        for client in [&mut juliet, &mut romeo, &mut second] {
            assert_eq!(message(client, "m1").attribute("from"), Some("hall@conference.localhost/jule"));
            client.quiet();
        }
        romeo.send(&format!("<presence to='{}/romeo' type='unavailable'/>", room("hall")));
        assert!(codes(&romeo.set_aside_until(|stanza| stanza.name() == "presence")).contains(&110));
        say(&mut juliet, "hall", "m2");
        message(&mut second, "m2");
        message(&mut juliet, "m2");
        assert!(presences(&juliet.quiet()).is_empty(), "the occupant is still there");
        second.cut();
        assert_eq!(next_presence(&mut juliet), "romeo unavailable none/none romeo []");
    });
}

#[test]
fn one_who_enters_again_gets_to_see_everything_again() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        next_presence(&mut juliet);
        let seen = enter(&mut romeo, "hall", "romeo");
        assert_eq!(
            presences(&seen),
            ["jule available owner/moderator - []", "romeo available none/participant romeo [110 170]"]
        );
        say(&mut romeo, "hall", "m1");
        message(&mut juliet, "m1");
        assert!(presences(&juliet.quiet()).is_empty(), "others see nothing of it");
    });
}

#[test]
fn presence_without_asking_to_enter_does_not_enter() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        for (to, expected) in [("hall/romeo", "not-acceptable"), ("hall", "jid-malformed")] {
            let to = to.replacen("hall", &room("hall"), 1);
            romeo.send(&format!("<presence to='{to}'/>"));
            let refused = romeo.set_aside_until(|stanza| stanza.name() == "presence");
            assert_eq!(outcome(&refused), expected, "{to}");
        }
    });
}

#[test]
fn a_persistent_room_comes_back_after_a_restart_with_what_was_said() {
    for driver in crate::support::drivers() {
        let server = TestServer::start(driver, |_| {});
        let [mut juliet, mut romeo, _] = three(&server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        assert_eq!(super::make_it(&mut juliet, "hall", "romeo", "member"), "result");
        enter(&mut romeo, "hall", "romeo");
        say(&mut romeo, "hall", "m1");
        let before = message(&mut romeo, "m1");
        message(&mut juliet, "m1");
        juliet.send(&format!(
            "<message type='groupchat' to='{}'><subject>verona</subject></message>",
            room("hall")
        ));
        romeo.set_aside_until(|stanza| stanza.find("subject", "jabber:client").is_some());
        drop((juliet, romeo));
        let server = server.restart(|_| {});
        let mut romeo = server.online("romeo", "r");
        let seen = enter(&mut romeo, "hall", "romeo");
        assert_eq!(presences(&seen), ["romeo available member/participant romeo [100 110 170]"]);
        assert_eq!(said(&seen), ["m1"]);
        let after = seen.iter().find(|stanza| stanza.attribute("id") == Some("m1")).unwrap();
        assert!(after.find("delay", "urn:xmpp:delay").is_some());
        for (name, namespace) in [("occupant-id", "urn:xmpp:occupant-id:0"), ("stanza-id", "urn:xmpp:sid:0")]
        {
            let id = |message: &whimbrel_server::xml::Element| {
                message.find(name, namespace).and_then(|id| id.attribute("id")).map(str::to_owned)
            };
            assert!(id(&before).is_some());
            assert_eq!(id(&before), id(after), "{name} is the same for ever");
        }
        let subject = seen.last().unwrap();
        assert_eq!(subject.find("subject", "jabber:client").unwrap().content(), "verona");
        assert_eq!(subject.attribute("from"), Some("hall@conference.localhost/jule"));
        let mut nurse = server.online("nurse", "r");
        assert_eq!(outcome(enter(&mut nurse, "hall", "nurse").last().unwrap()), "registration-required");
    }
}

#[test]
fn history_is_given_as_it_is_asked_for() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        for id in ["m1", "m2", "m3"] {
            say(&mut juliet, "hall", id);
            message(&mut juliet, id);
        }
        let table: [(&str, &[&str]); 6] = [
            ("", &["m1", "m2", "m3"]),
            ("<history maxstanzas='2'/>", &["m2", "m3"]),
            ("<history maxstanzas='0'/>", &[]),
            ("<history maxchars='0'/>", &[]),
            ("<history maxchars='600'/>", &["m3"]),
            ("<history since='2100-01-01T00:00:00Z'/>", &[]),
        ];
        for (inside, expected) in table {
            assert_eq!(said(&enter_with(&mut romeo, "hall", "romeo", inside)), expected, "{inside}");
        }
    });
}

#[test]
fn a_password_and_a_full_room_keep_others_out() {
    let small = |config: &mut whimbrel_server::config::Config| config.rooms.occupants_max = 2;
    on_each_driver_with(small, |server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[("passwordprotectedroom", "1"), ("roomsecret", "sesame")]);
        for inside in ["", "<password>open</password>"] {
            let refused = enter_with(&mut romeo, "hall", "romeo", inside);
            assert_eq!(outcome(refused.last().unwrap()), "not-authorized", "{inside}");
            assert!(refused.last().unwrap().find("x", super::MUC).is_some(), "clients look for it");
        }
        let right = "<password>sesame</password>";
        assert_eq!(enter_with(&mut romeo, "hall", "romeo", right).len(), 3);
        let refused = enter_with(&mut nurse, "hall", "nurse", right);
        assert_eq!(outcome(refused.last().unwrap()), "service-unavailable");
        next_presence(&mut juliet);
        assert_eq!(super::make_it(&mut juliet, "hall", "nurse", "admin"), "result");
        assert_eq!(enter_with(&mut nurse, "hall", "nurse", right).len(), 4, "admins always find room");
    });
}

#[test]
fn large_rooms_show_moderators_alone() {
    let small = |config: &mut whimbrel_server::config::Config| config.rooms.presence_max = 2;
    on_each_driver_with(small, |server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        next_presence(&mut juliet);
        let seen = enter(&mut nurse, "hall", "nurse");
        assert_eq!(
            presences(&seen),
            ["jule available owner/moderator - []", "nurse available none/participant nurse [110 170]"],
            "of three occupants, those that are shown are moderators and itself"
        );
        assert_eq!(
            next_presence(&mut juliet),
            "nurse available none/participant nurse []",
            "moderators see all"
        );
        say(&mut nurse, "hall", "m1");
        message(&mut romeo, "m1");
        message(&mut nurse, "m1");
        assert!(presences(&romeo.quiet()).is_empty());
        romeo.cut();
        assert_eq!(
            next_presence(&mut nurse),
            "romeo unavailable none/none - []",
            "who was shown is seen to leave"
        );
    });
}

#[test]
fn an_account_that_is_removed_leaves_its_rooms_to_others() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        assert_eq!(super::make_it(&mut juliet, "hall", "romeo", "member"), "result");
        enter(&mut romeo, "hall", "romeo");
        make(&mut juliet, "garden", "jule", PRIVATE);
        juliet.send(&format!("<presence to='{}/jule' type='unavailable'/>", room("garden")));
        next_presence(&mut juliet);
        juliet.send("<iq type='set' id='r'><query xmlns='jabber:iq:register'><remove/></query></iq>");
        let own = super::until(&mut romeo, |stanza| super::seen_own(stanza, "owner"));
        assert_eq!(super::seen(&own), "romeo available owner/moderator romeo [110]");
        assert_eq!(outcome(&configure(&mut romeo, "hall", &[("roomname", "Mine")])), "result");
        server.await_metric("rooms.destroyed", 1);
        let seen = enter(&mut romeo, "garden", "romeo");
        assert!(
            seen.iter().any(|stanza| codes(stanza).contains(&201)),
            "nobody belonged to it any more: {seen:?}"
        );
    });
}

#[test]
fn what_comes_while_a_room_writes_waits_for_it_up_to_a_limit() {
    let small = |config: &mut whimbrel_server::config::Config| config.rooms.waiting_kib = 1;
    on_each_driver_with(small, |server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        next_presence(&mut juliet);
        let to = room("hall");
        let mut all = String::new();
        for n in 0..20 {
            all +=
                &format!("<message type='groupchat' to='{to}' id='s{n}'><subject>s{n}</subject></message>");
        }
        juliet.send(&all);
        let mut outcomes = Vec::new();
        while outcomes.len() < 20 {
            let stanza = juliet.set_aside_until(|stanza| {
                stanza.attribute("id").is_some_and(|id| id.starts_with('s')) && stanza.name() == "message"
            });
            outcomes.push(outcome(&stanza));
        }
        let refused = outcomes.iter().filter(|outcome| *outcome == "resource-constraint").count();
        let told = outcomes.iter().filter(|outcome| *outcome == "groupchat").count();
        assert!(refused > 0 && told > 1 && refused + told == 20, "{outcomes:?}");
        assert_eq!(server.metric("refused.room_waiting"), refused as u64);
    });
}
