//! Is a backup what was written?

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::backup::failed;
use super::manifest::{MANIFEST, Manifest};
use super::{DIRECTORY, DataError, LOG};
use crate::directory::Directory;
use crate::log;
use crate::uploads::{self, Listed, UploadFiles};

/// A backup that is whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Whole {
    /// Files that were read.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Uploaded files in an object store, of which what is written was compared with the directory. They themselves were not read.
    pub objects: u64,
}

/// Reads every file of a backup and compares it with its manifest; `directory` is that of the backup, opened. Looks whether its
/// parts are of one cut: one data set, no file more or less, and an index of archives that reaches no further than the logs.
///
/// # Errors
/// What does not fit, and where; something cannot be read.
pub fn verify_backup(backup: &Path, directory: &Directory) -> Result<Whole, DataError> {
    let broken = |what: String| DataError::NotWhole { backup: backup.to_owned(), what };
    let manifest = Manifest::read(backup).map_err(|error| broken(error.to_string()))?;
    let manifest = manifest.ok_or_else(|| broken(format!("it has no {MANIFEST}")))?;
    let mut whole = Whole { files: 0, bytes: 0, objects: 0 };
    let mut compare = |path: PathBuf, length: u64, used: u64, checksum: u32| {
        let found = read(&path, used).map_err(|error| broken(format!("{}: {error}", path.display())))?;
        if found != (length, checksum) {
            return Err(broken(format!("{} has other contents", path.display())));
        }
        whole.files += 1;
        whole.bytes += used;
        Ok(())
    };
    let file = manifest.directory;
    compare(backup.join(DIRECTORY).join("data.mdb"), file.bytes, file.bytes, file.checksum)?;
    for segment in &manifest.segments {
        compare(backup.join(LOG).join(&segment.path), segment.stamp.bytes, segment.used, segment.checksum)?;
    }
    let (files, objects) = verify_uploads(backup, directory, &mut whole.bytes)?;
    whole.files += files;
    whole.objects = objects;
    let log = backup.join(LOG);
    let data_set = directory.data_set()?;
    let owner = log::owner(&log)?.flatten().map(|owner| owner.data_set);
    if data_set != manifest.data_set || owner.is_some_and(|owner| owner != data_set) {
        return Err(broken("directory and log are of different data sets".to_owned()));
    }
    if !manifest.ends.is_empty() {
        let ids: Vec<u64> = log::journal_folders(&log)?.into_iter().map(|(id, _)| id).collect();
        if !manifest.ends.iter().map(|(id, _)| *id).eq(ids) {
            return Err(broken("its logs are others".to_owned()));
        }
        if let Some(more) = unlisted(&log, &manifest).map_err(|error| failed(&log, &error))? {
            return Err(broken(format!("{} does not belong to it", more.display())));
        }
    }
    for (journal, position) in directory.archive_journals()? {
        let end = manifest.ends.iter().find(|(id, _)| *id == journal).map(|(_, end)| *end);
        if end.is_some_and(|end| position.0 > end) {
            let what = format!("the index of archives knows of {} in a log that ends at {end:?}", position.0);
            return Err(broken(what));
        }
    }
    Ok(whole)
}

/// Uploads that are looked up at once.
const PAGE: usize = 1000;

/// Compares the uploaded files with what the directory knows of them, and of those in an object store what is written of them.
/// Returns how many files and objects there are.
fn verify_uploads(backup: &Path, directory: &Directory, bytes: &mut u64) -> Result<(u64, u64), DataError> {
    let not_whole =
        |error: io::Error| DataError::NotWhole { backup: backup.to_owned(), what: error.to_string() };
    let mut listed = Listed::open(&UploadFiles::of(backup)).map_err(not_whole)?;
    let (mut files, mut objects, mut after) = (0, 0, None);
    loop {
        let page = directory.uploads(after.as_ref(), PAGE)?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for upload in &page {
            if let Some(listed) = &mut listed
                && let Some(found) = listed.find(&upload.id).map_err(not_whole)?
            {
                if found != (upload.bytes, upload.checksum) {
                    let what = format!("the list of objects says something else of {}", upload.id);
                    return Err(DataError::NotWhole { backup: backup.to_owned(), what });
                }
                objects += 1;
                continue;
            }
            let path = UploadFiles::of(backup).path(&upload.id);
            let broken = |what: String| DataError::NotWhole {
                backup: backup.to_owned(),
                what: format!("{} {what}", path.display()),
            };
            let found = uploads::read_back(backup, &upload.id);
            let found = found.map_err(|error| broken(format!("cannot be read: {error}")))?;
            if found != (upload.bytes, upload.checksum) {
                return Err(broken("has other contents".to_owned()));
            }
            files += 1;
            *bytes += upload.bytes;
        }
    }
    listed.map_or(Ok(()), Listed::finish).map_err(not_whole)?;
    Ok((files, objects))
}

/// Length of a file, and the checksum of so many bytes at its beginning.
fn read(path: &Path, used: u64) -> io::Result<(u64, u32)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut rest = file.take(used);
    let (mut piece, mut checksum) = (vec![0; 64 << 10], 0);
    loop {
        match rest.read(&mut piece)? {
            0 => return Ok((length, checksum)),
            read => checksum = crc32c::crc32c_append(checksum, &piece[..read]),
        }
    }
}

/// A segment that the manifest does not name.
fn unlisted(log: &Path, manifest: &Manifest) -> io::Result<Option<PathBuf>> {
    let listed: HashSet<PathBuf> = manifest.segments.iter().map(|segment| log.join(&segment.path)).collect();
    let folders: HashSet<PathBuf> =
        listed.iter().filter_map(|path| path.parent().map(Path::to_owned)).collect();
    for folder in folders {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "seg") && !listed.contains(&path) {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}
