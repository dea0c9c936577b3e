//! From a stanza for a room to the function that knows what to do with it.

use whimbrel_storage::directory::DirectoryError;

use crate::effects::work;
use crate::env::Env;
use crate::occupancy::inbox::Next;
use crate::occupancy::room::Room;
use crate::proto::address;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::muc::error;
use crate::rooms::visit::{Ack, Visit};
use crate::rooms::{
    ask, destroy, enter, invite, leave, membership, private, recall, refresh, request as requests, show,
    speak, subject,
};
use crate::service::request;
use crate::stanza::{Delivery, Kind, Traits, Type};
use crate::user::actors::{Actors, Effects};

/// A stanza for a room of which this worker is the home. While the room is busy it waits.
pub fn receive(actors: &mut Actors, env: &Env, fx: &mut Effects, d: &Delivery<'_>) {
    fx.work.add(work::STANZA);
    if is_from_server(d, Type::Subscribe) {
        actors.rooms.inbox(d.to_local).end();
        return go_on(actors, env, fx, d.to_local);
    }
    if recall::is_question(d) {
        recall::answer(actors, env, fx, d);
        return rest(actors, env, fx, d.to_local);
    }
    if actors.rooms.is_busy(d.to_local) {
        if !hold(actors, env, fx, d) {
            env.metrics().refused_room_waiting.add(1);
            let text = "too much waits for this room; try again later";
            let error = StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text);
            if let Some(visit) = Visit::of(d) {
                visit.refuse(env, fx, error);
            }
            settle(actors, env, fx, d);
        }
        return;
    }
    let begun = fx.work.spent();
    take(actors, env, fx, d);
    // Where it lives here, it is the sender's turn.
    if env.home_of(address::local_of(d.from)) != env.worker {
        charge(env, fx, d, begun);
    }
    rest(actors, env, fx, d.to_local);
}

/// Lets a stanza wait until the room has written or read. `false`: too much waits.
fn hold(actors: &mut Actors, env: &Env, fx: &Effects, d: &Delivery<'_>) -> bool {
    let most = env.config.rooms.waiting_kib as usize * 1024;
    // While a room is made, whoever makes it has no seat yet.
    let has_seat = Visit::of(d)
        .is_some_and(|visit| actors.rooms.room(visit.name).is_none_or(|room| visit.seat(room).is_some()));
    let inbox = actors.rooms.inbox(d.to_local);
    let before = inbox.bytes();
    if before + d.bytes.len() > most {
        // What waits of its sender is looked for.
        fx.work.add_contacts(inbox.len());
    }
    let is_held = inbox.hold(d, most, has_seat);
    env.metrics().room_waiting.add((inbox.bytes() - before) as u64);
    is_held
}

/// The sender pays for what its stanza has led to: a message, or somebody who comes and goes, has as many recipients as the room
/// has occupants. What the server has sent in a client's name is not its doing.
fn charge(env: &Env, fx: &mut Effects, d: &Delivery<'_>, begun: u64) {
    if !d.traits.has(Traits::FROM_SERVER) {
        request::bill(env, fx, d.from, fx.work.spent() - begun);
    }
}

/// Work units for what has waited and is served at once; then all others of the worker have their turn. What is begun is finished.
const SERVED_UNITS: u64 = 128;

/// Goes on with what has waited, unless the room has become busy again.
pub(super) fn go_on(actors: &mut Actors, env: &Env, fx: &mut Effects, name: &str) {
    let until = fx.work.spent() + SERVED_UNITS;
    while fx.work.spent() < until {
        let inbox = actors.rooms.inbox(name);
        let before = inbox.bytes();
        let Some(next) = inbox.take() else { break };
        env.metrics().room_waiting.sub((before - inbox.bytes()) as u64);
        fx.work.add(work::STANZA);
        let Next::Stanza(waiting) = next else {
            if let Some(order) = actors.orders.take(name) {
                order(actors, env, fx);
            }
            continue;
        };
        let d = waiting.delivery(name);
        let begun = fx.work.spent();
        take(actors, env, fx, &d);
        charge(env, fx, &d, begun);
    }
    give_way(actors, env, fx, name);
    rest(actors, env, fx, name);
}

/// If more has waited than is served at once, the room stays busy until its worker's own mailbox has come to what the room tells
/// itself: so a thousand who enter after a restart cost others no more than [`SERVED_UNITS`] and one of them at a time.
fn give_way(actors: &mut Actors, env: &Env, fx: &mut Effects, name: &str) {
    let inbox = actors.rooms.inbox(name);
    if inbox.is_busy() || inbox.is_free() {
        return;
    }
    inbox.begin();
    env.metrics().room_gave_way.add(1);
    let go_on = Delivery {
        kind: Kind::Presence,
        typ: Type::Subscribe,
        traits: Traits::FROM_SERVER,
        from: "",
        to_local: name,
        to_resource: None,
        id: None,
        bytes: b"<presence type='subscribe'/>",
        pending_ack: None,
    };
    fx.links.ask(env.worker).visit(&go_on);
}

/// Presence of a type of which no client's comes so far: accounts' homes, and the room itself, tell the room something by it.
fn is_from_server(d: &Delivery<'_>, typ: Type) -> bool {
    d.traits.has(Traits::FROM_SERVER) && d.kind == Kind::Presence && d.typ == typ
}

pub(super) fn rest(actors: &mut Actors, env: &Env, fx: &mut Effects, name: &str) {
    destroy::if_deserted(actors, env, fx, name);
    actors.rooms.rest(name);
    env.metrics().rooms.set(actors.rooms.len() as u64);
    env.metrics().room_presences.set(actors.rooms.payloads.len() as u64);
    env.metrics().room_clients.set(actors.rooms.clients.len() as u64);
}

fn settle(actors: &mut Actors, env: &Env, fx: &mut Effects, d: &Delivery<'_>) {
    if let Some(pending_ack) = d.pending_ack {
        actors.users.notify_durable(env, fx, pending_ack);
    }
}

fn take(actors: &mut Actors, env: &Env, fx: &mut Effects, d: &Delivery<'_>) {
    if [Type::Probe, Type::Unsubscribed, Type::Subscribed].into_iter().any(|typ| is_from_server(d, typ)) {
        return hear(actors, env, fx, d);
    }
    let ack = match Visit::of(d) {
        Some(visit) => match load(actors, env, fx, visit.name) {
            Ok(()) => handle(actors, env, fx, &visit),
            Err(error) => visit.unreadable(env, fx, &error),
        },
        None => Ack::Now,
    };
    if ack == Ack::Now {
        settle(actors, env, fx, d);
    }
}

/// What accounts' homes tell rooms: an account is gone (`service::rooms`), or has removed its bookmark of the room
/// (`service::pubsub::groups`), or one of its clients has not got all presence (`user::seats`).
fn hear(actors: &mut Actors, env: &Env, fx: &mut Effects, d: &Delivery<'_>) {
    match load(actors, env, fx, d.to_local) {
        Ok(()) if d.typ == Type::Probe => refresh::refresh(actors, env, fx, d.to_local),
        Ok(()) if d.typ == Type::Subscribed => show::show_again(actors, env, fx, d),
        Ok(()) => membership::forsaken(actors, env, fx, d.to_local, address::local_of(d.from)),
        Err(error) => tracing::error!(room = d.to_local, %error, "cannot read the directory"),
    }
}

/// Has the room in memory, if there is one.
pub(super) fn load(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    name: &str,
) -> Result<(), DirectoryError> {
    if actors.rooms.room(name).is_some() {
        return Ok(());
    }
    fx.work.add(work::LOOK);
    if let Some(record) = env.shared.directory.room(name)? {
        actors.rooms.put(Room::new(record));
    }
    Ok(())
}

fn handle(actors: &mut Actors, env: &Env, fx: &mut Effects, visit: &Visit<'_>) -> Ack {
    let d = visit.d;
    let is_farewell = d.kind == Kind::Presence && matches!(d.typ, Type::Unavailable | Type::Error);
    if !is_farewell
        && let Some(room) = actors.rooms.room(visit.name)
        && room.is_locked
        && room.occupants.of_account(visit.local).is_empty()
    {
        return visit.refuse(env, fx, error::locked());
    }
    let is_there = actors.rooms.room(visit.name).is_some();
    match (d.kind, d.typ, d.to_resource) {
        (Kind::Presence, Type::Available, Some(nick)) => enter::presence(actors, env, fx, visit, nick),
        (Kind::Presence, Type::Available, None) => visit.refuse(env, fx, error::nick_needed()),
        (Kind::Presence, Type::Unavailable, _) => leave::left(actors, env, fx, visit),
        (Kind::Presence, Type::Error, _) => leave::lost(actors, env, fx, visit),
        (Kind::Presence, ..) => Ack::Now,
        (Kind::Message, Type::Error, nick) => private::bounced(actors, env, fx, visit, nick),
        (Kind::Iq, Type::Result | Type::Error, Some(nick)) => ask::answer(actors, env, fx, visit, nick),
        (Kind::Iq, Type::Result | Type::Error, None) => Ack::Now,
        _ if !is_there => visit.refuse(env, fx, error::no_room()),
        (Kind::Message, Type::Groupchat, None) if d.traits.has(Traits::SUBJECT) => {
            subject::change(actors, env, fx, visit)
        }
        (Kind::Message, Type::Groupchat, None) => speak::speak(actors, env, fx, visit),
        (Kind::Message, Type::Groupchat, Some(_)) => visit.refuse(env, fx, StanzaCondition::BadRequest),
        (Kind::Message, _, Some(nick)) => private::send(actors, env, fx, visit, nick),
        (Kind::Message, _, None) => invite::message(actors, env, fx, visit),
        (Kind::Iq, _, None) => requests::to_room(actors, env, fx, visit),
        (Kind::Iq, _, Some(nick)) => ask::ask(actors, env, fx, visit, nick),
    }
}
