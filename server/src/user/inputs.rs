//! Memory of what has been read of connections and not been handled, for the share of their accounts.
//!
//! Only a connection that has any has a place here, and most never do: the worker notes it after each of their turns.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::runtime::driver::ConnId;

/// Room for so many connections is kept when the last of them has nothing any more.
const KEPT_MAX: usize = 256;

/// Memory of one connection's input, in bytes.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Unhandled {
    /// Of what waits for a turn.
    pub waiting: usize,
    /// Of a stanza that has not come to its end.
    pub unfinished: usize,
}

/// The input of a worker's connections.
#[derive(Debug, Default)]
pub struct Inputs {
    by_conn: HashMap<ConnId, Unhandled, FixedState>,
}

impl Inputs {
    /// What a connection has.
    pub fn of(&self, conn: ConnId) -> Unhandled {
        match self.by_conn.is_empty() {
            true => Unhandled::default(),
            false => self.by_conn.get(&conn).copied().unwrap_or_default(),
        }
    }

    /// Notes what a connection has now.
    pub fn set(&mut self, conn: ConnId, now: Unhandled) {
        match now == Unhandled::default() {
            true => self.forget(conn),
            false => drop(self.by_conn.insert(conn, now)),
        }
    }

    /// A connection has nothing any more.
    pub fn forget(&mut self, conn: ConnId) {
        if self.by_conn.is_empty() {
            return;
        }
        self.by_conn.remove(&conn);
        if self.by_conn.is_empty() && self.by_conn.capacity() > KEPT_MAX {
            self.by_conn = HashMap::default();
        }
    }

    /// Connections that have something.
    pub fn len(&self) -> usize {
        self.by_conn.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.by_conn.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_a_place_while_it_has_input() {
        let conn = |index| ConnId { index, generation: 1 };
        let mut inputs = Inputs::default();
        let some = Unhandled { waiting: 3, unfinished: 4 };
        inputs.set(conn(1), Unhandled::default());
        assert!(inputs.is_empty());
        for index in 0..1000 {
            inputs.set(conn(index), some);
        }
        assert_eq!((inputs.of(conn(7)), inputs.len()), (some, 1000));
        assert_eq!(
            inputs.of(ConnId { index: 7, generation: 2 }),
            Unhandled::default(),
            "its successor's is its own"
        );
        for index in 0..1000 {
            inputs.set(conn(index), Unhandled::default());
        }
        assert_eq!((inputs.len(), inputs.by_conn.capacity()), (0, 0), "a crowd's room is given back");
    }
}
