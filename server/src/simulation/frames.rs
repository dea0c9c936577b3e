//! The client's side of WebSocket (RFC 6455, RFC 7395), which shares no code with the server's: each element is a message, masked, and
//! now and then in fragments with a ping between them.

use super::come::HEADER;

/// How a client begins its stream.
const OPEN: &str = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='sim.example' version='1.0'/>";

/// How it ends it.
const CLOSE: &str = "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>";

/// The end of a stream over TCP.
const END: &str = "</stream:stream>";

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const CLOSING: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// What a server's frame is.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Received {
    Text(String),
    /// Nothing follows.
    Closing,
}

/// The frames of one connection.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Messages sent.
    count: u32,
    /// What has come of a frame.
    bytes: Vec<u8>,
    /// Pings without an answer.
    pings: Vec<u8>,
    /// The server has ended it.
    closed: bool,
}

impl Frames {
    /// Appends a message. What stands for header and end of a stream over TCP becomes what it is here.
    pub(super) fn say(&mut self, text: &str, out: &mut Vec<u8>) {
        let text = match text {
            HEADER => OPEN,
            END => CLOSE,
            other => other,
        };
        self.count += 1;
        if !self.count.is_multiple_of(5) {
            return self.frame(FIN | TEXT, text.as_bytes(), out);
        }
        let (front, back) = text.as_bytes().split_at(text.len() / 3);
        self.frame(TEXT, front, out);
        let ping = self.count as u8;
        self.pings.push(ping);
        self.frame(FIN | PING, &[ping], out);
        self.frame(FIN | CONTINUATION, back, out);
    }

    /// Appends the end of the connection, without one of the stream.
    pub(super) fn close(&self, out: &mut Vec<u8>) {
        self.frame(FIN | CLOSING, &1001_u16.to_be_bytes(), out);
    }

    fn frame(&self, first: u8, payload: &[u8], out: &mut Vec<u8>) {
        out.push(first);
        match payload.len() {
            length @ 0..=125 => out.push(0x80 | length as u8),
            length => {
                out.push(0x80 | 126);
                out.extend_from_slice(&u16::try_from(length).expect("no client says more").to_be_bytes());
            }
        }
        let mask = (self.count.wrapping_mul(0x9E37_79B9) | 1).to_be_bytes();
        out.extend_from_slice(&mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }

    /// Takes bytes of the server.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Received>, String> {
        self.bytes.extend_from_slice(bytes);
        let mut received = Vec::new();
        while let Some((first, payload, used)) = first_frame(&self.bytes)? {
            if self.closed {
                return Err("a frame behind the last one".into());
            }
            match first {
                first if first == FIN | TEXT => {
                    let text = String::from_utf8(payload.to_vec()).map_err(|error| error.to_string())?;
                    received.push(Received::Text(text));
                }
                first if first == FIN | PONG => {
                    let is_asked = self.pings.first().is_some_and(|ping| *payload == [*ping]);
                    if !is_asked {
                        return Err(format!("a pong that nobody has asked for: {payload:?}"));
                    }
                    self.pings.remove(0);
                }
                first if first == FIN | CLOSING => {
                    self.closed = true;
                    received.push(Received::Closing);
                }
                other => return Err(format!("a frame of kind {other:#x}")),
            }
            self.bytes.drain(..used);
        }
        Ok(received)
    }
}

/// A frame: its first byte, what it carries, its length.
type Frame<'a> = (u8, &'a [u8], usize);

/// The first frame, if it is whole.
fn first_frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, String> {
    let &[first, length, ref rest @ ..] = bytes else { return Ok(None) };
    if length & 0x80 != 0 {
        return Err("a server masks".into());
    }
    let (length, head) = match (length, rest) {
        (126, [high, low, ..]) => (usize::from(u16::from_be_bytes([*high, *low])), 4),
        (127, [bytes @ .., _, _]) if bytes.len() >= 6 => {
            let long = rest.first_chunk().map_or(0, |long| u64::from_be_bytes(*long));
            (usize::try_from(long).map_err(|error| error.to_string())?, 10)
        }
        (126 | 127, _) => return Ok(None),
        (length, _) => (usize::from(length), 2),
    };
    Ok(bytes.get(head..head + length).map(|payload| (first, payload, head + length)))
}
