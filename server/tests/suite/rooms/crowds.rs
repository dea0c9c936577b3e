//! Presence where it is much: of many who enter, and for those who do not read it.

use super::{ask_to_enter, enter, make, make_it, message, next_presence, presences, room, say, three, until};
use crate::support::{Client, TestServer, on_each_driver_with};

/// Waits until a client has entered; the presences that it has seen so far.
fn entered(client: &mut Client) -> Vec<String> {
    client.set_aside_until(|stanza| stanza.find("subject", "jabber:client").is_some());
    presences(&client.quiet())
}

#[test]
fn a_storm_of_joins_costs_each_joiner_a_bounded_number_of_presences() {
    const MOST: u64 = 4;
    const JOINERS: u64 = 24;
    on_each_driver_with(
        |config| config.rooms.presence_max = MOST as u32,
        |server| {
            let names: Vec<String> = (0..JOINERS).map(|n| format!("user{n}")).collect();
            server.accounts(&names.iter().map(String::as_str).collect::<Vec<_>>());
            server.accounts(&["juliet"]);
            let mut juliet = server.online("juliet", "r");
            make(&mut juliet, "hall", "jule", &[]);
            let mut joiners: Vec<Client> = names.iter().map(|name| server.online(name, "r")).collect();
            let before = server.metric("presences.out");
            for (joiner, name) in joiners.iter_mut().zip(&names) {
                ask_to_enter(joiner, "hall", name, "");
            }
            for joiner in &mut joiners {
                let seen = entered(joiner);
                assert!(seen.iter().any(|presence| presence.contains("110")), "{seen:?}");
            }
            say(&mut joiners[0], "hall", "m1");
            joiners.iter_mut().for_each(|joiner| drop(message(joiner, "m1")));
            message(&mut juliet, "m1");
            let sent = server.metric("presences.out") - before;
            // Each sees itself and as many others, and as many see it.
            assert!(sent <= JOINERS * (2 * MOST + 1), "{sent}");
            assert_eq!(server.metric("rooms.joins"), JOINERS + 1);
        },
    );
}

#[test]
fn where_moderators_are_a_crowd_themselves_nobody_is_shown() {
    on_each_driver_with(
        |config| config.rooms.presence_max = 2,
        |server| {
            let [mut juliet, mut romeo, mut nurse] = three(server);
            server.accounts(&["paris"]);
            let mut paris = server.online("paris", "r");
            make(&mut juliet, "hall", "jule", &[]);
            for name in ["romeo", "nurse"] {
                assert_eq!(make_it(&mut juliet, "hall", name, "admin"), "result");
            }
            enter(&mut romeo, "hall", "romeo");
            let came = until(&mut juliet, |stanza| stanza.name() == "presence");
            assert_eq!(super::seen(&came), "romeo available admin/moderator romeo []");
            let seen = enter(&mut nurse, "hall", "nurse");
            assert_eq!(presences(&seen), ["nurse available admin/moderator nurse [110 170]"]);
            let seen = enter(&mut paris, "hall", "paris");
            assert_eq!(presences(&seen), ["paris available none/participant paris [110 170]"]);
            paris.send(&format!("<presence to='{}/paris' type='unavailable'/>", room("hall")));
            until(&mut paris, |stanza| stanza.attribute("type") == Some("unavailable"));
            say(&mut nurse, "hall", "m1");
            for client in [&mut juliet, &mut romeo] {
                message(client, "m1");
                assert_eq!(presences(&client.quiet()), Vec::<String>::new());
            }
            // Who was shown is seen to leave, however many there are by now.
            romeo.cut();
            let gone = juliet.set_aside_until(|stanza| stanza.name() == "presence");
            assert_eq!(super::seen(&gone), "romeo unavailable admin/none romeo []");
        },
    );
}

/// juliet has this status now, and the nurse sees it as she does.
fn show(juliet: &mut Client, nurse: &mut Client, status: &str) {
    juliet.send(&format!("<presence to='{}/jule'><status>{status}</status></presence>", room("hall")));
    for client in [juliet, nurse] {
        client.set_aside_until(|stanza| status_of(stanza).as_deref() == Some(status));
        client.quiet();
    }
}

fn status_of(stanza: &whimbrel_server::xml::Element) -> Option<String> {
    let is_jules = stanza.attribute("from").is_some_and(|from| from.ends_with("/jule"));
    let status = stanza.find("status", "jabber:client").filter(|_| is_jules)?;
    Some(status.content().into_owned())
}

/// juliet shows so much that romeo, who reads nothing, does not get all of it; the last thing that she shows.
fn flood(server: &TestServer, juliet: &mut Client, nurse: &mut Client) -> String {
    let filler = "x".repeat(8_000);
    for number in 0..10_000 {
        let status = format!("{number} {filler}");
        show(juliet, nurse, &status);
        if server.metric("output.dropped") > 0 {
            return status;
        }
    }
    panic!("romeo is given everything");
}

#[test]
fn a_slow_reader_keeps_its_seat_whatever_presence_comes() {
    on_each_driver_with(
        |config| {
            config.limits.output_backlog_bytes = 64 * 1024;
            config.limits.stanza_bytes = 32 * 1024;
            config.limits.inactive_bytes = 4 * 1024;
            config.rooms.occupant_messages_per_second = 10_000;
        },
        |server| {
            let [mut juliet, mut romeo, mut nurse] = three(server);
            make(&mut juliet, "hall", "jule", &[]);
            enter(&mut nurse, "hall", "nurse");
            enter(&mut romeo, "hall", "romeo");
            let last = flood(server, &mut juliet, &mut nurse);
            nurse.send(&format!("<presence to='{}/nurse' type='unavailable'/>", room("hall")));
            until(&mut nurse, |stanza| stanza.attribute("type") == Some("unavailable"));
            // It reads again: who has gone meanwhile, and what is newest of those who are there.
            let (mut is_nurse_gone, mut is_jule_shown) = (false, false);
            while !is_nurse_gone || !is_jule_shown {
                let stanza = romeo.stanza();
                let from = stanza.attribute("from").unwrap_or_default();
                is_nurse_gone |= from.ends_with("/nurse") && stanza.attribute("type") == Some("unavailable");
                is_jule_shown |= status_of(&stanza).as_deref() == Some(last.as_str());
                assert!(!super::codes(&stanza).contains(&333), "its seat is lost");
            }
            assert_eq!(server.metric("rooms.seats_lost"), 0);
            say(&mut romeo, "hall", "m1");
            message(&mut juliet, "m1");
        },
    );
}

#[test]
fn a_room_for_which_much_waits_gives_way_and_keeps_its_order() {
    let fast = |config: &mut whimbrel_server::config::Config| {
        config.rooms.occupant_messages_per_second = 10_000;
        config.rooms.room_messages_per_second = 10_000;
    };
    on_each_driver_with(fast, |server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        next_presence(&mut juliet);
        let (to, mut said) = (room("hall"), 0);
        // While a subject is written everything behind it waits, if it comes soon enough.
        while server.metric("rooms.gave_way") == 0 {
            let mut all = format!("<message type='groupchat' to='{to}'><subject>s</subject></message>");
            let until_id = said + 40;
            while said < until_id {
                all += &format!("<message type='groupchat' to='{to}' id='m{said}'><body>b</body></message>");
                said += 1;
            }
            juliet.send(&all);
            for id in until_id - 40..until_id {
                let heard = until(&mut romeo, |stanza| stanza.find("body", "jabber:client").is_some());
                assert_eq!(heard.attribute("id"), Some(format!("m{id}").as_str()));
                until(&mut juliet, |stanza| stanza.find("body", "jabber:client").is_some());
            }
            assert!(said < 40_000, "the room serves all at once");
        }
    });
}
