//! The record layer of an established connection: all that is left of TLS once the handshake is done.
//!
//! A million idle sessions decide the layout. Per direction it keeps the raw key, the fixed part of the nonce,
//! the sequence number and (for a KeyUpdate of TLS 1.3) the traffic secret: 104 bytes. Anything that is kept of an
//! incomplete record is boxed and exists only until the rest has come. The expanded AES-GCM key of ring is 544
//! bytes, but is made in 180 ns (ChaCha20-Poly1305: 25 ns) where encrypting a record of 200 bytes takes 140 ns
//! (300 ns), so it is made anew for each batch of records. To keep the traffic secrets alone would save another
//! 88 bytes and cost 600 ns (SHA-256) to 1.6 µs (SHA-384) a batch. `cargo bench -p whimbrel-server --bench tls`
//! measures it; the figures are of one x86-64 core, their ratios are what counts.
//!
//! It knows AEAD suites only. In TLS 1.3 a KeyUpdate is followed and answered, and keys that are used up are
//! changed; in TLS 1.2 renegotiation is refused and a connection whose keys are used up ends. Every other
//! message of a handshake is an error, for a server of this kind asks for none.

mod read;
mod write;

use rustls::AlertDescription;

use super::TlsError;
use super::suite::{DirectionKeys, Suite, Version};
use crate::saved::SavedRecords;

/// Bytes of a record's header.
pub(super) const HEADER_BYTES: usize = 5;

/// Bytes of plaintext in one record at most (RFC 8446 §5.1).
pub const PLAIN_BYTES_MAX: usize = 1 << 14;

/// What a client may send in a row without any data in it (empty records, KeyUpdates, warnings), so that nobody
/// can keep the server busy with nothing.
pub const QUIET_RECORDS_MAX: u8 = 32;

/// Bytes of an AEAD's tag, the same for all suites.
const TAG_BYTES: usize = 16;

/// Content types of records (RFC 8446 §5.1).
mod content {
    pub(super) const ALERT: u8 = 21;
    pub(super) const HANDSHAKE: u8 = 22;
    pub(super) const DATA: u8 = 23;
}

/// How far a connection is from its end.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Ending {
    /// Open both ways.
    Open,
    /// The client has said close_notify and will say nothing more.
    PeerClosed,
    /// An error has ended it.
    Failed,
}

/// Something that ends the connection.
struct Fault {
    alert: AlertDescription,
    reason: &'static str,
}

/// Why reading stops before its end.
enum Stop {
    /// The client broke the protocol.
    Fault(Fault),
    /// The client has sent a fatal alert.
    Alert(AlertDescription),
}

impl Stop {
    fn fault(alert: AlertDescription, reason: &'static str) -> Stop {
        Stop::Fault(Fault { alert, reason })
    }
}

/// The bytes of a record that have come so far: never more than the longest record, 18 KiB.
struct Partial {
    bytes: Vec<u8>,
}

/// The record layer. Needs no handshake object: it can be made from keys alone.
pub struct Records {
    read: DirectionKeys,
    write: DirectionKeys,
    partial: Option<Box<Partial>>,
    suite: Suite,
    version: Version,
    ending: Ending,
    /// Our close_notify has been written.
    closed: bool,
    /// A KeyUpdate of the client waits for its answer, which goes before the next data.
    owes_key_update: bool,
    /// Records without data since the last with some.
    quiet: u8,
    /// The beginning of a handshake message that was cut between records.
    message: [u8; 4],
    message_length: u8,
}

// docs/performance.md counts on this size.
const _: () = assert!(size_of::<DirectionKeys>() == 104);
const _: () = assert!(size_of::<Records>() <= 232);

impl Records {
    /// The record layer after a handshake. `read` opens what the other side sends, `write` seals what we send.
    pub fn new(version: Version, suite: Suite, read: DirectionKeys, write: DirectionKeys) -> Records {
        Records {
            read,
            write,
            partial: None,
            suite,
            version,
            ending: Ending::Open,
            closed: false,
            owes_key_update: false,
            quiet: 0,
            message: [0; 4],
            message_length: 0,
        }
    }

    /// As it goes to another program; `None` when this side has ended, or an error has.
    pub(super) fn save(&self) -> Option<SavedRecords<'_>> {
        if self.ending == Ending::Failed || self.closed {
            return None;
        }
        Some(SavedRecords {
            version: self.version,
            suite: self.suite,
            read: self.read.save(self.version, self.suite),
            write: self.write.save(self.version, self.suite),
            partial: self.partial.as_ref().map_or(&[], |partial| &partial.bytes),
            owes_key_update: self.owes_key_update,
            peer_closed: self.ending == Ending::PeerClosed,
            quiet: self.quiet,
            message: &self.message[..usize::from(self.message_length)],
        })
    }

    /// The record layer of another program.
    pub(super) fn restored(record: &SavedRecords<'_>) -> Records {
        let suite = record.suite;
        let (read, write) =
            (DirectionKeys::restored(suite, &record.read), DirectionKeys::restored(suite, &record.write));
        let mut records = Records::new(record.version, suite, read, write);
        records.partial =
            (!record.partial.is_empty()).then(|| Box::new(Partial { bytes: record.partial.to_vec() }));
        records.owes_key_update = record.owes_key_update;
        if record.peer_closed {
            records.ending = Ending::PeerClosed;
        }
        records.quiet = record.quiet;
        let length = record.message.len().min(records.message.len());
        records.message[..length].copy_from_slice(&record.message[..length]);
        records.message_length = u8::try_from(length).expect("at most four");
        records
    }

    /// Version of the protocol.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The cipher suite.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Reads bytes from the wire, cut anywhere. Data is appended to `plain_out`, what has to be answered at once to
    /// `wire_out`. Returns whether the other side has closed; what comes after that is ignored.
    ///
    /// # Errors
    /// The connection is over; the alert, if one is due, is in `wire_out`.
    pub fn open(
        &mut self,
        wire: &[u8],
        plain_out: &mut Vec<u8>,
        wire_out: &mut Vec<u8>,
    ) -> Result<bool, TlsError> {
        match self.ending {
            Ending::Open => {}
            Ending::PeerClosed => return Ok(true),
            Ending::Failed => return Err(TlsError::NotOpen),
        }
        match self.read_all(wire, plain_out, wire_out) {
            Ok(()) => Ok(self.ending == Ending::PeerClosed),
            Err(stop) => {
                self.partial = None;
                let error = match stop {
                    Stop::Alert(alert) => TlsError::Alert(alert),
                    Stop::Fault(Fault { alert, reason }) => {
                        self.write_alert(write::FATAL, alert, wire_out);
                        TlsError::Record { reason, alert }
                    }
                };
                self.ending = Ending::Failed;
                Err(error)
            }
        }
    }
}
