//! Messages of rooms that are taken back, by their authors (XEP-0424) and by moderators (XEP-0425).

use whimbrel_server::xml::Element;

use super::archive::{given_id, inner, page};
use super::{PRIVATE, enter, make, make_it, message, room, say, three, until};
use crate::support::answers::{outcome, payload};
use crate::support::program::{Program, Start};
use crate::support::{Client, drivers, on_each_driver, on_each_driver_with};

const RETRACT: &str = "urn:xmpp:message-retract:1";
const MODERATE: &str = "urn:xmpp:message-moderate:1";
const OCCUPANT: &str = "urn:xmpp:occupant-id:0";

/// As clients take back what they have said: with the id `r-TARGET`.
fn retract(client: &mut Client, target: &str) {
    client.send(&format!(
        "<message to='{}' type='groupchat' id='r-{target}'><retract xmlns='{RETRACT}' id='{target}'/>\
         <fallback xmlns='urn:xmpp:fallback:0' for='{RETRACT}'/><body>took back</body>\
         <store xmlns='urn:xmpp:hints'/></message>",
        room("hall")
    ));
}

fn moderate(client: &mut Client, target: &str, reason: &str) -> String {
    let inside = format!("<retract xmlns='{RETRACT}'/><reason>{reason}</reason>");
    let query = format!("<moderate xmlns='{MODERATE}' id='{target}'>{inside}</moderate>");
    outcome(&client.ask("set", Some(&room("hall")), &query))
}

/// Says something that somebody else hears; the room's id of it.
fn said(client: &mut Client, heard_by: &mut Client, id: &str) -> String {
    say(client, "hall", id);
    message(client, id);
    given_id(&message(heard_by, id))
}

/// The next retraction that comes from the room itself.
fn moderation(client: &mut Client) -> Element {
    until(client, |stanza| {
        stanza.name() == "message" && stanza.attribute("from") == Some("hall@conference.localhost")
    })
}

/// The id under which the archive gives a message.
fn id_of(result: &Element) -> &str {
    result.find("result", "urn:xmpp:mam:2").and_then(|result| result.attribute("id")).expect("an id")
}

fn occupant(message: &Element) -> Option<&str> {
    message.find("occupant-id", OCCUPANT)?.attribute("id")
}

/// The bodies of a page, and what was retracted of it.
fn bodies(results: &[Element]) -> Vec<String> {
    let body = |result: &Element| match inner(result).find("retracted", RETRACT) {
        Some(_) => "retracted".to_owned(),
        None => inner(result)
            .find("body", "jabber:client")
            .map(|body| body.content().into_owned())
            .unwrap_or_default(),
    };
    results.iter().map(body).collect()
}

#[test]
fn authors_take_back_what_they_have_said_and_nobody_else_does() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        enter(&mut nurse, "hall", "nurse");
        let ids = ["a", "b", "c"].map(|id| said(&mut romeo, &mut juliet, id));

        retract(&mut nurse, &ids[1]);
        let refused = message(&mut nurse, &format!("r-{}", ids[1]));
        assert_eq!(outcome(&refused), "forbidden", "it is not hers");
        // Under another nick the author is the same.
        romeo.send(&format!("<presence to='{}/montague'/>", room("hall")));
        retract(&mut romeo, &ids[1]);
        let heard = until(&mut juliet, |stanza| stanza.find("retract", RETRACT).is_some());
        assert_eq!(
            heard.attribute("from"),
            Some("hall@conference.localhost/montague"),
            "nobody has heard hers"
        );
        assert_eq!(heard.find("retract", RETRACT).unwrap().attribute("id"), Some(&*ids[1]));
        assert!(occupant(&heard).is_some());
        given_id(&heard);

        let (all, _) = page(&mut juliet, "");
        assert_eq!(bodies(&all), ["text of a", "retracted", "text of c", "took back"]);
        let told: Vec<_> = all.iter().map(id_of).collect();
        assert_eq!(told[..3], ids, "each has kept its place and its id");
        let tombstone = inner(&all[1]);
        let attributes = ["from", "type", "id"].map(|name| tombstone.attribute(name));
        assert_eq!(attributes, [Some("hall@conference.localhost/romeo"), Some("groupchat"), Some("b")]);
        assert_eq!(occupant(tombstone), occupant(&heard));
        let retracted = tombstone.find("retracted", RETRACT).unwrap();
        assert_eq!(retracted.attribute("id"), heard.attribute("id"));
        assert!(retracted.attribute("stamp").is_some_and(|stamp| stamp.ends_with('Z')));
        assert!(tombstone.find("body", "jabber:client").is_none());

        // Those who come later hear what stands for it.
        let mut late = server.online("nurse", "late");
        let history = enter(&mut late, "hall", "nurse");
        let messages: Vec<_> = history.iter().filter(|stanza| stanza.name() == "message").collect();
        let of_b = messages.iter().find(|message| message.attribute("id") == Some("b")).expect("its place");
        assert!(of_b.find("retracted", RETRACT).is_some() && of_b.find("body", "jabber:client").is_none());
        assert_eq!(given_id(of_b), ids[1]);
        server.await_metric("archive.retracted", 1);
    });
}

#[test]
fn moderators_take_back_what_anybody_has_said_and_say_why() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        let seen = enter(&mut romeo, "hall", "romeo");
        let of_romeo = seen.iter().find(|stanza| super::codes(stanza).contains(&110)).and_then(occupant);
        let of_romeo = of_romeo.expect("his id").to_owned();
        enter(&mut nurse, "hall", "nurse");
        let id = said(&mut romeo, &mut juliet, "a");
        assert_eq!(moderate(&mut nurse, &id, "no"), "forbidden");
        assert_eq!(moderate(&mut juliet, "aaaaaaaaaaaaa", ""), "item-not-found");
        assert_eq!(moderate(&mut juliet, "nothing", ""), "item-not-found");
        assert_eq!(moderate(&mut juliet, &id, "spam &amp; such"), "result");

        let heard = moderation(&mut nurse);
        assert_eq!(heard.attribute("type"), Some("groupchat"));
        let retract = heard.find("retract", RETRACT).expect("a retraction");
        assert_eq!(retract.attribute("id"), Some(&*id));
        assert_eq!(retract.find("reason", RETRACT).unwrap().content(), "spam & such");
        let moderated = retract.find("moderated", MODERATE).expect("by a moderator");
        assert_eq!(moderated.attribute("by"), Some("hall@conference.localhost/jule"));
        let moderator = occupant(moderated).expect("the moderator's id").to_owned();
        let of_it = given_id(&heard);

        let (all, _) = page(&mut nurse, "");
        assert_eq!(bodies(&all), ["retracted", ""]);
        assert_eq!(id_of(&all[1]), of_it);
        let tombstone = inner(&all[0]);
        assert_eq!((occupant(tombstone), tombstone.attribute("id")), (Some(&*of_romeo), Some("a")));
        let retracted = tombstone.find("retracted", RETRACT).unwrap();
        let by = retracted.find("moderated", MODERATE).unwrap();
        assert_eq!((by.attribute("by"), occupant(by)), (moderated.attribute("by"), Some(&*moderator)));
        assert_eq!(retracted.find("reason", RETRACT).unwrap().content(), "spam & such");

        // Once is enough; what the room has said stays.
        assert_eq!(moderate(&mut juliet, &id, ""), "result");
        assert_eq!(moderate(&mut juliet, &of_it, ""), "not-allowed");
        // An owner may do so from outside.
        let id = said(&mut romeo, &mut nurse, "b");
        juliet.send(&format!("<presence to='{}/jule' type='unavailable'/>", room("hall")));
        assert_eq!(moderate(&mut juliet, &id, ""), "result");
        let heard = moderation(&mut nurse);
        let moderated =
            heard.find("retract", RETRACT).and_then(|retract| retract.find("moderated", MODERATE));
        let moderated = moderated.expect("by a moderator");
        assert_eq!(
            (moderated.attribute("by"), occupant(moderated)),
            (Some("hall@conference.localhost"), Some(&*moderator)),
            "nothing came for what was taken back before"
        );
        assert_eq!(bodies(&page(&mut nurse, "").0), ["retracted", "", "retracted", ""]);
        assert_eq!(server.metric("rooms.moderated"), 2);
    });
}

#[test]
fn a_retraction_itself_is_no_ones_to_take_back_but_a_moderators() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        let id = said(&mut romeo, &mut juliet, "a");
        retract(&mut romeo, &id);
        let of_it = given_id(&message(&mut juliet, &format!("r-{id}")));
        retract(&mut romeo, &of_it);
        message(&mut juliet, &format!("r-{of_it}"));
        assert_eq!(bodies(&page(&mut juliet, "").0), ["retracted", "took back", "took back"]);
        assert_eq!(moderate(&mut juliet, &of_it, ""), "result");
        let (all, _) = page(&mut juliet, "");
        assert_eq!(bodies(&all), ["retracted", "retracted", "took back", ""]);
        let kept =
            inner(&all[1]).find("retract", RETRACT).expect("those who were away learn of it all the same");
        assert_eq!(kept.attribute("id"), Some(&*id));
    });
}

/// Only the room says that a moderator has done it.
#[test]
fn nobody_speaks_for_a_moderator() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        let id = said(&mut juliet, &mut romeo, "a");
        romeo.send(&format!(
            "<message to='{}' type='groupchat' id='forged'><retract xmlns='{RETRACT}' id='{id}'>\
             <moderated xmlns='{MODERATE}' by='hall@conference.localhost/jule'/></retract><body>b</body></message>",
            room("hall")
        ));
        let heard = message(&mut juliet, "forged");
        let names: Vec<_> = heard.elements().map(Element::name).collect();
        assert_eq!(names, ["body", "occupant-id", "stanza-id"]);
        assert_eq!(bodies(&page(&mut juliet, "").0), ["text of a", "b"]);
    });
}

#[test]
fn a_room_without_an_archive_passes_retractions_on() {
    on_each_driver_with(
        |config| config.archive.enabled = false,
        |server| {
            let [mut juliet, mut romeo, _] = three(server);
            make(&mut juliet, "hall", "jule", &[]);
            enter(&mut romeo, "hall", "romeo");
            retract(&mut romeo, "a");
            let heard = message(&mut juliet, "r-a");
            assert!(heard.find("retract", RETRACT).is_some());
            assert_eq!(moderate(&mut juliet, "aaaaaaaaaaaaa", ""), "item-not-found");
            let query = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
            let info = juliet.ask("get", Some(&room("hall")), query);
            let features: Vec<_> =
                payload(&info).elements().filter_map(|child| child.attribute("var")).collect();
            assert!(!features.iter().any(|feature| [RETRACT, MODERATE].contains(feature)));
        },
    );
}

#[test]
fn rooms_announce_what_can_be_taken_back() {
    on_each_driver(|server| {
        let [mut juliet, ..] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        let query = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
        let info = juliet.ask("get", Some(&room("hall")), query);
        let features: Vec<_> = payload(&info).elements().filter_map(|child| child.attribute("var")).collect();
        for feature in [RETRACT, MODERATE, "urn:xmpp:message-retract:1#tombstone"] {
            assert!(features.contains(&feature), "{feature}");
        }
    });
}

#[test]
fn a_seat_that_was_away_does_not_get_what_was_taken_back_meanwhile() {
    on_each_driver(|server| {
        let [mut juliet, romeo, _] = three(server);
        let mut away = server.login("romeo", "away");
        drop(romeo);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut away, "hall", "romeo");
        let (stream, jid) = (away.enable_sm(), away.jid.clone());
        away.settle();
        away.cut();
        server.await_metric("sm.detached", 1);
        let ids = ["keep", "take", "gone"].map(|id| {
            say(&mut juliet, "hall", id);
            given_id(&message(&mut juliet, id))
        });
        retract(&mut juliet, &ids[1]);
        assert_eq!(moderate(&mut juliet, &ids[2], ""), "result");
        server.await_metric("archive.retracted_copies", 2);
        let (mut away, answer) = Client::resume(server.address(), "romeo", &jid, &stream, 1);
        assert_eq!(answer.name(), "resumed", "{answer:?}");
        let mut heard = Vec::new();
        while heard.len() < 3 {
            let stanza = away.next_stanza();
            if stanza.name() == "message" && stanza.find("subject", "jabber:client").is_none() {
                heard.push(stanza);
            }
        }
        assert_eq!(heard[0].attribute("id"), Some("keep"));
        let targets =
            heard[1..].iter().map(|message| message.find("retract", RETRACT).unwrap().attribute("id"));
        assert!(targets.eq([Some(&*ids[1]), Some(&*ids[2])]), "{heard:?}");
    });
}

#[test]
fn retractions_in_rooms_are_no_faster_than_messages() {
    on_each_driver_with(
        |config| {
            config.rooms.occupant_messages_per_second = 1;
        },
        |server| {
            let [mut juliet, ..] = three(server);
            make(&mut juliet, "hall", "jule", &[]);
            say(&mut juliet, "hall", "a");
            let id = given_id(&message(&mut juliet, "a"));
            let is_refused = |juliet: &mut Client| {
                retract(juliet, &id);
                outcome(&message(juliet, &format!("r-{id}"))) == "policy-violation"
            };
            assert!((0..1000).any(|_| is_refused(&mut juliet)));
            assert!((0..1000).any(|_| moderate(&mut juliet, &id, "") == "policy-violation"));
            assert!(server.metric("refused.room_messages") > 1);
        },
    );
}

fn enter_managed(program: &Program, name: &str) -> Client {
    let mut client = program.login(name, "r");
    enter(&mut client, "hall", name);
    client.quiet();
    client.enable_sm();
    client
}

/// A retraction is in the log before it is acknowledged, and its effect is made of it again: killed at once afterwards, a server
/// shows the text to nobody.
#[test]
fn what_was_taken_back_stays_so_over_sigkill() {
    for driver in drivers() {
        let start = Start::new(&["juliet", "romeo"]).with_driver(driver);
        let program = start.run();
        let mut juliet = program.login("juliet", "r");
        make(&mut juliet, "hall", "juliet", PRIVATE);
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
        drop(juliet);
        let mut program = program;
        let mut expected: Vec<String> = Vec::new();
        for round in 0..4 {
            let mut romeo = enter_managed(&program, "romeo");
            assert_eq!(bodies(&page(&mut romeo, "").0), expected, "in round {round}");
            let mut juliet = enter_managed(&program, "juliet");
            let own = said(&mut romeo, &mut juliet, &format!("own{round}"));
            let other = said(&mut romeo, &mut juliet, &format!("other{round}"));
            retract(&mut romeo, &own);
            // A page that was asked for, two messages and this.
            romeo.await_handled(4);
            assert_eq!(moderate(&mut juliet, &other, ""), "result");
            program.kill();
            expected.extend(["retracted", "retracted", "took back", ""].map(str::to_owned));
            program = start.run();
        }
        let mut romeo = program.login("romeo", "r");
        assert_eq!(bodies(&page(&mut romeo, "").0), expected);
        program.stop();
    }
}
