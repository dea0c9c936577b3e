//! What subscribers are told of a node (XEP-0060 §7.1.2, §7.2.2, §8), and how items are written.

use whimbrel_storage::directory::pubsub::{ItemRef, NodeConfig};

use super::config::{self, Whose};
use crate::proto::ns;
use crate::proto::{delay, rsm};
use crate::xml::writer;

/// An item as it is written.
#[derive(Clone, Copy, Debug)]
pub struct WrittenItem<'a> {
    /// Its id.
    pub id: &'a str,
    /// Who published it, where that is said.
    pub publisher: Option<&'a str>,
    /// What was published; empty for nothing.
    pub payload: &'a [u8],
}

impl<'a> WrittenItem<'a> {
    /// An item of the directory. Its publisher is told unless it is the owner.
    pub fn of(item: &ItemRef<'a>, owner: &str) -> WrittenItem<'a> {
        let publisher = Some(item.publisher).filter(|publisher| *publisher != owner);
        WrittenItem { id: item.id, publisher, payload: item.payload }
    }

    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<item id='");
        writer::escape_attribute(self.id, out);
        out.push(b'\'');
        if let Some(publisher) = self.publisher {
            out.extend_from_slice(b" publisher='");
            writer::escape_attribute(publisher, out);
            out.push(b'\'');
        }
        if self.payload.is_empty() {
            return out.extend_from_slice(b"/>");
        }
        out.push(b'>');
        out.extend_from_slice(self.payload);
        out.extend_from_slice(b"</item>");
    }
}

/// What has happened to a node.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Items were published.
    Items(&'a [WrittenItem<'a>]),
    /// The item that was published last, long ago: at this time, milliseconds since 1970.
    Last(WrittenItem<'a>, u64),
    /// Items were retracted.
    Retracted(&'a [String]),
    /// All items are gone.
    Purged,
    /// The node is gone.
    Deleted,
    /// The node is configured otherwise.
    Configured(&'a NodeConfig, Whose),
    /// The owner has changed somebody's subscription.
    Subscription {
        /// Whose.
        jid: &'a str,
        /// To what.
        state: &'a str,
    },
}

fn push(out: &mut Vec<u8>, parts: &[&str]) {
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
}

fn open(name: &str, node: &str, out: &mut Vec<u8>) {
    push(out, &["<", name, " node='"]);
    writer::escape_attribute(node, out);
    out.push(b'\'');
}

/// What stands behind the addresses in a message that tells of an event: the rest of its start tag, what is in it, and its
/// end.
pub fn message_tail(owner: &str, node: &str, event: Event<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    push(&mut out, &[" type='headline'><event xmlns='", ns::PUBSUB_EVENT, "'>"]);
    match event {
        Event::Items(items) => {
            open("items", node, &mut out);
            out.push(b'>');
            items.iter().for_each(|item| item.write(&mut out));
            push(&mut out, &["</items>"]);
        }
        Event::Last(item, _) => {
            open("items", node, &mut out);
            out.push(b'>');
            item.write(&mut out);
            push(&mut out, &["</items>"]);
        }
        Event::Retracted(ids) => {
            open("items", node, &mut out);
            out.push(b'>');
            for id in ids {
                push(&mut out, &["<retract id='"]);
                writer::escape_attribute(id, &mut out);
                push(&mut out, &["'/>"]);
            }
            push(&mut out, &["</items>"]);
        }
        Event::Purged | Event::Deleted => {
            let name = if matches!(event, Event::Purged) { "purge" } else { "delete" };
            open(name, node, &mut out);
            push(&mut out, &["/>"]);
        }
        Event::Subscription { jid, state } => {
            open("subscription", node, &mut out);
            push(&mut out, &[" jid='"]);
            writer::escape_attribute(jid, &mut out);
            push(&mut out, &["' subscription='", state, "'/>"]);
        }
        Event::Configured(configuration, whose) => {
            open("configuration", node, &mut out);
            out.push(b'>');
            let mut form = config::form(configuration, whose);
            form.set_attribute("type", "result");
            form.write(ns::PUBSUB_EVENT, &mut out);
            push(&mut out, &["</configuration>"]);
        }
    }
    push(&mut out, &["</event>"]);
    if let Event::Last(_, published_ms) = event {
        delay::write(owner, published_ms, &mut out);
    }
    push(&mut out, &["</message>"]);
    out
}

/// Writes a message with an event.
pub fn write_message(from: &str, to: &str, tail: &[u8], out: &mut Vec<u8>) {
    push(out, &["<message from='"]);
    writer::escape_attribute(from, out);
    push(out, &["' to='"]);
    writer::escape_attribute(to, out);
    out.push(b'\'');
    out.extend_from_slice(tail);
}

/// An answer with items (§6.5) that is being written.
#[derive(Debug)]
pub struct ItemsAnswer {
    bytes: Vec<u8>,
}

impl ItemsAnswer {
    /// Begins one.
    pub fn new(node: &str) -> ItemsAnswer {
        let mut bytes = Vec::with_capacity(512);
        push(&mut bytes, &["<pubsub xmlns='", ns::PUBSUB, "'>"]);
        open("items", node, &mut bytes);
        bytes.push(b'>');
        ItemsAnswer { bytes }
    }

    /// Appends an item.
    pub fn item(&mut self, item: &WrittenItem<'_>) {
        item.write(&mut self.bytes);
    }

    /// Ends it; with a page where one was asked for, or where there is more.
    pub fn finish(mut self, page: Option<&rsm::Page>) -> Vec<u8> {
        push(&mut self.bytes, &["</items>"]);
        if let Some(page) = page {
            page.to_element().write(ns::PUBSUB, &mut self.bytes);
        }
        push(&mut self.bytes, &["</pubsub>"]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Element;

    fn parsed(event: Event<'_>) -> Element {
        let mut out = Vec::new();
        write_message("a&b@x", "c@x/'r'", &message_tail("a&b@x", "n<'>", event), &mut out);
        Element::parse(&out).unwrap_or_else(|error| panic!("{error}: {}", out.escape_ascii()))
    }

    #[test]
    fn every_event_is_a_message_with_the_nodes_name_in_it() {
        let item = WrittenItem { id: "i'&", publisher: Some("p<@x"), payload: b"<a xmlns='urn:a'/>" };
        let empty = WrittenItem { id: "e", publisher: None, payload: b"" };
        let ids = ["r\"1".to_owned(), "r2".to_owned()];
        let config = NodeConfig::default();
        let table = [
            (Event::Items(&[item, empty]), "items", 2),
            (Event::Last(item, 1_000_000_000_000), "items", 1),
            (Event::Retracted(&ids), "items", 2),
            (Event::Purged, "purge", 0),
            (Event::Deleted, "delete", 0),
            (Event::Configured(&config, Whose::Account), "configuration", 1),
            (Event::Subscription { jid: "j'@x", state: "none" }, "subscription", 0),
        ];
        for (event, name, children) in table {
            let message = parsed(event);
            assert_eq!(message.attribute("type"), Some("headline"));
            assert_eq!(
                (message.attribute("from"), message.attribute("to")),
                (Some("a&b@x"), Some("c@x/'r'"))
            );
            let inside = message.find("event", ns::PUBSUB_EVENT).unwrap().elements().next().unwrap();
            assert_eq!((inside.name(), inside.attribute("node")), (name, Some("n<'>")), "{event:?}");
            assert_eq!(inside.elements().count(), children);
            let delayed = message.find("delay", ns::DELAY).is_some();
            assert_eq!(delayed, matches!(event, Event::Last(..)));
        }
        let message = parsed(Event::Items(&[item]));
        let items = message.find("event", ns::PUBSUB_EVENT).unwrap().elements().next().unwrap();
        let found = items.find("item", ns::PUBSUB_EVENT).unwrap();
        assert_eq!((found.attribute("id"), found.attribute("publisher")), (Some("i'&"), Some("p<@x")));
        assert_eq!(found.elements().next().unwrap().namespace(), "urn:a");
    }

    #[test]
    fn an_answer_has_its_items_and_its_page() {
        let mut answer = ItemsAnswer::new("n");
        answer.item(&WrittenItem { id: "i", publisher: None, payload: b"<a xmlns='urn:a'/>" });
        let page = rsm::Page { bounds: Some(("i".into(), "i".into())), index: None, count: Some(3) };
        let answer = Element::parse(&answer.finish(Some(&page))).unwrap();
        assert!(answer.is("pubsub", ns::PUBSUB));
        assert_eq!(answer.find("items", ns::PUBSUB).unwrap().elements().count(), 1);
        assert!(answer.find("set", ns::RSM).is_some());
    }
}
