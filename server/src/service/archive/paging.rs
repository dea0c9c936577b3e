//! A page of an archive on its way to the client that has asked for it.
//!
//! ```text
//! request ─► room for a step? ─► a reader's thread ─► messages to the client ─┬─► fin
//!                  ▲   no: the client reads                                   │
//!                  └────────────────────────── there is more of the page ─────┘
//! ```
//! A page is read in steps of 64 KiB, each when its reader has room for it, so a slow reader costs nothing but its own page:
//! what it sends meanwhile waits behind it. A page goes to the client in the order of the archive, or in reverse if it was
//! asked for (`<flip-page/>`). Where the page is found from the other end, and is longer than a step, its ends are looked for
//! first, and then it is read again in the order of its messages.
//!
//! A message that still waits in the mailbox, and is on its way to nobody, is delivered with the page: the client does not get
//! it once more.

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::archive::Snapshot;
use whimbrel_storage::archive::continuation::GOES_ON;
use whimbrel_storage::archive::query::{Cost, End, Found, Order, Page, Query, QueryError};
use whimbrel_storage::log::Sequence;

use super::lookup::Step;
use super::{lookup, metadata};
use crate::env::Env;
use crate::proto::archive::page;
use crate::proto::archive::query;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::rsm::{self, Start};
use crate::runtime::driver::ConnId;
use crate::service::{Begun, Reply, Request};
use crate::stanza::Kind;
use crate::user::actors::{Actors, Effects};
use crate::user::archive::continuations::FOLLOWING;
use crate::user::archive::{Archives, open};
use crate::user::flow::{self, Class, Outgoing};
use crate::user::inactive::Urgency;
use crate::user::jobs::Then;
use crate::user::room::{self, Room};
use crate::user::tables::ResourceKey;
use crate::user::{delivery, record};

/// A page that has been begun.
struct Paging {
    begun: Begun,
    key: ResourceKey,
    /// The connection that has asked: with another one it is somebody else's.
    conn: ConnId,
    actor: ActorId,
    query_id: Option<String>,
    /// What is still to be read.
    rest: Query,
    /// Whether [`Query::snapshot`] of it has been taken, which a page that is continued does without.
    has_snapshot: bool,
    /// Messages of the page at most.
    max: usize,
    is_flipped: bool,
    stage: Stage,
    /// Messages found so far.
    found: usize,
    /// Messages that may still be read to find them. More are read than are given where a resource of a peer is asked for, or
    /// two peers have one hash, or about the edges of a window of time.
    looks_left: usize,
    /// Ids of the first and the last message of the page in the order of the archive.
    bounds: Option<(Sequence, Sequence)>,
    /// There is another message beyond the page.
    has_more: bool,
    begun_ms: u64,
    /// Messages that had been erased when the page was begun, and when its last step was asked for.
    erased_before: u64,
    erased: u64,
    /// The newest retraction that has to take effect before the next step is read.
    waits_for: Sequence,
}

/// How far a page has come.
enum Stage {
    /// It is found from the end that is given last. What fits is kept, to be given at once.
    Locating { kept: Vec<Page>, bytes: usize },
    /// Its messages are given as they are found.
    Giving,
}

/// Begins a page.
pub(super) fn begin(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    request: &Request,
    query: query::Query,
) -> Reply {
    let Some(key) = request.sender else { return StanzaCondition::ServiceUnavailable.into() };
    env.metrics().archive_queries.add(1);
    let actor = actors.users.account_of(key);
    let rest = match lookup::of(env, &query, &request.account, (actor, Snapshot::default())) {
        Ok(rest) => rest,
        Err(error) => return Reply::Error(error),
    };
    // Whoever asks for the end alone mostly asks no further.
    let goes_on = GOES_ON && query.page.start != Start::Last && actors.archives.continuations.has_place(key);
    let following = if goes_on { FOLLOWING } else { 0 };
    let rest = Query { following, ..rest };
    let stage = match (rest.order, query.is_flipped) {
        (Order::Forwards, false) | (Order::Backwards, true) => Stage::Giving,
        _ => Stage::Locating { kept: Vec::new(), bytes: 0 },
    };
    let paging = Paging {
        begun: request.begin(actors, fx),
        key,
        conn: actors.users.resource(key).conn,
        actor,
        query_id: query.query_id,
        rest,
        has_snapshot: false,
        max: query.page.max,
        is_flipped: query.is_flipped,
        stage,
        found: 0,
        looks_left: looks_max(env),
        bounds: None,
        has_more: false,
        begun_ms: env.now.0,
        erased_before: actors.archives.retractions.erased(),
        erased: 0,
        waits_for: Sequence::ZERO,
    };
    paging.go_on(actors, env, fx);
    Reply::Later
}

/// A client has lost its connection, or everything has to come to rest: its page ends with an error after which it asks again.
pub(super) fn give_up(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    actors.archives.continuations.forget(key);
    if let Some(then) = actors.waiting_for_room.take(key) {
        then(actors, env, fx);
    }
}

impl Paging {
    /// Has the next step read, as soon as there is room for it.
    fn go_on(self, actors: &mut Actors, env: &Env, fx: &mut Effects) {
        let key = self.key;
        if !self.is_wanted(actors) {
            return self.end(actors, env, fx, Reply::Error(ask_again()));
        }
        let unread = open::taken_back(actors, self.actor).unread();
        if open::waits_for(actors, (self.actor, key), self.waits_for.max(unread)) {
            return self.wait(actors);
        }
        let room = match self.stage {
            Stage::Locating { .. } => Room::Now,
            Stage::Giving => room::for_page(actors, env, fx, key),
        };
        if room == Room::Now {
            return self.read(actors, env, fx);
        }
        if room == Room::Soon {
            fx.due_room.note(key);
        }
        self.wait(actors);
    }

    fn wait(self, actors: &mut Actors) {
        let key = self.key;
        actors.waiting_for_room.insert(key, Box::new(move |actors, env, fx| self.go_on(actors, env, fx)));
    }

    /// Whether the client that has asked is still there.
    fn is_wanted(&self, actors: &Actors) -> bool {
        let resource = actors.users.get(self.key);
        self.conn != ConnId::NONE
            && resource.is_some_and(|resource| resource.conn == self.conn)
            && !actors.waiting_for_room.is_closed()
    }

    fn read(mut self, actors: &mut Actors, env: &Env, fx: &mut Effects) {
        if let Some((page, erased)) = self.continued(actors, env, fx) {
            self.erased = erased;
            return self.take(actors, env, fx, Ok(page));
        }
        self.erased = actors.archives.retractions.erased();
        if !std::mem::replace(&mut self.has_snapshot, true) {
            self.rest.snapshot = actors.commits.archive().snapshot(self.actor);
        }
        let (begun, query, begun_ms) = (self.begun.clone(), self.rest.clone(), self.begun_ms);
        let go_on = Box::new(move |answer| -> Then {
            Box::new(move |actors, env, fx| self.take(actors, env, fx, answer))
        });
        if !fx.jobs.look(query, go_on) {
            env.metrics().refused_archive_queries.add(1);
            end(actors, env, fx, (&begun, begun_ms), Reply::Error(metadata::busy()));
        }
    }

    /// The next step, if it is known where it lies and it is in memory, and how many messages had been erased when that was looked
    /// up.
    fn continued(&self, actors: &mut Actors, env: &Env, fx: &mut Effects) -> Option<(Page, u64)> {
        let Archives { continuations, retractions, .. } = &mut actors.archives;
        let mut cost = Cost::default();
        let reader = (self.key, self.conn);
        let found = continuations.page(reader, self.actor, &self.rest, retractions, &mut cost);
        fx.work.add_read(cost.bytes);
        let (page, erased) = found?;
        fx.jobs.count_continued(&page);
        env.metrics().archive_continued.add(1);
        Some((page, erased))
    }

    /// A step has been read.
    fn take(mut self, actors: &mut Actors, env: &Env, fx: &mut Effects, answer: Result<Page, QueryError>) {
        let mut page = match answer {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "an archive cannot be read");
                return self.end(actors, env, fx, StanzaCondition::InternalServerError.into());
            }
        };
        if matches!(page.end, End::NotFound(_)) {
            return self.end(actors, env, fx, Reply::Error(lookup::not_found()));
        }
        if !self.is_wanted(actors) {
            return self.end(actors, env, fx, Reply::Error(ask_again()));
        }
        let ids = page.messages.iter().map(|found| found.id);
        if actors.archives.retractions.has_erased_since(self.erased, self.actor, ids)
            || self.has_taken_back(actors, &mut page)
        {
            // What was read may have a text that nobody is to get any more.
            return self.go_on(actors, env, fx);
        }
        if let Some(continuation) = page.continuation.take() {
            let made = (self.erased, env.now);
            actors.archives.continuations.put((self.key, self.conn), continuation, made);
        }
        let goes_on = page.goes_on();
        self.looks_left = self.looks_left.saturating_sub(page.cost.looks);
        let step = Step::of(&env.config.limits);
        self.rest = Query { looks_max: step.looks.min(self.looks_left), ..self.rest.rest(&page) };
        // One more than the page has was asked for.
        let left = self.max - self.found;
        let is_full = page.messages.len() > left;
        if is_full {
            page.messages.truncate(left);
            self.has_more = true;
        }
        self.found += page.messages.len();
        self.note_bounds(&page);
        let is_cut = goes_on && !is_full && self.looks_left == 0;
        if is_cut && self.found == 0 {
            return self.end(actors, env, fx, Reply::Error(too_many_looks()));
        }
        self.has_more |= is_cut;
        let is_at_end = !goes_on || is_full || is_cut;
        match &mut self.stage {
            Stage::Giving => {
                self.give(actors, env, fx, &page, page.messages.iter());
                match is_at_end {
                    true => self.finish(actors, env, fx),
                    false => self.go_on(actors, env, fx),
                }
            }
            Stage::Locating { kept, bytes } => {
                *bytes += page.texts.len();
                kept.push(page);
                if *bytes > step.bytes || self.found > step.looks {
                    kept.clear();
                }
                match is_at_end {
                    true => self.located(actors, env, fx),
                    false => self.go_on(actors, env, fx),
                }
            }
        }
    }

    /// Whether a page has messages that are retracted, and is to be read again when that has taken effect. While the directory
    /// cannot be written, it is given without them.
    fn has_taken_back(&mut self, actors: &mut Actors, page: &mut Page) -> bool {
        let taken_back = open::taken_back(actors, self.actor);
        if taken_back.is_empty() {
            return false;
        }
        let is_meant = |page: &Page, found: &Found| {
            found.erased_ms.is_none()
                && record::decode(page.text(found)).is_some_and(|kept| taken_back.has(found.id, kept.stanza))
        };
        let count = page.messages.iter().filter(|found| is_meant(page, found)).count();
        if count == 0 {
            return false;
        }
        self.waits_for = self.waits_for.max(taken_back.newest());
        if open::waits_for(actors, (self.actor, self.key), self.waits_for) {
            return true;
        }
        let messages = std::mem::take(&mut page.messages);
        page.messages = messages.into_iter().filter(|found| !is_meant(page, found)).collect();
        self.has_more |= page.end == End::Full;
        false
    }

    fn note_bounds(&mut self, page: &Page) {
        let Some((one, other)) = page.messages.first().zip(page.messages.last()) else { return };
        let (low, high) = (one.id.min(other.id), one.id.max(other.id));
        let (first, last) = self.bounds.unwrap_or((low, high));
        self.bounds = Some((first.min(low), last.max(high)));
    }

    /// It is known which messages the page has: they are given in their order.
    fn located(mut self, actors: &mut Actors, env: &Env, fx: &mut Effects) {
        let Stage::Locating { mut kept, bytes } = std::mem::replace(&mut self.stage, Stage::Giving) else {
            return;
        };
        let ids = kept.iter().flat_map(|page| page.messages.iter().map(|found| found.id));
        let is_stale = actors.archives.retractions.has_erased_since(self.erased_before, self.actor, ids)
            || kept.iter_mut().any(|page| self.has_taken_back(actors, page));
        let step = Step::of(&env.config.limits);
        if bytes <= step.bytes && self.found <= step.looks && !is_stale {
            for page in kept.iter().rev() {
                self.give(actors, env, fx, page, page.messages.iter().rev());
            }
            return self.finish(actors, env, fx);
        }
        let Some((first, last)) = self.bounds else { return self.finish(actors, env, fx) };
        // It is longer than a step, or something of it has been retracted meanwhile: once more, from the other end, with the filter that found it.
        self.rest.after = Sequence(first.0 - 1);
        self.rest.before = Sequence(last.0 + 1);
        self.rest.order = if self.is_flipped { Order::Backwards } else { Order::Forwards };
        self.rest.messages_max = self.found;
        self.looks_left = looks_max(env);
        self.rest.looks_max = step.looks;
        self.max = self.found;
        self.found = 0;
        self.go_on(actors, env, fx);
    }

    /// Writes messages to the client.
    fn give<'p>(
        &self,
        actors: &mut Actors,
        env: &Env,
        fx: &mut Effects,
        page: &'p Page,
        messages: impl Iterator<Item = &'p Found>,
    ) {
        let user = actors.users.resource(self.key).user;
        let archive = env.bare_jid(&actors.users.user(user).local);
        let to = actors.users.full_jid(env, self.key);
        let frame = page::Frame::of_message(&archive, &to, self.query_id.as_deref(), &env.shared.domain);
        let queue = actors.commits.log();
        let under_way = queue.waiting(self.actor).next().map(|_| flow::under_way(actors, user));
        let conn = actors.users.resource(self.key).conn;
        fx.out.reserve(conn, page.texts.len() + page.messages.len() * frame.bytes());
        let mut bytes = fx.buffers.lend();
        let mut given = 0;
        for found in messages {
            let Some(kept) = record::decode(page.text(found)) else { continue };
            bytes.clear();
            frame.write(&env.shared.archive_ids.seal(found.id.0), found.time_ms, kept.stanza, &mut bytes);
            let waits = under_way.as_ref().is_some_and(|under_way| {
                actors.commits.log().is_waiting(self.actor, found.id)
                    && under_way.binary_search(&found.id).is_err()
            });
            let class = if waits { Class::Record(found.id) } else { Class::Page };
            let out = Outgoing { kind: Kind::Message, class, urgency: Urgency::Now, bytes: &bytes };
            delivery::push_as(actors, env, fx, self.key, &out);
            given += 1;
        }
        env.metrics().archive_returned.add(given);
        fx.buffers.give_back(bytes);
    }

    /// Everything has been given: tells the client where in the archive the page lies (XEP-0059 §2).
    fn finish(self, actors: &mut Actors, env: &Env, fx: &mut Effects) {
        let text = |id: Sequence| String::from_utf8_lossy(&env.shared.archive_ids.seal(id.0)).into_owned();
        let bounds = match self.max {
            0 => None,
            _ => self.bounds.map(|(first, last)| (text(first), text(last))),
        };
        let page = rsm::Page { bounds, index: None, count: None };
        let fin = page::fin(&page, !self.has_more);
        env.metrics().archive_pages.add(1);
        self.end(actors, env, fx, Reply::Result(fin));
    }

    fn end(&self, actors: &mut Actors, env: &Env, fx: &mut Effects, reply: Reply) {
        end(actors, env, fx, (&self.begun, self.begun_ms), reply);
    }
}

fn end(actors: &mut Actors, env: &Env, fx: &mut Effects, (begun, begun_ms): (&Begun, u64), reply: Reply) {
    env.metrics().archive_latency.record(env.now.0.saturating_sub(begun_ms));
    begun.send(actors, env, fx, reply);
}

/// Messages that may be read for a page.
fn looks_max(env: &Env) -> usize {
    env.config.archive.messages_per_page as usize
}

/// So much of the archive was read, and nothing found.
pub(crate) fn too_many_looks() -> StanzaError {
    let text = "too many messages would have to be looked through; ask for a bare address or a shorter time";
    StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text)
}

/// The page could not be given to its end.
fn ask_again() -> StanzaError {
    let text = "the page was interrupted; ask again";
    StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text)
}
