//! A place for backups: one after another, each whole by itself, which share the files that have not changed.
//!
//! ```text
//! PLACE/000001-20261128T181156Z/   a backup: directory, log, backup-manifest
//!       000002-20261128T191156Z/   the next: sealed segments that the first has are links to its files
//!       unfinished/                one that is being written, or was interrupted
//!       interrupted/               one that was, while the next takes what is of use from it
//! ```
//!
//! A backup gets its name in one step, when all of it is on the disk. It takes segments from the newest before it and from an
//! interrupted one, by their manifests: the same log, the same position, and the server's file is the one that was copied then,
//! unchanged. A segment that was rewritten has another file, or a later time, and is copied anew.
//!
//! A file that is damaged on the place's disk would be shared for ever. So whoever reads a backup back and finds that leaves a
//! mark ([`distrust`]), and the next backup shares nothing.
//!
//! Uploaded files are never written to, so the newest backup's are taken by their names and lengths.
//!
//! Files that backups share must not be written to, so none of them is served where it lies ([`super::examine`]).

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::backup::{BackedUp, Order, begin, failed, finish, refuse_overlap, sync, target};
use super::manifest::{MANIFEST, Manifest, PARTIAL, Partial};
use super::{DIRECTORY, DataError, LOG, UNFINISHED as MARK, examine};
use crate::directory::Directory;
use crate::log::{CopiedSegment, Earlier, Stamp};
use crate::pace::Pace;
use crate::uploads::UPLOADS;

/// Folder of a place in which a backup is being written.
pub const UNFINISHED: &str = "unfinished";
const INTERRUPTED: &str = "interrupted";
/// What a backup's folder may have.
const PARTS: [&str; 6] = [DIRECTORY, LOG, UPLOADS, MANIFEST, PARTIAL, MARK];
/// File of a place: one of its backups was found damaged.
const DISTRUSTED: &str = ".damaged";
/// Digits of a backup's number in its name, at least.
const DIGITS: usize = 6;

/// Where a backup goes, and what becomes of those that are there.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The folder; it is made if it is not there (mode 0700), and has nothing else in it.
    pub folder: &'a Path,
    /// The time, in milliseconds since 1970.
    pub now_ms: u64,
    /// So many of the newest are kept (at least 1), the one that is made now among them; `None`: all.
    pub keep: Option<usize>,
}

/// A backup of a place.
#[derive(Clone, Debug)]
pub struct Increment {
    /// Its folder.
    pub folder: PathBuf,
    /// What was copied of the log.
    pub done: BackedUp,
    /// Older backups that were removed.
    pub removed: u64,
}

/// A backup that is there.
struct Present {
    number: u64,
    folder: PathBuf,
}

/// Copies a data directory, whose directory is open in this process, into a place that may have earlier backups.
///
/// # Errors
/// The place has other files, or backups of other data; it is inside the data directory, or around it; another backup is
/// being written there; something cannot be read or written. The earlier backups stay as they are then, and what was copied is
/// of use to the next one.
pub fn backup_into(
    data: &Path,
    directory: &Directory,
    place: &Place<'_>,
    pace: &mut Pace,
) -> Result<Increment, DataError> {
    examine(data)?;
    refuse_overlap(data, place.folder)?;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(place.folder);
    made.map_err(|error| failed(place.folder, &error))?;
    let _lock = lock(place.folder)?;
    let mut present = list(place.folder)?;
    let mut earlier = Segments::of(place.folder, &present, directory.data_set()?)?;
    let is_distrusted = place.folder.join(DISTRUSTED).exists();
    if is_distrusted {
        earlier.all.clear();
    }
    let unfinished = place.folder.join(UNFINISHED);
    begin(&unfinished)?;
    let number = present.last().map_or(0, |last| last.number) + 1;
    let find = |log_id: u64, base: u64, stamp: &Stamp| earlier.find(log_id, base, stamp);
    let uploads = present.last().filter(|_| !is_distrusted).map(|last| &*last.folder);
    let order =
        Order { data, directory, to: &unfinished, find: &find, uploads, number, taken_ms: place.now_ms };
    let done = order.copy(pace)?;
    finish(&unfinished)?;
    let folder = place.folder.join(format!("{number:0DIGITS$}-{}", utc(place.now_ms)));
    let named = fs::rename(&unfinished, &folder).and_then(|()| sync(place.folder));
    named.map_err(|error| failed(place.folder, &error))?;
    present.push(Present { number, folder: folder.clone() });
    if is_distrusted {
        fs::remove_file(place.folder.join(DISTRUSTED)).map_err(|error| failed(place.folder, &error))?;
    }
    let removed = remove_old(place.folder, place.keep, &present);
    let removed = removed.map_err(|error| failed(place.folder, &error))?;
    Ok(Increment { folder, done, removed })
}

/// Has the next backup of a place share nothing with those that are there: one of them was found damaged, and a file that is
/// damaged would be in every later one as well.
///
/// # Errors
/// The place cannot be written.
pub fn distrust(place: &Path) -> Result<(), DataError> {
    let mut mark = OpenOptions::new();
    mark.write(true).create(true).truncate(true).mode(0o600);
    let made = mark.open(place.join(DISTRUSTED)).and_then(|_| sync(place));
    made.map_err(|error| failed(place, &error))
}

/// Removes all but so many of the newest backups of a place (at least 1), as [`Place::keep`] does: for those who want to read
/// the newest first. Returns how many have gone.
///
/// # Errors
/// A backup is being written there; the place has other files; something cannot be removed.
pub fn keep_newest(place: &Path, keep: usize) -> Result<u64, DataError> {
    let _lock = lock(place)?;
    remove_old(place, Some(keep), &list(place)?).map_err(|error| failed(place, &error))
}

/// Whether files of a data directory are also those of other backups. Looks only at one that has a backup's manifest.
///
/// # Errors
/// The manifest cannot be read, so nobody knows.
pub(super) fn shares_files(data: &Path) -> io::Result<bool> {
    let Some(manifest) = Manifest::read(data)? else { return Ok(false) };
    let is_shared = |segment: &CopiedSegment| {
        fs::metadata(data.join(LOG).join(&segment.path)).is_ok_and(|found| found.nlink() > 1)
    };
    Ok(manifest.segments.iter().any(is_shared))
}

/// One backup at a time.
fn lock(folder: &Path) -> Result<File, DataError> {
    let file = File::open(folder).map_err(|error| failed(folder, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(target(folder, "another backup is being written there")),
        Err(TryLockError::Error(error)) => Err(failed(folder, &error)),
    }
}

/// The backups of a place, the oldest first.
fn list(folder: &Path) -> Result<Vec<Present>, DataError> {
    let mut present = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| failed(folder, &error))? {
        let entry = entry.map_err(|error| failed(folder, &error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(number) = number_of(&name) {
            present.push(Present { number, folder: entry.path() });
            continue;
        }
        let is_ours = match &*name {
            // What is in them will be removed.
            UNFINISHED | INTERRUPTED => {
                has_parts_alone(&entry.path()).map_err(|error| failed(folder, &error))?
            }
            name => name == "lost+found" || name.starts_with('.'),
        };
        if !is_ours {
            let why = format!("it has {name}, which is no backup of a place; use a folder of its own");
            return Err(target(folder, why));
        }
    }
    present.sort_by_key(|backup| backup.number);
    Ok(present)
}

/// Whether a folder, which is no link to another, has nothing but what a backup consists of, whole or not.
fn has_parts_alone(folder: &Path) -> io::Result<bool> {
    if !fs::symlink_metadata(folder)?.is_dir() {
        return Ok(false);
    }
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if !PARTS.iter().any(|part| name == *part) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn number_of(name: &str) -> Option<u64> {
    let (number, time) = name.split_once('-')?;
    let is_number = number.len() >= DIGITS && number.bytes().all(|byte| byte.is_ascii_digit());
    let is_time = time.len() == "20261128T181156Z".len() && time.ends_with('Z');
    if is_number && is_time { number.parse().ok() } else { None }
}

/// Removes what was interrupted, then the oldest, one after the other: none of them is ever there by half under its name. One
/// that was served where it lies, or that somebody has put other files into, is no backup any more and stays.
fn remove_old(place: &Path, keep: Option<usize>, present: &[Present]) -> io::Result<u64> {
    let leaving = place.join(INTERRUPTED);
    if leaving.exists() {
        fs::remove_dir_all(&leaving)?;
    }
    let Some(keep) = keep else { return Ok(0) };
    let mut whole = Vec::new();
    for backup in present {
        if backup.folder.join(MANIFEST).exists() && has_parts_alone(&backup.folder)? {
            whole.push(backup);
        }
    }
    let old = &whole[..whole.len().saturating_sub(keep.max(1))];
    for backup in old {
        fs::rename(&backup.folder, &leaving)?;
        fs::remove_dir_all(&leaving)?;
    }
    Ok(old.len() as u64)
}

/// The segments of earlier copies, by log and base.
struct Segments {
    all: HashMap<(u64, u64), (CopiedSegment, PathBuf)>,
}

impl Segments {
    /// What the newest backup has, and one that was interrupted, which is put aside.
    fn of(place: &Path, present: &[Present], data_set: u64) -> Result<Self, DataError> {
        let interrupted = place.join(INTERRUPTED);
        put_aside(&place.join(UNFINISHED), &interrupted).map_err(|error| failed(place, &error))?;
        let mut all = HashMap::new();
        let mut add = |segments: Vec<CopiedSegment>, backup: &Path| {
            for segment in segments.into_iter().filter(|segment| segment.is_sealed) {
                let path = backup.join(LOG).join(&segment.path);
                // Now, and not when it is looked for: commits stand still then, and must not wait for the place's disk.
                if fs::metadata(&path).is_ok_and(|found| found.len() == segment.stamp.bytes) {
                    all.insert((segment.log_id, segment.base), (segment, path));
                }
            }
        };
        add(copied(&interrupted), &interrupted);
        if let Some(Present { folder, .. }) = present.last() {
            let manifest = Manifest::read(folder).map_err(|error| failed(folder, &error))?;
            let manifest = manifest.ok_or_else(|| target(place, no_manifest(folder)))?;
            if manifest.data_set != data_set {
                let why = format!(
                    "its backups are of other data ({:016x}, not {data_set:016x}); use another folder",
                    manifest.data_set
                );
                return Err(target(place, why));
            }
            add(manifest.segments, folder);
        }
        Ok(Self { all })
    }

    /// Asks no file.
    fn find(&self, log_id: u64, base: u64, stamp: &Stamp) -> Option<Earlier> {
        let (segment, path) = self.all.get(&(log_id, base))?;
        (segment.stamp == *stamp).then(|| Earlier {
            path: path.clone(),
            used: segment.used,
            checksum: segment.checksum,
        })
    }
}

fn no_manifest(folder: &Path) -> String {
    format!("{} has no {MANIFEST} and is not whole; move it away", folder.display())
}

/// The segments that an interrupted backup has: all, when it lacked nothing but its name.
fn copied(backup: &Path) -> Vec<CopiedSegment> {
    match Manifest::read(backup) {
        Ok(Some(manifest)) => manifest.segments,
        _ => Partial::read(backup),
    }
}

/// Makes room for a new backup and keeps what an interrupted one has copied. Of two of them, the one with more.
fn put_aside(unfinished: &Path, interrupted: &Path) -> io::Result<()> {
    if !unfinished.exists() {
        return Ok(());
    }
    let (newer, older) = (copied(unfinished).len(), copied(interrupted).len());
    if newer < older {
        return fs::remove_dir_all(unfinished);
    }
    if interrupted.exists() {
        fs::remove_dir_all(interrupted)?;
    }
    fs::rename(unfinished, interrupted)
}

/// A time as names have it: 20261128T181156Z.
fn utc(unix_ms: u64) -> String {
    let (days, seconds) = (unix_ms / 86_400_000, unix_ms / 1000 % 86_400);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    // Eras of 400 years that begin on 1 March, so that a leap day is the last of its year.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, is_next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + is_next;
    format!("{year:04}{month:02}{day:02}T{hours:02}{minutes:02}{seconds:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        for (unix_s, written) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (951_868_800, "20000301T000000Z"),
            (1_709_164_800, "20240229T000000Z"),
            (1_735_689_599, "20241231T235959Z"),
            (1_795_889_516, "20261128T181156Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(utc(unix_s * 1000 + 999), written, "{unix_s}");
            assert_eq!(number_of(&format!("000012-{written}")), Some(12));
        }
        for name in
            ["12-20261128T181156Z", "000012", "00001x-20261128T181156Z", "000012-20261128", "directory"]
        {
            assert_eq!(number_of(name), None, "{name}");
        }
    }

    #[test]
    fn a_segment_is_looked_for_without_asking_the_disk_of_the_place() {
        let place = tempfile::tempdir().unwrap();
        let backup = place.path().join("000001-20261128T181156Z");
        let stamp = Stamp { bytes: 3, inode: 7, modified: (1, 2) };
        let segment = |base: u64| CopiedSegment {
            log_id: 5,
            path: format!("{base:016x}.seg").into(),
            base,
            stamp,
            used: 3,
            checksum: 0,
            is_sealed: true,
        };
        fs::create_dir_all(backup.join(LOG)).unwrap();
        fs::write(backup.join(LOG).join(segment(0).path), "abc").unwrap();
        fs::write(backup.join(LOG).join(segment(1).path), "ab").unwrap();
        let manifest = Manifest {
            data_set: 9,
            number: 1,
            taken_ms: 0,
            directory: crate::directory::CopiedFile::default(),
            ends: vec![(5, 3)],
            segments: vec![segment(0), segment(1)],
        };
        Partial::create(&backup).unwrap();
        manifest.write(&backup).unwrap();
        let segments = Segments::of(place.path(), &list(place.path()).unwrap(), 9).unwrap();
        // It answers no more: commits stand still while segments are looked for.
        fs::remove_dir_all(place.path()).unwrap();
        assert!(segments.find(5, 0, &stamp).is_some());
        assert!(segments.find(5, 1, &stamp).is_none(), "it was cut short");
    }
}
