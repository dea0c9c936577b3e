//! What was said in a room, read again by those who may (XEP-0313), and its picture (XEP-0486).

use whimbrel_server::xml::Element;

use super::{PRIVATE, USER, codes, enter, make, make_it, message, room, say, three, until};
use crate::support::answers::{outcome, payload};
use crate::support::{Client, on_each_driver, on_each_driver_with};

const ARCHIVE: &str = "urn:xmpp:mam:2";

/// Asks for a page of the hall's archive: what came, and the end of the page.
pub(super) fn page(client: &mut Client, inside: &str) -> (Vec<Element>, Element) {
    client.send(&format!(
        "<iq type='set' id='mam' to='{}'><query xmlns='{ARCHIVE}' queryid='q'>{inside}</query></iq>",
        room("hall")
    ));
    let end = client.set_aside_until(|stanza| stanza.name() == "iq" && stanza.attribute("id") == Some("mam"));
    let results = client.quiet().into_iter().filter(|stanza| stanza.find("result", ARCHIVE).is_some());
    (results.collect(), end)
}

pub(super) fn inner(result: &Element) -> &Element {
    let result = result.find("result", ARCHIVE).expect("a result");
    assert_eq!(result.attribute("queryid"), Some("q"));
    let forwarded = result.find("forwarded", "urn:xmpp:forward:0").expect("forwarded");
    assert!(forwarded.find("delay", "urn:xmpp:delay").is_some());
    forwarded.find("message", "jabber:client").expect("the message")
}

/// The ids of the messages, as their senders gave them.
fn ids(results: &[Element]) -> Vec<String> {
    results.iter().map(|result| inner(result).attribute("id").unwrap().to_owned()).collect()
}

fn set(inside: &str) -> String {
    format!("<set xmlns='http://jabber.org/protocol/rsm'>{inside}</set>")
}

/// The room's own id of a message that somebody got.
pub(super) fn given_id(message: &Element) -> String {
    let id = message.find("stanza-id", "urn:xmpp:sid:0").expect("the room has given it one");
    assert_eq!(id.attribute("by"), Some("hall@conference.localhost"));
    id.attribute("id").unwrap().to_owned()
}

#[test]
fn an_absent_member_reads_page_by_page_what_was_said() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
        let mut given = Vec::new();
        for id in ["a", "b", "c"] {
            say(&mut juliet, "hall", id);
            given.push(given_id(&message(&mut juliet, id)));
        }
        let (all, end) = page(&mut romeo, "");
        assert_eq!(ids(&all), ["a", "b", "c"]);
        assert_eq!(payload(&end).attribute("complete"), Some("true"));
        let told: Vec<_> = all
            .iter()
            .map(|result| result.find("result", ARCHIVE).unwrap().attribute("id").unwrap())
            .collect();
        assert_eq!(told, given, "the ids are those that were told when it was said");
        assert!(
            all.iter().all(|result| inner(result).find("occupant-id", "urn:xmpp:occupant-id:0").is_some())
        );

        let (first, end) = page(&mut romeo, &set("<max>2</max>"));
        assert_eq!((ids(&first), payload(&end).attribute("complete")), (vec!["a".into(), "b".into()], None));
        let (rest, _) = page(&mut romeo, &set(&format!("<max>2</max><after>{}</after>", given[1])));
        assert_eq!(ids(&rest), ["c"]);
        let (last, _) = page(&mut romeo, &set("<max>2</max><before/>"));
        assert_eq!(ids(&last), ["b", "c"], "the last page, in its order");
        let (_, unknown) = page(&mut romeo, &set("<after>aaaaaaaaaaaaa</after>"));
        assert_eq!(outcome(&unknown), "item-not-found");

        let (nothing, refused) = page(&mut nurse, "");
        assert_eq!(
            (nothing.len(), outcome(&refused).as_str()),
            (0, "forbidden"),
            "she does not belong to it"
        );
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "outcast"), "result");
        assert_eq!(outcome(&page(&mut romeo, "").1), "forbidden");
    });
}

#[test]
fn private_messages_are_in_no_archive_and_addresses_for_those_who_see_them() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        make(&mut juliet, "hall", "jule", &[]);
        enter(&mut romeo, "hall", "romeo");
        let to = format!("{}/jule", room("hall"));
        romeo.send(&format!("<message type='chat' to='{to}' id='private'><body>psst</body></message>"));
        message(&mut juliet, "private");
        say(&mut romeo, "hall", "open");
        message(&mut juliet, "open");
        let author = |results: &[Element]| {
            let x = inner(&results[0]).find("x", USER).and_then(|x| x.find("item", USER));
            x.and_then(|item| item.attribute("jid")).map(str::to_owned)
        };
        let (all, _) = page(&mut juliet, "");
        assert_eq!((ids(&all), author(&all).as_deref()), (vec!["open".into()], Some("romeo@localhost")));
        let (all, _) = page(&mut romeo, "");
        assert_eq!(
            (ids(&all), author(&all)),
            (vec!["open".into()], None),
            "addresses are the moderators' here"
        );
        let with = |jid: &str| {
            format!(
                "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>{ARCHIVE}</value></field>\
                 <field var='with'><value>{jid}</value></field></x>"
            )
        };
        assert_eq!(ids(&page(&mut romeo, &with(&format!("{}/romeo", room("hall")))).0), ["open"]);
        assert_eq!(page(&mut romeo, &with(&format!("{}/jule", room("hall")))).0.len(), 0);
    });
}

#[test]
fn a_room_made_later_has_nothing_of_the_one_before() {
    on_each_driver(|server| {
        let [mut juliet, ..] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        say(&mut juliet, "hall", "old");
        message(&mut juliet, "old");
        let destroy = format!("<query xmlns='{}'><destroy/></query>", super::OWNER);
        assert_eq!(outcome(&juliet.ask("set", Some(&room("hall")), &destroy)), "result");
        juliet.quiet();
        assert_eq!(outcome(&page(&mut juliet, "").1), "item-not-found");
        make(&mut juliet, "hall", "jule", PRIVATE);
        assert_eq!(page(&mut juliet, "").0.len(), 0);
    });
}

#[test]
fn a_server_without_archives_answers_for_no_room() {
    on_each_driver_with(
        |config| config.archive.enabled = false,
        |server| {
            let [mut juliet, ..] = three(server);
            make(&mut juliet, "hall", "jule", PRIVATE);
            assert_eq!(outcome(&page(&mut juliet, "").1), "service-unavailable");
        },
    );
}

#[test]
fn owners_give_a_room_its_picture_and_strangers_to_a_group_do_not_see_it() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, mut nurse] = three(server);
        make(&mut juliet, "hall", "jule", PRIVATE);
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
        enter(&mut romeo, "hall", "romeo");
        juliet.quiet();
        let vcard = "<vCard xmlns='vcard-temp'><PHOTO><TYPE>image/png</TYPE><BINVAL>aGVsbG8=</BINVAL></PHOTO></vCard>";
        let get = "<vCard xmlns='vcard-temp'/>";
        let hall = room("hall");
        assert_eq!(outcome(&romeo.ask("get", Some(&hall), get)), "item-not-found");
        assert_eq!(outcome(&romeo.ask("set", Some(&hall), vcard)), "forbidden");
        assert_eq!(outcome(&juliet.ask("set", Some(&hall), vcard)), "result");
        let told = until(&mut romeo, |stanza| stanza.name() == "message" && !codes(stanza).is_empty());
        assert_eq!(codes(&told), [104]);
        let shown = romeo.ask("get", Some(&hall), get);
        assert!(payload(&shown).find("PHOTO", "vcard-temp").is_some());
        assert_eq!(outcome(&nurse.ask("get", Some(&hall), get)), "item-not-found");
        let info = romeo.ask("get", Some(&hall), "<query xmlns='http://jabber.org/protocol/disco#info'/>");
        let form = payload(&info).find("x", "jabber:x:data").expect("muc#roominfo");
        let hash = form.elements().find(|field| field.attribute("var") == Some("muc#roominfo_avatarhash"));
        let hash = hash.and_then(|field| field.find("value", "jabber:x:data")).expect("the hash is told");
        assert_eq!(hash.content(), "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d");
        assert_eq!(outcome(&juliet.ask("set", Some(&hall), get)), "result");
        assert_eq!(outcome(&romeo.ask("get", Some(&hall), get)), "item-not-found", "an empty one is none");
    });
}

/// The part of a query that asks for what one occupant has said.
fn said_by(nick: &str) -> String {
    format!(
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>{ARCHIVE}</value></field>\
         <field var='with'><value>{}/{nick}</value></field></x>",
        room("hall")
    )
}

#[test]
fn a_page_that_finds_nothing_in_all_it_may_read_is_refused() {
    on_each_driver_with(
        |config| config.archive.messages_per_page = 20,
        |server| {
            let [mut juliet, mut romeo, _] = three(server);
            make(&mut juliet, "hall", "jule", PRIVATE);
            assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
            enter(&mut romeo, "hall", "romeo");
            let mut speak = |count: usize| {
                for n in 0..count {
                    say(&mut juliet, "hall", &format!("j{n}"));
                    message(&mut juliet, &format!("j{n}"));
                }
            };
            speak(15);
            say(&mut romeo, "hall", "r1");
            message(&mut romeo, "r1");
            speak(15);
            let (found, end) = page(&mut romeo, &said_by("romeo"));
            assert_eq!((ids(&found), payload(&end).attribute("complete")), (vec!["r1".into()], None));
            let first = given_id_of(&found[0]);
            // Behind what was found the client goes on, to the end.
            let (found, end) =
                page(&mut romeo, &(said_by("romeo") + &set(&format!("<after>{first}</after>"))));
            assert_eq!((found.len(), payload(&end).attribute("complete")), (0, Some("true")));
            speak(15);
            let (found, end) =
                page(&mut romeo, &(said_by("romeo") + &set(&format!("<after>{first}</after>"))));
            assert_eq!((found.len(), outcome(&end).as_str()), (0, "resource-constraint"));
        },
    );
}

/// The id of a result.
fn given_id_of(result: &Element) -> String {
    result.find("result", ARCHIVE).unwrap().attribute("id").unwrap().to_owned()
}

#[test]
fn members_read_a_room_with_a_password_when_they_have_entered_it() {
    on_each_driver(|server| {
        let [mut juliet, mut romeo, _] = three(server);
        let fields = [PRIVATE, &[("passwordprotectedroom", "1"), ("roomsecret", "sesame")]].concat();
        make(&mut juliet, "hall", "jule", &fields);
        assert_eq!(make_it(&mut juliet, "hall", "romeo", "member"), "result");
        say(&mut juliet, "hall", "m1");
        message(&mut juliet, "m1");
        assert_eq!(outcome(&page(&mut romeo, "").1), "forbidden");
        let entered = super::enter_with(&mut romeo, "hall", "romeo", "<password>sesame</password>");
        assert_ne!(outcome(entered.last().unwrap()), "not-authorized");
        assert_eq!(ids(&page(&mut romeo, "").0), ["m1"]);
        juliet.send(&format!("<presence to='{}/jule' type='unavailable'/>", room("hall")));
        until(&mut juliet, |stanza| stanza.attribute("type") == Some("unavailable"));
        assert_eq!(ids(&page(&mut juliet, "").0), ["m1"], "owners know it");
    });
}
