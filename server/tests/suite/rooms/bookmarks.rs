//! Members who are not there: the server keeps private groups in their bookmarks.

use super::{PRIVATE, configure, make, make_it, room, until};
use crate::support::answers::{befriend, outcome, payload};
use crate::support::{Client, TestServer, on_each_driver, on_each_driver_with};

const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
const BOOKMARKS: &str = "urn:xmpp:bookmarks:1";

/// The bookmarks of an account: address, name, autojoin.
pub(super) fn bookmarks(client: &mut Client) -> Vec<String> {
    let answer =
        client.ask("get", None, &format!("<pubsub xmlns='{PUBSUB}'><items node='{BOOKMARKS}'/></pubsub>"));
    if outcome(&answer) == "item-not-found" {
        return Vec::new();
    }
    let items = payload(&answer).find("items", PUBSUB).expect("items");
    let item = |item: &whimbrel_server::xml::Element| {
        let conference = item.elements().next().expect("a bookmark");
        let of = |name: &str| conference.attribute(name).unwrap_or("-").to_owned();
        format!("{} {} {}", item.attribute("id").unwrap(), of("name"), of("autojoin"))
    };
    items.elements().map(item).collect()
}

/// Waits until an account has so many bookmarks.
pub(super) fn await_bookmarks(client: &mut Client, count: usize) -> Vec<String> {
    let since = std::time::Instant::now();
    loop {
        let found = bookmarks(client);
        if found.len() == count {
            return found;
        }
        assert!(since.elapsed() < crate::support::PATIENCE, "{found:?}, not {count}");
        std::thread::yield_now();
    }
}

/// juliet, who is in romeo's roster, has made a private group.
pub(super) fn verona(server: &TestServer) -> [Client; 3] {
    server.accounts(&["juliet", "romeo", "nurse"]);
    befriend(server, "juliet", "romeo");
    let mut clients = ["juliet", "romeo", "nurse"].map(|name| server.online(name, "r"));
    clients.iter_mut().for_each(Client::settle);
    clients.iter_mut().for_each(|client| drop(client.quiet()));
    let fields = [PRIVATE, &[("roomname", "The Hall")]].concat();
    make(&mut clients[0], "hall", "jule", &fields);
    clients
}

#[test]
fn who_is_made_a_member_while_away_finds_the_group_at_the_next_login() {
    on_each_driver(|server| {
        let [mut juliet, romeo, _] = verona(server);
        romeo.cut();
        server.await_metric("sessions", 1);
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
        let mut romeo = server.login("romeo", "later");
        assert_eq!(await_bookmarks(&mut romeo, 1), ["hall@conference.localhost The Hall true"]);
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "none"), "result");
        await_bookmarks(&mut romeo, 0);
    });
}

#[test]
fn strangers_invite_and_write_nothing_into_bookmarks() {
    on_each_driver(|server| {
        let [mut juliet, _, mut nurse] = verona(server);
        assert_eq!(make_it(&mut juliet, "hall", "nurse", "member"), "result");
        let invited = until(&mut nurse, |stanza| stanza.name() == "message");
        let x = invited.find("x", super::USER).unwrap().find("invite", super::USER).expect("an invitation");
        assert_eq!(x.attribute("from"), Some("juliet@localhost"));
        assert_eq!(bookmarks(&mut nurse), Vec::<String>::new());
    });
}

#[test]
fn a_bookmark_that_is_there_stays_as_its_owner_wants_it() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = verona(server);
        let own = format!(
            "<pubsub xmlns='{PUBSUB}'><publish node='{BOOKMARKS}'><item id='{}'>\
             <conference xmlns='{BOOKMARKS}' name='mine' autojoin='false'/></item></publish></pubsub>",
            room("hall")
        );
        assert_eq!(outcome(&romeo.ask("set", None, &own)), "result");
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "admin"), "result");
        romeo.settle();
        assert_eq!(bookmarks(&mut romeo), ["hall@conference.localhost mine false"]);
    });
}

/// Asks the owner's client to destroy the hall.
fn destroy(client: &mut Client) {
    let destroy = format!("<query xmlns='{}'><destroy/></query>", super::OWNER);
    assert_eq!(outcome(&client.ask("set", Some(&room("hall")), &destroy)), "result");
}

#[test]
fn a_destroyed_group_is_in_nobodys_bookmarks() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = verona(server);
        for name in ["romeo", "nurse"] {
            assert_eq!(make_it(&mut juliet, "hall", name, "member"), "result");
        }
        await_bookmarks(&mut romeo, 1);
        let of_another_room = format!(
            "<pubsub xmlns='{PUBSUB}'><publish node='{BOOKMARKS}'><item id='{}'>\
             <conference xmlns='{BOOKMARKS}' name='mine' autojoin='true'/></item></publish></pubsub>",
            room("garden")
        );
        assert_eq!(outcome(&nurse.ask("set", None, &of_another_room)), "result");
        destroy(&mut juliet);
        // It is gone when the owner hears of it, so nobody's client makes another room of the name.
        assert_eq!(bookmarks(&mut romeo), Vec::<String>::new());
        assert_eq!(bookmarks(&mut nurse), ["garden@conference.localhost mine true"]);
        assert_eq!(server.metric("rooms.destroyed"), 1);
    });
}

#[test]
fn members_of_a_large_group_lose_its_bookmark_in_parts() {
    on_each_driver(|server| {
        let names: Vec<String> = (0..200).map(|n| format!("guest{n}")).collect();
        let [mut juliet, mut romeo, _] = verona(server);
        server.accounts(&names.iter().map(String::as_str).collect::<Vec<_>>());
        names.iter().for_each(|name| befriend(server, "juliet", name));
        for some in names.chunks(100) {
            let item = |name: &String| format!("<item jid='{name}@localhost' affiliation='member'/>");
            let items: String = some.iter().map(item).collect();
            assert_eq!(outcome(&super::admin(&mut juliet, "set", "hall", &items)), "result");
        }
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
        let has = |name: &str| {
            let found = server.server.shared.directory.pubsub(name, |view| {
                let Some(node) = view.node(BOOKMARKS)? else { return Ok(false) };
                Ok(view.item(&node, &room("hall"))?.is_some())
            });
            found.unwrap().unwrap()
        };
        assert!(names.iter().all(|name| has(name)));
        juliet.quiet();
        let order = format!("<query xmlns='{}'><destroy/></query>", super::OWNER);
        juliet.send(&format!("<iq type='set' id='destroy' to='{}'>{order}</iq>", room("hall")));
        // What comes meanwhile waits, and finds no room.
        romeo.send(&format!(
            "<iq type='get' id='late' to='{}'><ping xmlns='urn:xmpp:ping'/></iq>",
            room("hall")
        ));
        let done = juliet.set_aside_until(|stanza| stanza.attribute("id") == Some("destroy"));
        assert_eq!(outcome(&done), "result");
        assert!(!names.iter().any(|name| has(name)) && !has("romeo"));
        romeo.set_aside_until(|stanza| stanza.attribute("id") == Some("late"));
    });
}

#[test]
fn a_temporary_group_is_in_no_bookmarks_after_a_restart() {
    for driver in crate::support::drivers() {
        let server = TestServer::start(driver, |_| {});
        let [mut juliet, mut romeo, _] = verona(&server);
        assert_eq!(outcome(&configure(&mut juliet, "hall", &[("persistentroom", "0")])), "result");
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
        await_bookmarks(&mut romeo, 1);
        let server = server.restart(|_| {});
        assert!(server.server.shared.directory.room("hall").unwrap().is_none());
        let mut romeo = server.login("romeo", "later");
        assert_eq!(bookmarks(&mut romeo), Vec::<String>::new());
    }
}

#[test]
fn who_removes_the_bookmark_of_a_group_is_a_member_no_more() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = verona(server);
        let remove = format!(
            "<pubsub xmlns='{PUBSUB}'><retract node='{BOOKMARKS}' notify='true'><item id='{}'/></retract></pubsub>",
            room("hall")
        );
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
        await_bookmarks(&mut romeo, 1);
        juliet.quiet();
        assert_eq!(outcome(&romeo.ask("set", None, &remove)), "result");
        // That romeo has become a member may be told later than the answer to who has made it one.
        let is_told = |stanza: &whimbrel_server::xml::Element| {
            let item = stanza.find("x", super::USER).and_then(|x| x.find("item", super::USER));
            item.is_some_and(|item| {
                item.attribute("affiliation") == Some("none")
                    && item.attribute("jid") == Some("romeo@localhost")
            })
        };
        until(&mut juliet, is_told);
        let keep = "<x xmlns='jabber:x:data' type='submit'><field var='whimbrel#roomconfig_leavingends'>\
                    <value>0</value></field></x>";
        let query = format!("<query xmlns='{}'>{keep}</query>", super::OWNER);
        assert_eq!(outcome(&juliet.ask("set", Some(&room("hall")), &query)), "result");
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
        await_bookmarks(&mut romeo, 1);
        assert_eq!(outcome(&romeo.ask("set", None, &remove)), "result");
        romeo.settle();
        juliet.settle();
        let members = super::admin(&mut juliet, "get", "hall", "<item affiliation='member'/>");
        assert_eq!(payload(&members).elements().count(), 1, "where the room says so, it stays one");
    });
}

#[test]
fn a_group_whose_last_member_removes_the_bookmark_is_gone() {
    on_each_driver(|server| {
        let [mut juliet, ..] = verona(server);
        let item =
            format!("<item id='{}'><conference xmlns='{BOOKMARKS}' autojoin='true'/></item>", room("hall"));
        let publish =
            format!("<pubsub xmlns='{PUBSUB}'><publish node='{BOOKMARKS}'>{item}</publish></pubsub>");
        let retract = format!(
            "<pubsub xmlns='{PUBSUB}'><retract node='{BOOKMARKS}'><item id='{}'/></retract></pubsub>",
            room("hall")
        );
        for change in [publish, retract] {
            assert_eq!(outcome(&juliet.ask("set", None, &change)), "result");
        }
        server.await_metric("rooms.destroyed", 1);
        assert!(server.server.shared.directory.room("hall").unwrap().is_none());
    });
}

#[test]
fn rooms_that_are_no_private_groups_and_servers_that_keep_none_write_nothing() {
    on_each_driver_with(
        |config| config.rooms.bookmarks = false,
        |server| {
            let [mut juliet, mut romeo, _] = verona(server);
            assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
            romeo.settle();
            assert_eq!(bookmarks(&mut romeo), Vec::<String>::new());
        },
    );
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = verona(server);
        assert_eq!(outcome(&configure(&mut juliet, "hall", &[("publicroom", "1")])), "result");
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
        romeo.settle();
        assert_eq!(bookmarks(&mut romeo), Vec::<String>::new());
    });
}
