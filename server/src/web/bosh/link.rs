//! The way between a session and its worker: a socket pair, on which both speak frames of WebSocket (RFC 7395). So a worker
//! knows nothing of BOSH: to it, a session is a client that comes over WebSocket.

use crate::proto::ns;
use crate::xml::{Element, writer};

use super::body::Start;

/// Bytes of the longest head of a frame of a client: ten, and a mask.
pub const HEAD_BYTES_MAX: usize = 14;

/// The first byte of a text message in one frame.
const TEXT: u8 = 0x81;

/// The first byte of a close.
const CLOSE: u8 = 0x88;

/// A mask that changes nothing: who would be protected by another one sits in the same process.
const MASK: [u8; 4] = [0; 4];

/// Appends an element as a frame of a client.
pub fn write(element: &[u8], frames: &mut Vec<u8>) {
    frames.push(TEXT);
    match element.len() {
        length @ 0..=125 => frames.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            frames.push(0x80 | 126);
            frames.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frames.push(0x80 | 127);
            frames.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frames.extend_from_slice(&MASK);
    frames.extend_from_slice(element);
}

/// Appends the beginning of a stream (RFC 7395 §3.4).
pub fn write_open(start: &Start, frames: &mut Vec<u8>) {
    let mut open = format!("<open xmlns='{}'", ns::FRAMING).into_bytes();
    let version = start.version.as_deref().unwrap_or("1.0");
    let attributes = [
        ("to", start.to.as_deref()),
        ("from", start.from.as_deref()),
        ("version", Some(version)),
        ("xml:lang", start.language.as_deref()),
    ];
    for (name, value) in attributes {
        if let Some(value) = value {
            open.extend_from_slice(format!(" {name}='").as_bytes());
            writer::escape_attribute(value, &mut open);
            open.push(b'\'');
        }
    }
    open.extend_from_slice(b"/>");
    write(&open, frames);
}

/// Appends the end of a stream (RFC 7395 §3.6).
pub fn write_close(frames: &mut Vec<u8>) {
    write(format!("<close xmlns='{}'/>", ns::FRAMING).as_bytes(), frames);
}

/// Something that a worker says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The stream begins, or begins anew.
    Open {
        /// The domain.
        from: Option<Box<str>>,
        /// The stream's id.
        id: Option<Box<str>>,
    },
    /// An element, with the namespaces declared that it has.
    Element(Vec<u8>),
    /// The stream ends.
    Close,
    /// The connection ends, with this code.
    Dropped(u16),
}

/// Reads what a worker says.
#[derive(Debug, Default)]
pub struct Reader {
    /// A frame of which the end is missing, and what is behind it.
    bytes: Vec<u8>,
}

impl Reader {
    /// Goes on with these bytes, which have come before.
    pub fn with(bytes: &[u8]) -> Reader {
        Reader { bytes: bytes.to_vec() }
    }

    /// What has come of a frame that is not whole.
    pub fn rest(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes bytes, and gives what they say.
    pub fn read(&mut self, bytes: &[u8], mut says: impl FnMut(Said)) {
        self.bytes.extend_from_slice(bytes);
        let mut at = 0;
        while let Some((first, text, used)) = frame(&self.bytes[at..]) {
            match first {
                TEXT => says(said(text)),
                CLOSE => says(Said::Dropped(code(text))),
                // A worker sends pongs to those who ping.
                _ => {}
            }
            at += used;
        }
        self.bytes.drain(..at);
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }
}

/// The first frame: its first byte, what it carries, and its length. `None`: it is not whole.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (&first, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::try_from(u64::from_be_bytes(*length)).ok()?, rest)
        }
        length => (usize::from(length), rest),
    };
    let text = rest.get(..length)?;
    Some((first, text, bytes.len() - rest.len() + length))
}

fn code(text: &[u8]) -> u16 {
    text.first_chunk().map_or(0, |code| u16::from_be_bytes(*code))
}

fn said(text: &[u8]) -> Said {
    let may_be_tag = text.starts_with(b"<open") || text.starts_with(b"<close");
    if may_be_tag && let Ok(element) = Element::parse(text) {
        let value = |name| element.attribute(name).map(Box::from);
        if element.is("open", ns::FRAMING) {
            return Said::Open { from: value("from"), id: value("id") };
        }
        if element.is("close", ns::FRAMING) {
            return Said::Close;
        }
    }
    Said::Element(text.to_vec())
}

#[cfg(test)]
mod tests {
    use whimbrel_websocket::{Code, Decoder, encode};

    use super::*;

    #[test]
    fn a_worker_reads_what_is_written() {
        let start = Start { to: Some("a&b".into()), language: Some("en".into()), ..Start::default() };
        let long = format!("<a>{}</a>", "x".repeat(70_000));
        let mut frames = Vec::new();
        write_open(&start, &mut frames);
        write(b"<a/>", &mut frames);
        write(format!("<b>{}</b>", "x".repeat(200)).as_bytes(), &mut frames);
        write(long.as_bytes(), &mut frames);
        write_close(&mut frames);
        Decoder::default().decode(&mut frames, 1 << 20, &mut |_, _| {}).unwrap();
        let texts: Vec<_> = frames.split(|byte| *byte == whimbrel_websocket::END).collect();
        let open =
            "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='a&amp;b' version='1.0' xml:lang='en'/>";
        assert_eq!(texts[0], open.as_bytes());
        assert_eq!((texts[1], texts[2].len(), texts[3]), (&b"<a/>"[..], 207, long.as_bytes()));
        assert_eq!(texts[4], b"<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>");
    }

    #[test]
    fn what_a_worker_says_is_read_in_any_pieces() {
        let mut bytes = Vec::new();
        let long = format!("<a>{}</a>", "x".repeat(70_000));
        let texts = [
            "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' from='d' id='i'/>",
            "<message/>",
            "<opener/>",
            &long,
            "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>",
        ];
        for text in texts {
            encode::text(text.as_bytes(), &mut bytes);
        }
        encode::pong(b"x", &mut bytes);
        encode::close(Code::NORMAL, &mut bytes);
        let expected = [
            Said::Open { from: Some("d".into()), id: Some("i".into()) },
            Said::Element(b"<message/>".to_vec()),
            Said::Element(b"<opener/>".to_vec()),
            Said::Element(long.into_bytes()),
            Said::Close,
            Said::Dropped(1000),
        ];
        for piece in [1, 7, 1000, bytes.len()] {
            let (mut reader, mut said) = (Reader::default(), Vec::new());
            for chunk in bytes.chunks(piece) {
                reader.read(chunk, |one| said.push(one));
            }
            assert_eq!(said, expected, "in pieces of {piece}");
            assert!(reader.rest().is_empty());
        }
    }
}
