//! How much of its client's stream a session that sleeps has handled, in the directory: after a crash its client is told (XEP-0198 §5).
//!
//! | moment | the row |
//! | --- | --- |
//! | the session falls asleep | is written: from here on nothing comes from its client, so the count stays true |
//! | its client resumes it | is removed, and only when that is on the disk is the client told that it goes on: what it sends from then on, the row would not know |
//! | the session ends | is removed |
//! | the server crashes | stays until the session could not be resumed any more, and is read when its client asks |
//!
//! The log tells of streams on which a message came shortly before the crash ([`Shared::safe_before`](crate::shared::Shared)), and
//! so of sessions that have lost their connection and do not sleep yet.

use whimbrel_storage::directory::{StreamCount, StreamCountKey};

use crate::effects::work;
use crate::env::Env;
use crate::keys::StreamId;
use crate::user::actors::{Actors, Effects};
use crate::user::jobs::Then;
use crate::user::tables::{Flags, ResourceKey, Users};

/// Rows that are looked at in one part of a sweep, which is within an iteration.
const SWEEP_ROWS: usize = 100;

/// Seconds between two parts.
const SWEEP_SECONDS: u32 = 1;

/// How it stands with the row of a session whose client wants to go on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// There is none.
    None,
    /// It is being removed.
    Going,
    /// It is there.
    Kept,
}

/// How it stands with the row of a session.
pub fn row(users: &Users, key: ResourceKey) -> Row {
    match users.resource(key).flags {
        flags if flags.has(Flags::COUNT_GOING) => Row::Going,
        flags if flags.has(Flags::COUNT_KEPT) => Row::Kept,
        _ => Row::None,
    }
}

/// Writes the row of a session that can be resumed for so many milliseconds, and from whose client nothing comes meanwhile. When the
/// directory has no room to spare for another change, there is none.
pub fn keep(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey, for_ms: u64) {
    if !fx.jobs.has_room_to_spare() {
        return env.metrics().counts_unwritten.add(1);
    }
    let Some(sm) = actors.users.sm_mut(key) else { return };
    let (stream, handled) = (sm.id().0, sm.handled());
    let count = StreamCount { stream, handled, until_ms: env.unix_ms().saturating_add(for_ms) };
    let (local, account) = (actors.users.local_of(key).to_owned(), actors.users.account_of(key));
    let most = env.config.limits.resources_per_user as usize;
    let written = actors.write(
        env,
        fx,
        move |transaction| {
            transaction.keep_stream_count((&local, account), &count, most)?;
            let then: Then = Box::new(|_, _, _| {});
            Ok(then)
        },
        // The log has the reason. Some of a batch that failed may be there all the same.
        |_, env, _, _| env.metrics().counts_unwritten.add(1),
    );
    match written {
        Ok(()) => actors.users.resource_mut(key).flags.put(Flags::COUNT_KEPT, true),
        Err(_) => env.metrics().counts_unwritten.add(1),
    }
}

/// The client of a session wants to go on: begins to remove its row, if it has one. When that is done, it has none; when it cannot
/// be done, it is [`Row::Kept`] again.
pub fn begin_to_forget(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    if row(&actors.users, key) != Row::Kept {
        return;
    }
    let Some(id) = actors.users.sm_mut(key).map(|sm| sm.id()) else { return };
    let account = actors.users.account_of(key);
    let written = actors.write(
        env,
        fx,
        move |transaction| {
            transaction.forget_stream_count(account, id.0)?;
            let then: Then = Box::new(move |actors, _, _| is_gone(&mut actors.users, key, id, true));
            Ok(then)
        },
        move |actors, env, _, _| {
            env.metrics().counts_unwritten.add(1);
            is_gone(&mut actors.users, key, id, false);
        },
    );
    match written {
        Ok(()) => actors.users.resource_mut(key).flags.put(Flags::COUNT_GOING, true),
        Err(_) => env.metrics().counts_unwritten.add(1),
    }
}

/// The removal of a row has come back. The key may have been given to another session meanwhile.
fn is_gone(users: &mut Users, key: ResourceKey, id: StreamId, is_gone: bool) {
    if users.sm_mut(key).is_some_and(|sm| sm.id() == id) {
        let flags = &mut users.resource_mut(key).flags;
        flags.put(Flags::COUNT_GOING, false);
        flags.put(Flags::COUNT_KEPT, !is_gone);
    }
}

/// A session ends. Its row goes; when there is no room to spare for another change, it stays until its time is over, and is true
/// until then.
pub fn forget(actors: &mut Actors, env: &Env, fx: &mut Effects, key: ResourceKey) {
    if row(&actors.users, key) != Row::Kept || !fx.jobs.has_room_to_spare() {
        return;
    }
    let Some(stream) = actors.users.sm_mut(key).map(|sm| sm.id().0) else { return };
    let account = actors.users.account_of(key);
    let _ = actors.write(
        env,
        fx,
        move |transaction| {
            transaction.forget_stream_count(account, stream)?;
            let then: Then = Box::new(|_, _, _| {});
            Ok(then)
        },
        |_, _, _, _| {},
    );
}

/// What was handled of a stream that an account cannot resume, when it is known: it slept when the server crashed, or the log tells.
pub fn handled_before(env: &Env, fx: &Effects, local: &str, id: StreamId) -> Option<u32> {
    fx.work.add(work::LOOK);
    let kept = env.shared.directory.stream_count(local, id.0).unwrap_or_else(|error| {
        tracing::error!(user = local, %error, "cannot read the directory");
        None
    });
    // The log may have a later message than the session: one that was not durable yet when it fell asleep. Both are true.
    kept.filter(|count| count.until_ms > env.unix_ms())
        .map(|count| count.handled)
        .or_else(|| env.shared.safe_before(id))
}

/// Removes rows whose time is over, a part at a time: those of before a crash, of which no session is left.
#[derive(Debug, Default)]
pub struct CountSweep {
    after: Option<StreamCountKey>,
    due: u32,
}

impl CountSweep {
    /// Looks at the next part, when it is time. `now` in seconds of the server's clock.
    pub fn look(&mut self, actors: &mut Actors, env: &Env, fx: &mut Effects, now: u32) {
        if now < self.due {
            return;
        }
        self.due = now.saturating_add(SWEEP_SECONDS);
        fx.work.add(work::LOOK);
        let now_ms = env.unix_ms();
        let ended = match env.shared.directory.ended_stream_counts(self.after, now_ms, SWEEP_ROWS) {
            Ok((ended, after)) => {
                self.after = after;
                ended
            }
            Err(error) => {
                self.after = None;
                return tracing::error!(%error, "cannot read the directory");
            }
        };
        if ended.is_empty() {
            return;
        }
        // What is not removed now is found again in the next round.
        let _ = actors.write(
            env,
            fx,
            move |transaction| {
                transaction.remove_ended_stream_counts(&ended, now_ms)?;
                let then: Then = Box::new(|_, _, _| {});
                Ok(then)
            },
            |_, _, _, _| {},
        );
    }
}
