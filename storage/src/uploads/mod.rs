//! The files that accounts have uploaded, beside the directory that says whose they are.
//!
//! ```text
//! DATA/uploads/
//!   incoming/ID    comes just now; what is here at a start was interrupted, and is removed
//!   00/ID … ff/ID  whole and on the disk
//!   objects        where files are that are not here: in an object store
//! ```
//! A file gets its name in one step, when all of it is on the disk, and is never written to again. So there is no half one under
//! a name, whenever the process or the machine ends.

mod objects;
#[expect(unsafe_code, reason = "a system call")]
mod space;

pub(crate) use objects::Listed;
pub(crate) use space::free_bytes;

pub use objects::ObjectPlace;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::directory::{Upload, UploadId};

/// Folder of the files in a data directory.
pub const UPLOADS: &str = "uploads";
const INCOMING: &str = "incoming";

/// Where files of uploads are.
#[derive(Clone, Debug)]
pub struct UploadFiles {
    folder: PathBuf,
}

impl UploadFiles {
    /// Those of a data directory. Nothing is made or looked at.
    #[must_use]
    pub fn of(data: &Path) -> Self {
        Self { folder: data.join(UPLOADS) }
    }

    /// Makes the folders that are missing, and removes files that were interrupted. Returns how many.
    ///
    /// # Errors
    /// The system's reason.
    pub fn prepare(&self) -> io::Result<u64> {
        let incoming = self.folder.join(INCOMING);
        DirBuilder::new().recursive(true).mode(0o700).create(&incoming)?;
        let mut removed = 0;
        for entry in fs::read_dir(&incoming)? {
            fs::remove_file(entry?.path())?;
            removed += 1;
        }
        for spread in 0..=u8::MAX {
            match DirBuilder::new().mode(0o700).create(self.folder_of(spread)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        sync_folder(&self.folder)?;
        Ok(removed)
    }

    fn folder_of(&self, spread: u8) -> PathBuf {
        self.folder.join(format!("{spread:02x}"))
    }

    /// Where the file of an upload is.
    #[must_use]
    pub fn path(&self, id: &UploadId) -> PathBuf {
        self.folder_of(id.spread()).join(id.to_string())
    }

    /// Begins a file. What came of it before is thrown away; there is one at a time of an id.
    ///
    /// # Errors
    /// The system's reason.
    pub fn begin(&self, id: &UploadId) -> io::Result<IncomingFile> {
        let path = self.folder.join(INCOMING).join(id.to_string());
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        Ok(IncomingFile { file, checksum: 0, bytes: 0, path, name: self.path(id), is_named: false })
    }

    /// Opens a file.
    ///
    /// # Errors
    /// The system's reason; `NotFound`.
    pub fn open(&self, id: &UploadId) -> io::Result<File> {
        File::open(self.path(id))
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// The system's reason.
    pub fn remove(&self, id: &UploadId) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The files in one of the 256 folders.
    ///
    /// # Errors
    /// The system's reason.
    pub fn ids(&self, spread: u8) -> io::Result<Vec<UploadId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(self.folder_of(spread))? {
            ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<UploadId>().ok()));
        }
        Ok(ids)
    }

    /// Bytes that the file system has left for a process that is not root's.
    ///
    /// # Errors
    /// The system's reason.
    pub fn free_bytes(&self) -> io::Result<u64> {
        free_bytes(&self.folder)
    }
}

/// A file that comes. When this is dropped before it has its name, it is gone.
#[derive(Debug)]
pub struct IncomingFile {
    file: File,
    checksum: u32,
    bytes: u64,
    path: PathBuf,
    name: PathBuf,
    is_named: bool,
}

impl IncomingFile {
    /// Appends bytes.
    ///
    /// # Errors
    /// The system's reason, for example that the disk is full.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.checksum = crc32c::crc32c_append(self.checksum, bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Bytes so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All of it is here: puts it on the disk under its name. Returns its CRC-32C.
    ///
    /// # Errors
    /// The system's reason; then it is gone.
    pub fn finish(mut self) -> io::Result<u32> {
        self.file.sync_all()?;
        fs::rename(&self.path, &self.name)?;
        self.is_named = true;
        sync_folder(self.name.parent().expect("a file lies in a folder"))?;
        Ok(self.checksum)
    }
}

impl Drop for IncomingFile {
    fn drop(&mut self) {
        if !self.is_named {
            // One that stays is removed at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Copies all files of a data directory into a copy of it, except those that an earlier copy has: these become links to its
/// files. Nothing may be removed from the data directory meanwhile. Returns files and bytes that were copied, and that were linked.
///
/// # Errors
/// What cannot be read or written, and where.
pub(crate) fn copy(
    data: &Path,
    to: &Path,
    earlier: Option<&Path>,
    pace: &mut crate::pace::Pace,
) -> io::Result<CopiedUploads> {
    let (from, to) = (UploadFiles::of(data), UploadFiles::of(to));
    let mut copied = CopiedUploads::default();
    if !from.folder.exists() {
        return Ok(copied);
    }
    let earlier = earlier.map(UploadFiles::of);
    DirBuilder::new().mode(0o700).create(&to.folder)?;
    for spread in 0..=u8::MAX {
        let ids = match from.ids(spread) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            ids => ids?,
        };
        if ids.is_empty() {
            continue;
        }
        DirBuilder::new().mode(0o700).create(to.folder_of(spread))?;
        for id in &ids {
            let (source, target) = (from.path(id), to.path(id));
            let bytes = fs::metadata(&source)?.len();
            let has = |file: &PathBuf| fs::metadata(file).is_ok_and(|found| found.len() == bytes);
            let before = earlier.as_ref().map(|earlier| earlier.path(id)).filter(has);
            if before.is_some_and(|before| fs::hard_link(before, &target).is_ok()) {
                copied.linked += 1;
                copied.linked_bytes += bytes;
                continue;
            }
            copy_file(&source, &target, pace)?;
            copied.files += 1;
            copied.bytes += bytes;
        }
        sync_folder(&to.folder_of(spread))?;
    }
    sync_folder(&to.folder)?;
    Ok(copied)
}

/// What [`copy`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopiedUploads {
    /// Files that were copied.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Files that are those of an earlier copy.
    pub linked: u64,
    /// Bytes of them.
    pub linked_bytes: u64,
    /// Files that are in an object store, and are listed.
    pub objects: u64,
    /// Bytes of them.
    pub objects_bytes: u64,
}

/// Bytes that are copied at a time.
const PIECE: usize = 256 << 10;

/// Lists the files of a copy, of which `uploads` tells page by page, that are not in it because they are in an object store. Nothing
/// is done where the data directory has never had its files in one.
///
/// # Errors
/// What cannot be read or written; that of `uploads`.
pub(crate) fn list_objects<E: From<io::Error>>(
    data: &Path,
    to: &Path,
    copied: &mut CopiedUploads,
    mut uploads: impl FnMut(Option<&UploadId>) -> Result<Vec<Upload>, E>,
) -> Result<(), E> {
    let Some(place) = UploadFiles::of(data).place()? else { return Ok(()) };
    let to = UploadFiles::of(to);
    DirBuilder::new().recursive(true).mode(0o700).create(&to.folder)?;
    let (mut list, mut after) = (objects::Text::list(&to, &place)?, None);
    loop {
        let page = uploads(after.as_ref())?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for upload in &page {
            if !to.path(&upload.id).exists() {
                list.object(upload)?;
                copied.objects += 1;
                copied.objects_bytes += upload.bytes;
            }
        }
    }
    list.end()?;
    sync_folder(&to.folder)?;
    Ok(())
}

fn copy_file(from: &Path, to: &Path, pace: &mut crate::pace::Pace) -> io::Result<()> {
    let mut from = File::open(from)?;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let mut piece = vec![0; PIECE];
    loop {
        let count = io::Read::read(&mut from, &mut piece)?;
        if count == 0 {
            return to.sync_all();
        }
        to.write_all(&piece[..count])?;
        pace.wrote(count, &|| false);
    }
}

/// Length and CRC-32C of the file of an upload.
///
/// # Errors
/// The system's reason.
pub(crate) fn read_back(data: &Path, id: &UploadId) -> io::Result<(u64, u32)> {
    let mut file = UploadFiles::of(data).open(id)?;
    let (mut piece, mut bytes, mut checksum) = (vec![0; PIECE], 0, 0);
    loop {
        match io::Read::read(&mut file, &mut piece)? {
            0 => return Ok((bytes, checksum)),
            count => {
                bytes += count as u64;
                checksum = crc32c::crc32c_append(checksum, &piece[..count]);
            }
        }
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pace::Pace;

    fn new() -> (tempfile::TempDir, UploadFiles) {
        let folder = tempfile::tempdir().unwrap();
        let files = UploadFiles::of(folder.path());
        assert_eq!(files.prepare().unwrap(), 0);
        (folder, files)
    }

    fn put(files: &UploadFiles, id: UploadId, bytes: &[u8]) -> u32 {
        let mut incoming = files.begin(&id).unwrap();
        incoming.write(bytes).unwrap();
        assert_eq!(incoming.bytes(), bytes.len() as u64);
        incoming.finish().unwrap()
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let (folder, files) = new();
        let (whole, half) = (UploadId::new(1, [7; 16]), UploadId::new(2, [7; 16]));
        assert_eq!(put(&files, whole, b"whole"), crc32c::crc32c(b"whole"));
        let mut interrupted = files.begin(&half).unwrap();
        interrupted.write(b"ha").unwrap();
        assert!(files.open(&half).is_err(), "it has no name yet");
        // As when the process ends.
        std::mem::forget(interrupted);
        assert_eq!(files.prepare().unwrap(), 1);
        assert_eq!(files.ids(7).unwrap(), [whole]);
        drop(files.begin(&half).unwrap());
        assert_eq!(files.prepare().unwrap(), 0, "one that is given up leaves nothing");
        assert_eq!(read_back(folder.path(), &whole).unwrap(), (5, crc32c::crc32c(b"whole")));
        files.remove(&whole).unwrap();
        files.remove(&whole).unwrap();
        assert!(files.ids(7).unwrap().is_empty());
        assert!(files.free_bytes().unwrap() > 0);
    }

    #[test]
    fn a_copy_shares_what_an_earlier_one_has() {
        let (folder, files) = new();
        let (old, new) = (UploadId::new(1, [1; 16]), UploadId::new(2, [2; 16]));
        put(&files, old, b"old");
        let copies = tempfile::tempdir().unwrap();
        let (first, second) = (copies.path().join("first"), copies.path().join("second"));
        fs::create_dir(&first).unwrap();
        fs::create_dir(&second).unwrap();
        let done = copy(folder.path(), &first, None, &mut Pace::new(None)).unwrap();
        assert_eq!(done, CopiedUploads { files: 1, bytes: 3, ..CopiedUploads::default() });
        put(&files, new, b"newer");
        let done = copy(folder.path(), &second, Some(&first), &mut Pace::new(None)).unwrap();
        let expected =
            CopiedUploads { files: 1, bytes: 5, linked: 1, linked_bytes: 3, ..CopiedUploads::default() };
        assert_eq!(done, expected);
        assert_eq!(read_back(&second, &old).unwrap().1, crc32c::crc32c(b"old"));
        let nothing = tempfile::tempdir().unwrap();
        let done = copy(nothing.path(), &second, None, &mut Pace::new(None)).unwrap();
        assert_eq!(done, CopiedUploads::default(), "a server without uploads");
    }
}
