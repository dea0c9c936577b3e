//! Expiry by age: a slow walk through the segments that may hold something old.

use super::message::{Flags, Record};
use super::record::Raw;
use super::scan::Walk;
use super::segment::HEADER_BYTES;
use super::shard::Log;

impl Log {
    /// Drops messages that were received before `before_ms` (save those with [`Flags::NO_EXPIRY`]) and gives each to
    /// `expired` first. Looks at `records_max` records at most, and goes on from there the next time. Returns the
    /// number dropped.
    pub fn expire(&mut self, before_ms: u64, records_max: usize, expired: &mut dyn FnMut(Record<'_>)) -> u64 {
        let mut dropped = 0;
        let mut looked_at = 0;
        let mut at = self.segments.partition_point(|segment| segment.base < self.upkeep.expired.0);
        let mut wrapped = false;
        while looked_at < records_max {
            let Some(segment) = self.segments.get(at) else {
                if wrapped {
                    break;
                }
                (at, wrapped) = (0, true);
                continue;
            };
            if segment.live_messages == 0 || segment.time_ms_min >= before_ms {
                at += 1;
                continue;
            }
            let base = segment.base;
            if self.upkeep.expired.0 != base || self.upkeep.expired.1 == 0 {
                self.upkeep.expired = (base, HEADER_BYTES as u64);
                self.upkeep.expiry_min = u64::MAX;
            }
            let from = self.upkeep.expired.1 as usize;
            let Some(raw) = Walk::new(segment.map.bytes(), self.seed, base, from).next() else {
                self.segments[at].time_ms_min = self.upkeep.expiry_min;
                self.upkeep.expired = (base, 0);
                at += 1;
                continue;
            };
            looked_at += 1;
            self.upkeep.expired.1 = raw.position - base + raw.stored_bytes();
            if let Some(record) = self.can_expire(&raw) {
                if record.time_ms < before_ms {
                    let (user, sequence) = (record.user, record.sequence);
                    expired(record);
                    self.trim(user, sequence);
                    dropped += 1;
                } else {
                    self.upkeep.expiry_min = self.upkeep.expiry_min.min(record.time_ms);
                }
            }
        }
        dropped
    }

    fn can_expire<'a>(&self, raw: &Raw<'a>) -> Option<Record<'a>> {
        let record = raw.message()?;
        let waits = self.waits_at(record.user, record.sequence.0, raw.position);
        (waits && !record.flags.has(Flags::NO_EXPIRY)).then_some(record)
    }
}
