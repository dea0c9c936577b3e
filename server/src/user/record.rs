//! What a message looks like in the log ([`whimbrel_storage::message`]), and what a client gets of it later.

use crate::proto::address;
use crate::stanza::Delivery;
use crate::xml::{self, Frame, Framer, StreamNamespaces};

pub use whimbrel_storage::message::StoredMessage;

fn stored<'a>(d: &Delivery<'a>) -> StoredMessage<'a> {
    StoredMessage { resource: d.to_resource, stanza: d.bytes }
}

/// Bytes that [`encode`] writes.
pub fn length(d: &Delivery<'_>) -> usize {
    stored(d).encoded_bytes()
}

/// Writes a message for the log over what is in `out`.
pub fn encode(d: &Delivery<'_>, out: &mut Vec<u8>) {
    stored(d).encode(out);
}

/// Reads what [`encode`] wrote. `None` for what another release wrote.
pub fn decode(payload: &[u8]) -> Option<StoredMessage<'_>> {
    StoredMessage::decode(payload)
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
    let from = std::str::from_utf8(&from[..memchr::memchr(b'"', from)?]).ok()?;
    Some(address::local_of(from)).filter(|local| !local.is_empty())
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
