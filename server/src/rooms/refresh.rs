//! A room looks again at what the directory says of it: something else than the room has changed who belongs to it.

use crate::effects::work;
use crate::env::Env;
use crate::occupancy::room::Room;
use crate::proto::muc::Affiliation;
use crate::proto::muc::owner::Destroy;
use crate::rooms::destroy;
use crate::rooms::standing::{self, By, Moved};
use crate::rooms::visit::Asker;
use crate::user::actors::{Actors, Effects};
use whimbrel_storage::directory::DirectoryError;

/// Looks again at the room's row and at what its occupants are to it. A room to which no account belongs any more, and that nobody
/// is in, is destroyed.
pub(super) fn refresh(actors: &mut Actors, env: &Env, fx: &mut Effects, name: &str) {
    let Some(room) = actors.rooms.room_mut(name) else { return };
    let (moves, is_deserted) = match look(env, fx, room) {
        Ok(found) => found,
        Err(error) => return tracing::error!(room = name, %error, "cannot read the directory"),
    };
    moves.iter().for_each(|moved| standing::moved(env, fx, room, moved));
    if is_deserted && room.occupants.is_empty() {
        destroy::destroy(actors, env, fx, Asker::nobody(name), Destroy::default());
    }
}

/// Reads the row; occupants that are something else now, and whether no account belongs to the room.
fn look(env: &Env, fx: &Effects, room: &mut Room) -> Result<(Vec<Moved>, bool), DirectoryError> {
    fx.work.add(work::LOOK * (1 + room.occupants.len() as u64));
    env.shared.directory.rooms(|rooms| {
        let Some(record) = rooms.room(room.name())? else { return Ok((Vec::new(), false)) };
        room.record = record;
        let mut moves: Vec<Moved> = Vec::new();
        for (_, occupant) in room.occupants.iter() {
            let (local, before) = (&*occupant.local, occupant.affiliation);
            let found = rooms.affiliate(room.record.actor, &env.bare_jid(local), Some(local))?;
            let after = found.map_or(Affiliation::None, |found| found.affiliation);
            if before != after && moves.iter().all(|moved| moved.local != local) {
                moves.push(Moved { local: local.to_owned(), before, after, by: By::default() });
            }
        }
        Ok((moves, rooms.is_deserted(room.record.actor)?))
    })
}
