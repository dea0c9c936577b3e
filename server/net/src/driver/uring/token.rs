//! What an operation carries through the kernel: who it belongs to and what it is, in 64 bits.
//!
//! ```text
//!   63          32 31    28 27         0
//!  | generation   | kind   | index      |
//! ```

use super::super::ConnId;
use super::super::slots::INDEX_LIMIT;

const INDEX_BITS: u32 = 28;
const _: () = assert!(INDEX_LIMIT == 1 << INDEX_BITS, "the kind has the bits above the index");

/// What an operation is.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    /// Receive of a connection, multishot unless it sends much.
    Receive,
    /// Waits for an error of a connection whose peer has ended.
    HangUp,
    /// Sends the front of a connection's backlog.
    Send,
    /// Cancels `Receive` or `HangUp`.
    CancelRead,
    /// Cancels `Send`.
    CancelSend,
    /// Multishot accept of a listener; the index is its number.
    Accept,
    /// Cancels `Accept`.
    CancelAccept,
    /// Multishot poll of the waker's eventfd.
    Wake,
    /// Cancels everything before the ring is closed.
    CancelAll,
}

const KINDS: [Kind; 9] = [
    Kind::Receive,
    Kind::HangUp,
    Kind::Send,
    Kind::CancelRead,
    Kind::CancelSend,
    Kind::Accept,
    Kind::CancelAccept,
    Kind::Wake,
    Kind::CancelAll,
];

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// The connection; for other kinds only the index means something.
    pub(super) conn: ConnId,
}

impl Token {
    pub(super) fn new(kind: Kind, conn: ConnId) -> Token {
        Token { kind, conn }
    }

    pub(super) fn numbered(kind: Kind, index: u32) -> Token {
        Token { kind, conn: ConnId { index, generation: 0 } }
    }

    pub(super) fn pack(self) -> u64 {
        debug_assert!(self.conn.index < INDEX_LIMIT);
        u64::from(self.conn.generation) << 32
            | u64::from(self.kind as u8) << INDEX_BITS
            | u64::from(self.conn.index)
    }

    /// `None` for a number that [`Token::pack`] never makes.
    pub(super) fn unpack(number: u64) -> Option<Token> {
        let kind = *KINDS.get((number >> INDEX_BITS & 0xf) as usize)?;
        let index = (number & u64::from(INDEX_LIMIT - 1)) as u32;
        Some(Token { kind, conn: ConnId { index, generation: (number >> 32) as u32 } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_kernel() {
        for kind in KINDS {
            for index in [0, 1, 77, INDEX_LIMIT - 1] {
                for generation in [0, 1, u32::MAX] {
                    let token = Token::new(kind, ConnId { index, generation });
                    assert_eq!(Token::unpack(token.pack()), Some(token));
                }
            }
        }
        assert_eq!(Token::unpack(0xf << INDEX_BITS), None);
    }
}
