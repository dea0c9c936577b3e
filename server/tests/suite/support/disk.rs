//! A disk that fails at one place.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Descriptors of this process that are looked at.
const DESCRIPTORS: RawFd = 1 << 16;

/// Makes the next commit of a server's directory fail when everything but the root has been written: the descriptor that LMDB
/// has for roots alone takes no writes any more.
pub(crate) fn fail_the_next_root(data: &Path) {
    let file = File::open(data.join("directory/data.mdb")).unwrap();
    let nothing = File::open("/dev/null").unwrap();
    let own = file.metadata().unwrap();
    let is_for_roots = |descriptor: &RawFd| is_synced(*descriptor, (own.dev(), own.ino()));
    let found: Vec<RawFd> = (3..DESCRIPTORS).filter(is_for_roots).collect();
    let [roots] = found[..] else { panic!("LMDB has one descriptor for roots, not {found:?}") };
    // SAFETY: takes numbers. The server's environment has this one open, and goes on having it.
    assert_ne!(unsafe { libc::dup2(nothing.as_raw_fd(), roots) }, -1);
}

/// Whether a descriptor is of this file, and what is written to it goes to the disk at once.
fn is_synced(descriptor: RawFd, file: (u64, u64)) -> bool {
    // SAFETY: takes a number and a structure to fill; a number that is no descriptor is an error.
    let (flags, found) = unsafe {
        let mut found = std::mem::zeroed::<libc::stat>();
        if libc::fstat(descriptor, &raw mut found) == -1 {
            return false;
        }
        (libc::fcntl(descriptor, libc::F_GETFL), found)
    };
    #[allow(clippy::unnecessary_cast, reason = "its types differ between systems")]
    let is_it = (found.st_dev as u64, found.st_ino as u64) == file;
    is_it && flags != -1 && flags & (libc::O_DSYNC | libc::O_SYNC) != 0
}
