//! A gate to work that has to come to rest before something stops: it counts what is under way, can be shut, and can be
//! waited for until nothing is under way any more.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Counts work under way, and lets none begin while it is shut; clones are the same gate.
#[derive(Clone, Debug, Default)]
pub struct DrainGate(Arc<Gate>);

#[derive(Debug, Default)]
struct Gate {
    state: Mutex<State>,
    /// Told when the last work under way has ended.
    empty: Condvar,
}

#[derive(Debug, Default)]
struct State {
    shut: bool,
    under_way: usize,
}

/// Work that is under way as long as this lives.
#[derive(Debug)]
pub struct InFlight(DrainGate);

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.under_way -= 1;
        if state.under_way == 0 {
            self.0.0.empty.notify_all();
        }
    }
}

impl DrainGate {
    /// Begins a piece of work; `None` while the gate is shut.
    pub fn enter(&self) -> Option<InFlight> {
        let mut state = self.state();
        if state.shut {
            return None;
        }
        state.under_way += 1;
        drop(state);
        Some(InFlight(self.clone()))
    }

    /// Lets nothing begin from here on.
    pub fn shut(&self) {
        self.state().shut = true;
    }

    /// Lets work begin again.
    pub fn open(&self) {
        self.state().shut = false;
    }

    /// Whether the gate is shut.
    pub fn is_shut(&self) -> bool {
        self.state().shut
    }

    /// Waits until nothing is under way. `false`: something still is at the deadline.
    #[must_use]
    pub fn wait_until_empty(&self, deadline: Instant) -> bool {
        let mut state = self.state();
        while state.under_way > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.0.empty.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_shut_gate_waits_for_what_is_under_way_and_lets_nothing_begin() {
        let gate = DrainGate::default();
        let first = gate.enter().unwrap();
        let second = gate.enter().unwrap();
        gate.shut();
        assert!(gate.enter().is_none() && gate.is_shut());
        drop(first);
        assert!(!gate.wait_until_empty(Instant::now()));
        let waiting = gate.clone();
        let waiting =
            std::thread::spawn(move || waiting.wait_until_empty(Instant::now() + Duration::from_secs(600)));
        drop(second);
        assert!(waiting.join().unwrap(), "the end of the last work ends the wait");
        gate.open();
        assert!(gate.enter().is_some());
    }
}
