//! IQs to rooms and to occupants.

use crate::env::Env;
use crate::proto::errors::StanzaCondition;
use crate::proto::muc::error;
use crate::proto::ns;
use crate::rooms::visit::{Ack, Visit};
use crate::rooms::{admin, archive, discover, owner, register, retract, vcard};
use crate::service::Reply;
use crate::stanza::Type;
use crate::user::actors::{Actors, Effects};

/// A request to the room.
pub(super) fn to_room(actors: &mut Actors, env: &Env, fx: &mut Effects, visit: &Visit<'_>) -> Ack {
    let Some(iq) = visit.element(fx) else { return Ack::Now };
    let Some(query) = iq.elements().next() else { return visit.refuse(env, fx, StanzaCondition::BadRequest) };
    match (query.name(), query.namespace(), visit.d.typ) {
        ("query", ns::DISCO_INFO, Type::Get) => discover::info(actors, env, fx, visit, query),
        ("query", ns::DISCO_ITEMS, Type::Get) => discover::items(actors, env, fx, visit),
        ("query", ns::MUC_ADMIN, _) => admin::answer(actors, env, fx, visit, query),
        ("query", ns::MUC_OWNER, _) => owner::answer(actors, env, fx, visit, query),
        ("query", ns::ARCHIVE, _) => archive::answer(actors, env, fx, visit, query),
        ("vCard", ns::VCARD, _) => vcard::answer(actors, env, fx, visit, query),
        ("query", ns::REGISTER, _) => register::answer(actors, env, fx, visit, query),
        ("moderate", ns::MODERATION, Type::Set) => retract::by_moderator(actors, env, fx, visit, query),
        ("ping", ns::PING, Type::Get) => visit.reply(env, fx, Reply::Done),
        _ => visit.refuse(env, fx, StanzaCondition::ServiceUnavailable),
    }
}

/// A request to an occupant. The room answers a ping of somebody to itself (XEP-0410): whether it is still there. Others are not
/// passed on, because a client that is asked would answer somebody whose address it does not see.
pub(super) fn to_occupant(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    nick: &str,
) -> Ack {
    let Some(room) = actors.rooms.room(visit.name) else { return visit.refuse(env, fx, error::no_room()) };
    let Some(own) = visit.seat(room) else { return visit.refuse(env, fx, error::not_in_room()) };
    if room.occupants.by_nick(nick).is_none() {
        return visit.refuse(env, fx, StanzaCondition::ItemNotFound);
    }
    let is_own = *room.occupants.get(own).nick == *nick;
    match visit.child(fx, "ping", ns::PING) {
        Some(_) if is_own => visit.reply(env, fx, Reply::Done),
        _ => visit.refuse(env, fx, StanzaCondition::FeatureNotImplemented),
    }
}
