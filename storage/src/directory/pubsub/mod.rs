//! Nodes of accounts and of the publish-subscribe service, and what is published to them (XEP-0060, XEP-0163).
//!
//! ```text
//! pubsub_nodes      actor, name                  the node: its number, what it is configured to, how much is in it
//! pubsub_items      actor, number, sequence      an item, in the order of publishing
//! pubsub_item_ids   actor, number, id            the item's sequence
//! pubsub_members    actor, number, JID           who is affiliated or subscribed
//! pubsub_usage      actor                        nodes, items, bytes and members of all nodes together
//! nodes_of_accounts account, number, JID         what the account is to a node of the service
//!                   service, number, JID         that it owns the node
//! ```
//! The actor is the account that owns the node, or [`ActorId::NODES`] for nodes of the service, which stands for itself under
//! the empty localpart. Accounts have nodes of the service by affiliation and subscription only; both go with the account,
//! which finds them in `nodes_of_accounts`.
//!
//! A node has a number that no other node ever had, so what lies under it goes with it and a new node of its name begins
//! empty. What a node holds is counted in its row, and what an account holds in one more: a limit costs one look.
//!
//! | module | what |
//! |---|---|
//! | here | looking: [`PubsubView`] |
//! | [`node`] | a node and its configuration |
//! | [`items`] | publishing, retracting, and reading in order |
//! | [`members`] | affiliations and subscriptions |
//! | [`service`] | what accounts are to nodes of the service |

mod items;
mod members;
mod node;
mod service;

pub use items::{ITEM_ID_BYTES_MAX, ITEM_ROW_BYTES, Item, ItemRef, NewItem};
pub use members::{Affiliation, Member, MemberRow, SubscriptionState};
pub use node::{
    AccessModel, NODE_NAME_BYTES_MAX, NODE_ROW_BYTES, Node, NodeConfig, NodeFlags, PublishModel, SendLast,
};
pub use service::NodeOfAccount;

use super::codec::{Decoder, Encoder};
use super::error::DirectoryError;
use super::tables::{Table, View, damaged};
use super::{Directory, WriteTransaction};
use crate::actor::ActorId;

/// What all nodes of an account, or of the service, hold together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PubsubUsage {
    /// Nodes.
    pub nodes: u64,
    /// Items that are kept.
    pub items: u64,
    /// Bytes of nodes and items, with [`NODE_ROW_BYTES`] and [`ITEM_ROW_BYTES`] for each.
    pub bytes: u64,
    /// Affiliations and subscriptions.
    pub members: u64,
}

/// The nodes of one account, or of the service, in one state of the directory.
#[derive(Clone, Copy)]
pub struct PubsubView<'t> {
    view: View<'t>,
    account: ActorId,
}

impl std::fmt::Debug for PubsubView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PubsubView").field("account", &self.account).finish_non_exhaustive()
    }
}

/// Actor and number of a node, which begin the keys of all that it has.
fn prefix(account: ActorId, number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&account.key());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Whose nodes are meant by a localpart: an account's, or by the empty one the service's.
fn owner(view: &View<'_>, local: &str) -> Result<Option<ActorId>, DirectoryError> {
    match local.is_empty() {
        true => Ok(Some(ActorId::NODES)),
        false => view.account(local),
    }
}

impl PubsubView<'_> {
    /// The account's number, or [`ActorId::NODES`].
    #[must_use]
    pub fn account(&self) -> ActorId {
        self.account
    }

    /// What all nodes of the account hold together.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn usage(&self) -> Result<PubsubUsage, DirectoryError> {
        let key = self.account.key();
        let Some(value) = self.view.get(Table::PubsubUsage, &key)? else { return Ok(PubsubUsage::default()) };
        let decoded = Decoder::open(&key, value).and_then(|mut fields| {
            let (nodes, items) = (fields.number()?, fields.number()?);
            let (bytes, members) = (fields.number()?, fields.number()?);
            fields.close().map(|()| PubsubUsage { nodes, items, bytes, members })
        });
        decoded.map_err(damaged(Table::PubsubUsage, &key))
    }
}

impl Directory {
    /// Looks at the nodes of an account, or with an empty localpart at those of the service; `None`: there is no such account.
    ///
    /// # Errors
    /// Those of `look`; the directory cannot be read or is damaged.
    pub fn pubsub<T>(
        &self,
        local: &str,
        look: impl FnOnce(PubsubView<'_>) -> Result<T, DirectoryError>,
    ) -> Result<Option<T>, DirectoryError> {
        self.read(|view| {
            let Some(account) = owner(&view, local)? else { return Ok(None) };
            look(PubsubView { view, account }).map(Some)
        })
    }

    /// How many nodes and items all accounts have, and what the nodes of the service hold.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn pubsub_counts(&self) -> Result<(u64, u64, PubsubUsage), DirectoryError> {
        self.read(|view| {
            let service = PubsubView { view, account: ActorId::NODES }.usage()?;
            let (nodes, items) = (view.len(Table::PubsubNodes)?, view.len(Table::PubsubItems)?);
            Ok((nodes.saturating_sub(service.nodes), items.saturating_sub(service.items), service))
        })
    }
}

impl WriteTransaction<'_> {
    /// The nodes of an account, or with an empty localpart those of the service, with what has been written so far; `None`:
    /// there is no such account.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn pubsub(&self, local: &str) -> Result<Option<PubsubView<'_>>, DirectoryError> {
        let view = self.view();
        Ok(owner(&view, local)?.map(|account| PubsubView { view, account }))
    }

    fn pubsub_of(&self, account: ActorId) -> PubsubView<'_> {
        PubsubView { view: self.view(), account }
    }

    /// Changes what an account is said to hold.
    fn change_usage(
        &mut self,
        account: ActorId,
        change: impl FnOnce(&mut PubsubUsage),
    ) -> Result<(), DirectoryError> {
        let mut usage = self.pubsub_of(account).usage()?;
        change(&mut usage);
        let key = account.key();
        let mut fields = Encoder::new(32);
        fields.number(usage.nodes);
        fields.number(usage.items);
        fields.number(usage.bytes);
        fields.number(usage.members);
        self.put(Table::PubsubUsage, &key, &fields.seal(&key))
    }

    /// Deletes all rows of a node in a table. There are no more of them than limits allow.
    fn delete_of_node(&mut self, table: Table, account: ActorId, number: u64) -> Result<(), DirectoryError> {
        let mut keys = Vec::new();
        for row in self.view().prefixed(table, &prefix(account, number))? {
            keys.push(row?.0.to_vec());
        }
        for key in &keys {
            self.delete(table, key)?;
        }
        Ok(())
    }
}
