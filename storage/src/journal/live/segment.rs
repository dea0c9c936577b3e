//! A segment while it is mapped.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::map::Map;

/// A mapped segment.
pub(crate) struct Segment {
    /// Position of its first byte.
    pub(crate) base: u64,
    /// Bytes it should have; a damaged file may have fewer.
    pub(crate) bytes: u64,
    /// Its file.
    pub(crate) path: PathBuf,
    /// Its memory.
    pub(crate) map: Map,
}

impl Segment {
    pub(crate) fn new(base: u64, bytes: u64, path: &Path, map: Map) -> Self {
        Self { base, bytes, path: path.to_owned(), map }
    }

    /// Position of the byte after it.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.bytes
    }
}

/// Which of the segments, sorted by base, holds a position.
pub(crate) fn find(segments: &VecDeque<Segment>, position: u64) -> Option<usize> {
    let after = segments.partition_point(|segment| segment.base <= position);
    let found = after.checked_sub(1)?;
    (position < segments[found].end()).then_some(found)
}
