//! Reading what waits for a user, straight from the memory maps.

use crate::directory::UserId;

use super::error::Damage;
use super::index::{Slot, SlotsFrom};
use super::message::{Record, Sequence};
use super::record::Raw;
use super::segment::find;
use super::shard::Log;

/// A user's waiting messages, oldest first. A record that the disk gives back damaged comes as an error; what is
/// after it follows.
#[derive(Debug)]
pub struct Pending<'a> {
    log: &'a Log,
    user: UserId,
    slots: SlotsFrom<'a>,
    bytes_left: u64,
}

impl<'a> Iterator for Pending<'a> {
    type Item = Result<Record<'a>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes_left == 0 {
            return None;
        }
        let slot = self.slots.next()?;
        let record = self.log.record_at(self.user, slot);
        let bytes = record.as_ref().map_or(0, |record| record.payload.len() as u64);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        Some(record)
    }
}

impl Log {
    /// All that waits for a user, oldest first, straight from the memory map.
    #[must_use]
    pub fn pending(&self, user: UserId) -> Pending<'_> {
        self.read(user, Sequence::ZERO, u64::MAX)
    }

    /// What waits for a user after `after`, oldest first: as many messages as begin within `payload_bytes_max` bytes
    /// of payload, so at least one if there is one. To go on, call it again with the last sequence it gave.
    #[must_use]
    pub fn read(&self, user: UserId, after: Sequence, payload_bytes_max: u64) -> Pending<'_> {
        let slots = match after.0.checked_add(1) {
            Some(from) => self.index.slots_from(user, from),
            None => SlotsFrom::default(),
        };
        Pending { log: self, user, slots, bytes_left: payload_bytes_max }
    }

    /// The record of a waiting message.
    pub(super) fn record_at(&self, user: UserId, slot: Slot) -> Result<Record<'_>, Damage> {
        let lost = |what| Damage {
            path: self.shared.folder().to_owned(),
            offset: slot.position,
            bytes: slot.bytes(),
            what,
        };
        let segment = find(&self.segments, slot.position).and_then(|at| self.segments.get(at));
        let Some(segment) = segment else { return Err(lost("the segment is gone")) };
        let offset = slot.position - segment.base;
        let bytes = segment.map.bytes().get(offset as usize..).unwrap_or_default();
        let raw = Raw::parse(bytes, self.seed, slot.position).ok();
        let message = raw.as_ref().and_then(Raw::message);
        message.filter(|record| record.user == user && record.sequence.0 == slot.sequence).ok_or_else(|| {
            Damage {
                path: segment.path.clone(),
                offset,
                bytes: slot.bytes(),
                what: "a waiting message cannot be read back",
            }
        })
    }
}
