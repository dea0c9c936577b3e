//! Which messages wait, and where they lie: in memory, for actors who have something waiting and no others.
//!
//! A record in the log links to the actor's previous one, but that chain alone could be followed from the newest
//! message back only, and delivery begins with the oldest; turning it round would read every record twice, from disk
//! for an actor who was away for long. So the index keeps the place of every waiting message: an actor with one message
//! costs an entry of the table, [`List::One`]; further messages cost about seven bytes each, in [`chunk::Chunk`]s, in order
//! of their numbers. Reading from any number on is a binary search over the chunks and then a walk; trimming the oldest cuts
//! a few bytes off the first chunk; neither touches the disk. Whatever lies where and is taken out in whatever order, a message of
//! an actor who has many costs no more than [`MESSAGE_BYTES_MAX`].

mod chunk;
mod slot;
mod spare;

use hashbrown::{HashMap, hash_map};

use crate::actor::ActorId;
use crate::log::{Backlog, Sequence};

use chunk::{Chunk, Slots};
pub(crate) use slot::Slot;
use spare::Spare;

/// Most bytes of memory for a waiting message, of an actor for whom hundreds wait: a chunk with half of the messages of two
/// neighbours that just do not become one, each in as many bytes as its numbers can need, and twice the room for that.
pub const MESSAGE_BYTES_MAX: u64 = 40;

/// What waits for a actor: never nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Entry {
    messages: u32,
    words: u32,
    list: List,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum List {
    /// One message; its length is the actor's.
    One { sequence: u64, position: u64 },
    /// Several, in order of their numbers. No chunk is empty.
    Many(Vec<Chunk>),
}

const _: () = assert!(size_of::<(ActorId, Entry)>() <= 40);

impl List {
    /// Bytes of memory beside the entry.
    fn memory_bytes(&self) -> usize {
        match self {
            List::One { .. } => 0,
            List::Many(chunks) => {
                chunks.capacity() * size_of::<Chunk>() + chunks.iter().map(Chunk::memory_bytes).sum::<usize>()
            }
        }
    }
}

impl Entry {
    fn one(slot: Slot) -> Self {
        let list = List::One { sequence: slot.sequence, position: slot.position };
        Self { messages: 1, words: slot.words, list }
    }

    fn only(&self) -> Option<Slot> {
        match self.list {
            List::One { sequence, position } => Some(Slot { sequence, position, words: self.words }),
            List::Many(_) => None,
        }
    }

    /// Which chunk would hold a number: the first that ends with no smaller one.
    fn chunk_of(chunks: &[Chunk], sequence: u64) -> usize {
        chunks.partition_point(|chunk| chunk.last_sequence() < sequence)
    }

    fn slots_from(&self, sequence: u64) -> SlotsFrom<'_> {
        match &self.list {
            List::One { .. } => {
                let only = self.only().filter(|slot| slot.sequence >= sequence);
                SlotsFrom { only, chunk: Slots::default(), chunks: &[] }
            }
            List::Many(chunks) => {
                let at = Self::chunk_of(chunks, sequence);
                let mut found = SlotsFrom { only: None, chunk: Slots::default(), chunks: &chunks[at..] };
                if let Some((first, rest)) = found.chunks.split_first() {
                    found.chunks = rest;
                    found.chunk = first.slots();
                    // The first of the chunk that counts is given first; the walk goes on after it.
                    found.only = found.chunk.find(|slot| slot.sequence >= sequence);
                }
                found
            }
        }
    }
}

/// An actor's waiting messages from some number on, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlotsFrom<'a> {
    only: Option<Slot>,
    chunk: Slots<'a>,
    chunks: &'a [Chunk],
}

impl Iterator for SlotsFrom<'_> {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        if let Some(slot) = self.only.take() {
            return Some(slot);
        }
        loop {
            if let Some(slot) = self.chunk.next() {
                return Some(slot);
            }
            let (first, rest) = self.chunks.split_first()?;
            self.chunk = first.slots();
            self.chunks = rest;
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Index {
    // Nobody chooses a number, so the table needs no secret; and a simulation runs the same way each time.
    actors: HashMap<ActorId, Entry, foldhash::fast::FixedState>,
    messages: u64,
    spare: Spare,
}

impl Index {
    /// Messages that wait, of all actors.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Users for whom something waits.
    pub(crate) fn actors(&self) -> impl ExactSizeIterator<Item = ActorId> + '_ {
        self.actors.keys().copied()
    }

    /// Messages, bytes, and the newest one's position of an actor; zeros for none.
    pub(crate) fn load(&self, actor: ActorId) -> (u64, u64, u64) {
        self.actors.get(&actor).map_or((0, 0, 0), |entry| {
            let last = match &entry.list {
                List::One { position, .. } => *position,
                List::Many(chunks) => chunks.last().map_or(0, Chunk::last_position),
            };
            (u64::from(entry.messages), u64::from(entry.words) * 8, last)
        })
    }

    /// What waits for a actor.
    pub(crate) fn backlog(&self, actor: ActorId) -> Option<Backlog> {
        let entry = self.actors.get(&actor)?;
        let first = entry.slots_from(0).next()?.sequence;
        let last = match &entry.list {
            List::One { sequence, .. } => *sequence,
            List::Many(chunks) => chunks.last()?.last_sequence(),
        };
        Some(Backlog {
            messages: u64::from(entry.messages),
            bytes: u64::from(entry.words) * 8,
            first: Sequence(first),
            last: Sequence(last),
        })
    }

    /// What waits for a actor, from a number on.
    pub(crate) fn slots_from(&self, actor: ActorId, sequence: u64) -> SlotsFrom<'_> {
        self.actors.get(&actor).map(|entry| entry.slots_from(sequence)).unwrap_or_default()
    }

    /// Where a message lies, if it waits.
    pub(crate) fn get(&self, actor: ActorId, sequence: u64) -> Option<Slot> {
        self.slots_from(actor, sequence).next().filter(|slot| slot.sequence == sequence)
    }

    /// Notes where a message lies. Returns where it lay before.
    pub(crate) fn put(&mut self, actor: ActorId, slot: Slot) -> Option<Slot> {
        let entry = match self.actors.entry(actor) {
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Entry::one(slot));
                self.messages += 1;
                return None;
            }
            hash_map::Entry::Occupied(occupied) => occupied.into_mut(),
        };
        if let Some(only) = entry.only() {
            if only.sequence == slot.sequence {
                *entry = Entry::one(slot);
                return Some(only);
            }
            entry.list = List::Many(self.spare.list(only));
        }
        let List::Many(chunks) = &mut entry.list else { return None };
        let old = put_among(chunks, slot);
        if old.is_none() {
            entry.messages += 1;
            self.messages += 1;
        }
        let others = entry.words.saturating_sub(old.map_or(0, |old| old.words));
        entry.words = others.saturating_add(slot.words);
        old
    }

    /// There will be so many actors.
    pub(crate) fn reserve(&mut self, actors: usize) {
        self.actors.reserve(actors);
    }

    /// Notes all messages of an actor of whom there are none yet, in order of their numbers. `false`: they are not.
    pub(crate) fn put_all(&mut self, actor: ActorId, slots: &[Slot]) -> bool {
        if !slots.is_sorted_by(|a, b| a.sequence < b.sequence) || self.actors.contains_key(&actor) {
            return false;
        }
        let Some((first, rest)) = slots.split_first() else { return true };
        let mut entry = Entry::one(*first);
        if !rest.is_empty() {
            let chunks =
                slots.chunks(chunk::CHUNK_MESSAGES_MAX).filter_map(|part| pack(part).pop()).collect();
            entry.list = List::Many(chunks);
            entry.messages = u32::try_from(slots.len()).unwrap_or(u32::MAX);
            entry.words = slots.iter().fold(0, |words: u32, slot| words.saturating_add(slot.words));
        }
        self.messages += u64::from(entry.messages);
        self.actors.insert(actor, entry);
        true
    }

    /// A message no longer waits. Returns where it lay.
    pub(crate) fn remove(&mut self, actor: ActorId, sequence: u64) -> Option<Slot> {
        let hash_map::Entry::Occupied(mut occupied) = self.actors.entry(actor) else { return None };
        let entry = occupied.get_mut();
        let slot = match &mut entry.list {
            List::One { .. } => entry.only().filter(|slot| slot.sequence == sequence)?,
            List::Many(chunks) => remove_among(chunks, sequence, &mut self.spare)?,
        };
        entry.messages -= 1;
        entry.words = entry.words.saturating_sub(slot.words);
        if entry.messages == 0
            && let List::Many(chunks) = occupied.remove().list
        {
            self.spare.keep_list(chunks);
        }
        self.messages -= 1;
        Some(slot)
    }

    /// All messages of an actor up to a number no longer wait. Tells each; returns how many.
    pub(crate) fn remove_up_to(&mut self, actor: ActorId, sequence: u64, mut gone: impl FnMut(Slot)) -> u64 {
        let Some(entry) = self.actors.get_mut(&actor) else { return 0 };
        let before = entry.messages;
        for slot in entry.slots_from(0).take_while(|slot| slot.sequence <= sequence) {
            gone(slot);
        }
        match &mut entry.list {
            List::One { sequence: only, .. } => entry.messages -= u32::from(*only <= sequence),
            List::Many(chunks) => {
                let whole = chunks.partition_point(|chunk| chunk.last_sequence() <= sequence);
                for chunk in chunks.drain(..whole) {
                    entry.messages -= chunk.messages() as u32;
                    for slot in chunk.slots() {
                        entry.words = entry.words.saturating_sub(slot.words);
                    }
                }
                while let Some(first) = chunks.first_mut() {
                    let Some(slot) = first.slots().next().filter(|slot| slot.sequence <= sequence) else {
                        break;
                    };
                    first.take_first(slot.sequence);
                    entry.messages -= 1;
                    entry.words = entry.words.saturating_sub(slot.words);
                }
            }
        }
        let removed = u64::from(before - entry.messages);
        if entry.messages == 0 {
            self.forget(actor);
        }
        self.messages -= removed;
        removed
    }

    /// Nothing waits for an actor any more.
    fn forget(&mut self, actor: ActorId) {
        if let Some(Entry { list: List::Many(chunks), .. }) = self.actors.remove(&actor) {
            self.spare.keep_list(chunks);
        }
    }

    /// Bytes of memory that the messages of an actor take, a place in the table included.
    pub(crate) fn memory_bytes_of(&self, actor: ActorId) -> usize {
        self.actors.get(&actor).map_or(0, |entry| size_of::<(ActorId, Entry)>() + entry.list.memory_bytes())
    }

    /// Bytes of memory it takes, the allocator's own aside.
    pub(crate) fn memory_bytes(&self) -> usize {
        let lists = self.actors.values().map(|entry| entry.list.memory_bytes());
        self.actors.allocation_size() + lists.sum::<usize>() + self.spare.memory_bytes()
    }
}

/// Adds a message or changes it.
fn put_among(chunks: &mut Vec<Chunk>, slot: Slot) -> Option<Slot> {
    // A new message is later than all others; only a copy by compaction is not. One chunk is looked at, not several.
    if chunks.last().is_none_or(|last| last.last_sequence() < slot.sequence) {
        match chunks.last_mut() {
            Some(last) if !last.is_full() => last.push(slot),
            _ => chunks.push(Chunk::new(slot, Vec::new())),
        }
        return None;
    }
    let at = Entry::chunk_of(chunks, slot.sequence);
    let mut slots: Vec<Slot> = chunks[at].slots().collect();
    let old = match slots.binary_search_by_key(&slot.sequence, |slot| slot.sequence) {
        Ok(found) => Some(std::mem::replace(&mut slots[found], slot)),
        Err(place) => {
            slots.insert(place, slot);
            None
        }
    };
    chunks.splice(at..=at, pack(&slots));
    old
}

/// Takes a message out.
fn remove_among(chunks: &mut Vec<Chunk>, sequence: u64, spare: &mut Spare) -> Option<Slot> {
    let at = Entry::chunk_of(chunks, sequence);
    let chunk = chunks.get_mut(at)?;
    if let Some(slot) = chunk.take_first(sequence) {
        match chunk.messages() {
            0 => spare.keep_chunk(chunks.remove(at)),
            _ => merge(chunks, at, spare),
        }
        return Some(slot);
    }
    let mut slots: Vec<Slot> = chunk.slots().collect();
    let found = slots.binary_search_by_key(&sequence, |slot| slot.sequence).ok()?;
    let slot = slots.remove(found);
    chunks.splice(at..=at, pack(&slots));
    merge(chunks, at, spare);
    Some(slot)
}

/// A chunk has fewer messages than it had: makes one of it and a neighbour if they fit well, so that those taken out in any order
/// leave no list of nearly empty chunks. A short list, which most are, is left alone.
fn merge(chunks: &mut Vec<Chunk>, at: usize, spare: &mut Spare) {
    if chunks.len() <= MERGED_FROM {
        return;
    }
    let fits = |first: usize| match chunks.get(first..first + 2) {
        Some([one, two]) => one.messages() + two.messages() <= MERGED_MESSAGES,
        _ => false,
    };
    let Some(first) = [at.checked_sub(1), Some(at)].into_iter().flatten().find(|&first| fits(first)) else {
        return;
    };
    let slots: Vec<Slot> = chunks[first..first + 2].iter().flat_map(Chunk::slots).collect();
    for old in chunks.splice(first..first + 2, pack(&slots)) {
        spare.keep_chunk(old);
    }
    if chunks.capacity() > 2 * chunks.len() {
        chunks.shrink_to_fit();
    }
}

/// Lists of more chunks than this have no two neighbours of few messages.
const MERGED_FROM: usize = 4;

/// How many messages two neighbours may have to become one: three quarters of a chunk, so that it does not fill up at once.
const MERGED_MESSAGES: usize = chunk::CHUNK_MESSAGES_MAX * 3 / 4;

/// Messages in chunks: one, or two halves when they are too many for one.
fn pack(slots: &[Slot]) -> Vec<Chunk> {
    let size = if slots.len() > chunk::CHUNK_MESSAGES_MAX { slots.len().div_ceil(2) } else { slots.len() };
    slots
        .chunks(size.max(1))
        .filter_map(|part| {
            let (first, rest) = part.split_first()?;
            let mut chunk = Chunk::new(*first, Vec::new());
            for slot in rest {
                chunk.push(*slot);
            }
            chunk.trim_memory();
            Some(chunk)
        })
        .collect()
}

#[cfg(test)]
mod tests;
