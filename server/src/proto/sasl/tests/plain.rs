//! PLAIN.

use super::*;

fn start(message: impl AsRef<[u8]>) -> (Exchange, SaslStep) {
    Exchange::start(setup(Mechanism::Plain), &encode(message))
}

#[test]
fn the_password_is_checked_elsewhere_and_the_verdict_counts() {
    for (verdict, expected) in [
        (true, SaslStep::Success { username: "user".into(), additional_data: Vec::new() }),
        (false, SaslStep::Failure(SaslError::NotAuthorized.into())),
    ] {
        for message in ["\0User\0pencil", "user@example.com\0user\0pencil"] {
            let (mut exchange, step) = start(message);
            let password = PASSWORD.to_owned().into();
            assert_eq!(step, SaslStep::NeedPlainCheck { username: "user".into(), password });
            assert_eq!(exchange.plain_checked(verdict), expected);
            assert!(exchange.is_over());
        }
    }
}

#[test]
fn only_the_account_and_its_password_pass_the_check() {
    let check =
        |found, password: &str| unknown().plain_check(found, "user", password.to_owned().into()).run();
    assert!(check(Some(account()), PASSWORD));
    assert!(!check(Some(account()), "Pencil"));
    assert!(!check(None, PASSWORD));
}

#[test]
fn without_initial_response_the_client_is_asked_for_it() {
    let (mut exchange, step) = Exchange::start(setup(Mechanism::Plain), "");
    assert_eq!(step, SaslStep::Challenge(Vec::new()));
    assert!(matches!(exchange.step(&encode("\0user\0pencil")), SaslStep::NeedPlainCheck { .. }));
}

#[test]
fn malformed_messages_are_refused() {
    let malformed = SaslStep::Failure(SaslError::MalformedRequest.into());
    let username = failed(SaslError::MalformedRequest, "invalid-username-encoding");
    let authzid = SaslStep::Failure(SaslError::InvalidAuthzid.into());
    for (message, expected) in [
        (&b"user\0pencil"[..], &malformed),
        (b"\0user\0pencil\0", &malformed),
        (b"\0user\0", &malformed),
        (b"\0\0pencil", &username),
        (b"\0us er\0pencil", &username),
        (b"\0user\0\xff", &malformed),
        (b"other\0user\0pencil", &authzid),
        (b"other@example.com\0user\0pencil", &authzid),
        (b"user@example.net\0user\0pencil", &authzid),
        (b"user@example.com/r\0user\0pencil", &authzid),
    ] {
        assert_eq!(start(message).1, *expected, "{:?}", String::from_utf8_lossy(message));
    }
    // An empty message, and `=` for one.
    let (mut exchange, _) = Exchange::start(setup(Mechanism::Plain), "");
    assert_eq!(exchange.step(""), malformed);
    assert_eq!(Exchange::start(setup(Mechanism::Plain), "=").1, malformed);
}
