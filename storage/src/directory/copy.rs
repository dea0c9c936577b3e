//! Copies for backups.
//!
//! ```text
//! LMDB's thread: pages of one state ──▶ pipe ──▶ here: paced ──▶ file
//! ```
//!
//! A copy holds the environment for as long as it takes, which may be hours, and an environment that the disk has failed must
//! be closed at once (`handle`). So what LMDB writes goes through a pipe, and the pipe is cut when that happens.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use heed::{CompactionOption, RwTxn};

use super::error::DirectoryError;
use super::handle::Opened;
use super::{Directory, env, lock};
use crate::pace::Pace;

/// Bytes that are written at once.
const PIECE: usize = 64 << 10;

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
        let copied = pump(&held, &file, pace, quiet);
        if held.is_closing() {
            return Err(DirectoryError::Reopening { path: self.0.path.clone() }.into());
        }
        match copied {
            Ok(copied) => file.sync_all().map(|()| (value, copied)).map_err(|error| failed(error).into()),
            Err(heed::Error::Io(error)) => Err(failed(error).into()),
            Err(error) => Err(DirectoryError::lmdb("copy", path, held.map_bytes, error).into()),
        }
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

/// Copies from LMDB to the file. `quiet` keeps commits away until LMDB has taken hold of the state.
fn pump(
    opened: &Opened,
    file: &File,
    pace: &mut Pace,
    quiet: Option<RwTxn<'_>>,
) -> Result<CopiedFile, heed::Error> {
    let (mut source, sink) = io::pipe()?;
    let mut sink = File::from(OwnedFd::from(sink));
    let valve = Valve(Mutex::new(Some(sink.as_raw_fd())));
    let valve = &valve;
    thread::scope(|scope| {
        let copying = scope.spawn(move || {
            let copied = opened.env.copy_to_file(&mut sink, CompactionOption::Enabled);
            let mut descriptor = valve.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Both under the lock: the number may stand for another file as soon as it is closed.
            *descriptor = None;
            drop(sink);
            copied
        });
        let written = write_pieces(&mut source, file, pace, quiet, &|| opened.is_closing());
        if written.is_err() {
            // What LMDB still writes is for nobody.
            valve.close()?;
            io::copy(&mut source, &mut io::sink())?;
        }
        let copied =
            copying.join().unwrap_or_else(|_| Err(io::Error::other("LMDB's thread has panicked").into()));
        let written = written?;
        copied.map(|()| written)
    })
}

/// Until there is no more.
fn write_pieces(
    source: &mut impl Read,
    mut file: &File,
    pace: &mut Pace,
    mut quiet: Option<RwTxn<'_>>,
    is_over: &dyn Fn() -> bool,
) -> io::Result<CopiedFile> {
    let mut piece = vec![0; PIECE];
    let mut copied = CopiedFile::default();
    loop {
        let read = source.read(&mut piece)?;
        // It writes nothing before it has begun to read.
        quiet.take();
        if read == 0 {
            return Ok(copied);
        }
        if is_over() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        file.write_all(&piece[..read])?;
        copied.bytes += read as u64;
        copied.checksum = crc32c::crc32c_append(copied.checksum, &piece[..read]);
        pace.wrote(read, is_over);
    }
}
