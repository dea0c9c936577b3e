//! Registering with a room (XEP-0045 §7.10): whoever registers is a member from then on, and its nick is reserved. Unregistering
//! ends that; if it was the last owner, somebody else becomes one, or the room ends.

use crate::env::Env;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::muc::register::{self, Registration};
use crate::proto::muc::{Affiliation, error};
use crate::rooms::admin::{affiliate, has_room};
use crate::rooms::commit::{self, After, Outcome};
use crate::rooms::membership;
use crate::rooms::standing::{self, By, Moved};
use crate::rooms::visit::{Ack, Asker, Visit};
use crate::service::Reply;
use crate::stanza::Type;
use crate::user::actors::{Actors, Effects};
use crate::xml::Element;
use whimbrel_storage::directory::rooms::RoomFlags;

/// A request of `jabber:iq:register` to a room.
pub(super) fn answer(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    query: &Element,
) -> Ack {
    let Some(room) = actors.rooms.room(visit.name) else { return visit.refuse(env, fx, error::no_room()) };
    let (actor, bare) = (room.record.actor, visit.bare());
    let found = env.shared.directory.rooms(|rooms| rooms.affiliate(actor, bare, Some(visit.local)));
    let own = match found {
        Ok(own) => own,
        Err(error) => return visit.unreadable(env, fx, &error),
    };
    let before = own.as_ref().map_or(Affiliation::None, |own| own.affiliation);
    if before == Affiliation::Outcast {
        return visit.refuse(env, fx, StanzaCondition::Forbidden);
    }
    if visit.d.typ == Type::Get {
        let nick = own.as_ref().map(|own| own.nick.as_str()).filter(|nick| !nick.is_empty());
        let mut answer = Vec::new();
        register::write(nick, &mut answer);
        return visit.reply(env, fx, Reply::Written(answer));
    }
    let moved = |after| {
        let by = By { local: Some(visit.local.to_owned()), ..By::default() };
        Moved::new(visit.local, (before, after), by)
    };
    let asker = || (Asker::of(visit), visit.bare().to_owned());
    match Registration::read(query) {
        Ok(Registration::Register(nick)) => {
            if before < Affiliation::Member && !room.has(RoomFlags::REGISTRATION) {
                let text = "this room does not register new members";
                return visit.refuse(env, fx, StanzaError::from(StanzaCondition::NotAllowed).with_text(text));
            }
            if nick.len() > env.config.rooms.nick_bytes as usize {
                env.metrics().refused_room_text.add(1);
                return visit.refuse(env, fx, StanzaCondition::NotAcceptable);
            }
            let moved = moved(before.max(Affiliation::Member));
            match has_room(env, room, &[(moved.clone(), None)]) {
                Ok(()) => write(actors, env, fx, asker(), (moved, Some(nick))),
                Err(error) => visit.refuse(env, fx, error),
            }
        }
        Ok(Registration::Unregister) if before > Affiliation::None => {
            let moved = moved(Affiliation::None);
            write(actors, env, fx, asker(), (moved, None))
        }
        Ok(Registration::Unregister) => visit.refuse(env, fx, StanzaCondition::RegistrationRequired),
        Ok(Registration::Cancel) => visit.reply(env, fx, Reply::Done),
        Err(error) => visit.refuse(env, fx, error),
    }
}

/// Makes an account, with this bare JID, something else to the room, with a nick that is reserved for it. If it was the last
/// owner and is one no more, somebody else becomes one; where there is nobody, the room ends with its last occupant.
pub(super) fn write(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (asker, bare): (Asker, String),
    (mut moved, nick): (Moved, Option<String>),
) -> Ack {
    let name = asker.name.clone();
    if let Some(room) = actors.rooms.room(&name) {
        membership::plan(env, fx, room, &mut moved);
    }
    let (domain, now_ms) = (env.shared.domain.to_string(), env.unix_ms());
    commit::commit(actors, env, fx, asker, move |transaction| -> Outcome {
        let mut record = match commit::find(transaction, &name)? {
            Ok(record) => record,
            Err(error) => return Ok(Err(error)),
        };
        if let Some(nick) = &nick
            && transaction.rooms().nick_owner(record.actor, nick)?.is_some_and(|owner| owner != bare)
        {
            return Ok(Err(error::nick_taken()));
        }
        affiliate(transaction, &mut record, (&moved, nick.as_deref()), (&domain, now_ms))?;
        let is_orphaned = moved.before == Affiliation::Owner
            && moved.after != Affiliation::Owner
            && !transaction.rooms().has_owner(record.actor)?;
        let heir = if is_orphaned { transaction.pass_ownership(&mut record)? } else { None };
        let is_forsaken = is_orphaned && heir.is_none();
        let heir = heir.and_then(|jid| address::contact_here(&jid, &domain).map(str::to_owned));
        let after: After = Box::new(move |actors, env, fx| {
            if let Some(room) = actors.rooms.room_mut(&name) {
                room.replace(record);
                if moved.before != moved.after {
                    standing::moved(env, fx, room, &moved);
                }
                if let Some(local) = heir {
                    let by = By::default();
                    let heir = Moved::new(&local, (Affiliation::Member, Affiliation::Owner), by);
                    standing::moved(env, fx, room, &heir);
                }
                if is_forsaken {
                    room.forsake();
                }
            }
            Reply::Done
        });
        Ok(Ok(after))
    })
}
