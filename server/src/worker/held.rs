//! What waits for subscriptions on their way to the directory: going on with it, and its limit.

use crate::user::subscription;
use crate::worker::core::Core;

impl Core {
    /// Whether as much waits for the directory as may (`limits.held_bytes`): nothing more is read until it is less.
    pub fn holds_too_much(&self) -> bool {
        self.home.under_way.bytes() > self.home.config.limits.held_bytes as usize
    }

    /// Goes on with what waits for room in the directory's queue.
    pub fn retry_writes(&mut self) {
        subscription::retry(&mut self.home);
        let held = self.home.under_way.bytes() as u64;
        self.home.metrics().held_bytes.set(held);
        self.home.metrics().held_high.raise(held);
    }
}
