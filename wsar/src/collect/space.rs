//! Room on the disk that the data directory lies on.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Source, metric};
use crate::sample::{Description, Kind, Sink};

const FREE: Description =
    metric("data.free", Kind::Gauge, "bytes", "Room left on the disk of the data directory.");
const SIZE: Description =
    metric("data.size", Kind::Gauge, "bytes", "Size of the disk of the data directory.");

pub(super) struct Space {
    /// `None`: its name has a NUL, and no such folder is there.
    path: Option<CString>,
}

impl Space {
    pub(super) fn new(data: &Path) -> Space {
        Space { path: CString::new(data.as_os_str().as_bytes()).ok() }
    }
}

impl Source for Space {
    fn name(&self) -> &'static str {
        "space"
    }

    fn collect(&mut self, _: Option<u32>, sink: &mut Sink) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut found = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
        // SAFETY: the path ends with NUL, and the call fills a value of ours, which may be all zero.
        let done = unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) };
        if done != 0 {
            let error = io::Error::last_os_error();
            // A data directory that is not there yet is no problem; that there is no server is said elsewhere.
            return if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) };
        }
        // SAFETY: zeroed above and filled by the call.
        let found = unsafe { found.assume_init() };
        #[allow(clippy::useless_conversion, reason = "the width of these fields is the system's")]
        let (unit, free, size) =
            (u64::from(found.f_frsize), u64::from(found.f_bavail), u64::from(found.f_blocks));
        sink.put(&FREE, free.saturating_mul(unit));
        sink.put(&SIZE, size.saturating_mul(unit));
        Ok(())
    }
}
