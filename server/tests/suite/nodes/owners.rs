//! Nodes as their owners make, configure, purge and delete them, and as everybody finds them.

use super::*;
use crate::support::answers::{outcome, payload};
use crate::support::on_each_driver;

const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
const DISCO_ITEMS: &str = "http://jabber.org/protocol/disco#items";

fn info(client: &mut Client, to: &str, node: Option<&str>) -> Element {
    let node = node.map(|node| format!(" node='{node}'")).unwrap_or_default();
    client.ask("get", Some(to), &format!("<query xmlns='{DISCO_INFO}'{node}/>"))
}

/// What disco lists.
fn listed(client: &mut Client, to: &str, node: Option<&str>, inside: &str) -> (Vec<String>, Option<Element>) {
    let node = node.map(|node| format!(" node='{node}'")).unwrap_or_default();
    let answer = client.ask("get", Some(to), &format!("<query xmlns='{DISCO_ITEMS}'{node}>{inside}</query>"));
    let query = payload(&answer);
    let item = |item: &Element| {
        let name = item.attribute("node").or(item.attribute("name"));
        format!("{} {}", item.attribute("jid").unwrap(), name.unwrap_or("-"))
    };
    let items = query.elements().filter(|child| child.name() == "item").map(item).collect();
    (items, query.find("set", RSM).cloned())
}

#[test]
fn items_are_published_and_retrieved_and_retracted() {
    everywhere(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let mut romeo = server.login("romeo", "orchard");
        assert_eq!(make(&mut juliet, "news", &[]), "result");
        assert_eq!(make(&mut romeo, "news", &[]), "conflict");
        for id in ["a", "b", "c"] {
            assert_eq!(publish(&mut juliet, "news", id, id), "result");
        }
        assert_eq!(get(&mut romeo, "news"), Ok(vec!["c=c".into(), "b=b".into(), "a=a".into()]));
        let two = ask(&mut romeo, "get", "<items node='news' max_items='2'/>");
        assert_eq!(items(&two), Ok(vec!["c=c".into(), "b=b".into()]));
        let one = ask(&mut romeo, "get", "<items node='news'><item id='b'/></items>");
        assert_eq!(items(&one), Ok(vec!["b=b".into()]));
        let set = format!("<set xmlns='{RSM}'><max>1</max><after>c</after></set>");
        let page = ask(&mut romeo, "get", &format!("<items node='news'/>{set}"));
        assert_eq!(items(&page), Ok(vec!["b=b".into()]));
        let retract = "<retract node='news'><item id='b'/></retract>";
        assert_eq!(said(&ask(&mut romeo, "set", retract)), "forbidden");
        assert_eq!(said(&ask(&mut juliet, "set", retract)), "result");
        assert_eq!(said(&ask(&mut juliet, "set", retract)), "item-not-found");
        assert_eq!(get(&mut romeo, "news"), Ok(vec!["c=c".into(), "a=a".into()]));
        assert_eq!(publish(&mut romeo, "news", "r", "r"), "forbidden");
        assert_eq!(publish(&mut juliet, "none", "r", "r"), "item-not-found", "nothing is made by the way");
        assert_eq!(get(&mut romeo, "none"), Err("item-not-found".into()));
        let instant = ask(&mut juliet, "set", "<create/>");
        let name = payload(&instant).elements().next().unwrap().attribute("node").unwrap().to_owned();
        assert_eq!(publish(&mut juliet, &name, "i", "x"), "result");
        assert_eq!(get(&mut romeo, &name), Ok(vec!["i=x".into()]));
    });
}

#[test]
fn only_whom_the_configuration_names_makes_nodes() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        assert_eq!(make(&mut juliet, "news", &[]), "forbidden");
        assert_eq!(said(&ask(&mut juliet, "set", "<create/>")), "forbidden");
        let features = info(&mut juliet, SERVICE, None).to_bytes();
        let text = String::from_utf8(features).unwrap();
        assert!(text.contains("pubsub#publish\"") && !text.contains("pubsub#create-nodes\""), "{text}");
    });
}

#[test]
fn a_node_is_configured_purged_and_deleted_by_its_owners() {
    everywhere(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let mut romeo = server.login("romeo", "orchard");
        assert_eq!(make(&mut juliet, "news", &[("title", "News")]), "result");
        let form = ask_as_owner(&mut juliet, "get", "<configure node='news'/>");
        let text = String::from_utf8(form.to_bytes()).unwrap();
        assert!(text.contains("<value>News</value>") && !text.contains("roster"), "{text}");
        let default = ask_as_owner(&mut romeo, "get", "<default/>");
        assert!(String::from_utf8(default.to_bytes()).unwrap().contains("<value>open</value>"));
        for asked in
            ["<configure node='news'/>", "<affiliations node='news'/>", "<subscriptions node='news'/>"]
        {
            assert_eq!(said(&ask_as_owner(&mut romeo, "get", asked)), "forbidden", "{asked}");
        }
        for asked in ["<purge node='news'/>", "<delete node='news'/>"] {
            assert_eq!(said(&ask_as_owner(&mut romeo, "set", asked)), "forbidden", "{asked}");
            let none = asked.replace("news", "none");
            assert_eq!(said(&ask_as_owner(&mut juliet, "set", &none)), "item-not-found", "{none}");
        }
        assert_eq!(configure(&mut romeo, "news", &[("title", "Mine")]), "forbidden");
        for id in ["a", "b", "c"] {
            publish(&mut juliet, "news", id, id);
        }
        assert_eq!(configure(&mut juliet, "news", &[("max_items", "2")]), "result");
        assert_eq!(get(&mut romeo, "news"), Ok(vec!["c=c".into(), "b=b".into()]));
        let options = super::form("publish-options", &[("max_items", "3")]);
        let publish_with = format!(
            "<publish node='news'><item id='d'>{}</item></publish><publish-options>{options}</publish-options>",
            note("d")
        );
        assert_eq!(said(&ask(&mut juliet, "set", &publish_with)), "conflict precondition-not-met");
        let publish_with = publish_with.replace("<value>3</value>", "<value>2</value>");
        assert_eq!(said(&ask(&mut juliet, "set", &publish_with)), "result");
        assert_eq!(said(&ask_as_owner(&mut juliet, "set", "<purge node='news'/>")), "result");
        assert_eq!(get(&mut romeo, "news"), Ok(vec![]));
        assert_eq!(said(&ask_as_owner(&mut juliet, "set", "<delete node='news'/>")), "result");
        assert_eq!(get(&mut romeo, "news"), Err("item-not-found".into()));
        assert_eq!(make(&mut romeo, "news", &[]), "result");
        assert_eq!(get(&mut juliet, "news"), Ok(vec![]));
    });
}

/// There are no presence and no roster that could let somebody in.
#[test]
fn access_models_that_need_an_account_are_refused() {
    everywhere(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        let refused = "not-acceptable unsupported-access-model";
        assert_eq!(make(&mut juliet, "open", &[]), "result");
        for model in ["presence", "roster"] {
            assert_eq!(make(&mut juliet, "n", &[("access_model", model)]), refused);
            assert_eq!(configure(&mut juliet, "open", &[("access_model", model)]), refused);
        }
        for model in ["whitelist", "authorize", "open"] {
            assert_eq!(configure(&mut juliet, "open", &[("access_model", model)]), "result");
        }
    });
}

#[test]
fn disco_tells_of_the_service_its_nodes_and_their_items() {
    everywhere(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let mut romeo = server.login("romeo", "orchard");
        assert!(listed(&mut romeo, "localhost", None, "").0.contains(&format!("{SERVICE} -")));
        let answer = info(&mut romeo, SERVICE, None);
        let identity = payload(&answer).find("identity", DISCO_INFO).unwrap();
        assert_eq!(
            (identity.attribute("category"), identity.attribute("type")),
            (Some("pubsub"), Some("service"))
        );
        for name in ["a", "b", "c"] {
            make(&mut juliet, name, &[("title", name)]);
        }
        make(&mut juliet, "d", &[("access_model", "whitelist")]);
        let named =
            |names: &[&str]| -> Vec<String> { names.iter().map(|n| format!("{SERVICE} {n}")).collect() };
        assert_eq!(listed(&mut romeo, SERVICE, None, ""), (named(&["a", "b", "c", "d"]), None));
        let page = format!("<set xmlns='{RSM}'><max>2</max><after>a</after></set>");
        let (found, set) = listed(&mut romeo, SERVICE, None, &page);
        let set = set.unwrap();
        assert_eq!(found, named(&["b", "c"]));
        assert_eq!(set.find("last", RSM).unwrap().content(), "c");
        assert_eq!(set.find("count", RSM).unwrap().content(), "4");
        let before = format!("<set xmlns='{RSM}'><max>2</max><before/></set>");
        let refused =
            romeo.ask("get", Some(SERVICE), &format!("<query xmlns='{DISCO_ITEMS}'>{before}</query>"));
        assert_eq!(outcome(&refused), "feature-not-implemented");

        for id in ["1", "2", "3"] {
            publish(&mut juliet, "a", id, "x");
        }
        let node = info(&mut romeo, SERVICE, Some("a"));
        let text = String::from_utf8(node.to_bytes()).unwrap();
        for part in
            ["type=\"leaf\"", "pubsub#owner", "juliet@localhost", "pubsub#num_items", "<value>3</value>"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        let closed = String::from_utf8(info(&mut romeo, SERVICE, Some("d")).to_bytes()).unwrap();
        assert!(closed.contains("whitelist") && !closed.contains("juliet@localhost"), "{closed}");
        assert_eq!(outcome(&info(&mut romeo, SERVICE, Some("none"))), "item-not-found");
        assert_eq!(listed(&mut romeo, SERVICE, Some("a"), "").0, named(&["3", "2", "1"]));
        let page = format!("<set xmlns='{RSM}'><max>1</max><after>3</after></set>");
        let (found, set) = listed(&mut romeo, SERVICE, Some("a"), &page);
        assert_eq!((found, set.unwrap().find("count", RSM).unwrap().content()), (named(&["2"]), "3".into()));
        let refused = romeo.ask("get", Some(SERVICE), &format!("<query xmlns='{DISCO_ITEMS}' node='d'/>"));
        assert_eq!(said(&refused), "not-allowed closed-node");
        assert_eq!(outcome(&romeo.ask("get", Some(SERVICE), "<ping xmlns='urn:xmpp:ping'/>")), "result");
    });
}

#[test]
fn a_service_that_is_switched_off_is_not_there() {
    crate::support::on_each_driver_with(
        |config| config.pubsub.enabled = false,
        |server| {
            server.accounts(&["juliet"]);
            let mut juliet = server.login("juliet", "balcony");
            assert_eq!(get(&mut juliet, "news"), Err("remote-server-not-found".into()));
            assert!(!listed(&mut juliet, "localhost", None, "").0.contains(&format!("{SERVICE} -")));
        },
    );
}
