//! How a stanza reaches the resources of a user of this worker: RFC 6121 §8.5.

use smallvec::SmallVec;

use crate::effects::answer;
use crate::env::Env;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::stanza::{Delivery, Kind, Traits, Type};
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::flow::{Class, Outgoing};
use crate::user::inactive::Urgency;
use crate::user::tables::{Flags, ResourceKey, UserKey, Users};
use crate::user::{blocking, carbons, flow, inactive, room, stranger};

/// A message that is not kept. (One that is goes through [`keep`](crate::user::keep::keep).)
pub fn message(actors: &mut Actors, env: &Env, fx: &mut Effects, d: &Delivery<'_>, user: Option<UserKey>) {
    let Some(user) = user else {
        to_nobody(actors, env, fx, d);
        return;
    };
    if let Some(resource) = d.to_resource {
        if let Some(key) = actors.users.find_resource(user, resource) {
            if !d.traits.has(Traits::FROM_SERVER) && !takes(actors, env, fx, key, d) {
                return not_taken(actors, env, fx, d);
            }
            push_taken(actors, env, fx, key, d);
            carbons::copy_received(actors, env, fx, user, d, &[key]);
            return;
        }
        // RFC 6121 §8.5.3.2.1: only a chat message looks for another resource of the same user.
        if d.typ != Type::Chat {
            to_nobody(actors, env, fx, d);
            return;
        }
    }
    let recipients = recipients_of_bare(actors, user, d.typ);
    if recipients.is_empty() {
        to_nobody(actors, env, fx, d);
        return;
    }
    if !recipients.iter().any(|&key| takes(actors, env, fx, key, d)) {
        return not_taken(actors, env, fx, d);
    }
    for &key in &recipients {
        push(actors, env, fx, key, d);
    }
    carbons::copy_received(actors, env, fx, user, d, &recipients);
}

/// RFC 6121 §8.5.2.1.1: a headline goes to every resource with a non-negative priority; a chat or normal
/// message to the most available one, or to all that share the highest priority. Nothing else goes to a bare JID.
pub fn recipients_of_bare(actors: &Actors, user: UserKey, typ: Type) -> SmallVec<[ResourceKey; 4]> {
    let priority = |key: &ResourceKey| actors.users.resource(*key).priority;
    let mut candidates = actors.users.available_of(user);
    candidates.retain(|key| priority(key) >= 0);
    match typ {
        Type::Headline => candidates,
        Type::Chat | Type::Normal => {
            let highest = candidates.iter().map(priority).max();
            candidates.retain(|key| Some(priority(key)) == highest);
            candidates
        }
        _ => SmallVec::new(),
    }
}

/// RFC 6121 §8.5.1, §8.5.2.2, §8.5.3.2: the account does not exist or nobody can receive. Returns whether the sender will
/// hear when a commit has passed.
pub fn to_nobody(actors: &mut Actors, env: &Env, fx: &mut Effects, d: &Delivery<'_>) -> bool {
    match d.typ {
        Type::Error | Type::Headline => false,
        _ => stranger::turn_away(actors, env, fx, d, StanzaCondition::ServiceUnavailable.into()),
    }
}

/// Writes a stanza to a bound resource, or holds it back while the client is inactive or reads slowly.
pub fn push(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey, d: &Delivery<'_>) {
    push_as(actors, env, fx, key, &outgoing(d));
}

/// As [`push`], of what [`takes`] has just been asked.
pub fn push_taken(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey, d: &Delivery<'_>) {
    let mut out = outgoing(d);
    let flags = actors.users.resource(key).flags;
    // What is held back for it may go first, and take the room.
    let may_hold = flags.has(Flags::INACTIVE) || flags.has(Flags::BACKED_UP);
    if matches!(out.class, Class::Foreign) && out.urgency == Urgency::Now && !may_hold {
        out.class = Class::Taken;
    }
    push_as(actors, env, fx, key, &out);
}

fn outgoing<'a>(d: &Delivery<'a>) -> Outgoing<'a> {
    let urgency = inactive::urgency(d);
    let class = match (d.kind, d.typ) {
        _ if urgency == Urgency::Replaceable => Class::Presence(d.from),
        (Kind::Iq, Type::Result | Type::Error) if d.traits.has(Traits::FROM_SERVER) => {
            Class::Answer { from: Some(d.from), id: d.id.unwrap_or_default() }
        }
        _ if d.traits.has(Traits::FROM_SERVER) => Class::Own,
        _ => Class::Foreign,
    };
    Outgoing { kind: d.kind, class, urgency, bytes: d.bytes }
}

/// As [`push`], for what is not a [`Delivery`].
pub fn push_as(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey, out: &Outgoing<'_>) {
    let metrics = env.metrics();
    match out.kind {
        Kind::Message => metrics.messages_out.add(1),
        Kind::Presence => metrics.presences_out.add(1),
        Kind::Iq => metrics.iqs_out.add(1),
    }
    let flags = actors.users.resource(key).flags;
    if flags.has(Flags::ASLEEP) && (out.urgency != Urgency::Now || matches!(out.class, Class::Event)) {
        // It is asked for, or of no use any more, when the session wakes.
        return;
    }
    if (flags.has(Flags::INACTIVE) || flags.has(Flags::BACKED_UP))
        && inactive::hold(actors, env, fx, key, out)
    {
        return;
    }
    flow::write(actors, env, fx, key, out);
}

/// Whether a resource takes a stanza that somebody else sends it and that is kept nowhere.
pub fn takes(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey, d: &Delivery<'_>) -> bool {
    inactive::urgency(d) != Urgency::Now || room::takes(actors, env, fx, key, Class::Foreign, d.bytes.len())
}

/// A stanza is not taken because too much waits for its recipient: its sender is told, if it is worth it.
pub fn not_taken(actors: &mut Actors, env: &Env, fx: &mut Effects, d: &Delivery<'_>) {
    env.metrics().dropped_output.add(1);
    if d.typ != Type::Headline && !d.traits.has(Traits::STATE_ONLY) {
        let text = "too much waits for the recipient; try again later";
        let error = StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text);
        match d.kind {
            // Not kept, so there is nothing to wait for.
            Kind::Message => {
                stranger::turn_away(actors, env, fx, d, error);
            }
            _ => answer::bounce_with(env, fx, d, error),
        }
    }
}

/// How a presence of a user of this worker is treated.
pub fn presence_traits(users: &Users, typ: Type, from: &str) -> Traits {
    let shows = matches!(typ, Type::Available | Type::Unavailable);
    match shows && blocking::chooses_resources(users, from) {
        true => Traits::CHOOSES_RESOURCES,
        false => Traits::default(),
    }
}
