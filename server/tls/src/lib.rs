//! TLS (RFC 6120 §5, RFC 7590, XEP-0368): bytes in, bytes out, no sockets. It knows neither the configuration of a
//! server, nor what is done with channel bindings, nor how a saved connection is written.
//!
//! ```text
//!   Acceptor::begin ──> Fresh ──first byte──> Handshake (rustls) ──keys──> Records (ours)
//!                     certificate             several KiB                  a quarter KiB
//! ```
//!
//! | module | what |
//! |---|---|
//! | `acceptor` | the certificate and rules that connections begin with, and their reload |
//! | [`certificate`] | reading PEM files, making the self-signed certificate, facts about either |
//! | `x509` | the little of X.509 that is needed |
//! | `handshake` | a handshake through rustls, until keys are left |
//! | [`record`] | the compact record layer after it |
//! | [`suite`] | cipher suites, keys, the key schedule of TLS 1.3 |
//! | `bindings` | the channel binding of the certificate |
//! | `channel_bindings` | the channel bindings of a connection |
//! | `settings` | which certificate, for which domain |
//! | `saved` | a connection as it goes to another program |

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod acceptor;
mod bindings;
pub mod certificate;
mod channel_bindings;
mod error;
mod handshake;
pub mod record;
mod saved;
mod settings;
pub mod suite;
#[cfg(test)]
mod tests;
mod x509;

use std::sync::Arc;

pub use acceptor::{ALPN, Acceptor};
pub use channel_bindings::{BindingType, ChannelBindings};
pub use error::{CertificateError, TlsError};
pub use handshake::{HANDSHAKE_BYTES_MAX, HANDSHAKE_RECORDS_MAX};
pub use saved::{SavedDirection, SavedRecords, SavedSecret, SavedTls};
pub use settings::Settings;

use acceptor::Identity;
use handshake::{Handshake, Stage};
use record::Records;

/// What came of some input.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The handshake was completed by this input. Data may have come with it.
    pub handshake_done_now: bool,
    /// The client will send nothing more.
    pub peer_closed: bool,
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly all sessions are in the large one; a box would only add to it"
)]
enum State {
    /// Nothing has come yet.
    Fresh(Arc<Identity>),
    /// The handshake is under way.
    Handshake(Box<Handshake>),
    /// The handshake is done.
    Established(Records),
    /// The handshake has failed.
    Failed,
}

/// TLS of one connection.
pub struct Tls {
    state: State,
    /// Until somebody asks for them.
    bindings: Option<Box<ChannelBindings>>,
}

// All that an idle TLS session costs beyond a plain one (docs/performance.md).
const _: () = assert!(size_of::<Tls>() <= 240);

impl Tls {
    fn new(identity: Arc<Identity>) -> Tls {
        Tls { state: State::Fresh(identity), bindings: None }
    }

    /// Takes bytes as they came from the wire, cut anywhere. Data is appended to `plain_out`, what has to be sent to
    /// the client to `wire_out`.
    ///
    /// # Errors
    /// The connection is over. The alert, if one is due, is in `wire_out`.
    #[inline]
    pub fn open(
        &mut self,
        wire: &[u8],
        plain_out: &mut Vec<u8>,
        wire_out: &mut Vec<u8>,
    ) -> Result<Progress, TlsError> {
        let records = match &mut self.state {
            State::Established(records) => records,
            State::Failed => return Err(TlsError::NotOpen),
            State::Fresh(_) | State::Handshake(_) => return self.shake(wire, plain_out, wire_out),
        };
        let peer_closed = records.open(wire, plain_out, wire_out)?;
        Ok(Progress { handshake_done_now: false, peer_closed })
    }

    /// Goes on with the handshake, and with what comes behind it.
    fn shake(
        &mut self,
        wire: &[u8],
        plain_out: &mut Vec<u8>,
        wire_out: &mut Vec<u8>,
    ) -> Result<Progress, TlsError> {
        if wire.is_empty() {
            return Ok(Progress::default());
        }
        let mut handshake = match std::mem::replace(&mut self.state, State::Failed) {
            State::Fresh(identity) => Box::new(Handshake::new(&identity)?),
            State::Handshake(handshake) => handshake,
            State::Established(_) | State::Failed => return Err(TlsError::NotOpen),
        };
        match handshake.advance(wire, wire_out)? {
            Stage::Waiting => {
                self.state = State::Handshake(handshake);
                Ok(Progress::default())
            }
            Stage::PeerClosed => Ok(Progress { handshake_done_now: false, peer_closed: true }),
            Stage::Done => {
                let outcome = handshake.finish()?;
                let mut records = outcome.records;
                // An error here counts as a handshake that failed: nobody has heard of its success.
                let peer_closed = records.open(&outcome.rest, plain_out, wire_out)?;
                self.bindings = Some(Box::new(outcome.bindings));
                self.state = State::Established(records);
                Ok(Progress { handshake_done_now: true, peer_closed })
            }
        }
    }

    /// Encrypts data for the client.
    ///
    /// # Errors
    /// The handshake is not done, the connection has ended, or (TLS 1.2) the key has encrypted all it may.
    #[inline]
    pub fn seal(&mut self, plain: &[u8], wire_out: &mut Vec<u8>) -> Result<(), TlsError> {
        match &mut self.state {
            State::Established(records) => records.seal(plain, wire_out),
            _ => Err(TlsError::NotOpen),
        }
    }

    /// Tells the client that nothing more will come. Does nothing before the handshake is done, after an error, or
    /// the second time.
    pub fn close_notify(&mut self, wire_out: &mut Vec<u8>) {
        if let State::Established(records) = &mut self.state {
            records.close_notify(wire_out);
        }
    }

    /// Whether nothing has come yet.
    pub fn is_fresh(&self) -> bool {
        matches!(self.state, State::Fresh(_))
    }

    /// Whether the handshake was completed, however the connection fared after it.
    pub fn is_established(&self) -> bool {
        matches!(self.state, State::Established(_))
    }

    /// As it goes to another program: `None` in the midst of a handshake, and when the connection has ended.
    pub fn save(&self) -> Option<SavedTls<'_>> {
        match &self.state {
            State::Fresh(_) => Some(SavedTls::Fresh),
            State::Established(records) => Some(SavedTls::Established(Box::new(records.save()?))),
            State::Handshake(_) | State::Failed => None,
        }
    }

    /// A connection of another program, after its handshake.
    pub fn restored(record: &SavedRecords<'_>) -> Tls {
        Tls { state: State::Established(Records::restored(record)), bindings: None }
    }

    /// The channel bindings, once: they are given away. None before the handshake is done.
    pub fn channel_bindings(&mut self) -> ChannelBindings {
        self.bindings.take().map(|bindings| *bindings).unwrap_or_default()
    }
}
