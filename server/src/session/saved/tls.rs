//! TLS of a connection as it goes to another program.

use crate::saved::codec::{Decoder, Encoder};
use crate::saved::error::StateError;
use crate::tls::suite::{KEY_BYTES_MAX, SECRET_BYTES_MAX, Suite, Version};
use crate::tls::{SavedDirection, SavedRecords, SavedSecret, SavedTls};

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
    Established(Box<SavedRecords<'a>>),
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
    /// Writes it.
    pub fn write(&self, to: &mut Encoder) {
        match self {
            TlsRecord::Plain => to.byte(PLAIN),
            TlsRecord::Fresh => to.byte(FRESH),
            TlsRecord::Established(tls) => {
                to.byte(ESTABLISHED);
                write_records(tls, to);
            }
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is damaged.
    pub fn read(from: &mut Decoder<'a>) -> Result<TlsRecord<'a>, StateError> {
        match from.byte()? {
            PLAIN => Ok(TlsRecord::Plain),
            FRESH => Ok(TlsRecord::Fresh),
            ESTABLISHED => Ok(TlsRecord::Established(Box::new(read_records(from)?))),
            _ => Err(StateError::Damaged("TLS in an unknown state")),
        }
    }
}

impl<'a> From<SavedTls<'a>> for TlsRecord<'a> {
    fn from(saved: SavedTls<'a>) -> TlsRecord<'a> {
        match saved {
            SavedTls::Fresh => TlsRecord::Fresh,
            SavedTls::Established(records) => TlsRecord::Established(records),
        }
    }
}

fn write_records(tls: &SavedRecords<'_>, to: &mut Encoder) {
    let suite = match tls.suite {
        Suite::Aes128Gcm => 0,
        Suite::Aes256Gcm => 1,
        Suite::ChaCha20Poly1305 => 2,
    };
    let flag = |set: bool, bit: u8| u8::from(set) * bit;
    to.byte(
        suite
            | flag(tls.version == Version::Tls13, TLS13)
            | flag(!tls.partial.is_empty(), HAS_PARTIAL)
            | flag(tls.owes_key_update, OWES_KEY_UPDATE)
            | flag(!tls.message.is_empty(), HAS_MESSAGE)
            | flag(tls.peer_closed, PEER_CLOSED),
    );
    to.byte(tls.quiet);
    write_direction(&tls.read, to);
    write_direction(&tls.write, to);
    if !tls.partial.is_empty() {
        to.bytes_of(tls.partial);
    }
    if !tls.message.is_empty() {
        to.bytes_of(tls.message);
    }
}

fn read_records<'a>(from: &mut Decoder<'a>) -> Result<SavedRecords<'a>, StateError> {
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
    let read = read_direction(from, version, suite)?;
    let write = read_direction(from, version, suite)?;
    let mut part = |bit| if parts & bit != 0 { from.bytes() } else { Ok(&[][..]) };
    let (partial, message) = (part(HAS_PARTIAL)?, part(HAS_MESSAGE)?);
    if message.len() > 4 {
        return Err(StateError::Damaged("a handshake message that is too long"));
    }
    let owes_key_update = parts & OWES_KEY_UPDATE != 0;
    let peer_closed = parts & PEER_CLOSED != 0;
    Ok(SavedRecords { version, suite, read, write, partial, owes_key_update, peer_closed, quiet, message })
}

fn write_direction(keys: &SavedDirection<'_>, to: &mut Encoder) {
    to.number(keys.sequence);
    match keys.secret {
        SavedSecret::Traffic(secret) => to.raw(secret),
        SavedSecret::Key(key, iv) => {
            to.raw(key);
            to.raw(iv);
        }
    }
}

fn read_direction<'a>(
    from: &mut Decoder<'a>,
    version: Version,
    suite: Suite,
) -> Result<SavedDirection<'a>, StateError> {
    const { assert!(SECRET_BYTES_MAX == 48 && KEY_BYTES_MAX == 32) };
    let sequence = from.number()?;
    let secret = match version {
        Version::Tls13 => SavedSecret::Traffic(from.raw(suite.secret_bytes())?),
        Version::Tls12 => SavedSecret::Key(from.raw(suite.key_bytes())?, from.raw(IV_BYTES)?),
    };
    Ok(SavedDirection { sequence, secret })
}

impl TlsRecord<'static> {
    /// Examples: each kind, each suite, and one in the middle of everything that can be under way.
    pub(super) fn samples() -> Vec<TlsRecord<'static>> {
        const SECRET: [u8; SECRET_BYTES_MAX] = [7; SECRET_BYTES_MAX];
        let records = |version, suite: Suite| {
            let secret = match version {
                Version::Tls13 => SavedSecret::Traffic(&SECRET[..suite.secret_bytes()]),
                Version::Tls12 => SavedSecret::Key(&SECRET[..suite.key_bytes()], &SECRET[..IV_BYTES]),
            };
            let key = |sequence| SavedDirection { sequence, secret: secret.clone() };
            SavedRecords {
                version,
                suite,
                read: key(99),
                write: key(1 << 40),
                partial: b"",
                owes_key_update: false,
                peer_closed: false,
                quiet: 0,
                message: b"",
            }
        };
        let busy = SavedRecords {
            partial: b"\x17\x03\x03\x00\x40half",
            owes_key_update: true,
            peer_closed: true,
            quiet: 3,
            message: &[24, 0],
            ..records(Version::Tls13, Suite::Aes256Gcm)
        };
        let established = [
            records(Version::Tls13, Suite::Aes256Gcm),
            records(Version::Tls13, Suite::Aes128Gcm),
            records(Version::Tls13, Suite::ChaCha20Poly1305),
            records(Version::Tls12, Suite::Aes256Gcm),
            busy,
        ];
        let established = established.map(|records| TlsRecord::Established(Box::new(records)));
        [TlsRecord::Plain, TlsRecord::Fresh].into_iter().chain(established).collect()
    }
}
