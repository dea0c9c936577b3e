//! Whole exchanges, against a small client of our own and the vectors of the RFCs.

mod client;
mod plain;
mod refused;
mod scram;

use std::num::NonZeroU32;

use whimbrel_storage::credentials::Credentials;

use super::*;

const ITERATIONS: NonZeroU32 = NonZeroU32::new(16).expect("not zero");
const PASSWORD: &str = "pencil";
const NONCE: [u8; SERVER_NONCE_BYTES] = *b"eighteen bytes ok!";
const EXPORTER: [u8; 32] = [7; 32];
const END_POINT: [u8; 20] = [9; 20];

fn account() -> Credentials {
    Credentials::derive_with_salt(PASSWORD, ITERATIONS, b"0123456789abcdef").expect("a good password")
}

fn unknown() -> UnknownUsers {
    UnknownUsers::new([3; 32], looks::Looks::usual(ITERATIONS))
}

/// Under TLS with both bindings.
fn setup(mechanism: Mechanism) -> Setup {
    Setup {
        mechanism,
        offer: Offer { tls: true, bindings: true, allow_plaintext: false },
        domain: "example.com".into(),
        bindings: ChannelBindings {
            tls_exporter: Some(EXPORTER),
            tls_server_end_point: Some(END_POINT[..].into()),
        },
        server_nonce: NONCE,
    }
}

/// Under TLS that gave no bindings.
fn unbound(mechanism: Mechanism) -> Setup {
    Setup {
        offer: Offer { tls: true, ..Offer::default() },
        bindings: ChannelBindings::default(),
        ..setup(mechanism)
    }
}

fn encode(message: impl AsRef<[u8]>) -> String {
    base64::encode(message.as_ref())
}

fn failed(error: SaslError, reason: &'static str) -> SaslStep {
    SaslStep::Failure(Failure { error, reason: Some(reason) })
}

#[test]
fn mechanisms_are_offered_where_they_are_safe_strongest_first() {
    let names = |offer: Offer| offer.mechanisms().map(Mechanism::name).collect::<Vec<_>>();
    let offer = |tls, bindings, allow_plaintext| Offer { tls, bindings, allow_plaintext };
    let unbound = ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"];
    let all = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-1", "PLAIN"];
    assert_eq!(names(offer(true, true, false)), all);
    assert_eq!(names(offer(true, false, false)), unbound);
    assert_eq!(names(offer(false, false, true)), unbound);
    assert_eq!(names(offer(false, true, true)), unbound);
    assert!(names(offer(false, false, false)).is_empty());
    for mechanism in Mechanism::ALL {
        assert_eq!(Mechanism::from_name(mechanism.name()), Some(mechanism));
    }
    assert_eq!(Mechanism::from_name("plain"), None);
    assert!(Mechanism::ALL.is_sorted());
}

#[test]
fn a_mechanism_that_is_not_offered_is_refused() {
    for (offer, mechanism, error) in [
        (Offer::default(), Mechanism::Plain, SaslError::EncryptionRequired),
        (Offer::default(), Mechanism::ScramSha256, SaslError::EncryptionRequired),
        (Offer { tls: true, ..Offer::default() }, Mechanism::ScramSha256Plus, SaslError::InvalidMechanism),
    ] {
        let (exchange, step) = Exchange::start(Setup { offer, ..setup(mechanism) }, "");
        assert_eq!(step, SaslStep::Failure(error.into()), "{mechanism:?}");
        assert!(exchange.is_over());
    }
}

#[test]
fn text_that_is_not_strict_base64_is_refused() {
    for text in ["bi", "b i=", "biws\n", "bi-_", "====", "biwsbg", "biwsbh==", "\u{e4}"] {
        let (_, step) = Exchange::start(setup(Mechanism::ScramSha256), text);
        assert_eq!(step, SaslStep::Failure(SaslError::IncorrectEncoding.into()), "{text:?}");
    }
}

#[test]
fn a_message_over_the_limit_is_refused() {
    let message = format!("n,,n=user,r=abc,x={}", "a".repeat(MESSAGE_BYTES_MAX));
    for mechanism in [Mechanism::ScramSha256, Mechanism::Plain] {
        let (_, step) = Exchange::start(setup(mechanism), &encode(&message));
        assert_eq!(step, SaslStep::Failure(SaslError::MalformedRequest.into()));
    }
}

#[test]
fn nothing_is_accepted_out_of_turn_or_after_the_end() {
    let malformed = SaslStep::Failure(SaslError::MalformedRequest.into());
    let first = encode("n,,n=user,r=abc");

    let (mut exchange, _) = Exchange::start(unbound(Mechanism::ScramSha256), &first);
    assert_eq!(exchange.step(&first), malformed, "a response while credentials are looked up");
    assert_eq!(exchange.credentials_found(Some(&account()), &unknown()), malformed, "after the end");

    let (mut exchange, _) = Exchange::start(unbound(Mechanism::ScramSha256), &first);
    assert_eq!(exchange.plain_checked(true), malformed, "a verdict nobody waits for");

    let (mut exchange, _) = Exchange::start(setup(Mechanism::Plain), &encode("\0user\0pencil"));
    assert_eq!(exchange.username(), Some("user"));
    assert_eq!(exchange.step("="), malformed, "a response while the password is checked");
    assert_eq!(exchange.plain_checked(true), malformed, "a verdict after the end");
}

#[test]
fn an_aborted_exchange_is_over() {
    let (mut exchange, _) = Exchange::start(unbound(Mechanism::ScramSha256), &encode("n,,n=user,r=abc"));
    assert_eq!(exchange.abort(), SaslStep::Failure(SaslError::Aborted.into()));
    assert!(exchange.is_over());
    let after = exchange.credentials_found(Some(&account()), &unknown());
    assert_eq!(after, SaslStep::Failure(SaslError::MalformedRequest.into()));
}

#[test]
fn elements_are_written_as_the_rfc_shows_them() {
    let written = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("UTF-8")
    };
    let ns = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'";
    assert_eq!(written(&|out| write_challenge(b"", out)), format!("<challenge {ns}/>"));
    assert_eq!(written(&|out| write_challenge(b"abc", out)), format!("<challenge {ns}>YWJj</challenge>"));
    assert_eq!(written(&|out| write_success(b"", out)), format!("<success {ns}/>"));
    assert_eq!(written(&|out| write_success(b"v=1", out)), format!("<success {ns}>dj0x</success>"));
    for &error in SaslError::ALL {
        let expected = format!("<failure {ns}><{}/></failure>", error.name());
        assert_eq!(written(&|out| Failure::from(error).write(out)), expected);
    }
    assert_eq!(
        written(&|out| Failure::new(SaslError::NotAuthorized, "invalid-proof").write(out)),
        format!("<failure {ns}><not-authorized/><text xml:lang='en'>invalid-proof</text></failure>")
    );
}

#[test]
fn debug_output_holds_no_secret() {
    let (exchange, _) = Exchange::start(setup(Mechanism::Plain), &encode("\0user\0pencil"));
    let check = unknown().plain_check(Some(account()), "user", PASSWORD.to_owned().into());
    let shown = format!("{exchange:?} {check:?} {:?} {:?}", unknown(), setup(Mechanism::Plain));
    for secret in ["pencil", "7, 7", "3, 3", "9, 9"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
}
