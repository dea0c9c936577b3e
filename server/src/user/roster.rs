//! Roster items on the wire, and roster pushes (RFC 6121 §2.1.2, §2.1.6).

use whimbrel_storage::directory::{Item, ItemRef, RosterVersion, Subscription};

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
use crate::xml::writer;

/// Appends an item as a client sees it, inside of an element of the roster's namespace.
pub fn write_item<'a>(
    item: &ItemRef<'_>,
    name: &str,
    groups: impl Iterator<Item = &'a str>,
    out: &mut Vec<u8>,
) {
    let subscription = match item.subscription {
        Subscription::None => "none",
        Subscription::To => "to",
        Subscription::From => "from",
        Subscription::Both => "both",
    };
    let attributes = [
        ("jid", Some(item.contact)),
        ("name", Some(name).filter(|name| !name.is_empty())),
        ("subscription", Some(subscription)),
        ("ask", item.ask.then_some("subscribe")),
        ("approved", item.approved.then_some("true")),
    ];
    out.extend_from_slice(b"<item");
    for (name, value) in attributes {
        if let Some(value) = value {
            writer::append_attribute(name, value, out);
        }
    }
    let mut groups = groups.peekable();
    if groups.peek().is_none() {
        return out.extend_from_slice(b"/>");
    }
    out.push(b'>');
    for group in groups {
        out.extend_from_slice(b"<group>");
        writer::escape_text(group, out);
        out.extend_from_slice(b"</group>");
    }
    out.extend_from_slice(b"</item>");
}

/// An item as a client sees it.
pub fn written(item: &Item) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    write_item(&item.head(), &item.name, item.groups.iter().map(String::as_str), &mut bytes);
    bytes
}

/// The item that says that a contact is gone (RFC 6121 §2.5.2).
pub fn written_removed(contact: &str) -> Vec<u8> {
    let mut bytes = b"<item".to_vec();
    writer::append_attribute("jid", contact, &mut bytes);
    bytes.extend_from_slice(b" subscription='remove'/>");
    bytes
}

/// Appends a `<query/>` of a roster; `items` writes what is in it.
pub fn write_query(version: Option<&str>, out: &mut Vec<u8>, items: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"<query");
    writer::append_attribute("xmlns", ns::ROSTER, out);
    if let Some(version) = version {
        writer::append_attribute("ver", version, out);
    }
    out.push(b'>');
    items(out);
    out.extend_from_slice(b"</query>");
}

/// The error of a roster in which there is no room: `limits.roster_items` or `limits.roster_bytes`.
pub fn full() -> StanzaError {
    StanzaError::from(StanzaCondition::ResourceConstraint)
        .with_text("the roster is full; remove contacts first")
}

/// Pushes an item that has just changed to all interested resources of its user. Its version is the roster's.
pub fn push(actors: &mut Actors, env: &Env, fx: &mut Effects, local: &str, item: &Item) {
    push_to_interested(actors, env, fx, local, &written(item), item.version);
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
    push_to_interested(actors, env, fx, local, &written_removed(contact), version);
}

fn push_to_interested(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    local: &str,
    item: &[u8],
    version: u64,
) {
    let version = env.shared.directory.version_made_now(version);
    let interested = |key: &ResourceKey| actors.users.resource(*key).flags.has(Flags::INTERESTED);
    let mut keys = actors.users.resources_of(local);
    keys.retain(|key| interested(key));
    for key in keys {
        push_to(actors, env, fx, key, item, version);
    }
}

/// Pushes a written item to one resource.
pub fn push_to(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    key: ResourceKey,
    item: &[u8],
    version: RosterVersion,
) {
    let version = version.to_string();
    let to = actors.users.full_jid(env, key);
    let mut bytes = Vec::with_capacity(256);
    // Without `from`: it comes from the user's own account, which is what §2.1.6 tells the client to check.
    let id = format!("push-{version}");
    reply::iq(Type::Set, None, &to, Some(&id), &mut bytes, |out| {
        write_query(Some(&version), out, |out| out.extend_from_slice(item));
    });
    delivery::push_as(actors, env, fx, key, &Outgoing::own(&bytes));
}
