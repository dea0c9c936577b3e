//! Expiry by age: a slow walk through the segments that may hold something old.

use super::Queue;
use crate::actor::ActorId;
use crate::journal::{Entry, Journal, What};
use crate::log::{Flags, Position, Record, Sequence};

/// How far the walk has come.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    /// In the segment with this base.
    segment: u64,
    /// Where to go on; 0: at its beginning.
    next: u64,
    /// The oldest message that it has seen there and left.
    time_ms_min: u64,
}

impl Queue {
    /// Looks for a message that was received before `before_ms` and may expire; at `records_left` records at most, which
    /// is counted down. Gives it to `expired` and returns whose it is: it is to be trimmed.
    pub(crate) fn next_expired(
        &mut self,
        journal: &Journal,
        before_ms: u64,
        records_left: &mut usize,
        expired: &mut dyn FnMut(Record<'_>),
    ) -> Option<(ActorId, Sequence)> {
        let mut at = self.tally.0.partition_point(|segment| segment.base < self.expiry.segment);
        let mut wrapped = false;
        while *records_left > 0 {
            let Some(segment) = self.tally.0.get(at).copied() else {
                if wrapped {
                    return None;
                }
                (at, wrapped) = (0, true);
                continue;
            };
            if segment.records == 0 || segment.time_ms_min >= before_ms {
                at += 1;
                continue;
            }
            let base = segment.base;
            if self.expiry.segment != base || self.expiry.next == 0 {
                self.expiry = Expiry { segment: base, next: base, time_ms_min: u64::MAX };
            }
            let Some((entry, next)) = journal.next_entry(Position(base), Position(self.expiry.next)) else {
                self.tally.0[at].time_ms_min = self.expiry.time_ms_min;
                self.expiry.next = 0;
                at += 1;
                continue;
            };
            *records_left -= 1;
            self.expiry.next = next.0;
            let Some(record) = self.can_expire(journal, &entry) else { continue };
            if record.time_ms < before_ms {
                expired(record);
                return Some((record.actor, record.sequence));
            }
            self.expiry.time_ms_min = self.expiry.time_ms_min.min(record.time_ms);
        }
        None
    }

    fn can_expire<'a>(&self, journal: &'a Journal, entry: &Entry<'a>) -> Option<Record<'a>> {
        let record = match entry.what {
            What::Message(record) => record,
            What::Reference { .. } => self.with_text(journal, entry).ok()?,
            _ => return None,
        };
        let waits = self.waits_at(record.actor, record.sequence, record.position);
        (waits && !record.flags.has(Flags::NO_EXPIRY)).then_some(record)
    }
}
