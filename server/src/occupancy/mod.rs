//! Rooms that somebody listens to, or that have something to do: who is in them, and what waits at their doors.
//!
//! A room is an actor of its home worker. Here is its state, and nothing that acts on it: that is in `rooms`. A room in which
//! nobody is and that has nothing to do is not here at all; it comes back from the directory when somebody needs it.
//!
//! | module | what |
//! | --- | --- |
//! | here | the rooms of a worker |
//! | [`inbox`] | what waits while the room writes or reads |
//! | `index` | finding occupants by nick and account |
//! | `interned` | what is kept once |
//! | [`nick`] | the nick of an occupant, in little memory |
//! | [`occupants`] | who is in a room, and with which clients |
//! | [`pace`] | how fast somebody may speak |
//! | [`payloads`] | what presences say, each text once |
//! | [`room`] | one room |
//! | [`saved`] | what goes to another program |
//! | [`seats`] | the clients with which occupants listen, each known once |

pub mod inbox;
mod index;
mod interned;
#[expect(unsafe_code, reason = "a pointer to a text with a length of two bytes")]
pub mod nick;
pub mod occupants;
pub mod pace;
pub mod payloads;
pub mod room;
pub mod saved;
pub mod seats;

use std::hash::BuildHasher;

use foldhash::fast::SeedableRandomState;
use hashbrown::HashTable;

use crate::occupancy::inbox::Inbox;
use crate::occupancy::payloads::Payloads;
use crate::occupancy::room::Room;
use crate::occupancy::seats::Clients;

/// What waits for a room.
struct Door {
    /// The room's name: it may not be made yet, or be no more.
    name: Box<str>,
    inbox: Inbox,
}

/// A room that is in memory, or for which something waits: one of both is there.
struct Entry {
    /// The room; `None` while it is being made.
    room: Option<Box<Room>>,
    /// What waits; `None`: the room is free to act, as most are.
    door: Option<Box<Door>>,
}

impl Entry {
    fn name(&self) -> &str {
        match (&self.room, &self.door) {
            (Some(room), _) => room.name(),
            (None, door) => door.as_ref().map_or("", |door| &door.name),
        }
    }

    fn is_free(&self) -> bool {
        self.door.as_ref().is_none_or(|door| door.inbox.is_free())
    }

    /// Whether there is no reason to keep it in memory.
    fn is_idle(&self) -> bool {
        self.is_free() && self.room.as_ref().is_none_or(|room| room.occupants.is_empty())
    }
}

// The memory budget of a room rests on this size (docs/performance.md).
const _: () = assert!(size_of::<Entry>() <= 16);

/// The rooms of a worker that are in memory, by name.
pub struct Rooms {
    by_name: HashTable<Entry>,
    hasher: SeedableRandomState,
    /// What their occupants' presences say.
    pub payloads: Payloads,
    /// The clients with which their occupants listen.
    pub clients: Clients,
}

impl Rooms {
    /// None yet. `hasher` is one whose seed nobody knows: names are chosen by users.
    pub fn new(hasher: SeedableRandomState) -> Rooms {
        let (payloads, clients) = (Payloads::new(hasher.clone()), Clients::new(hasher.clone()));
        Rooms { by_name: HashTable::new(), hasher, payloads, clients }
    }

    /// With what rooms index their occupants.
    pub fn hasher(&self) -> SeedableRandomState {
        self.hasher.clone()
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.by_name.find(self.hasher.hash_one(name), |entry| entry.name() == name)
    }

    fn entry_mut(&mut self, name: &str) -> Option<&mut Entry> {
        self.by_name.find_mut(self.hasher.hash_one(name), |entry| entry.name() == name)
    }

    fn insert(&mut self, entry: Entry) -> &mut Entry {
        let (hash, hasher) = (self.hasher.hash_one(entry.name()), &self.hasher);
        self.by_name.insert_unique(hash, entry, |entry| hasher.hash_one(entry.name())).into_mut()
    }

    /// Whether something of this name is in memory.
    pub fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// The room of this name, if it is in memory and there.
    pub fn room(&self, name: &str) -> Option<&Room> {
        self.entry(name)?.room.as_deref()
    }

    /// As [`Rooms::room`], to change it.
    pub fn room_mut(&mut self, name: &str) -> Option<&mut Room> {
        self.entry_mut(name)?.room.as_deref_mut()
    }

    /// What waits for a room, made when there is nothing.
    pub fn inbox(&mut self, name: &str) -> &mut Inbox {
        let make = || Box::new(Door { name: name.into(), inbox: Inbox::default() });
        let entry = match self.has(name) {
            true => self.entry_mut(name).expect("it is there"),
            false => self.insert(Entry { room: None, door: Some(make()) }),
        };
        &mut entry.door.get_or_insert_with(make).inbox
    }

    /// Whether a room writes or reads, so that what comes for it waits.
    pub fn is_busy(&self, name: &str) -> bool {
        self.entry(name).and_then(|entry| entry.door.as_ref()).is_some_and(|door| door.inbox.is_busy())
    }

    /// A room is in memory now.
    pub fn put(&mut self, room: Room) {
        let room = Box::new(room);
        match self.entry_mut(room.name()) {
            Some(entry) => entry.room = Some(room),
            None => _ = self.insert(Entry { room: Some(room), door: None }),
        }
    }

    /// The room of this name is no more. What waits for it stays.
    pub fn take(&mut self, name: &str) -> Option<Box<Room>> {
        let entry = self.entry_mut(name)?;
        if entry.door.is_none() {
            return self.remove(name)?.room;
        }
        entry.room.take()
    }

    /// Forgets a room that has nothing to do and that nobody listens to, and the door of one for which nothing waits.
    pub fn rest(&mut self, name: &str) {
        let Some(entry) = self.entry_mut(name).filter(|entry| entry.is_free()) else { return };
        if !entry.is_idle() {
            entry.door = None;
            return;
        }
        self.remove(name);
        if self.by_name.is_empty() {
            self.payloads.clear();
            self.clients.clear();
        }
    }

    fn remove(&mut self, name: &str) -> Option<Entry> {
        let hash = self.hasher.hash_one(name);
        let (gone, _) = self.by_name.find_entry(hash, |entry| entry.name() == name).ok()?.remove();
        if self.by_name.len() < self.by_name.capacity() / 4 {
            let hasher = &self.hasher;
            self.by_name.shrink_to(self.by_name.len() * 2, |entry| hasher.hash_one(entry.name()));
        }
        Some(gone)
    }

    /// All that are in memory.
    pub fn iter(&self) -> impl Iterator<Item = &Room> {
        self.by_name.iter().filter_map(|entry| entry.room.as_deref())
    }

    /// How many are in memory.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Rooms in memory, and occupants of all of them.
    pub fn counts(&self) -> (usize, usize) {
        (self.by_name.len(), self.iter().map(|room| room.occupants.len()).sum())
    }
}
