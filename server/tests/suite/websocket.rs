//! Streams over WebSocket (RFC 7395): like those over TCP, with frames around each element.

use std::io::{Read, Write};

use tungstenite::Message;
use whimbrel_server::config::Config;

use crate::support::managed::{SM, chat};
use crate::support::websocket::{Carrier, Frames};
use crate::support::{Client, PATIENCE, Said, TestServer, on_each_driver_with, server_password, with_http};

const FRAMING: &str = "urn:ietf:params:xml:ns:xmpp-framing";
const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";

/// Without TLS, so that tests can write frames of their own.
fn on_each(test: impl Fn(&TestServer)) {
    on_each_driver_with(|config| with_http(config, false), test);
}

/// A frame of a client, whose mask changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length => {
            out.push(0x80 | 126);
            out.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
    out
}

fn ping(id: &str) -> String {
    format!(
        "<iq xmlns='jabber:client' type='get' id='{id}' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>"
    )
}

/// The connection must end now, with this code.
fn expect_code(client: &mut Client, code: u16) {
    loop {
        match client.next() {
            Said::Element(_) => {}
            Said::Ended => break,
            other => panic!("the end of the connection expected, got {other:?}"),
        }
    }
    assert_eq!(client.frames().closed, Some(code));
}

#[test]
fn clients_of_both_transports_talk_with_each_other() {
    for tls in [false, true] {
        on_each_driver_with(
            |config| with_http(config, tls),
            |server| {
                server.accounts(&["juliet", "romeo"]);
                let mut juliet = server.login_web("juliet", "balcony");
                let mut romeo = server.login("romeo", "orchard");
                for client in [&mut juliet, &mut romeo] {
                    client.send("<presence/>");
                    client.settle();
                }
                assert_eq!(server.metric("websocket.connections"), 1);
                romeo.send(&chat("juliet@localhost", "one"));
                assert_eq!(juliet.set_aside_until(|e| e.name() == "message").attribute("id"), Some("one"));
                juliet.send(&chat("romeo@localhost", "two"));
                assert_eq!(romeo.set_aside_until(|e| e.name() == "message").attribute("id"), Some("two"));
                // A long one, in a frame of the long form, both ways.
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
                juliet.quiet();
                juliet.send(&format!("<close xmlns='{FRAMING}'/>"));
                assert!(matches!(juliet.next(), Said::StreamClosed));
                expect_code(&mut juliet, 1000);
                server.await_metric("websocket.connections", 0);
            },
        );
    }
}

#[test]
fn tls_is_never_begun_on_it_and_logins_need_it() {
    let configure = |config: &mut Config| {
        with_http(config, false);
        config.allow_plaintext = false;
        config.http.trusted_proxies = vec!["127.0.0.1".into()];
        config.limits.sessions_per_address = 1;
    };
    on_each_driver_with(configure, |server| {
        server.accounts(&["juliet"]);
        let features_with = |fields: &[(&str, &str)]| {
            let frames = Frames::begin(Carrier::connect(server.http_address(), None), fields).unwrap();
            let mut client = Client::over_frames(frames);
            (client.open_stream("localhost"), client)
        };
        let names = |features: &whimbrel_server::xml::Element| {
            features.elements().map(|element| element.name().to_owned()).collect::<Vec<_>>()
        };
        // In the clear nothing is offered, and STARTTLS is not understood.
        let (features, mut client) = features_with(&[]);
        assert_eq!(names(&features), [""; 0]);
        client.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        client.expect_stream_error("unsupported-stanza-type");
        // The proxy has spoken TLS with the client, whose address it names.
        let from = |address| features_with(&[("X-Forwarded-Proto", "https"), ("X-Forwarded-For", address)]);
        let (features, mut juliet) = from("192.0.2.9");
        assert_eq!(names(&features), ["mechanisms"]);
        juliet.authenticate_plain("juliet", &server_password("juliet"));
        juliet.open_stream("localhost");
        juliet.jid = juliet.bind("balcony");
        juliet.settle();
        // Each address has its own share of the connections.
        let (_, _other) = from("192.0.2.10");
        let again = [("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "192.0.2.9")];
        let refused = Frames::begin(Carrier::connect(server.http_address(), None), &again).unwrap();
        expect_code(&mut Client::over_frames(refused), 1013);
    });
}

#[test]
fn under_tls_an_authentication_can_be_bound_to_the_channel() {
    on_each_driver_with(
        |config| with_http(config, true),
        |server| {
            let mut client = server.websocket();
            let features = client.open_stream("localhost");
            let bindings = features.find("sasl-channel-binding", "urn:xmpp:sasl-cb:0").expect("bindings");
            let types: Vec<_> = bindings.elements().filter_map(|e| e.attribute("type")).collect();
            assert!(types.contains(&"tls-exporter"), "{types:?}");
            assert!(features.find("starttls", "urn:ietf:params:xml:ns:xmpp-tls").is_none());
        },
    );
}

#[test]
fn a_wrong_password_is_told_and_may_be_tried_again() {
    on_each(|server| {
        server.accounts(&["juliet"]);
        let mut client = server.websocket();
        client.open_stream("localhost");
        assert!(client.authenticate_plain("juliet", "wrong").is("failure", SASL));
        assert!(client.authenticate_plain("juliet", &server_password("juliet")).is("success", SASL));
        client.open_stream("localhost");
        client.jid = client.bind("balcony");
        client.settle();
    });
}

#[test]
fn fragments_pings_and_signs_of_life_disturb_no_stanza() {
    on_each(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login_web("juliet", "balcony");
        let text = ping("fragments");
        let (front, back) = text.split_at(30);
        let bytes = [
            frame(0x81, b""),
            frame(0x81, b" \n"),
            frame(0x01, front.as_bytes()),
            frame(0x89, b"are you there"),
            frame(0x00, b""),
            frame(0x8A, b"unasked"),
            frame(0x80, back.as_bytes()),
            frame(0x81, ping("whole").as_bytes()),
        ]
        .concat();
        // Once in one piece, once by the byte.
        juliet.send_bytes(&bytes);
        for byte in &bytes {
            juliet.send_bytes(&[*byte]);
        }
        for _ in 0..2 {
            for id in ["fragments", "whole"] {
                let answer = juliet.expect("iq");
                assert_eq!((answer.attribute("id"), answer.attribute("type")), (Some(id), Some("result")));
            }
        }
        assert_eq!(juliet.frames().pongs, [b"are you there", b"are you there"]);
    });
}

#[test]
fn a_flood_of_messages_in_one_write_is_answered_in_order() {
    on_each(|server| {
        server.accounts(&["juliet"]);
        let mut juliet = server.login_web("juliet", "balcony");
        let bytes: Vec<u8> = (0..500).flat_map(|n| frame(0x81, ping(&n.to_string()).as_bytes())).collect();
        juliet.send_bytes(&bytes);
        for n in 0..500 {
            assert_eq!(juliet.expect("iq").attribute("id"), Some(&*n.to_string()));
        }
    });
}

#[test]
fn a_message_is_one_element_of_a_stream() {
    let open = format!("<open xmlns='{FRAMING}' to='localhost' version='1.0'/>");
    let table: [(&str, &[&str], &str); 10] = [
        ("two elements", &[&open, "<r xmlns='urn:xmpp:sm:3'/><r xmlns='urn:xmpp:sm:3'/>"], "bad-format"),
        ("an element and a half", &[&open, "<r xmlns='urn:xmpp:sm:3'/><iq"], "bad-format"),
        ("half an element", &[&open, "<iq type='set'", " id='x'/>"], "bad-format"),
        ("a stanza before the stream", &["<presence/>"], "bad-format"),
        ("a stream of TCP", &["<stream:stream to='localhost' version='1.0'>"], "bad-format"),
        ("the end of one", &[&open, "</stream:stream>"], "bad-format"),
        ("text", &[&open, "hello"], "bad-format"),
        (
            "no element of framing",
            &[&open, "<ajar xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>"],
            "bad-format",
        ),
        ("not well-formed", &[&open, "<a></b>"], "not-well-formed"),
        (
            "another domain",
            &["<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='x' version='1.0'/>"],
            "host-unknown",
        ),
    ];
    on_each(|server| {
        for (what, messages, condition) in table {
            eprintln!("{what}");
            let mut client = server.websocket();
            for message in messages {
                client.send(message);
            }
            client.expect_stream_error(condition);
            assert_eq!(client.frames().closed, Some(1000), "{what}");
        }
        // The end of a stream that has not begun.
        let mut client = server.websocket();
        client.send(&format!("<close xmlns='{FRAMING}'/>"));
        assert!(matches!(client.next(), Said::StreamClosed));
        expect_code(&mut client, 1000);
    });
}

#[test]
fn frames_against_the_rules_end_the_connection_and_not_the_session() {
    let unmasked = vec![0x81, 4, b'<', b'a', b'/', b'>'];
    let table = [
        ("no mask", unmasked, 1002),
        ("a reserved bit", frame(0xC1, b"<a/>"), 1002),
        ("an unknown opcode", frame(0x83, b"<a/>"), 1002),
        ("the rest of nothing", frame(0x80, b"<a/>"), 1002),
        ("a ping in fragments", frame(0x09, b"x"), 1002),
        ("binary", frame(0x82, b"<a/>"), 1003),
        ("a zero byte", frame(0x81, b"<a>\0</a>"), 1007),
        ("a close with half a code", frame(0x88, &[3]), 1002),
    ];
    on_each(|server| {
        server.accounts(&["juliet"]);
        for (what, bytes, code) in &table {
            eprintln!("{what}");
            let before = server.metric("refused.websocket_frames");
            let mut juliet = server.login_web("juliet", "balcony");
            let name = juliet.enable_sm();
            juliet.send_bytes(bytes);
            expect_code(&mut juliet, *code);
            assert_eq!(server.metric("refused.websocket_frames"), before + 1, "{what}");
            resume(server.websocket(), "juliet", &name, 0);
        }
    });
}

#[test]
fn a_message_that_is_too_long_ends_the_stream_before_it_has_come() {
    on_each_driver_with(
        |config| {
            with_http(config, false);
            config.limits.stanza_bytes = 10_000;
        },
        |server| {
            server.accounts(&["juliet"]);
            let mut juliet = server.login_web("juliet", "balcony");
            juliet.send_bytes(&[0x81, 0xFE, 0x27, 0x11, 0, 0, 0, 0, b'<']);
            juliet.expect_stream_error("policy-violation");
            assert_eq!(juliet.frames().closed, Some(1009));
            assert_eq!(server.metric("refused.websocket_bytes"), 1);
        },
    );
}

/// Logs in and goes on with an earlier stream, of which the server has handled so much.
fn resume(mut client: Client, name: &str, stream: &str, handled: u32) -> Client {
    client.open_stream("localhost");
    client.authenticate_plain(name, &server_password(name));
    client.open_stream("localhost");
    client.send(&format!("<resume xmlns='{SM}' previd='{stream}' h='0'/>"));
    let resumed = client.set_aside_until(|element| element.namespace() == SM && element.name() != "r");
    assert!(resumed.is("resumed", SM), "{resumed:?}");
    assert_eq!(resumed.attribute("h"), Some(&*handled.to_string()));
    client.jid = format!("{name}@localhost/balcony");
    client
}

#[test]
fn a_session_goes_on_over_the_other_transport_with_what_it_missed() {
    on_each(|server| {
        server.accounts(&["juliet", "romeo"]);
        let mut romeo = server.login("romeo", "orchard");
        for starts_on_web in [true, false] {
            let connect = |web| if web { server.websocket() } else { Client::connect(server.address()) };
            let mut juliet = connect(starts_on_web);
            juliet.log_in("juliet", &server_password("juliet"), "balcony");
            let name = juliet.enable_sm();
            juliet.send("<presence/>");
            juliet.await_handled(1);
            let before = server.metric("sm.detached");
            juliet.cut();
            server.await_metric("sm.detached", before + 1);
            romeo.send(&chat("juliet@localhost", "missed"));
            romeo.settle();
            let mut juliet = resume(connect(!starts_on_web), "juliet", &name, 1);
            assert_eq!(juliet.next_message(), "missed");
            romeo.send(&chat("juliet@localhost", "live"));
            assert_eq!(juliet.next_message(), "live");
            // A close in frames alone is like a cut.
            let mut juliet = resume(server.websocket(), "juliet", &name, 1);
            juliet.frames().send(Message::Close(None));
            expect_code(&mut juliet, 1000);
            let juliet = resume(connect(starts_on_web), "juliet", &name, 1);
            juliet.cut();
            server.await_metric("sm.detached", before + 1);
        }
    });
}

#[test]
fn a_server_that_stops_says_where_to_go_on() {
    on_each_driver_with(
        |config| {
            with_http(config, false);
            config.http.see_other_uri = "wss://other.example/ws?a=1&b=2".into();
        },
        |server| {
            server.accounts(&["juliet"]);
            let mut juliet = server.login_web("juliet", "balcony");
            let mut stranger = server.websocket();
            stranger.open_stream("localhost");
            server.server.drain(true);
            for client in [&mut juliet, &mut stranger] {
                client.expect_stream_error("system-shutdown");
                assert_eq!(client.frames().elsewhere.as_deref(), Some("wss://other.example/ws?a=1&b=2"));
                assert_eq!(client.frames().closed, Some(1000));
            }
        },
    );
}

#[test]
fn limits_of_connections_hold_for_it() {
    on_each_driver_with(
        |config| {
            with_http(config, false);
            config.limits.sessions_per_address = 2;
        },
        |server| {
            server.accounts(&["juliet"]);
            let _kept = (server.login_web("juliet", "one"), server.login("juliet", "two"));
            // The handshake is over when the place is looked for.
            expect_code(&mut server.websocket(), 1013);
            assert_eq!(server.metric("refused.sessions_per_address"), 1);
            assert_eq!(server.metric("websocket.connections"), 1);
        },
    );
}

#[test]
fn what_comes_with_the_handshake_is_not_lost() {
    on_each(|server| {
        let mut carrier = Carrier::connect(server.http_address(), None);
        let open = format!("<open xmlns='{FRAMING}' to='localhost' version='1.0'/>");
        let handshake = "GET /xmpp-websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n";
        // No client may, but nothing is to be taken for HTTP because of it.
        carrier.write_all(&[handshake.as_bytes(), &frame(0x81, open.as_bytes())].concat()).unwrap();
        carrier.tcp().set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heard = Vec::new();
        while !heard.windows(10).any(|bytes| bytes == b"</stream:f") {
            let mut buffer = [0; 1024];
            let count = carrier.read(&mut buffer).unwrap();
            assert!(count > 0, "{}", heard.escape_ascii());
            heard.extend_from_slice(&buffer[..count]);
        }
        let text = heard.escape_ascii().to_string();
        assert!(text.starts_with("HTTP/1.1 101 ") && text.contains("<open "), "{text}");
    });
}
