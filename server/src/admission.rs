//! Who may connect: counts of connections, shared by all workers.
//!
//! Touched once when a connection opens, once when it binds and once when it closes; never per stanza.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::limits::Limits;

/// An address as far as limits care: an IPv4 address, or the /64 of an IPv6 address.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct AddressKey(u64);

impl AddressKey {
    /// The key of an address.
    pub fn new(address: IpAddr) -> AddressKey {
        match address.to_canonical() {
            // 100::/64 is the discard prefix (RFC 6666): no client comes from it.
            IpAddr::V4(v4) => AddressKey(u64::from(u32::from(v4)) | 0x0100_0000_0000_0000),
            IpAddr::V6(v6) => AddressKey((u128::from(v6) >> 64) as u64),
        }
    }
}

/// Which limit a connection met.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `limits.sessions`.
    Sessions,
    /// `limits.sessions_unauthenticated`.
    Unauthenticated,
    /// `limits.sessions_per_address`.
    PerAddress,
}

/// The counts.
#[derive(Default)]
pub struct Admission {
    open: AtomicU32,
    unauthenticated: AtomicU32,
    addresses: Mutex<HashMap<AddressKey, u32, RandomState>>,
}

impl Admission {
    /// Counts a new, unauthenticated connection, or says which limit forbids it.
    pub fn admit(&self, address: AddressKey, limits: &Limits) -> Result<(), Refusal> {
        if !take_one(&self.open, limits.sessions) {
            return Err(Refusal::Sessions);
        }
        if !take_one(&self.unauthenticated, limits.sessions_unauthenticated) {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::Unauthenticated);
        }
        let mut addresses = self.addresses.lock().expect("no code panics while it holds this lock");
        let count = addresses.entry(address).or_insert(0);
        if *count >= limits.sessions_per_address {
            drop(addresses);
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.unauthenticated.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::PerAddress);
        }
        *count += 1;
        Ok(())
    }

    /// Counts a connection that another program had counted, whatever the limits say now.
    pub fn adopt(&self, address: AddressKey, established: bool) {
        self.open.fetch_add(1, Ordering::Relaxed);
        if !established {
            self.unauthenticated.fetch_add(1, Ordering::Relaxed);
        }
        *self
            .addresses
            .lock()
            .expect("no code panics while it holds this lock")
            .entry(address)
            .or_insert(0) += 1;
    }

    /// A counted connection has bound a resource.
    pub fn established(&self) {
        self.unauthenticated.fetch_sub(1, Ordering::Relaxed);
    }

    /// A counted connection is gone; `was_established` says whether [`Admission::established`] was called for it.
    pub fn release(&self, address: AddressKey, was_established: bool) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        if !was_established {
            self.unauthenticated.fetch_sub(1, Ordering::Relaxed);
        }
        let mut addresses = self.addresses.lock().expect("no code panics while it holds this lock");
        if let Some(count) = addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&address);
            }
        }
    }

    /// Connections counted now: all, and those that have not bound a resource.
    pub fn counts(&self) -> (u32, u32) {
        (self.open.load(Ordering::Relaxed), self.unauthenticated.load(Ordering::Relaxed))
    }
}

fn take_one(counter: &AtomicU32, limit: u32) -> bool {
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < limit).then_some(n + 1)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> AddressKey {
        AddressKey::new(text.parse().unwrap())
    }

    #[test]
    fn each_limit_refuses_and_a_release_makes_room() {
        let limits =
            Limits { sessions: 3, sessions_unauthenticated: 2, sessions_per_address: 1, ..Limits::default() };
        let admission = Admission::default();
        let (a, b, c) = (address("10.0.0.1"), address("10.0.0.2"), address("10.0.0.3"));
        assert_eq!(admission.admit(a, &limits), Ok(()));
        assert_eq!(admission.admit(a, &limits), Err(Refusal::PerAddress));
        assert_eq!(admission.admit(b, &limits), Ok(()));
        assert_eq!(admission.admit(c, &limits), Err(Refusal::Unauthenticated));
        admission.established();
        assert_eq!(admission.admit(c, &limits), Ok(()));
        assert_eq!(admission.admit(address("::1"), &limits), Err(Refusal::Sessions));
        admission.release(a, true);
        admission.release(b, false);
        admission.release(c, false);
        assert_eq!(admission.counts(), (0, 0));
    }

    #[test]
    fn an_ipv6_client_counts_by_its_64_and_a_mapped_ipv4_as_itself() {
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
    }
}
