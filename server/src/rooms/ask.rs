//! Requests of occupants to occupants (XEP-0045 §17.4.2).
//!
//! | request | who answers |
//! | --- | --- |
//! | a ping to oneself (XEP-0410) | the room |
//! | a vCard (XEP-0054) | the room: what the account shows to strangers |
//! | anything else | the client with which the occupant came first; the server, when that is gone or has no room |
//!
//! Both see each other by their addresses in the room alone. What is passed on is a stanza between clients like any other, so it is
//! dropped, refused and paid for as those are. The room remembers nothing of it: see [`question`](crate::proto::muc::question).

use crate::effects::work;
use crate::env::Env;
use crate::occupancy::occupants::OccupantKey;
use crate::occupancy::room::Room;
use crate::occupancy::seats::Seat;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::muc::question::{ID_BYTES_MAX, Question, Questions};
use crate::proto::muc::{error, rules};
use crate::proto::ns;
use crate::rooms::visit::{Ack, Visit};
use crate::service::{Reply, vcard};
use crate::stanza::{Delivery, Kind, Traits, Type};
use crate::user::actors::{Actors, Effects};
use crate::xml::{CLIENT, Element};

/// A request to an occupant.
pub(super) fn ask(actors: &mut Actors, env: &Env, fx: &mut Effects, visit: &Visit<'_>, nick: &str) -> Ack {
    let Some(room) = actors.rooms.room(visit.name) else { return visit.refuse(env, fx, error::no_room()) };
    let Some(own) = visit.seat(room) else { return visit.refuse(env, fx, error::not_in_room()) };
    let Some(asked) = room.occupants.by_nick(nick) else {
        let text = "nobody in this room has this nick";
        return visit.refuse(env, fx, StanzaError::from(StanzaCondition::ItemNotFound).with_text(text));
    };
    let Some(iq) = visit.element(fx) else { return Ack::Now };
    let query = iq.elements().next().map(|query| (query.name(), query.namespace()));
    match (query, visit.d.typ) {
        (Some(("ping", ns::PING)), Type::Get) if own == asked => visit.reply(env, fx, Reply::Done),
        (Some(("vCard", ns::VCARD)), Type::Get) => {
            fx.work.add(work::LOOK);
            // What strangers see: the room does not say who asks.
            let reply = vcard::shown_to_strangers(env, fx, room.occupants.get(asked).local());
            visit.reply(env, fx, reply)
        }
        (Some(_), _) => pass_on(env, fx, visit, room, (own, asked), iq),
        (None, _) => visit.refuse(env, fx, StanzaCondition::BadRequest),
    }
}

fn pass_on(
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    room: &Room,
    (own, asked): (OccupantKey, OccupantKey),
    mut iq: Element,
) -> Ack {
    let (asks, asked) = (room.occupants.get(own), room.occupants.get(asked));
    if visit.d.typ == Type::Set && !rules::may_send_private(asks.role(), asked.role(), room.config()) {
        let text = "you may offer nothing to this occupant";
        return visit.refuse(env, fx, StanzaError::from(StanzaCondition::Forbidden).with_text(text));
    }
    let id = visit.d.id.unwrap_or_default();
    if id.len() > ID_BYTES_MAX {
        let text = format!("the id of a request to an occupant may have at most {ID_BYTES_MAX} bytes");
        return visit.refuse(env, fx, StanzaError::from(StanzaCondition::NotAcceptable).with_text(text));
    }
    let questions = Questions::new(&room.record.secret);
    let question = Question {
        asked_s: now_s(env),
        client: questions.client(visit.local, visit.resource),
        nick: asked.nick.to_string(),
        id: id.to_owned(),
    };
    let seat = asked.seats.first();
    let sealed = questions.seal(&question, seat.local());
    let from = env.occupant_jid(visit.name, Some(&asks.nick));
    let letter = Letter { from: &from, to: (seat.local(), seat.resource()), id: &sealed, typ: visit.d.typ };
    if !letter.send(env, fx, &mut iq) {
        return visit.refuse(env, fx, StanzaCondition::NotAcceptable);
    }
    env.metrics().room_requests.add(1);
    Ack::Now
}

/// An answer to an occupant: of a client, or of the server in its place.
pub(super) fn answer(actors: &Actors, env: &Env, fx: &mut Effects, visit: &Visit<'_>, nick: &str) -> Ack {
    let Some(room) = actors.rooms.room(visit.name) else { return Ack::Now };
    let questions = Questions::new(&room.record.secret);
    let id = visit.d.id.unwrap_or_default();
    // Only of the account that was asked, and once is as good as often: a client knows what it has asked.
    let Some(question) = questions.open(id, visit.local, now_s(env)) else { return Ack::Now };
    let Some(asks) = room.occupants.by_nick(nick).map(|key| room.occupants.get(key)) else { return Ack::Now };
    let is_it = |seat: &&Seat| questions.client(seat.local(), seat.resource()) == question.client;
    let seat = asks.seats.iter().find(is_it);
    let (Some(seat), Some(mut iq)) = (seat, visit.element(fx)) else { return Ack::Now };
    let from = env.occupant_jid(visit.name, Some(&question.nick));
    let letter =
        Letter { from: &from, to: (seat.local(), seat.resource()), id: &question.id, typ: visit.d.typ };
    letter.send(env, fx, &mut iq);
    Ack::Now
}

fn now_s(env: &Env) -> u32 {
    u32::try_from(env.unix_ms() / 1000).unwrap_or(u32::MAX)
}

/// An iq on its way from one occupant's client to another's.
struct Letter<'a> {
    from: &'a str,
    to: (&'a str, &'a str),
    id: &'a str,
    typ: Type,
}

impl Letter<'_> {
    /// `false`: it would be too long.
    fn send(&self, env: &Env, fx: &mut Effects, iq: &mut Element) -> bool {
        let (local, resource) = self.to;
        iq.set_attribute("from", self.from);
        iq.set_attribute("to", format!("{}/{resource}", env.bare_jid(local)));
        iq.set_attribute("id", self.id);
        let mut bytes = Vec::with_capacity(512);
        iq.write(CLIENT, &mut bytes);
        // Declaring namespaces anew on each element can make it longer than it came.
        if bytes.len() > env.config.limits.stanza_bytes as usize {
            return false;
        }
        fx.work.add_tree(bytes.len());
        let delivery = Delivery {
            kind: Kind::Iq,
            typ: self.typ,
            traits: Traits::default(),
            from: self.from,
            to_local: local,
            to_resource: Some(resource),
            id: Some(self.id),
            bytes: &bytes,
            pending_ack: None,
        };
        fx.route(env, &delivery);
        true
    }
}
