//! The end of a room (XEP-0045 §10.9). Its number is never used again: a room that is made later under its name is another one.

use whimbrel_storage::directory::rooms::RoomFlags;
use whimbrel_storage::directory::{DirectoryError, WriteTransaction};

use crate::effects::work;
use crate::env::Env;
use crate::proto::errors::StanzaCondition;
use crate::proto::muc::owner::Destroy;
use crate::proto::muc::user::DestroyedRoom;
use crate::rooms::commit::{self, After, Outcome};
use crate::rooms::membership;
use crate::rooms::show::Shown;
use crate::rooms::visit::{Ack, Asker};
use crate::service::Reply;
use crate::service::pubsub::groups::{self, Holder};
use crate::user::actors::{Actors, Effects};

/// Members from whose bookmarks a room goes in one transaction: others write in between, however large it is.
const BOOKMARKS_AT_ONCE: usize = 128;

/// Destroys a room that nobody is in any more, if it does not outlive that, or was never opened, or the last account that belonged to
/// it is gone.
pub(super) fn if_deserted(actors: &mut Actors, env: &Env, fx: &mut Effects, name: &str) {
    let Some(room) = actors.rooms.room(name) else { return };
    let stays = room.has(RoomFlags::PERSISTENT) && !room.is_locked && !room.is_forsaken();
    if !stays && room.occupants.is_empty() && !actors.rooms.is_busy(name) {
        destroy(actors, env, fx, Asker::nobody(name), Destroy::default());
    }
}

/// What is done when a room is destroyed, and on the disk.
pub(super) type Done = Box<dyn FnOnce() + Send>;

/// Destroys a room. Those who are in it hear why, and where to go instead; it goes from the bookmarks in which the server keeps it.
pub(super) fn destroy(actors: &mut Actors, env: &Env, fx: &mut Effects, asker: Asker, order: Destroy) -> Ack {
    destroy_then(actors, env, fx, asker, (order, Box::new(|| ())))
}

/// As [`destroy`]; whoever waits for `done` hears that it goes no further when it is dropped.
pub(super) fn destroy_then(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    asker: Asker,
    end: (Destroy, Done),
) -> Ack {
    match holders(actors, env, fx, &asker.name) {
        Ok(holders) => clear(actors, env, fx, asker, (holders, end)),
        Err(error) => {
            tracing::error!(room = asker.name, %error, "cannot read the members of a room");
            asker.refuse(env, fx, StanzaCondition::InternalServerError.into());
            Ack::Now
        }
    }
}

/// Those in whose bookmarks the server keeps the room.
fn holders(actors: &Actors, env: &Env, fx: &Effects, name: &str) -> Result<Vec<Holder>, DirectoryError> {
    match actors.rooms.room(name) {
        Some(room) if groups::keeps(&env.config.rooms, room.config()) => {
            let holders = groups::holders(&env.shared.directory, &room.record, &env.shared.domain)?;
            fx.work.add(work::LOOK + holders.len() as u64 * work::ITEM);
            Ok(holders)
        }
        _ => Ok(Vec::new()),
    }
}

/// Takes the room out of its members' bookmarks, some at a time, and destroys it then: a client that finds it there would make another
/// room of its name when it comes. A crash in between leaves the room, which can be destroyed again.
fn clear(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    asker: Asker,
    (mut holders, end): (Vec<Holder>, (Destroy, Done)),
) -> Ack {
    if holders.is_empty() {
        return finish(actors, env, fx, asker, end);
    }
    let some = holders.split_off(holders.len().saturating_sub(BOOKMARKS_AT_ONCE));
    let jid = env.room_jid(&asker.name);
    let told = jid.clone();
    let job = move |transaction: &mut WriteTransaction<'_>| groups::forget(transaction, &jid, &some);
    commit::part(actors, env, fx, asker, job, move |actors, env, fx, asker, gone: Vec<String>| {
        for account in &gone {
            membership::forgotten(env, fx, &told, account);
        }
        clear(actors, env, fx, asker, (holders, end))
    })
}

fn finish(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    asker: Asker,
    (order, done): (Destroy, Done),
) -> Ack {
    let name = asker.name.clone();
    commit::commit(actors, env, fx, asker, move |transaction| -> Outcome {
        if let Some(record) = transaction.rooms().room(&name)? {
            transaction.destroy_room(&record)?;
        }
        let after: After = Box::new(move |actors, env, fx| {
            env.metrics().rooms_destroyed.add(1);
            is_over(actors, env, fx, &name, &order);
            done();
            Reply::Done
        });
        Ok(Ok(after))
    })
}

/// A room is gone from the directory.
fn is_over(actors: &mut Actors, env: &Env, fx: &mut Effects, name: &str, order: &Destroy) {
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
