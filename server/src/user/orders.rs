//! Orders of operators for rooms that write or read at the moment. Their places are in the rooms' inboxes, among the stanzas, so
//! that each is carried out when its turn has come.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

use crate::user::jobs::Then;

/// Orders that wait for one room at most.
const ORDERS_MAX: usize = 64;

/// What waits, by the name of the room.
#[derive(Default)]
pub struct Orders(HashMap<Box<str>, VecDeque<Then>, RandomState>);

impl Orders {
    /// Whether one more may wait for a room.
    pub fn has_room(&self, room: &str) -> bool {
        self.0.get(room).is_none_or(|orders| orders.len() < ORDERS_MAX)
    }

    /// An order waits, behind those before it.
    pub fn put(&mut self, room: &str, order: Then) {
        self.0.entry(room.into()).or_default().push_back(order);
    }

    /// The order whose turn has come.
    pub fn take(&mut self, room: &str) -> Option<Then> {
        let orders = self.0.get_mut(room)?;
        let next = orders.pop_front();
        if orders.is_empty() {
            self.0.remove(room);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_wait_for_their_room_up_to_a_limit() {
        let mut orders = Orders::default();
        while orders.has_room("hall") {
            orders.put("hall", Box::new(|_, _, _| {}));
        }
        assert!(orders.has_room("garden") && orders.take("garden").is_none());
        for _ in 0..ORDERS_MAX {
            assert!(orders.take("hall").is_some());
        }
        assert!(orders.take("hall").is_none() && orders.0.is_empty());
    }
}
