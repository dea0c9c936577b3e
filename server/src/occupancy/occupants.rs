//! Who is in a room. An occupant has one nick and one account, and as many seats as clients that have entered with them.

use foldhash::fast::SeedableRandomState;
use slab::Slab;
use smallvec::SmallVec;
use whimbrel_storage::actor::ActorId;

use crate::occupancy::index::Index;
use crate::occupancy::pace::Pace;
use crate::occupancy::payloads::Payload;
use crate::occupancy::seats::{Seat, Seats};
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
    /// The clients with which it listens, all of its account.
    pub seats: Seats,
    /// Its id (XEP-0421).
    pub id: OccupantId,
    /// What it is to the room.
    pub affiliation: Affiliation,
    /// What it may do in it.
    pub role: Role,
    /// The most who have been shown its presence: they are to see it leave.
    pub seen_by: Audience,
    /// What its last presence says: the elements that others see (see [`payloads`](crate::occupancy::payloads)).
    pub presence: Payload,
    /// What an operator says of it, as it stands in presence (XEP-0317); empty for nothing.
    pub hats: Payload,
    /// How fast it speaks.
    pub pace: Pace,
}

// The memory budget of a room rests on this size (docs/performance.md).
const _: () = assert!(size_of::<Occupant>() <= 80);

impl Occupant {
    /// Localpart of its account.
    pub fn local(&self) -> &str {
        self.seats.first().local()
    }

    /// Its account.
    pub fn account(&self) -> ActorId {
        self.seats.first().account()
    }

    /// The home worker of its account.
    pub fn home(&self) -> usize {
        self.seats.first().home()
    }

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
#[derive(Default)]
pub struct Occupants {
    all: Slab<Occupant>,
    index: Index,
}

impl Occupants {
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
        self.iter().filter(|(_, occupant)| occupant.local() == local).map(|(key, _)| key).collect()
    }

    /// Somebody enters. Nobody has its nick or its seats. With `hasher` they are indexed when they are many.
    pub fn enter(&mut self, occupant: Occupant, hasher: &SeedableRandomState) -> OccupantKey {
        debug_assert!(self.by_nick(&occupant.nick).is_none(), "a nick is one occupant's");
        let count = self.all.len();
        if count == self.all.capacity() {
            // In most rooms few are: a table that doubles would be empty for the most part.
            self.all.reserve_exact(1 + count / 4);
        }
        let at = index(self.all.insert(occupant));
        self.index.entered(&self.all, at, hasher);
        OccupantKey(at)
    }

    /// Another client of the same account has entered under the same nick.
    pub fn add_seat(&mut self, key: OccupantKey, seat: Seat) {
        self.index.add_seat((seat.local(), seat.resource()), key.0);
        self.all[key.0 as usize].seats.push(seat);
    }

    /// A seat ends.
    pub fn remove_seat(&mut self, local: &str, resource: &str) -> Option<SeatEnd> {
        let key = self.by_seat(local, resource)?;
        if self.get(key).seats.len() == 1 {
            return self.remove(key).map(SeatEnd::Last);
        }
        self.index.forget_seat((local, resource), key.0);
        self.get_mut(key).seats.remove(resource);
        Some(SeatEnd::OneOfSeveral(key))
    }

    /// An occupant leaves, with all seats.
    pub fn remove(&mut self, key: OccupantKey) -> Option<Box<Occupant>> {
        let gone = self.all.try_remove(key.0 as usize)?;
        self.index.forget_nick(&gone.nick, key.0);
        gone.seats.iter().for_each(|seat| self.index.forget_seat((seat.local(), seat.resource()), key.0));
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
    use crate::occupancy::seats::Clients;
    use crate::proto::muc::occupant::OccupantIds;

    /// Occupants, and what they are made with.
    struct Hall {
        all: Occupants,
        clients: Clients,
        hasher: SeedableRandomState,
    }

    impl Hall {
        fn new() -> Hall {
            let hasher = SeedableRandomState::random();
            Hall { all: Occupants::default(), clients: Clients::new(hasher.clone()), hasher }
        }

        fn seat(&mut self, local: &str, resource: &str) -> Seat {
            self.clients.seat(ActorId::user(1), (local, resource), 0)
        }

        fn enter(&mut self, nick: &str, local: &str, resource: &str) -> OccupantKey {
            let occupant = Occupant {
                nick: nick.into(),
                seats: Seats::One(self.seat(local, resource)),
                id: OccupantIds::new(&[0; 32]).of(local, ActorId::user(1)),
                affiliation: Affiliation::None,
                role: Role::Participant,
                seen_by: Audience::Nobody,
                presence: Payload::default(),
                hats: Payload::default(),
                pace: Pace::default(),
            };
            self.all.enter(occupant, &self.hasher)
        }

        fn add_seat(&mut self, key: OccupantKey, resource: &str) {
            let local = self.all.get(key).local().to_owned();
            let seat = self.seat(&local, resource);
            self.all.add_seat(key, seat);
        }
    }

    #[test]
    fn an_occupant_stays_until_its_last_seat_ends() {
        let mut hall = Hall::new();
        let key = hall.enter("j", "juliet", "1");
        hall.add_seat(key, "2");
        hall.enter("r", "romeo", "1");
        assert_eq!(
            (hall.all.len(), hall.all.by_seat("juliet", "2"), hall.all.by_nick("j")),
            (2, Some(key), Some(key))
        );
        assert!(matches!(hall.all.remove_seat("juliet", "1"), Some(SeatEnd::OneOfSeveral(of)) if of == key));
        assert!(hall.all.by_seat("juliet", "1").is_none() && hall.all.remove_seat("juliet", "1").is_none());
        assert!(
            matches!(hall.all.remove_seat("juliet", "2"), Some(SeatEnd::Last(gone)) if &*gone.nick == "j")
        );
        assert_eq!((hall.all.len(), hall.all.by_nick("j"), hall.all.by_seat("juliet", "2")), (1, None, None));
    }

    #[test]
    fn few_are_found_without_an_index_and_many_with_one() {
        let mut hall = Hall::new();
        let mut keys = Vec::new();
        for count in 1..=20 {
            keys.push(hall.enter(&format!("n{count}"), &format!("u{count}"), "1"));
            assert_eq!(hall.all.index.seats(), if count > 8 { count } else { 0 });
        }
        for (gone, key) in keys.iter().enumerate() {
            let (nick, local) = (format!("n{}", gone + 1), format!("u{}", gone + 1));
            assert_eq!((hall.all.by_nick(&nick), hall.all.by_seat(&local, "1")), (Some(*key), Some(*key)));
            hall.all.rename(*key, "another");
            assert_eq!((hall.all.by_nick(&nick), hall.all.by_nick("another")), (None, Some(*key)));
            hall.all.remove(*key);
            assert_eq!((hall.all.by_nick("another"), hall.all.by_seat(&local, "1")), (None, None));
        }
        assert!(hall.all.is_empty() && hall.all.index.seats() == 0);
    }

    /// Seats of one occupant look alike at the first glance, and a table that is nearly full tells them apart by their places no more.
    #[test]
    fn a_seat_that_ends_takes_no_other_seat_of_its_occupant_with_it() {
        const SEATS: usize = 1024 * 7 / 8;
        const OTHERS: usize = 9;
        for round in 0..64 {
            let mut hall = Hall::new();
            for n in 1..OTHERS {
                hall.enter(&n.to_string(), &format!("u{n}"), "0");
            }
            let key = hall.enter("j", "juliet", "0");
            (1..SEATS - OTHERS).for_each(|n| hall.add_seat(key, &n.to_string()));
            let other = hall.enter("r", "romeo", "0");
            // Those that came last lie farthest from their places.
            for gone in (SEATS / 2..SEATS - OTHERS).rev() {
                let end = hall.all.remove_seat("juliet", &gone.to_string());
                assert!(matches!(end, Some(SeatEnd::OneOfSeveral(_))), "round {round}, seat {gone}: {end:?}");
            }
            let is_there = |n: &usize| hall.all.by_seat("juliet", &n.to_string()) == Some(key);
            assert_eq!((0..SEATS - OTHERS).filter(is_there).count(), SEATS / 2, "round {round}");
            assert!(hall.all.remove(key).is_some());
            assert_eq!(hall.all.index.seats(), OTHERS, "round {round}: nothing is left of the others");
            assert_eq!(hall.all.by_seat("romeo", "0"), Some(other));
        }
    }

    #[test]
    fn occupants_are_found_by_nick_and_seat_whatever_happens_to_others() {
        let mut hall = Hall::new();
        let mut keys = Vec::new();
        for n in 0..200 {
            let key = hall.enter(&format!("n{n}"), &format!("u{n}"), "1");
            hall.add_seat(key, "2");
            keys.push(key);
        }
        for (n, key) in keys.iter().enumerate() {
            if n % 3 == 0 {
                hall.all.remove(*key);
            } else if n % 3 == 1 {
                hall.all.rename(*key, &format!("m{n}"));
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
            assert_eq!(
                (hall.all.by_nick(&old), hall.all.by_nick(&new), hall.all.by_seat(&local, "2")),
                expected,
                "{n}"
            );
            assert_eq!(hall.all.of_account(&local).len(), usize::from(n % 3 != 0));
        }
    }
}
