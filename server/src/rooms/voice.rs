//! Asking for voice in a moderated room (XEP-0045 §7.13), and giving it (§8.6).

use whimbrel_storage::directory::rooms::RoomFlags;

use crate::env::Env;
use crate::exchange::fanout::Weight;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::muc::admin::Change;
use crate::proto::muc::rules::{self, Subject};
use crate::proto::muc::voice::{self, Voice};
use crate::proto::muc::{Role, admin};
use crate::rooms::say::{self, Written};
use crate::rooms::speak;
use crate::rooms::standing::{self, By};
use crate::rooms::visit::{Ack, Visit};
use crate::stanza::Kind;
use crate::user::actors::{Actors, Effects};
use crate::xml::{CLIENT, Element};

/// A form in a message to the room.
pub(super) fn asked(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    form: &Element,
) -> Ack {
    let key = match speak::occupant(actors, env, fx, visit) {
        Ok(key) => key,
        Err(ack) => return ack,
    };
    let Some(room) = actors.rooms.room_mut(visit.name) else { return Ack::Now };
    let own = room.occupants.get(key).standing();
    match Voice::read(form) {
        Ok(Some(Voice::Asked)) if own.role != Role::Visitor => Ack::Now,
        Ok(Some(Voice::Asked)) if !room.has(RoomFlags::VOICE_REQUESTS) => {
            visit.refuse(env, fx, admin::forbidden())
        }
        Ok(Some(Voice::Asked)) => {
            let jid = env.room_jid(visit.name);
            let mut written = Written::begin(Kind::Message, &jid);
            written.0.push(b'>');
            voice::form(visit.d.from, &room.occupants.get(key).nick).write(CLIENT, &mut written.0);
            written.0.extend_from_slice(b"</message>");
            let cast = written.cast(Kind::Message, Weight::Message, &jid);
            say::to_those(env, fx, room, &cast, |occupant| occupant.is_moderator());
            Ack::Now
        }
        Ok(Some(Voice::Answered { nick, allowed })) => {
            let Some(other) = room.occupants.by_nick(&nick) else {
                return visit.refuse(env, fx, StanzaCondition::ItemNotFound);
            };
            let standing = room.occupants.get(other).standing();
            let subject = Subject { standing, is_self: false, is_last_owner: false };
            if let Err(refusal) = rules::may(own, subject, Change::Role(Role::Participant)) {
                return visit.refuse(env, fx, StanzaError::from(refusal));
            }
            if allowed && standing.role == Role::Visitor {
                let by = By { nick: Some(room.occupants.get(key).nick.to_string()), ..By::default() };
                standing::set_role(env, fx, room, (other, Role::Participant), &by);
            }
            Ack::Now
        }
        Ok(None) => visit.refuse(env, fx, StanzaCondition::BadRequest),
        Err(error) => visit.refuse(env, fx, error),
    }
}
