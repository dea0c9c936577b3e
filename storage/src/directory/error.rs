//! What can go wrong with the directory, in words for the operator.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::file_error::FileError;

/// Why the directory could not be opened, read or written.
///
/// Cheap to clone: when a commit fails, every job of the batch gets the same error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process has it open.
    #[error("the directory {path} is in use by {}; stop that process or use another data directory", holder(*pid))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process that holds it, if it could be read.
        pid: Option<u32>,
    },
    /// There is something at the path that is no folder.
    #[error("{path} is not a folder; move it away or use another data directory")]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The folder or the file in it belongs to something else.
    #[error("{path} is not a directory of Whimbrel: {what}; move it away or use another data directory")]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The accounts in it are those of another domain.
    #[error(
        "the directory {path} holds the accounts of {found:?}, not of {wanted:?}; correct `domain` or use another data directory"
    )]
    OtherDomain {
        /// The folder.
        path: PathBuf,
        /// Its domain.
        found: String,
        /// The domain that was asked for.
        wanted: String,
    },
    /// It was written by a release with another format.
    #[error(
        "the directory {path} has format {found}, which {} release wrote; this one reads format {known} and converts none: \
         run the release that wrote it, or begin with a new data directory (`whimbrelctl user import` makes accounts)",
        whose(*found, *known)
    )]
    UnknownFormat {
        /// The folder.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The format this release writes.
        known: u32,
    },
    /// The file's structure is broken.
    #[error("the directory file {path} is damaged: {what}; restore it from a backup")]
    DamagedFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// One value is broken.
    #[error("the directory's table {table} is damaged at key {key}: {what}; restore it from a backup")]
    Damaged {
        /// The table.
        table: &'static str,
        /// The key, with other than printable characters escaped; shortened when it is long.
        key: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The index of the archives was being made anew, and that has not come to its end: what it does not have would be taken for
    /// what nobody needs.
    #[error(
        "making the index of the archives in {path} anew was interrupted; run `whimbrelctl archive rebuild` again. Nothing is lost"
    )]
    HalfIndex {
        /// The folder.
        path: PathBuf,
    },
    /// The system refuses to do something with a file.
    #[error("{error}{}", outcome(error))]
    File {
        /// Which.
        error: FileError,
    },
    /// A commit was cut off in the middle of a write, which LMDB does not explain further.
    #[error(
        "cannot write {path}: the disk is full or failing; free some space or look at the system's log. Nothing was changed"
    )]
    DiskRefused {
        /// The folder.
        path: PathBuf,
    },
    /// LMDB has given the file up because the disk has failed a commit, and it is being opened anew.
    #[error(
        "the directory {path} is being opened anew, because the disk failed while it was written; try again"
    )]
    Reopening {
        /// The folder.
        path: PathBuf,
    },
    /// The memory map has no room left.
    #[error("the directory is full at {} MiB; raise `directory_gib_max` and restart. Nothing was changed", map_bytes >> 20)]
    Full {
        /// Size of the map.
        map_bytes: u64,
    },
    /// A change for an account that does not exist (any more).
    #[error("there is no account {local:?}")]
    NoAccount {
        /// Its localpart.
        local: String,
    },
    /// A text or value that is empty or longer than the directory keeps.
    #[error("{what} has {bytes} bytes; 1 to {max} are allowed")]
    Size {
        /// What it is.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The batch a job was in could not be committed.
    #[error("not committed: {0}")]
    NotCommitted(Arc<DirectoryError>),
    /// A job has panicked; nothing of it was written.
    #[error("the job panicked; nothing of it was written")]
    JobPanicked,
    /// A thread could not be started.
    #[error("cannot start the thread {name}: {source}")]
    Thread {
        /// Its name.
        name: &'static str,
        /// The system's word for it.
        source: Arc<io::Error>,
    },
    /// Any other refusal of LMDB.
    #[error("cannot {doing} in the directory {path}: {what}")]
    Lmdb {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The folder.
        path: PathBuf,
        /// LMDB's word for it.
        what: String,
    },
}

/// What a commit is called in [`DirectoryError::lmdb`].
pub(super) const COMMIT: &str = "commit";

/// The same number on Linux and FreeBSD.
const EIO: i32 = 5;

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// What became of the change that was to be written.
fn outcome(error: &FileError) -> &'static str {
    if matches!(error, FileError::DiskFull { .. }) { ". Nothing was changed" } else { "" }
}

/// Which release wrote a format.
pub(crate) fn whose(found: u32, known: u32) -> &'static str {
    if found < known { "an earlier" } else { "a later" }
}

impl DirectoryError {
    /// Sorts a failure of the system by what the operator can do about it.
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File { error: FileError::new(doing, path, source) }
    }

    /// Sorts a failure of LMDB. `map_bytes` is the size of the map, for [`DirectoryError::Full`].
    pub(super) fn lmdb(doing: &'static str, path: &Path, map_bytes: u64, error: heed::Error) -> Self {
        match error {
            // LMDB's word for a write that took only part of what it was given, which is how a disk fills up.
            heed::Error::Io(source) if source.raw_os_error() == Some(EIO) && doing == COMMIT => {
                Self::DiskRefused { path: path.to_owned() }
            }
            heed::Error::Io(source) => Self::io(doing, path, source),
            heed::Error::Mdb(heed::MdbError::MapFull) => Self::Full { map_bytes },
            heed::Error::Mdb(
                error @ (heed::MdbError::Corrupted | heed::MdbError::PageNotFound | heed::MdbError::Invalid),
            ) => Self::DamagedFile { path: path.join(super::env::DATA_FILE), what: error.to_string() },
            heed::Error::Mdb(heed::MdbError::Panic) => Self::Reopening { path: path.to_owned() },
            heed::Error::EnvAlreadyOpened => {
                Self::Locked { path: path.to_owned(), pid: Some(std::process::id()) }
            }
            error => Self::Lmdb { doing, path: path.to_owned(), what: error.to_string() },
        }
    }
}
