//! Personal eventing (XEP-0163) and what rests on it.

mod access;
mod avatars;
mod bookmarks;
mod hostile;
mod nodes;
mod notify;

use whimbrel_server::xml::Element;

use crate::support::answers::outcome;
use crate::support::{Client, TestServer};

const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
const OWNER: &str = "http://jabber.org/protocol/pubsub#owner";
const EVENT: &str = "http://jabber.org/protocol/pubsub#event";
const ERRORS: &str = "http://jabber.org/protocol/pubsub#errors";
const RSM: &str = "http://jabber.org/protocol/rsm";
const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";

/// The condition of an error and that of publish-subscribe beside it; `result` for a result.
pub(crate) fn said(answer: &Element) -> String {
    let error = answer.find("error", "jabber:client");
    let own = error.and_then(|error| error.elements().find(|child| child.namespace() == ERRORS));
    match own {
        Some(own) => format!("{} {}", outcome(answer), own.name()),
        None => outcome(answer),
    }
}

/// Asks something of the nodes of an account; `None`: of the client's own.
fn ask(client: &mut Client, typ: &str, to: Option<&str>, inside: &str) -> Element {
    client.ask(typ, to, &format!("<pubsub xmlns='{PUBSUB}'>{inside}</pubsub>"))
}

/// Asks something that only the owner may ask, of the client's own nodes.
fn ask_as_owner(client: &mut Client, typ: &str, inside: &str) -> Element {
    client.ask(typ, None, &format!("<pubsub xmlns='{OWNER}'>{inside}</pubsub>"))
}

/// A form with these fields.
pub(crate) fn form(kind: &str, fields: &[(&str, &str)]) -> String {
    let fields: String = fields
        .iter()
        .map(|(name, value)| format!("<field var='pubsub#{name}'><value>{value}</value></field>"))
        .collect();
    format!(
        "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'>\
         <value>{PUBSUB}#{kind}</value></field>{fields}</x>"
    )
}

/// Publishes an item to a node of the client's own; the answer in short.
pub(crate) fn publish(client: &mut Client, node: &str, id: &str, payload: &str) -> String {
    publish_with(client, None, (node, id, payload), &[])
}

/// Publishes an item under conditions.
pub(crate) fn publish_with(
    client: &mut Client,
    to: Option<&str>,
    (node, id, payload): (&str, &str, &str),
    options: &[(&str, &str)],
) -> String {
    let options = match options {
        [] => String::new(),
        _ => format!("<publish-options>{}</publish-options>", form("publish-options", options)),
    };
    let item = format!("<item id='{id}'>{payload}</item>");
    said(&ask(client, "set", to, &format!("<publish node='{node}'>{item}</publish>{options}")))
}

/// A payload that says something.
pub(crate) fn note(text: &str) -> String {
    format!("<note xmlns='urn:example:note'>{text}</note>")
}

/// Ids and texts of the items in an answer, or the error.
pub(crate) fn items(answer: &Element) -> Result<Vec<String>, String> {
    if answer.attribute("type") != Some("result") {
        return Err(said(answer));
    }
    let items = answer.find("pubsub", PUBSUB).and_then(|pubsub| pubsub.find("items", PUBSUB));
    Ok(items.expect("items").elements().map(item).collect())
}

fn item(item: &Element) -> String {
    let text = item.elements().next().map(|payload| payload.content().into_owned()).unwrap_or_default();
    format!("{}={text}", item.attribute("id").expect("an id"))
}

/// The items of a node of somebody, or the error.
fn get(client: &mut Client, to: Option<&str>, node: &str) -> Result<Vec<String>, String> {
    items(&ask(client, "get", to, &format!("<items node='{node}'/>")))
}

/// A client that wants to hear of these nodes has logged in, sent its presence and told what it wants.
pub(crate) fn interested(server: &TestServer, name: &str, resource: &str, nodes: &[&str]) -> Client {
    let mut client = server.login(name, resource);
    come(&mut client, nodes);
    client
}

/// A client sends its presence, with the capabilities of one that wants to hear of these nodes. If it is asked what they
/// are, it says so.
pub(crate) fn come(client: &mut Client, nodes: &[&str]) {
    let info = disco_info(nodes);
    client.send(&format!("<presence>{}</presence>", caps(&info)));
    client.settle();
    answer_disco(client, &info);
    client.settle();
    // It has asked for last items now. They are looked for in the next iteration, which the next answer comes after: what is
    // published from here on is none of them.
    client.settle();
}

/// A node of which every client wants to hear that wants to hear of any.
const FENCE: &str = "~fence";

/// What disco tells of a client that wants to hear of these nodes.
pub(crate) fn disco_info(nodes: &[&str]) -> String {
    let nodes = nodes.iter().chain(&[FENCE]);
    let features: String = nodes.map(|node| format!("<feature var='{node}+notify'/>")).collect();
    format!("<identity category='client' type='pc' name='test'/>{features}")
}

/// Waits until everything that a client has published before has reached the clients of its own worker: it publishes
/// once more, and what is told takes the same way.
fn flush(client: &mut Client) {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let id = format!("f{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    client.send(&format!(
        "<iq type='set' id='{id}'><pubsub xmlns='{PUBSUB}'><publish node='{FENCE}'><item id='{id}'>{}</item></publish>\
         </pubsub></iq>",
        note("x")
    ));
    let wanted = format!("{FENCE}: {id}=x");
    client.set_aside_until(|stanza| event(stanza).is_some_and(|event| event.ends_with(&wanted)));
}

/// The events that have reached `other` because of what `one` has done so far. `one` wants to hear of some node.
fn heard(one: &mut Client, other: &mut Client) -> Vec<String> {
    flush(one);
    one.fence(other);
    other.settle();
    events(other)
}

/// The next event that comes; what comes before it is dropped.
fn next_event(client: &mut Client) -> String {
    loop {
        if let Some(event) = event(&client.stanza()).filter(|event| !event.contains(FENCE)) {
            return event;
        }
    }
}

/// A client wants to hear of these nodes from now on; the last items of `owner`, whose presence it sees, that it gets for that.
fn come_and_hear(owner: &mut Client, client: &mut Client, nodes: &[&str]) -> Vec<String> {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    // Its name is behind all others, and so is its last item.
    let mark = format!("~mark{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    assert_eq!(publish(owner, &mark, "i", &note("x")), "result");
    flush(owner);
    owner.fence(client);
    client.quiet();
    come(client, &[nodes, &[mark.as_str()]].concat());
    await_mark(client, &mark)
}

/// The events up to the last item of a node, without it.
fn await_mark(client: &mut Client, mark: &str) -> Vec<String> {
    let mut events = Vec::new();
    loop {
        let event = next_event(client);
        match event.contains(mark) {
            true => return events,
            false => events.push(event),
        }
    }
}

/// The work that the server has done when everything has been counted that this client has caused so far.
pub(crate) fn work(server: &TestServer, client: &mut Client) -> u64 {
    // An iteration is counted when its output has been sent, so the second answer comes after the count of the first.
    client.settle();
    client.settle();
    server.metric("loop.work")
}

/// The element in a presence that stands for it.
pub(crate) fn caps(info: &str) -> String {
    let query = format!("<query xmlns='http://jabber.org/protocol/disco#info'>{info}</query>");
    let query = Element::parse(query.as_bytes()).unwrap();
    let mut features: Vec<&str> = query.elements().filter_map(|child| child.attribute("var")).collect();
    features.sort_unstable();
    let text: String = features.iter().map(|feature| format!("{feature}<")).collect();
    let text = format!("client/pc//test<{text}");
    let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let ver = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, hash);
    format!("<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:test' ver='{ver}'/>")
}

/// Answers the server's questions that have come.
pub(crate) fn answer_disco(client: &mut Client, info: &str) {
    // Last items may have come already.
    let asks = |stanza: &Element| stanza.find("query", DISCO_INFO).is_some();
    for stanza in client.take_aside(asks) {
        let query = stanza.find("query", DISCO_INFO).expect("it asks");
        let (id, node) = (stanza.attribute("id").unwrap(), query.attribute("node").unwrap());
        client.send(&format!(
            "<iq type='result' id='{id}' to='localhost'>\
             <query xmlns='http://jabber.org/protocol/disco#info' node='{node}'>{info}</query></iq>"
        ));
    }
}

/// Events that have come: who says it, the node, and what.
fn events(client: &mut Client) -> Vec<String> {
    client.quiet().iter().filter_map(event).filter(|event| !event.contains(FENCE)).collect()
}

/// An event in short.
pub(crate) fn event(stanza: &Element) -> Option<String> {
    let what = stanza.find("event", EVENT)?.elements().next()?;
    let from = stanza.attribute("from").unwrap_or_default().replace("@localhost", "");
    let node = what.attribute("node").unwrap_or_default();
    let inside: Vec<String> = what
        .elements()
        .map(|child| match child.name() {
            "item" => item(child),
            other => format!("{other} {}", child.attribute("id").unwrap_or_default()),
        })
        .collect();
    let last = if stanza.find("delay", "urn:xmpp:delay").is_some() { " (last)" } else { "" };
    Some(match what.name() {
        "items" => format!("{from} {node}: {}{last}", inside.join(", ")),
        other => format!("{from} {node}: {other}"),
    })
}
