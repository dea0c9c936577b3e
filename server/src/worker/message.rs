//! Messages of WebSocket: each is one element (RFC 7395 §3.3), and two elements stand for the tags of a stream (§3.4, §3.6).
//!
//! The input of such a connection is the text of its messages with a zero byte behind each, which XML has not.

use memchr::memchr;
use whimbrel_websocket::END;

use super::input::is_white_space;
use crate::proto::ns;
use crate::session::{Session, SessionPhase};
use crate::xml::{Frame, Stanza, StreamHeader};

/// What input begins with.
pub(super) enum Part<'b> {
    /// A part of an element, up to the end of the message if that is here.
    Element(&'b [u8]),
    /// So many bytes that mean nothing more.
    Read(usize),
    /// No message of RFC 7395.
    Bad(&'static str),
}

/// Looks at input where the last element has ended, or the last part of one.
pub(super) fn next<'b>(session: &mut Session, bytes: &'b [u8]) -> Part<'b> {
    let piece = &bytes[..memchr(END, bytes).unwrap_or(bytes.len())];
    if !piece.is_empty() {
        return match session.marks.element_seen {
            false => Part::Element(piece),
            true if piece.iter().all(|byte| is_white_space(*byte)) => Part::Read(piece.len()),
            true => Part::Bad("a message with more than one element (RFC 7395 §3.3)"),
        };
    }
    // A message that says nothing is no harm: some clients keep a connection alive by it.
    session.marks.element_seen = false;
    match session.partial {
        None => Part::Read(1),
        Some(_) => Part::Bad("a message that ends inside an element (RFC 7395 §3.3)"),
    }
}

/// A frame as it would be over TCP: `<open/>` begins a stream, `<close/>` ends it, and nothing else does.
pub(super) fn framed<'f>(phase: &SessionPhase, frame: Frame<'f>) -> Result<Frame<'f>, &'static str> {
    let has_begun = match phase {
        SessionPhase::Negotiating(negotiation) => negotiation.header_seen,
        _ => true,
    };
    match frame {
        Frame::Stanza(stanza) if stanza.namespace() == ns::FRAMING => match stanza.name() {
            "open" => Ok(Frame::StreamOpen(header(&stanza))),
            "close" => Ok(Frame::StreamClose),
            _ => Err("an unknown element of framing (RFC 7395 §3.3)"),
        },
        Frame::Stanza(stanza) if has_begun => Ok(Frame::Stanza(stanza)),
        Frame::Stanza(_) => Err("the stream has not begun: <open/> comes first (RFC 7395 §3.4)"),
        Frame::StreamOpen(_) | Frame::StreamClose => Err("a tag of a stream, which WebSocket has not"),
    }
}

fn header(open: &Stanza<'_>) -> StreamHeader {
    let of = |name: &str| open.attribute(name).map(|value| Box::from(&*value));
    StreamHeader {
        to: of("to"),
        from: of("from"),
        version: of("version"),
        language: open.lang().map(|language| Box::from(&*language)),
        namespaces: None,
    }
}
