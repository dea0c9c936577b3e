//! The log in which texts of archives lie together, actor by actor: copies of what workers' logs had first
//! (`crate::archive::gather`). It has files that nobody ever appends to, and is to all readers a log that is not written to.

use std::path::{Path, PathBuf};

use super::LogError;
use crate::journal::format::layout::Layout;
use crate::journal::format::segment::base_of;
use crate::journal::live::files::{Files, PARTIAL, System};

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
    let names = files.list(&log.folder).map_err(|error| LogError::io("read", &log.folder, error))?;
    for name in names.iter().filter(|name| name.starts_with(UNFINISHED) || name.ends_with(PARTIAL)) {
        let path = log.folder.join(name);
        files.remove(&path).map_err(|error| LogError::io("remove", &path, error))?;
    }
    Ok(log)
}

/// The id of the gathered log of a folder; `None`: nothing was ever gathered there.
///
/// # Errors
/// The layout cannot be read.
pub fn gathered_journal(folder: &Path) -> Result<Option<u64>, LogError> {
    Ok(Layout::read(&System, folder)?.and_then(|layout| layout.gathered()).map(|log| log.log_id))
}
