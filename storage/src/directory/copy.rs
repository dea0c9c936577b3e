//! Copies for backups.
//!
//! ```text
//! LMDB's thread: pages of one state ──▶ pipe ──▶ its own thread ──▶ a few pieces ──▶ here: paced ──▶ file
//! ```
//!
//! A copy holds the environment for as long as it takes, which may be hours, and an environment that the disk has failed must
//! be closed at once (`handle`). So what LMDB writes goes through a pipe, and the pipe is cut when that happens.

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, SendTimeoutError, Sender, bounded};
use heed::CompactionOption;

use super::error::DirectoryError;
use super::handle::Opened;
use super::{Directory, env, lock};
use crate::pace::Pace;

/// Bytes that are written at once.
const PIECE: usize = 64 << 10;
/// Pieces that may wait to be written.
const PIECES: usize = 16;
/// How often one who waits for them looks whether the environment is to be closed.
const LOOK: Duration = Duration::from_millis(50);

/// What was copied.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct CopiedFile {
    /// Length of the file.
    pub(crate) bytes: u64,
    /// CRC-32C of it.
    pub(crate) checksum: u32,
}

impl Directory {
    /// Writes a compact copy of the directory's present state into a folder, which can then be opened as a directory.
    /// The folder is made (mode 0700) or must be empty. Takes as long as writing the data does; readers and the
    /// writer go on meanwhile, but pages they free are not used again before it is done, so the file may grow.
    ///
    /// # Errors
    /// The folder is not empty or cannot be written; then no half copy is left in it. [`DirectoryError::Reopening`]: the
    /// disk has failed meanwhile, and the copy may be begun anew.
    pub fn copy_to(&self, path: &Path) -> Result<(), DirectoryError> {
        self.copy_at(path, &mut Pace::new(None), || Ok(())).map(|_| ())
    }

    /// As [`Directory::copy_to`], so fast. `cut` is called while nothing can be committed, and what is copied is the state of
    /// that moment: what `cut` finds elsewhere fits it. It must not read the directory. Returns what it returns, and what the
    /// file is.
    ///
    /// # Errors
    /// As [`Directory::copy_to`]; what `cut` returns.
    pub(crate) fn copy_at<T, E: From<DirectoryError>>(
        &self,
        path: &Path,
        pace: &mut Pace,
        cut: impl FnOnce() -> Result<T, E>,
    ) -> Result<(T, CopiedFile), E> {
        env::make_folder(path)?;
        let failed = |error| DirectoryError::io("write", path, error);
        if fs::read_dir(path).map_err(failed)?.next().is_some() {
            return Err(failed(io::Error::from(io::ErrorKind::DirectoryNotEmpty)).into());
        }
        // Under another name until it is whole and on disk.
        let unfinished = path.join("data.mdb.unfinished");
        let copied = self.copy_file(&unfinished, pace, cut).and_then(|value| {
            fs::rename(&unfinished, path.join(env::DATA_FILE))
                .and_then(|()| File::open(path)?.sync_all())
                .map_err(failed)?;
            Ok(value)
        });
        if copied.is_err() {
            // The reason for the failure says more than that of a failure to clean up.
            let _ = fs::remove_file(&unfinished);
        }
        copied
    }

    fn copy_file<T, E: From<DirectoryError>>(
        &self,
        path: &Path,
        pace: &mut Pace,
        cut: impl FnOnce() -> Result<T, E>,
    ) -> Result<(T, CopiedFile), E> {
        let failed = |error| DirectoryError::io("write", path, error);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let mut held = self.0.handle.hold()?;
        if held.is_dead() {
            self.0.handle.revive(held)?;
            held = self.0.handle.hold()?;
        }
        // Without one to be written to, nothing is committed anyway.
        let quiet = match held.is_writable {
            true => Some(held.env.write_txn().map_err(|error| held.failed("begin a transaction", error))?),
            false => None,
        };
        let value = cut()?;
        let copying = Copying::begin(held.share()).map_err(failed)?;
        // It writes nothing before it has taken hold of the state.
        let first = copying.pieces.recv();
        drop(quiet);
        let map_bytes = held.map_bytes;
        drop(held);
        let copied = copying.write_to(first.ok(), file, pace);
        copied.map(|copied| (value, copied)).map_err(|error| {
            match error {
                // Nobody else interrupts it.
                heed::Error::Io(error) if error.kind() == io::ErrorKind::Interrupted => {
                    DirectoryError::Reopening { path: self.0.path.clone() }
                }
                heed::Error::Io(error) => failed(error),
                error => DirectoryError::lmdb("copy", path, map_bytes, error),
            }
            .into()
        })
    }
}

/// A copy that LMDB is making. Its thread alone holds the environment, and the next one alone can keep it waiting, which it does
/// not do when the environment is to be closed: the disk that is copied to may take as long as it likes.
struct Copying {
    pieces: Receiver<Vec<u8>>,
    is_closing: Arc<AtomicBool>,
    lmdb: JoinHandle<Result<(), heed::Error>>,
    drain: JoinHandle<io::Result<()>>,
}

impl Copying {
    fn begin(opened: Arc<Opened>) -> io::Result<Self> {
        let (source, sink) = io::pipe()?;
        let mut sink = File::from(OwnedFd::from(sink));
        let valve = Arc::new(Valve(Mutex::new(Some(sink.as_raw_fd()))));
        let is_closing = opened.closing_flag();
        let (to, pieces) = bounded(PIECES);
        let (own, flag) = (valve.clone(), is_closing.clone());
        let drain = thread::Builder::new().name("backup-pipe".into());
        let drain = drain.spawn(move || drain_to(source, &to, &own, &flag))?;
        let lmdb = thread::Builder::new().name("backup-lmdb".into());
        let lmdb = lmdb.spawn(move || {
            let copied = opened.env.copy_to_file(&mut sink, CompactionOption::Enabled);
            drop(opened);
            let mut descriptor = valve.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Both under the lock: the number may stand for another file as soon as it is closed.
            *descriptor = None;
            drop(sink);
            copied
        })?;
        Ok(Self { pieces, is_closing, lmdb, drain })
    }

    /// Writes all of it.
    fn write_to(
        self,
        first: Option<Vec<u8>>,
        mut file: File,
        pace: &mut Pace,
    ) -> Result<CopiedFile, heed::Error> {
        let Self { pieces, is_closing, lmdb, drain } = self;
        let is_over = || is_closing.load(Ordering::Relaxed);
        let mut copied = CopiedFile::default();
        let written = first.into_iter().chain(pieces.iter()).try_for_each(|piece| {
            file.write_all(&piece)?;
            copied.bytes += piece.len() as u64;
            copied.checksum = crc32c::crc32c_append(copied.checksum, &piece);
            pace.wrote(piece.len(), &is_over);
            io::Result::Ok(())
        });
        // What still comes is for nobody.
        drop(pieces);
        let panicked = || io::Error::other("a thread of the copy has panicked");
        let drained = drain.join().unwrap_or_else(|_| Err(panicked()));
        let made = lmdb.join().unwrap_or_else(|_| Err(panicked().into()));
        written?;
        drained?;
        made?;
        file.sync_all()?;
        Ok(copied)
    }
}

/// The end of the pipe that LMDB writes to: its descriptor, until it has been closed.
struct Valve(Mutex<Option<RawFd>>);

impl Valve {
    /// LMDB's next write fails.
    fn close(&self) -> io::Result<()> {
        let descriptor = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        descriptor.map_or(Ok(()), lock::refuse_writes)
    }
}

/// Passes on what LMDB writes, as long as somebody takes it and the environment is not to be closed.
fn drain_to(
    mut source: PipeReader,
    to: &Sender<Vec<u8>>,
    valve: &Valve,
    is_closing: &AtomicBool,
) -> io::Result<()> {
    loop {
        let mut piece = vec![0; PIECE];
        let read = source.read(&mut piece)?;
        if read == 0 {
            return Ok(());
        }
        piece.truncate(read);
        let mut unsent = Some(piece);
        while let Some(piece) = unsent.take() {
            let is_over = is_closing.load(Ordering::Relaxed);
            match to.send_timeout(piece, LOOK) {
                Ok(()) if !is_over => {}
                Err(SendTimeoutError::Timeout(piece)) if !is_over => unsent = Some(piece),
                _ => {
                    valve.close()?;
                    io::copy(&mut source, &mut io::sink())?;
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
        }
    }
}
