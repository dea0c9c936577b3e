//! The way back: while a new program restores, anything that goes wrong makes the process the old program again.
//!
//! Errors and panics come here by call; crashes by signal; a restore that does not end by a thread that waits. All of
//! them leave a note and exec the old program, whose file is still open, with the same state. Nothing has been read
//! from or written to any socket by then, and nothing closed.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::runtime::platform::{self, CrashHandler, Program};
use crate::saved::attempt;

/// What is needed to go back.
struct Way {
    memory: File,
    back: Program,
}

/// Where the way back lies while there is one.
static WAY: AtomicPtr<Way> = AtomicPtr::new(std::ptr::null_mut());

/// Set while the way back is to be taken.
static ARMED: AtomicBool = AtomicBool::new(false);

/// Watches over a restore; to be disarmed when everything is there.
pub struct Guard {
    watch: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    crashes: CrashHandler,
}

fn way() -> Option<&'static Way> {
    if !ARMED.load(Ordering::Acquire) {
        return None;
    }
    // SAFETY: the pointer is null or from a box that lives for as long as it is armed; see `Guard::disarm`.
    unsafe { WAY.load(Ordering::Acquire).as_ref() }
}

/// Guards a restore: `back` is the old program, told to restore itself from `memory`.
///
/// # Errors
/// The system's reason.
pub fn arm(memory: File, back: Program, patience: Duration) -> io::Result<Guard> {
    let way = Box::into_raw(Box::new(Way { memory, back }));
    WAY.store(way, Ordering::Release);
    ARMED.store(true, Ordering::Release);
    let (watch, watched) = channel();
    let thread = std::thread::Builder::new().name("upgrade-guard".into()).spawn(move || {
        if watched.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            fall_back_if_armed(&format!(
                "it was not done with restoring after {} seconds",
                patience.as_secs()
            ));
        }
    })?;
    let crashes = platform::on_crash(crashed)?;
    Ok(Guard { watch: Some(watch), thread: Some(thread), crashes })
}

impl Guard {
    /// Everything is there: there is no way back any more.
    pub fn disarm(mut self) {
        ARMED.store(false, Ordering::Release);
        self.crashes.restore();
        // Ends the thread.
        drop(self.watch.take());
        if let Some(thread) = self.thread.take() {
            // It does nothing that panics.
            let _ = thread.join();
        }
        let way = WAY.swap(std::ptr::null_mut(), Ordering::AcqRel);
        if !way.is_null() {
            // SAFETY: from `arm`, taken out once. Nobody reads it any more: it is not armed, the thread has ended, no
            // signal leads here, and `fall_back_if_armed` is called only by threads that restore, which are done.
            drop(unsafe { Box::from_raw(way) });
        }
    }
}

/// Whether a restore is under way that can go back.
#[must_use]
pub fn is_armed() -> bool {
    ARMED.load(Ordering::Acquire)
}

/// Goes back, if there is a way back: then this does not return.
pub fn fall_back_if_armed(reason: &str) {
    let Some(way) = way() else { return };
    // A note that cannot be left is missed, not more.
    let _ = attempt::leave_note(&way.memory, reason);
    // They wait for the old program then.
    let _ = platform::hold_signals(true);
    let error = way.back.exec();
    let text = format!("whimbreld: {reason}; and the program before cannot be started again: {error}");
    let _ = writeln!(io::stderr(), "{text}");
    std::process::exit(1);
}

/// Called in a signal handler, where nothing may be allocated and no lock taken.
fn crashed(signal: i32) {
    let Some(way) = way() else { return };
    let reason = match signal {
        libc::SIGSEGV => "it crashed with SIGSEGV",
        libc::SIGBUS => "it crashed with SIGBUS",
        libc::SIGILL => "it crashed with SIGILL",
        libc::SIGFPE => "it crashed with SIGFPE",
        libc::SIGABRT => "it ended itself with SIGABRT",
        _ => "it crashed",
    };
    let _ = attempt::leave_note(&way.memory, reason);
    let _ = way.back.exec();
}
