//! The memory layout of the stats file: what the server writes and `wsar` reads.
//!
//! ```text
//!      0  "WHIMSTAT"   version u32   checksum u32 (CRC-32C of 16 up to the end of the descriptions)
//!     16  length of the file u64     start of the server, Unix time in nanoseconds u64
//!     32  process id u32             number of groups u32
//!     40  length of the descriptions u32 …
//!     64  descriptions: for each group its name, label, instances, place, and what each of its cells is
//!   4096… blocks: one for each instance of each group, each on cache lines of its own
//! ```
//!
//! All numbers are in the byte order of the machine: the file is read where it is written. A text is a `u16`
//! length and so many bytes of UTF-8.
//!
//! Nothing locks anything. The owner of a block changes its cells with plain stores; a reader loads them one by
//! one, so that the values of one reading may be a few nanoseconds apart, and none is ever torn. The header never
//! changes: a server that starts makes a new file and renames it over the old one, which readers notice by its
//! inode; the old file keeps its last values for whoever has it open.
//!
//! | module | what it has |
//! | --- | --- |
//! | [`cell`] | counters, gauges, histograms: what a block is made of |
//! | [`describe`] | what a cell means |
//! | [`file`](mod@file) | making the file, and its blocks as Rust values |
//! | [`read`] | reading any such file by its own description |
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod cell;
pub mod describe;
#[expect(unsafe_code, reason = "the memory map that is written")]
pub mod file;
mod header;
#[expect(unsafe_code, reason = "the memory map that is read")]
pub mod read;

pub use cell::{Cell, Histogram};
pub use describe::{Description, Kind};
pub use file::{Block, Blocks, Builder};
pub use read::{ReadError, Reader};

/// Name of the file in the server's data directory.
pub const FILE_NAME: &str = "stats";
