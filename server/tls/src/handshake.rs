//! A handshake, driven through rustls's unbuffered API, until only keys are left of it.
//!
//! rustls is given one whole record at a time. So what comes behind the client's last message (usually the stream
//! header, often in the same packet) never enters rustls, and the record layer takes over at exactly the next
//! byte.
//!
//! rustls gives out keys after the handshake, but the traffic secrets of TLS 1.3, which a KeyUpdate needs, only
//! inside a `KernelConnection` of 560 bytes beside a boxed state, and the exporter not at all. Its key log says
//! them as well: each connection has a log of its own that keeps those three secrets, and the traffic secrets are
//! believed because they must lead to the very keys that were given out.

use std::fmt;
use std::sync::{Arc, Mutex};

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{AlertDescription, ConnectionTrafficSecrets, KeyLog, ProtocolVersion};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::acceptor::Identity;
use super::error::TlsError;
use super::record::{HEADER_BYTES, PLAIN_BYTES_MAX, Records};
use super::suite::{self, DirectionKeys, KEY_BYTES_MAX, SECRET_BYTES_MAX, Suite, Version};
use crate::channel_bindings::ChannelBindings;

/// Bytes a client may send for its handshake, record headers included.
pub const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;

/// Records it may send them in. rustls moves the parts of a cut message together once more with each.
pub const HANDSHAKE_RECORDS_MAX: usize = 256;

/// The longest record that rustls takes (RFC 5246 §6.2.3).
const RECORD_BYTES_MAX: usize = HEADER_BYTES + PLAIN_BYTES_MAX + 2048;

/// Label of the exported channel binding (RFC 9266 §4.2).
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// A handshake that has begun.
pub(super) struct Handshake {
    connection: UnbufferedServerConnection,
    secrets: Arc<SecretLog>,
    end_point: Option<Arc<[u8]>>,
    /// What has come and is not used up. Its first `given` bytes are whole records that rustls works on.
    incoming: Zeroizing<Vec<u8>>,
    given: usize,
    /// Bytes given to rustls so far.
    bytes: usize,
    /// Records given to rustls so far.
    records: usize,
    /// The server has answered; alerts may have to be encrypted from here on.
    answered: bool,
}

/// How far a handshake has come.
pub(super) enum Stage {
    /// Needs more from the client.
    Waiting,
    /// The client has closed in the midst of it.
    PeerClosed,
    /// The handshake is complete.
    Done,
}

/// What a complete handshake leaves.
pub(super) struct Outcome {
    pub(super) records: Records,
    pub(super) bindings: ChannelBindings,
    /// What came behind the handshake, for the record layer.
    pub(super) rest: Zeroizing<Vec<u8>>,
}

impl Handshake {
    pub(super) fn new(identity: &Identity) -> Result<Handshake, TlsError> {
        let secrets = Arc::new(SecretLog::default());
        let mut config = (*identity.config).clone();
        config.key_log = secrets.clone();
        Ok(Handshake {
            connection: UnbufferedServerConnection::new(Arc::new(config))?,
            secrets,
            end_point: identity.end_point.clone(),
            incoming: Zeroizing::default(),
            given: 0,
            bytes: 0,
            records: 0,
            answered: false,
        })
    }

    /// Takes bytes from the client and writes the answer. After an error the alert is in `wire_out`.
    pub(super) fn advance(&mut self, wire: &[u8], wire_out: &mut Vec<u8>) -> Result<Stage, TlsError> {
        self.incoming.extend_from_slice(wire);
        loop {
            let stage = self.run(wire_out)?;
            if !matches!(stage, Stage::Waiting) {
                return Ok(stage);
            }
            let given = self.given;
            if !self.give_record() {
                return Ok(Stage::Waiting);
            }
            self.bytes += self.given - given;
            self.records += 1;
            if self.bytes > HANDSHAKE_BYTES_MAX || self.records > HANDSHAKE_RECORDS_MAX {
                self.plain_alert(AlertDescription::HandshakeFailure, wire_out);
                return Err(TlsError::HandshakeTooLong {
                    bytes: HANDSHAKE_BYTES_MAX,
                    records: HANDSHAKE_RECORDS_MAX,
                });
            }
        }
    }

    /// Lets rustls see one more record if all of it is there. Anything that is no record it sees at once, to refuse it.
    fn give_record(&mut self) -> bool {
        let new = &self.incoming[self.given..];
        if new.len() < HEADER_BYTES {
            return false;
        }
        let length = HEADER_BYTES + usize::from(u16::from_be_bytes([new[3], new[4]]));
        let is_record = (20..=23).contains(&new[0]) && new[1] == 3 && length <= RECORD_BYTES_MAX;
        if is_record && new.len() < length {
            return false;
        }
        self.given += if is_record { length } else { new.len() };
        true
    }

    /// Runs rustls over what it has been given.
    fn run(&mut self, wire_out: &mut Vec<u8>) -> Result<Stage, TlsError> {
        loop {
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut self.incoming[..self.given]);
            let mut stage = None;
            let mut failure = None;
            match state {
                Ok(ConnectionState::EncodeTlsData(mut chunk)) => {
                    self.answered = true;
                    encode(|out| chunk.encode(out), wire_out)?;
                }
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::BlockedHandshake) => stage = Some(Stage::Waiting),
                Ok(ConnectionState::WriteTraffic(_)) => stage = Some(Stage::Done),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => stage = Some(Stage::PeerClosed),
                Ok(_) => failure = Some(rustls::Error::General("data inside the handshake".into())),
                Err(error) => failure = Some(error),
            }
            self.incoming.drain(..discard);
            self.given -= discard;
            if let Some(error) = failure {
                self.write_alerts(wire_out)?;
                return Err(error.into());
            }
            if let Some(stage) = stage {
                return Ok(stage);
            }
        }
    }

    /// Takes from rustls the alerts that an error has left there.
    fn write_alerts(&mut self, wire_out: &mut Vec<u8>) -> Result<(), TlsError> {
        let before = wire_out.len();
        while self.connection.wants_write() {
            // rustls gives out what it has to send before it looks at input.
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(mut chunk)) => encode(|out| chunk.encode(out), wire_out)?,
                _ => break,
            }
        }
        if wire_out.len() == before {
            self.plain_alert(AlertDescription::DecodeError, wire_out);
        }
        Ok(())
    }

    /// An alert in the clear, which only says something before the server has answered.
    fn plain_alert(&self, alert: AlertDescription, wire_out: &mut Vec<u8>) {
        if !self.answered {
            wire_out.extend_from_slice(&[21, 3, 3, 0, 2, 2, u8::from(alert)]);
        }
    }

    /// Takes the keys over. Only after [`Stage::Done`].
    pub(super) fn finish(mut self) -> Result<Outcome, TlsError> {
        let broken = |what: &str| TlsError::Handshake(rustls::Error::General(what.into()));
        if self.given != 0 {
            return Err(broken("a part of a message is left after the handshake"));
        }
        let version = match self.connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => Version::Tls13,
            Some(ProtocolVersion::TLSv1_2) => Version::Tls12,
            _ => return Err(broken("a version that was not offered")),
        };
        let (extracted, _) = self.connection.dangerous_into_kernel_connection()?;
        let logged = self.secrets.take();
        let direction = |(sequence, secrets): &(u64, ConnectionTrafficSecrets), logged: &Secret| {
            let (suite, mut keys) = keys_of(secrets)?;
            keys.sequence = *sequence;
            if version == Version::Tls13 {
                let derived = DirectionKeys::from_secret(suite, **logged);
                let same = derived.key.ct_eq(&keys.key) & derived.iv.ct_eq(&keys.iv);
                if !bool::from(same) {
                    return None;
                }
                keys.secret = **logged;
            }
            Some((suite, keys))
        };
        let read = direction(&extracted.rx, &logged.client);
        let write = direction(&extracted.tx, &logged.server);
        let (Some((suite, read)), Some((_, write))) = (read, write) else {
            return Err(broken("the keys given out are not those of the traffic secrets"));
        };
        let mut bindings =
            ChannelBindings { tls_exporter: None, tls_server_end_point: self.end_point.take() };
        if version == Version::Tls13 {
            let mut exported = [0; 32];
            suite::export(suite, &logged.exporter, EXPORTER_LABEL, &mut exported);
            bindings.tls_exporter = Some(exported);
        }
        Ok(Outcome {
            records: Records::new(version, suite, read, write),
            bindings,
            rest: std::mem::take(&mut self.incoming),
        })
    }
}

/// Appends what rustls has to send.
fn encode(
    mut chunk: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
    wire_out: &mut Vec<u8>,
) -> Result<(), TlsError> {
    let start = wire_out.len();
    let written = match chunk(&mut []) {
        Err(EncodeError::InsufficientSize(needed)) => {
            wire_out.resize(start + needed.required_size, 0);
            chunk(&mut wire_out[start..])
        }
        other => other,
    };
    let written = written.map_err(|error| rustls::Error::General(error.to_string()))?;
    wire_out.truncate(start + written);
    Ok(())
}

/// The keys as the record layer keeps them; none for a suite that it does not know.
fn keys_of(secrets: &ConnectionTrafficSecrets) -> Option<(Suite, DirectionKeys)> {
    let (suite, key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Suite::Aes128Gcm, key, iv),
        ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Suite::Aes256Gcm, key, iv),
        ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Suite::ChaCha20Poly1305, key, iv),
        _ => return None,
    };
    let mut keys = DirectionKeys {
        sequence: 0,
        key: [0; KEY_BYTES_MAX],
        iv: iv.as_ref().try_into().ok()?,
        secret: [0; SECRET_BYTES_MAX],
    };
    keys.key.get_mut(..suite.key_bytes())?.copy_from_slice(key.as_ref().get(..suite.key_bytes())?);
    Some((suite, keys))
}

type Secret = Zeroizing<[u8; SECRET_BYTES_MAX]>;

/// The traffic secrets of both directions, and that of the exporter.
struct Secrets {
    client: Secret,
    server: Secret,
    exporter: Secret,
}

impl Default for Secrets {
    fn default() -> Self {
        let none = || Zeroizing::new([0; SECRET_BYTES_MAX]);
        Secrets { client: none(), server: none(), exporter: none() }
    }
}

/// The key log of one connection.
#[derive(Default)]
struct SecretLog {
    secrets: Mutex<Secrets>,
}

impl SecretLog {
    fn take(&self) -> Secrets {
        std::mem::take(&mut *self.secrets.lock().expect("nothing panics while it holds this lock"))
    }
}

impl KeyLog for SecretLog {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        let mut secrets = self.secrets.lock().expect("nothing panics while it holds this lock");
        let place = match label {
            "CLIENT_TRAFFIC_SECRET_0" => &mut secrets.client,
            "SERVER_TRAFFIC_SECRET_0" => &mut secrets.server,
            "EXPORTER_SECRET" => &mut secrets.exporter,
            _ => return,
        };
        if let Some(place) = place.get_mut(..secret.len()) {
            place.copy_from_slice(secret);
        }
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, "CLIENT_TRAFFIC_SECRET_0" | "SERVER_TRAFFIC_SECRET_0" | "EXPORTER_SECRET")
    }
}

impl fmt::Debug for SecretLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretLog")
    }
}
