//! What a message looks like in the log, and what a client gets of it later.
//!
//! ```text
//! byte 0     version, 1
//! bytes 1–2  length of the resource that it is addressed to, little-endian; 0 for the bare JID
//! then       the resource
//! then       the stanza as it is written to the recipient's stream
//! ```

use crate::stanza::Delivery;
use crate::xml::{self, Frame, Framer, StreamNamespaces};

/// The layout above.
const VERSION: u8 = 1;

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

/// `from` and `to` of a stanza that this server has stamped.
pub fn addresses(stanza: &[u8]) -> Option<(String, Option<String>)> {
    let none: Option<&StreamNamespaces> = None;
    let limits = xml::Limits { stanza_bytes_max: stanza.len(), ..xml::Limits::default() };
    let mut framer = Framer::new();
    let read = framer.next(xml::Phase::InStream, none, &mut None, stanza, &limits);
    let Ok((_, Some(Frame::Stanza(stanza)))) = read else { return None };
    let attributes = stanza.common_attributes();
    Some((attributes.from?.into_owned(), attributes.to.map(|to| to.into_owned())))
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
}
