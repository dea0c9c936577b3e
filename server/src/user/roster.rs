//! Roster items on the wire, and roster pushes (RFC 6121 §2.1.2, §2.1.6).

use whimbrel_storage::directory::{Item, RosterVersion, Subscription};

use crate::env::Env;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::ns;
use crate::proto::reply;
use crate::stanza::Type;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::delivery;
use crate::user::flow::Outgoing;
use crate::user::tables::{Flags, ResourceKey};
use crate::xml::{CLIENT, Element};

/// An item as a client sees it.
pub fn item_element(item: &Item) -> Element {
    let subscription = match item.subscription {
        Subscription::None => "none",
        Subscription::To => "to",
        Subscription::From => "from",
        Subscription::Both => "both",
    };
    Element::new("item", ns::ROSTER)
        .attr("jid", item.contact.as_str())
        .attr_opt("name", (!item.name.is_empty()).then_some(item.name.as_str()))
        .attr("subscription", subscription)
        .attr_opt("ask", item.ask.then_some("subscribe"))
        .attr_opt("approved", item.approved.then_some("true"))
        .children(item.groups.iter().map(|group| Element::new("group", ns::ROSTER).text(group)))
}

/// Bytes of an item as a client sees it.
pub fn item_bytes(item: &Item) -> usize {
    let mut bytes = Vec::with_capacity(256);
    item_element(item).write(ns::ROSTER, &mut bytes);
    bytes.len()
}

/// The item that says that a contact is gone (RFC 6121 §2.5.2).
pub fn removed_element(contact: &str) -> Element {
    Element::new("item", ns::ROSTER).attr("jid", contact).attr("subscription", "remove")
}

/// The error of a roster in which there is no room: `limits.roster_items` or `limits.roster_bytes`.
pub fn full() -> StanzaError {
    StanzaError::from(StanzaCondition::ResourceConstraint)
        .with_text("the roster is full; remove contacts first")
}

/// Pushes an item that has just changed to all interested resources of its user. Its version is the roster's.
pub fn push(actors: &mut Actors, env: &Env, fx: &mut Effects, local: &str, item: &Item) {
    push_to_interested(actors, env, fx, local, item_element(item), item.version);
}

/// Pushes the removal of an item that has just been made to all interested resources of its user.
pub fn push_removed(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    local: &str,
    contact: &str,
    version: u64,
) {
    push_to_interested(actors, env, fx, local, removed_element(contact), version);
}

fn push_to_interested(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    local: &str,
    item: Element,
    version: u64,
) {
    let version = env.shared.directory.version_made_now(version);
    let interested = |key: &ResourceKey| actors.users.resource(*key).flags.has(Flags::INTERESTED);
    let mut keys = actors.users.resources_of(local);
    keys.retain(|key| interested(key));
    for key in keys {
        push_to(actors, env, fx, key, item.clone(), version);
    }
}

/// Pushes an item to one resource.
pub fn push_to(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    key: ResourceKey,
    item: Element,
    version: RosterVersion,
) {
    let query = Element::new("query", ns::ROSTER).attr("ver", version.to_string()).child(item);
    let to = actors.users.full_jid(env, key);
    let mut bytes = Vec::with_capacity(256);
    // Without `from`: it comes from the user's own account, which is what §2.1.6 tells the client to check.
    let id = format!("push-{version}");
    reply::iq(Type::Set, None, &to, Some(&id), &mut bytes, |out| query.write(CLIENT, out));
    delivery::push_as(actors, env, fx, key, &Outgoing::own(&bytes));
}
