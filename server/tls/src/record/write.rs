//! From data to the wire.

use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use rustls::AlertDescription;

use super::{Ending, HEADER_BYTES, PLAIN_BYTES_MAX, Records, content};
use crate::TlsError;
use crate::suite::{RECORDS_KEPT_BACK, Version};

/// The version in every record's header (RFC 8446 §5.2 keeps that of TLS 1.2).
pub(super) const VERSION: [u8; 2] = [3, 3];

/// Levels of alerts (RFC 5246 §7.2).
pub(super) const WARNING: u8 = 1;
pub(super) const FATAL: u8 = 2;

/// The message KeyUpdate that asks for no answer (RFC 8446 §4.6.3).
const KEY_UPDATE_NOT_REQUESTED: [u8; 5] = [24, 0, 0, 1, 0];

impl Records {
    /// Encrypts data, in as many records as it takes.
    ///
    /// # Errors
    /// The connection has ended, or (TLS 1.2) the key has encrypted all it may; then a close_notify is in
    /// `wire_out`.
    pub fn seal(&mut self, plain: &[u8], wire_out: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.ending == Ending::Failed || self.closed {
            return Err(TlsError::NotOpen);
        }
        if std::mem::take(&mut self.owes_key_update) {
            self.change_write_key(wire_out);
        }
        let mut key = self.write.expanded(self.suite);
        for part in plain.chunks(PLAIN_BYTES_MAX) {
            if self.write.sequence >= self.suite.records_per_key() - RECORDS_KEPT_BACK {
                match self.version {
                    Version::Tls13 => {
                        self.change_write_key(wire_out);
                        key = self.write.expanded(self.suite);
                    }
                    Version::Tls12 => {
                        self.close_notify(wire_out);
                        return Err(TlsError::KeysUsedUp);
                    }
                }
            }
            self.write_record(&key, content::DATA, part, wire_out);
        }
        Ok(())
    }

    /// Says that nothing more will be sent (RFC 8446 §6.1). Does nothing the second time or after an error.
    pub fn close_notify(&mut self, wire_out: &mut Vec<u8>) {
        if self.ending != Ending::Failed && !self.closed {
            self.write_alert(WARNING, AlertDescription::CloseNotify, wire_out);
            self.closed = true;
        }
    }

    /// Tells the other side that the key changes, and changes it (TLS 1.3 only).
    pub(crate) fn change_write_key(&mut self, wire_out: &mut Vec<u8>) {
        let key = self.write.expanded(self.suite);
        self.write_record(&key, content::HANDSHAKE, &KEY_UPDATE_NOT_REQUESTED, wire_out);
        self.write = self.write.next(self.suite);
    }

    /// Writes an alert, unless our close_notify has gone before or the key may encrypt no more.
    pub(super) fn write_alert(&mut self, level: u8, alert: AlertDescription, wire_out: &mut Vec<u8>) {
        if self.closed || self.write.sequence >= self.suite.records_per_key() {
            return;
        }
        let key = self.write.expanded(self.suite);
        self.write_record(&key, content::ALERT, &[level, u8::from(alert)], wire_out);
    }

    fn write_record(&mut self, key: &LessSafeKey, kind: u8, plain: &[u8], wire_out: &mut Vec<u8>) {
        let nonce = self.write.nonce();
        let explicit: &[u8] = match self.version {
            Version::Tls12 if self.suite.has_explicit_nonce() => &nonce[4..NONCE_LEN],
            Version::Tls12 | Version::Tls13 => &[],
        };
        // TLS 1.3 hides the type behind the data; we add no padding.
        let hidden: &[u8] = match self.version {
            Version::Tls12 => &[],
            Version::Tls13 => &[kind],
        };
        let length = explicit.len() + plain.len() + hidden.len() + super::TAG_BYTES;
        let [high, low] = u16::try_from(length).expect("a record is cut to fit").to_be_bytes();
        let outer = if hidden.is_empty() { kind } else { content::DATA };
        let header: [u8; HEADER_BYTES] = [outer, VERSION[0], VERSION[1], high, low];
        wire_out.reserve(HEADER_BYTES + length);
        wire_out.extend_from_slice(&header);
        wire_out.extend_from_slice(explicit);
        let start = wire_out.len();
        wire_out.extend_from_slice(plain);
        wire_out.extend_from_slice(hidden);
        let sealing = Nonce::assume_unique_for_key(nonce);
        let tag = match self.version {
            Version::Tls13 => {
                key.seal_in_place_separate_tag(sealing, Aad::from(header), &mut wire_out[start..])
            }
            Version::Tls12 => {
                let aad = Aad::from(aad_tls12(self.write.sequence, kind, plain.len()));
                key.seal_in_place_separate_tag(sealing, aad, &mut wire_out[start..])
            }
        };
        let tag = tag.expect("a record is far shorter than an AEAD's limit");
        wire_out.extend_from_slice(tag.as_ref());
        self.write.sequence += 1;
    }
}

/// What TLS 1.2 authenticates beside the data (RFC 5246 §6.2.3.3).
pub(super) fn aad_tls12(sequence: u64, kind: u8, plain_length: usize) -> [u8; 13] {
    let mut aad = [0; 13];
    aad[..8].copy_from_slice(&sequence.to_be_bytes());
    aad[8] = kind;
    aad[9..11].copy_from_slice(&VERSION);
    // A record's length fits its header; what does not has been refused before.
    aad[11..].copy_from_slice(&u16::try_from(plain_length).unwrap_or(u16::MAX).to_be_bytes());
    aad
}

/// For tests: what an honest side does not send.
#[cfg(test)]
impl Records {
    /// Writes one record of any type, however long it is.
    pub(crate) fn write_any(&mut self, kind: u8, body: &[u8], wire_out: &mut Vec<u8>) {
        let key = self.write.expanded(self.suite);
        self.write_record(&key, kind, body, wire_out);
    }

    /// Changes the key without a word.
    pub(crate) fn move_write_key(&mut self) {
        self.write = self.write.next(self.suite);
    }

    /// Type and body of one record.
    pub(crate) fn open_any(&mut self, record: &[u8]) -> (u8, Vec<u8>) {
        let mut plain = Vec::new();
        let kind = self.decrypt(&mut None, record, &mut plain);
        (kind.unwrap_or_else(|_| panic!("the record is whole and true")), plain)
    }
}
