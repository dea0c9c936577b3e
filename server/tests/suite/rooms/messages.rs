//! What is said in rooms.

use super::archive::{inner, page};
use super::{configure, enter, make, message, next_presence, room, said, say, three};
use crate::support::answers::outcome;
use crate::support::{Client, PATIENCE, on_each_driver, on_each_driver_with};

#[test]
fn a_message_reaches_everybody_with_the_ids_that_only_the_room_gives() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        let to = room("hall");
        let forged = format!(
            "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='forged'/>\
             <stanza-id xmlns='urn:xmpp:sid:0' by='{to}' id='forged'/>\
             <x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x>\
             <delay xmlns='urn:xmpp:delay' from='{to}' stamp='2001-01-01T00:00:00Z'/>"
        );
        romeo.send(&format!(
            "<message type='groupchat' to='{to}' id='m1' xml:lang='it'><body>ciao</body>{forged}\
             <origin-id xmlns='urn:xmpp:sid:0' id='o'/></message>"
        ));
        let (at_juliet, at_romeo) = (message(&mut juliet, "m1"), message(&mut romeo, "m1"));
        for (got, jid) in [(&at_juliet, &juliet.jid), (&at_romeo, &romeo.jid)] {
            assert_eq!(got.attribute("from"), Some("hall@conference.localhost/romeo"));
            assert_eq!((got.attribute("to"), got.lang()), (Some(jid.as_str()), Some("it")));
            let names: Vec<_> = got.elements().map(|child| child.name().to_owned()).collect();
            assert_eq!(names, ["body", "origin-id", "occupant-id", "stanza-id"]);
            let text = format!("{got:?}");
            assert!(!text.contains("forged"), "{text}");
        }
        let id = |message: &whimbrel_server::xml::Element| {
            message.find("stanza-id", "urn:xmpp:sid:0").unwrap().attribute("id").unwrap().to_owned()
        };
        assert_eq!(id(&at_juliet), id(&at_romeo), "one id for everybody");
    });
}

#[test]
fn what_is_said_in_a_room_is_timed_apart_from_what_one_says_to_another() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        let prompt =
            || server.server.shared.metrics.iter().map(|worker| worker.prompt_latency.get()).sum::<u64>();
        // What came with the entrance is counted when the next request is answered.
        for client in [&mut juliet, &mut romeo] {
            client.send("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
            client.set_aside_until(|stanza| stanza.attribute("id") == Some("p"));
        }
        let before = prompt();
        for n in 0..10 {
            let id = format!("m{n}");
            say(&mut romeo, "hall", &id);
            message(&mut juliet, &id);
            message(&mut romeo, &id);
        }
        nurse.send(&format!("<message to='{}' id='one' type='chat'><body>x</body></message>", juliet.jid));
        juliet.set_aside_until(|stanza| stanza.attribute("id") == Some("one"));
        // It is counted behind the hand-over to the kernel.
        let since = std::time::Instant::now();
        while prompt() == before {
            assert!(since.elapsed() < PATIENCE, "a message to one is not timed");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        assert_eq!(prompt(), before + 1);
    });
}

#[test]
fn everybody_hears_everything_in_the_same_order() {
    on_each_driver(|server| {
        let mut clients = three(server);
        let [juliet, romeo, nurse] = &mut clients;
        make(juliet, "hall", "jule", &[]);
        enter(romeo, "hall", "romeo");
        enter(nurse, "hall", "nurse");
        for n in 0..30 {
            for (who, client) in clients.iter_mut().enumerate() {
                say(client, "hall", &format!("{who}.{n}"));
            }
        }
        let mut orders = Vec::new();
        for client in &mut clients {
            let mut order = Vec::new();
            while order.len() < 90 {
                let next = client.set_aside_until(|stanza| stanza.find("body", "jabber:client").is_some());
                order.push(next.attribute("id").unwrap().to_owned());
            }
            orders.push(order);
        }
        assert_eq!(orders[0], orders[1]);
        assert_eq!(orders[0], orders[2]);
        for who in 0..3 {
            let own: Vec<_> = orders[0].iter().filter(|id| id.starts_with(&format!("{who}."))).collect();
            let expected: Vec<_> = (0..30).map(|n| format!("{who}.{n}")).collect();
            assert!(own.into_iter().eq(&expected), "each sender's own order");
        }
    });
}

#[test]
fn an_acknowledged_message_is_in_the_archive() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        juliet.enable_sm();
        juliet.await_handled(0);
        say(&mut juliet, "hall", "m1");
        juliet.await_handled(1);
        assert_eq!(said(&enter(&mut romeo, "hall", "romeo")), ["m1"]);
        juliet.send(&format!(
            "<message to='{}/romeo' type='chat' id='p1'><body>psst</body></message>",
            room("hall")
        ));
        juliet.await_handled(2);
        juliet.send(&format!(
            "<message to='{}' type='groupchat' id='s1'><subject>s</subject></message>",
            room("hall")
        ));
        juliet.await_handled(3);
        juliet.send(&format!(
            "<message to='{}/nobody' type='chat' id='p2'><body>x</body></message>",
            room("hall")
        ));
        juliet.await_handled(4);
        juliet.send(&format!("<presence to='{}/jule' type='unavailable'/>", room("hall")));
        juliet.await_handled(5);
    });
}

#[test]
fn those_outside_and_those_without_voice_do_not_speak() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[("moderatedroom", "1")]);
        enter(&mut romeo, "hall", "romeo");
        assert_eq!(next_presence(&mut juliet), "romeo available none/visitor romeo []");
        say(&mut romeo, "hall", "m1");
        assert_eq!(outcome(&message(&mut romeo, "m1")), "forbidden");
        say(&mut nurse, "hall", "m2");
        assert_eq!(outcome(&message(&mut nurse, "m2")), "not-acceptable");
        say(&mut nurse, "nowhere", "m3");
        assert_eq!(outcome(&message(&mut nurse, "m3")), "item-not-found");
    });
}

#[test]
fn a_private_message_reaches_one_occupant_and_no_archive() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        let to = room("hall");
        let forged = "<x xmlns='http://jabber.org/protocol/muc#user'><invite/></x>";
        romeo.send(&format!(
            "<message type='chat' to='{to}/jule' id='p1'><body>psst</body>{forged}</message>"
        ));
        let got = message(&mut juliet, "p1");
        assert_eq!(got.attribute("from"), Some("hall@conference.localhost/romeo"));
        assert_eq!(got.find("x", super::USER).map(|x| x.elements().count()), Some(0), "of the room");
        assert_eq!(said(&enter(&mut nurse, "hall", "nurse")), Vec::<String>::new());
        let own = juliet.ask("set", None, "<query xmlns='urn:xmpp:mam:2'/>");
        assert_eq!(outcome(&own), "result");
        assert!(juliet.quiet().iter().all(|stanza| stanza.find("result", "urn:xmpp:mam:2").is_none()));
        assert_eq!(outcome(&configure(&mut juliet, "hall", &[("allowpm", "moderators")])), "result");
        for (nick, expected) in [("nobody", "item-not-found"), ("romeo", "forbidden")] {
            nurse
                .send(&format!("<message type='chat' to='{to}/{nick}' id='{nick}'><body>x</body></message>"));
            assert_eq!(outcome(&message(&mut nurse, nick)), expected, "{nick}");
        }
        nurse.send(&format!("<message type='chat' to='{to}/jule' id='p3'><body>x</body></message>"));
        assert_eq!(
            message(&mut juliet, "p3").attribute("type"),
            Some("chat"),
            "moderators can always be asked"
        );
    });
}

#[test]
fn chat_states_reach_those_who_are_there_and_no_history() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        let state = "<composing xmlns='http://jabber.org/protocol/chatstates'/>";
        romeo.send(&format!("<message type='groupchat' to='{}' id='c1'>{state}</message>", room("hall")));
        assert!(message(&mut juliet, "c1").find("stanza-id", "urn:xmpp:sid:0").is_none());
        let hint = "<no-store xmlns='urn:xmpp:hints'/>";
        romeo.send(&format!(
            "<message type='groupchat' to='{}' id='c2'><body>x</body>{hint}</message>",
            room("hall")
        ));
        message(&mut juliet, "c2");
        assert_eq!(said(&enter(&mut nurse, "hall", "nurse")), Vec::<String>::new());
    });
}

#[test]
fn the_subject_is_changed_by_those_who_may() {
    let short = |config: &mut whimbrel_server::config::Config| config.rooms.subject_bytes = 10;
    on_each_driver_with(short, |server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        let to = room("hall");
        let set = |id: &str, text: &str| {
            format!("<message type='groupchat' to='{to}' id='{id}'><subject>{text}</subject></message>")
        };
        romeo.send(&set("s1", "mine"));
        assert_eq!(outcome(&message(&mut romeo, "s1")), "forbidden");
        juliet.send(&set("s2", &"x".repeat(11)));
        assert_eq!(outcome(&message(&mut juliet, "s2")), "not-acceptable");
        juliet.send(&set("s3", "balcony"));
        let told = message(&mut romeo, "s3");
        assert_eq!(told.find("subject", "jabber:client").unwrap().content(), "balcony");
        assert_eq!(outcome(&configure(&mut juliet, "hall", &[("changesubject", "1")])), "result");
        romeo.send(&set("s4", "orchard"));
        message(&mut juliet, "s4");
        let seen = enter(&mut nurse, "hall", "nurse");
        let subject = seen.last().unwrap();
        assert_eq!(subject.find("subject", "jabber:client").unwrap().content(), "orchard");
        assert!(subject.find("delay", "urn:xmpp:delay").is_some());
        let subjects = seen.iter().filter(|stanza| stanza.find("subject", "jabber:client").is_some());
        assert_eq!(subjects.count(), 1, "history has no older ones");
        let (results, _) = page(&mut nurse, "");
        let of = |result| inner(result).find("subject", "jabber:client").unwrap().content().into_owned();
        assert_eq!(results.iter().map(of).collect::<Vec<_>>(), ["balcony", "orchard"]);
    });
}

#[test]
fn a_resumed_session_has_its_seat_and_all_that_was_said() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        let id = romeo.enable_sm();
        let seen = enter(&mut romeo, "hall", "romeo").len();
        next_presence(&mut juliet);
        let jid = romeo.jid.clone();
        romeo.cut();
        server.await_metric("sm.detached", 1);
        for id in ["m1", "m2", "m3"] {
            say(&mut juliet, "hall", id);
            message(&mut juliet, id);
        }
        assert!(super::presences(&juliet.quiet()).is_empty(), "the seat outlives the connection");
        let seen = u32::try_from(seen).unwrap();
        let (mut romeo, answer) = crate::support::Client::resume(server.address(), "romeo", &jid, &id, seen);
        assert_eq!(answer.name(), "resumed");
        for id in ["m1", "m2", "m3"] {
            assert_eq!(romeo.next_message(), id);
        }
        say(&mut juliet, "hall", "m4");
        assert_eq!(romeo.next_message(), "m4");
    });
}

/// An error about a private message to jule, with more in it than an error needs.
fn error_to_jule(id: &str) -> String {
    format!(
        "<message type='error' to='{}/jule' id='{id}'><body>free speech</body><error type='cancel'>\
         <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>free speech</text></error></message>",
        room("hall")
    )
}

/// Says something after errors that were sent to jule; the ids of the errors that came before it.
fn errors_before(speaker: &mut Client, jule: &mut Client, id: &str) -> Vec<String> {
    say(speaker, "hall", id);
    message(jule, id);
    let errors = jule.take_aside(|stanza| stanza.attribute("type") == Some("error"));
    errors.iter().map(|error| error.attribute("id").unwrap().to_owned()).collect()
}

#[test]
fn an_error_answers_a_private_message_and_says_nothing_else() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        let to = format!("{}/romeo", room("hall"));
        juliet.send(&format!("<message type='chat' to='{to}' id='p1'><body>psst</body></message>"));
        message(&mut romeo, "p1");
        romeo.send(&error_to_jule("p1"));
        let error = message(&mut juliet, "p1");
        assert_eq!((error.attribute("from"), outcome(&error).as_str()), (Some(&*to), "service-unavailable"));
        assert!(error.find("occupant-id", "urn:xmpp:occupant-id:0").is_some());
        let text = String::from_utf8(error.to_bytes()).unwrap();
        assert!(!text.contains("free speech"), "{text}");
        // Where nobody may send private messages, none is answered.
        for (allowed, heard) in [("none", 0), ("participants", 1), ("anyone", 1)] {
            assert_eq!(outcome(&configure(&mut juliet, "hall", &[("allowpm", allowed)])), "result");
            romeo.send(&error_to_jule("p2"));
            let id = format!("m-{allowed}");
            assert_eq!(errors_before(&mut romeo, &mut juliet, &id).len(), heard, "{allowed}");
        }
    });
}

#[test]
fn a_flood_of_errors_is_dropped_and_costs_nobody_its_voice() {
    on_each_driver_with(
        |config| config.rooms.occupant_messages_per_second = 1,
        |server| {
            let [mut juliet, mut romeo, _] = three(server);
            make(&mut juliet, "hall", "jule", &[]);
            enter(&mut romeo, "hall", "romeo");
            romeo.send(&(0..100).map(|n| error_to_jule(&format!("e{n}"))).collect::<String>());
            let heard = errors_before(&mut romeo, &mut juliet, "m1");
            assert!((5..10).contains(&heard.len()), "{heard:?}");
        },
    );
}
