//! Versions of the list of those who belong to a room (XEP-0463).

use whimbrel_server::xml::Element;

use super::{PRIVATE, USER, codes, enter, enter_with, make, make_it, next_presence, room, three, until};
use crate::support::answers::{outcome, payload};
use crate::support::program::Start;
use crate::support::{Client, drivers, on_each_driver};

const MAV: &str = "urn:xmpp:muc:affiliations:1";

/// Asks to hear who belongs to the room: all of it, or what has changed.
fn asking(since: Option<&str>) -> String {
    match since {
        None => format!("<mav xmlns='{MAV}'/>"),
        Some(since) => format!("<mav xmlns='{MAV}' since='{since}'/>"),
    }
}

/// The versions that a stanza names.
fn versions(stanza: &Element) -> Option<(Option<&str>, &str)> {
    let mav = stanza.find("x", USER)?.find("mav", MAV)?;
    Some((mav.attribute("since"), mav.attribute("until").expect("it leads somewhere")))
}

/// Who belongs to the room, as a message says.
fn items(message: &Element) -> Vec<String> {
    let x = message.find("x", USER).expect("it has them");
    let items = x.elements().filter(|child| child.name() == "item");
    let of = |item: &Element, name: &str| item.attribute(name).unwrap_or("-").to_owned();
    items
        .map(|item| format!("{} {}", of(item, "jid").trim_end_matches("@localhost"), of(item, "affiliation")))
        .collect()
}

/// Enters and asks: what has come before any presence, and the version in the own presence.
fn come(client: &mut Client, nick: &str, since: Option<&str>) -> (Vec<Element>, String) {
    let seen = enter_with(client, "hall", nick, &asking(since));
    let own = seen.iter().find(|stanza| codes(stanza).contains(&110)).expect("its own presence");
    let (before, until) = versions(own).expect("it says the version");
    assert_eq!(before, None);
    let first = seen.iter().position(|stanza| stanza.name() == "presence").unwrap();
    // What else it hears is of its bookmarks.
    let lists = seen[..first].iter().filter(|stanza| versions(stanza).is_some());
    (lists.cloned().collect(), until.to_owned())
}

fn go(client: &mut Client, nick: &str) {
    client.send(&format!("<presence to='{}/{nick}' type='unavailable'/>", room("hall")));
    next_presence(client);
}

/// The next change that somebody is told of: who is what, from which version to which.
fn change(client: &mut Client) -> (String, String, String) {
    let told = until(client, |stanza| versions(stanza).is_some_and(|(since, _)| since.is_some()));
    let (since, until) = versions(&told).unwrap();
    (items(&told).join(" "), since.unwrap().to_owned(), until.to_owned())
}

#[test]
fn who_enters_hears_what_has_changed_since_it_was_there() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
        let (list, first) = come(&mut romeo, "romeo", None);
        assert_eq!(list.len(), 1);
        assert_eq!(items(&list[0]), ["juliet owner", "romeo member"]);
        assert_eq!(versions(&list[0]), Some((None, &*first)));
        assert_eq!(list[0].attribute("from"), Some("hall@conference.localhost"));
        go(&mut romeo, "romeo");

        assert_eq!(make_it(&mut juliet, "hall", "nurse", "member"), "result");
        let (list, second) = come(&mut romeo, "romeo", Some(&first));
        assert_eq!(list.len(), 1);
        assert_eq!(
            (items(&list[0]), versions(&list[0])),
            (vec!["nurse member".into()], Some((Some(&*first), &*second)))
        );
        go(&mut romeo, "romeo");
        let (list, again) = come(&mut romeo, "romeo", Some(&second));
        assert_eq!((list, again), (vec![], second.clone()), "nothing has changed");
        go(&mut romeo, "romeo");

        assert_eq!(make_it(&mut juliet, "hall", "nurse", "none"), "result");
        let (list, third) = come(&mut romeo, "romeo", Some(&first));
        assert_eq!(items(&list[0]), ["nurse none"], "only the last change is told");
        // Where one is already.
        let (list, _) = come(&mut romeo, "romeo", Some(&second));
        assert_eq!(versions(&list[0]), Some((Some(&*second), &*third)));
        go(&mut romeo, "romeo");
        for unknown in
            ["1", "", &first.replace('.', "x"), &format!("{}.{}", 1, first.split_once('.').unwrap().1)]
        {
            let (list, _) = come(&mut romeo, "romeo", Some(unknown));
            assert_eq!(versions(&list[0]), Some((None, &*third)), "{unknown}");
            assert_eq!(items(&list[0]), ["juliet owner", "romeo member"]);
            go(&mut romeo, "romeo");
        }
        // Those who do not ask get no list.
        let seen = enter(&mut romeo, "hall", "romeo");
        assert!(!seen.iter().any(|stanza| stanza.name() == "message" && versions(stanza).is_some()));
    });
}

#[test]
fn each_change_that_is_told_leads_from_one_version_to_the_next() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        let (_, first) = come(&mut juliet, "jule", None);
        let items = "<item jid='romeo@localhost' affiliation='member'/><item jid='nurse@localhost' affiliation='member'/>";
        assert_eq!(outcome(&super::admin(&mut juliet, "set", "hall", items)), "result");
        let (who, since, second) = change(&mut juliet);
        assert_eq!((&*who, &since), ("romeo member", &first));
        let (who, since, third) = change(&mut juliet);
        assert_eq!((&*who, &since), ("nurse member", &second));
        let (list, until) = come(&mut romeo, "romeo", Some(&second));
        assert_eq!((versions(&list[0]), &until), (Some((Some(&*second), &*third)), &third));
        juliet.quiet();

        // Somebody who is there.
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "admin"), "result");
        let (_, since, fourth) = change(&mut juliet);
        assert_eq!(since, third);
        let own = until_own(&mut romeo, "admin");
        assert_eq!(versions(&own), Some((Some(&*third), &*fourth)));
        // One who loses everything, and one whose account goes.
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "none"), "result");
        let (_, since, fifth) = change(&mut juliet);
        assert_eq!(since, fourth);
        nurse.send("<iq type='set' id='r'><query xmlns='jabber:iq:register'><remove/></query></iq>");
        let (who, since, sixth) = change(&mut juliet);
        assert_eq!((&*who, &since), ("nurse none", &fifth));
        let (list, until) = come(&mut juliet, "jule", Some(&sixth));
        assert_eq!((list, until), (vec![], sixth));
    });
}

fn until_own(client: &mut Client, affiliation: &str) -> Element {
    until(client, |stanza| super::seen_own(stanza, affiliation))
}

#[test]
fn lists_are_for_those_who_may_have_them() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        // Where only moderators see who is who.
        let seen = enter_with(&mut romeo, "hall", "romeo", &asking(None));
        assert_eq!((seen[0].name(), outcome(&seen[0]).as_str()), ("message", "forbidden"));
        let own =
            seen.iter().find(|stanza| codes(stanza).contains(&110)).expect("it is in the room all the same");
        assert_eq!(versions(own), None);
        go(&mut romeo, "romeo");

        make(&mut juliet, "garden", "jule", PRIVATE);
        for name in ["romeo", "nurse"] {
            assert_eq!(make_it(&mut juliet, "garden", name, "member"), "result");
        }
        let come = |client: &mut Client, nick: &str, since: Option<&str>| {
            let seen = enter_with(client, "garden", nick, &asking(since));
            let list = seen.iter().rfind(|stanza| stanza.name() == "message" && versions(stanza).is_some());
            list.map(|list| (items(list), versions(list).unwrap().1.to_owned())).expect("a list")
        };
        let (_, first) = come(&mut romeo, "romeo", None);
        assert_eq!(make_it(&mut juliet, "garden", "nurse", "outcast"), "result");
        let (list, _) = come(&mut romeo, "romeo", Some(&first));
        assert_eq!(list, ["nurse none"], "he may not know who is banned");
        assert_eq!(come(&mut romeo, "romeo", None).0, ["juliet owner", "romeo member"]);
        assert_eq!(come(&mut juliet, "jule", Some(&first)).0, ["nurse outcast"]);
        assert_eq!(come(&mut juliet, "jule", None).0, ["juliet owner", "romeo member", "nurse outcast"]);
        nurse.quiet();
    });
}

#[test]
fn a_long_list_comes_in_parts_that_fit_together() {
    on_each_driver(|server| {
        let [mut juliet, ..] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        let names: Vec<String> = (0..200).map(|n| format!("member{n}")).collect();
        server.accounts(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for part in names.chunks(100) {
            let items: String = part
                .iter()
                .map(|name| format!("<item jid='{name}@localhost' affiliation='member'/>"))
                .collect();
            assert_eq!(outcome(&super::admin(&mut juliet, "set", "hall", &items)), "result");
        }
        // She hears of each.
        names.iter().for_each(|_| _ = change(&mut juliet));
        let (list, until) = come(&mut juliet, "jule", None);
        assert!(list.len() > 1);
        let (mut all, mut reached) = (Vec::new(), None);
        for message in &list {
            let (since, until) = versions(message).unwrap();
            assert_eq!(since.map(str::to_owned), reached);
            reached = Some(until.to_owned());
            all.extend(items(message));
        }
        assert_eq!((reached, all.len()), (Some(until), 201));
        // Whoever has heard only the first part gets the rest.
        let (rest, _) = come(&mut juliet, "jule", versions(&list[0]).map(|(_, until)| until));
        assert_eq!(rest, list[1..]);
        let info =
            juliet.ask("get", Some(&room("hall")), "<query xmlns='http://jabber.org/protocol/disco#info'/>");
        assert!(payload(&info).elements().any(|feature| feature.attribute("var") == Some(MAV)));
    });
}

#[test]
fn a_version_is_known_after_a_restart() {
    for driver in drivers() {
        let start = Start::new(&["juliet", "romeo"]).with_driver(driver);
        let program = start.run();
        let mut juliet = program.login("juliet", "r");
        make(&mut juliet, "hall", "jule", PRIVATE);
        let (_, first) = come(&mut juliet, "jule", None);
        program.stop();
        let program = start.run();
        let mut juliet = program.login("juliet", "r");
        let (list, same) = come(&mut juliet, "jule", Some(&first));
        assert_eq!((list, &same), (vec![], &first));
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
        let (list, _) = come(&mut juliet, "jule", Some(&first));
        assert_eq!(items(&list[0]), ["romeo member"]);
        program.stop();
    }
}
