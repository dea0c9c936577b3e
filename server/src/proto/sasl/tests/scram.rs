//! SCRAM that succeeds.

use super::client::Client;
use super::*;

/// Runs a client with the right password through and gives the last step.
fn run(setup: Setup, client: &Client) -> (SaslStep, String) {
    let (mut exchange, step) = Exchange::start(setup, &client.first());
    assert!(matches!(step, SaslStep::NeedCredentials { .. }), "{step:?}");
    let SaslStep::Challenge(server_first) = exchange.credentials_found(Some(&account()), &unknown()) else {
        panic!("no challenge");
    };
    let last = client.last(&server_first);
    let step = exchange.step(&encode(&last.message));
    assert!(exchange.is_over());
    (step, last.server_final)
}

fn expect_success(setup: Setup, client: &Client, user: &str) {
    let (step, server_final) = run(setup, client);
    let expected = SaslStep::Success { username: user.into(), additional_data: server_final.into_bytes() };
    assert_eq!(step, expected, "{:?} {}{}", client.mechanism, client.gs2_header, client.bare);
}

#[test]
fn a_client_with_the_password_gets_in_with_every_scram_mechanism() {
    use Mechanism::{ScramSha1, ScramSha1Plus, ScramSha256, ScramSha256Plus};
    for mechanism in [ScramSha256, ScramSha1] {
        expect_success(setup(mechanism), &Client::new(mechanism, "n,,", "n=user,r=abc"), "user");
        expect_success(unbound(mechanism), &Client::new(mechanism, "y,,", "n=user,r=abc"), "user");
    }
    for mechanism in [ScramSha256Plus, ScramSha1Plus] {
        for (name, data) in [("tls-exporter", &EXPORTER[..]), ("tls-server-end-point", &END_POINT[..])] {
            let mut client = Client::new(mechanism, &format!("p={name},,"), "n=user,r=abc");
            client.binding_data = data.to_vec();
            expect_success(setup(mechanism), &client, "user");
        }
    }
}

#[test]
fn names_authzids_and_extensions_are_understood() {
    for (gs2_header, bare, user) in [
        ("n,,", "n=UseR,r=abc", "user"),
        ("n,,", "n=a=2Cb=3Dc,r=abc", "a,b=c"),
        ("n,,", "n=\u{fc}ser,r=abc", "\u{fc}ser"),
        ("n,a=user@example.com,", "n=user,r=abc", "user"),
        ("n,a=User@EXAMPLE.com,", "n=user,r=abc", "user"),
        ("n,a=a=2Cb@example.com,", "n=a=2Cb,r=abc", "a,b"),
        ("n,,", "n=user,r=abc,x=ignored", "user"),
        ("n,,", "n=user,r=!~+/=,z==", "user"),
    ] {
        let client = Client::new(Mechanism::ScramSha256, gs2_header, bare);
        expect_success(setup(Mechanism::ScramSha256), &client, user);
    }
}

#[test]
fn a_client_without_initial_response_is_asked_for_it() {
    let client = Client::new(Mechanism::ScramSha256, "n,,", "n=user,r=abc");
    let (mut exchange, step) = Exchange::start(setup(Mechanism::ScramSha256), "");
    assert_eq!(step, SaslStep::Challenge(Vec::new()));
    assert_eq!(exchange.username(), None);
    assert_eq!(exchange.step(&client.first()), SaslStep::NeedCredentials { username: "user".into() });
    assert_eq!(exchange.username(), Some("user"));
}

/// RFC 7677 §3 and RFC 5802 §5: the server's messages for the clients' of the vectors. The salts and
/// nonces there do not have our lengths, so the vectors' proofs are tested beside the keys.
#[test]
fn server_messages_have_the_form_of_the_rfcs() {
    let (mut exchange, _) =
        Exchange::start(setup(Mechanism::ScramSha256), &encode("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"));
    let step = exchange.credentials_found(Some(&account()), &unknown());
    let expected = format!("r=rOprNGfwEbeRWgbNEkqO{},s={},i=16", encode(NONCE), encode(b"0123456789abcdef"),);
    assert_eq!(step, SaslStep::Challenge(expected.into_bytes()));
}

#[test]
fn an_extension_in_the_last_message_is_signed_and_ignored() {
    let mut client = Client::new(Mechanism::ScramSha256, "n,,", "n=user,r=abc");
    client.extension = ",x=y";
    expect_success(setup(Mechanism::ScramSha256), &client, "user");
}
