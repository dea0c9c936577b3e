//! Bookmarks through three doors: an item each, all in one item, private XML.

use super::*;
use crate::support::answers::payload;
use crate::support::on_each_driver;

const BOOKMARKS: &str = "urn:xmpp:bookmarks:1";
const STORAGE: &str = "storage:bookmarks";

/// The payload of an item.
fn room(name: &str, more: &str) -> String {
    format!("<conference xmlns='{BOOKMARKS}' name='{name}' autojoin='true'><nick>J</nick>{more}</conference>")
}

/// All bookmarks in one element.
fn storage(inside: &str) -> String {
    format!("<storage xmlns='{STORAGE}'>{inside}</storage>")
}

/// A room in that.
fn conference(jid: &str, name: &str) -> String {
    format!("<conference jid='{jid}' name='{name}' autojoin='true'><nick>J</nick></conference>")
}

/// Addresses and names of the rooms in an element with all bookmarks.
fn rooms(storage: &Element) -> Vec<String> {
    let rooms = storage.elements().filter(|child| child.name() == "conference");
    rooms
        .map(|room| format!("{} {}", room.attribute("jid").unwrap(), room.attribute("name").unwrap()))
        .collect()
}

/// The bookmarks in private XML.
fn private(client: &mut Client) -> Element {
    let answer =
        client.ask("get", None, &format!("<query xmlns='jabber:iq:private'>{}</query>", storage("")));
    payload(&answer).elements().next().expect("the storage").clone()
}

/// Sets the bookmarks in private XML.
fn set_private(client: &mut Client, inside: &str) -> String {
    let query = format!("<query xmlns='jabber:iq:private'>{}</query>", storage(inside));
    outcome(&client.ask("set", None, &query))
}

/// The bookmarks in the one item of a node.
fn all_in_one(client: &mut Client) -> Option<Element> {
    let answer = ask(client, "get", None, &format!("<items node='{STORAGE}'/>"));
    let items = answer.find("pubsub", PUBSUB)?.find("items", PUBSUB)?.clone();
    items.elements().next()?.elements().next().cloned()
}

/// The names of the items, by their addresses.
fn one_by_one(client: &mut Client) -> Vec<String> {
    let answer = ask(client, "get", None, &format!("<items node='{BOOKMARKS}'/>"));
    let items = payload(&answer).find("items", PUBSUB).unwrap();
    let name = |item: &Element| {
        let room = item.elements().next().unwrap();
        format!("{} {}", item.attribute("id").unwrap(), room.attribute("name").unwrap())
    };
    let mut found: Vec<_> = items.elements().map(name).collect();
    found.sort();
    found
}

#[test]
fn what_is_set_at_one_door_is_seen_at_all() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        assert_eq!(all_in_one(&mut juliet), None);
        let extended = room("A", "<extensions><x xmlns='urn:x'/></extensions>");
        let options = [("persist_items", "true"), ("max_items", "max"), ("access_model", "whitelist")];
        assert_eq!(publish_with(&mut juliet, None, (BOOKMARKS, "a@muc.x", &extended), &options), "result");
        assert_eq!(rooms(&private(&mut juliet)), ["a@muc.x A"]);
        assert_eq!(rooms(&all_in_one(&mut juliet).unwrap()), ["a@muc.x A"]);

        let url = "<url name='u' url='http://u.x'/>";
        let both = format!("{url}{}{}", conference("a@muc.x", "A2"), conference("b@muc.x", "B"));
        assert_eq!(set_private(&mut juliet, &both), "result");
        assert_eq!(one_by_one(&mut juliet), ["a@muc.x A2", "b@muc.x B"]);
        let answer =
            ask(&mut juliet, "get", None, &format!("<items node='{BOOKMARKS}'><item id='a@muc.x'/></items>"));
        let kept = payload(&answer)
            .find("items", PUBSUB)
            .unwrap()
            .elements()
            .next()
            .unwrap()
            .elements()
            .next()
            .unwrap();
        assert!(
            kept.find("extensions", BOOKMARKS).is_some(),
            "what the older form does not know survives it"
        );
        assert_eq!(private(&mut juliet).elements().next().unwrap().name(), "url");

        let item = format!(
            "<publish node='{STORAGE}'><item id='current'>{}</item></publish>",
            storage(&conference("c@muc.x", "C"))
        );
        assert_eq!(said(&ask(&mut juliet, "set", None, &item)), "result");
        assert_eq!(one_by_one(&mut juliet), ["c@muc.x C"]);
        assert_eq!(rooms(&private(&mut juliet)), ["c@muc.x C"]);
        let retract = format!("<retract node='{BOOKMARKS}' notify='1'><item id='c@muc.x'/></retract>");
        assert_eq!(said(&ask(&mut juliet, "set", None, &retract)), "result");
        assert_eq!(rooms(&all_in_one(&mut juliet).unwrap()), [""; 0]);
    });
}

#[test]
fn each_device_hears_of_changes_in_the_form_that_it_wants() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut old = interested(server, "juliet", "old", &[STORAGE]);
        let mut new = interested(server, "juliet", "new", &[BOOKMARKS]);
        let mut oldest = interested(server, "juliet", "oldest", &[]);
        let mut seen = |oldest: &mut Client| {
            flush(oldest);
            let all = |stanza: &Element| {
                let items = stanza.find("event", EVENT)?.elements().next()?.clone();
                items.attribute("node").filter(|node| *node == STORAGE)?;
                Some(rooms(items.elements().next()?.elements().next()?))
            };
            old.settle();
            new.settle();
            (old.quiet().iter().filter_map(all).collect::<Vec<_>>(), events(&mut new))
        };
        assert_eq!(set_private(&mut oldest, &conference("a@muc.x", "A")), "result");
        let (old_form, new_form) = seen(&mut oldest);
        assert_eq!(old_form, [["a@muc.x A"]]);
        assert_eq!(new_form, ["juliet urn:xmpp:bookmarks:1: a@muc.x="]);
        assert_eq!(publish(&mut oldest, BOOKMARKS, "b@muc.x", &room("B", "")), "result");
        let (old_form, new_form) = seen(&mut oldest);
        assert_eq!(old_form, [["a@muc.x A", "b@muc.x B"]]);
        assert_eq!(new_form, ["juliet urn:xmpp:bookmarks:1: b@muc.x="]);
        assert_eq!(set_private(&mut oldest, &conference("b@muc.x", "B")), "result");
        let (old_form, new_form) = seen(&mut oldest);
        assert_eq!(old_form, [["b@muc.x B"]]);
        assert_eq!(new_form, ["juliet urn:xmpp:bookmarks:1: retract a@muc.x"], "the other is as it was");
    });
}

#[test]
fn bookmarks_are_the_owners_alone_and_bounded() {
    let configure = |config: &mut whimbrel_server::config::Config| config.limits.pep_items = 2;
    crate::support::on_each_driver_with(configure, |server| {
        server.accounts(&["juliet", "romeo"]);
        crate::support::answers::befriend(server, "juliet", "romeo");
        let mut juliet = interested(server, "juliet", "balcony", &[]);
        let mut romeo = interested(server, "romeo", "orchard", &[BOOKMARKS, STORAGE]);
        let three: String =
            ["a", "b", "c"].iter().map(|name| conference(&format!("{name}@x"), name)).collect();
        assert_eq!(set_private(&mut juliet, &three), "resource-constraint");
        assert_eq!(rooms(&private(&mut juliet)), [""; 0], "nothing of it");
        assert_eq!(set_private(&mut juliet, &conference("a@x", "a")), "result");
        assert_eq!(heard(&mut juliet, &mut romeo), [""; 0]);
        let hers = Some("juliet@localhost");
        assert_eq!(get(&mut romeo, hers, BOOKMARKS), Err("not-allowed closed-node".into()));
        assert_eq!(get(&mut romeo, hers, STORAGE), Err("forbidden".into()));
        let nonsense = format!("<publish node='{STORAGE}'><item><a xmlns='urn:a'/></item></publish>");
        assert_eq!(said(&ask(&mut juliet, "set", None, &nonsense)), "bad-request invalid-payload");
        let delete = format!("<delete node='{STORAGE}'/>");
        assert_eq!(said(&ask_as_owner(&mut juliet, "set", &delete)), "not-allowed");
        for feature in [
            "urn:xmpp:bookmarks:1#compat",
            "urn:xmpp:bookmarks:1#compat-pep",
            "urn:xmpp:bookmarks-conversion:0",
        ] {
            let answer = juliet.ask("get", hers, "<query xmlns='http://jabber.org/protocol/disco#info'/>");
            assert!(
                payload(&answer).elements().any(|child| child.attribute("var") == Some(feature)),
                "{feature}"
            );
        }
    });
}
