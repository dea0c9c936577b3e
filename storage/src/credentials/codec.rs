//! The stored form of credentials.
//!
//! ```text
//! byte 0    format, 1
//! then for SHA-1 (digest of 20 bytes) and for SHA-256 (32 bytes):
//!   4       iterations, little endian, 1 to ITERATIONS_MAX
//!   1       bytes of salt, 8 to 64
//!   n       salt
//!   20|32   StoredKey
//!   20|32   ServerKey
//! ```

use std::num::NonZeroU32;

use zeroize::Zeroizing;

use super::{Credentials, CredentialsError, ITERATIONS_MAX, ScramHash, ScramKeys};

const FORMAT: u8 = 1;
pub(super) const SALT_BYTES_MIN: usize = 8;
pub(super) const SALT_BYTES_MAX: usize = 64;
const _: () = assert!(super::SALT_BYTES >= SALT_BYTES_MIN && super::SALT_BYTES <= SALT_BYTES_MAX);

pub(super) fn encode(credentials: &Credentials) -> Zeroizing<Vec<u8>> {
    let parts = [&credentials.sha1, &credentials.sha256];
    let length: usize =
        1 + parts.iter().map(|keys| 5 + keys.salt().len() + 2 * keys.hash().digest_bytes()).sum::<usize>();
    // Sized once: growing would leave copies of the keys behind.
    let mut out = Zeroizing::new(Vec::with_capacity(length));
    out.push(FORMAT);
    for keys in parts {
        let (stored_key, server_key) = keys.secrets();
        out.extend_from_slice(&keys.iterations().get().to_le_bytes());
        out.push(u8::try_from(keys.salt().len()).expect("a salt has at most 64 bytes"));
        out.extend_from_slice(keys.salt());
        out.extend_from_slice(stored_key.as_bytes());
        out.extend_from_slice(server_key.as_bytes());
    }
    debug_assert_eq!(out.len(), length);
    out
}

pub(super) fn decode(bytes: &[u8]) -> Result<Credentials, CredentialsError> {
    let mut rest = bytes;
    match take(&mut rest, 1)?[0] {
        FORMAT => {}
        found => return Err(CredentialsError::UnknownFormat { found, known: FORMAT }),
    }
    let sha1 = decode_keys(ScramHash::Sha1, &mut rest)?;
    let sha256 = decode_keys(ScramHash::Sha256, &mut rest)?;
    if !rest.is_empty() {
        return Err(CredentialsError::Damaged("bytes after the end"));
    }
    Ok(Credentials { sha1, sha256 })
}

fn decode_keys(hash: ScramHash, rest: &mut &[u8]) -> Result<ScramKeys, CredentialsError> {
    let iterations = take(rest, 4)?.try_into().expect("four bytes were taken");
    let iterations = NonZeroU32::new(u32::from_le_bytes(iterations))
        .filter(|iterations| iterations.get() <= ITERATIONS_MAX)
        .ok_or(CredentialsError::Damaged("an impossible number of iterations"))?;
    let salt_bytes = usize::from(take(rest, 1)?[0]);
    if !(SALT_BYTES_MIN..=SALT_BYTES_MAX).contains(&salt_bytes) {
        return Err(CredentialsError::Damaged("an impossible length of salt"));
    }
    let salt = take(rest, salt_bytes)?;
    let stored_key = take(rest, hash.digest_bytes())?;
    let server_key = take(rest, hash.digest_bytes())?;
    Ok(ScramKeys::from_parts(hash, iterations, salt, stored_key, server_key))
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], CredentialsError> {
    rest.split_off(..count).ok_or(CredentialsError::Damaged("cut short"))
}
