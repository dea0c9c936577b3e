//! Kernel settings and facts that a check of the machine wants to know.

use std::io;

use super::system;

/// A setting of the kernel that bounds what the server can hold.
#[derive(Copy, Clone, Debug)]
pub struct Setting {
    /// Its name as `sysctl` has it.
    pub name: &'static str,
    /// What it bounds, and in which unit.
    pub meaning: &'static str,
}

/// The settings that matter to the server on this system.
pub fn settings() -> &'static [Setting] {
    system::SETTINGS
}

/// Reads a setting of the kernel by its `sysctl` name: one number, or several on Linux (as `net.ipv4.tcp_mem`).
///
/// # Errors
/// `NotFound` when this kernel has no such setting, `InvalidData` when it is not numeric.
pub fn setting(name: &str) -> io::Result<Vec<i64>> {
    system::setting(name)
}

/// Memory of the machine in bytes.
///
/// # Errors
/// When the system does not say.
pub fn physical_memory_bytes() -> io::Result<u64> {
    // SAFETY: sysconf takes a number.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    // SAFETY: as above.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    match (u64::try_from(pages), u64::try_from(page)) {
        (Ok(pages), Ok(page)) => Ok(pages.saturating_mul(page)),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_this_kernel_has_is_a_number() {
        let mut known = 0;
        for wanted in settings() {
            match setting(wanted.name) {
                Ok(values) => {
                    assert!(!values.is_empty(), "{}", wanted.name);
                    known += 1;
                }
                // Parts of the kernel may be missing.
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound, "{}", wanted.name),
            }
        }
        assert!(known >= settings().len() / 2);
        assert_eq!(setting("net.no-such.setting").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_machine_has_memory() {
        assert!(physical_memory_bytes().unwrap() >= 64 << 20);
    }
}
