//! Does the disk take writes? A commit that fails in the middle costs everybody: the directory is closed and opened anew
//! (`handle`). So what is written in the background, and can wait, asks first.

use std::fs::{File, remove_file};
use std::io::Write;

use super::Directory;
use super::error::DirectoryError;

/// Bytes that are written: more than the pages of a commit that are likely to be new.
const BYTES: usize = 256 << 10;

impl Directory {
    /// Writes so much as a commit of some rows may into a file without a name, beside the directory, and has it brought to the
    /// disk.
    ///
    /// # Errors
    /// The disk is full, fails or is read-only.
    pub fn prove_disk(&self) -> Result<(), DirectoryError> {
        let path = self.0.path.with_extension("probe");
        let failed = |error| DirectoryError::io("write", &path, error);
        let mut file = File::create(&path).map_err(failed)?;
        remove_file(&path).map_err(failed)?;
        file.write_all(&[0x5a; BYTES]).map_err(failed)?;
        file.sync_data().map_err(failed)
    }
}
