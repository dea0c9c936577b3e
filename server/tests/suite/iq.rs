//! IQ stanzas: what gets which answer, and what gets none (RFC 6120 §8.2.3, RFC 6121 §8.5).

use crate::support::answers::outcome;
use crate::support::{on_each_driver, on_each_driver_with};

const UNKNOWN: &str = "<query xmlns='urn:example:unknown'/>";

#[test]
fn a_request_that_nobody_serves_gets_the_right_error_at_every_address() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let _romeo = server.online("romeo", "orchard");
        let table = [
            (None, "service-unavailable"),
            (Some("localhost"), "service-unavailable"),
            (Some("localhost/somewhere"), "service-unavailable"),
            (Some("juliet@localhost"), "service-unavailable"),
            (Some("romeo@localhost"), "service-unavailable"),
            (Some("romeo@localhost/elsewhere"), "service-unavailable"),
            (Some("nobody@localhost"), "service-unavailable"),
            (Some("nobody@localhost/x"), "service-unavailable"),
            (Some("other.example"), "remote-server-not-found"),
            (Some("romeo@other.example"), "remote-server-not-found"),
            (Some("romeo@other.example/x"), "remote-server-not-found"),
            (Some("@"), "jid-malformed"),
        ];
        for typ in ["get", "set"] {
            for (to, expected) in table {
                let answer = juliet.ask(typ, to, UNKNOWN);
                assert_eq!(outcome(&answer), expected, "{typ} to {to:?}");
                if expected != "jid-malformed" {
                    assert_eq!(answer.attribute("from"), to, "{typ} to {to:?}");
                }
            }
        }
    });
}

#[test]
fn an_iq_that_breaks_the_rules_gets_bad_request() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        let ping = "<ping xmlns='urn:xmpp:ping'/>";
        for bad in [
            format!("<iq id='bad' to='localhost'>{ping}</iq>"),
            format!("<iq id='bad' type='nonsense' to='localhost'>{ping}</iq>"),
            "<iq id='bad' type='get' to='localhost'/>".into(),
            format!("<iq id='bad' type='get' to='localhost'>{ping}{ping}</iq>"),
            format!("<iq id='bad' type='set' to='localhost'>{ping}</iq>"),
            format!("<iq type='get' to='localhost'>{ping}</iq>"),
        ] {
            juliet.send(&bad);
            let answer = juliet.expect("iq");
            assert_eq!(outcome(&answer), "bad-request", "{bad}");
            assert!(matches!(answer.attribute("id"), Some("bad") | None), "{answer:?}");
        }
    });
}

#[test]
fn a_result_or_an_error_gets_no_answer_wherever_it_goes() {
    on_each_driver(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login("juliet", "balcony");
        let mut romeo = server.online("romeo", "orchard");
        let addresses = [
            "",
            " to='localhost'",
            " to='juliet@localhost'",
            " to='romeo@localhost'",
            " to='romeo@localhost/elsewhere'",
            " to='nobody@localhost'",
            " to='other.example'",
            " to='@'",
        ];
        for to in addresses {
            for typ in ["result", "error"] {
                // `ping` is the id that the server's own pings have.
                juliet.send(&format!("<iq type='{typ}' id='ping'{to}/>"));
            }
        }
        juliet.fence(&mut romeo);
        juliet.ask("get", Some("romeo@localhost"), UNKNOWN);
        juliet.ask("get", Some("nobody@localhost"), UNKNOWN);
        juliet.settle();
        assert_eq!(juliet.quiet(), []);
        assert_eq!(romeo.quiet(), []);
        // To a resource that is there it is passed on: the server keeps no account of requests between clients.
        juliet.send(&format!("<iq type='result' id='r' to='{}'/>", romeo.jid));
        assert_eq!(romeo.expect("iq").attribute("id"), Some("r"));
    });
}

#[test]
fn a_silent_client_is_pinged_and_its_answer_goes_nowhere() {
    on_each_driver_with(
        |config| config.limits.idle_seconds = 1,
        |server| {
            server.accounts(&["juliet"]);
            let mut juliet = server.login("juliet", "balcony");
            for typ in ["result", "error"] {
                let ping = juliet.expect("iq");
                assert_eq!(ping.attribute("type"), Some("get"));
                assert_eq!(ping.attribute("from"), Some("localhost"));
                assert!(ping.find("ping", "urn:xmpp:ping").is_some(), "{ping:?}");
                let id = ping.attribute("id").unwrap().to_owned();
                juliet.send(&format!("<iq type='{typ}' id='{id}' to='localhost'/>"));
                juliet.settle();
                assert!(juliet.quiet().iter().all(|stanza| stanza.find("ping", "urn:xmpp:ping").is_some()));
            }
            assert!(server.metric("pings.sent") >= 2);
            assert_eq!(server.metric("pings.answered"), 2);
            // Nobody has asked with these.
            for id in ["ping:1", "pong", "", "1"] {
                juliet.send(&format!("<iq type='result' id='{id}' to='localhost'/>"));
            }
            juliet.settle();
            assert!(server.metric("pings.answered") <= server.metric("pings.sent"));
        },
    );
}

#[test]
fn a_client_that_does_not_answer_a_ping_is_gone() {
    on_each_driver_with(
        |config| {
            config.limits.idle_seconds = 1;
            config.limits.idle_answer_seconds = 1;
        },
        |server| {
            server.accounts(&["juliet"]);
            let mut juliet = server.login("juliet", "balcony");
            juliet.expect_stream_error("connection-timeout");
        },
    );
}

#[test]
fn an_answer_has_the_id_of_what_it_answers_also_an_empty_one_or_none() {
    on_each_driver(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login("juliet", "balcony");
        let ping = "<ping xmlns='urn:xmpp:ping'/>";
        let table = [
            (format!("<iq type='get' id=''>{ping}</iq>"), "result", Some("")),
            (format!("<iq type='get' id='' to='localhost'>{ping}</iq>"), "result", Some("")),
            (format!("<iq type='get' id='' to='localhost'>{UNKNOWN}</iq>"), "service-unavailable", Some("")),
            (
                format!("<iq type='get' id='' to='nobody@localhost'>{UNKNOWN}</iq>"),
                "service-unavailable",
                Some(""),
            ),
            (
                format!("<iq type='get' id='' to='nobody@localhost/x'>{UNKNOWN}</iq>"),
                "service-unavailable",
                Some(""),
            ),
            (
                format!("<iq type='get' id='' to='other.example'>{UNKNOWN}</iq>"),
                "remote-server-not-found",
                Some(""),
            ),
            ("<iq type='get' id=''/>".to_owned(), "bad-request", Some("")),
            (format!("<iq type='get'>{ping}</iq>"), "bad-request", None),
            (
                "<message id='' to='juliet@localhost/none'><body>x</body></message>".to_owned(),
                "service-unavailable",
                Some(""),
            ),
            (
                "<message to='juliet@localhost/none'><body>x</body></message>".to_owned(),
                "service-unavailable",
                None,
            ),
            ("<message id='' to='other.example'/>".to_owned(), "remote-server-not-found", Some("")),
            ("<presence id='' to='other.example'/>".to_owned(), "remote-server-not-found", Some("")),
            ("<presence to='other.example'/>".to_owned(), "remote-server-not-found", None),
        ];
        for (stanza, expected, id) in table {
            juliet.send(&stanza);
            let answer = juliet.stanza();
            assert_eq!(outcome(&answer), expected, "{stanza}");
            assert_eq!(answer.attribute("id"), id, "{stanza}");
        }
    });
}
