//! How many requests an address may make in a minute, and have under way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use whimbrel_address::Block;

use crate::quota::{Crowd, Quota};

/// Milliseconds of the window in which requests are counted.
const WINDOW_MS: u64 = 60_000;

/// Requests by address; clones count together.
#[derive(Clone)]
pub struct Pace(Arc<Counts>);

struct Counts {
    minute: Mutex<Quota>,
    under_way: Mutex<HashMap<Block, u32, RandomState>>,
}

/// A request under way, counted off when it is dropped.
pub struct PaceGuard {
    pace: Pace,
    address: Block,
}

impl Default for Pace {
    fn default() -> Pace {
        // Addresses beyond those that are told apart share one count: none is shut out for another's sake.
        let minute = Mutex::new(Quota::new(WINDOW_MS, Crowd::Shares));
        Pace(Arc::new(Counts { minute, under_way: Mutex::default() }))
    }
}

impl Pace {
    /// Counts a request.
    ///
    /// # Errors
    /// The address has made as many in this minute: the seconds until the next one.
    pub fn take(&self, address: Block, per_minute: u32, now_ms: u64) -> Result<(), u64> {
        let mut minute = self.0.minute.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = minute.take(&[(address, per_minute)], now_ms);
        if taken { Ok(()) } else { Err((WINDOW_MS - now_ms % WINDOW_MS).div_ceil(1000)) }
    }

    /// One more request of an address under way; `None` when it has `most` already.
    pub fn enter(&self, address: Block, most: u32) -> Option<PaceGuard> {
        let mut under_way = self.under_way();
        if under_way.get(&address).is_some_and(|&count| count >= most) {
            return None;
        }
        *under_way.entry(address).or_insert(0) += 1;
        drop(under_way);
        Some(PaceGuard { pace: self.clone(), address })
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Block, u32, RandomState>> {
        self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PaceGuard {
    fn drop(&mut self) {
        let mut under_way = self.pace.under_way();
        if let Some(count) = under_way.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> Block {
        Block::of(std::net::Ipv4Addr::from(n).into())
    }

    #[test]
    fn a_request_that_is_over_makes_room_for_the_next() {
        let pace = Pace::default();
        let first = pace.enter(address(1), 1).unwrap();
        assert!(pace.enter(address(1), 1).is_none());
        assert!(pace.enter(address(2), 1).is_some());
        drop(first);
        assert!(pace.enter(address(1), 1).is_some());
        assert!(pace.under_way().is_empty());
    }

    #[test]
    fn an_address_that_asks_too_often_is_told_when_the_minute_is_over() {
        let pace = Pace::default();
        assert_eq!(pace.take(address(1), 1, 600_000), Ok(()));
        assert_eq!(pace.take(address(1), 1, 600_000), Err(60));
        assert_eq!(pace.take(address(1), 1, 659_001), Err(1));
        assert_eq!(pace.take(address(2), 1, 659_001), Ok(()));
        assert_eq!(pace.take(address(1), 1, 660_000), Ok(()));
    }
}
