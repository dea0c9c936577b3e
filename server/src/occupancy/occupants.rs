//! Who is in a room. An occupant has one nick and one account, and as many seats as clients that have entered with them.

use std::fmt;

use foldhash::fast::SeedableRandomState;
use slab::Slab;
use smallvec::SmallVec;
use whimbrel_storage::actor::ActorId;

use crate::occupancy::index::Index;
use crate::occupancy::nick::Nick;
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

impl Audience {
    const ALL: [Audience; 3] = [Audience::Nobody, Audience::Moderators, Audience::Everybody];
}

/// What an occupant is to the room, what it may do, and who has been shown its presence, in one byte.
#[derive(Copy, Clone, PartialEq, Eq)]
struct Marks(u8);

const ROLE_SHIFT: u32 = 3;
const AUDIENCE_SHIFT: u32 = 5;
const _: () = assert!(Affiliation::ALL.len() <= 8 && Role::ALL.len() <= 4 && Audience::ALL.len() <= 4);

impl Marks {
    fn new(standing: Standing, seen_by: Audience) -> Marks {
        let Standing { affiliation, role } = standing;
        Marks(affiliation as u8 | (role as u8) << ROLE_SHIFT | (seen_by as u8) << AUDIENCE_SHIFT)
    }

    fn affiliation(self) -> Affiliation {
        Affiliation::ALL[usize::from(self.0 & 7)]
    }

    fn role(self) -> Role {
        Role::ALL[usize::from(self.0 >> ROLE_SHIFT & 3)]
    }

    fn seen_by(self) -> Audience {
        Audience::ALL[usize::from(self.0 >> AUDIENCE_SHIFT & 3)]
    }
}

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.affiliation(), self.role(), self.seen_by()).fmt(f)
    }
}

/// Somebody who is in a room.
#[derive(Debug)]
pub struct Occupant {
    /// Its nick.
    pub nick: Nick,
    /// The clients with which it listens, all of its account.
    pub seats: Seats,
    /// Its id (XEP-0421).
    pub id: OccupantId,
    marks: Marks,
    /// What its last presence says, and its hats.
    pub payload: Payload,
    /// How fast it speaks.
    pub pace: Pace,
}

// The memory budget of a room rests on this size (docs/performance.md).
const _: () = assert!(size_of::<Occupant>() <= 48);

impl Occupant {
    /// Somebody with a nick and one seat, whose presence nobody has been shown.
    pub fn new(nick: &str, seats: Seats, id: OccupantId, standing: Standing, payload: Payload) -> Occupant {
        let marks = Marks::new(standing, Audience::Nobody);
        Occupant { nick: nick.into(), seats, id, marks, payload, pace: Pace::default() }
    }

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
        Standing { affiliation: self.affiliation(), role: self.role() }
    }

    /// What it is to the room.
    pub fn affiliation(&self) -> Affiliation {
        self.marks.affiliation()
    }

    /// It is something else to the room.
    pub fn set_affiliation(&mut self, affiliation: Affiliation) {
        self.marks = Marks::new(Standing { affiliation, ..self.standing() }, self.seen_by());
    }

    /// What it may do in the room.
    pub fn role(&self) -> Role {
        self.marks.role()
    }

    /// It may do something else.
    pub fn set_role(&mut self, role: Role) {
        self.marks = Marks::new(Standing { role, ..self.standing() }, self.seen_by());
    }

    /// The most who have been shown its presence: they are to see it leave.
    pub fn seen_by(&self) -> Audience {
        self.marks.seen_by()
    }

    /// These have been shown its presence.
    pub fn show_to(&mut self, audience: Audience) {
        self.marks = Marks::new(self.standing(), self.seen_by().max(audience));
    }

    /// Whether it sees everything that moderators see.
    pub fn is_moderator(&self) -> bool {
        self.role() == Role::Moderator
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
            self.all.reserve_exact(1 + count / 8);
        }
        let at = index(self.all.insert(occupant));
        self.index.entered(&self.all, at, hasher);
        OccupantKey(at)
    }

    /// Another client of the same account has entered under the same nick.
    pub fn add_seat(&mut self, key: OccupantKey, seat: Seat) {
        self.all[key.0 as usize].seats.push(seat);
    }

    /// A seat ends.
    pub fn remove_seat(&mut self, local: &str, resource: &str) -> Option<SeatEnd> {
        let key = self.by_seat(local, resource)?;
        if self.get(key).seats.len() == 1 {
            return self.remove(key).map(SeatEnd::Last);
        }
        self.get_mut(key).seats.remove(resource);
        Some(SeatEnd::OneOfSeveral(key))
    }

    /// An occupant leaves, with all seats.
    pub fn remove(&mut self, key: OccupantKey) -> Option<Box<Occupant>> {
        let gone = self.all.try_remove(key.0 as usize)?;
        self.index.forget_nick(&gone.nick, key.0);
        self.index.forget_account(gone.local(), key.0);
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
            let id = OccupantIds::new(&[0; 32]).of(local, ActorId::user(1));
            let standing = Standing { affiliation: Affiliation::None, role: Role::Participant };
            let seat = self.seat(local, resource);
            let occupant = Occupant::new(nick, seat.into(), id, standing, Payload::default());
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
            assert_eq!(hall.all.index.len(), if count > 8 { count } else { 0 });
        }
        for (gone, key) in keys.iter().enumerate() {
            let (nick, local) = (format!("n{}", gone + 1), format!("u{}", gone + 1));
            assert_eq!((hall.all.by_nick(&nick), hall.all.by_seat(&local, "1")), (Some(*key), Some(*key)));
            hall.all.rename(*key, "another");
            assert_eq!((hall.all.by_nick(&nick), hall.all.by_nick("another")), (None, Some(*key)));
            hall.all.remove(*key);
            assert_eq!((hall.all.by_nick("another"), hall.all.by_seat(&local, "1")), (None, None));
        }
        assert!(hall.all.is_empty() && hall.all.index.len() == 0);
    }

    /// An account with several occupants has them at one place of the index, and each goes alone.
    #[test]
    fn a_seat_that_ends_takes_no_other_of_its_account_with_it() {
        const OF_ONE: usize = 32;
        for several_seats in [false, true] {
            let mut hall = Hall::new();
            for n in 0..9 {
                hall.enter(&n.to_string(), &format!("u{n}"), "0");
            }
            let first = hall.enter("j0", "juliet", "0");
            for n in 1..OF_ONE {
                match several_seats {
                    true => hall.add_seat(first, &n.to_string()),
                    false => _ = hall.enter(&format!("j{n}"), "juliet", &n.to_string()),
                }
            }
            for gone in (0..OF_ONE).step_by(2) {
                let end = hall.all.remove_seat("juliet", &gone.to_string());
                assert_eq!(matches!(end, Some(SeatEnd::OneOfSeveral(_))), several_seats, "{end:?}");
            }
            for n in 0..OF_ONE {
                let found = hall.all.by_seat("juliet", &n.to_string());
                let nick = if several_seats { "j0".into() } else { format!("j{n}") };
                assert_eq!(found.is_some(), n % 2 == 1, "{n}");
                assert!(found.is_none_or(|key| *hall.all.get(key).nick == *nick), "{n}");
            }
            hall.all.of_account("juliet").into_iter().for_each(|key| drop(hall.all.remove(key)));
            assert_eq!(hall.all.index.len(), 9, "nothing is left of the others");
            assert_eq!(hall.all.by_seat("u3", "0"), hall.all.by_nick("3"));
        }
    }

    #[test]
    fn what_an_occupant_is_and_may_and_who_saw_it_change_alone() {
        let mut hall = Hall::new();
        let key = hall.enter("j", "juliet", "1");
        let occupant = hall.all.get_mut(key);
        for affiliation in Affiliation::ALL {
            for role in Role::ALL {
                occupant.set_affiliation(affiliation);
                occupant.set_role(role);
                assert_eq!(occupant.standing(), Standing { affiliation, role });
                assert_eq!(occupant.seen_by(), Audience::Nobody);
            }
        }
        for (shown, seen_by) in [
            (Audience::Moderators, Audience::Moderators),
            (Audience::Everybody, Audience::Everybody),
            (Audience::Nobody, Audience::Everybody),
        ] {
            occupant.show_to(shown);
            assert_eq!((occupant.seen_by(), occupant.standing()), (seen_by, occupant.standing()));
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
