//! Nodes outlast programs, and accounts leave them.

use super::*;
use crate::support::answers::{outcome, payload};
use crate::support::managed::SM;
use crate::support::program::Start;

const EVERYONE: &str = "[pubsub]\ncreate = 'everyone'\n";

#[test]
fn nodes_and_subscriptions_are_there_after_a_restart() {
    for driver in drivers() {
        let configure = |config: &mut Config| config.pubsub.create = NodeMakers::Everyone;
        let server = TestServer::start(driver, configure);
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let mut romeo = server.login("romeo", "orchard");
        assert_eq!(make(&mut juliet, "news", &[("title", "News")]), "result");
        assert_eq!(subscribe(&mut romeo, "news"), "subscribed");
        assert_eq!(publish(&mut juliet, "news", "a", "a"), "result");
        drop((juliet, romeo));
        let server = server.restart(configure);
        let mut juliet = server.login("juliet", "balcony");
        let mut romeo = server.online("romeo", "orchard");
        assert_eq!(get(&mut romeo, "news"), Ok(vec!["a=a".into()]));
        assert_eq!(publish(&mut juliet, "news", "b", "b"), "result");
        assert_eq!(heard(&mut romeo, "news"), [format!("{SERVICE} news: b=b")]);
    }
}

#[test]
fn an_upgrade_changes_nothing_for_publishers_and_subscribers() {
    let start = Start::new(&["juliet", "romeo"]).with_config(EVERYONE);
    let program = start.run();
    let mut juliet = program.login("juliet", "balcony");
    let mut romeo = program.login("romeo", "orchard");
    romeo.send("<presence/>");
    romeo.settle();
    assert_eq!(make(&mut juliet, "news", &[]), "result");
    assert_eq!(subscribe(&mut romeo, "news"), "subscribed");
    assert_eq!(publish(&mut juliet, "news", "a", "a"), "result");
    assert_eq!(heard(&mut romeo, "news"), [format!("{SERVICE} news: a=a")]);
    let upgraded = program.control(&serde_json::json!({ "request": "upgrade" }));
    assert_eq!(upgraded["ok"], true, "{upgraded}");
    assert_eq!(publish(&mut juliet, "news", "b", "b"), "result");
    assert_eq!(heard(&mut romeo, "news"), [format!("{SERVICE} news: b=b")]);
    assert_eq!(get(&mut romeo, "news"), Ok(vec!["b=b".into(), "a=a".into()]));
    program.stop();
}

/// Items whose publication has been confirmed, or acknowledged by the stream, are there after SIGKILL; and a node's items have no
/// gap before the last of them.
#[test]
fn what_was_confirmed_is_there_after_a_kill() {
    let start = Start::new(&["juliet"]).with_config(EVERYONE);
    let mut confirmed = 0;
    for round in 0..6 {
        let program = start.run();
        let mut juliet = program.login("juliet", "balcony");
        juliet.enable_sm();
        if round == 0 {
            assert_eq!(make(&mut juliet, "news", &[("max_items", "max")]), "result");
        }
        let items = get(&mut juliet, "news").unwrap();
        let kept: Vec<u32> =
            items.iter().rev().map(|item| item.split('=').next().unwrap().parse().unwrap()).collect();
        assert!(kept.len() as u32 >= confirmed, "{} of {confirmed} are there", kept.len());
        assert_eq!(kept, (0..kept.len() as u32).collect::<Vec<_>>());
        confirmed = kept.len() as u32;
        let batch = 25;
        for id in confirmed..confirmed + batch {
            let item = format!("<publish node='news'><item id='{id}'>{}</item></publish>", note("x"));
            juliet.send(&format!(
                "<iq type='set' id='p{id}' to='{SERVICE}'><pubsub xmlns='{PUBSUB}'>{item}</pubsub></iq>"
            ));
        }
        // Somewhere in the middle of them, the program is killed.
        let until = confirmed + 5 + round;
        let id = format!("p{until}");
        let answer = juliet.set_aside_until(|stanza| stanza.attribute("id") == Some(&id));
        assert_eq!(outcome(&answer), "result");
        confirmed = until + 1;
        program.kill();
    }
}

/// The stream acknowledges a request when it is written, wherever the node lives; and one that is refused.
#[test]
fn a_managed_stream_acknowledges_what_is_on_the_disk() {
    everywhere(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        juliet.enable_sm();
        let mut sent = 0;
        for number in 0..4 {
            let node = format!("n{number}");
            assert_eq!(make(&mut juliet, &node, &[("access_model", "authorize")]), "result");
            assert_eq!(publish(&mut juliet, &node, "i", "x"), "result");
            assert_eq!(make(&mut juliet, &node, &[]), "conflict");
            let form = super::form(
                "subscribe_authorization",
                &[("node", node.as_str()), ("subscriber_jid", "romeo@localhost"), ("allow", "1")],
            );
            juliet.send(&format!("<message to='{SERVICE}'>{form}</message>"));
            sent += 4;
            juliet.await_handled(sent);
        }
        assert!(juliet.quiet().iter().all(|stanza| !stanza.is("error", SM)));
    });
}

#[test]
fn an_account_that_is_removed_is_nothing_to_any_node() {
    everywhere(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.online("juliet", "balcony");
        let mut romeo = server.online("romeo", "orchard");
        for node in ["a", "b"] {
            assert_eq!(make(&mut juliet, node, &[("access_model", "whitelist")]), "result");
            assert_eq!(affiliate(&mut juliet, node, "romeo", "publisher"), "result");
            assert_eq!(subscribe(&mut romeo, node), "subscribed");
        }
        assert_eq!(make(&mut romeo, "his", &[]), "result");
        assert_eq!(publish(&mut romeo, "his", "i", "x"), "result");
        assert_eq!(subscribe(&mut juliet, "his"), "subscribed");
        romeo.send("<iq type='set' id='r'><query xmlns='jabber:iq:register'><remove/></query></iq>");
        romeo.expect_some_stream_error();
        server.accounts(&["romeo"]);
        let mut romeo = server.online("romeo", "orchard");
        assert_eq!(get(&mut romeo, "a"), Err("not-allowed closed-node".into()));
        let own = ask(&mut romeo, "get", "<affiliations/>");
        assert_eq!(rows(&own, "affiliations", &["node"]), [""; 0]);
        for node in ["a", "b"] {
            let all = ask_as_owner(&mut juliet, "get", &format!("<affiliations node='{node}'/>"));
            assert_eq!(rows(&all, "affiliations", &["jid"]), ["juliet@localhost"]);
            let all = ask_as_owner(&mut juliet, "get", &format!("<subscriptions node='{node}'/>"));
            assert_eq!(rows(&all, "subscriptions", &["jid"]), [""; 0]);
        }
        // His node stays, as the operator's: its items can be read, and nobody owns it.
        assert_eq!(get(&mut romeo, "his"), Ok(vec!["i=x".into()]));
        assert_eq!(publish(&mut romeo, "his", "j", "x"), "forbidden");
        let info = juliet.ask(
            "get",
            Some(SERVICE),
            "<query xmlns='http://jabber.org/protocol/disco#info' node='his'/>",
        );
        assert!(!String::from_utf8(payload(&info).to_bytes()).unwrap().contains("romeo"));
    });
}
