//! Erased texts leave the disk, within `archive.erase_days`: each log is gone through, a file after the other, and one in which
//! there are some is written anew without them.
//!
//! ```text
//! erased ─► noted in the directory ─► a third of the time later: a new file begins, and for each of the others
//!     a reader's thread finds the texts that no archive has ─► none of them waits? ─► the keeper writes the file anew
//! ─► all logs have been gone through: forgotten
//! ```
//! How far it has come is in the directory, so a restart goes on there. The log of this worker is this worker's; those of earlier
//! numbers of workers, which nobody has open, are gone through by the first one and written anew by the reader's thread.

use whimbrel_storage::archive::erase::Erasable;
use whimbrel_storage::archive::query::QueryError;
use whimbrel_storage::directory::{self, ErasurePass, ErasuresDue, WriteTransaction};
use whimbrel_storage::log::Position;

use crate::env::Env;
use crate::user::actors::{Actors, Effects};
use crate::user::archive::upkeep::{DAY_MS, disk_takes_writes};
use crate::user::jobs::Then;

/// Milliseconds between two looks whether there is something to do, and at most between two files.
const LOOK_MS: u64 = 60_000;

/// Milliseconds before the first look.
const FIRST_LOOK_MS: u64 = 1_000;

/// Texts of which it is looked up in a second whether they wait in a mailbox.
const LOOKED_UP_MAX: usize = 5_000;

/// What is under way.
pub struct Erasure {
    look_ms: u64,
    /// When the log of this worker may be gone through again: each time begins a new file.
    own_after_ms: u64,
    pass: Option<Pass>,
}

impl Default for Erasure {
    fn default() -> Erasure {
        Erasure { look_ms: FIRST_LOOK_MS, own_after_ms: 0, pass: None }
    }
}

/// A log that is being gone through.
struct Pass {
    journal: u64,
    state: ErasurePass,
    /// Segments before this position were written to before it began; `None`: nobody writes to any of them.
    until: Option<Position>,
    /// When the next file may be looked at.
    next_ms: u64,
    /// Milliseconds between two files.
    pause_ms: u64,
    step: Step,
    /// All journals that there are.
    journals: Vec<u64>,
}

enum Step {
    /// The next file is to be looked at.
    Next,
    /// A thread looks at one, or the directory is told.
    UnderWay,
    /// Of these texts of a file it is to be looked up whether they wait.
    LookUp { segment: Position, left: Vec<Erasable>, chosen: Vec<Position> },
    /// The keeper is to write it anew.
    Choose { segment: Position, chosen: Vec<Position> },
    /// It does.
    Writing { segment: Position },
}

/// Does what is due, once a second.
pub(super) fn tend(actors: &mut Actors, env: &Env, fx: &mut Effects) {
    let is_time = env.now.0 >= actors.archives.upkeep.erasure.look_ms && disk_takes_writes(actors);
    if env.worker == 0 || is_time {
        match env.shared.directory.archive_erasures() {
            Ok(due) => look(actors, env, fx, due, is_time),
            Err(error) => tracing::error!(%error, "cannot read what is to be erased"),
        }
    }
    go_on(actors, env, fx);
}

fn look(actors: &mut Actors, env: &Env, fx: &mut Effects, due: ErasuresDue, is_time: bool) {
    let now_ms = env.unix_ms();
    let age_ms = if due.oldest_ms == 0 { 0 } else { now_ms.saturating_sub(due.oldest_ms) };
    if env.worker == 0 {
        env.metrics().archive_to_erase.set(due.count);
        env.metrics().archive_to_erase_age.set(age_ms / 1000);
        if due.has_undated && disk_takes_writes(actors) {
            date(actors, fx, now_ms);
        }
    }
    let erasure = &mut actors.archives.upkeep.erasure;
    if !is_time || erasure.pass.is_some() {
        return;
    }
    erasure.look_ms = env.now.0 + LOOK_MS.min(part_ms(env) + FIRST_LOOK_MS);
    if due.count == 0 || age_ms < part_ms(env) {
        return;
    }
    let own = actors.commits.log().id();
    let task = Box::new(move |reader: &mut whimbrel_storage::archive::readers::PageReader| -> Then {
        let (journals, sealed) = (reader.journals(), reader.sealed_journals());
        Box::new(move |actors, env, fx| {
            let sealed = if env.worker == 0 { sealed } else { Vec::new() };
            let mine = std::iter::once((own, false)).chain(sealed.into_iter().map(|id| (id, true)));
            for (journal, is_sealed) in mine {
                if begin(actors, env, (journal, is_sealed), due, journals.clone()) {
                    return go_on(actors, env, fx);
                }
            }
        })
    });
    // With a full queue the next look is soon enough.
    let _ = fx.jobs.task(task);
}

/// A third of the time that erased texts may be on the disk.
fn part_ms(env: &Env) -> u64 {
    u64::from(env.config.archive.erase_days) * DAY_MS / 3
}

fn date(actors: &mut Actors, fx: &mut Effects, now_ms: u64) {
    let job: directory::Job<Then> = Box::new(move |transaction: &mut WriteTransaction<'_>| {
        transaction.date_erasures(now_ms)?;
        let then: Then = Box::new(|_, _, _| {});
        Ok(then)
    });
    // What is not dated now is dated in a second.
    actors.submit(fx, job, Box::new(|_, _, _, _| {}));
}

/// Begins to go through a log, if that has not been done for all that is to be erased. Returns whether it has begun.
fn begin(
    actors: &mut Actors,
    env: &Env,
    (journal, is_sealed): (u64, bool),
    due: ErasuresDue,
    journals: Vec<u64>,
) -> bool {
    let mut state = match env.shared.directory.archive_erasure_pass(journal) {
        Ok(state) => state,
        Err(error) => {
            tracing::error!(%error, "cannot read how far files have been gone through for erased texts");
            return false;
        }
    };
    if state.done >= due.newest || actors.archives.upkeep.erasure.pass.is_some() {
        return false;
    }
    if state.up_to <= state.done {
        state = ErasurePass { up_to: due.newest, done_to: Position(0), ..state };
    }
    let until = match is_sealed {
        true => None,
        false if env.now.0 < actors.archives.upkeep.erasure.own_after_ms => return false,
        // Everything that is to be erased has been written by now.
        false => match actors.commits.log_mut().seal_segment() {
            Some(until) => Some(until),
            None => return false,
        },
    };
    if !is_sealed {
        actors.archives.upkeep.erasure.own_after_ms = env.now.0 + LOOK_MS;
    }
    let files = actors.commits.log().journal().segments().count().max(1) as u64;
    let pause_ms = (part_ms(env) / files).min(LOOK_MS);
    let pass = Pass { journal, state, until, next_ms: 0, pause_ms, step: Step::Next, journals };
    actors.archives.upkeep.erasure.pass = Some(pass);
    true
}

fn go_on(actors: &mut Actors, env: &Env, fx: &mut Effects) {
    let Some(mut pass) = actors.archives.upkeep.erasure.pass.take() else { return };
    match std::mem::replace(&mut pass.step, Step::UnderWay) {
        Step::UnderWay => {}
        Step::Next if env.now.0 < pass.next_ms => pass.step = Step::Next,
        Step::Next => return next(actors, env, fx, pass),
        Step::LookUp { segment, mut left, mut chosen } => {
            let log = actors.commits.log();
            let is_free = |text: &Erasable| text.queued.is_none_or(|actor| !log.is_waiting(actor, text.id));
            let part = left.split_off(left.len().saturating_sub(LOOKED_UP_MAX));
            chosen.extend(part.iter().filter(|text| is_free(text)).map(|text| text.position));
            pass.step = match left.is_empty() {
                true => Step::Choose { segment, chosen },
                false => Step::LookUp { segment, left, chosen },
            };
        }
        Step::Choose { segment, chosen } => {
            let is_there = actors.commits.log().journal().segments().any(|base| base == segment);
            if chosen.is_empty() || !is_there {
                return segment_done(actors, env, fx, pass, Position(segment.0 + 1));
            }
            pass.step = match actors.commits.log_mut().erase_texts(segment, chosen.clone()) {
                true => Step::Writing { segment },
                false => Step::Choose { segment, chosen },
            };
        }
        Step::Writing { segment } => match actors.commits.log_mut().texts_erased() {
            None => pass.step = Step::Writing { segment },
            Some(Ok(texts)) => {
                env.metrics().archive_erased.add(texts as u64);
                return segment_done(actors, env, fx, pass, Position(segment.0 + 1));
            }
            Some(Err(error)) => return stop(actors, &error),
        },
    }
    actors.archives.upkeep.erasure.pass = Some(pass);
}

/// It is tried again with the next look.
fn stop(actors: &mut Actors, error: &dyn std::fmt::Display) {
    tracing::error!(%error, "erased texts cannot be taken out of a file of the log");
    actors.archives.upkeep.erasure.pass = None;
}

/// Has the next file looked at.
fn next(actors: &mut Actors, env: &Env, fx: &mut Effects, pass: Pass) {
    let (journal, from) = (pass.journal, pass.state.done_to);
    let taken = match pass.until {
        None => fx.jobs.task(Box::new(move |reader| {
            let done = reader.erase_sealed(journal, from);
            Box::new(move |actors, env, fx| sealed_done(actors, env, fx, done))
        })),
        Some(until) => {
            let mut segments = actors.commits.log().journal().segments();
            let Some(segment) = segments.find(|segment| *segment >= from && *segment < until) else {
                drop(segments);
                return all_done(actors, env, fx, pass);
            };
            fx.jobs.task(Box::new(move |reader| {
                let found = reader.erasable(journal, segment);
                Box::new(move |actors, _, _| own_read(actors, segment, found))
            }))
        }
    };
    let step = if taken { Step::UnderWay } else { Step::Next };
    actors.archives.upkeep.erasure.pass = Some(Pass { step, ..pass });
}

fn own_read(actors: &mut Actors, segment: Position, found: Result<Vec<Erasable>, QueryError>) {
    match found {
        Ok(left) => {
            if let Some(pass) = &mut actors.archives.upkeep.erasure.pass {
                pass.step = Step::LookUp { segment, left, chosen: Vec::new() };
            }
        }
        Err(error) => stop(actors, &error),
    }
}

fn sealed_done(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    done: Result<Option<(Position, usize)>, QueryError>,
) {
    let done = match done {
        Ok(done) => done,
        Err(error) => return stop(actors, &error),
    };
    let Some(pass) = actors.archives.upkeep.erasure.pass.take() else { return };
    match done {
        Some((next, texts)) => {
            env.metrics().archive_erased.add(texts as u64);
            segment_done(actors, env, fx, pass, next);
        }
        None => all_done(actors, env, fx, pass),
    }
}

/// A file has been gone through.
fn segment_done(actors: &mut Actors, env: &Env, fx: &mut Effects, pass: Pass, next: Position) {
    let state = ErasurePass { done_to: next, ..pass.state };
    let next_ms = env.now.0 + pass.pause_ms;
    tell(actors, fx, Pass { state, next_ms, ..pass }, Some(Step::Next));
}

/// A log has been gone through.
fn all_done(actors: &mut Actors, _: &Env, fx: &mut Effects, pass: Pass) {
    let state = ErasurePass { done: pass.state.up_to, done_to: Position(0), ..pass.state };
    tell(actors, fx, Pass { state, ..pass }, None);
}

/// Writes down how far it has come, and goes on with a step; `None`: that was all.
fn tell(actors: &mut Actors, fx: &mut Effects, pass: Pass, then_step: Option<Step>) {
    let (journal, state, journals) = (pass.journal, pass.state, pass.journals.clone());
    let job: directory::Job<Then> = Box::new(move |transaction: &mut WriteTransaction<'_>| {
        transaction.put_erasure_pass(journal, &state, &journals)?;
        let then: Then = Box::new(move |actors, env, _| {
            let erasure = &mut actors.archives.upkeep.erasure;
            match (then_step, &mut erasure.pass) {
                (Some(step), Some(pass)) => pass.step = step,
                _ => {
                    erasure.pass = None;
                    // There may be another log to go through.
                    erasure.look_ms = env.now.0 + FIRST_LOOK_MS;
                }
            }
        });
        Ok(then)
    });
    actors.archives.upkeep.erasure.pass = Some(Pass { step: Step::UnderWay, ..pass });
    let failed = Box::new(|actors: &mut Actors, _: &Env, _: &mut Effects, _| {
        actors.archives.upkeep.erasure.pass = None;
    });
    if !actors.submit(fx, job, failed) {
        actors.archives.upkeep.erasure.pass = None;
    }
}
