//! How much of each segment an archive holds: what decides when a segment can go.

use std::collections::VecDeque;

/// What is held of one segment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SegmentTally {
    /// Messages.
    pub records: u64,
    /// Bytes that they need; a text that two share counts for both.
    pub bytes: u64,
    /// No id in it is greater.
    pub newest: u64,
}

impl SegmentTally {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            records: self.records + other.records,
            bytes: self.bytes + other.bytes,
            newest: self.newest.max(other.newest),
        }
    }

    /// Adds a message.
    pub(crate) fn add(&mut self, bytes: u64, id: u64) {
        *self = self.and(Self { records: 1, bytes, newest: id });
    }

    /// Takes messages out.
    pub(crate) fn take(&mut self, records: u64, bytes: u64) {
        self.records = self.records.saturating_sub(records);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Segments, by base.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(pub(super) VecDeque<(u64, SegmentTally)>);

impl Tally {
    /// The last that does not begin after a position.
    #[inline]
    fn at_or_before(&self, position: u64) -> Option<usize> {
        let after = match self.0.back() {
            Some((base, _)) if *base <= position => self.0.len(),
            _ => self.0.partition_point(|(base, _)| *base <= position),
        };
        after.checked_sub(1)
    }

    /// The segment that begins here.
    #[inline]
    pub(super) fn of(&mut self, base: u64) -> &mut SegmentTally {
        let found = self.at_or_before(base);
        let at = match found {
            Some(at) if self.0[at].0 == base => at,
            _ => {
                let at = found.map_or(0, |at| at + 1);
                self.0.insert(at, (base, SegmentTally::default()));
                at
            }
        };
        &mut self.0[at].1
    }

    /// Where the segment of something begins that lies at a position and was added.
    pub(super) fn segment_of(&self, position: u64) -> Option<u64> {
        self.at_or_before(position).map(|at| self.0[at].0)
    }

    /// Takes messages out of the segment in which this position lies.
    pub(super) fn take(&mut self, position: u64, records: u64, bytes: u64) {
        if let Some(at) = self.at_or_before(position) {
            self.0[at].1.take(records, bytes);
        }
    }

    /// What is held of the segment that begins here.
    pub(super) fn get(&self, base: u64) -> SegmentTally {
        match self.at_or_before(base).map(|at| self.0[at]) {
            Some((found, tally)) if found == base => tally,
            _ => SegmentTally::default(),
        }
    }

    /// The segments before this position are gone.
    pub(super) fn drop_before(&mut self, position: u64) {
        while self.0.front().is_some_and(|(base, _)| *base < position) {
            self.0.pop_front();
        }
    }
}
