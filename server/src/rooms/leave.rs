//! Leaving a room (XEP-0045 §7.14), on one's own or because one's seat is lost.

use crate::env::Env;
use crate::occupancy::occupants::{OccupantKey, SeatEnd};
use crate::occupancy::payloads::Payload;
use crate::occupancy::room::Room;
use crate::proto::muc::status::Status;
use crate::proto::muc::user::UserItem;
use crate::rooms::enter::shown_of;
use crate::rooms::show::Shown;
use crate::rooms::visit::{Ack, Visit};
use crate::user::actors::{Actors, Effects};

/// A client has left, or its session is over.
pub(super) fn left(actors: &mut Actors, env: &Env, fx: &mut Effects, visit: &Visit<'_>) -> Ack {
    let farewell = visit.element(fx).map(|presence| shown_of(&presence)).unwrap_or_default();
    end_seat(actors, env, fx, visit, (farewell, &[]))
}

/// A seat has not taken what was said in the room, or its client has answered with an error: it is no seat any more, and its
/// client hears so by status 333.
pub(super) fn lost(actors: &mut Actors, env: &Env, fx: &mut Effects, visit: &Visit<'_>) -> Ack {
    env.metrics().room_seats_lost.add(1);
    end_seat(actors, env, fx, visit, (Box::default(), &[Status::RemovedByError]))
}

fn end_seat(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    (farewell, statuses): (Box<[u8]>, &[Status]),
) -> Ack {
    let Some(room) = actors.rooms.room_mut(visit.name) else { return Ack::Now };
    let Some(end) = room.occupants.remove_seat(visit.local, visit.resource) else { return Ack::Now };
    room.seats_changed();
    match end {
        SeatEnd::OneOfSeveral(key) => {
            let occupant = room.occupants.get(key);
            Shown::gone(occupant, statuses).show_itself(env, fx, room, &[visit.resource]);
        }
        SeatEnd::Last(mut occupant) => {
            occupant.payload = Payload::alone(&farewell);
            say_goodbye(env, fx, room, &Shown::gone(&occupant, statuses));
        }
    }
    Ack::Now
}

/// An occupant that has been removed is seen to go, by itself and by all others.
fn say_goodbye(env: &Env, fx: &mut Effects, room: &Room, shown: &Shown<'_>) {
    env.metrics().room_occupants.sub(1);
    shown.show_others(env, fx, room);
    shown.show_itself(env, fx, room, &shown.occupant.seats);
}

/// Somebody has to leave: kicked, banned, or a member no more.
pub(super) fn remove(
    env: &Env,
    fx: &mut Effects,
    room: &mut Room,
    key: OccupantKey,
    (statuses, item, is_important): (&[Status], UserItem<'_>, bool),
) {
    let Some(mut occupant) = room.occupants.remove(key) else { return };
    occupant.payload = Payload::default();
    room.seats_changed();
    let shown = Shown { item, is_important, ..Shown::gone(&occupant, statuses) };
    say_goodbye(env, fx, room, &shown);
}
