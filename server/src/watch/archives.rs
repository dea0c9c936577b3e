//! Archives, as the statistics see them, and files that nobody needs any more.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use whimbrel_storage::archive::Tallies;
use whimbrel_storage::archive::readers::{Folders, Readers};
use whimbrel_storage::directory::Directory;
use whimbrel_storage::log::retire_sealed;

use super::put;
use crate::clock;
use crate::stats::ServerMetrics;

/// How often files of earlier logs are looked through.
pub(super) const RETIRE_PERIOD: Duration = Duration::from_secs(60);

/// What there is to see, and to tidy, of archives.
#[derive(Clone)]
pub struct Archives {
    /// The threads that read them.
    pub readers: Arc<Readers>,
    /// What the index holds of each segment.
    pub tallies: Arc<Tallies>,
    /// Where journals lie.
    pub folders: Arc<Folders>,
    /// The folder of the logs.
    pub log: PathBuf,
}

impl Archives {
    /// Looks once.
    pub(super) fn look(&self, cells: &ServerMetrics, directory: &Directory, bytes_max: u64) {
        let (waiting, limit) = self.readers.gauge();
        let metrics = self.readers.metrics();
        let most = metrics.waiting_most.load(Ordering::Relaxed);
        put(
            (waiting as u64, most, limit as u64),
            [&cells.archive_length, &cells.archive_high, &cells.archive_limit],
        );
        let (files, most, limit) = self.readers.upkeep_gauge();
        let gauge = (files, most, limit as u64);
        put(gauge, [&cells.archive_upkeep_length, &cells.archive_upkeep_high, &cells.archive_upkeep_limit]);
        cells.archive_reads.set(metrics.reads.load(Ordering::Relaxed));
        cells.archive_read_bytes.set(metrics.read_bytes.load(Ordering::Relaxed));
        cells.archive_gone.set(metrics.gone.load(Ordering::Relaxed));
        cells.archive_damaged.set(metrics.damaged.load(Ordering::Relaxed));
        let kept = self.tallies.total();
        cells.archive_kept.set(kept.records);
        cells.archive_bytes.set(kept.bytes);
        cells.archive_bytes_limit.set(bytes_max);
        let age_ms =
            self.tallies.oldest_ms().map(|oldest_ms| clock::unix_milliseconds().saturating_sub(oldest_ms));
        cells.archive_oldest.set(age_ms.unwrap_or_default() / 1000);
        // One that cannot be read keeps the figures of before.
        if let Ok((rows, bytes)) = directory.archive_index() {
            cells.archive_index_rows.set(rows);
            cells.archive_index_bytes.set(bytes);
        }
    }

    /// Removes files of logs of earlier numbers of workers that no archive needs any more.
    pub(super) fn retire(&self) {
        let _guard = self.folders.exclusive();
        match retire_sealed(&self.log, &|journal, segment| self.tallies.needs(journal, segment)) {
            Ok(gone) => gone.into_iter().for_each(|journal| self.folders.remove(journal)),
            Err(error) => tracing::warn!(%error, "files of earlier logs cannot be removed"),
        }
    }
}
