use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

const SALT: [u8; SALT_BYTES] = *b"0123456789abcdef";

fn of(password: &str) -> Credentials {
    Credentials::derive_with_salt(password, ITERATIONS_DEFAULT, &SALT).expect("a good password")
}

fn base64(text: &str) -> Vec<u8> {
    STANDARD.decode(text).expect("base64 in the test")
}

/// RFC 5802 §5 and RFC 7677 §3: password "pencil", 4096 rounds.
#[test]
fn the_exchanges_of_the_rfcs_verify() {
    for (hash, salt, auth_message, proof, signature) in [
        (
            ScramHash::Sha1,
            "QSXCR+Q6sek8bf92",
            "n=user,r=fyko+d2lbbFgONRv9qkxdawL,\
             r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096,\
             c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j",
            "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ),
        (
            ScramHash::Sha256,
            "W22ZaJ0SNY7soEsUEjb6gQ==",
            "n=user,r=rOprNGfwEbeRWgbNEkqO,\
             r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
             c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ),
    ] {
        let keys = ScramKeys::derive(hash, "pencil", ITERATIONS_DEFAULT, &base64(salt));
        let mut proof = base64(proof);
        assert!(keys.verify_proof(auth_message.as_bytes(), &proof), "{hash:?}");
        assert_eq!(keys.server_signature(auth_message.as_bytes()).as_bytes(), base64(signature), "{hash:?}");
        assert!(!keys.verify_proof(b"another message", &proof), "{hash:?}");
        assert!(!keys.verify_proof(auth_message.as_bytes(), &proof[1..]), "{hash:?}");
        proof[0] ^= 1;
        assert!(!keys.verify_proof(auth_message.as_bytes(), &proof), "{hash:?}");
    }
}

#[test]
fn only_the_right_password_verifies() {
    let credentials = of("pencil");
    assert!(credentials.verify_plain("pencil"));
    for wrong in ["Pencil", "pencil ", "", "\u{7}", &"a".repeat(PASSWORD_BYTES_MAX + 1)] {
        assert!(!credentials.verify_plain(wrong), "{wrong:?}");
    }
}

/// RFC 4013 §3.
#[test]
fn passwords_go_through_saslprep() {
    assert!(of("IX").verify_plain("I\u{ad}X"));
    assert!(of("IX").verify_plain("\u{2168}"));
    assert!(of("a b").verify_plain("a\u{a0}b"));
    let refused = |password: &str| Credentials::derive_with_salt(password, ITERATIONS_DEFAULT, &SALT);
    assert_eq!(refused("\u{ad}"), Err(CredentialsError::PasswordEmpty));
    assert_eq!(refused(""), Err(CredentialsError::PasswordEmpty));
    assert!(matches!(refused("\u{7}"), Err(CredentialsError::PasswordForbidden(_))));
    assert!(matches!(refused("\u{627}1"), Err(CredentialsError::PasswordForbidden(_))));
    assert_eq!(refused(&"a".repeat(1025)), Err(CredentialsError::PasswordTooLong { bytes: 1025 }));
}

#[test]
fn too_many_iterations_are_refused() {
    let iterations = NonZeroU32::new(ITERATIONS_MAX + 1).expect("not zero");
    assert_eq!(
        Credentials::derive("pencil", iterations),
        Err(CredentialsError::Iterations(ITERATIONS_MAX + 1))
    );
}

#[test]
fn each_derivation_has_its_own_salt() {
    let derive = || Credentials::derive("pencil", NonZeroU32::MIN).expect("a good password");
    assert_ne!(derive().keys(ScramHash::Sha256).salt(), derive().keys(ScramHash::Sha256).salt());
}

#[test]
fn unknown_accounts_look_like_accounts_and_let_nobody_in() {
    let look = Look::usual(ITERATIONS_DEFAULT);
    let fake = |secret: &[u8], name| Credentials::fake(secret, name, look);
    assert_eq!(fake(b"secret", "nobody"), fake(b"secret", "nobody"));
    let salt = |credentials: &Credentials, hash| credentials.keys(hash).salt().to_vec();
    let [nobody, somebody] = ["nobody", "somebody"].map(|name| fake(b"secret", name));
    assert_ne!(salt(&nobody, ScramHash::Sha1), salt(&somebody, ScramHash::Sha1));
    assert_ne!(salt(&nobody, ScramHash::Sha1), salt(&fake(b"another", "nobody"), ScramHash::Sha1));
    // As accounts do: one salt for both mechanisms.
    for credentials in [&nobody, &of("pencil")] {
        assert_eq!(salt(credentials, ScramHash::Sha1), salt(credentials, ScramHash::Sha256));
        assert_eq!(credentials.look(), look);
    }
    assert!(!nobody.verify_plain("nobody"));
}

/// RFC 4616 §2: a presented password is a query string (RFC 3454 §7).
#[test]
fn a_password_may_have_code_points_that_unicode_3_2_does_not_assign() {
    for password in ["p\u{1f600}w", "gro\u{1e9e}"] {
        let credentials = of(password);
        assert!(credentials.verify_plain(password), "{password}");
        assert!(!credentials.verify_plain("p\u{1f601}w"));
    }
}

#[test]
fn debug_output_holds_no_key() {
    let credentials = of("pencil");
    let shown = format!("{credentials:?}");
    assert!(shown.contains("redacted"), "{shown}");
    let (stored_key, _) = credentials.keys(ScramHash::Sha1).secrets();
    assert!(!shown.contains(&format!("{:?}", stored_key.as_bytes())), "{shown}");
}

#[test]
fn generated_passwords_are_long_plain_and_different() {
    let password = Credentials::random_key().expect("random bytes");
    assert_eq!(password.len(), 43);
    assert!(password.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    assert_ne!(password, Credentials::random_key().expect("random bytes"));
}

#[test]
fn stored_credentials_are_read_back() {
    let credentials = of("pencil");
    let bytes = credentials.encode();
    assert_eq!(bytes.len(), 147);
    assert_eq!(Credentials::decode(&bytes), Ok(credentials));
}

#[test]
fn damaged_credentials_are_refused_with_the_reason() {
    let bytes = of("pencil").encode();
    for end in 0..bytes.len() {
        assert_eq!(Credentials::decode(&bytes[..end]), Err(CredentialsError::Damaged("cut short")), "{end}");
    }
    let changed = |at: usize, value: &[u8]| {
        let mut changed = bytes.to_vec();
        changed[at..at + value.len()].copy_from_slice(value);
        Credentials::decode(&changed)
    };
    assert_eq!(changed(0, &[9]), Err(CredentialsError::UnknownFormat { found: 9, known: 1 }));
    let iterations = Err(CredentialsError::Damaged("an impossible number of iterations"));
    assert_eq!(changed(1, &[0; 4]), iterations);
    assert_eq!(changed(1, &[255; 4]), iterations);
    let salt = Err(CredentialsError::Damaged("an impossible length of salt"));
    assert_eq!(changed(5, &[0]), salt);
    assert_eq!(changed(5, &[200]), salt);
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert_eq!(Credentials::decode(&longer), Err(CredentialsError::Damaged("bytes after the end")));
}

proptest! {
    #[test]
    fn decoding_any_bytes_gives_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(credentials) = Credentials::decode(&bytes) {
            prop_assert_eq!(&credentials.encode()[..], &bytes[..]);
        }
    }
}
