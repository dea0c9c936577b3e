//! What an archive knows that is not in the directory yet: the open block of each actor that has sent or got something of
//! late, and the blocks that wait to be written there, in the form in which they are written.
//!
//! ```text
//!  message ──▶ open block of its actor ── full, or the oldest of too many ──▶ sealed ── handed out ── committed ──▶ gone
//!              pieces of memory                                               one piece
//! ```
//!
//! A block is put together when it is sealed, and not when it is written: its bytes have been touched of late, and the
//! next blocks take the pieces in which they were. So what messages are written to is as much memory as open blocks need, which
//! the processor has near, however long the directory takes.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;

use hashbrown::{HashMap, HashTable};

use super::chunks::{Chain, Chunks, NONE, PIECE_BYTES, PIECE_MEMORY_BYTES};
use super::pack::{Base, PACKED_BYTES_MAX, Packed, copy_message};
use super::row::{self, PackedRow, ROW_MESSAGES_MAX};
use super::slot::Slot;
use crate::actor::ActorId;
use crate::log::{PeerHash, Position, Sequence};

/// Messages of one actor in order, while more may come: a line of the cache, all that a message looks up and changes beside its
/// own bytes.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Block {
    actor: ActorId,
    pub(super) first: u64,
    last: u64,
    /// Where the text of its first message lies: none lies before it.
    pub(super) first_position: u64,
    /// Where the text of its last message lies: none lies behind it. 0 before the first one.
    last_position: u64,
    /// Bytes of the journal that it needs, divided by eight.
    held_words: u32,
    /// Its bytes in pieces: the first of them and the last, and how many bytes.
    piece: u32,
    piece_last: u32,
    bytes: u16,
    messages: u8,
    /// Some of its messages have another peer than the first.
    has_peers: bool,
    /// The peer of its first message: of most blocks, of all messages.
    peer: PeerHash,
}

const _: () = assert!(size_of::<Block>() == 64 && ROW_MESSAGES_MAX <= u8::MAX as usize / 2);
const _: () = assert!(ROW_MESSAGES_MAX * (PACKED_BYTES_MAX + 4) <= u16::MAX as usize);

/// In the place of a message's peer: the first one of the block.
const FIRST: u8 = 0;
/// In the place of a message's peer: another one, whose hash follows. Of its number nothing is known before the block is sealed, so
/// that a message need not look at what the block has already.
const OTHER: u8 = 1;

impl Block {
    fn new(actor: ActorId, slot: &Slot) -> Self {
        Self {
            actor,
            first: slot.id.0,
            last: slot.id.0,
            first_position: slot.position.0,
            last_position: 0,
            held_words: 0,
            piece: NONE,
            piece_last: NONE,
            bytes: 0,
            messages: 0,
            has_peers: false,
            peer: slot.peer,
        }
    }

    /// What its next message is told apart from.
    #[inline]
    fn base(&self) -> Base {
        Base::of(Sequence(self.last), Position(self.last_position))
    }

    /// Its bytes.
    #[inline]
    fn chain(&self) -> Chain {
        Chain { first: self.piece, last: self.piece_last, length: u32::from(self.bytes) }
    }

    /// Adds a message that is later than its last.
    #[inline]
    fn push(&mut self, slot: &Slot, chunks: &mut Chunks) {
        debug_assert!(self.last_position <= slot.position.0, "texts are told in their order");
        let is_first = slot.peer == self.peer;
        let mut chain = self.chain();
        match self.base().pack(slot, if is_first { FIRST } else { OTHER }) {
            Packed::Short(bytes, length) => chunks.push_short(&mut chain, bytes, length),
            Packed::Long(bytes, length) => chunks.push(&mut chain, &bytes[..length]),
        }
        if !is_first {
            chunks.push_short(&mut chain, u128::from(slot.peer.0), 4);
            self.has_peers = true;
        }
        (self.piece, self.piece_last, self.bytes) = (chain.first, chain.last, chain.length as u16);
        (self.last, self.last_position) = (slot.id.0, slot.position.0);
        self.held_words += (slot.held_bytes() / 8) as u32;
        self.messages += 1;
    }

    /// Whether a message must begin another block. One whose text lies before that of the last does too: a block is counted for the
    /// segments from its first text to its last.
    #[inline]
    fn is_full(&self, slot: &Slot) -> bool {
        u64::from(self.held_words) + slot.held_bytes() / 8 > u64::from(u32::MAX)
            || slot.position.0 < self.last_position
    }

    /// Its peers and messages as a row has them, of its bytes and some zeros behind them.
    fn content(&self, bytes: &[u8]) -> Vec<u8> {
        let (messages, length) = (usize::from(self.messages), usize::from(self.bytes));
        if !self.has_peers {
            return row::content(messages, &[self.peer], &bytes[..length]);
        }
        let mut peers = vec![self.peer];
        let mut entries = vec![0; bytes.len()];
        let (mut from, mut to) = (0, 0);
        while from < length {
            let (taken, peer) = copy_message(&bytes[from..], &mut entries[to..]);
            from += taken;
            to += taken;
            if peer == OTHER
                && let Some(hash) = bytes[from..].first_chunk()
            {
                entries[to - 1] = row::place_of(PeerHash(u32::from_le_bytes(*hash)), &mut peers);
                from += hash.len();
            }
        }
        row::content(messages, &peers, &entries[..to])
    }
}

/// A block that waits to be written.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    pub(super) row: PackedRow,
    /// All its records end before this: they are durable once the journal is up to here.
    pub(super) end: u64,
}

/// Bytes of memory of an open block beside those of its messages: its own and half as much for what is free in the table, and its
/// place in the order.
const OPEN_MEMORY_BYTES: usize = (size_of::<Block>() + 1) * 3 / 2 + size_of::<(ActorId, u64)>();

/// Bytes of memory of a sealed block beside those of its messages: its own, and what an allocation has.
const SEALED_MEMORY_BYTES: usize = size_of::<Sealed>() + 2 * size_of::<usize>();

// A block takes no more when it is sealed, with the numbers before its messages: what there is room for as open blocks there is
// room for as sealed ones.
const _: () = assert!(SEALED_MEMORY_BYTES + 6 <= OPEN_MEMORY_BYTES + PIECE_MEMORY_BYTES - PIECE_BYTES);

// Nobody chooses an actor's number, so tables of them need no secret; and a simulation runs the same way each time.
type Hashes = foldhash::fast::FixedState;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Heads {
    journal: u64,
    /// Open blocks, by actor.
    open: HashTable<Block>,
    hashes: Hashes,
    /// Actors and first ids of open blocks in the order in which they were begun, with some that are sealed by now.
    order: VecDeque<(ActorId, u64)>,
    /// The oldest first.
    pub(super) sealed: VecDeque<Sealed>,
    /// How many of those are an actor's.
    waiting: HashMap<ActorId, u32, Hashes>,
    /// The bytes of open blocks.
    chunks: Chunks,
    /// Bytes of the messages of sealed blocks.
    sealed_content: usize,
    messages: u64,
    /// Where the newest record ends that it was told of.
    end: u64,
}

impl Heads {
    /// Of the journal with this id.
    pub(super) fn new(journal: u64) -> Self {
        Self { journal, ..Self::default() }
    }

    /// Messages in memory.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// Open blocks.
    pub(super) fn open_blocks(&self) -> usize {
        self.open.len()
    }

    /// Bytes of memory that open blocks take.
    pub(super) fn open_bytes(&self) -> usize {
        self.open.len() * OPEN_MEMORY_BYTES + self.chunks.pieces() * PIECE_MEMORY_BYTES
    }

    /// Bytes of memory that sealed blocks take.
    pub(super) fn sealed_bytes(&self) -> usize {
        self.sealed.len() * SEALED_MEMORY_BYTES + self.sealed_content
    }

    /// Bytes of memory that it has, in use or not.
    pub(super) fn memory_bytes(&self) -> usize {
        let sealed_unused = self.sealed.capacity() - self.sealed.len();
        self.chunks.memory_bytes()
            + self.open.allocation_size()
            + self.waiting.allocation_size()
            + self.order.capacity() * size_of::<(ActorId, u64)>()
            + self.sealed_bytes()
            + sealed_unused * size_of::<Sealed>()
    }

    /// Adds a message, whose record ends at `end`. One that is not later than the actor's last is none: `false`.
    #[inline]
    pub(super) fn push(&mut self, actor: ActorId, slot: &Slot, end: u64) -> bool {
        let hash = self.hashes.hash_one(actor);
        let Self { open, chunks, .. } = self;
        let messages = match open.find_mut(hash, |block| block.actor == actor) {
            Some(block) if block.last >= slot.id.0 => return false,
            Some(block) if block.is_full(slot) => {
                self.seal(actor);
                return self.push(actor, slot, end);
            }
            Some(block) => {
                block.push(slot, chunks);
                block.messages
            }
            None => self.begin(actor, hash, slot),
        };
        self.messages += 1;
        self.end = self.end.max(end);
        if usize::from(messages) >= ROW_MESSAGES_MAX {
            self.seal(actor);
        }
        true
    }

    /// Opens a block for an actor that has none, with its first message. Returns how many it has.
    fn begin(&mut self, actor: ActorId, hash: u64, slot: &Slot) -> u8 {
        let mut block = Block::new(actor, slot);
        block.push(slot, &mut self.chunks);
        self.order.push_back((actor, block.first));
        let Self { open, hashes, .. } = self;
        open.insert_unique(hash, block, |block| hashes.hash_one(block.actor));
        block.messages
    }

    fn open_of(&self, actor: ActorId) -> Option<&Block> {
        self.open.find(self.hashes.hash_one(actor), |block| block.actor == actor)
    }

    /// The open block of an actor is to be written.
    pub(super) fn seal(&mut self, actor: ActorId) {
        let hash = self.hashes.hash_one(actor);
        let Ok(entry) = self.open.find_entry(hash, |block| block.actor == actor) else { return };
        let (block, _) = entry.remove();
        let row = self.pack(&block);
        self.chunks.release(&block.chain());
        self.sealed_content += row.content.len();
        *self.waiting.entry(actor).or_default() += 1;
        self.sealed.push_back(Sealed { row, end: self.end });
        self.tidy();
    }

    /// An open block in the form in which it is written.
    fn pack(&self, block: &Block) -> PackedRow {
        let chain = block.chain();
        let mut bytes = Vec::with_capacity(chain.bytes() + PACKED_BYTES_MAX);
        self.chunks.slices(&chain).for_each(|piece| bytes.extend_from_slice(piece));
        bytes.resize(bytes.len() + PACKED_BYTES_MAX, 0);
        PackedRow {
            actor: block.actor,
            journal: self.journal,
            first: Sequence(block.first),
            last: Sequence(block.last),
            lowest: Position(block.first_position),
            highest: Position(block.last_position),
            held_bytes: u64::from(block.held_words) * 8,
            content: block.content(&bytes).into_boxed_slice(),
        }
    }

    /// Seals the block that was begun first. `false`: there is none.
    pub(super) fn seal_oldest(&mut self) -> bool {
        while let Some((actor, first)) = self.order.pop_front() {
            if self.open_of(actor).is_some_and(|block| block.first == first) {
                self.seal(actor);
                return true;
            }
        }
        false
    }

    /// Seals open blocks that begin before a position of the journal.
    pub(super) fn seal_before(&mut self, position: u64) {
        while let Some((actor, first)) = self.order.front().copied() {
            match self.open_of(actor).filter(|block| block.first == first) {
                Some(block) if block.first_position >= position => return,
                Some(_) => self.seal(actor),
                None => {}
            }
            if self.order.front() == Some(&(actor, first)) {
                self.order.pop_front();
            }
        }
    }

    /// Seals open blocks of which this is true.
    pub(super) fn seal_where(&mut self, is_meant: impl Fn(&Block) -> bool) {
        let meant = self.in_order(is_meant);
        meant.into_iter().for_each(|(_, actor)| self.seal(actor));
    }

    /// Open blocks of which this is true, by their first ids.
    fn in_order(&self, is_meant: impl Fn(&Block) -> bool) -> Vec<(u64, ActorId)> {
        let meant = self.open.iter().filter(|block| is_meant(block)).map(|block| (block.first, block.actor));
        let mut meant: Vec<(u64, ActorId)> = meant.collect();
        meant.sort_unstable();
        meant
    }

    /// Forgets the places in the order of blocks that are sealed.
    fn tidy(&mut self) {
        if self.order.len() <= 2 * self.open.len() + 64 {
            return;
        }
        let Self { order, open, hashes, .. } = self;
        order.retain(|(actor, first)| {
            let open = open.find(hashes.hash_one(actor), |block| block.actor == *actor);
            open.is_some_and(|block| block.first == *first)
        });
    }

    /// The first of the sealed blocks is no longer needed.
    pub(super) fn drop_sealed(&mut self) {
        if let Some(sealed) = self.sealed.pop_front() {
            self.count_out(&sealed.row);
        }
    }

    fn count_out(&mut self, row: &PackedRow) {
        self.sealed_content -= row.content.len();
        self.messages -= row.messages() as u64;
        if let Some(waiting) = self.waiting.get_mut(&row.actor) {
            *waiting -= 1;
            if *waiting == 0 {
                self.waiting.remove(&row.actor);
            }
        }
    }

    /// The messages of an actor in order.
    pub(super) fn of(&self, actor: ActorId) -> Vec<Slot> {
        let mut slots = Vec::new();
        if self.waiting.contains_key(&actor) {
            let waiting = self.sealed.iter().filter(|sealed| sealed.row.actor == actor);
            waiting.for_each(|sealed| slots.extend(sealed.row.slots()));
        }
        if let Some(block) = self.open_of(actor) {
            slots.extend(self.pack(block).slots());
        }
        slots
    }

    /// Forgets all messages of an actor, and tells each. Blocks among the first `handed` of the sealed ones stay: they are
    /// about to be committed.
    pub(super) fn forget(&mut self, actor: ActorId, handed: usize, mut gone: impl FnMut(Slot)) {
        self.seal(actor);
        if !self.waiting.contains_key(&actor) {
            return;
        }
        let mut at = handed;
        while let Some(sealed) = self.sealed.get(at) {
            if sealed.row.actor != actor {
                at += 1;
                continue;
            }
            if let Some(sealed) = self.sealed.remove(at) {
                self.count_out(&sealed.row);
                sealed.row.slots().into_iter().for_each(&mut gone);
            }
        }
    }

    /// Nothing lies before this, the first `handed` of the sealed blocks aside; `None`: there is nothing. Blocks are begun
    /// in the order of positions, so that the oldest open one tells for all.
    pub(super) fn first_position(&self, handed: usize) -> Option<Position> {
        let sealed = self.sealed.iter().skip(handed).map(|sealed| sealed.row.lowest.0);
        let is_open = |(actor, first): &(ActorId, u64)| {
            let open = self.open_of(*actor).filter(|block| block.first == *first);
            open.map(|block| block.first_position)
        };
        let open = self.order.iter().find_map(is_open);
        sealed.chain(open).min().map(Position)
    }

    /// How many blocks there are.
    pub(super) fn blocks(&self) -> usize {
        self.sealed.len() + self.open.len()
    }

    /// Tells all blocks, the sealed ones first, each kind in its order: with `true` for an open one, and with a position before which
    /// all its records end.
    pub(super) fn for_each(&self, mut tell: impl FnMut(bool, &PackedRow, u64)) {
        self.sealed.iter().for_each(|sealed| tell(false, &sealed.row, sealed.end));
        for (_, actor) in self.in_order(|_| true) {
            if let Some(block) = self.open_of(actor) {
                tell(true, &self.pack(block), self.end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Row;

    /// A message of an actor, of three conversations at once; its numbers are small and large ones.
    fn slot(number: u64) -> Slot {
        Slot {
            id: Sequence(Sequence::at(1_700_000_000_000 + number / 3 * 90_000_000).0 + number % 3 * 200),
            position: Position(4096 + number * 8 * [20, 70_000, 300_000_000][number as usize % 3]),
            words: 30 + number as u32 % 7 * 100_000,
            peer: PeerHash(0x8000_0001 + (number / 2 % 3) as u32),
            is_reference: number.is_multiple_of(2),
        }
    }

    fn slots(actor: u64, count: u64) -> Vec<Slot> {
        let mut slots: Vec<Slot> = (0..count).map(|number| slot(number * (1 + actor % 2))).collect();
        slots.sort_by_key(|slot| slot.id);
        let mut positions: Vec<Position> = slots.iter().map(|slot| slot.position).collect();
        positions.sort_unstable();
        slots.iter_mut().zip(positions).for_each(|(slot, position)| slot.position = position);
        slots
    }

    #[test]
    fn blocks_are_sealed_as_rows_of_their_messages() {
        let mut heads = Heads::new(7);
        let of_all: Vec<Vec<Slot>> = (0..20).map(|actor| slots(actor, 3 * actor + 1)).collect();
        for number in 0..60 {
            for (actor, slots) in of_all.iter().enumerate() {
                let Some(slot) = slots.get(number) else { continue };
                assert!(heads.push(ActorId::user(actor as u64), slot, number as u64));
                assert!(!heads.push(ActorId::user(actor as u64), slot, number as u64), "it is there");
            }
        }
        for (actor, slots) in of_all.into_iter().enumerate() {
            let actor = ActorId::user(actor as u64);
            assert_eq!(heads.of(actor), slots, "open");
            heads.seal(actor);
            assert_eq!(heads.of(actor), slots, "sealed");
            let row = Row { actor, journal: 7, slots };
            assert_eq!(heads.sealed.back().unwrap().row, row.pack());
        }
        assert_eq!((heads.chunks.pieces(), heads.open_blocks(), heads.open_bytes()), (0, 0, 0));
        (0..20).for_each(|_| heads.drop_sealed());
        assert_eq!((heads.messages(), heads.sealed_bytes(), heads.waiting.len()), (0, 0, 0));
    }

    #[test]
    fn a_block_takes_no_more_memory_when_it_is_sealed() {
        let mut heads = Heads::default();
        for count in [1, 2, 5, 20, 63] {
            slots(0, count).iter().for_each(|slot| assert!(heads.push(ActorId::user(count), slot, 1)));
            let open = heads.open_bytes();
            heads.seal(ActorId::user(count));
            assert!(heads.sealed_bytes() <= open, "{} bytes of {open}", heads.sealed_bytes());
            heads.drop_sealed();
        }
    }
}
