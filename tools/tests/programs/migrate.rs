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
