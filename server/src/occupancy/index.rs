//! Finding the occupants of a room by their nicks and seats. A room of few has no index: it would take more memory than all
//! else of it, and there are many such rooms.

use std::hash::BuildHasher;

use foldhash::fast::SeedableRandomState;
use hashbrown::HashTable;
use slab::Slab;

use crate::occupancy::occupants::Occupant;

/// A room of more occupants has an index.
const SEARCHED_MAX: usize = 8;

/// A seat in the index. Its whole hash tells it from the others of its occupant: where two of one occupant have the same, either
/// stands for both.
#[derive(Copy, Clone, PartialEq, Eq)]
struct IndexedSeat {
    at: u32,
    /// In pieces, so that a seat takes 12 bytes.
    hash: [u8; 8],
}

impl IndexedSeat {
    fn new(at: u32, hash: u64) -> IndexedSeat {
        IndexedSeat { at, hash: hash.to_ne_bytes() }
    }

    fn hash(&self) -> u64 {
        u64::from_ne_bytes(self.hash)
    }
}

struct Tables {
    by_nick: HashTable<u32>,
    by_seat: HashTable<IndexedSeat>,
    hasher: SeedableRandomState,
}

/// Where occupants are, by nick and by seat.
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
        let hash = tables.hasher.hash_one((local, resource));
        tables.by_seat.find(hash, |seat| has(&all[seat.at as usize])).map(|seat| seat.at)
    }

    /// An occupant is there now.
    pub(super) fn entered(&mut self, all: &Slab<Occupant>, at: u32, hasher: &SeedableRandomState) {
        if self.tables.is_some() {
            self.add(all, at);
        } else if all.len() > SEARCHED_MAX {
            let (by_nick, by_seat) = (HashTable::new(), HashTable::new());
            self.tables = Some(Box::new(Tables { by_nick, by_seat, hasher: hasher.clone() }));
            all.iter().for_each(|(at, _)| self.add(all, super::occupants::index(at)));
        }
    }

    fn add(&mut self, all: &Slab<Occupant>, at: u32) {
        self.add_nick(all, at);
        let occupant = &all[at as usize];
        occupant.seats.iter().for_each(|seat| self.add_seat((seat.local(), seat.resource()), at));
    }

    /// An occupant has another nick, with which it is in `all`.
    pub(super) fn add_nick(&mut self, all: &Slab<Occupant>, at: u32) {
        let Some(Tables { by_nick, hasher, .. }) = self.tables.as_deref_mut() else { return };
        let hash = |&at: &u32| hasher.hash_one(&*all[at as usize].nick);
        by_nick.insert_unique(hash(&at), at, hash);
    }

    /// A seat begins.
    pub(super) fn add_seat(&mut self, names: (&str, &str), at: u32) {
        let Some(tables) = &mut self.tables else { return };
        let hash = tables.hasher.hash_one(names);
        tables.by_seat.insert_unique(hash, IndexedSeat::new(at, hash), IndexedSeat::hash);
    }

    /// An occupant will have another nick, or go.
    pub(super) fn forget_nick(&mut self, nick: &str, at: u32) {
        let Some(tables) = &mut self.tables else { return };
        let hash = tables.hasher.hash_one(nick);
        if let Ok(entry) = tables.by_nick.find_entry(hash, |&other| other == at) {
            entry.remove();
        }
    }

    /// A seat ends.
    pub(super) fn forget_seat(&mut self, names: (&str, &str), at: u32) {
        let Some(tables) = &mut self.tables else { return };
        let hash = tables.hasher.hash_one(names);
        let forgotten = IndexedSeat::new(at, hash);
        if let Ok(entry) = tables.by_seat.find_entry(hash, |other| *other == forgotten) {
            entry.remove();
        }
    }

    /// An occupant is gone, and so many are left.
    pub(super) fn left(&mut self, count: usize) {
        if count <= SEARCHED_MAX / 2 {
            self.tables = None;
        }
    }

    /// Seats in the index.
    #[cfg(test)]
    pub(super) fn seats(&self) -> usize {
        self.tables.as_ref().map_or(0, |tables| tables.by_seat.len())
    }
}

fn search(all: &Slab<Occupant>, is_it: impl Fn(&Occupant) -> bool) -> Option<u32> {
    all.iter().find(|(_, occupant)| is_it(occupant)).map(|(at, _)| super::occupants::index(at))
}
