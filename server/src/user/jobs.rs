//! Writes to the directory on behalf of actors, and the names that jobs have here.

use whimbrel_storage::directory::{self, DirectoryError, WriteTransaction};

use crate::effects::work;
use crate::effects::{crypto, jobs};
use crate::env::Env;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::user::actors::{Actors, Effects};

/// What runs on the worker after a write was committed.
pub type Then = jobs::Then<Actors>;
/// What runs on the worker when a write failed.
pub type Failed = jobs::Failed<Actors>;
/// A job that has come back.
pub type Done = jobs::Done<Actors>;
/// The completion queue of one worker.
pub type Completions = jobs::Completions<Actors>;
/// Where jobs go.
pub type Backend = jobs::Backend<Actors>;
/// The jobs of all workers of a simulation.
pub type Stepped = jobs::Stepped<Actors>;
/// A worker's jobs.
pub type Jobs = jobs::Jobs<Actors>;
/// Hashes something and says what came of it.
pub type CryptoJob = crypto::CryptoJob<Actors>;
/// Threads that hash passwords.
pub type CryptoPool = crypto::CryptoPool<Actors>;

fn too_many() -> StanzaError {
    let text = "the server has too many changes to write; try again later";
    StanzaError::from(StanzaCondition::ResourceConstraint).with_text(text)
}

impl Actors {
    /// Runs a job in a write transaction; what it returns runs here after the commit, `failed` when the write
    /// failed.
    ///
    /// # Errors
    /// `resource-constraint` when the writer's queue is full (`limits.directory_queue`).
    pub fn write(
        &mut self,
        env: &Env,
        fx: &mut Effects,
        job: impl FnOnce(&mut WriteTransaction<'_>) -> Result<Then, DirectoryError> + Send + 'static,
        failed: impl FnOnce(&mut Actors, &Env, &mut Effects, StanzaError) + Send + 'static,
    ) -> Result<(), StanzaError> {
        // Those that wait already come first.
        if self.under_way.has_waiting() || !self.submit(fx, Box::new(job), Box::new(failed)) {
            env.metrics().refused_directory.add(1);
            return Err(too_many());
        }
        Ok(())
    }

    /// As [`write`](Actors::write), past those that wait for room. `false`: the queue is full.
    pub fn submit(&mut self, fx: &mut Effects, job: directory::Job<Then>, failed: Failed) -> bool {
        fx.work.add(work::JOB);
        fx.jobs.write(job, failed)
    }

    /// Goes on with a write that has come back.
    pub fn written(
        &mut self,
        env: &Env,
        fx: &mut Effects,
        job_id: u64,
        result: Result<Then, DirectoryError>,
    ) {
        fx.work.add(work::JOB);
        let failed = fx.jobs.failed_of(job_id);
        match result {
            Ok(then) => then(self, env, fx),
            Err(error) => {
                tracing::error!(%error, "a change could not be written to the directory");
                if let Some(failed) = failed {
                    failed(self, env, fx, StanzaError::from(StanzaCondition::InternalServerError));
                }
            }
        }
    }
}
