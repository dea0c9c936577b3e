//! The cut of a backup: which files of the logs it takes, and how far each log goes.
//!
//! All files are opened at once, so what is deleted afterwards can still be read, and what compaction moves meanwhile is
//! still where it was. A segment that an earlier copy has is not opened: it is taken from there.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::error::LogError;
use super::super::format::layout::Layout;
use super::super::format::record::{Kind, Raw, Seed};
use super::super::format::segment::{HEADER_BYTES, base_of};
use super::super::live::files::System;
use super::super::live::map::Map;

/// Times that the list of files is taken anew because one of them was deleted meanwhile.
const ATTEMPTS_MAX: usize = 100;

/// By what a file is known again: as long as these are the same, nothing was written to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stamp {
    /// Its length.
    pub(crate) bytes: u64,
    /// Its number in its file system: a file that takes its place has another.
    pub(crate) inode: u64,
    /// When it was last written to: seconds since 1970, and nanoseconds.
    pub(crate) modified: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(found: &Metadata) -> Self {
        Self { bytes: found.len(), inode: found.ino(), modified: (found.mtime(), found.mtime_nsec()) }
    }
}

/// A segment that an earlier copy has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Earlier {
    /// Its file there.
    pub(crate) path: PathBuf,
    /// Bytes at its beginning that are not all zero.
    pub(crate) used: u64,
    /// The checksum of these.
    pub(crate) checksum: u32,
}

/// Looks for a segment in earlier copies: by the id of its log, its base, and the stamp of its file.
pub(crate) type Find<'a> = &'a dyn Fn(u64, u64, &Stamp) -> Option<Earlier>;

/// Where its bytes come from.
pub(super) enum Source {
    File(File),
    Earlier(Earlier),
}

/// A segment that is to be copied.
pub(super) struct SegmentCut {
    pub(super) name: String,
    pub(super) base: u64,
    pub(super) stamp: Stamp,
    /// So much of it.
    pub(super) used: u64,
    /// Nothing is appended to it any more.
    pub(super) is_sealed: bool,
    pub(super) source: Source,
}

/// A log that is to be copied.
pub(super) struct JournalCut {
    pub(super) log_id: u64,
    /// Its folder, in that of the logs.
    pub(super) folder: PathBuf,
    pub(super) segments: Vec<SegmentCut>,
    /// The end of its last record.
    pub(super) end: u64,
}

/// All logs of a folder at one moment.
pub(crate) struct Cut {
    pub(super) layout: Layout,
    pub(super) journals: Vec<JournalCut>,
}

/// Where the records of segments ended a moment ago, by log and base: looking again begins there.
#[derive(Debug, Default)]
pub(crate) struct Ends(HashMap<(u64, u64), usize>);

impl Cut {
    /// Takes it now. Given the `ends` that it came to a moment ago, it takes little more time than opening the files does.
    ///
    /// # Errors
    /// There are no logs; they cannot be read.
    pub(crate) fn take(folder: &Path, find: Find<'_>, ends: &mut Ends) -> Result<Self, LogError> {
        for _ in 0..ATTEMPTS_MAX {
            let layout = read_layout(folder)?;
            let taken = take_journals(folder, &layout, find, ends);
            // A log of an earlier generation may have been given up meanwhile.
            if taken.is_ok() || read_layout(folder)? == layout {
                return taken.map(|journals| Self { layout, journals });
            }
        }
        Err(LogError::io("read", folder, io::Error::other("its layout changes again and again")))
    }

    /// The id of each log, and where it ends.
    pub(crate) fn ends(&self) -> Vec<(u64, u64)> {
        self.journals.iter().map(|journal| (journal.log_id, journal.end)).collect()
    }
}

/// The id of each log that is written to, and where it ends: as [`Cut::ends`], for one file of each.
///
/// # Errors
/// There are no logs; they cannot be read.
pub(crate) fn ends(folder: &Path) -> Result<Vec<(u64, u64)>, LogError> {
    let layout = read_layout(folder)?;
    let journals = layout.journals(Path::new("")).into_iter().take(layout.log_ids.len());
    journals.map(|(log_id, relative)| Ok((log_id, end_of(&folder.join(relative), log_id)?))).collect()
}

fn end_of(folder: &Path, log_id: u64) -> Result<u64, LogError> {
    let unreadable = |error| LogError::io("read", folder, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let Ok(name) = entry.map_err(unreadable)?.file_name().into_string() else { continue };
        names.extend(base_of(&name).map(|base| (base, name)));
    }
    names.sort_unstable_by(|one, other| other.cmp(one));
    for (base, name) in names {
        let segment = segment(&folder.join(&name), name, base, &|_| None).map_err(unreadable)?;
        let used = whole_until(folder, log_id, &segment, &mut Ends::default())?;
        // What comes after the last that has a record is spare.
        if used > HEADER_BYTES as u64 {
            return Ok(base + used);
        }
    }
    Ok(0)
}

fn read_layout(folder: &Path) -> Result<Layout, LogError> {
    let missing = || LogError::io("read the logs in", folder, io::ErrorKind::NotFound.into());
    Layout::read(&System, folder)?.ok_or_else(missing)
}

fn take_journals(
    folder: &Path,
    layout: &Layout,
    find: Find<'_>,
    ends: &mut Ends,
) -> Result<Vec<JournalCut>, LogError> {
    let mut journals = Vec::new();
    for (at, (log_id, relative)) in layout.journals(Path::new("")).into_iter().enumerate() {
        let from = folder.join(&relative);
        let mut segments = take_segments(&from, log_id, find)?;
        let end = match at < layout.log_ids.len() {
            true => cut_tail(&from, log_id, &mut segments, ends)?,
            false => seal_all(&mut segments),
        };
        journals.push(JournalCut { log_id, folder: relative, segments, end });
    }
    Ok(journals)
}

fn take_segments(folder: &Path, log_id: u64, find: Find<'_>) -> Result<Vec<SegmentCut>, LogError> {
    let mut segments = None;
    for _ in 0..ATTEMPTS_MAX {
        segments = try_segments(folder, log_id, find)?;
        if segments.is_some() {
            break;
        }
    }
    segments.ok_or_else(|| {
        let why = io::Error::other("its segments are deleted faster than they can be opened");
        LogError::io("read", folder, why)
    })
}

/// Nothing is written to the logs of earlier generations, nor to files of the gathered one: they are taken whole, so that what
/// comes behind a damaged record is in the copy as well. Returns their end.
fn seal_all(segments: &mut [SegmentCut]) -> u64 {
    segments.iter_mut().for_each(|segment| segment.is_sealed = true);
    segments.last().map_or(0, |last| last.base + last.used)
}

/// Of a log that is written to, what it has now. Returns the end of its last record.
fn cut_tail(
    folder: &Path,
    log_id: u64,
    segments: &mut Vec<SegmentCut>,
    ends: &mut Ends,
) -> Result<u64, LogError> {
    let mut end = 0;
    // What comes after the last that has a record is spare.
    while let Some(last) = segments.last_mut() {
        let used = whole_until(folder, log_id, last, ends)?;
        if used > HEADER_BYTES as u64 {
            last.used = used;
            end = last.base + used;
            break;
        }
        segments.pop();
    }
    if let Some((_, before)) = segments.split_last_mut() {
        before.iter_mut().for_each(|segment| segment.is_sealed = true);
    }
    Ok(end)
}

/// `None` when a file has gone since the list was taken.
fn try_segments(folder: &Path, log_id: u64, find: Find<'_>) -> Result<Option<Vec<SegmentCut>>, LogError> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| LogError::io("read", folder, error))? {
        let entry = entry.map_err(|error| LogError::io("read", folder, error))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Some(base) = base_of(&name) else { continue };
        let path = entry.path();
        match segment(&path, name, base, &|stamp| find(log_id, base, stamp)) {
            Ok(segment) => segments.push(segment),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LogError::io("read", &path, error)),
        }
    }
    segments.sort_by_key(|segment| segment.base);
    Ok(Some(segments))
}

fn segment(
    path: &Path,
    name: String,
    base: u64,
    find: &dyn Fn(&Stamp) -> Option<Earlier>,
) -> io::Result<SegmentCut> {
    let stamp = Stamp::of(&fs::metadata(path)?);
    if let Some(earlier) = find(&stamp) {
        let used = earlier.used;
        let source = Source::Earlier(earlier);
        return Ok(SegmentCut { name, base, stamp, used, is_sealed: true, source });
    }
    let file = File::open(path)?;
    let stamp = Stamp::of(&file.metadata()?);
    let source = Source::File(file);
    Ok(SegmentCut { name, base, stamp, used: stamp.bytes, is_sealed: false, source })
}

/// Where the whole records of a segment end.
fn whole_until(folder: &Path, log_id: u64, segment: &SegmentCut, ends: &mut Ends) -> Result<u64, LogError> {
    let Source::File(file) = &segment.source else { return Ok(segment.used) };
    if segment.stamp.bytes == 0 {
        return Ok(0);
    }
    let map =
        Map::read_only(file).map_err(|error| LogError::io("read", &folder.join(&segment.name), error))?;
    let known = ends.0.entry((log_id, segment.base)).or_insert(HEADER_BYTES);
    let (bytes, seed) = (map.bytes(), Seed::new(log_id));
    while let Ok(raw) =
        Raw::parse(bytes.get(*known..).unwrap_or_default(), seed, segment.base + *known as u64)
    {
        if raw.kind == Kind::Seal {
            return Ok(*known as u64 + raw.stored_bytes());
        }
        *known += raw.stored_bytes() as usize;
    }
    Ok(*known as u64)
}
