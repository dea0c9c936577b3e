//! Requests of occupants to occupants (XEP-0045 §17.4.2).

use whimbrel_server::xml::Element;

use super::{PRIVATE, enter, make, make_it, next_presence, room, three, until};
use crate::support::answers::{outcome, payload};
use crate::support::program::Start;
use crate::support::{Client, on_each_driver};

const VERSION: &str = "<query xmlns='jabber:iq:version'/>";
const VCARD: &str = "<vCard xmlns='vcard-temp'/>";

fn occupant(nick: &str) -> String {
    format!("{}/{nick}", room("hall"))
}

fn ask(client: &mut Client, nick: &str, typ: &str, id: &str, query: &str) {
    client.send(&format!("<iq type='{typ}' id='{id}' to='{}'>{query}</iq>", occupant(nick)));
}

/// The next iq with this type.
fn iq(client: &mut Client, typ: &str) -> Element {
    until(client, |stanza| stanza.name() == "iq" && stanza.attribute("type") == Some(typ))
}

fn answer(client: &mut Client, to: &Element, typ: &str, inside: &str) {
    let (id, from) = (to.attribute("id").unwrap(), to.attribute("from").unwrap());
    client.send(&format!("<iq type='{typ}' id='{id}' to='{from}'>{inside}</iq>"));
}

/// Three are in the hall, where only juliet sees who they are.
fn in_hall([juliet, romeo, nurse]: [&mut Client; 3]) {
    make(juliet, "hall", "jule", &[]);
    enter(romeo, "hall", "romeo");
    enter(nurse, "hall", "nurse");
    for client in [juliet, romeo, nurse] {
        client.settle();
        client.quiet();
    }
}

#[test]
fn a_request_reaches_a_client_of_an_occupant_and_its_answer_the_one_that_asked() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        in_hall([&mut juliet, &mut romeo, &mut nurse]);
        ask(&mut romeo, "jule", "get", "q&lt;1", VERSION);
        let asked = iq(&mut juliet, "get");
        assert_eq!(asked.attribute("from"), Some(&*occupant("romeo")));
        assert_eq!(asked.attribute("to"), Some(&*juliet.jid));
        assert!(asked.find("query", "jabber:iq:version").is_some());
        let text = format!("{asked:?}");
        assert!(!text.contains(romeo.jid.as_str()) && !text.contains("romeo@localhost"), "{text}");
        let result = "<query xmlns='jabber:iq:version'><name>Psi &amp; co</name></query>";
        answer(&mut juliet, &asked, "result", result);
        let answered = iq(&mut romeo, "result");
        let attributes = ["from", "to", "id"].map(|name| answered.attribute(name));
        assert_eq!(attributes, [Some(&*occupant("jule")), Some(&*romeo.jid), Some("q<1")]);
        let name = payload(&answered).find("name", "jabber:iq:version").unwrap().content().into_owned();
        assert_eq!(name, "Psi & co");
        assert!(!format!("{answered:?}").contains("juliet"), "he does not see who it is");

        // An error comes back as well.
        ask(&mut romeo, "jule", "get", "q2", "<ping xmlns='urn:xmpp:ping'/>");
        let asked = iq(&mut juliet, "get");
        let error =
            "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
        answer(&mut juliet, &asked, "error", error);
        let refused = iq(&mut romeo, "error");
        assert_eq!(
            (refused.attribute("id"), outcome(&refused).as_str()),
            (Some("q2"), "service-unavailable")
        );
        // Under another nick she is still the one who was asked.
        ask(&mut romeo, "jule", "get", "q3", VERSION);
        let asked = iq(&mut juliet, "get");
        juliet.send(&format!("<presence to='{}'/>", occupant("capulet")));
        answer(&mut juliet, &asked, "result", "");
        assert_eq!(iq(&mut romeo, "result").attribute("from"), Some(&*occupant("jule")));
        assert_eq!(server.metric("rooms.requests"), 3);
    });
}

#[test]
fn only_who_was_asked_answers_and_only_what_was_asked() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        in_hall([&mut juliet, &mut romeo, &mut nurse]);
        ask(&mut romeo, "jule", "get", "q1", VERSION);
        let asked = iq(&mut juliet, "get");
        // Somebody else; to somebody else; a question that nobody has asked.
        answer(&mut nurse, &asked, "result", "<forged xmlns='x'/>");
        let id = asked.attribute("id").unwrap().to_owned();
        juliet.send(&format!("<iq type='result' id='{id}' to='{}'/>", occupant("nurse")));
        juliet.send(&format!("<iq type='result' id='q1' to='{}'/>", occupant("romeo")));
        juliet.send(&format!("<iq type='result' id='{}x' to='{}'/>", &id[1..], occupant("romeo")));
        juliet.send(&format!("<iq type='result' id='{id}' to='{}'/>", room("hall")));
        // What somebody sends a room it handles in its order.
        let ping = "<ping xmlns='urn:xmpp:ping'/>";
        assert_eq!(outcome(&nurse.ask("get", Some(&room("hall")), ping)), "result");
        answer(&mut juliet, &asked, "result", "<real xmlns='x'/>");
        let answered = iq(&mut romeo, "result");
        assert!(answered.find("real", "x").is_some(), "{answered:?}");
        for client in [&mut romeo, &mut nurse] {
            assert_eq!(outcome(&client.ask("get", Some(&room("hall")), ping)), "result");
        }
        for client in [&mut romeo, &mut nurse] {
            let forged = client.quiet().into_iter().find(|stanza| stanza.name() == "iq");
            assert_eq!(forged, None);
        }
    });
}

#[test]
fn a_request_to_somebody_who_is_not_there_is_refused() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        let outside = nurse.ask("get", Some(&occupant("jule")), VERSION);
        assert_eq!(outcome(&outside), "not-acceptable", "she is not in the room");
        assert_eq!(outcome(&romeo.ask("get", Some(&occupant("nobody")), VERSION)), "item-not-found");
        let long = "x".repeat(257);
        ask(&mut romeo, "jule", "get", &long, VERSION);
        assert_eq!(outcome(&iq(&mut romeo, "error")), "not-acceptable");
        romeo.quiet();
        juliet.send("<presence type='unavailable'/>");
        next_presence(&mut romeo);
        assert_eq!(outcome(&romeo.ask("get", Some(&occupant("jule")), VERSION)), "item-not-found");
    });
}

#[test]
fn what_is_offered_needs_the_right_to_write_privately() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        in_hall([&mut juliet, &mut romeo, &mut nurse]);
        assert_eq!(outcome(&super::configure(&mut juliet, "hall", &[("allowpm", "moderators")])), "result");
        let offer = "<open xmlns='http://jabber.org/protocol/ibb' sid='s' block-size='4096'/>";
        assert_eq!(outcome(&romeo.ask("set", Some(&occupant("nurse")), offer)), "forbidden");
        ask(&mut romeo, "nurse", "get", "q1", VERSION);
        iq(&mut nurse, "get");
        ask(&mut juliet, "nurse", "set", "q2", offer);
        assert!(iq(&mut nurse, "set").find("open", "http://jabber.org/protocol/ibb").is_some());
    });
}

#[test]
fn an_occupants_vcard_is_what_strangers_see() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        in_hall([&mut juliet, &mut romeo, &mut nurse]);
        let card = "<vCard xmlns='vcard-temp'><FN>Juliet &lt;C&gt;</FN></vCard>";
        assert_eq!(outcome(&juliet.ask("set", None, card)), "result");
        let shown = romeo.ask("get", Some(&occupant("jule")), VCARD);
        assert_eq!(shown.attribute("from"), Some(&*occupant("jule")));
        assert_eq!(payload(&shown).find("FN", "vcard-temp").unwrap().content(), "Juliet <C>");
        assert_eq!(outcome(&romeo.ask("get", Some(&occupant("nurse")), VCARD)), "service-unavailable");
    });
}

/// A room that has the name of an account is not that account.
#[test]
fn a_room_named_as_an_account_sees_nothing_of_it() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        // Her picture is for those who see her presence.
        let publish = |node: &str, id: &str, payload: &str| {
            format!(
                "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='{node}'>\
                 <item id='{id}'>{payload}</item></publish></pubsub>"
            )
        };
        let hash = "0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33";
        let data = publish("urn:xmpp:avatar:data", hash, "<data xmlns='urn:xmpp:avatar:data'>Zm9v</data>");
        assert_eq!(outcome(&juliet.ask("set", None, &data)), "result");
        let info = format!("<info id='{hash}' bytes='3' type='image/png'/>");
        let metadata = format!("<metadata xmlns='urn:xmpp:avatar:metadata'>{info}</metadata>");
        let metadata = publish("urn:xmpp:avatar:metadata", hash, &metadata);
        assert_eq!(outcome(&juliet.ask("set", None, &metadata)), "result");
        assert_eq!(outcome(&juliet.ask("get", None, VCARD)), "result", "she sees it herself");
        make(&mut romeo, "juliet", "romeo", &[]);
        enter(&mut juliet, "juliet", "jule");
        let to = format!("{}/jule", room("juliet"));
        assert_eq!(outcome(&romeo.ask("get", Some(&to), VCARD)), "service-unavailable");
    });
}

#[test]
fn a_question_is_answered_over_an_upgrade() {
    let start = Start::new(&["juliet", "romeo"]);
    let program = start.run();
    let [mut juliet, mut romeo] = ["juliet", "romeo"].map(|name| program.login(name, "r"));
    make(&mut juliet, "hall", "jule", PRIVATE);
    assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
    enter(&mut romeo, "hall", "romeo");
    ask(&mut romeo, "jule", "get", "q1", VERSION);
    let asked = iq(&mut juliet, "get");
    let upgraded = program.control(&serde_json::json!({ "request": "upgrade" }));
    assert_eq!(upgraded["ok"], true, "{upgraded}");
    answer(&mut juliet, &asked, "result", "");
    assert_eq!(iq(&mut romeo, "result").attribute("id"), Some("q1"));
    program.stop();
}
