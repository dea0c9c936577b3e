//! The directory: accounts, rosters, block lists, vCards, private data, in LMDB.
//!
//! ```text
//!  worker ──┐ read transactions, in place, never waiting
//!  worker ──┼──────────────────────────────▶ ┌──────────────┐
//!  worker ──┘                                │ memory map   │  folder/data.mdb
//!     │ jobs                                 │ of data.mdb  │  folder/lock.mdb       LMDB's readers
//!     ▼                                      └──────▲───────┘  folder/whimbrel.lock  number of the process
//!  bounded queue ──▶ writer thread ── batches ──────┘
//!     ▲                   │
//!     └── results ◀───────┘ after the commit is on disk
//! ```
//!
//! | module | what |
//! |---|---|
//! | `env`, `lock`, `check` | opening: the folder, one process at a time, is the file ours and whole, the map |
//! | `handle` | the environment of LMDB, which is exchanged for another when the disk has failed a commit |
//! | `tables`, `transaction` | tables and views of them, write transactions |
//! | `key`, `codec`, `checksum` | how keys and values are written |
//! | `archive` | where messages of archives lie, and what actors want of theirs |
//! | `accounts`, `item`, `roster`, `blocked`, `vcard`, `private`, `activity`, `settings`, `registration` | what is kept |
//! | `pubsub` | nodes of accounts and what is published to them |
//! | `push` | devices that push services know |
//! | `counts` | how much of clients' streams was handled |
//! | `uploads` | files that accounts have uploaded, and slots for them |
//! | `rooms` | rooms and who belongs to them |
//! | `writer` | the thread that writes |
//! | `version` | what names a state of a roster, also after a backup is served |
//! | `data_set` | what ties it to the log of messages |
//! | `prove` | does the disk take writes? |
//! | `import`, `copy` | accounts by the million; backups |
//! | `error` | what can go wrong |
//!
//! LMDB keeps the file whole through crashes and power cuts by writing changed pages anew and switching roots with
//! one page write after a sync; it does not notice a page that the disk gives back wrong. For that the file's
//! structure is followed once when it is opened, and every value has a checksum.

mod accounts;
mod activity;
mod archive;
mod blocked;
mod check;
mod checksum;
mod codec;
mod copy;
mod counts;
mod data_set;
#[expect(unsafe_code, reason = "a memory map, which LMDB makes")]
mod env;
mod error;
mod handle;
mod import;
mod item;
mod key;
#[expect(unsafe_code, reason = "system calls")]
mod lock;
mod private;
mod prove;
pub mod pubsub;
mod push;
mod registration;
pub mod rooms;
mod roster;
mod settings;
mod tables;
#[cfg(test)]
#[expect(unsafe_code, reason = "opens LMDB beside the directory")]
mod tests;
mod transaction;
mod uploads;
mod vcard;
mod version;
mod writer;

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(crate) use copy::CopiedFile;
pub(crate) use env::is_there;
pub(crate) use error::whose;
pub(crate) use handle::is_held_here;

pub use accounts::{CredentialsStamp, Looks};
pub use activity::LastActivity;
pub use archive::{
    Applied, ArchiveDefault, ArchivePreferences, ArchiveState, ArchiveTotals, ArchiveView, Erased,
    ErasurePass, ErasuresDue, GATHER_MESSAGES_MIN, PREFERENCES_JIDS_MAX, RowView, Shares, Shrunk, Sweep,
    Swept, SwitchRow, Switched, Switches, TAKERS_MAX, TOMBSTONE_BYTES_MAX, ToGather, largest_takers,
};
pub use counts::{StreamCount, StreamCountKey};
pub use error::DirectoryError;
pub use import::{ImportEvent, Imported, NewAccount};
pub use item::{Item, ItemRef, ItemRow, Subscription};
pub use key::CONTACT_BYTES_MAX;
pub use private::{PRIVATE_NAME_BYTES_MAX, PrivateXml};
pub use push::{PUSH_NODE_BYTES_MAX, PushDevice, PushEnabled};
pub use registration::{NumberState, PendingPin, Quota, QuotaKey};
pub use roster::{REMOVALS_MAX, RosterChanges};
pub use settings::{MayAdd, Settings};
pub use tables::Table;
pub use transaction::{VALUE_BYTES_MAX, WriteTransaction};
pub use uploads::{
    NoUploadId, SlotRefused, UPLOAD_NAME_BYTES_MAX, UPLOAD_RANDOM_BYTES, Upload, UploadId, UploadLimits,
    UploadUsage,
};
pub use version::{INCARNATIONS_MAX, NoVersion, RosterVersion};
pub use writer::{BATCH_JOBS_MAX, BATCH_TIME_MAX, Job, QueueFull, Writer, run_inline};

use handle::Handle;
use tables::View;

/// Times that a read begins anew because the disk has failed a commit again.
const ATTEMPTS_MAX: usize = 100;

/// How to open a directory.
#[derive(Clone, Debug)]
pub struct Options {
    /// The domain whose accounts it holds, normalised. Kept in a new directory; compared with that of an old one.
    pub domain: String,
    /// Most bytes its file may grow to. Address space alone is reserved for it.
    pub map_bytes_max: u64,
    /// Whether a commit waits for the disk. Without, a power cut (not a crash of the process) can lose changes and
    /// damage the file: for simulations and throw-away directories.
    pub durable: bool,
    /// What tells the versions of this opening from those of every other; not 0. `None`: a random number. A simulation gives
    /// one, because clients see it.
    pub incarnation: Option<u64>,
}

impl Default for Options {
    /// An empty domain, 1 GiB, durable, a random incarnation.
    fn default() -> Self {
        Self { domain: String::new(), map_bytes_max: 1 << 30, durable: true, incarnation: None }
    }
}

/// The accounts of a domain and what belongs to them.
///
/// Cheap to clone and shared by all threads; the folder can be opened once at a time. Readers never wait, neither
/// for each other nor for the writer.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

/// What all clones share. The fields are dropped in this order: LMDB before the lock.
struct Inner {
    handle: Handle,
    path: PathBuf,
    secret: [u8; 32],
    incarnation: u64,
    lock: File,
    /// Held by those who copy uploaded files, which must not go meanwhile.
    uploads: RwLock<()>,
    /// Makes commits fail, as a full disk would.
    #[cfg(test)]
    fail_commits: std::sync::atomic::AtomicBool,
    /// Has commits reported as failed that are not, as when the system has written what it could not say.
    #[cfg(test)]
    lose_outcomes: std::sync::atomic::AtomicBool,
}

/// What may be done to the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Access {
    /// It is ours.
    Own,
    /// Another process has it; it is read.
    Beside,
}

impl Directory {
    /// Opens the directory in a folder, which is made when it is not there (mode 0700).
    ///
    /// # Errors
    /// Another process has it open; the folder or file is not a directory of this domain and format, or is damaged;
    /// it cannot be read and written. The text says what to do.
    pub fn open(path: &Path, options: &Options) -> Result<Self, DirectoryError> {
        Ok(Self(Arc::new(env::open(path, options, None)?)))
    }

    /// Opens the directory in a process that has held its lock since before it became this program, so that nobody
    /// could come in between. The file is not checked again.
    ///
    /// # Errors
    /// As [`Directory::open`].
    pub fn open_held(path: &Path, options: &Options, lock: File) -> Result<Self, DirectoryError> {
        Ok(Self(Arc::new(env::open(path, options, Some(lock))?)))
    }

    /// Opens a directory that another process may have open, for reading alone: a write fails. Whoever holds the lock goes on
    /// undisturbed. Nothing is made that is not there, and the file is not checked: for one that no process holds,
    /// [`Directory::open`] is the better way.
    ///
    /// # Errors
    /// There is no directory of this domain and format; it cannot be read.
    pub fn open_beside(path: &Path, options: &Options) -> Result<Self, DirectoryError> {
        Ok(Self(Arc::new(env::open_beside(path, options)?)))
    }

    /// Opens a copy of this directory, for reading alone.
    ///
    /// # Errors
    /// As [`Directory::open_beside`].
    pub(crate) fn open_copy(&self, path: &Path) -> Result<Self, DirectoryError> {
        Self::open_beside(path, self.0.handle.options())
    }

    /// The lock, for a process that is about to become another program: it is held as long as a descriptor of it is
    /// open.
    #[must_use]
    pub fn lock_descriptor(&self) -> BorrowedFd<'_> {
        self.0.lock.as_fd()
    }

    /// Nobody removes uploaded files while this lives.
    pub fn keep_uploads(&self) -> RwLockReadGuard<'_, ()> {
        self.0.uploads.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uploaded files may be removed while this lives; `None`: somebody copies them.
    #[must_use]
    pub fn may_remove_uploads(&self) -> Option<RwLockWriteGuard<'_, ()>> {
        self.0.uploads.try_write().ok()
    }

    /// 32 random bytes made when the directory was created.
    #[must_use]
    pub fn server_secret(&self) -> [u8; 32] {
        self.0.secret
    }

    /// The version of a roster that was changed since the directory was opened, from its number
    /// ([`WriteTransaction::put_roster_item`]).
    #[must_use]
    pub fn version_made_now(&self, number: u64) -> RosterVersion {
        RosterVersion { number, incarnation: self.0.incarnation }
    }

    /// Bytes its file may grow to: [`Options::map_bytes_max`], or less where the system does not give so much
    /// address space.
    #[must_use]
    pub fn map_bytes(&self) -> u64 {
        self.0.handle.hold().map_or(0, |held| held.map_bytes)
    }

    /// How often the file was opened anew because the disk had failed a commit in the middle.
    #[must_use]
    pub fn reopened(&self) -> u64 {
        self.0.handle.reopened()
    }

    /// Sees to it that no descriptor of the file outlives this program in its process, whoever opened it: LMDB leaves
    /// one of its own open. Looks at every descriptor of the process below `descriptors_max`.
    ///
    /// # Errors
    /// The file cannot be looked at.
    pub fn close_on_exec(&self, descriptors_max: i32) -> Result<(), DirectoryError> {
        let held = self.0.handle.hold()?;
        let file = held.env.try_clone_inner_file();
        let file = file.map_err(|error| held.failed("look at the file", error))?;
        lock::close_on_exec(&file, descriptors_max)
            .map_err(|error| DirectoryError::io("look at", &self.0.path.join(env::DATA_FILE), error))
    }

    fn read<T>(&self, read: impl FnOnce(View<'_>) -> Result<T, DirectoryError>) -> Result<T, DirectoryError> {
        for _ in 0..ATTEMPTS_MAX {
            let held = self.0.handle.hold()?;
            match held.env.read_txn() {
                Ok(txn) => return read(View { inner: &held, txn: &txn }),
                Err(error) if handle::is_panic(&error) => {}
                Err(error) => return Err(held.failed("begin to read", error)),
            }
            // A commit has failed a moment ago, and its thread has yet to come to it.
            self.0.handle.revive(held)?;
        }
        Err(DirectoryError::Reopening { path: self.0.path.clone() })
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the secret.
        f.debug_struct("Directory").field("path", &self.0.path).finish_non_exhaustive()
    }
}
