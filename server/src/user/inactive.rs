//! Client state (XEP-0352): what an inactive client does not need to be woken for, and what one that reads slowly or
//! has lost its connection gets less of.
//!
//! While a client is inactive, presence is held and only the newest of each sender is kept; chat states are
//! held, and so is what happens to nodes. Anything else sends what is held first, so that order is kept, and goes out at once.

use std::hash::BuildHasher;

use memchr::memmem;

use crate::env::Env;
use crate::memory::Pressure;
use crate::proto::ns;
use crate::runtime::deliveries::Reception;
use crate::runtime::driver::ConnId;
use crate::stanza::{Delivery, Kind, Traits, Type};
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::flow::{self, Class, Outgoing};
use crate::user::share;
use crate::user::tables::Users;
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
pub struct HeldStanzas {
    entries: Vec<Entry>,
    bytes: usize,
}

/// One stanza that is held back.
#[derive(Debug)]
struct Entry {
    /// Whose next presence replaces it; `None` when nothing does.
    sender: Option<Box<str>>,
    /// Of the sender: most that differ are told apart by it.
    hash: u32,
    kind: Kind,
    stanza: Box<[u8]>,
}

impl Entry {
    fn new(kind: Kind, sender: Option<&str>, stanza: &[u8]) -> Entry {
        let hash = sender.map_or(0, hash_of);
        Entry { sender: sender.map(Into::into), hash, kind, stanza: stanza.into() }
    }

    /// Bytes of memory. They bound how many there can be, and so what looking for one costs.
    fn cost(&self) -> usize {
        cost(self.sender.as_deref(), &self.stanza)
    }
}

fn cost(sender: Option<&str>, stanza: &[u8]) -> usize {
    size_of::<Entry>() + sender.map_or(0, str::len) + stanza.len()
}

fn hash_of(sender: &str) -> u32 {
    foldhash::fast::FixedState::default().hash_one(sender) as u32
}

impl HeldStanzas {
    /// What is held: kind, whose next presence replaces it, the stanza.
    pub(crate) fn save(&self) -> impl Iterator<Item = (Kind, Option<&str>, &[u8])> {
        self.entries.iter().map(|entry| (entry.kind, entry.sender.as_deref(), &*entry.stanza))
    }

    /// What another program held.
    pub(crate) fn restored(entries: &[(Kind, Option<&str>, &[u8])]) -> HeldStanzas {
        let entry = |&(kind, sender, stanza): &(Kind, Option<&str>, &[u8])| Entry::new(kind, sender, stanza);
        let entries: Vec<Entry> = entries.iter().map(entry).collect();
        let bytes = entries.iter().map(Entry::cost).sum();
        HeldStanzas { entries, bytes }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a stanza if it fits into `bytes_max`. One that has a sender takes the place of the older one of that sender,
    /// which goes in any case: it is out of date.
    fn add(&mut self, kind: Kind, sender: Option<&str>, bytes: &[u8], bytes_max: usize) -> bool {
        if let Some(from) = sender {
            let hash = hash_of(from);
            let older =
                self.entries.iter().position(|old| old.hash == hash && old.sender.as_deref() == Some(from));
            if let Some(older) = older {
                self.bytes -= self.entries.remove(older).cost();
            }
        }
        let cost = cost(sender, bytes);
        if self.bytes + cost > bytes_max {
            return false;
        }
        self.bytes += cost;
        self.entries.push(Entry::new(kind, sender, bytes));
        true
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

/// Takes a stanza that may wait if the client is inactive, reads slowly or is not there; says whether it did. When
/// `limits.inactive_bytes` is reached, an inactive client gets everything that is held; to one that cannot read it nothing
/// more is held, and its contacts will be asked for the presence that it missed. Anything that may not wait sends what is held
/// first, to a client that reads.
pub fn hold(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey, out: &Outgoing<'_>) -> bool {
    let &Outgoing { kind, urgency, bytes, .. } = out;
    let limit = env.config.limits.inactive_bytes as usize;
    let resource = actors.users.resource(key);
    let reads = resource.conn != ConnId::NONE && !resource.flags.has(Flags::BACKED_UP);
    if urgency == Urgency::Now {
        if reads {
            release(actors, env, fx, key);
        }
        return false;
    }
    let sender = out.sender();
    let has_share = env.shared.memory.pressure() < Pressure::Tight
        && share::has_for_others(actors, env, fx, key, bytes.len());
    let resource = actors.users.resource_mut(key);
    if has_share && resource.held.get_or_insert_default().add(kind, sender, bytes, limit) {
        env.metrics().held_inactive.add(1);
        return true;
    }
    if reads {
        release(actors, env, fx, key);
        return false;
    }
    if matches!(out.class, Class::Presence(_) | Class::Event) {
        resource.flags.put(Flags::PRESENCE_LOST, true);
    }
    env.metrics().dropped_output.add(1);
    true
}

/// Sends everything that is held.
pub fn release(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    if let Some(held) = actors.users.resource_mut(key).held.take() {
        let begun = fx.out.times.set_received(Reception::default());
        for Entry { kind, sender, stanza, .. } in &held.entries {
            let class = match sender.as_deref() {
                Some(from) => Class::Presence(from),
                None if memmem::find(stanza, ns::PUBSUB_EVENT.as_bytes()).is_some() => Class::Event,
                None => Class::Foreign,
            };
            let out = Outgoing { kind: *kind, class, urgency: Urgency::Now, bytes: stanza };
            flow::write(actors, env, fx, key, &out);
        }
        let _ = fx.out.times.set_received(begun);
    }
}

/// Drops everything that is held for a client that is not there; its contacts will be asked for their presence.
pub fn forget(users: &mut Users, key: ResourceKey) {
    let resource = users.resource_mut(key);
    if resource.held.take().is_some() {
        resource.flags.put(Flags::PRESENCE_LOST, true);
    }
}

/// The client says `<active/>` or `<inactive/>`.
pub fn set(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey, inactive: bool) {
    let flags = &mut actors.users.resource_mut(key).flags;
    flags.put(Flags::INACTIVE, inactive);
    if !inactive && !flags.has(Flags::BACKED_UP) {
        release(actors, env, fx, key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(held: &HeldStanzas) -> Vec<String> {
        held.entries.iter().map(|entry| String::from_utf8(entry.stanza.to_vec()).unwrap()).collect()
    }

    #[test]
    fn a_newer_presence_replaces_the_older_and_the_count_of_bytes_follows() {
        let mut held = HeldStanzas::default();
        assert!(held.add(Kind::Presence, Some("a@x/1"), b"first", 1000));
        assert!(held.add(Kind::Message, None, b"state", 1000));
        assert!(held.add(Kind::Presence, Some("a@x/1"), b"second!", 1000));
        assert_eq!(texts(&held), ["state", "second!"]);
        assert_eq!(held.bytes, 2 * size_of::<Entry>() + 12 + "a@x/1".len());
    }

    #[test]
    fn what_does_not_fit_leaves_nothing_out_of_date_behind() {
        let mut held = HeldStanzas::default();
        let room = 2 * cost(Some("a@x/1"), b"first");
        assert!(held.add(Kind::Presence, Some("a@x/1"), b"first", room));
        assert!(held.add(Kind::Presence, Some("b@x/1"), b"other", room));
        assert!(!held.add(Kind::Presence, Some("a@x/1"), b"longer", room));
        assert_eq!(texts(&held), ["other"]);
    }
}
