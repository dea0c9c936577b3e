//! The way in of the desk, which can be shut: for an upgrade, nothing may be under way.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How often somebody who waits looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Counts who is inside, and lets nobody in while it is shut.
#[derive(Debug, Default)]
pub struct Gate {
    shut: AtomicBool,
    inside: AtomicUsize,
}

/// Somebody is inside as long as this lives.
#[derive(Debug)]
pub struct Pass<'a>(&'a Gate);

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Gate {
    /// Goes in; `None` while it is shut.
    pub fn enter(&self) -> Option<Pass<'_>> {
        // First counted, then looked: who shuts it either sees us or is seen.
        self.inside.fetch_add(1, Ordering::SeqCst);
        let pass = Pass(self);
        (!self.shut.load(Ordering::SeqCst)).then_some(pass)
    }

    /// Lets nobody in from here on.
    pub fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
    }

    /// Lets everybody in again.
    pub fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
    }

    /// Whether somebody is inside.
    pub fn is_empty(&self) -> bool {
        self.inside.load(Ordering::SeqCst) == 0
    }

    /// Waits until nobody is inside. `false`: somebody still is at the deadline.
    pub fn wait_until_empty(&self, deadline: Instant) -> bool {
        while !self.is_empty() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_inside_keeps_the_one_who_shuts_it_waiting_and_nobody_comes_in() {
        let gate = Gate::default();
        let pass = gate.enter().unwrap();
        gate.shut();
        assert!(gate.enter().is_none());
        assert!(!gate.wait_until_empty(Instant::now()));
        drop(pass);
        assert!(gate.wait_until_empty(Instant::now()));
        gate.open();
        assert!(gate.enter().is_some());
    }
}
