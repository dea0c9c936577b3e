//! Which certificate is used, and for which domain.

use std::path::PathBuf;

/// What a server wants of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The domain that the certificate is to be for.
    pub domain: String,
    /// The directory in which a self-signed certificate is kept. It is made with the first one.
    pub self_signed: PathBuf,
    /// PEM file with the certificate chain. Empty: a self-signed one is made.
    pub certificate: PathBuf,
    /// PEM file with the private key. Empty together with `certificate`. Only its owner may read it.
    pub key: PathBuf,
    /// The key's group may read it, too.
    pub key_group_readable: bool,
}
