//! A worker's links to the others: the batches it is filling, those that found a full mailbox, and its inbound mailboxes.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::exchange::envelope::Batch;
use crate::exchange::fanout::Targets;
use crate::metrics::WorkerMetrics;
use crate::runtime::driver::Wake;
use crate::runtime::mailbox::Post;

/// One worker's links.
pub struct Links {
    post: Post<Batch>,
    wakers: Vec<Arc<dyn Wake>>,
    filling: Vec<Batch>,
    /// Batches that found a full mailbox. While there are any the worker reads from no client, so they are
    /// bounded by what one iteration and the inbound mailboxes can cause.
    waiting: Vec<VecDeque<Batch>>,
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

    /// The next batch that has come in, with the worker it came from: one of each worker in turn.
    pub fn receive(&mut self) -> Option<(usize, Batch)> {
        let mut next = None;
        self.received += self.post.drain(1, |from, batch| next = Some((from, batch))) as u64;
        next
    }

    /// Gives an emptied batch back to the worker that it came from.
    pub fn give_back(&mut self, from: usize, batch: Batch) {
        self.post.recycle(from, batch);
    }

    /// Whether batches have come in.
    pub fn has_incoming(&self) -> bool {
        self.post.has_incoming()
    }

    /// Whether nothing is on its way to a worker: neither here nor in the mailbox.
    pub fn is_clear(&self, to: usize) -> bool {
        self.filling[to].is_empty() && self.waiting[to].is_empty() && self.post.queued(to) == 0
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
