//! Threads that work beside the event loops give way to them.

use std::thread;
use std::time::{Duration, Instant};

/// As long as a thread with much to do works at a stretch. A system that has given it the core of an event loop takes it
/// away again at its next tick only, milliseconds later, unless the thread gives it back.
const STRETCH: Duration = Duration::from_micros(250);

/// And rests then: enough for an event loop that waits for the core to get it.
const REST: Duration = Duration::from_micros(50);

/// How much later than asked for a thread may be woken, in nanoseconds. The default would double the rest.
#[cfg(target_os = "linux")]
const SLACK_NS: libc::c_ulong = 1_000;

/// How much nicer than the event loops a thread is that works beside them: on a core that both want it gets about a
/// quarter. Enough to go on, and too little to keep a loop waiting for a whole time slice while it commits or hashes.
#[cfg(target_os = "linux")]
const NICE: libc::c_int = 5;

/// The most there is.
#[cfg(target_os = "linux")]
const NICEST: libc::c_int = 19;

/// Lets the calling thread give way to the event loops. For threads whose work is waited for by nobody who could do
/// something else meanwhile: commits, the directory's writer, password hashing.
///
/// On Linux niceness belongs to a thread. Elsewhere it belongs to the process, and nothing is changed.
pub fn give_way() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: both take numbers; 0 is the calling thread.
        let set = unsafe {
            let now = libc::getpriority(libc::PRIO_PROCESS, 0);
            libc::setpriority(libc::PRIO_PROCESS, 0, (now + NICE).min(NICEST))
        };
        debug_assert_eq!(set, 0, "a thread may always make itself nicer");
        // SAFETY: takes numbers, and is about the calling thread.
        let set = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, SLACK_NS) };
        debug_assert_eq!(set, 0, "a thread may always ask to be woken in time");
    }
}

/// What a thread has done since it last rested.
#[derive(Debug)]
pub struct Stretch(Instant);

impl Stretch {
    /// Begins work.
    pub fn begin() -> Self {
        Stretch(Instant::now())
    }

    /// Rests if the thread has worked for a quarter of a millisecond. To be called between small pieces of work.
    pub fn rest_when_due(&mut self) {
        if self.0.elapsed() >= STRETCH {
            thread::sleep(REST);
            self.0 = Instant::now();
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn only_the_thread_that_asks_gives_way() {
        // SAFETY: takes numbers.
        let nice = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = nice();
        let other = std::thread::spawn(move || {
            super::give_way();
            nice()
        });
        assert_eq!(other.join().unwrap(), (before + super::NICE).min(super::NICEST));
        assert_eq!(nice(), before);
    }
}
