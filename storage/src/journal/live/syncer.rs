//! The two threads beside the workers: one commits, one makes and deletes files.
//!
//! The first sleeps until a worker asks for a commit, then has every log's new bytes written to the disk, one log after
//! the other, publishes how far each has come, rests for as long as that took, and looks again. Anything that is appended
//! meanwhile is the next commit: the slower the disk, the larger the commits. Reserving 64 MiB may take longer than a commit, so files are the
//! other thread's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::background;

use super::super::error::LogError;
use super::Journal;
use super::bell::Bells;
use super::shared::Shared;

const SYNCER: &str = "whimbrel-sync";
const KEEPER: &str = "whimbrel-keep";
/// What could not be done with a file is tried again after this.
const RETRY: Duration = Duration::from_secs(1);
/// The longest rest between two commits.
const REST_MAX: Duration = Duration::from_millis(2);
/// Nothing is missed by sleeping longer; it is a second line of defence.
const IDLE: Duration = Duration::from_secs(10);

/// The threads that commit all logs of a server and prepare and delete their segments. One for the lifetime of the
/// logs; dropping it does what [`Syncer::finish`] does.
#[derive(Debug)]
pub struct Syncer {
    bells: Arc<Bells>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Syncer {
    /// Starts the threads for all journals of a server. `wake` is called, on a thread of the syncer, with the shard whose
    /// [`Journal::committed`] has moved or which has failed; it must not block. With
    /// [`Durability::Process`](crate::log::Durability::Process) it is never called: what is committed moves with each
    /// append.
    ///
    /// # Errors
    /// A thread cannot be started, or a journal has a syncer already.
    pub(crate) fn start_for<'j>(
        journals: impl Iterator<Item = &'j Journal>,
        wake: impl Fn(usize) + Send + 'static,
    ) -> Result<Self, LogError> {
        let bells = Arc::new(Bells::default());
        let is_over = Arc::new(AtomicBool::new(false));
        let shared: Vec<(usize, Arc<Shared>)> =
            journals.map(|journal| (journal.shard(), journal.shared.clone())).collect();
        if !shared.iter().all(|(_, shared)| shared.attach(bells.clone())) {
            return Err(LogError::Options {
                what: "a second syncer; a log has one in its lifetime".to_owned(),
            });
        }
        let mut syncer = Self { bells, is_over, threads: Vec::new() };
        let (bells, is_over, logs) = (syncer.bells.clone(), syncer.is_over.clone(), shared.clone());
        syncer.spawn(SYNCER, move || sync_loop(&bells, &is_over, &logs, &wake))?;
        let (bells, is_over) = (syncer.bells.clone(), syncer.is_over.clone());
        syncer.spawn(KEEPER, move || keep_loop(&bells, &is_over, &shared))?;
        Ok(syncer)
    }

    fn spawn(&mut self, name: &'static str, run: impl FnOnce() + Send + 'static) -> Result<(), LogError> {
        let run = || {
            background::give_way();
            run();
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
        self.threads.push(thread.map_err(|source| LogError::Thread { name, source: Arc::new(source) })?);
        Ok(())
    }

    /// Commits what was asked for and ends the threads. Calling it again does nothing.
    pub fn finish(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // Whether it waits or is about to: a thread that was told does not sleep.
            thread.thread().unpark();
            // A panic can only have come from `wake`, and has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.finish();
    }
}

fn sync_loop(bells: &Bells, is_over: &AtomicBool, logs: &[(usize, Arc<Shared>)], wake: &impl Fn(usize)) {
    bells.syncer.own();
    loop {
        bells.syncer.about_to_wait();
        let is_last = is_over.load(Ordering::SeqCst);
        let begun = Instant::now();
        let mut is_idle = true;
        for (shard, shared) in logs {
            if shared.commit() {
                is_idle = false;
                wake(*shard);
            }
        }
        if is_idle {
            if is_last {
                return;
            }
            thread::park_timeout(IDLE);
        } else if !is_last {
            thread::sleep(rest_after(begun.elapsed()));
        }
    }
}

/// How long to rest after commits that took so long. A commit has a price of its own, whatever is in it: each page that it
/// cleans is to be taken from under the worker that writes the next record. Beneath a load that never pauses, resting halves
/// the number of commits, and a lone commit waits for nothing.
fn rest_after(took: Duration) -> Duration {
    took.min(REST_MAX)
}

fn keep_loop(bells: &Bells, is_over: &AtomicBool, logs: &[(usize, Arc<Shared>)]) {
    bells.keeper.own();
    loop {
        bells.keeper.about_to_wait();
        let is_last = is_over.load(Ordering::SeqCst);
        let mut is_left = false;
        for (_, shared) in logs {
            is_left |= shared.keep_files();
        }
        if is_last {
            return;
        }
        thread::park_timeout(if is_left { RETRY } else { IDLE });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_as_long_as_the_commits_before_it_and_bounded() {
        let of = |us| rest_after(Duration::from_micros(us));
        assert_eq!([of(0), of(400), of(2_000)], [0, 400, 2_000].map(Duration::from_micros));
        // A disk that takes long gathers enough by itself.
        assert_eq!(of(50_000), REST_MAX);
    }
}
