//! The loop of a provider's thread: it starts attempts, and tells what became of them.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::jitter::Jitter;
use crate::lane::{Job, Lane, Pauses, Step};
use crate::notification::{Outcome, Report};
use crate::provider::Shared;
use crate::settings::Settings;
use crate::verdict::Verdict;
use crate::way::Way;

/// What comes to the thread.
pub(crate) enum Handed {
    /// To be sent, by this lane.
    Send(usize, Job),
    /// Not acceptable: to be reported.
    Refuse(usize, Job, String),
}

/// Messages that are taken out of the queue before attempts are looked after again.
const HANDED_MAX: usize = 256;

/// A lookup of a name may block a thread, which are few: connections to one place are made one at a time.
const BLOCKING_THREADS_MAX: usize = 8;

/// The number of an attempt, and what it came to.
type Attempt<'a> = LocalBoxFuture<'a, (u64, Verdict)>;

/// The loop, with what it needs.
pub(crate) struct Loop {
    pub(crate) way: Way,
    pub(crate) settings: Settings,
    pub(crate) shared: Arc<Shared>,
    pub(crate) reports: Box<dyn Fn(Report) + Send + Sync>,
    pub(crate) handed: mpsc::UnboundedReceiver<Handed>,
    /// Tells that the provider is stopped, and how long attempts under way are waited for.
    pub(crate) stop: oneshot::Receiver<Duration>,
}

impl Loop {
    /// Runs until the provider is stopped.
    pub(crate) fn run(self, runtime: tokio::runtime::Runtime) {
        runtime.block_on(self.serve());
        // A lookup that hangs is left to itself.
        runtime.shutdown_background();
    }

    /// The runtime of one thread.
    pub(crate) fn runtime() -> io::Result<tokio::runtime::Runtime> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build()
    }

    async fn serve(self) {
        let Loop { way, settings, shared, reports, handed, mut stop } = self;
        let mut turn = Turn {
            way: &way,
            attempt: settings.attempt,
            lanes: lanes(&way, &settings),
            attempts: FuturesUnordered::new(),
            under_way: HashMap::new(),
            next: 0,
            shared: &shared,
            reports: &*reports,
            handed,
        };
        let within = loop {
            // A call that was just handed over goes before what waits.
            turn.take(None);
            let wake = turn.start();
            shared.tell_pauses(&turn.lanes);
            let sleep = async {
                match wake {
                    Some(wake) => sleep_until(wake).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // A provider that is dropped is stopped as well.
                within = &mut stop => break within.unwrap_or_default(),
                Some((number, verdict)) = turn.attempts.next() => turn.done(number, verdict),
                Some(first) = turn.handed.recv() => turn.take(Some(first)),
                () = sleep => {}
            }
        };
        turn.stop(within).await;
    }
}

/// The state of the loop.
struct Turn<'a> {
    way: &'a Way,
    /// What an attempt may take.
    attempt: Duration,
    lanes: Vec<Lane>,
    attempts: FuturesUnordered<Attempt<'a>>,
    /// By the number of the attempt: the lane, what is sent, when the attempt began.
    under_way: HashMap<u64, (usize, Job, Instant)>,
    next: u64,
    shared: &'a Shared,
    reports: &'a (dyn Fn(Report) + Send + Sync),
    handed: mpsc::UnboundedReceiver<Handed>,
}

impl Turn<'_> {
    /// Starts the attempts that may start, and gives up what is too late. Returns when there is more to do.
    fn start(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let mut wake: Option<Instant> = None;
        for lane in 0..self.lanes.len() {
            loop {
                match self.lanes[lane].next(now) {
                    Step::Start(job) => self.attempt(lane, job, now),
                    Step::Over(job, outcome) => self.end(lane, &job, outcome),
                    Step::Wait(until) => {
                        wake = wake.into_iter().chain(until).min();
                        break;
                    }
                }
            }
        }
        wake
    }

    fn attempt(&mut self, lane: usize, job: Job, now: Instant) {
        let (way, number, notification) = (self.way, self.next, job.notification.clone());
        // It may be of use no longer than this; the provider is told so.
        let left = notification.time_to_live.saturating_sub(now - job.since);
        let within = self.attempt.min(job.deadline - now);
        self.attempts.push(Box::pin(async move {
            let attempt = timeout(within, way.attempt(&notification, left)).await;
            let late = |_| Verdict::Stalled(format!("no answer within {:.1} s", within.as_secs_f64()));
            if attempt.is_err() {
                way.stalled(&notification, now).await;
            }
            (number, attempt.unwrap_or_else(late))
        }));
        self.under_way.insert(number, (lane, job, now));
        self.next += 1;
    }

    fn done(&mut self, number: u64, verdict: Verdict) {
        let Some((lane, job, started)) = self.under_way.remove(&number) else { return };
        if let Some((job, outcome)) = self.lanes[lane].done(job, started, verdict, Instant::now()) {
            self.end(lane, &job, outcome);
        }
    }

    /// Takes what was handed over, some of it at a time.
    fn take(&mut self, mut first: Option<Handed>) {
        for _ in 0..HANDED_MAX {
            match first.take().or_else(|| self.handed.try_recv().ok()) {
                Some(Handed::Send(lane, job)) => self.lanes[lane].add(job),
                Some(Handed::Refuse(lane, job, reason)) => self.end(lane, &job, Outcome::Refused(reason)),
                None => return,
            }
        }
    }

    fn end(&self, lane: usize, job: &Job, outcome: Outcome) {
        self.shared.leave(lane);
        let (id, took) = (job.notification.id, job.since.elapsed());
        (self.reports)(Report { id, outcome, attempts: job.attempts, took });
    }

    /// Reports all that is left, after attempts under way had time to end.
    async fn stop(mut self, within: Duration) {
        self.handed.close();
        while let Ok(Handed::Send(lane, job) | Handed::Refuse(lane, job, _)) = self.handed.try_recv() {
            self.end(lane, &job, Outcome::Stopping);
        }
        self.drain();
        let end = Instant::now() + within;
        while let Ok(Some((number, verdict))) = timeout_at(end, self.attempts.next()).await {
            self.done(number, verdict);
        }
        self.drain();
        for (_, (lane, job, _)) in std::mem::take(&mut self.under_way) {
            self.end(lane, &job, Outcome::Stopping);
        }
    }

    /// Reports what is not under way.
    fn drain(&mut self) {
        for lane in 0..self.lanes.len() {
            for job in self.lanes[lane].drain() {
                self.end(lane, &job, Outcome::Stopping);
            }
        }
    }
}

fn lanes(way: &Way, settings: &Settings) -> Vec<Lane> {
    let pauses = Pauses {
        first: settings.pause_first,
        max: settings.pause_max,
        credentials: settings.pause_credentials,
    };
    let mut jitter = Jitter::new(settings.seed);
    let mut lane =
        || Lane::new(pauses.clone(), settings.in_flight.max(1), Jitter::new(Some(jitter.number())));
    (0..way.lanes()).map(|_| lane()).collect()
}
