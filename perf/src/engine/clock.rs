//! Monotonic time, and a timer that is finer than the milliseconds of epoll.

use std::io;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

/// Nanoseconds since this process began to count.
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts to count.
    pub(crate) fn new() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Nanoseconds since [`Clock::new`].
    pub(crate) fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

/// A timerfd: epoll waits in whole milliseconds, which an open loop would see as latency.
#[cfg(target_os = "linux")]
pub(crate) struct FineTimer {
    file: std::os::fd::OwnedFd,
}

#[cfg(target_os = "linux")]
impl FineTimer {
    /// Makes the timer and registers it.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Option<FineTimer>> {
        use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
        // SAFETY: the call takes no pointers.
        let raw =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
        let file = unsafe { OwnedFd::from_raw_fd(raw) };
        registry.register(&mut mio::unix::SourceFd(&file.as_raw_fd()), token, mio::Interest::READABLE)?;
        Ok(Some(FineTimer { file }))
    }

    /// Fires once after `wait`.
    pub(crate) fn set(&self, wait: Duration) {
        use std::os::fd::AsRawFd;
        let value = libc::timespec {
            tv_sec: wait.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(wait.subsec_nanos().max(1) as i32),
        };
        let interval = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = libc::itimerspec { it_interval: interval, it_value: value };
        // SAFETY: `spec` lives for the call, and a null old value is allowed.
        unsafe { libc::timerfd_settime(self.file.as_raw_fd(), 0, &raw const spec, std::ptr::null_mut()) };
    }

    /// Takes note that it has fired.
    pub(crate) fn clear(&self) {
        use std::os::fd::AsRawFd;
        let mut count = [0_u8; 8];
        // SAFETY: the buffer is of the eight bytes that a timerfd writes.
        unsafe { libc::read(self.file.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

/// kqueue waits as finely as it is asked; no timer is needed.
#[cfg(not(target_os = "linux"))]
pub(crate) struct FineTimer;

#[cfg(not(target_os = "linux"))]
impl FineTimer {
    /// There is none.
    pub(crate) fn new(_: &Registry, _: Token) -> io::Result<Option<FineTimer>> {
        Ok(None)
    }

    /// Nothing.
    pub(crate) fn set(&self, _: Duration) {}

    /// Nothing.
    pub(crate) fn clear(&self) {}
}
