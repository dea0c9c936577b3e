//! Which connections there are, and which one must go when there is no room.
//!
//! | a connection | ended for the sake of |
//! | --- | --- |
//! | waits for a head: it is new, idle, or has sent a part | any new connection, when its address's share or everything is taken |
//! | waits for a body | another that waits for a body, when those have three quarters of all places |
//! | is being answered | nobody |
//!
//! The one goes that has waited longest, of the address that has most (the address itself, when its share is taken). So a
//! head that is complete is never pushed out by one that is not; and since bodies never have all places, a new connection
//! finds one, and a request that comes whole is served.
//!
//! A service with several features divides its places into shares ([`Share`]). A connection belongs to none of them while it
//! waits for a head: only the head says which feature it is for. From then on its request takes a place of that feature's
//! share ([`Turn::join`]), until its answer has been handed over; the bound of those that wait for a body holds in each share
//! by itself. With as many places in all as the shares have together, no feature can take a place from another.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::turn::Turn;
use whimbrel_address::Block;

/// This part of the places is never taken by connections that wait for a body.
const HEADS_PART: usize = 4;

/// All connections of a service; clones are the same.
#[derive(Clone, Default)]
pub struct Places {
    table: Arc<Mutex<Table>>,
    /// Told when a place becomes free, or could be made free.
    changes: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Table {
    rows: HashMap<u64, Row>,
    of: HashMap<Block, usize>,
    next: u64,
    /// [`Limits::all`] as of the last connection.
    all: usize,
    /// Connections ended for others that nobody has asked about.
    displaced: u64,
}

/// A part of the places, which the requests of one feature take theirs from.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Tells shares apart.
    pub number: usize,
    /// Requests under way at a time at most.
    pub most: usize,
}

/// Where a turn's connection has its place: the table, and the number of its row.
#[derive(Clone, Debug)]
pub(crate) struct At(Weak<Mutex<Table>>, u64);

impl At {
    /// How many places are taken, of how many.
    pub(crate) fn fill(&self) -> (usize, usize) {
        self.with(|table| (table.rows.len(), table.all)).unwrap_or_default()
    }

    /// A connection has begun to wait for a body: if too many do, one goes.
    pub(crate) fn bound_bodies(&self) {
        self.with(|table| table.bound_bodies(None, table.all));
    }

    /// The request of this connection takes its place from a share.
    pub(crate) fn join(&self, turn: &Turn, share: Share) -> Result<(), Full> {
        self.with(|table| table.join(self.1, turn, share)).unwrap_or(Err(Full::Share))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Table) -> T) -> Option<T> {
        let table = self.0.upgrade()?;
        let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
        Some(work(&mut table))
    }
}

#[derive(Debug)]
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
}

impl Places {
    /// Takes a place for a new connection. A `trusted` one speaks for many, so it is bound by no share, and the last to
    /// make room.
    ///
    /// # Errors
    /// There is none, and none can be made.
    pub fn enter(&self, block: Block, trusted: bool, limits: Limits) -> Result<Place, Full> {
        let mut table = self.table();
        table.all = limits.all;
        let has = table.of.get(&block).copied().unwrap_or(0);
        let heads = |row: &Row| row.turn.head_waited_for_since();
        if !trusted && has >= limits.of_block {
            let own = |row: &Row| heads(row).filter(|_| row.block == block);
            let goes = table.longest_waiting(Some(block), own).ok_or(Full::Share)?;
            table.end(goes);
        } else if table.rows.len() >= limits.all {
            let goes = table.longest_waiting(Some(block), heads).ok_or(Full::All)?;
            table.end(goes);
        }
        let number = table.next;
        let turn = Turn::new(self.changes.clone(), At(Arc::downgrade(&self.table), number));
        table.next += 1;
        *table.of.entry(block).or_insert(0) += 1;
        table.rows.insert(number, Row { block, trusted, turn: turn.clone(), end: None });
        Ok(Place { places: self.clone(), number, turn })
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

    /// Ends all connections, whatever is under way on them.
    pub fn end_all(&self) {
        let rows: Vec<u64> = self.table().rows.keys().copied().collect();
        for number in rows {
            let row = self.table().remove(number);
            if let Some(end) = row.and_then(|row| row.end) {
                end.abort();
            }
        }
    }

    /// Connections that were ended for others since this was asked last.
    pub fn take_displaced(&self) -> u64 {
        std::mem::take(&mut self.table().displaced)
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
    /// The connection that makes room, among those that have waited since a time: for one more of `newcomer`, if there is
    /// one.
    fn longest_waiting(
        &self,
        newcomer: Option<Block>,
        since: impl Fn(&Row) -> Option<Instant>,
    ) -> Option<u64> {
        // The newcomer counts: if its address has most with it, that address makes room for it.
        let has = |block: Block| {
            self.of.get(&block).map_or(0, |&has| has + usize::from(newcomer.is_some_and(|new| new == block)))
        };
        let waiting = self.rows.iter().filter_map(|(&number, row)| {
            Some(((!row.trusted, has(row.block), Reverse(since(row)?), Reverse(number)), number))
        });
        waiting.max().map(|(_, number)| number)
    }

    /// Of those in one share (or in none) that wait for a body one goes when they have more than three quarters of its
    /// places: what is left is for heads.
    fn bound_bodies(&mut self, share: Option<usize>, places: usize) {
        let bodies = |row: &Row| row.turn.body_waited_for_since().filter(|_| row.turn.share() == share);
        let most = (places - places / HEADS_PART).max(1);
        if self.rows.values().filter(|row| bodies(row).is_some()).count() > most
            && let Some(goes) = self.longest_waiting(None, bodies)
        {
            self.end(goes);
        }
    }

    fn join(&mut self, number: u64, turn: &Turn, share: Share) -> Result<(), Full> {
        let others = self.rows.iter().filter(|(other, _)| **other != number);
        let taken = others.filter(|(_, row)| row.turn.share() == Some(share.number)).count();
        // Without a row the connection has made room for another, and ends.
        if taken >= share.most || !self.rows.contains_key(&number) {
            return Err(Full::Share);
        }
        turn.set_share(share.number);
        self.bound_bodies(Some(share.number), share.most);
        Ok(())
    }

    fn end(&mut self, number: u64) {
        self.displaced += 1;
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
mod tests;
