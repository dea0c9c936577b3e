//! SCRAM keys as text (RFC 5803 §2), which is how servers hand accounts to one another without the passwords:
//!
//! ```text
//! SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>      salt and keys in base64
//! ```

use std::num::NonZeroU32;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::codec::{SALT_BYTES_MAX, SALT_BYTES_MIN};
use super::scram::keyed;
use super::{Credentials, ITERATIONS_MAX, SALT_BYTES, ScramHash, ScramKeys};

/// Fewest rounds that foreign keys may have; the same that new ones may be configured to have.
const ITERATIONS_MIN: u32 = 1024;

/// Bytes of one text at most. The longest that is allowed is far below.
const TEXT_BYTES_MAX: usize = 512;

/// Why a text is no SCRAM keys. The reasons never repeat what was given.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeysError {
    /// Not the form of RFC 5803.
    #[error(
        "SCRAM keys are written MECHANISM$ITERATIONS:SALT$STOREDKEY:SERVERKEY (RFC 5803), without quotes"
    )]
    Form,
    /// The mechanism is not in capitals, so that the base64 behind it may have lost its own.
    #[error(
        "the mechanism of SCRAM keys is in capitals, and the case of the keys behind it counts as well (RFC 5803)"
    )]
    Case,
    /// A mechanism whose keys are of no use here.
    #[error("keys of SCRAM-SHA-256 and SCRAM-SHA-1 can be used, those of other mechanisms cannot")]
    Mechanism,
    /// Too few or too many rounds, or no number.
    #[error("SCRAM iterations must be a number from {ITERATIONS_MIN} to {ITERATIONS_MAX}")]
    Iterations,
    /// A salt that is too short, too long, or not base64.
    #[error("the salt must be {SALT_BYTES_MIN} to {SALT_BYTES_MAX} bytes in base64")]
    Salt,
    /// A key of the wrong length, or not base64.
    #[error("{key} of {mechanism} must be {bytes} bytes in base64")]
    Key {
        /// StoredKey or ServerKey.
        key: &'static str,
        /// The mechanism.
        mechanism: &'static str,
        /// The bytes it must have.
        bytes: usize,
    },
    /// Keys of the same mechanism twice.
    #[error("the keys of one mechanism are given twice")]
    Twice,
    /// No keys of SCRAM-SHA-256.
    #[error(
        "keys of SCRAM-SHA-256 are missing: a client that knows it chooses it, and could not log in with those of \
         SCRAM-SHA-1 alone"
    )]
    Sha256Missing,
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    NoRandom,
}

/// Whether a text is meant as SCRAM keys: `SCRAM-`, a mechanism's name, `$`, in whatever case, and whatever blanks, quotes
/// or marks a program has put before it. Such a text is never taken for a password.
#[must_use]
pub fn is_keys(text: &str) -> bool {
    let text = text.trim_start_matches(|one: char| !one.is_ascii_alphanumeric());
    let is_scram = text.get(..6).is_some_and(|begin| begin.eq_ignore_ascii_case("SCRAM-"));
    let Some((name, _)) = text.get(6..).filter(|_| is_scram).and_then(|rest| rest.split_once('$')) else {
        return false;
    };
    let name = name.trim();
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl Credentials {
    /// Takes keys that were derived elsewhere: those of SCRAM-SHA-256, and those of SCRAM-SHA-1 where they are known.
    /// Without the latter nobody can log in to the account with SCRAM-SHA-1. Blanks around a text do not matter.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn from_rfc5803<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, KeysError> {
        let (mut sha1, mut sha256) = (None, None);
        for text in texts {
            let keys = parse(text)?;
            let place = match keys.hash() {
                ScramHash::Sha1 => &mut sha1,
                ScramHash::Sha256 => &mut sha256,
            };
            if place.replace(keys).is_some() {
                return Err(KeysError::Twice);
            }
        }
        let sha256 = sha256.ok_or(KeysError::Sha256Missing)?;
        let sha1 = match sha1 {
            Some(keys) => keys,
            None => no_keys(ScramHash::Sha1, sha256.iterations())?,
        };
        Ok(Self { sha1, sha256 })
    }

    /// The keys for one hash as [`Credentials::from_rfc5803`] reads them. They are a secret like a password's hash.
    #[must_use]
    pub fn to_rfc5803(&self, hash: ScramHash) -> Zeroizing<String> {
        let keys = self.keys(hash);
        let (stored_key, server_key) = keys.secrets();
        Zeroizing::new(format!(
            "{}${}:{}${}:{}",
            mechanism(hash),
            keys.iterations(),
            STANDARD.encode(keys.salt()),
            STANDARD.encode(stored_key.as_bytes()),
            STANDARD.encode(server_key.as_bytes()),
        ))
    }
}

/// Keys that belong to no password.
fn no_keys(hash: ScramHash, iterations: NonZeroU32) -> Result<ScramKeys, KeysError> {
    let mut secret = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(&mut *secret).map_err(|_| KeysError::NoRandom)?;
    let salt = &keyed(&*secret, &[b"salt"]);
    Ok(ScramKeys::fake(hash, &*secret, "", iterations, &salt.as_ref()[..SALT_BYTES]))
}

fn mechanism(hash: ScramHash) -> &'static str {
    match hash {
        ScramHash::Sha1 => "SCRAM-SHA-1",
        ScramHash::Sha256 => "SCRAM-SHA-256",
    }
}

/// What is wrong with a mechanism's name that is not one.
fn unknown(name: &str) -> KeysError {
    let bare = name.trim_matches(|one: char| !one.is_ascii_alphanumeric());
    match [ScramHash::Sha256, ScramHash::Sha1]
        .into_iter()
        .find(|&hash| mechanism(hash).eq_ignore_ascii_case(bare))
    {
        Some(hash) if mechanism(hash) == bare => KeysError::Form,
        Some(_) => KeysError::Case,
        None => KeysError::Mechanism,
    }
}

fn parse(text: &str) -> Result<ScramKeys, KeysError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(KeysError::Form);
    }
    let mut parts = text.trim().split('$');
    let (name, cost, keys) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(cost), Some(keys), None) => (name, cost, keys),
        _ => return Err(KeysError::Form),
    };
    let hash = [ScramHash::Sha256, ScramHash::Sha1].into_iter().find(|&hash| mechanism(hash) == name);
    let hash = hash.ok_or_else(|| unknown(name))?;
    let (iterations, salt) = cost.split_once(':').ok_or(KeysError::Form)?;
    let (stored_key, server_key) = keys.split_once(':').ok_or(KeysError::Form)?;
    if !iterations.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(KeysError::Iterations);
    }
    let iterations = iterations.parse().ok().and_then(NonZeroU32::new).ok_or(KeysError::Iterations)?;
    if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations.get()) {
        return Err(KeysError::Iterations);
    }
    let salt = STANDARD.decode(salt).map_err(|_| KeysError::Salt)?;
    if !(SALT_BYTES_MIN..=SALT_BYTES_MAX).contains(&salt.len()) {
        return Err(KeysError::Salt);
    }
    let key = |name, text: &str| {
        let bad = KeysError::Key { key: name, mechanism: mechanism(hash), bytes: hash.digest_bytes() };
        let key = Zeroizing::new(STANDARD.decode(text).map_err(|_| bad)?);
        if key.len() == hash.digest_bytes() { Ok(key) } else { Err(bad) }
    };
    let (stored_key, server_key) = (key("StoredKey", stored_key)?, key("ServerKey", server_key)?);
    Ok(ScramKeys::from_parts(hash, iterations, &salt, &stored_key, &server_key))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677 §3 gives the exchange of `user` with the password `pencil`; these are the keys that it follows from.
    const PENCIL: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                          wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn keys_made_elsewhere_belong_to_their_password() {
        let credentials = Credentials::from_rfc5803([PENCIL]).unwrap();
        assert!(credentials.verify_plain("pencil"));
        assert!(!credentials.verify_plain("pencils"));
        assert_eq!(credentials.to_rfc5803(ScramHash::Sha256).as_str(), PENCIL);
        assert!(Credentials::from_rfc5803([format!(" {PENCIL}\t").as_str()]).unwrap().verify_plain("pencil"));
        // Nobody's: fresh ones each time.
        let again = Credentials::from_rfc5803([PENCIL]).unwrap();
        assert_ne!(credentials.keys(ScramHash::Sha1), again.keys(ScramHash::Sha1));
        assert!(!credentials.keys(ScramHash::Sha1).verify_password("pencil"));
    }

    #[test]
    fn what_is_written_is_read_back_in_either_order() {
        let credentials = Credentials::derive("secret", NonZeroU32::new(1024).unwrap()).unwrap();
        let sha1 = credentials.to_rfc5803(ScramHash::Sha1);
        let sha256 = credentials.to_rfc5803(ScramHash::Sha256);
        for texts in [[&sha1, &sha256], [&sha256, &sha1]] {
            assert_eq!(Credentials::from_rfc5803(texts.map(|text| text.as_str())), Ok(credentials.clone()));
        }
    }

    #[test]
    fn each_kind_of_bad_text_has_its_reason() {
        let credentials = Credentials::derive("secret", NonZeroU32::new(1024).unwrap()).unwrap();
        let sha1 = credentials.to_rfc5803(ScramHash::Sha1);
        type Expected = fn(&KeysError) -> bool;
        let form: Expected = |error| *error == KeysError::Form;
        let table: [(String, Expected); 17] = [
            (String::new(), form),
            ("SCRAM-SHA-256".into(), form),
            ("SCRAM-SHA-256$4096:c2FsdA==".into(), form),
            (format!("{PENCIL}$"), form),
            (format!("{PENCIL}{}", "A".repeat(600)), form),
            (PENCIL.replace("4096:", "4096"), form),
            (format!("\"{PENCIL}\""), form),
            (PENCIL.to_lowercase(), |error| *error == KeysError::Case),
            (PENCIL.replace("SCRAM-SHA", "Scram-Sha"), |error| *error == KeysError::Case),
            (PENCIL.replace("SHA-256", "SHA-512"), |error| *error == KeysError::Mechanism),
            (PENCIL.replace("4096", "1023"), |error| *error == KeysError::Iterations),
            (PENCIL.replace("4096", "2000001"), |error| *error == KeysError::Iterations),
            (PENCIL.replace("4096", "+4096"), |error| *error == KeysError::Iterations),
            (PENCIL.replace("W22ZaJ0SNY7soEsUEjb6gQ==", "c2FsdA=="), |error| *error == KeysError::Salt),
            (PENCIL.replace("W22Z", "W2!Z"), |error| *error == KeysError::Salt),
            (PENCIL.replace("4qY=", "4g=="), |error| {
                matches!(error, KeysError::Key { key: "StoredKey", .. })
            }),
            (PENCIL.replace("2dU=", ""), |error| matches!(error, KeysError::Key { key: "ServerKey", .. })),
        ];
        for (text, expected) in table {
            let error = Credentials::from_rfc5803([text.as_str()]).expect_err(&text);
            assert!(expected(&error), "{text}: {error}");
        }
        assert_eq!(Credentials::from_rfc5803([PENCIL, PENCIL]), Err(KeysError::Twice));
        assert_eq!(Credentials::from_rfc5803([sha1.as_str()]), Err(KeysError::Sha256Missing));
        assert_eq!(Credentials::from_rfc5803([]), Err(KeysError::Sha256Missing));
    }

    #[test]
    fn what_is_meant_as_keys_is_no_password() {
        for (text, keys) in [
            (PENCIL, true),
            ("SCRAM-SHA-1$", true),
            ("SCRAM-SHA3-512$x", true),
            ("SCRAM-$x", false),
            ("SCRAM-bled eggs$", false),
            ("SCRAM-SHA-1", false),
            ("scram-sha-1$", true),
            ("Scram-Sha-256$4096:x$y:z", true),
            (" SCRAM-SHA-1$", true),
            ("\t\u{a0}\u{feff}SCRAM-SHA-1$", true),
            ("\"SCRAM-SHA-256$4096:x$y:z\"", true),
            ("{SCRAM-SHA-1 $x", true),
            ("pass$word", false),
            ("scramble$", false),
            ("", false),
            ("é", false),
        ] {
            assert_eq!(is_keys(text), keys, "{text}");
        }
    }
}
