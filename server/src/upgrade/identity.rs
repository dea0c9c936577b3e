//! Whether a program is still the one that was asked.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// The file of a program when it was asked.
#[derive(PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    bytes: u64,
}

impl Identity {
    pub(super) fn of(path: &Path) -> Result<Identity, String> {
        let shown = path.display();
        let found = std::fs::metadata(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("there is no program {shown}; name it with --binary"),
            _ => format!("cannot look at {shown}: {error}"),
        })?;
        if !found.is_file() {
            return Err(format!("{shown} is no file; name the program whimbreld with --binary"));
        }
        if found.permissions().mode() & 0o111 == 0 {
            return Err(format!("{shown} is not executable; make it so: chmod +x {shown}"));
        }
        Ok(Identity {
            device: found.dev(),
            inode: found.ino(),
            modified: (found.mtime(), found.mtime_nsec()),
            bytes: found.len(),
        })
    }
}
