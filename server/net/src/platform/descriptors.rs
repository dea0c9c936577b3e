//! The limit of open files: every connection is one.

use std::io;

use super::check;

/// How many descriptors this process may have open.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct DescriptorLimits {
    /// The limit in force.
    pub soft: u64,
    /// How far an ordinary process can raise it.
    pub hard: u64,
}

fn get() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills in the struct, which lives through the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok(limit)
}

/// The limits as they are.
///
/// # Errors
/// None that a sound system gives.
pub fn descriptor_limits() -> io::Result<DescriptorLimits> {
    let limit = get()?;
    Ok(DescriptorLimits { soft: limit.rlim_cur as u64, hard: limit.rlim_max as u64 })
}

/// Raises the soft limit of descriptors to the hard one; returns the limit now in force.
///
/// # Errors
/// When the kernel refuses.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = get()?;
    if limit.rlim_cur != limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the kernel reads the struct, which lives through the call.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
        // The kernel may have rounded down to what the machine has.
        limit = get()?;
    }
    Ok(limit.rlim_cur as u64)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::isolated;

    /// Lowers the soft limit of this process; for tests in a process of their own.
    pub(crate) fn lower_descriptor_limit(soft: u64) {
        let mut limit = get().unwrap();
        limit.rlim_cur = soft as libc::rlim_t;
        // SAFETY: the kernel reads the struct, which lives through the call.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }).unwrap();
    }

    #[test]
    fn the_soft_limit_rises_to_the_hard_one() {
        isolated::run("platform::descriptors::tests::the_soft_limit_rises_to_the_hard_one", || {
            lower_descriptor_limit(50);
            let before = descriptor_limits().unwrap();
            assert_eq!(before.soft, 50);
            assert_eq!(raise_descriptor_limit().unwrap(), before.hard);
            assert_eq!(descriptor_limits().unwrap().soft, before.hard);
        });
    }
}
