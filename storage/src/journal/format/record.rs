//! A record as it lies in a segment. The picture is in docs/log-format.md.
//!
//! The checksum starts from the log's id and the record's position. So a record is valid in one place only: what a
//! client put into a message, what lay there before, or a segment in another's place cannot pass for one.

use crate::actor::ActorId;

use super::super::options::PAGE_BYTES;
use super::super::reader::{Entry, ReaderSet, What};
use super::message::{Flags, Message, Origin, PeerHash, Position, Record, Sequence};

/// Head of every record.
pub(crate) const HEAD_BYTES: usize = 32;
/// Head of a message or a body, before its payload.
pub(crate) const MESSAGE_HEAD_BYTES: usize = 64;
/// A reference to a text.
pub(crate) const REFERENCE_BYTES: usize = 48;
/// Records begin at multiples of this.
pub(crate) const ALIGNMENT: usize = 8;

const CHECKSUM: usize = 0;
const LENGTH: usize = 4;
const KIND: usize = 8;
const FLAGS: usize = 9;
const MOVED_FOR: usize = 10;
const RESERVED: usize = 11;
const DISTANCE: usize = 12;
const ACTOR: usize = 16;
const SEQUENCE: usize = 24;
const TIME: usize = 32;
const PREVIOUS: usize = 40;
const STREAM: usize = 48;
const NUMBER: usize = 56;
const PEER: usize = 60;
/// In a reference, the peer stands where a message has its predecessor's position.
const REFERENCE_PEER: usize = PREVIOUS;

const _: () = {
    assert!(SEQUENCE + 8 == HEAD_BYTES && TIME == HEAD_BYTES);
    assert!(PEER + 4 == MESSAGE_HEAD_BYTES);
    assert!(HEAD_BYTES.is_multiple_of(ALIGNMENT) && MESSAGE_HEAD_BYTES.is_multiple_of(ALIGNMENT));
    assert!(REFERENCE_BYTES == REFERENCE_PEER + 8 && REFERENCE_BYTES.is_multiple_of(ALIGNMENT));
    // A message's head is longer, so that the length alone tells the two apart.
    assert!(REFERENCE_BYTES < MESSAGE_HEAD_BYTES);
};

/// What a record says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A message, or its copy by compaction: the later one counts.
    Message = 1,
    /// The message of this actor with this id is done with.
    Trim = 2,
    /// All messages of this actor up to this id are.
    TrimUpTo = 3,
    /// The actor is gone, and all of its messages.
    Purge = 4,
    /// Ids from here to the next mark are less than this. Begins each segment, and what a run of the server writes, and
    /// comes before segments are deleted: it tells which is the first that is kept ([`first_to_actor`]).
    Mark = 5,
    /// The segment ends here.
    Seal = 6,
    /// A text that references of the same id share, or its copy by compaction. Waits for nobody by itself.
    Body = 7,
    /// An actor's message whose text is the body, or another actor's message, of the same id; or its copy by compaction.
    Reference = 8,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Message,
            2 => Self::Trim,
            3 => Self::TrimUpTo,
            4 => Self::Purge,
            5 => Self::Mark,
            6 => Self::Seal,
            7 => Self::Body,
            8 => Self::Reference,
            _ => return None,
        })
    }

    /// Its name in dumps.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Trim => "trim",
            Self::TrimUpTo => "trim-up-to",
            Self::Purge => "purge",
            Self::Mark => "mark",
            Self::Seal => "seal",
            Self::Body => "body",
            Self::Reference => "reference",
        }
    }

    /// Whether a record of this kind may have so many bytes.
    fn fits(self, length: usize) -> bool {
        match self {
            Self::Message | Self::Body => length >= MESSAGE_HEAD_BYTES,
            Self::Reference => length == REFERENCE_BYTES,
            _ => length == HEAD_BYTES,
        }
    }
}

/// What a mark says besides, in the place of the actor: up to where segments have been deleted, or may be.
pub(crate) fn first_to_actor(base: u64) -> ActorId {
    ActorId::from_raw(base / PAGE_BYTES + 1)
}

/// What the checksums of a log start from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Seed(u32);

impl Seed {
    /// Of the log with this id.
    pub(crate) fn new(log_id: u64) -> Self {
        Self(crc32c::crc32c(&log_id.to_le_bytes()))
    }

    fn at(self, position: u64) -> u32 {
        crc32c::crc32c_append(self.0, &position.to_le_bytes())
    }
}

/// Bytes that a message takes in the log.
pub(crate) fn message_bytes(payload: usize) -> u64 {
    (MESSAGE_HEAD_BYTES + payload).next_multiple_of(ALIGNMENT) as u64
}

/// In [`DISTANCE`]: more than can be said.
const DISTANCE_UNKNOWN: u32 = u32::MAX;

/// Where a record is about to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Its position.
    pub(crate) position: u64,
    /// What is committed by now: recovery learns from it what must be there.
    pub(crate) committed: u64,
}

impl Place {
    fn distance(self) -> u32 {
        let words = self.position.saturating_sub(self.committed) / ALIGNMENT as u64;
        u32::try_from(words).unwrap_or(DISTANCE_UNKNOWN)
    }
}

/// What every record begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// What it says.
    pub(crate) kind: Kind,
    /// See [`Flags`].
    pub(crate) flags: Flags,
    /// For whom compaction has written it again.
    pub(crate) moved_for: ReaderSet,
    /// Whose it is.
    pub(crate) actor: ActorId,
    /// Its id, or that of what it is about.
    pub(crate) sequence: u64,
}

impl Head {
    /// Of a record without flags.
    pub(crate) fn note(kind: Kind, actor: ActorId, sequence: u64) -> Self {
        Self { kind, flags: Flags::NONE, moved_for: ReaderSet::NONE, actor, sequence }
    }

    fn put(self, to: &mut [u8], place: Place, length: usize) {
        // Every length is bounded by a segment's, which fits.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        to[LENGTH..KIND].copy_from_slice(&length.to_le_bytes());
        to[KIND] = self.kind as u8;
        to[FLAGS] = self.flags.0;
        to[MOVED_FOR] = self.moved_for.0;
        to[DISTANCE..ACTOR].copy_from_slice(&place.distance().to_le_bytes());
        to[ACTOR..SEQUENCE].copy_from_slice(&self.actor.raw().to_le_bytes());
        to[SEQUENCE..HEAD_BYTES].copy_from_slice(&self.sequence.to_le_bytes());
    }
}

/// A record without a body.
#[inline]
pub(crate) fn encode(seed: Seed, place: Place, head: Head) -> [u8; HEAD_BYTES] {
    let mut bytes = [0; HEAD_BYTES];
    head.put(&mut bytes, place, HEAD_BYTES);
    seal(seed, place, &mut bytes, &[]);
    bytes
}

/// A reference to the text of the same id.
pub(crate) fn encode_reference(
    seed: Seed,
    place: Place,
    head: Head,
    time_ms: u64,
    peer: PeerHash,
) -> [u8; REFERENCE_BYTES] {
    let mut bytes = [0; REFERENCE_BYTES];
    head.put(&mut bytes, place, REFERENCE_BYTES);
    bytes[TIME..REFERENCE_PEER].copy_from_slice(&time_ms.to_le_bytes());
    bytes[REFERENCE_PEER..REFERENCE_PEER + 4].copy_from_slice(&peer.0.to_le_bytes());
    seal(seed, place, &mut bytes, &[]);
    bytes
}

/// The head of a message or a body. `previous`: position of the actor's message before it, 0 for none.
pub(crate) fn encode_message(
    seed: Seed,
    place: Place,
    head: Head,
    message: &Message<'_>,
    previous: u64,
) -> [u8; MESSAGE_HEAD_BYTES] {
    let mut bytes = [0; MESSAGE_HEAD_BYTES];
    head.put(&mut bytes, place, MESSAGE_HEAD_BYTES + message.payload.len());
    bytes[TIME..PREVIOUS].copy_from_slice(&message.time_ms.to_le_bytes());
    bytes[PREVIOUS..STREAM].copy_from_slice(&previous.to_le_bytes());
    bytes[STREAM..NUMBER].copy_from_slice(&message.origin.stream.to_le_bytes());
    bytes[NUMBER..PEER].copy_from_slice(&message.origin.number.to_le_bytes());
    bytes[PEER..MESSAGE_HEAD_BYTES].copy_from_slice(&message.peer.0.to_le_bytes());
    seal(seed, place, &mut bytes, message.payload);
    bytes
}

/// Writes the checksum of a record and what follows it.
#[inline]
fn seal(seed: Seed, place: Place, record: &mut [u8], payload: &[u8]) {
    // Position and head in one piece: for so few bytes a call costs more than the bytes.
    let mut piece = Piece([0; 8 + MESSAGE_HEAD_BYTES - LENGTH]);
    let head = record.len() - LENGTH;
    piece.0[..8].copy_from_slice(&place.position.to_le_bytes());
    piece.0[8..8 + head].copy_from_slice(&record[LENGTH..]);
    let mut checksum = crc32c::crc32c_append(seed.0, &piece.0[..8 + head]);
    if !payload.is_empty() {
        checksum = crc32c::crc32c_append(checksum, payload);
    }
    record[..LENGTH].copy_from_slice(&checksum.to_le_bytes());
}

/// The bytes that a checksum begins with, where the processor takes eight at once.
#[repr(align(8))]
struct Piece([u8; 8 + MESSAGE_HEAD_BYTES - LENGTH]);

/// Why there is no record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// Nothing was ever written here.
    Empty,
    /// Something else is here.
    Bad(&'static str),
}

/// A valid record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a> {
    /// Where it begins.
    pub(crate) position: u64,
    /// What it says.
    pub(crate) kind: Kind,
    /// Whose it is.
    pub(crate) actor: ActorId,
    /// Its id, or that of what it is about.
    pub(crate) sequence: u64,
    bytes: &'a [u8],
}

fn number_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut number = [0; N];
    number.copy_from_slice(&bytes[at..at + N]);
    number
}

impl<'a> Raw<'a> {
    /// Reads the record at the beginning of `bytes`, which go to the end of its segment.
    pub(crate) fn parse(bytes: &'a [u8], seed: Seed, position: u64) -> Result<Self, Fault> {
        if bytes.len() < HEAD_BYTES {
            return Err(Fault::Bad("the file ends too early"));
        }
        let checksum = u32::from_le_bytes(number_at(bytes, CHECKSUM));
        let length = u32::from_le_bytes(number_at(bytes, LENGTH)) as usize;
        if checksum == 0 && length == 0 {
            return Err(Fault::Empty);
        }
        let Some(kind) = Kind::from_byte(bytes[KIND]) else {
            return Err(Fault::Bad("no known kind of record"));
        };
        if bytes[RESERVED] != 0 {
            return Err(Fault::Bad("reserved bytes are in use"));
        }
        if !kind.fits(length) || length > bytes.len() {
            return Err(Fault::Bad("a length that cannot be"));
        }
        let bytes = &bytes[..length];
        if crc32c::crc32c_append(seed.at(position), &bytes[LENGTH..]) != checksum {
            return Err(Fault::Bad("the checksum does not fit"));
        }
        Ok(Self {
            position,
            kind,
            actor: ActorId::from_raw(u64::from_le_bytes(number_at(bytes, ACTOR))),
            sequence: u64::from_le_bytes(number_at(bytes, SEQUENCE)),
            bytes,
        })
    }

    /// Bytes it takes in the segment.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.bytes.len().next_multiple_of(ALIGNMENT) as u64
    }

    /// What was committed when it was written, if it says so.
    pub(crate) fn committed(&self) -> Option<u64> {
        let distance = u32::from_le_bytes(number_at(self.bytes, DISTANCE));
        if distance == DISTANCE_UNKNOWN {
            return None;
        }
        self.position.checked_sub(u64::from(distance) * ALIGNMENT as u64)
    }

    /// Of a mark: the base of the first segment that was to be kept then. `None` for other kinds, and for marks that do
    /// not say.
    pub(crate) fn first(&self) -> Option<u64> {
        let pages = self.actor.raw().checked_sub(1).filter(|_| self.kind == Kind::Mark)?;
        pages.checked_mul(PAGE_BYTES)
    }

    /// Position of the actor's message before it, as it was then; 0 for none, and for other kinds than messages.
    pub(crate) fn previous(&self) -> u64 {
        match self.kind {
            Kind::Message => u64::from_le_bytes(number_at(self.bytes, PREVIOUS)),
            _ => 0,
        }
    }

    /// See [`Flags`].
    pub(crate) fn flags(&self) -> Flags {
        Flags(self.bytes[FLAGS])
    }

    /// For whom compaction has written it again.
    pub(crate) fn moved_for(&self) -> ReaderSet {
        ReaderSet(self.bytes[MOVED_FOR])
    }

    /// The message or the body it is; `None` for other kinds.
    pub(crate) fn text(&self) -> Option<Record<'a>> {
        matches!(self.kind, Kind::Message | Kind::Body).then(|| Record {
            actor: self.actor,
            sequence: Sequence(self.sequence),
            time_ms: self.time_ms(),
            flags: self.flags(),
            origin: Origin {
                stream: u64::from_le_bytes(number_at(self.bytes, STREAM)),
                number: u32::from_le_bytes(number_at(self.bytes, NUMBER)),
            },
            peer: self.peer(),
            position: Position(self.position),
            payload: &self.bytes[MESSAGE_HEAD_BYTES..],
        })
    }

    /// Whom the actor of a message or a reference exchanged it with.
    fn peer(&self) -> PeerHash {
        let at = if self.kind == Kind::Reference { REFERENCE_PEER } else { PEER };
        PeerHash(u32::from_le_bytes(number_at(self.bytes, at)))
    }

    /// When a message, a body or what a reference refers to was received.
    fn time_ms(&self) -> u64 {
        u64::from_le_bytes(number_at(self.bytes, TIME))
    }

    /// What readers are told of it, in the segment with this base; nothing of marks and seals.
    pub(crate) fn entry(&self, base: u64) -> Option<Entry<'a>> {
        let what = match self.kind {
            Kind::Message => What::Message(self.text()?),
            Kind::Body => What::Body(self.text()?),
            Kind::Reference => {
                What::Reference { time_ms: self.time_ms(), flags: self.flags(), peer: self.peer() }
            }
            Kind::Trim => What::Trim,
            Kind::TrimUpTo => What::TrimUpTo,
            Kind::Purge => What::Purge,
            Kind::Mark | Kind::Seal => return None,
        };
        Some(Entry {
            position: Position(self.position),
            segment: Position(base),
            bytes: self.stored_bytes(),
            actor: self.actor,
            sequence: Sequence(self.sequence),
            moved_for: self.moved_for(),
            what,
        })
    }
}
