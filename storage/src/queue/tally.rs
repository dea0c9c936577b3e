//! How much waits in each segment of the journal: what decides when a segment can go.

use std::collections::VecDeque;

use crate::journal::Holding;

/// What is known of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Segment {
    /// Position of its first byte.
    pub(super) base: u64,
    /// Records in it that are needed.
    pub(super) records: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// No message in it that waits is older, those that do not expire aside; `u64::MAX` for none.
    pub(super) time_ms_min: u64,
}

/// Segments in which something was needed once, by base.
#[derive(Debug, Default)]
pub(super) struct Tally(pub(super) VecDeque<Segment>);

impl Tally {
    /// The first that begins after a position.
    #[inline]
    fn after(&self, position: u64) -> usize {
        // Mostly the last one is meant.
        match self.0.back() {
            Some(last) if last.base <= position => self.0.len(),
            _ => self.0.partition_point(|segment| segment.base <= position),
        }
    }

    #[inline]
    fn at(&mut self, base: u64) -> &mut Segment {
        // New records go where the last one went.
        let last = self.0.len().wrapping_sub(1);
        match self.0.get(last) {
            Some(segment) if segment.base == base => &mut self.0[last],
            _ => self.at_other(base),
        }
    }

    fn at_other(&mut self, base: u64) -> &mut Segment {
        let after = self.after(base);
        let is_known = after.checked_sub(1).is_some_and(|at| self.0[at].base == base);
        if !is_known {
            self.0.insert(after, Segment { base, records: 0, bytes: 0, time_ms_min: u64::MAX });
        }
        &mut self.0[if is_known { after - 1 } else { after }]
    }

    /// Accounts for a record that is needed. `time_ms`: of a message that can expire; `u64::MAX` for others.
    #[inline]
    pub(super) fn add(&mut self, base: u64, bytes: u64, time_ms: u64) {
        let segment = self.at(base);
        segment.records += 1;
        segment.bytes += bytes;
        segment.time_ms_min = segment.time_ms_min.min(time_ms);
    }

    /// Accounts for a record that no longer is.
    #[inline]
    pub(super) fn take(&mut self, position: u64, bytes: u64) {
        let Some(at) = self.after(position).checked_sub(1) else { return };
        let segment = &mut self.0[at];
        segment.records = segment.records.saturating_sub(1);
        segment.bytes = segment.bytes.saturating_sub(bytes);
    }

    /// Which segment holds a record that is needed and begins at this position.
    pub(super) fn segment_of(&self, position: u64) -> Option<u64> {
        self.after(position).checked_sub(1).map(|at| self.0[at].base)
    }

    /// What is needed in a segment.
    pub(super) fn held(&self, base: u64) -> Holding {
        match self.after(base).checked_sub(1).map(|at| self.0[at]) {
            Some(Segment { base: found, records, bytes, .. }) if found == base => Holding { records, bytes },
            _ => Holding::default(),
        }
    }

    /// Bytes of records that are needed.
    pub(super) fn held_bytes(&self) -> u64 {
        self.0.iter().map(|segment| segment.bytes).sum()
    }

    /// The segments before this position are gone.
    pub(super) fn drop_before(&mut self, position: u64) {
        while self.0.front().is_some_and(|first| first.base < position) {
            self.0.pop_front();
        }
    }
}
