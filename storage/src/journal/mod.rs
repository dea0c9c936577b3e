//! The journal: everything a worker has taken, in the order in which it took it.
//!
//! ```text
//!            ┌────────────────────────── Journal ──────────────────────────┐
//!  append ──▶│ segments (memory maps), written to at the end               │◀── msync ── Syncer ── committed ──▶ worker
//!            └──┬───────────────────────────────────────────────────────┬──┘              └── keeper: spare segments,
//!               ▼ each record, once, in order                           ▼                      deletions, checkpoints
//!             queue: what waits for an acknowledgement          another reader: what may be asked for later
//! ```
//!
//! A journal knows nothing of what its records are good for: its readers ([`Reader`]) do. It keeps a segment as long as one
//! of them holds something in it. Appending (`live`) stays apart from reading what was written (`open`, `inspect`): the way
//! of writing may change without the format or its readers.
//!
//! | module | what |
//! |---|---|
//! | `format` | how it lies on the disk, byte by byte: docs/log-format.md |
//! | `live` | appending, group commit, upkeep |
//! | `open` | from files to a journal and what its readers know |
//! | `inspect` | looking at journals, live ones too, and copying them |
//! | `reader` | what follows a journal |
//! | `error`, `options`, `metrics` | what callers see |

pub(crate) mod error;
pub(crate) mod format;
pub(crate) mod inspect;
pub(crate) mod live;
pub(crate) mod metrics;
pub(crate) mod open;
pub(crate) mod options;
mod reader;

pub use error::Damage;
pub use live::Journal;
pub use reader::{Blocks, Entry, Holding, Pair, Reader, ReaderSet, What};
