//! What a bound client sends: RFC 6120 §8 and §10.
//!
//! [`accept`] checks a stanza, decides once where it goes, and sends it there.

use whimbrel_storage::jid::JidRef;
use whimbrel_storage::log::{ActorCopy, Flags};

use crate::effects::answer::{self, Refused};
use crate::effects::work;
use crate::env::Env;
use crate::proto::address::{self, Destination};
use crate::proto::errors::{StanzaCondition, StanzaError, StreamCondition, StreamEnd};
use crate::proto::muc::forged;
use crate::proto::stanza_id::{self, Forged};
use crate::proto::traits;
use crate::rooms;
use crate::router::dispatch;
use crate::service;
use crate::service::pubsub::hosted;
use crate::stanza::{Delivery, Kind, Traits, Type};
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::inbound::Inbound;
use crate::user::subscription::table::Verb;
use crate::user::tables::{ResourceKey, Users};
use crate::user::writes::{Area, Place};
use crate::user::{archive, blocking, carbons, delivery, keep, presence, push, subscription};
use crate::xml::{CLIENT, CommonAttributes, STANZA_NODES_MAX, Stamp, Stanza};

/// How the next stanza of a bound resource stands to writes that it has begun: what it does may depend on them.
pub fn place_of(users: &Users, env: &Env, sender: ResourceKey, stanza: &Stanza<'_>) -> Place {
    let CommonAttributes { to, typ, .. } = stanza.common_attributes();
    match Kind::from_name(stanza.name()) {
        Some(Kind::Iq) => {
            let own = users.local_of(sender);
            let to_server = to.is_none_or(|to| {
                let to = JidRef::parse(&to);
                to.is_ok_and(|to| {
                    matches!(env.destination(Some(&to), own), Destination::Domain | Destination::OwnAccount)
                })
            });
            if to_server { service::place_of(stanza) } else { Place::Behind }
        }
        Some(Kind::Presence) => match Type::parse(Kind::Presence, typ.as_deref()).and_then(Verb::of) {
            Some(_) => Place::In(Area::Roster),
            None => Place::Behind,
        },
        _ => Place::Behind,
    }
}

/// Takes a stanza from a bound resource and sends it on its way.
///
/// # Errors
/// The condition with which the stream is to be ended: `unsupported-stanza-type`, `invalid-namespace` and `invalid-from`
/// (RFC 6120 §4.9.3).
pub fn accept(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    sender: ResourceKey,
    language: Option<&str>,
    stanza: &Stanza<'_>,
) -> Result<(), StreamEnd> {
    let mut from = fx.buffers.lend_text();
    actors.users.write_full(env, sender, &mut from);
    let result = check(actors, env, fx, &Sent { sender, from: &from, language, stanza });
    fx.buffers.give_back_text(from);
    result
}

/// A stanza and where it comes from.
struct Sent<'a> {
    sender: ResourceKey,
    from: &'a str,
    language: Option<&'a str>,
    stanza: &'a Stanza<'a>,
}

/// Checks a stanza, and forwards it if there is nothing wrong with it.
fn check(actors: &mut Actors, env: &Env, fx: &mut Effects, sent: &Sent<'_>) -> Result<(), StreamEnd> {
    let &Sent { sender, from, language, stanza } = sent;
    let Some(kind) = Kind::from_name(stanza.name()) else {
        return Err((StreamCondition::UnsupportedStanzaType, None));
    };
    if stanza.namespace() != CLIENT {
        return Err((StreamCondition::InvalidNamespace, None));
    }
    let metrics = env.metrics();
    match kind {
        Kind::Message => metrics.messages_in.add(1),
        Kind::Presence => metrics.presences_in.add(1),
        Kind::Iq => metrics.iqs_in.add(1),
    }
    let pending_ack = actors.users.count_received(env, sender);
    let CommonAttributes { to, from: claimed, id, typ } = stanza.common_attributes();
    if let Some(claimed) = claimed {
        check_from(&claimed, from)?;
    }
    let (to_text, id) = (to.as_deref(), id.as_deref());
    let Some(typ) = Type::parse(kind, typ.as_deref()) else {
        let refused = Refused { kind, sender: from, to: to_text, id };
        answer::refuse(env, fx, &refused, &StanzaCondition::BadRequest.into());
        return Ok(());
    };
    let inbound = Inbound { sender, from, kind, typ, to_text, id, language, stanza, pending_ack };
    fx.work.add_nodes(stanza.nodes());
    if let Some(error) = too_many_elements(kind, stanza) {
        env.metrics().refused_elements.add(1);
        inbound.refuse_politely(env, fx, error);
        return Ok(());
    }
    fx.work.add_letters(to_text.filter(|to| !to.is_ascii()).map_or(0, str::len));
    match to_text.map(JidRef::parse).transpose() {
        Err(_) => {
            let inbound = Inbound { to_text: None, ..inbound };
            inbound.refuse_politely(env, fx, StanzaCondition::JidMalformed.into());
        }
        Ok(_) if kind == Kind::Iq && !well_formed_iq(&inbound) => {
            inbound.refuse_politely(env, fx, StanzaCondition::BadRequest.into());
        }
        Ok(to) => forward(actors, env, fx, &inbound, to.as_ref()),
    }
    Ok(())
}

/// Direct children that a message may have. Each is compared with all that says how a message is treated.
const CHILDREN_MAX: usize = 1024;

/// The answer to a stanza in which there is too much to be looked at: whoever answers it makes a tree of it.
fn too_many_elements(kind: Kind, stanza: &Stanza<'_>) -> Option<StanzaError> {
    let text = match kind {
        Kind::Message if stanza.children().len() > CHILDREN_MAX => {
            format!("a message may have {CHILDREN_MAX} elements beside each other")
        }
        _ if !stanza.fits_tree() => format!("a stanza may have {STANZA_NODES_MAX} elements and attributes"),
        _ => return None,
    };
    Some(StanzaError::from(StanzaCondition::PolicyViolation).with_text(text))
}

/// A client may say who it is, but not that it is somebody else. Which resource of its account it names is nothing to the
/// server, which puts the right one there (RFC 6120 §8.1.2.1): Converse.js has a new name for itself after it has loaded
/// its page again, and resumes the stream that has the old one.
fn check_from(claimed: &str, full: &str) -> Result<(), StreamEnd> {
    let bare = address::bare_of(full);
    if claimed == full || claimed == bare {
        return Ok(());
    }
    match JidRef::parse(claimed) {
        Ok(jid) if jid.to_jid().bare_str() == bare => Ok(()),
        _ => Err((StreamCondition::InvalidFrom, None)),
    }
}

/// RFC 6120 §8.2.3: an id always, if only an empty one; get and set have exactly one child, a result at most one.
fn well_formed_iq(inbound: &Inbound<'_>) -> bool {
    let children = inbound.stanza.children().len();
    inbound.id.is_some()
        && match inbound.typ {
            Type::Get | Type::Set => children == 1,
            Type::Result => children <= 1,
            _ => true,
        }
}

/// Sends a stanza to its destination.
fn forward(actors: &mut Actors, env: &Env, fx: &mut Effects, inbound: &Inbound<'_>, to: Option<&JidRef<'_>>) {
    let own = inbound.local();
    match (inbound.kind, env.destination(to, own)) {
        (_, Destination::Remote) => {
            inbound.refuse_politely(env, fx, StanzaCondition::RemoteServerNotFound.into());
        }
        (_, Destination::Room { name, nick }) => {
            if let Some(to) = to {
                send_to_room(actors, env, fx, inbound, (to, name, nick));
            }
        }
        (Kind::Iq, Destination::Rooms) => rooms::ask_service(env, fx, inbound),
        (_, Destination::Nodes) => hosted::take(actors, env, fx, inbound),
        (_, Destination::Push) => service::push::take(env, fx, inbound),
        (_, Destination::Uploads) => service::upload::take(actors, env, fx, inbound),
        (Kind::Presence, destination) => match (to, destination) {
            (None, _) => presence::to_all(actors, env, fx, inbound),
            (Some(to), Destination::OwnAccount) => show(actors, env, fx, inbound, to, own),
            (Some(to), Destination::User { local, .. }) => show(actors, env, fx, inbound, to, local),
            // Nobody is there, and presence gets no error.
            _ => {}
        },
        (Kind::Iq, Destination::OwnAccount) => {
            service::dispatch(actors, env, fx, inbound, service::Scope::OwnAccount);
        }
        (Kind::Iq, Destination::Domain) => {
            service::dispatch(actors, env, fx, inbound, service::Scope::Server);
        }
        (Kind::Message, Destination::OwnAccount) => send_to_user(actors, env, fx, inbound, own, None),
        (_, Destination::User { local, resource }) => {
            let user = actors.users.resource(inbound.sender).user;
            if local != own && to.is_some_and(|to| blocking::user_blocks(&actors.users, user, to)) {
                return inbound.refuse_politely(env, fx, blocking::own_block_error());
            }
            send_to_user(actors, env, fx, inbound, local, resource);
        }
        // A message to the server itself, or anything to a resource of the domain: nobody is there.
        (_, Destination::Domain | Destination::DomainResource | Destination::Rooms) => {
            inbound.refuse_politely(env, fx, StanzaCondition::ServiceUnavailable.into());
        }
    }
}

/// Presence for one user, or a resource of one: a subscription, or directed presence.
fn show(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    inbound: &Inbound<'_>,
    to: &JidRef<'_>,
    local: &str,
) {
    if Verb::of(inbound.typ).is_some() {
        subscription::from_client(actors, env, fx, inbound, local);
    } else if presence::directed::may_go(actors, env, fx, inbound, to, local) {
        send_to_user(actors, env, fx, inbound, local, to.resource());
    }
}

/// Stamps a client's stanza and routes it to a room. Its sender's stream acknowledges it when the room says so.
fn send_to_room(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    inbound: &Inbound<'_>,
    (to, name, nick): (&JidRef<'_>, &str, Option<&str>),
) {
    let user = actors.users.resource(inbound.sender).user;
    match inbound.kind {
        Kind::Presence if !presence::directed::may_enter(actors, env, fx, inbound, to, name) => return,
        Kind::Message | Kind::Iq if blocking::user_blocks(&actors.users, user, to) => {
            return inbound.refuse_politely(env, fx, blocking::own_block_error());
        }
        _ => {}
    }
    let children = inbound.stanza.children().map(|child| (child.name(), child.namespace()));
    let traits = if inbound.kind == Kind::Message { traits::of(children) } else { Traits::default() };
    // A message to the room itself may have an invitation in what only the room may say to others.
    let is_passed_on = inbound.kind == Kind::Message && (nick.is_some() || inbound.typ == Type::Groupchat);
    let is_room = |jid: &JidRef<'_>| address::is_this_room(jid, name, &env.shared.rooms_domain);
    let forged = if is_passed_on { forged::forged(inbound.stanza, is_room) } else { Forged::new() };
    let to = env.occupant_jid(name, nick);
    let mut bytes = fx.buffers.lend();
    let stamp = Stamp { from: inbound.from, to: Some(&to), language: inbound.language, without: &forged };
    inbound.stanza.write_stamped(&stamp, &mut bytes);
    if let Some(pending_ack) = inbound.pending_ack {
        actors.users.wait_for_copies(fx, pending_ack, 1);
    }
    let delivery = Delivery {
        kind: inbound.kind,
        typ: inbound.typ,
        traits,
        from: inbound.from,
        to_local: name,
        to_resource: nick,
        id: inbound.id,
        bytes: &bytes,
        pending_ack: inbound.pending_ack,
    };
    fx.route_to_room(env, &delivery);
    fx.buffers.give_back(bytes);
}

/// Stamps a client's stanza and routes it to a user of this server.
fn send_to_user(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    inbound: &Inbound<'_>,
    local: &str,
    resource: Option<&str>,
) {
    let mut has_ids = false;
    let traits = match inbound.kind {
        Kind::Message => {
            let children = inbound.stanza.children().map(|child| (child.name(), child.namespace()));
            traits::of(children.inspect(|(name, _)| has_ids |= *name == "stanza-id"))
        }
        Kind::Presence => delivery::presence_traits(&actors.users, inbound.typ, inbound.from),
        Kind::Iq => Traits::default(),
    };
    let forged = if has_ids { forged_ids(env, inbound, local) } else { Forged::new() };
    let mut bytes = fx.buffers.lend();
    inbound.write_stamped(&forged, &mut bytes);
    let mut delivery = Delivery {
        kind: inbound.kind,
        typ: inbound.typ,
        traits,
        from: inbound.from,
        to_local: local,
        to_resource: resource,
        id: inbound.id,
        bytes: &bytes,
        pending_ack: None,
    };
    match inbound.kind {
        Kind::Message if !may_retract(actors, env, fx, inbound, &delivery) => {}
        Kind::Message => {
            let copy = archive::sender_copy(actors, env, fx, inbound.sender, &delivery);
            if delivery.is_kept()
                && let Some(pending_ack) = inbound.pending_ack
            {
                actors.users.wait_for_copies(fx, pending_ack, 1 + u32::from(copy.is_some()));
                delivery.pending_ack = Some(pending_ack);
            }
            send_message(actors, env, fx, inbound.sender, &delivery, copy);
        }
        _ if actors.under_way.hold_outbound(&delivery) => {}
        _ => match fx.is_next(env, &delivery) {
            true => _ = dispatch::deliver(actors, env, fx, &delivery, None),
            false => fx.route(env, &delivery),
        },
    }
    fx.buffers.give_back(bytes);
}

/// Whether a message may be sent on: one that retracts another costs more than others, and so many may wait to take effect. If
/// not, its sender has been told.
fn may_retract(
    actors: &Actors,
    env: &Env,
    fx: &mut Effects,
    inbound: &Inbound<'_>,
    d: &Delivery<'_>,
) -> bool {
    if !env.config.archive.enabled || !d.retracts() {
        return true;
    }
    fx.work.add(work::RETRACTION);
    let may = archive::open::has_room_to_send(actors, env, actors.users.account_of(inbound.sender));
    if !may {
        env.metrics().refused_retractions.add(1);
        inbound.refuse(env, fx, archive::open::too_many());
    }
    may
}

/// Sends a message on its way: to its sender's archive, to its recipient, to the sender's other resources. `copy`: what the
/// archive is to have. Where both live here, both copies are written together.
fn send_message(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    sender: ResourceKey,
    d: &Delivery<'_>,
    copy: Option<ActorCopy>,
) {
    let is_held = actors.under_way.hold_outbound(d);
    let is_next = !is_held && fx.is_next(env, d);
    let written = match is_next {
        true => dispatch::deliver(actors, env, fx, d, copy),
        false => None,
    };
    let user = actors.users.resource(sender).user;
    archive::open::forget_copies(actors, env, fx, user, d);
    push::sent(actors, user, d);
    let is_archived = copy.is_some_and(|copy| copy.flags.has(Flags::ARCHIVED));
    let id = match (copy, written) {
        (Some(copy), None) => match keep::keep_sent(actors, env, copy, d) {
            Ok(id) => Some(id),
            Err(error) => {
                // It goes on: a message is worth more than its copy.
                tracing::debug!(from = d.from, ?error, "the archive takes no copy of a sent message");
                env.metrics().archive_refused.add(1);
                if let Some(pending_ack) = d.pending_ack {
                    actors.users.notify_durable(env, fx, pending_ack);
                }
                None
            }
        },
        (_, written) => written,
    };
    carbons::copy_sent(actors, env, fx, sender, d, id.filter(|_| is_archived));
    if !is_held && !is_next {
        fx.route(env, d);
    }
}

/// The ids of a message that claim to be given by this server, or by an archive of the sender or the recipient (XEP-0359 §3):
/// nobody but the server gives such ones.
fn forged_ids(env: &Env, inbound: &Inbound<'_>, recipient: &str) -> Forged {
    let domain = &env.shared.domain;
    stanza_id::forged(inbound.stanza, |by| {
        let accounts = [inbound.local(), recipient];
        address::is_domain(by, domain) || accounts.iter().any(|local| address::is_account(by, local, domain))
    })
}
