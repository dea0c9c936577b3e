//! How much memory one account may make the server hold: `limits.account_memory_kib`.
//!
//! The sum is made when it is asked for, over the few resources of the account, and only when the resource that asks holds
//! much itself. So nothing is counted on the way of a message.
//!
//! ```text
//! of each resource: output + input + unfinished stanza + unacknowledged + held back + presence
//!                   └── up to its part: never asked about ──┘└── beyond: of all resources together ─┐
//! of the account:   index of what waits in the log ─────────────────────────────────────────────────┤
//!                                                                              three quarters of the share
//! ```
//! A part is a quarter of the share by `limits.resources_per_user`; so the parts and what is beyond them are the whole.
//!
//! | marks | what happens |
//! | --- | --- |
//! | the half, of output and input alone | connections of the account with output waiting are not read until it has gone |
//! | the whole | the oldest session without a connection gives up all but references into the log, then ends, and so the next; when there is none, an answer becomes an error, "ask again", messages stay in the log, nothing more is remembered or held back for the account, and a long stanza that does not come to its end ends its stream |
//!
//! What others send may use half of what is beyond the parts, and no session gives anything up for it: a stranger who floods
//! an attacker ends none of the victim's sessions.
//!
//! Messages are in the log, and never refused for this: a recipient's account being full is no reason to refuse a sender.

use crate::env::Env;
use crate::memory::{Pressure, SHORT_BYTES};
use crate::runtime::driver::ConnId;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::inputs::Inputs;
use crate::user::tables::{Resource, ResourceKey, UserKey};
use crate::user::writes::Writes;
use crate::user::{inactive, offline};

/// A connection with no more output than this is read whatever else its account holds: so one connection that does not
/// read cannot stop another that does.
const OUTPUT_ALWAYS_BYTES: usize = 16 * 1024;

/// A stanza that has not come to its end is read on up to so many bytes of memory, whatever else its account holds.
pub const UNFINISHED_ALWAYS_BYTES: usize = 16 * 1024;

/// Bytes of memory that the resources of one account make the server hold, by kind.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Output that waits.
    pub output: usize,
    /// Input that waits for its turn, or for the directory.
    pub input: usize,
    /// A stanza that has not come to its end.
    pub unfinished: usize,
    /// What is remembered of unacknowledged stanzas.
    pub unacked: usize,
    /// Stanzas held back for an inactive, slow or absent client.
    pub held: usize,
    /// Presence: the last of each resource, and the names of those that have directed presence.
    pub presence: usize,
}

impl Use {
    /// Nothing.
    pub const NONE: Use = Use { output: 0, input: 0, unfinished: 0, unacked: 0, held: 0, presence: 0 };

    /// All of it.
    pub fn total(&self) -> usize {
        self.output + self.input + self.unfinished + self.unacked + self.held + self.presence
    }

    /// Adds what another holds.
    pub fn add(&mut self, other: Use) {
        self.output += other.output;
        self.input += other.input;
        self.unfinished += other.unfinished;
        self.unacked += other.unacked;
        self.held += other.held;
        self.presence += other.presence;
    }
}

/// What an account holds.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// All of its resources.
    pub resources: Use,
    /// Of that, what each has beyond its part.
    pub beyond: usize,
    /// The index of what waits in the log, and the counts of its senders.
    pub index: usize,
}

impl Sum {
    /// All of it.
    pub fn total(&self) -> usize {
        self.resources.total() + self.index
    }
}

/// What one resource holds.
pub fn of_resource((inputs, writes): (&Inputs, &Writes), fx: &Effects, resource: &Resource) -> Use {
    let (mut output, mut unhandled, mut writing) = (0, Default::default(), 0);
    if resource.conn != ConnId::NONE {
        output = fx.out.waiting(resource.conn);
        unhandled = inputs.of(resource.conn);
        writing = writes.bytes_of(resource.conn);
    }
    let sm = resource.flow.as_ref().and_then(|flow| flow.sm.as_ref());
    Use {
        output,
        input: unhandled.waiting + writing,
        unfinished: unhandled.unfinished,
        unacked: sm.map_or(0, |sm| sm.memory()),
        held: resource.held.as_ref().map_or(0, |held| held.bytes()),
        presence: resource.presence.len() + resource.directed.as_ref().map_or(0, |known| known.bytes()),
    }
}

/// What an account holds. Sessions that end after the current event count no more.
pub fn of_account(actors: &Actors, env: &Env, fx: &Effects, user: UserKey) -> Sum {
    let user = actors.users.user(user);
    let part = part(env);
    let mut sum = Sum { index: actors.commits.index_bytes(user.id), ..Sum::default() };
    for key in user.resources.iter().filter(|key| !fx.ended.contains(key)) {
        let of_one = of_resource((&actors.inputs, &actors.writes), fx, actors.users.resource(*key));
        sum.resources.add(of_one);
        sum.beyond += of_one.total().saturating_sub(part);
    }
    sum
}

/// Bytes that an account may hold.
fn whole(env: &Env) -> usize {
    env.config.limits.account_memory_kib as usize * 1024
}

/// Bytes that a resource may hold without asking what the others do: together a quarter of the whole.
pub fn part(env: &Env) -> usize {
    whole(env) / 4 / (env.config.limits.resources_per_user as usize).max(1)
}

/// Whether a resource may make the server hold so many bytes more, as far as its account is concerned. Room is made for it
/// if there are sessions without a connection.
pub fn has(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey, more: usize) -> bool {
    let user = actors.users.resource(key).user;
    loop {
        match fits(actors, env, fx, key, more, whole(env) / 4 * 3) {
            Fit::Yes => return true,
            Fit::Never => return false,
            Fit::NotNow if !make_room(actors, env, fx, user) => return false,
            Fit::NotNow => {}
        }
    }
}

/// As [`has`], for what others send. No room is made for that, and the half that is left is for what the account does itself.
pub fn has_for_others(actors: &Actors, env: &Env, fx: &Effects, key: ResourceKey, more: usize) -> bool {
    fits(actors, env, fx, key, more, whole(env) / 8 * 3) == Fit::Yes
}

/// Whether something fits.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Fit {
    Yes,
    /// Not while the account's other sessions hold what they do.
    NotNow,
    /// The whole server is short of memory.
    Never,
}

/// Whether so many bytes more of a resource fit, when all resources may hold `beyond_max` beyond their parts.
fn fits(actors: &Actors, env: &Env, fx: &Effects, key: ResourceKey, more: usize, beyond_max: usize) -> Fit {
    let resource = actors.users.resource(key);
    let own = of_resource((&actors.inputs, &actors.writes), fx, resource).total();
    if env.shared.memory.pressure() >= Pressure::Short {
        return if own + more <= SHORT_BYTES { Fit::Yes } else { Fit::Never };
    }
    let part = part(env);
    if own + more <= part {
        return Fit::Yes;
    }
    let beyond = (own + more - part).min(more);
    let sum = of_account(actors, env, fx, resource.user);
    env.metrics().account_memory_high.raise(sum.total() as u64);
    if sum.beyond + beyond + sum.index <= beyond_max { Fit::Yes } else { Fit::NotNow }
}

/// The oldest session of an account without a connection gives up all but references into the log; if it has nothing else,
/// or cannot be resumed without it, it ends. `false`: there is none.
fn make_room(actors: &mut Actors, env: &Env, fx: &mut Effects, user: UserKey) -> bool {
    let is_absent = |key: &&ResourceKey| actors.users.resource(**key).conn == ConnId::NONE;
    let mut absent = actors.users.user(user).resources.iter().filter(is_absent);
    let Some(&key) = absent.find(|key| !fx.ended.contains(key)) else { return false };
    env.metrics().account_stripped.add(1);
    let before = of_resource((&actors.inputs, &actors.writes), fx, actors.users.resource(key)).total();
    inactive::forget(&mut actors.users, key);
    let complete = offline::shed_to(&mut actors.users, env, fx, key, 0);
    if !complete
        || of_resource((&actors.inputs, &actors.writes), fx, actors.users.resource(key)).total() >= before
    {
        actors.users.forbid_resumption(env, fx, key);
    }
    true
}

/// Whether a connection for which `waiting` bytes of output wait may be read, as far as its account is concerned.
pub fn reads(actors: &Actors, env: &Env, fx: &Effects, key: ResourceKey, waiting: usize) -> bool {
    waiting <= OUTPUT_ALWAYS_BYTES || under_way(actors, fx, actors.users.resource(key).user) < whole(env) / 2
}

/// Bytes of output and input that wait for an account's clients, or come from them.
fn under_way(actors: &Actors, fx: &Effects, user: UserKey) -> usize {
    let resources = actors.users.user(user).resources.iter().map(|key| actors.users.resource(*key));
    let connected = resources.filter(|resource| resource.conn != ConnId::NONE);
    connected.map(|resource| fx.out.waiting(resource.conn) + actors.inputs.of(resource.conn).waiting).sum()
}

#[cfg(test)]
mod tests;
