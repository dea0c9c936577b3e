//! What subscribers hear, and in which order.

use super::*;

fn told(node: &str, what: &str) -> String {
    format!("{SERVICE} {node}: {what}")
}

#[test]
fn subscribers_hear_of_what_happens_in_its_order_and_others_do_not() {
    everywhere(|server| {
        server.accounts(&["juliet", "romeo", "paris"]);
        let mut juliet = server.online("juliet", "balcony");
        let [mut romeo, mut second, mut paris] = [("romeo", "orchard"), ("romeo", "second"), ("paris", "x")]
            .map(|(name, resource)| server.online(name, resource));
        assert_eq!(make(&mut juliet, "news", &[("notify_config", "1")]), "result");
        assert_eq!(subscribe(&mut romeo, "news"), "subscribed");
        for id in ["a", "b"] {
            assert_eq!(publish(&mut juliet, "news", id, id), "result");
        }
        ask(&mut juliet, "set", "<retract node='news' notify='1'><item id='a'/></retract>");
        assert_eq!(configure(&mut juliet, "news", &[("title", "T")]), "result");
        ask_as_owner(&mut juliet, "set", "<purge node='news'/>");
        ask_as_owner(&mut juliet, "set", "<delete node='news'/>");
        let expected =
            ["a=a", "b=b", "retract a", "configuration", "purge", "delete"].map(|what| told("news", what));
        for client in [&mut romeo, &mut second] {
            assert_eq!(heard(client, "news"), expected, "{}", client.jid);
        }
        for client in [&mut paris, &mut juliet] {
            assert_eq!(heard(client, "news"), [""; 0], "{} is not subscribed", client.jid);
        }
        assert_eq!((server.metric("pubsub.notified"), server.metric("pep.notified")), (12, 0));
    });
}

#[test]
fn a_notification_is_a_headline_that_nobody_keeps_for_those_who_are_away() {
    everywhere(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.online("juliet", "balcony");
        let mut romeo = server.online("romeo", "orchard");
        assert_eq!(make(&mut juliet, "news", &[("send_last_published_item", "never")]), "result");
        assert_eq!(subscribe(&mut romeo, "news"), "subscribed");
        publish(&mut juliet, "news", "a", "a");
        let message = romeo.set_aside_until(|stanza| event(stanza).is_some());
        assert_eq!((message.attribute("type"), message.attribute("from")), (Some("headline"), Some(SERVICE)));
        romeo.send("<presence type='unavailable'/>");
        romeo.settle();
        publish(&mut juliet, "news", "b", "b");
        flush(&mut juliet, "news");
        romeo.send("<presence/>");
        romeo.settle();
        assert_eq!(heard(&mut romeo, "news"), [""; 0], "it can be retrieved");
        assert_eq!(get(&mut romeo, "news"), Ok(vec!["b=b".into(), "a=a".into()]));
        romeo.send("<presence><priority>-1</priority></presence>");
        romeo.settle();
        publish(&mut juliet, "news", "c", "c");
        assert_eq!(
            heard(&mut romeo, "news"),
            [""; 0],
            "a client of negative priority gets nothing for its account"
        );
    });
}

#[test]
fn a_client_subscribes_alone_and_one_that_blocks_the_service_hears_nothing() {
    everywhere(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.online("juliet", "balcony");
        let mut romeo = server.online("romeo", "orchard");
        let mut second = server.online("romeo", "second");
        assert_eq!(make(&mut juliet, "news", &[]), "result");
        assert_eq!(subscribe_as(&mut romeo, "news", "romeo@localhost/orchard"), "subscribed");
        publish(&mut juliet, "news", "a", "a");
        assert_eq!(heard(&mut romeo, "news"), [told("news", "a=a")]);
        assert_eq!(heard(&mut second, "news"), [""; 0]);
        let block = format!("<block xmlns='urn:xmpp:blocking'><item jid='{SERVICE}'/></block>");
        romeo.ask("set", None, &block);
        assert_eq!(get(&mut romeo, "news"), Err("not-acceptable".into()), "as of everybody whom one blocks");
        publish(&mut juliet, "news", "b", "b");
        romeo.settle();
        flush(&mut juliet, "news");
        romeo.settle();
        romeo.settle();
        let heard: Vec<String> = romeo.quiet().iter().filter_map(event).collect();
        assert_eq!(heard, [""; 0]);
    });
}

#[test]
fn last_items_come_on_subscription_and_on_presence_as_the_node_says() {
    everywhere(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.online("juliet", "balcony");
        for (node, when) in [("never", "never"), ("sub", "on_sub"), ("both", "on_sub_and_presence")] {
            assert_eq!(make(&mut juliet, node, &[("send_last_published_item", when)]), "result");
            for id in ["a", "b"] {
                publish(&mut juliet, node, id, id);
            }
        }
        let mut romeo = server.online("romeo", "orchard");
        for (node, expected) in [
            ("never", vec![]),
            ("sub", vec![told("sub", "b=b (last)")]),
            ("both", vec![told("both", "b=b (last)")]),
        ] {
            assert_eq!(subscribe(&mut romeo, node), "subscribed");
            assert_eq!(heard(&mut romeo, node), expected, "{node}");
        }
        let mut second = server.login("romeo", "second");
        second.send("<presence/>");
        second.settle();
        let told_both = [told("both", "b=b (last)")];
        let events = |client: &mut Client| client.quiet().iter().filter_map(event).collect::<Vec<_>>();
        assert_eq!(events(&mut second), told_both);
        assert_eq!(events(&mut romeo), [""; 0], "only the client that comes");
        second.send("<presence><show>away</show></presence>");
        second.settle();
        assert_eq!(events(&mut second), [""; 0], "only the first presence");
        assert_eq!(server.metric("pubsub.last_items"), 3);
        // Somebody who may not look any more hears nothing.
        assert_eq!(configure(&mut juliet, "both", &[("access_model", "whitelist")]), "result");
        let mut third = server.login("romeo", "third");
        third.send("<presence/>");
        third.settle();
        assert_eq!(events(&mut third), [""; 0]);
        publish(&mut juliet, "both", "c", "c");
        assert_eq!(heard(&mut second, "both"), [""; 0]);
    });
}

#[test]
fn payloads_are_in_notifications_as_the_node_says_and_as_there_is_room() {
    everywhere_with(
        |config| config.limits.pep_payload_bytes = 200,
        |server| {
            server.accounts(&["juliet", "romeo"]);
            let mut juliet = server.online("juliet", "balcony");
            let mut romeo = server.online("romeo", "orchard");
            assert_eq!(make(&mut juliet, "news", &[]), "result");
            assert_eq!(subscribe(&mut romeo, "news"), "subscribed");
            publish(&mut juliet, "news", "short", "x");
            publish(&mut juliet, "news", "long", &"x".repeat(200));
            assert_eq!(configure(&mut juliet, "news", &[("deliver_payloads", "0")]), "result");
            publish(&mut juliet, "news", "bare", "x");
            let expected = ["short=x", "long=", "bare="].map(|what| told("news", what));
            assert_eq!(heard(&mut romeo, "news"), expected);
        },
    );
}

/// A node's home is another worker than its publisher's, its subscribers' and its owner's, or the same: whichever it is, all is told
/// once and in order.
#[test]
fn many_nodes_with_homes_everywhere_tell_each_thing_once() {
    everywhere(|server| {
        server.accounts(&["juliet", "romeo", "paris", "tybalt"]);
        let mut juliet = server.online("juliet", "balcony");
        let mut clients = ["romeo", "paris", "tybalt"].map(|name| server.online(name, "x"));
        for number in 0..8 {
            let node = format!("n{number}");
            assert_eq!(make(&mut juliet, &node, &[]), "result");
            for client in &mut clients {
                assert_eq!(subscribe(client, &node), "subscribed");
            }
            for id in 0..20 {
                let item = format!("<publish node='{node}'><item id='{id}'>{}</item></publish>", note("x"));
                juliet.send(&format!(
                    "<iq type='set' id='p{id}' to='{SERVICE}'><pubsub xmlns='{PUBSUB}'>{item}</pubsub></iq>"
                ));
            }
            juliet.set_aside_until(|stanza| stanza.attribute("id") == Some("p19"));
            let expected: Vec<String> = (0..20).map(|id| told(&node, &format!("{id}=x"))).collect();
            for client in &mut clients {
                assert_eq!(heard(client, &node), expected);
            }
        }
    });
}
