//! Directed presence (RFC 6121 §4.6): presence for one entity, which later also hears of the end.

use whimbrel_storage::directory::Subscription;
use whimbrel_storage::jid::JidRef;

use crate::stanza::{Delivery, Type};
use crate::stream::errors::{StanzaCondition, StanzaError};
use crate::user::blocking;
use crate::user::home::Home;
use crate::user::presence::{presence_to, probe, refuse, write};
use crate::user::routing::{self, Inbound};
use crate::user::share;
use crate::user::tables::{Flags, ResourceKey};

/// Sends a client's presence, probe or presence error to one entity.
pub(super) fn send(home: &mut Home, inbound: &Inbound<'_>, local: &str, to: &JidRef<'_>) {
    let own = home.users.local_of(inbound.sender).to_owned();
    if own != local && blocking::blocks(home, &own, to) {
        if inbound.typ == Type::Available {
            refuse(home, inbound, blocking::own_block_error());
        }
        return;
    }
    let name = to.to_jid().as_str().to_owned();
    match inbound.typ {
        Type::Available if !remember(home, inbound.sender, &own, &name) => {
            let text = "this session has sent directed presence to too many entities";
            let error = StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text);
            return refuse(home, inbound, error);
        }
        Type::Unavailable => forget(home, inbound.sender, &name),
        Type::Probe if own != local && !probe::may_ask(home, &own, local) => return,
        _ => {}
    }
    routing::send_to_user(home, inbound, local, to.resource());
}

/// Notes that `name` has the presence of this resource. `false` when `limits.directed_presence` is reached, or the account
/// may hold no more.
fn remember(home: &mut Home, key: ResourceKey, own: &str, name: &str) -> bool {
    let limit = home.config.limits.directed_presence as usize;
    let resource = home.users.resource(key);
    if resource.directed.as_ref().is_some_and(|list| list.iter().any(|known| **known == *name)) {
        return true;
    }
    // §4.6.3: who is subscribed to an available resource will hear of its end by broadcast.
    if resource.flags.has(Flags::AVAILABLE) && is_subscriber(home, own, name) {
        return true;
    }
    if !share::has(home, key, name.len()) {
        home.metrics().refused_account_memory.add(1);
        return false;
    }
    let list = home.users.resource_mut(key).directed.get_or_insert_default();
    if list.len() >= limit {
        return false;
    }
    list.push(name.into());
    true
}

fn forget(home: &mut Home, key: ResourceKey, name: &str) {
    let directed = &mut home.users.resource_mut(key).directed;
    if let Some(list) = directed {
        list.retain(|known| **known != *name);
        if list.is_empty() {
            *directed = None;
        }
    }
}

/// The resource is no longer available: those who had its directed presence hear of it (§4.6.3), except who has
/// just heard of it by broadcast.
pub(super) fn end(home: &mut Home, key: ResourceKey, from: &str, tail: &[u8], broadcast: bool) {
    let Some(list) = home.users.resource_mut(key).directed.take() else { return };
    let own = home.users.local_of(key).to_owned();
    for to in *list {
        if !(broadcast && is_subscriber(home, &own, &to)) {
            send_in_order(home, from, &to, tail);
        }
    }
}

/// Whether presence that `own` broadcasts reaches this entity: his own account, or a contact who is subscribed.
fn is_subscriber(home: &Home, own: &str, name: &str) -> bool {
    let bare = name.split_once('/').map_or(name, |(bare, _)| bare);
    if bare.split_once('@').is_some_and(|(local, _)| local == own) {
        return true;
    }
    let under_way = bare.split_once('@').and_then(|(contact, _)| home.under_way.visible(own, contact));
    let subscription = under_way.or_else(|| {
        let item = home.shared.directory.roster_item(own, bare).ok()?;
        item.map(|item| item.subscription)
    });
    matches!(subscription, Some(Subscription::From | Subscription::Both))
}

/// Sends an unavailable presence behind what the same user has sent before.
fn send_in_order(home: &mut Home, from: &str, to: &str, tail: &[u8]) {
    let Ok(jid) = JidRef::parse(to) else { return };
    let Some(local) = jid.local() else { return };
    let mut bytes = Vec::with_capacity(tail.len() + 128);
    write(from, to, tail, &mut bytes);
    let to_bare = presence_to(Type::Unavailable, from, local, &bytes);
    let traits = routing::presence_traits(home, Type::Unavailable, from);
    home.route_in_order(&Delivery { traits, to_resource: jid.resource(), ..to_bare });
}
