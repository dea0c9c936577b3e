//! What is kept of a password: SCRAM keys (RFC 5802 §3), never the password itself.
//!
//! An account has keys for SHA-1 and for SHA-256, so that every client can log in with the
//! strongest mechanism it knows. The server's half of the SCRAM arithmetic is here as well
//! ([`ScramKeys::verify_proof`], [`ScramKeys::server_signature`]): the keys are used where they
//! live and no accessor hands them out.

mod codec;
mod look;
mod password;
pub mod rfc5803;
mod saslprep;
mod scram;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

pub use look::Look;
pub use password::PASSWORD_BYTES_MAX;
pub use scram::{Digest, ScramHash, ScramKeys};

/// Rounds of PBKDF2 unless the operator says otherwise: the least that RFC 5802 §5.1 and RFC 7677
/// §4 allow.
///
/// The server spends them only when a password is set and when a client logs in with PLAIN;
/// SCRAM clients spend them themselves at each login. So this figure is what a login costs a
/// phone, and, against someone who stole the directory, what one guess costs. Sites that fear the
/// theft more than slow logins raise it (OWASP names 600,000 for SHA-256).
pub const ITERATIONS_DEFAULT: NonZeroU32 = NonZeroU32::new(4096).expect("4096 is not zero");

/// Most rounds that are accepted: some tenths of a second of one core for a PLAIN login.
pub const ITERATIONS_MAX: u32 = 2_000_000;

/// Bytes of salt in freshly derived credentials.
pub const SALT_BYTES: usize = 16;

/// Why credentials could not be made or read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CredentialsError {
    /// Nothing is left of the password after SASLprep.
    #[error("the password is empty")]
    PasswordEmpty,
    /// The password is longer than [`PASSWORD_BYTES_MAX`].
    #[error("the password has {bytes} bytes; at most {PASSWORD_BYTES_MAX} are allowed")]
    PasswordTooLong {
        /// Its length in bytes of UTF-8.
        bytes: usize,
    },
    /// SASLprep (RFC 4013) refuses the password.
    #[error("the password cannot be used: {0}")]
    PasswordForbidden(String),
    /// More rounds than [`ITERATIONS_MAX`].
    #[error("{0} iterations are too many; at most {ITERATIONS_MAX} are allowed")]
    Iterations(u32),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    NoRandom,
    /// Stored credentials in a format of some other release.
    #[error("stored credentials have format {found}; this release reads format {known}")]
    UnknownFormat {
        /// The format found.
        found: u8,
        /// The format this release writes.
        known: u8,
    },
    /// Stored credentials that are too short, too long, or hold impossible values.
    #[error("stored credentials are damaged: {0}")]
    Damaged(&'static str),
}

/// The SCRAM keys of one account, for both hashes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credentials {
    sha1: ScramKeys,
    sha256: ScramKeys,
}

impl Credentials {
    /// Derives keys from a password with a fresh random salt. Costs two PBKDF2 runs of
    /// `iterations` rounds: milliseconds, so never on a worker.
    ///
    /// # Errors
    /// The password is empty, too long or refused by SASLprep; too many iterations; no random
    /// bytes.
    pub fn derive(password: &str, iterations: NonZeroU32) -> Result<Self, CredentialsError> {
        let mut salt = [0; SALT_BYTES];
        SystemRandom::new().fill(&mut salt).map_err(|_| CredentialsError::NoRandom)?;
        Self::derive_with_salt(password, iterations, &salt)
    }

    /// Like [`Credentials::derive`] with a salt chosen by the caller: for tests and for
    /// deterministic simulation.
    ///
    /// # Errors
    /// As [`Credentials::derive`].
    pub fn derive_with_salt(
        password: &str,
        iterations: NonZeroU32,
        salt: &[u8; SALT_BYTES],
    ) -> Result<Self, CredentialsError> {
        if iterations.get() > ITERATIONS_MAX {
            return Err(CredentialsError::Iterations(iterations.get()));
        }
        let password = password::prepare(password)?;
        Ok(Self {
            sha1: ScramKeys::derive(ScramHash::Sha1, &password, iterations, salt),
            sha256: ScramKeys::derive(ScramHash::Sha256, &password, iterations, salt),
        })
    }

    /// Credentials to show someone who logs in to an account that does not exist: the same salt each time they ask, and
    /// keys that belong to no password. `secret` is the server's own and must outlive a restart, or the changed salt
    /// tells which accounts are real; for the same reason `look` should be that of real accounts.
    #[must_use]
    pub fn fake(secret: &[u8], username: &str, look: Look) -> Self {
        let keys = |hash| {
            let salt = look.salt(hash, secret, username);
            ScramKeys::fake(hash, secret, username, look.iterations(hash), &salt)
        };
        Self { sha1: keys(ScramHash::Sha1), sha256: keys(ScramHash::Sha256) }
    }

    /// What a challenge shows of these keys beside the salt itself.
    #[must_use]
    pub fn look(&self) -> Look {
        Look::of(&self.sha1, &self.sha256)
    }

    /// A password that nobody guesses: 256 random bits as 43 characters of base64url.
    ///
    /// # Errors
    /// [`CredentialsError::NoRandom`].
    pub fn random_key() -> Result<Zeroizing<String>, CredentialsError> {
        password::random_key()
    }

    /// The keys for one hash.
    #[must_use]
    pub fn keys(&self, hash: ScramHash) -> &ScramKeys {
        match hash {
            ScramHash::Sha1 => &self.sha1,
            ScramHash::Sha256 => &self.sha256,
        }
    }

    /// Whether `password` is the one these keys were derived from; the comparison takes the same
    /// time either way. Costs one PBKDF2 run: never on a worker.
    #[must_use]
    pub fn verify_plain(&self, password: &str) -> bool {
        password::prepare(password).is_ok_and(|prepared| self.sha256.verify_password(&prepared))
    }

    /// The bytes the directory stores.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        codec::encode(self)
    }

    /// Reads what [`Credentials::encode`] wrote.
    ///
    /// # Errors
    /// [`CredentialsError::UnknownFormat`] or [`CredentialsError::Damaged`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CredentialsError> {
        codec::decode(bytes)
    }
}
