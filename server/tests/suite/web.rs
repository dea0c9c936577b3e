//! The HTTP server for clients in browsers: host-meta, and what is no WebSocket handshake.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::Value;
use whimbrel_server::config::Config;

use crate::support::websocket::{Carrier, Frames};
use crate::support::{PATIENCE, TestServer, drivers, on_each_driver_with, with_http};

/// A handshake whose fields are as they should be.
const HANDSHAKE: &str = "GET /xmpp-websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: xmpp\r\n";

/// Without TLS. The drivers of the workers have nothing to do with it.
fn with_server(configure: impl Fn(&mut Config), test: impl FnOnce(&TestServer)) {
    let server = TestServer::start(drivers()[0], |config| {
        with_http(config, false);
        configure(config);
    });
    test(&server);
}

fn send(server: &TestServer, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.http_address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// Everything that comes until the server ends the connection.
fn heard(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // What was not read when the server closed makes a reset of it.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

/// The head of the next answer, byte by byte, so that what follows stays.
fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}

fn get(server: &TestServer, path: &str, fields: &str) -> String {
    let text = format!("GET {path} HTTP/1.1\r\nHost: chat.example:7\r\nConnection: close\r\n{fields}\r\n");
    heard(send(server, &text))
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a head").1
}

#[test]
fn host_meta_names_the_websocket_to_every_page() {
    with_server(
        |_| {},
        |server| {
            let xml = get(server, "/.well-known/host-meta", "Origin: https://page.example\r\n");
            assert_eq!(status(&xml), 200);
            assert!(xml.contains("access-control-allow-origin: *\r\n"), "{xml}");
            assert!(xml.contains("content-type: application/xrd+xml"), "{xml}");
            assert!(xml.contains("href='ws://chat.example:7/xmpp-websocket'"), "{xml}");
            let json = get(server, "/.well-known/host-meta.json", "");
            assert!(json.contains("access-control-allow-origin: *\r\n"), "{json}");
            let links: Value = serde_json::from_str(body(&json)).unwrap();
            assert_eq!(links["links"][0]["rel"], "urn:xmpp:alt-connections:websocket");
            assert_eq!(links["links"][0]["href"], "ws://chat.example:7/xmpp-websocket");
            let asked = "OPTIONS /.well-known/host-meta HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                Origin: https://page.example\r\nAccess-Control-Request-Method: GET\r\n\r\n";
            let before = heard(send(server, asked));
            assert_eq!(status(&before), 204);
            assert!(before.contains("access-control-allow-methods: GET, HEAD\r\n"), "{before}");
            let post = "POST /.well-known/host-meta HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
            assert_eq!(status(&heard(send(server, post))), 405);
            assert_eq!(status(&get(server, "/", "")), 404);
            assert_eq!(status(&get(server, "/v1/openapi.json", "")), 404, "registration is elsewhere");
        },
    );
}

#[test]
fn host_meta_says_what_a_proxy_says_or_the_configuration() {
    with_server(
        |config| config.http.trusted_proxies = vec!["127.0.0.1".into()],
        |server| {
            let answer = get(server, "/.well-known/host-meta", "X-Forwarded-Proto: https\r\n");
            assert!(answer.contains("'wss://chat.example:7/xmpp-websocket'"), "{answer}");
        },
    );
    with_server(
        |config| config.http.websocket_url = "wss://other.example/ws".into(),
        |server| {
            // Of one who is not trusted it is not believed; the configuration is asked first anyway.
            let answer = get(server, "/.well-known/host-meta", "X-Forwarded-Proto: https\r\n");
            assert!(answer.contains("'wss://other.example/ws'"), "{answer}");
        },
    );
}

#[test]
fn a_refused_handshake_says_why_and_ends_the_connection() {
    let table = [
        ("Connection: Upgrade\r\n", "Connection: keep-alive\r\n", 426),
        ("Upgrade: websocket\r\n", "", 426),
        ("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Version: 8\r\n", 426),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "Sec-WebSocket-Key: x\r\n", 400),
        ("Sec-WebSocket-Protocol: xmpp\r\n", "", 400),
        ("Sec-WebSocket-Protocol: xmpp\r\n", "Sec-WebSocket-Protocol: chat\r\n", 400),
        ("GET ", "POST ", 405),
        ("Upgrade: websocket\r\n", "Upgrade: websocket\r\nContent-Length: 4\r\n", 400),
        ("HTTP/1.1", "HTTP/1.0", 400),
    ];
    with_server(
        |_| {},
        |server| {
            for (good, bad, expected) in table {
                let text = HANDSHAKE.replacen(good, bad, 1) + "\r\n";
                // A proxy that takes the refusal for an agreement would carry this one, too.
                let smuggled = "GET /.well-known/host-meta HTTP/1.1\r\nHost: x\r\n\r\n";
                let mut stream = send(server, &format!("{text}{smuggled}"));
                let answer = head(&mut stream);
                assert_eq!(status(&answer), expected, "{text}");
                if expected == 426 {
                    assert!(answer.contains("sec-websocket-version: 13\r\n"), "{answer}");
                    assert!(answer.contains("upgrade: websocket\r\n"), "{answer}");
                }
                if expected != 405 {
                    let rest = heard(stream);
                    assert!(
                        !rest.contains("HTTP/1.1 200"),
                        "{text}: a request behind it was answered: {rest}"
                    );
                }
            }
        },
    );
}

#[test]
fn heads_that_two_readers_could_read_in_two_ways_are_refused() {
    let smuggled = "GET /.well-known/host-meta HTTP/1.1\r\nHost: evil\r\n\r\n";
    let length = smuggled.len();
    let start = "GET /.well-known/host-meta HTTP/1.1\r\n";
    let table = [
        (
            format!(
                "{start}Host: a\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            400,
        ),
        (format!("{start}Host: a\r\nContent-Length: 0\r\nContent-Length: {length}\r\n\r\n"), 400),
        (format!("{start}Host: a\r\nTransfer-Encoding: xchunked\r\n\r\n"), 501),
        (format!("{start}Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"), 400),
        (format!("{start}Host: a\r\nHost: b\r\n\r\n"), 400),
        (format!("{start}Host: a\r\nContent-Length: +{length}\r\n\r\n"), 400),
        (format!("{start}Host: a\r\nX : y\r\n\r\n"), 400),
        (format!("{start}\r\n"), 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
        ("\u{16}\u{3}\u{1}\u{2}\r\n\r\n".to_owned(), 400),
        (format!("{start}Host: a\r\nX: {}\r\n\r\n", "x".repeat(20_000)), 431),
        (format!("{start}Host: a\r\n{}\r\n", "X: y\r\n".repeat(70)), 431),
    ];
    with_server(
        |_| {},
        |server| {
            for (text, expected) in table {
                let stream = send(server, &format!("{text}{smuggled}"));
                let answer = heard(stream);
                assert_eq!(status(&answer), expected, "{text:?}");
                assert!(
                    !answer.contains("HTTP/1.1 200"),
                    "{text:?}: the request behind it was answered: {answer}"
                );
            }
        },
    );
}

#[test]
fn a_head_that_comes_by_the_byte_has_its_time_and_no_more() {
    with_server(
        |config| config.http.seconds = 1,
        |server| {
            for begun in ["GET /xmpp-web", HANDSHAKE] {
                assert_eq!(status(&heard(send(server, begun))), 408, "{begun}");
            }
            // And so has TLS, on a server that speaks it.
        },
    );
    let server = TestServer::start(drivers()[0], |config| {
        with_http(config, true);
        config.http.seconds = 1;
    });
    assert_eq!(heard(send(&server, "")), "", "nothing comes, and the connection ends");
}

#[test]
fn pages_of_other_origins_may_not_connect() {
    let configure = |config: &mut Config| {
        with_http(config, false);
        config.http.allowed_origins = vec!["https://chat.example".into()];
    };
    on_each_driver_with(configure, |server| {
        let begin = |fields: &[(&str, &str)]| {
            Frames::begin(Carrier::connect(server.http_address(), None), fields).map(drop)
        };
        assert_eq!(begin(&[("Origin", "https://chat.example")]), Ok(()));
        assert_eq!(begin(&[]), Ok(()), "no browser");
        assert_eq!(begin(&[("Origin", "https://evil.example")]), Err(403));
        assert_eq!(begin(&[("Origin", "null")]), Err(403));
    });
}

#[test]
fn a_server_that_stops_sends_handshakes_away() {
    with_server(
        |_| {},
        |server| {
            let web = server.server.web.as_ref().unwrap();
            web.shut();
            let mut stream = send(server, &format!("{HANDSHAKE}\r\n"));
            let answer = head(&mut stream);
            assert_eq!(status(&answer), 503);
            assert!(answer.contains("retry-after: 5\r\n"), "{answer}");
            drop(stream);
            web.open();
            let mut stream = send(server, &format!("{HANDSHAKE}\r\n"));
            let answer = head(&mut stream);
            assert_eq!(status(&answer), 101);
            assert!(answer.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
            assert!(answer.contains("sec-websocket-protocol: xmpp\r\n"), "{answer}");
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(heard(stream), "", "no stream had begun");
        },
    );
}
