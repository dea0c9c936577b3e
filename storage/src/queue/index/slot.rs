//! Where a waiting message lies.

use crate::journal::format::record::REFERENCE_BYTES;

/// Where a waiting message lies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Slot {
    /// Its number.
    pub(crate) sequence: u64,
    /// Where its record begins.
    pub(crate) position: u64,
    /// Bytes of its record, divided by eight.
    pub(crate) words: u32,
}

impl Slot {
    /// Bytes of its record.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.words) * 8
    }

    /// Whether its text is a body: no other record of a message is as short.
    pub(crate) fn is_reference(&self) -> bool {
        self.words == REFERENCE_BYTES as u32 / 8
    }
}
