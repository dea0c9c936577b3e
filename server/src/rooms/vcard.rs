//! A room's vCard, for its avatar (XEP-0486): owners set it, everybody who may know of the room reads it.

use whimbrel_storage::directory::rooms::Room as Record;

use crate::effects::work;
use crate::env::Env;
use crate::exchange::fanout::Weight;
use crate::occupancy::room::Room;
use crate::proto::avatar::Picture;
use crate::proto::errors::StanzaCondition;
use crate::proto::muc::status::Status;
use crate::proto::muc::user::write_statuses;
use crate::proto::muc::{Affiliation, admin, error};
use crate::rooms::commit::{self, After, Outcome};
use crate::rooms::discover;
use crate::rooms::say::{self, Written};
use crate::rooms::visit::{Ack, Asker, Visit};
use crate::service::Reply;
use crate::stanza::{Kind, Type};
use crate::user::actors::{Actors, Effects};
use crate::xml::Element;

/// A request for the room's vCard, or another one in its place.
pub(super) fn answer(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    vcard: &Element,
) -> Ack {
    let Some(room) = actors.rooms.room(visit.name) else { return visit.refuse(env, fx, error::no_room()) };
    let own = match visit.standing(env, fx, room) {
        Ok(own) => own,
        Err(ack) => return ack,
    };
    if visit.d.typ == Type::Get {
        let shown = discover::may_know(own, room).then(|| stored(env, fx, room)).flatten();
        return match shown {
            Some(vcard) => visit.reply(env, fx, Reply::Result(vcard)),
            None => visit.refuse(env, fx, StanzaCondition::ItemNotFound),
        };
    }
    if own.affiliation != Affiliation::Owner {
        return visit.refuse(env, fx, admin::forbidden());
    }
    let is_empty = vcard.elements().next().is_none();
    let bytes = if is_empty { Vec::new() } else { vcard.to_bytes() };
    // Declaring namespaces anew on each element can make it longer than it came.
    if bytes.len() > env.config.limits.stanza_bytes as usize {
        return visit.refuse(env, fx, StanzaCondition::NotAcceptable);
    }
    let name = visit.name.to_owned();
    commit::commit(actors, env, fx, Asker::of(visit), move |transaction| -> Outcome {
        let record: Record = match commit::find(transaction, &name)? {
            Ok(record) => record,
            Err(error) => return Ok(Err(error)),
        };
        transaction.set_room_vcard(&record, &bytes)?;
        let after: After = Box::new(move |actors, env, fx| {
            if let Some(room) = actors.rooms.room_mut(&name) {
                tell(env, fx, room);
            }
            Reply::Done
        });
        Ok(Ok(after))
    })
}

/// §3.3: occupants hear that the configuration has changed, and ask.
fn tell(env: &Env, fx: &mut Effects, room: &mut Room) {
    let from = env.room_jid(room.name());
    let mut written = Written::begin(Kind::Message, &from);
    written.0.extend_from_slice(b" type='groupchat'>");
    write_statuses([Status::ConfigurationChanged], &mut written.0);
    written.0.extend_from_slice(b"</message>");
    let cast = written.cast(Kind::Message, Weight::Message, &from);
    say::to_all(env, fx, room, &cast);
}

fn stored(env: &Env, fx: &Effects, room: &Room) -> Option<Element> {
    fx.work.add(work::LOOK);
    let bytes = match env.shared.directory.room_vcard(room.record.actor) {
        Ok(bytes) => bytes?,
        Err(error) => {
            tracing::error!(room = room.name(), %error, "cannot read the directory");
            return None;
        }
    };
    fx.work.add_tree(bytes.len());
    Element::parse(&bytes).ok()
}

/// The SHA-1 of the room's picture in hexadecimal digits; empty for none.
pub(super) fn picture(env: &Env, fx: &Effects, room: &Room) -> String {
    let vcard = stored(env, fx, room);
    vcard.and_then(|vcard| Picture::of_vcard(&vcard)).map(|picture| picture.hash).unwrap_or_default()
}
