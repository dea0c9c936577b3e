//! The log in which texts of archives lie together, actor by actor: copies of what workers' logs had first
//! (`crate::archive::gather`). It has files that nobody ever appends to, and is to all readers a log that is not written to.

use std::io;
use std::path::{Path, PathBuf};

use super::{Damage, LogError};
use crate::journal::format::layout::Layout;
use crate::journal::format::record::Seed;
use crate::journal::format::segment::{HEADER_BYTES, Header, base_of, file_name};
use crate::journal::live::files::{Files, PARTIAL, System};
use crate::journal::open::scan::{Walk, last_used};

/// Name of a file that is being written.
const UNFINISHED: &str = "gathering";

/// Where it lies.
#[derive(Clone, Debug)]
pub(crate) struct GatheredLog {
    /// Its id.
    pub(crate) journal: u64,
    /// Its folder.
    pub(crate) folder: PathBuf,
}

impl GatheredLog {
    /// The file that is being written.
    pub(crate) fn unfinished(&self) -> PathBuf {
        self.folder.join(UNFINISHED)
    }

    fn remove_unfinished(&self, files: &dyn Files) -> Result<(), LogError> {
        let names = files.list(&self.folder).map_err(|error| LogError::io("read", &self.folder, error))?;
        for name in names.iter().filter(|name| name.starts_with(UNFINISHED) || name.ends_with(PARTIAL)) {
            let path = self.folder.join(name);
            files.remove(&path).map_err(|error| LogError::io("remove", &path, error))?;
        }
        Ok(())
    }

    /// Where its files begin, in order.
    ///
    /// # Errors
    /// Its folder cannot be read.
    pub(crate) fn bases(&self, files: &dyn Files) -> Result<Vec<u64>, LogError> {
        let names = files.list(&self.folder).map_err(|error| LogError::io("read", &self.folder, error))?;
        let mut bases: Vec<u64> = names.iter().filter_map(|name| base_of(name)).collect();
        bases.sort_unstable();
        Ok(bases)
    }
}

/// The gathered log of a folder, which is made if there is none. What was being written to it is removed. The logs must be open
/// in this process, and nobody else may write their layout meanwhile.
///
/// # Errors
/// There are no logs; they cannot be written.
pub(crate) fn make_gathered(
    files: &dyn Files,
    folder: &Path,
    random_id: &dyn Fn() -> Result<u64, LogError>,
) -> Result<GatheredLog, LogError> {
    let missing = || LogError::io("read the logs in", folder, std::io::ErrorKind::NotFound.into());
    let mut layout = Layout::read(files, folder)?.ok_or_else(missing)?;
    let log = match layout.gathered() {
        Some(log) => log,
        None => layout.make_gathered(files, folder, random_id()?)?,
    };
    let log = GatheredLog { journal: log.log_id, folder: log.folder(folder) };
    log.remove_unfinished(files)?;
    Ok(log)
}

/// Removes what was being written to the gathered log, if there is one: whether anything is gathered from now on or not, nobody
/// would ever take an erased text out of it.
///
/// # Errors
/// The folder of the gathered log cannot be read, or the file cannot be removed.
pub(super) fn remove_unfinished(files: &dyn Files, folder: &Path, layout: &Layout) -> Result<(), LogError> {
    let log = layout.gathered().map(|log| GatheredLog { journal: log.log_id, folder: log.folder(folder) });
    log.map_or(Ok(()), |log| log.remove_unfinished(files))
}

/// The id of the gathered log of a folder; `None`: nothing was ever gathered there.
///
/// # Errors
/// The layout cannot be read.
pub fn gathered_journal(folder: &Path) -> Result<Option<u64>, LogError> {
    Ok(Layout::read(&System, folder)?.and_then(|layout| layout.gathered()).map(|log| log.log_id))
}

/// What the gathered log holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct GatheredStats {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Valid records.
    pub records: u64,
}

/// Reads all records of the gathered log of a folder and checks them; also returns what cannot be read. Nothing, where there is
/// no such log.
///
/// # Errors
/// The layout cannot be read, or the folder of the gathered log.
pub(super) fn verify(folder: &Path) -> Result<(GatheredStats, Vec<Damage>), LogError> {
    let (mut stats, mut damage) = (GatheredStats::default(), Vec::new());
    let log = Layout::read(&System, folder)?.and_then(|layout| layout.gathered());
    let Some(log) = log.map(|log| GatheredLog { journal: log.log_id, folder: log.folder(folder) }) else {
        return Ok((stats, damage));
    };
    for base in log.bases(&System)? {
        let path = log.folder.join(file_name(base));
        let map = match System.view(&path) {
            Ok(map) => map,
            // A running server has removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(LogError::io("open", &path, error)),
        };
        stats.files += 1;
        stats.bytes += map.len() as u64;
        let found = |offset: usize, bytes: usize, what: &'static str| Damage {
            path: path.clone(),
            offset: offset as u64,
            bytes: bytes as u64,
            what,
        };
        let header = Header::decode(map.bytes());
        if !header.is_ok_and(|header| header.log_id == log.journal && header.base == base) {
            damage.push(found(0, HEADER_BYTES, "the header is not that of this file"));
        }
        // Records follow one another without gaps; behind the last one there is nothing.
        let mut end = HEADER_BYTES;
        for raw in Walk::new(map.bytes(), Seed::new(log.journal), base, 0) {
            let offset = (raw.position - base) as usize;
            if offset > end {
                damage.push(found(end, offset - end, UNREADABLE));
            }
            end = offset + raw.stored_bytes() as usize;
            stats.records += 1;
        }
        let rest = map.bytes().get(end..).unwrap_or_default();
        if let Some(last) = last_used(rest) {
            damage.push(found(end, last + 1, UNREADABLE));
        }
    }
    Ok((stats, damage))
}

/// What is said of gathered messages that are not there.
const UNREADABLE: &str = "gathered messages cannot be read";
