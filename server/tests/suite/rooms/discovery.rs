//! What rooms and their service tell, and whether somebody is still there.

use super::{MUC, PRIVATE, SERVICE, enter, make, room, three};
use crate::support::answers::{outcome, payload};
use crate::support::{on_each_driver, on_each_driver_with};

const INFO: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
const ITEMS: &str = "<query xmlns='http://jabber.org/protocol/disco#items'/>";

fn features(answer: &whimbrel_server::xml::Element) -> Vec<String> {
    let features = payload(answer).elements().filter(|child| child.name() == "feature");
    features.map(|feature| feature.attribute("var").unwrap().to_owned()).collect()
}

#[test]
fn a_private_group_announces_what_clients_look_for() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        let answer = romeo.ask("get", Some(&room("hall")), INFO);
        let found = features(&answer);
        for feature in [
            MUC,
            "muc_membersonly",
            "muc_nonanonymous",
            "muc_persistent",
            "muc_hidden",
            "http://jabber.org/protocol/muc#stable_id",
            "http://jabber.org/protocol/muc#self-ping-optimization",
            "urn:xmpp:occupant-id:0",
            "urn:xmpp:sid:0",
        ] {
            assert!(found.iter().any(|known| known == feature), "{feature} is not in {found:?}");
        }
        assert!(payload(&answer).find("x", "jabber:x:data").is_none(), "nothing more to those outside");
        let answer = juliet.ask("get", Some(&room("hall")), INFO);
        let form = payload(&answer).find("x", "jabber:x:data").unwrap();
        assert!(form.elements().any(|field| field.attribute("var") == Some("muc#roominfo_occupants")));
        assert_eq!(outcome(&romeo.ask("get", Some(&room("nowhere")), INFO)), "item-not-found");
    });
}

#[test]
fn the_service_lists_public_rooms_and_the_domain_the_service() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hidden", "jule", PRIVATE);
        make(&mut juliet, "hall", "jule", &[("roomname", "The Hall")]);
        make(&mut juliet, "garden", "jule", &[]);
        let jids = |answer: &whimbrel_server::xml::Element| {
            let items = payload(answer).elements().filter(|child| child.name() == "item");
            let of = |item: &whimbrel_server::xml::Element, name: &str| {
                item.attribute(name).unwrap_or("").to_owned()
            };
            items.map(|item| format!("{} {}", of(item, "jid"), of(item, "name"))).collect::<Vec<_>>()
        };
        let domain = romeo.ask("get", Some("localhost"), ITEMS);
        assert!(jids(&domain).iter().any(|jid| jid.starts_with(SERVICE)), "{domain:?}");
        let listed = romeo.ask("get", Some(SERVICE), ITEMS);
        assert_eq!(
            jids(&listed),
            ["garden@conference.localhost garden", "hall@conference.localhost The Hall"]
        );
        let page = "<query xmlns='http://jabber.org/protocol/disco#items'>\
                    <set xmlns='http://jabber.org/protocol/rsm'><max>1</max><after>garden</after></set></query>";
        let listed = romeo.ask("get", Some(SERVICE), page);
        assert_eq!(jids(&listed), ["hall@conference.localhost The Hall"]);
        let info = romeo.ask("get", Some(SERVICE), INFO);
        assert!(features(&info).contains(&MUC.to_owned()));
        assert_eq!(outcome(&romeo.ask("get", Some(SERVICE), "<ping xmlns='urn:xmpp:ping'/>")), "result");
        assert_eq!(outcome(&romeo.ask("get", Some(SERVICE), "<x xmlns='urn:x'/>")), "service-unavailable");
    });
}

#[test]
fn a_ping_to_oneself_tells_whether_one_is_still_there() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        let ping = "<ping xmlns='urn:xmpp:ping'/>";
        let own = format!("{}/romeo", room("hall"));
        assert_eq!(outcome(&romeo.ask("get", Some(&own), ping)), "not-acceptable");
        enter(&mut romeo, "hall", "romeo");
        assert_eq!(outcome(&romeo.ask("get", Some(&own), ping)), "result");
        juliet.settle();
        assert!(juliet.quiet().iter().all(|stanza| stanza.name() != "iq"), "no client is asked");
    });
}

#[test]
fn a_server_without_rooms_knows_none() {
    on_each_driver_with(
        |config| config.rooms.enabled = false,
        |server| {
            server.accounts(&["juliet"]);
            let mut juliet = server.online("juliet", "r");
            let domain = juliet.ask("get", Some("localhost"), ITEMS);
            assert!(payload(&domain).elements().all(|item| item.attribute("jid") != Some(SERVICE)));
            assert_eq!(outcome(&juliet.ask("get", Some(SERVICE), INFO)), "remote-server-not-found");
        },
    );
}
