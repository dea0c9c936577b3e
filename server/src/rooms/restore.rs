//! Occupants that come from the program before.

use whimbrel_storage::actor::ActorId;

use crate::effects::work;
use crate::env::Env;
use crate::occupancy::Rooms;
use crate::occupancy::occupants::{Audience, Occupant};
use crate::occupancy::room::Room;
use crate::occupancy::saved::OccupantRecord;
use crate::occupancy::seats::Seats;
use crate::proto::muc::occupant::OccupantIds;
use crate::proto::muc::rules::Standing;
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
    let payload = payloads.intern(record.presence, record.hats);
    let mut seats = record.seats.iter().map(|seat| clients.seat(account, (record.local, seat), home));
    let Some(mut all) = seats.next().map(Seats::from) else { return };
    seats.for_each(|seat| all.push(seat));
    let (hasher, jid) = (actors.rooms.hasher(), env.bare_jid(record.local));
    let Some(room) = actors.rooms.room_mut(record.room) else { return };
    let id = OccupantIds::new(&room.record.secret).of(&jid, account);
    let standing = Standing { affiliation: record.affiliation, role: record.role };
    let mut occupant = Occupant::new(record.nick, all, id, standing, payload);
    // Moderators may have been shown it, and see it leave.
    occupant.show_to(if record.is_shown { Audience::Everybody } else { Audience::Moderators });
    room.occupants.enter(occupant, &hasher);
    env.metrics().room_occupants.add(1);
}
