//! A bounded queue from several threads to one worker, which never waits for them.
//!
//! A queue without locks has its reader go round in a loop where a writer has begun and not ended. If both share a processor, and the
//! system has just taken it from the writer, that loop is a whole time slice: milliseconds for every client of the worker. Here the
//! reader finds a queue in which somebody writes empty, and comes again when it is woken, as it is after every writing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::gauge::{Gauge, HighWater};

/// The queue. Whoever writes wakes the worker afterwards.
#[derive(Debug)]
pub struct Intake<T> {
    queue: Mutex<VecDeque<T>>,
    /// How many are in it.
    length: AtomicUsize,
    limit: usize,
    high_water: HighWater,
}

impl<T> Intake<T> {
    /// A queue for `limit` things. Its memory grows with what waits.
    pub fn new(limit: usize) -> Intake<T> {
        Intake {
            queue: Mutex::default(),
            length: AtomicUsize::new(0),
            limit,
            high_water: HighWater::default(),
        }
    }

    /// Appends something. May wait for another writer, or for the reader, for some instructions.
    ///
    /// # Errors
    /// It itself, when there is no room.
    pub fn push(&self, one: T) -> Result<(), T> {
        let mut queue = self.queue.lock().expect("nothing panics while it holds this lock");
        if queue.len() >= self.limit {
            return Err(one);
        }
        queue.push_back(one);
        self.high_water.raise(queue.len());
        self.length.store(queue.len(), Ordering::Release);
        Ok(())
    }

    /// The next one. `None`: there is none, or somebody writes just now and will wake the reader.
    pub fn pop(&self) -> Option<T> {
        let mut queue = self.readable()?;
        let one = queue.pop_front();
        self.length.store(queue.len(), Ordering::Release);
        if queue.is_empty() && queue.capacity() > KEPT_MAX {
            *queue = VecDeque::new();
        }
        one
    }

    /// Whether [`Intake::pop`] has one, if nobody begins to write meanwhile.
    pub fn has_next(&self) -> bool {
        self.readable().is_some_and(|queue| !queue.is_empty())
    }

    fn readable(&self) -> Option<MutexGuard<'_, VecDeque<T>>> {
        if self.is_empty() {
            return None;
        }
        self.queue.try_lock().ok()
    }

    /// How many are in it.
    pub fn len(&self) -> usize {
        self.length.load(Ordering::Acquire)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is no room.
    pub fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    /// How many wait, most that ever waited, limit.
    pub fn gauge(&self) -> Gauge {
        self.high_water.gauge(self.len(), self.limit)
    }
}

/// An empty queue keeps room for so many.
const KEPT_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_keeps_its_order() {
        let intake = Intake::new(3);
        assert!(intake.pop().is_none() && !intake.has_next());
        for n in 0..3 {
            intake.push(n).unwrap();
        }
        assert_eq!((intake.push(3), intake.is_full(), intake.len()), (Err(3), true, 3));
        assert_eq!(std::iter::from_fn(|| intake.pop()).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(intake.gauge(), (0, 3, 3));
    }

    #[test]
    fn its_reader_does_not_wait_for_a_writer_that_has_been_stopped() {
        let intake = Intake::new(8);
        intake.push(1).unwrap();
        let writer = intake.queue.lock().unwrap();
        assert!(intake.pop().is_none() && !intake.has_next());
        drop(writer);
        assert!(intake.has_next() && intake.pop() == Some(1));
    }

    #[test]
    fn what_many_waited_for_is_given_back() {
        let intake = Intake::new(10_000);
        (0..10_000).for_each(|n| intake.push(n).unwrap());
        while intake.pop().is_some() {}
        assert!(intake.queue.lock().unwrap().capacity() <= KEPT_MAX);
    }

    #[test]
    fn all_that_several_threads_write_comes_out_in_the_order_of_each() {
        let intake = Intake::new(16);
        std::thread::scope(|scope| {
            for writer in 0..3 {
                let intake = &intake;
                scope.spawn(move || {
                    for n in 0..2_000 {
                        while intake.push((writer, n)).is_err() {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            let mut next = [0; 3];
            while next != [2_000; 3] {
                match intake.pop() {
                    Some((writer, n)) => {
                        assert_eq!(n, next[writer]);
                        next[writer] += 1;
                    }
                    None => std::thread::yield_now(),
                }
            }
        });
    }
}
