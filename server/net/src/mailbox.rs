//! Bounded roads between workers: two queues for each ordered pair, so each has one producer and one consumer.
//!
//! ```text
//!   worker 0 ──try_send(1)──▶ [ lane 0→1, deliveries ] ──receive(0)──▶ worker 1
//!                           ▶ [ lane 0→1, requests   ] ▶
//!            ◀──spare(1)───── [ spares               ] ◀─recycle(0)───
//! ```
//! A lane is bounded in batches, in bytes, and in what its batches give their reader to do; one that is empty takes any batch, so
//! what is long is late and not lost.
//! Emptied batches go back to where they came from, so that their allocations are used again. Waking the receiver is
//! the sender's task, once for a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rtrb::{Consumer, Producer, PushError, RingBuffer};

/// Which of the lanes from one worker to another.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Road {
    /// What is read in any case, since it leads to little more.
    Deliveries,
    /// What leads to much more for other workers, and so is read when these have room for it.
    Requests,
}

impl Road {
    /// All of them.
    pub const ALL: [Road; 2] = [Road::Deliveries, Road::Requests];
}

/// Size of a batch, or of what may be in a lane.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes of memory.
    pub bytes: usize,
    /// What is to be done with it, in a measure of whoever sends.
    pub weight: usize,
}

/// What a lane holds at most. A batch that finds it empty may be longer.
#[derive(Copy, Clone, Debug)]
pub struct Room {
    /// Batches.
    pub batches: usize,
    /// All of them together.
    pub size: Size,
}

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
    /// As the bytes.
    weight: AtomicUsize,
    weight_high_water: AtomicUsize,
    size_limit: Size,
}

/// The producer's end of a lane. Neither end ever waits for the other one, not even in a loop: a worker that the system takes off its
/// processor in the middle of a push keeps nobody.
#[derive(Debug)]
struct Sending<T> {
    /// Each with its size.
    batches: Producer<(T, Size)>,
    spares: Consumer<T>,
    level: Arc<Level>,
}

/// The consumer's.
#[derive(Debug)]
struct Receiving<T> {
    batches: Consumer<(T, Size)>,
    spares: Producer<T>,
    level: Arc<Level>,
}

fn lane<T>(room: Room) -> (Sending<T>, Receiving<T>) {
    let level = Arc::new(Level {
        batches: AtomicUsize::new(0),
        high_water: AtomicUsize::new(0),
        limit: room.batches,
        bytes: AtomicUsize::new(0),
        bytes_high_water: AtomicUsize::new(0),
        weight: AtomicUsize::new(0),
        weight_high_water: AtomicUsize::new(0),
        size_limit: room.size,
    });
    let (to, batches) = RingBuffer::new(room.batches);
    let (back, spares) = RingBuffer::new(room.batches.min(SPARES_MAX));
    let sending = Sending { batches: to, spares, level: level.clone() };
    (sending, Receiving { batches, spares: back, level })
}

impl<T> Sending<T> {
    fn push(&mut self, batch: T, size: Size) -> Result<(), T> {
        let level = &*self.level;
        if !level.takes(size) && level.batches.load(Ordering::Relaxed) > 0 {
            return Err(batch);
        }
        // First, so that the consumer never takes off what is not in it yet.
        let bytes_now = level.bytes.fetch_add(size.bytes, Ordering::Relaxed) + size.bytes;
        let weight_now = level.weight.fetch_add(size.weight, Ordering::Relaxed) + size.weight;
        let batches_now = level.batches.fetch_add(1, Ordering::Relaxed) + 1;
        if let Err(PushError::Full((batch, _))) = self.batches.push((batch, size)) {
            level.left(size);
            return Err(batch);
        }
        raise(&level.high_water, batches_now);
        raise(&level.bytes_high_water, bytes_now);
        raise(&level.weight_high_water, weight_now);
        Ok(())
    }
}

impl<T> Receiving<T> {
    fn pop(&mut self) -> Option<T> {
        let (batch, size) = self.batches.pop().ok()?;
        self.level.left(size);
        Some(batch)
    }
}

impl Level {
    fn takes(&self, size: Size) -> bool {
        let limit = self.size_limit;
        self.bytes.load(Ordering::Relaxed).saturating_add(size.bytes) <= limit.bytes
            && self.weight.load(Ordering::Relaxed).saturating_add(size.weight) <= limit.weight
    }

    fn left(&self, size: Size) {
        self.bytes.fetch_sub(size.bytes, Ordering::Relaxed);
        self.weight.fetch_sub(size.weight, Ordering::Relaxed);
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
    /// To each worker, by the road.
    outgoing: Vec<[Sending<T>; 2]>,
    incoming: Vec<[Receiving<T>; 2]>,
    /// Whose turn it is to be drained first.
    turn: [usize; 2],
}

/// Builds the posts of `workers` workers, in their order. Each lane (also from a worker to itself) holds at most so much.
///
/// # Panics
/// If there is room for no batch.
pub fn grid<T>(workers: usize, room: Room) -> Vec<Post<T>> {
    assert!(room.batches > 0, "a lane needs room for a batch");
    let mut posts: Vec<Post<T>> = (0..workers)
        .map(|me| Post { me, outgoing: Vec::new(), incoming: Vec::new(), turn: [0; 2] })
        .collect();
    for from in 0..workers {
        for to in 0..workers {
            let ((deliver, delivered), (request, requested)) = (lane(room), lane(room));
            posts[from].outgoing.push([deliver, request]);
            posts[to].incoming.push([delivered, requested]);
        }
    }
    posts
}

impl<T> Post<T> {
    /// The worker this post belongs to.
    pub fn worker(&self) -> usize {
        self.me
    }

    /// What each lane takes.
    pub fn room(&self) -> Room {
        let level = &self.outgoing[0][0].level;
        Room { batches: level.limit, size: level.size_limit }
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.outgoing.len()
    }

    /// Queues a batch for worker `to`.
    ///
    /// # Errors
    /// The batch itself when the lane is full; keep it, and slow down what produced it.
    ///
    /// # Panics
    /// If there is no worker `to`.
    pub fn try_send(&mut self, to: usize, road: Road, batch: T, size: Size) -> Result<(), T> {
        self.outgoing[to][road as usize].push(batch, size)
    }

    /// The next batch from worker `from`, in the order in which it was sent.
    ///
    /// # Panics
    /// If there is no worker `from`.
    pub fn receive(&mut self, from: usize, road: Road) -> Option<T> {
        self.incoming[from][road as usize].pop()
    }

    /// The next batch that has come on a road, and who has sent it: one of each worker in turn, so that none starves.
    pub fn receive_any(&mut self, road: Road) -> Option<(usize, T)> {
        for _ in 0..self.incoming.len() {
            let from = self.turn[road as usize];
            self.turn[road as usize] = (from + 1) % self.incoming.len();
            if let Some(batch) = self.receive(from, road) {
                return Some((from, batch));
            }
        }
        None
    }

    /// Whether a batch waits in any incoming lane of a road.
    pub fn has_incoming(&self, road: Road) -> bool {
        self.incoming.iter().any(|lanes| !lanes[road as usize].batches.is_empty())
    }

    /// Gives an emptied batch of worker `from` back to it. Dropped when enough are there.
    ///
    /// # Panics
    /// If there is no worker `from`.
    pub fn recycle(&mut self, from: usize, road: Road, batch: T) {
        // A full queue of spares is the bound; the batch is freed then.
        drop(self.incoming[from][road as usize].spares.push(batch));
    }

    /// An emptied batch that worker `to` gave back.
    ///
    /// # Panics
    /// If there is no worker `to`.
    pub fn spare(&mut self, to: usize, road: Road) -> Option<T> {
        self.outgoing[to][road as usize].spares.pop().ok()
    }

    /// Batches that wait in the lanes to worker `to`.
    ///
    /// # Panics
    /// If there is no worker `to`.
    pub fn queued(&self, to: usize) -> usize {
        self.outgoing[to].iter().map(|lane| lane.level.batches.load(Ordering::Relaxed)).sum()
    }

    /// A view of the lanes to worker `to` for other threads, by the road.
    ///
    /// # Panics
    /// If there is no worker `to`.
    pub fn gauges(&self, to: usize) -> [LaneGauge; 2] {
        self.outgoing[to].each_ref().map(|lane| LaneGauge(lane.level.clone()))
    }
}

/// Length, high-water mark and limit of one lane, in batches, bytes and weight, readable from any thread.
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
        let Level { bytes, bytes_high_water, size_limit, .. } = &*self.0;
        (bytes.load(Ordering::Relaxed), bytes_high_water.load(Ordering::Relaxed), size_limit.bytes)
    }

    /// The same of what is to be done with it.
    pub fn weight(&self) -> (usize, usize, usize) {
        let Level { weight, weight_high_water, size_limit, .. } = &*self.0;
        (weight.load(Ordering::Relaxed), weight_high_water.load(Ordering::Relaxed), size_limit.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::Road::{Deliveries, Requests};
    use super::*;

    fn room(batches: usize, bytes: usize) -> Room {
        Room { batches, size: Size { bytes, weight: 100_000 } }
    }

    fn send<T>(post: &mut Post<T>, to: usize, batch: T, bytes: usize) -> Result<(), T> {
        post.try_send(to, Deliveries, batch, Size { bytes, weight: 1 })
    }

    fn drain<T>(post: &mut Post<T>, max: usize, mut sink: impl FnMut(usize, T)) -> usize {
        let batches = std::iter::from_fn(|| post.receive_any(Deliveries)).take(max);
        batches.map(|(from, batch)| sink(from, batch)).count()
    }

    #[test]
    fn parcels_arrive_in_order_and_only_where_they_were_sent() {
        let mut posts = grid(3, room(8, 1000));
        for n in 0..5 {
            send(&mut posts[0], 2, n, 1).unwrap();
        }
        assert_eq!(posts[1].receive(0, Deliveries), None);
        assert!(!posts[1].has_incoming(Deliveries));
        assert!(posts[2].has_incoming(Deliveries));
        let received: Vec<i32> = std::iter::from_fn(|| posts[2].receive(0, Deliveries)).collect();
        assert_eq!(received, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_full_lane_gives_the_parcel_back_and_its_gauge_shows_it() {
        let mut posts = grid(2, room(2, 1000));
        let gauge = posts[0].gauges(1)[0].clone();
        assert_eq!(send(&mut posts[0], 1, "a", 1), Ok(()));
        assert_eq!(send(&mut posts[0], 1, "b", 1), Ok(()));
        assert_eq!(send(&mut posts[0], 1, "c", 1), Err("c"));
        assert_eq!((gauge.len(), gauge.high_water(), gauge.limit()), (2, 2, 2));
        posts[1].receive(0, Deliveries);
        assert_eq!((gauge.len(), gauge.high_water()), (1, 2));
    }

    #[test]
    fn a_lane_is_bounded_in_bytes_and_takes_any_parcel_when_it_is_empty() {
        let mut posts = grid(2, room(100, 50));
        let gauge = posts[0].gauges(1)[0].clone();
        assert_eq!(send(&mut posts[0], 1, "long", 200), Ok(()));
        assert_eq!(send(&mut posts[0], 1, "short", 1), Err("short"));
        assert_eq!(posts[1].receive(0, Deliveries), Some("long"));
        assert_eq!(gauge.bytes(), (0, 200, 50));
        for _ in 0..5 {
            assert_eq!(send(&mut posts[0], 1, "ten", 10), Ok(()));
        }
        assert_eq!(send(&mut posts[0], 1, "one more", 1), Err("one more"));
        assert_eq!((gauge.len(), gauge.bytes().0), (5, 50));
        posts[1].receive(0, Deliveries);
        assert_eq!(send(&mut posts[0], 1, "too long", 11), Err("too long"));
        assert_eq!(send(&mut posts[0], 1, "just", 10), Ok(()));
        assert_eq!(drain(&mut posts[1], 100, |_, _| ()), 5);
        assert_eq!(gauge.bytes().0, 0);
    }

    #[test]
    fn what_finds_no_place_among_the_parcels_leaves_no_bytes_behind() {
        let mut posts = grid(2, room(1, 1000));
        let gauge = posts[0].gauges(1)[0].clone();
        assert_eq!(send(&mut posts[0], 1, 'a', 10), Ok(()));
        assert_eq!(send(&mut posts[0], 1, 'b', 10), Err('b'));
        assert_eq!(gauge.bytes().0, 10);
    }

    #[test]
    fn a_busy_lane_does_not_starve_the_others() {
        let mut posts = grid(3, room(100, 1000));
        for n in 0..100 {
            send(&mut posts[0], 2, n, 1).unwrap();
        }
        send(&mut posts[1], 2, 1000, 1).unwrap();
        let mut seen = Vec::new();
        assert_eq!(drain(&mut posts[2], 4, |from, batch| seen.push((from, batch))), 4);
        assert!(seen.contains(&(1, 1000)), "{seen:?}");
        assert_eq!(drain(&mut posts[2], 1000, |_, _| ()), 97);
    }

    #[test]
    fn an_emptied_parcel_returns_to_its_producer() {
        let mut posts: Vec<Post<Vec<u8>>> = grid(2, room(4, 1000));
        assert_eq!(posts[0].spare(1, Deliveries), None);
        send(&mut posts[0], 1, Vec::with_capacity(500), 1).unwrap();
        let batch = posts[1].receive(0, Deliveries).unwrap();
        posts[1].recycle(0, Deliveries, batch);
        assert_eq!(posts[0].spare(1, Deliveries).unwrap().capacity(), 500);
        for _ in 0..100 {
            posts[1].recycle(0, Deliveries, Vec::new());
        }
        assert_eq!(std::iter::from_fn(|| posts[0].spare(1, Deliveries)).count(), 4);
    }

    #[test]
    fn threads_exchange_everything_in_order_through_small_lanes() {
        const PARCELS: usize = 20_000;
        let posts = grid(2, room(8, 1000));
        let threads: Vec<_> = posts
            .into_iter()
            .map(|mut post| {
                std::thread::spawn(move || {
                    let other = 1 - post.worker();
                    let (mut sent, mut received) = (0, 0);
                    while sent < PARCELS || received < PARCELS {
                        if sent < PARCELS && send(&mut post, other, sent, 1).is_ok() {
                            sent += 1;
                        }
                        drain(&mut post, 4, |from, batch| {
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

    #[test]
    fn a_lane_is_bounded_in_what_there_is_to_be_done() {
        let mut posts = grid(2, Room { batches: 100, size: Size { bytes: 1000, weight: 10 } });
        let gauge = posts[0].gauges(1)[0].clone();
        let of = |weight| Size { bytes: 1, weight };
        assert_eq!(posts[0].try_send(1, Deliveries, "much", of(50)), Ok(()));
        assert_eq!(posts[0].try_send(1, Deliveries, "little", of(1)), Err("little"));
        assert_eq!(posts[1].receive(0, Deliveries), Some("much"));
        assert_eq!(posts[0].try_send(1, Deliveries, "ten", of(10)), Ok(()));
        assert_eq!(posts[0].try_send(1, Deliveries, "little", of(1)), Err("little"));
        assert_eq!(gauge.weight(), (10, 50, 10));
    }

    #[test]
    fn a_full_lane_keeps_nothing_of_the_other_road_waiting() {
        let mut posts = grid(2, room(1, 1000));
        let of_one = Size { bytes: 1, weight: 1 };
        assert_eq!(posts[0].try_send(1, Requests, 'a', of_one), Ok(()));
        assert_eq!(posts[0].try_send(1, Requests, 'b', of_one), Err('b'));
        assert!(!posts[1].has_incoming(Deliveries));
        assert_eq!(send(&mut posts[0], 1, 'c', 1), Ok(()));
        assert_eq!(posts[0].queued(1), 2);
        let [deliveries, requests] = posts[0].gauges(1);
        assert_eq!((deliveries.len(), requests.len()), (1, 1));
        assert_eq!(
            (posts[1].receive_any(Deliveries), posts[1].receive_any(Deliveries)),
            (Some((0, 'c')), None)
        );
        assert!(posts[1].has_incoming(Requests));
        assert_eq!(posts[1].receive_any(Requests), Some((0, 'a')));
    }
}
