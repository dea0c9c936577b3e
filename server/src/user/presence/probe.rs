//! Presence probes (RFC 6121 §4.3): asking contacts for their presence, and answering.

use whimbrel_storage::directory::Subscription;
use whimbrel_storage::jid::JidRef;

use crate::runtime::work;
use crate::stanza::Type;
use crate::user::home::Home;
use crate::user::presence::{UNAVAILABLE_TAIL, send_one, send_to_contacts};
use crate::user::tables::{Flags, ResourceKey};

/// §4.3.1: asks for the presence of everybody to whose presence the user is subscribed.
pub(super) fn contacts_of(home: &mut Home, key: ResourceKey, from: &str) {
    let local = home.users.local_of(key).to_owned();
    let sees = |s| matches!(s, Subscription::To | Subscription::Both);
    send_to_contacts(home, &local, Type::Probe, from, b"", sees);
}

/// Whether a probe that a client sends goes on to the contact: only subscribers get an answer, and the user's own roster
/// knows whether it is one. To anybody else the contact's `unsubscribed` (§4.3.2) says nothing new; withdrawing a
/// request that waits for an answer, it would also tell that there is no such account.
pub(super) fn may_ask(home: &Home, own: &str, contact: &str) -> bool {
    let subscription = home.under_way.visible(own, contact).or_else(|| {
        // One that cannot be read leaves the question to the contact's side.
        let item = home.shared.directory.roster_item(own, &home.bare_jid(contact)).ok()?;
        Some(item.unwrap_or_default().subscription)
    });
    matches!(subscription, None | Some(Subscription::To | Subscription::Both))
}

/// §4.3.2: what somebody who probes a user of this worker, or one resource of him, gets.
pub(super) fn answer(home: &mut Home, local: &str, resource: Option<&str>, prober: &str) {
    let Ok(from) = JidRef::parse(prober) else { return };
    let Some(prober_local) = from.local() else { return };
    home.work.add(work::PROBE);
    let own_bare = home.bare_jid(local);
    if prober_local != local {
        let under_way = home.under_way.visible(local, prober_local);
        let item = home.shared.directory.roster_item(local, &home.bare_jid(prober_local));
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
                let to = home.bare_jid(prober_local);
                send_one(home, &own_bare, &to, Type::Unsubscribed, b" type='unsubscribed'/>");
            }
            return;
        }
    }
    let mut asked = home.users.resources_of(local);
    asked.retain(|key| {
        let found = home.users.resource(*key);
        found.flags.has(Flags::AVAILABLE) && resource.is_none_or(|resource| *found.name == *resource)
    });
    if asked.is_empty() {
        let from = resource.map_or_else(|| own_bare.clone(), |resource| format!("{own_bare}/{resource}"));
        return send_one(home, &from, prober, Type::Unavailable, UNAVAILABLE_TAIL);
    }
    for key in asked {
        let full = home.full_jid(key);
        let tail = std::mem::take(&mut home.users.resource_mut(key).presence);
        send_one(home, &full, prober, Type::Available, &tail);
        home.users.resource_mut(key).presence = tail;
    }
}
