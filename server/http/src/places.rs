//! Who has which connection, and who must go when there is no room.
//!
//! An address has a share. When that, or everything, is taken, the connection goes that has waited longest for its
//! client: of the address itself in the first case, of the address that has most in the second. One whose request is
//! being answered is never ended for another's sake.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::turn::Turn;
use whimbrel_address::Block;

/// All connections of a service; clones are the same.
#[derive(Clone, Default)]
pub struct Places {
    table: Arc<Mutex<Table>>,
    /// Told when a place becomes free, or could be made free.
    changes: Arc<Notify>,
}

#[derive(Default)]
struct Table {
    rows: HashMap<u64, Row>,
    of: HashMap<Block, usize>,
    next: u64,
}

struct Row {
    block: Block,
    trusted: bool,
    turn: Turn,
    end: Option<AbortHandle>,
}

/// How many there may be.
#[derive(Copy, Clone, Debug)]
pub struct Limits {
    /// Connections in all.
    pub all: usize,
    /// Of one block.
    pub of_block: usize,
}

/// Why there is no room.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Full {
    /// The block has its share, and each of its connections is being answered.
    Share,
    /// Everything is taken, and each connection is being answered: wait for [`Places::room`].
    All,
}

/// A place, given back when it is dropped.
pub struct Place {
    places: Places,
    number: u64,
    turn: Turn,
    /// Another connection was ended for this one.
    pub displaced: bool,
}

impl Places {
    /// Takes a place for a new connection. A `trusted` one speaks for many, so it is bound by no share, and the last to
    /// make room.
    ///
    /// # Errors
    /// There is none, and none can be made.
    pub fn enter(&self, block: Block, trusted: bool, limits: Limits) -> Result<Place, Full> {
        let mut table = self.table();
        let has = table.of.get(&block).copied().unwrap_or(0);
        let mut displaced = false;
        if !trusted && has >= limits.of_block {
            let goes = table.longest_waiting(block, |row| row.block == block).ok_or(Full::Share)?;
            table.end(goes);
            displaced = true;
        } else if table.rows.len() >= limits.all {
            let goes = table.longest_waiting(block, |_| true).ok_or(Full::All)?;
            table.end(goes);
            displaced = true;
        }
        let turn = Turn::new(self.changes.clone());
        let number = table.next;
        table.next += 1;
        *table.of.entry(block).or_insert(0) += 1;
        table.rows.insert(number, Row { block, trusted, turn: turn.clone(), end: None });
        Ok(Place { places: self.clone(), number, turn, displaced })
    }

    /// Runs what serves a connection, until it ends or its place is needed.
    pub fn serve<F>(&self, place: Place, work: impl FnOnce(Turn) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (number, work) = (place.number, work(place.turn.clone()));
        let task = tokio::spawn(async move {
            work.await;
            drop(place);
        });
        if let Some(row) = self.table().rows.get_mut(&number) {
            row.end = Some(task.abort_handle());
        }
    }

    /// Waits until there may be room where there was none.
    pub async fn room(&self) {
        self.changes.notified().await;
    }

    /// Connections.
    pub fn count(&self) -> usize {
        self.table().rows.len()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The connection that makes room for one more of `newcomer`.
    fn longest_waiting(&self, newcomer: Block, may_go: impl Fn(&Row) -> bool) -> Option<u64> {
        // The newcomer counts: if its address has most with it, that address makes room for it.
        let has = |block: Block| self.of.get(&block).map_or(0, |&has| has + usize::from(block == newcomer));
        let waiting = self.rows.iter().filter(|(_, row)| may_go(row)).filter_map(|(&number, row)| {
            Some((
                (!row.trusted, has(row.block), Reverse(row.turn.waiting_since()?), Reverse(number)),
                number,
            ))
        });
        waiting.max().map(|(_, number)| number)
    }

    fn end(&mut self, number: u64) {
        if let Some(end) = self.remove(number).and_then(|row| row.end) {
            end.abort();
        }
    }

    fn remove(&mut self, number: u64) -> Option<Row> {
        let row = self.rows.remove(&number)?;
        if let Some(has) = self.of.get_mut(&row.block) {
            *has -= 1;
            if *has == 0 {
                self.of.remove(&row.block);
            }
        }
        Some(row)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It is no longer there when it has made room for another.
        self.places.table().remove(self.number);
        self.places.changes.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn block(n: u8) -> Block {
        Block::of([10, 0, 0, n].into())
    }

    const LIMITS: Limits = Limits { all: 4, of_block: 3 };

    /// Connections that never end by themselves; those that are ended are told by number.
    struct World {
        places: Places,
        ended: Arc<Mutex<Vec<u64>>>,
        turns: HashMap<u64, Turn>,
    }

    struct Told(Arc<Mutex<Vec<u64>>>, u64);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(self.1);
        }
    }

    impl World {
        fn new() -> World {
            World { places: Places::default(), ended: Arc::default(), turns: HashMap::new() }
        }

        async fn connect(&mut self, n: u8, trusted: bool) -> Result<u64, Full> {
            // No two begin to wait at the same time.
            tokio::time::advance(std::time::Duration::from_millis(1)).await;
            let place = self.places.enter(block(n), trusted, LIMITS)?;
            let (number, told) = (place.number, Told(self.ended.clone(), place.number));
            self.turns.insert(number, place.turn.clone());
            self.places.serve(place, |_| async move {
                let _told = told;
                pending::<()>().await;
            });
            tokio::task::yield_now().await;
            Ok(number)
        }

        async fn ended(&self) -> Vec<u64> {
            tokio::task::yield_now().await;
            self.ended.lock().unwrap().clone()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_waiting_of_the_address_that_has_most_makes_room() {
        let mut world = World::new();
        for (n, expected) in [(1, 0), (2, 1), (2, 2), (1, 3)] {
            assert_eq!(world.connect(n, false).await, Ok(expected));
        }
        // Both have two: the one that comes would have three, and makes room itself.
        assert_eq!(world.connect(2, false).await, Ok(4));
        assert_eq!(world.ended().await, [1]);
        // Somebody else: the longest waiting of those that have two.
        assert_eq!(world.connect(3, false).await, Ok(5));
        assert_eq!(world.ended().await, [1, 0]);
        assert_eq!(world.places.count(), 4);
        world.turns[&2].served();
        assert_eq!(world.connect(4, false).await, Ok(6));
        assert_eq!(world.ended().await, [1, 0, 4], "one that is being answered stays");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_at_its_share_makes_room_itself_or_gets_none() {
        let mut world = World::new();
        for n in 0..3 {
            assert_eq!(world.connect(1, false).await, Ok(n));
        }
        world.turns[&0].served();
        assert_eq!(world.connect(1, false).await, Ok(3));
        assert_eq!(world.ended().await, [1]);
        world.turns[&2].served();
        world.turns[&3].served();
        assert_eq!(world.connect(1, false).await, Err(Full::Share));
        assert_eq!(world.connect(2, false).await, Ok(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_trusted_one_has_no_share_and_goes_last() {
        let mut world = World::new();
        for n in 0..3 {
            assert_eq!(world.connect(1, true).await, Ok(n));
        }
        assert_eq!(world.connect(2, false).await, Ok(3));
        assert_eq!(world.connect(1, true).await, Ok(4));
        assert_eq!(world.ended().await, [3]);
        assert_eq!(world.connect(3, false).await, Ok(5));
        assert_eq!(world.ended().await, [3, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn where_each_is_being_answered_the_next_one_waits_for_room() {
        let mut world = World::new();
        for n in 0..4 {
            world.connect(n, false).await.unwrap();
        }
        world.turns.values().for_each(Turn::served);
        assert_eq!(world.connect(9, false).await, Err(Full::All));
        let places = world.places.clone();
        let waiting = tokio::spawn(async move { places.room().await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        world.places.table().rows[&2].end.as_ref().unwrap().abort();
        waiting.await.unwrap();
        assert!(world.connect(9, false).await.is_ok());
    }
}
