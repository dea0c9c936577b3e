//! A data directory: the directory of accounts and the log of their messages, which belong together.
//!
//! ```text
//! DATA/directory/   accounts by number: id of the data set, whether there is a log, how many accounts there ever were
//! DATA/log/layout   id of the data set, how many accounts there had ever been when it was last opened or copied
//! ```
//!
//! A message in the log is for the number of an account. If the directory beside it is another one, or an older one that
//! goes on, a number may come to stand for somebody else, and that person would be given the message. So:
//!
//! - [`examine`], before anything is opened or made: a log without its directory is refused;
//! - [`check_tie`], before the log is opened: both must be of one data set, and a log that was there must be there;
//! - [`reconcile`], when both are open: the directory's next account gets a number above all that the log knows, and what
//!   waits for accounts that are not there is dropped.
//!
//! Backups ([`backup`], [`backup_into`]) are of both, at one moment, and a manifest says what belongs together.
//!
//! Two copies of one data set that have both gone on cannot be told apart by this. The numbers themselves see to that: see
//! [`ActorId`].

mod backup;
mod manifest;
mod place;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};

use crate::actor::ActorId;
use crate::directory::{self, Directory, DirectoryError, run_inline};
use crate::journal::Reader;
use crate::log::{self, Log, LogError, Opened, Owner};

pub use backup::{BackedUp, backup};
pub use place::{Increment, Place, UNFINISHED as UNFINISHED_OF_PLACE, backup_into, distrust, keep_newest};
pub use verify::{Whole, verify_backup};

/// Folder of the directory in a data directory.
pub const DIRECTORY: &str = "directory";

/// Folder of the log in a data directory.
pub const LOG: &str = "log";

/// File in a backup that is not whole (yet).
const UNFINISHED: &str = "unfinished-backup";

/// Why directory and log cannot be opened together, or copied.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A backup that was interrupted.
    #[error(
        "{} is a backup that was not finished (it has the file {UNFINISHED}): remove it and use another", data.display()
    )]
    Unfinished {
        /// The data directory.
        data: PathBuf,
    },
    /// There is a log, and no directory.
    #[error(
        "{} is missing or empty, but {} holds messages for its accounts. Accounts made now are not theirs, and they \
         would never be delivered: put the directory back, or restore directory and log from one backup. To begin anew \
         without the messages: whimbrelctl --data {} log discard",
        data.join(DIRECTORY).display(), data.join(LOG).display(), data.display()
    )]
    DirectoryMissing {
        /// The data directory.
        data: PathBuf,
    },
    /// The directory had a log.
    #[error(
        "{} is missing or empty, but the directory beside it had a message log. What was acknowledged and not yet \
         delivered is in it: put it back, or restore directory and log from one backup. To go on without the messages: \
         whimbrelctl --data {} log discard",
        data.join(LOG).display(), data.display()
    )]
    LogMissing {
        /// The data directory.
        data: PathBuf,
    },
    /// They are of different data sets.
    #[error(
        "{} and {} do not belong together (data sets {directory:016x} and {log:016x}): the messages are for accounts of \
         another directory. Put back the one that belongs here, or restore directory and log from one backup. To go on \
         without the messages: whimbrelctl --data {} log discard",
        data.join(DIRECTORY).display(), data.join(LOG).display(), data.display()
    )]
    Strangers {
        /// The data directory.
        data: PathBuf,
        /// Data set of the directory.
        directory: u64,
        /// Data set of the log; 0 for one that says nothing.
        log: u64,
    },
    /// A backup that shares files with others.
    #[error(
        "{} is one of several backups that share files: to serve it where it is would change the others. Copy it to a folder of \
         its own (`cp -a`) and serve that", data.display()
    )]
    Shared {
        /// The data directory.
        data: PathBuf,
    },
    /// A backup whose parts are not those that were written.
    #[error("the backup in {} is not what was written: {what}", backup.display())]
    NotWhole {
        /// The backup.
        backup: PathBuf,
        /// What is wrong, and where.
        what: String,
    },
    /// A folder that a backup cannot go into.
    #[error("a backup cannot be written into {}: {why}", to.display())]
    Target {
        /// The folder.
        to: PathBuf,
        /// What is wrong with it, and what to use instead.
        why: String,
    },
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What [`reconcile`] did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reconciled {
    /// Accounts that are not there, for which messages waited.
    pub orphans: u64,
    /// Of these, accounts that this directory has never had: it is older than the log.
    pub never_had: u64,
    /// Messages that were dropped with them.
    pub messages: u64,
}

/// Looks whether a data directory can be one, before anything in it is opened or made. A new one, or none, can.
///
/// # Errors
/// It is an unfinished backup, or one whose manifest is damaged, or shares files with other backups; there is a log without a directory; it cannot be read.
pub fn examine(data: &Path) -> Result<(), DataError> {
    if data.join(UNFINISHED).exists() {
        return Err(DataError::Unfinished { data: data.to_owned() });
    }
    let damaged = |error: io::Error| DataError::NotWhole { backup: data.to_owned(), what: error.to_string() };
    if place::shares_files(data).map_err(damaged)? {
        return Err(DataError::Shared { data: data.to_owned() });
    }
    if !directory::is_there(&data.join(DIRECTORY))? && log::owner(&data.join(LOG))?.is_some() {
        return Err(DataError::DirectoryMissing { data: data.to_owned() });
    }
    Ok(())
}

/// Looks whether the log of a data directory is that of the directory, which is open, before it is opened or made.
///
/// # Errors
/// It is not, or it is gone; it cannot be read.
pub fn check_tie(data: &Path, directory: &Directory) -> Result<(), DataError> {
    let folder = data.join(LOG);
    let (id, has_log) = (directory.data_set()?, directory.has_log()?);
    let strangers = |log| DataError::Strangers { data: data.to_owned(), directory: id, log };
    match log::owner(&folder)? {
        None if has_log => Err(DataError::LogMissing { data: data.to_owned() }),
        None => Ok(()),
        // A directory without an id was made before there were any.
        Some(Some(owner)) if owner.data_set != id && id != 0 => Err(strangers(owner.data_set)),
        Some(Some(_)) => Ok(()),
        // A first start that was interrupted has left no messages.
        Some(None) if id != 0 && log::stats(&folder)?.iter().any(|log| log.messages > 0) => Err(strangers(0)),
        Some(None) => Ok(()),
    }
}

/// Ties the logs, which have just been opened, to the directory: accounts made from now on have numbers above all that
/// the log knows; what waits for accounts that are not there is dropped and counted, unless `was_open`: this process had
/// both open a moment ago.
///
/// # Errors
/// Directory or log cannot be read or written.
pub fn reconcile<S: Reader>(
    data: &Path,
    directory: &Directory,
    opened: &mut Opened<S>,
    was_open: bool,
) -> Result<Reconciled, DataError> {
    let folder = data.join(LOG);
    let known = log::owner(&folder)?.flatten();
    let ever_before = directory.accounts_ever()?;
    let ever = [known.map_or(0, |owner| owner.accounts_ever), opened.report.users_count_max]
        .into_iter()
        .fold(ever_before, u64::max);
    let id = match (directory.data_set()?, known) {
        (0, Some(owner)) => owner.data_set,
        (0, None) => random_id()?,
        (id, _) => id,
    };
    // From now on it is not what was copied. Without the file it is as good, so a failure to remove it is none.
    let _ = std::fs::remove_file(data.join(manifest::MANIFEST));
    let reconciled = if was_open {
        Reconciled::default()
    } else {
        drop_orphans(directory, &mut opened.logs, ever_before)?
    };
    // The log first: a directory that says that there is a log must never be without one.
    log::belong_to(&folder, Owner { data_set: id, accounts_ever: ever })?;
    if directory.data_set()? != id || !directory.has_log()? || ever != ever_before {
        run_inline(
            directory,
            Box::new(move |transaction| {
                transaction.raise_accounts_ever(ever)?;
                transaction.set_data_set(id, true)
            }),
        )?;
    }
    Ok(reconciled)
}

/// Says that the directory has no log, so that the next start makes one.
///
/// # Errors
/// The directory cannot be written.
pub fn forget_log(directory: &Directory) -> Result<(), DataError> {
    let id = directory.data_set()?;
    Ok(run_inline(directory, Box::new(move |transaction| transaction.set_data_set(id, false)))?)
}

fn drop_orphans<S: Reader>(
    directory: &Directory,
    logs: &mut [Log<S>],
    ever: u64,
) -> Result<Reconciled, DataError> {
    let mut gone: HashSet<ActorId> = logs.iter().flat_map(Log::actors).collect();
    if gone.is_empty() {
        return Ok(Reconciled::default());
    }
    directory.for_each_account(|account| {
        gone.remove(&account);
        gone.remove(&ActorId::spool_of(account));
    })?;
    let orphans = gone.iter().filter(|actor| **actor != ActorId::NOBODY).count() as u64;
    let mut reconciled = Reconciled { orphans, ..Reconciled::default() };
    reconciled.never_had = gone.iter().filter(|actor| actor.count() > ever).count() as u64;
    for log in logs.iter_mut().filter(|_| !gone.is_empty()) {
        reconciled.messages += log.drop_orphans(&|actor| !gone.contains(&actor)).messages;
        log.commit_now()?;
    }
    Ok(reconciled)
}

fn random_id() -> Result<u64, DataError> {
    let mut bytes = [0; 8];
    let drawn = SystemRandom::new().fill(&mut bytes);
    drawn.map_err(|_| LogError::Options { what: "no random numbers: the system has none".to_owned() })?;
    Ok(u64::from_le_bytes(bytes).max(1))
}
