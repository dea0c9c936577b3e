//! Notifications for one push service: which is next, when it gets nothing, and what follows from an attempt. Time is told,
//! chance is drawn from a seed: nothing here waits.
//!
//! ```text
//! add ──▶ ready (calls first) ──next──▶ under way ──done──▶ an outcome
//!            ▲    not while the service pauses │
//!            └───────── resting ◀──────────────┘ not now
//! ```
//! After a failure of the service one attempt at a time is made, until one succeeds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::jitter::Jitter;
use crate::notification::{Kind, Notification, Outcome};
use crate::verdict::{Verdict, Whose};

/// Devices that must be told "not now" in a row, without a success between, until the service pauses for all.
const STRIKES: usize = 4;

/// Doublings of a pause at most, whatever its limit.
const DOUBLINGS_MAX: u32 = 20;

/// A notification on its way.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) notification: Arc<Notification>,
    pub(crate) since: Instant,
    pub(crate) deadline: Instant,
    pub(crate) attempts: u32,
    /// The device it goes to, as a number.
    pub(crate) device: u64,
    /// Calls first, then in the order in which they came; what is tried again keeps its place.
    place: Place,
    /// Pauses of its own.
    pauses: u32,
    /// Why it was not sent.
    last: Option<String>,
}

impl Job {
    pub(crate) fn new(notification: Notification, device: u64, since: Instant, trying: Duration) -> Job {
        let within = notification.time_to_live.min(trying).max(Duration::from_secs(1));
        let place = (notification.kind != Kind::Call, 0);
        let (deadline, notification) = (since + within, Arc::new(notification));
        Job { notification, since, deadline, attempts: 0, device, place, pauses: 0, last: None }
    }
}

/// What no attempt succeeded for in time.
fn over(mut job: Job) -> (Job, Outcome) {
    let reason = job.last.take().unwrap_or_else(|| "it waited too long for those before it".to_owned());
    (job, Outcome::Overdue(reason))
}

/// What a lane wants to be done.
#[derive(Debug)]
pub(crate) enum Step {
    /// An attempt.
    Start(Job),
    /// It is too late for this one.
    Over(Job, Outcome),
    /// Nothing until then, or until something happens.
    Wait(Option<Instant>),
}

/// How a lane pauses.
#[derive(Clone, Debug)]
pub(crate) struct Pauses {
    pub(crate) first: Duration,
    pub(crate) max: Duration,
    pub(crate) credentials: Duration,
}

/// When a lane gets nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) until: Instant,
    pub(crate) reason: String,
    pub(crate) credentials: bool,
}

/// Whether it is no call, and its number.
type Place = (bool, u64);

/// Notifications for one push service.
#[derive(Debug)]
pub(crate) struct Lane {
    pauses: Pauses,
    in_flight_max: usize,
    jitter: Jitter,
    ready: BTreeMap<Place, Job>,
    /// When those that are ready are given up.
    deadlines: BTreeSet<(Instant, Place)>,
    /// By the time when they are ready again.
    resting: BTreeMap<(Instant, Place), Job>,
    in_flight: usize,
    next_place: u64,
    closed: Option<Closed>,
    /// When the last pause of the service was decided: what began before is no news.
    closed_at: Option<Instant>,
    /// Pauses of the service since the last success.
    failures: u32,
    /// Devices that were told "not now" since.
    strikes: Vec<u64>,
}

impl Lane {
    pub(crate) fn new(pauses: Pauses, in_flight_max: usize, jitter: Jitter) -> Lane {
        Lane {
            pauses,
            in_flight_max,
            jitter,
            ready: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            resting: BTreeMap::new(),
            in_flight: 0,
            next_place: 0,
            closed: None,
            closed_at: None,
            failures: 0,
            strikes: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, mut job: Job) {
        job.place.1 = self.next_place;
        self.next_place += 1;
        self.enqueue(job);
    }

    fn enqueue(&mut self, job: Job) {
        self.deadlines.insert((job.deadline, job.place));
        self.ready.insert(job.place, job);
    }

    /// What is to be done now. Called until it says [`Step::Wait`].
    pub(crate) fn next(&mut self, now: Instant) -> Step {
        while let Some(entry) = self.resting.first_entry().filter(|entry| entry.key().0 <= now) {
            let job = entry.remove();
            self.enqueue(job);
        }
        if let Some((deadline, place)) =
            self.deadlines.first().copied().filter(|(deadline, _)| *deadline <= now)
        {
            self.deadlines.remove(&(deadline, place));
            if let Some(job) = self.ready.remove(&place) {
                let (job, outcome) = over(job);
                return Step::Over(job, outcome);
            }
        }
        if self.closed.as_ref().is_some_and(|closed| closed.until <= now) {
            self.closed = None;
        }
        let most = if self.failures > 0 { 1 } else { self.in_flight_max };
        if self.closed.is_none()
            && self.in_flight < most
            && let Some((place, mut job)) = self.ready.pop_first()
        {
            self.deadlines.remove(&(job.deadline, place));
            self.in_flight += 1;
            job.attempts += 1;
            return Step::Start(job);
        }
        Step::Wait(self.wake())
    }

    /// When something happens by itself.
    fn wake(&self) -> Option<Instant> {
        let opens = self.closed.as_ref().filter(|_| !self.ready.is_empty()).map(|closed| closed.until);
        let ready = self.resting.first_key_value().map(|((when, _), _)| *when);
        let late = self.deadlines.first().map(|(when, _)| *when);
        [opens, ready, late].into_iter().flatten().min()
    }

    /// What follows from an attempt that began at `started`: the outcome, or nothing, when it is tried again.
    pub(crate) fn done(
        &mut self,
        mut job: Job,
        started: Instant,
        verdict: Verdict,
        now: Instant,
    ) -> Option<(Job, Outcome)> {
        self.in_flight -= 1;
        let outcome = match verdict {
            Verdict::Sent => self.works(Outcome::Sent),
            Verdict::Gone(reason) => self.works(Outcome::Gone(reason)),
            Verdict::Refused(reason) => self.works(Outcome::Refused(reason)),
            Verdict::Credentials(reason) if self.is_news(started) => {
                let pause = self.grown(self.pauses.credentials, self.pauses.credentials * 60, self.failures);
                self.close(now, pause, reason.clone(), true);
                Outcome::Credentials(reason)
            }
            Verdict::Credentials(reason) => return self.again(job, reason, now),
            Verdict::Unreachable(reason) => {
                self.fail(started, now, None, &reason);
                return self.again(job, reason, now);
            }
            Verdict::Later { whose: Whose::Provider, after, reason } => {
                self.fail(started, now, after, &reason);
                return self.again(job, reason, now);
            }
            Verdict::Later { whose: Whose::Notification, after, reason } => {
                return self.rest(job, after, reason, now);
            }
            Verdict::Later { whose: Whose::Device, after, reason } => {
                if self.strike(job.device) {
                    self.fail(started, now, after, &reason);
                }
                return self.rest(job, after, reason, now);
            }
            Verdict::Stalled(reason) => {
                // While the service is tried carefully, one is enough.
                if self.strike(job.device) || self.failures > 0 {
                    self.fail(started, now, None, &reason);
                }
                // An attempt that its deadline has cut short tells less than the one before it.
                let reason = job.last.take().filter(|_| now >= job.deadline).unwrap_or(reason);
                return self.rest(job, None, reason, now);
            }
        };
        job.last = None;
        Some((job, outcome))
    }

    /// The service has answered for this one notification.
    fn works(&mut self, outcome: Outcome) -> Outcome {
        self.failures = 0;
        self.strikes.clear();
        outcome
    }

    /// Whether an attempt tells something that was not known when the last pause was decided.
    fn is_news(&self, started: Instant) -> bool {
        self.closed_at.is_none_or(|closed| started > closed)
    }

    fn fail(&mut self, started: Instant, now: Instant, after: Option<Duration>, reason: &str) {
        if !self.is_news(started) {
            // Of several answers to attempts made together the longest pause counts.
            let until = now + self.jitter.extend(after.unwrap_or_default());
            if let Some(closed) = self.closed.as_mut().filter(|closed| closed.until < until) {
                closed.until = until;
            }
            return;
        }
        let grown = self.grown(self.pauses.first, self.pauses.max, self.failures);
        let named = after.map(|after| self.jitter.extend(after));
        self.close(now, grown.max(named.unwrap_or_default()), reason.to_owned(), false);
    }

    fn close(&mut self, now: Instant, pause: Duration, reason: String, credentials: bool) {
        self.failures = self.failures.saturating_add(1);
        self.strikes.clear();
        self.closed_at = Some(now);
        self.closed = Some(Closed { until: now + pause, reason, credentials });
    }

    /// One device was told to wait. Whether so many were that it is the service that is meant.
    fn strike(&mut self, device: u64) -> bool {
        if !self.strikes.contains(&device) {
            self.strikes.push(device);
        }
        self.strikes.len() >= STRIKES
    }

    /// Tries again when the service is open.
    fn again(&mut self, mut job: Job, reason: String, now: Instant) -> Option<(Job, Outcome)> {
        job.last = Some(reason);
        let open = self.closed.as_ref().map_or(now, |closed| closed.until);
        match open < job.deadline {
            true => self.enqueue(job),
            false => return Some(over(job)),
        }
        None
    }

    /// Tries again after a pause of its own.
    fn rest(
        &mut self,
        mut job: Job,
        after: Option<Duration>,
        reason: String,
        now: Instant,
    ) -> Option<(Job, Outcome)> {
        let grown = self.grown(self.pauses.first, self.pauses.max, job.pauses);
        let named = after.map(|after| self.jitter.extend(after));
        job.pauses = job.pauses.saturating_add(1);
        let when = now + grown.max(named.unwrap_or_default());
        job.last = Some(reason);
        match when < job.deadline {
            true => drop(self.resting.insert((when, job.place), job)),
            false => return Some(over(job)),
        }
        None
    }

    fn grown(&mut self, first: Duration, max: Duration, n: u32) -> Duration {
        let doubled = first.saturating_mul(1 << n.min(DOUBLINGS_MAX));
        self.jitter.spread(doubled.min(max))
    }

    /// When it gets nothing, and why.
    pub(crate) fn closed(&self) -> Option<&Closed> {
        self.closed.as_ref()
    }

    /// All that is not under way.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Job> + use<> {
        self.deadlines.clear();
        let ready = std::mem::take(&mut self.ready).into_values();
        ready.chain(std::mem::take(&mut self.resting).into_values())
    }
}

#[cfg(test)]
mod tests;
