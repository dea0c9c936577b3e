//! What happens to nodes, on its way to those who want to hear of it (XEP-0163 §4, XEP-0060 §12).
//!
//! ```text
//! owner's home ─► one envelope a worker: node, message, localparts ─► contact's home ─► resources that want the node
//! contact's home ─► one envelope a worker: nodes wanted, localparts ─► owner's home ─► last items of those nodes
//! ```
//! A contact's home knows what its clients want, so the owner's home need not. Everything here goes through the mailboxes of
//! the workers, a worker's own too: in parts of as many recipients as an envelope may have, so that others have their turn
//! in between, and in the order in which it happened.

use whimbrel_storage::directory::Subscription;
use whimbrel_storage::jid::JidRef;

use crate::effects::work;
use crate::env::Env;
use crate::exchange::fanout::{EventKind, NodeEvent, Targets, Wanted};
use crate::proto::address;
use crate::proto::pubsub::event;
use crate::runtime::driver::ConnId;
use crate::stanza::Kind;
use crate::user::actors::{Actors, Effects};
use crate::user::flow::{Class, Outgoing};
use crate::user::inactive::Urgency;
use crate::user::lifecycle::{self, Interested};
use crate::user::presence::contacts;
use crate::user::tables::{Flags, ResourceKey};
use crate::user::{blocking, delivery};

/// Accounts of which one envelope asks last items: each may have many.
const ASKED_MAX: usize = 8;

/// Sends an event to these accounts, listed by their home workers. What the connection that has caused it sends next waits
/// until all have it who live here.
pub fn send(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    node_event: &NodeEvent<'_>,
    lists: Vec<Targets>,
    conn: ConnId,
) {
    let mut here = false;
    for (worker, list) in lists.iter().enumerate() {
        let count = list.count();
        if count == 0 {
            continue;
        }
        // Those who cause it pay for all recipients, wherever they live.
        fx.work.add(count as u64);
        for part in node_event.to(list).parts(env.broadcast_max) {
            fx.links.to(worker).event(&part);
        }
        here |= worker == env.worker && count > env.broadcast_max;
    }
    fx.links.put_lists(lists);
    if here && conn != ConnId::NONE {
        actors.writes.begin_spreading(conn);
        fx.begin_spreading(env, &env.owner_jid(node_event.owner), conn);
    }
}

/// Users of this worker hear of an event.
pub fn receive(actors: &mut Actors, env: &Env, fx: &mut Effects, node_event: &NodeEvent<'_>) {
    let owner = env.owner_jid(node_event.owner);
    let Ok(from) = JidRef::parse(&owner) else { return };
    let mut bytes = Vec::new();
    for target in node_event.targets() {
        fx.work.add(work::RECIPIENT);
        let (local, resource) = address::local_and_resource_of_target(target);
        let Some(user) = actors.users.find(local) else { continue };
        if local != node_event.owner && blocking::user_blocks(&actors.users, user, &from) {
            continue;
        }
        for key in actors.users.available_of(user) {
            let found = actors.users.resource(key);
            let concerned = match (resource, node_event.kind) {
                (Some(resource), _) => *found.name == *resource,
                (None, EventKind::Filtered) => actors.interests.wants(key, node_event.node),
                // As a headline to the bare JID (RFC 6121 §8.5.2.1.1).
                (None, EventKind::Subscribed | EventKind::Last) => found.priority >= 0,
            };
            if concerned {
                write(actors, env, fx, key, (&owner, node_event), &mut bytes);
            }
        }
    }
}

fn write(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    key: ResourceKey,
    (owner, node_event): (&str, &NodeEvent<'_>),
    bytes: &mut Vec<u8>,
) {
    bytes.clear();
    let to = actors.users.full_jid(env, key);
    event::write_message(owner, &to, node_event.tail, bytes);
    let class = match node_event.kind {
        // It can be asked for.
        EventKind::Last => Class::Foreign,
        EventKind::Filtered | EventKind::Subscribed => Class::Event,
    };
    let (metrics, is_of_service) = (env.metrics(), node_event.owner.is_empty());
    match node_event.kind {
        EventKind::Last if is_of_service => metrics.pubsub_last_items.add(1),
        EventKind::Last => metrics.pep_last_items.add(1),
        EventKind::Filtered | EventKind::Subscribed if is_of_service => metrics.pubsub_notified.add(1),
        EventKind::Filtered | EventKind::Subscribed => metrics.pep_notified.add(1),
    }
    let out = Outgoing { kind: Kind::Message, class, urgency: Urgency::CanWait, bytes };
    delivery::push_as(actors, env, fx, key, &out);
}

/// A resource that is available asks for the last items of the nodes that it wants: of those of its contacts whose presence it
/// sees, and of its own account's. `nodes`: what it has not wanted before.
pub fn ask_for_last(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey, nodes: &[Box<str>]) {
    if nodes.is_empty() || !actors.users.resource(key).flags.has(Flags::AVAILABLE) {
        return;
    }
    let local = actors.users.local_of(key).to_owned();
    let full = actors.users.full_jid(env, key);
    let mut lists = fx.links.take_lists();
    let shared = env.shared.clone();
    lists[env.worker].push(&local);
    let read = contacts::each(actors, env, fx, &local, |contact, subscription| {
        if matches!(subscription, Subscription::To | Subscription::Both) {
            lists[shared.home_of(contact)].push(contact);
        }
    });
    if let Err(error) = read {
        tracing::error!(user = local, %error, "cannot read a roster");
    }
    // Each contact's home looks for the contact's nodes, and for each of these. The client that asks pays for it.
    let asked: usize = lists.iter().map(Targets::count).sum();
    fx.work.add(asked as u64 * (work::LOOK + nodes.len() as u64));
    let nodes = joined(nodes);
    for (worker, list) in lists.iter().enumerate() {
        for part in Wanted::new(&full, &nodes).to(list).parts(ASKED_MAX.min(env.broadcast_max)) {
            fx.links.to(worker).wanted(&part);
        }
    }
    fx.links.put_lists(lists);
}

/// The resources of a user of this worker, who sees the presence of a contact from now on, ask it for the last items that
/// they want.
pub fn ask_contact(actors: &mut Actors, env: &Env, fx: &mut Effects, local: &str, contact: &str) {
    let contact = address::local_of(contact);
    let Some(user) = actors.users.find(local) else { return };
    for key in actors.users.available_of(user) {
        let nodes = joined(actors.interests.nodes_of(key));
        if nodes.is_empty() {
            continue;
        }
        let full = actors.users.full_jid(env, key);
        let mut list = Targets::default();
        list.push(contact);
        fx.links.to(env.home_of(contact)).wanted(&Wanted::new(&full, &nodes).to(&list));
    }
}

fn joined(nodes: &[Box<str>]) -> Vec<u8> {
    let mut joined = Vec::new();
    for node in nodes {
        // No name has a NUL: XML does not.
        joined.extend_from_slice(node.as_bytes());
        joined.push(0);
    }
    joined
}

/// Somebody wants the last items of users of this worker.
pub fn receive_wanted(actors: &mut Actors, env: &Env, fx: &mut Effects, wanted: &Wanted<'_>) {
    let Ok(from) = JidRef::parse(wanted.from) else { return };
    let nodes: Vec<&str> = wanted.nodes().collect();
    for local in wanted.targets() {
        fx.work.add(work::LOOK);
        let is_own = from.local() == Some(local);
        if !is_own && blocking::blocks(&actors.users, env, fx, local, &from) {
            continue;
        }
        let event = Interested { account: local, contact: wanted.from, nodes: &nodes };
        lifecycle::interested(actors, env, fx, &event);
    }
}
