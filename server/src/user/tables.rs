//! The users and bound resources of one worker.

use foldhash::fast::SeedableRandomState;
use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;
use std::hash::BuildHasher;
use whimbrel_storage::actor::ActorId;

use crate::env::Env;
use crate::proto::sm::StreamManagement;
use crate::runtime::driver::ConnId;
use crate::user::entities::{Entities, Entity};
use crate::user::flow::Flow;
use crate::user::inactive::HeldStanzas;
use crate::user::joins::Joins;

pub use crate::keys::{ResourceKey, UserKey};

/// An account with at least one bound resource.
#[derive(Debug)]
pub struct User {
    /// The account's number, under which the log knows it.
    pub id: ActorId,
    /// Localpart, normalised.
    pub local: Box<str>,
    /// The bound resources, oldest first.
    pub resources: SmallVec<[ResourceKey; 2]>,
    /// Bare or full JIDs and domains that the user blocks (XEP-0191), sorted; `None` when there are none.
    pub blocked: Option<Box<Vec<Box<str>>>>,
}

/// Facts about a resource that are either true or not.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// Has sent available presence.
    pub const AVAILABLE: Flags = Flags(1);
    /// Has asked for the roster, and so receives roster pushes (RFC 6121 §2.1.6).
    pub const INTERESTED: Flags = Flags(2);
    /// Has enabled carbons (XEP-0280).
    pub const CARBONS: Flags = Flags(4);
    /// Has said that it is inactive (XEP-0352).
    pub const INACTIVE: Flags = Flags(8);
    /// Has asked for the block list, and so receives its pushes (XEP-0191).
    pub const BLOCK_LIST: Flags = Flags(16);
    /// A quarter of what may wait in its output does wait there.
    pub const BACKED_UP: Flags = Flags(32);
    /// Presence for it was dropped for want of room: its contacts are asked for theirs again (RFC 6121 §4.3).
    pub const PRESENCE_LOST: Flags = Flags(64);
    /// It is being shown again what it has missed, a part at a time.
    pub const SHOWN_AGAIN: Flags = Flags(1024);
    /// The server has pinged it, and its answer has not come.
    pub const PINGED: Flags = Flags(128);
    /// Messages of a page of an archive could not be remembered: should the stream be resumed, the page is to be asked for
    /// again.
    pub const PAGE_FORGOTTEN: Flags = Flags(512);
    /// It has had no connection for so long that its contacts see it as gone; its own device is told by push, and it can still
    /// be resumed (`push.resume_hours`).
    pub const ASLEEP: Flags = Flags(2048);
    /// It sleeps, and was available before.
    pub const SHOWS_AGAIN: Flags = Flags(4096);
    /// How much of its client's stream was handled is in the directory, or on its way there: it sleeps ([`super::counts`]).
    pub const COUNT_KEPT: Flags = Flags(8192);
    /// That is being removed, because its client wants to go on.
    pub const COUNT_GOING: Flags = Flags(16384);
    /// It is known whether its stream is managed: it is, or the client has sent presence, or has been there for long
    /// without either. Until then a message that is written to it has not been delivered.
    pub const SM_DECIDED: Flags = Flags(256);

    /// All of them, each with a bit of its own.
    const ALL: Flags = {
        let flags = [
            Flags::AVAILABLE,
            Flags::INTERESTED,
            Flags::CARBONS,
            Flags::INACTIVE,
            Flags::BLOCK_LIST,
            Flags::BACKED_UP,
            Flags::PRESENCE_LOST,
            Flags::SHOWN_AGAIN,
            Flags::PINGED,
            Flags::SM_DECIDED,
            Flags::PAGE_FORGOTTEN,
            Flags::ASLEEP,
            Flags::SHOWS_AGAIN,
            Flags::COUNT_KEPT,
            Flags::COUNT_GOING,
        ];
        let (mut all, mut at) = (0, 0);
        while at < flags.len() {
            assert!(flags[at].0.is_power_of_two() && all & flags[at].0 == 0);
            all |= flags[at].0;
            at += 1;
        }
        Flags(all)
    };

    /// All flags in one number, for another program.
    pub(crate) fn bits(self) -> u16 {
        self.0
    }

    /// Of such a number.
    pub(crate) fn of_bits(bits: u16) -> Flags {
        Flags(bits & Flags::ALL.0)
    }

    /// Whether the flag is set.
    pub fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 != 0
    }

    /// Clears it; whether it was set.
    pub fn take(&mut self, flag: Flags) -> bool {
        let was_set = self.has(flag);
        self.put(flag, false);
        was_set
    }

    /// Sets or clears it.
    pub fn put(&mut self, flag: Flags, on: bool) {
        if on {
            self.0 |= flag.0;
        } else {
            self.0 &= !flag.0;
        }
    }
}

/// A bound resource: what its user's contacts and messages need to know of it.
#[derive(Debug)]
pub struct Resource {
    /// Its connection; [`ConnId::NONE`] while it waits to be resumed (XEP-0198).
    pub conn: ConnId,
    /// Its user.
    pub user: UserKey,
    /// The resourcepart.
    pub name: Box<str>,
    /// Priority of the last available presence (RFC 6121 §4.7.2.3).
    pub priority: i8,
    /// Flags.
    pub flags: Flags,
    /// What stood inside the last available presence; empty for a bare `<presence/>`.
    pub presence: Box<[u8]>,
    /// Entities to which it has sent directed presence, rooms included, for its later unavailable (RFC 6121 §4.6.3).
    pub directed: Option<Box<Entities>>,
    /// Stanzas held back while it is inactive.
    pub held: Option<Box<HeldStanzas>>,
    /// Stream management, messages on their way, its place in the log; `None` when there is nothing of these.
    pub flow: Option<Box<Flow>>,
}

impl Resource {
    /// Whether its client has asked to enter a room, and not left it.
    pub fn is_in_room(&self, room: &str) -> bool {
        self.directed.as_ref().is_some_and(|known| known.has(Entity::Room(room)))
    }

    /// Whether its client may go on with its stream after it has lost its connection (XEP-0198).
    pub fn is_resumable(&self) -> bool {
        let sm = self.flow.as_ref().and_then(|flow| flow.sm.as_ref());
        sm.is_some_and(|sm| sm.resume_seconds() > 0)
    }
}

// The memory budget of an idle session rests on these sizes (docs/performance.md).
const _: () = assert!(size_of::<User>() <= 56);
const _: () = assert!(size_of::<Resource>() <= 72);

/// The tables.
pub struct Users {
    by_local: HashTable<UserKey>,
    users: Slab<User>,
    resources: Slab<Resource>,
    hasher: SeedableRandomState,
    /// Requests that wait for what is written at the homes of others.
    pub joins: Joins,
}

impl Users {
    /// Empty tables; `hasher` is the one that also decides home workers.
    pub fn new(hasher: SeedableRandomState) -> Users {
        Users {
            by_local: HashTable::new(),
            users: Slab::new(),
            resources: Slab::new(),
            hasher,
            joins: Joins::default(),
        }
    }

    /// Finds an online user.
    pub fn find(&self, local: &str) -> Option<UserKey> {
        let hash = self.hasher.hash_one(local);
        self.by_local.find(hash, |key| &*self.users[key.0 as usize].local == local).copied()
    }

    /// Whether a user has this resource, and it does not sleep.
    pub fn is_awake(&self, user: UserKey, name: &str) -> bool {
        self.find_resource(user, name).is_some_and(|key| !self.resource(key).flags.has(Flags::ASLEEP))
    }

    /// The user, who must be online.
    pub fn user(&self, key: UserKey) -> &User {
        &self.users[key.0 as usize]
    }

    /// The user, who must be online.
    pub fn user_mut(&mut self, key: UserKey) -> &mut User {
        &mut self.users[key.0 as usize]
    }

    /// The resource; it must be bound.
    pub fn resource(&self, key: ResourceKey) -> &Resource {
        &self.resources[key.0 as usize]
    }

    /// The resource, if it is (still) bound: for keys that were kept over an iteration. The key may have been given
    /// to another resource in the meantime.
    pub fn get(&self, key: ResourceKey) -> Option<&Resource> {
        self.resources.get(key.0 as usize)
    }

    /// As [`Users::get`].
    pub fn get_mut(&mut self, key: ResourceKey) -> Option<&mut Resource> {
        self.resources.get_mut(key.0 as usize)
    }

    /// The flow of a resource, made when there is none.
    pub fn flow_mut(&mut self, key: ResourceKey) -> &mut Flow {
        self.resource_mut(key).flow.get_or_insert_default()
    }

    /// The stream management of a resource, if it (still) is bound and has it.
    pub fn sm_mut(&mut self, key: ResourceKey) -> Option<&mut StreamManagement> {
        self.get_mut(key)?.flow.as_mut()?.sm.as_mut()
    }

    /// Drops a resource's flow when nothing is in it.
    pub fn tidy_flow(&mut self, key: ResourceKey) {
        let flow = &mut self.resource_mut(key).flow;
        if flow.as_ref().is_some_and(|f| f.sm.is_none() && f.unsent.is_none() && f.after.is_none()) {
            *flow = None;
        }
    }

    /// The resource; it must be bound.
    pub fn resource_mut(&mut self, key: ResourceKey) -> &mut Resource {
        &mut self.resources[key.0 as usize]
    }

    /// The localpart of a resource's user.
    pub fn local_of(&self, key: ResourceKey) -> &str {
        &self.user(self.resource(key).user).local
    }

    /// Appends `local@domain` of a resource's user.
    pub fn write_bare(&self, env: &Env, key: ResourceKey, out: &mut String) {
        out.push_str(self.local_of(key));
        out.push('@');
        out.push_str(&env.shared.domain);
    }

    /// Appends `local@domain/resource`.
    pub fn write_full(&self, env: &Env, key: ResourceKey, out: &mut String) {
        self.write_bare(env, key, out);
        out.push('/');
        out.push_str(&self.resource(key).name);
    }

    /// `local@domain/resource`.
    pub fn full_jid(&self, env: &Env, key: ResourceKey) -> String {
        let mut jid = String::new();
        self.write_full(env, key, &mut jid);
        jid
    }

    /// The number of the account of a resource.
    pub fn account_of(&self, key: ResourceKey) -> ActorId {
        self.user(self.resource(key).user).id
    }

    /// The resource of a user with this name.
    pub fn find_resource(&self, user: UserKey, name: &str) -> Option<ResourceKey> {
        self.user(user).resources.iter().copied().find(|&key| &*self.resource(key).name == name)
    }

    /// The resources of a user that is perhaps not online, oldest first.
    pub fn resources_of(&self, local: &str) -> SmallVec<[ResourceKey; 4]> {
        self.find(local).map(|user| self.user(user).resources.iter().copied().collect()).unwrap_or_default()
    }

    /// The oldest resource of a user that waits to be resumed.
    pub fn oldest_detached(&self, local: &str) -> Option<ResourceKey> {
        self.resources_of(local).into_iter().find(|&key| self.resource(key).conn == ConnId::NONE)
    }

    /// Whether a resource waits to be resumed.
    pub fn is_detached(&self, key: ResourceKey) -> bool {
        self.get(key).is_some_and(|resource| resource.conn == ConnId::NONE)
    }

    /// The available resources of a user, oldest first.
    pub fn available_of(&self, user: UserKey) -> SmallVec<[ResourceKey; 4]> {
        let available = |key: &ResourceKey| self.resource(*key).flags.has(Flags::AVAILABLE);
        self.user(user).resources.iter().copied().filter(available).collect()
    }

    /// Adds a resource, and its user when it is the first. `blocked` is read only then.
    pub fn insert(
        &mut self,
        id: ActorId,
        local: &str,
        name: &str,
        conn: ConnId,
        blocked: impl FnOnce() -> Option<Box<Vec<Box<str>>>>,
    ) -> ResourceKey {
        let user = self.find(local).unwrap_or_else(|| {
            let user = User { id, local: local.into(), resources: SmallVec::new(), blocked: blocked() };
            let key = UserKey(index(self.users.insert(user)));
            let (users, hasher) = (&self.users, &self.hasher);
            self.by_local.insert_unique(hasher.hash_one(local), key, |key| {
                hasher.hash_one(&*users[key.0 as usize].local)
            });
            key
        });
        let resource = Resource {
            conn,
            user,
            name: name.into(),
            priority: 0,
            flags: Flags::default(),
            presence: Box::default(),
            directed: None,
            held: None,
            flow: None,
        };
        let key = ResourceKey(index(self.resources.insert(resource)));
        self.user_mut(user).resources.push(key);
        key
    }

    /// Removes a resource, and its user when it was the last.
    pub fn remove(&mut self, key: ResourceKey) -> Resource {
        let resource = self.resources.remove(key.0 as usize);
        let user = &mut self.users[resource.user.0 as usize];
        user.resources.retain(|k| *k != key);
        if user.resources.is_empty() {
            let user = self.users.remove(resource.user.0 as usize);
            let hash = self.hasher.hash_one(&*user.local);
            if let Ok(entry) = self.by_local.find_entry(hash, |k| *k == resource.user) {
                entry.remove();
            }
        }
        resource
    }

    /// What a presence's sender hashes to, never 0: two that differ are hardly ever taken for one.
    pub fn sender_hash(&self, jid: &str) -> u32 {
        (self.hasher.hash_one(jid) as u32).max(1)
    }

    /// All users.
    pub fn all(&self) -> impl Iterator<Item = &User> {
        self.users.iter().map(|(_, user)| user)
    }

    /// Online users and bound resources.
    pub fn counts(&self) -> (usize, usize) {
        (self.users.len(), self.resources.len())
    }

    /// The bound resources at a range of places, for sweeps that do a part at a time.
    pub fn range(&self, start: usize, length: usize) -> impl Iterator<Item = (ResourceKey, &Resource)> {
        let places = start..(start + length).min(self.resources.capacity());
        places.filter_map(|place| Some((ResourceKey(index(place)), self.resources.get(place)?)))
    }

    /// Places of resources, free ones included: what [`Users::range`] walks through.
    pub fn places(&self) -> usize {
        self.resources.capacity()
    }

    /// All bound resources.
    pub fn iter(&self) -> impl Iterator<Item = (ResourceKey, &Resource)> {
        self.resources.iter().map(|(i, resource)| (ResourceKey(index(i)), resource))
    }
}

fn index(slab_index: usize) -> u32 {
    u32::try_from(slab_index).expect("limits.sessions is a u32")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(index: u32) -> ConnId {
        ConnId { index, generation: 0 }
    }

    #[test]
    fn a_user_exists_exactly_while_he_has_a_resource() {
        let mut users = Users::new(SeedableRandomState::random());
        let a = users.insert(ActorId::user(1), "juliet", "balcony", conn(1), || None);
        let b = users.insert(ActorId::user(1), "juliet", "garden", conn(2), || unreachable!("read once"));
        users.insert(ActorId::user(2), "romeo", "orchard", conn(3), || None);
        assert_eq!(users.counts(), (2, 3));
        let juliet = users.find("juliet").unwrap();
        assert_eq!(users.find_resource(juliet, "garden"), Some(b));
        assert_eq!(users.local_of(a), "juliet");
        users.remove(a);
        assert_eq!(users.user(juliet).resources.as_slice(), [b]);
        users.remove(b);
        assert_eq!(users.find("juliet"), None);
        assert!(users.find("romeo").is_some());
    }
}
