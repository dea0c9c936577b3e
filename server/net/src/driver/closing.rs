//! Connections that flush their output before they close, in order of their deadlines.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::ConnId;

/// Every connection gets the same time, so the queue is in order by itself. It may name connections that are gone.
#[derive(Debug)]
pub(super) struct Closing {
    queue: VecDeque<(Instant, ConnId)>,
    time: Duration,
}

impl Closing {
    pub(super) fn new(time: Duration) -> Closing {
        Closing { queue: VecDeque::new(), time }
    }

    pub(super) fn push(&mut self, conn: ConnId) {
        self.queue.push_back((Instant::now() + self.time, conn));
    }

    /// The next deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|(at, _)| *at)
    }

    /// Takes a connection whose time is over.
    pub(super) fn expired(&mut self, now: Instant) -> Option<ConnId> {
        let (_, conn) = self.queue.front().filter(|(at, _)| *at <= now).copied()?;
        self.queue.pop_front();
        Some(conn)
    }
}

/// The shorter of `timeout` and the times until the moments given.
pub(super) fn wait_until<const N: usize>(
    timeout: Option<Duration>,
    moments: [Option<Instant>; N],
) -> Option<Duration> {
    let Some(at) = moments.into_iter().flatten().min() else { return timeout };
    let own = at.saturating_duration_since(Instant::now());
    Some(timeout.map_or(own, |timeout| timeout.min(own)))
}
