//! The elements of stream management on the wire.

use crate::proto::errors::StanzaCondition;
use crate::proto::ns::{SM, STANZA_ERRORS};
use crate::proto::sm::StreamId;
use crate::xml::Stanza;

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// `<enable/>` (§3).
    Enable {
        /// It wants to be able to resume.
        resume: bool,
        /// The seconds for which it would want that, when it said so.
        seconds_max: Option<u32>,
    },
    /// `<r/>` (§4)
    Request,
    /// `<a h='…'/>` (§4)
    Answer(u32),
    /// `<resume/>` (§5). `None`: a name that this server has never given.
    Resume(Option<StreamId>, u32),
}

impl Said {
    /// Reads an element of [`SM`]. `None` when it is none of these, or lacks what it must have.
    pub fn read(element: &Stanza<'_>) -> Option<Said> {
        let number = |name| element.attribute(name).and_then(|value| value.trim().parse().ok());
        Some(match element.name() {
            "enable" => Said::Enable {
                resume: matches!(element.attribute("resume").as_deref(), Some("true" | "1")),
                seconds_max: number("max"),
            },
            "r" => Said::Request,
            "a" => Said::Answer(number("h")?),
            "resume" => Said::Resume(StreamId::parse(&element.attribute("previd")?), number("h")?),
            _ => return None,
        })
    }
}

/// Offers stream management among the stream features.
pub fn write_feature(out: &mut Vec<u8>) {
    write(out, format_args!("<sm xmlns='{SM}'/>"));
}

/// `<enabled/>`; with the time for which the stream can be resumed, when it can.
pub fn write_enabled(resume: Option<(StreamId, u32)>, out: &mut Vec<u8>) {
    match resume {
        Some((id, seconds)) => {
            let id = id.text();
            write(out, format_args!("<enabled xmlns='{SM}' id='{id}' resume='true' max='{seconds}'/>"));
        }
        None => write(out, format_args!("<enabled xmlns='{SM}'/>")),
    }
}

/// `<r/>`
pub fn write_request(out: &mut Vec<u8>) {
    // For every message: without the cost of formatting.
    for part in ["<r xmlns='", SM, "'/>"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// `<a/>`
pub fn write_answer(h: u32, out: &mut Vec<u8>) {
    write(out, format_args!("<a xmlns='{SM}' h='{h}'/>"));
}

/// `<resumed/>`
pub fn write_resumed(id: StreamId, h: u32, out: &mut Vec<u8>) {
    write(out, format_args!("<resumed xmlns='{SM}' previd='{}' h='{h}'/>", id.text()));
}

/// `<failed/>`, with what is known to be handled of the stream that was to be resumed.
pub fn write_failed(condition: StanzaCondition, h: Option<u32>, out: &mut Vec<u8>) {
    write(out, format_args!("<failed xmlns='{SM}'"));
    if let Some(h) = h {
        write(out, format_args!(" h='{h}'"));
    }
    write(out, format_args!("><{} xmlns='{STANZA_ERRORS}'/></failed>", condition.name()));
}

/// The application-specific condition for a client that acknowledges what it was never sent (§4).
pub fn write_too_high(handled: u32, sent: u32, out: &mut Vec<u8>) {
    write(out, format_args!("<handled-count-too-high xmlns='{SM}' h='{handled}' send-count='{sent}'/>"));
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    std::io::Write::write_fmt(out, text).expect("a vector takes what it is given");
}
