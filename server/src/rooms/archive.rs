//! A room's archive (XEP-0313), for those who may enter and read the same there. It has what was said to everybody, and no
//! private message. The address of an author is told to those who see addresses in the room (§5.1.2).
//!
//! A page is read in one step of 64 KiB, so it may have fewer messages than were asked for; a client goes on behind the last one.
//! Messages and the end of the page go the same way as what is said in the room, so they come in their order.

use std::sync::Arc;

use whimbrel_storage::archive::query::Query as Reading;
use whimbrel_storage::archive::query::{End, Found, Order, Page, Predicate, QueryError};
use whimbrel_storage::directory::rooms::{RoomConfig, RoomFlags};
use whimbrel_storage::jid::Jid;
use whimbrel_storage::log::Sequence;

use crate::effects::work;
use crate::env::Env;
use crate::exchange::fanout::Weight;
use crate::proto::address;
use crate::proto::archive::page;
use crate::proto::archive::query::Query;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::muc::rules::Standing;
use crate::proto::muc::{Affiliation, Role, admin, error, rules};
use crate::proto::{ns, rsm};
use crate::rooms::say::{self, Written};
use crate::rooms::visit::{Ack, Asker, Visit};
use crate::service::Reply;
use crate::service::archive::{busy, lookup, too_many_looks};
use crate::stanza::{Kind, Type};
use crate::user::actors::{Actors, Effects};
use crate::user::archive::in_room::{self, TakenBack};
use crate::user::jobs::Then;
use crate::user::record;
use crate::xml::{Element, writer};

/// Steps after which no more are read to find a message of those that were asked for.
const EMPTY_STEPS_MAX: u32 = 16;

/// A page on its way.
struct Paging {
    asker: Asker,
    local: String,
    resource: String,
    id: String,
    query_id: Option<String>,
    max: usize,
    is_flipped: bool,
    order: Order,
    sees_jids: bool,
    /// Messages that had been erased when the step was asked for.
    erased: u64,
    steps_left: u32,
    /// Messages that may still be read to find those that are asked for.
    looks_left: usize,
}

/// A query of the room's archive.
pub(super) fn answer(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    visit: &Visit<'_>,
    query: &Element,
) -> Ack {
    let Some(room) = actors.rooms.room(visit.name) else { return visit.refuse(env, fx, error::no_room()) };
    if !env.config.archive.enabled || !room.has(RoomFlags::ARCHIVE) {
        return visit.refuse(env, fx, StanzaCondition::ServiceUnavailable);
    }
    let own = match visit.standing(env, fx, room) {
        Ok(own) => own,
        Err(ack) => return ack,
    };
    if !may_read(own, room.config()) {
        return visit.refuse(env, fx, admin::forbidden());
    }
    if visit.d.typ == Type::Get {
        return visit.reply(env, fx, Reply::Result(Query::form()));
    }
    let mut query = match Query::read(query) {
        Ok(query) => query,
        Err(error) => return visit.refuse(env, fx, error),
    };
    let with = query.with.take();
    let actor = room.record.actor;
    let snapshot = actors.commits.archive().snapshot(actor);
    let mut reading = match lookup::of(env, &query, visit.local, (actor, snapshot)) {
        Ok(reading) => reading,
        Err(error) => return visit.refuse(env, fx, error),
    };
    reading.matches = with.map(|with| said_by(&with));
    let looks_max = env.config.archive.messages_per_page as usize;
    reading.looks_max = reading.looks_max.min(looks_max);
    env.metrics().archive_queries.add(1);
    let paging = Paging {
        asker: Asker::of(visit),
        local: visit.local.to_owned(),
        resource: visit.resource.to_owned(),
        id: visit.d.id.unwrap_or_default().to_owned(),
        query_id: query.query_id,
        max: query.page.max,
        is_flipped: query.is_flipped,
        order: reading.order,
        sees_jids: rules::sees_jids(own, room.config()),
        erased: 0,
        steps_left: EMPTY_STEPS_MAX,
        looks_left: looks_max,
    };
    paging.read(actors, env, fx, reading)
}

/// Whether somebody may read the archive: it is in the room, or could enter and read the same there.
fn may_read(own: Standing, config: &RoomConfig) -> bool {
    own.role > Role::None || rules::may_read_archive(own.affiliation, config)
}

/// Whether an occupant of this address has said a message; the room's own address stands for all.
fn said_by(with: &Jid) -> Predicate {
    let with = with.as_str().to_owned();
    Arc::new(move |payload| {
        let kept = record::decode(payload).and_then(|kept| record::addresses(kept.stanza));
        kept.is_some_and(|(from, _)| from == with || address::bare_of(&from) == with)
    })
}

impl Paging {
    fn read(mut self, actors: &Actors, env: &Env, fx: &mut Effects, reading: Reading) -> Ack {
        self.erased = actors.archives.retractions.erased();
        fx.work.add(work::LOOK);
        let (asker, asked) = (self.asker.clone(), reading.clone());
        let go_on = Box::new(move |answer: Result<Page, QueryError>| -> Then {
            Box::new(move |actors, env, fx| self.take(actors, env, fx, &asked, answer))
        });
        if fx.jobs.look(reading, go_on) {
            return Ack::Later;
        }
        env.metrics().refused_archive_queries.add(1);
        asker.refuse(env, fx, busy());
        Ack::Now
    }

    fn take(
        mut self,
        actors: &mut Actors,
        env: &Env,
        fx: &mut Effects,
        asked: &Reading,
        answer: Result<Page, QueryError>,
    ) {
        let asker = self.asker.clone();
        let refusal = match &answer {
            Err(error) => {
                tracing::error!(room = asker.name, %error, "an archive cannot be read");
                Some(StanzaError::from(StanzaCondition::InternalServerError))
            }
            Ok(page) if matches!(page.end, End::NotFound(_)) => Some(lookup::not_found()),
            Ok(_) => self.look_again(actors, env, fx, asked).err(),
        };
        match (answer, refusal) {
            (Ok(page), None) if self.reads_on(actors, asked, &page) => {
                self.steps_left -= 1;
                let next = match self.is_stale(actors, asked, &page) {
                    true => asked.clone(),
                    false => {
                        self.looks_left = self.looks_left.saturating_sub(page.cost.looks);
                        let looks_max = asked.looks_max.min(self.looks_left);
                        Reading { looks_max, ..asked.clone().rest(&page) }
                    }
                };
                if self.read(actors, env, fx, next) == Ack::Now {
                    asker.settle(actors, env, fx);
                }
                return;
            }
            // Without a message there is none behind which the client could go on.
            (Ok(page), None) if page.messages.is_empty() && page.goes_on() => {
                asker.refuse(env, fx, too_many_looks());
            }
            (Ok(page), None) => match in_room::taken_back(actors, env, asked.actor) {
                Some(taken_back) if !self.is_stale(actors, asked, &page) => {
                    self.give(env, fx, page, &taken_back);
                }
                _ => asker.refuse(env, fx, busy()),
            },
            (_, refusal) => {
                let error = refusal.unwrap_or_else(|| StanzaCondition::InternalServerError.into());
                asker.refuse(env, fx, error);
            }
        }
        asker.settle(actors, env, fx);
    }

    /// Whether the page has nothing for the client yet, and another step may.
    fn reads_on(&self, actors: &Actors, asked: &Reading, page: &Page) -> bool {
        let has_looks = page.cost.looks < self.looks_left;
        let is_empty = page.messages.is_empty() && page.goes_on() && has_looks;
        self.steps_left > 0 && (is_empty || self.is_stale(actors, asked, page))
    }

    /// Whether something of a page was taken back while it was read.
    fn is_stale(&self, actors: &Actors, asked: &Reading, page: &Page) -> bool {
        let ids = page.messages.iter().map(|found| found.id);
        actors.archives.retractions.has_erased_since(self.erased, asked.actor, ids)
    }

    /// Looks again what the client may read: the room may have been destroyed while a step was read, or somebody banned from it.
    fn look_again(
        &mut self,
        actors: &Actors,
        env: &Env,
        fx: &Effects,
        asked: &Reading,
    ) -> Result<(), StanzaError> {
        fx.work.add(2 * work::LOOK);
        let (name, bare) = (&self.asker.name, env.bare_jid(&self.local));
        let found = env.shared.directory.rooms(|rooms| {
            let Some(room) = rooms.room(name)?.filter(|room| room.actor == asked.actor) else {
                return Ok(None);
            };
            Ok(Some((room, rooms.affiliate(asked.actor, &bare, Some(&self.local))?)))
        });
        let Some((room, own)) = found.map_err(|error| {
            tracing::error!(room = name, %error, "cannot read the directory");
            StanzaError::from(StanzaCondition::InternalServerError)
        })?
        else {
            return Err(error::no_room());
        };
        let role = actors.rooms.room(name).and_then(|room| {
            let occupants = room.occupants.of_account(&self.local);
            occupants.into_iter().map(|key| room.occupants.get(key).role()).max()
        });
        let affiliation = own.map_or(Affiliation::None, |own| own.affiliation);
        let own = Standing { affiliation, role: role.unwrap_or(Role::None) };
        self.sees_jids = rules::sees_jids(own, &room.config);
        match may_read(own, &room.config) {
            true => Ok(()),
            false => Err(admin::forbidden()),
        }
    }

    /// Gives the messages in their order, and then the end of the page.
    fn give(&self, env: &Env, fx: &mut Effects, mut page: Page, taken_back: &TakenBack) {
        let is_longer = page.messages.len() > self.max;
        page.messages.truncate(self.max);
        let has_more = is_longer || page.goes_on();
        let ids = page.messages.iter().map(|found| found.id);
        let bounds = ids.clone().min().zip(ids.max());
        let is_turned = (self.order == Order::Backwards) != self.is_flipped;
        let mut messages: Vec<&Found> = page.messages.iter().collect();
        if is_turned {
            messages.reverse();
        }
        let frame = page::Frame::of_result(self.query_id.as_deref(), &env.shared.rooms_domain);
        for found in messages {
            self.give_one(env, fx, &frame, found, &taken_back.text(&page, found));
        }
        let text = |id: Sequence| String::from_utf8_lossy(&env.shared.archive_ids.seal(id.0)).into_owned();
        let bounds = bounds.map(|(first, last)| (text(first), text(last)));
        let fin = page::fin(&rsm::Page { bounds, index: None, count: None }, !has_more);
        let mut iq = self.begin(env, Kind::Iq);
        iq.0.extend_from_slice(b" type='result' id='");
        writer::escape_attribute(&self.id, &mut iq.0);
        iq.0.extend_from_slice(b"'>");
        fin.write(ns::CLIENT, &mut iq.0);
        iq.0.extend_from_slice(b"</iq>");
        self.send(env, fx, Kind::Iq, &iq);
    }

    fn begin(&self, env: &Env, kind: Kind) -> Written {
        Written::begin(kind, &env.room_jid(&self.asker.name))
    }

    fn give_one(&self, env: &Env, fx: &mut Effects, frame: &page::Frame, found: &Found, text: &[u8]) {
        let Some(kept) = record::decode(text) else { return };
        let mut written = self.begin(env, Kind::Message);
        written.0.push(b'>');
        let id = env.shared.archive_ids.seal(found.id.0);
        match kept.resource.filter(|_| self.sees_jids) {
            Some(author) => {
                let stanza = Written(kept.stanza.to_vec()).with(|out| write_author(author, out)).0;
                frame.write(&id, found.time_ms, &stanza, &mut written.0);
            }
            None => frame.write(&id, found.time_ms, kept.stanza, &mut written.0),
        }
        written.0.extend_from_slice(b"</message>");
        self.send(env, fx, Kind::Message, &written);
        env.metrics().archive_returned.add(1);
    }

    fn send(&self, env: &Env, fx: &mut Effects, kind: Kind, written: &Written) {
        let from = env.room_jid(&self.asker.name);
        let cast = written.cast(kind, Weight::Answer, &from);
        say::to_seats(env, fx, &cast, (&self.local, &[&self.resource]));
    }
}

/// Appends who has said a message, for those who may know (XEP-0313 §5.1.2).
fn write_author(jid: &str, out: &mut Vec<u8>) {
    for part in ["<x xmlns='", ns::MUC_USER, "'><item jid='"] {
        out.extend_from_slice(part.as_bytes());
    }
    writer::escape_attribute(jid, out);
    out.extend_from_slice(b"'/></x>");
}
