//! Keys for one hash and the arithmetic on them (RFC 5802 §3).

use std::fmt;
use std::num::NonZeroU32;

use ring::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of the longest hash we know.
const DIGEST_BYTES_MAX: usize = 32;

/// The hash a SCRAM mechanism is built on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ScramHash {
    /// SCRAM-SHA-1 (RFC 5802).
    Sha1,
    /// SCRAM-SHA-256 (RFC 7677).
    Sha256,
}

impl ScramHash {
    /// Bytes of a digest, and so of a key, a proof and a signature.
    #[must_use]
    pub const fn digest_bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// Tells the hashes apart in what is derived from the server's secret.
    pub(super) fn number(self) -> u8 {
        u8::try_from(self.digest_bytes()).expect("a digest has at most 32 bytes")
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        }
    }
}

/// A digest, key or signature of either hash; wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Digest {
    bytes: [u8; DIGEST_BYTES_MAX],
    length: u8,
}

impl Digest {
    /// Takes the first [`ScramHash::digest_bytes`] of `source`, which has at least as many.
    pub(super) fn from_slice(hash: ScramHash, source: &[u8]) -> Self {
        let length = hash.digest_bytes();
        let mut bytes = [0; DIGEST_BYTES_MAX];
        bytes[..length].copy_from_slice(&source[..length]);
        Self { bytes, length: u8::try_from(length).expect("a digest has at most 32 bytes") }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(redacted)")
    }
}

impl PartialEq for Digest {
    /// Takes the same time whatever differs.
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes().ct_eq(other.as_bytes()).into()
    }
}

impl Eq for Digest {}

/// What the server keeps to recognise a SCRAM client and to prove itself to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScramKeys {
    hash: ScramHash,
    iterations: NonZeroU32,
    salt: Box<[u8]>,
    stored_key: Digest,
    server_key: Digest,
}

impl ScramKeys {
    /// Derives the keys from a password that went through SASLprep.
    pub(super) fn derive(hash: ScramHash, prepared: &str, iterations: NonZeroU32, salt: &[u8]) -> Self {
        let salted = salted_password(hash, prepared, iterations, salt);
        let salted = hmac::Key::new(hash.hmac(), &salted[..hash.digest_bytes()]);
        Self {
            hash,
            iterations,
            salt: salt.into(),
            stored_key: stored_key(hash, &salted),
            server_key: sign(hash, &salted, b"Server Key"),
        }
    }

    /// Puts stored keys together; `stored_key` and `server_key` have at least the digest's bytes.
    pub(super) fn from_parts(
        hash: ScramHash,
        iterations: NonZeroU32,
        salt: &[u8],
        stored_key: &[u8],
        server_key: &[u8],
    ) -> Self {
        Self {
            hash,
            iterations,
            salt: salt.into(),
            stored_key: Digest::from_slice(hash, stored_key),
            server_key: Digest::from_slice(hash, server_key),
        }
    }

    /// One hash's part of [`Credentials::fake`](super::Credentials::fake): keys that belong to no password.
    pub(super) fn fake(
        hash: ScramHash,
        secret: &[u8],
        username: &str,
        iterations: NonZeroU32,
        salt: &[u8],
    ) -> Self {
        let bytes = |purpose: &[u8]| keyed(secret, &[purpose, &[hash.number()], username.as_bytes()]);
        Self::from_parts(hash, iterations, salt, bytes(b"stored").as_ref(), bytes(b"server").as_ref())
    }

    /// The hash these keys are for.
    #[must_use]
    pub fn hash(&self) -> ScramHash {
        self.hash
    }

    /// The salt, which the client is told.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The rounds of PBKDF2, which the client is told.
    #[must_use]
    pub fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    pub(super) fn secrets(&self) -> (&Digest, &Digest) {
        (&self.stored_key, &self.server_key)
    }

    /// Whether a password that went through SASLprep gives these keys.
    pub(super) fn verify_password(&self, prepared: &str) -> bool {
        let salted = salted_password(self.hash, prepared, self.iterations, &self.salt);
        let salted = hmac::Key::new(self.hash.hmac(), &salted[..self.hash.digest_bytes()]);
        stored_key(self.hash, &salted) == self.stored_key
    }

    /// Whether `proof` is the ClientProof for `auth_message` (RFC 5802 §3): recovers the client's
    /// key from it and compares its hash in constant time. A proof of the wrong length is wrong.
    #[must_use]
    pub fn verify_proof(&self, auth_message: &[u8], proof: &[u8]) -> bool {
        if proof.len() != self.hash.digest_bytes() {
            return false;
        }
        let key = hmac::Key::new(self.hash.hmac(), self.stored_key.as_bytes());
        let mut client_key = sign(self.hash, &key, auth_message);
        for (byte, proof) in client_key.bytes.iter_mut().zip(proof) {
            *byte ^= proof;
        }
        let hashed = digest::digest(self.hash.digest(), client_key.as_bytes());
        Digest::from_slice(self.hash, hashed.as_ref()) == self.stored_key
    }

    /// The ServerSignature for `auth_message` (RFC 5802 §3).
    #[must_use]
    pub fn server_signature(&self, auth_message: &[u8]) -> Digest {
        let key = hmac::Key::new(self.hash.hmac(), self.server_key.as_bytes());
        sign(self.hash, &key, auth_message)
    }
}

/// HMAC-SHA-256 of the parts under the server's secret. At most the last part may be of any length.
pub(super) fn keyed(secret: &[u8], parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    for part in parts {
        context.update(part);
    }
    context.sign()
}

/// `Hi(password, salt, i)`; only the first digest's worth of bytes is filled.
fn salted_password(
    hash: ScramHash,
    prepared: &str,
    iterations: NonZeroU32,
    salt: &[u8],
) -> Zeroizing<[u8; DIGEST_BYTES_MAX]> {
    let mut salted = Zeroizing::new([0; DIGEST_BYTES_MAX]);
    pbkdf2::derive(hash.pbkdf2(), iterations, salt, prepared.as_bytes(), &mut salted[..hash.digest_bytes()]);
    salted
}

fn stored_key(hash: ScramHash, salted: &hmac::Key) -> Digest {
    let client_key = sign(hash, salted, b"Client Key");
    Digest::from_slice(hash, digest::digest(hash.digest(), client_key.as_bytes()).as_ref())
}

fn sign(hash: ScramHash, key: &hmac::Key, message: &[u8]) -> Digest {
    Digest::from_slice(hash, hmac::sign(key, message).as_ref())
}
