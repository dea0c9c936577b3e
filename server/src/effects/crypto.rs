//! The crypto pool: threads that hash passwords, so that no worker does (SASL PLAIN, password changes).

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};
use whimbrel_storage::background;

use crate::effects::jobs::{Completions, Done};
use crate::runtime::gauge::{Gauge, HighWater};

/// Hashes something and says what came of it.
pub type CryptoJob<S> = Box<dyn FnOnce() -> Done<S> + Send>;

/// The pool.
pub struct CryptoPool<S> {
    queue: Sender<(usize, CryptoJob<S>)>,
    limit: usize,
    high_water: HighWater,
}

impl<S: 'static> CryptoPool<S> {
    /// Starts `threads` threads with a queue for `limit` jobs. They end when the pool is dropped and its queue
    /// is empty.
    ///
    /// # Errors
    /// The system's reason when a thread cannot be started.
    pub fn start(
        threads: usize,
        limit: usize,
        completions: &[Arc<Completions<S>>],
    ) -> std::io::Result<(CryptoPool<S>, Vec<JoinHandle<()>>)> {
        let (queue, jobs) = bounded(limit);
        let handles = (0..threads)
            .map(|n| {
                let (jobs, completions) = (jobs.clone(), completions.to_vec());
                std::thread::Builder::new().name(format!("crypto-{n}")).spawn(move || {
                    background::give_way();
                    work(&jobs, &completions);
                })
            })
            .collect::<Result<_, _>>()?;
        Ok((CryptoPool { queue, limit, high_water: HighWater::default() }, handles))
    }

    /// Queues a job of a worker; `false` when the queue is full.
    pub fn try_submit(&self, worker: usize, job: CryptoJob<S>) -> bool {
        let taken = self.queue.try_send((worker, job)).is_ok();
        self.high_water.raise(self.queue.len());
        taken
    }

    /// Jobs that wait, most that ever waited, limit.
    pub fn gauge(&self) -> Gauge {
        self.high_water.gauge(self.queue.len(), self.limit)
    }

    /// Jobs that wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no job waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

fn work<S: 'static>(jobs: &Receiver<(usize, CryptoJob<S>)>, completions: &[Arc<Completions<S>>]) {
    while let Ok((worker, job)) = jobs.recv() {
        completions[worker].deliver(job());
    }
}
