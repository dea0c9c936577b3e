//! Members of private groups who are not there: their accounts' homes put the group into their bookmarks, and take it out; and
//! who takes it out is a member no more.

use whimbrel_storage::directory::rooms::RoomFlags;

use crate::effects::work;
use crate::env::Env;
use crate::exchange::membership::Membership;
use crate::occupancy::room::Room;
use crate::proto::muc::Affiliation;
use crate::rooms::register;
use crate::rooms::standing::{By, Moved};
use crate::rooms::visit::Asker;
use crate::rooms::waits::Waits;
use crate::service::pubsub::groups::{self, BookmarkChange};
use crate::user::actors::{Actors, Effects};
use crate::user::joins::Joins;

/// What a change means for the bookmark of a group with this address; `None`: nothing.
fn of<'a>(env: &Env, room: &'a Room, jid: &'a str, moved: &'a Moved) -> Option<Membership<'a>> {
    let (was, is) = (moved.before >= Affiliation::Member, moved.after >= Affiliation::Member);
    (was != is && groups::keeps(&env.config.rooms, room.config())).then(|| Membership {
        account: &moved.local,
        room: jid,
        name: &room.config().title,
        by: moved.by.local.as_deref().unwrap_or_default(),
        is_granted: is,
        is_invited: moved.by.has_invited,
        is_written: moved.bookmark.is_some(),
        pending_ack: None,
    })
}

/// Decides what becomes of an account's bookmark, before the change is written: both are written at once, so that a crash cannot
/// come between them.
pub(super) fn plan(env: &Env, fx: &Effects, room: &Room, moved: &mut Moved) {
    let jid = env.room_jid(room.name());
    moved.bookmark = of(env, room, &jid, moved).and_then(|it| BookmarkChange::of(env, fx, &it)).map(Box::new);
}

/// Tells the home of an account that belongs to a private group from now on, or no longer. `waits`: for what is kept there.
pub(super) fn changed(
    env: &Env,
    fx: &mut Effects,
    room: &Room,
    moved: &Moved,
    waits: Option<(&mut Waits, &mut Joins)>,
) {
    let jid = env.room_jid(room.name());
    let Some(membership) = of(env, room, &jid, moved) else { return };
    let is_kept = membership.is_granted && !membership.is_written;
    let pending_ack = waits.filter(|_| is_kept).and_then(|(waits, joins)| waits.one(joins, env));
    fx.links.to(env.home_of(&moved.local)).membership(&Membership { pending_ack, ..membership });
}

/// Tells the home of an account that a room is gone from its bookmarks: it is about to be destroyed.
pub(super) fn forgotten(env: &Env, fx: &mut Effects, room: &str, account: &str) {
    let membership = Membership {
        account,
        room,
        name: "",
        by: "",
        is_granted: false,
        is_invited: false,
        is_written: true,
        pending_ack: None,
    };
    fx.links.to(env.home_of(account)).membership(&membership);
}

/// An account has removed its bookmark of a room. In a private group that says so it is a member no more.
pub(super) fn forsaken(actors: &mut Actors, env: &Env, fx: &mut Effects, name: &str, local: &str) {
    let Some(room) = actors.rooms.room(name) else { return };
    let config = room.config();
    if !config.is_private_group() || !config.flags.has(RoomFlags::LEAVING_ENDS_MEMBERSHIP) {
        return;
    }
    fx.work.add(work::LOOK);
    let (actor, jid) = (room.record.actor, env.bare_jid(local));
    let before = match env.shared.directory.rooms(|rooms| rooms.affiliate(actor, &jid, Some(local))) {
        Ok(found) => found.map_or(Affiliation::None, |found| found.affiliation),
        Err(error) => return tracing::error!(room = name, %error, "cannot read the directory"),
    };
    if before < Affiliation::Member {
        return;
    }
    let by = By { local: Some(local.to_owned()), ..By::default() };
    let moved = Moved::new(local, (before, Affiliation::None), by);
    register::write(actors, env, fx, (Asker::nobody(name), jid), (moved, None));
}
