//! What the server answers for itself and for accounts: version, time, last activity, vCards, private XML, pings.

use whimbrel_storage::directory::{LastActivity, WriteTransaction, run_inline};

use crate::support::answers::{befriend, outcome, payload, text_of};
use crate::support::{on_each_driver, on_each_driver_with};

#[test]
fn the_server_tells_its_version_and_the_time() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        let answer = juliet.ask("get", Some("localhost"), "<query xmlns='jabber:iq:version'/>");
        assert_eq!(text_of(payload(&answer), "name"), "Whimbrel");
        assert_eq!(text_of(payload(&answer), "version"), env!("CARGO_PKG_VERSION"));
        let answer = juliet.ask("get", Some("localhost"), "<time xmlns='urn:xmpp:time'/>");
        assert_eq!(text_of(payload(&answer), "tzo"), "+00:00");
        let utc = text_of(payload(&answer), "utc");
        assert!(utc.len() == 20 && utc.starts_with("20") && utc.ends_with('Z'), "{utc}");
    });
}

#[test]
fn the_session_request_of_old_clients_succeeds() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        for to in [None, Some("localhost")] {
            let answer = juliet.ask("set", to, "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>");
            assert_eq!(outcome(&answer), "result");
        }
    });
}

#[test]
fn a_ping_is_answered_by_the_domain_the_own_account_and_the_own_client() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let ping = "<ping xmlns='urn:xmpp:ping'/>";
        for to in [None, Some("localhost"), Some("juliet@localhost")] {
            assert_eq!(outcome(&juliet.ask("get", to, ping)), "result", "{to:?}");
        }
        assert_eq!(outcome(&juliet.ask("get", Some("romeo@localhost"), ping)), "service-unavailable");
        // A full JID is the client there, also when it is the one that asks.
        let own = juliet.jid.clone();
        juliet.send(&format!("<iq type='get' id='self' to='{own}'>{ping}</iq>"));
        let asked = juliet.expect("iq");
        assert_eq!((asked.attribute("type"), asked.attribute("from")), (Some("get"), Some(own.as_str())));
        juliet.send(&format!("<iq type='result' id='self' to='{own}'/>"));
        assert_eq!(juliet.expect("iq").attribute("type"), Some("result"));
    });
}

#[test]
fn last_activity_is_told_to_those_who_see_the_presence() {
    const LAST: &str = "<query xmlns='jabber:iq:last'/>";
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo", "tybalt"]);
        befriend(server, "juliet", "romeo");
        let mut romeo = server.online("romeo", "orchard");
        let mut tybalt = server.online("tybalt", "street");
        let uptime = romeo.ask("get", Some("localhost"), LAST);
        assert!(payload(&uptime).attribute("seconds").unwrap().parse::<u32>().unwrap() < 600);
        assert_eq!(outcome(&romeo.ask("get", Some("juliet@localhost"), LAST)), "item-not-found");
        let last = LastActivity { at_seconds: 1_000_000_000, status: "gone".into() };
        let job =
            move |transaction: &mut WriteTransaction<'_>| transaction.set_last_activity("juliet", &last);
        run_inline(&server.server.shared.directory, Box::new(job)).unwrap();
        let answer = romeo.ask("get", Some("juliet@localhost"), LAST);
        assert!(payload(&answer).attribute("seconds").unwrap().parse::<u64>().unwrap() > 700_000_000);
        assert_eq!(payload(&answer).content(), "gone");
        let _juliet = server.online("juliet", "balcony");
        let answer = romeo.ask("get", Some("juliet@localhost"), LAST);
        assert_eq!(payload(&answer).attribute("seconds"), Some("0"));
        for account in ["juliet@localhost", "nobody@localhost"] {
            assert_eq!(outcome(&tybalt.ask("get", Some(account), LAST)), "forbidden", "{account}");
        }
    });
}

#[test]
fn a_vcard_is_kept_as_it_was_set_and_shown_to_others() {
    const ASK: &str = "<vCard xmlns='vcard-temp'/>";
    const CARD: &str = "<vCard xmlns='vcard-temp'><FN>Juliet &amp; Co</FN>\
        <PHOTO><TYPE>image/png</TYPE><BINVAL>AAAA</BINVAL></PHOTO><x:y xmlns:x='urn:x' x:z='1'/></vCard>";
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let mut romeo = server.login("romeo", "orchard");
        assert_eq!(outcome(&juliet.ask("get", None, ASK)), "item-not-found");
        assert_eq!(outcome(&romeo.ask("get", Some("juliet@localhost"), ASK)), "service-unavailable");
        assert_eq!(outcome(&romeo.ask("get", Some("nobody@localhost"), ASK)), "service-unavailable");
        assert_eq!(outcome(&juliet.ask("set", None, CARD)), "result");
        let own = juliet.ask("get", Some("juliet@localhost"), ASK);
        let others = romeo.ask("get", Some("juliet@localhost"), ASK);
        let expected = whimbrel_server::xml::Element::parse(CARD.as_bytes()).unwrap();
        assert_eq!(payload(&own), &expected);
        assert_eq!(payload(&others), &expected);
        assert_eq!(others.attribute("from"), Some("juliet@localhost"));
        assert_eq!(outcome(&romeo.ask("set", Some("juliet@localhost"), CARD)), "forbidden");
        assert_eq!(outcome(&romeo.ask("get", None, ASK)), "item-not-found");
    });
}

#[test]
fn a_vcard_avatar_in_presence_passes_untouched() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let mut romeo = server.login("romeo", "orchard");
        let update = "<x xmlns='vcard-temp:x:update'><photo>da39a3ee</photo></x>";
        juliet.send(&format!("<presence to='{}'>{update}</presence>", romeo.jid));
        let presence = romeo.expect("presence");
        let expected = whimbrel_server::xml::Element::parse(update.as_bytes()).unwrap();
        assert_eq!(presence.elements().next(), Some(&expected));
    });
}

#[test]
fn private_xml_is_kept_by_name_and_namespace() {
    let query = |inside: &str| format!("<query xmlns='jabber:iq:private'>{inside}</query>");
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let mut romeo = server.login("romeo", "orchard");
        let marks = "<storage xmlns='storage:bookmarks'><conference jid='a@b'/></storage>";
        let notes = "<storage xmlns='storage:rosternotes'/>";
        let asked = query("<storage xmlns='storage:bookmarks'/>");
        let empty = juliet.ask("get", None, &asked);
        assert_eq!(payload(&empty).elements().next().unwrap().elements().count(), 0);
        assert_eq!(outcome(&juliet.ask("set", None, &query(&format!("{marks}{notes}")))), "result");
        let kept = juliet.ask("get", None, &asked);
        let expected = whimbrel_server::xml::Element::parse(marks.as_bytes()).unwrap();
        assert_eq!(payload(&kept).elements().next(), Some(&expected));
        // It is his own that another account sees.
        let others = romeo.ask("get", None, &asked);
        assert_eq!(payload(&others).elements().next().unwrap().elements().count(), 0);
        assert_eq!(outcome(&romeo.ask("get", Some("juliet@localhost"), &asked)), "service-unavailable");
        let roster = query("<query xmlns='jabber:iq:roster'/>");
        assert_eq!(outcome(&juliet.ask("set", None, &roster)), "not-acceptable");
        assert_eq!(outcome(&juliet.ask("get", None, &query(&format!("{marks}{notes}")))), "not-acceptable");
        assert_eq!(outcome(&juliet.ask("get", None, &query(""))), "bad-request");
    });
}

#[test]
fn private_xml_is_bounded_and_replacing_it_makes_room() {
    let set = |name: &str, length: usize| {
        let text = "x".repeat(length);
        format!("<query xmlns='jabber:iq:private'><{name} xmlns='urn:example'>{text}</{name}></query>")
    };
    on_each_driver_with(
        |config| config.limits.private_bytes = 4000,
        |server| {
            server.accounts(&["juliet"]);
            let mut juliet = server.login("juliet", "balcony");
            assert_eq!(outcome(&juliet.ask("set", None, &set("a", 2500))), "result");
            assert_eq!(outcome(&juliet.ask("set", None, &set("b", 2500))), "resource-constraint");
            assert_eq!(outcome(&juliet.ask("set", None, &set("a", 1000))), "result");
            assert_eq!(outcome(&juliet.ask("set", None, &set("b", 2500))), "result");
        },
    );
}
