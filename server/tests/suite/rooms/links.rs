//! Links that make members.

use std::sync::mpsc::sync_channel;

use whimbrel_server::proto::errors::StanzaCondition;
use whimbrel_server::rooms::operator::{Order, Outcome};
use whimbrel_server::worker::command::Command;
use whimbrel_storage::directory::rooms::{LinkHash, RoomLink};

use super::bookmarks::await_bookmarks;
use super::{PRIVATE, configure, enter, enter_with, make, make_it, presences, room, seen, three, until};
use crate::support::answers::outcome;
use crate::support::{Client, TestServer, on_each_driver, on_each_driver_with};

/// Has the home of the hall carry out an order of the operator.
fn order(server: &TestServer, order: impl Fn() -> Order) -> Outcome {
    loop {
        let (reply, replies) = sync_channel(1);
        let home = server.server.shared.home_of_room("hall");
        let command = Command::Room { name: "hall".into(), order: Box::new(order()), reply };
        assert!(server.server.commands[home].give(command));
        match replies.recv().expect("an answer") {
            Outcome::Busy => std::thread::yield_now(),
            outcome => return outcome,
        }
    }
}

/// The hall gets a link with this token for so many, until this time. `false`: it has as many as may be.
pub(crate) fn link(server: &TestServer, token: &str, uses_max: u64, expires_ms: u64) -> bool {
    let hash = LinkHash::of(token);
    let link = RoomLink { hash, created_ms: 3, expires_ms, uses_max, uses: 0, note: String::new() };
    match order(server, || Order::AddLink(link.clone())) {
        Outcome::Done => true,
        Outcome::Refused(error) if error.condition == StanzaCondition::ResourceConstraint => false,
        _ => panic!("no link is made"),
    }
}

/// Enters the hall with this token or password; what comes of it.
pub(crate) fn enter_by(client: &mut Client, nick: &str, password: &str) -> String {
    let seen = enter_with(client, "hall", nick, &format!("<password>{password}</password>"));
    let last = seen.last().expect("an answer");
    match last.name() {
        "presence" => outcome(last),
        _ => presences(&seen).pop().expect("its own presence"),
    }
}

#[test]
fn a_link_makes_a_member_of_whoever_enters_by_it() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        assert_eq!(enter_by(&mut romeo, "romeo", "token"), "registration-required");
        assert!(link(server, "token", 1, 0));
        assert_eq!(
            enter_by(&mut romeo, "romeo", "token"),
            "romeo available member/participant romeo [100 110 170]"
        );
        assert_eq!(await_bookmarks(&mut romeo, 1), ["hall@conference.localhost - true"]);
        let came = until(&mut juliet, |stanza| stanza.name() == "presence");
        assert_eq!(seen(&came), "romeo available member/participant romeo []");
        assert_eq!(server.metric("rooms.links_used"), 1);
        assert_eq!(enter_by(&mut nurse, "nurse", "token"), "registration-required", "it is used up");
        // It is a member for good, and needs no token any more.
        romeo.send(&format!("<presence to='{}/romeo' type='unavailable'/>", room("hall")));
        until(&mut romeo, |stanza| stanza.attribute("type") == Some("unavailable"));
        let again = enter(&mut romeo, "hall", "romeo");
        assert!(presences(&again).pop().is_some_and(|own| own.contains("110")), "{again:?}");
        let record = server.server.shared.directory.room("hall").unwrap().unwrap();
        assert_eq!(record.counts.members, 1);
    });
}

#[test]
fn a_link_has_an_end_and_does_not_open_for_who_is_banned() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        assert!(link(server, "old", 0, 2));
        assert_eq!(enter_by(&mut romeo, "romeo", "old"), "registration-required");
        assert!(link(server, "token", 0, u64::MAX));
        assert_eq!(make_it(&mut juliet, "hall", "nurse", "outcast"), "result");
        assert_eq!(enter_by(&mut nurse, "nurse", "token"), "forbidden");
        let hall = server.server.shared.directory.room("hall").unwrap().unwrap();
        let links = server.server.shared.directory.rooms(|rooms| rooms.links(hall.actor)).unwrap();
        assert_eq!(links.len(), 1, "the one that has expired is forgotten when another is made");
        assert_eq!(
            enter_by(&mut romeo, "romeo", "token"),
            "romeo available member/participant romeo [100 110 170]"
        );
        assert!(matches!(order(server, || Order::RevokeLinks(Some("none".into()))), Outcome::Revoked(0)));
        assert!(matches!(
            order(server, || Order::RevokeLinks(Some(links[0].hash.id()))),
            Outcome::Revoked(1)
        ));
        assert_eq!(make_it(&mut juliet, "hall", "nurse", "none"), "result");
        assert_eq!(enter_by(&mut nurse, "nurse", "token"), "registration-required");
    });
}

#[test]
fn a_token_stands_in_for_the_password_while_its_link_is_good() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        let secret = [("passwordprotectedroom", "1"), ("roomsecret", "sesame")];
        assert_eq!(outcome(&configure(&mut juliet, "hall", &secret)), "result");
        assert!(link(server, "token", 2, 0));
        let inside = "romeo available member/participant romeo [100 110 170]";
        for (password, expected) in
            [("sesame", "registration-required"), ("token", inside), ("token", inside), ("sesame", inside)]
        {
            assert_eq!(enter_by(&mut romeo, "romeo", password), expected, "{password}");
            if expected == inside {
                romeo.send(&format!("<presence to='{}/romeo' type='unavailable'/>", room("hall")));
                until(&mut romeo, |stanza| stanza.attribute("type") == Some("unavailable"));
            }
        }
        assert_eq!(server.metric("rooms.links_used"), 1, "a member uses none of it up");
        assert_eq!(enter_by(&mut romeo, "romeo", "wrong"), "not-authorized");
    });
}

#[test]
fn in_an_open_room_a_link_makes_members_and_a_wrong_one_does_not_matter() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        assert!(link(server, "token", 0, 0));
        assert_eq!(
            enter_by(&mut romeo, "romeo", "token"),
            "romeo available member/participant romeo [110 170]"
        );
        assert_eq!(enter_by(&mut nurse, "nurse", "else"), "nurse available none/participant nurse [110 170]");
    });
}

#[test]
fn wrong_tokens_and_passwords_are_counted() {
    on_each_driver_with(
        |config| config.rooms.wrong_passwords_per_hour = 3,
        |server| {
            let [mut juliet, mut romeo, mut nurse] = three(server);
            make(&mut juliet, "hall", "jule", PRIVATE);
            assert!(link(server, "token", 0, 0));
            for _ in 0..3 {
                assert_eq!(enter_by(&mut romeo, "romeo", "guess"), "registration-required");
            }
            assert_eq!(enter_by(&mut romeo, "romeo", "token"), "policy-violation", "the right one neither");
            assert_eq!(server.metric("refused.room_passwords"), 1);
            assert_eq!(outcome(enter(&mut romeo, "hall", "romeo").last().unwrap()), "registration-required");
            let inside = "nurse available member/participant nurse [100 110 170]";
            assert_eq!(enter_by(&mut nurse, "nurse", "token"), inside, "others are let in");
        },
    );
}

#[test]
fn a_link_does_not_make_more_members_than_a_room_may_have() {
    on_each_driver_with(
        |config| config.rooms.members_max = 1,
        |server| {
            let [mut juliet, mut romeo, _] = three(server);
            make(&mut juliet, "hall", "jule", PRIVATE);
            assert!(link(server, "token", 1, 0));
            assert_eq!(enter_by(&mut romeo, "romeo", "token"), "resource-constraint");
            let hall = server.server.shared.directory.room("hall").unwrap().unwrap();
            let links = server.server.shared.directory.rooms(|rooms| rooms.links(hall.actor)).unwrap();
            assert_eq!(links[0].uses, 0);
        },
    );
}

#[test]
fn a_room_has_so_many_links() {
    on_each_driver_with(
        |config| config.rooms.links_max = 2,
        |server| {
            let [mut juliet, ..] = three(server);
            make(&mut juliet, "hall", "jule", PRIVATE);
            assert!(link(server, "one", 1, 0) && link(server, "two", 1, 0) && !link(server, "three", 1, 0));
            assert_eq!(server.metric("refused.room_links"), 1);
            assert!(matches!(order(server, || Order::RevokeLinks(None)), Outcome::Revoked(2)));
            assert!(link(server, "three", 1, 0));
        },
    );
}

#[test]
fn a_link_outlives_a_restart() {
    for driver in crate::support::drivers() {
        let server = TestServer::start(driver, |_| {});
        let [mut juliet, romeo, nurse] = three(&server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        assert!(link(&server, "token", 1, 0));
        drop((juliet, romeo, nurse));
        let server = server.restart(|_| {});
        let mut romeo = server.online("romeo", "r");
        assert!(enter_by(&mut romeo, "romeo", "token").starts_with("romeo available member/"));
    }
}
