//! Rosters (RFC 6121 §2).

use whimbrel_server::xml::Element;

use crate::support::roster::{ROSTER, befriend, error_of, heard, presence, ready, roster, sync};
use crate::support::{Client, on_each_driver, on_each_driver_with};

fn set(client: &mut Client, item: &str) -> Element {
    client.ask("set", None, &format!("<query xmlns='{ROSTER}'>{item}</query>"))
}

fn set_well(client: &mut Client, item: &str) {
    let answer = set(client, item);
    assert_eq!(answer.attribute("type"), Some("result"), "{answer:?}");
    assert_eq!(answer.elements().count(), 0, "{answer:?}");
    client.settle();
}

/// A get with a version; the version of the roster that comes, or `None` for an empty result.
fn get_since(client: &mut Client, version: &str) -> Option<(String, Vec<String>)> {
    let answer = client.ask("get", None, &format!("<query xmlns='{ROSTER}' ver='{version}'/>"));
    assert_eq!(answer.attribute("type"), Some("result"), "{answer:?}");
    client.settle();
    let query = answer.find("query", ROSTER)?;
    let contacts = query.elements().map(|item| item.attribute("jid").unwrap().to_owned()).collect();
    Some((query.attribute("ver").expect("a version").to_owned(), contacts))
}

#[test]
fn items_are_added_changed_and_removed_and_every_interested_resource_hears_of_it() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut balcony = ready(server, "juliet", "balcony");
        let mut chamber = ready(server, "juliet", "chamber");
        // Has not asked for the roster.
        let mut garden = server.online("juliet", "garden");
        garden.fence(&mut balcony);
        garden.fence(&mut chamber);
        balcony.quiet();
        chamber.quiet();
        let hear = |chamber: &mut Client, garden: &mut Client, balcony: &mut Client, push: &str| {
            balcony.fence(chamber);
            balcony.fence(garden);
            assert_eq!(heard(chamber), [push]);
            assert_eq!(heard(balcony), [push]);
            assert_eq!(heard(garden), [""; 0]);
        };
        set_well(&mut balcony, "<item jid='nurse@localhost' name='Nurse'><group>Servants</group></item>");
        hear(&mut chamber, &mut garden, &mut balcony, "push nurse none \"Nurse\" [Servants]");
        set_well(&mut balcony, "<item jid='NURSE@localhost'><group>A</group><group>B</group></item>");
        hear(&mut chamber, &mut garden, &mut balcony, "push nurse none [A] [B]");
        assert_eq!(roster(&mut garden), ["nurse none [A] [B]"]);
        set_well(&mut balcony, "<item jid='nurse@localhost' subscription='remove'/>");
        balcony.fence(&mut garden);
        assert_eq!(heard(&mut garden), ["push nurse remove"], "interested since it has fetched the roster");
        hear(&mut chamber, &mut garden, &mut balcony, "push nurse remove");
        assert_eq!(roster(&mut garden), [""; 0]);
    });
}

#[test]
fn a_roster_set_that_breaks_a_rule_changes_nothing() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = ready(server, "juliet", "balcony");
        let cases = [
            ("", "bad-request"),
            ("<item jid='a@localhost'/><item jid='b@localhost'/>", "bad-request"),
            ("<item jid='a@localhost'><group>g</group><group>g</group></item>", "bad-request"),
            ("<item jid='a@localhost'><group/></item>", "not-acceptable"),
            ("<item jid='a b@localhost'/>", "jid-malformed"),
            ("<item jid='juliet@localhost'/>", "not-allowed"),
            ("<item jid='nobody@localhost' subscription='remove'/>", "item-not-found"),
        ];
        for (item, condition) in cases {
            assert_eq!(error_of(&set(&mut juliet, item)), condition, "{item}");
        }
        for to in ["romeo@localhost", "nobody@localhost"] {
            let query = "<query xmlns='jabber:iq:roster'/>";
            assert_eq!(error_of(&juliet.ask("get", Some(to), query)), "forbidden", "{to}");
            let query = "<query xmlns='jabber:iq:roster'><item jid='a@localhost'/></query>";
            assert_eq!(error_of(&juliet.ask("set", Some(to), query)), "forbidden", "{to}");
        }
        juliet.settle();
        assert_eq!(heard(&mut juliet), [""; 0]);
        assert_eq!(roster(&mut juliet), [""; 0]);
    });
}

#[test]
fn a_full_roster_takes_changes_and_no_more_items() {
    on_each_driver_with(
        |config| config.limits.roster_items = 2,
        |server| {
            server.accounts(&["juliet"]);
            let mut juliet = ready(server, "juliet", "balcony");
            set_well(&mut juliet, "<item jid='a@localhost'/>");
            set_well(&mut juliet, "<item jid='b@localhost'/>");
            assert_eq!(error_of(&set(&mut juliet, "<item jid='c@localhost'/>")), "resource-constraint");
            set_well(&mut juliet, "<item jid='b@localhost' name='B'/>");
            set_well(&mut juliet, "<item jid='a@localhost' subscription='remove'/>");
            set_well(&mut juliet, "<item jid='c@localhost'/>");
            assert_eq!(roster(&mut juliet), ["b none \"B\"", "c none"]);
        },
    );
}

#[test]
fn removing_a_contact_ends_both_subscriptions() {
    on_each_driver(|server| {
        let (r, j) = (server.name_at_home_on(0, "romeo"), server.name_at_home_on(1, "juliet"));
        server.accounts(&[&r, &j]);
        let (mut romeo, mut juliet) = (ready(server, &r, "orchard"), ready(server, &j, "balcony"));
        befriend(&mut romeo, &mut juliet);
        let answer = set(&mut juliet, &format!("<item jid='{r}@localhost' subscription='remove'/>"));
        assert_eq!(answer.attribute("type"), Some("result"));
        sync(&mut juliet, &mut romeo);
        assert_eq!(heard(&mut juliet), [format!("push {r} remove"), format!("unavailable {r}/orchard")]);
        let told = [
            format!("unsubscribe {j}"),
            format!("push {j} to"),
            format!("unavailable {j}/balcony"),
            format!("unsubscribed {j}"),
            format!("push {j} none"),
        ];
        let mut heard_by_romeo = heard(&mut romeo);
        // Presence does not wait for the directory and may overtake what does.
        let at = heard_by_romeo.iter().position(|s| s.starts_with("unavailable")).expect("unavailable");
        let unavailable = heard_by_romeo.remove(at);
        assert_eq!(unavailable, told[2]);
        assert_eq!(heard_by_romeo, [&told[0][..], &told[1], &told[3], &told[4]]);
        assert_eq!(roster(&mut romeo), [format!("{j} none")]);
        assert_eq!(roster(&mut juliet), [""; 0]);
    });
}

#[test]
fn removing_a_contact_takes_back_the_request_to_him() {
    on_each_driver(|server| {
        let (r, j) = (server.name_at_home_on(0, "romeo"), server.name_at_home_on(1, "juliet"));
        server.accounts(&[&r, &j]);
        let (mut romeo, mut juliet) = (ready(server, &r, "orchard"), ready(server, &j, "balcony"));
        presence(&mut romeo, "subscribe", &j);
        sync(&mut romeo, &mut juliet);
        juliet.quiet();
        set_well(&mut romeo, &format!("<item jid='{j}@localhost' subscription='remove'/>"));
        sync(&mut romeo, &mut juliet);
        assert_eq!(heard(&mut juliet), [format!("unsubscribe {r}")]);
        // An answer now is no answer.
        presence(&mut juliet, "subscribed", &r);
        sync(&mut juliet, &mut romeo);
        assert_eq!(roster(&mut romeo), [""; 0]);
    });
}

#[test]
fn a_client_that_knows_a_version_gets_what_has_changed_since() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        let (empty, contacts) = get_since(&mut juliet, "").expect("no version is known: the whole roster");
        assert_eq!(contacts, [""; 0]);
        for contact in ["a", "b", "c"] {
            set_well(&mut juliet, &format!("<item jid='{contact}@localhost'/>"));
        }
        set_well(&mut juliet, "<item jid='b@localhost' subscription='remove'/>");
        juliet.quiet();
        let mut garden = server.login("juliet", "garden");
        let (now, contacts) =
            get_since(&mut garden, "nonsense").expect("an unknown version: the whole roster");
        assert_eq!(contacts, ["a@localhost", "c@localhost"]);

        assert_eq!(get_since(&mut garden, &now), None);
        assert_eq!(heard(&mut garden), [""; 0], "nothing has changed");

        set_well(&mut juliet, "<item jid='c@localhost' name='C'/>");
        set_well(&mut juliet, "<item jid='a@localhost' subscription='remove'/>");
        juliet.fence(&mut garden);
        let pushes = garden.quiet();
        // A version is a number that rises, and what tells one copy of the directory from another.
        let version =
            |push: &Element| push.find("query", ROSTER).unwrap().attribute("ver").unwrap().to_owned();
        let versions: Vec<String> = pushes.iter().map(version).collect();
        let parts: Vec<(u64, &str)> = versions
            .iter()
            .map(|version| version.split_once('-').map(|(n, copy)| (n.parse().unwrap(), copy)).unwrap())
            .collect();
        assert!(parts.len() == 2 && parts[0].0 < parts[1].0 && parts[0].1 == parts[1].1, "{versions:?}");

        let mut chamber = server.login("juliet", "chamber");
        match get_since(&mut chamber, &now) {
            None => assert_eq!(heard(&mut chamber), ["push c none \"C\"", "push a remove"]),
            whole => panic!("two changes are few: {whole:?}"),
        }
        // From the beginning: as changes or as a whole, the end is the same.
        let mut old = server.login("juliet", "old");
        match get_since(&mut old, &empty) {
            None => {
                let pushes = heard(&mut old);
                assert!(pushes.contains(&"push c none \"C\"".to_owned()), "{pushes:?}");
                assert!(!pushes.iter().any(|push| push == "push a none"), "{pushes:?}");
            }
            Some((_, contacts)) => assert_eq!(contacts, ["c@localhost"]),
        }
    });
}

#[test]
fn a_get_without_a_version_has_none_in_its_result() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        let answer = juliet.ask("get", Some("juliet@localhost"), &format!("<query xmlns='{ROSTER}'/>"));
        let query = answer.find("query", ROSTER).expect("a roster");
        assert_eq!(query.attribute("ver"), None);
    });
}
