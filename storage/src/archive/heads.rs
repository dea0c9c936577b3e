//! What an archive knows that is not in the directory yet: the open block of each actor that has sent or got something of
//! late, and the blocks that wait to be written there.
//!
//! ```text
//!  message ──▶ open block of its actor ── full, or the oldest of too many ──▶ sealed ── handed out ── committed ──▶ gone
//! ```

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::chunks::{Chain, Chunks, PIECE_MEMORY_BYTES};
use super::pack::Base;
use super::row::{ROW_MESSAGES_MAX, Row};
use super::slot::Slot;
use crate::actor::ActorId;
use crate::log::{Position, Sequence};

/// Messages of one actor in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) actor: ActorId,
    pub(super) first: u64,
    pub(super) last: u64,
    /// Where the text of its first message lies: none lies before it.
    pub(super) first_position: u64,
    /// End of the record of its last message: durable once the journal is up to here.
    pub(super) end: u64,
    base: Base,
    chain: Chain,
    messages: u32,
}

impl Block {
    fn new(actor: ActorId, slot: &Slot) -> Self {
        Self {
            actor,
            first: slot.id.0,
            last: slot.id.0,
            first_position: slot.position.0,
            end: 0,
            base: Base::before(slot.id),
            chain: Chain::EMPTY,
            messages: 0,
        }
    }
}

/// What is known of an actor: an open block, or sealed ones, or both.
#[derive(Debug, Default)]
struct Head {
    open: Option<Block>,
    sealed: u32,
}

/// Bytes of memory of an actor in the table and in the order, the chain of its block aside.
const HEAD_MEMORY_BYTES: usize = size_of::<(ActorId, Head)>() + size_of::<(ActorId, u64)>();

const _: () = assert!(size_of::<Head>() <= 88);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Heads {
    // Nobody chooses an actor's number, so the table needs no secret; and a simulation runs the same way each time.
    actors: HashMap<ActorId, Head, foldhash::fast::FixedState>,
    /// Actors and first ids of open blocks in the order in which they were begun, with some that are sealed by now.
    order: VecDeque<(ActorId, u64)>,
    /// The oldest first.
    pub(super) sealed: VecDeque<Block>,
    chunks: Chunks,
    open: usize,
    open_pieces: usize,
    sealed_pieces: usize,
    messages: u64,
}

impl Heads {
    /// Messages in memory.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// Open blocks.
    pub(super) fn open_blocks(&self) -> usize {
        self.open
    }

    /// Bytes of memory that open blocks take.
    pub(super) fn open_bytes(&self) -> usize {
        self.open * HEAD_MEMORY_BYTES + self.open_pieces * PIECE_MEMORY_BYTES
    }

    /// Bytes of memory that sealed blocks take.
    pub(super) fn sealed_bytes(&self) -> usize {
        self.sealed.len() * size_of::<Block>() + self.sealed_pieces * PIECE_MEMORY_BYTES
    }

    /// Bytes of memory that it has, in use or not.
    pub(super) fn memory_bytes(&self) -> usize {
        self.chunks.memory_bytes()
            + self.actors.allocation_size()
            + self.order.capacity() * size_of::<(ActorId, u64)>()
            + self.sealed.capacity() * size_of::<Block>()
    }

    /// Adds a message, whose record ends at `end`. One that is not later than the actor's last is none: `false`.
    #[inline]
    pub(super) fn push(&mut self, actor: ActorId, slot: &Slot, end: u64) -> bool {
        let head = self.actors.entry(actor).or_default();
        let block = match &mut head.open {
            Some(block) if block.last >= slot.id.0 => return false,
            Some(block) => block,
            open => {
                self.order.push_back((actor, slot.id.0));
                self.open += 1;
                open.insert(Block::new(actor, slot))
            }
        };
        let before = block.chain.pieces();
        self.chunks.push(&mut block.chain, block.base.pack(slot).bytes());
        self.open_pieces += block.chain.pieces() - before;
        (block.base, block.last, block.end) = (Base::after(slot), slot.id.0, end);
        block.messages += 1;
        self.messages += 1;
        if block.messages as usize >= ROW_MESSAGES_MAX {
            self.seal(actor);
        }
        true
    }

    /// The open block of an actor is to be written.
    pub(super) fn seal(&mut self, actor: ActorId) {
        let Some(head) = self.actors.get_mut(&actor) else { return };
        let Some(block) = head.open.take() else { return };
        head.sealed += 1;
        let pieces = block.chain.pieces();
        self.open -= 1;
        self.open_pieces -= pieces;
        self.sealed_pieces += pieces;
        self.sealed.push_back(block);
        self.tidy();
    }

    /// Seals the block that was begun first. `false`: there is none.
    pub(super) fn seal_oldest(&mut self) -> bool {
        while let Some((actor, first)) = self.order.pop_front() {
            let open = self.actors.get(&actor).and_then(|head| head.open.as_ref());
            if open.is_some_and(|block| block.first == first) {
                self.seal(actor);
                return true;
            }
        }
        false
    }

    /// Seals open blocks that begin before a position of the journal.
    pub(super) fn seal_before(&mut self, position: u64) {
        while let Some((actor, first)) = self.order.front().copied() {
            let open = self.actors.get(&actor).and_then(|head| head.open.as_ref());
            match open.filter(|block| block.first == first) {
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
        let open = self.actors.values().filter_map(|head| head.open.as_ref());
        let mut meant: Vec<(u64, ActorId)> =
            open.filter(|block| is_meant(block)).map(|block| (block.first, block.actor)).collect();
        meant.sort_unstable();
        meant.into_iter().for_each(|(_, actor)| self.seal(actor));
    }

    /// Forgets the places in the order of blocks that are sealed.
    fn tidy(&mut self) {
        if self.order.len() <= 2 * self.open + 64 {
            return;
        }
        let Self { order, actors, .. } = self;
        order.retain(|(actor, first)| {
            let open = actors.get(actor).and_then(|head| head.open.as_ref());
            open.is_some_and(|block| block.first == *first)
        });
    }

    fn read(&self, block: &Block, bytes: &mut Vec<u8>, slots: &mut Vec<Slot>) {
        bytes.clear();
        self.chunks.read(&block.chain, bytes);
        let mut rest = &bytes[..];
        let mut base = Base::before(Sequence(block.first));
        while let Some(slot) = base.unpack(&mut rest) {
            base = Base::after(&slot);
            slots.push(slot);
        }
    }

    /// What a block holds.
    pub(super) fn row(&self, block: &Block, journal: u64) -> Row {
        let mut slots = Vec::with_capacity(block.messages as usize);
        self.read(block, &mut Vec::with_capacity(block.chain.bytes()), &mut slots);
        Row { actor: block.actor, journal, slots }
    }

    /// The first of the sealed blocks is no longer needed.
    pub(super) fn drop_sealed(&mut self) {
        if let Some(block) = self.sealed.pop_front() {
            self.release(&block);
        }
    }

    fn release(&mut self, block: &Block) {
        self.sealed_pieces -= block.chain.pieces();
        self.messages -= u64::from(block.messages);
        self.chunks.release(block.chain);
        if let Some(head) = self.actors.get_mut(&block.actor) {
            head.sealed -= 1;
            if head.sealed == 0 && head.open.is_none() {
                self.actors.remove(&block.actor);
            }
        }
    }

    /// The messages of an actor in order.
    pub(super) fn of(&self, actor: ActorId) -> Vec<Slot> {
        let mut slots = Vec::new();
        let Some(head) = self.actors.get(&actor) else { return slots };
        let mut bytes = Vec::new();
        if head.sealed > 0 {
            for block in self.sealed.iter().filter(|block| block.actor == actor) {
                self.read(block, &mut bytes, &mut slots);
            }
        }
        if let Some(block) = &head.open {
            self.read(block, &mut bytes, &mut slots);
        }
        slots
    }

    /// Forgets all messages of an actor, and tells each. Blocks among the first `handed` of the sealed ones stay: they are
    /// about to be committed.
    pub(super) fn forget(&mut self, actor: ActorId, handed: usize, mut gone: impl FnMut(Slot)) {
        let Some(head) = self.actors.get(&actor) else { return };
        if head.open.is_some() {
            self.seal(actor);
        }
        let mut at = handed;
        while let Some(block) = self.sealed.get(at).copied() {
            if block.actor != actor {
                at += 1;
                continue;
            }
            self.sealed.remove(at);
            self.row(&block, 0).slots.into_iter().for_each(&mut gone);
            self.release(&block);
        }
    }

    /// Nothing lies before this, the first `handed` of the sealed blocks aside; `None`: there is nothing. Blocks are begun
    /// in the order of positions, so that the oldest open one tells for all.
    pub(super) fn first_position(&self, handed: usize) -> Option<Position> {
        let sealed = self.sealed.iter().skip(handed).map(|block| block.first_position);
        let is_open = |(actor, first): &(ActorId, u64)| {
            let open = self.actors.get(actor).and_then(|head| head.open.as_ref());
            open.filter(|block| block.first == *first).map(|block| block.first_position)
        };
        let open = self.order.iter().find_map(is_open);
        sealed.chain(open).min().map(Position)
    }

    /// All blocks, the sealed ones first, each kind in its order: with `true` for an open one.
    pub(super) fn all(&self) -> Vec<(bool, Block)> {
        let mut open: Vec<Block> = self.actors.values().filter_map(|head| head.open).collect();
        open.sort_unstable_by_key(|block| (block.first, block.actor));
        let sealed = self.sealed.iter().map(|block| (false, *block));
        sealed.chain(open.into_iter().map(|block| (true, block))).collect()
    }
}
