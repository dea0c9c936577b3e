//! A worker's post: the parcels it is filling, those that found a full mailbox, and its inbound mailboxes.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::metrics::WorkerMetrics;
use crate::runtime::driver::Wake;
use crate::runtime::letter::{Parcel, Targets};
use crate::runtime::mailbox::Post;

/// One worker's post.
pub struct PostRoom {
    post: Post<Parcel>,
    wakers: Vec<Arc<dyn Wake>>,
    filling: Vec<Parcel>,
    /// Parcels that found a full mailbox. While there are any the worker reads from no client, so they are
    /// bounded by what one iteration and the inbound mailboxes can cause.
    waiting: Vec<VecDeque<Parcel>>,
    lists: Vec<Targets>,
    sent: u64,
    received: u64,
}

impl PostRoom {
    /// The post of the worker that owns `post`; `wakers` wake the workers, in their order.
    pub fn new(post: Post<Parcel>, wakers: Vec<Arc<dyn Wake>>) -> PostRoom {
        let workers = post.workers();
        PostRoom {
            post,
            wakers,
            filling: (0..workers).map(|_| Parcel::default()).collect(),
            waiting: (0..workers).map(|_| VecDeque::new()).collect(),
            lists: Vec::new(),
            sent: 0,
            received: 0,
        }
    }

    /// The parcel that is being filled for a worker. One that is full waits for the end of the iteration beside it.
    pub fn to(&mut self, worker: usize) -> &mut Parcel {
        if self.filling[worker].is_full() {
            self.close(worker);
        }
        &mut self.filling[worker]
    }

    /// Closes the parcel for a worker and begins a new one.
    fn close(&mut self, to: usize) {
        let next = self.post.spare(to).unwrap_or_default();
        let parcel = std::mem::replace(&mut self.filling[to], next);
        self.waiting[to].push_back(parcel);
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
            while let Some(parcel) = self.waiting[to].pop_front() {
                let (letters, bytes) = (parcel.len() as u64, parcel.memory_bytes());
                match self.post.try_send(to, parcel, bytes) {
                    Ok(()) => {
                        sent = true;
                        self.sent += 1;
                        metrics.mailbox_letters.add(letters);
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
        let waiting = self.waiting.iter().flatten().map(|parcel| parcel.bytes_len() as u64).sum();
        metrics.mailbox_bytes.set(waiting);
        metrics.mailbox_bytes_high.raise(waiting);
        if stalled {
            metrics.mailbox_stalls.add(1);
        }
        stalled
    }

    /// The next parcel that has come in, with the worker it came from: one of each worker in turn.
    pub fn receive(&mut self) -> Option<(usize, Parcel)> {
        let mut next = None;
        self.received += self.post.drain(1, |from, parcel| next = Some((from, parcel))) as u64;
        next
    }

    /// Gives an emptied parcel back to the worker that it came from.
    pub fn give_back(&mut self, from: usize, parcel: Parcel) {
        self.post.recycle(from, parcel);
    }

    /// Whether parcels have come in.
    pub fn has_incoming(&self) -> bool {
        self.post.has_incoming()
    }

    /// Whether nothing is to be sent or read.
    pub fn is_idle(&self) -> bool {
        self.waiting() == 0 && self.filling.iter().all(Parcel::is_empty) && !self.has_incoming()
    }

    /// Parcels sent and received so far.
    pub fn traffic(&self) -> (u64, u64) {
        (self.sent, self.received)
    }

    /// Parcels that have found a full mailbox and wait here.
    pub fn waiting(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// The gauges of this worker's outgoing lanes.
    pub fn lanes(&self) -> Vec<crate::runtime::mailbox::LaneGauge>
    where
        Parcel: Send + 'static,
    {
        (0..self.filling.len()).map(|to| self.post.gauge(to)).collect()
    }
}
