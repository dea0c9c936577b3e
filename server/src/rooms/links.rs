//! Links that make members (`whimbrelctl room invite`): operators make and revoke them; an account that enters with the token of one,
//! where others give a password, is a member from then on.
//!
//! | what is given at the door | by one who is no member | by a member |
//! | --- | --- | --- |
//! | the room's password | as without links | as without links |
//! | the token of a link that is good | it becomes a member, and enters | it enters |
//! | anything else | wrong | wrong, where a password is needed |
//!
//! What is wrong counts against `rooms.wrong_passwords_per_hour` of the account; past it nothing is looked at.

use std::sync::mpsc::SyncSender;

use whimbrel_storage::directory::rooms::{LinkHash, RoomLink};

use crate::effects::work;
use crate::env::Env;
use crate::occupancy::room::Room;
use crate::proto::errors::{ErrorKind, StanzaCondition, StanzaError};
use crate::proto::muc::{Affiliation, error};
use crate::rooms::admin::{affiliate, has_room};
use crate::rooms::commit::{self, After, Outcome as Change};
use crate::rooms::enter::{self, Newcomer};
use crate::rooms::membership;
use crate::rooms::operator::Outcome;
use crate::rooms::standing::{self, By, Moved};
use crate::rooms::visit::{Ack, Asker, Visit};
use crate::service::Reply;
use crate::user::actors::{Actors, Effects};

/// How the door opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opens {
    /// As for everybody who may enter.
    AsItIs,
    /// By a link, which makes a member.
    ByLink(LinkHash),
}

/// Whether the door opens for somebody who is this to the room, with what it has given for a password.
///
/// # Errors
/// It does not; the sender has been told.
pub(super) fn open(
    env: &Env,
    fx: &mut Effects,
    room: &Room,
    visit: &Visit<'_>,
    (affiliation, given): (Affiliation, Option<&str>),
) -> Result<Opens, Ack> {
    let admitted = error::admit(affiliation, given, room.config());
    let is_guess = error::needs_password(affiliation, room.config());
    let given = given.filter(|given| !given.is_empty() && affiliation != Affiliation::Outcast);
    let Some(given) = given.filter(|_| is_guess || affiliation == Affiliation::None) else {
        return admitted.map(|()| Opens::AsItIs).map_err(|error| visit.refuse(env, fx, error));
    };
    let most = env.config.rooms.wrong_passwords_per_hour;
    if is_guess && env.shared.wrong_passwords.is_spent(visit.local, most, env.now.0) {
        env.metrics().refused_room_password.add(1);
        return Err(visit.refuse(env, fx, too_many()));
    }
    if admitted.is_ok() && is_guess {
        return Ok(Opens::AsItIs);
    }
    fx.work.add(work::LOOK);
    let hash = LinkHash::of(given);
    let found = env.shared.directory.rooms(|rooms| rooms.link(room.record.actor, hash));
    let found = found.map_err(|error| visit.unreadable(env, fx, &error))?;
    match (found.is_some_and(|link| link.is_good(env.unix_ms())), admitted) {
        (true, _) if affiliation == Affiliation::None => Ok(Opens::ByLink(hash)),
        (true, _) | (false, Ok(())) => Ok(Opens::AsItIs),
        (false, Err(error)) => {
            env.shared.wrong_passwords.take(visit.local, most, env.now.0);
            Err(visit.refuse(env, fx, error))
        }
    }
}

fn too_many() -> StanzaError {
    let text = "you have given as many wrong passwords in this hour as may be; try again later";
    StanzaError::from(StanzaCondition::PolicyViolation).with_kind(ErrorKind::Wait).with_text(text)
}

/// Somebody becomes a member by a link, and enters.
pub(super) fn enter(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    (newcomer, hash): (Newcomer, LinkHash),
) -> Ack {
    let Some(room) = actors.rooms.room(visit.name) else { return Ack::Now };
    let local = newcomer.local.clone();
    let by = By { local: Some(local.clone()), ..By::default() };
    let mut moved = Moved::new(&local, (Affiliation::None, Affiliation::Member), by);
    if let Err(error) = has_room(env, room, &[(moved.clone(), None)]) {
        return visit.refuse(env, fx, error);
    }
    membership::plan(env, fx, room, &mut moved);
    let (name, domain, now_ms) = (visit.name.to_owned(), env.shared.domain.to_string(), env.unix_ms());
    commit::commit(actors, env, fx, Asker::of(visit), move |transaction| -> Change {
        let mut record = match commit::find(transaction, &name)? {
            Ok(record) => record,
            Err(error) => return Ok(Err(error)),
        };
        let Some(link) = transaction.use_room_link(record.actor, hash, now_ms)? else {
            return Ok(Err(error::members_only()));
        };
        affiliate(transaction, &mut record, (&moved, None), (&domain, now_ms))?;
        let after: After = Box::new(move |actors, env, fx| {
            let Some(room) = actors.rooms.room_mut(&name) else { return Reply::Later };
            env.metrics().room_links_used.add(1);
            tracing::info!(
                target: "rooms",
                room = name,
                account = moved.local,
                link = link.hash.id(),
                uses = link.uses,
                uses_max = link.uses_max,
                "a link has made a member"
            );
            room.replace(record);
            standing::moved(env, fx, room, &moved);
            let newcomer = Newcomer { affiliation: Affiliation::Member, ..newcomer };
            enter::sit_down(actors, env, fx, &name, &newcomer, &[]);
            Reply::Later
        });
        Ok(Ok(after))
    })
}

/// The operator adds a link to a room that is in memory.
pub(super) fn add(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (name, link): (&str, RoomLink),
    reply: SyncSender<Outcome>,
) {
    let (name, most) = (name.to_owned(), env.config.rooms.links_max as usize);
    commit::commit(actors, env, fx, Asker::nobody(&name.clone()), move |transaction| -> Change {
        let Ok(record) = commit::find(transaction, &name)? else {
            return Ok(Ok(answer(reply, Outcome::NoSuchRoom)));
        };
        let is_added = transaction.add_room_link(record.actor, &link, most)?;
        let after: After = Box::new(move |_, env, _| {
            let outcome = match is_added {
                true => {
                    tracing::info!(target: "rooms", room = name, link = link.hash.id(), "a link is made");
                    Outcome::Done
                }
                false => {
                    env.metrics().refused_room_links.add(1);
                    let text = format!("the room has {most} links, as many as may be (rooms.links_max)");
                    Outcome::Refused(StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text))
                }
            };
            let _ = reply.try_send(outcome);
            Reply::Later
        });
        Ok(Ok(after))
    });
}

/// The operator makes a link of a room void, or all of them.
pub(super) fn revoke(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (name, id): (&str, Option<String>),
    reply: SyncSender<Outcome>,
) {
    let name = name.to_owned();
    commit::commit(actors, env, fx, Asker::nobody(&name.clone()), move |transaction| -> Change {
        let Ok(record) = commit::find(transaction, &name)? else {
            return Ok(Ok(answer(reply, Outcome::NoSuchRoom)));
        };
        let revoked = transaction.revoke_room_links(record.actor, id.as_deref())?;
        tracing::info!(target: "rooms", room = name, link = id.as_deref().unwrap_or("all"), revoked, "links are revoked");
        Ok(Ok(answer(reply, Outcome::Revoked(revoked))))
    });
}

fn answer(reply: SyncSender<Outcome>, outcome: Outcome) -> After {
    Box::new(move |_, _, _| {
        let _ = reply.try_send(outcome);
        Reply::Later
    })
}
