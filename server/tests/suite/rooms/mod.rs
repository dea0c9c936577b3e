//! Rooms (XEP-0045).

mod affiliations;
mod archive;
mod away;
mod bookmarks;
mod consent;
mod crash;
mod crowds;
mod discovery;
mod hats;
mod hostile;
mod invitations;
mod limits;
pub(crate) mod links;
mod messages;
mod owners;
mod requests;
mod retractions;
mod stay;
mod strangers;
mod upgrade;
mod versions;

use whimbrel_server::xml::Element;

use crate::support::answers::outcome;
use crate::support::{Client, TestServer};

const MUC: &str = "http://jabber.org/protocol/muc";
const USER: &str = "http://jabber.org/protocol/muc#user";
const ADMIN: &str = "http://jabber.org/protocol/muc#admin";
const OWNER: &str = "http://jabber.org/protocol/muc#owner";
const SERVICE: &str = "conference.localhost";

/// The address of a room.
pub(crate) fn room(name: &str) -> String {
    format!("{name}@{SERVICE}")
}

/// Asks to enter a room, with this inside of `<x/>`.
pub(crate) fn ask_to_enter(client: &mut Client, name: &str, nick: &str, inside: &str) {
    client.send(&format!("<presence to='{}/{nick}'><x xmlns='{MUC}'>{inside}</x></presence>", room(name)));
}

/// Enters a room; everything that comes up to the subject: presence, history, the subject.
pub(crate) fn enter_with(client: &mut Client, name: &str, nick: &str, inside: &str) -> Vec<Element> {
    ask_to_enter(client, name, nick, inside);
    let last = client.set_aside_until(|stanza| {
        stanza.name() == "presence" && stanza.attribute("type") == Some("error")
            || stanza.find("subject", "jabber:client").is_some()
                && stanza.find("body", "jabber:client").is_none()
    });
    let mut all = client.quiet();
    all.push(last);
    all
}

/// As [`enter_with`], with nothing inside.
pub(crate) fn enter(client: &mut Client, name: &str, nick: &str) -> Vec<Element> {
    enter_with(client, name, nick, "")
}

/// Sends the form that configures a room.
pub(crate) fn configure(client: &mut Client, name: &str, fields: &[(&str, &str)]) -> Element {
    let fields: String = fields
        .iter()
        .map(|(name, value)| format!("<field var='muc#roomconfig_{name}'><value>{value}</value></field>"))
        .collect();
    let form = format!(
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'>\
         <value>{MUC}#roomconfig</value></field>{fields}</x>"
    );
    client.ask("set", Some(&room(name)), &format!("<query xmlns='{OWNER}'>{form}</query>"))
}

/// What stock clients make of a private group.
pub(crate) const PRIVATE: &[(&str, &str)] =
    &[("persistentroom", "1"), ("membersonly", "1"), ("publicroom", "0"), ("whois", "anyone")];

/// A client makes a room and opens it, so configured.
pub(crate) fn make(client: &mut Client, name: &str, nick: &str, fields: &[(&str, &str)]) {
    let seen = enter(client, name, nick);
    let own = seen.iter().find(|stanza| codes(stanza).contains(&110)).expect("its own presence");
    assert!(codes(own).contains(&201), "{own:?}");
    assert_eq!(outcome(&configure(client, name, fields)), "result");
    client.quiet();
}

/// The status codes of a stanza, in their order.
pub(crate) fn codes(stanza: &Element) -> Vec<u16> {
    let Some(x) = stanza.find("x", USER) else { return Vec::new() };
    let statuses = x.elements().filter(|child| child.name() == "status");
    let mut codes: Vec<u16> =
        statuses.map(|status| status.attribute("code").unwrap().parse().unwrap()).collect();
    codes.sort_unstable();
    codes
}

/// A presence in short: nick, type, affiliation, role, the bare address if it is there, codes.
pub(crate) fn seen(presence: &Element) -> String {
    let nick = presence.attribute("from").unwrap().split_once('/').map_or("", |(_, nick)| nick);
    let typ = presence.attribute("type").unwrap_or("available");
    let item = presence.find("x", USER).and_then(|x| x.find("item", USER));
    let of = |name: &str| item.and_then(|item| item.attribute(name)).unwrap_or("-").to_owned();
    let jid = of("jid");
    let jid = jid.split_once('/').map_or(jid.as_str(), |(bare, _)| bare).trim_end_matches("@localhost");
    let codes: Vec<String> = codes(presence).iter().map(u16::to_string).collect();
    format!("{nick} {typ} {}/{} {jid} [{}]", of("affiliation"), of("role"), codes.join(" "))
}

/// The presences among stanzas, in short.
pub(crate) fn presences(stanzas: &[Element]) -> Vec<String> {
    stanzas.iter().filter(|stanza| stanza.name() == "presence").map(seen).collect()
}

/// Waits for the next presence of rooms.
pub(crate) fn next_presence(client: &mut Client) -> String {
    let presence = client.set_aside_until(|stanza| stanza.name() == "presence");
    assert!(client.quiet().is_empty(), "nothing else came");
    seen(&presence)
}

/// Says something to everybody.
pub(crate) fn say(client: &mut Client, name: &str, id: &str) {
    let to = room(name);
    client
        .send(&format!("<message type='groupchat' to='{to}' id='{id}'><body>text of {id}</body></message>"));
}

/// Waits for the message with this id, or the error about it.
pub(crate) fn message(client: &mut Client, id: &str) -> Element {
    client.set_aside_until(|stanza| stanza.name() == "message" && stanza.attribute("id") == Some(id))
}

/// The ids of the messages among stanzas that have a body.
pub(crate) fn said(stanzas: &[Element]) -> Vec<String> {
    let messages = stanzas.iter().filter(|stanza| stanza.find("body", "jabber:client").is_some());
    messages.map(|message| message.attribute("id").unwrap_or_default().to_owned()).collect()
}

/// The next stanza that is wanted, set aside or not; those before it are passed over.
pub(crate) fn until(client: &mut Client, wanted: impl Fn(&Element) -> bool) -> Element {
    loop {
        let next = client.next_stanza();
        if wanted(&next) {
            return next;
        }
    }
}

/// Asks something of `muc#admin`.
pub(crate) fn admin(client: &mut Client, typ: &str, name: &str, items: &str) -> Element {
    client.ask(typ, Some(&room(name)), &format!("<query xmlns='{ADMIN}'>{items}</query>"))
}

/// Makes an account something to a room; the answer in short.
pub(crate) fn make_it(client: &mut Client, name: &str, account: &str, affiliation: &str) -> String {
    let item = format!("<item jid='{account}@localhost' affiliation='{affiliation}'/>");
    outcome(&admin(client, "set", name, &item))
}

/// juliet, romeo and nurse, none of whom is anywhere yet.
pub(crate) fn three(server: &TestServer) -> [Client; 3] {
    server.accounts(&["juliet", "romeo", "nurse"]);
    ["juliet", "romeo", "nurse"].map(|name| server.online(name, "r"))
}

/// Whether a stanza is the client's own presence, with this affiliation.
pub(crate) fn seen_own(stanza: &Element, affiliation: &str) -> bool {
    stanza.name() == "presence" && codes(stanza).contains(&110) && seen(stanza).contains(affiliation)
}
