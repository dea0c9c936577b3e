//! Clients that ask for too much, or say what they should not: what they get, and who pays.

use super::*;
use crate::support::answers::befriend;
use crate::support::{PATIENCE, TestServer, drivers, flood_thousands, on_each_driver, on_each_driver_with};

const JULIET: Option<&str> = Some("juliet@localhost");

/// Asks for so many things at once, each with its number as id; the answers in short, with how often each came.
fn ask_many(client: &mut Client, count: usize, inside: impl Fn(usize) -> String) -> Vec<(String, usize)> {
    let requests: String = (0..count)
        .map(|number| {
            format!("<iq type='set' id='m{number}'><pubsub xmlns='{PUBSUB}'>{}</pubsub></iq>", inside(number))
        })
        .collect();
    client.send(&requests);
    let mut answers = std::collections::BTreeMap::new();
    for number in 0..count {
        let id = format!("m{number}");
        let answer = client.set_aside_until(|stanza| stanza.attribute("id") == Some(&id));
        *answers.entry(said(&answer)).or_default() += 1;
    }
    answers.into_iter().collect()
}

#[test]
fn a_flood_of_nodes_ends_at_the_limit_and_harms_nobody() {
    let configure = |config: &mut whimbrel_server::config::Config| {
        config.workers = 1;
        config.limits.connection_stanzas_burst = 1_000_000;
        config.limits.account_stanzas_burst = 1_000_000;
    };
    let server = TestServer::start(drivers()[0], configure);
    server.accounts(&["mallory", "romeo"]);
    let mut mallory = server.login("mallory", "x");
    let mut romeo = server.login("romeo", "orchard");
    let (mut made, parts) = (0, flood_thousands());
    for part in 0..parts {
        for (answer, count) in
            ask_many(&mut mallory, 1000, |number| format!("<create node='n{part}-{number}'/>"))
        {
            match answer.as_str() {
                "result" => made += count,
                answer => assert_eq!(answer, "resource-constraint max-nodes-exceeded"),
            }
        }
        assert_eq!(publish(&mut romeo, "n", &format!("i{part}"), &note("x")), "result");
    }
    assert_eq!(made, 256);
    assert_eq!(server.metric("refused.account_limits"), parts as u64 * 1000 - 256);
    assert_eq!(get(&mut romeo, None, "n"), Ok(vec![format!("i{}=x", parts - 1)]));
}

#[test]
fn a_configuration_counts_for_the_bytes_of_its_account() {
    let configure = |config: &mut whimbrel_server::config::Config| config.limits.pep_bytes = 4000;
    on_each_driver_with(configure, |server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        let long = "t".repeat(1000);
        let fields = [("title", long.as_str()), ("type", long.as_str())];
        let create = |node: &str| {
            let form = form("node_config", &fields);
            format!("<create node='{node}'/><configure>{form}</configure>")
        };
        assert_eq!(said(&ask(&mut juliet, "set", None, &create("a"))), "result");
        assert_eq!(said(&ask(&mut juliet, "set", None, &create("b"))), "resource-constraint");
        assert_eq!(
            publish_with(&mut juliet, None, ("b", "i", &note("x")), &fields),
            "resource-constraint",
            "conditions make a node as well"
        );
        assert_eq!(said(&ask(&mut juliet, "set", None, "<create node='b'/>")), "result");
        let configure = format!("<configure node='b'>{}</configure>", form("node_config", &fields));
        assert_eq!(said(&ask_as_owner(&mut juliet, "set", &configure)), "resource-constraint");
        let shorter = format!("<configure node='a'>{}</configure>", form("node_config", &[("title", "a")]));
        assert_eq!(said(&ask_as_owner(&mut juliet, "set", &shorter)), "result");
        assert_eq!(said(&ask_as_owner(&mut juliet, "set", &configure)), "result", "now there is room");
    });
}

#[test]
fn fields_that_nobody_knows_change_nothing() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        assert_eq!(publish(&mut juliet, "n", "i", &note("x")), "result");
        let configured =
            |juliet: &mut Client| ask_as_owner(juliet, "get", "<configure node='n'/>").to_bytes().len();
        let before = configured(&mut juliet);
        for fields in [
            [("access_model", "open"), ("nonsense", "1")],
            [("access_model", "nonsense"), ("title", "t")],
            [("title", "t"), ("max_items", "0")],
        ] {
            let configure = format!("<configure node='n'>{}</configure>", form("node_config", &fields));
            assert_ne!(said(&ask_as_owner(&mut juliet, "set", &configure)), "result", "{fields:?}");
            let create = format!("<create node='m'/><configure>{}</configure>", form("node_config", &fields));
            assert_ne!(said(&ask(&mut juliet, "set", None, &create)), "result", "{fields:?}");
            assert_ne!(
                publish_with(&mut juliet, None, ("n", "i", &note("y")), &fields),
                "result",
                "{fields:?}"
            );
        }
        assert_eq!(configured(&mut juliet), before);
        assert_eq!(get(&mut juliet, None, "n"), Ok(vec!["i=x".into()]));
        assert_eq!(get(&mut juliet, None, "m"), Err("item-not-found".into()));
    });
}

/// An answer, and least of all an error, is answered with nothing.
#[test]
fn errors_about_nodes_do_not_go_round() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        befriend(server, "juliet", "romeo");
        let mut juliet = interested(server, "juliet", "balcony", &[]);
        let mut romeo = interested(server, "romeo", "orchard", &["n"]);
        assert_eq!(publish(&mut juliet, "n", "i", &note("x")), "result");
        assert_eq!(heard(&mut juliet, &mut romeo), ["juliet n: i=x"]);
        let error =
            "<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
        let event = format!("<event xmlns='{EVENT}'><items node='n'><item id='i'/></items></event>");
        let pubsub = format!("<pubsub xmlns='{PUBSUB}'><items node='n'/></pubsub>");
        juliet.quiet();
        romeo.send(&format!(
            "<message type='error' to='juliet@localhost'>{event}{error}</message>\
             <iq type='error' id='caps' to='juliet@localhost'>{pubsub}{error}</iq>\
             <iq type='result' id='caps' to='juliet@localhost'>{pubsub}</iq>\
             <iq type='error' id='caps' to='localhost'>{pubsub}{error}</iq>\
             <iq type='error' id='caps'>{error}</iq>"
        ));
        romeo.settle();
        romeo.fence(&mut juliet);
        juliet.fence(&mut romeo);
        let came = [romeo.quiet(), juliet.quiet()].concat();
        assert!(came.is_empty(), "{came:?}");
        assert_eq!(publish(&mut juliet, "n", "j", &note("x")), "result");
        assert_eq!(heard(&mut juliet, &mut romeo), ["juliet n: j=x"], "it is still known what romeo wants");
    });
}

/// Subscribes so many accounts that do not exist to a node of the client's own, which anybody may publish to.
fn crowd(client: &mut Client, count: usize) {
    let create = form("node_config", &[("access_model", "open"), ("publish_model", "open")]);
    let create = format!("<create node='n'/><configure>{create}</configure>");
    assert_eq!(said(&ask(client, "set", None, &create)), "result");
    let subscription =
        |number| format!("<subscription jid='guest{number}@localhost' subscription='subscribed'/>");
    let all: String = (0..count).map(subscription).collect();
    let subscribe = format!("<subscriptions node='n'>{all}</subscriptions>");
    assert_eq!(said(&ask_as_owner(client, "set", &subscribe)), "result");
}

/// Else an account could make the server work for another one's requests as for its own.
#[test]
fn whoever_publishes_to_anothers_node_pays_for_its_recipients() {
    for workers in [1, 2] {
        let configure = |config: &mut whimbrel_server::config::Config| {
            config.workers = workers;
            config.limits.connection_work_burst = 20_000;
            config.limits.connection_work_per_second = 1_000;
        };
        on_each_driver_with(configure, |server| {
            let owner = server.name_at_home_on(0, "owner");
            let publisher = server.name_at_home_on(workers as usize - 1, "publisher");
            server.accounts(&[&owner, &publisher]);
            let mut juliet = server.login(&owner, "balcony");
            crowd(&mut juliet, 250);
            let mut romeo = server.login(&publisher, "orchard");
            let before = server.metric("reading.slowed");
            let to = format!("{owner}@localhost");
            let publish = format!("<publish node='n'><item id='i'>{}</item></publish>", note("x"));
            let publish =
                format!("<iq type='set' id='p' to='{to}'><pubsub xmlns='{PUBSUB}'>{publish}</pubsub></iq>");
            romeo.send(&publish.repeat(40));
            let since = std::time::Instant::now();
            while server.metric("reading.slowed") == before {
                assert!(since.elapsed() < PATIENCE, "40 times 250 recipients cost nothing");
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
    }
}

#[test]
fn what_a_request_makes_the_server_read_or_drop_is_paid_for() {
    let configure = |config: &mut whimbrel_server::config::Config| config.workers = 1;
    on_each_driver_with(configure, |server| {
        server.accounts(&["juliet", "romeo"]);
        befriend(server, "juliet", "romeo");
        let mut juliet = server.login("juliet", "balcony");
        crowd(&mut juliet, 250);
        let items: String =
            (0..200).map(|number| format!("<item id='i{number}'>{}</item>", note("x"))).collect();
        let many = format!(
            "<publish-options>{}</publish-options>",
            form("publish-options", &[("max_items", "max")])
        );
        let publish = format!("<publish node='many'>{items}</publish>{many}");
        assert_eq!(said(&ask(&mut juliet, "set", None, &publish)), "result");
        let mut romeo = server.login("romeo", "orchard");
        let items = "<query xmlns='http://jabber.org/protocol/disco#items' node='many'/>";
        let asked = |inside: &str| format!("<pubsub xmlns='{PUBSUB}'>{inside}</pubsub>");
        for (query, least) in
            [(asked("<subscriptions/>"), 250), (asked("<affiliations/>"), 250), (items.into(), 200)]
        {
            let before = work(server, &mut romeo);
            assert_eq!(outcome(&romeo.ask("get", JULIET, &query)), "result");
            let spent = work(server, &mut romeo) - before;
            assert!(spent >= least, "{spent} units for {query}");
        }
        let before = work(server, &mut juliet);
        assert_eq!(said(&ask_as_owner(&mut juliet, "set", "<purge node='many'/>")), "result");
        let spent = work(server, &mut juliet) - before;
        assert!(spent >= 200, "{spent} units for 200 items that are dropped");
    });
}
