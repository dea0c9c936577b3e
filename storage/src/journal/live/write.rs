//! Writing records at the end. There is room, wherever these are called.

use super::super::format::message::{Message, PeerHash, Position, Record, Sequence};
use super::super::format::record::{
    HEAD_BYTES, Head, Kind, Place, REFERENCE_BYTES, encode, encode_message, encode_reference, first_to_actor,
    message_bytes,
};
use super::super::options::Durability;
use super::super::reader::{Entry, What};
use super::Journal;
use crate::actor::ActorId;

impl Journal {
    fn place(&self) -> Place {
        Place { position: self.end(), committed: self.shared.committed() }
    }

    #[inline]
    fn write(&mut self, parts: [&[u8]; 2], bytes: u64) {
        let mut offset = self.offset as usize;
        if let Some(head) = self.segments.back_mut() {
            for part in parts {
                head.map.write(offset, part);
                offset += part.len();
            }
        }
        self.offset += bytes;
        if self.options.durability == Durability::Process {
            self.shared.publish(self.end());
        }
    }

    #[inline]
    pub(super) fn entry<'m>(&self, head: Head, position: u64, bytes: u64, what: What<'m>) -> Entry<'m> {
        Entry {
            position: Position(position),
            segment: Position(self.head().base),
            bytes,
            actor: head.actor,
            sequence: Sequence(head.sequence),
            moved_for: head.moved_for,
            what,
        }
    }

    /// Writes a record without a body.
    pub(crate) fn write_note(&mut self, kind: Kind, actor: ActorId, sequence: u64) {
        let record = encode(self.seed, self.place(), Head::note(kind, actor, sequence));
        self.write([&record, &[]], HEAD_BYTES as u64);
    }

    /// Writes a mark. `kept`: the base of the first segment that is to be kept.
    pub(crate) fn write_mark(&mut self, kept: u64) {
        self.ids.allow(self.shared.committed());
        let ceiling = self.ids.ceiling_to_ask();
        self.write_note(Kind::Mark, first_to_actor(kept), ceiling);
        self.ids.asked(self.end(), ceiling);
    }

    /// Writes the last mark of a run: no id is given after it.
    pub(crate) fn write_last_mark(&mut self) {
        let next = self.ids.next();
        self.write_note(Kind::Mark, first_to_actor(self.first()), next);
        self.ids.asked(self.end(), next);
    }

    /// Writes a message or a body, new or moved.
    #[inline]
    pub(crate) fn write_text<'m>(&mut self, head: Head, message: &Message<'m>, previous: u64) -> Entry<'m> {
        let place = self.place();
        let record = encode_message(self.seed, place, head, message, previous);
        let bytes = message_bytes(message.payload.len());
        self.write([&record, message.payload], bytes);
        let Message { actor, time_ms, flags, origin, peer, payload } = *message;
        let (sequence, position) = (Sequence(head.sequence), Position(place.position));
        let record = Record { actor, sequence, time_ms, flags, origin, peer, position, payload };
        let what = if head.kind == Kind::Body { What::Body(record) } else { What::Message(record) };
        self.entry(head, place.position, bytes, what)
    }

    /// Writes a reference, new or moved.
    pub(crate) fn write_reference(&mut self, head: Head, time_ms: u64, peer: PeerHash) -> Entry<'static> {
        let place = self.place();
        let record = encode_reference(self.seed, place, head, time_ms, peer);
        self.write([&record, &[]], REFERENCE_BYTES as u64);
        let what = What::Reference { time_ms, flags: head.flags, peer };
        self.entry(head, place.position, REFERENCE_BYTES as u64, what)
    }
}
