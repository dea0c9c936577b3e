//! Making a stats file, and its blocks as Rust values.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use memmap2::{MmapOptions, MmapRaw};

use crate::FILE_NAME;
use crate::describe::Description;
use crate::header::{self, LINE, Plan};

/// A struct that is made of cells and histograms and of nothing else. [`metrics!`](crate::metrics) declares one.
///
/// # Safety
/// The type is `repr(C, align(128))`; its fields are [`Cell`](crate::Cell)s and [`Histogram`](crate::Histogram)s in
/// the order and of the kinds of `DESCRIPTIONS`; all of its words may be zero; it has no `Drop`.
pub unsafe trait Block: Send + Sync + 'static {
    /// What each field is, in their order.
    const DESCRIPTIONS: &'static [Description];
}

/// The blocks of one group. Clones are views of the same memory.
pub struct Blocks<T: Block> {
    map: Arc<MmapRaw>,
    offset: usize,
    count: usize,
    blocks: PhantomData<fn() -> T>,
}

impl<T: Block> Clone for Blocks<T> {
    fn clone(&self) -> Self {
        Self { map: self.map.clone(), offset: self.offset, count: self.count, blocks: PhantomData }
    }
}

impl<T: Block> Deref for Blocks<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: `Builder` has laid `count` blocks of T's size and alignment here, inside a map that lives as long
        // as `self`. T is made of atomics, for which any bytes are a value (`Block`), and is only ever shared.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.offset).cast(), self.count) }
    }
}

impl<T: Block + std::fmt::Debug> std::fmt::Debug for Blocks<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Puts a stats file together.
///
/// ```
/// whimbrel_stats::metrics! {
///     /// What a mill counts.
///     Mill { turns "turns" Counter "turns" "Turns of the wheel."; }
/// }
/// let mut builder = whimbrel_stats::Builder::default();
/// builder.group::<Mill>("mill", "mill", 2);
/// let built = builder.in_memory()?;
/// let mills = built.blocks::<Mill>(0);
/// mills[1].turns.add(3);
/// assert_eq!(mills[1].turns.get(), 3);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Default)]
pub struct Builder {
    groups: Vec<Plan>,
}

/// A stats file, or the same in memory alone.
pub struct Built {
    map: Arc<MmapRaw>,
    groups: Vec<Plan>,
}

impl Builder {
    /// Adds a group of `instances` blocks; `label` is what tells them apart (`worker`), and is empty for a group
    /// of one.
    pub fn group<T: Block>(&mut self, name: &'static str, label: &'static str, instances: usize) {
        self.groups.push(Plan::of::<T>(name, label, instances));
    }

    /// Makes `DATA/stats` anew: under another name first, so that no reader ever sees half a file.
    ///
    /// # Errors
    /// The system's reason. The disk is full, for one: space is reserved before it is mapped, since a store into a
    /// page that the disk has no room for would end the process.
    pub fn in_file(mut self, data: &Path) -> io::Result<Built> {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
        let (header, length) = header::lay_out(&mut self.groups, started, std::process::id());
        let path = data.join(FILE_NAME);
        let draft = data.join(format!("{FILE_NAME}.new"));
        // One that a crash has left is nobody's any more. `create_new` follows no link.
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o640).open(&draft)?;
        let map: io::Result<MmapRaw> = (|| {
            file.write_all(&header)?;
            reserve(&file, length)?;
            let map = MmapOptions::new().len(length).map_raw(&file)?;
            std::fs::rename(&draft, &path)?;
            Ok(map)
        })();
        if map.is_err() {
            // The first error is the one to tell.
            let _ = std::fs::remove_file(&draft);
        }
        Ok(Built { map: Arc::new(map?), groups: self.groups })
    }

    /// The same in memory, for which there are no readers.
    ///
    /// # Errors
    /// There is no memory.
    pub fn in_memory(mut self) -> io::Result<Built> {
        let (_, length) = header::lay_out(&mut self.groups, 0, 0);
        let map = MmapOptions::new().len(length).map_anon()?;
        Ok(Built { map: Arc::new(map.into()), groups: self.groups })
    }
}

impl Built {
    /// The blocks of the group that was added as number `group`.
    ///
    /// # Panics
    /// If that group was added with another type.
    pub fn blocks<T: Block>(&self, group: usize) -> Blocks<T> {
        let plan = &self.groups[group];
        assert!(plan.is_of::<T>(), "group {} has blocks of another type", plan.name);
        debug_assert!(plan.offset.is_multiple_of(LINE));
        Blocks { map: self.map.clone(), offset: plan.offset, count: plan.instances, blocks: PhantomData }
    }
}

/// Gives the file its length, with space on the disk.
fn reserve(file: &File, length: usize) -> io::Result<()> {
    file.set_len(length as u64)?;
    let length = libc::off_t::try_from(length).expect("the layout bounds it");
    // SAFETY: the descriptor is open, and the call touches no memory of ours.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
        // ZFS cannot reserve; there, a full disk shows when pages are written back, not as a signal.
        0 | libc::EINVAL | libc::EOPNOTSUPP => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}
