//! The client's side of WebSocket: tungstenite, which shares no code with the server's.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use tungstenite::client::{ClientRequestBuilder, client};
use tungstenite::error::ProtocolError;
use tungstenite::{Error, Message, WebSocket};
use whimbrel_server::xml::Element;

use super::PATIENCE;
use super::client::Said;
use super::tls::{self, TlsStream};

const FRAMING: &str = "urn:ietf:params:xml:ns:xmpp-framing";

/// What frames go over.
pub(crate) enum Carrier {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl Carrier {
    /// Connects to an HTTP server, with TLS if a certificate is trusted.
    pub(crate) fn connect(address: SocketAddr, certificate: Option<&Path>) -> Carrier {
        let socket = TcpStream::connect(address).expect("the server listens");
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        match certificate {
            None => Carrier::Plain(socket),
            Some(path) => Carrier::Tls(Box::new(tls::begin_as(socket, path, b"http/1.1"))),
        }
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Carrier::Plain(socket) => socket,
            Carrier::Tls(tls) => &tls.sock,
        }
    }
}

/// What tungstenite takes for a failure: a read with a timeout is interrupted when the process was stopped and goes on.
fn again<T>(mut attempt: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

impl Read for Carrier {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        again(|| match self {
            Carrier::Plain(socket) => socket.read(buffer),
            Carrier::Tls(tls) => tls.read(buffer),
        })
    }
}

impl Write for Carrier {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        again(|| match self {
            Carrier::Plain(socket) => socket.write(bytes),
            Carrier::Tls(tls) => tls.write(bytes),
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Carrier::Plain(socket) => socket.flush(),
            Carrier::Tls(tls) => tls.flush(),
        }
    }
}

/// A WebSocket after its handshake.
pub(crate) struct Frames {
    socket: WebSocket<Carrier>,
    /// The code of the close that the server has sent.
    pub(crate) closed: Option<u16>,
    /// Where the stream is to go on (RFC 7395 §3.6.1).
    pub(crate) elsewhere: Option<String>,
    /// The bytes of pongs.
    pub(crate) pongs: Vec<Vec<u8>>,
}

impl Frames {
    /// The handshake, with more fields if there are any. The error is the server's answer: its status.
    pub(crate) fn begin(carrier: Carrier, fields: &[(&str, &str)]) -> Result<Frames, u16> {
        let uri = "ws://localhost/xmpp-websocket".parse().unwrap();
        let mut request = ClientRequestBuilder::new(uri).with_sub_protocol("xmpp");
        for (name, value) in fields {
            request = request.with_header(*name, *value);
        }
        match client(request, carrier) {
            Ok((socket, response)) => {
                assert_eq!(response.headers()["sec-websocket-protocol"], "xmpp");
                assert!(!response.headers().contains_key("sec-websocket-extensions"));
                Ok(Frames { socket, closed: None, elsewhere: None, pongs: Vec::new() })
            }
            Err(tungstenite::HandshakeError::Failure(Error::Http(answer))) => Err(answer.status().as_u16()),
            Err(error) => panic!("no WebSocket: {error}"),
        }
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        self.socket.get_ref().tcp()
    }

    /// Below the frames, for what only a bad client does.
    pub(crate) fn carrier(&mut self) -> &mut Carrier {
        self.socket.get_mut()
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, message: Message) {
        self.socket.send(message).expect("the server takes what it is sent");
    }

    /// The next thing that the server says.
    pub(crate) fn receive(&mut self) -> Said {
        loop {
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    let element = Element::parse(text.as_bytes()).expect("each message is one element");
                    return match (element.namespace(), element.name()) {
                        (FRAMING, "open") => Said::Header,
                        (FRAMING, "close") => {
                            self.elsewhere = element.attribute("see-other-uri").map(str::to_owned);
                            Said::StreamClosed
                        }
                        _ => Said::Element(element),
                    };
                }
                Ok(Message::Pong(payload)) => self.pongs.push(payload.to_vec()),
                Ok(Message::Close(close)) => self.closed = close.map(|close| close.code.into()),
                Ok(other) => panic!("the server sent {other:?}"),
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => return Said::Ended,
                Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return Said::Ended,
                Err(Error::Io(error))
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe
                    ) =>
                {
                    return Said::Ended;
                }
                Err(error) => panic!("nothing came from the server: {error}"),
            }
        }
    }
}
