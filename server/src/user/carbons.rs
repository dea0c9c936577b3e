//! Message carbons (XEP-0280): copies of conversations to a user's other resources.

use whimbrel_storage::log::Sequence;

use crate::env::Env;
use crate::proto::address;
use crate::proto::ns;
use crate::proto::reply;
use crate::stanza::{Delivery, Kind};
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::archive;
use crate::user::delivery;
use crate::user::flow::{Class, Outgoing};
use crate::user::inactive;
use crate::user::room::{self, Room};
use crate::user::tables::{Flags, ResourceKey, UserKey};
use crate::xml::writer;

/// Copies what one resource sent to the others of the same user. What it sends to its own account is left to
/// [`copy_received`], which knows which of them get the message itself.
///
/// `id`: by which the sender's archive knows it; the copies are stamped with it.
pub fn copy_sent(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    sender: ResourceKey,
    d: &Delivery<'_>,
    id: Option<Sequence>,
) {
    let key = actors.users.resource(sender).user;
    let user = actors.users.user(key);
    if user.resources.len() <= 1 || *user.local == *d.to_local || !d.is_copied() {
        return;
    }
    let Some(id) = id else {
        return copy(actors, env, fx, key, Carbon::Sent(d), |key| key == sender);
    };
    let local = user.local.clone();
    let mut bytes = Vec::with_capacity(d.bytes.len() + 256);
    writer::append_child(d.bytes, &mut bytes, |out| archive::write_id(env, &local, id, out));
    copy(actors, env, fx, key, Carbon::Sent(&Delivery { bytes: &bytes, ..*d }), |key| key == sender);
}

/// Copies what was delivered to some resources to the others of the same user.
pub fn copy_received(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    user: UserKey,
    d: &Delivery<'_>,
    delivered_to: &[ResourceKey],
) {
    if actors.users.user(user).resources.len() <= delivered_to.len() || !d.is_copied() {
        return;
    }
    let own = &actors.users.user(user).local;
    match address::resource_of_account(d.from, own, &env.shared.domain) {
        Some(sender) => {
            let sender = actors.users.find_resource(user, sender);
            copy(actors, env, fx, user, Carbon::Sent(d), |key| {
                delivered_to.contains(&key) || Some(key) == sender
            });
        }
        None => copy(actors, env, fx, user, Carbon::Received(d), |key| delivered_to.contains(&key)),
    }
}

/// Bytes that a copy has beside those of its message, or a little less.
const CARBON_BYTES: usize = 512;

/// A message to copy.
#[derive(Copy, Clone)]
enum Carbon<'a> {
    /// From one of the user's resources.
    Sent(&'a Delivery<'a>),
    /// To one of them.
    Received(&'a Delivery<'a>),
}

impl<'a> Carbon<'a> {
    fn delivery(self) -> &'a Delivery<'a> {
        match self {
            Carbon::Sent(delivery) | Carbon::Received(delivery) => delivery,
        }
    }

    /// The element that wraps it.
    fn direction(self) -> &'static str {
        match self {
            Carbon::Sent(_) => "sent",
            Carbon::Received(_) => "received",
        }
    }
}

fn copy(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    user: UserKey,
    carbon: Carbon<'_>,
    has_it: impl Fn(ResourceKey) -> bool,
) {
    let d = carbon.delivery();
    let mut copies = actors.users.user(user).resources.clone();
    copies.retain(|key| actors.users.resource(*key).flags.has(Flags::CARBONS) && !has_it(*key));
    let from = env.bare_jid(&actors.users.user(user).local);
    for key in copies {
        // A copy must not end the stream of a client that reads slowly; the message itself is not lost by it.
        let is_asleep = actors.users.resource(key).flags.has(Flags::ASLEEP);
        if room::for_message(actors, env, fx, key) == Room::Later
            || is_asleep && !room::takes(actors, env, fx, key, Class::Foreign, d.bytes.len() + CARBON_BYTES)
        {
            if is_asleep {
                // A conversation that goes on elsewhere for days is in the archive, and its client reads that when it binds.
                actors.users.forbid_resumption(env, fx, key);
            }
            env.metrics().carbons_skipped.add(1);
            continue;
        }
        let to = actors.users.full_jid(env, key);
        let mut bytes = Vec::with_capacity(d.bytes.len() + 256);
        reply::open(Kind::Message, d.typ, Some(&from), &to, None, &mut bytes);
        wrap(d, carbon.direction(), &mut bytes);
        let urgency = inactive::urgency(d);
        let out = Outgoing { kind: Kind::Message, class: Class::Foreign, urgency, bytes: &bytes };
        delivery::push_as(actors, env, fx, key, &out);
    }
}

/// Appends the rest of a carbon after its opened start tag.
fn wrap(d: &Delivery<'_>, direction: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"><");
    out.extend_from_slice(direction.as_bytes());
    for part in [" xmlns='", ns::CARBONS, "'><forwarded xmlns='", ns::FORWARD, "'>"] {
        out.extend_from_slice(part.as_bytes());
    }
    reply::write_in_other_context(d.bytes, out);
    out.extend_from_slice(b"</forwarded></");
    out.extend_from_slice(direction.as_bytes());
    out.extend_from_slice(b"></message>");
}
