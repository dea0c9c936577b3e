//! Who may look, subscribe and publish, and what owners decide about that.

use super::*;
use crate::support::answers::outcome;

/// juliet owns a node of each access model.
fn verona(server: &TestServer) -> Client {
    server.accounts(&["juliet", "romeo", "paris", "tybalt"]);
    let mut juliet = server.online("juliet", "balcony");
    for model in ["open", "authorize", "whitelist"] {
        assert_eq!(make(&mut juliet, model, &[("access_model", model)]), "result");
        assert_eq!(publish(&mut juliet, model, "i", model), "result");
    }
    juliet
}

/// The form in a message that asks an owner about a subscription.
fn question(owner: &mut Client) -> Element {
    let asks = |stanza: &Element| stanza.name() == "message" && stanza.find("x", "jabber:x:data").is_some();
    let aside = owner.take_aside(asks);
    aside.into_iter().next().unwrap_or_else(|| owner.set_aside_until(asks))
}

/// What an owner says to the service.
fn decision(node: &str, jid: &str, allow: &str) -> String {
    let form =
        super::form("subscribe_authorization", &[("node", node), ("subscriber_jid", jid), ("allow", allow)]);
    format!("<message to='{SERVICE}' id='d'>{form}</message>")
}

#[test]
fn each_access_model_lets_in_whom_it_says() {
    everywhere(|server| {
        let mut juliet = verona(server);
        let mut romeo = server.login("romeo", "orchard");
        let table = [
            ("open", "result", "subscribed"),
            ("authorize", "not-authorized not-subscribed", "pending"),
            ("whitelist", "not-allowed closed-node", "not-allowed closed-node"),
            ("none", "item-not-found", "item-not-found"),
        ];
        for (node, look, subscription) in table {
            let said = get(&mut romeo, node).map_or_else(|error| error, |_| "result".to_owned());
            assert_eq!(said, look, "{node}");
            assert_eq!(subscribe(&mut romeo, node), subscription, "{node}");
        }
        assert_eq!(get(&mut romeo, "authorize"), Err("not-authorized pending-subscription".into()));
        assert_eq!(subscribe(&mut romeo, "authorize"), "not-authorized pending-subscription");
        assert_eq!(subscribe_as(&mut romeo, "open", "juliet@localhost"), "bad-request invalid-jid");
        let unsubscribe = "<unsubscribe node='open' jid='juliet@localhost'/>";
        assert_eq!(said(&ask(&mut romeo, "set", unsubscribe)), "forbidden");
        let unsubscribe = unsubscribe.replace("juliet", "romeo");
        assert_eq!(said(&ask(&mut romeo, "set", &unsubscribe)), "result");
        assert_eq!(said(&ask(&mut romeo, "set", &unsubscribe)), "unexpected-request not-subscribed");
        assert_eq!(affiliate(&mut juliet, "whitelist", "romeo", "member"), "result");
        assert_eq!(subscribe(&mut romeo, "whitelist"), "subscribed");
        assert_eq!(get(&mut romeo, "whitelist"), Ok(vec!["i=whitelist".into()]));
        assert_eq!(affiliate(&mut juliet, "open", "romeo", "outcast"), "result");
        assert_eq!(get(&mut romeo, "open"), Err("forbidden".into()));
        assert_eq!(subscribe(&mut romeo, "open"), "forbidden");
    });
}

#[test]
fn affiliations_say_who_publishes_and_who_owns() {
    everywhere(|server| {
        let mut juliet = verona(server);
        let [mut romeo, mut paris] = ["romeo", "paris"].map(|name| server.login(name, "x"));
        assert_eq!(affiliate(&mut juliet, "open", "romeo", "publisher"), "result");
        assert_eq!(affiliate(&mut juliet, "open", "paris", "publish-only"), "result");
        assert_eq!(publish(&mut romeo, "open", "r", "by romeo"), "result");
        assert_eq!(publish(&mut paris, "open", "p", "by paris"), "result");
        assert_eq!(get(&mut paris, "open"), Err("forbidden".into()));
        let retract = |id: &str| format!("<retract node='open'><item id='{id}'/></retract>");
        assert_eq!(said(&ask(&mut romeo, "set", &retract("p"))), "forbidden", "it is not his");
        assert_eq!(said(&ask(&mut romeo, "set", &retract("r"))), "result");
        assert_eq!(said(&ask(&mut juliet, "set", &retract("p"))), "result");
        assert_eq!(affiliate(&mut romeo, "open", "romeo", "owner"), "forbidden");

        assert_eq!(
            affiliate(&mut juliet, "open", "juliet", "none"),
            "not-acceptable",
            "she is the last owner"
        );
        assert_eq!(affiliate(&mut juliet, "open", "romeo", "owner"), "result");
        assert_eq!(affiliate(&mut romeo, "open", "juliet", "none"), "result");
        assert_eq!(publish(&mut juliet, "open", "j", "x"), "forbidden");
        assert_eq!(
            affiliate(&mut romeo, "open", "eve", "member"),
            "not-acceptable",
            "there is no such account"
        );
        let abroad =
            "<affiliations node='open'><affiliation jid='a@elsewhere' affiliation='member'/></affiliations>";
        assert_eq!(said(&ask_as_owner(&mut romeo, "set", abroad)), "not-acceptable");
        let full = abroad.replace("a@elsewhere", "paris@localhost/x");
        assert_eq!(said(&ask_as_owner(&mut romeo, "set", &full)), "not-acceptable");
    });
}

#[test]
fn publish_models_let_others_publish() {
    everywhere(|server| {
        let mut juliet = verona(server);
        let mut romeo = server.login("romeo", "orchard");
        assert_eq!(configure(&mut juliet, "open", &[("publish_model", "subscribers")]), "result");
        assert_eq!(publish(&mut romeo, "open", "r", "x"), "forbidden");
        assert_eq!(subscribe(&mut romeo, "open"), "subscribed");
        assert_eq!(publish(&mut romeo, "open", "r", "x"), "result");
        assert_eq!(configure(&mut juliet, "whitelist", &[("publish_model", "open")]), "result");
        assert_eq!(publish(&mut romeo, "whitelist", "r", "x"), "not-allowed closed-node");
        let answer = ask(&mut juliet, "get", "<items node='open'><item id='r'/></items>");
        let text = String::from_utf8(answer.to_bytes()).unwrap();
        assert!(
            text.contains("publisher='romeo@localhost'") || text.contains("publisher=\"romeo@localhost\"")
        );
    });
}

#[test]
fn an_owner_is_asked_by_a_form_and_decides() {
    everywhere(|server| {
        let mut juliet = verona(server);
        let mut romeo = server.online("romeo", "orchard");
        assert_eq!(subscribe(&mut romeo, "authorize"), "pending");
        let message = question(&mut juliet);
        assert_eq!(message.attribute("from"), Some(SERVICE));
        let form = message.find("x", "jabber:x:data").unwrap();
        let text = String::from_utf8(form.to_bytes()).unwrap();
        for part in ["#subscribe_authorization", "<value>authorize</value>", "<value>romeo@localhost</value>"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        // Her client sends the form back, filled in.
        let mut form = form.clone();
        form.set_attribute("type", "submit");
        let yes = String::from_utf8(form.to_bytes()).unwrap().replace("<value>0</value>", "<value>1</value>");
        juliet.send(&format!("<message to='{SERVICE}'>{yes}</message>"));
        let told = romeo.set_aside_until(|stanza| event(stanza).is_some());
        assert_eq!(event(&told).unwrap(), format!("{SERVICE} authorize: subscription"));
        assert_eq!(heard(&mut romeo, "authorize"), [format!("{SERVICE} authorize: i=authorize (last)")]);
        assert_eq!(get(&mut romeo, "authorize"), Ok(vec!["i=authorize".into()]));
        // It is decided: another word to it changes nothing.
        juliet.send(&decision("authorize", "romeo@localhost", "0"));
        flush(&mut juliet, "authorize");
        assert_eq!(get(&mut romeo, "authorize"), Ok(vec!["i=authorize".into()]));

        let mut paris = server.online("paris", "x");
        assert_eq!(subscribe(&mut paris, "authorize"), "pending");
        question(&mut juliet);
        juliet.send(&decision("authorize", "paris@localhost", "false"));
        let told = paris.set_aside_until(|stanza| event(stanza).is_some());
        let text = String::from_utf8(told.to_bytes()).unwrap();
        assert!(text.contains("subscription='none'") || text.contains("subscription=\"none\""), "{text}");
        assert_eq!(subscribe(&mut paris, "authorize"), "pending", "he may ask again");
    });
}

#[test]
fn nobody_but_an_owner_decides_and_half_a_decision_is_refused() {
    everywhere(|server| {
        let mut juliet = verona(server);
        let mut romeo = server.online("romeo", "orchard");
        subscribe(&mut romeo, "authorize");
        let refused = |client: &mut Client, message: &str| {
            client.send(message);
            let answer = client.set_aside_until(|stanza| stanza.attribute("type") == Some("error"));
            assert_eq!(answer.attribute("from"), Some(SERVICE));
            outcome(&answer)
        };
        assert_eq!(refused(&mut romeo, &decision("authorize", "romeo@localhost", "1")), "forbidden");
        assert_eq!(refused(&mut juliet, &decision("none", "romeo@localhost", "1")), "item-not-found");
        assert_eq!(
            refused(&mut juliet, &decision("authorize", "romeo@localhost", "maybe")),
            "not-acceptable"
        );
        assert_eq!(refused(&mut juliet, &decision("authorize", "@", "1")), "not-acceptable");
        let nothing = format!("<message to='{SERVICE}'><body>x</body></message>");
        assert_eq!(refused(&mut juliet, &nothing), "service-unavailable");
        assert_eq!(get(&mut romeo, "authorize"), Err("not-authorized pending-subscription".into()));
        // An owner who is away is asked when she comes.
        let mut tybalt = server.login("tybalt", "x");
        question(&mut juliet);
        juliet.send("<presence type='unavailable'/>");
        juliet.settle();
        juliet.cut();
        assert_eq!(subscribe(&mut tybalt, "authorize"), "pending");
        let mut juliet = server.login("juliet", "garden");
        juliet.send("<presence/>");
        let text = String::from_utf8(question(&mut juliet).to_bytes()).unwrap();
        assert!(text.contains("tybalt@localhost"), "{text}");
    });
}

#[test]
fn owners_change_subscriptions_of_others() {
    everywhere(|server| {
        let mut juliet = verona(server);
        let mut romeo = server.online("romeo", "orchard");
        let change = |jid: &str, state: &str| {
            format!(
                "<subscriptions node='whitelist'><subscription jid='{jid}' subscription='{state}'/></subscriptions>"
            )
        };
        let asked = change("romeo@localhost", "subscribed");
        assert_eq!(said(&ask_as_owner(&mut romeo, "set", &asked)), "forbidden");
        assert_eq!(affiliate(&mut juliet, "whitelist", "romeo", "member"), "result");
        assert_eq!(said(&ask_as_owner(&mut juliet, "set", &asked)), "result");
        let expected = [
            format!("{SERVICE} whitelist: subscription"),
            format!("{SERVICE} whitelist: i=whitelist (last)"),
        ];
        assert_eq!(heard(&mut romeo, "whitelist"), expected);
        let asked = change("eve@localhost", "subscribed");
        assert_eq!(said(&ask_as_owner(&mut juliet, "set", &asked)), "not-acceptable");
        let asked = change("romeo@localhost", "none");
        assert_eq!(said(&ask_as_owner(&mut juliet, "set", &asked)), "result");
        publish(&mut juliet, "whitelist", "j", "x");
        assert_eq!(heard(&mut romeo, "whitelist"), [format!("{SERVICE} whitelist: subscription")]);
    });
}
