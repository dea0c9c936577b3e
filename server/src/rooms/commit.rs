//! Changes of rooms that are answered, and shown, when they are on the disk. Until then the room is busy.

use whimbrel_storage::directory::rooms::Room as Record;
use whimbrel_storage::directory::{DirectoryError, WriteTransaction};

use crate::env::Env;
use crate::proto::errors::StanzaError;
use crate::proto::muc::error;
use crate::rooms::receive;
use crate::rooms::visit::{Ack, Asker};
use crate::service::Reply;
use crate::user::actors::{Actors, Effects};
use crate::user::jobs::Then;

/// What follows on the room's home from a committed change; it says how the request is answered.
pub(super) type After = Box<dyn FnOnce(&mut Actors, &Env, &mut Effects) -> Reply + Send>;

/// What a change comes to: what follows from it, or an error of its own, for which it must not have written anything.
pub(super) type Outcome = Result<Result<After, StanzaError>, DirectoryError>;

/// Makes a change in a write transaction of the directory. The room is busy until it is committed.
pub(super) fn commit(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    asker: Asker,
    job: impl FnOnce(&mut WriteTransaction<'_>) -> Outcome + Send + 'static,
) -> Ack {
    let on_commit = asker.clone();
    let job = move |transaction: &mut WriteTransaction<'_>| {
        let outcome = job(transaction)?;
        let then: Then = Box::new(move |actors, env, fx| committed(actors, env, fx, &on_commit, outcome));
        Ok(then)
    };
    submit(actors, env, fx, asker, job)
}

/// Makes a part of a change, in a transaction of its own. What follows from it makes the next part, or the rest of the change; nothing
/// is done for anybody else in between.
pub(super) fn part<T: Send + 'static>(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    asker: Asker,
    job: impl FnOnce(&mut WriteTransaction<'_>) -> Result<T, DirectoryError> + Send + 'static,
    next: impl FnOnce(&mut Actors, &Env, &mut Effects, Asker, T) -> Ack + Send + 'static,
) -> Ack {
    let on_commit = asker.clone();
    let job = move |transaction: &mut WriteTransaction<'_>| {
        let made = job(transaction)?;
        let then: Then = Box::new(move |actors, env, fx| {
            actors.rooms.inbox(&on_commit.name).end();
            if next(actors, env, fx, on_commit.clone(), made) == Ack::Now {
                on_commit.settle(actors, env, fx);
            }
            receive::go_on(actors, env, fx, &on_commit.name);
        });
        Ok(then)
    };
    submit(actors, env, fx, asker, job)
}

/// Has a job run while the room is busy.
fn submit(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    asker: Asker,
    job: impl FnOnce(&mut WriteTransaction<'_>) -> Result<Then, DirectoryError> + Send + 'static,
) -> Ack {
    let (on_failure, on_refusal) = (asker.clone(), asker);
    let failed = move |actors: &mut Actors, env: &Env, fx: &mut Effects, error| {
        committed(actors, env, fx, &on_failure, Err(error));
    };
    actors.rooms.inbox(&on_refusal.name).begin();
    match actors.write(env, fx, job, failed) {
        Ok(()) => Ack::Later,
        Err(error) => {
            actors.rooms.inbox(&on_refusal.name).end();
            on_refusal.refuse(env, fx, error);
            Ack::Now
        }
    }
}

fn committed(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    asker: &Asker,
    outcome: Result<After, StanzaError>,
) {
    actors.rooms.inbox(&asker.name).end();
    let reply = match outcome {
        Ok(after) => after(actors, env, fx),
        Err(error) => Reply::Error(error),
    };
    asker.reply(env, fx, reply);
    asker.settle(actors, env, fx);
    receive::go_on(actors, env, fx, &asker.name);
}

/// The room as it is in the directory, for a change of it.
///
/// # Errors
/// The directory cannot be read; within: there is no such room any more.
pub(super) fn find(
    transaction: &WriteTransaction<'_>,
    name: &str,
) -> Result<Result<Record, StanzaError>, DirectoryError> {
    Ok(transaction.rooms().room(name)?.ok_or_else(error::no_room))
}
