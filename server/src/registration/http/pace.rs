//! How many requests an address may make: kept in memory, to spare the directory from a client that does nothing but ask.

use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use whimbrel_http::Block;

/// Addresses that are told apart in one minute; further ones share one count among them.
const ADDRESSES_MAX: usize = 65_536;

/// Requests under way, by address.
#[derive(Clone, Default)]
pub struct Concurrent(Arc<Mutex<HashMap<Block, u32, RandomState>>>);

/// Counts its request off when it is dropped.
pub struct UnderWay {
    requests: Concurrent,
    address: Block,
}

impl Concurrent {
    /// One more of an address; `None` when it has `most` already.
    pub fn enter(&self, address: Block, most: u32) -> Option<UnderWay> {
        let mut open = self.0.lock().expect("nothing panics while it holds this lock");
        if open.get(&address).is_some_and(|&count| count >= most) {
            return None;
        }
        *open.entry(address).or_insert(0) += 1;
        Some(UnderWay { requests: self.clone(), address })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut open = self.requests.0.lock().expect("nothing panics while it holds this lock");
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
    requests: HashMap<Block, u32, RandomState>,
    /// Of the addresses that found no place of their own.
    others: u32,
}

impl Minute {
    /// Counts a request; `false` when the address has had its `limit`.
    pub fn take(&mut self, address: Block, limit: u32, now_ms: u64) -> bool {
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

    fn address(n: u32) -> Block {
        Block::of(std::net::Ipv4Addr::from(n).into())
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
    fn a_request_that_is_over_makes_room_for_the_next() {
        let requests = Concurrent::default();
        let first = requests.enter(address(1), 1).unwrap();
        assert!(requests.enter(address(1), 1).is_none());
        assert!(requests.enter(address(2), 1).is_some());
        drop(first);
        assert!(requests.enter(address(1), 1).is_some());
    }
}
