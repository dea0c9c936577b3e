//! Where a message of an archive lies.

use crate::journal::format::record::{MESSAGE_HEAD_BYTES, REFERENCE_BYTES};
use crate::log::{PeerHash, Position, Sequence};

/// What the index knows of a message: enough to find its text, and to pass over what a query does not ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Slot {
    /// Its id.
    pub id: Sequence,
    /// Where the record begins that holds its text: its own, or that of the text to which it refers.
    pub position: Position,
    /// Bytes of that record, divided by eight.
    pub words: u32,
    /// Whom the actor exchanged it with.
    pub peer: PeerHash,
    /// Its own record is a reference to the text of another one, in the same segment.
    pub is_reference: bool,
}

/// Words of the shortest record with a text: a message without one.
pub(crate) const WORDS_MIN: u32 = MESSAGE_HEAD_BYTES as u32 / 8;

impl Slot {
    /// Bytes of the record with the text.
    #[must_use]
    pub fn text_bytes(&self) -> u64 {
        u64::from(self.words) * 8
    }

    /// Bytes of the journal that it needs. A text that two share counts for both.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.text_bytes() + if self.is_reference { REFERENCE_BYTES as u64 } else { 0 }
    }
}
