//! The index of archived messages, from the log to the directory: blocks that are full become rows.

use std::ops::RangeInclusive;
use std::sync::Arc;

use whimbrel_storage::archive::Changes;
use whimbrel_storage::directory::{self, Shares, WriteTransaction};

use crate::effects::work;
use crate::env::Env;
use crate::user::actors::{Actors, Effects};
use crate::user::archive::upkeep;
use crate::user::jobs::Then;

/// Rows that go to the directory in one transaction. They are made within an iteration, so they are few, unless so many wait
/// that the directory would fall behind: then they are a part of those.
const ROWS: RangeInclusive<usize> = 128..=512;

/// That part.
const ROWS_PART: usize = 16;

/// Milliseconds between two transactions that are not full: each costs the disk a commit.
const PAUSE_MS: u64 = 25;

/// Milliseconds until what could not be written is tried again.
const RETRY_MS: u64 = 5_000;

/// Hands what is due to the directory's writer. At most one transaction of a worker is under way.
pub fn hand_over(actors: &mut Actors, env: &Env, fx: &mut Effects) {
    let upkeep = &mut actors.archives.upkeep;
    if env.now.0 >= upkeep.write_after_ms {
        upkeep.write_after_ms = env.now.0 + PAUSE_MS;
        hand_over_now(actors, env, fx);
    }
}

fn hand_over_now(actors: &mut Actors, env: &Env, fx: &mut Effects) {
    if !upkeep::disk_takes_writes(actors) {
        return;
    }
    let archive = actors.commits.archive_mut();
    let rows_max = (archive.sealed_blocks() / ROWS_PART).clamp(*ROWS.start(), *ROWS.end());
    let Some(changes) = archive.take_changes(rows_max) else { return };
    fx.work.add(work::ROW * changes.rows.len() as u64);
    let shares = Shares { actor_bytes_max: env.config.archive.account_bytes() };
    let changes = Arc::new(changes);
    let again = Arc::clone(&changes);
    let directory = env.shared.directory.clone();
    let job: directory::Job<Then> = Box::new(move |transaction: &mut WriteTransaction<'_>| {
        directory.prove_disk()?;
        let applied = transaction.apply_archive(&changes, shares)?;
        let then: Then = Box::new(move |actors, env, fx| {
            actors.commits.tallies().apply(&applied.segments);
            env.metrics().archive_rows.add(changes.rows.len() as u64);
            env.metrics().archive_cut.add(applied.cut);
            actors.commits.archive_mut().changes_done(&changes, true);
            if changes.gone_before.is_some() && std::mem::take(&mut actors.archives.upkeep.has_pressed) {
                actors.commits.tallies().want_sweep();
            }
            // More may be due than was taken.
            if changes.rows.len() + changes.moves.len() >= rows_max {
                hand_over_now(actors, env, fx);
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
    actors.archives.upkeep.write_after_ms = env.now.0 + RETRY_MS;
    actors.commits.archive_mut().changes_done(changes, false);
}
