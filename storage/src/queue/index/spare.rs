//! Memory of lists that are empty now, for the next ones.
//!
//! Most messages wait for a moment only: a user who gets several in one round of the worker has a list for that long,
//! and the next user with several takes it over, so that on the steady way of messages nothing is allocated.

use super::Slot;
use super::chunk::Chunk;

/// Lists, and bytes of chunks, that are kept: for so many users who get several messages in one round.
const KEPT_MAX: usize = 256;
/// What has grown beyond this is given back instead: bytes of a chunk.
pub(super) const ENTRIES_BYTES_MAX: usize = 512;
/// The same, chunks of a list.
const CHUNKS_MAX: usize = 4;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Spare {
    lists: Vec<Vec<Chunk>>,
    entries: Vec<Vec<u8>>,
}

impl Spare {
    /// A list of one message.
    pub(super) fn list(&mut self, slot: Slot) -> Vec<Chunk> {
        let mut list = self.lists.pop().unwrap_or_default();
        list.push(Chunk::new(slot, self.entries.pop().unwrap_or_default()));
        list
    }

    /// Keeps the memory of a chunk whose messages are gone.
    pub(super) fn keep_chunk(&mut self, chunk: Chunk) {
        let mut entries = chunk.into_entries();
        if self.entries.len() < KEPT_MAX && (1..=ENTRIES_BYTES_MAX).contains(&entries.capacity()) {
            entries.clear();
            self.entries.push(entries);
        }
    }

    /// Keeps the memory of a list whose messages are gone.
    pub(super) fn keep_list(&mut self, mut chunks: Vec<Chunk>) {
        for chunk in chunks.drain(..) {
            self.keep_chunk(chunk);
        }
        if self.lists.len() < KEPT_MAX && (1..=CHUNKS_MAX).contains(&chunks.capacity()) {
            self.lists.push(chunks);
        }
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        let lists = self.lists.iter().map(|list| list.capacity() * size_of::<Chunk>());
        lists.chain(self.entries.iter().map(Vec::capacity)).sum()
    }
}
