//! Presence of occupants as others see it (XEP-0045 §7.2.3).
//!
//! | who looks | what it sees |
//! | --- | --- |
//! | the occupant itself | everything, and status 110 |
//! | those who see real addresses | everything |
//! | all others | everything but the address |
//!
//! In a large room they do not see everybody: [`Reach`].

use crate::env::Env;
use crate::exchange::fanout::Weight;
use crate::occupancy::occupants::{Audience, Occupant, OccupantKey};
use crate::occupancy::room::Room;
use crate::proto::address;
use crate::proto::muc::role::Role;
use crate::proto::muc::rules;
use crate::proto::muc::status::Status;
use crate::proto::muc::user::{DestroyedRoom, UserItem, write_destroyed, write_presence};
use crate::proto::muc::versions::Versions;
use crate::rooms::say::{self, Written};
use crate::rooms::versions;
use crate::stanza::{Delivery, Kind};
use crate::user::actors::{Actors, Effects};
use crate::user::presence::again::Part;

/// An occupant, and what there is to say of it beside what it is.
#[derive(Copy, Clone)]
pub(super) struct Shown<'a> {
    /// The occupant.
    pub(super) occupant: &'a Occupant,
    /// Its nick: one that it gives up may be another.
    pub(super) nick: &'a str,
    /// It is gone, or its nick is.
    pub(super) is_gone: bool,
    /// Its new nick, or what else the item says; affiliation, role and address are filled in.
    pub(super) item: UserItem<'a>,
    /// Codes that everybody sees.
    pub(super) statuses: &'a [Status],
    /// Codes that it sees itself, beside 110.
    pub(super) own: &'a [Status],
    /// Everybody is told, however large the room is.
    pub(super) is_important: bool,
    /// It is gone because the room is.
    pub(super) destroyed: Option<&'a DestroyedRoom<'a>>,
}

impl<'a> Shown<'a> {
    /// As it is.
    pub(super) fn present(occupant: &'a Occupant) -> Shown<'a> {
        Shown {
            occupant,
            nick: &occupant.nick,
            is_gone: false,
            item: UserItem::default(),
            statuses: &[],
            own: &[],
            is_important: false,
            destroyed: None,
        }
    }

    /// It has left, with these codes.
    pub(super) fn gone(occupant: &'a Occupant, statuses: &'a [Status]) -> Shown<'a> {
        Shown { is_gone: true, statuses, ..Shown::present(occupant) }
    }

    fn from(&self, env: &Env, room: &Room) -> String {
        env.occupant_jid(room.name(), Some(self.nick))
    }

    /// Writes it. `is_own`: for the occupant itself.
    fn write(&self, env: &Env, room: &Room, from: &str, (sees_jid, is_own): (bool, bool)) -> Written {
        let Shown { occupant, item, .. } = *self;
        let mut written = Written::begin(Kind::Presence, from);
        let out = &mut written.0;
        out.extend_from_slice(if self.is_gone { b" type='unavailable'>" } else { b">" });
        out.extend_from_slice(occupant.payload.presence());
        if !self.is_gone {
            out.extend_from_slice(occupant.payload.hats());
        }
        occupant.id.write(out);
        if let Some(destroyed) = self.destroyed {
            write_destroyed(destroyed, out);
        } else {
            let jid = sees_jid.then(|| {
                let seat = occupant.seats.first();
                format!("{}/{}", env.bare_jid(seat.local()), seat.resource())
            });
            let is_renamed = self.is_gone && item.nick.is_some();
            let role = if self.is_gone && !is_renamed { Role::None } else { occupant.role() };
            let is_told = is_own && !self.is_gone && item.versions.is_none();
            let version = is_told.then(|| versions::current(room, occupant.standing())).flatten();
            let version = version.as_ref().map(|until| Versions { since: None, until });
            let item = UserItem {
                affiliation: occupant.affiliation(),
                role: Some(role),
                jid: jid.as_deref(),
                versions: item.versions.or(version),
                ..item
            };
            let own = is_own.then_some(Status::SelfPresence);
            let own = own.into_iter().chain(self.own.iter().copied().filter(|_| is_own));
            write_presence(&item, self.statuses.iter().copied().chain(own), out);
        }
        out.extend_from_slice(b"</presence>");
        written
    }

    /// Shows it to those seats of the occupant.
    pub(super) fn show_itself<S: AsRef<str>>(&self, env: &Env, fx: &mut Effects, room: &Room, seats: &[S]) {
        let from = self.from(env, room);
        let written = self.write(env, room, &from, (true, true));
        let weight = if self.is_gone && self.item.nick.is_none() { Weight::End } else { Weight::Own };
        let cast = written.cast(Kind::Presence, weight, &from);
        say::to_seats(env, fx, &cast, (self.occupant.local(), seats));
    }

    /// Shows it to all others who are to see it.
    pub(super) fn show_others(&self, env: &Env, fx: &mut Effects, room: &Room) {
        let from = self.from(env, room);
        let audience = self.audience(env, room);
        for sees_jid in [true, false] {
            let is_concerned = |viewer: &Occupant| {
                *viewer.nick != *self.occupant.nick
                    && rules::sees_jids(viewer.standing(), room.config()) == sees_jid
                    && is_in(audience, viewer)
            };
            if !room.occupants.iter().any(|(_, viewer)| is_concerned(viewer)) {
                continue;
            }
            let written = self.write(env, room, &from, (sees_jid, false));
            let cast = written.cast(Kind::Presence, Weight::Presence, &from);
            say::to_those(env, fx, room, &cast, is_concerned);
        }
    }

    /// Who is told: those who have been shown are also seen to leave.
    fn audience(&self, env: &Env, room: &Room) -> Audience {
        let now = Reach::of(env, room).of_occupant(room, self.occupant);
        match (self.is_important, self.is_gone) {
            (true, _) => Audience::Everybody,
            (false, true) => now.max(self.occupant.seen_by()),
            (false, false) => now,
        }
    }
}

/// How far presence goes in a room, by how large it is.
///
/// | more than `rooms.presence_max` | whose presence | goes to |
/// | --- | --- | --- |
/// | nothing | that of the roles that the room is configured for; of others | everybody; moderators |
/// | occupants | a moderator's; that of others | everybody; moderators |
/// | moderators | anybody's | nobody |
///
/// So somebody who enters sees, and is shown to, no more than `rooms.presence_max` others in a large room, or all of them while there
/// are no more than that.
#[derive(Copy, Clone)]
pub(super) struct Reach {
    is_large: bool,
    are_moderators_many: bool,
}

impl Reach {
    /// In a room as it is now.
    pub(super) fn of(env: &Env, room: &Room) -> Reach {
        let most = env.config.rooms.presence_max as usize;
        let is_large = room.occupants.len() > most;
        let moderators = || room.occupants.iter().filter(|(_, occupant)| occupant.is_moderator());
        Reach { is_large, are_moderators_many: is_large && moderators().take(most + 1).count() > most }
    }

    /// Who sees the presence of an occupant.
    fn of_occupant(self, room: &Room, occupant: &Occupant) -> Audience {
        if self.are_moderators_many {
            Audience::Nobody
        } else if rules::is_shown(occupant.role(), room.config())
            && (!self.is_large || occupant.is_moderator())
        {
            Audience::Everybody
        } else {
            Audience::Moderators
        }
    }
}

fn is_in(audience: Audience, viewer: &Occupant) -> bool {
    match audience {
        Audience::Everybody => true,
        Audience::Moderators => viewer.is_moderator(),
        Audience::Nobody => false,
    }
}

/// Shows an occupant as it is now, to itself and to all others who are to see it.
pub(super) fn show(env: &Env, fx: &mut Effects, room: &mut Room, key: OccupantKey, own: &[Status]) {
    let audience = Reach::of(env, room).of_occupant(room, room.occupants.get(key));
    let occupant = room.occupants.get_mut(key);
    occupant.show_to(audience);
    let occupant = room.occupants.get(key);
    let shown = Shown { own, ..Shown::present(occupant) };
    shown.show_others(env, fx, room);
    shown.show_itself(env, fx, room, &occupant.seats);
}

/// A seat of somebody who enters gets to see all others whom it is to see. Moderators of a large room hear of those who come after
/// them, and find the others in the room's lists.
pub(super) fn show_others(env: &Env, fx: &mut Effects, room: &Room, key: OccupantKey, seat: &str) {
    show_part(env, fx, room, (key, seat), Part::ALL);
}

fn show_part(env: &Env, fx: &mut Effects, room: &Room, (key, seat): (OccupantKey, &str), part: Part) {
    let viewer = room.occupants.get(key);
    let sees_jids = rules::sees_jids(viewer.standing(), room.config());
    let reach = Reach::of(env, room);
    for (_, other) in room.occupants.iter().filter(|(other, _)| *other != key) {
        let audience = reach.of_occupant(room, other);
        let is_shown = is_in(audience, viewer) && !(reach.is_large && audience != Audience::Everybody);
        if !is_shown || !part.has(&other.nick) {
            continue;
        }
        let shown = Shown::present(other);
        let from = shown.from(env, room);
        let written = shown.write(env, room, &from, (sees_jids, false));
        let cast = written.cast(Kind::Presence, Weight::Presence, &from);
        say::to_seats(env, fx, &cast, (viewer.local(), &[seat]));
    }
}

/// A client that sends this has not got all presence of a room in which it is: it is shown again who is there, as far as they fall
/// to a part.
pub(super) fn show_again(actors: &Actors, env: &Env, fx: &mut Effects, d: &Delivery<'_>) {
    let Some(room) = actors.rooms.room(d.to_local) else { return };
    let Some((local, resource)) = address::local_and_resource(d.from) else { return };
    if let Some(key) = room.occupants.by_seat(local, resource) {
        show_part(env, fx, room, (key, resource), Part::read(d.id));
    }
}
