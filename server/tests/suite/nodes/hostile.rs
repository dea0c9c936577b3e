//! Clients that ask for too much, or say what they should not: what they get, and who pays.

use super::*;
use crate::support::answers::outcome;
use crate::support::flood_thousands;

/// Asks for so many things at once, each with its number as id; the answers in short, with how often each came.
fn ask_many(client: &mut Client, count: usize, inside: impl Fn(usize) -> String) -> Vec<(String, usize)> {
    let requests: String = (0..count)
        .map(|number| {
            format!(
                "<iq type='set' id='m{number}' to='{SERVICE}'><pubsub xmlns='{PUBSUB}'>{}</pubsub></iq>",
                inside(number)
            )
        })
        .collect();
    client.send(&requests);
    let mut answers = std::collections::BTreeMap::new();
    // Nodes have different homes, so answers have no order.
    for _ in 0..count {
        let is_answer = |stanza: &Element| stanza.attribute("id").is_some_and(|id| id.starts_with('m'));
        let answer = client.set_aside_until(is_answer);
        client.quiet();
        *answers.entry(said(&answer)).or_default() += 1;
    }
    answers.into_iter().collect()
}

fn unhurried(config: &mut Config) {
    config.limits.connection_stanzas_burst = 1_000_000;
    config.limits.account_stanzas_burst = 1_000_000;
    config.limits.connection_work_burst = 100_000_000;
    config.limits.account_work_burst = 100_000_000;
}

#[test]
fn a_flood_of_subscriptions_ends_at_the_limits_and_harms_nobody() {
    let server = TestServer::start(drivers()[0], |config| {
        unhurried(config);
        config.pubsub.create = NodeMakers::Everyone;
        config.pubsub.per_account = 50;
        config.pubsub.owned_per_account = 100;
        config.pubsub.members_max = 3;
    });
    server.accounts(&["juliet", "mallory", "romeo", "paris"]);
    let mut juliet = server.login("juliet", "balcony");
    let made = (0..49).filter(|number| make(&mut juliet, &format!("n{number}"), &[]) == "result").count();
    assert_eq!(made, 49);
    let mut mallory = server.login("mallory", "x");
    let mut romeo = server.login("romeo", "orchard");
    let (mut subscribed, parts) = (0, flood_thousands());
    for part in 0..parts {
        let subscribe =
            |number: usize| format!("<subscribe node='n{}' jid='mallory@localhost'/>", (part + number) % 49);
        for (answer, count) in ask_many(&mut mallory, 1000, subscribe) {
            assert_eq!(answer, "result");
            subscribed += count;
        }
        assert_eq!(publish(&mut juliet, "n0", &format!("i{part}"), "x"), "result");
    }
    assert_eq!(subscribed, parts * 1000, "a subscription that is there is confirmed");
    let own = ask(&mut mallory, "get", "<subscriptions/>");
    assert_eq!(rows(&own, "subscriptions", &["jid"]).len(), 49);
    // Under the addresses of her clients she has one more, and no more than that.
    assert_eq!(subscribe_as(&mut mallory, "n0", "mallory@localhost/x"), "subscribed");
    let too_many = "resource-constraint too-many-subscriptions";
    assert_eq!(subscribe_as(&mut mallory, "n1", "mallory@localhost/x"), too_many);
    assert_eq!(subscribe(&mut romeo, "n0"), too_many, "the node has its three members");
    assert_eq!(subscribe(&mut romeo, "n1"), "subscribed");
    assert_eq!(server.metric("refused.pubsub_limits"), 2);
    assert_eq!(get(&mut romeo, "n0").map(|items| items[0].clone()), Ok(format!("i{}=x", parts - 1)));
}

#[test]
fn limits_of_the_service_and_of_its_nodes_hold() {
    everywhere_with(
        |config| {
            config.pubsub.nodes_max = 3;
            config.pubsub.owned_per_account = 2;
            config.pubsub.items_max = 2;
            config.pubsub.item_bytes = 1000;
            config.pubsub.mib_per_node = 1;
        },
        |server| {
            server.accounts(&["juliet", "romeo"]);
            let mut juliet = server.login("juliet", "balcony");
            let mut romeo = server.login("romeo", "orchard");
            let too_many = "resource-constraint max-nodes-exceeded";
            let made: Vec<String> = ["a", "b", "c"].iter().map(|name| make(&mut juliet, name, &[])).collect();
            assert_eq!(made, ["result", "result", too_many]);
            assert_eq!(make(&mut romeo, "c", &[]), "result");
            assert_eq!(make(&mut romeo, "d", &[]), too_many);
            let long = "x".repeat(1000);
            assert_eq!(publish(&mut juliet, "a", "long", &long), "not-acceptable payload-too-big");
            assert_eq!(configure(&mut juliet, "a", &[("max_items", "3")]), "not-acceptable");
            for id in ["1", "2", "3"] {
                assert_eq!(publish(&mut juliet, "a", id, "x"), "result");
            }
            assert_eq!(get(&mut romeo, "a"), Ok(vec!["3=x".into(), "2=x".into()]), "the oldest has gone");
            let three: String = (4..7).map(|id| format!("<item id='{id}'>{}</item>", note("x"))).collect();
            let answer = ask(&mut juliet, "set", &format!("<publish node='a'>{three}</publish>"));
            assert_eq!(said(&answer), "not-allowed max-items-exceeded");
            assert_eq!(get(&mut romeo, "a"), Ok(vec!["3=x".into(), "2=x".into()]));
            assert_eq!(server.metric("refused.pubsub_limits"), 2);
            assert_eq!(server.metric("refused.pubsub_item_bytes"), 1);
        },
    );
}

#[test]
fn bytes_of_a_node_and_of_the_service_hold() {
    let configure_with = |per_node: u32, all: u32| {
        move |config: &mut Config| {
            unhurried(config);
            config.pubsub.mib_per_node = per_node;
            config.pubsub.mib_max = all;
        }
    };
    for (per_node, all) in [(1, 8), (8, 1)] {
        everywhere_with(configure_with(per_node, all), |server| {
            server.accounts(&["juliet"]);
            let mut juliet = server.login("juliet", "balcony");
            assert_eq!(make(&mut juliet, "a", &[]), "result");
            assert_eq!(make(&mut juliet, "b", &[]), "result");
            let large = "x".repeat(200_000);
            let said: Vec<String> =
                (0..6).map(|id| publish(&mut juliet, "a", &id.to_string(), &large)).collect();
            assert_eq!(said[..5], ["result"; 5]);
            assert_eq!(said[5], "resource-constraint");
            assert_eq!(publish(&mut juliet, "a", "0", &large), "result", "in place of what is there");
            let other = if per_node < all { "result" } else { "resource-constraint" };
            assert_eq!(publish(&mut juliet, "b", "0", &large), other);
        });
    }
}

#[test]
fn what_is_no_request_gets_the_error_of_the_xep_and_changes_nothing() {
    everywhere(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        assert_eq!(make(&mut juliet, "news", &[]), "result");
        let long = "n".repeat(1024);
        let table = [
            ("set", "", "bad-request"),
            ("set", "<nonsense/>", "bad-request"),
            ("set", "<publish/>", "bad-request nodeid-required"),
            ("set", "<publish node='news'/>", "bad-request item-required"),
            ("set", "<publish node='news'><item/></publish>", "bad-request payload-required"),
            ("set", "<publish node='news'><item><a/><b/></item></publish>", "bad-request invalid-payload"),
            ("set", "<retract node='news'/>", "bad-request item-required"),
            ("set", "<subscribe node='news'/>", "bad-request jid-required"),
            ("set", "<subscribe jid='juliet@localhost'/>", "bad-request nodeid-required"),
            ("set", "<create node='c' type='collection'/>", "feature-not-implemented unsupported"),
            ("set", &format!("<create node='{long}'/>"), "not-acceptable"),
            ("get", "<items/>", "bad-request nodeid-required"),
            ("get", "<options node='news' jid='juliet@localhost'/>", "feature-not-implemented unsupported"),
        ];
        for (typ, inside, expected) in table {
            assert_eq!(said(&ask(&mut juliet, typ, inside)), expected, "{inside:.60}");
        }
        for fields in [
            [("access_model", "open"), ("nonsense", "1")],
            [("access_model", "nonsense"), ("title", "t")],
            [("title", "t"), ("max_items", "0")],
        ] {
            assert_eq!(configure(&mut juliet, "news", &fields), "not-acceptable", "{fields:?}");
            assert_eq!(make(&mut juliet, "more", &fields), "not-acceptable", "{fields:?}");
        }
        assert_eq!(get(&mut juliet, "more"), Err("item-not-found".into()));
        for to in ["pubsub.localhost/x", "news@pubsub.localhost"] {
            let answer = juliet.ask(
                "get",
                Some(to),
                &format!("<pubsub xmlns='{PUBSUB}'><items node='news'/></pubsub>"),
            );
            assert_eq!(outcome(&answer), "service-unavailable", "{to}");
        }
        assert_eq!(
            outcome(&juliet.ask("get", Some(SERVICE), "<query xmlns='jabber:iq:version'/>")),
            "service-unavailable"
        );
    });
}

/// An answer, and least of all an error, is answered with nothing.
#[test]
fn errors_do_not_go_round() {
    everywhere(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.online("juliet", "balcony");
        let mut romeo = server.online("romeo", "orchard");
        assert_eq!(make(&mut juliet, "news", &[]), "result");
        assert_eq!(subscribe(&mut romeo, "news"), "subscribed");
        assert_eq!(publish(&mut juliet, "news", "i", "x"), "result");
        assert_eq!(heard(&mut romeo, "news").len(), 1);
        let error =
            "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
        let event = "<event xmlns='http://jabber.org/protocol/pubsub#event'><items node='news'/></event>";
        let pubsub = format!("<pubsub xmlns='{PUBSUB}'><publish node='news'/></pubsub>");
        romeo.send(&format!(
            "<message type='error' to='{SERVICE}'>{event}{error}</message>\
             <iq type='error' id='a' to='{SERVICE}'>{pubsub}{error}</iq>\
             <iq type='result' id='b' to='{SERVICE}'>{pubsub}</iq>\
             <presence to='{SERVICE}'/><presence type='subscribe' to='{SERVICE}'/><presence type='error' to='{SERVICE}'/>"
        ));
        romeo.settle();
        assert_eq!(heard(&mut romeo, "news"), [""; 0]);
        flush(&mut juliet, "news");
        assert!(juliet.quiet().is_empty());
        assert_eq!(publish(&mut juliet, "news", "j", "x"), "result");
        assert_eq!(heard(&mut romeo, "news"), [format!("{SERVICE} news: j=x")]);
    });
}

/// A publication has as many recipients as its node has subscribers, wherever the node lives.
#[test]
fn a_publisher_pays_for_all_recipients() {
    everywhere(|server| {
        server.accounts(&["juliet", "romeo"]);
        let names: Vec<String> = (0..40).map(|number| format!("guest{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        server.accounts(&names);
        let mut juliet = server.login("juliet", "balcony");
        // Of these some live elsewhere.
        for node in ["a", "b", "c", "d"] {
            assert_eq!(make(&mut juliet, node, &[("publish_model", "open")]), "result");
            let rows: String = names
                .iter()
                .map(|name| format!("<subscription jid='{name}@localhost' subscription='subscribed'/>"))
                .collect();
            let change = format!("<subscriptions node='{node}'>{rows}</subscriptions>");
            assert_eq!(said(&ask_as_owner(&mut juliet, "set", &change)), "result");
            let mut romeo = server.login("romeo", "orchard");
            let billed = server.metric("loop.work");
            assert_eq!(publish(&mut romeo, node, "i", "x"), "result");
            romeo.settle();
            romeo.settle();
            server.await_at_least("loop.work", billed + 80);
        }
    });
}
