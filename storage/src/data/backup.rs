//! A copy of directory and log that can be served, taken while the server runs.
//!
//! The log comes first, and the directory after it: an account for which there is a message in the copy of the log was
//! made before that was copied, so the copy of the directory has it (or it was deleted meanwhile; then its messages are
//! dropped when the copy is opened). In the other order, messages for accounts made meanwhile would lie in the copy
//! with numbers that the directory gives again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use super::{DIRECTORY, DataError, LOG, UNFINISHED, examine};
use crate::directory::Directory;
use crate::log::{self, Owner};

pub use crate::log::BackedUp;

/// Copies a data directory, whose directory is open in this process, into a folder that is new or empty. Returns what was
/// copied of the log.
///
/// # Errors
/// The folder is not empty, or inside the data directory, or around it; something cannot be read or written. Then
/// nothing is left in the folder, or, if even that fails, a file by which it is refused as a data directory.
pub fn backup(data: &Path, directory: &Directory, to: &Path) -> Result<BackedUp, DataError> {
    examine(data)?;
    refuse_overlap(data, to)?;
    let is_new = begin(to)?;
    let done = copy(data, directory, to).and_then(|done| {
        fs::remove_file(to.join(UNFINISHED)).and_then(|()| sync(to)).map_err(|error| failed(to, &error))?;
        Ok(done)
    });
    if done.is_err() {
        // The reason of the failure says more than that of a failure to clean up.
        let _ = remove(to, is_new);
    }
    done
}

fn copy(data: &Path, directory: &Directory, to: &Path) -> Result<BackedUp, DataError> {
    let mut done = BackedUp::default();
    let copied_log = to.join(LOG);
    // A directory that was made by whimbrelctl and never served has none.
    let owner = log::owner(&data.join(LOG))?;
    if owner.is_some() || directory.has_log()? {
        done = log::backup(&data.join(LOG), &copied_log)?;
    }
    directory.copy_to(&to.join(DIRECTORY))?;
    if let Some(Some(Owner { data_set, .. })) = owner {
        log::belong_to(&copied_log, Owner { data_set, accounts_ever: directory.accounts_ever()? })?;
    }
    Ok(done)
}

fn target(to: &Path, why: impl Into<String>) -> DataError {
    DataError::Target { to: to.to_owned(), why: why.into() }
}

fn failed(to: &Path, error: &io::Error) -> DataError {
    target(to, error.to_string())
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// A copy in the data directory would be in the next copy, and be removed with it; and a data directory in the copy would
/// be a part of its own backup.
fn refuse_overlap(data: &Path, to: &Path) -> Result<(), DataError> {
    let resolved = resolve(to)?;
    // Parts of the data directory may lie elsewhere, with a link to them.
    for part in [data.to_owned(), data.join(DIRECTORY), data.join(LOG)] {
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
fn begin(to: &Path) -> Result<bool, DataError> {
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
    for part in [DIRECTORY, LOG] {
        match fs::remove_dir_all(to.join(part)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::remove_file(to.join(UNFINISHED))?;
    if is_new { fs::remove_dir(to) } else { Ok(()) }
}
