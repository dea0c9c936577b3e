//! Items of a node, in the order in which they were published.

use std::ops::Bound;

use super::node::Node;
use super::{PubsubView, prefix};
use crate::actor::ActorId;
use crate::directory::WriteTransaction;
use crate::directory::accounts::other_text;
use crate::directory::codec::{Decoder, Encoder};
use crate::directory::error::DirectoryError;
use crate::directory::key::{Key, size_error};
use crate::directory::tables::{Table, damaged};
use crate::directory::transaction::check_size;

/// Most bytes of an item's id.
pub const ITEM_ID_BYTES_MAX: usize = 1023;

/// Bytes that an item counts for beside its id, its publisher and its payload.
pub const ITEM_ROW_BYTES: u64 = 128;

/// An item that is to be published.
#[derive(Clone, Copy, Debug)]
pub struct NewItem<'a> {
    /// Its id. An item of the same id is replaced.
    pub id: &'a str,
    /// The bare JID that publishes it.
    pub publisher: &'a str,
    /// When, milliseconds since 1970.
    pub published_ms: u64,
    /// What is published, as XML that declares its namespaces itself; empty for nothing.
    pub payload: &'a [u8],
}

impl NewItem<'_> {
    /// Bytes that it counts for.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        ITEM_ROW_BYTES + (self.id.len() + self.publisher.len() + self.payload.len()) as u64
    }
}

/// An item as it lies in the map.
#[derive(Clone, Copy, Debug)]
pub struct ItemRef<'a> {
    /// Its place in the order of publishing.
    pub sequence: u64,
    /// Its id.
    pub id: &'a str,
    /// The bare JID that has published it.
    pub publisher: &'a str,
    /// When, milliseconds since 1970.
    pub published_ms: u64,
    /// What was published; empty for nothing.
    pub payload: &'a [u8],
}

/// An item, owned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Item {
    /// Its place in the order of publishing.
    pub sequence: u64,
    /// Its id.
    pub id: String,
    /// The bare JID that has published it.
    pub publisher: String,
    /// When, milliseconds since 1970.
    pub published_ms: u64,
    /// What was published; empty for nothing.
    pub payload: Vec<u8>,
}

impl<'a> ItemRef<'a> {
    fn decode(key: &[u8], value: &'a [u8]) -> Result<Self, &'static str> {
        let sequence = key.get(16..).and_then(|rest| <[u8; 8]>::try_from(rest).ok());
        let sequence = u64::from_be_bytes(sequence.ok_or("the key is no item's")?);
        let mut fields = Decoder::open(key, value)?;
        let published_ms = fields.number()?;
        let (id, publisher, payload) = (fields.text()?, fields.text()?, fields.bytes()?);
        fields.close()?;
        Ok(Self { sequence, id, publisher, published_ms, payload })
    }

    /// Bytes that it counts for.
    fn bytes(&self) -> u64 {
        ITEM_ROW_BYTES + (self.id.len() + self.publisher.len() + self.payload.len()) as u64
    }

    /// The same, owned.
    #[must_use]
    pub fn to_item(&self) -> Item {
        Item {
            sequence: self.sequence,
            id: self.id.to_owned(),
            publisher: self.publisher.to_owned(),
            published_ms: self.published_ms,
            payload: self.payload.to_vec(),
        }
    }
}

fn item_key(account: ActorId, number: u64, sequence: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&prefix(account, number));
    key[16..].copy_from_slice(&sequence.to_be_bytes());
    key
}

fn id_key(account: ActorId, number: u64, id: &str) -> Option<Key> {
    Key::of_node(&prefix(account, number), id, ITEM_ID_BYTES_MAX)
}

/// The value of an id's row.
fn encode_place(key: &Key, id: &str, sequence: u64) -> Vec<u8> {
    let mut fields = Encoder::new(12 + id.len());
    if key.is_hashed() {
        fields.text(id.as_bytes());
    }
    fields.number(sequence);
    fields.seal(key.bytes())
}

impl<'t> PubsubView<'t> {
    /// The place of an item, by its id.
    fn place_of(&self, node: &Node, id: &str) -> Result<Option<u64>, DirectoryError> {
        let Some(key) = id_key(self.account, node.number, id) else { return Ok(None) };
        let Some(value) = self.view.get(Table::PubsubItemIds, key.bytes())? else { return Ok(None) };
        let decoded = Decoder::open(key.bytes(), value).and_then(|mut fields| {
            let same = !key.is_hashed() || fields.text()? == id;
            let sequence = fields.number()?;
            fields.close().map(|()| (same, sequence))
        });
        match decoded.map_err(damaged(Table::PubsubItemIds, key.bytes()))? {
            (true, sequence) => Ok(Some(sequence)),
            (false, _) => Err(other_text(Table::PubsubItemIds, &key)),
        }
    }

    fn at(&self, node: &Node, sequence: u64) -> Result<Option<ItemRef<'t>>, DirectoryError> {
        let key = item_key(self.account, node.number, sequence);
        let Some(value) = self.view.get(Table::PubsubItems, &key)? else { return Ok(None) };
        ItemRef::decode(&key, value).map(Some).map_err(damaged(Table::PubsubItems, &key))
    }

    /// An item by its id.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn item(&self, node: &Node, id: &str) -> Result<Option<ItemRef<'t>>, DirectoryError> {
        match self.place_of(node, id)? {
            Some(sequence) => self.at(node, sequence),
            None => Ok(None),
        }
    }

    /// The item that was published last, of those that are there.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn last_item(&self, node: &Node) -> Result<Option<ItemRef<'t>>, DirectoryError> {
        if let Some(item) = self.at(node, node.last)? {
            return Ok(Some(item));
        }
        let mut last = None;
        self.each_item(node, (0, u64::MAX), true, |item| {
            last = Some(item);
            false
        })?;
        Ok(last)
    }

    /// Goes through items whose sequences lie between two, which are left out, from the oldest on or from the newest on, as
    /// long as `f` wants more.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn each_item(
        &self,
        node: &Node,
        (after, before): (u64, u64),
        newest_first: bool,
        mut f: impl FnMut(ItemRef<'t>) -> bool,
    ) -> Result<(), DirectoryError> {
        if before <= after {
            return Ok(());
        }
        let key = |sequence| item_key(self.account, node.number, sequence);
        let (low, high) = (key(after), key(before));
        let range = (Bound::Excluded(&low[..]), Bound::Excluded(&high[..]));
        let inner = self.view.inner;
        let table = inner.tables.of(Table::PubsubItems);
        let failed = |error| inner.failed("read", error);
        let mut take = |row: Result<(&'t [u8], &'t [u8]), heed::Error>| {
            let (key, value) = row.map_err(failed)?;
            ItemRef::decode(key, value).map(&mut f).map_err(damaged(Table::PubsubItems, key))
        };
        if newest_first {
            for row in table.rev_range(self.view.txn, &range).map_err(failed)? {
                if !take(row)? {
                    break;
                }
            }
        } else {
            for row in table.range(self.view.txn, &range).map_err(failed)? {
                if !take(row)? {
                    break;
                }
            }
        }
        Ok(())
    }
}

impl WriteTransaction<'_> {
    /// Publishes an item; one of the same id is replaced and becomes the newest.
    ///
    /// # Errors
    /// [`DirectoryError::Size`] for an id that is empty or longer than [`ITEM_ID_BYTES_MAX`], or too long a payload; the
    /// directory is damaged or cannot be written.
    pub fn publish_item(
        &mut self,
        account: ActorId,
        node: &mut Node,
        item: &NewItem<'_>,
    ) -> Result<(), DirectoryError> {
        check_size("the item", item.payload.len())?;
        let id_key = id_key(account, node.number, item.id)
            .ok_or_else(|| size_error("the item's id", item.id, ITEM_ID_BYTES_MAX))?;
        self.forget_item(account, node, item.id)?;
        node.last += 1;
        node.items += 1;
        node.bytes += item.bytes();
        let key = item_key(account, node.number, node.last);
        let mut fields = Encoder::new(20 + item.id.len() + item.publisher.len() + item.payload.len());
        fields.number(item.published_ms);
        fields.text(item.id.as_bytes());
        fields.text(item.publisher.as_bytes());
        fields.text(item.payload);
        self.put(Table::PubsubItems, &key, &fields.seal(&key))?;
        self.put(Table::PubsubItemIds, id_key.bytes(), &encode_place(&id_key, item.id, node.last))?;
        self.change_usage(account, |usage| {
            usage.items += 1;
            usage.bytes += item.bytes();
        })?;
        self.write_node(account, node)
    }

    /// Drops an item. `false`: there is none with this id.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn retract_item(
        &mut self,
        account: ActorId,
        node: &mut Node,
        id: &str,
    ) -> Result<bool, DirectoryError> {
        let was_there = self.forget_item(account, node, id)?;
        if was_there {
            self.write_node(account, node)?;
        }
        Ok(was_there)
    }

    /// Drops the oldest items of which there are more than `max`.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn trim_node(&mut self, account: ActorId, node: &mut Node, max: u64) -> Result<(), DirectoryError> {
        let surplus = node.items.saturating_sub(max);
        if surplus == 0 {
            return Ok(());
        }
        let mut ids = Vec::new();
        self.pubsub_of(account).each_item(node, (0, u64::MAX), false, |item| {
            ids.push(item.id.to_owned());
            (ids.len() as u64) < surplus
        })?;
        for id in &ids {
            self.forget_item(account, node, id)?;
        }
        self.write_node(account, node)
    }

    /// Drops all items of a node.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub fn purge_node(&mut self, account: ActorId, node: &mut Node) -> Result<(), DirectoryError> {
        self.trim_node(account, node, 0)
    }

    /// Drops an item and leaves the node's row to be written.
    fn forget_item(&mut self, account: ActorId, node: &mut Node, id: &str) -> Result<bool, DirectoryError> {
        let found = self.pubsub_of(account).item(node, id)?;
        let Some((sequence, bytes)) = found.map(|item| (item.sequence, item.bytes())) else {
            return Ok(false);
        };
        self.delete(Table::PubsubItems, &item_key(account, node.number, sequence))?;
        if let Some(key) = id_key(account, node.number, id) {
            self.delete(Table::PubsubItemIds, key.bytes())?;
        }
        node.items -= 1;
        node.bytes -= bytes;
        self.change_usage(account, |usage| {
            usage.items -= 1;
            usage.bytes -= bytes;
        })?;
        Ok(true)
    }
}
