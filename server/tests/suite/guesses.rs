//! Guessing at passwords: what is counted and slowed, whom it may not concern, and what nobody learns.

use std::num::NonZeroU32;
use std::time::Instant;

use whimbrel_server::proto::sasl::throttle::Verdict;
use whimbrel_storage::credentials::Credentials;
use whimbrel_storage::directory::run_inline;

use crate::support::scram::Scram;
use crate::support::{Client, TestServer, drivers, on_each_driver, on_each_driver_with, server_password};

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

/// The condition of a failure; `success` where there is none.
fn outcome(answer: &whimbrel_server::xml::Element) -> String {
    match answer.name() {
        "failure" => answer.elements().next().expect("a condition").name().to_owned(),
        name => name.to_owned(),
    }
}

fn stranger(server: &TestServer) -> Client {
    let mut client = Client::connect(server.address());
    client.open_stream("localhost");
    client
}

#[test]
fn every_wrong_password_is_counted_also_the_one_that_ends_the_stream() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut client = stranger(server);
        for name in ["juliet", "nobody"] {
            assert_eq!(outcome(&client.authenticate_plain(name, "wrong")), "not-authorized");
        }
        let spoilt = Scram { spoil: |_| "c=biws".into(), ..Scram::plain("SCRAM-SHA-256") };
        assert_eq!(outcome(&spoilt.run(&mut client, "juliet", "wrong")), "malformed-request");
        client.expect_stream_error("policy-violation");
        assert_eq!(server.metric("logins.failed"), 3);
        assert_eq!(
            server.metric("logins.failed.credentials"),
            3,
            "a proof that cannot be read is a guess, too"
        );

        // Giving up first does not make the last guess one for nothing.
        let mut client = stranger(server);
        for _ in 0..2 {
            client.send(&format!("<abort xmlns='{SASL}'/>"));
            assert_eq!(outcome(&client.stanza()), "aborted");
        }
        assert_eq!(outcome(&client.authenticate_plain("juliet", "wrong")), "not-authorized");
        client.expect_stream_error("policy-violation");
        assert_eq!(server.metric("logins.failed.aborted"), 2);
        assert_eq!(server.metric("logins.failed.credentials"), 4);
        assert_eq!(server.metric("logins.failed"), 6);
    });
}

#[test]
fn a_guess_counts_although_its_client_does_not_wait_for_the_answer() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut client = stranger(server);
        client.send(&format!("<auth xmlns='{SASL}' mechanism='PLAIN'>AGp1bGlldAB3cm9uZw==</auth>"));
        client.cut();
        server.await_metric("logins.failed.credentials", 1);
    });
}

#[test]
fn guesses_are_refused_unheard_after_their_number_whatever_the_mechanism() {
    on_each_driver_with(
        |config| {
            config.limits.sasl_attempts = 1;
            config.limits.guesses_per_address_and_account = 3;
            // A third of it is how long one waits for room among the guesses.
            config.limits.preauth_seconds = 3;
        },
        |server| {
            server.accounts(&["juliet"]);
            for name in ["juliet", "nobody"] {
                let (begun, mut looked_at) = (Instant::now(), 0);
                for n in 0..6 {
                    let mut client = stranger(server);
                    let answer = match n % 2 {
                        0 => client.authenticate_plain(name, "wrong"),
                        _ => Scram::plain("SCRAM-SHA-1").run(&mut client, name, "wrong"),
                    };
                    match outcome(&answer).as_str() {
                        "not-authorized" => looked_at += 1,
                        other => assert_eq!(other, "temporary-auth-failure"),
                    }
                    client.expect_stream_error("policy-violation");
                }
                // One is forgiven every 15 seconds.
                assert!(looked_at >= 3, "{looked_at}");
                assert!(looked_at <= 4 + begun.elapsed().as_secs() / 15, "{name}: {looked_at}");
            }
            assert!(server.metric("refused.login_throttle") > 0);
            assert!(server.metric("logins.waited") >= server.metric("refused.login_throttle"));
            assert_eq!(server.metric("logins.failed"), 12);
        },
    );
}

#[test]
#[cfg(target_os = "linux")]
fn nobody_keeps_an_owner_out_at_an_address_of_old() {
    on_each_driver_with(
        |config| {
            config.limits.guesses_per_account = 4;
            config.limits.preauth_seconds = 3;
        },
        |server| {
            server.accounts(&["juliet"]);
            drop(server.login("juliet", "balcony"));
            let mut refused = 0;
            for n in 1..9 {
                let mut client = Client::connect_from([127, 0, n, 9], server.address());
                client.open_stream("localhost");
                let answer = client.authenticate_plain("juliet", "wrong");
                refused += u32::from(outcome(&answer) == "temporary-auth-failure");
            }
            assert!(refused > 0, "strangers have had their number");
            for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
                let mut owner = stranger(server);
                let answer = match mechanism {
                    "PLAIN" => owner.authenticate_plain("juliet", &server_password("juliet")),
                    _ => Scram::plain(mechanism).run(&mut owner, "juliet", &server_password("juliet")),
                };
                assert_eq!(outcome(&answer), "success", "{mechanism}");
            }
        },
    );
}

#[test]
fn a_few_networks_that_guess_keep_no_owner_out_where_it_has_never_been() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        // As if guesses had come from a thousand addresses of four networks.
        let guess = |n: u8| server.server.shared.throttle().begin("juliet", [10, 0, n % 4, n].into(), 0);
        let heard = (0..=255).chain(0..=255).filter(|n| guess(*n) != Verdict::Refuse).count();
        assert_eq!(heard, 50, "half of limits.guesses_per_account");
        let answer = stranger(server).authenticate_plain("juliet", &server_password("juliet"));
        assert_eq!(outcome(&answer), "success");
        assert_eq!(server.metric("logins.delayed"), 1);
        assert_eq!((server.metric("logins.waited"), server.metric("refused.login_throttle")), (0, 0));
    });
}

/// What challenges show of a name.
fn looks(server: &TestServer, name: &str) -> [(String, String); 2] {
    ["SCRAM-SHA-1", "SCRAM-SHA-256"].map(|mechanism| Scram::challenge(mechanism, &mut stranger(server), name))
}

#[test]
fn challenges_do_not_tell_accounts_from_names_that_are_none() {
    for driver in drivers() {
        let server = TestServer::start(driver, |_| {});
        server.accounts(&["juliet"]);
        let (real, none) = (looks(&server, "juliet"), looks(&server, "nobody"));
        for [sha1, sha256] in [&real, &none] {
            assert_eq!(sha1, sha256, "one salt for both mechanisms");
            assert_eq!((sha1.0.len(), sha1.1.as_str()), (24, "4096"));
        }
        assert_ne!(real[0].0, none[0].0);
        // Another figure for new passwords does not change what accounts have, nor then what others seem to have; and
        // the salt of a name outlives a restart.
        let server = server.restart(|config| config.auth.scram_iterations = 10_000);
        assert_eq!(looks(&server, "juliet"), real);
        assert_eq!(looks(&server, "nobody"), none);
    }
}

#[test]
fn a_right_password_with_characters_newer_than_unicode_3_2_is_taken() {
    on_each_driver(|server| {
        let password = "p\u{1f600}w";
        let credentials = Credentials::derive(password, NonZeroU32::new(4096).unwrap()).unwrap();
        let job = move |transaction: &mut whimbrel_storage::directory::WriteTransaction<'_>| {
            transaction.create_account("juliet", &credentials)
        };
        assert!(run_inline(&server.server.shared.directory, Box::new(job)).unwrap());
        assert_eq!(outcome(&stranger(server).authenticate_plain("juliet", password)), "success");
        assert_eq!(
            outcome(&Scram::plain("SCRAM-SHA-256").run(&mut stranger(server), "juliet", password)),
            "success"
        );
    });
}
