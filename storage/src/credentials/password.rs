//! Passwords on their way in: SASLprep and generated ones.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::{CredentialsError, saslprep};

/// Longest password, in bytes of UTF-8.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Applies SASLprep (RFC 4013), which RFC 5802 §5.1 asks for, to a password that is presented or set.
pub(super) fn prepare(password: &str) -> Result<Zeroizing<String>, CredentialsError> {
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(CredentialsError::PasswordTooLong { bytes: password.len() });
    }
    let prepared = saslprep::prepare(password)?;
    if prepared.is_empty() {
        return Err(CredentialsError::PasswordEmpty);
    }
    Ok(prepared)
}

/// 256 random bits as 43 characters of base64url.
pub(super) fn random_key() -> Result<Zeroizing<String>, CredentialsError> {
    let mut bytes = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(&mut *bytes).map_err(|_| CredentialsError::NoRandom)?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
}
