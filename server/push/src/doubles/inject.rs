//! A frame of HTTP/2 between two others: h2 says GOAWAY only about streams that it has not seen, and the providers say it
//! about streams that they have.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a frame's header (RFC 9113 §4.1).
const HEADER_BYTES: usize = 9;

/// Where frames are put for the stream to write.
#[derive(Clone, Default)]
pub(super) struct Injector(Arc<Mutex<Vec<u8>>>);

impl Injector {
    /// GOAWAY without an error (RFC 9113 §6.8).
    pub(super) fn go_away(&self, last_stream: u32) {
        let debug = br#"{"reason":"Shutdown"}"#;
        let mut frame = vec![0, 0, 8 + debug.len() as u8, 7, 0, 0, 0, 0, 0];
        frame.extend_from_slice(&last_stream.to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(debug);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&frame);
    }
}

/// A stream of frames, into which others are put.
pub(super) struct Injected<S> {
    stream: S,
    injector: Injector,
    /// Of the frame that is being written: its header as far as it is known, and the bytes of its payload to come.
    header: Vec<u8>,
    payload: usize,
}

impl<S: AsyncWrite + Unpin> Injected<S> {
    pub(super) fn new(stream: S, injector: Injector) -> Injected<S> {
        Injected { stream, injector, header: Vec::new(), payload: 0 }
    }

    /// Follows the frames in what was written.
    fn wrote(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let part = self.payload.min(bytes.len());
                self.payload -= part;
                bytes = &bytes[part..];
                continue;
            }
            let part = (HEADER_BYTES - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(&bytes[..part]);
            bytes = &bytes[part..];
            if let [a, b, c, _, _, _, _, _, _] = self.header[..] {
                self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.header.clear();
            }
        }
    }

    /// Writes what is to be put between two frames, where there is a gap. `Ready`: nothing is left of it.
    fn inject(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.header.is_empty() || self.payload > 0 {
            return Poll::Ready(Ok(()));
        }
        let injector = self.injector.clone();
        let mut frames = injector.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !frames.is_empty() {
            let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(context, &frames))?;
            frames.drain(..written);
            if frames.is_empty() {
                // TLS may hold it back; when it does, the next flush sends it.
                let _ = Pin::new(&mut self.stream).poll_flush(context)?;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Injected<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // h2 reads whenever it is polled, also when it has nothing to write.
        if let Poll::Ready(Err(error)) = self.inject(context) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Injected<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.inject(context))?;
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.wrote(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.inject(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
