//! What Linux and FreeBSD do differently, and settings of the whole process.
//!
//! | file | what |
//! | --- | --- |
//! | `linux.rs`, `freebsd.rs` | the same few functions for each system; nothing else here names a system |
//! | `crash.rs` | being told of a crash of this process |
//! | `descriptors.rs` | the limit of open files |
//! | `image.rs` | becoming another program in the same process |
//! | `listener.rs` | listeners, alone or sharing a port between workers |
//! | `privileges.rs` | from root to an ordinary user, for good |
//! | `settings.rs` | kernel settings and facts that a check of the machine wants to know |
//! | `usage.rs` | what the process has used |
//!
//! Beside this module only the `uring` driver knows which system it runs on.

use std::io;

mod crash;
mod descriptors;
#[cfg(target_os = "freebsd")]
mod freebsd;
mod image;
#[cfg(target_os = "linux")]
mod linux;
mod listener;
mod privileges;
mod settings;
mod usage;

#[cfg(target_os = "freebsd")]
use freebsd as system;
#[cfg(target_os = "linux")]
use linux as system;

pub use crash::{CrashHandler, on_crash};
#[cfg(test)]
pub(crate) use descriptors::tests::lower_descriptor_limit;
pub use descriptors::{DescriptorLimits, descriptor_limits, raise_descriptor_limit};
pub use image::{
    Program, hold_signals, inheritable, is_inherited, keep_open, memory_file, monotonic_ns, name_process,
};
pub use listener::{listener, reuseport_listener};
pub use privileges::{can_drop_privileges, drop_privileges};
pub use settings::{Setting, physical_memory_bytes, setting, settings};
pub use usage::{Usage, memory_bytes, usage};

/// Cores that this process may run on, in ascending order; empty when the kernel does not say.
pub fn available_cores() -> Vec<usize> {
    system::available_cores().unwrap_or_default()
}

/// Binds the calling thread to one core.
///
/// # Errors
/// When there is no such core or this process may not use it.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    system::pin_to_core(core)
}

/// Has the calling thread get a core as soon as it wakes, before threads that have had it for long, for a short time at once. On
/// Linux 6.12 or newer: it takes the shortest slices that there are, and with equal shares the next deadline goes first. Its share of a
/// core stays the same, and so does a policy that somebody has chosen for it. Elsewhere nothing is changed.
///
/// # Errors
/// The system refuses.
pub fn shorten_slices() -> io::Result<()> {
    system::shorten_slices()
}

/// A call's result, where -1 means that `errno` tells why.
fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Bits of a processor mask that the kernel fills in: 1,024 cores, as many as either system is built for by default.
#[derive(Default)]
struct CoreMask([u64; 16]);

impl CoreMask {
    const BYTES: usize = size_of::<CoreMask>();

    fn cores(&self) -> Vec<usize> {
        (0..CoreMask::BYTES * 8).filter(|core| self.0[core / 64] >> (core % 64) & 1 == 1).collect()
    }

    fn only(core: usize) -> io::Result<CoreMask> {
        let mut mask = CoreMask::default();
        let Some(word) = mask.0.get_mut(core / 64) else {
            let message = format!("core {core} is beyond the {} that are supported", CoreMask::BYTES * 8);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        };
        *word = 1 << (core % 64);
        Ok(mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_short_for_the_thread_that_asks() {
        std::thread::spawn(|| {
            shorten_slices().unwrap();
            // And once more, from what it has now.
            shorten_slices().unwrap();
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_can_be_bound_to_each_available_core_and_to_no_other() {
        let cores = available_cores();
        assert!(!cores.is_empty());
        assert!(cores.is_sorted());
        // A thread of its own: the binding ends with it.
        std::thread::spawn(move || {
            for core in &cores {
                pin_to_core(*core).unwrap();
                assert_eq!(available_cores(), [*core]);
            }
            assert!(pin_to_core(1023).is_err());
            assert_eq!(pin_to_core(1 << 20).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        })
        .join()
        .unwrap();
    }
}
