//! Client state (XEP-0352): what an inactive client does not need to be woken for, and what one that reads slowly or
//! has lost its connection gets less of.
//!
//! While a client is inactive, presence is held and only the newest of each sender is kept; chat states are
//! held, and so is what happens to nodes. Where there is no room for all of it, presence of those who come gives way to that of
//! those who go: who is there can be asked again, who has gone cannot. Anything else sends what is held first, so that order is kept, and goes out at once.

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
    /// which goes in any case: it is out of date. The presence of somebody who goes also takes the place of those who come, the
    /// oldest first.
    fn add(&mut self, kind: Kind, sender: Option<&str>, bytes: &[u8], bytes_max: usize) -> Added {
        if let Some(from) = sender {
            let hash = hash_of(from);
            let older =
                self.entries.iter().position(|old| old.hash == hash && old.sender.as_deref() == Some(from));
            if let Some(older) = older {
                self.bytes -= self.entries.remove(older).cost();
            }
        }
        let cost = cost(sender, bytes);
        let gives_way = |entry: &Entry| entry.sender.is_some() && !is_unavailable(&entry.stanza);
        let room = || match sender {
            Some(_) if is_unavailable(bytes) => {
                self.entries.iter().filter(|entry| gives_way(entry)).map(Entry::cost).sum()
            }
            _ => 0,
        };
        let lacks = (self.bytes + cost).saturating_sub(bytes_max);
        // Nobody gives way to one that does not fit all the same.
        if lacks > 0 && lacks > room() {
            return Added::NoRoom;
        }
        let mut given_up = 0;
        while self.bytes + cost > bytes_max
            && let Some(at) = self.entries.iter().position(gives_way)
        {
            self.bytes -= self.entries.remove(at).cost();
            given_up += 1;
        }
        self.bytes += cost;
        self.entries.push(Entry::new(kind, sender, bytes));
        Added::InPlaceOf(given_up)
    }
}

/// What has become of a stanza that was to be held.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Added {
    /// It is held, and so many others, which can be asked for again, are not any more.
    InPlaceOf(u64),
    /// There is no room for it.
    NoRoom,
}

/// Whether a presence says that its sender goes. The server has written its start tag.
fn is_unavailable(presence: &[u8]) -> bool {
    let tag = memchr::memchr(b'>', presence).map_or(presence, |end| &presence[..end]);
    [&b" type='unavailable'"[..], b" type=\"unavailable\""].iter().any(|typ| memmem::find(tag, typ).is_some())
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
    if has_share
        && let Added::InPlaceOf(given_up) =
            resource.held.get_or_insert_default().add(kind, sender, bytes, limit)
    {
        if given_up > 0 {
            resource.flags.put(Flags::PRESENCE_LOST, true);
            env.metrics().dropped_output.add(given_up);
        }
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
        for (kind, sender, stanza) in [
            (Kind::Presence, Some("a@x/1"), &b"first"[..]),
            (Kind::Message, None, b"state"),
            (Kind::Presence, Some("a@x/1"), b"second!"),
        ] {
            assert_eq!(held.add(kind, sender, stanza, 1000), Added::InPlaceOf(0));
        }
        assert_eq!(texts(&held), ["state", "second!"]);
        assert_eq!(held.bytes, 2 * size_of::<Entry>() + 12 + "a@x/1".len());
    }

    #[test]
    fn what_does_not_fit_leaves_nothing_out_of_date_behind() {
        let mut held = HeldStanzas::default();
        let room = 2 * cost(Some("a@x/1"), b"first");
        for (sender, stanza) in [("a@x/1", b"first"), ("b@x/1", b"other")] {
            assert_eq!(held.add(Kind::Presence, Some(sender), stanza, room), Added::InPlaceOf(0));
        }
        assert_eq!(held.add(Kind::Presence, Some("a@x/1"), b"longer", room), Added::NoRoom);
        assert_eq!(texts(&held), ["other"]);
    }

    #[test]
    fn who_comes_gives_way_to_who_goes() {
        let gone = b"<presence type='unavailable'/>";
        let come = b"<presence from='c/type=\"unavailable\"'><status>type='unavailable'</status></presence>";
        assert!(is_unavailable(gone) && is_unavailable(b"<presence type=\"unavailable\" from='a'/>"));
        let mut held = HeldStanzas::default();
        let room = 2 * cost(Some("r@c/1"), come);
        for sender in ["r@c/1", "r@c/2"] {
            assert_eq!(held.add(Kind::Presence, Some(sender), come, room), Added::InPlaceOf(0));
        }
        assert_eq!(held.add(Kind::Presence, Some("r@c/3"), come, room), Added::NoRoom);
        assert_eq!(held.add(Kind::Presence, Some("r@c/4"), gone, room), Added::InPlaceOf(1));
        assert_eq!(held.add(Kind::Presence, Some("r@c/5"), gone, room), Added::InPlaceOf(1));
        assert_eq!(texts(&held), [std::str::from_utf8(gone).unwrap(); 2]);
        let mut added = 2;
        while held.add(Kind::Presence, Some(&format!("r@c/{added}")), gone, room) == Added::InPlaceOf(0) {
            added += 1;
        }
        assert!(texts(&held).len() >= 2, "those who have gone stay");
    }

    #[test]
    fn nobody_gives_way_in_vain() {
        let (gone, come) = (&b"<presence type='unavailable'/>"[..], &b"<presence/>"[..]);
        let mut held = HeldStanzas::default();
        let room = cost(None, gone) + cost(Some("r@c/1"), come);
        assert_eq!(held.add(Kind::Message, None, gone, room), Added::InPlaceOf(0));
        assert_eq!(held.add(Kind::Presence, Some("r@c/1"), come, room), Added::InPlaceOf(0));
        assert_eq!(held.add(Kind::Presence, Some("r@c/2"), gone, room), Added::NoRoom);
        assert_eq!(
            texts(&held).last().map(String::as_bytes),
            Some(come),
            "nobody would know that it is lost"
        );
    }
}
