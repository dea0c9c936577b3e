//! A stream as one XML document (RFC 6120 §4.2).

use super::Header;
use crate::proto::ns;
use crate::xml::writer;

/// The end of the document.
pub const END: &[u8] = b"</stream:stream>";

/// Begins the document.
pub fn write_header(header: &Header<'_>, out: &mut Vec<u8>) {
    for part in ["<?xml version='1.0'?><stream:stream xmlns='", ns::CLIENT, "' xmlns:stream='", ns::STREAMS] {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b"' version='1.0' xml:lang='en'");
    for (name, value) in [("id", Some(header.id)), ("from", Some(header.from)), ("to", header.to)] {
        let Some(value) = value else { continue };
        out.push(b' ');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"='");
        writer::escape_attribute(value, out);
        out.push(b'\'');
    }
    out.push(b'>');
}
