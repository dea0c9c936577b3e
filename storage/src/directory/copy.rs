//! Copies for backups.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use heed::CompactionOption;

use super::error::DirectoryError;
use super::{Directory, env};

impl Directory {
    /// Writes a compact copy of the directory's present state into a folder, which can then be opened as a directory.
    /// The folder is made (mode 0700) or must be empty. Takes as long as writing the data does; readers and the
    /// writer go on meanwhile, but pages they free are not used again before it is done, so the file may grow.
    ///
    /// # Errors
    /// The folder is not empty or cannot be written; then no half copy is left in it.
    pub fn copy_to(&self, path: &Path) -> Result<(), DirectoryError> {
        env::make_folder(path)?;
        let failed = |error| DirectoryError::io("write", path, error);
        if fs::read_dir(path).map_err(failed)?.next().is_some() {
            return Err(failed(io::Error::from(io::ErrorKind::DirectoryNotEmpty)));
        }
        // Under another name until it is whole and on disk.
        let unfinished = path.join("data.mdb.unfinished");
        let copied = self.copy_file(&unfinished).and_then(|()| {
            fs::rename(&unfinished, path.join(env::DATA_FILE))
                .and_then(|()| File::open(path)?.sync_all())
                .map_err(failed)
        });
        if copied.is_err() {
            // The reason for the failure says more than that of a failure to clean up.
            let _ = fs::remove_file(&unfinished);
        }
        copied
    }

    fn copy_file(&self, path: &Path) -> Result<(), DirectoryError> {
        let failed = |error| DirectoryError::io("write", path, error);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let copied = self.0.env.copy_to_file(&mut file, CompactionOption::Enabled);
        copied.map_err(|error| DirectoryError::lmdb("copy", path, self.0.map_bytes, error))?;
        file.sync_all().map_err(failed)
    }
}
