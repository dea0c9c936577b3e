//! What the engine says, as frames.

use std::io;

use ring::rand::{SecureRandom, SystemRandom};

use super::{FIN, MASKED, NONCE_BYTES, WebSocket, opcode};
use crate::engine::scan::{self, Element, Item};

/// The namespace of a stanza. The header of a stream over TCP declares it for all of them; here each message is a
/// document of its own (RFC 7395 §3.3.3).
const STANZA: &[u8] = b" xmlns='jabber:client'";

/// The end of a stream (RFC 7395 §3.6).
const CLOSE: &[u8] = b"<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>";

/// The status of a normal end (RFC 6455 §7.4.1).
const NORMAL: [u8; 2] = 1000_u16.to_be_bytes();

/// Makes frames; one for all sessions of an engine, since nothing of a frame outlives its write.
pub(crate) struct Framer {
    bytes: Vec<u8>,
    masks: Masks,
}

impl Framer {
    /// # Errors
    /// The system has no random bytes.
    pub(crate) fn new() -> io::Result<Framer> {
        Ok(Framer { bytes: Vec::new(), masks: Masks::new()? })
    }

    /// The frames of what is to be said: whole elements, headers and ends of streams. What is said before the handshake
    /// is through is the handshake, and is left as it is. A ping that waits for its answer gets it.
    ///
    /// # Errors
    /// The engine has said half an element.
    pub(crate) fn frame(&mut self, web: &mut WebSocket, said: &[u8]) -> io::Result<&[u8]> {
        self.bytes.clear();
        if !web.is_open() {
            self.bytes.extend_from_slice(said);
            return Ok(&self.bytes);
        }
        if let Some(payload) = web.pong.take() {
            self.push(opcode::PONG, &[&payload]);
        }
        let mut at = 0;
        while at < said.len() {
            let Ok(Some((item, used))) = scan::next(&said[at..]) else {
                return Err(io::Error::other("half an element has no frame"));
            };
            self.item(item);
            at += used;
        }
        Ok(&self.bytes)
    }

    fn item(&mut self, item: Item<'_>) {
        match item {
            Item::Header(header) => {
                let to = header.attribute(b"to").unwrap_or_default();
                let open = b"<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' version='1.0' to='";
                self.push(opcode::TEXT, &[open, to, b"'/>"]);
            }
            Item::Element(element) => self.element(&element),
            Item::End => {
                self.push(opcode::TEXT, &[CLOSE]);
                self.push(opcode::CLOSE, &[&NORMAL]);
            }
        }
    }

    fn element(&mut self, element: &Element<'_>) {
        let (name, bytes) = (element.name(), element.bytes());
        match name {
            b"message" | b"presence" | b"iq" => {
                let (start, rest) = bytes.split_at(1 + name.len());
                self.push(opcode::TEXT, &[start, STANZA, rest]);
            }
            _ => self.push(opcode::TEXT, &[bytes]),
        }
    }

    /// One frame, which is a whole message.
    fn push(&mut self, opcode: u8, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.bytes.push(FIN | opcode);
        match length {
            0..126 => self.bytes.push(MASKED | length as u8),
            126..0x1_0000 => {
                self.bytes.push(MASKED | 126);
                self.bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                self.bytes.push(MASKED | 127);
                self.bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        let key = self.masks.next();
        self.bytes.extend_from_slice(&key);
        let start = self.bytes.len();
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        mask(&mut self.bytes[start..], key);
    }

    /// The random value of a handshake.
    pub(super) fn nonce(&mut self) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        for part in nonce.chunks_exact_mut(4) {
            part.copy_from_slice(&self.masks.next());
        }
        nonce
    }
}

/// Keys of frames. RFC 6455 §5.3 wants a fresh one for each frame, from a strong source, so that no script can choose
/// what a proxy sees on the wire. Here nobody but the generator chooses what is sent, so randomness of the system
/// is only the seed (xorshift): what a run measures is the server, not the generator's keys.
struct Masks(u64);

impl Masks {
    fn new() -> io::Result<Masks> {
        let mut seed = [0; 8];
        SystemRandom::new()
            .fill(&mut seed)
            .map_err(|_| io::Error::other("the system has no random bytes"))?;
        // Xorshift never leaves zero.
        Ok(Masks(u64::from_ne_bytes(seed) | 1))
    }

    fn next(&mut self) -> [u8; 4] {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) as u32).to_ne_bytes()
    }
}

/// RFC 6455 §5.3.
fn mask(payload: &mut [u8], key: [u8; 4]) {
    let mut words = payload.chunks_exact_mut(4);
    for word in &mut words {
        for (byte, key) in word.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key) {
        *byte ^= key;
    }
}
