//! Waking the driver from any thread: an eventfd that the ring watches.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::Wake;

/// The counter is never read: every write wakes the watch, and 2^64 writes do not happen.
pub(super) struct UringWaker {
    eventfd: OwnedFd,
    pending: AtomicBool,
}

impl UringWaker {
    pub(super) fn new() -> io::Result<UringWaker> {
        // SAFETY: takes numbers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else's.
        let eventfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(UringWaker { eventfd, pending: AtomicBool::new(false) })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.eventfd.as_raw_fd()
    }

    /// To be called before the mailboxes are looked at: what is posted later wakes again.
    pub(super) fn woken(&self) {
        self.pending.store(false, Ordering::Release);
    }
}

impl Wake for UringWaker {
    fn wake(&self) {
        if self.pending.swap(true, Ordering::AcqRel) {
            return;
        }
        let one = 1u64.to_ne_bytes();
        // SAFETY: writes eight bytes that live through the call to a descriptor that is ours.
        let written = unsafe { libc::write(self.fd(), one.as_ptr().cast::<libc::c_void>(), one.len()) };
        if written == -1 {
            // Nothing is under way then; the next call tries again.
            self.pending.store(false, Ordering::Release);
        }
    }
}
