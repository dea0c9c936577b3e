//! A worker's links to the others: the batches it is filling, those that found a full mailbox, and its inbound mailboxes.
//!
//! There are two roads to each worker. What a room or a node is to do makes envelopes for many users, so it has a road of its own,
//! which is read when no delivery of this worker waits for room: a flood of it stands in no delivery's way, and what it makes
//! stays bounded. Deliveries are read in any case, so that two workers never wait for each other. Between two addresses
//! everything takes the same road, and keeps its order.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::exchange::envelope::{Batch, Envelope};
use crate::exchange::fanout::Targets;
use crate::metrics::WorkerMetrics;
use crate::runtime::deliveries::Receptions;
use crate::runtime::driver::Wake;
use crate::runtime::mailbox::{Post, Road, Size};

/// A batch that has come in and is being read.
pub struct Opened {
    from: usize,
    batch: Batch,
    received: Receptions,
}

impl Opened {
    /// Its next envelope.
    pub fn take_next(&mut self) -> Option<Envelope<'_>> {
        self.batch.take_next()
    }

    /// When the oldest of its stanzas were received.
    pub fn received(&self) -> Receptions {
        self.received
    }
}

/// What could be posted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Dispatch {
    /// Everything.
    All,
    /// Some of it waits for room in a mailbox: who asks for much is to wait.
    Crowded,
    /// More waits than a mailbox takes: everybody is to wait.
    Choked,
}

/// What is on its way on one road.
struct Lanes {
    filling: Vec<Batch>,
    /// Batches that found a full mailbox. While there are any, clients that ask for much are not served, and when a mailbox would
    /// not take them all, no client is: so they are bounded by what one iteration and the inbound mailboxes can cause.
    waiting: Vec<VecDeque<Batch>>,
    /// A batch that has been read in part. What is left of it comes before anything else that has come in.
    opened: Option<Opened>,
}

impl Lanes {
    fn new(workers: usize) -> Lanes {
        Lanes {
            filling: (0..workers).map(|_| Batch::default()).collect(),
            waiting: (0..workers).map(|_| VecDeque::new()).collect(),
            opened: None,
        }
    }

    fn is_waiting(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.is_empty())
    }
}

/// One worker's links.
pub struct Links {
    post: Post<Batch>,
    wakers: Vec<Arc<dyn Wake>>,
    /// By the road.
    lanes: [Lanes; 2],
    /// What has found a full mailbox and waits.
    waiting: Size,
    lists: Vec<Targets>,
    sent: u64,
    received: u64,
}

impl Links {
    /// The links of the worker that owns `post`; `wakers` wake the workers, in their order.
    pub fn new(post: Post<Batch>, wakers: Vec<Arc<dyn Wake>>) -> Links {
        let workers = post.workers();
        Links {
            post,
            wakers,
            lanes: Road::ALL.map(|_| Lanes::new(workers)),
            waiting: Size::default(),
            lists: Vec::new(),
            sent: 0,
            received: 0,
        }
    }

    /// The batch of deliveries that is being filled for a worker. One that is full waits for the end of the iteration beside it.
    pub fn to(&mut self, worker: usize) -> &mut Batch {
        self.on(Road::Deliveries, worker)
    }

    /// The batch that is being filled for rooms and nodes of a worker.
    pub fn ask(&mut self, worker: usize) -> &mut Batch {
        self.on(Road::Requests, worker)
    }

    /// The batch that is being filled for a worker on a road.
    pub fn on(&mut self, road: Road, worker: usize) -> &mut Batch {
        if self.lanes[road as usize].filling[worker].is_full() {
            self.close(road, worker);
        }
        &mut self.lanes[road as usize].filling[worker]
    }

    /// Closes the batch for a worker and begins a new one.
    fn close(&mut self, road: Road, to: usize) {
        let next = self.post.spare(to, road).unwrap_or_default();
        let lanes = &mut self.lanes[road as usize];
        let batch = std::mem::replace(&mut lanes.filling[to], next);
        let Size { bytes, weight } = batch.size();
        self.waiting = Size { bytes: self.waiting.bytes + bytes, weight: self.waiting.weight + weight };
        lanes.waiting[to].push_back(batch);
    }

    /// Empty lists of targets, one for each worker.
    pub fn take_lists(&mut self) -> Vec<Targets> {
        let mut lists = std::mem::take(&mut self.lists);
        lists.resize_with(self.post.workers(), Targets::default);
        lists
    }

    /// Gives the lists back for reuse.
    pub fn put_lists(&mut self, mut lists: Vec<Targets>) {
        lists.iter_mut().for_each(Targets::clear);
        self.lists = lists;
    }

    /// Posts what has been filled, and wakes each worker that got something.
    pub fn dispatch(&mut self, metrics: &WorkerMetrics) -> Dispatch {
        for to in 0..self.post.workers() {
            let mut wakes = false;
            for road in Road::ALL {
                if !self.lanes[road as usize].filling[to].is_empty() {
                    self.close(road, to);
                }
                wakes |= self.post_to(road, to, metrics);
            }
            if wakes {
                self.wakers[to].wake();
            }
        }
        metrics.mailbox_bytes.set(self.waiting.bytes as u64);
        metrics.mailbox_bytes_high.raise(self.waiting.bytes as u64);
        if self.waiting() == 0 {
            return Dispatch::All;
        }
        metrics.mailbox_stalls.add(1);
        let limit = self.post.room().size;
        if self.waiting.bytes > limit.bytes || self.waiting.weight > limit.weight {
            metrics.mailbox_chokes.add(1);
            return Dispatch::Choked;
        }
        Dispatch::Crowded
    }

    /// Posts what waits for a worker, as far as there is room. Returns whether to wake it.
    fn post_to(&mut self, road: Road, to: usize, metrics: &WorkerMetrics) -> bool {
        let waiting = &mut self.lanes[road as usize].waiting[to];
        let mut wakes = !waiting.is_empty();
        while let Some(batch) = waiting.pop_front() {
            let (envelopes, size) = (batch.len() as u64, batch.size());
            match self.post.try_send(to, road, batch, size) {
                Ok(()) => {
                    self.sent += 1;
                    self.waiting.bytes -= size.bytes;
                    self.waiting.weight -= size.weight;
                    metrics.mailbox_letters.add(envelopes);
                }
                Err(back) => {
                    waiting.push_front(back);
                    break;
                }
            }
        }
        wakes |= !waiting.is_empty();
        wakes
    }

    /// What is left of a batch that has been read in part, else the next one that has come in on a road: one of each worker in
    /// turn. [`Links::put_back`] must follow.
    pub fn open(&mut self, road: Road) -> Option<Opened> {
        if let Some(opened) = self.lanes[road as usize].opened.take() {
            return Some(opened);
        }
        let (from, mut batch) = self.post.receive_any(road)?;
        self.received += 1;
        Some(Opened { from, received: batch.take_received(), batch })
    }

    /// Takes a batch back: one that is empty goes to where it came from, for its memory. Returns whether something is left of
    /// it, which is read first the next time.
    pub fn put_back(&mut self, road: Road, mut opened: Opened) -> bool {
        if !opened.batch.is_empty() {
            self.lanes[road as usize].opened = Some(opened);
            return true;
        }
        opened.batch.clear();
        self.post.recycle(opened.from, road, opened.batch);
        false
    }

    /// Whether what comes on a road may be read now.
    pub fn may_read(&self, road: Road) -> bool {
        road == Road::Deliveries || !self.lanes[Road::Deliveries as usize].is_waiting()
    }

    /// Whether envelopes have come in that may be read now.
    pub fn has_readable(&self) -> bool {
        Road::ALL.into_iter().any(|road| self.may_read(road) && self.has_incoming_on(road))
    }

    /// Whether envelopes have come in that are not read yet.
    pub fn has_incoming(&self) -> bool {
        Road::ALL.into_iter().any(|road| self.has_incoming_on(road))
    }

    fn has_incoming_on(&self, road: Road) -> bool {
        self.lanes[road as usize].opened.is_some() || self.post.has_incoming(road)
    }

    /// Whether nothing is on its way to a worker: neither here nor in the mailbox, nor, when it is this worker itself, in the
    /// batch that is being read.
    pub fn is_clear(&self, to: usize) -> bool {
        let is_own = |opened: &Opened| opened.from == to && to == self.post.worker();
        let is_clear = |lanes: &Lanes| {
            lanes.filling[to].is_empty()
                && lanes.waiting[to].is_empty()
                && !lanes.opened.as_ref().is_some_and(is_own)
        };
        self.lanes.iter().all(is_clear) && self.post.queued(to) == 0
    }

    /// Whether nothing is to be sent or read.
    pub fn is_idle(&self) -> bool {
        let is_filled = |lanes: &Lanes| !lanes.filling.iter().all(Batch::is_empty);
        self.waiting() == 0 && !self.lanes.iter().any(is_filled) && !self.has_incoming()
    }

    /// Batches sent and received so far.
    pub fn traffic(&self) -> (u64, u64) {
        (self.sent, self.received)
    }

    /// Batches that have found a full mailbox and wait here.
    pub fn waiting(&self) -> usize {
        self.lanes.iter().flat_map(|lanes| &lanes.waiting).map(VecDeque::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::mailbox;

    struct Nobody;

    impl Wake for Nobody {
        fn wake(&self) {}
    }

    fn room(weight: usize) -> mailbox::Room {
        mailbox::Room { batches: 8, size: Size { bytes: 1 << 20, weight } }
    }

    fn next(opened: &mut Opened) -> Option<u64> {
        match opened.take_next() {
            Some(Envelope::Owed { work, .. }) => Some(work),
            Some(_) => panic!("none was put in"),
            None => None,
        }
    }

    #[test]
    fn what_is_left_of_a_batch_comes_before_the_next_one() {
        let metrics = WorkerMetrics::default();
        let post = mailbox::grid(1, room(1000)).remove(0);
        let mut links = Links::new(post, vec![Arc::new(Nobody)]);
        for work in 0..4 {
            links.to(0).owed("a@x/1", work);
            if work % 2 == 1 {
                assert_eq!(links.dispatch(&metrics), Dispatch::All);
            }
        }
        let mut opened = links.open(Road::Deliveries).expect("two batches have come");
        assert_eq!(next(&mut opened), Some(0));
        assert!(links.put_back(Road::Deliveries, opened), "something is left");
        for _ in 0..2 {
            assert!(links.has_incoming() && !links.is_idle() && !links.is_clear(0));
            let opened = links.open(Road::Deliveries).expect("something is left");
            assert!(links.put_back(Road::Deliveries, opened));
        }
        let mut opened = links.open(Road::Deliveries).expect("something is left");
        assert_eq!((next(&mut opened), next(&mut opened)), (Some(1), None));
        assert!(!links.put_back(Road::Deliveries, opened));
        let mut opened = links.open(Road::Deliveries).expect("the second one");
        assert!(links.open(Road::Deliveries).is_none(), "there are no others");
        assert_eq!((next(&mut opened), next(&mut opened), next(&mut opened)), (Some(2), Some(3), None));
        assert!(!links.put_back(Road::Deliveries, opened));
        assert!(!links.has_incoming() && links.is_idle() && links.is_clear(0));
        assert_eq!(links.traffic(), (2, 2));
    }

    #[test]
    fn a_batch_that_is_read_in_part_is_still_on_its_way() {
        let metrics = WorkerMetrics::default();
        let post = mailbox::grid(1, room(1000)).remove(0);
        let mut links = Links::new(post, vec![Arc::new(Nobody)]);
        (0..2).for_each(|work| links.to(0).owed("a@x/1", work));
        assert_eq!(links.dispatch(&metrics), Dispatch::All);
        let mut opened = links.open(Road::Deliveries).expect("a batch has come");
        assert_eq!(next(&mut opened), Some(0));
        assert!(links.put_back(Road::Deliveries, opened));
        assert!(!links.is_clear(0), "what this worker tells itself must not be overtaken");
        assert!(!links.is_idle(), "an upgrade waits for it");
    }

    #[test]
    fn requests_wait_until_what_they_lead_to_has_room() {
        let metrics = WorkerMetrics::default();
        let mut posts = mailbox::grid(2, room(2));
        let nobody = || (0..2).map(|_| Arc::new(Nobody) as Arc<dyn Wake>).collect();
        let mut other = Links::new(posts.remove(1), nobody());
        let mut links = Links::new(posts.remove(0), nobody());
        other.ask(0).owed("a@x/1", 1);
        assert_eq!(other.dispatch(&metrics), Dispatch::All);
        assert!(links.may_read(Road::Requests) && links.has_readable());
        let fill = |links: &mut Links| {
            (0..2).for_each(|work| links.to(1).owed("a@x/1", work));
            links.dispatch(&metrics)
        };
        assert_eq!(fill(&mut links), Dispatch::All);
        assert_eq!(fill(&mut links), Dispatch::Crowded);
        assert!(!links.may_read(Road::Requests) && !links.has_readable() && links.has_incoming());
        assert_eq!(fill(&mut links), Dispatch::Choked);
        // Deliveries are read, whatever waits.
        other.to(0).owed("a@x/1", 1);
        assert_eq!(other.dispatch(&metrics), Dispatch::All);
        assert!(links.has_readable());
        let opened = other.open(Road::Deliveries).expect("it has come");
        drop(opened);
        assert_eq!(links.dispatch(&metrics), Dispatch::Crowded);
        let opened = other.open(Road::Deliveries).expect("it has come");
        drop(opened);
        assert_eq!(links.dispatch(&metrics), Dispatch::All);
        assert!(links.may_read(Road::Requests));
    }
}
