//! PLAIN (RFC 4616), and what is done for users who do not exist.

use std::fmt;
use std::sync::RwLock;

use whimbrel_storage::credentials::Credentials;
use zeroize::{Zeroize, Zeroizing};

use super::exchange::check_identity;
use super::looks::Looks;
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
/// that do: made-up salts which are the same at every login, the looks of real accounts, and the
/// same work.
pub struct UnknownUsers {
    secret: [u8; 32],
    looks: RwLock<Looks>,
}

impl UnknownUsers {
    /// `secret` is random and kept with the server's data; `looks` are what real accounts have.
    #[must_use]
    pub fn new(secret: [u8; 32], looks: Looks) -> Self {
        Self { secret, looks: RwLock::new(looks) }
    }

    /// The looks of real accounts are others now.
    pub fn resemble(&self, looks: Looks) {
        *self.looks.write().expect("no code panics while it holds this lock") = looks;
    }

    /// Made-up credentials of a name.
    pub(crate) fn credentials(&self, username: &str) -> Credentials {
        let look =
            self.looks.read().expect("no code panics while it holds this lock").of(&self.secret, username);
        Credentials::fake(&self.secret, username, look)
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
        // Made for everybody, so that it takes as long for those who exist.
        let fake = self.credentials(username);
        PlainCheck { credentials: found.unwrap_or(fake), exists, password }
    }
}

impl fmt::Debug for UnknownUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnknownUsers").field("looks", &self.looks).finish_non_exhaustive()
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
