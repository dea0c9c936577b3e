//! Bounded roads between workers: one queue for each ordered pair, so each has one producer and one consumer.
//!
//! ```text
//!   worker 0 ──try_send(1)──▶ [ lane 0→1 ] ──receive(0)──▶ worker 1
//!            ◀──spare(1)───── [ spares   ] ◀─recycle(0)───
//! ```
//! A lane is bounded in batches and in bytes; one that is empty takes any batch, so what is long is late and not lost.
//! Emptied batches go back to where they came from, so that their allocations are used again. Waking the receiver is
//! the sender's task, once for a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rtrb::{Consumer, Producer, PushError, RingBuffer};

/// Emptied batches a lane keeps for its producer at most.
const SPARES_MAX: usize = 16;

/// What is in a lane, for all who want to know.
#[derive(Debug)]
struct Level {
    batches: AtomicUsize,
    high_water: AtomicUsize,
    limit: usize,
    /// Bytes of all batches; for a moment also of one that is just being pushed or has just been taken out.
    bytes: AtomicUsize,
    bytes_high_water: AtomicUsize,
    bytes_limit: usize,
}

/// The producer's end of a lane. Neither end ever waits for the other one, not even in a loop: a worker that the system takes off its
/// processor in the middle of a push keeps nobody.
#[derive(Debug)]
struct Sending<T> {
    /// Each with its bytes.
    batches: Producer<(T, usize)>,
    spares: Consumer<T>,
    level: Arc<Level>,
}

/// The consumer's.
#[derive(Debug)]
struct Receiving<T> {
    batches: Consumer<(T, usize)>,
    spares: Producer<T>,
    level: Arc<Level>,
}

fn lane<T>(limit: usize, bytes_limit: usize) -> (Sending<T>, Receiving<T>) {
    let level = Arc::new(Level {
        batches: AtomicUsize::new(0),
        high_water: AtomicUsize::new(0),
        limit,
        bytes: AtomicUsize::new(0),
        bytes_high_water: AtomicUsize::new(0),
        bytes_limit,
    });
    let (to, batches) = RingBuffer::new(limit);
    let (back, spares) = RingBuffer::new(limit.min(SPARES_MAX));
    let sending = Sending { batches: to, spares, level: level.clone() };
    (sending, Receiving { batches, spares: back, level })
}

impl<T> Sending<T> {
    fn push(&mut self, batch: T, bytes: usize) -> Result<(), T> {
        let level = &*self.level;
        let waiting = level.bytes.load(Ordering::Relaxed);
        if waiting.saturating_add(bytes) > level.bytes_limit && level.batches.load(Ordering::Relaxed) > 0 {
            return Err(batch);
        }
        // First, so that the consumer never takes off what is not in it yet.
        let bytes_now = level.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let batches_now = level.batches.fetch_add(1, Ordering::Relaxed) + 1;
        if let Err(PushError::Full((batch, _))) = self.batches.push((batch, bytes)) {
            level.left(bytes);
            return Err(batch);
        }
        raise(&level.high_water, batches_now);
        raise(&level.bytes_high_water, bytes_now);
        Ok(())
    }
}

impl<T> Receiving<T> {
    fn pop(&mut self) -> Option<T> {
        let (batch, bytes) = self.batches.pop().ok()?;
        self.level.left(bytes);
        Some(batch)
    }
}

impl Level {
    fn left(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.batches.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Only the producer calls this.
fn raise(mark: &AtomicUsize, value: usize) {
    if value > mark.load(Ordering::Relaxed) {
        mark.store(value, Ordering::Relaxed);
    }
}

/// One worker's ends of all lanes. Owned by that worker, which makes it the only producer of its outgoing and the
/// only consumer of its incoming lanes.
#[derive(Debug)]
pub struct Post<T> {
    me: usize,
    outgoing: Vec<Sending<T>>,
    incoming: Vec<Receiving<T>>,
    /// Whose turn it is to be drained first.
    turn: usize,
}

/// Builds the posts of `workers` workers, in their order. Each lane (also from a worker to itself) holds at most
/// `limit` batches, and further ones only up to `bytes_limit` bytes.
///
/// # Panics
/// If `limit` is 0.
pub fn grid<T>(workers: usize, limit: usize, bytes_limit: usize) -> Vec<Post<T>> {
    assert!(limit > 0, "a lane needs room for a batch");
    let mut posts: Vec<Post<T>> =
        (0..workers).map(|me| Post { me, outgoing: Vec::new(), incoming: Vec::new(), turn: 0 }).collect();
    for from in 0..workers {
        for to in 0..workers {
            let (sending, receiving) = lane(limit, bytes_limit);
            posts[from].outgoing.push(sending);
            posts[to].incoming.push(receiving);
        }
    }
    posts
}

impl<T> Post<T> {
    /// The worker this post belongs to.
    pub fn worker(&self) -> usize {
        self.me
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.outgoing.len()
    }

    /// Queues a batch of so many bytes for worker `to`.
    ///
    /// # Errors
    /// The batch itself when the lane is full; keep it, and slow down what produced it.
    ///
    /// # Panics
    /// If there is no worker `to`.
    pub fn try_send(&mut self, to: usize, batch: T, bytes: usize) -> Result<(), T> {
        self.outgoing[to].push(batch, bytes)
    }

    /// The next batch from worker `from`, in the order in which it was sent.
    ///
    /// # Panics
    /// If there is no worker `from`.
    pub fn receive(&mut self, from: usize) -> Option<T> {
        self.incoming[from].pop()
    }

    /// Receives up to `max` batches, one from each lane in turn, and returns how many there were. The next call begins
    /// where this one stopped, so no lane starves.
    pub fn drain(&mut self, max: usize, mut sink: impl FnMut(usize, T)) -> usize {
        let lanes = self.incoming.len();
        let (mut received, mut empty) = (0, 0);
        while received < max && empty < lanes {
            let from = self.turn;
            self.turn = (self.turn + 1) % lanes;
            match self.receive(from) {
                Some(batch) => {
                    sink(from, batch);
                    received += 1;
                    empty = 0;
                }
                None => empty += 1,
            }
        }
        received
    }

    /// Whether a batch waits in any incoming lane.
    pub fn has_incoming(&self) -> bool {
        self.incoming.iter().any(|lane| !lane.batches.is_empty())
    }

    /// Gives an emptied batch of worker `from` back to it. Dropped when enough are there.
    ///
    /// # Panics
    /// If there is no worker `from`.
    pub fn recycle(&mut self, from: usize, batch: T) {
        // A full queue of spares is the bound; the batch is freed then.
        drop(self.incoming[from].spares.push(batch));
    }

    /// An emptied batch that worker `to` gave back.
    ///
    /// # Panics
    /// If there is no worker `to`.
    pub fn spare(&mut self, to: usize) -> Option<T> {
        self.outgoing[to].spares.pop().ok()
    }

    /// Parcels that wait in the lane to worker `to`.
    ///
    /// # Panics
    /// If there is no worker `to`.
    pub fn queued(&self, to: usize) -> usize {
        self.outgoing[to].level.batches.load(Ordering::Relaxed)
    }

    /// A view of the lane to worker `to` for other threads.
    ///
    /// # Panics
    /// If there is no worker `to`.
    pub fn gauge(&self, to: usize) -> LaneGauge {
        LaneGauge(self.outgoing[to].level.clone())
    }
}

/// Length, high-water mark and limit of one lane, in batches and in bytes, readable from any thread.
#[derive(Clone)]
pub struct LaneGauge(Arc<Level>);

impl LaneGauge {
    /// Parcels that wait now.
    pub fn len(&self) -> usize {
        self.0.batches.load(Ordering::Relaxed)
    }

    /// Whether no batch waits now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most batches that ever waited.
    pub fn high_water(&self) -> usize {
        self.0.high_water.load(Ordering::Relaxed)
    }

    /// The most batches that may wait.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Bytes that wait now, the most that ever waited, and the most that may.
    pub fn bytes(&self) -> (usize, usize, usize) {
        let Level { bytes, bytes_high_water, bytes_limit, .. } = &*self.0;
        (bytes.load(Ordering::Relaxed), bytes_high_water.load(Ordering::Relaxed), *bytes_limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parcels_arrive_in_order_and_only_where_they_were_sent() {
        let mut posts = grid(3, 8, 1000);
        for n in 0..5 {
            posts[0].try_send(2, n, 1).unwrap();
        }
        assert_eq!(posts[1].receive(0), None);
        assert!(!posts[1].has_incoming());
        assert!(posts[2].has_incoming());
        let received: Vec<i32> = std::iter::from_fn(|| posts[2].receive(0)).collect();
        assert_eq!(received, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_full_lane_gives_the_parcel_back_and_its_gauge_shows_it() {
        let mut posts = grid(2, 2, 1000);
        let gauge = posts[0].gauge(1);
        assert_eq!(posts[0].try_send(1, "a", 1), Ok(()));
        assert_eq!(posts[0].try_send(1, "b", 1), Ok(()));
        assert_eq!(posts[0].try_send(1, "c", 1), Err("c"));
        assert_eq!((gauge.len(), gauge.high_water(), gauge.limit()), (2, 2, 2));
        posts[1].receive(0);
        assert_eq!((gauge.len(), gauge.high_water()), (1, 2));
    }

    #[test]
    fn a_lane_is_bounded_in_bytes_and_takes_any_parcel_when_it_is_empty() {
        let mut posts = grid(2, 100, 50);
        let gauge = posts[0].gauge(1);
        assert_eq!(posts[0].try_send(1, "long", 200), Ok(()));
        assert_eq!(posts[0].try_send(1, "short", 1), Err("short"));
        assert_eq!(posts[1].receive(0), Some("long"));
        assert_eq!(gauge.bytes(), (0, 200, 50));
        for _ in 0..5 {
            assert_eq!(posts[0].try_send(1, "ten", 10), Ok(()));
        }
        assert_eq!(posts[0].try_send(1, "one more", 1), Err("one more"));
        assert_eq!((gauge.len(), gauge.bytes().0), (5, 50));
        posts[1].receive(0);
        assert_eq!(posts[0].try_send(1, "too long", 11), Err("too long"));
        assert_eq!(posts[0].try_send(1, "just", 10), Ok(()));
        assert_eq!(posts[1].drain(100, |_, _| ()), 5);
        assert_eq!(gauge.bytes().0, 0);
    }

    #[test]
    fn what_finds_no_place_among_the_parcels_leaves_no_bytes_behind() {
        let mut posts = grid(2, 1, 1000);
        let gauge = posts[0].gauge(1);
        assert_eq!(posts[0].try_send(1, 'a', 10), Ok(()));
        assert_eq!(posts[0].try_send(1, 'b', 10), Err('b'));
        assert_eq!(gauge.bytes().0, 10);
    }

    #[test]
    fn a_busy_lane_does_not_starve_the_others() {
        let mut posts = grid(3, 100, 1000);
        for n in 0..100 {
            posts[0].try_send(2, n, 1).unwrap();
        }
        posts[1].try_send(2, 1000, 1).unwrap();
        let mut seen = Vec::new();
        assert_eq!(posts[2].drain(4, |from, batch| seen.push((from, batch))), 4);
        assert!(seen.contains(&(1, 1000)), "{seen:?}");
        assert_eq!(posts[2].drain(1000, |_, _| ()), 97);
    }

    #[test]
    fn an_emptied_parcel_returns_to_its_producer() {
        let mut posts: Vec<Post<Vec<u8>>> = grid(2, 4, 1000);
        assert_eq!(posts[0].spare(1), None);
        posts[0].try_send(1, Vec::with_capacity(500), 1).unwrap();
        let batch = posts[1].receive(0).unwrap();
        posts[1].recycle(0, batch);
        assert_eq!(posts[0].spare(1).unwrap().capacity(), 500);
        for _ in 0..100 {
            posts[1].recycle(0, Vec::new());
        }
        assert_eq!(std::iter::from_fn(|| posts[0].spare(1)).count(), 4);
    }

    #[test]
    fn threads_exchange_everything_in_order_through_small_lanes() {
        const PARCELS: usize = 20_000;
        let posts = grid(2, 8, 1000);
        let threads: Vec<_> = posts
            .into_iter()
            .map(|mut post| {
                std::thread::spawn(move || {
                    let other = 1 - post.worker();
                    let (mut sent, mut received) = (0, 0);
                    while sent < PARCELS || received < PARCELS {
                        if sent < PARCELS && post.try_send(other, sent, 1).is_ok() {
                            sent += 1;
                        }
                        post.drain(4, |from, batch| {
                            assert_eq!((from, batch), (other, received));
                            received += 1;
                        });
                        if post.queued(other) == 8 {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
