//! Bytes of many short lists, in pieces of a fixed size: a list grows without being copied, and what one gives back the
//! next one takes, so that on the steady way of messages nothing is allocated.

/// Bytes of a list in a piece.
pub(super) const PIECE_BYTES: usize = 60;
/// Pieces that are allocated at once.
const PAGE_PIECES: usize = 1024;
/// No piece.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Piece {
    /// The next piece of a list; of its last one, anything.
    next: u32,
    bytes: [u8; PIECE_BYTES],
}

/// Bytes of memory of a piece, and of its place among the free ones.
pub(super) const PIECE_MEMORY_BYTES: usize = size_of::<Piece>() + size_of::<u32>();

const _: () = assert!(size_of::<Piece>() == 64);

/// A list: where it begins and ends, and how many bytes it has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Chain {
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) length: u32,
}

impl Chain {
    /// How many bytes it has.
    pub(super) fn bytes(&self) -> usize {
        self.length as usize
    }

    fn pieces(&self) -> usize {
        (self.length as usize).div_ceil(PIECE_BYTES)
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Chunks {
    pages: Vec<Box<[Piece; PAGE_PIECES]>>,
    /// Pieces that lists have given back. The last one is taken first, without a look at it: it was in use a short while ago.
    free: Vec<u32>,
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
        if let Some(at) = self.free.pop() {
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

    /// How many pieces lists have.
    pub(super) fn pieces(&self) -> usize {
        self.taken - self.free.len()
    }

    /// Goes on with another piece.
    fn extend(&mut self, chain: &mut Chain) {
        let next = self.take_piece();
        match chain.last {
            NONE => chain.first = next,
            last => self.piece_mut(last).next = next,
        }
        chain.last = next;
    }

    /// Adds bytes to a list, the lowest first: with one write as a rule, also over what lies behind them.
    #[inline]
    pub(super) fn push_short(&mut self, chain: &mut Chain, bytes: u128, length: usize) {
        let used = chain.length as usize % PIECE_BYTES;
        if used == 0 {
            self.extend(chain);
        }
        match self.piece_mut(chain.last).bytes[used..].first_chunk_mut() {
            Some(room) => {
                *room = bytes.to_le_bytes();
                chain.length += length as u32;
            }
            None => self.push(chain, &bytes.to_le_bytes()[..length]),
        }
    }

    /// Adds bytes to a list.
    pub(super) fn push(&mut self, chain: &mut Chain, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = chain.length as usize % PIECE_BYTES;
            if used == 0 {
                self.extend(chain);
            }
            let count = bytes.len().min(PIECE_BYTES - used);
            self.piece_mut(chain.last).bytes[used..used + count].copy_from_slice(&bytes[..count]);
            chain.length += count as u32;
            bytes = &bytes[count..];
        }
    }

    /// The bytes of a list, piece by piece.
    pub(super) fn slices(&self, chain: &Chain) -> impl Iterator<Item = &[u8]> {
        let (mut at, mut left) = (chain.first, chain.bytes());
        std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let piece = self.piece(at);
            let bytes = &piece.bytes[..left.min(PIECE_BYTES)];
            (at, left) = (piece.next, left - bytes.len());
            Some(bytes)
        })
    }

    /// Gives back a list, whose pieces have been read just now, as a rule.
    pub(super) fn release(&mut self, chain: &Chain) {
        let mut at = chain.first;
        for _ in 0..chain.pieces() {
            self.free.push(at);
            at = self.piece(at).next;
        }
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.pages.len() * PAGE_PIECES * size_of::<Piece>()
            + self.pages.capacity() * size_of::<usize>()
            + self.free.capacity() * size_of::<u32>()
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

    const EMPTY: Chain = Chain { first: NONE, last: NONE, length: 0 };

    #[test]
    fn lists_keep_their_bytes_and_give_their_pieces_back() {
        let mut chunks = Chunks::default();
        let mut lists: Vec<(Chain, Vec<u8>)> = (0..50).map(|_| (EMPTY, Vec::new())).collect();
        for round in 0..2000_usize {
            let at = round * 7 % 50;
            let (chain, expected) = &mut lists[at];
            let bytes: Vec<u8> = (0..round % 33).map(|n| (round + n) as u8).collect();
            match bytes.len() {
                length @ 1..=16 => {
                    let mut word = [0xff; 16];
                    word[..length].copy_from_slice(&bytes);
                    chunks.push_short(chain, u128::from_le_bytes(word), length);
                }
                _ => chunks.push(chain, &bytes),
            }
            expected.extend_from_slice(&bytes);
            if round % 11 == 0 {
                chunks.release(chain);
                (*chain, *expected) = (EMPTY, Vec::new());
            }
            let (chain, expected) = &mut lists[at];
            assert_eq!(chunks.slices(chain).collect::<Vec<_>>().concat(), *expected);
        }
        for (chain, _) in &mut lists {
            chunks.release(chain);
            *chain = EMPTY;
        }
        assert_eq!(chunks.pieces(), 0);
        let memory = chunks.memory_bytes();
        for (chain, _) in &mut lists {
            chunks.push(chain, &[1; 600]);
        }
        assert_eq!(chunks.memory_bytes(), memory, "what was given back is taken again");
    }
}
