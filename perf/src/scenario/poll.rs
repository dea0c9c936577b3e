//! What both processes need of the system: waiting for descriptors, one CPU, CPU time.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// What is waited for on one descriptor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interest {
    /// The descriptor.
    pub(crate) fd: RawFd,
    /// Until it can be read.
    pub(crate) read: bool,
    /// Until it can be written.
    pub(crate) write: bool,
}

/// Waits until something of that happens, at most `timeout`; `true` for each descriptor that has news.
pub(crate) fn wait(interests: &[Interest], timeout: Duration) -> io::Result<Vec<bool>> {
    let event = |wanted: bool, event| if wanted { event } else { 0 };
    let mut polled: Vec<libc::pollfd> = interests
        .iter()
        .map(|interest| libc::pollfd {
            fd: interest.fd,
            events: event(interest.read, libc::POLLIN) | event(interest.write, libc::POLLOUT),
            revents: 0,
        })
        .collect();
    let time = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
    };
    // SAFETY: the array lives for the call and its length is given; a null mask is allowed.
    let outcome = unsafe {
        libc::ppoll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, &raw const time, std::ptr::null())
    };
    if outcome < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(polled.iter().map(|entry| entry.revents != 0).collect())
}

/// Keeps this process on one CPU.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: an all-zero set is an empty one.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        if core >= libc::CPU_SETSIZE as usize {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: the number is below that of the set's bits.
        unsafe { libc::CPU_SET(core, &mut set) };
        // SAFETY: the set lives for the call and its size is given.
        let outcome = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
        if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = core;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Lets this process, which measures and sleeps most of the time, run before others on its CPU, where the system allows it: as
/// soon as it wakes, else at a better nice level.
pub(crate) fn go_first() {
    #[cfg(target_os = "linux")]
    {
        let first = libc::sched_param { sched_priority: 1 };
        // SAFETY: the parameter lives for the call; 0 is this thread, the only one of a process that measures.
        if unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const first) } == 0 {
            return;
        }
    }
    // SAFETY: the calls take no pointers. Without the right to it, the process runs as all others do.
    unsafe {
        let now = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, now - 10);
    }
}

/// Lets this thread run only while nobody else wants its CPU.
///
/// # Errors
/// The system's reason; it may have no such class.
pub(crate) fn give_way() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: an all-zero parameter is what the class wants.
        let none: libc::sched_param = unsafe { std::mem::zeroed() };
        // SAFETY: the parameter lives for the call; 0 is this thread.
        let outcome = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const none) };
        if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
    #[cfg(target_os = "freebsd")]
    {
        let mut idle = libc::rtprio { type_: libc::RTP_PRIO_IDLE, prio: 0 };
        // SAFETY: the parameter lives for the call; 0 is this thread.
        let outcome = unsafe { libc::rtprio_thread(libc::RTP_SET, 0, &raw mut idle) };
        if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    Err(io::ErrorKind::Unsupported.into())
}

/// CPU time of this process so far, in seconds.
pub(crate) fn cpu_seconds() -> f64 {
    // SAFETY: an all-zero rusage is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live rusage.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
