//! Finding the occupants of a room by their nicks and accounts. A room of few has no index: it would take more memory than all
//! else of it, and there are many such rooms.

use std::hash::BuildHasher;

use foldhash::fast::SeedableRandomState;
use hashbrown::HashTable;
use slab::Slab;

use crate::occupancy::occupants::Occupant;

/// A room of more occupants has an index.
const SEARCHED_MAX: usize = 8;

struct Tables {
    by_nick: HashTable<u32>,
    /// By localpart. An account has no more occupants than clients, which are few.
    by_account: HashTable<u32>,
    hasher: SeedableRandomState,
}

/// Where occupants are, by nick and by account.
#[derive(Default)]
pub(super) struct Index {
    /// `None`: the room has few occupants, which are searched.
    tables: Option<Box<Tables>>,
}

impl Index {
    /// Where the occupant with this nick is.
    pub(super) fn nick(&self, all: &Slab<Occupant>, nick: &str) -> Option<u32> {
        let has = |occupant: &Occupant| *occupant.nick == *nick;
        let Some(tables) = &self.tables else { return search(all, has) };
        let hash = tables.hasher.hash_one(nick);
        tables.by_nick.find(hash, |&at| has(&all[at as usize])).copied()
    }

    /// Where the occupant with this seat is.
    pub(super) fn seat(&self, all: &Slab<Occupant>, local: &str, resource: &str) -> Option<u32> {
        let has = |occupant: &Occupant| {
            occupant.local() == local && occupant.seats.iter().any(|seat| seat.resource() == resource)
        };
        let Some(tables) = &self.tables else { return search(all, has) };
        let hash = tables.hasher.hash_one(local);
        tables.by_account.find(hash, |&at| has(&all[at as usize])).copied()
    }

    /// An occupant is there now.
    pub(super) fn entered(&mut self, all: &Slab<Occupant>, at: u32, hasher: &SeedableRandomState) {
        if self.tables.is_some() {
            self.add(all, at);
        } else if all.len() > SEARCHED_MAX {
            let (by_nick, by_account) = (HashTable::new(), HashTable::new());
            self.tables = Some(Box::new(Tables { by_nick, by_account, hasher: hasher.clone() }));
            all.iter().for_each(|(at, _)| self.add(all, super::occupants::index(at)));
        }
    }

    fn add(&mut self, all: &Slab<Occupant>, at: u32) {
        self.add_nick(all, at);
        let Some(Tables { by_account, hasher, .. }) = self.tables.as_deref_mut() else { return };
        let hash = |&at: &u32| hasher.hash_one(all[at as usize].local());
        by_account.insert_unique(hash(&at), at, hash);
    }

    /// An occupant has another nick, with which it is in `all`.
    pub(super) fn add_nick(&mut self, all: &Slab<Occupant>, at: u32) {
        let Some(Tables { by_nick, hasher, .. }) = self.tables.as_deref_mut() else { return };
        let hash = |&at: &u32| hasher.hash_one(&*all[at as usize].nick);
        by_nick.insert_unique(hash(&at), at, hash);
    }

    /// An occupant will have another nick, or go.
    pub(super) fn forget_nick(&mut self, nick: &str, at: u32) {
        let Some(Tables { by_nick, hasher, .. }) = self.tables.as_deref_mut() else { return };
        forget(by_nick, hasher.hash_one(nick), at);
    }

    /// An occupant of this account goes.
    pub(super) fn forget_account(&mut self, local: &str, at: u32) {
        let Some(Tables { by_account, hasher, .. }) = self.tables.as_deref_mut() else { return };
        forget(by_account, hasher.hash_one(local), at);
    }

    /// An occupant is gone, and so many are left.
    pub(super) fn left(&mut self, count: usize) {
        if count <= SEARCHED_MAX / 2 {
            self.tables = None;
        }
    }

    /// Occupants in the index.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.tables.as_ref().map_or(0, |tables| {
            assert_eq!(tables.by_nick.len(), tables.by_account.len());
            tables.by_nick.len()
        })
    }
}

fn forget(table: &mut HashTable<u32>, hash: u64, at: u32) {
    if let Ok(entry) = table.find_entry(hash, |&other| other == at) {
        entry.remove();
    }
}

fn search(all: &Slab<Occupant>, is_it: impl Fn(&Occupant) -> bool) -> Option<u32> {
    all.iter().find(|(_, occupant)| is_it(occupant)).map(|(at, _)| super::occupants::index(at))
}
