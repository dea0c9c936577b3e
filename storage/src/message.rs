//! The payload of a message in the log: what the server writes there, and what is read from it later.
//!
//! ```text
//! byte 0     version, 1
//! bytes 1–2  length of the resource that it is addressed to, little-endian; 0 for the bare JID
//! then       the resource
//! then       the stanza as it is written to the recipient's stream
//! ```

/// The layout above.
const VERSION: u8 = 1;

/// Bytes before the resource.
const HEAD_BYTES: usize = 3;

/// A message as the log keeps it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage<'a> {
    /// The resource that it is addressed to; `None` for the bare JID.
    pub resource: Option<&'a str>,
    /// The stanza as it is written to the recipient's stream.
    pub stanza: &'a [u8],
}

impl StoredMessage<'_> {
    /// Bytes that [`StoredMessage::encode`] writes.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        HEAD_BYTES + self.resource.unwrap_or_default().len() + self.stanza.len()
    }

    /// Writes it over what is in `out`.
    ///
    /// # Panics
    /// The resource is longer than an address allows (1023 bytes, RFC 7622).
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        let resource = self.resource.unwrap_or_default();
        let length = u16::try_from(resource.len()).expect("a resource has at most 1023 bytes (RFC 7622)");
        out.push(VERSION);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(resource.as_bytes());
        out.extend_from_slice(self.stanza);
    }
}

impl<'a> StoredMessage<'a> {
    /// Reads what [`StoredMessage::encode`] wrote. `None` for what another release wrote.
    #[must_use]
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let (&[version, low, high], rest) = payload.split_first_chunk()?;
        let (resource, stanza) = rest.split_at_checked(usize::from(u16::from_le_bytes([low, high])))?;
        let resource = std::str::from_utf8(resource).ok()?;
        (version == VERSION)
            .then(|| StoredMessage { resource: Some(resource).filter(|name| !name.is_empty()), stanza })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_as_it_was_written_and_nothing_else_reads_as_one() {
        let mut payload = Vec::new();
        for resource in [None, Some("balcony"), Some("\u{e9}")] {
            let message = StoredMessage { resource, stanza: b"<message/>" };
            message.encode(&mut payload);
            assert_eq!(StoredMessage::decode(&payload), Some(message));
            assert_eq!(payload.len(), message.encoded_bytes());
        }
        for bad in [&b""[..], b"\x01\0", b"\x02\0\0<message/>", b"\x01\x05\0abc", b"\x01\x01\0\xff"] {
            assert_eq!(StoredMessage::decode(bad), None, "{bad:?}");
        }
    }
}
