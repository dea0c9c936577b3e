//! The threads that answer queries. They may wait for the disk; a worker never does.
//!
//! ```text
//! queries, retractions ──▶ bounded queue ──▶ archive.readers threads
//! files for compaction,
//! erased texts         ──▶ bounded queue ──▶ one thread
//! ```
//! Upkeep reads whole files, and writes some anew: no query waits behind it.

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::erase::{self, Erasable};
use super::page;
use super::prepare::{self, Wanted};
use super::query::{Cost, Page, Query, QueryError};
use super::retract::{self, RetractQuery, Retracted};
use super::segments::Segments;
use crate::background::{self, Stretch};
use crate::directory::Directory;
use crate::log::{Histogram, LogError, Position};

pub use super::segments::Folders;

const THREAD: &str = "whimbrel-archive";

const UPKEEP_THREAD: &str = "whimbrel-upkeep";

/// Files that may wait to be gone through. A worker asks for one or two at a time.
const UPKEEP_MAX: usize = 256;

/// A thread that has nothing to do looks after so long whether files that it has open were deleted.
const IDLE: Duration = Duration::from_secs(5);

/// Answers queries on the thread that has it: for simulations and tools.
pub struct PageReader {
    directory: Directory,
    segments: Segments,
}

impl PageReader {
    /// Reads the index from the directory, and texts from journals that lie where `folders` says.
    #[must_use]
    pub fn new(directory: Directory, folders: Arc<Folders>) -> Self {
        Self { directory, segments: Segments::new(folders) }
    }

    /// As [`PageReader::new`], for a thread beside workers that may not wait for a disk: [`Page::continuation`] of its pages reads
    /// from memory alone.
    fn beside_workers(directory: Directory, folders: Arc<Folders>) -> Self {
        Self { directory, segments: Segments::new(folders).beside_workers() }
    }

    /// Answers a query. May wait for the disk.
    ///
    /// # Errors
    /// Index or segments cannot be read. A segment that is gone, or a damaged record, is no error: see [`Cost`].
    pub fn page(&mut self, query: &Query) -> Result<Page, QueryError> {
        self.segments.begin();
        page::answer(&self.directory, &mut self.segments, query)
    }

    /// What compaction is to move out of a segment. May wait for the disk.
    ///
    /// # Errors
    /// As [`PageReader::page`].
    pub fn wanted(&mut self, journal: u64, segment: Position) -> Result<Wanted, QueryError> {
        self.segments.begin();
        prepare::wanted(&self.directory, &mut self.segments, journal, segment)
    }

    /// The ids of all journals.
    #[must_use]
    pub fn journals(&self) -> Vec<u64> {
        self.segments.folders().ids()
    }

    /// The ids of those that nobody writes to any more.
    #[must_use]
    pub fn sealed_journals(&self) -> Vec<u64> {
        self.segments.folders().sealed_ids()
    }

    /// How many files a journal has, and a position behind the beginnings of them all, at or before which no later one begins.
    ///
    /// # Errors
    /// Its folder cannot be read.
    pub fn files(&mut self, journal: u64) -> Result<(usize, Position), QueryError> {
        let all = self.segments.all(journal)?;
        Ok((all.len(), Position(all.iter().max().map_or(0, |last| last.0 + 1))))
    }

    /// The texts of a segment that no archive has any more. May wait for the disk.
    ///
    /// # Errors
    /// As [`PageReader::page`].
    pub fn erasable(&mut self, journal: u64, segment: Position) -> Result<Vec<Erasable>, QueryError> {
        self.segments.begin();
        erase::erasable(&self.directory, &mut self.segments, journal, segment)
    }

    /// Takes the texts that no archive has any more out of the first segment that begins within some positions of a journal that
    /// nobody has open. Returns where the next one is to be looked for, and how many texts there were; `None`: there is no segment.
    ///
    /// # Errors
    /// As [`PageReader::page`]; the segment cannot be written anew.
    pub fn erase_sealed(
        &mut self,
        journal: u64,
        positions: Range<Position>,
    ) -> Result<Option<(Position, usize)>, QueryError> {
        let all = self.segments.all(journal)?;
        let Some(segment) = all.into_iter().find(|segment| positions.contains(segment)) else {
            return Ok(None);
        };
        let positions: Vec<Position> =
            self.erasable(journal, segment)?.into_iter().map(|text| text.position).collect();
        let texts = self.segments.wipe(journal, segment, &positions)?;
        Ok(Some((Position(segment.0 + 1), texts)))
    }

    /// What a retraction is about. May wait for the disk.
    ///
    /// # Errors
    /// As [`PageReader::page`].
    pub fn retracted(&mut self, query: RetractQuery) -> Result<Vec<Retracted>, QueryError> {
        self.segments.begin();
        retract::retracted(&self.directory, &mut self.segments, query)
    }
}

impl fmt::Debug for PageReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageReader").finish_non_exhaustive()
    }
}

/// What is done with the answer, on the reader's thread. It must not block.
pub type Done = Box<dyn FnOnce(Result<Page, QueryError>) + Send>;

/// What is done with what compaction is to move.
pub type PreparedDone = Box<dyn FnOnce(Result<Wanted, QueryError>) + Send>;

/// What is done with what a retraction is about.
pub type RetractedDone = Box<dyn FnOnce(Result<Vec<Retracted>, QueryError>) + Send>;

/// Something else that is done with what a thread reads with. It must not block.
pub type Task = Box<dyn FnOnce(&mut PageReader) + Send>;

enum Job {
    Page { query: Box<Query>, done: Done, since: Instant },
    Prepare { journal: u64, segment: Position, done: PreparedDone },
    Retract { query: Box<RetractQuery>, done: RetractedDone },
    Task(Task),
}

/// The queue of queries is full, or the threads have ended; a query is given back.
#[derive(Debug, thiserror::Error)]
#[error("the queue of archive queries is full")]
pub struct QueueFull(pub Option<Box<Query>>);

/// What the readers count. Written by their threads, read by anybody.
#[derive(Debug, Default)]
pub struct ReaderMetrics {
    /// Queries, or steps of them, that were answered.
    pub queries: AtomicU64,
    /// Of these, those that ended with an error.
    pub failures: AtomicU64,
    /// Messages given.
    pub messages: AtomicU64,
    /// Reads of segments.
    pub reads: AtomicU64,
    /// Bytes that they gave.
    pub read_bytes: AtomicU64,
    /// Messages whose segment was gone.
    pub gone: AtomicU64,
    /// Messages that the disk gave back otherwise than they were written.
    pub damaged: AtomicU64,
    /// Queries that were refused because the queue was full.
    pub refused: AtomicU64,
    /// Queries that are being answered.
    pub busy: AtomicU64,
    /// Most queries that were seen waiting.
    pub waiting_most: AtomicU64,
    /// Files that are gone through for upkeep, or wait for it; and most of them that there ever were.
    pub upkeep: AtomicU64,
    /// See `upkeep`.
    pub upkeep_most: AtomicU64,
    /// Microseconds from the submission of a query to its answer.
    pub latency_us: Histogram,
}

impl ReaderMetrics {
    fn count(&self, answer: &Result<Page, QueryError>, since: Instant) {
        self.queries.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok(page) => self.count_page(page),
            Err(_) => _ = self.failures.fetch_add(1, Ordering::Relaxed),
        }
        self.latency_us.record(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX));
    }

    fn count_page(&self, Page { messages, cost, .. }: &Page) {
        let add = |counter: &AtomicU64, by: usize| _ = counter.fetch_add(by as u64, Ordering::Relaxed);
        let Cost { reads, bytes, gone, damaged, .. } = *cost;
        add(&self.messages, messages.len());
        add(&self.reads, reads);
        add(&self.read_bytes, bytes);
        add(&self.gone, gone);
        add(&self.damaged, damaged);
    }

    /// A page was given without a thread ([`Continuation`](super::continuation::Continuation)).
    pub fn count_continued(&self, page: &Page) {
        self.count_page(page);
    }
}

/// Where jobs go.
struct Queues {
    queries: Sender<Job>,
    upkeep: Sender<Job>,
}

/// The threads that answer queries. Dropping it does what [`Readers::finish`] does.
pub struct Readers {
    queues: RwLock<Option<Queues>>,
    limit: usize,
    metrics: Arc<ReaderMetrics>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Readers {
    /// Starts so many threads (at least 1) for queries, of which `queue` (at least 1) may wait, and one for upkeep.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(
        directory: &Directory,
        folders: &Arc<Folders>,
        threads: usize,
        queue: usize,
    ) -> Result<Self, LogError> {
        let limit = queue.max(1);
        let (queries, of_queries) = bounded(limit);
        let (upkeep, of_upkeep) = bounded(UPKEEP_MAX);
        let readers = Self {
            queues: RwLock::new(Some(Queues { queries, upkeep })),
            limit,
            metrics: Arc::default(),
            threads: Mutex::default(),
        };
        let all = std::iter::repeat_n((THREAD, of_queries), threads.max(1));
        for (name, jobs) in all.chain([(UPKEEP_THREAD, of_upkeep)]) {
            let mut reader = PageReader::beside_workers(directory.clone(), folders.clone());
            let metrics = readers.metrics.clone();
            let run = move || {
                background::give_way();
                run(&mut reader, &jobs, &metrics);
            };
            let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
            let thread = thread.map_err(|source| LogError::Thread { name, source: Arc::new(source) })?;
            readers.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(readers)
    }

    /// Has a query answered. Never waits.
    ///
    /// # Errors
    /// [`QueueFull`]; `done` is not called then.
    pub fn try_submit(&self, query: Query, done: Done) -> Result<(), QueueFull> {
        self.submit(Job::Page { query: Box::new(query), done, since: Instant::now() })
    }

    /// Has it found out what compaction is to move out of a segment ([`Archive::to_prepare`](super::Archive::to_prepare)), by the
    /// thread for upkeep. Never waits.
    ///
    /// # Errors
    /// [`QueueFull`]; `done` is not called then.
    pub fn try_prepare(&self, journal: u64, segment: Position, done: PreparedDone) -> Result<(), QueueFull> {
        self.submit(Job::Prepare { journal, segment, done })
    }

    /// Has it found out what a retraction is about. Never waits.
    ///
    /// # Errors
    /// [`QueueFull`]; `done` is not called then.
    pub fn try_retract(&self, query: RetractQuery, done: RetractedDone) -> Result<(), QueueFull> {
        self.submit(Job::Retract { query: Box::new(query), done })
    }

    /// Has something else done, by the thread for upkeep. Never waits.
    ///
    /// # Errors
    /// [`QueueFull`]; it is not done then.
    pub fn try_task(&self, task: Task) -> Result<(), QueueFull> {
        self.submit(Job::Task(task))
    }

    fn submit(&self, job: Job) -> Result<(), QueueFull> {
        let queues = self.queues.read().unwrap_or_else(PoisonError::into_inner);
        let is_query = matches!(job, Job::Page { .. } | Job::Retract { .. });
        let queue = queues.as_ref().map(|queues| if is_query { &queues.queries } else { &queues.upkeep });
        if !is_query {
            let upkeep = self.metrics.upkeep.fetch_add(1, Ordering::Relaxed) + 1;
            self.metrics.upkeep_most.fetch_max(upkeep, Ordering::Relaxed);
        }
        let sent = match queue {
            Some(queue) => queue.try_send(job).map_err(|error| error.into_inner()),
            None => Err(job),
        };
        if let Err(job) = sent {
            self.metrics.refused.fetch_add(u64::from(is_query), Ordering::Relaxed);
            self.metrics.upkeep.fetch_sub(u64::from(!is_query), Ordering::Relaxed);
            return Err(QueueFull(match job {
                Job::Page { query, .. } => Some(query),
                Job::Prepare { .. } | Job::Retract { .. } | Job::Task(_) => None,
            }));
        }
        if let Some(queue) = queue.filter(|_| is_query) {
            self.metrics.waiting_most.fetch_max(queue.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Queries that wait, and how many may.
    pub fn gauge(&self) -> (usize, usize) {
        let queues = self.queues.read().unwrap_or_else(PoisonError::into_inner);
        (queues.as_ref().map_or(0, |queues| queues.queries.len()), self.limit)
    }

    /// Files that are gone through for upkeep or wait for it, most of them that there ever were, and how many may wait.
    pub fn upkeep_gauge(&self) -> (u64, u64, usize) {
        let ReaderMetrics { upkeep, upkeep_most, .. } = &*self.metrics;
        (upkeep.load(Ordering::Relaxed), upkeep_most.load(Ordering::Relaxed), UPKEEP_MAX)
    }

    /// What they count.
    #[must_use]
    pub fn metrics(&self) -> &ReaderMetrics {
        &self.metrics
    }

    /// Takes no more queries, and waits until all there are have been answered and the threads have ended. Calling it again
    /// does nothing.
    pub fn finish(&self) {
        drop(self.queues.write().unwrap_or_else(PoisonError::into_inner).take());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A panic can only have come from `done`, and has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.finish();
    }
}

fn run(reader: &mut PageReader, jobs: &Receiver<Job>, metrics: &ReaderMetrics) {
    let (mut tidied, mut stretch) = (Instant::now(), Stretch::begin());
    loop {
        if tidied.elapsed() > IDLE {
            // A thread that is never idle must not keep what has been deleted, or written anew, on the disk either.
            reader.segments.close_deleted();
            tidied = Instant::now();
        }
        // With a thousand clients that page there is always one more, and event loops want the core as well.
        stretch.rest_when_due();
        let job = match jobs.try_recv() {
            Ok(job) => job,
            Err(_) => match jobs.recv_timeout(IDLE) {
                Ok(job) => {
                    stretch = Stretch::begin();
                    job
                }
                Err(RecvTimeoutError::Timeout) => {
                    reader.segments.close_deleted();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            },
        };
        metrics.busy.fetch_add(1, Ordering::Relaxed);
        match job {
            Job::Page { query, done, since } => {
                let answer = guarded(reader, |reader| reader.page(&query));
                metrics.count(&answer, since);
                metrics.busy.fetch_sub(1, Ordering::Relaxed);
                done(answer);
            }
            Job::Retract { query, done } => {
                let answer = guarded(reader, |reader| reader.retracted(*query));
                metrics.busy.fetch_sub(1, Ordering::Relaxed);
                done(answer);
            }
            Job::Task(task) => {
                // What it panics at has been reported by the panic hook, and nobody waits for an answer.
                let done = guarded(reader, |reader| {
                    task(reader);
                    Ok(())
                });
                metrics.upkeep.fetch_sub(1, Ordering::Relaxed);
                metrics.busy.fetch_sub(1, Ordering::Relaxed);
                drop(done);
            }
            Job::Prepare { journal, segment, done } => {
                let answer = guarded(reader, |reader| reader.wanted(journal, segment));
                metrics.upkeep.fetch_sub(1, Ordering::Relaxed);
                metrics.busy.fetch_sub(1, Ordering::Relaxed);
                done(answer);
            }
        }
    }
}

/// Does something that may panic.
fn guarded<T>(
    reader: &mut PageReader,
    run: impl FnOnce(&mut PageReader) -> Result<T, QueryError>,
) -> Result<T, QueryError> {
    // Nothing half-done of the reader is used again: what it knows of files is looked up anew.
    catch_unwind(AssertUnwindSafe(|| run(reader))).unwrap_or_else(|_| {
        reader.segments.close_deleted();
        Err(QueryError::Panicked)
    })
}
