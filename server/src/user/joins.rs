//! Requests of which something is written at the homes of several others: whoever has made one hears of it when all of it is durable.
//!
//! ```text
//! request ─► begin ─┬─► add ─► home of one ────► durable ─┐
//!                   ├─► add ─► home of another ► durable ─┤
//!                   └─► end ──────────────────────────────┴─► goes on, with the last of them
//! ```
//! What is added comes back as a [`PendingAck`] of its own, in any order.

use slab::Slab;

use crate::env::Env;
use crate::stanza::PendingAck;
use crate::user::commits::OnCommit;

/// Requests of one worker that may wait. While there are as many no other begins ([`Joins::has_room`]).
pub const JOINS_MAX: usize = 4096;

/// A request that waits.
struct Join {
    /// What has not come back; one more until the request has named all of it.
    left: u32,
    is_durable: bool,
    go_on: OnCommit,
}

/// Requests of a worker that wait.
#[derive(Default)]
pub struct Joins {
    waiting: Slab<Join>,
    /// All of them has come back.
    done: Vec<(OnCommit, bool)>,
}

impl Joins {
    /// Whether another request may begin.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < JOINS_MAX
    }

    /// Whether none waits, or is to go on.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.done.is_empty()
    }

    /// A request begins to wait; its number. `go_on` hears whether all is durable: with `false`, something of it will never be.
    pub fn begin(&mut self, env: &Env, go_on: OnCommit) -> u32 {
        let join = self.waiting.insert(Join { left: 1, is_durable: true, go_on });
        env.metrics().joins_high.raise(self.waiting.len() as u64);
        u32::try_from(join).expect("JOINS_MAX, and what the directory had under way")
    }

    /// One thing more for which it waits; it is to be told once. `of`: the request's own.
    pub fn add(&mut self, env: &Env, join: u32, of: Option<PendingAck>) -> PendingAck {
        self.waiting[join as usize].left += 1;
        let worker = u16::try_from(env.worker).expect("at most 1024 workers");
        PendingAck::of_join(join, worker, of)
    }

    /// All for which it waits has been named.
    pub fn end(&mut self, join: u32) {
        self.on_report(join, true);
    }

    /// One of the things is durable, or will never be.
    pub fn on_report(&mut self, join: u32, is_durable: bool) {
        let Some(waiting) = self.waiting.get_mut(join as usize) else { return };
        waiting.left -= 1;
        waiting.is_durable &= is_durable;
        if waiting.left == 0 {
            let Join { go_on, is_durable, .. } = self.waiting.remove(join as usize);
            self.done.push((go_on, is_durable));
        }
    }

    /// A request that goes on, and whether all of it is durable.
    pub fn next_done(&mut self) -> Option<(OnCommit, bool)> {
        self.done.pop()
    }
}
