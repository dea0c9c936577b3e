//! Frames of a server: never masked (RFC 6455 §5.1), never fragmented.
//!
//! How long a message is, is known when it is written. So room for the longest usual head is left before it, and the head
//! goes to the end of that room: a message of more than 125 bytes is not moved, and a shorter one moves by two.

use crate::{CONTROL_BYTES_MAX, Code, FIN, opcode};

/// Room that is left for a head: that of a message of at most 65,535 bytes.
const HEAD_BYTES: usize = 4;

/// Bytes of the head of a longer message.
const LONG_HEAD_BYTES: usize = 10;

/// A text message that is being written.
#[must_use = "a message that is not ended has no head"]
#[derive(Debug)]
pub struct Message {
    /// Where it begins, its head included.
    start: usize,
    /// Room that is left at the front of the text.
    room: usize,
}

impl Message {
    /// Begins a message at the end of `out`. Its text is appended after this. `room` more bytes are left before the text,
    /// into which what stands at its front can be moved.
    pub fn begin(room: usize, out: &mut Vec<u8>) -> Message {
        let start = out.len();
        out.resize(start + HEAD_BYTES + room, 0);
        Message { start, room }
    }

    /// Where the text begins that was appended.
    #[must_use]
    pub fn text_at(&self) -> usize {
        self.start + HEAD_BYTES + self.room
    }

    /// Ends it: the last `used` bytes of the room belong to the text.
    ///
    /// # Panics
    /// In a debugging build, when more is used than there is.
    pub fn end(self, used: usize, out: &mut Vec<u8>) {
        debug_assert!(used <= self.room, "more of the room is used than there is");
        let text_at = self.text_at() - used;
        let length = out.len() - text_at;
        let head_bytes = match length {
            0..=125 => 2,
            126..=0xFFFF => HEAD_BYTES,
            _ => LONG_HEAD_BYTES,
        };
        let begins = self.start + head_bytes;
        if begins < text_at {
            out.copy_within(text_at.., begins);
            out.truncate(begins + length);
        } else if begins > text_at {
            out.resize(begins + length, 0);
            out.copy_within(text_at..text_at + length, begins);
        }
        write_head(opcode::TEXT, length, &mut out[self.start..begins]);
    }
}

/// Writes the head of a frame into room of the right length.
fn write_head(opcode: u8, length: usize, head: &mut [u8]) {
    head[0] = FIN | opcode;
    match head.len() {
        2 => head[1] = length as u8,
        HEAD_BYTES => {
            head[1] = 126;
            head[2..].copy_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            head[1] = 127;
            head[2..].copy_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// A text message.
pub fn text(text: &[u8], out: &mut Vec<u8>) {
    let message = Message::begin(0, out);
    out.extend_from_slice(text);
    message.end(0, out);
}

/// The answer to a ping (§5.5.3): the same bytes, of which a ping has [`CONTROL_BYTES_MAX`] at most.
pub fn pong(payload: &[u8], out: &mut Vec<u8>) {
    control(opcode::PONG, &[payload], out);
}

/// The end of the connection (§5.5.1).
pub fn close(code: Code, out: &mut Vec<u8>) {
    control(opcode::CLOSE, &[&code.0.to_be_bytes()], out);
}

fn control(opcode: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    debug_assert!(length <= CONTROL_BYTES_MAX, "a control frame is short");
    out.extend_from_slice(&[FIN | opcode, length as u8]);
    for part in parts {
        out.extend_from_slice(part);
    }
}
