//! A client that speaks just enough XMPP.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::SM;

/// A connection that speaks just enough XMPP.
pub(crate) struct Client {
    socket: TcpStream,
    input: Vec<u8>,
}

impl Client {
    /// Connects, logs in and stands before binding a resource.
    pub(crate) fn log_in(address: SocketAddr, name: &str) -> io::Result<Client> {
        let socket = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        if socket.local_addr()? == address {
            // Nobody listens, and the system chose that very port for this end (RFC 9293 §3.5, simultaneous open).
            return Err(ErrorKind::ConnectionRefused.into());
        }
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.set_write_timeout(Some(Duration::from_secs(10)))?;
        let mut client = Client { socket, input: Vec::new() };
        client.open()?;
        let secret = STANDARD.encode(format!("\0{name}\0secret"));
        client.say(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>"
        ))?;
        let answer = client.element()?;
        if !answer.starts_with("<success") {
            return Err(io::Error::other(answer));
        }
        client.open()?;
        Ok(client)
    }

    fn open(&mut self) -> io::Result<()> {
        self.say(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>",
        )?;
        while !self.element()?.starts_with("<stream:features") {}
        Ok(())
    }

    pub(crate) fn bind(&mut self) -> io::Result<()> {
        self.say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")?;
        while !self.element()?.contains("<jid") {}
        Ok(())
    }

    /// Enables stream management; the stream's name.
    pub(crate) fn enable(&mut self) -> io::Result<String> {
        self.say(&format!("<enable xmlns='{SM}' resume='true'/>"))?;
        let enabled = self.element()?;
        attribute(&enabled, "id").map(str::to_owned).ok_or_else(|| io::Error::other(enabled))
    }

    pub(crate) fn say(&mut self, text: &str) -> io::Result<()> {
        self.socket.write_all(text.as_bytes())
    }

    /// The next first-level element as text. Knows only what the server says in these tests: of an element in one of the same name,
    /// as in a page of an archive, it tells what comes before the end of the inner one.
    pub(crate) fn element(&mut self) -> io::Result<String> {
        loop {
            if let Some(element) = take_element(&mut self.input) {
                return Ok(element);
            }
            let mut buffer = [0; 16 * 1024];
            match self.socket.read(&mut buffer)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => self.input.extend_from_slice(&buffer[..n]),
            }
        }
    }

    /// As [`Client::element`]; `None` when nothing comes for a moment.
    pub(crate) fn element_soon(&mut self) -> io::Result<Option<String>> {
        self.socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        match self.element() {
            Ok(element) => Ok(Some(element)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn take_element(input: &mut Vec<u8>) -> Option<String> {
    let text = std::str::from_utf8(input).expect("these tests speak ASCII");
    let mut begin = text.find('<')?;
    while text[begin..].starts_with("</") {
        begin += text[begin..].find('>')? + 1;
        begin += text[begin..].find('<')?;
    }
    let rest = &text[begin..];
    let tag_end = rest.find('>')?;
    let name = rest[1..].split([' ', '>', '/']).next()?;
    let length = if rest.starts_with("<?") || name == "stream:stream" || rest[..tag_end].ends_with('/') {
        tag_end + 1
    } else {
        let close = format!("</{name}>");
        rest.find(&close)? + close.len()
    };
    let element = rest[..length].to_owned();
    input.drain(..begin + length);
    Some(element)
}

/// The value of an attribute of a start tag.
pub(crate) fn attribute<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let tag = &element[..element.find('>')?];
    let (_, rest) = tag.split_once(&format!(" {name}="))?;
    let quote = rest.chars().next()?;
    rest[1..].split(quote).next()
}
