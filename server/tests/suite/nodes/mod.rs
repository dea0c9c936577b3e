//! The publish-subscribe service at a domain of its own (XEP-0060): nodes that belong to no account.

mod access;
mod hostile;
mod life;
mod lists;
mod notify;
mod owners;

use whimbrel_server::config::{Config, NodeMakers};
use whimbrel_server::xml::Element;

use crate::pep::{event, form, items, note, said};
use crate::support::{Client, TestServer, drivers};

const SERVICE: &str = "pubsub.localhost";
const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
const OWNER: &str = "http://jabber.org/protocol/pubsub#owner";
const RSM: &str = "http://jabber.org/protocol/rsm";

/// Runs a test with one worker and with two, on every driver: a node's home is its members', or it is not. Every user may make
/// nodes.
fn everywhere(test: impl Fn(&TestServer)) {
    everywhere_with(|_| {}, test);
}

/// As [`everywhere`], with changes to the configuration.
fn everywhere_with(configure: impl Fn(&mut Config), test: impl Fn(&TestServer)) {
    for driver in drivers() {
        for workers in [1, 2] {
            eprintln!("on driver {driver:?} with {workers} workers");
            let server = TestServer::start(driver, |config| {
                config.workers = workers;
                config.pubsub.create = NodeMakers::Everyone;
                configure(config);
            });
            test(&server);
        }
    }
}

/// Asks the service something.
fn ask(client: &mut Client, typ: &str, inside: &str) -> Element {
    client.ask(typ, Some(SERVICE), &format!("<pubsub xmlns='{PUBSUB}'>{inside}</pubsub>"))
}

/// Asks the service something that only an owner may ask.
fn ask_as_owner(client: &mut Client, typ: &str, inside: &str) -> Element {
    client.ask(typ, Some(SERVICE), &format!("<pubsub xmlns='{OWNER}'>{inside}</pubsub>"))
}

/// Makes a node; the answer in short.
pub(crate) fn make(client: &mut Client, node: &str, fields: &[(&str, &str)]) -> String {
    let configure = format!("<configure>{}</configure>", form("node_config", fields));
    said(&ask(client, "set", &format!("<create node='{node}'/>{configure}")))
}

/// Publishes an item; the answer in short.
pub(crate) fn publish(client: &mut Client, node: &str, id: &str, text: &str) -> String {
    let item = format!("<publish node='{node}'><item id='{id}'>{}</item></publish>", note(text));
    said(&ask(client, "set", &item))
}

/// Subscribes the account of a client to a node; the answer in short, with the state of the subscription.
pub(crate) fn subscribe(client: &mut Client, node: &str) -> String {
    let jid = client.jid.split('/').next().unwrap().to_owned();
    subscribe_as(client, node, &jid)
}

fn subscribe_as(client: &mut Client, node: &str, jid: &str) -> String {
    let answer = ask(client, "set", &format!("<subscribe node='{node}' jid='{jid}'/>"));
    match answer.find("pubsub", PUBSUB).and_then(|pubsub| pubsub.find("subscription", PUBSUB)) {
        Some(row) if answer.attribute("type") == Some("result") => {
            row.attribute("subscription").unwrap().to_owned()
        }
        _ => said(&answer),
    }
}

/// The items of a node, or the error.
fn get(client: &mut Client, node: &str) -> Result<Vec<String>, String> {
    items(&ask(client, "get", &format!("<items node='{node}'/>")))
}

/// Configures a node; the answer in short.
fn configure(client: &mut Client, node: &str, fields: &[(&str, &str)]) -> String {
    let configure = format!("<configure node='{node}'>{}</configure>", form("node_config", fields));
    said(&ask_as_owner(client, "set", &configure))
}

/// Makes somebody something to a node; the answer in short.
fn affiliate(client: &mut Client, node: &str, name: &str, affiliation: &str) -> String {
    let row = format!("<affiliation jid='{name}@localhost' affiliation='{affiliation}'/>");
    said(&ask_as_owner(client, "set", &format!("<affiliations node='{node}'>{row}</affiliations>")))
}

/// Waits until everything that has happened to a node so far has reached this client: it asks for a change that changes nothing,
/// which takes the same way, and what the node's home has told its own worker is read in the iterations after that.
fn flush(client: &mut Client, node: &str) {
    let jid = format!("{}/~nobody", client.jid.split('/').next().unwrap());
    ask(client, "set", &format!("<unsubscribe node='{node}' jid='{jid}'/>"));
    client.settle();
    client.settle();
}

/// What this client has heard of a node so far.
fn heard(client: &mut Client, node: &str) -> Vec<String> {
    flush(client, node);
    client.quiet().iter().filter_map(event).collect()
}

/// The attributes of the rows of a list in an answer, with spaces between them.
fn rows(answer: &Element, list: &str, attributes: &[&str]) -> Vec<String> {
    assert_eq!(answer.attribute("type"), Some("result"), "{}", String::from_utf8_lossy(&answer.to_bytes()));
    let pubsub = answer.elements().next().unwrap();
    let list = pubsub.elements().find(|child| child.name() == list).unwrap();
    let row = |row: &Element| {
        let values: Vec<&str> = attributes.iter().map(|name| row.attribute(name).unwrap_or("-")).collect();
        values.join(" ")
    };
    list.elements().map(row).collect()
}
