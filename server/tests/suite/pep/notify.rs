//! Who hears of what happens to nodes, and when.

use super::*;
use crate::support::answers::{befriend, contact};
use crate::support::{on_each_driver, on_each_driver_with};
use whimbrel_storage::directory::Subscription;

const JULIET: Option<&str> = Some("juliet@localhost");

#[test]
fn own_devices_and_contacts_hear_of_the_nodes_that_they_want_and_of_no_others() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo", "paris", "tybalt"]);
        befriend(server, "juliet", "romeo");
        // He does not see her presence.
        contact(server, "juliet", "paris", Subscription::To);
        let mut juliet = interested(server, "juliet", "balcony", &[]);
        let mut garden = interested(server, "juliet", "garden", &["n"]);
        let mut romeo = interested(server, "romeo", "orchard", &["m", "n"]);
        let mut other = interested(server, "romeo", "other", &["m"]);
        let mut paris = interested(server, "paris", "x", &["n"]);
        let mut tybalt = interested(server, "tybalt", "x", &["n"]);
        for client in [&mut garden, &mut romeo, &mut other, &mut paris, &mut tybalt] {
            juliet.fence(client);
            client.quiet();
        }
        assert_eq!(publish(&mut juliet, "n", "i", &note("x")), "result");
        assert_eq!(heard(&mut juliet, &mut romeo), ["juliet n: i=x"]);
        assert_eq!(heard(&mut juliet, &mut garden), ["juliet n: i=x"]);
        for client in [&mut other, &mut paris, &mut tybalt] {
            assert_eq!(heard(&mut juliet, client), [""; 0], "{}", client.jid);
        }
        assert_eq!(events(&mut juliet), [""; 0], "who does not want to hear of it does not");
    });
}

#[test]
fn retractions_purges_and_ends_of_nodes_are_told() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        befriend(server, "juliet", "romeo");
        let mut juliet = interested(server, "juliet", "balcony", &[]);
        let mut romeo = interested(server, "romeo", "orchard", &["n"]);
        let options = [("max_items", "max"), ("notify_config", "1")];
        for id in ["a", "b"] {
            publish_with(&mut juliet, None, ("n", id, &note(id)), &options);
        }
        assert_eq!(heard(&mut juliet, &mut romeo), ["juliet n: a=a", "juliet n: b=b"]);
        ask(&mut juliet, "set", None, "<retract node='n'><item id='a'/></retract>");
        ask_as_owner(&mut juliet, "set", "<purge node='n'/>");
        let configure = format!("<configure node='n'>{}</configure>", form("node_config", &[("title", "T")]));
        ask_as_owner(&mut juliet, "set", &configure);
        ask_as_owner(&mut juliet, "set", "<delete node='n'/>");
        let expected =
            ["juliet n: retract a", "juliet n: purge", "juliet n: configuration", "juliet n: delete"];
        assert_eq!(heard(&mut juliet, &mut romeo), expected);
        let quiet = [("notify_retract", "0"), ("notify_delete", "0"), ("deliver_payloads", "0")];
        publish_with(&mut juliet, None, ("n", "c", &note("c")), &quiet);
        ask(&mut juliet, "set", None, "<retract node='n'><item id='c'/></retract>");
        ask_as_owner(&mut juliet, "set", "<delete node='n'/>");
        assert_eq!(heard(&mut juliet, &mut romeo), ["juliet n: c="], "as the node is configured");
    });
}

#[test]
fn a_client_that_comes_gets_the_last_item_of_each_node_that_it_wants() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        befriend(server, "juliet", "romeo");
        let mut juliet = interested(server, "juliet", "balcony", &[]);
        for (node, options) in [
            ("n", [("max_items", "max"), ("access_model", "presence")]),
            ("closed", [("max_items", "max"), ("access_model", "whitelist")]),
            ("never", [("max_items", "max"), ("send_last_published_item", "never")]),
            ("more", [("max_items", "max"), ("access_model", "open")]),
        ] {
            for id in ["a", "b"] {
                assert_eq!(publish_with(&mut juliet, None, (node, id, &note(id)), &options), "result");
            }
        }
        let wanted = ["closed", "n", "never"];
        let (n, more) = ("juliet n: b=b (last)", "juliet more: b=b (last)");
        let mut romeo = server.login("romeo", "orchard");
        assert_eq!(come_and_hear(&mut juliet, &mut romeo, &wanted), [n]);
        // The hash is known now: nobody is asked.
        let queries = server.metric("caps.queries");
        publish(&mut juliet, "~z", "i", &note("x"));
        let mut second = server.login("romeo", "second");
        come(&mut second, &[&wanted[..], &["~z"]].concat());
        assert_eq!(await_mark(&mut second, "~z"), [n]);
        let mut third = server.login("romeo", "third");
        third.send(&format!("<presence>{}</presence>", caps(&disco_info(&[&wanted[..], &["~z"]].concat()))));
        assert_eq!(await_mark(&mut third, "~z"), [n]);
        assert_eq!(server.metric("caps.queries"), queries + 1);
        // It says the same again, which changes nothing, and then that it wants more.
        third.send(&format!(
            "<presence><show>away</show>{}</presence>",
            caps(&disco_info(&[&wanted[..], &["~z"]].concat()))
        ));
        // Nobody knows what it wants when it has said so, so it gets both.
        assert_eq!(come_and_hear(&mut juliet, &mut third, &["more", "n"]), [more, n]);
        // It has wanted this before.
        third.send(&format!("<presence>{}</presence>", caps(&disco_info(&[&wanted[..], &["~z"]].concat()))));
        assert_eq!(come_and_hear(&mut juliet, &mut third, &["never"]), ["juliet ~z: i=x (last)"; 0]);
        // Her own other device.
        let mut garden = server.login("juliet", "garden");
        assert_eq!(come_and_hear(&mut juliet, &mut garden, &wanted), ["juliet closed: b=b (last)", n]);
    });
}

#[test]
fn a_new_subscriber_to_presence_gets_the_last_items() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = interested(server, "juliet", "balcony", &[]);
        let mut romeo = interested(server, "romeo", "orchard", &["n"]);
        publish(&mut juliet, "n", "i", &note("x"));
        assert_eq!(heard(&mut juliet, &mut romeo), [""; 0]);
        romeo.send("<presence type='subscribe' to='juliet@localhost'/>");
        crate::support::roster::sync(&mut romeo, &mut juliet);
        juliet.send("<presence type='subscribed' to='romeo@localhost'/>");
        juliet.settle();
        assert_eq!(next_event(&mut romeo), "juliet n: i=x (last)");
    });
}

#[test]
fn subscribers_hear_of_their_nodes_whatever_their_clients_announce() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "tybalt"]);
        let mut juliet = interested(server, "juliet", "balcony", &[]);
        let mut tybalt = server.online("tybalt", "street");
        let mut second = server.online("tybalt", "second");
        publish_with(&mut juliet, None, ("n", "a", &note("a")), &[("access_model", "open")]);
        let subscribe = "<subscribe node='n' jid='tybalt@localhost'/>";
        assert_eq!(said(&ask(&mut tybalt, "set", JULIET, subscribe)), "result");
        assert_eq!(heard(&mut juliet, &mut tybalt), ["juliet n: a=a (last)"]);
        publish(&mut juliet, "n", "b", &note("b"));
        for client in [&mut tybalt, &mut second] {
            let events = heard(&mut juliet, client);
            assert_eq!(events.last().map(String::as_str), Some("juliet n: b=b"), "{}", client.jid);
        }
        let end = "<subscriptions node='n'><subscription jid='tybalt@localhost' subscription='none'/></subscriptions>";
        assert_eq!(said(&ask_as_owner(&mut juliet, "set", end)), "result");
        publish(&mut juliet, "n", "c", &note("c"));
        assert_eq!(heard(&mut juliet, &mut tybalt), ["juliet n: subscription"]);
    });
}

/// A subscription outlasts what it was granted for.
#[test]
fn a_subscriber_who_may_not_look_any_more_hears_nothing() {
    on_each_driver_with(
        |config| config.workers = 1,
        |server| {
            server.accounts(&["juliet", "romeo", "tybalt"]);
            befriend(server, "juliet", "romeo");
            let mut juliet = interested(server, "juliet", "balcony", &[]);
            let mut romeo = server.online("romeo", "orchard");
            let mut tybalt = server.online("tybalt", "street");
            publish(&mut juliet, "hers", "a", &note("a"));
            publish_with(&mut juliet, None, ("n", "a", &note("a")), &[("access_model", "open")]);
            let subscribe =
                |node: &str, jid: &str| format!("<subscribe node='{node}' jid='{jid}@localhost'/>");
            for node in ["hers", "n"] {
                assert_eq!(said(&ask(&mut romeo, "set", JULIET, &subscribe(node, "romeo"))), "result");
            }
            assert_eq!(said(&ask(&mut tybalt, "set", JULIET, &subscribe("n", "tybalt"))), "result");
            let block = "<block xmlns='urn:xmpp:blocking'><item jid='tybalt@localhost'/></block>";
            assert_eq!(outcome(&juliet.ask("set", None, block)), "result");
            juliet.send("<presence to='romeo@localhost' type='unsubscribed'/>");
            juliet.settle();
            heard(&mut juliet, &mut romeo);
            tybalt.settle();
            assert_eq!(events(&mut tybalt), ["juliet n: a=a (last)"]);
            publish(&mut juliet, "hers", "b", &note("b"));
            publish(&mut juliet, "n", "b", &note("b"));
            flush(&mut juliet);
            tybalt.settle();
            assert_eq!(events(&mut tybalt), [""; 0], "he is blocked");
            assert_eq!(heard(&mut juliet, &mut romeo), ["juliet n: b=b"], "he does not see her presence");
            let closed = form("node_config", &[("access_model", "whitelist")]);
            let closed = format!("<configure node='n'>{closed}</configure>");
            assert_eq!(said(&ask_as_owner(&mut juliet, "set", &closed)), "result");
            publish(&mut juliet, "n", "c", &note("c"));
            assert_eq!(heard(&mut juliet, &mut romeo), [""; 0], "it is closed");
        },
    );
}

#[test]
fn whom_one_blocks_hears_nothing_and_is_not_heard() {
    on_each_driver_with(
        |config| config.workers = 1,
        |server| {
            server.accounts(&["juliet", "romeo"]);
            befriend(server, "juliet", "romeo");
            let mut juliet = interested(server, "juliet", "balcony", &["n"]);
            let mut romeo = interested(server, "romeo", "orchard", &["n"]);
            juliet.ask("set", None, "<block xmlns='urn:xmpp:blocking'><item jid='romeo@localhost'/></block>");
            publish(&mut juliet, "n", "hers", &note("x"));
            publish(&mut romeo, "n", "his", &note("x"));
            flush(&mut juliet);
            flush(&mut romeo);
            juliet.settle();
            assert_eq!(events(&mut romeo), ["romeo n: his=x"]);
            assert_eq!(events(&mut juliet), ["juliet n: hers=x"]);
        },
    );
}

/// A client may lie about what its hash stands for; then the next one that has it is asked.
#[test]
fn an_answer_with_another_hash_counts_for_nothing() {
    on_each_driver_with(
        |config| config.workers = 1,
        |server| {
            server.accounts(&["juliet", "romeo"]);
            befriend(server, "juliet", "romeo");
            let mut juliet = interested(server, "juliet", "balcony", &[]);
            let info = disco_info(&["n"]);
            let mut liar = server.login("romeo", "liar");
            liar.send(&format!("<presence>{}</presence>", caps(&info)));
            liar.settle();
            answer_disco(&mut liar, &disco_info(&["everything"]));
            liar.settle();
            assert_eq!((server.metric("caps.queries"), server.metric("caps.refused_answers")), (2, 1));
            let mut honest = server.login("romeo", "honest");
            honest.send(&format!("<presence>{}</presence>", caps(&info)));
            honest.settle();
            answer_disco(&mut honest, &info);
            honest.settle();
            publish(&mut juliet, "n", "i", &note("x"));
            publish(&mut juliet, "everything", "i", &note("x"));
            assert_eq!(heard(&mut juliet, &mut honest), ["juliet n: i=x"]);
            assert_eq!(heard(&mut juliet, &mut liar), [""; 0]);
            assert_eq!(server.metric("caps.hashes"), 2);
        },
    );
}

#[test]
fn clients_beyond_the_room_for_hashes_hear_of_no_node() {
    let configure = |config: &mut whimbrel_server::config::Config| {
        config.workers = 1;
        config.limits.caps_hashes = 2;
        config.limits.caps_nodes = 3;
    };
    on_each_driver_with(configure, |server| {
        server.accounts(&["juliet", "romeo"]);
        befriend(server, "juliet", "romeo");
        let mut juliet = interested(server, "juliet", "balcony", &[]);
        let first = interested(server, "romeo", "first", &["n"]);
        let mut second = interested(server, "romeo", "second", &["n", "m"]);
        assert_eq!(server.metric("refused.caps_hashes"), 1);
        publish(&mut juliet, "n", "i", &note("x"));
        assert_eq!(heard(&mut juliet, &mut second), [""; 0]);
        drop(first);
        server.await_metric("sessions", 2);
        let mut third = interested(server, "romeo", "third", &["n", "m"]);
        assert_eq!(next_event(&mut third), "juliet n: i=x (last)", "nobody announces the first hash");
        drop((second, third));
        server.await_metric("sessions", 1);
        let mut many = interested(server, "romeo", "many", &["k", "l", "n"]);
        publish(&mut juliet, "n", "j", &note("x"));
        assert_eq!(heard(&mut juliet, &mut many), [""; 0], "it wants to hear of too many nodes");
        assert_eq!(server.metric("refused.caps_hashes"), 2);
        drop(many);
        server.await_metric("sessions", 1);
        let long = "l".repeat(3 * 64);
        let mut long = interested(server, "romeo", "long", &[long.as_str(), "n"]);
        publish(&mut juliet, "n", "k", &note("x"));
        assert_eq!(heard(&mut juliet, &mut long), [""; 0], "their names are too long");
        assert_eq!(server.metric("refused.caps_hashes"), 3);
    });
}

/// One account announces more hashes than there is room for.
#[test]
fn clients_of_one_account_do_not_keep_others_from_hearing() {
    let configure = |config: &mut whimbrel_server::config::Config| {
        config.workers = 1;
        config.limits.caps_hashes = 4;
    };
    on_each_driver_with(configure, |server| {
        server.accounts(&["juliet", "romeo", "mallory"]);
        befriend(server, "juliet", "romeo");
        let mut juliet = interested(server, "juliet", "balcony", &[]);
        let devices = ["a", "b", "c", "d", "e"];
        let devices = devices.map(|node| interested(server, "mallory", node, &[node]));
        assert_eq!(server.metric("refused.caps_hashes"), 2, "there is room for three of these");
        let mut romeo = interested(server, "romeo", "orchard", &["n"]);
        publish(&mut juliet, "n", "i", &note("x"));
        assert_eq!(heard(&mut juliet, &mut romeo), ["juliet n: i=x"]);
        assert_eq!((server.metric("refused.caps_hashes"), server.metric("caps.hashes")), (3, 4));
        drop(devices);
    });
}

/// What a client makes the homes of its contacts look for is its own work.
#[test]
fn whoever_asks_for_last_items_pays_for_the_looks() {
    let configure = |config: &mut whimbrel_server::config::Config| config.workers = 1;
    on_each_driver_with(configure, |server| {
        let names: Vec<String> = (0..50).map(|number| format!("guest{number}")).collect();
        let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
        server.accounts(&["juliet"]);
        server.accounts(&borrowed);
        borrowed.iter().for_each(|name| befriend(server, "juliet", name));
        let nodes: Vec<String> = (0..40).map(|number| format!("n{number}")).collect();
        let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
        let mut juliet = interested(server, "juliet", "balcony", &nodes);
        juliet.send("<presence type='unavailable'/>");
        let before = work(server, &mut juliet);
        juliet.send(&format!("<presence>{}</presence>", caps(&disco_info(&nodes))));
        let spent = work(server, &mut juliet) - before;
        assert!(spent >= 50 * 40, "{spent} units for 50 contacts and 40 nodes");
    });
}

#[test]
fn a_long_payload_is_told_by_its_id_alone() {
    on_each_driver_with(
        |config| config.limits.pep_payload_bytes = 1000,
        |server| {
            server.accounts(&["juliet"]);
            let mut juliet = interested(server, "juliet", "balcony", &["n"]);
            let long = note(&"x".repeat(1000));
            publish(&mut juliet, "n", "short", &note("x"));
            publish(&mut juliet, "n", "long", &long);
            flush(&mut juliet);
            assert_eq!(events(&mut juliet), ["juliet n: short=x", "juliet n: long="]);
            let mut garden = interested(server, "juliet", "garden", &["n"]);
            assert_eq!(next_event(&mut garden), "juliet n: long= (last)");
            let answer = get(&mut garden, None, "n").unwrap();
            assert_eq!(answer[0].len(), "long=".len() + 1000);
        },
    );
}

/// What is told of one publication is told before what is told of the next, to many as to few.
#[test]
fn a_crowd_hears_of_publications_in_their_order() {
    on_each_driver_with(
        |config| config.workers = 1,
        |server| {
            let names: Vec<String> = (0..80).map(|number| format!("guest{number}")).collect();
            let borrowed: Vec<&str> = names.iter().map(String::as_str).collect();
            server.accounts(&["juliet"]);
            server.accounts(&borrowed);
            borrowed.iter().for_each(|name| befriend(server, "juliet", name));
            let mut juliet = interested(server, "juliet", "balcony", &[]);
            let mut guests: Vec<Client> =
                borrowed.iter().map(|name| interested(server, name, "x", &["n"])).collect();
            for number in 0..5 {
                juliet.send(&format!(
                    "<iq type='set' id='p{number}'><pubsub xmlns='{PUBSUB}'><publish node='n'>\
                 <item id='i{number}'>{}</item></publish></pubsub></iq>",
                    note("x")
                ));
            }
            flush(&mut juliet);
            assert_eq!(server.metric("pep.notified"), 5 * 80 + 81, "and the last one to all");
            let expected: Vec<String> = (0..5).map(|number| format!("juliet n: i{number}=x")).collect();
            for guest in &mut guests {
                guest.settle();
                assert_eq!(events(guest), expected, "{}", guest.jid);
            }
        },
    );
}

/// What does not fit the output of a slow reader is dropped, and made good by the last item when it reads again.
#[test]
fn a_slow_reader_keeps_its_session_and_gets_the_last_item_later() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        befriend(server, "juliet", "romeo");
        let mut juliet = interested(server, "juliet", "balcony", &[]);
        let mut romeo = interested(server, "romeo", "orchard", &["n"]);
        let text = note(&"x".repeat(50_000));
        let mut number = 0;
        while server.metric("output.dropped") == 0 {
            assert_eq!(publish(&mut juliet, "n", &format!("i{number}"), &text), "result");
            number += 1;
            assert!(number < 2000, "everything fits");
        }
        assert_eq!(publish(&mut juliet, "n", "newest", &note("x")), "result");
        while !next_event(&mut romeo).contains("newest=x") {}
        romeo.settle();
        assert_eq!(server.metric("sessions"), 2);
    });
}
