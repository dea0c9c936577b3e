//! The metrics of push, a block for each push service. What became of notifications is written by the thread of its provider, the
//! gauges by the stats thread.

use whimbrel_push::{Outcome, Report};

whimbrel_stats::metrics! {
    /// The metrics of one push service.
    PushMetrics {
        sent "push.sent" Counter "notifications" "Notifications that the provider has taken.";
        gone "push.failed.gone" Counter "notifications" "Not taken because the device is gone: it is not told any more.";
        refused "push.failed.refused" Counter "notifications" "Not taken, for good: the provider does not accept them.";
        credentials "push.failed.credentials" Counter "notifications" "Not taken because the server's key is refused.";
        overdue "push.failed.overdue" Counter "notifications" "Given up because no attempt succeeded in their time.";
        stopping "push.failed.stopping" Counter "notifications" "Not sent because the server stopped or was upgraded.";
        attempts "push.attempts" Counter "requests" "Requests to the provider.";
        latency "push.latency" Histogram "microseconds" "Time until the provider took a notification, from the message that caused it.";
        paused "push.paused" Gauge "milliseconds" "For how long the provider gets nothing: it is overloaded, out of reach, or refuses the server's key.";
        length "queue.push.length" Gauge "notifications" "Notifications that wait for the provider.";
        high "queue.push.high_water" HighWater "notifications" "Most notifications that ever waited for the provider.";
        limit "queue.push.limit" HighWater "notifications" "Room for notifications (push.queue); further ones are refused.";
    }
}

impl PushMetrics {
    /// Counts what became of a notification.
    pub fn count(&self, report: &Report) {
        self.attempts.add(report.attempts.into());
        let cell = match report.outcome {
            Outcome::Sent => {
                self.latency.record(u64::try_from(report.took.as_micros()).unwrap_or(u64::MAX));
                &self.sent
            }
            Outcome::Gone(_) => &self.gone,
            Outcome::Refused(_) => &self.refused,
            Outcome::Credentials(_) => &self.credentials,
            Outcome::Overdue(_) => &self.overdue,
            Outcome::Stopping => &self.stopping,
        };
        cell.add(1);
    }
}
