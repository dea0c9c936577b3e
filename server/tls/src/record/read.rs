//! From the wire to data: framing, decryption, and the few messages that are not data.

use ring::aead::{Aad, LessSafeKey, Nonce};
use rustls::AlertDescription;

use super::{
    Ending, HEADER_BYTES, PLAIN_BYTES_MAX, Partial, QUIET_RECORDS_MAX, Records, Stop, TAG_BYTES, content,
    write,
};
use crate::suite::Version;

/// What AEAD, padding and content type may add to a record in TLS 1.3 (RFC 8446 §5.2).
const EXPANSION_TLS13: usize = 256;

/// The same in TLS 1.2 (RFC 5246 §6.2.3).
const EXPANSION_TLS12: usize = 2048;

/// Bytes of the explicit nonce of AES-GCM in TLS 1.2 (RFC 5288 §3).
const EXPLICIT_NONCE_BYTES: usize = 8;

/// Messages of a handshake (RFC 8446 §4).
const CLIENT_HELLO: u8 = 1;
const KEY_UPDATE: u8 = 24;

impl Records {
    pub(super) fn read_all(
        &mut self,
        mut wire: &[u8],
        plain_out: &mut Vec<u8>,
        wire_out: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        let mut key = None;
        if let Some(mut partial) = self.partial.take() {
            loop {
                let missing = self.missing(&partial.bytes)?;
                if missing == 0 {
                    break;
                }
                if wire.is_empty() {
                    self.partial = Some(partial);
                    return Ok(());
                }
                let (now, later) = wire.split_at(missing.min(wire.len()));
                partial.bytes.extend_from_slice(now);
                wire = later;
            }
            self.read_record(&mut key, &partial.bytes, plain_out, wire_out)?;
        }
        while self.ending == Ending::Open && !wire.is_empty() {
            let length = match self.missing(wire)? {
                0 => record_length(wire),
                _ => {
                    self.partial = Some(Box::new(Partial { bytes: wire.to_vec() }));
                    return Ok(());
                }
            };
            let (record, rest) = wire.split_at(length);
            self.read_record(&mut key, record, plain_out, wire_out)?;
            wire = rest;
        }
        Ok(())
    }

    /// Bytes that are still missing: of the header first, then of the whole record. 0 when all of it is there.
    fn missing(&self, bytes: &[u8]) -> Result<usize, Stop> {
        if bytes.len() < HEADER_BYTES {
            return Ok(HEADER_BYTES - bytes.len());
        }
        let expansion = match self.version {
            Version::Tls12 => EXPANSION_TLS12,
            Version::Tls13 => EXPANSION_TLS13,
        };
        let length = record_length(bytes);
        if length - HEADER_BYTES > PLAIN_BYTES_MAX + expansion {
            return Err(Stop::fault(AlertDescription::RecordOverflow, "a record is longer than allowed"));
        }
        Ok(length.saturating_sub(bytes.len()))
    }

    fn read_record(
        &mut self,
        key: &mut Option<LessSafeKey>,
        record: &[u8],
        plain_out: &mut Vec<u8>,
        wire_out: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        let start = plain_out.len();
        let decrypted = self.decrypt(key, record, plain_out);
        let kind = decrypted.inspect_err(|_| plain_out.truncate(start))?;
        if plain_out.len() - start > PLAIN_BYTES_MAX {
            plain_out.truncate(start);
            return Err(Stop::fault(AlertDescription::RecordOverflow, "a record holds more than allowed"));
        }
        if self.message_length > 0 && kind != content::HANDSHAKE {
            plain_out.truncate(start);
            return Err(unexpected("another record between the parts of a handshake message"));
        }
        if kind == content::DATA && plain_out.len() > start {
            self.quiet = 0;
            return Ok(());
        }
        self.quiet += 1;
        if self.quiet > QUIET_RECORDS_MAX {
            plain_out.truncate(start);
            return Err(unexpected("too many records without data"));
        }
        let result = match kind {
            content::DATA => Ok(()),
            content::ALERT => self.alert(&plain_out[start..]),
            content::HANDSHAKE => self.handshake(key, &plain_out[start..], wire_out),
            _ => Err(unexpected("a record of a type that has no place here")),
        };
        plain_out.truncate(start);
        result
    }

    /// Appends what the record holds to `plain_out` and returns its true content type. After an error what was
    /// appended is not to be used.
    pub(super) fn decrypt(
        &mut self,
        key: &mut Option<LessSafeKey>,
        record: &[u8],
        plain_out: &mut Vec<u8>,
    ) -> Result<u8, Stop> {
        let forged = || Stop::fault(AlertDescription::BadRecordMac, "a record is forged or damaged");
        let (header, body) = record.split_at(HEADER_BYTES);
        let start = plain_out.len();
        let mut nonce = self.read.nonce();
        let mut kind = header[0];
        let opened = match self.version {
            Version::Tls13 => {
                if kind != content::DATA {
                    return Err(unexpected("a record that is not encrypted"));
                }
                plain_out.extend_from_slice(body);
                let key = key.get_or_insert_with(|| self.read.expanded(self.suite));
                let aad = Aad::from(header);
                key.open_in_place(Nonce::assume_unique_for_key(nonce), aad, &mut plain_out[start..])
            }
            Version::Tls12 => {
                if header[1..3] != write::VERSION {
                    return Err(Stop::fault(
                        AlertDescription::ProtocolVersion,
                        "a record of another version",
                    ));
                }
                let mut sealed = body;
                if self.suite.has_explicit_nonce() {
                    let (explicit, rest) = body.split_at_checked(EXPLICIT_NONCE_BYTES).ok_or_else(forged)?;
                    nonce[4..].copy_from_slice(explicit);
                    sealed = rest;
                }
                let length = sealed.len().checked_sub(TAG_BYTES).ok_or_else(forged)?;
                let aad = Aad::from(write::aad_tls12(self.read.sequence, kind, length));
                plain_out.extend_from_slice(sealed);
                let key = key.get_or_insert_with(|| self.read.expanded(self.suite));
                key.open_in_place(Nonce::assume_unique_for_key(nonce), aad, &mut plain_out[start..])
            }
        };
        let length = opened.map_err(|_| forged())?.len();
        plain_out.truncate(start + length);
        self.read.sequence = self
            .read
            .sequence
            .checked_add(1)
            .ok_or_else(|| unexpected("more records than there are sequence numbers"))?;
        if self.version == Version::Tls13 {
            // The true type is the last byte that is not padding (RFC 8446 §5.4).
            let end = plain_out[start..].iter().rposition(|byte| *byte != 0);
            let end = start + end.ok_or_else(|| unexpected("a record without a type"))?;
            if length > PLAIN_BYTES_MAX + 1 {
                return Err(Stop::fault(
                    AlertDescription::RecordOverflow,
                    "a record holds more than allowed",
                ));
            }
            kind = plain_out[end];
            plain_out.truncate(end);
        }
        Ok(kind)
    }

    fn alert(&mut self, body: &[u8]) -> Result<(), Stop> {
        let &[level, description] = body else {
            return Err(Stop::fault(AlertDescription::DecodeError, "an alert of a wrong length"));
        };
        match (AlertDescription::from(description), self.version) {
            (AlertDescription::CloseNotify, _) => self.ending = Ending::PeerClosed,
            (AlertDescription::UserCanceled, _) => {}
            // In TLS 1.3 the level means nothing (RFC 8446 §6).
            (_, Version::Tls12) if level == write::WARNING => {}
            (alert, _) => return Err(Stop::Alert(alert)),
        }
        Ok(())
    }

    fn handshake(
        &mut self,
        key: &mut Option<LessSafeKey>,
        body: &[u8],
        wire_out: &mut Vec<u8>,
    ) -> Result<(), Stop> {
        if body.is_empty() {
            return Err(unexpected("an empty handshake record"));
        }
        match self.version {
            Version::Tls12 if body[0] == CLIENT_HELLO => {
                // RFC 5246 §7.2.2: this alert is always a warning; the client decides whether to go on.
                self.write_alert(write::WARNING, AlertDescription::NoRenegotiation, wire_out);
                Ok(())
            }
            Version::Tls12 => Err(unexpected("a handshake message after the handshake")),
            Version::Tls13 => self.key_update(key, body),
        }
    }

    /// RFC 8446 §4.6.3: the only message a client may send after its handshake here. It may be cut between records,
    /// and must end one.
    fn key_update(&mut self, key: &mut Option<LessSafeKey>, body: &[u8]) -> Result<(), Stop> {
        let known = usize::from(self.message_length);
        let mut message = [0; 5];
        message[..known].copy_from_slice(&self.message[..known]);
        let room = message.len() - known;
        if body.len() > room {
            return Err(unexpected("a handshake message after the handshake"));
        }
        message[known..known + body.len()].copy_from_slice(body);
        if message[0] != KEY_UPDATE {
            return Err(unexpected("a handshake message after the handshake"));
        }
        if body.len() < room {
            let length = known + body.len();
            self.message[..length].copy_from_slice(&message[..length]);
            self.message_length = u8::try_from(length).expect("less than five");
            return Ok(());
        }
        self.message_length = 0;
        if message[1..4] != [0, 0, 1] {
            return Err(Stop::fault(AlertDescription::DecodeError, "a KeyUpdate of a wrong length"));
        }
        match message[4] {
            0 => {}
            1 => self.owes_key_update = true,
            _ => return Err(Stop::fault(AlertDescription::IllegalParameter, "a KeyUpdate that asks oddly")),
        }
        self.read = self.read.next(self.suite);
        *key = None;
        Ok(())
    }
}

/// Length of a record with its header. The header must be there.
fn record_length(bytes: &[u8]) -> usize {
    HEADER_BYTES + usize::from(u16::from_be_bytes([bytes[3], bytes[4]]))
}

fn unexpected(reason: &'static str) -> Stop {
    Stop::fault(AlertDescription::UnexpectedMessage, reason)
}
