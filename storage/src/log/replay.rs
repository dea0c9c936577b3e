//! What the records of a log come to: which messages wait. Used by opening, and by the tools that only look.

use super::index::{Index, Slot};
use super::message::Flags;
use super::record::{Kind, Raw};

/// The newest stanza of each stream. The server chooses their names, so the table needs no secret.
pub(super) type Streams = hashbrown::HashMap<u64, u32, foldhash::fast::FixedState>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// What waits.
    pub(super) index: Index,
    /// Numbers given were less than this.
    pub(super) next_sequence: u64,
    /// The newest stanza of each resumable stream.
    pub(super) streams: Streams,
    /// Messages younger than this count for [`Replay::streams`].
    pub(super) streams_since_ms: u64,
    /// Records seen.
    pub(super) records: u64,
    /// Segments from this base on should be there.
    pub(super) first: Option<u64>,
}

impl Replay {
    /// Takes the next record. Returns the message's time, when it is one that can expire.
    pub(super) fn apply(&mut self, raw: &Raw<'_>) -> Option<u64> {
        self.records += 1;
        match raw.kind {
            Kind::Message => return self.message(raw),
            Kind::Trim => {
                self.index.remove(raw.user, raw.sequence);
            }
            Kind::TrimUpTo | Kind::Purge => {
                self.index.remove_up_to(raw.user, raw.sequence, |_| {});
            }
            Kind::Mark | Kind::Seal => {
                self.next_sequence = self.next_sequence.max(raw.sequence);
                self.first = self.first.max(raw.first());
            }
        }
        None
    }

    /// Bytes that are missing before the first segment there is, which begins at `base`.
    pub(super) fn missing_before(&self, base: u64) -> u64 {
        self.first.map_or(0, |first| base.saturating_sub(first))
    }

    fn message(&mut self, raw: &Raw<'_>) -> Option<u64> {
        self.next_sequence = self.next_sequence.max(raw.sequence.saturating_add(1));
        let words = (raw.stored_bytes() / 8) as u32;
        self.index.put(raw.user, Slot { sequence: raw.sequence, position: raw.position, words });
        self.stream(raw);
        let record = raw.message()?;
        (!record.flags.has(Flags::NO_EXPIRY)).then_some(record.time_ms)
    }

    /// Notes which stream a message came from. Returns whether it is young enough to count.
    pub(super) fn stream(&mut self, raw: &Raw<'_>) -> bool {
        let Some(record) = raw.message().filter(|record| record.time_ms >= self.streams_since_ms) else {
            return false;
        };
        if record.origin.stream != 0 {
            let number = record.origin.number;
            let newest = self.streams.entry(record.origin.stream).or_insert(number);
            // Numbers go round at 2^32; compaction may have moved an older one behind a newer.
            if (number.wrapping_sub(*newest) as i32) > 0 {
                *newest = number;
            }
        }
        true
    }
}
