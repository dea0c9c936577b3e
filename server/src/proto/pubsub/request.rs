//! What a client asks of the nodes of an account, or of the publish-subscribe service (XEP-0060 §5 to §8).

use whimbrel_storage::directory::pubsub::{
    Affiliation, ITEM_ID_BYTES_MAX, NODE_NAME_BYTES_MAX, SubscriptionState,
};
use whimbrel_storage::jid::Jid;

use super::config::ConfigChange;
use super::error;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::forms;
use crate::proto::letters::Letters;
use crate::proto::ns;
use crate::proto::rsm::{PageRequest, Sizes};
use crate::stanza::Type;
use crate::xml::Element;

/// Items that one request may name, or carry.
pub const ITEMS_MAX: usize = 256;

/// Items of a page when a client names no number, and at most: the bytes of the answer decide then.
const PAGE: Sizes = Sizes { default: usize::MAX, max: usize::MAX };

/// A parent that no element has: so an item declares each namespace itself, and can stand anywhere.
const NOWHERE: &str = "\0";

/// An item that is to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its id; `None`: the server gives it one.
    pub id: Option<String>,
    /// What is published; `None`: nothing.
    pub payload: Option<Element>,
}

impl Published {
    /// The payload as it is kept: it declares its namespaces itself.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(payload) = &self.payload {
            payload.write(NOWHERE, &mut bytes);
        }
        bytes
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Items of a node (§6.5): those with these ids, or the newest.
    Items {
        /// The node.
        node: String,
        /// Only those.
        ids: Vec<String>,
        /// At most so many, the newest (§6.5.7).
        max: Option<usize>,
        /// Which page.
        page: Option<PageRequest>,
    },
    /// The requester's subscriptions (§5.6), to one node or to all, and which page of them.
    Subscriptions(Option<String>, Option<PageRequest>),
    /// The requester's affiliations (§5.7), to one node or to all, and which page of them.
    Affiliations(Option<String>, Option<PageRequest>),
    /// Make a node (§8.1); without a name the server gives it one.
    Create {
        /// The node.
        node: Option<String>,
        /// How it is to be configured.
        config: ConfigChange,
    },
    /// Publish items (§7.1).
    Publish {
        /// The node.
        node: String,
        /// The items.
        items: Vec<Published>,
        /// Conditions.
        options: Option<ConfigChange>,
    },
    /// Retract items (§7.2).
    Retract {
        /// The node.
        node: String,
        /// The items.
        ids: Vec<String>,
        /// Subscribers are to hear of it in any case.
        notify: bool,
    },
    /// Subscribe (§6.1).
    Subscribe {
        /// The node.
        node: String,
        /// Who.
        jid: Jid,
    },
    /// Unsubscribe (§6.2).
    Unsubscribe {
        /// The node.
        node: String,
        /// Who.
        jid: Jid,
    },
    /// The form of the node's configuration (§8.2).
    Configuration(String),
    /// The form of the configuration that a new node has (§8.3).
    DefaultConfiguration,
    /// Configure a node (§8.2.4); `None`: the form was cancelled.
    Configure(String, Option<ConfigChange>),
    /// Delete a node (§8.4).
    Delete(String),
    /// Drop all items of a node (§8.5).
    Purge(String),
    /// Who is subscribed (§8.8.1), and which page of them.
    Subscribers(String, Option<PageRequest>),
    /// Change subscriptions of others (§8.8.2).
    ChangeSubscribers(String, Vec<(Jid, SubscriptionState)>),
    /// Who is affiliated (§8.9.1), and which page of them.
    Affiliated(String, Option<PageRequest>),
    /// Change affiliations of others (§8.9.2); `None`: owner.
    ChangeAffiliated(String, Vec<(Jid, Option<Affiliation>)>),
}

impl Request {
    /// Reads `<pubsub/>`.
    ///
    /// # Errors
    /// Those of XEP-0060's tables for a request that is not complete, or asks for what the service does not have.
    pub fn read(typ: Type, pubsub: &Element) -> Result<Request, StanzaError> {
        let namespace = pubsub.namespace();
        let action = pubsub.elements().find(|child| child.namespace() == namespace);
        let Some(action) = action else { return Err(error::bad("nothing is asked for")) };
        match (namespace, typ) {
            (ns::PUBSUB, Type::Get) => read_get(pubsub, action),
            (ns::PUBSUB, _) => read_set(pubsub, action),
            (_, Type::Get) => read_owner_get(pubsub, action),
            _ => read_owner_set(action),
        }
    }
}

/// The node that a set changes, before anything else is read of it; `None`: it names none.
pub fn node_of_set(pubsub: &Element) -> Option<&str> {
    let namespace = pubsub.namespace();
    let is_one = pubsub.name() == "pubsub" && matches!(namespace, ns::PUBSUB | ns::PUBSUB_OWNER);
    let action = pubsub.elements().find(|child| child.namespace() == namespace).filter(|_| is_one)?;
    action.attribute("node").filter(|node| (1..=NODE_NAME_BYTES_MAX).contains(&node.len()))
}

fn read_get(pubsub: &Element, action: &Element) -> Result<Request, StanzaError> {
    Ok(match action.name() {
        "items" => {
            let max = action.attribute("max_items").map(number_of_items).transpose()?;
            Request::Items {
                node: needed_node(action)?,
                ids: ids_of(action, false)?,
                max,
                page: PageRequest::find(pubsub, PAGE)?,
            }
        }
        "subscriptions" => Request::Subscriptions(node_of(action)?, PageRequest::find(pubsub, PAGE)?),
        "affiliations" => Request::Affiliations(node_of(action)?, PageRequest::find(pubsub, PAGE)?),
        "options" | "default" => return Err(error::unsupported("subscription-options")),
        _ => return Err(error::bad("there is no such request")),
    })
}

fn number_of_items(text: &str) -> Result<usize, StanzaError> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match is_number {
        true => Ok(text.parse().unwrap_or(usize::MAX)),
        false => Err(error::bad("max_items is not a number of items")),
    }
}

fn read_set(pubsub: &Element, action: &Element) -> Result<Request, StanzaError> {
    Ok(match action.name() {
        "create" => {
            let form = pubsub.find("configure", ns::PUBSUB).and_then(forms::find);
            let config = form.map(ConfigChange::read).transpose()?.flatten().unwrap_or_default();
            if action.attribute("type").is_some_and(|typ| typ != "leaf") {
                return Err(error::unsupported("collections"));
            }
            Request::Create { node: node_of(action)?, config }
        }
        "publish" => publish(pubsub, action)?,
        "retract" => {
            let notify = matches!(action.attribute("notify"), Some("1" | "true"));
            Request::Retract { node: needed_node(action)?, ids: ids_of(action, true)?, notify }
        }
        "subscribe" | "unsubscribe" => {
            let jid = action.attribute("jid");
            let jid = jid.ok_or_else(|| error::with(StanzaCondition::BadRequest, "jid-required"))?;
            let jid = address(jid)?;
            let node = needed_node(action)?;
            match action.name() {
                "subscribe" => Request::Subscribe { node, jid },
                _ => Request::Unsubscribe { node, jid },
            }
        }
        "options" => return Err(error::unsupported("subscription-options")),
        _ => return Err(error::bad("there is no such request")),
    })
}

fn publish(pubsub: &Element, action: &Element) -> Result<Request, StanzaError> {
    let mut items = Vec::new();
    for item in action.elements().filter(|child| child.is("item", ns::PUBSUB)) {
        if items.len() >= ITEMS_MAX {
            return Err(error::with(StanzaCondition::NotAllowed, "max-items-exceeded"));
        }
        let mut payloads = item.elements();
        let (payload, None) = (payloads.next().cloned(), payloads.next()) else {
            return Err(error::with(StanzaCondition::BadRequest, "invalid-payload"));
        };
        let id = item.attribute("id").filter(|id| !id.is_empty()).map(str::to_owned);
        if id.as_ref().is_some_and(|id| id.len() > ITEM_ID_BYTES_MAX) {
            return Err(error::bad("the id of an item is too long"));
        }
        items.push(Published { id, payload });
    }
    let options = pubsub.find("publish-options", ns::PUBSUB).and_then(forms::find);
    let options = options.map(ConfigChange::read_options).transpose()?;
    Ok(Request::Publish { node: needed_node(action)?, items, options })
}

fn read_owner_get(pubsub: &Element, action: &Element) -> Result<Request, StanzaError> {
    Ok(match action.name() {
        "configure" => Request::Configuration(needed_node(action)?),
        "default" => Request::DefaultConfiguration,
        "subscriptions" => Request::Subscribers(needed_node(action)?, PageRequest::find(pubsub, PAGE)?),
        "affiliations" => Request::Affiliated(needed_node(action)?, PageRequest::find(pubsub, PAGE)?),
        _ => return Err(error::bad("there is no such request")),
    })
}

fn read_owner_set(action: &Element) -> Result<Request, StanzaError> {
    Ok(match action.name() {
        "configure" => {
            let Some(form) = forms::find(action) else { return Err(error::bad("the form is missing")) };
            Request::Configure(needed_node(action)?, ConfigChange::read(form)?)
        }
        "delete" => Request::Delete(needed_node(action)?),
        "purge" => Request::Purge(needed_node(action)?),
        "subscriptions" => {
            let read = |child: &Element| match child.attribute("subscription") {
                Some("none") => Ok(SubscriptionState::None),
                Some("pending") => Ok(SubscriptionState::Pending),
                Some("subscribed") => Ok(SubscriptionState::Subscribed),
                _ => Err(error::bad("there is no such state of a subscription")),
            };
            Request::ChangeSubscribers(needed_node(action)?, changes(action, "subscription", read)?)
        }
        "affiliations" => {
            let read = |child: &Element| {
                let named =
                    AFFILIATIONS.iter().find(|(name, _)| child.attribute("affiliation") == Some(name));
                named.map(|(_, value)| *value).ok_or_else(|| error::bad("there is no such affiliation"))
            };
            Request::ChangeAffiliated(needed_node(action)?, changes(action, "affiliation", read)?)
        }
        _ => return Err(error::bad("there is no such request")),
    })
}

/// Affiliations by their names; `None` is the owner's.
const AFFILIATIONS: [(&str, Option<Affiliation>); 6] = [
    ("owner", None),
    ("none", Some(Affiliation::None)),
    ("member", Some(Affiliation::Member)),
    ("publish-only", Some(Affiliation::PublishOnly)),
    ("publisher", Some(Affiliation::Publisher)),
    ("outcast", Some(Affiliation::Outcast)),
];

/// The name of an affiliation.
pub fn affiliation_name(affiliation: Affiliation) -> &'static str {
    let value = Some(affiliation).filter(|affiliation| *affiliation != Affiliation::Owner);
    AFFILIATIONS.iter().find(|(_, named)| *named == value).map_or("none", |(name, _)| name)
}

/// The affiliation of this name.
pub fn affiliation_named(name: &str) -> Option<Affiliation> {
    let found = AFFILIATIONS.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| value.unwrap_or(Affiliation::Owner))
}

/// The name of the state of a subscription.
pub fn subscription_name(state: SubscriptionState) -> &'static str {
    match state {
        SubscriptionState::None => "none",
        SubscriptionState::Pending => "pending",
        SubscriptionState::Subscribed => "subscribed",
    }
}

fn changes<T>(
    action: &Element,
    name: &str,
    read: impl Fn(&Element) -> Result<T, StanzaError>,
) -> Result<Vec<(Jid, T)>, StanzaError> {
    let (mut changes, letters) = (Vec::new(), Letters::of_list());
    for child in action.elements().filter(|child| child.is(name, ns::PUBSUB_OWNER)) {
        if changes.len() >= ITEMS_MAX {
            return Err(error::bad("too many addresses in one request"));
        }
        let jid = child.attribute("jid");
        let jid = jid.ok_or_else(|| error::with(StanzaCondition::BadRequest, "jid-required"))?;
        letters.check(jid)?;
        changes.push((address(jid)?, read(child)?));
    }
    if changes.is_empty() {
        return Err(error::bad("nobody is named"));
    }
    Ok(changes)
}

fn address(text: &str) -> Result<Jid, StanzaError> {
    Jid::parse(text).map_err(|_| error::with(StanzaCondition::BadRequest, "invalid-jid"))
}

fn node_of(action: &Element) -> Result<Option<String>, StanzaError> {
    let node = action.attribute("node").filter(|node| !node.is_empty());
    match node {
        Some(node) if node.len() > NODE_NAME_BYTES_MAX => {
            Err(StanzaError::from(StanzaCondition::NotAcceptable).with_text("the node's name is too long"))
        }
        node => Ok(node.map(str::to_owned)),
    }
}

fn needed_node(action: &Element) -> Result<String, StanzaError> {
    node_of(action)?.ok_or_else(error::node_required)
}

/// The ids of items that are named. In a get an item without an id is passed over.
fn ids_of(action: &Element, needed: bool) -> Result<Vec<String>, StanzaError> {
    let mut ids = Vec::new();
    for item in action.elements().filter(|child| child.is("item", ns::PUBSUB)) {
        match item.attribute("id").filter(|id| !id.is_empty()) {
            Some(id) if ids.len() < ITEMS_MAX => ids.push(id.to_owned()),
            Some(_) => return Err(error::bad("too many items in one request")),
            None if needed => return Err(error::with(StanzaCondition::BadRequest, "item-required")),
            None => {}
        }
    }
    if needed && ids.is_empty() {
        return Err(error::with(StanzaCondition::BadRequest, "item-required"));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typ: Type, owner: &str, inside: &str) -> Result<Request, String> {
        let text = format!("<pubsub xmlns='http://jabber.org/protocol/pubsub{owner}'>{inside}</pubsub>");
        Request::read(typ, &Element::parse(text.as_bytes()).unwrap()).map_err(|error| {
            let application = error.application.map(|(name, _)| format!("+{name}")).unwrap_or_default();
            format!("{}{application}", error.condition)
        })
    }

    #[test]
    fn a_request_that_is_not_complete_gets_the_error_of_the_xep() {
        let long = "n".repeat(NODE_NAME_BYTES_MAX + 1);
        let many = "<item id='i'/>".repeat(ITEMS_MAX + 1);
        let table = [
            (Type::Get, "", "", "bad-request"),
            (Type::Get, "", "<nonsense/>", "bad-request"),
            (Type::Get, "", "<items/>", "bad-request+nodeid-required"),
            (Type::Get, "", "<items node='n' max_items='x'/>", "bad-request"),
            (Type::Get, "", "<options node='n'/>", "feature-not-implemented+unsupported"),
            (Type::Set, "", "<publish/>", "bad-request+nodeid-required"),
            (
                Type::Set,
                "",
                "<publish node='n'><item><a/><b/></item></publish>",
                "bad-request+invalid-payload",
            ),
            (Type::Set, "", &format!("<publish node='n'>{many}</publish>"), "not-allowed+max-items-exceeded"),
            (Type::Set, "", &format!("<publish node='{long}'/>"), "not-acceptable"),
            (Type::Set, "", "<retract node='n'/>", "bad-request+item-required"),
            (Type::Set, "", "<retract node='n'><item/></retract>", "bad-request+item-required"),
            (Type::Set, "", "<subscribe node='n'/>", "bad-request+jid-required"),
            (Type::Set, "", "<subscribe node='n' jid='@x'/>", "bad-request+invalid-jid"),
            (Type::Set, "", "<subscribe jid='a@x'/>", "bad-request+nodeid-required"),
            (Type::Set, "", "<create node='n' type='collection'/>", "feature-not-implemented+unsupported"),
            (Type::Set, "#owner", "<delete/>", "bad-request+nodeid-required"),
            (Type::Set, "#owner", "<configure node='n'/>", "bad-request"),
            (Type::Set, "#owner", "<affiliations node='n'/>", "bad-request"),
            (
                Type::Set,
                "#owner",
                "<affiliations node='n'><affiliation jid='a@x' affiliation='king'/></affiliations>",
                "bad-request",
            ),
            (Type::Get, "#owner", "<nonsense/>", "bad-request"),
        ];
        for (typ, owner, inside, expected) in table {
            assert_eq!(read(typ, owner, inside), Err(expected.to_owned()), "{inside:.80}");
        }
    }

    #[test]
    fn affiliations_have_names_and_names_stand_for_affiliations() {
        for name in ["owner", "none", "member", "publish-only", "publisher", "outcast"] {
            assert_eq!(affiliation_named(name).map(affiliation_name), Some(name));
        }
        assert_eq!(affiliation_named("king"), None);
    }

    #[test]
    fn a_set_names_the_node_that_it_changes() {
        let long = "n".repeat(NODE_NAME_BYTES_MAX + 1);
        let table = [
            ("pubsub", "", "<publish node='n'><item/></publish>", Some("n")),
            ("pubsub", "", "<x xmlns='jabber:x:data' node='m'/><create node='n'/>", Some("n")),
            ("pubsub", "#owner", "<delete node='n'/>", Some("n")),
            ("pubsub", "", "<create/>", None),
            ("pubsub", "", "<create node=''/>", None),
            ("pubsub", "", &format!("<create node='{long}'/>"), None),
            ("pubsub", "", "", None),
            ("pubsub", "#event", "<items node='n'/>", None),
            ("query", "", "<publish node='n'/>", None),
        ];
        for (name, owner, inside, expected) in table {
            let text = format!("<{name} xmlns='http://jabber.org/protocol/pubsub{owner}'>{inside}</{name}>");
            assert_eq!(node_of_set(&Element::parse(text.as_bytes()).unwrap()), expected, "{text:.80}");
        }
    }

    #[test]
    fn requests_are_read_with_what_they_name() {
        assert_eq!(
            read(Type::Get, "", "<items node='n' max_items='2'><item id='a'/><item/></items>"),
            Ok(Request::Items { node: "n".into(), ids: vec!["a".into()], max: Some(2), page: None })
        );
        let published = read(
            Type::Set,
            "",
            "<publish node='n'><item id=''><a xmlns='urn:a'/></item><item id='i'/></publish>",
        );
        let Ok(Request::Publish { items, options: None, .. }) = published else { panic!("{published:?}") };
        assert_eq!((items[0].id.as_deref(), items[1].id.as_deref()), (None, Some("i")));
        assert_eq!((items[0].bytes(), items[1].bytes()), (b"<a xmlns=\"urn:a\"/>".to_vec(), vec![]));
        assert_eq!(
            read(
                Type::Set,
                "#owner",
                "<affiliations node='n'><affiliation jid='A@x' affiliation='owner'/></affiliations>"
            ),
            Ok(Request::ChangeAffiliated("n".into(), vec![(Jid::parse("a@x").unwrap(), None)]))
        );
    }

    /// What was published as an element of a stream, or of no namespace, is the same where it is put later.
    #[test]
    fn a_payload_can_stand_anywhere() {
        for inside in ["<message xmlns='jabber:client'><body/></message>", "<x xmlns=''><y/></x>"] {
            let text = format!("<publish node='n'><item>{inside}</item></publish>");
            let Ok(Request::Publish { items, .. }) = read(Type::Set, "", &text) else { panic!("{inside}") };
            let somewhere = [b"<e xmlns='urn:other'>".as_slice(), &items[0].bytes(), b"</e>"].concat();
            let found = Element::parse(&somewhere).unwrap();
            assert_eq!(found.elements().next(), Element::parse(inside.as_bytes()).ok().as_ref());
        }
    }
}
