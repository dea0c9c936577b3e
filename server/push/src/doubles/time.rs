//! A clock that a test sets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::settings::Clock;

/// Moves a clock.
#[derive(Clone, Debug)]
pub struct Hand(Arc<AtomicU64>);

/// A clock that stands still, at the beginning of 2026, until its hand moves it.
pub fn hand() -> (Clock, Hand) {
    let now = Arc::new(AtomicU64::new(1_767_225_600));
    let hand = Hand(now.clone());
    (Clock::from_fn(move || now.load(SeqCst)), hand)
}

impl Hand {
    /// Moves the clock on, by whole seconds.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), SeqCst);
    }
}
