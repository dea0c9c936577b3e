//! IQs to rooms.

use crate::env::Env;
use crate::proto::errors::StanzaCondition;
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
