//! Nodes of an account in an export (XEP-0227 §4.5): their configurations, who is affiliated with them, and their items.

mod write;

use roxmltree::Node;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::pubsub::{
    AccessModel, Affiliation, ITEM_ID_BYTES_MAX, Member, NODE_NAME_BYTES_MAX, NewItem, NodeConfig, NodeFlags,
    PublishModel, SendLast, SubscriptionState,
};
use whimbrel_storage::directory::{DirectoryError, WriteTransaction};
use whimbrel_storage::jid::Jid;

use super::xml::{escaped, lies_too_deep, serialised, too_deep};

/// Items of nodes.
pub(in crate::migrate) const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
/// What their owner sets.
pub(in crate::migrate) const OWNER: &str = "http://jabber.org/protocol/pubsub#owner";

pub(in crate::migrate) use write::write;

const ACCESS_MODELS: [(&str, AccessModel); 5] = [
    ("open", AccessModel::Open),
    ("presence", AccessModel::Presence),
    ("roster", AccessModel::Roster),
    ("authorize", AccessModel::Authorize),
    ("whitelist", AccessModel::Whitelist),
];

const PUBLISH_MODELS: [(&str, PublishModel); 3] = [
    ("publishers", PublishModel::Publishers),
    ("subscribers", PublishModel::Subscribers),
    ("open", PublishModel::Open),
];

const SEND_LAST: [(&str, SendLast); 3] = [
    ("never", SendLast::Never),
    ("on_sub", SendLast::OnSubscription),
    ("on_sub_and_presence", SendLast::OnPresence),
];

const FLAGS: [(&str, NodeFlags); 5] = [
    ("pubsub#persist_items", NodeFlags::PERSIST),
    ("pubsub#deliver_payloads", NodeFlags::PAYLOADS),
    ("pubsub#notify_retract", NodeFlags::NOTIFY_RETRACT),
    ("pubsub#notify_delete", NodeFlags::NOTIFY_DELETE),
    ("pubsub#notify_config", NodeFlags::NOTIFY_CONFIG),
];

const AFFILIATIONS: [(&str, Affiliation); 4] = [
    ("member", Affiliation::Member),
    ("publisher", Affiliation::Publisher),
    ("publish-only", Affiliation::PublishOnly),
    ("outcast", Affiliation::Outcast),
];

const SUBSCRIPTIONS: [(&str, SubscriptionState); 2] =
    [("subscribed", SubscriptionState::Subscribed), ("pending", SubscriptionState::Pending)];

/// What stands for a word.
fn meant<T: Copy>(table: &[(&str, T)], word: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
}

/// The word for something.
fn word<T: PartialEq>(table: &[(&'static str, T)], value: &T) -> Option<&'static str> {
    table.iter().find(|(_, known)| known == value).map(|(word, _)| *word)
}

/// An item of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::migrate) struct ExportedItem {
    pub(super) id: String,
    /// As the export has it; empty for none.
    payload: String,
    /// A bare JID, where it is not the owner.
    publisher: Option<String>,
}

/// A node of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::migrate) struct ExportedNode {
    pub(in crate::migrate) name: String,
    config: NodeConfig,
    /// The oldest first.
    pub(in crate::migrate) items: Vec<ExportedItem>,
    affiliations: Vec<(String, Affiliation)>,
    subscriptions: Vec<(String, SubscriptionState)>,
}

/// Reads `<pubsub/>`. What cannot be taken over is remarked.
pub(super) fn read(pubsub: Node<'_, '_>, nodes: &mut Vec<ExportedNode>, remarks: &mut Vec<String>) {
    for child in pubsub.children().filter(Node::is_element) {
        let Some(name) =
            child.attribute("node").filter(|name| (1..=NODE_NAME_BYTES_MAX).contains(&name.len()))
        else {
            continue;
        };
        let at = nodes.iter().position(|node| node.name == name).unwrap_or_else(|| {
            nodes.push(ExportedNode { name: name.to_owned(), ..ExportedNode::default() });
            nodes.len() - 1
        });
        let Some(node) = nodes.get_mut(at) else { continue };
        match child.tag_name().name() {
            "items" => node.items(child, remarks),
            "configure" => node.configure(child),
            "affiliations" => node.affiliations(child),
            "subscriptions" => node.subscriptions(child),
            _ => {}
        }
    }
}

/// Bookmarks as they are kept here: an item each (XEP-0402).
const BOOKMARKS: &str = "urn:xmpp:bookmarks:1";
/// Bookmarks all in one element (XEP-0048), of private XML or of a node.
pub(super) const STORAGE: &str = "storage:bookmarks";

/// Takes bookmarks out of an element that has all of them, unless the export has them one by one as well. What is left of the
/// element; `None`: there are no rooms in it.
pub(super) fn take_bookmarks(storage: Node<'_, '_>, nodes: &mut Vec<ExportedNode>) -> Option<String> {
    let is_room = |child: &Node<'_, '_>| child.tag_name().name() == "conference" && address(*child).is_some();
    let rooms: Vec<ExportedItem> = elements(storage, "conference").filter_map(bookmark).collect();
    if rooms.is_empty() {
        return None;
    }
    if nodes.iter().all(|node| node.name != BOOKMARKS) {
        let config = NodeConfig {
            access: AccessModel::Whitelist,
            send_last: SendLast::Never,
            max_items: u32::MAX,
            ..NodeConfig::default()
        };
        nodes.push(ExportedNode { name: BOOKMARKS.into(), config, items: rooms, ..ExportedNode::default() });
    }
    let others = storage.children().filter(|child| child.is_element() && !is_room(child));
    Some(format!("<storage xmlns='{STORAGE}'>{}</storage>", others.map(serialised).collect::<String>()))
}

/// A bookmark's item.
fn bookmark(conference: Node<'_, '_>) -> Option<ExportedItem> {
    let jid = Jid::parse(conference.attribute("jid")?).ok()?;
    let mut payload = format!("<conference xmlns='{BOOKMARKS}'");
    for name in ["name", "autojoin"] {
        if let Some(value) = conference.attribute(name) {
            payload.push_str(&format!(" {name}='{}'", escaped(value)));
        }
    }
    payload.push('>');
    for name in ["nick", "password"] {
        if let Some(text) = elements(conference, name).next().and_then(|child| child.text()) {
            payload.push_str(&format!("<{name}>{}</{name}>", escaped(text)));
        }
    }
    payload.push_str("</conference>");
    Some(ExportedItem { id: jid.bare_str().to_owned(), payload, publisher: None })
}

fn elements<'a, 'i>(parent: Node<'a, 'i>, name: &'static str) -> impl Iterator<Item = Node<'a, 'i>> {
    parent.children().filter(move |child| child.is_element() && child.tag_name().name() == name)
}

fn address(node: Node<'_, '_>) -> Option<String> {
    Some(Jid::parse(node.attribute("jid")?).ok()?.as_str().to_owned())
}

impl ExportedNode {
    fn items(&mut self, items: Node<'_, '_>, remarks: &mut Vec<String>) {
        for item in elements(items, "item") {
            if item.children().any(lies_too_deep) {
                remarks.push(too_deep(&format!("an item of the node {}", self.name)));
                continue;
            }
            let id = item.attribute("id").filter(|id| (1..=ITEM_ID_BYTES_MAX).contains(&id.len()));
            let payload = item.children().find(Node::is_element).map(serialised).unwrap_or_default();
            let made_up = || format!("item-{}", self.items.len() + 1);
            let id = id.map_or_else(made_up, str::to_owned);
            let publisher = item.attribute("publisher").and_then(|publisher| Jid::parse(publisher).ok());
            let publisher = publisher.map(|publisher| publisher.bare_str().to_owned());
            self.items.push(ExportedItem { id, payload, publisher });
        }
    }

    fn configure(&mut self, configure: Node<'_, '_>) {
        for field in configure.descendants().filter(|node| node.tag_name().name() == "field") {
            let values: Vec<&str> = elements(field, "value").filter_map(|value| value.text()).collect();
            let (Some(name), Some(value)) = (field.attribute("var"), values.first().copied()) else {
                continue;
            };
            let is_on = matches!(value, "1" | "true");
            let config = &mut self.config;
            match name {
                "pubsub#access_model" => {
                    // What is not understood is not opened.
                    config.access = meant(&ACCESS_MODELS, value).unwrap_or(AccessModel::Whitelist);
                }
                "pubsub#publish_model" => {
                    config.publish = meant(&PUBLISH_MODELS, value).unwrap_or(PublishModel::Publishers);
                }
                "pubsub#send_last_published_item" => {
                    config.send_last = meant(&SEND_LAST, value).unwrap_or(SendLast::OnPresence);
                }
                "pubsub#max_items" => config.max_items = value.parse().unwrap_or(u32::MAX).max(1),
                "pubsub#title" => value.clone_into(&mut config.title),
                "pubsub#type" => value.clone_into(&mut config.payload_type),
                "pubsub#roster_groups_allowed" => {
                    config.groups = values.iter().map(|group| (*group).to_owned()).collect();
                }
                name => {
                    if let Some(flag) = meant(&FLAGS, name) {
                        config.flags.put(flag, is_on);
                    }
                }
            }
        }
    }

    fn affiliations(&mut self, list: Node<'_, '_>) {
        for child in elements(list, "affiliation") {
            let Some(affiliation) =
                child.attribute("affiliation").and_then(|word| meant(&AFFILIATIONS, word))
            else {
                continue;
            };
            self.affiliations.extend(address(child).map(|jid| (jid, affiliation)));
        }
    }

    fn subscriptions(&mut self, list: Node<'_, '_>) {
        for child in elements(list, "subscription") {
            let Some(state) = child.attribute("subscription").and_then(|word| meant(&SUBSCRIPTIONS, word))
            else {
                continue;
            };
            self.subscriptions.extend(address(child).map(|jid| (jid, state)));
        }
    }

    /// Writes the node of a new account. Those whom it names are named by address: their accounts may come later.
    pub(in crate::migrate) fn put(
        &self,
        transaction: &mut WriteTransaction<'_>,
        (account, owner): (ActorId, &str),
        now_ms: u64,
    ) -> Result<(), DirectoryError> {
        let mut node = transaction.create_node(account, &self.name, self.config.clone(), now_ms)?;
        for ExportedItem { id, payload, publisher } in &self.items {
            let publisher = publisher.as_deref().unwrap_or(owner);
            let item = NewItem { id, publisher, published_ms: now_ms, payload: payload.as_bytes() };
            transaction.publish_item(account, &mut node, &item)?;
        }
        transaction.trim_node(account, &mut node, self.config.max_items.into())?;
        for (jid, affiliation) in &self.affiliations {
            let member = Member { affiliation: *affiliation, ..Member::default() };
            transaction.set_member(account, &mut node, jid, member)?;
        }
        for (jid, subscription) in &self.subscriptions {
            let known = self.affiliations.iter().find(|(known, _)| known == jid);
            let affiliation = known.map_or(Affiliation::None, |(_, affiliation)| *affiliation);
            let member = Member { subscription: *subscription, affiliation, ..Member::default() };
            transaction.set_member(account, &mut node, jid, member)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn item(id: &str, payload: &str, publisher: Option<&str>) -> ExportedItem {
        ExportedItem {
            id: id.to_owned(),
            payload: payload.to_owned(),
            publisher: publisher.map(str::to_owned),
        }
    }

    #[test]
    fn bookmarks_in_one_element_become_items() {
        let text = "<storage xmlns='storage:bookmarks'><conference jid='A@muc.x' name='A &amp; B' autojoin='1'>\
            <nick>J</nick></conference><url name='u' url='http://u'/><conference/></storage>";
        let document = roxmltree::Document::parse(text).unwrap();
        let mut nodes = Vec::new();
        let rest = take_bookmarks(document.root_element(), &mut nodes);
        let payload = "<conference xmlns='urn:xmpp:bookmarks:1' name='A &amp; B' autojoin='1'><nick>J</nick></conference>";
        assert_eq!(nodes[0].items, [item("a@muc.x", payload, None)]);
        assert_eq!(nodes[0].config.access, AccessModel::Whitelist);
        let rest = rest.unwrap();
        assert!(rest.contains("<url") && !rest.contains("muc.x"), "{rest}");
        assert!(take_bookmarks(document.root_element(), &mut nodes).is_some());
        assert_eq!(nodes.len(), 1, "those that are there one by one are better");
    }

    #[test]
    fn nodes_are_read_with_their_configuration_members_and_items() {
        let text = "<user xmlns='urn:xmpp:pie:0'><pubsub xmlns='http://jabber.org/protocol/pubsub'>\
            <items node='n'><item id='i' publisher='R@x/1'><a xmlns='urn:a'>x</a></item><item><b xmlns='urn:b'/></item></items>\
            <items node=''/></pubsub>\
            <pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><configure node='n'><x xmlns='jabber:x:data' type='submit'>\
            <field var='pubsub#access_model'><value>open</value></field><field var='pubsub#max_items'><value>max</value></field>\
            <field var='pubsub#deliver_payloads'><value>0</value></field></x></configure>\
            <affiliations node='n'><affiliation jid='A@x' affiliation='publisher'/><affiliation jid='o@x' affiliation='owner'/></affiliations>\
            <subscriptions node='m'><subscription jid='a@x' subscription='subscribed'/></subscriptions></pubsub></user>";
        let document = roxmltree::Document::parse(text).unwrap();
        let mut nodes = Vec::new();
        document.root_element().children().for_each(|pubsub| read(pubsub, &mut nodes, &mut Vec::new()));
        let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["n", "m"]);
        let node = &nodes[0];
        assert_eq!((node.config.access, node.config.max_items), (AccessModel::Open, u32::MAX));
        assert!(!node.config.flags.has(NodeFlags::PAYLOADS) && node.config.flags.has(NodeFlags::PERSIST));
        let items =
            [item("i", "<a xmlns='urn:a'>x</a>", Some("r@x")), item("item-2", "<b xmlns='urn:b'></b>", None)];
        assert_eq!(node.items, items);
        assert_eq!(node.affiliations, [("a@x".to_owned(), Affiliation::Publisher)]);
        assert_eq!(nodes[1].subscriptions, [("a@x".to_owned(), SubscriptionState::Subscribed)]);
    }
}
