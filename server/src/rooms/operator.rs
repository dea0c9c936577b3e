//! What an operator asks of a room (`whimbrelctl room`): done on the room's home, and shown to those who are in it as if an owner
//! had done it. No rule of XEP-0045 §5 stands in the way but that a room has an owner.

use std::sync::mpsc::SyncSender;

use whimbrel_storage::directory::rooms::{HATS_MAX, Hat, Room as Record, RoomLink};
use whimbrel_storage::directory::{DirectoryError, WriteTransaction};
use whimbrel_storage::jid::Jid;

use crate::env::Env;
use crate::occupancy::room::Room;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::muc::config::ConfigChange;
use crate::proto::muc::owner::Destroy;
use crate::proto::muc::{Affiliation, Role, hats};
use crate::rooms::admin::{affiliate, has_room};
use crate::rooms::commit::{self, After};
use crate::rooms::standing::{self, By, Moved};
use crate::rooms::visit::{Ack, Asker};
use crate::rooms::waits::{self, Waits};
use crate::rooms::{destroy, links, membership, owner, receive, show};
use crate::service::Reply;
use crate::user::actors::{Actors, Effects};

/// What is asked.
pub enum Order {
    /// Who is in it.
    Occupants,
    /// Destroy it.
    Destroy(Destroy),
    /// Make somebody something to it.
    Affiliate {
        /// Bare JID.
        jid: Jid,
        /// What it becomes.
        affiliation: Affiliation,
        /// Why; empty for nothing.
        reason: String,
    },
    /// Configure it.
    Configure(ConfigChange),
    /// Add a link that makes members.
    AddLink(RoomLink),
    /// Make one of its links void, by its id, or all of them.
    RevokeLinks(Option<String>),
    /// Give somebody who belongs to it a hat, or take one.
    Hat {
        /// Bare JID.
        jid: Jid,
        /// What is done.
        hat: HatOrder,
    },
}

/// What is done with a hat (XEP-0317).
pub enum HatOrder {
    /// It is given, in place of one with the same URI.
    Give(Hat),
    /// The one with this URI is taken.
    Take(String),
}

/// Somebody who is in the room.
pub struct OccupantFacts {
    /// Its nick.
    pub nick: String,
    /// Its full JIDs.
    pub jids: Vec<String>,
    /// What it may do.
    pub role: Role,
}

/// What has come of it. A reply that never comes means that the directory could not be written.
pub enum Outcome {
    /// It is done, and on the disk.
    Done,
    /// Who is in it.
    Occupants(Vec<OccupantFacts>),
    /// So many links are void now.
    Revoked(u64),
    /// There is no such room.
    NoSuchRoom,
    /// It writes or reads at the moment, and as many orders wait for it as may.
    Busy,
    /// It may not be done.
    Refused(StanzaError),
}

/// Carries an order out on the room's home. While the room is busy the order waits for its turn in the room's inbox.
pub fn carry_out(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    name: &str,
    order: Order,
    reply: SyncSender<Outcome>,
) {
    if actors.rooms.is_busy(name) {
        return hold(actors, env, name, order, reply);
    }
    if let Err(outcome) = begin(actors, env, fx, name, order, &reply) {
        let _ = reply.try_send(outcome);
    }
    receive::rest(actors, env, fx, name);
}

/// Lets an order wait.
fn hold(actors: &mut Actors, env: &Env, name: &str, order: Order, reply: SyncSender<Outcome>) {
    if !actors.orders.has_room(name) {
        env.metrics().refused_room_waiting.add(1);
        let _ = reply.try_send(Outcome::Busy);
        return;
    }
    let room = name.to_owned();
    let then = Box::new(move |actors: &mut Actors, env: &Env, fx: &mut Effects| {
        if let Err(outcome) = begin(actors, env, fx, &room, order, &reply) {
            let _ = reply.try_send(outcome);
        }
    });
    actors.orders.put(name, then);
    let inbox = actors.rooms.inbox(name);
    let before = inbox.bytes();
    inbox.hold_order();
    env.metrics().room_waiting.add((inbox.bytes() - before) as u64);
}

/// `Err`: what to answer at once.
fn begin(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    name: &str,
    order: Order,
    reply: &SyncSender<Outcome>,
) -> Result<(), Outcome> {
    if actors.rooms.room(name).is_none() {
        let record = env.shared.directory.room(name).map_err(|error| unreadable(name, &error))?;
        actors.rooms.put(Room::new(record.ok_or(Outcome::NoSuchRoom)?));
    }
    let Some(room) = actors.rooms.room(name) else { return Err(Outcome::NoSuchRoom) };
    match order {
        Order::Occupants => Err(Outcome::Occupants(occupants(env, room))),
        Order::AddLink(link) => {
            links::add(actors, env, fx, (name, link), reply.clone());
            Ok(())
        }
        Order::RevokeLinks(id) => {
            links::revoke(actors, env, fx, (name, id), reply.clone());
            Ok(())
        }
        Order::Destroy(order) => {
            let reply = reply.clone();
            let done = move || {
                let _ = reply.try_send(Outcome::Done);
            };
            destroy::destroy_then(actors, env, fx, Asker::nobody(name), (order, Box::new(done)));
            Ok(())
        }
        Order::Configure(change) => {
            let configured = change.apply(room.config().clone(), env.config.rooms.occupants_max);
            let configured = configured.map_err(Outcome::Refused)?;
            let opened = |actors: &mut Actors, env: &Env, fx: &mut Effects, name: &str, record: Record| {
                if let Some(room) = actors.rooms.room_mut(name) {
                    let before = room.replace(record).config;
                    owner::opened(env, fx, room, &before);
                }
            };
            let job = |transaction: &mut WriteTransaction<'_>, record: &mut Record| {
                transaction.configure_room(record, configured)
            };
            write(actors, env, fx, (name, reply), job, opened)
        }
        Order::Affiliate { jid, affiliation, reason } => {
            let moved = moved(env, fx, room, &jid, (affiliation, reason))?;
            waits::has_room(actors, env).map_err(Outcome::Refused)?;
            make_it(actors, env, fx, (name, reply), moved);
            Ok(())
        }
        Order::Hat { jid, hat } => {
            let after = hats_after(env, room, &jid, hat)?;
            set_hats(actors, env, fx, (name, reply), (jid, after))
        }
    }
}

/// Makes an account something to the room, and answers when it is on the disk with what follows from it elsewhere.
fn make_it(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (name, reply): (&str, &SyncSender<Outcome>),
    moved: Moved,
) {
    let (name, reply) = (name.to_owned(), reply.clone());
    let (of_job, domain, now_ms) = (name.clone(), env.shared.domain.to_string(), env.unix_ms());
    let asker = Asker::nobody(&name);
    let job = move |transaction: &mut WriteTransaction<'_>| -> Result<_, DirectoryError> {
        let Ok(mut record) = commit::find(transaction, &of_job)? else { return Ok(None) };
        affiliate(transaction, &mut record, (&moved, None), (&domain, now_ms))?;
        Ok(Some((record, moved)))
    };
    commit::part(actors, env, fx, asker, job, move |actors, env, fx, _, made| {
        let Some((record, moved)) = made else {
            let _ = reply.try_send(Outcome::NoSuchRoom);
            return Ack::Now;
        };
        let done = move |_: &mut Actors, _: &Env, _: &mut Effects, is_durable| {
            if is_durable {
                let _ = reply.try_send(Outcome::Done);
            }
        };
        let mut waits = Waits::new(None, Box::new(done));
        let Actors { rooms, users, .. } = actors;
        if let Some(room) = rooms.room_mut(&name) {
            room.replace(record);
            standing::moved_for(env, fx, room, &moved, (&mut waits, &mut users.joins));
        }
        waits.end(actors, env, fx)
    });
}

/// Gives somebody other hats, and shows them.
fn set_hats(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    about: (&str, &SyncSender<Outcome>),
    (jid, (local, after)): (Jid, (String, Vec<Hat>)),
) -> Result<(), Outcome> {
    let shown = hats::written(&after);
    let job = move |transaction: &mut WriteTransaction<'_>, record: &mut Record| {
        transaction.set_hats(record, jid.as_str(), after).map(|_| ())
    };
    let show = move |actors: &mut Actors, env: &Env, fx: &mut Effects, name: &str, _| {
        let keys = actors.rooms.room(name).map(|room| room.occupants.of_account(&local));
        for key in keys.into_iter().flatten() {
            let Some(room) = actors.rooms.room(name) else { return };
            let before = room.occupants.get(key).payload.clone();
            let payload = actors.rooms.payloads.intern(before.presence(), &shown);
            let Some(room) = actors.rooms.room_mut(name) else { return };
            room.occupants.get_mut(key).payload = payload;
            show::show(env, fx, room, key, &[]);
        }
    };
    write(actors, env, fx, about, job, show)
}

/// The localpart of somebody, and the hats that it has afterwards.
fn hats_after(env: &Env, room: &Room, jid: &Jid, order: HatOrder) -> Result<(String, Vec<Hat>), Outcome> {
    let local = local_of(env, jid)?;
    let actor = room.record.actor;
    let found = env.shared.directory.rooms(|rooms| rooms.affiliate(actor, jid.as_str(), Some(local)));
    let found = found.map_err(|error| unreadable(room.name(), &error))?;
    let found = found.filter(|found| found.affiliation >= Affiliation::Member);
    let Some(mut hats) = found.map(|found| found.hats) else {
        return Err(refused(
            StanzaCondition::ItemNotFound,
            "it does not belong to the room: make it a member first",
        ));
    };
    match order {
        HatOrder::Give(hat) => match hats.iter().position(|other| other.uri == hat.uri) {
            Some(at) => hats[at] = hat,
            None if hats.len() >= HATS_MAX => {
                let text = "it has as many hats in the room as it may";
                return Err(refused(StanzaCondition::ResourceConstraint, text));
            }
            None => hats.push(hat),
        },
        HatOrder::Take(uri) => {
            let before = hats.len();
            hats.retain(|hat| hat.uri != uri);
            if hats.len() == before {
                return Err(refused(StanzaCondition::ItemNotFound, "it has no such hat"));
            }
        }
    }
    Ok((local.to_owned(), hats))
}

fn refused(condition: StanzaCondition, text: &'static str) -> Outcome {
    Outcome::Refused(StanzaError::from(condition).with_text(text))
}

/// The localpart of an account of this server.
fn local_of<'j>(env: &Env, jid: &'j Jid) -> Result<&'j str, Outcome> {
    let text = "only accounts of this server can be something to a room";
    address::contact_here(jid.as_str(), &env.shared.domain)
        .ok_or_else(|| refused(StanzaCondition::NotAcceptable, text))
}

fn unreadable(name: &str, error: &DirectoryError) -> Outcome {
    tracing::error!(room = name, %error, "cannot read the directory");
    Outcome::Refused(StanzaCondition::InternalServerError.into())
}

fn occupants(env: &Env, room: &Room) -> Vec<OccupantFacts> {
    let mut all: Vec<OccupantFacts> = room
        .occupants
        .iter()
        .map(|(_, occupant)| OccupantFacts {
            nick: occupant.nick.to_string(),
            jids: occupant
                .seats
                .iter()
                .map(|seat| format!("{}/{}", env.bare_jid(seat.local()), seat.resource()))
                .collect(),
            role: occupant.role(),
        })
        .collect();
    all.sort_by(|a, b| a.nick.cmp(&b.nick));
    all
}

/// What becomes of somebody, if that may be.
fn moved(
    env: &Env,
    fx: &Effects,
    room: &Room,
    jid: &Jid,
    (after, reason): (Affiliation, String),
) -> Result<Moved, Outcome> {
    let local = local_of(env, jid)?;
    let actor = room.record.actor;
    let found = env.shared.directory.rooms(|rooms| rooms.affiliate(actor, jid.as_str(), Some(local)));
    let before = found.map_err(|error| unreadable(room.name(), &error))?;
    let before = before.map_or(Affiliation::None, |found| found.affiliation);
    if before == Affiliation::Owner && after != Affiliation::Owner && room.record.counts.owners <= 1 {
        return Err(refused(StanzaCondition::Conflict, "it is the last owner: make another one first"));
    }
    let mut moved = Moved::new(local, (before, after), By { reason, ..By::default() });
    has_room(env, room, &[(moved.clone(), None)]).map_err(Outcome::Refused)?;
    membership::plan(env, fx, room, &mut moved);
    Ok(moved)
}

/// Writes a change of the room, and answers when it is on the disk and has been shown.
fn write(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    (name, reply): (&str, &SyncSender<Outcome>),
    job: impl FnOnce(&mut WriteTransaction<'_>, &mut Record) -> Result<(), DirectoryError> + Send + 'static,
    show: impl FnOnce(&mut Actors, &Env, &mut Effects, &str, Record) + Send + 'static,
) -> Result<(), Outcome> {
    let (name_of_job, reply) = (name.to_owned(), reply.clone());
    commit::commit(actors, env, fx, Asker::nobody(name), move |transaction| {
        let mut record = match commit::find(transaction, &name_of_job)? {
            Ok(record) => record,
            Err(error) => {
                let _ = reply.try_send(Outcome::NoSuchRoom);
                return Ok(Err(error));
            }
        };
        job(transaction, &mut record)?;
        let after: After = Box::new(move |actors, env, fx| {
            show(actors, env, fx, &name_of_job, record);
            let _ = reply.try_send(Outcome::Done);
            Reply::Later
        });
        Ok(Ok(after))
    });
    Ok(())
}
