//! SCRAM keys of the accounts, kept in a file so that only the first login of an account costs its iterations.
//!
//! The file has one record of [`RECORD_BYTES`] for each account and hash, found by its position, so several worker
//! processes share it without a lock: each touches only its own accounts. A record that does not fit the salt, the
//! iterations or the password is computed anew. The keys used last are remembered beside it, so that accounts with
//! one password and one salt need no file.
//!
//! ```text
//! record: check 8 | client key 32 | server key 32 | zero to 80
//! check:  first 8 bytes of SHA-256 over password, salt, iterations, keys
//! ```

use std::fs::{File, OpenOptions};
use std::num::NonZeroU32;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use ring::{digest, hmac, pbkdf2};

const RECORD_BYTES: usize = 80;

/// The hash of a SCRAM mechanism (RFC 5802, RFC 7677).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    /// SCRAM-SHA-1.
    Sha1,
    /// SCRAM-SHA-256.
    Sha256,
}

impl Hash {
    /// Bytes of its output.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Hash::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Hash::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        }
    }

    /// HMAC(key, message).
    pub(crate) fn hmac(self, key: &[u8], message: &[u8]) -> hmac::Tag {
        let algorithm = match self {
            Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => hmac::HMAC_SHA256,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), message)
    }

    /// H(message).
    pub(crate) fn digest(self, message: &[u8]) -> digest::Digest {
        match self {
            Hash::Sha1 => digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, message),
            Hash::Sha256 => digest::digest(&digest::SHA256, message),
        }
    }
}

/// The two keys that a login needs; the first [`Hash::bytes`] bytes count.
#[derive(Clone)]
pub(crate) struct Pair {
    /// ClientKey of RFC 5802 §3.
    pub(crate) client: [u8; 32],
    /// ServerKey of RFC 5802 §3.
    pub(crate) server: [u8; 32],
}

/// What the keys are derived from.
pub(crate) struct Secret<'a> {
    /// The account's number.
    pub(crate) account: u64,
    /// Its password.
    pub(crate) password: &'a str,
    /// The salt that the server has sent.
    pub(crate) salt: &'a [u8],
    /// The iterations that the server asks for.
    pub(crate) iterations: NonZeroU32,
}

/// What keys were derived from, whole.
struct Source {
    hash: Hash,
    password: String,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

/// Keys, from the file or computed.
pub(crate) struct Keys {
    file: Option<File>,
    /// Those used last.
    last: Option<(Source, Pair)>,
    /// Keys that had to be computed.
    pub(crate) computed: u64,
}

impl Keys {
    /// Uses the file at `path`, making it when it is missing. Without a usable file, keys are computed each time.
    pub(crate) fn open(path: Option<&Path>) -> Keys {
        let file = path.and_then(|path| {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).ok()
        });
        Keys { file, last: None, computed: 0 }
    }

    /// The keys for one login.
    pub(crate) fn pair(&mut self, hash: Hash, secret: &Secret<'_>) -> Pair {
        if let Some((source, pair)) = &self.last
            && source.hash == hash
            && source.password == secret.password
            && source.salt == secret.salt
            && source.iterations == secret.iterations
        {
            return pair.clone();
        }
        let pair = self.look_up(hash, secret);
        let source = Source {
            hash,
            password: secret.password.to_owned(),
            salt: secret.salt.to_owned(),
            iterations: secret.iterations,
        };
        self.last = Some((source, pair.clone()));
        pair
    }

    fn look_up(&mut self, hash: Hash, secret: &Secret<'_>) -> Pair {
        let slot = secret.account * 2 + u64::from(hash == Hash::Sha256);
        let offset = slot * RECORD_BYTES as u64;
        let mut record = [0; RECORD_BYTES];
        if let Some(file) = &self.file
            && file.read_exact_at(&mut record, offset).is_ok()
            && record[..8] == check(secret, &record[8..72])
        {
            let mut pair = Pair { client: [0; 32], server: [0; 32] };
            pair.client.copy_from_slice(&record[8..40]);
            pair.server.copy_from_slice(&record[40..72]);
            return pair;
        }
        let pair = derive(hash, secret);
        self.computed += 1;
        record[8..40].copy_from_slice(&pair.client);
        record[40..72].copy_from_slice(&pair.server);
        let sum = check(secret, &record[8..72]);
        record[..8].copy_from_slice(&sum);
        if let Some(file) = &self.file
            && file.write_all_at(&record, offset).is_err()
        {
            // A full disk must not end a run: from here on keys are computed.
            self.file = None;
        }
        pair
    }
}

/// Computes the keys (RFC 5802 §3).
pub(crate) fn derive(hash: Hash, secret: &Secret<'_>) -> Pair {
    let bytes = hash.bytes();
    let mut salted = [0; 32];
    pbkdf2::derive(
        hash.pbkdf2(),
        secret.iterations,
        secret.salt,
        secret.password.as_bytes(),
        &mut salted[..bytes],
    );
    let mut pair = Pair { client: [0; 32], server: [0; 32] };
    pair.client[..bytes].copy_from_slice(hash.hmac(&salted[..bytes], b"Client Key").as_ref());
    pair.server[..bytes].copy_from_slice(hash.hmac(&salted[..bytes], b"Server Key").as_ref());
    pair
}

fn check(secret: &Secret<'_>, keys: &[u8]) -> [u8; 8] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(secret.password.as_bytes());
    context.update(&[0]);
    context.update(secret.salt);
    context.update(&secret.iterations.get().to_be_bytes());
    context.update(keys);
    let mut sum = [0; 8];
    sum.copy_from_slice(&context.finish().as_ref()[..8]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_computed_once_and_again_when_the_salt_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let iterations = NonZeroU32::new(10).unwrap();
        let secret = |salt| Secret { account: 3, password: "pencil", salt, iterations };
        let mut keys = Keys::open(Some(&path));
        let first = keys.pair(Hash::Sha256, &secret(b"salt")).client;
        let mut keys = Keys::open(Some(&path));
        assert_eq!(keys.pair(Hash::Sha256, &secret(b"salt")).client, first);
        assert_eq!(keys.computed, 0);
        assert_ne!(keys.pair(Hash::Sha256, &secret(b"pepper")).client, first);
        assert_eq!(keys.computed, 1);
    }
}
