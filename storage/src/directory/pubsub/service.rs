//! What accounts are to nodes of the service: the same rows once more, by account, so that a user's list of them, a limit on
//! them and the end of the account cost as much as they are many. Owners of a node have one more row, under the service.

use super::members::{Affiliation, Member, SubscriptionState};
use super::node::Node;
use super::{PubsubView, prefix};
use crate::actor::ActorId;
use crate::directory::WriteTransaction;
use crate::directory::codec::{Decoder, Encoder};
use crate::directory::error::DirectoryError;
use crate::directory::key::{CONTACT_BYTES_MAX, Key, size_error, text_of};
use crate::directory::tables::{Table, damaged};

/// What an account is to a node of the service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeOfAccount {
    /// The node's number.
    pub number: u64,
    /// The node's name.
    pub node: String,
    /// Under which address of the account: its bare JID, or a full one that is subscribed.
    pub jid: String,
    /// Of a bare JID.
    pub affiliation: Affiliation,
    /// Of a bare or full JID.
    pub subscription: SubscriptionState,
}

fn key_of(actor: ActorId, number: u64, jid: &str) -> Result<Key, DirectoryError> {
    Key::of_node(&prefix(actor, number), jid, CONTACT_BYTES_MAX)
        .ok_or_else(|| size_error("the address", jid, CONTACT_BYTES_MAX))
}

fn encode(key: &Key, node: &str, jid: &str, member: Member) -> Vec<u8> {
    let mut fields = Encoder::new(10 + node.len() + jid.len());
    if key.is_hashed() {
        fields.text(jid.as_bytes());
    }
    fields.text(node.as_bytes());
    fields.byte(member.affiliation as u8);
    fields.byte(member.subscription as u8);
    fields.seal(key.bytes())
}

fn decode(key: &[u8], value: &[u8]) -> Result<NodeOfAccount, &'static str> {
    let number = key.get(8..16).and_then(|number| <[u8; 8]>::try_from(number).ok());
    let number = u64::from_be_bytes(number.ok_or("the key is no node's")?);
    let mut fields = Decoder::open(key, value)?;
    let jid = match text_of(key, 16)? {
        Some(jid) => jid,
        None => fields.text()?,
    };
    let node = fields.text()?;
    let affiliation = Affiliation::from_byte(fields.byte()?)?;
    let subscription = SubscriptionState::from_byte(fields.byte()?)?;
    fields.close()?;
    Ok(NodeOfAccount { number, node: node.to_owned(), jid: jid.to_owned(), affiliation, subscription })
}

impl PubsubView<'_> {
    /// Goes through what an account is to nodes of the service, those made first before others, as long as `f` wants more.
    /// `after`: number of a node, and an address, behind which it begins.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn each_of_account(
        &self,
        account: ActorId,
        after: Option<(u64, &str)>,
        mut f: impl FnMut(NodeOfAccount) -> bool,
    ) -> Result<(), DirectoryError> {
        let after = after.map(|(number, jid)| key_of(account, number, jid)).transpose()?;
        for row in self.view.behind(Table::NodesOfAccounts, &account.key(), after.as_ref())? {
            let (key, value) = row?;
            if !f(decode(key, value).map_err(damaged(Table::NodesOfAccounts, key))?) {
                break;
            }
        }
        Ok(())
    }

    /// How many affiliations and subscriptions an account has with nodes of the service, and how many of these it owns; both
    /// counted up to `max` of the former.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn counts_of_account(&self, account: ActorId, max: u64) -> Result<(u64, u64), DirectoryError> {
        let (mut all, mut owned) = (0, 0);
        self.each_of_account(account, None, |row| {
            all += 1;
            owned += u64::from(row.affiliation == Affiliation::Owner);
            all < max
        })?;
        Ok((all, owned))
    }

    /// The bare JIDs of those who own a node of the service, at most `max`.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn owners(&self, node: &Node, max: usize) -> Result<Vec<String>, DirectoryError> {
        let mut owners = Vec::new();
        let prefix = prefix(ActorId::NODES, node.number);
        for row in self.view.prefixed(Table::NodesOfAccounts, &prefix)?.take(max) {
            let (key, value) = row?;
            owners.push(decode(key, value).map_err(damaged(Table::NodesOfAccounts, key))?.jid);
        }
        Ok(owners)
    }
}

impl WriteTransaction<'_> {
    /// Keeps the rows by account in step with a member of a node of the service.
    pub(super) fn change_membership(
        &mut self,
        node: &Node,
        jid: &str,
        before: Option<Member>,
        after: Member,
    ) -> Result<(), DirectoryError> {
        for (actor, _) in before.into_iter().flat_map(rows_of) {
            self.delete(Table::NodesOfAccounts, key_of(actor, node.number, jid)?.bytes())?;
        }
        for (actor, member) in rows_of(after) {
            let key = key_of(actor, node.number, jid)?;
            self.put(Table::NodesOfAccounts, key.bytes(), &encode(&key, &node.name, jid, member))?;
        }
        Ok(())
    }

    /// Drops the rows by account of all members of a node of the service.
    pub(super) fn forget_memberships(&mut self, node: &Node) -> Result<(), DirectoryError> {
        for row in self.pubsub_of(ActorId::NODES).members(node)? {
            self.change_membership(node, &row.jid, Some(row.member), Member::default())?;
        }
        Ok(())
    }

    /// Takes an account out of all nodes of the service.
    ///
    /// # Errors
    /// The directory is damaged or cannot be written.
    pub(in crate::directory) fn leave_nodes(&mut self, account: ActorId) -> Result<(), DirectoryError> {
        let mut rows = Vec::new();
        self.pubsub_of(ActorId::NODES).each_of_account(account, None, |row| {
            rows.push(row);
            true
        })?;
        for row in rows {
            let found = self.pubsub_of(ActorId::NODES).node(&row.node)?;
            let key = key_of(account, row.number, &row.jid)?;
            let mut node = found
                .filter(|node| node.number == row.number)
                .ok_or("a node that is not there")
                .map_err(damaged(Table::NodesOfAccounts, key.bytes()))?;
            self.set_member(ActorId::NODES, &mut node, &row.jid, Member::default())?;
        }
        Ok(())
    }
}

/// Under which actors a member of a node of the service has a row.
fn rows_of(member: Member) -> impl Iterator<Item = (ActorId, Member)> {
    let of_account = member.account != ActorId::NOBODY && !member.is_nothing();
    let owner = member.affiliation == Affiliation::Owner;
    let rows = [(of_account, member.account), (owner, ActorId::NODES)];
    rows.into_iter().filter(|(is_there, _)| *is_there).map(move |(_, actor)| (actor, member))
}
