//! What a message tells its sender about the account that it was sent to.
//!
//! | the recipient | the sender is | a message that is not taken |
//! | --- | --- | --- |
//! | has an account | in its roster, or the account itself | is answered with an error |
//! | has an account, and blocks the sender or not | anybody else | is ignored |
//! | has none | anybody | is ignored |
//!
//! RFC 6121 §8.5.1 lets a server ignore a message to an account that does not exist, so that strangers learn from no answer
//! who has one and who is online. A message for which there is no room in a mailbox is none of these: it was to wait there, and
//! its sender is told, whoever that is ([`keep`]). An ignored message takes the way of one that is kept, through the
//! log and its commit, so that the acknowledgement of its sender's stream (XEP-0198) does not tell either.

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::log::ActorCopy;

use crate::effects::answer;
use crate::effects::work;
use crate::env::Env;
use crate::proto::address;
use crate::proto::errors::StanzaError;
use crate::stanza::{Delivery, Type};
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::quota::Sender;
use crate::user::{keep, record};

/// Turns a message away: its sender is told why if it may know, and else it is ignored. Returns whether the sender will
/// hear when a commit has passed; otherwise there is nothing to wait for.
pub fn turn_away(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    d: &Delivery<'_>,
    error: StanzaError,
) -> bool {
    if is_told(env, fx, d) {
        answer::bounce_with(env, fx, d, error);
        return false;
    }
    env.metrics().ignored.add(1);
    d.is_kept() && pretend_to_keep(actors, env, fx, d)
}

/// Whether the sender of a message or request may be told that it was not taken. Looks into the directory, so it is asked only then.
pub fn is_told(env: &Env, fx: &Effects, d: &Delivery<'_>) -> bool {
    // RFC 6121 §8.5.2.1.1: an error for any account, there or not.
    if d.typ == Type::Groupchat && d.to_resource.is_none() {
        return true;
    }
    let from = address::local_of(d.from);
    if from == d.to_local {
        return true;
    }
    fx.work.add(work::LOOK);
    match env.shared.directory.roster_item(d.to_local, &env.bare_jid(from)) {
        Ok(item) => Sender::of(item.as_ref()) == Sender::Contact,
        Err(error) => {
            tracing::error!(user = d.to_local, %error, "cannot read a roster");
            false
        }
    }
}

/// Writes a message to the log that nobody will get, and drops it at once. A log that takes nothing is said as it would be of
/// any message.
fn pretend_to_keep(actors: &mut Actors, env: &Env, fx: &mut Effects, d: &Delivery<'_>) -> bool {
    let Actors { commits, payload, .. } = actors;
    record::encode(d, payload);
    let now = env.unix_ms();
    let metrics = &env.shared.metrics[env.worker];
    let copy = ActorCopy::queued(ActorId::NOBODY);
    let outcome = commits.append((copy, None), now, payload, d.pending_ack, metrics);
    match outcome.recipient {
        Ok(appended) => {
            actors.commits.trim(env, ActorId::NOBODY, appended.sequence);
            fx.work.add(work::LOGGED);
            true
        }
        Err(error) => {
            let error = keep::refusal(&mut actors.commits, env, error);
            answer::bounce_with(env, fx, d, error);
            false
        }
    }
}
