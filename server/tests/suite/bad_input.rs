//! Bad input: each gets the right answer, and nobody else notices.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::support::answers::outcome;
use crate::support::scram::Scram;
use crate::support::server_password as password;
use crate::support::{Client, TestServer, on_each_driver, on_each_driver_with};

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

/// Changes a client's final SCRAM message.
type Spoil = fn(String) -> String;

/// Where a stream can be when something bad comes.
#[derive(Copy, Clone, Debug)]
enum Stage {
    BeforeHeader,
    BeforeLogin,
    AfterLogin,
    Bound,
}

const STAGES: [Stage; 4] = [Stage::BeforeHeader, Stage::BeforeLogin, Stage::AfterLogin, Stage::Bound];

fn at(server: &TestServer, stage: Stage) -> Client {
    let mut client = Client::connect(server.address());
    match stage {
        Stage::BeforeHeader => {}
        Stage::BeforeLogin => {
            client.open_stream("localhost");
        }
        Stage::AfterLogin => {
            client.open_stream("localhost");
            client.authenticate_plain("mallory", &password("mallory"));
            client.open_stream("localhost");
        }
        Stage::Bound => client.log_in("mallory", &password("mallory"), "lair"),
    }
    client
}

/// Runs a bad client beside a good one, who must be able to go on.
fn beside_a_good_client(bad: impl Fn(&TestServer)) {
    on_each_driver(|server| {
        server.accounts(&["juliet", "mallory"]);
        let mut juliet = server.online("juliet", "balcony");
        bad(server);
        juliet.settle();
    });
}

#[test]
fn xml_that_is_not_well_formed_ends_the_stream_at_every_stage() {
    beside_a_good_client(|server| {
        for stage in STAGES {
            for (bad, condition) in [
                ("<a><b></a>", "not-well-formed"),
                ("<message to='a' to='b'/>", "not-well-formed"),
                ("<message>&nbsp;</message>", "restricted-xml"),
                ("<!-- a comment -->", "restricted-xml"),
                ("<!DOCTYPE lolz [<!ENTITY lol 'lol'><!ENTITY lol2 '&lol;&lol;&lol;'>]>", "restricted-xml"),
                ("<?php echo ?>", "restricted-xml"),
                ("<message>\u{0}</message>", "not-well-formed"),
                ("<x:message xmlns='jabber:client'/>", "not-well-formed"),
            ] {
                // Before the header the same things are wrong in other ways: any error that ends the stream will do.
                let mut client = at(server, stage);
                client.send(bad);
                match stage {
                    Stage::BeforeHeader => client.expect_some_stream_error(),
                    _ => client.expect_stream_error(condition),
                }
            }
        }
    });
}

#[test]
fn bytes_that_are_not_utf_8_end_the_stream() {
    beside_a_good_client(|server| {
        for stage in [Stage::BeforeLogin, Stage::AfterLogin, Stage::Bound] {
            for bytes in [
                &b"<message><body>\xff\xfe</body></message>"[..],
                b"<message><body>\xed\xa0\x80</body></message>",
            ] {
                let mut client = at(server, stage);
                client.send_bytes(bytes);
                client.expect_some_stream_error();
            }
        }
    });
}

#[test]
fn a_stanza_over_the_limit_is_a_policy_violation() {
    beside_a_good_client(|server| {
        let mut client = at(server, Stage::Bound);
        let body = "x".repeat(300 * 1024);
        // The server may close before it has taken everything.
        let _ = client.socket().write_all(format!("<message to='juliet@localhost'><body>{body}").as_bytes());
        client.expect_stream_error_or_reset("policy-violation");
    });
}

#[test]
fn a_stanza_at_the_limit_passes() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.online("juliet", "balcony");
        let (open, close) =
            ("<message to='juliet@localhost/balcony' type='chat'><body>", "</body></message>");
        let limit = server.server.config().limits.stanza_bytes as usize;
        let body = "x".repeat(limit - open.len() - close.len());
        juliet.send(&format!("{open}{body}{close}"));
        assert_eq!(
            juliet.expect("message").find("body", "jabber:client").unwrap().content().len(),
            body.len()
        );
    });
}

#[test]
fn ten_thousand_nested_elements_are_refused_early() {
    beside_a_good_client(|server| {
        let mut client = at(server, Stage::Bound);
        let _ = client.socket().write_all("<a xmlns='x'>".repeat(10_000).as_bytes());
        client.expect_stream_error_or_reset("policy-violation");
    });
}

#[test]
fn too_many_namespace_prefixes_end_the_stream() {
    beside_a_good_client(|server| {
        let mut client = at(server, Stage::Bound);
        let declared =
            |level: usize| (0..40).map(move |n| format!(" xmlns:p{level}x{n}='u'")).collect::<String>();
        let nested: String = (0..7).map(|level| format!("<e{}>", declared(level))).collect();
        let _ = client.socket().write_all(format!("<message>{nested}").as_bytes());
        client.expect_stream_error_or_reset("policy-violation");
    });
}

#[test]
fn stanzas_before_login_and_in_wrong_namespaces_end_the_stream() {
    beside_a_good_client(|server| {
        for (stage, sent, condition) in [
            (
                Stage::BeforeLogin,
                "<message to='juliet@localhost'><body>hi</body></message>",
                "not-authorized",
            ),
            (Stage::BeforeLogin, "<presence/>", "not-authorized"),
            (Stage::AfterLogin, "<presence/>", "not-authorized"),
            (Stage::AfterLogin, "<message to='juliet@localhost'/>", "not-authorized"),
            (Stage::Bound, "<message xmlns='jabber:server' to='juliet@localhost'/>", "invalid-namespace"),
            (Stage::Bound, "<nonsense/>", "unsupported-stanza-type"),
            (
                Stage::Bound,
                "<message from='juliet@localhost/balcony' to='mallory@localhost'/>",
                "invalid-from",
            ),
            (Stage::Bound, "<presence from='localhost'/>", "invalid-from"),
            (Stage::Bound, "<presence from='mallory@/'/>", "invalid-from"),
        ] {
            let mut client = at(server, stage);
            client.send(sent);
            client.expect_stream_error(condition);
        }
    });
}

#[test]
fn wrong_stream_headers_get_the_errors_of_the_rfc() {
    beside_a_good_client(|server| {
        let stream = "http://etherx.jabber.org/streams";
        for (header, condition) in [
            (
                format!(
                    "<stream:stream xmlns='jabber:client' xmlns:stream='{stream}' to='elsewhere.example' version='1.0'>"
                ),
                "host-unknown",
            ),
            (
                format!("<stream:stream xmlns='jabber:client' xmlns:stream='{stream}' to='localhost'>"),
                "unsupported-version",
            ),
            (
                format!(
                    "<stream:stream xmlns='jabber:client' xmlns:stream='{stream}' to='localhost' version='0.9'>"
                ),
                "unsupported-version",
            ),
            (
                format!(
                    "<stream:stream xmlns='jabber:server' xmlns:stream='{stream}' to='localhost' version='1.0'>"
                ),
                "invalid-namespace",
            ),
            (
                "<stream:stream xmlns='jabber:client' xmlns:stream='wrong' to='localhost' version='1.0'>"
                    .into(),
                "invalid-namespace",
            ),
            (
                format!(
                    "<?xml version='1.0' encoding='latin1'?><stream:stream xmlns='jabber:client' xmlns:stream='{stream}' to='localhost' version='1.0'>"
                ),
                "unsupported-encoding",
            ),
        ] {
            let mut client = Client::connect(server.address());
            client.send(&header);
            client.expect_stream_error(condition);
        }
    });
}

#[test]
fn wrong_scram_messages_fail_and_three_failures_end_the_stream() {
    beside_a_good_client(|server| {
        let spoils: [(&str, Spoil); 3] = [
            ("nonce", |message| message.replace(",r=client-nonce", ",r=other-nonce")),
            ("proof", |message| {
                message.split_once(",p=").unwrap().0.to_owned()
                    + ",p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
            }),
            ("binding", |message| message.replace("c=biws", "c=eSws")),
        ];
        for (what, spoil) in spoils {
            let mut client = at(server, Stage::BeforeLogin);
            let answer = Scram { spoil, ..Scram::plain("SCRAM-SHA-256") }.run(
                &mut client,
                "mallory",
                &password("mallory"),
            );
            assert!(answer.is("failure", SASL), "wrong {what}: {answer:?}");
        }
        let mut client = at(server, Stage::BeforeLogin);
        for _ in 0..2 {
            client.send(&format!("<auth xmlns='{SASL}' mechanism='NONSENSE'/>"));
            assert!(client.stanza().find("invalid-mechanism", SASL).is_some());
        }
        client.send(&format!("<auth xmlns='{SASL}' mechanism='PLAIN'>%%%</auth>"));
        client.expect_stream_error("policy-violation");
    });
}

#[test]
fn a_client_that_sends_one_byte_at_a_time_is_understood() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.online("juliet", "balcony");
        for byte in b"<message to='juliet@localhost' type='chat' id='slow'><body>s l o w</body></message>" {
            juliet.send_bytes(&[*byte]);
        }
        assert_eq!(juliet.expect("message").attribute("id"), Some("slow"));
    });
}

#[test]
fn a_client_that_does_not_log_in_in_time_is_put_out() {
    on_each_driver_with(
        |config| config.limits.preauth_seconds = 1,
        |server| {
            let mut silent = Client::connect(server.address());
            let mut half = Client::connect(server.address());
            half.open_stream("localhost");
            half.expect_stream_error("connection-timeout");
            silent.expect_some_stream_error();
        },
    );
}

#[test]
fn too_many_bytes_before_login_end_the_stream() {
    beside_a_good_client(|server| {
        let mut client = at(server, Stage::BeforeLogin);
        let _ = client.socket().write_all(" ".repeat(11 * 1024).as_bytes());
        client.expect_stream_error_or_reset("policy-violation");
    });
}

#[test]
fn half_open_connections_do_not_hold_up_those_who_work() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.online("juliet", "balcony");
        let mut half_open = Vec::new();
        for n in 0..1500 {
            let mut client = Client::connect(server.address());
            if n % 2 == 0 {
                client.send("<?xml version='1.0'?><stream:stream ");
            }
            half_open.push(client);
        }
        juliet.settle();
        let mut romeo = server.online("romeo", "orchard");
        romeo.fence(&mut juliet);
    });
}

#[test]
fn a_client_that_never_reads_is_sent_no_more_and_the_others_go_on() {
    on_each_driver_with(
        |config| {
            config.limits.stanza_bytes = 64 * 1024;
            config.limits.output_backlog_bytes = 256 * 1024;
        },
        |server| {
            server.accounts(&["deaf", "romeo", "juliet"]);
            let deaf = server.login("deaf", "ear");
            let mut romeo = server.login("romeo", "orchard");
            let mut juliet = server.online("juliet", "balcony");
            let body = "x".repeat(60 * 1024);
            let started = Instant::now();
            while server.metric("output.dropped") == 0 {
                romeo.send(&format!(
                    "<message to='{}' type='headline'><body>{body}</body></message>",
                    deaf.jid
                ));
                romeo.settle();
                assert!(started.elapsed() < Duration::from_secs(60), "what waits is bounded");
            }
            romeo.fence(&mut juliet);
            // What is not kept, and would tell the sender nothing if it were dropped, is refused. The kernel may have taken
            // some of what waited in the meantime, and then there is room for another.
            let request = format!("<vCard xmlns='vcard-temp'><NOTE>{body}</NOTE></vCard>");
            let refused = loop {
                romeo.send(&format!("<iq type='set' id='full' to='{}'>{request}</iq>", deaf.jid));
                romeo.settle();
                if let Some(refused) =
                    romeo.quiet().into_iter().find(|stanza| stanza.attribute("id") == Some("full"))
                {
                    break refused;
                }
                assert!(started.elapsed() < Duration::from_secs(60), "what waits is bounded");
            };
            assert_eq!(outcome(&refused), "resource-constraint");
            assert!(server.metric("queue.output.high_water") <= 256 * 1024);
            assert_eq!(
                server.metric("refused.output_backlog_bytes"),
                0,
                "it is ended for nothing that others sent"
            );
        },
    );
}

#[test]
fn a_huge_namespace_is_refused_before_it_is_repeated_on_each_element() {
    beside_a_good_client(|server| {
        let mut client = at(server, Stage::Bound);
        let (name, elements) = ("x".repeat(100_000), "<a:b/>".repeat(20_000));
        client.send(&format!(
            "<iq type='set' id='v'><vCard xmlns='vcard-temp' xmlns:a='{name}'>{elements}</vCard></iq>"
        ));
        client.expect_stream_error_or_reset("policy-violation");
    });
}
