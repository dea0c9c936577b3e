//! Bytes of many short lists, in pieces of a fixed size: a list grows without being copied, and what one gives back the
//! next one takes, so that on the steady way of messages nothing is allocated.

/// Bytes of a list in a piece.
const PIECE_BYTES: usize = 60;
/// Pieces that are allocated at once.
const PAGE_PIECES: usize = 1024;
/// No piece.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Piece {
    next: u32,
    bytes: [u8; PIECE_BYTES],
}

/// Bytes of memory of a piece.
pub(super) const PIECE_MEMORY_BYTES: usize = size_of::<Piece>();

const _: () = assert!(PIECE_MEMORY_BYTES == 64);

/// A list: where it begins and ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Chain {
    first: u32,
    last: u32,
    length: u32,
}

impl Chain {
    /// Without bytes.
    pub(super) const EMPTY: Self = Self { first: NONE, last: NONE, length: 0 };

    /// How many bytes it has.
    pub(super) fn bytes(&self) -> usize {
        self.length as usize
    }

    /// How many pieces it has.
    pub(super) fn pieces(&self) -> usize {
        (self.length as usize).div_ceil(PIECE_BYTES)
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Chunks {
    pages: Vec<Box<[Piece; PAGE_PIECES]>>,
    /// Pieces that a list has given back, one after the other.
    free: Option<u32>,
    /// Pieces that were ever taken from pages.
    taken: usize,
}

impl Chunks {
    fn piece(&self, at: u32) -> &Piece {
        &self.pages[at as usize / PAGE_PIECES][at as usize % PAGE_PIECES]
    }

    fn piece_mut(&mut self, at: u32) -> &mut Piece {
        &mut self.pages[at as usize / PAGE_PIECES][at as usize % PAGE_PIECES]
    }

    fn take_piece(&mut self) -> u32 {
        if let Some(at) = self.free {
            let next = self.piece(at).next;
            self.free = (next != NONE).then_some(next);
            self.piece_mut(at).next = NONE;
            return at;
        }
        if self.taken == self.pages.len() * PAGE_PIECES {
            let empty = Piece { next: NONE, bytes: [0; PIECE_BYTES] };
            let page = vec![empty; PAGE_PIECES].into_boxed_slice();
            self.pages.extend(page.try_into().ok());
        }
        self.taken += 1;
        (self.taken - 1) as u32
    }

    /// Adds bytes to a list.
    #[inline]
    pub(super) fn push(&mut self, chain: &mut Chain, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = chain.length as usize % PIECE_BYTES;
            if used == 0 {
                let next = self.take_piece();
                match chain.last {
                    NONE => chain.first = next,
                    last => self.piece_mut(last).next = next,
                }
                chain.last = next;
            }
            let count = bytes.len().min(PIECE_BYTES - used);
            self.piece_mut(chain.last).bytes[used..used + count].copy_from_slice(&bytes[..count]);
            chain.length += count as u32;
            bytes = &bytes[count..];
        }
    }

    /// Appends the bytes of a list to `to`.
    pub(super) fn read(&self, chain: &Chain, to: &mut Vec<u8>) {
        let mut left = chain.length as usize;
        let mut at = chain.first;
        while left > 0 {
            let piece = self.piece(at);
            let count = left.min(PIECE_BYTES);
            to.extend_from_slice(&piece.bytes[..count]);
            left -= count;
            at = piece.next;
        }
    }

    /// Gives back a list.
    pub(super) fn release(&mut self, chain: Chain) {
        if chain.first != NONE {
            let free = self.free.unwrap_or(NONE);
            self.piece_mut(chain.last).next = free;
            self.free = Some(chain.first);
        }
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.pages.len() * PAGE_PIECES * PIECE_MEMORY_BYTES + self.pages.capacity() * size_of::<usize>()
    }
}

impl std::fmt::Debug for Chunks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chunks").field("taken", &self.taken).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_bytes_and_give_their_pieces_back() {
        let mut chunks = Chunks::default();
        let mut lists: Vec<(Chain, Vec<u8>)> = (0..50).map(|_| (Chain::EMPTY, Vec::new())).collect();
        for round in 0..2000_usize {
            let at = round * 7 % 50;
            let (chain, expected) = &mut lists[at];
            let bytes: Vec<u8> = (0..round % 33).map(|n| (round + n) as u8).collect();
            chunks.push(chain, &bytes);
            expected.extend_from_slice(&bytes);
            if round % 11 == 0 {
                chunks.release(*chain);
                (*chain, *expected) = (Chain::EMPTY, Vec::new());
            }
            let mut found = Vec::new();
            chunks.read(&lists[at].0, &mut found);
            assert_eq!(found, lists[at].1);
        }
        let memory = chunks.memory_bytes();
        for (chain, _) in &mut lists {
            chunks.release(*chain);
            *chain = Chain::EMPTY;
        }
        for (chain, _) in &mut lists {
            chunks.push(chain, &[1; 600]);
        }
        assert_eq!(chunks.memory_bytes(), memory, "what was given back is taken again");
    }
}
