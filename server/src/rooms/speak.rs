//! Messages to everybody in a room (XEP-0045 §7.4).
//!
//! A message is in the room's archive, and its record is on its way to the disk, before anybody gets it; its sender's stream
//! acknowledges it when the record is committed. A room without an archive keeps nothing: its messages reach those who are there.

use whimbrel_storage::directory::rooms::RoomFlags;
use whimbrel_storage::log::{ActorCopy, Flags, Sequence};
use whimbrel_storage::message::StoredMessage;

use crate::effects::work;
use crate::env::Env;
use crate::exchange::fanout::Weight;
use crate::occupancy::occupants::OccupantKey;
use crate::occupancy::room::Room;
use crate::proto::errors::{ErrorKind, StanzaCondition, StanzaError};
use crate::proto::muc::{error, rules};
use crate::proto::stanza_id;
use crate::rooms::push;
use crate::rooms::retract;
use crate::rooms::say::{self, Written};
use crate::rooms::visit::{Ack, Visit};
use crate::stanza::{Kind, PendingAck, Traits};
use crate::user::actors::{Actors, Effects};
use crate::user::keep;

/// A message of an occupant to everybody.
pub(super) fn speak(actors: &mut Actors, env: &Env, fx: &mut Effects, visit: &Visit<'_>) -> Ack {
    let key = match occupant(actors, env, fx, visit) {
        Ok(key) => key,
        Err(ack) => return ack,
    };
    let Some(room) = actors.rooms.room_mut(visit.name) else { return Ack::Now };
    if !rules::may_speak(room.occupants.get(key).role()) {
        return visit.refuse(env, fx, error::no_voice());
    }
    if let Err(ack) = room_may_speak(room, env, fx, visit) {
        return ack;
    }
    let room: &Room = room;
    let occupant = room.occupants.get(key);
    let from = env.occupant_jid(visit.name, Some(&occupant.nick));
    let Some(written) = Written::passed_on(env, visit.d, &from) else { return Ack::Now };
    let written = written.with(|out| occupant.id.write(out));
    let said = Said {
        from: &from,
        by: visit.local,
        traits: visit.d.traits,
        written: &written,
        by_room: false,
        retracts: false,
    };
    if said.traits.has(Traits::RETRACTS)
        && is_kept(env, room, said.traits)
        && let Some(retracting) = retract::by_author(env, visit, &said)
    {
        return retracting.look(actors, env, fx);
    }
    match distribute(actors, env, fx, visit.name, &said, visit.d.pending_ack) {
        Ok(ack) => ack,
        Err(error) => visit.refuse(env, fx, error),
    }
}

/// The sender's occupant, which is no faster than it may be, whatever it says and to whom: what is refused counts as well.
pub(super) fn occupant(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
) -> Result<OccupantKey, Ack> {
    let Some(room) = actors.rooms.room_mut(visit.name) else { return Err(Ack::Now) };
    let Some(key) = visit.seat(room) else { return Err(visit.refuse(env, fx, error::not_in_room())) };
    let most = env.config.rooms.occupant_messages_per_second;
    if room.occupants.get_mut(key).pace.take(env.now.0, most) {
        return Ok(key);
    }
    env.metrics().refused_room_rate.add(1);
    let text = "you say more in this room than you may; wait a moment";
    let error = StanzaError::from(StanzaCondition::PolicyViolation).with_kind(ErrorKind::Wait);
    Err(visit.refuse(env, fx, error.with_text(text)))
}

/// Whether the room may say one more to everybody. It counts what is said, and nothing that is refused: else those without voice could
/// silence it.
pub(super) fn room_may_speak(
    room: &mut Room,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
) -> Result<(), Ack> {
    if room.pace.take(env.now.0, env.config.rooms.room_messages_per_second) {
        return Ok(());
    }
    env.metrics().refused_room_rate.add(1);
    let text = "more is said in this room than may be; wait a moment";
    let error = StanzaError::from(StanzaCondition::ResourceConstraint).with_kind(ErrorKind::Wait);
    Err(visit.refuse(env, fx, error.with_text(text)))
}

/// Something that was said.
pub(super) struct Said<'a> {
    /// The occupant, as others see it.
    pub(super) from: &'a str,
    /// Localpart of its account.
    pub(super) by: &'a str,
    /// What is in it.
    pub(super) traits: Traits,
    /// The message.
    pub(super) written: &'a Written,
    /// The room says it, because of what somebody has done.
    pub(super) by_room: bool,
    /// It takes back another message, which the archive has.
    pub(super) retracts: bool,
}

/// Whether a message belongs to the room's archive.
fn is_kept(env: &Env, room: &Room, traits: Traits) -> bool {
    room.has(RoomFlags::ARCHIVE)
        && env.config.archive.enabled
        && traits.has(Traits::ARCHIVED)
        && !traits.has(Traits::NO_STORE)
}

/// Writes a message to the room's archive and gives it to everybody who is there.
///
/// # Errors
/// The log takes nothing; then nobody has got it.
pub(super) fn distribute(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    name: &str,
    said: &Said<'_>,
    pending_ack: Option<PendingAck>,
) -> Result<Ack, StanzaError> {
    let is_kept = actors.rooms.room(name).is_some_and(|room| is_kept(env, room, said.traits));
    let id = if is_kept { Some(keep_one(actors, env, fx, name, said, pending_ack)?) } else { None };
    let Some(room) = actors.rooms.room_mut(name) else { return Ok(Ack::Now) };
    env.metrics().room_messages.add(1);
    let weight = match said.traits.has(Traits::CONTENT) {
        _ if said.retracts => Weight::Retraction,
        true => Weight::Message,
        false => Weight::Passing,
    };
    let stamped = id.map(|id| {
        let id = env.shared.archive_ids.seal(id.0);
        let id = std::str::from_utf8(&id).expect("base32 is ASCII");
        said.written.with(|out| stanza_id::write(&env.room_jid(name), id, out))
    });
    let cast = stamped.as_ref().unwrap_or(said.written).cast(Kind::Message, weight, said.from);
    say::to_all(env, fx, room, &cast);
    if is_kept {
        push::tell_members(actors, env, fx, name, said, stamped.as_ref().unwrap_or(said.written));
    }
    Ok(if is_kept && pending_ack.is_some() { Ack::Later } else { Ack::Now })
}

fn keep_one(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    name: &str,
    said: &Said<'_>,
    pending_ack: Option<PendingAck>,
) -> Result<Sequence, StanzaError> {
    let Some(room) = actors.rooms.room(name) else { return Err(error::no_room()) };
    let retracting = if said.retracts { Flags::RETRACTS } else { Flags::NONE };
    let copy = ActorCopy {
        actor: room.record.actor,
        flags: Flags::ARCHIVED.and(Flags::NOT_QUEUED).and(retracting),
        peer: env.shared.archive_ids.peer(said.by),
    };
    // Beside the message, whose it is: not everybody who may read it may know that.
    let by = (!said.by_room).then(|| env.bare_jid(said.by));
    let Actors { commits, payload, .. } = actors;
    StoredMessage { resource: by.as_deref(), stanza: &said.written.0 }.encode(payload);
    let outcome = commits.append((copy, None), env.unix_ms(), payload, pending_ack, env.metrics());
    fx.work.add(work::LOGGED);
    match outcome.recipient {
        Ok(appended) => Ok(appended.sequence),
        Err(error) => Err(keep::refusal(&mut actors.commits, env, error)),
    }
}
