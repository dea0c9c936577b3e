//! Requests that are answered when something has been written to the directory.

use whimbrel_storage::directory::{DirectoryError, WriteTransaction};

use crate::env::Env;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::ns;
use crate::service::reply::{Reply, ReplyTo};
use crate::service::request::{self, Request};
use crate::service::table::Scope;
use crate::stanza::PendingAck;
use crate::user::actors::Actors;
use crate::user::actors::Effects;
use crate::user::jobs::Then;
use crate::user::subscription::under_way::{self, About};
use crate::user::tables::Users;
use crate::user::writes::{Area, Write};
use crate::xml::Element;

/// What follows on the worker from a committed job. It is given the pending ack of the request, and returns it unless
/// something has to be written elsewhere because of the request; then it goes there.
pub type After =
    Box<dyn FnOnce(&mut Actors, &Env, &mut Effects, Option<PendingAck>) -> Option<PendingAck> + Send>;

/// What a committed job of a request leads to.
#[derive(Default)]
pub struct Committed {
    /// Child of the result.
    pub result: Option<Element>,
    /// Runs on the worker after the result was sent.
    pub after: Option<After>,
}

impl Committed {
    /// An empty result, then `after`.
    pub fn then(after: impl FnOnce(&mut Actors, &Env, &mut Effects) + Send + 'static) -> Committed {
        Committed::hand_on(move |actors, env, fx, pending_ack| {
            after(actors, env, fx);
            pending_ack
        })
    }

    /// The same, and the requester pays for so many units of work of the directory's writer.
    #[must_use]
    pub fn charged(self, units: u64) -> Committed {
        let Committed { result, after } = self;
        let charged = Committed::hand_on(move |actors, env, fx, pending_ack| {
            fx.work.add(units);
            match after {
                Some(after) => after(actors, env, fx, pending_ack),
                None => pending_ack,
            }
        });
        Committed { result, ..charged }
    }

    /// As [`then`](Committed::then), where `after` may hand the pending ack on.
    pub fn hand_on(
        after: impl FnOnce(&mut Actors, &Env, &mut Effects, Option<PendingAck>) -> Option<PendingAck>
        + Send
        + 'static,
    ) -> Committed {
        Committed { result: None, after: Some(Box::new(after)) }
    }
}

/// What a job of a request comes to: what follows from it once it is committed, or an error of its own, for which it must
/// not have written anything.
pub type JobResult = Result<Result<Committed, StanzaError>, DirectoryError>;

/// A change that a request makes in one write transaction of the directory.
pub struct Change {
    about: Option<About>,
    job: Box<dyn FnOnce(&mut WriteTransaction<'_>) -> JobResult + Send>,
}

impl Change {
    /// A change that is made by `job`, on the directory's writer.
    pub fn new(job: impl FnOnce(&mut WriteTransaction<'_>) -> JobResult + Send + 'static) -> Change {
        Change { about: None, job: Box::new(job) }
    }

    /// It ends this subscription: what follows the change stays behind it.
    #[must_use]
    pub fn ends(self, about: Option<About>) -> Change {
        Change { about, ..self }
    }
}

/// A request that is answered later: what its requester sends behind it and its acknowledgement wait for that.
#[derive(Clone, Debug)]
pub struct Begun {
    reply_to: ReplyTo,
    write: Option<Write>,
    /// Of a requester whose resource is another worker's.
    travelling: Option<PendingAck>,
    limits: Limits,
}

/// Whose limits a request may run into.
#[derive(Copy, Clone, Debug)]
enum Limits {
    Account,
    Pubsub,
    Upload,
}

impl Request {
    /// Runs a job in a write transaction of the directory and replies with what it returns once that is
    /// committed: `Ok` with a function that runs on this worker after the result was sent (pushes, for
    /// example), or an error of its own, for which the job must not have written anything.
    ///
    /// A full queue is answered with `resource-constraint`, a failed write with `internal-server-error`.
    pub fn commit(
        &self,
        actors: &mut Actors,
        env: &Env,
        fx: &mut Effects,
        job: impl FnOnce(&mut WriteTransaction<'_>) -> JobResult + Send + 'static,
    ) -> Reply {
        self.commit_change(actors, env, fx, Change::new(job))
    }

    /// As [`commit`](Request::commit).
    pub fn commit_change(&self, actors: &mut Actors, env: &Env, fx: &mut Effects, change: Change) -> Reply {
        let begun = self.to_begin(&actors.users);
        match begun.clone().submit(actors, env, fx, change) {
            Ok(()) => {
                begun.note(actors, fx, self.area);
                Reply::Later
            }
            Err(error) => Reply::Error(error),
        }
    }

    /// Work outside the worker has begun that ends with [`Begun::commit`] or [`Begun::send`]. Nothing that the
    /// requester sends behind the request is looked at before that.
    pub fn begin(&self, actors: &mut Actors, fx: &mut Effects) -> Begun {
        let begun = self.to_begin(&actors.users);
        begun.note(actors, fx, Area::Alone);
        begun
    }

    fn to_begin(&self, users: &Users) -> Begun {
        let write = self.sender.map(|sender| Write::of(users, sender, self.pending_ack));
        let travelling = self.pending_ack.filter(|_| write.is_none());
        let limits = match (self.scope, self.query.namespace()) {
            (Scope::Nodes, _) => Limits::Pubsub,
            (_, ns::HTTP_UPLOAD) => Limits::Upload,
            _ => Limits::Account,
        };
        Begun { reply_to: self.reply_to(), write, travelling, limits }
    }
}

impl Begun {
    fn note(&self, actors: &mut Actors, fx: &mut Effects, area: Area) {
        if let Some(write) = self.write {
            actors.begin_write(fx, write, area);
        }
    }

    fn end(&self, actors: &mut Actors, env: &Env, fx: &mut Effects) {
        if let Some(write) = self.write {
            actors.end_write(env, fx, write);
        }
        if let Some(pending_ack) = self.travelling {
            actors.users.notify_durable(env, fx, pending_ack);
        }
    }

    /// Sends the reply; nothing waits for the request any more.
    pub fn send(&self, actors: &mut Actors, env: &Env, fx: &mut Effects, reply: Reply) {
        self.reply_to.send(env, fx, reply);
        self.end(actors, env, fx);
    }

    /// As [`Request::commit`]. Every outcome is answered.
    pub fn commit(self, actors: &mut Actors, env: &Env, fx: &mut Effects, change: Change) {
        let on_refusal = self.clone();
        if let Err(error) = self.submit(actors, env, fx, change) {
            on_refusal.send(actors, env, fx, Reply::Error(error));
        }
    }

    /// # Errors
    /// `resource-constraint` when the directory's queue is full; then nothing has been sent.
    fn submit(
        self,
        actors: &mut Actors,
        env: &Env,
        fx: &mut Effects,
        Change { about, job }: Change,
    ) -> Result<(), StanzaError> {
        let on_failure = self.clone();
        let job = move |transaction: &mut WriteTransaction<'_>| {
            let outcome = job(transaction)?;
            let then: Then = Box::new(move |actors, env, fx| self.committed(actors, env, fx, outcome));
            Ok(then)
        };
        let failed = move |actors: &mut Actors, env: &Env, fx: &mut Effects, error| {
            on_failure.send(actors, env, fx, Reply::Error(error));
        };
        match about {
            Some(about) => under_way::write(actors, env, fx, about, job, failed),
            None => actors.write(env, fx, job, failed),
        }
    }

    /// The job has run and what it has written is on the disk.
    fn committed(
        self,
        actors: &mut Actors,
        env: &Env,
        fx: &mut Effects,
        outcome: Result<Committed, StanzaError>,
    ) {
        let committed = match outcome {
            Ok(committed) => committed,
            Err(error) => {
                if error.condition == StanzaCondition::ResourceConstraint {
                    match self.limits {
                        Limits::Pubsub => env.metrics().refused_pubsub.add(1),
                        Limits::Upload => env.metrics().refused_upload.add(1),
                        Limits::Account => env.metrics().refused_account.add(1),
                    }
                }
                return self.send(actors, env, fx, Reply::Error(error));
            }
        };
        self.reply_to.send(env, fx, committed.result.map_or(Reply::Done, Reply::Result));
        let pending_ack = self.write.and_then(|write| write.pending_ack).or(self.travelling);
        let pending_ack = match committed.after {
            Some(after) => after(actors, env, fx, pending_ack),
            None => pending_ack,
        };
        match self.write {
            Some(write) => actors.took_effect(fx, write),
            None => request::bill(env, fx, self.reply_to.requester(), fx.work.charge_completion()),
        }
        if let Some(pending_ack) = pending_ack {
            actors.users.notify_durable(env, fx, pending_ack);
        }
    }
}
