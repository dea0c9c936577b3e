//! Who may connect: counts of connections, shared by all workers.
//!
//! Touched once when a connection opens, once when it binds and once when it closes; never per stanza.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use whimbrel_address::Block;

use crate::limits::Limits;

/// Which limit a connection met.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AdmissionRefusal {
    /// `limits.sessions`.
    Sessions,
    /// `limits.sessions_unauthenticated`.
    Unauthenticated,
    /// `limits.sessions_per_address`.
    PerAddress,
}

/// Where the place of a new connection comes from.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// There was room.
    Free,
    /// `limits.sessions_unauthenticated` is reached: the oldest connection from this address that has no resource is to
    /// be ended. Until it is, there is one more than the limit allows.
    InPlaceOf(Block),
}

/// The counts.
#[derive(Default)]
pub struct Admission {
    open: AtomicU32,
    unauthenticated: AtomicU32,
    takers: Mutex<Takers>,
}

/// Connections from one address.
#[derive(Default)]
struct Count {
    all: u32,
    /// Of these, those that have not bound a resource.
    unauthenticated: u32,
}

/// Who has how many connections, and who has most of those that have not logged in: of all networks, and of the addresses
/// of each network.
#[derive(Default)]
pub struct Takers {
    addresses: HashMap<Block, Count, RandomState>,
    networks: HashMap<Block, u32, RandomState>,
    largest_networks: BTreeSet<(u32, Block)>,
    largest_addresses: BTreeSet<(Block, u32, Block)>,
}

impl Takers {
    /// Counts one that has not logged in more (or less) at an address.
    pub fn count(&mut self, peer: IpAddr, step: i32) {
        let (address, network) = (Block::of(peer), Block::network(peer));
        let of_address = self.addresses.entry(address).or_default();
        let (before, now) =
            (of_address.unauthenticated, of_address.unauthenticated.saturating_add_signed(step));
        of_address.unauthenticated = now;
        if now == 0 && of_address.all == 0 {
            self.addresses.remove(&address);
        }
        self.largest_addresses.remove(&(network, before, address));
        if now > 0 {
            self.largest_addresses.insert((network, now, address));
        }
        let of_network = self.networks.entry(network).or_insert(0);
        let (before, now) = (*of_network, of_network.saturating_add_signed(step));
        *of_network = now;
        self.largest_networks.remove(&(before, network));
        match now > 0 {
            true => drop(self.largest_networks.insert((now, network))),
            false => drop(self.networks.remove(&network)),
        }
    }

    /// The address that is to give up a place for a newcomer: one of the network that has most, if the newcomer's has
    /// fewer even with it; or one of the same network that has more than the newcomer's address would.
    pub fn must_yield(&self, peer: IpAddr) -> Option<Block> {
        let (address, network) = (Block::of(peer), Block::network(peer));
        let &(most, largest) = self.largest_networks.last()?;
        let own = self.networks.get(&network).copied().unwrap_or(0);
        let others = own + 1 < most;
        if !others && own < most {
            return None;
        }
        let within = if others { largest } else { network };
        let range = (within, 0, Block::MIN)..=(within, u32::MAX, Block::MAX);
        let &(_, count, taker) = self.largest_addresses.range(range).next_back()?;
        let own = self.addresses.get(&address).map_or(0, |count| count.unauthenticated);
        (others || own + 1 < count).then_some(taker)
    }
}

impl Admission {
    /// Counts a new, unauthenticated connection, or says which limit forbids it.
    ///
    /// # Errors
    /// The limit; then nothing was counted.
    pub fn admit(&self, peer: IpAddr, limits: &Limits) -> Result<Admitted, AdmissionRefusal> {
        let mut takers = self.takers();
        if self.open.load(Ordering::Relaxed) >= limits.sessions {
            return Err(AdmissionRefusal::Sessions);
        }
        let unauthenticated = self.unauthenticated.load(Ordering::Relaxed);
        let full = unauthenticated >= limits.sessions_unauthenticated;
        // Room is made in no time, so more than a few over the limit are not to be.
        let over = limits.sessions_unauthenticated.saturating_add(limits.sessions_unauthenticated / 16 + 8);
        let taker = match full {
            true if unauthenticated >= over => return Err(AdmissionRefusal::Unauthenticated),
            true => Some(takers.must_yield(peer).ok_or(AdmissionRefusal::Unauthenticated)?),
            false => None,
        };
        let all = takers.addresses.get(&Block::of(peer)).map_or(0, |count| count.all);
        if all >= limits.sessions_per_address {
            return Err(AdmissionRefusal::PerAddress);
        }
        self.enter(&mut takers, peer, false);
        Ok(taker.map_or(Admitted::Free, Admitted::InPlaceOf))
    }

    /// Counts a connection that another program had counted, whatever the limits say now.
    pub fn adopt(&self, peer: IpAddr, established: bool) {
        self.enter(&mut self.takers(), peer, established);
    }

    fn enter(&self, takers: &mut Takers, peer: IpAddr, established: bool) {
        self.open.fetch_add(1, Ordering::Relaxed);
        takers.addresses.entry(Block::of(peer)).or_default().all += 1;
        if !established {
            self.unauthenticated.fetch_add(1, Ordering::Relaxed);
            takers.count(peer, 1);
        }
    }

    /// A counted connection has bound a resource.
    pub fn established(&self, peer: IpAddr) {
        self.unauthenticated.fetch_sub(1, Ordering::Relaxed);
        self.takers().count(peer, -1);
    }

    /// A counted connection is gone; `was_established` says whether [`Admission::established`] was called for it.
    pub fn release(&self, peer: IpAddr, was_established: bool) {
        let mut takers = self.takers();
        self.open.fetch_sub(1, Ordering::Relaxed);
        if !was_established {
            self.unauthenticated.fetch_sub(1, Ordering::Relaxed);
            takers.count(peer, -1);
        }
        let address = Block::of(peer);
        if let Some(count) = takers.addresses.get_mut(&address) {
            count.all = count.all.saturating_sub(1);
            if count.all == 0 {
                takers.addresses.remove(&address);
            }
        }
    }

    /// Connections counted now: all, and those that have not bound a resource.
    pub fn counts(&self) -> (u32, u32) {
        (self.open.load(Ordering::Relaxed), self.unauthenticated.load(Ordering::Relaxed))
    }

    fn takers(&self) -> MutexGuard<'_, Takers> {
        self.takers.lock().expect("no code panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn address(text: &str) -> Block {
        Block::of(ip(text))
    }

    #[test]
    fn each_limit_refuses_and_a_release_makes_room() {
        let limits =
            Limits { sessions: 3, sessions_unauthenticated: 2, sessions_per_address: 1, ..Limits::default() };
        let admission = Admission::default();
        let (a, b, c) = (ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.3"));
        assert_eq!(admission.admit(a, &limits), Ok(Admitted::Free));
        assert_eq!(admission.admit(a, &limits), Err(AdmissionRefusal::PerAddress));
        assert_eq!(admission.admit(b, &limits), Ok(Admitted::Free));
        assert_eq!(admission.admit(c, &limits), Err(AdmissionRefusal::Unauthenticated));
        admission.established(a);
        assert_eq!(admission.admit(c, &limits), Ok(Admitted::Free));
        assert_eq!(admission.admit(ip("::1"), &limits), Err(AdmissionRefusal::Sessions));
        admission.release(a, true);
        admission.release(b, false);
        admission.release(c, false);
        assert_eq!(admission.counts(), (0, 0));
        let takers = admission.takers();
        assert!(takers.addresses.is_empty() && takers.networks.is_empty());
        assert!(takers.largest_networks.is_empty() && takers.largest_addresses.is_empty());
    }

    #[test]
    fn when_places_are_short_the_largest_taker_yields_to_those_with_fewer() {
        let limits = Limits { sessions_unauthenticated: 6, ..Limits::default() };
        let admission = Admission::default();
        let (a, b, near_a) = (ip("10.0.0.1"), ip("10.0.1.1"), ip("10.0.0.2"));
        for peer in [a, a, a, a, near_a, b] {
            assert_eq!(admission.admit(peer, &limits), Ok(Admitted::Free));
        }
        // Networks have five places and one.
        for peer in [b, ip("192.0.2.1")] {
            assert_eq!(admission.admit(peer, &limits), Ok(Admitted::InPlaceOf(address("10.0.0.1"))));
            admission.release(a, false);
        }
        // Three, two, one. Inside the largest, its largest address yields to the others only.
        assert_eq!(admission.admit(a, &limits), Err(AdmissionRefusal::Unauthenticated));
        assert_eq!(admission.admit(near_a, &limits), Err(AdmissionRefusal::Unauthenticated), "two each");
        assert_eq!(admission.admit(ip("10.0.0.3"), &limits), Ok(Admitted::InPlaceOf(address("10.0.0.1"))));
        admission.release(a, false);
        assert_eq!(admission.counts(), (6, 6));
    }

    #[test]
    fn more_than_a_few_over_the_limit_are_never_admitted() {
        let limits = Limits { sessions_unauthenticated: 100, ..Limits::default() };
        let admission = Admission::default();
        for _ in 0..100 {
            admission.admit(ip("10.0.0.1"), &limits).unwrap();
        }
        let admitted = (0..100u8).filter(|n| admission.admit(IpAddr::from([11, 0, *n, 1]), &limits).is_ok());
        assert_eq!(admitted.count(), 100 / 16 + 8);
    }
}
