//! The opening handshake (RFC 6455 §4, RFC 7395 §3.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

use super::outgoing::Framer;
use super::{HEADER_BYTES_MAX, NONCE_BYTES, WebSocket};

/// What goes into the digest of a nonce behind it (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Bytes of an answer's head at most.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// What every HTTP answer begins with.
const HTTP: &[u8] = b"HTTP/1.1 ";

impl WebSocket {
    /// A connection whose handshake begins, and the request to send.
    pub(crate) fn begin(host: &str, path: &str, framer: &mut Framer) -> (WebSocket, String) {
        let nonce = framer.nonce();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: xmpp\r\nSec-WebSocket-Key: {}\r\n\r\n",
            STANDARD.encode(nonce)
        );
        let web = WebSocket {
            nonce: Some(nonce),
            header: [0; HEADER_BYTES_MAX],
            header_bytes: 0,
            opcode: 0,
            rest: 0,
            fragmented: false,
            ended: false,
            held: Vec::new(),
            pong: None,
        };
        (web, request)
    }

    /// Takes in bytes of the answer; returns how many. What is behind its head are frames.
    pub(super) fn answer(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let before = self.held.len();
        self.held.extend_from_slice(bytes);
        let start = &self.held[..self.held.len().min(HTTP.len())];
        if !HTTP.starts_with(start) {
            let told = &self.held[..self.held.len().min(40)];
            return Err(format!("does not speak HTTP: it sent {:?}", String::from_utf8_lossy(told)));
        }
        let Some(end) = memchr::memmem::find(&self.held, b"\r\n\r\n") else {
            return match self.held.len() > HEAD_BYTES_MAX {
                true => Err("answers the WebSocket handshake without an end".into()),
                false => Ok(bytes.len()),
            };
        };
        let head = std::mem::take(&mut self.held);
        let nonce = self.nonce.take().unwrap_or_default();
        check(&String::from_utf8_lossy(&head[..end]), &nonce)?;
        Ok(end + 4 - before)
    }
}

/// Whether the head of an answer opens the connection (RFC 6455 §4.1).
fn check(head: &str, nonce: &[u8; NONCE_BYTES]) -> Result<(), String> {
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 101") {
        return Err(format!("refuses the WebSocket handshake: {status}"));
    }
    let fields: Vec<(&str, &str)> =
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim())).collect();
    let field = |wanted: &str| {
        let found = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map_or("", |(_, value)| value)
    };
    let upgrades = field("Connection").split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    if !upgrades || !field("Upgrade").eq_ignore_ascii_case("websocket") {
        return Err("answers the WebSocket handshake without an upgrade".into());
    }
    if field("Sec-WebSocket-Accept") != accept(nonce) {
        return Err("answers another WebSocket handshake than ours".into());
    }
    if field("Sec-WebSocket-Protocol") != "xmpp" {
        return Err("does not speak XMPP over its WebSocket".into());
    }
    if !field("Sec-WebSocket-Extensions").is_empty() {
        return Err("uses an extension of WebSocket that nobody has asked for".into());
    }
    Ok(())
}

/// What the answer to a nonce says.
fn accept(nonce: &[u8; NONCE_BYTES]) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(STANDARD.encode(nonce).as_bytes());
    context.update(GUID);
    STANDARD.encode(context.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 §1.3.
    const NONCE: &[u8; NONCE_BYTES] = b"the sample nonce";

    const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: xmpp";

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        assert_eq!(check(GOOD, NONCE), Ok(()));
    }

    #[test]
    fn answers_that_open_nothing_are_told_apart() {
        for (part, instead, told) in [
            ("101 Switching Protocols", "404 Not Found", "handshake: HTTP/1.1 404 Not Found"),
            ("upgrade: WebSocket", "upgrade: h2c", "without an upgrade"),
            ("keep-alive, Upgrade", "close", "without an upgrade"),
            ("s3pP", "S3pP", "another WebSocket handshake"),
            (": xmpp", ": mqtt", "does not speak XMPP"),
            ("xmpp", "xmpp\r\nSec-WebSocket-Extensions: permessage-deflate", "extension"),
        ] {
            let problem = check(&GOOD.replace(part, instead), NONCE).unwrap_err();
            assert!(problem.contains(told), "{instead}: {problem}");
        }
    }
}
