//! Who is affiliated with a node or subscribed to it (XEP-0060 §4.1, §4.2), beside the account that owns it.
//!
//! A row remembers the number of the account that its JID named when it was written: when that account is gone, a new one of
//! its name has nothing of it.

use super::node::Node;
use super::{PubsubView, prefix};
use crate::actor::ActorId;
use crate::directory::WriteTransaction;
use crate::directory::codec::{Decoder, Encoder};
use crate::directory::error::DirectoryError;
use crate::directory::key::{CONTACT_BYTES_MAX, Key, size_error, text_of};
use crate::directory::tables::{Table, damaged};
use crate::jid::JidRef;

/// What somebody may do with a node.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum Affiliation {
    /// What everybody may.
    #[default]
    None = 0,
    /// Look at it, whatever its access model.
    Member = 1,
    /// Publish, and not look.
    PublishOnly = 2,
    /// Publish and look.
    Publisher = 3,
    /// Nothing.
    Outcast = 4,
    /// Everything. Of nodes of the service alone: others belong to their account.
    Owner = 5,
}

impl Affiliation {
    pub(super) fn from_byte(byte: u8) -> Result<Self, &'static str> {
        Ok(match byte {
            0 => Self::None,
            1 => Self::Member,
            2 => Self::PublishOnly,
            3 => Self::Publisher,
            4 => Self::Outcast,
            5 => Self::Owner,
            _ => return Err("an unknown affiliation"),
        })
    }
}

/// Whether somebody is subscribed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum SubscriptionState {
    /// No.
    #[default]
    None = 0,
    /// The owner has not answered yet.
    Pending = 1,
    /// Yes.
    Subscribed = 2,
}

impl SubscriptionState {
    pub(super) fn from_byte(byte: u8) -> Result<Self, &'static str> {
        Ok(match byte {
            0 => Self::None,
            1 => Self::Pending,
            2 => Self::Subscribed,
            _ => return Err("an unknown state of a subscription"),
        })
    }
}

/// What somebody is to a node.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Member {
    /// Of a bare JID.
    pub affiliation: Affiliation,
    /// Of a bare or full JID.
    pub subscription: SubscriptionState,
    /// The account that the JID named when this was written; [`ActorId::NOBODY`] when there was none.
    pub account: ActorId,
}

impl Member {
    /// Whether it is neither affiliated nor subscribed.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.affiliation == Affiliation::None && self.subscription == SubscriptionState::None
    }
}

/// A member with its address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemberRow {
    /// Bare JID, or a full one that is subscribed.
    pub jid: String,
    /// What it is to the node.
    pub member: Member,
}

fn key_of(account: ActorId, number: u64, jid: &str) -> Option<Key> {
    Key::of_node(&prefix(account, number), jid, CONTACT_BYTES_MAX)
}

fn decode(key: &[u8], value: &[u8]) -> Result<MemberRow, &'static str> {
    let mut fields = Decoder::open(key, value)?;
    let jid = match text_of(key, 16)? {
        Some(jid) => jid,
        None => fields.text()?,
    };
    let affiliation = Affiliation::from_byte(fields.byte()?)?;
    let subscription = SubscriptionState::from_byte(fields.byte()?)?;
    let account = ActorId::from_raw(fields.number()?);
    fields.close()?;
    Ok(MemberRow { jid: jid.to_owned(), member: Member { affiliation, subscription, account } })
}

impl PubsubView<'_> {
    /// What a JID is to a node. `localpart` is that of the account it names, if it is one of this domain: a row that was
    /// written for an account that is gone counts for nothing.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn member(&self, node: &Node, jid: &str, localpart: Option<&str>) -> Result<Member, DirectoryError> {
        let Some(key) = key_of(self.account, node.number, jid) else { return Ok(Member::default()) };
        let Some(value) = self.view.get(Table::PubsubMembers, key.bytes())? else {
            return Ok(Member::default());
        };
        let row = decode(key.bytes(), value).map_err(damaged(Table::PubsubMembers, key.bytes()))?;
        let is_current = row.jid == jid && self.is_of(&row.member, localpart)?;
        Ok(if is_current { row.member } else { Member::default() })
    }

    /// Whether a row still counts: the account that it was written for is there, and has the name.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn is_current(&self, row: &MemberRow) -> Result<bool, DirectoryError> {
        let localpart = JidRef::parse(&row.jid).ok().and_then(|jid| jid.local().map(str::to_owned));
        self.is_of(&row.member, localpart.as_deref())
    }

    fn is_of(&self, member: &Member, localpart: Option<&str>) -> Result<bool, DirectoryError> {
        if member.account == ActorId::NOBODY {
            return Ok(true);
        }
        let named = localpart.map(|local| self.view.account(local)).transpose()?.flatten();
        Ok(named == Some(member.account))
    }

    /// All members of a node, in the order of their addresses, with those that no longer count ([`PubsubView::is_current`]).
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn members(&self, node: &Node) -> Result<Vec<MemberRow>, DirectoryError> {
        let mut members = Vec::new();
        for row in self.view.prefixed(Table::PubsubMembers, &prefix(self.account, node.number))? {
            let (key, value) = row?;
            members.push(decode(key, value).map_err(damaged(Table::PubsubMembers, key))?);
        }
        Ok(members)
    }

    /// Goes through members behind an address, in the order of their addresses, as long as `f` wants more.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn each_member(
        &self,
        node: &Node,
        after: Option<&str>,
        mut f: impl FnMut(MemberRow) -> bool,
    ) -> Result<(), DirectoryError> {
        let after = after.and_then(|jid| key_of(self.account, node.number, jid));
        let prefix = prefix(self.account, node.number);
        for row in self.view.behind(Table::PubsubMembers, &prefix, after.as_ref())? {
            let (key, value) = row?;
            if !f(decode(key, value).map_err(damaged(Table::PubsubMembers, key))?) {
                break;
            }
        }
        Ok(())
    }

    /// The number of an account; [`ActorId::NOBODY`] for none.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn number_of(&self, localpart: &str) -> Result<ActorId, DirectoryError> {
        Ok(self.view.account(localpart)?.unwrap_or(ActorId::NOBODY))
    }
}

impl WriteTransaction<'_> {
    /// Makes somebody a member of a node, or another kind of one, or none any more.
    ///
    /// # Errors
    /// [`DirectoryError::Size`] for what can be no JID; the directory is damaged or cannot be written.
    pub fn set_member(
        &mut self,
        account: ActorId,
        node: &mut Node,
        jid: &str,
        member: Member,
    ) -> Result<(), DirectoryError> {
        let key = key_of(account, node.number, jid)
            .ok_or_else(|| size_error("the address", jid, CONTACT_BYTES_MAX))?;
        let before = self.view().get(Table::PubsubMembers, key.bytes())?;
        let before = before.map(|value| decode(key.bytes(), value)).transpose();
        let before = before.map_err(damaged(Table::PubsubMembers, key.bytes()))?;
        if account == ActorId::NODES {
            self.change_membership(node, jid, before.as_ref().map(|row| row.member), member)?;
        }
        let was_there = before.is_some();
        let is_there = !member.is_nothing();
        if is_there {
            let mut fields = Encoder::new(14 + jid.len());
            if key.is_hashed() {
                fields.text(jid.as_bytes());
            }
            fields.byte(member.affiliation as u8);
            fields.byte(member.subscription as u8);
            fields.number(member.account.raw());
            self.put(Table::PubsubMembers, key.bytes(), &fields.seal(key.bytes()))?;
        } else if was_there {
            self.delete(Table::PubsubMembers, key.bytes())?;
        }
        if was_there == is_there {
            return Ok(());
        }
        let counted = |count: u64| if is_there { count + 1 } else { count - 1 };
        node.members = counted(node.members);
        self.change_usage(account, |usage| usage.members = counted(usage.members))?;
        self.write_node(account, node)
    }
}
