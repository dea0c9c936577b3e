//! How workers leave together: one that has nothing to do any more may still be told something by another one, so each waits
//! until all have come to rest and nothing is on its way between them.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Batches that a worker has sent and received so far.
pub type Traffic = (u64, u64);

/// Who of the workers is at rest.
#[derive(Debug)]
pub struct Leaving(Mutex<State>);

#[derive(Debug)]
struct State {
    /// A worker's traffic as long as it rests: it sends and reads nothing meanwhile.
    resting: Vec<Option<Traffic>>,
    is_over: bool,
}

impl Leaving {
    /// None of so many workers rests.
    pub fn new(workers: usize) -> Leaving {
        Leaving(Mutex::new(State { resting: vec![None; workers], is_over: false }))
    }

    /// A worker has nothing to do, and does nothing before [`Leaving::rise`]. Returns whether it may leave: all rest, and what
    /// each has been sent it has received.
    pub fn rest(&self, worker: usize, traffic: Traffic) -> bool {
        let mut state = self.state();
        state.resting[worker] = Some(traffic);
        let sum = |(sent, received): Traffic, of: &Option<Traffic>| {
            of.map(|(more_sent, more_received)| (sent + more_sent, received + more_received))
        };
        let all = state.resting.iter().try_fold((0, 0), sum);
        state.is_over |= all.is_some_and(|(sent, received)| sent == received);
        state.is_over
    }

    /// A worker that has rested looks again whether there is something to do. Returns whether it may leave instead.
    pub fn rise(&self, worker: usize) -> bool {
        let mut state = self.state();
        state.resting[worker] = None;
        state.is_over
    }

    /// A worker has failed: nobody waits for it, or for another one.
    pub fn give_up(&self) {
        self.state().is_over = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_leaves_before_all_have_come_to_rest() {
        let leaving = Leaving::new(3);
        assert!(!leaving.rest(0, (0, 0)));
        assert!(!leaving.rest(1, (2, 2)));
        assert!(!leaving.rise(0), "it has something to do");
        assert!(!leaving.rest(2, (0, 0)));
        assert!(leaving.rest(0, (1, 1)));
        assert!(leaving.rise(1) && leaving.rise(2), "the others may as well");
    }

    #[test]
    fn nobody_leaves_while_something_is_on_its_way() {
        let leaving = Leaving::new(2);
        assert!(!leaving.rest(1, (0, 0)));
        assert!(!leaving.rest(0, (1, 0)), "the other one has not read it");
        assert!(!leaving.rise(1));
        assert!(leaving.rest(1, (0, 1)));
    }

    #[test]
    fn nobody_waits_for_one_that_has_failed() {
        let leaving = Leaving::new(2);
        leaving.give_up();
        assert!(leaving.rest(0, (1, 0)));
    }
}
