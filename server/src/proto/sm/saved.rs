//! A managed stream as it goes to another program, and how it names messages of the log.

use whimbrel_storage::log::{PeerHash, Sequence};

use super::queue::{AnswerTo, Reference, Unacked, UnackedQueue};
use super::{ASK_AFTER, Asked, InFlight, StreamId, StreamManagement};
use crate::saved::codec::{Decoder, Encoder, bits};
use crate::saved::error::StateError;
use crate::stanza::Kind;

/// A message of the log, or the place after one.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPlace {
    /// Its number in the log.
    pub sequence: u64,
    /// How many messages of its account that wait come before it: what stays when another number of workers gives
    /// messages new numbers. Of the place after a message: how many that wait are not behind it.
    pub rank: u64,
}

/// Stream management (XEP-0198).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SmRecord<'a> {
    /// Names the stream.
    pub id: u64,
    /// Seconds for which it can be resumed.
    pub resume_seconds: u32,
    /// The client waits for an answer that covers everything up to here.
    pub answer_up_to: Option<u32>,
    /// An `<r/>` of the server is not answered yet.
    pub asked: bool,
    /// Stanzas handled of the client.
    pub received: u32,
    /// What the client was last told of that.
    pub told: u32,
    /// The last `h` of the client.
    pub acked: u32,
    /// Stanzas since the last `<r/>`, weighed.
    pub weight: u32,
    /// What the client has not acknowledged, oldest first.
    pub unacked: Vec<UnackedRecord<'a>>,
}

/// A stanza that the client has not acknowledged.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum UnackedRecord<'a> {
    /// One that is kept in memory; of a presence that a later one replaces, also what its sender hashes to (else 0).
    Stanza(Kind, u32, &'a [u8]),
    /// A message of the log, and its bytes when it is sent again.
    Logged(LogPlace, u32),
    /// A message in the archive of a room, and its bytes when it is sent again.
    Archived(Reference, u32),
    /// A message in the spool of the account, and its bytes when it is sent again. Its number stays, whatever the number of workers.
    Spooled(Sequence, u32),
    /// An answer that is not kept: the address that the request was sent to, and its id.
    Answer(Option<&'a str>, &'a str),
    /// So many stanzas that are not kept.
    Forgotten(u32),
}

impl LogPlace {
    /// Writes it.
    pub fn write(self, to: &mut Encoder) {
        to.number(self.sequence);
        to.number(self.rank);
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is damaged.
    pub fn read(from: &mut Decoder<'_>) -> Result<LogPlace, StateError> {
        Ok(LogPlace { sequence: from.number()?, rank: from.number()? })
    }
}

const WAITS_FOR_ANSWER: u8 = 1;
const ASKED: u8 = 1 << 1;
const HAS_UNACKED: u8 = 1 << 2;

impl<'a> SmRecord<'a> {
    /// Writes it.
    pub fn write(&self, to: &mut Encoder) {
        to.byte(bits([
            (self.answer_up_to.is_some(), WAITS_FOR_ANSWER),
            (self.asked, ASKED),
            (!self.unacked.is_empty(), HAS_UNACKED),
        ]));
        to.raw(&self.id.to_le_bytes());
        let is_complete = self.unacked.iter().all(|stanza| to.version() >= stanza.known_from());
        to.number(if is_complete { self.resume_seconds } else { 0 });
        to.number(self.received);
        to.number(self.told);
        to.number(self.acked);
        to.number(self.weight);
        if let Some(answer_up_to) = self.answer_up_to {
            to.number(answer_up_to);
        }
        if !self.unacked.is_empty() {
            to.count(self.unacked.len());
            for stanza in &self.unacked {
                stanza.write(to);
            }
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is damaged.
    pub fn read(from: &mut Decoder<'a>) -> Result<SmRecord<'a>, StateError> {
        let parts = from.byte()?;
        if parts >= HAS_UNACKED << 1 {
            return Err(StateError::Damaged("stream management with unknown parts"));
        }
        let mut sm = SmRecord {
            id: u64::from_le_bytes(*from.array()?),
            resume_seconds: from.number()?,
            received: from.number()?,
            told: from.number()?,
            acked: from.number()?,
            weight: from.number()?,
            asked: parts & ASKED != 0,
            ..SmRecord::default()
        };
        sm.answer_up_to = (parts & WAITS_FOR_ANSWER != 0).then(|| from.number()).transpose()?;
        if parts & HAS_UNACKED != 0 {
            for _ in 0..from.count()? {
                sm.unacked.push(UnackedRecord::read(from)?);
            }
        }
        Ok(sm)
    }
}

/// Marks an unacknowledged message that is in the log.
const LOGGED: u8 = 3;
/// Marks a presence that a later one replaces.
const REPLACEABLE: u8 = 4;
/// Marks an answer that is not kept, to a request without an address and to one with.
const ANSWER: u8 = 5;
const ANSWER_FROM: u8 = 6;
/// Marks stanzas that are not kept.
const FORGOTTEN: u8 = 7;
/// Marks a message in the archive of a room, of which no device is told, and one of which devices are.
const ARCHIVED: u8 = 8;
const ARCHIVED_AND_WAKES: u8 = 9;

/// Marks a message in the spool of the account.
const SPOOLED: u8 = 10;

/// The versions of the sessions from which on there are references into archives of rooms, and into spools. For a program that knows
/// none, a stream that has one cannot be resumed.
const HAS_ARCHIVED: u16 = 2;
const HAS_SPOOLED: u16 = 3;

impl<'a> UnackedRecord<'a> {
    /// The version of the sessions from which on it is known.
    fn known_from(&self) -> u16 {
        match self {
            UnackedRecord::Archived(..) => HAS_ARCHIVED,
            UnackedRecord::Spooled(..) => HAS_SPOOLED,
            _ => 0,
        }
    }

    fn write(&self, to: &mut Encoder) {
        match *self {
            UnackedRecord::Stanza(kind, 0, bytes) => {
                to.byte(kind.code());
                to.bytes_of(bytes);
            }
            UnackedRecord::Stanza(_, sender, bytes) => {
                to.byte(REPLACEABLE);
                to.number(sender);
                to.bytes_of(bytes);
            }
            UnackedRecord::Logged(place, length) => {
                to.byte(LOGGED);
                place.write(to);
                to.number(length);
            }
            _ if to.version() < self.known_from() => UnackedRecord::Forgotten(1).write(to),
            UnackedRecord::Archived(Reference { id, room, wakes }, length) => {
                to.byte(if wakes { ARCHIVED_AND_WAKES } else { ARCHIVED });
                to.number(id.0);
                to.number(room.0);
                to.number(length);
            }
            UnackedRecord::Spooled(sequence, length) => {
                to.byte(SPOOLED);
                to.number(sequence.0);
                to.number(length);
            }
            UnackedRecord::Answer(from, id) => {
                to.byte(if from.is_some() { ANSWER_FROM } else { ANSWER });
                if let Some(from) = from {
                    to.text(from);
                }
                to.text(id);
            }
            UnackedRecord::Forgotten(count) => {
                to.byte(FORGOTTEN);
                to.number(count);
            }
        }
    }

    fn read(from: &mut Decoder<'a>) -> Result<UnackedRecord<'a>, StateError> {
        Ok(match from.byte()? {
            LOGGED => UnackedRecord::Logged(LogPlace::read(from)?, from.number()?),
            REPLACEABLE => UnackedRecord::Stanza(Kind::Presence, from.number()?, from.bytes()?),
            ANSWER => UnackedRecord::Answer(None, from.text()?),
            ANSWER_FROM => UnackedRecord::Answer(Some(from.text()?), from.text()?),
            FORGOTTEN => UnackedRecord::Forgotten(from.number()?),
            mark @ (ARCHIVED | ARCHIVED_AND_WAKES) => {
                let (id, room) = (Sequence(from.number()?), PeerHash(from.number()?));
                let reference = Reference { id, room, wakes: mark == ARCHIVED_AND_WAKES };
                UnackedRecord::Archived(reference, from.number()?)
            }
            SPOOLED => UnackedRecord::Spooled(Sequence(from.number()?), from.number()?),
            kind => UnackedRecord::Stanza(
                Kind::from_code(kind).ok_or(StateError::Damaged("a stanza of an unknown kind"))?,
                0,
                from.bytes()?,
            ),
        })
    }
}

impl SmRecord<'static> {
    /// Examples: one that waits for everything, and one that rests.
    #[must_use]
    pub fn samples() -> [SmRecord<'static>; 2] {
        let unacked = vec![
            UnackedRecord::Stanza(Kind::Presence, 0xfeed, b"<presence/>"),
            UnackedRecord::Forgotten(12),
            UnackedRecord::Answer(None, "roster"),
            UnackedRecord::Answer(Some("localhost"), "items"),
            UnackedRecord::Logged(LogPlace { sequence: 1_000_000, rank: 3 }, 120),
            UnackedRecord::Archived(
                Reference { id: Sequence(1 << 60), room: PeerHash(77), wakes: true },
                300,
            ),
            UnackedRecord::Spooled(Sequence(1 << 60 | 7), 400),
            UnackedRecord::Stanza(Kind::Iq, 0, b"<iq type='get' id='1'/>"),
        ];
        let busy = SmRecord {
            id: 0xdead_beef_0000_0001,
            resume_seconds: 600,
            answer_up_to: Some(11),
            asked: true,
            received: u32::MAX,
            told: u32::MAX - 1,
            acked: 5,
            weight: 8,
            unacked,
        };
        let rests = SmRecord { answer_up_to: None, asked: false, unacked: Vec::new(), ..busy.clone() };
        [busy, rests]
    }
}

impl StreamManagement {
    /// As it goes to another program; `None` while some of the client's stanzas are not durable. `place` tells where a
    /// message lies in the log.
    pub(crate) fn save(&self, mut place: impl FnMut(Sequence) -> LogPlace) -> Option<SmRecord<'_>> {
        if self.not_durable() > 0 {
            return None;
        }
        let unacked = self.unacked().map(|stanza| match stanza {
            Unacked::Stanza { kind, sender, bytes } => UnackedRecord::Stanza(*kind, *sender, bytes),
            Unacked::Record { sequence, length } => UnackedRecord::Logged(place(*sequence), *length),
            Unacked::Archived { reference, length } => UnackedRecord::Archived(*reference, *length),
            Unacked::Spooled { sequence, length } => UnackedRecord::Spooled(*sequence, *length),
            Unacked::Answer(answer) => UnackedRecord::Answer(answer.from.as_deref(), &answer.id),
            Unacked::Forgotten(count) => UnackedRecord::Forgotten(*count),
        });
        Some(SmRecord {
            id: self.id.0,
            resume_seconds: self.resume_seconds,
            answer_up_to: self.answer_due.then_some(self.answer_up_to),
            asked: self.asked != Asked::No,
            received: self.received,
            told: self.told,
            acked: self.acked,
            weight: self.weight.into(),
            unacked: unacked.collect(),
        })
    }

    /// The stream of another program. `sequence` tells the number of a message in the log. If it is not at rest, somebody
    /// has to begin to watch it.
    pub(crate) fn restored(
        record: &SmRecord<'_>,
        mut sequence: impl FnMut(LogPlace) -> Sequence,
    ) -> StreamManagement {
        let unacked = record.unacked.iter().map(|stanza| match *stanza {
            UnackedRecord::Stanza(kind, sender, bytes) => {
                Unacked::Stanza { kind, sender, bytes: bytes.into() }
            }
            UnackedRecord::Logged(place, length) => Unacked::Record { sequence: sequence(place), length },
            UnackedRecord::Archived(reference, length) => Unacked::Archived { reference, length },
            UnackedRecord::Spooled(sequence, length) => Unacked::Spooled { sequence, length },
            UnackedRecord::Answer(from, id) => {
                Unacked::Answer(Box::new(AnswerTo { from: from.map(Into::into), id: id.into() }))
            }
            UnackedRecord::Forgotten(count) => Unacked::Forgotten(count),
        });
        let unacked = UnackedQueue::of(unacked);
        let in_flight = (!unacked.is_empty()).then(|| Box::new(InFlight { unacked, ..InFlight::default() }));
        StreamManagement {
            in_flight,
            answer_up_to: record.answer_up_to.unwrap_or_default(),
            answer_due: record.answer_up_to.is_some(),
            asked: if record.asked { Asked::ForStanzas } else { Asked::No },
            received: record.received,
            told: record.told,
            acked: record.acked,
            weight: u8::try_from(record.weight).map_or(ASK_AFTER, |weight| weight.min(ASK_AFTER)),
            ..StreamManagement::new(StreamId(record.id), record.resume_seconds)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_with_references_cannot_be_resumed_where_nobody_knows_them() {
        let [busy, rests] = SmRecord::samples();
        for (record, version, resume_seconds) in
            [(&busy, 1, 0), (&busy, 2, 0), (&busy, 3, 600), (&rests, 1, 600)]
        {
            let mut encoder = Encoder::new(version);
            record.write(&mut encoder);
            let read = SmRecord::read(&mut Decoder::new(encoder.bytes(), version)).unwrap();
            assert_eq!(read.resume_seconds, resume_seconds);
            assert_eq!(read.unacked.len(), record.unacked.len());
            let has = |is_it: fn(&UnackedRecord<'_>) -> bool| read.unacked.iter().any(is_it);
            let is_busy = !record.unacked.is_empty();
            let archived = has(|stanza| matches!(stanza, UnackedRecord::Archived(..)));
            let spooled = has(|stanza| matches!(stanza, UnackedRecord::Spooled(..)));
            assert_eq!((archived, spooled), (is_busy && version >= 2, is_busy && version >= 3));
        }
    }
}
