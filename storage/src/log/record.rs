//! A record as it lies in a segment. The picture is in docs/log-format.md.
//!
//! The checksum starts from the log's id and the record's position. So a record is valid in one place only: what a
//! client put into a message, what lay there before, or a segment in another's place cannot pass for one.

use crate::directory::UserId;

use super::message::{Flags, Message, Origin, Position, Record, Sequence};
use super::options::PAGE_BYTES;

/// Head of every record.
pub(super) const HEAD_BYTES: usize = 32;
/// Head of a message, before its payload.
pub(super) const MESSAGE_HEAD_BYTES: usize = 64;
/// Records begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;

const CHECKSUM: usize = 0;
const LENGTH: usize = 4;
const KIND: usize = 8;
const FLAGS: usize = 9;
const RESERVED: usize = 10;
const DISTANCE: usize = 12;
const USER: usize = 16;
const SEQUENCE: usize = 24;
const TIME: usize = 32;
const PREVIOUS: usize = 40;
const STREAM: usize = 48;
const NUMBER: usize = 56;
const MESSAGE_RESERVED: usize = 60;

const _: () = {
    assert!(SEQUENCE + 8 == HEAD_BYTES && TIME == HEAD_BYTES);
    assert!(MESSAGE_RESERVED + 4 == MESSAGE_HEAD_BYTES);
    assert!(HEAD_BYTES.is_multiple_of(ALIGNMENT) && MESSAGE_HEAD_BYTES.is_multiple_of(ALIGNMENT));
};

/// What a record says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Kind {
    /// A message, or its copy by compaction: the later one counts.
    Message = 1,
    /// The message of this user with this number is done with.
    Trim = 2,
    /// All messages of this user up to this number are.
    TrimUpTo = 3,
    /// The account is gone, and all of its messages.
    Purge = 4,
    /// Numbers from here on are not less than this. Begins each segment, and what a run of the server writes, and comes
    /// before segments are deleted: it tells which is the first that is kept ([`first_to_user`]).
    Mark = 5,
    /// The segment ends here.
    Seal = 6,
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
            _ => return None,
        })
    }

    /// Its name in dumps.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Trim => "trim",
            Self::TrimUpTo => "trim-up-to",
            Self::Purge => "purge",
            Self::Mark => "mark",
            Self::Seal => "seal",
        }
    }
}

/// What a mark says besides, in the place of the user: up to where segments have been deleted, or may be.
pub(super) fn first_to_user(base: u64) -> UserId {
    UserId::new(base / PAGE_BYTES + 1)
}

/// What the checksums of a log start from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Seed(u32);

impl Seed {
    /// Of the log with this id.
    pub(super) fn new(log_id: u64) -> Self {
        Self(crc32c::crc32c(&log_id.to_le_bytes()))
    }

    fn at(self, position: u64) -> u32 {
        crc32c::crc32c_append(self.0, &position.to_le_bytes())
    }
}

/// Bytes that a message takes in the log.
pub(super) fn message_bytes(payload: usize) -> u64 {
    (MESSAGE_HEAD_BYTES + payload).next_multiple_of(ALIGNMENT) as u64
}

/// In [`DISTANCE`]: more than can be said.
const DISTANCE_UNKNOWN: u32 = u32::MAX;

/// Where a record is about to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Its position.
    pub(super) position: u64,
    /// What is committed by now: recovery learns from it what must be there.
    pub(super) committed: u64,
}

impl Place {
    fn distance(self) -> u32 {
        let words = self.position.saturating_sub(self.committed) / ALIGNMENT as u64;
        u32::try_from(words).unwrap_or(DISTANCE_UNKNOWN)
    }
}

fn put_head(to: &mut [u8], place: Place, length: usize, kind: Kind, flags: u8, user: UserId, sequence: u64) {
    // Every length is bounded by a segment's, which fits.
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    to[LENGTH..KIND].copy_from_slice(&length.to_le_bytes());
    to[KIND] = kind as u8;
    to[FLAGS] = flags;
    to[DISTANCE..USER].copy_from_slice(&place.distance().to_le_bytes());
    to[USER..SEQUENCE].copy_from_slice(&user.get().to_le_bytes());
    to[SEQUENCE..HEAD_BYTES].copy_from_slice(&sequence.to_le_bytes());
}

/// A record without a body.
pub(super) fn encode(seed: Seed, place: Place, kind: Kind, user: UserId, sequence: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    put_head(&mut head, place, HEAD_BYTES, kind, 0, user, sequence);
    let checksum = crc32c::crc32c_append(seed.at(place.position), &head[LENGTH..]);
    head[..LENGTH].copy_from_slice(&checksum.to_le_bytes());
    head
}

/// The head of a message. `previous`: position of the message of the user before it, 0 for none.
pub(super) fn encode_message(
    seed: Seed,
    place: Place,
    message: &Message<'_>,
    sequence: u64,
    previous: u64,
) -> [u8; MESSAGE_HEAD_BYTES] {
    let mut head = [0; MESSAGE_HEAD_BYTES];
    let length = MESSAGE_HEAD_BYTES + message.payload.len();
    put_head(&mut head, place, length, Kind::Message, message.flags.0, message.user, sequence);
    head[TIME..PREVIOUS].copy_from_slice(&message.time_ms.to_le_bytes());
    head[PREVIOUS..STREAM].copy_from_slice(&previous.to_le_bytes());
    head[STREAM..NUMBER].copy_from_slice(&message.origin.stream.to_le_bytes());
    head[NUMBER..MESSAGE_RESERVED].copy_from_slice(&message.origin.number.to_le_bytes());
    let checksum = crc32c::crc32c_append(seed.at(place.position), &head[LENGTH..]);
    let checksum = crc32c::crc32c_append(checksum, message.payload);
    head[..LENGTH].copy_from_slice(&checksum.to_le_bytes());
    head
}

/// Why there is no record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// Nothing was ever written here.
    Empty,
    /// Something else is here.
    Bad(&'static str),
}

/// A valid record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw<'a> {
    /// Where it begins.
    pub(super) position: u64,
    /// What it says.
    pub(super) kind: Kind,
    /// Whose it is.
    pub(super) user: UserId,
    /// Its number, or that of what it is about.
    pub(super) sequence: u64,
    bytes: &'a [u8],
}

fn number_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut number = [0; N];
    number.copy_from_slice(&bytes[at..at + N]);
    number
}

impl<'a> Raw<'a> {
    /// Reads the record at the beginning of `bytes`, which go to the end of its segment.
    pub(super) fn parse(bytes: &'a [u8], seed: Seed, position: u64) -> Result<Self, Fault> {
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
        if bytes[RESERVED] != 0 || bytes[RESERVED + 1] != 0 {
            return Err(Fault::Bad("reserved bytes are in use"));
        }
        let is_fitting =
            if kind == Kind::Message { length >= MESSAGE_HEAD_BYTES } else { length == HEAD_BYTES };
        if !is_fitting || length > bytes.len() {
            return Err(Fault::Bad("a length that cannot be"));
        }
        let bytes = &bytes[..length];
        if crc32c::crc32c_append(seed.at(position), &bytes[LENGTH..]) != checksum {
            return Err(Fault::Bad("the checksum does not fit"));
        }
        Ok(Self {
            position,
            kind,
            user: UserId::new(u64::from_le_bytes(number_at(bytes, USER))),
            sequence: u64::from_le_bytes(number_at(bytes, SEQUENCE)),
            bytes,
        })
    }

    /// Bytes it takes in the segment.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.bytes.len().next_multiple_of(ALIGNMENT) as u64
    }

    /// What was committed when it was written, if it says so.
    pub(super) fn committed(&self) -> Option<u64> {
        let distance = u32::from_le_bytes(number_at(self.bytes, DISTANCE));
        if distance == DISTANCE_UNKNOWN {
            return None;
        }
        self.position.checked_sub(u64::from(distance) * ALIGNMENT as u64)
    }

    /// Of a mark: the base of the first segment that was to be kept then. `None` for other kinds, and for marks that do
    /// not say.
    pub(super) fn first(&self) -> Option<u64> {
        let pages = self.user.get().checked_sub(1).filter(|_| self.kind == Kind::Mark)?;
        pages.checked_mul(PAGE_BYTES)
    }

    /// Position of the user's message before it; 0 for none. Of a message.
    pub(super) fn previous(&self) -> u64 {
        debug_assert_eq!(self.kind, Kind::Message);
        u64::from_le_bytes(number_at(self.bytes, PREVIOUS))
    }

    /// The message it is; `None` for other kinds.
    pub(super) fn message(&self) -> Option<Record<'a>> {
        (self.kind == Kind::Message).then(|| Record {
            user: self.user,
            sequence: Sequence(self.sequence),
            time_ms: u64::from_le_bytes(number_at(self.bytes, TIME)),
            flags: Flags(self.bytes[FLAGS]),
            origin: Origin {
                stream: u64::from_le_bytes(number_at(self.bytes, STREAM)),
                number: u32::from_le_bytes(number_at(self.bytes, NUMBER)),
            },
            position: Position(self.position),
            payload: &self.bytes[MESSAGE_HEAD_BYTES..],
        })
    }
}
