//! What waits for subscriptions on their way to the directory: going on with it, and its limit.

use crate::user::subscription;
use crate::worker::core::Core;

impl Core {
    /// Whether as much waits for the directory as may (`limits.held_bytes`): nothing more is read until it is less.
    pub fn holds_too_much(&self) -> bool {
        self.actors.under_way.bytes() > self.env.config.limits.held_bytes as usize
    }

    /// Goes on with what waits for room in the directory's queue.
    pub fn retry_writes(&mut self) {
        subscription::retry(&mut self.actors, &self.env, &mut self.fx);
        let held = self.actors.under_way.bytes() as u64;
        self.env.metrics().held_bytes.set(held);
        self.env.metrics().held_high.raise(held);
    }
}
