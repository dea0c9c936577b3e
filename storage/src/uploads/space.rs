//! How much room a file system has.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes that the file system of a folder has left for a process that is not root's.
///
/// # Errors
/// The system's reason.
pub(crate) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let path = CString::new(folder.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a zero, and the call writes no more than the struct, which it fills when it returns 0.
    let found = unsafe {
        if libc::statvfs(path.as_ptr(), found.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        found.assume_init()
    };
    #[allow(clippy::unnecessary_cast, reason = "the fields have other sizes on other systems")]
    Ok((found.f_bavail as u64).saturating_mul(found.f_frsize as u64))
}
