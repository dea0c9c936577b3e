//! Client state (XEP-0352): what an inactive client does not need to be woken for.
//!
//! While a client is inactive, presence is held and only the newest of each sender is kept; chat states are
//! held. Anything else sends what is held first, so that order is kept, and goes out at once.

use crate::stanza::{Delivery, Kind, Traits, Type};
use crate::user::flow;
use crate::user::home::Home;
use crate::user::tables::{Flags, ResourceKey};

/// Whether a stanza may wait while a client is inactive.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Goes out at once.
    Now,
    /// May wait; a newer one of the same sender replaces it.
    Replaceable,
    /// May wait.
    CanWait,
}

/// Stanzas held back for one resource.
#[derive(Debug, Default)]
pub struct Held {
    entries: Vec<Entry>,
    bytes: usize,
}

/// One stanza that is held back.
#[derive(Debug)]
struct Entry {
    /// Whose next presence replaces it; `None` when nothing does.
    sender: Option<Box<str>>,
    kind: Kind,
    stanza: Box<[u8]>,
}

impl Held {
    /// What is held: kind, whose next presence replaces it, the stanza.
    pub(crate) fn save(&self) -> impl Iterator<Item = (Kind, Option<&str>, &[u8])> {
        self.entries.iter().map(|entry| (entry.kind, entry.sender.as_deref(), &*entry.stanza))
    }

    /// What another program held.
    pub(crate) fn restored(entries: &[(Kind, Option<&str>, &[u8])]) -> Held {
        let bytes = entries.iter().map(|(_, _, stanza)| stanza.len()).sum();
        let entry = |&(kind, sender, stanza): &(Kind, Option<&str>, &[u8])| Entry {
            sender: sender.map(Into::into),
            kind,
            stanza: stanza.into(),
        };
        Held { entries: entries.iter().map(entry).collect(), bytes }
    }

    /// Adds a stanza. A replaceable one takes the place of the sender's older one.
    fn add(&mut self, kind: Kind, from: &str, replaceable: bool, bytes: &[u8]) {
        if replaceable {
            self.entries.retain(|old| {
                let keep = old.sender.as_deref() != Some(from);
                if !keep {
                    self.bytes -= old.stanza.len();
                }
                keep
            });
        }
        self.bytes += bytes.len();
        self.entries.push(Entry { sender: replaceable.then(|| from.into()), kind, stanza: bytes.into() });
    }
}

/// How urgent a stanza is.
pub fn urgency(d: &Delivery<'_>) -> Urgency {
    match (d.kind, d.typ) {
        (Kind::Presence, Type::Available | Type::Unavailable) => Urgency::Replaceable,
        (Kind::Message, _) if d.traits.has(Traits::STATE_ONLY) => Urgency::CanWait,
        _ => Urgency::Now,
    }
}

/// Holds a stanza for an inactive client if it may wait, and says whether it did. Otherwise, and when
/// `limits.inactive_bytes` is reached, everything held is sent first.
pub fn hold(
    home: &mut Home,
    key: ResourceKey,
    kind: Kind,
    from: &str,
    urgency: Urgency,
    bytes: &[u8],
) -> bool {
    let limit = home.config.limits.inactive_bytes as usize;
    let resource = home.users.resource_mut(key);
    let held_bytes = resource.held.as_ref().map_or(0, |held| held.bytes);
    if urgency == Urgency::Now || held_bytes + bytes.len() > limit {
        release(home, key);
        return false;
    }
    resource.held.get_or_insert_default().add(kind, from, urgency == Urgency::Replaceable, bytes);
    home.metrics().held_inactive.add(1);
    true
}

/// Sends everything that is held.
pub fn release(home: &mut Home, key: ResourceKey) {
    if let Some(held) = home.users.resource_mut(key).held.take() {
        for Entry { kind, stanza, .. } in &held.entries {
            flow::write(home, key, *kind, stanza, None);
        }
    }
}

/// The client says `<active/>` or `<inactive/>`.
pub fn set(home: &mut Home, key: ResourceKey, inactive: bool) {
    home.users.resource_mut(key).flags.put(Flags::INACTIVE, inactive);
    if !inactive {
        release(home, key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_presence_replaces_the_older_and_the_count_of_bytes_follows() {
        let mut held = Held::default();
        held.add(Kind::Presence, "a@x/1", true, b"first");
        held.add(Kind::Message, "b@x/1", false, b"state");
        held.add(Kind::Presence, "a@x/1", true, b"second!");
        let texts: Vec<_> = held.entries.iter().map(|entry| entry.stanza.to_vec()).collect();
        assert_eq!(texts, [b"state".to_vec(), b"second!".to_vec()]);
        assert_eq!(held.bytes, 12);
    }
}
