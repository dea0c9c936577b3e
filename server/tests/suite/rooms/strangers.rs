//! What strangers, and occupants who want more than they may, do not get from a room.

use whimbrel_server::xml::Element;

use super::{PRIVATE, admin, configure, enter, make, make_it, message, next_presence, room, say, three};
use crate::support::answers::{befriend, outcome, payload};
use crate::support::{Client, on_each_driver, on_each_driver_with};

const INFO: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";

#[test]
fn a_room_is_not_left_without_an_owner_by_two_changes_at_once() {
    on_each_driver(|server| {
        let [mut juliet, ..] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "owner"), "result");
        let both = "<item jid='juliet@localhost' affiliation='member'/><item jid='romeo@localhost' affiliation='member'/>";
        assert_eq!(outcome(&admin(&mut juliet, "set", "hall", both)), "conflict");
        let exchanged = "<item jid='nurse@localhost' affiliation='owner'/>".to_owned() + both;
        assert_eq!(outcome(&admin(&mut juliet, "set", "hall", &exchanged)), "result");
        let record = server.server.shared.directory.room("hall").unwrap().unwrap();
        assert_eq!((record.counts.owners, record.counts.members), (1, 2));
    });
}

#[test]
fn a_stranger_does_not_learn_who_is_in_a_room() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        next_presence(&mut juliet);
        let decline = |to: &str| {
            format!(
                "<message to='{}' id='d'><x xmlns='http://jabber.org/protocol/muc#user'>\
                 <decline to='{to}@localhost'/></x></message>",
                room("hall")
            )
        };
        for to in ["romeo", "nurse", "nobody"] {
            nurse.send(&decline(to));
        }
        nurse.settle();
        assert!(nurse.quiet().is_empty(), "the same silence for one who is there and one who is not");
        romeo.set_aside_until(|stanza| stanza.name() == "message");
    });
}

#[test]
fn declined_invitations_count_as_those_of_strangers() {
    on_each_driver_with(
        |config| config.rooms.strangers_per_hour = 2,
        |server| {
            let [mut juliet, mut romeo, mut nurse] = three(server);
            make(&mut juliet, "hall", "jule", &[]);
            enter(&mut romeo, "hall", "romeo");
            for _ in 0..3 {
                nurse.send(&format!(
                    "<message to='{}' id='d'><x xmlns='http://jabber.org/protocol/muc#user'>\
                     <decline to='romeo@localhost'/></x></message>",
                    room("hall")
                ));
            }
            let refused = nurse.set_aside_until(|stanza| stanza.attribute("id") == Some("d"));
            assert_eq!(outcome(&refused), "policy-violation");
        },
    );
}

#[test]
fn a_hidden_group_tells_strangers_neither_its_name_nor_what_it_is_about() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        let named = [("roomname", "Secret plans"), ("roomdesc", "of the hall")];
        assert_eq!(outcome(&configure(&mut juliet, "hall", &named)), "result");
        juliet.quiet();
        let shown = romeo.ask("get", Some(&room("hall")), INFO);
        let name = payload(&shown).find("identity", "http://jabber.org/protocol/disco#info").unwrap();
        assert_eq!(name.attribute("name"), Some("hall"), "what stands in the address, and no more");
        assert!(payload(&shown).find("x", "jabber:x:data").is_none());
        let shown = juliet.ask("get", Some(&room("hall")), INFO);
        let name = payload(&shown).find("identity", "http://jabber.org/protocol/disco#info").unwrap();
        assert_eq!(name.attribute("name"), Some("Secret plans"));
    });
}

#[test]
fn presence_in_a_room_changes_no_faster_than_messages_may_come() {
    on_each_driver_with(
        |config| config.rooms.occupant_messages_per_second = 1,
        |server| {
            let [mut juliet, mut romeo, _] = three(server);
            make(&mut juliet, "hall", "jule", &[]);
            enter(&mut romeo, "hall", "romeo");
            let to = format!("{}/romeo", room("hall"));
            for number in 0..20 {
                romeo.send(&format!("<presence to='{to}'><status>{number}</status></presence>"));
            }
            let refused = romeo.set_aside_until(|stanza| stanza.attribute("type") == Some("error"));
            assert_eq!(outcome(&refused), "policy-violation");
        },
    );
}

/// What the room has told a client that is in it until now.
fn told_until_now(client: &mut Client, id: &str) -> Vec<Element> {
    say(client, "hall", id);
    message(client, id);
    client.quiet()
}

/// What is told, but for how often the list of members has changed (XEP-0463).
fn without_versions(told: &str) -> String {
    let mut rest = told;
    let mut without = String::new();
    let marks = ["since", "until"].map(|name| format!("name: \"{name}\", namespace: \"\", value: \""));
    while let Some(end) = marks.iter().filter_map(|mark| Some(rest.find(mark.as_str())? + mark.len())).min() {
        without.push_str(&rest[..end]);
        rest = &rest[end..];
        rest = &rest[rest.find('"').expect("a value ends")..];
    }
    without + rest
}

/// What an owner hears and sees of somebody whom it makes a member: the answer, what the room tells, and the list.
fn told_of(owner: &mut Client, name: &str, affiliation: &str) -> Vec<String> {
    let mut told = vec![make_it(owner, "hall", name, affiliation)];
    let heard = told_until_now(owner, &format!("after-{name}"));
    told.extend(heard.iter().map(|stanza| format!("{stanza:?}")));
    let list = admin(owner, "get", "hall", &format!("<item affiliation='{affiliation}'/>"));
    told.extend(payload(&list).elements().map(|item| format!("{item:?}")));
    told.iter().map(|text| without_versions(&text.replace(name, "SOMEBODY"))).collect()
}

#[test]
fn a_list_does_not_tell_who_has_an_account() {
    on_each_driver(|server| {
        let [mut juliet, ..] = three(server);
        for affiliation in ["member", "outcast", "admin", "owner"] {
            make(&mut juliet, "hall", "jule", PRIVATE);
            let real = told_of(&mut juliet, "nurse", affiliation);
            assert_eq!(make_it(&mut juliet, "hall", "nurse", "none"), "result");
            told_until_now(&mut juliet, "between");
            assert_eq!(told_of(&mut juliet, "nobody", affiliation), real, "{affiliation}");
            let end = format!("<query xmlns='{}'><destroy/></query>", super::OWNER);
            assert_eq!(outcome(&juliet.ask("set", Some(&room("hall")), &end)), "result");
            juliet.settle();
            juliet.quiet();
        }
    });
}

#[test]
fn whoever_registers_a_name_has_nothing_of_what_was_given_to_it_before() {
    on_each_driver(|server| {
        let [mut juliet, ..] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        assert_eq!(make_it(&mut juliet, "hall", "ghost", "owner"), "result");
        server.accounts(&["ghost"]);
        let mut ghost = server.online("ghost", "r");
        assert_eq!(outcome(enter(&mut ghost, "hall", "ghost").last().unwrap()), "registration-required");
        let form = format!("<query xmlns='{}'/>", super::OWNER);
        assert_eq!(outcome(&ghost.ask("get", Some(&room("hall")), &form)), "forbidden");
        assert_eq!(make_it(&mut juliet, "hall", "ghost", "member"), "result");
        assert!(enter(&mut ghost, "hall", "ghost").len() > 2, "it is in now");
        // It is gone with its account, and a third one of the name has nothing either.
        ghost.send("<iq type='set' id='r'><query xmlns='jabber:iq:register'><remove/></query></iq>");
        juliet.set_aside_until(|stanza| stanza.attribute("type") == Some("unavailable"));
        server.accounts(&["ghost"]);
        let mut ghost = server.online("ghost", "r");
        assert_eq!(outcome(enter(&mut ghost, "hall", "ghost").last().unwrap()), "registration-required");
    });
}

#[test]
fn members_who_are_strangers_are_counted_as_the_invited_are() {
    on_each_driver_with(
        |config| config.rooms.strangers_per_hour = 2,
        |server| {
            let [mut juliet, mut romeo, _] = three(server);
            befriend(server, "juliet", "romeo");
            make(&mut juliet, "hall", "jule", PRIVATE);
            assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result", "a contact");
            assert_eq!(make_it(&mut juliet, "hall", "nurse", "member"), "result");
            assert_eq!(make_it(&mut juliet, "hall", "nurse", "admin"), "result", "it is one already");
            assert_eq!(make_it(&mut juliet, "hall", "ghost", "member"), "result");
            for name in ["nobody", "paris"] {
                assert_eq!(make_it(&mut juliet, "hall", name, "member"), "policy-violation", "{name}");
            }
            assert_eq!(make_it(&mut juliet, "hall", "nobody", "outcast"), "result", "nobody hears of a ban");
            let form = "<x xmlns='jabber:x:data' type='submit'><field var='muc#roomconfig_roomadmins'>\
                        <value>paris@localhost</value></field></x>";
            let query = format!("<query xmlns='{}'>{form}</query>", super::OWNER);
            assert_eq!(outcome(&juliet.ask("set", Some(&room("hall")), &query)), "policy-violation");
            assert_eq!(server.metric("refused.room_strangers"), 3);
            // A contact may come and go.
            enter(&mut romeo, "hall", "romeo");
            assert_eq!(make_it(&mut juliet, "hall", "romeo", "none"), "result");
            assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
            // Who is made a member of a room that is open to everybody hears nothing of it.
            make(&mut juliet, "garden", "jule", &[]);
            assert_eq!(make_it(&mut juliet, "garden", "paris", "member"), "result");
        },
    );
}
