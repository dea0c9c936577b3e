//! What the system refuses to do with a file, in words for the operator: the same for the log and for the directory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A failure of the system with a file or a folder, by what the operator can do about it. Cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FileError {
    /// The file system is mounted read-only.
    #[error(
        "cannot write {path}: the file system is read-only; mount it writable or use another data directory"
    )]
    ReadOnly {
        /// The file or folder.
        path: PathBuf,
    },
    /// The process may not use the files.
    #[error("cannot use {path}: permission denied; it must belong to the user who runs the server")]
    Permission {
        /// The file or folder.
        path: PathBuf,
    },
    /// The disk, a quota or the limit on file sizes is exhausted.
    #[error("cannot write {path}: {source}; free some space")]
    DiskFull {
        /// The file or folder.
        path: PathBuf,
        /// The system's word for it.
        source: Arc<io::Error>,
    },
    /// The process, or the machine, has no file descriptors left.
    #[error("cannot {doing} {path}: {source}; raise the limit of open files (see `whimbrelctl doctor`)")]
    Descriptors {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's word for it.
        source: Arc<io::Error>,
    },
    /// Any other failure of the system.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's word for it.
        source: Arc<io::Error>,
    },
}

/// The process has as many files open as it may, and the machine has: the same numbers on Linux and FreeBSD.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

impl FileError {
    /// Sorts a failure of the system by what the operator can do about it. `doing` is what was tried, as a verb.
    #[must_use]
    pub fn new(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            _ if matches!(source.raw_os_error(), Some(EMFILE | ENFILE)) => {
                Self::Descriptors { doing, path, source: Arc::new(source) }
            }
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            io::ErrorKind::PermissionDenied => Self::Permission { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::DiskFull { path, source: Arc::new(source) }
            }
            _ => Self::Io { doing, path, source: Arc::new(source) },
        }
    }

    /// Whether there was no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_names_the_file_and_its_remedy() {
        let table = [
            (io::Error::from_raw_os_error(EMFILE), "cannot open /data/x: ", "raise the limit of open files"),
            (io::ErrorKind::ReadOnlyFilesystem.into(), "cannot write /data/x: ", "mount it writable"),
            (io::ErrorKind::PermissionDenied.into(), "cannot use /data/x: ", "must belong to the user"),
            (io::ErrorKind::StorageFull.into(), "cannot write /data/x: ", "free some space"),
            (io::ErrorKind::NotFound.into(), "cannot open /data/x: ", "not found"),
        ];
        for (source, begins, contains) in table {
            let text = FileError::new("open", Path::new("/data/x"), source).to_string();
            assert!(text.starts_with(begins) && text.contains(contains), "{text}");
        }
    }
}
