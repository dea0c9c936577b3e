//! Our frames against those of tungstenite, which shares no code with us.

use std::io::{self, Read, Write};

use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket as Theirs};

use super::*;

/// Both ways of a connection, in memory.
#[derive(Default)]
struct Pipe {
    to_server: Vec<u8>,
    from_server: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.to_server.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = buffer.len().min(self.to_server.len());
        buffer[..count].copy_from_slice(&self.to_server[..count]);
        self.to_server.drain(..count);
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.from_server.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection whose handshake is through, without one.
fn open(framer: &mut Framer) -> WebSocket {
    let (mut web, _) = WebSocket::begin("localhost", "/", framer);
    web.nonce = None;
    web
}

fn server(to_server: &[u8]) -> Theirs<Pipe> {
    let pipe = Pipe { to_server: to_server.to_vec(), from_server: Vec::new() };
    Theirs::from_raw_socket(pipe, Role::Server, Some(WebSocketConfig::default()))
}

fn said(framer: &mut Framer, web: &mut WebSocket, text: &str) -> Vec<Message> {
    let bytes = framer.frame(web, text.as_bytes()).unwrap().to_vec();
    let mut server = server(&bytes);
    std::iter::from_fn(|| server.read().ok()).collect()
}

#[test]
#[expect(clippy::result_large_err, reason = "what tungstenite wants of its callback")]
fn a_handshake_and_all_kinds_of_frames_are_read_in_any_pieces() {
    let mut framer = Framer::new().unwrap();
    for piece in [1, 2, 3, 5, 7, 64, 1000, 1_000_000] {
        let (mut web, request) = WebSocket::begin("localhost:5280", "/xmpp-websocket", &mut framer);
        assert_eq!(framer.frame(&mut web, request.as_bytes()).unwrap(), request.as_bytes(), "left as it is");
        let pipe = Pipe { to_server: request.into_bytes(), from_server: Vec::new() };
        let checked = |request: &Request, mut response: Response| {
            assert_eq!(request.uri().path(), "/xmpp-websocket");
            assert_eq!(request.headers()["Host"], "localhost:5280");
            assert_eq!(request.headers()["Sec-WebSocket-Protocol"], "xmpp");
            response.headers_mut().insert("Sec-WebSocket-Protocol", "xmpp".parse().unwrap());
            Ok(response)
        };
        let mut server = tungstenite::accept_hdr(pipe, checked).unwrap();
        let long = [125, 126, 127, 65_535, 65_536, 200_000].map(|length| "x".repeat(length));
        for text in &long {
            server.send(Message::text(text.clone())).unwrap();
        }
        let fragment = |text: &str, data: Data, last: bool| {
            Message::Frame(Frame::message(text.as_bytes().to_vec(), OpCode::Data(data), last))
        };
        server.send(fragment("<message><bo", Data::Text, false)).unwrap();
        server.send(Message::Ping(b"are you there".to_vec().into())).unwrap();
        server.send(fragment("", Data::Continue, false)).unwrap();
        server.send(Message::Pong(Vec::new().into())).unwrap();
        server.send(fragment("dy/></message>", Data::Continue, true)).unwrap();
        server.send(Message::text("<close/>")).unwrap();
        server.send(Message::Close(Some(CloseFrame { code: 1000.into(), reason: "done".into() }))).unwrap();
        let mut text = Vec::new();
        for bytes in server.get_mut().from_server.chunks_mut(piece) {
            let count = web.take(bytes).unwrap();
            text.extend_from_slice(&bytes[..count]);
        }
        let expected = long.concat() + "<message><body/></message><close/>";
        assert!(text == expected.as_bytes(), "pieces of {piece}: {} bytes", text.len());
        assert!(web.is_open() && web.has_ended());
        assert_eq!(web.pong.as_deref(), Some(&b"are you there"[..]));
    }
}

#[test]
fn each_element_becomes_a_message_and_a_stanza_has_its_namespace() {
    let mut framer = Framer::new().unwrap();
    let mut web = open(&mut framer);
    let stream = "<?xml version='1.0'?><stream:stream to='a.example' version='1.0' xmlns='jabber:client' \
        xmlns:stream='http://etherx.jabber.org/streams'><auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/><presence/>\
        <message to='x'><body>é &gt;</body></message><r xmlns='urn:xmpp:sm:3'/>\
        <iq id='1' type='get'><message/></iq></stream:stream>";
    let messages = said(&mut framer, &mut web, stream);
    let (close, texts) = messages.split_last().unwrap();
    let texts: Vec<&str> = texts.iter().map(|message| message.to_text().unwrap()).collect();
    assert_eq!(
        texts,
        [
            "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' version='1.0' to='a.example'/>",
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
            "<presence xmlns='jabber:client'/>",
            "<message xmlns='jabber:client' to='x'><body>é &gt;</body></message>",
            "<r xmlns='urn:xmpp:sm:3'/>",
            "<iq xmlns='jabber:client' id='1' type='get'><message/></iq>",
            "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>",
        ]
    );
    assert!(matches!(close, Message::Close(Some(frame)) if u16::from(frame.code) == 1000), "{close:?}");
    assert!(framer.frame(&mut web, b"<message>").is_err(), "half an element");
}

#[test]
fn frames_of_every_length_have_the_header_for_it() {
    let mut framer = Framer::new().unwrap();
    let mut web = open(&mut framer);
    for length in [4, 7, 125, 126, 127, 65_535, 65_536, 100_000] {
        let element = format!("<{}/>", "a".repeat(length - 3));
        let [message] = &said(&mut framer, &mut web, &element)[..] else { panic!("not one: {length}") };
        assert!(message.to_text().is_ok_and(|text| text == element), "{length}");
    }
}

#[test]
fn a_ping_is_answered_once_with_what_it_said() {
    let mut framer = Framer::new().unwrap();
    let mut web = open(&mut framer);
    let mut ping = *b"\x89\x02hi";
    assert_eq!(web.take(&mut ping), Ok(0));
    let messages = said(&mut framer, &mut web, "<presence/>");
    assert_eq!(messages[0], Message::Pong(b"hi".to_vec().into()));
    assert_eq!(messages.len(), 2);
    assert!(said(&mut framer, &mut web, "").is_empty());
}

#[test]
fn no_two_frames_have_one_mask() {
    let mut framer = Framer::new().unwrap();
    let mut web = open(&mut framer);
    let bytes = framer.frame(&mut web, b"<a/><a/><a/>").unwrap();
    let keys: std::collections::BTreeSet<&[u8]> = bytes.chunks(10).map(|frame| &frame[2..6]).collect();
    assert_eq!((bytes.len(), keys.len()), (30, 3));
}

#[test]
fn frames_that_may_not_be_end_the_connection() {
    let mut framer = Framer::new().unwrap();
    for (bytes, told) in [
        (&b"\x81\x81mask "[..], "with a mask"),
        (b"\xC1\x01x", "extension"),
        (b"\x82\x01x", "may not be"),
        (b"\x83\x01x", "may not be"),
        (b"\x09\x01x", "may not be"),
        (b"\x89\x7E\x00\x7Ex", "may not be"),
        (b"\x80\x01x", "out of order"),
        (b"\x01\x01x\x81\x01x", "out of order"),
        (b"\x81\x7F\x80\x00\x00\x00\x00\x00\x00\x00", "are the most"),
        (b"\x81\x7F\x00\x00\x00\x00\x01\x00\x00\x00", "are the most"),
    ] {
        let problem = open(&mut framer).take(&mut bytes.to_vec()).unwrap_err();
        assert!(problem.contains(told), "{bytes:?}: {problem}");
    }
    let (mut web, _) = WebSocket::begin("localhost", "/", &mut framer);
    let problem = web.take(&mut b"<stream:error>".to_vec()).unwrap_err();
    assert!(problem.contains("does not speak HTTP") && problem.contains("<stream:error>"), "{problem}");
}
