//! Occupants that come from the program before.

use whimbrel_storage::actor::ActorId;

use crate::effects::work;
use crate::env::Env;
use crate::occupancy::Rooms;
use crate::occupancy::occupants::{Audience, Occupant};
use crate::occupancy::pace::Pace;
use crate::occupancy::room::Room;
use crate::occupancy::saved::OccupantRecord;
use crate::occupancy::seats::Seats;
use crate::proto::muc::occupant::OccupantIds;
use crate::user::actors::{Actors, Effects};

/// An occupant is where it was. In a room that is not in the directory nobody is.
pub fn restore(actors: &mut Actors, env: &Env, fx: &Effects, record: &OccupantRecord<'_>) {
    if actors.rooms.room(record.room).is_none() {
        fx.work.add(work::LOOK);
        match env.shared.directory.room(record.room) {
            Ok(Some(found)) => {
                let mut room = Room::new(found);
                room.is_locked = record.is_locked;
                actors.rooms.put(room);
            }
            Ok(None) => return,
            Err(error) => return tracing::error!(room = record.room, %error, "cannot read the directory"),
        }
    }
    let (account, home) = (ActorId::from_raw(record.account), env.home_of(record.local));
    let Rooms { payloads, clients, .. } = &mut actors.rooms;
    let (presence, hats) = (payloads.intern(record.presence), payloads.intern(record.hats));
    let mut seats = record.seats.iter().map(|seat| clients.seat(account, (record.local, seat), home));
    let Some(mut all) = seats.next().map(Seats::One) else { return };
    seats.for_each(|seat| all.push(seat));
    let (hasher, jid) = (actors.rooms.hasher(), env.bare_jid(record.local));
    let Some(room) = actors.rooms.room_mut(record.room) else { return };
    let occupant = Occupant {
        nick: record.nick.into(),
        seats: all,
        id: OccupantIds::new(&room.record.secret).of(&jid, account),
        affiliation: record.affiliation,
        role: record.role,
        // Moderators may have been shown it, and see it leave.
        seen_by: if record.is_shown { Audience::Everybody } else { Audience::Moderators },
        presence,
        hats,
        pace: Pace::default(),
    };
    room.occupants.enter(occupant, &hasher);
    env.metrics().room_occupants.add(1);
}
