//! Service discovery (XEP-0030) and the server's capabilities (XEP-0115).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use whimbrel_server::xml::Element;
use whimbrel_storage::directory::Subscription;

use crate::support::answers::{befriend, contact, outcome, payload};
use crate::support::{Client, on_each_driver, server_password};

const INFO: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
const ITEMS: &str = "<query xmlns='http://jabber.org/protocol/disco#items'/>";

fn identity(info: &Element) -> (String, String) {
    let identity = info.elements().find(|child| child.name() == "identity").expect("an identity");
    let attribute = |name| identity.attribute(name).unwrap_or_default().to_owned();
    (attribute("category"), attribute("type"))
}

fn features(info: &Element) -> Vec<String> {
    let features = info.elements().filter(|child| child.name() == "feature");
    features.map(|feature| feature.attribute("var").expect("a feature has a name").to_owned()).collect()
}

fn jids(items: &Element) -> Vec<String> {
    let mut jids: Vec<_> =
        items.elements().map(|item| item.attribute("jid").expect("an item has a JID").to_owned()).collect();
    jids.sort();
    jids
}

#[test]
fn the_server_says_what_it_is_and_can_do() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        let answer = juliet.ask("get", Some("localhost"), INFO);
        assert_eq!(answer.attribute("from"), Some("localhost"));
        let info = payload(&answer);
        assert_eq!(identity(info), ("server".into(), "im".into()));
        let features = features(info);
        for feature in [
            "http://jabber.org/protocol/caps",
            "http://jabber.org/protocol/disco#info",
            "http://jabber.org/protocol/disco#items",
            "http://jabber.org/protocol/rsm",
            "jabber:iq:last",
            "jabber:iq:private",
            "jabber:iq:register",
            "jabber:iq:version",
            "msgoffline",
            "urn:xmpp:blocking",
            "urn:xmpp:carbons:2",
            "urn:xmpp:ping",
            "urn:xmpp:time",
            "vcard-temp",
        ] {
            assert_eq!(features.iter().filter(|found| *found == feature).count(), 1, "{feature}");
        }
        assert_eq!(
            jids(payload(&juliet.ask("get", Some("localhost"), ITEMS))),
            ["conference.localhost", "pubsub.localhost"]
        );
    });
}

#[test]
fn the_hash_in_the_stream_features_is_that_of_the_answer_for_its_node() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = Client::connect(server.address());
        juliet.open_stream("localhost");
        juliet.authenticate_plain("juliet", &server_password("juliet"));
        let offered = juliet.open_stream("localhost");
        juliet.jid = juliet.bind("balcony");
        let caps = offered.find("c", "http://jabber.org/protocol/caps").expect("capabilities");
        let attribute = |name| caps.attribute(name).expect("a complete caps element").to_owned();
        assert_eq!(attribute("hash"), "sha-1");
        let node = format!("{}#{}", attribute("node"), attribute("ver"));
        let query = format!("<query xmlns='http://jabber.org/protocol/disco#info' node='{node}'/>");
        let answer = juliet.ask("get", Some("localhost"), &query);
        let info = payload(&answer);
        assert_eq!(info.attribute("node"), Some(node.as_str()));
        // XEP-0115 §5.1.
        let identity = info.elements().find(|child| child.name() == "identity").unwrap();
        let part = |name| identity.attribute(name).unwrap_or_default();
        let mut text = format!("{}/{}//{}<", part("category"), part("type"), part("name"));
        let mut features = features(info);
        features.sort();
        features.iter().for_each(|feature| text.push_str(&format!("{feature}<")));
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
        assert_eq!(attribute("ver"), STANDARD.encode(hash));
    });
}

#[test]
fn an_unknown_node_is_not_found() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        for to in ["localhost", "juliet@localhost"] {
            for kind in ["info", "items"] {
                let query =
                    format!("<query xmlns='http://jabber.org/protocol/disco#{kind}' node='nowhere'/>");
                assert_eq!(outcome(&juliet.ask("get", Some(to), &query)), "item-not-found", "{to} {kind}");
            }
        }
    });
}

#[test]
fn an_account_is_shown_to_its_owner_and_to_subscribers_only() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo", "tybalt"]);
        befriend(server, "juliet", "romeo");
        // He is in her roster, but may not see her presence.
        contact(server, "juliet", "tybalt", Subscription::To);
        let mut balcony = server.online("juliet", "balcony");
        let _garden = server.online("juliet", "garden");
        let _silent = server.login("juliet", "silent");
        let mut romeo = server.online("romeo", "orchard");
        let mut tybalt = server.online("tybalt", "street");
        for client in [&mut balcony, &mut romeo] {
            let answer = client.ask("get", Some("juliet@localhost"), INFO);
            assert_eq!(identity(payload(&answer)), ("account".into(), "registered".into()));
            let answer = client.ask("get", Some("juliet@localhost"), ITEMS);
            assert_eq!(jids(payload(&answer)), ["juliet@localhost/balcony", "juliet@localhost/garden"]);
        }
        // XEP-0030 §8: an error for the one, an empty result for the other, whatever the node.
        for (query, expected) in [(INFO, "service-unavailable"), (ITEMS, "result")] {
            for query in [query.to_owned(), query.replace("/>", " node='n'/>")] {
                let hers = tybalt.ask("get", Some("juliet@localhost"), &query);
                let nobodys = tybalt.ask("get", Some("nobody@localhost"), &query);
                assert_eq!(outcome(&hers), expected, "{query}");
                assert_eq!(hers.nodes(), nobodys.nodes(), "{query}");
                assert_eq!(hers.attribute("type"), nobodys.attribute("type"), "{query}");
                if expected == "result" {
                    assert_eq!(jids(payload(&hers)), [""; 0], "{query}");
                }
            }
        }
    });
}

#[test]
fn a_full_jid_is_asked_itself() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let mut romeo = server.login("romeo", "orchard");
        romeo.send(&format!("<iq type='get' id='q' to='{}'>{INFO}</iq>", juliet.jid));
        let asked = juliet.expect("iq");
        assert_eq!(asked.attribute("from"), Some(romeo.jid.as_str()));
        juliet.send(&format!("<iq type='result' id='q' to='{}'>{INFO}</iq>", romeo.jid));
        assert_eq!(romeo.expect("iq").attribute("from"), Some(juliet.jid.as_str()));
    });
}

#[test]
fn the_resources_of_an_account_come_page_by_page_if_asked_for() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.online("juliet", "a");
        let _others = ["b", "c"].map(|name| server.online("juliet", name));
        let jid = |name: &str| format!("juliet@localhost/{name}");
        let mut page = |set: &str| {
            let set = format!("<set xmlns='http://jabber.org/protocol/rsm'>{set}</set>");
            let query = ITEMS.replace("/>", &format!(">{set}</query>"));
            let answer = juliet.ask("get", Some("juliet@localhost"), &query);
            if outcome(&answer) != "result" {
                return Err(outcome(&answer));
            }
            let items = payload(&answer);
            let set = items.find("set", "http://jabber.org/protocol/rsm").expect("a set");
            let text =
                |name| set.find(name, "http://jabber.org/protocol/rsm").map(|e| e.content().into_owned());
            assert_eq!(text("count").as_deref(), Some("3"));
            let listed = items.elements().filter(|child| child.name() == "item");
            let listed: Vec<String> = listed.map(|item| item.attribute("jid").unwrap().to_owned()).collect();
            assert_eq!((text("first"), text("last")), (listed.first().cloned(), listed.last().cloned()));
            Ok(listed)
        };
        assert_eq!(page("<max>2</max>"), Ok(vec![jid("a"), jid("b")]));
        assert_eq!(page(&format!("<max>2</max><after>{}</after>", jid("b"))), Ok(vec![jid("c")]));
        assert_eq!(page("<max>1</max><before/>"), Ok(vec![jid("c")]));
        assert_eq!(page("<max>0</max>"), Ok(vec![]));
        assert_eq!(page(&format!("<after>{}</after>", jid("nobody"))), Err("item-not-found".into()));
        assert_eq!(page("<max>many</max>"), Err("bad-request".into()));
    });
}
