//! What only owners do.

use whimbrel_server::xml::Element;

use super::{OWNER, codes, configure, enter, make, make_it, message, next_presence, room, say, three};
use crate::support::answers::{outcome, payload};
use crate::support::on_each_driver;

#[test]
fn the_form_says_how_a_room_is_configured_and_owners_alone_get_it() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[("roomname", "The Hall"), ("membersonly", "0")]);
        let query = format!("<query xmlns='{OWNER}'/>");
        let form = juliet.ask("get", Some(&room("hall")), &query);
        let form = payload(&form).find("x", "jabber:x:data").expect("a form").clone();
        let field = |var: &str| {
            let field = form.elements().find(|field| field.attribute("var") == Some(var)).expect("a field");
            field.find("value", "jabber:x:data").map(|value| value.content().into_owned())
        };
        assert_eq!(field("muc#roomconfig_roomname").as_deref(), Some("The Hall"));
        enter(&mut romeo, "hall", "romeo");
        assert_eq!(outcome(&romeo.ask("get", Some(&room("hall")), &query)), "forbidden");
        assert_eq!(outcome(&configure(&mut romeo, "hall", &[("roomname", "Mine")])), "forbidden");
        assert_eq!(outcome(&configure(&mut juliet, "hall", &[("maxusers", "many")])), "not-acceptable");
    });
}

#[test]
fn occupants_hear_of_another_configuration_and_those_leave_who_may_not_stay() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        assert_eq!(make_it(&mut juliet, "hall", "nurse", "member"), "result");
        enter(&mut romeo, "hall", "romeo");
        enter(&mut nurse, "hall", "nurse");
        romeo.set_aside_until(|stanza| stanza.name() == "presence");
        romeo.quiet();
        assert_eq!(
            outcome(&configure(&mut juliet, "hall", &[("whois", "anyone"), ("roomname", "H")])),
            "result"
        );
        let told = romeo.set_aside_until(|stanza| stanza.name() == "message");
        assert_eq!((codes(&told), told.attribute("type")), (vec![104, 172], Some("groupchat")));
        nurse.set_aside_until(|stanza| !codes(stanza).is_empty() && stanza.name() == "message");
        nurse.quiet();
        assert_eq!(outcome(&configure(&mut juliet, "hall", &[("membersonly", "1")])), "result");
        let own = romeo.set_aside_until(|stanza| stanza.name() == "presence");
        assert_eq!(super::seen(&own), "romeo unavailable none/none romeo [110 322]");
        romeo.quiet();
        say(&mut nurse, "hall", "m1");
        message(&mut juliet, "m1");
    });
}

#[test]
fn a_form_that_closes_a_room_and_makes_an_admin_keeps_it_inside() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        enter(&mut nurse, "hall", "nurse");
        romeo.quiet();
        let fields = [("membersonly", "1"), ("roomadmins", "romeo@localhost")];
        assert_eq!(outcome(&configure(&mut juliet, "hall", &fields)), "result");
        let own = nurse.set_aside_until(|stanza| codes(stanza).contains(&322));
        assert_eq!(super::seen(&own), "nurse unavailable none/none nurse [110 322]");
        let own = romeo.set_aside_until(|stanza| codes(stanza).contains(&110));
        assert_eq!(super::seen(&own), "romeo available admin/moderator romeo [110]");
        say(&mut romeo, "hall", "m1");
        assert_eq!(message(&mut romeo, "m1").attribute("type"), Some("groupchat"));
    });
}

#[test]
fn a_room_that_is_cancelled_never_was() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        enter(&mut juliet, "hall", "jule");
        let cancel = format!("<query xmlns='{OWNER}'><x xmlns='jabber:x:data' type='cancel'/></query>");
        assert_eq!(outcome(&juliet.ask("set", Some(&room("hall")), &cancel)), "result");
        server.await_metric("rooms.active", 0);
        make(&mut romeo, "hall", "romeo", &[]);
        assert_eq!(
            outcome(&romeo.ask("set", Some(&room("hall")), &cancel)),
            "result",
            "an open one stays as it is"
        );
        say(&mut romeo, "hall", "m1");
        message(&mut romeo, "m1");
    });
}

#[test]
fn a_destroyed_room_says_where_to_go_and_its_successor_knows_nothing() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[("persistentroom", "1")]);
        enter(&mut romeo, "hall", "romeo");
        next_presence(&mut juliet);
        say(&mut juliet, "hall", "m1");
        let before = message(&mut romeo, "m1");
        let destroy = format!(
            "<query xmlns='{OWNER}'><destroy jid='{}'><reason>moved</reason></destroy></query>",
            room("garden")
        );
        assert_eq!(outcome(&romeo.ask("set", Some(&room("hall")), &destroy)), "forbidden");
        assert_eq!(outcome(&juliet.ask("set", Some(&room("hall")), &destroy)), "result");
        let told = romeo.set_aside_until(|stanza| stanza.name() == "presence");
        assert_eq!(told.attribute("type"), Some("unavailable"));
        let destroyed = told.find("x", super::USER).unwrap().find("destroy", super::USER).expect("destroyed");
        assert_eq!(destroyed.attribute("jid"), Some("garden@conference.localhost"));
        assert_eq!(destroyed.find("reason", super::USER).unwrap().content(), "moved");
        romeo.quiet();
        say(&mut romeo, "hall", "m2");
        assert_eq!(outcome(&message(&mut romeo, "m2")), "item-not-found");
        make(&mut romeo, "hall", "romeo", &[]);
        say(&mut romeo, "hall", "m3");
        let after = message(&mut romeo, "m3");
        assert_eq!(super::said(&enter(&mut romeo, "hall", "romeo")), ["m3"], "an empty archive");
        let id = |message: &Element| {
            let id = message.find("occupant-id", "urn:xmpp:occupant-id:0").unwrap();
            id.attribute("id").unwrap().to_owned()
        };
        assert_ne!(id(&before), id(&after));
        assert_ne!(id(&after), id(&message_of(&mut juliet, &mut romeo)), "in another room romeo is another");
    });
}

/// A message of romeo in a room of its own.
fn message_of(juliet: &mut crate::support::Client, romeo: &mut crate::support::Client) -> Element {
    juliet.quiet();
    make(romeo, "orchard", "romeo", &[]);
    say(romeo, "orchard", "o1");
    message(romeo, "o1")
}
