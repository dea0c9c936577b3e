//! SCRAM that is refused: each rule broken once.

use proptest::prelude::*;

use super::client::{Client, Final};
use super::*;

#[test]
fn malformed_first_messages_are_refused_with_the_reason() {
    use Mechanism::{ScramSha256, ScramSha256Plus};
    let long_nonce = format!("n,,n=user,r={}", "a".repeat(257));
    let malformed = |reason| failed(SaslError::MalformedRequest, reason);
    let other = malformed("other-error");
    let extension = malformed("extensions-not-supported");
    let username = malformed("invalid-username-encoding");
    let no_binding = malformed("channel-binding-not-supported");
    let binding_type = malformed("unsupported-channel-binding-type");
    let authzid = SaslStep::Failure(SaslError::InvalidAuthzid.into());
    let deceived = failed(SaslError::NotAuthorized, "server-does-support-channel-binding");
    for (mechanism, message, expected) in [
        (ScramSha256, "n", &other),
        (ScramSha256, "n,", &other),
        (ScramSha256, "n,,", &other),
        (ScramSha256, ",,n=user,r=abc", &other),
        (ScramSha256, "x,,n=user,r=abc", &other),
        (ScramSha256, "N,,n=user,r=abc", &other),
        (ScramSha256, "n=user,r=abc", &other),
        (ScramSha256, "n,b=user,n=user,r=abc", &other),
        (ScramSha256, "n,,r=abc,n=user", &other),
        (ScramSha256, "n,,n=user", &other),
        (ScramSha256, "n,,n=user,", &other),
        (ScramSha256, "n,,n=user,r=", &other),
        (ScramSha256, "n,,n=user,r=a c", &other),
        (ScramSha256, "n,,n=user,r=\u{e4}", &other),
        (ScramSha256, &long_nonce, &other),
        (ScramSha256, "n,,n=user,r=abc,", &other),
        (ScramSha256, "n,,n=user,r=abc,x", &other),
        (ScramSha256, "n,,n=user,r=abc,x=", &other),
        (ScramSha256, "n,,n=user,r=abc,1=2", &other),
        (ScramSha256, "n,,n=user,r=abc,n=other", &other),
        (ScramSha256, "n,,m=ext,n=user,r=abc", &extension),
        (ScramSha256, "n,,n=user,r=abc,m=ext", &extension),
        (ScramSha256, "n,,n=,r=abc", &username),
        (ScramSha256, "n,,n=us=er,r=abc", &username),
        (ScramSha256, "n,,n=user=2c,r=abc", &username),
        (ScramSha256, "n,,n=user=,r=abc", &username),
        (ScramSha256, "n,,n=us er,r=abc", &username),
        (ScramSha256, "n,,n=user@example.com,r=abc", &username),
        (ScramSha256, "n,a=,n=user,r=abc", &username),
        (ScramSha256, "n,a=other@example.com,n=user,r=abc", &authzid),
        (ScramSha256, "n,a=user@example.com/r,n=user,r=abc", &authzid),
        (ScramSha256, "n,a=user,n=user,r=abc", &authzid),
        (ScramSha256, "n,a=@,n=user,r=abc", &authzid),
        (ScramSha256, "y,,n=user,r=abc", &deceived),
        (ScramSha256, "p=tls-exporter,,n=user,r=abc", &no_binding),
        (ScramSha256Plus, "p=tls-unique,,n=user,r=abc", &binding_type),
        (ScramSha256Plus, "p=TLS-EXPORTER,,n=user,r=abc", &binding_type),
        (ScramSha256Plus, "p=,,n=user,r=abc", &other),
        (ScramSha256Plus, "p=a b,,n=user,r=abc", &other),
        (ScramSha256Plus, "p,,n=user,r=abc", &other),
        (ScramSha256Plus, "n,,n=user,r=abc", &other),
        (ScramSha256Plus, "y,,n=user,r=abc", &other),
    ] {
        let (exchange, step) = Exchange::start(setup(mechanism), &encode(message));
        assert_eq!(step, *expected, "{mechanism:?} {message:?}");
        assert!(exchange.is_over());
    }
    let (_, step) = Exchange::start(setup(ScramSha256), &encode(b"n,,n=\xff,r=abc"));
    assert_eq!(step, other, "not UTF-8");
    assert_eq!(Exchange::start(setup(ScramSha256), "=").1, other, "empty");
}

/// Runs an exchange up to the last message, which `spoil` makes of the right one.
fn last_step(client: &Client, exists: bool, spoil: impl FnOnce(Final) -> String) -> SaslStep {
    let (mut exchange, _) = Exchange::start(setup(client.mechanism), &client.first());
    let account = account();
    let found = exists.then_some(&account);
    let SaslStep::Challenge(server_first) = exchange.credentials_found(found, &unknown()) else {
        panic!("no challenge");
    };
    let step = exchange.step(&encode(spoil(client.last(&server_first))));
    assert!(exchange.is_over());
    step
}

#[test]
fn spoiled_last_messages_are_refused_with_the_reason() {
    let other = failed(SaslError::MalformedRequest, "other-error");
    let encoding = failed(SaslError::MalformedRequest, "invalid-encoding");
    let extension = failed(SaslError::MalformedRequest, "extensions-not-supported");
    let proof = failed(SaslError::NotAuthorized, "invalid-proof");
    let nonce = failed(SaslError::NotAuthorized, "other-error");
    let binding = failed(SaslError::NotAuthorized, "channel-bindings-dont-match");
    type Spoil = fn(&Final) -> String;
    let cases: &[(&str, Spoil, &SaslStep)] = &[
        ("unsigned extension", |f| f.message.replace(",p=", ",x=y,p="), &proof),
        ("empty", |_| String::new(), &other),
        ("no proof", |f| format!("c={},r={}", f.binding, f.nonce), &other),
        ("no binding", |f| format!("r={},p={}", f.nonce, encode(&f.proof)), &other),
        ("no nonce", |f| format!("c={},p={}", f.binding, encode(&f.proof)), &other),
        ("order", |f| format!("r={},c={},p={}", f.nonce, f.binding, encode(&f.proof)), &other),
        ("something after the proof", |f| format!("{},x=y", f.message), &other),
        ("two proofs", |f| format!("{},p={}", f.message, encode(&f.proof)), &other),
        ("mandatory extension", |f| format!("m=x,{}", f.message), &extension),
        ("later mandatory extension", |f| f.message.replace(",p=", ",m=x,p="), &extension),
        ("proof is not base64", |f| format!("c={},r={},p=!", f.binding, f.nonce), &encoding),
        ("binding is not base64", |f| format!("c=!,r={},p={}", f.nonce, encode(&f.proof)), &encoding),
        ("nonce cut", |f| f.message.replace(&f.nonce, &f.nonce[..f.nonce.len() - 1]), &nonce),
        ("nonce longer", |f| f.message.replace(&f.nonce, &format!("{}a", f.nonce)), &nonce),
        ("only the client's nonce", |f| f.message.replace(&f.nonce, "abc"), &nonce),
        ("no proof bytes", |f| format!("c={},r={},p=", f.binding, f.nonce), &proof),
        ("short proof", |f| format!("c={},r={},p={}", f.binding, f.nonce, encode(&f.proof[1..])), &proof),
        (
            "one bit of the proof",
            |f| {
                let mut proof = f.proof.clone();
                proof[0] ^= 1;
                format!("c={},r={},p={}", f.binding, f.nonce, encode(proof))
            },
            &proof,
        ),
        ("another gs2 header", |f| f.message.replace(&f.binding, &encode("y,,")), &binding),
        ("data without binding", |f| f.message.replace(&f.binding, &encode("n,,x")), &binding),
        ("no gs2 header", |f| f.message.replace(&f.binding, ""), &binding),
    ];
    for (what, spoil, expected) in cases {
        let client = Client::new(Mechanism::ScramSha256, "n,,", "n=user,r=abc");
        assert_eq!(last_step(&client, true, |last| spoil(&last)), **expected, "{what}");
    }
}

#[test]
fn wrong_binding_data_are_refused_even_with_the_right_proof() {
    let mut client = Client::new(Mechanism::ScramSha256Plus, "p=tls-exporter,,", "n=user,r=abc");
    let relayed = [8; 32];
    for data in [&b""[..], &EXPORTER[1..], &relayed, &END_POINT, &[EXPORTER, EXPORTER].concat()] {
        client.binding_data = data.to_vec();
        assert_eq!(
            last_step(&client, true, |last| last.message),
            failed(SaslError::NotAuthorized, "channel-bindings-dont-match"),
            "{data:?}"
        );
    }
}

#[test]
fn an_unknown_user_and_a_wrong_password_get_the_same_answer() {
    let client = Client::new(Mechanism::ScramSha1, "n,,", "n=user,r=abc");
    let unknown_user = last_step(&client, false, |last| last.message);
    let mut client = Client::new(Mechanism::ScramSha1, "n,,", "n=user,r=abc");
    client.password = "Pencil".to_owned();
    assert_eq!(unknown_user, last_step(&client, true, |last| last.message));
    assert_eq!(unknown_user, failed(SaslError::NotAuthorized, "invalid-proof"));
}

#[test]
fn an_unknown_user_is_challenged_alike_each_time() {
    let challenge = |name: &str| {
        let first = encode(format!("n,,n={name},r=abc"));
        let (mut exchange, _) = Exchange::start(setup(Mechanism::ScramSha256), &first);
        exchange.credentials_found(None, &unknown())
    };
    assert_eq!(challenge("nobody"), challenge("NoBody"));
    assert_ne!(challenge("nobody"), challenge("somebody"));
}

proptest! {
    #[test]
    fn any_two_messages_get_an_answer(
        first in "(n|y|p=tls-exporter|.),(a=.{0,3})?,(n=.{0,4},)?(r=.{0,4})?(,.{0,4})?",
        last in "(c=(biws|.{0,4}),)?(r=.{0,40})?(,.{0,4})?(,p=.{0,9})?",
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
        plus in any::<bool>(),
    ) {
        let mechanism = if plus { Mechanism::ScramSha256Plus } else { Mechanism::ScramSha256 };
        for (first, last) in [(first.as_bytes(), last.as_bytes()), (&bytes, last.as_bytes())] {
            let (mut exchange, step) = Exchange::start(setup(mechanism), &encode(first));
            if let SaslStep::NeedCredentials { .. } = step {
                let _ = exchange.credentials_found(Some(&account()), &unknown());
                let step = exchange.step(&encode(last));
                prop_assert!(matches!(step, SaslStep::Failure(_)), "{:?}", step);
            } else {
                prop_assert!(matches!(step, SaslStep::Failure(_) | SaslStep::Challenge(_)), "{:?}", step);
            }
        }
    }
}
