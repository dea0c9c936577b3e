//! Entering a room (XEP-0045 §7.2), changing one's nick (§7.6) and one's presence (§7.7) in it.

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::directory::rooms::RoomFlags;

use crate::effects::work;
use crate::env::Env;
use crate::occupancy::Rooms;
use crate::occupancy::occupants::{Occupant, OccupantKey};
use crate::occupancy::room::Room;
use crate::proto::errors::{ErrorKind, StanzaCondition, StanzaError};
use crate::proto::muc::join::{HistoryRequest, Join};
use crate::proto::muc::occupant::OccupantIds;
use crate::proto::muc::status::Status;
use crate::proto::muc::user::UserItem;
use crate::proto::muc::versions::Since;
use crate::proto::muc::{Affiliation, error, hats, rules};
use crate::proto::ns;
use crate::rooms::links::{self, Opens};
use crate::rooms::show::{self, Shown};
use crate::rooms::visit::{Ack, Visit};
use crate::rooms::{create, history, versions};
use crate::user::actors::{Actors, Effects};
use crate::xml::{CLIENT, Element};

/// Somebody who is about to enter.
pub(super) struct Newcomer {
    /// Localpart of its account.
    pub(super) local: String,
    /// Its account.
    pub(super) account: ActorId,
    /// The client with which it comes.
    pub(super) resource: String,
    /// The nick that it wants.
    pub(super) nick: String,
    /// What it is to the room.
    pub(super) affiliation: Affiliation,
    /// What its presence says.
    pub(super) presence: Box<[u8]>,
    /// What an operator says of it.
    pub(super) hats: Box<[u8]>,
    /// What it wants to hear of what was said before.
    pub(super) history: Option<HistoryRequest>,
    /// From which version on it wants to hear who belongs to the room.
    pub(super) since: Option<Since>,
}

/// What others see of a presence: its elements, without those that only the room may write.
pub(super) fn shown_of(presence: &Element) -> Box<[u8]> {
    let mut out = Vec::new();
    for child in presence.elements() {
        let is_shown = !matches!(
            (child.name(), child.namespace()),
            ("x", ns::MUC | ns::MUC_USER)
                | ("priority", CLIENT)
                | (_, ns::OCCUPANT_ID | ns::HATS | ns::DELAY)
        );
        if is_shown {
            child.write(CLIENT, &mut out);
        }
    }
    out.into_boxed_slice()
}

/// Available presence for an occupant of a room.
pub(super) fn presence(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    nick: &str,
) -> Ack {
    if visit.d.bytes.len() > env.config.limits.presence_bytes as usize {
        env.metrics().refused_presence.add(1);
        let text = format!("a presence may have at most {} bytes", env.config.limits.presence_bytes);
        return visit.refuse(env, fx, StanzaError::from(StanzaCondition::PolicyViolation).with_text(text));
    }
    let Some(presence) = visit.element(fx) else { return Ack::Now };
    let x = presence.find("x", ns::MUC);
    let seat = actors.rooms.room(visit.name).and_then(|room| visit.seat(room));
    if seat.is_none() && x.is_none() {
        // A client that believes to be in the room: it has missed its end.
        return visit.refuse(env, fx, error::not_in_room());
    }
    if nick.len() > env.config.rooms.nick_bytes as usize {
        env.metrics().refused_room_text.add(1);
        let text = format!("a nick may have at most {} bytes", env.config.rooms.nick_bytes);
        return visit.refuse(env, fx, StanzaError::from(StanzaCondition::NotAcceptable).with_text(text));
    }
    let join = x.map(|x| Join::read(x, env.unix_ms()));
    let shown = shown_of(&presence);
    match seat {
        Some(key) => again(actors, env, fx, visit, (key, nick, shown, join)),
        None => first(actors, env, fx, visit, (nick, shown, join.unwrap_or_default())),
    }
}

/// Presence of somebody who has a seat.
fn again(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    (key, nick, shown, join): (OccupantKey, &str, Box<[u8]>, Option<Join>),
) -> Ack {
    let Some(room) = actors.rooms.room(visit.name) else { return Ack::Now };
    let before = room.occupants.get(key).payload.clone();
    let payload = actors.rooms.payloads.intern(&shown, before.hats());
    let Some(room) = actors.rooms.room_mut(visit.name) else { return Ack::Now };
    // All others get it, as they get a message.
    if !room.occupants.get_mut(key).pace.take(env.now.0, env.config.rooms.occupant_messages_per_second) {
        env.metrics().refused_room_rate.add(1);
        let text = "you change your presence in this room more often than you may; wait a moment";
        let error = StanzaError::from(StanzaCondition::PolicyViolation).with_kind(ErrorKind::Wait);
        return visit.refuse(env, fx, error.with_text(text));
    }
    let is_renamed = *room.occupants.get(key).nick != *nick;
    if is_renamed && let Err(error) = may_have_nick(env, fx, room, visit, nick) {
        return error;
    }
    room.occupants.get_mut(key).payload = payload;
    match is_renamed {
        true => rename(env, fx, room, key, nick),
        false if join.is_none() => show::show(env, fx, room, key, &[]),
        false => {}
    }
    let Some(join) = join else { return Ack::Now };
    // It enters where it is already: it does not know any more what it has seen.
    tell_list(env, fx, room, (key, visit.resource), join.since.as_ref());
    show::show_others(env, fx, room, key, visit.resource);
    let own = own_statuses(room, &[]);
    Shown { own: &own, ..Shown::present(room.occupants.get(key)) }.show_itself(
        env,
        fx,
        room,
        &[visit.resource],
    );
    history::give(actors, env, fx, visit.name, (visit.local, visit.resource), join.history);
    Ack::Now
}

/// Presence of somebody who wants to enter.
fn first(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    (nick, presence, join): (&str, Box<[u8]>, Join),
) -> Ack {
    let mut newcomer = Newcomer {
        local: visit.local.to_owned(),
        account: ActorId::NOBODY,
        resource: visit.resource.to_owned(),
        nick: nick.to_owned(),
        affiliation: Affiliation::None,
        presence,
        hats: Box::default(),
        history: join.history,
        since: join.since,
    };
    let Some(room) = actors.rooms.room(visit.name) else {
        return create::create(actors, env, fx, visit, newcomer);
    };
    let opens = match admit(env, fx, room, visit, (nick, join.password.as_deref())) {
        Ok(admitted) => {
            (newcomer.affiliation, newcomer.account) = (admitted.affiliation, admitted.account);
            newcomer.hats = admitted.hats;
            admitted.opens
        }
        Err(ack) => return ack,
    };
    if let Opens::ByLink(hash) = opens {
        return links::enter(actors, env, fx, visit, (newcomer, hash));
    }
    sit_down(actors, env, fx, visit.name, &newcomer, &[]);
    Ack::Now
}

/// Somebody who may enter.
struct Admitted {
    /// What it is to the room.
    affiliation: Affiliation,
    /// The number of its account.
    account: ActorId,
    /// Its hats, as they stand in presence.
    hats: Box<[u8]>,
    /// How the door opens for it.
    opens: Opens,
}

/// Whether somebody may enter.
fn admit(
    env: &Env,
    fx: &mut Effects,
    room: &Room,
    visit: &Visit<'_>,
    (nick, password): (&str, Option<&str>),
) -> Result<Admitted, Ack> {
    let own = visit.affiliate(env, fx, room)?;
    let affiliation = own.as_ref().map_or(Affiliation::None, |own| own.affiliation);
    let opens = links::open(env, fx, room, visit, (affiliation, password))?;
    may_have_nick(env, fx, room, visit, nick)?;
    let most = match room.config().users_max {
        0 => env.config.rooms.occupants_max,
        most => most.min(env.config.rooms.occupants_max),
    };
    let is_new = room.occupants.by_nick(nick).is_none();
    if is_new && room.occupants.len() >= most as usize && affiliation < Affiliation::Admin {
        env.metrics().refused_room_full.add(1);
        return Err(visit.refuse(env, fx, error::full()));
    }
    let hats = own.map(|own| hats::written(&own.hats)).unwrap_or_default();
    Ok(Admitted { affiliation, account: visit.account(env, fx)?, hats, opens })
}

/// Whether somebody may have a nick: nobody else has it, and it is reserved for nobody else (§7.2.8, §7.2.9).
fn may_have_nick(env: &Env, fx: &mut Effects, room: &Room, visit: &Visit<'_>, nick: &str) -> Result<(), Ack> {
    if let Some(other) = room.occupants.by_nick(nick)
        && (room.occupants.get(other).local() != visit.local || visit.seat(room).is_some())
    {
        return Err(visit.refuse(env, fx, error::nick_taken()));
    }
    fx.work.add(work::LOOK);
    match env.shared.directory.rooms(|rooms| rooms.nick_owner(room.record.actor, nick)) {
        Ok(owner) if owner.as_deref().is_none_or(|owner| owner == visit.bare()) => Ok(()),
        Ok(_) => Err(visit.refuse(env, fx, error::nick_taken())),
        Err(error) => Err(visit.unreadable(env, fx, &error)),
    }
}

/// §7.6: the old nick goes, the new one comes.
fn rename(env: &Env, fx: &mut Effects, room: &mut Room, key: OccupantKey, nick: &str) {
    let old = room.occupants.get(key).nick.clone();
    room.occupants.rename(key, nick);
    let occupant = room.occupants.get(key);
    let gone = Shown {
        nick: &old,
        is_gone: true,
        item: UserItem { nick: Some(nick), ..UserItem::default() },
        statuses: &[Status::NickChanged],
        ..Shown::present(occupant)
    };
    gone.show_others(env, fx, room);
    gone.show_itself(env, fx, room, &occupant.seats);
    show::show(env, fx, room, key, &[]);
}

/// What somebody who enters has to know (§7.2.3, §7.2.12).
fn own_statuses(room: &Room, beside: &[Status]) -> Vec<Status> {
    let flags =
        [(RoomFlags::NON_ANONYMOUS, Status::NonAnonymous), (RoomFlags::ARCHIVE, Status::LoggingEnabled)];
    let of_flags = flags.into_iter().filter(|(flag, _)| room.has(*flag)).map(|(_, status)| status);
    of_flags.chain(beside.iter().copied()).collect()
}

/// A seat that asks for it hears who belongs to the room, before it sees anybody (XEP-0463 §5.2).
fn tell_list(
    env: &Env,
    fx: &mut Effects,
    room: &Room,
    (key, resource): (OccupantKey, &str),
    since: Option<&Since>,
) {
    if let Some(since) = since {
        let occupant = room.occupants.get(key);
        versions::tell(env, fx, room, (occupant.local(), resource), (occupant.standing(), since));
    }
}

/// What was found of somebody who enters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// It is there already, with another client.
    Occupant,
    /// Nothing.
    Nobody,
}

/// Somebody has a seat from now on. `None`: the room is gone.
fn take_seat(
    actors: &mut Actors,
    env: &Env,
    name: &str,
    newcomer: &Newcomer,
) -> Option<(Found, OccupantKey)> {
    let Newcomer { local, account, resource, nick, affiliation, .. } = newcomer;
    let room = actors.rooms.room(name)?;
    let before = room.occupants.by_nick(nick).map(|key| room.occupants.get(key).payload.clone());
    // One that is there keeps its hats: those that its other client was admitted with may have changed since.
    let hats = before.as_ref().map_or(&*newcomer.hats, |before| before.hats());
    let (hasher, Rooms { payloads, clients, .. }) = (actors.rooms.hasher(), &mut actors.rooms);
    let payload = payloads.intern(&newcomer.presence, hats);
    let seat = clients.seat(*account, (local, resource), env.home_of(local));
    let room = actors.rooms.room_mut(name)?;
    env.metrics().room_joins.add(1);
    room.seats_changed();
    if let Some(key) = room.occupants.by_nick(nick) {
        room.occupants.add_seat(key, seat);
        room.occupants.get_mut(key).payload = payload;
        return Some((Found::Occupant, key));
    }
    env.metrics().room_occupants.add(1);
    let id = OccupantIds::new(&room.record.secret).of(&env.bare_jid(local), *account);
    let role = rules::initial_role(*affiliation, &room.record.config);
    let standing = rules::Standing { affiliation: *affiliation, role };
    let occupant = Occupant::new(nick, seat.into(), id, standing, payload);
    Some((Found::Nobody, room.occupants.enter(occupant, &hasher)))
}

/// Somebody who may enter enters: it sees the others, they see it, and it hears what was said before and what the room is about.
pub(super) fn sit_down(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    name: &str,
    newcomer: &Newcomer,
    statuses: &[Status],
) {
    let Some((found, key)) = take_seat(actors, env, name, newcomer) else { return };
    let Some(room) = actors.rooms.room_mut(name) else { return };
    let Newcomer { local, resource, .. } = newcomer;
    let own = own_statuses(room, statuses);
    tell_list(env, fx, room, (key, resource), newcomer.since.as_ref());
    show::show_others(env, fx, room, key, resource);
    if found == Found::Occupant {
        Shown { own: &own, ..Shown::present(room.occupants.get(key)) }.show_itself(
            env,
            fx,
            room,
            &[resource],
        );
    } else {
        show::show(env, fx, room, key, &own);
    }
    history::give(actors, env, fx, name, (local, resource), newcomer.history);
}
