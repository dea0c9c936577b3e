//! The accounts of a run: names by number, passwords derived from a seed, so that no file has to be kept.

use std::io::{self, Write};
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use crate::engine::keys::{self, Hash, Pair, Secret};

/// Bytes of a salt.
const SALT_BYTES: usize = 16;

/// Derives the passwords of a set of accounts.
pub(crate) struct Accounts {
    key: hmac::Key,
    domain: String,
    /// Every account has the password, and in ready keys the salt, of account 0.
    one_password: bool,
}

impl Accounts {
    /// The accounts of one seed on one domain.
    pub(crate) fn new(seed: &str, domain: &str, one_password: bool) -> Accounts {
        let key = hmac::Key::new(hmac::HMAC_SHA256, seed.as_bytes());
        Accounts { key, domain: domain.to_owned(), one_password }
    }

    /// The localpart of account `number`.
    pub(crate) fn name(number: u64) -> String {
        format!("user{number}")
    }

    /// The password of account `number`: 20 hexadecimal digits.
    pub(crate) fn password(&self, number: u64) -> String {
        let tag = hmac::sign(&self.key, Self::name(self.secret_of(number)).as_bytes());
        tag.as_ref()[..10].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The account whose password account `number` has.
    pub(crate) fn secret_of(&self, number: u64) -> u64 {
        if self.one_password { 0 } else { number }
    }

    /// Writes the lines that `whimbrelctl user import` reads: address, tab, password.
    pub(crate) fn write_import(&self, first: u64, count: u64, out: &mut dyn Write) -> io::Result<()> {
        for number in first..first + count {
            writeln!(out, "{}@{}\t{}", Self::name(number), self.domain, self.password(number))?;
        }
        Ok(())
    }

    /// Writes SCRAM keys instead of passwords (RFC 5803), so that the import has nothing to derive: address, tab, keys
    /// of SCRAM-SHA-256, tab, keys of SCRAM-SHA-1.
    pub(crate) fn write_keys(
        &self,
        first: u64,
        count: u64,
        iterations: NonZeroU32,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let mut known: Option<(u64, String)> = None;
        for number in first..first + count {
            let owner = self.secret_of(number);
            if known.as_ref().is_none_or(|(of, _)| *of != owner) {
                known = Some((owner, self.keys(owner, iterations)));
            }
            let keys = known.as_ref().map_or("", |(_, keys)| keys);
            writeln!(out, "{}@{}\t{keys}", Self::name(number), self.domain)?;
        }
        Ok(())
    }

    fn keys(&self, number: u64, iterations: NonZeroU32) -> String {
        let password = self.password(number);
        let salt = hmac::sign(&self.key, format!("salt {number}").as_bytes());
        let salt = &salt.as_ref()[..SALT_BYTES];
        let secret = Secret { account: number, password: &password, salt, iterations };
        [("SCRAM-SHA-256", Hash::Sha256), ("SCRAM-SHA-1", Hash::Sha1)]
            .map(|(mechanism, hash)| {
                let Pair { client, server } = keys::derive(hash, &secret);
                format!(
                    "{mechanism}${iterations}:{}${}:{}",
                    STANDARD.encode(salt),
                    STANDARD.encode(hash.digest(&client[..hash.bytes()])),
                    STANDARD.encode(&server[..hash.bytes()])
                )
            })
            .join("\t")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_depend_on_the_seed_and_the_number_alone() {
        let accounts = Accounts::new("seed", "localhost", false);
        assert_eq!(accounts.password(7), Accounts::new("seed", "example.org", false).password(7));
        assert_ne!(accounts.password(7), accounts.password(8));
        assert_ne!(accounts.password(7), Accounts::new("other", "localhost", false).password(7));
        let mut lines = Vec::new();
        accounts.write_import(3, 2, &mut lines).unwrap();
        let lines = String::from_utf8(lines).unwrap();
        assert!(lines.starts_with("user3@localhost\t"), "{lines}");
        assert_eq!(lines.lines().count(), 2);
    }
    #[test]
    fn accounts_with_one_password_have_the_same_keys_and_others_have_their_own() {
        let iterations = NonZeroU32::new(1024).unwrap();
        for (one_password, same) in [(true, true), (false, false)] {
            let accounts = Accounts::new("seed", "localhost", one_password);
            assert_eq!(accounts.password(7) == accounts.password(8), same);
            let mut lines = Vec::new();
            accounts.write_keys(7, 2, iterations, &mut lines).unwrap();
            let lines = String::from_utf8(lines).unwrap();
            let keys: Vec<&str> =
                lines.lines().filter_map(|line| line.split_once('\t')).map(|line| line.1).collect();
            assert_eq!(keys.len(), 2, "{lines}");
            assert_eq!(keys[0] == keys[1], same, "{lines}");
        }
    }
}
