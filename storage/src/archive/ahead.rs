//! What plain reads of files do not say to the system: parts that are about to be read, so that the disk brings them at the same time
//! and not one after the other; and reads of what is in its memory alone, for those that may not wait for a disk.

use std::fs::File;
use std::os::fd::AsRawFd as _;

/// Has the system begin to fetch bytes of a file. Nothing waits for them, and a system that does not take the hint fetches them
/// when they are read.
pub(super) fn will_need(file: &File, from: u64, bytes: u64) {
    let (Ok(from), Ok(bytes)) = (libc::off_t::try_from(from), libc::off_t::try_from(bytes)) else { return };
    // SAFETY: takes numbers, and the descriptor is open during the call.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), from, bytes, libc::POSIX_FADV_WILLNEED) };
}

/// Says that parts of a file are read here and there, each as long as it is asked for. Otherwise the system takes pages that follow one
/// another for a file that is read to its end, and reads ahead what is others': 8 MiB at a time on some machines.
pub(super) fn expect_parts(file: &File) {
    // It is advice: a system that does not take it does the same, slower.
    // SAFETY: takes numbers, and the descriptor is open during the call.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) };
}

/// Whether the system can be asked for what is in its memory alone.
pub(super) const KNOWS_MEMORY: bool = cfg!(all(target_os = "linux", target_env = "gnu"));

/// Reads bytes of a file if the system has all of them in memory. Never waits for a disk: `false`, and anything in `to`, for what is
/// not there, or cannot be read so; what prevents it is told by a read that may wait.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn read_from_memory(file: &File, from: u64, to: &mut [u8]) -> bool {
    let Ok(from) = libc::off_t::try_from(from) else { return false };
    let part = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: to.len() };
    // SAFETY: the one part is `to`, which is borrowed for the call, and the descriptor is open during it.
    let read = unsafe { libc::preadv2(file.as_raw_fd(), &raw const part, 1, from, libc::RWF_NOWAIT) };
    usize::try_from(read) == Ok(to.len())
}

/// No such reads here.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn read_from_memory(_file: &File, _from: u64, _to: &mut [u8]) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_was_just_written_is_read_and_nothing_behind_the_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let mut to = [0; 4];
        assert_eq!(read_from_memory(&file, 3, &mut to), KNOWS_MEMORY);
        if KNOWS_MEMORY {
            assert_eq!(&to, b"3456");
        }
        assert!(!read_from_memory(&file, 7, &mut to), "its end is not there");
    }

    #[test]
    fn what_the_system_has_dropped_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content = vec![7; 1 << 20];
        std::fs::write(&path, &content).unwrap();
        let file = File::open(&path).unwrap();
        file.sync_all().unwrap();
        // SAFETY: takes numbers, and the descriptor is open during the call.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        let mut to = vec![0; content.len()];
        let is_there = read_from_memory(&file, 0, &mut to);
        // A file system in memory drops nothing.
        assert!(!is_there || to == content);
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut to, 0).unwrap();
        assert_eq!(read_from_memory(&file, 0, &mut to), KNOWS_MEMORY);
    }
}
