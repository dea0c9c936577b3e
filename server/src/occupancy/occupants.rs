//! Who is in a room. An occupant has one nick and one account, and as many seats as clients that have entered with them.

use std::sync::Arc;

use foldhash::fast::SeedableRandomState;
use slab::Slab;
use smallvec::SmallVec;
use whimbrel_storage::actor::ActorId;

use crate::occupancy::index::Index;
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

/// The occupants of a room.
pub struct Occupants {
    all: Slab<Occupant>,
    index: Index,
}

impl Occupants {
    /// Nobody yet.
    pub fn new(hasher: SeedableRandomState) -> Occupants {
        Occupants { all: Slab::new(), index: Index::new(hasher) }
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
        self.index.nick(&self.all, nick).map(OccupantKey)
    }

    /// The one who has this seat.
    pub fn by_seat(&self, local: &str, resource: &str) -> Option<OccupantKey> {
        self.index.seat(&self.all, local, resource).map(OccupantKey)
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
        if self.all.is_empty() {
            // In most rooms few are: the next ones double it.
            self.all.reserve_exact(1);
        }
        let at = index(self.all.insert(occupant));
        self.index.entered(&self.all, at);
        OccupantKey(at)
    }

    /// Another client of the same account has entered under the same nick.
    pub fn add_seat(&mut self, key: OccupantKey, resource: &str) {
        let occupant = &mut self.all[key.0 as usize];
        occupant.seats.push(resource.into());
        self.index.add_seat(&occupant.local, resource, key.0);
    }

    /// A seat ends.
    pub fn remove_seat(&mut self, local: &str, resource: &str) -> Option<SeatEnd> {
        let key = self.by_seat(local, resource)?;
        if self.get(key).seats.len() == 1 {
            return self.remove(key).map(SeatEnd::Last);
        }
        self.index.forget_seat(local, resource, key.0);
        self.get_mut(key).seats.retain(|seat| **seat != *resource);
        Some(SeatEnd::OneOfSeveral(key))
    }

    /// An occupant leaves, with all seats.
    pub fn remove(&mut self, key: OccupantKey) -> Option<Box<Occupant>> {
        let gone = self.all.try_remove(key.0 as usize)?;
        self.index.forget_nick(&gone.nick, key.0);
        gone.seats.iter().for_each(|seat| self.index.forget_seat(&gone.local, seat, key.0));
        self.index.left(self.all.len());
        Some(Box::new(gone))
    }

    /// An occupant has another nick, which nobody has.
    pub fn rename(&mut self, key: OccupantKey, nick: &str) {
        let occupant = &mut self.all[key.0 as usize];
        self.index.forget_nick(&occupant.nick, key.0);
        occupant.nick = nick.into();
        self.index.add_nick(&self.all, key.0);
    }
}

pub(super) fn index(slab_index: usize) -> u32 {
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

    #[test]
    fn few_are_found_without_an_index_and_many_with_one() {
        let mut all = Occupants::new(SeedableRandomState::random());
        let mut keys = Vec::new();
        for count in 1..=20 {
            keys.push(all.enter(occupant(&format!("n{count}"), &format!("u{count}"), "1")));
            assert_eq!(all.index.seats(), if count > 8 { count } else { 0 });
        }
        for (gone, key) in keys.iter().enumerate() {
            let (nick, local) = (format!("n{}", gone + 1), format!("u{}", gone + 1));
            assert_eq!((all.by_nick(&nick), all.by_seat(&local, "1")), (Some(*key), Some(*key)));
            all.rename(*key, "another");
            assert_eq!((all.by_nick(&nick), all.by_nick("another")), (None, Some(*key)));
            all.remove(*key);
            assert_eq!((all.by_nick("another"), all.by_seat(&local, "1")), (None, None));
        }
        assert!(all.is_empty() && all.index.seats() == 0);
    }

    /// Seats of one occupant look alike at the first glance, and a table that is nearly full tells them apart by their places no more.
    #[test]
    fn a_seat_that_ends_takes_no_other_seat_of_its_occupant_with_it() {
        const SEATS: usize = 1024 * 7 / 8;
        const OTHERS: usize = 9;
        for round in 0..64 {
            let mut all = Occupants::new(SeedableRandomState::random());
            for n in 1..OTHERS {
                all.enter(occupant(&n.to_string(), &format!("u{n}"), "0"));
            }
            let key = all.enter(occupant("j", "juliet", "0"));
            (1..SEATS - OTHERS).for_each(|n| all.add_seat(key, &n.to_string()));
            let other = all.enter(occupant("r", "romeo", "0"));
            // Those that came last lie farthest from their places.
            for gone in (SEATS / 2..SEATS - OTHERS).rev() {
                let end = all.remove_seat("juliet", &gone.to_string());
                assert!(matches!(end, Some(SeatEnd::OneOfSeveral(_))), "round {round}, seat {gone}: {end:?}");
            }
            let is_there = |n: &usize| all.by_seat("juliet", &n.to_string()) == Some(key);
            assert_eq!((0..SEATS - OTHERS).filter(is_there).count(), SEATS / 2, "round {round}");
            assert!(all.remove(key).is_some());
            assert_eq!(all.index.seats(), OTHERS, "round {round}: nothing is left of the others");
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
