//! What a worker counts and times, in a form that travels to the coordinator as JSON.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Reasons of one kind that are told apart; the rest is counted together.
const REASONS_MAX: usize = 20;

/// Counts since the run began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Counters {
    /// Sessions that are up now.
    pub(crate) ready: u64,
    /// Logins under way now.
    pub(crate) connecting: u64,
    /// Logins that have succeeded.
    pub(crate) logins: u64,
    /// Logins that have failed, by reason.
    pub(crate) login_failures: BTreeMap<String, u64>,
    /// Sessions that were up and have ended without being asked to.
    pub(crate) dropped: u64,
    /// The same by reason.
    pub(crate) dropped_by: BTreeMap<String, u64>,
    /// SCRAM keys that had to be computed.
    pub(crate) keys_computed: u64,
    /// Pings sent to the server.
    pub(crate) pings_sent: u64,
    /// Answers to them.
    pub(crate) pings_answered: u64,
    /// Pings without an answer when the next one was due, or at the end.
    pub(crate) pings_unanswered: u64,
    /// Pings of the server that were answered.
    pub(crate) pings_of_server: u64,
    /// Messages sent.
    pub(crate) sent: u64,
    /// Messages that have arrived, each counted once.
    pub(crate) delivered: u64,
    /// Messages that have arrived again.
    pub(crate) duplicated: u64,
    /// Messages that have arrived after a later one of the same sender.
    pub(crate) out_of_order: u64,
    /// Messages that have not arrived; settled at the end of a phase.
    pub(crate) lost: u64,
    /// Messages that came back as errors.
    pub(crate) bounced: u64,
    /// Messages that the server has acknowledged (XEP-0198).
    pub(crate) acknowledged: u64,
    /// Sessions with stream management.
    pub(crate) stream_management: u64,
    /// Messages sent to rooms.
    pub(crate) group_sent: u64,
    /// Copies of them that have arrived, each counted once.
    pub(crate) group_delivered: u64,
    /// Copies that have not; settled at the end of a phase.
    pub(crate) group_lost: u64,
    /// Messages to rooms that came back as errors.
    pub(crate) group_bounced: u64,
    /// Presences sent.
    pub(crate) presence_sent: u64,
    /// Presences of others that have arrived.
    pub(crate) presence_received: u64,
    /// Bytes of XML received.
    pub(crate) bytes_in: u64,
    /// Bytes of XML sent.
    pub(crate) bytes_out: u64,
}

impl Counters {
    /// Counts a failed login.
    pub(crate) fn login_failed(&mut self, reason: &str) {
        count(&mut self.login_failures, reason);
    }

    /// Counts a session that has ended by itself.
    pub(crate) fn session_dropped(&mut self, reason: &str) {
        self.dropped += 1;
        count(&mut self.dropped_by, reason);
    }

    /// Failed logins of all reasons.
    pub(crate) fn login_failures_total(&self) -> u64 {
        self.login_failures.values().sum()
    }

    /// Adds another worker's counts.
    pub(crate) fn add(&mut self, other: &Counters) {
        self.combine(other, |a, b| a + b);
        for (map, more) in
            [(&mut self.login_failures, &other.login_failures), (&mut self.dropped_by, &other.dropped_by)]
        {
            for (reason, n) in more {
                *map.entry(reason.clone()).or_default() += n;
            }
        }
    }

    /// The counts since `before`; what is a level (`ready`, `connecting`) stays as it is.
    pub(crate) fn since(&self, before: &Counters) -> Counters {
        let mut since = self.clone();
        since.combine(before, u64::saturating_sub);
        since.ready = self.ready;
        since.connecting = self.connecting;
        since.stream_management = self.stream_management;
        for (map, earlier) in
            [(&mut since.login_failures, &before.login_failures), (&mut since.dropped_by, &before.dropped_by)]
        {
            for (reason, n) in map.iter_mut() {
                *n -= earlier.get(reason).copied().unwrap_or(0).min(*n);
            }
            map.retain(|_, n| *n > 0);
        }
        since
    }

    fn combine(&mut self, other: &Counters, with: impl Fn(u64, u64) -> u64) {
        for (field, value) in [
            (&mut self.ready, other.ready),
            (&mut self.connecting, other.connecting),
            (&mut self.logins, other.logins),
            (&mut self.dropped, other.dropped),
            (&mut self.keys_computed, other.keys_computed),
            (&mut self.pings_sent, other.pings_sent),
            (&mut self.pings_answered, other.pings_answered),
            (&mut self.pings_unanswered, other.pings_unanswered),
            (&mut self.pings_of_server, other.pings_of_server),
            (&mut self.sent, other.sent),
            (&mut self.delivered, other.delivered),
            (&mut self.duplicated, other.duplicated),
            (&mut self.out_of_order, other.out_of_order),
            (&mut self.lost, other.lost),
            (&mut self.bounced, other.bounced),
            (&mut self.acknowledged, other.acknowledged),
            (&mut self.stream_management, other.stream_management),
            (&mut self.group_sent, other.group_sent),
            (&mut self.group_delivered, other.group_delivered),
            (&mut self.group_lost, other.group_lost),
            (&mut self.group_bounced, other.group_bounced),
            (&mut self.presence_sent, other.presence_sent),
            (&mut self.presence_received, other.presence_received),
            (&mut self.bytes_in, other.bytes_in),
            (&mut self.bytes_out, other.bytes_out),
        ] {
            *field = with(*field, value);
        }
    }
}

fn count(map: &mut BTreeMap<String, u64>, reason: &str) {
    let key = if map.len() >= REASONS_MAX && !map.contains_key(reason) { "other reasons" } else { reason };
    *map.entry(key.to_owned()).or_default() += 1;
}

/// A histogram as (value, count) pairs.
pub(crate) type Pairs = Vec<(u64, u64)>;

/// A histogram of nanoseconds, from 1 µs to 10 minutes, to three digits.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Histogram<u64>);

/// 1 µs.
const LOWEST_NS: u64 = 1_000;
/// 10 minutes.
const HIGHEST_NS: u64 = 600_000_000_000;

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies(Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, 3).expect("the bounds are in order"))
    }
}

impl Latencies {
    /// Records one value in nanoseconds.
    pub(crate) fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns.max(LOWEST_NS));
    }

    /// For the way between processes.
    pub(crate) fn to_pairs(&self) -> Pairs {
        self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }

    /// Adds what came from another process.
    pub(crate) fn add_pairs(&mut self, pairs: &Pairs) {
        for &(value, count) in pairs {
            self.0.saturating_record_n(value, count);
        }
    }

    /// Values recorded.
    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    /// The value below which `quantile` (0 to 1) of all lie, in nanoseconds.
    pub(crate) fn at(&self, quantile: f64) -> u64 {
        if self.0.is_empty() { 0 } else { self.0.value_at_quantile(quantile) }
    }

    /// The largest, in nanoseconds.
    pub(crate) fn max(&self) -> u64 {
        if self.0.is_empty() { 0 } else { self.0.max() }
    }

    /// The mean, in nanoseconds.
    pub(crate) fn mean(&self) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.mean() }
    }
}

/// What a worker times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder {
    /// From the connect to the answered presence.
    pub(crate) login: Latencies,
    /// From when a message was due to its arrival.
    pub(crate) message: Latencies,
    /// From a ping to its answer.
    pub(crate) ping: Latencies,
    /// From when a message to a room was due to the arrival of each copy.
    pub(crate) group: Latencies,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_of_two_workers_add_up() {
        let (mut one, mut other, mut sum) =
            (Latencies::default(), Latencies::default(), Latencies::default());
        (1..=1000).for_each(|n| one.record(n * 1_000_000));
        (1001..=2000).for_each(|n| other.record(n * 1_000_000));
        sum.add_pairs(&one.to_pairs());
        sum.add_pairs(&other.to_pairs());
        assert_eq!(sum.len(), 2000);
        let median = sum.at(0.5) as f64 / 1e9;
        assert!((median - 1.0).abs() < 0.002, "{median}");
        assert!(sum.max() >= 2_000_000_000);
    }

    #[test]
    fn counts_since_a_moment_leave_levels_alone() {
        let mut before = Counters { ready: 5, sent: 10, ..Counters::default() };
        before.login_failed("refused");
        let mut after = before.clone();
        after.sent = 25;
        after.login_failed("timeout");
        let since = after.since(&before);
        assert_eq!((since.ready, since.sent), (5, 15));
        assert_eq!(since.login_failures.into_iter().collect::<Vec<_>>(), [("timeout".to_owned(), 1)]);
    }
}
