//! What the process has used so far.

use std::io;

/// Figures of getrusage(2).
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// CPU time in the process's own code, microseconds.
    pub user_us: u64,
    /// CPU time in the kernel, microseconds.
    pub system_us: u64,
    /// Page faults that needed no disk.
    pub faults_minor: u64,
    /// Page faults that waited for a disk.
    pub faults_major: u64,
    /// Times that a thread waited.
    pub switches_voluntary: u64,
    /// Times that a thread was made to give up its core.
    pub switches_involuntary: u64,
    /// Most memory that was ever resident, bytes.
    pub memory_peak_bytes: u64,
}

/// What this process has used.
///
/// # Errors
/// The system's reason.
pub fn usage() -> io::Result<Usage> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a rusage of ours, which the call fills.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: plain numbers, all zero at first and then filled.
    let usage = unsafe { usage.assume_init() };
    let number = |n: libc::c_long| u64::try_from(n).unwrap_or(0);
    let time = |t: libc::timeval| number(t.tv_sec) * 1_000_000 + u64::try_from(t.tv_usec).unwrap_or(0);
    Ok(Usage {
        user_us: time(usage.ru_utime),
        system_us: time(usage.ru_stime),
        faults_minor: number(usage.ru_minflt),
        faults_major: number(usage.ru_majflt),
        switches_voluntary: number(usage.ru_nvcsw),
        switches_involuntary: number(usage.ru_nivcsw),
        // Kilobytes on Linux and on FreeBSD.
        memory_peak_bytes: number(usage.ru_maxrss) * 1024,
    })
}

/// Bytes of memory that the machine has; or the control group of the process may use, where that is less.
pub fn memory_bytes() -> u64 {
    // SAFETY: takes numbers and gives numbers.
    let (pages, page) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    let machine = u64::try_from(pages).unwrap_or(0).saturating_mul(u64::try_from(page).unwrap_or(0));
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse::<u64>().ok());
    group.map_or(machine, |group| group.min(machine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_memory() {
        assert!(memory_bytes() > 64 << 20);
    }

    #[test]
    fn work_is_seen() {
        let before = usage().unwrap();
        let mut sum = 0u64;
        while usage().unwrap().user_us == before.user_us {
            sum = (0..10_000).fold(sum, |sum, n| std::hint::black_box(sum ^ n));
        }
        let after = usage().unwrap();
        assert!(after.user_us > before.user_us && after.memory_peak_bytes > 100_000, "{after:?} {sum}");
    }
}
