//! Blocking (XEP-0191).

use whimbrel_server::xml::Element;

use crate::support::answers::{befriend, outcome, payload};
use crate::support::{Client, Said, on_each_driver, on_each_driver_with};

const BLOCKING: &str = "urn:xmpp:blocking";
const LIST: &str = "<blocklist xmlns='urn:xmpp:blocking'/>";

fn change(client: &mut Client, verb: &str, jids: &[&str]) -> String {
    let items: String = jids.iter().map(|jid| format!("<item jid='{jid}'/>")).collect();
    outcome(&client.ask("set", None, &format!("<{verb} xmlns='urn:xmpp:blocking'>{items}</{verb}>")))
}

fn listed(client: &mut Client) -> Vec<String> {
    items(payload(&client.ask("get", None, LIST)))
}

fn items(element: &Element) -> Vec<String> {
    element.elements().map(|item| item.attribute("jid").expect("a JID").to_owned()).collect()
}

/// From and type of the presence stanzas that have come.
fn presences(client: &mut Client) -> Vec<(String, String)> {
    let presences = client.quiet().into_iter().filter(|stanza| stanza.name() == "presence");
    presences
        .map(|stanza| {
            let attribute = |name| stanza.attribute(name).unwrap_or_default().to_owned();
            (attribute("from"), attribute("type"))
        })
        .collect()
}

#[test]
fn the_list_is_kept_and_changes_are_pushed_to_resources_that_asked() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut balcony = server.login("juliet", "balcony");
        let mut garden = server.login("juliet", "garden");
        let mut silent = server.login("juliet", "silent");
        assert_eq!(listed(&mut balcony), Vec::<String>::new());
        assert_eq!(listed(&mut garden), Vec::<String>::new());
        assert_eq!(change(&mut balcony, "block", &["Romeo@localhost", "example.org"]), "result");
        assert_eq!(listed(&mut balcony), ["example.org", "romeo@localhost"]);
        let push = balcony.expect("iq");
        let also = garden.expect("iq");
        for (push, jid) in [(&push, &balcony.jid), (&also, &garden.jid)] {
            assert_eq!(push.attribute("type"), Some("set"));
            assert_eq!(push.attribute("to"), Some(jid.as_str()));
            let block = push.find("block", BLOCKING).expect("the change");
            assert_eq!(items(block), ["example.org", "romeo@localhost"]);
        }
        assert_eq!(change(&mut garden, "unblock", &["romeo@localhost"]), "result");
        assert_eq!(
            items(balcony.expect("iq").find("unblock", BLOCKING).expect("the change")),
            ["romeo@localhost"]
        );
        assert_eq!(listed(&mut balcony), ["example.org"]);
        assert_eq!(change(&mut garden, "unblock", &[]), "result");
        assert_eq!(balcony.expect("iq").find("unblock", BLOCKING).expect("the change").nodes(), []);
        assert_eq!(listed(&mut balcony), Vec::<String>::new());
        silent.settle();
        assert_eq!(silent.quiet(), []);
    });
}

#[test]
fn a_bad_request_changes_nothing() {
    on_each_driver_with(
        |config| config.limits.blocked_jids = 2,
        |server| {
            server.accounts(&["juliet"]);
            let mut juliet = server.login("juliet", "balcony");
            assert_eq!(change(&mut juliet, "block", &[]), "bad-request");
            assert_eq!(change(&mut juliet, "block", &["romeo@localhost", "@"]), "jid-malformed");
            let missing = juliet.ask("set", None, "<block xmlns='urn:xmpp:blocking'><item/></block>");
            assert_eq!(outcome(&missing), "bad-request");
            assert_eq!(
                change(&mut juliet, "block", &["a@x.org", "b@x.org", "c@x.org"]),
                "resource-constraint"
            );
            assert_eq!(listed(&mut juliet), Vec::<String>::new());
            assert_eq!(change(&mut juliet, "block", &["a@x.org", "b@x.org"]), "result");
            assert_eq!(change(&mut juliet, "block", &["a@x.org"]), "result");
            assert_eq!(change(&mut juliet, "block", &["c@x.org"]), "resource-constraint");
        },
    );
}

/// What is blocked and how it is written; each must stop Romeo.
const WAYS: [&str; 3] = ["romeo@localhost", "romeo@localhost/orchard", "localhost/orchard"];

#[test]
fn who_is_blocked_meets_an_account_that_is_not_there() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo", "nurse"]);
        let mut juliet = server.online("juliet", "balcony");
        let mut romeo = server.online("romeo", "orchard");
        let mut nurse = server.online("nurse", "hall");
        romeo.ask("get", None, "<query xmlns='jabber:iq:roster'/>");
        let (hers, ping) = (juliet.jid.clone(), "<ping xmlns='urn:xmpp:ping'/>");
        for way in WAYS {
            assert_eq!(change(&mut juliet, "block", &[way]), "result");
            for to in ["juliet@localhost", hers.as_str()] {
                for typ in ["chat", "normal", "headline", "error"] {
                    romeo.send(&format!("<message to='{to}' type='{typ}' id='m'><body>x</body></message>"));
                    assert_eq!(outcome(&romeo.ask("get", Some(to), ping)), "service-unavailable");
                    assert_eq!(romeo.quiet(), [], "{typ} to {to} with {way}");
                }
                for presence in ["", " type='unavailable'", " type='probe'"] {
                    romeo.send(&format!("<presence to='{to}'{presence}/>"));
                }
                // A subscription comes from the bare JID, and is on its way once his own roster shows it.
                if way == "romeo@localhost" && to == "juliet@localhost" {
                    romeo.send("<presence to='juliet@localhost' type='subscribe'/>");
                    romeo.set_aside_until(|stanza| stanza.attribute("type") == Some("set"));
                }
            }
            romeo.send(&format!("<iq type='result' id='r' to='{hers}'/>"));
            romeo.ask("get", Some("juliet@localhost"), ping);
            assert_eq!(romeo.quiet(), [], "{way}");
            nurse.fence(&mut juliet);
            assert_eq!(juliet.quiet(), [], "{way}");
            assert_eq!(change(&mut juliet, "unblock", &[]), "result");
            romeo.send(&format!("<message to='{hers}' type='chat' id='after'><body>x</body></message>"));
            assert_eq!(juliet.expect("message").attribute("id"), Some("after"));
        }
    });
}

#[test]
fn the_list_holds_also_while_its_owner_is_away_and_after_he_returns() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut romeo = server.login("romeo", "orchard");
        let mut juliet = server.online("juliet", "balcony");
        assert_eq!(outcome(&juliet.ask("set", None, "<vCard xmlns='vcard-temp'/>")), "result");
        assert_eq!(change(&mut juliet, "block", &["romeo@localhost"]), "result");
        let card = "<vCard xmlns='vcard-temp'/>";
        assert_eq!(outcome(&romeo.ask("get", Some("juliet@localhost"), card)), "service-unavailable");
        juliet.send("</stream:stream>");
        juliet.expect_close();
        assert_eq!(outcome(&romeo.ask("get", Some("juliet@localhost"), card)), "service-unavailable");
        let mut juliet = server.online("juliet", "balcony");
        assert_eq!(listed(&mut juliet), ["romeo@localhost"]);
        assert_eq!(outcome(&romeo.ask("get", Some("juliet@localhost"), card)), "service-unavailable");
        assert_eq!(change(&mut juliet, "unblock", &["romeo@localhost"]), "result");
        assert_eq!(outcome(&romeo.ask("get", Some("juliet@localhost"), card)), "result");
    });
}

#[test]
fn a_user_cannot_write_to_whom_he_blocks() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.online("juliet", "balcony");
        let mut romeo = server.online("romeo", "orchard");
        assert_eq!(change(&mut juliet, "block", &["romeo@localhost"]), "result");
        for stanza in [
            "<message to='romeo@localhost' type='chat' id='s'><body>x</body></message>".to_owned(),
            format!("<message to='{}' type='chat' id='s'><body>x</body></message>", romeo.jid),
            format!("<iq to='{}' type='get' id='s'><ping xmlns='urn:xmpp:ping'/></iq>", romeo.jid),
            format!("<presence to='{}' id='s'/>", romeo.jid),
        ] {
            juliet.send(&stanza);
            let error = juliet.stanza();
            assert_eq!(outcome(&error), "not-acceptable", "{stanza}");
            let child = error.find("error", "jabber:client").unwrap();
            assert!(child.find("blocked", "urn:xmpp:blocking:errors").is_some(), "{stanza}");
        }
        juliet.settle();
        romeo.settle();
        assert_eq!(romeo.quiet(), []);
    });
}

#[test]
fn blocking_the_own_domain_leaves_the_server_and_the_own_resources() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut balcony = server.online("juliet", "balcony");
        let mut garden = server.login("juliet", "garden");
        let mut romeo = server.online("romeo", "orchard");
        assert_eq!(change(&mut balcony, "block", &["localhost"]), "result");
        balcony.settle();
        garden.fence(&mut balcony);
        romeo.send(&format!("<message to='{}' type='chat' id='m'><body>x</body></message>", balcony.jid));
        let ping = "<ping xmlns='urn:xmpp:ping'/>";
        assert_eq!(outcome(&romeo.ask("get", Some(&balcony.jid), ping)), "service-unavailable");
        garden.fence(&mut balcony);
        assert!(balcony.quiet().iter().all(|stanza| stanza.attribute("id") != Some("m")));
        assert_eq!(change(&mut balcony, "unblock", &[]), "result");
    });
}

#[test]
fn a_contact_sees_the_user_go_when_blocked_and_come_back_when_unblocked() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        befriend(server, "juliet", "romeo");
        let mut juliet = server.login("juliet", "balcony");
        juliet.send("<presence><show>dnd</show></presence>");
        juliet.settle();
        let mut silent = server.login("juliet", "silent");
        let mut romeo = server.online("romeo", "orchard");
        let hers = |typ: &str| vec![("juliet@localhost/balcony".to_owned(), typ.to_owned())];
        romeo.ask("get", Some("juliet@localhost"), "<vCard xmlns='vcard-temp'/>");
        silent.fence(&mut romeo);
        romeo.quiet();
        juliet.settle();
        juliet.quiet();
        for way in ["romeo@localhost", "romeo@localhost/orchard", "localhost"] {
            assert_eq!(change(&mut juliet, "block", &[way]), "result");
            // Through the server: she cannot write to him.
            romeo.ask("get", Some("juliet@localhost"), "<vCard xmlns='vcard-temp'/>");
            assert_eq!(presences(&mut romeo), hers("unavailable"), "{way}");
            // Blocking again changes nothing.
            assert_eq!(change(&mut juliet, "block", &[way]), "result");
            juliet.send("<presence><show>away</show></presence>");
            juliet.settle();
            romeo.ask("get", Some("juliet@localhost"), "<vCard xmlns='vcard-temp'/>");
            assert_eq!(presences(&mut romeo), [], "{way}");
            romeo.quiet();
            juliet.quiet();
            assert_eq!(change(&mut juliet, "unblock", &[way]), "result");
            juliet.fence(&mut romeo);
            let shown = romeo.quiet();
            let shown: Vec<_> = shown.iter().filter(|stanza| stanza.name() == "presence").collect();
            assert_eq!(shown.len(), 1, "{way}: {shown:?}");
            assert_eq!(shown[0].find("show", "jabber:client").unwrap().content(), "away", "{way}");
            // She is shown his presence, which he may have changed meanwhile.
            romeo.fence(&mut juliet);
            assert_eq!(
                presences(&mut juliet),
                [("romeo@localhost/orchard".to_owned(), String::new())],
                "{way}"
            );
        }
    });
}

#[test]
fn who_had_directed_presence_sees_the_user_go_when_blocked() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let mut romeo = server.login("romeo", "orchard");
        juliet.send(&format!("<presence to='{}'/>", romeo.jid));
        juliet.fence(&mut romeo);
        romeo.quiet();
        assert_eq!(change(&mut juliet, "block", &["romeo@localhost"]), "result");
        let presence = romeo.expect("presence");
        assert_eq!(presence.attribute("type"), Some("unavailable"));
        assert_eq!(presence.attribute("from"), Some(juliet.jid.as_str()));
        juliet.send("</stream:stream>");
        juliet.expect_close();
        romeo.ask("get", Some("juliet@localhost"), "<vCard xmlns='vcard-temp'/>");
        assert_eq!(romeo.quiet(), []);
    });
}

/// Closes the stream, whatever comes before its end.
fn leave(mut client: Client) {
    client.send("</stream:stream>");
    while !matches!(client.next(), Said::StreamClosed) {}
}

#[test]
fn a_blocked_resource_is_passed_by_and_the_others_of_its_user_are_not() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo", "nurse"]);
        befriend(server, "juliet", "romeo");
        let mut orchard = server.online("romeo", "orchard");
        let mut hall = server.online("romeo", "hall");
        let from = "juliet@localhost/balcony";
        // To a subscriber it is broadcast; the nurse, who is none, has to be asked for by name.
        for (user, to) in [("juliet", ""), ("nurse", " to='romeo@localhost'")] {
            for way in ["romeo@localhost/orchard", "localhost/orchard"] {
                let from = from.replace("juliet", user);
                let mut blocker = server.login(user, "balcony");
                let mut seen = |blocker: &mut Client| {
                    blocker.fence(&mut hall);
                    hall.fence(&mut orchard);
                    let of = |client: &mut Client| {
                        let mut found = presences(client);
                        found.retain(|(who, _)| *who == from);
                        found.into_iter().map(|(_, typ)| typ).collect::<Vec<_>>()
                    };
                    (of(&mut orchard), of(&mut hall))
                };
                let (here, gone) = (vec![String::new()], vec!["unavailable".to_owned()]);
                blocker.send(&format!("<presence{to}/>"));
                assert_eq!(seen(&mut blocker), (here.clone(), here.clone()), "{user} {way}");
                assert_eq!(change(&mut blocker, "block", &[way]), "result");
                assert_eq!(seen(&mut blocker), (gone.clone(), vec![]), "{user} {way}: goes for one resource");
                blocker.send(&format!("<presence{to}><show>away</show></presence>"));
                assert_eq!(seen(&mut blocker), (vec![], here), "{user} {way}: the next presence");
                leave(blocker);
                let mut after = server.login(user, "cellar");
                assert_eq!(seen(&mut after), (vec![], gone), "{user} {way}: the end");
                assert_eq!(change(&mut after, "unblock", &[]), "result");
                leave(after);
            }
        }
    });
}

#[test]
fn a_request_to_the_account_of_a_blocker_is_answered_as_for_no_account() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        befriend(server, "juliet", "romeo");
        let mut juliet = server.online("juliet", "balcony");
        let card = "<vCard xmlns='vcard-temp'><FN>J</FN></vCard>";
        assert_eq!(outcome(&juliet.ask("set", None, card)), "result");
        assert_eq!(change(&mut juliet, "block", &["romeo@localhost"]), "result");
        let mut romeo = server.online("romeo", "orchard");
        for child in [
            "<vCard xmlns='vcard-temp'/>",
            "<query xmlns='jabber:iq:last'/>",
            "<query xmlns='jabber:iq:roster'/>",
            "<query xmlns='jabber:iq:version'/>",
            "<query xmlns='urn:xmpp:unknown'/>",
            "<query xmlns='http://jabber.org/protocol/disco#info'/>",
            "<query xmlns='http://jabber.org/protocol/disco#items'/>",
            "<query xmlns='http://jabber.org/protocol/disco#items' node='n'/>",
        ] {
            for typ in ["get", "set"] {
                let hers = romeo.ask(typ, Some("juliet@localhost"), child);
                let nobodys = romeo.ask(typ, Some("nobody@localhost"), child);
                assert_eq!(hers.nodes(), nobodys.nodes(), "{typ} {child}");
                assert_eq!(hers.attribute("type"), nobodys.attribute("type"), "{typ} {child}");
            }
        }
    });
}

#[test]
fn an_account_and_one_of_its_resources_may_both_be_on_the_list() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo", "nurse"]);
        befriend(server, "juliet", "romeo");
        let mut juliet = server.online("juliet", "balcony");
        let mut orchard = server.online("romeo", "orchard");
        let mut hall = server.online("romeo", "hall");
        let mut nurse = server.login("nurse", "house");
        // The list was changed on her worker when the answer came; what that sent is on his before what she sends next.
        let mut seen = |juliet: &mut Client| {
            juliet.fence(&mut nurse);
            nurse.send("<message to='juliet@localhost/balcony' id='go'/>");
            juliet.set_aside_until(|stanza| stanza.attribute("id") == Some("go"));
            let of = |client: &mut Client| {
                client.ask("get", Some("juliet@localhost"), "<vCard xmlns='vcard-temp'/>");
                let mut found = presences(client);
                found.retain(|(who, _)| who.starts_with("juliet"));
                found.into_iter().map(|(_, typ)| typ).collect::<Vec<_>>()
            };
            (of(&mut orchard), of(&mut hall))
        };
        let gone = vec!["unavailable".to_owned()];
        let here = vec![String::new()];
        seen(&mut juliet);
        for one in ["romeo@localhost/orchard", "localhost/orchard"] {
            // One after the other.
            assert_eq!(change(&mut juliet, "block", &[one]), "result");
            assert_eq!(seen(&mut juliet), (gone.clone(), vec![]), "{one}");
            assert_eq!(change(&mut juliet, "block", &["example.org", "romeo@localhost"]), "result");
            assert_eq!(seen(&mut juliet), (vec![], gone.clone()), "{one}, then the account");
            assert_eq!(change(&mut juliet, "unblock", &["romeo@localhost"]), "result");
            assert_eq!(seen(&mut juliet), (vec![], here.clone()), "{one} is still on the list");
            assert_eq!(change(&mut juliet, "unblock", &[one]), "result");
            assert_eq!(seen(&mut juliet), (here.clone(), vec![]), "{one} no longer");
            // Both at once.
            assert_eq!(change(&mut juliet, "block", &[one, "romeo@localhost"]), "result");
            assert_eq!(seen(&mut juliet), (gone.clone(), gone.clone()), "{one} and the account");
            assert_eq!(change(&mut juliet, "unblock", &[]), "result");
            assert_eq!(seen(&mut juliet), (here.clone(), here.clone()), "nobody is blocked");
        }
    });
}
