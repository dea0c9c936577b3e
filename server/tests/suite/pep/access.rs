//! Who may look at whose nodes, publish to them and be subscribed, and what strangers learn of them.

use whimbrel_storage::directory::{Item, Subscription, run_inline};

use super::*;
use crate::support::answers::{befriend, contact, payload};
use crate::support::on_each_driver;

const JULIET: Option<&str> = Some("juliet@localhost");

/// juliet has a node of each access model; romeo sees her presence, paris is in her roster, and she knows nothing of
/// tybalt.
fn verona(server: &TestServer) -> Client {
    server.accounts(&["juliet", "romeo", "paris", "tybalt"]);
    befriend(server, "juliet", "romeo");
    contact(server, "juliet", "paris", Subscription::To);
    let mut juliet = server.login("juliet", "balcony");
    for model in ["open", "presence", "roster", "authorize", "whitelist"] {
        let options = [("access_model", model)];
        assert_eq!(publish_with(&mut juliet, None, (model, "i", &note(model)), &options), "result");
    }
    juliet
}

#[test]
fn each_access_model_lets_in_whom_it_says_and_strangers_learn_nothing() {
    on_each_driver(|server| {
        let _juliet = verona(server);
        let closed = "not-allowed closed-node";
        let presence = "not-authorized presence-subscription-required";
        let group = "not-authorized not-in-roster-group";
        let subscribed = "not-authorized not-subscribed";
        let table = [
            ("romeo", ["result", "result", group, subscribed, closed]),
            ("paris", ["result", presence, group, subscribed, closed]),
            ("tybalt", ["result", "item-not-found", "item-not-found", "item-not-found", "item-not-found"]),
        ];
        for (name, expected) in table {
            let mut client = server.login(name, "x");
            for (node, expected) in
                ["open", "presence", "roster", "authorize", "whitelist"].iter().zip(expected)
            {
                let said = get(&mut client, JULIET, node).map_or_else(|error| error, |_| "result".to_owned());
                assert_eq!(said, expected, "{name} {node}");
            }
            let nobodys = get(&mut client, Some("nobody@localhost"), "presence");
            assert_eq!(nobodys, Err("item-not-found".into()));
        }
    });
}

#[test]
fn contacts_in_named_groups_may_look_at_a_node_for_them() {
    on_each_driver(|server| {
        let mut juliet = verona(server);
        let item = Item {
            contact: "paris@localhost".into(),
            groups: vec!["Suitors".into()],
            listed: true,
            ..Item::default()
        };
        let job = Box::new(move |t: &mut whimbrel_storage::directory::WriteTransaction<'_>| {
            t.put_roster_item("juliet", &item)
        });
        run_inline(&server.server.shared.directory, job).unwrap();
        let fields = [("roster_groups_allowed", "Suitors")];
        let configure = format!("<configure node='roster'>{}</configure>", form("node_config", &fields));
        assert_eq!(said(&ask_as_owner(&mut juliet, "set", &configure)), "result");
        let mut paris = server.login("paris", "x");
        assert_eq!(get(&mut paris, JULIET, "roster"), Ok(vec!["i=roster".into()]));
        let mut romeo = server.login("romeo", "x");
        assert_eq!(get(&mut romeo, JULIET, "roster"), Err("not-authorized not-in-roster-group".into()));
    });
}

#[test]
fn only_the_owner_does_what_is_the_owners() {
    on_each_driver(|server| {
        let _juliet = verona(server);
        let mut romeo = server.login("romeo", "x");
        let mut tybalt = server.login("tybalt", "x");
        let owners = [
            ("get", "<configure node='open'/>"),
            ("set", "<delete node='open'/>"),
            ("set", "<purge node='open'/>"),
            ("get", "<affiliations node='open'/>"),
            ("get", "<subscriptions node='open'/>"),
        ];
        for (typ, inside) in owners {
            let asked = format!("<pubsub xmlns='{OWNER}'>{inside}</pubsub>");
            assert_eq!(said(&romeo.ask(typ, JULIET, &asked)), "forbidden", "{inside}");
            assert_eq!(said(&tybalt.ask(typ, JULIET, &asked)), "item-not-found", "{inside}");
        }
        for (client, expected) in [(&mut romeo, "forbidden"), (&mut tybalt, "item-not-found")] {
            assert_eq!(said(&ask(client, "set", JULIET, "<create node='n'/>")), expected);
            assert_eq!(publish_with(client, JULIET, ("none", "i", &note("x")), &[]), "item-not-found");
        }
        assert_eq!(publish_with(&mut romeo, JULIET, ("open", "i", &note("x")), &[]), "forbidden");
        assert_eq!(publish_with(&mut tybalt, JULIET, ("presence", "i", &note("x")), &[]), "item-not-found");
        let retract = "<retract node='open'><item id='i'/></retract>";
        assert_eq!(said(&ask(&mut romeo, "set", JULIET, retract)), "forbidden");
    });
}

#[test]
fn affiliations_let_in_by_name_and_shut_out() {
    on_each_driver(|server| {
        let mut juliet = verona(server);
        let set = |jid: &str, affiliation: &str, node: &str| {
            format!(
                "<affiliations node='{node}'><affiliation jid='{jid}' affiliation='{affiliation}'/></affiliations>"
            )
        };
        let mut change = |jid: &str, affiliation: &str, node: &str| {
            said(&ask_as_owner(&mut juliet, "set", &set(jid, affiliation, node)))
        };
        assert_eq!(change("tybalt@localhost", "member", "whitelist"), "result");
        assert_eq!(change("paris@localhost", "publisher", "whitelist"), "result");
        assert_eq!(change("romeo@localhost", "outcast", "open"), "result");
        assert_eq!(change("romeo@localhost", "owner", "open"), "not-acceptable");
        assert_eq!(change("juliet@localhost", "none", "open"), "not-acceptable");
        let mut tybalt = server.login("tybalt", "x");
        let mut paris = server.login("paris", "x");
        let mut romeo = server.login("romeo", "x");
        assert_eq!(get(&mut tybalt, JULIET, "whitelist"), Ok(vec!["i=whitelist".into()]));
        assert_eq!(publish_with(&mut tybalt, JULIET, ("whitelist", "t", &note("x")), &[]), "forbidden");
        assert_eq!(publish_with(&mut paris, JULIET, ("whitelist", "p", &note("by paris")), &[]), "result");
        let answer = ask(&mut tybalt, "get", JULIET, "<items node='whitelist'/>");
        let publisher = payload(&answer).find("items", PUBSUB).unwrap().elements().next().unwrap();
        assert_eq!(publisher.attribute("publisher"), Some("paris@localhost"));
        assert_eq!(get(&mut romeo, JULIET, "open"), Err("forbidden".into()));
        let own = ask(&mut paris, "get", JULIET, "<affiliations/>");
        let rows = payload(&own).find("affiliations", PUBSUB).unwrap();
        let rows: Vec<_> = rows
            .elements()
            .map(|row| (row.attribute("node").unwrap(), row.attribute("affiliation").unwrap()))
            .collect();
        assert_eq!(rows, [("whitelist", "publisher")]);
        let answer = ask_as_owner(&mut juliet, "get", "<affiliations node='whitelist'/>");
        let rows = payload(&answer).find("affiliations", OWNER).unwrap();
        let rows: Vec<_> = rows
            .elements()
            .map(|row| (row.attribute("jid").unwrap(), row.attribute("affiliation").unwrap()))
            .collect();
        let expected =
            [("juliet@localhost", "owner"), ("paris@localhost", "publisher"), ("tybalt@localhost", "member")];
        assert_eq!(rows, expected);
    });
}

#[test]
fn subscriptions_are_asked_for_granted_listed_and_ended() {
    on_each_driver(|server| {
        let mut juliet = verona(server);
        let mut romeo = server.login("romeo", "x");
        let subscribe = |verb: &str, node: &str, jid: &str| format!("<{verb} node='{node}' jid='{jid}'/>");
        let bare = "romeo@localhost";
        let mut romeos = |inside: &str| {
            let answer = ask(&mut romeo, "set", JULIET, inside);
            let state = answer.find("pubsub", PUBSUB).and_then(|pubsub| pubsub.find("subscription", PUBSUB));
            state.map_or_else(|| said(&answer), |state| state.attribute("subscription").unwrap().to_owned())
        };
        for (inside, expected) in [
            (subscribe("subscribe", "open", "paris@localhost"), "bad-request invalid-jid"),
            (subscribe("subscribe", "open", bare), "subscribed"),
            (subscribe("subscribe", "open", bare), "subscribed"),
            (subscribe("subscribe", "open", "romeo@localhost/x"), "subscribed"),
            (subscribe("subscribe", "whitelist", bare), "not-allowed closed-node"),
            (subscribe("subscribe", "none", bare), "item-not-found"),
            (subscribe("subscribe", "authorize", bare), "pending"),
            (subscribe("subscribe", "authorize", bare), "not-authorized pending-subscription"),
            (subscribe("unsubscribe", "open", "romeo@localhost/x"), "result"),
            (subscribe("unsubscribe", "open", "romeo@localhost/x"), "unexpected-request not-subscribed"),
            (subscribe("unsubscribe", "open", "paris@localhost"), "forbidden"),
        ] {
            assert_eq!(romeos(&inside), expected, "{inside}");
        }
        assert_eq!(get(&mut romeo, JULIET, "authorize"), Err("not-authorized pending-subscription".into()));
        let list = |answer: &Element, namespace: &str| {
            let rows = payload(answer).find("subscriptions", namespace).unwrap();
            let row = |row: &Element| {
                format!("{} {}", row.attribute("jid").unwrap(), row.attribute("subscription").unwrap())
            };
            rows.elements().map(row).collect::<Vec<_>>()
        };
        let waiting = ask_as_owner(&mut juliet, "get", "<subscriptions node='authorize'/>");
        assert_eq!(list(&waiting, OWNER), ["romeo@localhost pending"]);
        let grant = "<subscriptions node='authorize'><subscription jid='romeo@localhost' subscription='subscribed'/></subscriptions>";
        assert_eq!(said(&ask_as_owner(&mut juliet, "set", grant)), "result");
        assert_eq!(get(&mut romeo, JULIET, "authorize"), Ok(vec!["i=authorize".into()]));
        let own = ask(&mut romeo, "get", JULIET, "<subscriptions/>");
        assert_eq!(list(&own, PUBSUB), ["romeo@localhost subscribed"; 2]);
    });
}

#[test]
fn there_are_no_more_members_than_the_limit_allows() {
    let configure = |config: &mut whimbrel_server::config::Config| config.limits.pep_members = 1;
    crate::support::on_each_driver_with(configure, |server| {
        let mut juliet = verona(server);
        let mut romeo = server.login("romeo", "x");
        let mut paris = server.login("paris", "x");
        let subscribe = |name: &str| format!("<subscribe node='open' jid='{name}@localhost'/>");
        assert_eq!(said(&ask(&mut romeo, "set", JULIET, &subscribe("romeo"))), "result");
        let full = "resource-constraint too-many-subscriptions";
        assert_eq!(said(&ask(&mut paris, "set", JULIET, &subscribe("paris"))), full);
        assert_eq!(
            said(&ask(&mut romeo, "set", JULIET, "<unsubscribe node='open' jid='romeo@localhost'/>")),
            "result"
        );
        assert_eq!(said(&ask(&mut paris, "set", JULIET, &subscribe("paris"))), "result");
        let mut affiliate = |name: &str| {
            let one = format!("<affiliation jid='{name}@localhost' affiliation='outcast'/>");
            said(&ask_as_owner(
                &mut juliet,
                "set",
                &format!("<affiliations node='open'>{one}</affiliations>"),
            ))
        };
        assert_eq!(affiliate("romeo"), full);
        assert_eq!(affiliate("paris"), "result", "it has a place");
    });
}

#[test]
fn whom_the_owner_blocks_finds_no_nodes() {
    on_each_driver(|server| {
        let mut juliet = verona(server);
        let block = "<block xmlns='urn:xmpp:blocking'><item jid='romeo@localhost'/></block>";
        assert_eq!(outcome(&juliet.ask("set", None, block)), "result");
        let mut romeo = server.login("romeo", "x");
        assert_eq!(get(&mut romeo, JULIET, "open"), Err("item-not-found".into()));
        assert_eq!(get(&mut romeo, Some("nobody@localhost"), "open"), Err("item-not-found".into()));
    });
}
