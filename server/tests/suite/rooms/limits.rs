//! What rooms refuse because it is too much.

use super::{configure, enter, make, make_it, message, next_presence, room, say, three};
use crate::support::answers::outcome;
use crate::support::{PATIENCE, on_each_driver_with};

#[test]
fn an_account_makes_and_owns_so_many_rooms() {
    on_each_driver_with(
        |config| {
            config.rooms.per_account = 1;
            config.rooms.created_per_hour = 3;
        },
        |server| {
            let [mut juliet, mut romeo, _] = three(server);
            make(&mut juliet, "hall", "jule", &[]);
            assert_eq!(outcome(enter(&mut juliet, "garden", "jule").last().unwrap()), "resource-constraint");
            for name in ["a", "b", "c"] {
                make(&mut romeo, name, "romeo", &[]);
                romeo.send(&format!("<presence to='{}/romeo' type='unavailable'/>", room(name)));
                next_presence(&mut romeo);
                romeo.ask("get", Some(&room(name)), "<ping xmlns='urn:xmpp:ping'/>");
            }
            assert_eq!(outcome(enter(&mut romeo, "d", "romeo").last().unwrap()), "resource-constraint");
            assert_eq!(server.metric("refused.rooms"), 2);
        },
    );
}

#[test]
fn an_owner_by_the_will_of_others_may_make_rooms_of_its_own() {
    on_each_driver_with(
        |config| config.rooms.per_account = 2,
        |server| {
            let [mut juliet, mut romeo, _] = three(server);
            for name in ["a", "b"] {
                make(&mut romeo, name, "romeo", &[]);
                assert_eq!(make_it(&mut romeo, name, "juliet", "owner"), "result");
            }
            juliet.settle();
            juliet.quiet();
            for name in ["hall", "garden"] {
                make(&mut juliet, name, "jule", &[]);
            }
            assert_eq!(outcome(enter(&mut juliet, "orchard", "jule").last().unwrap()), "resource-constraint");
        },
    );
}

#[test]
fn operators_may_keep_the_making_of_rooms_to_themselves() {
    on_each_driver_with(
        |config| config.rooms.create = whimbrel_server::config::RoomMakers::Operators,
        |server| {
            let [mut juliet, _, _] = three(server);
            assert_eq!(outcome(enter(&mut juliet, "hall", "jule").last().unwrap()), "not-allowed");
        },
    );
}

#[test]
fn members_and_bans_have_limits() {
    on_each_driver_with(
        |config| {
            config.rooms.members_max = 2;
            config.rooms.bans_max = 1;
        },
        |server| {
            let [mut juliet, _, _] = three(server);
            make(&mut juliet, "hall", "jule", &[]);
            assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
            assert_eq!(make_it(&mut juliet, "hall", "nurse", "admin"), "resource-constraint");
            assert_eq!(make_it(&mut juliet, "hall", "nurse", "outcast"), "result");
            assert_eq!(make_it(&mut juliet, "hall", "romeo", "outcast"), "resource-constraint");
            assert_eq!(server.metric("refused.room_members"), 2);
        },
    );
}

#[test]
fn who_speaks_too_fast_is_told_to_wait() {
    on_each_driver_with(
        |config| {
            config.rooms.occupant_messages_per_second = 1;
            config.rooms.room_messages_per_second = 2;
        },
        |server| {
            let [mut juliet, mut romeo, mut nurse] = three(server);
            make(&mut juliet, "hall", "jule", &[]);
            enter(&mut romeo, "hall", "romeo");
            enter(&mut nurse, "hall", "nurse");
            for n in 0..100 {
                say(&mut romeo, "hall", &format!("r{n}"));
            }
            let refused = romeo.set_aside_until(|stanza| stanza.attribute("type") == Some("error"));
            assert_eq!(outcome(&refused), "policy-violation");
            message(&mut juliet, "r9");
            for n in 0..100 {
                say(&mut nurse, "hall", &format!("n{n}"));
            }
            nurse.set_aside_until(|stanza| stanza.attribute("type") == Some("error"));
            for n in 0..100 {
                say(&mut juliet, "hall", &format!("j{n}"));
            }
            let refused = juliet.set_aside_until(|stanza| stanza.attribute("type") == Some("error"));
            assert_eq!(outcome(&refused), "resource-constraint", "the room as a whole");
        },
    );
}

#[test]
fn those_without_voice_do_not_silence_a_room() {
    on_each_driver_with(
        |config| {
            config.rooms.occupant_messages_per_second = 1;
            config.rooms.room_messages_per_second = 1;
        },
        |server| {
            let [mut juliet, mut romeo, mut nurse] = three(server);
            make(&mut juliet, "hall", "jule", &[("moderatedroom", "1")]);
            enter(&mut romeo, "hall", "romeo");
            enter(&mut nurse, "hall", "nurse");
            for n in 0..10 {
                say(&mut romeo, "hall", &format!("r{n}"));
                assert_eq!(outcome(&message(&mut romeo, &format!("r{n}"))), "forbidden");
                let (to, id) = (format!("{}/romeo", room("hall")), format!("n{n}"));
                nurse.send(&format!("<message type='chat' to='{to}' id='{id}'><body>psst</body></message>"));
                message(&mut romeo, &id);
            }
            for n in 0..10 {
                say(&mut juliet, "hall", &format!("j{n}"));
                let heard = message(&mut juliet, &format!("j{n}"));
                assert_eq!(heard.attribute("type"), Some("groupchat"), "{heard:?}");
            }
        },
    );
}

#[test]
fn a_nick_may_not_be_too_long() {
    on_each_driver_with(
        |config| config.rooms.nick_bytes = 5,
        |server| {
            let [mut juliet, mut romeo, _] = three(server);
            make(&mut juliet, "hall", "jule", &[("allowregister", "1")]);
            assert_eq!(outcome(enter(&mut romeo, "hall", "montague").last().unwrap()), "not-acceptable");
            let query = "<query xmlns='jabber:iq:register'><username>montague</username></query>";
            assert_eq!(outcome(&romeo.ask("set", Some(&room("hall")), query)), "not-acceptable");
            assert_eq!(outcome(&configure(&mut juliet, "hall", &[("maxusers", "9999")])), "not-acceptable");
        },
    );
}

#[test]
fn a_seat_that_takes_nothing_more_is_lost_and_its_client_hears_so() {
    on_each_driver_with(
        |config| {
            config.limits.output_backlog_bytes = 64 * 1024;
            config.limits.stanza_bytes = 32 * 1024;
            config.rooms.occupant_messages_per_second = 1000;
            config.rooms.room_messages_per_second = 1000;
        },
        |server| {
            let [mut juliet, mut romeo, mut nurse] = three(server);
            make(&mut juliet, "hall", "jule", &[]);
            enter(&mut romeo, "hall", "romeo");
            enter(&mut nurse, "hall", "nurse");
            let body = "x".repeat(10_000);
            let mut sent = 0;
            // romeo reads nothing; the system's buffers take some of it.
            while server.metric("rooms.seats_lost") == 0 {
                let message = format!(
                    "<message type='groupchat' to='{}' id='m{sent}'><body>{body}</body></message>",
                    room("hall")
                );
                juliet.send(&message);
                super::message(&mut juliet, &format!("m{sent}"));
                super::message(&mut nurse, &format!("m{sent}"));
                juliet.quiet();
                sent += 1;
                assert!(sent < 5_000, "the seat is never lost");
            }
            let mut next = 0;
            loop {
                let stanza = romeo.stanza();
                if stanza.name() == "message" && stanza.find("body", "jabber:client").is_some() {
                    assert_eq!(stanza.attribute("id"), Some(format!("m{next}").as_str()), "no hole");
                    next += 1;
                }
                if super::codes(&stanza).contains(&333) && super::codes(&stanza).contains(&110) {
                    break;
                }
            }
            assert!(next < sent);
            let gone = super::until(&mut nurse, |stanza| stanza.attribute("type") == Some("unavailable"));
            assert_eq!(super::seen(&gone), "romeo unavailable none/none - [333]");
        },
    );
}

/// Else an account could make the server work for a room as for itself, from another worker than the room's.
#[test]
fn whoever_makes_a_room_work_pays_for_it() {
    for workers in [1, 2] {
        let configure = |config: &mut whimbrel_server::config::Config| {
            config.workers = workers;
            config.limits.resources_per_user = 64;
            config.limits.connection_work_burst = 20_000;
            config.limits.connection_work_per_second = 1_000;
        };
        on_each_driver_with(configure, |server| {
            let (owner, visitor) = (server.name_at_home_on(0, "owner"), server.name_at_home_on(0, "visitor"));
            server.accounts(&[&owner, &visitor]);
            // Away from its visitor's worker, where there is another one.
            let home = workers as usize - 1;
            let is_away = |name: &String| server.server.shared.home_of_room(name) == home;
            let hall = (0..).map(|n| format!("hall{n}")).find(is_away).expect("each worker has rooms");
            let mut seats: Vec<_> = (0..30).map(|n| server.login(&owner, &format!("r{n}"))).collect();
            make(&mut seats[0], &hall, "n0", &[]);
            for (n, seat) in seats.iter_mut().enumerate().skip(1) {
                enter(seat, &hall, &format!("n{n}"));
            }
            let mut visitor = server.login(&visitor, "r");
            let before = server.metric("reading.slowed");
            let to = format!("{}/visitor", room(&hall));
            let x = "<x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x>";
            let stay = format!("<presence to='{to}'>{x}</presence><presence to='{to}' type='unavailable'/>");
            visitor.send(&stay.repeat(250));
            let since = std::time::Instant::now();
            while server.metric("reading.slowed") == before {
                assert!(since.elapsed() < PATIENCE, "250 stays among 30 occupants cost nothing");
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
    }
}
