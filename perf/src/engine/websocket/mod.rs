//! XMPP over WebSocket (RFC 6455, RFC 7395), the client's end.
//!
//! ```text
//! engine ── bytes of a stream ──► Framer ── one masked frame for each element ──► link
//! engine ◄─ bytes of a stream ─── WebSocket ◄─ frames, headers taken out in place ── link
//! ```
//!
//! The engine says and hears a stream as over TCP (RFC 6120 §4), and knows nothing of frames. Once a connection is open
//! neither way allocates for a stanza. What a server sends is checked as far as RFC 6455 §5 has a client fail the
//! connection for it; that each message is one element (RFC 7395 §3.3.3) is not: the scanner finds the elements in
//! either case.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`handshake`] | the HTTP request and its answer |
//! | [`outgoing`] | frames of what the engine says |
//! | this one | the state of a connection, and frames that come |

mod handshake;
mod outgoing;
#[cfg(test)]
mod tests;

pub(crate) use outgoing::Framer;

use crate::engine::scan::ITEM_BYTES_MAX;

/// The longest header of a frame without a mask (RFC 6455 §5.2).
const HEADER_BYTES_MAX: usize = 10;

/// The longest payload of a control frame (RFC 6455 §5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// Bytes of the random value whose digest a handshake's answer has to have (RFC 6455 §4.1).
const NONCE_BYTES: usize = 16;

/// The bit of a frame that ends its message.
const FIN: u8 = 0x80;

/// The bit of a length that a mask follows.
const MASKED: u8 = 0x80;

/// What a frame is (RFC 6455 §5.2).
mod opcode {
    pub(super) const CONTINUATION: u8 = 0x0;
    pub(super) const TEXT: u8 = 0x1;
    pub(super) const CLOSE: u8 = 0x8;
    pub(super) const PING: u8 = 0x9;
    pub(super) const PONG: u8 = 0xA;

    /// Whether it may come between the fragments of a message.
    pub(super) const fn is_control(opcode: u8) -> bool {
        opcode & 0x8 != 0
    }
}

/// A connection: its handshake, then where it is among the frames that come.
pub(crate) struct WebSocket {
    /// What the handshake's answer has to fit; `None` when that has come.
    nonce: Option<[u8; NONCE_BYTES]>,
    /// The beginning of a header.
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: usize,
    /// What the frame at hand is.
    opcode: u8,
    /// Bytes of it that have not come.
    rest: usize,
    /// The last fragment of a message has not come.
    fragmented: bool,
    /// The server has closed.
    ended: bool,
    /// The beginning of the handshake's answer, then of a control frame's payload.
    held: Vec<u8>,
    /// The payload of the last ping that has not been answered; those before it need no answer (RFC 6455 §5.5.3).
    pong: Option<Vec<u8>>,
}

// A generator holds one for each session.
const _: () = assert!(size_of::<WebSocket>() <= 104);

impl WebSocket {
    /// Whether the handshake is through.
    pub(crate) fn is_open(&self) -> bool {
        self.nonce.is_none()
    }

    /// Whether the server has closed (RFC 6455 §5.5.1).
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes in what has come: puts the text of the frames to the front of `bytes` and returns its length.
    ///
    /// # Errors
    /// This is no WebSocket; a sentence without its subject, the server.
    pub(crate) fn take(&mut self, bytes: &mut [u8]) -> Result<usize, String> {
        let mut at = if self.nonce.is_some() { self.answer(bytes)? } else { 0 };
        let mut text = 0;
        while at < bytes.len() && !self.ended {
            if self.rest == 0 {
                at += self.header(&bytes[at..])?;
            } else {
                let part = self.rest.min(bytes.len() - at);
                if opcode::is_control(self.opcode) {
                    self.held.extend_from_slice(&bytes[at..at + part]);
                } else {
                    bytes.copy_within(at..at + part, text);
                    text += part;
                }
                at += part;
                self.rest -= part;
                if self.rest == 0 {
                    self.end_of_frame();
                }
            }
        }
        Ok(text)
    }

    /// Takes in bytes of a header; returns how many.
    fn header(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let mut used = 0;
        loop {
            let wanted = match (self.header_bytes, self.header[1] & !MASKED) {
                (0 | 1, _) => 2,
                (_, 126) => 4,
                (_, 127) => HEADER_BYTES_MAX,
                _ => 2,
            };
            let part = (wanted - self.header_bytes).min(bytes.len() - used);
            self.header[self.header_bytes..self.header_bytes + part]
                .copy_from_slice(&bytes[used..used + part]);
            self.header_bytes += part;
            used += part;
            if part == 0 {
                // Nothing is missing, or nothing has come.
                if self.header_bytes == wanted {
                    self.begin_frame()?;
                }
                return Ok(used);
            }
        }
    }

    /// The header is whole.
    fn begin_frame(&mut self) -> Result<(), String> {
        let [first, second, ..] = self.header;
        let last = first & FIN != 0;
        let length = match second & !MASKED {
            126 => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            127 => self.header[2..].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
            short => u64::from(short),
        };
        self.header_bytes = 0;
        self.opcode = first & 0x0F;
        if second & MASKED != 0 {
            return Err("sent a frame with a mask".into());
        }
        if first & 0x70 != 0 {
            return Err("sent a frame of an extension that nobody has asked for".into());
        }
        match self.opcode {
            opcode::TEXT if !self.fragmented => self.fragmented = !last,
            opcode::CONTINUATION if self.fragmented => self.fragmented = !last,
            opcode::TEXT | opcode::CONTINUATION => return Err("sent fragments out of order".into()),
            opcode::CLOSE | opcode::PING | opcode::PONG if last && length <= CONTROL_BYTES_MAX as u64 => {}
            other => return Err(format!("sent a frame that may not be, of the kind {other}")),
        }
        self.rest = usize::try_from(length)
            .ok()
            .filter(|length| *length <= ITEM_BYTES_MAX)
            .ok_or_else(|| format!("sent a frame of {length} bytes; {ITEM_BYTES_MAX} are the most"))?;
        if self.rest == 0 {
            self.end_of_frame();
        }
        Ok(())
    }

    fn end_of_frame(&mut self) {
        match self.opcode {
            opcode::PING => self.pong = Some(std::mem::take(&mut self.held)),
            opcode::CLOSE => self.ended = true,
            _ => {}
        }
        if opcode::is_control(self.opcode) {
            self.held = Vec::new();
        }
    }
}
