//! A copy of the logs, consistent, while the server runs.
//!
//! Of the segment that is written to, the records that are whole at the time of the cut are copied. So the copy of each log
//! holds everything up to some position after the call began. It takes the place of the folder of the logs.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::super::error::LogError;
use super::super::format::message::Position;
use super::super::live::files::System;
use super::cut::{Cut, Ends, SegmentCut, Source, Stamp};
use crate::pace::Pace;
use crate::uploads::CopiedUploads;

/// Bytes that are read at once; of these, what is all zero is not written.
const PIECE: usize = 64 << 10;

/// Times that a segment is copied anew because it was rewritten meanwhile.
const ATTEMPTS_MAX: usize = 10;

/// What was copied.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BackedUp {
    /// Files of segments that were read.
    pub segments: u64,
    /// Bytes read of these.
    pub bytes: u64,
    /// Files of segments that an earlier copy had already.
    pub linked: u64,
    /// Bytes of these.
    pub linked_bytes: u64,
    /// For each log that is written to, how far it was copied.
    pub ends: Vec<Position>,
    /// Of the files that accounts have uploaded.
    pub uploads: CopiedUploads,
}

/// A segment in a copy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CopiedSegment {
    /// The id of its log.
    pub(crate) log_id: u64,
    /// Its file, in the folder of the logs.
    pub(crate) path: PathBuf,
    /// Its base position.
    pub(crate) base: u64,
    /// That of the file it was copied from.
    pub(crate) stamp: Stamp,
    /// Bytes at its beginning that were copied; the rest is zero.
    pub(crate) used: u64,
    /// The checksum of these.
    pub(crate) checksum: u32,
    /// Nothing is appended to it any more.
    pub(crate) is_sealed: bool,
}

/// Copies the logs in a folder to another, which must not be there yet or be empty.
///
/// # Errors
/// There are no logs; something cannot be read or written; the other folder is not empty.
pub fn backup(folder: &Path, to: &Path) -> Result<BackedUp, LogError> {
    let cut = Cut::take(folder, &|_, _, _| None, &mut Ends::default())?;
    write(&cut, to, &mut Pace::new(None), &mut |_| Ok(()))
}

/// Writes what a cut has taken into a folder, which must not be there yet or be empty. `each` is told of a segment once it is
/// on the disk.
///
/// # Errors
/// Something cannot be read or written, or `each` fails; the folder is not empty.
pub(crate) fn write(
    cut: &Cut,
    to: &Path,
    pace: &mut Pace,
    each: &mut dyn FnMut(&CopiedSegment) -> io::Result<()>,
) -> Result<BackedUp, LogError> {
    make_folder(to)?;
    let mut entries = fs::read_dir(to).map_err(|error| LogError::io("read", to, error))?;
    if entries.next().is_some() {
        let not_empty = io::Error::new(io::ErrorKind::AlreadyExists, "the folder is not empty");
        return Err(LogError::io("write a backup to", to, not_empty));
    }
    let mut done = BackedUp::default();
    for journal in &cut.journals {
        let folder = to.join(&journal.folder);
        make_folder(&folder)?;
        for segment in &journal.segments {
            let path = journal.folder.join(&segment.name);
            let file = to.join(&path);
            let copied = put(segment, &file, pace, &mut done);
            let (stamp, checksum) = copied.map_err(|error| LogError::io("write", &file, error))?;
            let &SegmentCut { base, used, is_sealed, .. } = segment;
            let copied =
                CopiedSegment { log_id: journal.log_id, path, base, stamp, used, checksum, is_sealed };
            each(&copied).map_err(|error| LogError::io("write a backup to", to, error))?;
        }
        let synced = File::open(&folder).and_then(|folder| folder.sync_all());
        synced.map_err(|error| LogError::io("write", &folder, error))?;
    }
    let own = cut.journals.iter().take(cut.layout.log_ids.len());
    done.ends = own.map(|journal| Position(journal.end)).collect();
    // Last: without it, the copy does not open.
    cut.layout.write(&System, to)?;
    Ok(done)
}

fn make_folder(path: &Path) -> Result<(), LogError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| LogError::io("make", path, error))
}

/// Links a segment of an earlier copy, or copies one. Returns the stamp of its source, and its checksum.
fn put(segment: &SegmentCut, to: &Path, pace: &mut Pace, done: &mut BackedUp) -> io::Result<(Stamp, u32)> {
    let length = segment.stamp.bytes;
    let source = match &segment.source {
        Source::File(source) => source,
        Source::Earlier(earlier) => {
            done.linked += 1;
            done.linked_bytes += segment.used;
            if fs::hard_link(&earlier.path, to).is_err() {
                // A file system without links, or as many links as it allows.
                let found = copy(&File::open(&earlier.path)?, earlier.used, length, to, pace)?;
                if found != earlier.checksum {
                    let what = format!("{} is damaged", earlier.path.display());
                    return Err(io::Error::other(what));
                }
            }
            return Ok((segment.stamp, earlier.checksum));
        }
    };
    for _ in 0..ATTEMPTS_MAX {
        let stamp = Stamp::of(&source.metadata()?);
        let checksum = copy(source, segment.used, length, to, pace)?;
        // To the others, records are appended meanwhile.
        if !segment.is_sealed || Stamp::of(&source.metadata()?) == stamp {
            done.segments += 1;
            done.bytes += segment.used;
            return Ok((stamp, checksum));
        }
        fs::remove_file(to)?;
    }
    Err(io::Error::other("it is rewritten faster than it can be copied"))
}

/// Writes a file of this length that begins with so many bytes of another and is zero after them. Returns their checksum.
fn copy(source: &File, used: u64, length: u64, to: &Path, pace: &mut Pace) -> io::Result<u32> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let mut piece = vec![0; PIECE];
    let (mut at, mut checksum) = (0, 0);
    while at < used {
        let piece = &mut piece[..(used - at).min(PIECE as u64) as usize];
        source.read_exact_at(piece, at)?;
        checksum = crc32c::crc32c_append(checksum, piece);
        if piece.iter().all(|&byte| byte == 0) {
            file.seek(SeekFrom::Current(piece.len() as i64))?;
        } else {
            file.write_all(piece)?;
        }
        at += piece.len() as u64;
        pace.wrote(piece.len(), &|| false);
    }
    file.set_len(length)?;
    file.sync_all()?;
    Ok(checksum)
}
