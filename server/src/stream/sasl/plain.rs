//! PLAIN (RFC 4616), and what is done for users who do not exist.

use std::fmt;
use std::num::NonZeroU32;

use whimbrel_storage::credentials::{Credentials, ScramHash, ScramKeys};
use zeroize::{Zeroize, Zeroizing};

use super::exchange::check_identity;
use super::{Failure, SaslError};

const MALFORMED: Failure = Failure { error: SaslError::MalformedRequest, reason: None };

/// Reads `[authzid] NUL authcid NUL passwd` and gives the username and the password.
pub(super) fn read(message: &[u8], domain: &str) -> Result<(Box<str>, Zeroizing<String>), Failure> {
    let message = std::str::from_utf8(message).map_err(|_| MALFORMED)?;
    let mut parts = message.split('\0');
    let (Some(authzid), Some(username), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(MALFORMED);
    };
    if password.is_empty() {
        return Err(MALFORMED);
    }
    let authzid = Some(authzid).filter(|authzid| !authzid.is_empty());
    let username = check_identity(username, authzid, domain)?;
    Ok((username, Zeroizing::new(password.to_owned())))
}

/// What the server answers for accounts that do not exist, so that they cannot be told from those
/// that do: made-up salts which are the same at every login, and the same work.
#[derive(Clone)]
pub struct UnknownUsers {
    secret: [u8; 32],
    iterations: NonZeroU32,
}

impl UnknownUsers {
    /// `secret` is random and kept with the server's data; `iterations` are what real accounts
    /// have.
    #[must_use]
    pub fn new(secret: [u8; 32], iterations: NonZeroU32) -> Self {
        Self { secret, iterations }
    }

    pub(super) fn keys(&self, hash: ScramHash, username: &str) -> ScramKeys {
        ScramKeys::fake(hash, &self.secret, username, self.iterations)
    }

    /// Puts together the work of checking a PLAIN password.
    #[must_use]
    pub fn plain_check(
        &self,
        found: Option<Credentials>,
        username: &str,
        password: Zeroizing<String>,
    ) -> PlainCheck {
        let exists = found.is_some();
        let credentials = found.unwrap_or_else(|| Credentials::fake(&self.secret, username, self.iterations));
        PlainCheck { credentials, exists, password }
    }
}

impl fmt::Debug for UnknownUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnknownUsers").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl Drop for UnknownUsers {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// A PLAIN password to check: sent to the crypto pool, whose answer goes to
/// [`Exchange::plain_checked`](super::Exchange::plain_checked).
pub struct PlainCheck {
    credentials: Credentials,
    exists: bool,
    password: Zeroizing<String>,
}

impl PlainCheck {
    /// Whether the account exists and this is its password. Takes one PBKDF2 run: milliseconds.
    #[must_use]
    pub fn run(self) -> bool {
        self.credentials.verify_plain(&self.password) & self.exists
    }
}

impl fmt::Debug for PlainCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainCheck(redacted)")
    }
}
