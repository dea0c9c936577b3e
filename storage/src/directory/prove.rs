//! Does the disk take writes? A commit that fails in the middle costs everybody: the directory is closed and opened anew
//! (`handle`). So what is written in the background, and can wait, asks first.

use std::fs::{OpenOptions, remove_file};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;

use super::Directory;
use super::error::DirectoryError;

/// Bytes that are written: more than the pages of a commit that are likely to be new.
const BYTES: usize = 256 << 10;
/// Name of the file, for a moment.
const PROBE: &str = "probe";

impl Directory {
    /// Writes so much as a commit of some rows may into a file of the directory's folder that has no name any more, and has
    /// it brought to the disk.
    ///
    /// # Errors
    /// The disk is full, fails or is read-only.
    pub fn prove_disk(&self) -> Result<(), DirectoryError> {
        // Not beside the folder: that may be a link to another disk.
        let path = self.0.path.join(PROBE);
        let failed = |error| DirectoryError::io("write", &path, error);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let mut file = file.map_err(failed)?;
        match remove_file(&path) {
            // Another thread asks as well, and both have the same file.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.map_err(failed)?,
        }
        file.write_all(&[0x5a; BYTES]).map_err(failed)?;
        file.sync_data().map_err(failed)
    }
}
