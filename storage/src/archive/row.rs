//! A block of messages of one actor, as it lies in the directory's table `archive`: docs/directory-format.md.
//!
//! The peers of a block stand before its messages, so that a query for another one passes over it.

use super::pack::{Base, put_number, take_number};
use super::slot::Slot;
use super::tally::SegmentTally;
use crate::actor::ActorId;
use crate::log::{PeerHash, Position, Sequence};

/// Most messages of a block.
pub const ROW_MESSAGES_MAX: usize = 64;

/// A block of messages of one actor: never empty, ids rise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// Whose they are.
    pub actor: ActorId,
    /// Id of the journal in which they lie.
    pub journal: u64,
    /// The messages.
    pub slots: Vec<Slot>,
}

impl Row {
    /// Id of its first message.
    #[must_use]
    pub fn first(&self) -> Sequence {
        self.slots.first().map_or(Sequence::ZERO, |slot| slot.id)
    }

    /// Id of its last message.
    #[must_use]
    pub fn last(&self) -> Sequence {
        self.slots.last().map_or(Sequence::ZERO, |slot| slot.id)
    }

    /// Bytes of the journal that it needs.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.slots.iter().map(Slot::held_bytes).sum()
    }

    /// As it goes to the directory.
    #[must_use]
    pub fn pack(&self) -> PackedRow {
        let positions = self.slots.iter().map(|slot| slot.position);
        PackedRow {
            actor: self.actor,
            journal: self.journal,
            first: self.first(),
            last: self.last(),
            lowest: positions.clone().min().unwrap_or_default(),
            highest: positions.max().unwrap_or_default(),
            held_bytes: self.held_bytes(),
            content: self.encode().into_boxed_slice(),
        }
    }

    /// Its peers and messages. Its actor and its first id are in the key, its journal and its last id in fields of their own.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut peers: Vec<PeerHash> = Vec::new();
        let mut entries = Vec::with_capacity(12 * self.slots.len());
        let mut base = Base::before(self.first());
        for slot in &self.slots {
            let place = place_of(slot.peer, &mut peers);
            base.pack(slot, place).put(&mut entries);
            base = Base::after(slot);
        }
        content(self.slots.len(), &peers, &entries)
    }
}

/// Where a peer stands among those of a block: at their end from now on, if it was not there.
pub(super) fn place_of(peer: PeerHash, peers: &mut Vec<PeerHash>) -> u8 {
    let known = peers.iter().position(|known| *known == peer);
    known.unwrap_or_else(|| {
        peers.push(peer);
        peers.len() - 1
    }) as u8
}

/// The bytes of a block.
pub(super) fn content(messages: usize, peers: &[PeerHash], entries: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 + 4 * peers.len() + entries.len());
    put_number(&mut bytes, messages as u64);
    put_number(&mut bytes, peers.len() as u64);
    peers.iter().for_each(|peer| bytes.extend_from_slice(&peer.0.to_le_bytes()));
    bytes.extend_from_slice(entries);
    bytes
}

/// A block of messages of one actor in the form in which it lies in the directory, with what is to be counted when it goes
/// there: so nobody looks into it on its way, as a rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PackedRow {
    pub(crate) actor: ActorId,
    pub(crate) journal: u64,
    /// Id of its first message.
    pub(crate) first: Sequence,
    /// Id of its last message.
    pub(crate) last: Sequence,
    /// No text of it lies before this.
    pub(crate) lowest: Position,
    /// No text of it begins behind this.
    pub(crate) highest: Position,
    /// Bytes of the journal that it needs.
    pub(crate) held_bytes: u64,
    /// As of [`Row::encode`].
    pub(crate) content: Box<[u8]>,
}

impl PackedRow {
    /// How many messages it has.
    #[must_use]
    pub fn messages(&self) -> usize {
        // They are at most 64: a number of one byte.
        self.content.first().map_or(0, |count| usize::from(*count))
    }

    /// Its messages.
    #[must_use]
    pub fn slots(&self) -> Vec<Slot> {
        let slots = Packed::open(self.first, &self.content).and_then(|packed| packed.slots());
        slots.expect("what was packed in this process reads back")
    }

    /// With its messages.
    #[must_use]
    pub fn to_row(&self) -> Row {
        Row { actor: self.actor, journal: self.journal, slots: self.slots() }
    }

    /// What is held for it.
    pub(crate) fn tally(&self) -> SegmentTally {
        SegmentTally { records: self.messages() as u64, bytes: self.held_bytes, newest: self.last.0 }
    }
}

/// A block that has not been looked into.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    first: Sequence,
    messages: usize,
    peers: &'a [[u8; 4]],
    entries: &'a [u8],
}

impl<'a> Packed<'a> {
    /// Reads the beginning of a block whose first message has this id.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(first: Sequence, bytes: &'a [u8]) -> Result<Self, &'static str> {
        let mut rest = bytes;
        let mut count = || {
            let count = take_number(&mut rest).and_then(|count| usize::try_from(count).ok());
            count.filter(|count| (1..=ROW_MESSAGES_MAX).contains(count))
        };
        let messages = count().ok_or("an impossible number of messages")?;
        let peers = count().filter(|peers| *peers <= messages).ok_or("an impossible number of peers")?;
        let (peers, entries) = rest.split_at_checked(4 * peers).ok_or("cut short")?;
        Ok(Self { first, messages, peers: peers.as_chunks().0, entries })
    }

    /// How many messages it has.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Whether it may have messages with this peer.
    #[must_use]
    pub fn has_peer(&self, peer: PeerHash) -> bool {
        self.peers.iter().any(|known| *known == peer.0.to_le_bytes())
    }

    /// Its messages.
    ///
    /// # Errors
    /// What is wrong with them: they do not read back exactly.
    pub fn slots(&self) -> Result<Vec<Slot>, &'static str> {
        let mut slots: Vec<Slot> = Vec::with_capacity(self.messages);
        let mut rest = self.entries;
        let mut base = Base::before(self.first);
        for _ in 0..self.messages {
            let slot = base.take(&mut rest).ok_or("a message that cannot be")?;
            let peer = take_number(&mut rest).and_then(|peer| self.peers.get(usize::try_from(peer).ok()?));
            let peer = peer.ok_or("a peer that is not there")?;
            let is_next = match slots.last() {
                None => slot.id == self.first,
                Some(last) => last.id < slot.id,
            };
            if !is_next {
                return Err("ids that do not rise");
            }
            base = Base::after(&slot);
            slots.push(Slot { peer: PeerHash(u32::from_le_bytes(*peer)), ..slot });
        }
        if rest.is_empty() { Ok(slots) } else { Err("bytes after the end") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(messages: u64) -> Row {
        let slots = (0..messages).map(|n| Slot {
            id: Sequence::at(1_000_000 + n * 30_000),
            position: Position(4096 + n * 1_000 * 8),
            words: 30 + n as u32,
            peer: PeerHash(0x1234_5678 + (n % 5) as u32),
            is_reference: n % 2 == 0,
        });
        Row { actor: ActorId::user(1), journal: 9, slots: slots.collect() }
    }

    #[test]
    fn a_block_reads_back_and_tells_its_peers() {
        for messages in [1, 2, 63, 64] {
            let row = row(messages);
            let bytes = row.encode();
            let packed = Packed::open(row.first(), &bytes).unwrap();
            assert_eq!((packed.messages(), packed.slots().unwrap()), (messages as usize, row.slots.clone()));
            assert!(packed.has_peer(PeerHash(0x1234_5678)) && !packed.has_peer(PeerHash(1)));
            assert_eq!((row.pack().to_row(), row.pack().messages()), (row, messages as usize));
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        let row = row(64);
        let bytes = row.encode();
        let read = |first: Sequence, bytes: &[u8]| Packed::open(first, bytes)?.slots();
        assert_eq!(read(Sequence(5), &bytes), Err("ids that do not rise"));
        for length in 0..bytes.len() {
            assert!(read(row.first(), &bytes[..length]).is_err(), "{length} bytes of {}", bytes.len());
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(read(row.first(), &longer), Err("bytes after the end"));
        assert!(read(row.first(), &[65, 1]).is_err() && read(row.first(), &[0, 0]).is_err());
    }

    #[test]
    fn a_million_messages_take_few_megabytes() {
        let bytes = row(64).encode().len();
        assert!(bytes <= 64 * 12, "{bytes} bytes for 64 messages of five peers");
    }

    proptest::proptest! {
        /// As the fuzz target does, without an instrumented build.
        #[test]
        fn whatever_is_read_is_written_as_the_same_messages(
            messages in 1..=64_u64,
            flips in proptest::collection::vec((0..2000_usize, 0..=255_u8), 0..6),
            noise in proptest::collection::vec(0..=255_u8, 0..80),
        ) {
            let row = row(messages);
            let mut bytes = row.encode();
            for (at, with) in flips {
                let at = at % bytes.len();
                bytes[at] ^= with;
            }
            for bytes in [&bytes, &noise] {
                let Ok(packed) = Packed::open(row.first(), bytes) else { continue };
                let Ok(slots) = packed.slots() else { continue };
                proptest::prop_assert!(slots.is_sorted_by(|one, other| one.id < other.id));
                let again = Row { slots: slots.clone(), ..row.clone() }.encode();
                let read = Packed::open(row.first(), &again).and_then(|packed| packed.slots());
                proptest::prop_assert_eq!(read, Ok(slots));
                proptest::prop_assert!(again.len() <= bytes.len());
            }
        }
    }
}
