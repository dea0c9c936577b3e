//! What a SCRAM challenge shows of an account beside the salt's bytes: iterations, the salt's length, and whether both
//! mechanisms have the same salt. Accounts made here look alike; imported ones and those from before a change of
//! `auth.scram_iterations` may differ. Anything that is made up for names that are no accounts must not look otherwise.

use std::num::NonZeroU32;

use super::scram::keyed;
use super::{SALT_BYTES, ScramHash, ScramKeys};

/// Of one hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Ord, PartialOrd)]
struct Half {
    iterations: NonZeroU32,
    salt_bytes: u8,
}

impl Half {
    fn of(keys: &ScramKeys) -> Self {
        let salt_bytes = u8::try_from(keys.salt().len()).expect("a salt has at most 64 bytes");
        Self { iterations: keys.iterations(), salt_bytes }
    }
}

/// How an account looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash, Ord, PartialOrd)]
pub struct Look {
    sha1: Half,
    sha256: Half,
    one_salt: bool,
}

impl Look {
    /// That of an account whose password is set now.
    #[must_use]
    pub fn usual(iterations: NonZeroU32) -> Self {
        let half = Half { iterations, salt_bytes: SALT_BYTES as u8 };
        Self { sha1: half, sha256: half, one_salt: true }
    }

    pub(super) fn of(sha1: &ScramKeys, sha256: &ScramKeys) -> Self {
        Self { sha1: Half::of(sha1), sha256: Half::of(sha256), one_salt: sha1.salt() == sha256.salt() }
    }

    /// A number in which looks differ, the same in every run: for choices that shall not change.
    #[must_use]
    pub fn bytes(&self) -> [u8; 11] {
        let mut bytes = [0; 11];
        bytes[..4].copy_from_slice(&self.sha1.iterations.get().to_le_bytes());
        bytes[4..8].copy_from_slice(&self.sha256.iterations.get().to_le_bytes());
        bytes[8..].copy_from_slice(&[self.sha1.salt_bytes, self.sha256.salt_bytes, u8::from(self.one_salt)]);
        bytes
    }

    pub(super) fn iterations(&self, hash: ScramHash) -> NonZeroU32 {
        self.half(hash).iterations
    }

    /// A salt for a name, the same each time.
    pub(super) fn salt(&self, hash: ScramHash, secret: &[u8], username: &str) -> Vec<u8> {
        let of = if self.one_salt { 0 } else { hash.number() };
        let mut salt = Vec::with_capacity(64);
        // 64 bytes are the most that a salt has.
        for part in 0..2 {
            salt.extend_from_slice(keyed(secret, &[b"salt", &[of, part], username.as_bytes()]).as_ref());
        }
        salt.truncate(usize::from(self.half(hash).salt_bytes));
        salt
    }

    fn half(&self, hash: ScramHash) -> &Half {
        match hash {
            ScramHash::Sha1 => &self.sha1,
            ScramHash::Sha256 => &self.sha256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Credentials;
    use super::*;

    fn imported(sha256: &str, sha1: Option<&str>) -> Credentials {
        let keys = |name: &str, cost: &str, bytes: usize| {
            let key = if bytes == 32 { "A".repeat(43) + "=" } else { "A".repeat(27) + "=" };
            format!("{name}${cost}${key}:{key}")
        };
        let mut texts = vec![keys("SCRAM-SHA-256", sha256, 32)];
        texts.extend(sha1.map(|cost| keys("SCRAM-SHA-1", cost, 20)));
        Credentials::from_rfc5803(texts.iter().map(String::as_str)).expect("good keys")
    }

    #[test]
    fn made_up_credentials_look_as_they_are_told_to() {
        let rounds = NonZeroU32::new(1024).expect("not zero");
        let made = Credentials::derive("pencil", rounds).expect("a good password");
        assert_eq!(made.look(), Look::usual(rounds));
        let salt = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2w="; // 38 bytes
        for real in [
            made,
            imported("10000:QUJDREVGR0g=", Some("4096:QUJDREVGR0hJSktM")),
            imported(&format!("4096:{salt}"), Some(&format!("4096:{salt}"))),
            imported(&format!("4096:{salt}"), None),
        ] {
            let fake = Credentials::fake(b"secret", "nobody", real.look());
            assert_eq!(fake.look(), real.look());
            assert_eq!(fake, Credentials::fake(b"secret", "nobody", real.look()));
        }
    }
}
