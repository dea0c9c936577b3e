//! The log of messages: what the server has taken and the recipient has not yet acknowledged.
//!
//! ```text
//!  worker ── append, trim ──▶ Log ──▶ segment (memory map) ◀── msync ── Syncer ── committed ──▶ worker
//!     ▲                        │                                          │
//!     └── records, in place ◀──┴── index: user → where his messages lie   └── keeper: spare segments, deletions,
//!                                                                             checkpoints
//! ```
//!
//! Each worker has one log. Before a message is delivered it is appended to the log of its recipient's home; its sender is
//! told that it was taken once it is committed; the recipient's acknowledgement trims it. What is neither trimmed nor
//! expired waits, over any crash, and is read from the map when the recipient is there.
//!
//! | module | what |
//! |---|---|
//! | `message`, `error`, `options`, `metrics` | what callers see |
//! | `record`, `segment` | the format: docs/log-format.md |
//! | `map`, `files` | memory maps; all that is asked of the file system |
//! | `index` | what waits for whom, and where it lies |
//! | `shard`, `trim`, `read`, `expire`, `maintain` | a log and what its worker does with it |
//! | `shared`, `syncer` | what the worker shares with the threads that commit and keep files |
//! | `layout`, `opening`, `recovery`, `scan`, `replay`, `checkpoint`, `reshard` | from files to a log |
//! | `orphans` | whose messages they are; those of nobody |
//! | `handed_over` | the same when this process had it open a moment ago |
//! | `inspect`, `backup` | looking at logs, live ones too, and copying them |
//!
//! A log's states: it takes messages; it has no room ([`AppendError::Full`], [`AppendError::LogQuota`]: reading,
//! trimming and compaction go on, and appending does once there is room); it has failed ([`AppendError::Failed`]: a
//! commit did not reach the disk, and what the system then keeps in memory cannot be trusted to reach it later. Nothing is
//! taken or committed until [`Log::reopen`]; reading goes on).

mod backup;
mod checkpoint;
mod error;
mod expire;
mod files;
mod handed_over;
mod index;
mod inspect;
mod layout;
mod maintain;
#[expect(unsafe_code, reason = "memory maps of segments")]
mod map;
mod message;
mod metrics;
mod opening;
mod options;
mod orphans;
mod read;
mod record;
mod recovery;
mod replay;
mod reshard;
mod scan;
mod segment;
mod shard;
mod shared;
mod syncer;
#[cfg(test)]
mod tests;
mod trim;

pub use backup::{BackedUp, backup};
pub use error::{AppendError, Damage, LogError};
pub use index::MESSAGE_BYTES_MAX as INDEX_MESSAGE_BYTES_MAX;
pub use inspect::{Dumped, LogStats, Tail, Verified, dump, stats, verify};
pub use layout::Owner;
pub use maintain::Maintained;
pub use message::{Appended, Backlog, Flags, Message, Origin, Position, Record, Sequence, Trimmed};
pub use metrics::{CLASSES, Histogram, Metrics};
pub use opening::{Opened, Progress, Report, StreamSeen};
pub use options::{Durability, Options, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
pub use orphans::{NOBODY, Orphans, belong_to, discard, owner};
pub use read::Pending;
pub use shard::Log;
pub use syncer::Syncer;
