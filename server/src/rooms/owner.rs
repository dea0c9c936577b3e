//! What only owners do: configuring a room, opening a new one, destroying it (XEP-0045 §10).

use whimbrel_storage::directory::rooms::{RoomConfig, RoomFlags};
use whimbrel_storage::directory::{DirectoryError, WriteTransaction};

use crate::env::Env;
use crate::exchange::fanout::Weight;
use crate::occupancy::occupants::OccupantKey;
use crate::occupancy::room::Room;
use crate::proto::address;
use crate::proto::errors::StanzaCondition;
use crate::proto::muc::config::{self, ConfigChange};
use crate::proto::muc::owner::{self, Destroy, OwnerRequest};
use crate::proto::muc::status::Status;
use crate::proto::muc::user::{UserItem, write_statuses};
use crate::proto::muc::{Affiliation, admin, error, rules};
use crate::rooms::admin::{affiliate, affiliation_of, has_room};
use crate::rooms::commit;
use crate::rooms::invite::count_stranger;
use crate::rooms::say::{self, Written};
use crate::rooms::standing::{self, By, Moved};
use crate::rooms::visit::{Ack, Asker, Visit};
use crate::rooms::waits::{self, Waits};
use crate::rooms::{destroy, leave, membership};
use crate::service::Reply;
use crate::stanza::Kind;
use crate::user::actors::{Actors, Effects};
use crate::xml::Element;

/// A request of `muc#owner`.
pub(super) fn answer(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    query: &Element,
) -> Ack {
    let Some(room) = actors.rooms.room(visit.name) else { return visit.refuse(env, fx, error::no_room()) };
    match visit.standing(env, fx, room) {
        Ok(own) if own.affiliation == Affiliation::Owner => {}
        Ok(_) => return visit.refuse(env, fx, admin::forbidden()),
        Err(ack) => return ack,
    }
    match OwnerRequest::read(visit.d.typ, query) {
        Ok(OwnerRequest::Form) => {
            let mut form = Vec::new();
            owner::write_form(config::form(visit.name, room.config()), &mut form);
            visit.reply(env, fx, Reply::Written(form))
        }
        Ok(OwnerRequest::Configure(change)) => configure(actors, env, fx, visit, &change),
        Ok(OwnerRequest::Cancel) if room.is_locked => {
            destroy::destroy(actors, env, fx, Asker::of(visit), Destroy::default())
        }
        Ok(OwnerRequest::Cancel) => visit.reply(env, fx, Reply::Done),
        Ok(OwnerRequest::Destroy(order)) => destroy::destroy(actors, env, fx, Asker::of(visit), order),
        Err(error) => visit.refuse(env, fx, error),
    }
}

fn configure(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    change: &ConfigChange,
) -> Ack {
    let Some(room) = actors.rooms.room(visit.name) else { return Ack::Now };
    let configured = match change.apply(room.config().clone(), env.config.rooms.occupants_max) {
        Ok(configured) => configured,
        Err(error) => return visit.refuse(env, fx, error),
    };
    if let Err(error) = waits::has_room(actors, env) {
        return visit.refuse(env, fx, error);
    }
    let mut moves = match promotions(env, fx, room, visit, change) {
        Ok(moves) => moves,
        Err(ack) => return ack,
    };
    moves.iter_mut().for_each(|(moved, _)| membership::plan(env, fx, room, moved));
    let (name, domain, now_ms) = (visit.name.to_owned(), env.shared.domain.to_string(), env.unix_ms());
    let of_job = name.clone();
    let job = move |transaction: &mut WriteTransaction<'_>| -> Result<_, DirectoryError> {
        let mut record = match commit::find(transaction, &of_job)? {
            Ok(record) => record,
            Err(error) => return Ok(Err(error)),
        };
        transaction.configure_room(&mut record, configured)?;
        for (moved, nick) in &moves {
            affiliate(transaction, &mut record, (moved, nick.as_deref()), (&domain, now_ms))?;
        }
        Ok(Ok((record, moves)))
    };
    commit::part(actors, env, fx, Asker::of(visit), job, move |actors, env, fx, asker, made| {
        let (record, moves) = match made {
            Ok(made) => made,
            Err(error) => {
                asker.refuse(env, fx, error);
                return Ack::Now;
            }
        };
        let mut waits = Waits::of(asker);
        let Actors { rooms, users, .. } = actors;
        if let Some(room) = rooms.room_mut(&name) {
            let before = room.replace(record).config;
            // Who is an admin from now on may stay in a room that is for members from now on.
            for (moved, _) in &moves {
                standing::moved_for(env, fx, room, moved, (&mut waits, &mut users.joins));
            }
            opened(env, fx, room, &before);
        }
        waits.end(actors, env, fx)
    })
}

/// Those whom the form makes owners or admins and who were less.
fn promotions(
    env: &Env,
    fx: &mut Effects,
    room: &Room,
    visit: &Visit<'_>,
    change: &ConfigChange,
) -> Result<Vec<(Moved, Option<String>)>, Ack> {
    let nick = visit.seat(room).map(|key| room.occupants.get(key).nick.to_string());
    let owners = change.owners.iter().map(|jid| (jid, Affiliation::Owner));
    let admins = change.admins.iter().map(|jid| (jid, Affiliation::Admin));
    let mut moves: Vec<(Moved, Option<String>)> = Vec::new();
    for (jid, after) in owners.chain(admins) {
        let Some(local) = address::contact_here(jid.as_str(), &env.shared.domain) else {
            return Err(visit.refuse(env, fx, StanzaCondition::NotAcceptable));
        };
        let before = affiliation_of(env, fx, room, visit, local)?;
        let is_known = moves.iter().any(|(moved, _)| moved.local == local);
        if before < after && !is_known {
            let is_added = before < Affiliation::Member && room.occupants.of_account(local).is_empty();
            if is_added && room.config().is_private_group() {
                count_stranger(env, fx, visit, local)?;
            }
            let by = By { local: Some(visit.local.to_owned()), nick: nick.clone(), ..By::default() };
            moves.push((Moved::new(local, (before, after), by), None));
        }
    }
    match has_room(env, room, &moves) {
        Ok(()) => Ok(moves),
        Err(error) => Err(visit.refuse(env, fx, error)),
    }
}

/// A room is configured: its occupants hear what has changed (§10.2.1), and those leave who may not stay.
pub(super) fn opened(env: &Env, fx: &mut Effects, room: &mut Room, before: &RoomConfig) {
    let was_locked = std::mem::replace(&mut room.is_locked, false);
    let told = config::announced(before, room.config());
    if !told.is_empty() && !was_locked {
        let from = env.room_jid(room.name());
        let mut written = Written::begin(Kind::Message, &from);
        written.0.extend_from_slice(b" type='groupchat'>");
        write_statuses(told, &mut written.0);
        written.0.extend_from_slice(b"</message>");
        let cast = written.cast(Kind::Message, Weight::Message, &from);
        say::to_all(env, fx, room, &cast);
    }
    let is_closed = room.has(RoomFlags::MEMBERS_ONLY);
    let keys: Vec<OccupantKey> = room.occupants.iter().map(|(key, _)| key).collect();
    for key in keys {
        let occupant = room.occupants.get(key);
        if is_closed && occupant.affiliation() < Affiliation::Member {
            let statuses = &[Status::RemovedByMembersOnly];
            // Many may have to go at once: a large room is not told of each.
            leave::remove(env, fx, room, key, (statuses, UserItem::default(), false));
            continue;
        }
        // A room that is moderated no more gives voice to all; one that becomes so takes none away.
        let role = rules::initial_role(occupant.affiliation(), room.config());
        if role > occupant.role() && !room.has(RoomFlags::MODERATED) {
            standing::set_role(env, fx, room, (key, role), &By::default());
        }
    }
}
