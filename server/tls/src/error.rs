//! What can go wrong with TLS, for the operator and for the log of one connection.

use std::path::PathBuf;

use rustls::AlertDescription;
use thiserror::Error;

/// In [`CertificateError::KeyMode`]: what `tls.key_group_readable` permits.
pub(super) const GROUP_MAY_READ: &str = "its group may read it";

/// Why a certificate cannot be used. Each text names the file and what to do.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}; set `tls.certificate` and `tls.key` to files the server may read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file of the data directory cannot be written.
    #[error("cannot write {path}: {source}; the data directory must be writable")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file holds no certificate.
    #[error(
        "{path}: no certificate in it; it must hold the chain in PEM, the server's own certificate first"
    )]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The file holds no private key.
    #[error("{path}: no private key in it; it must hold an unencrypted key in PEM (PKCS#8, PKCS#1 or SEC1)")]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error("{path}: {reason}; the file is damaged or not what it should be")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// Others than the key's owner may read or change it.
    #[error(
        "{path}: this private key has mode {mode:03o}: {who}; run: chmod {} {path}{}",
        if *group_is_meant { "640" } else { "600" },
        if *who == GROUP_MAY_READ { " (or set `tls.key_group_readable` if its group is meant to)" } else { "" }
    )]
    KeyMode {
        /// The key's file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// What is wrong with them.
        who: &'static str,
        /// `tls.key_group_readable` is set.
        group_is_meant: bool,
    },
    /// The key belongs to another certificate.
    #[error(
        "the key in {key} does not belong to the certificate in {certificate}; give the pair made together"
    )]
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The key is of a kind that cannot sign here.
    #[error(
        "{path}: this key cannot be used: {reason}; use ECDSA P-256 or P-384, RSA of 2048 bits or more, or Ed25519"
    )]
    KeyUnusable {
        /// The key's file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// No certificate can be made for this domain.
    #[error(
        "cannot make a self-signed certificate for `{domain}`: {reason}; set `tls.certificate` and `tls.key`"
    )]
    SelfSigned {
        /// The domain.
        domain: String,
        /// The reason.
        reason: String,
    },
}

/// Why TLS cannot start, or why it has ended a connection.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The library refuses its configuration or the handshake.
    #[error("TLS handshake: {0}")]
    Handshake(#[from] rustls::Error),
    /// The handshake takes more than any honest one.
    #[error("TLS handshake: the client sent more than {bytes} bytes or {records} records")]
    HandshakeTooLong {
        /// The limit in bytes.
        bytes: usize,
        /// The limit in records.
        records: usize,
    },
    /// The client broke the protocol; the alert has been written.
    #[error("TLS record: {reason} ({alert:?} sent)")]
    Record {
        /// What it did.
        reason: &'static str,
        /// The alert it was answered with.
        alert: AlertDescription,
    },
    /// The client has ended the connection with a fatal alert.
    #[error("the client ended TLS with the alert {0:?}")]
    Alert(AlertDescription),
    /// TLS 1.2: as many records as one key may encrypt have been sent.
    #[error("TLS: the keys are used up; the client has to connect again")]
    KeysUsedUp,
    /// Nothing can be sent: the handshake is not done, or the connection has ended.
    #[error("TLS is not open")]
    NotOpen,
}
