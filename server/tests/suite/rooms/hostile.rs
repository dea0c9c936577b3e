//! Clients that ask rooms for too much: what they get, and that others do not notice.

use super::*;
use crate::pep::work;
use crate::support::{drivers, on_each_driver_with};

/// A server on one worker whose clients may send as much as they like, so that what stops them is what rooms allow.
fn unhurried(configure: impl Fn(&mut whimbrel_server::config::Config)) -> TestServer {
    TestServer::start(drivers()[0], |config| {
        config.workers = 1;
        config.limits.connection_stanzas_burst = 1_000_000;
        config.limits.account_stanzas_burst = 1_000_000;
        configure(config);
    })
}

/// Says something in a room and waits until another one has heard it.
fn is_heard(speaker: &mut Client, listener: &mut Client, name: &str, id: &str) {
    say(speaker, name, id);
    until(listener, |stanza| stanza.attribute("id") == Some(id));
    message(speaker, id);
    speaker.quiet();
}

/// romeo and nurse, who talk in a garden.
fn in_garden(server: &TestServer) -> [Client; 2] {
    server.accounts(&["mallory", "romeo", "nurse"]);
    let [mut romeo, mut nurse] = ["romeo", "nurse"].map(|name| server.login(name, "r"));
    make(&mut romeo, "garden", "romeo", &[]);
    enter(&mut nurse, "garden", "nurse");
    [romeo, nurse]
}

#[test]
fn a_thousand_rooms_of_one_account_end_at_the_limit() {
    let server = unhurried(|config| {
        config.rooms.per_account = 40;
        config.rooms.created_per_hour = 1_000;
        config.limits.directed_presence = 2_000;
    });
    let [mut romeo, mut nurse] = in_garden(&server);
    let mut mallory = server.login("mallory", "x");
    let mut made = 0;
    for part in 0..10 {
        let presence = |n| {
            format!(
                "<presence to='{}/m' id='p{part}-{n}'><x xmlns='{MUC}'/></presence>",
                room(&format!("m{part}-{n}"))
            )
        };
        mallory.send(&(0..100).map(presence).collect::<String>());
        for _ in 0..100 {
            let is_answer =
                |stanza: &Element| stanza.attribute("type") == Some("error") || codes(stanza).contains(&110);
            let answer = until(&mut mallory, |stanza| stanza.name() == "presence" && is_answer(stanza));
            match answer.attribute("type") {
                Some("error") => assert_eq!(outcome(&answer), "resource-constraint"),
                _ => made += 1,
            }
        }
        mallory.quiet();
        is_heard(&mut romeo, &mut nurse, "garden", &format!("g{part}"));
    }
    assert_eq!((made, server.metric("refused.rooms")), (40, 960));
    // None of the others is in memory, nor anywhere.
    assert_eq!(server.metric("rooms.active"), 41);
    mallory.cut();
    server.await_metric("rooms.active", 1);
}

#[test]
fn rooms_that_are_made_and_left_again_end_at_the_hourly_limit() {
    let server = unhurried(|config| config.rooms.created_per_hour = 20);
    server.accounts(&["mallory"]);
    let mut mallory = server.login("mallory", "x");
    let stay = |n| {
        let jid = format!("{}/m", room(&format!("m{n}")));
        format!("<presence to='{jid}'><x xmlns='{MUC}'/></presence><presence to='{jid}' type='unavailable'/>")
    };
    mallory.send(&(0..500).map(stay).collect::<String>());
    server.await_metric("refused.rooms", 480);
    server.await_metric("rooms.destroyed", 20);
    server.await_metric("rooms.active", 0);
    assert_eq!(server.metric("rooms.made"), 20);
}

#[test]
fn forms_of_64_kib_change_nothing() {
    let server = unhurried(|_| {});
    let [mut romeo, mut nurse] = in_garden(&server);
    let long = "t".repeat(64 * 1024);
    let list = "<value>x@localhost</value>".repeat(2_500);
    let owners = format!(
        "<x xmlns='jabber:x:data' type='submit'><field var='muc#roomconfig_roomowners'>{list}</field></x>"
    );
    for _ in 0..50 {
        for field in ["roomname", "roomdesc", "roomsecret", "lang"] {
            assert_eq!(
                outcome(&configure(&mut romeo, "garden", &[(field, &long)])),
                "not-acceptable",
                "{field}"
            );
        }
        let query = format!("<query xmlns='{OWNER}'>{owners}</query>");
        assert_eq!(outcome(&romeo.ask("set", Some(&room("garden")), &query)), "not-acceptable");
    }
    // What nobody knows is passed over, and nothing of it is kept.
    let unknown = format!("<field var='x'><value>{long}</value></field>");
    let form = format!("<x xmlns='jabber:x:data' type='submit'>{unknown}</x>");
    let query = format!("<query xmlns='{OWNER}'>{form}</query>");
    assert_eq!(outcome(&romeo.ask("set", Some(&room("garden")), &query)), "result");
    let stored = server.server.shared.directory.room("garden").unwrap().unwrap();
    assert!(stored.config.text_bytes() < 100, "{:?}", stored.config);
    is_heard(&mut romeo, &mut nurse, "garden", "after");
}

#[test]
fn lists_of_a_thousand_changed_in_a_loop_are_paid_for() {
    let server = unhurried(|config| {
        config.rooms.strangers_per_hour = 10_000;
    });
    let [mut romeo, mut nurse] = in_garden(&server);
    let mut mallory = server.login("mallory", "x");
    make(&mut mallory, "hall", "m", PRIVATE);
    for round in 0..6 {
        let affiliation = ["member", "none"][round % 2];
        for part in 0..4 {
            let item = |n| format!("<item jid='guest{part}-{n}@localhost' affiliation='{affiliation}'/>");
            let items: String = (0..250).map(item).collect();
            let before = work(&server, &mut mallory);
            assert_eq!(outcome(&admin(&mut mallory, "set", "hall", &items)), "result");
            let spent = work(&server, &mut mallory) - before;
            assert!(spent >= 250, "{spent} units for 250 changes");
        }
        is_heard(&mut romeo, &mut nurse, "garden", &format!("g{round}"));
        let query = format!("<query xmlns='{ADMIN}'><item affiliation='member'/></query>");
        let members = mallory.ask("get", Some(&room("hall")), &query);
        let members = members.elements().next().expect("a list").elements().count();
        assert_eq!(members, if round % 2 == 0 { 1_000 } else { 0 });
    }
    let items: String =
        (0..257).map(|n| format!("<item jid='g{n}@localhost' affiliation='member'/>")).collect();
    assert_ne!(outcome(&admin(&mut mallory, "set", "hall", &items)), "result");
    let one = "<item jid='guest@localhost' affiliation='member'/>";
    let twice = format!("{one}<item jid='guest@localhost' affiliation='none'/>");
    assert_eq!(outcome(&admin(&mut mallory, "set", "hall", &twice)), "bad-request");
}

#[test]
fn strangers_who_are_added_to_groups_are_counted_as_invited_ones() {
    let server = unhurried(|config| config.rooms.strangers_per_hour = 3);
    let [_romeo, mut nurse] = in_garden(&server);
    let mut mallory = server.login("mallory", "x");
    make(&mut mallory, "den", "m", PRIVATE);
    for n in 0..3 {
        assert_eq!(make_it(&mut mallory, "den", &format!("guest{n}"), "member"), "result");
    }
    assert_eq!(make_it(&mut mallory, "den", "nurse", "member"), "policy-violation");
    let owner = "<field var='muc#roomconfig_roomowners'><value>nurse@localhost</value></field>";
    let form = format!("<x xmlns='jabber:x:data' type='submit'>{owner}</x>");
    let query = format!("<query xmlns='{OWNER}'>{form}</query>");
    assert_eq!(outcome(&mallory.ask("set", Some(&room("den")), &query)), "policy-violation");
    assert_eq!(server.metric("refused.room_strangers"), 2);
    // Bans bother nobody, nor do lists of open rooms.
    assert_eq!(make_it(&mut mallory, "den", "nurse", "outcast"), "result");
    make(&mut mallory, "hall", "m", &[]);
    assert_eq!(make_it(&mut mallory, "hall", "nurse", "member"), "result");
    nurse.settle();
    assert!(nurse.quiet().iter().all(|stanza| stanza.find("x", USER).is_none()), "nurse was bothered");
}

#[test]
fn a_room_of_slow_readers_costs_its_speakers_nothing() {
    on_each_driver_with(
        |config| {
            config.limits.output_backlog_bytes = 64 * 1024;
            config.limits.stanza_bytes = 32 * 1024;
            config.rooms.occupant_messages_per_second = 1000;
            config.rooms.room_messages_per_second = 1000;
        },
        |server| {
            let [mut juliet, mut romeo, _] = three(server);
            make(&mut juliet, "hall", "jule", &[]);
            enter(&mut romeo, "hall", "romeo");
            let slow: Vec<Client> = (0..6)
                .map(|n| {
                    let mut client = server.login("nurse", &format!("slow{n}"));
                    enter(&mut client, "hall", &format!("slow{n}"));
                    client
                })
                .collect();
            let body = "x".repeat(10_000);
            let mut sent = 0;
            while server.metric("rooms.seats_lost") < 6 {
                let to = room("hall");
                juliet.send(&format!(
                    "<message type='groupchat' to='{to}' id='m{sent}'><body>{body}</body></message>"
                ));
                message(&mut juliet, &format!("m{sent}"));
                message(&mut romeo, &format!("m{sent}"));
                assert!(
                    server.metric("queue.output.length") < 6 * 2 * 64 * 1024,
                    "those who do not read cost memory"
                );
                juliet.quiet();
                romeo.quiet();
                sent += 1;
                assert!(sent < 5_000, "the seats are never lost");
            }
            // The owner and romeo: nobody else is left.
            server.await_metric("rooms.occupants", 2);
            drop(slow);
        },
    );
}

#[test]
fn a_storm_of_nicks_is_one_of_errors() {
    let server = unhurried(|config| config.rooms.occupant_messages_per_second = 1);
    let [_romeo, mut nurse] = in_garden(&server);
    let mut mallory = server.login("mallory", "x");
    enter(&mut mallory, "garden", "m");
    nurse.settle();
    nurse.quiet();
    let to = room("garden");
    mallory.send(&(0..1_000).map(|n| format!("<presence to='{to}/m{n}'/>")).collect::<String>());
    mallory.settle();
    let refused = server.metric("refused.room_messages");
    assert!((980..1_000).contains(&refused), "{refused} of 1,000 were refused");
    mallory.fence(&mut nurse);
    let seen = nurse.quiet().into_iter().filter(|stanza| stanza.name() == "presence").count() as u64;
    // The old nick goes, and the new one comes.
    assert!(seen <= 2 * (1_000 - refused), "{seen} presences for {} new nicks", 1_000 - refused);
}

#[test]
fn a_flood_of_private_messages_is_one_of_errors() {
    let server = unhurried(|config| config.rooms.occupant_messages_per_second = 1);
    let [_romeo, mut nurse] = in_garden(&server);
    let mut mallory = server.login("mallory", "x");
    enter(&mut mallory, "garden", "m");
    nurse.settle();
    nurse.quiet();
    let to = format!("{}/nurse", room("garden"));
    let private = |n| format!("<message type='chat' to='{to}' id='p{n}'><body>x</body></message>");
    mallory.send(&(0..1_000).map(private).collect::<String>());
    mallory.settle();
    let refused = server.metric("refused.room_messages");
    assert!((980..1_000).contains(&refused), "{refused} of 1,000 were refused");
    let is_one = |stanza: &Element| stanza.attribute("id").is_some_and(|id| id.starts_with('p'));
    (refused..1_000).for_each(|_| drop(until(&mut nurse, is_one)));
    mallory.fence(&mut nurse);
    assert!(!nurse.quiet().iter().any(is_one), "more came than were not refused");
}

#[test]
fn a_presence_that_is_too_long_enters_nowhere() {
    let server = unhurried(|_| {});
    let [mut romeo, mut nurse] = in_garden(&server);
    let mut mallory = server.login("mallory", "x");
    let status = "s".repeat(64 * 1024);
    let to = room("garden");
    for _ in 0..50 {
        mallory
            .send(&format!("<presence to='{to}/m'><x xmlns='{MUC}'/><status>{status}</status></presence>"));
        let answer = mallory.set_aside_until(|stanza| stanza.name() == "presence");
        assert_eq!(outcome(&answer), "policy-violation");
    }
    assert_eq!(server.metric("refused.presence_bytes"), 50);
    is_heard(&mut romeo, &mut nurse, "garden", "after");
}
