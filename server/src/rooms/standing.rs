//! What a change of roles and affiliations means for those who are in the room, and what others see of it.

use whimbrel_storage::directory::rooms::RoomFlags;

use crate::env::Env;
use crate::exchange::fanout::Weight;
use crate::occupancy::occupants::{Audience, Occupant, OccupantKey};
use crate::occupancy::room::Room;
use crate::proto::muc::status::Status;
use crate::proto::muc::user::{UserItem, write_presence};
use crate::proto::muc::versions::Versions;
use crate::proto::muc::{Affiliation, Role, rules};
use crate::rooms::say::{self, Written};
use crate::rooms::show::Shown;
use crate::rooms::waits::Waits;
use crate::rooms::{leave, membership, versions};
use crate::service::pubsub::groups::BookmarkChange;
use crate::stanza::Kind;
use crate::user::actors::Effects;
use crate::user::joins::Joins;

/// Who has changed something, and why.
#[derive(Clone, Default)]
pub(super) struct By {
    /// The localpart of whoever has done it; `None`: an operator, or the room.
    pub(super) local: Option<String>,
    /// It has sent an invitation.
    pub(super) has_invited: bool,
    /// The nick of whoever has done it; `None`: it is not in the room.
    pub(super) nick: Option<String>,
    /// Why; empty for nothing.
    pub(super) reason: String,
    /// The versions of the list before and after it.
    pub(super) versions: Option<(String, String)>,
}

impl By {
    fn item(&self) -> UserItem<'_> {
        let versions = self.versions.as_ref().map(|(since, until)| Versions { since: Some(since), until });
        UserItem { actor: self.nick.as_deref(), reason: &self.reason, versions, ..UserItem::default() }
    }
}

/// An account that is something else to the room now.
#[derive(Clone)]
pub(super) struct Moved {
    /// Its localpart.
    pub(super) local: String,
    /// What it was.
    pub(super) before: Affiliation,
    /// What it is.
    pub(super) after: Affiliation,
    /// Who has done it.
    pub(super) by: By,
    /// What is written into its bookmarks with it.
    pub(super) bookmark: Option<Box<BookmarkChange>>,
}

impl Moved {
    /// An account that was the first to the room and becomes the second.
    pub(super) fn new(local: &str, (before, after): (Affiliation, Affiliation), by: By) -> Moved {
        Moved { local: local.to_owned(), before, after, by, bookmark: None }
    }
}

/// Shows what an account has become, and ends its stay where that follows (§9.1, §9.4).
pub(super) fn moved(env: &Env, fx: &mut Effects, room: &mut Room, moved: &Moved) {
    membership::changed(env, fx, room, moved, None);
    show(env, fx, room, moved);
}

/// As [`moved`], for a request that waits for what follows outside of the room.
pub(super) fn moved_for(
    env: &Env,
    fx: &mut Effects,
    room: &mut Room,
    moved: &Moved,
    waits: (&mut Waits, &mut Joins),
) {
    membership::changed(env, fx, room, moved, Some(waits));
    show(env, fx, room, moved);
}

/// As [`moved`], where what follows outside of the room has followed already.
pub(super) fn show(env: &Env, fx: &mut Effects, room: &mut Room, moved: &Moved) {
    let &Moved { before, after, .. } = moved;
    let versions = if before == after { None } else { versions::of_next_change(room) };
    let by = &By { versions, ..moved.by.clone() };
    let keys = room.occupants.of_account(&moved.local);
    if keys.is_empty() {
        return tell_of_absent(env, fx, room, (&moved.local, after), by);
    }
    let is_out = room.has(RoomFlags::MEMBERS_ONLY) && after < Affiliation::Member;
    let statuses: &[Status] = match after {
        Affiliation::Outcast => &[Status::Banned],
        _ if is_out => &[Status::RemovedByAffiliation],
        _ => &[],
    };
    for key in keys {
        let occupant = room.occupants.get_mut(key);
        occupant.set_affiliation(after);
        if after < Affiliation::Member {
            // Hats belong to those who belong to the room.
            occupant.payload = occupant.payload.without_hats();
        }
        if !statuses.is_empty() {
            leave::remove(env, fx, room, key, (statuses, by.item(), true));
            continue;
        }
        let role = rules::role_after(room.occupants.get(key).role(), before, after, room.config());
        set_role(env, fx, room, (key, role), by);
    }
}

/// An occupant has a role now, or is kicked (§8.2). Nothing happens to one that is gone.
pub(super) fn set_role(
    env: &Env,
    fx: &mut Effects,
    room: &mut Room,
    (key, role): (OccupantKey, Role),
    by: &By,
) {
    if !room.occupants.has(key) {
        return;
    }
    if role == Role::None {
        return leave::remove(env, fx, room, key, (&[Status::Kicked], by.item(), true));
    }
    room.occupants.get_mut(key).set_role(role);
    let occupant: &Occupant = room.occupants.get(key);
    let shown = Shown { item: by.item(), is_important: true, ..Shown::present(occupant) };
    shown.show_others(env, fx, room);
    shown.show_itself(env, fx, room, &occupant.seats);
    room.occupants.get_mut(key).show_to(Audience::Everybody);
}

/// Somebody who is not in the room is something else to it: those who see addresses hear of it (§9.3 and others).
fn tell_of_absent(
    env: &Env,
    fx: &mut Effects,
    room: &Room,
    (local, affiliation): (&str, Affiliation),
    by: &By,
) {
    let jid = env.bare_jid(local);
    let from = env.room_jid(room.name());
    let item = UserItem { affiliation, jid: Some(&jid), ..by.item() };
    let mut written = Written::begin(Kind::Message, &from);
    written.0.extend_from_slice(b">");
    write_presence(&item, [], &mut written.0);
    written.0.extend_from_slice(b"</message>");
    let cast = written.cast(Kind::Message, Weight::Message, &from);
    say::to_those(env, fx, room, &cast, |viewer| rules::sees_jids(viewer.standing(), room.config()));
}
