//! How the elements of a stream become bytes for its client, whatever carries them.
//!
//! Nobody else appends bytes to a connection: what is sent is a stream header, whole first-level elements, a stream error, or
//! the end of the stream. So each of these is written in one place, and a transport can frame them.
//!
//! | module | framing |
//! | --- | --- |
//! | [`tcp`] | one document: elements follow one another inside `<stream:stream>` (RFC 6120 §4.2) |
//!
//! WebSocket (RFC 7395) will be a second [`Transport`]: one element a message, with the namespaces declared that it has from
//! the stream's header here; `<open/>` and `<close/>` in place of header and end. The functions below are told enough for that.

pub mod tcp;

use crate::proto::errors::StreamCondition;

/// What carries a stream.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// A TCP connection, with TLS or without.
    #[default]
    Tcp,
}

// As long as there is one kind, knowing it costs a session nothing.
const _: () = assert!(size_of::<Transport>() == 0);

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
}

impl<'a> Output<'a> {
    /// Appends to the bytes of a connection.
    #[inline]
    pub fn new(transport: Transport, bytes: &'a mut Vec<u8>) -> Output<'a> {
        Output { transport, bytes }
    }

    /// One first-level element, which `write` appends as it stands in a stream whose default namespace is `jabber:client` and
    /// whose prefix `stream` is declared.
    #[inline]
    pub fn element(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.bytes.len();
        match self.transport {
            Transport::Tcp => write(self.bytes),
        }
        debug_assert!(is_element(&self.bytes[before..]), "not a whole element");
    }

    /// As [`element`](Output::element), of one that is written already.
    #[inline]
    pub fn written(&mut self, element: &[u8]) {
        debug_assert!(is_element(element), "not a whole element");
        match self.transport {
            Transport::Tcp => self.bytes.extend_from_slice(element),
        }
    }

    /// The stream begins, or begins anew.
    pub fn header(&mut self, header: &Header<'_>) {
        match self.transport {
            Transport::Tcp => tcp::write_header(header, self.bytes),
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
        match self.transport {
            Transport::Tcp => self.bytes.extend_from_slice(tcp::END),
        }
    }
}

/// The check of a debugging build: whole, as far as a look at both ends can tell.
fn is_element(bytes: &[u8]) -> bool {
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
