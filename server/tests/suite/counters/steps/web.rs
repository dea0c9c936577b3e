//! Clients over WebSocket, and the HTTP server that they come through.

use std::io::{Read, Write};
use std::net::TcpStream;

use tungstenite::Message;

use super::{PLAIN, Verona};
use crate::counters::stage::Step;
use crate::support::websocket::{Carrier, Frames};
use crate::support::with_http;

/// What comes of a handshake with these fields.
fn begin(server: &Verona, fields: &[(&str, &str)]) -> Result<(), u16> {
    Frames::begin(Carrier::connect(server.http_address(), None), fields).map(drop)
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
