//! What goes into the log and what comes out of it.

use crate::directory::UserId;

/// A place in a log: the number of bytes before it since the log was made. Never goes back, not even when old
/// segments are deleted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Position(pub u64);

/// Number of a message. Rises from one message of a user to his next, with gaps; never used twice by a log, not even
/// for a message that a crash took away. [`Sequence::ZERO`] is before all of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Sequence(pub u64);

impl Sequence {
    /// Before every message.
    pub const ZERO: Self = Self(0);
    /// After every message.
    pub const MAX: Self = Self(u64::MAX);
}

/// Where a message came from, so that its sender can resume his stream after a restart of the server (XEP-0198 §5).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Origin {
    /// Number of the sender's stream, chosen by the server; 0 when there is nothing to resume.
    pub stream: u64,
    /// Which stanza of that stream it was: the `h` that acknowledges it (XEP-0198 §4), modulo 2^32.
    pub number: u32,
}

/// What is to be known of a message besides its text. Unknown bits are kept as they are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// Nothing special.
    pub const NONE: Self = Self(0);
    /// It was offered to a client before it was appended, so the recipient may know it already.
    pub const OFFERED_BEFORE: Self = Self(1);
    /// It does not expire by age.
    pub const NO_EXPIRY: Self = Self(2);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A message to append.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Whom it is for.
    pub user: UserId,
    /// When the server received it, in milliseconds since 1970 (the stamp of XEP-0203).
    pub time_ms: u64,
    /// See [`Flags`].
    pub flags: Flags,
    /// See [`Origin`].
    pub origin: Origin,
    /// The stanza, as it will be delivered. At most [`super::Options::payload_bytes_max`].
    pub payload: &'a [u8],
}

/// A message that was appended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Appended {
    /// Its number; what the recipient's acknowledgement trims.
    pub sequence: Sequence,
    /// End of its record: it is settled once [`super::Log::committed`] is not less than this.
    pub position: Position,
}

/// A message that waits for its recipient's acknowledgement, as it lies in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Record<'a> {
    /// Whom it is for.
    pub user: UserId,
    /// Its number.
    pub sequence: Sequence,
    /// When the server received it, in milliseconds since 1970.
    pub time_ms: u64,
    /// See [`Flags`].
    pub flags: Flags,
    /// See [`Origin`].
    pub origin: Origin,
    /// Where its record begins.
    pub position: Position,
    /// The stanza, in the memory map.
    pub payload: &'a [u8],
}

/// What waits for a user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backlog {
    /// Messages; at least 1.
    pub messages: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// The oldest.
    pub first: Sequence,
    /// The newest.
    pub last: Sequence,
}

/// What a trim did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Trimmed {
    /// Messages that no longer wait.
    pub messages: u64,
    /// Whether that is in the log. Otherwise there was no room for the record or the log has failed, and the messages
    /// wait again after a restart.
    pub is_recorded: bool,
}
