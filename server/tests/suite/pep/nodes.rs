//! What an owner does with nodes: make, configure, publish, retract, purge, delete.

use super::*;
use crate::support::answers::payload;
use crate::support::{drivers, on_each_driver, on_each_driver_with};

#[test]
fn items_are_published_and_given_back_newest_first() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        let options = [("max_items", "max"), ("access_model", "open")];
        for number in 1..=3 {
            let item = ("n", format!("i{number}"), note(&number.to_string()));
            let item = (item.0, item.1.as_str(), item.2.as_str());
            assert_eq!(publish_with(&mut juliet, None, item, &options), "result");
        }
        assert_eq!(get(&mut juliet, None, "n"), Ok(vec!["i3=3".into(), "i2=2".into(), "i1=1".into()]));
        let newest = ask(&mut juliet, "get", None, "<items node='n' max_items='1'/>");
        assert_eq!(items(&newest), Ok(vec!["i3=3".into()]));
        let some = "<items node='n'><item id='i1'/><item id='none'/><item id='i2'/></items>";
        assert_eq!(items(&ask(&mut juliet, "get", None, some)), Ok(vec!["i1=1".into(), "i2=2".into()]));
        assert_eq!(publish(&mut juliet, "n", "i1", &note("again")), "result");
        assert_eq!(get(&mut juliet, None, "n"), Ok(vec!["i1=again".into(), "i3=3".into(), "i2=2".into()]));
        let both =
            format!("<publish node='n'><item>{0}</item><item id='x'>{0}</item></publish>", note("both"));
        let answer = ask(&mut juliet, "set", None, &both);
        let published = payload(&answer).find("publish", PUBSUB).unwrap();
        let ids: Vec<&str> = published.elements().map(|item| item.attribute("id").unwrap()).collect();
        assert_eq!((ids[0].len(), ids[1]), (24, "x"), "an item without an id gets one");
        assert_eq!(server.metric("pep.published"), 6);
    });
}

#[test]
fn a_node_keeps_as_many_items_as_it_is_told() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        for id in ["a", "b"] {
            assert_eq!(publish(&mut juliet, "one", id, &note(id)), "result");
        }
        assert_eq!(get(&mut juliet, None, "one"), Ok(vec!["b=b".into()]), "one is the default");
        for id in ["a", "b", "c"] {
            publish_with(&mut juliet, None, ("two", id, &note(id)), &[("max_items", "2")]);
        }
        assert_eq!(get(&mut juliet, None, "two"), Ok(vec!["c=c".into(), "b=b".into()]));
        let configure =
            format!("<configure node='two'>{}</configure>", form("node_config", &[("max_items", "1")]));
        assert_eq!(said(&ask_as_owner(&mut juliet, "set", &configure)), "result");
        assert_eq!(get(&mut juliet, None, "two"), Ok(vec!["c=c".into()]));
        let three =
            format!("<publish node='two'>{}</publish>", format!("<item>{}</item>", note("x")).repeat(2));
        assert_eq!(said(&ask(&mut juliet, "set", None, &three)), "not-allowed max-items-exceeded");
    });
}

#[test]
fn publish_options_make_a_node_and_are_checked_later() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        let item = ("n", "i", "<a xmlns='urn:a'/>");
        let private = [("access_model", "whitelist"), ("persist_items", "true"), ("max_items", "max")];
        assert_eq!(publish_with(&mut juliet, None, item, &private), "result");
        assert_eq!(publish_with(&mut juliet, None, item, &private), "result");
        assert_eq!(publish(&mut juliet, item.0, item.1, item.2), "result", "no condition is met by all");
        for other in [("access_model", "open"), ("persist_items", "0"), ("max_items", "7"), ("nonsense", "1")]
        {
            let answer = publish_with(&mut juliet, None, ("n", "j", item.2), &[other]);
            assert_eq!(answer, "conflict precondition-not-met", "{other:?}");
        }
        assert_eq!(get(&mut juliet, None, "n"), Ok(vec!["i=".into()]), "nothing of it was published");
        let configured = ask_as_owner(&mut juliet, "get", "<configure node='n'/>");
        let form = payload(&configured).find("configure", OWNER).unwrap().elements().next().unwrap();
        let value = |name: &str| {
            let field = form.elements().find(|field| field.attribute("var") == Some(name)).expect(name);
            field.find("value", "jabber:x:data").map(|value| value.content().into_owned())
        };
        assert_eq!(value("pubsub#access_model").as_deref(), Some("whitelist"));
        assert_eq!(value("pubsub#max_items").as_deref(), Some("max"));
    });
}

#[test]
fn nodes_are_made_configured_purged_and_deleted_by_their_owner() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        let config = form("node_config", &[("access_model", "open"), ("title", "T"), ("itemreply", "owner")]);
        let create = format!("<create node='n'/><configure>{config}</configure>");
        assert_eq!(said(&ask(&mut juliet, "set", None, &create)), "result");
        assert_eq!(said(&ask(&mut juliet, "set", None, &create)), "conflict");
        let instant = ask(&mut juliet, "set", None, "<create/>");
        let name = payload(&instant).find("create", PUBSUB).unwrap().attribute("node").unwrap().to_owned();
        assert_eq!(name.len(), 24);
        publish(&mut juliet, "n", "i", &note("x"));
        for (inside, expected) in [
            ("<purge node='n'/>", "result"),
            ("<purge node='none'/>", "item-not-found"),
            ("<delete node='n'/>", "result"),
            ("<delete node='n'/>", "item-not-found"),
        ] {
            assert_eq!(said(&ask_as_owner(&mut juliet, "set", inside)), expected, "{inside}");
        }
        assert_eq!(get(&mut juliet, None, "n"), Err("item-not-found".into()));
        let unknown =
            format!("<configure node='{name}'>{}</configure>", form("node_config", &[("king", "1")]));
        assert_eq!(said(&ask_as_owner(&mut juliet, "set", &unknown)), "not-acceptable");
        let cancel = format!("<configure node='{name}'><x xmlns='jabber:x:data' type='cancel'/></configure>");
        assert_eq!(said(&ask_as_owner(&mut juliet, "set", &cancel)), "result");
        let default = ask_as_owner(&mut juliet, "get", "<default/>");
        assert!(payload(&default).find("default", OWNER).is_some());
    });
}

#[test]
fn items_are_retracted_by_their_ids() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        for id in ["a", "b", "c"] {
            publish_with(&mut juliet, None, ("n", id, &note(id)), &[("max_items", "max")]);
        }
        let retract = |ids: &[&str]| {
            let items: String = ids.iter().map(|id| format!("<item id='{id}'/>")).collect();
            format!("<retract node='n'>{items}</retract>")
        };
        for (ids, expected) in
            [(&["a", "none"][..], "item-not-found"), (&["a", "b"], "result"), (&["a"], "item-not-found")]
        {
            assert_eq!(said(&ask(&mut juliet, "set", None, &retract(ids))), expected, "{ids:?}");
        }
        assert_eq!(get(&mut juliet, None, "n"), Ok(vec!["c=c".into()]), "all of them or none");
    });
}

#[test]
fn a_publication_that_does_not_fit_its_node_is_refused() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        let quiet = [("persist_items", "0"), ("deliver_payloads", "0")];
        let create = |node: &str, fields: &[(&str, &str)]| {
            format!("<create node='{node}'/><configure>{}</configure>", form("node_config", fields))
        };
        ask(&mut juliet, "set", None, &create("quiet", &quiet));
        ask(&mut juliet, "set", None, &create("passing", &quiet[..1]));
        ask(&mut juliet, "set", None, &create("kept", &[]));
        for (node, inside, expected) in [
            ("quiet", "", "result"),
            ("quiet", "<item><a xmlns='urn:a'/></item>", "bad-request item-forbidden"),
            ("passing", "", "bad-request item-required"),
            ("passing", "<item/>", "bad-request payload-required"),
            ("passing", "<item id='i'><a xmlns='urn:a'/></item>", "result"),
            ("kept", "", "bad-request item-required"),
            ("kept", "<item><a xmlns='urn:a'/><b xmlns='urn:b'/></item>", "bad-request invalid-payload"),
        ] {
            let publish = format!("<publish node='{node}'>{inside}</publish>");
            assert_eq!(said(&ask(&mut juliet, "set", None, &publish)), expected, "{node} {inside}");
        }
        assert_eq!(get(&mut juliet, None, "passing"), Ok(vec![]), "what is not kept is not there");
        let retract = "<retract node='passing'><item id='i'/></retract>";
        assert_eq!(said(&ask(&mut juliet, "set", None, retract)), "feature-not-implemented unsupported");
    });
}

#[test]
fn many_items_come_page_by_page_and_a_long_answer_ends_before_it_is_too_long() {
    let configure = |config: &mut whimbrel_server::config::Config| config.limits.pep_answer_bytes = 2000;
    on_each_driver_with(configure, |server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        for number in 0..10 {
            let text = format!("{number}{}", "x".repeat(400));
            publish_with(
                &mut juliet,
                None,
                ("n", &format!("i{number}"), &note(&text)),
                &[("max_items", "max")],
            );
        }
        let mut page = |set: &str| {
            let set = if set.is_empty() { String::new() } else { format!("<set xmlns='{RSM}'>{set}</set>") };
            let answer = ask(&mut juliet, "get", None, &format!("<items node='n'/>{set}"));
            let ids =
                items(&answer).map(|items| items.iter().map(|item| item[..2].to_owned()).collect::<Vec<_>>());
            let bounds =
                answer.find("pubsub", PUBSUB).and_then(|pubsub| pubsub.find("set", RSM)).map(|set| {
                    let text = |name| {
                        set.find(name, RSM).map(|child| child.content().into_owned()).unwrap_or_default()
                    };
                    (text("first"), text("last"), text("count"))
                });
            (ids, bounds)
        };
        let ids = |ids: &[&str]| Ok::<Vec<String>, String>(ids.iter().map(|id| (*id).to_owned()).collect());
        let bounds = |first: &str, last: &str| Some((first.to_owned(), last.to_owned(), "10".to_owned()));
        assert_eq!(page(""), (ids(&["i9", "i8", "i7"]), bounds("i9", "i7")), "as many as fit");
        assert_eq!(page("<after>i7</after>"), (ids(&["i6", "i5", "i4"]), bounds("i6", "i4")));
        assert_eq!(page("<max>2</max><after>i4</after>"), (ids(&["i3", "i2"]), bounds("i3", "i2")));
        assert_eq!(page("<max>2</max><before>i3</before>"), (ids(&["i5", "i4"]), bounds("i5", "i4")));
        assert_eq!(page("<max>2</max><before/>"), (ids(&["i1", "i0"]), bounds("i1", "i0")));
        assert_eq!(page("<max>0</max>"), (ids(&[]), Some((String::new(), String::new(), "10".into()))));
        assert_eq!(page("<after>none</after>").0, Err("item-not-found".into()));
        assert_eq!(page("<index>3</index>").0, Err("feature-not-implemented unsupported".into()));
    });
}

#[test]
fn the_limits_of_an_account_hold_and_what_goes_makes_room() {
    let configure = |config: &mut whimbrel_server::config::Config| {
        config.limits.pep_nodes = 3;
        config.limits.pep_item_bytes = 3000;
        config.limits.pep_bytes = 8000;
        config.limits.pep_items = 4;
    };
    on_each_driver_with(configure, |server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let long = |bytes: usize| note(&"x".repeat(bytes));
        assert_eq!(publish(&mut juliet, "a", "i", &long(3000)), "not-acceptable payload-too-big");
        assert_eq!(server.metric("refused.pep_item_bytes"), 1);
        assert_eq!(publish(&mut juliet, "a", "i", &long(2500)), "result");
        assert_eq!(publish(&mut juliet, "b", "i", &long(2500)), "result");
        assert_eq!(publish(&mut juliet, "c", "i", &long(2500)), "resource-constraint");
        assert_eq!(get(&mut juliet, None, "c"), Err("item-not-found".into()), "no node was made of it");
        assert_eq!(publish(&mut juliet, "b", "j", &long(2600)), "result", "the old one goes");
        assert_eq!(said(&ask(&mut juliet, "set", None, "<create node='c'/>")), "result");
        assert_eq!(
            said(&ask(&mut juliet, "set", None, "<create node='d'/>")),
            "resource-constraint max-nodes-exceeded"
        );
        assert_eq!(
            publish(&mut juliet, "d", "i", "<a xmlns='urn:a'/>"),
            "resource-constraint max-nodes-exceeded"
        );
        let five = form("node_config", &[("max_items", "5")]);
        let configure = format!("<configure node='c'>{five}</configure>");
        assert_eq!(said(&ask_as_owner(&mut juliet, "set", &configure)), "not-acceptable");
        assert_eq!(said(&ask_as_owner(&mut juliet, "set", "<delete node='b'/>")), "result");
        assert_eq!(publish(&mut juliet, "c", "i", &long(2500)), "result");
        let mut romeo = server.login("romeo", "orchard");
        assert_eq!(publish(&mut romeo, "a", "i", &long(2500)), "result", "another account has its own");
    });
}

#[test]
fn an_account_says_what_it_can_do_and_which_nodes_it_has() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        crate::support::answers::befriend(server, "juliet", "romeo");
        let mut juliet = server.login("juliet", "balcony");
        let mut romeo = server.login("romeo", "orchard");
        publish_with(
            &mut juliet,
            None,
            ("open", "i", &note("x")),
            &[("access_model", "open"), ("title", "T")],
        );
        publish_with(&mut juliet, None, ("closed", "i", &note("x")), &[("access_model", "whitelist")]);
        for client in [&mut juliet, &mut romeo] {
            let to = Some("juliet@localhost");
            let answer = client.ask("get", to, "<query xmlns='http://jabber.org/protocol/disco#info'/>");
            let info = payload(&answer);
            let pep = info.elements().any(|child| {
                child.attribute("category") == Some("pubsub") && child.attribute("type") == Some("pep")
            });
            assert!(pep, "{info:?}");
            for feature in ["", "#publish-options", "#auto-create", "#config-node-max", "#persistent-items"] {
                let name = format!("{PUBSUB}{feature}");
                assert!(info.elements().any(|child| child.attribute("var") == Some(&name)), "{name}");
            }
        }
        let nodes = |client: &mut Client| {
            let query = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
            let answer = client.ask("get", Some("juliet@localhost"), query);
            let nodes =
                payload(&answer).elements().filter_map(|item| item.attribute("node").map(str::to_owned));
            nodes.collect::<Vec<_>>()
        };
        assert_eq!(nodes(&mut juliet), ["closed", "open"]);
        assert_eq!(nodes(&mut romeo), ["open"]);
        let info = |client: &mut Client, node: &str| {
            let query = format!("<query xmlns='http://jabber.org/protocol/disco#info' node='{node}'/>");
            client.ask("get", Some("juliet@localhost"), &query)
        };
        let answer = info(&mut romeo, "open");
        let leaf = payload(&answer).elements().next().unwrap();
        assert_eq!((leaf.attribute("category"), leaf.attribute("type")), (Some("pubsub"), Some("leaf")));
        let form = payload(&answer).find("x", "jabber:x:data").expect("what the node is");
        assert!(form.elements().any(|field| field.attribute("var") == Some("pubsub#access_model")));
        assert_eq!(outcome(&info(&mut romeo, "closed")), "item-not-found");
    });
}

#[test]
fn nodes_are_kept_over_a_restart_and_go_with_their_account() {
    for driver in drivers() {
        let server = TestServer::start(driver, |_| {});
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        assert_eq!(publish(&mut juliet, "n", "i", &note("kept")), "result");
        drop(juliet);
        let server = server.restart(|_| {});
        let mut juliet = server.login("juliet", "balcony");
        assert_eq!(get(&mut juliet, None, "n"), Ok(vec!["i=kept".into()]));
        juliet.send("<iq type='set' id='r'><query xmlns='jabber:iq:register'><remove/></query></iq>");
        juliet.expect_some_stream_error();
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        assert_eq!(get(&mut juliet, None, "n"), Err("item-not-found".into()), "a new account of the name");
    }
}
