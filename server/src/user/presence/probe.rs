//! Presence probes (RFC 6121 §4.3): asking contacts for their presence, and answering.

use whimbrel_storage::directory::Subscription;
use whimbrel_storage::jid::JidRef;

use crate::effects::work;
use crate::env::Env;
use crate::exchange::fanout::Broadcast;
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::lifecycle::{self, ContactAvailable};
use crate::user::presence::{UNAVAILABLE_TAIL, send_one, send_to_contacts};
use crate::user::subscription::under_way::PendingSubscriptions;
use crate::user::tables::{Flags, ResourceKey};

/// §4.3.1: asks for the presence of everybody to whose presence the user is subscribed.
pub(super) fn contacts_of(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey, from: &str) {
    let local = actors.users.local_of(key).to_owned();
    let sees = |_: &str, s| matches!(s, Subscription::To | Subscription::Both);
    send_to_contacts(actors, env, fx, &local, &Broadcast::new(Type::Probe, from, b""), sees);
}

/// Whether a probe that a client sends goes on to the contact: only subscribers get an answer, and the user's own roster
/// knows whether it is one. To anybody else the contact's `unsubscribed` (§4.3.2) says nothing new; withdrawing a
/// request that waits for an answer, it would also tell that there is no such account.
pub(super) fn may_ask(under_way: &PendingSubscriptions, env: &Env, own: &str, contact: &str) -> bool {
    let subscription = under_way.visible(own, contact).or_else(|| {
        // One that cannot be read leaves the question to the contact's side.
        let item = env.shared.directory.roster_item(own, &env.bare_jid(contact)).ok()?;
        Some(item.unwrap_or_default().subscription)
    });
    matches!(subscription, None | Some(Subscription::To | Subscription::Both))
}

/// §4.3.2: what somebody who probes a user of this worker, or one resource of theirs, gets.
pub(super) fn answer(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    local: &str,
    resource: Option<&str>,
    prober: &str,
) {
    let Ok(from) = JidRef::parse(prober) else { return };
    let Some(prober_local) = from.local() else { return };
    fx.work.add(work::PROBE);
    let own_bare = env.bare_jid(local);
    if prober_local != local {
        let under_way = actors.under_way.visible(local, prober_local);
        let item = env.shared.directory.roster_item(local, &env.bare_jid(prober_local));
        let item = match item {
            Ok(item) => item.unwrap_or_default(),
            // An answer would end the prober's subscription.
            Err(error) => return tracing::error!(user = local, %error, "cannot read a roster"),
        };
        let subscription = under_way.unwrap_or(item.subscription);
        if !matches!(subscription, Subscription::From | Subscription::Both) {
            // `unsubscribed` would make the prober's server forget a request that waits here for an answer, or one
            // that is just being granted.
            if item.pending_in.is_none() && under_way.is_none() {
                let to = env.bare_jid(prober_local);
                let tail = b" type='unsubscribed'/>";
                send_one(
                    &mut actors.users,
                    env,
                    fx,
                    &Broadcast::new(Type::Unsubscribed, &own_bare, tail),
                    &to,
                );
            }
            return;
        }
    }
    let event = ContactAvailable { account: local, resource, contact: prober };
    lifecycle::contact_available(actors, env, fx, &event);
}

/// The contact hears of the presence of each resource of the user that it asks for, or that there is none.
pub fn show(actors: &mut Actors, env: &Env, fx: &mut Effects, asked: &ContactAvailable<'_>) {
    let &ContactAvailable { account: local, resource, contact: prober } = asked;
    let own_bare = env.bare_jid(local);
    let mut asked = actors.users.resources_of(local);
    asked.retain(|key| {
        let found = actors.users.resource(*key);
        found.flags.has(Flags::AVAILABLE) && resource.is_none_or(|resource| *found.name == *resource)
    });
    if asked.is_empty() {
        let from = resource.map_or_else(|| own_bare.clone(), |resource| format!("{own_bare}/{resource}"));
        let shown = Broadcast::new(Type::Unavailable, &from, UNAVAILABLE_TAIL);
        return send_one(&mut actors.users, env, fx, &shown, prober);
    }
    for key in asked {
        let full = actors.users.full_jid(env, key);
        let tail = std::mem::take(&mut actors.users.resource_mut(key).presence);
        send_one(&mut actors.users, env, fx, &Broadcast::new(Type::Available, &full, &tail), prober);
        actors.users.resource_mut(key).presence = tail;
    }
}
