//! A node: its number, its configuration (XEP-0060 §8.2), and how much is in it.

use super::PubsubView;
use crate::actor::ActorId;
use crate::directory::WriteTransaction;
use crate::directory::accounts::other_text;
use crate::directory::codec::{Decoder, Encoder};
use crate::directory::error::DirectoryError;
use crate::directory::key::{Key, size_error, text_of};
use crate::directory::tables::{Table, damaged};
use crate::directory::transaction::check_size;

/// Most bytes of a node's name.
pub const NODE_NAME_BYTES_MAX: usize = 1023;

/// Bytes that a node counts for beside its name and the texts of its configuration.
pub const NODE_ROW_BYTES: u64 = 128;

/// The counter of all nodes ever made.
const KEY_LAST_NODE: &[u8] = b"last_node";

/// Who may look at a node (XEP-0060 §4.5).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum AccessModel {
    /// Everybody.
    Open = 0,
    /// Those who see the owner's presence.
    #[default]
    Presence = 1,
    /// Contacts in the named groups of the owner's roster.
    Roster = 2,
    /// Subscribers whom the owner has approved.
    Authorize = 3,
    /// Those whom the owner has listed.
    Whitelist = 4,
}

/// Who may publish beside the owner (XEP-0060 §16.4.4, `publish_model`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum PublishModel {
    /// Those whom the owner has made publishers.
    #[default]
    Publishers = 0,
    /// Subscribers too.
    Subscribers = 1,
    /// Everybody who may look at the node.
    Open = 2,
}

/// When the last item is sent without being asked for (XEP-0060 §16.4.4, `send_last_published_item`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum SendLast {
    /// Never.
    Never = 0,
    /// To a new subscriber.
    OnSubscription = 1,
    /// Also to those who come online.
    #[default]
    OnPresence = 2,
}

/// What a node does or does not do, each yes or no.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NodeFlags(u8);

impl NodeFlags {
    /// Items are kept.
    pub const PERSIST: Self = Self(1);
    /// Notifications carry what was published.
    pub const PAYLOADS: Self = Self(2);
    /// Subscribers hear of items that are retracted, and of a purge.
    pub const NOTIFY_RETRACT: Self = Self(4);
    /// They hear that the node is deleted.
    pub const NOTIFY_DELETE: Self = Self(8);
    /// They hear of a new configuration.
    pub const NOTIFY_CONFIG: Self = Self(16);

    const KNOWN: u8 = 31;

    /// Whether it does this.
    #[must_use]
    pub fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    /// It does this, or does not.
    pub fn put(&mut self, flag: Self, on: bool) {
        if on {
            self.0 |= flag.0;
        } else {
            self.0 &= !flag.0;
        }
    }
}

impl Default for NodeFlags {
    /// Items are kept; notifications carry them and tell of retractions and the end of the node.
    fn default() -> Self {
        Self(1 | 2 | 4 | 8)
    }
}

/// What a node is configured to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeConfig {
    /// Who may look at it.
    pub access: AccessModel,
    /// Who may publish.
    pub publish: PublishModel,
    /// When the last item is sent.
    pub send_last: SendLast,
    /// Yes or no.
    pub flags: NodeFlags,
    /// Items that are kept; the oldest go. `u32::MAX`: as many as may be.
    pub max_items: u32,
    /// Title, for people.
    pub title: String,
    /// Namespace of what is published.
    pub payload_type: String,
    /// Groups of the owner's roster whose contacts may look, for [`AccessModel::Roster`].
    pub groups: Vec<String>,
}

impl Default for NodeConfig {
    /// What XEP-0163 §2 gives a node: the owner's subscribers look at the newest item.
    fn default() -> Self {
        Self {
            access: AccessModel::default(),
            publish: PublishModel::default(),
            send_last: SendLast::default(),
            flags: NodeFlags::default(),
            max_items: 1,
            title: String::new(),
            payload_type: String::new(),
            groups: Vec::new(),
        }
    }
}

impl NodeConfig {
    /// Bytes of its texts, as they are kept.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.title.len()
            + self.payload_type.len()
            + self.groups.iter().map(|group| 4 + group.len()).sum::<usize>()
    }
}

/// A node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its number, which no other node ever had.
    pub number: u64,
    /// When it was made, milliseconds since 1970.
    pub created_ms: u64,
    /// What it is configured to.
    pub config: NodeConfig,
    /// Items in it.
    pub items: u64,
    /// Bytes that it counts for, itself and its items.
    pub bytes: u64,
    /// Sequence of the item that was published last; 0: none was.
    pub last: u64,
    /// Affiliations and subscriptions.
    pub members: u64,
}

impl Node {
    /// Bytes that a node counts for beside its items.
    #[must_use]
    pub fn bytes_of(name: &str, config: &NodeConfig) -> u64 {
        NODE_ROW_BYTES + (name.len() + config.text_bytes()) as u64
    }

    fn own_bytes(&self) -> u64 {
        Self::bytes_of(&self.name, &self.config)
    }

    fn encode(&self, key: &Key) -> Vec<u8> {
        let mut fields = Encoder::new(96 + self.name.len() + self.config.text_bytes());
        if key.is_hashed() {
            fields.text(self.name.as_bytes());
        }
        for number in [self.number, self.created_ms, self.items, self.bytes, self.last, self.members] {
            fields.number(number);
        }
        let config = &self.config;
        fields.byte(config.access as u8);
        fields.byte(config.publish as u8);
        fields.byte(config.send_last as u8);
        fields.byte(config.flags.0);
        fields.number(config.max_items.into());
        fields.text(config.title.as_bytes());
        fields.text(config.payload_type.as_bytes());
        fields.count(config.groups.len());
        config.groups.iter().for_each(|group| fields.text(group.as_bytes()));
        fields.seal(key.bytes())
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let mut fields = Decoder::open(key, value)?;
        let name = match text_of(key, 8)? {
            Some(name) => name,
            None => fields.text()?,
        };
        let mut numbers = [0; 6];
        for number in &mut numbers {
            *number = fields.number()?;
        }
        let [number, created_ms, items, bytes, last, members] = numbers;
        let access = match fields.byte()? {
            0 => AccessModel::Open,
            1 => AccessModel::Presence,
            2 => AccessModel::Roster,
            3 => AccessModel::Authorize,
            4 => AccessModel::Whitelist,
            _ => return Err("an unknown access model"),
        };
        let publish = match fields.byte()? {
            0 => PublishModel::Publishers,
            1 => PublishModel::Subscribers,
            2 => PublishModel::Open,
            _ => return Err("an unknown publish model"),
        };
        let send_last = match fields.byte()? {
            0 => SendLast::Never,
            1 => SendLast::OnSubscription,
            2 => SendLast::OnPresence,
            _ => return Err("an unknown time for the last item"),
        };
        let flags = fields.byte()?;
        if flags & !NodeFlags::KNOWN != 0 {
            return Err("unknown flags");
        }
        let max_items = u32::try_from(fields.number()?).map_err(|_| "too great a number of items")?;
        let (title, payload_type) = (fields.text()?.to_owned(), fields.text()?.to_owned());
        let count = fields.count()?;
        if count > fields.remaining() / 4 {
            return Err("more groups than there is room for");
        }
        let groups = (0..count).map(|_| fields.text().map(str::to_owned)).collect::<Result<_, _>>()?;
        fields.close()?;
        let flags = NodeFlags(flags);
        let config = NodeConfig { access, publish, send_last, flags, max_items, title, payload_type, groups };
        Ok(Self { name: name.to_owned(), number, created_ms, config, items, bytes, last, members })
    }
}

fn key_of(account: ActorId, name: &str) -> Option<Key> {
    Key::owned(account, name, NODE_NAME_BYTES_MAX)
}

impl PubsubView<'_> {
    /// A node by its name.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn node(&self, name: &str) -> Result<Option<Node>, DirectoryError> {
        let Some(key) = key_of(self.account, name) else { return Ok(None) };
        let Some(value) = self.view.get(Table::PubsubNodes, key.bytes())? else { return Ok(None) };
        let node = Node::decode(key.bytes(), value).map_err(damaged(Table::PubsubNodes, key.bytes()))?;
        if node.name == name { Ok(Some(node)) } else { Err(other_text(Table::PubsubNodes, &key)) }
    }

    /// All nodes of the account, in the order of their names, those with the longest ones at their own place.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn nodes(&self) -> Result<Vec<Node>, DirectoryError> {
        let mut nodes = Vec::new();
        for row in self.view.prefixed(Table::PubsubNodes, &self.account.key())? {
            let (key, value) = row?;
            nodes.push(Node::decode(key, value).map_err(damaged(Table::PubsubNodes, key))?);
        }
        Ok(nodes)
    }

    /// At most `max` nodes, those behind a name, in the order of [`PubsubView::nodes`].
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn nodes_after(&self, after: Option<&str>, max: usize) -> Result<Vec<Node>, DirectoryError> {
        let mut nodes = Vec::new();
        let after = after.and_then(|name| key_of(self.account, name));
        for row in self.view.behind(Table::PubsubNodes, &self.account.key(), after.as_ref())?.take(max) {
            let (key, value) = row?;
            nodes.push(Node::decode(key, value).map_err(damaged(Table::PubsubNodes, key))?);
        }
        Ok(nodes)
    }
}

impl WriteTransaction<'_> {
    /// Makes a node, which must not be there.
    ///
    /// # Errors
    /// [`DirectoryError::Size`] for a name that is empty or longer than [`NODE_NAME_BYTES_MAX`]; the directory is damaged or
    /// cannot be written.
    pub fn create_node(
        &mut self,
        account: ActorId,
        name: &str,
        config: NodeConfig,
        now_ms: u64,
    ) -> Result<Node, DirectoryError> {
        let number = self.view().counter(KEY_LAST_NODE)? + 1;
        let mut node = Node {
            name: name.to_owned(),
            number,
            created_ms: now_ms,
            config,
            items: 0,
            bytes: 0,
            last: 0,
            members: 0,
        };
        node.bytes = node.own_bytes();
        self.write_node(account, &node)?;
        self.put_counter(KEY_LAST_NODE, number)?;
        self.change_usage(account, |usage| {
            usage.nodes += 1;
            usage.bytes += node.bytes;
        })?;
        Ok(node)
    }

    /// Gives a node another configuration.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn configure_node(
        &mut self,
        account: ActorId,
        node: &mut Node,
        config: NodeConfig,
    ) -> Result<(), DirectoryError> {
        let before = node.own_bytes();
        node.config = config;
        let after = node.own_bytes();
        node.bytes = node.bytes - before + after;
        self.write_node(account, node)?;
        self.change_usage(account, |usage| usage.bytes = usage.bytes - before + after)
    }

    /// Deletes a node and all that it has.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn delete_node(&mut self, account: ActorId, node: &Node) -> Result<(), DirectoryError> {
        if account == ActorId::NODES {
            self.forget_memberships(node)?;
        }
        for table in [Table::PubsubItems, Table::PubsubItemIds, Table::PubsubMembers] {
            self.delete_of_node(table, account, node.number)?;
        }
        if let Some(key) = key_of(account, &node.name) {
            self.delete(Table::PubsubNodes, key.bytes())?;
        }
        self.change_usage(account, |usage| {
            usage.nodes -= 1;
            usage.items -= node.items;
            usage.bytes -= node.bytes;
            usage.members -= node.members;
        })
    }

    pub(super) fn write_node(&mut self, account: ActorId, node: &Node) -> Result<(), DirectoryError> {
        check_size("the node's configuration", node.config.text_bytes())?;
        let key = key_of(account, &node.name)
            .ok_or_else(|| size_error("the node's name", &node.name, NODE_NAME_BYTES_MAX))?;
        self.put(Table::PubsubNodes, key.bytes(), &node.encode(&key))
    }
}
