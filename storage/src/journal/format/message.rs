//! What goes into a journal and what comes out of it.

use crate::actor::ActorId;

/// A place in a journal: the number of bytes before it since the journal was made. Never goes back, not even when old
/// segments are deleted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Position(pub u64);

/// The low bits of an id count the messages of a millisecond.
pub(crate) const COUNTER_BITS: u32 = 20;

/// Id of a message: `time_ms << 20 | counter`, given when it is appended. Rises from one message of an actor to its next,
/// with gaps; never given twice to one actor, not even when a crash took the message away; the same after compaction, a
/// restart and with another number of journals. [`Sequence::ZERO`] is before all of them.
///
/// The time is that of the append by the caller's clock. Ids only rise: while the clock is behind the newest id, as after
/// it was set back, the counter goes on from there. After a crash ids may be up to ten minutes ahead of the clock
/// (docs/log-format.md, "Ids"); the time of a message is [`Record::time_ms`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct Sequence(pub u64);

impl Sequence {
    /// Before every message.
    pub const ZERO: Self = Self(0);
    /// After every message.
    pub const MAX: Self = Self(u64::MAX);
    /// The last millisecond that an id can tell, in the year 2527.
    pub const TIME_MS_MAX: u64 = (1 << (64 - COUNTER_BITS)) - 1;

    /// The first id of a millisecond since 1970.
    #[must_use]
    pub const fn at(time_ms: u64) -> Self {
        let time_ms = if time_ms < Self::TIME_MS_MAX { time_ms } else { Self::TIME_MS_MAX };
        Self(time_ms << COUNTER_BITS)
    }

    /// The millisecond in which it was given, as far as the clock could be followed.
    #[must_use]
    pub const fn time_ms(self) -> u64 {
        self.0 >> COUNTER_BITS
    }
}

/// Where a message came from, so that its sender can resume its stream after a restart of the server (XEP-0198 §5).
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

/// A hash of the bare JID that an actor exchanged a message with, so that an archive finds a conversation without reading
/// the others. Which hash is the caller's choice; it has to stay the same for ever. Two JIDs may share one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct PeerHash(pub u32);

impl PeerHash {
    /// Of a message that is not to be found by its peer.
    pub const NONE: Self = Self(0);
}

impl Flags {
    /// Nothing special.
    pub const NONE: Self = Self(0);
    /// It was offered to a client before it was appended, so the recipient may know it already.
    pub const OFFERED_BEFORE: Self = Self(1);
    /// It does not expire by age.
    pub const NO_EXPIRY: Self = Self(2);
    /// It belongs to the archive of its actor.
    pub const ARCHIVED: Self = Self(4);
    /// It waits for nobody: a sender's own copy.
    pub const NOT_QUEUED: Self = Self(8);
    /// It retracts messages of the same author (XEP-0424), which are to be found when it has been committed.
    pub const RETRACTS: Self = Self(16);
    /// Its text was erased: zeros are where it was.
    pub const ERASED: Self = Self(32);

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

    /// These without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether it waits for an acknowledgement.
    #[must_use]
    pub const fn is_queued(self) -> bool {
        !self.has(Self::NOT_QUEUED)
    }

    /// Whether there is a reason to write it at all.
    #[must_use]
    pub const fn is_kept(self) -> bool {
        self.is_queued() || self.has(Self::ARCHIVED) || self.has(Self::RETRACTS)
    }
}

/// A message to append.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Whose it is to be.
    pub actor: ActorId,
    /// When the server received it, in milliseconds since 1970 (the stamp of XEP-0203).
    pub time_ms: u64,
    /// See [`Flags`].
    pub flags: Flags,
    /// See [`Origin`].
    pub origin: Origin,
    /// Whom the actor exchanged it with.
    pub peer: PeerHash,
    /// The stanza, as it will be delivered. At most [`Options::payload_bytes_max`](crate::log::Options::payload_bytes_max).
    pub payload: &'a [u8],
}

/// A text to append once for several actors.
#[derive(Clone, Copy, Debug)]
pub struct Body<'a> {
    /// As [`Message::time_ms`].
    pub time_ms: u64,
    /// As [`Message::origin`].
    pub origin: Origin,
    /// As [`Message::payload`].
    pub payload: &'a [u8],
}

impl<'a> Body<'a> {
    /// The message that one of the actors has.
    #[must_use]
    pub fn of(&self, copy: ActorCopy) -> Message<'a> {
        let Self { time_ms, origin, payload } = *self;
        let ActorCopy { actor, flags, peer } = copy;
        Message { actor, time_ms, flags, origin, peer, payload }
    }
}

/// One actor's share of a text that several have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ActorCopy {
    /// As [`Message::actor`].
    pub actor: ActorId,
    /// As [`Message::flags`].
    pub flags: Flags,
    /// As [`Message::peer`].
    pub peer: PeerHash,
}

impl ActorCopy {
    /// A copy that waits for its actor and is in no archive.
    #[must_use]
    pub const fn queued(actor: ActorId) -> Self {
        Self { actor, flags: Flags::NONE, peer: PeerHash::NONE }
    }
}

/// A message that was appended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Appended {
    /// Its id; what the recipient's acknowledgement trims.
    pub sequence: Sequence,
    /// End of its record: it is durable once [`Log::committed`](crate::log::Log::committed) is not less than this.
    pub position: Position,
}

/// A message as it lies in a journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Record<'a> {
    /// Whose it is.
    pub actor: ActorId,
    /// Its id.
    pub sequence: Sequence,
    /// When the server received it, in milliseconds since 1970.
    pub time_ms: u64,
    /// See [`Flags`].
    pub flags: Flags,
    /// See [`Origin`].
    pub origin: Origin,
    /// Whom the actor exchanged it with.
    pub peer: PeerHash,
    /// Where its record begins; that of the reference where its body is shared.
    pub position: Position,
    /// The stanza, in the memory map.
    pub payload: &'a [u8],
}

/// What waits for an actor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backlog {
    /// Messages; at least 1.
    pub messages: u64,
    /// Bytes of their records. A message with a shared body counts the reference alone.
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
    /// Whether that is in the journal. Otherwise there was no room for the record or the journal has failed, and the
    /// messages wait again after a restart.
    pub is_recorded: bool,
}
