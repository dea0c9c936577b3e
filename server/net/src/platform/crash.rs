//! Being told of a crash of this process, in the last moment in which something can be done.

use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::check;

/// Signals that a program sends itself by going wrong.
const CRASHES: [libc::c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// What to call; a `fn(i32)`.
static CALLED: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// The handlers that were there before.
pub struct CrashHandler {
    before: Vec<(libc::c_int, libc::sigaction)>,
}

extern "C" fn handle(signal: libc::c_int) {
    let called = CALLED.load(Ordering::Acquire);
    if !called.is_null() {
        // SAFETY: only `on_crash` stores there, and only functions of this type.
        let called = unsafe { std::mem::transmute::<*mut (), fn(i32)>(called) };
        called(signal);
    }
    // SAFETY: `_exit` has no preconditions. Nothing is left to be done: 128 and the signal is what a shell would tell.
    unsafe { libc::_exit(128 + signal) };
}

/// Has `call` called, in a signal handler, when the process crashes. It may only do what is safe there: no memory is
/// to be allocated and no lock taken. When it returns, the process ends.
///
/// # Errors
/// None that a sound system gives.
pub fn on_crash(call: fn(i32)) -> io::Result<CrashHandler> {
    CALLED.store(call as *mut (), Ordering::Release);
    let mut handler = CrashHandler { before: Vec::new() };
    for signal in CRASHES {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        let mut before = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: a zeroed sigaction is valid: no flags, an empty set.
        let action = unsafe {
            let pointer = action.as_mut_ptr();
            (*pointer).sa_sigaction = handle as *const () as libc::sighandler_t;
            // Not held back while it is handled: an exec would hand that on. On the other stack: the first may be full.
            (*pointer).sa_flags = libc::SA_NODEFER | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut (*pointer).sa_mask);
            action.assume_init()
        };
        // SAFETY: both structs live through the call; the kernel fills in the second.
        check(unsafe { libc::sigaction(signal, &raw const action, before.as_mut_ptr()) })?;
        // SAFETY: filled in by the call.
        handler.before.push((signal, unsafe { before.assume_init() }));
    }
    Ok(handler)
}

impl CrashHandler {
    /// Puts back what was there before.
    pub fn restore(&mut self) {
        for (signal, before) in self.before.drain(..) {
            // SAFETY: the struct is one that the kernel gave. A failure leaves our handler, which calls nothing then.
            unsafe { libc::sigaction(signal, &raw const before, std::ptr::null_mut()) };
        }
        CALLED.store(std::ptr::null_mut(), Ordering::Release);
    }
}
