//! The sessions there are, and how many of them each address has.
//!
//! When there are as many as may be, a newcomer takes the place of one that has not logged in, as a connection does on a worker
//! ([`Takers`]): of the oldest of the address that has most of them, in the network that has most.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use whimbrel_address::Block;

use super::seat::Seat;
use crate::admission::Takers;

/// An address (IPv6: one /64) has this part of all sessions at most.
const ADDRESS_PART: usize = 8;

/// A session in the table.
struct Entry {
    seat: Arc<Seat>,
    /// It has not logged in.
    is_early: bool,
}

/// Where the place of a new session comes from.
pub(super) enum Place {
    /// There was room.
    Free,
    /// From this session, which is in the table no more and is to end.
    Of(Arc<Seat>),
}

/// Sessions by their ids.
#[derive(Default)]
pub(super) struct Seats {
    by_id: HashMap<Box<str>, Entry, RandomState>,
    /// How many each address has; none that has none.
    of_address: HashMap<Block, usize, RandomState>,
    /// Who has most of those that have not logged in.
    takers: Takers,
    /// Ids of those, by address, oldest first. Some of them may have logged in since, or gone.
    early: HashMap<Block, VecDeque<Box<str>>, RandomState>,
}

impl Seats {
    /// Whether there is a place for one more, of this address, where there are `most` in all.
    pub(super) fn has_place(&self, peer: IpAddr, most: usize) -> bool {
        let of_address = self.of_address.get(&Block::of(peer)).copied().unwrap_or(0);
        of_address < most.div_ceil(ADDRESS_PART)
            && (self.by_id.len() < most || self.oldest_early(peer).is_some())
    }

    /// Adds a session that has not logged in, of this address, where there are `most` in all; `None`: there is no place for it.
    pub(super) fn take_place(
        &mut self,
        (peer, most): (IpAddr, usize),
        id: Box<str>,
        seat: &Arc<Seat>,
    ) -> Option<Place> {
        if !self.has_place(peer, most) {
            return None;
        }
        let place = match self.by_id.len() < most {
            true => Place::Free,
            false => {
                let oldest: Box<str> = self.oldest_early(peer)?.into();
                Place::Of(self.remove(&oldest)?)
            }
        };
        self.insert(id, seat.clone(), true);
        Some(place)
    }

    /// The session that gives up its place for one of this address.
    fn oldest_early(&self, peer: IpAddr) -> Option<&str> {
        let taker = self.takers.must_yield(peer)?;
        self.early.get(&taker)?.front().map(|id| &**id)
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Seat>> {
        self.by_id.get(id).map(|entry| entry.seat.clone())
    }

    /// Adds a session. `is_early`: it has not logged in.
    pub(super) fn insert(&mut self, id: Box<str>, seat: Arc<Seat>, is_early: bool) {
        let (peer, address) = (seat.peer, Block::of(seat.peer));
        *self.of_address.entry(address).or_insert(0) += 1;
        if is_early {
            self.takers.count(peer, 1);
            self.early.entry(address).or_default().push_back(id.clone());
        }
        let before = self.by_id.insert(id, Entry { seat, is_early });
        debug_assert!(before.is_none(), "ids are random");
    }

    /// A session has logged in: it gives up its place for nobody.
    pub(super) fn logged_in(&mut self, id: &str) {
        let Some(entry) = self.by_id.get_mut(id).filter(|entry| entry.is_early) else { return };
        entry.is_early = false;
        let peer = entry.seat.peer;
        self.takers.count(peer, -1);
        self.tidy(Block::of(peer));
    }

    /// Takes a session out.
    pub(super) fn remove(&mut self, id: &str) -> Option<Arc<Seat>> {
        let Entry { seat, is_early } = self.by_id.remove(id)?;
        let address = Block::of(seat.peer);
        match self.of_address.get_mut(&address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.of_address.remove(&address)),
        }
        if is_early {
            self.takers.count(seat.peer, -1);
            self.tidy(address);
        }
        Some(seat)
    }

    /// Forgets those at the head that are not early any more. The rest behind them is not older than `limits.preauth_seconds`.
    fn tidy(&mut self, address: Block) {
        let Some(queue) = self.early.get_mut(&address) else { return };
        let is_early = |id: &str| self.by_id.get(id).is_some_and(|entry| entry.is_early);
        while queue.front().is_some_and(|id| !is_early(id)) {
            queue.pop_front();
        }
        if queue.is_empty() {
            self.early.remove(&address);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Seat>> {
        self.by_id.values().map(|entry| &entry.seat)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::bosh::body::{Bounds, Request};
    use crate::web::bosh::link::Reader;
    use crate::web::bosh::seat::{Socket, Ticket};
    use crate::web::bosh::session::Session;
    use crate::web::bosh::terms::Rules;

    fn seat(peer: IpAddr) -> Arc<Seat> {
        let body = b"<body xmlns='http://jabber.org/protocol/httpbind' rid='1' to='x'/>";
        let request = Request::read(body, Bounds { depth_max: 8 }).expect("a request");
        let (ticket, _): (Ticket, _) = tokio::sync::oneshot::channel();
        let rules = Rules {
            wait_seconds_max: 60,
            inactivity_seconds: 30,
            pause_seconds_max: 120,
            polling_seconds: 2,
        };
        let session = Session::begin("id", request, ticket, &rules, 0);
        Seat::new(peer, session, Socket::Closed, (Reader::default(), false))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn is_free(place: Option<Place>) -> bool {
        matches!(place, Some(Place::Free))
    }

    #[test]
    fn an_address_has_its_part_and_gets_it_back() {
        let (one, other) = (ip("127.0.0.1"), ip("192.0.2.1"));
        let mut seats = Seats::default();
        for id in ["a", "b"] {
            assert!(is_free(seats.take_place((one, 16), id.into(), &seat(one))));
        }
        assert!(seats.take_place((one, 16), "c".into(), &seat(one)).is_none(), "two of sixteen");
        assert!(seats.has_place(other, 16) && !seats.has_place(one, 16) && seats.get("c").is_none());
        seats.remove("a");
        seats.remove("a");
        assert!(seats.has_place(one, 16));
        seats.remove("b");
        assert!(
            seats.of_address.is_empty() && seats.early.is_empty(),
            "nothing is left of an address that is gone"
        );
    }

    /// The address whose oldest session gives up its place for a newcomer, and nobody's when there is none.
    fn displaced(seats: &mut Seats, id: &str, peer: &str) -> String {
        match seats.take_place((ip(peer), 4), id.into(), &seat(ip(peer))) {
            Some(Place::Free) => "free".into(),
            Some(Place::Of(seat)) => seat.peer.to_string(),
            None => "none".into(),
        }
    }

    #[test]
    fn the_oldest_of_the_largest_taker_gives_up_its_place_unless_it_has_logged_in() {
        let mut seats = Seats::default();
        for (id, peer) in [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3"), ("d", "192.0.2.1")] {
            assert_eq!(displaced(&mut seats, id, peer), "free", "{id}");
        }
        seats.logged_in("c");
        seats.logged_in("c");
        // Two of one network are early, and one of another.
        assert_eq!(displaced(&mut seats, "x", "192.0.2.2"), "none", "its network would have as many");
        assert_eq!(displaced(&mut seats, "e", "198.51.100.1"), "10.0.0.2");
        assert!(seats.get("b").is_none() && seats.get("a").is_some());
        assert_eq!(displaced(&mut seats, "x", "203.0.113.1"), "none", "each network has one");
        seats.logged_in("a");
        assert_eq!(
            displaced(&mut seats, "x", "203.0.113.1"),
            "none",
            "those that have logged in give up nothing"
        );
        for id in ["a", "c", "d", "e"] {
            assert!(seats.remove(id).is_some());
        }
        assert!(seats.takers.must_yield(ip("10.0.0.1")).is_none() && seats.early.is_empty());
    }
}
