//! The cipher suites as the record layer sees them: an AEAD, its nonce, and the key schedule of TLS 1.3.

use ring::aead::{self, LessSafeKey, NONCE_LEN, UnboundKey};
use ring::{digest, hkdf};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::saved::{SavedDirection, SavedSecret};

/// Bytes of the longest key.
pub const KEY_BYTES_MAX: usize = 32;

/// Bytes of the longest traffic secret (SHA-384).
pub const SECRET_BYTES_MAX: usize = 48;

/// Of the records that one key may encrypt, those that are not for data.
pub(super) const RECORDS_KEPT_BACK: u64 = 8;

/// Version of the protocol.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// The AEAD of a connection. The hash belongs to TLS 1.3, where it makes new keys from old secrets.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Suite {
    /// AES-128 in GCM, SHA-256.
    Aes128Gcm,
    /// AES-256 in GCM, SHA-384.
    Aes256Gcm,
    /// ChaCha20-Poly1305, SHA-256.
    ChaCha20Poly1305,
}

impl Suite {
    fn aead(self) -> &'static aead::Algorithm {
        match self {
            Suite::Aes128Gcm => &aead::AES_128_GCM,
            Suite::Aes256Gcm => &aead::AES_256_GCM,
            Suite::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    /// Bytes of a key.
    pub fn key_bytes(self) -> usize {
        self.aead().key_len()
    }

    /// Bytes of a traffic secret of TLS 1.3: the length of the hash.
    pub fn secret_bytes(self) -> usize {
        match self {
            Suite::Aes128Gcm | Suite::ChaCha20Poly1305 => 32,
            Suite::Aes256Gcm => SECRET_BYTES_MAX,
        }
    }

    /// Whether TLS 1.2 sends a part of the nonce with each record (RFC 5288 §3, but not RFC 7905 §2).
    pub(super) fn has_explicit_nonce(self) -> bool {
        self != Suite::ChaCha20Poly1305
    }

    /// Records that one key may encrypt: 2^24 for AES-GCM (RFC 8446 §5.5), as many as there are sequence numbers
    /// for ChaCha20-Poly1305. [`RECORDS_KEPT_BACK`] are for alerts and the change of keys itself.
    pub(super) fn records_per_key(self) -> u64 {
        match self {
            Suite::Aes128Gcm | Suite::Aes256Gcm => 1 << 24,
            Suite::ChaCha20Poly1305 => u64::MAX,
        }
    }

    fn hkdf(self) -> hkdf::Algorithm {
        match self {
            Suite::Aes128Gcm | Suite::ChaCha20Poly1305 => hkdf::HKDF_SHA256,
            Suite::Aes256Gcm => hkdf::HKDF_SHA384,
        }
    }
}

/// What protects one direction of a connection.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct DirectionKeys {
    /// Number of the next record.
    pub sequence: u64,
    /// The key; short keys fill the front.
    pub key: [u8; KEY_BYTES_MAX],
    /// The nonce's fixed part, with which the sequence number is mixed.
    pub iv: [u8; NONCE_LEN],
    /// TLS 1.3: the traffic secret the two were made from; short ones fill the front. All zero in TLS 1.2.
    pub secret: [u8; SECRET_BYTES_MAX],
}

impl DirectionKeys {
    /// Key and nonce of a traffic secret (RFC 8446 §7.3), beginning at record 0.
    pub fn from_secret(suite: Suite, secret: [u8; SECRET_BYTES_MAX]) -> DirectionKeys {
        let mut keys = DirectionKeys { sequence: 0, key: [0; KEY_BYTES_MAX], iv: [0; NONCE_LEN], secret };
        let secret = &keys.secret[..suite.secret_bytes()];
        expand_label(suite, secret, b"key", &mut keys.key[..suite.key_bytes()]);
        expand_label(suite, secret, b"iv", &mut keys.iv);
        keys
    }

    /// As they go to another program. In TLS 1.3 key and nonce are made from the secret anew: that is a third of the
    /// bytes.
    pub(super) fn save(&self, version: Version, suite: Suite) -> SavedDirection<'_> {
        let secret = match version {
            Version::Tls13 => SavedSecret::Traffic(&self.secret[..suite.secret_bytes()]),
            Version::Tls12 => SavedSecret::Key(&self.key[..suite.key_bytes()], &self.iv),
        };
        SavedDirection { sequence: self.sequence, secret }
    }

    /// The keys of another program; what the record has too much or too little of is cut or zero.
    pub(super) fn restored(suite: Suite, record: &SavedDirection<'_>) -> DirectionKeys {
        let fill = |to: &mut [u8], from: &[u8]| {
            let length = to.len().min(from.len());
            to[..length].copy_from_slice(&from[..length]);
        };
        let mut keys = match record.secret {
            SavedSecret::Traffic(given) => {
                let mut secret = [0; SECRET_BYTES_MAX];
                fill(&mut secret, given);
                DirectionKeys::from_secret(suite, secret)
            }
            SavedSecret::Key(key, iv) => {
                let mut keys = DirectionKeys {
                    sequence: 0,
                    key: [0; KEY_BYTES_MAX],
                    iv: [0; NONCE_LEN],
                    secret: [0; SECRET_BYTES_MAX],
                };
                fill(&mut keys.key, key);
                fill(&mut keys.iv, iv);
                keys
            }
        };
        keys.sequence = record.sequence;
        keys
    }

    /// The keys after a KeyUpdate (RFC 8446 §7.2).
    pub(super) fn next(&self, suite: Suite) -> DirectionKeys {
        let mut secret = [0; SECRET_BYTES_MAX];
        let length = suite.secret_bytes();
        expand_label(suite, &self.secret[..length], b"traffic upd", &mut secret[..length]);
        DirectionKeys::from_secret(suite, secret)
    }

    /// The key in the form that encrypts: about 540 bytes, so it is made for a batch of records and dropped.
    pub(super) fn expanded(&self, suite: Suite) -> LessSafeKey {
        let key = UnboundKey::new(suite.aead(), &self.key[..suite.key_bytes()])
            .expect("the key is as long as its algorithm wants");
        LessSafeKey::new(key)
    }

    /// The nonce of the next record: the sequence number mixed into the fixed part (RFC 8446 §5.3, RFC 7905 §2).
    pub(super) fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE_LEN - 8..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        nonce
    }
}

/// A length that ring's HKDF shall fill.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Exported keying material without a context, of at most one hash (RFC 8446 §7.5).
pub(super) fn export(suite: Suite, exporter_secret: &[u8; SECRET_BYTES_MAX], label: &[u8], out: &mut [u8]) {
    let nothing = digest::digest(suite.hkdf().hmac_algorithm().digest_algorithm(), &[]);
    let length = suite.secret_bytes();
    let mut secret = Zeroizing::new([0; SECRET_BYTES_MAX]);
    expand(suite, &exporter_secret[..length], label, nothing.as_ref(), &mut secret[..length]);
    expand(suite, &secret[..length], b"exporter", nothing.as_ref(), out);
}

/// HKDF-Expand-Label with an empty context (RFC 8446 §7.1).
fn expand_label(suite: Suite, secret: &[u8], label: &[u8], out: &mut [u8]) {
    expand(suite, secret, label, &[], out);
}

fn expand(suite: Suite, secret: &[u8], label: &[u8], context: &[u8], out: &mut [u8]) {
    const PREFIX: &[u8] = b"tls13 ";
    let length = u16::try_from(out.len()).expect("at most a hash is expanded").to_be_bytes();
    let label_length = [u8::try_from(PREFIX.len() + label.len()).expect("labels are short")];
    let context_length = [u8::try_from(context.len()).expect("a context is a hash at most")];
    hkdf::Prk::new_less_safe(suite.hkdf(), secret)
        .expand(&[&length, &label_length, PREFIX, label, &context_length, context], Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .expect("HKDF gives up to 255 hashes, and this is one at most");
}
