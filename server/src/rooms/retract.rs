//! Messages are taken back: by their authors (XEP-0424), or by moderators (XEP-0425).
//!
//! ```text
//! retraction ─► the room's archive: what is it about? ─► may it? ─► archive ─► everybody who is there
//!                    └─ the room is busy meanwhile                     └─► committed ─► its effect (`user::archive::retract`)
//! ```
//! The room looks before it says anything, so nobody hears a retraction of somebody else's message. One of a message that the
//! archive does not have (any more) is passed on: clients that have it know whose it was by the id of the occupant. A room without an
//! archive gives no ids, and has nothing to take back.

use whimbrel_storage::archive::query::{Page, Query, QueryError};
use whimbrel_storage::directory::rooms::RoomFlags;
use whimbrel_storage::log::Sequence;

use crate::effects::work;
use crate::env::Env;
use crate::occupancy::room::Room;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::muc::occupant::OccupantIds;
use crate::proto::muc::retraction::{Moderated, Moderation, RoomRetraction, Verdict};
use crate::proto::muc::{admin, error, rules};
use crate::rooms::receive;
use crate::rooms::say::Written;
use crate::rooms::speak::{self, Said};
use crate::rooms::visit::{Ack, Asker, Visit};
use crate::service::Reply;
use crate::service::archive::{busy, lookup};
use crate::stanza::{Kind, Traits};
use crate::user::actors::{Actors, Effects};
use crate::user::archive::in_room::{self, TakenBack};
use crate::user::archive::{open, upkeep};
use crate::user::jobs::Then;
use crate::user::record;
use crate::xml::Element;

/// Bytes of chance in the id of what a room says of a moderator.
const ID_BYTES: usize = 8;

/// A retraction whose message is to be looked at.
pub(super) struct Retracting {
    asker: Asker,
    /// The occupant as others see it, or the room.
    from: String,
    /// Localpart of whoever takes back.
    by: String,
    traits: Traits,
    written: Written,
    retraction: RoomRetraction,
    target: Sequence,
    is_moderated: bool,
}

/// What becomes of a retraction.
enum Step {
    /// It takes its message back.
    TakeBack,
    /// It is a message like any other.
    PassOn,
    /// Nothing: its message is taken back already.
    Nothing,
}

/// A message that an occupant says; `None`: it names nothing that this server has ever given an id to.
pub(super) fn by_author(env: &Env, visit: &Visit<'_>, said: &Said<'_>) -> Option<Retracting> {
    let retraction = RoomRetraction::read(&said.written.0)?;
    let target = env.shared.archive_ids.open(retraction.target()).map(Sequence)?;
    Some(Retracting {
        asker: Asker::of(visit),
        from: said.from.to_owned(),
        by: said.by.to_owned(),
        traits: said.traits,
        written: said.written.clone(),
        retraction,
        target,
        is_moderated: false,
    })
}

/// A request of a moderator.
pub(super) fn by_moderator(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    query: &Element,
) -> Ack {
    let moderation = match Moderation::read(query) {
        Ok(moderation) => moderation,
        Err(error) => return visit.refuse(env, fx, error),
    };
    let Some(room) = actors.rooms.room(visit.name) else { return visit.refuse(env, fx, error::no_room()) };
    match visit.standing(env, fx, room) {
        Ok(own) if rules::may_moderate(own) => {}
        Ok(_) => return visit.refuse(env, fx, admin::forbidden()),
        Err(ack) => return ack,
    }
    let is_there = visit.seat(room).is_some();
    if let Err(ack) = may_go_on(actors, env, fx, visit, is_there) {
        return ack;
    }
    let Some(room) = actors.rooms.room(visit.name) else { return Ack::Now };
    let target = env.shared.archive_ids.open(&moderation.target).map(Sequence);
    let Some(target) = target.filter(|_| keeps(env, room)) else {
        return visit.refuse(env, fx, lookup::not_found());
    };
    let written = match told(env, fx, visit, room, &moderation) {
        Ok(written) => written,
        Err(ack) => return ack,
    };
    let Some(retraction) = RoomRetraction::read(&written.0) else {
        return visit.refuse(env, fx, StanzaCondition::InternalServerError);
    };
    let retracting = Retracting {
        asker: Asker::of(visit),
        from: env.room_jid(visit.name),
        by: visit.local.to_owned(),
        traits: Traits::CONTENT.and(Traits::ARCHIVED),
        written,
        retraction,
        target,
        is_moderated: true,
    };
    retracting.look(actors, env, fx)
}

/// Whether a room keeps what is said in it.
fn keeps(env: &Env, room: &Room) -> bool {
    room.has(RoomFlags::ARCHIVE) && env.config.archive.enabled
}

/// What a moderator takes back is told to all like a message, and is as fast at most. One that is not there has no pace of its own.
fn may_go_on(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    is_there: bool,
) -> Result<(), Ack> {
    if is_there {
        speak::occupant(actors, env, fx, visit)?;
    }
    let Some(room) = actors.rooms.room_mut(visit.name) else { return Err(Ack::Now) };
    speak::room_may_speak(room, env, fx, visit)
}

/// What the room says of a moderator.
fn told(
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    room: &Room,
    moderation: &Moderation,
) -> Result<Written, Ack> {
    let jid = env.room_jid(visit.name);
    let (by, occupant) = match visit.seat(room) {
        Some(key) => {
            let occupant = room.occupants.get(key);
            (env.occupant_jid(visit.name, Some(&occupant.nick)), occupant.id)
        }
        None => {
            let account = visit.account(env, fx)?;
            (jid.clone(), OccupantIds::new(&room.record.secret).of(visit.bare(), account))
        }
    };
    let chance: [u8; ID_BYTES] = env.shared.chance.bytes();
    let id = format!("{:016x}", u64::from_be_bytes(chance));
    let mut written = Written::begin(Kind::Message, &jid);
    for part in [" type='groupchat' id='", &*id, "'>"] {
        written.0.extend_from_slice(part.as_bytes());
    }
    Moderated { moderation, by: &by, occupant }.write(&mut written.0);
    written.0.extend_from_slice(b"</message>");
    Ok(written)
}

impl Retracting {
    /// Looks at the message that is to be taken back. The room is busy meanwhile.
    pub(super) fn look(self, actors: &mut Actors, env: &Env, fx: &mut Effects) -> Ack {
        let asker = self.asker.clone();
        let Some(room) = actors.rooms.room(&asker.name) else { return Ack::Now };
        let actor = room.record.actor;
        if !open::has_room_to_receive(actors, env, actor, &self.by) {
            env.metrics().refused_retractions.add(1);
            asker.refuse(env, fx, open::too_many());
            return Ack::Now;
        }
        fx.work.add(work::RETRACTION_IN_ROOM);
        let snapshot = actors.commits.archive().snapshot(actor);
        let query = Query { not_before: upkeep::oldest(env), ..Query::one(actor, snapshot, self.target) };
        let go_on = Box::new(move |answer: Result<Page, QueryError>| -> Then {
            Box::new(move |actors, env, fx| self.found(actors, env, fx, answer))
        });
        actors.rooms.inbox(&asker.name).begin();
        if fx.jobs.look(query, go_on) {
            return Ack::Later;
        }
        env.metrics().refused_archive_queries.add(1);
        actors.rooms.inbox(&asker.name).end();
        asker.refuse(env, fx, busy());
        Ack::Now
    }

    fn found(self, actors: &mut Actors, env: &Env, fx: &mut Effects, answer: Result<Page, QueryError>) {
        let asker = self.asker.clone();
        actors.rooms.inbox(&asker.name).end();
        let room = actors.rooms.room(&asker.name).map(|room| room.record.actor);
        let taken_back = room.and_then(|room| in_room::taken_back(actors, env, room)).unwrap_or_default();
        let outcome = match self.judge(&answer, &taken_back) {
            Ok(Step::Nothing) => {
                asker.reply(env, fx, Reply::Done);
                Ok(Ack::Now)
            }
            Ok(step) => self.say(actors, env, fx, &step),
            Err(error) => Err(error),
        };
        let ack = outcome.unwrap_or_else(|error| {
            asker.refuse(env, fx, error);
            Ack::Now
        });
        if ack == Ack::Now {
            asker.settle(actors, env, fx);
        }
        receive::go_on(actors, env, fx, &asker.name);
    }

    fn judge(&self, answer: &Result<Page, QueryError>, taken_back: &TakenBack) -> Result<Step, StanzaError> {
        let page = answer.as_ref().map_err(|error| {
            tracing::error!(room = self.asker.name, %error, "an archive cannot be read");
            StanzaError::from(StanzaCondition::InternalServerError)
        })?;
        let found = page.messages.first().map(|found| (found, record::decode(page.text(found))));
        let Some((found, kept)) = found else {
            return if self.is_moderated { Err(lookup::not_found()) } else { Ok(Step::PassOn) };
        };
        let verdict = kept.map_or(Verdict::Stays, |kept| self.retraction.judge(kept.stanza));
        let is_gone = found.erased_ms.is_some() || taken_back.has(found.id);
        match (verdict, self.is_moderated) {
            (Verdict::Taken, true) if is_gone => Ok(Step::Nothing),
            (Verdict::Taken, false) if is_gone => Ok(Step::PassOn),
            (Verdict::Taken, _) => Ok(Step::TakeBack),
            (Verdict::Stays, false) => Ok(Step::PassOn),
            (Verdict::Stays, true) => {
                let text = "what the room itself has said cannot be taken back";
                Err(StanzaError::from(StanzaCondition::NotAllowed).with_text(text))
            }
            (Verdict::NotTheirs, _) => {
                let text = "only its author, or a moderator, may take a message back";
                Err(StanzaError::from(StanzaCondition::Forbidden).with_text(text))
            }
        }
    }

    /// Says it to everybody. A moderator hears that it is done when it is on the disk: from then on it takes effect over any crash.
    fn say(self, actors: &mut Actors, env: &Env, fx: &mut Effects, step: &Step) -> Result<Ack, StanzaError> {
        let retracts = matches!(step, Step::TakeBack);
        let Retracting { asker, from, by, traits, written, is_moderated, .. } = self;
        let said = Said { from: &from, by: &by, traits, written: &written, by_room: is_moderated, retracts };
        let ack = speak::distribute(actors, env, fx, &asker.name, &said, asker.pending_ack)?;
        if is_moderated {
            env.metrics().room_moderated.add(1);
            actors.commits.when_committed(Box::new(move |_, env, fx, is_durable| {
                let reply = match is_durable {
                    true => Reply::Done,
                    false => StanzaCondition::InternalServerError.into(),
                };
                asker.reply(env, fx, reply);
            }));
        }
        Ok(ack)
    }
}
