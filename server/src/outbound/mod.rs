//! Sending to services outside: a bounded queue, a few threads, and a sender that makes one attempt at a time. Each kind
//! of message has an [`Outbound`] of its own, so that a provider that is down delays nothing of another kind.
//!
//! ```text
//! feature ──try_send──▶ queue ──▶ NAME-0 … NAME-n ── sender.send, again with growing pauses until the deadline
//!    ▲                               │
//!    └──────────── outcome ◀─────────┴──▶ a line in the file of dead letters, when it is not sent
//! ```
//! Nothing else of the server waits for any of this. The feature hears the outcome of each message, at the latest one
//! attempt after its deadline. A full queue refuses the next message at once.
//!
//! A kind of message says what it is for dead letters ([`Outgoing`]); a [`Sender`] knows one way to a provider. Text
//! messages are the first kind (`registration::gateway`); another one is a type that is [`Outgoing`], its senders, and an
//! [`Outbound`] that its feature starts, with the gauge `queue.NAME.*`. Push notifications (XEP-0357) take another way
//! (`whimbrel_push`): many of them share a connection to their provider and wait for answers at once, which is no work for
//! a thread each.
//!
//! | module | what |
//! | --- | --- |
//! | [`attempts`] | when to try again, and when to give up: no clock of its own |
//! | [`jitter`] | chance for pauses |
//! | [`dead_letters`] | messages that were not sent, for the operator |

pub mod attempts;
pub mod dead_letters;
pub mod jitter;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, RecvTimeoutError, TryRecvError, bounded};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use crate::drain::{DrainGate, InFlight};
use crate::runtime::gauge::{Gauge, HighWater};

use attempts::{Attempts, Next};
use dead_letters::DeadLetters;
use jitter::Jitter;

/// A message of some kind, as far as sending it is concerned.
pub trait Outgoing: Send + 'static {
    /// Names it: the same in each attempt, so that a provider can drop the second of two.
    fn id(&self) -> u64;

    /// Tells the log that it was not sent, the recipient masked, and returns the fields by which the operator finds it
    /// in the file of dead letters. Neither holds its content.
    fn dead_letter(&self, lost: &Lost<'_>) -> Map<String, Value>;
}

/// Why a message is given up.
#[derive(Copy, Clone, Debug)]
pub struct Lost<'a> {
    /// The sender's name.
    pub sender: &'a str,
    /// `refused` or `unreachable`.
    pub kind: &'a str,
    /// The sender's reason, shortened.
    pub reason: &'a str,
}

/// One way to send messages of a kind.
pub trait Sender<M>: Send + Sync {
    /// Its name in logs.
    fn name(&self) -> &'static str;

    /// Makes one attempt, which takes `within` at most.
    ///
    /// # Errors
    /// Why the message was not sent.
    fn send(&self, message: &M, within: Duration) -> Result<(), Failure>;
}

/// Why an attempt failed. The text is for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// For good: the recipient or the account with the provider is refused.
    Refused(String),
    /// This time; another attempt may succeed.
    Unreachable(String),
}

/// What became of a message.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// The provider has taken it.
    Sent,
    /// The provider refuses it for good.
    Refused,
    /// No attempt succeeded in time.
    Unreachable,
    /// The server stops: it was not tried, or its last attempt is left to itself.
    Stopping,
}

/// The outcome of a message, and the length of the attempt that decided it.
pub type Delivery = (SendOutcome, Duration);

/// How much waits, how many attempts are made at a time, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The kind of message, for the names of threads.
    pub name: &'static str,
    /// Messages that wait at most.
    pub queue: usize,
    /// Threads, each of which makes one attempt at a time.
    pub threads: u32,
    /// The pause after the first failed attempt; each further one is twice as long, give or take a half.
    pub pause_first: Duration,
    /// Chance for the pauses.
    pub jitter: Jitter,
    /// The file of messages that were not sent.
    pub dead_letters: PathBuf,
}

/// The queue is full, or the server stops.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct QueueFull;

struct Job<M> {
    number: u64,
    message: M,
    deadline: Instant,
}

/// The queue of one kind of message, with its threads.
pub struct Outbound<M> {
    shared: Arc<Shared<M>>,
    running: Mutex<Option<Running<M>>>,
    high_water: HighWater,
    next: AtomicU64,
    /// Threads under way.
    threads: DrainGate,
}

/// What the threads share.
struct Shared<M> {
    settings: Settings,
    sender: Arc<dyn Sender<M>>,
    dead: DeadLetters,
    /// The ends to which outcomes go, by the number of the job.
    waiting: Mutex<HashMap<u64, oneshot::Sender<Delivery>>>,
}

/// Ends of channels. Those of the threads end when these do.
struct Running<M> {
    queue: channel::Sender<Job<M>>,
    jobs: Receiver<Job<M>>,
    /// Nothing is ever sent here: dropped, it ends pauses.
    _stop: channel::Sender<()>,
}

impl<M: Outgoing> Outbound<M> {
    /// Starts the threads.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(settings: Settings, sender: Arc<dyn Sender<M>>) -> std::io::Result<Outbound<M>> {
        let dead = DeadLetters::in_file(settings.dead_letters.clone());
        let outbound = Outbound {
            shared: Arc::new(Shared { settings, sender, dead, waiting: Mutex::default() }),
            running: Mutex::new(None),
            high_water: HighWater::default(),
            next: AtomicU64::new(0),
            threads: DrainGate::default(),
        };
        outbound.restart()?;
        Ok(outbound)
    }

    /// Starts the threads again after [`Outbound::stop`]. One that is still at an attempt ends after it.
    ///
    /// # Errors
    /// A thread cannot be started; then nothing is sent.
    pub fn restart(&self) -> std::io::Result<()> {
        let settings = &self.shared.settings;
        let (queue, jobs) = bounded(settings.queue);
        let (stop, stopped) = bounded::<()>(0);
        self.threads.open();
        for n in 0..settings.threads {
            let (shared, jobs, stopped) = (self.shared.clone(), jobs.clone(), stopped.clone());
            let Some(under_way) = self.threads.enter() else { break };
            let jitter = settings.jitter.for_thread(n);
            std::thread::Builder::new()
                .name(format!("{}-{n}", settings.name))
                .spawn(move || shared.work(&jobs, &stopped, jitter, under_way))?;
        }
        *lock(&self.running) = Some(Running { queue, jobs, _stop: stop });
        Ok(())
    }

    /// The name of the sender.
    pub fn sender(&self) -> &'static str {
        self.shared.sender.name()
    }

    /// Queues a message, to be sent within this time.
    ///
    /// # Errors
    /// [`QueueFull`]; the message is dropped.
    pub fn try_send(&self, message: M, within: Duration) -> Result<oneshot::Receiver<Delivery>, QueueFull> {
        let (done, outcome) = oneshot::channel();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let job = Job { number, message, deadline: Instant::now() + within };
        let running = lock(&self.running);
        let running = running.as_ref().ok_or(QueueFull)?;
        lock(&self.shared.waiting).insert(number, done);
        if running.queue.try_send(job).is_err() {
            lock(&self.shared.waiting).remove(&number);
            return Err(QueueFull);
        }
        self.high_water.raise(running.queue.len());
        Ok(outcome)
    }

    /// Messages that wait, most that ever waited, limit.
    pub fn gauge(&self) -> Gauge {
        let waiting = lock(&self.running).as_ref().map_or(0, |running| running.jobs.len());
        self.high_water.gauge(waiting, self.shared.settings.queue)
    }

    /// Takes no more messages, answers those that wait with [`SendOutcome::Stopping`], and waits until the attempts under
    /// way are over, for `wait` at most. `false`: one is not; it goes on by itself.
    #[must_use]
    pub fn stop(&self, wait: Duration) -> bool {
        self.threads.shut();
        if let Some(running) = lock(&self.running).take() {
            for job in running.jobs.try_iter() {
                self.shared.done(job.number, (SendOutcome::Stopping, Duration::ZERO));
            }
        }
        self.threads.wait_until_empty(Instant::now() + wait)
    }

    /// After [`Outbound::stop`]: answers those whose attempts are not over with [`SendOutcome::Stopping`], and waits for
    /// them no longer. Such an attempt may still succeed.
    pub fn abandon(&self) {
        for (_, done) in lock(&self.shared.waiting).drain() {
            // The one that asked may have gone.
            let _ = done.send((SendOutcome::Stopping, Duration::ZERO));
        }
    }
}

impl<M> Drop for Outbound<M> {
    fn drop(&mut self) {
        // The threads end with their channels.
        drop(lock(&self.running).take());
    }
}

impl<M: Outgoing> Shared<M> {
    fn work(&self, jobs: &Receiver<Job<M>>, stopped: &Receiver<()>, mut jitter: Jitter, under_way: InFlight) {
        while let Ok(job) = jobs.recv() {
            let attempts = Attempts::new(job.deadline, self.settings.pause_first);
            let delivery = self.deliver(&job.message, attempts, &mut jitter, stopped);
            self.done(job.number, delivery);
        }
        drop(under_way);
    }

    /// Tries until the message is sent, refused, or too late.
    fn deliver(
        &self,
        message: &M,
        mut attempts: Attempts,
        jitter: &mut Jitter,
        stopped: &Receiver<()>,
    ) -> Delivery {
        let mut last = "it waited too long for the messages before it".to_owned();
        let mut took = Duration::ZERO;
        loop {
            if stopped.try_recv() == Err(TryRecvError::Disconnected) {
                return (SendOutcome::Stopping, took);
            }
            match attempts.next(Instant::now(), jitter) {
                Next::Try { within } => {
                    let begun = Instant::now();
                    let result = self.sender.send(message, within);
                    took = begun.elapsed();
                    match result {
                        Ok(()) => return (SendOutcome::Sent, took),
                        Err(Failure::Refused(reason)) => {
                            return (self.lost(message, SendOutcome::Refused, &reason), took);
                        }
                        Err(Failure::Unreachable(reason)) => last = reason,
                    }
                }
                Next::Wait { pause } => {
                    if stopped.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
                        return (SendOutcome::Stopping, took);
                    }
                }
                Next::GiveUp => return (self.lost(message, SendOutcome::Unreachable, &last), took),
            }
        }
    }

    fn lost(&self, message: &M, outcome: SendOutcome, reason: &str) -> SendOutcome {
        let kind = if outcome == SendOutcome::Refused { "refused" } else { "unreachable" };
        self.dead.keep(message, &Lost { sender: self.sender.name(), kind, reason });
        outcome
    }

    fn done(&self, number: u64, delivery: Delivery) {
        let waiting = lock(&self.waiting).remove(&number);
        if let Some(done) = waiting {
            // The one that asked may have gone.
            let _ = done.send(delivery);
        }
    }
}

/// Nothing that holds one of these locks leaves anything half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
