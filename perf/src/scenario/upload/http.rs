//! A client that puts and gets files on one connection, as fast as it can read and write.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::engine::link;

/// How long a server may say nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that are read at a time.
const PIECE: usize = 256 << 10;

/// Bytes of an answer's head at most.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// What connections go through: TLS, or nothing.
pub(super) struct Tunnel(Option<Arc<ClientConfig>>);

impl Tunnel {
    /// The servers are of this run, so nobody looks at their certificate.
    pub(super) fn new(is_tls: bool) -> Tunnel {
        Tunnel(is_tls.then(link::http_config))
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A connection that is kept.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    /// What was read and not taken.
    piece: Vec<u8>,
    from: usize,
    to: usize,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// The server does not answer.
    pub(super) fn open(tunnel: &Tunnel, port: u16) -> Result<Connection, String> {
        let failed = |error: std::io::Error| format!("cannot connect to port {port}: {error}");
        let socket = TcpStream::connect(("127.0.0.1", port)).map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        socket.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let stream: Box<dyn Stream> = match &tunnel.0 {
            None => Box::new(socket),
            Some(config) => {
                let name = ServerName::try_from("localhost").expect("it is a name");
                let tls = ClientConnection::new(config.clone(), name).map_err(|error| error.to_string())?;
                Box::new(StreamOwned::new(tls, socket))
            }
        };
        Ok(Connection { stream, piece: vec![0; PIECE], from: 0, to: 0 })
    }

    /// Puts a file, and waits until it is taken.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn put(&mut self, path: &str, content: &[u8]) -> Result<(), String> {
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            content.len()
        );
        self.write(head.as_bytes())?;
        self.write(content)?;
        let (status, length) = self.head()?;
        self.skip(length)?;
        match status {
            201 | 204 => Ok(()),
            _ => Err(format!("PUT {path} is answered with {status}")),
        }
    }

    /// Gets a file of so many bytes. Returns them.
    ///
    /// # Errors
    /// It is not there, or has another length.
    pub(super) fn get(&mut self, path: &str, bytes: u64) -> Result<u64, String> {
        self.ask(path, bytes)?;
        self.skip(bytes)?;
        Ok(bytes)
    }

    /// Gets a file and compares it.
    ///
    /// # Errors
    /// It is another one.
    pub(super) fn compare(&mut self, path: &str, content: &[u8]) -> Result<(), String> {
        self.ask(path, content.len() as u64)?;
        let mut at = 0;
        while at < content.len() {
            let got = self.more()?;
            let take = got.len().min(content.len() - at);
            if got[..take] != content[at..at + take] {
                return Err(format!("GET {path} gives another file"));
            }
            self.from += take;
            at += take;
        }
        Ok(())
    }

    fn ask(&mut self, path: &str, bytes: u64) -> Result<(), String> {
        self.write(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        match self.head()? {
            (200, length) if length == bytes => Ok(()),
            (status, length) => Err(format!("GET {path} is answered with {status}, {length} bytes")),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|error| format!("a connection was broken: {error}"))
    }

    /// What there is to read, at least a byte.
    fn more(&mut self) -> Result<&[u8], String> {
        if self.from == self.to {
            let count =
                self.stream.read(&mut self.piece).map_err(|error| format!("nothing comes: {error}"))?;
            if count == 0 {
                return Err("the server has closed the connection".into());
            }
            (self.from, self.to) = (0, count);
        }
        Ok(&self.piece[self.from..self.to])
    }

    fn skip(&mut self, mut bytes: u64) -> Result<(), String> {
        while bytes > 0 {
            let take = (self.more()?.len() as u64).min(bytes);
            self.from += take as usize;
            bytes -= take;
        }
        Ok(())
    }

    /// Status and length of an answer.
    fn head(&mut self) -> Result<(u16, u64), String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = self.more()?[0];
            self.from += 1;
            head.push(byte);
            if head.len() > HEAD_BYTES_MAX {
                return Err("the head of an answer does not end".into());
            }
        }
        read_head(&String::from_utf8_lossy(&head)).ok_or_else(|| "an answer cannot be read".to_owned())
    }
}

fn read_head(head: &str) -> Option<(u16, u64)> {
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let length = lines.filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())
    });
    Some((status, length.unwrap_or(Some(0))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_how_long_its_body_is() {
        for (head, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", Some((200, 7))),
            ("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n", Some((201, 0))),
            ("HTTP/1.1 204 No Content\r\n\r\n", Some((204, 0))),
            ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", None),
            ("nonsense", None),
        ] {
            assert_eq!(read_head(head), expected, "{head}");
        }
    }
}
