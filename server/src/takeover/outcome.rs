//! What came of an upgrade, as the operator is told.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::launch::Tally;
use crate::control::{Answer, ControlRefusal, Problem};
use crate::saved::counts::Counts;

/// Names under which sessions are counted in a state.
pub mod counted {
    /// Sessions with a resource and a connection.
    pub const BOUND: &str = "bound";
    /// Sessions that wait to be resumed.
    pub const WAITING: &str = "waiting";
    /// Connections without a resource.
    pub const NEGOTIATING: &str = "negotiating";
    /// Of all connections, those with TLS.
    pub const TLS: &str = "tls";
    /// Stanzas that clients have not acknowledged.
    pub const UNACKED: &str = "unacked";
}

/// All sessions of a state.
#[must_use]
pub fn sessions(counts: &Counts) -> u64 {
    [counted::BOUND, counted::WAITING, counted::NEGOTIATING].map(|name| counts.of(name)).iter().sum()
}

/// What came of an upgrade.
#[derive(Clone, Debug)]
pub struct TakeoverOutcome {
    /// Version of the program before.
    pub from: String,
    /// The program that was to take over.
    pub successor: String,
    /// What was carried.
    pub carried: Counts,
    /// What was closed, by reason.
    pub closed: Vec<(String, u64)>,
    /// From the last read of the old program to the first of this one.
    pub pause: Duration,
    /// Milliseconds of each phase.
    pub phases: BTreeMap<String, f64>,
    /// Bytes of the state.
    pub state_bytes: u64,
    /// The driver now.
    pub driver: String,
    /// The workers now.
    pub workers: usize,
    /// Upgrades so far, this one included.
    pub tally: Tally,
    /// Why the new program gave up, when this is the old one again.
    pub fallen_back: Option<String>,
}

impl TakeoverOutcome {
    /// Connections that were closed.
    #[must_use]
    pub fn closed_count(&self) -> u64 {
        self.closed.iter().map(|(_, count)| count).sum()
    }

    /// Milliseconds for which nobody read from any connection.
    #[must_use]
    pub fn pause_ms(&self) -> f64 {
        self.pause.as_secs_f64() * 1000.0
    }

    /// What the operator who asked for it is told.
    pub fn answer(&self) -> Answer {
        let version = env!("CARGO_PKG_VERSION");
        if let Some(reason) = &self.fallen_back {
            return Err(Problem::new(
                ControlRefusal::Failed,
                format!(
                    "{} could not take over: {reason}. Version {version} goes on with all sessions; nobody was \
                     disconnected, and nothing was read for {:.0} ms",
                    self.successor,
                    self.pause_ms()
                ),
            ));
        }
        let closed: serde_json::Map<String, Value> =
            self.closed.iter().map(|(reason, count)| (reason.clone(), json!(count))).collect();
        let sessions = sessions(&self.carried);
        Ok(json!({
            "upgraded": true,
            "pid": std::process::id(),
            "program": self.successor,
            "from": self.from,
            "to": version,
            "sessions": self.carried.of(counted::BOUND),
            "waiting": self.carried.of(counted::WAITING),
            "negotiating": self.carried.of(counted::NEGOTIATING),
            "tls": self.carried.of(counted::TLS),
            "closed": closed,
            "pause_ms": round(self.pause_ms()),
            "phases_ms": self.phases.iter().map(|(name, ms)| (name.clone(), json!(round(*ms)))).collect::<serde_json::Map<_, _>>(),
            "state_bytes": self.state_bytes,
            "state_bytes_per_session": self.state_bytes.checked_div(sessions).unwrap_or(0),
            "driver": self.driver,
            "workers": self.workers,
        }))
    }

    /// One line for the log.
    #[must_use]
    pub fn line(&self) -> String {
        let names = [counted::BOUND, counted::WAITING, counted::NEGOTIATING];
        let [bound, waiting, negotiating] = names.map(|name| self.carried.of(name));
        let (version, pause_ms) = (env!("CARGO_PKG_VERSION"), self.pause_ms());
        match &self.fallen_back {
            None => format!(
                "upgraded from {} to {version} ({}): {bound} sessions carried, {waiting} waiting to be resumed, \
                 {negotiating} logging in, {} closed, pause {pause_ms:.1} ms",
                self.from,
                self.successor,
                self.closed_count(),
            ),
            Some(reason) => format!(
                "{} could not take over: {reason}; version {version} goes on with {bound} sessions, pause {pause_ms:.1} ms",
                self.successor,
            ),
        }
    }
}

fn round(ms: f64) -> f64 {
    (ms * 100.0).round() / 100.0
}
