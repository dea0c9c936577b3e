//! One connection: what is said goes into records cut as chance decides, and how it can end.

use std::io::{Read as _, Write as _};

use rustls::ClientConnection;

use crate::runtime::driver::sim::Random;

/// The longest piece of plaintext in one record.
const RECORD_BYTES_MAX: usize = 1 << 14;

/// Bytes of a record's header.
const HEADER_BYTES: usize = 5;

/// Content types that no record has here after the handshake.
const WRONG_TYPES: [u8; 5] = [0, 20, 22, 24, 255];

/// How a client ends TLS without closing its stream.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(in crate::simulation) enum End {
    /// With close_notify, behind everything it has said.
    Notify,
    /// With close_notify in the middle of a stanza.
    InStanza,
    /// With a record that is not all there; the end of the connection follows.
    Truncated,
    /// With a record one bit of which is wrong.
    Flipped,
    /// With a record that says it is longer than any may be.
    TooLong,
    /// With a record of a type that has no place there.
    WrongType,
}

impl End {
    /// All of them.
    pub(in crate::simulation) const ALL: [End; 6] =
        [End::Notify, End::InStanza, End::Truncated, End::Flipped, End::TooLong, End::WrongType];

    /// Whether the server drops what it has read and not handled, as with a reset: the record is not what it should
    /// be, or nothing else would be either.
    pub(in crate::simulation) fn is_fault(self) -> bool {
        matches!(self, End::Flipped | End::TooLong | End::WrongType)
    }
}

/// A client's side of TLS.
#[derive(Debug)]
pub(in crate::simulation) struct Tls {
    connection: ClientConnection,
    random: Random,
    /// Records that the network has not taken.
    pub(in crate::simulation) wire: Vec<u8>,
    /// Nothing more will be sent.
    ended: bool,
    /// Something has come from the server's stream: it knows that the handshake is done.
    heard: bool,
    /// The server has said close_notify.
    closed: bool,
    /// What comes is not understood any more.
    failed: bool,
}

impl Tls {
    pub(super) fn new(connection: ClientConnection, random: Random) -> Tls {
        Tls { connection, random, wire: Vec::new(), ended: false, heard: false, closed: false, failed: false }
    }

    /// Whether it has said its last word.
    pub(in crate::simulation) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(in crate::simulation) fn is_established(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// Whether the server's stream stops without its close_notify (RFC 8446 §6.1), and nothing explains that.
    pub(in crate::simulation) fn is_cut_short(&self) -> bool {
        self.heard && !self.closed && !self.failed && !self.ended
    }

    /// Puts what is said into records, once the handshake is done.
    pub(in crate::simulation) fn seal(&mut self, out: &mut Vec<u8>) {
        self.drain();
        if self.ended || self.failed || self.connection.is_handshaking() {
            return;
        }
        if !out.is_empty() && self.random.permille(20) {
            // TLS 1.2 has no such thing.
            let _ = self.connection.refresh_traffic_keys();
        }
        let mut rest = out.as_slice();
        while !rest.is_empty() {
            let most = rest.len().min(RECORD_BYTES_MAX);
            let length = match self.random.below(6) {
                0 => self.random.between(1, most.min(30)),
                1 => self.random.between(1, most),
                _ => most,
            };
            let (piece, later) = rest.split_at(length);
            let record = self.record(piece);
            self.wire.extend(record);
            rest = later;
        }
        out.clear();
    }

    /// Ends it behind what was said. Anything that a record holds that is not to be believed is `forged`.
    pub(in crate::simulation) fn end(&mut self, end: End, forged: &str) {
        if self.connection.is_handshaking() {
            self.end_handshake(end);
        } else {
            match end {
                End::Notify => self.notify(),
                End::InStanza => {
                    let record = self.record(b"<message to='");
                    self.wire.extend(record);
                    self.notify();
                }
                End::Truncated | End::Flipped | End::TooLong | End::WrongType => {
                    let record = self.record(forged.as_bytes());
                    let record = self.spoil(end, record);
                    self.wire.extend(record);
                }
            }
        }
        self.ended = true;
    }

    /// Says that nothing more will come, perhaps.
    pub(in crate::simulation) fn leave(&mut self) {
        if !self.ended && self.random.permille(700) {
            self.notify();
        }
        self.ended = true;
    }

    fn end_handshake(&mut self, end: End) {
        match end {
            End::Notify | End::InStanza => self.notify(),
            End::Truncated => {
                let left = self.random.below(self.wire.len() + 1);
                self.wire.truncate(left);
            }
            End::Flipped => self.wire.extend([22, 3, 3, 0, 4, 14, 0, 0, 0]),
            End::TooLong => self.wire.extend([22, 3, 3, 255, 255]),
            End::WrongType => self.wire.extend(b"<stream:stream>"),
        }
    }

    fn spoil(&mut self, end: End, mut record: Vec<u8>) -> Vec<u8> {
        match end {
            End::Truncated => record.truncate(self.random.between(1, record.len() - 1)),
            End::Flipped => {
                let at = self.random.between(HEADER_BYTES, record.len() - 1);
                record[at] ^= 1 << self.random.below(8);
            }
            End::TooLong => {
                let length = u16::try_from(self.random.between(0x4900, 0xffff)).unwrap_or(u16::MAX);
                record[3..HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
            }
            End::WrongType => record[0] = self.random.pick(&WRONG_TYPES).copied().unwrap_or_default(),
            End::Notify | End::InStanza => {}
        }
        record
    }

    fn notify(&mut self) {
        self.connection.send_close_notify();
        self.drain();
    }

    /// One record with this in it; what had to go before it is on the wire.
    fn record(&mut self, plain: &[u8]) -> Vec<u8> {
        self.drain();
        let mut record = Vec::new();
        // Into memory, and less than it may hold.
        let _ = self.connection.writer().write_all(plain);
        while self.connection.wants_write() && self.connection.write_tls(&mut record).is_ok() {}
        record
    }

    fn drain(&mut self) {
        while !self.ended
            && self.connection.wants_write()
            && self.connection.write_tls(&mut self.wire).is_ok()
        {}
    }

    /// Takes what has come and appends what was in it.
    ///
    /// # Errors
    /// It is no TLS, or the server has ended it with an alert, and this client has done nothing for which it might.
    pub(in crate::simulation) fn open(&mut self, mut wire: &[u8], plain: &mut Vec<u8>) -> Result<(), String> {
        let before = plain.len();
        while !wire.is_empty() && !self.failed && !self.closed {
            let outcome = match self.connection.read_tls(&mut wire) {
                Ok(_) => self.connection.process_new_packets().map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            // What came before an error is there in spite of it.
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = self.connection.reader().read(&mut bytes) {
                plain.extend_from_slice(&bytes[..length]);
            }
            match outcome {
                Ok(state) => self.closed |= state.peer_has_closed(),
                Err(_) if self.ended => self.failed = true,
                Err(error) => {
                    self.failed = true;
                    return Err(error);
                }
            }
        }
        self.heard |= plain.len() > before;
        Ok(())
    }
}
