//! The writer: one thread that runs jobs, many to a transaction.
//!
//! ```text
//! workers ──try_submit──▶ bounded queue ──▶ whimbrel-dir
//!                                            begin
//!                                            ├─ job 1, in a transaction inside the transaction
//!                                            ├─ job 2, likewise …      (an Err or a panic undoes that job alone)
//!                                            commit, sync
//!    results, in the order of the jobs  ◀──  deliver
//! ```
//!
//! A commit waits for the disk, so all that waits when a batch begins, and what comes while it runs, goes into one,
//! up to [`BATCH_JOBS_MAX`] jobs or [`BATCH_TIME_MAX`]. Nothing is acknowledged before the commit; when that fails,
//! every job of the batch gets [`DirectoryError::NotCommitted`] and nothing of it is in the directory. One exception: a disk
//! that fails the write of the new root and then that of the old one, too (a file system that has become read-only), may keep
//! the batch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::error::DirectoryError;
use super::{Directory, WriteTransaction};
use crate::background::{self, Stretch};

/// Most jobs in one transaction.
pub const BATCH_JOBS_MAX: usize = 4096;

/// A batch takes no further job after this time, rests included.
pub const BATCH_TIME_MAX: Duration = Duration::from_millis(10);

const THREAD: &str = "whimbrel-dir";

/// One change. When it returns an error, nothing of it is written.
///
/// It runs on the writer's thread and must not start another transaction there ([`run_inline`] would wait for
/// itself for ever).
pub type Job<C> = Box<dyn FnOnce(&mut WriteTransaction<'_>) -> Result<C, DirectoryError> + Send>;

/// A job and what tells whose it is.
type Ticketed<C> = (u64, Job<C>);

/// The queue is full, or the writer has finished; the job was dropped without having run.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the directory's queue of changes is full")]
pub struct QueueFull;

/// The directory's writer thread, by its queue. Dropping it does what [`Writer::finish`] does.
pub struct Writer<C> {
    queue: RwLock<Option<Sender<Ticketed<C>>>>,
    most: AtomicUsize,
    limit: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<C: Send + 'static> Writer<C> {
    /// Starts the thread. `queue` jobs (at least 1) may wait; `deliver` gets each result with its job_id, on the thread, after the
    /// commit. While it waits, the queue fills up.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        directory: Directory,
        queue: usize,
        mut deliver: impl FnMut(u64, Result<C, DirectoryError>) + Send + 'static,
    ) -> Result<Self, DirectoryError> {
        let queue = queue.max(1);
        let (sender, receiver) = bounded(queue);
        let thread = thread::Builder::new()
            .name(THREAD.into())
            .spawn(move || {
                background::give_way();
                run(&directory, &receiver, &mut deliver);
            })
            .map_err(|source| DirectoryError::Thread { name: THREAD, source: Arc::new(source) })?;
        Ok(Self {
            queue: RwLock::new(Some(sender)),
            most: AtomicUsize::new(0),
            limit: queue,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Gives the writer a job. Never waits.
    ///
    /// # Errors
    /// [`QueueFull`]; the job will not run then.
    pub fn try_submit(&self, job_id: u64, job: Job<C>) -> Result<(), QueueFull> {
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        let queue = queue.as_ref().ok_or(QueueFull)?;
        queue.try_send((job_id, job)).map_err(|_| QueueFull)?;
        // Looked at after the fact, so the writer may have taken some already: a mark for the eye, not an account.
        self.most.fetch_max(queue.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Jobs that wait (those of the batch under way no longer do), most that were seen waiting, limit.
    pub fn gauge(&self) -> (usize, usize, usize) {
        let queue = self.queue.read().unwrap_or_else(PoisonError::into_inner);
        let waiting = queue.as_ref().map_or(0, Sender::len);
        (waiting, self.most.load(Ordering::Relaxed), self.limit)
    }
}

impl<C> Writer<C> {
    /// Takes no more jobs, and waits until all there are have been written and delivered and the thread has ended.
    /// Calling it again does nothing.
    pub fn finish(&self) {
        // Without a sender the thread ends once the queue is empty. `try_submit` holds the lock while it sends, so
        // every job it has accepted is in the queue by now.
        drop(self.queue.write().unwrap_or_else(PoisonError::into_inner).take());
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // A panic can only have come from `deliver`, and has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl<C> Drop for Writer<C> {
    fn drop(&mut self) {
        self.finish();
    }
}

fn run<C>(
    directory: &Directory,
    queue: &Receiver<Ticketed<C>>,
    deliver: &mut impl FnMut(u64, Result<C, DirectoryError>),
) {
    let mut results = Vec::new();
    while let Ok(first) = queue.recv() {
        if let Err(error) = batch(directory, first, queue, &mut results) {
            let error = Arc::new(error);
            for (_, result) in &mut results {
                // A job that had failed by itself keeps its own reason.
                if result.is_ok() {
                    *result = Err(DirectoryError::NotCommitted(error.clone()));
                }
            }
        }
        for (job_id, result) in results.drain(..) {
            deliver(job_id, result);
        }
    }
}

/// Runs a batch into `results`. An error is that of its commit.
fn batch<C>(
    directory: &Directory,
    first: Ticketed<C>,
    queue: &Receiver<Ticketed<C>>,
    results: &mut Vec<(u64, Result<C, DirectoryError>)>,
) -> Result<(), DirectoryError> {
    let job_id = first.0;
    let outcome = directory.0.write(|transaction| {
        let until = Instant::now() + BATCH_TIME_MAX;
        let mut stretch = Stretch::begin();
        let mut next = Some(first);
        while let Some((job_id, job)) = next {
            results.push((job_id, run_nested(transaction, job)));
            stretch.rest_when_due();
            let is_full = results.len() >= BATCH_JOBS_MAX || Instant::now() >= until;
            next = if is_full { None } else { queue.try_recv().ok() };
        }
        Ok(())
    });
    if results.is_empty() {
        // It could not begin. Those that wait may meet a disk that works again.
        results.extend(outcome.err().map(|error| (job_id, Err(error))));
        return Ok(());
    }
    outcome
}

/// Runs a job so that an error or a panic of its leaves nothing behind.
fn run_nested<C>(transaction: &mut WriteTransaction<'_>, job: Job<C>) -> Result<C, DirectoryError> {
    let mut nested = transaction.nested()?;
    let value = run_job(&mut nested, job)?;
    nested.commit()?;
    Ok(value)
}

fn run_job<C>(transaction: &mut WriteTransaction<'_>, job: Job<C>) -> Result<C, DirectoryError> {
    // What the job has touched of the transaction is thrown away when it panics, so nothing half-done is seen.
    catch_unwind(AssertUnwindSafe(|| job(transaction))).unwrap_or(Err(DirectoryError::JobPanicked))
}

/// Runs one job in a transaction of its own, on this thread. Waits while another write is under way.
///
/// # Errors
/// What the job returns, or the commit's failure; nothing was written then.
pub fn run_inline<C>(directory: &Directory, job: Job<C>) -> Result<C, DirectoryError> {
    directory.0.write(|transaction| run_job(transaction, job))
}
