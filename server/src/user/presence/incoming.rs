//! Presence that users of this worker receive.

use whimbrel_storage::jid::JidRef;

use super::{PROBE_TAIL, presence_to, probe, write};
use crate::effects::work;
use crate::env::Env;
use crate::exchange::fanout::Broadcast;
use crate::stanza::{Delivery, Traits, Type};
use crate::user::actors::{Actors, Effects};
use crate::user::flow::Outgoing;
use crate::user::subscription::under_way::PendingSubscriptions;
use crate::user::tables::UserKey;
use crate::user::{blocking, delivery, subscription};

/// A user of this worker receives a presence stanza.
pub fn receive(actors: &mut Actors, env: &Env, fx: &mut Effects, d: &Delivery<'_>, user: Option<UserKey>) {
    match d.typ {
        Type::Subscribe | Type::Subscribed | Type::Unsubscribe | Type::Unsubscribed => {
            subscription::receive(actors, env, fx, d);
        }
        Type::Probe => probe::answer(actors, env, fx, d.to_local, d.to_resource, d.from),
        _ => {
            let Some(user) = user else { return };
            match d.to_resource {
                Some(resource) => {
                    if let Some(key) = actors.users.find_resource(user, resource) {
                        delivery::push(actors, env, fx, key, d);
                    }
                }
                None => {
                    let chooses = d.traits.has(Traits::CHOOSES_RESOURCES);
                    let passed_by = chooses.then(|| blocking::list_of_sender(env, fx, d.from)).flatten();
                    for key in actors.users.available_of(user) {
                        if !passed_by
                            .as_ref()
                            .is_some_and(|list| blocking::names_resource(&actors.users, env, list, key))
                        {
                            delivery::push(actors, env, fx, key, d);
                        }
                    }
                }
            }
        }
    }
}

/// Users of this worker receive one presence, or a probe.
pub fn receive_broadcast(actors: &mut Actors, env: &Env, fx: &mut Effects, b: &Broadcast<'_>) {
    let Ok(from) = JidRef::parse(b.from) else { return };
    let passed_by = b.chooses_resources.then(|| blocking::list_of_sender(env, fx, b.from)).flatten();
    let mut bytes = Vec::with_capacity(b.payload.len() + 128);
    for local in b.targets() {
        fx.work.add(work::RECIPIENT);
        if !actors.under_way.is_empty() && hold_inbound(&mut actors.under_way, env, local, b) {
            continue;
        }
        if b.typ == Type::Probe {
            if !blocking::blocks(&actors.users, env, fx, local, &from) {
                probe::answer(actors, env, fx, local, None, b.from);
            }
            continue;
        }
        let Some(user) = actors.users.find(local) else { continue };
        if blocking::blocks(&actors.users, env, fx, local, &from) {
            continue;
        }
        bytes.clear();
        write(b.from, &env.bare_jid(local), b.payload, &mut bytes);
        for key in actors.users.available_of(user) {
            if !passed_by.as_ref().is_some_and(|list| blocking::names_resource(&actors.users, env, list, key))
            {
                delivery::push_as(actors, env, fx, key, &Outgoing::presence(b.from, &bytes));
            }
        }
    }
}

/// Holds what is broadcast to one user if it must wait.
fn hold_inbound(under_way: &mut PendingSubscriptions, env: &Env, local: &str, b: &Broadcast<'_>) -> bool {
    let mut bytes = Vec::with_capacity(b.payload.len() + 128);
    let tail: &[u8] = if b.typ == Type::Probe { PROBE_TAIL } else { b.payload };
    write(b.from, &env.bare_jid(local), tail, &mut bytes);
    let chooses = if b.chooses_resources { Traits::CHOOSES_RESOURCES } else { Traits::default() };
    let held = presence_to(b.typ, b.from, local, &bytes);
    under_way.hold_inbound(&Delivery { traits: chooses, ..held })
}
