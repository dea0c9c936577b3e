//! Stanzas of rooms for clients of this worker.
//!
//! | what it is | a client that has no room for it |
//! | --- | --- |
//! | what was said, or taken back | one that has lost its connection keeps a reference into the room's archive ([`recall`]), or into the log where that has none ([`spool`]); without room for that, any client loses its seat: the room is told, and tells the client (status 333), which reads the rest in the room's archive |
//! | somebody's presence | gets the newest of each occupant when it reads again; beyond `limits.inactive_bytes` arrivals give way to departures, and it is shown again who is there ([`show_again`]) |
//! | a chat state | does not get it |
//! | what it must know of itself | is treated as with everything of its own account |
//!
//! So a client that stays in a room has all that was said in it, and one that reads slowly costs others neither memory nor time.

use smallvec::SmallVec;
use whimbrel_storage::jid::JidRef;

use crate::effects::work;
use crate::env::Env;
use crate::exchange::fanout::{Cast, Weight};
use crate::proto::address;
use crate::proto::muc::retraction::RoomRetraction;
use crate::stanza::{Delivery, Kind, Traits, Type};
use crate::user::actors::{Actors, Effects};
use crate::user::entities::Entity;
use crate::user::flow::{Class, Outgoing};
use crate::user::inactive::Urgency;
use crate::user::presence::again::Part;
use crate::user::tables::ResourceKey;
use crate::user::{archive, blocking, delivery, push, recall, room, spool};

/// What a worker knows of its clients' seats. Where they sit only the rooms know.
#[derive(Default)]
pub struct Seats {
    /// Seats that have not taken something, until the room has heard of it: they get nothing of what it says meanwhile.
    lost: Vec<(ResourceKey, Box<str>)>,
}

impl Seats {
    fn is_lost(&self, key: ResourceKey, room: &str) -> bool {
        self.lost.iter().any(|(lost, name)| *lost == key && **name == *room)
    }

    fn found(&mut self, key: ResourceKey, room: &str) {
        self.lost.retain(|(lost, name)| *lost != key || **name != *room);
    }

    /// A resource is gone.
    pub fn forget(&mut self, key: ResourceKey) {
        if !self.lost.is_empty() {
            self.lost.retain(|(lost, _)| *lost != key);
        }
    }
}

/// Clients of this worker get a stanza of a room.
pub fn receive(actors: &mut Actors, env: &Env, fx: &mut Effects, cast: &Cast<'_>) {
    if matches!(cast.weight, Weight::Absent | Weight::AbsentOfGroup) {
        return push::group::receive(actors, env, fx, cast);
    }
    if matches!(cast.weight, Weight::Recalled | Weight::RecallEnd) {
        fx.work.add_tree(cast.head.len() + cast.tail.len());
        return recall::receive(actors, env, cast);
    }
    let Ok(from) = JidRef::parse(cast.from) else { return };
    let (room, room_jid) = (address::local_of(cast.from), address::bare_of(cast.from));
    let taken_back = (cast.weight == Weight::Retraction).then(|| target_of(cast)).flatten();
    let mut bytes = fx.buffers.lend();
    let mut away: SmallVec<[ResourceKey; 8]> = SmallVec::new();
    for target in cast.targets() {
        fx.work.add(work::RECIPIENT);
        let (local, Some(resource)) = address::local_and_resource_of_target(target) else { continue };
        let Some(user) = actors.users.find(local) else { continue };
        let Some(key) = actors.users.find_resource(user, resource) else { continue };
        if let Some(taken_back) = &taken_back {
            archive::in_room::forget(actors, env, fx, key, (room_jid, taken_back));
            push::group::forget(actors, key, (room_jid, taken_back));
        }
        if blocking::user_blocks(&actors.users, user, &from) {
            continue;
        }
        let is_answer = cast.weight == Weight::Answer;
        let is_for_those_inside =
            is_said(cast.weight) || matches!(cast.weight, Weight::Passing | Weight::Presence);
        if is_for_those_inside && !has_entered(actors, key, room) {
            continue;
        }
        if !is_answer && !actors.seats.lost.is_empty() && actors.seats.is_lost(key, room) {
            if cast.weight != Weight::End {
                continue;
            }
            actors.seats.found(key, room);
        }
        bytes.clear();
        write(env, cast, (local, resource), &mut bytes);
        let conn = actors.users.resource(key).conn;
        let since = fx.out.waits_since(conn, env.now);
        if give(actors, env, fx, key, (cast, room), &bytes) == Given::ToSpool {
            away.push(key);
        }
        if is_for_those_inside {
            fx.out.may_wait(conn, since);
        }
    }
    fx.buffers.give_back(bytes);
    if !away.is_empty() {
        for key in spool::keep(actors, env, fx, cast, &away) {
            lose(actors, env, fx, key, room);
        }
    }
}

/// Whether a client that stays in a room must have it.
fn is_said(weight: Weight) -> bool {
    matches!(weight, Weight::Message | Weight::Retraction)
}

/// The id of what is taken back.
fn target_of(cast: &Cast<'_>) -> Option<String> {
    let retraction = RoomRetraction::read(&[cast.head, cast.tail].concat())?;
    Some(retraction.target().to_owned())
}

/// Whether a client has asked to enter a room and not left it. Another one may have had its resource, and the room may not know
/// yet that it is gone.
fn has_entered(actors: &Actors, key: ResourceKey, room: &str) -> bool {
    actors.users.resource(key).is_in_room(room)
}

/// Writes what a room has sent, for one seat.
pub(super) fn write(env: &Env, cast: &Cast<'_>, (local, resource): (&str, &str), out: &mut Vec<u8>) {
    cast.write(&env.shared.domain, (local, resource), out);
}

/// What becomes of a stanza for a client.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Given {
    /// It has it, or was told that it has not.
    Done,
    /// It has no connection, and the log is to keep it for all who have none.
    ToSpool,
}

fn give(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    key: ResourceKey,
    (cast, room_name): (&Cast<'_>, &str),
    bytes: &[u8],
) -> Given {
    let (class, urgency) = match cast.weight {
        Weight::Message | Weight::Retraction => match recall::class_of(actors, env, fx, key, bytes) {
            Some(class) => (class, Urgency::Now),
            None => return Given::ToSpool,
        },
        Weight::Passing => (Class::Foreign, Urgency::CanWait),
        Weight::Presence => (Class::Presence(cast.from), Urgency::Replaceable),
        _ => (Class::Own, Urgency::Now),
    };
    if is_said(cast.weight) {
        if !room::takes(actors, env, fx, key, class, bytes.len()) {
            lose(actors, env, fx, key, room_name);
            return Given::Done;
        }
        env.metrics().room_deliveries.add(1);
    }
    delivery::push_as(actors, env, fx, key, &Outgoing { kind: cast.kind, class, urgency, bytes });
    Given::Done
}

/// The rooms of this server in which a client is.
pub fn rooms_of(actors: &Actors, env: &Env, key: ResourceKey) -> Vec<Box<str>> {
    let is_on = env.services().rooms.is_some();
    let directed =
        actors.users.resource(key).directed.iter().filter(|_| is_on).flat_map(|known| known.iter());
    let room = |entity| match entity {
        Entity::Room(room) => Some(room.into()),
        Entity::Jid(_) => None,
    };
    directed.filter_map(room).collect()
}

/// A client has not got all presence: a room in which it is shows it again who is there, as far as they fall to this part.
pub fn show_again(env: &Env, fx: &mut Effects, (room_name, full): (&str, &str), part: Part) {
    let again = Delivery {
        kind: Kind::Presence,
        typ: Type::Subscribed,
        traits: Traits::FROM_SERVER,
        from: full,
        to_local: room_name,
        to_resource: None,
        id: Some(&part.text()),
        bytes: b"<presence type='subscribed'/>",
        pending_ack: None,
    };
    fx.route_to_room(env, &again);
}

/// A seat has not taken something: the room hears of it.
fn lose(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey, room_name: &str) {
    env.metrics().dropped_output.add(1);
    actors.seats.lost.push((key, room_name.into()));
    let from = actors.users.full_jid(env, key);
    let error = Delivery {
        kind: Kind::Presence,
        typ: Type::Error,
        traits: Traits::FROM_SERVER,
        from: &from,
        to_local: room_name,
        to_resource: None,
        id: None,
        bytes: b"<presence type='error'/>",
        pending_ack: None,
    };
    fx.route_to_room(env, &error);
}
