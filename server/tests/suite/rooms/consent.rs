//! Who may put an account into private groups: the server's default, and what the account says itself.

use whimbrel_server::xml::Element;

use super::bookmarks::{await_bookmarks, bookmarks, verona};
use super::{make_it, room, until};
use crate::support::answers::{outcome, payload};
use crate::support::{Client, on_each_driver, on_each_driver_with};
use whimbrel_storage::directory::MayAdd;

const COMMANDS: &str = "http://jabber.org/protocol/commands";
const NODE: &str = "whimbrel#groups";
const DATA: &str = "jabber:x:data";

/// Executes the command with this inside; the answer.
fn command(client: &mut Client, attributes: &str, inside: &str) -> Element {
    let text = format!("<command xmlns='{COMMANDS}' node='{NODE}' {attributes}>{inside}</command>");
    client.ask("set", Some("localhost"), &text)
}

fn filled_in(value: &str) -> String {
    format!("<x xmlns='{DATA}' type='submit'><field var='add'><value>{value}</value></field></x>")
}

/// A client says who may add its account.
fn say_who(client: &mut Client, value: &str) {
    let done = command(client, "action='complete' sessionid='s'", &filled_in(value));
    assert_eq!(payload(&done).attribute("status"), Some("completed"), "{done:?}");
    assert_eq!(payload(&done).attribute("sessionid"), Some("s"));
}

/// The value that the form has.
fn said(client: &mut Client) -> String {
    let form = command(client, "action='execute'", "");
    assert_eq!(payload(&form).attribute("status"), Some("executing"));
    let form = payload(&form).find("x", DATA).expect("a form");
    let field = form.elements().find(|field| field.attribute("var") == Some("add")).expect("the field");
    field.find("value", DATA).expect("a value").content().into_owned()
}

/// Waits for an invitation into the hall; the one from whom it comes.
fn invited(client: &mut Client) -> String {
    let message = until(client, |stanza| stanza.name() == "message");
    assert_eq!(message.attribute("from"), Some(room("hall").as_str()));
    let invite = message.find("x", super::USER).and_then(|x| x.find("invite", super::USER));
    invite.expect("an invitation").attribute("from").expect("of somebody").to_owned()
}

#[test]
fn a_client_sets_by_a_command_who_may_add_it() {
    on_each_driver(|server| {
        let [_, mut romeo, _] = verona(server);
        let items = format!("<query xmlns='http://jabber.org/protocol/disco#items' node='{COMMANDS}'/>");
        let listed = romeo.ask("get", Some("localhost"), &items);
        let item = payload(&listed).elements().next().expect("the command");
        assert_eq!((item.attribute("jid"), item.attribute("node")), (Some("localhost"), Some(NODE)));
        for (node, typ) in [(COMMANDS, "command-list"), (NODE, "command-node")] {
            let info = format!("<query xmlns='http://jabber.org/protocol/disco#info' node='{node}'/>");
            let info = romeo.ask("get", Some("localhost"), &info);
            let identity = payload(&info).elements().next().expect("an identity");
            assert_eq!(identity.attribute("type"), Some(typ));
        }
        assert_eq!(said(&mut romeo), "default");
        say_who(&mut romeo, "nobody");
        assert_eq!(said(&mut romeo), "nobody");
        let settings = server.server.shared.directory.settings("romeo").unwrap();
        assert_eq!(settings.groups_add, Some(MayAdd::Nobody));
        say_who(&mut romeo, "default");
        assert_eq!(said(&mut romeo), "default");
        let canceled = command(&mut romeo, "action='cancel' sessionid='s'", "");
        assert_eq!(payload(&canceled).attribute("status"), Some("canceled"));
        for (attributes, inside, expected) in [
            ("action='complete'", String::new(), "bad-request"),
            ("action='prev'", String::new(), "bad-request"),
            ("action='complete'", filled_in("somebody"), "not-acceptable"),
        ] {
            assert_eq!(outcome(&command(&mut romeo, attributes, &inside)), expected, "{attributes}");
        }
        let other = format!("<command xmlns='{COMMANDS}' node='urn:none' action='execute'/>");
        assert_eq!(outcome(&romeo.ask("set", Some("localhost"), &other)), "item-not-found");
        let get = format!("<command xmlns='{COMMANDS}' node='{NODE}'/>");
        assert_eq!(outcome(&romeo.ask("get", Some("localhost"), &get)), "bad-request");
    });
}

#[test]
fn without_rooms_there_is_no_command() {
    on_each_driver_with(
        |config| config.rooms.enabled = false,
        |server| {
            server.accounts(&["romeo"]);
            let mut romeo = server.online("romeo", "r");
            assert_eq!(outcome(&command(&mut romeo, "action='execute'", "")), "service-unavailable");
            let items = format!("<query xmlns='http://jabber.org/protocol/disco#items' node='{COMMANDS}'/>");
            assert_eq!(outcome(&romeo.ask("get", Some("localhost"), &items)), "item-not-found");
        },
    );
}

#[test]
fn who_lets_nobody_add_it_is_always_invited() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = verona(server);
        say_who(&mut romeo, "nobody");
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
        assert_eq!(invited(&mut romeo), "juliet@localhost", "although she is in his roster");
        assert_eq!(bookmarks(&mut romeo), Vec::<String>::new());
        assert_eq!(server.metric("rooms.additions_asked"), 1);
        // What it does itself is its own will.
        let form = "<query xmlns='jabber:iq:register'><username>romeo</username></query>";
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "none"), "result");
        let fields = [super::PRIVATE, &[("allowregister", "1")]].concat();
        assert_eq!(outcome(&super::configure(&mut juliet, "hall", &fields)), "result");
        assert_eq!(outcome(&romeo.ask("set", Some(&room("hall")), form)), "result");
        await_bookmarks(&mut romeo, 1);
    });
}

#[test]
fn who_lets_everyone_add_it_is_added_by_strangers() {
    on_each_driver(|server| {
        let [mut juliet, _, mut nurse] = verona(server);
        say_who(&mut nurse, "everyone");
        assert_eq!(make_it(&mut juliet, "hall", "nurse", "member"), "result");
        await_bookmarks(&mut nurse, 1);
        assert!(nurse.take_aside(|stanza| stanza.name() == "message").is_empty(), "nobody asks");
    });
}

#[test]
fn the_servers_default_holds_for_those_who_say_nothing() {
    on_each_driver_with(
        |config| config.rooms.add = MayAdd::Everyone,
        |server| {
            let [mut juliet, mut romeo, mut nurse] = verona(server);
            assert_eq!(make_it(&mut juliet, "hall", "nurse", "member"), "result");
            await_bookmarks(&mut nurse, 1);
            say_who(&mut romeo, "nobody");
            assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
            assert_eq!(invited(&mut romeo), "juliet@localhost", "its own word comes first");
        },
    );
}

#[test]
fn who_blocks_somebody_is_neither_added_nor_invited_by_them() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = verona(server);
        let block = "<block xmlns='urn:xmpp:blocking'><item jid='juliet@localhost'/></block>";
        for blocker in [&mut romeo, &mut nurse] {
            assert_eq!(outcome(&blocker.ask("set", None, block)), "result");
            blocker.quiet();
        }
        for name in ["romeo", "nurse"] {
            assert_eq!(make_it(&mut juliet, "hall", name, "member"), "result");
        }
        for blocker in [&mut romeo, &mut nurse] {
            blocker.settle();
            assert!(blocker.take_aside(|stanza| stanza.name() == "message").is_empty());
            assert_eq!(bookmarks(blocker), Vec::<String>::new());
        }
        assert_eq!(server.metric("rooms.additions_asked"), 0);
    });
}
