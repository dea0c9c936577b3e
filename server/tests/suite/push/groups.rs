//! Messages of rooms: told by membership, as each member wants to hear of them.

use crate::rooms::{PRIVATE, enter, make, make_it, room, say};
use crate::support::answers::{befriend, outcome};
use crate::support::pushes::{Keys, record, with_push};
use crate::support::{Client, TestServer, drivers};

const NOTIFY: &str = "urn:xmpp:notification-settings:0";

/// Sets what an account wants to hear of a room.
fn wish(client: &mut Client, name: &str, setting: &str) {
    let notify = format!("<notify xmlns='{NOTIFY}'><{setting}/></notify>");
    let item = format!(
        "<item id='{}'><conference xmlns='urn:xmpp:bookmarks:1' autojoin='true'><nick>Nursey</nick>\
         <extensions>{notify}</extensions></conference></item>",
        room(name)
    );
    let publish = format!(
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:bookmarks:1'>{item}</publish></pubsub>"
    );
    assert_eq!(outcome(&client.ask("set", None, &publish)), "result");
}

/// An account that has enabled push on a client, with which something is done before it goes.
fn asleep(server: &TestServer, name: &str, before: impl Fn(&mut Client)) {
    let mut client = server.online(name, "phone");
    client.enable_push(name);
    before(&mut client);
    client.send("</stream:stream>");
    while !matches!(client.next(), crate::support::Said::StreamClosed) {}
}

/// Juliet, who has made a private group, and Romeo, a member of it who is told by push.
fn group_of_two(server: &TestServer) -> (Client, Client) {
    server.accounts(&["juliet", "romeo"]);
    befriend(server, "juliet", "romeo");
    let mut juliet = server.online("juliet", "balcony");
    make(&mut juliet, "hall", "jule", PRIVATE);
    assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
    let mut romeo = server.online("romeo", "phone");
    romeo.enable_push("romeo");
    (juliet, romeo)
}

#[test]
fn a_member_who_was_never_in_the_room_is_told_of_what_is_said() {
    with_push(
        |_| {},
        |server, told| {
            server.accounts(&["juliet", "romeo", "nurse"]);
            for name in ["romeo", "nurse"] {
                befriend(server, "juliet", name);
                asleep(server, name, |_| {});
            }
            let mut juliet = server.online("juliet", "balcony");
            make(&mut juliet, "hall", "jule", PRIVATE);
            // The nurse is nobody there, and hears nothing.
            say(&mut juliet, "hall", "before");
            assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
            say(&mut juliet, "hall", "one");
            let heard = told.next();
            assert_eq!(heard.sender, Some(room("hall")));
            assert_eq!((heard.count, heard.text.as_deref()), (Some(1), Some("text of one")));
            assert_eq!(make_it(&mut juliet, "hall", "romeo", "none"), "result");
            assert_eq!(make_it(&mut juliet, "hall", "nurse", "member"), "result");
            say(&mut juliet, "hall", "two");
            assert_eq!(told.next().text.as_deref(), Some("text of two"));
            server.await_metric("push.told", 2);
            assert_eq!(told.left(), 0, "juliet has said it, and romeo is no member any more");
        },
    );
}

#[test]
fn homes_of_members_without_a_device_hear_nothing_of_what_is_said() {
    let keys = Keys::new();
    for driver in drivers() {
        let server = TestServer::start(driver, |config| keys.configure(config));
        server.accounts(&["juliet", "romeo", "nurse", "tybalt"]);
        let mut juliet = server.online("juliet", "balcony");
        make(&mut juliet, "hall", "jule", PRIVATE);
        for name in ["romeo", "nurse", "tybalt"] {
            befriend(&server, "juliet", name);
            assert_eq!(make_it(&mut juliet, "hall", name, "member"), "result");
        }
        asleep(&server, "romeo", |_| {});
        say(&mut juliet, "hall", "one");
        server.await_metric("push.members", 1);
        asleep(&server, "nurse", |_| {});
        say(&mut juliet, "hall", "two");
        server.await_metric("push.members", 3);
        // Who has a device is known after a restart, too.
        let server = server.restart(|config| keys.configure(config));
        let told = record(&server);
        let mut juliet = server.online("juliet", "balcony");
        enter(&mut juliet, "hall", "jule");
        say(&mut juliet, "hall", "three");
        server.await_metric("push.members", 2);
        let [one, other] = [told.next(), told.next()];
        assert_eq!([one.sender, other.sender], [Some(room("hall")), Some(room("hall"))]);
    }
}

#[test]
fn a_member_is_told_of_what_it_wants_to_hear() {
    with_push(
        |config| config.push.pause_seconds = 86_400,
        |server, told| {
            server.accounts(&["juliet", "romeo", "nurse", "tybalt"]);
            let mut juliet = server.online("juliet", "balcony");
            make(&mut juliet, "hall", "jule", PRIVATE);
            for name in ["romeo", "nurse", "tybalt"] {
                befriend(server, "juliet", name);
                assert_eq!(make_it(&mut juliet, "hall", name, "member"), "result");
            }
            asleep(server, "nurse", |nurse| wish(nurse, "hall", "on-mention"));
            asleep(server, "tybalt", |tybalt| wish(tybalt, "hall", "never"));
            asleep(server, "romeo", |_| {});
            say(&mut juliet, "hall", "one");
            let heard = told.next();
            assert_eq!((heard.text.as_deref(), heard.count), (Some("text of one"), Some(1)), "romeo alone");
            let to = room("hall");
            juliet.send(&format!(
                "<message type='groupchat' to='{to}' id='two'><body>Where is my Nursey?</body></message>"
            ));
            let heard = told.next();
            assert_eq!(heard.text.as_deref(), Some("Where is my Nursey?"));
            assert_eq!(heard.count, Some(1), "the nurse, of the first that mentions her");
            server.await_metric("push.told", 2);
            // What is changed holds from the next message on.
            let mut tybalt = server.online("tybalt", "phone");
            wish(&mut tybalt, "hall", "always");
            tybalt.cut();
            server.await_metric("sessions", 1);
            say(&mut juliet, "hall", "three");
            assert_eq!(told.next().text.as_deref(), Some("text of three"));
            server.await_metric("push.told", 3);
        },
    );
}

#[test]
fn a_seat_that_does_not_acknowledge_is_told_and_one_that_does_is_not() {
    with_push(
        |_| {},
        |server, told| {
            let (mut juliet, mut romeo) = group_of_two(server);
            enter(&mut romeo, "hall", "ro");
            romeo.quiet();
            romeo.enable_sm();
            let mut handled = 0;
            for state in ["inactive", "active"] {
                romeo.send(&format!("<{state} xmlns='urn:xmpp:csi:0'/><presence/>"));
                ping_and_count(&mut romeo, &mut handled, state);
                say(&mut juliet, "hall", &format!("read {state}"));
                count_until(&mut romeo, &mut handled, &format!("read {state}"));
                romeo.acknowledge(handled);
                ping_and_count(&mut romeo, &mut handled, &format!("{state} again"));
                say(&mut juliet, "hall", &format!("unread {state}"));
                count_until(&mut romeo, &mut handled, &format!("unread {state}"));
                let heard = told.next();
                let text = format!("text of unread {state}");
                assert_eq!((heard.count, heard.text), (Some(1), Some(text)), "and not of the other");
                romeo.acknowledge(handled);
            }
        },
    );
}

/// Says something; the room's id of it.
fn said(client: &mut Client, id: &str) -> String {
    say(client, "hall", id);
    let own = client.set_aside_until(|stanza| stanza.attribute("id") == Some(id));
    let given = own.find("stanza-id", "urn:xmpp:sid:0").and_then(|given| given.attribute("id"));
    given.expect("the room's id").to_owned()
}

/// Takes back what was said, as somebody else hears.
fn take_back(client: &mut Client, heard_by: &mut Client, target: &str) {
    let id = format!("r-{target}");
    client.send(&format!(
        "<message to='{}' type='groupchat' id='{id}'><retract xmlns='urn:xmpp:message-retract:1' id='{target}'/></message>",
        room("hall")
    ));
    heard_by.set_aside_until(|stanza| stanza.attribute("id") == Some(&id));
}

#[test]
fn what_is_taken_back_in_time_is_told_without_its_text() {
    with_push(
        |config| config.push.ack_seconds = 3,
        |server, told| {
            let (mut juliet, mut romeo) = group_of_two(server);
            enter(&mut romeo, "hall", "ro");
            romeo.quiet();
            romeo.enable_sm();
            let [one, _] = ["one", "two"].map(|id| said(&mut juliet, id));
            take_back(&mut juliet, &mut romeo, &one);
            let heard = told.next();
            assert_eq!((heard.count, heard.text.as_deref()), (Some(2), Some("text of two")), "another one");
            let three = said(&mut juliet, "three");
            take_back(&mut juliet, &mut romeo, &three);
            let heard = told.next();
            assert_eq!((heard.count, heard.text), (Some(3), None));
        },
    );
}

/// Waits for a stanza with this id, and counts all that come.
fn count_until(client: &mut Client, handled: &mut u32, id: &str) {
    loop {
        let stanza = client.next_stanza();
        *handled += 1;
        if stanza.attribute("id") == Some(id) {
            return;
        }
    }
}

/// Waits until the server has handled all that a client has sent, and counts what comes.
fn ping_and_count(client: &mut Client, handled: &mut u32, id: &str) {
    client.send(&format!("<iq type='get' id='{id}' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>"));
    count_until(client, handled, id);
}

#[test]
fn a_seat_without_a_connection_is_told_and_one_that_hears_is_not() {
    with_push(
        |config| config.push.pause_seconds = 86_400,
        |server, told| {
            let (mut juliet, mut romeo) = group_of_two(server);
            let name = romeo.enable_sm();
            enter(&mut romeo, "hall", "ro");
            say(&mut juliet, "hall", "heard");
            romeo.set_aside_until(|stanza| stanza.attribute("id") == Some("heard"));
            let jid = romeo.jid.clone();
            // Lost with the message unacknowledged.
            romeo.cut();
            let heard = told.next();
            assert_eq!(heard.count, Some(1), "the one that was not acknowledged");
            say(&mut juliet, "hall", "missed");
            server.await_metric("push.coalesced", 1);
            let (mut romeo, answer) = Client::resume(server.address(), "romeo", &jid, &name, 0);
            assert_eq!(answer.name(), "resumed");
            romeo.set_aside_until(|stanza| stanza.attribute("id") == Some("missed"));
        },
    );
}

/// Takes a room out of the bookmarks of an account.
fn forget(client: &mut Client, name: &str) {
    let retract = format!(
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'><retract node='urn:xmpp:bookmarks:1'>\
         <item id='{}'/></retract></pubsub>",
        room(name)
    );
    assert_eq!(outcome(&client.ask("set", None, &retract)), "result");
}

#[test]
fn members_who_have_not_agreed_are_told_of_nothing() {
    with_push(
        |config| config.push.pause_seconds = 86_400,
        |server, told| {
            server.accounts(&["juliet", "romeo", "nurse"]);
            befriend(server, "juliet", "romeo");
            asleep(server, "romeo", |_| {});
            let block = "<block xmlns='urn:xmpp:blocking'><item jid='juliet@localhost'/></block>";
            asleep(server, "nurse", |nurse| assert_eq!(outcome(&nurse.ask("set", None, block)), "result"));
            let mut juliet = server.online("juliet", "balcony");
            make(&mut juliet, "hall", "jule", PRIVATE);
            make(&mut juliet, "square", "jule", &[]);
            for (name, member) in [("hall", "romeo"), ("hall", "nurse"), ("square", "nurse")] {
                assert_eq!(make_it(&mut juliet, name, member, "member"), "result");
            }
            let to = room("square");
            juliet
                .send(&format!("<message type='groupchat' to='{to}' id='sq'><body>nurse!</body></message>"));
            say(&mut juliet, "hall", "one");
            let heard = told.next();
            assert_eq!((heard.text.as_deref(), heard.sender), (Some("text of one"), Some(room("hall"))));
            // With a bookmark of her own the nurse has agreed.
            let mut nurse = server.online("nurse", "phone");
            wish(&mut nurse, "hall", "always");
            nurse.cut();
            server.await_metric("sessions", 1);
            say(&mut juliet, "hall", "two");
            let heard = told.next();
            assert_eq!(
                (heard.text.as_deref(), heard.count),
                (Some("text of two"), Some(1)),
                "of nothing before"
            );
            server.await_metric("push.told", 2);
        },
    );
}

#[test]
fn a_member_who_removes_the_bookmark_is_told_of_nothing_more() {
    with_push(
        |config| config.push.pause_seconds = 86_400,
        |server, told| {
            server.accounts(&["juliet", "romeo", "nurse"]);
            let mut juliet = server.online("juliet", "balcony");
            make(&mut juliet, "hall", "jule", PRIVATE);
            let keep = "<x xmlns='jabber:x:data' type='submit'><field var='whimbrel#roomconfig_leavingends'>\
                        <value>0</value></field></x>";
            let query = format!("<query xmlns='http://jabber.org/protocol/muc#owner'>{keep}</query>");
            assert_eq!(outcome(&juliet.ask("set", Some(&room("hall")), &query)), "result");
            for name in ["romeo", "nurse"] {
                befriend(server, "juliet", name);
                assert_eq!(make_it(&mut juliet, "hall", name, "member"), "result");
            }
            asleep(server, "nurse", |_| {});
            asleep(server, "romeo", |romeo| forget(romeo, "hall"));
            for (count, id) in [(1, "one"), (2, "two"), (3, "three")] {
                say(&mut juliet, "hall", id);
                server.await_metric("push.members", 2 * count);
                server.await_metric("push.coalesced", count - 1);
            }
            assert_eq!(told.next().text.as_deref(), Some("text of one"));
            assert_eq!((told.left(), server.metric("push.told")), (0, 1), "romeo is a member, and has left");
        },
    );
}
