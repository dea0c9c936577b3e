//! Asking the system for parts of files before they are read, so that the disk brings them at the same time and not one after the
//! other.

use std::fs::File;
use std::os::fd::AsRawFd as _;

/// Has the system begin to fetch bytes of a file. Nothing waits for them, and a system that does not take the hint fetches them
/// when they are read.
pub(super) fn will_need(file: &File, from: u64, bytes: u64) {
    let (Ok(from), Ok(bytes)) = (libc::off_t::try_from(from), libc::off_t::try_from(bytes)) else { return };
    // SAFETY: takes numbers, and the descriptor is open during the call.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), from, bytes, libc::POSIX_FADV_WILLNEED) };
}
