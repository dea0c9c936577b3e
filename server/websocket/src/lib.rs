//! WebSocket frames (RFC 6455), bytes in, bytes out: no sockets, no handshake, no extensions. Nothing here allocates, except
//! [`Decoder::save`].
//!
//! ```text
//!   bytes of the wire ──▶ Decoder::decode ──▶ text of messages, each ended by a zero byte, in the same buffer
//!                               └──▶ ping, pong, close, in the order in which they came
//!   messages ──▶ begin … end ──▶ bytes of the wire
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`decode`] | frames of a client, unmasked where they lie |
//! | [`encode`] | frames of a server |
//! | [`code`] | why a connection is closed (§7.4) |
//!
//! A zero byte is no character of XML, so what reads the text finds the ends of messages without another look at their
//! frames, and text can wait in any buffer with the ends in it.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod code;
pub mod decode;
pub mod encode;
#[cfg(test)]
mod tests;

pub use code::Code;
pub use decode::{Control, Decoder, Violation};

/// What ends a message in decoded text.
pub const END: u8 = 0;

/// Bytes that a control frame may carry (§5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// What a frame is (§5.2).
mod opcode {
    pub(crate) const CONTINUATION: u8 = 0;
    pub(crate) const TEXT: u8 = 1;
    pub(crate) const BINARY: u8 = 2;
    pub(crate) const CLOSE: u8 = 8;
    pub(crate) const PING: u8 = 9;
    pub(crate) const PONG: u8 = 10;
}

/// The first byte of a frame: the last of its message.
const FIN: u8 = 0x80;

/// The second byte of a frame: a mask follows.
const MASKED: u8 = 0x80;
