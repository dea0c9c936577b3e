//! The index of archived messages, from the log to the directory: blocks that are full become rows.

use whimbrel_storage::archive::Changes;
use whimbrel_storage::directory::{self, Shares, WriteTransaction};

use crate::env::Env;
use crate::user::actors::{Actors, Effects};
use crate::user::jobs::Then;

/// Rows that go to the directory in one transaction.
const ROWS_MAX: usize = 64;

/// Hands what is due to the directory's writer. At most one transaction of a worker is under way.
pub fn hand_over(actors: &mut Actors, env: &Env, fx: &mut Effects) {
    let Some(changes) = actors.commits.archive_mut().take_changes(ROWS_MAX) else { return };
    let shares = Shares { actor_bytes_max: env.config.archive.account_bytes() };
    let again = changes.clone();
    let job: directory::Job<Then> = Box::new(move |transaction: &mut WriteTransaction<'_>| {
        let applied = transaction.apply_archive(&changes, shares)?;
        let then: Then = Box::new(move |actors, env, _| {
            actors.commits.tallies().apply(&applied.segments);
            env.metrics().archive_rows.add(changes.rows.len() as u64);
            env.metrics().archive_cut.add(applied.cut);
            actors.commits.archive_mut().changes_done(&changes, true);
        });
        Ok(then)
    });
    let on_failure = again.clone();
    let failed =
        Box::new(move |actors: &mut Actors, _: &Env, _: &mut Effects, _| failed(actors, &on_failure));
    if !actors.submit(fx, job, failed) {
        self::failed(actors, &again);
    }
}

/// It is tried again with the next upkeep.
fn failed(actors: &mut Actors, changes: &Changes) {
    actors.commits.archive_mut().changes_done(changes, false);
}
