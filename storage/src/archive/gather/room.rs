//! Room: whether a file may be made, and when the oldest goes.
//!
//! All workers' logs and the gathered log together may take what all logs may, and a file more: so gathering goes on beside logs that
//! are at their limit, which let go of what has been gathered. A file is begun only if it fits into that. While the gathered log has
//! the larger part, its oldest file goes for a new one; while the logs have, nothing is gathered, since that would take the oldest
//! messages away of which the logs may have room yet. So it is where the disk has no more room before that limit is reached:
//! otherwise the logs would fill it, and lose messages that are newer than all that was gathered. The oldest file goes as well when
//! logs grow, and on a full disk. On a disk files go as long as that gives room: a snapshot, or a backup under way, may hold what is
//! removed.

use super::{Gatherer, Stepped};
use crate::archive::query::QueryError;
use crate::directory::{DirectoryError, WriteTransaction};
use crate::journal::format::segment::file_name;
use crate::log::{LogError, Position, retire_sealed_in};

/// Workers let go of what has been gathered within so many milliseconds: only then it is seen whether all take too much.
pub(super) const RELEASE_MS: u64 = 10_000;

/// When the removal of a file has given no room, the next one is tried after so many milliseconds.
const HELD_MS: u64 = 600_000;

/// How much room there is.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// Bytes that all workers' logs take.
    pub logs_bytes: u64,
    /// Most bytes that they may take together with the gathered log.
    pub bytes_max: u64,
    /// Bytes that are free on the disk.
    pub free_bytes: u64,
    /// Of these, bytes that are left to others.
    pub keep_bytes: u64,
    /// A log finds no room for another file of its own.
    pub is_full: bool,
}

impl Space {
    /// More than there can be a use for.
    pub const ENDLESS: Self =
        Self { logs_bytes: 0, bytes_max: u64::MAX, free_bytes: u64::MAX, keep_bytes: 0, is_full: false };
}

/// What is known of room.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Since when all logs have taken more than they may, or the disk has been full.
    since_ms: Option<u64>,
    /// A file that went because the disk was full.
    removed: Option<Removed>,
    /// The last one that went for a new one because the disk had no more room, and the bytes of all that have since the last new one.
    exchanged: Option<Removed>,
    exchanged_bytes: u64,
}

/// A file that went.
#[derive(Clone, Copy, Debug)]
struct Removed {
    at_ms: u64,
    bytes: u64,
    /// What was free before.
    free_bytes: u64,
}

impl Removed {
    /// Whether that has given no room, a short while ago: somebody holds the file.
    fn was_of_no_use(&self, now_ms: u64, space: Space) -> bool {
        space.free_bytes < self.free_bytes.saturating_add(self.bytes / 2)
            && now_ms < self.at_ms.saturating_add(HELD_MS)
    }
}

impl Room {
    /// Whether the oldest file, of so many bytes, is to go.
    fn is_due(&mut self, now_ms: u64, space: Space, (total, oldest): (u64, u64)) -> bool {
        let is_over = total > space.bytes_max;
        if !is_over && !space.is_full {
            (self.since_ms, self.removed) = (None, None);
            return false;
        }
        let since_ms = *self.since_ms.get_or_insert(now_ms);
        if now_ms < since_ms.saturating_add(RELEASE_MS) {
            return false;
        }
        if is_over {
            return true;
        }
        let was_of_no_use = self.removed.is_some_and(|removed| removed.was_of_no_use(now_ms, space));
        if !was_of_no_use {
            self.removed = Some(Removed { at_ms: now_ms, bytes: oldest, free_bytes: space.free_bytes });
        }
        !was_of_no_use
    }

    /// The disk has no room for a file of so many bytes beside what is left to others, and the oldest one has so many: what is to
    /// be done. `Some(false)`: the oldest is to go, `Some(true)`: enough have, and the new one takes their place.
    fn exchange(&mut self, now_ms: u64, space: Space, (bytes, oldest): (u64, u64)) -> Option<bool> {
        if self.exchanged.is_some_and(|removed| removed.was_of_no_use(now_ms, space)) {
            self.exchanged_bytes = 0;
            return None;
        }
        if self.exchanged_bytes < bytes {
            self.exchanged = Some(Removed { at_ms: now_ms, bytes: oldest, free_bytes: space.free_bytes });
            self.exchanged_bytes += oldest;
            return Some(false);
        }
        if space.free_bytes < bytes {
            return None;
        }
        (self.exchanged, self.exchanged_bytes) = (None, 0);
        Some(true)
    }
}

impl Gatherer {
    /// Whether a file of so many bytes may be begun now (`None`). If not: whether the oldest has gone for it, or there is no room.
    pub(super) fn room_for(
        &mut self,
        now_ms: u64,
        space: Space,
        bytes: u64,
    ) -> Result<Option<Stepped>, QueryError> {
        if space.is_full {
            return Ok(Some(Stepped::NoRoom));
        }
        let free = space.free_bytes.saturating_sub(space.keep_bytes);
        let (taken, most) = self.taken(space);
        let fits = taken.saturating_add(bytes) <= self.bytes_max(space);
        if fits && free >= bytes {
            (self.room.exchanged, self.room.exchanged_bytes) = (None, 0);
            return Ok(None);
        }
        let larger = self.files.first().copied().filter(|_| self.bytes() >= most / 2);
        let Some(oldest) = larger else { return Ok(Some(Stepped::NoRoom)) };
        if fits {
            match self.room.exchange(now_ms, space, (bytes, oldest.1)) {
                None => return Ok(Some(Stepped::NoRoom)),
                Some(true) => return Ok(None),
                Some(false) => {}
            }
        }
        self.drop_oldest(oldest, space).map(Some)
    }

    /// Bytes that all logs take, and how many they may: no more than the disk has for them.
    pub(super) fn taken(&self, space: Space) -> (u64, u64) {
        let free = space.free_bytes.saturating_sub(space.keep_bytes);
        let taken = space.logs_bytes.saturating_add(self.bytes());
        (taken, space.bytes_max.min(taken.saturating_add(free)))
    }

    fn bytes_max(&self, space: Space) -> u64 {
        space.bytes_max.saturating_add(self.settings.file_bytes_max)
    }

    /// Gives up the oldest file when it is to go. `None`: there is room enough; otherwise what this step has been.
    pub(super) fn make_room(&mut self, now_ms: u64, space: Space) -> Result<Option<Stepped>, QueryError> {
        let oldest = self.files.first().copied().filter(|(base, _)| !self.is_in_doubt(*base));
        let Some((oldest, bytes)) = oldest else { return Ok(None) };
        let total = space.logs_bytes.saturating_add(self.bytes());
        let space = Space { bytes_max: self.bytes_max(space), ..space };
        if !self.room.is_due(now_ms, space, (total, bytes)) {
            return Ok(self.room.since_ms.map(|_| Stepped::NoRoom));
        }
        self.drop_oldest((oldest, bytes), space).map(Some)
    }

    /// The oldest file, which begins here and has so many bytes, goes, and what rows say of it.
    fn drop_oldest(&mut self, (oldest, bytes): (u64, u64), space: Space) -> Result<Stepped, QueryError> {
        let before = Position(oldest + bytes);
        match self.forget_before(before) {
            Ok(()) => {}
            Err(error) if space.is_full && is_full(&error) => {
                // The directory may have no room either. What rows say of the file is put right once it has.
                let path = self.log.folder.join(file_name(oldest));
                let _guard = self.place.folders.exclusive();
                self.place.files.remove(&path).map_err(|error| LogError::io("remove", &path, error))?;
                self.is_reconciled = false;
            }
            Err(error) => return Err(error.into()),
        }
        self.metrics.pressed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let journal = self.log.journal;
        let _guard = self.place.folders.exclusive();
        let is_needed = |of: u64, segment: Position| of != journal || segment >= before;
        retire_sealed_in(&*self.place.files, &self.place.root, &is_needed)?;
        Ok(Stepped::Working)
    }

    /// Rows of files before a position are of no use any more.
    fn forget_before(&self, before: Position) -> Result<(), DirectoryError> {
        let journal = self.log.journal;
        let known = self.place.tallies.segments(journal).into_iter().map(|(base, _)| base);
        let known: Vec<Position> = known.filter(|base| *base < before).collect();
        let job = move |t: &mut WriteTransaction<'_>| t.drop_gathered(journal, before, &known);
        let dropped = self.write(job)?;
        self.place.tallies.apply(&dropped);
        self.place.tallies.want_sweep();
        Ok(())
    }

    /// Rows may say that their texts are in files that went when the directory could not be written, perhaps before a restart.
    /// Returns whether there were any.
    pub(super) fn reconcile(&mut self) -> Result<bool, DirectoryError> {
        if self.is_reconciled {
            return Ok(false);
        }
        let first = Position(self.files.first().map_or(self.next, |(base, _)| *base));
        let held = self.place.tallies.segments(self.log.journal);
        let is_behind = held.iter().any(|(base, _)| *base < first);
        if is_behind {
            self.forget_before(first)?;
        }
        self.is_reconciled = true;
        Ok(is_behind)
    }
}

/// Whether an error says that the disk, or the directory, has no room.
pub(super) fn is_full(error: &DirectoryError) -> bool {
    match error {
        DirectoryError::DiskRefused { .. } | DirectoryError::Full { .. } => true,
        DirectoryError::File { error } => error.is_full(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_full_disk_files_go_only_as_long_as_that_gives_room() {
        let mut room = Room::default();
        let full = Space { free_bytes: 5, is_full: true, ..Space::ENDLESS };
        let mut is_due = |now_ms, space| room.is_due(now_ms, space, (0, 1000));
        assert!(!is_due(0, full), "workers may be about to let go of something");
        assert!(is_due(RELEASE_MS, full));
        assert!(!is_due(RELEASE_MS + 1, full), "somebody holds the file");
        let freed = Space { free_bytes: 900, ..full };
        assert!(is_due(RELEASE_MS + 2, freed));
        assert!(!is_due(RELEASE_MS + 3, freed) && is_due(RELEASE_MS + 2 + HELD_MS, freed));
        assert!(!is_due(2 * HELD_MS, Space::ENDLESS) && !is_due(2 * HELD_MS, full), "it begins anew");
    }
}
