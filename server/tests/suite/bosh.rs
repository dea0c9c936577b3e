//! Streams over BOSH (XEP-0124, XEP-0206): like those over TCP, in requests that are answered when there is something to say.

use std::io::Write;

use whimbrel_server::config::Config;
use whimbrel_server::http::metrics::WebMetrics;
use whimbrel_server::xml::Element;
use whimbrel_stats::Block;

use crate::support::bosh::{HTTP_BIND, Requests};
use crate::support::managed::{SM, chat};
use crate::support::{
    Client, PATIENCE, Said, TestServer, drivers, on_each_driver_with, server_password, with_http,
};

fn on_each(test: impl Fn(&TestServer)) {
    on_each_driver_with(|config| with_http(config, false), test);
}

/// Without TLS, on one driver: those of the workers have nothing to do with it.
fn with_server(configure: impl Fn(&mut Config), test: impl FnOnce(&TestServer)) {
    let server = TestServer::start(drivers()[0], |config| {
        with_http(config, false);
        configure(config);
    });
    test(&server);
}

/// A metric of the HTTP server.
fn metric(server: &TestServer, name: &str) -> u64 {
    let values = server.server.shared.stats.http[0].values();
    let at = WebMetrics::DESCRIPTIONS.iter().position(|one| one.name == name).expect("a metric");
    values[at]
}

fn await_metric(server: &TestServer, name: &str, wanted: u64) {
    let since = std::time::Instant::now();
    while metric(server, name) != wanted {
        assert!(since.elapsed() < PATIENCE, "{name} is {}, not {wanted}", metric(server, name));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn requests(server: &TestServer) -> Requests {
    Requests::connect(server.http_address(), None, "")
}

/// A request by hand.
fn body(attributes: &str) -> String {
    format!("<body {attributes} xmlns='{HTTP_BIND}' xmlns:xmpp='urn:xmpp:xbosh'/>")
}

#[test]
fn clients_of_bosh_and_tcp_talk_with_each_other() {
    for tls in [false, true] {
        on_each_driver_with(
            |config| with_http(config, tls),
            |server| {
                server.accounts(&["juliet", "romeo"]);
                let mut juliet = server.login_bosh("juliet", "balcony");
                let mut romeo = server.login("romeo", "orchard");
                for client in [&mut juliet, &mut romeo] {
                    client.send("<presence xmlns='jabber:client'/>");
                    client.settle();
                }
                assert_eq!(metric(server, "http.bosh.sessions"), 1);
                assert_eq!(server.metric("websocket.connections"), 1, "so it is counted by its worker");
                romeo.send(&chat("juliet@localhost", "one"));
                assert_eq!(juliet.set_aside_until(|e| e.name() == "message").attribute("id"), Some("one"));
                juliet.send(&chat("romeo@localhost", "two"));
                assert_eq!(romeo.set_aside_until(|e| e.name() == "message").attribute("id"), Some("two"));
                let text = "long ".repeat(20_000);
                let message = |to| {
                    format!(
                        "<message xmlns='jabber:client' to='{to}@localhost' type='chat' id='l'><body>{text}</body></message>"
                    )
                };
                juliet.send(&message("romeo"));
                romeo.send(&message("juliet"));
                for client in [&mut juliet, &mut romeo] {
                    let long = client.set_aside_until(|e| e.attribute("id") == Some("l"));
                    assert_eq!(long.find("body", "jabber:client").unwrap().content(), text);
                }
                let sid = juliet.bosh().sid.clone();
                juliet
                    .bosh()
                    .request(&format!("sid='{sid}' type='terminate'"), "<presence type='unavailable'/>");
                loop {
                    match juliet.next() {
                        Said::Element(_) => {}
                        Said::StreamClosed => break,
                        other => panic!("{other:?}"),
                    }
                }
                assert_eq!(juliet.bosh().condition, None);
                server.await_metric("websocket.connections", 0);
            },
        );
    }
}

#[test]
fn the_first_answer_has_terms_and_features() {
    on_each(|server| {
        let mut client = server.bosh("");
        let features = client.open_stream("localhost");
        assert!(features.is("features", "http://etherx.jabber.org/streams"), "{features:?}");
        let terms = client.bosh().terms.clone().expect("an answer");
        let expected =
            [("wait", "30"), ("requests", "2"), ("hold", "1"), ("ver", "1.6"), ("from", "localhost")];
        for (name, value) in expected {
            assert_eq!(terms.attribute(name), Some(value), "{name}");
        }
        let sid = terms.attribute("sid").unwrap();
        assert!(sid.len() >= 32, "{sid} can be guessed");
        assert!(terms.attribute("authid").is_some());
    });
}

#[test]
fn only_pages_that_may_can_use_it() {
    with_server(
        |config| config.http.allowed_origins = vec!["https://chat.example".into()],
        |server| {
            let from = |origin: &str| {
                Requests::connect(server.http_address(), None, &format!("Origin: {origin}\r\n"))
            };
            let begin = body("rid='1' to='localhost'");
            let answer = from("https://chat.example").ask(&begin);
            assert_eq!(answer.status, 200);
            for field in [
                "access-control-allow-origin: https://chat.example\r\n",
                "content-type: text/xml; charset=utf-8\r\n",
                "cache-control: no-store\r\n",
                "x-content-type-options: nosniff\r\n",
            ] {
                assert!(answer.head.contains(field), "{}", answer.head);
            }
            assert_eq!(from("https://evil.example").ask(&begin).status, 403);
            assert_eq!(metric(server, "http.bosh.origin"), 1);
            let ask = |head: &str| {
                let mut requests = requests(server);
                requests.raw().write_all(format!("{head}\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
                requests.answer()
            };
            let before = ask(
                "OPTIONS /http-bind HTTP/1.1\r\nOrigin: https://chat.example\r\nAccess-Control-Request-Method: POST",
            );
            assert_eq!(before.status, 204);
            assert!(
                before.head.contains("access-control-allow-headers: Content-Type\r\n"),
                "{}",
                before.head
            );
            assert_eq!(ask("GET /http-bind HTTP/1.1").status, 405);
            let meta = ask("GET /.well-known/host-meta.json HTTP/1.1").body;
            assert!(
                meta.contains("urn:xmpp:alt-connections:xbosh") && meta.contains("http://x/http-bind"),
                "{meta}"
            );
        },
    );
}

#[test]
fn it_can_be_switched_off() {
    with_server(
        |config| config.http.bosh_sessions = 0,
        |server| {
            assert_eq!(requests(server).ask(&body("rid='1' to='localhost'")).status, 404);
            let mut requests = requests(server);
            requests.raw().write_all(b"GET /.well-known/host-meta HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            assert!(!requests.answer().body.contains("xbosh"));
        },
    );
}

#[test]
fn logins_need_a_protected_way() {
    let configure = |config: &mut Config| {
        config.allow_plaintext = false;
        config.http.trusted_proxies = vec!["127.0.0.1".into()];
        config.limits.sessions_per_address = 1;
    };
    with_server(configure, |server| {
        server.accounts(&["juliet"]);
        let names = |features: &Element| {
            features.elements().map(|element| element.name().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&server.bosh("").open_stream("localhost")), [""; 0]);
        let from =
            |address| server.bosh(&format!("X-Forwarded-Proto: https\r\nX-Forwarded-For: {address}\r\n"));
        let mut juliet = from("192.0.2.9");
        assert_eq!(names(&juliet.open_stream("localhost")), ["mechanisms"]);
        juliet.authenticate_plain("juliet", &server_password("juliet"));
        juliet.open_stream("localhost");
        juliet.jid = juliet.bind("balcony");
        juliet.settle();
        // Its session can not be gone on with in the clear.
        let (sid, rid) = (juliet.bosh().sid.clone(), juliet.bosh().rid + 1);
        let answer = requests(server).ask(&body(&format!("rid='{rid}' sid='{sid}'")));
        assert_eq!(answer.condition().as_deref(), Some("item-not-found"));
        juliet.settle();
        // Each address has its own share of the connections.
        from("192.0.2.10").open_stream("localhost");
        let mut refused = from("192.0.2.9");
        refused.send_header("localhost");
        assert!(matches!(refused.next(), Said::StreamClosed));
        assert_eq!(refused.bosh().condition.as_deref(), Some("policy-violation"));
    });
}

#[test]
fn a_newcomer_takes_the_place_of_the_largest_taker_when_they_are_short() {
    let configure = |config: &mut Config| {
        config.http.trusted_proxies = vec!["127.0.0.1".into()];
        config.http.bosh_sessions = 4;
    };
    with_server(configure, |server| {
        server.accounts(&["juliet"]);
        let fields = |address: &str| format!("X-Forwarded-Proto: https\r\nX-Forwarded-For: {address}\r\n");
        let from = |address: &str| server.bosh(&fields(address));
        let mut juliet = from("192.0.2.1");
        juliet.open_stream("localhost");
        juliet.authenticate_plain("juliet", &server_password("juliet"));
        juliet.open_stream("localhost");
        juliet.jid = juliet.bind("balcony");
        // Three of her network take all other places and say no more.
        let mut others = ["192.0.2.2", "192.0.2.3", "192.0.2.4"].map(from);
        others.iter_mut().for_each(|client| drop(client.open_stream("localhost")));
        from("198.51.100.1").open_stream("localhost");
        assert_eq!(metric(server, "http.bosh.displaced"), 1);
        from("203.0.113.1").open_stream("localhost");
        assert_eq!(metric(server, "http.bosh.displaced"), 2);
        // Each network has one now, and she has logged in.
        let mut late = Requests::connect(server.http_address(), None, &fields("203.0.113.200"));
        assert_eq!(late.ask(&body("rid='1' to='localhost'")).status, 503);
        assert_eq!(metric(server, "http.bosh.displaced"), 2);
        server.await_metric("connections", 4);
        juliet.settle();
        let gone = others.iter_mut().map(|client| {
            let (sid, rid) = (client.bosh().sid.clone(), client.bosh().rid + 1);
            let end = body(&format!("rid='{rid}' sid='{sid}' type='terminate'"));
            let answer = Requests::connect(server.http_address(), None, &fields("192.0.2.2")).ask(&end);
            usize::from(answer.condition().as_deref() == Some("item-not-found"))
        });
        assert_eq!(gone.sum::<usize>(), 2);
    });
}

#[test]
fn what_is_no_session_is_told_why() {
    on_each(|server| {
        let condition = |text: &str| requests(server).ask(text).condition();
        let table = [
            ("nonsense".to_owned(), "bad-request"),
            (body("to='localhost'"), "bad-request"),
            (body("rid='1'"), "improper-addressing"),
            (body("rid='1' to='elsewhere.example'"), "host-unknown"),
            (body("rid='1' sid='AAAA'"), "item-not-found"),
        ];
        for (text, expected) in table {
            assert_eq!(condition(&text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!((metric(server, "http.bosh.malformed"), metric(server, "http.bosh.unknown")), (2, 1));
        server.await_metric("connections", 0);
    });
}

#[test]
fn an_answer_that_was_lost_is_given_again() {
    on_each(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login_bosh("juliet", "balcony");
        let mut romeo = server.online("romeo", "orchard");
        juliet.send(&chat("romeo@localhost", "one"));
        assert_eq!(romeo.next_message(), "one");
        // Her connections break: whatever was under way, she asks again, and nothing happens twice.
        let payload = chat("romeo@localhost", "two");
        juliet.send(&payload);
        assert_eq!(romeo.next_message(), "two");
        let rid = juliet.bosh().rid;
        juliet.bosh().connect_anew();
        juliet.bosh().repeat(rid, &payload);
        juliet.settle();
        juliet.send(&chat("romeo@localhost", "three"));
        assert_eq!(romeo.next_message(), "three");
        assert_eq!(metric(server, "http.bosh.repeated"), 1);
    });
}

#[test]
fn a_session_that_is_cut_goes_on_over_tcp() {
    on_each(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut juliet = server.login_bosh("juliet", "balcony");
        let name = juliet.enable_sm();
        juliet.send("<presence/>");
        juliet.await_handled(1);
        let (sid, rid) = (juliet.bosh().sid.clone(), juliet.bosh().rid + 100);
        let answer = requests(server).ask(&body(&format!("rid='{rid}' sid='{sid}'")));
        assert_eq!(answer.condition().as_deref(), Some("item-not-found"));
        server.await_metric("sm.detached", 1);
        await_metric(server, "http.bosh.sessions", 0);
        let mut romeo = server.login("romeo", "orchard");
        romeo.send(&chat("juliet@localhost", "missed"));
        romeo.settle();
        let (mut juliet, answer) =
            Client::resume(server.address(), "juliet", "juliet@localhost/balcony", &name, 1);
        assert!(answer.is("resumed", SM), "{answer:?}");
        assert_eq!(juliet.next_message(), "missed");
    });
}

#[test]
fn a_client_that_stays_away_has_no_session() {
    with_server(
        |config| config.http.bosh_inactivity_seconds = 1,
        |server| {
            let mut client = server.bosh("");
            client.open_stream("localhost");
            await_metric(server, "http.bosh.inactive", 1);
            client.bosh().send("");
            assert!(matches!(client.next(), Said::StreamClosed));
            assert_eq!(client.bosh().condition.as_deref(), Some("item-not-found"));
            server.await_metric("connections", 0);
        },
    );
}

#[test]
fn what_waits_for_a_client_that_does_not_ask_is_bounded() {
    const COUNT: usize = 400;
    on_each_driver_with(
        |config| {
            with_http(config, false);
            config.http.bosh_session_bytes = 16 * 1024;
        },
        |server| {
            server.accounts(&["juliet", "romeo"]);
            let mut juliet = server.login_bosh("juliet", "balcony");
            juliet.send("<presence/>");
            juliet.settle();
            let mut romeo = server.login("romeo", "orchard");
            let text = "x".repeat(2_000);
            for n in 0..COUNT {
                romeo.send(&format!(
                    "<message to='juliet@localhost' type='chat' id='{n}'><body>{text}</body></message>"
                ));
            }
            romeo.settle();
            // What is read at once is more than the bound by one read.
            let most = metric(server, "http.bosh.bytes");
            assert!(most < 64 * 1024, "{most} bytes wait");
            for n in 0..COUNT {
                assert_eq!(juliet.next_message(), n.to_string());
            }
        },
    );
}

#[test]
fn a_server_that_stops_says_where_to_go_on() {
    for (elsewhere, condition) in
        [("", "system-shutdown"), ("https://other.example/b?a=1&b=2", "see-other-uri")]
    {
        on_each_driver_with(
            |config| {
                with_http(config, false);
                config.http.bosh_see_other_uri = elsewhere.into();
            },
            |server| {
                server.accounts(&["juliet"]);
                let mut juliet = server.login_bosh("juliet", "balcony");
                juliet.bosh().send("");
                juliet.settle();
                server.server.drain(true);
                loop {
                    match juliet.next() {
                        Said::Element(element) if element.name() == "uri" => {
                            assert_eq!(element.content(), elsewhere);
                        }
                        Said::Element(_) => {}
                        Said::StreamClosed => break,
                        other => panic!("{other:?}"),
                    }
                }
                assert_eq!(juliet.bosh().condition.as_deref(), Some(condition));
                // While it stops, none begins.
                let answer = requests(server).ask(&body("rid='1' to='localhost'"));
                assert_eq!(answer.condition().as_deref(), Some(condition));
            },
        );
    }
}

#[test]
fn a_server_that_takes_no_new_clients_serves_those_it_has() {
    with_server(
        |config| config.limits.drain_seconds = 600,
        |server| {
            server.accounts(&["juliet"]);
            let mut juliet = server.login_bosh("juliet", "balcony");
            server.server.drain(false);
            juliet.settle();
            juliet.settle();
            server.server.drain(true);
            while !matches!(juliet.next(), Said::StreamClosed) {}
        },
    );
}

#[test]
fn limits_are_answered() {
    with_server(
        |config| {
            config.http.bosh_sessions = 1;
            config.http.bosh_request_bytes = 16 * 1024;
            config.http.seconds = 1;
        },
        |server| {
            let mut client = server.bosh("");
            client.open_stream("localhost");
            let busy = requests(server).ask(&body("rid='1' to='localhost'"));
            assert_eq!((busy.status, busy.head.contains("retry-after: ")), (503, true));
            assert_eq!(metric(server, "http.bosh.busy"), 1);
            let long = format!("<body rid='1' xmlns='{HTTP_BIND}'>{}</body>", " ".repeat(16 * 1024));
            assert_eq!(requests(server).ask(&long).status, 413);
            let mut slow = requests(server);
            slow.raw()
                .write_all(b"POST /http-bind HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n<body")
                .unwrap();
            assert_eq!(slow.answer().status, 408);
        },
    );
}
