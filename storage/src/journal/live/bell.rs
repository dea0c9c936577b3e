//! Waking the threads beside the workers.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;

/// A thread that can be woken.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    thread: OnceLock<Thread>,
    is_waiting: AtomicBool,
}

impl Bell {
    /// The calling thread is the one to wake.
    pub(crate) fn own(&self) {
        let _ = self.thread.set(std::thread::current());
    }

    /// To be called before the last look at what there is to do.
    pub(crate) fn about_to_wait(&self) {
        self.is_waiting.store(true, Ordering::SeqCst);
    }

    /// Wakes the thread if it waits: a system call only then.
    pub(crate) fn ring(&self) {
        let is_waiting =
            self.is_waiting.load(Ordering::SeqCst) && self.is_waiting.swap(false, Ordering::SeqCst);
        if let Some(thread) = self.thread.get().filter(|_| is_waiting) {
            thread.unpark();
        }
    }
}

/// The bells of the two threads.
#[derive(Debug, Default)]
pub(crate) struct Bells {
    pub(crate) syncer: Bell,
    pub(crate) keeper: Bell,
}
