//! Another program in the same process.

use super::{PRIVATE, enter, make, make_it, message, presences, room, said, say};
use crate::support::answers::outcome;
use crate::support::program::Start;

#[test]
fn an_upgrade_leaves_everybody_in_their_rooms() {
    let start = Start::new(&["juliet", "romeo", "nurse"]);
    let program = start.run();
    let [mut juliet, mut romeo, mut nurse] =
        ["juliet", "romeo", "nurse"].map(|name| program.login(name, "r"));
    make(&mut juliet, "hall", "jule", PRIVATE);
    assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
    enter(&mut romeo, "hall", "romeo");
    say(&mut romeo, "hall", "m1");
    let before = message(&mut juliet, "m1");
    enter(&mut nurse, "locked", "nurse");
    let upgraded = program.control(&serde_json::json!({ "request": "upgrade" }));
    assert_eq!(upgraded["ok"], true, "{upgraded}");
    juliet.quiet();
    say(&mut romeo, "hall", "m2");
    let after = message(&mut juliet, "m2");
    assert_eq!(after.attribute("from"), Some("hall@conference.localhost/romeo"));
    let id = |message: &whimbrel_server::xml::Element| {
        message.find("occupant-id", "urn:xmpp:occupant-id:0").unwrap().attribute("id").unwrap().to_owned()
    };
    assert_eq!(id(&before), id(&after));
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    let own = format!("{}/romeo", room("hall"));
    assert_eq!(outcome(&romeo.ask("get", Some(&own), ping)), "result");
    let refused = enter(&mut juliet, "locked", "jule");
    assert_eq!(outcome(refused.last().unwrap()), "item-not-found", "it is locked as before");
    assert_eq!(outcome(&super::configure(&mut nurse, "locked", &[])), "result");
    super::until(&mut romeo, |stanza| stanza.attribute("id") == Some("m2"));
    romeo.quiet();
    let seen = enter(&mut romeo, "hall", "romeo");
    assert_eq!(said(&seen), ["m1", "m2"]);
    assert_eq!(
        presences(&seen),
        [
            "jule available owner/moderator juliet []",
            "romeo available member/participant romeo [100 110 170]"
        ]
    );
    juliet.cut();
    let gone = super::until(&mut romeo, |stanza| stanza.attribute("type") == Some("unavailable"));
    assert_eq!(super::seen(&gone), "jule unavailable owner/none juliet []");
    program.stop();
}
