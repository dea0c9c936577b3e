//! How an exchange fails (RFC 6120 §6.5).

use std::io::Write as _;

use crate::proto::ns::SASL;

/// The defined conditions.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
pub enum SaslError {
    /// The client gave up (§6.5.1).
    Aborted,
    /// The account is locked (§6.5.2).
    AccountDisabled,
    /// The password must be changed first (§6.5.3).
    CredentialsExpired,
    /// The mechanism needs TLS (§6.5.4).
    EncryptionRequired,
    /// The text is not base64 (§6.5.5).
    IncorrectEncoding,
    /// The client may not act for the address it asked for (§6.5.6).
    InvalidAuthzid,
    /// The mechanism is unknown or not offered (§6.5.7).
    InvalidMechanism,
    /// The message breaks the mechanism's syntax or rules (§6.5.8).
    MalformedRequest,
    /// The account demands a stronger mechanism (§6.5.9).
    MechanismTooWeak,
    /// Wrong password or no such account; nobody is told which (§6.5.10).
    NotAuthorized,
    /// Try again later (§6.5.11).
    TemporaryAuthFailure,
}

impl SaslError {
    /// Every condition, in the order of the RFC.
    pub const ALL: &'static [Self] = &[
        Self::Aborted,
        Self::AccountDisabled,
        Self::CredentialsExpired,
        Self::EncryptionRequired,
        Self::IncorrectEncoding,
        Self::InvalidAuthzid,
        Self::InvalidMechanism,
        Self::MalformedRequest,
        Self::MechanismTooWeak,
        Self::NotAuthorized,
        Self::TemporaryAuthFailure,
    ];

    /// The element name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::AccountDisabled => "account-disabled",
            Self::CredentialsExpired => "credentials-expired",
            Self::EncryptionRequired => "encryption-required",
            Self::IncorrectEncoding => "incorrect-encoding",
            Self::InvalidAuthzid => "invalid-authzid",
            Self::InvalidMechanism => "invalid-mechanism",
            Self::MalformedRequest => "malformed-request",
            Self::MechanismTooWeak => "mechanism-too-weak",
            Self::NotAuthorized => "not-authorized",
            Self::TemporaryAuthFailure => "temporary-auth-failure",
        }
    }
}

/// A condition and, where it helps whoever debugs a client, why. The reason is fixed text that
/// depends on the client's messages alone, never on whether the account exists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failure {
    /// The defined condition.
    pub error: SaslError,
    /// English, or one of SCRAM's server-error-values (RFC 5802 §7); free of markup.
    pub reason: Option<&'static str>,
}

impl Failure {
    pub(super) const fn new(error: SaslError, reason: &'static str) -> Self {
        Self { error, reason: Some(reason) }
    }

    /// Appends `<failure/>`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let name = self.error.name();
        let written = match self.reason {
            None => write!(out, "<failure xmlns='{SASL}'><{name}/></failure>"),
            Some(reason) => {
                write!(out, "<failure xmlns='{SASL}'><{name}/><text xml:lang='en'>{reason}</text></failure>")
            }
        };
        written.expect("writing to memory cannot fail");
    }
}

impl From<SaslError> for Failure {
    fn from(error: SaslError) -> Self {
        Self { error, reason: None }
    }
}
