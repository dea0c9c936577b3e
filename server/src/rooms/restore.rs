//! Occupants that come from the program before.

use whimbrel_storage::actor::ActorId;

use crate::effects::work;
use crate::env::Env;
use crate::occupancy::occupants::Occupant;
use crate::occupancy::pace::Pace;
use crate::occupancy::room::Room;
use crate::occupancy::saved::OccupantRecord;
use crate::proto::muc::occupant::OccupantIds;
use crate::user::actors::{Actors, Effects};

/// An occupant is where it was. In a room that is not in the directory nobody is.
pub fn restore(actors: &mut Actors, env: &Env, fx: &Effects, record: &OccupantRecord<'_>) {
    if actors.rooms.room(record.room).is_none() {
        fx.work.add(work::LOOK);
        match env.shared.directory.room(record.room) {
            Ok(Some(found)) => {
                let mut room = Room::new(found, actors.rooms.hasher());
                room.is_locked = record.is_locked;
                actors.rooms.put(record.room, room);
            }
            Ok(None) => return,
            Err(error) => return tracing::error!(room = record.room, %error, "cannot read the directory"),
        }
    }
    let Some(room) = actors.rooms.room_mut(record.room) else { return };
    let account = ActorId::from_raw(record.account);
    let jid = env.bare_jid(record.local);
    room.occupants.enter(Occupant {
        nick: record.nick.into(),
        local: record.local.into(),
        account,
        id: OccupantIds::new(&room.record.secret).of(&jid, account),
        affiliation: record.affiliation,
        role: record.role,
        seats: record.seats.iter().map(|seat| (*seat).into()).collect(),
        is_shown: record.is_shown,
        presence: record.presence.into(),
        hats: record.hats.into(),
        pace: Pace::default(),
    });
    env.metrics().room_occupants.add(1);
}
