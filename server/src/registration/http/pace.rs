//! How many requests an address may have under way.

use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use whimbrel_http::Block;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> Block {
        Block::of(std::net::Ipv4Addr::from(n).into())
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
