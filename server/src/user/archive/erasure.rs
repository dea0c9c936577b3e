//! Erased texts leave the disk, within `archive.erase_days`: each log is gone through, a file after the other, and one in which
//! there are some is written anew without them.
//!
//! ```text
//! erased ─► noted in the directory ─► a third of the time later: a new file begins, and for each of the others
//!     a reader's thread finds the texts that no archive has ─► none of them waits? ─► the keeper writes the file anew
//! ─► all logs have been gone through: forgotten
//! ```
//! A text that waits for its recipient stays, and is looked for again the next time.
//!
//! How far it has come is in the directory, so a restart goes on there. The log of this worker is this worker's; those of earlier
//! numbers of workers, which nobody has open, are gone through by the first one and written anew by the reader's thread.

use whimbrel_storage::actor::ActorId;
use whimbrel_storage::archive::erase::Erasable;
use whimbrel_storage::archive::query::QueryError;
use whimbrel_storage::archive::readers::PageReader;
use whimbrel_storage::directory::{self, DirectoryError, ErasurePass, ErasuresDue, WriteTransaction};
use whimbrel_storage::log::{Position, Sequence};

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
    /// Nobody writes to its segments.
    is_sealed: bool,
    state: ErasurePass,
    /// Segments before this position were there before it began. Later ones have nothing of what is to be erased: the gathered log
    /// gets more meanwhile, without what has been erased until they have their names.
    until: Position,
    /// When the next file may be looked at.
    next_ms: u64,
    /// Milliseconds between two files.
    pause_ms: u64,
    step: Step,
    /// All journals that there are.
    journals: Vec<u64>,
    /// An erased text that stays because it waits in this mailbox, and whether the directory has been told that there is one.
    waits: Option<(ActorId, Sequence)>,
    is_due_again: bool,
}

/// A log that nobody writes to, as it was after it had been read what is to be erased.
struct Sealed {
    journal: u64,
    files: usize,
    /// All of them begin before.
    until: Position,
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
    let task = Box::new(move |reader: &mut PageReader| -> Then {
        let journals = reader.journals();
        let sealed = sealed_of(reader);
        Box::new(move |actors, env, fx| choose(actors, env, fx, due, (journals, sealed)))
    });
    // With a full queue the next look is soon enough.
    let _ = fx.jobs.task(task);
}

fn sealed_of(reader: &mut PageReader) -> Vec<Sealed> {
    let sealed = reader.sealed_journals().into_iter();
    let of = |journal| {
        // One that cannot be listed is reported when it is gone through.
        let (files, until) = reader.files(journal).unwrap_or((0, Position(u64::MAX)));
        Sealed { journal, files, until }
    };
    sealed.map(of).collect()
}

/// Begins with one of the logs of this worker that has not been gone through for all that is due.
fn choose(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    due: ErasuresDue,
    (journals, sealed): (Vec<u64>, Vec<Sealed>),
) {
    match done_of(env, &journals) {
        // What is left of a pass is no reason for another one.
        Ok(done) if due.oldest <= done => {
            if env.worker == 0 {
                forget(actors, fx, journals);
            }
            return;
        }
        Ok(_) => {}
        Err(error) => return cannot_read(&error),
    }
    let sealed = if env.worker == 0 { sealed } else { Vec::new() };
    let log = actors.commits.log();
    let (own, own_files) = (log.id(), log.journal().segments().count());
    let files = own_files + sealed.iter().map(|log| log.files).sum::<usize>();
    let sealed = sealed.into_iter().map(|log| (log.journal, Some(log.until)));
    let mine = std::iter::once((own, None)).chain(sealed);
    for journal in mine {
        if begin(actors, env, journal, due, (&journals, files)) {
            return go_on(actors, env, fx);
        }
    }
}

/// Up to which erasure all of these logs have been gone through.
fn done_of(env: &Env, journals: &[u64]) -> Result<u64, DirectoryError> {
    let done = |journal: &u64| Ok(env.shared.directory.archive_erasure_pass(*journal)?.done);
    journals.iter().map(done).try_fold(u64::MAX, |least, done| Ok(least.min(done?)))
}

/// Has erasures forgotten that are done, however many there are.
fn forget(actors: &mut Actors, fx: &mut Effects, journals: Vec<u64>) {
    let job: directory::Job<Then> = Box::new(move |transaction: &mut WriteTransaction<'_>| {
        let is_more = transaction.forget_erasures(&journals)?;
        let then: Then = Box::new(move |actors, env, fx| match is_more {
            true => forget(actors, fx, journals),
            false => actors.archives.upkeep.erasure.look_ms = env.now.0 + FIRST_LOOK_MS,
        });
        Ok(then)
    });
    // What is not forgotten now is forgotten after the next look.
    actors.submit(fx, job, Box::new(|_, _, _, _| {}));
}

fn cannot_read(error: &DirectoryError) {
    tracing::error!(%error, "cannot read how far files have been gone through for erased texts");
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

/// Milliseconds between two of so many files, which are gone through one after the other, whichever log they belong to.
fn pause_ms(part_ms: u64, files: usize) -> u64 {
    (part_ms / files.max(1) as u64).min(LOOK_MS)
}

/// Begins to go through a log, if that has not been done for all that is to be erased; `sealed_until` is where a sealed one ends.
/// `files`: those of all logs that this worker goes through. Returns whether it has begun.
fn begin(
    actors: &mut Actors,
    env: &Env,
    (journal, sealed_until): (u64, Option<Position>),
    due: ErasuresDue,
    (journals, files): (&[u64], usize),
) -> bool {
    let mut state = match env.shared.directory.archive_erasure_pass(journal) {
        Ok(state) => state,
        Err(error) => {
            cannot_read(&error);
            return false;
        }
    };
    if state.done >= due.newest || actors.archives.upkeep.erasure.pass.is_some() {
        return false;
    }
    if state.up_to <= state.done {
        state = ErasurePass { up_to: due.newest, done_to: Position(0), ..state };
    }
    let until = match sealed_until {
        Some(until) => until,
        None if env.now.0 < actors.archives.upkeep.erasure.own_after_ms => return false,
        // Everything that is to be erased has been written by now.
        None => match actors.commits.log_mut().seal_segment() {
            Some(until) => until,
            None => return false,
        },
    };
    if sealed_until.is_none() {
        actors.archives.upkeep.erasure.own_after_ms = env.now.0 + LOOK_MS;
    }
    actors.archives.upkeep.erasure.pass = Some(Pass {
        journal,
        is_sealed: sealed_until.is_some(),
        state,
        until,
        next_ms: 0,
        pause_ms: pause_ms(part_ms(env), files),
        step: Step::Next,
        journals: journals.to_vec(),
        waits: None,
        is_due_again: false,
    });
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
            for text in left.split_off(left.len().saturating_sub(LOOKED_UP_MAX)) {
                match text.queued.filter(|actor| log.is_waiting(*actor, text.id)) {
                    Some(actor) => pass.waits = Some((actor, text.id)),
                    None => chosen.push(text.position),
                }
            }
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
    let (journal, positions) = (pass.journal, pass.state.done_to..pass.until);
    let taken = match pass.is_sealed {
        true => fx.jobs.task(Box::new(move |reader| {
            let done = reader.erase_sealed(journal, positions);
            Box::new(move |actors, env, fx| sealed_done(actors, env, fx, done))
        })),
        false => {
            let mut segments = actors.commits.log().journal().segments();
            let Some(segment) = segments.find(|segment| positions.contains(segment)) else {
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
    let waits = pass.waits.filter(|_| !pass.is_due_again);
    let job: directory::Job<Then> = Box::new(move |transaction: &mut WriteTransaction<'_>| {
        if let Some((actor, id)) = waits {
            transaction.erase_later(actor, id)?;
        }
        let is_more = transaction.put_erasure_pass(journal, &state, &journals)?;
        let then: Then = Box::new(move |actors, env, fx| {
            let erasure = &mut actors.archives.upkeep.erasure;
            match (then_step, &mut erasure.pass) {
                (Some(step), Some(pass)) => pass.step = step,
                _ => {
                    erasure.pass = None;
                    // There may be another log to go through.
                    erasure.look_ms = env.now.0 + FIRST_LOOK_MS;
                }
            }
            if is_more {
                forget(actors, fx, journals);
            }
        });
        Ok(then)
    });
    let is_due_again = pass.waits.is_some();
    actors.archives.upkeep.erasure.pass = Some(Pass { step: Step::UnderWay, is_due_again, ..pass });
    let failed = Box::new(|actors: &mut Actors, _: &Env, _: &mut Effects, _| {
        actors.archives.upkeep.erasure.pass = None;
    });
    if !actors.submit(fx, job, failed) {
        actors.archives.upkeep.erasure.pass = None;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use whimbrel_storage::archive::readers::Folders;
    use whimbrel_storage::directory::Directory;

    use super::*;

    #[test]
    fn files_of_all_logs_are_gone_through_in_a_third_of_the_time() {
        let part_ms = 7 * DAY_MS / 3;
        for files in [1, 100, 3_000, 5_000, 20_000] {
            assert!(pause_ms(part_ms, files) * files as u64 <= part_ms, "{files} files");
        }
        assert_eq!((pause_ms(part_ms, 0), pause_ms(part_ms, 100), pause_ms(0, 5)), (LOOK_MS, LOOK_MS, 0));
    }

    #[test]
    fn a_pass_through_a_sealed_log_ends_with_the_files_that_were_there_when_it_began() {
        let folder = tempfile::tempdir().unwrap();
        let options = directory::Options { domain: "localhost".to_owned(), ..directory::Options::default() };
        let directory = Directory::open(&folder.path().join("directory"), &options).unwrap();
        let log = folder.path().join("log");
        fs::create_dir(&log).unwrap();
        let name = |base: u64| fs::write(log.join(format!("{base:016x}.seg")), "").unwrap();
        [0, 4096, 12_288].into_iter().for_each(name);
        let unreadable = folder.path().join("no folder");
        fs::write(&unreadable, "").unwrap();
        let folders = Folders::new(vec![(1, log.clone()), (2, unreadable)]).with_sealed(vec![1, 2]);
        let mut reader = PageReader::new(directory, Arc::new(folders));
        let of = |log: &Sealed| (log.journal, log.files, log.until);
        let sealed: Vec<_> = sealed_of(&mut reader).iter().map(of).collect();
        name(16_384);
        assert_eq!(sealed, [(1, 3, Position(12_289)), (2, 0, Position(u64::MAX))]);
        let positions = Position(12_289)..sealed[0].2;
        assert_eq!(reader.erase_sealed(1, positions).unwrap(), None);
        assert!(reader.erase_sealed(2, Position(0)..sealed[1].2).is_err(), "it is not taken for done");
    }
}
