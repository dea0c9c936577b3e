//! A segment's memory map, and the space behind it: the log's only place with `unsafe`.
//!
//! A [`Map`] belongs to one thread, which reads through `&self` and writes through `&mut self`. The other handle of
//! the same memory, [`Flusher`], can have it written to the disk but shows none of its bytes.
//!
//! Two things no program can prevent: whoever truncates the file under a running server makes it die by SIGBUS, and so
//! does a disk that cannot read a page back. The first is why a segment's space is allocated before it is mapped and why
//! it is never shortened.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw};

/// What stands in for the disk in simulations.
pub(crate) trait Disk: Send + Sync {
    /// Bytes that are to survive a power cut from now on.
    fn sync(&self, offset: usize, bytes: &[u8]) -> io::Result<()>;
    /// Bytes were written to the memory.
    #[cfg(test)]
    fn touch(&self, range: Range<usize>);
    /// The memory is about to go; the system keeps its bytes for the next who maps the file.
    fn unmap(&self, bytes: &[u8]);
}

struct Inner {
    raw: MmapRaw,
    disk: Option<Box<dyn Disk>>,
}

impl Inner {
    fn all(&self) -> &[u8] {
        // SAFETY: pointer and length are those of one live mapping. It is called for a simulated disk only, where all
        // runs on one thread and the `Map` is not in use at the same time.
        unsafe { std::slice::from_raw_parts(self.raw.as_ptr(), self.raw.len()) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(disk) = &self.disk {
            disk.unmap(self.all());
        }
    }
}

/// Memory that is a file.
pub(crate) struct Map(Arc<Inner>);

impl Map {
    /// Maps a whole file for reading and writing. It must be as long as it will ever be, and allocated.
    pub(crate) fn writable(file: &File) -> io::Result<Self> {
        Ok(Self(Arc::new(Inner { raw: MmapOptions::new().map_raw(file)?, disk: None })))
    }

    /// Maps a whole file for reading. [`Map::write`] must not be called.
    pub(crate) fn read_only(file: &File) -> io::Result<Self> {
        Ok(Self(Arc::new(Inner { raw: MmapOptions::new().map_raw_read_only(file)?, disk: None })))
    }

    /// Memory with a simulated disk behind it.
    #[cfg(test)]
    pub(crate) fn simulated(content: &[u8], disk: Box<dyn Disk>) -> io::Result<Self> {
        let mut memory = MmapOptions::new().len(content.len()).map_anon()?;
        memory.copy_from_slice(content);
        Ok(Self(Arc::new(Inner { raw: MmapRaw::from(memory), disk: Some(disk) })))
    }

    /// Finds the memory again while somebody has it mapped, as two maps of one file are the same memory.
    #[cfg(test)]
    pub(crate) fn remember(&self) -> Remembered {
        Remembered(Arc::downgrade(&self.0))
    }

    /// Its length.
    pub(crate) fn len(&self) -> usize {
        self.0.raw.len()
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: pointer and length are those of one live mapping, which lives as long as `self`. In this process it is
        // written through `&mut self` alone, so not while the slice lives. Other processes do not write: the folder is
        // locked. Readers of a live log in another process check every record's checksum and copy what they report.
        unsafe { std::slice::from_raw_parts(self.0.raw.as_ptr(), self.0.raw.len()) }
    }

    /// Writes into it. Panics when the bytes do not fit: the caller has checked.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset.checked_add(bytes.len());
        assert!(end.is_some_and(|end| end <= self.0.raw.len()), "a write within the segment");
        // SAFETY: the range was just checked to lie in the mapping; `bytes` is a slice of other memory, because nobody
        // can have one of this map while we have it mutably; the map is a writable one (see `read_only`).
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.raw.as_mut_ptr().add(offset), bytes.len());
        }
        #[cfg(test)]
        if let Some(disk) = &self.0.disk {
            disk.touch(offset..offset + bytes.len());
        }
    }

    /// Says that it is touched here and there from here on, or written to, a page after the other. The first touch of a page then
    /// brings in that page. Otherwise the system reads ahead, and of space that nobody has written yet that is zeros: with the
    /// 8 MiB that some machines have as their read-ahead, whoever appends stood still for 20 milliseconds.
    pub(crate) fn expect_touches(&self) {
        self.advise(Advice::Random);
    }

    /// Says that it is read from here on, as a rule in order.
    pub(crate) fn expect_reads(&self) {
        self.advise(Advice::Normal);
    }

    fn advise(&self, advice: Advice) {
        // It is advice: a system that does not take it does the same, slower.
        let _ = self.0.raw.advise(advice);
    }

    /// The handle that has it written to the disk.
    pub(crate) fn flusher(&self) -> Flusher {
        Flusher(self.0.clone())
    }
}

/// See [`Map::remember`].
#[cfg(test)]
pub(crate) struct Remembered(std::sync::Weak<Inner>);

#[cfg(test)]
impl Remembered {
    /// The memory, if it is still mapped. The simulation runs on one thread and uses one of its maps at a time.
    pub(crate) fn map(&self) -> Option<Map> {
        self.0.upgrade().map(Map)
    }
}

/// Has a map's bytes written to the disk, from any thread.
#[derive(Clone)]
pub(crate) struct Flusher(Arc<Inner>);

impl Flusher {
    /// Waits until the pages that hold these bytes, as they are now, are on the disk.
    pub(crate) fn sync(&self, range: Range<usize>) -> io::Result<()> {
        match &self.0.disk {
            None => self.0.raw.flush_range(range.start, range.len()),
            Some(disk) => {
                let page = super::super::options::PAGE_BYTES as usize;
                let from = range.start / page * page;
                let to = range.end.next_multiple_of(page).min(self.0.raw.len());
                disk.sync(from, &self.0.all()[from..to])
            }
        }
    }
}

/// Sets a file's times to now, which a file system that has become read-only refuses.
pub(crate) fn touch(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends with NUL and lives through the call; null stands for the present time.
    match unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), std::ptr::null(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Reserves a file's space, up to a length that the file has afterwards. `false`: this file system cannot.
pub(crate) fn reserve(file: &File, bytes: u64) -> io::Result<bool> {
    let Ok(length) = libc::off_t::try_from(bytes) else { return Err(io::ErrorKind::FileTooLarge.into()) };
    // SAFETY: a system call on a descriptor that is open as long as `file` is borrowed; it takes numbers only.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
        0 => Ok(true),
        libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS => Ok(false),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
