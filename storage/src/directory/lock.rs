//! One process at a time: an exclusive lock on the directory's folder itself.
//!
//! LMDB itself would let several processes in. Whimbrel's tools go through the server's control socket while it
//! runs; two servers on one directory would each believe to know who is online. The lock is on the folder and not on a
//! file in it, because a file can be removed (by somebody who takes it for a stale one) and made anew, and a folder with
//! the data in it cannot. The system drops the lock when the process ends, however it ends, and when it becomes
//! another program, so nothing stale is left behind. The file tells the holder's number and nothing else.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::DirectoryError;

/// Name of the file that tells who holds the lock.
pub(super) const LOCK_FILE: &str = "whimbrel.lock";

/// How long a lock that is held is waited for. A process that has just ended may be a moment from letting go, and a
/// child that its owner starts holds it from the fork to the exec.
const PATIENCE: Duration = Duration::from_millis(500);

/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// Takes the lock and writes this process's number into the file. The lock is held as long as the result, the folder,
/// is open.
///
/// # Errors
/// [`DirectoryError::Locked`] with the number found in the file; the file cannot be made.
pub(super) fn take(folder: &Path) -> Result<File, DirectoryError> {
    let path = folder.join(LOCK_FILE);
    let failed = |doing| {
        let path = path.clone();
        move |error| DirectoryError::io(doing, &path, error)
    };
    let lock = File::open(folder).map_err(|error| DirectoryError::io("open", folder, error))?;
    let deadline = Instant::now() + PATIENCE;
    let locked = loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            outcome => break outcome,
        }
    };
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // The holder may not have written its number yet; the error is as true without.
            let _ = File::open(&path).map(|file| file.take(32).read_to_string(&mut text));
            return Err(DirectoryError::Locked { path: folder.to_owned(), pid: text.trim().parse().ok() });
        }
        Err(TryLockError::Error(error)) => return Err(DirectoryError::io("lock", folder, error)),
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&path).map_err(failed("open"))?;
    writeln!(file, "{}", std::process::id()).map_err(failed("write"))?;
    Ok(lock)
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

/// Makes every further write to a descriptor fail; one that is under way is finished. For a writer that nothing else stops.
pub(super) fn refuse_writes(descriptor: RawFd) -> std::io::Result<()> {
    let nothing = File::open("/dev/null")?;
    // SAFETY: takes numbers. The caller has it that the descriptor is open, so it stands for a file that can only be read now.
    match unsafe { libc::dup2(nothing.as_raw_fd(), descriptor) } {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}
