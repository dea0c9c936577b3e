//! A copy of directory and log that can be served, taken while the server runs.
//!
//! ```text
//! commits stand still for a moment:  ├─ log: which files, how far ─┤ directory: LMDB takes hold of its state
//! they go on:                                                     └─ directory written ─ log written ─ manifest
//! ```
//!
//! Both parts are of one moment, in which nothing is committed to the directory. So an account for which there is a message in
//! the copy is in the copy (or was deleted before; then its messages are dropped when the copy is opened), and what the copy's
//! index of archives refers to is in the copy's log. Were the log copied first, messages that compaction moves meanwhile would
//! be missing from archives; were it last, there would be messages for accounts with numbers that the directory gives again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use super::manifest::{Manifest, Partial};
use super::{DIRECTORY, DataError, LOG, UNFINISHED, examine};
use crate::directory::{CopiedFile, Directory, DirectoryError, UploadId};
use crate::log::{self, CopiedSegment, Cut, Earlier, Ends, Owner, Stamp};
use crate::pace::Pace;
use crate::uploads::{self, CopiedUploads, UPLOADS, UploadFiles};

pub use crate::log::BackedUp;

/// Times that a copy is begun anew because the disk has failed meanwhile and the directory was opened anew.
const ATTEMPTS_MAX: usize = 5;

/// Uploads that are looked up at once.
const UPLOADS_PAGE: usize = 1000;

/// Copies a data directory, whose directory is open in this process, into a folder that is new or empty. Returns what was
/// copied of the log. `taken_ms`: the time, in milliseconds since 1970, for the backup's manifest.
///
/// # Errors
/// The folder is not empty, or inside the data directory, or around it; something cannot be read or written. Then
/// nothing is left in the folder, or, if even that fails, a file by which it is refused as a data directory.
pub fn backup(
    data: &Path,
    directory: &Directory,
    to: &Path,
    taken_ms: u64,
    pace: &mut Pace,
) -> Result<BackedUp, DataError> {
    examine(data)?;
    refuse_overlap(data, to)?;
    let is_new = begin(to)?;
    let order = Order { data, directory, to, find: &|_, _, _| None, uploads: None, number: 0, taken_ms };
    let done = order.copy(pace).and_then(|done| {
        finish(to)?;
        Ok(done)
    });
    if done.is_err() {
        // The reason of the failure says more than that of a failure to clean up.
        let _ = remove(to, is_new);
    }
    done
}

/// A copy that is to be made in a folder of its own, in which it has begun.
pub(super) struct Order<'a> {
    pub(super) data: &'a Path,
    pub(super) directory: &'a Directory,
    pub(super) to: &'a Path,
    /// Finds segments that earlier copies have.
    pub(super) find: &'a dyn Fn(u64, u64, &Stamp) -> Option<Earlier>,
    /// An earlier copy, whose uploaded files this one takes.
    pub(super) uploads: Option<&'a Path>,
    pub(super) number: u64,
    pub(super) taken_ms: u64,
}

impl Order<'_> {
    /// Makes it, but for the mark that it is unfinished.
    pub(super) fn copy(&self, pace: &mut Pace) -> Result<BackedUp, DataError> {
        let Self { data, directory, to, .. } = *self;
        // A directory that was made by whimbrelctl and never served has none.
        let owner = log::owner(&data.join(LOG))?;
        let has_log = owner.is_some() || directory.has_log()?;
        // What the directory has at that moment must be there when it is copied.
        let _kept = directory.keep_uploads();
        let (cut, copied) = self.copy_directory(has_log, pace)?;
        let mut partial = Partial::create(to).map_err(|error| failed(to, &error))?;
        let mut segments: Vec<CopiedSegment> = Vec::new();
        let mut done = BackedUp::default();
        if let Some(cut) = &cut {
            done = log::write_backup(cut, &to.join(LOG), pace, &mut |segment| {
                segments.push(segment.clone());
                partial.note(segment)
            })?;
        }
        if let Some(Some(Owner { data_set, .. })) = owner {
            log::belong_to(&to.join(LOG), Owner { data_set, accounts_ever: directory.accounts_ever()? })?;
        }
        done.uploads =
            uploads::copy(data, to, self.uploads, pace).map_err(|error| failed(&to.join(UPLOADS), &error))?;
        self.list_objects(&mut done.uploads)?;
        let manifest = Manifest {
            data_set: directory.data_set()?,
            number: self.number,
            taken_ms: self.taken_ms,
            directory: copied,
            ends: cut.as_ref().map(Cut::ends).unwrap_or_default(),
            segments,
        };
        manifest.write(to).map_err(|error| failed(to, &error))?;
        Ok(done)
    }

    /// Lists what is in an object store, as the copy of the directory has it.
    fn list_objects(&self, copied: &mut CopiedUploads) -> Result<(), DataError> {
        let failed = |error: io::Error| failed(&self.to.join(UPLOADS), &error);
        if UploadFiles::of(self.data).place().map_err(failed)?.is_none() {
            return Ok(());
        }
        let copy = self.directory.open_copy(&self.to.join(DIRECTORY))?;
        let page = |after: Option<&UploadId>| copy.uploads(after, UPLOADS_PAGE).map_err(io::Error::other);
        uploads::list_objects(self.data, self.to, copied, page).map_err(failed)
    }

    fn copy_directory(&self, has_log: bool, pace: &mut Pace) -> Result<(Option<Cut>, CopiedFile), DataError> {
        let log = self.data.join(LOG);
        let mut ends = Ends::default();
        if has_log {
            // Most of the time that a cut takes, while commits go on.
            Cut::take(&log, self.find, &mut ends)?;
        }
        let mut cut = || -> Result<Option<Cut>, DataError> {
            if has_log { Ok(Some(Cut::take(&log, self.find, &mut ends)?)) } else { Ok(None) }
        };
        let to = self.to.join(DIRECTORY);
        let mut attempt = 1;
        loop {
            match self.directory.copy_at(&to, pace, &mut cut) {
                Err(DataError::Directory(DirectoryError::Reopening { .. })) if attempt < ATTEMPTS_MAX => {
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }
}

/// Takes the mark off a copy that is whole.
pub(super) fn finish(to: &Path) -> Result<(), DataError> {
    fs::remove_file(to.join(UNFINISHED)).and_then(|()| sync(to)).map_err(|error| failed(to, &error))
}

pub(super) fn target(to: &Path, why: impl Into<String>) -> DataError {
    DataError::Target { to: to.to_owned(), why: why.into() }
}

pub(super) fn failed(to: &Path, error: &io::Error) -> DataError {
    target(to, error.to_string())
}

pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A copy in the data directory would be in the next copy, and be removed with it; and a data directory in the copy would
/// be a part of its own backup.
pub(super) fn refuse_overlap(data: &Path, to: &Path) -> Result<(), DataError> {
    let resolved = resolve(to)?;
    // Parts of the data directory may lie elsewhere, with a link to them.
    for part in [data.to_owned(), data.join(DIRECTORY), data.join(LOG), data.join(UPLOADS)] {
        let Ok(part) = part.canonicalize() else { continue };
        if resolved.starts_with(&part) {
            return Err(target(to, format!("it is in the data directory, {}; use another", part.display())));
        }
        if part.starts_with(&resolved) {
            return Err(target(to, format!("the data directory, {}, is in it; use another", part.display())));
        }
    }
    Ok(())
}

/// The path without links, also when its end is not there yet.
fn resolve(to: &Path) -> Result<PathBuf, DataError> {
    let absolute = std::path::absolute(to).map_err(|error| failed(to, &error))?;
    let mut missing = Vec::new();
    for ancestor in absolute.ancestors() {
        match ancestor.canonicalize() {
            Ok(found) => return Ok(missing.iter().rev().fold(found, |path, name| path.join(name))),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !ancestor.is_symlink() => {
                match ancestor.components().next_back() {
                    Some(Component::Normal(name)) => missing.push(name.to_owned()),
                    _ => return Err(target(to, "it leads through a folder that is not there")),
                }
            }
            Err(error) => return Err(failed(to, &error)),
        }
    }
    Ok(absolute)
}

/// Makes the folder, or takes an empty one, and marks it as unfinished. Returns whether it was made.
pub(super) fn begin(to: &Path) -> Result<bool, DataError> {
    let is_new = !to.exists();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(to);
    made.map_err(|error| failed(to, &error))?;
    let mut entries = fs::read_dir(to).map_err(|error| failed(to, &error))?;
    if entries.next().is_some() {
        return Err(target(to, "it is not empty; use a new folder"));
    }
    let marker = to.join(UNFINISHED);
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(marker);
    made.and_then(|file| file.sync_all()).and_then(|()| sync(to)).map_err(|error| failed(to, &error))?;
    Ok(is_new)
}

/// Removes what was copied, and the mark last.
fn remove(to: &Path, is_new: bool) -> io::Result<()> {
    for part in [DIRECTORY, LOG, UPLOADS] {
        match fs::remove_dir_all(to.join(part)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if entry.file_name() != UNFINISHED {
            fs::remove_file(entry.path())?;
        }
    }
    fs::remove_file(to.join(UNFINISHED))?;
    if is_new { fs::remove_dir(to) } else { Ok(()) }
}
