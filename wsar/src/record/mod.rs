//! Recordings: samples on disk, bounded in size and age, readable after any crash.
//!
//! A recording is a folder of files `wsar-START.rec`. A recorder begins a new file when it starts and whenever the
//! one it writes is full, and deletes the oldest files. Nothing that is written is ever changed. A file is a list of
//! blocks that each have a checksum, so that a torn end or a damaged block costs that block only.
//!
//! ```text
//! file    "WSARREC1" block block …
//! block   tag u32 │ CRC-32C u32 of what follows │ length u32 │ length unpacked u32
//!         kind u16 │ samples u16 │ schema u32 │ time of the first sample u64, ms │ payload, LZ4
//! schema  number of series, then of each: kind, name, key, instance, unit, help
//! samples of each: time since the one before, number of words that changed, then of each of those:
//!         words left out, growth; the first sample of a block grows from zero
//! ```
//! Integers of blocks are little-endian, those of payloads variable in length (7 bits a byte, the low ones first;
//! growth zigzag-coded). A block of samples needs a schema of the same file and nothing else.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`format`](mod@format) | blocks in bytes |
//! | [`write`](mod@write) | the recorder |
//! | [`read`] | finding and reading samples by time |

pub mod format;
pub mod read;
mod varint;
pub mod write;

pub use read::Archive;
pub use write::{Bounds, Recorder};
