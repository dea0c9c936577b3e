//! What a message looks like in the log, and what a client gets of it later.
//!
//! ```text
//! byte 0     version, 1
//! bytes 1–2  length of the resource that it is addressed to, little-endian; 0 for the bare JID
//! then       the resource
//! then       the stanza as it is written to the recipient's stream
//! ```

use crate::clock::datetime;
use crate::stanza::Delivery;
use crate::xml::writer;

/// The layout above.
const VERSION: u8 = 1;

/// Bytes that the stamp of a delayed message may need beside the domain's.
const STAMP_BYTES: usize = 96;

/// A message as the log keeps it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage<'a> {
    /// The resource that it is addressed to; `None` for the bare JID.
    pub resource: Option<&'a str>,
    /// The stanza as it is written to the recipient's stream.
    pub stanza: &'a [u8],
}

/// Bytes that [`encode`] writes.
pub fn length(d: &Delivery<'_>) -> usize {
    3 + d.to_resource.unwrap_or_default().len() + d.bytes.len()
}

/// Writes a message for the log over what is in `out`.
pub fn encode(d: &Delivery<'_>, out: &mut Vec<u8>) {
    out.clear();
    let resource = d.to_resource.unwrap_or_default();
    let length = u16::try_from(resource.len()).expect("a resource has at most 1023 bytes (RFC 7622)");
    out.push(VERSION);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(resource.as_bytes());
    out.extend_from_slice(d.bytes);
}

/// Reads what [`encode`] wrote. `None` for what another release wrote.
pub fn decode(payload: &[u8]) -> Option<StoredMessage<'_>> {
    let (&[version, low, high], rest) = payload.split_first_chunk()?;
    let (resource, stanza) = rest.split_at_checked(usize::from(u16::from_le_bytes([low, high])))?;
    let resource = std::str::from_utf8(resource).ok()?;
    (version == VERSION)
        .then(|| StoredMessage { resource: Some(resource).filter(|name| !name.is_empty()), stanza })
}

/// Localpart of the user of this server who has sent a message of the log.
pub fn sender_of(payload: &[u8]) -> Option<&str> {
    // Nothing in the stamped start tag comes before the stamp but declarations, whose quotes are escaped; and nothing in
    // a localpart needs to be (RFC 7622 §3.3.1).
    const STAMP: &[u8] = b" from=\"";
    let stanza = decode(payload)?.stanza;
    let start = memchr::memmem::find(stanza, STAMP)? + STAMP.len();
    let from = &stanza[start..];
    let end = memchr::memchr2(b'@', b'"', from).filter(|&end| from[end] == b'@')?;
    std::str::from_utf8(&from[..end]).ok()
}

/// Appends the stanza with the time at which the server received it (XEP-0203).
pub fn write_delayed(stanza: &[u8], domain: &str, time_ms: u64, out: &mut Vec<u8>) {
    out.reserve(stanza.len() + domain.len() + STAMP_BYTES);
    // The last `</` of a stanza is its own: no comment or CDATA section can stand behind it.
    match memchr::memmem::rfind(stanza, b"</") {
        Some(end) if !stanza.ends_with(b"/>") => {
            out.extend_from_slice(&stanza[..end]);
            write_delay(domain, time_ms, out);
            out.extend_from_slice(&stanza[end..]);
        }
        _ => out.extend_from_slice(stanza),
    }
}

fn write_delay(domain: &str, time_ms: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<delay xmlns='urn:xmpp:delay' from='");
    writer::escape_attribute(domain, out);
    out.extend_from_slice(b"' stamp='");
    let stamp = datetime(time_ms / 1000);
    // With milliseconds, so that clients can sort by it.
    out.extend_from_slice(stamp.trim_end_matches('Z').as_bytes());
    out.extend_from_slice(format!(".{:03}Z", time_ms % 1000).as_bytes());
    out.extend_from_slice(b"'/>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::{Kind, Traits, Type};

    fn delivery<'a>(resource: Option<&'a str>, bytes: &'a [u8]) -> Delivery<'a> {
        Delivery {
            kind: Kind::Message,
            typ: Type::Chat,
            traits: Traits::default(),
            from: "romeo@x/1",
            to_local: "juliet",
            to_resource: resource,
            id: None,
            bytes,
            pending_ack: None,
        }
    }

    #[test]
    fn a_record_reads_as_it_was_written_and_nothing_else_reads_as_one() {
        let mut payload = Vec::new();
        for resource in [None, Some("balcony"), Some("\u{e9}")] {
            encode(&delivery(resource, b"<message/>"), &mut payload);
            assert_eq!(decode(&payload), Some(StoredMessage { resource, stanza: b"<message/>" }));
        }
        for bad in [&b""[..], b"\x01\0", b"\x02\0\0<message/>", b"\x01\x05\0abc", b"\x01\x01\0\xff"] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_delayed_message_says_when_it_was_sent_and_is_else_as_it_was() {
        let delay = "<delay xmlns='urn:xmpp:delay' from='x.org' stamp='1969-07-21T02:56:15.007Z'/>";
        let delay = delay.replace("1969-07-21T02:56:15", "2001-09-09T01:46:40");
        for (before, after) in [
            (
                "<message a='b'><body>x</body></message>",
                format!("<message a='b'><body>x</body>{delay}</message>"),
            ),
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
}
