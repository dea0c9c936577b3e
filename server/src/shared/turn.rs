//! What clients are told of STUN and TURN servers (XEP-0215), and the credentials for these.
//!
//! A credential is good for some time and known to nobody beforehand: the TURN server makes it up from the name that it is
//! given and a secret that it shares with this one, as coturn does with `use-auth-secret`
//! (draft-uberti-behave-turn-rest-00 §2.2).
//!
//! ```text
//! username   seconds since 1970 when it ends ":" a name of the account
//! password   base64(HMAC-SHA-1(secret, username))
//! ```

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use super::secret;
use crate::config::{ExternalService, TurnConfig};

/// Bytes of the secret at least: whoever guesses it makes credentials.
const SECRET_BYTES_MIN: usize = 16;

/// Bytes of an account's name in credentials.
const NAME_BYTES: usize = 8;

/// The services of the configuration, and the key of their credentials.
#[derive(Default)]
pub struct ExternalServices {
    list: Vec<ExternalService>,
    key: Option<hmac::Key>,
    seconds: u64,
}

/// What a TURN server lets an account in by.
#[derive(Debug, PartialEq, Eq)]
pub struct Credential {
    /// The name, with the time when it ends.
    pub username: String,
    /// The password.
    pub password: String,
    /// When it ends: seconds since 1970.
    pub expires: u64,
}

impl ExternalServices {
    /// Those of a configuration that was checked.
    ///
    /// # Errors
    /// The secret cannot be used; the text says why and what to do.
    pub fn load(config: &TurnConfig) -> Result<ExternalServices, String> {
        if !config.is_on() {
            return Ok(ExternalServices::default());
        }
        let key = match config.secret_file.as_os_str().is_empty() {
            true => None,
            false => Some(read_secret(&config.secret_file)?),
        };
        Ok(ExternalServices { list: config.parsed().collect(), key, seconds: config.seconds.into() })
    }

    /// All of them.
    pub fn list(&self) -> &[ExternalService] {
        &self.list
    }

    /// A credential for all of them that ask for one. `server_secret` makes the names of accounts, which say nothing of
    /// these to the TURN server, and are the same each time, so that it can bound what one of them takes.
    pub fn credential(
        &self,
        account: &str,
        server_secret: &[u8; 32],
        now_seconds: u64,
    ) -> Option<Credential> {
        let key = self.key.as_ref()?;
        let expires = now_seconds + self.seconds;
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, server_secret));
        // No account is called so, whatever else names are made of with this secret.
        context.update(b"turn\0");
        context.update(account.as_bytes());
        let name = context.sign();
        let mut username = format!("{expires}:");
        for byte in &name.as_ref()[..NAME_BYTES] {
            write!(username, "{byte:02x}").expect("strings take everything");
        }
        let password = STANDARD.encode(hmac::sign(key, username.as_bytes()));
        Some(Credential { username, password, expires })
    }
}

fn read_secret(path: &Path) -> Result<hmac::Key, String> {
    let secret = secret::read("turn.secret_file", path)?;
    if secret.len() < SECRET_BYTES_MIN {
        return Err(format!(
            "turn.secret_file: {}: the secret has {} bytes; use at least {SECRET_BYTES_MIN} random ones, for example of: \
             openssl rand -hex 32",
            path.display(),
            secret.len()
        ));
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &secret))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn load(secret: &[u8], mode: u32) -> Result<ExternalServices, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, secret).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let services = vec!["turn:a".into()];
        ExternalServices::load(&TurnConfig { services, secret_file: path, seconds: 600 })
    }

    #[test]
    fn a_credential_is_what_coturn_makes_of_its_name() {
        let services = load(b" north by north-west\n", 0o600).unwrap();
        let credential = services.credential("juliet", &[1; 32], 1_000).unwrap();
        // Computed with another implementation of RFC 2104.
        let expected = Credential {
            username: "1600:d8664b4b9dd1bc63".into(),
            password: "XLQSt4CS7GwFg6kylhH4gZp+3Oc=".into(),
            expires: 1_600,
        };
        assert_eq!(credential, expected);
        let later = services.credential("juliet", &[1; 32], 1_001).unwrap();
        assert_eq!(
            later.username.strip_prefix("1601:"),
            Some("d8664b4b9dd1bc63"),
            "an account keeps its name"
        );
        let other = services.credential("romeo", &[1; 32], 1_000).unwrap();
        assert_ne!(other.username, credential.username);
    }

    #[test]
    fn a_secret_that_is_none_is_refused() {
        for (secret, mode, expected) in [
            (&b"north by north-west"[..], 0o640, "chmod 600"),
            (b"north by north-west", 0o604, "chmod 600"),
            (b"  short  ", 0o600, "has 5 bytes"),
            (&[b'a'; 5000], 0o600, "too long"),
        ] {
            let error = load(secret, mode).err().unwrap_or_else(|| panic!("{expected}"));
            assert!(error.contains("turn.secret_file: /") && error.contains(expected), "{expected}: {error}");
        }
        let missing = TurnConfig {
            services: vec!["turn:a".into()],
            secret_file: "/nowhere/secret".into(),
            ..TurnConfig::default()
        };
        assert!(ExternalServices::load(&missing).is_err());
        assert!(ExternalServices::load(&TurnConfig::default()).unwrap().list().is_empty());
    }
}
