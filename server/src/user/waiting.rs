//! Work that is done for a client as it has room: pages of archives. It waits here, one at a time for each resource, until the
//! client has read or acknowledged something.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::user::actors::Effects;
use crate::user::jobs::Then;
use crate::user::tables::ResourceKey;

/// What waits, by whose client has to make room.
#[derive(Default)]
pub struct WaitingForRoom {
    waiting: HashMap<ResourceKey, Then, RandomState>,
    is_closed: bool,
}

impl WaitingForRoom {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether everything has to come to rest: what waits is to end, and nothing is to begin.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Everything has to come to rest, or may go on.
    pub fn close(&mut self, is_closed: bool) {
        self.is_closed = is_closed;
    }

    /// This goes on when [`WaitingForRoom::note`] has said that there may be room.
    pub fn insert(&mut self, key: ResourceKey, then: Then) {
        let before = self.waiting.insert(key, then);
        debug_assert!(before.is_none(), "a client asks for one thing at a time");
    }

    /// A client may have room for more.
    #[inline]
    pub fn note(&self, fx: &mut Effects, key: ResourceKey) {
        if !self.waiting.is_empty() && self.waiting.contains_key(&key) {
            fx.due_room.note(key);
        }
    }

    /// What waits for a client.
    pub fn take(&mut self, key: ResourceKey) -> Option<Then> {
        self.waiting.remove(&key)
    }

    /// A resource is gone.
    pub fn remove(&mut self, key: ResourceKey) {
        if !self.waiting.is_empty() {
            self.waiting.remove(&key);
        }
    }

    /// Those for whom something waits.
    pub fn keys(&self) -> impl Iterator<Item = ResourceKey> {
        self.waiting.keys().copied()
    }
}
