//! The sessions there are, and how many of them each address has.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use whimbrel_address::Block;

use super::seat::Seat;

/// An address (IPv6: one /64) has this part of all sessions at most.
const ADDRESS_PART: usize = 8;

/// Sessions by their ids.
#[derive(Default)]
pub(super) struct Seats {
    by_id: HashMap<Box<str>, Arc<Seat>, RandomState>,
    /// How many each address has; none that has none.
    of_address: HashMap<Block, usize, RandomState>,
}

impl Seats {
    /// Whether there may be one more, of this address, where there are `most` in all.
    pub(super) fn has_room(&self, address: Block, most: usize) -> bool {
        let of_address = self.of_address.get(&address).copied().unwrap_or(0);
        self.by_id.len() < most && of_address < most.div_ceil(ADDRESS_PART)
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Seat>> {
        self.by_id.get(id).cloned()
    }

    pub(super) fn insert(&mut self, id: Box<str>, seat: Arc<Seat>) {
        *self.of_address.entry(Block::of(seat.peer)).or_insert(0) += 1;
        let before = self.by_id.insert(id, seat);
        debug_assert!(before.is_none(), "ids are random");
    }

    pub(super) fn remove(&mut self, id: &str) {
        let Some(seat) = self.by_id.remove(id) else { return };
        let address = Block::of(seat.peer);
        match self.of_address.get_mut(&address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.of_address.remove(&address)),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Seat>> {
        self.by_id.values()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

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

    #[test]
    fn an_address_has_its_part_and_gets_it_back() {
        let (one, other) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv4Addr::new(192, 0, 2, 1)));
        let mut seats = Seats::default();
        for id in ["a", "b"] {
            assert!(seats.has_room(Block::of(one), 16));
            seats.insert(id.into(), seat(one));
        }
        assert!(!seats.has_room(Block::of(one), 16), "two of sixteen");
        assert!(seats.has_room(Block::of(other), 16) && !seats.has_room(Block::of(other), 2));
        seats.remove("a");
        seats.remove("a");
        assert!(seats.has_room(Block::of(one), 16));
        seats.remove("b");
        assert!(seats.of_address.is_empty(), "nothing is left of an address that is gone");
    }
}
