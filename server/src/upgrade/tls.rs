//! TLS of one connection in the state file.

use super::StateError;
use super::codec::{Decoder, Encoder};
use crate::tls::suite::{KEY_BYTES_MAX, SECRET_BYTES_MAX, Suite, Version};

/// Bytes of the fixed part of a nonce.
const IV_BYTES: usize = 12;

/// TLS of a connection.
#[derive(Clone, PartialEq, Eq)]
pub enum TlsRecord<'a> {
    /// None.
    Plain,
    /// It begins with the client's next byte.
    Fresh,
    /// After the handshake.
    Established(Box<EstablishedTls<'a>>),
}

/// The record layer of one connection.
#[derive(Clone, PartialEq, Eq)]
pub struct EstablishedTls<'a> {
    /// Version of the protocol.
    pub version: Version,
    /// The cipher suite.
    pub suite: Suite,
    /// What opens the client's records.
    pub read: KeyRecord<'a>,
    /// What seals ours.
    pub write: KeyRecord<'a>,
    /// The part of an incoming record that has come.
    pub partial: &'a [u8],
    /// A KeyUpdate of the client waits for its answer.
    pub owes_key_update: bool,
    /// The client has ended TLS, and what it said before waits to be handled.
    pub peer_closed: bool,
    /// Records without data since the last with some.
    pub quiet: u8,
    /// The beginning of a handshake message that was cut between records, less than five bytes.
    pub message: &'a [u8],
}

/// One direction.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyRecord<'a> {
    /// Number of the next record.
    pub sequence: u64,
    /// What key and nonce are made from (TLS 1.3), or themselves (TLS 1.2).
    pub secret: SecretRecord<'a>,
}

/// The secret part of one direction.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretRecord<'a> {
    /// TLS 1.3: the traffic secret.
    Traffic(&'a [u8]),
    /// TLS 1.2: the key, and the fixed part of the nonce.
    Key(&'a [u8], &'a [u8]),
}

impl std::fmt::Debug for TlsRecord<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the keys.
        f.write_str(match self {
            TlsRecord::Plain => "Plain",
            TlsRecord::Fresh => "Fresh",
            TlsRecord::Established(_) => "Established",
        })
    }
}

const PLAIN: u8 = 0;
const FRESH: u8 = 1;
const ESTABLISHED: u8 = 2;

/// Bits beside the suite.
const TLS13: u8 = 1 << 2;
const HAS_PARTIAL: u8 = 1 << 3;
const OWES_KEY_UPDATE: u8 = 1 << 4;
const HAS_MESSAGE: u8 = 1 << 5;
const PEER_CLOSED: u8 = 1 << 6;

impl<'a> TlsRecord<'a> {
    pub(super) fn write(&self, to: &mut Encoder) {
        match self {
            TlsRecord::Plain => to.byte(PLAIN),
            TlsRecord::Fresh => to.byte(FRESH),
            TlsRecord::Established(tls) => {
                to.byte(ESTABLISHED);
                tls.write(to);
            }
        }
    }

    pub(super) fn read(from: &mut Decoder<'a>) -> Result<TlsRecord<'a>, StateError> {
        match from.byte()? {
            PLAIN => Ok(TlsRecord::Plain),
            FRESH => Ok(TlsRecord::Fresh),
            ESTABLISHED => Ok(TlsRecord::Established(Box::new(EstablishedTls::read(from)?))),
            _ => Err(StateError::Damaged("TLS in an unknown state")),
        }
    }
}

impl<'a> EstablishedTls<'a> {
    fn write(&self, to: &mut Encoder) {
        let suite = match self.suite {
            Suite::Aes128Gcm => 0,
            Suite::Aes256Gcm => 1,
            Suite::ChaCha20Poly1305 => 2,
        };
        let flag = |set: bool, bit: u8| u8::from(set) * bit;
        to.byte(
            suite
                | flag(self.version == Version::Tls13, TLS13)
                | flag(!self.partial.is_empty(), HAS_PARTIAL)
                | flag(self.owes_key_update, OWES_KEY_UPDATE)
                | flag(!self.message.is_empty(), HAS_MESSAGE)
                | flag(self.peer_closed, PEER_CLOSED),
        );
        to.byte(self.quiet);
        self.read.write(to);
        self.write.write(to);
        if !self.partial.is_empty() {
            to.bytes_of(self.partial);
        }
        if !self.message.is_empty() {
            to.bytes_of(self.message);
        }
    }

    fn read(from: &mut Decoder<'a>) -> Result<EstablishedTls<'a>, StateError> {
        let parts = from.byte()?;
        let suite = match parts & 3 {
            0 => Suite::Aes128Gcm,
            1 => Suite::Aes256Gcm,
            2 => Suite::ChaCha20Poly1305,
            _ => return Err(StateError::Damaged("an unknown cipher suite")),
        };
        if parts >= PEER_CLOSED << 1 {
            return Err(StateError::Damaged("TLS with unknown parts"));
        }
        let version = if parts & TLS13 != 0 { Version::Tls13 } else { Version::Tls12 };
        let quiet = from.byte()?;
        let read = KeyRecord::read(from, version, suite)?;
        let write = KeyRecord::read(from, version, suite)?;
        let mut part = |bit| if parts & bit != 0 { from.bytes() } else { Ok(&[][..]) };
        let (partial, message) = (part(HAS_PARTIAL)?, part(HAS_MESSAGE)?);
        if message.len() > 4 {
            return Err(StateError::Damaged("a handshake message that is too long"));
        }
        let owes_key_update = parts & OWES_KEY_UPDATE != 0;
        let peer_closed = parts & PEER_CLOSED != 0;
        Ok(EstablishedTls {
            version,
            suite,
            read,
            write,
            partial,
            owes_key_update,
            peer_closed,
            quiet,
            message,
        })
    }
}

impl<'a> KeyRecord<'a> {
    fn write(&self, to: &mut Encoder) {
        to.number(self.sequence);
        match self.secret {
            SecretRecord::Traffic(secret) => to.raw(secret),
            SecretRecord::Key(key, iv) => {
                to.raw(key);
                to.raw(iv);
            }
        }
    }

    fn read(from: &mut Decoder<'a>, version: Version, suite: Suite) -> Result<KeyRecord<'a>, StateError> {
        const { assert!(SECRET_BYTES_MAX == 48 && KEY_BYTES_MAX == 32) };
        let sequence = from.number()?;
        let secret = match version {
            Version::Tls13 => SecretRecord::Traffic(from.raw(suite.secret_bytes())?),
            Version::Tls12 => SecretRecord::Key(from.raw(suite.key_bytes())?, from.raw(IV_BYTES)?),
        };
        Ok(KeyRecord { sequence, secret })
    }
}
