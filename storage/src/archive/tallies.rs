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
    /// Rises with each transaction that tells of segments: two workers may hear of theirs in another order than that of the
    /// commits. 0: as the directory had it at the opening.
    pub serial: u64,
}

/// What is known of a segment.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    serial: u64,
    /// With no records: rows held something of it a while ago, and hold nothing now.
    held: SegmentTally,
}

/// What is held of the segments of a journal, by base.
type Segments = BTreeMap<u64, Known>;

/// A segment of which nothing is held is forgotten after so many transactions. Fewer are on their way to workers: each has few at a
/// time.
const FORGET_AFTER: u64 = 4_096;

/// See the module. Shared by all threads.
#[derive(Debug, Default)]
pub struct Tallies {
    changes: AtomicU64,
    journals: Mutex<HashMap<u64, Segments>>,
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
        self.journals()
            .get(&journal)
            .is_some_and(|segments| held(segments).any(|(base, _)| base == segment.0))
    }

    fn journals(&self) -> MutexGuard<'_, HashMap<u64, Segments>> {
        // Nothing is left half-done in there: a panic elsewhere does not make it worse.
        self.journals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what a commit has changed. What a later commit has told of a segment stays.
    pub fn apply(&self, changed: &[SegmentHeld]) {
        let Some(newest) = changed.iter().map(|changed| changed.serial).max() else { return };
        let mut journals = self.journals();
        for SegmentHeld { journal, segment, held, serial } in changed {
            let known = journals.entry(*journal).or_default().entry(segment.0).or_default();
            if *serial >= known.serial {
                *known = Known { serial: *serial, held: *held };
            }
        }
        let is_known = |known: &Known| known.held.records > 0 || newest < known.serial + FORGET_AFTER;
        for segments in journals.values_mut() {
            segments.retain(|_, known| is_known(known));
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
        Some(Tally(journals.get(&journal).into_iter().flat_map(held).collect()))
    }

    /// When the newest message was received that lies in the oldest segment of which rows hold something: the oldest archived
    /// message is as old at least. In milliseconds since 1970; `None`: there are no rows.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<u64> {
        let journals = self.journals();
        let first = journals.values().filter_map(|segments| held(segments).next());
        first.map(|(_, tally)| Sequence(tally.newest).time_ms()).min()
    }

    /// What is held of each segment of a journal, by base.
    #[must_use]
    pub fn segments(&self, journal: u64) -> Vec<(Position, SegmentTally)> {
        let journals = self.journals();
        let segments = journals.get(&journal).into_iter().flat_map(held);
        segments.map(|(base, tally)| (Position(base), tally)).collect()
    }

    /// Journals of which something is held.
    #[must_use]
    pub fn journal_ids(&self) -> Vec<u64> {
        let journals = self.journals();
        let some = journals.iter().filter(|(_, segments)| held(segments).next().is_some());
        let mut ids: Vec<u64> = some.map(|(journal, _)| *journal).collect();
        ids.sort_unstable();
        ids
    }

    /// All that rows hold.
    #[must_use]
    pub fn total(&self) -> SegmentTally {
        let journals = self.journals();
        journals.values().flat_map(held).fold(SegmentTally::default(), |all, (_, tally)| all.and(tally))
    }
}

/// The segments of which something is held, by base.
fn held(segments: &Segments) -> impl Iterator<Item = (u64, SegmentTally)> {
    let some = segments.iter().filter(|(_, known)| known.held.records > 0);
    some.map(|(base, known)| (*base, known.held))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(segment: u64, records: u64, serial: u64) -> SegmentHeld {
        let held = SegmentTally { records, bytes: 100 * records, newest: 7 };
        SegmentHeld { journal: 1, segment: Position(segment), held, serial }
    }

    #[test]
    fn what_a_later_commit_has_told_stays_in_whatever_order_workers_hear_of_it() {
        let tallies = Tallies::new(&[told(64, 2, 0)], &[]);
        tallies.apply(&[told(64, 5, 2)]);
        tallies.apply(&[told(64, 0, 1)]);
        assert!(tallies.needs(1, Position(64)), "a worker that heard late does not take it away");
        assert_eq!(tallies.total().records, 5);
        tallies.apply(&[told(64, 0, 4)]);
        tallies.apply(&[told(64, 3, 3)]);
        assert!(!tallies.needs(1, Position(64)) && tallies.journal_ids().is_empty());
        tallies.apply(&[told(128, 1, 5 + FORGET_AFTER)]);
        assert_eq!(tallies.journals()[&1].len(), 1, "what nobody tells of any more is forgotten");
    }
}
