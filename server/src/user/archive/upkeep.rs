//! What goes: messages that are too old, the oldest when a log has no room, and rows of what is gone.
//!
//! | what | when | who pays |
//! | --- | --- | --- |
//! | messages older than `archive.days` | once a second a threshold moves; files go when nothing newer is in them | – |
//! | an account's oldest beyond `archive.mib_per_account` | with its next row (`index`) | that account |
//! | the oldest of a log that is about to reach `log_mib_max`, or finds its disk full | ten times a second, one file after the other | the oldest of all |
//! | the oldest of the largest archives, while all together take more than `archive.mib_max` | once a second, a few rows at a time | those that have more than an equal share |
//! | rows of messages that are gone, and of removed accounts | a walk over all, in small steps: every ten minutes, and soon where there are some | – |

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::archive::prepare::Wanted;
use whimbrel_storage::archive::query::QueryError;
use whimbrel_storage::directory::{self, Sweep, WriteTransaction};
use whimbrel_storage::log::{Position, Sequence};

use crate::env::Env;
use crate::user::actors::{Actors, Effects};
use crate::user::archive::erasure;
use crate::user::jobs::Then;

/// Milliseconds after which the next file goes, although the last one is still there.
const PRESS_MS: u64 = 1_000;

/// Files of a log that are kept free for messages that wait.
const FILES_FREE: u64 = 2;

/// Actors that one step of the walk looks at, and rows that it removes, at most.
const ACTORS_MAX: usize = 256;
const ROWS_MAX: usize = 512;

/// Milliseconds after which a walk looks for other large archives, or for rows of what has gone since.
const REWALK_MS: u64 = 10_000;

/// Milliseconds between two walks.
const WALK_MS: u64 = 600_000;

/// Milliseconds of a day.
pub(super) const DAY_MS: u64 = 86_400_000;

/// Milliseconds before the first: a server that has just started has other things to do.
const FIRST_WALK_MS: u64 = 60_000;

/// What is under way.
pub struct Upkeep {
    /// A step of the walk is with the directory.
    is_walking: bool,
    /// Where the walk goes on.
    next: Option<ActorId>,
    /// When the next walk begins.
    due_ms: u64,
    /// Archives that the walk under way has seen, and the largest of them; and of the last whole walk.
    seen: Takers,
    takers: Takers,
    /// When the last walk was over; `None`: there was none.
    walked_ms: Option<u64>,
    /// A cut of the largest archives is with the directory.
    is_cutting: bool,
    /// The segment of which it is being found out what is wanted.
    preparing: Option<Position>,
    /// Erased texts that leave the disk.
    pub(super) erasure: erasure::Erasure,
    /// When rows are written next, unless many are due before: a while after the last ones.
    pub(super) write_after_ms: u64,
    /// When rows that could not be written are tried again.
    pub(super) retry_after_ms: u64,
    /// How much of the log was in use when it last let go of a file, and when that was.
    pressed_at: u64,
    pressed_ms: u64,
    /// A file went, or is about to go, before its time: rows are left of it.
    pub(super) has_pressed: bool,
}

/// How many archives have messages, and the largest of them with their bytes, the largest first.
#[derive(Default)]
struct Takers {
    archives: u64,
    largest: Vec<(ActorId, u64)>,
}

impl Default for Upkeep {
    fn default() -> Upkeep {
        Upkeep {
            is_walking: false,
            next: None,
            due_ms: FIRST_WALK_MS,
            seen: Takers::default(),
            takers: Takers::default(),
            walked_ms: None,
            is_cutting: false,
            preparing: None,
            erasure: erasure::Erasure::default(),
            write_after_ms: 0,
            retry_after_ms: 0,
            pressed_at: 0,
            pressed_ms: 0,
            has_pressed: false,
        }
    }
}

/// The oldest id that is shown: messages before it are too old, whether they are still there or not.
pub fn oldest(env: &Env) -> Sequence {
    Sequence::at(env.unix_ms().saturating_sub(u64::from(env.config.archive.days) * DAY_MS))
}

/// Whether the disk takes messages. While it does not, it would not take rows either, and LMDB does not recover from a commit
/// that fails in the middle.
pub(super) fn disk_takes_writes(actors: &Actors) -> bool {
    let log = actors.commits.log();
    log.failed().is_none() && log.no_room().is_none()
}

/// Does what is due, once a second.
pub fn tend(actors: &mut Actors, env: &Env, fx: &mut Effects) {
    let oldest = oldest(env);
    env.metrics().archive_continuations.set(actors.archives.continuations.rest(env.now) as u64);
    env.metrics().archive_active.set((actors.waiting_for_room.len() + fx.jobs.looking()) as u64);
    actors.commits.archive_mut().expire(oldest);
    prepare(actors, fx);
    erasure::tend(actors, env, fx);
    // One worker walks for all: rows belong to no worker.
    if env.worker == 0 && disk_takes_writes(actors) {
        walk(actors, env, fx, oldest);
        make_room_for_all(actors, env, fx);
    }
}

/// While all archives together take more than they may, the largest lose their oldest messages, down to an equal share of all that
/// there is. Which are the largest is found out by the walk.
fn make_room_for_all(actors: &mut Actors, env: &Env, fx: &mut Effects) {
    let (most, total) = (env.config.archive.bytes_max(), actors.commits.tallies().total().bytes);
    let upkeep = &mut actors.archives.upkeep;
    if most == 0 || total <= most || upkeep.is_cutting {
        return;
    }
    if upkeep.takers.largest.is_empty() {
        // All that were known have been cut: others may be too large by now.
        if upkeep.walked_ms.is_none_or(|at| env.now.0 >= at + REWALK_MS) {
            upkeep.due_ms = upkeep.due_ms.min(env.now.0);
        }
        return;
    }
    let Takers { archives, largest } = std::mem::take(&mut upkeep.takers);
    let (share, excess) = (most / archives.max(1), total - most);
    let job: directory::Job<Then> = Box::new(move |transaction: &mut WriteTransaction<'_>| {
        let shrunk = transaction.shrink_archives(&largest, share, excess, ROWS_MAX)?;
        let then: Then = Box::new(move |actors, env, _| {
            actors.commits.tallies().apply(&shrunk.segments);
            env.metrics().archive_crowded.add(shrunk.messages);
            let upkeep = &mut actors.archives.upkeep;
            upkeep.is_cutting = false;
            // Without an effect, those that are large are others.
            let largest = if shrunk.messages > 0 { shrunk.takers } else { Vec::new() };
            upkeep.takers = Takers { archives, largest };
        });
        Ok(then)
    });
    let failed = Box::new(|actors: &mut Actors, _: &Env, _: &mut Effects, _| {
        actors.archives.upkeep.is_cutting = false;
    });
    actors.archives.upkeep.is_cutting = actors.submit(fx, job, failed);
}

/// A log that is nearly full, or whose disk is, lets go of its oldest archived messages: a message that comes is worth more
/// than one that was read long ago.
///
/// Called in each upkeep of the log, ten times a second: one file at a time, and the next one when it is gone, or a second later.
pub fn make_room(actors: &mut Actors, env: &Env) {
    let (used, limit) = actors.commits.log().room();
    let segment = u64::from(env.config.log_segment_mib) << 20;
    // Another reason why there is no next file is none to let go of anything: it would not help.
    let is_disk_full = actors.commits.log().no_room().is_some_and(|error| error.is_full());
    if used + FILES_FREE * segment <= limit && !is_disk_full {
        return;
    }
    let upkeep = &actors.archives.upkeep;
    if upkeep.pressed_at == used && env.now.0 < upkeep.pressed_ms + PRESS_MS {
        return;
    }
    if let Some(newest) = actors.commits.archive().oldest_held() {
        (actors.archives.upkeep.pressed_at, actors.archives.upkeep.pressed_ms) = (used, env.now.0);
        actors.archives.upkeep.has_pressed = true;
        actors.commits.archive_mut().expire(Sequence(newest.0 + 1));
        env.metrics().archive_pressed.add(1);
    }
}

/// Compaction wants to know what of a segment is still in archives.
fn prepare(actors: &mut Actors, fx: &mut Effects) {
    let Some(segment) = actors.commits.archive().to_prepare() else { return };
    if actors.archives.upkeep.preparing == Some(segment) {
        return;
    }
    let journal = actors.commits.log().id();
    let go_on = Box::new(move |wanted: Result<Wanted, QueryError>| -> Then {
        Box::new(move |actors, _, _| {
            actors.archives.upkeep.preparing = None;
            match wanted {
                Ok(wanted) => actors.commits.archive_mut().prepared(segment, wanted),
                Err(error) => tracing::error!(%error, "a file of the log cannot be read for compaction"),
            }
        })
    });
    if fx.jobs.prepare((journal, segment), go_on) {
        actors.archives.upkeep.preparing = Some(segment);
    }
}

/// Removes rows that are of no use any more, a step at a time.
fn walk(actors: &mut Actors, env: &Env, fx: &mut Effects, not_before: Sequence) {
    let upkeep = &mut actors.archives.upkeep;
    if upkeep.is_walking {
        return;
    }
    // What comes while a walk is under way may lie behind it.
    if upkeep.next.is_none() && actors.commits.tallies().take_wanted_sweep() {
        let soon_ms = upkeep.walked_ms.map_or(env.now.0, |at| at + REWALK_MS);
        upkeep.due_ms = upkeep.due_ms.min(soon_ms);
    }
    let after = match upkeep.next {
        Some(next) => next,
        None if env.now.0 >= upkeep.due_ms => ActorId::NOBODY,
        None => return,
    };
    let sweep = Sweep { after, not_before, actors_max: ACTORS_MAX, rows_max: ROWS_MAX };
    let job: directory::Job<Then> = Box::new(move |transaction: &mut WriteTransaction<'_>| {
        let swept = transaction.sweep_archive(&sweep)?;
        let then: Then = Box::new(move |actors, env, _| {
            actors.commits.tallies().apply(&swept.segments);
            env.metrics().archive_expired.add(swept.messages);
            let upkeep = &mut actors.archives.upkeep;
            upkeep.is_walking = false;
            upkeep.next = swept.next;
            upkeep.seen.archives += swept.archives;
            upkeep.seen.largest.extend(&swept.takers);
            directory::largest_takers(&mut upkeep.seen.largest);
            if upkeep.next.is_none() {
                upkeep.takers = std::mem::take(&mut upkeep.seen);
                upkeep.walked_ms = Some(env.now.0);
            }
            upkeep.due_ms = env.now.0 + WALK_MS;
        });
        Ok(then)
    });
    let failed = Box::new(|actors: &mut Actors, env: &Env, _: &mut Effects, _| {
        actors.archives.upkeep.is_walking = false;
        actors.archives.upkeep.due_ms = env.now.0 + WALK_MS;
    });
    if actors.submit(fx, job, failed) {
        actors.archives.upkeep.is_walking = true;
    }
}
