//! How the elements of a stream become bytes for its client, whatever carries them.
//!
//! Nobody else appends bytes to a connection: what is sent is a stream header, whole first-level elements, a stream error, or
//! the end of the stream. So each of these is written in one place, and a transport can frame them.
//!
//! | module | framing |
//! | --- | --- |
//! | [`tcp`] | one document: elements follow one another inside `<stream:stream>` (RFC 6120 §4.2) |
//! | [`websocket`] | a message for each element, with the namespaces declared that it has from the stream's header over TCP; `<open/>` and `<close/>` in place of header and end (RFC 7395) |

pub mod tcp;
pub mod websocket;

use whimbrel_websocket::{Code, encode};

use crate::proto::errors::StreamCondition;

/// What carries a stream.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// A TCP connection, with TLS or without.
    #[default]
    Tcp,
    /// WebSocket, with TLS or without.
    WebSocket,
}

impl Transport {
    /// Its name, for operators.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::WebSocket => "websocket",
        }
    }
}

/// What the server says of itself when a stream begins (RFC 6120 §4.7).
#[derive(Copy, Clone, Debug)]
pub struct Header<'a> {
    /// The domain.
    pub from: &'a str,
    /// The stream's id.
    pub id: &'a str,
    /// What the client has said that it is, if it has.
    pub to: Option<&'a str>,
}

/// Where the elements of one stream go.
pub struct Output<'a> {
    transport: Transport,
    bytes: &'a mut Vec<u8>,
    /// What the last frame says, where there are frames.
    code: Code,
}

impl<'a> Output<'a> {
    /// Appends to the bytes of a connection.
    #[inline]
    pub fn new(transport: Transport, bytes: &'a mut Vec<u8>) -> Output<'a> {
        Output { transport, bytes, code: Code::NORMAL }
    }

    /// One first-level element, which `write` appends as it stands in a stream whose default namespace is `jabber:client` and
    /// whose prefix `stream` is declared.
    #[inline]
    pub fn element(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        match self.transport {
            Transport::Tcp => {
                let before = self.bytes.len();
                write(self.bytes);
                debug_assert!(is_element(&self.bytes[before..]), "not a whole element");
            }
            Transport::WebSocket => websocket::write_element(write, self.bytes),
        }
    }

    /// As [`element`](Output::element), of one that is written already.
    #[inline]
    pub fn written(&mut self, element: &[u8]) {
        debug_assert!(is_element(element), "not a whole element");
        match self.transport {
            Transport::Tcp => self.bytes.extend_from_slice(element),
            Transport::WebSocket => {
                websocket::write_element(|out| out.extend_from_slice(element), self.bytes);
            }
        }
    }

    /// The stream begins, or begins anew.
    pub fn header(&mut self, header: &Header<'_>) {
        match self.transport {
            Transport::Tcp => tcp::write_header(header, self.bytes),
            Transport::WebSocket => websocket::write_open(header, self.bytes),
        }
    }

    /// Why the stream ends (RFC 6120 §4.9), with a text for people if there is any. [`end`](Output::end) follows.
    pub fn error(&mut self, condition: StreamCondition, text: Option<&str>) {
        self.element(|out| condition.write(text, out));
    }

    /// As [`error`](Output::error), with an application-specific condition (§4.9.4).
    pub fn error_with(&mut self, condition: StreamCondition, application: impl FnOnce(&mut Vec<u8>)) {
        self.element(|out| condition.write_with_application(application, out));
    }

    /// The server's half of the stream ends (§4.4).
    pub fn end(&mut self) {
        self.end_elsewhere("");
    }

    /// As [`end`](Output::end); a client that can be told so is to go on at another URI, unless that is empty.
    pub fn end_elsewhere(&mut self, uri: &str) {
        match self.transport {
            Transport::Tcp => self.bytes.extend_from_slice(tcp::END),
            Transport::WebSocket => {
                websocket::write_close(uri, self.bytes);
                self.close_frame(self.code);
            }
        }
    }

    /// The code of the last frame, if it is to be another than 1000.
    pub fn set_code(&mut self, code: Code) {
        self.code = code;
    }

    /// The connection of a WebSocket ends. Nothing may follow.
    pub fn close_frame(&mut self, code: Code) {
        if self.transport == Transport::WebSocket {
            encode::close(code, self.bytes);
        }
    }

    /// Answers a ping of WebSocket.
    pub fn pong(&mut self, payload: &[u8]) {
        if self.transport == Transport::WebSocket {
            encode::pong(payload, self.bytes);
        }
    }
}

/// Whether an element that [`Output`] has written is the error of its stream.
pub fn is_stream_error(element: &[u8]) -> bool {
    element.starts_with(b"<stream:error")
}

/// The check of a debugging build: whole, as far as a look at both ends can tell.
pub(super) fn is_element(bytes: &[u8]) -> bool {
    let last_tag = memchr::memrchr(b'<', bytes).map_or(&[][..], |at| &bytes[at..]);
    bytes.starts_with(b"<")
        && (bytes.ends_with(b"/>") || last_tag.starts_with(b"</") && last_tag.ends_with(b">"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::{Element, Frame, Framer, Limits, Phase, StreamNamespaces};

    /// What a client reads of the bytes: the names of frames, in order.
    fn read(bytes: &[u8]) -> Vec<String> {
        let (mut framer, limits) = (Framer::new(), Limits::default());
        let (mut phase, mut at, mut partial) = (Phase::BeforeHeader, 0, None);
        let none: Option<&StreamNamespaces> = None;
        let mut names = Vec::new();
        while at < bytes.len() {
            let (used, frame) =
                framer.next(phase, none, &mut partial, &bytes[at..], &limits).expect("a stream");
            at += used;
            names.push(match frame.expect("a frame") {
                Frame::StreamOpen(header) => {
                    format!(
                        "open from {:?} to {:?}",
                        header.from.unwrap_or_default(),
                        header.to.unwrap_or_default()
                    )
                }
                Frame::Stanza(stanza) => format!("{} of {}", stanza.name(), stanza.namespace()),
                Frame::StreamClose => "close".to_owned(),
            });
            phase = Phase::InStream;
        }
        names
    }

    #[test]
    fn a_stream_over_tcp_is_one_document() {
        let mut bytes = Vec::new();
        let mut out = Output::new(Transport::Tcp, &mut bytes);
        out.header(&Header { from: "x", id: "a'b", to: Some("<j@x>") });
        out.element(|out| Element::new("message", "jabber:client").write("jabber:client", out));
        out.written(b"<r xmlns='urn:xmpp:sm:3'/>");
        out.error(StreamCondition::Reset, Some("a < b"));
        out.end();
        assert_eq!(
            read(&bytes),
            [
                "open from \"x\" to \"<j@x>\"",
                "message of jabber:client",
                "r of urn:xmpp:sm:3",
                "error of http://etherx.jabber.org/streams",
                "close",
            ]
        );
    }

    /// What a client reads of frames: the text of messages, and the code of the close.
    fn messages(mut bytes: &[u8]) -> (Vec<String>, Option<u16>) {
        let mut texts = Vec::new();
        while let [first, length, rest @ ..] = bytes {
            let (length, rest) = match length {
                126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
                127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize, &rest[8..]),
                length => (usize::from(*length), rest),
            };
            let (payload, behind) = rest.split_at(length);
            bytes = behind;
            match first {
                0x81 => texts.push(String::from_utf8(payload.to_vec()).unwrap()),
                0x88 => {
                    assert!(bytes.is_empty(), "nothing follows a close");
                    return (texts, Some(u16::from_be_bytes([payload[0], payload[1]])));
                }
                other => panic!("a frame of kind {other:#x}"),
            }
        }
        (texts, None)
    }

    #[test]
    fn a_stream_over_websocket_is_a_message_for_each_element() {
        let mut bytes = Vec::new();
        let mut out = Output::new(Transport::WebSocket, &mut bytes);
        out.header(&Header { from: "x", id: "a'b", to: Some("<j@x>") });
        out.element(|out| Element::new("message", "jabber:client").write("jabber:client", out));
        out.written(b"<r xmlns='urn:xmpp:sm:3'/>");
        out.error(StreamCondition::Reset, Some("a < b"));
        out.set_code(Code(4000));
        out.end_elsewhere("wss://y/?a=1&b=2");
        let (texts, code) = messages(&bytes);
        let elements: Vec<_> =
            texts.iter().map(|text| Element::parse(text.as_bytes()).expect(text)).collect();
        let names: Vec<_> = elements.iter().map(|element| (element.name(), element.namespace())).collect();
        let framing = "urn:ietf:params:xml:ns:xmpp-framing";
        assert_eq!(
            names,
            [
                ("open", framing),
                ("message", "jabber:client"),
                ("r", "urn:xmpp:sm:3"),
                ("error", "http://etherx.jabber.org/streams"),
                ("close", framing),
            ]
        );
        let open = |name| elements[0].attribute(name);
        assert_eq!((open("from"), open("to"), open("id")), (Some("x"), Some("<j@x>"), Some("a'b")));
        assert_eq!((open("version"), elements[0].lang()), (Some("1.0"), Some("en")));
        assert_eq!(elements[4].attribute("see-other-uri"), Some("wss://y/?a=1&b=2"));
        assert_eq!(code, Some(4000));
        // What the test reads with would take a declaration for granted; a browser does not.
        assert!(texts[1].contains(" xmlns='jabber:client'"), "{}", texts[1]);
        assert!(texts[3].contains(" xmlns:stream='http://etherx.jabber.org/streams'"), "{}", texts[3]);
        assert!(!texts[2].contains("jabber:client"), "{}", texts[2]);
    }

    #[test]
    fn an_error_may_say_more() {
        let mut bytes = Vec::new();
        let mut out = Output::new(Transport::Tcp, &mut bytes);
        out.error_with(StreamCondition::UndefinedCondition, |out| {
            out.extend_from_slice(b"<more xmlns='urn:m'/>");
        });
        let error = Element::parse(&bytes).expect("an element");
        assert!(error.find("more", "urn:m").is_some());
        assert!(error.find("undefined-condition", "urn:ietf:params:xml:ns:xmpp-streams").is_some());
    }

    #[test]
    #[should_panic(expected = "not a whole element")]
    fn half_an_element_is_noticed() {
        Output::new(Transport::Tcp, &mut Vec::new()).written(b"<message><body>");
    }
}
