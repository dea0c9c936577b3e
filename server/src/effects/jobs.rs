//! Work that a worker hands to other threads: directory writes, password hashing, reading archives. `S` is the state that goes on with
//! what comes back: nothing here looks into it.
//!
//! A job comes back as a [`Done`] in the worker's completion queue. The worker keeps what it needs for a
//! failed write in a table of pending jobs, keyed by the job_id that travels with the job.

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use slab::Slab;
use whimbrel_storage::archive::prepare::Wanted;
use whimbrel_storage::archive::query::{Page, Query, QueryError};
use whimbrel_storage::archive::readers::{PageReader, Readers};
use whimbrel_storage::archive::retract::{RetractQuery, Retracted};
use whimbrel_storage::directory::{self, Directory, DirectoryError, Writer};
use whimbrel_storage::log::Position;

use crate::effects::Effects;
use crate::effects::crypto::{CryptoJob, CryptoPool};
use crate::env::Env;
use crate::proto::errors::StanzaError;
use crate::runtime::driver::{ConnId, Wake};
use crate::runtime::gauge::Gauge;
use crate::runtime::intake::Intake;

/// What runs on the worker after a write was committed.
pub type Then<S> = Box<dyn FnOnce(&mut S, &Env, &mut Effects<S>) + Send>;

/// What runs on the worker when a write failed.
pub type Failed<S> = Box<dyn FnOnce(&mut S, &Env, &mut Effects<S>, StanzaError) + Send>;

/// A guess at a password: it counts even if its client does not wait for the answer.
pub struct Guess {
    /// The account's localpart.
    pub account: Box<str>,
    /// The mechanism's name.
    pub mechanism: &'static str,
    /// Where the client connected from.
    pub peer: IpAddr,
}

/// A job that has come back.
pub enum Done<S> {
    /// A directory write, by its job_id.
    Write(u64, Result<Then<S>, DirectoryError>),
    /// A password hash of a session that is negotiating.
    Password {
        /// The connection that waits for it.
        conn: ConnId,
        /// Whether the password was right.
        accepted: bool,
        /// What it was, should the connection be gone.
        guess: Option<Box<Guess>>,
    },
    /// Something hashed for a bound user.
    Derived(Then<S>),
    /// A page of an archive.
    Found(Then<S>),
}

/// The completion queue of one worker.
pub struct Completions<S> {
    queue: Intake<Done<S>>,
    wake: Arc<dyn Wake>,
}

impl<S: 'static> Completions<S> {
    /// A queue for `limit` results.
    pub fn new(limit: usize, wake: Arc<dyn Wake>) -> Completions<S> {
        Completions { queue: Intake::new(limit), wake }
    }

    /// Delivers a result. Waits while the queue is full: the threads that call this may wait, and workers,
    /// which empty it, never wait for them.
    pub fn deliver(&self, mut done: Done<S>) {
        while let Err(back) = self.queue.push(done) {
            done = back;
            self.wake.wake();
            std::thread::yield_now();
        }
        self.wake.wake();
    }

    /// The next result.
    pub fn take(&self) -> Option<Done<S>> {
        self.queue.pop()
    }

    /// Results that wait, most that ever waited, limit.
    pub fn gauge(&self) -> Gauge {
        self.queue.gauge()
    }

    /// Results that wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether a result can be taken.
    pub fn has_next(&self) -> bool {
        self.queue.has_next()
    }

    /// Whether no result waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// Where jobs go.
pub enum Backend<S> {
    /// To the writer thread and the crypto pool.
    Threads {
        /// The directory's writer.
        writer: Arc<Writer<Then<S>>>,
        /// Password hashing.
        crypto: Arc<CryptoPool<S>>,
        /// Archives; `None`: there are none.
        readers: Option<Arc<Readers>>,
    },
    /// Done<S> at once, on the calling thread.
    Inline(Directory, Box<Mutex<PageReader>>),
    /// Done<S> when the simulation says so.
    Stepped(Arc<Stepped<S>>),
}

/// The jobs of all workers of a simulation. They wait here, in order, until somebody runs them, so that everything
/// can happen between the submission of a job, its run, and the hour its result is looked at.
pub struct Stepped<S> {
    writes: Mutex<VecDeque<(u64, directory::Job<Then<S>>)>>,
    hashes: Mutex<VecDeque<(usize, CryptoJob<S>)>>,
    looks: Mutex<VecDeque<(usize, Look<S>)>>,
    reader: Mutex<PageReader>,
    limit: usize,
}

/// What is wanted of a segment, or the failure to find out, leads to. Called on a reader's thread.
pub type PrepareThen<S> = Box<dyn FnOnce(Result<Wanted, QueryError>) -> Then<S> + Send>;

/// What the messages that a retraction is about, or the failure to find them, lead to. Called on a reader's thread.
pub type RetractThen<S> = Box<dyn FnOnce(Result<Vec<Retracted>, QueryError>) -> Then<S> + Send>;

/// Something else that a reader's thread does; what it returns runs on the worker.
pub type ReadTask<S> = Box<dyn FnOnce(&mut PageReader) -> Then<S> + Send>;

/// Something that is read for a worker.
enum Look<S> {
    Task(ReadTask<S>),
    Page(Box<Query>, GoOn<S>),
    Retract(Box<RetractQuery>, RetractThen<S>),
}

impl<S> Look<S> {
    fn run(self, reader: &mut PageReader) -> Then<S> {
        match self {
            Look::Task(task) => task(reader),
            Look::Page(query, go_on) => go_on(reader.page(&query)),
            Look::Retract(query, go_on) => go_on(reader.retracted(*query)),
        }
    }
}

/// What a page of an archive, or the failure to read it, leads to. Called on a reader's thread.
pub type GoOn<S> = Box<dyn FnOnce(Result<Page, QueryError>) -> Then<S> + Send>;

impl<S: 'static> Stepped<S> {
    /// Queues for writes, hashes and pages of archives, which `reader` reads, with room for `limit` jobs each.
    pub fn new(limit: usize, reader: PageReader) -> Stepped<S> {
        Stepped {
            writes: Mutex::default(),
            hashes: Mutex::default(),
            looks: Mutex::default(),
            reader: Mutex::new(reader),
            limit,
        }
    }

    /// Reads the page that was asked for first and delivers it. `false`: there is none.
    pub fn run_look(&self, completions: &[Arc<Completions<S>>]) -> bool {
        let next = self.looks.lock().expect("nothing panics while it holds this lock").pop_front();
        let Some((worker, look)) = next else { return false };
        let then = look.run(&mut self.reader.lock().expect("nothing panics while it holds this lock"));
        completions[worker].deliver(Done::Found(then));
        true
    }

    /// Runs the oldest write and delivers its result to the worker that submitted it. `false`: there is none.
    pub fn run_write(&self, directory: &Directory, completions: &[Arc<Completions<S>>]) -> bool {
        let next = self.writes.lock().expect("nothing panics while it holds this lock").pop_front();
        let Some((job_id, job)) = next else { return false };
        let result = directory::run_inline(directory, job);
        completions[Jobs::<S>::worker_of(job_id)].deliver(Done::Write(job_id, result));
        true
    }

    /// Runs the oldest hash and delivers its result. `false`: there is none.
    pub fn run_hash(&self, completions: &[Arc<Completions<S>>]) -> bool {
        let next = self.hashes.lock().expect("nothing panics while it holds this lock").pop_front();
        let Some((worker, job)) = next else { return false };
        completions[worker].deliver(job());
        true
    }

    /// Jobs<S> that wait: writes and hashes.
    pub fn waiting(&self) -> (usize, usize) {
        let writes = self.writes.lock().expect("nothing panics while it holds this lock").len();
        let hashes = self.hashes.lock().expect("nothing panics while it holds this lock").len();
        (writes, hashes)
    }

    /// Pages of archives that wait to be read.
    pub fn looks_waiting(&self) -> usize {
        self.looks.lock().expect("nothing panics while it holds this lock").len()
    }

    fn put<T>(queue: &Mutex<VecDeque<T>>, limit: usize, job: T) -> bool {
        let mut queue = queue.lock().expect("nothing panics while it holds this lock");
        let room = queue.len() < limit;
        if room {
            queue.push_back(job);
        }
        room
    }
}

/// A worker's jobs.
pub struct Jobs<S> {
    worker: usize,
    backend: Backend<S>,
    completions: Arc<Completions<S>>,
    pending: Slab<Failed<S>>,
    /// Passwords that are being hashed.
    hashing: Cell<usize>,
    /// Pages of archives that are being read.
    looking: Cell<usize>,
    /// Answers for connections that negotiate.
    answers: Vec<(ConnId, Vec<u8>)>,
}

impl<S: 'static> Jobs<S> {
    /// Jobs<S> of a worker.
    pub fn new(worker: usize, backend: Backend<S>, completions: Arc<Completions<S>>) -> Jobs<S> {
        Jobs {
            worker,
            backend,
            completions,
            pending: Slab::new(),
            hashing: Cell::new(0),
            looking: Cell::new(0),
            answers: Vec::new(),
        }
    }

    /// Whether less than half of the room for writes is taken. What no client waits for is left out beyond that, so that the many who
    /// bring it about at the same moment take no room from requests.
    pub fn has_room_to_spare(&self) -> bool {
        let (waiting, limit) = match &self.backend {
            Backend::Threads { writer, .. } => {
                let (waiting, _, limit) = writer.gauge();
                (waiting, limit)
            }
            Backend::Inline(..) => return true,
            Backend::Stepped(stepped) => (stepped.waiting().0, stepped.limit),
        };
        waiting < limit.div_ceil(2)
    }

    /// The worker a job_id belongs to.
    pub fn worker_of(job_id: u64) -> usize {
        (job_id >> 32) as usize
    }

    /// The next result.
    pub fn take(&self) -> Option<Done<S>> {
        let done = self.completions.take();
        if matches!(done, Some(Done::Password { .. } | Done::Derived(_))) {
            self.hashing.set(self.hashing.get().saturating_sub(1));
        }
        if matches!(done, Some(Done::Found(_))) {
            self.looking.set(self.looking.get().saturating_sub(1));
        }
        done
    }

    /// Whether nothing is under way: neither writes nor hashes nor pages of archives.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
            && self.hashing.get() == 0
            && self.looking.get() == 0
            && self.completions.is_empty()
    }

    /// Whether a result can be taken.
    pub fn has_completions(&self) -> bool {
        self.completions.has_next()
    }

    /// Jobs<S> that have not come back.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Submits a write; `failed` is kept for the case that it fails. `false`: the queue is full.
    pub fn write(&mut self, job: directory::Job<Then<S>>, failed: Failed<S>) -> bool {
        let key = self.pending.insert(failed);
        let job_id = ((self.worker as u64) << 32) | key as u64;
        match &self.backend {
            Backend::Threads { writer, .. } => {
                if writer.try_submit(job_id, job).is_err() {
                    drop(self.pending.remove(key));
                    return false;
                }
            }
            Backend::Stepped(stepped) => {
                if !Stepped::<S>::put(&stepped.writes, stepped.limit, (job_id, job)) {
                    drop(self.pending.remove(key));
                    return false;
                }
            }
            Backend::Inline(directory, _) => {
                let result = directory::run_inline(directory, job);
                self.completions.deliver(Done::Write(job_id, result));
            }
        }
        true
    }

    /// Takes what was kept for a failed write.
    pub fn failed_of(&mut self, job_id: u64) -> Option<Failed<S>> {
        self.pending.try_remove((job_id & 0xffff_ffff) as usize)
    }

    /// What a job has to say to a connection that negotiates and waits for it.
    pub fn answer(&mut self, conn: ConnId, bytes: Vec<u8>) {
        self.answers.push((conn, bytes));
    }

    /// The answers since the last call.
    pub fn take_answers(&mut self) -> Vec<(ConnId, Vec<u8>)> {
        std::mem::take(&mut self.answers)
    }

    /// Gives the pool a password to hash. `false` when its queue is full.
    pub fn hash(&self, job: CryptoJob<S>) -> bool {
        let taken = match &self.backend {
            Backend::Threads { crypto, .. } => crypto.try_submit(self.worker, job),
            Backend::Inline(..) => {
                self.completions.deliver(job());
                true
            }
            Backend::Stepped(stepped) => {
                Stepped::<S>::put(&stepped.hashes, stepped.limit, (self.worker, job))
            }
        };
        self.hashing.set(self.hashing.get() + usize::from(taken));
        taken
    }

    /// Pages of archives that are being read, and segments for compaction.
    pub fn looking(&self) -> usize {
        self.looking.get()
    }

    /// Has it found out what of a segment of this worker's log the archives still want; what `go_on` makes of it runs on this
    /// worker. `false`: too many queries wait already.
    pub fn prepare(&self, (journal, segment): (u64, Position), go_on: PrepareThen<S>) -> bool {
        let taken = match &self.backend {
            Backend::Threads { readers: Some(readers), .. } => {
                let completions = self.completions.clone();
                let done = move |wanted| completions.deliver(Done::Found(go_on(wanted)));
                readers.try_prepare(journal, segment, Box::new(done)).is_ok()
            }
            Backend::Threads { readers: None, .. } => false,
            Backend::Inline(_, reader) => {
                let mut reader = reader.lock().expect("nothing panics while it holds this lock");
                self.completions.deliver(Done::Found(go_on(reader.wanted(journal, segment))));
                true
            }
            Backend::Stepped(stepped) => {
                let mut reader = stepped.reader.lock().expect("nothing panics while it holds this lock");
                self.completions.deliver(Done::Found(go_on(reader.wanted(journal, segment))));
                true
            }
        };
        self.looking.set(self.looking.get() + usize::from(taken));
        taken
    }

    /// Has a page of an archive read; what `go_on` makes of it runs on this worker. `false`: too many wait already, or there
    /// are no archives.
    pub fn look(&self, query: Query, go_on: GoOn<S>) -> bool {
        let taken = match &self.backend {
            Backend::Threads { readers: Some(readers), .. } => {
                let completions = self.completions.clone();
                let done = move |answer| completions.deliver(Done::Found(go_on(answer)));
                readers.try_submit(query, Box::new(done)).is_ok()
            }
            Backend::Threads { readers: None, .. } => false,
            Backend::Inline(_, reader) => {
                let page = reader.lock().expect("nothing panics while it holds this lock").page(&query);
                self.completions.deliver(Done::Found(go_on(page)));
                true
            }
            Backend::Stepped(stepped) => {
                let look = Look::Page(Box::new(query), go_on);
                Stepped::<S>::put(&stepped.looks, stepped.limit, (self.worker, look))
            }
        };
        self.looking.set(self.looking.get() + usize::from(taken));
        taken
    }

    /// A page was given without a thread.
    pub fn count_continued(&self, page: &Page) {
        if let Backend::Threads { readers: Some(readers), .. } = &self.backend {
            readers.metrics().count_continued(page);
        }
    }

    /// Has a reader's thread do something. `false`: too many queries wait already, or there are no archives.
    pub fn task(&self, task: ReadTask<S>) -> bool {
        let taken = match &self.backend {
            Backend::Threads { readers: Some(readers), .. } => {
                let completions = self.completions.clone();
                let run = move |reader: &mut PageReader| {
                    // Whoever waits for it waits for ever, but nobody else does; the panic hook has reported it.
                    let then = catch_unwind(AssertUnwindSafe(|| task(reader)));
                    completions.deliver(Done::Found(then.unwrap_or_else(|_| Box::new(|_, _, _| {}))));
                };
                readers.try_task(Box::new(run)).is_ok()
            }
            Backend::Threads { readers: None, .. } => false,
            Backend::Inline(_, reader) => {
                let mut reader = reader.lock().expect("nothing panics while it holds this lock");
                self.completions.deliver(Done::Found(task(&mut reader)));
                true
            }
            Backend::Stepped(stepped) => {
                Stepped::<S>::put(&stepped.looks, stepped.limit, (self.worker, Look::Task(task)))
            }
        };
        self.looking.set(self.looking.get() + usize::from(taken));
        taken
    }

    /// Has it found out what a retraction is about; what `go_on` makes of it runs on this worker. `false`: too many queries
    /// wait already, or there are no archives.
    pub fn retract(&self, query: RetractQuery, go_on: RetractThen<S>) -> bool {
        let taken = match &self.backend {
            Backend::Threads { readers: Some(readers), .. } => {
                let completions = self.completions.clone();
                let done = move |answer| completions.deliver(Done::Found(go_on(answer)));
                readers.try_retract(query, Box::new(done)).is_ok()
            }
            Backend::Threads { readers: None, .. } => false,
            Backend::Inline(_, reader) => {
                let mut reader = reader.lock().expect("nothing panics while it holds this lock");
                self.completions.deliver(Done::Found(go_on(reader.retracted(query))));
                true
            }
            Backend::Stepped(stepped) => {
                let look = Look::Retract(Box::new(query), go_on);
                Stepped::<S>::put(&stepped.looks, stepped.limit, (self.worker, look))
            }
        };
        self.looking.set(self.looking.get() + usize::from(taken));
        taken
    }
}
