//! Roles and affiliations: who may change them, and what follows.

use super::{PRIVATE, admin, enter, make, make_it, message, next_presence, presences, room, say, three};
use crate::support::answers::{outcome, payload};
use crate::support::on_each_driver;

/// The items of a list, in short.
fn list(client: &mut crate::support::Client, name: &str, of: &str) -> Result<Vec<String>, String> {
    let answer = admin(client, "get", name, &format!("<item {of}/>"));
    if answer.attribute("type") != Some("result") {
        return Err(outcome(&answer));
    }
    let item = |item: &whimbrel_server::xml::Element| {
        ["affiliation", "role", "jid", "nick"]
            .map(|name| item.attribute(name).unwrap_or("-").to_owned())
            .join(" ")
    };
    Ok(payload(&answer).elements().map(item).collect())
}

#[test]
fn moderators_kick_and_are_told_apart_from_others() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        enter(&mut nurse, "hall", "nurse");
        for client in [&mut juliet, &mut romeo] {
            client.set_aside_until(|stanza| super::seen(stanza).starts_with("nurse"));
            client.quiet();
        }
        let kick = "<item nick='romeo' role='none'><reason>noise</reason></item>";
        assert_eq!(outcome(&admin(&mut nurse, "set", "hall", kick)), "forbidden");
        assert_eq!(outcome(&admin(&mut juliet, "set", "hall", kick)), "result");
        let own = romeo.set_aside_until(|stanza| stanza.name() == "presence");
        assert_eq!(super::seen(&own), "romeo unavailable none/none romeo [110 307]");
        let item = own.find("x", super::USER).unwrap().find("item", super::USER).unwrap();
        assert_eq!(item.find("reason", super::USER).unwrap().content(), "noise");
        assert_eq!(item.find("actor", super::USER).unwrap().attribute("nick"), Some("jule"));
        assert_eq!(next_presence(&mut nurse), "romeo unavailable none/none - [307]");
        say(&mut romeo, "hall", "m1");
        assert_eq!(outcome(&message(&mut romeo, "m1")), "not-acceptable");
        let missing = "<item nick='romeo' role='none'/>";
        assert_eq!(outcome(&admin(&mut juliet, "set", "hall", missing)), "item-not-found");
    });
}

#[test]
fn who_is_banned_leaves_and_does_not_come_back() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        assert_eq!(make_it(&mut romeo, "hall", "juliet", "outcast"), "forbidden");
        assert_eq!(make_it(&mut juliet, "hall", "juliet", "outcast"), "conflict");
        assert_eq!(make_it(&mut juliet, "hall", "juliet", "none"), "conflict", "the last owner stays one");
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "outcast"), "result");
        assert_eq!(next_presence(&mut romeo), "romeo unavailable outcast/none romeo [110 301]");
        assert_eq!(outcome(enter(&mut romeo, "hall", "romeo").last().unwrap()), "forbidden");
        assert_eq!(make_it(&mut juliet, "hall", "nurse", "outcast"), "result", "also one who is not there");
        assert_eq!(outcome(enter(&mut nurse, "hall", "nurse").last().unwrap()), "forbidden");
        let banned = ["outcast - nurse@localhost -", "outcast - romeo@localhost -"];
        assert_eq!(list(&mut juliet, "hall", "affiliation='outcast'").unwrap(), banned);
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "none"), "result");
        assert_eq!(enter(&mut romeo, "hall", "romeo").len(), 3);
        assert_eq!(list(&mut romeo, "hall", "affiliation='outcast'"), Err("forbidden".into()));
    });
}

#[test]
fn members_come_and_go_by_the_list() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        assert_eq!(outcome(enter(&mut romeo, "hall", "romeo").last().unwrap()), "registration-required");
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
        let told = super::until(&mut juliet, |stanza| stanza.name() == "message");
        let item = told.find("x", super::USER).unwrap().find("item", super::USER).unwrap();
        assert_eq!(
            (item.attribute("affiliation"), item.attribute("jid")),
            (Some("member"), Some("romeo@localhost"))
        );
        juliet.quiet();
        let seen = enter(&mut romeo, "hall", "romeo");
        assert_eq!(
            presences(&seen),
            [
                "jule available owner/moderator juliet []",
                "romeo available member/participant romeo [100 110 170]"
            ]
        );
        next_presence(&mut juliet);
        assert_eq!(list(&mut romeo, "hall", "affiliation='owner'").unwrap(), ["owner - juliet@localhost -"]);
        assert_eq!(list(&mut romeo, "hall", "affiliation='member'").unwrap(), ["member - romeo@localhost -"]);
        assert_eq!(list(&mut nurse, "hall", "affiliation='member'"), Err("forbidden".into()));
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "none"), "result");
        assert_eq!(next_presence(&mut romeo), "romeo unavailable none/none romeo [110 321]");
        assert_eq!(outcome(enter(&mut romeo, "hall", "romeo").last().unwrap()), "registration-required");
    });
}

#[test]
fn voice_is_given_asked_for_and_taken() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[("moderatedroom", "1")]);
        enter(&mut romeo, "hall", "romeo");
        next_presence(&mut juliet);
        let form = "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>\
                    http://jabber.org/protocol/muc#request</value></field>\
                    <field var='muc#role'><value>participant</value></field></x>";
        romeo.send(&format!("<message to='{}'>{form}</message>", room("hall")));
        let asked = juliet.set_aside_until(|stanza| stanza.name() == "message");
        let mut form = asked.find("x", "jabber:x:data").unwrap().clone();
        form.set_attribute("type", "submit");
        let answer = String::from_utf8(form.to_bytes()).unwrap();
        let answer = answer
            .replace("<value>false</value>", "<value>true</value>")
            .replace("<value>0</value>", "<value>1</value>");
        juliet.send(&format!("<message to='{}'>{answer}</message>", room("hall")));
        assert_eq!(next_presence(&mut romeo), "romeo available none/participant romeo [110]");
        say(&mut romeo, "hall", "m1");
        message(&mut juliet, "m1");
        message(&mut romeo, "m1");
        juliet.quiet();
        let revoke = "<item nick='romeo' role='visitor'/>";
        assert_eq!(outcome(&admin(&mut juliet, "set", "hall", revoke)), "result");
        assert_eq!(next_presence(&mut romeo), "romeo available none/visitor romeo [110]");
        assert_eq!(
            list(&mut juliet, "hall", "role='visitor'").unwrap(),
            ["none visitor romeo@localhost/r romeo"]
        );
        assert_eq!(list(&mut romeo, "hall", "role='visitor'"), Err("forbidden".into()));
    });
}

#[test]
fn a_change_that_may_not_be_made_leaves_all_others_undone() {
    on_each_driver(|server| {
        let [mut juliet, _, _] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        let items = "<item jid='romeo@localhost' affiliation='member'/><item jid='juliet@localhost' affiliation='none'/>";
        assert_eq!(outcome(&admin(&mut juliet, "set", "hall", items)), "conflict");
        assert_eq!(list(&mut juliet, "hall", "affiliation='member'").unwrap(), Vec::<String>::new());
    });
}

#[test]
fn one_request_names_an_occupant_once() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        next_presence(&mut juliet);
        for nick in ["jule", "romeo"] {
            for roles in [["none", "moderator"], ["moderator", "none"], ["none", "none"]] {
                let items = roles.map(|role| format!("<item nick='{nick}' role='{role}'/>")).concat();
                assert_eq!(outcome(&admin(&mut juliet, "set", "hall", &items)), "bad-request", "{items}");
            }
        }
        // A role and an affiliation are two things.
        let both = "<item nick='romeo' role='none'/><item jid='romeo@localhost' affiliation='member'/>";
        assert_eq!(outcome(&admin(&mut juliet, "set", "hall", both)), "result");
        assert_eq!(next_presence(&mut romeo), "romeo unavailable none/none romeo [110 307]");
        assert_eq!(
            list(&mut juliet, "hall", "affiliation='member'").unwrap(),
            ["member - romeo@localhost -"]
        );
        say(&mut juliet, "hall", "m1");
        message(&mut juliet, "m1");
    });
}

#[test]
fn who_registers_is_a_member_with_a_nick_of_its_own() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[("allowregister", "1")]);
        let to = room("hall");
        let query = |inside: &str| format!("<query xmlns='jabber:iq:register'>{inside}</query>");
        let form = romeo.ask("get", Some(&to), &query(""));
        assert!(payload(&form).find("x", "jabber:x:data").is_some());
        assert_eq!(outcome(&romeo.ask("set", Some(&to), &query("<username>tybalt</username>"))), "result");
        assert_eq!(outcome(&nurse.ask("set", Some(&to), &query("<username>tybalt</username>"))), "conflict");
        assert_eq!(outcome(enter(&mut nurse, "hall", "tybalt").last().unwrap()), "conflict");
        assert_eq!(
            list(&mut juliet, "hall", "affiliation='member'").unwrap(),
            ["member - romeo@localhost tybalt"]
        );
        let known = romeo.ask("get", Some(&to), &query(""));
        assert!(payload(&known).find("registered", "jabber:iq:register").is_some());
        let own = romeo.ask(
            "get",
            Some(&to),
            "<query xmlns='http://jabber.org/protocol/disco#info' node='x-roomuser-item'/>",
        );
        assert_eq!(payload(&own).elements().next().unwrap().attribute("name"), Some("tybalt"));
        assert_eq!(outcome(&romeo.ask("set", Some(&to), &query("<remove/>"))), "result");
        assert_eq!(list(&mut juliet, "hall", "affiliation='member'").unwrap(), Vec::<String>::new());
        assert_eq!(outcome(&romeo.ask("set", Some(&to), &query("<remove/>"))), "registration-required");
    });
}

#[test]
fn when_the_last_owner_unregisters_somebody_else_owns_the_room() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
        enter(&mut romeo, "hall", "romeo");
        let remove = "<query xmlns='jabber:iq:register'><remove/></query>";
        assert_eq!(outcome(&juliet.ask("set", Some(&room("hall")), remove)), "result");
        let own = super::until(&mut romeo, |stanza| super::seen_own(stanza, "owner"));
        assert_eq!(super::seen(&own), "romeo available owner/moderator romeo [110]");
        assert_eq!(list(&mut romeo, "hall", "affiliation='owner'").unwrap(), ["owner - romeo@localhost -"]);
    });
}

#[test]
fn a_room_to_which_nobody_belongs_any_more_ends_with_its_last_occupant() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        let remove = "<query xmlns='jabber:iq:register'><remove/></query>";
        make(&mut juliet, "hall", "jule", PRIVATE);
        assert_eq!(outcome(&juliet.ask("set", Some(&room("hall")), remove)), "result");
        server.await_metric("rooms.destroyed", 1);
        assert!(server.server.shared.directory.room("hall").unwrap().is_none());
        juliet.settle();
        juliet.quiet();

        make(&mut juliet, "garden", "jule", &[("persistentroom", "1")]);
        enter(&mut romeo, "garden", "romeo");
        assert_eq!(outcome(&juliet.ask("set", Some(&room("garden")), remove)), "result");
        juliet.send(&format!("<presence to='{}/jule' type='unavailable'/>", room("garden")));
        say(&mut romeo, "garden", "m1");
        message(&mut romeo, "m1");
        romeo.send(&format!("<presence to='{}/romeo' type='unavailable'/>", room("garden")));
        server.await_metric("rooms.destroyed", 2);
        assert!(server.server.shared.directory.room("garden").unwrap().is_none());
    });
}
