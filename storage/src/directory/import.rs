//! Importing accounts by the million.
//!
//! Deriving SCRAM keys is nearly all of the cost, so it is spread over threads:
//!
//! ```text
//! lines ──▶ caller's thread ──▶ bounded queue ──▶ N threads: derive ──▶ bounded queue ──▶ one thread: write
//!           skips accounts                                                                sorted, thousands to
//!           that exist                                                                    a transaction
//! ```
//!
//! Accounts that exist are skipped before anything is derived for them, so an import that was interrupted is gone on
//! with by starting it again: what was committed is passed over quickly.

use std::num::NonZeroU32;
use std::thread;

use crossbeam::channel::{Receiver, Sender, bounded};
use zeroize::Zeroizing;

use crate::credentials::{Credentials, CredentialsError};

use super::Directory;
use super::error::DirectoryError;

/// Accounts in one transaction.
const BATCH_ACCOUNTS: usize = 4096;
/// Entries between two stages.
const QUEUE: usize = 1024;

/// An account to be imported.
pub struct NewAccount {
    /// Its line in the file, for reports.
    pub line: u64,
    /// Localpart, normalised.
    pub local: String,
    /// Its password.
    pub password: Zeroizing<String>,
}

/// How far an import is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Imported {
    /// Accounts made and on disk.
    pub created: u64,
    /// Accounts that existed, from before or from an earlier line.
    pub skipped: u64,
    /// Lines whose password cannot be used.
    pub refused: u64,
}

/// What an import tells while it runs.
#[derive(Debug)]
pub enum ImportEvent {
    /// A batch is on disk.
    Progress(Imported),
    /// A password cannot be used; the import goes on without that account.
    Refused {
        /// Its line.
        line: u64,
        /// The account.
        local: String,
        /// Why.
        error: CredentialsError,
    },
}

struct Derived {
    line: u64,
    local: String,
    credentials: Result<Credentials, CredentialsError>,
}

impl Directory {
    /// Imports accounts by their passwords, deriving keys on `threads` threads (at least 1) with `iterations` rounds.
    /// `tell` is called on a thread of the import.
    ///
    /// An error ends the import; all batches told of before it are kept, and the same import can be started again.
    ///
    /// # Errors
    /// [`DirectoryError::Size`] for what can be no localpart; the directory is damaged or cannot be written.
    pub fn import(
        &self,
        accounts: impl IntoIterator<Item = NewAccount>,
        iterations: NonZeroU32,
        threads: usize,
        tell: impl FnMut(ImportEvent) + Send,
    ) -> Result<Imported, DirectoryError> {
        thread::scope(|scope| {
            let (to_derive, entries) = bounded::<NewAccount>(QUEUE);
            let (to_write, derived) = bounded::<Derived>(QUEUE);
            for _ in 0..threads.max(1) {
                let (entries, to_write) = (entries.clone(), to_write.clone());
                scope.spawn(move || derive(&entries, iterations, &to_write));
            }
            // Only the threads hold these now, so each stage ends when the one before it has.
            drop((entries, to_write));
            let writing = scope.spawn(move || write(self, &derived, tell));
            let fed = self.feed(accounts, &to_derive);
            drop(to_derive);
            let mut imported = match writing.join() {
                Ok(written) => written?,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            imported.skipped += fed?;
            Ok(imported)
        })
    }

    /// Hands on the accounts that do not exist. Returns how many do.
    fn feed(
        &self,
        accounts: impl IntoIterator<Item = NewAccount>,
        to_derive: &Sender<NewAccount>,
    ) -> Result<u64, DirectoryError> {
        let mut skipped = 0;
        for account in accounts {
            if self.account_exists(&account.local)? {
                skipped += 1;
            } else if to_derive.send(account).is_err() {
                // The writer has given up, and says why.
                break;
            }
        }
        Ok(skipped)
    }
}

fn derive(entries: &Receiver<NewAccount>, iterations: NonZeroU32, to_write: &Sender<Derived>) {
    for entry in entries {
        let credentials = Credentials::derive(&entry.password, iterations);
        let derived = Derived { line: entry.line, local: entry.local, credentials };
        if to_write.send(derived).is_err() {
            return;
        }
    }
}

fn write(
    directory: &Directory,
    derived: &Receiver<Derived>,
    mut tell: impl FnMut(ImportEvent),
) -> Result<Imported, DirectoryError> {
    let mut imported = Imported::default();
    let mut batch = Vec::with_capacity(BATCH_ACCOUNTS);
    for Derived { line, local, credentials } in derived {
        match credentials {
            Ok(credentials) => batch.push((local, credentials)),
            Err(error) => {
                imported.refused += 1;
                tell(ImportEvent::Refused { line, local, error });
            }
        }
        if batch.len() == BATCH_ACCOUNTS {
            write_batch(directory, &mut batch, &mut imported)?;
            tell(ImportEvent::Progress(imported));
        }
    }
    write_batch(directory, &mut batch, &mut imported)?;
    tell(ImportEvent::Progress(imported));
    Ok(imported)
}

fn write_batch(
    directory: &Directory,
    batch: &mut Vec<(String, Credentials)>,
    imported: &mut Imported,
) -> Result<(), DirectoryError> {
    // Neighbours go to the same page.
    batch.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let created = directory.0.write(|transaction| {
        let mut created = 0;
        for (local, credentials) in batch.iter() {
            created += u64::from(transaction.create_account(local, credentials)?);
        }
        Ok(created)
    })?;
    imported.created += created;
    imported.skipped += batch.len() as u64 - created;
    batch.clear();
    Ok(())
}
