//! The end of a room (XEP-0045 §10.9). Its number is never used again: a room that is made later under its name is another one.

use whimbrel_storage::directory::rooms::RoomFlags;

use crate::env::Env;
use crate::proto::muc::owner::Destroy;
use crate::proto::muc::user::DestroyedRoom;
use crate::rooms::commit::{self, After, Outcome};
use crate::rooms::show::Shown;
use crate::rooms::visit::{Ack, Asker};
use crate::service::Reply;
use crate::user::actors::{Actors, Effects};

/// Destroys a room that nobody is in any more, if it does not outlive that, or was never opened.
pub(super) fn if_deserted(actors: &mut Actors, env: &Env, fx: &mut Effects, name: &str) {
    let Some(room) = actors.rooms.room(name) else { return };
    let stays = room.has(RoomFlags::PERSISTENT) && !room.is_locked;
    if !stays && room.occupants.is_empty() && !actors.rooms.is_busy(name) {
        destroy(actors, env, fx, Asker::nobody(name), Destroy::default());
    }
}

/// Destroys a room. Those who are in it hear why, and where to go instead.
pub(super) fn destroy(actors: &mut Actors, env: &Env, fx: &mut Effects, asker: Asker, order: Destroy) -> Ack {
    let name = asker.name.clone();
    commit::commit(actors, env, fx, asker, move |transaction| -> Outcome {
        if let Some(record) = transaction.rooms().room(&name)? {
            transaction.destroy_room(&record)?;
        }
        let after: After = Box::new(move |actors, env, fx| {
            env.metrics().rooms_destroyed.add(1);
            is_over(actors, env, fx, &name, &order);
            Reply::Done
        });
        Ok(Ok(after))
    })
}

/// A room is gone from the directory.
pub(super) fn is_over(actors: &mut Actors, env: &Env, fx: &mut Effects, name: &str, order: &Destroy) {
    let Some(room) = actors.rooms.take(name) else { return };
    let destroyed = DestroyedRoom {
        alternate: order.alternate.as_ref().map(|jid| jid.as_str()),
        password: order.password.as_deref(),
        reason: &order.reason,
    };
    env.metrics().room_occupants.sub(room.occupants.len() as u64);
    for (_, occupant) in room.occupants.iter() {
        let shown = Shown { destroyed: Some(&destroyed), ..Shown::gone(occupant, &[]) };
        shown.show_itself(env, fx, &room, &occupant.seats);
    }
}
