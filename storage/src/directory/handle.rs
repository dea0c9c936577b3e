//! The environment that LMDB has open, and how it is exchanged for another.
//!
//! LMDB gives an environment up when the disk fails the write that switches roots, the last of a commit: from then on it
//! refuses everything with `MDB_PANIC`, reading too, until the file is closed and opened anew. So transactions do not have
//! the environment but *hold* it ([`Handle::hold`]), and whoever finds it dead has it exchanged ([`Handle::revive`]):
//!
//! ```text
//!  commit fails ─▶ gate ─▶ closed to newcomers ─▶ those that hold it end ─▶ LMDB closes ─▶ opened, another number ─▶ gate off
//!                           newcomers wait at the gate ─────────────────────────────────────────────────────────────▲
//! ```
//!
//! Two environments of one file must never be open in a process: each has a table of readers of its own, and closing one
//! drops the locks of the other. That is why the old one is waited for. Transactions are short; a copy for a backup, which is
//! not, looks at [`Opened::closing_flag`] and gives up. A thread that holds the old one while it begins another transaction
//! would wait for itself, so it is refused ([`DirectoryError::Reopening`]).
//!
//! # What the file says after a failed commit
//! LMDB writes the old root back, into the system's memory alone; the disk may have the new one, the old one, or what the system
//! believes to have written and has not. Were pages of the failed commit written over before that is decided, a power cut
//! could leave a root that leads nowhere. So before the first transaction writes, both roots are written once more as the
//! memory has them, and brought to the disk (`settle`). Until that succeeds, the directory is read and not written; where the
//! system does not let it be opened for writing at all, it is opened to be read.

use std::cell::Cell;
use std::fs::{self, OpenOptions};
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use heed::{Env, MdbError, WithoutTls};

use super::env::{self, DATA_FILE};
use super::error::DirectoryError;
use super::tables::Tables;
use super::{Access, Options};

/// Pages at the beginning of the file that are roots.
const ROOTS: usize = 2;

thread_local! {
    /// Environments that this thread holds.
    static HELD: Cell<u32> = const { Cell::new(0) };
}

/// Whether this thread holds an environment: it must not wait for a disk then, since all others may come to wait for it.
pub(crate) fn is_held_here() -> bool {
    HELD.get() > 0
}

/// An environment, with handles of its tables.
pub(super) struct Opened {
    pub(super) env: Env<WithoutTls>,
    pub(super) tables: Tables,
    pub(super) path: PathBuf,
    pub(super) map_bytes: u64,
    /// [`Options::incarnation`], which stays the same however often the file is opened anew.
    pub(super) incarnation: u64,
    pub(super) is_writable: bool,
    /// Which of the environments of a [`Handle`].
    number: u64,
    is_closing: Arc<AtomicBool>,
}

impl Opened {
    /// The first of a handle.
    pub(super) fn first(
        (env, map_bytes): (Env<WithoutTls>, u64),
        tables: Tables,
        path: PathBuf,
        incarnation: u64,
        is_writable: bool,
    ) -> Self {
        let is_closing = Arc::default();
        Self { env, tables, path, map_bytes, incarnation, is_writable, number: 0, is_closing }
    }

    pub(super) fn failed(&self, doing: &'static str, error: heed::Error) -> DirectoryError {
        DirectoryError::lmdb(doing, &self.path, self.map_bytes, error)
    }

    /// Set when somebody waits for it to be closed: what takes long gives up.
    pub(super) fn closing_flag(&self) -> Arc<AtomicBool> {
        self.is_closing.clone()
    }

    /// Whether LMDB has given it up.
    pub(super) fn is_dead(&self) -> bool {
        matches!(self.env.read_txn(), Err(error) if is_panic(&error))
    }
}

/// Whether LMDB refuses because it has given the environment up.
pub(super) fn is_panic(error: &heed::Error) -> bool {
    matches!(error, heed::Error::Mdb(MdbError::Panic))
}

/// An environment in use by this thread, which is not closed as long as this lives.
pub(super) struct Held {
    opened: Arc<Opened>,
    /// It counts for this thread.
    _stays: PhantomData<*const ()>,
}

impl Held {
    fn new(opened: Arc<Opened>) -> Self {
        HELD.set(HELD.get() + 1);
        Self { opened, _stays: PhantomData }
    }

    /// For another thread, which begins no transaction but the one.
    pub(super) fn share(&self) -> Arc<Opened> {
        self.opened.clone()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
    }
}

impl Deref for Held {
    type Target = Opened;

    fn deref(&self) -> &Opened {
        &self.opened
    }
}

/// What all clones of a directory have of LMDB.
pub(super) struct Handle {
    path: PathBuf,
    options: Options,
    access: Access,
    /// `None`: it is being opened anew, by the thread at the gate; or could not be, and whoever wants it tries again.
    opened: RwLock<Option<Arc<Opened>>>,
    /// Held while the environment is exchanged.
    gate: Mutex<()>,
    /// Device and number of the file: another in its place is not the directory.
    file: (u64, u64),
    root_bytes: usize,
    /// The disk has the roots that the system's memory has.
    is_settled: AtomicBool,
    incarnation: u64,
    /// Environments so far.
    numbers: AtomicU64,
    /// Transactions that write, so far.
    writes: AtomicU64,
}

impl Handle {
    /// With its first environment.
    pub(super) fn new(opened: Opened, options: &Options, access: Access) -> Result<Self, DirectoryError> {
        let (path, incarnation) = (opened.path.clone(), opened.incarnation);
        let root_bytes = opened.env.stat().page_size as usize * ROOTS;
        let data = path.join(DATA_FILE);
        let found = fs::metadata(&data).map_err(|error| DirectoryError::io("open", &data, error))?;
        Ok(Self {
            path,
            options: options.clone(),
            access,
            opened: RwLock::new(Some(Arc::new(opened))),
            gate: Mutex::new(()),
            file: (found.dev(), found.ino()),
            root_bytes,
            is_settled: AtomicBool::new(true),
            incarnation,
            numbers: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        })
    }

    /// What it was opened with.
    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// How often the file was opened anew.
    pub(super) fn reopened(&self) -> u64 {
        self.numbers.load(Ordering::Relaxed)
    }

    /// How many transactions have written before this one.
    pub(super) fn next_write(&self) -> u64 {
        self.writes.fetch_add(1, Ordering::Relaxed)
    }

    /// The environment for a transaction that reads. Waits only while it is exchanged.
    pub(super) fn hold(&self) -> Result<Held, DirectoryError> {
        if let Some(opened) = self.present() {
            return Ok(Held::new(opened));
        }
        let gate = self.enter()?;
        if self.present().is_none() {
            self.open(&gate)?;
        }
        // Before the gate is open: the next exchange may be waiting there.
        let held = self.present().map(Held::new);
        drop(gate);
        held.ok_or_else(|| self.reopening())
    }

    /// The environment for a transaction that writes.
    ///
    /// # Errors
    /// The disk still takes no writes; it cannot be opened.
    pub(super) fn hold_to_write(&self) -> Result<Held, DirectoryError> {
        let held = self.hold()?;
        let is_ready = held.is_writable && self.is_settled.load(Ordering::Acquire);
        if self.access == Access::Beside || is_ready {
            return Ok(held);
        }
        let number = held.number;
        drop(held);
        let gate = self.enter()?;
        self.settle()?;
        if self.present().is_some_and(|opened| opened.number == number && !opened.is_writable) {
            self.close(&gate);
            self.open(&gate)?;
        }
        drop(gate);
        self.hold()
    }

    /// Exchanges an environment that is dead, unless somebody else has by now.
    ///
    /// # Errors
    /// It cannot be opened; this thread holds it otherwise, too.
    pub(super) fn revive(&self, dead: Held) -> Result<(), DirectoryError> {
        let number = dead.number;
        drop(dead);
        let gate = self.enter()?;
        if self.present().is_some_and(|opened| opened.number == number) {
            self.is_settled.store(false, Ordering::Release);
            self.close(&gate);
        }
        if self.present().is_none() { self.open(&gate) } else { Ok(()) }
    }

    fn present(&self) -> Option<Arc<Opened>> {
        self.opened.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits at the gate; not for itself.
    fn enter(&self) -> Result<MutexGuard<'_, ()>, DirectoryError> {
        if HELD.get() > 0 {
            return Err(self.reopening());
        }
        Ok(self.gate.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn reopening(&self) -> DirectoryError {
        DirectoryError::Reopening { path: self.path.clone() }
    }

    /// Closes the environment when nobody holds it any more.
    fn close(&self, _gate: &MutexGuard<'_, ()>) {
        let opened = self.opened.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(opened) = opened else { return };
        opened.is_closing.store(true, Ordering::Relaxed);
        let closed = opened.env.clone().prepare_for_closing();
        drop(opened);
        closed.wait();
    }

    /// Opens the file, which nobody has open; to be read, where it cannot be written.
    fn open(&self, _gate: &MutexGuard<'_, ()>) -> Result<(), DirectoryError> {
        self.refuse_another()?;
        let opened = env::open_again(&self.path, &self.options, true);
        let (opened, is_writable) = match opened {
            Ok(opened) => (opened, true),
            // What it says of writing is more to the point.
            Err(error) => (env::open_again(&self.path, &self.options, false).map_err(|_| error)?, false),
        };
        let (env, tables) = opened;
        let mut opened = Opened::first(env, tables, self.path.clone(), self.incarnation, is_writable);
        opened.number = self.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        *self.opened.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(opened));
        Ok(())
    }

    /// LMDB would make a file that is not there.
    fn refuse_another(&self) -> Result<(), DirectoryError> {
        let data = self.path.join(DATA_FILE);
        let found = fs::metadata(&data).map_err(|error| DirectoryError::io("open", &data, error))?;
        if (found.dev(), found.ino()) == self.file && found.len() > 0 {
            return Ok(());
        }
        let what = "another file has taken its place while the server ran".to_owned();
        Err(DirectoryError::DamagedFile { path: data, what })
    }

    /// Has the disk take the roots as the system's memory has them. Nobody writes meanwhile: all who would are at the gate, or
    /// have an environment that is dead.
    fn settle(&self) -> Result<(), DirectoryError> {
        if self.is_settled.load(Ordering::Acquire) {
            return Ok(());
        }
        self.refuse_another()?;
        let data = self.path.join(DATA_FILE);
        let settled = || -> io::Result<()> {
            let file = OpenOptions::new().read(true).write(true).open(&data)?;
            let mut roots = vec![0; self.root_bytes];
            file.read_exact_at(&mut roots, 0)?;
            file.write_all_at(&roots, 0)?;
            if self.options.durable { file.sync_data() } else { Ok(()) }
        };
        settled().map_err(|error| DirectoryError::io("write", &data, error))?;
        self.is_settled.store(true, Ordering::Release);
        Ok(())
    }
}
