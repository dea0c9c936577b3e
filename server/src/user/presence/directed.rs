//! Directed presence (RFC 6121 §4.6): presence for one entity, which later also hears of the end.

use whimbrel_storage::directory::Subscription;
use whimbrel_storage::jid::JidRef;

use crate::env::Env;
use crate::exchange::fanout::Broadcast;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::stanza::{Delivery, Type};
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::blocking;
use crate::user::delivery;
use crate::user::entities::{Entities, Entity};
use crate::user::inbound::Inbound;
use crate::user::presence::{presence_to, probe, write};
use crate::user::share;
use crate::user::tables::Users;
use crate::user::tables::{Flags, ResourceKey};

/// Whether a client's presence, probe or presence error may go to one entity, a user of this server or a resource of one.
/// If not, the client has been told.
pub fn may_go(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    inbound: &Inbound<'_>,
    to: &JidRef<'_>,
    local: &str,
) -> bool {
    let own = actors.users.local_of(inbound.sender).to_owned();
    if own != local && blocking::blocks(&actors.users, env, fx, &own, to) {
        if inbound.typ == Type::Available {
            inbound.refuse(env, fx, blocking::own_block_error());
        }
        return false;
    }
    let jid = to.to_jid();
    let entity = Entity::Jid(jid.as_str());
    match inbound.typ {
        Type::Available if !remember(actors, env, fx, inbound.sender, (&own, entity)) => {
            let text = "this session has sent directed presence to too many entities";
            let error = StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text);
            inbound.refuse(env, fx, error);
            return false;
        }
        Type::Unavailable => forget(&mut actors.users, inbound.sender, entity),
        Type::Probe if own != local && !probe::may_ask(&actors.under_way, env, &own, local) => return false,
        _ => {}
    }
    true
}

/// As [`may_go`], for a room or an occupant of one. What is remembered is the room: it knows under which nick the client is
/// there.
pub fn may_enter(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    inbound: &Inbound<'_>,
    to: &JidRef<'_>,
    room: &str,
) -> bool {
    let own = actors.users.local_of(inbound.sender).to_owned();
    if blocking::blocks(&actors.users, env, fx, &own, to) && inbound.typ == Type::Available {
        inbound.refuse(env, fx, blocking::own_block_error());
        return false;
    }
    let entity = Entity::Room(room);
    match inbound.typ {
        Type::Available if !remember(actors, env, fx, inbound.sender, (&own, entity)) => {
            let text = "this session is in as many rooms as it may";
            let error = StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text);
            inbound.refuse(env, fx, error);
            false
        }
        Type::Available | Type::Error => true,
        Type::Unavailable => {
            forget(&mut actors.users, inbound.sender, entity);
            true
        }
        _ => false,
    }
}

/// Notes that an entity has the presence of this resource of an account. `false` when `limits.directed_presence` is reached, or the account
/// may hold no more.
fn remember(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    key: ResourceKey,
    (own, entity): (&str, Entity<'_>),
) -> bool {
    let limit = env.config.limits.directed_presence as usize;
    let resource = actors.users.resource(key);
    if resource.directed.as_ref().is_some_and(|known| known.has(entity)) {
        return true;
    }
    // §4.6.3: who is subscribed to an available resource will hear of its end by broadcast.
    if resource.flags.has(Flags::AVAILABLE) && is_subscriber(actors, env, own, entity) {
        return true;
    }
    if !share::has(actors, env, fx, key, Entities::bytes_of(entity)) {
        env.metrics().refused_account_memory.add(1);
        return false;
    }
    let known = actors.users.resource_mut(key).directed.get_or_insert_default();
    if known.count() >= limit {
        return false;
    }
    known.push(entity);
    true
}

fn forget(users: &mut Users, key: ResourceKey, entity: Entity<'_>) {
    let directed = &mut users.resource_mut(key).directed;
    if let Some(known) = directed {
        known.retain(|other| other != entity);
        if known.is_empty() {
            *directed = None;
        }
    }
}

/// The resource is no longer available: those who had its directed presence hear of it (§4.6.3), except who has
/// just heard of it by broadcast.
pub fn end(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    key: ResourceKey,
    shown: &Broadcast<'_>,
    broadcast: bool,
) {
    let Some(known) = actors.users.resource_mut(key).directed.take() else { return };
    let own = actors.users.local_of(key).to_owned();
    for entity in known.iter() {
        if !(broadcast && is_subscriber(actors, env, &own, entity)) {
            send_in_order(actors, env, fx, shown, entity);
        }
    }
}

/// Whether presence that `own` broadcasts reaches this entity: the user's own account, or a contact who is subscribed.
fn is_subscriber(actors: &Actors, env: &Env, own: &str, entity: Entity<'_>) -> bool {
    let Entity::Jid(jid) = entity else { return false };
    let bare = address::bare_of(jid);
    let Some(contact) = address::contact_here(bare, &env.shared.domain) else { return false };
    if contact == own {
        return true;
    }
    let under_way = actors.under_way.visible(own, contact);
    let subscription = under_way.or_else(|| {
        let item = env.shared.directory.roster_item(own, bare).ok()?;
        item.map(|item| item.subscription)
    });
    matches!(subscription, Some(Subscription::From | Subscription::Both))
}

/// Sends an unavailable presence behind what the same user has sent before.
fn send_in_order(actors: &mut Actors, env: &Env, fx: &mut Effects, shown: &Broadcast<'_>, to: Entity<'_>) {
    let &Broadcast { from, payload: tail, .. } = shown;
    let Some(name) = to.jid(env.services().rooms) else { return };
    let Ok(jid) = JidRef::parse(&name) else { return };
    let Some(local) = jid.local() else { return };
    let mut bytes = Vec::with_capacity(tail.len() + 128);
    write(from, &name, tail, &mut bytes);
    if matches!(to, Entity::Room(_)) {
        let unavailable = presence_to(Type::Unavailable, from, local, &bytes);
        return fx.route_to_room(env, &unavailable);
    }
    let to_bare = presence_to(Type::Unavailable, from, local, &bytes);
    let traits = delivery::presence_traits(&actors.users, Type::Unavailable, from);
    let delivery = Delivery { traits, to_resource: jid.resource(), ..to_bare };
    if !actors.under_way.hold_outbound(&delivery) {
        fx.route(env, &delivery);
    }
}
