//! What a room is about (XEP-0045 §8.1).

use whimbrel_storage::directory::rooms::Subject;

use crate::env::Env;
use crate::exchange::fanout::Weight;
use crate::occupancy::room::Room;
use crate::proto::delay;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::muc::{error, rules};
use crate::rooms::commit::{self, After, Outcome};
use crate::rooms::say::{self, Written};
use crate::rooms::speak::{self, Said};
use crate::rooms::visit::{Ack, Asker, Visit};
use crate::service::Reply;
use crate::stanza::{Kind, Traits};
use crate::user::actors::{Actors, Effects};
use crate::xml::{CLIENT, Element, writer};

/// Tells a seat what the room is about: the end of what it hears when it enters, also where the room is about nothing.
pub(super) fn tell(env: &Env, fx: &mut Effects, room: &Room, (local, resource): (&str, &str)) {
    let jid = env.room_jid(room.name());
    let subject = room.record.subject.as_ref();
    let nick = subject.map(|subject| &*subject.nick).filter(|nick| !nick.is_empty());
    let from = env.occupant_jid(room.name(), nick);
    let mut written = Written::begin(Kind::Message, &from);
    written.0.extend_from_slice(b" type='groupchat'><subject>");
    if let Some(subject) = subject {
        writer::escape_text(&subject.text, &mut written.0);
    }
    written.0.extend_from_slice(b"</subject>");
    if let Some(subject) = subject {
        delay::write(&jid, subject.set_ms, &mut written.0);
    }
    written.0.extend_from_slice(b"</message>");
    let cast = written.cast(Kind::Message, Weight::Message, &from);
    say::to_seats(env, fx, &cast, (local, &[resource]));
}

/// Whether a stanza of the archive is a change of the subject. Who enters hears of the last one only, at the end.
pub(super) fn is_change(stanza: &[u8]) -> bool {
    memchr::memmem::find(stanza, b"<subject").is_some()
        && Element::parse(stanza).is_ok_and(|message| {
            message.find("subject", CLIENT).is_some() && message.find("body", CLIENT).is_none()
        })
}

/// A message with a subject. With a body beside it, it is one like any other.
pub(super) fn change(actors: &mut Actors, env: &Env, fx: &mut Effects, visit: &Visit<'_>) -> Ack {
    let Some(message) = visit.element(fx) else { return Ack::Now };
    let text = match (message.find("subject", CLIENT), message.find("body", CLIENT)) {
        (Some(subject), None) => subject.content().into_owned(),
        _ => return speak::speak(actors, env, fx, visit),
    };
    let key = match speak::occupant(actors, env, fx, visit) {
        Ok(key) => key,
        Err(ack) => return ack,
    };
    let Some(room) = actors.rooms.room_mut(visit.name) else { return Ack::Now };
    if !rules::may_set_subject(room.occupants.get(key).role(), room.config()) {
        return visit.refuse(env, fx, StanzaCondition::Forbidden);
    }
    if text.len() > env.config.rooms.subject_bytes as usize {
        env.metrics().refused_room_text.add(1);
        let told = format!("a subject may have at most {} bytes", env.config.rooms.subject_bytes);
        return visit.refuse(env, fx, StanzaError::from(StanzaCondition::NotAcceptable).with_text(told));
    }
    if let Err(ack) = speak::room_may_speak(room, env, fx, visit) {
        return ack;
    }
    let occupant = room.occupants.get(key);
    let from = env.occupant_jid(visit.name, Some(&occupant.nick));
    let Some(written) = Written::passed_on(env, visit.d, &from) else { return Ack::Now };
    let written = written.with(|out| occupant.id.write(out));
    let subject = Subject {
        text,
        nick: occupant.nick.to_string(),
        jid: visit.bare().to_owned(),
        set_ms: env.unix_ms(),
    };
    // The archive has it as it has what was said.
    let mut traits = visit.d.traits;
    traits.set(Traits::ARCHIVED);
    let (name, by) = (visit.name.to_owned(), visit.local.to_owned());
    commit::commit(actors, env, fx, Asker::of(visit), move |transaction| -> Outcome {
        let mut record = match commit::find(transaction, &name)? {
            Ok(record) => record,
            Err(error) => return Ok(Err(error)),
        };
        transaction.set_room_subject(&mut record, subject)?;
        let after: After = Box::new(move |actors, env, fx| {
            let Some(room) = actors.rooms.room_mut(&name) else { return Reply::Error(error::no_room()) };
            room.replace(record);
            let said =
                Said { from: &from, by: &by, traits, written: &written, by_room: false, retracts: false };
            match speak::distribute(actors, env, fx, &name, &said, None) {
                Ok(_) => Reply::Done,
                Err(error) => Reply::Error(error),
            }
        });
        Ok(Ok(after))
    })
}
