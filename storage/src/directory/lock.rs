//! One process at a time: an exclusive lock on a file in the directory's folder.
//!
//! LMDB itself would let several processes in. Whimbrel's tools go through the server's control socket while it
//! runs; two servers on one directory would each believe to know who is online. The system drops the lock when
//! the process ends, however it ends, and when it becomes another program, so nothing stale is left behind.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::DirectoryError;

/// Name of the lock file.
pub(super) const LOCK_FILE: &str = "whimbrel.lock";

/// How long a lock that is held is waited for. A process that has just ended may be a moment from letting go, and a
/// child that its owner starts holds it from the fork to the exec.
const PATIENCE: Duration = Duration::from_millis(500);

/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// Takes the lock and writes this process's number into the file. The lock is held as long as the file is open.
///
/// # Errors
/// [`DirectoryError::Locked`] with the number found in the file; the file cannot be made.
pub(super) fn take(folder: &Path) -> Result<File, DirectoryError> {
    let path = folder.join(LOCK_FILE);
    let failed = |doing| {
        let path = path.clone();
        move |error| DirectoryError::io(doing, &path, error)
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed("open"))?;
    let deadline = Instant::now() + PATIENCE;
    let locked = loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            outcome => break outcome,
        }
    };
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // Whoever holds it may not have written its number yet; the error is as true without.
            let _ = Read::by_ref(&mut file).take(32).read_to_string(&mut text);
            return Err(DirectoryError::Locked { path: folder.to_owned(), pid: text.trim().parse().ok() });
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock")(error)),
    }
    file.set_len(0).map_err(failed("write"))?;
    file.rewind().map_err(failed("write"))?;
    writeln!(file, "{}", std::process::id()).map_err(failed("write"))?;
    Ok(file)
}

/// Marks every descriptor below `most` that is of the same file as this one to be closed by an exec.
pub(super) fn close_on_exec(file: &File, most: RawFd) -> std::io::Result<()> {
    let own = file.metadata()?;
    for descriptor in 3..most {
        // SAFETY: takes numbers; a number that is no descriptor is an error.
        let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFD) };
        if flags == -1 || flags & libc::FD_CLOEXEC != 0 {
            continue;
        }
        // SAFETY: it is open, as was just seen, and is not closed by this value, which is never dropped.
        let other = ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor) });
        let Ok(found) = other.metadata() else { continue };
        if (found.dev(), found.ino()) == (own.dev(), own.ino()) {
            // SAFETY: takes numbers.
            unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}
