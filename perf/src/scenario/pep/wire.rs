//! What is said and heard: subscriptions, capabilities, publications, and the messages that tell of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::account::Accounts;
use crate::engine::keys::Hash;
use crate::engine::scan::Element;

const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
const DISCO: &str = "http://jabber.org/protocol/disco#info";

/// The node that is published to, of an account and of the service.
pub(super) const NODE: &str = "urn:example:whimbrel-perf";

/// The id of the request that makes the node of the service.
pub(super) const CREATE: &str = "create";

/// The id of a request for a subscription to it.
pub(super) const SUBSCRIBE: &str = "subscribe";

/// What clients of one kind announce (XEP-0115).
pub(super) struct Software {
    /// The nodes of which they want to hear, sorted.
    nodes: Vec<String>,
    ver: String,
}

impl Software {
    /// Clients that want to hear of these nodes.
    pub(super) fn new(mut nodes: Vec<String>) -> Software {
        nodes.sort();
        let features: String = nodes.iter().map(|node| format!("{node}+notify<")).collect();
        let ver = STANDARD.encode(Hash::Sha1.digest(format!("client/pc//perf<{features}").as_bytes()));
        Software { nodes, ver }
    }

    /// The presence with which one comes online.
    pub(super) fn presence(&self) -> String {
        format!(
            "<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:example:perf' ver='{}'/></presence>",
            self.ver
        )
    }

    /// The answer to a question of the server; `None`: it is none.
    pub(super) fn answer(&self, element: &Element<'_>) -> Option<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if element.name() != b"iq" || element.attribute(b"type") != Some(b"get") {
            return None;
        }
        let id = text(element.attribute(b"id")?);
        let to = element.attribute(b"from").map(|from| format!(" to='{}'", text(from))).unwrap_or_default();
        let query = element.find(b"query").filter(|query| query.contains(DISCO.as_bytes()));
        let Some(query) = query else {
            return Some(format!(
                "<iq type='error' id='{id}'{to}><error type='cancel'><service-unavailable \
                 xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
            ));
        };
        let node = query.attribute(b"node").map(|node| format!(" node='{}'", text(node))).unwrap_or_default();
        let features: String =
            self.nodes.iter().map(|node| format!("<feature var='{node}+notify'/>")).collect();
        Some(format!(
            "<iq type='result' id='{id}'{to}><query xmlns='{DISCO}'{node}>\
             <identity category='client' type='pc' name='perf'/>{features}</query></iq>"
        ))
    }
}

/// A presence for one account.
pub(super) fn directed(typ: &str, account: u64, domain: &str) -> String {
    format!("<presence type='{typ}' to='{}@{domain}'/>", Accounts::name(account))
}

/// A publication of an item whose payload has so many bytes of text, to a node of the account; or to one of a service.
pub(super) fn publish(service: Option<&str>, node: &str, item: &str, bytes: usize) -> String {
    format!(
        "<iq type='set' id='p{item}'{}><pubsub xmlns='{PUBSUB}'><publish node='{node}'><item id='{item}'>\
         <note xmlns='urn:example:note'>{}</note></item></publish></pubsub></iq>",
        to(service),
        "x".repeat(bytes)
    )
}

fn to(service: Option<&str>) -> String {
    service.map(|service| format!(" to='{service}'")).unwrap_or_default()
}

/// A request for the node of a service.
pub(super) fn create(service: &str) -> String {
    format!(
        "<iq type='set' id='{CREATE}' to='{service}'><pubsub xmlns='{PUBSUB}'><create node='{NODE}'/></pubsub></iq>"
    )
}

/// A request for a subscription of an account to the node of a service.
pub(super) fn subscribe(service: &str, account: u64, domain: &str) -> String {
    let jid = format!("{}@{domain}", Accounts::name(account));
    format!(
        "<iq type='set' id='{SUBSCRIBE}' to='{service}'><pubsub xmlns='{PUBSUB}'>\
         <subscribe node='{NODE}' jid='{jid}'/></pubsub></iq>"
    )
}

/// What a message tells of: the node, and the id of the first item.
pub(super) fn event<'a>(message: &Element<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let items = message.find(b"event")?.find(b"items")?;
    Some((items.attribute(b"node")?, items.find(b"item")?.attribute(b"id")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::scan::{self, Item};

    fn element(text: &str) -> Element<'_> {
        match scan::next(text.as_bytes()).unwrap().unwrap().0 {
            Item::Element(element) => element,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_question_is_answered_with_what_the_hash_is_of() {
        let software = Software::new(vec!["urn:b".into(), "urn:a".into()]);
        assert!(software.presence().contains(&format!("ver='{}'", software.ver)));
        let answer = software
            .answer(&element(
                "<iq type='get' id='q' from='localhost'><query xmlns='http://jabber.org/protocol/disco#info' node='n#v'/></iq>",
            ))
            .unwrap();
        let order = ["id='q' to='localhost'", "node='n#v'", "client", "urn:a+notify", "urn:b+notify"];
        let places: Vec<_> = order.iter().map(|part| answer.find(part).unwrap()).collect();
        assert!(places.is_sorted(), "{answer}");
        let other = software.answer(&element("<iq type='get' id='r'><ping xmlns='urn:xmpp:ping'/></iq>"));
        assert!(other.unwrap().contains("service-unavailable"));
        assert_eq!(software.answer(&element("<iq type='result' id='r'/>")), None);
    }

    #[test]
    fn an_event_names_its_node_and_its_item() {
        let told = element(
            "<message from='a@b'><event xmlns='http://jabber.org/protocol/pubsub#event'><items node='n'><item id='7'>\
             <x xmlns='y'/></item></items></event></message>",
        );
        assert_eq!(event(&told), Some((&b"n"[..], &b"7"[..])));
        assert_eq!(event(&element("<message><body>x</body></message>")), None);
    }
}
