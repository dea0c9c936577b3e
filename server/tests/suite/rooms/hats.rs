//! What an operator says of occupants (XEP-0317).

use serde_json::json;
use whimbrel_server::xml::Element;

use super::{PRIVATE, configure, enter, make, make_it, message, room, seen, until};
use crate::support::answers::{outcome, payload};
use crate::support::program::{Program, Start};

const HATS: &str = "urn:xmpp:hats:0";

fn order(program: &Program, uri: &str, title: Option<&str>) -> bool {
    let request = json!({
        "request": "room-hat", "jid": room("hall"), "member": "romeo@localhost", "uri": uri, "title": title,
    });
    program.control(&request)["ok"] == true
}

/// The titles of the hats in a presence.
fn hats(presence: &Element) -> Vec<String> {
    let hats = presence.find("hats", HATS).into_iter().flat_map(Element::elements);
    hats.map(|hat| hat.attribute("title").expect("a title").to_owned()).collect()
}

fn is_of_romeo(presence: &Element) -> bool {
    presence.name() == "presence" && presence.attribute("from").is_some_and(|from| from.ends_with("/romeo"))
}

#[test]
fn hats_are_the_operators_to_give_and_outlive_an_upgrade() {
    let start = Start::new(&["juliet", "romeo"]);
    let program = start.run();
    let [mut juliet, mut romeo] = ["juliet", "romeo"].map(|name| program.login(name, "r"));
    make(&mut juliet, "hall", "jule", PRIVATE);
    assert!(!order(&program, "urn:x:host", Some("Host")), "he does not belong to the room");
    assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
    let forged = format!("<hats xmlns='{HATS}'><hat uri='urn:x:king' title='King'/></hats>");
    romeo.send(&format!(
        "<presence to='{}/romeo'><x xmlns='http://jabber.org/protocol/muc'/>{forged}</presence>",
        room("hall")
    ));
    let came = until(&mut juliet, is_of_romeo);
    assert!(hats(&came).is_empty(), "{came:?}");
    assert!(order(&program, "urn:x:host", Some("Host")));
    for client in [&mut juliet, &mut romeo] {
        let shown = until(client, |stanza| is_of_romeo(stanza) && !hats(stanza).is_empty());
        assert_eq!(hats(&shown), ["Host"]);
    }
    let to = room("hall");
    romeo.send(&format!("<message to='{to}' type='groupchat' id='m1'><body>b</body>{forged}</message>"));
    assert!(message(&mut juliet, "m1").find("hats", HATS).is_none());

    let upgraded = program.control(&json!({ "request": "upgrade" }));
    assert_eq!(upgraded["ok"], true, "{upgraded}");
    juliet.quiet();
    romeo.send(&format!("<presence to='{to}/romeo'><show>away</show>{forged}</presence>"));
    assert_eq!(hats(&until(&mut juliet, is_of_romeo)), ["Host"], "also with another presence");
    romeo.quiet();
    let others = enter(&mut juliet, "hall", "jule");
    assert_eq!(others.iter().find(|stanza| is_of_romeo(stanza)).map(hats), Some(vec!["Host".to_owned()]));
    let info = juliet.ask("get", Some(&to), "<query xmlns='http://jabber.org/protocol/disco#info'/>");
    assert!(payload(&info).elements().any(|feature| feature.attribute("var") == Some(HATS)));

    // They go with what he is to the room.
    assert_eq!(outcome(&configure(&mut juliet, "hall", &[("membersonly", "0")])), "result");
    assert_eq!(make_it(&mut juliet, "hall", "romeo", "none"), "result");
    let shown = until(&mut juliet, |stanza| is_of_romeo(stanza) && seen(stanza).contains("none/"));
    assert!(hats(&shown).is_empty(), "{shown:?}");
    program.stop();
}
