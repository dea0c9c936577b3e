//! A stanza for a user whose home is this worker: which rules it falls under.

use whimbrel_storage::log::{ActorCopy, Sequence};

use crate::effects::answer;
use crate::env::Env;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::service;
use crate::stanza::{Delivery, Kind, Traits, Type};
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::subscription::table::Verb;
use crate::user::tables::{Flags, UserKey, Users};
use crate::user::{blocking, delivery, keep, presence, stranger};

/// Hands a stanza to a user whose home is this worker (RFC 6121 §8.5), behind the subscriptions that its sender has
/// under way with that contact.
///
/// `sender`: the copy of a message for its sender's archive, which is written with the recipient's. Returns its id; `None`:
/// it was not written.
pub fn deliver(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    d: &Delivery<'_>,
    sender: Option<ActorCopy>,
) -> Option<Sequence> {
    let is_subscription = Verb::of(d.typ).is_some();
    if is_subscription || d.traits.has(Traits::RELEASED) {
        return deliver_now(actors, env, fx, d, sender);
    }
    // Senders whose home is here were asked at their connections, where they wait.
    let is_from_elsewhere = || env.home_of(address::local_of(d.from)) != env.worker;
    if !d.traits.has(Traits::HELD)
        && actors.under_way.lacks_room(d, env.config.limits.held_bytes as usize)
        && is_from_elsewhere()
    {
        if is_refused_without_room(d) {
            refuse_to_hold(actors, env, fx, d);
            return None;
        }
        service::request::bill(env, fx, d.from, d.bytes.len() as u64 / HELD_BYTES_PER_UNIT);
    }
    match actors.under_way.hold_inbound(d) {
        true => None,
        false => deliver_now(actors, env, fx, d, sender),
    }
}

/// Bytes beyond its part that cost their sender a work unit when they are held.
const HELD_BYTES_PER_UNIT: u64 = 4;

/// Whether a stanza for which there is no room behind a subscription is refused. Presence is not: its recipient would take its sender
/// for what it is no more. Nor is what gets no answer.
fn is_refused_without_room(d: &Delivery<'_>) -> bool {
    d.kind != Kind::Presence && !d.traits.has(Traits::FROM_SERVER) && answer::may_be_answered(d.kind, d.typ)
}

/// A sender has so much waiting behind its subscriptions that no more of it is held. A stranger learns no more of the
/// recipient than from any other message or request.
fn refuse_to_hold(actors: &mut Actors, env: &Env, fx: &mut Effects, d: &Delivery<'_>) {
    env.metrics().refused_held.add(1);
    let text = "too much waits for your subscription; try again later";
    let error = StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text);
    let is_waited_for = match d.kind {
        Kind::Message => stranger::turn_away(actors, env, fx, d, error),
        Kind::Iq if stranger::is_told(env, fx, d) => {
            answer::bounce_with(env, fx, d, error);
            false
        }
        Kind::Iq | Kind::Presence => {
            answer::bounce(env, fx, d, StanzaCondition::ServiceUnavailable);
            false
        }
    };
    if !is_waited_for {
        settle_now(&mut actors.users, env, fx, d);
    }
}

/// As [`deliver`], at once.
fn deliver_now(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    d: &Delivery<'_>,
    sender: Option<ActorCopy>,
) -> Option<Sequence> {
    let user = actors.users.find(d.to_local);
    if blocking::stops(&actors.users, env, fx, d, user) {
        // XEP-0191 §3.2: as if the user were not there.
        match d.kind {
            Kind::Message if delivery::to_nobody(actors, env, fx, d) => return None,
            Kind::Iq => deliver_iq(actors, env, fx, d, None, true),
            Kind::Message | Kind::Presence => {}
        }
        settle_now(&mut actors.users, env, fx, d);
        return None;
    }
    match d.kind {
        Kind::Message if d.is_kept() => {
            let outcome = keep::keep(actors, env, fx, d, user, sender);
            if !outcome.is_waited_for {
                settle_now(&mut actors.users, env, fx, d);
            }
            return outcome.sender;
        }
        Kind::Message => delivery::message(actors, env, fx, d, user),
        Kind::Presence => presence::receive(actors, env, fx, d, user),
        Kind::Iq => deliver_iq(actors, env, fx, d, user, false),
    }
    None
}

/// Nothing has to be kept of a message: its sender need not wait.
fn settle_now(users: &mut Users, env: &Env, fx: &mut Effects, d: &Delivery<'_>) {
    if let Some(pending_ack) = d.pending_ack {
        users.notify_durable(env, fx, pending_ack);
    }
}

/// `is_hidden`: the user blocks the sender, and `user` is `None`.
fn deliver_iq(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    d: &Delivery<'_>,
    user: Option<UserKey>,
    is_hidden: bool,
) {
    let Some(resource) = d.to_resource else {
        // RFC 6121 §8.5.2.1.3: the server answers on behalf of the account; results to it mean nothing.
        if matches!(d.typ, Type::Get | Type::Set) {
            service::dispatch_for_account(actors, env, fx, d, is_hidden);
        }
        return;
    };
    match user.and_then(|user| actors.users.find_resource(user, resource)) {
        // It may be days before it is there to answer.
        Some(key)
            if actors.users.resource(key).flags.has(Flags::ASLEEP) && !d.traits.has(Traits::FROM_SERVER) =>
        {
            answer::bounce(env, fx, d, StanzaCondition::ServiceUnavailable);
        }
        Some(key) if d.traits.has(Traits::FROM_SERVER) || delivery::takes(actors, env, fx, key, d) => {
            delivery::push(actors, env, fx, key, d);
        }
        Some(_) => delivery::not_taken(actors, env, fx, d),
        None => answer::bounce(env, fx, d, StanzaCondition::ServiceUnavailable),
    }
}
