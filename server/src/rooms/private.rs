//! Private messages: to one occupant (XEP-0045 §7.5). They belong to no archive: neither the room's, nor, since they are from an
//! address that is a nick, those of accounts. Each waits in its recipient's mailbox until the recipient has it.

use crate::env::Env;
use crate::exchange::fanout::Weight;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::muc::rules;
use crate::proto::muc::user::write_statuses;
use crate::proto::ns;
use crate::rooms::say::{self, Written};
use crate::rooms::speak;
use crate::rooms::visit::{Ack, Visit};
use crate::stanza::{Delivery, Kind, Traits};
use crate::user::actors::{Actors, Effects};
use crate::xml::{CLIENT, Element};

/// A message of an occupant to another one.
pub(super) fn send(actors: &mut Actors, env: &Env, fx: &mut Effects, visit: &Visit<'_>, nick: &str) -> Ack {
    let key = match speak::occupant(actors, env, fx, visit) {
        Ok(key) => key,
        Err(ack) => return ack,
    };
    let Some(room) = actors.rooms.room(visit.name) else { return Ack::Now };
    let Some(other) = room.occupants.by_nick(nick) else {
        let text = "nobody in this room has this nick";
        return visit.refuse(env, fx, StanzaError::from(StanzaCondition::ItemNotFound).with_text(text));
    };
    let (sender, recipient) = (room.occupants.get(key), room.occupants.get(other));
    if !rules::may_send_private(sender.role(), recipient.role(), room.config()) {
        let text = "you may send no private messages in this room";
        return visit.refuse(env, fx, StanzaError::from(StanzaCondition::Forbidden).with_text(text));
    }
    let from = env.occupant_jid(visit.name, Some(&sender.nick));
    let Some(written) = Written::passed_on(env, visit.d, &from) else { return Ack::Now };
    let written = written.with(|out| {
        sender.id.write(out);
        write_statuses([], out);
    });
    let traits = visit.d.traits.without(Traits::ARCHIVED).without(Traits::RETRACTS).and(Traits::NO_COPY);
    let mut pending_ack = visit.d.pending_ack;
    for seat in recipient.seats.iter() {
        let to = format!("{}/{}", env.bare_jid(seat.local()), seat.resource());
        let bytes = written.addressed(&to);
        let delivery = Delivery {
            traits,
            from: &from,
            to_local: seat.local(),
            to_resource: Some(seat.resource()),
            bytes: &bytes,
            // Once is enough for the sender to know that it is safe.
            pending_ack: pending_ack.take(),
            ..*visit.d
        };
        fx.route(env, &delivery);
    }
    Ack::Later
}

/// Somebody's client, or the mailbox of its account, has not taken a private message: its sender hears that from the occupant to
/// whom it has written. Only who may send private messages to somebody can have such an answer from it; of a client's the condition
/// is passed on and nothing else, so that an error carries no message. One that is lost is missed by nobody.
pub(super) fn bounced(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    nick: Option<&str>,
) -> Ack {
    let Some(room) = actors.rooms.room_mut(visit.name) else { return Ack::Now };
    let Some((from, to)) = visit.seat(room).zip(nick.and_then(|nick| room.occupants.by_nick(nick))) else {
        return Ack::Now;
    };
    let roles = (room.occupants.get(to).role(), room.occupants.get(from).role());
    if !rules::may_send_private(roles.0, roles.1, room.config()) {
        return Ack::Now;
    }
    let is_made_here = visit.d.traits.has(Traits::FROM_SERVER);
    let most = env.config.rooms.occupant_messages_per_second;
    // What others send it must not cost an occupant its own voice.
    if !is_made_here && !room.occupants.get_mut(from).pace.take_spare(env.now.0, most) {
        env.metrics().refused_room_rate.add(1);
        return Ack::Now;
    }
    let (answerer, recipient) = (room.occupants.get(from), room.occupants.get(to));
    let Some(message) = visit.element(fx) else { return Ack::Now };
    let from = env.occupant_jid(visit.name, Some(&answerer.nick));
    let mut written = Written::begin(Kind::Message, &from);
    written.0.extend_from_slice(b" type='error'");
    if let Some(id) = visit.d.id {
        say::write_attribute("id", id, &mut written.0);
    }
    written.0.push(b'>');
    match message.find("error", CLIENT) {
        Some(error) if is_made_here => error.write(CLIENT, &mut written.0),
        error => StanzaError::from(condition_of(error)).write(&mut written.0),
    }
    answerer.id.write(&mut written.0);
    written.0.extend_from_slice(b"</message>");
    let cast = written.cast(Kind::Message, Weight::Passing, &from);
    say::to_seats(env, fx, &cast, (recipient.local(), &recipient.seats));
    Ack::Now
}

/// The defined condition of an error (RFC 6120 §8.3.3).
fn condition_of(error: Option<&Element>) -> StanzaCondition {
    let is_in =
        |condition: &StanzaCondition| error?.find(condition.name(), ns::STANZA_ERRORS).map(|_| *condition);
    StanzaCondition::ALL.iter().find_map(is_in).unwrap_or(StanzaCondition::UndefinedCondition)
}
