//! Roster items (RFC 6121 §2.1.2) and how they lie in the map.

use super::codec::{Decoder, Encoder};
use super::key::{Key, text_of};

/// RFC 6121 §2.1.2.5.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Subscription {
    /// Neither sees the other's presence.
    #[default]
    None,
    /// The user sees the contact's presence.
    To,
    /// The contact sees the user's presence.
    From,
    /// Each sees the other's presence.
    Both,
}

/// One roster item as it lies in the map: no allocation.
#[derive(Copy, Clone, Debug)]
pub struct ItemRef<'a> {
    /// Bare JID of the contact, normalised.
    pub contact: &'a str,
    /// Who sees whose presence.
    pub subscription: Subscription,
    /// `ask='subscribe'`: "pending out".
    pub ask: bool,
    /// Pre-approved (RFC 6121 §3.4).
    pub approved: bool,
    /// "Pending in": the contact has asked; the stanza is kept in the owned [`Item`].
    pub pending_in: bool,
    /// The user sees it in the roster (false for an item that only keeps a pending request or a pre-approval).
    pub listed: bool,
}

/// A roster item with everything that the user sees of it, as it lies in the map: no allocation.
#[derive(Copy, Clone, Debug)]
pub struct ItemRow<'a> {
    /// What does not depend on the user's own words.
    pub head: ItemRef<'a>,
    /// The user's name for the contact; empty for none.
    pub name: &'a str,
    /// Number of the roster version at which it last changed.
    pub version: u64,
    /// The groups as they lie in the map. Each is whole and UTF-8.
    groups: &'a [u8],
    /// The `<presence type='subscribe'/>` that waits for an answer.
    pending_in: Option<&'a [u8]>,
}

/// One roster item, owned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// Bare JID of the contact, normalised.
    pub contact: String,
    /// The user's name for the contact; empty for none.
    pub name: String,
    /// Groups the contact is in, in the user's order.
    pub groups: Vec<String>,
    /// Who sees whose presence.
    pub subscription: Subscription,
    /// `ask='subscribe'`: "pending out".
    pub ask: bool,
    /// Pre-approved (RFC 6121 §3.4).
    pub approved: bool,
    /// The `<presence type='subscribe'/>` that waits for an answer, as it will be delivered (stamped).
    pub pending_in: Option<Vec<u8>>,
    /// The user sees it in the roster (false for an item that only keeps a pending request or a pre-approval).
    pub listed: bool,
    /// Number of the roster version at which it last changed.
    pub version: u64,
}

const SUBSCRIPTION: u8 = 0b11;
const ASK: u8 = 1 << 2;
const APPROVED: u8 = 1 << 3;
const PENDING_IN: u8 = 1 << 4;
const LISTED: u8 = 1 << 5;
const KNOWN: u8 = SUBSCRIPTION | ASK | APPROVED | PENDING_IN | LISTED;

/// Bytes of the account's number before the contact in the key.
const PREFIX: usize = 8;

/// ```text
/// 1   flags: subscription (2 bits), ask, approved, pending_in, listed
/// 8   version
///     contact, if the key has only its hash
///     name
/// 4   number of groups
///     groups
///     pending request, if the flag is set
/// ```
fn encode_flags(item: &Item) -> u8 {
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    item.subscription as u8
        | flag(item.ask, ASK)
        | flag(item.approved, APPROVED)
        | flag(item.pending_in.is_some(), PENDING_IN)
        | flag(item.listed, LISTED)
}

fn subscription(flags: u8) -> Subscription {
    match flags & SUBSCRIPTION {
        0 => Subscription::None,
        1 => Subscription::To,
        2 => Subscription::From,
        _ => Subscription::Both,
    }
}

impl Item {
    /// Bytes it takes in the map, nearly.
    pub(super) fn size(&self) -> usize {
        64 + self.contact.len()
            + self.name.len()
            + self.groups.iter().map(|group| 4 + group.len()).sum::<usize>()
            + self.pending_in.as_ref().map_or(0, Vec::len)
    }

    /// The value for a key, under a version.
    pub(super) fn encode(&self, key: &Key, version: u64) -> Vec<u8> {
        let mut fields = Encoder::new(self.size());
        fields.byte(encode_flags(self));
        fields.number(version);
        if key.is_hashed() {
            fields.text(self.contact.as_bytes());
        }
        fields.text(self.name.as_bytes());
        fields.count(self.groups.len());
        for group in &self.groups {
            fields.text(group.as_bytes());
        }
        if let Some(stanza) = &self.pending_in {
            fields.text(stanza);
        }
        fields.seal(key.bytes())
    }

    /// Reads a row of the table.
    pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        ItemRow::decode(key, value).map(|row| Self {
            contact: row.head.contact.to_owned(),
            name: row.name.to_owned(),
            groups: row.groups().map(str::to_owned).collect(),
            subscription: row.head.subscription,
            ask: row.head.ask,
            approved: row.head.approved,
            pending_in: row.pending_in.map(<[u8]>::to_vec),
            listed: row.head.listed,
            version: row.version,
        })
    }

    /// The item without the user's own words.
    #[must_use]
    pub fn head(&self) -> ItemRef<'_> {
        ItemRef {
            contact: &self.contact,
            subscription: self.subscription,
            ask: self.ask,
            approved: self.approved,
            pending_in: self.pending_in.is_some(),
            listed: self.listed,
        }
    }
}

impl<'a> ItemRow<'a> {
    /// Reads a row of the table.
    pub(super) fn decode(key: &'a [u8], value: &'a [u8]) -> Result<Self, &'static str> {
        let (head, version, mut fields) = decode_head(key, value)?;
        let name = fields.text()?;
        let count = fields.count()?;
        let from_groups = fields.rest();
        for _ in 0..count {
            fields.text()?;
        }
        let groups = &from_groups[..from_groups.len() - fields.remaining()];
        let pending_in = if head.pending_in { Some(fields.bytes()?) } else { None };
        fields.close()?;
        Ok(Self { head, name, version, groups, pending_in })
    }

    /// Groups the contact is in, in the user's order.
    pub fn groups(&self) -> impl Iterator<Item = &'a str> {
        let mut fields = Decoder::inside(self.groups);
        std::iter::from_fn(move || fields.text().ok())
    }
}

impl<'a> ItemRef<'a> {
    /// Reads the head of a row of the table.
    pub(super) fn decode(key: &'a [u8], value: &'a [u8]) -> Result<Self, &'static str> {
        decode_head(key, value).map(|(head, ..)| head)
    }
}

/// Version at which a row last changed.
pub(super) fn decode_version(key: &[u8], value: &[u8]) -> Result<u64, &'static str> {
    decode_head(key, value).map(|(_, version, _)| version)
}

fn decode_head<'a>(key: &'a [u8], value: &'a [u8]) -> Result<(ItemRef<'a>, u64, Decoder<'a>), &'static str> {
    let mut fields = Decoder::open(key, value)?;
    let flags = fields.byte()?;
    if flags & !KNOWN != 0 {
        return Err("unknown flags");
    }
    let version = fields.number()?;
    let contact = match text_of(key, PREFIX)? {
        Some(contact) => contact,
        None => fields.text()?,
    };
    let head = ItemRef {
        contact,
        subscription: subscription(flags),
        ask: flags & ASK != 0,
        approved: flags & APPROVED != 0,
        pending_in: flags & PENDING_IN != 0,
        listed: flags & LISTED != 0,
    };
    Ok((head, version, fields))
}
