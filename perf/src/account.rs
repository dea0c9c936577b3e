//! The accounts of a run: names by number, passwords derived from a seed, so that no file has to be kept.

use std::io::{self, Write};

use ring::hmac;

/// Derives the passwords of a set of accounts.
pub(crate) struct Accounts {
    key: hmac::Key,
    domain: String,
}

impl Accounts {
    /// The accounts of one seed on one domain.
    pub(crate) fn new(seed: &str, domain: &str) -> Accounts {
        Accounts { key: hmac::Key::new(hmac::HMAC_SHA256, seed.as_bytes()), domain: domain.to_owned() }
    }

    /// The localpart of account `number`.
    pub(crate) fn name(number: u64) -> String {
        format!("user{number}")
    }

    /// The password of account `number`: 20 hexadecimal digits.
    pub(crate) fn password(&self, number: u64) -> String {
        let tag = hmac::sign(&self.key, Self::name(number).as_bytes());
        tag.as_ref()[..10].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Writes the lines that `whimbrelctl user import` reads: address, tab, password.
    pub(crate) fn write_import(&self, first: u64, count: u64, out: &mut dyn Write) -> io::Result<()> {
        for number in first..first + count {
            writeln!(out, "{}@{}\t{}", Self::name(number), self.domain, self.password(number))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_depend_on_the_seed_and_the_number_alone() {
        let accounts = Accounts::new("seed", "localhost");
        assert_eq!(accounts.password(7), Accounts::new("seed", "example.org").password(7));
        assert_ne!(accounts.password(7), accounts.password(8));
        assert_ne!(accounts.password(7), Accounts::new("other", "localhost").password(7));
        let mut lines = Vec::new();
        accounts.write_import(3, 2, &mut lines).unwrap();
        let lines = String::from_utf8(lines).unwrap();
        assert!(lines.starts_with("user3@localhost\t"), "{lines}");
        assert_eq!(lines.lines().count(), 2);
    }
}
