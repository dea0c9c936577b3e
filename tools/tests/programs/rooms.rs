//! `whimbrelctl room …`, which asks the running server.

use serde_json::{Value, json};

use crate::support::{Client, Place};

const ROOM: &str = "tea@conference.localhost";

fn place() -> (Place, crate::support::Server) {
    let place = Place::new();
    for jid in ["alice@localhost", "bob@localhost"] {
        place.ctl(&["user", "add", "--create", jid, "--password", "p"]);
    }
    let server = place.server(&["--allow-plaintext"]);
    (place, server)
}

fn quiet(place: &Place, args: &[&str]) {
    let done = place.ctl(args);
    assert!(done.code == 0 && done.out.is_empty() && done.err.is_empty(), "{args:?}: {done:?}");
}

fn members(place: &Place) -> Vec<(String, String)> {
    let list = place.json(&["room", "member", "list", ROOM]);
    let members = list["members"].as_array().expect("a list").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    members.map(|member| (text(&member["jid"]), text(&member["affiliation"]))).collect()
}

#[test]
fn a_room_is_made_shown_set_and_destroyed() {
    let (place, _server) = place();
    assert_eq!(place.json(&["room", "list"]), json!({ "rooms": [] }));
    quiet(&place, &["room", "create", ROOM, "--owner", "alice@localhost", "roomname=Tea, at five"]);
    place.ctl(&["room", "create", ROOM]).fails(1, &["there is a room tea@conference.localhost already"]);

    let list = place.json(&["room", "list"]);
    let room = &list["rooms"][0];
    assert_eq!(
        (&room["jid"], &room["title"], &room["owners"]),
        (&json!(ROOM), &json!("Tea, at five"), &json!(1))
    );
    assert_eq!(
        (&room["public"], &room["members_only"], &room["persistent"]),
        (&json!(false), &json!(true), &json!(true))
    );
    let text = place.ctl(&["room", "list"]).out;
    assert!(
        text.lines()
            .nth(1)
            .is_some_and(|line| line.starts_with(ROOM) && line.contains("hidden members kept")),
        "{text}"
    );

    let shown = place.json(&["room", "show", ROOM]);
    assert_eq!((&shown["occupants"], &shown["subject"]), (&json!([]), &Value::Null));
    assert_eq!(shown["settings"]["whois"], json!("anyone"));

    quiet(&place, &["room", "config", ROOM, "publicroom=1", "maxhistoryfetch=7"]);
    let settings = place.ctl(&["room", "config", ROOM]).out;
    for line in ["publicroom=1", "maxhistoryfetch=7", "membersonly=1", "roomname=Tea, at five"] {
        assert!(settings.lines().any(|found| found == line), "{line}: {settings}");
    }
    place.ctl(&["room", "config", ROOM, "colour=red"]).fails(1, &["no setting `colour`"]);
    place.ctl(&["room", "config", ROOM, "publicroom=maybe"]).fails(1, &["publicroom"]);
    place.ctl(&["room", "config", ROOM, "publicroom"]).fails(2, &["NAME=VALUE"]);

    quiet(&place, &["room", "destroy", ROOM, "--reason", "over"]);
    place.ctl(&["room", "destroy", ROOM]).fails(1, &["there is no room tea@conference.localhost"]);
    assert_eq!(place.json(&["room", "list"]), json!({ "rooms": [] }));
}

#[test]
fn members_come_and_go_and_a_room_keeps_an_owner() {
    let (place, _server) = place();
    quiet(&place, &["room", "create", ROOM, "--owner", "alice@localhost"]);
    quiet(&place, &["room", "member", "add", ROOM, "bob@localhost", "--reason", "he asked"]);
    let owner = |jid: &str, affiliation: &str| (jid.to_owned(), affiliation.to_owned());
    assert_eq!(members(&place), [owner("alice@localhost", "owner"), owner("bob@localhost", "member")]);
    quiet(&place, &["room", "member", "add", ROOM, "bob@localhost", "--affiliation", "outcast"]);
    assert_eq!(members(&place)[1].1, "outcast");
    quiet(&place, &["room", "member", "remove", ROOM, "bob@localhost"]);
    assert_eq!(members(&place), [owner("alice@localhost", "owner")]);
    place.ctl(&["room", "member", "remove", ROOM, "alice@localhost"]).fails(1, &["conflict"]);
    place.ctl(&["room", "member", "add", ROOM, "nobody@localhost"]).fails(1, &["there is no account"]);
    // What belongs to a removed account goes with it.
    quiet(&place, &["room", "member", "add", ROOM, "bob@localhost"]);
    quiet(&place, &["user", "del", "alice@localhost"]);
    assert_eq!(members(&place), [owner("bob@localhost", "owner")], "the last owner's room has an heir");
}

#[test]
fn hats_are_given_seen_listed_and_taken() {
    let (place, mut server) = place();
    const TEACHER: &str = "https://example.org/hats#teacher";
    quiet(&place, &["room", "create", ROOM, "--owner", "alice@localhost"]);
    assert_eq!(place.json(&["room", "hat", "list", ROOM]), json!({ "hats": [] }));
    place
        .ctl(&["room", "hat", "add", ROOM, "bob@localhost", TEACHER, "Teacher"])
        .fails(1, &["make it a member first"]);
    place.ctl(&["room", "hat", "add", ROOM, "alice@localhost", "teacher", "Teacher"]).fails(1, &["a URI"]);
    let mut alice = Client::login(&place, "alice", "p", "r").expect("she has an account");
    // Nobody puts one on by itself.
    alice.say(&format!(
        "<presence to='{ROOM}/Alice'><x xmlns='http://jabber.org/protocol/muc'/>\
         <hats xmlns='urn:xmpp:hats:0'><hat uri='urn:forged' title='forged'/></hats></presence>"
    ));
    alice.hear("code='110'");
    quiet(&place, &["room", "hat", "add", ROOM, "alice@localhost", TEACHER, "Teacher & more"]);
    let hat = format!("<hat uri='{TEACHER}' title='Teacher &amp; more'/></hats>");
    alice.hear(&hat);
    assert!(!alice.heard().contains("forged"), "{}", alice.heard());
    quiet(&place, &["room", "hat", "add", ROOM, "alice@localhost", "urn:x:host", "Host"]);
    quiet(&place, &["room", "hat", "add", ROOM, "alice@localhost", TEACHER, "Teacher"]);
    let list = json!({ "hats": [
        { "member": "alice@localhost", "uri": TEACHER, "title": "Teacher" },
        { "member": "alice@localhost", "uri": "urn:x:host", "title": "Host" },
    ] });
    assert_eq!(place.json(&["room", "hat", "list", ROOM]), list);
    let text = place.ctl(&["room", "hat", "list", ROOM]).out;
    assert!(text.lines().nth(1).is_some_and(|line| line.contains(TEACHER)), "{text}");

    // They are there after a restart, too.
    server.signal("TERM");
    assert!(server.end().success());
    let _server = place.server(&["--allow-plaintext"]);
    let mut alice = Client::login(&place, "alice", "p", "r").expect("she has an account");
    alice.say(&format!("<presence to='{ROOM}/Alice'><x xmlns='http://jabber.org/protocol/muc'/></presence>"));
    alice.hear(&format!("<hat uri='{TEACHER}' title='Teacher'/><hat uri='urn:x:host' title='Host'/></hats>"));
    quiet(&place, &["room", "hat", "remove", ROOM, "alice@localhost", TEACHER]);
    alice.hear("<hats xmlns='urn:xmpp:hats:0'><hat uri='urn:x:host' title='Host'/></hats>");
    place.ctl(&["room", "hat", "remove", ROOM, "alice@localhost", TEACHER]).fails(1, &["no such hat"]);
    for n in 0..7 {
        quiet(&place, &["room", "hat", "add", ROOM, "alice@localhost", &format!("urn:x:{n}"), "More"]);
    }
    place
        .ctl(&["room", "hat", "add", ROOM, "alice@localhost", "urn:x:9", "Ninth"])
        .fails(1, &["as many hats"]);
}

#[test]
fn rooms_of_no_name_or_another_domain_are_refused() {
    let (place, mut server) = place();
    for (jid, text) in [
        ("tea@localhost", "rooms are named NAME@conference.localhost"),
        ("conference.localhost", "names no room"),
        ("tea@conference.localhost/x", "names no room"),
        ("a b@conference.localhost", "not an address"),
        ("none@conference.localhost", "there is no room"),
    ] {
        place.ctl(&["room", "show", jid]).fails(1, &[text]);
    }
    server.signal("TERM");
    assert!(server.end().success());
    place.ctl(&["room", "list"]).fails(1, &["no server runs"]);
}

/// A room that an operator has made is one that clients enter, and who is in it hears what the operator does.
#[test]
fn occupants_hear_of_what_the_operator_does() {
    let (place, _server) = place();
    quiet(&place, &["room", "create", ROOM, "--owner", "alice@localhost"]);
    let mut alice = Client::login(&place, "alice", "p", "r").expect("she has an account");
    alice.say(&format!("<presence to='{ROOM}/Alice'><x xmlns='http://jabber.org/protocol/muc'/></presence>"));
    alice.hear("code='110'");
    let shown = place.json(&["room", "show", ROOM]);
    assert_eq!(
        shown["occupants"],
        json!([{ "nick": "Alice", "jids": ["alice@localhost/r"], "role": "moderator" }])
    );
    quiet(&place, &["room", "member", "add", ROOM, "bob@localhost"]);
    alice.hear("bob@localhost");
    quiet(&place, &["room", "config", ROOM, "moderatedroom=1"]);
    alice.hear("code='104'");
    quiet(&place, &["room", "destroy", ROOM, "--reason", "the kettle is broken"]);
    alice.hear("the kettle is broken");
}
