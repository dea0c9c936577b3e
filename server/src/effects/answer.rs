//! Stanzas that the server makes: errors in answer to others, and what it says in a user's name.

use std::borrow::Cow;

use whimbrel_storage::jid::JidRef;

use crate::effects::Effects;
use crate::env::Env;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::reply;
use crate::stanza::{Delivery, Kind, Traits, Type};

/// Whether an error may be sent in answer (RFC 6120 §8.3.1: never to an error; a result gets no answer).
pub fn may_be_answered(kind: Kind, typ: Type) -> bool {
    match kind {
        Kind::Iq => matches!(typ, Type::Get | Type::Set),
        Kind::Message => typ != Type::Error,
        Kind::Presence => !matches!(typ, Type::Error | Type::Unavailable),
    }
}

/// Answers a stanza that was on its way to a user with an error, unless it is one that gets no answer.
pub fn bounce<S: 'static>(env: &Env, fx: &mut Effects<S>, d: &Delivery<'_>, condition: StanzaCondition) {
    bounce_with(env, fx, d, condition.into());
}

/// As [`bounce`], with an error that says more.
pub fn bounce_with<S: 'static>(env: &Env, fx: &mut Effects<S>, d: &Delivery<'_>, error: StanzaError) {
    if !may_be_answered(d.kind, d.typ) {
        return;
    }
    let mut to = String::with_capacity(d.to_local.len() + env.shared.domain.len() + 1);
    to.push_str(d.to_local);
    to.push('@');
    to.push_str(&env.shared.domain);
    if let Some(resource) = d.to_resource {
        to.push('/');
        to.push_str(resource);
    }
    let mut traits = Traits::FROM_SERVER;
    if d.kind == Kind::Message && d.is_copied() {
        traits.set(Traits::ANSWERS_COPIED);
    }
    let refused = Refused { kind: d.kind, sender: d.from, to: Some(&to), id: d.id };
    refuse_as(env, fx, &refused, traits, &error);
}

/// A stanza that is answered with an error.
pub struct Refused<'a> {
    /// Kind.
    pub kind: Kind,
    /// Its sender, a full JID of this server.
    pub sender: &'a str,
    /// The address that was written to; `None` for the sender's own account.
    pub to: Option<&'a str>,
    /// Its id.
    pub id: Option<&'a str>,
}

/// Answers a stanza with an error.
pub fn refuse<S: 'static>(env: &Env, fx: &mut Effects<S>, refused: &Refused<'_>, error: &StanzaError) {
    refuse_as(env, fx, refused, Traits::FROM_SERVER, error);
}

fn refuse_as<S: 'static>(
    env: &Env,
    fx: &mut Effects<S>,
    refused: &Refused<'_>,
    traits: Traits,
    error: &StanzaError,
) {
    let &Refused { kind, sender, to, id } = refused;
    env.metrics().errors_out.add(1);
    let mut bytes = Vec::with_capacity(256);
    reply::open(kind, Type::Error, to, sender, id, &mut bytes);
    bytes.push(b'>');
    error.write(&mut bytes);
    bytes.extend_from_slice(b"</");
    bytes.extend_from_slice(kind.name().as_bytes());
    bytes.push(b'>');
    send(env, fx, &Made { kind, typ: Type::Error, traits, from: to, id, bytes: &bytes }, sender);
}

/// A stanza that the server made.
pub struct Made<'a> {
    /// Kind.
    pub kind: Kind,
    /// Type.
    pub typ: Type,
    /// Treatment; [`Traits::FROM_SERVER`] for what no block list may stop.
    pub traits: Traits,
    /// The address it comes from; `None` for the recipient's own account.
    pub from: Option<&'a str>,
    /// The id.
    pub id: Option<&'a str>,
    /// The whole stanza.
    pub bytes: &'a [u8],
}

/// Routes a stanza that the server made to one of its users.
pub fn send<S: 'static>(env: &Env, fx: &mut Effects<S>, made: &Made<'_>, recipient: &str) {
    let Ok(to) = JidRef::parse(recipient) else { return };
    let Some(local) = to.local() else { return };
    let is_for_room = address::is_room(&to, env.services().rooms);
    let from = made.from.map_or_else(|| Cow::Owned(env.bare_jid(local)), Cow::Borrowed);
    let delivery = Delivery {
        kind: made.kind,
        typ: made.typ,
        traits: made.traits,
        from: &from,
        to_local: local,
        to_resource: to.resource(),
        id: made.id,
        bytes: made.bytes,
        pending_ack: None,
    };
    match is_for_room {
        // What answers a message that a room has passed on.
        true => fx.route_to_room(env, &delivery),
        false => fx.route(env, &delivery),
    }
}
