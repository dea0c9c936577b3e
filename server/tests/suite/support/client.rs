//! A client that shows each byte it is asked to, blocking and simple.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tungstenite::Message;
use whimbrel_server::xml::{Element, Frame, Framer, Limits, Partial, Phase};

use super::PATIENCE;
use super::bosh::Bosh;
use super::managed::SM;
use super::tls::TlsStream;
use super::websocket::{Carrier, Frames};

const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const STREAMS: &str = "http://etherx.jabber.org/streams";

static FENCES: AtomicU32 = AtomicU32::new(0);

/// What the server said.
#[derive(Debug)]
pub(crate) enum Said {
    /// A stream header.
    Header,
    /// A first-level element.
    Element(Element),
    /// `</stream:stream>`
    StreamClosed,
    /// The connection has ended.
    Ended,
}

/// What the client's bytes go through.
enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
    WebSocket(Box<Frames>),
    Bosh(Box<Bosh>),
    /// Only while STARTTLS changes one into the other.
    Changing,
}

impl Wire {
    fn tcp(&self) -> &TcpStream {
        match self {
            Wire::Plain(socket) => socket,
            Wire::Tls(tls) => &tls.sock,
            Wire::WebSocket(frames) => frames.tcp(),
            Wire::Bosh(bosh) => bosh.tcp(),
            Wire::Changing => unreachable!("nobody else looks while it changes"),
        }
    }

    fn stream(&mut self) -> &mut dyn ReadWrite {
        match self {
            Wire::Plain(socket) => socket,
            Wire::Tls(tls) => &mut **tls,
            Wire::WebSocket(frames) => frames.carrier(),
            Wire::Bosh(bosh) => bosh.raw(),
            Wire::Changing => unreachable!("nobody else looks while it changes"),
        }
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// A connection to the server.
pub(crate) struct Client {
    wire: Wire,
    framer: Framer,
    partial: Option<Box<Partial>>,
    input: Vec<u8>,
    in_stream: bool,
    unseen: VecDeque<Element>,
    /// The full JID once bound.
    pub(crate) jid: String,
}

impl Client {
    /// Connects and says nothing.
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let socket = TcpStream::connect(address).expect("the server listens");
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Client::over(Wire::Plain(socket))
    }

    /// As [`Client::connect`], from another address of the loopback network, which Linux has.
    pub(crate) fn connect_from(source: [u8; 4], address: SocketAddr) -> Client {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).expect("an address of the loopback network");
        socket.connect(&address.into()).expect("the server listens");
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Client::over(Wire::Plain(socket))
    }

    /// Connects with direct TLS (XEP-0368), trusting this certificate.
    pub(crate) fn connect_tls(address: SocketAddr, certificate: &Path) -> Client {
        let mut client = Client::connect(address);
        client.wrap_in_tls(certificate);
        client
    }

    /// Connects over WebSocket: everything is sent in messages from now on, and heard from them.
    pub(crate) fn connect_websocket(address: SocketAddr, certificate: Option<&Path>) -> Client {
        let frames = Frames::begin(Carrier::connect(address, certificate), &[]);
        Client::over_frames(frames.expect("a WebSocket"))
    }

    /// Over a WebSocket that has begun.
    pub(crate) fn over_frames(frames: Frames) -> Client {
        Client::over(Wire::WebSocket(Box::new(frames)))
    }

    /// Its frames, where it speaks WebSocket.
    pub(crate) fn frames(&mut self) -> &mut Frames {
        match &mut self.wire {
            Wire::WebSocket(frames) => frames,
            _ => panic!("the client does not speak WebSocket"),
        }
    }

    /// Over a session of BOSH that is to begin.
    pub(crate) fn over_bosh(bosh: Bosh) -> Client {
        Client::over(Wire::Bosh(Box::new(bosh)))
    }

    /// Its session, where it speaks BOSH.
    pub(crate) fn bosh(&mut self) -> &mut Bosh {
        match &mut self.wire {
            Wire::Bosh(bosh) => bosh,
            _ => panic!("the client does not speak BOSH"),
        }
    }

    fn over(wire: Wire) -> Client {
        Client {
            wire,
            framer: Framer::new(),
            partial: None,
            input: Vec::new(),
            in_stream: false,
            unseen: VecDeque::new(),
            jid: String::new(),
        }
    }

    /// The socket, for what only a bad client does.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.wire.tcp()
    }

    /// The TLS connection.
    pub(crate) fn tls(&mut self) -> &mut TlsStream {
        match &mut self.wire {
            Wire::Tls(tls) => tls,
            _ => panic!("the client has not begun TLS"),
        }
    }

    fn wrap_in_tls(&mut self, certificate: &Path) {
        let Wire::Plain(socket) = std::mem::replace(&mut self.wire, Wire::Changing) else {
            panic!("the client is inside TLS already");
        };
        self.wire = Wire::Tls(Box::new(super::tls::begin(socket, certificate)));
    }

    /// STARTTLS on an open stream (RFC 6120 §5), trusting this certificate. The stream is to be opened anew.
    pub(crate) fn start_tls(&mut self, certificate: &Path) {
        self.start_tls_with("", "", certificate);
    }

    /// As [`Client::start_tls`], with something behind the request in the same write, and something after the answer.
    pub(crate) fn start_tls_with(&mut self, behind: &str, later: &str, certificate: &Path) {
        self.send(&format!("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>{behind}"));
        let proceed = self.stanza();
        assert!(proceed.is("proceed", "urn:ietf:params:xml:ns:xmpp-tls"), "{proceed:?}");
        self.send(later);
        self.wrap_in_tls(certificate);
    }

    /// Sends text as it is.
    pub(crate) fn send(&mut self, text: &str) {
        match &mut self.wire {
            Wire::WebSocket(frames) => frames.send(Message::text(text)),
            Wire::Bosh(bosh) => bosh.send(text),
            _ => self.send_bytes(text.as_bytes()),
        }
    }

    /// Sends bytes as they are, below any frames.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.wire.stream().write_all(bytes).expect("the server takes what it is sent");
    }

    /// The next thing that the server says, elements that a fence has set aside first.
    pub(crate) fn next(&mut self) -> Said {
        match self.unseen.pop_front() {
            Some(element) => Said::Element(element),
            None => self.receive(),
        }
    }

    fn receive(&mut self) -> Said {
        if let Wire::WebSocket(frames) = &mut self.wire {
            return frames.receive();
        }
        if let Wire::Bosh(bosh) = &mut self.wire {
            return bosh.receive();
        }
        let limits = Limits {
            stanza_bytes_max: 16 << 20,
            depth_max: 1000,
            attributes_max: 1000,
            header_bytes_max: 1 << 16,
        };
        loop {
            let phase = if self.in_stream { Phase::InStream } else { Phase::BeforeHeader };
            let (consumed, said) =
                match self.framer.next(phase, None, &mut self.partial, &self.input, &limits) {
                    Ok((consumed, frame)) => {
                        let said = frame.map(|frame| match frame {
                            Frame::StreamOpen(_) => Said::Header,
                            Frame::Stanza(stanza) => Said::Element(stanza.to_element()),
                            Frame::StreamClose => Said::StreamClosed,
                        });
                        (consumed, said)
                    }
                    Err(error) => {
                        panic!("the server sent bad XML: {error:?} in {}", self.input.escape_ascii())
                    }
                };
            self.input.drain(..consumed);
            if let Some(said) = said {
                match said {
                    Said::Header => self.in_stream = true,
                    Said::StreamClosed => self.in_stream = false,
                    _ => {}
                }
                return said;
            }
            let mut buffer = [0; 4096];
            match self.wire.stream().read(&mut buffer) {
                Ok(0) => return Said::Ended,
                Ok(n) => self.input.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Said::Ended,
                // TLS without a goodbye.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Said::Ended,
                Err(error) => panic!("{}: nothing came from the server: {error}", self.jid),
            }
        }
    }

    /// The next first-level element.
    pub(crate) fn stanza(&mut self) -> Element {
        match self.next() {
            Said::Element(element) => element,
            other => panic!("{}: expected a stanza, got {other:?}", self.jid),
        }
    }

    /// The next stanza with this name, which must come before any other. That the server asks for an acknowledgement,
    /// as it may at any time, is passed over.
    pub(crate) fn expect(&mut self, name: &str) -> Element {
        let mut stanza = self.stanza();
        while stanza.is("r", SM) {
            stanza = self.stanza();
        }
        assert_eq!(stanza.name(), name, "{}: {stanza:?}", self.jid);
        stanza
    }

    /// Opens a stream; returns the server's features.
    pub(crate) fn open_stream(&mut self, domain: &str) -> Element {
        self.send_header(domain);
        assert!(matches!(self.next(), Said::Header), "the server answers with a header");
        self.stanza()
    }

    /// Sends a stream header.
    pub(crate) fn send_header(&mut self, domain: &str) {
        self.in_stream = false;
        if let Wire::Bosh(bosh) = &mut self.wire {
            return bosh.open(domain);
        }
        if matches!(self.wire, Wire::WebSocket(_)) {
            let framing = "urn:ietf:params:xml:ns:xmpp-framing";
            return self.send(&format!("<open xmlns='{framing}' to='{domain}' version='1.0'/>"));
        }
        self.send(&format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='{STREAMS}' \
             to='{domain}' version='1.0'>"
        ));
    }

    /// SASL PLAIN on an open stream; the server's answer.
    pub(crate) fn authenticate_plain(&mut self, name: &str, password: &str) -> Element {
        let message = STANDARD.encode(format!("\0{name}\0{password}"));
        self.send(&format!("<auth xmlns='{SASL}' mechanism='PLAIN'>{message}</auth>"));
        self.stanza()
    }

    /// Binds a resource on an authenticated stream; the full JID.
    pub(crate) fn bind(&mut self, resource: &str) -> String {
        self.send(&format!(
            "<iq type='set' id='bind'><bind xmlns='{BIND}'><resource>{resource}</resource></bind></iq>"
        ));
        let result = self.expect("iq");
        assert_eq!(result.attribute("type"), Some("result"), "{result:?}");
        let jid = result.find("bind", BIND).and_then(|bind| bind.find("jid", BIND)).expect("a JID");
        jid.content().into_owned()
    }

    /// Everything from the first header to a bound resource.
    pub(crate) fn log_in(&mut self, name: &str, password: &str, resource: &str) {
        self.open_stream("localhost");
        let answer = self.authenticate_plain(name, password);
        assert!(answer.is("success", SASL), "{answer:?}");
        self.open_stream("localhost");
        self.jid = self.bind(resource);
    }

    /// Sends an iq with this child and returns the answer; other stanzas that come before it are set aside.
    pub(crate) fn ask(&mut self, typ: &str, to: Option<&str>, child: &str) -> Element {
        let id = format!("ask{}", FENCES.fetch_add(1, Ordering::Relaxed));
        let to = to.map(|to| format!(" to='{to}'")).unwrap_or_default();
        self.send(&format!("<iq type='{typ}' id='{id}'{to}>{child}</iq>"));
        self.set_aside_until(|stanza| stanza.name() == "iq" && stanza.attribute("id") == Some(&id))
    }

    /// Waits until the server has handled everything that this client has sent.
    pub(crate) fn settle(&mut self) {
        let pong = self.ask("get", Some("localhost"), "<ping xmlns='urn:xmpp:ping'/>");
        assert_eq!(pong.attribute("type"), Some("result"), "{pong:?}");
    }

    /// Waits until everything that this client has caused so far by stanzas to `other` has reached `other`: what
    /// goes from one to the other keeps its order. Everything that came is kept for [`Client::next`] and [`Client::quiet`].
    pub(crate) fn fence(&mut self, other: &mut Client) {
        let id = format!("fence{}", FENCES.fetch_add(1, Ordering::Relaxed));
        let to = other.jid.clone();
        self.send(&format!("<message type='normal' to='{to}' id='{id}'/>"));
        other.set_aside_until(|stanza| stanza.name() == "message" && stanza.attribute("id") == Some(&id));
    }

    /// Waits for a stanza; those before it are set aside.
    pub(crate) fn set_aside_until(&mut self, wanted: impl Fn(&Element) -> bool) -> Element {
        loop {
            match self.receive() {
                Said::Element(element) if wanted(&element) => return element,
                Said::Element(element) if element.is("r", SM) => {}
                Said::Element(element) => self.unseen.push_back(element),
                other => panic!("{}: waited for a stanza, got {other:?}", self.jid),
            }
        }
    }

    /// What has been set aside: empties it.
    pub(crate) fn quiet(&mut self) -> Vec<Element> {
        self.unseen.drain(..).collect()
    }

    /// Takes what has been set aside and is wanted, and leaves the rest.
    pub(crate) fn take_aside(&mut self, wanted: impl Fn(&Element) -> bool) -> Vec<Element> {
        let (taken, left): (Vec<Element>, Vec<Element>) = self.unseen.drain(..).partition(wanted);
        self.unseen.extend(left);
        taken
    }

    /// The stream must end with this error and be closed; stanzas before it are passed over.
    pub(crate) fn expect_stream_error(&mut self, condition: &str) {
        loop {
            match self.next() {
                Said::Element(element) if element.is("error", STREAMS) => {
                    let found: Vec<_> = element.elements().map(|child| child.name().to_owned()).collect();
                    assert!(
                        found.iter().any(|name| name == condition),
                        "{condition} expected, got {found:?}"
                    );
                    break;
                }
                Said::Element(_) | Said::Header => {}
                other => panic!("stream error {condition} expected, got {other:?}"),
            }
        }
        self.expect_close();
    }

    /// As [`Client::expect_stream_error`], whatever the condition.
    pub(crate) fn expect_some_stream_error(&mut self) {
        loop {
            match self.next() {
                Said::Element(element) if element.is("error", STREAMS) => break,
                Said::Element(_) | Said::Header => {}
                other => panic!("a stream error expected, got {other:?}"),
            }
        }
        self.expect_close();
    }

    /// As [`Client::expect_stream_error`], but the connection may also be reset first: TCP drops what was sent
    /// when the receiver closes without having read everything.
    pub(crate) fn expect_stream_error_or_reset(&mut self, condition: &str) {
        loop {
            match self.next() {
                Said::Element(element) if element.is("error", STREAMS) => {
                    assert!(element.elements().any(|child| child.name() == condition), "{element:?}");
                    return self.expect_close();
                }
                Said::Element(_) | Said::Header => {}
                Said::Ended => return,
                other @ Said::StreamClosed => panic!("stream error {condition} expected, got {other:?}"),
            }
        }
    }

    /// The stream and the connection must be closed now.
    pub(crate) fn expect_close(&mut self) {
        assert!(matches!(self.next(), Said::StreamClosed), "the stream is closed");
        assert!(matches!(self.next(), Said::Ended), "the connection is closed");
    }

    /// Cuts the connection.
    pub(crate) fn cut(self) {
        // A peer that is gone already makes this fail, and is what was wanted.
        let _ = self.wire.tcp().shutdown(Shutdown::Both);
    }
}
