//! Archives, as the statistics see them, and files that nobody needs any more.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use whimbrel_storage::archive::Tallies;
use whimbrel_storage::archive::gather::Gathering;
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
    /// What gathers, if that is on.
    pub gathering: Option<Arc<Gathering>>,
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
        if let Ok(rows) = directory.archive_rows_to_gather() {
            cells.archive_to_gather.set(rows);
        }
        self.look_at_gathering(cells);
    }

    fn look_at_gathering(&self, cells: &ServerMetrics) {
        let Some(metrics) = self.gathering.as_ref().map(|gathering| gathering.metrics()) else { return };
        for (cell, value) in [
            (&cells.archive_gathered, &metrics.messages),
            (&cells.archive_gathered_files, &metrics.files),
            (&cells.archive_gathered_bytes, &metrics.bytes),
            (&cells.archive_gather_left, &metrics.left),
            (&cells.archive_gather_pressed, &metrics.pressed),
            (&cells.archive_gather_sparse, &metrics.sparse),
            (&cells.archive_gather_failed, &metrics.failures),
            (&cells.archive_gather_no_room, &metrics.no_room),
        ] {
            cell.set(value.load(Ordering::Relaxed));
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
