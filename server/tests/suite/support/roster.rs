//! Steps that the chapters on rosters, subscriptions and presence share, and stanzas in short.

use whimbrel_server::xml::Element;

use super::{Client, TestServer};

/// Namespace of rosters.
pub(crate) const ROSTER: &str = "jabber:iq:roster";

/// A client that has fetched its roster and sent initial presence; what came of that is put aside.
pub(crate) fn ready(server: &TestServer, name: &str, resource: &str) -> Client {
    let mut client = server.login(name, resource);
    roster(&mut client);
    client.send("<presence/>");
    client.settle();
    client.quiet();
    client
}

/// Fetches the roster; its items in short, sorted.
pub(crate) fn roster(client: &mut Client) -> Vec<String> {
    let result = client.ask("get", None, "<query xmlns='jabber:iq:roster'/>");
    assert_eq!(result.attribute("type"), Some("result"), "{result:?}");
    let query = result.find("query", ROSTER).expect("a roster");
    let mut items: Vec<String> = query.elements().map(item).collect();
    items.sort();
    items
}

/// `<presence type='TYP' to='NAME@localhost'/>`
pub(crate) fn presence(client: &mut Client, typ: &str, name: &str) {
    client.send(&format!("<presence type='{typ}' to='{name}@localhost'/>"));
}

/// Waits until what both clients have caused has happened everywhere: directory writes, what follows from them for
/// the other user, and what follows from that for the first.
pub(crate) fn sync(a: &mut Client, b: &mut Client) {
    for _ in 0..3 {
        written(a);
        a.fence(b);
        written(b);
        b.fence(a);
    }
}

/// Waits until every directory write that a client has caused so far is done. Writes keep their order, and removing
/// nothing from a roster is one that changes nothing.
pub(crate) fn written(client: &mut Client) {
    let nothing =
        "<query xmlns='jabber:iq:roster'><item jid='nobody.invalid' subscription='remove'/></query>";
    let answer = client.ask("set", None, nothing);
    assert_eq!(error_of(&answer), "item-not-found");
}

/// Makes both see each other's presence, and forgets what they heard of it.
pub(crate) fn befriend(a: &mut Client, b: &mut Client) {
    let (a_name, b_name) = (name(a), name(b));
    presence(a, "subscribe", &b_name);
    sync(a, b);
    presence(b, "subscribed", &a_name);
    presence(b, "subscribe", &a_name);
    sync(b, a);
    presence(a, "subscribed", &b_name);
    sync(a, b);
    assert!(roster(a).contains(&format!("{b_name} both")), "{:?}", roster(a));
    assert!(roster(b).contains(&format!("{a_name} both")), "{:?}", roster(b));
    a.quiet();
    b.quiet();
}

/// The localpart of a client.
pub(crate) fn name(client: &Client) -> String {
    client.jid.split('@').next().unwrap().to_owned()
}

/// The defined condition of a stanza error.
pub(crate) fn error_of(stanza: &Element) -> String {
    assert_eq!(stanza.attribute("type"), Some("error"), "{stanza:?}");
    let error = stanza.find("error", "jabber:client").expect("an error");
    let condition = error.elements().next().expect("a condition");
    condition.name().to_owned()
}

/// What has come and was not looked at, in short.
pub(crate) fn heard(client: &mut Client) -> Vec<String> {
    client.quiet().iter().map(short).collect()
}

/// A stanza in few words: `subscribe romeo`, `available romeo/orchard (text of its status)`, `push romeo both`.
pub(crate) fn short(stanza: &Element) -> String {
    let from = stanza.attribute("from").unwrap_or("-").replace("@localhost", "");
    let typ = stanza.attribute("type");
    match (stanza.name(), typ) {
        (_, Some("error")) => format!("error {} {from}", error_of(stanza)),
        ("presence", typ) => {
            let status = stanza.find("status", "jabber:client");
            let status = status.map(|status| format!(" ({})", status.content())).unwrap_or_default();
            format!("{} {from}{status}", typ.unwrap_or("available"))
        }
        ("iq", Some("set")) => {
            let query = stanza.find("query", ROSTER).expect("a roster push");
            format!("push {}", item(query.elements().next().expect("an item")))
        }
        (name, _) => format!("{name} {from}"),
    }
}

fn item(item: &Element) -> String {
    let attribute = |name: &str| item.attribute(name).unwrap_or_default().replace("@localhost", "");
    let mut short = format!("{} {}", attribute("jid"), attribute("subscription"));
    if item.attribute("ask") == Some("subscribe") {
        short.push_str(" ask");
    }
    if item.attribute("approved") == Some("true") {
        short.push_str(" approved");
    }
    if let Some(name) = item.attribute("name") {
        short.push_str(&format!(" {name:?}"));
    }
    for group in item.elements() {
        short.push_str(&format!(" [{}]", group.content()));
    }
    short
}
