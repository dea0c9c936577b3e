//! Seats: the clients with which occupants listen. A client that is in many rooms of a worker is known once, with its account, and
//! each of its seats is a reference.

use std::hash::BuildHasher;
use std::ops::Deref;
use std::sync::Arc;

use foldhash::fast::SeedableRandomState;
use whimbrel_storage::actor::ActorId;

use crate::occupancy::interned::{Interned, Interner};

/// A client that is in rooms of this worker.
#[derive(Debug)]
struct Client {
    account: ActorId,
    home: u16,
    /// Bytes of the localpart.
    local: u16,
    /// Localpart and resource, one behind the other.
    text: Box<str>,
}

impl Client {
    fn names(&self) -> (&str, &str) {
        self.text.split_at(usize::from(self.local))
    }
}

impl Interned for Client {
    fn hash(&self, hasher: &SeedableRandomState) -> u64 {
        hasher.hash_one((self.account, self.names()))
    }
}

/// The client with which an occupant listens.
#[derive(Clone, Debug)]
pub struct Seat(Arc<Client>);

impl Seat {
    /// Localpart of the account.
    pub fn local(&self) -> &str {
        self.0.names().0
    }

    /// The client's resource.
    pub fn resource(&self) -> &str {
        self.0.names().1
    }

    /// The account.
    pub fn account(&self) -> ActorId {
        self.0.account
    }

    /// The home worker of the account.
    pub fn home(&self) -> usize {
        usize::from(self.0.home)
    }
}

/// Its resource.
impl AsRef<str> for Seat {
    fn as_ref(&self) -> &str {
        self.resource()
    }
}

/// The clients that are in rooms of a worker.
pub struct Clients {
    kept: Interner<Client>,
}

impl Clients {
    /// None yet.
    pub fn new(hasher: SeedableRandomState) -> Clients {
        Clients { kept: Interner::new(hasher) }
    }

    /// A seat for a client of an account, which has its home on that worker.
    pub fn seat(&mut self, account: ActorId, (local, resource): (&str, &str), home: usize) -> Seat {
        let names = (local, resource);
        let hash = self.kept.hasher().hash_one((account, names));
        let make = || Client {
            account,
            home: u16::try_from(home).expect("there are fewer workers than a u16 counts"),
            local: u16::try_from(local.len()).expect("a part of a JID is that short"),
            text: [local, resource].concat().into(),
        };
        Seat(self.kept.get(hash, |known| known.account == account && known.names() == names, make))
    }

    /// Nobody is in any room: nothing is kept.
    pub fn clear(&mut self) {
        self.kept.clear();
    }

    /// How many there are, those included that have been in no room since they were last looked through.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.kept.len() == 0
    }
}

/// The seats of an occupant, those that came first before others. There is one at least, and most have no other.
#[derive(Debug)]
pub enum Seats {
    /// One.
    One(Seat),
    /// More.
    Several(Box<[Seat]>),
}

impl Seats {
    /// Another client has come.
    pub fn push(&mut self, seat: Seat) {
        let all: Vec<Seat> = self.iter().cloned().chain([seat]).collect();
        *self = Seats::Several(all.into());
    }

    /// All but those with this resource. The last one stays.
    pub fn remove(&mut self, resource: &str) {
        let mut left: Vec<Seat> = self.iter().filter(|seat| seat.resource() != resource).cloned().collect();
        *self = match left.len() {
            0 => return,
            1 => Seats::One(left.remove(0)),
            _ => Seats::Several(left.into()),
        };
    }

    /// The client that came first.
    pub fn first(&self) -> &Seat {
        &self[0]
    }
}

impl Deref for Seats {
    type Target = [Seat];

    fn deref(&self) -> &[Seat] {
        match self {
            Seats::One(seat) => std::slice::from_ref(seat),
            Seats::Several(seats) => seats,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::occupancy::interned::SWEEP_MIN;

    fn clients() -> Clients {
        Clients::new(SeedableRandomState::random())
    }

    #[test]
    fn a_client_is_known_once_however_many_seats_it_has() {
        let mut clients = clients();
        fn seat(clients: &mut Clients, n: u64, names: (&str, &str)) -> Seat {
            clients.seat(ActorId::user(n), names, 3)
        }
        let first = seat(&mut clients, 1, ("juliet", "balcony"));
        assert!(Arc::ptr_eq(&first.0, &seat(&mut clients, 1, ("juliet", "balcony")).0));
        assert_eq!((first.local(), first.resource(), first.home()), ("juliet", "balcony", 3));
        let others = [
            seat(&mut clients, 2, ("juliet", "balcony")),
            seat(&mut clients, 1, ("juliet", "garden")),
            seat(&mut clients, 1, ("julietb", "alcony")),
        ];
        assert!(others.iter().all(|other| !Arc::ptr_eq(&first.0, &other.0)));
        assert_eq!(clients.len(), 4);
        drop(others);
        (0..10 * SWEEP_MIN).for_each(|n| drop(seat(&mut clients, 9, ("x", &n.to_string()))));
        assert!(clients.len() <= SWEEP_MIN + 1, "{} that have no seat", clients.len());
        assert!(Arc::ptr_eq(&first.0, &seat(&mut clients, 1, ("juliet", "balcony")).0));
    }

    #[test]
    fn seats_are_in_the_order_in_which_they_came_and_the_last_stays() {
        let mut clients = clients();
        let mut of = |resource: &str| clients.seat(ActorId::user(1), ("juliet", resource), 0);
        let mut seats = Seats::One(of("1"));
        seats.push(of("2"));
        seats.push(of("3"));
        let resources =
            |seats: &Seats| seats.iter().map(|seat| seat.resource().to_owned()).collect::<Vec<_>>();
        assert_eq!(resources(&seats), ["1", "2", "3"]);
        seats.remove("1");
        assert_eq!((resources(&seats), seats.first().resource()), (vec!["2".into(), "3".into()], "2"));
        seats.remove("3");
        assert!(matches!(seats, Seats::One(_)));
        seats.remove("2");
        assert_eq!(resources(&seats), ["2"]);
    }
}
