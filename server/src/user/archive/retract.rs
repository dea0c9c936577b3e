//! Retractions (XEP-0424) take effect: what they retract is found, leaves the mailbox, and is replaced in the archive.
//!
//! ```text
//! appended ─► committed ─► a reader's thread finds what it is about ─► out of the mailbox ─► directory: tombstones ─► done
//!                 ▲                                                                                │
//!                 └────────── a crash, or a directory that cannot be written: once more ───────────┘
//! ```
//! Both sides do this for themselves, each at its home. A retraction stays with the archive ([`Archive::retractions`]), in
//! checkpoints too, until the directory has its tombstones, so that one that was acknowledged takes effect over any crash;
//! and what it erases does not depend on how often it is told. Nobody gets the text meanwhile: see
//! [`open`]. A worker has one at a time looked for: those come first for which somebody waits.
//!
//! [`Archive::retractions`]: whimbrel_storage::archive::Archive::retractions

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;
use whimbrel_storage::actor::{ActorId, ActorKind};
use whimbrel_storage::archive::Retraction;
use whimbrel_storage::archive::query::QueryError;
use whimbrel_storage::archive::retract::{Meant, ReadRetraction, Replace, RetractQuery, Retracted};
use whimbrel_storage::directory::{self, WriteTransaction};
use whimbrel_storage::log::Sequence;

use crate::effects::work;
use crate::env::Env;
use crate::proto::archive::retraction::{self, Tombstone};
use crate::user::actors::{Actors, Effects};
use crate::user::archive::in_room::{self, OpenRetraction};
use crate::user::archive::open::{self, Waiting};
use crate::user::archive::upkeep;
use crate::user::jobs::Then;
use crate::user::record::{self, StoredMessage};

/// Milliseconds until one that could not take effect is tried again.
const RETRY_MS: u64 = 5_000;

/// Messages erased last that are remembered: pages that were being read may have their texts.
const REMEMBERED_MAX: usize = 256;

/// What is under way of a worker's retractions.
#[derive(Default)]
pub struct Retractions {
    /// The one that is looked for or written.
    under_way: Option<Retraction>,
    /// When the next may be tried, after one could not take effect.
    not_before_ms: u64,
    /// The last attempt has failed: nobody waits for it any longer.
    pub(super) has_failed: bool,
    /// Resources that wait for those of their account.
    pub(super) waiting: Vec<Waiting>,
    /// What those say of which somebody wanted to know.
    pub(super) read: HashMap<(ActorId, Sequence), Arc<retraction::Retraction>, RandomState>,
    /// Likewise in rooms.
    pub(super) in_rooms: HashMap<(ActorId, Sequence), Arc<OpenRetraction>, RandomState>,
    /// How many messages were erased, and the last of them.
    erased: u64,
    last: VecDeque<(ActorId, Sequence)>,
}

impl Retractions {
    /// How many messages have been erased: to be given to [`Retractions::has_erased_since`].
    pub fn erased(&self) -> u64 {
        self.erased
    }

    /// Whether one of these messages may have been erased since.
    pub fn has_erased_since(
        &self,
        erased: u64,
        actor: ActorId,
        mut ids: impl Iterator<Item = Sequence>,
    ) -> bool {
        let since = self.erased - erased;
        let last = self.last.iter().rev().take(since as usize);
        since > self.last.len() as u64
            || since > 0 && ids.any(|id| last.clone().any(|erased| *erased == (actor, id)))
    }

    fn note_erased(&mut self, actor: ActorId, id: Sequence) {
        self.erased += 1;
        if self.last.len() == REMEMBERED_MAX {
            self.last.pop_front();
        }
        self.last.push_back((actor, id));
    }
}

/// The next retraction is looked for, if none is under way. Called in each iteration.
pub fn go_on(actors: &mut Actors, env: &Env, fx: &mut Effects) {
    if actors.commits.archive().load().retractions == 0 {
        let retractions = &mut actors.archives.retractions;
        // Those of accounts that are gone have never been done.
        retractions.read.clear();
        retractions.in_rooms.clear();
        if !retractions.waiting.is_empty() {
            open::release(actors, fx);
        }
        return;
    }
    let retractions = &actors.archives.retractions;
    if retractions.under_way.is_some() || env.now.0 < retractions.not_before_ms {
        return;
    }
    let accounts: HashSet<ActorId, RandomState> = retractions.waiting.iter().map(|one| one.account).collect();
    let archive = actors.commits.archive();
    let awaited = match accounts.is_empty() {
        true => None,
        false => archive.retractions().find(|retraction| accounts.contains(&retraction.actor)),
    };
    let next = awaited.or_else(|| archive.retractions().next()).copied();
    let Some(retraction) = next else { return };
    if !upkeep::disk_takes_writes(actors) {
        return failed(actors, env, fx);
    }
    let query = query_of(actors, env, fx, retraction);
    let go_on = Box::new(move |found: Result<Vec<Retracted>, QueryError>| -> Then {
        Box::new(move |actors, env, fx| match found {
            Ok(found) => self::found(actors, env, fx, retraction, found),
            Err(error) => {
                tracing::error!(%error, "an archive cannot be read for a retraction");
                failed(actors, env, fx);
            }
        })
    });
    // With a full queue it is tried again in the next iteration: those who wait in it come first.
    if fx.jobs.retract(query, go_on) {
        actors.archives.retractions.under_way = Some(retraction);
    }
}

fn query_of(actors: &Actors, env: &Env, fx: &Effects, retraction: Retraction) -> RetractQuery {
    let (log, actor) = (actors.commits.log(), retraction.actor);
    let looks_max = env.config.archive.retract_messages as usize;
    let waiting = log.backlog(actor).map_or(0, |backlog| backlog.messages);
    fx.work.add(waiting / 128);
    RetractQuery {
        retraction,
        snapshot: actors.commits.archive().snapshot(actor),
        waiting: (log.id(), log.newest_waiting(actor, looks_max)),
        not_before: upkeep::oldest(env),
        looks_max,
        read: reading(env, actor),
    }
}

/// Reads a retraction of an account and says what it replaces by what; runs on a reader's thread.
fn reading(env: &Env, actor: ActorId) -> ReadRetraction {
    if actor.kind() == Some(ActorKind::Room) {
        return in_room::reading(env);
    }
    let shared = Arc::clone(&env.shared);
    Box::new(move |retracted_ms, payload| {
        let retraction = retraction::Retraction::read(record::decode(payload)?.stanza)?;
        let (author, recipient) = retraction.sides();
        let is_author = shared.directory.account_id(author).ok()? == Some(actor);
        let owner = if is_author { author.to_owned() } else { recipient? };
        let archive = format!("{owner}@{}", shared.domain);
        let replace: Replace = Arc::new(move |id, payload| {
            let kept = record::decode(payload)?;
            let id = shared.archive_ids.seal(id.0);
            let id = std::str::from_utf8(&id).expect("base32 is ASCII");
            let stanza =
                retraction.replace(kept.stanza, &Tombstone { archive: &archive, id, retracted_ms })?;
            let mut tombstone = Vec::with_capacity(stanza.len() + 64);
            StoredMessage { resource: kept.resource, stanza: &stanza }.encode(&mut tombstone);
            Some(tombstone)
        });
        Some(Meant { replace, target: None })
    })
}

/// What a retraction is about is known.
fn found(actors: &mut Actors, env: &Env, fx: &mut Effects, retraction: Retraction, found: Vec<Retracted>) {
    let actor = retraction.actor;
    for Retracted { id, .. } in &found {
        fx.work.add(work::LOGGED);
        if actors.commits.log().is_waiting(actor, *id) {
            env.metrics().retracted_waiting.add(1);
            actors.commits.trim(env, actor, *id);
        }
    }
    let erased: Vec<_> = found.into_iter().filter_map(|one| Some((one.id, one.erased?))).collect();
    if erased.is_empty() {
        return done(actors, env, fx, &retraction, &[]);
    }
    let job: directory::Job<Then> = Box::new(move |transaction: &mut WriteTransaction<'_>| {
        let ids: Vec<Sequence> = erased.iter().map(|(id, _)| *id).collect();
        for (id, erased) in &erased {
            transaction.erase_from_archive(actor, *id, erased)?;
        }
        let then: Then = Box::new(move |actors, env, fx| done(actors, env, fx, &retraction, &ids));
        Ok(then)
    });
    let failed = Box::new(|actors: &mut Actors, env: &Env, fx: &mut Effects, _| failed(actors, env, fx));
    if !actors.submit(fx, job, failed) {
        self::failed(actors, env, fx);
    }
}

/// A retraction has taken effect.
fn done(actors: &mut Actors, env: &Env, fx: &mut Effects, retraction: &Retraction, erased: &[Sequence]) {
    env.metrics().retractions.add(1);
    env.metrics().retracted.add(erased.len() as u64);
    actors.commits.archive_mut().retracted(retraction);
    let retractions = &mut actors.archives.retractions;
    erased.iter().for_each(|id| retractions.note_erased(retraction.actor, *id));
    retractions.read.remove(&(retraction.actor, retraction.slot.id));
    retractions.in_rooms.remove(&(retraction.actor, retraction.slot.id));
    retractions.under_way = None;
    retractions.has_failed = false;
    open::release(actors, fx);
    go_on(actors, env, fx);
}

/// It is tried again in a while; meanwhile nobody waits for it.
fn failed(actors: &mut Actors, env: &Env, fx: &mut Effects) {
    let retractions = &mut actors.archives.retractions;
    retractions.under_way = None;
    retractions.not_before_ms = env.now.0 + RETRY_MS;
    retractions.has_failed = true;
    open::release(actors, fx);
}
