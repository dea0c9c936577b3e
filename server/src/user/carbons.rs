//! Message carbons (XEP-0280): copies of conversations to a user's other resources.

use crate::reply;
use crate::stanza::{Delivery, Kind, Traits, Type};
use crate::user::home::Home;
use crate::user::inactive;
use crate::user::room::{self, Room};
use crate::user::routing;
use crate::user::tables::{Flags, ResourceKey, UserKey};

/// XEP-0280 §6: what belongs to a conversation between people, unless the sender asked for no copy.
///
/// An error is copied only when this server gives it in answer to a message of which copies went out: then the
/// other resources would else believe that it arrived. What a client answers with an error cannot be matched
/// without keeping track of messages, and is not copied.
pub fn eligible(d: &Delivery<'_>) -> bool {
    let kind = match d.typ {
        Type::Chat => true,
        Type::Normal => d.traits.has(Traits::BODY) || d.traits.has(Traits::CONVERSATION),
        Type::Error => d.traits.has(Traits::ANSWERS_COPIED),
        _ => false,
    };
    kind && !d.traits.has(Traits::NO_COPY) && !d.traits.has(Traits::CARBON)
}

/// Copies what one resource sent to the others of the same user. What he sends to his own account is left to
/// [`copy_received`], which knows which of them get the message itself.
pub fn copy_sent(home: &mut Home, sender: ResourceKey, d: &Delivery<'_>) {
    let user = home.users.user(home.users.resource(sender).user);
    if user.resources.len() > 1 && *user.local != *d.to_local && eligible(d) {
        copy(home, home.users.resource(sender).user, d, "sent", |key| key == sender);
    }
}

/// Copies what was delivered to some resources to the others of the same user.
pub fn copy_received(home: &mut Home, user: UserKey, d: &Delivery<'_>, delivered_to: &[ResourceKey]) {
    if home.users.user(user).resources.len() <= delivered_to.len() || !eligible(d) {
        return;
    }
    let own = home.bare_jid(&home.users.user(user).local);
    match d.from.strip_prefix(own.as_str()).and_then(|rest| rest.strip_prefix('/')) {
        Some(sender) => {
            let sender = home.users.find_resource(user, sender);
            copy(home, user, d, "sent", |key| delivered_to.contains(&key) || Some(key) == sender);
        }
        None => copy(home, user, d, "received", |key| delivered_to.contains(&key)),
    }
}

fn copy(
    home: &mut Home,
    user: UserKey,
    d: &Delivery<'_>,
    direction: &'static str,
    has_it: impl Fn(ResourceKey) -> bool,
) {
    let mut copies = home.users.user(user).resources.clone();
    copies.retain(|key| home.users.resource(*key).flags.has(Flags::CARBONS) && !has_it(*key));
    let from = home.bare_jid(&home.users.user(user).local);
    for key in copies {
        // A copy must not end the stream of a client that reads slowly; the message itself is not lost by it.
        if room::for_message(home, key) == Room::Later {
            home.metrics().carbons_skipped.add(1);
            continue;
        }
        let to = home.full_jid(key);
        let mut bytes = Vec::with_capacity(d.bytes.len() + 256);
        reply::open(Kind::Message, d.typ, Some(&from), &to, None, &mut bytes);
        wrap(d, direction, &mut bytes);
        routing::hand_over_bytes(home, key, Kind::Message, d.from, inactive::urgency(d), &bytes);
    }
}

/// Appends the rest of a carbon after its opened start tag.
fn wrap(d: &Delivery<'_>, direction: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"><");
    out.extend_from_slice(direction.as_bytes());
    out.extend_from_slice(b" xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>");
    write_in_other_context(d, out);
    out.extend_from_slice(b"</forwarded></");
    out.extend_from_slice(direction.as_bytes());
    out.extend_from_slice(b"></message>");
}

/// Writes the stanza with its namespace declared, because its parent's is not `jabber:client`.
fn write_in_other_context(d: &Delivery<'_>, out: &mut Vec<u8>) {
    let name = d.kind.name().len() + 1;
    out.extend_from_slice(&d.bytes[..name]);
    out.extend_from_slice(b" xmlns='jabber:client'");
    out.extend_from_slice(&d.bytes[name..]);
}
