//! The bytes of one connection, with or without TLS.
//!
//! TLS is that of the workers, not a second one: a connection that goes to a worker is its socket and its keys, as when a
//! session moves to its user's home.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::tls::{Tls, TlsError};

/// Bytes that are taken from the socket at a time.
const CHUNK: usize = 4 << 10;

/// Bytes of an answer that are encrypted at a time: those of the longest record.
const SEALED: usize = 16 << 10;

/// A connection to the HTTP server.
pub struct HttpStream {
    socket: TcpStream,
    secured: Option<Box<Secured>>,
}

/// TLS, and what lies between it and the socket.
struct Secured {
    tls: Tls,
    /// Decrypted, to be read.
    plain: Vec<u8>,
    /// Encrypted, to be written.
    wire: Vec<u8>,
    /// The client sends nothing more.
    ended: bool,
}

/// A connection that is to be served elsewhere.
pub struct Released {
    /// Its socket, which does not block.
    pub socket: OwnedFd,
    /// TLS after its handshake.
    pub tls: Option<Tls>,
    /// What the client has sent, decrypted.
    pub came: Vec<u8>,
    /// What is still to be sent to it, encrypted.
    pub unsent: Vec<u8>,
    /// The client has ended TLS.
    pub ended: bool,
}

impl HttpStream {
    /// Without TLS.
    pub fn plain(socket: TcpStream) -> HttpStream {
        HttpStream { socket, secured: None }
    }

    /// With TLS, which begins here.
    ///
    /// # Errors
    /// The handshake failed, or the connection has ended in the midst of it.
    pub async fn accept(mut socket: TcpStream, mut tls: Tls) -> io::Result<HttpStream> {
        let (mut plain, mut wire) = (Vec::new(), Vec::new());
        let mut ended = false;
        while !tls.is_established() {
            let mut chunk = [0; CHUNK];
            let count = socket.read(&mut chunk).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let opened = tls.open(&chunk[..count], &mut plain, &mut wire);
            // The answer, or the alert that says why there is none.
            socket.write_all(&wire).await?;
            wire.clear();
            ended = opened.map_err(broken)?.peer_closed;
            if ended && !tls.is_established() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(HttpStream { socket, secured: Some(Box::new(Secured { tls, plain, wire, ended })) })
    }

    /// Whether TLS protects it.
    pub fn is_secured(&self) -> bool {
        self.secured.is_some()
    }

    /// Gives it up: `came` is what has been read of it and not looked at.
    ///
    /// # Errors
    /// The system's reason.
    pub fn release(self, mut came: Vec<u8>) -> io::Result<Released> {
        let HttpStream { socket, secured } = self;
        let socket = OwnedFd::from(socket.into_std()?);
        let Some(secured) = secured else {
            return Ok(Released { socket, tls: None, came, unsent: Vec::new(), ended: false });
        };
        let Secured { tls, plain, wire, ended } = *secured;
        came.extend_from_slice(&plain);
        Ok(Released { socket, tls: Some(tls), came, unsent: wire, ended })
    }
}

impl Secured {
    /// Writes what is encrypted.
    fn flush(&mut self, socket: &mut TcpStream, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut written = 0;
        let step = loop {
            if written == self.wire.len() {
                break Poll::Ready(Ok(()));
            }
            match Pin::new(&mut *socket).poll_write(context, &self.wire[written..]) {
                Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => written += count,
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.wire.drain(..written);
        if self.wire.is_empty() {
            // An idle connection owns no buffer.
            self.wire = Vec::new();
        }
        step
    }

    fn read(
        &mut self,
        socket: &mut TcpStream,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.plain.is_empty() && !self.ended {
            let mut chunk = [0; CHUNK];
            let mut part = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut *socket).poll_read(context, &mut part))?;
            if part.filled().is_empty() {
                self.ended = true;
                break;
            }
            let opened = self.tls.open(part.filled(), &mut self.plain, &mut self.wire);
            // An answer to a change of keys, or an alert: if it cannot go now, it goes with what is written next.
            if let Poll::Ready(Err(error)) = self.flush(socket, context) {
                return Poll::Ready(Err(error));
            }
            self.ended = opened.map_err(broken)?.peer_closed;
        }
        let count = self.plain.len().min(buffer.remaining());
        buffer.put_slice(&self.plain[..count]);
        self.plain.drain(..count);
        if self.plain.is_empty() {
            self.plain = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

fn broken(error: TlsError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl AsyncRead for HttpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let HttpStream { socket, secured } = self.get_mut();
        match secured {
            None => Pin::new(socket).poll_read(context, buffer),
            Some(secured) => secured.read(socket, context, buffer),
        }
    }
}

impl AsyncWrite for HttpStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let HttpStream { socket, secured } = self.get_mut();
        let Some(secured) = secured else { return Pin::new(socket).poll_write(context, bytes) };
        // No more is encrypted while something waits: what a slow client makes us hold is one record.
        ready!(secured.flush(socket, context))?;
        let count = bytes.len().min(SEALED);
        secured.tls.seal(&bytes[..count], &mut secured.wire).map_err(broken)?;
        // It is taken, whether the kernel takes it now or not.
        match secured.flush(socket, context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(count)),
        }
    }

    /// Without TLS the kernel takes all parts at once, and nothing is copied on the way. With TLS each is encrypted by itself.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.secured.is_none() {
            return Pin::new(&mut self.get_mut().socket).poll_write_vectored(context, parts);
        }
        let first = parts.iter().find(|part| !part.is_empty());
        self.poll_write(context, first.map_or(&[], |part| part))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let HttpStream { socket, secured } = self.get_mut();
        if let Some(secured) = secured {
            ready!(secured.flush(socket, context))?;
        }
        Pin::new(socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let HttpStream { socket, secured } = self.get_mut();
        if let Some(secured) = secured {
            secured.tls.close_notify(&mut secured.wire);
            ready!(secured.flush(socket, context))?;
        }
        Pin::new(socket).poll_shutdown(context)
    }
}
