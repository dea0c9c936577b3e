//! Presence (RFC 6121 §4): broadcast, probes, directed presence, and what a session's end means for it.
//!
//! A presence is kept and sent as its *tail*: everything after `<presence from='…' to='…'`, that is, its other
//! attributes and its contents, closing tag included. Stamping it for a recipient is then two copies.

mod activity;
pub mod contacts;
mod directed;
mod probe;
pub mod spreading;

use whimbrel_storage::directory::Subscription;
use whimbrel_storage::jid::JidRef;

use crate::runtime::letter::{Broadcast, Targets};
use crate::runtime::work;
use crate::stanza::{Delivery, Kind, Traits, Type};
use crate::stream::errors::{StanzaCondition, StanzaError};
use crate::user::home::Home;
use crate::user::inactive::Urgency;
use crate::user::routing::{self, Inbound};
use crate::user::tables::{Flags, ResourceKey, UserKey};
use crate::user::writes::Write;
use crate::user::{blocking, flow, offline, share, subscription};
use crate::xml::{CLIENT, writer};

/// How every presence begins.
const NAME: &[u8] = b"<presence";

/// The tail of the shortest presence; kept as nothing at all.
const EMPTY_TAIL: &[u8] = b"/>";

/// The tail of a presence that the server sends when a session ends without one.
const UNAVAILABLE_TAIL: &[u8] = b" type='unavailable'/>";

/// The tail of a probe.
const PROBE_TAIL: &[u8] = b" type='probe'/>";

/// Handles a presence stanza from a bound resource.
pub fn from_client(home: &mut Home, inbound: &Inbound<'_>, to: Option<&JidRef<'_>>) {
    let Some(to) = to else {
        let limit = home.config.limits.presence_bytes as usize;
        if matches!(inbound.typ, Type::Available | Type::Unavailable) && inbound.stanza.bytes().len() > limit
        {
            home.metrics().refused_presence.add(1);
            let text = format!("a presence to all contacts may have at most {limit} bytes");
            return refuse(
                home,
                inbound,
                StanzaError::from(StanzaCondition::PolicyViolation).with_text(text),
            );
        }
        return match inbound.typ {
            Type::Available => available(home, inbound),
            Type::Unavailable => {
                let tail = tail_of(home, inbound);
                let write = Write::of(home, inbound.sender, inbound.ticket);
                unavailable(home, inbound.sender, &tail, Some(write));
            }
            Type::Error | Type::Probe => {}
            _ => refuse(home, inbound, StanzaCondition::BadRequest.into()),
        };
    };
    let (Some(local), true) = (to.local(), to.domain() == &*home.shared.domain) else {
        if to.domain() != &*home.shared.domain && routing::may_be_answered(Kind::Presence, inbound.typ) {
            refuse(home, inbound, StanzaCondition::RemoteServerNotFound.into());
        }
        return;
    };
    match inbound.typ {
        Type::Subscribe | Type::Subscribed | Type::Unsubscribe | Type::Unsubscribed => {
            subscription::from_client(home, inbound, local);
        }
        _ => directed::send(home, inbound, local, to),
    }
}

fn refuse(home: &mut Home, inbound: &Inbound<'_>, error: StanzaError) {
    routing::refuse(home, Kind::Presence, inbound.from, inbound.to_text, inbound.id, error);
}

/// What stands after `<presence from='…'` in the stamped stanza.
fn tail_of(home: &mut Home, inbound: &Inbound<'_>) -> Vec<u8> {
    let mut bytes = std::mem::take(&mut home.scratch);
    bytes.clear();
    inbound.write_stamped(&mut bytes);
    let mut stamp = Vec::with_capacity(inbound.from.len() + 16);
    write_stamp("from", inbound.from, &mut stamp);
    // Declarations inherited from the stream header may stand before the stamp, and belong to the tail.
    let start = NAME.len();
    let at = memchr::memmem::find(&bytes, &stamp).unwrap_or(start);
    let mut tail = bytes[start..at].to_vec();
    tail.extend_from_slice(&bytes[(at + stamp.len()).min(bytes.len())..]);
    home.scratch = bytes;
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
fn available(home: &mut Home, inbound: &Inbound<'_>) {
    let Some(priority) = priority_of(inbound) else {
        return refuse(home, inbound, StanzaCondition::BadRequest.into());
    };
    let key = inbound.sender;
    let tail = tail_of(home, inbound);
    if !share::has(home, key, tail.len().saturating_sub(home.users.resource(key).presence.len())) {
        home.metrics().refused_account_memory.add(1);
        let text = "too much waits for this account; try again later";
        return refuse(home, inbound, StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text));
    }
    let resource = home.users.resource_mut(key);
    let initial = !resource.flags.has(Flags::AVAILABLE);
    let other_priority = resource.priority != priority;
    resource.flags.put(Flags::AVAILABLE, true);
    resource.priority = priority;
    resource.presence = if tail == EMPTY_TAIL { Box::default() } else { tail.as_slice().into() };
    let local = home.users.local_of(key).to_owned();
    announce(home, &local, Type::Available, inbound.from, &tail);
    announce_to_own(home, key, inbound.from, &tail, |_| true);
    if initial {
        ask_for_all(home, key, inbound.from);
    }
    flow::settle(home, key);
    if initial || other_priority {
        offline::offer(home, home.users.resource(key).user);
        offline::offer_to(home, key);
    }
}

/// What a resource gets to see when it becomes available: its contacts, the user's other resources, and requests that wait
/// for an answer.
fn ask_for_all(home: &mut Home, key: ResourceKey, full: &str) {
    probe::contacts_of(home, key, full);
    show_own_resources(home, key, full, |other| other != key);
    subscription::deliver_pending(home, key);
}

/// A resource for which presence was dropped, because it read too slowly or had no connection, gets to see everything
/// again. One that is not available learns it when it becomes so.
pub fn refresh(home: &mut Home, key: ResourceKey) {
    let flags = &mut home.users.resource_mut(key).flags;
    if flags.has(Flags::PRESENCE_LOST) {
        flags.put(Flags::PRESENCE_LOST, false);
        if flags.has(Flags::AVAILABLE) {
            let full = home.full_jid(key);
            home.metrics().presence_refreshed.add(1);
            ask_for_all(home, key, &full);
            // What was dropped may have been its own, which its client hears like that of others (§4.4.2).
            show_own_resources(home, key, &full, |other| other == key);
        }
    }
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
fn announce(home: &mut Home, local: &str, typ: Type, from: &str, tail: &[u8]) {
    send_to_contacts(home, local, typ, from, tail, |s| matches!(s, Subscription::From | Subscription::Both));
}

/// Sends a presence to the contacts whose subscription fits: at once, or behind what is under way with them.
fn send_to_contacts(
    home: &mut Home,
    local: &str,
    typ: Type,
    from: &str,
    tail: &[u8],
    fits: impl Fn(Subscription) -> bool,
) {
    let under_way = home.under_way.visible_of(local);
    let mut lists = contacts(home, local, &under_way, &fits);
    for (contact, visible) in &under_way {
        let held = home.under_way.hold_broadcast(local, contact, typ, from, tail);
        if !held && fits(*visible) && !is_blocked(home, local, contact) {
            lists[home.shared.home_of(contact)].push(contact);
        }
    }
    home.broadcast(typ, from, tail, lists);
}

fn is_blocked(home: &Home, local: &str, contact: &str) -> bool {
    JidRef::parse(&home.bare_jid(contact)).is_ok_and(|contact| blocking::blocks(home, local, &contact))
}

/// Sends presence of a resource to the user's own available resources that `fits` (the same sections).
fn announce_to_own(
    home: &mut Home,
    key: ResourceKey,
    from: &str,
    tail: &[u8],
    fits: impl Fn(ResourceKey) -> bool,
) {
    let own = home.users.available_of(home.users.resource(key).user);
    let to = home.bare_jid(home.users.local_of(key));
    let mut bytes = Vec::with_capacity(tail.len() + 128);
    write(from, &to, tail, &mut bytes);
    for other in own.into_iter().filter(|other| fits(*other)) {
        routing::hand_over_bytes(home, other, Kind::Presence, from, Urgency::Replaceable, &bytes);
    }
}

/// The contacts of this server whose subscription fits and whom the user does not block (XEP-0191 §3.2), by their
/// home workers. Without those with whom something is under way.
fn contacts(
    home: &mut Home,
    local: &str,
    under_way: &[(Box<str>, Subscription)],
    fits: impl Fn(Subscription) -> bool,
) -> Vec<Targets> {
    let mut lists = home.post.take_lists();
    let shared = home.shared.clone();
    let user = home.users.find(local);
    let list = user.and_then(|user| home.users.user_mut(user).blocked.take());
    let blocked = |contact: &str| {
        list.as_ref().is_some_and(|list| {
            let contact = format!("{contact}@{}", shared.domain);
            JidRef::parse(&contact).is_ok_and(|contact| blocking::on_list(list, &contact))
        })
    };
    let read = contacts::each(home, local, |contact, subscription| {
        if fits(subscription) && !blocked(contact) && !under_way.iter().any(|(other, _)| **other == *contact)
        {
            lists[shared.home_of(contact)].push(contact);
        }
    });
    if let Some(user) = user {
        home.users.user_mut(user).blocked = list;
    }
    if let Err(error) = read {
        tracing::error!(user = local, %error, "cannot read a roster");
    }
    lists
}

/// A resource learns of those of the user's own resources that `fits` (§4.2.2).
fn show_own_resources(home: &mut Home, key: ResourceKey, to: &str, fits: impl Fn(ResourceKey) -> bool) {
    let own = home.users.available_of(home.users.resource(key).user);
    for other in own.into_iter().filter(|other| fits(*other)) {
        let from = home.full_jid(other);
        let mut bytes = Vec::new();
        write(&from, to, &home.users.resource(other).presence, &mut bytes);
        routing::hand_over_bytes(home, key, Kind::Presence, &from, Urgency::Replaceable, &bytes);
    }
}

/// RFC 6121 §4.5: the resource is no longer available. `said` is the presence of its client, which then hears its own
/// (§4.5.2); without one its session is over, and nobody listens there.
fn unavailable(home: &mut Home, key: ResourceKey, tail: &[u8], said: Option<Write>) {
    let from = home.full_jid(key);
    let was_available = home.users.resource(key).flags.has(Flags::AVAILABLE);
    if was_available {
        let local = home.users.local_of(key).to_owned();
        announce(home, &local, Type::Unavailable, &from, tail);
        announce_to_own(home, key, &from, tail, |other| said.is_some() || other != key);
        if home.users.available_of(home.users.resource(key).user).len() == 1 {
            activity::record(home, &local, tail, said);
        }
    }
    directed::end(home, key, &from, tail, was_available);
    let resource = home.users.resource_mut(key);
    resource.flags.put(Flags::AVAILABLE, false);
    resource.priority = 0;
    resource.presence = Box::default();
    if was_available && said.is_some() {
        offline::offer(home, home.users.resource(key).user);
    }
}

/// Sends unavailable presence from all available resources of a user of this worker to a contact who is a subscriber
/// no longer (§3.2.2, §3.3.3).
pub fn send_unavailable(home: &mut Home, local: &str, contact: &str) {
    let Some(user) = home.users.find(local) else { return };
    for key in home.users.available_of(user) {
        let from = home.full_jid(key);
        send_one(home, &from, contact, Type::Unavailable, UNAVAILABLE_TAIL);
    }
}

/// Asks a contact for his presence for all available resources of a user of this worker, who has become a subscriber
/// (§3.1.6).
pub fn probe_from_each(home: &mut Home, local: &str, contact: &str) {
    let Some(user) = home.users.find(local) else { return };
    for key in home.users.available_of(user) {
        let from = home.full_jid(key);
        send_one(home, &from, contact, Type::Probe, PROBE_TAIL);
    }
}

/// Sends one presence to one JID of this server.
pub fn send_one(home: &mut Home, from: &str, to: &str, typ: Type, tail: &[u8]) {
    let mut bytes = Vec::with_capacity(tail.len() + 128);
    write(from, to, tail, &mut bytes);
    routing::send_presence(home, typ, to, from, &bytes);
}

/// The session of a resource has ended: contacts hear of it, and it is forgotten.
pub fn session_ended(home: &mut Home, key: ResourceKey) {
    unavailable(home, key, UNAVAILABLE_TAIL, None);
    home.ledger.forget_handed(key);
    let full = home.full_jid(key);
    let resource = home.users.remove(key);
    if home.users.find(full.split('@').next().unwrap_or_default()).is_none() {
        home.contacts.forget(full.split('@').next().unwrap_or_default());
    }
    offline::session_ended(home, &full, resource);
}

/// A user of this worker receives a presence stanza.
pub fn receive(home: &mut Home, d: &Delivery<'_>, user: Option<UserKey>) {
    match d.typ {
        Type::Subscribe | Type::Subscribed | Type::Unsubscribe | Type::Unsubscribed => {
            subscription::receive(home, d);
        }
        Type::Probe => probe::answer(home, d.to_local, d.to_resource, d.from),
        _ => {
            let Some(user) = user else { return };
            match d.to_resource {
                Some(resource) => {
                    if let Some(key) = home.users.find_resource(user, resource) {
                        routing::hand_over(home, key, d);
                    }
                }
                None => {
                    let chooses = d.traits.has(Traits::CHOOSES_RESOURCES);
                    let passed_by = chooses.then(|| blocking::list_of_sender(home, d.from)).flatten();
                    for key in home.users.available_of(user) {
                        if !passed_by.as_ref().is_some_and(|list| blocking::names_resource(home, list, key)) {
                            routing::hand_over(home, key, d);
                        }
                    }
                }
            }
        }
    }
}

/// Users of this worker receive one presence, or a probe.
pub fn receive_broadcast(home: &mut Home, b: &Broadcast<'_>) {
    let Ok(from) = JidRef::parse(b.from) else { return };
    let passed_by = b.chooses_resources.then(|| blocking::list_of_sender(home, b.from)).flatten();
    let mut bytes = Vec::with_capacity(b.payload.len() + 128);
    for local in b.targets() {
        home.work.add(work::RECIPIENT);
        if !home.under_way.is_empty() && hold_inbound(home, local, b) {
            continue;
        }
        if b.typ == Type::Probe {
            if !blocking::blocks(home, local, &from) {
                probe::answer(home, local, None, b.from);
            }
            continue;
        }
        let Some(user) = home.users.find(local) else { continue };
        if blocking::blocks(home, local, &from) {
            continue;
        }
        bytes.clear();
        write(b.from, &home.bare_jid(local), b.payload, &mut bytes);
        for key in home.users.available_of(user) {
            if !passed_by.as_ref().is_some_and(|list| blocking::names_resource(home, list, key)) {
                routing::hand_over_bytes(home, key, Kind::Presence, b.from, Urgency::Replaceable, &bytes);
            }
        }
    }
}

/// Holds what is broadcast to one user if it must wait.
fn hold_inbound(home: &mut Home, local: &str, b: &Broadcast<'_>) -> bool {
    let mut bytes = Vec::with_capacity(b.payload.len() + 128);
    let tail: &[u8] = if b.typ == Type::Probe { PROBE_TAIL } else { b.payload };
    write(b.from, &home.bare_jid(local), tail, &mut bytes);
    let chooses = if b.chooses_resources { Traits::CHOOSES_RESOURCES } else { Traits::default() };
    let held = presence_to(b.typ, b.from, local, &bytes);
    home.under_way.hold_inbound(&Delivery { traits: chooses, ..held })
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
        ticket: None,
    }
}
