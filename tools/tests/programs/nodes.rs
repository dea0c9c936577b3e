//! `whimbrelctl node …`, which asks the running server.

use serde_json::{Value, json};

use crate::support::{Client, Place};

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

/// Who is what to a node.
fn members(place: &Place, node: &str) -> Vec<String> {
    let list = place.json(&["node", "affiliation", node]);
    let members = list["members"].as_array().expect("a list").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let keys = ["jid", "affiliation", "subscription"];
    members.map(|member| keys.map(|key| text(&member[key])).join(" ")).collect()
}

#[test]
fn a_node_is_made_shown_set_and_deleted() {
    let (place, _server) = place();
    assert_eq!(place.json(&["node", "list"]), json!({ "nodes": [] }));
    quiet(&place, &["node", "create", "news", "--owner", "alice@localhost", "title=News, and more"]);
    place.ctl(&["node", "create", "news"]).fails(1, &["there is a node news already"]);
    place
        .ctl(&["node", "create", "more", "access_model=presence"])
        .fails(1, &["open, authorize or whitelist"]);
    place
        .ctl(&["node", "create", "more", "--owner", "eve@localhost"])
        .fails(1, &["no account eve@localhost"]);
    let listed = json!({ "node": "news", "title": "News, and more", "access": "open", "publish": "publishers",
        "items": 0, "members": 1 });
    assert_eq!(place.json(&["node", "list"]), json!({ "nodes": [listed] }));
    let shown = place.json(&["node", "show", "news"]);
    assert_eq!(shown["owners"], json!(["alice@localhost"]));
    assert_eq!((&shown["jid"], &shown["settings"]["max_items"]), (&json!("pubsub.localhost"), &json!("max")));

    quiet(&place, &["node", "config", "news", "access_model=whitelist", "max_items=7"]);
    let settings = place.ctl(&["node", "config", "news"]).out;
    for line in ["access_model=whitelist", "max_items=7", "title=News, and more"] {
        assert!(settings.lines().any(|found| found == line), "{line}: {settings}");
    }
    place.ctl(&["node", "config", "news", "colour=red"]).fails(1, &["no setting `colour`"]);
    place.ctl(&["node", "config", "news", "max_items=many"]).fails(1, &["max_items"]);
    place.ctl(&["node", "config", "news", "title"]).fails(2, &["NAME=VALUE"]);

    quiet(&place, &["node", "delete", "news"]);
    for command in ["show", "delete", "config"] {
        place.ctl(&["node", command, "news"]).fails(1, &["there is no node news"]);
    }
    assert_eq!(place.json(&["node", "list"]), json!({ "nodes": [] }));
}

#[test]
fn affiliations_are_given_and_taken_and_go_with_their_account() {
    let (place, _server) = place();
    quiet(&place, &["node", "create", "news", "--owner", "alice@localhost"]);
    quiet(&place, &["node", "affiliation", "news", "bob@localhost", "publisher"]);
    assert_eq!(members(&place, "news"), ["alice@localhost owner none", "bob@localhost publisher none"]);
    quiet(&place, &["node", "affiliation", "news", "bob@localhost", "outcast"]);
    quiet(&place, &["node", "affiliation", "news", "alice@localhost", "none"]);
    assert_eq!(members(&place, "news"), ["bob@localhost outcast none"]);
    quiet(&place, &["user", "del", "bob@localhost"]);
    assert_eq!(members(&place, "news"), [""; 0]);
    place.ctl(&["node", "affiliation", "news", "bob@localhost", "member"]).fails(1, &["there is no account"]);
    place
        .ctl(&["node", "affiliation", "none", "alice@localhost", "member"])
        .fails(1, &["there is no node none"]);
    place.ctl(&["node", "affiliation", "news", "alice@localhost"]).fails(2, &["<KIND>"]);
    place.ctl(&["node", "affiliation", "news", "alice@localhost", "king"]).fails(2, &["king"]);
}

/// A node that an operator has made is one that clients use, and subscribers hear what the operator does.
#[test]
fn subscribers_hear_of_what_the_operator_does() {
    let (place, mut server) = place();
    quiet(&place, &["node", "create", "news", "--owner", "alice@localhost", "notify_config=1"]);
    let mut alice = Client::login(&place, "alice", "p", "r").expect("she has an account");
    let pubsub =
        |inside: &str| format!("<pubsub xmlns='http://jabber.org/protocol/pubsub'>{inside}</pubsub>");
    alice.say("<presence/>");
    let subscribe = pubsub("<subscribe node='news' jid='alice@localhost'/>");
    alice.say(&format!("<iq to='pubsub.localhost' type='set' id='s'>{subscribe}</iq>"));
    alice.hear("subscription=\"subscribed\"");
    quiet(&place, &["node", "config", "news", "title=Late news"]);
    alice.hear("Late news");
    let publish = pubsub("<publish node='news'><item id='1'><a xmlns='urn:a'>tea</a></item></publish>");
    alice.say(&format!("<iq to='pubsub.localhost' type='set' id='p'>{publish}</iq>"));
    alice.hear(">tea<");
    quiet(&place, &["node", "delete", "news"]);
    alice.hear("<delete node='news'/>");
    drop(alice);
    server.signal("TERM");
    assert!(server.end().success());
    place.ctl(&["node", "list"]).fails(1, &["no server runs"]);
}
