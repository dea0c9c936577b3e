//! How many connections and requests an address may have: kept in memory, to spare the directory from whoever does
//! nothing but ask.

use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::admission::AddressKey;

/// Addresses that are told apart in one minute; further ones share one count among them.
const ADDRESSES_MAX: usize = 65_536;

/// Open connections by address.
#[derive(Clone, Default)]
pub struct Connections(Arc<Mutex<HashMap<AddressKey, u32, RandomState>>>);

/// Counts its connection off when it is dropped.
pub struct Place {
    connections: Connections,
    address: AddressKey,
}

impl Connections {
    /// One more of an address; `None` when it has `most` already.
    pub fn enter(&self, address: AddressKey, most: u32) -> Option<Place> {
        let mut open = self.0.lock().expect("nothing panics while it holds this lock");
        let count = open.entry(address).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { connections: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.0.lock().expect("nothing panics while it holds this lock");
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Requests of the current minute by address.
#[derive(Default)]
pub struct Minute {
    number: u64,
    requests: HashMap<AddressKey, u32, RandomState>,
    /// Of the addresses that found no place of their own.
    others: u32,
}

impl Minute {
    /// Counts a request; `false` when the address has had its `limit`.
    pub fn take(&mut self, address: AddressKey, limit: u32, now_ms: u64) -> bool {
        let number = now_ms / 60_000;
        if self.number != number {
            *self = Minute { number, ..Minute::default() };
        }
        let crowded = self.requests.len() >= ADDRESSES_MAX && !self.requests.contains_key(&address);
        let count = match crowded {
            true => &mut self.others,
            false => self.requests.entry(address).or_insert(0),
        };
        if *count >= limit {
            return false;
        }
        *count += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> AddressKey {
        AddressKey::new(std::net::Ipv4Addr::from(n).into())
    }

    #[test]
    fn an_address_has_its_requests_each_minute() {
        let mut minute = Minute::default();
        assert!(minute.take(address(1), 2, 0) && minute.take(address(1), 2, 59_999));
        assert!(!minute.take(address(1), 2, 59_999));
        assert!(minute.take(address(2), 2, 59_999));
        assert!(minute.take(address(1), 2, 60_000));
    }

    #[test]
    fn memory_is_bounded_and_a_crowd_does_not_shut_out_who_was_there() {
        let mut minute = Minute::default();
        for n in 0..2 * u32::try_from(ADDRESSES_MAX).unwrap() {
            minute.take(address(n), 3, 0);
        }
        assert_eq!(minute.requests.len(), ADDRESSES_MAX);
        assert!(minute.take(address(0), 3, 0));
        assert!(!minute.take(address(u32::MAX), 3, 0));
    }

    #[test]
    fn a_connection_gives_its_place_back() {
        let connections = Connections::default();
        let first = connections.enter(address(1), 1).unwrap();
        assert!(connections.enter(address(1), 1).is_none());
        assert!(connections.enter(address(2), 1).is_some());
        drop(first);
        assert!(connections.enter(address(1), 1).is_some());
    }
}
