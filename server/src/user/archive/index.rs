//! The index of archived messages, from the log to the directory: blocks that are full become rows.

use std::sync::Arc;

use whimbrel_storage::archive::Changes;
use whimbrel_storage::directory::{self, Shares, WriteTransaction};

use crate::effects::work;
use crate::env::Env;
use crate::user::actors::{Actors, Effects};
use crate::user::archive::upkeep;
use crate::user::jobs::Then;

/// Rows that one iteration makes at most.
const ROWS_PIECE: usize = 64;

/// Rows that go to the directory in one transaction at most: the more, the fewer pages are written for each.
const ROWS_MAX: usize = 512;

/// Milliseconds between two transactions that are not full: each costs the disk a commit.
const PAUSE_MS: u64 = 100;

/// Milliseconds until what could not be written is tried again.
const RETRY_MS: u64 = 5_000;

/// Makes rows of what is due, a piece in each iteration, and hands them to the directory's writer when they are enough or
/// have waited long enough. At most one transaction of a worker is under way.
pub fn hand_over(actors: &mut Actors, env: &Env, fx: &mut Effects) {
    let (archive, upkeep) = (actors.commits.archive_mut(), &mut actors.archives.upkeep);
    if archive.is_away() || env.now.0 < upkeep.retry_after_ms {
        return;
    }
    let is_time = env.now.0 >= upkeep.write_after_ms;
    if !is_time && archive.sealed_blocks() < archive.gathered() + ROWS_PIECE {
        return;
    }
    let rows = archive.gather(ROWS_PIECE.min(ROWS_MAX - archive.gathered()));
    fx.work.add(work::ROW * rows as u64);
    // What fills a piece is not all that is due, as a rule.
    if archive.gathered() >= ROWS_MAX || (is_time && rows < ROWS_PIECE) {
        upkeep.write_after_ms = env.now.0 + PAUSE_MS;
        write(actors, env, fx);
    }
}

fn write(actors: &mut Actors, env: &Env, fx: &mut Effects) {
    if !upkeep::disk_takes_writes(actors) {
        return;
    }
    let Some(changes) = actors.commits.archive_mut().take_changes(0) else { return };
    let shares = Shares { actor_bytes_max: env.config.archive.account_bytes() };
    let changes = Arc::new(changes);
    let again = Arc::clone(&changes);
    let directory = env.shared.directory.clone();
    let job: directory::Job<Then> = Box::new(move |transaction: &mut WriteTransaction<'_>| {
        directory.prove_disk()?;
        let applied = transaction.apply_archive(&changes, shares)?;
        let then: Then = Box::new(move |actors, env, _| {
            actors.commits.tallies().apply(&applied.segments);
            env.metrics().archive_rows.add(changes.rows.len() as u64);
            env.metrics().archive_cut.add(applied.cut);
            actors.commits.archive_mut().changes_done(&changes, true);
            if changes.gone_before.is_some() && std::mem::take(&mut actors.archives.upkeep.has_pressed) {
                actors.commits.tallies().want_sweep();
            }
            // More may be due than was taken.
            if changes.moves.len() >= ROWS_MAX {
                actors.archives.upkeep.write_after_ms = 0;
            }
        });
        Ok(then)
    });
    let on_failure = Arc::clone(&again);
    let failed =
        Box::new(move |actors: &mut Actors, env: &Env, _: &mut Effects, _| failed(actors, env, &on_failure));
    if !actors.submit(fx, job, failed) {
        self::failed(actors, env, &again);
    }
}

/// It is tried again in a while.
fn failed(actors: &mut Actors, env: &Env, changes: &Changes) {
    actors.archives.upkeep.retry_after_ms = env.now.0 + RETRY_MS;
    actors.commits.archive_mut().changes_done(changes, false);
}
