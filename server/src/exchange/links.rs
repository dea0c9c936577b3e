//! A worker's links to the others: the batches it is filling, those that found a full mailbox, and its inbound mailboxes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::exchange::envelope::{Batch, Envelope};
use crate::exchange::fanout::Targets;
use crate::metrics::WorkerMetrics;
use crate::runtime::driver::Wake;
use crate::runtime::mailbox::Post;

/// A batch that has come in and is being read.
pub struct Opened {
    from: usize,
    batch: Batch,
    received: Option<Instant>,
}

impl Opened {
    /// Its next envelope.
    pub fn take_next(&mut self) -> Option<Envelope<'_>> {
        self.batch.take_next()
    }

    /// When the oldest of its stanzas was received.
    pub fn received(&self) -> Option<Instant> {
        self.received
    }
}

/// One worker's links.
pub struct Links {
    post: Post<Batch>,
    wakers: Vec<Arc<dyn Wake>>,
    filling: Vec<Batch>,
    /// Batches that found a full mailbox. While there are any the worker reads from no client, so they are
    /// bounded by what one iteration and the inbound mailboxes can cause.
    waiting: Vec<VecDeque<Batch>>,
    /// A batch that has been read in part. What is left of it comes before anything else that has come in.
    opened: Option<Opened>,
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
            filling: (0..workers).map(|_| Batch::default()).collect(),
            waiting: (0..workers).map(|_| VecDeque::new()).collect(),
            opened: None,
            lists: Vec::new(),
            sent: 0,
            received: 0,
        }
    }

    /// The batch that is being filled for a worker. One that is full waits for the end of the iteration beside it.
    pub fn to(&mut self, worker: usize) -> &mut Batch {
        if self.filling[worker].is_full() {
            self.close(worker);
        }
        &mut self.filling[worker]
    }

    /// Closes the batch for a worker and begins a new one.
    fn close(&mut self, to: usize) {
        let next = self.post.spare(to).unwrap_or_default();
        let batch = std::mem::replace(&mut self.filling[to], next);
        self.waiting[to].push_back(batch);
    }

    /// Empty lists of targets, one for each worker.
    pub fn take_lists(&mut self) -> Vec<Targets> {
        let mut lists = std::mem::take(&mut self.lists);
        lists.resize_with(self.filling.len(), Targets::default);
        lists
    }

    /// Gives the lists back for reuse.
    pub fn put_lists(&mut self, mut lists: Vec<Targets>) {
        lists.iter_mut().for_each(Targets::clear);
        self.lists = lists;
    }

    /// Posts what has been filled, and wakes each worker that got something. Returns whether something still
    /// waits for room: then the worker must not read from its clients.
    pub fn dispatch(&mut self, metrics: &WorkerMetrics) -> bool {
        let mut stalled = false;
        for to in 0..self.filling.len() {
            if !self.filling[to].is_empty() {
                self.close(to);
            }
            let mut sent = false;
            while let Some(batch) = self.waiting[to].pop_front() {
                let (envelopes, bytes) = (batch.len() as u64, batch.memory_bytes());
                match self.post.try_send(to, batch, bytes) {
                    Ok(()) => {
                        sent = true;
                        self.sent += 1;
                        metrics.mailbox_letters.add(envelopes);
                    }
                    Err(back) => {
                        self.waiting[to].push_front(back);
                        stalled = true;
                        break;
                    }
                }
            }
            if sent || !self.waiting[to].is_empty() {
                self.wakers[to].wake();
            }
        }
        let waiting = self.waiting.iter().flatten().map(|batch| batch.bytes_len() as u64).sum();
        metrics.mailbox_bytes.set(waiting);
        metrics.mailbox_bytes_high.raise(waiting);
        if stalled {
            metrics.mailbox_stalls.add(1);
        }
        stalled
    }

    /// What is left of a batch that has been read in part, else the next one that has come in: one of each worker in turn.
    /// [`Links::put_back`] must follow.
    pub fn open(&mut self) -> Option<Opened> {
        if let Some(opened) = self.opened.take() {
            return Some(opened);
        }
        let mut next = None;
        self.received += self.post.drain(1, |from, batch| next = Some((from, batch))) as u64;
        next.map(|(from, mut batch)| Opened { from, received: batch.take_received(), batch })
    }

    /// Takes a batch back: one that is empty goes to where it came from, for its memory. Returns whether something is left of
    /// it, which is read first the next time.
    pub fn put_back(&mut self, mut opened: Opened) -> bool {
        if !opened.batch.is_empty() {
            self.opened = Some(opened);
            return true;
        }
        opened.batch.clear();
        self.post.recycle(opened.from, opened.batch);
        false
    }

    /// Whether envelopes have come in that are not read yet.
    pub fn has_incoming(&self) -> bool {
        self.opened.is_some() || self.post.has_incoming()
    }

    /// Whether nothing is on its way to a worker: neither here nor in the mailbox, nor, when it is this worker itself, in the
    /// batch that is being read.
    pub fn is_clear(&self, to: usize) -> bool {
        let is_own = |opened: &Opened| opened.from == to && to == self.post.worker();
        self.filling[to].is_empty()
            && self.waiting[to].is_empty()
            && self.post.queued(to) == 0
            && !self.opened.as_ref().is_some_and(is_own)
    }

    /// Whether nothing is to be sent or read.
    pub fn is_idle(&self) -> bool {
        self.waiting() == 0 && self.filling.iter().all(Batch::is_empty) && !self.has_incoming()
    }

    /// Batches sent and received so far.
    pub fn traffic(&self) -> (u64, u64) {
        (self.sent, self.received)
    }

    /// Batches that have found a full mailbox and wait here.
    pub fn waiting(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// The gauges of this worker's outgoing lanes.
    pub fn lanes(&self) -> Vec<crate::runtime::mailbox::LaneGauge>
    where
        Batch: Send + 'static,
    {
        (0..self.filling.len()).map(|to| self.post.gauge(to)).collect()
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
        let post = mailbox::grid(1, 8, 1 << 20).remove(0);
        let mut links = Links::new(post, vec![Arc::new(Nobody)]);
        for work in 0..4 {
            links.to(0).owed("a@x/1", work);
            if work % 2 == 1 {
                assert!(!links.dispatch(&metrics));
            }
        }
        let mut opened = links.open().expect("two batches have come");
        assert_eq!(next(&mut opened), Some(0));
        assert!(links.put_back(opened), "something is left");
        for _ in 0..2 {
            assert!(links.has_incoming() && !links.is_idle() && !links.is_clear(0));
            let opened = links.open().expect("something is left");
            assert!(links.put_back(opened));
        }
        let mut opened = links.open().expect("something is left");
        assert_eq!((next(&mut opened), next(&mut opened)), (Some(1), None));
        assert!(!links.put_back(opened));
        let mut opened = links.open().expect("the second one");
        assert!(links.open().is_none(), "there are no others");
        assert_eq!((next(&mut opened), next(&mut opened), next(&mut opened)), (Some(2), Some(3), None));
        assert!(!links.put_back(opened));
        assert!(!links.has_incoming() && links.is_idle() && links.is_clear(0));
        assert_eq!(links.traffic(), (2, 2));
    }

    #[test]
    fn a_batch_that_is_read_in_part_is_still_on_its_way() {
        let metrics = WorkerMetrics::default();
        let post = mailbox::grid(1, 8, 1 << 20).remove(0);
        let mut links = Links::new(post, vec![Arc::new(Nobody)]);
        (0..2).for_each(|work| links.to(0).owed("a@x/1", work));
        assert!(!links.dispatch(&metrics));
        let mut opened = links.open().expect("a batch has come");
        assert_eq!(next(&mut opened), Some(0));
        assert!(links.put_back(opened));
        assert!(!links.is_clear(0), "what this worker tells itself must not be overtaken");
        assert!(!links.is_idle(), "an upgrade waits for it");
    }
}
