//! The mechanisms, and which of them a stream offers.

use whimbrel_storage::credentials::ScramHash;

use super::SaslError;

/// A SASL mechanism; the order is that of strength, strongest first.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum Mechanism {
    /// SCRAM-SHA-256 bound to the TLS connection (RFC 7677).
    ScramSha256Plus,
    /// SCRAM-SHA-256 (RFC 7677).
    ScramSha256,
    /// SCRAM-SHA-1 bound to the TLS connection (RFC 5802).
    ScramSha1Plus,
    /// SCRAM-SHA-1 (RFC 5802).
    ScramSha1,
    /// PLAIN (RFC 4616).
    Plain,
}

impl Mechanism {
    /// Every mechanism, strongest first.
    pub const ALL: [Self; 5] =
        [Self::ScramSha256Plus, Self::ScramSha256, Self::ScramSha1Plus, Self::ScramSha1, Self::Plain];

    /// The registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha1Plus => "SCRAM-SHA-1-PLUS",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::Plain => "PLAIN",
        }
    }

    /// The mechanism of that name, spelt exactly so.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }

    /// Whether it binds the login to the TLS connection.
    #[must_use]
    pub const fn binds_channel(self) -> bool {
        matches!(self, Self::ScramSha256Plus | Self::ScramSha1Plus)
    }

    /// The hash, unless it is PLAIN.
    pub(super) const fn scram_hash(self) -> Option<ScramHash> {
        match self {
            Self::ScramSha256Plus | Self::ScramSha256 => Some(ScramHash::Sha256),
            Self::ScramSha1Plus | Self::ScramSha1 => Some(ScramHash::Sha1),
            Self::Plain => None,
        }
    }
}

/// What a stream is like, as far as it decides which mechanisms it offers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Offer {
    /// TLS is established.
    pub tls: bool,
    /// The TLS connection gave channel bindings.
    pub bindings: bool,
    /// The operator allows logins without TLS (meant for benchmarks on loopback).
    pub allow_plaintext: bool,
}

impl Offer {
    /// The mechanisms to list in `<mechanisms/>`, strongest first; none without TLS, unless the
    /// operator allows it.
    pub fn mechanisms(self) -> impl Iterator<Item = Mechanism> {
        Mechanism::ALL.into_iter().filter(move |mechanism| self.check(*mechanism).is_ok())
    }

    /// Whether a client may use a mechanism on this stream.
    ///
    /// # Errors
    /// [`SaslError::EncryptionRequired`] or [`SaslError::InvalidMechanism`].
    pub fn check(self, mechanism: Mechanism) -> Result<(), SaslError> {
        if !self.tls && !self.allow_plaintext {
            Err(SaslError::EncryptionRequired)
        } else if mechanism.binds_channel() && !self.offers_binding() {
            Err(SaslError::InvalidMechanism)
        } else {
            Ok(())
        }
    }

    /// Whether -PLUS mechanisms are offered, so that a client which claims not to have seen them
    /// was deceived.
    pub(super) fn offers_binding(self) -> bool {
        self.tls && self.bindings
    }
}
