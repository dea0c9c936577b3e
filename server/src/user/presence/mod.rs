//! Presence (RFC 6121 §4): broadcast, probes, directed presence, and what a session's end means for it.
//!
//! A presence is kept and sent as its *tail*: everything after `<presence from='…' to='…'`, that is, its other
//! attributes and its contents, closing tag included. Stamping it for a recipient is then two copies.

pub mod again;
pub mod asleep;
pub mod contacts;
pub mod directed;
mod incoming;
pub mod probe;

pub use incoming::{receive, receive_broadcast};

use std::cell::RefCell;

use whimbrel_storage::directory::Subscription;
use whimbrel_storage::jid::JidRef;

use crate::effects::answer::{self, Made};
use crate::env::Env;
use crate::exchange::fanout::{Broadcast, Targets};
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::runtime::driver::ConnId;
use crate::stanza::{Delivery, Kind, Traits, Type};
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::delivery;
use crate::user::flow::Outgoing;
use crate::user::inbound::Inbound;
use crate::user::lifecycle::{self, Available, Showing, Unavailable};
use crate::user::tables::{Flags, ResourceKey, Users};
use crate::user::writes::Write;
use crate::user::{blocking, capabilities, counts, flow, offline, share};
use crate::xml::{CLIENT, writer};

/// How every presence begins.
pub const NAME: &[u8] = b"<presence";

/// The tail of the shortest presence; kept as nothing at all.
const EMPTY_TAIL: &[u8] = b"/>";

/// The tail of a presence that the server sends when a session ends without one.
const UNAVAILABLE_TAIL: &[u8] = b" type='unavailable'/>";

/// The tail of a probe.
const PROBE_TAIL: &[u8] = b" type='probe'/>";

/// A bound resource sends presence without an address: for all who may see it.
pub fn to_all(actors: &mut Actors, env: &Env, fx: &mut Effects, inbound: &Inbound<'_>) {
    let limit = env.config.limits.presence_bytes as usize;
    let shows = matches!(inbound.typ, Type::Available | Type::Unavailable);
    if shows && inbound.stanza.bytes().len() > limit {
        env.metrics().refused_presence.add(1);
        let text = format!("a presence to all contacts may have at most {limit} bytes");
        let error = StanzaError::from(StanzaCondition::PolicyViolation).with_text(text);
        return inbound.refuse(env, fx, error);
    }
    match inbound.typ {
        Type::Available => available(actors, env, fx, inbound),
        Type::Unavailable => {
            let tail = tail_of(fx, inbound);
            let write = Write::of(&actors.users, inbound.sender, inbound.pending_ack);
            unavailable(actors, env, fx, inbound.sender, &tail, Some(write));
        }
        Type::Error | Type::Probe => {}
        _ => inbound.refuse(env, fx, StanzaCondition::BadRequest.into()),
    }
}

/// What stands after `<presence from='…'` in the stamped stanza.
fn tail_of(fx: &mut Effects, inbound: &Inbound<'_>) -> Vec<u8> {
    let mut bytes = fx.buffers.lend();
    inbound.write_stamped(&[], &mut bytes);
    let mut stamp = Vec::with_capacity(inbound.from.len() + 16);
    write_stamp("from", inbound.from, &mut stamp);
    // Declarations inherited from the stream header may stand before the stamp, and belong to the tail.
    let start = NAME.len();
    let at = memchr::memmem::find(&bytes, &stamp).unwrap_or(start);
    let mut tail = bytes[start..at].to_vec();
    tail.extend_from_slice(&bytes[(at + stamp.len()).min(bytes.len())..]);
    fx.buffers.give_back(bytes);
    tail
}

fn write_stamp(name: &str, jid: &str, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    writer::escape_attribute(jid, out);
    out.push(b'"');
}

/// Writes a stamped presence.
pub fn write(from: &str, to: &str, tail: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(NAME);
    write_stamp("from", from, out);
    write_stamp("to", to, out);
    out.extend_from_slice(if tail.is_empty() { EMPTY_TAIL } else { tail });
}

/// RFC 6121 §4.2 and §4.4: initial presence, or a change of it.
fn available(actors: &mut Actors, env: &Env, fx: &mut Effects, inbound: &Inbound<'_>) {
    let Some(priority) = priority_of(inbound) else {
        return inbound.refuse(env, fx, StanzaCondition::BadRequest.into());
    };
    let key = inbound.sender;
    let tail = tail_of(fx, inbound);
    let tail = dressed(actors, env, fx, key, tail);
    if !share::has(actors, env, fx, key, tail.len().saturating_sub(actors.users.resource(key).presence.len()))
    {
        env.metrics().refused_account_memory.add(1);
        let text = "too much waits for this account; try again later";
        return inbound.refuse(
            env,
            fx,
            StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text),
        );
    }
    let resource = actors.users.resource_mut(key);
    let initial = !resource.flags.has(Flags::AVAILABLE);
    let other_priority = resource.priority != priority;
    resource.flags.put(Flags::AVAILABLE, true);
    resource.priority = priority;
    resource.presence = if tail == EMPTY_TAIL { Box::default() } else { tail.as_slice().into() };
    let local = actors.users.local_of(key).to_owned();
    let shown = Broadcast::new(Type::Available, inbound.from, &tail);
    announce(actors, env, fx, &local, &shown);
    announce_to_own(actors, env, fx, key, &shown, |_| true);
    flow::decide_sm(actors, env, fx, key);
    let reachable_anew = initial || other_priority;
    let event = Available { key, full: inbound.from, initial, reachable_anew };
    lifecycle::available(actors, env, fx, &event);
}

/// A presence as others see it: with what services have to add.
fn dressed(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey, tail: Vec<u8>) -> Vec<u8> {
    let local = actors.users.local_of(key).to_owned();
    let tail = RefCell::new(tail);
    lifecycle::showing(actors, env, fx, &Showing { account: &local, tail: &tail });
    tail.into_inner()
}

/// The available resources of a user of this worker show themselves once more, where what services add to their presence has
/// changed.
pub fn show_again(actors: &mut Actors, env: &Env, fx: &mut Effects, local: &str) {
    let Some(user) = actors.users.find(local) else { return };
    for key in actors.users.available_of(user) {
        let kept = actors.users.resource(key).presence.to_vec();
        let before = if kept.is_empty() { EMPTY_TAIL.to_vec() } else { kept };
        let tail = dressed(actors, env, fx, key, before.clone());
        let added = tail.len().saturating_sub(before.len());
        if tail == before || !share::has(actors, env, fx, key, added) {
            continue;
        }
        actors.users.resource_mut(key).presence = tail.as_slice().into();
        let full = actors.users.full_jid(env, key);
        let shown = Broadcast::new(Type::Available, &full, &tail);
        announce(actors, env, fx, local, &shown);
        announce_to_own(actors, env, fx, key, &shown, |_| true);
    }
}

/// What a resource gets to see when it becomes available: its contacts, and the user's other resources.
pub fn ask_for_all(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey, full: &str) {
    probe::contacts_of(actors, env, fx, key, full);
    show_own_resources(actors, env, fx, key, full, |other| other != key);
}

/// The priority, 0 when there is none; `None` when it is not an integer from -128 to 127 (§4.7.2.3).
fn priority_of(inbound: &Inbound<'_>) -> Option<i8> {
    let has_one = inbound.stanza.children().any(|child| child.name() == "priority");
    if !has_one {
        return Some(0);
    }
    let presence = inbound.stanza.to_element();
    presence.find("priority", CLIENT).map_or(Some(0), |child| child.content().trim().parse().ok())
}

/// Sends presence to everybody who is subscribed to it (§4.2.2, §4.4.2, §4.5.2).
fn announce(actors: &mut Actors, env: &Env, fx: &mut Effects, local: &str, shown: &Broadcast<'_>) {
    let sees = |_: &str, s| matches!(s, Subscription::From | Subscription::Both);
    send_to_contacts(actors, env, fx, local, shown, sees);
}

/// Sends a presence to the contacts whose subscription fits: after the event, or behind what is under way with them.
fn send_to_contacts(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    local: &str,
    shown: &Broadcast<'_>,
    fits: impl Fn(&str, Subscription) -> bool,
) {
    let under_way = actors.under_way.visible_of(local);
    let mut lists = contacts(actors, env, fx, local, &under_way, &fits);
    for (contact, visible) in &under_way {
        if is_blocked(&actors.users, env, fx, local, contact) {
            continue;
        }
        let held = actors.under_way.hold_broadcast(local, contact, shown);
        if !held && fits(contact, *visible) {
            lists[env.shared.home_of(contact)].push(contact);
        }
    }
    send_to_lists(actors, env, fx, shown, lists);
}

/// Sends a presence of a resource to accounts, listed by their home workers: in parts, if they are many.
pub fn send_to_lists(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    shown: &Broadcast<'_>,
    lists: Vec<Targets>,
) {
    let chooses_resources =
        shown.typ != Type::Probe && blocking::chooses_resources(&actors.users, shown.from);
    let mut shown = *shown;
    shown.chooses_resources = chooses_resources;
    if fx.broadcast(env, &shown, lists) {
        let conn = conn_of(&actors.users, shown.from);
        actors.writes.begin_spreading(conn);
        fx.begin_spreading(env, shown.from, conn);
    }
}

/// The connection of a resource of this worker, by its full JID.
pub fn conn_of(users: &Users, full: &str) -> ConnId {
    let resource = address::local_and_resource(full).and_then(|(local, resource)| {
        let user = users.find(local)?;
        users.find_resource(user, resource)
    });
    resource.map_or(ConnId::NONE, |key| users.resource(key).conn)
}

/// Whether a user of this worker blocks a contact (XEP-0191 §3.2).
pub fn is_blocked(users: &Users, env: &Env, fx: &Effects, local: &str, contact: &str) -> bool {
    JidRef::parse(&env.bare_jid(contact))
        .is_ok_and(|contact| blocking::blocks(users, env, fx, local, &contact))
}

/// Sends presence of a resource to the user's own available resources that `fits` (the same sections).
fn announce_to_own(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    key: ResourceKey,
    shown: &Broadcast<'_>,
    fits: impl Fn(ResourceKey) -> bool,
) {
    let own = actors.users.available_of(actors.users.resource(key).user);
    let to = env.bare_jid(actors.users.local_of(key));
    let mut bytes = Vec::with_capacity(shown.payload.len() + 128);
    write(shown.from, &to, shown.payload, &mut bytes);
    for other in own.into_iter().filter(|other| fits(*other)) {
        delivery::push_as(actors, env, fx, other, &Outgoing::presence(shown.from, &bytes));
    }
}

/// The contacts of this server whose subscription fits and whom the user does not block (XEP-0191 §3.2), by their
/// home workers. Without those with whom something is under way.
fn contacts(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    local: &str,
    under_way: &[(Box<str>, Subscription)],
    fits: impl Fn(&str, Subscription) -> bool,
) -> Vec<Targets> {
    let mut lists = fx.links.take_lists();
    let shared = env.shared.clone();
    let user = actors.users.find(local);
    let list = user.and_then(|user| actors.users.user_mut(user).blocked.take());
    let blocked = |contact: &str| {
        list.as_ref().is_some_and(|list| {
            let contact = format!("{contact}@{}", shared.domain);
            JidRef::parse(&contact).is_ok_and(|contact| blocking::on_list(list, &contact))
        })
    };
    let read = contacts::each(actors, env, fx, local, |contact, subscription| {
        if fits(contact, subscription)
            && !blocked(contact)
            && !under_way.iter().any(|(other, _)| **other == *contact)
        {
            lists[shared.home_of(contact)].push(contact);
        }
    });
    if let Some(user) = user {
        actors.users.user_mut(user).blocked = list;
    }
    if let Err(error) = read {
        tracing::error!(user = local, %error, "cannot read a roster");
    }
    lists
}

/// A resource learns of those of the user's own resources that `fits` (§4.2.2).
fn show_own_resources(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    key: ResourceKey,
    to: &str,
    fits: impl Fn(ResourceKey) -> bool,
) {
    let own = actors.users.available_of(actors.users.resource(key).user);
    for other in own.into_iter().filter(|other| fits(*other)) {
        let from = actors.users.full_jid(env, other);
        let mut bytes = Vec::new();
        write(&from, to, &actors.users.resource(other).presence, &mut bytes);
        delivery::push_as(actors, env, fx, key, &Outgoing::presence(&from, &bytes));
    }
}

/// RFC 6121 §4.5: the resource is no longer available. `said` is the presence of its client, which then hears its own
/// (§4.5.2); without one its session is over, and nobody listens there.
fn unavailable(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    key: ResourceKey,
    tail: &[u8],
    said: Option<Write>,
) {
    let from = actors.users.full_jid(env, key);
    let shown = Broadcast::new(Type::Unavailable, &from, tail);
    let was_available = actors.users.resource(key).flags.has(Flags::AVAILABLE);
    if was_available {
        let local = actors.users.local_of(key).to_owned();
        announce(actors, env, fx, &local, &shown);
        announce_to_own(actors, env, fx, key, &shown, |other| said.is_some() || other != key);
    }
    let resource = actors.users.resource_mut(key);
    resource.flags.put(Flags::AVAILABLE, false);
    resource.priority = 0;
    resource.presence = Box::default();
    let user = resource.user;
    let was_last = was_available && actors.users.available_of(user).is_empty();
    let event = Unavailable { key, full: &from, tail, said, was_available, was_last };
    lifecycle::unavailable(actors, env, fx, &event);
}

/// Sends unavailable presence from all available resources of a user of this worker to a contact who is a subscriber
/// no longer (§3.2.2, §3.3.3).
pub fn send_unavailable(users: &mut Users, env: &Env, fx: &mut Effects, local: &str, contact: &str) {
    let Some(user) = users.find(local) else { return };
    for key in users.available_of(user) {
        let from = users.full_jid(env, key);
        send_one(users, env, fx, &Broadcast::new(Type::Unavailable, &from, UNAVAILABLE_TAIL), contact);
    }
}

/// Asks a contact for its presence for all available resources of a user of this worker, who has become a subscriber
/// (§3.1.6).
pub fn probe_from_each(users: &mut Users, env: &Env, fx: &mut Effects, local: &str, contact: &str) {
    let Some(user) = users.find(local) else { return };
    for key in users.available_of(user) {
        let from = users.full_jid(env, key);
        send_one(users, env, fx, &Broadcast::new(Type::Probe, &from, PROBE_TAIL), contact);
    }
}

/// Sends one presence that the server makes in the name of a user of this worker to one JID of this server, whose block
/// list applies.
pub fn send_one(users: &mut Users, env: &Env, fx: &mut Effects, shown: &Broadcast<'_>, to: &str) {
    let &Broadcast { typ, from, payload, .. } = shown;
    let mut bytes = Vec::with_capacity(payload.len() + 128);
    write(from, to, payload, &mut bytes);
    let traits = delivery::presence_traits(users, typ, from);
    let made = Made { kind: Kind::Presence, typ, traits, from: Some(from), id: None, bytes: &bytes };
    answer::send(env, fx, &made, to);
}

/// The session of a resource has ended: contacts hear of it, and it is forgotten.
pub fn session_ended(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    unavailable(actors, env, fx, key, UNAVAILABLE_TAIL, None);
    counts::forget(actors, env, fx, key);
    actors.commits.forget_handed(key);
    let full = actors.users.full_jid(env, key);
    let account = actors.users.account_of(key);
    let resource = actors.users.remove(key);
    capabilities::gone(actors, env, fx, key);
    actors.waiting_for_room.remove(key);
    actors.archives.continuations.forget(key);
    actors.seats.forget(key);
    actors.recalls.forget(key);
    actors.refreshes.forget(key);
    if actors.users.find(address::local_of(&full)).is_none() {
        actors.archives.forget(account);
        actors.contacts.forget(address::local_of(&full));
    }
    offline::session_ended(actors, env, fx, (account, &full), resource);
}

/// A presence to a user's bare JID.
fn presence_to<'a>(typ: Type, from: &'a str, to_local: &'a str, bytes: &'a [u8]) -> Delivery<'a> {
    Delivery {
        kind: Kind::Presence,
        typ,
        traits: Traits::default(),
        from,
        to_local,
        to_resource: None,
        id: None,
        bytes,
        pending_ack: None,
    }
}
