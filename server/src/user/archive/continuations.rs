//! Where the archives of those who read them page by page go on: their next pages are given at once, as far as the texts are in memory
//! ([`Continuation`]).
//!
//! There are few, for a short time: whoever has none is answered by a reader's thread. Each holds files open that may have been
//! deleted, and knows nothing of what was erased since, which is asked of the [`Retractions`](super::retract::Retractions).

use std::collections::HashMap;

use foldhash::fast::RandomState;
use whimbrel_storage::actor::ActorId;
use whimbrel_storage::archive::continuation::Continuation;
use whimbrel_storage::archive::query::{Cost, Page, Query};

use crate::runtime::driver::ConnId;
use crate::runtime::timer::Millis;
use crate::user::archive::retract::Retractions;
use crate::user::tables::ResourceKey;

/// Most of them. With [`FOLLOWING`] messages each they take some 5 MiB.
const CONTINUATIONS_MAX: usize = 128;

/// Messages behind a page of which it is told where they lie.
pub const FOLLOWING: usize = 1024;

/// Milliseconds after which one is dropped: a client that reads all of its archive has asked for the next page by then.
const FRESH_MS: u64 = 10_000;

/// Each page that was in memory makes room for so many more.
const PER_HIT: usize = 2;

/// So many are tried at first, and again one more each second.
const TRIED_MAX: usize = 16;

/// A page that was not takes back what so many others have brought: where archives are larger than memory, the rows behind each page
/// would be read for nothing, and what is kept of them would take the place of texts.
const HITS_PER_MISS: usize = 8;

/// Those of a worker.
pub struct Continuations {
    by_resource: HashMap<ResourceKey, Entry, RandomState>,
    /// What was read into last.
    memory: Vec<u8>,
    /// How many there may be: more with each page that was in memory, fewer with each that was not.
    most: usize,
}

struct Entry {
    /// The connection that reads: with another one the resource is somebody else's.
    conn: ConnId,
    continuation: Box<Continuation>,
    /// Messages that had been erased when it was made ([`Retractions::erased`]).
    erased: u64,
    made: Millis,
}

impl Default for Continuations {
    fn default() -> Continuations {
        Continuations { by_resource: HashMap::default(), memory: Vec::new(), most: TRIED_MAX }
    }
}

impl Continuations {
    /// Whether there is a place for one of a resource.
    pub fn has_place(&self, key: ResourceKey) -> bool {
        self.by_resource.len() < self.most || self.by_resource.contains_key(&key)
    }

    /// A page has been read that goes on. `erased`: messages that had been erased when it was asked for.
    pub fn put(
        &mut self,
        (key, conn): (ResourceKey, ConnId),
        continuation: Box<Continuation>,
        (erased, made): (u64, Millis),
    ) {
        if self.has_place(key) {
            self.by_resource.insert(key, Entry { conn, continuation, erased, made });
        }
    }

    /// The answer to a query of a resource, and how many messages had been erased when it was looked where it lies; `None`: it is
    /// for a reader. With nothing of it in memory, or something erased, there is no other try. `cost` is what was read, in either
    /// case.
    pub fn page(
        &mut self,
        (key, conn): (ResourceKey, ConnId),
        actor: ActorId,
        query: &Query,
        retractions: &Retractions,
        cost: &mut Cost,
    ) -> Option<(Page, u64)> {
        if self.by_resource.is_empty() {
            return None;
        }
        let Self { by_resource, memory, most } = self;
        let entry = by_resource.get(&key).filter(|entry| entry.conn == conn)?;
        let page = entry.continuation.page(query, memory, cost);
        *most = match page {
            Some(_) => (*most + PER_HIT).min(CONTINUATIONS_MAX),
            None if entry.continuation.has(query) => most.saturating_sub(PER_HIT * HITS_PER_MISS),
            // It ends there.
            None => *most,
        };
        let page = page.filter(|page| {
            let ids = page.messages.iter().map(|found| found.id);
            !retractions.has_erased_since(entry.erased, actor, ids)
        });
        let erased = entry.erased;
        match (&page, self.most) {
            (Some(_), _) => {}
            // The others would not be in memory either.
            (None, 0) => self.by_resource.clear(),
            (None, _) => self.forget(key),
        }
        page.map(|page| (page, erased))
    }

    /// A resource is gone, or reads no more.
    pub fn forget(&mut self, key: ResourceKey) {
        if !self.by_resource.is_empty() {
            self.by_resource.remove(&key);
        }
    }

    /// Once a second: drops those that nobody has gone on with. Returns the bytes of memory that all take.
    pub fn rest(&mut self, now: Millis) -> usize {
        self.by_resource.retain(|_, entry| now.since(entry.made) < FRESH_MS);
        self.most = self.most.max(TRIED_MAX.min(self.most + 1));
        if self.by_resource.is_empty() {
            (self.by_resource, self.memory) = (HashMap::default(), Vec::new());
        }
        let all =
            self.by_resource.values().map(|entry| entry.continuation.memory_bytes() + size_of::<Entry>());
        all.sum::<usize>() + self.memory.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_few_where_texts_were_not_in_memory() {
        let mut continuations = Continuations::default();
        assert!(continuations.has_place(ResourceKey::NONE));
        continuations.most = 0;
        assert!(!continuations.has_place(ResourceKey::NONE));
        continuations.rest(Millis(1_000));
        assert!(continuations.has_place(ResourceKey::NONE), "it is tried again");
        for second in 0..1_000 {
            continuations.rest(Millis(1_000 * second));
        }
        assert_eq!(continuations.most, TRIED_MAX, "time alone brings no more");
    }
}
