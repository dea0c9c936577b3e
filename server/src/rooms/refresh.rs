//! A room looks again at what the directory says of it: something else than the room has changed who belongs to it.

use crate::effects::work;
use crate::env::Env;
use crate::occupancy::room::Room;
use crate::proto::address;
use crate::proto::muc::Affiliation;
use crate::rooms::standing::{self, By, Moved};
use crate::user::actors::{Actors, Effects};
use whimbrel_storage::directory::DirectoryError;
use whimbrel_storage::directory::rooms::{AffiliationChanges, AffiliationVersion, RoomsView};

/// Looks again at the room's row and at what its occupants are to it. A room to which no account belongs any more ends when
/// nobody is in it.
pub(super) fn refresh(actors: &mut Actors, env: &Env, fx: &mut Effects, name: &str) {
    let Some(room) = actors.rooms.room_mut(name) else { return };
    let (changes, is_deserted) = match look(env, fx, room) {
        Ok(found) => found,
        Err(error) => return tracing::error!(room = name, %error, "cannot read the directory"),
    };
    for (moved, is_there) in &changes {
        match is_there {
            true if moved.before == moved.after => {}
            true => standing::moved(env, fx, room, moved),
            // Bookmarks went with the account, or an heir has them already.
            false => standing::show(env, fx, room, moved),
        }
    }
    if is_deserted {
        room.forsake();
    }
}

/// Reads the row; those who are something else now, in the order in which they became that, and whether they are in the room; and
/// whether no account belongs to the room.
fn look(env: &Env, fx: &Effects, room: &mut Room) -> Result<(Vec<(Moved, bool)>, bool), DirectoryError> {
    fx.work.add(work::LOOK * (1 + room.occupants.len() as u64));
    env.shared.directory.rooms(|rooms| {
        let Some(record) = rooms.room(room.name())? else { return Ok((Vec::new(), false)) };
        let before = room.replace(record).version();
        let mut moves: Vec<(Moved, bool)> = changes(env, rooms, room, before)?;
        for (_, occupant) in room.occupants.iter() {
            let (local, before) = (occupant.local(), occupant.affiliation());
            let found = rooms.affiliate(room.record.actor, &env.bare_jid(local), Some(local))?;
            let after = found.map_or(Affiliation::None, |found| found.affiliation);
            let moved = Moved::new(local, (before, after), By::default());
            match moves.iter_mut().find(|(moved, _)| moved.local == local) {
                Some(told) => *told = (moved, true),
                None if before != after => moves.push((moved, true)),
                None => {}
            }
        }
        Ok((moves, rooms.is_deserted(room.record.actor)?))
    })
}

/// What the directory tells of changes since a version. What those were before who are not in the room nobody needs to know, but
/// that it was something else.
fn changes(
    env: &Env,
    rooms: RoomsView<'_>,
    room: &Room,
    since: AffiliationVersion,
) -> Result<Vec<(Moved, bool)>, DirectoryError> {
    let AffiliationChanges::Since(changed, removed) = rooms.changes_since(&room.record, since)? else {
        return Ok(Vec::new());
    };
    let changed = changed.into_iter().map(|one| (one.version, one.jid, one.affiliation, Affiliation::None));
    let removed =
        removed.into_iter().map(|one| (one.version, one.jid, Affiliation::None, Affiliation::Member));
    let mut all: Vec<_> = changed.chain(removed).collect();
    all.sort_by_key(|(version, ..)| *version);
    let moved = |(_, jid, after, before): (u64, String, Affiliation, Affiliation)| {
        let local = address::contact_here(&jid, &env.shared.domain)?;
        Some((Moved::new(local, (before, after), By::default()), false))
    };
    Ok(all.into_iter().filter_map(moved).collect())
}
