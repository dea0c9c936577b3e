//! Frames of WebSocket (RFC 6455): what they carry becomes input, and what they say of the connection is answered here.
//!
//! Of a connection that is between two messages nothing is kept.

use whimbrel_websocket::{Code, Control, Decoder, Violation};

use crate::proto::errors::StreamCondition;
use crate::runtime::driver::ConnId;
use crate::session::SessionPhase;
use crate::transport::Transport;
use crate::worker::core::Core;

impl Core {
    /// Bytes without TLS, which the driver keeps to itself.
    pub(super) fn copied(&mut self, conn: ConnId, bytes: &[u8]) {
        let mut plain = self.fx.buffers.lend();
        plain.extend_from_slice(bytes);
        self.unframe(conn, &mut plain);
        self.fx.buffers.give_back(plain);
    }

    /// Bytes of a client that speaks WebSocket, after TLS. What they carry is handled as far as its share of the turn goes.
    pub(super) fn unframe(&mut self, conn: ConnId, bytes: &mut Vec<u8>) {
        if self.sessions.get(conn).is_none_or(|session| matches!(session.phase, SessionPhase::Closing)) {
            return;
        }
        // Without an entry nothing is under way: it is made for those only of which something is left.
        let mut kept = match self.frames.is_empty() {
            true => None,
            false => self.frames.remove(&conn),
        };
        let mut fresh = Decoder::default();
        let decoder = kept.as_deref_mut().unwrap_or(&mut fresh);
        let limit = u64::from(self.env.config.limits.stanza_bytes);
        let (out, metrics) = (&mut self.fx.out, self.env.metrics());
        let mut is_closed = false;
        let decoded = decoder.decode(bytes, limit, &mut |control, payload| match control {
            Control::Ping => {
                metrics.websocket_pings.add(1);
                out.stream(conn).pong(payload);
            }
            Control::Pong => {}
            Control::Close => is_closed = true,
        });
        if decoded.is_ok() && !is_closed && !decoder.is_idle() {
            self.frames.insert(conn, kept.unwrap_or_else(|| Box::new(fresh)));
        }
        if !bytes.is_empty() {
            self.input(conn, bytes);
        }
        match decoded {
            Err(violation) => self.violated(conn, violation),
            Ok(()) if is_closed => self.tls_ended(conn),
            Ok(()) => {}
        }
    }

    /// A client breaks the rules of frames. Nothing that follows can be read.
    fn violated(&mut self, conn: ConnId, violation: Violation) {
        if self.sessions.get(conn).is_none_or(|session| matches!(session.phase, SessionPhase::Closing)) {
            return;
        }
        tracing::debug!(%violation, "a client breaks the rules of WebSocket");
        if violation == Violation::TooBig {
            self.env.metrics().refused_websocket_size.add(1);
            let text = "a message is longer than limits.stanza_bytes";
            return self.end_stream_with(conn, false, |out| {
                out.error(StreamCondition::PolicyViolation, Some(text));
                out.set_code(Code::TOO_BIG);
            });
        }
        self.env.metrics().refused_websocket_frames.add(1);
        self.close_frames(conn, violation.code());
        // As a broken record of TLS: it says nothing about the session, which can be resumed.
        self.lost(conn);
        self.close(conn);
    }

    /// Says goodbye in a frame (RFC 6455 §5.5.1), where WebSocket is spoken and it has not been said.
    pub(super) fn close_frames(&mut self, conn: ConnId, code: Code) {
        let Some(session) = self.sessions.get(conn) else { return };
        if session.transport == Transport::WebSocket && !matches!(session.phase, SessionPhase::Closing) {
            self.fx.out.stream(conn).close_frame(code);
        }
    }
}
