//! What was said in a room, out of its archive, for a session that goes on and has references to it
//! ([`crate::user::recall`]).
//!
//! The room goes on meanwhile: what it says next comes behind what the session refers to in any case.

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::archive::query::{Page, Query, QueryError};
use whimbrel_storage::directory::DirectoryError;
use whimbrel_storage::log::Sequence;

use crate::effects::work;
use crate::env::Env;
use crate::exchange::fanout::{Cast, Weight};
use crate::proto::address;
use crate::proto::muc::{Affiliation, rules};
use crate::proto::stanza_id;
use crate::rooms::receive;
use crate::rooms::say::{self, Written};
use crate::stanza::{Delivery, Kind, Traits, Type};
use crate::user::actors::{Actors, Effects};
use crate::user::archive::in_room::{self, TakenBack};
use crate::user::archive::upkeep;
use crate::user::jobs::Then;
use crate::user::recall::{AnswerEnd, Wanted};
use crate::user::record;

/// Steps that are read once more because something of them was taken back meanwhile.
const STALE_STEPS_MAX: u32 = 16;

/// Whether a stanza asks for what was said. None of a client's does.
pub(super) fn is_question(d: &Delivery<'_>) -> bool {
    d.traits.has(Traits::FROM_SERVER) && (d.kind, d.typ) == (Kind::Iq, Type::Result)
}

/// A session wants to have again what was said.
pub(super) fn answer(actors: &mut Actors, env: &Env, fx: &mut Effects, d: &Delivery<'_>) {
    let Some((local, resource)) = address::local_and_resource(d.from) else { return };
    let Some(wanted) = d.id.and_then(Wanted::read) else { return };
    let mut recall = Recall {
        name: d.to_local.to_owned(),
        local: local.to_owned(),
        resource: resource.to_owned(),
        wanted,
        actor: ActorId::NOBODY,
        erased: 0,
        stale_steps_left: STALE_STEPS_MAX,
        left: wanted.most,
    };
    match recall.room(actors, env, fx) {
        Ok(Some(actor)) => recall.actor = actor,
        Ok(None) => return recall.end(env, fx, AnswerEnd::NotThere),
        Err(error) => return recall.unreadable(env, fx, &error),
    }
    let query = Query {
        after: Sequence(wanted.first.0.saturating_sub(1)),
        before: Sequence(wanted.last.0.saturating_add(1)),
        not_before: upkeep::oldest(env),
        ..Query::all(recall.actor, actors.commits.archive().snapshot(recall.actor))
    };
    recall.read(actors, env, fx, query);
}

/// An answer on its way.
struct Recall {
    name: String,
    local: String,
    resource: String,
    wanted: Wanted,
    actor: ActorId,
    /// Messages that had been erased when the step was asked for.
    erased: u64,
    stale_steps_left: u32,
    /// Messages that may still be read.
    left: u64,
}

impl Recall {
    /// The room's number, if there is one and the session may have what was said in it. One that is in the room may; for any other
    /// the rule is that of its archive.
    fn room(
        &self,
        actors: &mut Actors,
        env: &Env,
        fx: &mut Effects,
    ) -> Result<Option<ActorId>, DirectoryError> {
        receive::load(actors, env, fx, &self.name)?;
        let Some(room) = actors.rooms.room(&self.name) else { return Ok(None) };
        let actor = room.record.actor;
        if room.occupants.by_seat(&self.local, &self.resource).is_some() {
            return Ok(Some(actor));
        }
        fx.work.add(work::LOOK);
        let bare = env.bare_jid(&self.local);
        let found = env.shared.directory.rooms(|rooms| rooms.affiliate(actor, &bare, Some(&self.local)))?;
        let affiliation = found.map_or(Affiliation::None, |found| found.affiliation);
        Ok(rules::may_read_archive(affiliation, room.config()).then_some(actor))
    }

    fn read(mut self, actors: &Actors, env: &Env, fx: &mut Effects, query: Query) {
        self.erased = actors.archives.retractions.erased();
        fx.work.add(work::LOOK);
        let (asked, refused, name) = (query.clone(), self.again(), self.name.clone());
        let go_on = Box::new(move |answer: Result<Page, QueryError>| -> Then {
            Box::new(move |actors, env, fx| {
                self.take(actors, env, fx, asked, answer);
                receive::rest(actors, env, fx, &name);
            })
        });
        if !fx.jobs.look(query, go_on) {
            env.metrics().refused_archive_queries.add(1);
            refused.end(env, fx, AnswerEnd::Busy);
        }
    }

    /// The same, for the case that it cannot go on.
    fn again(&self) -> Recall {
        Recall {
            name: self.name.clone(),
            local: self.local.clone(),
            resource: self.resource.clone(),
            ..*self
        }
    }

    fn take(
        mut self,
        actors: &mut Actors,
        env: &Env,
        fx: &mut Effects,
        asked: Query,
        answer: Result<Page, QueryError>,
    ) {
        let page = match answer {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(room = self.name, %error, "an archive cannot be read");
                return self.end(env, fx, AnswerEnd::Failed);
            }
        };
        match self.room(actors, env, fx) {
            Ok(actor) if actor == Some(self.actor) => {}
            Ok(_) => return self.end(env, fx, AnswerEnd::NotThere),
            Err(error) => return self.unreadable(env, fx, &error),
        }
        let ids = page.messages.iter().map(|found| found.id);
        let is_stale = actors.archives.retractions.has_erased_since(self.erased, self.actor, ids);
        if is_stale && self.stale_steps_left > 0 {
            self.stale_steps_left -= 1;
            return self.read(actors, env, fx, asked);
        }
        match in_room::taken_back(actors, env, self.actor) {
            Some(taken_back) if !is_stale => self.give(env, fx, &page, &taken_back),
            _ => return self.end(env, fx, AnswerEnd::Busy),
        }
        self.left = self.left.saturating_sub(page.messages.len() as u64);
        match page.goes_on() {
            false => self.end(env, fx, AnswerEnd::All),
            true if self.left == 0 => self.end(env, fx, AnswerEnd::Failed),
            true => self.read(actors, env, fx, asked.rest(&page)),
        }
    }

    /// Gives the messages of a step as they were said, and of those that were taken back the ids.
    fn give(&self, env: &Env, fx: &mut Effects, page: &Page, taken_back: &TakenBack) {
        let jid = env.room_jid(&self.name);
        for found in &page.messages {
            let id = env.shared.archive_ids.seal(found.id.0);
            let id = std::str::from_utf8(&id).expect("base32 is ASCII");
            let kept = record::decode(page.text(found));
            match kept.filter(|_| found.erased_ms.is_none() && !taken_back.has(found.id)) {
                Some(kept) => {
                    let written = Written(kept.stanza.to_vec()).with(|out| stanza_id::write(&jid, id, out));
                    self.send(env, fx, &written.cast(Kind::Message, Weight::Recalled, &jid));
                }
                None => self.send(
                    env,
                    fx,
                    &Cast::new(Kind::Message, Weight::Recalled, &jid, (b"", id.as_bytes())),
                ),
            }
        }
    }

    fn end(&self, env: &Env, fx: &mut Effects, end: AnswerEnd) {
        let (jid, text) = (env.room_jid(&self.name), self.wanted.end(end));
        self.send(env, fx, &Cast::new(Kind::Iq, Weight::RecallEnd, &jid, (b"", text.as_bytes())));
    }

    fn unreadable(&self, env: &Env, fx: &mut Effects, error: &DirectoryError) {
        tracing::error!(room = self.name, %error, "cannot read the directory");
        self.end(env, fx, AnswerEnd::Failed);
    }

    fn send(&self, env: &Env, fx: &mut Effects, cast: &Cast<'_>) {
        say::to_seats(env, fx, cast, (&self.local, &[&self.resource]));
    }
}
