//! How much memory one account may make the server hold: `limits.account_memory_kib`.
//!
//! The sum is made when it is asked for, over the few resources of the account, and only when the resource that asks holds
//! much itself. So nothing is counted on the way of a message.
//!
//! | marks | what happens |
//! | --- | --- |
//! | the half, of output alone | connections of the account with output waiting are not read until it has gone |
//! | the whole | an answer becomes an error, "ask again"; nothing more is remembered or held back for the account |
//!
//! Messages are in the log, and never refused for this: a recipient's account being full is no reason to refuse a sender.

use crate::memory::{Pressure, SHORT_BYTES};
use crate::runtime::driver::ConnId;
use crate::user::home::Home;
use crate::user::tables::{Resource, ResourceKey, UserKey};

/// A connection with no more output than this is read whatever else its account holds: so one connection that does not
/// read cannot stop another that does.
const OUTPUT_ALWAYS_BYTES: usize = 16 * 1024;

/// Bytes of memory that the resources of one account make the server hold, by kind.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Output that waits.
    pub output: usize,
    /// What is remembered of unacknowledged stanzas.
    pub unacked: usize,
    /// Stanzas held back for an inactive, slow or absent client.
    pub held: usize,
    /// Presence: the last of each resource, and the names of those that have directed presence.
    pub presence: usize,
}

impl Use {
    /// Nothing.
    pub const NONE: Use = Use { output: 0, unacked: 0, held: 0, presence: 0 };

    /// All of it.
    pub fn total(&self) -> usize {
        self.output + self.unacked + self.held + self.presence
    }

    /// Adds what another holds.
    pub fn add(&mut self, other: Use) {
        self.output += other.output;
        self.unacked += other.unacked;
        self.held += other.held;
        self.presence += other.presence;
    }
}

/// What one resource holds.
pub fn of_resource(home: &Home, resource: &Resource) -> Use {
    let output = if resource.conn == ConnId::NONE { 0 } else { home.out.waiting(resource.conn) };
    let sm = resource.flow.as_ref().and_then(|flow| flow.sm.as_ref());
    let directed = resource.directed.iter().flat_map(|list| list.iter());
    Use {
        output,
        unacked: sm.map_or(0, |sm| sm.memory()),
        held: resource.held.as_ref().map_or(0, |held| held.bytes()),
        presence: resource.presence.len()
            + directed.map(|name| name.len() + size_of::<Box<str>>()).sum::<usize>(),
    }
}

/// What an account holds.
pub fn of_account(home: &Home, user: UserKey) -> Use {
    let mut sum = Use::default();
    for key in &home.users.user(user).resources {
        sum.add(of_resource(home, home.users.resource(*key)));
    }
    sum
}

/// Bytes that an account may hold.
fn whole(home: &Home) -> usize {
    home.config.limits.account_memory_kib as usize * 1024
}

/// Whether an account may hold so many bytes more. What a resource holds within its part of a quarter is not asked about.
pub fn has(home: &Home, key: ResourceKey, more: usize) -> bool {
    let resource = home.users.resource(key);
    if home.shared.memory.pressure() >= Pressure::Short {
        return of_resource(home, resource).total() + more <= SHORT_BYTES;
    }
    let part = whole(home) / 4 / (home.config.limits.resources_per_user as usize).max(1);
    of_resource(home, resource).total() + more <= part
        || of_account(home, resource.user).total() + more <= whole(home)
}

/// Whether a connection for which `waiting` bytes of output wait may be read, as far as its account is concerned.
pub fn reads(home: &Home, key: ResourceKey, waiting: usize) -> bool {
    waiting <= OUTPUT_ALWAYS_BYTES || of_account(home, home.users.resource(key).user).output < whole(home) / 2
}
