//! Clients over WebSocket, and the HTTP server that they come through.

use std::io::{Read, Write};
use std::net::TcpStream;

use tungstenite::Message;

use super::{PLAIN, Verona};
use crate::counters::stage::Step;
use crate::support::bosh::{HTTP_BIND, Requests};
use crate::support::websocket::{Carrier, Frames};
use crate::support::with_http;

/// What comes of a handshake with these fields.
fn begin(server: &Verona, fields: &[(&str, &str)]) -> Result<(), u16> {
    Frames::begin(Carrier::connect(server.http_address(), None), fields).map(drop)
}

/// A request of BOSH with these attributes, on a connection of its own; its answer's status.
fn bosh(server: &Verona, attributes: &str, fields: &str) -> u16 {
    let body = format!("<body {attributes} xmlns='{HTTP_BIND}'/>");
    Requests::connect(server.http_address(), None, fields).ask(&body).status
}

/// The steps.
pub(super) const STEPS: &[Step<Verona>] = &[
    Step {
        what: "a client comes over WebSocket",
        configure: |config| with_http(config, false),
        act: |stage, server| {
            let mut juliet = server.login_web("juliet", "balcony");
            juliet.frames().send(Message::Ping(vec![1].into()));
            juliet.settle();
            stage.until("websocket.connections");
            stage.until("queue.newcomers.high_water");
        },
        moves: &[
            "websocket.connections",
            "websocket.accepts",
            "websocket.pings",
            "http.requests",
            "http.websocket.handshakes",
            "queue.newcomers.high_water",
        ],
        ..PLAIN
    },
    Step {
        what: "a client breaks the rules of frames",
        configure: |config| with_http(config, false),
        act: |stage, server| {
            let mut client = server.websocket();
            client.send_bytes(&[0xFF; 8]);
            stage.until("refused.websocket_frames");
        },
        moves: &["refused.websocket_frames"],
        ..PLAIN
    },
    Step {
        what: "a client sends a long message",
        configure: |config| with_http(config, false),
        act: |stage, server| {
            let mut client = server.websocket();
            client.send_bytes(&[0x81, 0xFF, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4]);
            stage.until("refused.websocket_bytes");
        },
        moves: &["refused.websocket_bytes"],
        ..PLAIN
    },
    Step {
        what: "somebody is connected by HTTP, and asks for nothing that there is",
        configure: |config| with_http(config, false),
        act: |stage, server| {
            let mut stream = TcpStream::connect(server.http_address()).unwrap();
            stage.until("http.connections");
            stream.write_all(b"GET /xmpp-websocket HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            stage.until("http.websocket.malformed");
            let mut stream = TcpStream::connect(server.http_address()).unwrap();
            stream.write_all(b"nonsense\r\n\r\n").unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
            stage.until("http.refused");
        },
        moves: &["http.connections", "http.websocket.malformed", "http.refused"],
        ..PLAIN
    },
    Step {
        what: "half requests make room for others",
        configure: |config| {
            with_http(config, false);
            config.http.websocket_handshakes = 1;
            config.http.discovery_requests = 1;
            config.http.bosh_requests = 1;
            config.upload.enabled = false;
            config.http.seconds = 60;
            config.http.idle_seconds = 300;
        },
        act: |stage, server| {
            let address = server.http_address();
            let _half: Vec<TcpStream> = (0..6).map(|_| TcpStream::connect(address).unwrap()).collect();
            stage.until("http.displaced");
        },
        moves: &["http.displaced"],
        ..PLAIN
    },
    Step {
        what: "a page of another origin wants to connect",
        configure: |config| {
            with_http(config, false);
            config.http.allowed_origins = vec!["https://chat.example".into()];
        },
        act: |_, server| assert_eq!(begin(server, &[("Origin", "https://evil.example")]), Err(403)),
        moves: &["http.websocket.origin"],
        ..PLAIN
    },
    Step {
        what: "a client comes over BOSH, asks for an answer again, and breaks the rules",
        configure: |config| with_http(config, false),
        act: |stage, server| {
            let mut juliet = server.login_bosh("juliet", "balcony");
            juliet.settle();
            stage.until("http.bosh.sessions");
            stage.until("http.bosh.bytes");
            let session = juliet.bosh();
            let (sid, rid) = (session.sid.clone(), session.rid);
            assert_eq!(bosh(server, &format!("rid='{rid}' sid='{sid}'"), ""), 200);
            stage.until("http.bosh.repeated");
            assert_eq!(bosh(server, &format!("rid='{}' sid='{sid}'", rid + 100), ""), 200);
            stage.until("http.bosh.broken");
            assert_eq!(bosh(server, &format!("rid='{}' sid='{sid}'", rid + 1), ""), 200);
            stage.until("http.bosh.unknown");
        },
        moves: &[
            "http.bosh.sessions",
            "http.bosh.bytes",
            "http.bosh.begun",
            "http.bosh.repeated",
            "http.bosh.broken",
            "http.bosh.unknown",
        ],
        ..PLAIN
    },
    Step {
        what: "clients of BOSH that may not, say nothing that can be read, are too many, or stay away",
        configure: |config| {
            with_http(config, false);
            config.http.allowed_origins = vec!["https://chat.example".into()];
            config.http.bosh_sessions = 1;
            config.http.bosh_inactivity_seconds = 1;
        },
        act: |stage, server| {
            assert_eq!(bosh(server, "rid='1' to='localhost'", "Origin: https://evil.example\r\n"), 403);
            assert_eq!(bosh(server, "to='localhost'", ""), 200);
            assert_eq!(bosh(server, "rid='1' to='localhost'", ""), 200);
            assert_eq!(bosh(server, "rid='1' to='localhost'", ""), 503);
            stage.until("http.bosh.inactive");
        },
        moves: &["http.bosh.origin", "http.bosh.malformed", "http.bosh.busy", "http.bosh.inactive"],
        ..PLAIN
    },
    Step {
        what: "a client of BOSH takes the place of another one that has not logged in",
        configure: |config| {
            with_http(config, false);
            config.http.bosh_sessions = 2;
            config.http.trusted_proxies = vec!["127.0.0.1".into()];
        },
        act: |_, server| {
            for address in ["192.0.2.1", "192.0.2.2", "198.51.100.1"] {
                let fields = format!("X-Forwarded-Proto: https\r\nX-Forwarded-For: {address}\r\n");
                assert_eq!(bosh(server, "rid='1' to='localhost'", &fields), 200, "{address}");
            }
        },
        moves: &["http.bosh.displaced"],
        ..PLAIN
    },
    Step {
        what: "a client wants to connect while memory is short",
        configure: |config| with_http(config, false),
        act: |stage, server| {
            let shared = &server.server.shared;
            let mut config = (**shared.config.read().unwrap()).clone();
            config.limits.memory_mib = 1;
            *shared.config.write().unwrap() = config.into();
            stage.until("memory.pressure");
            stage.until_with("http.websocket.busy", || {
                let _ = begin(server, &[]);
            });
        },
        moves: &["http.websocket.busy"],
        ..PLAIN
    },
];
