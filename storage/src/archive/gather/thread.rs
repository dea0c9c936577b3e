//! The thread that gathers beside a server.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::super::query::QueryError;
use super::super::readers::Folders;
use super::{BYTES_PER_SECOND, GatherMetrics, GatherSource, Gatherer, Space, Stepped};
use crate::background;
use crate::log::LogError;

const NAME: &str = "whimbrel-gather";

/// Time between two looks whether something is due.
const LOOK: Duration = Duration::from_secs(2);
/// Time after which something that failed is tried again, or the disk is looked at for room.
const AGAIN: Duration = Duration::from_secs(15);
/// It rests as long as it has worked, but no longer than this; and as long as it takes to have read no more than it may.
const REST_MAX: Duration = Duration::from_secs(2);
/// A thread that is never idle must not keep what has been deleted on the disk either.
const TIDY: Duration = Duration::from_secs(5);

/// What the thread asks and tells.
pub trait GatherWorld: Send {
    /// Milliseconds of a clock that is never set.
    fn now_ms(&self) -> u64;
    /// How much room there is.
    fn space(&self) -> Space;
    /// Something has failed, and is tried again after some seconds.
    fn failed(&self, error: &dyn fmt::Display);
}

/// The thread. It ends when this is dropped, within a step.
pub struct Gathering {
    stop: Mutex<Option<Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Held during each step.
    steps: Arc<Mutex<()>>,
    metrics: Arc<GatherMetrics>,
}

impl Gathering {
    /// Starts it; the first look is after so long.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        gatherer: Gatherer,
        folders: Arc<Folders>,
        first: Duration,
        world: Box<dyn GatherWorld>,
    ) -> Result<Self, LogError> {
        let metrics = gatherer.metrics().clone();
        let (stop, stopped) = channel();
        let steps = Arc::new(Mutex::new(()));
        let held = steps.clone();
        let run = move || {
            background::give_way();
            let (mut gatherer, mut source) = (gatherer, GatherSource::new(folders));
            let (mut pause, mut tidied) = (first, Instant::now());
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let _step = held.lock().unwrap_or_else(PoisonError::into_inner);
                pause = step(&mut gatherer, &mut source, &*world);
                if tidied.elapsed() > TIDY {
                    source.tidy();
                    tidied = Instant::now();
                }
            }
            gatherer.give_up();
        };
        let thread = thread::Builder::new().name(NAME.to_owned()).spawn(run);
        let thread = thread.map_err(|source| LogError::Thread { name: NAME, source: Arc::new(source) })?;
        Ok(Self { stop: Mutex::new(Some(stop)), thread: Mutex::new(Some(thread)), steps, metrics })
    }

    /// Nothing is done while what is returned lives. Waits for the end of a step: a few hundred texts are copied in one, or a
    /// transaction is written.
    pub fn pause(&self) -> MutexGuard<'_, ()> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the thread, within a step. Calling it again does nothing.
    pub fn stop(&self) {
        drop(self.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic has been reported by the panic hook.
            let _ = thread.join();
        }
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<GatherMetrics> {
        &self.metrics
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Gathering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathering").finish_non_exhaustive()
    }
}

/// Does a step. Returns how long to rest.
fn step(gatherer: &mut Gatherer, source: &mut GatherSource, world: &dyn GatherWorld) -> Duration {
    let begun = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| gatherer.step(source, world.now_ms(), world.space())));
    let outcome = outcome.unwrap_or_else(|_| {
        // Nothing half-done is used again.
        gatherer.give_up();
        Err(QueryError::Panicked)
    });
    match outcome {
        Ok(Stepped::Working) => {
            let bytes = gatherer.take_read();
            let least = Duration::from_micros(bytes.saturating_mul(1_000_000) / BYTES_PER_SECOND);
            begun.elapsed().max(least).min(REST_MAX)
        }
        Ok(Stepped::Idle) => LOOK,
        Ok(Stepped::NoRoom) => AGAIN,
        Err(error) => {
            world.failed(&error);
            AGAIN
        }
    }
}
