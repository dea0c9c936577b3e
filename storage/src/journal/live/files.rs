//! The files of the log. Everything the log asks of a file system goes through [`Files`], so that a simulated one can
//! fail at any step.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::map::{self, Map};

/// What the system counts a file's space in.
const BLOCK_BYTES: u64 = 512;

/// Appended to the name of a file that is not complete yet. Such files are removed at opening.
pub(crate) const PARTIAL: &str = ".partial";

/// Bytes of a file that is replaced which go to the disk at once.
const REPLACED_BYTES_MAX: usize = 1 << 20;

/// What the log needs of a file system.
pub(crate) trait Files: Send + Sync {
    /// Makes a file of so many bytes that begins with `head` and is zero after it, allocated, on the disk under its
    /// name when this returns; or nothing.
    fn create(&self, path: &Path, head: &[u8], bytes: u64) -> io::Result<Map>;
    /// Maps a file for reading and writing. Its space is allocated where it was not.
    fn open(&self, path: &Path) -> io::Result<Map>;
    /// An error if the file's system takes no writes any more. A file that is gone is none.
    fn is_writable(&self, path: &Path) -> io::Result<()>;
    /// Maps a file for reading.
    fn view(&self, path: &Path) -> io::Result<Map>;
    /// Names in a folder; none when it is not there.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Removes a file; it stays away after a power cut.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Reads a file; `None` when it is not there.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;
    /// Writes a file so that after a crash it is the old one or the new one.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()>;
    /// Moves a file into another folder of the log.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes a folder and those above it (mode 0700).
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder with all in it; nothing happens when it is not there.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Threads that may read several logs at once.
    fn readers(&self) -> usize;
}

/// The system's files.
pub(crate) struct System;

/// Makes what was done to a folder's names last.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn partial(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(PARTIAL);
    name.into()
}

/// Reserves a file's space. Where the file system cannot (ZFS), what is missing of the file is written as zeros.
fn allocate(file: &mut File, bytes: u64) -> io::Result<()> {
    if map::reserve(file, bytes)? { Ok(()) } else { write_zeros(file, bytes) }
}

/// Extends a file with zeros up to a length, and leaves what it has alone.
fn write_zeros(file: &mut File, bytes: u64) -> io::Result<()> {
    const ZEROS: &[u8] = &[0; 64 << 10];
    use std::io::{Seek, SeekFrom};
    let mut at = file.seek(SeekFrom::End(0))?;
    while at < bytes {
        let piece = (bytes - at).min(ZEROS.len() as u64) as usize;
        file.write_all(&ZEROS[..piece])?;
        at += piece as u64;
    }
    Ok(())
}

impl System {
    fn create_at(path: &Path, head: &[u8], bytes: u64) -> io::Result<Map> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(head)?;
        allocate(&mut file, bytes)?;
        file.sync_all()?;
        Map::writable(&file)
    }
}

impl Files for System {
    fn readers(&self) -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    }

    fn create(&self, path: &Path, head: &[u8], bytes: u64) -> io::Result<Map> {
        let unfinished = partial(path);
        let made = Self::create_at(&unfinished, head, bytes).and_then(|map| {
            fs::rename(&unfinished, path)?;
            sync_folder_of(path)?;
            Ok(map)
        });
        if made.is_err() {
            // Its space is needed, and the error is the one to tell.
            let _ = fs::remove_file(&unfinished);
        }
        made
    }

    fn open(&self, path: &Path) -> io::Result<Map> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        let bytes = file.metadata()?.len();
        if bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is empty"));
        }
        // A restored backup has holes, which would be filled while we write to the map. A file without is left as it is: it
        // would count as written to, and the next backup would not know it again.
        if file.metadata()?.blocks() * BLOCK_BYTES < bytes {
            allocate(&mut file, bytes)?;
        }
        Map::writable(&file)
    }

    fn is_writable(&self, path: &Path) -> io::Result<()> {
        match map::touch(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn view(&self, path: &Path) -> io::Result<Map> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is empty"));
        }
        Map::read_only(&file)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        sync_folder_of(path)
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match fs::read(path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let unfinished = partial(path);
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        // A piece at a time, so that commits do not wait for a whole segment to reach the disk.
        let mut pieces = content.chunks(REPLACED_BYTES_MAX);
        let written = pieces.try_for_each(|piece| {
            file.write_all(piece)?;
            if piece.len() == REPLACED_BYTES_MAX { file.sync_data() } else { Ok(()) }
        });
        let written = written.and_then(|()| file.sync_all());
        if written.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        written?;
        fs::rename(&unfinished, path)?;
        sync_folder_of(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        sync_folder_of(from)?;
        sync_folder_of(to)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        sync_folder_of(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.and_then(|()| sync_folder_of(path)),
        }
    }
}
