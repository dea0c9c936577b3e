//! What the records of a journal come to, besides what its readers know: ids, segments that should be there, and how far
//! the streams of senders had come. Used by opening, and by the tools that only look.

use super::super::format::checkpoint::Checkpoint;
use super::super::format::record::{Kind, Raw};

/// The newest stanza of each stream. The server chooses their names, so the table needs no secret.
pub(crate) type Streams = hashbrown::HashMap<u64, u32, foldhash::fast::FixedState>;

/// Notes a stanza of a stream. Numbers go round at 2^32; compaction may have moved an older one behind a newer.
pub(crate) fn note_stream(streams: &mut Streams, stream: u64, number: u32) {
    let newest = streams.entry(stream).or_insert(number);
    if (number.wrapping_sub(*newest) as i32) > 0 {
        *newest = number;
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// Ids seen were less than this.
    next_id: u64,
    /// What the last mark said: ids given after it are less than this.
    ceiling: u64,
    /// The newest stanza of each resumable stream.
    pub(crate) streams: Streams,
    /// Messages younger than this count for [`Replay::streams`].
    pub(crate) streams_since_ms: u64,
    /// Records seen.
    pub(crate) records: u64,
    /// Segments from this base on should be there.
    pub(crate) first: Option<u64>,
}

impl Replay {
    /// Messages younger than this count for [`Replay::streams`].
    pub(crate) fn new(streams_since_ms: u64) -> Self {
        Self { streams_since_ms, ..Self::default() }
    }

    /// Goes on where a checkpoint was made.
    pub(crate) fn restore(&mut self, checkpoint: &Checkpoint) {
        self.next_id = checkpoint.next_id;
        self.ceiling = checkpoint.ceiling;
        self.first = Some(checkpoint.first);
    }

    /// What a checkpoint says of ids holds even if what it tells of is gone.
    pub(crate) fn ids_of(&mut self, checkpoint: &Checkpoint) {
        self.next_id = self.next_id.max(checkpoint.next_id).max(checkpoint.ceiling);
    }

    /// Takes the next record.
    pub(crate) fn apply(&mut self, raw: &Raw<'_>) {
        self.records += 1;
        match raw.kind {
            Kind::Message | Kind::Body => {
                self.next_id = self.next_id.max(raw.sequence.saturating_add(1));
                self.stream(raw);
            }
            Kind::Mark => {
                self.ceiling = raw.sequence;
                self.first = self.first.max(raw.first());
            }
            Kind::Seal => self.next_id = self.next_id.max(raw.sequence),
            Kind::Reference | Kind::Trim | Kind::TrimUpTo | Kind::Purge => {}
        }
    }

    /// All ids that were ever given are less than this, those that a crash took away included.
    pub(crate) fn ids_below(&self) -> u64 {
        self.next_id.max(self.ceiling)
    }

    /// Bytes that are missing before the first segment there is, which begins at `base`.
    pub(crate) fn missing_before(&self, base: u64) -> u64 {
        self.first.map_or(0, |first| base.saturating_sub(first))
    }

    /// Notes which stream a message came from. Returns whether it is young enough to count.
    pub(crate) fn stream(&mut self, raw: &Raw<'_>) -> bool {
        let Some(record) = raw.text().filter(|record| record.time_ms >= self.streams_since_ms) else {
            return false;
        };
        if record.origin.stream != 0 {
            note_stream(&mut self.streams, record.origin.stream, record.origin.number);
        }
        true
    }
}
