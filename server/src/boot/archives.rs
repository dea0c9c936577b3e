//! What archives need beside the logs: how much of each segment they hold, and the threads that read them.

use std::sync::Arc;

use whimbrel_storage::archive::Tallies;
use whimbrel_storage::archive::readers::{Folders, Readers};
use whimbrel_storage::data;
use whimbrel_storage::directory::Directory;
use whimbrel_storage::log::{LogError, journal_folders, sealed_journals};

use crate::config::Config;
use crate::running::error::BootError;
use crate::watch::archives::Archives;

/// How much of each segment the index of the archives holds.
pub(super) fn tallies(directory: &Directory) -> Result<Arc<Tallies>, BootError> {
    Ok(Arc::new(Tallies::of(directory)?))
}

/// Starts the threads that read archives, once the logs are open. `None`: there are no archives.
pub(super) fn start(
    config: &Config,
    directory: &Directory,
    tallies: &Arc<Tallies>,
) -> Result<Option<Archives>, LogError> {
    if !config.archive.enabled {
        return Ok(None);
    }
    let log = config.data.join(data::LOG);
    let folders = Arc::new(Folders::new(journal_folders(&log)?).with_sealed(sealed_journals(&log)?));
    let (threads, queue) = (config.archive.readers as usize, config.archive.queries as usize);
    let readers = Arc::new(Readers::start(directory, &folders, threads, queue)?);
    Ok(Some(Archives { readers, tallies: tallies.clone(), folders, log }))
}
