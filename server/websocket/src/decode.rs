//! Frames of a client: checked, unmasked where they lie, and put together to text (RFC 6455 §5).
//!
//! The head of a client's frame has six bytes at least. So the text of a frame moves down by as much in the buffer that it
//! came in, and there is always room for the byte that ends a message. Only the end of a frame whose head came with an
//! earlier read may need one byte more than was read.

use memchr::memchr;

use crate::{CONTROL_BYTES_MAX, Code, END, FIN, MASKED, opcode};

/// Bytes of the longest head: flags, length, eight bytes of length, mask (§5.2).
const HEAD_BYTES_MAX: usize = 14;

/// Bits that only extensions may set, and there are none.
const RESERVED: u8 = 0x70;

/// A control frame (§5.5).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Asks for a pong with the same bytes.
    Ping,
    /// An answer, or a sign of life.
    Pong,
    /// Nothing follows. Its bytes are a code and a text, or nothing.
    Close,
}

/// What breaks the rules. Nothing is read after it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// §5.2: bits that no extension has been agreed on for.
    #[error("reserved bits are set")]
    Reserved,
    /// §5.2: an opcode that nobody knows.
    #[error("an unknown opcode")]
    Opcode,
    /// §5.1: a client masks what it sends.
    #[error("a frame without a mask")]
    NotMasked,
    /// §5.2: a length in more bytes than it needs, or beyond 63 bits.
    #[error("a length in the wrong form")]
    Length,
    /// §5.5: a control frame that is fragmented, or longer than 125 bytes.
    #[error("a control frame that is fragmented or too long")]
    Control,
    /// §5.4: a message that begins inside another, or the rest of none.
    #[error("a fragment out of place")]
    Fragment,
    /// §5.5.1, §7.4: a close with half a code, or one that may not be sent.
    #[error("a close with a bad code")]
    CloseCode,
    /// §5.5.1: a close whose reason is not UTF-8.
    #[error("a close whose reason is no text")]
    CloseReason,
    /// A binary message, of which XMPP has none (RFC 7395 §3.2).
    #[error("a binary message")]
    Binary,
    /// A zero byte, which no text of XML contains.
    #[error("a zero byte")]
    Zero,
    /// A message longer than the limit.
    #[error("a message that is too long")]
    TooBig,
}

impl Violation {
    /// The code of the close that answers it.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Violation::Reserved
            | Violation::Opcode
            | Violation::NotMasked
            | Violation::Length
            | Violation::Control
            | Violation::Fragment
            | Violation::CloseCode => Code::PROTOCOL,
            Violation::Binary => Code::UNSUPPORTED,
            Violation::CloseReason | Violation::Zero => Code::NO_TEXT,
            Violation::TooBig => Code::TOO_BIG,
        }
    }
}

/// The head of a frame.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Head {
    is_last: bool,
    opcode: u8,
    mask: [u8; 4],
    length: u64,
}

/// What is under way between two reads.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// So many bytes of a head.
    Head(u8),
    /// The rest of a data frame, whose mask is turned to begin with the next byte.
    Data { is_last: bool, mask: [u8; 4], left: u64 },
    /// A control frame, of whose bytes so many have come.
    Control { head: Head, came: u8 },
}

/// What is kept of a connection between two reads. At the end of a message nothing is: then it equals the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoder {
    stage: Stage,
    /// Text of the message under way so far, in bytes; `None` between messages.
    message: Option<u64>,
    /// The head or the control frame that came in pieces.
    pieces: [u8; CONTROL_BYTES_MAX],
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { stage: Stage::Head(0), message: None, pieces: [0; CONTROL_BYTES_MAX] }
    }
}

/// Where reading and writing in the buffer have come.
struct Cursor {
    read: usize,
    write: usize,
    /// A message has ended at `write`, and the byte that says so is to be written.
    ends: bool,
}

impl Cursor {
    /// Writes the end of a message. Only when a head has been read since, or nothing more is.
    fn finish(&mut self, buffer: &mut Vec<u8>) {
        if !std::mem::take(&mut self.ends) {
            return;
        }
        match buffer.get_mut(self.write) {
            Some(byte) => *byte = END,
            None => buffer.push(END),
        }
        self.write += 1;
    }
}

impl Decoder {
    /// Whether nothing is under way: neither a frame nor a message of several.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.stage == Stage::Head(0) && self.message.is_none()
    }

    /// Takes bytes as they came, cut anywhere. What they say stands in the buffer afterwards: text, with [`END`] behind
    /// each message. Control frames go to `control` as they come, before any of the text is looked at. Nothing is read
    /// behind a close.
    ///
    /// # Errors
    /// What broke the rules. The text in the buffer came before it.
    pub fn decode(
        &mut self,
        buffer: &mut Vec<u8>,
        message_bytes_max: u64,
        control: &mut dyn FnMut(Control, &[u8]),
    ) -> Result<(), Violation> {
        let mut at = Cursor { read: 0, write: 0, ends: false };
        let mut result = Ok(true);
        while at.read < buffer.len() && result == Ok(true) {
            result = match self.stage {
                Stage::Head(came) => self.head(usize::from(came), buffer, &mut at, message_bytes_max),
                Stage::Data { .. } => self.data(buffer, &mut at),
                Stage::Control { .. } => Ok(true),
            };
            if let (Ok(true), Stage::Control { head, came }) = (result, self.stage) {
                result = self.control(head, usize::from(came), buffer, &mut at, control);
            }
        }
        at.read = at.read.min(buffer.len());
        at.finish(buffer);
        buffer.truncate(at.write);
        result.map(|_| ())
    }

    /// Reads on in a head.
    fn head(
        &mut self,
        came: usize,
        buffer: &mut Vec<u8>,
        at: &mut Cursor,
        message_bytes_max: u64,
    ) -> Result<bool, Violation> {
        let new = &buffer[at.read..];
        let most = new.len().min(HEAD_BYTES_MAX - came);
        self.pieces[came..came + most].copy_from_slice(&new[..most]);
        let known = &self.pieces[..came + most];
        let Some((head, bytes)) = read_head(known)? else {
            self.stage = Stage::Head((came + most) as u8);
            at.read += most;
            return Ok(true);
        };
        at.read += bytes - came;
        // There is room now: the head has been read.
        at.finish(buffer);
        if head.opcode >= opcode::CLOSE {
            self.stage = Stage::Control { head, came: 0 };
            return Ok(true);
        }
        let before = match (head.opcode, self.message) {
            (opcode::CONTINUATION, Some(before)) => before,
            (opcode::TEXT, None) => 0,
            (opcode::BINARY, None) => return Err(Violation::Binary),
            _ => return Err(Violation::Fragment),
        };
        let length = before.saturating_add(head.length);
        if length > message_bytes_max {
            return Err(Violation::TooBig);
        }
        self.message = Some(length);
        self.stage = Stage::Data { is_last: head.is_last, mask: head.mask, left: head.length };
        self.frame_may_end(at);
        Ok(true)
    }

    /// Reads on in a data frame.
    fn data(&mut self, buffer: &mut [u8], at: &mut Cursor) -> Result<bool, Violation> {
        let Stage::Data { mask, left, .. } = &mut self.stage else { return Ok(true) };
        let count = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len() - at.read);
        let part = at.read..at.read + count;
        unmask(&mut buffer[part.clone()], *mask);
        if memchr(END, &buffer[part.clone()]).is_some() {
            return Err(Violation::Zero);
        }
        mask.rotate_left(count % 4);
        *left -= count as u64;
        if at.write < at.read {
            buffer.copy_within(part, at.write);
        }
        at.read += count;
        at.write += count;
        self.frame_may_end(at);
        Ok(true)
    }

    /// Goes to the next head when a data frame is here.
    fn frame_may_end(&mut self, at: &mut Cursor) {
        let Stage::Data { is_last, left: 0, .. } = self.stage else { return };
        self.stage = Stage::Head(0);
        if is_last {
            self.message = None;
            at.ends = true;
        }
    }

    /// Reads on in a control frame. `Ok(false)`: nothing follows.
    fn control(
        &mut self,
        head: Head,
        came: usize,
        buffer: &[u8],
        at: &mut Cursor,
        tell: &mut dyn FnMut(Control, &[u8]),
    ) -> Result<bool, Violation> {
        // Checked with the head.
        let length = head.length as usize;
        let count = (length - came).min(buffer.len() - at.read);
        self.pieces[came..came + count].copy_from_slice(&buffer[at.read..at.read + count]);
        at.read += count;
        if came + count < length {
            self.stage = Stage::Control { head, came: (came + count) as u8 };
            return Ok(true);
        }
        self.stage = Stage::Head(0);
        let payload = &mut self.pieces[..length];
        unmask(payload, head.mask);
        match head.opcode {
            opcode::PING => tell(Control::Ping, payload),
            opcode::PONG => tell(Control::Pong, payload),
            _ => {
                check_close(payload)?;
                tell(Control::Close, payload);
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A head, and how many bytes it has; `None`: not all of it is here. What is here is checked at once.
fn read_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, Violation> {
    let Some(&flags) = bytes.first() else { return Ok(None) };
    let (is_last, opcode) = (flags & FIN != 0, flags & 0x0F);
    if flags & RESERVED != 0 {
        return Err(Violation::Reserved);
    }
    let is_control = match opcode {
        opcode::CONTINUATION | opcode::TEXT | opcode::BINARY => false,
        opcode::CLOSE | opcode::PING | opcode::PONG => true,
        _ => return Err(Violation::Opcode),
    };
    let Some(&second) = bytes.get(1) else { return Ok(None) };
    if second & MASKED == 0 {
        return Err(Violation::NotMasked);
    }
    let short = second & !MASKED;
    if is_control && (!is_last || usize::from(short) > CONTROL_BYTES_MAX) {
        return Err(Violation::Control);
    }
    let rest = &bytes[2..];
    let (length, rest, least) = match short {
        126 => match rest.split_first_chunk::<2>() {
            Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest, 126),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk::<8>() {
            Some((length, rest)) => (u64::from_be_bytes(*length), rest, 0x1_0000),
            None => return Ok(None),
        },
        short => (u64::from(short), rest, 0),
    };
    if length < least || length >> 63 != 0 {
        return Err(Violation::Length);
    }
    let Some((&mask, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    Ok(Some((Head { is_last, opcode, mask, length }, bytes.len() - rest.len())))
}

/// §5.3, eight bytes at a time.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// §5.5.1: nothing, or a code with a text behind it.
fn check_close(payload: &[u8]) -> Result<(), Violation> {
    if payload.is_empty() {
        return Ok(());
    }
    let (code, reason) = payload.split_first_chunk::<2>().ok_or(Violation::CloseCode)?;
    if !Code(u16::from_be_bytes(*code)).may_be_sent() {
        return Err(Violation::CloseCode);
    }
    std::str::from_utf8(reason).map(|_| ()).map_err(|_| Violation::CloseReason)
}

/// Kinds of what is under way, as they are saved.
const SAVED_HEAD: u8 = 0;
const SAVED_DATA: u8 = 1;
const SAVED_CONTROL: u8 = 2;

impl Decoder {
    /// What is under way, for another program. Empty when nothing is.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.is_idle() {
            return out;
        }
        // `None` is one below the length of an empty message.
        out.extend_from_slice(&self.message.map_or(0, |length| length + 1).to_le_bytes());
        match self.stage {
            Stage::Head(came) => {
                out.push(SAVED_HEAD);
                out.extend_from_slice(&self.pieces[..usize::from(came)]);
            }
            Stage::Data { is_last, mask, left } => {
                out.extend_from_slice(&[SAVED_DATA, u8::from(is_last)]);
                out.extend_from_slice(&mask);
                out.extend_from_slice(&left.to_le_bytes());
            }
            Stage::Control { head, came } => {
                out.extend_from_slice(&[SAVED_CONTROL, head.opcode, head.length as u8]);
                out.extend_from_slice(&head.mask);
                out.extend_from_slice(&self.pieces[..usize::from(came)]);
            }
        }
        out
    }

    /// What another program has saved; `None` when it cannot be that.
    #[must_use]
    pub fn restored(saved: &[u8]) -> Option<Decoder> {
        let mut decoder = Decoder::default();
        if saved.is_empty() {
            return Some(decoder);
        }
        let (message, rest) = saved.split_first_chunk::<8>()?;
        decoder.message = u64::from_le_bytes(*message).checked_sub(1);
        let (&kind, rest) = rest.split_first()?;
        let came = match kind {
            SAVED_HEAD if rest.len() < HEAD_BYTES_MAX && matches!(read_head(rest), Ok(None)) => {
                decoder.stage = Stage::Head(rest.len() as u8);
                rest
            }
            SAVED_DATA => {
                let (&is_last, rest) = rest.split_first()?;
                let (&mask, rest) = rest.split_first_chunk::<4>()?;
                let left = u64::from_le_bytes(rest.try_into().ok()?);
                let is_under_way = left > 0 && decoder.message.is_some_and(|length| length >= left);
                if !is_under_way || is_last > 1 {
                    return None;
                }
                decoder.stage = Stage::Data { is_last: is_last == 1, mask, left };
                &[]
            }
            SAVED_CONTROL => {
                let (&[opcode, length], rest) = rest.split_first_chunk::<2>()?;
                let (&mask, rest) = rest.split_first_chunk::<4>()?;
                let is_control = matches!(opcode, opcode::CLOSE | opcode::PING | opcode::PONG);
                let length = usize::from(length);
                if !is_control || length > CONTROL_BYTES_MAX || rest.len() >= length {
                    return None;
                }
                let head = Head { is_last: true, opcode, mask, length: length as u64 };
                decoder.stage = Stage::Control { head, came: rest.len() as u8 };
                rest
            }
            _ => return None,
        };
        decoder.pieces[..came.len()].copy_from_slice(came);
        Some(decoder)
    }
}
