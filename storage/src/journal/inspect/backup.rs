//! A copy of the logs, consistent, while the server runs.
//!
//! All files are opened before any is copied: what is deleted meanwhile can still be read, and what compaction moves
//! meanwhile is still where it was. Of the segment that is written to, the records that are whole are copied. So the copy of
//! each log holds everything up to some position after the call began. It takes the place of the folder of the logs.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::super::error::LogError;
use super::super::format::layout::Layout;
use super::super::format::message::Position;
use super::super::format::record::{Kind, Raw, Seed};
use super::super::format::segment::{HEADER_BYTES, base_of};
use super::super::live::files::System;
use super::super::live::map::Map;

/// Times that the list of files is taken anew because one of them was deleted meanwhile.
const ATTEMPTS_MAX: usize = 100;
/// What is zero in pieces of this size is not written.
const PIECE: usize = 64 << 10;

/// What was copied.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BackedUp {
    /// Files of segments.
    pub segments: u64,
    /// Bytes read.
    pub bytes: u64,
    /// For each log, how far it was copied.
    pub ends: Vec<Position>,
}

/// Copies the logs in a folder to another, which must not be there yet or be empty.
///
/// # Errors
/// There are no logs; something cannot be read or written; the other folder is not empty.
pub fn backup(folder: &Path, to: &Path) -> Result<BackedUp, LogError> {
    let layout = Layout::read(&System, folder)?;
    let layout =
        layout.ok_or_else(|| LogError::io("read the logs in", folder, io::ErrorKind::NotFound.into()))?;
    make_folder(to)?;
    let mut entries = fs::read_dir(to).map_err(|error| LogError::io("read", to, error))?;
    if entries.next().is_some() {
        let not_empty = io::Error::new(io::ErrorKind::AlreadyExists, "the folder is not empty");
        return Err(LogError::io("write a backup to", to, not_empty));
    }
    let mut done = BackedUp::default();
    let targets = layout.journals(to);
    for (at, ((log_id, source), (_, target))) in layout.journals(folder).into_iter().zip(targets).enumerate()
    {
        make_folder(&target)?;
        let end = back_up_log(&source, &target, Seed::new(log_id), &mut done)?;
        // Nothing is written to sealed logs.
        if at < layout.log_ids.len() {
            done.ends.push(Position(end));
        }
    }
    // Last: without it, the copy does not open.
    layout.write(&System, to)?;
    Ok(done)
}

fn make_folder(path: &Path) -> Result<(), LogError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| LogError::io("make", path, error))
}

/// A segment of the log, mapped.
struct Source {
    name: String,
    base: u64,
    map: Map,
}

fn open_all(folder: &Path) -> Result<Vec<Source>, LogError> {
    for _ in 0..ATTEMPTS_MAX {
        if let Some(sources) = try_open_all(folder)? {
            return Ok(sources);
        }
    }
    Err(LogError::io(
        "read",
        folder,
        io::Error::other("its segments are deleted faster than they can be opened"),
    ))
}

/// `None` when a file has gone since the list was taken.
fn try_open_all(folder: &Path) -> Result<Option<Vec<Source>>, LogError> {
    let failed = |path: &Path, error| LogError::io("read", path, error);
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| failed(folder, error))? {
        let entry = entry.map_err(|error| failed(folder, error))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Some(base) = base_of(&name) else { continue };
        let path = entry.path();
        match File::open(&path).and_then(|file| Map::read_only(&file)) {
            Ok(map) => sources.push(Source { name, base, map }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&path, error)),
        }
    }
    sources.sort_by_key(|source| source.base);
    Ok(Some(sources))
}

/// Where the whole records of a segment end.
fn whole_until(source: &Source, seed: Seed) -> usize {
    let bytes = source.map.bytes();
    let mut offset = HEADER_BYTES;
    while let Ok(raw) = Raw::parse(bytes.get(offset..).unwrap_or_default(), seed, source.base + offset as u64)
    {
        offset += raw.stored_bytes() as usize;
        if raw.kind == Kind::Seal {
            break;
        }
    }
    offset
}

fn back_up_log(folder: &Path, to: &Path, seed: Seed, done: &mut BackedUp) -> Result<u64, LogError> {
    let sources = open_all(folder)?;
    // The last that has a record; what comes after it is spare.
    let Some(last) = sources.iter().rposition(|source| whole_until(source, seed) > HEADER_BYTES) else {
        return Ok(0);
    };
    let mut end = 0;
    for (at, source) in sources[..=last].iter().enumerate() {
        let until = if at == last { whole_until(source, seed) } else { source.map.len() };
        let path = to.join(&source.name);
        copy(&source.map.bytes()[..until], source.map.len() as u64, &path)
            .map_err(|error| LogError::io("write", &path, error))?;
        done.segments += 1;
        done.bytes += until as u64;
        end = source.base + until as u64;
    }
    Ok(end)
}

/// Writes a file of so many bytes that begins with these and is zero after them.
fn copy(bytes: &[u8], length: u64, path: &PathBuf) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    for piece in bytes.chunks(PIECE) {
        if piece.iter().all(|&byte| byte == 0) {
            file.seek(SeekFrom::Current(piece.len() as i64))?;
        } else {
            file.write_all(piece)?;
        }
    }
    file.set_len(length)?;
    file.sync_all()
}
