//! Who is in a room. An occupant has one nick and one account, and as many seats as clients that have entered with them.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::SeedableRandomState;
use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;
use whimbrel_storage::actor::ActorId;

use crate::occupancy::pace::Pace;
use crate::proto::muc::occupant::OccupantId;
use crate::proto::muc::rules::Standing;
use crate::proto::muc::{Affiliation, Role};

/// Which occupant of a room.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct OccupantKey(u32);

/// Who sees the presence of an occupant, beside itself.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    /// Nobody.
    #[default]
    Nobody,
    /// Moderators.
    Moderators,
    /// Everybody.
    Everybody,
}

/// Somebody who is in a room.
#[derive(Debug)]
pub struct Occupant {
    /// Its nick, normalised.
    pub nick: Box<str>,
    /// Localpart of its account.
    pub local: Box<str>,
    /// Its account.
    pub account: ActorId,
    /// Its id (XEP-0421).
    pub id: OccupantId,
    /// What it is to the room.
    pub affiliation: Affiliation,
    /// What it may do in it.
    pub role: Role,
    /// Resources with which it listens, those that came first before others.
    pub seats: SmallVec<[Box<str>; 1]>,
    /// The most who have been shown its presence: they are to see it leave.
    pub seen_by: Audience,
    /// What its last presence says: the elements that others see (see [`payloads`](crate::occupancy::payloads)).
    pub presence: Arc<[u8]>,
    /// What an operator says of it, as it stands in presence (XEP-0317); empty for nothing.
    pub hats: Box<[u8]>,
    /// How fast it speaks.
    pub pace: Pace,
}

impl Occupant {
    /// What it is to the room and in it.
    pub fn standing(&self) -> Standing {
        Standing { affiliation: self.affiliation, role: self.role }
    }

    /// Whether it sees everything that moderators see.
    pub fn is_moderator(&self) -> bool {
        self.role == Role::Moderator
    }
}

/// What the end of a seat means.
#[derive(Debug)]
pub enum SeatEnd {
    /// The occupant has others.
    OneOfSeveral(OccupantKey),
    /// It was the last one: the occupant is gone.
    Last(Box<Occupant>),
}

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

/// The occupants of a room.
pub struct Occupants {
    all: Slab<Occupant>,
    by_nick: HashTable<u32>,
    by_seat: HashTable<IndexedSeat>,
    hasher: SeedableRandomState,
}

impl Occupants {
    /// Nobody yet.
    pub fn new(hasher: SeedableRandomState) -> Occupants {
        Occupants { all: Slab::new(), by_nick: HashTable::new(), by_seat: HashTable::new(), hasher }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether nobody is there.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The one with this nick.
    pub fn by_nick(&self, nick: &str) -> Option<OccupantKey> {
        let hash = self.hasher.hash_one(nick);
        self.by_nick.find(hash, |&at| *self.all[at as usize].nick == *nick).map(|&at| OccupantKey(at))
    }

    /// The one who has this seat.
    pub fn by_seat(&self, local: &str, resource: &str) -> Option<OccupantKey> {
        let hash = self.hasher.hash_one((local, resource));
        let found = self.by_seat.find(hash, |seat| self.has_seat(seat.at, local, resource));
        found.map(|seat| OccupantKey(seat.at))
    }

    fn has_seat(&self, at: u32, local: &str, resource: &str) -> bool {
        let occupant = &self.all[at as usize];
        *occupant.local == *local && occupant.seats.iter().any(|seat| **seat == *resource)
    }

    /// Whether an occupant is there.
    pub fn has(&self, key: OccupantKey) -> bool {
        self.all.contains(key.0 as usize)
    }

    /// An occupant that is there.
    pub fn get(&self, key: OccupantKey) -> &Occupant {
        &self.all[key.0 as usize]
    }

    /// As [`Occupants::get`], to change what does not tell it from others.
    pub fn get_mut(&mut self, key: OccupantKey) -> &mut Occupant {
        &mut self.all[key.0 as usize]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (OccupantKey, &Occupant)> {
        self.all.iter().map(|(at, occupant)| (OccupantKey(index(at)), occupant))
    }

    /// Those of an account.
    pub fn of_account(&self, local: &str) -> SmallVec<[OccupantKey; 2]> {
        self.iter().filter(|(_, occupant)| *occupant.local == *local).map(|(key, _)| key).collect()
    }

    /// Somebody enters. Nobody has its nick or its seats.
    pub fn enter(&mut self, occupant: Occupant) -> OccupantKey {
        debug_assert!(self.by_nick(&occupant.nick).is_none(), "a nick is one occupant's");
        let seats = occupant.seats.clone();
        let at = index(self.all.insert(occupant));
        self.index_nick(at);
        self.index_seats(at, &seats);
        OccupantKey(at)
    }

    fn index_nick(&mut self, at: u32) {
        let (all, hasher) = (&self.all, &self.hasher);
        let hash = hasher.hash_one(&*all[at as usize].nick);
        self.by_nick.insert_unique(hash, at, |&at| hasher.hash_one(&*all[at as usize].nick));
    }

    fn index_seats(&mut self, at: u32, seats: &[Box<str>]) {
        for seat in seats {
            let hash = self.hasher.hash_one((&*self.all[at as usize].local, &**seat));
            self.by_seat.insert_unique(hash, IndexedSeat::new(at, hash), IndexedSeat::hash);
        }
    }

    /// Another client of the same account has entered under the same nick.
    pub fn add_seat(&mut self, key: OccupantKey, resource: &str) {
        self.get_mut(key).seats.push(resource.into());
        self.index_seats(key.0, &[resource.into()]);
    }

    /// A seat ends.
    pub fn remove_seat(&mut self, local: &str, resource: &str) -> Option<SeatEnd> {
        let key = self.by_seat(local, resource)?;
        if self.get(key).seats.len() == 1 {
            return self.remove(key).map(SeatEnd::Last);
        }
        self.forget_seat(key.0, resource);
        self.get_mut(key).seats.retain(|seat| **seat != *resource);
        Some(SeatEnd::OneOfSeveral(key))
    }

    fn forget_seat(&mut self, at: u32, seat: &str) {
        let hash = self.hasher.hash_one((&*self.all[at as usize].local, seat));
        let forgotten = IndexedSeat::new(at, hash);
        if let Ok(entry) = self.by_seat.find_entry(hash, |other| *other == forgotten) {
            entry.remove();
        }
    }

    /// An occupant leaves, with all seats.
    pub fn remove(&mut self, key: OccupantKey) -> Option<Box<Occupant>> {
        let occupant = self.all.get(key.0 as usize)?;
        let hash = self.hasher.hash_one(&*occupant.nick);
        if let Ok(entry) = self.by_nick.find_entry(hash, |&at| at == key.0) {
            entry.remove();
        }
        for seat in occupant.seats.clone() {
            self.forget_seat(key.0, &seat);
        }
        self.all.try_remove(key.0 as usize).map(Box::new)
    }

    /// An occupant has another nick, which nobody has.
    pub fn rename(&mut self, key: OccupantKey, nick: &str) {
        let hash = self.hasher.hash_one(&*self.get(key).nick);
        if let Ok(entry) = self.by_nick.find_entry(hash, |&at| at == key.0) {
            entry.remove();
        }
        self.get_mut(key).nick = nick.into();
        self.index_nick(key.0);
    }
}

fn index(slab_index: usize) -> u32 {
    u32::try_from(slab_index).expect("rooms.occupants_max is a u32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::muc::occupant::OccupantIds;

    fn occupant(nick: &str, local: &str, seat: &str) -> Occupant {
        Occupant {
            nick: nick.into(),
            local: local.into(),
            account: ActorId::user(1),
            id: OccupantIds::new(&[0; 32]).of(local, ActorId::user(1)),
            affiliation: Affiliation::None,
            role: Role::Participant,
            seats: smallvec::smallvec![seat.into()],
            seen_by: Audience::Nobody,
            presence: Arc::default(),
            hats: Box::default(),
            pace: Pace::default(),
        }
    }

    #[test]
    fn an_occupant_stays_until_its_last_seat_ends() {
        let mut all = Occupants::new(SeedableRandomState::random());
        let key = all.enter(occupant("j", "juliet", "1"));
        all.add_seat(key, "2");
        all.enter(occupant("r", "romeo", "1"));
        assert_eq!((all.len(), all.by_seat("juliet", "2"), all.by_nick("j")), (2, Some(key), Some(key)));
        assert!(matches!(all.remove_seat("juliet", "1"), Some(SeatEnd::OneOfSeveral(of)) if of == key));
        assert!(all.by_seat("juliet", "1").is_none() && all.remove_seat("juliet", "1").is_none());
        assert!(matches!(all.remove_seat("juliet", "2"), Some(SeatEnd::Last(gone)) if &*gone.nick == "j"));
        assert_eq!((all.len(), all.by_nick("j"), all.by_seat("juliet", "2")), (1, None, None));
    }

    /// Seats of one occupant look alike at the first glance, and a table that is nearly full tells them apart by their places no more.
    #[test]
    fn a_seat_that_ends_takes_no_other_seat_of_its_occupant_with_it() {
        const SEATS: usize = 1024 * 7 / 8;
        for round in 0..64 {
            let mut all = Occupants::new(SeedableRandomState::random());
            let key = all.enter(occupant("j", "juliet", "0"));
            (1..SEATS - 1).for_each(|n| all.add_seat(key, &n.to_string()));
            let other = all.enter(occupant("r", "romeo", "0"));
            // Those that came last lie farthest from their places.
            for gone in (SEATS / 2..SEATS - 1).rev() {
                let end = all.remove_seat("juliet", &gone.to_string());
                assert!(matches!(end, Some(SeatEnd::OneOfSeveral(_))), "round {round}, seat {gone}: {end:?}");
            }
            let is_there = |n: &usize| all.by_seat("juliet", &n.to_string()) == Some(key);
            assert_eq!((0..SEATS - 1).filter(is_there).count(), SEATS / 2, "round {round}");
            assert!(all.remove(key).is_some());
            assert_eq!(all.by_seat.len(), 1, "round {round}: nothing is left of the others");
            assert_eq!(all.by_seat("romeo", "0"), Some(other));
        }
    }

    #[test]
    fn occupants_are_found_by_nick_and_seat_whatever_happens_to_others() {
        let mut all = Occupants::new(SeedableRandomState::random());
        let mut keys = Vec::new();
        for n in 0..200 {
            let key = all.enter(occupant(&format!("n{n}"), &format!("u{n}"), "1"));
            all.add_seat(key, "2");
            keys.push(key);
        }
        for (n, key) in keys.iter().enumerate() {
            if n % 3 == 0 {
                all.remove(*key);
            } else if n % 3 == 1 {
                all.rename(*key, &format!("m{n}"));
            }
        }
        for (n, key) in keys.iter().enumerate() {
            let (old, new, local) = (format!("n{n}"), format!("m{n}"), format!("u{n}"));
            let key = Some(*key);
            let expected = match n % 3 {
                0 => (None, None, None),
                1 => (None, key, key),
                _ => (key, None, key),
            };
            assert_eq!((all.by_nick(&old), all.by_nick(&new), all.by_seat(&local, "2")), expected, "{n}");
            assert_eq!(all.of_account(&local).len(), usize::from(n % 3 != 0));
        }
    }
}
