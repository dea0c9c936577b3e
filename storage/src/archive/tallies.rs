//! What archives hold of each segment by the rows that the directory has, of all journals of a server: what threads that
//! write the directory tell, and workers and retention ask.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::tally::{SegmentTally, Tally};
use crate::directory::{Directory, DirectoryError};
use crate::log::{Position, Sequence};

/// What the rows hold of a segment, after a commit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SegmentHeld {
    /// Id of the journal.
    pub journal: u64,
    /// Where the segment begins.
    pub segment: Position,
    /// What rows hold of it; with no records, nothing.
    pub held: SegmentTally,
}

/// See the module. Shared by all threads.
#[derive(Debug, Default)]
pub struct Tallies {
    changes: AtomicU64,
    journals: Mutex<HashMap<u64, BTreeMap<u64, SegmentTally>>>,
    /// Up to where rows have everything of each journal, as of the opening.
    indexed: HashMap<u64, Position>,
    /// Blocks of sealed journals that wait for the directory.
    expected: Mutex<HashMap<u64, u64>>,
    /// There are rows of what is gone.
    wants_sweep: AtomicBool,
}

impl Tallies {
    /// As the directory has them: [`Directory::archive_segments`], [`Directory::archive_journals`].
    #[must_use]
    pub fn new(all: &[SegmentHeld], indexed: &[(u64, Position)]) -> Self {
        let tallies = Self { indexed: indexed.iter().copied().collect(), ..Self::default() };
        tallies.apply(all);
        tallies
    }

    /// As a directory has them.
    ///
    /// # Errors
    /// The directory cannot be read or is damaged.
    pub fn of(directory: &Directory) -> Result<Self, DirectoryError> {
        Ok(Self::new(&directory.archive_segments()?, &directory.archive_journals()?))
    }

    /// Up to where rows have everything of a journal.
    pub(super) fn indexed_to(&self, journal: u64) -> Position {
        self.indexed.get(&journal).copied().unwrap_or_default()
    }

    /// A block of a sealed journal is in memory alone.
    pub(super) fn expect(&self, journal: u64) {
        *self.expected.lock().unwrap_or_else(PoisonError::into_inner).entry(journal).or_default() += 1;
    }

    /// Such a block is in a row now.
    pub(super) fn answer(&self, journal: u64) {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(blocks) = expected.get_mut(&journal) {
            *blocks = blocks.saturating_sub(1);
        }
    }

    /// There are rows of messages that are gone: whoever removes them
    /// ([`WriteTransaction::sweep_archive`](crate::directory::WriteTransaction::sweep_archive)) is to do it soon.
    pub fn want_sweep(&self) {
        self.wants_sweep.store(true, Ordering::Relaxed);
    }

    /// Whether [`Tallies::want_sweep`] was called since this was called last.
    #[must_use]
    pub fn take_wanted_sweep(&self) -> bool {
        self.wants_sweep.swap(false, Ordering::Relaxed)
    }

    /// Whether an archive needs a segment of a sealed journal: for
    /// [`retire_sealed`](crate::log::retire_sealed).
    #[must_use]
    pub fn needs(&self, journal: u64, segment: Position) -> bool {
        let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        if expected.get(&journal).is_some_and(|blocks| *blocks > 0) {
            return true;
        }
        drop(expected);
        self.journals().get(&journal).is_some_and(|segments| segments.contains_key(&segment.0))
    }

    fn journals(&self) -> MutexGuard<'_, HashMap<u64, BTreeMap<u64, SegmentTally>>> {
        // Nothing is left half-done in there: a panic elsewhere does not make it worse.
        self.journals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what a commit has changed. To be called in the order of the commits.
    pub fn apply(&self, changed: &[SegmentHeld]) {
        if changed.is_empty() {
            return;
        }
        let mut journals = self.journals();
        for SegmentHeld { journal, segment, held } in changed {
            let segments = journals.entry(*journal).or_default();
            if held.records == 0 {
                segments.remove(&segment.0);
            } else {
                segments.insert(segment.0, *held);
            }
        }
        journals.retain(|_, segments| !segments.is_empty());
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// What is held of a journal, if that has changed since `seen`, which is brought up to date.
    pub(super) fn of_journal(&self, journal: u64, seen: &mut u64) -> Option<Tally> {
        let changes = self.changes.load(Ordering::Acquire);
        if *seen == changes {
            return None;
        }
        *seen = changes;
        let journals = self.journals();
        let segments = journals.get(&journal).into_iter().flatten();
        Some(Tally(segments.map(|(base, tally)| (*base, *tally)).collect()))
    }

    /// When the newest message was received that lies in the oldest segment of which rows hold something: the oldest archived
    /// message is as old at least. In milliseconds since 1970; `None`: there are no rows.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<u64> {
        let journals = self.journals();
        let first = journals.values().filter_map(|segments| segments.values().next());
        first.map(|tally| Sequence(tally.newest).time_ms()).min()
    }

    /// What is held of each segment of a journal, by base.
    #[must_use]
    pub fn segments(&self, journal: u64) -> Vec<(Position, SegmentTally)> {
        let journals = self.journals();
        let segments = journals.get(&journal).into_iter().flatten();
        segments.map(|(base, tally)| (Position(*base), *tally)).collect()
    }

    /// Journals of which something is held.
    #[must_use]
    pub fn journal_ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.journals().keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// All that rows hold.
    #[must_use]
    pub fn total(&self) -> SegmentTally {
        let journals = self.journals();
        journals
            .values()
            .flat_map(BTreeMap::values)
            .fold(SegmentTally::default(), |all, tally| all.and(*tally))
    }
}
