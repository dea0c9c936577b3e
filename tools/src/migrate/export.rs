//! Exports in the format of XEP-0227, as ejabberd (`export_piefxis`) and Prosody (`prosody-migrator`) write them.

pub(super) mod devices;
pub(super) mod nodes;
pub(super) mod uploads;
pub(super) mod xml;

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use roxmltree::{Document, Node};
use whimbrel_storage::directory::{Item, PushDevice, Settings, Subscription};
use whimbrel_storage::jid::Jid;
use zeroize::Zeroizing;

use super::mail::Waiting;
use crate::problem::Problem;
use nodes::ExportedNode;
use xml::{elements, escaped, lies_too_deep, serialised, too_deep};

/// The namespaces of `<user/>`: now, and before it had a number.
const PIE: [&str; 2] = ["urn:xmpp:pie:0", "http://www.xmpp.org/extensions/xep-0227.html#ns"];

const SCRAM: &str = "urn:xmpp:pie:0#scram";
const ROSTER: &str = "jabber:iq:roster";
const PRIVATE: &str = "jabber:iq:private";
const PRIVACY: &str = "jabber:iq:privacy";
const BLOCKING: &str = "urn:xmpp:blocking";
const VCARD: &str = "vcard-temp";
/// What accounts of this server say of themselves.
pub(super) const SETTINGS: &str = "whimbrel#settings";

/// What an account is to be recognised by.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Secret {
    Password(Zeroizing<String>),
    /// As RFC 5803 writes them.
    Keys(Vec<String>),
    None,
}

/// A user of an export.
#[derive(Clone)]
pub(super) struct User {
    pub(super) local: String,
    pub(super) domain: String,
    pub(super) secret: Secret,
    pub(super) roster: Vec<Item>,
    pub(super) blocked: Vec<String>,
    pub(super) vcard: Option<String>,
    pub(super) settings: Settings,
    /// What push services wake.
    pub(super) devices: Vec<PushDevice>,
    /// Name, namespace, XML.
    pub(super) private: Vec<(String, String, String)>,
    /// Nodes with what is in them.
    pub(super) nodes: Vec<ExportedNode>,
    /// Messages that wait.
    pub(super) offline: Vec<Waiting>,
    /// What could not be read.
    pub(super) remarks: Vec<String>,
}

/// The users of a file; none when it has none, as one that only refers to others (XInclude).
///
/// # Errors
/// The file cannot be read or is no XML.
pub(super) fn read(file: &Path) -> Result<Vec<User>, Problem> {
    let failed =
        |error: &dyn std::fmt::Display| Problem::new(format!("cannot read {}: {error}", file.display()));
    let text = Zeroizing::new(std::fs::read_to_string(file).map_err(|error| failed(&error))?);
    users(&text).map_err(|error| failed(&error))
}

fn users(text: &str) -> Result<Vec<User>, String> {
    let document = Document::parse(text).map_err(|error| error.to_string())?;
    let is_user = |node: &Node<'_, '_>| {
        node.tag_name().name() == "user"
            && node.tag_name().namespace().is_some_and(|space| PIE.contains(&space))
    };
    document.descendants().filter(is_user).map(user).collect()
}

fn user(node: Node<'_, '_>) -> Result<User, String> {
    let name = node.attribute("name").ok_or("a user without a name")?;
    let host = node.parent_element().and_then(|host| host.attribute("jid"));
    let host = host.ok_or_else(|| format!("the user {name} belongs to no host"))?;
    let jid = Jid::from_parts(Some(name), host, None)
        .map_err(|error| format!("the user {name} of {host}: {error}"))?;
    let mut user = User {
        local: jid.local().unwrap_or_default().to_owned(),
        domain: jid.domain().to_owned(),
        secret: secret(node),
        roster: Vec::new(),
        blocked: Vec::new(),
        vcard: None,
        settings: Settings::default(),
        devices: Vec::new(),
        private: Vec::new(),
        nodes: Vec::new(),
        offline: Vec::new(),
        remarks: Vec::new(),
    };
    for child in node.children().filter(Node::is_element) {
        let tag = child.tag_name();
        match (tag.name(), tag.namespace().unwrap_or_default()) {
            ("query", ROSTER) => user.contacts(child),
            ("query", PRIVATE) => user.private_xml(child),
            ("query", PRIVACY) => user.default_list(child),
            ("blocklist", BLOCKING) => {
                child.children().filter(Node::is_element).for_each(|item| user.block(item));
            }
            ("pubsub", nodes::PUBSUB | nodes::OWNER) => {
                nodes::read(child, &mut user.nodes, &mut user.remarks);
            }
            ("settings", SETTINGS) => user.own_settings(child),
            ("devices", devices::DEVICES) => devices::read(child, &mut user.devices, &mut user.remarks),
            ("vCard", VCARD) if lies_too_deep(child) => user.remarks.push(too_deep("the vCard")),
            ("vCard", VCARD) => user.vcard = Some(serialised(child)),
            ("presence", _) if child.attribute("type") == Some("subscribe") => user.request(child),
            ("offline-messages", _) => {
                child
                    .children()
                    .filter(|node| node.tag_name().name() == "message")
                    .for_each(|message| user.message(message));
            }
            _ => {}
        }
    }
    user.bookmarks_of_a_node(node);
    Ok(user)
}

/// Keys, else a password that is no empty text.
fn secret(node: Node<'_, '_>) -> Secret {
    let keys: Vec<String> = node
        .children()
        .filter(|child| child.has_tag_name((SCRAM, "scram-credentials")))
        .filter_map(keys)
        .collect();
    match node.attribute("password") {
        _ if !keys.is_empty() => Secret::Keys(keys),
        Some(password) if !password.is_empty() => Secret::Password(Zeroizing::new(password.to_owned())),
        _ => Secret::None,
    }
}

fn keys(node: Node<'_, '_>) -> Option<String> {
    let text = |name: &str| {
        let found = node.children().find(|child| child.tag_name().name() == name)?;
        Some(found.text()?.trim())
    };
    let mechanism = node.attribute("mechanism")?;
    let (salt, stored, server) = (text("salt")?, text("stored-key")?, text("server-key")?);
    let (salt, stored, server) = match twice(mechanism, stored) {
        true => (inner(salt)?, inner(stored)?, inner(server)?),
        false => (salt.to_owned(), stored.to_owned(), server.to_owned()),
    };
    Some(format!("{mechanism}${}:{salt}${stored}:{server}", text("iter-count")?))
}

/// Whether a key is in base64 twice, as ejabberd 23.01 writes all parts: what is inside then is text, and has the length of a
/// key in base64 itself.
fn twice(mechanism: &str, stored: &str) -> bool {
    let bytes = match mechanism {
        "SCRAM-SHA-1" => 20,
        "SCRAM-SHA-256" => 32,
        _ => return false,
    };
    inner(stored).and_then(|inner| STANDARD.decode(inner).ok()).is_some_and(|key| key.len() == bytes)
}

/// What is in base64, when it is text.
fn inner(text: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(text).ok()?).ok()
}

impl User {
    /// The item of a contact, which is made when there is none.
    fn item(&mut self, contact: &str) -> Option<&mut Item> {
        let jid = match Jid::parse(contact) {
            Ok(jid) => jid.to_bare(),
            Err(error) => {
                self.remarks.push(format!("the contact {contact} is left out: {error}"));
                return None;
            }
        };
        let at = self.roster.iter().position(|item| item.contact == jid.as_str()).unwrap_or_else(|| {
            self.roster.push(Item { contact: jid.as_str().to_owned(), ..Item::default() });
            self.roster.len() - 1
        });
        self.roster.get_mut(at)
    }

    fn contacts(&mut self, query: Node<'_, '_>) {
        for node in query.children().filter(|node| node.tag_name().name() == "item") {
            let own = format!("{}@{}", self.local, self.domain);
            let Some(item) = node.attribute("jid").filter(|jid| *jid != own).and_then(|jid| self.item(jid))
            else {
                continue;
            };
            item.listed = true;
            item.subscription = match node.attribute("subscription") {
                Some("both") => Subscription::Both,
                Some("to") => Subscription::To,
                Some("from") => Subscription::From,
                _ => Subscription::None,
            };
            // An account that sees the contact already asks for nothing.
            let sees = matches!(item.subscription, Subscription::Both | Subscription::To);
            item.ask = node.attribute("ask") == Some("subscribe") && !sees;
            item.approved = matches!(node.attribute("approved"), Some("true" | "1"));
            item.name = node.attribute("name").unwrap_or_default().to_owned();
            for group in node.children().filter(|node| node.tag_name().name() == "group") {
                let group = group.text().unwrap_or_default().to_owned();
                if !group.is_empty() && !item.groups.contains(&group) {
                    item.groups.push(group);
                }
            }
        }
    }

    /// Somebody waits for an answer.
    fn request(&mut self, presence: Node<'_, '_>) {
        let to = format!("{}@{}", self.local, self.domain);
        let Some(item) = presence.attribute("from").and_then(|from| self.item(from)) else { return };
        if matches!(item.subscription, Subscription::None | Subscription::To) {
            let from = escaped(&item.contact);
            item.pending_in = Some(
                format!("<presence from='{from}' to='{}' type='subscribe'/>", escaped(&to)).into_bytes(),
            );
        }
    }

    /// A message that waits.
    pub(super) fn message(&mut self, message: Node<'_, '_>) {
        if lies_too_deep(message) {
            self.remarks.push(too_deep("a message that waits"));
            return;
        }
        match Waiting::read(message, &self.local, &self.domain) {
            Some(waiting) => self.offline.push(waiting),
            None => {
                self.remarks.push("a message that waits is left out: it comes from no address".into());
            }
        }
    }

    fn own_settings(&mut self, settings: Node<'_, '_>) {
        for one in settings.children().filter(|node| node.tag_name().name() == "setting") {
            let of = |name| one.attribute(name).unwrap_or_default();
            if let Err(text) = self.settings.set(of("name"), of("value")) {
                self.remarks.push(format!("a setting is left out: {text}"));
            }
        }
    }

    /// Bookmarks that an export has all in one item are to be an item each. They are looked for where the account's own node has
    /// them: what others have written to it may hold the same elements.
    fn bookmarks_of_a_node(&mut self, user: Node<'_, '_>) {
        self.nodes.retain(|node| node.name != nodes::STORAGE);
        let named = |parent, tag| elements(parent).filter(move |node| node.has_tag_name(tag));
        for pubsub in named(user, (nodes::PUBSUB, "pubsub")) {
            let own = named(pubsub, (nodes::PUBSUB, "items"));
            for items in own.filter(|items| items.attribute("node") == Some(nodes::STORAGE)) {
                let item = named(items, (nodes::PUBSUB, "item"));
                let stored = item.flat_map(|item| named(item, (nodes::STORAGE, "storage")));
                for storage in stored.filter(|storage| !lies_too_deep(*storage)) {
                    nodes::take_bookmarks(storage, &mut self.nodes);
                }
            }
        }
    }

    fn private_xml(&mut self, query: Node<'_, '_>) {
        for node in query.children().filter(Node::is_element) {
            let (name, space) = (
                node.tag_name().name().to_owned(),
                node.tag_name().namespace().unwrap_or_default().to_owned(),
            );
            if space.is_empty() || space == PRIVATE {
                self.remarks
                    .push(format!("private XML <{name}/> is left out: it has no namespace of its own"));
                continue;
            }
            if lies_too_deep(node) {
                self.remarks.push(too_deep(&format!("private XML <{name}/>")));
                continue;
            }
            let xml = match space == nodes::STORAGE {
                true => nodes::take_bookmarks(node, &mut self.nodes),
                false => None,
            };
            self.private.push((name, space, xml.unwrap_or_else(|| serialised(node))));
        }
    }

    /// The list in force of a server that blocks by privacy lists (XEP-0016): what it denies by address.
    fn default_list(&mut self, query: Node<'_, '_>) {
        let named = |tag: &str| {
            query
                .children()
                .find(|node| node.tag_name().name() == tag)
                .and_then(|node| node.attribute("name"))
        };
        let Some(default) = named("default") else { return };
        let lists = query.children().filter(|node| node.tag_name().name() == "list");
        for list in lists.filter(|list| list.attribute("name") == Some(default)) {
            for item in list.children().filter(Node::is_element) {
                match (item.attribute("action"), item.attribute("type"), item.attribute("value")) {
                    (Some("deny"), Some("jid"), Some(address)) => self.block_address(address),
                    (Some("deny"), ..) => self
                        .remarks
                        .push("a rule of a privacy list that is not for one address is left out".into()),
                    _ => {}
                }
            }
        }
    }

    fn block(&mut self, item: Node<'_, '_>) {
        if let Some(address) = item.attribute("jid") {
            self.block_address(address);
        }
    }

    pub(super) fn block_address(&mut self, address: &str) {
        match Jid::parse(address) {
            Ok(jid) if self.blocked.iter().any(|known| known == jid.as_str()) => {}
            Ok(jid) => self.blocked.push(jid.as_str().to_owned()),
            Err(error) => self.remarks.push(format!("the blocked address {address} is left out: {error}")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::xml::DEPTH_MAX;
    use super::*;

    fn one(inside: &str) -> User {
        let text = format!(
            "<server-data xmlns='urn:xmpp:pie:0'><host jid='Example.org'><user name='Juliet' password='x'>{inside}</user>\
             </host></server-data>"
        );
        users(&text).unwrap().remove(0)
    }

    #[test]
    fn an_account_is_found_with_its_keys_or_its_password() {
        let user = one("");
        assert_eq!((user.local.as_str(), user.domain.as_str()), ("juliet", "example.org"));
        assert!(user.secret == Secret::Password(Zeroizing::new("x".into())));
        let keys = "<scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='SCRAM-SHA-256'><iter-count>4096</iter-count>\
                    <salt>c2FsdA==</salt><server-key>QQ==</server-key><stored-key>Qg==</stored-key></scram-credentials>";
        assert!(one(keys).secret == Secret::Keys(vec!["SCRAM-SHA-256$4096:c2FsdA==$Qg==:QQ==".into()]));
        assert!(
            users("<server-data xmlns='urn:xmpp:pie:0'><host jid='x'><user/></host></server-data>").is_err()
        );
        assert!(users("<x/>").unwrap().is_empty() && users("<x").is_err());
    }

    #[test]
    fn a_roster_is_read_with_its_requests() {
        let user = one("<query xmlns='jabber:iq:roster'>\
             <item jid='Romeo@Example.org/orchard' subscription='both' name='R &amp; M' ask='subscribe'><group>a</group><group>a</group></item>\
             <item jid='nurse@example.org' ask='subscribe' subscription='none'/>\
             <item jid='juliet@example.org' subscription='both'/><item jid='a b@c'/></query>\
             <presence xmlns='jabber:client' type='subscribe' from='paris@example.org/x'/>\
             <presence xmlns='jabber:client' type='subscribe' from='romeo@example.org'/>");
        let names: Vec<&str> = user.roster.iter().map(|item| item.contact.as_str()).collect();
        assert_eq!(names, ["romeo@example.org", "nurse@example.org", "paris@example.org"]);
        let [romeo, nurse, paris] = &user.roster[..] else { panic!() };
        assert!(
            romeo.subscription == Subscription::Both
                && !romeo.ask
                && romeo.listed
                && romeo.pending_in.is_none()
        );
        assert_eq!((romeo.name.as_str(), romeo.groups.as_slice()), ("R & M", &["a".to_owned()][..]));
        assert!(nurse.ask && nurse.subscription == Subscription::None);
        assert!(!paris.listed && paris.pending_in.is_some());
        assert_eq!(user.remarks.len(), 1, "{:?}", user.remarks);
    }

    #[test]
    fn what_is_blocked_comes_from_block_lists_and_privacy_lists() {
        let user = one(
            "<query xmlns='jabber:iq:privacy'><default name='b'/><list name='a'><item action='deny' type='jid' value='x@x'/></list>\
             <list name='b'><item action='deny' order='1' type='jid' value='Paris@example.org'><message/></item>\
             <item action='allow' order='2'/><item action='deny' type='group' value='g'/></list></query>\
             <blocklist xmlns='urn:xmpp:blocking'><item jid='paris@example.org'/><item jid='spam.example'/></blocklist>",
        );
        assert_eq!(user.blocked, ["paris@example.org", "spam.example"]);
        assert_eq!(user.remarks.len(), 1);
    }

    #[test]
    fn cards_and_private_xml_keep_their_namespaces_and_messages_are_counted() {
        let user = one("<v:vCard xmlns:v='vcard-temp'><v:FN>J &lt;3</v:FN></v:vCard>\
             <query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'><conference name='it&apos;s'/></storage><query/></query>\
             <offline-messages><message xmlns='jabber:client' from='a@b'/><message xmlns='jabber:client' from='a@b'/></offline-messages>");
        assert_eq!(user.vcard.as_deref(), Some("<vCard xmlns='vcard-temp'><FN>J &lt;3</FN></vCard>"));
        let (name, space, xml) = &user.private[0];
        assert_eq!(
            (name.as_str(), space.as_str(), user.private.len(), user.offline.len()),
            ("storage", "storage:bookmarks", 1, 2)
        );
        assert_eq!(
            xml,
            "<storage xmlns='storage:bookmarks'><conference name='it&apos;s'></conference></storage>"
        );
    }

    #[test]
    fn what_is_nested_too_deep_is_left_out_and_told() {
        let nested = |levels: usize| "<a>".repeat(levels) + &"</a>".repeat(levels);
        let all = |levels: usize| {
            let inside = nested(levels);
            one(&format!(
                "<vCard xmlns='vcard-temp'>{inside}</vCard><query xmlns='jabber:iq:private'><p xmlns='urn:p'>{inside}</p></query>\
                 <pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='n'><item id='i'><p xmlns='urn:p'>{inside}</p></item>\
                 <item id='flat'><p xmlns='urn:p'/></item></items>\
                 <items node='storage:bookmarks'><item><storage xmlns='storage:bookmarks'>{inside}</storage></item></items></pubsub>\
                 <offline-messages><message from='a@b'>{inside}</message><message from='a@b'/></offline-messages>"
            ))
        };
        let found = |user: &User| {
            let items = user.nodes.iter().map(|node| node.items.len()).sum::<usize>();
            (user.vcard.is_some(), user.private.len(), items, user.offline.len(), user.remarks.len())
        };
        assert_eq!(found(&all(DEPTH_MAX - 1)), (true, 1, 2, 2, 0));
        assert_eq!(found(&all(DEPTH_MAX)), (false, 0, 1, 1, 5));
        // As deep as a stanza of a megabyte can be: a call for each would be more than a stack has room for.
        assert_eq!(found(&all(150_000)), (false, 0, 1, 1, 5));
    }

    #[test]
    fn nobody_elses_bookmarks_are_taken() {
        let storage =
            "<storage xmlns='storage:bookmarks'><conference jid='evil@muc.x' autojoin='1'/></storage>";
        let items = format!("<items node='storage:bookmarks'><item>{storage}</item></items>");
        let message = format!(
            "<message from='a@b'><pubsub xmlns='http://jabber.org/protocol/pubsub'>{items}</pubsub>\
             <item>{storage}</item></message>"
        );
        let user = one(&format!("<offline-messages>{message}</offline-messages>"));
        assert_eq!((user.nodes.len(), user.offline.len()), (0, 1), "{:?}", user.nodes);
        let own = one(&format!("<pubsub xmlns='http://jabber.org/protocol/pubsub'>{items}</pubsub>"));
        assert_eq!(own.nodes[0].items[0].id, "evil@muc.x");
    }
}
