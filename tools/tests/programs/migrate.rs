//! Accounts of another server; its own programs are in tools/interop.

use time::{Duration, OffsetDateTime};

use crate::support::{Client, Place};

/// An export with these users, each with what waits for it.
fn export(users: &[(&str, &[&str])]) -> String {
    let user = |(name, messages): &(&str, &[&str])| {
        let messages: String = messages.concat();
        format!("<user name='{name}' password='p'><offline-messages>{messages}</offline-messages></user>")
    };
    let users: String = users.iter().map(user).collect();
    format!("<server-data xmlns='urn:xmpp:pie:0'><host jid='localhost'>{users}</host></server-data>")
}

fn message(text: &str, stamp: &str) -> String {
    let delay = match stamp {
        "" => String::new(),
        stamp => format!("<delay xmlns='urn:xmpp:delay' from='localhost' stamp='{stamp}'/>"),
    };
    format!(
        "<message xmlns='jabber:client' from='romeo@localhost/orchard' to='juliet@localhost' type='chat'>\
         <body>{text}</body>{delay}</message>"
    )
}

#[test]
fn messages_that_wait_come_along_in_order_and_with_their_times() {
    let place = Place::new();
    let hour_ago = OffsetDateTime::now_utc() - Duration::hours(1);
    let (date, (hour, minute, second)) = (hour_ago.date(), hour_ago.to_hms());
    let stamp = format!("{date}T{hour:02}:{minute:02}:{second:02}Z");
    let first = message("first &lt;3", &stamp);
    let (second, third, large) =
        (message("second", ""), message("third", ""), message(&"x".repeat(2 << 20), ""));
    let file = place
        .file("all.xml", export(&[("juliet", &[&first, &second, &large, &third]), ("nurse", &[&second])]));
    let path = file.to_str().expect("UTF-8");
    let done = place.json(&["user", "migrate", path, "--create"]);
    assert_eq!(
        (&done["added"], &done["offline"], &done["offline_left"]),
        (&2.into(), &4.into(), &1.into()),
        "{done}"
    );
    // Nothing is written twice.
    let again = place.json(&["user", "migrate", path]);
    assert_eq!(
        (&again["existing"], &again["offline"], &again["offline_left"]),
        (&2.into(), &0.into(), &0.into())
    );

    let mut server = place.server(&["--allow-plaintext"]);
    assert_eq!(place.json(&["status"])["metrics"]["log.pending"], 4);
    let mut juliet = Client::login(&place, "juliet", "p", "r").expect("the password is right");
    juliet.say("<presence/>");
    juliet.hear("third");
    let heard = juliet.heard();
    let at = |text: &str| heard.find(text).unwrap_or_else(|| panic!("no `{text}` in {heard}"));
    assert!(at("first &lt;3") < at("second") && at("second") < at("third"), "{heard}");
    assert!(
        at(&stamp[..stamp.len() - 1]) < at("second"),
        "the time at which the other server received it: {heard}"
    );
    assert_eq!(heard.matches("<delay").count(), heard.matches("<message").count(), "{heard}");
    drop(juliet);
    server.signal("TERM");
    server.end();

    // The log is that of two workers now.
    let later = place.file("later.xml", export(&[("paris", &[&second])]));
    let done = place.ctl(&["user", "migrate", later.to_str().expect("UTF-8")]);
    assert!(done.code == 0 && done.out.contains("1 messages that wait are left behind"), "{done:?}");
}

/// An account with everything that an export can have.
const WHOLE: &str = "<user name='juliet' password='p'>\
    <query xmlns='jabber:iq:roster'>\
    <item jid='nurse@localhost' subscription='none' ask='subscribe' approved='true'/>\
    <item jid='romeo@localhost' subscription='both' name='R &lt;3'><group>Verona</group></item></query>\
    <presence xmlns='jabber:client' type='subscribe' from='paris@localhost'/>\
    <blocklist xmlns='urn:xmpp:blocking'><item jid='tybalt@localhost'/></blocklist>\
    <settings xmlns='whimbrel#settings'><setting name='groups.add' value='nobody'/></settings>\
    <devices xmlns='whimbrel#push'>\
    <device service='1' flags='4' time-to-live='60' enabled-ms='1700000000000' node='phone' token='a&amp;b' resource='r'/></devices>\
    <vCard xmlns='vcard-temp'><FN>Juliet</FN></vCard>\
    <query xmlns='jabber:iq:private'><notes xmlns='urn:notes'><a>1</a></notes></query>\
    <pubsub xmlns='http://jabber.org/protocol/pubsub'>\
    <items node='urn:n&amp;m'><item id='old'><a xmlns='urn:a'>1</a></item>\
    <item id='new' publisher='romeo@localhost'><a xmlns='urn:a'>2 &lt; 3</a></item></items></pubsub>\
    <pubsub xmlns='http://jabber.org/protocol/pubsub#owner'>\
    <configure node='urn:empty'><x xmlns='jabber:x:data' type='submit'>\
    <field var='pubsub#access_model'><value>roster</value></field><field var='pubsub#max_items'><value>7</value></field>\
    <field var='pubsub#roster_groups_allowed'><value>Verona</value><value>&amp;</value></field></x></configure>\
    <configure node='urn:n&amp;m'><x xmlns='jabber:x:data' type='submit'>\
    <field var='pubsub#access_model'><value>open</value></field><field var='pubsub#publish_model'><value>subscribers</value></field>\
    <field var='pubsub#send_last_published_item'><value>never</value></field><field var='pubsub#max_items'><value>max</value></field>\
    <field var='pubsub#deliver_payloads'><value>0</value></field><field var='pubsub#notify_config'><value>1</value></field>\
    <field var='pubsub#title'><value>T</value></field></x></configure>\
    <affiliations node='urn:n&amp;m'><affiliation jid='romeo@localhost' affiliation='publisher'/></affiliations>\
    <subscriptions node='urn:n&amp;m'><subscription jid='romeo@localhost/x' subscription='subscribed'/></subscriptions>\
    </pubsub></user>";

#[test]
fn an_account_goes_out_with_its_nodes_and_comes_back_as_it_was() {
    let place = Place::new();
    let whole = format!(
        "<server-data xmlns='urn:xmpp:pie:0'><host jid='localhost'>{WHOLE}<user name='romeo' password='p'/></host></server-data>"
    );
    let file = place.file("whole.xml", whole);
    let done = place.json(&["user", "migrate", file.to_str().expect("UTF-8"), "--create"]);
    assert_eq!((&done["nodes"], &done["items"]), (&2.into(), &2.into()), "{done}");
    let first = place.ctl(&["user", "export"]);
    assert_eq!(first.code, 0, "{first:?}");
    for part in [
        "<user name='romeo'>",
        "<item jid='nurse@localhost' subscription='none' ask='subscribe' approved='true'></item>",
        "<item jid='romeo@localhost' subscription='both' name='R &lt;3'><group>Verona</group></item>",
        "type='subscribe' from='paris@localhost'/>",
        "<item jid='tybalt@localhost'/>",
        "<setting name='groups.add' value='nobody'/>",
        "<device service='1' flags='4' time-to-live='60' enabled-ms='1700000000000' node='phone' token='a&amp;b' resource='r'/>",
        "<FN>Juliet</FN>",
        "<notes xmlns='urn:notes'><a>1</a></notes>",
        "<items node='urn:n&amp;m'><item id='old'><a xmlns='urn:a'>1</a></item>\
         <item id='new' publisher='romeo@localhost'><a xmlns='urn:a'>2 &lt; 3</a></item></items>",
        "<configure node='urn:empty'>",
        "<value>roster</value></field>",
        "<field var='pubsub#roster_groups_allowed'><value>Verona</value><value>&amp;</value></field>",
        "<field var='pubsub#publish_model'><value>subscribers</value></field>",
        "<field var='pubsub#deliver_payloads'><value>0</value></field>",
        "<field var='pubsub#title'><value>T</value></field>",
        "<affiliation jid='romeo@localhost' affiliation='publisher'/>",
        "<subscription jid='romeo@localhost/x' subscription='subscribed'/>",
    ] {
        assert!(first.out.contains(part), "{part} is not in {}", first.out);
    }

    let other = Place::new();
    let copy = other.file("first.xml", first.out.clone());
    assert_eq!(other.ctl(&["user", "migrate", copy.to_str().expect("UTF-8"), "--create"]).code, 0);
    assert_eq!(other.ctl(&["user", "export"]).out, first.out, "nothing is lost on the way");

    let mut server = other.server(&["--allow-plaintext"]);
    assert!(Client::login(&other, "juliet", "p", "r").is_ok(), "the keys are those of the password");
    let output = other.0.path().join("juliet.xml");
    let written =
        other.json(&["user", "export", "juliet@localhost", "--output", output.to_str().expect("UTF-8")]);
    assert_eq!(
        (&written["accounts"], &written["items"]),
        (&1.into(), &2.into()),
        "beside a server that runs: {written}"
    );
    let text = std::fs::read_to_string(&output).expect("it is there");
    assert!(text.contains("<user name='juliet'>") && !text.contains("<user name='romeo'>"));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&output).expect("it is there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let again = other.ctl(&["user", "export", "--output", output.to_str().expect("UTF-8")]);
    assert!(
        again.code == 1 && again.err.contains("cannot write"),
        "what is there is not written over: {again:?}"
    );
    let unknown = other.ctl(&["user", "export", "nobody@localhost"]);
    assert!(unknown.code == 1 && unknown.err.contains("there is no account nobody@localhost"), "{unknown:?}");
    server.signal("TERM");
    server.end();
}
