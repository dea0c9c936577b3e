//! Rooms that somebody listens to, or that have something to do: who is in them, and what waits at their doors.
//!
//! A room is an actor of its home worker. Here is its state, and nothing that acts on it: that is in `rooms`. A room in which
//! nobody is and that has nothing to do is not here at all; it comes back from the directory when somebody needs it.
//!
//! | module | what |
//! | --- | --- |
//! | here | the rooms of a worker |
//! | [`inbox`] | what waits while the room writes or reads |
//! | `index` | finding occupants by nick and seat |
//! | [`occupants`] | who is in a room, and with which clients |
//! | [`pace`] | how fast somebody may speak |
//! | [`payloads`] | what presences say, each text once |
//! | [`room`] | one room |
//! | [`saved`] | what goes to another program |

pub mod inbox;
mod index;
pub mod occupants;
pub mod pace;
pub mod payloads;
pub mod room;
pub mod saved;

use foldhash::fast::SeedableRandomState;
use hashbrown::HashMap;

use crate::occupancy::inbox::Inbox;
use crate::occupancy::payloads::Payloads;
use crate::occupancy::room::Room;

/// A room that is in memory, and what waits for it.
#[derive(Default)]
pub struct Entry {
    /// The room; `None` while it is being made.
    pub room: Option<Box<Room>>,
    /// What waits.
    pub inbox: Inbox,
}

impl Entry {
    /// Whether there is no reason to keep it in memory.
    fn is_idle(&self) -> bool {
        self.inbox.is_free() && self.room.as_ref().is_none_or(|room| room.occupants.is_empty())
    }
}

/// The rooms of a worker that are in memory, by name.
pub struct Rooms {
    by_name: HashMap<Box<str>, Entry, SeedableRandomState>,
    hasher: SeedableRandomState,
    /// What their occupants' presences say.
    pub payloads: Payloads,
}

impl Rooms {
    /// None yet. `hasher` is one whose seed nobody knows: names are chosen by users.
    pub fn new(hasher: SeedableRandomState) -> Rooms {
        let payloads = Payloads::new(hasher.clone());
        Rooms { by_name: HashMap::with_hasher(hasher.clone()), hasher, payloads }
    }

    /// With what rooms index their occupants.
    pub fn hasher(&self) -> SeedableRandomState {
        self.hasher.clone()
    }

    /// Whether something of this name is in memory.
    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The room of this name, if it is in memory and there.
    pub fn room(&self, name: &str) -> Option<&Room> {
        self.by_name.get(name)?.room.as_deref()
    }

    /// As [`Rooms::room`], to change it.
    pub fn room_mut(&mut self, name: &str) -> Option<&mut Room> {
        self.by_name.get_mut(name)?.room.as_deref_mut()
    }

    /// What waits for a room, made when there is nothing.
    pub fn inbox(&mut self, name: &str) -> &mut Inbox {
        &mut self.by_name.entry_ref(name).or_default().inbox
    }

    /// Whether a room writes or reads, so that what comes for it waits.
    pub fn is_busy(&self, name: &str) -> bool {
        self.by_name.get(name).is_some_and(|entry| entry.inbox.is_busy())
    }

    /// The room of this name is in memory now.
    pub fn put(&mut self, name: &str, room: Room) {
        self.by_name.entry_ref(name).or_default().room = Some(Box::new(room));
    }

    /// The room of this name is no more. What waits for it stays.
    pub fn take(&mut self, name: &str) -> Option<Box<Room>> {
        self.by_name.get_mut(name)?.room.take()
    }

    /// Forgets a room that has nothing to do and that nobody listens to.
    pub fn rest(&mut self, name: &str) {
        if self.by_name.get(name).is_some_and(Entry::is_idle) {
            self.by_name.remove(name);
            if self.by_name.len() < self.by_name.capacity() / 4 {
                self.by_name.shrink_to(self.by_name.len() * 2);
            }
            if self.by_name.is_empty() {
                self.payloads.clear();
            }
        }
    }

    /// All that are in memory.
    pub fn iter(&self) -> impl Iterator<Item = &Room> {
        self.by_name.values().filter_map(|entry| entry.room.as_deref())
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
