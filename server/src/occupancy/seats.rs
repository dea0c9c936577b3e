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

/// A client, or all of an occupant. Both are known by the same pointer, so that the one seat that most occupants have takes no more
/// than a pointer.
#[derive(Debug)]
enum Listeners {
    One(Client),
    /// At least two, in the order in which they came. These are of one occupant, so they are not among [`Clients`].
    Several(Box<[Seat]>),
}

// With two counters it is a block of 48 bytes.
const _: () = assert!(size_of::<Listeners>() <= 32);

impl Listeners {
    /// The client that came first.
    fn first(&self) -> &Client {
        match self {
            Listeners::One(client) => client,
            Listeners::Several(seats) => seats[0].client(),
        }
    }
}

impl Interned for Listeners {
    fn hash(&self, hasher: &SeedableRandomState) -> u64 {
        let client = self.first();
        hasher.hash_one((client.account, client.names()))
    }
}

/// The client with which an occupant listens.
#[derive(Clone, Debug)]
pub struct Seat(Arc<Listeners>);

impl Seat {
    fn client(&self) -> &Client {
        self.0.first()
    }

    /// Localpart of the account.
    pub fn local(&self) -> &str {
        self.client().names().0
    }

    /// The client's resource.
    pub fn resource(&self) -> &str {
        self.client().names().1
    }

    /// The account.
    pub fn account(&self) -> ActorId {
        self.client().account
    }

    /// The home worker of the account.
    pub fn home(&self) -> usize {
        usize::from(self.client().home)
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
    kept: Interner<Listeners>,
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
        let is_it = |known: &Listeners| {
            let known = known.first();
            known.account == account && known.names() == names
        };
        let make = || {
            Listeners::One(Client {
                account,
                home: u16::try_from(home).expect("there are fewer workers than a u16 counts"),
                local: u16::try_from(local.len()).expect("a part of a JID is that short"),
                text: [local, resource].concat().into(),
            })
        };
        Seat(self.kept.get(hash, is_it, make))
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
pub struct Seats(Seat);

impl Seats {
    /// So many, of which there is one at least.
    fn of(mut seats: Vec<Seat>) -> Seats {
        match seats.len() {
            1 => Seats(seats.remove(0)),
            _ => Seats(Seat(Arc::new(Listeners::Several(seats.into())))),
        }
    }

    /// Another client has come.
    pub fn push(&mut self, seat: Seat) {
        *self = Seats::of(self.iter().cloned().chain([seat]).collect());
    }

    /// All but those with this resource. The last one stays.
    pub fn remove(&mut self, resource: &str) {
        let left: Vec<Seat> = self.iter().filter(|seat| seat.resource() != resource).cloned().collect();
        if !left.is_empty() {
            *self = Seats::of(left);
        }
    }

    /// The client that came first.
    pub fn first(&self) -> &Seat {
        &self[0]
    }
}

/// The only one.
impl From<Seat> for Seats {
    fn from(seat: Seat) -> Seats {
        Seats(seat)
    }
}

impl Deref for Seats {
    type Target = [Seat];

    fn deref(&self) -> &[Seat] {
        match &*self.0.0 {
            Listeners::One(_) => std::slice::from_ref(&self.0),
            Listeners::Several(seats) => seats,
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
        let mut seats = Seats::from(of("1"));
        seats.push(of("2"));
        seats.push(of("3"));
        let resources =
            |seats: &Seats| seats.iter().map(|seat| seat.resource().to_owned()).collect::<Vec<_>>();
        assert_eq!(resources(&seats), ["1", "2", "3"]);
        seats.remove("1");
        assert_eq!((resources(&seats), seats.first().resource()), (vec!["2".into(), "3".into()], "2"));
        seats.remove("3");
        assert!(Arc::ptr_eq(&seats.0.0, &of("2").0), "one seat is the client itself");
        seats.remove("2");
        assert_eq!(resources(&seats), ["2"]);
    }
}
