//! Values of which many are the same, each kept once: whoever has one has a reference of eight bytes.

use std::sync::Arc;

use foldhash::fast::SeedableRandomState;
use hashbrown::HashTable;

/// As many are kept before those are looked for that nobody has any more.
pub(super) const SWEEP_MIN: usize = 64;

/// A value that is kept once.
pub(super) trait Interned {
    /// Its hash.
    fn hash(&self, hasher: &SeedableRandomState) -> u64;
}

/// The values of one worker. Never more than twice those that somebody has, and [`SWEEP_MIN`].
pub(super) struct Interner<T> {
    known: HashTable<Arc<T>>,
    hasher: SeedableRandomState,
    /// With so many the next sweep is due: a sweep costs no more than what came since the last one.
    sweep_at: usize,
}

impl<T: Interned> Interner<T> {
    pub(super) fn new(hasher: SeedableRandomState) -> Interner<T> {
        Interner { known: HashTable::new(), hasher, sweep_at: SWEEP_MIN }
    }

    /// With what hashes are made.
    pub(super) fn hasher(&self) -> &SeedableRandomState {
        &self.hasher
    }

    /// The value that is known by its hash and by `is_it`, made if there is none.
    pub(super) fn get(&mut self, hash: u64, is_it: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(known) = self.known.find(hash, |known| is_it(known)) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at {
            self.forget_unused();
        }
        let (new, hasher) = (Arc::new(make()), &self.hasher);
        self.known.insert_unique(hash, new.clone(), |known| known.hash(hasher));
        new
    }

    fn forget_unused(&mut self) {
        self.known.retain(|known| Arc::strong_count(known) > 1);
        let hasher = &self.hasher;
        self.known.shrink_to(self.known.len() * 2, |known| known.hash(hasher));
        self.sweep_at = SWEEP_MIN.max(self.known.len() * 2);
    }

    /// Nobody has any: nothing is kept.
    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.forget_unused();
    }

    /// How many there are, those included that nobody has had since the last sweep.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}
