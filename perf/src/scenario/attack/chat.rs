//! The victims without an attack: what becomes of a chat beside what another scenario does.

use std::time::Duration;

use crate::engine::counters::Latencies;
use crate::scenario::attack::process::Helper;
use crate::scenario::attack::wire::{Job, Order, Role};
use crate::scenario::client::Door;

/// How long their logins may take.
const CONNECT_MAX: Duration = Duration::from_secs(60);

/// How long a report may take: what is under way is waited for.
const REPORT_MAX: Duration = Duration::from_secs(60);

/// The first two accounts, of whom one sends the other messages at a steady rate, from a process of their own that goes before
/// others. They have the usual resource.
pub(in crate::scenario) struct Chat(Helper);

/// What became of their messages.
pub(in crate::scenario) struct Heard {
    /// How many were sent.
    pub(in crate::scenario) sent: u64,
    /// How many of them arrived.
    pub(in crate::scenario) arrived: u64,
    /// From when each was due to its arrival.
    pub(in crate::scenario) latencies: Latencies,
    /// Why a session of them has ended.
    pub(in crate::scenario) ended: Option<String>,
}

impl Chat {
    /// Logs them in. `rate`: messages a second.
    ///
    /// # Errors
    /// They cannot log in.
    pub(in crate::scenario) fn start(door: &Door, rate: f64) -> Result<Chat, String> {
        let mut helper = Helper::start(&Job { door: door.clone(), core: None, role: Role::Victim { rate } })?;
        helper.ready(CONNECT_MAX)?;
        Ok(Chat(helper))
    }

    /// They begin to write, and what was before is forgotten.
    ///
    /// # Errors
    /// They cannot be told.
    pub(in crate::scenario) fn begin(&mut self) -> Result<(), String> {
        self.0.order(Order::Measure)
    }

    /// They stop; what is still on its way is waited for.
    ///
    /// # Errors
    /// They do not answer.
    pub(in crate::scenario) fn end(&mut self) -> Result<Heard, String> {
        let talk = self.0.talk(REPORT_MAX)?;
        let mut latencies = Latencies::default();
        latencies.add_pairs(&talk.latencies);
        Ok(Heard { sent: talk.sent, arrived: talk.arrived, latencies, ended: talk.ended })
    }
}
