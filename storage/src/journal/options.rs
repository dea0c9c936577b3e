//! Settings of the logs.

use super::error::LogError;

/// What [`Log::committed`](crate::log::Log::committed) waits for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Durability {
    /// The disk: what is committed survives a power cut.
    #[default]
    Disk,
    /// Nothing: what is committed survives the end of the process, however sudden, but not that of the machine.
    Process,
}

/// Settings of the logs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of a segment made from now on. A multiple of 4,096 from 64 KiB to 1 GiB.
    pub segment_bytes: u64,
    /// What a commit waits for.
    pub durability: Durability,
    /// Most bytes of records that may wait for one actor; at most 16 GiB.
    pub user_bytes_max: u64,
    /// Most messages that may wait for one actor; at most 100,000,000.
    pub user_messages_max: u64,
    /// Most bytes of segments of each log. Two more segments may be used for trimming and compacting.
    pub log_bytes_max: u64,
    /// Most bytes of one payload; at most a quarter of a segment, less 64.
    pub payload_bytes_max: usize,
    /// Most bytes a second that compaction reads and writes again, for each log.
    pub compaction_bytes_per_second: u64,
    /// A checkpoint is written after so many appended bytes; 0: only when the log is closed.
    pub checkpoint_bytes: u64,
    /// [`Report::streams`](crate::log::Report::streams) tells of messages younger than this at the time of opening; 0: of none.
    pub resume_window_ms: u64,
    /// Milliseconds since 1970 by the caller's clock, as the log is opened: where ids go on, and which streams are young.
    /// Later times are those of [`Message::time_ms`](crate::log::Message::time_ms) and
    /// [`Log::maintain`](crate::log::Log::maintain).
    pub now_ms: u64,
}

impl Default for Options {
    /// Segments of 64 MiB, commits on disk, 256 MiB and 1,000,000 messages for each user, 16 GiB for each log, 1 MiB
    /// for a payload, compaction at 16 MiB/s, checkpoints each 256 MiB, ten minutes to resume; the clock is to be set.
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            durability: Durability::Disk,
            user_bytes_max: 256 << 20,
            user_messages_max: 1_000_000,
            log_bytes_max: 16 << 30,
            payload_bytes_max: 1 << 20,
            compaction_bytes_per_second: 16 << 20,
            checkpoint_bytes: 256 << 20,
            resume_window_ms: 600_000,
            now_ms: 0,
        }
    }
}

/// Smallest segment.
pub const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Largest segment.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// What is checked: tests have smaller ones, so that they fill many.
const SEGMENT_BYTES_FLOOR: u64 = if cfg!(test) { 8 << 10 } else { SEGMENT_BYTES_MIN };
/// A segment is a multiple of this, the page of the machines we run on.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// What the index can count of one user.
const USER_BYTES_LIMIT: u64 = 16 << 30;
const USER_MESSAGES_LIMIT: u64 = 100_000_000;

impl Options {
    /// Whether the settings are within their limits.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        let refuse = |what: String| Err(LogError::Options { what });
        if !(SEGMENT_BYTES_FLOOR..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes)
            || !self.segment_bytes.is_multiple_of(PAGE_BYTES)
        {
            return refuse(format!(
                "a segment of {} bytes; allowed are multiples of {PAGE_BYTES} from {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}",
                self.segment_bytes
            ));
        }
        if self.payload_bytes_max as u64 + 64 > self.segment_bytes / 4 {
            return refuse(format!(
                "payloads of {} bytes in segments of {}; allowed is a quarter of a segment, less 64",
                self.payload_bytes_max, self.segment_bytes
            ));
        }
        if self.user_bytes_max > USER_BYTES_LIMIT || self.user_messages_max > USER_MESSAGES_LIMIT {
            return refuse(format!(
                "{} bytes or {} messages for a user; allowed are {USER_BYTES_LIMIT} and {USER_MESSAGES_LIMIT}",
                self.user_bytes_max, self.user_messages_max
            ));
        }
        if self.log_bytes_max < 2 * self.segment_bytes {
            return refuse(format!(
                "a log of {} bytes at most; it needs two segments, {} bytes",
                self.log_bytes_max,
                2 * self.segment_bytes
            ));
        }
        Ok(())
    }
}
