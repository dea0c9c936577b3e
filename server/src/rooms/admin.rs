//! Lists of roles and affiliations, and changes of them (XEP-0045 §8, §9, §10.3 to §10.8).

use std::collections::{HashMap, HashSet};

use whimbrel_storage::directory::DirectoryError;
use whimbrel_storage::directory::WriteTransaction;
use whimbrel_storage::directory::rooms::{AffiliationChange, Room as Record};

use crate::effects::work;
use crate::env::Env;
use crate::occupancy::occupants::OccupantKey;
use crate::occupancy::room::Room;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::letters;
use crate::proto::muc::admin::{self, AdminItem, AdminRequest, Change, ListOf, Target};
use crate::proto::muc::rules::{self, Standing, Subject};
use crate::proto::muc::user::UserItem;
use crate::proto::muc::{Affiliation, Role, error};
use crate::rooms::commit;
use crate::rooms::invite::count_stranger;
use crate::rooms::membership;
use crate::rooms::standing::{self, By, Moved};
use crate::rooms::visit::{Ack, Asker, Visit};
use crate::rooms::waits::{self, Waits};
use crate::service::Reply;
use crate::stanza::Type;
use crate::user::actors::{Actors, Effects};
use crate::xml::Element;

/// A request of `muc#admin`.
pub(super) fn answer(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    query: &Element,
) -> Ack {
    fx.work.add_letters(letters::weight(query));
    match AdminRequest::read(visit.d.typ, query) {
        Ok(AdminRequest::Lists(lists)) => give_lists(actors, env, fx, visit, &lists),
        Ok(AdminRequest::Changes(items)) => change(actors, env, fx, visit, items),
        Err(error) => visit.refuse(env, fx, error),
    }
}

fn give_lists(actors: &mut Actors, env: &Env, fx: &mut Effects, visit: &Visit<'_>, lists: &[ListOf]) -> Ack {
    debug_assert_eq!(visit.d.typ, Type::Get);
    let Some(room) = actors.rooms.room(visit.name) else { return visit.refuse(env, fx, error::no_room()) };
    let own = match visit.standing(env, fx, room) {
        Ok(own) => own,
        Err(ack) => return ack,
    };
    if lists.iter().any(|list| !rules::may_have_list(own, *list, room.config())) {
        return visit.refuse(env, fx, admin::forbidden());
    }
    let mut bytes = Vec::new();
    for list in lists {
        match list {
            ListOf::Affiliation(affiliation) => {
                let actor = room.record.actor;
                let found = env.shared.directory.rooms(|rooms| rooms.affiliates(actor, *affiliation));
                let found = match found {
                    Ok(found) => found,
                    Err(error) => return visit.unreadable(env, fx, &error),
                };
                fx.work.add(work::LOOK + found.len() as u64 * work::ITEM);
                for one in &found {
                    let nick = Some(one.nick.as_str()).filter(|nick| !nick.is_empty());
                    let item = UserItem {
                        affiliation: one.affiliation,
                        jid: Some(&one.jid),
                        nick,
                        reason: &one.reason,
                        ..UserItem::default()
                    };
                    item.write(&mut bytes);
                }
            }
            ListOf::Role(role) => list_role(env, room, *role, &mut bytes),
        }
    }
    let mut query = Vec::with_capacity(bytes.len() + 64);
    admin::write_query(&mut query, |out| out.extend_from_slice(&bytes));
    visit.reply(env, fx, Reply::Written(query))
}

fn list_role(env: &Env, room: &Room, role: Role, out: &mut Vec<u8>) {
    for (_, occupant) in room.occupants.iter().filter(|(_, occupant)| occupant.role() == role) {
        let seat = occupant.seats.first();
        let jid = format!("{}/{}", env.bare_jid(seat.local()), seat.resource());
        let item = UserItem {
            affiliation: occupant.affiliation(),
            role: Some(role),
            jid: Some(&jid),
            nick: Some(&occupant.nick),
            ..UserItem::default()
        };
        item.write(out);
    }
}

/// A change that may be made, with whom it concerns.
enum Checked {
    Role(OccupantKey, Role, By),
    Affiliation(Moved, Option<String>),
}

fn change(actors: &mut Actors, env: &Env, fx: &mut Effects, visit: &Visit<'_>, items: Vec<AdminItem>) -> Ack {
    let Some(room) = actors.rooms.room(visit.name) else { return visit.refuse(env, fx, error::no_room()) };
    let own = match visit.standing(env, fx, room) {
        Ok(own) => own,
        Err(ack) => return ack,
    };
    let mut checked = Vec::new();
    for item in items {
        match check(env, fx, room, visit, (own, item)) {
            Ok(one) => checked.push(one),
            Err(ack) => return ack,
        }
    }
    let moves: Vec<(Moved, Option<String>)> = checked
        .iter()
        .filter_map(|one| match one {
            Checked::Affiliation(moved, nick) => Some((moved.clone(), nick.clone())),
            Checked::Role(..) => None,
        })
        .collect();
    let may = names_each_once(&checked).and_then(|()| has_room(env, room, &moves));
    if let Err(error) = may.and_then(|()| keeps_owner(room, &moves)) {
        return visit.refuse(env, fx, error);
    }
    if let Err(error) = waits::has_room(actors, env) {
        return visit.refuse(env, fx, error);
    }
    if moves.is_empty() {
        let Some(room) = actors.rooms.room_mut(visit.name) else { return Ack::Now };
        set_roles(env, fx, room, checked);
        return visit.reply(env, fx, Reply::Done);
    }
    write(actors, env, fx, visit, (moves, checked))
}

fn set_roles(env: &Env, fx: &mut Effects, room: &mut Room, checked: Vec<Checked>) {
    for one in checked {
        if let Checked::Role(key, role, by) = one {
            standing::set_role(env, fx, room, (key, role), &by);
        }
    }
}

fn write(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    (moves, checked): (Vec<(Moved, Option<String>)>, Vec<Checked>),
) -> Ack {
    let (name, domain, now_ms) = (visit.name.to_owned(), env.shared.domain.to_string(), env.unix_ms());
    let of_job = name.clone();
    let job = move |transaction: &mut WriteTransaction<'_>| -> Result<_, DirectoryError> {
        let mut record = match commit::find(transaction, &of_job)? {
            Ok(record) => record,
            Err(error) => return Ok(Err(error)),
        };
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
            room.replace(record);
            set_roles(env, fx, room, checked);
            for (moved, _) in &moves {
                standing::moved_for(env, fx, room, moved, (&mut waits, &mut users.joins));
            }
        }
        waits.end(actors, env, fx)
    })
}

/// Writes what an account is to a room from now on, and the nick that is reserved for it.
pub(super) fn affiliate(
    transaction: &mut WriteTransaction<'_>,
    record: &mut Record,
    (moved, nick): (&Moved, Option<&str>),
    (domain, now_ms): (&str, u64),
) -> Result<(), DirectoryError> {
    let jid = format!("{}@{domain}", moved.local);
    let change = AffiliationChange {
        jid: &jid,
        localpart: Some(&moved.local),
        affiliation: moved.after,
        reason: &moved.by.reason,
        now_ms,
    };
    transaction.affiliate(record, &change)?;
    if let Some(bookmark) = &moved.bookmark {
        bookmark.write(transaction)?;
    }
    if let Some(nick) = nick {
        // One that is another's stays the other's.
        transaction.reserve_nick(record, &jid, nick)?;
    }
    Ok(())
}

/// Whether no account is in a list twice with an affiliation, and no occupant with a role: each item was checked against what they
/// are before all of them.
fn names_each_once(checked: &[Checked]) -> Result<(), StanzaError> {
    let (mut accounts, mut occupants) = (HashSet::new(), HashSet::new());
    let is_first = |one: &Checked| match one {
        Checked::Affiliation(moved, _) => accounts.insert(moved.local.clone()),
        Checked::Role(key, ..) => occupants.insert(*key),
    };
    let text = match checked.iter().map(is_first).position(|is_first| !is_first).map(|at| &checked[at]) {
        None => return Ok(()),
        Some(Checked::Affiliation(..)) => "an account is in the list twice",
        Some(Checked::Role(..)) => "an occupant is in the list twice",
    };
    Err(StanzaError::from(StanzaCondition::BadRequest).with_text(text))
}

/// Whether somebody owns the room after all of these, each of which may be made alone (§10.4).
fn keeps_owner(room: &Room, moves: &[(Moved, Option<String>)]) -> Result<(), StanzaError> {
    let mut owners = i64::from(room.record.counts.owners);
    let mut now: HashMap<&str, Affiliation> = HashMap::new();
    for (moved, _) in moves {
        let before = now.insert(&moved.local, moved.after).unwrap_or(moved.before);
        owners += i64::from(moved.after == Affiliation::Owner) - i64::from(before == Affiliation::Owner);
    }
    if owners > 0 || moves.is_empty() {
        return Ok(());
    }
    Err(StanzaError::from(StanzaCondition::Conflict).with_text("a room must have an owner"))
}

/// Whether the room may have so many more who belong to it, or are banned (`rooms.members_max`, `rooms.bans_max`).
pub(super) fn has_room(env: &Env, room: &Room, moves: &[(Moved, Option<String>)]) -> Result<(), StanzaError> {
    let config = &env.config.rooms;
    let count = |fits: &dyn Fn(Affiliation) -> bool| {
        moves.iter().filter(|(moved, _)| fits(moved.after) && !fits(moved.before)).count() as u64
    };
    let members = count(&|affiliation| affiliation >= Affiliation::Member);
    let bans = count(&|affiliation| affiliation == Affiliation::Outcast);
    let counts = &room.record.counts;
    let text = if members > 0 && counts.belonging() + members > u64::from(config.members_max) {
        "as many belong to this room as may"
    } else if bans > 0 && u64::from(counts.outcasts) + bans > u64::from(config.bans_max) {
        "as many are banned from this room as may be"
    } else {
        return Ok(());
    };
    env.metrics().refused_room_members.add(1);
    Err(StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text))
}

fn check(
    env: &Env,
    fx: &mut Effects,
    room: &Room,
    visit: &Visit<'_>,
    (own, item): (Standing, AdminItem),
) -> Result<Checked, Ack> {
    let nick = visit.seat(room).map(|key| room.occupants.get(key).nick.to_string());
    let by = By { local: Some(visit.local.to_owned()), nick, reason: item.reason, ..By::default() };
    let (local, occupant) = find(env, fx, room, visit, &item.target)?;
    let affiliation = match occupant {
        Some(key) => room.occupants.get(key).affiliation(),
        None => affiliation_of(env, fx, room, visit, &local)?,
    };
    let role = occupant.map_or(Role::None, |key| room.occupants.get(key).role());
    let is_last_owner = affiliation == Affiliation::Owner && room.record.counts.owners <= 1;
    let standing = Standing { affiliation, role };
    let subject = Subject { standing, is_self: local == visit.local, is_last_owner };
    if let Err(refusal) = rules::may(own, subject, item.change) {
        return Err(visit.refuse(env, fx, StanzaError::from(refusal)));
    }
    match (item.change, occupant) {
        (Change::Role(role), Some(key)) => Ok(Checked::Role(key, role, by)),
        (Change::Role(_), None) => Err(visit.refuse(env, fx, StanzaCondition::ItemNotFound)),
        (Change::Affiliation(after), _) => {
            let is_added = after >= Affiliation::Member && affiliation < Affiliation::Member;
            if is_added && occupant.is_none() && room.config().is_private_group() {
                count_stranger(env, fx, visit, &local)?;
            }
            let mut moved = Moved::new(&local, (affiliation, after), by);
            membership::plan(env, fx, room, &mut moved);
            Ok(Checked::Affiliation(moved, item.nick))
        }
    }
}

/// The account that is meant, and one of its occupants.
fn find(
    env: &Env,
    fx: &mut Effects,
    room: &Room,
    visit: &Visit<'_>,
    target: &Target,
) -> Result<(String, Option<OccupantKey>), Ack> {
    match target {
        Target::Nick(nick) => match room.occupants.by_nick(nick) {
            Some(key) => Ok((room.occupants.get(key).local().to_owned(), Some(key))),
            None => Err(visit.refuse(env, fx, StanzaCondition::ItemNotFound)),
        },
        Target::Jid(jid) => match address::contact_here(jid.as_str(), &env.shared.domain) {
            Some(local) => Ok((local.to_owned(), room.occupants.of_account(local).first().copied())),
            None => {
                let text = "only accounts of this server can be something to a room";
                let error = StanzaError::from(StanzaCondition::NotAcceptable).with_text(text);
                Err(visit.refuse(env, fx, error))
            }
        },
    }
}

/// What an account is to a room, by the directory.
pub(super) fn affiliation_of(
    env: &Env,
    fx: &mut Effects,
    room: &Room,
    visit: &Visit<'_>,
    local: &str,
) -> Result<Affiliation, Ack> {
    fx.work.add(work::LOOK);
    let (actor, jid) = (room.record.actor, env.bare_jid(local));
    match env.shared.directory.rooms(|rooms| rooms.affiliate(actor, &jid, Some(local))) {
        Ok(found) => Ok(found.map_or(Affiliation::None, |found| found.affiliation)),
        Err(error) => Err(visit.unreadable(env, fx, &error)),
    }
}
