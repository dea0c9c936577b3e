//! Delayed delivery (XEP-0203): when the server received a stanza that it passes on later.

use crate::clock::{DATETIME_MS_BYTES, datetime_ms_bytes};
use crate::proto::ns;
use crate::xml::writer;

/// Bytes of the element beside those of the address.
const ELEMENT_BYTES: usize = 96;

/// What follows the time.
const END: &[u8] = b"'/>";

/// Bytes that [`write_end`] appends.
pub const END_BYTES: usize = DATETIME_MS_BYTES + END.len();

/// Appends `<delay/>`: since `time_ms`, in milliseconds since 1970, the stanza has waited at `from`. With milliseconds, so
/// that clients can sort by it.
pub fn write(from: &str, time_ms: u64, out: &mut Vec<u8>) {
    out.reserve(from.len() + ELEMENT_BYTES);
    write_start(from, out);
    write_end(time_ms, out);
}

/// Appends all that comes before the time: the same for many stanzas.
pub fn write_start(from: &str, out: &mut Vec<u8>) {
    for part in ["<delay xmlns='", ns::DELAY, "' from='"] {
        out.extend_from_slice(part.as_bytes());
    }
    writer::escape_attribute(from, out);
    out.extend_from_slice(b"' stamp='");
}

/// Appends the time and what follows it.
pub fn write_end(time_ms: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&datetime_ms_bytes(time_ms));
    out.extend_from_slice(END);
}

/// Appends a whole stanza with the delay as its last child.
pub fn write_delayed(stanza: &[u8], from: &str, time_ms: u64, out: &mut Vec<u8>) {
    out.reserve(stanza.len() + from.len() + ELEMENT_BYTES);
    writer::append_child(stanza, out, |out| write(from, time_ms, out));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delayed_message_says_when_it_was_received_and_is_else_as_it_was() {
        let delay = "<delay xmlns='urn:xmpp:delay' from='x.org' stamp='2001-09-09T01:46:40.007Z'/>";
        for (before, after) in [
            (
                "<message a='b'><body>x</body></message>",
                format!("<message a='b'><body>x</body>{delay}</message>"),
            ),
            ("<message a='b'/>", format!("<message a='b'>{delay}</message>")),
            (
                "<c:message xmlns:c='jabber:client'><c:body/></c:message >",
                format!("<c:message xmlns:c='jabber:client'><c:body/>{delay}</c:message >"),
            ),
        ] {
            let mut out = Vec::new();
            write_delayed(before.as_bytes(), "x.org", 1_000_000_000_007, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), after);
        }
    }

    #[test]
    fn the_address_is_escaped() {
        let mut out = Vec::new();
        write("a@x/'<", 0, &mut out);
        let expected =
            "<delay xmlns='urn:xmpp:delay' from='a@x/&apos;&lt;' stamp='1970-01-01T00:00:00.000Z'/>";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
