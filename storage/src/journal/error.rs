//! What can go wrong with the log, in words for the operator.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::directory::whose;
use crate::file_error::FileError;

/// Why the log could not be opened, kept or copied. Cheap to clone.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// A setting is out of its range.
    #[error("the log cannot be opened with {what}")]
    Options {
        /// Which, and what is allowed.
        what: String,
    },
    /// Another process has the log open.
    #[error("the log {path} is in use by another process; stop that process or use another data directory")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// It was written by a release with another format.
    #[error(
        "the log file {path} has format {found}, which {} release wrote; this one reads format {known} and converts none: \
         run the release that wrote it until everything is delivered, or give up what waits with `whimbrelctl log discard`",
        whose(*found, *known)
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: u32,
        /// The format this release writes.
        known: u32,
    },
    /// A file of the log that everything else hangs on cannot be understood.
    #[error("the log file {path} is damaged: {what}; restore the log from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The system refuses to do something with a file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A thread could not be started.
    #[error("cannot start the thread {name}: {source}")]
    Thread {
        /// Its name.
        name: &'static str,
        /// The system's word for it.
        source: Arc<io::Error>,
    },
}

impl LogError {
    /// Sorts a failure of the system by what the operator can do about it.
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File(FileError::new(doing, path, source))
    }

    /// Whether there was no room on the disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::File(error) if error.is_full())
    }
}

/// Why a message was not appended. Nothing of it is in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AppendError {
    /// There is no room for another segment, or not yet: appends succeed again once there is. Why is known to
    /// [`crate::log::Log::no_room`]: mostly a full disk, sometimes a want of file descriptors.
    #[error("the log has no room for another file")]
    Full,
    /// The actor has as much waiting as it may.
    #[error("as many messages wait for the user as may")]
    UserQuota,
    /// The log is as large as it may grow.
    #[error("the log is as large as it may grow; raise its limit")]
    LogQuota,
    /// The payload is longer than the log takes.
    #[error("the message is longer than the log takes")]
    TooLarge,
    /// A commit has failed, so the log takes nothing until it is reopened; see [`crate::log::Log::failed`].
    #[error("the log has failed and takes nothing until it is reopened")]
    Failed,
}

/// A record that the disk gave back otherwise than it was written. Anything that is before and after it is unharmed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the log file {} is damaged at byte {offset}: {what}", path.display())]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// How many bytes cannot be read.
    pub bytes: u64,
    /// What is wrong.
    pub what: &'static str,
}
